use super::log_event::{LogEvent, What};
use super::read::{Follow, blocks, events, in_order, story};
use super::sink::Fsync;
use super::verify::{Expect, Fault, Verified, verify};
use super::*;
use crate::plan::lock::LockMode;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

fn event(statement: &str) -> Event {
    Event {
        time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_000_001),
        phase: Phase::Statement,
        id: "abcd2345-7.1".into(),
        session: 7,
        backend_pid: 4711,
        user: "app".into(),
        database: "shop".into(),
        application_name: "psql".into(),
        client: "127.0.0.1:53412".into(),
        policy: "standard".into(),
        statement: statement.into(),
        parameters: vec![Some("par".into()), None],
        relations: vec!["public.t".into()],
        action: "rewrite".into(),
        findings: Vec::new(),
        why: Vec::new(),
        steps: Vec::new(),
        outcome: "done".into(),
        transaction: None,
        sqlstate: None,
        error: None,
        detail: None,
        hint: None,
        rows: None,
        duration_ms: 1.5,
        lock_tries: 1,
        lock_wait_ms: 0.0,
        after: None,
        rollback_plan: Vec::new(),
        contract: None,
    }
}

fn sink(path: &Path) -> Sink {
    Sink {
        path: path.to_path_buf(),
        fsync: Fsync::None,
        rotate_bytes: None,
        rotate_after: None,
    }
}

fn open(path: &Path) -> Audit {
    Audit::open(sink(path)).expect("the log")
}

fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

fn write(audit: &Audit, statement: &str) -> Result<(), String> {
    block_on(audit.write(&event(statement), Literals::Keep))
}

/// The JSON lines that are whole, those about the log too.
fn lines(path: &Path) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(path).expect("the log");
    text.lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .collect()
}

fn statements(path: &Path) -> Vec<String> {
    let lines = lines(path);
    lines
        .iter()
        .filter_map(|line| line["statement"].as_str().map(str::to_owned))
        .collect()
}

/// What is told about the log itself.
fn told(path: &Path) -> Vec<String> {
    let lines = lines(path);
    lines
        .iter()
        .filter_map(|line| line["what"].as_str().map(str::to_owned))
        .collect()
}

/// In the right order, whatever order they are given in.
fn verified(paths: &[&Path]) -> Result<Verified, String> {
    let paths: Vec<PathBuf> = paths.iter().map(|path| path.to_path_buf()).collect();
    match verify(&in_order(&paths).expect("files"), &Expect::default()) {
        Ok(verified) => Ok(verified),
        Err(Fault::Broken(what) | Fault::Unreadable(what)) => Err(what),
    }
}

/// All files of the log in its directory.
fn files(path: &Path) -> Vec<PathBuf> {
    let mut files = file::siblings(path);
    files.push(path.to_path_buf());
    files
}

fn verified_all(path: &Path) -> Result<Verified, String> {
    let files = files(path);
    verified(&files.iter().map(PathBuf::as_path).collect::<Vec<_>>())
}

#[test]
fn an_event_is_one_line_with_every_key() {
    let finding = Finding {
        rule: "nonconcurrent-index",
        lock: LockMode::Share,
        message: "CREATE INDEX blocks writes".into(),
        hint: "CREATE INDEX CONCURRENTLY".into(),
        action: Action::Rewrite,
        overridden: None,
        span: 0..0,
    };
    let mut event = event("CREATE INDEX\n\"ü\u{2028}\\\" ON t (a)");
    event.findings.push(FindingRecord::from(&finding));
    event.steps.push(StepRecord {
        label: "build index".into(),
        sql: "ALTER ROLE a PASSWORD 'secret'".into(),
        ..StepRecord::default()
    });
    event.rollback_plan.push("ALTER ROLE a PASSWORD 'secret'".into());
    let line = serde_json::to_string(&event.masked(Literals::Keep)).expect("JSON");
    assert!(!line.contains('\n') && !line.contains("secret"), "{line}");
    let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
    assert_eq!(value["time"], "2026-01-01T00:00:00.000001Z");
    assert_eq!(value["event"], "statement");
    assert_eq!(value["backend_pid"], 4711);
    assert_eq!(value["statement"], "CREATE INDEX\n\"ü\u{2028}\\\" ON t (a)");
    assert_eq!(value["findings"][0]["lock"], "SHARE");
    assert_eq!(value["findings"][0]["action"], "rewrite");
    assert_eq!(value["sqlstate"], serde_json::Value::Null);
    assert_eq!(value.as_object().map(|object| object.len()), Some(28));
    assert_eq!(
        serde_json::from_str::<Event>(&line).expect("read back"),
        event.masked(Literals::Keep)
    );
}

