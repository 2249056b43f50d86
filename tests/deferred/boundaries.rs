//! The end of the proxy or of the server's process before each statement that changes something, from the COMMIT to the job's end; and
//! each of the ways to go on. `LOCKKEEPER_CRASHES=all`: before every statement, each time in all ways.

use super::*;
use lockkeeper_testkit::relay::{Harm, Relay};
use lockkeeper_testkit::{cluster, until};

const WAYS: [&str; 4] = ["tool", "statement", "call", "jobs resume"];

/// A statement of the proxy's or the client's on its way to the server.
fn sql(frame: &[u8]) -> Option<&[u8]> {
    match frame[0] {
        b'Q' => Some(&frame[5..]),
        b'P' => frame[5..].iter().position(|byte| *byte == 0).map(|at| &frame[6 + at..]),
        _ => None,
    }
}

fn any(frame: &[u8]) -> bool {
    sql(frame).is_some()
}

fn changing(frame: &[u8]) -> bool {
    sql(frame).is_some_and(|sql| !sql.starts_with(b"SELECT") && !sql.starts_with(b"WITH"))
}

fn thorough() -> bool {
    std::env::var_os("LOCKKEEPER_CRASHES").is_some_and(|which| which == "all")
}

/// At the `at`-th statement. False: there are not so many.
async fn cut(major: u32, sql: &str, expect: &str, at: u64, kill: bool, way: &str) -> bool {
    let mut stage = stage(major, "cut");
    let relay = Relay::counting(stage.cluster.port(), if thorough() { any } else { changing });
    stage.kill_proxy();
    stage.start_proxy_at(relay.port);
    let session = stage.connect().await;
    all(&session, &["BEGIN", sql])
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let pid = run(&session, "SELECT pg_backend_pid()").await.unwrap().remove(0);
    let harm = match kill {
        true => Harm::KillProxy(stage.proxy().pid()),
        false => Harm::Terminate,
    };
    relay.arm(Some((at, harm)));
    let committed = session.client.simple_query("COMMIT").await;
    let (_, done) = relay.disarm();
    if !done {
        committed.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
        assert_eq!(
            (jobs(&stage).as_str(), stage.schema().as_str()),
            ("deferred done", expect),
            "{sql}"
        );
        return false;
    }
    let told = format!("{sql}, {harm:?} at statement {at}, then {way}");
    stage.kill_proxy();
    stage.start_proxy(&[]);
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    until(&told, || stage.direct(&gone) == "0");
    match jobs(&stage).as_str() {
        "" => {
            // The COMMIT never came, and nothing is left.
            let again = stage.connect().await;
            all(&again, &["BEGIN", sql, "COMMIT"])
                .await
                .unwrap_or_else(|e| panic!("{told}: {e:?}"));
        }
        "deferred done" => {}
        _ => go_on(&stage, way, sql).await,
    }
    assert_eq!(
        (jobs(&stage).as_str(), stage.schema().as_str()),
        ("deferred done", expect),
        "{told}"
    );
    true
}

async fn every_boundary(major: u32, sql: &str) {
    let direct = Stage::without_proxy(cluster(major), "direct");
    direct.direct(TABLES);
    direct.direct(sql);
    let expect = direct.schema();
    let mut at = 0;
    'all: loop {
        at += 1;
        // Which of the eight comes where differs from statement to statement.
        let turn = at as usize + sql.len();
        let one = [((turn + turn / 4).is_multiple_of(2), WAYS[turn % 4])];
        let every = [true, false].map(|kill| WAYS.map(|way| (kill, way)));
        for (kill, way) in if thorough() { every.as_flattened() } else { &one } {
            if !cut(major, sql, &expect, at, *kill, way).await {
                break 'all;
            }
        }
    }
    assert!(at > 5, "{sql}: only {at} boundaries");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_build_goes_on_from_every_boundary() {
    every_boundary(18, "CREATE INDEX a ON books (title)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_unique_constraint_goes_on_from_every_boundary() {
    every_boundary(15, "ALTER TABLE books ADD CONSTRAINT u UNIQUE (other)").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn not_null_goes_on_from_every_boundary() {
    every_boundary(15, "ALTER TABLE books ALTER title SET NOT NULL").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_key_goes_on_from_every_boundary() {
    every_boundary(
        18,
        "ALTER TABLE books ADD CONSTRAINT f FOREIGN KEY (author_id) REFERENCES authors",
    )
    .await;
}
