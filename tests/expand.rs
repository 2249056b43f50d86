//! A changed type and a renamed column as expand and contract: what the server holds in the end and on the way, with others at
//! work on the same rows, and where it stops in the middle. The oracle is a table that got the plain statement.

use bytes::Bytes;
use futures_util::SinkExt;
use lockkeeper_testkit::locks::Samples;
use lockkeeper_testkit::{Stage, on_both, runs};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

const POLICY: &str = "extends = \"standard\"
[rules]
change-type = \"rewrite\"
rename-column = \"rewrite\"
[table]
small_bytes = 0
[lock]
pause_ms = 10
[backfill]
rows_max = 50
batch_rows = 100
batch_target_ms = 0
pause_ms = 1
";

/// A table whose columns take part in everything that can be carried over.
const TABLE: &str = "
CREATE ROLE NAME_reader; CREATE ROLE NAME_writer;
CREATE TABLE places (id int PRIMARY KEY);
INSERT INTO places SELECT * FROM generate_series(1, 50);
CREATE TABLE t (
    id bigint PRIMARY KEY,
    a int NOT NULL DEFAULT 5 CONSTRAINT a_positive CHECK (a > 0),
    place int REFERENCES places ON DELETE SET NULL,
    code text COLLATE \"C\",
    n int, doc json, note varchar(20) DEFAULT 'x',
    CONSTRAINT pairs UNIQUE (a, id) DEFERRABLE INITIALLY DEFERRED
);
ALTER TABLE t ADD CONSTRAINT rather_small CHECK (a < 1000000 AND n < 10) NOT VALID;
INSERT INTO t SELECT g, g, 1 + g % 50, g::text, CASE WHEN g % 3 > 0 THEN g % 7 END, '{\"a\": 1}', 'n' || g FROM generate_series(1, 1500) g;
CREATE INDEX by_a ON t (a DESC NULLS LAST, note) WHERE a > 3;
CREATE INDEX t_expression ON t ((a + n), lower(code));
CREATE UNIQUE INDEX \"By Code\" ON t (code COLLATE \"POSIX\" text_pattern_ops) INCLUDE (a) WITH (fillfactor = 80);
CREATE INDEX t_note_idx ON t USING hash (note);
COMMENT ON COLUMN t.a IS 'it''s a';
COMMENT ON COLUMN t.code IS 'the code';
COMMENT ON INDEX by_a IS 'an index';
COMMENT ON CONSTRAINT a_positive ON t IS 'a constraint';
COMMENT ON CONSTRAINT pairs ON t IS 'pairs of both';
GRANT SELECT (a, code), UPDATE (a) ON t TO NAME_reader;
GRANT UPDATE (a, code) ON t TO NAME_writer WITH GRANT OPTION;
GRANT SELECT (code) ON t TO PUBLIC;
ALTER TABLE t ALTER COLUMN a SET STATISTICS 200, ALTER COLUMN a SET (n_distinct = -0.5), ALTER COLUMN code SET STATISTICS 300;
ALTER TABLE t ALTER COLUMN code SET STORAGE EXTERNAL;
ANALYZE t;";

/// All that is known of t, without the order of its columns.
const CATALOG: &str = "
SELECT line FROM (
  SELECT 1 AS part, concat_ws(' | ', a.attname, format_type(a.atttypid, a.atttypmod), a.attnotnull, pg_get_expr(d.adbin, d.adrelid),
    (SELECT collname FROM pg_collation WHERE oid = a.attcollation), 'target ' || coalesce(a.attstattarget, -1), a.attstorage,
    to_jsonb(a) ->> 'attcompression', (SELECT string_agg(o, ' ') FROM unnest(a.attoptions) o WHERE left(o, 3) <> 'pg_'), (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(a.attacl) x),
    col_description(a.attrelid, a.attnum)) AS line
  FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  WHERE a.attrelid = 't'::regclass AND a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT 2, concat_ws(' | ', pg_get_indexdef(indexrelid), indisvalid, obj_description(indexrelid, 'pg_class')) FROM pg_index WHERE indrelid = 't'::regclass
  UNION ALL
  SELECT 3, concat_ws(' | ', conname, pg_get_constraintdef(oid), convalidated, obj_description(oid, 'pg_constraint')) FROM pg_constraint WHERE conrelid = 't'::regclass
  UNION ALL
  SELECT 4, tgname FROM pg_trigger WHERE tgrelid = 't'::regclass AND NOT tgisinternal
  UNION ALL
  SELECT 5, proname FROM pg_proc WHERE pronamespace = 'public'::regnamespace
) x ORDER BY part, line COLLATE \"C\"";

/// The rows as they read by name.
const ROWS_BY_NAME: &str = "SELECT md5(string_agg(r, ',' ORDER BY id)) FROM (SELECT id, (SELECT string_agg(e.key || '=' || coalesce(e.value, 'NULL'), ';' ORDER BY e.key) \
     FROM json_each_text(row_to_json(t)) e) AS r FROM t) x";

