//! The lock that a plan names is the one that the server takes: pg_locks is asked, on both servers.

use lockkeeper_testkit::raw::{Raw, error_field, rows};
use lockkeeper_testkit::{Stage, on_both};

on_both!(
    what_is_told_of_a_lock_is_what_the_server_takes,
    a_refusal_names_the_lock_that_there_would_be,
);

const TABLES: &str = "
    CREATE TABLE t (id int PRIMARY KEY, v int DEFAULT 1, w text, kept int GENERATED ALWAYS AS (1) STORED, CONSTRAINT above CHECK (v > 0) NOT VALID);
    CREATE TABLE other (id int PRIMARY KEY, t_id int);
    CREATE INDEX t_v ON t (v);
    CREATE INDEX t_w ON t USING gin (to_tsvector('english', w));
    CREATE TRIGGER same BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger();
    CREATE RULE quiet AS ON DELETE TO t DO ALSO NOTIFY n;
    CREATE POLICY mine ON t USING (true);
    CREATE STATISTICS two ON id, v FROM t;
    CREATE VIEW shown AS SELECT id, v FROM t;
    CREATE MATERIALIZED VIEW kept AS SELECT id FROM t;
    CREATE UNIQUE INDEX kept_id ON kept (id);
    CREATE SEQUENCE s;
    CREATE TABLE parent (id int, at date) PARTITION BY RANGE (at);
    CREATE TABLE child PARTITION OF parent FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
    CREATE TABLE old (id int);
    CREATE TABLE heir () INHERITS (old);
    CREATE PUBLICATION p FOR TABLE other;
    CREATE SCHEMA apart;
    CREATE TYPE pair AS (id int);
    CREATE TABLE typed OF pair";

/// Each runs in a transaction block.
const STATEMENTS: &[&str] = &[
    "ALTER TABLE t ADD n int",
    "ALTER TABLE t DROP CONSTRAINT above",
    "ALTER TABLE t ALTER v SET DEFAULT 2",
    "ALTER TABLE t ALTER v SET STATISTICS 100",
    "ALTER TABLE t ALTER v SET (n_distinct = 5)",
    "ALTER TABLE t ALTER v RESET (n_distinct)",
    "ALTER TABLE t ALTER w SET STORAGE external",
    "ALTER TABLE t ALTER w SET COMPRESSION pglz",
    "ALTER TABLE t ALTER kept DROP EXPRESSION",
    "ALTER TABLE t VALIDATE CONSTRAINT above",
    "ALTER TABLE t VALIDATE CONSTRAINT above, ALTER v SET STATISTICS 9",
    "ALTER TABLE t SET (autovacuum_vacuum_scale_factor = 0.3), DISABLE TRIGGER same",
    "ALTER TABLE other ADD FOREIGN KEY (t_id) REFERENCES t NOT VALID, SET (fillfactor = 40)",
    "ALTER TABLE t SET SCHEMA apart",
    "ALTER MATERIALIZED VIEW kept SET (autovacuum_enabled = off)",
    "ALTER MATERIALIZED VIEW kept CLUSTER ON kept_id",
    "ALTER PUBLICATION p DROP TABLE other",
    "DROP STATISTICS two",
    "ALTER SEQUENCE s OWNED BY t.id",
    "ALTER TABLE t VALIDATE CONSTRAINT above, ALTER v SET DEFAULT 3",
    "ALTER TABLE t SET (fillfactor = 50)",
    "ALTER TABLE t RESET (fillfactor)",
    "ALTER TABLE t SET (autovacuum_enabled = off, parallel_workers = 2, toast_tuple_target = 4000)",
    "ALTER TABLE t SET (toast.autovacuum_enabled = off, vacuum_truncate = off, vacuum_index_cleanup = off, log_autovacuum_min_duration = 9)",
    "ALTER TABLE t SET (user_catalog_table = true)",
    "ALTER TABLE t SET (fillfactor = 50, user_catalog_table = true)",
    "ALTER TABLE t CLUSTER ON t_v",
    "ALTER TABLE t SET WITHOUT CLUSTER",
    "ALTER TABLE t DISABLE TRIGGER same",
    "ALTER TABLE t DISABLE TRIGGER ALL",
    "ALTER TABLE t ENABLE ALWAYS TRIGGER same",
    "ALTER TABLE t ENABLE REPLICA TRIGGER same",
    "ALTER TABLE t ENABLE TRIGGER USER, SET (fillfactor = 60)",
    "ALTER TABLE t DISABLE RULE quiet",
    "ALTER TABLE t FORCE ROW LEVEL SECURITY",
    "ALTER TABLE t REPLICA IDENTITY FULL",
    "ALTER TABLE t OWNER TO CURRENT_USER",
    "ALTER TABLE t RENAME CONSTRAINT above TO below",
    "ALTER TABLE other ADD FOREIGN KEY (t_id) REFERENCES t NOT VALID",
    "ALTER TABLE heir NO INHERIT old",
    "ALTER TABLE heir SET SCHEMA apart",
    "ALTER TABLE typed NOT OF",
    "ALTER TABLE parent ALTER at SET DEFAULT now()",
    "ALTER TABLE parent DETACH PARTITION child",
    "ALTER INDEX t_v RENAME TO t_by_v",
    "ALTER INDEX t_v SET (fillfactor = 50)",
    "ALTER INDEX t_v SET (deduplicate_items = off)",
    "ALTER INDEX t_w SET (fastupdate = off)",
    "ALTER TRIGGER same ON t RENAME TO alike",
    "ALTER RULE quiet ON t RENAME TO silent",
    "ALTER POLICY mine ON t RENAME TO ours",
    "ALTER POLICY mine ON t USING (false)",
    "ALTER VIEW shown SET (security_barrier = true)",
    "ALTER VIEW shown ALTER v SET DEFAULT 1",
    "ALTER SEQUENCE s INCREMENT 2",
    "ALTER PUBLICATION p ADD TABLE t",
    "CREATE INDEX ON t (v)",
    "CREATE STATISTICS more ON v, w FROM t",
    "CREATE TRIGGER twice BEFORE UPDATE ON t FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "CREATE RULE loud AS ON DELETE TO t DO ALSO NOTIFY n",
    "CREATE POLICY all_of ON t USING (true)",
    "CREATE PUBLICATION q FOR TABLE t",
    "CREATE OR REPLACE VIEW shown AS SELECT id, v FROM t WHERE v > 0",
    "CREATE TABLE next () INHERITS (old)",
    "CREATE TABLE refers (id int REFERENCES t)",
    "CREATE TABLE child2 PARTITION OF parent FOR VALUES FROM ('2026-01-01') TO ('2027-01-01')",
    "COMMENT ON COLUMN t.v IS 'x'",
    "DROP TRIGGER same ON t",
    "DROP RULE quiet ON t",
    "DROP POLICY mine ON t",
    "DROP VIEW shown",
    "DROP INDEX t_v",
    "DROP SEQUENCE s",
    "REINDEX TABLE t",
    "REFRESH MATERIALIZED VIEW CONCURRENTLY kept",
];

