//! Transactions that commit, or do not, in every shape; and what is proven before.

use super::*;

/// What a migration does, and its end is a direct run's.
const MIGRATION: &[&str] = &[
    "CREATE INDEX ON books (title)",
    "CREATE UNIQUE INDEX books_once ON books (lower(title)) WHERE pages > 5",
    "ALTER TABLE books ADD COLUMN status text NOT NULL DEFAULT 'x', ADD CONSTRAINT positive CHECK (pages > 0), ALTER title SET NOT NULL",
    "ALTER TABLE books ADD CONSTRAINT of_author FOREIGN KEY (author_id) REFERENCES authors",
    "ALTER TABLE authors ADD UNIQUE (email)",
    "ALTER TABLE books ADD COLUMN grade int DEFAULT 1 CHECK (grade > 0)",
    "ALTER TABLE books ADD COLUMN code text UNIQUE",
    "DROP INDEX books_old",
    "INSERT INTO books (id, author_id, title, pages) VALUES (5000, 1, 'last', 1)",
];

async fn ends_as_a_direct_run(major: u32) {
    for shape in ["messages", "one message", "implicit", "extended"] {
        let stage = stage(major, "same");
        let direct = Stage::without_proxy(stage.cluster, "direct");
        direct.direct(TABLES);
        direct.direct(&format!("BEGIN; {}; COMMIT", MIGRATION.join("; ")));
        let session = stage.connect().await;
        match shape {
            "messages" => {
                all(&session, &["BEGIN"]).await.unwrap();
                all(&session, MIGRATION).await.unwrap_or_else(|e| panic!("{e:?}"));
                assert_eq!(indexes(&stage), "books_old", "nothing of it is there before COMMIT");
                all(&session, &["END"]).await.unwrap_or_else(|e| panic!("{e:?}"));
            }
            "one message" => {
                let sql = format!("BEGIN; {}; COMMIT WORK; SELECT 1", MIGRATION.join("; "));
                let rows = run(&session, &sql).await.unwrap_or_else(|e| panic!("{e:?}"));
                assert_eq!(rows, ["1"]);
            }
            "implicit" => {
                run(&session, &MIGRATION.join("; "))
                    .await
                    .unwrap_or_else(|e| panic!("{e:?}"));
            }
            _ => {
                // Prepared before there is anything to wait for, as JDBC does.
                let commit = session.client.prepare("COMMIT").await.unwrap();
                session.client.execute("BEGIN", &[]).await.unwrap();
                for sql in MIGRATION {
                    session
                        .client
                        .execute(*sql, &[])
                        .await
                        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                }
                session
                    .client
                    .execute(&commit, &[])
                    .await
                    .unwrap_or_else(|e| panic!("{e:?}"));
            }
        }
        assert_eq!(stage.schema(), direct.schema(), "{shape}");
        assert!(!jobs(&stage).contains("waiting"), "{shape}: {}", jobs(&stage));
        assert!(!jobs(&stage).contains("failed"), "{shape}: {}", jobs(&stage));
        // The session is as usable as before.
        assert_eq!(run(&session, "SELECT 1").await.unwrap(), ["1"]);
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
        assert_eq!(run(&session, locks).await.unwrap(), ["0"], "{shape}");
    }
}

#[tokio::test]
async fn a_migration_ends_as_a_direct_run_on_15() {
    ends_as_a_direct_run(15).await;
}

#[tokio::test]
async fn a_migration_ends_as_a_direct_run_on_18() {
    ends_as_a_direct_run(18).await;
}

#[tokio::test]
async fn rollback_takes_it_away() {
    let stage = stage(18, "rollback");
    let session = stage.connect().await;
    let before = stage.schema();
    all(
        &session,
        &[
            "BEGIN",
            "CREATE INDEX a ON books (title)",
            "ALTER TABLE books ADD CHECK (pages > 0)",
            "ROLLBACK",
        ],
    )
    .await
    .unwrap();
    assert_eq!((stage.schema(), jobs(&stage)), (before, String::new()));
    let some = [
        "BEGIN",
        "CREATE INDEX a ON books (title)",
        "SAVEPOINT s",
        "CREATE INDEX b ON books (pages)",
        "ROLLBACK TO s",
        "CREATE INDEX c ON books (author_id)",
        "COMMIT",
    ];
    all(&session, &some).await.unwrap();
    assert_eq!(indexes(&stage), "a books_old c");
    assert_eq!(jobs(&stage), "deferred done, deferred done");
}

