//! A policy file, validated: what each finding means, and the limits of locks, batches and retries.
//!
//! [`Policy::parse`] reads a file's text and [`Policy::embedded`] one of the three that are built in. The tables of the file
//! map one to one onto the `*Table` structs below, which refuse unknown keys. What a file leaves out comes from the policy
//! that it extends.

use super::Overridden;
use serde::Deserialize;
use std::collections::BTreeMap;
use std::fmt::Display;
use toml::de::{DeTable, DeValue};

/// From the mildest to the strictest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    Allow,
    Warn,
    Rewrite,
    Reject,
}

/// What happens to a statement that needs its own transaction when the client is inside one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum InTransaction {
    /// Its long part runs after COMMIT, as a job.
    Defer,
    Reject,
    Forward,
}

/// When the audit log cannot be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnAuditFailure {
    /// Go on, and say so in the log and to the client.
    Open,
    /// Refuse every statement that would have been audited.
    Closed,
}

/// What the audit log keeps of constants in statements and of parameters. Passwords it never keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Literals {
    Keep,
    Redact,
}

#[derive(Clone, Debug)]
pub struct Policy {
    /// `standard`, or the file's path: for the audit log.
    pub name: String,
    pub unparsed: Action,
    pub in_transaction: InTransaction,
    pub lock: Lock,
    pub small_bytes: u64,
    pub backfill: Backfill,
    pub on_audit_failure: OnAuditFailure,
    pub audit_literals: Literals,
    pub rules: Rules,
}

#[derive(Clone, Debug)]
pub struct Lock {
    /// lock_timeout of one try.
    pub timeout_ms: u64,
    /// Between tries, so that the queue behind us drains.
    pub pause_ms: u64,
    pub give_up_after_ms: u64,
    /// Within the client's transaction, where its earlier locks stay held while we wait.
    pub give_up_in_transaction_ms: u64,
    /// How often a failed concurrent build is tried.
    pub concurrent_tries: u32,
}

#[derive(Clone, Debug)]
pub struct Backfill {
    pub rows_max: u64,
    /// Keys of the first batch; later ones adapt.
    pub batch_rows: u64,
    pub batch_rows_max: u64,
    /// How long a batch should take; 0 = every batch has batch_rows.
    pub batch_target_ms: u64,
    pub pause_ms: u64,
    /// How often a NOTICE tells the progress.
    pub notice_ms: u64,
    /// Above it a statement with RETURNING is not split.
    pub returning_rows_max: u64,
    /// Batches wait while a replica is further behind; 0 = they do not look.
    pub replica_lag_max_ms: u64,
    /// Batches wait while the WAL since the last checkpoint is more than so much of max_wal_size; 0 = they do not look.
    pub wal_max_percent: u64,
    /// Batches wait while more sessions of the database wait for locks.
    pub lock_waits_max: u64,
    /// Batches wait while this file exists.
    pub stop_file: Option<String>,
    /// What becomes of a large UPDATE or DELETE inside the client's transaction.
    pub in_transaction: InTransaction,
}

/// Rule actions and overrides, behind [`Policy::action`] and [`Policy::may_override`].
#[derive(Clone, Debug)]
pub struct Rules {
    default: Action,
    may_override: bool,
    reason_required: bool,
    actions: BTreeMap<String, Action>,
    overrides: Vec<OverrideTable>,
}

/// Who and what an `[[override]]` is matched against.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    pub database: &'a str,
    pub role: &'a str,
    pub application_name: &'a str,
    /// schema.name of each table that the statement is about, as far as they are known.
    pub tables: &'a [String],
}

const STANDARD: &str = include_str!("../../policies/standard.toml");