fn stage(major: u32, name: &str) -> Stage {
    let mut stage = Stage::with(major, name, POLICY);
    stage.direct(&TABLE.replace("NAME", &stage.database));
    stage.mark();
    stage
}

fn oracle(major: u32, stage: &Stage) -> Stage {
    let oracle = Stage::without_proxy(lockkeeper_testkit::cluster(major), "oracle");
    let table = TABLE.replace("CREATE ROLE NAME_reader; CREATE ROLE NAME_writer;", "");
    oracle.direct(&table.replace("NAME", &stage.database));
    oracle
}

/// The script of the last statement's event.
#[track_caller]
fn contract(stage: &Stage) -> String {
    let lines = stage.audit_lines();
    let event = lines
        .iter()
        .rev()
        .find(|line| line["event"] == "statement")
        .expect("an event");
    event["contract"]
        .as_str()
        .unwrap_or_else(|| panic!("no contract in {event:#}"))
        .to_owned()
}

on_both!(
    the_hint_s_ways_are_taken,
    the_end_is_that_of_the_plain_statement,
    writers_are_not_disturbed,
    cut_off_and_sent_again,
    values_that_do_not_convert,
    who_leaves_out_the_columns,
    both_names_are_kept_equal,
    what_cannot_be_carried_is_refused,
    an_ordinary_owner,
    one_change_at_a_time,
    refused_by_default,
);

fn the_end_is_that_of_the_plain_statement(major: u32) {
    let stage = stage(major, "end");
    let oracle = oracle(major, &stage);
    for statement in [
        "ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "ALTER TABLE t ALTER a SET DATA TYPE numeric(12, 2) USING (t.a * 100)::numeric / (coalesce(n, 0) + 1) -- comment",
        "ALTER TABLE public.t ALTER COLUMN code TYPE varchar(10) COLLATE \"POSIX\"",
        "ALTER TABLE t ALTER COLUMN doc TYPE jsonb USING doc::jsonb",
        "ALTER TABLE t ALTER COLUMN place TYPE bigint",
        "ALTER TABLE t ALTER COLUMN note TYPE varchar(10)",
        "ALTER TABLE t RENAME COLUMN a TO \"A b\"",
        "ALTER TABLE t RENAME code TO sign",
        "ALTER TABLE t RENAME COLUMN place TO location",
        "ALTER TABLE t RENAME COLUMN doc TO document",
    ] {
        oracle.direct(statement);
        assert_eq!(stage.psql(statement).ok(), "ALTER TABLE\n", "{statement}");
        let lines = stage.audit_lines();
        let back = lines.iter().rev().find_map(|line| line["rollback_plan"].as_array());
        for sql in back.into_iter().flatten() {
            let one = sql.as_str().is_some_and(|sql| !sql.contains(';'));
            assert!(
                one,
                "{statement}: each statement of the rollback plan stands alone, and not {sql}"
            );
        }
        assert!(back.is_some_and(|back| back.len() >= 3), "{statement}: {back:?}");
        let contract = contract(&stage);
        let ran = stage.psql(&contract);
        assert_eq!(ran.status, 0, "{contract}\n{ran:?}");
        assert_eq!(stage.direct(CATALOG), oracle.direct(CATALOG), "{statement}");
        assert_eq!(stage.direct(ROWS_BY_NAME), oracle.direct(ROWS_BY_NAME), "{statement}");
    }
}

