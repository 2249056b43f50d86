//! Throwaway PostgreSQL servers for the demo, the tests and the benches: a fresh data directory under the temporary
//! directory, a free port on loopback, and nothing left behind, however the process ends.
//!
//! A server never outlives its owner because it is started by a small guardian shell that holds the other end of a pipe:
//! when the owner drops the [`Cluster`], exits, panics or is killed, the pipe closes, and the guardian stops exactly the
//! process that it started and removes its directory. Start at [`Cluster::start`].

use std::ffi::{OsStr, OsString};
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A Unix socket's path must fit sockaddr_un.sun_path, 107 bytes; `/.s.PGSQL.65535.lock` and our own part come off that.
const BASE_BYTES_MAX: usize = 60;
const START_TIMEOUT: Duration = Duration::from_secs(60);
const PORT_TRIES: usize = 20;

#[derive(Clone, Copy, Debug, Default)]
pub struct Options<'a> {
    /// Where `initdb` and `postgres` are; else what [`find_any`] finds.
    pub bin_dir: Option<&'a Path>,
    /// For postgresql.conf; values are quoted here. They win over the defaults, which trade all durability for speed.
    pub settings: &'a [(&'a str, &'a str)],
    /// All of pg_hba.conf; else everybody on loopback is trusted.
    pub hba: Option<&'a str>,
    /// Every statement that the server receives goes to [`Cluster::log`], one `LOG:  statement:` or `execute` line each.
    pub log_statements: bool,
}

/// A running server, with the superuser `postgres` and no password. Stopped and removed when dropped.
pub struct Cluster {
    bin_dir: PathBuf,
    directory: PathBuf,
    port: u16,
    version: u32,
    account: Option<Account>,
    /// A restart puts another one here, for whoever shares the cluster too.
    server: Mutex<Option<Guarded>>,
}

