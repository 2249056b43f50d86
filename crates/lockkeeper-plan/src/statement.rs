//! A statement that was read: its text, its tree and its kind, and the code in it.
//!
//! [`reading`](crate::reading) makes them. The client's text is kept and never printed back from the tree; rewrites are byte edits
//! made by [`splice`](crate::splice).

mod actions;
pub mod alter;
mod kind;
pub mod stream;

use self::actions::Actions;
use super::catalog::Name;
use super::mixed;
use super::splice::{depth_change, one_statement, significant_tokens, tree_text};
pub(crate) use kind::kind_of;
pub use kind::{Kind, LimitedWrite};
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, ColumnDef, Constraint, PartitionCmd, SelectStmt, Token};
use std::sync::{Arc, OnceLock};

/// One of those that the server runs in a transaction with others. Of the rest, some run only alone (VACUUM, CREATE INDEX
/// CONCURRENTLY).
pub fn is_transactional(statement: &Statement) -> bool {
    match &statement.node {
        NodeEnum::IndexStmt(index) => !index.concurrent,
        NodeEnum::DropStmt(drop) => !drop.concurrent,
        NodeEnum::AlterTableStmt(alter) => !alter.cmds.iter().any(|node| {
            let Some(NodeEnum::AlterTableCmd(command)) = &node.node else {
                return false;
            };
            matches!(
                command.subtype(),
                pg_query::protobuf::AlterTableType::AtDetachPartition
                    | pg_query::protobuf::AlterTableType::AtDetachPartitionFinalize
            )
        }),
        NodeEnum::UpdateStmt(_)
        | NodeEnum::DeleteStmt(_)
        | NodeEnum::TruncateStmt(_)
        | NodeEnum::RenameStmt(_)
        | NodeEnum::AlterObjectSchemaStmt(_)
        | NodeEnum::CommentStmt(_)
        | NodeEnum::ViewStmt(_)
        | NodeEnum::CreateTrigStmt(_)
        | NodeEnum::RuleStmt(_)
        | NodeEnum::CreatePolicyStmt(_)
        | NodeEnum::CreateStmt(_)
        | NodeEnum::CreateTableAsStmt(_) => true,
        _ => matches!(statement.kind, Kind::MixedWrite),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// NUL, or not UTF-8.
    Encoding,
    /// Larger than the parser is given, or comments nested too deeply.
    TooLarge,
    /// The grammar refuses it; the message is the parser's.
    Syntax(String),
    /// The server, whose encoding is another one, takes an identifier for another than is read here.
    Name(String),
}

impl Unreadable {
    pub fn why(&self) -> &str {
        match self {
            Unreadable::Syntax(message) | Unreadable::Name(message) => message,
            Unreadable::Encoding => "not valid UTF-8",
            Unreadable::TooLarge => "too large",
        }
    }
}

/// What a statement does with statements that were prepared before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Prepared<'a> {
    Executes(&'a str),
    /// DEALLOCATE name
    Forgets(&'a str),
    /// DEALLOCATE ALL, DISCARD ALL
    ForgetsAll,
}

pub fn prepared(statement: &Statement) -> Option<Prepared<'_>> {
    use pg_query::protobuf::DiscardMode;
    match &statement.node {
        NodeEnum::ExecuteStmt(execute) => Some(Prepared::Executes(&execute.name)),
        NodeEnum::DeallocateStmt(forget) if forget.isall || forget.name.is_empty() => Some(Prepared::ForgetsAll),
        NodeEnum::DeallocateStmt(forget) => Some(Prepared::Forgets(&forget.name)),
        NodeEnum::DiscardStmt(discard) if discard.target() == DiscardMode::DiscardAll => Some(Prepared::ForgetsAll),
        _ => None,
    }
}

#[derive(Clone, Debug)]
pub struct Statement {
    /// The client's text of this one statement: without the `;`, with the comments inside and before it.
    pub sql: String,
    /// Where `sql` starts in the query text, in bytes.
    pub offset: usize,
    pub node: NodeEnum,
    pub kind: Kind,
    /// [`words_of`] the text.
    pub words: usize,
    pub(crate) body: Option<Arc<Body>>,
    pub(crate) all_actions: OnceLock<Actions>,
}

/// In front of the statement that is explained: every option that there is, with its value, a few times over.
const EXPLAIN_TOKENS_MAX: usize = 100;

impl Statement {
    /// Of a DO block: INSERTs in it that change other rows by a rule count with it.
    pub fn count_inserts(&mut self, fires: impl Fn(&Statement) -> bool) {
        if let (NodeEnum::DoStmt(_), Some(body)) = (&self.node, &mut self.body) {
            Arc::make_mut(body).count_inserts(fires);
            let is_judged = body.is_judged();
            self.kind = kind_of(&self.node, is_judged);
        }
    }

    /// What is to be seen in a DO block or a function: read once, with the statement. None: no code, or none that matters.
    pub fn body(&self) -> Option<&Body> {
        self.body.as_deref()
    }

    /// What EXPLAIN takes in a statement's place: the statement within COPY (…) TO and within another EXPLAIN. None: it could not be cut out.
    pub fn explainable(&self) -> Option<&str> {
        let sql = self.sql.as_str();
        let within = match &self.node {
            NodeEnum::ExplainStmt(_) | NodeEnum::CopyStmt(_) => mixed::inner(&self.node)?,
            _ => return Some(sql),
        };
        let tokens = significant_tokens(sql)?;
        let wanted = tree_text(within);
        // What is prepared stands in the tree in its EXECUTE's place.
        let is_executed = matches!(within, NodeEnum::PrepareStmt(_));
        let is_wanted = |text: &str| {
            one_statement(text).is_some_and(|node| match is_executed {
                true => mixed::executes(&node).is_some(),
                false => tree_text(&node) == wanted,
            })
        };
        if matches!(self.node, NodeEnum::ExplainStmt(_)) {
            // Behind EXPLAIN stand a list in parentheses or a few words.
            let starts = tokens.iter().skip(1).map(|token| token.start as usize);
            let rests = starts.filter_map(|start| sql.get(start..));
            return rests.take(EXPLAIN_TOKENS_MAX).find(|rest| is_wanted(rest));
        }
        let open = tokens.iter().position(|token| token.token() == Token::Ascii40)?;
        let mut depth = 0;
        let close = tokens[open..].iter().find(|token| {
            depth += depth_change(token);
            depth == 0
        })?;
        let text = sql.get(tokens[open].end as usize..close.start as usize)?;
        is_wanted(text).then_some(text)
    }

    /// Its text and its kind, to be read again when it is judged. What begins and ends transactions is kept.
    pub fn without_tree(self) -> Statement {
        match &self.node {
            NodeEnum::TransactionStmt(_) => self,
            _ => Statement {
                node: NodeEnum::SelectStmt(Box::default()),
                body: None,
                ..self
            },
        }
    }

    /// All actions of an ALTER TABLE; of another statement none.
    pub fn actions(&self) -> impl Iterator<Item = &AlterTableCmd> {
        let commands = match &self.node {
            NodeEnum::AlterTableStmt(alter) => alter.cmds.as_slice(),
            _ => &[],
        };
        commands.iter().filter_map(|node| match &node.node {
            Some(NodeEnum::AlterTableCmd(command)) => Some(command.as_ref()),
            _ => None,
        })
    }

    pub fn all_actions(&self) -> &Actions {
        self.all_actions.get_or_init(|| Actions::of(self.actions()))
    }

    fn action(&self, at: usize) -> Option<&AlterTableCmd> {
        let NodeEnum::AlterTableStmt(alter) = &self.node else {
            return None;
        };
        match &alter.cmds.get(at)?.node {
            Some(NodeEnum::AlterTableCmd(command)) => Some(command),
            _ => None,
        }
    }

    /// Whether it is the first of its statement's actions that drops a column or a constraint.
    pub fn takes_first(&self, command: &AlterTableCmd) -> bool {
        let first = self.all_actions().takes.and_then(|at| self.action(at));
        first.is_some_and(|first| std::ptr::eq(first, command))
    }

    /// The column that the statement adds under this name.
    pub fn added_column(&self, name: &str) -> Option<&ColumnDef> {
        let at = *self.all_actions().added_columns.get(name)?;
        match self.action(at)?.def.as_ref()?.node.as_ref()? {
            NodeEnum::ColumnDef(column) => Some(column),
            _ => None,
        }
    }

    /// The first ATTACH PARTITION.
    pub fn attached(&self) -> Option<&PartitionCmd> {
        self.partition(self.all_actions().attach)
    }

    /// The first DETACH PARTITION.
    pub fn detached(&self) -> Option<&PartitionCmd> {
        self.partition(self.all_actions().detach)
    }

    fn partition(&self, at: Option<usize>) -> Option<&PartitionCmd> {
        match self.action(at?)?.def.as_ref()?.node.as_ref()? {
            NodeEnum::PartitionCmd(command) => Some(command),
            _ => None,
        }
    }

    /// The UNIQUE and PRIMARY KEY constraints that it adds to the table.
    pub fn added_keys(&self) -> impl Iterator<Item = &Constraint> {
        let keys = self.all_actions().added_keys.iter();
        keys.filter_map(|at| match self.action(*at)?.def.as_ref()?.node.as_ref()? {
            NodeEnum::Constraint(constraint) => Some(constraint.as_ref()),
            _ => None,
        })
    }
}

#[derive(Clone, Debug, Default)]
pub struct Body {
    /// Schema changes, and in a DO block what changes rows. Those of one list of statements are in its order; whether one is
    /// reached is not known.
    pub statements: Vec<Arc<Statement>>,
    /// There is an EXECUTE of something that is not a plain string, or the code could not be read.
    pub dynamic: bool,
    /// A DO block: it runs now, so that what it writes counts too.
    pub(crate) runs: bool,
    /// COMMIT or ROLLBACK: it cannot run as a part of a transaction.
    pub ends_transactions: bool,
    /// In a DO block: why its statements may do something else than they are judged by.
    pub doubt: Option<Doubt>,
    /// PREPARE of what changes rows, for the EXECUTE that may follow the block.
    pub prepares: Vec<NodeEnum>,
    /// Variables, records and labels of its own, which EXPLAIN does not know.
    pub(crate) variables: Vec<Variable>,
    /// It says itself whether a name is a variable or a column, where it may be both.
    pub(crate) resolves_names: bool,
    /// All that a DO block runs, in the order of [`Body::statements`].
    pub(crate) ran: Vec<Ran>,
}

/// One thing that a DO block runs.
#[derive(Clone, Debug)]
pub(crate) struct Ran {
    pub(crate) what: What,
    pub(crate) when: When,
    /// It is one of them.
    pub(crate) counts: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// After what stands before it.
    InTurn,
    /// In a loop: also after what stands behind it there.
    Again,
    /// A declaration: its cursors run when they are opened.
    AnyTime,
}

#[derive(Clone, Debug)]
pub(crate) enum What {
    Statement(Arc<Statement>),
    /// An expression as a query, for the functions that it calls.
    Expression(Box<NodeEnum>),
    Unknown,
}

/// Why a DO block is not known to do what it is judged by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Doubt {
    pub message: String,
    pub hint: String,
}

