//! `lockkeeper rewrite`: a table is rewritten by copy and swap under writers, is exactly what it was, and leaves nothing; what cannot follow is refused.

#[path = "rewrite/back.rs"]
mod back;
#[path = "rewrite/partition.rs"]
mod partition;
#[path = "rewrite/persistence.rs"]
mod persistence;

use lockkeeper_testkit::raw::{Raw, rows};
use lockkeeper_testkit::{Ran, Stage, cluster, on_both, run, runs, until};
use std::io::{Read, Seek, SeekFrom};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

/// So that a process makes one step, and then waits to be killed.
const ONE_STEP: &str = "600000";

fn stage(major: u32, name: &str, sql: &str) -> Stage {
    let stage = Stage::without_proxy(cluster(major), name);
    lockkeeper(&stage, "postgres", &["init"], &[]).ok();
    stage.direct(sql);
    stage
}

fn command(stage: &Stage, role: &str, before: &[&str], after: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    lockkeeper_cluster::clean_environment(&mut command);
    let dsn = format!(
        "host=127.0.0.1 port={} user={role} dbname={}",
        stage.cluster.port(),
        stage.database
    );
    command.args(before).args(["--dsn", &dsn]).args(after);
    command
}

fn lockkeeper(stage: &Stage, role: &str, before: &[&str], after: &[&str]) -> Ran {
    run(command(stage, role, before, after), "")
}

fn rewrite(stage: &Stage, arguments: &[&str]) -> Ran {
    lockkeeper(stage, "postgres", &["rewrite"], arguments)
}

fn jobs(stage: &Stage, arguments: &[&str]) -> Ran {
    lockkeeper(stage, "postgres", &["jobs"], arguments)
}

/// Ends with the test.
struct Process(Child, std::fs::File);

impl Process {
    fn start(stage: &Stage, arguments: &[&str]) -> Process {
        let mut command = command(stage, "postgres", &["rewrite"], arguments);
        let said = tempfile::tempfile().expect("a file");
        let clone = || Stdio::from(said.try_clone().expect("the same file"));
        command.stdin(Stdio::null()).stdout(clone()).stderr(clone());
        Process(command.spawn().expect("lockkeeper starts"), said)
    }

    fn said(&mut self) -> String {
        let mut text = String::new();
        self.1.seek(SeekFrom::Start(0)).expect("its beginning");
        self.1.read_to_string(&mut text).expect("what it said");
        text
    }

