//! The server cannot be reached, refuses, restarts, or ends a session.

use super::{LARGE, USERS, at, gone, pid_of, query, session, wait_for, works};
use lockkeeper_cluster::{self as cluster, Cluster, Guarded, Options};
use lockkeeper_testkit::raw::{Raw, c, command_tags, error_field, frame, parse, rows, startup, sync, tags};
use lockkeeper_testkit::{Stage, cluster, connect_at, own_cluster, start_proxy, until};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

lockkeeper_testkit::on_both!(
    a_restart_of_the_server_ends_its_sessions_and_nothing_else,
    a_terminated_backend_is_told_to_its_client,
    the_server_s_last_words_reach_a_client_that_goes_on_sending,
);

/// A proxy alone, in front of whatever `upstream` names.
fn proxy(upstream: &str, arguments: &[&str]) -> (tempfile::TempDir, Guarded, u16) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.toml"), LARGE).unwrap();
    let (proxy, port) = start_proxy(dir.path(), upstream, arguments);
    (dir, proxy, port)
}

/// What a client hears that asks for a session.
fn refused(port: u16) -> (String, String) {
    let mut raw = Raw::open(port);
    raw.send(&startup(&[("user", "postgres"), ("database", "postgres")]));
    let answer = raw.until_ready();
    let field = |name| error_field(&answer, name).unwrap_or_else(|| panic!("no error: {answer:?}"));
    assert!(raw.receive().is_none(), "the connection is closed");
    (field(b'C'), field(b'M'))
}

#[test]
fn a_server_that_cannot_be_reached_is_named() {
    let port = cluster::free_port().unwrap();
    let nobody = format!("127.0.0.1:{port}");
    let dir = tempfile::tempdir().unwrap();
    let socket = format!("{}", dir.path().display());
    for upstream in [nobody.as_str(), &socket, "no-such-host.invalid:5432"] {
        let (_dir, proxy, port) = proxy(upstream, &["--connect-timeout-s", "5"]);
        for _ in 0..2 {
            let (code, message) = refused(port);
            assert_eq!(code, "57P03");
            assert!(message.contains(upstream.trim_end_matches(":5432")), "{message}");
        }
        assert!(proxy.is_alive());
    }
}

/// A listener whose queue is full lets no connection through and refuses none.
#[test]
fn a_server_that_never_answers_is_given_up() {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    let mut queued = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        queued.push(stream);
        assert!(queued.len() < 100, "the queue is never full");
    }
    let (_dir, _proxy, port) = proxy(&address.to_string(), &["--connect-timeout-s", "1"]);
    let started = Instant::now();
    let (code, message) = refused(port);
    assert_eq!(code, "57P03");
    assert!(message.contains("within 1 s"), "{message}");
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_server_that_says_nothing_or_hangs_up_is_told_to_the_client() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap().to_string();
    let (_dir, _proxy, port) = proxy(&address, &["--authentication-timeout-s", "1"]);
    let (code, message) = refused(port);
    assert_eq!(code, "08006");
    assert!(message.contains(&address), "{message}");

    let hangs_up = std::thread::spawn(move || drop(silent.incoming().take(2).collect::<Vec<_>>()));
    let (code, message) = refused(port);
    assert_eq!(code, "57P03");
    assert!(message.contains(&address), "{message}");
    hangs_up.join().unwrap();
}

/// libpq goes on to the next server of its list, and pg_isready says that this one takes nobody.
#[test]
fn a_client_goes_on_to_the_next_server() {
    let port = cluster::free_port().unwrap();
    let (_dir, _proxy, port) = proxy(&format!("127.0.0.1:{port}"), &[]);
    let server = lockkeeper_testkit::cluster(15);
    let tool = |name: &str, arguments: &[&str]| {
        let mut command = Command::new(format!("/usr/lib/postgresql/15/bin/{name}"));
        lockkeeper_cluster::clean_environment(&mut command);
        command.args(arguments).output().unwrap()
    };
    let ready = tool("pg_isready", &["-h", "127.0.0.1", "-p", &port.to_string()]);
    assert_eq!(ready.status.code(), Some(1), "{ready:?}");
    let list = format!(
        "host=127.0.0.1,127.0.0.1 port={port},{} user=postgres dbname=postgres",
        server.port()
    );
    let shown = tool("psql", &["-XAtc", "SHOW port", &list]);
    assert_eq!(
        String::from_utf8_lossy(&shown.stdout).trim(),
        server.port().to_string(),
        "{shown:?}"
    );
}

