//! The program as it is called: exit codes, what goes to stdout and what to stderr.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

struct Result {
    code: i32,
    out: String,
    err: String,
}

impl From<Output> for Result {
    fn from(output: Output) -> Result {
        Result {
            code: output.status.code().expect("an exit code, not a signal"),
            out: String::from_utf8(output.stdout).expect("UTF-8"),
            err: String::from_utf8(output.stderr).expect("UTF-8"),
        }
    }
}

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("LOCKKEEPER_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Result {
    command(arguments).output().expect("it starts").into()
}

/// `check - …` with this on standard input.
fn check_text(sql: &str, arguments: &[&str]) -> Result {
    let mut command = command(&["check", "-"]);
    command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().expect("it starts");
    let mut stdin = child.stdin.take().expect("its stdin");
    stdin.write_all(sql.as_bytes()).expect("it reads");
    drop(stdin);
    child.wait_with_output().expect("it ends").into()
}

fn verdicts(result: &Result) -> Vec<serde_json::Value> {
    result
        .out
        .lines()
        .map(|line| serde_json::from_str(line).expect(line))
        .collect()
}

/// The exit code, and of each statement its line, its action and the first finding's rule.
fn judged(sql: &str, code: i32, expect: &[(u64, &str, &str)]) {
    let result = check_text(sql, &["--format", "json", "--exclude", "no-primary-key"]);
    let verdicts = verdicts(&result);
    let found: Vec<_> = verdicts
        .iter()
        .map(|verdict| {
            let rule = verdict["findings"][0]["rule"].as_str().unwrap_or("");
            (
                verdict["line"].as_u64().unwrap_or(0),
                verdict["action"].as_str().unwrap_or("?"),
                rule,
            )
        })
        .map(|(line, action, rule)| {
            if action == "forward" {
                (line, action, "")
            } else {
                (line, action, rule)
            }
        })
        .collect();
    assert_eq!(found, expect, "{sql}\n{}", result.out);
    assert_eq!(result.code, code, "{sql}");
}

fn write(path: &Path, text: impl AsRef<[u8]>) {
    std::fs::write(path, text).expect("written");
}

fn one_sentence(result: &Result, code: i32, parts: &[&str]) {
    assert_eq!(result.code, code, "{}", result.err);
    assert!(result.out.is_empty(), "{}", result.out);
    assert_eq!(result.err.lines().count(), 1, "{}", result.err);
    assert!(result.err.starts_with("lockkeeper: "), "{}", result.err);
    for part in parts {
        assert!(result.err.contains(part), "{part}: {}", result.err);
    }
}

#[test]
fn help_and_version_are_on_stdout() {
    let help = run(&["--help"]);
    assert_eq!(help.code, 0);
    assert!(
        help.out.contains("Examples:") && help.out.contains("lockkeeper check migrations/"),
        "{}",
        help.out
    );
    let help = run(&["serve", "--help"]);
    assert_eq!(help.code, 0);
    for part in [
        "--upstream",
        "[default: 127.0.0.1:6432]",
        "LOCKKEEPER_UPSTREAM",
        "SIGHUP",
        "psql -h 127.0.0.1",
    ] {
        let words: Vec<&str> = help.out.split_whitespace().collect();
        assert!(words.join(" ").contains(part), "{part}: {}", help.out);
    }
    let version = run(&["--version"]);
    assert_eq!(version.out.trim(), format!("lockkeeper {}", env!("CARGO_PKG_VERSION")));
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    for arguments in [
        &["serv"][..],
        &[],
        &["check", "--exclude", "drop-tabel", "-"],
        &["serve", "--upstrem", "x"],
        &["check", "--format", "xml", "-"],
    ] {
        let result = run(arguments);
        assert_eq!(result.code, 2, "{arguments:?}");
        assert!(!result.err.is_empty() && result.out.is_empty());
    }
    assert!(run(&["serve", "--upstrem", "x"]).err.contains("--upstream"));
    assert!(run(&["check", "--server-version", "12", "-"]).err.contains("13 to 18"));
}

