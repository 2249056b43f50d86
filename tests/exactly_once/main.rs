//! Random statements over random keys, with a disaster at a random message between proxy and server, or other sessions in
//! the way: sent again until it is done, every row is changed exactly once, as in a copy that nobody disturbed.
//!
//! Environment: EXACTLY_ONCE_RUNS (default 520), EXACTLY_ONCE_SEED (default: the time; printed, so that a failure can be played
//! again with EXACTLY_ONCE_WORKERS=1).

mod cases;

use cases::{KEYS, KeyKind, SHAPES, Shape};
use lockkeeper_cluster::Cluster;
use lockkeeper_testkit::relay::{Harm, Relay};
use lockkeeper_testkit::{Stage, own_cluster};
use std::cell::Cell;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

const SETTINGS: &[(&str, &str)] = &[
    ("deadlock_timeout", "20ms"),
    ("max_connections", "60"),
    ("autovacuum", "off"),
    ("shared_buffers", "64MB"),
];
/// A run that takes longer has hung.
const PATIENCE: Duration = Duration::from_secs(20);

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // xorshift64*
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 16
    }

    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn one<'a, T>(&mut self, of: &'a [T]) -> &'a T {
        &of[self.below(of.len() as u64) as usize]
    }
}

/// What goes wrong in a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Fault {
    Nothing,
    KillProxy,
    Cut,
    Terminate,
    CancelBackend,
    KillBackend,
    /// The client asks to cancel, or goes away.
    ClientCancels,
    ClientLeaves,
    /// `jobs pause`, as the command does it.
    Paused,
    /// A second session sends the same statement meanwhile, through another proxy.
    Twice,
    /// Another session holds a row until somebody has waited in vain for it.
    HeldRow,
    Deadlock,
}

const FAULTS: &[Fault] = &[
    Fault::Nothing,
    Fault::KillProxy,
    Fault::KillProxy,
    Fault::Cut,
    Fault::Cut,
    Fault::Terminate,
    Fault::CancelBackend,
    Fault::ClientCancels,
    Fault::ClientLeaves,
    Fault::Paused,
    Fault::Twice,
    Fault::HeldRow,
    Fault::Deadlock,
];

const ISOLATION: &[&str] = &["read committed", "read committed", "repeatable read", "serializable"];

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime")
}

async fn connect(port: u16, database: &str, name: &str) -> Result<Client, tokio_postgres::Error> {
    let text = format!("host=127.0.0.1 port={port} user=postgres dbname={database} application_name={name}");
    let (client, connection) = tokio_postgres::connect(&text, NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

/// One database with a proxy in front of it, reached over the relay.
struct Field {
    stage: Stage,
    relay: Relay,
    admin: Client,
    /// The most messages that a run without a fault took, by the number of its rows.
    messages: BTreeMap<u64, u64>,
}

/// What is drawn for a run.
struct Run {
    key: &'static KeyKind,
    shape: &'static Shape,
    fault: Fault,
    rows: u64,
    extended: bool,
    returning: bool,
    writers: bool,
    isolation: &'static str,
    /// In thousandths of the messages of such a run.
    at: u64,
    looks_first: bool,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:?} at {}/1000, {} rows, key ({}), {}{}{}{} [{}]",
            self.fault,
            self.at,
            self.rows,
            self.key.columns,
            self.shape.sql,
            if self.extended { ", extended" } else { "" },
            if self.returning { ", returning" } else { "" },
            if self.writers { ", writers" } else { "" },
            self.isolation,
        )
    }
}

impl Run {
    fn draw(random: &mut Random, fault: Option<Fault>) -> Run {
        let shape = random.one(SHAPES);
        let keys: Vec<&'static KeyKind> = KEYS.iter().filter(|key| shape.repeatable || key.monotonic).collect();
        let key = random.one(&keys);
        // ONLY a partitioned table is no table with rows.
        let key = if shape.sql.contains("ONLY") && !key.suffix.is_empty() {
            &KEYS[0]
        } else {
            key
        };
        Run {
            key,
            shape,
            fault: fault.unwrap_or(*random.one(FAULTS)),
            rows: 20 * (2 + random.below(5)),
            extended: random.chance(50),
            returning: random.chance(25),
            writers: random.chance(30),
            isolation: ISOLATION[random.below(ISOLATION.len() as u64) as usize],
            at: random.below(1050),
            looks_first: random.chance(50),
        }
    }