/// Writers that do the same to `t` and to its mirror `m`, which gets the plain statement in the end.
struct Writers {
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl Writers {
    /// `called` tells by what name a writer knows the column `a` of t; `first` is its first new key.
    async fn start(stage: &Stage, called: &[&'static str], first: u64) -> Writers {
        let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = Vec::new();
        for (worker, a) in called.iter().copied().enumerate() {
            let connection = stage.connect_direct().await;
            let (stop, rounds) = (stop.clone(), rounds.clone());
            tasks.push(tokio::spawn(async move {
                let client = &connection.client;
                client.batch_execute("SET application_name = 'writer'").await.unwrap();
                let mut random = 88_172_645_463_325_252u64 ^ (worker as u64 + 1);
                let mut next = move |below: u64| {
                    random ^= random << 13;
                    random ^= random >> 7;
                    random ^= random << 17;
                    (random >> 11) % below
                };
                let mut round = 0u64;
                while !stop.load(Ordering::Relaxed) {
                    round += 1;
                    rounds.fetch_add(1, Ordering::Relaxed);
                    let (old, value) = (1 + next(1_500), 1 + next(999_999));
                    let id = first + 100 * round + worker as u64;
                    let both = |sql: &str| {
                        let of = |table: &str, column: &str| sql.replace("TABLE", table).replace("COLUMN", column);
                        format!("BEGIN; {}; {}; COMMIT", of("t", a), of("m", "a"))
                    };
                    let sql = match next(8) {
                        0 => format!("INSERT INTO TABLE (id, COLUMN, note) VALUES ({id}, {value}, 'w')"),
                        1 => format!("INSERT INTO TABLE (id, note) VALUES ({id}, 'w')"),
                        2 => format!("INSERT INTO TABLE (id, COLUMN) SELECT {id}, {value} RETURNING *"),
                        3 => format!("UPDATE TABLE SET COLUMN = COLUMN + 1 WHERE id = {old} RETURNING COLUMN"),
                        4 => format!("UPDATE TABLE SET note = 'u{round}' WHERE id = {old}"),
                        5 => format!("UPDATE TABLE SET id = {id}, COLUMN = {value} WHERE id = {old}"),
                        6 => format!("DELETE FROM TABLE WHERE id = {old}"),
                        _ => {
                            client.batch_execute("BEGIN").await.unwrap();
                            for (table, column) in [("t", a), ("m", "a")] {
                                let copy = format!("COPY {table} (id, {column}) FROM STDIN");
                                let sink = client.copy_in::<_, Bytes>(&copy).await.unwrap();
                                tokio::pin!(sink);
                                sink.send(Bytes::from(format!("{id}\t{value}\n"))).await.unwrap();
                                sink.close().await.unwrap();
                            }
                            client.batch_execute("COMMIT").await.unwrap();
                            continue;
                        }
                    };
                    client
                        .batch_execute(&both(&sql))
                        .await
                        .unwrap_or_else(|e| panic!("{sql}: {e:?}"));
                }
            }));
        }
        Writers { stop, rounds, tasks }
    }

    async fn stop(self) {
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            task.await.expect("a writer");
        }
    }
}

/// `t` and its mirror.
const PAIR: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, a int NOT NULL DEFAULT 7 CHECK (a > 0), note text);
INSERT INTO t SELECT g, g FROM generate_series(1, 1500) g;
CREATE INDEX t_a_idx ON t (a);
CREATE TABLE m (LIKE t INCLUDING ALL);
INSERT INTO m SELECT * FROM t;
VACUUM ANALYZE t, m;";

/// What takes its time must not run while it holds what stops readers or writers.
#[track_caller]
fn only_brief_steps_lock(samples: &Samples) {
    let strong = [
        "AccessExclusiveLock",
        "ExclusiveLock",
        "ShareRowExclusiveLock",
        "ShareLock",
    ];
    let long = [
        "CREATE INDEX",
        "WITH ",
        "UPDATE ",
        "ANALYZE",
        "SELECT pg_catalog.to_json",
    ];
    for sample in samples
        .0
        .iter()
        .filter(|s| s.granted && strong.contains(&s.mode.as_str()))
    {
        let is_long =
            long.iter().any(|word| sample.query.starts_with(word)) || sample.query.contains(" VALIDATE CONSTRAINT ");
        assert!(!is_long, "{sample:?}");
    }
    assert!(!samples.0.is_empty());
}

