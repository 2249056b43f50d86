//! Atlas: `atlas.sum` names every file of the directory, which run in the order of their names, each as one transaction unless its own
//! directives say otherwise (`-- atlas:txmode none`, `-- atlas:delimiter`).

use super::cut;
use super::listed::{Layout, Listed, sql_files, text, told};
use crate::check::tool::{Part, Tool, Transaction};
use std::path::Path;

pub const SUM: &str = "atlas.sum";

/// Atlas keeps such a file for directories of other tools too, which have their own order.
pub fn is_own_format(directory: &Path) -> bool {
    let names = sql_files(directory).unwrap_or_default();
    let texts: Vec<(std::path::PathBuf, String)> = names
        .iter()
        .filter_map(|name| Some((directory.join(name), text(&directory.join(name)).ok()?)))
        .collect();
    let files: Vec<(&Path, &str)> = texts
        .iter()
        .map(|(path, text)| (path.as_path(), text.as_str()))
        .collect();
    matches!(Tool::detect(&files, |_, _| false), Tool::Psql | Tool::Atlas)
}

pub fn read(directory: &Path) -> Result<Layout, String> {
    let place = directory.join(SUM);
    let sum = text(&place)?;
    let mut lines = sum.lines().filter(|line| !line.trim().is_empty());
    if !lines.next().is_some_and(|line| line.starts_with("h1:")) {
        return Err(told(&place, &"its first line is no sum (h1:…)"));
    }
    let mut listed = Vec::new();
    for line in lines {
        let Some((name, _)) = line.rsplit_once(" h1:") else {
            return Err(told(&place, &format!("`{line}` is not a file and its sum (h1:…)")));
        };
        if !directory.join(name).is_file() {
            return Err(told(
                &directory.join(name),
                &format!("there is no such file, and {SUM} names it"),
            ));
        }
        listed.push(name.to_owned());
    }
    let names = sql_files(directory)?;
    if let Some(other) = names.iter().find(|name| !listed.contains(name)) {
        return Err(told(
            &directory.join(other),
            &format!(
                "{SUM} does not name it, and Atlas runs none of the files then: `atlas migrate hash` writes {SUM} anew"
            ),
        ));
    }
    let mut layout = Layout::default();
    for name in names {
        let path = directory.join(&name);
        match directive(&text(&path)?, "checkpoint") {
            Some(_) => layout.notes.push(format!(
                "{name} is a checkpoint, which runs on empty databases only, and left out"
            )),
            None => layout.files.push(Listed::file(path)),
        }
    }
    Ok(layout)
}

pub fn parts(text: &str) -> Result<Vec<Part>, String> {
    let transaction = match directive(text, "txmode").as_deref() {
        None | Some("file") => Transaction::File,
        Some("none") => Transaction::Statement,
        Some("all") => Transaction::All,
        Some(other) => return Err(format!("atlas:txmode is none, file or all, and not `{other}`")),
    };
    let whole = 0..text.len();
    let Some(delimiter) = directive(text, "delimiter").filter(|delimiter| !delimiter.is_empty()) else {
        return Ok(vec![Part::one(whole, transaction)]);
    };
    let delimiter = delimiter.replace("\\n", "\n").replace("\\t", "\t").replace("\\r", "\r");
    let pieces = match delimiter.trim().is_empty() {
        true => cut::at(text, &delimiter),
        false => cut::between(text, whole, &delimiter),
    };
    Ok(Part::pieces(pieces, transaction))
}

/// Of the comments at the beginning of the file.
fn directive(text: &str, name: &str) -> Option<String> {
    let comments = text.lines().map_while(|line| line.trim().strip_prefix("--"));
    comments.into_iter().find_map(|line| {
        let rest = line.trim_start().strip_prefix("atlas:")?.strip_prefix(name)?;
        (rest.is_empty() || rest.starts_with(char::is_whitespace)).then(|| rest.trim().to_owned())
    })
}
