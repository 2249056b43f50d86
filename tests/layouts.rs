//! `lockkeeper check` in directories of migration tools that keep a file of their own about them: the tool's order and transactions, and
//! an error where such a file and the directory do not agree.

use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::{Stage, cluster, run};
use serde_json::Value;
use std::process::Command;

const DESIGN: &str = "no-primary-key,int-primary-key,unindexed-foreign-key";
const TABLE: &str = "CREATE TABLE t (a bigint PRIMARY KEY);\n";
const NEW: &str = "CREATE INDEX ON t (a);\n";
const OLD: &str = "CREATE INDEX i ON pet (a);\n";
const TWO: &str = "SELECT 1;\nCREATE INDEX i ON pet (a);\n";
const ALONE: &str = "rewrite nonconcurrent-index";
const INSIDE: &str = "reject nonconcurrent-index";
const PLANNED: &str = "2026-01-02T03:04:05Z Ann <ann@example.com>";

struct Checked {
    code: i32,
    err: String,
    /// `file:line action rule`
    told: Vec<String>,
}

fn check(files: &[(&str, &str)], arguments: &[&str]) -> Checked {
    let directory = tempfile::tempdir().expect("a directory");
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
        std::fs::write(path, text).expect("written");
    }
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    clean_environment(&mut command);
    command.env("HOME", directory.path()).current_dir(directory.path());
    command
        .args(["check", "--format", "json", "--exclude", DESIGN])
        .args(arguments);
    let ran = run(command, "");
    let told = |line: &str| {
        let verdict: Value = serde_json::from_str(line).expect(line);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let action = text(&verdict["action"]);
        let rule = match action.as_str() {
            "forward" => String::new(),
            _ => format!(" {}", text(&verdict["findings"][0]["rule"])),
        };
        format!("{}:{} {action}{rule}", text(&verdict["file"]), verdict["line"])
    };
    Checked {
        code: ran.status,
        told: ran.stdout.lines().map(told).collect(),
        err: ran.stderr,
    }
}

#[track_caller]
fn tells(files: &[(&str, &str)], arguments: &[&str], expect: &[&str], note: &str) {
    let checked = check(files, arguments);
    assert_eq!(checked.told, expect, "{}", checked.err);
    assert!(checked.err.contains(note), "{note}: {}", checked.err);
    assert_ne!(checked.code, 2, "{}", checked.err);
}

#[track_caller]
fn refuses(files: &[(&str, &str)], arguments: &[&str], error: &str) {
    let checked = check(files, arguments);
    assert!(checked.err.contains(error), "{error}: {}", checked.err);
    assert_eq!((checked.code, checked.told.len()), (2, 0), "{:?}", checked.told);
}

const LOCK: (&str, &str) = ("prisma/migrations/migration_lock.toml", "provider = \"postgresql\"\n");

