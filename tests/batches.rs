//! A large UPDATE or DELETE becomes keyset batches: what the server received and holds, with other sessions at work on the same
//! rows, and where it stops in the middle.

use lockkeeper_testkit::{Logged, Ran, Stage, on_both, runs, until_true};
use std::collections::BTreeSet;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::time::{Duration, Instant};
use tokio_postgres::error::SqlState;

/// Small numbers of rows are many here.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 1000\nbatch_rows = 500\nbatch_target_ms = 0\npause_ms = 10\n";
/// How long a condition may take to come true.
const PATIENCE: Duration = Duration::from_secs(30);

fn stage(major: u32, name: &str) -> Stage {
    Stage::with(major, name, POLICY)
}

/// `t` with 3,200 rows, and `changes`, where a trigger writes what the session called "test" did to which row in which transaction.
const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, flag boolean, name text, n integer NOT NULL DEFAULT 0, m integer NOT NULL DEFAULT 0);
CREATE TABLE changes (id text, xid xid8 DEFAULT pg_current_xact_id(), at timestamptz DEFAULT clock_timestamp());
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  IF current_setting('application_name') IN ('test', 'psql') THEN
    INSERT INTO changes (id) VALUES (OLD.id);
  END IF;
  RETURN NULL;
END $$;
CREATE TRIGGER note AFTER UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note();
INSERT INTO t (id) SELECT * FROM generate_series(1, 3200);
VACUUM ANALYZE t;";

/// The batches that the server received.
fn batches(stage: &Stage) -> Vec<String> {
    let is_batch = |sql: &String| sql.starts_with("WITH lockkeeper_changed");
    stage.received().into_iter().filter(is_batch).collect()
}

/// Every row of `changes` was written once, in transactions of at most 500 rows.
#[track_caller]
fn once_each_in_batches(stage: &Stage, rows: i64) {
    assert_eq!(stage.number("SELECT count(*) FROM changes"), rows);
    assert_eq!(
        stage.number("SELECT count(DISTINCT id) FROM changes"),
        rows,
        "some row was changed twice"
    );
    let largest = stage.number("SELECT max(n) FROM (SELECT count(*) n FROM changes GROUP BY xid) x");
    assert!(largest <= 500, "{largest} rows in one transaction");
}

fn errors(stage: &Stage, what: &str) -> Vec<Logged> {
    let is_error = |entry: &Logged| entry.severity == "ERROR" && entry.message.contains(what);
    stage.server_log().into_iter().filter(is_error).collect()
}

/// The last event of that kind in the audit log.
#[track_caller]
fn event(stage: &Stage, phase: &str, statement: &str) -> serde_json::Value {
    let lines = stage.audit_lines();
    let is_it = |line: &&serde_json::Value| line["event"] == phase && line["statement"] == statement;
    lines
        .iter()
        .rev()
        .find(is_it)
        .unwrap_or_else(|| panic!("no {phase} event of {statement} in {lines:#?}"))
        .clone()
}

on_both!(
    large_writes_become_batches,
    writers_lose_nothing,
    saved_rows_are_not_deleted,
    keys_of_all_kinds,
    keys_in_other_encodings,
    progress_is_told,
    the_role_s_rights_are_kept,
    parameters_keep_their_places,
    below_the_limit_nothing_changes,
    a_shape_is_not_its_narrowest_case,
    point_updates_are_not_asked_about,
    sub_selects_are_not_counted,
    not_in_a_transaction,
    refused_with_a_reason,
    cancelled_between_batches,
    cancelled_before_the_first_batch,
    crashes_leave_whole_batches,
    rows_held_by_others_are_waited_for,
    a_deadlock_is_tried_again,
    a_failing_row_stops_it,
    statement_timeout_counts_for_each_batch,
    serializable_is_tried_again,
    a_batch_has_a_deadline,
    what_is_paused_stops_at_once,
    what_one_statement_does_otherwise_is_refused,
    unseen_triggers_that_move_the_key_change_nothing,
    what_moves_under_the_statement_is_refused,
    what_moves_later_stops_it,
    what_does_not_move_is_read_in_batches,
    a_foreign_key_without_an_index_is_named,
    keys_that_are_known_are_walked,
    without_a_key_rows_go_by_place,
    without_a_key_moved_rows_are_reached,
    without_a_key_what_is_refused_has_ways,
    without_a_key_a_crash_is_gone_on_from,
    without_a_key_triggers_may_leave_no_row,
    columns_are_filled_without_the_owner_s_triggers,
    what_the_server_would_not_fill_is_not_begun,
    limited_by_hand,
    limited_in_a_loop_while_rows_are_locked,
    limited_workers_share_the_rows,
    limited_errors_are_the_client_s,
);

fn large_writes_become_batches(major: u32) {
    let mut stage = stage(major, "large");
    stage.direct(TABLE);
    stage.mark();
    let sql = "UPDATE t SET flag = true WHERE flag IS NULL";
    let ran = stage.psql(&format!("{sql};\n"));
    assert!(
        ran.stderr
            .contains("NOTICE:  lockkeeper: UPDATE public.t: 3200 rows in 7 batches"),
        "{ran:?}"
    );
    assert_eq!(ran.ok(), "UPDATE 3200\n");
    assert_eq!(batches(&stage).len(), 7, "{:#?}", stage.received());
    assert!(!stage.received().iter().any(|received| received == sql));
    once_each_in_batches(&stage, 3200);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 3200);
    // The pause between the last row of a batch and the first of the next.
    let shortest = "SELECT min(extract(epoch FROM first - before) * 1000)::int FROM (SELECT min(at) AS first, \
        lag(max(at)) OVER (ORDER BY min(at)) AS before FROM changes GROUP BY xid) x";
    assert!(stage.number(shortest) >= 10);

    let done = event(&stage, "statement", sql);
    assert_eq!(
        (&done["action"], &done["outcome"], &done["rows"]),
        (&"rewrite".into(), &"done".into(), &3200.into())
    );
    assert_eq!(done["findings"][0]["rule"], "large-write");
    assert_eq!(event(&stage, "step", sql)["steps"][0]["rows"], 3200);

    stage.direct("TRUNCATE changes; VACUUM ANALYZE t");
    stage.mark();
    let ran = stage.psql("/* all of them */ DELETE FROM t WHERE flag -- yes\n;\n");
    assert_eq!(ran.ok(), "DELETE 3200\n");
    assert_eq!(batches(&stage).len(), 7);
    once_each_in_batches(&stage, 3200);
    assert_eq!(stage.number("SELECT count(*) FROM t"), 0);
}

/// Updates of random rows, inserts into gaps and behind the end, and deletes, by several sessions, until told to stop.
struct Writers {
    stop: Arc<AtomicBool>,
    increments: Arc<AtomicI64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<Change>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Change {
    Inserted(i64),
    Deleted(i64),
}

impl Writers {
    async fn start(stage: &Stage, key: fn(i64) -> String, last: i64) -> Writers {
        let (stop, increments) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicI64::new(0)));
        let mut tasks = Vec::new();
        for worker in 0..4i64 {
            let connection = stage.connect_direct().await;
            let (stop, increments) = (stop.clone(), increments.clone());
            tasks.push(tokio::spawn(async move {
                let client = &connection.client;
                client.batch_execute("SET application_name = 'writer'").await.unwrap();
                let mut changes = Vec::new();
                let mut random = 88_172_645_463_325_252u64 ^ (worker as u64 + 1);
                let mut next = move || {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    (random >> 11) as i64
                };
                let mut round = 0;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    // Odd numbers exist at the start, even ones are gaps.
                    let one = 1 + 2 * (next() % (last / 2));
                    let (insert, delete) = (4 * round + worker, next() % 5 == 0);
                    let sql = match next() % 3 {
                        0 => format!("UPDATE t SET m = m + 1 WHERE {}", key(one)),
                        1 if delete => format!("DELETE FROM t WHERE {}", key(one)),
                        1 => format!("BEGIN; UPDATE t SET m = m + 1 WHERE {}; ROLLBACK", key(one)),
                        _ => {
                            let id = if insert % 3 == 0 { last + insert } else { 2 * insert };
                            let sql = format!("INSERT INTO t VALUES ({id}, 'k{id}') ON CONFLICT DO NOTHING");
                            if client.execute(&sql, &[]).await.unwrap() == 1 {
                                changes.push(Change::Inserted(id));
                            }
                            continue;
                        }
                    };
                    if sql.starts_with("BEGIN") {
                        client.batch_execute(&sql).await.unwrap();
                    } else {
                        let count = client.execute(&sql, &[]).await.unwrap();
                        if sql.starts_with("DELETE") {
                            changes.extend((count == 1).then_some(Change::Deleted(one)));
                        } else {
                            increments.fetch_add(count as i64, Ordering::Relaxed);
                        }
                    }
                }
                changes
            }));
        }
        Writers {
            stop,
            increments,
            tasks,
        }
    }

    async fn stop(self) -> BTreeSet<Change> {
        self.stop.store(true, Ordering::Relaxed);
        let mut changes = BTreeSet::new();
        for task in self.tasks {
            changes.extend(task.await.expect("a writer"));
        }
        changes
    }
}

fn writers_lose_nothing(major: u32) {
    let by_id: fn(i64) -> String = |id| format!("id = {id}");
    let by_both: fn(i64) -> String = |id| format!("id = {id} AND name = 'k{id}'");
    for (primary, key) in [("id", by_id), ("name, id", by_both)] {
        let stage = stage(major, "writers");
        // sum counts the deleted rows' increments too; n counts what the batches did to each row.
        stage.direct(&format!(
            "CREATE TABLE t (id bigint, name text, flag boolean, n integer NOT NULL DEFAULT 0, m integer NOT NULL DEFAULT 0,
                             PRIMARY KEY ({primary}));
             CREATE TABLE gone (m integer, n integer, id bigint);
             CREATE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
               IF TG_OP = 'DELETE' THEN INSERT INTO gone VALUES (OLD.m, OLD.n, OLD.id); RETURN OLD; END IF;
               IF current_setting('application_name') = 'test' THEN NEW.n := OLD.n + 1; END IF;
               RETURN NEW;
             END $$;
             CREATE TRIGGER count_up BEFORE UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION count_up();
             INSERT INTO t SELECT id, 'k' || id FROM generate_series(1, 8000, 2) id;
             VACUUM ANALYZE t"
        ));
        runs(async {
            let connection = stage.connect().await;
            let writers = Writers::start(&stage, key, 8000).await;
            let tag = connection
                .client
                .execute("UPDATE t SET flag = true", &[])
                .await
                .unwrap();
            let increments = writers.increments.clone();
            let changes = writers.stop().await;
            let inserted = changes.iter().filter(|c| matches!(c, Change::Inserted(_))).count() as i64;
            let deleted = changes.iter().filter(|c| matches!(c, Change::Deleted(_))).count() as i64;
            assert!(inserted > 0 && deleted > 0, "the writers hardly wrote: {changes:?}");
            let left = stage.number("SELECT count(*) FROM t");
            assert_eq!(left, 4000 + inserted - stage.number("SELECT count(*) FROM gone"));
            let sum = stage.number("SELECT sum(m) FROM (SELECT m FROM t UNION ALL SELECT m FROM gone) x");
            assert_eq!(
                sum,
                increments.load(Ordering::Relaxed),
                "an update of a writer was lost"
            );
            let wrong = "SELECT count(*) FROM t WHERE id < 8000 AND id % 2 = 1 AND (n <> 1 OR flag IS NOT TRUE)
                AND NOT EXISTS (SELECT 1 FROM gone WHERE gone.id = t.id)";
            assert_eq!(stage.number(wrong), 0, "rows were left out or changed twice");
            assert_eq!(stage.number("SELECT count(*) FROM t WHERE n > 1"), 0);
            let changed = stage.number("SELECT sum(n) FROM (SELECT n FROM t UNION ALL SELECT n FROM gone) x");
            assert_eq!(changed, tag as i64, "the command tag");
        });
    }
}

