//! The metrics in Prometheus' text format (version 0.0.4): one table says what there is, [`text`] fills it.

use crate::live::ledger::{DURATION_BOUNDS, Histogram, WAIT_BOUNDS};
use crate::live::{Control, Live, Phase, State};
use std::fmt::Write;
use std::time::SystemTime;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        }
    }
}

pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static str,
    pub help: &'static str,
}

const fn metric(name: &'static str, kind: Kind, labels: &'static str, help: &'static str) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

/// In the order of the output. What is not known has no line: without a control connection nothing is said of stalls.
pub const METRICS: [Metric; 33] = [
    metric(
        "lockkeeper_build_info",
        Kind::Gauge,
        "version",
        "1, with the version as a label.",
    ),
    metric(
        "lockkeeper_policy_info",
        Kind::Gauge,
        "policy",
        "1, with the name of the policy in force as a label.",
    ),
    metric(
        "lockkeeper_config_last_reload_successful",
        Kind::Gauge,
        "",
        "1 if the last reload took everything, 0 if something of it was wrong and the old one stayed.",
    ),
    metric(
        "lockkeeper_draining",
        Kind::Gauge,
        "",
        "1 once the proxy was told to stop.",
    ),
    metric(
        "lockkeeper_sessions",
        Kind::Gauge,
        "state",
        "Authenticated sessions that are open: idle, active, idle in transaction, in plan.",
    ),
    metric(
        "lockkeeper_connections_max",
        Kind::Gauge,
        "",
        "Client connections that are allowed at the same time.",
    ),
    metric(
        "lockkeeper_sessions_total",
        Kind::Counter,
        "",
        "Sessions that were authenticated.",
    ),
    metric(
        "lockkeeper_forwarded_statements_total",
        Kind::Counter,
        "",
        "Query and Execute messages that went to the server.",
    ),
    metric(
        "lockkeeper_read_bytes_total",
        Kind::Counter,
        "from",
        "Bytes read from clients and from the server.",
    ),
    metric(
        "lockkeeper_judged_statements_total",
        Kind::Counter,
        "action, outcome",
        "Schema changes and large writes: what was done about them and how they ended, as in the audit log (forward and passed: no rule had anything to say).",
    ),
    metric(
        "lockkeeper_findings_total",
        Kind::Counter,
        "rule, action",
        "What rules found in judged statements, and what the policy made of it.",
    ),
    metric(
        "lockkeeper_plans_running",
        Kind::Gauge,
        "",
        "Plans that are being carried out.",
    ),
    metric(
        "lockkeeper_plan_duration_seconds",
        Kind::Histogram,
        "outcome",
        "From the statement to its result, with all steps.",
    ),
    metric(
        "lockkeeper_step_duration_seconds",
        Kind::Histogram,
        "outcome",
        "One step, with its tries for a lock.",
    ),
    metric(
        "lockkeeper_lock_tries_total",
        Kind::Counter,
        "",
        "Tries of steps for their lock.",
    ),
    metric(
        "lockkeeper_lock_wait_seconds",
        Kind::Histogram,
        "",
        "Steps that did not get their lock at once: how long they tried.",
    ),
    metric(
        "lockkeeper_stall_seconds",
        Kind::Histogram,
        "",
        "Other sessions seen waiting behind a running plan, and how long at least (needs the control connection).",
    ),
    metric(
        "lockkeeper_held_statements_total",
        Kind::Counter,
        "",
        "Statements that were held back while a schema change waited for their table.",
    ),
    metric(
        "lockkeeper_held_seconds_total",
        Kind::Counter,
        "",
        "How long those were held, all together.",
    ),
    metric(
        "lockkeeper_shapes_read_total",
        Kind::Counter,
        "readers",
        "Shapes of statements that were read for what they touch: by either, by none, or by both with a difference.",
    ),
    metric(
        "lockkeeper_batches_total",
        Kind::Counter,
        "",
        "Batches of large writes that were committed.",
    ),
    metric(
        "lockkeeper_batch_rows_total",
        Kind::Counter,
        "",
        "Rows that those batches changed.",
    ),
    metric(
        "lockkeeper_audit_healthy",
        Kind::Gauge,
        "",
        "0 after a write to the audit log that failed, until one succeeds.",
    ),
    metric(
        "lockkeeper_audit_backlog_bytes",
        Kind::Gauge,
        "",
        "Events that wait for the disk, in bytes.",
    ),
    metric(
        "lockkeeper_audit_lost_events",
        Kind::Gauge,
        "",
        "Events that could not be written, and that no line of the audit log tells of yet.",
    ),
    metric(
        "lockkeeper_upstream_errors_total",
        Kind::Counter,
        "kind",
        "Sessions that the server did not take: connect (not reached), login (refused or failed), closed (without a word); or did not keep: vanished (acknowledged nothing).",
    ),
    metric(
        "lockkeeper_control_up",
        Kind::Gauge,
        "",
        "1 while the control connection works.",
    ),
    metric(
        "process_start_time_seconds",
        Kind::Gauge,
        "",
        "When the process started, in seconds since 1970.",
    ),
    metric(
        "process_cpu_seconds_total",
        Kind::Counter,
        "",
        "User and system time of the process.",
    ),
    metric(
        "process_resident_memory_bytes",
        Kind::Gauge,
        "",
        "Memory that the process has resident.",
    ),
    metric("process_open_fds", Kind::Gauge, "", "Open file descriptors."),
    metric("process_max_fds", Kind::Gauge, "", "File descriptors that may be open."),
    metric("process_threads", Kind::Gauge, "", "Threads."),
];

/// All of them, with the counts of this moment.
pub fn text(live: &Live) -> String {
    let mut page = Page {
        out: String::with_capacity(8 << 10),
    };
    proxy(live, &mut page);
    judged(live, &mut page);
    audit(live, &mut page);
    process(live, &mut page);
    page.out
}

fn proxy(live: &Live, page: &mut Page) {
    let flowed = live.flowed();
    let sessions = live.sessions();
    page.one("lockkeeper_build_info", &[("version", env!("CARGO_PKG_VERSION"))], 1);
    page.one("lockkeeper_policy_info", &[("policy", &live.policy())], 1);
    page.one(
        "lockkeeper_config_last_reload_successful",
        &[],
        u64::from(live.reloaded()),
    );
    page.one("lockkeeper_draining", &[], u64::from(live.phase() == Phase::Stopping));
    page.begin("lockkeeper_sessions");
    for state in State::ALL {
        let count = sessions.iter().filter(|session| session.state == state).count();
        page.sample("lockkeeper_sessions", &[("state", state.name())], count as f64);
    }
    if let Some(about) = live.about() {
        page.one("lockkeeper_connections_max", &[], about.connections_max as u64);
    }
    page.one("lockkeeper_sessions_total", &[], live.sessions_total());
    page.one("lockkeeper_forwarded_statements_total", &[], flowed.statements);
    page.begin("lockkeeper_read_bytes_total");
    for (from, bytes) in [
        ("client", flowed.bytes_from_client),
        ("server", flowed.bytes_from_server),
    ] {
        page.sample("lockkeeper_read_bytes_total", &[("from", from)], bytes as f64);
    }
    let plans = sessions.iter().filter(|session| session.plan.is_some()).count();
    page.one("lockkeeper_plans_running", &[], plans as u64);
}

fn judged(live: &Live, page: &mut Page) {
    let ledger = live.ledger();
    page.begin("lockkeeper_judged_statements_total");
    for ((action, outcome), count) in &ledger.statements {
        let labels = [("action", action.as_str()), ("outcome", outcome)];
        page.sample("lockkeeper_judged_statements_total", &labels, *count as f64);
    }
    page.begin("lockkeeper_findings_total");
    for ((rule, action), count) in &ledger.findings {
        let labels = [("rule", rule.as_str()), ("action", action)];
        page.sample("lockkeeper_findings_total", &labels, *count as f64);
    }
    page.begin("lockkeeper_plan_duration_seconds");
    for (outcome, histogram) in &ledger.plans {
        let labels = [("outcome", outcome.as_str())];
        page.histogram("lockkeeper_plan_duration_seconds", &labels, histogram, &DURATION_BOUNDS);
    }
    page.begin("lockkeeper_step_duration_seconds");
    for (outcome, histogram) in &ledger.steps {
        let labels = [("outcome", outcome.as_str())];
        page.histogram("lockkeeper_step_duration_seconds", &labels, histogram, &DURATION_BOUNDS);
    }
    page.one("lockkeeper_lock_tries_total", &[], ledger.lock_tries);
    page.begin("lockkeeper_lock_wait_seconds");
    page.histogram("lockkeeper_lock_wait_seconds", &[], &ledger.lock_waits, &WAIT_BOUNDS);
    let control = live.control();
    if control != Control::None {
        page.begin("lockkeeper_stall_seconds");
        page.histogram("lockkeeper_stall_seconds", &[], &ledger.stalls, &WAIT_BOUNDS);
        page.one("lockkeeper_control_up", &[], u64::from(control == Control::Up));
    }
    let held = &live.holds;
    page.one("lockkeeper_held_statements_total", &[], held.statements());
    page.begin("lockkeeper_held_seconds_total");
    page.sample("lockkeeper_held_seconds_total", &[], held.time().as_secs_f64());
    page.begin("lockkeeper_shapes_read_total");
    for (readers, count) in live.usage.counted() {
        page.sample("lockkeeper_shapes_read_total", &[("readers", readers)], count as f64);
    }
    page.one("lockkeeper_batches_total", &[], ledger.batches);
    page.one("lockkeeper_batch_rows_total", &[], ledger.rows);
    page.begin("lockkeeper_upstream_errors_total");
    for kind in ["connect", "login", "closed", "vanished"] {
        let count = ledger.upstream_errors.get(kind).copied().unwrap_or_default();
        page.sample("lockkeeper_upstream_errors_total", &[("kind", kind)], count as f64);
    }
}

fn audit(live: &Live, page: &mut Page) {
    let Some(about) = live.about().filter(|about| about.audit_file.is_some()) else {
        return;
    };
    page.one("lockkeeper_audit_healthy", &[], u64::from(about.audit.healthy()));
    page.one(
        "lockkeeper_audit_backlog_bytes",
        &[],
        about.audit.backlog_bytes() as u64,
    );
    page.one("lockkeeper_audit_lost_events", &[], about.audit.lost());
}

/// What Prometheus' client libraries tell of a process, under the names that they use.
fn process(live: &Live, page: &mut Page) {
    let started = live.started.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    page.begin("process_start_time_seconds");
    page.sample("process_start_time_seconds", &[], started.as_secs_f64());
    let read = |file: &str| std::fs::read_to_string(format!("/proc/self/{file}")).unwrap_or_default();
    let stat = read("stat");
    // Behind the command's name, which may hold blanks.
    let fields: Vec<u64> = stat
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .map(|field| field.parse().unwrap_or_default())
        .collect();
    if let [utime, stime] = [fields.get(11), fields.get(12)].map(Option::<&u64>::copied)
        && let (Some(utime), Some(stime)) = (utime, stime)
    {
        // USER_HZ is 100 on every Linux that Rust knows.
        page.begin("process_cpu_seconds_total");
        page.sample("process_cpu_seconds_total", &[], (utime + stime) as f64 / 100.0);
    }
    let status = read("status");
    let of_status = |key: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(key))?;
        line.split_whitespace().next()?.parse::<u64>().ok()
    };
    if let Some(kib) = of_status("VmRSS:") {
        page.one("process_resident_memory_bytes", &[], kib * 1024);
    }
    if let Ok(files) = std::fs::read_dir("/proc/self/fd") {
        // Less the one that reads the directory.
        page.one("process_open_fds", &[], (files.count() as u64).saturating_sub(1));
    }
    let limits = read("limits");
    let max = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    if let Some(max) = max.and_then(|rest| rest.split_whitespace().next()?.parse().ok()) {
        page.one("process_max_fds", &[], max);
    }
    if let Some(threads) = of_status("Threads:") {
        page.one("process_threads", &[], threads);
    }
}

