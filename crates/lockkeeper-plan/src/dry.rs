//! A dry run: whether one is asked for, what may run meanwhile, and a plan as rows for the client to read. Pure.
//!
//! It is asked for by `SET lockkeeper.dry_run = on`, which the server keeps as it does every setting, or for one statement by a comment in
//! front of it, `/* lockkeeper: dry_run */`. Judged statements answer with [`rows`]; of the others only what changes nothing runs.

pub mod rights;

use super::calls::Calls;
use super::catalog::Name;
use super::deferred::Deferral;
use super::facts::Facts;
use super::lock::LockMode;
use super::locks;
use super::makes::makes_relations;
use super::mentions::Mentions;
use super::outcome::{Plan, Run};
use super::overrides;
use super::request::Request;
use super::statement::{Kind, Statement};
use super::step::{Mode, Place, Step};
use super::words::mentions;
use pg_query::NodeEnum;
use pg_query::protobuf::TransactionStmtKind;
use pg_query::protobuf::VariableSetKind;

pub const SETTING: &str = "lockkeeper.dry_run";

/// From such a text on, the session's statements are asked about. Too many texts are better than too few, but an application's own `dry_run`
/// is none of them: the setting and the comment both name the proxy. At login the server takes `-` for `_`.
pub fn may_concern(text: &[u8]) -> bool {
    let is_named = memchr::memchr2_iter(b'k', b'K', text).any(|at| {
        let from = at.wrapping_sub("loc".len());
        text.get(from..from.wrapping_add("lockkeeper".len()))
            .is_some_and(|word| word.eq_ignore_ascii_case(b"lockkeeper"))
    });
    is_named && text.windows("dry".len()).any(|word| word.eq_ignore_ascii_case(b"dry"))
}

/// A comment in front of the statement is about a dry run, and cannot be read.
pub fn is_misspelt(sql: &str) -> bool {
    overrides::speaks_of(sql, "dry") && !overrides::asks_for_dry_run(sql)
}

/// The values of a Bind: `set_config($1, $2, false)` may be bound with the setting.
pub fn may_be_bound(bind: &[u8]) -> bool {
    memchr::memmem::find(bind, b"lockkeeper.dry").is_some()
}

/// The setting's value. What cannot be read is taken for `on`: whoever wrote it wanted nothing changed.
pub fn is_on(value: &str) -> bool {
    let value = value.trim().to_ascii_lowercase();
    !matches!(
        value.as_str(),
        "" | "off" | "false" | "no" | "0" | "f" | "n" | "default"
    )
}

/// It answers with a plan.
pub fn is_judged(statement: &Statement) -> bool {
    !matches!(
        statement.kind,
        Kind::Harmless | Kind::Begin { .. } | Kind::Commit { .. } | Kind::Rollback { .. }
    )
}

/// A comment in front of the statement asks for it.
pub fn by_comment(statement: &Statement) -> bool {
    overrides::asks_for_dry_run(&statement.sql)
}

/// The same of a text of one statement.
pub fn text_asks(text: &str) -> bool {
    overrides::asks_for_dry_run(text)
}

/// What a statement sets the setting to. For a message of several statements, which are looked at before any of them runs.
pub fn sets(statement: &Statement) -> Option<bool> {
    match &statement.node {
        NodeEnum::VariableSetStmt(set) if set.name.eq_ignore_ascii_case(SETTING) => {
            let text = |node: &pg_query::Node| match &node.node {
                Some(NodeEnum::AConst(constant)) => match constant.val.as_ref()? {
                    pg_query::protobuf::a_const::Val::Sval(text) => Some(text.sval.clone()),
                    pg_query::protobuf::a_const::Val::Ival(number) => Some(number.ival.to_string()),
                    pg_query::protobuf::a_const::Val::Boolval(is) => Some(is.boolval.to_string()),
                    _ => None,
                },
                _ => None,
            };
            let resets = !matches!(set.kind(), VariableSetKind::VarSetValue);
            let value = set.args.first().and_then(text);
            Some(!resets && value.is_none_or(|value| is_on(&value)))
        }
        NodeEnum::VariableSetStmt(set) if set.kind() == VariableSetKind::VarResetAll => Some(false),
        NodeEnum::SelectStmt(_) if mentions(statement.sql.as_bytes(), "dry_run") => {
            mentions(statement.sql.as_bytes(), "set_config").then_some(true)
        }
        _ => None,
    }
}