#[tokio::test]
async fn a_failed_transaction_leaves_nothing() {
    let stage = stage(15, "failed");
    let session = stage.connect().await;
    all(&session, &["BEGIN", "CREATE INDEX a ON books (title)"])
        .await
        .unwrap();
    assert_eq!(code(run(&session, "SELECT 1 / 0").await), "22012");
    all(&session, &["COMMIT", "SELECT 1"]).await.unwrap();
    left(&stage, "books_old", "");
    // A constraint that fails at COMMIT.
    stage.direct("ALTER TABLE books ADD CONSTRAINT late UNIQUE (other) DEFERRABLE INITIALLY DEFERRED");
    all(
        &session,
        &[
            "BEGIN",
            "INSERT INTO books (id, other) VALUES (9001, 1)",
            "CREATE INDEX a ON books (title)",
        ],
    )
    .await
    .unwrap();
    assert_eq!(code(run(&session, "COMMIT").await), "23505");
    left(&stage, "books_old late", "");
    assert_eq!(run(&session, "SELECT 1").await.unwrap(), ["1"]);
}

/// What a direct run refuses is refused at once, with the same SQLSTATE, message and position, and the transaction fails.
async fn refused_as_by_the_server(major: u32) {
    let stage = stage(major, "proof");
    stage.direct("UPDATE books SET title = 'twice' WHERE id < 3; UPDATE books SET author_id = 999 WHERE id = 7; UPDATE authors SET email = NULL WHERE id = 1");
    let wrong = [
        "CREATE INDEX ON books (nope)",
        "CREATE INDEX ON  public.books (title, nope)",
        "CREATE INDEX ON books USING gin (title)",
        "CREATE INDEX ON books (title no_such_opclass)",
        "CREATE INDEX ON books (random())",
        "CREATE INDEX books_old ON books (title)",
        "CREATE UNIQUE INDEX u ON books (title)",
        "ALTER TABLE books ADD CONSTRAINT u UNIQUE (title)",
        "ALTER TABLE books ADD CONSTRAINT u UNIQUE (nope)",
        "ALTER TABLE books ADD PRIMARY KEY (title)",
        "ALTER TABLE books ADD CONSTRAINT c CHECK (pages > 5)",
        "ALTER TABLE books ADD CONSTRAINT c CHECK (nope > 5)",
        "ALTER TABLE books ADD CONSTRAINT f FOREIGN KEY (author_id) REFERENCES authors",
        "ALTER TABLE books ADD CONSTRAINT f FOREIGN KEY (author_id) REFERENCES authors (email)",
        "ALTER TABLE authors ALTER email SET NOT NULL",
        "ALTER TABLE authors ALTER nope SET NOT NULL",
        "DROP INDEX no_such_index",
        "ALTER TABLE books ADD COLUMN one int DEFAULT 1 UNIQUE",
        "ALTER TABLE books ADD COLUMN one int DEFAULT 1 CHECK (one > 1)",
    ];
    let (proxied, direct) = (stage.connect().await, stage.connect_direct().await);
    let before = stage.schema();
    for sql in wrong {
        let mut seen = Vec::new();
        for session in [&proxied, &direct] {
            all(session, &["BEGIN"]).await.unwrap();
            let error = run(session, sql).await.expect_err(sql);
            seen.push((
                error.code().code().to_owned(),
                error.message().to_owned(),
                error
                    .detail()
                    .unwrap_or_default()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
                format!("{:?}", error.position()),
            ));
            assert_eq!(code(run(session, "SELECT 1").await), "25P02", "{sql}");
            all(session, &["ROLLBACK"]).await.unwrap();
        }
        // The DETAIL of ours may tell about steps.
        let same = |a: &(String, String, String, String), b: &(String, String, String, String)| {
            a.0 == b.0 && a.1 == b.1 && a.3 == b.3 && (a.2 == b.2 || b.2.is_empty())
        };
        assert!(same(&seen[0], &seen[1]), "{sql}\n{:?}\n{:?}", seen[0], seen[1]);
    }
    assert_eq!((stage.schema(), jobs(&stage)), (before, String::new()));
}

#[tokio::test]
async fn what_the_server_would_refuse_is_refused_at_once_on_15() {
    refused_as_by_the_server(15).await;
}

