//! `lockkeeper lsp` with the protocol library of Visual Studio Code as the client (tests/lsp/client.js): the same verdicts as `check`, at
//! their places, with the rule's page, and with a quick fix that leaves nothing to find.

use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::{cached, run};
use serde_json::{Value, json};
use std::path::Path;
use std::process::Command;

struct Files(tempfile::TempDir);

impl Files {
    fn new(files: &[(&str, &str)]) -> Files {
        let directory = tempfile::tempdir().expect("a directory");
        for (name, text) in files {
            let path = directory.path().join(name);
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(path, text).expect("written");
        }
        Files(directory)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn uri(&self, name: &str) -> String {
        format!("file://{}/{}", self.path().display(), name.replace(' ', "%20"))
    }

    /// The answers to the steps; the client has seen the server begin and end.
    fn session(&self, steps: Value) -> Vec<Value> {
        let mut command = Command::new("node");
        clean_environment(&mut command);
        command
            .env("HOME", self.path())
            .env("NODE_PATH", cached("lsp/node_modules"));
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/lsp/client.js"));
        command.arg(env!("CARGO_BIN_EXE_lockkeeper")).arg(self.path());
        let ran = run(command, &steps.to_string());
        assert_eq!(ran.status, 0, "{}", ran.stderr);
        let mut answers: Vec<Value> = serde_json::from_str(&ran.stdout).expect(&ran.stdout);
        assert_eq!(answers.pop().expect("an end")["exit"], 0);
        let begun = answers.remove(0);
        assert_eq!(begun["capabilities"]["hoverProvider"], true);
        assert_eq!(begun["serverInfo"]["name"], "lockkeeper");
        answers
    }

    /// What `check` says of the file, as the editor should have it: `line severity rule`.
    fn checked(&self, name: &str) -> Vec<String> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        command.env("HOME", self.path()).current_dir(self.path());
        command.args(["check", "--format", "json", name]);
        let ran = run(command, "");
        let mut all = Vec::new();
        for line in ran.stdout.lines() {
            let verdict: Value = serde_json::from_str(line).expect(line);
            if verdict["action"] == "forward" {
                continue;
            }
            for found in verdict["findings"].as_array().expect("findings") {
                let severity = match found["action"].as_str() {
                    Some("reject") => 1,
                    Some("rewrite") => 2,
                    _ => 3,
                };
                let line = found["start"]["line"].as_u64().expect("a line") - 1;
                all.push(format!("{line} {severity} {}", found["rule"].as_str().expect("a rule")));
            }
        }
        all
    }
}

fn shown(published: &Value) -> Vec<String> {
    let all = published["diagnostics"].as_array().expect("diagnostics");
    let one = |diagnostic: &Value| {
        assert_eq!(diagnostic["source"], "lockkeeper");
        let line = &diagnostic["range"]["start"]["line"];
        let rule = diagnostic["code"].as_str().unwrap_or_default();
        format!("{line} {} {rule}", diagnostic["severity"])
            .trim_end()
            .to_owned()
    };
    all.iter().map(one).collect()
}

fn open(uri: &str, text: &str) -> Value {
    json!({"step": "open", "uri": uri, "languageId": "sql", "text": text})
}

#[test]
fn the_verdicts_are_those_of_check() {
    let texts = [
        (
            "a.sql",
            "CREATE INDEX i ON pet (a);\n\nALTER TABLE pet DROP COLUMN b;\n",
        ),
        (
            "b c.sql",
            "CREATE TABLE t (id int PRIMARY KEY, d json);\nCREATE INDEX ON t (d);\nSELECT 1;\n",
        ),
        (
            "d.sql",
            "BEGIN;\nALTER TABLE pet ADD c int;\nUPDATE pet SET c = 1 WHERE a = 2;\nSELEC 1;\n",
        ),
        ("V1__e.sql", "CREATE INDEX i ON pet (a);\n"),
        // Settings above it, and beside it.
        (
            "quiet/sub/f.sql",
            "ALTER TABLE pet DROP COLUMN b;\nCREATE TABLE t (id int PRIMARY KEY);\n",
        ),
        ("quiet/left/g.sql", "ALTER TABLE pet DROP COLUMN b;\n"),
        (
            "prisma/migrations/1_a/migration.sql",
            "SELECT 1;\nCREATE INDEX i ON pet (a);\n",
        ),
        (
            "h.sql",
            "--liquibase formatted sql\n--changeset a:1\nCREATE INDEX i ON pet (a);\n--changeset a:2 runInTransaction:false\nCREATE INDEX i ON pet (a);\n",
        ),
    ];
    let settings = [
        (
            "quiet/.lockkeeper.toml",
            "exclude = [\"drop-column\"]\nexclude-path = [\"left/**\"]\n",
        ),
        ("prisma/migrations/migration_lock.toml", "provider = \"postgresql\"\n"),
    ];
    let files = Files::new(&[&texts[..], &settings[..]].concat());
    let steps: Vec<Value> = texts.iter().map(|(name, text)| open(&files.uri(name), text)).collect();
    let answers = files.session(json!(steps));
    let mut found = 0;
    for ((name, _), published) in texts.iter().zip(&answers) {
        assert_eq!(published["uri"], files.uri(name));
        let expect = match *name {
            // Its settings are those of its own directory.
            "quiet/sub/f.sql" => vec!["1 3 int-primary-key".to_owned()],
            "quiet/left/g.sql" => Vec::new(),
            name => files.checked(name),
        };
        assert_eq!(shown(published), expect, "{name}");
        found += expect.len();
    }
    assert!(found > 10, "{found}");
}

