//! A list of servers, with real streaming replication: sessions go to the one that fits, leave the one that does not any more, and a job
//! goes on where it was.

use lockkeeper_cluster::Cluster;
use lockkeeper_testkit::raw::{Raw, startup};
use lockkeeper_testkit::{Connection, Ran, Stage, on_both, own_cluster, runs, until};
use tokio_postgres::error::SqlState;

/// 20,000 rows in 100 batches with 30 ms between them: long enough to lose a server in the middle.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 100\nbatch_rows = 200\n\
                      batch_target_ms = 0\npause_ms = 30\nwal_max_percent = 0\n";
const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0);
INSERT INTO t SELECT i FROM generate_series(1, 20000) i; VACUUM ANALYZE t;";
const COUNT_UP: &str = "UPDATE t SET n = n + 1";
const IN_RECOVERY: &str = "SELECT pg_is_in_recovery()";
const CONTROL: [&str; 2] = ["--control-dsn", "user=postgres dbname=postgres"];

/// Before --unacknowledged-s would end a session.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(25);

struct Pair {
    stage: Stage,
    primary: &'static Cluster,
    standby: Cluster,
}

fn pair(major: u32, name: &str) -> Pair {
    // A leaked cluster is stopped by its guardian when this process ends.
    let primary: &'static Cluster = Box::leak(Box::new(own_cluster(major, &[("autovacuum", "off")])));
    let stage = Stage::without_proxy(primary, name);
    std::fs::write(stage.policy_file(), POLICY).expect("the policy is written");
    let standby = primary.standby(&[]).expect("a standby");
    Pair {
        stage,
        primary,
        standby,
    }
}

impl Pair {
    /// A proxy that knows the standby first, so that the order alone never gives the right answer.
    fn start(&mut self, arguments: &[&str]) {
        let list = format!("127.0.0.1:{},127.0.0.1:{}", self.standby.port(), self.primary.port());
        self.stage.start_proxy_before(&list, arguments);
    }

    fn promote(&self) {
        let promoted = self.standby.psql("postgres", "SELECT pg_promote()");
        assert_eq!(promoted, Ok("t".into()));
    }

    fn in_step(&self) {
        let lsn = self.stage.direct("SELECT pg_current_wal_lsn()");
        let has = format!("SELECT pg_last_wal_replay_lsn() >= '{lsn}'");
        until("the standby is in step", || {
            self.standby.psql("postgres", &has) == Ok("t".into())
        });
    }

    fn signal_primary(&self, signal: i32) {
        // SAFETY: kill(2) has no memory effects; the process is our own postmaster.
        assert_eq!(unsafe { libc::kill(self.primary.pid(), signal) }, 0);
    }

    fn asks(&self, sql: &str) -> Ran {
        self.stage.psql_args(&["-q", "-A", "-t"], sql)
    }
}

on_both!(
    a_job_goes_on_exactly_once_on_the_promoted_standby,
    sessions_go_to_the_server_that_fits,
    sessions_leave_a_demoted_server,
    sessions_leave_a_server_that_hangs,
    a_proven_client_is_sent_away_once,
);

fn a_job_goes_on_exactly_once_on_the_promoted_standby(major: u32) {
    let mut pair = pair(major, "job");
    pair.stage.direct(TABLE);
    pair.start(&CONTROL);
    runs(async {
        let Connection { client, .. } = pair.stage.connect().await;
        let updating = tokio::spawn(async move { client.execute(COUNT_UP, &[]).await });
        let batches = "SELECT coalesce((SELECT max(batches) FROM lockkeeper.job), 0)";
        until("some batches are on the standby", || {
            let done = pair.standby.psql(&pair.stage.database, batches);
            done.is_ok_and(|done| done.parse().is_ok_and(|done: u64| done >= 5))
        });
        pair.signal_primary(libc::SIGKILL);
        let updated = updating.await.expect("no panic");
        updated.expect_err("its server has died");
    });
    // Nobody can take writes now: what is said is that it is for now.
    let mut raw = Raw::open(pair.stage.port);
    raw.send(&startup(&[("user", "postgres"), ("database", &pair.stage.database)]));
    let refused = raw.receive().expect("an answer");
    let text = String::from_utf8_lossy(&refused.1);
    assert!(refused.0 == b'E' && text.contains("C57P03\0"), "{text}");
    let left = pair
        .standby
        .psql(&pair.stage.database, "SELECT count(*) FROM t WHERE n = 0")
        .expect("it answers");
    assert!(left.parse().is_ok_and(|left: u64| left > 0 && left < 20_000), "{left}");
    pair.promote();
    until("the promoted server is found", || pair.asks("SELECT 1").status == 0);
    let done = pair.asks(&format!("{COUNT_UP};"));
    assert_eq!(done.status, 0, "{}", done.stderr);
    let rows = "SELECT min(n), max(n), count(*) FROM t";
    assert_eq!(pair.standby.psql(&pair.stage.database, rows), Ok("1|1|20000".into()));
}

