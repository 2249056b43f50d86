//! The demo's table: per statement, straight at PostgreSQL against through Lockkeeper.

use super::plays::{Expect, Play};
use serde_json::Value;
use std::fmt::Write;
use std::time::Duration;

/// What the demo promises: no application query waits for a table behind a proxied statement longer than this.
pub const LOCK_WAIT_MAX: Duration = Duration::from_millis(100);
/// The same for a row. More is allowed, since how long one batch of an UPDATE … LIMIT loop takes is the client's own choice;
/// an UPDATE of the whole table in one transaction is well above it.
const ROW_WAIT_MAX: Duration = Duration::from_millis(1000);
/// More rows at once than the standard policy's rows_max must be changed in batches.
const ROWS_MAX: u64 = 10_000;
const WIDTH: usize = 120;

/// How one statement went in one run.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    pub took: Duration,
    /// The longest query of the application that ran at the same time.
    pub stall: Duration,
    /// The longest wait of an application's session for the table.
    pub lock_wait: Duration,
    /// All waits for the table, of all sessions, together.
    pub blocked: Duration,
    /// The longest wait for a row.
    pub row_wait: Duration,
    pub failed_queries: usize,
    /// The command tag's row count; for the loop, of all rounds.
    pub rows: u64,
    pub error: Option<Failure>,
    /// What the audit log says, of a run through Lockkeeper.
    pub audit: Vec<Value>,
}

/// What the client is told.
#[derive(Clone, Debug, Default)]
pub struct Failure {
    /// SQLSTATE, or why there is none.
    pub state: String,
    pub message: String,
    pub detail: Option<String>,
    pub hint: Option<String>,
}

pub struct Pair {
    pub play: Play,
    pub direct: Measured,
    pub proxied: Measured,
}

