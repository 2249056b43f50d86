//! What PostgreSQL would do, said by PostgreSQL: actions of ALTER TABLE that are tried on an empty copy and undone. The oracle is the
//! same statement straight at the server, whose file nodes and scans tell what it did.

use lockkeeper_testkit::{Stage, on_both, own_cluster};

/// No table counts as small.
const POLICY: &str = "extends = \"standard\"
[table]
small_bytes = 0
[lock]
pause_ms = 10
[backfill]
pause_ms = 1
";

const FIXTURE: &str = "
CREATE FUNCTION volatile_int() RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 7; END';
CREATE FUNCTION add_volatile(int, int) RETURNS int LANGUAGE plpgsql VOLATILE AS 'BEGIN RETURN 8; END';
CREATE OPERATOR +! (FUNCTION = add_volatile, LEFTARG = int, RIGHTARG = int);
CREATE TYPE shade AS ENUM ('light', 'dark');
CREATE FUNCTION shade_of(int) RETURNS shade LANGUAGE plpgsql VOLATILE AS $$BEGIN RETURN 'dark'; END$$;
CREATE CAST (int AS shade) WITH FUNCTION shade_of(int) AS ASSIGNMENT;
CREATE DOMAIN numbered AS int DEFAULT volatile_int();
CREATE DOMAIN over_numbered AS numbered;
CREATE DOMAIN lucky AS int DEFAULT 7;
CREATE DOMAIN stamped AS uuid DEFAULT gen_random_uuid();
CREATE SEQUENCE called;
CREATE FUNCTION steady() RETURNS bigint LANGUAGE plpgsql STABLE AS $$BEGIN RETURN nextval('called'); END$$;
CREATE TABLE t (id bigint PRIMARY KEY, a int, b int CHECK (b IS NOT NULL AND b > 0));
INSERT INTO t SELECT g, g, g FROM generate_series(1, 100) g;
CREATE TABLE p (id bigint, a int) PARTITION BY RANGE (id);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (1000);
INSERT INTO p SELECT g, g FROM generate_series(1, 100) g;
";

fn stage(major: u32, name: &str) -> Stage {
    let stage = Stage::with(major, name, POLICY);
    stage.direct(FIXTURE);
    stage
}

fn file(stage: &Stage, table: &str) -> String {
    stage.direct(&format!("SELECT pg_relation_filenode('{table}')"))
}

/// Through the proxy no statement may give the table another file, whatever makes its default volatile; and the rows are filled.
fn no_default_rewrites(major: u32) {
    let stage = stage(major, "defaults");
    for (column, filled) in [
        ("ADD COLUMN c int DEFAULT volatile_int()", "7"),
        ("ADD COLUMN c numbered", "7"),
        ("ADD COLUMN c over_numbered", "7"),
        ("ADD COLUMN c over_numbered NOT NULL", "7"),
        ("ADD COLUMN c int DEFAULT 1 +! 2", "8"),
        ("ADD COLUMN c shade DEFAULT 5", "dark"),
        ("ADD COLUMN c shade DEFAULT 5::shade", "dark"),
        ("ADD COLUMN c text DEFAULT 5::shade::text", "dark"),
    ] {
        let before = file(&stage, "t");
        let ran = stage.psql(&format!("ALTER TABLE t {column};"));
        assert_eq!(ran.status, 0, "{column}: {}", ran.stderr);
        assert_eq!(file(&stage, "t"), before, "{column} has rewritten the table");
        assert_eq!(
            stage.direct("SELECT string_agg(DISTINCT c::text, ',') FROM t"),
            filled,
            "{column}"
        );
        // A new row is given the same.
        stage.direct("INSERT INTO t (id, b) VALUES (1000, 1)");
        assert_eq!(stage.direct("SELECT c FROM t WHERE id = 1000"), filled, "{column}");
        stage.direct("DELETE FROM t WHERE id = 1000; ALTER TABLE t DROP c");
    }
    let before = file(&stage, "t");
    stage.psql("ALTER TABLE t ADD COLUMN c stamped;").ok();
    assert_eq!(file(&stage, "t"), before);
    assert_eq!(stage.direct("SELECT count(DISTINCT c) FROM t"), "100");
    // Instant ones go on as they are, and call nobody's function but once.
    let before = file(&stage, "t");
    for sql in [
        "ALTER TABLE t ADD COLUMN d lucky",
        "ALTER TABLE t ADD COLUMN e timestamptz DEFAULT now() + interval '1 day'",
        "ALTER TABLE t ADD COLUMN f shade DEFAULT 'dark'",
        "ALTER TABLE t ADD COLUMN g numbered DEFAULT 3",
        "ALTER TABLE t ADD COLUMN h bigint DEFAULT steady()",
    ] {
        let notices = stage.psql_args(&["-A", "-t", "-v", "ON_ERROR_STOP=1"], &format!("{sql};"));
        assert_eq!(notices.status, 0, "{sql}: {}", notices.stderr);
    }
    assert_eq!(file(&stage, "t"), before);
    assert_eq!(stage.direct("SELECT count(DISTINCT h) FROM t"), "1");
    assert_eq!(
        stage.direct("SELECT last_value FROM called"),
        "1",
        "a function was called for the trial"
    );
    // A partitioned table is refused before anything of it is done.
    let before = file(&stage, "p1");
    let refused = stage.psql("ALTER TABLE p ADD COLUMN c over_numbered;");
    assert!(
        refused.stderr.contains("the default of the domain over_numbered"),
        "{}",
        refused.stderr
    );
    assert_eq!(file(&stage, "p1"), before);
    assert_eq!(
        stage.direct("SELECT count(*) FROM pg_attribute WHERE attname = 'c' AND attrelid = 'p'::regclass"),
        "0"
    );
}

