//! What is not asked, because the transaction has made it or holds its lock: where that is so, and where it only looks so. There the
//! statement is tried for like any other, so that it gives up in time while somebody else uses the table.

use lockkeeper::plan::facts::Facts;
use lockkeeper::plan::reading::read;
use lockkeeper::plan::request::Request;
use lockkeeper::plan::{deferred, depends, glance, jobs, path, spot};
use lockkeeper_testkit::raw::{Raw, error_field, rows};
use lockkeeper_testkit::{SETTINGS, Stage, on_both, own_cluster};
use std::time::{Duration, Instant};

on_both!(
    what_the_transaction_made_is_sent_as_it_is,
    what_only_looks_made_by_the_transaction_is_tried_for,
    what_the_transaction_holds_is_sent_as_it_is,
    what_only_looks_held_is_tried_for,
    small_tables_are_glanced_at,
    what_is_spotted_is_what_the_long_question_tells,
    a_prepared_transaction_keeps_no_question_waiting,
    jobs_are_read_at_once_only_where_their_table_is_good,
    what_the_client_has_set_changes_no_answer,
);

const POLICY: &str = "extends = \"standard\"\n[lock]\ngive_up_in_transaction_s = 1\npause_ms = 10\n";

const GIVE_UP: Duration = Duration::from_secs(1);

/// An application that reads each of these tables and keeps its transaction open.
const TABLES: &str = "
    CREATE SCHEMA other;
    CREATE TABLE t (id int PRIMARY KEY, v int, w int);
    CREATE TABLE parent (id int PRIMARY KEY, v int);
    CREATE TABLE child () INHERITS (parent);
    CREATE TABLE counted (id int, v int);
    CREATE SEQUENCE counted_s OWNED BY counted.id;
    CREATE ROLE {role};
    INSERT INTO t SELECT g, g, g FROM generate_series(1, 10) g;
    INSERT INTO child SELECT g, g FROM generate_series(1, 10) g;
    INSERT INTO counted VALUES (1, 1);
    ANALYZE;";

fn stage(major: u32, name: &str) -> Stage {
    let mut stage = Stage::with(major, name, POLICY);
    stage.direct(&TABLES.replace("{role}", &stage.database));
    stage.mark();
    stage
}

fn done(session: &mut Raw, sql: &str) {
    let answer = session.query(sql);
    assert_eq!(error_field(&answer, b'M'), None, "{sql}");
}

/// Between BEGIN and the last statement everything is done; then another session locks, and the last is given up in time.
#[track_caller]
fn is_tried_for(stage: &Stage, before: &[&str], lock: &str, last: &str) {
    let took = gives_up(stage, before, lock, last);
    assert!(took >= GIVE_UP, "{before:?}, {last}: tried once alone");
}

#[track_caller]
fn gives_up(stage: &Stage, before: &[&str], lock: &str, last: &str) -> Duration {
    let (mut migration, mut application) = (
        Raw::connect(stage.port, &stage.database),
        Raw::connect(stage.cluster.port(), &stage.database),
    );
    // Should it wait all the same, it does not wait for ever.
    done(&mut migration, "SET statement_timeout = '5s'");
    done(&mut migration, "BEGIN");
    before.iter().for_each(|sql| done(&mut migration, sql));
    done(&mut application, "BEGIN");
    lock.split("; ").for_each(|sql| done(&mut application, sql));
    let begun = Instant::now();
    let answer = migration.query(last);
    let took = begun.elapsed();
    let code = error_field(&answer, b'C');
    assert_eq!(code.as_deref(), Some("55P03"), "{before:?}, {last}");
    done(&mut application, "ROLLBACK");
    done(&mut migration, "ROLLBACK");
    took
}

/// What the server received since the mark that only a step of ours sends.
fn tried(stage: &Stage) -> Vec<String> {
    let is_ours = |sql: &String| sql.contains("lock_timeout") || sql.contains("SAVEPOINT");
    stage.received().into_iter().filter(is_ours).collect()
}

