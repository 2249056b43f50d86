//! What one client's long statement costs the others: not their turn, and no more than in proportion to its length.

use lockkeeper_testkit::raw::{Raw, command_tags, frame, rows};
use lockkeeper_testkit::{QUICK, Stage, cluster};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// One test at a time: each is much work for an unoptimised build.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A session whose answers may take long.
fn connect(stage: &Stage, port: u16) -> Raw {
    let raw = Raw::connect(port, &stage.database);
    raw.waits_for(Duration::from_secs(300));
    raw
}

const MEGABYTE: usize = 1 << 20;

/// A comment that makes a text as long as this.
fn padding(bytes: usize) -> String {
    format!("/* {} */", "x".repeat(bytes))
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &[sql.as_bytes(), b"\0"].concat())
}

/// An UPDATE by key of more than 40 kB.
fn of_many_keys() -> String {
    let keys: Vec<String> = (1_000_000..1_006_000).map(|key| key.to_string()).collect();
    format!("UPDATE t SET v = 2 WHERE id IN ({})", keys.join(", "))
}

/// Every table counts as large.
const LARGE: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n";

fn stage(name: &str) -> Stage {
    stage_of(name, QUICK)
}

fn stage_of(name: &str, policy: &str) -> Stage {
    let stage = Stage::on(cluster(18), name, policy, &["--threads", "2"]);
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t SELECT n, 0 FROM generate_series(1000000, 1020000) n;
         CREATE TABLE u (id int, v int); INSERT INTO u SELECT n, 0 FROM generate_series(1, 100) n; ANALYZE;",
    );
    stage
}

/// So many sessions wait for a lock in the server.
fn waiting(stage: &Stage) -> i64 {
    stage.number(
        "SELECT count(DISTINCT l.pid) FROM pg_locks l JOIN pg_stat_activity a USING (pid)
         WHERE NOT l.granted AND a.datname = current_database()",
    )
}

/// As many as could be read at the same time when their shares lasted for as long as they run.
const LARGE_ONES: i64 = 2;

