//! SET LOGGED and SET UNLOGGED by copy and swap: as the server does it, in its words where it does not, and never after a crash.

use super::*;
use lockkeeper_testkit::own_cluster;

const UNLOGGED: &str = "ALTER TABLE t SET UNLOGGED";
const LOGGED: &str = "ALTER TABLE t SET LOGGED";

fn persistence(stage: &Stage) -> String {
    stage.direct("SELECT relpersistence FROM pg_class WHERE oid = 't'::regclass")
}

/// The same statements straight at the server have the same effect on all that has a persistence.
fn all_of_a_table_changes_as_the_server_has_it(major: u32) {
    let children = "ALTER TABLE app.child SET UNLOGGED; ALTER TABLE app.child2 SET UNLOGGED;";
    let [ours, servers] = ["online", "direct"].map(|name| stage(major, &format!("persistence_{name}"), EVERYTHING));
    ours.direct(children);
    servers.direct(children);
    let all = "SELECT string_agg(format('%s %s', c.relname, c.relpersistence), ', ' ORDER BY c.relname) FROM pg_class c WHERE c.relnamespace = 'app'::regnamespace \
               AND c.relkind IN ('r', 'i', 'S')";
    let rows = "SELECT sum(hashtext(x::text)) FROM app.\"T x\" x";
    let (before, schema) = (ours.number(rows), ours.schema());
    for (kind, letter) in [("UNLOGGED", 'u'), ("LOGGED", 'p')] {
        let with = format!("ALTER TABLE app.\"T x\" SET {kind}");
        servers.direct(&with);
        rewrite(&ours, &["app.\"T x\"", "--with", &with]).ok();
        let (is, wanted) = (ours.direct(all), servers.direct(all));
        assert_eq!(is, wanted);
        assert!(is.contains(&format!("T x {letter}")), "{is}");
        if major >= 15 {
            assert!(is.contains(&format!("T x_id_seq {letter}")), "{is}");
            assert!(is.contains(&format!("T x_s_seq {letter}")), "{is}");
        }
        assert_eq!(ours.schema(), schema);
        assert_eq!(ours.number(rows), before);
        leaves_nothing(&ours);
    }
    ours.direct("INSERT INTO app.\"T x\" (parent_id, big) VALUES (1, 'new')");
    assert_eq!(ours.number("SELECT max(s) FROM app.\"T x\""), 1001);
}

/// A sequence that is of another persistence than its table, as those of tables from before PostgreSQL 15 are.
fn a_sequence_may_be_of_another_persistence(major: u32) {
    let sql = "CREATE UNLOGGED TABLE t (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, s serial); ALTER SEQUENCE t_id_seq SET LOGGED; \
               ALTER SEQUENCE t_s_seq SET LOGGED; INSERT INTO t SELECT FROM generate_series(1, 10);";
    let stage = stage(major, "persistence_sequences", sql);
    rewrite(&stage, &["t"]).ok();
    let all = "SELECT string_agg(relpersistence, '' ORDER BY relname) FROM pg_class WHERE relname IN ('t', 't_id_seq', 't_s_seq')";
    assert_eq!(stage.direct(all), "upp");
    rewrite(&stage, &["t", "--with", LOGGED]).ok();
    assert_eq!(stage.direct(all), "ppp");
    rewrite(&stage, &["t", "--with", UNLOGGED]).ok();
    assert_eq!(stage.direct(all), "uuu");
    leaves_nothing(&stage);
}

fn there_and_back_under_writers(major: u32) {
    let stage = stage(major, "persistence_writers", MIRRORED);
    runs(async {
        let writers = writers(&stage, false).await;
        for (with, letter) in [(UNLOGGED, "u"), ("", "u"), (LOGGED, "p")] {
            writers.more(50).await;
            let mut process = Process::start(&stage, &["t", "--with", with, "--pause-ms", "20"]);
            while process.has_ended().is_none() {
                writers.more(10).await;
            }
            process.ends();
            assert_eq!(persistence(&stage), letter);
        }
        writers.end().await;
    });
    is_mirrored(&stage);
    leaves_nothing(&stage);
}

