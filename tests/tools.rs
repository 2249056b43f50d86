//! PostgreSQL's own client programs through the proxy: pgbench in its three protocols, and a dump restored in every usual way.

use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::{Ran, Stage, cluster};
use std::process::Command;

/// Every table counts as large.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\npause_ms = 1\n";

fn program(stage: &Stage, port: u16, name: &str, arguments: &[&str]) -> Ran {
    let path = stage
        .cluster
        .bin(name)
        .expect("the programs of postgresql-15 are installed");
    let mut command = Command::new(path);
    clean_environment(&mut command);
    command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
    command.args(arguments);
    lockkeeper_testkit::run(command, "")
}

fn pgbench(major: u32) {
    let stage = Stage::with(major, "bench", POLICY);
    program(&stage, stage.port, "pgbench", &["-i", "-q", "-s", "1", &stage.database]).ok();
    let audited = stage.audit_lines().len();
    let accounts = |sql: &str| stage.direct(sql).trim().parse::<i64>().unwrap();
    let mut expected = 0;
    for protocol in ["simple", "extended", "prepared"] {
        let out = program(
            &stage,
            stage.port,
            "pgbench",
            &["-n", "-M", protocol, "-c", "4", "-j", "2", "-t", "50", &stage.database],
        )
        .ok();
        assert!(out.contains("number of failed transactions: 0 "), "{out}");
        let processed = out
            .lines()
            .find_map(|l| l.strip_prefix("number of transactions actually processed: "));
        let processed: i64 = processed
            .and_then(|n| n.split('/').next()?.trim().parse().ok())
            .unwrap();
        assert_eq!(processed, 200, "{out}");
        expected += processed;
        // Each transaction leaves one row of history, and the three sums agree.
        assert_eq!(accounts("SELECT count(*) FROM pgbench_history"), expected, "{protocol}");
    }
    // Pipeline mode: a whole transaction before each Sync.
    let script = stage.policy_file().with_file_name("pipeline.sql");
    let text = "\\set aid random(1, 100000)\n\\startpipeline\nBEGIN;\n\
                UPDATE pgbench_accounts SET abalance = abalance + 1 WHERE aid = :aid;\n\
                UPDATE pgbench_tellers SET tbalance = tbalance + 1 WHERE tid = 1;\n\
                UPDATE pgbench_branches SET bbalance = bbalance + 1 WHERE bid = 1;\n\
                INSERT INTO pgbench_history (tid, bid, aid, delta, mtime) VALUES (1, 1, :aid, 1, CURRENT_TIMESTAMP);\n\
                SELECT abalance FROM pgbench_accounts WHERE aid = :aid;\nEND;\n\\endpipeline\n";
    std::fs::write(&script, text).unwrap();
    for protocol in ["extended", "prepared"] {
        let arguments = [
            "-n",
            "-M",
            protocol,
            "-c",
            "4",
            "-t",
            "25",
            "-f",
            script.to_str().unwrap(),
            &stage.database,
        ];
        let out = program(&stage, stage.port, "pgbench", &arguments).ok();
        assert!(
            out.contains("number of transactions actually processed: 100/100"),
            "{out}"
        );
        expected += 100;
        assert_eq!(accounts("SELECT count(*) FROM pgbench_history"), expected, "{protocol}");
    }
    let sums = "SELECT count(DISTINCT s) FROM (SELECT sum(abalance) s FROM pgbench_accounts UNION ALL SELECT sum(tbalance) FROM pgbench_tellers
        UNION ALL SELECT sum(bbalance) FROM pgbench_branches UNION ALL SELECT sum(delta) FROM pgbench_history) x";
    assert_eq!(accounts(sums), 1);
    // Point updates by key are none of the proxy's business: nothing is audited.
    assert_eq!(stage.audit_lines().len(), audited);
}

#[test]
fn pgbench_runs_without_a_failure_15() {
    pgbench(15);
}

#[test]
fn pgbench_runs_without_a_failure_18() {
    pgbench(18);
}

const SOURCE: &str = r#"
CREATE SCHEMA "odd schema";
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive AS int CHECK (VALUE > 0);
CREATE TABLE teams (id bigserial PRIMARY KEY, name text NOT NULL UNIQUE);
INSERT INTO teams (name) SELECT 'team ' || g FROM generate_series(1, 30) g;
CREATE TABLE users (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, email text, age positive, mood mood DEFAULT 'ok',
                    team_id bigint REFERENCES teams, boss bigint REFERENCES users, CHECK (length(email) > 2),
                    low text GENERATED ALWAYS AS (lower(email)) STORED);