#[test]
fn serve_refuses_wrong_settings() {
    one_sentence(&run(&["serve"]), 2, &["upstream is not set", "--upstream HOST:PORT"]);
    one_sentence(&run(&["serve", "--upstream", "db:x"]), 2, &["upstream: `db:x`", "port"]);
    one_sentence(
        &run(&["serve", "--upstream", "db", "--listen", "6432"]),
        2,
        &["write 127.0.0.1:6432"],
    );
    one_sentence(
        &run(&["serve", "--upstream", "db", "--policy", "strikt"]),
        2,
        &["did you mean `strict`?"],
    );
    one_sentence(
        &run(&["serve", "--upstream", "db", "--policy", "/none.toml"]),
        2,
        &["/none.toml", "No such file"],
    );
    one_sentence(
        &run(&["serve", "--upstream", "db", "--log-level", "wran"]),
        2,
        &["did you mean `warn`?"],
    );
    one_sentence(
        &run(&["serve", "--upstream", "db", "--threads", "5000"]),
        2,
        &["threads: 5000", "1024"],
    );
}

#[test]
fn serve_reads_a_configuration_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lockkeeper.toml");
    let name = file.to_str().expect("UTF-8");
    write(&file, "upstream = \"db\"\nlisen = \"x\"\n");
    let place = format!("{name}:2: unknown key `lisen`, did you mean `listen`?");
    one_sentence(&run(&["serve", "--config", name]), 2, &[&place]);
    write(&file, "upstream = \"db:\"\n");
    one_sentence(&run(&["serve", "--config", name]), 2, &["upstream: `db:`"]);
    // The flag wins over the variable, and the variable over the file.
    let from_variable = command(&["serve", "--config", name])
        .env("LOCKKEEPER_UPSTREAM", "v:v")
        .output();
    one_sentence(&from_variable.expect("it starts").into(), 2, &["upstream: `v:v`"]);
    let from_flag = command(&["serve", "--config", name, "--upstream", "f:f"])
        .env("LOCKKEEPER_UPSTREAM", "v:v")
        .output();
    one_sentence(&from_flag.expect("it starts").into(), 2, &["upstream: `f:f`"]);
    one_sentence(
        &run(&["serve", "--config", "/none.toml"]),
        2,
        &["configuration file /none.toml", "No such file"],
    );
}

#[test]
fn the_file_in_the_help_is_a_good_one() {
    let help = run(&["serve", "--help"]).out;
    let text: String = help
        .lines()
        .filter(|line| line.contains(" = "))
        .map(|line| format!("{line}\n"))
        .collect();
    assert_eq!(text.lines().count(), 5, "{help}");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("lockkeeper.toml");
    write(&file, text);
    let result = run(&["serve", "--config", file.to_str().expect("UTF-8"), "--threads", "5000"]);
    one_sentence(&result, 2, &["threads: 5000"]);
}

#[test]
fn a_wrong_policy_names_the_line() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("policy.toml");
    let name = file.to_str().expect("UTF-8");
    write(&file, "[rules]\ndrop-colum = \"warn\"\n");
    let expect = [name, "2", "drop-colum", "drop-column"];
    one_sentence(&run(&["check", "--policy", name, "-"]), 2, &expect);
    one_sentence(&run(&["serve", "--upstream", "db", "--policy", name]), 2, &expect);
}