/// docs/src/reference/audit-log.md names every key.
#[test]
fn every_key_is_documented() {
    let page = include_str!("../../docs/src/reference/audit-log.md");
    let mut event = event("x");
    event.findings.push(FindingRecord::default());
    event.steps.push(StepRecord {
        blockers: vec![Blocker::default()],
        ..StepRecord::default()
    });
    let check = |object: &serde_json::Value| {
        for key in object.as_object().expect("an object").keys() {
            assert!(
                page.contains(&format!("`{key}`")),
                "reference/audit-log.md says nothing about {key}"
            );
        }
    };
    let value = serde_json::to_value(&event).expect("JSON");
    check(&value);
    check(&value["findings"][0]);
    check(&value["steps"][0]);
    check(&value["steps"][0]["blockers"][0]);
    check(&serde_json::to_value(LogEvent::new(What::Opened, String::new())).expect("JSON"));
}

#[test]
fn redacted_events_have_no_constant_of_the_statement_anywhere() {
    let mut event = event("UPDATE t SET a = 'mango' WHERE b = 4711 AND c = $1");
    event.parameters = vec![Some("papaya".into())];
    event.sqlstate = Some("22P02".into());
    event.error = Some("invalid input syntax for type integer: \"mango\"".into());
    event.detail = Some("Failing row contains (papaya).\nlockkeeper: keys up to (4711).".into());
    event.hint = Some("UPDATE t SET a = 'mango'".into());
    event.why = vec!["b = 4711".into()];
    event.findings = vec![FindingRecord {
        message: "mango".into(),
        hint: "b = 4711".into(),
        ..FindingRecord::default()
    }];
    event.steps = vec![StepRecord {
        sql: event.statement.clone(),
        error: event.error.clone(),
        blockers: vec![Blocker {
            query: Some("SELECT 'kiwi' /* lime */".into()),
            ..Blocker::default()
        }],
        ..StepRecord::default()
    }];
    event.rollback_plan = vec!["UPDATE t SET a = 'mango'".into()];
    let line = serde_json::to_string(&event.masked(Literals::Redact)).expect("JSON");
    for fruit in ["mango", "papaya", "kiwi", "lime"] {
        assert!(!line.contains(fruit), "{fruit}: {line}");
    }
    // Once it is the process ID.
    assert_eq!(line.matches("4711").count(), 1, "{line}");
    assert_eq!(
        serde_json::to_string(&event.masked(Literals::Keep))
            .expect("JSON")
            .matches("mango")
            .count(),
        7
    );
}

#[test]
fn off_takes_everything() {
    let audit = Audit::off();
    assert_eq!(write(&audit, "x"), Ok(()));
    audit.reopen();
    block_on(audit.close());
    assert!(audit.healthy());
}

#[test]
fn many_threads_write_whole_lines() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let audit = open(&path);
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let audit = audit.clone();
            scope.spawn(move || {
                block_on(async {
                    for number in 0..1_250 {
                        let long = "x".repeat(number % 300);
                        let event = event(&format!("ALTER TABLE t{thread} -- {number} {long}"));
                        audit.write(&event, Literals::Keep).await.expect("written");
                    }
                })
            });
        }
    });
    block_on(audit.close());
    let statements = statements(&path);
    assert_eq!(statements.len(), 10_000);
    // Of one writer, in its order.
    let of_third = statements
        .iter()
        .filter_map(|text| text.strip_prefix("ALTER TABLE t3 -- "));
    let of_third: Vec<_> = of_third
        .filter_map(|text| text.split(' ').next()?.parse::<u32>().ok())
        .collect();
    assert_eq!(of_third, (0..1_250).collect::<Vec<_>>());
    assert!(audit.healthy());
    let verified = verified(&[&path]).expect("whole");
    assert_eq!((verified.lines, verified.closed), (10_002, true));
    assert_eq!(verified.remarks, Vec::<String>::new());
}

