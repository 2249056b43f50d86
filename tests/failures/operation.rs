//! Policy files, signals, the audit log's disk, and where the proxy listens.

use super::clients::cancel;
use super::{LARGE, USERS, at, gone, large, query, session, wait_for, works};
use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::raw::{Raw, command_tags, error_field, rows, startup, status, tags};
use lockkeeper_testkit::{Stage, cluster, run, start_proxy, until};
use std::process::Command;
use std::time::{Duration, Instant};

lockkeeper_testkit::on_both!(
    sigterm_ends_idle_sessions_and_lets_the_others_finish,
    sigterm_during_a_batch_run_leaves_whole_batches_and_says_so,
    a_notification_arrives_while_a_plan_runs,
);

#[test]
fn a_policy_with_a_typo_does_not_start() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("policy.toml");
    for (text, near) in [
        ("[rules]\ndrop-colum = \"allow\"\n", "drop-column"),
        ("[lock]\ntimeout_sm = 5\n", "timeout_ms"),
        ("[rules]\ndrop-column = \"alow\"\n", "allow"),
    ] {
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        command.args([
            "serve",
            "--listen",
            "127.0.0.1:1",
            "--upstream",
            "127.0.0.1:2",
            "--policy",
        ]);
        command.arg(&file);
        let ran = run(command, "");
        assert_eq!(ran.status, 2, "{ran:?}");
        assert!(
            ran.stderr.contains(near) && ran.stderr.contains("policy.toml"),
            "{ran:?}"
        );
    }
}

#[test]
fn sighup_reads_the_policy_again_and_keeps_the_old_one_when_the_new_one_is_wrong() {
    let stage = large(18, "sighup");
    let mut open = Raw::connect(stage.port, &stage.database);
    let drop = "ALTER TABLE users DROP COLUMN org_id";
    assert!(error_field(&open.query(drop), b'C').is_some());

    std::fs::write(stage.policy_file(), "[rules]\ndrop-colum = \"allow\"\n").unwrap();
    stage.proxy().signal(libc::SIGHUP).unwrap();
    until("the proxy says that the policy is wrong", || {
        stage.proxy_log().contains("drop-column")
    });
    assert!(error_field(&open.query(drop), b'C').is_some());
    assert!(stage.schema().contains("org_id"));

    std::fs::write(
        stage.policy_file(),
        format!("{LARGE}\n[rules]\ndrop-column = \"allow\"\n"),
    )
    .unwrap();
    stage.proxy().signal(libc::SIGHUP).unwrap();
    until("the proxy has read it", || {
        stage.proxy_log().contains("policy read again")
    });
    assert_eq!(tags(&open.query(drop)), "CZ");
    assert!(!stage.schema().contains("org_id"));
}

/// A stage whose audit log is `to`, with that answer to a log that cannot be written.
fn audited(name: &str, on_failure: &str, to: &std::path::Path) -> Stage {
    let mut stage = Stage::on(cluster(18), name, LARGE, &[]);
    stage.kill_proxy();
    std::fs::write(
        stage.policy_file(),
        format!("{LARGE}\n[audit]\non_failure = \"{on_failure}\"\n"),
    )
    .unwrap();
    let _ = std::fs::remove_file(stage.audit_file());
    std::os::unix::fs::symlink(to, stage.audit_file()).unwrap();
    stage.start_proxy(&[]);
    stage.direct(USERS);
    stage
}

/// The SQLSTATEs of the notices.
fn notices(messages: &[(u8, Vec<u8>)]) -> Vec<String> {
    let of = |message: &(u8, Vec<u8>)| error_field(&[(b'E', message.1.clone())], b'C').unwrap();
    messages.iter().filter(|(tag, _)| *tag == b'N').map(of).collect()
}

const STATEMENTS: [&str; 4] = [
    "ALTER TABLE users ADD COLUMN one int",
    "CREATE INDEX two ON users (email)",
    "UPDATE users SET seen = true WHERE seen IS NULL",
    "ALTER TABLE users ADD COLUMN a int; ALTER TABLE users ADD COLUMN b int",
];