struct Page {
    out: String,
}

impl Page {
    fn begin(&mut self, name: &str) {
        let metric = METRICS.iter().find(|metric| metric.name == name);
        debug_assert!(metric.is_some(), "{name} is not in the table");
        if let Some(metric) = metric {
            let kind = metric.kind.name();
            let _ = writeln!(self.out, "# HELP {name} {}\n# TYPE {name} {kind}", metric.help);
        }
    }

    fn one(&mut self, name: &str, labels: &[(&str, &str)], value: u64) {
        self.begin(name);
        self.sample(name, labels, value as f64);
    }

    fn sample(&mut self, name: &str, labels: &[(&str, &str)], value: f64) {
        self.out.push_str(name);
        for (n, (label, text)) in labels.iter().enumerate() {
            let text = text.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let _ = write!(self.out, "{}{label}=\"{text}\"", if n == 0 { '{' } else { ',' });
        }
        if !labels.is_empty() {
            self.out.push('}');
        }
        let _ = writeln!(self.out, " {value}");
    }

    fn histogram(&mut self, name: &str, labels: &[(&str, &str)], histogram: &Histogram, bounds: &[f64]) {
        let mut below = 0;
        for (n, bound) in bounds.iter().enumerate() {
            below += histogram.buckets.get(n).copied().unwrap_or_default();
            let bound = bound.to_string();
            self.sample(
                &format!("{name}_bucket"),
                &[labels, &[("le", &bound)]].concat(),
                below as f64,
            );
        }
        let count = histogram.count as f64;
        self.sample(&format!("{name}_bucket"), &[labels, &[("le", "+Inf")]].concat(), count);
        self.sample(&format!("{name}_sum"), labels, histogram.sum_s);
        self.sample(&format!("{name}_count"), labels, count);
    }
}
