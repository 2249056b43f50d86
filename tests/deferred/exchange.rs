//! What a transaction drops and makes anew: nobody is without it for a moment, and the transaction sees what it would on the server.

use super::*;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

const MADE: &str = "
CREATE TABLE m (p int NOT NULL, u int NOT NULL, v int, CONSTRAINT mu UNIQUE (p, u));
INSERT INTO m SELECT g, g, 0 FROM generate_series(1, 20000) g;
CREATE UNIQUE INDEX mv ON m (p, v, u);
ANALYZE m;";

const UPSERT: &str = "INSERT INTO m VALUES (7, 7, 1) ON CONFLICT (p, u) DO UPDATE SET v = m.v + 1";
const BY_INDEX: &str = "INSERT INTO m VALUES (8, 1, 8) ON CONFLICT (p, v, u) DO NOTHING";

/// The statements, what an application does all the while, and the jobs that are left.
const EXCHANGES: &[(&[&str], &str, &str)] = &[
    (
        &[
            "BEGIN",
            "ALTER TABLE m DROP CONSTRAINT mu",
            "ALTER TABLE m ADD CONSTRAINT mu PRIMARY KEY (p, u)",
            "COMMIT",
        ],
        UPSERT,
        "deferred done",
    ),
    (
        &["ALTER TABLE m DROP CONSTRAINT mu, ADD CONSTRAINT mu PRIMARY KEY (p, u)"],
        UPSERT,
        "deferred done",
    ),
    (
        &[
            "BEGIN",
            "ALTER TABLE m DROP CONSTRAINT mu, ADD CONSTRAINT pu UNIQUE (u, p)",
            "COMMIT",
        ],
        UPSERT,
        "deferred done",
    ),
    (
        &["BEGIN; ALTER TABLE m DROP CONSTRAINT mu; ALTER TABLE m ADD CONSTRAINT mu UNIQUE (u, p) INCLUDE (v); COMMIT"],
        "INSERT INTO m VALUES (7, 7, 1) ON CONFLICT ON CONSTRAINT mu DO UPDATE SET v = m.v + 1",
        "deferred done",
    ),
    (
        &["DROP INDEX IF EXISTS mv; CREATE UNIQUE INDEX IF NOT EXISTS mv ON m (u, v, p)"],
        BY_INDEX,
        "deferred done",
    ),
    (
        &[
            "BEGIN",
            "DROP INDEX mv",
            "CREATE UNIQUE INDEX mw ON m (v, u, p)",
            "SET LOCAL lock_timeout = '5s'",
            "INSERT INTO alembic_version VALUES ('1')",
            "COMMIT",
        ],
        BY_INDEX,
        "deferred done",
    ),
    (
        &[
            "BEGIN",
            "DROP INDEX mv",
            "ALTER TABLE m DROP CONSTRAINT mu",
            "ALTER TABLE m ADD CONSTRAINT mu UNIQUE (p, u)",
            "CREATE UNIQUE INDEX mv ON m (v, u, p)",
            "COMMIT",
        ],
        UPSERT,
        "deferred done, deferred done",
    ),
];