fn fails_open(stage: &Stage) {
    let mut raw = Raw::connect(stage.port, &stage.database);
    for sql in STATEMENTS {
        let answer = raw.query(sql);
        assert_eq!(error_field(&answer, b'M'), None, "{sql}");
        assert!(notices(&answer).contains(&"58030".to_string()), "{sql}: {answer:?}");
    }
    assert_eq!(stage.direct("SELECT count(*) FROM users WHERE seen"), "1000");
    let schema = stage.schema();
    for column in ["one", "a", "b"] {
        assert!(schema.contains(&format!("users column {column} integer")), "{schema}");
    }
    assert!(stage.proxy_log().contains("cannot write the audit log"));
}

fn fails_closed(stage: &Stage) {
    let before = stage.schema();
    let mut raw = Raw::connect(stage.port, &stage.database);
    for sql in STATEMENTS {
        let answer = raw.query(sql);
        assert_eq!(
            error_field(&answer, b'C').as_deref(),
            Some("58030"),
            "{sql}: {answer:?}"
        );
        assert_eq!(status(&answer), Some('I'));
    }
    assert_eq!(
        command_tags(&raw.query("UPDATE users SET email = 'x' WHERE id = 1")),
        ["UPDATE 1"]
    );
    assert_eq!(rows(&raw.query("SELECT count(*) FROM users WHERE seen")), ["0"]);
    raw.query("BEGIN");
    assert_eq!(error_field(&raw.query(STATEMENTS[0]), b'C').as_deref(), Some("58030"));
    assert_eq!(error_field(&raw.query("SELECT 1"), b'C').as_deref(), Some("25P02"));
    assert_eq!(command_tags(&raw.query("COMMIT")), ["ROLLBACK"]);
    assert_eq!(stage.schema(), before);
}

#[test]
fn an_audit_log_on_a_full_disk() {
    fails_open(&audited("full_open", "open", "/dev/full".as_ref()));
    fails_closed(&audited("full_closed", "closed", "/dev/full".as_ref()));
}

#[test]
fn an_audit_log_whose_directory_was_removed() {
    for (on_failure, check) in [("open", fails_open as fn(&Stage)), ("closed", fails_closed)] {
        let dir = tempfile::tempdir().unwrap();
        let logs = dir.path().join("logs");
        std::fs::create_dir(&logs).unwrap();
        let stage = audited("removed", on_failure, &logs.join("audit"));
        works(&stage);
        std::fs::remove_dir_all(&logs).unwrap();
        check(&stage);
        // It recovers by itself.
        std::fs::create_dir(&logs).unwrap();
        let mut raw = Raw::connect(stage.port, &stage.database);
        let answer = raw.query("ALTER TABLE users ADD COLUMN last int");
        assert_eq!(tags(&answer), "CZ", "{answer:?}");
        assert!(stage.audit_lines().iter().any(|line| line["outcome"] == "done"));
    }
}

fn sigterm_ends_idle_sessions_and_lets_the_others_finish(major: u32) {
    let stage = large(major, "drain");
    let mut idle = session(stage.port, &stage.database, "idle");
    let mut block = session(stage.port, &stage.database, "block");
    block.query("BEGIN");
    block.query("UPDATE users SET seen = true WHERE id = 1");
    let mut busy = session(stage.port, &stage.database, "busy");
    busy.send(&query("SELECT pg_sleep(60)"));
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    wait_for(&mut watch, &at("busy", "%pg_sleep%"));
    stage.proxy().signal(libc::SIGTERM).unwrap();
    assert_eq!(error_field(&idle.until_ready(), b'C').as_deref(), Some("57P01"));
    assert!(idle.receive().is_none());
    wait_for(&mut watch, &gone("idle"));
    // Nobody new gets in.
    let mut late = Raw::open(stage.port);
    late.send(&startup(&[("user", "postgres"), ("database", &stage.database)]));
    assert_eq!(error_field(&late.until_ready(), b'C').as_deref(), Some("57P03"));
    // A cancel request still passes.
    cancel(stage.port, &busy.key);
    assert_eq!(error_field(&busy.until_ready(), b'C').as_deref(), Some("57014"));
    assert_eq!(error_field(&busy.until_ready(), b'C').as_deref(), Some("57P01"));
    assert_eq!(
        command_tags(&block.query("UPDATE users SET seen = true WHERE id = 2")),
        ["UPDATE 1"]
    );
    assert_eq!(command_tags(&block.query("COMMIT")), ["COMMIT"]);
    assert_eq!(error_field(&block.until_ready(), b'C').as_deref(), Some("57P01"));
    assert!(stage.proxy().ends_within(Duration::from_secs(10)));
    assert_eq!(stage.direct("SELECT count(*) FROM users WHERE seen"), "2");
}