/// Each by a setup, and what it is tried with.
const SERVER_REFUSES: &[(&str, &str)] = &[
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE SCHEMA s; CREATE TABLE s.t (t_id int CONSTRAINT of_t REFERENCES public.t)",
        UNLOGGED,
    ),
    (
        "CREATE UNLOGGED TABLE p (id int PRIMARY KEY); CREATE UNLOGGED TABLE t (id int PRIMARY KEY, p_id int REFERENCES p)",
        LOGGED,
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t",
        UNLOGGED,
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY)",
        "ALTER TABLE t SET UNLOGGED, SET LOGGED",
    ),
];

/// What it says, without a lock on the tables that it speaks of.
fn refused_in_the_server_s_words(major: u32) {
    for (number, (sql, with)) in SERVER_REFUSES.iter().enumerate() {
        let stage = stage(major, &format!("persistence_refused_{number}"), sql);
        let before = stage.schema();
        let direct = stage.direct_args(&[], with).stderr;
        let words = direct.lines().next().and_then(|line| line.split_once("ERROR:  "));
        let words = words.unwrap_or_else(|| panic!("{with}: {direct}")).1;
        runs(async {
            let holder = stage.connect_direct().await;
            let lock = "BEGIN; DO $$ DECLARE x text; BEGIN FOR x IN SELECT oid::regclass FROM pg_class WHERE relkind = 'r' AND relnamespace::regnamespace::text \
                        IN ('public', 's') LOOP EXECUTE format('LOCK TABLE %s IN ROW EXCLUSIVE MODE', x); END LOOP; END $$";
            holder.client.batch_execute(lock).await.expect("a writer");
            let ran = rewrite(&stage, &["t", "--with", with]);
            assert_eq!(ran.status, 1, "{sql}; {with}: {}", ran.stdout);
            assert!(ran.stderr.contains(words), "{sql}; {with}: {}\n{words}", ran.stderr);
        });
        leaves_nothing(&stage);
        assert_eq!(stage.schema(), before);
        assert_eq!(stage.number("SELECT count(*) FROM lockkeeper.job"), 0);
        assert_eq!(
            stage.number("SELECT count(*) FROM pg_publication WHERE pubname ~ 'lockkeeper'"),
            0
        );
    }
}

/// Foreign keys that the server lets be, in both directions, hold afterwards.
fn foreign_keys_that_may_be_follow(major: u32) {
    let sql = "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (id int PRIMARY KEY, p_id int REFERENCES p, up int REFERENCES t); \
               CREATE UNLOGGED TABLE c (t_id int REFERENCES t); INSERT INTO p VALUES (1); INSERT INTO t VALUES (1, 1, NULL), (2, 1, 1); INSERT INTO c VALUES (2);";
    let stage = stage(major, "persistence_linked", sql);
    for (with, letter) in [(UNLOGGED, "u"), (LOGGED, "p")] {
        rewrite(&stage, &["t", "--with", with]).ok();
        assert_eq!(persistence(&stage), letter);
        assert_eq!(
            stage.number("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"),
            3
        );
        for violates in [
            "INSERT INTO t VALUES (3, 7)",
            "DELETE FROM t WHERE id = 1",
            "INSERT INTO c VALUES (9)",
        ] {
            assert!(
                stage.direct_args(&[], violates).stderr.contains("violates foreign key"),
                "{violates}"
            );
        }
        leaves_nothing(&stage);
    }
}