/// Its answers are passed to the proxy, until the relay is told to hear nothing any more, or to read nothing.
struct Deaf {
    port: u16,
    proxy: std::sync::mpsc::Receiver<TcpStream>,
    waits: std::sync::Arc<std::sync::atomic::AtomicBool>,
}

impl Deaf {
    fn start(server: u16) -> Deaf {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (send, proxy) = std::sync::mpsc::channel();
        let waits = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
        let stops = waits.clone();
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut server = TcpStream::connect(("127.0.0.1", server)).unwrap();
                send.send(client.try_clone().unwrap()).unwrap();
                let (mut back, mut to) = (server.try_clone().unwrap(), client.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut back, &mut to));
                let stops = stops.clone();
                std::thread::spawn(move || {
                    let mut some = [0; 4096];
                    while let Ok(n @ 1..) = std::io::Read::read(&mut client, &mut some) {
                        while stops.load(std::sync::atomic::Ordering::Relaxed) {
                            std::thread::sleep(Duration::from_millis(10));
                        }
                        if server.write_all(&some[..n]).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        Deaf { port, proxy, waits }
    }

    /// The socket drops whatever comes, so that nothing is acknowledged: as if the machine had vanished.
    fn vanish(&self) {
        use std::os::fd::AsRawFd;
        let stream = self.proxy.try_iter().last().expect("a connection of the proxy's");
        let mut nothing = libc::sock_filter {
            code: 0x06,
            jt: 0,
            jf: 0,
            k: 0,
        };
        let program = libc::sock_fprog {
            len: 1,
            filter: &raw mut nothing,
        };
        // SAFETY: the program is read during the call.
        let set = unsafe {
            libc::setsockopt(
                stream.as_raw_fd(),
                libc::SOL_SOCKET,
                libc::SO_ATTACH_FILTER,
                (&raw const program).cast(),
                size_of_val(&program) as u32,
            )
        };
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        // Else its end would be told.
        std::mem::forget(stream);
    }
}

#[test]
fn a_query_to_a_server_that_has_vanished_ends() {
    let stage = Stage::new("vanished");
    let deaf = Deaf::start(stage.cluster.port());
    let (_dir, _proxy, port) = proxy(&format!("127.0.0.1:{}", deaf.port), &["--unacknowledged-s", "2"]);
    let mut raw = Raw::connect(port, &stage.database);
    assert_eq!(rows(&raw.query("SELECT 1")), ["1"]);
    deaf.vanish();
    let started = Instant::now();
    raw.send(&frame(b'Q', &c("SELECT 2")));
    let answer = raw.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("08006"), "{answer:?}");
    assert!(started.elapsed() > Duration::from_secs(1), "{:?}", started.elapsed());

    // One that is well and takes nothing for a while keeps its sessions, however much waits to be sent.
    let mut raw = Raw::connect(port, &stage.database);
    deaf.waits.store(true, std::sync::atomic::Ordering::Relaxed);
    let text = format!("SELECT length('{}')", "x".repeat(8 << 20));
    let answer = std::thread::spawn(move || {
        raw.send(&frame(b'Q', &c(&text)));
        rows(&raw.until_ready())
    });
    std::thread::sleep(Duration::from_secs(7));
    deaf.waits.store(false, std::sync::atomic::Ordering::Relaxed);
    assert_eq!(answer.join().unwrap(), [(8 << 20).to_string()]);
}

/// Anybody can send a cancel request for a server that gives no keys, or nothing but zeros.
#[test]
fn without_a_key_nobody_else_ends_a_plan() {
    for zeros in [false, true] {
        let stage = Stage::new("keyless");
        stage.direct(USERS);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let keyless = listener.local_addr().unwrap().port();
        let server = stage.cluster.port();
        std::thread::spawn(move || {
            for mut client in listener.incoming().flatten() {
                let mut up = TcpStream::connect(("127.0.0.1", server)).unwrap();
                let (mut from, mut to) = (client.try_clone().unwrap(), up.try_clone().unwrap());
                std::thread::spawn(move || std::io::copy(&mut from, &mut to));
                std::thread::spawn(move || {
                    let mut head = [0; 5];
                    while std::io::Read::read_exact(&mut up, &mut head).is_ok() {
                        let mut body = vec![0; u32::from_be_bytes(head[1..].try_into().unwrap()) as usize - 4];
                        std::io::Read::read_exact(&mut up, &mut body).unwrap();
                        if head[0] == b'K' {
                            match zeros {
                                true => body[4..].fill(0),
                                false => continue,
                            }
                        }
                        if client.write_all(&[&head[..], &body].concat()).is_err() {
                            break;
                        }
                    }
                });
            }
        });
        let (_dir, _proxy, port) = proxy(&format!("127.0.0.1:{keyless}"), &[]);
        let mut raw = Raw::open(port);
        raw.send(&startup(&[("user", "postgres"), ("database", &stage.database)]));
        raw.until_ready();
        let pid = rows(&raw.query("SELECT pg_backend_pid()"))[0].parse::<u32>().unwrap();
        let mut holder = Raw::connect(server, &stage.database);
        holder.query("BEGIN");
        holder.query("SELECT FROM users LIMIT 1");
        raw.send(&frame(b'Q', &c("ALTER TABLE users ADD COLUMN late int")));
        let waits = format!("SELECT count(*) = 1 FROM pg_stat_activity WHERE pid = {pid} AND query LIKE '%late int%'");
        let mut watch = Raw::connect(server, &stage.database);
        wait_for(&mut watch, &waits);
        for key in [&[][..], &[0; 4], &[0; 8], &[&pid.to_be_bytes()[..], &[0; 4]].concat()] {
            let mut cancel = Raw::open(port);
            let len = (8 + key.len()) as u32;
            cancel.send(&[&len.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), key].concat());
            assert_eq!(cancel.byte(), None);
        }
        std::thread::sleep(Duration::from_millis(300));
        holder.query("ROLLBACK");
        assert_eq!(command_tags(&raw.until_ready()), ["ALTER TABLE"], "zeros: {zeros}");
    }
}

