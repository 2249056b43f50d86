//! The way back after a swap: the old table with the rows written since, or none, and nothing is lost.

use super::*;

/// The table as it was before its rewrite, with the rows written since.
fn back_to_the_old_table(major: u32) {
    let stage = stage(major, "rewrite_back", &format!("{MIRRORED}{CHILDREN}"));
    let before = stage.schema();
    runs(async {
        let writers = writers(&stage, true).await;
        writers.more(100).await;
        let with = "ALTER TABLE t ALTER id TYPE bigint, ADD c int DEFAULT 5";
        let mut process = Process::start(&stage, &["t", "--with", with, "--keep-old", "--pause-ms", "0"]);
        while process.has_ended().is_none() {
            writers.more(10).await;
        }
        assert!(process.said().contains("the old table is kept"), "{}", process.said());
        process.ends();
        assert_eq!(phase(&stage, 1), "kept");
        let (list, show) = (jobs(&stage, &["list"]).ok(), jobs(&stage, &["show", "1"]).ok());
        assert!(list.contains(" kept "), "{list}");
        assert!(show.contains("\ndue ") && show.contains("back 1"), "{show}");
        writers.more(500).await;
        stage.direct("UPDATE t SET c = 6, n = n + 1 WHERE id % 100 = 7");
        jobs(&stage, &["back", "1"]).ok();
        writers.end().await;
    });
    is_mirrored(&stage);
    leaves_nothing(&stage);
    assert_eq!(stage.schema(), before);
    assert_eq!(stage.direct("SELECT state FROM lockkeeper.job"), "cancelled");
    let of = "SELECT count(*) FROM pg_constraint WHERE contype = 'f' AND convalidated AND confrelid = 't'::regclass";
    assert_eq!(stage.number(of), 2);
}

/// All that hangs on the table, there and back; triggers fire once for each row that an application writes, never for one that is made anew.
fn back_with_all_that_hangs_on_it(major: u32) {
    let stage = stage(
        major,
        "rewrite_back_all",
        &format!(
            "{EVERYTHING} CREATE TABLE fired (n int); CREATE FUNCTION fire() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO app.fired VALUES (NEW.n); RETURN NEW; END $$;
             CREATE TRIGGER fire AFTER INSERT OR UPDATE ON \"T x\" FOR EACH ROW EXECUTE FUNCTION fire();"
        ),
    );
    let dump = || match major {
        15 => stage.pg_dump_schema(),
        _ => stage.schema(),
    };
    let before = dump();
    rewrite(&stage, &["app.\"T x\"", "--keep-old"]).ok();
    // The old table's default does not hold the sequence.
    let holds = "SELECT count(*) FROM pg_depend d JOIN pg_attrdef a ON d.classid = 'pg_attrdef'::regclass AND d.objid = a.oid WHERE d.refobjid = 'app.\"T x_s_seq\"'::regclass";
    assert_eq!(stage.number(holds), 1);
    let write = "UPDATE app.\"T x\" SET n = n + 1 WHERE s = 3; INSERT INTO app.\"T x\" (parent_id, note, n, big) VALUES (1, 'new', 9, 'new'); DELETE FROM app.\"T x\" WHERE s = 500";
    stage.direct(write);
    let rows = || stage.direct("SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM app.\"T x\" t");
    let kept = rows();
    jobs(&stage, &["back", "1"]).ok();
    leaves_nothing(&stage);
    assert_eq!(dump(), before);
    assert_eq!(rows(), kept);
    assert_eq!(stage.number("SELECT count(*) FROM app.fired"), 2);
    stage.direct(&write.replace("9, 'new')", "10, 'newer')").replace("s = 500", "s = 600"));
}

/// A value that the old type cannot hold ends the way back, and is named; without it the way is open again.
fn back_ends_at_a_value_that_does_not_fit(major: u32) {
    let stage = stage(major, "rewrite_back_wide", MIRRORED);
    let with = "ALTER TABLE t ALTER id TYPE bigint";
    rewrite(&stage, &["t", "--with", with, "--keep-old=3600"]).ok();
    stage.direct("INSERT INTO t SELECT g, 'w' || g, 1 FROM generate_series(30001, 30050) g; INSERT INTO t VALUES (3000000000, 'far', 1, 'x'); UPDATE t SET n = -5 WHERE id < 100");
    let rows = || stage.direct("SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM t");
    let before = rows();
    let ran = jobs(&stage, &["back", "1"]);
    assert_eq!(ran.status, 1, "{}", ran.stdout);
    for words in ["id = 3000000000", "out of range", "is the new table as before"] {
        assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
    }
    assert_eq!(rows(), before);
    stage.direct("UPDATE t SET n = 6 WHERE id = 5");
    assert!(jobs(&stage, &["list"]).ok().contains(" kept "));
    stage.direct("DELETE FROM t WHERE id = 3000000000");
    jobs(&stage, &["back", "1"]).ok();
    is_mirrored(&stage);
    leaves_nothing(&stage);
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE n IN (-5, 6)"), 99);
}

