//! Ordinary disasters: what is told, what is left behind, and that nobody else notices.

mod clients;
mod crash;
mod encodings;
mod operation;
mod replication;
mod upstream;

use lockkeeper_testkit::raw::{Raw, c, frame, rows, startup};
use lockkeeper_testkit::{Stage, cluster, until};

/// Every table counts as large, and nothing waits long.
const LARGE: &str = "extends = \"standard\"\n\n[table]\nsmall_bytes = 0\n\n[lock]\npause_ms = 10\n\n\
                     [backfill]\nrows_max = 50\nbatch_rows = 100\nbatch_target_ms = 0\npause_ms = 1\n";

const USERS: &str = "
    CREATE TABLE orgs (id int PRIMARY KEY);
    INSERT INTO orgs SELECT generate_series(1, 10);
    CREATE TABLE users (id bigint PRIMARY KEY, email text, org_id int, seen boolean);
    INSERT INTO users SELECT n, 'u' || n, 1 + n % 10 FROM generate_series(1, 1000) n;
    ANALYZE;";

/// Waits until the query answers `t`.
#[track_caller]
fn wait_for(watch: &mut Raw, sql: &str) {
    let mut last = Vec::new();
    until(sql, || {
        last = watch.query(sql);
        rows(&last) == ["t"]
    });
}

/// A session of that application_name at that port.
fn session(port: u16, database: &str, application_name: &str) -> Raw {
    let mut raw = Raw::open(port);
    raw.send(&startup(&[
        ("user", "postgres"),
        ("database", database),
        ("application_name", application_name),
        // So that a server process which is busy notices that its client has gone.
        ("options", "-c client_connection_check_interval=50"),
    ]));
    let messages = raw.until_ready();
    raw.key = messages
        .into_iter()
        .find(|(tag, _)| *tag == b'K')
        .expect("BackendKeyData")
        .1;
    raw
}

fn pid_of(raw: &Raw) -> i32 {
    i32::from_be_bytes(raw.key[..4].try_into().unwrap())
}

/// True once the server has no session of that name.
fn gone(application_name: &str) -> String {
    format!("SELECT count(*) = 0 FROM pg_stat_activity WHERE application_name = '{application_name}'")
}

/// True once a session of that name is idle or waits, after it has sent something like this.
fn at(application_name: &str, query: &str) -> String {
    format!(
        "SELECT count(*) = 1 FROM pg_stat_activity WHERE application_name = '{application_name}' AND query LIKE '{query}'"
    )
}

/// Other sessions of the same proxy keep working.
#[track_caller]
fn works(stage: &Stage) {
    let mut raw = Raw::connect(stage.port, &stage.database);
    assert_eq!(rows(&raw.query("SELECT 6 * 7")), ["42"]);
}

/// A shared server, with the policy [`LARGE`] and the tables [`USERS`].
fn large(major: u32, name: &str) -> Stage {
    let stage = Stage::on(cluster(major), name, LARGE, &[]);
    stage.direct(USERS);
    stage
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &c(sql))
}