#[test]
fn several_writers_share_a_file_over_rotation() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let audits: Vec<Audit> = (0..4)
        .map(|_| {
            let sink = Sink {
                rotate_bytes: Some(20_000),
                ..sink(&path)
            };
            Audit::open(sink).expect("the log")
        })
        .collect();
    std::thread::scope(|scope| {
        for (n, audit) in audits.iter().enumerate() {
            scope.spawn(move || {
                for number in 0..100 {
                    write(audit, &format!("w{n} {number}")).expect("written");
                }
            });
        }
    });
    audits.iter().for_each(|audit| block_on(audit.close()));
    let all = files(&path);
    assert!(all.len() > 5, "{all:?}");
    let written: usize = all.iter().map(|file| statements(file).len()).sum();
    assert_eq!(written, 400);
    let found = verified_all(&path).expect("whole");
    assert!(found.lines > 400 + 8, "{found:?}");
    // Each file but the first names the one before.
    let rotated = all.len() - 1;
    let named = all
        .iter()
        .filter(|file| lines(file)[0]["file"].as_str().is_some_and(|name| name.contains(".2")))
        .count();
    assert_eq!(named, rotated);
    // One that is taken away is missed.
    let ordered = in_order(&all).expect("files");
    let mut without: Vec<&Path> = ordered.iter().map(PathBuf::as_path).collect();
    without.remove(2);
    let error = verified(&without).expect_err("a file is missing");
    assert!(
        error.contains(":1: it goes on from line") && error.contains("lines are missing"),
        "{error}"
    );
    // The iterator for others reads them all, in order.
    let read: Vec<Event> = events(&ordered, filter::Filter::default())
        .expect("files")
        .map(Result::unwrap)
        .collect();
    assert_eq!(read.len(), 400);
    let of_one: Vec<_> = read
        .iter()
        .filter_map(|event| event.statement.strip_prefix("w1 ")?.parse::<u32>().ok())
        .collect();
    assert_eq!(of_one, (0..100).collect::<Vec<_>>());
}

#[test]
fn what_is_done_to_a_log_shows() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let audit = open(&path);
    (0..5).for_each(|n| write(&audit, &format!("statement {n}")).expect("written"));
    block_on(audit.close());
    let text = std::fs::read_to_string(&path).expect("the log");
    let whole: Vec<&str> = text.lines().collect();
    assert_eq!(whole.len(), 7);
    let check = |lines: &[&str], end: &str, expect: &str| {
        std::fs::write(&path, lines.join("\n") + end).expect("written");
        let error = verified(&[&path]).expect_err(expect);
        assert!(error.starts_with(&format!("{}:{expect}", path.display())), "{error}");
    };
    let with = |n: usize, line: &'static str| [&whole[..n], &[line], &whole[n + 1..]].concat();
    let changed = text
        .lines()
        .nth(3)
        .expect("a line")
        .replace("statement 2", "statement 9");
    check(
        &with(3, Box::leak(changed.into_boxed_str())),
        "\n",
        "4: this line was changed",
    );
    check(
        &[&whole[..3], &whole[4..]].concat(),
        "\n",
        "4: 1 lines before it are missing",
    );
    check(
        &[&whole[..2], &[whole[3], whole[2]], &whole[4..]].concat(),
        "\n",
        "3: 1 lines before it are missing",
    );
    check(
        &[&whole[..3], &[whole[2]], &whole[3..]].concat(),
        "\n",
        "4: it stands in the wrong place",
    );
    check(&whole[1..], "\n", "1: the file's beginning is missing");
    check(&with(2, "no line"), "\n", "3: this is no line of the log");
    check(&with(6, "no line"), "\n", "7: 7 bytes at the end are no whole line");
    check(&whole, "", "7: ");
    check(
        &[&whole[..6], &[&whole[6][..50]]].concat(),
        "",
        "7: 50 bytes at the end",
    );
    // One who knows the format makes a line anew, and gives it a hash that fits.
    let mut forged = Vec::new();
    let line = chain::read(whole[3].as_bytes()).expect("a line");
    let before = chain::read(whole[2].as_bytes()).expect("a line").link;
    let body = [b"{", &line.body[..line.body.len() - 1], b" }"].concat();
    chain::seal(before, &body, &mut forged);
    let forged = String::from_utf8(forged).expect("text").trim_end().to_owned();
    check(
        &with(3, Box::leak(forged.into_boxed_str())),
        "\n",
        "5: the line before it is another",
    );
    // What is cut off at the end shows only to one who knows the hash, or as a log that was not closed.
    std::fs::write(&path, whole[..6].join("\n") + "\n").expect("written");
    let found = verified(&[&path]).expect("nothing to see");
    assert!(
        !found.closed && found.remarks[0].contains("lines were cut off"),
        "{found:?}"
    );
    let hash = chain::read(whole[6].as_bytes()).expect("a line").link.hash;
    let expect = Expect {
        hash: Some(hash),
        ..Expect::default()
    };
    let missed = verify(std::slice::from_ref(&path), &expect);
    assert!(
        matches!(&missed, Err(Fault::Broken(what)) if what.contains("no line has the expected hash")),
        "{missed:?}"
    );
    std::fs::write(&path, &text).expect("written");
    assert!(verify(std::slice::from_ref(&path), &expect).is_ok());
}

