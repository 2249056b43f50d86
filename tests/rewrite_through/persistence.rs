//! SET LOGGED and SET UNLOGGED through the proxy, and a crash of the server on the way.

use super::*;
use lockkeeper_cluster::Cluster;
use lockkeeper_testkit::own_cluster;

const UNLOGGED: &str = "ALTER TABLE t SET UNLOGGED";
const LOGGED: &str = "ALTER TABLE t SET LOGGED";

fn persistence(stage: &Stage) -> String {
    stage.direct("SELECT relpersistence FROM pg_class WHERE oid = 't'::regclass")
}

fn it_is_done_where_the_server_would_do_it(major: u32) {
    let policy = format!("{QUICK}\n[table]\nsmall_bytes = 0\n[rewrite]\nkeep_old_s = 0\n");
    let stage = Stage::with(major, "persistence", &policy);
    stage.direct(TABLE);
    stage.direct("ALTER TABLE child SET UNLOGGED");
    let rows = stage.number(ROWS);
    let is_done = |sql: &str, letter: &str| {
        let before = file(&stage);
        let ran = stage.psql(sql);
        assert_eq!(
            (ran.status, ran.stdout.trim()),
            (0, "ALTER TABLE"),
            "{sql}\n{}",
            ran.stderr
        );
        assert_ne!(file(&stage), before, "{sql}");
        assert_eq!(
            (persistence(&stage).as_str(), stage.number(ROWS)),
            (letter, rows),
            "{sql}"
        );
        leaves_nothing(&stage);
    };
    is_done(UNLOGGED, "u");
    let before = file(&stage);
    stage.psql(UNLOGGED).ok();
    assert_eq!(file(&stage), before, "there was nothing to do");
    stage.psql("VACUUM FULL t").ok();
    assert_ne!(file(&stage), before);
    assert_eq!((persistence(&stage).as_str(), stage.number(ROWS)), ("u", rows));
    is_done("ALTER TABLE t SET LOGGED, ALTER COLUMN pad SET DEFAULT 'x'", "p");
    stage.direct("INSERT INTO t VALUES (-1, 1)");
    assert_eq!(stage.direct("SELECT pad FROM t WHERE id = -1"), "x");
}

/// It has no rows of its own: the server says what it says.
fn a_partitioned_table_is_the_server_s(major: u32) {
    let stage = stage(major, "partitioned");
    stage.direct("CREATE TABLE parted (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parted DEFAULT; INSERT INTO parted VALUES (1)");
    let sql = "ALTER TABLE parted SET UNLOGGED";
    let (direct, ran) = (stage.direct_args(&[], sql), stage.psql(sql));
    let first = |text: &str| text.lines().next().unwrap_or_default().to_owned();
    assert_eq!(first(&ran.stderr), first(&direct.stderr));
    assert_eq!(ran.stdout, direct.stdout);
    assert_eq!(
        major >= 18,
        ran.stderr.contains("cannot be performed on relation"),
        "{}",
        ran.stderr
    );
    // A partition has rows, and is refused.
    let ran = stage.psql("ALTER TABLE part SET UNLOGGED");
    assert!(ran.stderr.contains("is a partition"), "{}", ran.stderr);
}

/// The statement has begun to copy, and the server is shut down immediately and recovers.
fn crashed_while_it_copies(major: u32, setup: &str, statement: &'static str) -> Stage {
    let cluster: &'static Cluster = Box::leak(Box::new(own_cluster(major, &[("synchronous_commit", "on")])));
    let mut stage = Stage::on(cluster, "crashed", &slow(), &[]);
    stage.direct(setup);
    runs(async {
        let connection = stage.connect().await;
        let running = tokio::spawn(async move { connection.client.batch_execute(statement).await });
        until_true(&stage, COPIES).await;
        until_true(&stage, HAS_COPIED).await;
        cluster.restart().unwrap();
        running.await.unwrap().unwrap_err();
    });
    stage.kill_proxy();
    std::fs::write(stage.policy_file(), POLICY).unwrap();
    stage.start_proxy(&[]);
    stage
}