/// DELETE … WHERE NOT keep, while others set keep on some rows: whoever has committed that finds his row again.
fn saved_rows_are_not_deleted(major: u32) {
    let stage = stage(major, "saved");
    stage.direct(
        "CREATE TABLE t (id integer, part integer, keep boolean NOT NULL DEFAULT false, PRIMARY KEY (part, id));
         INSERT INTO t SELECT id, id % 3 FROM generate_series(1, 6000) id; VACUUM ANALYZE t",
    );
    runs(async {
        let connection = stage.connect().await;
        let stop = Arc::new(AtomicBool::new(false));
        let mut savers = Vec::new();
        for worker in 0..3i32 {
            let saver = stage.connect_direct().await;
            let stop = stop.clone();
            savers.push(tokio::spawn(async move {
                let mut saved = Vec::new();
                for id in (1..=6000).rev().filter(|id| id % 3 == worker).step_by(7) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let sql = format!("UPDATE t SET keep = true WHERE part = {worker} AND id = {id}");
                    if saver.client.execute(&sql, &[]).await.unwrap() == 1 {
                        saved.push(id);
                    }
                }
                saved
            }));
        }
        let deleted = connection
            .client
            .execute("DELETE FROM t WHERE NOT keep", &[])
            .await
            .unwrap();
        stop.store(true, Ordering::Relaxed);
        let mut saved = BTreeSet::new();
        for saver in savers {
            saved.extend(saver.await.unwrap());
        }
        let rows = stage.direct_args(&["-A", "-t", "-c", "SELECT id FROM t"], "").ok();
        let left: BTreeSet<i32> = rows.lines().map(|line| line.parse().unwrap()).collect();
        assert_eq!(left, saved);
        assert!(!saved.is_empty());
        assert_eq!(deleted as usize, 6000 - saved.len());
    });
}

fn keys_of_all_kinds(major: u32) {
    let stage = stage(major, "keys");
    let check = |columns: &str, values: &str, sql: &str, tag: &str| {
        let table = if sql.contains("Weird") { r#""Weird ""T""""# } else { "t" };
        stage.direct(&format!(
            "DROP TABLE IF EXISTS {table} CASCADE;
             CREATE TABLE {table} ({columns}, flag boolean, n integer NOT NULL DEFAULT 0);
             CREATE OR REPLACE FUNCTION count_up() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := OLD.n + 1; RETURN NEW; END $$;
             CREATE TRIGGER count_up BEFORE UPDATE ON {table} FOR EACH ROW EXECUTE FUNCTION count_up();
             INSERT INTO {table} SELECT {values} FROM generate_series(1, 1700) i;
             ANALYZE {table}"
        ));
        let before = stage.received().len();
        let settings = "SET DateStyle = 'SQL, DMY'; SET TimeZone = 'Asia/Kathmandu'; SET extra_float_digits = 0; SET bytea_output = 'escape'; SET quote_all_identifiers = on;\n";
        let ran = stage.psql_args(
            &["-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"],
            &format!("{settings}{sql}\n;\\echo :ROW_COUNT\n"),
        );
        assert_eq!(ran.ok(), format!("{tag}\n"), "{sql}");
        let own = stage.received()[before..]
            .iter()
            .filter(|s| s.starts_with("WITH lockkeeper_changed"))
            .count();
        assert!(own >= 4, "{sql}: {own} batches");
        assert_eq!(
            stage.number(&format!("SELECT count(*) FROM ONLY {table} WHERE n = 1 AND flag")),
            1700,
            "{sql}"
        );
    };
    let update = "UPDATE t SET flag = true";
    check(
        "k text PRIMARY KEY",
        "CASE WHEN i % 2 = 0 THEN 'ä' ELSE 'A''\\' END || i",
        update,
        "1700",
    );
    check("k uuid PRIMARY KEY", "md5(i::text)::uuid", update, "1700");
    check(
        "k timestamp PRIMARY KEY",
        "timestamp '2001-02-03' + i * interval '1 day 0.000001 second'",
        update,
        "1700",
    );
    check(
        "k timestamptz PRIMARY KEY",
        "timestamptz '0044-03-15 BC' + i * interval '100 days 1 microsecond'",
        update,
        "1700",
    );
    check(
        "k date PRIMARY KEY",
        "CASE i WHEN 1 THEN date '-infinity' WHEN 2 THEN 'infinity' ELSE date '2001-02-03' + i END",
        update,
        "1700",
    );
    check("k numeric(20, 4) PRIMARY KEY", "i / 7.0", update, "1700");
    check("k bytea PRIMARY KEY", "decode(md5(i::text), 'hex')", update, "1700");
    check("k character(9) PRIMARY KEY", "i", update, "1700");
    check("k varchar(9) NOT NULL UNIQUE", "i", update, "1700");
    check(
        "a smallint, b text COLLATE \"C\", c uuid, PRIMARY KEY (b, a, c)",
        "i % 5, i / 40, md5(i::text)::uuid",
        update,
        "1700",
    );
    check(
        "id int PRIMARY KEY",
        "i",
        "UPDATE ONLY public.t AS \"set\" SET flag = (\"set\".id > 0) WHERE \"set\".n = 0",
        "1700",
    );
    check(
        r#""Id ""k""" int, "select" text, PRIMARY KEY ("select", "Id ""k""")"#,
        "i, i % 3",
        r#"UPDATE "Weird ""T""" SET flag = true WHERE "select" >= '' -- last"#,
        "1700",
    );

    // Values that are written otherwise are equal, and a row is the same by each of them.
    stage.direct("CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false)");
    let mixed = "CASE WHEN i % 3 = 0 THEN upper(md5(i::text)) ELSE md5(i::text) END";
    check("k text COLLATE ci PRIMARY KEY", mixed, update, "1700");
    let both = format!("CASE WHEN i % 2 = 0 THEN 'Äb' ELSE 'äB' END, {mixed}");
    check(
        "a text COLLATE ci, b text COLLATE ci, PRIMARY KEY (a, b)",
        &both,
        update,
        "1700",
    );
    let each = stage.direct("SELECT string_agg(quote_literal(k) || ',' || quote_literal(upper(k)), ',') FROM (SELECT md5(i::text) k FROM generate_series(1, 1700) i) x");
    let listed = format!("UPDATE t SET flag = true WHERE k IN ({})", each.trim());
    check("k text COLLATE ci PRIMARY KEY", mixed, &listed, "1700");

    // ONLY leaves the children alone; without it they are walked too, although the key is unique in each table only.
    let inherited = "CREATE TABLE child (PRIMARY KEY (id)) INHERITS (t); INSERT INTO child (id) SELECT generate_series(1, 1700); ANALYZE child";
    check("id int PRIMARY KEY", "i", "UPDATE t SET flag = true", "1700");
    stage.direct(inherited);
    assert_eq!(
        stage.psql("UPDATE ONLY t SET flag = false WHERE flag;").ok(),
        "UPDATE 1700\n"
    );
    assert_eq!(stage.number("SELECT count(*) FROM child WHERE flag IS NULL"), 1700);
    stage.direct("VACUUM ANALYZE t");
    assert_eq!(
        stage.psql("UPDATE t SET flag = true WHERE flag IS NOT TRUE;").ok(),
        "UPDATE 3400\n"
    );
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 3400);
}

fn keys_in_other_encodings(major: u32) {
    let stage = stage(major, "encodings");
    for (letter, works) in [("e", true), ("é", false)] {
        stage.direct(&format!(
            "DROP TABLE IF EXISTS t; CREATE TABLE t (k text PRIMARY KEY, flag boolean);
             INSERT INTO t SELECT '{letter}\\' || i || chr(39) FROM generate_series(1, 1700) i; ANALYZE t"
        ));
        // In the other encoding the letter's bytes are two others, by which the next batch would start elsewhere.
        let other = "SET client_encoding = 'LATIN1'; SET standard_conforming_strings = off;\n";
        let ran = stage.psql(&format!("{other}UPDATE t SET flag = true;\n"));
        if works {
            assert_eq!(ran.ok(), "SET\nSET\nUPDATE 1700\n");
        } else {
            assert!(ran.stderr.contains("set it to UTF8"), "{ran:?}");
            assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 0);
            let ran = stage.psql("SET standard_conforming_strings = off;\nUPDATE t SET flag = true;\n");
            assert_eq!(ran.ok(), "SET\nUPDATE 1700\n");
        }
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 1700);
    }
}

fn progress_is_told(major: u32) {
    let policy = format!("{}notice_s = 1\n", SLOW.replace("pause_ms = 150", "pause_ms = 300"));
    let stage = Stage::with(major, "progress", &policy);
    stage.direct(TABLE);
    let ran = stage.psql(&format!("{FILL};\n"));
    let told: Vec<&str> = ran.stderr.lines().filter(|line| line.contains("rows/s")).collect();
    let [first, .., last] = told.as_slice() else {
        panic!("no progress: {ran:?}");
    };
    assert!(first.starts_with("NOTICE:  lockkeeper: UPDATE public.t: "), "{first}");
    assert!(first.contains(" % of 3200, about "), "{first}");
    assert!(last.contains("3200 rows in 7 batches") && !last.contains('%'), "{last}");
    // Bloat makes the planner expect more than there is; at the end there is nothing to expect any more.
    stage.direct("UPDATE t SET flag = NULL; UPDATE t SET n = 1");
    let ran = stage.psql(&format!("{FILL};\n"));
    let last = ran
        .stderr
        .lines()
        .rfind(|line| line.contains("rows/s"))
        .unwrap_or_default();
    assert!(
        last.contains("3200 rows in 7 batches") && !last.contains('%'),
        "{ran:?}"
    );
    stage.direct("UPDATE t SET flag = NULL; VACUUM ANALYZE t");
    let quiet = stage.psql(&format!("SET client_min_messages = warning;\n{FILL};\n"));
    assert_eq!(quiet.stderr, "");
    assert_eq!(quiet.ok(), "SET\nUPDATE 3200\n");
}

/// Without a WHERE clause UPDATE needs no right to read; batches must read the key, and say so.
fn the_role_s_rights_are_kept(major: u32) {
    let mut stage = stage(major, "rights");
    let role = format!("{}_role", stage.database);
    stage.direct(TABLE);
    stage.direct(&format!(
        "CREATE ROLE {role}; GRANT UPDATE (flag) ON t TO {role}; GRANT INSERT, SELECT ON changes TO {role}"
    ));
    stage.mark();
    let sql = format!("SET ROLE {role};\nUPDATE t SET flag = true;\n");
    let ran = stage.psql(&sql);
    assert!(ran.stderr.contains("ERROR:  permission denied for table t"), "{ran:?}");
    assert!(
        ran.stderr.contains("the role needs SELECT on its key columns"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("nothing in public.t was changed"), "{ran:?}");
    assert_eq!(stage.number("SELECT count(*) FROM changes"), 0);
    stage.direct(&format!("GRANT SELECT (id) ON t TO {role}"));
    assert_eq!(stage.psql(&sql).ok(), "SET\nUPDATE 3200\n");
    once_each_in_batches(&stage, 3200);
    stage.direct(&format!("DROP OWNED BY {role}; DROP ROLE {role}"));
}

fn parameters_keep_their_places(major: u32) {
    let mut stage = stage(major, "parameters");
    stage.direct(TABLE);
    stage.direct("UPDATE t SET name = 'old'; TRUNCATE changes; VACUUM ANALYZE t");
    stage.mark();
    runs(async {
        let mut connection = stage.connect().await;
        let sql = "UPDATE t SET name = $2, n = $1 WHERE name = $3 AND id > $4";
        let tag = connection
            .client
            .execute(sql, &[&7i32, &"new", &"old", &200i64])
            .await
            .unwrap();
        assert_eq!(tag, 3000);
        assert!(connection.told().iter().any(|n| n.contains("3000 rows")));
        // Prepared once, executed twice, in text that is parsed by the server only.
        stage.direct("VACUUM ANALYZE t");
        let prepared = connection
            .client
            .prepare("UPDATE t SET n = $1 WHERE name = $2")
            .await
            .unwrap();
        assert_eq!(
            connection.client.execute(&prepared, &[&8i32, &"new"]).await.unwrap(),
            3000
        );
        assert_eq!(
            connection.client.execute(&prepared, &[&9i32, &"new"]).await.unwrap(),
            3000
        );
        assert_eq!(
            connection.client.execute(&prepared, &[&9i32, &"none"]).await.unwrap(),
            0
        );
    });
    assert_eq!(batches(&stage).len(), 21);
    assert_eq!(
        stage.number("SELECT count(*) FROM t WHERE name = 'new' AND n = 9 AND id > 200"),
        3000
    );
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE name = 'old' AND n = 0"), 200);
    assert_eq!(stage.number("SELECT count(*) FROM changes"), 9000);
}

fn below_the_limit_nothing_changes(major: u32) {
    let mut stage = stage(major, "below");
    stage.direct(TABLE);
    stage.mark();
    let simple = "UPDATE t  SET flag = true /* few */ WHERE id <= 900";
    let extended = "DELETE FROM t WHERE id  > $1";
    runs(async {
        let connection = stage.connect().await;
        connection.client.simple_query(simple).await.unwrap();
        assert_eq!(connection.client.execute(extended, &[&3000i64]).await.unwrap(), 200);
    });
    let received = stage.received();
    assert_eq!(received.iter().filter(|sql| *sql == simple).count(), 1, "{received:#?}");
    assert_eq!(received.iter().filter(|sql| *sql == extended).count(), 1);
    assert!(batches(&stage).is_empty());
    assert_eq!(stage.number("SELECT count(DISTINCT xid) FROM changes"), 2);
    assert!(stage.audit_lines().is_empty());
}

/// What few rows match says nothing about another value in the same text.
fn a_shape_is_not_its_narrowest_case(major: u32) {
    let mut stage = stage(major, "shapes");
    stage.direct(TABLE);
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        client
            .simple_query("UPDATE t SET flag = true WHERE id <= 10")
            .await
            .unwrap();
        stage.mark();
        client
            .simple_query("UPDATE t SET flag = true WHERE id <= 3200")
            .await
            .unwrap();
        assert_eq!(batches(&stage).len(), 7, "{:#?}", stage.received());

        let sql = "UPDATE t SET flag = false WHERE id <= $1";
        assert_eq!(client.execute(sql, &[&10i64]).await.unwrap(), 10);
        stage.mark();
        assert_eq!(client.execute(sql, &[&3200i64]).await.unwrap(), 3200);
        assert_eq!(batches(&stage).len(), 7);

        let prepared = client.prepare(sql).await.unwrap();
        for _ in 0..2 {
            assert_eq!(client.execute(&prepared, &[&10i64]).await.unwrap(), 10);
        }
        stage.mark();
        assert_eq!(client.execute(&prepared, &[&3200i64]).await.unwrap(), 3200);
        assert_eq!(batches(&stage).len(), 7);
    });
}

