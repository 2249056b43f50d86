//! A large UPDATE or DELETE inside a transaction: refused, or by the policy's word carried out after the COMMIT, each row once.

use super::*;
use lockkeeper_testkit::until;

/// Batches of a hundred rows, which are a tenth of the table.
fn policy(word: &str) -> String {
    format!("{POLICY}rows_max = 100\nbatch_rows = 100\nbatch_target_ms = 0\nin_transaction = \"{word}\"\n")
}

fn writing(major: u32, word: &str) -> Stage {
    let mut stage = Stage::with(major, "writing", &policy(word));
    stage.direct(TABLES);
    stage.mark();
    stage
}

const ALL: &str = "UPDATE books SET pages = pages + 1";

/// 1000 rows with the pages 1 to 1000.
const SUM: i64 = 500_500;

fn sum(stage: &Stage) -> i64 {
    stage.direct("SELECT sum(pages) FROM books").parse().unwrap()
}

#[tokio::test]
async fn by_default_it_is_refused_and_the_hint_names_both_ways() {
    let stage = writing(18, "reject");
    let session = stage.connect().await;
    all(&session, &["BEGIN"]).await.unwrap();
    let error = run(&session, ALL).await.unwrap_err();
    let hint = error.hint().unwrap_or_default();
    assert_eq!(error.code().code(), "25001");
    assert!(
        hint.contains("in_transaction = \"defer\" under [backfill]"),
        "{error:?}"
    );
    assert!(hint.contains("outside"), "{error:?}");
    all(&session, &["ROLLBACK"]).await.unwrap();
    assert_eq!((sum(&stage), jobs(&stage)), (SUM, String::new()));
}

#[tokio::test]
async fn forwarded_it_is_the_transaction_s_own() {
    let stage = writing(15, "forward");
    let session = stage.connect().await;
    all(&session, &["BEGIN", ALL]).await.unwrap();
    assert_eq!(
        run(&session, "SELECT sum(pages) FROM books").await.unwrap(),
        [(SUM + 1000).to_string()]
    );
    all(&session, &["COMMIT"]).await.unwrap();
    assert_eq!((sum(&stage), jobs(&stage)), (SUM + 1000, String::new()));
}

async fn deferred_in_every_shape(major: u32) {
    let later = "ALTER TABLE books ALTER pages SET NOT NULL";
    let index = "CREATE INDEX a ON books (pages)";
    for shape in ["messages", "one message", "implicit", "extended"] {
        let stage = writing(major, "defer");
        let mut session = stage.connect().await;
        match shape {
            "messages" => {
                all(&session, &["BEGIN", ALL, later, index]).await.unwrap();
                assert_eq!(sum(&stage), SUM);
                all(&session, &["COMMIT"]).await.unwrap_or_else(|e| panic!("{e:?}"));
            }
            "one message" => {
                all(&session, &[&format!("BEGIN; {ALL}; {later}; {index}; COMMIT")])
                    .await
                    .unwrap_or_else(|e| panic!("{e:?}"));
            }
            "implicit" => {
                all(&session, &[&format!("{ALL}; {later}; {index}")])
                    .await
                    .unwrap_or_else(|e| panic!("{e:?}"));
            }
            _ => {
                let transaction = session.client.transaction().await.unwrap();
                let by = 1i32;
                let sql = "UPDATE books SET pages = pages + $1";
                assert_eq!(transaction.execute(sql, &[&by]).await.unwrap(), 0);
                for sql in [later, index] {
                    transaction.execute(sql, &[]).await.unwrap_or_else(|e| panic!("{e:?}"));
                }
                transaction.commit().await.unwrap_or_else(|e| panic!("{e:?}"));
            }
        }
        assert_eq!(sum(&stage), SUM + 1000, "{shape}");
        assert_eq!(jobs(&stage), "write done, deferred done, deferred done", "{shape}");
        assert_eq!(indexes(&stage), "a books_old");
        assert_eq!(
            stage.direct(
                "SELECT batches || ' ' || rows_done || ' ' || answered FROM lockkeeper.job WHERE kind = 'write'"
            ),
            "10 1000 true",
            "{shape}"
        );
        let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()";
        assert_eq!(run(&session, locks).await.unwrap(), ["0"], "{shape}");
        // The same again is another one, and as large.
        all(&session, &["BEGIN", ALL, "COMMIT"]).await.unwrap();
        assert_eq!(sum(&stage), SUM + 2000, "{shape}");
    }
}

