//! What goes with what a statement names, for the rules that judge it as if it were named, and how it is told.

use crate::depends::{Part, Question, Taken, What};
use crate::splice::{one_line, qualified, quote_ident};
use crate::subject::{Subject, Table, sql_name};
use crate::words::first_token;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, DropBehavior, ObjectType};

/// So many of a kind are told by name.
const TOLD_MAX: usize = 8;
/// A longer statement is told by its beginning.
const STATEMENT_CHARS_MAX: usize = 100;

/// What a rule has to know of a statement that was not asked about, for want of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Worst {
    Table,
    Column,
    View,
    Default,
    /// Keys, triggers, functions and the like.
    Other,
}

impl<'a> Subject<'a> {
    /// What goes with the statement; of an ALTER TABLE told with the first action that takes something.
    pub fn taken(&self) -> Option<&'a Taken> {
        if self
            .action
            .is_some_and(|action| !self.statement.takes_first(action.command))
        {
            return None;
        }
        self.facts.depends.of(self.statement)
    }

    /// Also what is asked with any action.
    pub fn asked(&self) -> Option<&'a Taken> {
        self.facts.depends.of(self.statement)
    }

    /// The parts of these kinds that go without being named, as far as others can see them. A partition goes for its parent.
    pub fn going(&self, kinds: &[What]) -> Vec<&'a Part> {
        let Some(taken) = self.taken() else {
            return Vec::new();
        };
        let tables: Vec<u32> = taken
            .parts
            .iter()
            .filter(|p| p.what == What::Table)
            .map(|p| p.oid)
            .collect();
        let with_parent =
            |part: &Part| part.what == What::Table && part.parent.is_some_and(|oid| tables.contains(&oid));
        // It names roles, and none of what they own.
        let names_none = matches!(self.statement.node, NodeEnum::DropOwnedStmt(_));
        let going = |part: &&Part| {
            kinds.contains(&part.what)
                && (names_none || !part.named)
                && !part.invisible_to_others()
                && !with_parent(part)
        };
        taken.parts.iter().filter(going).collect()
    }

    /// No server says what goes with the statement: the worst that may.
    pub(super) fn may_take(&self, worst: Worst) -> bool {
        self.facts.offline && self.facts.depends.of(self.statement).is_none() && worst_of(self) == Some(worst)
    }

    /// The statement's beginning, for messages.
    pub fn shown(&self) -> String {
        let sql = &self.statement.sql;
        let text = one_line(&sql[first_token(sql)..], STATEMENT_CHARS_MAX);
        match text.char_indices().nth(STATEMENT_CHARS_MAX) {
            Some((at, _)) => format!("{} …", &text[..at]),
            None => text,
        }
    }

    /// The statement as it is to be sent again.
    pub fn whole_text(&self) -> &'a str {
        let sql = &self.statement.sql;
        sql[first_token(sql)..].trim_end()
    }
}

fn worst_of(subject: &Subject) -> Option<Worst> {
    use ObjectType as O;
    Question::of(subject.statement)?;
    let cascades = |behavior: DropBehavior| behavior == DropBehavior::DropCascade;
    match &subject.statement.node {
        NodeEnum::DropOwnedStmt(_) => Some(Worst::Table),
        NodeEnum::DropStmt(drop) => match drop.remove_type() {
            // Its own objects go without CASCADE.
            O::ObjectExtension => Some(Worst::Table),
            _ if !cascades(drop.behavior()) => None,
            O::ObjectSchema
            // A partitioned table whose key uses it.
            | O::ObjectOpclass
            | O::ObjectOpfamily
            | O::ObjectFdw
            | O::ObjectForeignServer
            | O::ObjectAccessMethod
            | O::ObjectLanguage
            | O::ObjectTable
            | O::ObjectForeignTable => Some(Worst::Table),
            O::ObjectType
            | O::ObjectDomain
            | O::ObjectCollation
            | O::ObjectFunction
            | O::ObjectProcedure
            | O::ObjectRoutine
            | O::ObjectAggregate
            | O::ObjectOperator
            | O::ObjectCast
            // What a generated column makes of a text.
            | O::ObjectTsconfiguration
            | O::ObjectTsdictionary
            | O::ObjectTsparser
            | O::ObjectTstemplate => Some(Worst::Column),
            O::ObjectView | O::ObjectMatview => Some(Worst::View),
            O::ObjectSequence => Some(Worst::Default),
            _ => Some(Worst::Other),
        },
        NodeEnum::AlterDomainStmt(_) => Some(Worst::Default),
        NodeEnum::AlterTableStmt(_) => {
            let command = subject.action?.command;
            (cascades(command.behavior()) && command.subtype() == AlterTableType::AtDropConstraint)
                .then_some(Worst::Other)
        }
        _ => None,
    }
}

/// "a, b and 5 more".
pub(super) fn listed<T>(all: &[T], told: impl Fn(&T) -> String) -> String {
    let names: Vec<String> = all.iter().take(TOLD_MAX).map(told).collect();
    match all.len().saturating_sub(TOLD_MAX) {
        0 => names.join(", "),
        more => format!("{} and {more} more", names.join(", ")),
    }
}

/// "archive.users (211 MB, about 2000000 rows)".
pub(super) fn described(part: &Part) -> String {
    let size = match part.bytes {
        b if b >= 10 << 30 => format!("{} GB", b >> 30),
        b if b >= 10 << 20 => format!("{} MB", b >> 20),
        b => format!("{} kB", b >> 10),
    };
    let name = sql_name(&part.name());
    if part.is_foreign() {
        return format!("{name} (a foreign table)");
    }
    match part.rows {
        Some(rows) => format!("{name} ({size}, about {rows:.0} rows)"),
        None => format!("{name} ({size})"),
    }
}

/// A relation that goes: its name. A part of one that stays: "kind of archive.events".
pub(super) fn told(part: &Part) -> String {
    let relation = qualified(&part.schema, &part.relation);
    match &part.part {
        Some(name) => format!("{} of {relation}", quote_ident(name)),
        None => relation,
    }
}

/// Why something may go, to be filled in.
pub(super) const UNUSED: &str = "unused since <release>";

/// The way to drop what goes with something else: by itself, first.
pub(super) fn first_by_itself(subject: &Subject, rule: &str, what: &str) -> String {
    format!(
        "1. Deploy what no longer uses {what}, and wait until the last session with the old code is gone; take a backup.\n\
         2. Better drop what goes with it first, each by its own name, so that what is lost is written down.\n\
         3. {}",
        subject.let_through(rule, UNUSED, subject.whole_text())
    )
}

/// Empty: it has never held a row, or holds none that anybody could miss.
pub(super) fn is_empty(table: &Table) -> bool {
    table.known.is_some_and(|relation| relation.bytes == 0)
}

/// Whether a part's table is small by the policy.
pub(super) fn is_small(subject: &Subject, part: &Part) -> bool {
    crate::catalog::is_small(part.bytes, subject.policy.small_bytes)
}