fn what_the_transaction_made_is_sent_as_it_is(major: u32) {
    let mut stage = stage(major, "made");
    let mut session = Raw::connect(stage.port, &stage.database);
    done(&mut session, "BEGIN");
    done(&mut session, "CREATE TABLE other.t (id int, v int)");
    done(
        &mut session,
        "INSERT INTO other.t SELECT g, g FROM generate_series(1, 10) g",
    );
    stage.mark();
    let own = [
        "ALTER TABLE ONLY other.t ADD CONSTRAINT t_pkey PRIMARY KEY (id)",
        "CREATE INDEX ON other.t (v)",
        "ALTER TABLE other.t ADD CHECK (v > 0)",
        "ALTER TABLE other.t ADD FOREIGN KEY (v) REFERENCES other.t",
        "ALTER TABLE other.t ALTER v SET DEFAULT 1",
        "ALTER TABLE other.t OWNER TO CURRENT_USER",
    ];
    own.iter().for_each(|sql| done(&mut session, sql));
    assert_eq!(tried(&stage), Vec::<String>::new());
    let received = stage.received();
    assert!(
        received.iter().filter(|sql| own.contains(&sql.as_str())).eq(own),
        "{received:#?}"
    );
    // Each of them a short question, and no long one.
    assert!(
        !received.iter().any(|sql| sql.contains("WITH RECURSIVE")),
        "{received:#?}"
    );
    done(&mut session, "COMMIT");
    // Now others see it.
    done(&mut session, "BEGIN");
    done(&mut session, "CREATE TABLE other.u (id int)");
    stage.mark();
    done(&mut session, "CREATE INDEX ON other.t (v)");
    assert!(!tried(&stage).is_empty());
    done(&mut session, "ROLLBACK");
}

fn what_only_looks_made_by_the_transaction_is_tried_for(major: u32) {
    let stage = stage(major, "looks_made");
    let reads = "LOCK TABLE public.t IN ROW EXCLUSIVE MODE";
    let made = "CREATE TABLE other.t (id int PRIMARY KEY, v int)";
    // Of the same name in another schema, which the search_path finds first.
    is_tried_for(&stage, &[made], reads, "CREATE INDEX ON t (v)");
    is_tried_for(
        &stage,
        &[made, "SET LOCAL search_path = public, other"],
        reads,
        "ALTER TABLE t ADD CHECK (v > 0) NOT VALID",
    );
    // Undone to a savepoint, and made by another session since.
    let undone = [
        made,
        "SAVEPOINT a",
        "CREATE TABLE other.s (id int, v int)",
        "ROLLBACK TO a",
    ];
    let again = "COMMIT; CREATE TABLE other.s (id int, v int); BEGIN; LOCK TABLE other.s IN ROW EXCLUSIVE MODE";
    is_tried_for(&stage, &undone, again, "CREATE INDEX ON other.s (v)");
    // It refers to an older one.
    is_tried_for(
        &stage,
        &[made],
        reads,
        "ALTER TABLE other.t ADD FOREIGN KEY (v) REFERENCES public.t",
    );
    // Made by this session, and made anew by another.
    let mut session = Raw::connect(stage.port, &stage.database);
    done(&mut session, "BEGIN");
    done(&mut session, "CREATE TABLE other.again (id int, v int)");
    done(&mut session, "COMMIT");
    stage.direct(
        "DROP TABLE other.again; CREATE TABLE other.again (id int, v int); INSERT INTO other.again VALUES (1, 1)",
    );
    is_tried_for(
        &stage,
        &[made],
        "LOCK TABLE other.again IN ROW EXCLUSIVE MODE",
        "CREATE INDEX ON other.again (v)",
    );
}