#[tokio::test]
async fn deferred_it_changes_each_row_once_after_the_commit_on_15() {
    deferred_in_every_shape(15).await;
}

#[tokio::test]
async fn deferred_it_changes_each_row_once_after_the_commit_on_18() {
    deferred_in_every_shape(18).await;
}

#[tokio::test]
async fn rollback_takes_it_away_and_the_rows_may_be_read_again() {
    let stage = writing(18, "defer");
    let session = stage.connect().await;
    all(&session, &["BEGIN", ALL, "ROLLBACK"]).await.unwrap();
    all(
        &session,
        &[
            "BEGIN",
            "SAVEPOINT s",
            ALL,
            "ROLLBACK TO s",
            "SELECT 1 FROM books LIMIT 1",
            "DELETE FROM authors",
            "COMMIT",
        ],
    )
    .await
    .unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((sum(&stage), jobs(&stage)), (SUM, String::new()));
}

#[tokio::test]
async fn what_would_meet_the_old_rows_is_refused() {
    let stage = writing(18, "defer");
    let session = stage.connect().await;
    let prepared = session.client.prepare("SELECT pages FROM books LIMIT 1").await.unwrap();
    let refused = [
        "SELECT count(*) FROM books",
        "SELECT 1 FROM authors WHERE EXISTS (SELECT FROM public.books)",
        "INSERT INTO books (id) VALUES (5000)",
        "INSERT INTO authors (id) SELECT 1000 + id FROM books",
        "UPDATE books SET title = 'x' WHERE id = 1",
        "WITH gone AS (DELETE FROM books RETURNING 1) SELECT 1",
        "COPY books TO STDOUT",
        "CREATE TABLE copied AS SELECT * FROM books",
        "DO $$ BEGIN PERFORM 1 FROM books; END $$",
        "CREATE TRIGGER t BEFORE UPDATE ON books FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        "ALTER TABLE books DROP COLUMN pages",
        "ALTER TABLE books RENAME COLUMN pages TO sheets",
        "ALTER TABLE books ALTER pages SET DEFAULT 5",
        "CREATE INDEX ON books (nope)",
    ];
    for sql in refused {
        all(&session, &["BEGIN", ALL]).await.unwrap();
        let sqlstate = if sql.contains("nope") { "42703" } else { "55000" };
        assert_eq!(code(run(&session, sql).await), sqlstate, "{sql}");
        assert_eq!(code(run(&session, "SELECT 1").await), "25P02", "{sql}");
        all(&session, &["ROLLBACK"]).await.unwrap();
    }
    // What cannot be carried out behind the transaction.
    stage.direct("CREATE VIEW shown AS SELECT id, pages FROM books");
    let now = [
        ("DELETE FROM books RETURNING id", "RETURNING are answered at once"),
        ("UPDATE shown SET pages = 0", "view's rows"),
        (
            "UPDATE books SET pages = 0 FROM pg_temp.wanted w WHERE w.id <> books.id",
            "may be gone by then",
        ),
    ];
    for (sql, why) in now {
        all(
            &session,
            &[
                "BEGIN",
                "CREATE TEMP TABLE wanted ON COMMIT DROP AS SELECT 1::bigint AS id",
            ],
        )
        .await
        .unwrap();
        let error = run(&session, sql).await.unwrap_err();
        assert_eq!(error.code().code(), "25001", "{error:?}");
        assert!(error.hint().unwrap_or_default().contains(why), "{error:?}");
        all(&session, &["ROLLBACK"]).await.unwrap();
    }
    // In one message too, and what was prepared before.
    assert_eq!(
        code(run(&session, &format!("{ALL}; SELECT count(*) FROM books")).await),
        "55000"
    );
    all(&session, &["BEGIN", ALL]).await.unwrap();
    let error = session.client.query(&prepared, &[]).await.unwrap_err();
    assert_eq!(error.code().map(|code| code.code()), Some("55000"));
    all(&session, &["ROLLBACK"]).await.unwrap();
    assert_eq!((sum(&stage), jobs(&stage)), (SUM, String::new()));
    let goes_on = [
        "BEGIN",
        ALL,
        "SELECT 1 FROM authors LIMIT 1",
        "INSERT INTO authors (id) VALUES (1000)",
        "ALTER TABLE books ADD COLUMN more int",
        "COMMIT",
    ];
    all(&session, &goes_on).await.unwrap_or_else(|e| panic!("{e:?}"));
    assert_eq!((sum(&stage), jobs(&stage)), (SUM + 1000, "write done".to_string()));
}

