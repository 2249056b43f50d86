//! The console: as psql, psycopg and node-postgres see it, and who is let in.

use super::{Admin, until};
use lockkeeper_cluster::{Cluster, Options, find};
use lockkeeper_testkit::{self, QUICK, Ran, Stage, cluster};
use std::sync::OnceLock;

fn console(stage: &Stage, arguments: &[&str], sql: &str) -> Ran {
    stage.psql_args(&[&["-d", "lockkeeper"], arguments].concat(), sql)
}

#[test]
fn psql_shows_it_as_it_shows_any_table() {
    let admin = Admin::new("console");
    let version = concat!("lockkeeper ", env!("CARGO_PKG_VERSION"));
    for arguments in [&[][..], &["-x"], &["-At"], &["-H"]] {
        let expect = admin
            .stage
            .direct_args(arguments, &format!("SELECT '{version}' AS version;"))
            .ok();
        assert_eq!(
            console(&admin.stage, arguments, "SHOW VERSION;").ok(),
            expect,
            "{arguments:?}"
        );
    }
    // Numbers stand at the right.
    let out = console(&admin.stage, &[], "SHOW STATS").ok();
    let line = out.lines().find(|line| line.contains("sessions")).expect("a line");
    assert!(
        line.starts_with(" sessions ") && line.ends_with(|c: char| c.is_ascii_digit()),
        "{out}"
    );
    let out = console(&admin.stage, &["-At"], "show rules; SHOW POLICY").ok();
    assert!(
        out.contains("\ndrop-column|reject|ACCESS EXCLUSIVE|DROP COLUMN"),
        "{out}"
    );
    assert!(out.contains("\nlock.timeout_ms|50\n"), "{out}");
    let help = console(&admin.stage, &["-At"], "SHOW").ok();
    for name in [
        "SESSIONS", "PLANS", "JOBS", "LOCKS", "RULES", "POLICY", "STATS", "VERSION", "HELP",
    ] {
        assert!(help.contains(&format!("SHOW {name}|")), "{help}");
    }
    let wrong = console(&admin.stage, &["-v", "VERBOSITY=sqlstate"], "SELECT 1;\nSHOW VERSION");
    assert!(wrong.stderr.contains("42601"), "{wrong:?}");
    assert!(wrong.stdout.contains(version), "an error ends nothing: {wrong:?}");
}

#[test]
fn sessions_are_seen_with_what_they_do() {
    let admin = Admin::new("sessions");
    let mut raw = lockkeeper_testkit::raw::Raw::connect(admin.stage.port, &admin.stage.database);
    raw.query("BEGIN");
    raw.query("SELECT 1");
    let line = || {
        let out = console(&admin.stage, &["-At", "-F", ";"], "SHOW SESSIONS").ok();
        let line = out
            .lines()
            .find(|line| line.contains(&format!(";{};", admin.stage.database)));
        line.map(str::to_owned).unwrap_or_default()
    };
    // A client has its answer before that is counted: until then the session is seen as it was after BEGIN.
    until("both statements are seen", || {
        let line = line();
        line.contains(";idle in transaction;") && line.split(';').nth(8) == Some("2")
    });
    let line = line();
    let fields: Vec<&str> = line.split(';').collect();
    assert_eq!(fields[1], "postgres", "{line}");
    let pid: i32 = fields[5].parse().expect("a process");
    let asked = admin
        .stage
        .direct(&format!("SELECT datname FROM pg_stat_activity WHERE pid = {pid}"));
    assert_eq!(asked.trim(), admin.stage.database);
}

#[test]
fn drivers_use_it_as_a_database() {
    let admin = Admin::new("drivers");
    let script = "
import asyncio, asyncpg, psycopg
version = None
with psycopg.connect(dbname='lockkeeper') as c:
    version = c.execute('SHOW VERSION').fetchone()[0]
    binary = c.cursor(binary=True).execute('SHOW STATS').fetchall()
    assert all(isinstance(row[2], float) for row in binary), binary
    try:
        c.execute('SELECT 1')
    except psycopg.errors.SyntaxError as e:
        assert 'SHOW HELP' in e.diag.message_hint
    c.rollback()
    assert c.execute('SHOW SESSIONS', prepare=True).description[0].name == 'session'
async def f():
    c = await asyncpg.connect(database='lockkeeper')
    rows = await c.fetch('SHOW STATS')
    assert rows[0]['what'] == 'uptime_s' and rows[0]['value'] > 0, rows
    await c.close()
asyncio.run(f())
print(version)";
    let version = concat!("lockkeeper ", env!("CARGO_PKG_VERSION"), "\n");
    assert_eq!(admin.stage.python(script).ok(), version);
    let script = "
const { Client } = require('pg');
(async () => {
    const c = new Client({ database: 'lockkeeper' });
    await c.connect();
    console.log((await c.query('SHOW VERSION')).rows[0].version);
    await c.query({ name: 'p', text: 'SHOW POLICY' });
    await c.end();
})();";
    assert_eq!(admin.stage.node(script).ok(), version);
}

