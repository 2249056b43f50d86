//! Batches wait for a real standby: one that replays nothing, and one that does not even answer.

use lockkeeper_cluster::Cluster;
use lockkeeper_testkit::{Connection, Stage, on_both, own_cluster, runs, until};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_postgres::error::DbError;

/// 20,000 rows of 2 kB in 100 batches with 30 ms between them: what waits for nobody takes 3 s and more.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 100\nbatch_rows = 200\n\
                      batch_target_ms = 0\npause_ms = 30\nreplica_lag_max_ms = 700\nwal_max_percent = 0\nnotice_s = 1\n";
const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, filling text, n integer NOT NULL DEFAULT 0);
ALTER TABLE t ALTER filling SET STORAGE PLAIN;
INSERT INTO t SELECT i, (SELECT string_agg(md5(i::text || j), '') FROM generate_series(1, 60) j) FROM generate_series(1, 20000) i;
VACUUM ANALYZE t;";
const ROWS: u64 = 20_000;
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(60);
const LAG: &str = "SELECT coalesce(max(extract(epoch FROM replay_lag) * 1000), 0)::int FROM pg_stat_replication";
const IN_STEP: &str =
    "SELECT count(*) = 1 AND bool_and(replay_lsn = pg_current_wal_flush_lsn()) FROM pg_stat_replication";

on_both!(batches_wait_for_a_replica);

fn batches_wait_for_a_replica(major: u32) {
    // A leaked cluster is stopped by its guardian when this process ends.
    let primary: &'static Cluster = Box::leak(Box::new(own_cluster(
        major,
        &[
            ("autovacuum", "off"),
            ("wal_sender_timeout", "0"),
            ("max_wal_size", "4GB"),
        ],
    )));
    let standby = primary
        .standby(&[("wal_receiver_status_interval", "1"), ("wal_receiver_timeout", "0")])
        .expect("a standby");
    let stage = Stage::on(primary, "replica", POLICY, &[]);
    stage.direct(TABLE);
    until("the standby is in step", || stage.direct(IN_STEP) == "t");
    runs(async {
        a_replica_that_replays_nothing(&stage, &standby).await;
        a_replica_that_does_not_answer(&stage, &standby).await;
    });
    until("the standby has it all", || {
        standby.psql(&stage.database, "SELECT sum(n) FROM t") == Ok((2 * ROWS).to_string())
    });
}

const COUNT_UP: &str = "UPDATE t SET n = n + 1";

async fn a_replica_that_replays_nothing(stage: &Stage, standby: &Cluster) {
    standby
        .psql("postgres", "SELECT pg_wal_replay_pause()")
        .expect("paused");
    stage.direct("CREATE TABLE not_replayed ()");
    until("the lag is seen", || {
        stage.direct(LAG).parse().is_ok_and(|ms: u64| ms > 800)
    });
    let Connection { client, mut notices } = stage.connect().await;
    let meanwhile = async {
        assert_eq!(waits(stage, &mut notices).await, 0);
        standby
            .psql("postgres", "SELECT pg_wal_replay_resume()")
            .expect("resumed");
    };
    let (rows, ()) = tokio::join!(client.execute(COUNT_UP, &[]), meanwhile);
    assert_eq!(rows.expect("done"), ROWS);
    until("the standby is in step", || stage.direct(IN_STEP) == "t");
}

/// No reply comes, so that replay_lag stays as it was; only the WAL that it has not got tells.
async fn a_replica_that_does_not_answer(stage: &Stage, standby: &Cluster) {
    let receiver = standby
        .psql("postgres", "SELECT pid FROM pg_stat_wal_receiver")
        .expect("its pid");
    let receiver: i32 = receiver.parse().expect("one process");
    // SAFETY: kill(2) has no memory effects; the process is a child of our own standby.
    let signal = |signal| assert_eq!(unsafe { libc::kill(receiver, signal) }, 0);
    until("no lag is left", || stage.direct(LAG) == "0");
    signal(libc::SIGSTOP);
    let Connection { client, mut notices } = stage.connect().await;
    let meanwhile = async {
        let batches = waits(stage, &mut notices).await;
        let lag = stage.direct(LAG);
        signal(libc::SIGCONT);
        assert!(batches > 0 && lag == "0", "{batches} batches, replay_lag {lag}");
    };
    let (rows, ()) = tokio::join!(client.execute(COUNT_UP, &[]), meanwhile);
    assert_eq!(rows.expect("done"), ROWS);
}

/// Told once, and a second later still, with no batch between: how many there were.
async fn waits(stage: &Stage, notices: &mut UnboundedReceiver<DbError>) -> u64 {
    let mut told = Vec::new();
    while told.len() < 2 {
        let notice = tokio::time::timeout(PATIENCE, notices.recv())
            .await
            .expect("it waits")
            .expect("a notice");
        if notice.message().contains("waits: the replica standby is ") {
            let batches = stage.direct("SELECT batches FROM lockkeeper.job ORDER BY id DESC LIMIT 1");
            told.push(batches.parse().expect("a number"));
        }
    }
    assert_eq!(told[0], told[1]);
    told[0]
}