/// Any CHECK that the server takes for a proof spares the scan, and no other.
fn a_check_proves_what_the_server_takes_for_proven(major: u32) {
    let stage = stage(major, "proofs");
    for (check, scans) in [
        ("b IS NOT NULL", false),
        ("a > 0 AND b IS NOT NULL", false),
        ("NOT (b IS NULL)", false),
        ("NOT (b IS NULL OR a < 0)", false),
        ("b > -5", true),
        ("b IS NOT NULL OR a IS NULL", true),
    ] {
        stage.direct(&format!(
            "DROP TABLE IF EXISTS n; CREATE TABLE n (a int, b int, CONSTRAINT k CHECK ({check})); INSERT INTO n SELECT g, g FROM generate_series(1, 50) g"
        ));
        let measured = stage.direct(
            "BEGIN; CREATE TEMP TABLE seen ON COMMIT DROP AS SELECT pg_stat_get_xact_numscans('n'::regclass) AS scans;
             ALTER TABLE n ALTER b SET NOT NULL; SELECT scans <> pg_stat_get_xact_numscans('n'::regclass) FROM seen; ROLLBACK",
        );
        assert_eq!(measured.trim() == "t", scans, "{check}");
        let told = stage.psql_args(&["-A", "-t"], "ALTER TABLE n ALTER b SET NOT NULL;");
        assert_eq!(told.status, 0, "{}", told.stderr);
        let planned = stage.audit_lines().pop().expect("an event");
        let steps = planned["steps"].as_array().map_or(0, Vec::len);
        assert_eq!(steps > 1, scans, "{check}: {planned}");
    }
}

/// Within a transaction that may be prepared nothing is tried, so that it still can be.
fn a_transaction_that_may_be_prepared_still_can_be(major: u32) {
    let server: &'static lockkeeper_cluster::Cluster =
        Box::leak(Box::new(own_cluster(major, &[("max_prepared_transactions", "2")])));
    let stage = Stage::on(server, "prepared", POLICY, &[]);
    stage.direct(FIXTURE);
    let ran = stage.psql(
        "BEGIN; ALTER TABLE t ADD COLUMN c timestamptz DEFAULT now(); ALTER TABLE t ADD COLUMN d int DEFAULT 1 + 1;
         PREPARE TRANSACTION 'one'; COMMIT PREPARED 'one';",
    );
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert_eq!(stage.direct("SELECT count(c) FROM t"), "100");
}

/// A role that may not make temporary tables is judged as of old, and what is in doubt is not let pass.
fn without_temporary_tables_the_worse_is_assumed(major: u32) {
    let stage = stage(major, "no_temp");
    stage.direct(&format!(
        "DROP ROLE IF EXISTS plain; CREATE ROLE plain LOGIN; REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC; GRANT ALL ON SCHEMA public TO plain;
         ALTER TABLE t OWNER TO plain; GRANT USAGE ON SEQUENCE called TO plain",
        stage.database
    ));
    let before = file(&stage, "t");
    stage.psql("SET ROLE plain; ALTER TABLE t ADD COLUMN c numbered;").ok();
    stage
        .psql("SET ROLE plain; ALTER TABLE t ADD COLUMN d timestamptz DEFAULT now();")
        .ok();
    assert_eq!(file(&stage, "t"), before);
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE c = 7"), "100");
    stage.direct("DROP OWNED BY plain CASCADE; DROP ROLE plain");
}

