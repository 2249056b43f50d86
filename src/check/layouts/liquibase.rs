//! Liquibase's formatted SQL: a file of changesets, each a transaction of its own unless it says otherwise. What stands in front of
//! the first changeset, and changesets for other databases, do not run.

use super::cut;
use crate::check::tool::{Part, Transaction, is_formatted_sql};
use std::ops::Range;

/// A line with its place, and what it is.
struct Line<'a> {
    at: Range<usize>,
    number: usize,
    /// Behind `--`; None for SQL.
    comment: Option<&'a str>,
}

struct Changeset {
    key: String,
    runs_here: bool,
    in_transaction: bool,
    /// None: the whole text is one statement.
    delimiter: Option<String>,
    ranges: Vec<Range<usize>>,
}

/// What is not formatted is one changeset.
pub fn parts(text: &str) -> Result<Vec<Part>, String> {
    if !is_formatted_sql(text) {
        return Ok(vec![Part::one(0..text.len(), Transaction::File)]);
    }
    let changesets = read(text)?;
    let mut parts = Vec::new();
    let mut others = Vec::new();
    for changeset in changesets {
        if !changeset.runs_here {
            others.push(changeset.key);
            continue;
        }
        parts.extend(changeset.parts(text));
    }
    if let (Some(first), Some(part)) = (others.first(), parts.first_mut()) {
        part.remark = Some(format!(
            "{} for other databases, by dbms, and left out (such as {first})",
            match others.len() {
                1 => "1 changeset is".to_owned(),
                count => format!("{count} changesets are"),
            }
        ));
    }
    Ok(parts)
}

impl Changeset {
    fn parts(self, text: &str) -> Vec<Part> {
        let transaction = match self.in_transaction {
            true => Transaction::File,
            false => Transaction::Statement,
        };
        let cut = |range: Range<usize>| match self.delimiter.as_deref() {
            None => vec![range],
            // It cuts at such lines too.
            Some(";") => cut::between(text, range, "/")
                .into_iter()
                .flat_map(|range| cut::between(text, range, "GO"))
                .collect(),
            Some(own) => cut::between(text, range, own),
        };
        let pieces: Vec<Range<usize>> = self.ranges.iter().cloned().flat_map(cut).collect();
        let parts = match self.delimiter.as_deref() {
            Some(";") => vec![Part {
                ranges: pieces,
                ..Part::of(transaction)
            }],
            _ => Part::pieces(pieces, transaction),
        };
        let key = self.key;
        parts
            .into_iter()
            .map(|part| Part {
                recorded: Some(key.clone()),
                ..part
            })
            .collect()
    }
}

fn read(text: &str) -> Result<Vec<Changeset>, String> {
    let mut changesets: Vec<Changeset> = Vec::new();
    let mut ignored_until: Option<usize> = None;
    for line in lines(text) {
        let words = line
            .comment
            .map(|comment| comment.to_ascii_lowercase())
            .unwrap_or_default();
        if words.starts_with("ignorelines:end") {
            ignored_until = None;
            continue;
        }
        if let Some(count) = words.strip_prefix("ignorelines:") {
            ignored_until = Some(match count.trim().parse::<usize>() {
                Ok(count) => line.number + count,
                Err(_) => usize::MAX,
            });
            continue;
        }
        if ignored_until.is_some_and(|until| line.number <= until) {
            continue;
        }
        ignored_until = None;
        let bare = text[line.at.clone()].trim();
        if bare.to_ascii_lowercase().starts_with("-changeset ") {
            return Err(format!(
                "line {}: a changeset begins with two dashes: --changeset author:id",
                line.number
            ));
        }
        let begins = words
            .strip_prefix("changeset")
            .is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t', ':']));
        if begins {
            let said = line
                .comment
                .and_then(|comment| comment.get("changeset".len()..))
                .unwrap_or_default();
            changesets.push(changeset(said).map_err(|error| format!("line {}: {error}", line.number))?);
        } else if let Some(changeset) = changesets.last_mut() {
            match changeset.ranges.last_mut().filter(|last| last.end == line.at.start) {
                Some(last) => last.end = line.at.end,
                None => changeset.ranges.push(line.at),
            }
        }
    }
    match changesets.is_empty() {
        true => Err("it says `liquibase formatted sql` and has no line `--changeset author:id`".to_owned()),
        false => Ok(changesets),
    }
}

