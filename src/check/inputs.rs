//! Which files are checked, in which order, and what of them is taken as having run already. Start at [`collect`].

use super::arguments::Arguments;
use super::globs;
use super::layouts::{self, Layout, are};
use super::tool::Tool;
use super::verdict::Remark;
use std::collections::HashMap;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// A migration is no data file; a pipe without an end is no file at all.
const BYTES_MAX: u64 = 64 << 20;
/// Migrations that are programs.
const PROGRAMS: [&str; 12] = [
    "py", "rb", "js", "cjs", "mjs", "ts", "java", "kt", "go", "xml", "yaml", "yml",
];

pub struct Selection<'a> {
    pub tool: Option<Tool>,
    /// The way back is checked instead.
    pub down: bool,
    pub from: Option<&'a str>,
    pub changed: Option<&'a Path>,
    /// SQL of the command line.
    pub commands: &'a [String],
    /// Patterns of files that are left out.
    pub exclude_path: &'a [String],
}

impl<'a> Selection<'a> {
    pub fn of(arguments: &'a Arguments) -> Selection<'a> {
        Selection {
            tool: arguments.tool,
            down: arguments.down,
            from: arguments.from.as_deref(),
            changed: arguments.changed.as_deref(),
            commands: &arguments.commands,
            exclude_path: &arguments.exclude_path,
        }
    }
}

/// Files that one tool runs one after the other.
pub struct Group {
    pub tool: Tool,
    /// Nobody has said which tool, and it is not just psql.
    pub guessed: bool,
    pub place: String,
    pub files: Vec<File>,
}

pub struct File {
    pub name: String,
    pub text: String,
    /// The text of its own settings: Flyway's `.conf`, diesel's `metadata.toml`.
    pub conf: String,
    /// False: it has run already, so what it creates is in use.
    pub pending: bool,
    pub path: PathBuf,
    /// By what the tool's own table knows it, where that is not its name.
    pub recorded: Option<String>,
}

/// Files that belong together, before they are read.
#[derive(Default)]
struct Set {
    paths: Vec<PathBuf>,
    /// They are those of a directory.
    directory: Option<PathBuf>,
    /// Whose directory that is, and what it says of them.
    layout: Option<(Tool, Layout)>,
}

/// The files of all arguments, and what there is to say about those that are left out or cannot be read.
pub fn collect(inputs: &[PathBuf], selection: &Selection, stdin: &mut dyn Read) -> (Vec<Group>, Vec<Remark>) {
    let mut remarks = Vec::new();
    let mut groups = Vec::new();
    if !selection.commands.is_empty() {
        groups.push(of_commands(selection));
    }
    let stdin_alone = [PathBuf::from("-")];
    let inputs = match inputs.is_empty() && groups.is_empty() {
        true => &stdin_alone,
        false => inputs,
    };
    let mut expanded = Vec::new();
    for input in inputs {
        match globs::expanded(input) {
            Some(found) if found.is_empty() => {
                remarks.push(Remark::error(format!(
                    "cannot read {}: no file is called so",
                    input.display()
                )));
            }
            Some(found) => expanded.extend(found),
            None => expanded.push(input.clone()),
        }
    }
    for mut set in sets(&expanded, selection, &mut remarks) {
        let mut paths = std::mem::take(&mut set.paths);
        let excluded = |path: &PathBuf| {
            selection
                .exclude_path
                .iter()
                .any(|pattern| globs::matches(pattern, path))
        };
        if paths.iter().any(excluded) {
            paths.retain(|path| !excluded(path));
            if paths.is_empty() {
                continue;
            }
        }
        if let (true, Some(place)) = (paths.is_empty(), &set.directory) {
            let message = format!(
                "cannot read {}: there is no *.sql file in this directory",
                place.display()
            );
            remarks.push(Remark::error(message));
        }
        let mut read = Vec::new();
        for path in paths {
            match text(&path, stdin) {
                Ok(text) => read.push((path, text)),
                Err(error) => remarks.push(Remark::error(format!("cannot read {error}"))),
            }
        }
        groups.extend(group(read, set, selection, &mut remarks));
    }
    if let Some(from) = selection.from {
        start_at(from, &mut groups, &mut remarks);
    }
    if let Some(list) = selection.changed {
        match text(list, stdin) {
            Ok(list) => only(&list, &mut groups, &mut remarks),
            Err(error) => remarks.push(Remark::error(format!("cannot read the list of changed files {error}"))),
        }
    }
    (groups, remarks)
}

/// One file, whose text is not the disk's.
pub fn of_open(path: &Path, text: &str, selection: &Selection) -> (Vec<Group>, Vec<Remark>) {
    let mut remarks = Vec::new();
    let is_left_out = selection
        .exclude_path
        .iter()
        .any(|pattern| globs::matches(pattern, path));
    let read = match is_left_out {
        true => Vec::new(),
        false => vec![(path.to_path_buf(), text.to_owned())],
    };
    let group = group(read, Set::default(), selection, &mut remarks);
    (group.into_iter().collect(), remarks)
}

/// One session of the command line's own.
fn of_commands(selection: &Selection) -> Group {
    let file = |sql: &String| File {
        name: "-c".to_string(),
        conf: String::new(),
        pending: true,
        text: sql.clone(),
        path: PathBuf::from("-c"),
        recorded: None,
    };
    Group {
        tool: selection.tool.unwrap_or(Tool::Psql),
        guessed: false,
        place: String::new(),
        files: selection.commands.iter().map(file).collect(),
    }
}

/// Each directory by itself; files named one after the other that lie in the same place belong together.
fn sets(inputs: &[PathBuf], selection: &Selection, remarks: &mut Vec<Remark>) -> Vec<Set> {
    let mut sets: Vec<Set> = Vec::new();
    for input in inputs {
        if input != Path::new("-") && input.is_dir() {
            of_directory(input, selection, &mut sets, remarks);
            continue;
        }
        match sets.last_mut() {
            Some(Set {
                paths, directory: None, ..
            }) if paths.last().is_some_and(|last| last.parent() == input.parent()) => {
                paths.push(input.clone());
            }
            _ => sets.push(Set {
                paths: vec![input.clone()],
                ..Set::default()
            }),
        }
    }
    sets
}

/// What of it is a tool's own directory is a set of its own.
fn of_directory(input: &Path, selection: &Selection, sets: &mut Vec<Set>, remarks: &mut Vec<Remark>) {
    let mut walk = Walk {
        tool: selection.tool,
        ..Walk::default()
    };
    if let Err(error) = walk.through(input) {
        remarks.push(Remark::error(format!("cannot read {error}")));
    }
    if let Some(first) = walk.programs.first() {
        remarks.push(Remark::note(
            &input.display().to_string(),
            None,
            format!(
                "{} no SQL and left out (such as {}): let the tool print its SQL, and check that",
                are(walk.programs.len()),
                first.display()
            ),
        ));
    }
    // One that the command line says is a tool's is so, or it is an error.
    if let (true, Some(tool)) = (walk.own.is_empty(), selection.tool)
        && layouts::read(tool, input).is_some()
        && !layouts::is_within(tool, input)
    {
        walk.own.push((input.to_path_buf(), tool));
        walk.found.clear();
    }
    if walk.own.is_empty() || !walk.found.is_empty() {
        sets.push(Set {
            paths: walk.found,
            directory: Some(input.to_path_buf()),
            layout: None,
        });
    }
    for (directory, tool) in walk.own {
        let is_left_out = |pattern: &String| {
            globs::matches(pattern, &directory) || globs::matches(pattern, &directory.join("migration"))
        };
        if selection.exclude_path.iter().any(is_left_out) {
            continue;
        }
        match layouts::read(tool, &directory) {
            Some(Ok(layout)) if layout.files.is_empty() && directory == input => {
                let place = directory.display();
                let error = format!("cannot read {place}: there is no migration of {} in it", tool.name());
                remarks.push(Remark::error(error));
            }
            // One that is found below the one that is named may well be empty.
            Some(Ok(layout)) if layout.files.is_empty() => {}
            Some(Ok(layout)) => sets.push(of_layout(directory, tool, layout, selection.down, remarks)),
            Some(Err(error)) => remarks.push(Remark::error(error)),
            None => {}
        }
    }
}

fn of_layout(directory: PathBuf, tool: Tool, layout: Layout, down: bool, remarks: &mut Vec<Remark>) -> Set {
    let place = directory.display().to_string();
    for note in &layout.notes {
        remarks.push(Remark::note(&place, None, note.clone()));
    }
    let path = |listed: &layouts::Listed| match down && !tool.only_forward() {
        true => listed.back.clone().filter(|back| back.is_file()),
        false => Some(listed.path.clone()),
    };
    Set {
        paths: layout.files.iter().filter_map(path).collect(),
        directory: Some(directory),
        layout: Some((tool, layout)),
    }
}

#[derive(Default)]
struct Walk {
    /// Only directories of this one are its own.
    tool: Option<Tool>,
    found: Vec<PathBuf>,
    programs: Vec<PathBuf>,
    /// Directories that a tool keeps in its own way.
    own: Vec<(PathBuf, Tool)>,
}

impl Walk {
    /// Symbolic links to directories are not followed, since they can go round in circles.
    fn through(&mut self, directory: &Path) -> Result<(), String> {
        if let Some(tool) = layouts::of(directory).filter(|tool| self.tool.is_none_or(|asked| asked == *tool)) {
            self.own.push((directory.to_path_buf(), tool));
            return Ok(());
        }
        let told = |error: io::Error| format!("{}: {error}", directory.display());
        let mut entries = std::fs::read_dir(directory)
            .map_err(told)?
            .collect::<Result<Vec<_>, _>>()
            .map_err(told)?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let path = entry.path();
            let extension = path.extension().and_then(|extension| extension.to_str());
            let extension = extension.unwrap_or_default().to_ascii_lowercase();
            if entry.file_type().map_err(told)?.is_dir() {
                self.through(&path)?;
            } else if extension == "sql" {
                self.found.push(path);
            } else if PROGRAMS.contains(&extension.as_str()) && entry.file_name() != "__init__.py" {
                self.programs.push(path);
            }
        }
        Ok(())
    }
}