impl Cluster {
    /// initdb, start, and wait until the server accepts connections. The error says what is missing and what to install.
    pub fn start(options: &Options) -> Result<Cluster, String> {
        let account = Account::for_server()?;
        let bin_dir = match options.bin_dir {
            Some(dir) => dir.to_path_buf(),
            None => find_any().ok_or_else(no_postgres)?,
        };
        let version = version_of(&bin_dir)?;
        let temp = make_directory(account)?;
        let directory = temp.path().to_path_buf();
        let mut cluster = Cluster {
            bin_dir,
            directory,
            port: 0,
            version,
            account,
            server: Mutex::default(),
        };
        cluster.initdb()?;
        cluster.configure(options)?;
        for _ in 0..PORT_TRIES {
            cluster.port = free_port()?;
            if cluster.launch()? {
                // From here on the guardian removes the directory, which also works when this process is killed.
                let _ = temp.keep();
                return Ok(cluster);
            }
        }
        Err(format!(
            "PostgreSQL found none of {PORT_TRIES} free ports still free; the last one was {}",
            cluster.port
        ))
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    /// The directory of `.s.PGSQL.PORT`.
    pub fn socket_dir(&self) -> &Path {
        &self.directory
    }

    pub fn data_dir(&self) -> PathBuf {
        self.directory.join("data")
    }

    pub fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// As `server_version_num`: 180004.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// The process of the postmaster.
    pub fn pid(&self) -> i32 {
        self.server().as_ref().map_or(0, |server| server.pid)
    }

    fn server(&self) -> MutexGuard<'_, Option<Guarded>> {
        self.server.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The server's log so far, as far as it is UTF-8.
    pub fn log(&self) -> String {
        fs::read(self.log_path())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
            .unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.directory.join("log")
    }

    /// A program of this server's version, else one from the PATH or of any Debian version; the npm packages have no clients.
    pub fn bin(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let mut dirs = vec![self.bin_dir.clone()];
        dirs.extend(std::env::split_paths(&path));
        dirs.extend(debian_dirs());
        dirs.into_iter().map(|dir| dir.join(name)).find(|file| file.is_file())
    }

    /// Runs SQL over the server's own socket as the superuser, each statement in its own transaction, stopping at the
    /// first error. Answers unaligned rows without headings; the error is what psql said.
    pub fn psql(&self, database: &str, sql: &str) -> Result<String, String> {
        let psql = self
            .bin("psql")
            .ok_or("psql is not installed: apt-get install postgresql-client")?;
        let mut command = Command::new(psql);
        clean_environment(&mut command);
        command
            .args([
                "-X",
                "-q",
                "-A",
                "-t",
                "-v",
                "ON_ERROR_STOP=1",
                "-U",
                "postgres",
                "-d",
                database,
                "-h",
            ])
            .arg(self.socket_dir())
            .args(["-p", &self.port.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().map_err(|e| format!("psql does not start: {e}"))?;
        let mut stdin = child.stdin.take().ok_or("psql has no input")?;
        let sql = sql.to_owned();
        // From a thread of its own, or a long script and a long answer would wait for each other.
        let writer = std::thread::spawn(move || stdin.write_all(sql.as_bytes()));
        let output = child.wait_with_output().map_err(|e| format!("psql: {e}"))?;
        let _ = writer.join();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout)
                .trim_end_matches('\n')
                .to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }

    /// Stops the server at once (as a crash would: sessions are cut) and starts it again on the same port and data.
    pub fn restart(&self) -> Result<(), String> {
        let server = self.server().take();
        if let Some(server) = server {
            server.stop_and_keep();
        }
        match self.launch()? {
            true => Ok(()),
            false => Err(format!(
                "port {} was taken by somebody else during the restart",
                self.port
            )),
        }
    }

    /// A server that follows this one, `standby` by name, with hot standby. The copy is made while this one runs; 15 or later.
    pub fn standby(&self, settings: &[(&str, &str)]) -> Result<Cluster, String> {
        let temp = make_directory(self.account)?;
        let standby = Cluster {
            bin_dir: self.bin_dir.clone(),
            directory: temp.path().to_path_buf(),
            port: free_port()?,
            version: self.version,
            account: self.account,
            server: Mutex::default(),
        };
        // In one session, which keeps the backup open. Some of what is copied may go meanwhile: the server's log of what it
        // did in between makes up for it.
        let label = self.psql(
            "postgres",
            &format!(
                "SELECT 'started' FROM pg_backup_start('standby', true)\n\\g /dev/null\n\\! cp -a '{}' '{}'\nSELECT labelfile FROM pg_backup_stop(false);",
                self.data_dir().display(),
                standby.data_dir().display()
            ),
        )?;
        for name in ["postmaster.pid", "postmaster.opts"] {
            fs::remove_file(standby.data_dir().join(name)).map_err(|e| format!("{name}: {e}"))?;
        }
        standby.write_data_file("backup_label", &format!("{label}\n"))?;
        standby.write_data_file("standby.signal", "")?;
        let primary = format!(
            "host=127.0.0.1 port={} user=postgres application_name=standby",
            self.port
        );
        standby.configure(&Options {
            settings: &[&[("primary_conninfo", primary.as_str())], settings].concat(),
            ..Options::default()
        })?;
        match standby.launch()? {
            true => {
                let _ = temp.keep();
                Ok(standby)
            }
            false => Err(format!("port {} was taken by somebody else", standby.port)),
        }
    }

    /// SIGKILL to one backend of this server, after which the postmaster cuts all other sessions and recovers.
    pub fn kill_backend(&self, pid: i32) -> Result<(), String> {
        if process_stat(pid).map(|(_, parent)| parent) != Some(self.pid()) {
            return Err(format!("process {pid} is not a backend of this server"));
        }
        // SAFETY: kill(2) has no memory effects; the process is a live child of our own postmaster.
        match unsafe { libc::kill(pid, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().to_string()),
        }
    }

    /// Puts a file for the server to read (a certificate, a key, pg_hba.conf) into its data directory, 0600 and its own.
    pub fn write_data_file(&self, name: &str, contents: &str) -> Result<PathBuf, String> {
        let path = self.data_dir().join(name);
        let told = |e: std::io::Error| format!("{}: {e}", path.display());
        fs::write(&path, contents).map_err(told)?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(told)?;
        if let Some(account) = self.account {
            chown(&path, Some(account.uid), Some(account.gid)).map_err(told)?;
        }
        Ok(path)
    }

    fn initdb(&self) -> Result<(), String> {
        let mut command = Command::new(self.bin_dir.join("initdb"));
        clean_environment(&mut command);
        command
            .args([
                "-U",
                "postgres",
                "-A",
                "trust",
                "-E",
                "UTF8",
                "--locale=C.UTF-8",
                "--no-sync",
                "-D",
            ])
            .arg(self.data_dir())
            .current_dir(&self.directory)
            .stdin(Stdio::null());
        if let Some(account) = self.account {
            command.uid(account.uid).gid(account.gid);
        }
        let output = command
            .output()
            .map_err(|e| format!("{}: {e}", self.bin_dir.join("initdb").display()))?;
        match output.status.success() {
            true => Ok(()),
            false => Err(format!(
                "initdb failed: {}",
                String::from_utf8_lossy(&output.stderr).trim()
            )),
        }
    }

    fn configure(&self, options: &Options) -> Result<(), String> {
        let socket_dir = self.directory.to_string_lossy();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", &socket_dir),
            ("unix_socket_permissions", "0777"),
            ("fsync", "off"),
            ("synchronous_commit", "off"),
            ("full_page_writes", "off"),
            ("shared_buffers", "128MB"),
            // In the data directory, so that a server that was killed leaves none of it behind.
            ("dynamic_shared_memory_type", "mmap"),
            ("max_connections", "200"),
            ("timezone", "UTC"),
            ("log_timezone", "UTC"),
            // Ends in the database and the application, so that tests that share a server can tell their lines apart.
            ("log_line_prefix", "%m [%p] %q%d/%a "),
        ];
        if options.log_statements {
            settings.push(("log_statement", "all"));
        }
        settings.extend(options.settings);
        let mut text = String::new();
        for (name, value) in settings {
            text += &format!("{name} = '{}'\n", value.replace('\'', "''"));
        }
        let path = self.data_dir().join("postgresql.conf");
        let mut file = fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .map_err(|e| format!("{}: {e}", path.display()))?;
        file.write_all(text.as_bytes())
            .map_err(|e| format!("{}: {e}", path.display()))?;
        if let Some(hba) = options.hba {
            self.write_data_file("pg_hba.conf", hba)?;
        }
        Ok(())
    }

    /// Starts the server on `self.port`. False when somebody else took that port in the meantime.
    fn launch(&self) -> Result<bool, String> {
        let log_before = self.log().len();
        let mut program = Command::new(self.bin_dir.join("postgres"));
        clean_environment(&mut program);
        program
            .arg("-D")
            .arg(self.data_dir())
            .args(["-p", &self.port.to_string()]);
        let server = Guarded::start(
            &program,
            &self.log_path(),
            EndWith::Quit,
            Some(&self.directory),
            self.account,
        )?;
        let deadline = Instant::now() + START_TIMEOUT;
        while !self.is_ready(server.pid) {
            let late = Instant::now() > deadline;
            if late || !server.is_alive() {
                server.stop_and_keep();
                let log = self.log();
                let log = log.get(log_before..).unwrap_or(&log);
                if !late && log.contains("Address already in use") {
                    return Ok(false);
                }
                let what = if late {
                    "was not ready after 60 s"
                } else {
                    "does not start"
                };
                return Err(format!(
                    "PostgreSQL from {} {what}. Its log says:\n{log}",
                    self.bin_dir.display()
                ));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        *self.server() = Some(server);
        Ok(true)
    }

    /// Asks postmaster.pid, not the port: somebody else's server could be the one that answers there.
    fn is_ready(&self, pid: i32) -> bool {
        let text = fs::read_to_string(self.data_dir().join("postmaster.pid")).unwrap_or_default();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        lines.first() == Some(&pid.to_string().as_str()) && matches!(lines.get(7), Some(&"ready" | &"standby"))
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let server = self.server().take();
        drop(server);
        // The server's account may empty its directory but not remove it, where it may not write to the one above.
        let _ = fs::remove_dir_all(&self.directory);
    }
}

/// The binaries of one major version: $LOCKKEEPER_PG_BIN if it is that version, Debian's, or what scripts/fetch-postgres fetched.
pub fn find(major: u32) -> Option<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::env::var_os("LOCKKEEPER_PG_BIN")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    dirs.push(PathBuf::from(format!("/usr/lib/postgresql/{major}/bin")));
    dirs.extend(
        cache_dirs()
            .into_iter()
            .map(|dir| dir.join(format!("postgres/{major}/bin"))),
    );
    let account = Account::for_server().ok()?;
    dirs.into_iter()
        .filter(|dir| is_usable(&dir.join("postgres"), account) && is_usable(&dir.join("initdb"), account))
        .find(|dir| version_of(dir).is_ok_and(|version| version / 10_000 == major))
}

/// $LOCKKEEPER_PG_BIN, else the newest version that [`find`] finds.
pub fn find_any() -> Option<PathBuf> {
    match std::env::var_os("LOCKKEEPER_PG_BIN") {
        Some(dir) => Some(PathBuf::from(dir)),
        None => (13..=30).rev().find_map(find),
    }
}

/// Where the scripts put what they fetch; the same list, in the same order, is in scripts/cache.sh.
pub fn cache_dirs() -> Vec<PathBuf> {
    let mut dirs: Vec<PathBuf> = std::env::var_os("LOCKKEEPER_CACHE")
        .map(PathBuf::from)
        .into_iter()
        .collect();
    if let Ok(here) = std::env::current_dir() {
        dirs.extend(
            here.ancestors()
                .filter(|dir| dir.join("Cargo.toml").is_file())
                .map(|dir| dir.join(".cache")),
        );
    }
    dirs.push(PathBuf::from("/var/cache/lockkeeper"));
    dirs.extend(std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/lockkeeper")));
    dirs
}

fn no_postgres() -> String {
    "no PostgreSQL server found in /usr/lib/postgresql or the cache: `apt-get install postgresql`, or run \
     scripts/fetch-postgres, or set LOCKKEEPER_PG_BIN to the directory of initdb and postgres"
        .to_owned()
}

fn debian_dirs() -> Vec<PathBuf> {
    let entries = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut dirs: Vec<PathBuf> = entries.map(|entry| entry.path().join("bin")).collect();
    dirs.sort();
    dirs.reverse();
    dirs
}

/// `postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)` is 150014.
fn version_of(bin_dir: &Path) -> Result<u32, String> {
    let program = bin_dir.join("postgres");
    let output = Command::new(&program)
        .arg("-V")
        .output()
        .map_err(|e| format!("{}: {e}", program.display()))?;
    let text = String::from_utf8_lossy(&output.stdout);
    read_version(&text).ok_or_else(|| format!("{} -V said {text:?}, which names no version", program.display()))
}

fn read_version(text: &str) -> Option<u32> {
    let word = text
        .split_whitespace()
        .find(|word| word.starts_with(|c: char| c.is_ascii_digit()))?;
    let (major, rest) = word.split_at(word.find(|c: char| !c.is_ascii_digit()).unwrap_or(word.len()));
    // `19beta1` and `19devel` have no minor version yet.
    let minor: String = rest
        .strip_prefix('.')
        .unwrap_or("0")
        .chars()
        .take_while(char::is_ascii_digit)
        .collect();
    Some(major.parse::<u32>().ok()? * 10_000 + minor.parse::<u32>().ok()?)
}

/// A port of loopback that is free now. It can be taken before it is used, so callers retry.
pub fn free_port() -> Result<u16, String> {
    let listener = TcpListener::bind("127.0.0.1:0").map_err(|e| format!("no free port on 127.0.0.1: {e}"))?;
    Ok(listener.local_addr().map_err(|e| e.to_string())?.port())
}

/// Takes away PGHOST, PGOPTIONS, LOCKKEEPER_POLICY and their kin, so that what we start does what we say, and in English.
pub fn clean_environment(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.as_bytes().starts_with(b"PG") || name.as_bytes().starts_with(b"LOCKKEEPER_") {
            command.env_remove(&name);
        }
    }
    command.env("LC_ALL", "C.UTF-8");
}

fn make_directory(account: Option<Account>) -> Result<tempfile::TempDir, String> {
    let bases = [std::env::temp_dir(), PathBuf::from("/tmp"), PathBuf::from("/var/tmp")];
    let mut why = String::new();
    for base in bases
        .iter()
        .filter(|base| base.as_os_str().len() <= BASE_BYTES_MAX && is_usable(base, account))
    {
        match tempfile::Builder::new().prefix("lockkeeper-").tempdir_in(base) {
            Ok(dir) => {
                if let Some(account) = account {
                    chown(dir.path(), Some(account.uid), Some(account.gid))
                        .map_err(|e| format!("{}: {e}", dir.path().display()))?;
                }
                return Ok(dir);
            }
            Err(e) => why = format!("{}: {e}", base.display()),
        }
    }
    Err(format!(
        "no temporary directory for PostgreSQL that its account can reach; tried {bases:?}. {why}"
    ))
}

/// Whether `account` (else we ourselves) can reach and read a path: root's home and its checkouts are closed to others.
fn is_usable(path: &Path, account: Option<Account>) -> bool {
    let Ok(real) = path.canonicalize() else { return false };
    let Some(account) = account else { return true };
    real.ancestors().all(|step| {
        fs::metadata(step).is_ok_and(|meta| {
            let mode = meta.mode();
            mode & 0o005 == 0o005
                || (meta.uid() == account.uid && mode & 0o500 == 0o500)
                || (step != real && mode & 0o001 != 0)
        })
    })
}

/// The account that the server runs as; PostgreSQL refuses to run as root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// None when we are not root: the server then runs as we do.
    fn for_server() -> Result<Option<Account>, String> {
        // SAFETY: geteuid(2) cannot fail and touches no memory.
        if unsafe { libc::geteuid() } != 0 {
            return Ok(None);
        }
        let passwd = fs::read_to_string("/etc/passwd").map_err(|e| format!("/etc/passwd: {e}"))?;
        ["postgres", "nobody"]
            .iter()
            .find_map(|name| Account::named(&passwd, name))
            .map(Some)
            .ok_or_else(|| {
                "PostgreSQL does not run as root, and there is neither an account postgres nor nobody to run it as"
                    .into()
            })
    }

    fn named(passwd: &str, name: &str) -> Option<Account> {
        let fields: Vec<&str> = passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|f| f.first() == Some(&name))?;
        Some(Account {
            uid: fields.get(2)?.parse().ok()?,
            gid: fields.get(3)?.parse().ok()?,
        })
    }
}

