//! `lockkeeper rewrite`: a table is rewritten by copy and swap under writers, is exactly what it was, and leaves nothing; what cannot follow is refused.

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
        _ if lot % 97 == 0 => {
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
                    // Writers that meet each other, with or without a rewrite.
                    if !["40P01", "23505"].contains(&code.as_str()) {
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
            &["t", "--with", "ALTER TABLE t ALTER id TYPE bigint", "--pause-ms", "10"],
        );
        let mut kills = 0;
        loop {
            writers.more(3).await;
            if let Some(well) = process.has_ended() {
                assert!(well, "killed {kills} times, in {seen:?}: {}", process.said());
                break;
            }
            let now = phase(&stage, 1);
            // Once in each phase, and often while it copies or compares.
            if !now.is_empty()
                && (seen.last() != Some(&now) || (kills < 30 && ["copy", "verify"].contains(&now.as_str())))
            {
                process.kill();
                kills += 1;
                seen.push(now);
                process = Process::start(&stage, &["--resume", "1", "--pause-ms", "10"]);
            } else if stage.number("SELECT count(*) FROM lockkeeper.job WHERE state = 'failed'") > 0 {
                panic!("{}", jobs(&stage, &["show", "1"]).stdout);
            }
            // The session of the one that was killed ends within a moment; until then the next one is told that it is busy.
            if matches!(process.has_ended(), Some(false)) {
                process = Process::start(&stage, &["--resume", "1", "--pause-ms", "10"]);
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

on_both!(
    the_rows_are_those_that_writers_left,
    a_key_becomes_bigint_under_writers_and_foreign_keys,
    killed_anywhere_it_goes_on,
    cancelled_in_any_phase_it_leaves_nothing,
);