fn group(
    mut read: Vec<(PathBuf, String)>,
    set: Set,
    selection: &Selection,
    remarks: &mut Vec<Remark>,
) -> Option<Group> {
    let directory = set.directory.as_deref();
    let first = &read.first()?.0;
    let parent = first.parent().filter(|parent| *parent != Path::new(""));
    let place = directory.or(parent).unwrap_or(first).to_path_buf();
    let texts: Vec<(&Path, &str)> = read
        .iter()
        .map(|(path, text)| (path.as_path(), text.as_str()))
        .collect();
    let of_layout = set.layout.as_ref().map(|(tool, _)| *tool);
    let tool = selection
        .tool
        .or(of_layout)
        .unwrap_or_else(|| Tool::detect(&texts, |file, word| mentioned(&place, file, word)));
    if selection.down && tool.only_forward() {
        let message = format!("--down: {} keeps no way back that is read", tool.name());
        remarks.push(Remark::error(format!("cannot check {}: {message}", place.display())));
        return None;
    }
    // psql runs the files that it is given as they are given, and a layout has them in their order.
    if of_layout.is_none() && (directory.is_some() || tool != Tool::Psql) {
        let mut order: Vec<PathBuf> = read.iter().map(|(path, _)| path.clone()).collect();
        tool.sort(&mut order);
        read.sort_by_key(|(path, _)| order.iter().position(|ordered| ordered == path));
    }
    // One that is named alone is wanted, whichever way it goes.
    if read.len() > 1 {
        let all = read.len();
        let kept: Vec<_> = read
            .into_iter()
            .filter(|(path, _)| !tool.is_down(path) || selection.down)
            .collect();
        let left_out = all - kept.len();
        if left_out > 0 {
            let message = format!(
                "{} for the way back and left out: --down checks them instead",
                are(left_out)
            );
            remarks.push(Remark::note(&place.display().to_string(), None, message));
        }
        read = kept;
    }
    if selection.down {
        let any_down = read.iter().any(|(path, _)| tool.is_down(path));
        read.retain(|(path, _)| !any_down || tool.is_down(path));
        read.reverse();
    }
    let listed = set.layout.map(|(_, layout)| layout.files).unwrap_or_default();
    let mut recorded: HashMap<PathBuf, String> = listed
        .into_iter()
        .filter_map(|listed| Some((listed.path, listed.recorded?)))
        .collect();
    let files = read.into_iter().map(|(path, text)| File {
        name: path.display().to_string(),
        conf: conf(&path),
        pending: true,
        text,
        recorded: recorded.remove(&path),
        path,
    });
    Some(Group {
        tool,
        guessed: selection.tool.is_none() && tool != Tool::Psql,
        place: place.display().to_string(),
        files: files.collect(),
    })
}