/// With the owner's rights alone, also where others own what it is linked with.
fn a_role_without_superuser_may(major: u32) {
    let setup = "DO $$ BEGIN CREATE ROLE rewriter LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        CREATE SCHEMA app; GRANT ALL ON SCHEMA app TO rewriter; SET ROLE rewriter; CREATE TABLE app.t (id int PRIMARY KEY, n int);
        INSERT INTO app.t SELECT g, g FROM generate_series(1, 1000) g; RESET ROLE; CREATE SCHEMA theirs; CREATE TABLE theirs.c (t_id int REFERENCES app.t)";
    let stage = stage(major, "persistence_role", setup);
    let with = ["app.t", "--with", "ALTER TABLE app.t SET UNLOGGED"];
    let as_rewriter = || lockkeeper(&stage, "rewriter", &["rewrite"], &with).stderr;
    let told = as_rewriter();
    assert!(told.contains("GRANT CREATE ON DATABASE"), "{told}");
    stage.direct(&format!("GRANT CREATE ON DATABASE \"{}\" TO rewriter", stage.database));
    let told = as_rewriter();
    assert!(
        told.contains("to unlogged because it references logged table \"c\""),
        "{told}"
    );
    leaves_nothing(&stage);
    stage.direct("DROP TABLE theirs.c");
    assert_eq!(as_rewriter(), "");
    assert_eq!(
        stage.direct("SELECT format('%s %s', pg_get_userbyid(relowner), relpersistence) FROM pg_class WHERE oid = 'app.t'::regclass"),
        "rewriter u"
    );
    leaves_nothing(&stage);
}

fn cancelled_in_any_phase(major: u32) {
    let stage = stage(
        major,
        "persistence_cancelled",
        &format!("{MIRRORED} DELETE FROM t WHERE id > 4500;"),
    );
    let before = stage.schema();
    let phases = ["copy", "key", "indexes", "verify", "ready"];
    for (job, wanted) in (1..).zip(phases) {
        up_to(&stage, job, UNLOGGED, wanted);
        jobs(&stage, &["cancel", &job.to_string()]).ok();
        leaves_nothing(&stage);
        assert_eq!((stage.schema(), persistence(&stage)), (before.clone(), "p".into()));
        stage.direct("UPDATE t SET n = n + 1 WHERE id = 5");
        is_mirrored(&stage);
    }
}

fn killed_it_goes_on(major: u32) {
    let stage = stage(major, "persistence_killed", MIRRORED);
    for (job, (with, letter)) in (1..).zip([(UNLOGGED, "u"), (LOGGED, "p")]) {
        up_to(&stage, job, with, "verify");
        stage.direct("UPDATE t SET n = n + 1 WHERE id % 7 = 0; DELETE FROM t WHERE id % 1000 = 5");
        rewrite(&stage, &["--resume", &job.to_string()]).ok();
        assert_eq!(persistence(&stage), letter);
        is_mirrored(&stage);
        leaves_nothing(&stage);
    }
}

/// An immediate shutdown, after which the server recovers.
fn crash(stage: &Stage) {
    stage.cluster.restart().expect("it is there again");
}

/// In order, and the server is there again.
fn restart_in_order(stage: &Stage) {
    // SAFETY: kill(2) has no memory effects; the process is the postmaster of our own server, which nobody reaps before the restart.
    unsafe { libc::kill(stage.cluster.pid(), libc::SIGINT) };
    until("it is shut down", || {
        stage.cluster.log().trim_end().ends_with("database system is shut down")
    });
    stage.cluster.restart().expect("it is there again");
}

fn own_stage(major: u32, name: &str, sql: &str) -> Stage {
    let cluster: &'static _ = Box::leak(Box::new(own_cluster(major, &[("synchronous_commit", "on")])));
    let stage = Stage::without_proxy(cluster, name);
    lockkeeper(&stage, "postgres", &["init"], &[]).ok();
    stage.direct(sql);
    stage
}

/// A crash leaves a gap in the numbers.
fn next_job(stage: &Stage) -> i64 {
    stage.number("SELECT last_value + is_called::int FROM lockkeeper.job_id_seq")
}

const PHASES: [&str; 5] = ["built", "copy", "indexes", "verify", "ready"];

/// So that the job stands in that phase.
fn stand_in(stage: &Stage, job: i64, with: &str, wanted: &str) {
    runs(async {
        let reader = stage.connect_direct().await;
        if wanted == "built" {
            let lock = "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE";
            reader.client.batch_execute(lock).await.expect("a reader");
        }
        up_to(stage, job, with, wanted);
    });
}

