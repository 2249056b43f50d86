//! Drizzle: `meta/_journal.json` lists the files in their order, and all that have not run yet are one transaction. From 1.0 on each
//! migration is a directory with `migration.sql` and `snapshot.json`, in the order of the names, without a journal.

use super::cut;
use super::listed::{Layout, Listed, are, directories, sql_files, text, told};
use crate::check::tool::{Part, Transaction};
use serde::Deserialize;
use std::path::Path;

pub const JOURNAL: &str = "meta/_journal.json";
const BREAK: &str = "--> statement-breakpoint";
const FILE: &str = "migration.sql";

#[derive(Deserialize)]
struct Journal {
    dialect: Option<String>,
    entries: Vec<Entry>,
}

#[derive(Deserialize)]
struct Entry {
    /// The file's name without `.sql`.
    tag: String,
    /// Milliseconds; the tool's table has those that have run.
    when: u64,
}

pub fn is_of_folders(directory: &Path) -> bool {
    let is_one = |name: &String| {
        let directory = directory.join(name);
        directory.join(FILE).is_file() && directory.join("snapshot.json").is_file()
    };
    directories(directory).is_ok_and(|all| all.iter().any(is_one))
}

pub fn read(directory: &Path) -> Result<Layout, String> {
    let place = directory.join(JOURNAL);
    if !place.exists() && is_of_folders(directory) {
        return of_folders(directory);
    }
    let journal: Journal = serde_json::from_str(&text(&place)?).map_err(|error| told(&place, &error))?;
    if let Some(dialect) = journal
        .dialect
        .filter(|dialect| !matches!(dialect.as_str(), "postgresql" | "pg"))
    {
        return Err(told(
            &place,
            &format!("these migrations are for {dialect}, not PostgreSQL"),
        ));
    }
    let mut layout = Layout::default();
    let mut names = Vec::new();
    for entry in journal.entries {
        let name = format!("{}.sql", entry.tag);
        let path = directory.join(&name);
        if !path.is_file() {
            return Err(told(&path, &format!("there is no such file, and {JOURNAL} names it")));
        }
        names.push(name);
        layout.files.push(Listed {
            recorded: Some(entry.when.to_string()),
            ..Listed::file(path)
        });
    }
    let others: Vec<String> = sql_files(directory)?
        .into_iter()
        .filter(|name| !names.contains(name))
        .collect();
    if let Some(first) = others.first() {
        layout.notes.push(format!(
            "{} not in {JOURNAL} and left out, as Drizzle leaves it out (such as {first})",
            are(others.len())
        ));
    }
    Ok(layout)
}

fn of_folders(directory: &Path) -> Result<Layout, String> {
    let paths = directories(directory)?
        .into_iter()
        .map(|name| directory.join(name).join(FILE));
    Ok(Layout {
        files: paths.filter(|path| path.is_file()).map(Listed::file).collect(),
        notes: Vec::new(),
    })
}

/// What stands between two breakpoints is a statement, with or without a semicolon.
pub fn parts(text: &str) -> Vec<Part> {
    vec![Part {
        ranges: cut::at(text, BREAK),
        ..Part::of(Transaction::All)
    }]
}