#[test]
fn a_running_process_notices_that_lines_are_gone() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("audit.jsonl");
    let audit = open(&path);
    (0..3).for_each(|n| write(&audit, &format!("statement {n}")).expect("written"));
    let text = std::fs::read_to_string(&path).expect("the log");
    let end = text.trim_end().rfind('\n').expect("lines") + 1;
    std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("the log")
        .set_len(end as u64)
        .expect("cut");
    write(&audit, "later").expect("written");
    assert_eq!(told(&path), ["opened", "cut"]);
    let error = verified(&[&path]).expect_err("it was cut");
    assert!(
        error.contains(":4: lines that this process had seen are gone: the last was line 4"),
        "{error}"
    );
}

#[test]
fn a_torn_line_is_closed_off_and_told() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a");
    let audit = open(&path);
    write(&audit, "first").expect("written");
    drop(audit);
    let check = |junk: &str, lines: u64, remarks: usize| {
        let mut file = std::fs::File::options().append(true).open(&path).expect("the log");
        file.write_all(junk.as_bytes()).expect("written");
        let audit = open(&path);
        write(&audit, "next").expect("written");
        let found = verified(&[&path]).expect(junk);
        assert_eq!((found.lines, found.remarks.len()), (lines, remarks + 1), "{found:?}");
    };
    let torn = std::fs::read_to_string(&path)
        .expect("the log")
        .lines()
        .last()
        .expect("a line")[..200]
        .to_owned();
    check(&torn, 5, 1);
    check("a\nb\n\nc", 8, 2);
    check("\n", 11, 3);
    // What was put there later is not explained by the line that told of something else.
    let text = std::fs::read_to_string(&path)
        .expect("the log")
        .replace("\nb\n", "\nx\n");
    std::fs::write(&path, text).expect("written");
    let error = verified(&[&path]).expect_err("another text");
    assert!(
        error.contains("this is no line of the log, and the one after does not tell of it"),
        "{error}"
    );
}

#[test]
fn a_full_device_is_told_and_names_the_file() {
    let audit = open(Path::new("/dev/full"));
    let error = write(&audit, "x").expect_err("no room");
    assert!(
        error.contains("/dev/full") && error.contains("No space left"),
        "{error}"
    );
    assert!(!audit.healthy());
    assert_eq!(audit.lost(), 1);
}

/// A file system of four pages, unmounted at the end; None where this user may not mount.
struct Tiny(std::ffi::CString);

impl Tiny {
    fn mount(at: &Path) -> Option<Tiny> {
        use std::os::unix::ffi::OsStrExt;
        let at = std::ffi::CString::new(at.as_os_str().as_bytes()).ok()?;
        let options = c"size=16k".as_ptr().cast();
        // SAFETY: all strings end with NUL and live for the whole call.
        let mounted = unsafe { libc::mount(c"tmpfs".as_ptr(), at.as_ptr(), c"tmpfs".as_ptr(), 0, options) };
        (mounted == 0).then_some(Tiny(at))
    }
}

impl Drop for Tiny {
    fn drop(&mut self) {
        // SAFETY: as above.
        unsafe { libc::umount2(self.0.as_ptr(), libc::MNT_DETACH) };
    }
}