fn point_updates_are_not_asked_about(major: u32) {
    let mut stage = stage(major, "point");
    stage.direct(TABLE);
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        let asked = |stage: &Stage| {
            let received = stage.received();
            let explained = received.iter().filter(|sql| sql.starts_with("EXPLAIN")).count();
            let own = received
                .iter()
                .filter(|sql| sql.starts_with("UPDATE") || sql.starts_with("DELETE"))
                .count();
            (explained, received.len() - own, own)
        };
        stage.mark();
        client.simple_query("UPDATE t SET n = 1 WHERE id = 5").await.unwrap();
        let (explained, facts, own) = asked(&stage);
        assert_eq!((explained, own), (0, 1));
        // Where the session stands, and by a search_path of ours the table's keys: once for all sessions.
        assert_eq!(facts, 3, "{:#?}", stage.received());
        stage.mark();
        for id in 6..10 {
            client
                .simple_query(&format!("UPDATE t SET n = {id} WHERE id = {id}"))
                .await
                .unwrap();
        }
        assert_eq!(asked(&stage), (0, 0, 4));

        let sql = "DELETE FROM t WHERE id = $1 AND n < $2";
        let prepared = client.prepare(sql).await.unwrap();
        assert_eq!(client.execute(&prepared, &[&1i64, &5i32]).await.unwrap(), 1);
        stage.mark();
        assert_eq!(client.execute(&prepared, &[&2i64, &5i32]).await.unwrap(), 1);
        assert_eq!(client.execute(&prepared, &[&3i64, &5i32]).await.unwrap(), 1);
        assert_eq!(client.execute(sql, &[&4i64, &5i32]).await.unwrap(), 1);
        assert_eq!(asked(&stage), (0, 0, 3), "{:#?}", stage.received());
    });
    assert_eq!(stage.number("SELECT count(*) FROM t"), 3196);
}

/// Rows that a sub-select or a CTE reads are not rows that are changed.
fn sub_selects_are_not_counted(major: u32) {
    let mut stage = stage(major, "counted");
    stage.direct(TABLE);
    stage.direct("CREATE TABLE other AS SELECT generate_series(1, 5000) AS id; ANALYZE other");
    stage.mark();
    for sql in [
        "UPDATE t SET flag = true WHERE id < 5 AND EXISTS (SELECT 1 FROM other)",
        "WITH o AS MATERIALIZED (SELECT id FROM other) DELETE FROM t WHERE id < 3 AND id IN (SELECT id FROM o LIMIT 3)",
    ] {
        stage.psql(sql).ok();
        assert!(stage.received().iter().any(|received| received == sql));
    }
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 2);
}

fn not_in_a_transaction(major: u32) {
    let mut stage = stage(major, "block");
    stage.direct(TABLE);
    stage.mark();
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        for extended in [false, true] {
            client
                .batch_execute("BEGIN; INSERT INTO t (id) VALUES (9999)")
                .await
                .unwrap();
            let sql = "UPDATE t SET flag = true";
            let error = match extended {
                true => client.execute(sql, &[]).await.map(|_| ()),
                false => client.simple_query(sql).await.map(|_| ()),
            };
            let error = error.unwrap_err();
            let report = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
            assert_eq!(report.code(), &SqlState::ACTIVE_SQL_TRANSACTION, "{report:?}");
            let hint = report.hint().unwrap_or_default();
            assert!(hint.contains("outside") && hint.contains("LIMIT 500"), "{hint}");
            let failed = client.simple_query("SELECT 1").await.unwrap_err();
            assert_eq!(failed.code(), Some(&SqlState::IN_FAILED_SQL_TRANSACTION));
            // The server answers ROLLBACK to the COMMIT of a failed block.
            client.batch_execute("COMMIT").await.unwrap();
        }
        assert_eq!(stage.number("SELECT count(*) FROM t"), 3200);

        // As a part of a message with several statements, whose implicit transaction it would share.
        let error = client
            .simple_query("INSERT INTO t (id) VALUES (9999); UPDATE t SET flag = true")
            .await
            .unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::ACTIVE_SQL_TRANSACTION));
        assert_eq!(stage.number("SELECT count(*) FROM t"), 3200);
    });
    // Behind other work of one pipeline.
    use lockkeeper_testkit::raw::*;
    let mut raw = Raw::connect(stage.port, &stage.database);
    let insert = [
        parse("", "INSERT INTO t (id) VALUES (9999)"),
        bind("", ""),
        execute("", 0),
    ]
    .concat();
    let update = [
        parse("", "UPDATE t SET flag = true"),
        bind("", ""),
        execute("", 0),
        sync(),
    ]
    .concat();
    raw.send(&[insert, update].concat());
    let messages = raw.until_ready();
    assert_eq!(
        error_field(&messages, b'C').as_deref(),
        Some("25001"),
        "{}",
        tags(&messages)
    );
    assert_eq!(status(&messages), Some('I'));
    assert_eq!(stage.number("SELECT count(*) FROM t"), 3200);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 0);
    assert!(batches(&stage).is_empty());
}

fn refused_with_a_reason(major: u32) {
    let mut stage = stage(major, "refused");
    stage.direct(TABLE);
    stage.direct(
        "CREATE TABLE keyless AS SELECT * FROM t; ANALYZE keyless;
         CREATE TABLE watched (LIKE t INCLUDING ALL); INSERT INTO watched SELECT * FROM t; ANALYZE watched;
         CREATE TRIGGER each AFTER UPDATE ON watched FOR EACH STATEMENT EXECUTE FUNCTION note();
         CREATE TABLE ruled (LIKE t INCLUDING ALL); INSERT INTO ruled SELECT * FROM t; ANALYZE ruled;
         CREATE RULE quiet AS ON DELETE TO ruled DO ALSO SELECT 1;
         CREATE VIEW seen AS SELECT * FROM t WHERE id IN (SELECT id FROM t);
         CREATE TABLE random_key (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), n integer NOT NULL DEFAULT 0);
         INSERT INTO random_key SELECT FROM generate_series(1, 3000); ANALYZE random_key;
         CREATE FUNCTION most() RETURNS integer STABLE LANGUAGE sql AS 'SELECT max(n) FROM t';
         CREATE TABLE times (f interval PRIMARY KEY, flag boolean);
         INSERT INTO times SELECT i * interval '1 s' FROM generate_series(1, 3000) i; ANALYZE times",
    );
    stage.mark();
    let cases = [
        ("UPDATE keyless SET flag = true", "no primary key"),
        ("UPDATE keyless SET n = n + 1 WHERE n < 9", "no primary key"),
        (
            "UPDATE random_key SET n = n + 1",
            "rows that are inserted while it runs",
        ),
        ("UPDATE t SET n = (SELECT max(n) FROM t)", "reads t itself"),
        ("UPDATE t SET n = x.n FROM t x WHERE x.id = t.id", "reads t itself"),
        ("UPDATE t SET n = most()", "most()"),
        ("DELETE FROM t WHERE id IN (SELECT id FROM seen)", "the view seen"),
        ("DELETE FROM t WHERE id IN (SELECT id FROM keyless LIMIT 3000)", "LIMIT"),
        ("UPDATE watched SET flag = true", "trigger each"),
        ("DELETE FROM ruled", "a rule (quiet, CREATE RULE)"),
        ("UPDATE seen SET flag = true", "name the table behind it"),
        ("UPDATE t SET id = id + 10000", "by which the batches walk"),
        ("DELETE FROM t WHERE random() < 0.9", "random()"),
        ("UPDATE times SET flag = true", "interval"),
    ];
    for (sql, reason) in cases {
        let ran = stage.psql_args(
            &["-v", "VERBOSITY=verbose", "-v", "ON_ERROR_STOP=1"],
            &format!("{sql};\n"),
        );
        assert_eq!(ran.status, 3, "{sql}: {ran:?}");
        assert!(ran.stderr.contains("ERROR:  55000: "), "{sql}: {}", ran.stderr);
        assert!(ran.stderr.contains(reason), "{sql}: {}", ran.stderr);
        assert!(ran.stderr.contains("HINT: "), "{sql}: {}", ran.stderr);
        assert!(!stage.received().iter().any(|received| received == sql));
        assert_eq!(event(&stage, "statement", sql)["outcome"], "rejected");
    }
    assert!(batches(&stage).is_empty());
    assert_eq!(stage.number("SELECT count(*) FROM changes"), 0);

    // What is not asked for is not refused.
    assert_eq!(stage.psql("UPDATE random_key SET n = 1;").ok(), "UPDATE 3000\n");
    stage.psql("DELETE FROM ruled WHERE id = 5;").ok();
    stage.psql("UPDATE seen SET n = 0 WHERE id = 5;").ok();
    stage.direct("TRUNCATE changes");

    // Whoever knows better says why.
    let sql = "UPDATE t SET id = id + 10000";
    let ran = stage.psql(&format!("SET lockkeeper.override = 'large-write: at night';\n{sql};\n"));
    assert_eq!(ran.ok(), "SET\nUPDATE 3200\n");
    let received = stage.received();
    assert!(
        received.iter().any(|received| received.trim_end_matches(';') == sql),
        "{received:#?}"
    );
    // It was refused before. The client of what is forwarded hears its answer before the log does.
    let deadline = Instant::now() + PATIENCE;
    let event = loop {
        let event = event(&stage, "statement", sql);
        if event["outcome"] != "rejected" {
            break event;
        }
        assert!(Instant::now() < deadline, "{event}");
        std::thread::sleep(Duration::from_millis(10));
    };
    assert_eq!(
        (&event["findings"][0]["overridden"], &event["rows"]),
        (&"at night".into(), &3200.into())
    );
}

/// How many rows the error's DETAIL says are committed.
fn told_rows(detail: &str) -> i64 {
    let (_, rest) = detail.split_once("lockkeeper: ").unwrap_or_else(|| panic!("{detail}"));
    assert!(rest.contains("committed"), "{detail}");
    rest.split(' ')
        .next()
        .unwrap()
        .parse()
        .unwrap_or_else(|_| panic!("{detail}"))
}

/// It was stopped in the middle; sent again by a new session it changes what is left, and no row twice.
#[track_caller]
fn goes_on(stage: &Stage, sql: &str) {
    let before = stage.number("SELECT count(*) FROM changes");
    assert!(
        (500..3200).contains(&before),
        "not stopped in the middle: {before} rows"
    );
    assert_eq!(before % 500, 0, "a part of a batch was committed");
    let ran = stage.psql(&format!("ANALYZE t;\n{sql};\n"));
    assert!(ran.stderr.contains("continues job"), "{ran:?}");
    assert!(
        ran.stderr.contains(&format!("{before} rows are done already")),
        "{ran:?}"
    );
    // The true total, of all runs.
    let output = ran.ok();
    assert!(output.contains("UPDATE 3200"), "{output}");
    once_each_in_batches(stage, 3200);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 3200);
}

const SLOW: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 100\nbatch_rows = 500\nbatch_target_ms = 0\npause_ms = 150\n";
const FILL: &str = "UPDATE t SET flag = true WHERE flag IS NULL";
const SOME: &str = "SELECT count(*) >= 500 FROM changes";

