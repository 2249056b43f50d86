//! Schema changes inside a transaction: what is long is left for after COMMIT, as a row that ROLLBACK takes away, proven before
//! it is accepted, and carried out before the client hears of its COMMIT. The oracle is the server's catalog and, for what must
//! look the same, a direct run.

mod boundaries;
mod commits;
mod crashes;
mod exchange;
mod later;
mod waits;
mod writes;

use lockkeeper_testkit::{Connection, Stage, own_cluster};
use tokio_postgres::SimpleQueryMessage;
use tokio_postgres::error::DbError;

/// Every table counts as large, and nobody has to wait long.
pub const POLICY: &str = "extends = \"standard\"
[table]
small_bytes = 0
[lock]
pause_ms = 20
give_up_after_s = 10
give_up_in_transaction_s = 2
[rules]
drop-table = \"allow\"
rename-column = \"allow\"
drop-column = \"allow\"
[backfill]
pause_ms = 1
";

const TABLES: &str = "
CREATE TABLE authors (id bigint PRIMARY KEY, name text, email text);
CREATE TABLE books (id bigint PRIMARY KEY, author_id bigint, title text, pages int, other bigint);
INSERT INTO authors SELECT g, 'n' || g, 'm' || g FROM generate_series(1, 100) g;
INSERT INTO books SELECT g, 1 + g % 100, 't' || g, g, g FROM generate_series(1, 1000) g;
CREATE INDEX books_old ON books (other);
ANALYZE authors, books;";

pub fn stage(major: u32, name: &str) -> Stage {
    let mut stage = Stage::with(major, name, POLICY);
    stage.direct(TABLES);
    stage.mark();
    stage
}

/// The unfinished jobs' number and the names of valid and of invalid indexes on both tables, primary keys aside.
pub fn indexes(stage: &Stage) -> String {
    stage.direct(
        "SELECT coalesce(string_agg(c.relname || CASE WHEN i.indisvalid THEN '' ELSE ' INVALID' END, ' ' ORDER BY c.relname), '') \
         FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid IN (to_regclass('books')::oid, to_regclass('authors')::oid) AND NOT i.indisprimary",
    )
}

/// `kind state` of all jobs; nothing where there is no such table.
pub fn jobs(stage: &Stage) -> String {
    if stage.direct("SELECT to_regclass('lockkeeper.job') IS NULL") == "t" {
        return String::new();
    }
    stage.direct("SELECT coalesce(string_agg(kind || ' ' || state, ', ' ORDER BY id), '') FROM lockkeeper.job")
}

/// Both, as they are now.
#[track_caller]
pub fn left(stage: &Stage, names: &str, states: &str) {
    assert_eq!((indexes(stage).as_str(), jobs(stage).as_str()), (names, states));
}

pub async fn run(connection: &Connection, sql: &str) -> Result<Vec<String>, DbError> {
    let done = connection.client.simple_query(sql).await;
    match done {
        Ok(messages) => Ok(messages
            .iter()
            .filter_map(|message| match message {
                SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
                _ => None,
            })
            .collect()),
        Err(error) => Err(error.as_db_error().unwrap_or_else(|| panic!("{error:?}")).clone()),
    }
}

#[track_caller]
pub fn code(outcome: Result<Vec<String>, DbError>) -> String {
    outcome.expect_err("it fails").code().code().to_owned()
}

/// All in one session, each a message of its own; stops at the first error, which it gives.
pub async fn all(connection: &Connection, statements: &[&str]) -> Result<(), DbError> {
    for sql in statements {
        run(connection, sql).await?;
    }
    Ok(())
}

/// A job that was cut off is gone on with, in one of the ways there are.
pub async fn go_on(stage: &Stage, way: &str, statement: &str) {
    let of = format!(
        "SELECT id FROM lockkeeper.job WHERE statement = '{}' AND state NOT IN ('done', 'cancelled')",
        statement.replace('\'', "''")
    );
    let session = stage.connect().await;
    let done = match way {
        // The next start of a migration tool.
        "tool" => {
            run(
                &session,
                "SELECT 1 AS schema_migrations_version WHERE 'schema_migrations' <> ''",
            )
            .await
        }
        "statement" => run(&session, statement).await,
        "call" => run(&session, &format!("CALL lockkeeper.resume({})", stage.direct(&of))).await,
        "jobs resume" => {
            let dsn = format!(
                "host=127.0.0.1 port={} user=postgres dbname={}",
                stage.cluster.port(),
                stage.database
            );
            let policy = stage.policy_file();
            let id = stage.direct(&of);
            let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
            command
                .args(["jobs", "--dsn", &dsn, "resume", &id, "--policy"])
                .arg(&policy);
            let ran = lockkeeper_testkit::run(command, "");
            let said = ran.ok();
            assert!(said.starts_with(&format!("job {id} is done: ")), "{said}");
            // What was done, of a schema change in words.
            assert!(said.contains(" rows in all") || said.contains(statement), "{said}");
            Ok(Vec::new())
        }
        other => panic!("{other}"),
    };
    done.unwrap_or_else(|e| panic!("{way}: {statement}: {e:?}"));
}