#[test]
fn writing_goes_on_when_a_full_disk_has_room_again() {
    let dir = tempfile::tempdir().expect("a directory");
    let Some(_tiny) = Tiny::mount(dir.path()) else {
        // An ordinary user has only the device, which never has room.
        let audit = open(Path::new("/dev/full"));
        for _ in 0..3 {
            assert!(write(&audit, "x").is_err());
        }
        return;
    };
    let (path, filler) = (dir.path().join("audit.jsonl"), dir.path().join("filler"));
    std::fs::write(&filler, [0; 4096]).expect("room for the filler");
    let audit = open(&path);
    let mut written = 0;
    let error = loop {
        match write(&audit, "ALTER TABLE t ADD COLUMN c int") {
            Ok(()) => written += 1,
            Err(error) => break error,
        }
        assert!(written < 100, "the disk does not get full");
    };
    assert!(
        error.contains("No space left") && error.contains("audit.jsonl"),
        "{error}"
    );
    assert!(!audit.healthy());
    assert!(write(&audit, "x").is_err());
    assert_eq!(audit.lost(), 2);
    // Of the line that did not fit, nothing stays.
    assert_eq!(verified(&[&path]).expect("whole").lines, written + 1);
    std::fs::remove_file(&filler).expect("removed");
    for _ in 0..3 {
        write(&audit, "x").expect("there is room again");
    }
    assert!(audit.healthy());
    assert_eq!(
        (audit.lost(), told(&path)),
        (0, vec!["opened".to_owned(), "lost".into()])
    );
    let found = verified(&[&path]).expect("whole");
    assert_eq!(found.lines, written + 5);
    assert!(found.remarks[0].contains("2 events could not be written"), "{found:?}");
}

#[test]
fn what_cannot_be_opened_is_told() {
    let check = |path: &Path, expect: &str| {
        let error = Audit::open(sink(path)).err().expect("an error");
        assert!(
            error.contains(expect) && error.contains(&path.display().to_string()),
            "{error}"
        );
    };
    let dir = tempfile::tempdir().expect("a directory");
    check(dir.path(), "directory");
    check(&dir.path().join("none/audit.jsonl"), "No such file or directory");
}

#[test]
fn a_lock_that_is_never_given_back_is_an_error_and_not_a_wait() {
    use std::os::fd::AsRawFd;
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a");
    let audit = open(&path);
    let other = std::fs::File::open(&path).expect("the log");
    // SAFETY: flock(2) takes no memory; the file is open.
    assert_eq!(unsafe { libc::flock(other.as_raw_fd(), libc::LOCK_EX) }, 0);
    let error = write(&audit, "x").expect_err("locked");
    assert!(error.contains("another process has held its lock"), "{error}");
    drop(other);
    write(&audit, "y").expect("written");
    assert_eq!(
        (told(&path), statements(&path)),
        (vec!["opened".to_owned(), "lost".into()], vec!["y".to_owned()])
    );
}

#[test]
fn a_file_that_was_moved_or_removed_is_left_at_once_and_named() {
    use std::os::unix::fs::PermissionsExt;
    let dir = tempfile::tempdir().expect("a directory");
    let (path, moved) = (dir.path().join("a"), dir.path().join("a.1"));
    let audit = open(&path);
    let write = |text: &str| write(&audit, text).expect("written");
    write("first");
    std::fs::rename(&path, &moved).expect("moved");
    write("second");
    assert_eq!(
        (statements(&moved), statements(&path)),
        (vec!["first".to_owned()], vec!["second".to_owned()])
    );
    assert_eq!(lines(&path)[0]["file"], "a.1");
    assert_eq!(verified(&[&path, &moved]).expect("whole").lines, 4);
    // Without the oldest file it is not whole, unless its end is known from elsewhere.
    let alone = verified(&[&path]).expect_err("the oldest file is missing");
    assert!(
        alone.contains("goes on from line 2 in a.1, which was not given"),
        "{alone}"
    );
    let last = alone
        .rsplit("(here: ")
        .next()
        .expect("a hash")
        .trim_end_matches(')')
        .to_owned();
    let after = |hash: &str| {
        let expect = Expect {
            after: super::chain::hash_of_hex(hash.as_bytes()),
            ..Expect::default()
        };
        verify(std::slice::from_ref(&path), &expect)
    };
    let known = after(&last).expect("whole");
    assert!(known.remarks[0].contains("its hash is the expected one"), "{known:?}");
    assert!(after(&"0".repeat(64)).is_err());
    std::fs::remove_file(&path).expect("removed");
    write("third");
    assert_eq!(statements(&path), ["third"]);
    assert_eq!(lines(&path)[0]["file"], serde_json::Value::Null);
    let mode = std::fs::metadata(&path).expect("the log").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let error = verified(&[&path, &moved]).expect_err("a file was removed");
    assert!(error.contains("it goes on from line 4 (a file)"), "{error}");
    // SIGHUP makes the new file at once.
    std::fs::rename(&path, dir.path().join("a.2")).expect("moved");
    audit.reopen();
    block_on(audit.close());
    assert_eq!(told(&path), ["continues", "closed"]);
}