#[test]
fn what_is_written_is_checked_at_once() {
    let files = Files::new(&[]);
    let uri = files.uri("a.sql");
    let change = |text: &str| json!({"step": "change", "uri": uri, "text": text});
    let answers = files.session(json!([
        open(&uri, "SELECT 1;"),
        change("SELECT 'é😀'; DROP TABLE pet;\n"),
        change("SELECT 1;\n"),
        change("--liquibase formatted sql\n--changeset ann\nSELECT 1;"),
        change("DROP TABLE pet;"),
        {"step": "close", "uri": uri},
        {"step": "other", "method": "textDocument/definition"},
    ]));
    assert_eq!((shown(&answers[0]), &answers[0]["version"]), (Vec::new(), &json!(1)));
    assert_eq!(shown(&answers[1]), ["0 1 drop-table"]);
    // In UTF-16, of which the last character of the text has two.
    let range = &answers[1]["diagnostics"][0]["range"];
    assert_eq!(range["start"], json!({"line": 0, "character": 14}));
    assert_eq!(shown(&answers[2]), Vec::<String>::new());
    assert_eq!(shown(&answers[3]), ["0 1"]);
    let message = answers[3]["diagnostics"][0]["message"].as_str().expect("a message");
    assert!(message.contains("line 2: a changeset is written as"), "{message}");
    assert_eq!(shown(&answers[4]), ["0 1 drop-table"]);
    assert_eq!(shown(&answers[5]), Vec::<String>::new());
    assert_eq!(answers[6]["code"], -32601);
}

#[test]
fn hover_shows_the_rules_page() {
    let files = Files::new(&[]);
    let uri = files.uri("a.sql");
    let hover = |line: u32, character: u32| json!({"step": "hover", "uri": uri, "position": {"line": line, "character": character}});
    let answers = files.session(json!([
        open(
            &uri,
            "SELECT 1;\n\nALTER TABLE pet DROP COLUMN b;\nCREATE TABLE t (id int PRIMARY KEY);\n"
        ),
        hover(2, 20),
        hover(3, 20),
        hover(0, 3),
    ]));
    let page = |answer: &Value| answer["contents"]["value"].as_str().unwrap_or_default().to_owned();
    let of_command = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
        clean_environment(&mut command);
        command.args(["rules", "drop-column"]);
        run(command, "").ok()
    };
    assert_eq!(page(&answers[1]).trim(), of_command().trim());
    assert_eq!(answers[1]["contents"]["kind"], "markdown");
    assert!(
        page(&answers[2]).starts_with("# int-primary-key\n"),
        "{}",
        page(&answers[2])
    );
    assert!(!page(&answers[2]).contains("\n## "), "{}", page(&answers[2]));
    assert_eq!(answers[3], Value::Null);
}

/// The text with the edit.
fn edited(text: &str, edit: &Value) -> String {
    let at = |place: &Value| {
        let line = place["line"].as_u64().expect("a line") as usize;
        let start: usize = text.split_inclusive('\n').take(line).map(str::len).sum();
        start + place["character"].as_u64().expect("a character") as usize
    };
    let (start, end) = (at(&edit["range"]["start"]), at(&edit["range"]["end"]));
    format!(
        "{}{}{}",
        &text[..start],
        edit["newText"].as_str().expect("a text"),
        &text[end..]
    )
}

#[test]
fn the_quick_fix_writes_what_is_safe() {
    let files = Files::new(&[]);
    let texts = [
        "SELECT 1;\nCREATE INDEX i ON pet (a);\nSELECT 2;\n",
        "ALTER TABLE pet ADD CONSTRAINT c CHECK (a > 0)",
        "ALTER TABLE pet ADD CONSTRAINT f FOREIGN KEY (a) REFERENCES owner (id);",
        "ALTER TABLE pet ALTER COLUMN a SET NOT NULL;",
        "-- why\nDROP INDEX i;",
    ];
    for text in texts {
        let uri = files.uri("a.sql");
        let opened = files.session(json!([open(&uri, text)]));
        let diagnostics = &opened[0]["diagnostics"];
        let range = &diagnostics[0]["range"];
        let actions = json!({"step": "actions", "uri": uri, "range": range, "diagnostics": diagnostics});
        let answers = files.session(json!([open(&uri, text), actions]));
        let action = &answers[1][0];
        assert_eq!(
            (&action["kind"], answers[1].as_array().map(Vec::len)),
            (&json!("quickfix"), Some(1)),
            "{text}"
        );
        assert!(!action["diagnostics"].as_array().expect("its own").is_empty(), "{text}");
        let mended = edited(text, &action["edit"]["changes"][&uri][0]);
        let answers = files.session(json!([open(&uri, &mended)]));
        let left = shown(&answers[0]);
        let left: Vec<&String> = left.iter().filter(|told| !told.contains(" 3 ")).collect();
        assert!(left.is_empty(), "{text} became {mended}: {left:?}");
        assert!(mended.trim_end().ends_with(';') && !mended.contains(";;"), "{mended}");
    }
    // Where nothing is found, or there is no safe sequence, nothing is offered.
    let uri = files.uri("b.sql");
    let all = json!({"start": {"line": 0, "character": 0}, "end": {"line": 9, "character": 0}});
    let text = "SELECT 1;\nDROP TABLE pet;\n";
    let actions = json!({"step": "actions", "uri": uri, "range": all, "diagnostics": []});
    let answers = files.session(json!([open(&uri, text), actions]));
    assert_eq!(answers[1], json!([]));
}