fn cancelled_between_batches(major: u32) {
    let stage = Stage::with(major, "cancel", SLOW);
    stage.direct(TABLE);
    runs(async {
        let connection = stage.connect().await;
        let token = connection.client.cancel_token();
        let (ended, _) = tokio::join!(connection.client.execute(FILL, &[]), async {
            until_true(&stage, SOME).await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        });
        let error = ended.unwrap_err();
        let report = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(report.code(), &SqlState::QUERY_CANCELED);
        let committed = stage.number("SELECT count(*) FROM t WHERE flag");
        assert_eq!(told_rows(report.detail().unwrap_or_default()), committed);
        assert!(report.hint().unwrap_or_default().contains("again"), "{report:?}");
        assert_eq!(event(&stage, "statement", FILL)["outcome"], "cancelled");
        // The session is in order.
        connection.client.execute("SELECT 1", &[]).await.unwrap();
    });
    goes_on(&stage, FILL);

    // Ctrl-C in psql.
    stage.direct("UPDATE t SET flag = NULL; TRUNCATE changes; VACUUM ANALYZE t");
    let (ran, ()) = psql_meanwhile(&stage, &format!("{FILL};\n"), |pid| {
        runs(until_true(&stage, SOME));
        unsafe { libc::kill(pid, libc::SIGINT) };
    });
    assert!(
        ran.stderr.contains("canceling statement due to user request"),
        "{ran:?}"
    );
    let detail = ran
        .stderr
        .lines()
        .find(|line| line.starts_with("DETAIL: "))
        .unwrap_or_else(|| panic!("{ran:?}"));
    assert_eq!(told_rows(detail), stage.number("SELECT count(*) FROM t WHERE flag"));
    goes_on(&stage, FILL);
}

/// psql through the proxy, and what happens while it runs, given its process ID.
fn psql_meanwhile<T>(stage: &Stage, sql: &str, meanwhile: impl FnOnce(i32) -> T) -> (Ran, T) {
    let mut command = Command::new(stage.cluster.bin("psql").unwrap());
    lockkeeper_cluster::clean_environment(&mut command);
    command.args([
        "-X",
        "-h",
        "127.0.0.1",
        "-U",
        "postgres",
        "-v",
        "ON_ERROR_STOP=1",
        "-d",
        &stage.database,
    ]);
    command.args(["-p", &stage.port.to_string(), "-c", sql]);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let child = command.spawn().expect("psql starts");
    let given = meanwhile(child.id() as i32);
    let output = child.wait_with_output().expect("psql ends");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    let ran = Ran {
        status: output.status.code().unwrap_or(-1),
        stdout: text(output.stdout),
        stderr: text(output.stderr),
    };
    (ran, given)
}

/// While the planner is asked, a table lock stops it as it would stop the statement. Then one cancel ends the statement, which
/// does not go to the server whole because nothing is known about its size.
fn cancelled_before_the_first_batch(major: u32) {
    let mut stage = stage(major, "early");
    stage.direct(TABLE);
    stage.mark();
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        let holder = stage.connect_direct().await;
        holder
            .client
            .batch_execute("BEGIN; LOCK TABLE t IN SHARE MODE")
            .await
            .unwrap();
        let token = client.cancel_token();
        let (ended, _) = tokio::join!(client.execute(FILL, &[]), async {
            until_true(
                &stage,
                "SELECT EXISTS (SELECT 1 FROM pg_locks WHERE NOT granted AND relation = 't'::regclass)",
            )
            .await;
            token.cancel_query(tokio_postgres::NoTls).await.unwrap();
        });
        assert_eq!(ended.unwrap_err().code(), Some(&SqlState::QUERY_CANCELED));

        client.batch_execute("SET lock_timeout = '100ms'").await.unwrap();
        let started = Instant::now();
        let error = client.simple_query(FILL).await.unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::LOCK_NOT_AVAILABLE));
        assert!(started.elapsed() < PATIENCE);
        assert_eq!(
            errors(&stage, "lock timeout").len(),
            1,
            "it waited twice: {:#?}",
            stage.server_log()
        );
        holder.client.batch_execute("ROLLBACK").await.unwrap();
        assert!(
            !stage.received().iter().any(|sql| sql == FILL),
            "{:#?}",
            stage.received()
        );
        assert_eq!(client.execute(FILL, &[]).await.unwrap(), 3200);
    });
    once_each_in_batches(&stage, 3200);
}

fn crashes_leave_whole_batches(major: u32) {
    let mut stage = Stage::with(major, "crash", SLOW);
    stage.direct(TABLE);
    let again = "UPDATE t SET flag = NULL; TRUNCATE changes; VACUUM ANALYZE t";
    let no_other =
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";

    // The proxy is killed.
    runs(async {
        let connection = stage.connect().await;
        let running = tokio::spawn(async move { connection.client.execute(FILL, &[]).await });
        until_true(&stage, SOME).await;
        stage.kill_proxy();
        let error = running.await.unwrap().unwrap_err();
        assert!(error.as_db_error().is_none() || error.is_closed(), "{error:?}");
    });
    runs(until_true(&stage, no_other));
    stage.start_proxy(&[]);
    goes_on(&stage, FILL);

    // The server's process is ended.
    stage.direct(again);
    runs(async {
        let connection = stage.connect().await;
        let running = tokio::spawn(async move { connection.client.execute(FILL, &[]).await });
        until_true(&stage, SOME).await;
        stage.direct(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'test'",
        );
        let error = running.await.unwrap().unwrap_err();
        assert_eq!(error.code(), Some(&SqlState::ADMIN_SHUTDOWN), "{error:?}");
        let detail = error.as_db_error().and_then(|error| error.detail()).unwrap_or_default();
        assert!(
            detail.contains("what earlier batches have changed in public.t stays; send the same statement again"),
            "{error:?}"
        );
    });
    runs(until_true(&stage, no_other));
    let ended = event(&stage, "statement", FILL);
    assert_eq!(ended["outcome"], "disconnected");
    goes_on(&stage, FILL);

    // The client goes away without a word: nothing is changed any more soon afterwards.
    stage.direct(again);
    let (ran, ()) = psql_meanwhile(&stage, FILL, |pid| {
        runs(until_true(&stage, SOME));
        unsafe { libc::kill(pid, libc::SIGKILL) };
    });
    assert_eq!(ran.status, -1);
    runs(until_true(&stage, no_other));
    goes_on(&stage, FILL);
}

fn rows_held_by_others_are_waited_for(major: u32) {
    let mut stage = stage(major, "held");
    stage.direct(TABLE);
    stage.mark();
    runs(async {
        let connection = stage.connect().await;
        let holder = stage.connect_direct().await;
        holder
            .client
            .batch_execute("SET application_name = 'holder'; BEGIN")
            .await
            .unwrap();
        holder
            .client
            .batch_execute("UPDATE t SET m = 5 WHERE id = 1700")
            .await
            .unwrap();
        let (tag, ()) = tokio::join!(connection.client.execute(FILL, &[]), async {
            let deadline = Instant::now() + PATIENCE;
            while errors(&stage, "lock timeout").is_empty() {
                assert!(Instant::now() < deadline, "it never met the lock");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            holder.client.batch_execute("COMMIT").await.unwrap();
        });
        assert_eq!(tag.unwrap(), 3200);
    });
    once_each_in_batches(&stage, 3200);
    assert_eq!(stage.number("SELECT m FROM t WHERE id = 1700 AND flag"), 5);
    let step = &event(&stage, "step", FILL)["steps"][0];
    assert!(
        step["lock_tries"].as_i64() >= Some(8) && step["lock_wait_ms"].as_f64() >= Some(400.0),
        "{step}"
    );
}

fn a_deadlock_is_tried_again(major: u32) {
    // Patient enough for the server's deadlock check to come first.
    let mut stage = Stage::with(major, "deadlock", &format!("{POLICY}[lock]\ntimeout_ms = 1000\n"));
    stage.direct(TABLE);
    stage.mark();
    runs(async {
        let connection = stage.connect().await;
        connection
            .client
            .batch_execute("SET deadlock_timeout = '1s'")
            .await
            .unwrap();
        let other = stage.connect_direct().await;
        other
            .client
            .batch_execute("SET application_name = 'other'; SET deadlock_timeout = '1min'; BEGIN")
            .await
            .unwrap();
        other
            .client
            .batch_execute("UPDATE t SET m = 1 WHERE id = 900")
            .await
            .unwrap();
        let (tag, ()) = tokio::join!(connection.client.execute(FILL, &[]), async {
            until_true(&stage,
                    "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'
                     AND datname = current_database())").await;
            // The batch holds this row and waits for the other.
            other
                .client
                .batch_execute("UPDATE t SET m = 1 WHERE id = 600; COMMIT")
                .await
                .unwrap();
        });
        assert_eq!(tag.unwrap(), 3200);
    });
    let deadlocks = errors(&stage, "deadlock detected");
    assert_eq!(deadlocks.len(), 1, "{:#?}", stage.server_log());
    assert_eq!(deadlocks[0].application_name, "test");
    once_each_in_batches(&stage, 3200);
    assert_eq!(stage.number("SELECT sum(m) FROM t"), 2);
}

fn a_failing_row_stops_it(major: u32) {
    let stage = stage(major, "failing");
    stage.direct(TABLE);
    stage.direct("ALTER TABLE t ADD CONSTRAINT good CHECK (NOT (flag AND id = 1700))");
    runs(async {
        let connection = stage.connect().await;
        let error = connection.client.execute(FILL, &[]).await.unwrap_err();
        let report = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(report.code(), &SqlState::CHECK_VIOLATION);
        assert_eq!(report.constraint(), Some("good"));
        let detail = report.detail().unwrap_or_default();
        assert!(detail.contains("Failing row contains (1700"), "{detail}");
        assert!(
            detail.contains("1500 rows of public.t were changed and committed in 3 batches, keys up to (1500)"),
            "{detail}"
        );
        assert!(report.position().is_none());
    });
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag AND id <= 1500"), 1500);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 1500);
    let failed = event(&stage, "statement", FILL);
    assert_eq!(
        (&failed["outcome"], &failed["sqlstate"]),
        (&"failed".into(), &"23514".into())
    );
    assert_eq!(failed["rows"], 1500, "{failed}");
    stage.direct("ALTER TABLE t DROP CONSTRAINT good");
    goes_on(&stage, FILL);

    // At the commit of a batch, whose rows are then not counted.
    stage.direct(
        "UPDATE t SET flag = NULL; TRUNCATE changes; VACUUM ANALYZE t;
         CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE 'too late' USING ERRCODE = '23999'; END $$;
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON changes DEFERRABLE INITIALLY DEFERRED FOR EACH ROW WHEN (NEW.id = '1700')
         EXECUTE FUNCTION late()",
    );
    let ran = stage.psql(&format!("{FILL};\n"));
    assert!(ran.stderr.contains("ERROR:  too late"), "{ran:?}");
    assert!(
        ran.stderr
            .contains("1500 rows of public.t were changed and committed in 3 batches"),
        "{ran:?}"
    );
    stage.direct("DROP TRIGGER late ON changes");
    goes_on(&stage, FILL);
}

fn statement_timeout_counts_for_each_batch(major: u32) {
    let stage = stage(major, "timeout");
    stage.direct(TABLE);
    stage.direct(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(TG_ARGV[0]::float); RETURN NEW; END $$;
         CREATE TRIGGER slowly BEFORE UPDATE ON t FOR EACH ROW WHEN (OLD.id % 500 = 0) EXECUTE FUNCTION slowly(0.2)",
    );
    let ran = stage.psql(&format!(
        "SET statement_timeout = '800ms';\n{FILL};\nSHOW statement_timeout;\n"
    ));
    assert_eq!(ran.ok(), "SET\nUPDATE 3200\n800ms\n");
    once_each_in_batches(&stage, 3200);

    stage.direct(
        "DROP TRIGGER slowly ON t; UPDATE t SET flag = NULL; TRUNCATE changes; VACUUM ANALYZE t;
         CREATE TRIGGER slowly BEFORE UPDATE ON t FOR EACH ROW WHEN (OLD.id = 1700) EXECUTE FUNCTION slowly(60)",
    );
    let ran = stage.psql(&format!("SET statement_timeout = '800ms';\n{FILL};\n"));
    assert!(
        ran.stderr.contains("canceling statement due to statement timeout"),
        "{ran:?}"
    );
    assert!(
        ran.stderr.contains("1500 rows of public.t were changed and committed"),
        "{ran:?}"
    );
    stage.direct("DROP TRIGGER slowly ON t");
    goes_on(&stage, FILL);
}

fn serializable_is_tried_again(major: u32) {
    let mut stage = stage(major, "serializable");
    stage.direct(TABLE);
    stage.mark();
    runs(async {
        let connection = stage.connect().await;
        connection
            .client
            .batch_execute("SET default_transaction_isolation = 'serializable'")
            .await
            .unwrap();
        let holder = stage.connect_direct().await;
        holder
            .client
            .batch_execute("SET application_name = 'holder'; BEGIN; UPDATE t SET m = 1 WHERE id = 700")
            .await
            .unwrap();
        let (tag, ()) = tokio::join!(connection.client.execute(FILL, &[]), async {
            until_true(&stage,
                    "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'
                     AND datname = current_database())").await;
            holder.client.batch_execute("COMMIT").await.unwrap();
        });
        assert_eq!(tag.unwrap(), 3200);
    });
    assert!(
        !errors(&stage, "could not serialize access").is_empty(),
        "{:#?}",
        stage.server_log()
    );
    once_each_in_batches(&stage, 3200);
}

// --- UPDATE … LIMIT ------------------------------------------------------------------------------------------------------

fn limited_by_hand(major: u32) {
    let stage = stage(major, "limited");
    stage.direct(TABLE);
    let script = "UPDATE t SET flag = true WHERE flag IS NULL LIMIT 1000;\n\
        UPDATE t AS x SET flag = true WHERE x.flag IS NULL ORDER BY id DESC LIMIT 2 RETURNING x.id, x.flag AS done;\n\
        DELETE FROM t WHERE id > 100 LIMIT 3 RETURNING id;\n\
        DELETE FROM ONLY t LIMIT 0;\n\
        BEGIN;\nDELETE FROM t LIMIT 10;\nROLLBACK;\n\
        UPDATE t SET n = 1 LIMIT 5\\; UPDATE t SET n = 2 LIMIT 4;\n";
    let output = stage.psql(script).ok();
    let expect = "UPDATE 1000\n3200|t\n3199|t\nUPDATE 2\n101\n102\n103\nDELETE 3\nDELETE 0\nBEGIN\nDELETE 10\nROLLBACK\nUPDATE 5\nUPDATE 4\n";
    let (mut lines, mut expected): (Vec<_>, Vec<_>) = (output.lines().collect(), expect.lines().collect());
    lines.sort_unstable();
    expected.sort_unstable();
    assert_eq!(lines, expected);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE id <= 1000 AND flag"), 997);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag AND id > 1000"), 2);
    assert_eq!(stage.number("SELECT count(*) FROM t"), 3197);
    assert_eq!(stage.number("SELECT sum(n) FROM t"), 9);
    let first = event(
        &stage,
        "statement",
        "UPDATE t SET flag = true WHERE flag IS NULL LIMIT 1000",
    );
    assert_eq!((&first["rows"], &first["outcome"]), (&1000.into(), &"done".into()));
}