/// The new table is emptied: the old one is whole, and nothing is left of the job.
fn a_crash_on_the_way_to_unlogged(major: u32) {
    let stage = own_stage(
        major,
        "crash_unlogged",
        &format!("{MIRRORED} DELETE FROM t WHERE id > 4500;"),
    );
    let rows = stage.number("SELECT count(*) FROM t");
    for wanted in PHASES {
        let job = next_job(&stage);
        stand_in(&stage, job, UNLOGGED, wanted);
        crash(&stage);
        let ran = rewrite(&stage, &["--resume", &job.to_string()]);
        assert_eq!(ran.status, 1, "{wanted}");
        assert!(
            ran.stderr.contains("the server has crashed since"),
            "{wanted}: {}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains("public.t is not replaced; begin anew"),
            "{wanted}: {}",
            ran.stderr
        );
        let state = stage.direct(&format!("SELECT state FROM lockkeeper.job WHERE id = {job}"));
        assert_eq!(state, "cancelled", "{wanted}");
        assert_eq!(
            (persistence(&stage), stage.number("SELECT count(*) FROM t")),
            ("p".into(), rows)
        );
        leaves_nothing(&stage);
        is_mirrored(&stage);
    }
    let job = next_job(&stage);
    stand_in(&stage, job, UNLOGGED, "verify");
    restart_in_order(&stage);
    rewrite(&stage, &["--resume", &job.to_string()]).ok();
    assert_eq!(
        (persistence(&stage), stage.number("SELECT count(*) FROM t")),
        ("u".into(), rows)
    );
}

/// The old table is emptied, and stays in its place: what the copy has is not brought back unasked.
fn a_crash_on_the_way_to_logged(major: u32) {
    let setup = "CREATE UNLOGGED TABLE t (id int PRIMARY KEY, n int); CREATE INDEX ON t (n); INSERT INTO t SELECT g, g FROM generate_series(1, 4500) g";
    let stage = own_stage(major, "crash_logged", setup);
    for wanted in PHASES {
        let job = next_job(&stage);
        stand_in(&stage, job, LOGGED, wanted);
        crash(&stage);
        let id = job.to_string();
        stage.direct("INSERT INTO t VALUES (-1, 1)");
        for _ in 0..2 {
            let ran = rewrite(&stage, &["--resume", &id]);
            assert_eq!(ran.status, 1, "{wanted}");
            let told = match wanted {
                "built" => "public.t is not replaced; begin anew",
                _ => "public.t has lost its rows, and is not replaced",
            };
            assert!(ran.stderr.contains(told), "{wanted}: {}", ran.stderr);
            if wanted == "built" {
                break;
            }
            assert!(ran.stderr.contains(&format!("cancel {id}")), "{}", ran.stderr);
            assert!(!ran.stderr.contains("as it was"), "{}", ran.stderr);
            let copied = stage.number(&format!("SELECT count(*) FROM lockkeeper_{job}.t"));
            assert!(wanted == "copy" || copied == 4500, "{wanted}: {copied}");
            assert_eq!(
                stage.number("SELECT count(*) FROM pg_trigger WHERE tgrelid = 't'::regclass"),
                0
            );
        }
        assert_eq!(
            (persistence(&stage), stage.number("SELECT count(*) FROM t")),
            ("u".into(), 1)
        );
        if wanted != "built" {
            jobs(&stage, &["cancel", &id]).ok();
        }
        leaves_nothing(&stage);
        stage.direct("TRUNCATE t; INSERT INTO t SELECT g, g FROM generate_series(1, 4500) g");
    }
    rewrite(&stage, &["t", "--with", LOGGED]).ok();
    crash(&stage);
    assert_eq!(
        (persistence(&stage), stage.number("SELECT count(*) FROM t")),
        ("p".into(), 4500)
    );
}

