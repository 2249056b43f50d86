//! The book in `docs/`, README.md and the other documents: pages made from the code are current, links lead somewhere, commands and SQL are
//! such as the program and PostgreSQL take.

use clap::Parser;
use lockkeeper::book::{pages, summary_of_rules};
use lockkeeper::command_line::Cli;
use lockkeeper::plan::grammar::STACK_BYTES;
use lockkeeper::plan::reading::read;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn source() -> PathBuf {
    root().join("docs/src")
}

fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page below docs/src, by its path there.
fn pages_there() -> BTreeSet<String> {
    fn walk(dir: &Path, found: &mut BTreeSet<String>) {
        for entry in std::fs::read_dir(dir).expect("a directory") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|extension| extension == "md") {
                let name = path.strip_prefix(source()).expect("below it");
                found.insert(name.to_str().expect("UTF-8").to_owned());
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(&source(), &mut found);
    found.remove("SUMMARY.md");
    found
}

/// All that people read: the book, and what stands at the top.
fn documents() -> Vec<(PathBuf, String)> {
    let top = [
        "README.md",
        "ARCHITECTURE.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
        "CHANGELOG.md",
    ]
    .map(|name| root().join(name));
    let book = pages_there().into_iter().map(|name| source().join(name));
    let all = top.into_iter().chain(book).chain([source().join("SUMMARY.md")]);
    all.map(|path| (path.clone(), text(&path))).collect()
}

/// The text of each fenced block of that kind.
fn blocks(text: &str, kind: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut inside: Option<(bool, String)> = None;
    for line in text.lines() {
        match (&mut inside, line.trim_start().strip_prefix("```")) {
            (None, Some(named)) => inside = Some((named == kind, String::new())),
            (Some((wanted, block)), Some(_)) => {
                if *wanted {
                    found.push(std::mem::take(block));
                }
                inside = None;
            }
            (Some((_, block)), None) => {
                block.push_str(line);
                block.push('\n');
            }
            (None, None) => {}
        }
    }
    assert!(inside.is_none(), "a block has no end:\n{text}");
    found
}

/// SUMMARY.md with the present rules below the page of all.
fn summary(old: &str) -> String {
    let is_rule = |line: &str| line.trim_start() != line && line.contains("](rules/");
    let mut new = String::new();
    for line in old.lines().filter(|line| !is_rule(line)) {
        new.push_str(line);
        new.push('\n');
        if line.contains("](rules/index.md)") {
            new.push_str(&summary_of_rules());
        }
    }
    new
}

/// With UPDATE_DOCS=1 in the environment (`make docs`) they are made current.
#[test]
fn pages_that_are_made_from_the_code_are_current() {
    // As deep as the program's own thread: `check` reads what the pages say.
    let made = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(pages);
    let mut expect: Vec<(PathBuf, String)> = made
        .expect("a thread")
        .join()
        .expect("the pages")
        .into_iter()
        .map(|page| (source().join(page.path), page.text))
        .collect();
    let path = source().join("SUMMARY.md");
    let current = summary(&text(&path));
    expect.push((path, current));
    let update = std::env::var_os("UPDATE_DOCS").is_some();
    let rules: BTreeSet<PathBuf> = std::fs::read_dir(source().join("rules"))
        .map(|entries| entries.map(|entry| entry.expect("an entry").path()).collect())
        .unwrap_or_default();
    for gone in rules
        .iter()
        .filter(|path| expect.iter().all(|(known, _)| known != *path))
    {
        assert!(update, "{} is no rule's page: run make docs", gone.display());
        std::fs::remove_file(gone).expect("removed");
    }
    for (path, expect) in expect {
        if update {
            std::fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            std::fs::write(&path, &expect).expect("written");
            continue;
        }
        let have = std::fs::read_to_string(&path).unwrap_or_default();
        let differs = have.lines().zip(expect.lines()).find(|(have, expect)| have != expect);
        assert!(
            have == expect,
            "{} is not current, run make docs (UPDATE_DOCS=1 cargo test --test book): {differs:?}",
            path.display()
        );
    }
}

#[test]
fn every_page_is_in_the_summary_and_only_once() {
    let summary = text(&source().join("SUMMARY.md"));
    let listed: Vec<&str> = links(&summary);
    let set: BTreeSet<String> = listed.iter().map(|link| (*link).to_owned()).collect();
    assert_eq!(set.len(), listed.len(), "a page is listed twice");
    assert_eq!(set, pages_there());
}

/// What stands in `](…)`, outside of fenced blocks and of code.
fn links(text: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut fenced = false;
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        }
        if fenced {
            continue;
        }
        for (at, _) in line.match_indices("](") {
            if line[..at].matches('`').count() % 2 == 1 {
                continue;
            }
            let rest = &line[at + 2..];
            if let Some(end) = rest.find(')') {
                found.push(&rest[..end]);
            }
        }
    }
    found
}

/// The anchor that GitHub and mdBook give a heading.
fn anchor(heading: &str) -> String {
    let text: String = heading
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .collect();
    text.replace(' ', "-")
}

