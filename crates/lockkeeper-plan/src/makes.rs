//! What a text makes of queries: tables and materialized views.

use crate::calls::Calls;
use crate::reading::read;
use crate::words::{skip_space_and_semicolons, word_at};
use pg_query::NodeEnum;
use pg_query::protobuf::{IntoClause, SelectStmt};

/// What the statements of a text make of queries.
pub(crate) fn makes(statements: &[crate::statement::Statement]) -> Calls {
    let made = |statement: &crate::statement::Statement| made_by(&statement.node);
    statements.iter().map(made).max().unwrap_or(Calls::Harmless)
}

pub(crate) fn made_by(node: &NodeEnum) -> Calls {
    let into = match node {
        NodeEnum::CreateTableAsStmt(create) => create.into.as_deref(),
        NodeEnum::SelectStmt(select) => into_of(select),
        NodeEnum::ExplainStmt(explain) => {
            return explain
                .query
                .as_ref()
                .and_then(|query| query.node.as_ref())
                .map_or(Calls::Harmless, made_by);
        }
        _ => None,
    };
    match into.map(|into| into.rel.as_ref()) {
        None => Calls::Harmless,
        Some(Some(range)) if range.relpersistence == "t" || range.schemaname == "pg_temp" => Calls::MakesTemporary,
        Some(_) => Calls::Makes,
    }
}

pub(crate) fn into_of(select: &SelectStmt) -> Option<&IntoClause> {
    select
        .into_clause
        .as_deref()
        .or_else(|| select.larg.as_deref().and_then(into_of))
}

/// What a text makes of queries: `CREATE TABLE AS`, `SELECT INTO`, materialized views. The command tag is a SELECT's.
pub fn makes_relations(text: &[u8], standard_conforming_strings: bool) -> Calls {
    let several = memchr::memchr(b';', text.trim_ascii_end().strip_suffix(b";").unwrap_or(text)).is_some();
    let word = skip_space_and_semicolons(text, 0).map_or(&[][..], |start| word_at(&text[start..]));
    if !crate::calls::may_make_relations(text, word, several) {
        return Calls::Harmless;
    }
    match read(text, standard_conforming_strings) {
        Ok(statements) => makes(&statements),
        Err(_) => Calls::Makes,
    }
}