#[tokio::test]
async fn what_the_server_would_refuse_is_refused_at_once_on_18() {
    refused_as_by_the_server(18).await;
}

#[tokio::test]
async fn rows_written_after_the_proof_are_read_again_at_commit() {
    let stage = stage(18, "again");
    let session = stage.connect().await;
    let all_of_it = [
        "BEGIN",
        "CREATE UNIQUE INDEX u ON books (title)",
        "UPDATE books SET title = 't2' WHERE id = 1",
    ];
    all(&session, &all_of_it).await.unwrap();
    let error = run(&session, "COMMIT").await.unwrap_err();
    assert_eq!(
        (error.code().code(), error.message()),
        ("23505", "could not create unique index \"u\"")
    );
    assert_eq!(
        run(&session, "SELECT count(*) FROM books WHERE title = 't2'")
            .await
            .unwrap(),
        ["1"]
    );
    assert_eq!(jobs(&stage), "");
}

#[tokio::test]
async fn what_cannot_be_followed_by_jobs_is_refused() {
    let stage = stage(18, "chain");
    let session = stage.connect().await;
    for (end, sqlstate) in [("COMMIT AND CHAIN", "0A000"), ("PREPARE TRANSACTION 'x'", "0A000")] {
        all(&session, &["BEGIN", "CREATE INDEX a ON books (title)"])
            .await
            .unwrap();
        assert_eq!(code(run(&session, end).await), sqlstate);
        all(&session, &["ROLLBACK"]).await.unwrap();
        // Prepared while nothing was pending.
        if end.starts_with("COMMIT") {
            let chained = session.client.prepare(end).await.unwrap();
            all(&session, &["BEGIN", "CREATE INDEX a ON books (title)"])
                .await
                .unwrap();
            let error = session.client.execute(&chained, &[]).await.unwrap_err();
            assert_eq!(error.code().map(|code| code.code()), Some(sqlstate));
            all(&session, &["ROLLBACK"]).await.unwrap();
        }
    }
    left(&stage, "books_old", "");
    // With ROLLBACK TO it is gone, and nothing has to follow.
    let taken_back = [
        "BEGIN",
        "SAVEPOINT s",
        "CREATE INDEX a ON books (title)",
        "ROLLBACK TO s",
    ];
    all(&session, &taken_back).await.unwrap();
    run(&session, "COMMIT AND CHAIN").await.unwrap();
    let chained = ["CREATE INDEX chained ON books (title)", "COMMIT"];
    all(&session, &chained).await.unwrap();
    left(&stage, "books_old chained", "deferred done");
    let prepared = session.client.prepare("COMMIT AND CHAIN").await.unwrap();
    all(&session, &["DROP INDEX chained"]).await.unwrap();
    all(&session, &taken_back).await.unwrap();
    session.client.execute(&prepared, &[]).await.unwrap();
    all(&session, &["ROLLBACK"]).await.unwrap();
}

/// The one trace that a trial on temporary copies leaves in the client's transaction.
#[tokio::test]
async fn after_a_trial_the_server_prepares_no_transaction() {
    let server = Box::leak(Box::new(own_cluster(18, &[("max_prepared_transactions", "2")])));
    let stage = Stage::on(server, "trial", POLICY, &[]);
    stage.direct(
        "CREATE TABLE logs (a int NOT NULL) PARTITION BY RANGE (a);
         CREATE TABLE logs_1 (a int NOT NULL CHECK (a >= 1 AND a < 9)); INSERT INTO logs_1 SELECT 1 FROM generate_series(1, 1000)",
    );
    let session = stage.connect().await;
    let attach = "ALTER TABLE logs ATTACH PARTITION logs_1 FOR VALUES FROM (1) TO (9)";
    all(&session, &["BEGIN", attach]).await.unwrap();
    let error = run(&session, "PREPARE TRANSACTION 'x'").await.unwrap_err();
    assert_eq!(error.code().code(), "0A000");
    assert!(error.message().contains("temporary objects"), "{error:?}");
    all(&session, &["BEGIN", attach, "COMMIT"]).await.unwrap();
}