/// The usual loop ends when fewer rows than asked for came back: it must not end early because others held rows.
fn limited_in_a_loop_while_rows_are_locked(major: u32) {
    for key in ["id", "name, id"] {
        let stage = stage(major, "loop");
        stage.direct(TABLE);
        stage.direct(&format!(
            "UPDATE t SET name = 'k' || id % 7; ALTER TABLE t ALTER name SET NOT NULL, DROP CONSTRAINT t_pkey, ADD PRIMARY KEY ({key});
             TRUNCATE changes; VACUUM ANALYZE t"
        ));
        runs(async {
            let connection = stage.connect().await;
            let holder = stage.connect_direct().await;
            holder
                .client
                .batch_execute("SET application_name = 'holder'; BEGIN")
                .await
                .unwrap();
            holder
                .client
                .batch_execute("UPDATE t SET m = 1 WHERE id BETWEEN 3 AND 40")
                .await
                .unwrap();
            let held = async {
                // Until the loop is at the held rows.
                until_true(&stage,
                        "SELECT EXISTS (SELECT 1 FROM pg_stat_activity WHERE application_name = 'test' AND wait_event_type = 'Lock'
                         AND datname = current_database())").await;
                holder.client.batch_execute("COMMIT").await.unwrap();
            };
            let looped = async {
                let client = &connection.client;
                let statement = client
                    .prepare("UPDATE t SET flag = true WHERE flag IS NULL LIMIT $1 RETURNING id")
                    .await
                    .unwrap();
                let mut ids = Vec::new();
                loop {
                    let rows = client.query(&statement, &[&700i64]).await.unwrap();
                    ids.extend(rows.iter().map(|row| row.get::<_, i64>(0)));
                    if rows.len() < 700 {
                        return ids;
                    }
                }
            };
            let (mut ids, ()) = tokio::join!(looped, held);
            ids.sort_unstable();
            assert_eq!(ids, (1..=3200).collect::<Vec<i64>>());
        });
        assert_eq!(stage.number("SELECT count(*) FROM changes"), 3200);
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag"), 3200);
        assert_eq!(stage.number("SELECT sum(m) FROM t"), 38);
    }
}

/// Several workers in the same loop, beside writers: together they change every row once.
fn limited_workers_share_the_rows(major: u32) {
    let stage = stage(major, "workers");
    stage.direct(TABLE);
    runs(async {
        let stop = Arc::new(AtomicBool::new(false));
        let writer = stage.connect_direct().await;
        let written = {
            let stop = stop.clone();
            tokio::spawn(async move {
                writer
                    .client
                    .batch_execute("SET application_name = 'writer'")
                    .await
                    .unwrap();
                let mut written = 0;
                for id in (1..=3200).cycle().step_by(37) {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    written += writer
                        .client
                        .execute("UPDATE t SET m = m + 1 WHERE id = $1", &[&(id as i64)])
                        .await
                        .unwrap();
                }
                written as i64
            })
        };
        let mut workers = Vec::new();
        for _ in 0..3 {
            let connection = stage.connect().await;
            workers.push(tokio::spawn(async move {
                let sql = "UPDATE t SET flag = true, n = n + 1 WHERE flag IS NULL LIMIT $1";
                let mut total = 0;
                loop {
                    match connection.client.execute(sql, &[&300i64]).await {
                        Ok(count) => {
                            total += count as i64;
                            if count < 300 {
                                return total;
                            }
                        }
                        Err(error) => assert_eq!(error.code(), Some(&SqlState::T_R_DEADLOCK_DETECTED), "{error}"),
                    }
                }
            }));
        }
        let mut total = 0;
        for worker in workers {
            total += worker.await.unwrap();
        }
        stop.store(true, Ordering::Relaxed);
        let written = written.await.unwrap();
        assert_eq!(total, 3200);
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag AND n = 1"), 3200);
        assert_eq!(stage.number("SELECT sum(m) FROM t"), written);
    });
}

fn limited_errors_are_the_client_s(major: u32) {
    let stage = stage(major, "errors");
    stage.direct(TABLE);
    stage.direct("CREATE TABLE keyless (a int)");
    let verbose = |sql: &str| {
        stage
            .psql_args(&["-v", "VERBOSITY=verbose"], &format!("{sql};\n"))
            .stderr
    };
    let wrong = verbose("UPDATE t SET nothing = 1 LIMIT 5");
    assert!(
        wrong.contains("42703: column \"nothing\" of relation \"t\" does not exist"),
        "{wrong}"
    );
    // A position in text that the client never wrote would point anywhere.
    assert!(
        !wrong.contains("LINE 1: WITH") && !wrong.contains("lockkeeper_"),
        "{wrong}"
    );
    let unknown = verbose("DELETE FROM nowhere LIMIT 5");
    assert!(unknown.contains("ERROR:  42"), "{unknown}");
    let negative = verbose("DELETE FROM t LIMIT -1");
    assert!(negative.contains("2201W: LIMIT must not be negative"), "{negative}");
    let keyless = verbose("DELETE FROM keyless LIMIT 1");
    assert!(
        keyless.contains("42601: ") && keyless.contains("no primary key"),
        "{keyless}"
    );
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        let error = client.prepare("UPDATE t SET nothing = $1 LIMIT 5").await.unwrap_err();
        let report = error.as_db_error().unwrap_or_else(|| panic!("{error}"));
        assert_eq!(report.code(), &SqlState::UNDEFINED_COLUMN);
        assert_eq!(report.position(), None, "a position in another text");
        let null = client
            .execute("DELETE FROM t LIMIT $1", &[&None::<i64>])
            .await
            .unwrap_err();
        assert_eq!(null.code().map(SqlState::code), Some("2201W"), "{null}");
        // In a transaction, with a commit for each.
        for _ in 0..2 {
            client.batch_execute("BEGIN").await.unwrap();
            assert_eq!(client.execute("DELETE FROM t LIMIT $1", &[&5i64]).await.unwrap(), 5);
            client.batch_execute("COMMIT").await.unwrap();
        }
    });
    assert_eq!(stage.number("SELECT count(*) FROM t"), 3190);
}

