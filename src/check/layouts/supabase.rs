//! Supabase: `supabase/migrations/<time>_<name>.sql`, in the order of the names. The statements of a file go to the server as one
//! pipeline, with the row of the tool's own table at its end; what no transaction takes is sent by itself between two of them.

use super::listed::{Layout, Listed, is_called, sql_files};
use crate::check::script::Script;
use crate::check::tool::{Part, Transaction, number};
use crate::lex::leading_space;
use std::ops::Range;
use std::path::Path;

pub fn is_its_place(directory: &Path) -> bool {
    is_called(directory, "migrations", "supabase")
}

pub fn read(directory: &Path) -> Result<Layout, String> {
    let mut layout = Layout::default();
    for name in sql_files(directory)? {
        let digits = name.find(|c: char| !c.is_ascii_digit()).unwrap_or(name.len());
        match number(&name).is_some() && name[digits..].starts_with('_') {
            true => layout.files.push(Listed::file(directory.join(name))),
            false => layout.notes.push(format!(
                "{name} is left out, as Supabase leaves it out: a migration's name is <digits>_<name>.sql"
            )),
        }
    }
    Ok(layout)
}

pub fn parts(text: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut batch: Option<(Range<usize>, usize)> = None;
    let mut script = Script::new(text);
    while let Some(piece) = script.next_piece() {
        let (start, end) = (piece.offset, script.at());
        let sql = piece.sql.get(leading_space(&piece.sql)..).unwrap_or_default();
        if stands_alone(sql) {
            parts.extend(batch.take().map(sent));
            parts.push(Part::one(start..end, Transaction::Statement));
        } else {
            let (range, count) = batch.take().unwrap_or((start..start, 0));
            batch = Some((range.start..end, count + usize::from(!sql.is_empty())));
        }
    }
    // The tool's own row comes with it.
    let last = batch.map_or(text.len()..text.len(), |(range, _)| range);
    parts.push(Part {
        with_more: true,
        ..Part::one(last, Transaction::Message)
    });
    parts
}

fn sent((range, _): (Range<usize>, usize)) -> Part {
    Part::one(range, Transaction::Message)
}

/// As the tool tells them, by their words.
fn stands_alone(sql: &str) -> bool {
    let words: Vec<String> = sql.split_whitespace().take(8).map(str::to_uppercase).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    matches!(
        words.as_slice(),
        ["CREATE" | "DROP", "INDEX", "CONCURRENTLY", ..]
            | ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", ..]
            | ["VACUUM" | "CLUSTER", ..]
            | ["ALTER", "SYSTEM", ..]
    ) || (words.first() == Some(&"REINDEX") && words.contains(&"CONCURRENTLY"))
}