/// Cut off between its batches: the proxy killed, or the server's process; and each of the ways to go on.
async fn goes_on(major: u32, kill_proxy: bool, way: &str) {
    let mut stage = writing(major, "defer");
    let session = stage.connect().await;
    all(&session, &["BEGIN", ALL, "ALTER TABLE books ALTER title SET NOT NULL"])
        .await
        .unwrap();
    let pid = run(&session, "SELECT pg_backend_pid()").await.unwrap().remove(0);
    // A row of the sixth batch.
    let blocker = stage.connect_direct().await;
    all(&blocker, &["BEGIN", "UPDATE books SET other = other WHERE id = 555"])
        .await
        .unwrap();
    let committing = tokio::spawn(async move { session.client.simple_query("COMMIT").await.map(|_| ()) });
    until("five batches are done", || {
        !jobs(&stage).is_empty() && stage.direct("SELECT coalesce(max(batches), 0) >= 5 FROM lockkeeper.job") == "t"
    });
    match kill_proxy {
        true => stage.kill_proxy(),
        false => drop(stage.direct(&format!("SELECT pg_terminate_backend({pid})"))),
    }
    let error = committing.await.unwrap().unwrap_err();
    let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
    assert_eq!(
        detail.contains("the transaction IS committed"),
        !kill_proxy,
        "{error:?}"
    );
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    if kill_proxy {
        stage.direct(&format!("SELECT pg_terminate_backend({pid})"));
        stage.start_proxy(&[]);
    }
    until("the backend has ended", || stage.direct(&gone) == "0");
    all(&blocker, &["ROLLBACK"]).await.unwrap();
    // Smaller ones may have followed, up to the row that is held.
    let done: i64 = stage
        .direct("SELECT max(rows_done) FROM lockkeeper.job")
        .parse()
        .unwrap();
    assert!((500..555).contains(&done), "{done}");
    assert_eq!(sum(&stage), SUM + done);
    go_on(&stage, way, ALL).await;
    if way != "tool" {
        // The second one is the same transaction's, but another statement.
        go_on(&stage, way, "ALTER TABLE books ALTER title SET NOT NULL").await;
    }
    assert_eq!(sum(&stage), SUM + 1000, "{way}");
    assert_eq!(jobs(&stage), "write done, deferred done", "{way}");
}

#[tokio::test(flavor = "multi_thread")]
async fn cut_off_it_goes_on_where_it_stopped() {
    for (major, kill_proxy, way) in [
        (15, true, "tool"),
        (18, false, "tool"),
        (18, true, "statement"),
        (15, false, "call"),
        (18, true, "jobs resume"),
    ] {
        goes_on(major, kill_proxy, way).await;
    }
}