    /// kill -9.
    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }

    fn has_ended(&mut self) -> Option<bool> {
        self.0.try_wait().expect("its state").map(|status| status.success())
    }

    #[track_caller]
    fn ends(mut self) {
        until("the rewrite ends", || self.has_ended().is_some());
        assert_eq!(self.has_ended(), Some(true), "{}", self.said());
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Looks at a job's phase again and again, so often that a short one is seen too.
struct Look {
    session: Raw,
    question: String,
}

impl Look {
    /// `schema`: where the job keeps its state.
    fn new(stage: &Stage, schema: &str) -> Look {
        Look {
            session: Raw::connect(stage.cluster.port(), &stage.database),
            question: format!("SELECT phase FROM {schema}.state"),
        }
    }

    /// Empty: there is no such job at work.
    fn phase(&mut self) -> String {
        std::thread::sleep(Duration::from_millis(3));
        rows(&self.session.query(&self.question)).pop().unwrap_or_default()
    }

    fn has_failed(&mut self) -> bool {
        let failed = self
            .session
            .query("SELECT 1 FROM lockkeeper.job WHERE state = 'failed'");
        !rows(&failed).is_empty()
    }
}

/// Empty: there is no such job at work.
fn phase(stage: &Stage, job: i64) -> String {
    let there = stage.direct(&format!("SELECT to_regclass('lockkeeper_{job}.state') IS NOT NULL"));
    match there.trim() {
        "t" => stage
            .direct_args(&["-A", "-t"], &format!("SELECT phase FROM lockkeeper_{job}.state"))
            .stdout
            .trim()
            .to_owned(),
        _ => String::new(),
    }
}

#[track_caller]
fn leaves_nothing(stage: &Stage) {
    let left = "SELECT count(*) FROM (SELECT oid FROM pg_namespace WHERE nspname ~ '^lockkeeper_' UNION ALL SELECT oid FROM pg_trigger \
                WHERE tgname ~ '^lockkeeper_' UNION ALL SELECT oid FROM pg_proc WHERE prosrc ~ 'lockkeeper_[0-9]') x";
    assert_eq!(stage.number(left), 0);
}

/// The table t with a mirror that a trigger of the application's own keeps.
const MIRRORED: &str = "CREATE TABLE t (id int PRIMARY KEY, email text UNIQUE DEFERRABLE INITIALLY DEFERRED, n int NOT NULL, pad text);
CREATE TABLE mirror (id bigint, email text, n int, pad text); CREATE INDEX ON mirror (id);
CREATE FUNCTION keep() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
  IF TG_OP = 'TRUNCATE' THEN DELETE FROM public.mirror; RETURN NULL; END IF;
  IF TG_OP <> 'INSERT' THEN DELETE FROM public.mirror WHERE id = OLD.id; END IF;
  IF TG_OP <> 'DELETE' THEN INSERT INTO public.mirror VALUES (NEW.id, NEW.email, NEW.n, NEW.pad); END IF; RETURN NULL; END $$;
CREATE TRIGGER keep AFTER INSERT OR UPDATE OR DELETE ON t FOR EACH ROW EXECUTE FUNCTION keep();
CREATE TRIGGER keep_empty AFTER TRUNCATE ON t FOR EACH STATEMENT EXECUTE FUNCTION keep();
INSERT INTO t SELECT g, 'm' || g, g, repeat('x', 50) FROM generate_series(1, 20000) g; CREATE INDEX by_n ON t (n); ANALYZE t;";

const CHILDREN: &str = "CREATE TABLE a (t_id int REFERENCES t ON DELETE CASCADE ON UPDATE CASCADE); CREATE INDEX ON a (t_id);
CREATE TABLE b (id int PRIMARY KEY, t_id int CONSTRAINT of_t REFERENCES t (id) ON DELETE SET NULL ON UPDATE CASCADE); CREATE INDEX ON b (t_id);
INSERT INTO a SELECT g FROM generate_series(1, 5000) g; INSERT INTO b SELECT g, g FROM generate_series(1, 5000) g;";

#[track_caller]
fn is_mirrored(stage: &Stage) {
    let differ = "SELECT count(*) FROM ((TABLE only_t EXCEPT ALL TABLE mirror) UNION ALL (TABLE mirror EXCEPT ALL TABLE only_t)) x";
    let sql = format!("WITH only_t AS (SELECT id::bigint, email, n, pad FROM t) {differ}");
    assert_eq!(stage.number(&sql), 0, "t is what its mirror is");
    assert!(stage.number("SELECT count(*) FROM t") > 0);
}

/// One of what applications do, by lot.
fn write(lot: u64, with_children: bool) -> String {
    let (kind, id) = (lot % 12, (lot / 12) % 20_000 + 1);
    let fresh = 1_000_000 + lot % 1_000_000_000;
    match kind {
        0..=2 => format!("UPDATE t SET n = n + 1 WHERE id = {id}"),
        3 => format!("DELETE FROM t WHERE id = {id}"),
        4 => format!("INSERT INTO t VALUES ({fresh}, 'f{fresh}', 1, 'y') ON CONFLICT (id) DO UPDATE SET n = t.n + 1"),
        // Up and down, past the place that the copy has come to.
        5 => format!("UPDATE t SET id = {fresh} WHERE id = {id} AND NOT EXISTS (SELECT FROM t WHERE id = {fresh})"),
        6 => format!(
            "UPDATE t SET id = {id} WHERE id = (SELECT max(id) FROM t) AND NOT EXISTS (SELECT FROM t WHERE id = {id})"
        ),
        // Two rows exchange a deferrable value.
        7 => format!(
            "BEGIN; SELECT id FROM t WHERE id IN ({id}, {id} + 1) ORDER BY id FOR UPDATE; UPDATE t x SET email = y.email FROM t y \
             WHERE (x.id, y.id) IN (({id}, {id} + 1), ({id} + 1, {id})); COMMIT"
        ),
        8 => format!(
            "BEGIN; UPDATE t SET n = 0 WHERE id = {id}; SAVEPOINT s; DELETE FROM t WHERE id = {id}; ROLLBACK TO s; \
             UPDATE t SET pad = 'z' WHERE id = {id}; COMMIT"
        ),
        9 => format!(
            "BEGIN; DELETE FROM t WHERE id = {id}; INSERT INTO t VALUES ({id}, 'again' || {id}, 2, NULL); COMMIT"
        ),
        10 => format!("BEGIN; UPDATE t SET n = -1 WHERE id BETWEEN {id} AND {id} + 20; ROLLBACK"),
        _ if with_children => format!("INSERT INTO a SELECT id FROM t WHERE id = {id} FOR KEY SHARE"),
        _ if lot.is_multiple_of(97) => {
            "BEGIN; TRUNCATE t; INSERT INTO t SELECT g, 'n' || g, g, 'new' FROM generate_series(1, 3000) g; COMMIT"
                .into()
        }
        _ => format!("UPDATE t SET pad = pad || '.' WHERE id = {id}"),
    }
}

/// Four sessions that write until they are told to stop: how many statements, and what failed that an application would not know of.
struct Writers {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicU64>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

async fn writers(stage: &Stage, with_children: bool) -> Writers {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks = Vec::new();
    for number in 1..=4u64 {
        let connection = stage.connect_direct().await;
        let (stop, done) = (Arc::clone(&stop), Arc::clone(&done));
        tasks.push(tokio::spawn(async move {
            let mut lot = number * 7_919;
            let mut failed = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                lot = lot
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let sql = write(lot >> 20, with_children);
                if let Err(error) = connection.client.batch_execute(&sql).await {
                    let code = error.code().map(|code| code.code().to_owned()).unwrap_or_default();
                    // Writers that meet each other, with or without a rewrite; those of a partitioned table also where one moves a row.
                    let is_moved = format!("{error:?}").contains("moved to another partition");
                    if !["40P01", "23505"].contains(&code.as_str()) && !is_moved {
                        failed.push(format!("{sql}: {error:?}"));
                    }
                    let _ = connection.client.batch_execute("ROLLBACK").await;
                }
                done.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            failed
        }));
    }
    Writers { stop, done, tasks }
}

impl Writers {
    /// So many statements later.
    async fn more(&self, count: u64) {
        let from = self.done.load(Ordering::Relaxed);
        while self.done.load(Ordering::Relaxed) < from + count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    async fn end(self) {
        self.more(200).await;
        self.stop.store(true, Ordering::Relaxed);
        for task in self.tasks {
            assert_eq!(task.await.expect("a writer ends"), Vec::<String>::new());
        }
    }
}

fn the_rows_are_those_that_writers_left(major: u32) {
    let stage = stage(major, "rewrite_same", MIRRORED);
    let before = stage.schema();
    runs(async {
        let writers = writers(&stage, false).await;
        writers.more(100).await;
        let mut process = Process::start(&stage, &["t", "--pause-ms", "20"]);
        while process.has_ended().is_none() {
            writers.more(10).await;
        }
        process.ends();
        writers.end().await;
    });
    is_mirrored(&stage);
    leaves_nothing(&stage);
    assert_eq!(stage.schema(), before);
}

fn a_key_becomes_bigint_under_writers_and_foreign_keys(major: u32) {
    let stage = stage(major, "rewrite_bigint", &format!("{MIRRORED}{CHILDREN}"));
    runs(async {
        let writers = writers(&stage, true).await;
        writers.more(100).await;
        let mut process = Process::start(
            &stage,
            &["t", "--with", "ALTER TABLE t ALTER id TYPE bigint", "--pause-ms", "20"],
        );
        while process.has_ended().is_none() {
            writers.more(10).await;
        }
        process.ends();
        writers.end().await;
    });
    is_mirrored(&stage);
    leaves_nothing(&stage);
    let of = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND confrelid = 't'::regclass";
    assert_eq!(stage.number(of), 2);
    assert_eq!(
        stage.direct(
            "SELECT format_type(atttypid, NULL) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname = 'id'"
        ),
        "bigint"
    );
    assert_eq!(
        stage.number("SELECT count(*) FROM a WHERE NOT EXISTS (SELECT FROM t WHERE id = t_id)"),
        0
    );
    assert_eq!(
        stage.number("SELECT count(*) FROM b WHERE t_id IS NOT NULL AND NOT EXISTS (SELECT FROM t WHERE id = t_id)"),
        0
    );
}

/// Killed in whatever phase it is seen, again and again.
fn killed_anywhere_it_goes_on(major: u32) {
    let stage = stage(major, "rewrite_killed", &format!("{MIRRORED}{CHILDREN}"));
    let mut seen = Vec::new();
    runs(async {
        let writers = writers(&stage, true).await;
        writers.more(50).await;
        let mut process = Process::start(
            &stage,
            &["t", "--with", "ALTER TABLE t ALTER id TYPE bigint", "--pause-ms", "300"],
        );
        let (mut kills, mut look) = (0, Look::new(&stage, "lockkeeper_1"));
        loop {
            if let Some(well) = process.has_ended() {
                assert!(well, "killed {kills} times, in {seen:?}: {}", process.said());
                break;
            }
            let now = look.phase();
            // Once in each phase, and often while it copies or compares.
            if !now.is_empty()
                && (seen.last() != Some(&now) || (kills < 30 && ["copy", "verify"].contains(&now.as_str())))
            {
                process.kill();
                kills += 1;
                seen.push(now);
                writers.more(3).await;
                process = Process::start(&stage, &["--resume", "1", "--pause-ms", "300"]);
            } else if look.has_failed() {
                panic!("{}", jobs(&stage, &["show", "1"]).stdout);
            }
            // The session of the one that was killed ends within a moment; until then the next one is told that it is busy.
            if matches!(process.has_ended(), Some(false)) {
                process = Process::start(&stage, &["--resume", "1", "--pause-ms", "300"]);
            }
        }
        writers.end().await;
    });
    assert!(seen.len() >= 5, "{seen:?}");
    is_mirrored(&stage);
    leaves_nothing(&stage);
    assert_eq!(stage.direct("SELECT state FROM lockkeeper.job"), "done");
}

/// One step for each process, up to that phase, in which nobody runs it then.
fn up_to(stage: &Stage, job: i64, with: &str, wanted: &str) {
    let id = job.to_string();
    let mut arguments = vec!["t", "--with", with, "--pause-ms", ONE_STEP];
    let cursor = || match phase(stage, job).as_str() {
        "" => String::new(),
        _ => {
            stage
                .direct_args(&["-A", "-t"], &format!("SELECT cursor FROM lockkeeper_{job}.state"))
                .stdout
        }
    };
    loop {
        let (before, at) = (phase(stage, job), cursor());
        if before == wanted {
            return;
        }
        let mut process = Process::start(stage, &arguments);
        until("it comes further", || {
            assert!(
                process.has_ended().is_none(),
                "it ends before {wanted}, in {before:?}: {}",
                process.said()
            );
            let now = phase(stage, job);
            now == wanted || ((now != before || cursor() != at) && !["", "built", "stripped"].contains(&now.as_str()))
        });
        process.kill();
        let gone = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'lockkeeper rewrite' AND datname = current_database()";
        until("its sessions end", || stage.number(gone) == 0);
        arguments = vec!["--resume", &id, "--pause-ms", ONE_STEP];
    }
}

fn cancelled_in_any_phase_it_leaves_nothing(major: u32) {
    let stage = stage(
        major,
        "rewrite_cancelled",
        &format!("{MIRRORED}{CHILDREN} DELETE FROM t WHERE id > 4500;"),
    );
    let before = stage.schema();
    let phases = ["built", "copy", "key", "drain", "indexes", "settle", "verify", "ready"];
    for (job, wanted) in (1..).zip(phases) {
        runs(async {
            let holder = stage.connect_direct().await;
            if wanted == "built" {
                // The rehearsal is kept from its lock.
                let lock = "BEGIN; LOCK TABLE t IN ACCESS SHARE MODE";
                holder.client.batch_execute(lock).await.expect("a reader");
            }
            up_to(&stage, job, "ALTER TABLE t ALTER id TYPE bigint", wanted);
        });
        stage.direct("INSERT INTO t VALUES (900000, 'late', 1, 'w'); DELETE FROM t WHERE id = 900000");
        jobs(&stage, &["cancel", &job.to_string()]).ok();
        leaves_nothing(&stage);
        assert_eq!(stage.schema(), before, "cancelled in {wanted}");
        stage.direct("UPDATE t SET n = n + 1 WHERE id = 5");
        is_mirrored(&stage);
        let state = stage.direct(&format!("SELECT state FROM lockkeeper.job WHERE id = {job}"));
        assert_eq!(state, "cancelled");
    }
}

/// All that follows a table, on one.
const EVERYTHING: &str = r#"CREATE SCHEMA app; SET search_path = app;
CREATE TYPE mood AS ENUM ('a', 'b'); CREATE TABLE parent (id int PRIMARY KEY);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE "T x" (id int GENERATED ALWAYS AS IDENTITY (START 5 INCREMENT 3), s serial, parent_id int REFERENCES parent ON DELETE CASCADE, self int,
  m mood DEFAULT 'a', note text COLLATE "C", n numeric(10,2) NOT NULL DEFAULT 1.5 CHECK (n > 0), gone int, gen int GENERATED ALWAYS AS (id * 2) STORED,
  big text, at timestamptz DEFAULT now(), CONSTRAINT "pk of T" PRIMARY KEY (id), CONSTRAINT uq UNIQUE (s) DEFERRABLE INITIALLY DEFERRED)
  WITH (autovacuum_enabled = true, fillfactor = 80, autovacuum_vacuum_scale_factor = 0.1, toast.autovacuum_enabled = false);
ALTER TABLE "T x" DROP COLUMN gone; ALTER TABLE "T x" ADD later int DEFAULT 7;
ALTER TABLE "T x" ADD CONSTRAINT self FOREIGN KEY (self) REFERENCES "T x" (id) DEFERRABLE; COMMENT ON CONSTRAINT self ON "T x" IS 'self fk';
ALTER TABLE "T x" ALTER n SET STATISTICS 500, ALTER n SET (n_distinct = -0.5), ALTER big SET STORAGE EXTERNAL, ALTER big SET COMPRESSION pglz;
CREATE INDEX ix ON "T x" (lower(note), n DESC NULLS LAST) INCLUDE (m) WITH (fillfactor = 70) WHERE n > 1; ALTER INDEX ix ALTER COLUMN 1 SET STATISTICS 300;
CREATE INDEX br ON "T x" USING brin (at); CREATE INDEX cl ON "T x" (at); ALTER TABLE "T x" CLUSTER ON cl;
ALTER TABLE "T x" ADD CONSTRAINT ex EXCLUDE USING btree (big WITH =); ALTER TABLE "T x" REPLICA IDENTITY USING INDEX "pk of T";
COMMENT ON TABLE "T x" IS 'it''s \ a table'; COMMENT ON COLUMN "T x".n IS 'n'; COMMENT ON INDEX ix IS 'ix'; COMMENT ON CONSTRAINT "pk of T" ON "T x" IS 'pk';
COMMENT ON TYPE "T x" IS 'a row';
CREATE STATISTICS st (dependencies, mcv) ON m, n FROM "T x"; COMMENT ON STATISTICS st IS 'st'; ALTER STATISTICS st SET STATISTICS 77;
CREATE TABLE child (id int PRIMARY KEY, t_id int REFERENCES "T x" (id) ON UPDATE CASCADE);
CREATE TABLE child2 (t_id int); ALTER TABLE child2 ADD CONSTRAINT c2 FOREIGN KEY (t_id) REFERENCES "T x" (id) NOT VALID;
CREATE TRIGGER touch BEFORE INSERT OR UPDATE OF note ON "T x" FOR EACH ROW WHEN (NEW.n > 0) EXECUTE FUNCTION touch(); COMMENT ON TRIGGER touch ON "T x" IS 'tr';
CREATE TRIGGER off BEFORE UPDATE ON "T x" FOR EACH ROW EXECUTE FUNCTION touch(); ALTER TABLE "T x" DISABLE TRIGGER off;
CREATE CONSTRAINT TRIGGER ct AFTER UPDATE ON "T x" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION touch();
DO $$ BEGIN CREATE ROLE "rewrite R"; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
GRANT SELECT, UPDATE ON "T x" TO "rewrite R"; GRANT INSERT ON "T x" TO "rewrite R" WITH GRANT OPTION; GRANT SELECT (n) ON "T x" TO PUBLIC;
GRANT USAGE ON TYPE "T x" TO "rewrite R"; REVOKE USAGE ON TYPE "T x" FROM PUBLIC; GRANT USAGE ON SEQUENCE "T x_id_seq" TO "rewrite R";
CREATE POLICY p ON "T x" FOR UPDATE TO "rewrite R" USING (n > 1) WITH CHECK (n > 2); CREATE POLICY q ON "T x" AS RESTRICTIVE USING (true);
COMMENT ON POLICY p ON "T x" IS 'pol'; ALTER TABLE "T x" ENABLE ROW LEVEL SECURITY;
CREATE VIEW v WITH (security_barrier = true, check_option = local) AS SELECT id, note FROM "T x" WHERE n > 1; CREATE VIEW vv AS SELECT * FROM v;
INSERT INTO parent SELECT generate_series(1, 100);
INSERT INTO "T x" (parent_id, note, n, big) SELECT g % 100 + 1, 'n' || g, g, 'b' || g FROM generate_series(1, 1000) g;
INSERT INTO child SELECT g, 5 + 3 * g FROM generate_series(0, 100) g;"#;

fn what_hangs_on_a_table_follows_it(major: u32) {
    let stage = stage(major, "rewrite_all", EVERYTHING);
    // Debian's pg_dump refuses newer servers.
    let dump = || match major {
        15 => stage.pg_dump_schema(),
        _ => stage.schema(),
    };
    let (before, schema) = (dump(), stage.schema());
    rewrite(&stage, &["app.\"T x\""]).ok();
    assert_eq!(dump(), before);
    assert_eq!(stage.schema(), schema);
    leaves_nothing(&stage);
    // The identity goes on, the view writes to the new table, and what was not validated is not.
    stage.direct(
        "INSERT INTO app.\"T x\" (parent_id, big) VALUES (1, 'new'); UPDATE app.v SET note = 'by view' WHERE id = 8",
    );
    // Each rewrite leaves a gap, for whoever still waited for the sequence that was there before.
    assert_eq!(stage.number("SELECT max(id) FROM app.\"T x\""), 6005);
    assert_eq!(stage.direct("SELECT note FROM app.\"T x\" WHERE id = 8"), "by view");
    assert_eq!(
        stage.direct("SELECT string_agg(conname, ',') FROM pg_constraint WHERE NOT convalidated"),
        "c2"
    );
    // Apart from what is asked for.
    let with = "ALTER TABLE app.\"T x\" ALTER n TYPE numeric(12,3), ADD five int DEFAULT 5; ALTER TABLE \"T x\" ADD u uuid DEFAULT gen_random_uuid()";
    rewrite(&stage, &["app.\"T x\"", "--with", with]).ok();
    assert_eq!(
        stage.number("SELECT count(*) FROM app.\"T x\" WHERE five = 5 AND later = 7"),
        1001
    );
    assert_eq!(stage.number("SELECT count(DISTINCT u) FROM app.\"T x\""), 1001);
    leaves_nothing(&stage);
}

/// Each by a setup of its own, and words of the refusal.
const REFUSED: &[(&str, &str, &str)] = &[
    ("CREATE TABLE t (a int)", "", "no primary key"),
    (
        "CREATE TABLE t (id int PRIMARY KEY) PARTITION BY RANGE (id)",
        "",
        "no plain table",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (id int PRIMARY KEY); CREATE INDEX crash_marker ON t (id)",
        "",
        "crash_marker has the name of a table of the job's own",
    ),
    (
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE t (PRIMARY KEY (id)) INHERITS (p)",
        "",
        "inherits",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE MATERIALIZED VIEW m AS SELECT * FROM t",
        "",
        "materialized view public.m depends on",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE FUNCTION f() RETURNS SETOF t LANGUAGE sql AS 'SELECT * FROM t'",
        "",
        "function public.f() depends on type public.t",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (x t)",
        "",
        "depends on type public.t",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE VIEW v AS SELECT t FROM t",
        "",
        "depends on type public.t",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE FUNCTION f() RETURNS int BEGIN ATOMIC SELECT count(*)::int FROM t; END",
        "",
        "function public.f() depends on",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (a int); CREATE POLICY p ON u USING (EXISTS (SELECT FROM t))",
        "",
        "policy p on table public.u depends on",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE RULE r AS ON DELETE TO t DO ALSO NOTIFY x",
        "",
        "rule r",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR TABLE t",
        "",
        "publication of table public.t",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE PUBLICATION p FOR ALL TABLES",
        "",
        "publication p has all tables",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY, n int); ALTER TABLE t ADD CONSTRAINT c CHECK (n > 0) NOT VALID",
        "",
        "c is NOT VALID",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY)",
        "ALTER TABLE t ALTER id TYPE text",
        "no primary key",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY)",
        "ALTER TABLE t ALTER id TYPE bigint USING id + 1",
        "no primary key",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY, a int); CREATE VIEW v AS SELECT a FROM t",
        "ALTER TABLE t ALTER a TYPE bigint",
        "cannot change data type of view column",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY, a int REFERENCES t)",
        "ALTER TABLE t DROP a",
        "fails",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY)",
        "DROP TABLE t",
        "only ALTER TABLE",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY); CREATE TABLE u (a int); CREATE INDEX log ON t (id)",
        "",
        "log has the name of a table of the job's own",
    ),
    (
        "CREATE TABLE t (id int PRIMARY KEY)",
        "ALTER TABLE t ADD s serial",
        "would not be as before",
    ),
];

