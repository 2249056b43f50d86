//! Migration tools as people use them, unmodified, in front of tables that count as large: through the proxy each ends in
//! the schema of a direct run. A tool is a directory of tests/migrators with the same four migrations and a `migrate.sh`.

#[path = "migrators/application.rs"]
mod application;

use application::Application;
use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::{Ran, Stage, cluster, run};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Every table counts as large.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\npause_ms = 1\n[lock]\npause_ms = 20\n[rules]\ndrop-column = \"allow\"\nrename-column = \"allow\"\n";

/// What the application has written between the first migration and the others.
const ROWS: &str = "
INSERT INTO authors (name, email) SELECT 'name ' || g, 'mail' || g FROM generate_series(1, 200) g;
INSERT INTO books (author_id, title, isbn, pages) SELECT 1 + g % 200, 'title ' || g, 'isbn ' || g, g FROM generate_series(1, 20000) g;
ANALYZE authors, books;";

/// How far to migrate.
#[derive(Clone, Copy)]
enum To {
    First,
    Last,
}

struct Tool {
    /// Its directory.
    name: &'static str,
    /// SQLAlchemy's driver, where that matters.
    driver: &'static str,
}

impl Tool {
    /// Runs the tool as its users do, in a copy of its directory.
    fn migrate(&self, stage: &Stage, to: To) -> Ran {
        match self.name {
            "sqlx" | "refinery" => in_process(self.name, stage, to),
            _ => self.program(stage, to),
        }
    }