#[test]
fn rules_are_listed_and_shown() {
    let list = run(&["rules"]);
    assert_eq!(list.code, 0);
    for name in ["drop-column", "nonconcurrent-index", "large-write"] {
        assert!(
            list.out.lines().any(|line| line.starts_with(name)),
            "{name}: {}",
            list.out
        );
        let page = run(&["rules", name]);
        assert_eq!(page.code, 0);
        assert!(
            page.out.starts_with(&format!("# {name}\n")) && page.out.contains("\n## Why\n"),
            "{}",
            page.out
        );
        let path = format!("{}/docs/src/rules/{name}.md", env!("CARGO_MANIFEST_DIR"));
        let book = std::fs::read_to_string(path).expect("its page");
        assert!(book.ends_with(&page.out), "{}", page.out);
    }
    one_sentence(
        &run(&["rules", "drop-colum"]),
        2,
        &["no rule `drop-colum`, did you mean `drop-column`?"],
    );
    let table = run(&["rules", "--markdown"]);
    assert_eq!(table.code, 0);
    assert!(table.out.starts_with("<!-- rules: begin") && table.out.trim_end().ends_with("<!-- rules: end -->"));
    assert_eq!(table.out.lines().count(), list.out.lines().count() - 2 + 4);
}

#[test]
fn statements_are_judged() {
    judged(
        "SELECT 1; INSERT INTO t VALUES (1);\n",
        0,
        &[(1, "forward", ""), (1, "forward", "")],
    );
    judged(
        "-- a\n\nCREATE INDEX i\n  ON t (a);",
        1,
        &[(3, "rewrite", "nonconcurrent-index")],
    );
    judged("ALTER TABLE t DROP COLUMN a", 1, &[(1, "reject", "drop-column")]);
    judged("ALTER TABLE t ADD COLUMN a boolean", 0, &[(1, "forward", "")]);
    judged("CREATE INDEX CONCURRENTLY i ON t (a)", 0, &[(1, "forward", "")]);
    judged("", 0, &[]);
    judged("-- nothing\n;;", 0, &[]);
}

#[test]
fn tables_that_the_file_creates_are_not_flagged() {
    judged(
        "CREATE TABLE t (id bigint PRIMARY KEY, a int);\nCREATE INDEX i ON t (a);\nALTER TABLE public.t DROP COLUMN a;\nDROP INDEX i;",
        0,
        &[
            (1, "forward", ""),
            (2, "forward", ""),
            (3, "forward", ""),
            (4, "forward", ""),
        ],
    );
    judged(
        "CREATE TABLE s.t (a int);\nCREATE INDEX ON t (a);",
        1,
        &[(1, "forward", ""), (2, "rewrite", "nonconcurrent-index")],
    );
    judged(
        "CREATE TABLE IF NOT EXISTS t (a int);\nCREATE INDEX ON t (a);",
        1,
        &[(1, "forward", ""), (2, "rewrite", "nonconcurrent-index")],
    );
    judged(
        "BEGIN;\nCREATE TABLE t (a bigint PRIMARY KEY);\nROLLBACK;\nALTER TABLE t DROP COLUMN a;",
        1,
        &[
            (1, "forward", ""),
            (2, "forward", ""),
            (3, "forward", ""),
            (4, "reject", "drop-column"),
        ],
    );
}

#[test]
fn a_write_that_may_be_large_is_warned_of() {
    judged(
        "UPDATE t SET a = 1 WHERE a IS NULL;\nUPDATE t SET a = 1 WHERE id = 7;\nDELETE FROM t;\nCREATE TABLE u (a bigint PRIMARY KEY);\nDELETE FROM u;",
        1,
        &[
            (1, "warn", "large-write"),
            (2, "forward", ""),
            (3, "rewrite", "large-write"),
            (4, "forward", ""),
            (5, "forward", ""),
        ],
    );
    judged(
        "UPDATE t SET a = 1 WHERE a IS NULL LIMIT 10000 RETURNING id",
        1,
        &[(1, "rewrite", "update-limit")],
    );
    let result = check_text("BEGIN; DELETE FROM t; COMMIT", &[]);
    assert!(
        result
            .out
            .contains("touches every row, so it is refused if the table has more than"),
        "{}",
        result.out
    );
}

