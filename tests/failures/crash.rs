//! The proxy is killed between any two statements of a plan; a new one and the same statement again end where a direct
//! run ends.

use super::{LARGE, USERS, gone, large, pid_of, query, session, wait_for};
use lockkeeper_testkit::raw::{Raw, command_tags, error_field, rows};
use lockkeeper_testkit::{Stage, cluster, until};

/// Stops a session named `doomed` before its nth DDL command for as long as somebody holds advisory lock 7, and holds
/// lock 8 meanwhile. It polls, since a lock that it waits for would be subject to lock_timeout.
const GATE: &str = "
    CREATE SCHEMA gate;
    CREATE SEQUENCE gate.count;
    CREATE TABLE gate.at (n bigint);
    INSERT INTO gate.at VALUES (0);
    CREATE FUNCTION gate.wait() RETURNS event_trigger LANGUAGE plpgsql AS $$
    BEGIN
      -- What is tried on empty copies and undone within one statement has no steps.
      IF current_setting('application_name') <> 'doomed' OR current_query() LIKE 'DO $lockkeeper_trial$%'
         OR nextval('gate.count') <> (SELECT n FROM gate.at) THEN
        RETURN;
      END IF;
      PERFORM pg_advisory_lock(8);
      WHILE EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND objid = 7
                    AND database = (SELECT oid FROM pg_database WHERE datname = current_database())) LOOP
        PERFORM pg_sleep(0.005);
      END LOOP;
      PERFORM pg_advisory_unlock(8);
    END $$;
    CREATE EVENT TRIGGER gate ON ddl_command_start EXECUTE FUNCTION gate.wait();";

const AT_GATE: &str = "SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 1 AND objid = 8
    AND database = (SELECT oid FROM pg_database WHERE datname = current_database()))";

/// Everything that a plan could leave: the schema, its marks, and whether the rows have their values.
fn state(stage: &Stage, check: &str) -> String {
    let schema = stage.schema();
    let own: Vec<&str> = schema.lines().filter(|line| !line.starts_with("gate.")).collect();
    let marks = stage.direct("SELECT description FROM pg_description WHERE description LIKE 'lockkeeper:%'");
    let checked = stage.direct(check);
    format!("{}\nmarks: {marks}\nrows: {checked}", own.join("\n"))
}

/// A session whose server process does not look for its client while it is busy, as is PostgreSQL's default.
fn doomed(stage: &Stage) -> Raw {
    let mut raw = session(stage.port, &stage.database, "doomed");
    raw.query("SET client_connection_check_interval = 0");
    raw
}

/// What becomes of the server's process that the dead proxy has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Orphan {
    Terminated,
    /// It finishes what it was doing, and only then finds its client gone.
    Finishes,
}

/// `gates` is how many DDL commands the plan has at least, so that nothing is tested by nothing.
#[track_caller]
fn killed_at_every_step(major: u32, statement: &str, check: &str, gates: u64) {
    killed_at_every_step_after(major, "", statement, check, gates);
}

/// `more` is made after [`USERS`].
#[track_caller]
fn killed_at_every_step_after(major: u32, more: &str, statement: &str, check: &str, gates: u64) {
    let direct = Stage::without_proxy(cluster(major), "direct");
    direct.direct(&format!("{USERS} {more}"));
    direct.direct(statement);
    let wanted = state(&direct, check);

    let mut stage = Stage::on(cluster(major), "killed", LARGE, &[]);
    stage.direct(GATE);
    let mut watch = Raw::connect(cluster(major).port(), &stage.database);
    for n in 1.. {
        // Both at every second step; the other version has them the other way round.
        let orphan = if (n % 2 == 0) == (major == 15) {
            Orphan::Terminated
        } else {
            Orphan::Finishes
        };
        stage.direct(&format!(
            "DROP SCHEMA public CASCADE; CREATE SCHEMA public; ALTER SEQUENCE gate.count RESTART; \
                 UPDATE gate.at SET n = {n}; {USERS} {more}"
        ));
        watch.query("SELECT pg_advisory_lock(7)");
        let mut doomed = doomed(&stage);
        let pid = pid_of(&doomed);
        let sent = query(statement);
        let client = std::thread::spawn(move || {
            doomed.send(&sent);
            doomed.until_ready()
        });
        until("the gate or the end of the statement", || {
            client.is_finished() || rows(&watch.query(AT_GATE)) == ["t"]
        });
        let passed = client.is_finished();
        if !passed {
            stage.kill_proxy();
            if orphan == Orphan::Terminated {
                watch.query(&format!("SELECT pg_terminate_backend({pid})"));
                wait_for(&mut watch, &gone("doomed"));
            }
        }
        watch.query("SELECT pg_advisory_unlock(7)");
        let answer = client.join().unwrap();
        if passed {
            assert_eq!(error_field(&answer, b'M'), None, "{statement}");
            assert!(n > gates, "{statement}: only {} commands of DDL", n - 1);
            assert_eq!(state(&stage, check), wanted, "{statement}, never killed");
            return;
        }
        wait_for(&mut watch, &gone("doomed"));
        stage.start_proxy(&[]);
        let again = stage.psql(statement);
        let what = format!("{statement}, killed before command {n}, the orphan: {orphan:?}");
        // An orphan that did all of it leaves nothing to do, which PostgreSQL itself calls an error.
        if again.status != 0 {
            assert!(
                orphan == Orphan::Finishes
                    && [
                        "already exists",
                        "does not exist",
                        "is already a partition",
                        "is not a partition",
                        "multiple primary keys"
                    ]
                    .iter()
                    .any(|said| again.stderr.contains(said)),
                "{what}: {again:?}"
            );
        }
        assert_eq!(state(&stage, check), wanted, "{what}");
    }
}

