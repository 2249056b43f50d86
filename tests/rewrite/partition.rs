//! A table becomes partitioned under writers, with all that hangs on it; what the server does not let be partitioned is refused in its words.

use super::*;

fn a_table_is_partitioned_under_writers(major: u32) {
    let stage = stage(
        major,
        "rewrite_part",
        &format!("{MIRRORED}{CHILDREN} ALTER TABLE t DROP CONSTRAINT t_email_key;"),
    );
    runs(async {
        let writers = writers(&stage, true).await;
        writers.more(100).await;
        let arguments = [
            "t",
            "--partition-by",
            "RANGE (id)",
            "--partitions",
            "500000000",
            "--pause-ms",
            "20",
        ];
        let mut process = Process::start(&stage, &arguments);
        while process.has_ended().is_none() {
            writers.more(10).await;
        }
        process.ends();
        // Below all ranges.
        stage.direct("INSERT INTO t VALUES (-5, 'far', 1, 'x')");
        writers.end().await;
    });
    is_mirrored(&stage);
    leaves_nothing(&stage);
    assert_eq!(
        stage.direct("SELECT relkind FROM pg_class WHERE oid = 't'::regclass"),
        "p"
    );
    assert!(stage.number("SELECT count(*) FROM t_default WHERE id = -5") == 1);
    assert!(stage.number("SELECT count(*) FROM t_p0") > 0);
    let of = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND confrelid = 't'::regclass AND conparentid = 0";
    assert_eq!(stage.number(of), 2);
    let valid = "SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND indisvalid";
    assert_eq!(stage.number(valid), 2);
}

/// Killed in whatever phase it is seen, it goes on.
fn killed_it_goes_on(major: u32) {
    let stage = stage(
        major,
        "rewrite_part_killed",
        &format!("{MIRRORED} ALTER TABLE t DROP CONSTRAINT t_email_key;"),
    );
    let mut seen = Vec::new();
    runs(async {
        let writers = writers(&stage, false).await;
        let mut process = Process::start(
            &stage,
            &[
                "t",
                "--partition-by",
                "HASH (id)",
                "--partitions",
                "4",
                "--pause-ms",
                "100",
            ],
        );
        let mut look = Look::new(&stage, "lockkeeper_1");
        loop {
            if let Some(well) = process.has_ended() {
                if well {
                    break;
                }
                assert!(process.said().contains("is running"), "{seen:?}: {}", process.said());
                process = Process::start(&stage, &["--resume", "1", "--pause-ms", "100"]);
            }
            let now = look.phase();
            if !now.is_empty() && !seen.contains(&now) {
                process.kill();
                seen.push(now);
                writers.more(3).await;
                process = Process::start(&stage, &["--resume", "1", "--pause-ms", "100"]);
            }
        }
        writers.end().await;
    });
    assert!(seen.len() >= 4, "{seen:?}");
    is_mirrored(&stage);
    leaves_nothing(&stage);
    assert_eq!(
        stage.number("SELECT count(*) FROM pg_inherits WHERE inhparent = 't'::regclass"),
        4
    );
}

const EVENTS: &str = "SET timezone = 'UTC'; CREATE SCHEMA app; SET search_path = app;
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.n := coalesce(NEW.n, 0) + 1; RETURN NEW; END $$;
CREATE TABLE e (id bigint GENERATED ALWAYS AS IDENTITY (START 10) PRIMARY KEY, s serial, at timestamptz NOT NULL DEFAULT now(), n int CHECK (n > 0), note text)
  WITH (fillfactor = 70, autovacuum_enabled = true);
CREATE INDEX by_note ON e (lower(note)) WHERE n > 1; COMMENT ON INDEX by_note IS 'an index'; COMMENT ON TABLE e IS 'events'; COMMENT ON COLUMN e.n IS 'n';
ALTER TABLE e ALTER n SET STATISTICS 321; CREATE STATISTICS st ON n, note FROM e;
DO $$ BEGIN CREATE ROLE \"rewrite R\"; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
GRANT SELECT, INSERT ON e TO \"rewrite R\"; GRANT UPDATE (n) ON e TO PUBLIC; ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
CREATE TRIGGER touch BEFORE INSERT ON e FOR EACH ROW EXECUTE FUNCTION touch(); CREATE VIEW v AS SELECT id, note FROM e WHERE n > 1;
CREATE POLICY p ON e USING (n > 1); ALTER TABLE e ENABLE ROW LEVEL SECURITY;
INSERT INTO e (at, n, note) SELECT '2026-01-15'::timestamptz + g * interval '1 hour', g, 'n' || g FROM generate_series(1, 2000) g;";

const BY_MONTH: [&str; 5] = ["app.e", "--partition-by", "RANGE (at)", "--partitions", "monthly"];
const KEY: &str = "ALTER TABLE e DROP CONSTRAINT e_pkey, ADD PRIMARY KEY (id, at)";

