//! What of a file runs, in which transactions: by the tool's own marks and rules.

use super::layouts::{atlas, drizzle, liquibase, supabase};
use super::tool::{Part, Tool, Transaction};

/// The parts that run, up or down, in their order. An error is the file's: it cannot be read as the tool would. `conf` is the text of
/// the file's own settings, if it has any; `asked` is the transaction that the command line says.
pub fn of(tool: Tool, text: &str, down: bool, conf: &str, asked: Option<Transaction>) -> Result<Vec<Part>, String> {
    let parts = match tool {
        Tool::Drizzle => drizzle::parts(text),
        Tool::Supabase => supabase::parts(text),
        Tool::Atlas => atlas::parts(text)?,
        Tool::Liquibase => liquibase::parts(text)?,
        _ => vec![tool.part(text, down, conf)],
    };
    let Some(transaction) = asked else { return Ok(parts) };
    // One that is not the tool's takes the file as one.
    let with_more = transaction != Transaction::Message && parts.iter().any(|part| part.with_more);
    let other_direction = parts.iter().any(|part| part.other_direction);
    let remark = parts.iter().find_map(|part| part.remark.clone());
    Ok(vec![Part {
        ranges: parts.into_iter().flat_map(|part| part.ranges).collect(),
        with_more,
        other_direction,
        remark,
        ..Part::of(transaction)
    }])
}