#[test]
fn transactions_and_overrides_are_followed() {
    judged(
        "BEGIN;\nCREATE INDEX i ON t (a);\nCOMMIT;\nCREATE INDEX i ON t (a);",
        1,
        &[
            (1, "forward", ""),
            (2, "reject", "nonconcurrent-index"),
            (3, "forward", ""),
            (4, "rewrite", "nonconcurrent-index"),
        ],
    );
    judged(
        "SET lockkeeper.override = 'drop-column: ticket 42';\nALTER TABLE t DROP COLUMN a;\nRESET lockkeeper.override;\n\
         ALTER TABLE t DROP COLUMN a;",
        1,
        &[
            (1, "forward", ""),
            (2, "forward", ""),
            (3, "forward", ""),
            (4, "reject", "drop-column"),
        ],
    );
    judged(
        "BEGIN;\nSET LOCAL lockkeeper.override = 'drop-column: x';\nALTER TABLE t DROP COLUMN a;\nCOMMIT;\n\
         ALTER TABLE t DROP COLUMN a;",
        1,
        &[
            (1, "forward", ""),
            (2, "forward", ""),
            (3, "forward", ""),
            (4, "forward", ""),
            (5, "reject", "drop-column"),
        ],
    );
}

#[test]
fn the_json_has_the_documented_keys() {
    let result = check_text("CREATE INDEX i ON t (a)", &["--format", "json"]);
    let verdict = verdicts(&result).remove(0);
    let keys: Vec<_> = verdict.as_object().expect("an object").keys().cloned().collect();
    assert_eq!(keys, ["action", "file", "findings", "line", "statement", "steps"]);
    assert_eq!(verdict["file"], "-");
    assert_eq!(verdict["statement"], "CREATE INDEX i ON t (a)");
    let finding: Vec<_> = verdict["findings"][0]
        .as_object()
        .expect("a finding")
        .keys()
        .cloned()
        .collect();
    assert_eq!(
        finding,
        [
            "action",
            "end",
            "hint",
            "lock",
            "message",
            "overridden",
            "overridden_by",
            "rule",
            "start"
        ]
    );
    let place = |place: &serde_json::Value| (place["line"].as_u64(), place["column"].as_u64());
    let finding = &verdict["findings"][0];
    assert_eq!(
        (place(&finding["start"]), place(&finding["end"])),
        ((Some(1), Some(1)), (Some(1), Some(24)))
    );
    assert_eq!(verdict["findings"][0]["lock"], "SHARE");
    let step: Vec<_> = verdict["steps"][0]
        .as_object()
        .expect("a step")
        .keys()
        .cloned()
        .collect();
    assert_eq!(step, ["label", "sql"]);
    assert!(
        verdict["steps"][0]["sql"]
            .as_str()
            .is_some_and(|sql| sql.contains("CONCURRENTLY"))
    );
}

#[test]
fn the_text_names_the_place_and_sums_up() {
    let result = check_text(
        "SELECT 1;\nCREATE INDEX i\nON t (a);\nALTER TABLE t DROP COLUMN a;",
        &[],
    );
    assert_eq!(result.code, 1);
    assert!(
        result.out.contains("rewrite[nonconcurrent-index]: ") && result.out.contains(" --> -:2:1\n"),
        "{}",
        result.out
    );
    assert!(result.out.contains("\n2 | CREATE INDEX i …\n"), "{}", result.out);
    assert!(
        result.out.contains("reject[drop-column]: ") && result.out.contains(" --> -:4:15\n"),
        "{}",
        result.out
    );
    let last = result.out.lines().last().unwrap_or_default();
    assert_eq!(
        last,
        "3 statements in 1 file: 1 forwarded, 0 warned of, 1 rewritten, 1 rejected (for PostgreSQL 13 to 18, as --server-version was not given)"
    );
    assert!(!result.out.contains('\x1b'), "no colours in a pipe");
}

#[test]
fn policies_change_the_verdict() {
    let observe = check_text("ALTER TABLE t DROP COLUMN a", &["--policy", "observe"]);
    assert_eq!(observe.code, 0, "{}", observe.out);
    assert!(observe.out.contains("warn[drop-column]: "), "{}", observe.out);
    let strict = check_text("CREATE INDEX i ON t (a)", &["--policy", "strict"]);
    assert_eq!(strict.code, 1);
    assert!(strict.out.contains("reject[nonconcurrent-index]: "), "{}", strict.out);
}

