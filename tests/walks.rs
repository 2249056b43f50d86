//! Batches over many partitions, whose statements the server keeps prepared with one plan: each row is changed once, nothing of ours
//! is left behind, and whoever puts something else in the statement's place gets nothing done.

use lockkeeper_testkit::{Stage, on_both, own_cluster, runs};
use std::collections::BTreeMap;

/// Small numbers of rows are many here, and batches are small.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 1000\nbatch_rows = 500\nbatch_target_ms = 0\npause_ms = 0\n";
const ROWS: i64 = 3200;
/// So many that planning takes longer than what is not worth it.
const PARTITIONS: u32 = 200;

/// `t`, with a key whose texts must be written with care, and `changes`, where a trigger notes which row was changed.
fn stage(major: u32) -> Stage {
    let server = own_cluster(major, &[("max_locks_per_transaction", "512"), ("log_statement", "all")]);
    // The stage wants a server for as long as the tests run; this one ends with the process.
    let server = Box::leak(Box::new(server));
    let stage = Stage::on(server, "walks", POLICY, &[]);
    stage.direct(&format!(
        r#"CREATE SEQUENCE s; CREATE TABLE t (id int DEFAULT nextval('s'), k text COLLATE "C", n int NOT NULL DEFAULT 0, m int NOT NULL DEFAULT 1, PRIMARY KEY (id, k)) PARTITION BY HASH (id);
         DO $$ BEGIN FOR n IN 0..{PARTITIONS} - 1 LOOP
             EXECUTE format('CREATE TABLE t%s PARTITION OF t FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER %s)', n, n);
         END LOOP; END $$;
         INSERT INTO t (id, k) SELECT i / 8, (ARRAY['a"b', 'c\d', 'e,f', '{{g}}', 'h''i', 'NULL', '', ' j '])[1 + i % 8] FROM generate_series(1, {ROWS}) i;
         ANALYZE t;
         CREATE TABLE changes (id int, k text);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN INSERT INTO changes VALUES (OLD.id, OLD.k); RETURN NULL; END $$;
         CREATE TRIGGER note AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()"#
    ));
    stage
}

/// How often the server was asked to carry out each statement that it kept.
fn kept(stage: &Stage) -> BTreeMap<String, usize> {
    let mut all = BTreeMap::new();
    for entry in stage.server_log() {
        let name = entry
            .message
            .strip_prefix("execute ")
            .and_then(|rest| rest.split('/').next());
        if let Some(name) = name.filter(|name| name.contains("_walk_")) {
            *all.entry(name.to_owned()).or_default() += 1;
        }
    }
    all
}

/// The batch or the question where it ends, or both: one that another program's work made slow is planned by itself again.
#[track_caller]
fn is_kept(stage: &Stage) -> BTreeMap<String, usize> {
    let kept = kept(stage);
    assert!((1..=2).contains(&kept.len()), "{kept:?}");
    kept
}

/// By the last statement; what was noted is forgotten.
#[track_caller]
fn once_each(stage: &Stage) {
    assert_eq!(stage.number("SELECT count(*) FROM changes"), ROWS);
    assert_eq!(stage.number("SELECT count(DISTINCT (id, k)) FROM changes"), ROWS);
    let job = "SELECT state || ' ' || rows_done || ' ' || (last_key = upper_key) || ' ' || (finished_at IS NOT NULL) FROM lockkeeper.job
         ORDER BY id DESC LIMIT 1";
    assert_eq!(stage.direct(job), format!("done {ROWS} true true"));
    stage.direct("TRUNCATE changes");
}

on_both!(planned_once_and_changed_once, keys_are_looked_up_where_they_can_be);

fn planned_once_and_changed_once(major: u32) {
    let mut stage = stage(major);
    stage.mark();
    let left = "SELECT count(*) FROM pg_prepared_statements WHERE name LIKE '%walk%'; SHOW plan_cache_mode;";
    let ran = stage.psql(&format!(
        "SET plan_cache_mode = force_custom_plan;\nUPDATE t SET n = n + 1;\n{left}\n"
    ));
    assert_eq!(ran.ok(), format!("SET\nUPDATE {ROWS}\n0\nforce_custom_plan\n"));
    once_each(&stage);
    assert_eq!(stage.number("SELECT sum(n) FROM t"), ROWS);
    // Of seven batches and as many ends the first are planned by themselves, and others where they were found to be no worse.
    let kept = is_kept(&stage);
    assert!(kept.values().all(|times| (1..7).contains(times)), "{kept:?}");
    the_client_s_parameters_come_first(&mut stage);
    what_a_trigger_throws_away_is_sent_again(&mut stage);
    nobody_puts_his_own_statement_in(&mut stage);
}