INSERT INTO users (email, age, team_id, boss) SELECT E'M\t' || g || '\\x', g, 1 + g % 30, 1 FROM generate_series(1, 900) g;
CREATE INDEX ON users (lower(email)) WHERE age > 5;
CREATE UNIQUE INDEX "Mixed Case" ON users (email) INCLUDE (age);
CREATE TABLE "odd schema"."Odd Table" ("a b" int PRIMARY KEY, t tsrange);
INSERT INTO "odd schema"."Odd Table" SELECT g, tsrange('2020-01-01'::timestamp + g * interval '1 day', '2020-01-01'::timestamp + g * interval '1 day' + interval '1 hour') FROM generate_series(1, 50) g;
CREATE TABLE events (id bigint, at date NOT NULL, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE events_2024 PARTITION OF events FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE events_2025 PARTITION OF events FOR VALUES FROM ('2025-01-01') TO ('2026-01-01');
INSERT INTO events SELECT g, '2024-06-01'::date + g FROM generate_series(1, 400) g;
CREATE INDEX events_at ON events (at);
CREATE VIEW adults AS SELECT * FROM users WHERE age > 17;
CREATE MATERIALIZED VIEW ages AS SELECT age, count(*) FROM users GROUP BY age;
CREATE UNIQUE INDEX ages_age ON ages (age);
CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.age := NEW.age; RETURN NEW; END $$;
CREATE TRIGGER touched BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
COMMENT ON TABLE users IS 'who';
ALTER TABLE users ENABLE ROW LEVEL SECURITY;
CREATE POLICY all_of_them ON users USING (true);
CREATE STATISTICS s ON age, team_id FROM users;
"#;

/// On a large table this has no safe form, so that only small ones and those of the same transaction get it.
const EXCLUDE: &str = "ALTER TABLE \"odd schema\".\"Odd Table\" ADD EXCLUDE USING gist (t WITH &&)";

fn dump(stage: &Stage, database: &str, arguments: &[&str]) -> String {
    let dumped = program(
        stage,
        stage.cluster.port(),
        "pg_dump",
        &[arguments, &["--no-owner", database]].concat(),
    )
    .ok();
    // Newer minor versions frame the dump with a random key: \restrict KEY.
    let kept = dumped
        .lines()
        .filter(|l| !l.starts_with("\\restrict") && !l.starts_with("\\unrestrict"));
    kept.map(|l| format!("{l}\n")).collect()
}

/// Restored through the proxy the database dumps as its source does, whether its tables count as large or not.
#[test]
fn a_dump_restored_through_the_proxy_equals_its_source() {
    let source = Stage::without_proxy(cluster(15), "source");
    source.direct(SOURCE);
    let without = dump(&source, &source.database, &[]);
    source.direct(EXCLUDE);
    let text = dump(&source, &source.database, &[]);
    assert!(text.contains("ADD CONSTRAINT") && text.contains("CREATE INDEX"));
    for (policy, how, text) in [
        (POLICY, &["-v", "ON_ERROR_STOP=1"][..], &without),
        (POLICY, &["-v", "ON_ERROR_STOP=1", "-1"], &text),
        (lockkeeper_testkit::QUICK, &["-v", "ON_ERROR_STOP=1"], &text),
    ] {
        let stage = Stage::with(15, "restored", policy);
        stage.psql_args(how, text).ok();
        assert_eq!(dump(&stage, &stage.database, &[]), *text, "{how:?}");
        let concurrent = stage.received().iter().any(|sql| sql.contains("CONCURRENTLY"));
        // In one transaction nobody else sees the tables, and small ones are left alone.
        assert_eq!(
            concurrent,
            policy == POLICY && how.len() == 2,
            "{how:?}: {:#?}",
            stage.received()
        );
        let left = "SELECT count(*) FROM pg_index WHERE NOT indisvalid";
        assert_eq!(stage.direct(left).trim(), "0");
        stage
            .psql("INSERT INTO users (email, age) VALUES ('new', 3); INSERT INTO teams (name) VALUES ('new');")
            .ok();
    }
}

#[test]
fn pg_restore_in_parallel_equals_its_source() {
    let source = Stage::without_proxy(cluster(15), "packed");
    source.direct(SOURCE);
    source.direct(EXCLUDE);
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("dump");
    let file = file.to_str().unwrap();
    program(
        &source,
        source.cluster.port(),
        "pg_dump",
        &["-Fc", "--no-owner", "-f", file, &source.database],
    )
    .ok();
    let stage = Stage::with(15, "unpacked", lockkeeper_testkit::QUICK);
    program(
        &stage,
        stage.port,
        "pg_restore",
        &["-j", "3", "--no-owner", "-e", "-d", &stage.database, file],
    )
    .ok();
    assert_eq!(dump(&stage, &stage.database, &[]), dump(&source, &source.database, &[]));
    // A second time over what is in use now: refused, and all is as it was.
    let again = program(
        &stage,
        stage.port,
        "pg_restore",
        &[
            "--clean",
            "-t",
            "users",
            "--if-exists",
            "--no-owner",
            "-e",
            "-d",
            &stage.database,
            file,
        ],
    );
    assert_ne!(again.status, 0);
    assert!(
        again.stderr.contains("DROP TABLE loses the data of public.users"),
        "{}",
        again.stderr
    );
    assert_eq!(stage.direct("SELECT count(*) FROM users").trim(), "900");
}