fn sessions_go_to_the_server_that_fits(major: u32) {
    let mut pair = pair(major, "fits");
    pair.in_step();
    for control in [&[][..], &CONTROL[..]] {
        for (target, standby) in [
            ("read-write", "f"),
            ("primary", "f"),
            ("read-only", "t"),
            ("standby", "t"),
            ("prefer-standby", "t"),
            ("any", "t"),
        ] {
            pair.start(&[&["--target-session-attrs", target], control].concat());
            assert_eq!(pair.asks(IN_RECOVERY).ok().trim(), standby, "{target}");
            // A cancel request goes to the session's own server.
            runs(async {
                let Connection { client, .. } = pair.stage.connect().await;
                let token = client.cancel_token();
                let server = if standby == "t" { &pair.standby } else { pair.primary };
                let sleeps = async {
                    let slept = client.simple_query("SELECT pg_sleep(60)").await.expect_err("cancelled");
                    assert_eq!(slept.code(), Some(&SqlState::QUERY_CANCELED));
                };
                let cancel = async {
                    until("it sleeps", || {
                        let sleeps = "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'";
                        server.psql("postgres", sleeps) == Ok("1".into())
                    });
                    token.cancel_query(tokio_postgres::NoTls).await.expect("sent");
                };
                tokio::join!(sleeps, cancel);
            });
        }
    }
    // A role whose transactions are read-only by default is served where that is asked for, as by libpq.
    pair.stage
        .direct("ALTER ROLE postgres SET default_transaction_read_only = on");
    pair.in_step();
    pair.start(&["--target-session-attrs", "primary"]);
    assert_eq!(pair.asks(IN_RECOVERY).ok().trim(), "f");
    pair.start(&["--target-session-attrs", "read-write"]);
    let refused = pair.asks(IN_RECOVERY);
    assert!(
        refused.stderr.contains("no server of --upstream is read-write now")
            && refused.stderr.contains("is a standby")
            && refused.stderr.contains("default_transaction_read_only"),
        "{}",
        refused.stderr
    );
}

fn sessions_leave_a_demoted_server(major: u32) {
    let mut pair = pair(major, "demoted");
    pair.stage.direct(TABLE);
    pair.in_step();
    pair.start(&CONTROL);
    runs(async {
        let idle = pair.stage.connect().await.client;
        let busy = pair.stage.connect().await.client;
        busy.batch_execute("BEGIN; INSERT INTO t VALUES (0)")
            .await
            .expect("begun");
        pair.in_step();
        pair.promote();
        pair.stage
            .direct("ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()");
        until("the idle session has ended", || idle.is_closed());
        assert!(!busy.is_closed());
        busy.batch_execute("COMMIT")
            .await
            .expect("its transaction goes on to its end");
        until("the other one ends behind its transaction", || busy.is_closed());
    });
    let port = pair.asks("SHOW port").ok();
    assert_eq!(port.trim(), pair.standby.port().to_string());
    assert!(pair.stage.direct("SELECT count(*) FROM t WHERE id = 0") == "1");
}