/// `lockkeeper serve` as our own child, whose exit status we see.
fn exit_status(signals: &[i32]) -> i32 {
    let stage = Stage::without_proxy(cluster(18), "exit");
    let port = lockkeeper_cluster::free_port().unwrap();
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command.args(["serve", "--listen", &format!("127.0.0.1:{port}"), "--upstream"]);
    command.arg(format!("127.0.0.1:{}", cluster(18).port()));
    command.stderr(std::process::Stdio::null());
    let mut child = command.spawn().unwrap();
    until("the proxy listens", || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    });
    let mut block = Raw::connect(port, &stage.database);
    block.query("BEGIN");
    for (n, signal) in signals.iter().enumerate() {
        // SAFETY: kill(2) has no memory effects; the process is our own child and not reaped yet.
        unsafe { libc::kill(child.id() as i32, *signal) };
        if n + 1 < signals.len() {
            until("the first signal has been taken", || {
                let mut late = Raw::open(port);
                late.send(&startup(&[("user", "postgres"), ("database", &stage.database)]));
                error_field(&late.until_ready(), b'C').is_some()
            });
        }
    }
    if signals.len() == 1 {
        block.query("COMMIT");
    }
    let started = Instant::now();
    let status = child.wait().unwrap();
    assert!(started.elapsed() < Duration::from_secs(10));
    status.code().unwrap_or(-1)
}

#[test]
fn the_exit_status_of_a_stop_is_zero() {
    assert_eq!(exit_status(&[libc::SIGTERM]), 0);
}

#[test]
fn a_second_sigterm_ends_at_once() {
    assert_eq!(exit_status(&[libc::SIGTERM, libc::SIGTERM]), 0);
}

fn sigterm_during_a_batch_run_leaves_whole_batches_and_says_so(major: u32) {
    let policy = LARGE
        .replace("pause_ms = 1\n", "pause_ms = 50\n")
        .replace("batch_rows = 100", "batch_rows = 10");
    let stage = Stage::on(cluster(major), "drain_batches", &policy, &["--drain-timeout-s", "1"]);
    stage.direct(USERS);
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let mut raw = session(stage.port, &stage.database, "batches");
    raw.send(&query("UPDATE users SET seen = false WHERE seen IS NULL"));
    wait_for(&mut watch, "SELECT count(*) >= 20 FROM users WHERE seen = false");
    stage.proxy().signal(libc::SIGTERM).unwrap();
    let answer = raw.until_ready();
    assert!(stage.proxy().ends_within(Duration::from_secs(10)));
    wait_for(&mut watch, &gone("batches"));
    let changed: u32 = stage
        .direct("SELECT count(*) FROM users WHERE seen = false")
        .parse()
        .unwrap();
    assert!(changed.is_multiple_of(10) && (20..1000).contains(&changed), "{changed}");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("57P01"), "{answer:?}");
    assert!(
        error_field(&answer, b'D').unwrap().contains(&format!("{changed} rows")),
        "{answer:?}"
    );
    let lines = stage.audit_lines();
    let last = lines.iter().rfind(|line| line["event"] == "statement").unwrap();
    assert_eq!(last["sqlstate"], "57P01");
}