fn writers_are_not_disturbed(major: u32) {
    let rows = |table: &str, column: &str| {
        format!(
            "SELECT md5(string_agg(concat_ws(',', id, {column}, pg_typeof({column}), note), ';' ORDER BY id)) FROM {table}"
        )
    };
    let (of_t, of_m) = ("ALTER TABLE t ", "ALTER TABLE m ");
    for (action, column, called) in [
        ("ALTER COLUMN a TYPE bigint", "a", ["a", "a", "a"]),
        (
            "ALTER COLUMN a TYPE bigint USING (a::text || '')::bigint",
            "a",
            ["a", "a", "a"],
        ),
        ("RENAME COLUMN a TO b", "b", ["a", "b", "b"]),
    ] {
        let stage = Stage::with(major, "writers", POLICY);
        stage.direct(PAIR);
        let sampler = stage.sample_locks("t");
        runs(async {
            let writers = Writers::start(&stage, &["a", "a", "a"], 10_000).await;
            let connection = stage.connect().await;
            connection
                .client
                .simple_query(&format!("{of_t}{action}"))
                .await
                .unwrap();
            writers.stop().await;
            let writers = Writers::start(&stage, &called, 100_000_000).await;
            while writers.rounds.load(Ordering::Relaxed) < 300 && !writers.tasks.iter().any(|task| task.is_finished()) {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            writers.stop().await;
        });
        only_brief_steps_lock(&sampler.stop());
        if column == "b" {
            assert_eq!(stage.direct("SELECT count(*) FROM t WHERE a IS DISTINCT FROM b"), "0");
        }
        assert_eq!(stage.psql(&contract(&stage)).status, 0);
        stage.direct(&format!("{of_m}{action}"));
        assert_eq!(
            stage.direct(&rows("t", column)),
            stage.direct(&rows("m", column)),
            "{action}"
        );
    }
}

/// Moments at which the work is cut off, as conditions on the catalog.
const MOMENTS: &[&str] = &[
    "SELECT EXISTS (SELECT FROM pg_trigger WHERE tgname LIKE 'zzz%')",
    "SELECT coalesce((SELECT sum(batches) FROM lockkeeper.job), 0) >= 3",
    "SELECT coalesce((SELECT sum(batches) FROM lockkeeper.job), 0) >= 8",
    "SELECT EXISTS (SELECT FROM pg_class WHERE relname LIKE '%\\_new' AND relkind = 'i')",
    "SELECT count(*) >= 3 FROM pg_index JOIN pg_class ON oid = indexrelid WHERE relname LIKE '%\\_new' AND indisvalid",
    "SELECT EXISTS (SELECT FROM pg_constraint WHERE conname LIKE '%\\_new')",
    "SELECT EXISTS (SELECT FROM pg_constraint WHERE conname LIKE '%\\_new' AND convalidated)",
    "SELECT EXISTS (SELECT FROM pg_attribute WHERE attname IN ('a_new', 'b') AND attrelid = 't'::regclass AND attnotnull)",
    "SELECT EXISTS (SELECT FROM pg_description WHERE description LIKE 'lockkeeper: expanded%')",
];

fn cut_off_and_sent_again(major: u32) {
    for (n, statement) in [
        "ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "ALTER TABLE t RENAME COLUMN a TO b",
    ]
    .into_iter()
    .enumerate()
    {
        let mut stage = stage(major, &format!("cut{n}"));
        let oracle = oracle(major, &stage);
        oracle.direct(statement);
        stage.direct(include_str!("../crates/lockkeeper-plan/src/jobs.sql"));
        for (at, moment) in MOMENTS.iter().enumerate() {
            let (port, database) = (stage.port, stage.database.clone());
            let runner = std::thread::spawn(move || {
                runs(async move {
                    match lockkeeper_testkit::connect_at(port, &database).await {
                        Ok(connection) => connection
                            .client
                            .simple_query(statement)
                            .await
                            .map(drop)
                            .map_err(|e| e.to_string()),
                        Err(error) => Err(error.to_string()),
                    }
                })
            });
            lockkeeper_testkit::until(moment, || runner.is_finished() || stage.direct(moment) == "t");
            match at % 2 {
                0 => {
                    stage.kill_proxy();
                    let _ = runner.join().expect("the runner");
                    stage.start_proxy(&[]);
                }
                _ => {
                    stage.direct(
                        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'test'",
                    );
                    let _ = runner.join().expect("the runner");
                }
            }
            // What was cut off ends on the server before the next begins.
            let gone = "SELECT count(*) = 0 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'test'";
            lockkeeper_testkit::until(gone, || stage.direct(gone) == "t");
        }
        let ran = stage.psql(statement);
        assert_eq!(ran.status, 0, "{ran:?}");
        assert!(ran.stderr.contains("left to be done by hand"), "{ran:?}");
        // And once more: nothing is done, and the script is told again.
        let before = stage.direct(CATALOG);
        let ran = stage.psql(statement);
        assert_eq!((ran.status, ran.stdout.as_str()), (0, "ALTER TABLE\n"), "{ran:?}");
        if statement.contains("RENAME") {
            assert!(ran.stderr.contains("left to be done by hand"), "{ran:?}");
        }
        assert_eq!(stage.direct(CATALOG), before);
        let script = stage
            .audit_lines()
            .iter()
            .rev()
            .find_map(|line| line["contract"].as_str().map(str::to_owned))
            .expect("a contract");
        assert_eq!(stage.psql(&script).status, 0);
        assert_eq!(stage.direct(CATALOG), oracle.direct(CATALOG), "{statement}");
        assert_eq!(stage.direct(ROWS_BY_NAME), oracle.direct(ROWS_BY_NAME), "{statement}");
    }
}

fn values_that_do_not_convert(major: u32) {
    let mut stage = Stage::with(major, "values", POLICY);
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, code text); INSERT INTO t SELECT g, g FROM generate_series(1, 800) g;
         UPDATE t SET code = 'seven' WHERE id = 707; ANALYZE t",
    );
    let rows = stage.direct("SELECT md5(string_agg(code, ',' ORDER BY id)) FROM t");
    // No such cast: the server's own words, and nothing is left.
    let schema = stage.schema();
    let ran = stage.psql("ALTER TABLE t ALTER COLUMN code TYPE int");
    assert!(
        ran.stderr
            .contains("column \"code\" cannot be cast automatically to type integer"),
        "{ran:?}"
    );
    assert_eq!(stage.schema(), schema);

    stage.mark();
    let statement = "ALTER TABLE t ALTER COLUMN code TYPE int USING code::int";
    let ran = stage.psql(statement);
    for words in [
        "invalid input syntax for type integer: \"seven\"",
        "keys up to (700); the rest is as it was",
        "at work on the keys up to (800), which is undone",
        "send the same statement again",
        "To go back instead",
        "DROP TRIGGER IF EXISTS zzz_lockkeeper_t_code_sync ON t; ALTER TABLE t DROP COLUMN IF EXISTS code_new; DROP FUNCTION IF EXISTS",
    ] {
        assert!(ran.stderr.contains(words), "{words}: {ran:?}");
    }
    assert_eq!(
        stage.direct("SELECT md5(string_agg(code, ',' ORDER BY id)) FROM t"),
        rows
    );
    // Back, as the hint says, through the proxy.
    let (_, back) = ran.stderr.split_once("removed already): ").expect("the way back");
    let back = back.lines().next().unwrap_or_default();
    assert_eq!(stage.psql(back).status, 0, "{back}");
    assert_eq!(stage.schema(), schema);

    // Or forth, once the value is mended.
    assert_eq!(stage.psql(statement).status, 3);
    stage.direct("UPDATE t SET code = '7' WHERE id = 707");
    assert_eq!(stage.psql(statement).ok(), "ALTER TABLE\n");
    assert_eq!(
        stage.direct("SELECT sum(code), pg_typeof(min(code)) FROM t"),
        "319700|integer"
    );
}