/// What anybody can cause at will is told, but not a line for each.
#[test]
fn probes_and_cancel_requests_do_not_flood_the_log() {
    let port = cluster::free_port().unwrap();
    let (dir, _proxy, port) = proxy(&format!("127.0.0.1:{port}"), &[]);
    for _ in 0..50 {
        let mut raw = Raw::open(port);
        raw.send(b"GET / HTTP/1.1\r\n\r\n");
        assert_eq!(raw.byte(), None);
        let mut cancel = Raw::open(port);
        cancel.send(&[&16u32.to_be_bytes()[..], &80_877_102u32.to_be_bytes(), &[1; 8]].concat());
        assert_eq!(cancel.byte(), None);
        assert_eq!(refused(port).0, "57P03");
    }
    let log = std::fs::read_to_string(dir.path().join("proxy.log")).unwrap();
    for kind in [
        "no startup packet that can be read",
        "a cancel request was not passed on",
        "the server cannot be reached",
    ] {
        let told = log.matches(kind).count();
        assert!((1..=10).contains(&told), "{kind}: {told}");
    }
}

fn passwords(major: u32) -> Cluster {
    let bin_dir = cluster::find(major).expect("make test fetches it");
    let hba = "local all all trust\n\
               host all scram 127.0.0.1/32 scram-sha-256\n\
               host all digest 127.0.0.1/32 md5\n\
               host all clear 127.0.0.1/32 password\n";
    let options = Options {
        bin_dir: Some(&bin_dir),
        hba: Some(hba),
        ..Options::default()
    };
    let cluster = Cluster::start(&options).unwrap_or_else(|e| panic!("{e}"));
    cluster
        .psql(
            "postgres",
            "CREATE ROLE scram LOGIN PASSWORD 'right'; SET password_encryption = 'md5'; \
             CREATE ROLE digest LOGIN PASSWORD 'right'; CREATE ROLE clear LOGIN PASSWORD 'right'",
        )
        .unwrap_or_else(|e| panic!("{e}"));
    cluster
}