/// Each row takes 50 ms: the first batch would hold its rows for minutes, and whoever pauses the job would wait as long.
fn a_batch_has_a_deadline(major: u32) {
    let policy = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 100\nbatch_target_ms = 200\npause_ms = 0\n";
    let stage = Stage::with(major, "deadline", policy);
    stage.direct(TABLE);
    stage.direct(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           PERFORM pg_sleep(CASE OLD.id WHEN 5 THEN 1 ELSE 0.05 END); RETURN OLD; END $$;
         CREATE TRIGGER slowly BEFORE DELETE ON t FOR EACH ROW EXECUTE FUNCTION slowly()",
    );
    std::thread::scope(|scope| {
        let deleting = scope.spawn(|| stage.psql("DELETE FROM t;\n"));
        runs(until_true(&stage, "SELECT count(*) >= 30 FROM changes"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        lockkeeper_cluster::clean_environment(&mut command);
        let dsn = format!(
            "host=127.0.0.1 port={} user=postgres dbname={}",
            stage.cluster.port(),
            stage.database
        );
        let paused = lockkeeper_testkit::run(
            {
                command.args(["jobs", "--dsn", &dsn, "pause", "1"]);
                command
            },
            "",
        );
        assert_eq!(paused.status, 0, "{paused:?}");
        let ran = deleting.join().expect("psql");
        assert!(ran.stderr.contains("job 1 was paused by another session"), "{ran:?}");
    });
    // 600 ms hold twelve such rows; the one that takes a second had more time, alone.
    let largest = stage.number("SELECT max(n) FROM (SELECT count(*) n FROM changes GROUP BY xid) x");
    assert!(largest <= 20, "{largest} rows in one transaction");
    assert_eq!(
        stage.number("SELECT count(*) FROM changes WHERE xid = (SELECT xid FROM changes WHERE id = '5')"),
        1
    );
    assert_eq!(
        stage.number("SELECT count(*) FROM changes"),
        3200 - stage.number("SELECT count(*) FROM t")
    );
}

/// One row takes half a minute: whoever pauses or gives up the job does not wait for it.
fn what_is_paused_stops_at_once(major: u32) {
    let policy = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 100\nbatch_rows = 1\nbatch_target_ms = 20000\npause_ms = 0\n";
    let stage = Stage::with(major, "atonce", policy);
    stage.direct(TABLE);
    stage.direct(
        "CREATE FUNCTION slowly() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(30); RETURN OLD; END $$;
         CREATE TRIGGER slowly BEFORE DELETE ON t FOR EACH ROW WHEN (OLD.id = 5) EXECUTE FUNCTION slowly()",
    );
    let sleeping =
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
    for (number, (action, told)) in [
        ("pause", "job 1 was paused by another session"),
        ("cancel", "job 1 was cancelled by another session"),
    ]
    .into_iter()
    .enumerate()
    {
        std::thread::scope(|scope| {
            let deleting = scope.spawn(|| stage.psql("DELETE FROM t;\n"));
            runs(until_true(&stage, sleeping));
            let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
            lockkeeper_cluster::clean_environment(&mut command);
            let dsn = format!(
                "host=127.0.0.1 port={} user=postgres dbname={}",
                stage.cluster.port(),
                stage.database
            );
            command.args(["jobs", "--dsn", &dsn, action, "1"]);
            let steered = lockkeeper_testkit::run(command, "");
            assert_eq!(steered.status, 0, "{steered:?}");
            // The row is not done, nor slept over.
            assert_eq!(
                stage.number("SELECT count(*) FROM t WHERE id = 5"),
                1,
                "{action} {number}"
            );
            let ran = deleting.join().expect("psql");
            assert!(ran.stderr.contains(told), "{ran:?}");
            assert_eq!(stage.number(&format!("SELECT ({sleeping})::int")), 0);
        });
    }
    let left = stage.number("SELECT count(*) FROM t");
    assert_eq!(
        stage.direct("SELECT state, rows_done FROM lockkeeper.job").trim(),
        format!("cancelled|{}", 3200 - left)
    );
}

/// What is set up, the statement, and what its refusal names.
const OTHERWISE: &[(&str, &str, &str)] = &[
    (
        "CREATE FUNCTION has_more(integer, integer) RETURNS boolean STABLE LANGUAGE sql AS 'SELECT (SELECT sum(n) FROM t) < $1 + $2';
         CREATE OPERATOR <<<< (LEFTARG = integer, RIGHTARG = integer, FUNCTION = has_more)",
        "UPDATE t SET n = 1 WHERE m <<<< 5",
        "has_more() (by the operator <<<<)",
    ),
    (
        "CREATE TYPE pair AS (a integer, b integer);
         CREATE FUNCTION of_pair(pair) RETURNS integer STABLE LANGUAGE sql AS 'SELECT sum(n)::int FROM t';
         CREATE CAST (pair AS integer) WITH FUNCTION of_pair(pair) AS ASSIGNMENT",
        "UPDATE t SET n = ROW(1, 2)::pair",
        "of_pair()",
    ),
    (
        "CREATE FUNCTION next_n() RETURNS integer STABLE LANGUAGE sql AS 'SELECT max(n) + 1 FROM t';
         ALTER TABLE t ALTER n SET DEFAULT next_n()",
        "UPDATE t SET n = DEFAULT",
        "next_n() (by the default of n)",
    ),
    (
        "CREATE FUNCTION few(integer) RETURNS boolean STABLE LANGUAGE sql AS 'SELECT count(*) < 5000 FROM t WHERE n = $1';
         CREATE DOMAIN few_n AS integer CHECK (few(VALUE)); CREATE DOMAIN fewer_n AS few_n; ALTER TABLE t ADD d fewer_n",
        "UPDATE t SET d = 7",
        "few() (by a CHECK of the domain few_n)",
    ),
    (
        "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           -- the key
           IF NEW.flag THEN new . \"id\" = NEW.id + 100000; END IF; RETURN NEW; END $$;
         CREATE TRIGGER away BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION away()",
        "UPDATE t SET flag = true",
        "the trigger away changes id",
    ),
    (
        "UPDATE t SET m = id; ALTER TABLE t ADD CONSTRAINT places UNIQUE (m) DEFERRABLE",
        "UPDATE t SET m = m + 1",
        "the constraint places is DEFERRABLE",
    ),
    (
        "ALTER TABLE t ADD parent bigint; UPDATE t SET parent = id + 1 WHERE id < 3200;
         ALTER TABLE t ADD CONSTRAINT up FOREIGN KEY (parent) REFERENCES t",
        "DELETE FROM t",
        "by the foreign key up",
    ),
    (
        "CREATE TABLE u (id bigint PRIMARY KEY REFERENCES t ON DELETE CASCADE); INSERT INTO u SELECT id FROM t;
         ALTER TABLE t ADD u bigint CONSTRAINT back REFERENCES u ON DELETE SET NULL",
        "DELETE FROM t WHERE u IS NULL",
        "by the foreign key back",
    ),
    (
        "CREATE FUNCTION even() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF (SELECT sum(n) FROM t) % 3200 <> 0 THEN RAISE 'odd'; END IF; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER even AFTER UPDATE ON t DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION even()",
        "UPDATE t SET n = 1",
        "the constraint trigger even",
    ),
];

fn what_one_statement_does_otherwise_is_refused(major: u32) {
    for (n, (setup, sql, expect)) in OTHERWISE.iter().enumerate() {
        let stage = stage(major, &format!("otherwise{n}"));
        stage.direct(TABLE);
        stage.direct(setup);
        stage.direct("TRUNCATE changes; VACUUM ANALYZE t");
        let ran = stage.psql(&format!("{sql};\n"));
        assert!(
            ran.stderr.contains("ERROR:") && ran.stderr.contains(expect),
            "{sql}: {ran:?}"
        );
        assert!(!ran.stderr.contains("it is done in batches"), "{sql}: {ran:?}");
        assert_eq!(stage.number("SELECT count(*) FROM changes"), 0, "{sql}");
        // Nothing is left of what was tried, and what PostgreSQL itself does is no error.
        assert_eq!(
            stage.number("SELECT count(*) FROM pg_class WHERE relname = 'lockkeeper_trial'"),
            0
        );
        stage.direct(&format!("BEGIN; {sql}; ROLLBACK"));
        // With parameters.
        if sql.contains("<<<<") {
            runs(async {
                let connection = stage.connect().await;
                let error = connection
                    .client
                    .execute("UPDATE t SET n = $1::int WHERE m <<<< $2::int", &[&1i32, &5i32])
                    .await
                    .unwrap_err();
                let hint = error.as_db_error().and_then(|error| error.hint()).unwrap_or_default();
                assert!(hint.contains("has_more()"), "{error:?}");
            });
        }
    }
    // IMMUTABLE ones and the server's own are no reason.
    let stage = stage(major, "likewise");
    stage.direct(TABLE);
    stage.direct(
        "CREATE FUNCTION more(integer, integer) RETURNS boolean IMMUTABLE LANGUAGE sql AS 'SELECT $1 < $2';
         CREATE OPERATOR <<<< (LEFTARG = integer, RIGHTARG = integer, FUNCTION = more);
         CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.id = OLD.id AND NEW.id IS NOT NULL THEN NEW.name := 'id ' || NEW.id; END IF; RETURN NEW; END $$;
         CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp()",
    );
    let ran = stage.psql("UPDATE t SET n = DEFAULT, flag = now() > '2020-01-01'::date WHERE m <<<< 5;\n");
    assert_eq!(ran.ok(), "UPDATE 3200\n");
    once_each_in_batches(&stage, 3200);
}

const SES: &str =
    "CREATE TABLE ses (id bigint PRIMARY KEY, t bigint CONSTRAINT of_t REFERENCES t ON DELETE CASCADE, n bigint);
    INSERT INTO ses SELECT id, id, id + 2000 FROM t; CREATE INDEX ON ses (t);
    CREATE TABLE deep (ses bigint CONSTRAINT of_ses REFERENCES ses ON DELETE CASCADE, n bigint);
    INSERT INTO deep SELECT id, n FROM ses; CREATE INDEX ON deep (ses);
    CREATE TABLE other AS SELECT id FROM t; ANALYZE ses, deep, other;";

/// What the statement's own foreign keys, triggers and rules change of the tables that it reads: setup, statement, reason.
const MOVING: &[(&str, &str, &str)] = &[
    (
        "",
        "DELETE FROM t WHERE id <= (SELECT min(n) - 1 FROM ses)",
        "it reads public.ses, which may change with its rows (by the foreign key of_t)",
    ),
    (
        "",
        "DELETE FROM t USING deep WHERE t.id + 2000 = deep.n",
        "it reads public.deep, which may change with its rows (by the foreign key of_ses)",
    ),
    (
        "CREATE VIEW shown AS SELECT n FROM deep",
        "DELETE FROM t WHERE id < (SELECT min(n) FROM shown)",
        "it reads the view shown",
    ),
    (
        "CREATE TABLE leaf (PRIMARY KEY (id)) INHERITS (ses)",
        "DELETE FROM t WHERE id > (SELECT count(*) FROM leaf)",
        "it reads public.leaf, which may change with its rows (by the foreign key of_t)",
    ),
    (
        "ALTER TABLE ses DROP CONSTRAINT of_t, ADD CONSTRAINT to_t FOREIGN KEY (t) REFERENCES t ON DELETE SET NULL",
        "WITH free AS MATERIALIZED (SELECT count(t) AS n FROM ses) DELETE FROM t USING free WHERE t.id < free.n",
        "it reads public.ses, which may change with its rows (by the foreign key to_t)",
    ),
    (
        "UPDATE t SET m = id; ALTER TABLE t ADD CONSTRAINT one UNIQUE (m);
         CREATE TABLE by_m (m integer CONSTRAINT of_m REFERENCES t (m) ON UPDATE CASCADE); INSERT INTO by_m SELECT m FROM t;
         CREATE INDEX ON by_m (m)",
        "UPDATE t SET m = m + 10000 WHERE id > (SELECT count(*) FROM by_m WHERE m > 10000)",
        "it reads public.by_m, which may change with its rows (by the foreign key of_m)",
    ),
    // The trigger gives the column its value.
    (
        "UPDATE t SET m = id; ALTER TABLE t ADD CONSTRAINT one UNIQUE (m);
         CREATE TABLE by_m (m integer CONSTRAINT of_m REFERENCES t (m) ON UPDATE CASCADE); INSERT INTO by_m SELECT m FROM t;
         CREATE INDEX ON by_m (m);
         CREATE FUNCTION other_m() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.m := OLD.m + 10000; RETURN NEW; END $$;
         CREATE TRIGGER other_m BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION other_m()",
        "UPDATE t SET flag = true WHERE id > (SELECT count(*) FROM by_m WHERE m > 10000)",
        "the statement reads public.by_m, which changes with the rows of public.t",
    ),
    (
        "CREATE TABLE cat (id integer PRIMARY KEY, total bigint); INSERT INTO cat VALUES (0, 0);
         CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           UPDATE cat SET total = total + NEW.n - OLD.n WHERE id = 0; RETURN NULL; END $$;
         CREATE TRIGGER keep AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION keep()",
        "UPDATE t SET n = n + 1 WHERE m IN (SELECT id FROM cat WHERE total < 1000)",
        "it reads public.cat, which may change with its rows (by the trigger keep)",
    ),
    // A trigger of a table that goes along.
    (
        "CREATE FUNCTION less() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM other WHERE id = OLD.n; RETURN NULL; END $$;
         CREATE TRIGGER less AFTER DELETE ON deep FOR EACH ROW EXECUTE FUNCTION less()",
        "DELETE FROM t WHERE id IN (SELECT id FROM other)",
        "the statement reads public.other, which changes with the rows of public.t",
    ),
    // Through a view that is written.
    (
        "CREATE VIEW \"An Other\" AS SELECT * FROM other;
         CREATE FUNCTION less() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN DELETE FROM \"An Other\" WHERE id = OLD.id; RETURN NULL; END $$;
         CREATE TRIGGER less AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION less()",
        "UPDATE t SET flag = true WHERE id IN (SELECT id FROM other)",
        "the statement reads public.other, which changes with the rows of public.t",
    ),
    (
        "CREATE FUNCTION dark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           EXECUTE 'DELETE FROM oth' || 'er WHERE id = $1' USING OLD.id; RETURN NULL; END $$;
         CREATE TRIGGER dark AFTER UPDATE OF flag ON t FOR EACH ROW EXECUTE FUNCTION dark()",
        "UPDATE t SET flag = true WHERE id IN (SELECT id FROM other)",
        "the statement reads public.other, which changes with the rows of public.t",
    ),
    (
        "CREATE FUNCTION behind(t) RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN DELETE FROM other WHERE id = $1.id; RETURN 1; END $$;
         CREATE FUNCTION calls() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM behind(NEW); RETURN NULL; END $$;
         CREATE TRIGGER calls AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION calls()",
        "UPDATE t SET flag = true WHERE id IN (SELECT id FROM other)",
        "the statement reads public.other, which changes with the rows of public.t",
    ),
    (
        "CREATE RULE along AS ON DELETE TO ses DO ALSO DELETE FROM other WHERE id = OLD.id",
        "DELETE FROM t WHERE id IN (SELECT id FROM other)",
        "the statement reads public.other, which changes with the rows of public.t",
    ),
    // It finds the rows half done behind the first batch.
    (
        "CREATE FUNCTION even() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF (SELECT sum(n) FROM public.t) % 3200 <> 0 THEN RAISE 'odd'; END IF; RETURN NULL; END $$;
         CREATE TRIGGER even AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION even()",
        "UPDATE t SET n = n + 1",
        "the function of the trigger even names t itself",
    ),
    (
        "CREATE FUNCTION next_too() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           UPDATE t SET flag = true WHERE id = NEW.id + 1600 AND flag IS NULL; RETURN NULL; END $$;
         CREATE TRIGGER next_too AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION next_too()",
        "UPDATE t SET n = n + 1 WHERE flag IS NULL",
        "the function of the trigger next_too names t itself",
    ),
    // In a way that no text shows.
    (
        "CREATE FUNCTION even() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE odd boolean; BEGIN
           EXECUTE format('SELECT sum(n) %% 3200 <> 0 FROM %I', TG_TABLE_NAME) INTO odd;
           IF odd THEN RAISE WARNING 'odd'; END IF; RETURN NULL; END $$;
         CREATE TRIGGER even AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.id = 7) EXECUTE FUNCTION even()",
        "UPDATE t SET n = n + 1",
        "a trigger of public.t that runs after each row reads public.t itself",
    ),
    (
        "CREATE FUNCTION next_too() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           EXECUTE format('UPDATE %I SET flag = true WHERE id = $1 AND flag IS NULL', TG_TABLE_NAME) USING NEW.id + 1600; RETURN NULL; END $$;
         CREATE TRIGGER next_too AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.id = 1) EXECUTE FUNCTION next_too()",
        "UPDATE t SET n = n + 1 WHERE flag IS NULL RETURNING id",
        "a trigger of public.t changes other rows of public.t",
    ),
    (
        "CREATE FUNCTION again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           EXECUTE format('INSERT INTO %I (id, flag) VALUES ($1, true)', TG_TABLE_NAME) USING 100000 + OLD.id; RETURN NULL; END $$;
         CREATE TRIGGER again AFTER DELETE ON t FOR EACH ROW EXECUTE FUNCTION again()",
        "DELETE FROM t WHERE flag IS NULL",
        "a trigger of public.t changes other rows of public.t",
    ),
    // It waits for COMMIT.
    (
        "CREATE FUNCTION less() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DELETE FROM other'; RETURN NULL; END $$;
         CREATE CONSTRAINT TRIGGER less AFTER DELETE ON deep DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION less()",
        "DELETE FROM t WHERE id IN (SELECT id FROM other)",
        "the statement reads public.other, which changes with the rows of public.t",
    ),
];