fn who_leaves_out_the_columns(major: u32) {
    let stage = Stage::with(major, "positions", POLICY);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, code text, d text DEFAULT 'd'); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g; ANALYZE t");
    assert_eq!(
        stage
            .psql("ALTER TABLE t ALTER COLUMN code TYPE int USING code::int + 1000")
            .status,
        0
    );
    // By their places, as before the change: what was meant is done.
    stage.direct(
        "INSERT INTO t VALUES (101, '5', 'x'); COPY t (id, code_old, d) FROM PROGRAM 'printf \"102\\t6\\tx\\n\"'",
    );
    assert_eq!(
        stage.direct("SELECT string_agg(code::text, ' ' ORDER BY id) FROM t WHERE id > 100"),
        "1005 1006"
    );
    // By name; the old column stays empty.
    stage.direct("INSERT INTO t (id, code) VALUES (103, 7); UPDATE t SET code = 8 WHERE id = 100");
    assert_eq!(
        stage
            .direct("SELECT string_agg(concat_ws('/', code, code_old), ' ' ORDER BY id) FROM t WHERE id IN (100, 103)"),
        "8/100 7"
    );
    let ran = stage.direct_args(&["-A", "-t"], "INSERT INTO t (id, code_old, code) VALUES (104, '5', 6)");
    assert!(
        ran.stderr.contains("column code_old of t is what is left of code"),
        "{ran:?}"
    );
    assert!(ran.stderr.contains("give INSERT and COPY a list of columns"), "{ran:?}");

    // Columns that have defaults cannot tell; nothing goes wrong silently.
    assert_eq!(stage.psql("ALTER TABLE t ALTER COLUMN d TYPE varchar(3)").status, 0);
    let ran = stage.direct_args(&["-A", "-t"], "INSERT INTO t (id, d_old) VALUES (105, 'y')");
    assert!(ran.stderr.contains("column d_old of t is what is left of d"), "{ran:?}");
    stage.direct("INSERT INTO t (id, d_old) VALUES (106, 'd')");
}

fn both_names_are_kept_equal(major: u32) {
    let stage = Stage::with(major, "names", POLICY);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, a text NOT NULL DEFAULT 'x', doc json, u int UNIQUE); INSERT INTO t (id, doc) SELECT g, '{}' FROM generate_series(1, 100) g; ANALYZE t");
    let ran = stage
        .psql("ALTER TABLE t RENAME a TO b; ALTER TABLE t RENAME doc TO document; ALTER TABLE t RENAME COLUMN u TO v");
    assert_eq!(ran.status, 0, "{ran:?}");
    let check = |sql: &str, expect: &str| assert_eq!(stage.direct(sql), expect, "{sql}");
    check("INSERT INTO t (id) VALUES (201) RETURNING a, b", "x|x");
    check("INSERT INTO t (id, a) VALUES (202, 'one') RETURNING a, b", "one|one");
    check("INSERT INTO t (id, b) VALUES (203, 'two') RETURNING a, b", "two|two");
    check(
        "INSERT INTO t (id, a, b) VALUES (204, 'old', 'new') RETURNING a, b",
        "new|new",
    );
    check("UPDATE t SET a = 'three' WHERE id = 201 RETURNING a, b", "three|three");
    check("UPDATE t SET b = 'four' WHERE id = 201 RETURNING a, b", "four|four");
    check(
        "UPDATE t SET a = 'five', b = 'six' WHERE id = 201 RETURNING a, b",
        "six|six",
    );
    check("UPDATE t SET id = 301 WHERE id = 201 RETURNING a, b", "six|six");
    check("UPDATE t SET document = '[1]' WHERE id = 301 RETURNING doc", "[1]");
    check("UPDATE t SET doc = NULL WHERE id = 301 RETURNING document IS NULL", "t");
    check(
        "INSERT INTO t (id, u) VALUES (205, 5) ON CONFLICT (v) DO NOTHING RETURNING u, v",
        "5|5",
    );
    check(
        "INSERT INTO t (id, v) VALUES (206, 5) ON CONFLICT (u) DO UPDATE SET v = 6 RETURNING id, u, v",
        "205|6|6",
    );
    // As logical replication writes.
    check(
        "SET session_replication_role = replica; INSERT INTO t (id, a) VALUES (207, 'seven'); SELECT b FROM t WHERE id = 207",
        "seven",
    );
    let ran = stage.direct_args(&["-A", "-t"], "UPDATE t SET a = NULL WHERE id = 204");
    assert!(ran.stderr.contains("null value in column \"a\""), "{ran:?}");
    // A role that may write one of both.
    stage.direct("CREATE ROLE some_writer; GRANT INSERT (id, a), SELECT (id, b) ON t TO some_writer");
    check(
        "SET ROLE some_writer; INSERT INTO t (id, a) VALUES (208, 'eight'); SELECT b FROM t WHERE id = 208",
        "eight",
    );
    stage.direct("DROP OWNED BY some_writer; DROP ROLE some_writer");
}