/// The built-in policies, by name.
const EMBEDDED: [(&str, &str); 3] = [
    ("observe", include_str!("../../policies/observe.toml")),
    ("standard", STANDARD),
    ("strict", include_str!("../../policies/strict.toml")),
];

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    extends: Option<String>,
    #[serde(default)]
    defaults: DefaultsTable,
    #[serde(default)]
    lock: LockTable,
    #[serde(default)]
    table: TableTable,
    #[serde(default)]
    backfill: BackfillTable,
    #[serde(default)]
    audit: AuditTable,
    #[serde(default)]
    rules: BTreeMap<String, Action>,
    #[serde(default, rename = "override")]
    overrides: Vec<OverrideTable>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct DefaultsTable {
    rule: Option<Action>,
    unparsed: Option<Action>,
    in_transaction: Option<InTransaction>,
    may_override: Option<bool>,
    reason_required: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct LockTable {
    timeout_ms: Option<u64>,
    pause_ms: Option<u64>,
    give_up_after_s: Option<u64>,
    give_up_in_transaction_s: Option<u64>,
    concurrent_tries: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct TableTable {
    small_bytes: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct BackfillTable {
    rows_max: Option<u64>,
    batch_rows: Option<u64>,
    batch_rows_max: Option<u64>,
    batch_target_ms: Option<u64>,
    pause_ms: Option<u64>,
    notice_s: Option<u64>,
    returning_rows_max: Option<u64>,
    replica_lag_max_ms: Option<u64>,
    wal_max_percent: Option<u64>,
    lock_waits_max: Option<u64>,
    stop_file: Option<String>,
    in_transaction: Option<InTransaction>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct AuditTable {
    on_failure: Option<OnAuditFailure>,
    literals: Option<Literals>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct OverrideTable {
    role: Option<String>,
    database: Option<String>,
    application_name: Option<String>,
    table: Option<String>,
    #[serde(default)]
    rules: BTreeMap<String, Action>,
    may_override: Option<bool>,
    reason_required: Option<bool>,
    /// For the audit log and the NOTICE.
    reason: Option<String>,
}

impl Policy {
    /// Reads a policy file. `name` is its path, for messages and the audit log. The error names the file, the line and, for an
    /// unknown key, value or rule, the nearest one that exists.
    pub fn parse(text: &str, name: &str, rule_names: &[&str]) -> Result<Policy, String> {
        let file = Source { text, name }.read(Some(rule_names))?;
        file.policy(name)
            .ok_or_else(|| format!("{name}: the built-in policy `standard` is incomplete"))
    }

    /// `observe`, `standard` or `strict`; None for any other name.
    pub fn embedded(name: &str, rule_names: &[&str]) -> Option<Policy> {
        let (name, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
        // An error would be a mistake in a file that is compiled in; the tests read all three.
        Policy::parse(text, name, rule_names).ok()
    }

    /// The action for a finding of `rule`: for each table the first `[[override]]` that matches and names the rule, else
    /// `[rules]`, else `[defaults]`; of several tables' the strictest. With it, which block has eased the action to one that
    /// leaves the statement as it is.
    pub fn decision(&self, rule: &str, subject: &Subject) -> (Action, Option<Overridden>) {
        let rules = &self.rules;
        let usual = *rules.actions.get(rule).unwrap_or(&rules.default);
        let of_table = |table: Option<&str>| match rules.first(subject, table, |block| block.rules.get(rule).copied()) {
            Some((action, block)) => (action, Some(block)),
            None => (usual, None),
        };
        let Some((action, block)) = subject.each(of_table).max_by_key(|(action, _)| *action) else {
            return (usual, None);
        };
        let eased = action < usual && matches!(action, Action::Allow | Action::Warn);
        (action, block.filter(|_| eased).map(OverrideTable::overridden))
    }

    /// Whether `SET lockkeeper.override` and the comment count for this subject: for each table the first `[[override]]` that
    /// matches and says, else `[defaults]`.
    pub fn may_override(&self, subject: &Subject) -> bool {
        let rules = &self.rules;
        let said = |table: Option<&str>| match rules.first(subject, table, |block| block.may_override) {
            Some((may, _)) => may,
            None => rules.may_override,
        };
        subject.each(said).all(|may| may)
    }

    /// Whether they must say why.
    pub fn reason_required(&self, subject: &Subject) -> bool {
        let rules = &self.rules;
        let said = |table: Option<&str>| match rules.first(subject, table, |block| block.reason_required) {
            Some((required, _)) => required,
            None => rules.reason_required,
        };
        subject.each(said).any(|required| required)
    }
}

impl Rules {
    /// The first block that matches and answers, with its answer.
    fn first<T>(
        &self,
        subject: &Subject,
        table: Option<&str>,
        answer: impl Fn(&OverrideTable) -> Option<T>,
    ) -> Option<(T, &OverrideTable)> {
        let mut matching = self.overrides.iter().filter(|block| block.matches(subject, table));
        matching.find_map(|block| Some((answer(block)?, block)))
    }
}

impl<'a> Subject<'a> {
    /// Asked once a table; once without one where none is known.
    fn each<T>(&self, ask: impl Fn(Option<&'a str>) -> T) -> impl Iterator<Item = T> {
        let tables = self.tables;
        let none = tables.is_empty().then_some(None);
        tables.iter().map(|table| Some(table.as_str())).chain(none).map(ask)
    }
}

impl OverrideTable {
    /// As the audit log names it: `[[override]] role = "dba", table = "scratch.*"`.
    fn overridden(&self) -> Overridden {
        let conditions = [
            ("database", &self.database),
            ("role", &self.role),
            ("application_name", &self.application_name),
            ("table", &self.table),
        ];
        let written: Vec<String> = conditions
            .iter()
            .filter_map(|(key, pattern)| pattern.as_ref().map(|pattern| format!("{key} = {pattern:?}")))
            .collect();
        Overridden {
            by: format!("[[override]] {}", written.join(", ")),
            reason: self.reason.clone().unwrap_or_default(),
        }
    }

    fn matches(&self, subject: &Subject, table: Option<&str>) -> bool {
        let fits = |pattern: &Option<String>, value: &str| pattern.as_ref().is_none_or(|p| glob(p, value));
        fits(&self.role, subject.role)
            && fits(&self.database, subject.database)
            && fits(&self.application_name, subject.application_name)
            && self.table.as_ref().is_none_or(|pattern| match table {
                Some(table) if pattern.contains('.') => glob(pattern, table),
                Some(table) => glob(pattern, table.rsplit_once('.').map_or(table, |(_, name)| name)),
                None => false,
            })
    }
}

/// `*` stands for any text, everything else for itself.
fn glob(pattern: &str, value: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == value;
    };
    let Some(mut value) = value.strip_prefix(head) else {
        return false;
    };
    let mut parts: Vec<&str> = rest.split('*').collect();
    let tail = parts.pop().unwrap_or_default();
    // The leftmost place for each part leaves the most text to the parts after it.
    for part in parts {
        match value.find(part) {
            Some(at) => value = &value[at + part.len()..],
            None => return false,
        }
    }
    value.ends_with(tail)
}

impl File {
    /// What this file leaves out, from `base`.
    fn over(self, base: File) -> File {
        File {
            extends: None,
            defaults: DefaultsTable {
                rule: self.defaults.rule.or(base.defaults.rule),
                unparsed: self.defaults.unparsed.or(base.defaults.unparsed),
                in_transaction: self.defaults.in_transaction.or(base.defaults.in_transaction),
                may_override: self.defaults.may_override.or(base.defaults.may_override),
                reason_required: self.defaults.reason_required.or(base.defaults.reason_required),
            },
            lock: LockTable {
                timeout_ms: self.lock.timeout_ms.or(base.lock.timeout_ms),
                pause_ms: self.lock.pause_ms.or(base.lock.pause_ms),
                give_up_after_s: self.lock.give_up_after_s.or(base.lock.give_up_after_s),
                give_up_in_transaction_s: self
                    .lock
                    .give_up_in_transaction_s
                    .or(base.lock.give_up_in_transaction_s),
                concurrent_tries: self.lock.concurrent_tries.or(base.lock.concurrent_tries),
            },
            table: TableTable {
                small_bytes: self.table.small_bytes.or(base.table.small_bytes),
            },
            backfill: BackfillTable {
                rows_max: self.backfill.rows_max.or(base.backfill.rows_max),
                batch_rows: self.backfill.batch_rows.or(base.backfill.batch_rows),
                batch_rows_max: self.backfill.batch_rows_max.or(base.backfill.batch_rows_max),
                batch_target_ms: self.backfill.batch_target_ms.or(base.backfill.batch_target_ms),
                pause_ms: self.backfill.pause_ms.or(base.backfill.pause_ms),
                notice_s: self.backfill.notice_s.or(base.backfill.notice_s),
                returning_rows_max: self.backfill.returning_rows_max.or(base.backfill.returning_rows_max),
                replica_lag_max_ms: self.backfill.replica_lag_max_ms.or(base.backfill.replica_lag_max_ms),
                wal_max_percent: self.backfill.wal_max_percent.or(base.backfill.wal_max_percent),
                lock_waits_max: self.backfill.lock_waits_max.or(base.backfill.lock_waits_max),
                stop_file: self.backfill.stop_file.or(base.backfill.stop_file),
                in_transaction: self.backfill.in_transaction.or(base.backfill.in_transaction),
            },
            audit: AuditTable {
                on_failure: self.audit.on_failure.or(base.audit.on_failure),
                literals: self.audit.literals.or(base.audit.literals),
            },
            rules: base.rules.into_iter().chain(self.rules).collect(),
            overrides: self.overrides.into_iter().chain(base.overrides).collect(),
        }
    }

    /// None if a value is missing, which [`File::over`] the standard policy leaves none of.
    fn policy(self, name: &str) -> Option<Policy> {
        Some(Policy {
            name: name.to_string(),
            unparsed: self.defaults.unparsed?,
            in_transaction: self.defaults.in_transaction?,
            lock: Lock {
                timeout_ms: self.lock.timeout_ms?,
                pause_ms: self.lock.pause_ms?,
                give_up_after_ms: self.lock.give_up_after_s? * 1000,
                give_up_in_transaction_ms: self.lock.give_up_in_transaction_s? * 1000,
                concurrent_tries: self.lock.concurrent_tries?,
            },
            small_bytes: self.table.small_bytes?,
            backfill: Backfill {
                rows_max: self.backfill.rows_max?,
                batch_rows: self.backfill.batch_rows?,
                batch_rows_max: self.backfill.batch_rows_max?,
                batch_target_ms: self.backfill.batch_target_ms?,
                pause_ms: self.backfill.pause_ms?,
                notice_ms: self.backfill.notice_s? * 1000,
                returning_rows_max: self.backfill.returning_rows_max?,
                replica_lag_max_ms: self.backfill.replica_lag_max_ms?,
                wal_max_percent: self.backfill.wal_max_percent?,
                lock_waits_max: self.backfill.lock_waits_max?,
                stop_file: self.backfill.stop_file.filter(|file| !file.is_empty()),
                in_transaction: self.backfill.in_transaction?,
            },
            on_audit_failure: self.audit.on_failure?,
            audit_literals: self.audit.literals?,
            rules: Rules {
                default: self.defaults.rule?,
                may_override: self.defaults.may_override?,
                reason_required: self.defaults.reason_required?,
                actions: self.rules,
                overrides: self.overrides,
            },
        })
    }
}

/// The text of an embedded policy, completed by those that it extends.
fn embedded(name: &str) -> Option<Result<File, String>> {
    let (name, text) = EMBEDDED.iter().find(|(known, _)| *known == name)?;
    Some(Source { text, name }.read(None))
}

/// A policy file's text and name, for messages that say where.
struct Source<'a> {
    text: &'a str,
    name: &'a str,
}

impl Source<'_> {
    /// The file, checked and completed. `rule_names` are the rules there are; None does not ask.
    fn read(&self, rule_names: Option<&[&str]>) -> Result<File, String> {
        let file: File = toml::from_str(self.text).map_err(|error| self.explain(&error))?;
        self.check_numbers(&file)?;
        self.check_rules(&file, rule_names)?;
        self.check_overrides(&file)?;
        let base = match file.extends.as_deref() {
            // What everything else is completed by.
            None if self.text == STANDARD => return Ok(file),
            None => "standard",
            Some(name) => name,
        };
        let Some(base_file) = embedded(base) else {
            let known: Vec<&str> = EMBEDDED.iter().map(|(name, _)| *name).collect();
            let message = format!("extends names no built-in policy: `{base}`, {}", suggest(base, &known));
            return Err(self.at(&["extends"], message));
        };
        Ok(file.over(base_file?))
    }

    /// Refuses what is not a useful number: a lock_timeout of 0 would wait without end, a batch of 0 rows never ends.
    fn check_numbers(&self, file: &File) -> Result<(), String> {
        let backfill = &file.backfill;
        let numbers: [(&str, &str, Option<u64>, u64, u64); 16] = [
            ("lock", "timeout_ms", file.lock.timeout_ms, 1, 60_000),
            ("lock", "pause_ms", file.lock.pause_ms, 1, 600_000),
            ("lock", "give_up_after_s", file.lock.give_up_after_s, 1, 604_800),
            (
                "lock",
                "give_up_in_transaction_s",
                file.lock.give_up_in_transaction_s,
                1,
                3_600,
            ),
            (
                "lock",
                "concurrent_tries",
                file.lock.concurrent_tries.map(u64::from),
                1,
                100,
            ),
            ("table", "small_bytes", file.table.small_bytes, 0, 1 << 40),
            ("backfill", "rows_max", file.backfill.rows_max, 1, 1_000_000_000),
            ("backfill", "batch_rows", file.backfill.batch_rows, 1, 1_000_000),
            ("backfill", "batch_rows_max", backfill.batch_rows_max, 1, 1_000_000),
            ("backfill", "batch_target_ms", backfill.batch_target_ms, 0, 60_000),
            (
                "backfill",
                "returning_rows_max",
                backfill.returning_rows_max,
                0,
                1_000_000_000,
            ),
            (
                "backfill",
                "replica_lag_max_ms",
                backfill.replica_lag_max_ms,
                0,
                86_400_000,
            ),
            ("backfill", "wal_max_percent", backfill.wal_max_percent, 0, 100_000),
            ("backfill", "lock_waits_max", backfill.lock_waits_max, 0, 1_000_000),
            ("backfill", "pause_ms", backfill.pause_ms, 0, 600_000),
            ("backfill", "notice_s", file.backfill.notice_s, 1, 3_600),
        ];
        for (table, key, value, min, max) in numbers {
            if let Some(value) = value.filter(|value| !(min..=max).contains(value)) {
                let message = format!("`{key}` in [{table}] is {value}, it must be between {min} and {max}");
                return Err(self.at(&[table, key], message));
            }
        }
        Ok(())
    }

    fn check_rules(&self, file: &File, rule_names: Option<&[&str]>) -> Result<(), String> {
        let Some(known) = rule_names else { return Ok(()) };
        let unknown = |rules: &BTreeMap<String, Action>, path: &[&str], place: &str| {
            let Some(rule) = rules.keys().find(|rule| !known.contains(&rule.as_str())) else {
                return Ok(());
            };
            let path: Vec<&str> = path.iter().copied().chain([rule.as_str()]).collect();
            Err(self.at(
                &path,
                format!("unknown rule `{rule}` in {place}, {}", suggest(rule, known)),
            ))
        };
        unknown(&file.rules, &["rules"], "[rules]")?;
        for (index, special) in file.overrides.iter().enumerate() {
            unknown(
                &special.rules,
                &["override", &index.to_string(), "rules"],
                "[[override]]",
            )?;
        }
        Ok(())
    }

    /// Refuses an `[[override]]` that says nothing, or that holds for everything and so hides what [rules] says.
    fn check_overrides(&self, file: &File) -> Result<(), String> {
        for (index, special) in file.overrides.iter().enumerate() {
            let index = index.to_string();
            let conditions = [
                ("role", &special.role),
                ("database", &special.database),
                ("application_name", &special.application_name),
                ("table", &special.table),
            ];
            if let Some((key, _)) = conditions.iter().find(|(_, pattern)| pattern.as_deref() == Some("")) {
                let message =
                    format!("`{key}` in [[override]] is empty and would match nothing; `*` matches everything");
                return Err(self.at(&["override", &index, key], message));
            }
            if conditions.iter().all(|(_, pattern)| pattern.is_none()) {
                let message = "this [[override]] holds for everything, since it names no role, database, application_name or \
                               table: write it in [rules] and [defaults] instead";
                return Err(self.at(&["override", &index], message));
            }
            if special.rules.is_empty() && special.may_override.is_none() && special.reason_required.is_none() {
                let message = "this [[override]] changes nothing: give it `rules`, `may_override` or `reason_required`";
                return Err(self.at(&["override", &index], message));
            }
        }
        Ok(())
    }

    /// The TOML reader's error, with the nearest valid word where a word is wrong.
    fn explain(&self, error: &toml::de::Error) -> String {
        let place = error.span().map_or(0, |span| span.start);
        let table = match self.path_at(place).split_last() {
            Some((_, [])) | None => String::new(),
            Some((_, tables)) => match tables
                .iter()
                .filter(|t| t.parse::<usize>().is_err())
                .collect::<Vec<_>>()[..]
            {
                [name] if name == "override" => " in [[override]]".to_string(),
                ref names => format!(
                    " in [{}]",
                    names.iter().map(|n| n.as_str()).collect::<Vec<_>>().join(".")
                ),
            },
        };
        // serde says: unknown field `x`, expected one of `a`, `b`
        let words: Vec<&str> = error.message().split('`').skip(1).step_by(2).collect();
        let message = match (error.message(), &words[..]) {
            (text, [word, known @ ..]) if text.starts_with("unknown field ") => {
                format!("unknown key `{word}`{table}, {}", suggest(word, known))
            }
            (text, [word, known @ ..]) if text.starts_with("unknown variant ") => {
                let key = self.path_at(place).pop().unwrap_or_default();
                format!("`{key}`{table} cannot be `{word}`, {}", suggest(word, known))
            }
            (text, _) => match self.path_at(place).pop() {
                Some(key) => format!("`{key}`{table}: {}", text.trim_end()),
                None => text.trim_end().replace('\n', ", "),
            },
        };
        self.line(place, message)
    }

    fn at(&self, path: &[&str], message: impl Display) -> String {
        let place = DeTable::parse(self.text)
            .ok()
            .and_then(|table| place_of(table.get_ref(), path));
        self.line(place.unwrap_or(0), message)
    }

    fn line(&self, place: usize, message: impl Display) -> String {
        let before = self.text.get(..place).unwrap_or(self.text);
        let line = 1 + before.bytes().filter(|byte| *byte == b'\n').count();
        format!("{}:{line}: {message}", self.name)
    }

    /// The keys that lead to what stands at a byte offset; empty if nothing does.
    fn path_at(&self, place: usize) -> Vec<String> {
        let mut path = Vec::new();
        if let Ok(table) = DeTable::parse(self.text) {
            path_in_table(table.get_ref(), place, &mut path);
        }
        path
    }
}

fn path_in_table(table: &DeTable, place: usize, path: &mut Vec<String>) -> bool {
    table.iter().any(|(key, value)| {
        path.push(key.get_ref().to_string());
        let found = key.span().contains(&place) || path_in_value(value, place, path);
        if !found {
            path.pop();
        }
        found
    })
}

fn path_in_value(value: &toml::Spanned<DeValue>, place: usize, path: &mut Vec<String>) -> bool {
    let inside = match value.get_ref() {
        DeValue::Table(table) => path_in_table(table, place, path),
        DeValue::Array(items) => items.iter().enumerate().any(|(index, item)| {
            path.push(index.to_string());
            let found = path_in_value(item, place, path);
            if !found {
                path.pop();
            }
            found
        }),
        _ => false,
    };
    inside || value.span().contains(&place)
}

/// Where the last key of `path` is written; array elements are named by their index.
fn place_of(table: &DeTable, path: &[&str]) -> Option<usize> {
    let (name, rest) = path.split_first()?;
    let (key, value) = table.iter().find(|(key, _)| key.get_ref() == name)?;
    match (value.get_ref(), rest) {
        (_, []) => Some(key.span().start),
        (DeValue::Table(table), rest) => place_of(table, rest),
        (DeValue::Array(items), [index, rest @ ..]) => {
            let item = items.get(index.parse::<usize>().ok()?)?;
            match item.get_ref() {
                DeValue::Table(table) if !rest.is_empty() => place_of(table, rest),
                _ => Some(item.span().start),
            }
        }
        _ => None,
    }
}

/// "did you mean `x`?", or all there are if none is near.
fn suggest(word: &str, known: &[&str]) -> String {
    let near = known.iter().map(|k| (strsim::damerau_levenshtein(word, k), k)).min();
    match near {
        Some((distance, near)) if distance <= 2.max(word.len() / 3) => format!("did you mean `{near}`?"),
        _ => format!(
            "valid are {}",
            known.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ")
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RULES: [&str; 30] = [
        "nonconcurrent-index",
        "nonconcurrent-drop-index",
        "nonconcurrent-reindex",
        "validating-check",
        "validating-foreign-key",
        "set-not-null",
        "volatile-default",
        "serial-column",
        "stored-generated-column",
        "constrained-domain",
        "rename-column",
        "rename-table",
        "rename-enum-value",
        "set-expression",
        "domain-constraint",
        "scan-under-lock",
        "attach-partition",
        "dynamic-sql",
        "drop-column",
        "drop-table",
        "truncate",
        "change-type",
        "unique-constraint",
        "exclusion-constraint",
        "rewriting-table",
        "blocking-refresh",
        "partition-lock",
        "large-write",
        "update-limit",
        "lock-queue",
    ];

    const SOMEBODY: Subject = Subject {
        database: "shop",
        role: "app",
        application_name: "psql",
        tables: &[],
    };

    fn action(policy: &Policy, rule: &str, subject: &Subject) -> Action {
        policy.decision(rule, subject).0
    }

    fn policy(text: &str) -> Policy {
        Policy::parse(text, "p.toml", &RULES).unwrap()
    }

    #[track_caller]
    fn check_error(text: &str, expect: &str) {
        assert_eq!(
            Policy::parse(text, "p.toml", &RULES).unwrap_err(),
            expect,
            "for: {text}"
        );
    }

    #[test]
    fn embedded_policies_are_whole() {
        for (name, _) in EMBEDDED {
            let policy = Policy::embedded(name, &RULES).unwrap_or_else(|| panic!("{name} cannot be read"));
            assert_eq!(policy.name, name);
            assert_eq!((policy.lock.timeout_ms, policy.lock.give_up_after_ms), (50, 300_000));
            assert_eq!((policy.backfill.batch_rows, policy.backfill.notice_ms), (5_000, 5_000));
        }
        assert!(Policy::embedded("lenient", &RULES).is_none());
    }

    #[test]
    fn embedded_policies_decide() {
        let actions = |name: &str| {
            let policy = Policy::embedded(name, &RULES).unwrap();
            let action = |rule| action(&policy, rule, &SOMEBODY);
            (
                [
                    action("drop-column"),
                    action("nonconcurrent-index"),
                    action("lock-queue"),
                    action("large-write"),
                ],
                policy.may_override(&SOMEBODY),
                policy.on_audit_failure,
                policy.in_transaction,
            )
        };
        use Action::*;
        let standard = (
            [Reject, Rewrite, Rewrite, Rewrite],
            true,
            OnAuditFailure::Open,
            InTransaction::Defer,
        );
        assert_eq!(actions("standard"), standard);
        let strict = (
            [Reject, Reject, Rewrite, Rewrite],
            false,
            OnAuditFailure::Closed,
            InTransaction::Reject,
        );
        assert_eq!(actions("strict"), strict);
        assert_eq!(
            actions("observe"),
            ([Warn; 4], true, OnAuditFailure::Open, InTransaction::Forward)
        );
        let observe = Policy::embedded("observe", &RULES).unwrap();
        assert!(RULES.iter().all(|rule| action(&observe, rule, &SOMEBODY) == Warn));
        assert_eq!(observe.unparsed, Warn);
    }

    #[test]
    fn what_is_not_written_comes_from_the_extended_policy() {
        let p = policy("[lock]\ntimeout_ms = 20\n[rules]\ndrop-table = 'allow'");
        assert_eq!((p.lock.timeout_ms, p.lock.pause_ms), (20, 200));
        assert_eq!(action(&p, "drop-table", &SOMEBODY), Action::Allow);
        assert_eq!(action(&p, "drop-column", &SOMEBODY), Action::Reject);
        assert_eq!(action(&p, "set-not-null", &SOMEBODY), Action::Rewrite);
        assert_eq!(p.name, "p.toml");
        let p = policy("extends = 'strict'\n[defaults]\nmay_override = true");
        assert_eq!(
            (action(&p, "set-not-null", &SOMEBODY), p.may_override(&SOMEBODY)),
            (Action::Reject, true)
        );
        assert_eq!(policy("").on_audit_failure, OnAuditFailure::Open);
    }

    #[test]
    fn a_file_may_be_called_like_an_embedded_policy() {
        let p = Policy::parse("[lock]\ntimeout_ms = 20", "standard", &RULES).unwrap();
        assert_eq!((p.lock.timeout_ms, p.lock.pause_ms), (20, 200));
    }

    #[test]
    fn the_first_override_that_answers_wins() {
        let p = policy(
            "extends = 'strict'
             [[override]]
             role = 'dba'
             may_override = true
             reason_required = false
             [[override]]
             role = 'd*'
             table = 'scratch.*'
             may_override = false
             reason = 'nobody reads it'
             rules = { drop-table = 'allow' }
             [[override]]
             application_name = 'nightly-*-job'
             database = 'shop'
             table = 'users'
             rules = { drop-table = 'warn' }",
        );
        let of = |tables: &'static [&str]| -> Vec<String> { tables.iter().map(|table| table.to_string()).collect() };
        let (scratch, users, users2) = (of(&["scratch.t"]), of(&["public.users"]), of(&["public.users2"]));
        let dba = Subject {
            role: "dba",
            tables: &scratch,
            ..SOMEBODY
        };
        let decided = p.decision("drop-table", &dba);
        let by = "[[override]] role = \"d*\", table = \"scratch.*\"".to_string();
        let reason = "nobody reads it".to_string();
        assert_eq!(
            (decided, p.may_override(&dba)),
            ((Action::Allow, Some(Overridden { by, reason })), true)
        );
        let dev = Subject { role: "dev", ..dba };
        assert_eq!(
            (action(&p, "drop-table", &dev), p.may_override(&dev)),
            (Action::Allow, false)
        );
        assert!(p.reason_required(&dev) && !p.reason_required(&dba));
        let nightly = Subject {
            application_name: "nightly-7-job",
            tables: &users,
            ..SOMEBODY
        };
        assert_eq!(action(&p, "drop-table", &nightly), Action::Warn);
        assert_eq!(action(&p, "drop-column", &nightly), Action::Reject);
        for tables in [&[][..], &users2, &of(&["public.users", "public.users2"])] {
            assert_eq!(action(&p, "drop-table", &Subject { tables, ..nightly }), Action::Reject);
        }
        // A table that is let off says nothing about the others, nor one that is guarded.
        let both = of(&["scratch.t", "public.users"]);
        let dba = Subject { tables: &both, ..dba };
        assert_eq!(p.decision("drop-table", &dba), (Action::Reject, None));
        assert!(!p.may_override(&SOMEBODY));
    }

    #[test]
    fn globs() {
        for (pattern, value, expect) in [
            ("*", "", true),
            ("a", "a", true),
            ("a", "ab", false),
            ("a*", "ab", true),
            ("*b", "ab", true),
            ("a*a", "a", false),
            ("a*b*c", "a-b-b-c", true),
            ("a*b*b", "ab", false),
            ("*é*", "caféx", true),
            ("A*", "ab", false),
        ] {
            assert_eq!(glob(pattern, value), expect, "{pattern} {value}");
        }
    }

    #[test]
    fn unknown_words_name_the_nearest() {
        check_error(
            "[lock]\n\ntmeout_ms = 5",
            "p.toml:3: unknown key `tmeout_ms` in [lock], did you mean `timeout_ms`?",
        );
        check_error(
            "lock = { tmeout_ms = 5 }",
            "p.toml:1: unknown key `tmeout_ms` in [lock], did you mean `timeout_ms`?",
        );
        check_error(
            "\n[loc]\ntimeout_ms = 5",
            "p.toml:2: unknown key `loc`, did you mean `lock`?",
        );
        check_error(
            "[table]\nsize = 5",
            "p.toml:2: unknown key `size` in [table], valid are `small_bytes`",
        );
        check_error(
            "[[override]]\nrol = 'x'",
            "p.toml:2: unknown key `rol` in [[override]], did you mean `role`?",
        );
        check_error(
            "[rules]\ndrop-colum = 'warn'",
            "p.toml:2: unknown rule `drop-colum` in [rules], did you mean `drop-column`?",
        );
        check_error(
            "[[override]]\nrole = 'a'\nrules = { drop_table = 'warn' }",
            "p.toml:3: unknown rule `drop_table` in [[override]], did you mean `drop-table`?",
        );
        check_error(
            "[rules]\ndrop-table = 'rejct'",
            "p.toml:2: `drop-table` in [rules] cannot be `rejct`, did you mean `reject`?",
        );
        check_error(
            "[defaults]\nin_transaction = 'later'",
            "p.toml:2: `in_transaction` in [defaults] cannot be `later`, valid are `defer`, `reject`, `forward`",
        );
        check_error(
            "extends = 'standart'",
            "p.toml:1: extends names no built-in policy: `standart`, did you mean `standard`?",
        );
        check_error(
            "# hm\nextends = 'other.toml'",
            "p.toml:2: extends names no built-in policy: `other.toml`, valid are `observe`, `standard`, `strict`",
        );
    }

    #[test]
    fn values_are_checked() {
        check_error(
            "[lock]\ntimeout_ms = 0",
            "p.toml:2: `timeout_ms` in [lock] is 0, it must be between 1 and 60000",
        );
        check_error(
            "[backfill]\nbatch_rows = 0",
            "p.toml:2: `batch_rows` in [backfill] is 0, it must be between 1 and 1000000",
        );
        check_error(
            "[lock]\ngive_up_after_s = 99999999",
            "p.toml:2: `give_up_after_s` in [lock] is 99999999, it must be between 1 and 604800",
        );
        check_error(
            "[lock]\ntimeout_ms = -1",
            "p.toml:2: `timeout_ms` in [lock]: invalid value: integer `-1`, expected u64",
        );
        check_error(
            "[lock]\ntimeout_ms = '50ms'",
            "p.toml:2: `timeout_ms` in [lock]: invalid type: string \"50ms\", expected u64",
        );
        check_error(
            "lock = 5",
            "p.toml:1: `lock`: invalid type: integer `5`, expected struct LockTable",
        );
        check_error(
            "[[override]]\nrules = { drop-table = 'allow' }",
            "p.toml:1: this [[override]] holds for everything, since it names no role, database, application_name or table: \
             write it in [rules] and [defaults] instead",
        );
        check_error(
            "[[override]]\nrole = 'a'\nmay_override = true\n[[override]]\nrole = 'b'",
            "p.toml:4: this [[override]] changes nothing: give it `rules`, `may_override` or `reason_required`",
        );
        check_error(
            "[[override]]\nrole = ''\nmay_override = true",
            "p.toml:2: `role` in [[override]] is empty and would match nothing; `*` matches everything",
        );
    }

    #[test]
    fn broken_toml_names_the_line() {
        check_error("[lock]\ntimeout_ms 5", "p.toml:2: key with no value, expected `=`");
        check_error("[lock]\ntimeout_ms = 5\ntimeout_ms = 6", "p.toml:3: duplicate key");
    }
}