fn what_the_transaction_holds_is_sent_as_it_is(major: u32) {
    let mut stage = stage(major, "holds");
    let mut session = Raw::connect(stage.port, &stage.database);
    done(&mut session, "BEGIN");
    done(&mut session, "ALTER TABLE t ALTER v SET DEFAULT 1");
    stage.mark();
    done(&mut session, "ALTER TABLE t ALTER w SET DEFAULT 2");
    done(&mut session, "ALTER TABLE t ADD x int");
    // No part of the transaction that could be undone, and a lock_timeout all the same.
    let tried = tried(&stage);
    assert!(!tried.iter().any(|sql| sql.contains("SAVEPOINT")), "{tried:#?}");
    assert_eq!(tried.len(), 4, "{tried:#?}");
    let timeout = session.query("SHOW lock_timeout");
    assert_eq!(rows(&timeout), ["0"]);
    done(&mut session, "COMMIT");
    // What fails, fails as the server says it, and the transaction with it.
    done(&mut session, "BEGIN; ");
    done(&mut session, "ALTER TABLE t ALTER v SET DEFAULT 3");
    let answer = session.query("ALTER TABLE t ALTER absent SET DEFAULT 1");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("42703"));
    let answer = session.query("SELECT 1");
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("25P02"));
    done(&mut session, "ROLLBACK");
}

fn what_only_looks_held_is_tried_for(major: u32) {
    let stage = stage(major, "looks_held");
    let reads = |table: &str| format!("LOCK TABLE {table} IN ACCESS SHARE MODE");
    let sets = "ALTER TABLE t ALTER v SET DEFAULT 1";
    let last = "ALTER TABLE t ALTER w SET DEFAULT 2";
    // Its lock has gone with the savepoint.
    is_tried_for(&stage, &["SAVEPOINT a", sets, "ROLLBACK TO a"], &reads("t"), last);
    is_tried_for(
        &stage,
        &["SAVEPOINT a", sets, "ROLLBACK TO a", "RELEASE a"],
        &reads("t"),
        last,
    );
    // A lock that lets readers through.
    is_tried_for(&stage, &["ALTER TABLE t SET (fillfactor = 90)"], &reads("t"), last);
    is_tried_for(&stage, &["ALTER TABLE t ALTER v SET STATISTICS 10"], &reads("t"), last);
    // Meanwhile somebody has made another that is found first: the statement fails soon, and does not wait for it.
    let found_first = "COMMIT; CREATE TABLE other.t (w int); BEGIN; LOCK TABLE other.t IN ACCESS SHARE MODE";
    gives_up(
        &stage,
        &["SET LOCAL search_path = other, public", sets],
        found_first,
        last,
    );
    stage.direct("DROP TABLE other.t");
    // The parent's alone.
    let only = "ALTER TABLE ONLY parent ALTER v SET DEFAULT 1";
    is_tried_for(
        &stage,
        &[only],
        &reads("child"),
        "ALTER TABLE parent ALTER v SET DEFAULT 2",
    );
    // With the owner goes a sequence.
    let owner = format!("ALTER TABLE counted OWNER TO {}", stage.database);
    let counts = "SELECT nextval('counted_s')";
    is_tried_for(&stage, &["ALTER TABLE counted ALTER v SET DEFAULT 1"], counts, &owner);
    // A function of an event trigger locks what it likes, this one with the second default.
    stage.direct(
        "CREATE FUNCTION looks() RETURNS event_trigger LANGUAGE plpgsql AS $$BEGIN
           IF (SELECT count(*) FROM pg_attrdef WHERE adrelid = 'public.t'::regclass) > 1 THEN LOCK TABLE counted; END IF; END$$;
         CREATE EVENT TRIGGER looks ON ddl_command_end EXECUTE FUNCTION looks()",
    );
    is_tried_for(&stage, &[sets], &reads("counted"), last);
    stage.direct("DROP EVENT TRIGGER looks");
}

