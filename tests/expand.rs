//! A changed type and a renamed column as expand and contract: what the server holds in the end and on the way, with others at
//! work on the same rows, and where it stops in the middle. The oracle is a table that got the plain statement.

mod common;

use common::{Stage, on_both};

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
    CONSTRAINT pairs UNIQUE (a, id) DEFERRABLE INITIALLY DEFERRED,
    CONSTRAINT rather_small CHECK (a < 1000000 AND n < 10) NOT VALID
);
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
    to_jsonb(a) ->> 'attcompression', a.attoptions::text, (SELECT string_agg(x::text, ' ' ORDER BY x::text) FROM unnest(a.attacl) x),
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
    let oracle = Stage::without_proxy(common::cluster(major), "oracle");
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

on_both!(the_end_is_that_of_the_plain_statement);

fn the_end_is_that_of_the_plain_statement(major: u32) {
    for (n, statement) in [
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
    ]
    .into_iter()
    .enumerate()
    {
        let stage = stage(major, &format!("end{n}"));
        let oracle = oracle(major, &stage);
        oracle.direct(statement);
        let ran = stage.psql(statement);
        println!("{statement}\n{}{}", ran.stdout, ran.stderr);
        assert_eq!(ran.ok(), "ALTER TABLE\n");
        let contract = contract(&stage);
        println!("{contract}");
        println!("{}{}", stage.psql(&contract).stderr, "");
        assert_eq!(stage.direct(CATALOG), oracle.direct(CATALOG), "{statement}");
        assert_eq!(stage.direct(ROWS_BY_NAME), oracle.direct(ROWS_BY_NAME), "{statement}");
    }
}