fn the_client_s_parameters_come_first(stage: &mut Stage) {
    stage.direct("UPDATE t SET n = 0; TRUNCATE changes; VACUUM ANALYZE t");
    stage.mark();
    runs(async {
        let connection = stage.connect().await;
        let sql = "UPDATE t SET n = n + $2 WHERE m = $1";
        let changed = connection.client.execute(sql, &[&1i32, &7i32]).await.unwrap();
        assert_eq!(changed, ROWS as u64);
    });
    once_each(stage);
    assert_eq!(stage.number("SELECT sum(n) FROM t"), 7 * ROWS);
    is_kept(stage);
}

fn what_a_trigger_throws_away_is_sent_again(stage: &mut Stage) {
    stage.direct(
        "CREATE FUNCTION forget() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'DEALLOCATE ALL'; RETURN NULL; END $$;
         CREATE TRIGGER forget AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION forget()",
    );
    stage.mark();
    stage.psql("UPDATE t SET n = n + 1;\n").ok();
    once_each(stage);
    is_kept(stage);
    stage.direct("DROP TRIGGER forget ON t");
}

fn nobody_puts_his_own_statement_in(stage: &mut Stage) {
    stage.direct(
        "CREATE TABLE stolen (who text);
         CREATE FUNCTION replaces() RETURNS trigger LANGUAGE plpgsql AS $$
         DECLARE s record;
         BEGIN
           FOR s IN SELECT name FROM pg_prepared_statements WHERE name LIKE 'lockkeeper%walk%' AND NOT from_sql LOOP
             EXECUTE format('DEALLOCATE %I', s.name);
             EXECUTE format('PREPARE %I AS INSERT INTO stolen VALUES (current_user) RETURNING 1', s.name);
           END LOOP;
           RETURN NULL;
         END $$;
         CREATE TRIGGER replaces AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION replaces()",
    );
    stage.mark();
    stage.psql("UPDATE t SET n = n + 1;\n").ok();
    once_each(stage);
    is_kept(stage);
    assert_eq!(stage.number("SELECT count(*) FROM stolen"), 0);
}

/// A statement that means some partitions changes their rows without a look into the others.
fn keys_are_looked_up_where_they_can_be(major: u32) {
    const LISTED: i64 = 40;
    let stage = Stage::with(major, "walks_pruned", POLICY);
    stage.direct(&format!(
        "CREATE TABLE t (id bigint GENERATED BY DEFAULT AS IDENTITY, region int, n int NOT NULL DEFAULT 0, PRIMARY KEY (id, region))
             PARTITION BY LIST (region);
         DO $$ BEGIN FOR n IN 0..{LISTED} - 1 LOOP
             EXECUTE format('CREATE TABLE t%s PARTITION OF t FOR VALUES IN (%s)', n, n);
         END LOOP; END $$;
         INSERT INTO t (id, region) SELECT i, i % {LISTED} FROM generate_series(1, 320 * {LISTED}) i; ANALYZE t;
         CREATE TABLE changes (id bigint, locked bigint);
         CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
           INSERT INTO changes SELECT OLD.id, count(*) FROM pg_locks WHERE pid = pg_backend_pid() AND mode = 'RowExclusiveLock'
               AND relation IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = TG_RELID
                                OR inhparent = (SELECT inhparent FROM pg_inherits WHERE inhrelid = TG_RELID));
           RETURN NULL;
         END $$;
         CREATE TRIGGER note AFTER UPDATE ON t FOR EACH ROW EXECUTE FUNCTION note()"
    ));
    let ran = stage.psql("UPDATE t SET n = n + 1 WHERE region BETWEEN 3 AND 7;\n");
    assert_eq!(ran.ok(), "UPDATE 1600\n");
    assert_eq!(stage.number("SELECT sum(n) FROM t WHERE region BETWEEN 3 AND 7"), 1600);
    assert_eq!(stage.number("SELECT count(DISTINCT id) FROM changes"), 1600);
    // In batches, each of which has opened five partitions.
    assert_eq!(stage.number("SELECT batches FROM lockkeeper.job"), 4);
    assert_eq!(stage.number("SELECT max(locked) FROM changes"), 5);
}
