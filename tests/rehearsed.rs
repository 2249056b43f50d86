//! What PostgreSQL refuses as a whole is refused before a part of it is done: an ALTER TABLE of several transactions is rehearsed on an
//! empty table first.

use lockkeeper_testkit::Stage;

/// Every table counts as large, and columns may go.
const POLICY: &str =
    "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\npause_ms = 0\n[rules]\ndrop-column = \"allow\"\n";

const TABLES: &str = "CREATE SCHEMA s; CREATE TABLE s.users (id int PRIMARY KEY, email text UNIQUE, tag int); CREATE VIEW shown AS SELECT 1 AS id;
     CREATE TABLE \"T x\" (id int PRIMARY KEY, \"n m\" int, txt text, CONSTRAINT ck CHECK (\"n m\" < 1000), up int REFERENCES s.users);
     CREATE SEQUENCE numbers; INSERT INTO \"T x\" SELECT i, i, 'x' FROM generate_series(1, 300) i;";

/// Columns, constraints and relations.
const LOOK: &str = "SELECT string_agg(w, E'\\n' ORDER BY w) FROM (
     SELECT attname || ' ' || atttypid::regtype || ' ' || attnotnull AS w FROM pg_attribute WHERE attrelid = '\"T x\"'::regclass AND attnum > 0 AND NOT attisdropped
     UNION ALL SELECT conname || ' ' || pg_get_constraintdef(oid) || ' ' || convalidated FROM pg_constraint WHERE conrelid = '\"T x\"'::regclass
     UNION ALL SELECT relname FROM pg_class WHERE relnamespace IN ('public'::regnamespace, 's'::regnamespace)) x";

/// Each would have its first step committed, were it not for the rehearsal.
const REFUSED: &[&str] = &[
    "ADD z uuid DEFAULT gen_random_uuid() CHECK (nope > 0)",
    "ADD z uuid DEFAULT gen_random_uuid() CHECK (z > 5)",
    "ADD z uuid DEFAULT gen_random_uuid() REFERENCES nope (id)",
    "ADD z uuid DEFAULT gen_random_uuid() REFERENCES s.users (nope)",
    "ADD z uuid DEFAULT gen_random_uuid() REFERENCES s.users",
    "ADD z int DEFAULT nextval('numbers') REFERENCES s.users (tag)",
    "ADD z int DEFAULT nextval('numbers') REFERENCES \"T x\" (\"n m\")",
    "ADD z int DEFAULT nextval('numbers') REFERENCES shown (id)",
    "ADD z json DEFAULT to_json(random()) UNIQUE",
    "ADD z bigserial PRIMARY KEY",
    "ADD z bigint PRIMARY KEY",
    "ADD z uuid DEFAULT gen_random_uuid() CONSTRAINT ck CHECK (z IS NOT NULL)",
    "ADD z uuid DEFAULT gen_random_uuid() UNIQUE USING INDEX TABLESPACE nope",
    "ADD z int GENERATED ALWAYS AS IDENTITY CHECK (foo())",
    "DROP txt, ADD UNIQUE (txt)",
    "DROP txt, ADD z uuid DEFAULT gen_random_uuid() CHECK (txt IS NULL)",
    "DROP txt, ALTER \"n m\" SET NOT NULL, ADD z int DEFAULT 'abc'",
    "DROP txt, ALTER \"n m\" SET NOT NULL, SET (nope = 5)",
    "DROP txt, ALTER \"n m\" SET NOT NULL, OWNER TO nobody_there",
    "DROP txt, ALTER \"n m\" SET NOT NULL, VALIDATE CONSTRAINT nope",
    "DROP txt, ALTER \"n m\" SET NOT NULL, ALTER CONSTRAINT nope DEFERRABLE",
    "DROP CONSTRAINT ck, ADD CONSTRAINT ck CHECK (nope > 1), ADD UNIQUE (\"n m\")",
    "ADD CONSTRAINT n1 CHECK (\"n m\" > 0), ADD CONSTRAINT n1 CHECK (id > 0)",
    "ADD UNIQUE (\"n m\"), ADD PRIMARY KEY (\"n m\")",
];

fn what_is_refused_as_a_whole_is_not_begun(major: u32) {
    let stage = Stage::with(major, "rehearsed", POLICY);
    stage.direct(TABLES);
    let before = stage.direct(LOOK);
    for actions in REFUSED {
        let sql = format!("ALTER TABLE \"T x\" {actions}");
        let at_server = stage.direct_args(&["-v", "VERBOSITY=verbose"], &format!("BEGIN;\n{sql};\nROLLBACK;\n"));
        let through = stage.psql_args(&["-v", "VERBOSITY=verbose"], &format!("{sql};\n"));
        assert_eq!(stage.direct(LOOK), before, "{sql} was begun: {}", through.stderr);
        let error = |text: &str| {
            text.lines()
                .find(|line| line.contains("ERROR:"))
                .map(|l| l[l.find("ERROR:").unwrap()..].to_string())
        };
        assert_eq!(error(&through.stderr), error(&at_server.stderr), "{sql}");
        assert!(error(&through.stderr).is_some(), "{sql}");
        assert!(
            through.stderr.contains("nothing of the statement was done"),
            "{sql}: {}",
            through.stderr
        );
    }
    // What the empty table leaves behind is nothing, and the log has both.
    let left = "SELECT count(*) FROM pg_class WHERE relpersistence = 't'";
    assert_eq!(stage.direct(left).trim(), "0");
    let lines = stage.audit_lines();
    let failed = lines.iter().filter(|line| !line["error"].is_null()).count();
    assert_eq!(failed, REFUSED.len());
}

