//! What could pass the judge unseen, and what could be used to weigh it down, on a real server.

use lockkeeper_cluster::free_port;
use lockkeeper_testkit::Stage;
use lockkeeper_testkit::raw::{self, Raw};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

const MAJORS: [u32; 2] = [15, 18];
/// All is large, and few rows are many.
const STERN: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 1000\n";

fn stage(major: u32, name: &str) -> Stage {
    let stage = Stage::with(major, name, STERN);
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, a int, b text);
         INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 5000) i;
         CREATE TABLE u (id int PRIMARY KEY, a int);
         INSERT INTO u SELECT i, i FROM generate_series(1, 5000) i;
         ANALYZE",
    );
    stage
}

/// It is refused with this in its message, and nothing has changed.
#[track_caller]
fn refused(stage: &Stage, sql: &str, why: &str) {
    let before = stage.direct("SELECT sum(hashtext(t::text)), count(*) FROM t");
    let ran = stage.psql(sql);
    assert!(ran.stderr.contains(why), "{sql}: {}\n{}", ran.stdout, ran.stderr);
    assert_eq!(
        stage.direct("SELECT sum(hashtext(t::text)), count(*) FROM t"),
        before,
        "{sql}"
    );
}

#[test]
fn large_writes_within_other_statements_are_refused() {
    for major in MAJORS {
        let stage = stage(major, "within");
        let large = "would lock about 500";
        for sql in [
            "INSERT INTO t SELECT id, a, 'y' FROM u ON CONFLICT (id) DO UPDATE SET b = 'y'",
            "INSERT INTO t (VALUES (9001, 1, 'y')) UNION ALL (SELECT id, a, 'y' FROM u) ON CONFLICT (id) DO UPDATE SET b = 'y'",
            "EXPLAIN ANALYZE UPDATE t SET b = 'y'",
            "EXPLAIN (COSTS OFF, ANALYZE) DELETE FROM t",
            "COPY (UPDATE t SET b = 'y' RETURNING id) TO STDOUT",
            "COPY (WITH d AS (DELETE FROM t RETURNING *) SELECT * FROM d) TO STDOUT",
            "PREPARE p AS UPDATE t SET b = 'y' WHERE id > $1; EXECUTE p (0)",
            "PREPARE p (int) AS DELETE FROM t WHERE id > $1; EXPLAIN ANALYZE EXECUTE p (0)",
            "DO $$ BEGIN UPDATE t SET b = 'y'; END $$",
            "DO $$ BEGIN IF true THEN EXECUTE 'DELETE FROM t'; END IF; END $$",
            "DO $$ BEGIN INSERT INTO t SELECT id, a, 'y' FROM u ON CONFLICT (id) DO UPDATE SET b = 'y'; END $$",
        ] {
            refused(&stage, sql, large);
        }
        let rejected = stage.audit_lines();
        let rejected = rejected.iter().filter(|line| line["outcome"] == "rejected").count();
        assert_eq!(rejected, 11, "PostgreSQL {major}");
        // Small ones pass, and what only inserts.
        for sql in [
            "INSERT INTO t SELECT id, a, 'z' FROM u WHERE id < 10 ON CONFLICT (id) DO UPDATE SET b = 'z'",
            "INSERT INTO t VALUES (1, 1, 'select'), (9999, 1, 'z') ON CONFLICT (id) DO UPDATE SET b = 'conflict'",
            "INSERT INTO t SELECT id, a, 'z' FROM u ON CONFLICT DO NOTHING",
            "EXPLAIN ANALYZE UPDATE t SET b = 'z' WHERE id = 1",
            "EXPLAIN UPDATE t SET b = 'z'",
            "PREPARE p AS UPDATE t SET b = 'z' WHERE id = $1; EXECUTE p (1)",
            "DO $$ BEGIN UPDATE t SET b = 'z' WHERE id = 2; END $$",
            "CREATE FUNCTION f() RETURNS void LANGUAGE plpgsql AS $$ BEGIN UPDATE t SET b = 'y'; END $$",
        ] {
            let ran = stage.psql(sql);
            assert!(!ran.stderr.contains("ERROR"), "{sql}: {}", ran.stderr);
        }
    }
}

#[test]
fn an_older_table_does_not_pass_as_one_of_this_transaction() {
    for major in MAJORS {
        let stage = Stage::with(major, "forged", "extends = \"standard\"\n[table]\nsmall_bytes = 0\n");
        let roles = format!("r1_{0}, r2_{0}", stage.database).replace('-', "_");
        let (one, two) = roles.split_once(", ").expect("two");
        stage.direct(&format!(
            "CREATE ROLE {one}; CREATE ROLE {two};
             CREATE TABLE old (a int, b text); INSERT INTO old SELECT i, 'x' FROM generate_series(1, 1000) i;
             CREATE TABLE part (a int); INSERT INTO part SELECT 1 FROM generate_series(1, 1000);
             CREATE INDEX old_a ON old (a)"
        ));
        let forge = format!(
            "ALTER TABLE old OWNER TO {one}; ALTER TABLE old OWNER TO {two};
             GRANT SELECT (tableoid, ctid, xmin, xmax, cmin, cmax, a, b) ON old TO {one};"
        );
        for sql in [
            format!("BEGIN; {forge} DROP TABLE old; COMMIT"),
            format!("BEGIN; {forge} ALTER TABLE old ALTER COLUMN b TYPE int USING 1; COMMIT"),
            format!("BEGIN; {forge} TRUNCATE old; COMMIT"),
            // A new parent takes an older table along.
            "BEGIN; CREATE TABLE p (a int) PARTITION BY LIST (a); ALTER TABLE p ATTACH PARTITION part DEFAULT; DROP TABLE p; COMMIT".into(),
        ] {
            let ran = stage.psql_args(&["-v", "ON_ERROR_STOP=1"], &sql.replace("; ", ";\n"));
            assert!(ran.stderr.contains("lockkeeper"), "PostgreSQL {major}: {sql}: {}", ran.stderr);
            let rows = stage.direct("SELECT (SELECT count(*) FROM old), (SELECT count(*) FROM part), (SELECT count(b) FROM old)");
            assert_eq!(rows.trim(), "1000|1000|1000", "PostgreSQL {major}: {sql}");
        }
        // What it did create is its own, also behind a savepoint and after the same changes.
        let own = format!(
            "BEGIN; SAVEPOINT s; CREATE TABLE fresh (a int); RELEASE s; ALTER TABLE fresh OWNER TO {one}; GRANT SELECT (tableoid) ON fresh TO {two};
             ALTER TABLE fresh ADD COLUMN b uuid DEFAULT gen_random_uuid(); DROP TABLE fresh; COMMIT"
        );
        let ran = stage.psql_args(&["-v", "ON_ERROR_STOP=1"], &own.replace("; ", ";\n"));
        assert!(!ran.stderr.contains("ERROR"), "PostgreSQL {major}: {}", ran.stderr);
        stage.direct(&format!(
            "DROP OWNED BY {one}; DROP OWNED BY {two}; DROP ROLE {one}; DROP ROLE {two}"
        ));
    }
}

#[test]
fn what_is_not_judged_may_be_as_long_as_the_server_takes() {
    let stage = stage(18, "long");
    stage.direct("CREATE TABLE blobs (id int, v bytea)");
    let value = "ab".repeat(10 << 20);
    let insert = format!("INSERT INTO blobs VALUES (1, '\\x{value}'::bytea);");
    assert_eq!(stage.psql_args(&["-q"], &insert).ok().trim(), "");
    assert_eq!(
        stage.direct("SELECT id, length(v) FROM blobs").trim(),
        format!("1|{}", 10 << 20)
    );
    // In parts of one message, with what is judged behind it: nothing of it runs.
    let text = format!("INSERT INTO blobs VALUES (2, '\\x{value}'::bytea); DROP TABLE t;");
    let told = simple_query(&stage, &text);
    assert!(told.contains("nothing of it was run and the session ends"), "{told}");
    // What is judged has its limit.
    let told = simple_query(&stage, &format!("UPDATE t SET b = '{value}'"));
    assert!(told.contains("over the limit of"), "{told}");
    assert_eq!(
        stage
            .direct("SELECT count(*), (SELECT count(*) FROM blobs) FROM t")
            .trim(),
        "5000|1"
    );
}

/// What is answered to one message, as text.
fn simple_query(stage: &Stage, text: &str) -> String {
    let mut raw = Raw::connect(stage.port, &stage.database);
    let mut writer = raw.writer();
    let frame = raw::frame(b'Q', &raw::c(text));
    // The session may end before all of it is sent.
    let sent = std::thread::spawn(move || drop(writer.write_all(&frame)));
    let told = raw.until_ready();
    let _ = sent.join();
    told.iter().map(|(_, body)| String::from_utf8_lossy(body)).collect()
}

#[test]
fn observe_refuses_nothing_and_does_not_flood() {
    let stage = Stage::with(18, "observe", "extends = \"observe\"\n[table]\nsmall_bytes = 0\n");
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t VALUES (1, 1, 'x')");
    let ran = stage.psql(
        "SET application_name = 'x'; BEGIN ISOLATION LEVEL REPEATABLE READ; ALTER TABLE t ADD COLUMN c int; COMMIT",
    );
    assert!(!ran.stderr.contains("ERROR"), "{}", ran.stderr);
    let told = latin1(
        &stage,
        "SET client_encoding = 'LATIN1';\nCOMMENT ON TABLE t IS 'caf\u{e9}';\n",
    );
    assert_eq!(told, "");
    let long = format!("COMMENT ON TABLE t IS '{}'", "x".repeat(17 << 20));
    assert!(simple_query(&stage, &long).contains("COMMENT"));
    assert_eq!(
        stage.direct("SELECT length(obj_description('t'::regclass))").trim(),
        (17 << 20).to_string()
    );
    let many: String = (0..200)
        .map(|n| format!("ALTER TABLE t ADD COLUMN x{n} uuid DEFAULT gen_random_uuid();\n"))
        .collect();
    let told = stage.psql_args(&[], &many).stderr;
    assert_eq!(told.matches("volatile-default").count(), 10, "{told}");
    assert!(told.contains("this session hears no more of the kind"), "{told}");
    let found = stage.audit_lines();
    let found = found
        .iter()
        .filter(|line| line["event"] == "statement" && line["action"] == "warn")
        .count();
    assert!(found >= 200, "{found} events");
}