/// PostgreSQL 15.20 and 18.4 do not start after a crash that loses the end of a transaction which has made an unlogged file and was rolled back.
fn the_server_starts_after_whatever_was_undone(major: u32) {
    let setup = "CREATE TABLE busy (a int); CREATE UNLOGGED TABLE p (id int PRIMARY KEY); CREATE UNLOGGED TABLE t (id int PRIMARY KEY, p_id int REFERENCES p); \
                 CREATE TABLE u (id int PRIMARY KEY, s serial)";
    let stage = own_stage(major, "crash_undone", setup);
    let all: [&[&str]; 4] = [
        &["t", "--with", LOGGED],
        &["t", "--dry-run"],
        &["u", "--with", "ALTER TABLE u SET UNLOGGED", "--dry-run"],
        &["u", "--with", "ALTER TABLE u SET UNLOGGED, DROP COLUMN nope"],
    ];
    for arguments in all.repeat(2) {
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            // Others flush what comes before.
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    stage.direct_args(&[], "INSERT INTO busy VALUES (1)");
                }
            });
            let ran = rewrite(&stage, arguments);
            let crashed = stage.cluster.restart();
            stop.store(true, Ordering::Relaxed);
            assert_eq!(crashed, Ok(()), "{arguments:?}");
            assert_eq!(
                ran.status == 0,
                arguments.contains(&"--dry-run"),
                "{arguments:?}: {}",
                ran.stderr
            );
        });
        leaves_nothing(&stage);
    }
}

/// After the swap a crash empties what is to be unlogged, and the job has its end.
fn a_crash_after_the_swap(major: u32) {
    let setup = "CREATE TABLE p (id int PRIMARY KEY); INSERT INTO p VALUES (1); CREATE TABLE t (id int PRIMARY KEY, p_id int REFERENCES p); \
                 INSERT INTO t SELECT g, 1 FROM generate_series(1, 100) g;
                 CREATE FUNCTION no() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN IF current_query() ~ 'VALIDATE' THEN RAISE 'not yet'; END IF; END $$";
    let stage = own_stage(major, "crash_swapped", setup);
    for (with, letter, left) in [(UNLOGGED, "u", 0), (LOGGED, "p", 100)] {
        let job = next_job(&stage);
        stage.direct("CREATE EVENT TRIGGER no ON ddl_command_end EXECUTE FUNCTION no()");
        let ran = rewrite(&stage, &["t", "--with", with]);
        assert!(ran.stderr.contains("not yet"), "{}", ran.stderr);
        assert_eq!(phase(&stage, job), "swapped");
        stage.direct("DROP EVENT TRIGGER no");
        crash(&stage);
        rewrite(&stage, &["--resume", &job.to_string()]).ok();
        assert_eq!(
            (persistence(&stage), stage.number("SELECT count(*) FROM t")),
            (letter.into(), left)
        );
        assert_eq!(
            stage.number("SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated"),
            1
        );
        leaves_nothing(&stage);
        stage.direct("INSERT INTO t SELECT g, 1 FROM generate_series(1, 100) g ON CONFLICT DO NOTHING");
    }
}

/// It has no rows of unlogged tables.
fn a_standby_takes_the_place_of_the_server(major: u32) {
    let stage = own_stage(
        major,
        "crash_standby",
        &format!("{MIRRORED} DELETE FROM t WHERE id > 4500;"),
    );
    up_to(&stage, 1, UNLOGGED, "verify");
    let standby = stage.cluster.standby(&[]).expect("a standby");
    let primary_at = stage.direct("SELECT pg_current_wal_lsn()");
    let has_all = format!("SELECT pg_last_wal_replay_lsn() >= '{primary_at}'");
    until("the standby has it all", || {
        standby.psql("postgres", &has_all) == Ok("t".into())
    });
    standby.psql("postgres", "SELECT pg_promote()").expect("it is promoted");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    lockkeeper_cluster::clean_environment(&mut command);
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname={}",
        standby.port(),
        stage.database
    );
    command.args(["rewrite", "--dsn", &dsn, "--resume", "1"]);
    let ran = run(command, "");
    assert!(ran.stderr.contains("a standby has taken its place"), "{}", ran.stderr);
    let is = "SELECT format('%s %s %s', (SELECT count(*) FROM t), (SELECT relpersistence FROM pg_class WHERE oid = 't'::regclass), \
              (SELECT count(*) FROM pg_namespace WHERE nspname ~ '^lockkeeper_'))";
    let rows = stage.number("SELECT count(*) FROM t");
    assert_eq!(standby.psql(&stage.database, is), Ok(format!("{rows} p 0")));
}

