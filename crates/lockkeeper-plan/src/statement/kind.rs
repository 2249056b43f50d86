//! What is done with each statement of the grammar: the one place where that is decided.

use crate::mixed;
use crate::splice::is_false;
use pg_query::NodeEnum;
use pg_query::protobuf::{CallStmt, TransactionStmt, TransactionStmtKind, VacuumStmt, a_const};

#[derive(Clone, Debug)]
pub enum Kind {
    /// Never judged: forwarded. `node` is a stand-in where the tree is nested too deeply to be taken over.
    Harmless,
    /// BEGIN, START TRANSACTION. `plain` if it has no options (isolation level, read only …).
    Begin { plain: bool },
    /// COMMIT, END, PREPARE TRANSACTION; `chain` for AND CHAIN.
    Commit { chain: bool },
    /// ROLLBACK, ABORT; not ROLLBACK TO, which is Harmless.
    Rollback { chain: bool },
    /// An UPDATE or DELETE, which may be large.
    Write,
    /// `UPDATE … [ORDER BY …] LIMIT n`, which no PostgreSQL has. `node` is that of the statement without its ORDER BY and LIMIT.
    LimitedWrite(LimitedWrite),
    /// MERGE, or a WITH that changes data, which may be large and cannot be split ([`mixed`]).
    MixedWrite,
    /// `CALL lockkeeper.resume(7)`: the proxy goes on with that job.
    Resume(i64),
    /// Anything that may lock or break something: judged by the rules.
    Ddl,
}

/// Byte ranges are within `Statement::sql`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitedWrite {
    /// From ORDER BY or LIMIT to the end of the clause.
    pub clause: std::ops::Range<usize>,
    /// The list after ORDER BY, without these words.
    pub order_by: Option<String>,
    /// The expression after LIMIT: `10000`, `$1`.
    pub limit: String,
}

/// What is not listed, and whatever a later grammar adds, is Ddl. `code`: there is a body to be judged.
pub(crate) fn kind_of(node: &NodeEnum, code: bool) -> Kind {
    use NodeEnum as N;
    match node {
        N::TransactionStmt(transaction) => transaction_kind(transaction),
        // Of what is prepared its EXECUTE is judged.
        N::PrepareStmt(_) => Kind::Harmless,
        _ if mixed::changed(node).is_some() => Kind::MixedWrite,
        N::UpdateStmt(update) if !current_of(&update.where_clause) => Kind::Write,
        N::DeleteStmt(delete) if !current_of(&delete.where_clause) => Kind::Write,
        // One row, under a cursor.
        N::UpdateStmt(_) | N::DeleteStmt(_) => Kind::Harmless,
        // Queries.
        N::SelectStmt(_) | N::InsertStmt(_) | N::MergeStmt(_) | N::CopyStmt(_) | N::ExplainStmt(_) => Kind::Harmless,
        // Session state.
        N::VariableSetStmt(_)
        | N::VariableShowStmt(_)
        | N::ExecuteStmt(_)
        | N::DeallocateStmt(_)
        | N::DiscardStmt(_)
        | N::ListenStmt(_)
        | N::UnlistenStmt(_)
        | N::NotifyStmt(_)
        | N::DeclareCursorStmt(_)
        | N::FetchStmt(_)
        | N::ClosePortalStmt(_)
        | N::ConstraintsSetStmt(_)
        | N::LoadStmt(_) => Kind::Harmless,
        // Code, as far as there is a schema change to be read in it. What a procedure does is not seen when it is called.
        N::DoStmt(_) | N::CreateFunctionStmt(_) if code => Kind::Ddl,
        N::CallStmt(call) => resumed(call).map_or(Kind::Harmless, Kind::Resume),
        N::DoStmt(_) => Kind::Harmless,
        // The lock, and the wait for it, are what is asked for. Short tries would end it too soon, and hide it from the deadlock detector.
        N::LockStmt(_) => Kind::Harmless,
        // SHARE UPDATE EXCLUSIVE, beside reads and writes; FULL rewrites.
        N::VacuumStmt(vacuum) if !is_vacuum_full(vacuum) => Kind::Harmless,
        N::CheckPointStmt(_) => Kind::Harmless,
        // Roles and rights: no lock that readers or writers meet.
        N::GrantStmt(_)
        | N::GrantRoleStmt(_)
        | N::AlterDefaultPrivilegesStmt(_)
        | N::CreateRoleStmt(_)
        | N::AlterRoleStmt(_)
        | N::AlterRoleSetStmt(_) => Kind::Harmless,
        // What goes with it, or who needs it, the catalog says.
        N::DropRoleStmt(_) | N::DropdbStmt(_) => Kind::Ddl,
        // The cluster: databases, tablespaces, configuration.
        N::CreatedbStmt(_)
        | N::AlterDatabaseStmt(_)
        | N::AlterDatabaseRefreshCollStmt(_)
        | N::AlterDatabaseSetStmt(_)
        | N::CreateTableSpaceStmt(_)
        | N::DropTableSpaceStmt(_)
        | N::AlterTableSpaceOptionsStmt(_)
        | N::AlterSystemStmt(_) => Kind::Harmless,
        // New objects that touch no other relation.
        N::CreateTableAsStmt(_)
        | N::CreateSeqStmt(_)
        | N::CompositeTypeStmt(_)
        | N::CreateEnumStmt(_)
        | N::CreateRangeStmt(_)
        | N::CreateDomainStmt(_)
        | N::DefineStmt(_)
        | N::CreateFunctionStmt(_)
        | N::CreateExtensionStmt(_)
        | N::CreatePlangStmt(_)
        | N::CreateAmStmt(_)
        | N::CreateCastStmt(_)
        | N::CreateConversionStmt(_)
        | N::CreateTransformStmt(_)
        | N::CreateOpClassStmt(_)
        | N::CreateOpFamilyStmt(_)
        | N::CreateEventTrigStmt(_) => Kind::Harmless,
        N::CreateSchemaStmt(schema) if schema.schema_elts.is_empty() => Kind::Harmless,
        // Code and text search: no relation.
        N::AlterFunctionStmt(_)
        | N::AlterOperatorStmt(_)
        | N::AlterOpFamilyStmt(_)
        | N::AlterCollationStmt(_)
        | N::AlterTsdictionaryStmt(_)
        | N::AlterTsconfigurationStmt(_)
        | N::AlterEventTrigStmt(_) => Kind::Harmless,
        // Foreign servers and replication: other machines.
        N::CreateFdwStmt(_)
        | N::AlterFdwStmt(_)
        | N::CreateForeignServerStmt(_)
        | N::AlterForeignServerStmt(_)
        | N::CreateUserMappingStmt(_)
        | N::AlterUserMappingStmt(_)
        | N::DropUserMappingStmt(_)
        | N::ImportForeignSchemaStmt(_)
        | N::CreateSubscriptionStmt(_)
        | N::AlterSubscriptionStmt(_)
        | N::DropSubscriptionStmt(_) => Kind::Harmless,
        // ALTER, DROP, RENAME, TRUNCATE, COMMENT, CREATE TABLE / INDEX / VIEW / TRIGGER / RULE / POLICY / STATISTICS, REINDEX, CLUSTER …
        _ => Kind::Ddl,
    }
}