fn small_tables_are_glanced_at(major: u32) {
    let mut stage = stage(major, "glanced");
    let long = |stage: &Stage| {
        stage
            .received()
            .iter()
            .filter(|sql| sql.contains("pg_get_indexdef"))
            .count()
    };
    let statements = [
        "CREATE INDEX ON t (v)",
        "ALTER TABLE t ADD CHECK (v > 0)",
        "ALTER TABLE t ADD FOREIGN KEY (v) REFERENCES t",
        "CREATE OR REPLACE VIEW shown AS SELECT 1 AS one",
        "CREATE OR REPLACE VIEW shown AS SELECT 2 AS one",
        "DROP TABLE IF EXISTS absent",
    ];
    let mut session = Raw::connect(stage.port, &stage.database);
    stage.mark();
    statements.iter().for_each(|sql| done(&mut session, sql));
    assert_eq!(long(&stage), 0);
    // Of one that has children, and of one that is large, all is asked.
    done(&mut session, "ALTER TABLE parent ADD CHECK (v > 0)");
    assert!(long(&stage) > 0);
    stage.direct("CREATE TABLE large (v int); INSERT INTO large SELECT generate_series(1, 300000); ANALYZE large");
    stage.mark();
    done(&mut session, "CREATE INDEX large_v ON large (v)");
    let received = stage.received();
    assert!(
        received
            .iter()
            .any(|sql| sql.contains("CREATE INDEX CONCURRENTLY large_v")),
        "{received:#?}"
    );
}

/// Whether the short question was enough; then both answers are the same.
fn is_spotted(session: &mut Raw, sql: &str) -> bool {
    let statement = read(sql.as_bytes(), true).unwrap().remove(0);
    let whole = Request::of(&statement);
    let mut request = glance::request(&statement).unwrap_or(whole);
    request.jobs = false;
    let ahead = spot::ahead(&request).unwrap_or_else(|| panic!("{sql}: not asked"));
    let mut value = |questions: [&str; 2]| {
        done(session, "BEGIN");
        done(session, questions[0]);
        // It has time, whatever the client gives its statements.
        assert_eq!(rows(&session.query("SHOW statement_timeout")), ["1min"]);
        let answer = session.query(questions[1]);
        assert_eq!(error_field(&answer, b'M'), None, "{sql}");
        done(session, "ROLLBACK");
        rows(&answer).remove(0)
    };
    let short = value([&ahead, spot::SQL]);
    let long = value([&path::to_ours(&request.ahead(), path::CATALOG), &request.sql()]);
    if short == "NULL" {
        return false;
    }
    // They come in no order.
    let told = |mut facts: Facts| {
        facts.relations.sort_by_key(|relation| relation.oid);
        format!("{facts:#?}")
    };
    assert_eq!(
        told(spot::decode(&short, &request).unwrap()),
        told(Facts::decode(&long).unwrap()),
        "{sql}"
    );
    true
}

