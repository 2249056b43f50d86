//! The audit log: what was asked, what was found, what was done, as one JSON object a line, each chained to the one before.
//!
//! [`Audit::write`] returns once the kernel has the line, so a session can write before its client hears the result. It
//! never decides what a failure means: the policy does, in the session. Passwords are masked here, so nobody has to
//! remember to. Start at [`Event`] for the format (docs/audit.md explains every key), at [`read`] to read logs.

pub mod chain;
mod file;
pub mod filter;
pub mod read;
mod redact;
pub mod time;
pub mod verify;
mod writer;

use crate::plan::Finding;
use crate::plan::policy::{Action, Literals};
use redact::Mask;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};
use writer::Handle;

/// Where and how the log is written.
#[derive(Clone, Debug)]
pub struct Sink {
    pub path: PathBuf,
    pub fsync: Fsync,
    /// A file that has reached this size is moved away before the next line.
    pub rotate_bytes: Option<u64>,
    /// The same of a file whose first line is so old.
    pub rotate_after: Option<Duration>,
}

/// When lines are brought to the disk, where a power cut cannot take them back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// When the system does so by itself.
    None,
    /// Within a second.
    #[default]
    Interval,
    /// Before the statement goes on.
    Each,
}

/// Which moment of a statement's life the event tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Before anything runs: what is about to be done, so that a crash in the middle leaves a trace.
    Planned,
    /// A step waits for a lock: who holds it, told again when that changes.
    Waiting,
    /// After each step.
    Step,
    /// The result, before the client hears it.
    Statement,
}

/// Who sent the statement.
#[derive(Clone, Debug, Default)]
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

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct FindingRecord {
    pub rule: String,
    pub lock: String,
    pub message: String,
    /// What to do instead.
    pub hint: String,
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
            hint: finding.hint.clone(),
            action: action.to_string(),
            overridden: finding.overridden.clone(),
        }
    }
}

/// Who held a lock that a step waited for. What the server hides from the client's role is null.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Blocker {
    /// Null: a prepared transaction, whose session is gone.
    pub pid: Option<i32>,
    /// The name of a prepared transaction, for ROLLBACK PREPARED.
    pub prepared: Option<String>,
    pub user: Option<String>,
    pub application_name: Option<String>,
    pub client: Option<String>,
    /// As in pg_stat_activity, or `prepared`, `autovacuum worker` and the like.
    pub state: Option<String>,
    /// Of its transaction.
    pub age_s: Option<f64>,
    /// The strongest that it holds there, as the manual writes it.
    pub lock: String,
    /// Shortened.
    pub query: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StepRecord {
    pub label: String,
    pub sql: String,
    /// The strongest table lock that the step takes, as the manual writes it.
    pub lock: String,
    pub relation: String,
    pub duration_ms: f64,
    pub lock_tries: u32,
    /// Time spent in tries that did not get the lock and in the pauses between them.
    pub lock_wait_ms: f64,
    /// Who was seen holding it meanwhile.
    pub blockers: Vec<Blocker>,
    pub rows: Option<u64>,
    /// done | skipped | failed | cancelled | not run
    pub outcome: String,
    pub sqlstate: Option<String>,
    pub error: Option<String>,
}

/// One statement at one moment: a line of the log. Every key is always there; what does not apply is null, empty or 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    #[serde(with = "time")]
    pub time: SystemTime,
    #[serde(rename = "event")]
    pub phase: Phase,
    /// The same for every event of one statement, and for no other's.
    pub id: String,
    pub session: u64,
    pub backend_pid: i32,
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub client: String,
    /// The policy's name or file.
    #[serde(default)]
    pub policy: String,
    /// The client's text: passwords masked, and cut when it is very long.
    pub statement: String,
    /// What was bound to $1, $2, …: text as it is, binary as `\\x…`, long ones cut; empty where literals are redacted.
    #[serde(default)]
    pub parameters: Vec<Option<String>>,
    /// schema.name of what the statement names and is there.
    #[serde(default)]
    pub relations: Vec<String>,
    /// forward | warn | rewrite | reject
    pub action: String,
    #[serde(default)]
    pub findings: Vec<FindingRecord>,
    /// Why what was done is safe.
    #[serde(default)]
    pub why: Vec<String>,
    #[serde(default)]
    pub steps: Vec<StepRecord>,
    /// done | failed | rejected | cancelled | warned | disconnected, and empty while planned.
    pub outcome: String,
    #[serde(default)]
    pub sqlstate: Option<String>,
    #[serde(default)]
    pub error: Option<String>,
    /// The error's DETAIL: also what was committed before it and what is left.
    #[serde(default)]
    pub detail: Option<String>,
    #[serde(default)]
    pub hint: Option<String>,
    #[serde(default)]
    pub rows: Option<u64>,
    #[serde(default)]
    pub duration_ms: f64,
    #[serde(default)]
    pub lock_tries: u32,
    #[serde(default)]
    pub lock_wait_ms: f64,
    /// Statements that lead back to the schema before, in the order to run them.
    #[serde(default)]
    pub rollback_plan: Vec<String>,
}