/// Asked again under the lock of the swap.
fn an_emptied_marker_is_seen_under_the_lock(major: u32) {
    let stage = stage(major, "persistence_marker", MIRRORED);
    up_to(&stage, 1, UNLOGGED, "ready");
    runs(async {
        let reader = stage.connect_direct().await;
        let lock = "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE";
        reader.client.batch_execute(lock).await.expect("a reader");
        let mut process = Process::start(&stage, &["--resume", "1"]);
        let waits = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND NOT granted AND mode = 'AccessExclusiveLock'";
        until("the swap is tried", || stage.number(waits) == 1);
        stage.direct("DELETE FROM lockkeeper_1.crash_marker");
        reader.client.batch_execute("COMMIT").await.expect("the reader ends");
        until("it ends", || process.has_ended().is_some());
        assert!(process.said().contains("nothing was replaced"), "{}", process.said());
    });
    assert_eq!(persistence(&stage), "p");
    let ran = rewrite(&stage, &["--resume", "1"]);
    assert!(ran.stderr.contains("begin anew"), "{}", ran.stderr);
    leaves_nothing(&stage);
    is_mirrored(&stage);
}

/// With partitions the table is logged.
fn partitions_are_logged(major: u32) {
    let setup = "CREATE UNLOGGED TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 1000) g";
    let stage = stage(major, "persistence_partitions", setup);
    let by = ["t", "--partition-by", "HASH (id)", "--partitions", "2"];
    let ran = rewrite(&stage, &by);
    assert!(
        ran.stderr.contains("partitions of an unlogged table are not made"),
        "{}",
        ran.stderr
    );
    leaves_nothing(&stage);
    rewrite(&stage, &[&by[..], &["--with", LOGGED]].concat()).ok();
    assert_eq!(stage.number("SELECT count(*) FROM t"), 1000);
    assert_eq!(
        stage.number("SELECT count(*) FROM pg_class WHERE relpersistence = 'p' AND (relispartition OR oid = 't'::regclass) AND relkind IN ('r', 'p')"),
        3
    );
    leaves_nothing(&stage);
}

/// An old table that is kept has no way back, and says why.
fn an_old_table_is_kept_as_it_was(major: u32) {
    let stage = stage(major, "persistence_kept", MIRRORED);
    rewrite(&stage, &["t", "--with", UNLOGGED, "--keep-old"]).ok();
    let back = jobs(&stage, &["back", "1"]);
    assert!(
        back.stderr.contains("do not outlast a crash of the server"),
        "{}",
        back.stderr
    );
    assert_eq!(stage.number("SELECT count(*) FROM lockkeeper_1_old.t"), 20_000);
    jobs(&stage, &["finish", "1"]).ok();
    leaves_nothing(&stage);
}

on_both!(
    all_of_a_table_changes_as_the_server_has_it,
    a_sequence_may_be_of_another_persistence,
    there_and_back_under_writers,
    refused_in_the_server_s_words,
    foreign_keys_that_may_be_follow,
    a_role_without_superuser_may,
    cancelled_in_any_phase,
    killed_it_goes_on,
    a_crash_on_the_way_to_unlogged,
    a_crash_on_the_way_to_logged,
    a_crash_after_the_swap,
    the_server_starts_after_whatever_was_undone,
    a_standby_takes_the_place_of_the_server,
    an_emptied_marker_is_seen_under_the_lock,
    partitions_are_logged,
    an_old_table_is_kept_as_it_was,
);