/// What would silently be cut to fit is found as well, by comparing.
fn back_cuts_no_value(major: u32) {
    let stage = stage(
        major,
        "rewrite_back_cut",
        "CREATE TABLE t (id int PRIMARY KEY, v varchar(3)); INSERT INTO t SELECT g, 'a' FROM generate_series(1, 100) g",
    );
    rewrite(
        &stage,
        &["t", "--with", "ALTER TABLE t ALTER v TYPE text", "--keep-old"],
    )
    .ok();
    stage.direct("UPDATE t SET v = 'abcd' WHERE id = 7");
    let ran = jobs(&stage, &["back", "1"]);
    assert!(ran.status == 1 && ran.stderr.contains("differ"), "{ran:?}");
    assert_eq!(stage.direct("SELECT v FROM t WHERE id = 7"), "abcd");
    stage.direct("UPDATE t SET v = 'abc' WHERE id = 7");
    jobs(&stage, &["back", "1"]).ok();
    leaves_nothing(&stage);
    assert_eq!(stage.direct("SELECT v FROM t WHERE id = 7"), "abc");
}

/// Where no inverse is known, it is said before; and what has changed since ends the way back until it is undone.
fn back_only_where_it_leads(major: u32) {
    let stage = stage(
        major,
        "rewrite_back_not",
        "CREATE TABLE t (id int PRIMARY KEY, v int, w int); INSERT INTO t SELECT g, g, g FROM generate_series(1, 100) g",
    );
    for (job, (with, why)) in (1..).zip([
        ("ALTER TABLE t ALTER v TYPE bigint USING v * 2", "USING"),
        ("ALTER TABLE t DROP w", "is dropped"),
    ]) {
        let told = rewrite(&stage, &["t", "--with", with, "--keep-old", "--dry-run"]).ok();
        assert!(told.contains("There is no way back") && told.contains(why), "{told}");
        rewrite(&stage, &["t", "--with", with, "--keep-old"]).ok();
        let ran = jobs(&stage, &["back", &job.to_string()]);
        assert!(ran.status == 1 && ran.stderr.contains(why), "{ran:?}");
        jobs(&stage, &["finish", &job.to_string()]).ok();
        leaves_nothing(&stage);
    }
    rewrite(&stage, &["t", "--keep-old"]).ok();
    let again = rewrite(&stage, &["t"]);
    assert!(again.stderr.contains("another rewrite"), "{again:?}");
    let cancel = jobs(&stage, &["cancel", "3"]);
    assert!(cancel.stderr.contains("finish 3"), "{cancel:?}");
    stage.direct("CREATE INDEX later ON t (v)");
    let ran = jobs(&stage, &["back", "3"]);
    assert!(ran.status == 1 && ran.stderr.contains("index later"), "{ran:?}");
    stage.direct("DROP INDEX later; TRUNCATE t; INSERT INTO t VALUES (1, 2)");
    jobs(&stage, &["back", "3"]).ok();
    leaves_nothing(&stage);
    assert_eq!(stage.direct("SELECT t FROM t"), "(1,2)");
    assert_eq!(
        stage.number("SELECT count(*) FROM lockkeeper.job WHERE state = 'done'"),
        2
    );
}

fn start_back(stage: &Stage) -> Process {
    let mut command = command(stage, "postgres", &["jobs"], &["back", "1"]);
    let said = tempfile::tempfile().expect("a file");
    let clone = || Stdio::from(said.try_clone().expect("the same file"));
    command.stdin(Stdio::null()).stdout(clone()).stderr(clone());
    Process(command.spawn().expect("lockkeeper starts"), said)
}

