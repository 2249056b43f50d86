//! Reading SQL text: the gate, the split into statements, their kinds. The grammar is the server's own (libpg_query).
//!
//! Start at [`gate`], which looks at bytes only, and at [`read`], which parses. The client's text is kept and never
//! printed back from the tree; rewrites are byte edits made by [`super::splice`].

use super::facts::Name;
use pg_query::NodeEnum;

/// What the bytes alone say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// One statement of a kind that is never touched (SELECT, INSERT, COPY …), or an empty one.
    Forward,
    /// BEGIN / START TRANSACTION, COMMIT / END / ROLLBACK / ABORT …: forwarded too, but a pipeline has to know of them.
    Begin,
    End,
    /// Only [`read`] can tell.
    Read,
}

/// Well under a microsecond for ordinary statements, never allocates, works on any bytes.
pub fn gate(_text: &[u8]) -> Gate {
    Gate::Read
}

#[derive(Clone, Debug)]
pub struct Statement {
    /// The client's text of this one statement: without the `;`, with the comments inside and before it.
    pub sql: String,
    /// Where `sql` starts in the query text, in bytes.
    pub offset: usize,
    pub node: NodeEnum,
    pub kind: Kind,
}

#[derive(Clone, Debug)]
pub enum Kind {
    /// Never judged: forwarded.
    Harmless,
    /// BEGIN, START TRANSACTION. `plain` if it has no options (isolation level, read only …).
    Begin { plain: bool },
    /// COMMIT, END, PREPARE TRANSACTION, COMMIT PREPARED; `chain` for AND CHAIN.
    Commit { chain: bool },
    /// ROLLBACK, ABORT; not ROLLBACK TO, which is Harmless.
    Rollback { chain: bool },
    /// An UPDATE or DELETE, which may be large.
    Write,
    /// `UPDATE … [ORDER BY …] LIMIT n`, which no PostgreSQL has. `node` is that of the statement without its ORDER BY and LIMIT.
    LimitedWrite(LimitedWrite),
    /// Anything that may lock or break something: judged by the rules.
    Ddl,
}

/// Byte ranges are within `Statement::sql`.
#[derive(Clone, Debug)]
pub struct LimitedWrite {
    /// From ORDER BY or LIMIT to the end of the clause.
    pub clause: std::ops::Range<usize>,
    pub order_by: Option<String>,
    /// The expression after LIMIT: `10000`, `$1`.
    pub limit: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unreadable {
    /// NUL, or not UTF-8.
    Encoding,
    /// Larger than the parser is given, or comments nested too deeply.
    TooLarge,
    /// The grammar refuses it; the message is the parser's.
    Syntax(String),
}

/// All statements of a query text, in order. Empty statements are left out.
pub fn read(_text: &[u8], _standard_conforming_strings: bool) -> Result<Vec<Statement>, Unreadable> {
    Err(Unreadable::TooLarge)
}

/// An ALTER TABLE taken apart: `head` + space + any of `actions` is a statement of its own that does exactly that action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AlterText {
    /// Up to the table's name and its optional `*`: `ALTER TABLE IF EXISTS ONLY s.t`.
    pub head: String,
    /// In the order of the tree's `cmds`.
    pub actions: Vec<String>,
}

/// None if it is no ALTER TABLE, or could not be proven to come apart.
pub fn alter_actions(_statement: &Statement) -> Option<AlterText> {
    None
}

/// The tables that the statement would create, as it names them: CREATE TABLE, CREATE TABLE AS, SELECT INTO.
pub fn tables_created(_statement: &Statement) -> Vec<Name> {
    Vec::new()
}