#[test]
fn every_link_leads_to_a_file_and_a_heading() {
    let mut seen = 0;
    for (path, text) in documents() {
        for link in links(&text) {
            if link.contains("://") || link.starts_with("mailto:") {
                continue;
            }
            let (file, heading) = link.split_once('#').unwrap_or((link, ""));
            let target = match file {
                "" => path.clone(),
                file => path.parent().expect("a directory").join(file),
            };
            assert!(target.exists(), "{}: {link}", path.display());
            if !heading.is_empty() {
                let headings = self::text(&target);
                let known = headings
                    .lines()
                    .filter(|line| line.starts_with('#'))
                    .any(|line| anchor(line.trim_start_matches('#')) == heading);
                assert!(known, "{}: {link} names no heading", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

/// The commands of a block of shell: lines that go on are joined, and a pipe, `;` or `&&` ends one.
fn commands(block: &str) -> Vec<Vec<String>> {
    let joined = block.replace("\\\n", " ");
    let mut commands = vec![Vec::new()];
    let mut word: Option<String> = None;
    let mut quote = None;
    let mut chars = joined.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(end), c) if c == end => quote = None,
            (Some('"'), '\\') => word.get_or_insert_default().extend(chars.next()),
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '#') if word.is_none() => while chars.next_if(|c| *c != '\n').is_some() {},
            (None, ' ' | '\n' | '|' | ';' | '&') => {
                let last = commands.last_mut().expect("one");
                last.extend(word.take());
                if c != ' ' && !last.is_empty() {
                    commands.push(Vec::new());
                }
            }
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    commands.last_mut().expect("one").extend(word);
    commands.retain(|command| !command.is_empty());
    commands
}

/// Its arguments, where it is lockkeeper that is run.
fn of_lockkeeper(command: &[String]) -> Option<Vec<String>> {
    let is_variable = |word: &&String| {
        word.split_once('=')
            .is_some_and(|(name, _)| name.chars().all(|c| c.is_ascii_uppercase() || c == '_'))
    };
    let start = command.iter().take_while(is_variable).count();
    let program = command.get(start)?;
    if program != "lockkeeper" && !program.ends_with("/lockkeeper") {
        return None;
    }
    let redirected = command[start..].iter().take_while(|word| *word != ">" && *word != ">>");
    Some(redirected.cloned().collect())
}

#[test]
fn a_block_of_shell_is_taken_apart() {
    let block = "# it's a remark\nX='a b' lockkeeper serve --a \\\n  --b \"c d\" # more\ngit diff | target/lockkeeper check - > f\n";
    let all: Vec<Option<Vec<String>>> = commands(block).iter().map(|command| of_lockkeeper(command)).collect();
    let words = |text: &[&str]| Some(text.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>());
    assert_eq!(
        all,
        [
            words(&["lockkeeper", "serve", "--a", "--b", "c d"]),
            None,
            words(&["target/lockkeeper", "check", "-"])
        ]
    );
}

#[test]
fn the_program_takes_every_command_line() {
    let mut seen = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "sh") {
            for arguments in commands(&block).iter().filter_map(|command| of_lockkeeper(command)) {
                if let Err(error) = Cli::try_parse_from(&arguments) {
                    let is_answer = !error.use_stderr();
                    assert!(is_answer, "{}: {arguments:?}: {error}", path.display());
                }
                seen += 1;
            }
        }
    }
    assert!(seen > 30, "{seen}");
}

#[test]
fn postgresql_reads_every_block_of_sql() {
    let mut seen = 0;
    for (path, text) in documents() {
        for block in blocks(&text, "sql") {
            if let Err(error) = read(block.as_bytes(), true) {
                panic!("{}: {error:?}:\n{block}", path.display());
            }
            seen += 1;
        }
    }
    assert!(seen > 100, "{seen}");
}

#[test]
fn every_block_of_toml_is_a_file() {
    for (path, text) in documents() {
        for block in blocks(&text, "toml") {
            if let Err(error) = block.parse::<toml::Table>() {
                panic!("{}: {error}:\n{block}", path.display());
            }
        }
    }
}

/// The five characters that PostgreSQL calls SQLSTATE, where the sources write one as a text of its own.
fn sqlstates(dir: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(dir).expect("a directory") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sqlstates(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") && !path.ends_with("tests.rs") {
            let text = text(&path);
            let code = text.split("#[cfg(test)]\nmod ").next().unwrap_or_default();
            let is_code = |word: &[u8]| {
                (word[0].is_ascii_digit() || word[0] == b'X')
                    && word.iter().all(|b| b.is_ascii_digit() || b.is_ascii_uppercase())
            };
            let quoted = code.as_bytes().windows(7).filter(|w| w[0] == b'"' && w[6] == b'"');
            let codes = quoted.map(|window| &window[1..6]).filter(|word| is_code(word));
            found.extend(codes.map(|word| String::from_utf8_lossy(word).into_owned()));
        }
    }
}

#[test]
fn every_sqlstate_is_explained() {
    let page = text(&source().join("reference/sqlstates.md"));
    let mut used = BTreeSet::new();
    for dir in ["src/proxy", "crates/lockkeeper-plan/src"] {
        sqlstates(&root().join(dir), &mut used);
    }
    assert!(used.len() > 20, "{used:?}");
    let explained: BTreeSet<String> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split('`').next().map(str::to_owned))
        .collect();
    assert_eq!(explained, used);
}

#[test]
fn the_readme_is_short_and_its_commands_stand_where_they_are_looked_for() {
    let readme = text(&root().join("README.md"));
    assert!(readme.lines().count() <= 150, "{}", readme.lines().count());
    let all: Vec<Vec<String>> = blocks(&readme, "sh").iter().flat_map(|block| commands(block)).collect();
    assert_eq!(all[0], ["make", "demo"]);
    assert_eq!(all[1], ["make", "test"]);
}