fn what_cannot_be_carried_is_refused(major: u32) {
    let stage = Stage::with(major, "refused", POLICY);
    let check = |prepare: &str, statement: &str, why: &str| {
        stage.direct("DROP SCHEMA public CASCADE; CREATE SCHEMA public");
        stage.direct("CREATE TABLE t (id bigint PRIMARY KEY, a int, b int); INSERT INTO t SELECT g, g, g FROM generate_series(1, 100) g");
        stage.direct(prepare);
        // Nor can the table be rewritten as a whole.
        stage.direct("CREATE MATERIALIZED VIEW hangs AS SELECT count(*) FROM t");
        let schema = stage.schema();
        let ran = stage.psql(statement);
        assert_eq!(ran.status, 3, "{prepare} {statement}: {ran:?}");
        assert!(ran.stderr.contains(why), "{prepare} {statement} {why}: {ran:?}");
        assert_eq!(stage.schema(), schema);
    };
    let change = "ALTER TABLE t ALTER COLUMN a TYPE bigint";
    let rename = "ALTER TABLE t RENAME COLUMN a TO c";
    check("", "ALTER TABLE t ALTER COLUMN id TYPE numeric", "id is part of t_pkey");
    check("", "ALTER TABLE t RENAME id TO key", "id is part of t_pkey");
    check(
        "",
        "ALTER TABLE t RENAME COLUMN a TO b",
        "column \"b\" of relation \"t\" already exists",
    );
    check(
        "",
        "BEGIN; ALTER TABLE t ALTER COLUMN a TYPE bigint; COMMIT",
        "the safe way cannot run inside a transaction",
    );
    check(
        "",
        "ALTER TABLE t ALTER COLUMN a TYPE text USING (SELECT max(b) FROM t)",
        "reads more than its row",
    );
    check(
        "",
        "ALTER TABLE t ALTER COLUMN a TYPE text USING t::text",
        "names t, which is no column",
    );
    for statement in [change, rename] {
        check("CREATE VIEW v AS SELECT a FROM t", statement, "the view v depends on a");
        check(
            "CREATE MATERIALIZED VIEW v AS SELECT a + 1 AS x FROM t",
            statement,
            "the materialized view v depends on a",
        );
        check(
            "ALTER TABLE t ADD UNIQUE (a); CREATE TABLE u (t int REFERENCES t (a))",
            statement,
            "the constraint u_t_fkey of u depends on a",
        );
        check(
            "ALTER TABLE t ADD UNIQUE (a), ADD FOREIGN KEY (b) REFERENCES t (a)",
            statement,
            "the constraint t_b_fkey of t depends on a",
        );
        check(
            "ALTER TABLE t ADD COLUMN g int GENERATED ALWAYS AS (a + 1) STORED",
            statement,
            "a generated column depends on a",
        );
        check(
            "CREATE POLICY p ON t USING (a > 0)",
            statement,
            "the policy p depends on a",
        );
        check(
            "CREATE STATISTICS s ON a, b FROM t",
            statement,
            "the extended statistics s depends on a",
        );
        check(
            "CREATE SEQUENCE s OWNED BY t.a",
            statement,
            "the sequence s depends on a",
        );
        check(
            "ALTER TABLE t ALTER a SET NOT NULL, ALTER a ADD GENERATED ALWAYS AS IDENTITY",
            statement,
            "is an identity column",
        );
        check(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER f BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION f()",
            statement,
            "the trigger f would fire for each row",
        );
        check(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER zzzz BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION f()",
            statement,
            "the trigger zzzz fires behind all others",
        );
        check(
            "CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'; CREATE TRIGGER f AFTER INSERT ON t FOR EACH ROW WHEN (NEW.a > 0) EXECUTE FUNCTION f()",
            statement,
            "the trigger f depends on a",
        );
        check(
            "CREATE RULE r AS ON DELETE TO t DO INSTEAD NOTHING",
            statement,
            "the rule r of t",
        );
        check(
            "CREATE TABLE child () INHERITS (t)",
            statement,
            "has partitions or takes part in inheritance",
        );
        check(
            "CREATE INDEX i ON t (a); ALTER TABLE t CLUSTER ON i",
            statement,
            "the table is clustered on it",
        );
        check(
            "ALTER TABLE t ALTER a SET NOT NULL; CREATE UNIQUE INDEX i ON t (a); ALTER TABLE t REPLICA IDENTITY USING INDEX i",
            statement,
            "it is the replica identity",
        );
        check(
            "CREATE INDEX i ON t ((a + 1)); ALTER INDEX i ALTER COLUMN 1 SET STATISTICS 50",
            statement,
            "it has a statistics target of its own",
        );
        check("CREATE PUBLICATION p_REFUSED FOR TABLE t", statement, "t is published");
        stage.direct("DROP PUBLICATION p_REFUSED");
        check(
            "CREATE PUBLICATION p_REFUSED FOR ALL TABLES",
            statement,
            "t is published",
        );
        stage.direct("DROP PUBLICATION p_REFUSED");
        if major >= 15 {
            check(
                "CREATE PUBLICATION p_REFUSED FOR TABLES IN SCHEMA public",
                statement,
                "t is published",
            );
            stage.direct("DROP PUBLICATION p_REFUSED");
        }
        if major >= 14 {
            check(
                "CREATE FUNCTION f() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT sum(a) FROM t; END",
                statement,
                "the function f depends on a",
            );
        }
    }
    check(
        "ALTER TABLE t ALTER a SET DEFAULT 5",
        rename,
        "may be NULL and has a default",
    );
    check(
        "CREATE DOMAIN d AS bigint",
        "ALTER TABLE t ALTER COLUMN a TYPE d",
        "a column of a domain",
    );
    check(
        "CREATE DOMAIN d AS int; ALTER TABLE t ALTER a TYPE d",
        rename,
        "a is of a domain",
    );
    // Rows that the role does not see.
    check(
        "CREATE ROLE hidden LOGIN SUPERUSER; ALTER ROLE hidden NOSUPERUSER; GRANT ALL ON SCHEMA public TO hidden; ALTER TABLE t OWNER TO hidden; \
         ALTER TABLE t ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY; CREATE POLICY p ON t USING (id < 50)",
        "SET ROLE hidden; ALTER TABLE t ALTER COLUMN a TYPE bigint",
        "query would be affected by row-level security policy for table \"t\"",
    );
    stage.direct("DROP SCHEMA public CASCADE; CREATE SCHEMA public; DROP OWNED BY hidden; DROP ROLE hidden");
}