#[test]
fn a_file_that_was_emptied_in_place_goes_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, copy) = (dir.path().join("a"), dir.path().join("a.1"));
    let audit = open(&path);
    write(&audit, "first").expect("written");
    std::fs::copy(&path, &copy).expect("copied");
    std::fs::File::options()
        .write(true)
        .open(&path)
        .expect("the log")
        .set_len(0)
        .expect("emptied");
    write(&audit, "second").expect("written");
    assert_eq!(verified(&[&path, &copy]).expect("whole").lines, 4);
}

#[test]
fn a_start_goes_on_from_the_file_that_was_moved_away_meanwhile() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, moved) = (dir.path().join("a"), dir.path().join("a.1"));
    let audit = open(&path);
    write(&audit, "first").expect("written");
    block_on(audit.close());
    std::fs::rename(&path, &moved).expect("moved");
    let audit = open(&path);
    write(&audit, "second").expect("written");
    assert_eq!(lines(&path)[0]["file"], "a.1");
    assert_eq!(verified(&[&path, &moved]).expect("whole").lines, 5);
}

#[test]
fn a_reopen_that_fails_keeps_the_old_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let (path, moved) = (dir.path().join("a"), dir.path().join("a.1"));
    let audit = open(&path);
    std::fs::rename(&path, &moved).expect("moved");
    std::fs::create_dir(&path).expect("in the way");
    audit.reopen();
    write(&audit, "x").expect("written to the old file");
    assert_eq!(statements(&moved), ["x"]);
    assert!(audit.healthy());
}

#[test]
fn a_file_grows_old() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a");
    let aged = Sink {
        rotate_after: Some(Duration::from_millis(50)),
        fsync: Fsync::Each,
        ..sink(&path)
    };
    let audit = Audit::open(aged).expect("the log");
    let deadline = SystemTime::now() + Duration::from_secs(20);
    while files(&path).len() < 3 {
        write(&audit, "x").expect("written");
        assert!(SystemTime::now() < deadline, "it is never rotated");
    }
    verified_all(&path).expect("whole");
}

#[test]
fn a_reader_follows_over_rotation() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a");
    let audit = Audit::open(Sink {
        rotate_bytes: Some(5_000),
        ..sink(&path)
    })
    .expect("the log");
    let mut follow = Follow::new(&path).expect("the log");
    let mut seen = String::new();
    let mut read = |follow: &mut Follow| loop {
        let text = follow.poll().expect("read");
        if text.is_empty() {
            break seen.matches("statement-").count();
        }
        seen.push_str(&String::from_utf8(text).expect("text"));
    };
    let mut n = 0;
    // Once many rotations between two looks, then few.
    for round in [60, 1, 1, 20, 3, 0] {
        for _ in 0..round {
            write(&audit, &format!("statement-{n}")).expect("written");
            n += 1;
        }
        assert_eq!(read(&mut follow), n, "{round}");
    }
    assert!(files(&path).len() > 10);
}

#[test]
fn one_statement_s_story_and_gzip() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("a");
    let audit = open(&path);
    for (id, phase) in [
        ("x-1.1", Phase::Planned),
        ("x-1.2", Phase::Planned),
        ("x-1.1", Phase::Statement),
    ] {
        let event = Event {
            id: id.into(),
            phase,
            ..event("s")
        };
        block_on(audit.write(&event, Literals::Keep)).expect("written");
    }
    block_on(audit.close());
    let status = std::process::Command::new("gzip").arg(&path).status().expect("gzip");
    assert!(status.success());
    let path = dir.path().join("a.gz");
    let found = story(std::slice::from_ref(&path), "1.1").expect("readable");
    assert_eq!(
        found.iter().map(|event| event.phase).collect::<Vec<_>>(),
        [Phase::Planned, Phase::Statement]
    );
    assert_eq!(story(std::slice::from_ref(&path), ".1").expect("readable"), []);
    assert_eq!(verified(&[&path]).expect("whole").lines, 5);
    // A compressed file that is cut is told, not taken for its end.
    let bytes = std::fs::read(&path).expect("the file");
    std::fs::write(&path, &bytes[..bytes.len() - 20]).expect("cut");
    let failed = blocks(std::slice::from_ref(&path))
        .expect("it opens")
        .find_map(Result::err);
    assert!(failed.is_some_and(|error| error.to_string().contains("gzip could not read all of it")));
}