#[test]
fn slow_connections_do_not_silence_the_probes() {
    let mut stage = Stage::without_proxy(lockkeeper_testkit::cluster(18), "probes");
    let admin = format!("127.0.0.1:{}", free_port().expect("a free port"));
    std::fs::write(stage.policy_file(), STERN).expect("a policy");
    stage.start_proxy(&["--admin", &admin]);
    let slow: Vec<TcpStream> = (0..200)
        .map(|n| {
            let mut stream = TcpStream::connect(&admin).expect("connected");
            if n % 2 == 0 {
                let _ = stream.write_all(b"GET /metr");
            }
            stream
        })
        .collect();
    let mut probe = TcpStream::connect(&admin).expect("connected");
    probe.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    probe
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .expect("sent");
    let mut answer = String::new();
    probe.read_to_string(&mut answer).expect("an answer");
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    drop(slow);
}

#[test]
fn an_update_is_counted_in_every_way_of_writing_it() {
    for major in MAJORS {
        let stage = stage(major, "written");
        let psql = |script: &str| stage.psql_args(&["-q"], script).stderr;
        let whole = "would lock about 5000 rows of";
        for script in [
            "SET client_encoding = 'LATIN1';\nUPDATE t SET b = 'caf\u{e9}';\n",
            "SET standard_conforming_strings = off;\nUPDATE t SET b = 'a\\\\b';\n",
            "SET standard_conforming_strings = off;\nDELETE FROM t WHERE b <> 'a\\'b' AND id > 0;\n",
        ] {
            // As bytes of LATIN1.
            let told = latin1(&stage, script);
            assert!(told.contains(whole), "PostgreSQL {major}: {script}: {told}");
        }
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'x'").trim(), "5000");
        for script in [
            "SET client_encoding = 'LATIN1';\nUPDATE t SET b = 'caf\u{e9}' WHERE id = 1;\n",
            "SET standard_conforming_strings = off;\nUPDATE t SET b = 'a\\\\b' WHERE id = 2;\n",
        ] {
            let told = latin1(&stage, script);
            assert!(!told.contains("ERROR"), "PostgreSQL {major}: {script}: {told}");
        }
        let values = "SELECT string_agg(b, ' ' ORDER BY id) FROM t WHERE id < 3";
        assert_eq!(stage.direct(values).trim(), "caf\u{e9} a\\b");
        assert_eq!(psql("SELECT 1;\n"), "");
    }
}

/// Runs a script over one session, in LATIN1; what was told of errors.
fn latin1(stage: &Stage, script: &str) -> String {
    let mut raw = Raw::connect(stage.port, &stage.database);
    let mut told = String::new();
    for line in script.lines() {
        let bytes: Vec<u8> = line.chars().map(|c| c as u8).collect();
        raw.send(&raw::frame(b'Q', &[bytes.as_slice(), b"\0"].concat()));
        for (tag, body) in raw.until_ready() {
            if tag == b'E' {
                told.push_str("ERROR ");
                told.push_str(&String::from_utf8_lossy(&body));
            }
        }
    }
    told
}

#[test]
fn deep_expressions_are_judged_like_others() {
    for major in MAJORS {
        let stage = stage(major, "deep");
        let long = |n: usize| vec!["b"; n].join(" || ");
        // Of so many levels it is done in batches, and a schema change is judged.
        for n in [24, 60] {
            let told = stage.psql(&format!("UPDATE t SET b = left({}, 1)", long(n))).stderr;
            assert!(told.contains("5000 rows in"), "{n}: {told}");
        }
        for n in [60, 1_950] {
            let sum = vec!["a"; n].join(" + ");
            for sql in [
                format!("ALTER TABLE t ADD CONSTRAINT c{n} CHECK ({sum} IS NOT NULL)"),
                format!("CREATE POLICY p{n} ON t USING ({sum} > 0)"),
                format!("ALTER TABLE u ALTER COLUMN id SET DEFAULT {}", sum.replace('a', "1")),
                // Of more levels it does not fit into pg_index.
                format!("CREATE INDEX i{n} ON t (({}))", vec!["a"; n.min(60)].join(" + ")),
                format!(
                    "CREATE RULE r{n} AS ON INSERT TO u WHERE new.id IS NULL DO ALSO SELECT {}",
                    sum.replace('a', "1")
                ),
            ] {
                let made = stage.psql(&sql);
                assert!(!made.stderr.contains("ERROR"), "{n} {}: {}", &sql[..30], made.stderr);
            }
            let valid = format!("SELECT convalidated FROM pg_constraint WHERE conname = 'c{n}'");
            assert_eq!(stage.direct(&valid).trim(), "t");
            refused(
                &stage,
                &format!("ALTER TABLE t ALTER COLUMN a TYPE bigint USING ({sum})::bigint"),
                "change-type",
            );
        }
        {
            let n = 3000;
            refused(&stage, &format!("UPDATE t SET b = {}", long(n)), "rows of t");
            refused(&stage, &format!("DELETE FROM t WHERE {} <> 'y'", long(n)), "rows of t");
            let small = stage.psql(&format!("UPDATE t SET b = left({}, 1) WHERE id = 1", long(n)));
            assert!(!small.stderr.contains("ERROR"), "{n}: {}", small.stderr);
        }
        for (name, query) in [
            ("v1", format!("SELECT {} AS x FROM t", long(46))),
            (
                "v2",
                format!(
                    "SELECT 1 AS x FROM t x0 {}",
                    (1..48)
                        .map(|n| format!("JOIN u x{n} ON x{n}.id = x0.id "))
                        .collect::<String>()
                ),
            ),
            (
                "v3",
                format!(
                    "SELECT {}1{} AS x FROM t",
                    "CASE WHEN a = 1 THEN ".repeat(43),
                    " END".repeat(43)
                ),
            ),
            ("v4", format!("SELECT {} AS x FROM t", "1 + ".repeat(100) + "1")),
        ] {
            let made = stage.psql(&format!("SET join_collapse_limit = 1; CREATE VIEW {name} AS {query}"));
            assert!(!made.stderr.contains("ERROR"), "{name}: {}", made.stderr);
        }
        // Deeper than is looked at, it is refused, and everybody goes on.
        for text in [
            format!("ALTER TABLE t ADD CHECK ({}a IS NOT NULL)", "a + ".repeat(4_000)),
            format!("ALTER TABLE t ADD CHECK (a{} IS NOT NULL)", "::bigint".repeat(5_000)),
            format!(
                "CREATE FUNCTION f() RETURNS int BEGIN ATOMIC {}; END",
                vec!["SELECT 1"; 6_000].join(" UNION ")
            ),
        ] {
            let told = stage.psql(&text).stderr;
            assert!(told.contains("nested too deeply"), "{told}");
        }
        // Too deep for the server as well: its own error, and everybody goes on.
        let told = stage.psql(&format!("UPDATE t SET b = {}", long(20_000))).stderr;
        assert!(told.contains("stack depth limit exceeded"), "{told}");
        let nested = format!("UPDATE t SET a = {}1{}", "(".repeat(10_000), ")".repeat(10_000));
        assert!(stage.psql(&nested).stderr.contains("ERROR"));
        assert_eq!(stage.psql("SELECT 1").ok().trim(), "1");
    }
}

/// A server of another encoding cuts and folds identifiers otherwise than the grammar does in UTF-8.
#[test]
fn identifiers_are_the_server_s() {
    let stage = Stage::with(18, "names", STERN);
    let latin1 = format!("{}_latin1", stage.database);
    stage.direct(&format!(
        "CREATE DATABASE {latin1} TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'"
    ));
    let name = "\u{e9}".repeat(40);
    let mut raw = Raw::connect(stage.port, &latin1);
    let mut query = |sql: &str| {
        let told = raw.query(sql);
        (raw::error_field(&told, b'M').unwrap_or_default(), raw::rows(&told))
    };
    query("SET client_encoding = 'UTF8'");
    let short = "\u{e9}".repeat(20);
    assert_eq!(query(&format!("CREATE TABLE \"{short}\" (a int)")).0, "");
    assert_eq!(query("DO $$ BEGIN EXECUTE 'CREATE TABLE ' || repeat(chr(233), 40) || ' (a int)'; EXECUTE 'INSERT INTO ' || repeat(chr(233), 40) || ' SELECT generate_series(1, 5000)'; END $$").0, "");
    for sql in [
        format!("DROP TABLE {name}"),
        format!("DROP TABLE \"{name}\""),
        format!("ALTER TABLE {name} ALTER COLUMN a TYPE text"),
        format!("UPDATE {name} SET a = 1"),
        format!("DROP TABLE U&\"{}\"", "\\00e9".repeat(40)),
    ] {
        let (told, _) = query(&sql);
        assert!(told.contains("lockkeeper"), "{sql}: {told}");
    }
    let (_, rows) = query(&format!("SELECT count(*) FROM {name} WHERE a > 1"));
    assert_eq!(rows, ["4999"]);
    assert_eq!(query(&format!("COMMENT ON TABLE \"{short}\" IS 'caf\u{e9}'")).0, "");
}

