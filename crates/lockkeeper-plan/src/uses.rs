//! What a query touches: its tables and columns, read by two readers that know nothing of each other.
//!
//! A use that either finds counts. Names are as the text has them: what a search_path or a view makes of them only the catalog
//! knows. Values are not kept. Start at [`read`].

mod grammar;
mod second;
pub mod touched;

use crate::grammar::Unparsed;
use touched::Uses;

/// What both readers made of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What either has found; None: neither could read it.
    pub uses: Option<Uses>,
    /// Both have read it, and one has found what the other has not.
    pub differ: bool,
    /// The server's grammar refuses it, and so does the server: it is never executed.
    pub refused: bool,
    pub by_grammar: bool,
    pub by_second: bool,
    /// Found by the one alone, as `table` or `table.column`.
    pub only_grammar: Vec<String>,
    pub only_second: Vec<String>,
}

/// sqlparser looks at no longer text: it takes stack for each operator of a chain.
const SECOND_BYTES_MAX: usize = 16 << 10;

/// Reads a text of one or several statements. Deep texts need a deep stack.
pub fn read(text: &str) -> Read {
    let first = grammar::read(text);
    let refused = matches!(first, Err(Unparsed::Syntax(_)));
    let first = first.ok();
    let second = (text.len() <= SECOND_BYTES_MAX).then(|| second::read(text)).flatten();
    let (by_grammar, by_second) = (first.is_some(), second.is_some());
    let (mut only_grammar, mut only_second) = (Vec::new(), Vec::new());
    if let (Some(first), Some(second)) = (&first, &second) {
        let (a, b) = (first.listed(), second.listed());
        only_grammar = a.difference(&b).cloned().collect();
        only_second = b.difference(&a).cloned().collect();
    }
    let differ = !only_grammar.is_empty() || !only_second.is_empty();
    let uses = match (first, second) {
        (Some(first), Some(second)) => Some(first.and(second)),
        (first, second) => first.or(second),
    };
    Read {
        uses,
        differ,
        refused,
        by_grammar,
        by_second,
        only_grammar,
        only_second,
    }
}

#[cfg(test)]
mod tests;