/// `author:id name:value …`
fn changeset(said: &str) -> Result<Changeset, String> {
    let said = said.trim();
    let broken = || "a changeset is written as --changeset author:id".to_owned();
    let (author, rest) = match said.strip_prefix('"') {
        Some(quoted) => {
            let (author, rest) = quoted.split_once('"').ok_or_else(broken)?;
            (author, rest.trim_start().strip_prefix(':').ok_or_else(broken)?)
        }
        None => said.split_once(':').ok_or_else(broken)?,
    };
    let rest = rest.trim_start();
    let (id, rest) = match rest.strip_prefix('"') {
        Some(quoted) => quoted.split_once('"').ok_or_else(broken)?,
        None => rest.split_once(char::is_whitespace).unwrap_or((rest, "")),
    };
    if author.trim().is_empty() || id.is_empty() {
        return Err(broken());
    }
    let truth = |name: &str| match value(rest, name).map(|value| value.to_ascii_lowercase()).as_deref() {
        None | Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(other) => Err(format!("{name} is true or false, and not `{other}`")),
    };
    let own = value(rest, "endDelimiter").map(|own| own.replace("\\n", "\n").replace("\\r", "\r"));
    let delimiter = match (truth("splitStatements")?, own) {
        (false, _) => None,
        (true, None) => Some(";".to_owned()),
        (true, Some(own)) if own.trim().is_empty() => None,
        (true, Some(own)) if own.len() > 1 && own.contains(['*', '+', '?', '[', '(', '|', '^', '\\']) => {
            return Err(format!(
                "endDelimiter:{own} is a pattern, which is not read: give it as it stands in the text"
            ));
        }
        (true, Some(own)) => Some(own),
    };
    Ok(Changeset {
        key: format!("{}:{id}", author.trim()),
        runs_here: value(rest, "dbms").is_none_or(is_ours),
        in_transaction: truth("runInTransaction")?,
        delimiter,
        ranges: Vec::new(),
    })
}

/// Of an attribute: `name:value`, `name:"a value"`.
fn value<'a>(attributes: &'a str, name: &str) -> Option<&'a str> {
    let lower = attributes.to_ascii_lowercase();
    let wanted = format!("{}:", name.to_ascii_lowercase());
    let starts = lower.match_indices(&wanted).map(|(at, _)| at);
    let is_word = |at: &usize| *at == 0 || lower[..*at].ends_with(char::is_whitespace);
    let at = starts.into_iter().find(is_word)?;
    let rest = attributes.get(at + wanted.len()..)?;
    match rest.strip_prefix('"') {
        Some(quoted) => quoted.split('"').next(),
        None => rest.split(char::is_whitespace).next(),
    }
}

/// `postgresql,h2`, `!mysql`, `all`.
fn is_ours(dbms: &str) -> bool {
    let names: Vec<&str> = dbms.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    let is = |name: &str, own: &str| name.eq_ignore_ascii_case(own);
    let denied = names.iter().any(|name| is(name, "!postgresql") || is(name, "none"));
    let named = names.iter().filter(|name| !name.starts_with('!'));
    let ours = |name: &&&str| is(name, "postgresql") || is(name, "all");
    !denied && (named.clone().next().is_none() || named.clone().any(|name| ours(&name)))
}

fn comment(line: &str) -> Option<&str> {
    line.trim().strip_prefix("--").map(str::trim)
}

fn lines(text: &str) -> impl Iterator<Item = Line<'_>> {
    let mut at = 0;
    text.split_inclusive('\n').enumerate().map(move |(index, line)| {
        let start = at;
        at += line.len();
        Line {
            at: start..at,
            number: index + 1,
            comment: comment(line),
        }
    })
}
