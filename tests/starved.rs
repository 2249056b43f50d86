//! A brief step gets its lock through a table that is never free: what keeps the table busy is held back for a moment, in order,
//! and never for longer than the policy allows.

use lockkeeper_testkit::raw::{
    Raw, bind, cancel_request, command_tags, describe, error_field, execute, flush, frame, parse, rows, status, sync,
    tags,
};
use lockkeeper_testkit::{QUICK, Stage, cluster, until};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Statements are held until the step has its lock, however long that takes.
const HOLDS: &str = "extends = \"standard\"\n[lock]\nhold_ms = 600000\n";
const TABLES: &str =
    "CREATE TABLE users (id int PRIMARY KEY, v int); INSERT INTO users SELECT n, 0 FROM generate_series(1, 100) n;
     CREATE VIEW names AS SELECT id FROM users; CREATE TABLE other (id int)";
/// It takes longer than a try.
const REPORT: &str = "SELECT count(*), pg_sleep(0.12) FROM users";
const CONSOLE: [&str; 2] = ["--console-users", "postgres"];
const BUSY: Duration = Duration::from_secs(120);

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

fn connect(stage: &Stage) -> Raw {
    let raw = Raw::connect(stage.port, &stage.database);
    raw.waits_for(BUSY);
    raw
}

/// Sessions that send one statement again and again, each on a connection of its own, until they are stopped.
#[derive(Default)]
struct Traffic {
    stop: Arc<AtomicBool>,
    done: Vec<Arc<AtomicU64>>,
    threads: Vec<JoinHandle<()>>,
}

impl Traffic {
    fn add(&mut self, stage: &Stage, after: Duration, sql: &str) {
        let (stop, done) = (Arc::clone(&self.stop), Arc::<AtomicU64>::default());
        self.done.push(Arc::clone(&done));
        let (mut raw, query) = (connect(stage), query(sql));
        self.threads.push(std::thread::spawn(move || {
            std::thread::sleep(after);
            while !stop.load(Ordering::Relaxed) {
                raw.send(&query);
                let answer = raw.until_ready();
                assert_eq!(command_tags(&answer).len(), 1, "{answer:?}");
                done.fetch_add(1, Ordering::Relaxed);
            }
        }));
    }

    fn each_has_done(&self, least: u64) {
        until("each session has done its statement", || {
            self.done.iter().all(|done| done.load(Ordering::Relaxed) >= least)
        });
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().expect("traffic");
        }
    }
}

fn stats(stage: &Stage, what: &str) -> f64 {
    let out = stage.psql_args(&["-d", "lockkeeper", "-At"], "SHOW STATS").ok();
    let line = out.lines().find(|line| line.starts_with(&format!("{what}|")));
    line.and_then(|line| line.rsplit('|').next()?.parse().ok())
        .unwrap_or_default()
}

fn plan_tries(stage: &Stage) -> u32 {
    let out = stage.psql_args(&["-d", "lockkeeper", "-At", "-x"], "SHOW PLANS").ok();
    let tries = out.lines().find_map(|line| line.strip_prefix("lock_tries|"));
    tries.and_then(|tries| tries.parse().ok()).unwrap_or_default()
}

fn sessions_held(stage: &Stage) -> usize {
    let out = stage.psql_args(&["-d", "lockkeeper", "-At"], "SHOW SESSIONS").ok();
    out.lines()
        .filter(|line| line.split('|').any(|field| field == "held"))
        .count()
}

