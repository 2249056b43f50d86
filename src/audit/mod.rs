//! The audit log: what was asked, what was found, what was done, as one JSON object a line.
//!
//! [`Audit::write`] returns once the kernel has the line, so a session can write before its client hears the result. It
//! never decides what a failure means: the policy does, in the session. Passwords are masked here, so nobody has to
//! remember to; start at [`Event`] for the format.

pub mod after;
mod redact;
mod writer;

use crate::plan::Finding;
use crate::plan::policy::Action;
use serde::{Serialize, Serializer};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;
use writer::Handle;

/// Which moment of a statement's life the event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before the first step runs: what is about to be done, so that a crash in the middle leaves a trace.
    Planned,
    /// After each step.
    Step,
    /// The result, before the client hears it.
    Statement,
    /// A minute after a plan: the same again, with how long statements take now.
    After,
}

/// Who sent the statement.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Who {
    /// The proxy's own number of the session; it is in the proxy's log too.
    pub session: u64,
    /// The server process, as in pg_stat_activity.
    pub backend_pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    /// The client's address, `127.0.0.1:53412`, or `unix`.
    pub client: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct FindingRecord {
    pub rule: String,
    pub lock: String,
    pub message: String,
    /// allow | warn | rewrite | reject
    pub action: String,
    /// The reason that was given with the override, where one let the statement through.
    pub overridden: Option<String>,
}

impl From<&Finding> for FindingRecord {
    fn from(finding: &Finding) -> FindingRecord {
        let action = match finding.action {
            Action::Allow => "allow",
            Action::Warn => "warn",
            Action::Rewrite => "rewrite",
            Action::Reject => "reject",
        };
        FindingRecord {
            rule: finding.rule.to_string(),
            lock: finding.lock.name().to_string(),
            message: finding.message.clone(),
            action: action.to_string(),
            overridden: finding.overridden.clone(),
        }
    }
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct StepRecord {
    pub label: String,
    #[serde(serialize_with = "sql_text")]
    pub sql: String,
    /// The strongest table lock that the step takes, as the manual writes it.
    pub lock: String,
    pub relation: String,
    pub duration_ms: f64,
    pub lock_tries: u32,
    /// Time spent in tries that did not get the lock and in the pauses between them.
    pub lock_wait_ms: f64,
    pub rows: Option<u64>,
    /// done | skipped | failed | cancelled | not run
    pub outcome: String,
    pub sqlstate: Option<String>,
    pub error: Option<String>,
}

/// One line of the log. Every key is always there; what does not apply is null, empty or 0.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// RFC 3339, UTC, microseconds.
    #[serde(serialize_with = "rfc3339")]
    pub time: SystemTime,
    #[serde(rename = "event")]
    pub phase: Phase,
    /// The same for every event of one statement.
    pub id: String,
    #[serde(flatten)]
    pub who: Who,
    /// The client's text: passwords masked, and cut when it is very long.
    #[serde(serialize_with = "sql_text")]
    pub statement: String,
    /// forward | warn | rewrite | reject
    pub action: String,
    pub findings: Vec<FindingRecord>,
    /// Why what was done is safe.
    pub why: Vec<String>,
    pub steps: Vec<StepRecord>,
    /// done | failed | rejected | cancelled | warned | disconnected, and empty while planned.
    pub outcome: String,
    pub sqlstate: Option<String>,
    pub error: Option<String>,
    pub rows: Option<u64>,
    pub duration_ms: f64,
    pub lock_tries: u32,
    /// Statements that lead back to the schema before, in the order to run them.
    #[serde(serialize_with = "sql_texts")]
    pub rollback_plan: Vec<String>,
    /// What a plan left and what others noticed of it.
    pub after: Option<after::After>,
}

impl Event {
    /// The client's text as the log has it: passwords masked, cut when it is very long.
    pub fn shown_statement(&self) -> String {
        redact::statement(&self.statement)
    }
}

fn rfc3339<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

fn sql_text<S: Serializer>(sql: &str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&redact::statement(sql))
}

fn sql_texts<S: Serializer>(texts: &[String], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(texts.iter().map(|sql| redact::statement(sql)))
}

/// The log, shared by all sessions; cloning is cheap. With [`Audit::off`] every write succeeds and goes nowhere.
#[derive(Clone)]
pub struct Audit {
    writer: Option<Arc<Handle>>,
}

impl Audit {
    /// Opens the file for appending, creating it with mode 0600 (not its directory), and starts the writer's thread.
    /// The error names the file and the cause.
    pub fn open(path: &Path) -> Result<Audit, String> {
        let writer = Some(Arc::new(Handle::start(path)?));
        Ok(Audit { writer })
    }

    pub fn off() -> Audit {
        Audit { writer: None }
    }