/// A variable, record or label of the block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    pub name: String,
    /// As it is declared, if it is that of a variable and can be read.
    pub type_name: Option<String>,
}

impl Body {
    /// There is something in it for the rules.
    pub fn is_judged(&self) -> bool {
        self.dynamic || self.doubt.is_some() || !self.statements.is_empty()
    }

    /// INSERTs of a DO block that change other rows by a rule (CREATE RULE) count like what changes rows itself.
    pub(super) fn count_inserts(&mut self, fires: impl Fn(&Statement) -> bool) {
        if !self.ran.iter().any(|ran| ran.inserts()) {
            return;
        }
        for ran in &mut self.ran {
            if let What::Statement(statement) = &mut ran.what
                && matches!(statement.kind, Kind::Harmless)
                // Of what is prepared its EXECUTE is judged.
                && !matches!(statement.node, NodeEnum::PrepareStmt(_))
                && fires(statement)
            {
                Arc::make_mut(statement).kind = Kind::MixedWrite;
                ran.counts = true;
            }
        }
        let counting = self.ran.iter().filter(|ran| ran.counts);
        let statements = counting.filter_map(|ran| match &ran.what {
            What::Statement(statement) => Some(Arc::clone(statement)),
            _ => None,
        });
        self.statements = statements.collect();
    }
}

impl Ran {
    /// It inserts, itself or within what it carries out.
    pub(crate) fn inserts(&self) -> bool {
        matches!(&self.what, What::Statement(statement) if !mixed::inserted(&statement.node).is_empty())
    }
}

/// The tables that the statement would create, as it names them: CREATE TABLE, CREATE TABLE AS, SELECT INTO.
pub fn tables_created(statement: &Statement) -> Vec<Name> {
    let into = |select: &SelectStmt| {
        let mut select = select;
        // In a UNION the INTO stands in its first member.
        while let Some(left) = &select.larg {
            select = left;
        }
        select.into_clause.as_ref().and_then(|into| into.rel.clone())
    };
    let relation = match &statement.node {
        NodeEnum::CreateStmt(create) => create.relation.clone(),
        NodeEnum::CreateForeignTableStmt(create) => create.base_stmt.as_ref().and_then(|base| base.relation.clone()),
        NodeEnum::CreateTableAsStmt(create) => create.into.as_ref().and_then(|into| into.rel.clone()),
        NodeEnum::SelectStmt(select) => into(select),
        _ => None,
    };
    relation.iter().map(Name::of).collect()
}