/// Of each the server has no objection, though the empty table is not like the real one.
const DONE: &[&str] = &[
    "ADD a uuid DEFAULT gen_random_uuid() UNIQUE CHECK (a IS NOT NULL)",
    "ADD b int DEFAULT 1 REFERENCES s.users (id)",
    "ADD c int DEFAULT 2 REFERENCES s.users (tag) CHECK (c > 1)",
    "ADD d int DEFAULT 3 REFERENCES \"T x\" (\"n m\")",
    "ADD e serial NOT NULL, DROP CONSTRAINT \"T x_up_fkey\", ADD CONSTRAINT again FOREIGN KEY (up) REFERENCES s.users",
    "DROP CONSTRAINT ck, ADD CONSTRAINT ck CHECK (\"n m\" < 500), ADD UNIQUE (id, up)",
    "ALTER \"n m\" SET NOT NULL, ENABLE TRIGGER shouts, CLUSTER ON by_name, REPLICA IDENTITY USING INDEX by_name, ADD UNIQUE (up, id)",
    "ALTER txt SET NOT NULL, INHERIT parent, ADD CHECK (id > 0)",
    "DROP a, ADD COLUMN IF NOT EXISTS b int, ADD f text NOT NULL DEFAULT md5(random()::text)",
    "ALTER CONSTRAINT again DEFERRABLE, ADD CHECK (id < 10000)",
];

fn what_the_server_takes_is_done(major: u32) {
    let stage = Stage::with(major, "rehearsed_well", POLICY);
    stage.direct(TABLES);
    stage.direct(
        "CREATE UNIQUE INDEX by_name ON \"T x\" (\"n m\"); CREATE UNIQUE INDEX ON s.users (tag); INSERT INTO s.users SELECT i, i, i FROM generate_series(1, 9) i;
         CREATE FUNCTION shout() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
         CREATE TRIGGER shouts BEFORE UPDATE ON \"T x\" FOR EACH ROW EXECUTE FUNCTION shout(); CREATE TABLE parent (id int NOT NULL);
         ALTER TABLE \"T x\" ALTER \"n m\" SET NOT NULL; ALTER TABLE \"T x\" ALTER \"n m\" DROP NOT NULL",
    );
    for actions in DONE {
        let done = stage.psql(&format!("ALTER TABLE ONLY \"T x\" {actions};\n"));
        assert!(!done.stderr.contains("ERROR"), "{actions}: {}", done.stderr);
    }
    let nulls = "SELECT count(*) FROM \"T x\" WHERE b IS NULL OR c IS NULL OR d IS NULL OR e IS NULL OR f IS NULL";
    assert_eq!(stage.direct(nulls).trim(), "0");
}

/// A part is done, and the cause of the error is mended: the same statement goes on, over what is there already.
fn what_was_begun_goes_on(major: u32) {
    let stage = Stage::with(major, "rehearsed_again", POLICY);
    stage.direct(TABLES);
    let texts = [
        "ADD z int DEFAULT 1 + nextval('numbers') * 0 CONSTRAINT z_new UNIQUE",
        "ADD CONSTRAINT small CHECK (\"n m\" < 300), ADD CONSTRAINT one UNIQUE (txt)",
    ];
    for actions in texts {
        let sql = format!("ALTER TABLE \"T x\" {actions};\n");
        let first = stage.psql(&sql);
        assert!(
            first.stderr.contains("lockkeeper: committed before it"),
            "{}",
            first.stderr
        );
        let mend = "ALTER TABLE \"T x\" DISABLE TRIGGER ALL; UPDATE \"T x\" SET txt = id, \"n m\" = 7;";
        stage.direct(mend);
        if actions.starts_with("ADD z") {
            stage.direct("UPDATE \"T x\" SET z = id");
        }
        let again = stage.psql(&sql);
        assert!(!again.stderr.contains("ERROR"), "{actions}: {}", again.stderr);
        stage.direct("UPDATE \"T x\" SET txt = 'x', \"n m\" = id WHERE to_regclass('one') IS NULL");
    }
    let marks = "SELECT count(*) FROM pg_constraint WHERE conname = 'lockkeeper_progress' OR NOT convalidated";
    assert_eq!(stage.direct(marks).trim(), "0");
}

macro_rules! on_both {
    ($($test:ident),*) => {
        mod on_15 { $(#[test] fn $test() { super::$test(15) })* }
        mod on_18 { $(#[test] fn $test() { super::$test(18) })* }
    };
}

on_both!(
    what_is_refused_as_a_whole_is_not_begun,
    what_the_server_takes_is_done,
    what_was_begun_goes_on
);