/// Names of prepared statements may mean others behind it.
pub fn renames_prepared(statement: &Statement) -> bool {
    matches!(
        statement.node,
        NodeEnum::DeallocateStmt(_) | NodeEnum::DiscardStmt(_) | NodeEnum::PrepareStmt(_) | NodeEnum::ExecuteStmt(_)
    )
}

/// What a statement that is not judged would do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Does {
    /// It changes the session or transaction alone.
    Nothing,
    /// It reads, in a transaction that the server lets only read, unless one of these functions changes what that does not prevent.
    Reads(Vec<Name>),
    /// It may change something.
    Changes,
}

pub fn does(statement: &Statement) -> Does {
    use NodeEnum as N;
    match &statement.node {
        N::VariableSetStmt(_) | N::VariableShowStmt(_) | N::DeallocateStmt(_) | N::DiscardStmt(_) => Does::Nothing,
        N::ClosePortalStmt(_) | N::UnlistenStmt(_) | N::ListenStmt(_) => Does::Nothing,
        // What is prepared is looked at when it is executed. FETCH goes on with what may have begun before the dry run, as an INSERT …
        // RETURNING; SET CONSTRAINTS fires triggers.
        N::PrepareStmt(_) => Does::Nothing,
        N::TransactionStmt(transaction) => match transaction.kind() {
            TransactionStmtKind::TransStmtPrepare
            | TransactionStmtKind::TransStmtCommitPrepared
            | TransactionStmtKind::TransStmtRollbackPrepared => Does::Changes,
            _ => Does::Nothing,
        },
        N::SelectStmt(select) if select.into_clause.is_none() => query(statement),
        N::DeclareCursorStmt(_) => query(statement),
        N::ExplainStmt(explain) => {
            let is_analyze = |option: &pg_query::Node| matches!(&option.node, Some(N::DefElem(option)) if option.defname == "analyze");
            let is_query = matches!(
                explain.query.as_ref().and_then(|query| query.node.as_ref()),
                Some(N::SelectStmt(_))
            );
            match explain.options.iter().any(is_analyze) {
                true if is_query => query(statement),
                true => Does::Changes,
                false => Does::Reads(Vec::new()),
            }
        }
        N::CopyStmt(copy) if !copy.is_from && !copy.is_program && copy.filename.is_empty() => query(statement),
        _ => Does::Changes,
    }
}

/// FOR UPDATE is among what the server itself refuses in a transaction that is read only.
fn query(statement: &Statement) -> Does {
    let mentioned = Mentions::of(&statement.node);
    let locks = ["for update", "for no key", "for share", "for key"]
        .iter()
        .any(|words| mentioned.picks && mentions(statement.sql.as_bytes(), words));
    if mentioned.writes
        || mentioned.unreadable
        || locks
        || mentions(statement.sql.as_bytes(), "into") && makes(statement)
    {
        return Does::Changes;
    }
    Does::Reads(mentioned.functions)
}

fn makes(statement: &Statement) -> bool {
    makes_relations(statement.sql.as_bytes(), true) >= Calls::MakesTemporary
}

/// A boolean: none of these functions is volatile, but for those of the server's own that tell the time, a random number or what the session
/// is. A transaction that may only read lets through what is no table's row: notifications, advisory locks, signals. Operators, casts and
/// functions that call such functions in turn are not seen here; the rows of tables the server itself keeps from them.
pub fn are_harmless(functions: &[Name]) -> String {
    use super::splice::quote_literal;
    let names: Vec<String> = functions.iter().map(|name| quote_literal(&name.name)).collect();
    format!(
        "SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_proc AS p WHERE p.proname OPERATOR(pg_catalog.=) ANY (ARRAY[{}]::pg_catalog.name[]) \
         AND p.provolatile OPERATOR(pg_catalog.=) 'v' AND NOT (p.pronamespace OPERATOR(pg_catalog.=) 11 AND p.proname OPERATOR(pg_catalog.=) \
         ANY (ARRAY['random', 'clock_timestamp', 'timeofday', 'currval', 'lastval', 'gen_random_uuid', 'uuidv4', 'uuidv7', 'set_config', \
         'pg_backend_pid', 'pg_sleep', 'pg_stat_get_activity', 'pg_lock_status', 'pg_cursor', 'pg_prepared_statement', \
         'pg_is_in_recovery', 'pg_relation_size', 'pg_table_size', 'pg_total_relation_size', 'pg_indexes_size', 'pg_database_size', \
         'pg_tablespace_size', 'pg_current_wal_lsn', 'pg_blocking_pids']::pg_catalog.name[])))",
        names.join(", ")
    )
}

