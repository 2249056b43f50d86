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
    ("CREATE TABLE x (LIKE books)", Same),
    (
        "CREATE TABLE x (LIKE books INCLUDING DEFAULTS INCLUDING COMMENTS)",
        Same,
    ),
    ("CREATE TABLE x () INHERITS (books)", Same),
    (
        "CREATE TABLE x (id bigint NOT NULL, author_id bigint, title text, pages int, other bigint); ALTER TABLE x INHERIT books",
        Same,
    ),
    ("CREATE TABLE x (LIKE books INCLUDING ALL)", Refused("55000")),
    (
        "CREATE TABLE x (y int, LIKE books INCLUDING INDEXES, z int)",
        Refused("55000"),
    ),
    ("CREATE TEMP TABLE x (LIKE authors INCLUDING INDEXES)", Refused("55000")),
    ("CREATE TABLE x (a text REFERENCES authors (email))", Explained("42830")),
    // What waits is a key of other columns.
    (
        "ALTER TABLE books ADD CONSTRAINT f FOREIGN KEY (title) REFERENCES authors (name)",
        Explained("42830"),
    ),
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

/// A key that waits is a key already for the statements behind it.
async fn keys_that_wait(major: u32) {
    let exchange = "ALTER TABLE authors DROP CONSTRAINT authors_pkey, ADD PRIMARY KEY (email)";
    for (first, then, sqlstate) in [
        (
            exchange,
            "ALTER TABLE books ADD CONSTRAINT f FOREIGN KEY (author_id) REFERENCES authors (id)",
            "42830",
        ),
        (exchange, "ALTER TABLE authors ADD PRIMARY KEY (id)", "42P16"),
        (exchange, "ALTER TABLE authors ADD COLUMN n int PRIMARY KEY", "42P16"),
    ] {
        let stage = stage(major, "keys");
        stage.direct("ALTER TABLE books DROP CONSTRAINT IF EXISTS books_author_id_fkey");
        let session = stage.connect().await;
        all(&session, &["BEGIN", first]).await.unwrap();
        assert_eq!(code(run(&session, then).await), sqlstate, "{then}");
        run(&session, "ROLLBACK").await.unwrap();
        assert_eq!(
            stage.number("SELECT count(*) FROM pg_constraint WHERE conname = 'authors_pkey'"),
            1
        );
        let straight = Stage::without_proxy(stage.cluster, "direct");
        straight.direct(TABLES);
        straight.direct("ALTER TABLE books DROP CONSTRAINT IF EXISTS books_author_id_fkey");
        let server = straight.connect().await;
        all(&server, &["BEGIN", first]).await.unwrap();
        assert_eq!(code(run(&server, then).await), sqlstate, "{then}: straight");
    }
}

#[tokio::test]
async fn keys_that_wait_are_keys_on_15() {
    keys_that_wait(15).await;
}

#[tokio::test]
async fn keys_that_wait_are_keys_on_18() {
    keys_that_wait(18).await;
}

#[tokio::test]
async fn later_statements_meet_what_waits_on_15() {
    later(15).await;
}

#[tokio::test]
async fn later_statements_meet_what_waits_on_18() {
    later(18).await;
}

/// What a table is still to get, others that are made of it or joined to it would lack.
const FAMILIES: &[(&str, &str)] = &[
    (
        "ALTER TABLE books ALTER COLUMN title SET NOT NULL",
        "CREATE TABLE x (LIKE books)",
    ),
    (
        "ALTER TABLE books ALTER COLUMN title SET NOT NULL",
        "CREATE TABLE x (LIKE books INCLUDING CONSTRAINTS)",
    ),
    (
        "ALTER TABLE books ALTER COLUMN title SET NOT NULL",
        "CREATE TABLE x () INHERITS (books)",
    ),
    (
        "ALTER TABLE books ADD CONSTRAINT few CHECK (pages < 5000)",
        "CREATE TABLE x (LIKE books INCLUDING CONSTRAINTS)",
    ),
    (
        "ALTER TABLE books ADD CONSTRAINT few CHECK (pages < 5000)",
        "CREATE TABLE x () INHERITS (books)",
    ),
    (
        "ALTER TABLE books ADD CONSTRAINT few CHECK (pages < 5000)",
        "ALTER TABLE apart INHERIT books",
    ),
    (
        "ALTER TABLE authors ADD CONSTRAINT mail UNIQUE (email)",
        "CREATE TABLE x (LIKE authors INCLUDING ALL)",
    ),
    (
        "CREATE INDEX i ON parted (b)",
        "CREATE TABLE x PARTITION OF parted FOR VALUES FROM (1000) TO (2000)",
    ),
    (
        "CREATE INDEX i ON parted (b)",
        "CREATE TABLE x PARTITION OF parted DEFAULT",
    ),
    (
        "CREATE INDEX i ON parted (b)",
        "ALTER TABLE parted ATTACH PARTITION free FOR VALUES FROM (1000) TO (2000)",
    ),
    (
        "CREATE INDEX i ON parted (b)",
        "ALTER TABLE parted DETACH PARTITION parted_1",
    ),
    (
        "ALTER TABLE parted ADD CONSTRAINT few CHECK (b < 5000)",
        "CREATE TABLE x PARTITION OF parted DEFAULT",
    ),
    (
        "ALTER TABLE parted ALTER COLUMN b SET NOT NULL",
        "CREATE TABLE x PARTITION OF parted DEFAULT",
    ),
    (
        "CREATE INDEX i ON free (a)",
        "ALTER TABLE parted ATTACH PARTITION free FOR VALUES FROM (1000) TO (2000)",
    ),
];