/// What the guardian sends when its owner is gone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndWith {
    /// PostgreSQL's immediate shutdown.
    Quit,
    Kill,
}

/// The guardian starts the program, tells its process id, and then waits for a word from its owner or for the owner's end.
/// It is the program's parent and only signals before it has reaped it, so the id cannot mean another process.
const GUARDIAN: &str = r#"
log=$1 end=$2 dir=$3; shift 3
"$@" >>"$log" 2>&1 </dev/null &
pid=$!
trap '' INT HUP TERM
echo "$pid"
read -r word || word=stop
kill "-$end" "$pid"
wait "$pid"
if [ "$word" != keep ] && [ -n "$dir" ]; then rm -rf -- "$dir"; fi
"#;

/// A program that cannot outlive this process, not even when this process is killed.
pub struct Guarded {
    guardian: Child,
    /// The guardian reads the other end: closing it is the order to stop.
    word: Option<ChildStdin>,
    pid: i32,
}

impl Guarded {
    /// Starts `program` with its arguments and environment changes, its output appended to `log`. `remove` is deleted after its end.
    fn start(
        program: &Command,
        log: &Path,
        end: EndWith,
        remove: Option<&Path>,
        account: Option<Account>,
    ) -> Result<Guarded, String> {
        let mut sh = Command::new("/bin/sh");
        sh.args(["-c", GUARDIAN, "guardian"]).arg(log);
        sh.arg(match end {
            EndWith::Quit => "QUIT",
            EndWith::Kill => "KILL",
        });
        sh.arg(remove.map_or(OsStr::new(""), Path::as_os_str))
            .arg(program.get_program())
            .args(program.get_args());
        for (name, value) in program.get_envs() {
            match value {
                Some(value) => sh.env(name, value),
                None => sh.env_remove(name),
            };
        }
        // A process group of its own: Ctrl-C is for us, and we tell the guardian.
        sh.process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        match program.get_current_dir() {
            Some(dir) => sh.current_dir(dir),
            None => sh.current_dir("/"),
        };
        if let Some(account) = account {
            sh.uid(account.uid).gid(account.gid);
        }
        let mut guardian = sh.spawn().map_err(|e| format!("/bin/sh does not start: {e}"))?;
        let word = guardian.stdin.take();
        let mut line = String::new();
        if let Some(stdout) = guardian.stdout.take() {
            let _ = BufReader::new(stdout).read_line(&mut line);
        }
        match line.trim().parse() {
            Ok(pid) => Ok(Guarded { guardian, word, pid }),
            Err(_) => {
                drop(word);
                let _ = guardian.wait();
                Err(format!("{:?} does not start", program.get_program()))
            }
        }
    }