/// One row of a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Row {
    pub step: String,
    pub action: String,
    pub sql: Option<String>,
    pub lock: LockMode,
    pub relation: String,
    /// Whom it keeps waiting.
    pub blocks: String,
    pub rows: Option<u64>,
    /// How much it reads or writes, where that is known: by which its time is told.
    pub work: Work,
    pub deferred: bool,
    pub rollback: Option<String>,
    pub why: Option<String>,
}

impl Row {
    /// `SHARE on public.users`
    pub fn locks(&self) -> Option<String> {
        match (self.lock, self.relation.as_str()) {
            (LockMode::None, _) => None,
            (lock, "") => Some(lock.name().to_owned()),
            (lock, relation) => Some(format!("{} on {relation}", lock.name())),
        }
    }

    pub fn runs(&self) -> &'static str {
        match (self.step.as_str(), self.deferred) {
            ("refused", _) => "never",
            (_, true) => "after COMMIT, as a job",
            (_, false) => "now",
        }
    }
}

/// What a step's time depends on.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Work {
    #[default]
    Unknown,
    /// Done in a moment, once it has its lock.
    Moment,
    /// It reads so many bytes of a table.
    Scans(u64),
    /// It reads and sorts so many.
    Builds(u64),
    /// It changes so many rows.
    Changes(u64),
}

/// A plan as the client reads it.
pub fn rows(plan: &Plan, statement: &Statement, facts: &Facts, place: Place) -> Vec<Row> {
    let mut rows = match plan {
        Plan::Reject(rejection) => vec![Row {
            step: "refused".into(),
            action: "it would be refused".into(),
            sql: Some(statement.sql.trim().to_owned()),
            why: Some(sentences(&[&rejection.message, &rejection.detail, &rejection.hint])),
            ..Row::default()
        }],
        _ if facts.refused.is_some() => vec![Row {
            step: "refused".into(),
            action: "the server would refuse it".into(),
            sql: Some(statement.sql.trim().to_owned()),
            why: facts.refused.clone(),
            ..Row::default()
        }],
        Plan::Forward { findings, .. } => vec![forwarded(statement, findings, facts)],
        Plan::Run(run) => carried(run, facts, place),
    };
    if let Plan::Run(Run { findings, .. }) | Plan::Forward { findings, .. } = plan
        && let Some(first) = rows.first_mut()
        && first.why.is_none()
    {
        let told: Vec<String> = findings
            .iter()
            .map(|finding| format!("{}: {}", finding.rule, finding.message))
            .collect();
        first.why = (!told.is_empty()).then(|| told.join("; "));
    }
    rows
}

fn sentences(parts: &[&str]) -> String {
    let said: Vec<&str> = parts.iter().copied().filter(|part| !part.is_empty()).collect();
    said.join(" ")
}

fn forwarded(statement: &Statement, findings: &[super::Finding], facts: &Facts) -> Row {
    let (relation, lock) = waited_for(statement, findings, facts);
    let asked = Request::of(statement).relations;
    let missing = asked.iter().find(|name| facts.relation(name).is_none());
    let is_made = matches!(
        statement.node,
        NodeEnum::CreateStmt(_) | NodeEnum::ViewStmt(_) | NodeEnum::IndexStmt(_) | NodeEnum::CreateTableAsStmt(_)
    );
    let why = missing.filter(|_| !is_made && findings.is_empty()).map(|name| {
        format!(
            "there is no {} here: the server would say so, unless an earlier statement makes it",
            name.name
        )
    });
    let part = match facts.estimated_rows {
        Some(_) => changes(facts),
        None => Row {
            work: Work::Scans(facts.relations.first().map_or(0, |relation| relation.bytes)),
            ..Row::default()
        },
    };
    Row {
        step: "1 of 1".into(),
        action: "goes to the server as it is".into(),
        sql: Some(statement.sql.trim().to_owned()),
        lock,
        blocks: if lock == LockMode::None {
            String::new()
        } else {
            lock.blocks().into()
        },
        relation,
        why,
        ..part
    }
}

