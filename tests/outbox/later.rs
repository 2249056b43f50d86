//! Later statements of a transaction that meet what waits for its COMMIT.

use super::*;

/// After CREATE INDEX a, CREATE UNIQUE INDEX u and ADD UNIQUE on authors (email), all of which wait.
const WAITING: &[&str] = &[
    "BEGIN",
    "CREATE INDEX a ON books (title)",
    "CREATE UNIQUE INDEX u ON books (other)",
    "ALTER TABLE authors ADD CONSTRAINT mail UNIQUE (email)",
];

enum Then {
    /// COMMIT ends as a direct run.
    Same,
    Refused(&'static str),
    /// The server's error, which says what waits.
    Explained(&'static str),
}
use Then::{Explained, Refused, Same};

const LATER: &[(&str, Then)] = &[
    ("ALTER TABLE books ADD CONSTRAINT other_once UNIQUE USING INDEX u", Same),
    ("ALTER INDEX a RENAME TO b", Same),
    ("ALTER INDEX a SET (fillfactor = 70)", Same),
    ("COMMENT ON INDEX a IS 'mine'", Same),
    ("DROP INDEX a", Same),
    ("DROP INDEX a; CREATE INDEX a ON books (pages)", Same),
    ("ALTER TABLE authors DROP CONSTRAINT mail", Same),
    ("ALTER TABLE books CLUSTER ON a", Same),
    (
        "ALTER TABLE books ADD COLUMN mail text; ALTER TABLE books ADD CONSTRAINT f FOREIGN KEY (mail) REFERENCES authors (email)",
        Same,
    ),
    ("DROP TABLE books", Same),
    (
        "DROP TABLE books; CREATE TABLE books (id int, title text); CREATE INDEX a ON books (title)",
        Same,
    ),
    ("CREATE INDEX IF NOT EXISTS a ON books (pages)", Same),
    ("CREATE INDEX ON books (title); CREATE INDEX ON books (title)", Same),
    (
        "DROP INDEX books_old; CREATE INDEX books_other_idx ON books (other)",
        Same,
    ),
    (
        "DROP INDEX IF EXISTS books_old; CREATE UNIQUE INDEX IF NOT EXISTS books_old ON books (other, id)",
        Same,
    ),
    ("DROP INDEX books_old; CREATE INDEX books_old ON books (pages)", Same),
    ("DROP INDEX books_old; DROP INDEX IF EXISTS books_old", Same),
    (
        "DROP INDEX books_old; ALTER INDEX IF EXISTS books_old RENAME TO n",
        Same,
    ),
    ("DROP INDEX books_old; CREATE VIEW books_old AS SELECT 1 AS one", Same),
    (
        "DROP INDEX books_old; DO $$ BEGIN IF to_regclass('books_old') IS NULL THEN CREATE TABLE was_gone ();\nEND IF;\nEND $$",
        Same,
    ),
    ("ALTER TABLE books RENAME COLUMN pages TO sheets", Same),
    ("CREATE INDEX a ON books (pages)", Refused("42P07")),
    ("CREATE TABLE a (x int)", Refused("42P07")),
    ("DROP INDEX books_old; DROP INDEX books_old", Refused("42704")),
    ("ALTER TABLE books RENAME COLUMN title TO name", Refused("55000")),
    ("ALTER TABLE books DROP COLUMN title", Refused("55000")),
    ("ALTER TABLE books SET SCHEMA pg_catalog", Refused("55000")),
    ("CLUSTER books USING a", Refused("55000")),
    ("REINDEX INDEX a", Refused("55000")),
    ("SELECT 1 FROM pg_indexes WHERE indexname = 'mail'", Refused("55000")),
    ("SELECT to_regclass('public.u')", Refused("55000")),
    (
        "DO $$BEGIN IF to_regclass('a') IS NULL THEN CREATE TABLE x (a int);\nEND IF;\nEND$$",
        Refused("55000"),
    ),
    (
        "SELECT attname FROM pg_attribute WHERE attrelid = 'books'::regclass",
        Same,
    ),
    ("SELECT 1 FROM pg_indexes WHERE indexname = 'another'", Same),
    ("INSERT INTO authors (id, name) VALUES (-1, 'a'), (-2, 'mail')", Same),
    (
        "ALTER TABLE authors ADD COLUMN code text; SELECT email, name FROM authors GROUP BY email",
        Explained("42803"),
    ),
    ("CREATE TABLE x (a text REFERENCES authors (email))", Explained("42830")),
    ("CREATE TABLE x (a bigint REFERENCES books (other))", Explained("42830")),
    (
        "WITH i AS (INSERT INTO authors VALUES (1, 'n') ON CONFLICT (email) DO NOTHING RETURNING 1) SELECT 1",
        Explained("42P10"),
    ),
    (
        "INSERT INTO books (id, other) VALUES (1, 1) ON CONFLICT DO NOTHING",
        Refused("55000"),
    ),
    (
        "INSERT INTO authors (id, email) VALUES (1, 'm1') ON CONFLICT (email) DO NOTHING",
        Refused("55000"),
    ),
    (
        "INSERT INTO authors (id, email) VALUES (1, 'm1') ON CONFLICT ON CONSTRAINT mail DO NOTHING",
        Refused("55000"),
    ),
];

/// Also the comment, which `Stage::schema` leaves out.
fn schema(stage: &Stage) -> String {
    stage.schema() + &stage.direct("SELECT coalesce(string_agg(description, ' '), '') FROM pg_description WHERE objoid >= 16384 AND classoid = 'pg_class'::regclass AND objsubid = 0 AND description !~ '^lockkeeper'")
}

async fn later(major: u32) {
    for (sql, then) in LATER {
        let stage = stage(major, "later");
        let session = stage.connect().await;
        all(&session, WAITING).await.unwrap();
        let mut outcome = Ok(());
        for one in sql.split("; ") {
            outcome = outcome.and(run(&session, one).await.map(|_| ()));
        }
        match then {
            Same => {
                outcome.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                run(&session, "COMMIT").await.unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                let direct = Stage::without_proxy(stage.cluster, "direct");
                direct.direct(TABLES);
                direct.direct(&format!("{}; {sql}; COMMIT", WAITING.join("; ")));
                assert_eq!(schema(&stage), schema(&direct), "{sql}");
                let left = jobs(&stage);
                assert!(!left.contains("waiting") && !left.contains("failed"), "{sql}: {left}");
            }
            Refused(sqlstate) | Explained(sqlstate) => {
                let error = outcome.expect_err(sql);
                if matches!(then, Explained(_)) {
                    let detail = error.detail().unwrap_or_default();
                    assert!(
                        detail.contains("only after COMMIT") && detail.contains("mail (job"),
                        "{sql}: {error:?}"
                    );
                }
                assert_eq!(error.code().code(), *sqlstate, "{sql}: {error:?}");
                assert_eq!(code(run(&session, "SELECT 1").await), "25P02", "{sql}");
                run(&session, "ROLLBACK").await.unwrap();
                assert_eq!(
                    (indexes(&stage).as_str(), jobs(&stage).as_str()),
                    ("books_old", ""),
                    "{sql}"
                );
            }
        }
    }
}

#[tokio::test]
async fn later_statements_meet_what_waits_on_15() {
    later(15).await;
}

#[tokio::test]
async fn later_statements_meet_what_waits_on_18() {
    later(18).await;
}
