//! Migration tools as people use them, unmodified, in front of tables that count as large: through the proxy each ends in
//! the schema of a direct run. A tool is a directory of tests/migrators with the same four migrations and a `migrate.sh`.

mod common;

use common::{Ran, Stage, cluster, run};
use lockkeeper::cluster::clean_environment;
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
        command.env("PYTHON", common::cached("python/bin/python"));
        command.env("PYTHONDONTWRITEBYTECODE", "1");
        command.env("NODE_PATH", common::cached("node/node_modules"));
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
    common::connect_at(stage.port, &stage.database)
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
    let proxied = grown(&tool, Stage::with(major, "proxied", POLICY));
    tool.migrate(&direct, To::Last).ok();
    tool.migrate(&proxied, To::Last).ok();
    assert_eq!(outcome(&proxied), outcome(&direct));
}

macro_rules! tools {
    ($($test:ident: $name:literal $driver:literal),* $(,)?) => {
        mod on_15 { $(#[test] fn $test() { super::ends_as_without_the_proxy(15, $name, $driver) })* }
        mod on_18 { $(#[test] fn $test() { super::ends_as_without_the_proxy(18, $name, $driver) })* }
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