/// The strongest lock that a schema change takes, and on what; of anything else what was found.
fn waited_for(statement: &Statement, findings: &[super::Finding], facts: &Facts) -> (String, LockMode) {
    let locks = match statement.kind {
        Kind::Ddl => locks::locks(statement),
        _ => Vec::new(),
    };
    let there = locks
        .iter()
        .filter_map(|(name, mode)| Some((facts.relation(name)?, *mode)));
    let found = findings.iter().map(|finding| finding.lock).max();
    match there.rev().max_by_key(|(_, mode)| *mode) {
        Some((relation, mode)) if found.is_some() => (qualified(relation), mode),
        _ => (
            facts.relations.first().map(qualified).unwrap_or_default(),
            found.unwrap_or(LockMode::None),
        ),
    }
}

fn qualified(relation: &super::catalog::Relation) -> String {
    format!("{}.{}", relation.schema, relation.name)
}

fn carried(run: &Run, facts: &Facts, place: Place) -> Vec<Row> {
    let mut rows: Vec<Row> = run.steps.iter().map(|step| row_of(step, facts, place)).collect();
    match &run.deferral {
        None => {}
        Some(Deferral::New(new)) => {
            rows.extend(new.later.iter().map(|step| Row {
                deferred: true,
                ..row_of(step, facts, Place::Alone)
            }));
        }
        Some(Deferral::Write(batches)) => rows.push(Row {
            action: format!("{} in batches", batches.verb),
            sql: Some(batches.statement.trim().to_owned()),
            lock: LockMode::RowExclusive,
            relation: batches.relation.clone(),
            blocks: LockMode::RowExclusive.blocks().into(),
            deferred: true,
            ..changes(facts)
        }),
        Some(Deferral::Adopt(id)) => rows.push(Row {
            action: format!("job {id} of an earlier transaction is taken up"),
            deferred: true,
            ..Row::default()
        }),
        Some(Deferral::Withdraw(ids)) => rows.push(Row {
            action: format!("what waits for COMMIT is not wanted any more: job {ids:?}"),
            ..Row::default()
        }),
    }
    let count = rows.len();
    for (n, row) in rows.iter_mut().enumerate() {
        row.step = format!("{} of {count}", n + 1);
    }
    rows
}

fn changes(facts: &Facts) -> Row {
    let rows = facts.estimated_rows.map(|rows| rows.max(0.0) as u64);
    Row {
        rows,
        work: rows.map_or(Work::Unknown, Work::Changes),
        ..Row::default()
    }
}

fn row_of(step: &Step, facts: &Facts, place: Place) -> Row {
    let relation = facts
        .relations
        .iter()
        .find(|relation| step.relation == relation.name || step.relation == qualified(relation));
    let bytes = relation.map(|relation| relation.bytes);
    let held = |work: fn(u64) -> Work| bytes.map_or(Work::Unknown, work);
    let scanned = relation
        .and_then(|relation| relation.rows)
        .map(|rows| rows.max(0.0) as u64);
    let (sql, part) = match &step.mode {
        Mode::Brief { then } => {
            let all = [vec![step.sql.clone()], then.clone()].concat().join(";\n");
            (
                all,
                Row {
                    work: Work::Moment,
                    ..Row::default()
                },
            )
        }
        Mode::Long { then } => {
            let all = [vec![step.sql.clone()], then.clone()].concat().join(";\n");
            (
                all,
                Row {
                    work: held(Work::Scans),
                    rows: scanned,
                    ..Row::default()
                },
            )
        }
        Mode::Concurrent => {
            let builds = !step.sql.to_ascii_uppercase().contains("DROP INDEX");
            let work = if builds { held(Work::Builds) } else { Work::Moment };
            (
                step.sql.clone(),
                Row {
                    work,
                    rows: scanned.filter(|_| builds),
                    ..Row::default()
                },
            )
        }
        Mode::Batches(batches) => {
            let known = changes(facts);
            let rows = known.rows.or(batches.keys_estimated.map(|keys| keys.max(0.0) as u64));
            (
                batches.statement.trim().to_owned(),
                Row {
                    rows,
                    work: rows.map_or(Work::Unknown, Work::Changes),
                    ..known
                },
            )
        }
        Mode::Rewrite(_) => (
            step.sql.clone(),
            Row {
                rows: scanned,
                work: Work::Unknown,
                ..Row::default()
            },
        ),
        Mode::Rows => (step.sql.clone(), changes(facts)),
    };
    let in_transaction = place != Place::Alone && matches!(step.mode, Mode::Brief { .. });
    let blocks = match (step.lock, in_transaction) {
        (LockMode::None, _) => String::new(),
        (lock, true) => format!("{}, until your transaction ends", lock.blocks()),
        (lock, false) => lock.blocks().to_owned(),
    };
    Row {
        action: step.label.clone(),
        sql: Some(sql),
        lock: step.lock,
        relation: step.relation.clone(),
        blocks,
        rollback: step.rollback.clone(),
        ..part
    }
}