/// What `check --dsn` says is what the proxy does.
fn check_says_that_it_is_rewritten(major: u32) {
    let stage = stage(major, "checked");
    init(&stage);
    stage.direct("DROP TABLE child CASCADE; CREATE UNLOGGED TABLE u AS SELECT g AS id FROM generate_series(1, 100) g; ALTER TABLE u ADD PRIMARY KEY (id)");
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    lockkeeper_cluster::clean_environment(&mut command);
    let (port, database, policy) = (stage.cluster.port(), &stage.database, stage.policy_file());
    let dsn = format!("host=127.0.0.1 port={port} user=postgres dbname={database}");
    command.args(["check", "--dsn", &dsn, "--policy"]).arg(policy).arg("-");
    let sql = "ALTER TABLE t SET LOGGED; ALTER TABLE t SET UNLOGGED; ALTER TABLE t SET UNLOGGED; ALTER TABLE t SET LOGGED; ALTER TABLE u SET LOGGED";
    let said = run(command, sql).stdout;
    for told in [
        "rewrite[rewriting-table]: SET UNLOGGED copies t",
        "lockkeeper rewrite --dsn … public.t --with 'ALTER TABLE t SET UNLOGGED'",
        "rewrite[rewriting-table]: SET LOGGED copies u",
        "2 forwarded, 0 warned of, 3 rewritten, 0 rejected",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
}

fn a_crash_gives_it_up(major: u32) {
    let stage = crashed_while_it_copies(
        major,
        TABLE
            .replace("CREATE TABLE child", "CREATE UNLOGGED TABLE child")
            .as_str(),
        UNLOGGED,
    );
    let rows = stage.number(ROWS);
    let ran = stage.psql(UNLOGGED);
    for told in [
        "the server has crashed since",
        "public.t is not replaced; begin anew",
        "Nothing was changed",
    ] {
        assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
    }
    leaves_nothing(&stage);
    assert_eq!((persistence(&stage).as_str(), stage.number(ROWS)), ("p", rows));
    stage.psql(UNLOGGED).ok();
    assert_eq!((persistence(&stage).as_str(), stage.number(ROWS)), ("u", rows));
    leaves_nothing(&stage);
}

/// What was copied is not brought back in the place of what is written since.
fn a_crash_empties_the_table_and_nothing_is_swapped(major: u32) {
    let setup = TABLE.replace("CREATE TABLE", "CREATE UNLOGGED TABLE");
    let stage = crashed_while_it_copies(major, &setup, LOGGED);
    assert_eq!(stage.number("SELECT count(*) FROM t"), 0);
    stage.psql("INSERT INTO t VALUES (1, 1)").ok();
    for _ in 0..2 {
        let ran = stage.psql(LOGGED);
        for told in [
            "public.t has lost its rows, and is not replaced; those that were copied before are in lockkeeper_1.t",
            "Job 1 is failed: t is not replaced.",
            "To leave nothing of it: lockkeeper jobs --dsn … cancel 1",
        ] {
            assert!(ran.stderr.contains(told), "{told}: {}", ran.stderr);
        }
        assert!(!ran.stderr.contains("To go on"), "{}", ran.stderr);
    }
    assert!(stage.number("SELECT count(*) FROM lockkeeper_1.t") > 0);
    assert_eq!(
        (persistence(&stage).as_str(), stage.number("SELECT count(*) FROM t")),
        ("u", 1)
    );
    lockkeeper(&stage, &["cancel", "1"]);
    leaves_nothing(&stage);
    stage.psql(LOGGED).ok();
    assert_eq!(
        (persistence(&stage).as_str(), stage.number("SELECT count(*) FROM t")),
        ("p", 1)
    );
    leaves_nothing(&stage);
}

on_both!(
    it_is_done_where_the_server_would_do_it,
    a_partitioned_table_is_the_server_s,
    check_says_that_it_is_rewritten,
    a_crash_gives_it_up,
    a_crash_empties_the_table_and_nothing_is_swapped,
);