/// A project file beside the migrations, or in one of the two directories above, has this word.
fn mentioned(place: &Path, file: &str, word: &str) -> bool {
    // Of a file that lies here only its name is known.
    let place = std::fs::canonicalize(if place.is_dir() { place } else { Path::new(".") });
    let Ok(place) = place else { return false };
    place.ancestors().take(3).any(|directory| {
        let mut text = Vec::new();
        let Ok(file) = std::fs::File::open(directory.join(file)) else {
            return false;
        };
        let read = file.take(1 << 20).read_to_end(&mut text);
        read.is_ok() && memchr::memmem::find(&text, word.as_bytes()).is_some()
    })
}

fn conf(path: &Path) -> String {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".conf");
    let metadata = path.with_file_name("metadata.toml");
    std::fs::read_to_string(PathBuf::from(beside))
        .or_else(|_| std::fs::read_to_string(metadata))
        .unwrap_or_default()
}

fn start_at(from: &str, groups: &mut [Group], remarks: &mut Vec<Remark>) {
    let is_it = |file: &File| {
        let name = file.path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let rest = name.strip_prefix(from);
        file.path.ends_with(from) || rest.is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric()))
    };
    let mut files = groups.iter_mut().flat_map(|group| &mut group.files);
    let count = files.by_ref().take_while(|file| !is_it(file)).count();
    let mut files = groups.iter_mut().flat_map(|group| &mut group.files);
    if count == files.by_ref().count() {
        remarks.push(Remark::error(format!(
            "--from {from}: none of the files is called so, or begins so"
        )));
        return;
    }
    for file in groups.iter_mut().flat_map(|group| &mut group.files).take(count) {
        file.pending = false;
    }
}