/// Empty before it begins, and once nothing is left.
fn phase_back(stage: &Stage) -> String {
    let told = stage.direct_args(&["-A", "-t"], "SELECT phase FROM lockkeeper_1_old.state");
    told.stdout.trim().to_owned()
}

/// Triggers that somebody has switched off log again before the tables are compared: what is written behind that is not lost, and what was
/// written without them ends the way back.
fn back_with_triggers_that_were_off(major: u32) {
    let stage = stage(
        major,
        "rewrite_back_off",
        "CREATE TABLE t (id int PRIMARY KEY, email text, n int, pad text); INSERT INTO t SELECT g, 'm' || g, g, 'x' FROM generate_series(1, 20000) g",
    );
    let with = "ALTER TABLE t ALTER id TYPE bigint";
    rewrite(&stage, &["t", "--with", with, "--keep-old"]).ok();
    let all = "SELECT md5(string_agg(t::text, '|' ORDER BY id)) FROM t";
    stage.direct("ALTER TABLE t DISABLE TRIGGER ALL; UPDATE t SET n = -1 WHERE id = 7");
    let before = stage.direct(all);
    let ran = jobs(&stage, &["back", "1"]);
    for words in ["differ", "write these rows anew", "is the new table as before"] {
        assert!(ran.status == 1 && ran.stderr.contains(words), "{words}: {ran:?}");
    }
    assert_eq!(stage.direct(all), before);
    // As it was before one of its triggers logged nothing of a replica's apply.
    stage.direct("UPDATE t SET n = -1 WHERE id = 7; ALTER TABLE t DISABLE TRIGGER ALL; ALTER TABLE t ENABLE TRIGGER lockkeeper_1_key");
    let before = runs(async {
        // The swap waits for its snapshot.
        let old = stage.connect_direct().await;
        let begin = "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT 1";
        old.client.batch_execute(begin).await.expect("a snapshot");
        let mut process = start_back(&stage);
        until("all is compared", || {
            process.has_ended().is_some() || phase_back(&stage) == "ready"
        });
        stage.direct("SET session_replication_role = replica; INSERT INTO t VALUES (40001, 'late', 1, 'x'); UPDATE t SET n = -2 WHERE id = 8");
        let before = stage.direct(all);
        old.client.batch_execute("COMMIT").await.expect("its end");
        process.ends();
        before
    });
    assert_eq!(stage.direct(all), before);
    leaves_nothing(&stage);
    rewrite(&stage, &["t", "--with", with, "--keep-old"]).ok();
    stage.direct("DROP TRIGGER lockkeeper_2_key ON t");
    let ran = jobs(&stage, &["back", "2"]);
    assert!(ran.status == 1 && ran.stderr.contains("are gone"), "{ran:?}");
    jobs(&stage, &["finish", "2"]).ok();
    leaves_nothing(&stage);
}

/// Killed in whatever phase it is seen, it goes on, and no write is lost.
fn back_killed_anywhere(major: u32) {
    let stage = stage(major, "rewrite_back_killed", &format!("{MIRRORED}{CHILDREN}"));
    rewrite(
        &stage,
        &[
            "t",
            "--with",
            "ALTER TABLE t ALTER id TYPE bigint",
            "--keep-old",
            "--pause-ms",
            "0",
        ],
    )
    .ok();
    let mut look = Look::new(&stage, "lockkeeper_1_old");
    let mut seen: Vec<String> = Vec::new();
    runs(async {
        let writers = writers(&stage, true).await;
        let start = || start_back(&stage);
        writers.more(300).await;
        let mut process = start();
        loop {
            if let Some(well) = process.has_ended() {
                if well {
                    break;
                }
                assert!(process.said().contains("is running"), "{seen:?}: {}", process.said());
                process = start();
            }
            let now = look.phase();
            if !now.is_empty() && !seen.contains(&now) {
                process.kill();
                seen.push(now);
                writers.more(20).await;
                process = start();
            }
        }
        writers.end().await;
    });
    assert!(seen.len() >= 4, "{seen:?}");
    is_mirrored(&stage);
    leaves_nothing(&stage);
}

