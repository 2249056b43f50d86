//! Jobs that fail or are cut off after the COMMIT, and how they go on; several at once.

use super::*;
use lockkeeper_testkit::until;
use std::time::Duration;

/// A session that keeps CREATE INDEX CONCURRENTLY on the table waiting: it has written to it and its transaction is open.
async fn in_the_way(stage: &Stage) -> Connection {
    let session = stage.connect_direct().await;
    all(&session, &["BEGIN", "UPDATE books SET pages = pages WHERE id = 1"])
        .await
        .unwrap();
    session
}

#[tokio::test]
async fn a_job_that_fails_says_that_the_transaction_is_committed() {
    let stage = stage(18, "fails");
    let session = stage.connect().await;
    let blocker = in_the_way(&stage).await;
    all(
        &session,
        &[
            "BEGIN",
            "ALTER TABLE authors ADD COLUMN now int",
            "CREATE INDEX a ON books (title)",
            "CREATE INDEX b ON books (title)",
        ],
    )
    .await
    .unwrap();
    let error = run(&session, "COMMIT").await.unwrap_err();
    assert_eq!(error.code().code(), "55P03");
    for words in [
        "the transaction IS committed",
        "CREATE INDEX a ON books (title)",
        "idle in its transaction",
        "resume 1",
    ] {
        assert!(error.message().contains(words), "{error:?}");
    }
    assert_eq!(jobs(&stage), "deferred failed, deferred waiting");
    assert_eq!(
        stage.direct("SELECT count(*) FROM pg_attribute WHERE attrelid = 'authors'::regclass AND attname = 'now'"),
        "1"
    );
    assert_eq!(run(&session, "SELECT 1").await.unwrap(), ["1"]);
    // It goes on when its statement is sent again, and when it is asked for.
    all(&blocker, &["ROLLBACK"]).await.unwrap();
    all(
        &session,
        &["CREATE INDEX a ON books (title)", "CALL lockkeeper.resume(2)"],
    )
    .await
    .unwrap();
    left(&stage, "a b books_old", "deferred done, deferred done");
}

#[tokio::test]
async fn the_same_statement_in_another_transaction_takes_it_up() {
    let stage = stage(15, "again");
    let session = stage.connect().await;
    let blocker = in_the_way(&stage).await;
    let again = ["BEGIN", "CREATE INDEX a ON books (title)"];
    all(&session, &again).await.unwrap();
    assert_eq!(code(run(&session, "COMMIT").await), "55P03");
    all(&blocker, &["ROLLBACK"]).await.unwrap();
    all(&session, &again).await.unwrap();
    all(&session, &["ROLLBACK"]).await.unwrap();
    assert_eq!(jobs(&stage), "deferred failed");
    all(&session, &again).await.unwrap();
    all(&session, &["COMMIT"]).await.unwrap();
    left(&stage, "a books_old", "deferred done");
}