fn what_is_told_of_a_lock_is_what_the_server_takes(major: u32) {
    // As it is forwarded, and as the one step that it is; what is refused, or done in steps of its own, is not asked about.
    for (name, policy) in [
        ("observed", "extends = \"observe\"\n"),
        ("brief", "extends = \"standard\"\n"),
    ] {
        let stage = Stage::with(major, name, policy);
        stage.direct(TABLES);
        let asked = compared(&stage);
        assert!(asked > STATEMENTS.len() * 3 / 4, "{name}: {asked}");
    }
}

fn compared(stage: &Stage) -> usize {
    let mut asked = 0;
    let mut planned = Raw::connect(stage.port, &stage.database);
    planned.query("SET lockkeeper.dry_run = on");
    let mut straight = Raw::connect(stage.cluster.port(), &stage.database);
    let mut wrong = Vec::new();
    for sql in STATEMENTS {
        let cells = planned.query(sql);
        if let Some(error) = error_field(&cells, b'M') {
            wrong.push(format!("{sql}: {error}"));
            continue;
        }
        let told = told_lock(&cells);
        if told.is_none() && rows(&cells) != ["1 of 1"] {
            continue;
        }
        asked += 1;
        let taken = taken(&mut straight, sql, told.as_ref().map(|(_, relation)| relation.as_str()));
        if told.as_ref().map(|(mode, _)| mode.as_str()) != taken.as_deref() {
            wrong.push(format!("{sql}: told {told:?}, taken {taken:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}: {wrong:#?}", stage.database);
    asked
}

/// `SHARE on t`, of the strongest step.
fn told_lock(answer: &[(u8, Vec<u8>)]) -> Option<(String, String)> {
    let text = |mut body: &[u8], column: usize| -> Option<String> {
        body = &body[2..];
        for at in 0.. {
            let (len, rest) = body.split_first_chunk::<4>()?;
            let len = usize::try_from(i32::from_be_bytes(*len)).unwrap_or(0);
            if at == column {
                return Some(String::from_utf8_lossy(&rest[..len]).into_owned());
            }
            body = &rest[len..];
        }
        None
    };
    let rows = answer.iter().filter(|(tag, _)| *tag == b'D');
    let locks: Vec<String> = rows.filter_map(|(_, body)| text(body, 3)).collect();
    if locks.len() > 1 {
        return None;
    }
    let (mode, relation) = locks.first()?.split_once(" on ")?;
    Some((mode.to_owned(), relation.to_owned()))
}

/// The strongest lock that the statement takes there, in the manual's words.
fn taken(session: &mut Raw, sql: &str, relation: Option<&str>) -> Option<String> {
    session.query("BEGIN");
    let oid = rows(&session.query(&format!("SELECT to_regclass('{}')::oid", relation.unwrap_or("none"))));
    let done = session.query(sql);
    assert_eq!(error_field(&done, b'M'), None, "{sql}");
    let held = session.query(&format!(
        "SELECT mode FROM pg_locks WHERE locktype = 'relation' AND pid = pg_backend_pid() AND relation::text = '{}'",
        oid[0]
    ));
    session.query("ROLLBACK");
    strongest(&rows(&held)).map(str::to_owned)
}

fn strongest(modes: &[String]) -> Option<&'static str> {
    const MODES: [&str; 8] = [
        "ACCESS SHARE",
        "ROW SHARE",
        "ROW EXCLUSIVE",
        "SHARE UPDATE EXCLUSIVE",
        "SHARE",
        "SHARE ROW EXCLUSIVE",
        "EXCLUSIVE",
        "ACCESS EXCLUSIVE",
    ];
    let place = |mode: &String| {
        let mode = mode.trim_end_matches("Lock");
        MODES
            .iter()
            .position(|known| known.replace(' ', "").eq_ignore_ascii_case(mode))
    };
    modes.iter().filter_map(place).max().map(|at| MODES[at])
}

/// Each is refused, and runs in a transaction block.
const REFUSED: &[&str] = &[
    "ALTER TABLE t DROP COLUMN w",
    "ALTER TABLE t RENAME TO u",
    "ALTER TABLE t RENAME w TO x",
    "ALTER TABLE other ALTER t_id TYPE bigint",
    "ALTER TABLE other ADD EXCLUDE (t_id WITH =)",
    "ALTER TABLE other ADD p int GENERATED ALWAYS AS (id + 1) STORED",
    "ALTER VIEW shown RENAME TO hidden",
    "ALTER SCHEMA apart RENAME TO aside",
    "ALTER TYPE mood RENAME VALUE 'good' TO 'better'",
    "DROP TABLE t CASCADE",
    "TRUNCATE other",
    "REFRESH MATERIALIZED VIEW kept WITH NO DATA",
    "MERGE INTO other USING t ON other.id = t.id WHEN MATCHED THEN UPDATE SET t_id = 1",
];

fn a_refusal_names_the_lock_that_there_would_be(major: u32) {
    let policy =
        "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 10\n[drop]\nquiet_for_s = 0\n";
    let stage = Stage::with(major, "refused_locks", policy);
    stage.direct(TABLES);
    stage.direct(
        "CREATE TYPE mood AS ENUM ('good'); INSERT INTO t (id) SELECT generate_series(1, 900); INSERT INTO other SELECT id, id FROM t;
         REFRESH MATERIALIZED VIEW kept; ANALYZE",
    );
    let mut refused = Raw::connect(stage.port, &stage.database);
    let mut straight = Raw::connect(stage.cluster.port(), &stage.database);
    for sql in REFUSED {
        let answer = refused.query(sql);
        let detail = error_field(&answer, b'D').unwrap_or_else(|| panic!("{sql}: it was not refused: {answer:?}"));
        let told = detail
            .split_once("the lock is ")
            .and_then(|(_, rest)| rest.split_once(", which blocks"));
        assert!(
            told.is_some() || detail.contains("it locks no table."),
            "{sql}: {detail}"
        );
        straight.query("BEGIN");
        straight.query("SELECT 1 FROM t LIMIT 0");
        let done = straight.query(sql);
        assert_eq!(error_field(&done, b'M'), None, "{sql}");
        let held = straight.query(
            "SELECT mode FROM pg_locks WHERE locktype = 'relation' AND pid = pg_backend_pid() AND relation >= 16384 AND mode <> 'AccessShareLock'",
        );
        straight.query("ROLLBACK");
        assert_eq!(told.map(|(mode, _)| mode), strongest(&rows(&held)), "{sql}: {detail}");
    }
}