#[test]
fn whatever_has_a_query_in_a_do_block_is_judged() {
    for major in MAJORS {
        let stage = stage(major, "queries");
        let large = "would lock about 500";
        for code in [
            "DECLARE r record; BEGIN FOR r IN UPDATE t SET b = 'y' RETURNING id LOOP END LOOP; END",
            "DECLARE c refcursor; BEGIN OPEN c FOR UPDATE t SET b = 'y' RETURNING id; MOVE FORWARD ALL FROM c; END",
            "DECLARE c CURSOR FOR UPDATE t SET b = 'y' RETURNING id; BEGIN OPEN c; MOVE FORWARD ALL FROM c; END",
            "DECLARE c CURSOR FOR DELETE FROM t RETURNING id; BEGIN FOR r IN c LOOP NULL; END LOOP; END",
            "DECLARE c refcursor; BEGIN OPEN c FOR EXECUTE 'UPDATE t SET b = ''y'' RETURNING id'; MOVE ALL FROM c; END",
            "DECLARE r record; BEGIN FOR r IN EXECUTE 'UPDATE t SET b = ''y'' RETURNING id' LOOP END LOOP; END",
            "DECLARE r record; BEGIN FOR r IN EXPLAIN ANALYZE UPDATE t SET b = 'y' LOOP END LOOP; END",
            "DECLARE r record; BEGIN FOR r IN WITH d AS (DELETE FROM t RETURNING id) SELECT * FROM d LOOP END LOOP; END",
            "DECLARE n int; BEGIN IF true THEN WITH d AS (DELETE FROM t RETURNING id) SELECT count(*) INTO n FROM d; END IF; END",
            "DECLARE v text := 'y'; BEGIN UPDATE t SET b = v; END",
            "BEGIN EXECUTE 'PREPARE zq AS UPDATE t SET b = ''y'''; EXECUTE 'EXECUTE zq'; END",
        ] {
            let within = if code.contains("zq") { "zq" } else { large };
            refused(&stage, &format!("DO $$ {code} $$"), within);
        }
        refused(
            &stage,
            "DO $$ BEGIN EXECUTE 'PREPARE zq AS UPDATE t SET b = ''y'''; END $$; EXECUTE zq",
            large,
        );
        refused(
            &stage,
            "DO $$ BEGIN EXECUTE 'PREPARE zp AS UPDATE t SET b = ''y'' WHERE id > $1'; END $$; EXECUTE zp(0)",
            "the DO block prepares zp",
        );
        refused(
            &stage,
            "PREPARE zx AS UPDATE t SET b = 'y'; DO $$ BEGIN EXECUTE 'EXECUTE zx'; END $$",
            "the DO block executes the prepared statement zx",
        );
        // In a pipeline it is asked about as an UPDATE is.
        let before = stage.direct("SELECT sum(hashtext(t::text)) FROM t");
        let mut raw = Raw::connect(stage.port, &stage.database);
        let run = |sql: &str| [raw::parse("", sql), raw::bind("", ""), raw::execute("", 0)].concat();
        let both = [
            run("SELECT 1"),
            run("DO $$ BEGIN UPDATE t SET b = 'y' WHERE a > 0; END $$"),
            raw::sync(),
        ];
        raw.send(&both.concat());
        let told = raw::error_field(&raw.until_ready(), b'M').unwrap_or_default();
        assert!(told.contains(large), "PostgreSQL {major}: {told}");
        assert_eq!(stage.direct("SELECT sum(hashtext(t::text)) FROM t"), before);
        // Small ones pass in all these ways.
        for code in [
            "DECLARE r record; BEGIN FOR r IN UPDATE t SET b = 'z' WHERE id = 1 RETURNING id LOOP END LOOP; END",
            "DECLARE c CURSOR FOR SELECT * FROM t; x int := 5; y int[]; BEGIN OPEN c; y[1] := x + 1; RAISE NOTICE 'a %', y[1]; CLOSE c; END",
            "DECLARE r record; n int; BEGIN FOR r IN EXECUTE 'SELECT 1 AS v' LOOP n := r.v; END LOOP; ASSERT n = 1, 'update'; END",
            "DECLARE v int = 3; BEGIN CASE v WHEN 1, 2 THEN NULL; ELSE UPDATE t SET b = 'z' WHERE id = 2; END CASE; \
             FOREACH v IN ARRAY ARRAY[1, 2] LOOP EXIT WHEN v > 1; END LOOP; GET DIAGNOSTICS v = ROW_COUNT; END",
            "BEGIN EXECUTE 'PREPARE zs AS UPDATE t SET b = ''z'' WHERE id = 3'; END",
        ] {
            let ran = stage.psql(&format!("DO $$ {code} $$"));
            assert!(!ran.stderr.contains("ERROR"), "{code}: {}", ran.stderr);
            assert!(!ran.stderr.contains("dynamic-sql"), "{code}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_name_that_changes_its_meaning_within_a_block_is_not_acted_on() {
    for major in MAJORS {
        let stage = stage(major, "meaning");
        stage.direct(
            "CREATE SCHEMA hid; CREATE TABLE hid.h AS SELECT i AS id FROM generate_series(1, 5000) i; CREATE TABLE h (id int);
             CREATE FUNCTION moves() RETURNS void LANGUAGE plpgsql AS $$ BEGIN PERFORM set_config('search_path', 'hid', true); END $$;
             ANALYZE",
        );
        let hidden = "CREATE TEMP TABLE t (id int)";
        for (before, code) in [
            (hidden, "BEGIN DROP TABLE t; DROP TABLE t; END"),
            (hidden, "BEGIN FOR i IN 1..2 LOOP DROP TABLE t; END LOOP; END"),
            (
                hidden,
                "DECLARE n int := 2; BEGIN WHILE n > 0 LOOP EXECUTE 'DROP TABLE t'; n := n - 1; END LOOP; END",
            ),
            (hidden, "BEGIN DROP TABLE t; TRUNCATE t; END"),
            (hidden, "BEGIN DROP TABLE t; UPDATE t SET b = 'y'; END"),
            (hidden, "BEGIN DROP TABLE pg_temp.t; DELETE FROM t; END"),
            (
                hidden,
                "BEGIN ALTER TABLE t RENAME TO tt; ALTER TABLE t DROP COLUMN b; END",
            ),
            (hidden, "BEGIN DISCARD TEMP; DROP TABLE t; END"),
            (hidden, "BEGIN EXECUTE 'DROP TABLE ' || 't'; DROP TABLE t; END"),
            (hidden, "BEGIN DO 'BEGIN DROP TABLE t; END'; DROP TABLE t; END"),
            ("SELECT 1", "BEGIN SET LOCAL search_path = hid; DROP TABLE h; END"),
            ("SELECT 1", "BEGIN SET LOCAL SCHEMA 'hid'; TRUNCATE h; END"),
            (
                "SELECT 1",
                "BEGIN PERFORM set_config('search_path', 'hid', true); DROP TABLE h; END",
            ),
            (
                "SELECT 1",
                "DECLARE v text := set_config('search' || '_path', 'hid', true); BEGIN DROP TABLE h; END",
            ),
            (
                "SELECT 1",
                "BEGIN EXECUTE 'SET LOCAL search_path = hid'; DELETE FROM h; END",
            ),
            ("SELECT 1", "BEGIN IF moves() IS NULL THEN END IF; DROP TABLE h; END"),
            ("SELECT 1", "BEGIN PERFORM moves(); DROP TABLE h; END"),
            (
                "SELECT 1",
                "BEGIN CREATE TEMP VIEW h AS SELECT * FROM hid.h; UPDATE h SET id = 0; END",
            ),
        ] {
            // One session, with each statement a message of its own.
            let ran = stage.psql_args(&[], &format!("{before};\nDO $a$ {code} $a$;\n"));
            assert!(
                ran.stderr.contains("lockkeeper"),
                "PostgreSQL {major}: {code}: {}",
                ran.stderr
            );
            let known = ["may change within the DO block", "rename-table"];
            assert!(
                known.iter().any(|why| ran.stderr.contains(why)),
                "{code}: {}",
                ran.stderr
            );
            let rows =
                stage.direct("SELECT (SELECT count(*) FROM public.t WHERE b = 'x'), (SELECT sum(id) FROM hid.h)");
            assert_eq!(rows.trim(), "5000|12502500", "PostgreSQL {major}: {code}");
        }
        // As migrations have them.
        for code in [
            "BEGIN CREATE TYPE mood AS ENUM ('ok'); EXCEPTION WHEN duplicate_object THEN NULL; END",
            "BEGIN SET LOCAL lock_timeout = '1s'; ALTER TABLE u ADD COLUMN IF NOT EXISTS c int; END",
            "BEGIN IF NOT EXISTS (SELECT 1 FROM information_schema.columns WHERE table_name = 'u' AND column_name = 'd') THEN \
             ALTER TABLE u ADD COLUMN d int; END IF; IF to_regclass('u') IS NOT NULL THEN ALTER TABLE u ADD COLUMN e int; END IF; END",
            "BEGIN DROP TABLE IF EXISTS nowhere; CREATE TABLE nowhere (id int); CREATE INDEX ON nowhere (id); END",
            "BEGIN PERFORM set_config('lock_timeout', '1s', true); DROP TABLE IF EXISTS nowhere; END",
            "BEGIN CREATE TEMP TABLE w (id int); UPDATE w SET id = 1; DROP TABLE w; END",
        ] {
            let ran = stage.psql(&format!("DO $a$ {code} $a$"));
            assert!(!ran.stderr.contains("ERROR"), "{code}: {}", ran.stderr);
        }
    }
}

#[test]
fn a_backslash_that_a_block_reads_otherwise_hides_nothing() {
    for major in MAJORS {
        let stage = stage(major, "backslash");
        for sql in [
            "SET standard_conforming_strings = off;\nDO $$ BEGIN PERFORM '\\'' ; DROP TABLE t; -- ';\nEND $$;\n",
            "DO $$ BEGIN SET LOCAL standard_conforming_strings = off; INSERT INTO w VALUES ('\\'' ); DROP TABLE t; -- ');\nEND $$;\n",
            "DO $$ BEGIN PERFORM set_config('standard_' || 'conforming_strings', 'off', true); INSERT INTO w VALUES ('\\'' ); DROP TABLE t; -- ');\nEND $$;\n",
        ] {
            let ran = stage.psql_args(&[], &format!("CREATE TEMP TABLE w (v text);\n{sql}"));
            assert!(
                ran.stderr.contains("standard_conforming_strings"),
                "PostgreSQL {major}: {sql}: {}",
                ran.stderr
            );
            assert_eq!(
                stage.direct("SELECT count(*) FROM t").trim(),
                "5000",
                "PostgreSQL {major}: {sql}"
            );
        }
    }
}

#[test]
fn a_constraint_is_not_validated_under_a_lock_of_the_same_block() {
    for major in MAJORS {
        let stage = stage(major, "validated");
        stage.direct("ALTER TABLE t ADD CONSTRAINT known CHECK (a > 0) NOT VALID");
        for code in [
            "BEGIN LOCK TABLE t IN SHARE MODE; ALTER TABLE t VALIDATE CONSTRAINT known; END",
            "BEGIN ALTER TABLE public.t ADD COLUMN n int; ALTER TABLE t VALIDATE CONSTRAINT known; END",
            "BEGIN ALTER TABLE t ADD CONSTRAINT fresh CHECK (a > 0) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT fresh; END",
        ] {
            let ran = stage.psql(&format!("DO $a$ {code} $a$"));
            assert!(
                ran.stderr.contains("VALIDATE CONSTRAINT would scan the table under"),
                "PostgreSQL {major}: {code}: {}",
                ran.stderr
            );
        }
        let ran = stage.psql("DO $$ BEGIN LOCK TABLE t IN ROW EXCLUSIVE MODE; ALTER TABLE u ADD COLUMN n int; ALTER TABLE t VALIDATE CONSTRAINT known; END $$");
        assert!(!ran.stderr.contains("ERROR"), "PostgreSQL {major}: {}", ran.stderr);
    }
}

/// What a rule makes of a statement is judged with it, whatever the statement itself is about.
#[test]
fn what_a_rule_makes_of_a_statement_is_counted() {
    for major in MAJORS {
        let stage = stage(major, "ruled");
        stage.direct(
            "CREATE TABLE one (id int PRIMARY KEY, a int);
             INSERT INTO one VALUES (1, 1);
             CREATE RULE also AS ON UPDATE TO one DO ALSO UPDATE t SET b = 'y';
             CREATE RULE gone AS ON DELETE TO one DO INSTEAD UPDATE t SET b = 'y';
             CREATE VIEW seen AS SELECT * FROM one;
             CREATE VIEW instead AS SELECT 1 AS a;
             CREATE RULE instead AS ON UPDATE TO instead DO INSTEAD UPDATE t SET b = new.a::text;
             CREATE TABLE inbox (id int, a text);
             CREATE RULE also AS ON INSERT TO inbox DO ALSO UPDATE t SET b = 'y';
             CREATE VIEW in_view AS SELECT * FROM inbox;
             CREATE TABLE \"In Box\" (id int);
             CREATE RULE also AS ON INSERT TO \"In Box\" DO INSTEAD INSERT INTO inbox VALUES (new.id, 'x');
             CREATE TABLE swept (id int);
             CREATE RULE also AS ON INSERT TO swept WHERE new.id > 0 DO ALSO DELETE FROM t WHERE id > new.id;
             CREATE TABLE with_ones (id int);
             CREATE RULE also AS ON INSERT TO with_ones DO ALSO WITH g AS (DELETE FROM t RETURNING id) SELECT count(*) FROM g;
             CREATE TABLE logged (id int);
             CREATE TABLE log (id int);
             CREATE RULE also AS ON INSERT TO logged DO ALSO INSERT INTO log VALUES (new.id);
             CREATE RULE changed AS ON UPDATE TO logged DO ALSO UPDATE t SET b = 'z' WHERE id = new.id;
             ANALYZE",
        );
        let by_rule = "CREATE RULE) of ";
        for sql in [
            "UPDATE one SET a = 2 WHERE id = 1",
            "UPDATE one SET a = 2",
            "DELETE FROM one WHERE id = 1",
            "UPDATE seen SET a = 2 WHERE id = 1",
            "UPDATE instead SET a = 2",
            "INSERT INTO inbox VALUES (1, 'x')",
            "SELECT 1; INSERT INTO inbox VALUES (1, 'x')",
            "/* x */ insert into public.INBOX default values",
            "INSERT INTO U&\"\\0069nbox\" VALUES (1)",
            "INSERT INTO in_view VALUES (1, 'x')",
            "INSERT INTO \"In Box\" VALUES (1)",
            "INSERT INTO swept VALUES (1)",
            "INSERT INTO with_ones VALUES (1)",
            "EXPLAIN ANALYZE INSERT INTO inbox VALUES (1, 'x')",
            "PREPARE p AS INSERT INTO inbox VALUES ($1, 'x'); EXECUTE p (1)",
            "BEGIN; CREATE TABLE newly (id int); CREATE RULE a AS ON INSERT TO newly DO ALSO DELETE FROM t; INSERT INTO newly VALUES (1)",
        ] {
            refused(&stage, sql, by_rule);
        }
        // A prepared one.
        lockkeeper_testkit::runs(async {
            let client = stage.connect().await.client;
            let insert = client
                .prepare("INSERT INTO inbox VALUES ($1, 'x')")
                .await
                .expect("it is prepared");
            let error = client.execute(&insert, &[&1]).await.expect_err("it is refused");
            assert!(format!("{error:?}").contains(by_rule), "{error:?}");
        });
        // What the rule changes is little, also where the planner knows nothing of it.
        stage.direct(
            "CREATE TABLE few (id int PRIMARY KEY, a int); INSERT INTO few SELECT g FROM generate_series(1, 20) g;
             CREATE TABLE feed (id int); CREATE RULE also AS ON INSERT TO feed DO ALSO UPDATE few SET a = x.id FROM few x, few y, few z;",
        );
        stage.psql("INSERT INTO feed VALUES (1)").ok();
        stage.psql("BEGIN; INSERT INTO feed VALUES (1); COMMIT").ok();
        for sql in [
            "INSERT INTO logged VALUES (1)",
            "UPDATE logged SET id = 2",
            "INSERT INTO swept VALUES (4990)",
            "INSERT INTO u VALUES (9001, 1)",
        ] {
            stage.psql(sql).ok();
        }
        // A rule that is made past the proxy is noticed in a while, one that is made through it at once.
        stage.direct("CREATE TABLE later (id int)");
        stage.psql("INSERT INTO later VALUES (1)").ok();
        stage
            .psql("CREATE RULE also AS ON INSERT TO later DO ALSO UPDATE t SET b = 'y'")
            .ok();
        refused(&stage, "INSERT INTO later VALUES (1)", by_rule);
    }
}

/// Where no rule makes more of an INSERT, it costs nothing.
#[test]
fn an_insert_is_asked_about_once_in_a_while() {
    let mut stage = stage(18, "unruled");
    stage.psql("INSERT INTO u VALUES (9001, 1)").ok();
    stage.mark();
    let sql: String = (9002..9100)
        .map(|id| format!("INSERT INTO u VALUES ({id}, 1);\n"))
        .collect();
    stage.psql(&sql).ok();
    let received = stage.received();
    let asked = received.iter().filter(|sql| !sql.starts_with("INSERT")).count();
    assert!(asked <= 2, "{received:?}");
}

/// However many statements that change rows a session prepares, none of them is run unjudged.
#[test]
fn prepared_writes_beyond_those_that_are_kept_are_judged() {
    let stage = stage(18, "many_prepared");
    let many: String = (0..1_000)
        .map(|n| format!("PREPARE p{n} AS UPDATE u SET a = {n} WHERE id = 1;\n"))
        .collect();
    let large = "would lock about 5000 rows of";
    let told = |script: &str| stage.psql_args(&["-q"], &format!("{many}{script}")).stderr;
    for script in [
        "PREPARE q AS UPDATE t SET b = 'y'\\; EXECUTE q;\n",
        "PREPARE q AS UPDATE t SET b = 'y';\nEXECUTE q;\n",
        "PREPARE q AS UPDATE t SET b = 'y';\nEXPLAIN ANALYZE EXECUTE q;\n",
        "BEGIN;\nPREPARE q AS DELETE FROM t;\nROLLBACK;\nEXECUTE q;\n",
        "SELECT 1\\; PREPARE q AS UPDATE t SET b = 'y'\\; PREPARE r AS SELECT 1;\nEXECUTE q;\n",
        "PREPARE q AS SELECT 1;\nDEALLOCATE q;\nPREPARE q AS UPDATE t SET b = 'y';\nEXECUTE q;\n",
        "DEALLOCATE ALL;\nPREPARE q AS UPDATE t SET b = 'y';\nEXECUTE q;\n",
        "DISCARD ALL;\nPREPARE q AS UPDATE t SET b = 'y';\nEXECUTE q;\n",
    ] {
        let told = told(script);
        assert!(told.contains(large), "{script}: {told}");
    }
    // Nor one that is prepared by what stands before it in the message.
    stage.direct(
        "CREATE FUNCTION prepares() RETURNS void LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'PREPARE f AS ' || 'UPDATE t SET b = ''y'''; END $$",
    );
    for script in [
        "SELECT prepares()\\; EXECUTE f;\n",
        "DO $$ BEGIN EXECUTE 'PREPARE f AS ' || 'UPDATE t SET b = ''y'''; END $$\\; EXECUTE f;\n",
    ] {
        let told = stage.psql_args(&["-q"], script).stderr;
        assert!(told.contains(large), "{script}: {told}");
    }
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'x'"), "5000");
    // What is little, or no write, goes on; and what is not there the server says itself.
    let little = "PREPARE q AS UPDATE t SET b = 'z' WHERE id = $1;\nEXECUTE q (1);\nPREPARE r AS SELECT 1;\nEXECUTE r;\nEXECUTE nothing;\n";
    let told_of = told(little);
    assert!(
        !told_of.contains("lockkeeper") && told_of.contains("\"nothing\" does not exist"),
        "{told_of}"
    );
    assert_eq!(stage.direct("SELECT b FROM t WHERE id = 1"), "z");
    // A name that is free again takes no place.
    let freed = "DEALLOCATE p1;\nPREPARE q AS UPDATE t SET b = 'y';\nEXECUTE q;\n";
    assert!(told(freed).contains(large));
    // Put together by a block of code.
    let block = "DO $$ BEGIN EXECUTE 'PREPARE' || ' q AS UPDATE t SET b = ''y'''; END $$;\nEXECUTE q;\n";
    let told = stage.psql_args(&["-q"], block).stderr;
    assert!(told.contains(large), "{told}");
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'y'"), "0");
}

/// What an EXECUTE means is known when it is run, and not when it is prepared over the protocol; and a function may have prepared it.
#[test]
fn an_execute_is_judged_when_it_is_run() {
    let stage = stage(18, "executed");
    stage.direct("CREATE FUNCTION prepares() RETURNS int LANGUAGE plpgsql AS $$ BEGIN EXECUTE 'PREPARE q AS UPDATE t SET b = ''y'' '; RETURN 1; END $$");
    for (execute, result) in [("EXECUTE q", "2"), ("EXPLAIN ANALYZE EXECUTE q", "2")] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        raw.query("PREPARE q AS SELECT 1");
        let run = || [raw::bind("", "s"), raw::execute("", 0), raw::sync()].concat();
        raw.send(&[raw::parse("s", execute), run()].concat());
        assert!(raw::tags(&raw.until_ready()).contains(result), "{execute}");
        raw.query("DEALLOCATE q");
        raw.query("PREPARE q AS UPDATE t SET b = 'y'");
        raw.send(&run());
        let message = raw::error_field(&raw.until_ready(), b'M').unwrap_or_default();
        assert!(
            message.contains("would lock about 5000 rows of"),
            "{execute}: {message}"
        );
    }
    let told = stage.psql_args(&["-q"], "SELECT prepares();\nEXECUTE q;\n").stderr;
    assert!(told.contains("would lock about 5000 rows of"), "{told}");
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'y'"), "0");
}

/// An EXECUTE of a query is one execution to the server, which chooses its plans by their number, and costs a question once: until a
/// function may have prepared something else under its name.
#[test]
fn an_execute_of_a_query_is_not_explained() {
    for major in MAJORS {
        let mut stage = stage(major, "not_explained");
        stage.direct(
            "CREATE FUNCTION own() RETURNS int LANGUAGE sql AS 'SELECT 1';
             CREATE FUNCTION prepares() RETURNS int LANGUAGE plpgsql AS $$ BEGIN
                 EXECUTE 'DEALLOCATE q'; EXECUTE 'PREPARE q(int) AS UPDATE t SET b = ''y'' WHERE id > $1'; RETURN 1; END $$",
        );
        stage.mark();
        let executes = "EXECUTE q(1);\n".repeat(4);
        let counted = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE name = 'q';\n";
        let script =
            format!("SELECT own();\nPREPARE q(int) AS SELECT count(*) FROM t WHERE id > $1;\n{executes}{counted}");
        let told = stage.psql_args(&["-qAt"], &script);
        assert_eq!(
            told.stdout, "1\n4999\n4999\n4999\n4999\n0|4\n",
            "PostgreSQL {major}: {}",
            told.stderr
        );
        let received = stage.received();
        let asked = received
            .iter()
            .filter(|sql| sql.contains("pg_catalog.pg_prepared_statements"));
        assert_eq!(asked.count(), 1, "PostgreSQL {major}: {received:?}");
        // What is known of a name ends where it may have got another meaning: in the same message too.
        let begin = "SELECT own();\nPREPARE q(int) AS SELECT 1 WHERE $1 > 0;\nEXECUTE q(1);\nEXECUTE q(1);\n";
        for again in [
            "SELECT prepares();\nEXECUTE q(0);\n",
            "SELECT prepares()\\; EXECUTE q(0);\n",
            "EXECUTE q(1)\\; SELECT prepares()\\; EXECUTE q(0);\n",
            "EXECUTE q(1)\\; SELECT prepares();\nEXECUTE q(0);\n",
            "DEALLOCATE q;\nPREPARE q(int) AS DELETE FROM t WHERE id > $1;\nEXECUTE q(0);\n",
            "DEALLOCATE q\\; PREPARE q(int) AS DELETE FROM t WHERE id > $1\\; EXECUTE q(0);\n",
            "DO $$ BEGIN EXECUTE 'DEALLOCATE q'; EXECUTE 'PREPARE' || ' q(int) AS DELETE FROM t WHERE id > $1'; END $$;\nEXECUTE q(0);\n",
            "DO $$ BEGIN DEALLOCATE q; PREPARE q(int) AS DELETE FROM t WHERE id > $1; END $$;\nEXECUTE q(0);\n",
        ] {
            let told = stage.psql_args(&["-q"], &format!("{begin}{again}")).stderr;
            let is_judged = ["would lock about", "lock them", "the DO block prepares q"]
                .iter()
                .any(|said| told.contains(said));
            assert!(is_judged, "PostgreSQL {major}: {again}: {told}");
            assert_eq!(
                stage.direct("SELECT count(*) FROM t WHERE b = 'x'"),
                "5000",
                "PostgreSQL {major}: {again}: {told}"
            );
        }
    }
}

/// What an EXECUTE is given is evaluated once, by the server that runs it.
#[test]
fn the_arguments_of_an_execute_are_evaluated_once() {
    for major in MAJORS {
        let stage = stage(major, "evaluated_once");
        stage.direct("CREATE SEQUENCE s");
        let script = "PREPARE w(int) AS UPDATE u SET a = 2 WHERE id = $1;\nPREPARE x AS UPDATE t SET b = $1 WHERE id = $2;\n\
            EXECUTE w(nextval('s')::int);\nEXECUTE w(nextval('s')::int);\nEXPLAIN EXECUTE w(nextval('s')::int);\n\
            EXECUTE x(4, nextval('s')::int);\nEXPLAIN ANALYZE EXECUTE x('z', nextval('s')::int);\n\
            SELECT generic_plans + custom_plans FROM pg_prepared_statements WHERE name = 'w';\n";
        let told = stage.psql_args(&["-qAt"], script);
        assert!(
            told.stdout.ends_with("\n3\n"),
            "PostgreSQL {major}: {} {}",
            told.stdout,
            told.stderr
        );
        assert_eq!(stage.direct("SELECT last_value FROM s"), "5", "PostgreSQL {major}");
        assert_eq!(
            stage.direct("SELECT string_agg(id || b, ' ' ORDER BY id) FROM t WHERE b <> 'x'"),
            "44 5z"
        );
        // What is much is refused all the same, whatever the types of its parameters and arguments.
        for large in [
            "PREPARE y AS UPDATE t SET b = $1 WHERE id > $2;\nEXECUTE y(1, '0');\n",
            "PREPARE y(text) AS DELETE FROM t WHERE b <> $1;\nEXECUTE y(17);\n",
            "PREPARE y(text) AS DELETE FROM t WHERE b <> $1;\nEXECUTE y(17);\nEXECUTE y(18);\n",
            "PREPARE y(int) AS UPDATE t SET b = 'y' WHERE id > $1;\nEXECUTE y(5000);\nEXECUTE y(0);\n",
            "PREPARE y(int) AS UPDATE t SET b = 'y' WHERE id > $1;\nEXECUTE y(5000);\nDEALLOCATE y;\nPREPARE y(int) AS DELETE FROM t WHERE id <> $1;\nEXECUTE y(5000);\n",
        ] {
            let told = stage.psql_args(&["-q"], large).stderr;
            assert!(told.contains("would lock about"), "PostgreSQL {major}: {large}: {told}");
        }
        assert_eq!(
            stage.direct("SELECT count(*) FROM t WHERE b <> 'y'"),
            "5000",
            "PostgreSQL {major}"
        );
    }
}

/// In another encoding than UTF-8 a write is counted, whatever it is a part of.
#[test]
fn writes_within_others_are_counted_in_every_encoding() {
    for major in MAJORS {
        let stage = stage(major, "encoded");
        stage.direct(
            "CREATE TABLE inbox (id int, a text); CREATE RULE also AS ON INSERT TO inbox DO ALSO UPDATE t SET b = 'y'",
        );
        let writes = [
            "COPY (UPDATE t SET b = 'caf\u{e9}' RETURNING id) TO STDOUT",
            "COPY (WITH d AS (DELETE FROM t RETURNING b) SELECT b || '\u{e9}' FROM d) TO STDOUT (FORMAT csv)",
            "EXPLAIN ANALYZE UPDATE t SET b = 'caf\u{e9}'",
            "EXPLAIN (ANALYZE, COSTS off) DELETE FROM t WHERE b <> '\u{e9}'",
            "WITH d AS (DELETE FROM t WHERE b <> '\u{e9}' RETURNING 1) SELECT count(*) FROM d",
            "PREPARE p AS UPDATE t SET b = 'caf\u{e9}'\nEXECUTE p",
            "PREPARE p AS UPDATE t SET b = $1\nEXECUTE p ('caf\u{e9}')",
            "PREPARE \u{e9} AS UPDATE t SET b = 'y'\nEXECUTE \u{e9}",
            "PREPARE \u{e9} AS UPDATE t SET b = 'y'\nEXPLAIN ANALYZE EXECUTE \u{e9}",
            "INSERT INTO t SELECT id, a, 'caf\u{e9}' FROM u ON CONFLICT (id) DO UPDATE SET b = 'y'",
            "INSERT INTO inbox VALUES (1, 'caf\u{e9}')",
        ];
        for write in writes {
            let told = latin1(&stage, &format!("SET client_encoding = 'LATIN1'\n{write}\n"));
            assert!(
                told.contains("rows and lock them")
                    || told.contains("would lock about 500")
                    || told.contains("to change 5000 rows"),
                "PostgreSQL {major}: {write}: {told}"
            );
        }
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'x'"), "5000");
        // By the extended protocol.
        for write in &writes[..5] {
            let mut raw = Raw::connect(stage.port, &stage.database);
            raw.query("SET client_encoding = 'LATIN1'");
            let text: Vec<u8> = write.chars().map(|c| c as u8).collect();
            let parse = raw::frame(b'P', &[&b"\0"[..], &text, b"\0\0\0"].concat());
            raw.send(&[parse, raw::bind("", ""), raw::execute("", 0), raw::sync()].concat());
            let message = raw::error_field(&raw.until_ready(), b'M').unwrap_or_default();
            assert!(
                message.contains("would lock about"),
                "PostgreSQL {major}: {write}: {message}"
            );
        }
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'x'"), "5000");
        let little = "SET client_encoding = 'LATIN1'\nCOPY (UPDATE t SET b = 'caf\u{e9}' WHERE id = 1 RETURNING id) TO STDOUT\n\
            PREPARE p AS UPDATE t SET b = 'caf\u{e9}' WHERE id = $1\nEXECUTE p (2)\nPREPARE \u{e9} AS SELECT 1\nEXECUTE \u{e9}\n\
            EXPLAIN ANALYZE UPDATE t SET b = 'caf\u{e9}' WHERE id = 3\n";
        assert_eq!(latin1(&stage, little), "", "PostgreSQL {major}");
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'caf\u{e9}'"), "3");
    }
}

/// What only an older or a newer server can read is not harmless for that: the server says how many rows it means.
#[test]
fn writes_in_words_of_another_version_are_counted() {
    for major in [13, 15, 18] {
        let server = Box::leak(Box::new(lockkeeper_testkit::own_cluster(major, &[])));
        let stage = Stage::on(server, "words", STERN, &[]);
        stage.direct(
            "CREATE TABLE t (id int PRIMARY KEY, \"system_user\" int, b text);
             INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 5000) i; ANALYZE",
        );
        let writes: &[&str] = match major {
            13 => &[
                "UPDATE t SET system_user = 1",
                "UPDATE t SET b = 'y' WHERE id>0and true",
                "DELETE FROM t WHERE id>0or false",
                "UPDATE t SET b = 'y' WHERE (5 !) > id OR id > 0",
                "WITH d AS (DELETE FROM t WHERE id>0and true RETURNING 1) SELECT count(*) FROM d",
                "(WITH d AS (DELETE FROM t WHERE id>0and true RETURNING 1) SELECT count(*) FROM d)",
                "INSERT INTO t (id, system_user) SELECT id, 1 FROM t ON CONFLICT (id) DO UPDATE SET b = 'y'",
                "COPY (UPDATE t SET system_user = 1 RETURNING id) TO STDOUT",
                "EXPLAIN ANALYZE UPDATE t SET system_user = 1",
                "PREPARE p AS UPDATE t SET system_user = 1; EXECUTE p",
            ],
            15 => &[
                "UPDATE t SET system_user = 1",
                "DELETE FROM t WHERE system_user.id > 0 OR id > 0",
                "COPY (UPDATE t SET system_user = 1 RETURNING id) TO STDOUT",
                "MERGE INTO t USING t AS s ON t.id = s.id WHEN MATCHED THEN UPDATE SET system_user = 1",
                "PREPARE p AS UPDATE t SET system_user = 1; EXECUTE p",
            ],
            _ => &[
                "UPDATE t SET b = 'y' WHERE id > 0x0",
                "UPDATE t SET b = 'y' WHERE id < 1_000_000",
                "UPDATE t SET b = 'y' WHERE id > 0b0 AND id < 0o7777777",
            ],
        };
        let before = "SELECT count(*), sum(\"system_user\") FROM t WHERE b = 'x'";
        let whole = stage.direct(before);
        for write in writes {
            stage.psql(write);
            if major == 18 {
                // It is done in batches.
                assert!(!stage.received().iter().any(|sql| sql == write), "{write}");
                continue;
            }
            assert_eq!(stage.direct(before), whole, "PostgreSQL {major}: {write}");
            if write.starts_with("PREPARE") {
                continue;
            }
            let mut raw = Raw::connect(stage.port, &stage.database);
            raw.send(
                &[
                    raw::parse("s", write),
                    raw::bind("", "s"),
                    raw::execute("", 0),
                    raw::sync(),
                ]
                .concat(),
            );
            let answer = raw::tags(&raw.until_ready());
            assert!(answer.contains('E'), "PostgreSQL {major}: {write}: {answer}");
            assert_eq!(stage.direct(before), whole, "PostgreSQL {major}: {write}");
        }
        if major < 16 {
            stage
                .psql("UPDATE t SET system_user = 7 WHERE id = 1; SELECT t.system_user FROM t WHERE id = 1")
                .ok();
            assert_eq!(stage.direct("SELECT \"system_user\" FROM t WHERE id = 1"), "7");
        }
    }
}

/// Nothing is refused under `observe`, however it comes.
#[test]
fn observe_refuses_nothing_by_any_way() {
    let settings = [("wal_level", "logical")];
    let server = Box::leak(Box::new(lockkeeper_testkit::own_cluster(18, &settings)));
    let stage = Stage::on(
        server,
        "observed",
        "extends = \"observe\"\n[table]\nsmall_bytes = 0\n",
        &["--held-bytes-max", "1048576"],
    );
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, a int, b text); INSERT INTO t SELECT i, i, 'x' FROM generate_series(1, 20000) i; ANALYZE");
    // Over a replication connection.
    let mut raw = Raw::open(stage.port);
    raw.start(&raw::startup(&[
        ("user", "postgres"),
        ("database", &stage.database),
        ("replication", "database"),
    ]));
    for sql in [
        "ALTER TABLE t ADD COLUMN c int",
        "UPDATE t SET b = 'r'",
        "DROP TABLE IF EXISTS nothing; CREATE INDEX i ON t (a)",
        "INSERT INTO t VALUES (0, 0, '')",
    ] {
        let told = raw.query(sql);
        assert_eq!(raw::error_field(&told, b'M'), None, "{sql}");
    }
    let bytes: Vec<u8> = "UPDATE t SET b = 'caf\u{e9}'".chars().map(|c| c as u8).collect();
    raw.query("SET client_encoding = 'LATIN1'");
    raw.send(&raw::frame(b'Q', &[&bytes[..], b"\0"].concat()));
    assert_eq!(raw::error_field(&raw.until_ready(), b'M'), None);
    assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'caf\u{e9}'"), "20001");
    // What was prepared and is read in another way when it is executed.
    let mut raw = Raw::connect(stage.port, &stage.database);
    raw.send(
        &[
            raw::parse("s", "COMMENT ON TABLE t IS 'caf\u{e9}'"),
            raw::parse("b", "UPDATE t SET b = 'a\\b' WHERE id > 0"),
            raw::sync(),
        ]
        .concat(),
    );
    assert_eq!(raw::error_field(&raw.until_ready(), b'M'), None);
    for set in [
        "SET client_encoding = 'LATIN1'",
        "SET standard_conforming_strings = off",
    ] {
        raw.query(set);
        for name in ["s", "b"] {
            raw.send(&[raw::bind("", name), raw::execute("", 0), raw::sync()].concat());
            assert_eq!(raw::error_field(&raw.until_ready(), b'M'), None, "{set}: {name}");
        }
    }
    assert_eq!(stage.direct("SELECT obj_description('t'::regclass)"), "caf\u{e9}");
    // The server reads a message as a whole, before the first of its statements runs.
    for sql in [
        "SET standard_conforming_strings = off; COMMENT ON TABLE t IS 'a\\b'; UPDATE t SET b = 'c\\d'",
        "SELECT set_config('standard_conforming_strings', 'off', false); UPDATE t SET b = 'c\\d'; COMMENT ON TABLE t IS 'a\\b'",
        "SET client_encoding = 'LATIN1'; COMMENT ON TABLE t IS 'a\\b'; UPDATE t SET b = 'c\\d\u{e9}'; UPDATE t SET b = 'c\\d'",
        "BEGIN; SET LOCAL standard_conforming_strings = off; ROLLBACK; COMMENT ON TABLE t IS 'a\\b'; UPDATE t SET b = 'c\\d'",
    ] {
        let mut raw = Raw::connect(stage.port, &stage.database);
        assert_eq!(raw::error_field(&raw.query(sql), b'M'), None, "{sql}");
        assert_eq!(stage.direct("SELECT obj_description('t'::regclass)"), "a\\b", "{sql}");
        assert_eq!(
            stage.direct("SELECT count(*) FROM t WHERE b = 'c\\d'"),
            "20001",
            "{sql}"
        );
    }
    // More than a session holds, and several statements behind an unfinished group.
    let mut raw = Raw::connect(stage.port, &stage.database);
    let long = format!("UPDATE t SET b = '{}' WHERE id = 1", "x".repeat(2 << 20));
    raw.send(
        &[
            raw::parse("l", &long),
            raw::bind("", "l"),
            raw::execute("", 0),
            raw::sync(),
        ]
        .concat(),
    );
    assert_eq!(raw::error_field(&raw.until_ready(), b'M'), None);
    let large = [
        raw::parse("v", "UPDATE t SET b = $1 WHERE a > 19990"),
        raw::bind_with("", "v", &[&"y".repeat(2 << 20)]),
        raw::execute("", 0),
        raw::sync(),
    ];
    raw.send(&large.concat());
    assert_eq!(raw::error_field(&raw.until_ready(), b'M'), None);
    raw.send(&[raw::parse("", "SELECT 1"), raw::bind("", ""), raw::execute("", 0)].concat());
    let told = raw.query("ALTER TABLE t ADD COLUMN d int; ALTER TABLE t ADD COLUMN e int");
    assert_eq!(raw::error_field(&told, b'M'), None);
    assert!(
        stage
            .audit_lines()
            .iter()
            .any(|line| line["findings"].to_string().contains("replication connection"))
    );
}