fn what_cannot_follow_is_refused(major: u32) {
    for (number, (sql, with, words)) in REFUSED.iter().enumerate() {
        let stage = stage(major, &format!("rewrite_refused_{number}"), sql);
        let before = stage.schema();
        let ran = rewrite(&stage, &["t", "--with", with]);
        assert_eq!(ran.status, 1, "{sql}; {with}: {}", ran.stdout);
        assert!(ran.stderr.contains(words), "{sql}; {with}: {}", ran.stderr);
        leaves_nothing(&stage);
        assert_eq!(stage.schema(), before);
        assert_eq!(
            stage.number("SELECT count(*) FROM lockkeeper.job WHERE state <> 'cancelled'"),
            0
        );
        // Nothing is changed by a dry run either.
        rewrite(&stage, &["t", "--with", with, "--dry-run"]);
        leaves_nothing(&stage);
    }
}

/// A job stops, its writers do not notice, and cancelled it leaves nothing.
fn rows_that_violate_end_the_job_alone(major: u32) {
    for (with, words) in [
        ("ALTER TABLE t ADD CHECK (n < 19000)", "violates check constraint"),
        ("ALTER TABLE t ADD UNIQUE (pad)", "could not create unique index"),
        (
            "ALTER TABLE t ALTER n TYPE smallint USING (n * 2)::smallint",
            "smallint out of range",
        ),
    ] {
        let stage = stage(major, "rewrite_violates", MIRRORED);
        let before = stage.schema();
        let ran = rewrite(&stage, &["t", "--with", with, "--pause-ms", "0"]);
        assert_eq!(ran.status, 1, "{with}");
        assert!(ran.stderr.contains(words), "{with}: {}", ran.stderr);
        assert_eq!(stage.direct("SELECT state FROM lockkeeper.job"), "failed");
        stage.direct(
            "UPDATE t SET n = n + 1 WHERE id = 1; DELETE FROM t WHERE id = 2; INSERT INTO t VALUES (2, 'two', 3)",
        );
        jobs(&stage, &["cancel", "1"]).ok();
        is_mirrored(&stage);
        leaves_nothing(&stage);
        assert_eq!(stage.schema(), before);
    }
}