#[test]
fn unix_sockets_and_ipv6_on_both_sides() {
    let stage = Stage::without_proxy(cluster(18), "sockets");
    let server = cluster(18);
    stage.direct(USERS);
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("policy.toml"), LARGE).unwrap();
    let listen = format!("{}:7001", dir.path().display());
    let upstream = format!("{}:{}", server.socket_dir().display(), server.port());
    let mut arguments = vec!["--listen", &listen];
    // Some machines have no IPv6, and then there is nothing to test.
    let port6 = std::net::TcpListener::bind("[::1]:0")
        .ok()
        .map(|l| l.local_addr().unwrap().port());
    let listen6 = format!("[::1]:{}", port6.unwrap_or(0));
    if port6.is_some() {
        arguments.extend(["--listen", &listen6]);
    }
    let (proxy, port) = start_proxy(dir.path(), &upstream, &arguments);
    let psql = |host: &str, port: u16, sql: &str| {
        let mut command = Command::new(server.bin("psql").unwrap());
        clean_environment(&mut command);
        command.args([
            "-X",
            "-A",
            "-t",
            "-U",
            "postgres",
            "-d",
            &stage.database,
            "-h",
            host,
            "-p",
            &port.to_string(),
            "-c",
            sql,
        ]);
        run(command, "").ok()
    };
    let socket = dir.path().join(".s.PGSQL.7001");
    until("the socket is there", || socket.exists());
    let directory = dir.path().to_str().unwrap();
    assert_eq!(
        psql(directory, 7001, "ALTER TABLE users ADD COLUMN a int").trim(),
        "ALTER TABLE"
    );
    assert_eq!(psql("127.0.0.1", port, "SELECT count(a) FROM users").trim(), "0");
    if let Some(port6) = port6 {
        assert_eq!(
            psql("::1", port6, "ALTER TABLE users ADD COLUMN b int").trim(),
            "ALTER TABLE"
        );
    }
    // Who asked is in the audit log.
    let audit = std::fs::read_to_string(dir.path().join("audit.jsonl")).unwrap();
    assert!(audit.contains("\"client\":\"unix\""), "{audit}");
    proxy.signal(libc::SIGTERM).unwrap();
    assert!(proxy.ends_within(Duration::from_secs(10)));
    assert!(!socket.exists(), "the socket file is removed");
}

fn a_notification_arrives_while_a_plan_runs(major: u32) {
    let stage = large(major, "notify");
    let mut listener = session(stage.port, &stage.database, "listener");
    listener.query("LISTEN news");
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("LOCK TABLE users IN ACCESS SHARE MODE");
    listener.send(&query("ALTER TABLE users ADD COLUMN later int"));
    until("a try has failed", || {
        stage
            .server_log()
            .iter()
            .any(|line| line.message.contains("lock timeout"))
    });
    for n in 0..20 {
        watch.query(&format!("NOTIFY news, '{n}'"));
    }
    holder.query("COMMIT");
    let mut answer = listener.until_ready();
    assert_eq!(command_tags(&answer), ["ALTER TABLE"]);
    while answer.iter().filter(|(tag, _)| *tag == b'A').count() < 20 {
        answer.push(listener.receive().expect("the rest of the notifications"));
    }
    let payload = |body: &[u8]| {
        String::from_utf8_lossy(&body[4..])
            .split('\0')
            .nth(1)
            .unwrap()
            .to_owned()
    };
    let heard: Vec<String> = answer
        .iter()
        .filter(|(tag, _)| *tag == b'A')
        .map(|(_, body)| payload(body))
        .collect();
    assert_eq!(heard, (0..20).map(|n| n.to_string()).collect::<Vec<_>>());
}

/// Ends with the test, also where that fails.
struct Serving(std::process::Child);