impl Event {
    /// Without passwords, and without literals where they are not wanted.
    fn masked(&self, literals: Literals) -> Event {
        let mask = Mask::of(&self.statement, &self.parameters, literals);
        let mut event = self.clone();
        let error = |sqlstate: &Option<String>, text: &mut Option<String>| {
            if let Some(text) = text {
                *text = mask.error(sqlstate.as_deref().unwrap_or_default(), text);
            }
        };
        error(&event.sqlstate, &mut event.error);
        event.detail = event.detail.and_then(|text| mask.detail(&text));
        event.hint = event.hint.map(|text| mask.prose(&text));
        event.statement = mask.sql(&event.statement);
        if literals == Literals::Redact || mask.has_secret() {
            event.parameters.clear();
        }
        for finding in &mut event.findings {
            finding.message = mask.prose(&finding.message);
            finding.hint = mask.prose(&finding.hint);
        }
        for text in &mut event.why {
            *text = mask.prose(text);
        }
        for step in &mut event.steps {
            step.label = mask.prose(&step.label);
            step.sql = mask.sql(&step.sql);
            error(&step.sqlstate, &mut step.error);
            for blocker in &mut step.blockers {
                blocker.query = blocker.query.as_ref().map(|query| query_of_another(query, literals));
            }
        }
        for sql in &mut event.rollback_plan {
            *sql = mask.sql(sql);
        }
        event
    }
}

/// Another session's query, as it may be shown to this one's client and in the log.
pub fn query_of_another(sql: &str, literals: Literals) -> String {
    Mask::of("", &[], literals).sql(sql)
}

/// What happened to the log itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum What {
    /// A process began to write.
    Opened,
    /// The lines before these are in another file, whose last one is named.
    Continues,
    /// What stands before this line is torn.
    Repaired,
    /// Lines that had been there are gone.
    Cut,
    /// Events could not be written.
    Lost,
    /// A process ended in order. Where the last line is another, it still runs, was killed, or the end was cut away.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum LogTag {
    Log,
}

/// A line about the log itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LogEvent {
    #[serde(with = "time")]
    pub time: SystemTime,
    event: LogTag,
    pub what: What,
    /// In words.
    pub message: String,
    /// The process that wrote it, and its version.
    pub pid: u32,
    pub program: String,
    /// Where the lines before are, and the last of them.
    pub file: Option<String>,
    pub last_seq: Option<u64>,
    pub last_hash: Option<String>,
    pub lost: Option<u64>,
    /// Of what is torn; its hash lets `verify` tell it from what was put there later.
    pub bytes: Option<u64>,
    pub sha256: Option<String>,
}

impl LogEvent {
    fn new(what: What, message: String) -> LogEvent {
        LogEvent {
            time: SystemTime::now(),
            event: LogTag::Log,
            what,
            message,
            pid: std::process::id(),
            program: concat!("lockkeeper ", env!("CARGO_PKG_VERSION")).into(),
            file: None,
            last_seq: None,
            last_hash: None,
            lost: None,
            bytes: None,
            sha256: None,
        }
    }

    fn after(mut self, before: Option<(String, chain::Link)>) -> LogEvent {
        if let Some((file, link)) = before {
            self.file = Some(file).filter(|file| !file.is_empty());
            self.last_seq = Some(link.seq);
            self.last_hash = Some(chain::hex(&link.hash));
        }
        self
    }

    fn object(&self) -> Vec<u8> {
        // Strings and numbers only: there is nothing that could fail.
        serde_json::to_vec(self).unwrap_or_default()
    }
}

/// The log, shared by all sessions; cloning is cheap. With [`Audit::off`] every write succeeds and goes nowhere.
#[derive(Clone)]
pub struct Audit {
    writer: Option<Arc<Handle>>,
}

impl Audit {
    /// Opens the file for appending, creating it with mode 0600 (not its directory), and starts the writer's thread.
    /// The error names the file and the cause.
    pub fn open(sink: Sink) -> Result<Audit, String> {
        let writer = Some(Arc::new(Handle::start(sink)?));
        Ok(Audit { writer })
    }

    pub fn off() -> Audit {
        Audit { writer: None }
    }

    /// Returns once the line is written (with [`Fsync::Each`], on the disk), or after five seconds. After an error the next
    /// write tries again from the opening of the file on, so the log recovers by itself when there is room again; a line
    /// then says how many events are missing. A caller that stops waiting does not take its line back.
    pub async fn write(&self, event: &Event, literals: Literals) -> Result<(), String> {
        let Some(writer) = &self.writer else {
            return Ok(());
        };
        let line = serde_json::to_vec(&event.masked(literals));
        writer
            .write(line.map_err(|error| format!("cannot write an audit event: {error}"))?)
            .await
    }

    /// Opens the file by its name again, since logrotate has moved the old one away. Where that fails, the file that is
    /// open stays in use, and the error is logged.
    pub fn reopen(&self) {
        if let Some(writer) = &self.writer {
            writer.reopen();
        }
    }

    /// At the end of the process: everything is on the disk, and the last line says so.
    pub async fn close(&self) {
        if let Some(writer) = &self.writer
            && let Err(error) = writer.close().await
        {
            tracing::error!("{error}");
        }
    }

    /// False after a write that failed, until one succeeds.
    pub fn healthy(&self) -> bool {
        self.writer.as_ref().is_none_or(|writer| writer.healthy())
    }

    /// Events that could not be written, and that no line tells of yet.
    pub fn lost(&self) -> u64 {
        self.writer.as_ref().map_or(0, |writer| writer.lost())
    }

    /// What waits for the disk.
    pub fn backlog_bytes(&self) -> usize {
        self.writer.as_ref().map_or(0, |writer| writer.backlog_bytes())
    }
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