#[tokio::test]
async fn rows_that_a_setting_shows_are_not_left_for_when_it_may_be_gone() {
    let stage = writing(18, "defer");
    let session = stage.connect().await;
    all(&session, &["BEGIN", "CREATE INDEX z ON books (other)", "COMMIT"])
        .await
        .unwrap();
    stage.direct(
        "CREATE ROLE deploy_writes; GRANT ALL ON books TO deploy_writes; ALTER TABLE books ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON books USING (title <> current_setting('app.tenant'))",
    );
    all(
        &session,
        &["SET ROLE deploy_writes", "BEGIN", "SET LOCAL app.tenant = 'none'"],
    )
    .await
    .unwrap();
    let error = run(&session, ALL).await.unwrap_err();
    assert!(error.hint().unwrap_or_default().contains("app.tenant"), "{error:?}");
    all(&session, &["ROLLBACK", "RESET ROLE"]).await.unwrap();
    stage.direct("DROP OWNED BY deploy_writes; DROP ROLE deploy_writes");
    assert_eq!((sum(&stage), jobs(&stage).as_str()), (SUM, "deferred done"));
}

/// The guard reads as the server does, also where that was changed in the same pipeline; what cannot be read does not pass it.
#[test]
fn the_guard_goes_by_what_is_in_force_and_lets_nothing_pass_unread() {
    use lockkeeper_testkit::raw::{Raw, bind, error_field, execute, parse, sync};
    for major in [15, 18] {
        let stage = writing(major, "defer");
        let guarded = |messages: &[Vec<u8>]| {
            let mut raw = Raw::connect(stage.port, &stage.database);
            raw.query("BEGIN");
            raw.query(ALL);
            raw.send(&messages.concat());
            let answer = raw.until_ready();
            raw.query("ROLLBACK");
            error_field(&answer, b'C')
        };
        let run = |text: &str| [parse("", text), bind("", ""), execute("", 0)].concat();
        // With the setting off this is one string and then a query; with it on, one string and a comment.
        let hidden = "SELECT '\\', ' || (SELECT sum(pages) FROM books) --'";
        let off = run("SET LOCAL standard_conforming_strings = off");
        assert_eq!(guarded(&[run("SELECT 1"), sync()]), None, "{major}");
        let shown = "SELECT 'a\\', (SELECT sum(pages) FROM books), 'b'";
        assert_eq!(guarded(&[run(shown), sync()]).as_deref(), Some("55000"), "{major}");
        let swallowed = "SELECT '\\'', (SELECT sum(pages) FROM books), ''";
        for text in [hidden, swallowed] {
            let direct = |off: bool| {
                let mut raw = Raw::connect(stage.cluster.port(), &stage.database);
                let set = if off {
                    run("SET standard_conforming_strings = off")
                } else {
                    Vec::new()
                };
                raw.send(&[set, run(text), sync()].concat());
                let answer = raw.until_ready();
                answer
                    .iter()
                    .any(|(tag, body)| *tag == b'D' && body.windows(6).any(|six| six == b"500500"))
            };
            for set in [false, true] {
                let messages = match set {
                    true => vec![off.clone(), run(text), sync()],
                    false => vec![run(text), sync()],
                };
                let told = guarded(&messages);
                if direct(set) {
                    assert_eq!(told.as_deref(), Some("55000"), "{major} {set} {text}");
                }
            }
        }
        // Prepared under the other reading, before there was anything to guard.
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query("SET standard_conforming_strings = off");
        raw.send(
            &[
                parse("s", "SELECT '\\'', (SELECT sum(pages) FROM books), '' --'"),
                sync(),
            ]
            .concat(),
        );
        raw.until_ready();
        raw.query("SET standard_conforming_strings = on");
        raw.query("BEGIN");
        raw.query(ALL);
        raw.send(&[bind("", "s"), execute("", 0), sync()].concat());
        let answer = raw.until_ready();
        let shows = answer
            .iter()
            .any(|(tag, body)| *tag == b'D' && body.windows(6).any(|six| six == b"500500"));
        assert!(!shows, "{major}: rows that were still to change: {answer:?}");
        raw.query("ROLLBACK");
        // 18 has syntax that this grammar lacks.
        if major == 18 {
            let unread = "UPDATE books SET other = 0 WHERE id = 1 RETURNING WITH (OLD AS o) o.pages";
            assert_eq!(guarded(&[run(unread), sync()]).as_deref(), Some("55000"));
        }
    }
}