/// Who waits for the lock in the middle of the swap goes on on the new table.
fn a_writer_that_waits_at_the_swap_goes_on(major: u32) {
    let stage = stage(
        major,
        "rewrite_waits",
        "CREATE TABLE t (id int PRIMARY KEY, n int NOT NULL); INSERT INTO t SELECT g, 0 FROM generate_series(1, 100) g;
        CREATE VIEW v AS SELECT n FROM t WHERE id = 2; CREATE TABLE gate (shut bool); INSERT INTO gate VALUES (true);
        CREATE FUNCTION at_gate() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
          WHILE (SELECT shut FROM public.gate) LOOP PERFORM pg_catalog.pg_sleep(0.01); END LOOP; END $$",
    );
    runs(async {
        let (reader, mut writer, other) = (
            stage.connect_direct().await,
            stage.connect_direct().await,
            stage.connect_direct().await,
        );
        // Its snapshot is waited for, and no lock of its.
        let snapshot = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM gate";
        reader.client.batch_execute(snapshot).await.expect("a snapshot");
        let with = "ALTER TABLE t ALTER id TYPE bigint";
        let process = Process::start(&stage, &["t", "--with", with, "--pause-ms", "0"]);
        until("all else is ready", || phase(&stage, 1) == "ready");
        stage.direct(
            "CREATE EVENT TRIGGER at_gate ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION at_gate()",
        );
        reader.client.batch_execute("COMMIT").await.expect("the reader ends");
        let in_the_swap =
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
        until("the swap is at the gate", || stage.number(in_the_swap) == 1);
        writer.notices.close();
        let statement = writer.client.batch_execute("UPDATE t SET n = 7 WHERE id = 1");
        let by_view = other.client.batch_execute("UPDATE v SET n = 8");
        let gate = async {
            let waiting = "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND query ~ '^UPDATE' AND datname = current_database()";
            while stage.number(waiting) < 2 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            stage.direct("UPDATE gate SET shut = false");
        };
        let (written, viewed, ()) = tokio::join!(statement, by_view, gate);
        written.expect("it goes on");
        viewed.expect("it goes on");
        process.ends();
    });
    assert_eq!(
        stage.direct("SELECT string_agg(n::text, ',' ORDER BY id) FROM t WHERE id IN (1, 2)"),
        "7,8"
    );
    assert_eq!(stage.direct("SELECT pg_typeof(id) FROM t LIMIT 1"), "bigint");
    leaves_nothing(&stage);
}