    fn sql(&self, parameter: &str) -> String {
        let returning = match self.returning {
            true => format!(
                " RETURNING {}",
                self.key
                    .names
                    .split(", ")
                    .map(|k| format!("t.{k}::text"))
                    .collect::<Vec<_>>()
                    .join(" || ',' || ")
            ),
            false => String::new(),
        };
        let alias = if self.shape.sql.contains(" AS x ") {
            returning.replace("t.", "x.")
        } else if self.shape.sql.contains(" w ") {
            returning.replace("t.", "w.")
        } else {
            returning
        };
        format!("{}{alias}", self.shape.sql.replace("{p}", parameter))
    }
}

/// How one sending of the statement ended.
enum Ended {
    Done {
        rows: Vec<String>,
        count: Option<u64>,
    },
    /// To be sent again.
    Broken,
    /// An earlier sending had done it all.
    WasDone,
}

const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[lock]\ntimeout_ms = 8\npause_ms = 1\n[backfill]\nrows_max = 1\n\
                      batch_rows = 20\nbatch_target_ms = 0\npause_ms = 0\nlock_waits_max = 1000\nwal_max_percent = 0\n";

impl Field {
    async fn new(cluster: &'static Cluster, n: usize) -> Field {
        let mut stage = Stage::without_proxy(cluster, &format!("field{n}"));
        std::fs::write(stage.policy_file(), POLICY).expect("the policy is written");
        let relay = Relay::start(cluster.port());
        stage.start_proxy_at(relay.port);
        let admin = connect(cluster.port(), &stage.database, "admin")
            .await
            .expect("the server");
        admin
            .batch_execute(
                "CREATE SCHEMA plain; SET client_min_messages = warning;
                 CREATE FUNCTION public.counted() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                   IF current_setting('application_name') = 'client' THEN
                     IF TG_OP = 'DELETE' THEN INSERT INTO public.gone VALUES (OLD.i); RETURN OLD; END IF;
                     NEW.c := OLD.c + 1;
                   END IF;
                   RETURN CASE WHEN TG_OP = 'DELETE' THEN OLD ELSE NEW END;
                 END $$;
                 CREATE TABLE public.gone (i integer);
                 CREATE TYPE public.mood AS ENUM ('zz', 'it''s', 'aa');
                 CREATE DOMAIN public.positive AS integer CHECK (VALUE > 0);",
            )
            .await
            .expect("the database is prepared");
        Field {
            stage,
            relay,
            admin,
            messages: BTreeMap::new(),
        }
    }