fn sessions_leave_a_server_that_hangs(major: u32) {
    let mut pair = pair(major, "hangs");
    pair.in_step();
    pair.start(&CONTROL);
    runs(async {
        let Connection { client, .. } = pair.stage.connect().await;
        client.simple_query("SELECT 1").await.expect("it answers");
        let of_clients =
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()";
        let pids = pair.stage.direct(of_clients);
        let signal_all = |signal| {
            pair.signal_primary(signal);
            for pid in pids.lines() {
                let pid: i32 = pid.parse().expect("a process");
                // SAFETY: kill(2) has no memory effects; the process is a backend of our own server.
                assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
            }
        };
        // As a machine that has stopped: nobody there says anything any more.
        signal_all(libc::SIGSTOP);
        let promoted = pair.standby.psql("postgres", "SELECT pg_promote()");
        let ended = tokio::time::timeout(PATIENCE, client.simple_query("SELECT 1")).await;
        let next = pair.asks("SHOW port");
        signal_all(libc::SIGCONT);
        assert_eq!(promoted, Ok("t".into()));
        let ended = ended.expect("within seconds").expect_err("its server hangs");
        assert_eq!(ended.code(), Some(&SqlState::CONNECTION_FAILURE));
        assert_eq!(next.ok().trim(), pair.standby.port().to_string());
    });
}

/// A client that has proven its password to a standby cannot be moved, and is told to come again; the proxy itself can move it.
fn a_proven_client_is_sent_away_once(major: u32) {
    let mut pair = pair(major, "proven");
    pair.stage
        .direct("CREATE ROLE app LOGIN PASSWORD 'secret'; GRANT ALL ON SCHEMA public TO PUBLIC");
    pair.in_step();
    let hba = "host all postgres 127.0.0.1/32 trust\nlocal all all trust\nhost all all 127.0.0.1/32 scram-sha-256\n";
    for cluster in [pair.primary, &pair.standby] {
        cluster.write_data_file("pg_hba.conf", hba).expect("written");
        cluster.psql("postgres", "SELECT pg_reload_conf()").expect("read");
        until("the rules are in force", || {
            cluster.psql("postgres", "SELECT count(*) FROM pg_hba_file_rules") == Ok("3".into())
        });
    }
    let ask = |pair: &Pair| {
        let dsn = format!(
            "host=127.0.0.1 port={} user=app password=secret dbname={}",
            pair.stage.port, pair.stage.database
        );
        runs(async {
            let (client, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls).await?;
            tokio::spawn(connection);
            client
                .query_one(IN_RECOVERY, &[])
                .await
                .map(|row| row.get::<_, bool>(0))
        })
    };
    pair.start(&[]);
    let code = ask(&pair).expect_err("the standby was asked first").code().cloned();
    assert_eq!(code, Some(SqlState::CANNOT_CONNECT_NOW));
    assert!(!ask(&pair).expect("the primary"));
    pair.start(&CONTROL);
    assert!(!ask(&pair).expect("the primary"));
    let verifier = pair
        .stage
        .direct("SELECT rolpassword FROM pg_authid WHERE rolname = 'app'");
    let file = pair.stage.policy_file().with_file_name("users");
    std::fs::write(&file, format!("\"app\" \"{verifier}\"\n")).expect("written");
    pair.start(&["--auth", "scram", "--auth-file", &file.display().to_string()]);
    assert!(!ask(&pair).expect("moved by the proxy"));
}

/// A server that takes nobody now is passed by, whatever is asked for.
#[test]
fn a_server_that_is_not_ready_is_passed_by() {
    let mut pair = pair(18, "cold");
    pair.standby = pair.primary.standby(&[("hot_standby", "off")]).expect("a cold standby");
    pair.start(&["--target-session-attrs", "any"]);
    assert_eq!(pair.asks(IN_RECOVERY).ok().trim(), "f");
}

/// Before PostgreSQL 14 a server does not say what it is, and is asked.
#[test]
fn an_old_server_is_asked() {
    let mut stage = Stage::without_proxy(lockkeeper_testkit::cluster(13), "old");
    std::fs::write(stage.policy_file(), POLICY).expect("the policy is written");
    let server = format!("127.0.0.1:{}", stage.cluster.port());
    stage.start_proxy_before(&server, &["--target-session-attrs", "primary"]);
    assert_eq!(stage.psql_args(&["-q", "-A", "-t"], IN_RECOVERY).ok().trim(), "f");
    stage.start_proxy_before(&server, &["--target-session-attrs", "standby"]);
    let refused = stage.psql("SELECT 1").stderr;
    assert!(refused.contains("no server of --upstream is standby now"), "{refused}");
}
