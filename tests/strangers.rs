//! Whoever may create in a schema of a superuser's search_path makes every operator, function and type there that could be preferred to
//! the server's own, and none is called: not by a question of Lockkeeper's, whatever statement it is about, nor by what it adds to a
//! client's statement. The oracle is a sequence, which counts calls also of transactions that are undone, and the same statements in a
//! database without strangers, which must end in the same way.

use lockkeeper_testkit::{Ran, Stage, own_cluster, run};
use std::process::Command;

/// Every table is large, and a few hundred rows are many.
const POLICY: &str = "extends = \"standard\"
[table]
small_bytes = 0
[lock]
pause_ms = 10
give_up_after_s = 5
[backfill]
rows_max = 50
batch_rows = 40
batch_target_ms = 0
pause_ms = 0
notice_s = 60
in_transaction = \"defer\"
[rules]
change-type = \"rewrite\"
rename-column = \"rewrite\"
";

const TABLES: &str = "
CREATE SCHEMA app;
CREATE TABLE app.teams (id bigint PRIMARY KEY);
INSERT INTO app.teams SELECT g FROM generate_series(1, 20) g;
CREATE TABLE app.t (id bigint PRIMARY KEY, name text, tag character varying(20), n integer, m integer, team bigint, at timestamptz, old bigint);
INSERT INTO app.t SELECT g, 'n' || g, 'x', g, g, 1 + g % 20, now(), g FROM generate_series(1, 200) g;
CREATE INDEX t_old ON app.t (old);
CREATE TABLE app.pair (a text, b date, c integer, n integer, PRIMARY KEY (a, b));
INSERT INTO app.pair SELECT 'a' || g % 5, date '2020-01-01' + g, g, 0 FROM generate_series(1, 200) g;
CREATE TABLE app.parts (id bigint NOT NULL, n integer, day integer NOT NULL, PRIMARY KEY (id, day)) PARTITION BY RANGE (day);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (100);
CREATE TABLE app.parts_rest PARTITION OF app.parts DEFAULT;
CREATE TABLE app.parts_2 (id bigint NOT NULL, n integer, day integer NOT NULL);
INSERT INTO app.parts SELECT g, g, g FROM generate_series(1, 99) g;
INSERT INTO app.parts_2 SELECT g, g, g FROM generate_series(100, 199) g;
CREATE TABLE app.parts_4 (id bigint NOT NULL, n integer, day integer NOT NULL, PRIMARY KEY (id, day));
INSERT INTO app.parts_4 SELECT g, g, g FROM generate_series(400, 499) g;
CREATE TABLE app.hashed (id bigint NOT NULL, n integer, PRIMARY KEY (id)) PARTITION BY HASH (id);
CREATE INDEX hashed_n ON app.hashed ((n + 1), abs(n)) WHERE n > 0;
CREATE TABLE app.hashed_0 (id bigint NOT NULL, n integer, PRIMARY KEY (id));
CREATE TABLE app.changing (id bigint PRIMARY KEY, code text DEFAULT lower('A') || 'b', n integer NOT NULL DEFAULT 1 + 1, note text CHECK (note <> 'q'),
  CONSTRAINT n_sane CHECK (n > 0 AND n < 1000000), CONSTRAINT code_short CHECK (length(code) < 100 OR code ~ 'x'), UNIQUE (n, id));
CREATE INDEX changing_code ON app.changing ((code || 'x'), (n + 1)) WHERE n > 3 AND code <> 'q';
INSERT INTO app.changing SELECT g, 'c' || g, g, 'n' FROM generate_series(1, 200) g;
CREATE DOMAIN app.small AS integer;
CREATE TABLE app.uses (id bigint PRIMARY KEY, s app.small);
INSERT INTO app.uses SELECT g, g FROM generate_series(1, 100) g;
CREATE VIEW app.seen AS SELECT id, n FROM app.t;
CREATE MATERIALIZED VIEW app.mat AS SELECT id, n FROM app.t;
CREATE UNIQUE INDEX mat_id ON app.mat (id);
CREATE TYPE app.mood AS ENUM ('good', 'bad');
ANALYZE;";