    fn program(&self, stage: &Stage, to: To) -> Ran {
        let home = tempfile::tempdir().expect("a temporary directory");
        copy(&source(self.name), home.path());
        let mut command = Command::new("bash");
        clean_environment(&mut command);
        command.args(["migrate.sh", if matches!(to, To::First) { "first" } else { "all" }]);
        command.current_dir(home.path()).env("HOME", home.path());
        command
            .env("PGPORT", stage.port.to_string())
            .env("PGDATABASE", &stage.database);
        command.env("DRIVER", self.driver);
        command.env("PYTHON", lockkeeper_testkit::cached("python/bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("NODE_PATH", lockkeeper_testkit::cached("node/node_modules"));
        run(command, "")
    }
}

fn source(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/migrators")).join(name)
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).expect("a directory");
    for entry in std::fs::read_dir(from).expect("the tool's directory").flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// sqlx and refinery are libraries.
fn in_process(name: &str, stage: &Stage, to: To) -> Ran {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let done = runtime.expect("a runtime").block_on(async {
        match name {
            "sqlx" => sqlx_migrate(stage, to).await,
            _ => refinery_migrate(stage, to).await,
        }
    });
    Ran {
        status: done.is_err().into(),
        stdout: String::new(),
        stderr: done.err().unwrap_or_default(),
    }
}

async fn sqlx_migrate(stage: &Stage, to: To) -> Result<(), String> {
    use sqlx::{Connection, PgConnection};
    let url = format!(
        "postgres://postgres@127.0.0.1:{}/{}?sslmode=disable",
        stage.port, stage.database
    );
    let mut connection = PgConnection::connect(&url).await.map_err(|e| e.to_string())?;
    let mut migrator = sqlx::migrate::Migrator::new(source("sqlx"))
        .await
        .map_err(|e| e.to_string())?;
    if matches!(to, To::First) {
        migrator.migrations.to_mut().truncate(1);
    }
    let done = migrator.run_direct(&mut connection).await.map_err(|e| e.to_string());
    let _ = connection.close().await;
    done
}

async fn refinery_migrate(stage: &Stage, to: To) -> Result<(), String> {
    let mut client = stage_connection(stage).await;
    let migrations = refinery::load_sql_migrations(source("refinery")).map_err(|e| e.to_string())?;
    let target = match to {
        To::First => refinery::Target::Version(1),
        To::Last => refinery::Target::Latest,
    };
    let runner = refinery::Runner::new(&migrations).set_target(target);
    runner
        .run_async(&mut client)
        .await
        .map(|_| ())
        .map_err(|e| format!("{e:?}"))
}

async fn stage_connection(stage: &Stage) -> tokio_postgres::Client {
    lockkeeper_testkit::connect_at(stage.port, &stage.database)
        .await
        .expect("a session")
        .client
}

/// The schema, and what the tool wrote of its own progress and in the tables.
fn outcome(stage: &Stage) -> String {
    let rows = "SELECT md5(string_agg(b::text, ' ' ORDER BY id)) FROM books b UNION ALL SELECT md5(string_agg(a::text, ' ' ORDER BY id)) FROM authors a";
    stage.schema() + &stage.direct(rows)
}

/// The first migration straight at the server, then the application's rows.
fn grown(tool: &Tool, mut stage: Stage) -> Stage {
    let port = std::mem::replace(&mut stage.port, stage.cluster.port());
    tool.migrate(&stage, To::First).ok();
    stage.port = port;
    stage.direct(ROWS);
    stage
}

fn ends_as_without_the_proxy(major: u32, name: &'static str, driver: &'static str) {
    let tool = Tool { name, driver };
    let direct = grown(&tool, Stage::without_proxy(cluster(major), "direct"));
    let mut proxied = grown(&tool, Stage::with(major, "proxied", POLICY));
    tool.migrate(&direct, To::Last).ok();
    let application = Application::start(&mut proxied);
    tool.migrate(&proxied, To::Last).ok();
    application.end(&proxied).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outcome(&proxied), outcome(&direct));
}

/// A row that the third migration's NOT NULL cannot stand, beside the application's: direct and proxied run fail alike, and
/// once the row is mended the tool's own retry succeeds.
fn fails_half_way(major: u32, name: &'static str, driver: &'static str) {
    let tool = Tool { name, driver };
    let direct = grown(&tool, Stage::without_proxy(cluster(major), "direct"));
    let mut proxied = grown(&tool, Stage::with(major, "proxied", POLICY));
    let application = Application::start(&mut proxied);
    for stage in [&direct, &proxied] {
        stage.direct("UPDATE books SET title = NULL WHERE id = 77");
        let ran = tool.migrate(stage, To::Last);
        assert_ne!(ran.status, 0, "{ran:?}");
        let said = ran.stdout + &ran.stderr;
        assert!(!said.contains("IS committed"), "{said}");
        stage.direct("UPDATE books SET title = 'title 77' WHERE id = 77");
    }
    assert_eq!(unfinished(&proxied), "0");
    for stage in [&direct, &proxied] {
        tool.migrate(stage, To::Last).ok();
    }
    application.end(&proxied).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(outcome(&proxied), outcome(&direct));
}

/// Jobs that are neither done nor given up; the table is there once something was left for later.
fn unfinished(stage: &Stage) -> String {
    match stage.direct("SELECT to_regclass('lockkeeper.job') IS NULL").as_str() {
        "t" => "0".into(),
        _ => stage.direct("SELECT count(*) FROM lockkeeper.job WHERE state NOT IN ('done', 'cancelled')"),
    }
}

/// Two of them: whatever either says, a third run finds everything done or does the rest.
fn two_at_once(major: u32, name: &'static str, driver: &'static str) {
    let tool = Tool { name, driver };
    let direct = grown(&tool, Stage::without_proxy(cluster(major), "direct"));
    let mut proxied = grown(&tool, Stage::with(major, "proxied", POLICY));
    tool.migrate(&direct, To::Last).ok();
    let application = Application::start(&mut proxied);
    let both = std::thread::scope(|scope| {
        let runs = [0, 1].map(|_| scope.spawn(|| tool.migrate(&proxied, To::Last)));
        runs.map(|run| run.join().expect("a run"))
    });
    assert!(both.iter().any(|ran| ran.status == 0), "{both:?}");
    tool.migrate(&proxied, To::Last).ok();
    application.end(&proxied).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(unfinished(&proxied), "0");
    assert_eq!(outcome(&proxied), outcome(&direct));
}

/// The proxy is killed while the first job waits for an old transaction; the tool's next start goes on with it.
fn killed_after_commit(major: u32, name: &'static str, driver: &'static str) {
    let tool = Tool { name, driver };
    let direct = grown(&tool, Stage::without_proxy(cluster(major), "direct"));
    let mut proxied = grown(&tool, Stage::with(major, "proxied", POLICY));
    tool.migrate(&direct, To::Last).ok();
    // An old snapshot, without a lock on any table: only a concurrent build waits for its end.
    let busy = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1; SELECT pg_sleep(600)";
    let mut old = Command::new(proxied.cluster.bin("psql").expect("psql"));
    clean_environment(&mut old);
    let port = proxied.cluster.port().to_string();
    old.args([
        "-X",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-d",
        &proxied.database,
        "-p",
        &port,
        "-c",
        busy,
    ]);
    let old = std::thread::spawn(move || run(old, ""));
    let sleeping = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    lockkeeper_testkit::until("the old transaction is there", || !proxied.direct(sleeping).is_empty());
    let ran = std::thread::scope(|scope| {
        let stage = &proxied;
        let running = scope.spawn(|| tool.migrate(stage, To::Last));
        // Not `until`: a tool takes long to start.
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%CREATE INDEX CONCURRENTLY%'";
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while stage.direct(waits) != "1" {
            if std::time::Instant::now() > deadline || running.is_finished() {
                // The tool must not wait on for what the test holds.
                let activity = stage.direct("SELECT string_agg(concat_ws(' | ', state, wait_event_type, wait_event, query), E'\\n') FROM pg_stat_activity WHERE datname = current_database()");
                stage.direct("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
                panic!("the job does not run:\n{activity}\n{:?}", running.join());
            }
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
        stage.proxy().signal(libc::SIGKILL).expect("the proxy is killed");
        running.join().expect("a run")
    });
    assert_ne!(ran.status, 0, "{ran:?}");
    proxied.kill_proxy();
    proxied.direct("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()");
    let _ = old.join().expect("psql");
    lockkeeper_testkit::until("all sessions have ended", || {
        proxied.direct("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() AND backend_type = 'client backend'") == "0"
    });
    assert_ne!(unfinished(&proxied), "0");
    proxied.start_proxy(&[]);
    tool.migrate(&proxied, To::Last).ok();
    assert_eq!(unfinished(&proxied), "0");
    assert_eq!(outcome(&proxied), outcome(&direct));
}

/// The full matrix: `LOCKKEEPER_MIGRATORS=all`. Else each tool on one version, and two of them in everything.
fn all_of_them() -> bool {
    std::env::var_os("LOCKKEEPER_MIGRATORS").is_some_and(|which| which == "all")
}

/// Those that are always run in everything, on both versions.
fn is_thorough(name: &str, driver: &str) -> bool {
    all_of_them() || matches!((name, driver), ("alembic", "psycopg") | ("node-pg-migrate", _))
}

fn plain(major: u32, name: &'static str, driver: &'static str) {
    if major == 18 || is_thorough(name, driver) {
        ends_as_without_the_proxy(major, name, driver);
    }
}

/// Those that record a migration in its own transaction: for the others a crash behind the COMMIT is one that they know nothing
/// of, with Lockkeeper or without.
const RECORD_WITHIN: &[&str] = &[
    "alembic",
    "dbmate",
    "django",
    "drizzle",
    "node-pg-migrate",
    "rails",
    "sqlx",
    "typeorm",
];

fn hard(major: u32, name: &'static str, driver: &'static str) {
    if !is_thorough(name, driver) {
        println!("left out: LOCKKEEPER_MIGRATORS=all runs it");
        return;
    }
    fails_half_way(major, name, driver);
    two_at_once(major, name, driver);
    if RECORD_WITHIN.contains(&name) {
        killed_after_commit(major, name, driver);
    }
}

macro_rules! tools {
    ($($test:ident: $name:literal $driver:literal),* $(,)?) => {
        mod on_15 { $(#[test] fn $test() { super::plain(15, $name, $driver) })* }
        mod on_18 { $(#[test] fn $test() { super::plain(18, $name, $driver) })* }
        mod hard_on_15 { $(#[test] fn $test() { super::hard(15, $name, $driver) })* }
        mod hard_on_18 { $(#[test] fn $test() { super::hard(18, $name, $driver) })* }
    };
}

tools!(
    alembic_psycopg2: "alembic" "psycopg2",
    alembic_psycopg: "alembic" "psycopg",
    alembic_asyncpg: "alembic" "asyncpg",
    django: "django" "",
    rails: "rails" "",
    knex: "knex" "",
    typeorm: "typeorm" "",
    sequelize: "sequelize" "",
    drizzle: "drizzle" "",
    node_pg_migrate: "node-pg-migrate" "",
    sqlx: "sqlx" "",
    refinery: "refinery" "",
    dbmate: "dbmate" "",
    liquibase: "liquibase" "",
);

/// A schema change that waits in the queue as PostgreSQL does, and everybody behind it: what the application's end has to notice.
#[test]
fn a_direct_run_is_seen_to_hold_the_application_up() {
    let tool = Tool {
        name: "dbmate",
        driver: "",
    };
    let mut direct = grown(&tool, Stage::without_proxy(cluster(18), "direct"));
    let application = Application::start(&mut direct);
    std::thread::scope(|scope| {
        let stage = &direct;
        let reads = "BEGIN; SELECT count(*) FROM books; SELECT pg_sleep(600)";
        let reader = scope.spawn(move || stage.direct_args(&["-c", reads], ""));
        let asleep =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sleep(600)'";
        lockkeeper_testkit::until("the reader sleeps", || stage.direct(asleep) != "0");
        let change = scope.spawn(move || stage.direct_args(&["-c", "ALTER TABLE books ADD COLUMN now int"], ""));
        lockkeeper_testkit::until("the application waits", || application::waits(stage));
        stage.direct(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE '%sleep(600)' AND pid <> pg_backend_pid()",
        );
        reader.join().expect("the reader");
        change.join().expect("the change").ok();
    });
    let seen = application.end(&direct).expect_err("it is noticed");
    assert!(seen.contains("queued for AccessExclusiveLock"), "{seen}");
    assert!(seen.contains("the application waited"), "{seen}");
}