/// What the refusal of a large write in a pipeline advises is true for that very statement.
#[test]
fn a_large_write_in_a_pipeline_goes_as_its_refusal_says() {
    let pipeline = |raw: &mut Raw, between: &[u8]| {
        let one = |sql: &str| [raw::parse("", sql), raw::bind("", ""), raw::execute("", 0)].concat();
        let all = [
            &one("SELECT 1")[..],
            between,
            &one("UPDATE t SET b = 'y'"),
            between,
            &one("SELECT 2"),
            &raw::sync(),
        ]
        .concat();
        raw.send(&all);
    };
    for (policy, begin) in [("", false), ("in_transaction = \"defer\"\n", true)] {
        let stage = Stage::with(18, "pipeline", &format!("{STERN}{policy}"));
        stage.direct("CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 5000) i; ANALYZE");
        let mut raw = Raw::connect(stage.port, &stage.database);
        pipeline(&mut raw, b"");
        let answer = raw.until_ready();
        let message = raw::error_field(&answer, b'M').unwrap_or_default();
        let hint = raw::error_field(&answer, b'H').unwrap_or_default();
        assert!(message.contains("a Sync right before and behind it"), "{message}");
        assert_eq!(message.contains("BEGIN"), begin, "{message}\n{hint}");
        assert_eq!(hint.contains("a BEGIN of their own"), begin, "{hint}");
        if begin {
            raw.query("BEGIN");
            pipeline(&mut raw, b"");
            assert_eq!(raw::error_field(&raw.until_ready(), b'M'), None);
            raw.query("COMMIT");
        } else {
            pipeline(&mut raw, &raw::sync());
            for _ in 0..3 {
                assert_eq!(raw::error_field(&raw.until_ready(), b'M'), None);
            }
        }
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'y'"), "5000");
    }
}