/// Only the files of a list, one a line, as `git diff --name-only` prints it.
fn only(list: &str, groups: &mut [Group], remarks: &mut Vec<Remark>) {
    let lines = list.lines().map(str::trim).filter(|line| !line.is_empty());
    let listed: Vec<PathBuf> = lines.map(unquoted).collect();
    let mut any = false;
    for file in groups.iter_mut().flat_map(|group| &mut group.files) {
        // Paths of the list are the repository's, and this may run in a directory of it.
        let full = std::fs::canonicalize(&file.path).unwrap_or_else(|_| file.path.clone());
        let is_listed = listed.iter().any(|listed| full.ends_with(listed));
        file.pending &= is_listed;
        any |= is_listed;
    }
    if !any {
        let message = "none of the files is in the list of changed files: nothing is checked";
        remarks.push(Remark::note("", None, message.to_string()));
    }
}

/// git writes a name that is not plain ASCII as a C string: `"m/\303\251.sql"`.
fn unquoted(line: &str) -> PathBuf {
    use std::os::unix::ffi::OsStringExt;
    let Some(inner) = line.strip_prefix('"').and_then(|line| line.strip_suffix('"')) else {
        return PathBuf::from(line);
    };
    let mut bytes = Vec::new();
    let mut rest = inner.as_bytes();
    while let [first, after @ ..] = rest {
        let (byte, after) = match (first, after) {
            (b'\\', [a @ b'0'..=b'3', b @ b'0'..=b'7', c @ b'0'..=b'7', after @ ..]) => {
                ((a - b'0') << 6 | (b - b'0') << 3 | (c - b'0'), after)
            }
            (b'\\', [b't', after @ ..]) => (b'\t', after),
            (b'\\', [b'n', after @ ..]) => (b'\n', after),
            (b'\\', [escaped, after @ ..]) => (*escaped, after),
            (byte, after) => (*byte, after),
        };
        bytes.push(byte);
        rest = after;
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

fn text(file: &Path, stdin: &mut dyn Read) -> Result<String, String> {
    let told = |error: io::Error| format!("{}: {error}", file.display());
    let mut bytes = Vec::new();
    if file == Path::new("-") {
        stdin.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(told)?;
    } else {
        let opened = std::fs::File::open(file).map_err(told)?;
        opened.take(BYTES_MAX + 1).read_to_end(&mut bytes).map_err(told)?;
    }
    if bytes.len() as u64 > BYTES_MAX {
        return Err(format!(
            "{}: it has more than {} MB; leave the data out (pg_dump --schema-only), or split it",
            file.display(),
            BYTES_MAX >> 20
        ));
    }
    if bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") {
        return Err(format!("{}: it is UTF-16; save it as UTF-8", file.display()));
    }
    if bytes.starts_with(b"PGDMP") {
        return Err(format!(
            "{}: it is an archive of pg_dump; pg_restore --schema-only -f - prints its SQL",
            file.display()
        ));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        let line = 1 + error.as_bytes().iter().take(at).filter(|byte| **byte == b'\n').count();
        format!("{}:{line}: it is not UTF-8; save it as UTF-8", file.display())
    })?;
    if let Some(at) = text.find('\0') {
        let line = 1 + text[..at].matches('\n').count();
        return Err(format!(
            "{}:{line}: there is a NUL byte: is this a text file?",
            file.display()
        ));
    }
    // psql skips a byte order mark too.
    Ok(text.strip_prefix('\u{feff}').map(str::to_string).unwrap_or(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_git_writes_them() {
        let check = |line: &str, expect: &str| assert_eq!(unquoted(line), Path::new(expect));
        check("m/a b.sql", "m/a b.sql");
        check("\"m/\\303\\251\\t\\\"\\\\.sql\"", "m/é\t\"\\.sql");
        check("\"", "\"");
    }
}