    /// For a program that runs as we do and keeps nothing but its log, such as `lockkeeper serve`.
    pub fn spawn(program: &Command, log: &Path) -> Result<Guarded, String> {
        Guarded::start(program, log, EndWith::Kill, None, None)
    }

    pub fn pid(&self) -> i32 {
        self.pid
    }

    pub fn is_alive(&self) -> bool {
        process_stat(self.pid).is_some_and(|(state, _)| state != 'Z')
    }

    /// The program stays a zombie until the guardian is told to stop, so its id is never somebody else's.
    pub fn signal(&self, signal: i32) -> Result<(), String> {
        // SAFETY: kill(2) has no memory effects.
        match unsafe { libc::kill(self.pid, signal) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error().to_string()),
        }
    }

    /// Whether it ended by itself within that time.
    pub fn ends_within(&self, time: Duration) -> bool {
        let deadline = Instant::now() + time;
        while self.is_alive() {
            if Instant::now() > deadline {
                return false;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        true
    }

    /// Whether this very process listens on that port of any address: a connection alone could be answered by somebody else.
    pub fn listens_on(&self, port: u16) -> bool {
        let mut inodes = Vec::new();
        for table in ["/proc/net/tcp", "/proc/net/tcp6"] {
            let text = fs::read_to_string(table).unwrap_or_default();
            inodes.extend(text.lines().filter_map(|line| listening_inode(line, port)));
        }
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid))
            .into_iter()
            .flatten()
            .flatten();
        let mut links = entries.filter_map(|entry| fs::read_link(entry.path()).ok());
        links.any(|link| inodes.iter().any(|inode| link == Path::new(inode)))
    }

    fn stop_and_keep(mut self) {
        if let Some(word) = &mut self.word {
            let _ = word.write_all(b"keep\n");
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        drop(self.word.take());
        let _ = self.guardian.wait();
    }
}