/// What a refusal advises is done as it stands there.
#[test]
fn hints_hold_when_they_are_followed() {
    for major in MAJORS {
        let stage = stage(major, "followed");
        stage.direct(
            "CREATE TABLE keyless (a int); INSERT INTO keyless SELECT generate_series(1, 3000);
             CREATE TABLE parent (id int PRIMARY KEY); INSERT INTO parent SELECT generate_series(1, 3000);
             CREATE TABLE child (id int PRIMARY KEY, p int REFERENCES parent); INSERT INTO child SELECT g, g FROM generate_series(1, 3000) g;
             CREATE TABLE twice (id int PRIMARY KEY, a int, b text); INSERT INTO twice SELECT g, g, 'x' FROM generate_series(1, 3000) g; ANALYZE",
        );
        let mut raw = Raw::connect(stage.port, &stage.database);
        let mut hint = |sql: &str| {
            let told = raw.query(sql);
            assert!(raw::error_field(&told, b'M').is_some(), "{sql}");
            raw::error_field(&told, b'H').unwrap_or_default()
        };
        // The statements of a hint, one a line, without what stands for the client's own.
        let deletes = |hint: &str| -> Vec<String> {
            let lines = hint.lines().filter(|line| line.starts_with("DELETE"));
            let own = |line: &str| line.replace(" WHERE … ORDER", " ORDER").replace("LIMIT n", "LIMIT 5");
            lines.map(own).collect()
        };
        let limited = deletes(&hint("DELETE FROM keyless LIMIT 5"));
        stage.psql(&limited[0]).ok();
        assert_eq!(stage.direct("SELECT count(*) FROM keyless"), "2995");
        let large = hint("DELETE FROM keyless WHERE ctid IS NOT NULL");
        assert!(
            large.contains("WHERE ctid IN (SELECT ctid FROM keyless WHERE … LIMIT 1000)"),
            "{large}"
        );
        stage
            .psql("DELETE FROM keyless WHERE ctid IN (SELECT ctid FROM keyless WHERE ctid IS NOT NULL LIMIT 1000)")
            .ok();
        let emptied = deletes(&hint("TRUNCATE keyless"));
        for _ in 0..2 {
            stage.psql(&emptied[0]).ok();
        }
        assert_eq!(stage.direct("SELECT count(*) FROM keyless"), "0");
        for sql in deletes(&hint("TRUNCATE parent CASCADE")) {
            stage.psql(&sql).ok();
        }
        assert_eq!(
            stage.direct("SELECT (SELECT count(*) FROM parent) + (SELECT count(*) FROM child)"),
            "0"
        );
        // Back from what the steps before the failed one have committed.
        let before = stage.schema();
        let failed = hint("ALTER TABLE twice ADD CHECK (a > 0), ADD UNIQUE (b)");
        assert_ne!(stage.schema(), before);
        let (_, back) = failed.split_once("where it is removed already): ").expect("a way back");
        stage.psql(back).ok();
        assert_eq!(stage.schema(), before, "{back}");
    }
}

