//! The command line. Exit codes: 0 done, 1 it failed (for `check`: something is rejected or rewritten), 2 the command
//! line, a setting or an input is wrong.

use clap::{Args, Parser, Subcommand};
use lockkeeper::admin::http::{self, Site};
use lockkeeper::config::options::{LogFormat, Options};
use lockkeeper::config::{Settings, load_policy};
use lockkeeper::live::Live;
use lockkeeper::plan::statement::tree::{STACK_BYTES, this_thread_is_deep};
use lockkeeper::{check, demo, jobs, review, rules_page};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

const AFTER_HELP: &str = "\
Examples:
  lockkeeper serve --upstream 127.0.0.1:5432 --audit /var/log/lockkeeper/audit.jsonl
  psql -h 127.0.0.1 -p 6432 mydb          through the proxy, as if it were the server
  lockkeeper check migrations/            what would happen to these files
  lockkeeper rules drop-column            one rule, with bad and good SQL
  lockkeeper audit list --since 12h /var/log/lockkeeper/audit.jsonl
                                          what happened last night
  lockkeeper jobs --dsn dbname=shop list  batches that run or were interrupted
  lockkeeper demo --rows 100000           see it work on a throwaway PostgreSQL";

const SERVE_HELP: &str = "\
Every option can also be a LOCKKEEPER_* variable or a key of the --config file, spelled as the flag
without its dashes in front. Flags win over variables, variables over the file. Such a file:

  listen = [\"127.0.0.1:6432\"]
  upstream = \"/var/run/postgresql\"
  policy = \"/etc/lockkeeper/policy.toml\"
  audit = \"/var/log/lockkeeper/audit.jsonl\"
  connections-max = 500

TLS: with --tls-cert and --tls-key clients may use it, with --client-tls require they must (over
TCP; Unix sockets and cancel requests pass). --upstream-tls encrypts the way to the server.
Passwords go through to the server, so SCRAM's channel binding meets two certificates where both
ways are encrypted. libpq uses it by itself then and the login fails (with sslmode=prefer libpq
tries again in plain text), unless --auth scram is used, --tls-cert and --tls-key are the server's
own, or clients connect with channel_binding=disable. The server's `cert` authentication cannot
work through a proxy.

With --auth scram the proxy authenticates clients itself, from the SCRAM verifiers of --auth-file,
and logs in to the server with what the client has proven. No password is stored, and channel
binding works on both ways. The file is as PgBouncer's; the server gives its lines, which must be
fetched again when a password changes:

  umask 077; psql -AtX -U postgres -o users.txt -c \"
    SELECT format('\\\"%s\\\" \\\"%s\\\"', replace(rolname, '\\\"', '\\\"\\\"'), rolpassword)
    FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-SHA-256%'\"

With --auth-user no file is needed: as that role the proxy asks the server for whoever is not in it,
by --auth-query. Its password is LOCKKEEPER_AUTH_PASSWORD, or stands in the file.

SIGHUP reads the policy, the TLS files and the auth file again (keeping the old ones when the new
ones are wrong) and opens the audit log again. SIGTERM ends idle sessions, waits for what is in the
middle of something, and ends. With --reuse-port a new process may be started first; then SIGTERM
ends the old one, and no connection is refused. systemd is told of all that through NOTIFY_SOCKET
(Type=notify).

Next: point a client at it:  psql -h 127.0.0.1 -p 6432 -U you mydb";

const CHECK_HELP: &str = "\
A table that the files themselves create is new and may be changed freely, also by a later file;
with IF NOT EXISTS it may be an old one. What they prove (NOT VALID, then VALIDATE) is proven for
what follows. Every other table is taken to exist and to be large, unless --dsn lets a server tell.
It is asked in a read-only transaction, and nothing is changed.

A directory is run as its tool would run it: in the order of its versions, each file in one
transaction or not. The tool is told by names and marks (Flyway, golang-migrate, dbmate, sqlx,
node-pg-migrate, diesel, goose, pg_dump, sqlmigrate), else it is psql: each statement alone, but
between BEGIN and COMMIT as within a transaction. What is left out is said: lines for psql itself
(\\set, \\i), down migrations, migrations that are programs. Rows after COPY … FROM stdin are skipped.

A comment in front of a statement lets it through, as the proxy does, and says why:
  /* lockkeeper: allow=drop-column reason=\"ticket 42\" */ ALTER TABLE users DROP COLUMN name;

Exit code: 0 everything is forwarded (also with a short lock_timeout and retries), 1 something is
rewritten or rejected, 2 an input or the server could not be read.

Examples:
  lockkeeper check --from 0042 migrations/         what has not run yet, in order
  git diff --name-only main | lockkeeper check --changed - --format github migrations/
  lockkeeper check --dsn \"service=shop\" --format sarif migrations/ > lockkeeper.sarif
  lockkeeper check --format json --server-version 15 migrations/0042_users.sql
  pg_dump --schema-only mydb | lockkeeper check -

Next: `lockkeeper rules NAME` explains a rule and shows the safe SQL.";

const INIT_HELP: &str = "\
Once for each database, by a superuser or the database's owner; again does no harm. The proxy does it
by itself for such a role. Every role may then keep jobs of its own and sees no others (row-level
security). Without the table, statements that must not be repeated (SET n = n + 1) are refused when
they are large, others cannot be resumed where they stopped, and nothing long is possible in a transaction.

Example:
  lockkeeper init --dsn 'host=db.internal dbname=shop user=postgres'

Next: lockkeeper jobs --dsn … list";

const JOBS_HELP: &str = "\
A large UPDATE or DELETE that was interrupted goes on where it stopped when the same statement is sent
again through Lockkeeper, or by `resume`; every row is changed exactly once. What a transaction has left
for after its COMMIT (an index, a validation) is a job too: one that failed or was cut off goes on in the
same ways, and at the migration tool's next start. `interrupted` in the list means that the session of a
running job has died, `waiting` that it has not begun. A superuser sees all jobs, others see their own.

Examples:
  lockkeeper jobs --dsn dbname=shop list
  lockkeeper jobs --dsn postgres://app@db.internal/shop pause 7
  lockkeeper jobs --dsn postgres://app@db.internal/shop resume 7
  lockkeeper jobs --dsn dbname=shop --format json list --all

Within a session through the proxy, `CALL lockkeeper.resume(7)` does the same as `resume`.

Exit code: 0 done, 1 not done (the error says why).";

const DEMO_HELP: &str = "\
It starts its own servers on free ports of this machine and leaves nothing behind. With the default
2 million rows it takes some minutes; --rows 100000 is enough to see what happens.

Exit code: 0 no application query waited longer than 100 ms for a lock behind a proxied statement,
1 one did, or the demo could not be played.";

/// A PostgreSQL proxy that makes schema changes safe.
///
/// Clients connect to it as if it were the server. Everything passes unchanged, except the few statements that would
/// block or break a live application: those are run in a safe way, or refused with an error that says what to do.
#[derive(Parser)]
#[command(name = "lockkeeper", version, after_help = AFTER_HELP, max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the proxy in front of a PostgreSQL server
    #[command(after_help = SERVE_HELP)]
    Serve(Box<Serve>),
    /// Say what would happen to the statements of SQL files, with or without a server
    #[command(after_help = CHECK_HELP)]
    Check(check::Arguments),
    /// List the rules, or show one of them
    Rules {
        /// Show this rule, with bad and good SQL
        #[arg(conflicts_with = "markdown")]
        name: Option<String>,
        /// Print the table of the README
        #[arg(long)]
        markdown: bool,
    },
    /// Review audit logs: list, show, stats, verify
    Audit(Box<review::Arguments>),
    /// Create the table lockkeeper.job, where batches keep their progress and transactions leave what is long
    #[command(after_help = INIT_HELP)]
    Init(jobs::Server),
    /// Look at what runs, waits for a COMMIT or was interrupted: list, show, pause, resume, cancel
    #[command(after_help = JOBS_HELP)]
    Jobs(jobs::Arguments),
    /// Play schema changes on a throwaway PostgreSQL under load, with and without the proxy, and compare
    #[command(after_help = DEMO_HELP)]
    Demo(Demo),
}