/// Sessions with a large statement that waits in the server, and one of others, which does not wait for them.
fn nobody_waits_for(name: &str, lock: &str, large: &str) {
    let _alone = alone();
    let stage = stage(name);
    let mut holder = connect(&stage, stage.cluster.port());
    holder.query("BEGIN");
    holder.query(lock);
    let mut large_ones: Vec<Raw> = (0..LARGE_ONES).map(|_| connect(&stage, stage.port)).collect();
    for one in &mut large_ones {
        one.send(&query(large));
    }
    let deadline = Instant::now() + Duration::from_secs(300);
    while waiting(&stage) < LARGE_ONES {
        assert!(
            Instant::now() < deadline,
            "the large ones do not come to wait for the lock"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut other = connect(&stage, stage.port);
    assert_eq!(command_tags(&other.query(&of_many_keys())), ["UPDATE 6000"]);
    assert_eq!(waiting(&stage), LARGE_ONES, "the large ones have ended before it");
    assert_eq!(rows(&holder.query("COMMIT")), Vec::<String>::new());
    for one in &mut large_ones {
        one.until_ready();
    }
}

#[test]
fn what_runs_in_the_server_keeps_nobody_from_being_judged() {
    let body = "BEGIN UPDATE u SET v = 1 WHERE false; PERFORM pg_advisory_xact_lock(7); END";
    nobody_waits_for(
        "runs",
        "SELECT pg_advisory_xact_lock(7)",
        &format!("DO $$ {} {body} $$", padding(12 * MEGABYTE)),
    );
}

#[test]
fn what_waits_for_a_lock_while_it_is_judged_keeps_nobody_from_it() {
    nobody_waits_for(
        "waits",
        "LOCK TABLE u",
        &format!("{} UPDATE u SET v = v + 1 WHERE v < 5", padding(12 * MEGABYTE)),
    );
}

/// Hundredths of a second that the proxy has computed.
fn computed(stage: &Stage) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", stage.proxy().pid())).unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap()
}

/// Four times the parts cost about four times as much, and not sixteen.
fn in_proportion(stage: &Stage, what: &str, few: usize, statement: impl Fn(usize) -> String) {
    let cost = |parts: usize| {
        let mut raw = connect(stage, stage.port);
        let before = computed(stage);
        raw.query(&statement(parts));
        computed(stage) - before
    };
    let (small, large) = (cost(few), cost(4 * few));
    assert!(
        large < 9 * small.max(20),
        "{what}: {small} hundredths of a second for {few} parts, {large} for four times as many"
    );
}

#[test]
fn statements_of_many_parts_cost_in_proportion() {
    let _alone = alone();
    let stage = stage("parts");
    let listed = |parts: usize, separator: &str, part: &dyn Fn(usize) -> String| {
        (0..parts).map(part).collect::<Vec<_>>().join(separator)
    };
    in_proportion(&stage, "actions of an ALTER TABLE", 700, |n| {
        let actions = listed(n, ", ", &|i| format!("ALTER COLUMN v SET STATISTICS {}", i % 100));
        format!("ALTER TABLE t {actions}")
    });
    in_proportion(&stage, "constraints that are dropped", 700, |n| {
        let actions = listed(n, ", ", &|i| format!("DROP CONSTRAINT IF EXISTS c{i}"));
        format!("ALTER TABLE t {actions}")
    });
    in_proportion(&stage, "statements of a DO block", 300, |n| {
        let statements = listed(n, " ", &|i| format!("UPDATE t SET v = 1 WHERE id = {i};"));
        format!("DO $$ BEGIN {statements} END $$")
    });
    in_proportion(&stage, "schema changes of a DO block", 300, |n| {
        let statements = listed(n, " ", &|i| format!("DROP TABLE IF EXISTS gone{i};"));
        format!("DO $$ BEGIN {statements} END $$")
    });
    in_proportion(&stage, "blocks within blocks", 4, |n| {
        let open = listed(n, " ", &|i| format!("DO $a{i}$ BEGIN"));
        let close: Vec<String> = (0..n).rev().map(|i| format!("END $a{i}$;")).collect();
        format!("{open} UPDATE t SET v = 1 WHERE id = 1; {}", close.join(" "))
    });
    in_proportion(&stage, "tables that are dropped", 1_000, |n| {
        format!("DROP TABLE IF EXISTS {}", listed(n, ", ", &|i| format!("gone{i}")))
    });
}

#[test]
fn names_that_are_given_cost_in_proportion() {
    let _alone = alone();
    let stage = stage_of("names", LARGE);
    for (what, constraint) in [
        ("checks without a name", "CHECK (v > -1)"),
        ("unique constraints without a name", "UNIQUE (v)"),
        ("foreign keys without a name", "FOREIGN KEY (v) REFERENCES t"),
    ] {
        in_proportion(&stage, what, 1_000, |n| {
            // The last action refuses them all.
            let actions = vec![format!("ADD {constraint}"); n].join(", ");
            format!("ALTER TABLE t {actions}, ALTER COLUMN v TYPE bigint")
        });
    }
}

/// Its client has gone before it is planned: nothing is planned, and nothing done.
#[test]
fn nobody_s_statement_is_not_planned() {
    let _alone = alone();
    let stage = stage_of("left", LARGE);
    let actions: Vec<String> = (0..1_500).map(|n| format!("ADD CHECK (v > -{n})")).collect();
    let mut raw = connect(&stage, stage.port);
    raw.send(&query(&format!("ALTER TABLE t {}", actions.join(", "))));
    drop(raw);
    lockkeeper_testkit::until("its session has ended", || {
        let others =
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
        stage.number(others) == 0
    });
    assert!(!stage.audit_lines().iter().any(|line| line["event"] == "planned"));
    assert_eq!(
        stage.number("SELECT count(*) FROM pg_constraint WHERE conrelid = 't'::regclass AND contype = 'c'"),
        0
    );
}

/// Kilobytes that the proxy has had at most since it was last asked to forget.
fn at_most(stage: &Stage) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", stage.proxy().pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

#[test]
fn a_list_of_keys_takes_a_bounded_multiple_of_its_text() {
    let _alone = alone();
    let list = |n: usize| vec!["7"; n].join(",");
    for (what, text) in [
        (
            "within a DO block",
            format!("DO $$ BEGIN UPDATE t SET v = 1 WHERE id IN ({}); END $$", list(150_000)),
        ),
        (
            "with a variable in a DO block",
            format!(
                "DO $$ DECLARE w int; BEGIN UPDATE t SET v = w WHERE id IN ({}); END $$",
                list(150_000)
            ),
        ),
        ("plain", format!("UPDATE t SET v = 1 WHERE id IN ({})", list(400_000))),
    ] {
        let stage = stage("memory");
        let before = at_most(&stage);
        connect(&stage, stage.port).query(&text);
        let taken = (at_most(&stage) - before) << 10;
        let most = text.len() as u64 * 500;
        assert!(taken < most, "{what}: {taken} bytes for a text of {}", text.len());
    }
}

#[test]
fn no_statement_takes_all_memory() {
    let _alone = alone();
    let stage = stage("words");
    stage.direct("UPDATE t SET v = 0 WHERE id = 1000000");
    let list = vec!["7"; 2_100_000].join(",");
    for text in [
        format!("UPDATE t SET v = 1 WHERE id IN ({list})"),
        format!("DO $$ BEGIN UPDATE t SET v = 1 WHERE id IN ({list}); END $$"),
    ] {
        let before = at_most(&stage);
        let answer = connect(&stage, stage.port).query(&text);
        assert_eq!(command_tags(&answer), Vec::<String>::new(), "it is refused");
        // Its text is there a few times; its tree would take 1.2 GB.
        let taken = at_most(&stage) - before;
        assert!(taken < 300 << 10, "{taken} kB for a text of {}", text.len());
    }
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE v <> 0"), 0);
}

/// Long messages of which the end does not come have one bound over all sessions; who does not send it makes room for others.
#[test]
fn half_sent_messages_have_one_bound() {
    use std::io::Write;
    const SESSIONS: u64 = 32;
    const LENGTH: usize = 15 * MEGABYTE;
    let _alone = alone();
    let stage = stage("half_sent");
    let before = at_most(&stage);
    let whole = query(&format!("SELECT '{}'", "x".repeat(LENGTH)));
    let half = &whole[..whole.len() - 1];
    let sessions: Vec<Raw> = (0..SESSIONS).map(|_| connect(&stage, stage.port)).collect();
    let sent: u64 = std::thread::scope(|scope| {
        let send = |session: &Raw| {
            let mut writer = session.writer();
            writer.set_write_timeout(Some(Duration::from_secs(3))).unwrap();
            scope.spawn(move || u64::from(writer.write_all(half).is_ok()))
        };
        let sending: Vec<_> = sessions.iter().map(send).collect();
        sending.into_iter().map(|sends| sends.join().unwrap()).sum()
    });
    assert!(sent < SESSIONS, "all of it was read");
    let taken = at_most(&stage) - before;
    assert!(taken < 340 << 10, "{taken} kB for {SESSIONS} messages");
    // What is not long passes, and what is long in its turn.
    let mut other = connect(&stage, stage.port);
    assert_eq!(rows(&other.query("SELECT 1")), ["1"]);
    let turn = Instant::now();
    let answer = other.query(&format!("SELECT length('{}')", "x".repeat(LENGTH)));
    assert_eq!(rows(&answer), [LENGTH.to_string()], "after {:?}", turn.elapsed());
    assert!(at_most(&stage) - before < 400 << 10);
}