fn refused_by_default(major: u32) {
    let stage = Stage::with(major, "default", "extends = \"standard\"\n[table]\nsmall_bytes = 0\n");
    stage
        .direct("CREATE TABLE t (id int PRIMARY KEY, a int); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g");
    let schema = stage.schema();
    for (statement, rule) in [
        ("ALTER TABLE t ALTER COLUMN a TYPE bigint", "change-type"),
        ("ALTER TABLE t RENAME a TO b", "rename-column"),
    ] {
        let ran = stage.psql(statement);
        assert!(
            ran.stderr.contains(&format!("{rule} = \"rewrite\" under [rules]")),
            "{ran:?}"
        );
        assert_eq!((ran.status, stage.schema()), (3, schema.clone()));
    }
}

/// Neither a superuser nor the database's owner: without a job.
fn an_ordinary_owner(major: u32) {
    let stage = Stage::with(major, "owner", POLICY);
    let role = &stage.database;
    stage.direct(&format!(
        "CREATE ROLE {role}_owner; CREATE SCHEMA \"Own\" AUTHORIZATION {role}_owner; SET ROLE {role}_owner;
         CREATE TABLE \"Own\".\"T\" (id int PRIMARY KEY, \"A\" int NOT NULL DEFAULT 1, note text); CREATE INDEX ON \"Own\".\"T\" (\"A\");
         INSERT INTO \"Own\".\"T\" SELECT g, g FROM generate_series(1, 300) g; ANALYZE \"Own\".\"T\""
    ));
    let script = format!(
        "SET ROLE {role}_owner; SET search_path = nowhere, \"Own\", public; ALTER TABLE \"T\" ALTER COLUMN \"A\" TYPE bigint; \
         ALTER TABLE \"Own\".\"T\" RENAME note TO \"Note\";"
    );
    let ran = stage.psql(&script);
    assert_eq!(ran.status, 0, "{ran:?}");
    let path = "SELECT string_agg(array_to_string(proconfig, ' ; '), ' | ' ORDER BY proname) FROM pg_proc WHERE proname LIKE 'zzz%'";
    let found = stage.direct(path);
    assert!(
        found.contains("search_path=\"Own\", public, pg_temp") && found.contains("search_path=pg_catalog, pg_temp"),
        "{found}"
    );
    stage.direct("INSERT INTO \"Own\".\"T\" (id, \"A\", note) VALUES (301, 5000000000, 'x')");
    assert_eq!(
        stage.direct("SELECT count(*), sum(\"A\"), max(\"Note\") FROM \"Own\".\"T\""),
        "301|5000045150|x"
    );
}