/// `CALL lockkeeper.resume(7)`: there is no such procedure, the proxy itself does it.
fn resumed(call: &CallStmt) -> Option<i64> {
    let function = call.funccall.as_ref()?;
    let words: Vec<&str> = function
        .funcname
        .iter()
        .filter_map(|word| match word.node.as_ref() {
            Some(NodeEnum::String(word)) => Some(word.sval.as_str()),
            _ => None,
        })
        .collect();
    let [argument] = &function.args[..] else { return None };
    let number = match argument.node.as_ref()? {
        NodeEnum::AConst(constant) => match constant.val.as_ref()? {
            a_const::Val::Ival(number) => i64::from(number.ival),
            // As large numbers are kept.
            a_const::Val::Fval(number) => number.fval.parse().ok()?,
            _ => return None,
        },
        _ => return None,
    };
    (words == ["lockkeeper", "resume"]).then_some(number)
}

fn transaction_kind(transaction: &TransactionStmt) -> Kind {
    use TransactionStmtKind as T;
    match transaction.kind() {
        T::TransStmtBegin | T::TransStmtStart => Kind::Begin {
            plain: transaction.options.is_empty(),
        },
        T::TransStmtCommit | T::TransStmtPrepare => Kind::Commit {
            chain: transaction.chain,
        },
        T::TransStmtRollback => Kind::Rollback {
            chain: transaction.chain,
        },
        // Savepoints, and transactions that were prepared earlier.
        _ => Kind::Harmless,
    }
}

fn current_of(condition: &Option<Box<pg_query::Node>>) -> bool {
    matches!(
        condition.as_ref().and_then(|c| c.node.as_ref()),
        Some(NodeEnum::CurrentOfExpr(_))
    )
}

/// The last FULL decides; a value is false only if it reads so, and anything unclear counts as FULL.
fn is_vacuum_full(vacuum: &VacuumStmt) -> bool {
    let option = vacuum.options.iter().rev().find_map(|node| match &node.node {
        Some(NodeEnum::DefElem(element)) if element.defname == "full" => Some(element),
        _ => None,
    });
    option.is_some_and(|element| !is_false(element))
}