#[tokio::test]
async fn passwords_are_between_the_client_and_the_server() {
    for major in [15, 18] {
        let cluster = passwords(major);
        let (dir, _proxy, port) = proxy(&format!("127.0.0.1:{}", cluster.port()), &[]);
        for user in ["scram", "digest", "clear"] {
            let at = |port: u16, password: &str| {
                let text = format!("host=127.0.0.1 port={port} user={user} dbname=postgres password={password}");
                async move { tokio_postgres::connect(&text, NoTls).await }
            };
            let (client, connection) = at(port, "right").await.unwrap_or_else(|e| panic!("{user}: {e}"));
            tokio::spawn(connection);
            let row = client.query_one("SELECT current_user::text", &[]).await.unwrap();
            assert_eq!(row.get::<_, String>(0), user);
            let wrong = |error: tokio_postgres::Error| {
                let error = error.as_db_error().expect("PostgreSQL's own error").clone();
                (error.code().code().to_owned(), error.message().to_owned())
            };
            let proxied = wrong(at(port, "wrong").await.err().unwrap());
            assert_eq!(proxied, wrong(at(cluster.port(), "wrong").await.err().unwrap()));
            assert_eq!(proxied.0, "28P01");
        }
        // pg_hba.conf has no line for this one.
        assert_eq!(refused(port).0, "28000");
        let kept = std::fs::read_to_string(dir.path().join("proxy.log")).unwrap();
        assert!(!kept.contains("right") && !kept.contains("wrong"), "{kept}");
    }
}

#[tokio::test]
async fn an_unknown_database_is_the_server_s_own_error() {
    let stage = Stage::new("known");
    let error = |port| async move {
        let error = connect_at(port, "unknown").await.err().unwrap();
        let error = error.as_db_error().unwrap().clone();
        (error.code().code().to_owned(), error.message().to_owned())
    };
    assert_eq!(error(stage.port).await, error(stage.cluster.port()).await);
    works(&stage);
}

fn a_restart_of_the_server_ends_its_sessions_and_nothing_else(major: u32) {
    // What was committed outlives it.
    let cluster = own_cluster(major, &[("synchronous_commit", "on")]);
    let (_dir, running, port) = proxy(&format!("127.0.0.1:{}", cluster.port()), &[]);
    cluster.psql("postgres", USERS).unwrap();
    let mut idle = session(port, "postgres", "idle");
    let mut block = session(port, "postgres", "block");
    block.query("BEGIN");
    block.query("LOCK TABLE users IN ACCESS SHARE MODE");
    let mut query_runs = session(port, "postgres", "query");
    query_runs.send(&query("SELECT pg_sleep(60)"));
    // The plan finds the table locked and is within its tries.
    let mut plan = session(port, "postgres", "plan");
    plan.send(&query("ALTER TABLE users ADD COLUMN later int"));
    let mut watch = Raw::connect(cluster.port(), "postgres");
    wait_for(&mut watch, &at("query", "%pg_sleep%"));
    wait_for(&mut watch, &at("plan", "%ADD COLUMN later%"));
    drop(watch);
    cluster.restart().unwrap();
    for session in [&mut idle, &mut block, &mut query_runs, &mut plan] {
        let mut answer = Vec::new();
        while let Some(message) = session.receive() {
            answer.push(message);
        }
        // The lock is gone before the last backend is: the plan may have got through.
        let ended = |body: &[u8]| body.windows(6).any(|w| w == b"C57P01" || w == b"C57P02");
        assert!(
            answer.last().is_none_or(|(tag, body)| *tag == b'Z' || ended(body)),
            "{answer:?}"
        );
    }
    assert!(running.is_alive());
    let mut again = session(port, "postgres", "again");
    let answer = again.query("ALTER TABLE users ADD COLUMN IF NOT EXISTS after_it int");
    let told: Vec<_> = answer
        .iter()
        .map(|(tag, body)| (*tag as char, String::from_utf8_lossy(body).into_owned()))
        .collect();
    assert_eq!(tags(&answer), "CZ", "{told:?}");
}