async fn families(major: u32) {
    let tables = "CREATE TABLE apart (id bigint NOT NULL, author_id bigint, title text, pages int, other bigint);
        CREATE TABLE parted (a int, b int) PARTITION BY RANGE (a);
        CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
        CREATE INDEX parted_a ON parted (a);
        CREATE TABLE free (a int, b int);
        INSERT INTO parted SELECT g, g FROM generate_series(1, 900) g;
        INSERT INTO free SELECT g, g FROM generate_series(1000, 1900) g; ANALYZE";
    for (first, then) in FAMILIES {
        let stage = stage(major, "families");
        stage.direct(tables);
        let before = stage.schema();
        let session = stage.connect().await;
        let mut outcome = all(&session, &["BEGIN", first, then]).await;
        if outcome.is_ok() {
            outcome = run(&session, "COMMIT").await.map(|_| ());
        }
        match outcome {
            Ok(()) => {
                let direct = Stage::without_proxy(stage.cluster, "direct");
                direct.direct(TABLES);
                direct.direct(tables);
                direct.direct(&format!("BEGIN; {first}; {then}; COMMIT"));
                assert_eq!(schema(&stage), schema(&direct), "{first}; {then}");
            }
            Err(error) => {
                run(&session, "ROLLBACK").await.unwrap();
                assert_eq!(stage.schema(), before, "{first}; {then}: {error:?}");
            }
        }
    }
}

#[tokio::test]
async fn what_a_family_takes_over_is_waited_for_on_15() {
    families(15).await;
}

#[tokio::test]
async fn what_a_family_takes_over_is_waited_for_on_18() {
    families(18).await;
}

/// ONLY a parent: its children need not have what it gets.
async fn parents_only(major: u32) {
    for sql in [
        "ALTER TABLE ONLY books ALTER COLUMN title SET NOT NULL",
        "ALTER TABLE ONLY books ADD CONSTRAINT few CHECK (pages < 5000)",
        "ALTER TABLE ONLY books ADD CONSTRAINT few CHECK (pages < 5000) NO INHERIT",
        "ALTER TABLE ONLY books ADD CHECK (pages < 5000) NO INHERIT",
        "ALTER TABLE ONLY parted ALTER COLUMN b SET NOT NULL",
        "ALTER TABLE ONLY parted ADD CONSTRAINT few CHECK (b < 5000)",
        "ALTER TABLE books ALTER COLUMN title SET NOT NULL",
        "ALTER TABLE ONLY books ADD CONSTRAINT f FOREIGN KEY (author_id) REFERENCES authors",
    ] {
        let tables = "CREATE TABLE kid () INHERITS (books);
            INSERT INTO kid (id, title, pages) VALUES (-1, 't', 9);
            CREATE TABLE parted (a int, b int) PARTITION BY RANGE (a);
            CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
            INSERT INTO parted SELECT g, g FROM generate_series(1, 900) g; ANALYZE";
        let stage = stage(major, "only");
        stage.direct(tables);
        let direct = Stage::without_proxy(stage.cluster, "direct");
        direct.direct(TABLES);
        direct.direct(tables);
        let straight = direct.direct_args(&["-q"], sql);
        let ran = stage.psql_args(&["-q"], sql);
        assert_eq!(
            ran.stderr.contains("ERROR"),
            straight.stderr.contains("ERROR"),
            "{sql}: {} {}",
            ran.stderr,
            straight.stderr
        );
        assert_eq!(schema(&stage), schema(&direct), "{sql}");
        let noinherit = "SELECT string_agg(conname || connoinherit || convalidated, ' ' ORDER BY conname, connoinherit) FROM pg_constraint \
            WHERE conrelid IN ('books'::regclass, 'kid'::regclass, 'parted'::regclass)";
        assert_eq!(stage.direct(noinherit), direct.direct(noinherit), "{sql}");
    }
}

#[tokio::test]
async fn only_a_parent_gets_what_is_meant_for_it_on_15() {
    parents_only(15).await;
}

#[tokio::test]
async fn only_a_parent_gets_what_is_meant_for_it_on_18() {
    parents_only(18).await;
}