/// An owner's function that makes its caller's rights its own, if it ever runs with them.
const TRAP: &str = "
DROP ROLE IF EXISTS mallory; CREATE ROLE mallory LOGIN; GRANT ALL ON SCHEMA public TO mallory;
SET ROLE mallory;
CREATE FUNCTION trap(n int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS $$
BEGIN
  IF (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
    RAISE WARNING 'the trap ran as %', current_user;
  END IF;
  RETURN n;
END $$;
CREATE TABLE parted (id int, a int) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (1000);
INSERT INTO parted SELECT g, g FROM generate_series(1, 100) g;
CREATE TABLE plain (id int PRIMARY KEY, a int, b int, CONSTRAINT k CHECK (b IS NOT NULL AND trap(1) = 1));
CREATE INDEX ON plain ((a + trap(2)));
INSERT INTO plain SELECT g, g, g FROM generate_series(1, 100) g;
RESET ROLE;
";

/// A superuser's schema changes run the functions of a table's owner with the owner's rights, as the server's own forms do.
fn an_owners_functions_get_no_more_rights(major: u32) {
    let stage = stage(major, "rights");
    stage.direct(TRAP);
    for sql in [
        "CREATE INDEX parted_trap ON parted ((a + trap(1)));",
        "CREATE INDEX plain_trap ON plain ((b + trap(3))) WHERE trap(4) = 4;",
        "BEGIN; CREATE INDEX plain_later ON plain ((a + trap(5))); COMMIT;",
        "BEGIN; CREATE UNIQUE INDEX plain_unique ON plain ((a + trap(6)), trap(b)); COMMIT;",
        "ALTER TABLE plain ALTER a TYPE bigint;",
    ] {
        let ran = stage.psql(sql);
        assert!(!ran.stderr.contains("the trap ran"), "{sql}: {}", ran.stderr);
    }
    assert_eq!(
        stage.direct("SELECT count(*) FROM pg_index WHERE NOT indisvalid OR indexrelid IN ('parted_trap'::regclass, 'plain_trap'::regclass, 'plain_later'::regclass, 'plain_unique'::regclass)"),
        "4"
    );
    let logged: Vec<_> = stage
        .server_log()
        .into_iter()
        .filter(|l| l.severity == "WARNING" && l.message.contains("the trap ran"))
        .collect();
    assert!(logged.is_empty(), "{logged:?}");
    stage.direct("DROP OWNED BY mallory CASCADE; DROP ROLE mallory");
}

/// What fails for some row fails before the client is told that all is well.
fn a_failing_expression_is_found_before_commit(major: u32) {
    let stage = stage(major, "expressions");
    stage.direct(
        "CREATE TABLE e (id int PRIMARY KEY, x int); INSERT INTO e SELECT g, g - 50 FROM generate_series(1, 100) g",
    );
    for sql in [
        "CREATE INDEX e_idx ON e ((1 / x));",
        "CREATE INDEX e_idx ON e (id) WHERE 1 / x > 0;",
        "CREATE UNIQUE INDEX e_idx ON e (id, (1 / x));",
    ] {
        let ran = stage.psql_args(&["-A", "-t"], &format!("BEGIN; {sql} SELECT 'told'; COMMIT;"));
        assert!(ran.stderr.contains("division by zero"), "{sql}: {}", ran.stderr);
        assert!(!ran.stdout.contains("told"), "{sql}: {}", ran.stdout);
        assert_eq!(stage.direct("SELECT to_regclass('e_idx') IS NULL"), "t");
    }
    let fine = stage.psql("BEGIN; CREATE INDEX e_idx ON e ((1 / x)) WHERE x <> 0; COMMIT;");
    assert_eq!(fine.status, 0, "{}", fine.stderr);
    // A job that is done is told as that.
    let job = stage.direct("SELECT max(id) FROM lockkeeper.job");
    let again = stage.psql_args(&["-A", "-t"], &format!("CALL lockkeeper.resume({job});"));
    assert!(again.stderr.contains("is done"), "{}", again.stderr);
}

/// One key on a partition, whatever its name, is taken into the parent's.
fn a_partitions_own_foreign_key_is_taken(major: u32) {
    let stage = stage(major, "keys");
    stage.direct("CREATE TABLE o (id int PRIMARY KEY); INSERT INTO o SELECT generate_series(0, 999); ALTER TABLE p1 ADD CONSTRAINT own FOREIGN KEY (a) REFERENCES o");
    stage.psql("ALTER TABLE p ADD FOREIGN KEY (a) REFERENCES o;").ok();
    assert_eq!(
        stage.direct("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND conrelid = 'p1'::regclass"),
        "1"
    );
}

/// What PostgreSQL allows in a transaction is not called impossible there.
fn in_a_transaction_as_the_server_allows(major: u32) {
    let stage = stage(major, "blocks");
    stage.direct(
        "CREATE MATERIALIZED VIEW m AS SELECT id FROM t; CREATE UNIQUE INDEX ON m (id);
         INSERT INTO t (id, b) VALUES (5000, 1)",
    );
    stage.psql("BEGIN; REFRESH MATERIALIZED VIEW m; COMMIT;").ok();
    assert_eq!(stage.direct("SELECT count(*) FROM m WHERE id = 5000"), "1");
    let within = stage.psql_args(&["-A", "-t"], "DO $$BEGIN REFRESH MATERIALIZED VIEW m; END$$;");
    assert!(
        within.stderr.contains("REFRESH MATERIALIZED VIEW CONCURRENTLY m"),
        "{}",
        within.stderr
    );
    stage
        .psql("DO $$BEGIN REFRESH MATERIALIZED VIEW CONCURRENTLY m; END$$;")
        .ok();
    // Written out or not, an index waits for the COMMIT.
    stage
        .psql("BEGIN; CREATE INDEX CONCURRENTLY t_a ON t (a); COMMIT;")
        .ok();
    assert_eq!(
        stage.direct("SELECT indisvalid FROM pg_index WHERE indexrelid = 't_a'::regclass"),
        "t"
    );
    stage.psql("BEGIN; DROP INDEX CONCURRENTLY t_a; COMMIT;").ok();
    assert_eq!(stage.direct("SELECT to_regclass('t_a') IS NULL"), "t");
    let catalog = stage.psql_args(&["-A", "-t"], "REINDEX TABLE pg_catalog.pg_class;");
    assert!(catalog.stderr.contains("no concurrent way"), "{}", catalog.stderr);
    // A table that the transaction has made and filled: its rows are looked at behind the COMMIT.
    let mut held = stage;
    held.mark();
    held.psql("BEGIN; CREATE TABLE n AS SELECT id FROM t; ALTER TABLE n ADD FOREIGN KEY (id) REFERENCES t; COMMIT;")
        .ok();
    assert_eq!(
        held.direct("SELECT convalidated FROM pg_constraint WHERE conrelid = 'n'::regclass AND contype = 'f'"),
        "t"
    );
    assert!(
        held.received().iter().any(|sql| sql.contains("NOT VALID")),
        "{:?}",
        held.received()
    );
}

/// Nobody can be using what has never held a row.
fn what_never_held_a_row_is_not_in_use(major: u32) {
    let stage = stage(major, "fresh");
    stage.direct("CREATE TABLE f (a int, b int, c int)");
    let ran = stage.psql("ALTER TABLE f DROP COLUMN a; ALTER TABLE f RENAME b TO d; DROP TABLE f;");
    assert_eq!(ran.status, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("has never held a row"), "{}", ran.stderr);
    for was in [
        "INSERT INTO f VALUES (1); DELETE FROM f",
        "INSERT INTO f VALUES (1); TRUNCATE f",
    ] {
        stage.direct(&format!("CREATE TABLE f (a int, b int); {was}"));
        let refused = stage.psql_args(&["-A", "-t"], "ALTER TABLE f DROP COLUMN a;");
        assert!(refused.stderr.contains("drop-column"), "{was}: {}", refused.stderr);
        stage.direct("DROP TABLE f");
    }
}

on_both!(
    no_default_rewrites,
    a_check_proves_what_the_server_takes_for_proven,
    a_transaction_that_may_be_prepared_still_can_be,
    without_temporary_tables_the_worse_is_assumed,
    an_owners_functions_get_no_more_rights,
    a_failing_expression_is_found_before_commit,
    a_partitions_own_foreign_key_is_taken,
    in_a_transaction_as_the_server_allows,
    what_never_held_a_row_is_not_in_use,
);