fn what_moves_under_the_statement_is_refused(major: u32) {
    let stage = stage(major, "moving");
    for (setup, sql, expect) in MOVING {
        stage.direct("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        stage.direct(TABLE);
        stage.direct(SES);
        stage.direct(setup);
        stage.direct("TRUNCATE changes; VACUUM ANALYZE t");
        let before = batches(&stage).len();
        let ran = stage.psql(&format!("{sql};\n"));
        assert!(
            ran.stderr.contains("ERROR:") && ran.stderr.contains(expect),
            "{sql}: {ran:?}"
        );
        let seen_in_a_batch = ["the statement reads", "a trigger of"]
            .iter()
            .any(|told| expect.starts_with(told));
        assert_eq!(batches(&stage).len() - before, usize::from(seen_in_a_batch), "{sql}");
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag OR n <> 0"), 0, "{sql}");
        if seen_in_a_batch {
            assert_eq!(
                stage.number("SELECT count(*) FROM lockkeeper.job WHERE state <> 'cancelled'"),
                0,
                "{sql}"
            );
        }
        assert_eq!(stage.number("SELECT count(*) FROM changes"), 0, "{sql}");
        // What PostgreSQL itself does is no error.
        stage.direct(&format!("BEGIN; {sql}; ROLLBACK"));
    }
}

/// A trigger that changes what is read from some row on: until there the batches were right, and the rest can be told from what is done.
fn what_moves_later_stops_it(major: u32) {
    let stage = stage(major, "later");
    stage.direct(TABLE);
    stage.direct(SES);
    stage.direct(
        "CREATE FUNCTION dark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DELETE FROM oth' || 'er WHERE id > 100'; RETURN NULL; END $$;
         CREATE TRIGGER dark AFTER UPDATE ON t FOR EACH ROW WHEN (NEW.id = 2000) EXECUTE FUNCTION dark()",
    );
    let sql = "UPDATE t SET n = n + 1 WHERE id IN (SELECT id FROM other)";
    let ran = stage.psql(&format!("{sql};\n"));
    let told = "cannot be done in batches further: the statement reads public.other";
    assert!(ran.stderr.contains(told), "{ran:?}");
    let done = stage.number("SELECT count(*) FROM changes");
    assert!((500..2000).contains(&done), "{done}");
    assert_eq!(stage.number("SELECT max(id) FROM t WHERE n = 1"), done);
    assert_eq!(stage.number("SELECT count(*) FROM other"), 3200);
    assert!(
        ran.stderr
            .contains(&format!("leaves out what is done, keys up to ({done})")),
        "{ran:?}"
    );
    // As the hint says.
    let ran = stage.psql(&format!(
        "SET lockkeeper.override = 'large-write: the rest'; {sql} AND id > {done};\n"
    ));
    let told = ran.ok();
    assert!(told.contains(&format!("UPDATE {}", 3200 - done)), "{told}");
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE n = 1"), 3200);
}

fn what_does_not_move_is_read_in_batches(major: u32) {
    let stage = stage(major, "still");
    stage.direct(TABLE);
    stage.direct(SES);
    stage.direct(
        "CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           NEW.name := coalesce(NEW.name, 'at ' || now()); RETURN NEW; END $$;
         CREATE TRIGGER stamp BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION stamp();
         CREATE TRIGGER zz_same BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
         CREATE FUNCTION dark() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DELETE FROM other'; RETURN NULL; END $$;
         CREATE TRIGGER off AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION dark(); ALTER TABLE t DISABLE TRIGGER off;
         CREATE TRIGGER of_m AFTER UPDATE OF m ON t FOR EACH ROW EXECUTE FUNCTION dark();
         CREATE TRIGGER on_insert AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION dark()",
    );
    // The foreign key of ses does nothing for an UPDATE, the triggers nothing to these tables.
    for sql in [
        "UPDATE t SET flag = true WHERE id IN (SELECT id FROM other)",
        "UPDATE t SET n = ses.n FROM ses WHERE ses.t = t.id",
        "DELETE FROM t USING other WHERE other.id = t.id",
    ] {
        stage.direct("TRUNCATE changes; VACUUM ANALYZE t");
        let ran = stage.psql(&format!("{sql};\n"));
        assert_eq!(ran.ok(), format!("{} 3200\n", &sql[..6]), "{sql}");
        once_each_in_batches(&stage, 3200);
    }
    assert_eq!(stage.number("SELECT count(*) FROM deep"), 0);
    assert_eq!(stage.number("SELECT count(*) FROM other"), 3200);
}

/// No text shows what this one does: the first batch finds it, and undoes itself.
fn unseen_triggers_that_move_the_key_change_nothing(major: u32) {
    let stage = stage(major, "unseen");
    stage.direct(TABLE);
    stage.direct(
        "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN
           r := NEW; r.id := r.id + 100000; RETURN r; END $$;
         CREATE TRIGGER away BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION away()",
    );
    for sql in ["UPDATE t SET flag = true", "UPDATE t SET flag = true RETURNING id"] {
        let ran = stage.psql(&format!("{sql};\n"));
        assert!(
            ran.stderr.contains("a trigger of public.t changes the key (id)"),
            "{ran:?}"
        );
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE flag OR id > 3200"), 0);
        assert_eq!(
            stage.number("SELECT count(*) FROM lockkeeper.job WHERE state <> 'cancelled'"),
            0
        );
    }
}

fn a_foreign_key_without_an_index_is_named(major: u32) {
    let stage = stage(major, "unindexed");
    stage.direct(TABLE);
    stage.direct(
        "CREATE TABLE child (id integer, parent bigint CONSTRAINT of_t REFERENCES t, filler text);
         INSERT INTO child SELECT i, 1, repeat('x', 500) FROM generate_series(1, 4000) i; VACUUM ANALYZE child",
    );
    let ran = stage.psql("DELETE FROM t WHERE id > 100;\n");
    let named = "each row of this DELETE reads all of public.child (3 MB), since its foreign key of_t has no index";
    assert!(ran.stderr.contains(named), "{ran:?}");
    assert!(
        ran.stderr
            .contains("CREATE INDEX CONCURRENTLY ON public.child (parent)"),
        "{ran:?}"
    );
    assert_eq!(ran.ok(), "DELETE 3100\n");
    once_each_in_batches(&stage, 3100);
    stage.direct(
        "CREATE INDEX ON child (parent, id); INSERT INTO t (id) SELECT * FROM generate_series(101, 3200); ANALYZE t",
    );
    let ran = stage.psql("DELETE FROM t WHERE id > 100;\n");
    assert!(!ran.stderr.contains("has no index"), "{ran:?}");
    assert_eq!(ran.ok(), "DELETE 3100\n");
}

/// A list of keys is walked, and nothing of the table between them is read.
fn keys_that_are_known_are_walked(major: u32) {
    let mut stage = stage(major, "listed");
    stage.direct(TABLE);
    stage.direct("INSERT INTO t (id) SELECT * FROM generate_series(3201, 20000); VACUUM ANALYZE t");
    let ids: Vec<String> = (1..=2000).map(|n| (n * 10).to_string()).collect();
    let ids = ids.join(", ");
    stage.mark();
    let ran = stage.psql(&format!("UPDATE t SET n = n + 1 WHERE id IN ({ids});\n"));
    assert_eq!(ran.ok(), "UPDATE 2000\n");
    once_each_in_batches(&stage, 2000);
    assert_eq!(batches(&stage).len(), 4);
    // Less the question to the catalog.
    let reads_on = |sql: &String| sql.contains(" OFFSET ") && !sql.starts_with("WITH RECURSIVE");
    assert!(!stage.received().iter().any(reads_on));
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE n = 1 AND id % 10 = 0"), 2000);

    stage.direct("TRUNCATE changes");
    stage.mark();
    let array: Vec<i64> = (1..=2000).map(|n| n * 10).collect();
    runs(async {
        let connection = stage.connect().await;
        let sql = "UPDATE t SET n = n + 1 WHERE id = ANY ($1) AND m = 0";
        assert_eq!(connection.client.execute(sql, &[&array]).await.unwrap(), 2000);
    });
    once_each_in_batches(&stage, 2000);
    assert_eq!(batches(&stage).len(), 4);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE n = 2"), 2000);
}

/// `k` has what `t` has and no key; what is done to it is noted the same way.
const KEYLESS: &str = "
CREATE TABLE k (id bigint NOT NULL, flag boolean, n integer NOT NULL DEFAULT 0, pad text) WITH (fillfactor = 60);
INSERT INTO k SELECT i, NULL, 0, repeat('x', 200) FROM generate_series(1, 3200) i;
CREATE TRIGGER note AFTER UPDATE OR DELETE ON k FOR EACH ROW EXECUTE FUNCTION note();
VACUUM ANALYZE k;";

fn without_a_key_rows_go_by_place(major: u32) {
    let mut stage = stage(major, "keyless");
    stage.direct(TABLE);
    stage.direct(KEYLESS);
    for (sql, left) in [
        ("UPDATE k SET flag = true WHERE flag IS NULL", "flag IS NULL"),
        (
            "UPDATE k SET flag = false, pad = pad || 'y' WHERE flag IS DISTINCT FROM false",
            "flag",
        ),
        ("UPDATE k SET n = 1 + random()::int WHERE n = 0", "n = 0"),
        ("DELETE FROM k WHERE id <= 1600", "id <= 1600"),
        ("DELETE FROM k", "true"),
    ] {
        stage.direct("TRUNCATE changes; VACUUM ANALYZE k");
        let due = stage.number("SELECT count(*) FROM k") / if sql.contains("<=") { 2 } else { 1 };
        stage.mark();
        let ran = stage.psql(&format!("{sql};\n"));
        let made = match sql.starts_with("UPDATE") && sql.contains("pad ||") {
            // It reads what it changes.
            true => {
                assert!(ran.stderr.contains("depends on pad"), "{ran:?}");
                continue;
            }
            false => ran.ok(),
        };
        assert_eq!(made, format!("{} {due}\n", &sql[..6]), "{sql}");
        assert_eq!(
            stage.number(&format!("SELECT count(*) FROM k WHERE {left}")),
            0,
            "{sql}"
        );
        once_each_in_batches(&stage, due);
        assert!(batches(&stage).len() as i64 >= due / 500, "{sql}");
        assert_eq!(event(&stage, "statement", sql)["outcome"], "done");
    }
    assert_eq!(
        stage.number("SELECT count(*) FROM lockkeeper.job WHERE state <> 'done'"),
        0
    );

    // Its rows are delivered, each once.
    stage.direct("INSERT INTO k SELECT i, NULL, 0, 'x' FROM generate_series(1, 3000) i; ANALYZE k");
    let ran = stage.psql("DELETE FROM k WHERE flag IS NULL RETURNING id;\n");
    let mut ids: Vec<i64> = ran.ok().lines().filter_map(|line| line.trim().parse().ok()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=3000).collect::<Vec<i64>>());
}

/// PostgreSQL 13 reads no range of places by itself: `make test-versions`.
#[test]
fn without_a_key_on_13() {
    let versions = std::env::var("LOCKKEEPER_VERSIONS").unwrap_or_default();
    if versions.split(',').any(|version| version == "13") {
        without_a_key_rows_go_by_place(13);
        without_a_key_moved_rows_are_reached(13);
        without_a_key_a_crash_is_gone_on_from(13);
        without_a_key_triggers_may_leave_no_row(13);
    }
}

