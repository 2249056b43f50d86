//! `lockkeeper demo`, small: that Lockkeeper keeps what the demo promises, and that nothing is left behind.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Enough for `users` to be a large table to the standard policy.
const ROWS: &str = "150000";

/// A temporary directory of its own, which other accounts can reach as they can /tmp: the server runs as one.
fn open_directory() -> tempfile::TempDir {
    let dir = tempfile::tempdir_in("/tmp").unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}

fn start_demo(dir: &Path, rows: &str) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lockkeeper"));
    command.args(["demo", "--rows", rows]).env("TMPDIR", dir);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

/// The port of `PostgreSQL 15.18 on 127.0.0.1:39019, thrown away afterwards`.
fn port_in(text: &str) -> u16 {
    let (_, rest) = text
        .split_once("on 127.0.0.1:")
        .unwrap_or_else(|| panic!("no port in {text:?}"));
    rest.chars()
        .take_while(char::is_ascii_digit)
        .collect::<String>()
        .parse()
        .unwrap()
}

#[track_caller]
fn nothing_is_left(dir: &Path, port: u16) {
    let left: Vec<_> = std::fs::read_dir(dir)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .collect();
    assert!(left.is_empty(), "left behind: {left:?}");
    assert!(
        TcpStream::connect(("127.0.0.1", port)).is_err(),
        "somebody still answers on port {port}"
    );
}

#[test]
fn the_demo_keeps_its_promises() {
    let dir = open_directory();
    let output = start_demo(dir.path(), ROWS).wait_with_output().unwrap();
    let (table, progress) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{table}\n{progress}");
    nothing_is_left(dir.path(), port_in(&progress));

    assert!(table.lines().all(|line| line.chars().count() <= 120), "{table}");
    for run in ["   direct ", "   proxied "] {
        let lines = table.lines().filter(|line| line.starts_with(run)).count();
        assert!(lines > 16, "every statement has a line {run:?}:\n{table}");
    }
    for (sql, said) in [
        ("LIMIT $1 RETURNING id", "fails: 42601"),
        ("RENAME COLUMN name TO full_name", "refused: rename-column"),
        ("TRUNCATE events", "refused: truncate"),
    ] {
        let after = &table[table.find(sql).unwrap_or_else(|| panic!("no {sql} in\n{table}"))..];
        let block: Vec<&str> = after.lines().take(3).collect();
        assert!(block.join("\n").contains(said), "{block:#?}");
    }
    assert!(table.contains("same schema and values"), "{table}");
    // No column is cut, and what needs a word has it.
    assert!(!table.contains('…'), "{table}");
    for told in [
        "a report has just read the table, and keeps its transaction open",
        "SET lockkeeper.override = 'drop-column: no release since May reads newsletter'; ALTER TABLE users DROP COLUMN newsletter",
        "  ERROR:  lockkeeper: ",
        "  HINT:  ",
    ] {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words(&table).contains(&words(told)), "{told}:\n{table}");
    }
    assert!(
        progress.contains("review page of what was done: http://127.0.0.1:"),
        "{progress}"
    );
}

#[test]
fn an_interrupted_demo_leaves_nothing() {
    let dir = open_directory();
    let mut demo = start_demo(dir.path(), "20000");
    let mut stderr = BufReader::new(demo.stderr.take().unwrap());
    let mut said = String::new();
    while !said.contains(" 1/") {
        assert!(stderr.read_line(&mut said).unwrap() > 0, "it ended early: {said}");
    }
    // SAFETY: kill(2) has no memory effects, and the child has not been waited for.
    assert_eq!(unsafe { libc::kill(demo.id() as i32, libc::SIGINT) }, 0);
    let asked = Instant::now();
    stderr.read_to_string(&mut said).unwrap();
    let status = demo.wait().unwrap();
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(
        asked.elapsed() < Duration::from_secs(15),
        "it took {:?} to stop",
        asked.elapsed()
    );
    assert!(said.contains("interrupted"), "{said}");
    nothing_is_left(dir.path(), port_in(&said));
}