/// Dropped in the end, unless the proxies' ledger knows of somebody who still names it; what is due is listed so.
fn finished_the_old_table_goes(major: u32) {
    let stage = stage(major, "rewrite_finish", MIRRORED);
    rewrite(&stage, &["t", "--keep-old=0"]).ok();
    assert!(jobs(&stage, &["list"]).ok().contains(" due "));
    let json = jobs(&stage, &["--format", "json", "list"]).ok();
    assert!(json.contains("\"state\":\"due\""), "{json}");
    let guarded = stage.direct_args(&[], "UPDATE lockkeeper_1_old.t SET n = 0 WHERE id = 1");
    assert!(
        guarded.stderr.contains("was replaced by lockkeeper rewrite"),
        "{guarded:?}"
    );
    lockkeeper(&stage, "postgres", &["init"], &["--control-role", "postgres"]).ok();
    stage.direct(
        "INSERT INTO lockkeeper.usage (database, schema, relation, column_name, application, role_name, first_used, last_used, executions, statement)
         SELECT current_database(), 'lockkeeper_1_old', 't', '', 'report', 'ann', now(), now(), 1, 'SELECT * FROM lockkeeper_1_old.t'",
    );
    let ran = jobs(&stage, &["finish", "1"]);
    assert!(
        ran.status == 1 && ran.stderr.contains("is still used") && ran.stderr.contains("report"),
        "{ran:?}"
    );
    assert_eq!(phase(&stage, 1), "kept");
    jobs(&stage, &["finish", "1", "--even-if-used"]).ok();
    leaves_nothing(&stage);
    is_mirrored(&stage);
    assert_eq!(stage.direct("SELECT state FROM lockkeeper.job"), "done");
}

/// Two tables that are linked, begun together: one is done, the other is refused before anything is done, or waits for its turn.
fn linked_tables_are_not_rewritten_together(major: u32) {
    let stage = stage(
        major,
        "rewrite_linked",
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (id int PRIMARY KEY, p_id int REFERENCES p); INSERT INTO p VALUES (1); INSERT INTO c VALUES (1, 1)",
    );
    runs(async {
        let holder = stage.connect_direct().await;
        holder
            .client
            .batch_execute("BEGIN; CREATE SCHEMA lockkeeper_1")
            .await
            .expect("a name that is taken for now");
        let first = Process::start(&stage, &["p"]);
        let waits = "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'lockkeeper rewrite' AND wait_event_type = 'Lock')";
        until("it has made nothing yet", || stage.direct(waits) == "t");
        let ran = rewrite(&stage, &["c"]);
        assert!(
            ran.status == 1
                && ran
                    .stderr
                    .contains("linked with public.p, by the foreign key c_p_id_fkey"),
            "{ran:?}"
        );
        holder.client.batch_execute("ROLLBACK").await.expect("it is free");
        first.ends();
    });
    assert_eq!(stage.number("SELECT count(*) FROM lockkeeper.job"), 1);
    rewrite(&stage, &["c"]).ok();
    leaves_nothing(&stage);
}

/// An expression that has another value each time is refused before anything is done, also where the function hides in an operator.
fn volatile_values_are_refused(major: u32) {
    let stage = stage(
        major,
        "rewrite_volatile",
        "CREATE TABLE t (id int PRIMARY KEY, v int); INSERT INTO t VALUES (1, 1); CREATE FUNCTION lot(int, int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $2';
         CREATE OPERATOR +% (LEFTARG = int, RIGHTARG = int, FUNCTION = lot)",
    );
    for (using, function) in [
        ("v + random()", "random()"),
        ("(v +% 1)", "lot(integer,integer)"),
        ("CASE WHEN v > 0 THEN coalesce(v +% 1, 0) END", "lot(integer,integer)"),
    ] {
        let with = format!("ALTER TABLE t ALTER v TYPE bigint USING {using}");
        let ran = rewrite(&stage, &["t", "--with", &with]);
        assert!(ran.status == 1 && ran.stderr.contains(function), "{using}: {ran:?}");
        leaves_nothing(&stage);
    }
    rewrite(
        &stage,
        &[
            "t",
            "--with",
            "ALTER TABLE t ALTER v TYPE timestamptz USING now() + v * interval '1 day'",
            "--dry-run",
        ],
    )
    .ok();
}

on_both!(
    back_to_the_old_table,
    back_with_all_that_hangs_on_it,
    back_ends_at_a_value_that_does_not_fit,
    back_cuts_no_value,
    back_only_where_it_leads,
    back_killed_anywhere,
    back_with_triggers_that_were_off,
    finished_the_old_table_goes,
    linked_tables_are_not_rewritten_together,
    volatile_values_are_refused,
);