fn one_change_at_a_time(major: u32) {
    let stage = Stage::with(major, "once", POLICY);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, z int, n int DEFAULT 1, d text DEFAULT 'none'); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g; ANALYZE t");
    let schema = stage.schema();
    // Found before anything is filled in: the default, which does not convert.
    let ran = stage.psql("ALTER TABLE t ALTER COLUMN d TYPE int USING 5");
    assert!(
        ran.stderr.contains("invalid input syntax for type integer")
            || ran
                .stderr
                .contains("is of type integer but default expression is of type text"),
        "{ran:?}"
    );
    assert_eq!(stage.schema(), schema);

    assert_eq!(stage.psql("ALTER TABLE t RENAME COLUMN z TO b").status, 0);
    for statement in [
        "ALTER TABLE t ALTER COLUMN b TYPE bigint",
        "ALTER TABLE t RENAME b TO c",
        "ALTER TABLE t ALTER n TYPE bigint USING n + b",
    ] {
        let ran = stage.psql(statement);
        assert!(
            ran.stderr.contains("the trigger zzz_lockkeeper_t_z_sync would fire"),
            "{ran:?}"
        );
    }
    for statement in [
        "ALTER TABLE t ALTER COLUMN z TYPE bigint",
        "ALTER TABLE t RENAME z TO c",
    ] {
        let ran = stage.psql(statement);
        assert!(
            ran.stderr
                .contains("awaits its contract (the trigger zzz_lockkeeper_t_z_sync)"),
            "{ran:?}"
        );
    }
    // Another column may be changed meanwhile.
    assert_eq!(
        stage.psql("ALTER TABLE t ALTER COLUMN n TYPE bigint").ok(),
        "ALTER TABLE\n"
    );
    stage.direct("UPDATE t SET z = -z, n = n + 5000000000");
    assert_eq!(
        stage.direct("SELECT count(*) FROM t WHERE b = -id AND n = 5000000001"),
        "100"
    );
}

/// Each statement of the hint is sent, through the very policy that gave it, with an old application at work in between.
fn the_hint_s_ways_are_taken(major: u32) {
    const STANDARD: &str =
        "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 50\nbatch_rows = 100\n";
    let stage = Stage::with(major, "hint", STANDARD);
    stage.direct(
        "CREATE TABLE t (id bigint PRIMARY KEY, a int, code text);
         INSERT INTO t SELECT g, g, g::text FROM generate_series(1, 1500) g; UPDATE t SET code = NULL WHERE id = 7; ANALYZE t;
         CREATE TABLE k AS SELECT * FROM t; ANALYZE k",
    );
    for table in ["t", "k"] {
        for (sql, old, new) in [
            ("ALTER COLUMN a TYPE bigint", "a", "a_new"),
            (
                "ALTER COLUMN code TYPE int USING nullif(code, '8')::int + 1",
                "code",
                "code_new",
            ),
        ] {
            let refused = stage.psql(&format!("ALTER TABLE {table} {sql};\n")).stderr;
            let (_, hint) = refused.split_once("HINT:  ").expect("a hint");
            let (ways, _) = hint.split_once("\nOr Lockkeeper").unwrap_or((hint, ""));
            let (expand, contract) = ways
                .split_once("\n4. ")
                .expect("a step that depends on the application");
            let (_, contract) = contract
                .split_once(&format!("nothing uses {old}: "))
                .expect("a contract");
            let contract = contract.lines().next().unwrap_or_default();
            let expand: String = ["1. Expand: ", "2. Keep both in step:", "3. Backfill: "]
                .iter()
                .fold(expand.to_owned(), |text, label| text.replace(label, ""));
            let ran = stage.psql_args(&["-v", "ON_ERROR_STOP=1"], &format!("{expand}\n"));
            assert_eq!(ran.status, 0, "{expand}\n{ran:?}");
            stage.direct(&format!("INSERT INTO {table} (id, {old}) VALUES (-1, 41)"));
            let expected = if old == "a" { "a" } else { "nullif(code, '8')::int + 1" };
            let wrong = format!("SELECT count(*) FROM {table} WHERE {new} IS DISTINCT FROM {expected}");
            assert_eq!(stage.number(&wrong), 0, "{table} {sql}");
            stage.direct(&format!("DELETE FROM {table} WHERE id = -1"));
            let ran = stage.psql_args(&["-v", "ON_ERROR_STOP=1"], &format!("{contract}\n"));
            assert_eq!(ran.status, 0, "{contract}\n{ran:?}");
            let left =
                format!("SELECT count(*) FROM pg_attribute WHERE attrelid = '{table}'::regclass AND attname = '{old}'");
            assert_eq!(stage.number(&left), 0);
        }
    }
}