/// While the batches go on, another session moves rows to places that the walk has passed.
fn without_a_key_moved_rows_are_reached(major: u32) {
    for sql in [
        "DELETE FROM k WHERE n >= 0",
        "UPDATE k SET flag = true WHERE flag IS NULL",
    ] {
        let verb = &sql[..6];
        let stage = stage(major, &format!("moved_{}", verb.to_lowercase()));
        stage.direct(TABLE);
        stage.direct(KEYLESS);
        // Room at the beginning.
        stage.direct("DELETE FROM k WHERE id <= 1500; TRUNCATE changes; VACUUM ANALYZE k");
        runs(async {
            let mover = stage.connect_direct().await;
            mover
                .client
                .batch_execute("SET application_name = 'mover'")
                .await
                .unwrap();
            let cancel = mover.client.cancel_token();
            // Nearly always its transaction is open: whoever has found the rows by their places finds them gone.
            let moves = tokio::spawn(async move {
                let last =
                    "UPDATE k SET pad = pad WHERE ctid = ANY (ARRAY(SELECT ctid FROM k ORDER BY ctid DESC LIMIT 40))";
                let always = format!("DO $$ BEGIN LOOP {last}; PERFORM pg_sleep(0.002); COMMIT; END LOOP; END $$");
                mover.client.batch_execute(&always).await.unwrap_err()
            });
            let connection = stage.connect().await;
            let changed = connection.client.execute(sql, &[]).await.unwrap();
            cancel.cancel_query(tokio_postgres::NoTls).await.unwrap();
            assert_eq!(moves.await.unwrap().code().unwrap().code(), "57014");
            assert_eq!(changed, 1700, "{sql}");
        });
        // What is moved into a batch's range before it begins is changed with it.
        assert_eq!(stage.number("SELECT count(*) FROM changes"), 1700);
        assert_eq!(
            stage.number("SELECT count(DISTINCT id) FROM changes"),
            1700,
            "{sql}: some row twice"
        );
        let left = match verb {
            "DELETE" => "SELECT count(*) FROM k",
            _ => "SELECT count(*) FROM k WHERE flag IS NULL",
        };
        assert_eq!(stage.number(left), 0, "{sql}");
    }
}

fn without_a_key_what_is_refused_has_ways(major: u32) {
    let stage = stage(major, "keyless_ways");
    stage.direct(TABLE);
    stage.direct(KEYLESS);
    let refused = |sql: &str, expect: &[&str]| {
        let ran = stage.psql(&format!("{sql};\n"));
        for expect in expect {
            assert!(ran.stderr.contains(expect), "{sql}: {}", ran.stderr);
        }
        assert!(ran.stderr.contains("HINT: "), "{ran:?}");
        ran.stderr
    };
    // Each way that a hint names is gone.
    let told = refused(
        "UPDATE k SET flag = true",
        &[
            "still meet the condition",
            "IS DISTINCT FROM its new value",
            "ctid IN (SELECT ctid FROM k WHERE … LIMIT 500)",
        ],
    );
    assert!(
        told.contains("ALTER TABLE k ADD COLUMN row_id bigserial PRIMARY KEY"),
        "{told}"
    );
    let ran = stage.psql("UPDATE k SET flag = true WHERE flag IS DISTINCT FROM true;\n");
    assert_eq!(ran.ok(), "UPDATE 3200\n");
    let some = "UPDATE k SET flag = false WHERE ctid IN (SELECT ctid FROM k WHERE flag LIMIT 500);\n";
    let ran = stage.psql(&some.repeat(7));
    assert_eq!(ran.ok(), format!("{}UPDATE 200\n", "UPDATE 500\n".repeat(6)));
    // The condition goes on to hold, which only the server can tell: nothing is changed.
    let told = refused(
        "UPDATE k SET n = 5 WHERE n < 10",
        &["still meet the condition", "nothing in public.k was changed"],
    );
    assert!(
        told.contains("0A000") || told.contains("cannot be done in batches"),
        "{told}"
    );
    assert_eq!(stage.number("SELECT count(*) FROM k WHERE n = 5"), 0);
    let limited = refused("UPDATE k SET n = 1 WHERE n = 0 LIMIT 100", &["FOR UPDATE"]);
    assert!(limited.contains("ctid IN (SELECT ctid FROM k WHERE"), "{limited}");
    let ran = stage.psql(
        "UPDATE k SET n = 1 WHERE ctid IN (SELECT ctid FROM k WHERE n = 0 ORDER BY ctid LIMIT 100 FOR UPDATE);\n",
    );
    assert_eq!(ran.ok(), "UPDATE 100\n");
    // What counts on the value before needs a key, and gets one.
    let told = refused("UPDATE k SET n = n + 1", &["depends on n"]);
    assert!(!told.contains("can be repeated"), "{told}");
    stage
        .psql("ALTER TABLE k ADD COLUMN row_id bigserial PRIMARY KEY;\n")
        .ok();
    assert_eq!(stage.psql("UPDATE k SET n = n + 1;\n").ok(), "UPDATE 3200\n");
    assert_eq!(stage.number("SELECT sum(n) FROM k"), 3300);
    // Other ways to a key.
    stage.direct("CREATE TABLE l AS SELECT * FROM k; ALTER TABLE l DROP COLUMN row_id; ANALYZE l");
    stage.psql("ALTER TABLE l ADD PRIMARY KEY (id);\n").ok();
    stage.direct("ALTER TABLE l DROP CONSTRAINT l_pkey; ALTER TABLE l ALTER id DROP NOT NULL");
    let told = refused(
        "ALTER TABLE l ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
        &["ADD PRIMARY KEY (x)"],
    );
    assert!(told.contains("without PRIMARY KEY first"), "{told}");
    stage
        .psql("ALTER TABLE l ADD COLUMN x bigint GENERATED ALWAYS AS IDENTITY;\n")
        .ok();
    stage.psql("ALTER TABLE l ADD PRIMARY KEY (x);\n").ok();
    assert_eq!(stage.number("SELECT count(DISTINCT x) FROM l"), 3200);
}

/// The proxy is killed between two batches; the same statement goes on.
fn without_a_key_a_crash_is_gone_on_from(major: u32) {
    let mut stage = Stage::with(major, "keyless_crash", SLOW);
    stage.direct(TABLE);
    stage.direct(KEYLESS);
    let sql = "DELETE FROM k WHERE n = 0";
    runs(async {
        let connection = stage.connect().await;
        let running = tokio::spawn(async move { connection.client.execute(sql, &[]).await });
        until_true(&stage, "SELECT count(*) > 0 FROM changes").await;
        stage.kill_proxy();
        running.await.unwrap().unwrap_err();
    });
    runs(until_true(
        &stage,
        "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
    ));
    let done = stage.number("SELECT count(*) FROM changes");
    assert!((1..3200).contains(&done));
    stage.start_proxy(&[]);
    // What it changed before is counted too.
    assert_eq!(stage.psql(&format!("{sql};\n")).ok(), "DELETE 3200\n");
    assert_eq!(stage.number("SELECT count(*) FROM k"), 0);
    assert_eq!(stage.number("SELECT count(*) FROM changes"), 3200);
}

/// A trigger before each row may change it; where it leaves a row as it is, nothing is claimed.
fn without_a_key_triggers_may_leave_no_row(major: u32) {
    let stage = stage(major, "keyless_before");
    stage.direct(TABLE);
    stage.direct(KEYLESS);
    stage.direct(
        "CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
           IF NEW.id = 2500 AND NEW.n = 7 THEN RETURN NULL; END IF; NEW.pad := 'seen'; RETURN NEW; END $$;
         CREATE TRIGGER touch BEFORE UPDATE ON k FOR EACH ROW EXECUTE FUNCTION touch()",
    );
    assert_eq!(
        stage.psql("UPDATE k SET flag = true WHERE flag IS NULL;\n").ok(),
        "UPDATE 3200\n"
    );
    once_each_in_batches(&stage, 3200);
    assert_eq!(stage.number("SELECT count(*) FROM k WHERE pad = 'seen' AND flag"), 3200);
    let ran = stage.psql("UPDATE k SET n = 7 WHERE n = 0;\n");
    assert!(ran.stderr.contains("a trigger has left rows as they were"), "{ran:?}");
    // The batch of that row is undone as a whole.
    assert!((1..2500).contains(&stage.number("SELECT count(*) FROM k WHERE n = 7")));
    assert_eq!(stage.number("SELECT n FROM k WHERE id = 2500"), 0);
    let ran = stage.psql("UPDATE k SET n = 8 WHERE n IN (SELECT 0 UNION SELECT 7);\n");
    assert!(ran.stderr.contains("trigger touch fires before each row"), "{ran:?}");
}

/// ADD COLUMN fires no trigger of the owner's on the server, also where it fills the column in.
fn columns_are_filled_without_the_owner_s_triggers(major: u32) {
    let stage = stage(major, "filled");
    let owner = format!("{}_owner", stage.database);
    stage.direct(TABLE);
    stage.direct(&format!(
        "CREATE ROLE {owner}; GRANT CREATE ON SCHEMA public TO {owner}; ALTER TABLE t OWNER TO {owner}; GRANT ALL ON changes TO {owner}"
    ));
    let adds = |n: u32| {
        [
            format!("ALTER TABLE t ADD COLUMN u{n} uuid DEFAULT gen_random_uuid();\n"),
            format!("ALTER TABLE t ADD COLUMN s{n} bigserial;\n"),
            format!("ALTER TABLE t ADD COLUMN d{n} double precision NOT NULL DEFAULT random();\n"),
        ]
    };
    let columns = || stage.number("SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0");
    let before = columns();
    let refused = |sql: &str| {
        let ran = stage.psql(sql);
        let told = [
            "the trigger note of public.t would fire",
            "PostgreSQL itself fires none",
        ];
        assert!(told.iter().all(|told| ran.stderr.contains(told)), "{sql}: {ran:?}");
        assert_eq!(columns(), before);
    };
    for add in adds(1) {
        refused(&format!("SET ROLE {owner};\n{add}"));
    }
    // A superuser's session keeps them from firing, but not what is to fire always.
    stage.direct("ALTER TABLE t ENABLE ALWAYS TRIGGER note");
    adds(1).iter().for_each(|add| refused(add));
    stage.direct("ALTER TABLE t ENABLE TRIGGER note");
    for add in adds(1) {
        stage.psql(&add).ok();
    }
    let of_owner = format!("SELECT count(*) FROM pg_class WHERE relkind = 'S' AND relowner = '{owner}'::regrole");
    assert_eq!(stage.number(&of_owner), 1);
    // The application's own writes fire them.
    stage.psql("UPDATE t SET flag = true WHERE id = 1;\n").ok();
    assert_eq!(stage.number("SELECT count(*) FROM changes"), 1);
    // What does not fire for this is in nobody's way.
    stage.direct(
        "DROP TRIGGER note ON t; CREATE TRIGGER off AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note(); ALTER TABLE t DISABLE TRIGGER off;
         CREATE TRIGGER others AFTER UPDATE OF flag OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION note(); TRUNCATE changes",
    );
    for add in adds(2) {
        stage.psql(&format!("SET ROLE {owner};\n{add}")).ok();
    }
    assert_eq!(stage.number("SELECT count(*) FROM changes"), 0);
    assert_eq!(
        stage.number("SELECT count(u1) + count(s1) + count(d1) + count(u2) + count(s2) + count(d2) FROM t"),
        6 * 3200
    );
}

/// Of a published table whose rows nothing tells apart, each UPDATE fails on the server: no plan begins that would need one.
fn what_the_server_would_not_fill_is_not_begun(major: u32) {
    let stage = stage(major, "unfillable");
    stage.direct(TABLE);
    stage.direct(&format!(
        "{KEYLESS} DROP TRIGGER note ON k; CREATE PUBLICATION all_of_k FOR TABLE k"
    ));
    let columns = || stage.number("SELECT count(*) FROM pg_attribute WHERE attrelid = 'k'::regclass AND attnum > 0");
    for add in [
        "ADD COLUMN u uuid DEFAULT gen_random_uuid()",
        "ADD COLUMN row_id bigserial PRIMARY KEY",
        "ADD COLUMN num bigint GENERATED ALWAYS AS IDENTITY",
    ] {
        let ran = stage.psql(&format!("ALTER TABLE k {add};\n"));
        let told = [
            "does not have a replica identity",
            "REPLICA IDENTITY FULL lets them be filled",
        ];
        assert!(told.iter().all(|told| ran.stderr.contains(told)), "{add}: {ran:?}");
        assert_eq!(columns(), 4, "{add}");
    }
    assert_eq!(stage.direct("SELECT to_regclass('lockkeeper.job')").trim(), "");
    stage.psql("ALTER TABLE k REPLICA IDENTITY FULL;\n").ok();
    stage
        .psql("ALTER TABLE k ADD COLUMN row_id bigserial PRIMARY KEY;\n")
        .ok();
    assert_eq!(stage.number("SELECT count(DISTINCT row_id) FROM k"), 3200);
}