#[derive(Args)]
struct Demo {
    /// Rows of the table that the statements change
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    rows: u64,
    /// Directory of initdb and postgres [default: LOCKKEEPER_PG_BIN, else what is installed]
    #[arg(long, value_name = "DIR")]
    pg_bin: Option<PathBuf>,
    /// Keep the servers at the end until Ctrl-C, and say how to connect
    #[arg(long)]
    keep: bool,
}

#[derive(Args)]
struct Serve {
    /// Read options from this TOML file
    #[arg(long, value_name = "FILE", env = "LOCKKEEPER_CONFIG", hide_env_values = true)]
    config: Option<PathBuf>,
    #[command(flatten)]
    options: Options,
}

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => serve(*arguments),
        Command::Check(arguments) => deep(move || check_files(&arguments)),
        Command::Audit(arguments) => review_audit(*arguments),
        Command::Demo(Demo { rows, pg_bin, keep }) => ended(demo::run(demo::Options { rows, pg_bin, keep })),
        Command::Init(server) => ended(jobs::init(&server, &mut std::io::stdout())),
        Command::Jobs(arguments) => deep(move || ended(jobs::run(&arguments, &mut std::io::stdout()))),
        Command::Rules { markdown: true, .. } => print(&rules_page::markdown()),
        Command::Rules { name: None, .. } => print(&rules_page::list()),
        Command::Rules { name: Some(name), .. } => match rules_page::page(&name) {
            Ok(page) => print(&page),
            Err(error) => fail(2, &error),
        },
    }
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, error: &str) -> ExitCode {
    // Not eprintln!, which panics where stderr is closed.
    let _ = writeln!(std::io::stderr(), "lockkeeper: {error}");
    ExitCode::from(code)
}