fn a_terminated_backend_is_told_to_its_client(major: u32) {
    let policy = "extends = \"standard\"\n[lock]\npause_ms = 30000\n";
    let stage = Stage::on(cluster(major), "terminated", policy, &[]);
    stage.direct(USERS);
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);

    let mut idle = session(stage.port, &stage.database, "idle");
    watch.query(&format!("SELECT pg_terminate_backend({})", pid_of(&idle)));
    assert_eq!(error_field(&idle.until_ready(), b'C').as_deref(), Some("57P01"));
    assert!(idle.receive().is_none());

    // In the pause between two tries the server's process is idle, and nothing of ours is on its way.
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("LOCK TABLE users IN ACCESS SHARE MODE");
    let mut plan = session(stage.port, &stage.database, "plan");
    plan.send(&query("ALTER TABLE users ADD COLUMN later int"));
    wait_for(
        &mut watch,
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = 'plan' AND state = 'idle' AND backend_xid IS NULL \
         AND query_start > backend_start AND EXISTS (SELECT FROM pg_locks WHERE relation = 'users'::regclass)",
    );
    until("the first try has failed", || {
        stage
            .server_log()
            .iter()
            .any(|line| line.message.contains("lock timeout"))
    });
    watch.query(&format!("SELECT pg_terminate_backend({})", pid_of(&plan)));
    let answer = plan.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57P01"), "{answer:?}");
    assert!(plan.receive().is_none());
    wait_for(&mut watch, &gone("plan"));
    assert_eq!(
        rows(
            &watch.query("SELECT count(*) FROM pg_attribute WHERE attrelid = 'users'::regclass AND attname = 'later'")
        ),
        ["0"]
    );
    until("the audit log has its end", || {
        stage.audit_lines().iter().any(|line| line["outcome"] == "disconnected")
    });
}

/// Bytes that are written to a server that has closed are answered with a reset, and then writing fails.
#[test]
fn the_server_s_last_words_are_heard_though_writing_to_it_fails() {
    for major in [15, 18] {
        let stage = Stage::on(cluster(major), "last_words", LARGE, &[]);
        stage.direct(USERS);
        let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
        let mut client = session(stage.port, &stage.database, "client");
        let backend = pid_of(&client);
        stage.proxy().signal(libc::SIGSTOP).unwrap();
        // The first goes on, the second is judged, and for that the first must be answered.
        let judged = parse("", "ALTER TABLE users ADD COLUMN later int");
        client.send(&[parse("", "SELECT 1"), judged, sync()].concat());
        watch.query(&format!("SELECT pg_terminate_backend({backend})"));
        wait_for(&mut watch, &gone("client"));
        stage.proxy().signal(libc::SIGCONT).unwrap();
        let answer = client.until_ready();
        assert_eq!(error_field(&answer, b'C').as_deref(), Some("57P01"), "{answer:?}");
        assert!(client.receive().is_none());
    }
}

/// A client that goes on sending gets all that the server has said before the end of the session: a connection that is closed with
/// bytes unread would be reset, and what was still on its way lost.
fn the_server_s_last_words_reach_a_client_that_goes_on_sending(major: u32) {
    let stage = Stage::with(major, "lastwords", lockkeeper_testkit::QUICK);
    let mut raw = session(stage.port, &stage.database, "talker");
    let mut writer = raw.writer();
    let client = writer.local_addr().unwrap().port();
    assert!(established(stage.port, client));
    let talker = std::thread::spawn(move || {
        // While a statement that is audited runs, the client is not read, so that the server leaves nothing unread.
        let first = [
            "SELECT repeat('x', 300000)",
            "DO $$ BEGIN EXECUTE 'SELECT pg_terminate_' || 'backend(pg_backend_pid())'; PERFORM pg_sleep(60); END $$",
        ];
        let _ = writer.write_all(&first.map(query).concat());
        let more = query("SELECT 1").repeat(1_000);
        while writer.write_all(&more).is_ok() {}
    });
    // Most of the row is more than the system takes for a client that does not read, and so still to be sent at the end.
    until("the proxy has taken leave", || !established(stage.port, client));
    let mut heard = Vec::new();
    while let Some(message) = raw.receive() {
        heard.push(message);
    }
    let row = |(tag, body): &(u8, Vec<u8>)| *tag == b'D' && body.len() > 300_000;
    assert!(heard.iter().any(row), "{}", tags(&heard));
    assert_eq!(error_field(&heard, b'C').as_deref(), Some("57P01"), "{}", tags(&heard));
    raw.writer().shutdown(std::net::Shutdown::Both).ok();
    talker.join().expect("the talker");
    works(&stage);
}

/// The end at `local` of a connection on 127.0.0.1 has not been closed, as the system's table of connections tells.
fn established(local: u16, remote: u16) -> bool {
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let wanted = [local, remote].map(|port| format!("0100007F:{port:04X}"));
    table.lines().any(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        words[1..3] == wanted && words[3] == "01"
    })
}
