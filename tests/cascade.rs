//! What foreign keys delete or change with a few rows is counted before these go.

use lockkeeper_testkit::{Stage, on_both, runs};

/// Small numbers of rows are many here.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 16384\n[backfill]\nrows_max = 200\nbatch_rows = 100\npause_ms = 1\n";

/// Tenant 1 has 5,000 posts; tenants 2 to 20 have 10 each. Post 5,010 has 1,000 comments.
const TABLES: &str = "
CREATE TABLE tenants (id bigint PRIMARY KEY, parent bigint REFERENCES tenants ON DELETE CASCADE, n int);
CREATE TABLE posts (id bigint PRIMARY KEY, tenant bigint NOT NULL REFERENCES tenants ON DELETE CASCADE, n int);
CREATE TABLE comments (id bigint PRIMARY KEY, post bigint REFERENCES posts ON DELETE CASCADE ON UPDATE CASCADE);
CREATE TABLE notes (id bigint PRIMARY KEY, tenant int REFERENCES tenants ON DELETE SET NULL);
CREATE TABLE plain (id bigint PRIMARY KEY, n int);
CREATE TABLE refers (id bigint PRIMARY KEY, plain bigint REFERENCES plain);
CREATE TABLE orders (id bigint PRIMARY KEY, n int);
CREATE TABLE items (id bigint PRIMARY KEY, \"order\" bigint REFERENCES orders ON DELETE CASCADE);
INSERT INTO tenants SELECT i FROM generate_series(1, 40) i;
INSERT INTO tenants VALUES (101);
INSERT INTO tenants SELECT 100 + i, 99 + i FROM generate_series(2, 1000) i ORDER BY i;
INSERT INTO posts SELECT i, 1 FROM generate_series(1, 5000) i;
INSERT INTO posts SELECT 5000 + i, 2 + i % 19 FROM generate_series(1, 190) i;
INSERT INTO comments SELECT i, 5010 FROM generate_series(1, 1000) i;
INSERT INTO notes SELECT i, 21 FROM generate_series(1, 1000) i;
INSERT INTO plain SELECT i, i FROM generate_series(1, 5000) i;
INSERT INTO refers SELECT i, 1 FROM generate_series(1, 3000) i;
INSERT INTO orders SELECT i, i FROM generate_series(1, 5000) i;
INSERT INTO items SELECT i, i / 3 FROM generate_series(3, 14000) i;
CREATE INDEX ON posts (tenant);
CREATE INDEX ON comments (post);
CREATE INDEX ON notes (tenant);
CREATE INDEX ON items (\"order\");
VACUUM ANALYZE;";

on_both!(
    what_goes_with_a_few_rows_is_counted,
    the_everyday_delete_asks_nothing,
    what_is_too_far_to_follow_is_not_nothing,
    what_is_remembered_rests_on_it,
    a_role_that_may_not_read_them,
);

fn stage(major: u32, name: &str) -> Stage {
    let stage = Stage::with(major, name, POLICY);
    stage.direct(TABLES);
    stage
}

fn refused(stage: &Stage, sql: &str, of: &str) {
    let told = stage.psql(sql).stderr;
    assert!(
        told.contains("large-write") && told.contains("more than 200 rows") && told.contains(of),
        "{sql}: {told}"
    );
}

fn passes(stage: &Stage, sql: &str) {
    let told = stage.psql(sql);
    assert!(told.stderr.is_empty(), "{sql}: {}", told.stderr);
}

fn what_goes_with_a_few_rows_is_counted(major: u32) {
    let stage = stage(major, "counted");
    for (sql, of) in [
        (
            "DELETE FROM tenants WHERE id = 1",
            "public.posts (CASCADE of the foreign key posts_tenant_fkey)",
        ),
        ("DELETE FROM ONLY tenants t WHERE t.id IN (1, 7)", "public.posts"),
        (
            "DELETE FROM tenants USING plain WHERE plain.id = tenants.id AND plain.n = 1",
            "public.posts",
        ),
        (
            "WITH x AS (SELECT 1 AS id) DELETE FROM tenants WHERE id = (SELECT id FROM x)",
            "public.posts",
        ),
        // A function that must be looked up first.
        ("DELETE FROM tenants WHERE id = abs(-1)", "public.posts"),
        // Few posts, of which one has many comments.
        (
            "DELETE FROM tenants WHERE id = 12",
            "(CASCADE of the foreign key comments_post_fkey)",
        ),
        (
            "DELETE FROM posts WHERE id = 5010",
            "(CASCADE of the foreign key comments_post_fkey)",
        ),
        (
            "UPDATE posts SET id = 9000 WHERE id = 5010",
            "(CASCADE of the foreign key comments_post_fkey)",
        ),
        (
            "DELETE FROM tenants WHERE id = 21",
            "public.notes (SET NULL of the foreign key notes_tenant_fkey)",
        ),
        // A chain of rows of the same table.
        ("DELETE FROM tenants WHERE id = 101", "public.tenants"),
        ("BEGIN; DELETE FROM tenants WHERE id = 1", "public.posts"),
        (
            "PREPARE d (bigint) AS DELETE FROM tenants WHERE id = $1; DELETE FROM tenants WHERE id = 1",
            "public.posts",
        ),
    ] {
        refused(&stage, sql, of);
    }
    runs(async {
        let client = stage.connect().await.client;
        let prepared = client.prepare("DELETE FROM tenants WHERE id = $1").await.unwrap();
        for id in [3i64, 4] {
            assert_eq!(client.execute(&prepared, &[&id]).await.unwrap(), 1);
        }
        let error = client.execute(&prepared, &[&1i64]).await.unwrap_err();
        let told = error.as_db_error().unwrap();
        assert!(told.message().contains("more than 200 rows"), "{told:?}");
        assert!(
            told.hint()
                .unwrap_or_default()
                .contains("Delete those rows of public.posts first, by tenant"),
            "{told:?}"
        );
    });
    assert_eq!(
        stage.direct("SELECT count(*) FROM posts WHERE tenant = 1").trim(),
        "5000"
    );
    assert_eq!(
        stage.direct("SELECT count(*) FROM notes WHERE tenant = 21").trim(),
        "1000"
    );
    for sql in [
        "DELETE FROM tenants WHERE id = 5",
        "DELETE FROM tenants WHERE id = abs(-6)",
        "UPDATE posts SET n = 1 WHERE id = 5010",
        "UPDATE tenants SET n = 1 WHERE id = 1",
        "DELETE FROM tenants WHERE id = 1090",
        "BEGIN; DELETE FROM tenants WHERE id = 7; COMMIT",
    ] {
        passes(&stage, sql);
    }
    // As the HINT says.
    let told = stage.psql("DELETE FROM posts WHERE tenant = 1");
    assert!(told.stderr.contains("5000 rows in"), "{}", told.stderr);
    passes(&stage, "DELETE FROM tenants WHERE id = 1");
    assert_eq!(stage.direct("SELECT count(*) FROM tenants WHERE id = 1").trim(), "0");
}

/// Statements that the server received and that are not the application's.
fn questions(stage: &Stage) -> Vec<String> {
    let own = |sql: &String| !["UPDATE", "DELETE"].iter().any(|word| sql.starts_with(word));
    stage.received().into_iter().filter(own).collect()
}

fn the_everyday_delete_asks_nothing(major: u32) {
    let mut stage = stage(major, "everyday");
    runs(async {
        let client = stage.connect().await.client;
        let send = async |sql: String| {
            client
                .simple_query(&sql)
                .await
                .map(|_| ())
                .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
        };
        // No foreign key cascades; and of one that does, the statistics say that few rows have the same key.
        for table in ["plain", "orders"] {
            send(format!("DELETE FROM {table} WHERE id = 4000")).await;
            stage.mark();
            for id in 4001..4010 {
                send(format!("DELETE FROM {table} WHERE id = {id}")).await;
            }
            assert!(questions(&stage).is_empty(), "{:#?}", questions(&stage));
        }
        // Where they do not, one question counts.
        send("DELETE FROM tenants WHERE id = 30".into()).await;
        stage.mark();
        send("DELETE FROM tenants WHERE id = 31".into()).await;
        let counted: Vec<_> = questions(&stage)
            .into_iter()
            .filter(|sql| sql.contains("lockkeeper_0"))
            .collect();
        assert_eq!(counted.len(), 1, "{:#?}", questions(&stage));
        assert!(
            !questions(&stage).iter().any(|sql| sql.starts_with("EXPLAIN")),
            "{:#?}",
            questions(&stage)
        );
    });
}

/// Seven tables behind the first; only the last has many rows.
fn what_is_too_far_to_follow_is_not_nothing(major: u32) {
    let stage = stage(major, "far");
    let mut sql = String::from("CREATE TABLE d0 (id int PRIMARY KEY); INSERT INTO d0 SELECT generate_series(1, 50);");
    for n in 1..=7 {
        sql.push_str(&format!(
            "CREATE TABLE d{n} (id serial PRIMARY KEY, up int REFERENCES d{} ON DELETE CASCADE); CREATE INDEX ON d{n} (up);
             INSERT INTO d{n} (id, up) VALUES (1, 1), (2, 2);",
            n - 1
        ));
    }
    sql.push_str("INSERT INTO d7 (id, up) SELECT i, 1 FROM generate_series(3, 5000) i; VACUUM ANALYZE");
    stage.direct(&sql);
    for sql in [
        "DELETE FROM d0 WHERE id = 1",
        "DELETE FROM d0 WHERE id IN (1, 40)",
        "BEGIN; DELETE FROM d0 WHERE id = 1",
    ] {
        let told = stage.psql(sql).stderr;
        assert!(
            told.contains("large-write") && told.contains("public.d6") && told.contains("than are followed"),
            "{sql}: {told}"
        );
    }
    // Where it is followed to the end it is counted; and nothing is behind rows that are not there.
    refused(&stage, "DELETE FROM d1 WHERE id = 1", "public.d7");
    passes(&stage, "DELETE FROM d0 WHERE id = 40");
    stage.psql("DELETE FROM d7 WHERE up = 1").ok();
    passes(&stage, "DELETE FROM d6 WHERE id = 1");
    passes(&stage, "DELETE FROM d0 WHERE id = 1");
    assert_eq!(stage.direct("SELECT count(*) FROM d5").trim(), "1");
}

fn what_is_remembered_rests_on_it(major: u32) {
    let stage = stage(major, "rests");
    runs(async {
        let first = stage.connect().await.client;
        let second = stage.connect().await.client;
        let delete = "DELETE FROM tenants WHERE id = 32 AND n = 1";
        first.simple_query(delete).await.unwrap();
        first.simple_query("DELETE FROM orders WHERE id = 4100").await.unwrap();
        // Through the proxy, by another session.
        second.simple_query("INSERT INTO posts SELECT i, 32 FROM generate_series(10000, 11000) i; UPDATE tenants SET n = 1 WHERE id = 32").await.unwrap();
        second
            .simple_query("INSERT INTO items SELECT i, 4101 FROM generate_series(20000, 21000) i")
            .await
            .unwrap();
        for sql in [delete, "DELETE FROM orders WHERE id = 4101"] {
            let error = first.simple_query(sql).await.unwrap_err();
            assert!(
                error.as_db_error().unwrap().message().contains("more than 200 rows"),
                "{sql}: {error:?}"
            );
        }
        // A foreign key that is new.
        first.simple_query("DELETE FROM plain WHERE id = 4200").await.unwrap();
        second
            .simple_query("CREATE TABLE late (plain bigint REFERENCES plain ON DELETE CASCADE)")
            .await
            .unwrap();
        second
            .simple_query("INSERT INTO late SELECT 4201 FROM generate_series(1, 1000)")
            .await
            .unwrap();
        let error = first
            .simple_query("DELETE FROM plain WHERE id = 4201")
            .await
            .unwrap_err();
        assert!(
            error.as_db_error().unwrap().message().contains("more than 200 rows"),
            "{error:?}"
        );
    });
}

/// The foreign keys act with their tables' owner's rights. The sizes are everybody's to read.
fn a_role_that_may_not_read_them(major: u32) {
    let stage = stage(major, "rights");
    let role = format!("{}_app", stage.database);
    stage.direct(&format!(
        "CREATE ROLE {role} LOGIN; GRANT SELECT, DELETE ON tenants, orders TO {role}; DELETE FROM comments; DELETE FROM notes; DELETE FROM tenants WHERE id > 20; ANALYZE"
    ));
    // 250 posts a tenant on the average.
    let told = stage
        .psql(&format!("SET ROLE {role}; DELETE FROM tenants WHERE id IN (1, 2)"))
        .stderr;
    assert!(told.contains("large-write") && told.contains("about "), "{told}");
    passes(&stage, &format!("SET ROLE {role}; DELETE FROM orders WHERE id = 4300"));
    stage.direct(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}