/// The tables within a CREATE SCHEMA lock what they refer to as others do.
#[test]
fn a_new_schema_s_tables_are_judged_like_others() {
    for major in MAJORS {
        let mut stage = stage(major, "schema_elements");
        stage.direct(
            "CREATE TABLE p (a int) PARTITION BY RANGE (a);
             CREATE TABLE rest PARTITION OF p DEFAULT;
             INSERT INTO p SELECT generate_series(1, 5000);
             ANALYZE p, rest",
        );
        stage.mark();
        stage
            .psql("CREATE SCHEMA s1 CREATE TABLE x (a int REFERENCES public.t)\n")
            .ok();
        let timed = stage.received().iter().any(|sql| sql.contains("lock_timeout"));
        assert!(timed, "{:#?}", stage.received());
        let bounds = "p FOR VALUES FROM (9000) TO (9001)";
        let told = stage
            .psql(&format!(
                "CREATE SCHEMA s2 CREATE TABLE x PARTITION OF public.{bounds}\n"
            ))
            .stderr;
        assert!(told.contains("scans its default partition"), "{told}");
        assert_eq!(stage.direct("SELECT to_regnamespace('s2') IS NULL").trim(), "t");
        // As the hint says.
        let told = stage.psql(&format!(
            "CREATE SCHEMA s2;\nCREATE TABLE s2.x PARTITION OF {bounds};\n"
        ));
        assert_eq!(
            (told.stderr.as_str(), told.stdout.as_str()),
            ("", "CREATE SCHEMA\nCREATE TABLE\n")
        );
    }
}

