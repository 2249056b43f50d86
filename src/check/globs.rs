//! Patterns of paths: `*` and `?` within a name, `**` over directories.

use std::path::{Path, PathBuf};

/// The pattern, or a part of the path from one of its names on, as `legacy/**` in `db/legacy/1.sql`.
pub fn matches(pattern: &str, path: &Path) -> bool {
    let path = path.to_string_lossy();
    let path = path.strip_prefix("./").unwrap_or(&path);
    let pattern = pattern.strip_prefix("./").unwrap_or(pattern);
    let starts = std::iter::once(0).chain(path.match_indices('/').map(|(at, _)| at + 1));
    starts
        .into_iter()
        .any(|start| within(pattern.as_bytes(), &path.as_bytes()[start..]))
}

fn within(pattern: &[u8], text: &[u8]) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', b'*', b'/', rest @ ..] => {
            within(rest, text) || (0..text.len()).any(|at| text[at] == b'/' && within(rest, &text[at + 1..]))
        }
        [b'*', b'*', rest @ ..] => (0..=text.len()).any(|at| within(rest, &text[at..])),
        [b'*', rest @ ..] => {
            let end = text.iter().position(|byte| *byte == b'/').unwrap_or(text.len());
            (0..=end).any(|at| within(rest, &text[at..]))
        }
        [b'?', rest @ ..] => matches!(text, [byte, after @ ..] if *byte != b'/' && within(rest, after)),
        // A directory's name means all that is in it.
        [byte, rest @ ..] => match text {
            [same, after @ ..] if same == byte => {
                within(rest, after) || (rest.is_empty() && after.first() == Some(&b'/'))
            }
            _ => false,
        },
    }
}

/// The files that a pattern means, in the order of their names. None: it is no pattern, or a file is called so.
pub fn expanded(input: &Path) -> Option<Vec<PathBuf>> {
    let text = input.to_str()?;
    let first = text.find(['*', '?'])?;
    if input.exists() {
        return None;
    }
    let base = text[..first].rfind('/').map_or("", |end| &text[..end]);
    let base = match (base.is_empty(), text.starts_with('/')) {
        (true, true) => "/",
        (true, false) => ".",
        (false, _) => base,
    };
    let mut found = Vec::new();
    walk(Path::new(base), &mut found);
    let own = |path: &PathBuf| {
        let path = path.to_string_lossy();
        let path = path.strip_prefix("./").unwrap_or(&path);
        within(text.strip_prefix("./").unwrap_or(text).as_bytes(), path.as_bytes())
    };
    found.retain(own);
    found.sort();
    Some(found)
}

fn walk(directory: &Path, found: &mut Vec<PathBuf>) {
    let Ok(entries) = std::fs::read_dir(directory) else {
        return;
    };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
            Ok(_) => found.push(entry.path()),
            Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_pattern_means() {
        let check = |pattern: &str, path: &str, expect: bool| {
            assert_eq!(matches(pattern, Path::new(path)), expect, "{pattern} {path}");
        };
        check("*.sql", "a.sql", true);
        check("*.sql", "m/a.sql", true);
        check("m/*.sql", "m/x/a.sql", false);
        check("m/**/*.sql", "m/x/y/a.sql", true);
        check("m/**/*.sql", "m/a.sql", true);
        check("legacy/**", "./db/legacy/x/1.sql", true);
        check("legacy", "db/legacy/1.sql", true);
        check("legacy", "db/legacy2/1.sql", false);
        check("000?_a.sql", "m/0001_a.sql", true);
        check("0001", "m/0001_a.sql", false);
    }
}