fn what_is_spotted_is_what_the_long_question_tells(major: u32) {
    let stage = Stage::with(major, "spotted", POLICY);
    stage.direct(
        r#"CREATE SCHEMA "o\""'é";
        CREATE TABLE "o\""'é"."t ,{}" (id int, v int);
        CREATE TABLE never (id int, v int);
        CREATE TABLE filled (id int PRIMARY KEY, v int);
        INSERT INTO filled SELECT g, g FROM generate_series(1, 1000) g;
        ANALYZE filled;
        CREATE TABLE emptied (id int, v int);
        INSERT INTO emptied VALUES (1, 1);
        TRUNCATE emptied;
        CREATE UNLOGGED TABLE unlogged (id int, v int);
        CREATE TABLE flawed (id int, v int);
        ALTER TABLE flawed ADD CHECK (v > 0) NOT VALID;
        CREATE TABLE "Ünüblich" (id int, v int);
        CREATE TABLE parent (id int, v int);
        CREATE TABLE child () INHERITS (parent);
        CREATE TABLE parted (id int, v int) PARTITION BY RANGE (id);
        CREATE TABLE part PARTITION OF parted FOR VALUES FROM (1) TO (9);
        CREATE VIEW shown AS SELECT 1 AS v;
        CREATE TABLE busy (id int, v int);
        CREATE TABLE hidden (id int, v int)"#,
    );
    let mut session = Raw::connect(stage.cluster.port(), &stage.database);
    done(&mut session, "SET application_name = 'é '' \\'");
    done(&mut session, "SET lock_timeout = '1500ms'");
    done(&mut session, "SET statement_timeout = '1h'");
    done(&mut session, "SET lockkeeper.override = ''");
    done(&mut session, "CREATE TEMPORARY TABLE hidden (id int, v int)");
    let name = "n".repeat(70);
    done(&mut session, &format!("CREATE TABLE {name} (id int, v int)"));
    let named = |table: &str| {
        [
            format!("CREATE INDEX ON {table} (v)"),
            format!("ALTER TABLE {table} ADD CHECK (v > 0)"),
            format!("ALTER TABLE {table} ALTER v SET DEFAULT 1"),
            format!("ALTER TABLE {table} ADD w int"),
            format!("DROP TABLE {table}"),
            format!("DROP TABLE IF EXISTS absent, never, {table}, public.filled, other.absent"),
            format!("ALTER TABLE {table} ADD FOREIGN KEY (v) REFERENCES filled"),
        ]
    };
    let mut other = Raw::connect(stage.cluster.port(), &stage.database);
    done(&mut other, "BEGIN");
    done(&mut other, "LOCK TABLE busy");
    let ordinary = [
        r#""o\""'é"."t ,{}""#,
        "never",
        "public.filled",
        "emptied",
        "unlogged",
        "flawed",
        "\"Ünüblich\"",
        "hidden",
        "absent",
        name.as_str(),
    ];
    for sql in ordinary.into_iter().flat_map(named) {
        assert!(is_spotted(&mut session, &sql), "{sql}");
    }
    for sql in ["parent", "child", "parted", "part", "shown", "busy"]
        .into_iter()
        .flat_map(named)
    {
        assert!(!is_spotted(&mut session, &sql), "{sql}");
    }
    for sql in [
        "SET lockkeeper.override = 'drop-table: \"x\"'",
        "SET lockkeeper.dry_run = on",
        "SET ROLE pg_monitor",
    ] {
        done(&mut session, sql);
        assert!(
            is_spotted(&mut session, "ALTER TABLE filled ALTER v SET DEFAULT 1"),
            "{sql}"
        );
    }
}

/// What it holds has no process. Sizes would be waited for until somebody ends it, where the statement gives up in time.
fn a_prepared_transaction_keeps_no_question_waiting(major: u32) {
    let server: &'static lockkeeper_cluster::Cluster =
        Box::leak(Box::new(own_cluster(major, &[("max_prepared_transactions", "2")])));
    let policy =
        "extends = \"standard\"\n[lock]\ngive_up_after_s = 1\npause_ms = 10\n[rules]\ndrop-table = \"allow\"\n";
    let stage = Stage::on(server, "two_phases", policy, &[]);
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, v int); CREATE VIEW shown AS SELECT v FROM t");
    stage.direct("BEGIN; LOCK TABLE t; PREPARE TRANSACTION 'held'");
    for sql in [
        "ALTER TABLE t ALTER v SET DEFAULT 1",
        "CREATE INDEX ON t (v)",
        "ALTER TABLE t ADD CHECK (v > 0)",
        "ALTER TABLE t ALTER v TYPE bigint",
        "DROP TABLE t CASCADE",
    ] {
        let mut session = Raw::connect(stage.port, &stage.database);
        // Should it wait all the same, it does not wait for ever.
        done(&mut session, "SET statement_timeout = '20s'");
        let answer = session.query(sql);
        let told = (error_field(&answer, b'C'), error_field(&answer, b'M'));
        assert!(matches!(told.0.as_deref(), Some("55P03")), "{sql}: {told:?}");
    }
    stage.direct("ROLLBACK PREPARED 'held'");
}