const NO_ROWS: &str = "SELECT count(*) FROM users";

#[test]
fn killed_within_set_not_null() {
    for major in [15, 18] {
        killed_at_every_step(major, "ALTER TABLE users ALTER COLUMN email SET NOT NULL", NO_ROWS, 3);
    }
}

#[test]
fn killed_within_add_check() {
    for major in [15, 18] {
        let sql = "ALTER TABLE users ADD CONSTRAINT users_email_check CHECK (email <> '')";
        killed_at_every_step(major, sql, NO_ROWS, 2);
    }
}

#[test]
fn killed_within_add_foreign_key() {
    for major in [15, 18] {
        let sql = "ALTER TABLE users ADD CONSTRAINT users_org_fkey FOREIGN KEY (org_id) REFERENCES orgs (id)";
        killed_at_every_step(major, sql, NO_ROWS, 2);
    }
}

#[test]
fn killed_within_a_volatile_default() {
    for major in [15, 18] {
        let sql = "ALTER TABLE users ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()";
        killed_at_every_step(major, sql, "SELECT count(*), count(token) FROM users", 4);
    }
}

#[test]
fn killed_within_an_index_and_a_unique_constraint() {
    killed_at_every_step(18, "CREATE UNIQUE INDEX users_email_idx ON users (email)", NO_ROWS, 1);
    for major in [15, 18] {
        let sql = "ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE (email)";
        killed_at_every_step(major, sql, NO_ROWS, 2);
    }
}

/// An ALTER TABLE that is split goes on behind the actions that it has done.
#[test]
fn killed_within_a_split_alter_table() {
    for major in [15, 18] {
        let sql = "ALTER TABLE users ADD COLUMN a int DEFAULT 1, ADD CONSTRAINT users_email_check CHECK (email <> ''), \
                   ADD CONSTRAINT users_email_key UNIQUE (email), ALTER COLUMN seen SET DEFAULT true, ADD CONSTRAINT users_id_check CHECK (id > 0)";
        killed_at_every_step(major, sql, NO_ROWS, 10);
    }
}

#[test]
fn killed_within_a_drop_of_two_indexes() {
    for major in [15, 18] {
        let sql = "DROP INDEX users_one, users_two";
        killed_at_every_step_after(
            major,
            "CREATE INDEX users_one ON users (email); CREATE INDEX users_two ON users (seen);",
            sql,
            NO_ROWS,
            3,
        );
    }
}

const EVENTS: &str = "
    CREATE TABLE events (id bigint, day int, note text) PARTITION BY RANGE (day);
    CREATE TABLE events_1 PARTITION OF events FOR VALUES FROM (0) TO (10);
    CREATE TABLE events_2 PARTITION OF events FOR VALUES FROM (10) TO (20) PARTITION BY LIST (id);
    CREATE TABLE events_2_a PARTITION OF events_2 DEFAULT;
    CREATE TABLE events_rest PARTITION OF events DEFAULT;
    CREATE TABLE events_9 (id bigint, day int, note text);
    INSERT INTO events SELECT 1 + n % 10, n % 30, 'x' FROM generate_series(1, 300) n;
    INSERT INTO events_9 SELECT n, 95, 'x' FROM generate_series(1, 300) n;
    ANALYZE;";

#[test]
fn killed_within_an_index_of_a_partitioned_table() {
    for major in [15, 18] {
        killed_at_every_step_after(major, EVENTS, "CREATE INDEX events_note ON events (note)", NO_ROWS, 8);
        killed_at_every_step_after(
            major,
            EVENTS,
            "CREATE INDEX events_lower ON events (lower(note))",
            NO_ROWS,
            8,
        );
    }
}