async fn exchanges(major: u32) {
    for (statements, application, states) in EXCHANGES {
        let stage = Stage::with(major, "exchange", POLICY);
        let direct = Stage::without_proxy(stage.cluster, "exchange_direct");
        for one in [&stage, &direct] {
            one.direct(&format!("{MADE} CREATE TABLE alembic_version (v text)"));
        }
        direct.direct(&statements.join(";"));
        let session = stage.connect().await;
        // The job's table is made by the first that needs it.
        all(
            &session,
            &["BEGIN", "CREATE INDEX zz ON m (v)", "COMMIT", "DROP INDEX zz"],
        )
        .await
        .unwrap();
        stage.direct("DELETE FROM lockkeeper.job");
        let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
        let app = stage.connect().await;
        let (stopped, counted) = (stop.clone(), done.clone());
        let loaded = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                run(&app, application).await.map_err(|e| format!("{e:?}"))?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok::<_, String>(())
        });
        while done.load(Ordering::Relaxed) == 0 && !loaded.is_finished() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        all(&session, statements)
            .await
            .unwrap_or_else(|e| panic!("{statements:?}: {e:?}"));
        stop.store(true, Ordering::Relaxed);
        loaded.await.unwrap().unwrap_or_else(|e| panic!("{statements:?}: {e}"));
        assert_eq!(stage.schema(), direct.schema(), "{statements:?}");
        assert_eq!(jobs(&stage), *states, "{statements:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_without_what_is_replaced_on_15() {
    exchanges(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_without_what_is_replaced_on_18() {
    exchanges(18).await;
}

/// What comes behind sees the transaction as on the server: the old one is gone.
#[tokio::test]
async fn what_comes_behind_an_exchange_sees_the_old_one_gone() {
    for behind in [
        // Two rows that the old one would not have let in.
        "INSERT INTO m VALUES (1, 1, 5)",
        "DO $$ BEGIN INSERT INTO m VALUES (1, 1, 5); END $$",
        "SAVEPOINT a; INSERT INTO m VALUES (1, 1, 5); RELEASE a",
        "ALTER TABLE m RENAME CONSTRAINT m_v_check TO mu",
    ] {
        let stage = Stage::with(18, "behind", POLICY);
        let direct = Stage::without_proxy(stage.cluster, "behind_direct");
        for one in [&stage, &direct] {
            one.direct(&format!("{MADE} ALTER TABLE m ADD CHECK (v >= 0)"));
        }
        let before = [
            "BEGIN",
            "ALTER TABLE m DROP CONSTRAINT mu",
            "ALTER TABLE m ADD CONSTRAINT mv2 UNIQUE (p, u, v)",
        ];
        direct.direct(&format!("{}; {behind}; COMMIT", before.join("; ")));
        let session = stage.connect().await;
        all(&session, &before).await.unwrap();
        for one in behind
            .split("; ")
            .filter(|_| !behind.starts_with("DO"))
            .chain(behind.starts_with("DO").then_some(behind))
        {
            run(&session, one).await.unwrap_or_else(|e| panic!("{behind}: {e:?}"));
        }
        run(&session, "COMMIT")
            .await
            .unwrap_or_else(|e| panic!("{behind}: {e:?}"));
        assert_eq!(stage.schema(), direct.schema(), "{behind}");
        assert_eq!(
            stage.direct("SELECT count(*) FROM m"),
            direct.direct("SELECT count(*) FROM m"),
            "{behind}"
        );
        assert_eq!(jobs(&stage), "deferred done", "{behind}");
    }
}

/// A new one that cannot be made leaves the old one in force, whether it is found before the COMMIT or behind it.
#[tokio::test]
async fn a_failed_exchange_leaves_what_was_there() {
    let stage = Stage::with(18, "failed", POLICY);
    stage.direct(MADE);
    let before = stage.schema();
    let session = stage.connect().await;
    for statements in [
        &[
            "BEGIN",
            "ALTER TABLE m DROP CONSTRAINT mu",
            "ALTER TABLE m ADD CONSTRAINT mu UNIQUE (v)",
        ][..],
        &["ALTER TABLE m DROP CONSTRAINT mu, ADD CONSTRAINT mu UNIQUE (v)"],
        &["ALTER TABLE m DROP CONSTRAINT mu, ADD CONSTRAINT mu UNIQUE (nothing)"],
        &["BEGIN", "DROP INDEX mv", "CREATE UNIQUE INDEX mv ON m (v)"],
    ] {
        let error = all(&session, statements).await.unwrap_err();
        assert!(matches!(error.code().code(), "23505" | "42703"), "{error:?}");
        run(&session, "ROLLBACK").await.unwrap();
        assert_eq!(stage.schema(), before, "{statements:?}");
    }
    // Taken back, the removal too.
    let taken_back = [
        "BEGIN",
        "SAVEPOINT s",
        "DROP INDEX mv",
        "CREATE UNIQUE INDEX mv ON m (u, v, p)",
        "ROLLBACK TO s",
        "INSERT INTO m VALUES (0, 0, 0)",
        "COMMIT",
    ];
    all(&session, &taken_back).await.unwrap();
    assert_eq!(stage.schema(), before);
}