/// What waits is asked for with the guards alone, and says by its answer what is asked of the table elsewhere.
fn jobs_are_read_at_once_only_where_their_table_is_good(major: u32) {
    let stage = Stage::with(major, "good", POLICY);
    stage.direct("CREATE ROLE good_other");
    let mut session = Raw::connect(stage.cluster.port(), &stage.database);
    let sql = |text: &str| text.to_owned();
    let states = [
        (sql("SELECT"), true),
        (
            sql(
                "INSERT INTO lockkeeper.job (kind, identity, state, statement, relation) VALUES ('deferred', 'x', 'waiting', 'DROP INDEX i', 1)",
            ),
            true,
        ),
        (
            sql("COMMENT ON TABLE lockkeeper.job IS 'lockkeeper jobs, version 1'"),
            false,
        ),
        (sql("COMMENT ON TABLE lockkeeper.job IS NULL"), false),
        (sql("GRANT TRIGGER ON lockkeeper.job TO good_other"), false),
        (sql("ALTER TABLE lockkeeper.job OWNER TO good_other"), false),
        (sql("ALTER TABLE lockkeeper.job DISABLE ROW LEVEL SECURITY"), false),
        (sql("CREATE RULE r AS ON INSERT TO lockkeeper.job DO NOTHING"), false),
        (sql("CREATE POLICY other ON lockkeeper.job USING (true)"), false),
        (sql("SET row_security = off"), true),
        (sql("SET ROLE good_other"), true),
        (
            sql("REVOKE ALL ON lockkeeper.job FROM public; SET ROLE good_other"),
            false,
        ),
        (
            sql("REVOKE INSERT ON lockkeeper.job FROM public; SET ROLE good_other"),
            false,
        ),
        (
            sql("REVOKE UPDATE ON lockkeeper.job FROM public; SET ROLE good_other"),
            false,
        ),
        (
            sql("REVOKE USAGE ON SCHEMA lockkeeper FROM public; SET ROLE good_other"),
            false,
        ),
        (sql("DROP TABLE lockkeeper.job"), false),
    ];
    for statement in jobs::create_statements() {
        done(&mut session, statement);
    }
    for (state, is_good) in states {
        done(&mut session, "BEGIN");
        done(&mut session, &state);
        done(&mut session, &path::to_ours(&[], path::CATALOG));
        let table = rows(&session.query(jobs::TRUST)).pop();
        let table: Option<jobs::JobTable> = table.map(|json| serde_json::from_str(&json).unwrap());
        let is_ready =
            table.is_some_and(|table| jobs::is_current(&table.comment) && table.distrust.is_none() && table.usable);
        let [own, guard] = jobs::guards();
        let asked = [own, guard, deferred::waiting_if_good().text().to_owned()];
        let answers: Vec<_> = asked.iter().map(|sql| session.query(sql)).collect();
        let is_told = error_field(&answers[2], b'C').is_none() && rows(&answers[2]) != ["NULL"];
        assert_eq!((is_ready, is_told), (is_good, is_good), "{state}");
        done(&mut session, "ROLLBACK");
        done(&mut session, "RESET ALL");
    }
    stage.direct("DROP ROLE good_other");
}