#[tokio::test]
async fn settings_roles_and_isolation_are_the_transaction_s_own() {
    let stage = stage(18, "settings");
    stage.direct(
        "CREATE SCHEMA app; CREATE TABLE app.books (id int PRIMARY KEY, title text); INSERT INTO app.books VALUES (1, 'x');
         CREATE ROLE deploy_settings; ALTER TABLE app.books OWNER TO deploy_settings; GRANT USAGE, CREATE ON SCHEMA app TO deploy_settings",
    );
    let session = stage.connect().await;
    // The table is there already: that role may not make it.
    all(&session, &["BEGIN", "CREATE INDEX ON books (title)", "COMMIT"])
        .await
        .unwrap();
    let it = [
        "SET lock_timeout = '7s'",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "SET LOCAL search_path = app",
        "SET LOCAL ROLE deploy_settings",
        "CREATE INDEX mine ON books (title)",
        "SET LOCAL ROLE NONE",
        "COMMIT",
    ];
    all(&session, &it).await.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!(
        stage.direct(
            "SELECT indrelid::regclass || ' ' || indisvalid FROM pg_index WHERE indexrelid = 'app.mine'::regclass"
        ),
        "app.books true"
    );
    assert_eq!(
        stage.direct("SELECT owner || ' ' || state FROM lockkeeper.job ORDER BY id DESC LIMIT 1"),
        "deploy_settings done"
    );
    let now = "SELECT concat_ws(' ', current_user, current_setting('search_path'), current_setting('lock_timeout'), current_setting('statement_timeout'))";
    assert_eq!(run(&session, now).await.unwrap(), ["postgres \"$user\", public 7s 0"]);
    // Nothing can be changed in a read-only transaction.
    all(&session, &["BEGIN READ ONLY"]).await.unwrap();
    assert_eq!(code(run(&session, "CREATE INDEX a ON books (title)").await), "25006");
    all(&session, &["ROLLBACK"]).await.unwrap();
    stage.direct(
        "REASSIGN OWNED BY deploy_settings TO postgres; DROP OWNED BY deploy_settings; DROP ROLE deploy_settings",
    );
}

#[tokio::test]
async fn a_role_that_may_not_keep_jobs_is_told_what_to_do() {
    let stage = stage(18, "rights");
    stage.direct("CREATE ROLE deploy_rights LOGIN; ALTER TABLE books OWNER TO deploy_rights; GRANT ALL ON SCHEMA public TO deploy_rights");
    let session = stage.connect().await;
    all(&session, &["SET ROLE deploy_rights", "BEGIN"]).await.unwrap();
    let error = run(&session, "CREATE INDEX a ON books (title)").await.unwrap_err();
    assert_eq!(error.code().code(), "25001");
    assert!(
        error.hint().unwrap_or_default().contains("lockkeeper init"),
        "{error:?}"
    );
    all(&session, &["ROLLBACK", "RESET ROLE"]).await.unwrap();
    stage.direct("ALTER TABLE books OWNER TO postgres; DROP OWNED BY deploy_rights; DROP ROLE deploy_rights");
}

#[tokio::test]
async fn the_policy_may_say_reject_or_forward() {
    for (word, expect) in [("reject", Some("25001")), ("forward", None)] {
        let policy = format!("{POLICY}[defaults]\nin_transaction = \"{word}\"\n");
        let stage = Stage::with(18, "policy", &policy);
        stage.direct(TABLES);
        let session = stage.connect().await;
        all(&session, &["BEGIN"]).await.unwrap();
        let outcome = run(&session, "CREATE INDEX a ON books (title)").await;
        assert_eq!(
            outcome.err().map(|e| e.code().code().to_owned()).as_deref(),
            expect,
            "{word}"
        );
        assert_eq!(jobs(&stage), "");
    }
}

#[tokio::test]
async fn a_refusal_speaks_the_tool_s_language() {
    let policy = format!("{POLICY}[defaults]\nin_transaction = \"reject\"\n");
    let stage = Stage::with(18, "tool", &policy);
    stage.direct(TABLES);
    let books = [
        ("CREATE TABLE alembic_version (version_num text)", "autocommit_block()"),
        ("CREATE TABLE django_migrations (id int)", "atomic = False"),
        (
            "CREATE TABLE flyway_schema_history (id int)",
            "executeInTransaction=false",
        ),
    ];
    for (own, words) in books {
        let session = stage.connect().await;
        all(&session, &[own, "BEGIN"]).await.unwrap();
        let error = run(&session, "CREATE INDEX a ON books (title)").await.unwrap_err();
        assert!(error.hint().unwrap_or_default().contains(words), "{error:?}");
    }
}