#[test]
fn prisma() {
    let (t, i) = (
        "prisma/migrations/9_t/migration.sql",
        "prisma/migrations/90_i/migration.sql",
    );
    // By the names' characters: 90_i before 9_t. What else lies there does not run.
    let down = ("prisma/migrations/9_t/down.sql", "DROP TABLE t;");
    let files = [LOCK, (t, TABLE), (i, TWO), down];
    let expect = [
        format!("{i}:1 forward"),
        format!("{i}:2 {INSIDE}"),
        format!("{t}:1 forward"),
    ];
    let expect: Vec<&str> = expect.iter().map(String::as_str).collect();
    for place in ["prisma/migrations", "prisma", "."] {
        let own = check(&files, &[place]);
        let own: Vec<&str> = own.told.iter().map(|told| told.trim_start_matches("./")).collect();
        assert_eq!(own, expect, "{place}");
    }
    tells(
        &files,
        &["prisma"],
        &expect,
        "prisma/migrations: note: taken for files of Prisma",
    );
    // Alone in its file, the same statement is no transaction; a file that is named by itself is Prisma's all the same.
    tells(&[LOCK, (t, OLD)], &["prisma"], &[&format!("{t}:1 {ALONE}")], "");
    tells(
        &[LOCK, (t, TWO)],
        &[t],
        &[&format!("{t}:1 forward"), &format!("{t}:2 {INSIDE}")],
        "",
    );
    tells(
        &[LOCK, (t, TWO)],
        &["prisma", "--tool", "psql"],
        &[&format!("{t}:1 forward"), &format!("{t}:2 {ALONE}")],
        "",
    );

    refuses(
        &[LOCK, (t, TABLE), ("prisma/migrations/2_x/other.sql", OLD)],
        &["prisma"],
        "cannot read prisma/migrations/2_x: there is no migration.sql in it",
    );
    refuses(
        &[(LOCK.0, "provider = \"mysql\""), (t, TABLE)],
        &["prisma"],
        "are for mysql, not PostgreSQL",
    );
    refuses(
        &[(LOCK.0, "provider = "), (t, TABLE)],
        &["prisma"],
        "cannot read prisma/migrations/migration_lock.toml",
    );
    refuses(&[(t, TABLE)], &["prisma"], "migration_lock.toml: No such file");
    refuses(&files, &["prisma", "--down"], "--down: Prisma keeps no way back");
    refuses(
        &[("m/1.sql", TABLE)],
        &["m", "--tool", "prisma"],
        "cannot read m/migration_lock.toml",
    );
}