#[cfg(test)]
mod tests {
    use super::super::reading::read;
    use super::*;

    #[track_caller]
    fn check(sql: &str, expect: Does) {
        let statements = read(sql.as_bytes(), true).unwrap();
        assert_eq!(does(&statements[0]), expect, "{sql}");
    }

    #[test]
    fn what_changes_something_is_told_from_what_reads() {
        for sql in [
            "SHOW search_path",
            "SET lockkeeper.dry_run = off",
            "BEGIN",
            "ROLLBACK TO a",
            "CLOSE c",
        ] {
            check(sql, Does::Nothing);
        }
        for sql in [
            "SELECT 1",
            "SELECT a FROM t WHERE a IN (SELECT b FROM u)",
            "WITH a AS (SELECT 1) SELECT * FROM a",
            "VALUES (1)",
            "EXPLAIN DELETE FROM t",
            "EXPLAIN ANALYZE SELECT 1",
            "COPY t TO STDOUT",
            "DECLARE c CURSOR FOR SELECT * FROM t",
        ] {
            check(sql, Does::Reads(Vec::new()));
        }
        for sql in [
            "INSERT INTO t VALUES (1)",
            "WITH a AS (INSERT INTO t VALUES (1) RETURNING *) SELECT * FROM a",
            "SELECT * INTO u FROM t",
            "SELECT * FROM t FOR UPDATE",
            "SELECT 1 UNION SELECT * FROM (SELECT 2 FROM t FOR SHARE) x",
            "EXPLAIN ANALYZE INSERT INTO t VALUES (1)",
            "COPY t FROM STDIN",
            "COPY t TO PROGRAM 'cat'",
            "CALL p()",
            "FETCH c",
            "SET CONSTRAINTS ALL IMMEDIATE",
            "NOTIFY a",
            "LOCK t",
            "GRANT SELECT ON t TO u",
            "PREPARE TRANSACTION 'a'",
            "COMMIT PREPARED 'a'",
            "VACUUM t",
            "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        ] {
            check(sql, Does::Changes);
        }
        let name = Name {
            schema: None,
            name: "nextval".into(),
        };
        check("SELECT nextval('s')", Does::Reads(vec![name]));
    }

    #[test]
    fn the_setting_is_read_as_the_server_reads_booleans() {
        let check = |sql: &str, expect| assert_eq!(sets(&read(sql.as_bytes(), true).unwrap()[0]), expect, "{sql}");
        check("SET lockkeeper.dry_run = on", Some(true));
        check("SET LOCAL lockkeeper.dry_run TO 'true'", Some(true));
        check("SET lockkeeper.dry_run = 1", Some(true));
        check("SET lockkeeper.dry_run = off", Some(false));
        check("SET lockkeeper.dry_run = 0", Some(false));
        check("SET lockkeeper.dry_run TO DEFAULT", Some(false));
        check("RESET lockkeeper.dry_run", Some(false));
        check("RESET ALL", Some(false));
        check("SELECT set_config('lockkeeper.dry_run', 'on', false)", Some(true));
        check("SET search_path = a", None);
        check("SELECT 1", None);
        assert!(may_concern(b"set LockKeeper.Dry_Run = 1") && !may_concern(b"SELECT dry_run FROM jobs"));
        assert!(!may_concern(b"SELECT 1 /* lockkeeper: allow=drop-table */") && !may_concern(b"lock"));
        assert!(
            may_concern(b"--lockkeeper.dry-run=on")
                && may_concern(&[&[b' '; 5000][..], b"SET lockkeeper.dry_run = 1"].concat())
        );
        assert!(
            is_misspelt("/* lockkeeper : dry_run */ SELECT 1") && !is_misspelt("/* lockkeeper: dry_run */ SELECT 1")
        );
        assert!(is_on("On") && is_on("maybe") && !is_on("OFF") && !is_on(""));
    }
}