    /// Returns once the line is written (write(2); not fsync). After an error the next write tries again from the
    /// opening of the file on, so the log recovers by itself when there is room again. A caller that stops waiting does
    /// not take its line back.
    pub async fn write(&self, event: &Event) -> Result<(), String> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let mut line = serde_json::to_vec(event).map_err(|error| format!("cannot write an audit event: {error}"))?;
        line.push(b'\n');
        writer.write(line).await
    }

    /// Opens the file by its name again before the next line, since logrotate has moved the old one away. Where that
    /// fails, the file that is open stays in use, and the error is logged.
    pub fn reopen(&self) {
        if let Some(writer) = &self.writer {
            writer.reopen();
        }
    }

    pub fn lost(&self) -> u64 {
        0
    }

    pub fn backlog_bytes(&self) -> usize {
        0
    }

    /// False after a write that failed, until one succeeds.
    pub fn healthy(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.healthy())
    }
}

/// `2026-03-01T00:00:00.000001Z`; days to civil date by the usual era arithmetic (400 years have 146,097 days).
fn timestamp(time: SystemTime) -> String {
    let micros: i128 = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_micros() as i128,
        Err(before) => -(before.duration().as_micros() as i128),
    };
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Counted from 0000-03-01, so that the leap day is the last day of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::lock::LockMode;
    use std::time::Duration;

    fn event(statement: &str) -> Event {
        Event {
            time: SystemTime::UNIX_EPOCH + Duration::from_micros(1_767_225_600_000_001),
            phase: Phase::Statement,
            id: "7-1".into(),
            who: Who {
                session: 7,
                backend_pid: 4711,
                user: "app".into(),
                database: "shop".into(),
                application_name: "psql".into(),
                client: "127.0.0.1:53412".into(),
            },
            statement: statement.into(),
            action: "rewrite".into(),
            findings: Vec::new(),
            why: Vec::new(),
            steps: Vec::new(),
            outcome: "done".into(),
            sqlstate: None,
            error: None,
            rows: None,
            duration_ms: 1.5,
            lock_tries: 1,
            after: None,
            rollback_plan: Vec::new(),
        }
    }

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(future)
    }

    fn lines(path: &Path) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(path).expect("the log");
        assert!(text.is_empty() || text.ends_with('\n'), "the last line is not whole");
        text.lines()
            .map(|line| serde_json::from_str(line).expect(line))
            .collect()
    }

    #[test]
    fn timestamps_are_civil_dates() {
        let check = |seconds: i64, micros: u32, expect: &str| {
            let part = Duration::from_micros(u64::from(micros));
            let time = match u64::try_from(seconds) {
                Ok(after) => SystemTime::UNIX_EPOCH + Duration::from_secs(after) + part,
                Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + part,
            };
            assert_eq!(timestamp(time), expect);
        };
        check(0, 0, "1970-01-01T00:00:00.000000Z");
        check(-1, 999_999, "1969-12-31T23:59:59.999999Z");
        check(951_782_399, 1, "2000-02-28T23:59:59.000001Z");
        check(951_782_400, 0, "2000-02-29T00:00:00.000000Z");
        check(951_868_800, 0, "2000-03-01T00:00:00.000000Z");
        check(1_709_164_800, 0, "2024-02-29T00:00:00.000000Z");
        check(1_767_225_599, 123_456, "2025-12-31T23:59:59.123456Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000Z");
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
        };
        let mut event = event("CREATE INDEX\n\"ü\u{2028}\\\" ON t (a)");
        event.findings.push(FindingRecord::from(&finding));
        event.steps.push(StepRecord {
            label: "build index".into(),
            sql: "ALTER ROLE a PASSWORD 'secret'".into(),
            ..StepRecord::default()
        });
        event.rollback_plan.push("ALTER ROLE a PASSWORD 'secret'".into());
        let line = serde_json::to_string(&event).expect("JSON");
        assert!(!line.contains('\n') && !line.contains("secret"), "{line}");
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["time"], "2026-01-01T00:00:00.000001Z");
        assert_eq!(value["event"], "statement");
        assert_eq!(value["backend_pid"], 4711);
        assert_eq!(value["statement"], "CREATE INDEX\n\"ü\u{2028}\\\" ON t (a)");
        assert_eq!(value["findings"][0]["lock"], "SHARE");
        assert_eq!(value["findings"][0]["action"], "rewrite");
        assert_eq!(value["sqlstate"], serde_json::Value::Null);
        assert_eq!(value.as_object().map(|object| object.len()), Some(21));
    }

    #[test]
    fn off_takes_everything() {
        let audit = Audit::off();
        assert_eq!(block_on(audit.write(&event("x"))), Ok(()));
        audit.reopen();
        assert!(audit.healthy());
    }

    #[test]
    fn many_threads_write_whole_lines() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("audit.jsonl");
        let audit = Audit::open(&path).expect("the log");
        std::thread::scope(|scope| {
            for thread in 0..8 {
                let audit = audit.clone();
                scope.spawn(move || {
                    block_on(async {
                        for number in 0..1_250 {
                            let long = "x".repeat(number % 300);
                            let event = event(&format!("ALTER TABLE t{thread} -- {number} {long}"));
                            audit.write(&event).await.expect("written");
                        }
                    })
                });
            }
        });
        let lines = lines(&path);
        assert_eq!(lines.len(), 10_000);
        // Of one writer, in its order.
        let of_third: Vec<_> = lines
            .iter()
            .filter_map(|line| line["statement"].as_str())
            .filter_map(|text| text.strip_prefix("ALTER TABLE t3 -- "))
            .filter_map(|text| text.split(' ').next()?.parse::<u32>().ok())
            .collect();
        assert_eq!(of_third, (0..1_250).collect::<Vec<_>>());
        assert!(audit.healthy());
    }

    #[test]
    fn a_full_device_is_told_and_names_the_file() {
        let audit = Audit::open(Path::new("/dev/full")).expect("it opens");
        assert!(audit.healthy());
        let error = block_on(audit.write(&event("x"))).expect_err("no room");
        assert!(
            error.contains("/dev/full") && error.contains("No space left"),
            "{error}"
        );
        assert!(!audit.healthy());
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
            let audit = Audit::open(Path::new("/dev/full")).expect("it opens");
            for _ in 0..3 {
                assert!(block_on(audit.write(&event("x"))).is_err());
            }
            return;
        };
        let (path, filler) = (dir.path().join("audit.jsonl"), dir.path().join("filler"));
        std::fs::write(&filler, [0; 8192]).expect("room for the filler");
        let audit = Audit::open(&path).expect("the log");
        let mut written = 0;
        let error = loop {
            match block_on(audit.write(&event("ALTER TABLE t ADD COLUMN c int"))) {
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
        std::fs::remove_file(&filler).expect("removed");
        for _ in 0..3 {
            block_on(audit.write(&event("x"))).expect("there is room again");
        }
        assert!(audit.healthy());
        let text = std::fs::read_to_string(&path).expect("the log");
        let whole = text
            .lines()
            .filter(|line| serde_json::from_str::<serde_json::Value>(line).is_ok())
            .count();
        let torn = text.lines().count() - whole;
        assert_eq!(whole, written + 3);
        assert!(torn <= 1, "{text}");
    }

    #[test]
    fn what_cannot_be_opened_is_told() {
        let check = |path: &Path, expect: &str| {
            let error = Audit::open(path).err().expect("an error");
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
    fn a_removed_file_comes_back_and_a_moved_one_is_followed_until_reopen() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a directory");
        let (path, moved) = (dir.path().join("a"), dir.path().join("a.1"));
        let audit = Audit::open(&path).expect("the log");
        let write = |text: &str| block_on(audit.write(&event(text))).expect("written");
        write("first");
        std::fs::remove_file(&path).expect("removed");
        write("second");
        assert_eq!(lines(&path).len(), 1);
        assert_eq!(
            std::fs::metadata(&path).expect("the log").permissions().mode() & 0o777,
            0o600
        );
        std::fs::rename(&path, &moved).expect("moved");
        write("third");
        assert_eq!(lines(&moved).len(), 2);
        audit.reopen();
        write("fourth");
        assert_eq!((lines(&moved).len(), lines(&path).len()), (2, 1));
    }

    #[test]
    fn a_reopen_that_fails_keeps_the_old_file() {
        let dir = tempfile::tempdir().expect("a directory");
        let (path, moved) = (dir.path().join("a"), dir.path().join("a.1"));
        let audit = Audit::open(&path).expect("the log");
        std::fs::rename(&path, &moved).expect("moved");
        std::fs::create_dir(&path).expect("in the way");
        audit.reopen();
        block_on(audit.write(&event("x"))).expect("written to the old file");
        assert_eq!(lines(&moved).len(), 1);
        assert!(audit.healthy());
    }

    #[test]
    fn a_torn_line_stays_alone() {
        let dir = tempfile::tempdir().expect("a directory");
        let path = dir.path().join("a");
        std::fs::write(&path, "{\"time\":\"2026").expect("a torn line");
        let audit = Audit::open(&path).expect("the log");
        block_on(audit.write(&event("x"))).expect("written");
        let text = std::fs::read_to_string(&path).expect("the log");
        assert!(text.starts_with("{\"time\":\"2026\n{\"time\":\"2026-01-01"), "{text}");
        assert_eq!(text.matches('\n').count(), 2);
    }
}