/// What the catalog tells is the same under every setting, in whatever order it comes.
fn what_the_client_has_set_changes_no_answer(major: u32) {
    let stage = Stage::with(major, "any_setting", POLICY);
    stage.direct(
        r#"CREATE SCHEMA "o\""'é"; CREATE DOMAIN "o\""'é".few AS int CHECK (VALUE < 9) DEFAULT 1;
        CREATE TABLE "order" (id int PRIMARY KEY, "é" text COLLATE "C" NOT NULL, at timestamptz DEFAULT '2024-03-04 05:06', d date DEFAULT '2024-03-04',
          f float8 DEFAULT 0.1, i interval DEFAULT '-1 day 2 hours', m money DEFAULT 12.5, b bytea DEFAULT '\x00ff', few "o\""'é".few, a int[] DEFAULT '{1,NULL}',
          CHECK ("é" <> 'a\b' AND f < 1.5), UNIQUE ("é", at));
        INSERT INTO "order" (id, "é") SELECT g, g FROM generate_series(1, 500) g;
        CREATE TABLE line (id bigint PRIMARY KEY, order_id int REFERENCES "order" ON DELETE CASCADE, tenant text DEFAULT current_setting('app.tenant', true));
        ALTER TABLE line ENABLE ROW LEVEL SECURITY;
        CREATE POLICY tenant ON line USING (tenant = current_setting('app.tenant', true)) WITH CHECK (tenant = current_setting('App."Other"', true));
        CREATE INDEX ON line (lower(tenant)) WHERE tenant <> 'x';
        CREATE VIEW seen AS SELECT id, "é" FROM "order" WHERE at > '2024-01-01';
        CREATE MATERIALIZED VIEW kept AS SELECT * FROM seen;
        CREATE FUNCTION t() RETURNS trigger LANGUAGE plpgsql SET DateStyle = 'ISO' AS $$BEGIN RETURN NEW; END$$;
        CREATE TRIGGER t BEFORE UPDATE OF f ON "order" FOR EACH ROW WHEN (OLD.d > '2024-01-01') EXECUTE FUNCTION t();
        CREATE TABLE parted (id int, at timestamptz) PARTITION BY RANGE (at, (id + 1));
        CREATE TABLE part PARTITION OF parted FOR VALUES FROM ('2024-01-01', 1) TO ('2025-01-01', 2);
        CREATE TABLE rest PARTITION OF parted DEFAULT;
        CREATE TABLE fresh (id int, at timestamptz);
        ANALYZE"#,
    );
    let statements = [
        r#"UPDATE "order" SET f = 1 WHERE "é" < '9'"#,
        "DELETE FROM line WHERE id > 5",
        "DELETE FROM \"order\"",
        "UPDATE seen SET id = 1",
        "UPDATE parted SET id = 1",
        r#"ALTER TABLE "order" ALTER "é" TYPE varchar(90), ADD few2 "o\""'é".few, ALTER i SET NOT NULL"#,
        "ALTER TABLE line ADD FOREIGN KEY (id) REFERENCES \"order\" (id)",
        "ALTER TABLE parted ATTACH PARTITION fresh FOR VALUES FROM ('2026-01-01', 1) TO ('2027-01-01', 2)",
        r#"CREATE UNIQUE INDEX ON "order" ("é", d)"#,
        "DROP TABLE \"order\" CASCADE",
        r#"DROP DOMAIN "o\""'é".few CASCADE"#,
        "DROP TABLE parted",
        "VACUUM FULL line",
        "REFRESH MATERIALIZED VIEW kept",
    ];
    let mut session = Raw::connect(stage.cluster.port(), &stage.database);
    let mut settings = rows(&session.query(SETTINGS));
    // How values are printed, for the same session to read again.
    let printed = ["bytea_output", "\"IntervalStyle\"", "standard_conforming_strings"];
    settings.retain(|setting| !printed.iter().any(|name| setting.starts_with(name)));
    assert!(settings.iter().any(|setting| setting == "quote_all_identifiers = 'on'"));
    settings.push("extra_float_digits = -15".to_owned());
    let told = |session: &mut Raw, sql: &str| {
        let statement = read(sql.as_bytes(), true).unwrap().remove(0);
        let mut request = Request::of(&statement);
        request.jobs = false;
        let mut value = |ahead: &[(&'static str, String)], question: &str| {
            done(session, "BEGIN");
            done(session, &path::to_ours(ahead, path::CATALOG));
            let answer = session.query(question);
            assert_eq!(error_field(&answer, b'M'), None, "{sql}");
            done(session, "ROLLBACK");
            rows(&answer).remove(0)
        };
        let mut facts = Facts::decode(&value(&request.ahead(), &request.sql())).unwrap();
        // The session's own.
        facts.time_zone.clear();
        let depends = depends::Question::of(&statement)
            .map(|question| question.decode(&value(&question.ahead(), &question.sql())).unwrap());
        let text = format!("{facts:#?}\n{depends:#?}");
        let mut lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
        lines.sort();
        lines
    };
    let mut wrong = Vec::new();
    for sql in statements {
        let plain = told(&mut session, sql);
        assert!(plain.len() > 60, "{sql}: {plain:#?}");
        for setting in &settings {
            let (name, _) = setting.split_once(" = ").unwrap();
            done(&mut session, &format!("SET {setting}"));
            let other = told(&mut session, sql);
            done(&mut session, &format!("RESET {name}"));
            let new: Vec<&String> = other.iter().filter(|line| !plain.contains(line)).collect();
            if plain != other {
                wrong.push(format!("{setting}: {sql}: {new:?}"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