fn all_that_hangs_on_it_follows(major: u32) {
    let stage = stage(major, "rewrite_part_all", EVENTS);
    let about = || {
        stage.direct(
            "SELECT string_agg(x, E'\\n' ORDER BY x) FROM (
             SELECT format('%s %s %s %s', attname, atttypid::regtype, attidentity, attnotnull) || coalesce(attacl::text, '') || coalesce(col_description(attrelid, attnum), '')
               || coalesce(nullif(attstattarget, -1)::text, '') FROM pg_attribute WHERE attrelid = 'app.e'::regclass AND attnum > 0
             UNION ALL SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE tgrelid = 'app.e'::regclass AND NOT tgisinternal
             UNION ALL SELECT polname || pg_get_expr(polqual, polrelid) FROM pg_policy WHERE polrelid = 'app.e'::regclass
             UNION ALL SELECT relrowsecurity::text || relacl::text || obj_description(oid) FROM pg_class WHERE oid = 'app.e'::regclass
             UNION ALL SELECT pg_get_viewdef('app.v'::regclass) UNION ALL SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxrelid = 'app.e'::regclass
             UNION ALL SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef WHERE adrelid = 'app.e'::regclass
             UNION ALL SELECT replace(pg_get_indexdef(indexrelid), 'ON ONLY', 'ON') || obj_description(indexrelid) FROM pg_index WHERE indrelid = 'app.e'::regclass AND NOT indisprimary) x(x)",
        )
    };
    let rows = || stage.direct("SELECT md5(string_agg(e::text, '|' ORDER BY id)) FROM app.e e");
    let (before, kept) = (about(), rows());
    let told = rewrite(
        &stage,
        &[&BY_MONTH[..], &["--with", KEY, "--keep-old", "--dry-run"]].concat(),
    )
    .ok();
    for words in [
        "e_p2026_01 FOR VALUES FROM",
        "e_default DEFAULT",
        "There is no way back: the new table is partitioned",
    ] {
        assert!(told.contains(words), "{words}: {told}");
    }
    assert_eq!(stage.number("SELECT count(*) FROM lockkeeper.job"), 0);
    rewrite(&stage, &[&BY_MONTH[..], &["--with", KEY]].concat()).ok();
    leaves_nothing(&stage);
    assert_eq!((about(), rows()), (before, kept));
    assert_eq!(stage.number("SELECT count(*) FROM app.e_p2026_02"), 28 * 24);
    let options = "SELECT DISTINCT c.reloptions::text || coalesce(c.relacl::text, '') FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'app.e'::regclass";
    assert_eq!(
        stage.direct(options),
        "{fillfactor=70,autovacuum_enabled=true}{postgres=arwdDxt/postgres}"
            .replace("arwdDxt", if major > 16 { "arwdDxtm" } else { "arwdDxt" })
    );
    // Today has its partition, and so have the months behind it; the identity goes on.
    stage.direct(
        "INSERT INTO app.e (note) VALUES ('today'); INSERT INTO app.e (at, note) VALUES ('1999-01-01', 'past')",
    );
    assert_eq!(stage.number("SELECT count(*) FROM app.e_default"), 1);
    assert_eq!(
        stage.number("SELECT count(*) FROM app.e WHERE id <= 2009 AND note IN ('today', 'past')"),
        0
    );
}

fn what_cannot_be_partitioned_is_refused(major: u32) {
    for (number, (sql, with, words)) in [
        ("", "", "must include all partitioning columns"),
        (
            "CREATE TABLE app.c (e_id bigint REFERENCES app.e)",
            KEY,
            "the foreign key c_e_id_fkey: there is no unique constraint",
        ),
        (
            "ALTER TABLE app.e ADD UNIQUE (s); CREATE TABLE app.c (e_s int REFERENCES app.e (s))",
            KEY,
            "must include all partitioning columns",
        ),
        ("CREATE VIEW app.o AS SELECT id FROM ONLY app.e", KEY, "reads FROM ONLY"),
        (
            "",
            "ALTER TABLE e DROP CONSTRAINT e_pkey, ADD PRIMARY KEY (at, id)",
            "no primary key",
        ),
    ]
    .into_iter()
    .enumerate()
    {
        let stage = stage(major, &format!("rewrite_part_no_{number}"), &format!("{EVENTS}{sql}"));
        let before = stage.schema();
        for more in [&["--dry-run"][..], &[]] {
            let ran = rewrite(&stage, &[&BY_MONTH[..], &["--with", with], more].concat());
            assert!(ran.status == 1 && ran.stderr.contains(words), "{sql} {with}: {ran:?}");
        }
        leaves_nothing(&stage);
        assert_eq!(stage.schema(), before);
    }
    let ran = rewrite(
        &stage(major, "rewrite_part_words", EVENTS),
        &["app.e", "--partition-by", "LIST (n)", "--partitions", "monthly"],
    );
    assert!(
        ran.status == 1 && ran.stderr.contains("write RANGE (column) or HASH"),
        "{ran:?}"
    );
}

/// A foreign key of a partitioned table can be NOT VALID, and so be added within the swap, since PostgreSQL 18.
fn a_foreign_key_of_its_own_follows_where_the_server_lets_it(major: u32) {
    let stage = stage(
        major,
        "rewrite_part_fk",
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p_id int CONSTRAINT of_p REFERENCES p ON DELETE CASCADE, of_t int REFERENCES t);
         INSERT INTO p VALUES (1), (2); INSERT INTO t SELECT g, 1 + g % 2 FROM generate_series(1, 100) g",
    );
    let ran = rewrite(&stage, &["t", "--partition-by", "HASH (id)", "--partitions", "3"]);
    leaves_nothing(&stage);
    if major < 18 {
        assert!(ran.status == 1 && ran.stderr.contains("the foreign key"), "{ran:?}");
        assert_eq!(
            stage.direct("SELECT relkind FROM pg_class WHERE oid = 't'::regclass"),
            "r"
        );
        return;
    }
    ran.ok();
    stage.direct("DELETE FROM p WHERE id = 1");
    assert_eq!(stage.number("SELECT count(*) FROM t"), 50);
    let valid = "SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'f' AND conparentid = 0 AND convalidated";
    assert_eq!(stage.number(valid), 2);
}

on_both!(
    a_table_is_partitioned_under_writers,
    killed_it_goes_on,
    all_that_hangs_on_it_follows,
    what_cannot_be_partitioned_is_refused,
    a_foreign_key_of_its_own_follows_where_the_server_lets_it,
);