/// One of each kind of what Lockkeeper judges, plans and carries out. What they call and name themselves is written with its schema, or
/// a word of the grammar: a client's own text is the client's own matter.
const STATEMENTS: &[&str] = &[
    "ALTER TABLE app.t ADD COLUMN a integer DEFAULT 5",
    "ALTER TABLE app.t ADD COLUMN r double precision DEFAULT pg_catalog.random()",
    "ALTER TABLE app.t ADD COLUMN s bigserial",
    "ALTER TABLE app.t ALTER COLUMN n SET NOT NULL",
    "ALTER TABLE app.t ADD CONSTRAINT m_there CHECK (m IS NOT NULL)",
    "ALTER TABLE app.t ADD CONSTRAINT team_there FOREIGN KEY (team) REFERENCES app.teams (id)",
    "ALTER TABLE app.t ADD CONSTRAINT old_once UNIQUE (old)",
    "ALTER TABLE app.t DROP COLUMN m",
    "ALTER TABLE app.t RENAME COLUMN m TO mm",
    "ALTER TABLE app.t RENAME TO tt",
    "ALTER TABLE app.t ALTER COLUMN n TYPE bigint",
    "ALTER TABLE app.t ALTER COLUMN tag TYPE character varying(40)",
    "ALTER TABLE app.t SET LOGGED",
    "CREATE INDEX t_name ON app.t (name)",
    "CREATE INDEX ON app.parts (n)",
    "DROP INDEX app.t_old",
    "REINDEX INDEX app.t_name",
    "ALTER TABLE app.parts ATTACH PARTITION app.parts_2 FOR VALUES FROM (100) TO (200)",
    "CREATE TABLE app.parts_3 PARTITION OF app.parts FOR VALUES FROM (200) TO (300)",
    "ALTER TABLE app.parts DETACH PARTITION app.parts_1",
    "ALTER TABLE app.parts ATTACH PARTITION app.parts_4 FOR VALUES FROM (400) TO (500)",
    "ALTER TABLE app.hashed ATTACH PARTITION app.hashed_0 FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
    "ALTER TABLE app.changing ALTER COLUMN n TYPE bigint",
    "ALTER TABLE app.changing RENAME COLUMN code TO codes",
    "ALTER TABLE app.changing RENAME COLUMN note TO notes",
    "REFRESH MATERIALIZED VIEW app.mat",
    "ALTER DOMAIN app.small ADD CONSTRAINT there CHECK (VALUE IS NOT NULL)",
    "ALTER TYPE app.mood RENAME VALUE 'good' TO 'fine'",
    "UPDATE app.t SET at = NULL",
    "UPDATE app.t SET at = NULL WHERE id IS NOT NULL RETURNING id",
    "UPDATE app.seen SET n = 3",
    "UPDATE app.pair SET n = 1",
    "UPDATE app.parts SET n = 1",
    "UPDATE app.t SET at = NULL WHERE n IS NOT NULL LIMIT 10",
    "UPDATE app.pair SET n = 2 WHERE n IS NOT NULL LIMIT 10",
    "WITH x AS (DELETE FROM app.uses RETURNING id) SELECT 1",
    "DELETE FROM app.uses",
    "TRUNCATE app.uses",
    "DROP TABLE app.uses",
    "DO $$ BEGIN ALTER TABLE app.t ADD COLUMN done integer; END $$",
    "DROP TYPE app.mood CASCADE",
    "DROP DOMAIN app.small CASCADE",
    "DROP SCHEMA app CASCADE",
    "DROP OWNED BY bystander CASCADE",
    "TRUNCATE app.teams CASCADE",
    "DO $$ BEGIN DROP TABLE app.changing CASCADE; END $$",
    "DROP VIEW app.seen CASCADE",
    "ALTER DOMAIN app.small DROP DEFAULT",
    "COMMENT ON TABLE app.t IS 'x'",
    "BEGIN;\nCREATE INDEX t_at ON app.t (at);\nALTER TABLE app.t ADD CONSTRAINT team_again FOREIGN KEY (team) REFERENCES app.teams (id);\n\
     ALTER TABLE app.t ADD CONSTRAINT n_once UNIQUE (name);\nALTER TABLE app.t ALTER COLUMN at SET DEFAULT NULL;\nUPDATE app.t SET tag = 'y';\nCOMMIT",
    "BEGIN;\nSAVEPOINT s;\nALTER TABLE app.t ADD COLUMN z integer;\nROLLBACK TO s;\nSHOW search_path;\nALTER TABLE app.t DROP COLUMN z;\nROLLBACK",
    "SET LOCAL search_path = app;\nSHOW search_path",
    "BEGIN;\nSET LOCAL search_path = app;\nALTER TABLE t ADD COLUMN y1 integer;\nSHOW search_path;\nCOMMIT;\nSHOW search_path",
    "BEGIN;\nSET search_path = app, pg_temp;\nALTER TABLE t ADD COLUMN y2 integer;\nCOMMIT;\nSHOW search_path",
    "ALTER TABLE app.teams DROP CONSTRAINT teams_pkey CASCADE",
];