#[test]
fn reload_tells_what_came_of_it() {
    let admin = Admin::new("reload");
    let good = console(&admin.stage, &[], "RELOAD").ok();
    assert_eq!(good, "RELOAD\n");
    std::fs::write(admin.stage.policy_file(), "extends = \"standrad\"").expect("a policy");
    let bad = console(&admin.stage, &[], "RELOAD");
    assert!(
        bad.stderr.contains("standrad") && bad.stderr.contains("stays as it was"),
        "{bad:?}"
    );
    assert!(admin.metrics().contains("lockkeeper_config_last_reload_successful 0"));
    std::fs::write(
        admin.stage.policy_file(),
        "extends = \"standard\"\n[lock]\ntimeout_ms = 77\n",
    )
    .expect("a policy");
    let out = console(&admin.stage, &["-At"], "RELOAD; SHOW POLICY").ok();
    assert!(out.contains("lock.timeout_ms|77"), "{out}");
    assert!(admin.metrics().contains("lockkeeper_config_last_reload_successful 1"));
}

#[test]
fn malformed_messages_end_only_their_session() {
    use lockkeeper_testkit::raw::{Raw, c, frame};
    let admin = Admin::new("malformed");
    let codes = |raw: &mut Raw, bytes: &[u8]| {
        raw.send(bytes);
        raw.until_ready()
    };
    let sync = frame(b'S', b"");
    for bytes in [
        frame(b'P', b"no end"),
        frame(b'B', b"x"),
        frame(b'B', &[c(""), c("missing"), vec![0; 6]].concat()),
        frame(b'D', b"Sx\0"),
        frame(b'E', b"nothing\0\0\0\0\0"),
        frame(b'F', &[0; 10]),
        frame(b'd', b"data"),
    ] {
        let mut raw = Raw::connect(admin.stage.port, "lockkeeper");
        let answer = codes(&mut raw, &[&bytes[..], &sync].concat());
        assert!(answer.iter().any(|message| message.0 == b'E'), "{bytes:?}: {answer:?}");
        let answer = raw.query("SHOW VERSION");
        assert!(answer.iter().any(|message| message.0 == b'D'), "{answer:?}");
    }
    assert!(
        console(&admin.stage, &["-At"], "SHOW VERSION")
            .ok()
            .starts_with("lockkeeper")
    );
}

const HBA: &str = "local all all trust
host all postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
";

/// A server that wants passwords.
fn guarded() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| {
        let bin_dir = find(lockkeeper_testkit::MAJOR).expect("scripts/fetch-postgres");
        let options = Options {
            bin_dir: Some(&bin_dir),
            hba: Some(HBA),
            ..Options::default()
        };
        let cluster = Cluster::start(&options).unwrap_or_else(|error| panic!("{error}"));
        let roles = "CREATE ROLE amy LOGIN PASSWORD 'secret'; CREATE ROLE bob LOGIN PASSWORD 'secret'";
        cluster
            .psql("postgres", roles)
            .unwrap_or_else(|error| panic!("{error}"));
        cluster
    })
}

fn check_who_is_let_in(stage: &Stage) {
    let enter = |user: &str, password: &str| {
        let target = format!("dbname=lockkeeper user={user} password={password}");
        stage.psql_args(&["-At", "-d", &target], "SHOW VERSION")
    };
    assert!(enter("amy", "secret").ok().starts_with("lockkeeper "));
    let wrong = enter("amy", "wrong");
    assert!(
        wrong.stderr.contains("password authentication failed for user \"amy\""),
        "{wrong:?}"
    );
    let other = enter("bob", "secret");
    assert!(
        other.stderr.contains("bob may not use the console") && other.stdout.is_empty(),
        "{other:?}"
    );
    // Who is not in gets no word about who may.
    let other = enter("bob", "wrong");
    assert!(
        other.stderr.contains("password authentication failed for user \"bob\""),
        "{other:?}"
    );
}

#[test]
fn the_server_authenticates_the_console_s_users() {
    let stage = Stage::on(guarded(), "passthrough", QUICK, &["--console-users", "amy"]);
    check_who_is_let_in(&stage);
    // Its connection is given back at once.
    until("no session is left", || {
        stage
            .direct("SELECT count(*) FROM pg_stat_activity WHERE usename = 'amy'")
            .trim()
            == "0"
    });
}

#[test]
fn the_proxy_authenticates_the_console_s_users() {
    let cluster = guarded();
    let users = "SELECT format('\"%s\" \"%s\"', rolname, rolpassword) FROM pg_authid WHERE rolcanlogin AND rolpassword IS NOT NULL";
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("users.txt");
    std::fs::write(
        &file,
        cluster
            .psql("postgres", users)
            .unwrap_or_else(|error| panic!("{error}")),
    )
    .expect("a file");
    let file = file.display().to_string();
    let arguments = ["--console-users", "amy", "--auth", "scram", "--auth-file", &file];
    check_who_is_let_in(&Stage::on(cluster, "scram", QUICK, &arguments));
}

#[test]
fn a_real_database_of_that_name_is_reached() {
    let shared = cluster(15);
    shared
        .psql("postgres", "CREATE DATABASE lockkeeper TEMPLATE template0")
        .unwrap_or_else(|error| panic!("{error}"));
    let sql = "SELECT current_database()";
    let without = Stage::on(shared, "without", QUICK, &[]);
    assert_eq!(console(&without, &["-At"], sql).ok(), "lockkeeper\n");
    let renamed = Stage::on(
        shared,
        "renamed",
        QUICK,
        &["--console-users", "postgres", "--console-database", "lk"],
    );
    assert_eq!(console(&renamed, &["-At"], sql).ok(), "lockkeeper\n");
    let out = renamed.psql_args(&["-At", "-d", "lk"], "SHOW VERSION").ok();
    assert!(out.starts_with("lockkeeper "), "{out}");
}