/// A proxy that is killed while a job runs; the steps before it are done. Each of the statements' steps is where it happens.
async fn killed_at(major: u32, sql: &str, blocked_by: &str) {
    let mut stage = stage(major, "killed");
    let direct = Stage::without_proxy(stage.cluster, "direct");
    direct.direct(TABLES);
    direct.direct(sql);
    let session = stage.connect().await;
    // Not idle, so that it is waited for and not named.
    let blocker = stage.connect_direct().await;
    all(&session, &["BEGIN", sql])
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    let pid = run(&session, "SELECT pg_backend_pid()").await.unwrap().remove(0);
    let busy = blocker.client.cancel_token();
    let held = format!("BEGIN; {blocked_by}; SELECT pg_sleep(600)");
    let holding = tokio::spawn(async move { blocker.client.simple_query(&held).await.map(|_| ()) });
    let asleep = format!(
        "SELECT count(*) FROM pg_stat_activity WHERE query = {} AND (wait_event = 'PgSleep' OR wait_event_type = 'Lock')",
        quoted(&format!("BEGIN; {blocked_by}; SELECT pg_sleep(600)"))
    );
    // Where the transaction itself is in its way, it comes next, before the job.
    until("the blocker holds its lock or is the next", || {
        stage.direct(&asleep) == "1"
    });
    let committing = tokio::spawn(async move { session.client.simple_query("COMMIT").await.map(|_| ()) });
    until("a job runs", || jobs(&stage) == "deferred running");
    stage.kill_proxy();
    assert!(committing.await.unwrap().is_err());
    // A backend that waits for a lock does not notice that its client is gone.
    stage.direct(&format!("SELECT pg_terminate_backend({pid})"));
    busy.cancel_query(tokio_postgres::NoTls).await.unwrap();
    let _ = holding.await.unwrap();
    let gone = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    until("the backend has ended", || stage.direct(&gone) == "0");
    assert_eq!(jobs(&stage), "deferred running");
    stage.start_proxy(&[]);
    // The next start of a migration tool.
    let tool = stage.connect().await;
    run(&tool, "CREATE TABLE IF NOT EXISTS schema_migrations (version text)")
        .await
        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    assert_eq!(jobs(&stage), "deferred done", "{sql}");
    stage.direct("DROP TABLE schema_migrations");
    assert_eq!(stage.schema(), direct.schema(), "{sql}");
}

fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

const WRITES: &str = "UPDATE books SET pages = pages WHERE id = 1";

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_build_goes_on() {
    killed_at(18, "CREATE INDEX a ON books (title)", WRITES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_unique_constraint_goes_on() {
    killed_at(18, "ALTER TABLE books ADD CONSTRAINT u UNIQUE (other)", WRITES).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_validation_goes_on() {
    // Neither lets a second schema change through.
    let other = "LOCK TABLE books IN SHARE UPDATE EXCLUSIVE MODE";
    killed_at(15, "ALTER TABLE books ADD CONSTRAINT c CHECK (pages > 0)", other).await;
    killed_at(15, "ALTER TABLE books ALTER title SET NOT NULL", other).await;
    killed_at(18, "ALTER TABLE books ALTER title SET NOT NULL", other).await;
}

#[tokio::test]
async fn two_at_once_come_one_after_the_other() {
    let stage = stage(18, "two");
    let (one, mut two) = (stage.connect().await, stage.connect().await);
    all(&one, &["BEGIN", "CREATE INDEX a ON books (title)"]).await.unwrap();
    all(&two, &["BEGIN"]).await.unwrap();
    let client = two.client;
    let second = tokio::spawn(async move {
        let first = client.simple_query("CREATE INDEX a ON books (title)").await;
        let second = client.simple_query("COMMIT").await;
        (first.map(|_| ()), second.map(|_| ()))
    });
    let told = tokio::time::timeout(Duration::from_secs(20), two.notices.recv())
        .await
        .unwrap()
        .unwrap();
    assert!(told.message().contains("waiting for"), "{told:?}");
    all(&one, &["COMMIT"]).await.unwrap();
    let (first, _) = second.await.unwrap();
    // The first has built it meanwhile, or is about to: either is the same for the second as without Lockkeeper, or better.
    if let Err(error) = first {
        assert_eq!(error.code().map(|c| c.code()), Some("42P07"));
    }
    assert_eq!(indexes(&stage), "a books_old");
    assert!(!jobs(&stage).contains("waiting"), "{}", jobs(&stage));
}

#[tokio::test]
async fn plain_commits_are_not_looked_at() {
    let stage = stage(18, "plain");
    let session = stage.connect().await;
    all(&session, &["BEGIN", "CREATE INDEX a ON books (title)", "COMMIT"])
        .await
        .unwrap();
    // The first INSERT behind a schema change asks which rules there are.
    all(&session, &["INSERT INTO authors (id) VALUES (999)"]).await.unwrap();
    let seen = stage.received().len();
    all(&session, &["BEGIN", "INSERT INTO authors (id) VALUES (1000)", "COMMIT"])
        .await
        .unwrap();
    assert_eq!(stage.received().len() - seen, 3);
}