/// A snapshot from before is waited for: it would see none of the new table's rows.
fn an_old_snapshot_sees_all_rows(major: u32) {
    let stage = stage(major, "rewrite_snapshot", MIRRORED);
    runs(async {
        let old = stage.connect_direct().await;
        old.client
            .batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM mirror")
            .await
            .expect("a snapshot");
        let mut process = Process::start(&stage, &["t", "--pause-ms", "0"]);
        until("all else is ready", || phase(&stage, 1) == "ready");
        let tried = stage.cluster.log().len();
        until("the swap was tried", || {
            stage
                .cluster
                .log()
                .get(tried..)
                .unwrap_or_default()
                .matches("IN EXCLUSIVE MODE")
                .count()
                > 3
        });
        assert_eq!((phase(&stage, 1).as_str(), process.has_ended()), ("ready", None));
        let row = old
            .client
            .query_one("SELECT count(*) FROM t", &[])
            .await
            .expect("its rows");
        assert_eq!(row.get::<_, i64>(0), 20_000);
        old.client.batch_execute("COMMIT").await.expect("it ends");
        process.ends();
    });
    is_mirrored(&stage);
    leaves_nothing(&stage);
}

fn a_role_without_superuser_rewrites_its_table(major: u32) {
    let stage = stage(major, "rewrite_role", "DO $$ BEGIN CREATE ROLE rewriter LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        DO $$ BEGIN CREATE ROLE rewrite_app LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        CREATE SCHEMA app AUTHORIZATION rewriter; SET ROLE rewriter; CREATE TABLE app.t (id int PRIMARY KEY, n int); INSERT INTO app.t SELECT g, g FROM generate_series(1, 1000) g;
        GRANT USAGE ON SCHEMA app TO rewrite_app; GRANT SELECT, UPDATE ON app.t TO rewrite_app;");
    let as_rewriter = |arguments: &[&str]| lockkeeper(&stage, "rewriter", &["rewrite"], arguments);
    let refused = as_rewriter(&["app.t"]);
    assert!(
        refused.stderr.contains("GRANT CREATE ON DATABASE"),
        "{}",
        refused.stderr
    );
    stage.direct(&format!("GRANT CREATE ON DATABASE \"{}\" TO rewriter", stage.database));
    // A superuser does not lend himself to another role's code.
    let above = rewrite(&stage, &["app.t"]);
    assert!(above.stderr.contains("connect as rewriter"), "{}", above.stderr);
    // Row-level security that is forced on the owner would hide rows from the copy.
    stage.direct("ALTER TABLE app.t ENABLE ROW LEVEL SECURITY; ALTER TABLE app.t FORCE ROW LEVEL SECURITY; CREATE POLICY p ON app.t USING (n < 500)");
    let forced = as_rewriter(&["app.t"]);
    assert!(
        forced.stderr.contains("row-level security is forced"),
        "{}",
        forced.stderr
    );
    stage.direct("ALTER TABLE app.t NO FORCE ROW LEVEL SECURITY");
    runs(async {
        let reader = stage.connect_direct().await;
        reader
            .client
            .batch_execute("BEGIN; SELECT n FROM app.t LIMIT 1")
            .await
            .expect("a reader");
        let mut command = command(
            &stage,
            "rewriter",
            &["rewrite"],
            &[
                "app.t",
                "--with",
                "ALTER TABLE t ALTER id TYPE bigint",
                "--pause-ms",
                "0",
            ],
        );
        let mut process = Process(
            command.stdout(Stdio::null()).spawn().expect("it starts"),
            tempfile::tempfile().expect("a file"),
        );
        until("it is there", || phase(&stage, 1) == "built");
        reader.client.batch_execute("COMMIT").await.expect("the reader ends");
        // Writers of other roles have no right on the log, and need none.
        while process.has_ended().is_none() {
            let ran = stage.direct_args(&["-U", "rewrite_app"], "UPDATE app.t SET n = n + 1 WHERE id = 7");
            assert_eq!(ran.status, 0, "{}", ran.stderr);
        }
        process.ends();
    });
    assert_eq!(stage.number("SELECT count(*) FROM app.t"), 1000);
    assert_eq!(
        stage.direct("SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'app.t'::regclass"),
        "rewriter"
    );
    leaves_nothing(&stage);
}

/// Views, triggers and defaults are read anew in the session that rewrites: nobody else's code is called by that.
fn nobody_else_s_code_is_called(major: u32) {
    let others = [
        "CREATE VIEW v AS SELECT id, '(x)'::c AS c FROM app.t",
        "CREATE TRIGGER g AFTER UPDATE ON app.t FOR EACH ROW WHEN (old.id = 1 AND '(x)'::c IS NOT NULL) EXECUTE FUNCTION fires()",
        "CREATE VIEW v AS SELECT id FROM app.t",
    ];
    for (number, other) in others.iter().enumerate() {
        let stage = stage(
            major,
            &format!("rewrite_stranger_{number}"),
            &format!(
                "DO $$ BEGIN CREATE ROLE rewrite_evil LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
                 CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY); INSERT INTO app.t VALUES (1); CREATE TABLE called (who text); GRANT INSERT ON called TO PUBLIC;
                 GRANT USAGE ON SCHEMA app TO rewrite_evil; GRANT SELECT, TRIGGER ON app.t TO rewrite_evil; CREATE SCHEMA evil AUTHORIZATION rewrite_evil;
                 SET ROLE rewrite_evil; SET search_path = evil;
                 CREATE FUNCTION f(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.called VALUES (current_user); RETURN true; END $$;
                 CREATE FUNCTION fires() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NULL; END $$;
                 CREATE DOMAIN d AS text CHECK (f(value)); CREATE TYPE c AS (a d); {other};"
            ),
        );
        stage.direct("DELETE FROM called");
        for more in [&["app.t"][..], &["app.t", "--dry-run"]] {
            let ran = rewrite(&stage, more);
            assert!(
                ran.status == 1 && ran.stderr.contains("rewrite_evil"),
                "{other}: {ran:?}"
            );
        }
        assert_eq!(stage.number("SELECT count(*) FROM called"), 0, "{other}");
        leaves_nothing(&stage);
    }
}

/// Nor of what somebody hangs on the table after it was looked at.
fn nobody_else_s_code_is_called_that_comes_later(major: u32) {
    let stage = stage(
        major,
        "rewrite_later",
        "DO $$ BEGIN CREATE ROLE rewrite_evil LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
         CREATE SCHEMA app; CREATE TABLE app.t (id int PRIMARY KEY); INSERT INTO app.t VALUES (1); CREATE TABLE called (who text); GRANT INSERT ON called TO PUBLIC;
         GRANT USAGE ON SCHEMA app TO rewrite_evil; GRANT SELECT ON app.t TO rewrite_evil; CREATE SCHEMA evil AUTHORIZATION rewrite_evil;
         SET ROLE rewrite_evil; SET search_path = evil;
         CREATE FUNCTION f(text) RETURNS bool LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.called VALUES (current_user); RETURN true; END $$;
         CREATE DOMAIN d AS text CHECK (f(value)); CREATE TYPE c AS (a d);",
    );
    runs(async {
        let holder = stage.connect_direct().await;
        holder
            .client
            .batch_execute("BEGIN; CREATE SCHEMA lockkeeper_1")
            .await
            .expect("a name that is taken for now");
        let mut process = Process::start(&stage, &["app.t"]);
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lockkeeper rewrite' AND wait_event_type = 'Lock')";
        until("it has looked at the table", || stage.direct(waits) == "t");
        stage.direct("SET ROLE rewrite_evil; SET search_path = evil; CREATE VIEW v AS SELECT id, '(x)'::c AS c FROM app.t; RESET ROLE; DELETE FROM public.called");
        holder.client.batch_execute("ROLLBACK").await.expect("it is free");
        until("it has ended", || process.has_ended().is_some());
        assert_eq!(process.has_ended(), Some(false), "{}", process.said());
    });
    assert_eq!(stage.number("SELECT count(*) FROM called"), 0);
    jobs(&stage, &["cancel", "1"]);
    leaves_nothing(&stage);
}

/// Of sessions of another role a plain role sees the snapshot alone, which is waited for; and what default privileges give to others is taken
/// back from all that is the job's own.
fn another_role_s_snapshot_is_waited_for(major: u32) {
    let stage = stage(major, "rewrite_others", "DO $$ BEGIN CREATE ROLE rewriter LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        DO $$ BEGIN CREATE ROLE rewrite_app LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        CREATE SCHEMA app AUTHORIZATION rewriter; SET ROLE rewriter; GRANT USAGE ON SCHEMA app TO rewrite_app;
        ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO rewrite_app; ALTER DEFAULT PRIVILEGES GRANT USAGE ON SCHEMAS TO rewrite_app;
        CREATE TABLE app.t (id int PRIMARY KEY, n int); INSERT INTO app.t SELECT g, g FROM generate_series(1, 1000) g; CREATE TABLE app.other (i int);");
    stage.direct(&format!("GRANT CREATE ON DATABASE \"{}\" TO rewriter", stage.database));
    let dsn = format!(
        "host=127.0.0.1 port={} user=rewrite_app dbname={}",
        stage.cluster.port(),
        stage.database
    );
    runs(async {
        let (old, connection) = tokio_postgres::connect(&dsn, tokio_postgres::NoTls)
            .await
            .expect("the application");
        tokio::spawn(connection);
        old.batch_execute("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM app.other")
            .await
            .expect("a snapshot");
        let ran = lockkeeper(&stage, "rewriter", &["rewrite"], &["app.t", "--give-up-after-s", "1"]);
        assert!(
            ran.status == 1 && ran.stderr.contains("has a snapshot from before"),
            "{ran:?}"
        );
        for object in ["log", "state", "f"] {
            let told = old.query(&format!("SELECT FROM lockkeeper_1.{object}"), &[]).await;
            assert_eq!(
                told.expect_err("no right").code().map(|code| code.code()),
                Some("42501")
            );
            old.batch_execute("ROLLBACK").await.expect("it goes on");
        }
        let ran = lockkeeper(&stage, "rewriter", &["rewrite"], &["--resume", "1"]);
        assert_eq!(ran.status, 0, "{ran:?}");
        assert_eq!(
            old.query_one("SELECT count(*) FROM app.t", &[])
                .await
                .expect("its rows")
                .get::<_, i64>(0),
            1000
        );
    });
    leaves_nothing(&stage);
}

/// Where the table has another owner by then, or the role another name, a superuser can end the job.
fn a_superuser_cancels_whoever_owns_the_table(major: u32) {
    let stage = stage(major, "rewrite_owners", "DO $$ BEGIN CREATE ROLE rewriter LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        DO $$ BEGIN CREATE ROLE rewrite_next LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
        CREATE SCHEMA app AUTHORIZATION rewriter; SET ROLE rewriter; CREATE TABLE app.t (id int PRIMARY KEY, n int); INSERT INTO app.t SELECT g, g FROM generate_series(1, 20000) g;");
    stage.direct(&format!("GRANT CREATE ON DATABASE \"{}\" TO rewriter", stage.database));
    let mut command = command(&stage, "rewriter", &["rewrite"], &["app.t", "--pause-ms", ONE_STEP]);
    let mut process = Process(
        command.stdout(Stdio::null()).spawn().expect("it starts"),
        tempfile::tempfile().expect("a file"),
    );
    until("writes are logged", || phase(&stage, 1) == "copy");
    process.kill();
    stage.direct("ALTER TABLE app.t OWNER TO rewrite_next; UPDATE app.t SET n = 0 WHERE id = 1");
    jobs(&stage, &["cancel", "1"]).ok();
    leaves_nothing(&stage);
    stage.direct("UPDATE app.t SET n = n + 1");
    assert_eq!(
        stage.number("SELECT count(*) FROM lockkeeper.job WHERE state = 'cancelled'"),
        1
    );
}

/// A key that is renamed ends the job, and no write of the application.
fn a_renamed_key_fails_no_write(major: u32) {
    let table =
        "CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT g, g FROM generate_series(1, 20000) g";
    let stage = stage(major, "rewrite_renamed", table);
    let mut process = Process::start(&stage, &["t", "--pause-ms", ONE_STEP]);
    until("writes are logged", || phase(&stage, 1) == "copy");
    stage.direct("ALTER TABLE t RENAME id TO key; UPDATE t SET n = n + 1 WHERE key = 7; INSERT INTO t VALUES (0, 1); DELETE FROM t WHERE key = 9; ALTER TABLE t RENAME key TO id");
    process.kill();
    assert_eq!(stage.number("SELECT count(*) FROM lockkeeper_1.log WHERE op = 'T'"), 3);
    jobs(&stage, &["cancel", "1"]).ok();
    leaves_nothing(&stage);
}

/// Whoever locks the table while the swap is tried waits for nobody for long: the two sessions of the swap never wait for each other's waiters.
fn locks_of_others_never_stand_still(major: u32) {
    let stage = stage(major, "rewrite_locked", MIRRORED);
    runs(async {
        let stop = Arc::new(AtomicBool::new(false));
        let mut tasks = Vec::new();
        for sql in [
            "UPDATE t SET n = n + 1 WHERE id = 1",
            "UPDATE t SET n = n + 1 WHERE id = 2; SELECT pg_sleep(0.01)",
            "BEGIN; LOCK TABLE t IN ACCESS EXCLUSIVE MODE; COMMIT; SELECT pg_sleep(0.02)",
            "BEGIN; LOCK TABLE t IN SHARE MODE; COMMIT; SELECT pg_sleep(0.03)",
        ] {
            let (connection, stop) = (stage.connect_direct().await, Arc::clone(&stop));
            tasks.push(tokio::spawn(async move {
                connection
                    .client
                    .batch_execute("SET statement_timeout = '20s'")
                    .await
                    .expect("it is set");
                while !stop.load(Ordering::Relaxed) {
                    connection.client.batch_execute(sql).await.expect("nobody stands still");
                }
            }));
        }
        for _ in 0..3 {
            Process::start(&stage, &["t", "--pause-ms", "0", "--old-snapshots", "ignore"]).ends();
        }
        stop.store(true, Ordering::Relaxed);
        for task in tasks {
            task.await.expect("it went well");
        }
    });
    is_mirrored(&stage);
    leaves_nothing(&stage);
}

/// Other changes of the table are noticed, and the job can be cancelled whatever the table is called by then.
fn another_change_of_the_table_ends_the_job(major: u32) {
    for (number, change) in [
        "ALTER TABLE t ADD c int",
        "CREATE INDEX other ON t (pad)",
        "ALTER TABLE t DISABLE TRIGGER lockkeeper_1_key; ALTER TABLE t ENABLE ALWAYS TRIGGER lockkeeper_1_key",
        "GRANT SELECT ON t TO PUBLIC",
        "COMMENT ON COLUMN t.n IS 'n'",
        "CREATE VIEW v AS SELECT id FROM t",
        "CREATE TABLE c (t_id int REFERENCES t)",
        "ALTER TABLE t RENAME TO u",
    ]
    .into_iter()
    .enumerate()
    {
        let stage = stage(
            major,
            &format!("rewrite_ddl_{number}"),
            "CREATE TABLE t (id int PRIMARY KEY, n int, pad text); INSERT INTO t SELECT g, g FROM generate_series(1, 100) g",
        );
        up_to(&stage, 1, "", "ready");
        stage.direct(change);
        let ran = jobs(&stage, &["resume", "1"]);
        assert_eq!(ran.status, 1, "{change}: {}", ran.stdout);
        let words = ["has changed since the job began", "does not exist"];
        assert!(
            words.iter().any(|words| ran.stderr.contains(words)),
            "{change}: {}",
            ran.stderr
        );
        let schema = "SELECT count(*) FROM pg_namespace WHERE nspname ~ '^lockkeeper_'";
        assert_eq!(stage.number(schema), 2, "{change}");
        jobs(&stage, &["cancel", "1"]).ok();
        leaves_nothing(&stage);
    }
}

/// Paused it is not gone on with, and what is written meanwhile is there in the end, also what a replica's apply writes.
fn a_paused_job_goes_on(major: u32) {
    let stage = stage(major, "rewrite_paused", MIRRORED);
    let mut process = Process::start(&stage, &["t", "--pause-ms", ONE_STEP]);
    until("rows are copied", || {
        phase(&stage, 1) == "copy" && stage.number("SELECT rows_done FROM lockkeeper.job") > 0
    });
    jobs(&stage, &["pause", "1"]).ok();
    until("it ends", || process.has_ended().is_some());
    assert!(process.said().contains("job 1 is paused"), "{}", process.said());
    let (list, show) = (jobs(&stage, &["list"]).ok(), jobs(&stage, &["show", "1"]).ok());
    assert!(list.contains("paused") && list.contains("public.t"), "{list}");
    assert!(show.contains("phase       copy"), "{show}");
    let again = rewrite(&stage, &["t"]);
    assert!(again.stderr.contains("another rewrite"), "{}", again.stderr);
    stage.direct("UPDATE t SET n = -1 WHERE id IN (5, 19000); SET session_replication_role = replica; UPDATE t SET n = -2 WHERE id = 6");
    // The proxy's own cancel would leave the triggers.
    assert_eq!(
        stage.number("SELECT count(*) FROM pg_trigger WHERE tgname ~ '^lockkeeper'"),
        2
    );
    rewrite(&stage, &["--resume", "1", "--pause-ms", "0"]).ok();
    assert_eq!(
        stage.direct("SELECT string_agg(n::text, ',' ORDER BY id) FROM t WHERE id IN (5, 6, 19000)"),
        "-1,-2,-1"
    );
    leaves_nothing(&stage);
    let done = jobs(&stage, &["cancel", "1"]);
    assert!(done.stderr.contains("is done"), "{}", done.stderr);
}

/// GRANT takes no lock on the table before PostgreSQL 18, so that it can come between the last look and the swap.
#[test]
fn a_grant_within_the_swap_is_not_lost() {
    let stage = stage(
        15,
        "rewrite_grant",
        "CREATE TABLE t (id int PRIMARY KEY, n int); CREATE TABLE c (t_id int REFERENCES t); CREATE TABLE gate (shut bool); INSERT INTO gate VALUES (true);
        CREATE FUNCTION at_gate() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN
          WHILE (SELECT shut FROM public.gate) LOOP PERFORM pg_catalog.pg_sleep(0.01); END LOOP; END $$",
    );
    up_to(&stage, 1, "", "ready");
    stage.direct(
        "CREATE EVENT TRIGGER at_gate ON ddl_command_end WHEN TAG IN ('ALTER TABLE') EXECUTE FUNCTION at_gate()",
    );
    let mut process = Process::start(&stage, &["--resume", "1"]);
    let in_the_swap =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep' AND datname = current_database()";
    until("the swap is at the gate", || stage.number(in_the_swap) == 1);
    stage.direct("GRANT SELECT ON t TO PUBLIC; UPDATE gate SET shut = false");
    until("it ends", || process.has_ended().is_some());
    assert!(
        process.said().contains("has changed since the job began"),
        "{}",
        process.said()
    );
    jobs(&stage, &["cancel", "1"]).ok();
    leaves_nothing(&stage);
    assert_eq!(stage.direct("SELECT has_table_privilege('public', 't', 'SELECT')"), "t");
}

on_both!(
    the_rows_are_those_that_writers_left,
    a_key_becomes_bigint_under_writers_and_foreign_keys,
    killed_anywhere_it_goes_on,
    cancelled_in_any_phase_it_leaves_nothing,
    what_hangs_on_a_table_follows_it,
    what_cannot_follow_is_refused,
    rows_that_violate_end_the_job_alone,
    a_writer_that_waits_at_the_swap_goes_on,
    an_old_snapshot_sees_all_rows,
    a_role_without_superuser_rewrites_its_table,
    another_change_of_the_table_ends_the_job,
    a_paused_job_goes_on,
    nobody_else_s_code_is_called,
    nobody_else_s_code_is_called_that_comes_later,
    another_role_s_snapshot_is_waited_for,
    a_renamed_key_fails_no_write,
    locks_of_others_never_stand_still,
    a_superuser_cancels_whoever_owns_the_table,
);