/// Three overlapping reports and short statements between them: without holding, no try ever finds the table free.
#[test]
fn a_table_that_is_never_free_is_changed() {
    for (major, change) in [
        (18, "ALTER TABLE users ADD COLUMN a int"),
        (
            15,
            "CREATE TRIGGER x BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ),
    ] {
        let stage = Stage::on(cluster(major), "overlap", QUICK, &CONSOLE);
        stage.direct(TABLES);
        let mut traffic = Traffic::default();
        for n in 1..4 {
            let after = Duration::from_millis(333 * n);
            let report = match change.starts_with("CREATE") {
                true => format!("UPDATE users SET v = 2 WHERE id = {n} AND pg_sleep(1) IS NOT NULL"),
                false => format!("SELECT id, pg_sleep(1) FROM users WHERE id = {n}"),
            };
            traffic.add(&stage, after, &report);
        }
        for _ in 0..2 {
            traffic.add(&stage, Duration::ZERO, "UPDATE users SET v = 1 WHERE id = 99");
        }
        traffic.each_has_done(2);
        let ran = stage.psql(&format!("SET lock_timeout = '60s'; {change}"));
        assert!(ran.status == 0 && !ran.stderr.contains("ERROR"), "{ran:?}");
        assert!(stats(&stage, "held_statements") >= 1.0);
        traffic.end();
    }
}

/// A step that waits for a transaction at the server itself, and what keeps its table busy is known: it is held.
struct Waiting {
    stage: Stage,
    holder: Raw,
    change: JoinHandle<()>,
}

fn waiting(name: &str, policy: &str) -> Waiting {
    let stage = Stage::on(cluster(18), name, policy, &CONSOLE);
    stage.direct(TABLES);
    let mut known = connect(&stage);
    for _ in 0..3 {
        known.query(REPORT);
    }
    known.query("SELECT count(*), pg_sleep(0.12) FROM names");
    known.query("SELECT count(*), pg_sleep(0.12) FROM other");
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("SELECT FROM users");
    let (mut migration, change) = (connect(&stage), query("ALTER TABLE users ADD COLUMN a int"));
    let change = std::thread::spawn(move || {
        migration.send(&change);
        let answer = migration.until_ready();
        assert_eq!(command_tags(&answer), ["ALTER TABLE"], "{answer:?}");
    });
    // From its second try on.
    until("the step waits", || plan_tries(&stage) >= 2);
    Waiting { stage, holder, change }
}

impl Waiting {
    /// A session whose statement is held.
    fn held(&self, message: &[u8]) -> Raw {
        let before = sessions_held(&self.stage);
        let mut raw = connect(&self.stage);
        raw.send(message);
        until("it is held", || sessions_held(&self.stage) > before);
        raw
    }

    fn ends(mut self) -> Stage {
        self.holder.query("COMMIT");
        self.change.join().expect("the change");
        self.stage
    }
}

#[test]
fn what_is_held_goes_on_in_order_and_whole() {
    let waiting = waiting("order", HOLDS);
    // A whole pipeline stands behind it, with its own errors.
    let mut pipeline = query(REPORT);
    pipeline.extend(query("SELECT 1; SELECT 2"));
    for part in [
        parse("", "SELECT 3"),
        bind("", ""),
        describe(b'P', ""),
        execute("", 0),
        sync(),
    ] {
        pipeline.extend(part);
    }
    pipeline.extend(query("SELECT wrong"));
    pipeline.extend(query("SELECT 4"));
    let mut raw = waiting.held(&pipeline);
    // Others are not held: short ones, other tables, and what stands in a transaction.
    let mut other = connect(&waiting.stage);
    assert_eq!(
        command_tags(&other.query("SELECT v FROM users WHERE id = 1")),
        ["SELECT 1"]
    );
    assert_eq!(
        command_tags(&other.query("SELECT count(*), pg_sleep(0.12) FROM other")),
        ["SELECT 1"]
    );
    other.query("BEGIN");
    assert_eq!(command_tags(&other.query(REPORT)), ["SELECT 1"]);
    other.query("COMMIT");
    // A view is its table.
    let mut view = waiting.held(&query("SELECT count(*), pg_sleep(0.12) FROM names"));
    assert_eq!(sessions_held(&waiting.stage), 2);
    let stage = waiting.ends();
    let all = raw.until_ready();
    assert_eq!(
        (command_tags(&all), rows(&all).first().map(|row| row.starts_with("100"))),
        (vec!["SELECT 1".into()], Some(true))
    );
    assert_eq!(rows(&raw.until_ready()), ["1", "2"]);
    let extended = raw.until_ready();
    assert_eq!(
        (tags(&extended), rows(&extended)),
        ("12TDCZ".into(), vec!["3".to_string()])
    );
    assert_eq!(error_field(&raw.until_ready(), b'C').as_deref(), Some("42703"));
    assert_eq!(rows(&raw.until_ready()), ["4"]);
    assert_eq!(command_tags(&view.until_ready()), ["SELECT 1"]);
    assert_eq!(stats(&stage, "held_statements"), 2.0);
}

#[test]
fn the_extended_protocol_is_held_before_anything_of_it_is_sent() {
    let waiting = waiting("extended", HOLDS);
    let unnamed = [parse("", REPORT), bind("", ""), execute("", 0), sync()].concat();
    let mut raw = waiting.held(&unnamed);
    // Prepared, and executed later: the Parse goes on, the Bind waits.
    let mut named = connect(&waiting.stage);
    named.send(&[parse("s", REPORT), describe(b'S', "s"), flush()].concat());
    for tag in [b'1', b't', b'T'] {
        assert_eq!(named.receive().map(|(tag, _)| tag), Some(tag));
    }
    named.send(&sync());
    named.until_ready();
    named.send(&[bind("", "s"), execute("", 0), sync()].concat());
    until("both are held", || sessions_held(&waiting.stage) == 2);
    // Nothing of either has come to the server.
    let running = waiting.stage.number(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' AND query LIKE '%pg_sleep(0.12)%'
         AND pid <> pg_backend_pid()",
    );
    assert_eq!(running, 0);
    let _stage = waiting.ends();
    assert_eq!(tags(&raw.until_ready()), "12DCZ");
    assert_eq!(tags(&named.until_ready()), "2DCZ");
}

#[test]
fn a_cancel_request_ends_what_is_held_and_nothing_else() {
    let waiting = waiting("cancelled", HOLDS);
    for message in [
        query(REPORT),
        [parse("", REPORT), bind("", ""), execute("", 0), sync()].concat(),
    ] {
        let mut raw = waiting.held(&message);
        Raw::open(waiting.stage.port).send(&cancel_request(&raw.key));
        let ended = raw.until_ready();
        assert_eq!(
            (error_field(&ended, b'C').as_deref(), status(&ended)),
            (Some("57014"), Some('I')),
            "{ended:?}"
        );
        // The session and its next statements are whole.
        let next = raw.query("SELECT pg_sleep(0.3), 7");
        assert_eq!(command_tags(&next), ["SELECT 1"], "{next:?}");
    }
    waiting.ends();
}

#[test]
fn what_its_client_has_left_is_still_done() {
    let waiting = waiting("left", HOLDS);
    let insert = "INSERT INTO other VALUES (1)";
    let raw = waiting.held(&[query(REPORT), query(insert), frame(b'X', b"")].concat());
    drop(raw);
    lockkeeper_testkit::until("the row is there", || {
        waiting.stage.number("SELECT count(*) FROM other") == 1
    });
    waiting.ends();
}

#[test]
fn a_client_s_own_timeout_is_kept_and_a_stop_lets_go() {
    let waiting = waiting("timeout", HOLDS);
    let mut hasty = connect(&waiting.stage);
    hasty.query("SET statement_timeout = '1s'");
    let mut raw = waiting.held(&query(REPORT));
    // Held for what the timeout leaves it, then run; the change still waits.
    let answer = hasty.query(REPORT);
    assert_eq!(command_tags(&answer), ["SELECT 1"], "{answer:?}");
    assert_eq!(sessions_held(&waiting.stage), 1);
    // SIGTERM: the statement is done before the session ends.
    waiting.stage.proxy().signal(libc::SIGTERM).expect("the signal is sent");
    let answer = raw.until_ready();
    assert_eq!(command_tags(&answer), ["SELECT 1"], "{answer:?}");
    drop(raw);
    waiting.ends();
}

#[test]
fn no_statement_is_held_for_longer_than_the_policy_says() {
    let waiting = waiting("bounded", "extends = \"standard\"\n[lock]\nhold_ms = 8000\n");
    let mut raw = waiting.held(&query(REPORT));
    // Nobody ends the transaction that the step waits for: it goes on all the same.
    assert_eq!(command_tags(&raw.until_ready()), ["SELECT 1"]);
    waiting.ends();
}

#[test]
fn nothing_is_held_where_the_policy_says_so() {
    let waiting = waiting("never", "extends = \"standard\"\n[lock]\nhold_ms = 0\n");
    let mut raw = connect(&waiting.stage);
    for _ in 0..20 {
        assert_eq!(command_tags(&raw.query(REPORT)), ["SELECT 1"]);
    }
    let stage = waiting.ends();
    assert_eq!(stats(&stage, "held_statements"), 0.0);
}

/// `[[lock.cancel]]`: whom it speaks of is ended, and told of; nobody else is.
#[test]
fn who_stays_for_too_long_is_ended_where_the_policy_says_so() {
    let policy = "extends = \"standard\"\n[backfill]\nnotice_s = 1\n[lock]\nhold_ms = 0\n[[lock.cancel]]\napplication = \"report*\"\n\
         idle_in_transaction_s = 1\nactive_s = 1\n";
    for (place, statements) in [("alone", ""), ("block", "BEGIN; ")] {
        let stage = Stage::with(18, "ended", policy);
        stage.direct(TABLES);
        let holds = |application: &str, sql: &[&str]| {
            let mut raw = Raw::connect(stage.cluster.port(), &stage.database);
            raw.waits_for(BUSY);
            raw.query(&format!("SET application_name = '{application}'"));
            sql.iter().for_each(|sql| raw.send(&query(sql)));
            raw
        };
        let mut web = holds("web", &["BEGIN", "SELECT FROM users"]);
        let _idle = holds("report 1", &["BEGIN", "SELECT FROM users"]);
        let mut active = holds("report 2", &["SELECT count(*), pg_sleep(600) FROM users"]);
        let locks = "SELECT count(DISTINCT pid) = 3 FROM pg_locks WHERE relation = 'users'::regclass";
        until("all three hold it", || stage.direct(locks).trim() == "t");
        let (mut migration, change) = (
            connect(&stage),
            format!("{statements}ALTER TABLE users ADD COLUMN a int"),
        );
        change.split("; ").for_each(|sql| migration.send(&query(sql)));
        // The one is ended with its session, of the other only the statement.
        assert_eq!(
            error_field(&active.until_ready(), b'C').as_deref(),
            Some("57014"),
            "{place}"
        );
        let left = "SELECT string_agg(application_name, ',' ORDER BY application_name) FROM pg_stat_activity
             WHERE datname = current_database() AND (application_name LIKE 'report%' OR application_name = 'web')";
        until("the idle one is gone", || stage.direct(left).trim() == "report 2,web");
        for _ in 0..2 {
            web.until_ready();
        }
        web.query("COMMIT");
        let mut answer = migration.until_ready();
        if !statements.is_empty() {
            answer = migration.until_ready();
        }
        assert_eq!(command_tags(&answer), ["ALTER TABLE"], "{place}: {answer:?}");
        let notices: Vec<String> = answer
            .iter()
            .filter(|(tag, _)| *tag == b'N')
            .map(|notice| error_field(&[(b'E', notice.1.clone())], b'M').unwrap_or_default())
            .collect();
        for word in [
            "a session was terminated by [[lock.cancel]]",
            "a statement was cancelled by [[lock.cancel]]",
        ] {
            assert!(
                notices.iter().any(|notice| notice.contains(word)),
                "{place}: {notices:?}"
            );
        }
        let audited = stage.audit_lines();
        let ended = audited
            .iter()
            .filter(|line| line["event"] == "waiting" && line.to_string().contains("[[lock.cancel]]"));
        assert_eq!(ended.count(), 2, "{place}: {audited:?}");
    }
}

/// What cannot be gone yet is not waited for by making others wait.
#[test]
fn no_try_is_made_while_a_holder_is_sure_to_stay() {
    let stage = Stage::with(
        18,
        "sure",
        "extends = \"standard\"\n[backfill]\nnotice_s = 1\n[lock]\nhold_ms = 0\n",
    );
    stage.direct(TABLES);
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("SELECT FROM users");
    let mut migration = connect(&stage);
    migration.send(&query("ALTER TABLE users ADD COLUMN a int"));
    loop {
        let (tag, body) = migration.receive().expect("a notice");
        let told = error_field(&[(b'E', body)], b'M').unwrap_or_default();
        assert_eq!(tag, b'N', "{told}");
        if told.contains("no try is made while a holder is sure to outlast it") {
            break;
        }
    }
    holder.query("COMMIT");
    assert_eq!(command_tags(&migration.until_ready()), ["ALTER TABLE"]);
}

/// What takes no lock that the step waits for, or another table's, goes on; and nobody is held back by who may change nothing.
#[test]
fn who_is_not_in_the_way_is_not_held() {
    let cases = [
        (
            "postgres",
            "CREATE TRIGGER x BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            REPORT,
        ),
        (
            "postgres",
            "ALTER TABLE users ADD COLUMN a int",
            "SELECT count(*), pg_sleep(0.12) FROM orders",
        ),
        (
            "stranger",
            "CREATE TRIGGER x BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
            "UPDATE users SET v = 2 WHERE id = 1 AND pg_sleep(0.12) IS NOT NULL",
        ),
        (
            "tenant_a",
            "ALTER TABLE tenant_a.orders ADD COLUMN a int",
            "SELECT count(*), pg_sleep(0.12) FROM orders",
        ),
    ];
    for (role, change, report) in cases {
        let stage = Stage::on(cluster(18), "aside", HOLDS, &CONSOLE);
        stage.direct(TABLES);
        let own = |role: &str| {
            format!(
                "DO $$ BEGIN IF to_regrole('{role}') IS NULL THEN CREATE ROLE {role} LOGIN; END IF; END $$; GRANT CREATE ON DATABASE {} TO {role};",
                stage.database
            )
        };
        stage.direct(&format!(
            "{}{} CREATE SCHEMA tenant_a AUTHORIZATION tenant_a; CREATE TABLE tenant_a.orders (id int); ALTER TABLE tenant_a.orders OWNER TO tenant_a;
             CREATE TABLE orders (id int)",
            own("stranger"),
            own("tenant_a")
        ));
        let mut known = connect(&stage);
        for _ in 0..3 {
            known.query(report);
        }
        let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
        holder.query("BEGIN");
        holder.query("SELECT FROM tenant_a.orders");
        holder.query("UPDATE users SET v = 3 WHERE id = 50");
        let mut migration = Raw::open(stage.port);
        migration.start(&lockkeeper_testkit::raw::startup(&[
            ("user", role),
            ("database", stage.database.as_str()),
        ]));
        migration.waits_for(BUSY);
        migration.send(&query(change));
        until("the step waits", || plan_tries(&stage) >= 2);
        for _ in 0..5 {
            assert_eq!(command_tags(&known.query(report)).len(), 1, "{role}: {report}");
        }
        assert_eq!(stats(&stage, "held_statements"), 0.0, "{role}: {change}; {report}");
        holder.query("COMMIT");
        migration.until_ready();
    }
}

/// Within a transaction block the server shows pg_stat_activity as it was when the transaction first looked at it.
#[test]
fn who_was_never_idle_for_long_is_not_ended() {
    let policy = "extends = \"standard\"\n[lock]\nhold_ms = 0\n[[lock.cancel]]\napplication = \"web*\"\nidle_in_transaction_s = 2\n";
    let stage = Stage::with(18, "fresh", policy);
    stage.direct(TABLES);
    let stop = Arc::new(AtomicBool::new(false));
    let (done, direct) = (Arc::new(AtomicU64::new(0)), stage.cluster.port());
    let web: Vec<JoinHandle<()>> = (0..2)
        .map(|n| {
            let (stop, done, database) = (Arc::clone(&stop), Arc::clone(&done), stage.database.clone());
            std::thread::spawn(move || {
                std::thread::sleep(Duration::from_millis(150 * n));
                let mut raw = Raw::connect(direct, &database);
                raw.query("SET application_name = 'web'");
                while !stop.load(Ordering::Relaxed) {
                    raw.query("BEGIN");
                    raw.query("SELECT FROM users");
                    std::thread::sleep(Duration::from_millis(300));
                    assert_eq!(command_tags(&raw.query("COMMIT")), ["COMMIT"]);
                    done.fetch_add(1, Ordering::Relaxed);
                }
            })
        })
        .collect();
    let mut migration = connect(&stage);
    migration.query("BEGIN");
    migration.query("SELECT count(*) FROM pg_stat_activity");
    let before = done.load(Ordering::Relaxed);
    until("time has passed", || done.load(Ordering::Relaxed) > before + 16);
    migration.query("SET lock_timeout = '5s'");
    let answer = migration.query("ALTER TABLE users ADD COLUMN a int");
    stop.store(true, Ordering::Relaxed);
    // Whoever has begun another go waits for its lock.
    migration.query("ROLLBACK");
    for one in web {
        one.join().expect("it was not ended");
    }
    let ended = stage
        .audit_lines()
        .iter()
        .filter(|line| line.to_string().contains("[[lock.cancel]]"))
        .count();
    assert_eq!(ended, 0, "{answer:?}");
}