    /// `public.t` for the proxy and `plain.t` for the comparison, with the same rows.
    async fn prepare(&self, run: &Run) {
        let KeyKind {
            columns,
            primary,
            names,
            values,
            suffix,
            partitions,
            ..
        } = run.key;
        let primary = if primary.is_empty() {
            String::new()
        } else {
            format!(", PRIMARY KEY ({primary})")
        };
        let mut sql =
            String::from("DROP TABLE IF EXISTS plain.t, plain.u, public.t, public.u CASCADE; TRUNCATE public.gone;");
        for schema in ["plain", "public"] {
            sql.push_str(&format!(
                "CREATE TABLE {schema}.t (i integer, {columns}, grp integer, n bigint NOT NULL DEFAULT 0, s text DEFAULT '', flag boolean,
                   m integer NOT NULL DEFAULT 0, c integer NOT NULL DEFAULT 0,
                   born timestamptz DEFAULT clock_timestamp(){primary}) {suffix};"
            ));
            for (n, partition) in partitions.iter().enumerate() {
                sql.push_str(&format!(
                    "CREATE TABLE {schema}.t_{n} PARTITION OF {schema}.t {partition};"
                ));
            }
            sql.push_str(&format!(
                "INSERT INTO {schema}.t (i, {names}, grp, n) SELECT i, {values}, i % 10, i FROM generate_series(1, {}) i;
                 CREATE TABLE {schema}.u AS SELECT g AS grp, g % 5 AS v FROM generate_series(0, 9) g;
                 CREATE VIEW {schema}.w AS SELECT * FROM {schema}.t WHERE grp < 8;",
                run.rows
            ));
        }
        sql.push_str(
            "CREATE TRIGGER counted BEFORE UPDATE OR DELETE ON public.t FOR EACH ROW EXECUTE FUNCTION public.counted();
             ANALYZE public.t; ANALYZE public.u;",
        );
        self.admin.batch_execute(&sql).await.expect("the tables");
        let plain = format!("SET search_path = plain; {}; RESET search_path", run.sql("2"));
        self.admin.batch_execute(&plain).await.expect("the copy is changed");
    }

    async fn send(&self, run: &Run, client: &Client) -> Ended {
        let sent = match run.extended {
            false => client.simple_query(&run.sql("2")).await.map(|messages| {
                let mut rows = Vec::new();
                let mut count = None;
                for message in messages {
                    match message {
                        tokio_postgres::SimpleQueryMessage::Row(row) => {
                            rows.push(row.get(0).unwrap_or_default().to_owned())
                        }
                        tokio_postgres::SimpleQueryMessage::CommandComplete(n) => count = Some(n),
                        _ => {}
                    }
                }
                (rows, count)
            }),
            true => {
                let with_parameter = run.shape.sql.contains("{p}");
                let parameters: &[&(dyn tokio_postgres::types::ToSql + Sync)] =
                    if with_parameter { &[&2i32] } else { &[] };
                let sql = run.sql("$1::int");
                match run.returning {
                    true => client
                        .query(&sql, parameters)
                        .await
                        .map(|rows| (rows.iter().map(|row| row.get::<_, String>(0)).collect(), None)),
                    false => client.execute(&sql, parameters).await.map(|n| (Vec::new(), Some(n))),
                }
            }
        };
        match sent {
            Ok((rows, count)) => Ended::Done { rows, count },
            Err(error) => match error.as_db_error() {
                Some(report) if report.message().contains("this very statement was done") => Ended::WasDone,
                Some(report)
                    if [
                        "57014", "57P01", "57P02", "55P03", "40001", "40P01", "08006", "08001", "57P03",
                    ]
                    .contains(&report.code().code()) =>
                {
                    Ended::Broken
                }
                Some(report) => panic!("{run}: {report:?}"),
                None => Ended::Broken,
            },
        }
    }

    async fn number(&self, sql: &str) -> i64 {
        self.admin
            .query_one(sql, &[])
            .await
            .unwrap_or_else(|e| panic!("{sql}: {e:?}"))
            .get::<_, i64>(0)
    }

    async fn jobs_done(&self, since: i64) -> bool {
        if self.number("SELECT count(*) FROM pg_class WHERE relname = 'job'").await == 0 {
            return false;
        }
        self.number(&format!(
            "SELECT count(*) FROM lockkeeper.job WHERE id > {since} AND state = 'done'"
        ))
        .await
            > 0
    }

    async fn last_job(&self) -> i64 {
        match self.number("SELECT count(*) FROM pg_class WHERE relname = 'job'").await {
            0 => 0,
            _ => self.number("SELECT coalesce(max(id), 0) FROM lockkeeper.job").await,
        }
    }

    async fn ensure_proxy(&mut self) {
        if !self.stage.has_proxy() || !self.stage.proxy().is_alive() {
            self.stage.kill_proxy();
            self.stage.start_proxy_at(self.relay.port);
        }
    }

    /// Sends the statement until it is done. True: the fault came to pass.
    async fn play(&mut self, run: &Run) -> bool {
        self.prepare(run).await;
        self.ensure_proxy().await;
        let before = self.last_job().await;
        let expected = *self.messages.get(&run.rows).unwrap_or(&200);
        let at = 1 + expected * run.at / 1000;
        let harm = match run.fault {
            Fault::KillProxy => Some(Harm::KillProxy(self.stage.proxy().pid())),
            Fault::Cut => Some(Harm::Cut),
            Fault::Terminate => Some(Harm::Terminate),
            Fault::CancelBackend => Some(Harm::Cancel),
            Fault::KillBackend => Some(Harm::KillBackend),
            _ => None,
        };
        let stop = Arc::new(AtomicBool::new(false));
        let others = self.others(run, &stop).await;
        let mut client = Some(
            connect(self.stage.port, &self.stage.database, "client")
                .await
                .expect("the proxy"),
        );
        let isolation = format!("SET default_transaction_isolation = '{}'", run.isolation);
        let set_up = client.as_ref().expect("it is connected").batch_execute(&isolation);
        set_up.await.expect("the isolation level");
        self.relay.arm(harm.map(|harm| (at, harm)));
        let mut delivered = Vec::new();
        let mut told = None;
        let mut heard = false;
        let mut tries = 0;
        let mut happened = false;
        let started = Instant::now();
        loop {
            tries += 1;
            assert!(started.elapsed() < PATIENCE, "{run}: never done, {tries} tries");
            let Ok(ended) = tokio::time::timeout(PATIENCE, self.one_try(run, &mut client, tries == 1)).await else {
                panic!(
                    "{run}: try {tries} hangs; {}; {}",
                    self.jobs().await,
                    self.sessions().await
                );
            };
            if tries == 1 {
                let (counted, done) = self.relay.disarm();
                happened = done;
                if run.fault == Fault::Nothing && !run.writers {
                    let most = self.messages.entry(run.rows).or_default();
                    *most = counted.max(*most);
                }
            }
            match ended {
                Ended::Done { rows, count } => {
                    delivered.extend(rows);
                    told = count;
                    heard = true;
                    break;
                }
                Ended::WasDone => break,
                Ended::Broken => happened = true,
            }
            // A careful client looks before it sends again; one that was told nothing may also simply ask.
            let looks =
                run.looks_first || run.shape.repeatable || matches!(run.fault, Fault::ClientLeaves | Fault::Twice);
            drop(client.take());
            if looks {
                self.until_nobody_runs().await;
                if self.jobs_done(before).await {
                    break;
                }
            }
            self.ensure_proxy().await;
            let again = self.connect_again().await;
            again.batch_execute(&isolation).await.expect("the isolation level");
            client = Some(again);
        }
        stop.store(true, Ordering::Relaxed);
        for other in others {
            other.await.expect("another session");
        }
        self.check(run, told, delivered, heard && tries == 1).await;
        happened
            || matches!(
                run.fault,
                Fault::Nothing | Fault::HeldRow | Fault::Deadlock | Fault::Twice
            )
    }

    /// Also while the server starts anew.
    async fn connect_again(&mut self) -> Client {
        let started = Instant::now();
        loop {
            // A process that is killed dies a little later.
            self.ensure_proxy().await;
            match connect(self.stage.port, &self.stage.database, "client").await {
                Ok(client) => return client,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The proxy may still be at work for a client that is gone.
    async fn until_nobody_runs(&self) {
        let started = Instant::now();
        let running = "SELECT count(*) FROM pg_stat_activity a WHERE application_name = 'client' AND datname = current_database()
                       AND (state <> 'idle' OR EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.locktype = 'advisory'))";
        while self.number(running).await > 0 {
            assert!(started.elapsed() < PATIENCE, "a session of the client's never ended");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    async fn one_try(&self, run: &Run, slot: &mut Option<Client>, first: bool) -> Ended {
        let client = slot.as_ref().expect("it is connected");
        if !first {
            return self.send(run, client).await;
        }
        let ended = Cell::new(false);
        let send = async {
            let sent = self.send(run, client).await;
            ended.set(true);
            sent
        };
        // A moment within the run, as the job's own row tells it; never, if it is over before.
        let batches = (run.rows / 20 * run.at / 1000) as i64;
        let reached = async {
            let query = format!(
                "SELECT count(*) FROM lockkeeper.job WHERE state = 'running' AND batches >= {batches} AND relation_name LIKE 'public._'"
            );
            while !ended.get() {
                match self.admin.query_one(&query, &[]).await {
                    Ok(row) if row.get::<_, i64>(0) > 0 => break,
                    _ => tokio::task::yield_now().await,
                }
            }
        };
        match run.fault {
            Fault::ClientCancels => {
                let token = client.cancel_token();
                let cancel = async {
                    reached.await;
                    let _ = token.cancel_query(NoTls).await;
                };
                tokio::join!(send, cancel).0
            }
            Fault::ClientLeaves => {
                let ended = tokio::select! {
                    biased;
                    sent = send => Some(sent),
                    () = reached => None,
                };
                ended.unwrap_or_else(|| {
                    drop(slot.take());
                    Ended::Broken
                })
            }
            Fault::Paused => {
                let pause = async {
                    reached.await;
                    let pause = "UPDATE lockkeeper.job SET state = 'paused' WHERE state = 'running' AND relation_name LIKE 'public._'";
                    let _ = self.admin.batch_execute(pause).await;
                };
                tokio::join!(send, pause).0
            }
            Fault::Twice if run.shape.repeatable => {
                let second = connect(self.stage.port, &self.stage.database, "client")
                    .await
                    .expect("the proxy");
                tokio::join!(send, self.send(run, &second)).0
            }
            _ => send.await,
        }
    }

    /// Writers, and whoever stands in the way.
    async fn others(&self, run: &Run, stop: &Arc<AtomicBool>) -> Vec<tokio::task::JoinHandle<()>> {
        let mut others = Vec::new();
        let (port, database) = (self.stage.cluster.port(), self.stage.database.clone());
        let rows = run.rows;
        if run.writers {
            let client = connect(port, &database, "writer").await.expect("the server");
            let stop = stop.clone();
            let (names, values, moves) = (run.key.names, run.key.values, run.key.moves);
            let inserts = run.key.monotonic && !run.key.columns.contains("integer");
            others.push(tokio::spawn(async move {
                let mut random = Random(rows ^ 0x9e37_79b9);
                let mut next = rows + 400;
                while !stop.load(Ordering::Relaxed) {
                    let i = 1 + random.below(rows);
                    let sql = format!("UPDATE public.t SET m = m + 1 WHERE i = {i}");
                    let _ = client.batch_execute(&sql).await;
                    if !moves.is_empty() {
                        let sql = format!("UPDATE public.t SET {moves} WHERE i = {}", 1 + random.below(rows));
                        let _ = client.batch_execute(&sql).await;
                    }
                    if inserts && random.chance(20) {
                        next += 3;
                        let sql = format!(
                            "INSERT INTO public.t (i, {names}, grp, n) SELECT i + 100000, {values}, i % 10, -7 FROM (SELECT {next} AS i) x"
                        );
                        let _ = client.batch_execute(&sql).await;
                    }
                    tokio::time::sleep(Duration::from_micros(500)).await;
                }
            }));
        }
        if matches!(run.fault, Fault::HeldRow | Fault::Deadlock) {
            let client = connect(port, &database, "holder").await.expect("the server");
            let deadlock = run.fault == Fault::Deadlock;
            let stop = stop.clone();
            let last = 1 + rows / 2;
            let _ = client.batch_execute("SET deadlock_timeout = '1min'").await;
            let begin = format!("BEGIN; UPDATE public.t SET m = m + 1 WHERE i = {last}");
            client.batch_execute(&begin).await.expect("a row is held");
            others.push(tokio::spawn(async move {
                let waits = "SELECT count(*) > 0 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT l.granted \
                             AND a.application_name = 'client' AND a.datname = current_database()";
                let mut seen = 0;
                while !stop.load(Ordering::Relaxed) && seen < 3 {
                    // Within a transaction the view would not change.
                    let _ = client.batch_execute("SELECT pg_stat_clear_snapshot()").await;
                    let waiting = client.query_one(waits, &[]).await.is_ok_and(|row| row.get(0));
                    if waiting && deadlock {
                        // The batch holds rows before this one, and waits for it.
                        let _ = client
                            .batch_execute(&format!("UPDATE public.t SET m = m + 1 WHERE i BETWEEN {} AND {last}", last - 3))
                            .await;
                        break;
                    }
                    seen += i32::from(waiting);
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let _ = client.batch_execute("COMMIT").await;
            }));
        }
        others
    }

    async fn check(&self, run: &Run, told: Option<u64>, delivered: Vec<String>, at_once: bool) {
        let columns = "i, grp, n, s, flag";
        let differ = format!(
            "SELECT count(*) FROM ((SELECT {columns} FROM public.t WHERE i < 100000 EXCEPT ALL SELECT {columns} FROM plain.t)
             UNION ALL (SELECT {columns} FROM plain.t EXCEPT ALL SELECT {columns} FROM public.t WHERE i < 100000)) d"
        );
        let differ = self.number(&differ).await;
        let times = if run.fault == Fault::Twice { 2 } else { 1 };
        let twice = self
            .number(&format!("SELECT count(*) FROM public.t WHERE c > {times}"))
            .await;
        assert_eq!(
            (differ, twice),
            (0, 0),
            "{run}: {differ} rows differ from the copy, {twice} were changed twice; jobs: {}",
            self.jobs().await
        );
        // Rows that were inserted behind the last key meanwhile were let alone.
        let new = "SELECT count(*) FROM public.t WHERE i >= 100000 AND c > 0
                   AND born > (SELECT created_at FROM lockkeeper.job ORDER BY id DESC LIMIT 1)";
        let new = self.number(new).await;
        assert_eq!(new, 0, "{run}: rows that were inserted meanwhile were changed");
        let changed = self
            .number("SELECT (SELECT count(*) FROM public.t WHERE c = 1) + (SELECT count(*) FROM public.gone)")
            .await;
        if let Some(told) = told
            && !(run.fault == Fault::Twice && run.shape.repeatable)
        {
            assert_eq!(
                told as i64,
                changed,
                "{run}: the count that the client heard; jobs: {}",
                self.jobs().await
            );
        }
        let mut distinct = delivered.clone();
        distinct.sort();
        distinct.dedup();
        if run.fault != Fault::Twice {
            assert_eq!(distinct.len(), delivered.len(), "{run}: a row was delivered twice");
        }
        if run.returning && at_once && run.fault != Fault::Twice {
            assert_eq!(delivered.len() as i64, changed, "{run}: rows of RETURNING");
        }
    }

    async fn sessions(&self) -> String {
        let sql = "SELECT row_to_json(x)::text FROM (SELECT pid, application_name, state, wait_event, pg_blocking_pids(pid), query \
                   FROM pg_stat_activity WHERE datname = current_database()) x";
        let rows = self.admin.query(sql, &[]).await;
        format!(
            "{:#?}",
            rows.map(|rows| rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>())
        )
    }

    async fn jobs(&self) -> String {
        let rows = self
            .admin
            .query("SELECT row_to_json(j)::text FROM (SELECT id, state, answered, upper_key, last_key, rows_done, batches, runs, error, created_at, finished_at FROM lockkeeper.job) j ORDER BY id DESC LIMIT 2", &[])
            .await;
        format!(
            "{:#?}",
            rows.map(|rows| rows.iter().map(|row| row.get::<_, String>(0)).collect::<Vec<_>>())
        )
    }
}

fn number_from(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn every_row_is_changed_exactly_once() {
    let runs = number_from("EXACTLY_ONCE_RUNS", 520);
    let time = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(1, |time| time.as_nanos() as u64);
    let seed = number_from("EXACTLY_ONCE_SEED", time);
    let workers = number_from("EXACTLY_ONCE_WORKERS", 4);
    eprintln!("EXACTLY_ONCE_SEED={seed} EXACTLY_ONCE_RUNS={runs} EXACTLY_ONCE_WORKERS={workers}");
    let clusters = [15, 18].map(|major| -> &'static Cluster { Box::leak(Box::new(own_cluster(major, SETTINGS))) });
    let started = AtomicU64::new(0);
    let came = AtomicI64::new(0);
    let tally: Mutex<BTreeMap<Fault, (u64, u64)>> = Mutex::default();
    std::thread::scope(|scope| {
        for worker in 0..workers {
            let (started, came, tally) = (&started, &came, &tally);
            scope.spawn(move || {
                runtime().block_on(async {
                    let mut field = Field::new(clusters[worker as usize % 2], worker as usize).await;
                    loop {
                        let n = started.fetch_add(1, Ordering::Relaxed);
                        if n >= runs {
                            return;
                        }
                        let mut random = Random((seed ^ (n + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15)) | 1);
                        (0..5).for_each(|_| _ = random.next());
                        // The first ones measure how many messages there are.
                        let fault = (n < 2 * workers).then_some(Fault::Nothing);
                        let run = Run::draw(&mut random, fault);
                        let happened = field.play(&run).await;
                        came.fetch_add(i64::from(happened), Ordering::Relaxed);
                        let mut tally = tally.lock().unwrap();
                        let entry = tally.entry(run.fault).or_default();
                        *entry = (entry.0 + 1, entry.1 + u64::from(happened));
                    }
                });
            });
        }
    });
    let tally = tally.into_inner().unwrap();
    eprintln!("faults: drawn, came to pass: {tally:?}");
    // A fault that never comes to pass tests nothing.
    if runs >= 300 {
        for fault in FAULTS {
            let (drawn, happened) = tally.get(fault).copied().unwrap_or_default();
            assert!(
                drawn > 5 && happened * 3 > drawn,
                "{fault:?}: drawn {drawn} times, came to pass {happened} times"
            );
        }
    }
}

/// kill -9 of a server process, after which the server starts anew: a few times, since that takes its time.
#[test]
fn a_killed_backend_loses_nothing() {
    let cluster: &'static Cluster = Box::leak(Box::new(own_cluster(
        18,
        &[("restart_after_crash", "on"), ("synchronous_commit", "on")],
    )));
    runtime().block_on(async {
        let mut field = Field::new(cluster, 9).await;
        let mut random = Random(number_from("EXACTLY_ONCE_SEED", 77) | 1);
        for n in 0..6 {
            eprintln!("kill -9, run {n}");
            let mut run = Run::draw(
                &mut random,
                Some(if n == 0 { Fault::Nothing } else { Fault::KillBackend }),
            );
            (run.writers, run.at) = (false, run.at.clamp(100, 450));
            if n == 0 {
                field.play(&run).await;
                continue;
            }
            run.rows = *field.messages.keys().next().unwrap_or(&run.rows);
            // The session that looks on dies with all others.
            field.play_watched(cluster, &run).await;
        }
    });
}

impl Field {
    /// As [`Field::play`], where the server itself goes down in the middle.
    async fn play_watched(&mut self, cluster: &Cluster, run: &Run) {
        self.prepare(run).await;
        self.ensure_proxy().await;
        let before = self.last_job().await;
        let expected = *self.messages.get(&run.rows).unwrap_or(&200);
        let client = connect(self.stage.port, &self.stage.database, "client")
            .await
            .expect("the proxy");
        self.relay.arm(Some((1 + expected * run.at / 1000, Harm::KillBackend)));
        let first = self.send(run, &client).await;
        let (_, done) = self.relay.disarm();
        assert!(done, "{run}: the fault never came");
        assert!(matches!(first, Ended::Broken), "{run}: nothing happened");
        // All sessions end before the server starts anew.
        while self.admin.simple_query("SELECT 1").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let started = Instant::now();
        self.admin = loop {
            match connect(cluster.port(), &self.stage.database, "admin").await {
                Ok(admin) => break admin,
                Err(error) => assert!(started.elapsed() < PATIENCE, "{error:?}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        self.ensure_proxy().await;
        if self.jobs_done(before).await {
            return self.check(run, None, Vec::new(), false).await;
        }
        let client = self.connect_again().await;
        let Ended::Done { count, rows } = self.send(run, &client).await else {
            panic!("{run}: not done at the second try");
        };
        self.check(run, count, rows, false).await;
    }
}
