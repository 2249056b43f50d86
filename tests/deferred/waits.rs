//! Sessions that wait for each other: told, named, and never without end.

use super::*;
use lockkeeper_testkit::raw::{Raw, bind, c, error_field, execute, frame, parse, sync};
use std::time::Duration;

/// Two transactions whose waits the server cannot see as a circle: one gives way at once.
#[tokio::test]
async fn of_two_transactions_that_wait_for_each_other_one_gives_way() {
    let stage = stage(18, "circle");
    let (one, two) = (stage.connect().await, stage.connect().await);
    // Whoever needs lockkeeper.job first makes it, up to its COMMIT.
    all(&one, &["BEGIN", "CREATE INDEX z ON books (other)", "COMMIT"])
        .await
        .unwrap();
    all(&one, &["BEGIN", "CREATE INDEX a ON books (title)"]).await.unwrap();
    all(&two, &["BEGIN", "CREATE INDEX b ON authors (name)"]).await.unwrap();
    let first = tokio::spawn(async move {
        let done = run(&one, "CREATE INDEX c ON authors (email)").await;
        let end = run(&one, "COMMIT").await;
        (done, end)
    });
    let done = run(&two, "CREATE INDEX d ON books (pages)").await;
    let end = run(&two, "COMMIT").await;
    let (other, other_end) = tokio::time::timeout(Duration::from_secs(60), first)
        .await
        .unwrap()
        .unwrap();
    assert_ne!(done.is_ok(), other.is_ok(), "{done:?} {other:?}");
    let error = done.err().or(other.err()).unwrap();
    assert_eq!(error.code().code(), "40P01", "{error:?}");
    assert!(error.message().contains("gives way"), "{error:?}");
    assert!(end.is_ok() && other_end.is_ok(), "{end:?} {other_end:?}");
    assert_eq!(jobs(&stage), "deferred done, deferred done, deferred done");
}

/// What is committed and runs its jobs is not what gives way.
#[tokio::test]
async fn a_transaction_that_a_running_job_waits_for_gives_way_to_it() {
    let stage = stage(15, "waited");
    let (one, two) = (stage.connect().await, stage.connect().await);
    all(&two, &["BEGIN", "UPDATE books SET pages = pages WHERE id = 1"])
        .await
        .unwrap();
    all(&one, &["BEGIN", "CREATE INDEX a ON books (title)"]).await.unwrap();
    // Its build waits for the other's transaction; whether that looks before or behind it is all the same.
    let committed = tokio::spawn(async move { run(&one, "COMMIT").await });
    let error = run(&two, "CREATE INDEX b ON books (pages)").await.unwrap_err();
    assert_eq!(error.code().code(), "40P01", "{error:?}");
    committed.await.unwrap().unwrap_or_else(|e| panic!("{e:?}"));
    all(
        &two,
        &["ROLLBACK", "BEGIN", "CREATE INDEX b ON books (pages)", "COMMIT"],
    )
    .await
    .unwrap();
    left(&stage, "a b books_old", "deferred done, deferred done");
}

/// An old snapshot without any lock on the table: a build waits for it, and says for whose.
#[tokio::test]
async fn an_idle_transaction_with_an_old_snapshot_is_named() {
    let stage = stage(18, "snapshot");
    let mut session = stage.connect().await;
    let old = stage.connect_direct().await;
    all(&old, &["BEGIN ISOLATION LEVEL REPEATABLE READ", "SELECT 1"])
        .await
        .unwrap();
    let client = session.client;
    let committed = tokio::spawn(async move {
        for sql in ["BEGIN", "CREATE INDEX a ON books (title)", "COMMIT"] {
            client.simple_query(sql).await?;
        }
        Ok::<_, tokio_postgres::Error>(())
    });
    loop {
        let told = tokio::time::timeout(Duration::from_secs(20), session.notices.recv())
            .await
            .unwrap()
            .unwrap();
        if told.message().contains("waits for the snapshot of pid") {
            assert!(told.message().contains("idle in its transaction"), "{told:?}");
            break;
        }
    }
    all(&old, &["COMMIT"]).await.unwrap();
    committed.await.unwrap().unwrap();
    assert_eq!(indexes(&stage), "a books_old");
}

/// A removal is done at once, in short tries: whoever is in the way is named, and nothing has happened.
#[tokio::test]
async fn an_idle_reader_is_in_the_way_of_a_removal() {
    let stage = stage(18, "reader");
    let session = stage.connect().await;
    let reader = stage.connect_direct().await;
    all(&reader, &["BEGIN", "SELECT count(*) FROM books"]).await.unwrap();
    all(&session, &["BEGIN"]).await.unwrap();
    let error = run(&session, "DROP INDEX books_old").await.unwrap_err();
    assert_eq!(error.code().code(), "55P03", "{error:?}");
    assert!(error.message().contains("idle in transaction"), "{error:?}");
    all(&session, &["ROLLBACK"]).await.unwrap();
    left(&stage, "books_old", "");
    all(&reader, &["COMMIT"]).await.unwrap();
    all(&session, &["BEGIN", "DROP INDEX books_old", "COMMIT"])
        .await
        .unwrap();
    left(&stage, "", "");
}

/// What a step that cannot wait says: that it fills rows, or that it stands in a batch of the driver's.
#[tokio::test]
async fn what_cannot_be_left_for_later_says_why() {
    let stage = stage(18, "why");
    let session = stage.connect().await;
    all(&session, &["BEGIN"]).await.unwrap();
    let error = run(
        &session,
        "ALTER TABLE books ADD COLUMN uid uuid DEFAULT gen_random_uuid()",
    )
    .await
    .unwrap_err();
    assert_eq!(error.code().code(), "25001");
    let hint = error.hint().unwrap_or_default();
    assert!(hint.contains("fills existing rows in batches"), "{error:?}");
    assert!(hint.contains("By hand:"), "{error:?}");
    all(&session, &["ROLLBACK"]).await.unwrap();
    // Two Executes before one Sync.
    let mut raw = Raw::connect(stage.port, &stage.database);
    let mut batch = Vec::new();
    for sql in ["CREATE INDEX a ON books (title)", "CREATE INDEX b ON books (pages)"] {
        batch.extend([parse("", sql), bind("", ""), execute("", 0)].concat());
    }
    batch.extend(sync());
    raw.send(&batch);
    let answer = raw.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("25001"));
    let message = error_field(&answer, b'M').unwrap_or_default();
    assert!(message.contains("send BEGIN before it"), "{message}");
    left(&stage, "books_old", "");
    // As it says.
    let behind = [
        parse("", "BEGIN"),
        bind("", ""),
        execute("", 0),
        batch,
        frame(b'Q', &c("COMMIT")),
    ]
    .concat();
    raw.send(&behind);
    raw.until_ready();
    raw.until_ready();
    assert_eq!(indexes(&stage), "a b books_old");
}