fn journal(tags: &[(&str, u64)]) -> String {
    let entries: Vec<String> = tags
        .iter()
        .enumerate()
        .map(|(idx, (tag, when))| {
            format!(r#"{{"idx":{idx},"version":"7","when":{when},"tag":"{tag}","breakpoints":true}}"#)
        })
        .collect();
    format!(
        r#"{{"version":"7","dialect":"postgresql","entries":[{}]}}"#,
        entries.join(",")
    )
}

#[test]
fn drizzle() {
    let list = journal(&[("0000_t", 1), ("0001_i", 2)]);
    let list = ("drizzle/meta/_journal.json", list.as_str());
    let t = (
        "drizzle/0000_t.sql",
        "CREATE TABLE t (a bigint PRIMARY KEY)\n--> statement-breakpoint\nSELECT 1",
    );
    let i = ("drizzle/0001_i.sql", OLD);
    let other = ("drizzle/0000_a.sql", "DROP TABLE pet;");
    tells(
        &[list, t, i, other],
        &["drizzle"],
        &[
            "drizzle/0000_t.sql:1 forward",
            "drizzle/0000_t.sql:3 forward",
            // All files are one transaction.
            &format!("drizzle/0001_i.sql:1 {INSIDE}"),
        ],
        "drizzle: note: 1 file is not in meta/_journal.json and left out, as Drizzle leaves it out (such as 0000_a.sql)",
    );
    let folders = [
        ("drizzle/2026_b/migration.sql", NEW),
        ("drizzle/2026_b/snapshot.json", "{}"),
        ("drizzle/2026_a/migration.sql", TABLE),
        ("drizzle/2026_a/snapshot.json", "{}"),
    ];
    tells(
        &folders,
        &["drizzle"],
        &[
            "drizzle/2026_a/migration.sql:1 forward",
            "drizzle/2026_b/migration.sql:1 forward",
        ],
        "taken for files of Drizzle",
    );
    refuses(
        &[list, t],
        &["drizzle"],
        "cannot read drizzle/0001_i.sql: there is no such file, and meta/_journal.json names it",
    );
    refuses(
        &[(list.0, "{\"entries\":[}"), t],
        &["drizzle"],
        "cannot read drizzle/meta/_journal.json: ",
    );
    let mysql = list.1.replace("postgresql", "mysql");
    refuses(&[(list.0, &mysql), t, i], &["drizzle"], "are for mysql");
}

#[test]
fn supabase() {
    let concurrently = "SET lock_timeout = '2s';\nCREATE INDEX CONCURRENTLY i ON pet (a);\n";
    tells(
        &[
            ("supabase/migrations/20260102_b.sql", OLD),
            ("supabase/migrations/20260101_a.sql", concurrently),
            ("supabase/migrations/notes.sql", "DROP TABLE pet;"),
            ("supabase/seed.sql", "SELECT 1;"),
        ],
        &["supabase/migrations"],
        &[
            "supabase/migrations/20260101_a.sql:1 forward",
            "supabase/migrations/20260101_a.sql:2 forward",
            // The tool's own row is of the same pipeline.
            &format!("supabase/migrations/20260102_b.sql:1 {INSIDE}"),
        ],
        "notes.sql is left out, as Supabase leaves it out",
    );
    refuses(
        &[("supabase/migrations/notes.sql", OLD)],
        &["supabase/migrations"],
        "cannot read supabase/migrations: there is no migration of Supabase in it",
    );
}

#[test]
fn sqitch() {
    let plan = format!(
        "%syntax-version=1.0.0\n%project=shop\n\nzoo {PLANNED}\npets [zoo] {PLANNED} # x\n@v1 {PLANNED}\nzoo [zoo@v1] {PLANNED}\n"
    );
    let plan = ("db/sqitch.plan", plan.as_str());
    let first = (
        "db/deploy/zoo@v1.sql",
        "BEGIN;\nCREATE TABLE t (a bigint PRIMARY KEY);\nCOMMIT;\n",
    );
    let pets = ("db/deploy/pets.sql", OLD);
    let second = ("db/deploy/zoo.sql", "CREATE INDEX ON t (a);\n");
    let back = ("db/revert/zoo.sql", "DROP INDEX t_a_idx;\n");
    let first_back = ("db/revert/zoo@v1.sql", "DROP TABLE t;\n");
    let verify = ("db/verify/zoo.sql", "DROP TABLE zoo;");
    let files = [plan, first, pets, second, back, first_back, verify];
    tells(
        &files,
        &["db"],
        &[
            "db/deploy/zoo@v1.sql:1 forward",
            "db/deploy/zoo@v1.sql:2 forward",
            "db/deploy/zoo@v1.sql:3 forward",
            &format!("db/deploy/pets.sql:1 {ALONE}"),
            "db/deploy/zoo.sql:1 forward",
        ],
        "db: note: taken for files of Sqitch",
    );
    tells(
        &files,
        &["db", "--down"],
        &[
            "db/revert/zoo.sql:1 rewrite nonconcurrent-drop-index",
            "db/revert/zoo@v1.sql:1 reject drop-table",
        ],
        "",
    );
    refuses(
        &[plan, first, second],
        &["db"],
        "cannot read db/deploy/pets.sql: there is no such file, and sqitch.plan names pets",
    );
    refuses(
        &[("db/sqitch.plan", "%project=shop\nzoo\n"), second],
        &["db"],
        "cannot read db/sqitch.plan:2: a line is `name",
    );
    // Where the configuration says that they are.
    tells(
        &[
            ("sqitch.plan", &format!("%project=shop\na {PLANNED}\n")),
            (
                "sqitch.conf",
                "[core]\n\ttop_dir = db\n\textension = ddl\n[other]\n\ttop_dir = x\n",
            ),
            ("db/deploy/a.ddl", OLD),
        ],
        &["."],
        &[&format!("./db/deploy/a.ddl:1 {ALONE}")],
        "",
    );
}

#[test]
fn atlas() {
    let sum = ("m/atlas.sum", "h1:abc=\n2_i.sql h1:def=\n1_t.sql h1:ghi=\n");
    let none = format!("-- atlas:txmode none\n\n{TWO}");
    tells(
        &[sum, ("m/2_i.sql", &none), ("m/1_t.sql", OLD)],
        &["m"],
        &[
            &format!("m/1_t.sql:1 {INSIDE}"),
            "m/2_i.sql:3 forward",
            &format!("m/2_i.sql:4 {ALONE}"),
        ],
        "m: note: taken for files of Atlas",
    );
    let checkpoint = format!("-- atlas:checkpoint\n\n{TABLE}");
    tells(
        &[sum, ("m/2_i.sql", &checkpoint), ("m/1_t.sql", "SELECT 1;")],
        &["m"],
        &["m/1_t.sql:1 forward"],
        "2_i.sql is a checkpoint",
    );
    refuses(
        &[sum, ("m/1_t.sql", TABLE)],
        &["m"],
        "cannot read m/2_i.sql: there is no such file, and atlas.sum names it",
    );
    let third = ("m/3_x.sql", TABLE);
    refuses(
        &[sum, ("m/1_t.sql", TABLE), ("m/2_i.sql", OLD), third],
        &["m"],
        "cannot read m/3_x.sql: atlas.sum does not name it",
    );
    refuses(
        &[("m/atlas.sum", "1_t.sql h1:x=\n"), ("m/1_t.sql", TABLE)],
        &["m"],
        "m/atlas.sum: its first line is no sum",
    );
    let mode = "-- atlas:txmode nothing\n\nSELECT 1;";
    refuses(
        &[("m/atlas.sum", "h1:a=\n1.sql h1:x=\n"), ("m/1.sql", mode)],
        &["m"],
        "cannot read m/1.sql: atlas:txmode is none, file or all",
    );
    // It keeps a sum of another tool's directory too.
    tells(
        &[
            ("m/atlas.sum", "h1:a=\n1_a.up.sql h1:x=\n"),
            ("m/1_a.up.sql", OLD),
            ("m/1_a.down.sql", "DROP TABLE t;"),
        ],
        &["m"],
        &[&format!("m/1_a.up.sql:1 {ALONE}")],
        "taken for files of golang-migrate",
    );
}

#[test]
fn liquibase() {
    let text = format!(
        "--liquibase formatted sql\n\n--changeset ann:1\n{OLD}--rollback DROP INDEX i;\n\n--changeset ann:2 runInTransaction:false\n{OLD}\n\
         --changeset ann:3 dbms:mysql\nALTER TABLE x ENGINE=InnoDB;\n--changeset ann:4 endDelimiter:/\nSELECT 1\n/\nSELECT 2\n/\n"
    );
    tells(
        &[("db/a.sql", &text), ("db/b.sql", OLD)],
        &["db"],
        &[
            &format!("db/a.sql:4 {INSIDE}"),
            &format!("db/a.sql:8 {ALONE}"),
            "db/a.sql:13 forward",
            "db/a.sql:15 forward",
            &format!("db/b.sql:1 {INSIDE}"),
        ],
        "db/a.sql: note: 1 changeset is for other databases, by dbms, and left out (such as ann:3)",
    );
    tells(
        &[("a.sql", &text)],
        &["a.sql", "--transaction", "statement"],
        &[
            &format!("a.sql:4 {ALONE}"),
            &format!("a.sql:8 {ALONE}"),
            "a.sql:13 forward",
            "a.sql:15 forward",
        ],
        "",
    );
    refuses(
        &[("db/a.sql", "--liquibase formatted sql\n--changeset ann\nSELECT 1;")],
        &["db"],
        "cannot read db/a.sql: line 2: a changeset is",
    );
}

/// Two tools' directories and other files below one that is named.
#[test]
fn several_in_one_repository() {
    let list = journal(&[("0000_t", 1)]);
    tells(
        &[
            LOCK,
            ("prisma/migrations/1_t/migration.sql", OLD),
            ("app/drizzle/meta/_journal.json", &list),
            ("app/drizzle/0000_t.sql", OLD),
            ("sql/x.sql", OLD),
        ],
        &["."],
        &[
            &format!("./sql/x.sql:1 {ALONE}"),
            &format!("./app/drizzle/0000_t.sql:1 {INSIDE}"),
            &format!("./prisma/migrations/1_t/migration.sql:1 {ALONE}"),
        ],
        "",
    );
}

/// A directory of another database's migrations is an error, but one that is left out, or empty and not named, is none.
#[test]
fn what_is_below_the_named_directory_can_be_left_out() {
    let files = [
        ("prisma/migrations/migration_lock.toml", "provider = \"mysql\"\n"),
        ("prisma/migrations/1_a/migration.sql", OLD),
        ("supabase/migrations/.gitkeep", ""),
        ("sql/x.sql", OLD),
    ];
    let expect = format!("./sql/x.sql:1 {ALONE}");
    let told = check(&files, &["."]);
    assert_eq!(
        (told.code, told.told.as_slice()),
        (2, &[expect.clone()][..]),
        "{}",
        told.err
    );
    for pattern in ["prisma", "prisma/**", "prisma/migrations"] {
        tells(&files, &[".", "--exclude-path", pattern], &[&expect], "");
    }
}

/// By the table that the tool keeps on the server. There what is inside a transaction is left for after its COMMIT.
#[test]
fn what_has_run_is_left_out() {
    let stage = Stage::without_proxy(cluster(18), "layouts");
    let dsn = format!(
        "host=127.0.0.1 port={} user=postgres dbname={}",
        stage.cluster.port(),
        stage.database
    );
    let t = "DROP SCHEMA public CASCADE; CREATE SCHEMA public; CREATE TABLE pet (a int); INSERT INTO pet SELECT generate_series(1, 400000);";
    let left = |tables: &str, files: &[(&str, &str)], expect: &[&str]| {
        stage.direct(&format!("{t} {tables}"));
        tells(files, &[".", "--dsn", &dsn], expect, "left out");
    };
    left(
        "CREATE TABLE _prisma_migrations (migration_name text, finished_at timestamptz, rolled_back_at timestamptz);
         INSERT INTO _prisma_migrations VALUES ('1_a', now(), NULL)",
        &[
            LOCK,
            ("prisma/migrations/1_a/migration.sql", OLD),
            ("prisma/migrations/2_b/migration.sql", OLD),
        ],
        &[&format!("./prisma/migrations/2_b/migration.sql:1 {ALONE}")],
    );
    let list = journal(&[("0000_a", 1700), ("0001_b", 1800)]);
    left(
        "CREATE SCHEMA drizzle; CREATE TABLE drizzle.__drizzle_migrations (id serial, hash text, created_at bigint);
         INSERT INTO drizzle.__drizzle_migrations (created_at) VALUES (1700)",
        &[("meta/_journal.json", &list), ("0000_a.sql", OLD), ("0001_b.sql", OLD)],
        &[&format!("./0001_b.sql:1 {ALONE}")],
    );
    left(
        "CREATE SCHEMA sqitch; CREATE TABLE sqitch.changes (project text, change text, committed_at timestamptz DEFAULT clock_timestamp());
         INSERT INTO sqitch.changes (project, change) VALUES ('shop', 'a'), ('other', 'b')",
        &[
            ("sqitch.plan", &format!("%project=shop\na {PLANNED}\nb {PLANNED}\n@v {PLANNED}\na {PLANNED}\n")),
            ("deploy/a@v.sql", OLD),
            ("deploy/b.sql", OLD),
            ("deploy/a.sql", OLD),
        ],
        &[&format!("./deploy/b.sql:1 {ALONE}"), &format!("./deploy/a.sql:1 {ALONE}")],
    );
    left(
        "CREATE TABLE databasechangelog (id text, author text, filename text);
         INSERT INTO databasechangelog VALUES ('1', 'ann', 'db/a.sql')",
        &[(
            "db/a.sql",
            "--liquibase formatted sql\n--changeset ann:1\nCREATE INDEX i ON pet (a);\n--changeset ann:2\nCREATE INDEX i ON pet (a);\n",
        )],
        &[&format!("./db/a.sql:5 {ALONE}")],
    );
}