/// A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => fail(2, &format!("cannot write the output: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

/// On a thread that reads what is nested as deeply as `serve` does.
fn deep(work: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    let work = move || {
        this_thread_is_deep();
        work()
    };
    let started = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // It has said why.
        Ok(Err(_)) => ExitCode::from(101),
        Err(error) => fail(2, &format!("a thread cannot be started: {error}")),
    }
}

fn check_files(arguments: &check::Arguments) -> ExitCode {
    let policy = match load_policy(&arguments.policy) {
        Ok(policy) => policy,
        Err(error) => return fail(2, &error),
    };
    let mut streams = check::Streams {
        stdin: &mut std::io::stdin(),
        out: &mut BufWriter::new(std::io::stdout()),
        err: &mut std::io::stderr(),
        colour: colour(),
    };
    match check::run(arguments, &policy, &mut streams) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(2),
        Err(error) => fail(2, &format!("cannot write the output: {error}")),
    }
}

fn colour() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !no_colour && !dumb
}

fn review_audit(arguments: review::Arguments) -> ExitCode {
    let terminal = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    let wanted = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut streams = review::Streams {
        out: &mut out,
        err: &mut std::io::stderr(),
        colour: colour(),
        width: terminal.or(wanted).filter(|width| *width > 0),
    };
    let reviewed = review::run(arguments, &mut streams);
    match reviewed.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(review::Failure::Told(code, error)) => {
            // What was found before it.
            let _ = out.flush();
            fail(code, &error)
        }
        Err(review::Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(review::Failure::Output(error)) => fail(2, &format!("cannot write the output: {error}")),
    }
}

fn serve(arguments: Serve) -> ExitCode {
    let settings = match settings(arguments) {
        Ok(settings) => settings,
        Err(error) => return fail(2, &error),
    };
    let policy = settings.policy;
    // Read now, so that a mistake ends the program as a wrong setting does; the proxy reads it again on SIGHUP.
    if let Err(error) = load_policy(&policy) {
        return fail(2, &error);
    }
    if let Err(error) = settings.proxy.check_files() {
        return fail(2, &error);
    }
    let live = Arc::new(Live::default());
    let log = settings.proxy.audit.iter().map(|sink| sink.path.clone()).collect();
    let admin = match settings
        .admin
        .map(|admin| http::open(&admin, Some(&live), log, settings.proxy.reuse_port))
        .transpose()
    {
        Ok(admin) => admin,
        Err((code, error)) => return fail(code, &error),
    };
    start_log(settings.log_format, &settings.log_level);
    if let Some((listener, site)) = admin {
        start_admin(listener, site);
    }
    raise_file_limit(settings.proxy.limits.connections_max);
    match lockkeeper::proxy::serve(settings.proxy, live, Box::new(move || load_policy(&policy))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

/// On a thread of its own, which ends with the process.
fn start_admin(listener: std::net::TcpListener, site: Arc<Site>) {
    let listen = listener
        .local_addr()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let started = std::thread::Builder::new().name("admin".into()).spawn(move || {
        if let Err(error) = http::serve(listener, site) {
            tracing::error!(error, "the admin address is not served");
        }
    });
    match started {
        Ok(_) => tracing::info!(listen, "review page and metrics"),
        Err(error) => tracing::error!(%error, "the admin thread cannot be started"),
    }
}

fn settings(arguments: Serve) -> Result<Settings, String> {
    let file = match &arguments.config {
        Some(path) => Options::from_file(path)?,
        None => Options::default(),
    };
    arguments.options.over(file).resolve()
}

fn start_log(format: LogFormat, level: &str) {
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// A session takes two files, and the usual soft limit of 1,024 is there for programs that use select(2).
fn raise_file_limit(connections_max: usize) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only read or fill the struct that is passed.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    if !known {
        return tracing::warn!(
            "cannot read the limit of open files: {}",
            std::io::Error::last_os_error()
        );
    }
    let soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        tracing::warn!(
            "cannot raise the limit of open files: {}",
            std::io::Error::last_os_error()
        );
        limit.rlim_cur = soft;
    }
    let wanted = connections_max as u64 * 2 + 64;
    if limit.rlim_cur < wanted {
        tracing::warn!(
            "at most {} files can be open, connections-max = {connections_max} needs {wanted}: raise the limit \
             (LimitNOFILE in systemd, ulimit -n) or lower connections-max",
            limit.rlim_cur
        );
    }
}