impl std::ops::Deref for Serving {
    type Target = std::process::Child;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl std::ops::DerefMut for Serving {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        // One that has ended already is reaped, and none of that ID is killed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// `lockkeeper serve --reuse-port` at that port, to end as a service does.
fn serve_reusing(port: u16, notify: Option<&str>) -> Serving {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command.args([
        "serve",
        "--reuse-port",
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--upstream",
    ]);
    command.arg(format!("127.0.0.1:{}", cluster(18).port()));
    if let Some(socket) = notify {
        command.env("NOTIFY_SOCKET", socket);
    }
    command.stderr(std::process::Stdio::null());
    Serving(command.spawn().unwrap())
}

fn signal(child: &std::process::Child, signal: i32) {
    // SAFETY: kill(2) has no memory effects; the process is our own child and not reaped yet.
    assert_eq!(unsafe { libc::kill(child.id() as i32, signal) }, 0);
}

/// A socket that systemd would listen on, and its name for NOTIFY_SOCKET.
fn notified(name: &str, address: &std::os::unix::net::SocketAddr) -> (String, std::os::unix::net::UnixDatagram) {
    let socket = std::os::unix::net::UnixDatagram::bind_addr(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    (name.to_owned(), socket)
}

fn abstract_socket(what: &str) -> (String, std::os::unix::net::UnixDatagram) {
    use std::os::linux::net::SocketAddrExt;
    let name = format!("lockkeeper-test-{what}-{}", std::process::id());
    let address = std::os::unix::net::SocketAddr::from_abstract_name(&name).unwrap();
    notified(&format!("@{name}"), &address)
}

fn next_state(socket: &std::os::unix::net::UnixDatagram) -> String {
    let mut state = [0; 200];
    let len = socket.recv(&mut state).expect("a state");
    String::from_utf8_lossy(&state[..len]).into_owned()
}

#[test]
fn systemd_hears_of_every_state_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("notify");
    let address = std::os::unix::net::SocketAddr::from_pathname(&path).unwrap();
    for (name, socket) in [notified(path.to_str().unwrap(), &address), abstract_socket("states")] {
        let port = lockkeeper_cluster::free_port().unwrap();
        let mut child = serve_reusing(port, Some(&name));
        assert_eq!(next_state(&socket), "READY=1");
        // Ready means that it listens.
        std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        signal(&child, libc::SIGHUP);
        let reloading = next_state(&socket);
        let micros = reloading
            .strip_prefix("RELOADING=1\nMONOTONIC_USEC=")
            .map(str::parse::<u64>);
        assert!(matches!(micros, Some(Ok(1..))), "{reloading}");
        assert_eq!(next_state(&socket), "READY=1");
        signal(&child, libc::SIGTERM);
        assert_eq!(next_state(&socket), "STOPPING=1");
        assert_eq!(child.wait().unwrap().code(), Some(0));
        socket.set_nonblocking(true).unwrap();
        assert!(socket.recv(&mut [0; 9]).is_err(), "each state is told once");
    }
}

/// Opens, asks and ends one session after the other until it is told to stop; the error of the first that failed.
fn sessions_in_a_loop(port: u16, database: &str, stop: &std::sync::atomic::AtomicBool) -> Result<u32, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let mut count = 0;
        while !stop.load(std::sync::atomic::Ordering::Relaxed) {
            let open = lockkeeper_testkit::connect_at(port, database)
                .await
                .map_err(|error| format!("{error:?}"))?;
            let row = open
                .client
                .query_one("SELECT 6 * 7", &[])
                .await
                .map_err(|error| format!("{error:?}"))?;
            assert_eq!(row.get::<_, i32>(0), 42);
            count += 1;
        }
        Ok(count)
    })
}

#[test]
fn a_new_process_takes_over_and_no_connection_is_refused() {
    let stage = Stage::without_proxy(cluster(18), "take_over");
    let port = lockkeeper_cluster::free_port().unwrap();
    let (name, socket) = abstract_socket("take-over");
    let mut old = serve_reusing(port, Some(&name));
    assert_eq!(next_state(&socket), "READY=1");
    let mut block = Raw::connect(port, &stage.database);
    block.query("BEGIN");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let loops = [(); 2].map(|()| scope.spawn(|| sessions_in_a_loop(port, &stage.database, &stop)));
        for turn in 0..3 {
            let new = serve_reusing(port, Some(&name));
            assert_eq!(next_state(&socket), "READY=1");
            signal(&old, libc::SIGTERM);
            assert_eq!(next_state(&socket), "STOPPING=1");
            if turn == 0 {
                // What the old process still has goes on to its end.
                assert_eq!(command_tags(&block.query("COMMIT")), ["COMMIT"]);
            }
            assert_eq!(old.wait().unwrap().code(), Some(0), "turn {turn}");
            old = new;
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        for one in loops {
            let count = one.join().unwrap().unwrap_or_else(|error| panic!("{error}"));
            assert!(count > 10, "{count} sessions");
        }
    });
    // Without the flag on both sides the address stays taken.
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command.args([
        "serve",
        "--listen",
        &format!("127.0.0.1:{port}"),
        "--upstream",
        "127.0.0.1:1",
    ]);
    let ran = run(command, "");
    assert!(ran.status == 1 && ran.stderr.contains("in use"), "{ran:?}");
    signal(&old, libc::SIGTERM);
    assert_eq!(old.wait().unwrap().code(), Some(0));
}
