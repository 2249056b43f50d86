//! `lockkeeper check` as a pipeline uses it: directories of several tools, formats, lists of changed files; and with a live
//! server, whose facts, catalog and locks are compared with what is said.

use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::{Stage, cluster, run};
use serde_json::Value;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What is about the schema itself, which most of these files have only a part of.
const DESIGN: &str = "no-primary-key,int-primary-key,unindexed-foreign-key";

/// A directory of files, removed at the end.
struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let files_in = Files(tempfile::tempdir().expect("a directory"));
        for (name, text) in files {
            let path = files_in.path(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        files_in
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// `check` in the directory, with these arguments.
    fn check(&self, arguments: &[&str], stdin: &str) -> Checked {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        command.env("HOME", self.0.path()).current_dir(self.0.path());
        command.arg("check").args(arguments);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().expect("it starts");
        // It may end without reading.
        let _ = child.stdin.take().expect("its stdin").write_all(stdin.as_bytes());
        let output = child.wait_with_output().expect("it ends");
        Checked {
            code: output.status.code().expect("an exit code"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }

    /// Of each statement in the order of the check: `file:line action rule`, the first finding's.
    fn judged(&self, arguments: &[&str]) -> Vec<String> {
        let proxys = ["--format", "json", "--exclude", DESIGN];
        let checked = self.check(&[&proxys[..], arguments].concat(), "");
        checked.verdicts().iter().map(in_short).collect()
    }
}

struct Checked {
    code: i32,
    out: String,
    err: String,
}

impl Checked {
    fn verdicts(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }
}

fn in_short(verdict: &Value) -> String {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
    let (file, action) = (text(&verdict["file"]), text(&verdict["action"]));
    let rule = match action.as_str() {
        "forward" => String::new(),
        _ => format!(" {}", text(&verdict["findings"][0]["rule"])),
    };
    format!("{file}:{} {action}{rule}", verdict["line"])
}

const INDEX: &str = "CREATE INDEX i ON pet (a);\n";
const TWO: &str = "SELECT 1;\nCREATE INDEX i ON pet (a);\n";

/// The same index in a transaction is refused, and alone it is rewritten: that tells what the tool is taken to do.
#[track_caller]
fn in_transaction(file: &str, text: &str, arguments: &[&str], expect: bool) {
    let files = Files::new(&[(file, text)]);
    let judged = files.judged(&[&[file][..], arguments].concat());
    let judged: Vec<&String> = judged
        .iter()
        .filter(|line| !line.ends_with("certain-failure"))
        .collect();
    let last = judged.last().expect("a statement");
    let action = if expect {
        "reject nonconcurrent-index"
    } else {
        "rewrite nonconcurrent-index"
    };
    assert!(last.ends_with(action), "{file} {text}: {judged:?}");
}

#[test]
fn a_file_is_the_transaction_that_its_tool_makes_of_it() {
    in_transaction("a.sql", TWO, &[], false);
    in_transaction("a.sql", &format!("BEGIN;\n{INDEX}"), &[], true);
    in_transaction("a.sql", INDEX, &["--transaction", "file"], true);
    in_transaction("a.sql", &format!("COMMIT;\n{INDEX}"), &["--transaction", "file"], false);
    in_transaction("a.sql", TWO, &["--transaction", "message"], true);
    in_transaction(
        "a.sql",
        &format!("-- x\n{INDEX}-- y\n;"),
        &["--transaction", "message"],
        false,
    );
    in_transaction("V1__a.sql", INDEX, &[], true);
    in_transaction(
        "V1__a.sql",
        &format!("CREATE INDEX CONCURRENTLY j ON pet (b);\n{INDEX}"),
        &[],
        false,
    );
    in_transaction("1_a.up.sql", INDEX, &[], false);
    in_transaction("1_a.up.sql", TWO, &[], true);
    // After its COMMIT the rest of the message is an implicit transaction again.
    in_transaction("1_a.up.sql", &format!("BEGIN; COMMIT; {TWO}"), &[], true);
    in_transaction("1_a.sql", &format!("-- migrate:up\n{INDEX}"), &[], true);
    in_transaction(
        "1_a.sql",
        &format!("-- migrate:up transaction:false\n{INDEX}"),
        &[],
        false,
    );
    in_transaction("1_a.sql", &format!("-- migrate:up transaction:false\n{TWO}"), &[], true);
    in_transaction("1_a.sql", INDEX, &["--tool", "sqlx"], true);
    in_transaction("1_a.sql", &format!("-- no-transaction\n{INDEX}"), &[], false);
    in_transaction("1_a.sql", &format!("-- Up Migration\n{INDEX}"), &[], true);
    in_transaction("1_a/up.sql", INDEX, &[], true);
    in_transaction("1_a.sql", &format!("-- +goose Up\n{INDEX}"), &[], true);
    in_transaction(
        "1_a.sql",
        &format!("-- +goose NO TRANSACTION\n-- +goose Up\n{TWO}"),
        &[],
        false,
    );
    in_transaction("V1__a.sql", INDEX, &["--tool", "psql"], false);
}

#[test]
fn settings_beside_a_file_count() {
    let conf = "executeInTransaction=false\n";
    let files = Files::new(&[("V1__a.sql", INDEX), ("V1__a.sql.conf", conf), ("V2__a.sql", INDEX)]);
    assert_eq!(
        files.judged(&["."]),
        [
            "./V1__a.sql:1 rewrite nonconcurrent-index",
            "./V2__a.sql:1 reject nonconcurrent-index"
        ]
    );
    let metadata = "run_in_transaction = false\n";
    let files = Files::new(&[
        ("1_a/up.sql", INDEX),
        ("1_a/metadata.toml", metadata),
        ("1_a/down.sql", "DROP TABLE x;"),
    ]);
    assert_eq!(files.judged(&["."]), ["./1_a/up.sql:1 rewrite nonconcurrent-index"]);
    let files = Files::new(&[
        ("Cargo.toml", "[dependencies]\nsqlx = \"0.8\"\n"),
        ("migrations/1_a.up.sql", INDEX),
    ]);
    assert_eq!(
        files.judged(&["migrations"]),
        ["migrations/1_a.up.sql:1 reject nonconcurrent-index"]
    );
}

#[test]
fn a_directory_runs_in_the_tools_order_without_its_down_files() {
    let files = Files::new(&[
        ("m/9_t.up.sql", "CREATE TABLE t (a bigint PRIMARY KEY);"),
        ("m/9_t.down.sql", "DROP TABLE t;"),
        ("m/10_i.up.sql", "CREATE INDEX ON t (a);"),
        ("m/10_i.down.sql", "DROP INDEX i;"),
        ("m/11_x.py", "pass"),
    ]);
    let checked = files.check(&["m"], "");
    assert_eq!(checked.code, 0, "{}", checked.out);
    assert!(
        checked
            .out
            .contains("2 statements in 2 files: 2 forwarded, 0 warned of, 0 rewritten, 0 rejected (for ")
    );
    for note in [
        "m: note: taken for files of golang-migrate; --tool says otherwise",
        "m: note: 2 files are for the way back and left out: --down checks them instead",
        "m: note: 1 file is no SQL and left out (such as m/11_x.py)",
        "m: note: all 2 files are taken as not run yet",
    ] {
        assert!(checked.err.contains(note), "{note}:\n{}", checked.err);
    }
    assert_eq!(
        files.judged(&["m", "--down"]),
        [
            "m/10_i.down.sql:1 rewrite nonconcurrent-drop-index",
            "m/9_t.down.sql:1 reject drop-table"
        ]
    );
    // As a shell expands m/*.sql, and one that is named alone.
    let named = ["m/10_i.down.sql", "m/10_i.up.sql", "m/9_t.down.sql", "m/9_t.up.sql"];
    assert_eq!(
        files.judged(&named),
        ["m/9_t.up.sql:1 forward", "m/10_i.up.sql:1 forward"]
    );
    assert_eq!(
        files.judged(&["m/9_t.down.sql"]),
        ["m/9_t.down.sql:1 reject drop-table"]
    );
}

#[test]
fn the_down_part_of_a_file_is_left_out() {
    let text = "-- migrate:up\nALTER TABLE pet ADD a int;\n-- migrate:down\nALTER TABLE pet DROP a;\n";
    let files = Files::new(&[("m/1_a.sql", text)]);
    let checked = files.check(&["m"], "");
    assert!(
        checked.code == 0 && checked.err.contains("the down part of 1 file is left out"),
        "{}",
        checked.err
    );
    assert_eq!(files.judged(&["m", "--down"]), ["m/1_a.sql:4 reject drop-column"]);
}

#[test]
fn what_has_run_already_is_in_use() {
    let files = Files::new(&[
        ("m/1_t.sql", "CREATE TABLE t (a bigint PRIMARY KEY);"),
        ("m/2_u.sql", "CREATE TABLE u (a bigint PRIMARY KEY);"),
        ("m/3_i.sql", "CREATE INDEX ON t (a);\nCREATE INDEX ON u (a);"),
    ]);
    let (t, u) = (
        "m/3_i.sql:1 rewrite nonconcurrent-index",
        "m/3_i.sql:2 rewrite nonconcurrent-index",
    );
    let (new_t, new_u) = ("m/3_i.sql:1 forward", "m/3_i.sql:2 forward");
    assert_eq!(files.judged(&["m"])[2..], [new_t, new_u]);
    assert_eq!(files.judged(&["m", "--from", "2"]), ["m/2_u.sql:1 forward", t, new_u]);
    assert_eq!(files.judged(&["m", "--from", "3_i.sql"]), [t, u]);
    assert_eq!(files.judged(&["m", "--from", "m/3_i.sql"]), [t, u]);
    let missing = files.check(&["m", "--from", "4"], "");
    assert!(
        missing.code == 2 && missing.err.contains("--from 4: none of the files"),
        "{}",
        missing.err
    );

    let listed = |list: &str| -> Vec<String> {
        let checked = files.check(&["--format", "json", "m", "--changed", "-"], list);
        assert_ne!(checked.code, 2, "{}", checked.err);
        checked.verdicts().iter().map(in_short).collect()
    };
    assert_eq!(listed("README.md\nm/3_i.sql\n"), [t, u]);
    assert_eq!(listed("m/3_i.sql\nm/1_t.sql\n"), ["m/1_t.sql:1 forward", new_t, u]);
    let both = files.check(&["-", "--changed", "-"], "m/3_i.sql\n");
    assert!(both.code == 2 && both.err.contains("not both"), "{}", both.err);
    let none = files.check(&["m", "--changed", "-"], "README.md\n");
    assert!(
        none.code == 0 && none.err.contains("nothing is checked"),
        "{}",
        none.err
    );
}

#[test]
fn what_the_files_prove_is_proven() {
    let check = |sql: &str, expect: &[&str]| {
        let files = Files::new(&[("a.sql", sql)]);
        let judged = files.judged(&["a.sql", "--server-version", "15"]);
        let actions: Vec<_> = judged
            .iter()
            .filter_map(|line| line.split_once(' ').map(|(_, action)| action))
            .collect();
        assert_eq!(actions, expect, "{sql}");
    };
    let proof = "ALTER TABLE pet ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID;";
    let set = "ALTER TABLE pet ALTER COLUMN a SET NOT NULL;";
    let validate = "ALTER TABLE pet VALIDATE CONSTRAINT c;";
    check(&format!("{proof}{validate}{set}"), &["forward"; 3]);
    check(&format!("{proof}{set}"), &["forward", "rewrite set-not-null"]);
    let other = proof.replace("a IS", "b IS");
    check(
        &format!("{other}{validate}{set}"),
        &["forward", "forward", "rewrite set-not-null"],
    );
    let dropped = "ALTER TABLE pet DROP CONSTRAINT c;";
    check(
        &format!("{proof}{validate}{dropped}{set}"),
        &["forward", "forward", "forward", "rewrite set-not-null"],
    );
    check(
        &format!("BEGIN;{proof}{validate}ROLLBACK;{set}"),
        &[
            "forward",
            "forward",
            "reject scan-under-lock",
            "forward",
            "rewrite set-not-null",
        ],
    );
    check(
        &format!("{proof}{validate}ALTER TABLE other ALTER COLUMN a SET NOT NULL"),
        &["forward", "forward", "rewrite set-not-null"],
    );
    // New ones: views too, renamed and moved, but not what is dropped and may be an old one's name again.
    check(
        "BEGIN; CREATE VIEW v AS SELECT 1; ALTER VIEW v RENAME TO w; DROP VIEW w; COMMIT",
        &["forward"; 5],
    );
    check(
        "CREATE TABLE t (a bigint PRIMARY KEY); ALTER TABLE t RENAME TO u; ALTER TABLE u DROP COLUMN a; DROP TABLE u",
        &["forward"; 4],
    );
    check(
        "CREATE TABLE t (a bigint PRIMARY KEY); ALTER TABLE t SET SCHEMA s; DROP TABLE s.t; DROP TABLE t",
        &["forward", "forward", "forward", "reject drop-table"],
    );
    check(
        "SET search_path = s, public; CREATE TABLE t (a bigint PRIMARY KEY); DROP TABLE s.t; DROP TABLE public.t",
        &["forward", "forward", "forward", "reject drop-table"],
    );
}

#[test]
fn overrides_count_as_in_the_proxy() {
    let sql = "/* lockkeeper: allow=drop-table reason=\"ticket 42\" */ DROP TABLE a;\nDROP TABLE b; -- lockkeeper: allow=drop-table reason=\"x\"\n\
        -- lockkeeper: allow=drop-tabel reason=\"x\"\nCREATE TABLE c (a bigint PRIMARY KEY);\nDROP TABLE scratch.d;\nDROP TABLE scratch.d, e;\n";
    let policy = "[[override]]\ntable = \"scratch.*\"\nrules = { drop-table = \"allow\" }\nreason = \"scratch\"\n";
    let files = Files::new(&[("a.sql", sql), ("policy.toml", policy)]);
    let checked = files.check(&["a.sql", "--policy", "policy.toml", "--format", "json"], "");
    let verdicts = checked.verdicts();
    let actions: Vec<String> = verdicts.iter().map(in_short).collect();
    assert_eq!(
        actions,
        [
            "a.sql:1 forward",
            "a.sql:2 reject drop-table",
            "a.sql:4 reject override",
            "a.sql:5 forward",
            "a.sql:6 reject drop-table"
        ]
    );
    let first = |verdict: &Value| {
        (
            verdict["findings"][0]["overridden"].clone(),
            verdict["findings"][0]["overridden_by"].clone(),
        )
    };
    assert_eq!(first(&verdicts[0]), ("ticket 42".into(), "comment".into()));
    assert_eq!(
        first(&verdicts[3]),
        ("scratch".into(), "[[override]] table = \"scratch.*\"".into())
    );
    let text = files.check(&["a.sql", "--policy", "policy.toml"], "").out;
    assert!(
        text.contains("overridden[drop-table]: a.sql:1:55: ticket 42 (by comment)"),
        "{text}"
    );
    assert!(
        text.contains("names no rule `drop-tabel`; the nearest is `drop-table`"),
        "{text}"
    );
    assert!(text.contains("3 rejected; 2 findings overridden (for "), "{text}");
}

#[test]
fn the_text_shows_the_place_and_the_safe_sequence() {
    let sql = "-- the index\nCREATE INDEX i ON pet (a);\nALTER TABLE pet\n\tADD b int, DROP COLUMN \"名前\";\n";
    let files = Files::new(&[("a.sql", sql)]);
    let out = files.check(&["a.sql"], "").out;
    for part in [
        "rewrite[nonconcurrent-index]: CREATE INDEX blocks all writes to pet while it builds\n --> a.sql:2:1\n  |\n\
         2 | CREATE INDEX i ON pet (a);\n  | ^^^^^^^^^^^^^^^^^^^^^^^^^ SHARE, which blocks writes\n  = the safe sequence, which the proxy would run:\n",
        "      CREATE INDEX CONCURRENTLY i ON pet (a);\n",
        "4 |     ADD b int, DROP COLUMN \"名前\";\n  |                ^^^^^^^^^^^^^^^^^^ ACCESS EXCLUSIVE",
    ] {
        assert!(out.contains(part), "{part}\n---\n{out}");
    }
    let tool = Files::new(&[("1_a.sql", &format!("-- migrate:up\n{INDEX}"))]);
    let out = tool.check(&["1_a.sql"], "").out;
    assert!(out.contains("the safe way cannot run inside a transaction"), "{out}");
    assert!(out.contains("begins with `-- migrate:up transaction:false`"), "{out}");
}

#[test]
fn github_annotations_stay_one_line() {
    let files = Files::new(&[(
        "a,b:100%.sql",
        "DROP TABLE \"x\n::error::y\";\nCREATE INDEX i ON pet (a);",
    )]);
    let checked = files.check(&["a,b:100%.sql", "--format", "github"], "");
    let lines: Vec<&str> = checked.out.lines().collect();
    assert_eq!(lines.len(), 3, "{}", checked.out);
    assert!(
        lines[0].starts_with("::error file=a%2Cb%3A100%25.sql,line=1,endLine=2,title=reject drop-table::"),
        "{}",
        lines[0]
    );
    assert!(
        lines[1].starts_with("::warning file=a%2Cb%3A100%25.sql,line=3,endLine=3,col=1,endColumn=26,title="),
        "{}",
        lines[1]
    );
    assert!(lines[2].starts_with("2 statements in 1 file"), "{}", lines[2]);
    let unreadable = files.check(&["none.sql", "--format", "github"], "");
    assert!(
        unreadable.code == 2 && unreadable.out.starts_with("::error::cannot read none.sql: "),
        "{}",
        unreadable.out
    );
}

/// Prints what is wrong with the SARIF log on standard input.
const VALIDATE: &str = "
const Ajv = require('ajv'), fs = require('fs');
const schema = require('@microsoft/jest-sarif/lib/schemas/sarif-2.1.0-rtm.5.json');
const ajv = new Ajv({ allErrors: true, schemaId: 'auto' });
ajv.addMetaSchema(require('ajv/lib/refs/json-schema-draft-04.json'));
const valid = ajv.compile(schema);
if (!valid(JSON.parse(fs.readFileSync(0, 'utf8')))) console.log(JSON.stringify(valid.errors, null, 1));
";

#[track_caller]
fn sarif_errors(log: &str) -> String {
    let modules = lockkeeper_cluster::cache_dirs()
        .into_iter()
        .map(|dir| dir.join("sarif/node_modules"))
        .find(|path| path.exists())
        .expect("the schema is in no cache: run scripts/fetch-clients (make test does)");
    let mut command = Command::new("node");
    clean_environment(&mut command);
    command.args(["-e", VALIDATE]).env("NODE_PATH", modules);
    run(command, log).ok()
}

#[test]
fn the_sarif_log_is_valid() {
    let sql = "/* lockkeeper: allow=drop-table reason=\"x\" */ DROP TABLE a;\nSET lockkeeper.override = 'truncate: y';\nTRUNCATE b;\n\
        ALTER TABLE pet DROP COLUMN \"é\";\nCREATE INDEX i ON pet (a);\nALTER TABEL x;\n\\i other.sql\nDELETE FROM pet;\n";
    let files = Files::new(&[("m/a b.sql", sql), ("m/latin1.txt", "")]);
    std::fs::write(files.path("m/2.sql"), b"\xff").expect("written");
    let checked = files.check(&["./m", "--format", "sarif"], "");
    assert_eq!(checked.code, 2);
    assert_eq!(sarif_errors(&checked.out), "");
    // The check can fail.
    assert_ne!(sarif_errors(&checked.out.replace("startLine", "line")), "");

    let log: Value = serde_json::from_str(&checked.out).expect("JSON");
    let run = &log["runs"][0];
    let rules = run["tool"]["driver"]["rules"].as_array().expect("rules");
    let results: Vec<String> = run["results"]
        .as_array()
        .expect("results")
        .iter()
        .map(|result| {
            let id = result["ruleId"].as_str().expect("an id");
            let index = result["ruleIndex"].as_u64().expect("an index") as usize;
            assert_eq!(rules[index]["id"], id);
            let place = &result["locations"][0]["physicalLocation"];
            assert_eq!(place["artifactLocation"]["uri"], "m/a%20b.sql");
            let region = &place["region"];
            let suppressed = result["suppressions"][0]["kind"].as_str().unwrap_or("-");
            format!(
                "{} {id} {}:{} {suppressed}",
                result["level"].as_str().unwrap_or_default(),
                region["startLine"],
                region["startColumn"]
            )
        })
        .collect();
    assert_eq!(
        results,
        [
            "note drop-table 1:47 inSource",
            "note truncate 3:1 inSource",
            "error drop-column 4:17 -",
            "warning nonconcurrent-index 5:1 -",
            "error unparsed 6:1 -",
            "warning large-write 8:1 -",
        ]
    );
    let invocation = &run["invocations"][0];
    assert_eq!(invocation["executionSuccessful"], false);
    assert_eq!(
        invocation["toolExecutionNotifications"].as_array().map(Vec::len),
        Some(2)
    );
    let empty = files.check(&["-", "--format", "sarif"], "");
    assert_eq!((empty.code, sarif_errors(&empty.out).as_str()), (0, ""));
}

#[test]
fn inputs_that_are_no_migrations_are_told() {
    let files = Files::new(&[
        ("dump", "PGDMP\u{1}"),
        (
            "a.sql",
            "COPY :t FROM stdin;\nDROP TABLE x;\n\\.\nSELECT 1;\n\\gexec\n\\ir b.sql\n",
        ),
    ]);
    std::fs::File::create(files.path("huge.sql"))
        .and_then(|file| file.set_len((64 << 20) + 1))
        .expect("made");
    let checked = files.check(&["dump", "huge.sql", "a.sql", "--format", "json"], "");
    assert_eq!(checked.code, 2);
    let lines: Vec<&str> = checked.err.lines().collect();
    assert!(
        lines[0].contains("an archive of pg_dump; pg_restore --schema-only"),
        "{}",
        checked.err
    );
    assert!(lines[1].contains("huge.sql: it has more than 64 MB"), "{}", checked.err);
    assert!(
        checked
            .err
            .contains("a.sql:5: note: \\gexec is psql's, it is skipped: the SQL that the query makes is not known")
    );
    assert!(
        checked
            .err
            .contains("a.sql:6: note: \\ir is psql's, it is skipped: the file that it names is not read")
    );
    let judged: Vec<String> = checked.verdicts().iter().map(in_short).collect();
    assert_eq!(judged, ["a.sql:1 reject unparsed", "a.sql:4 forward"]);
}

fn colours_are_for_terminals(path: &Path, no_colour: bool) -> bool {
    // script(1) is of every Linux, and gives a program a terminal.
    let program = format!("{} check {}", env!("CARGO_BIN_EXE_lockkeeper"), path.display());
    let mut command = Command::new("script");
    clean_environment(&mut command);
    command
        .args(["-qec", &program, "/dev/null"])
        .env("TERM", "xterm")
        .env_remove("NO_COLOR");
    if no_colour {
        command.env("NO_COLOR", "1");
    }
    let output = command.stdin(Stdio::null()).output().expect("script(1) runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(out.contains("drop-table"), "{out}");
    out.contains('\u{1b}')
}

#[test]
fn colours_only_on_a_terminal() {
    let files = Files::new(&[("a.sql", "DROP TABLE x;")]);
    assert!(!files.check(&["a.sql"], "").out.contains('\u{1b}'));
    assert!(colours_are_for_terminals(&files.path("a.sql"), false));
    assert!(!colours_are_for_terminals(&files.path("a.sql"), true));
}

// --- with a server ----------------------------------------------------------------------------------------------------

const LIVE: &str = "CREATE TABLE large (id bigint PRIMARY KEY, a varchar(10), b int);
    INSERT INTO large SELECT n, 'x', n FROM generate_series(1, 300000) n;
    CREATE TABLE little (id int PRIMARY KEY, a int); INSERT INTO little VALUES (1, 1);
    CREATE SCHEMA s; CREATE TABLE s.little (id int); INSERT INTO s.little VALUES (1); CREATE INDEX large_b ON large (b);
    ANALYZE;";

fn dsn(stage: &Stage) -> String {
    format!(
        "host=127.0.0.1 port={} user=postgres dbname={}",
        stage.cluster.port(),
        stage.database
    )
}

fn live(major: u32) {
    let mut stage = Stage::without_proxy(cluster(major), "live");
    stage.direct(LIVE);
    let before = stage.schema();
    stage.mark();
    let sql = "CREATE INDEX ON little (a);\nCREATE INDEX ON large (a);\nALTER TABLE large ALTER a TYPE varchar(20);\n\
        ALTER TABLE nowhere DROP COLUMN a;\nUPDATE large SET b = 0;\nUPDATE large SET b = 0 WHERE id = 1;\nUPDATE little SET a = 0;\n\
        CREATE TABLE IF NOT EXISTS fresh (a int);\nCREATE INDEX ON fresh (a);\nCREATE TABLE IF NOT EXISTS large (id int);\nDROP INDEX large_b;\n\
        ALTER TABLE large ADD c int;\nALTER TABLE large ALTER c SET NOT NULL;\nALTER TABLE little DROP COLUMN a;\n\
        SET search_path = s;\nALTER TABLE little RENAME id TO x;\nUPDATE fresh SET a = 1;\n";
    let files = Files::new(&[("a.sql", sql)]);
    let judged = files.judged(&["a.sql", "--dsn", &dsn(&stage)]);
    let judged: Vec<&str> = judged.iter().filter_map(|line| line.strip_prefix("a.sql:")).collect();
    assert_eq!(
        judged,
        [
            "1 forward",
            "2 rewrite nonconcurrent-index",
            "3 forward",
            "4 forward",
            "5 rewrite large-write",
            "6 forward",
            "7 forward",
            "8 forward",
            "9 forward",
            "10 forward",
            "11 rewrite nonconcurrent-drop-index",
            "12 forward",
            "13 rewrite set-not-null",
            "14 reject drop-column",
            "15 forward",
            "16 reject rename-column",
            "17 forward",
        ]
    );
    // Nothing was asked outside the read-only transaction, nothing has changed, and nothing stays.
    let log = stage.server_log();
    let own = log.iter().filter(|entry| entry.application_name == "lockkeeper check");
    let own: Vec<&str> = own.filter_map(|entry| entry.sql()).collect();
    assert!(
        own[0].starts_with("BEGIN ISOLATION LEVEL READ COMMITTED READ ONLY; SET LOCAL lock_timeout = "),
        "{own:?}"
    );
    let harmless = [
        "SET LOCAL search_path = ",
        "SELECT pg_catalog.",
        "SELECT n.nspname FROM pg_catalog.pg_class",
        "WITH RECURSIVE",
        "EXPLAIN (FORMAT JSON) UPDATE",
        "SAVEPOINT",
        "ROLLBACK TO",
    ];
    for sql in &own[1..] {
        assert!(harmless.iter().any(|start| sql.starts_with(start)), "{sql}");
    }
    assert!(own.len() > 20, "{own:?}");
    assert_eq!(stage.schema(), before);
    let text = files.check(&["a.sql", "--dsn", &dsn(&stage)], "").out;
    assert!(text.contains("large (") && text.contains("about 300000 rows"), "{text}");
}

#[test]
fn facts_of_a_live_server_on_15() {
    live(15);
}

#[test]
fn facts_of_a_live_server_on_18() {
    live(18);
}

/// What others hold is waited for only a moment, and what they wait for is never us.
#[test]
fn a_locked_table_does_not_hold_it_up() {
    let stage = Stage::without_proxy(cluster(18), "locked");
    stage.direct(LIVE);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .worker_threads(1)
        .build()
        .unwrap();
    let connection = runtime.block_on(stage.connect_direct());
    runtime
        .block_on(connection.client.batch_execute("BEGIN; LOCK TABLE large"))
        .expect("it locks");
    let files = Files::new(&[("a.sql", "UPDATE large SET b = 0;\nCREATE INDEX ON large (a);\n")]);
    assert_eq!(
        files.judged(&["a.sql", "--dsn", &dsn(&stage)]),
        ["a.sql:1 rewrite large-write", "a.sql:2 rewrite nonconcurrent-index"]
    );
    runtime
        .block_on(connection.client.batch_execute("ROLLBACK"))
        .expect("it ends");
}

#[test]
fn the_connection_string_is_libpqs() {
    let stage = Stage::without_proxy(cluster(18), "conninfo");
    let (port, database) = (stage.cluster.port(), &stage.database);
    let sockets = stage.cluster.socket_dir().display().to_string();
    let service = format!("[here]\nhost=127.0.0.1\nport={port}\nuser=postgres\ndbname={database}\n");
    let files = Files::new(&[
        ("a.sql", "SELECT 1;\nDROP TABLE IF EXISTS none;"),
        (".pg_service.conf", &service),
    ]);
    let encoded = sockets.replace('/', "%2F");
    for dsn in [
        dsn(&stage),
        format!("postgres://postgres@127.0.0.1:{port}/{database}?sslmode=disable"),
        format!("postgresql://postgres@{encoded}:{port}/{database}"),
        format!("host='{sockets}' port={port} user=postgres dbname={database} options='-c search_path=public'"),
        format!("host=127.0.0.1,127.0.0.1 port=1,{port} user=postgres dbname={database}"),
        "service=here sslmode=prefer".to_string(),
    ] {
        let checked = files.check(&["a.sql", "--dsn", &dsn], "");
        assert_eq!(checked.code, 0, "{dsn}: {}", checked.err);
    }
    for (dsn, told) in [
        (
            format!("host=127.0.0.1 port={port} user=postgres dbname=nowhere password=secret"),
            "database \"nowhere\" does not exist",
        ),
        (
            format!("host=127.0.0.1 port={port} user=postgres sslmode=require password=secret"),
            "TLS",
        ),
        (
            "host=127.0.0.1 port=1 user=x password=secret".to_string(),
            "127.0.0.1, port 1: ",
        ),
        (
            "host=a sslmode=verify-full user=x password=secret".to_string(),
            "sslrootcert=FILE",
        ),
        ("hots=a password=secret".to_string(), "did you mean `host`?"),
    ] {
        let checked = files.check(&["a.sql", "--dsn", &dsn], "");
        assert_eq!(
            (checked.code, checked.out.contains("forwarded")),
            (2, true),
            "{dsn}: {}",
            checked.err
        );
        assert!(
            checked.err.starts_with("lockkeeper: cannot connect: ") && checked.err.contains(told),
            "{dsn}: {}",
            checked.err
        );
        assert!(!checked.err.contains("secret"), "{}", checked.err);
    }
}

/// What a rule makes of an INSERT, an UPDATE or a view's is counted with a server's facts, as the proxy does.
#[test]
fn what_a_rule_makes_of_a_statement_is_counted() {
    let stage = Stage::without_proxy(cluster(18), "check_rules");
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, b text); INSERT INTO t SELECT i, 'x' FROM generate_series(1, 20000) i;
         CREATE TABLE inbox (id int); CREATE RULE also AS ON INSERT TO inbox DO ALSO UPDATE t SET b = 'y';
         CREATE TABLE one (id int PRIMARY KEY, a int); INSERT INTO one VALUES (1, 1);
         CREATE RULE also AS ON UPDATE TO one DO ALSO UPDATE t SET b = 'y'; ANALYZE",
    );
    let files = Files::new(&[(
        "a.sql",
        "INSERT INTO inbox VALUES (1);\nUPDATE one SET a = 2 WHERE id = 1;\nINSERT INTO one VALUES (2, 2);\n",
    )]);
    let told = files.check(&["a.sql", "--dsn", &dsn(&stage)], "").out;
    assert_eq!(told.matches("CREATE RULE) of").count(), 2, "{told}");
}

/// What the tool has written down of its files is not checked again.
#[test]
fn what_has_run_by_the_tools_own_table() {
    let stage = Stage::without_proxy(cluster(18), "history");
    let made = "CREATE TABLE t (a bigint PRIMARY KEY);";
    let index = "CREATE INDEX ON t (a);";
    let check = |tables: &str, files: &[(&str, &str)], expect: &str| {
        stage.direct(&format!("DROP SCHEMA public CASCADE; CREATE SCHEMA public; {tables}"));
        let files = Files::new(files);
        let checked = files.check(&["m", "--format", "json", "--dsn", &dsn(&stage)], "");
        assert_ne!(checked.code, 2, "{}", checked.err);
        let told: Vec<String> = checked.verdicts().iter().map(in_short).collect();
        assert_eq!(told.join(", "), expect, "{}", checked.err);
    };
    let t = "CREATE TABLE t (a bigint PRIMARY KEY); INSERT INTO t SELECT generate_series(1, 400000);";
    check(
        &format!(
            "{t} CREATE TABLE flyway_schema_history (script text, success bool); INSERT INTO flyway_schema_history VALUES ('V1__t.sql', true)"
        ),
        &[("m/V1__t.sql", made), ("m/V2__i.sql", index)],
        "m/V2__i.sql:1 rewrite nonconcurrent-index",
    );
    check(
        &format!(
            "{t} CREATE TABLE schema_migrations (version bigint, dirty bool); INSERT INTO schema_migrations VALUES (1, false)"
        ),
        &[("m/1_t.up.sql", made), ("m/2_i.up.sql", index)],
        "m/2_i.up.sql:1 rewrite nonconcurrent-index",
    );
    check(
        &format!("{t} CREATE TABLE schema_migrations (version text); INSERT INTO schema_migrations VALUES ('0001')"),
        &[
            ("m/0001_t.sql", "-- migrate:up\nCREATE TABLE t (a bigint PRIMARY KEY);"),
            (
                "m/0002_i.sql",
                "-- migrate:up transaction:false\nCREATE INDEX ON t (a);",
            ),
        ],
        "m/0002_i.sql:2 rewrite nonconcurrent-index",
    );
    // It is not what runs functions of others.
    check(
        "CREATE FUNCTION f() RETURNS bool LANGUAGE plpgsql AS 'BEGIN RAISE EXCEPTION ''run''; END';
         CREATE VIEW flyway_schema_history AS SELECT 'V1__t.sql' AS script, f() AS success",
        &[("m/V1__t.sql", made)],
        "m/V1__t.sql:1 forward",
    );
}

/// Files that have run are read for what they say.
#[test]
fn earlier_files_tell_of_types_and_proofs() {
    let files = Files::new(&[
        (
            "m/1.sql",
            "CREATE TABLE t (id int PRIMARY KEY, a varchar(20), b text, c int);\nCREATE DOMAIN p AS int CHECK (VALUE > 0);",
        ),
        (
            "m/2.sql",
            "ALTER TABLE t ADD CONSTRAINT b_there CHECK (b IS NOT NULL) NOT VALID;\nALTER TABLE old ADD CONSTRAINT x CHECK (x IS NOT NULL) NOT VALID;",
        ),
        (
            "m/3.sql",
            "ALTER TABLE t ALTER a TYPE varchar(64);\nALTER TABLE t ALTER c TYPE bigint;\nALTER TABLE t VALIDATE CONSTRAINT b_there;\n\
             ALTER TABLE t ALTER b SET NOT NULL;\nALTER TABLE t ADD d p;\nALTER TABLE old VALIDATE CONSTRAINT x;\nALTER TABLE old ALTER x SET NOT NULL;\n\
             ALTER TABLE old ALTER y TYPE varchar(64);",
        ),
    ]);
    assert_eq!(
        files.judged(&["m", "--from", "3.sql"]),
        [
            "m/3.sql:1 forward",
            "m/3.sql:2 reject change-type",
            "m/3.sql:3 forward",
            "m/3.sql:4 forward",
            "m/3.sql:5 reject constrained-domain",
            "m/3.sql:6 forward",
            "m/3.sql:7 forward",
            "m/3.sql:8 reject change-type",
        ]
    );
    let told = files.check(&["m", "--from", "3.sql"], "").out;
    assert!(told.contains("changing the type of c rewrites all rows"), "{told}");
    assert!(told.contains("changing the type of y may rewrite all rows"), "{told}");
}

/// Of a table that no file makes, nobody knows whether it is logged.
#[test]
fn earlier_files_tell_whether_a_table_is_logged() {
    let files = Files::new(&[
        (
            "m/1.sql",
            "CREATE UNLOGGED TABLE t (id int PRIMARY KEY);\nALTER TABLE old ADD CONSTRAINT x CHECK (x IS NOT NULL) NOT VALID;",
        ),
        (
            "m/2.sql",
            "ALTER TABLE t SET UNLOGGED;\nALTER TABLE t SET LOGGED;\nALTER TABLE t SET LOGGED;\nALTER TABLE t SET UNLOGGED;\nALTER TABLE old SET LOGGED;",
        ),
    ]);
    assert_eq!(
        files.judged(&["m", "--from", "2.sql"]),
        [
            "m/2.sql:1 forward",
            "m/2.sql:2 reject rewriting-table",
            "m/2.sql:3 forward",
            "m/2.sql:4 reject rewriting-table",
            "m/2.sql:5 reject rewriting-table",
        ]
    );
}

/// Where a file's transaction ends up is told at its end.
#[test]
fn transactions_that_fail_are_told() {
    let check = |arguments: &[&str], sql: &str, expect: &[&str]| {
        let files = Files::new(&[("a.sql", sql)]);
        assert_eq!(files.judged(&[&["a.sql"], arguments].concat()), expect, "{sql}");
    };
    check(
        &[],
        "SELECT 1;\nBEGIN;\nSELECT 2;",
        &[
            "a.sql:1 forward",
            "a.sql:2 forward",
            "a.sql:3 forward",
            "a.sql:2 reject certain-failure",
        ],
    );
    check(
        &["--transaction", "file"],
        "SELECT 2;\nCOMMIT;\n",
        &["a.sql:1 forward", "a.sql:2 reject certain-failure"],
    );
    check(
        &[],
        "DROP INDEX CONCURRENTLY a, b;",
        &["a.sql:1 reject certain-failure"],
    );
    check(
        &[],
        "BEGIN;\nUPDATE t SET a = 1;\nROLLBACK;",
        &["a.sql:1 forward", "a.sql:2 reject large-write", "a.sql:3 forward"],
    );
    // Rows that a LIMIT bounds are a batch.
    check(
        &[],
        "UPDATE t SET a = 1 WHERE id IN (SELECT id FROM t WHERE a <> 1 LIMIT 1000);",
        &["a.sql:1 forward"],
    );
    check(
        &[],
        "WITH b AS (SELECT id FROM t WHERE a <> 1 LIMIT 1000) UPDATE t SET a = 1 FROM b WHERE b.id = t.id;",
        &["a.sql:1 forward"],
    );
    check(
        &[],
        "UPDATE t SET a = 1 WHERE id IN (SELECT id FROM t LIMIT 100000);",
        &["a.sql:1 warn large-write"],
    );
}

/// The batches that are shown for psql change each row once.
#[test]
fn the_batches_by_hand_run() {
    let stage = Stage::without_proxy(cluster(18), "by_hand");
    stage.direct("CREATE TABLE t (id int PRIMARY KEY, n int); INSERT INTO t SELECT i, 0 FROM generate_series(1, 12001) i; ANALYZE");
    let policy = ("policy.toml", "[table]\nsmall_bytes = 0\n");
    let files = Files::new(&[
        policy,
        ("a.sql", "-- those\nUPDATE t AS x SET n = n + 1 WHERE n < 5 -- all\n;"),
    ]);
    for arguments in [
        &["a.sql", "--policy", "policy.toml", "--format", "json"][..],
        &[
            "a.sql",
            "--policy",
            "policy.toml",
            "--format",
            "json",
            "--dsn",
            &dsn(&stage),
        ],
    ] {
        let verdict = &files.check(arguments, "").verdicts()[0];
        let sql = match verdict["steps"][0]["sql"].as_str() {
            Some(step) => step.to_owned(),
            None => verdict["findings"][0]["hint"]
                .as_str()
                .unwrap_or_else(|| panic!("{verdict}"))
                .to_owned(),
        };
        assert!(sql.contains("DO $batches$"), "{verdict}");
        let before = stage.number("SELECT max(n) FROM t");
        let commits = "SELECT count(DISTINCT xmin::text) FROM t";
        stage.direct(&sql);
        assert_eq!(stage.number("SELECT sum(n) FROM t"), 12_001 * (before + 1));
        assert_eq!(stage.number(commits), 3);
    }
}

/// The repository's settings, what the command line says besides, and the file's own comment.
#[test]
fn what_is_checked_can_be_chosen() {
    let drop = "ALTER TABLE pet DROP COLUMN a;\n";
    let files = Files::new(&[
        (
            "repo/.lockkeeper.toml",
            "exclude = [\"drop-column\"]\nexclude-path = [\"legacy/**\"]\nfail-on = \"reject\"\n",
        ),
        ("repo/db/1.sql", drop),
        ("repo/db/2.sql", INDEX),
        ("repo/db/legacy/3.sql", drop),
        ("other/4.sql", drop),
        ("off/5.sql", &format!("-- once\n-- lockkeeper-check: off\n{drop}")),
        (
            "off/6.sql",
            &format!("-- lockkeeper-check: exclude=drop-column\n{drop}DROP TABLE pet;\n"),
        ),
    ]);
    let within = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        command.env("HOME", files.path("")).current_dir(files.path("repo/db"));
        command.args(["check", "--format", "json"]).args(arguments);
        run(command, "")
    };
    // Found from a directory below; only what is refused counts.
    let ran = within(&["."]);
    assert!(
        ran.status == 0 && ran.stdout.lines().count() == 2 && !ran.stdout.contains("drop-column"),
        "{ran:?}"
    );
    let ran = within(&[".", "--fail-on", "rewrite"]);
    assert_eq!(ran.status, 1, "{ran:?}");
    assert_eq!(files.check(&["repo/**/*.sql"], "").code, 1);
    assert_eq!(files.judged(&["repo/**/[12].sql", "-c", "SELECT 1"]), ["-c:1 forward"]);
    assert_eq!(
        files.judged(&["repo/*/?.sql"]),
        [
            "repo/db/1.sql:1 reject drop-column",
            "repo/db/2.sql:1 rewrite nonconcurrent-index"
        ]
    );
    assert_eq!(
        files.judged(&["-c", drop, "-c", "SELECT 1"]),
        ["-c:1 reject drop-column", "-c:1 forward"]
    );
    assert_eq!(
        files.judged(&["off"]),
        [
            "off/5.sql:3 forward",
            "off/6.sql:2 forward",
            "off/6.sql:3 reject drop-table"
        ]
    );
    assert_eq!(
        files
            .check(&["--fail-on", "warn", "-c", "UPDATE t SET a = 1 WHERE b = 2"], "")
            .code,
        1
    );
    assert_eq!(files.check(&["-c", "UPDATE t SET a = 1 WHERE b = 2"], "").code, 0);
    let piped = files.check(&["--format", "json"], drop);
    assert!(piped.code == 1 && piped.out.contains("drop-column"), "{}", piped.out);
    let wrong = Files::new(&[(".lockkeeper.toml", "polcy = 1\n")]);
    let told = wrong.check(&["-c", "SELECT 1"], "");
    assert!(
        told.code == 2 && told.err.contains(".lockkeeper.toml") && told.err.contains("polcy"),
        "{}",
        told.err
    );
    // Straight at a server nobody else keeps the queue short.
    assert_eq!(
        files.judged(&["--direct", "-c", "ALTER TABLE t ADD COLUMN b int"]),
        ["-c:1 warn lock-queue"]
    );
    assert_eq!(
        files.judged(&[
            "--direct",
            "-c",
            "SET lock_timeout = '2s'; ALTER TABLE t ADD COLUMN b int"
        ]),
        ["-c:1 forward", "-c:1 forward"]
    );
}

/// Formats of other programs.
#[test]
fn other_programs_read_it() {
    let files = Files::new(&[("m/a.sql", "DROP TABLE pet;\n\nCREATE INDEX i ON \"p|t\" (a);\n")]);
    let gitlab: Value = serde_json::from_str(&files.check(&["m", "--format", "gitlab"], "").out).expect("JSON");
    let issues = gitlab.as_array().expect("an array");
    assert_eq!(issues.len(), 2);
    for (issue, severity, line) in [(&issues[0], "critical", 1), (&issues[1], "major", 3)] {
        assert_eq!(
            (&issue["severity"], &issue["location"]["lines"]["begin"]),
            (&severity.into(), &line.into()),
            "{issue}"
        );
        assert_eq!(issue["location"]["path"], "m/a.sql");
        assert_eq!(issue["fingerprint"].as_str().map(str::len), Some(16));
    }
    let moved = Files::new(&[("m/a.sql", "SELECT 1;\nDROP TABLE pet;\n")]);
    let again: Value = serde_json::from_str(&moved.check(&["m", "--format", "gitlab"], "").out).expect("JSON");
    assert_eq!(again[0]["fingerprint"], issues[0]["fingerprint"]);
    let gcc = files.check(&["m", "--format", "gcc"], "").out;
    let lines: Vec<&str> = gcc.lines().collect();
    assert!(
        lines[0].starts_with("m/a.sql:1:1: error: DROP TABLE loses") && lines[0].ends_with("[drop-table]"),
        "{gcc}"
    );
    assert!(lines[1].starts_with("m/a.sql:3:1: warning: "), "{gcc}");
    let markdown = files.check(&["m", "--format", "markdown"], "").out;
    for part in [
        "<!-- lockkeeper check -->",
        "| 🛑 reject | `m/a.sql:1` | drop-table |",
        "\"p\\|t\"",
        "CREATE INDEX CONCURRENTLY i ON \"p|t\" (a);",
        "2 statements in 1 file",
    ] {
        assert!(markdown.contains(part), "{part}: {markdown}");
    }
    let sarif = files
        .check(
            &[
                "m",
                "--format",
                "sarif",
                "--rules-url",
                "https://docs.example.com/rules/",
            ],
            "",
        )
        .out;
    assert!(
        sarif.contains("https://docs.example.com/rules/drop-table.html"),
        "{sarif}"
    );
}

/// The version that nobody names: what is advised works on all of them.
#[test]
fn without_a_version_the_advice_is_for_all() {
    let files = Files::new(&[("a.sql", "ALTER TABLE pet ALTER a SET NOT NULL;\n")]);
    let all = files.check(&["a.sql"], "").out;
    assert!(
        all.contains("CHECK (a IS NOT NULL) NOT VALID") && all.contains("(for PostgreSQL 13 to 18"),
        "{all}"
    );
    assert!(!all.contains("COMMENT ON"), "{all}");
    let new = files.check(&["a.sql", "--server-version", "18"], "").out;
    assert!(
        new.contains("NOT NULL a NOT VALID") && !new.contains("(for PostgreSQL"),
        "{new}"
    );
    // What only 18 has is judged as it does.
    assert_eq!(
        files.judged(&["-c", "ALTER TABLE pet ADD CONSTRAINT n NOT NULL a"]),
        ["-c:1 rewrite set-not-null"]
    );
}

/// Where the policy takes one without a reason.
#[test]
fn an_override_without_a_reason_is_told() {
    let policy = ("policy.toml", "[defaults]\nreason_required = false\n");
    let files = Files::new(&[
        policy,
        ("a.sql", "SELECT 1;\n/* lockkeeper: allow=drop-table */ DROP TABLE a;\n"),
    ]);
    let checked = files.check(&["a.sql", "--policy", "policy.toml"], "");
    assert!(
        checked.code == 0 && checked.err.contains("a.sql:2: note: let through without a reason"),
        "{}",
        checked.err
    );
}

/// Partitions that the files make, and keys by an index of which they do not tell enough.
#[test]
fn what_the_files_leave_open() {
    let files = Files::new(&[]);
    let judged = |sql: &str| files.judged(&["-c", sql]);
    assert_eq!(
        judged("ALTER TABLE t DETACH PARTITION p"),
        ["-c:1 rewrite partition-lock"]
    );
    let key = "ALTER TABLE t ADD CONSTRAINT k PRIMARY KEY USING INDEX k";
    assert_eq!(judged(key), ["-c:1 warn nullable-key"]);
    let proven = "ALTER TABLE t ADD CONSTRAINT c CHECK (a IS NOT NULL) NOT VALID; ALTER TABLE t VALIDATE CONSTRAINT c;\n\
                  ALTER TABLE t ALTER COLUMN a SET NOT NULL; CREATE UNIQUE INDEX CONCURRENTLY k ON t (a);\n";
    let told = judged(&format!("{proven}{key}"));
    assert!(told.iter().all(|line| line.ends_with("forward")), "{told:?}");
    // Each but the first waits while the others are held.
    let many: String = (0..2_000).map(|n| format!("ALTER TABLE t{n} ADD a int;\n")).collect();
    let verdicts = files.judged(&["-c", &format!("BEGIN;{many}COMMIT")]);
    assert_eq!(
        verdicts.iter().filter(|line| line.ends_with("warn held-lock")).count(),
        1_999
    );
}