/// As the stranger: functions that count their calls, all operators by them, types and domains of the server's names.
const STRANGERS: &str = r#"
DO $make$
DECLARE
  types text[] := ARRAY['oid', 'int2', 'int4', 'int8', 'text', 'name', '"char"', 'bool', 'numeric', 'float8', 'json', 'jsonb', 'xid', 'regclass',
    'timestamptz', 'interval', 'date', 'varchar', 'oid[]', 'text[]'];
  names text[] := ARRAY['=', '<>', '<', '>', '<=', '>=', '+', '-', '/', '||', '~', '!~', '~~', '->>', '#>>', '@>', '&'];
  l text; r text; n text; f record; s text := '{schema}';
BEGIN
  FOREACH l IN ARRAY types LOOP
    FOREACH r IN ARRAY types LOOP
      EXECUTE format('CREATE FUNCTION %s.trap(pg_catalog.%s, pg_catalog.%s) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_catalog.nextval(''stranger.calls''); RAISE EXCEPTION ''a stranger is called''; END $$', s, l, r);
      FOREACH n IN ARRAY names LOOP
        EXECUTE format('CREATE OPERATOR %s.%s (FUNCTION = %s.trap, LEFTARG = pg_catalog.%s, RIGHTARG = pg_catalog.%s)', s, n, s, l, r);
      END LOOP;
    END LOOP;
  END LOOP;
  -- The same signatures as the server's, which come first where the schema does.
  FOR f IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments FROM pg_proc p
    WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind IN ('f', 'a') AND p.prorettype <> 'internal'::regtype
      AND p.proname ~ '^(count|min|max|sum|round|to_json|to_jsonb|json_.*|jsonb_.*|format|left|right|lower|upper|unnest|now|clock_timestamp|current_.*|pg_[a-z_]*(visible|size|def|expr|locks|pid|pids)|obj_description|col_description|array_.*|string_agg|bool_.*|set_config|has_.*|nextval|setval|encode|convert_to|md5|replace|strpos|starts_with|regexp_.*|generate_series|row_number|date_trunc|quote_.*|record_image_ne|to_reg.*|txid_.*|greatest|extract|date_part|abs|concat.*|int8|int4|text|name|oid|bool)$'
  LOOP
    BEGIN
      EXECUTE format('CREATE FUNCTION %s.%I(%s) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$ BEGIN
        PERFORM pg_catalog.nextval(''stranger.calls''); RAISE EXCEPTION ''a stranger is called''; END $$', s, f.proname, f.arguments);
    EXCEPTION WHEN OTHERS THEN
    END;
  END LOOP;
  -- And of one argument, more to the point than those for any type.
  FOREACH n IN ARRAY ARRAY['count', 'min', 'max', 'format', 'to_json', 'to_jsonb', 'json_agg', 'jsonb_agg', 'unnest', 'concat', 'coalesce', 'round', 'md5', 'left'] LOOP
    FOREACH l IN ARRAY types LOOP
      BEGIN
        EXECUTE format('CREATE FUNCTION %s.%I(pg_catalog.%s) RETURNS pg_catalog.bool LANGUAGE plpgsql AS $$ BEGIN
          PERFORM pg_catalog.nextval(''stranger.calls''); RAISE EXCEPTION ''a stranger is called''; END $$', s, n, l);
      EXCEPTION WHEN OTHERS THEN
      END;
    END LOOP;
  END LOOP;
  FOREACH n IN ARRAY ARRAY['oid', 'int2', 'int4', 'int8', 'text', 'name', 'bool', 'numeric', 'float8', 'json', 'jsonb', 'xid', 'xid8', 'regclass', 'timestamptz',
    'date', 'uuid', 'pg_lsn', 'bytea', 'regtype', 'pg_node_tree'] LOOP
    EXECUTE format('CREATE DOMAIN %s.%I AS pg_catalog.%s CHECK (%s.trap(VALUE::pg_catalog.text, ''''::pg_catalog.text))', s, n,
      CASE n WHEN 'pg_node_tree' THEN 'text' ELSE n END, s);
  END LOOP;
END $make$;
"#;

/// The databases of both stages are the same but for the strangers.
fn is_never_called(major: u32, path: &str) {
    let cluster: &'static _ = Box::leak(Box::new(own_cluster(
        major,
        &[("log_statement", "none"), ("autovacuum", "off")],
    )));
    let alone = Stage::on(cluster, "alone", POLICY, &[]);
    let among = Stage::on(cluster, "among", POLICY, &[]);
    alone.direct("CREATE ROLE stranger; CREATE ROLE bystander");
    for stage in [&alone, &among] {
        stage.direct(TABLES);
        // As it was for everybody up to 14.
        stage.direct(
            "GRANT CREATE ON SCHEMA public TO PUBLIC; CREATE SCHEMA first; GRANT ALL ON SCHEMA first TO stranger; \
             CREATE SCHEMA stranger AUTHORIZATION stranger; SET ROLE stranger; CREATE SEQUENCE stranger.calls",
        );
        let database = &stage.database;
        stage.direct(&format!("ALTER DATABASE {database} SET search_path = {path}"));
    }
    for schema in ["public", "first"] {
        among.direct(&format!(
            "SET search_path = pg_catalog; SET ROLE stranger;{}",
            STRANGERS.replace("{schema}", schema)
        ));
    }
    // They are there, and would be called.
    let called = among.direct_args(&["-At"], "SELECT 1 FROM pg_catalog.pg_class c WHERE c.oid = 5;");
    assert!(called.stderr.contains("a stranger is called"), "{called:?}");
    let calls = || {
        among.direct(
            "SET search_path = pg_catalog; SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM stranger.calls",
        )
    };
    let before = calls();
    let told = |stage: &Stage, ran: Ran| {
        let both = format!("{}\n{}{}", ran.status, ran.stdout, ran.stderr);
        // Rates and sizes differ, and the databases' names.
        let alike = |line: &str| {
            // What was used when is read aside, and is a matter of the moment.
            let of_the_moment = [
                "Lockkeeper has watched for ",
                " was used ",
                " was not used in that time",
                " more have used it",
                "A statement that could not be read was executed ",
                "Sessions are connected past this Lockkeeper",
            ];
            if of_the_moment.iter().any(|words| line.contains(words)) {
                return String::new();
            }
            let line = line.replace(&stage.database, "DATABASE");
            let marks = [" batches, ", " kB"];
            let end = marks.iter().filter_map(|mark| line.find(mark)).min();
            let end = end.map_or(line.len(), |end| line[..end].rfind(' ').unwrap_or(end));
            format!("{}\n", &line[..end])
        };
        both.lines().map(alike).collect::<String>()
    };
    let tools = |stage: &Stage, arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        lockkeeper_cluster::clean_environment(&mut command);
        let port = stage.cluster.port();
        let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname={}", stage.database);
        command.args(arguments).args(["--dsn", &dsn]);
        command
    };
    let file = tempfile::NamedTempFile::new().expect("a file");
    let checked: Vec<String> = STATEMENTS.iter().map(|sql| format!("{sql};\n")).collect();
    std::fs::write(file.path(), checked.concat()).expect("it is written");
    let file = file.path().to_str().expect("a path");
    let wrong = std::cell::RefCell::new(Vec::new());
    let both = |what: &str, of: &dyn Fn(&Stage) -> Ran| {
        let so_far = calls();
        let (expect, got) = (told(&alone, of(&alone)), told(&among, of(&among)));
        if std::env::var_os("LOCKKEEPER_SHOW").is_some() {
            eprintln!("{what}:\n{got}");
        }
        if calls() != so_far || got != expect {
            let called = calls() != so_far;
            wrong
                .borrow_mut()
                .push(format!("{what}: called: {called}\n{got}alone:\n{expect}"));
        }
    };
    both("check --dsn", &|stage| run(tools(stage, &["check", file]), ""));
    both("init", &|stage| run(tools(stage, &["init"]), ""));
    for sql in STATEMENTS {
        both(sql, &|stage| stage.psql_args(&["-A", "-t"], &format!("{sql};\n")));
    }
    both("jobs list", &|stage| {
        let mut command = tools(stage, &["jobs"]);
        command.args(["--format", "json", "list", "--all"]);
        let ran = run(command, "");
        Ran {
            stdout: format!("{} jobs", ran.stdout.lines().count()),
            ..ran
        }
    });
    both("jobs cancel", &|stage| {
        let mut command = tools(stage, &["jobs"]);
        command.args(["cancel", "100000"]);
        run(command, "")
    });
    // What was set on the session for a build is put back.
    let so_far = calls();
    let kept = among.psql_args(
        &["-A", "-t", "-q"],
        "SET search_path = app, \"it's\";\nALTER TABLE changing ALTER COLUMN code TYPE varchar(50);\nSHOW search_path;\n",
    );
    assert_eq!(kept.stdout.trim(), "app, \"it's\"", "{kept:?}");
    let built = "SET search_path = pg_catalog; SELECT count(*) FROM pg_attribute WHERE attrelid = 'app.changing'::regclass AND attname = 'code' AND atttypmod = 54";
    assert_eq!((among.direct(built), calls()), ("1".to_string(), so_far), "{kept:?}");
    let wrong = wrong.into_inner();
    assert!(wrong.is_empty(), "{major}, {path}:\n{}", wrong.join("\n"));
    assert_eq!(calls(), before);
    // Something was carried out, and not all refused.
    let indexes = among.direct("SET search_path = pg_catalog; SELECT count(*) FROM pg_indexes WHERE schemaname = 'app' AND indexname IN ('t_name', 'old_once', 't_at', 'n_once')");
    assert_eq!(indexes, "4", "{major}, {path}");
}

#[test]
fn of_a_stranger_nothing_is_called_on_14() {
    is_never_called(14, "first, public");
}

#[test]
fn of_a_stranger_nothing_is_called_on_18() {
    is_never_called(18, "first, pg_catalog, public");
}

/// What the owner of a table has it call, for an UPDATE, is not called as somebody else who only adds a column.
fn is_called_as_its_owner_alone(major: u32) {
    let stage = Stage::with(major, "owners_code", POLICY);
    let owner = format!("{}_owner", stage.database);
    for (n, part) in [
        "CHECK (public.f(id) IS NOT NULL)",
        "g int GENERATED ALWAYS AS (public.f(a)) STORED",
        "c int, EXCLUDE USING btree (public.f(a) WITH =)",
    ]
    .iter()
    .enumerate()
    {
        stage.direct(&format!(
            "DROP SCHEMA public CASCADE; DROP ROLE IF EXISTS {owner}; CREATE ROLE {owner}; CREATE SCHEMA public AUTHORIZATION {owner};
             SET ROLE {owner};
             CREATE SEQUENCE public.calls;
             CREATE FUNCTION public.note() RETURNS void LANGUAGE plpgsql AS
               $$ BEGIN IF current_user <> '{owner}' THEN PERFORM nextval('public.calls'); END IF; END $$;
             CREATE FUNCTION public.f(int) RETURNS int LANGUAGE plpgsql IMMUTABLE AS
               $$ BEGIN PERFORM public.note(); RETURN $1; END $$;
             CREATE TABLE public.t (id int PRIMARY KEY, a int, {part});
             INSERT INTO public.t (id, a) SELECT i, i FROM generate_series(1, 300) i;
             RESET ROLE; ANALYZE public.t"
        ));
        for sql in [
            "ALTER TABLE public.t ADD COLUMN n serial",
            "ALTER TABLE public.t ADD COLUMN u uuid DEFAULT gen_random_uuid()",
        ] {
            let told = stage.psql(&format!("{sql};\n")).stderr;
            assert!(told.contains(&format!("SET ROLE {owner} first")), "{part}: {told}");
            assert_eq!(
                stage.direct("SELECT is_called FROM public.calls").trim(),
                "f",
                "{part}: {sql}"
            );
            // As the hint says.
            stage.psql(&format!("SET ROLE {owner};\n{sql};\n")).ok();
        }
        let added = "SELECT count(DISTINCT (n, u)) FROM public.t WHERE n IS NOT NULL AND u IS NOT NULL";
        assert_eq!(stage.direct(added).trim(), "300", "{n}");
        assert_eq!(stage.direct("SELECT is_called FROM public.calls").trim(), "f", "{part}");
    }
    stage.direct(&format!(
        "DROP SCHEMA public CASCADE; DROP ROLE {owner}; CREATE SCHEMA public"
    ));
}

#[test]
fn code_of_a_table_is_called_as_its_owner_alone() {
    is_called_as_its_owner_alone(15);
    is_called_as_its_owner_alone(18);
}
