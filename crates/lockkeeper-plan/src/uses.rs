//! What a query touches: its tables and columns, read by two readers that know nothing of each other.
//!
//! A use that either finds counts. Names are as the text has them: what a search_path or a view makes of them only the catalog
//! knows. Values are not kept. Start at [`read`].

mod grammar;
mod second;
pub mod touched;

use touched::Uses;

/// What both readers made of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read {
    /// What either has found; None: neither could read it.
    pub uses: Option<Uses>,
    /// Both have read it, and one has found what the other has not.
    pub differ: bool,
    /// Found by the one alone, as `table` or `table.column`.
    pub only_grammar: Vec<String>,
    pub only_second: Vec<String>,
}

/// Reads a text of one or several statements. Deep texts need a deep stack.
pub fn read(text: &str) -> Read {
    let (first, second) = (grammar::read(text), second::read(text));
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
        only_grammar,
        only_second,
    }
}

#[cfg(test)]
mod tests;