/// Where the planner has no statistics it takes one row in 200 for granted: the rows are counted then, and once for the same text.
#[test]
fn what_the_planner_guesses_is_counted() {
    for major in MAJORS {
        let mut stage = stage(major, "guessed");
        for condition in [
            "a % 2 = 0",
            "lower(b) = 'x'",
            "b || '' = 'x'",
            "id IN (SELECT generate_series(1, (SELECT 4000)))",
            "id = ANY (ARRAY(SELECT id FROM t))",
            "id IN (SELECT unnest(ARRAY(SELECT id FROM t)))",
        ] {
            let sql = format!("BEGIN;\nUPDATE t SET b = 'y' WHERE {condition};\nROLLBACK;\n");
            refused(&stage, &sql, "more than 1000 rows of t");
        }
        stage.mark();
        let few = "UPDATE t SET b = 'z' WHERE a % 1000 = 0;\n";
        let counted = |stage: &Stage| {
            let received = stage.received();
            received.iter().filter(|sql| sql.contains("lockkeeper_counted")).count()
        };
        // In one session: what is remembered is so for a moment only.
        assert_eq!(stage.psql(&few.repeat(3)).ok(), "UPDATE 5\n".repeat(3));
        assert_eq!(counted(&stage), 1, "{:#?}", stage.received());
        // Of these it knows, or far too few are expected.
        stage.mark();
        for known in [
            "a < 100 AND a > 50",
            "a = 7 AND lower(b) = 'x'",
            "id = ANY (ARRAY(SELECT id FROM t WHERE a > 5 LIMIT 50))",
            "id IN (SELECT id FROM t WHERE now() IS NOT NULL LIMIT 50)",
        ] {
            stage.psql(&format!("UPDATE t SET b = 'z' WHERE {known};\n")).ok();
        }
        assert_eq!(counted(&stage), 0, "{:#?}", stage.received());
    }
}