#[test]
fn killed_within_a_foreign_key_of_a_partitioned_table() {
    for major in [15, 18] {
        let fixture = format!("{EVENTS} ALTER TABLE users ADD UNIQUE (id, email);");
        killed_at_every_step_after(
            major,
            &fixture,
            "ALTER TABLE events ADD CONSTRAINT events_id_fkey FOREIGN KEY (id) REFERENCES users (id)",
            NO_ROWS,
            2,
        );
    }
}

#[test]
fn killed_within_attach_partition() {
    for major in [15, 18] {
        let sql = "ALTER TABLE events ATTACH PARTITION events_9 FOR VALUES FROM (90) TO (99)";
        let fixture = format!("{EVENTS} CREATE INDEX events_id ON events (id);");
        killed_at_every_step_after(major, &fixture, sql, NO_ROWS, 6);
        let sql = "CREATE TABLE events_8 PARTITION OF events FOR VALUES FROM (80) TO (89)";
        killed_at_every_step_after(major, EVENTS, sql, NO_ROWS, 3);
        let fixture = format!("{EVENTS} DROP TABLE events_rest;");
        let sql = "ALTER TABLE events ATTACH PARTITION events_9 DEFAULT";
        killed_at_every_step_after(major, &fixture, sql, NO_ROWS, 3);
    }
}

/// What a default partition may hold depends on its siblings: one that comes between the proof and the attachment makes it void.
#[test]
fn a_partition_that_comes_meanwhile_is_seen_before_the_attachment() {
    for major in [15, 18] {
        let stage = Stage::on(cluster(major), "meanwhile", LARGE, &[]);
        stage.direct(
            "CREATE TABLE p (a int) PARTITION BY LIST (a); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1); CREATE TABLE p_2 (a int); \
             CREATE TABLE c AS SELECT 5 AS a FROM generate_series(1, 300); ANALYZE",
        );
        let attached = "SELECT coalesce(string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text), '') FROM pg_inherits";
        let left = "SELECT count(*) FROM pg_constraint WHERE conrelid = 'c'::regclass AND contype = 'c'";
        let attach = "ALTER TABLE p ATTACH PARTITION c DEFAULT";
        let mut other = Raw::connect(cluster(major).port(), &stage.database);
        let mut watch = Raw::connect(cluster(major).port(), &stage.database);
        other.query("BEGIN");
        other.query("ALTER TABLE p ATTACH PARTITION p_2 FOR VALUES IN (2)");
        let mut client = session(stage.port, &stage.database, "client");
        let client = std::thread::spawn(move || client.query(attach));
        wait_for(
            &mut watch,
            "SELECT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'c'::regclass AND contype = 'c' AND convalidated)",
        );
        other.query("COMMIT");
        let answer = client.join().unwrap();
        assert_eq!(error_field(&answer, b'C').as_deref(), Some("55000"), "{major}");
        assert_eq!(stage.direct(attached), "p_1 p_2");

        // Sent again, it is proven anew, and what the first proof has left is gone too.
        let again = stage.psql(attach);
        assert_eq!(again.status, 0, "{again:?}");
        assert_eq!(
            (stage.direct(attached), stage.direct(left)),
            ("c p_1 p_2".to_owned(), "0".to_owned())
        );
    }
}

/// In a transaction the rows are proven behind its COMMIT, each attachment by a CHECK of its own.
#[test]
fn two_attachments_beside_one_default_partition_wait_for_the_commit() {
    for major in [15, 18] {
        let stage = Stage::on(cluster(major), "two", LARGE, &[]);
        stage.direct(
            "CREATE TABLE p (a int, b text) PARTITION BY RANGE (a, b); CREATE TABLE rest PARTITION OF p DEFAULT; \
             INSERT INTO p SELECT g, 'x' FROM generate_series(100, 400) g; \
             CREATE TABLE c AS SELECT 5 AS a, 'c' AS b FROM generate_series(1, 300); CREATE TABLE d AS SELECT 6 AS a, 'd' AS b \
             FROM generate_series(1, 300); ANALYZE",
        );
        let done = stage.psql(
            "BEGIN; ALTER TABLE p ATTACH PARTITION c FOR VALUES FROM (5, 'a') TO (5, 'z'); \
             ALTER TABLE p ATTACH PARTITION d FOR VALUES FROM (6, 'a') TO (6, 'z'); COMMIT",
        );
        assert_eq!(done.status, 0, "{done:?}");
        let attached =
            "SELECT string_agg(inhrelid::regclass::text, ' ' ORDER BY inhrelid::regclass::text) FROM pg_inherits";
        assert_eq!(stage.direct(attached), "c d rest");
        assert_eq!(
            stage.direct("SELECT count(*) FROM pg_constraint WHERE contype = 'c' AND conname LIKE 'lockkeeper%'"),
            "0"
        );
    }
}

#[test]
fn killed_within_detach_partition() {
    for major in [15, 18] {
        let fixture = format!("{EVENTS} DROP TABLE events_rest;");
        killed_at_every_step_after(
            major,
            &fixture,
            "ALTER TABLE events DETACH PARTITION events_1",
            NO_ROWS,
            1,
        );
    }
}