#[test]
fn what_the_grammar_refuses_is_rejected_alone() {
    judged(
        "SELECT 1;\nALTER TABEL t;\nCREATE INDEX i ON t (a);\nALTER TABLE :t ADD a int;",
        1,
        &[
            (1, "forward", ""),
            (2, "reject", "unparsed"),
            (3, "rewrite", "nonconcurrent-index"),
            (4, "reject", "unparsed"),
        ],
    );
    let result = check_text("ALTER TABLE :t ADD a int", &[]);
    assert!(result.out.contains("psql variable"), "{}", result.out);
}

#[test]
fn psql_commands_and_copy_data_are_skipped() {
    let sql = "\\set ON_ERROR_STOP on\n\\i other.sql\nCOPY t FROM stdin;\n1\tALTER TABLE t DROP COLUMN a;\n\\.\nALTER TABLE t DROP COLUMN b;";
    judged(sql, 1, &[(3, "forward", ""), (6, "reject", "drop-column")]);
    let result = check_text(sql, &[]);
    let notes: Vec<_> = result.err.lines().collect();
    assert_eq!(
        notes,
        [
            "-:1: note: \\set is psql's, it is skipped",
            "-:2: note: \\i is psql's, it is skipped: the file that it names is not read: check it too"
        ]
    );
    let result = check_text("SELECT 1;\n\\q", &[]);
    assert_eq!(result.err.trim(), "-:2: note: \\q is psql's, it is skipped");
}

#[test]
fn directories_are_sorted_and_what_cannot_be_read_is_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = |name: &str| dir.path().join(name);
    write(&path("2.sql"), "ALTER TABLE t DROP COLUMN a;");
    write(&path("10.sql"), "\u{feff}SELECT 1;");
    write(&path("readme.txt"), "not SQL");
    std::fs::create_dir(path("more")).expect("made");
    write(&path("more/3.SQL"), "SELECT 2;");
    let all = run(&["check", "--format", "json", dir.path().to_str().expect("UTF-8")]);
    let files: Vec<_> = verdicts(&all)
        .iter()
        .map(|verdict| verdict["file"].as_str().map(str::to_string))
        .collect();
    let expect = ["2.sql", "10.sql", "more/3.SQL"].map(|name| Some(path(name).display().to_string()));
    assert_eq!(files, expect);
    assert_eq!(all.code, 1);

    write(&path("utf16.sql"), b"\xff\xfeS\0");
    write(&path("latin1.sql"), b"SELECT 1;\n-- \xe9\n");
    write(&path("nul.sql"), b"SELECT 1;\0");
    std::fs::create_dir(path("empty")).expect("made");
    let text = |name: &str| path(name).display().to_string();
    let names = ["none.sql", "utf16.sql", "latin1.sql", "nul.sql", "empty", "2.sql"].map(text);
    let mut arguments = vec!["check", "--format", "json"];
    arguments.extend(names.iter().map(String::as_str));
    let result = run(&arguments);
    assert_eq!(result.code, 2);
    // What can be read is checked all the same.
    assert_eq!(verdicts(&result).len(), 1);
    let lines: Vec<_> = result.err.lines().collect();
    assert_eq!(lines.len(), 5, "{}", result.err);
    for (line, part) in lines.iter().zip([
        "No such file",
        "UTF-16",
        "latin1.sql:2: it is not UTF-8",
        "NUL",
        "no *.sql",
    ]) {
        assert!(
            line.starts_with("lockkeeper: cannot read ") && line.contains(part),
            "{line}"
        );
    }
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    let mut child = command(&["rules"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    drop(child.stdout.take());
    let result: Result = child.wait_with_output().expect("it ends").into();
    assert_eq!((result.code, result.err.as_str()), (0, ""));
}