/// The planner multiplies what it guesses, and knows nothing of a column that is compared with another one of the same row.
#[test]
fn several_guesses_are_counted_wherever_they_stand() {
    for major in MAJORS {
        let mut stage = stage(major, "guesses");
        let several = "lower(b) = 'x' AND a % 2 = 0";
        for condition in [
            several,
            "a = id",
            "(lower(b), a % 2) = ('x', 0)",
            "id IN (SELECT id FROM u WHERE a + 0 > 0 AND a * 2 > 0)",
        ] {
            let write = format!("UPDATE t SET b = 'y' WHERE {condition}");
            for sql in [
                format!("BEGIN;\n{write};\nROLLBACK;\n"),
                format!("WITH d AS ({write} RETURNING *) SELECT count(*) FROM d"),
                format!("DO $$ BEGIN {write}; END $$"),
                format!("EXPLAIN ANALYZE {write}"),
            ] {
                refused(&stage, &sql, "more than 1000 rows of t");
            }
        }
        let merge = format!(
            "MERGE INTO t USING u ON t.id = u.id AND {} WHEN MATCHED THEN DELETE",
            several.replace("a %", "t.a %")
        );
        refused(&stage, &merge, "more than 1000 rows of t");
        // Few are counted once for the same text, for a while.
        stage.mark();
        let mut raw = Raw::connect(stage.port, &stage.database);
        for sql in [
            "UPDATE t SET b = 'z' WHERE lower(b) = 'x' AND a % 1000 = 0",
            "WITH d AS (UPDATE t SET b = 'z' WHERE lower(b) = 'z' AND a % 1000 = 0 RETURNING *) SELECT count(*) FROM d",
        ] {
            for _ in 0..20 {
                let answer = raw.query(sql);
                assert_eq!(raw::error_field(&answer, b'M'), None, "{sql}");
            }
        }
        let received = stage.received();
        let counted = received.iter().filter(|sql| sql.contains("lockkeeper_counted")).count();
        assert!((2..20).contains(&counted), "{counted} of 40: {received:#?}");
    }
}

/// The server finds no type for a parameter that stands in what is set only: the rows are counted without it.
#[test]
fn a_parameter_elsewhere_does_not_keep_rows_from_being_counted() {
    for major in MAJORS {
        let stage = stage(major, "elsewhere");
        let mut raw = Raw::connect(stage.port, &stage.database);
        for (sql, values) in [
            ("UPDATE t SET b = $1 WHERE a % 2 = $2", &["y", "0"][..]),
            (
                "WITH d AS (UPDATE t SET b = $1 WHERE a % 2 = 0 RETURNING 1) SELECT count(*) FROM d",
                &["y"],
            ),
        ] {
            raw.query("BEGIN");
            raw.send(
                &[
                    raw::parse("", sql),
                    raw::bind_with("", "", values),
                    raw::execute("", 0),
                    raw::sync(),
                ]
                .concat(),
            );
            let told = raw::error_field(&raw.until_ready(), b'M').unwrap_or_default();
            assert!(
                told.contains("more than 1000 rows of t"),
                "PostgreSQL {major}: {sql}: {told}"
            );
            raw.query("ROLLBACK");
        }
        assert_eq!(stage.direct("SELECT count(*) FROM t WHERE b = 'y'").trim(), "0");
    }
}

/// How many elements a variable's array has nobody knows before the block runs.
#[test]
fn what_is_guessed_of_a_block_s_variables_is_told() {
    for major in MAJORS {
        let stage = stage(major, "arrays");
        let told = |declared: &str, write: &str| {
            let ran = stage.psql(&format!("DO $$ DECLARE {declared}; BEGIN {write}; END $$"));
            assert!(!ran.stderr.contains("ERROR"), "{write}: {}", ran.stderr);
            ran.stderr.contains("how many rows this touches is not known")
        };
        let array = "v int[] := '{1, 2}'";
        assert!(told(array, "UPDATE t SET b = 'y' WHERE id = ANY (v)"));
        assert!(told(array, "UPDATE t SET b = 'y' FROM unnest(v) w WHERE id = w"));
        assert!(told(
            "v int := 99",
            "DELETE FROM t WHERE a % 100 = v AND lower(b) = 'x'"
        ));
        assert!(!told("v int := 99", "UPDATE t SET b = 'y' WHERE id = v"));
        assert!(!told(
            "v int[] := '{5}'",
            "UPDATE t SET b = 'y' WHERE id = 7 AND a = ANY ('{7, 8}')"
        ));
        // It has no more rows than may be changed.
        stage.direct("CREATE TABLE few (id int PRIMARY KEY, b text); INSERT INTO few SELECT 1, 'x'; ANALYZE few");
        assert!(!told(array, "UPDATE few SET b = 'y' WHERE id = ANY (v)"));
    }
}

/// By another collation many values are equal to one, though the planner takes a unique column for one row.
#[test]
fn collations_make_many_rows_of_one_value() {
    for major in MAJORS {
        let stage = stage(major, "collations");
        stage.direct(
            "CREATE COLLATION ci (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
             CREATE FUNCTION variant(i int) RETURNS text LANGUAGE sql IMMUTABLE AS $$
               SELECT string_agg(CASE WHEN (i >> b) & 1 = 1 THEN chr(65 + b) ELSE chr(97 + b) END, '' ORDER BY b) FROM generate_series(0, 12) b $$;
             TRUNCATE t; ALTER TABLE t DROP CONSTRAINT t_pkey, ALTER id DROP NOT NULL; DROP TABLE u;
             INSERT INTO t SELECT NULL, i, variant(i) FROM generate_series(0, 4999) i; CREATE UNIQUE INDEX ON t (b);
             CREATE TABLE u (b text COLLATE ci NOT NULL, a int); INSERT INTO u SELECT b, a FROM t; CREATE UNIQUE INDEX ON u (b COLLATE \"C\");
             CREATE TABLE plain (b text COLLATE ci PRIMARY KEY); INSERT INTO plain VALUES ('a'); ANALYZE",
        );
        for write in [
            "UPDATE t SET a = 1 WHERE b = 'abcdefghijklm' COLLATE ci",
            "UPDATE t SET a = 1 WHERE b COLLATE ci IN ('abcdefghijklm')",
            "UPDATE u SET a = 1 WHERE b = 'abcdefghijklm'",
            "DELETE FROM u WHERE b IN ('abcdefghijklm', 'x')",
        ] {
            refused(
                &stage,
                &format!("BEGIN;\n{write};\nROLLBACK;\n"),
                "more than 1000 rows of",
            );
        }
        assert_eq!(stage.number("SELECT count(*) FROM u WHERE a = 1"), 1);
        assert_eq!(stage.psql("DELETE FROM plain WHERE b = 'A'").ok(), "DELETE 1\n");
    }
}

/// Nobody else sees a view that is temporary or new, but the rows behind it are everybody's.
#[test]
fn what_is_written_through_a_view_of_ones_own_is_judged() {
    for major in MAJORS {
        let stage = stage(major, "own_view");
        for view in [
            "TEMP VIEW v AS SELECT * FROM t",
            "VIEW v AS SELECT * FROM t WHERE id > 0",
        ] {
            for write in [
                "DELETE FROM v",
                "UPDATE v SET b = 'y' WHERE a > 0",
                "WITH d AS (DELETE FROM v RETURNING 1) SELECT 1",
            ] {
                let sql = format!("BEGIN;\nCREATE {view};\n{write};\nROLLBACK;\n");
                refused(&stage, &sql, "would lock");
            }
        }
        let few = "BEGIN;\nCREATE TEMP VIEW v AS SELECT * FROM t;\nUPDATE v SET b = 'z' WHERE id < 9;\nCOMMIT;\n";
        assert!(stage.psql(few).ok().contains("UPDATE 8\n"));
    }
}

/// Without a catalog the types of tables, columns and schemas are unknown to the reader of PL/pgSQL: the block is read all the same, or refused.
#[test]
fn blocks_with_types_of_the_catalog_are_read() {
    for major in MAJORS {
        let stage = stage(major, "typed_blocks");
        stage.direct("CREATE SCHEMA s; CREATE TYPE s.kind AS ENUM ('a')");
        for declared in [
            "r t%ROWTYPE",
            "r s.kind",
            "r t[]",
            "r t.id%TYPE[]",
            "r s.kind ARRAY",
            "q s.kind; r t%ROWTYPE",
        ] {
            for write in ["DELETE FROM t", "DROP TABLE t", "TRUNCATE t"] {
                let first = if declared.ends_with("ROWTYPE") {
                    "r.a := 1; "
                } else {
                    ""
                };
                let sql = format!("DO $$ DECLARE {declared}; BEGIN {first}{write}; END $$");
                refused(&stage, &sql, "in the DO block: ");
            }
        }
        refused(
            &stage,
            "DO $$ BEGIN DROP TABLE t; FOO BAR; END $$",
            "the DO block cannot be read here (syntax error",
        );
        let right = "DO $$ DECLARE r t%ROWTYPE; k s.kind := 'a'; BEGIN r.a := 7; UPDATE t SET b = k::text WHERE id = r.a; END $$";
        let ran = stage.psql(right);
        assert_eq!((ran.stderr.as_str(), ran.stdout.as_str()), ("", "DO\n"));
        assert_eq!(stage.direct("SELECT b FROM t WHERE id = 7").trim(), "a");
        refused(
            &stage,
            "BEGIN;\nDELETE FROM t WHERE id IN (SELECT id FROM t ORDER BY a > 0 FETCH FIRST ROW WITH TIES);\nROLLBACK;\n",
            "more than 1000 rows of t",
        );
    }
}

#[test]
fn no_setting_hides_a_table() {
    for major in MAJORS {
        let stage = stage(major, "settings");
        stage.direct("CREATE SCHEMA s; CREATE TABLE s.t AS TABLE t");
        let mut session = Raw::connect(stage.port, &stage.database);
        let settings = raw::rows(&session.query(lockkeeper_testkit::SETTINGS));
        assert!(settings.len() > 50, "{settings:?}");
        assert!(settings.iter().any(|setting| setting == "array_nulls = 'off'"));
        for setting in &settings {
            let (name, _) = setting.split_once(" = ").unwrap();
            session.query(&format!("SET {setting}"));
            for (sql, code) in [
                ("ALTER TABLE t RENAME a TO z", "55000"),
                ("DROP TABLE IF EXISTS absent, t", "55000"),
                ("DROP TABLE s.t", "55000"),
                ("DO $$ BEGIN UPDATE t SET a = a + 1; END $$", "25001"),
            ] {
                let answer = session.query(sql);
                let told = raw::error_field(&answer, b'C');
                assert_eq!(told.as_deref(), Some(code), "{setting}: {sql}");
            }
            session.query(&format!("RESET {name}"));
        }
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE a = id"), 5000);
    }
}