/// What is told from the raw line, or from a part of the event, is what the whole event tells.
#[test]
fn lines_are_told_as_their_events_are() {
    use super::brief::Brief;
    use super::filter::{Filter, LineKind, Selector, kind_and_id};
    let texts = [
        "DROP TABLE Users",
        "say \"é\\\n",
        "\u{212a}elvin",
        "İzmir",
        "tab\t=1",
        "",
    ];
    let outcomes = ["done", "failed", "rejected"];
    let mut events = Vec::new();
    for (n, text) in texts.iter().cycle().take(24).enumerate() {
        let mut one = event(text);
        one.id = format!("abcd2345-{}.{n}", n % 3);
        one.time += Duration::from_secs(n as u64 / 4 * 3600);
        one.user = texts[n % 5].into();
        one.application_name = if n % 2 == 0 { "psql".into() } else { "é \"x\"".into() };
        one.outcome = outcomes[n % 3].into();
        one.action = ["rewrite", "reject"][n % 2].into();
        one.relations = vec![
            ["public.users", "shop.orders", "a.\"b"][n % 3].into(),
            "public.t".into(),
        ];
        one.findings = (0..n % 3)
            .map(|i| FindingRecord {
                rule: ["drop-table", "lock-queue"][i].into(),
                message: format!("Message {n}"),
                ..FindingRecord::default()
            })
            .collect();
        (one.rows, one.duration_ms, one.error) =
            (Some(n as u64), n as f64 * 100.0, (n % 2 == 0).then(|| text.to_string()));
        events.push(one);
    }
    let some = |text: &str| Some(text.to_string());
    let at = |hours: u64| Some(event("").time + Duration::from_secs(hours * 3600));
    let mut filters = vec![Filter::default()];
    for text in [
        "drop table",
        "é",
        "kelvin",
        "i",
        "say \"",
        "\\",
        "message 7",
        "nowhere",
        "USERS",
        "=1",
    ] {
        filters.push(Filter {
            text: some(text),
            ..Filter::default()
        });
    }
    for name in ["users", "public.users", "a.\"b", "\"b", "t", "sers"] {
        filters.push(Filter {
            table: some(name),
            ..Filter::default()
        });
        filters.push(Filter {
            user: some(name),
            ..Filter::default()
        });
    }
    filters.extend(texts.map(|text| Filter {
        user: some(text),
        ..Filter::default()
    }));
    filters.extend([
        Filter {
            outcome: some("failed"),
            ..Filter::default()
        },
        Filter {
            action: some("reject"),
            rule: some("lock-queue"),
            ..Filter::default()
        },
        Filter {
            id: some("2.5"),
            ..Filter::default()
        },
        Filter {
            application_name: some("é \"x\""),
            ..Filter::default()
        },
        Filter {
            since: at(2),
            until: at(4),
            ..Filter::default()
        },
        Filter {
            longer_than: Some(Duration::from_millis(700)),
            database: some("shop"),
            ..Filter::default()
        },
    ]);
    let (mut out, mut link, mut found) = (Vec::new(), chain::Link::default(), 0);
    for one in &events {
        out.clear();
        link = chain::seal(link, &serde_json::to_vec(one).unwrap(), &mut out);
        let line = out.strip_suffix(b"\n").unwrap();
        assert_eq!(
            kind_and_id(line),
            (LineKind::Event(Phase::Statement), one.id.as_bytes())
        );
        // Where the keys stand elsewhere, they are found all the same.
        let moved = [b"{\"other\":1,", &line[1..]].concat();
        assert_eq!(
            kind_and_id(&moved),
            (LineKind::Event(Phase::Statement), one.id.as_bytes())
        );
        for filter in &filters {
            let selector = Selector::new(filter.clone());
            let whole = selector.matches(one);
            found += u32::from(whole);
            assert_eq!(selector.select(line).unwrap().is_some(), whole, "{filter:?} {one:?}");
            let brief = selector.brief(line).unwrap();
            assert_eq!(brief.is_some(), whole, "{filter:?} {one:?}");
            if let Some(brief) = brief {
                assert_eq!(format!("{brief:?}"), format!("{:?}", Brief::from(one)));
            }
        }
    }
    assert!(found > 150, "{found}");
}
