//! The server cannot be reached, refuses, restarts, or ends a session.

use super::common::raw::{Raw, error_field, parse, rows, startup, sync, tags};
use super::common::{Stage, cluster, connect_at, own_cluster, start_proxy, until};
use super::{LARGE, USERS, at, gone, pid_of, query, session, wait_for, works};
use lockkeeper::cluster::{self, Cluster, Guarded, Options};
use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};
use tokio_postgres::NoTls;

super::common::on_both!(
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
            assert_eq!(code, "08001");
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
    assert_eq!(code, "08001");
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
    assert_eq!(code, "08006");
    assert!(message.contains(&address), "{message}");
    hangs_up.join().unwrap();
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
    let mut cluster = own_cluster(major, &[]);
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
    assert_eq!(
        tags(&again.query("ALTER TABLE users ADD COLUMN IF NOT EXISTS after_it int")),
        "CZ"
    );
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
    let stage = Stage::with(major, "lastwords", super::common::QUICK);
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