#[test]
fn killed_within_a_primary_key() {
    for major in [15, 18] {
        let bare =
            "CREATE TABLE bare (a int, b int); INSERT INTO bare SELECT n, n FROM generate_series(1, 300) n; ANALYZE;";
        killed_at_every_step_after(major, bare, "ALTER TABLE bare ADD PRIMARY KEY (a)", NO_ROWS, 4);
        let key = "CREATE TABLE parts (a int, b int) PARTITION BY HASH (a);
            CREATE TABLE parts_0 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 0);
            CREATE TABLE parts_1 PARTITION OF parts FOR VALUES WITH (MODULUS 2, REMAINDER 1);
            INSERT INTO parts SELECT n, n FROM generate_series(1, 300) n; ANALYZE;";
        killed_at_every_step_after(major, key, "ALTER TABLE parts ADD PRIMARY KEY (a)", NO_ROWS, 7);
    }
}

/// A writer that was there before keeps a build waiting with its index in the catalog, INVALID.
fn killed_within_an_index_build(major: u32, orphan: Orphan) {
    let mut stage = large(major, "build");
    let direct = cluster(major).port();
    let mut watch = Raw::connect(direct, &stage.database);
    let mut writer = Raw::connect(direct, &stage.database);
    writer.query("BEGIN");
    writer.query("UPDATE users SET seen = true WHERE id = 1");
    let mut doomed = doomed(&stage);
    doomed.send(&query("CREATE INDEX users_email_idx ON users (email)"));
    let pid = pid_of(&doomed);
    wait_for(
        &mut watch,
        "SELECT EXISTS (SELECT FROM pg_index WHERE NOT indisvalid) AND EXISTS (SELECT FROM pg_locks WHERE NOT granted)",
    );
    stage.kill_proxy();
    stage.start_proxy(&[]);
    if orphan == Orphan::Terminated {
        watch.query(&format!("SELECT pg_terminate_backend({pid})"));
        wait_for(&mut watch, &gone("doomed"));
    }
    let mut again = session(stage.port, &stage.database, "again");
    again.send(&query("CREATE INDEX users_email_idx ON users (email)"));
    wait_for(
        &mut watch,
        "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE NOT granted AND application_name = 'again')",
    );
    writer.query("COMMIT");
    let answer = again.until_ready();
    wait_for(&mut watch, &gone("doomed"));
    if let Some(code) = error_field(&answer, b'C') {
        // While somebody else is still building that very index, the server's own error is right.
        assert_eq!((orphan, code.as_str()), (Orphan::Finishes, "42P07"), "{answer:?}");
    }
    assert_eq!(
        stage.direct(
            "SELECT indexrelid::regclass::text, indisvalid FROM pg_index WHERE indrelid = 'users'::regclass ORDER BY 1"
        ),
        "users_email_idx|t\nusers_pkey|t",
        "{orphan:?}: {answer:?}"
    );
}

#[test]
fn killed_within_an_index_build_whose_process_ends() {
    killed_within_an_index_build(15, Orphan::Terminated);
    killed_within_an_index_build(18, Orphan::Terminated);
}

#[test]
fn killed_within_an_index_build_whose_process_goes_on() {
    killed_within_an_index_build(18, Orphan::Finishes);
}

#[test]
fn killed_within_a_batch_run() {
    let mut stage = large(18, "batches");
    let mut watch = Raw::connect(stage.cluster.port(), &stage.database);
    let mut holder = Raw::connect(stage.cluster.port(), &stage.database);
    holder.query("BEGIN");
    holder.query("SELECT FROM users WHERE id = 450 FOR UPDATE");
    let mut doomed = doomed(&stage);
    doomed.send(&query("UPDATE users SET seen = false WHERE seen IS NULL"));
    wait_for(&mut watch, "SELECT count(*) = 400 FROM users WHERE seen = false");
    stage.kill_proxy();
    wait_for(&mut watch, &gone("doomed"));
    holder.query("ROLLBACK");
    assert_eq!(
        stage.direct("SELECT count(*) FROM users WHERE seen = false"),
        "400",
        "whole batches, and no more after the kill"
    );
    stage.start_proxy(&[]);
    let mut again = Raw::connect(stage.port, &stage.database);
    assert_eq!(
        command_tags(&again.query("UPDATE users SET seen = false WHERE seen IS NULL")),
        ["UPDATE 1000"],
        "the count of both runs"
    );
    assert_eq!(stage.direct("SELECT count(*) FROM users WHERE seen IS NULL"), "0");
    // What was begun is in the audit log, although nobody could write its end.
    assert!(stage.audit_lines().iter().any(|line| line["event"] == "planned"));
}