/// The whole table. The baseline is the load alone, without any statement.
pub fn table(baseline: (&Measured, &Measured), pairs: &[Pair]) -> String {
    let mut text =
        "direct = straight at PostgreSQL, proxied = through Lockkeeper; the application's longest and total \
         waits meanwhile\n\n"
            .to_owned();
    for heads in [
        ["", "longest", "longest", "time", "longest", "failed", ""],
        [
            "took",
            "stall",
            "lock wait",
            "blocked",
            "row wait",
            "queries",
            "what happened",
        ],
    ] {
        let [took, stall, lock_wait, blocked, row_wait, failed, said] = heads;
        let line = format!(
            "{:12}{took:>9}{stall:>10}{lock_wait:>11}{blocked:>10}{row_wait:>10}{failed:>9}  {said}",
            ""
        );
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text += &"-".repeat(WIDTH);
    text.push('\n');
    block(&mut text, "(the application alone)", baseline, ("", ""));
    for pair in pairs {
        let said = (in_words(&pair.direct), through_lockkeeper(&pair.proxied));
        block(
            &mut text,
            &pair.play.shown(),
            (&pair.direct, &pair.proxied),
            (&said.0, &said.1),
        );
    }
    text
}

/// What is not plain from the table. `report_holds`: how long the report keeps its transaction open.
pub fn explanation(report_holds: Duration, pairs: &[Pair]) -> String {
    let holds = seconds(report_holds);
    let mut text = format!(
        "Why most of it takes {holds}: when a statement begins, a report has just read the table, and keeps its transaction open for {holds}. \
         Whatever needs a lock on the table waits for it. Straight at PostgreSQL the application's queries stand in line behind the \
         statement that waits; through Lockkeeper it waits for 50 ms at a time, and lets them pass in between.\n"
    );
    if let Some(passes) = pairs
        .iter()
        .find(|pair| pair.play.expect == Expect::Done && !pair.play.before.is_empty())
    {
        let _ = writeln!(
            text,
            "\nWhy {} is not refused as the other one is: its session has said before why it may run.",
            passes.play.sql
        );
    }
    let refusals = pairs.iter().filter(|pair| pair.play.expect == Expect::Refused);
    let told = refusals
        .filter_map(|pair| Some((pair.play.sql, pair.proxied.error.as_ref()?)))
        .min_by_key(|(_, failure)| failure.hint.as_ref().map_or(0, String::len));
    let mut out = wrapped(&text, WIDTH);
    if let Some((sql, failure)) = told {
        let _ = write!(out, "\nWhat a refusal looks like in psql:\n\n  => {sql};\n");
        let parts = [
            ("ERROR", Some(&failure.message)),
            ("DETAIL", failure.detail.as_ref()),
            ("HINT", failure.hint.as_ref()),
        ];
        for (name, said) in parts {
            for (at, line) in said.iter().flat_map(|said| said.lines()).enumerate() {
                let line = if at == 0 {
                    format!("{name}:  {line}")
                } else {
                    line.to_owned()
                };
                wrapped(&line, WIDTH - 2)
                    .lines()
                    .for_each(|line| _ = writeln!(out, "  {line}"));
            }
        }
    }
    out
}

fn block(text: &mut String, title: &str, (direct, proxied): (&Measured, &Measured), said: (&str, &str)) {
    text.push_str(&wrapped(title, WIDTH));
    for (name, run, said) in [("direct", direct, said.0), ("proxied", proxied, said.1)] {
        let numbers = format!(
            "   {name:9}{:>9}{:>10}{:>11}{:>10}{:>10}{:>9}  ",
            seconds(run.took),
            millis(run.stall),
            millis(run.lock_wait),
            millis(run.blocked),
            millis(run.row_wait),
            run.failed_queries,
        );
        let (mut before, width) = (numbers.as_str(), numbers.chars().count());
        let indent = " ".repeat(width);
        for line in wrapped(said, WIDTH - width).lines() {
            let _ = writeln!(text, "{}", format!("{before}{line}").trim_end());
            before = &indent;
        }
    }
}

/// What the run through Lockkeeper did not keep; empty is what the demo is for.
pub fn broken_promises(pairs: &[Pair]) -> Vec<String> {
    let mut broken = Vec::new();
    for Pair { play, proxied, .. } in pairs {
        if proxied.lock_wait > LOCK_WAIT_MAX {
            broken.push(format!(
                "an application query waited {} for a lock behind: {}",
                millis(proxied.lock_wait),
                play.sql
            ));
        }
        if proxied.row_wait > ROW_WAIT_MAX {
            let wait = millis(proxied.row_wait);
            broken.push(format!(
                "an application query waited {wait} for a row behind: {}",
                play.sql
            ));
        }
        let in_batches = proxied
            .audit
            .iter()
            .any(|line| line["event"] == "statement" && line["action"] == "rewrite");
        if !play.is_loop && proxied.rows > ROWS_MAX && !in_batches {
            let rows = grouped(proxied.rows as u128);
            broken.push(format!(
                "{rows} rows were changed in one transaction, not in batches, by: {}",
                play.sql
            ));
        }
        match (&proxied.error, play.expect) {
            (Some(Failure { state, message, .. }), Expect::Done) => {
                broken.push(format!("failed with {state} ({message}): {}", play.sql));
            }
            (None, Expect::Refused) => broken.push(format!("was not refused: {}", play.sql)),
            _ => {}
        }
        if proxied.failed_queries > 0 {
            broken.push(format!(
                "{} application queries failed during: {}",
                proxied.failed_queries, play.sql
            ));
        }
    }
    broken
}

pub fn summary(pairs: &[Pair]) -> String {
    let longest = |of: fn(&Pair) -> Duration| pairs.iter().map(of).max().unwrap_or_default();
    format!(
        "Longest lock wait of an application query behind a statement:\n\
         {} straight at PostgreSQL, {} through Lockkeeper (limit {}).\nLongest wait for a row: {} and {} (limit {}). Failed application queries: {} and {}.",
        millis(longest(|pair| pair.direct.lock_wait)),
        millis(longest(|pair| pair.proxied.lock_wait)),
        millis(LOCK_WAIT_MAX),
        millis(longest(|pair| pair.direct.row_wait)),
        millis(longest(|pair| pair.proxied.row_wait)),
        millis(ROW_WAIT_MAX),
        pairs.iter().map(|pair| pair.direct.failed_queries).sum::<usize>(),
        pairs.iter().map(|pair| pair.proxied.failed_queries).sum::<usize>(),
    )
}

fn in_words(run: &Measured) -> String {
    match &run.error {
        Some(Failure { state, message, .. }) => format!("fails: {state} {message}"),
        None if run.rows > 0 => format!("done, {} rows", grouped(run.rows as u128)),
        None => "done".into(),
    }
}

/// One phrase from the audit log: the rule, and what was made of the statement.
fn through_lockkeeper(run: &Measured) -> String {
    let results: Vec<&Value> = run.audit.iter().filter(|line| line["event"] == "statement").collect();
    let Some(last) = results.last() else {
        return in_words(run);
    };
    let list = |key: &str| last[key].as_array().into_iter().flatten();
    let mut rules: Vec<&str> = list("findings")
        .filter_map(|finding| finding["rule"].as_str())
        .collect();
    rules.dedup();
    // The queue is minded in every brief step; where there is another reason, that one tells more.
    if rules.len() > 1 {
        rules.retain(|rule| *rule != "lock-queue");
    }
    let rules = rules.join(", ");
    if last["action"] == "reject" {
        return format!("refused: {rules}");
    }
    if run.error.is_some() {
        return in_words(run);
    }
    let sum = |key: &str| results.iter().filter_map(|line| line[key].as_u64()).sum::<u64>();
    let mut parts = Vec::new();
    match list("steps").count() {
        _ if results.len() > 1 => parts.push(format!("{} rounds", results.len())),
        0 => {}
        1 if rules == "lock-queue" => {}
        1 => parts.extend(
            list("steps")
                .filter_map(|step| step["label"].as_str())
                .map(str::to_owned),
        ),
        steps => parts.push(format!("{steps} steps")),
    }
    if sum("rows") > 0 {
        parts.push(format!("{} rows", grouped(sum("rows") as u128)));
    }
    match sum("lock_tries") {
        0 | 1 => {}
        tries => parts.push(format!("{tries} lock tries")),
    }
    match (rules.is_empty(), parts.is_empty()) {
        (true, true) => last["action"].as_str().unwrap_or("done").to_owned(),
        (true, false) => parts.join(", "),
        (false, true) => rules,
        (false, false) => format!("{rules}: {}", parts.join(", ")),
    }
}

/// Lines of at most so many characters, but for longer words; at least one.
fn wrapped(text: &str, width: usize) -> String {
    let mut out = String::new();
    for line in text.split('\n') {
        let mut length = 0;
        for word in line.split(' ') {
            let word_length = word.chars().count();
            if length > 0 && length + 1 + word_length > width {
                out.push('\n');
                length = 0;
            } else if length > 0 {
                out.push(' ');
                length += 1;
            }
            out.push_str(word);
            length += word_length;
        }
        out.push('\n');
    }
    if text.ends_with('\n') {
        out.pop();
    }
    out
}

fn seconds(time: Duration) -> String {
    format!("{:.1} s", time.as_secs_f64())
}

fn millis(time: Duration) -> String {
    format!("{} ms", grouped(time.as_millis()))
}

fn grouped(number: u128) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::demo::plays::PLAYS;

    fn pair(find: &str, proxied: Measured) -> Pair {
        let play = *PLAYS.iter().find(|play| play.sql.contains(find)).unwrap();
        Pair {
            play,
            direct: Measured::default(),
            proxied,
        }
    }

    #[test]
    fn every_promise_can_be_broken() {
        let refusal = Some(Failure {
            state: "LK001".to_owned(),
            message: "refused".to_owned(),
            ..Failure::default()
        });
        let check = |find: &str, proxied: Measured, broken: &[&str]| {
            let said = broken_promises(&[pair(find, proxied)]);
            assert_eq!(said.len(), broken.len(), "{said:?}");
            for (said, wanted) in said.iter().zip(broken) {
                assert!(said.contains(wanted), "{said}");
            }
        };
        check("SET NOT NULL", Measured::default(), &[]);
        check(
            "RENAME",
            Measured {
                error: refusal.clone(),
                ..Measured::default()
            },
            &[],
        );
        check("RENAME", Measured::default(), &["not refused"]);
        check(
            "SET NOT NULL",
            Measured {
                error: refusal,
                ..Measured::default()
            },
            &["failed with LK001"],
        );
        check(
            "SET NOT NULL",
            Measured {
                lock_wait: Duration::from_millis(100),
                ..Measured::default()
            },
            &[],
        );
        check(
            "SET NOT NULL",
            Measured {
                lock_wait: Duration::from_millis(101),
                ..Measured::default()
            },
            &["101 ms"],
        );
        let many = Measured {
            rows: 10_001,
            ..Measured::default()
        };
        check("UPDATE users SET email_verified", many.clone(), &["not in batches"]);
        let audit = vec![serde_json::json!({"event": "statement", "action": "rewrite"})];
        check("UPDATE users SET email_verified", Measured { audit, ..many }, &[]);
        check(
            "UPDATE",
            Measured {
                row_wait: Duration::from_millis(1001),
                ..Measured::default()
            },
            &["1,001 ms for a row"],
        );
        check(
            "SET NOT NULL",
            Measured {
                failed_queries: 3,
                ..Measured::default()
            },
            &["3 application queries"],
        );
    }

    #[test]
    fn the_table_fits_a_terminal_and_tells_what_the_audit_log_says() {
        let audit = vec![
            serde_json::json!({"event": "planned", "action": "rewrite"}),
            serde_json::json!({"event": "statement", "action": "rewrite", "findings": [{"rule": "set-not-null"}],
                "steps": [{"label": "a"}, {"label": "b"}], "lock_tries": 12, "rows": 1234567}),
        ];
        let long = Some(Failure {
            state: "42601".to_owned(),
            message: "syntax error ".repeat(20),
            ..Failure::default()
        });
        let mut pairs = [pair(
            "SET NOT NULL",
            Measured {
                audit,
                ..Measured::default()
            },
        )];
        pairs[0].direct.error = long;
        let text = table((&Measured::default(), &Measured::default()), &pairs);
        let words: Vec<&str> = text.split_whitespace().collect();
        let words = words.join(" ");
        // Nothing of it is cut.
        assert!(
            words.contains("set-not-null: 2 steps, 1,234,567 rows, 12 lock tries"),
            "{text}"
        );
        assert_eq!(words.matches("syntax error").count(), 20, "{text}");
        assert!(text.lines().all(|line| line.chars().count() <= WIDTH), "{text}");
    }
}