/// `socket:[INODE]` when a line of /proc/net/tcp is a listener on that port.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    const LISTEN: &str = "0A";
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (_, hex) = fields.get(1)?.rsplit_once(':')?;
    let listens = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == LISTEN;
    listens.then(|| Some(format!("socket:[{}]", fields.get(9)?)))?
}

/// State and parent of a process, from /proc/PID/stat; None when there is none.
fn process_stat(pid: i32) -> Option<(char, i32)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name stands in parentheses and may hold anything, parentheses too.
    let mut fields = stat.get(stat.rfind(')')? + 1..)?.split_whitespace();
    Some((fields.next()?.chars().next()?, fields.next()?.parse().ok()?))
}

/// `program` with arguments, for [`Guarded::spawn`].
pub fn command<S: Into<OsString>>(program: &Path, args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(program);
    command.args(args.into_iter().map(Into::into));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_read_as_server_version_num() {
        assert_eq!(
            read_version("postgres (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)"),
            Some(150_014)
        );
        assert_eq!(read_version("postgres (PostgreSQL) 18.4"), Some(180_004));
        assert_eq!(read_version("postgres (PostgreSQL) 19beta1"), Some(190_000));
        assert_eq!(read_version("postgres"), None);
    }

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let listener = "   0: 0100007F:1920 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1 0 100";
        assert_eq!(listening_inode(listener, 6432), Some("socket:[4711]".into()));
        assert_eq!(listening_inode(listener, 6433), None);
        assert_eq!(listening_inode(&listener.replace(" 0A ", " 01 "), 6432), None);
        assert_eq!(listening_inode("  sl  local_address rem_address   st", 6432), None);
    }

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd = "root:x:0:0::/root:/bin/sh\npostgres2:x:7:8:::\npostgres:x:101:104:,,,:/:/bin/bash\n";
        assert_eq!(Account::named(passwd, "postgres"), Some(Account { uid: 101, gid: 104 }));
        assert_eq!(Account::named(passwd, "nobody"), None);
    }

    #[test]
    fn a_server_starts_answers_restarts_and_leaves_nothing() {
        let options = Options {
            log_statements: true,
            settings: &[("work_mem", "7MB")],
            ..Options::default()
        };
        let cluster = Cluster::start(&options).unwrap();
        assert_eq!(cluster.psql("postgres", "SHOW work_mem"), Ok("7MB".into()));
        let version: u32 = cluster
            .psql("postgres", "SHOW server_version_num")
            .unwrap()
            .parse()
            .unwrap();
        assert_eq!(cluster.version(), version);
        cluster
            .psql("postgres", "CREATE TABLE kept AS SELECT 1 AS a; SELECT 'marked'")
            .unwrap();
        assert!(
            cluster.log().contains("statement: SELECT 'marked'"),
            "{}",
            cluster.log()
        );
        assert!(
            cluster
                .psql("postgres", "SELECT 1/0; SELECT 2")
                .unwrap_err()
                .contains("division by zero")
        );

        cluster.psql("postgres", "CHECKPOINT").unwrap();
        let before = cluster.pid();
        cluster.restart().unwrap();
        assert_ne!(cluster.pid(), before);
        assert_eq!(cluster.psql("postgres", "SELECT a FROM kept"), Ok("1".into()));

        let (pid, directory) = (cluster.pid(), cluster.directory.clone());
        assert!(
            cluster.kill_backend(std::process::id() as i32).is_err(),
            "our own process is not a backend"
        );
        drop(cluster);
        assert_eq!(process_stat(pid), None);
        assert!(!directory.exists());
    }

    /// The owner is killed, so no Drop runs: the guardian alone must stop the program and remove the directory.
    #[test]
    fn a_program_does_not_outlive_a_killed_owner() {
        let dir = tempfile::tempdir().unwrap();
        let (doomed, log) = (dir.path().join("doomed"), dir.path().join("log"));
        fs::create_dir(&doomed).unwrap();
        let mut owner = Command::new("/bin/sh");
        // This shell is the owner: it holds the guardian's input open until it is killed.
        owner
            .args(["-c", r#"sleep 1000 | /bin/sh -c "$0" guardian "$@""#, GUARDIAN])
            .arg(&log);
        owner.args(["KILL"]).arg(&doomed).args(["sleep", "1000"]);
        owner.stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let mut owner = owner.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(owner.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let pid: i32 = line.trim().parse().unwrap();
        assert!(process_stat(pid).is_some());
        // The guardian has no group of its own here, so end the writer alone: the first child of the shell.
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", owner.id())).unwrap();
        let writer: i32 = children.split_whitespace().next().unwrap().parse().unwrap();
        unsafe { libc::kill(writer, libc::SIGKILL) };
        owner.wait().unwrap();
        assert_eq!(process_stat(pid), None);
        assert!(!doomed.exists());
    }
}
