//! Migration tools: how their files are told, in which order they run, which part of a file runs, and in what transaction.
//!
//! Start at [`Tool::detect`]. What a tool does is told by its files' names and the marks in them, never by running it.

use super::script::Script;
use crate::lex::leading_space;
use clap::ValueEnum;
use std::cmp::Ordering;
use std::ops::Range;
use std::path::{Path, PathBuf};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    Psql,
    Flyway,
    GolangMigrate,
    Dbmate,
    Sqlx,
    NodePgMigrate,
    Diesel,
    Goose,
    /// db/structure.sql, and everything else that pg_dump writes
    Rails,
    /// What `manage.py sqlmigrate` prints
    Django,
    Prisma,
    Drizzle,
    Supabase,
    Sqitch,
    /// Formatted SQL
    Liquibase,
    Atlas,
}

/// What is one transaction, unless the file itself says BEGIN and COMMIT.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Transaction {
    /// Each statement on its own, as psql sends them
    Statement,
    /// The file is one message: one transaction if it holds more than one statement
    Message,
    /// Each file between BEGIN and COMMIT (psql --single-transaction)
    File,
    /// All files between one BEGIN and one COMMIT
    All,
}

/// A part of a file that is run.
#[derive(Debug, PartialEq, Eq)]
pub struct Part {
    /// The tool cuts the text between two of them, whatever stands there.
    pub ranges: Vec<Range<usize>>,
    pub transaction: Transaction,
    /// The tool sends statements of its own with it.
    pub with_more: bool,
    /// By what the tool's own table knows it, where a file has several.
    pub recorded: Option<String>,
    /// There is another part, for the other direction.
    pub other_direction: bool,
    pub remark: Option<String>,
}

impl Part {
    /// Nothing yet.
    pub fn of(transaction: Transaction) -> Part {
        Part {
            ranges: Vec::new(),
            transaction,
            with_more: false,
            recorded: None,
            other_direction: false,
            remark: None,
        }
    }

    /// One piece.
    pub fn one(range: Range<usize>, transaction: Transaction) -> Part {
        Part {
            ranges: std::iter::once(range).collect(),
            ..Part::of(transaction)
        }
    }

    /// Each piece is sent as one message. Outside a transaction it is one by itself.
    pub fn pieces(ranges: Vec<Range<usize>>, transaction: Transaction) -> Vec<Part> {
        match transaction {
            Transaction::Statement => ranges
                .into_iter()
                .map(|range| Part::one(range, Transaction::Message))
                .collect(),
            _ => vec![Part {
                ranges,
                ..Part::of(transaction)
            }],
        }
    }
}

impl Tool {
    pub fn name(self) -> &'static str {
        match self {
            Tool::Psql => "psql",
            Tool::Flyway => "Flyway",
            Tool::GolangMigrate => "golang-migrate",
            Tool::Dbmate => "dbmate",
            Tool::Sqlx => "sqlx",
            Tool::NodePgMigrate => "node-pg-migrate",
            Tool::Diesel => "diesel",
            Tool::Goose => "goose",
            Tool::Rails => "Rails (pg_dump)",
            Tool::Django => "Django (sqlmigrate)",
            Tool::Prisma => "Prisma",
            Tool::Drizzle => "Drizzle",
            Tool::Supabase => "Supabase",
            Tool::Sqitch => "Sqitch",
            Tool::Liquibase => "Liquibase (formatted SQL)",
            Tool::Atlas => "Atlas",
        }
    }

    /// How what must not be in a transaction is kept out of this tool's.
    pub fn outside(self) -> &'static str {
        match self {
            Tool::Psql => "Outside BEGIN … COMMIT, and without psql --single-transaction:",
            Tool::Flyway => {
                "In a file of its own, with executeInTransaction=false in a .conf file of the same name beside it:"
            }
            Tool::GolangMigrate => "Each in a file of its own, since a file of several statements is one transaction:",
            Tool::Dbmate => "Each in a file of its own that begins with `-- migrate:up transaction:false`:",
            Tool::Sqlx => "Each in a file of its own whose first line is `-- no-transaction`:",
            Tool::NodePgMigrate => {
                "In a JavaScript migration with pgm.noTransaction(), since an SQL file has no way out:"
            }
            Tool::Diesel => "Each in a migration of its own, with run_in_transaction = false in its metadata.toml:",
            Tool::Goose => "In a file with the line `-- +goose NO TRANSACTION`:",
            Tool::Rails => "Outside BEGIN … COMMIT; in a Ruby migration with disable_ddl_transaction!:",
            Tool::Django => "In a migration with atomic = False:",
            Tool::Prisma => "Each in a migration of its own, since a file of several statements is one transaction:",
            Tool::Drizzle => {
                "Outside of Drizzle, whose migrations are one transaction and have no way out (by psql, before them):"
            }
            Tool::Supabase => "Without BEGIN … COMMIT, which Supabase takes out of its pipeline by itself:",
            Tool::Sqitch => "Outside BEGIN … COMMIT, in a change of its own:",
            Tool::Liquibase => "Each in a changeset of its own with runInTransaction:false:",
            Tool::Atlas => "In a file that begins with `-- atlas:txmode none` and an empty line:",
        }
    }

    /// The files of these have no way back that is read.
    pub fn only_forward(self) -> bool {
        matches!(
            self,
            Tool::Prisma | Tool::Drizzle | Tool::Supabase | Tool::Liquibase | Tool::Atlas
        )
    }

    /// By marks in the texts first, then by the files' names. `beside` tells whether a project file (`Cargo.toml`) near the
    /// directory mentions a word.
    pub fn detect(files: &[(&Path, &str)], beside: impl Fn(&str, &str) -> bool) -> Tool {
        let any_text = |has: fn(&str) -> bool| files.iter().any(|(_, text)| has(text));
        if any_text(|text| mark(text, "migrate:up").is_some()) {
            return Tool::Dbmate;
        }
        if any_text(|text| mark(text, "+goose up").is_some()) {
            return Tool::Goose;
        }
        if any_text(|text| pg_migrate_mark(text, "up").is_some()) {
            return Tool::NodePgMigrate;
        }
        if any_text(|text| text.contains("-- PostgreSQL database dump\n")) {
            return Tool::Rails;
        }
        if any_text(|text| text.starts_with("BEGIN;\n--\n-- ")) {
            return Tool::Django;
        }
        if any_text(is_formatted_sql) {
            return Tool::Liquibase;
        }
        if let Some(tool) = detect_by_layout(files, &beside) {
            return tool;
        }
        let any_name = |is: fn(&str) -> bool| files.iter().any(|(path, _)| is(file_name(path)));
        let no_transaction = any_text(|text| text.starts_with("-- no-transaction"));
        if any_name(|name| flyway_version(name).is_some() || (name.starts_with("R__") && name.ends_with(".sql"))) {
            Tool::Flyway
        } else if any_name(|name| matches!(name, "up.sql" | "down.sql")) {
            Tool::Diesel
        } else if any_name(|name| name.ends_with(".up.sql") || name.ends_with(".down.sql")) {
            match no_transaction || beside("Cargo.toml", "sqlx") {
                true => Tool::Sqlx,
                false => Tool::GolangMigrate,
            }
        } else if any_name(|name| number(name).is_some()) && (no_transaction || beside("Cargo.toml", "sqlx")) {
            Tool::Sqlx
        } else if any_name(|name| number(name).is_some()) && beside("package.json", "node-pg-migrate") {
            Tool::NodePgMigrate
        } else if beside("atlas.sum", "h1:") {
            Tool::Atlas
        } else {
            Tool::Psql
        }
    }

    /// The order in which the tool runs the files.
    pub fn sort(self, files: &mut [PathBuf]) {
        match self {
            Tool::Flyway => files.sort_by(|a, b| flyway_order(a, b)),
            // By the names' bytes, as it says itself.
            Tool::Dbmate => files.sort_by(|a, b| file_name(a).cmp(file_name(b)).then_with(|| a.cmp(b))),
            Tool::GolangMigrate | Tool::Sqlx | Tool::NodePgMigrate | Tool::Goose => files.sort_by(|a, b| {
                let key = |path: &Path| number(file_name(path)).unwrap_or(u128::MAX);
                key(a).cmp(&key(b)).then_with(|| natural(a, b))
            }),
            Tool::Psql | Tool::Diesel | Tool::Rails | Tool::Django => files.sort_by(|a, b| natural(a, b)),
            Tool::Prisma | Tool::Drizzle | Tool::Supabase | Tool::Liquibase | Tool::Atlas => files.sort(),
            // As they are named: only the plan has the order.
            Tool::Sqitch => {}
        }
    }

    /// A file for the way back.
    pub fn is_down(self, path: &Path) -> bool {
        let name = file_name(path);
        match self {
            Tool::Flyway => name.starts_with('U') && version_of(name, 'U').is_some(),
            Tool::Diesel => name == "down.sql",
            _ => name.ends_with(".down.sql"),
        }
    }

    /// The part that is run, up or down. `conf` is the text of the file's own settings, if it has any.
    pub fn part(self, text: &str, down: bool, conf: &str) -> Part {
        let whole = |transaction| Part::one(0..text.len(), transaction);
        match self {
            Tool::Psql | Tool::Rails | Tool::Django | Tool::Sqitch => whole(Transaction::Statement),
            Tool::GolangMigrate | Tool::Prisma => whole(Transaction::Message),
            Tool::Sqlx if text.starts_with("-- no-transaction") => whole(Transaction::Message),
            Tool::Sqlx => whole(Transaction::File),
            Tool::Diesel if says(conf, "run_in_transaction", "false") => whole(Transaction::Message),
            Tool::Diesel => whole(Transaction::File),
            Tool::Flyway if says(conf, "executeInTransaction", "false") => whole(Transaction::Statement),
            Tool::Flyway => flyway_part(text),
            Tool::Dbmate => {
                let (up, back) = (mark(text, "migrate:up"), mark(text, "migrate:down"));
                let part = sections(text, up, back, down, Transaction::File);
                let mark = if down { back } else { up };
                let line = mark.and_then(|at| text[at..].lines().next()).unwrap_or_default();
                match line.split_whitespace().any(|word| word == "transaction:false") {
                    true => Part {
                        transaction: Transaction::Message,
                        ..part
                    },
                    false => part,
                }
            }
            Tool::Goose => {
                let transaction = match mark(text, "+goose no transaction") {
                    Some(_) => Transaction::Statement,
                    None => Transaction::File,
                };
                sections(
                    text,
                    mark(text, "+goose up"),
                    mark(text, "+goose down"),
                    down,
                    transaction,
                )
            }
            Tool::NodePgMigrate => {
                let (up, back) = (pg_migrate_mark(text, "up"), pg_migrate_mark(text, "down"));
                sections(text, up, back, down, Transaction::All)
            }
            // What these make of a file is in more parts than one.
            Tool::Drizzle => whole(Transaction::All),
            Tool::Supabase | Tool::Liquibase | Tool::Atlas => whole(Transaction::File),
        }
    }
}

/// Of files that are named one by one: by where they are, and what lies beside them.
fn detect_by_layout(files: &[(&Path, &str)], beside: &impl Fn(&str, &str) -> bool) -> Option<Tool> {
    let any_path = |is: fn(&Path) -> bool| files.iter().any(|(path, _)| is(path));
    if any_path(|path| file_name(path) == "migration.sql") && beside("migration_lock.toml", "provider") {
        Some(Tool::Prisma)
    } else if beside("meta/_journal.json", "\"entries\"") || beside("snapshot.json", "\"dialect\"") {
        Some(Tool::Drizzle)
    } else if any_path(|path| {
        path.components()
            .any(|part| part.as_os_str() == "deploy" || part.as_os_str() == "revert")
    }) && beside("sqitch.plan", "%project")
    {
        Some(Tool::Sqitch)
    } else if any_path(|path| {
        path.parent()
            .is_some_and(|parent| parent.ends_with("supabase/migrations"))
    }) {
        Some(Tool::Supabase)
    } else {
        None
    }
}

/// The first line that is not empty says that it is Liquibase's.
pub fn is_formatted_sql(text: &str) -> bool {
    let first = text.lines().map(str::trim).find(|line| !line.is_empty());
    let comment = first.and_then(|line| line.strip_prefix("--")).unwrap_or_default();
    comment
        .trim_start()
        .to_ascii_lowercase()
        .starts_with("liquibase formatted")
}

/// `key=value` or `key = value` on a line of its own.
fn says(conf: &str, key: &str, value: &str) -> bool {
    conf.lines()
        .filter_map(|line| line.split_once('='))
        .any(|(k, v)| k.trim().eq_ignore_ascii_case(key) && v.trim().trim_matches('"').eq_ignore_ascii_case(value))
}

/// Each section goes from the line after its mark to the other's, or to the end. Without an up mark everything up to the down mark is up.
fn sections(text: &str, up: Option<usize>, back: Option<usize>, down: bool, transaction: Transaction) -> Part {
    let end = |from: usize, other: Option<usize>| other.filter(|other| *other > from).unwrap_or(text.len());
    let after = |mark: usize| text[mark..].find('\n').map_or(text.len(), |line| mark + line + 1);
    let range = match (down, up, back) {
        (false, Some(up), back) => after(up)..end(up, back),
        (false, None, back) => 0..back.unwrap_or(text.len()),
        (true, up, Some(back)) => after(back)..end(back, up),
        (true, _, None) => text.len()..text.len(),
    };
    Part {
        other_direction: if down { up.is_some() } else { back.is_some() },
        ..Part::one(range, transaction)
    }
}

/// The first line that is a `--` comment beginning with these words, in any case.
fn mark(text: &str, words: &str) -> Option<usize> {
    lines(text).find_map(|(at, line)| {
        let comment = line.strip_prefix("--")?.trim_start();
        let found = comment.get(..words.len())?;
        let ends = !comment[words.len()..].starts_with(|c: char| c.is_alphanumeric() || c == '_');
        (found.eq_ignore_ascii_case(words) && ends).then_some(at)
    })
}

/// `-- Up Migration`, `---- up   migration`
fn pg_migrate_mark(text: &str, direction: &str) -> Option<usize> {
    lines(text).find_map(|(at, line)| {
        let comment = line.trim_start().strip_prefix("--")?;
        let mut words = comment
            .trim_start_matches(|c: char| c.is_whitespace() || c == '-')
            .split_whitespace();
        let first = words.next()?.eq_ignore_ascii_case(direction);
        let second = words.next()?.get(..9)?.eq_ignore_ascii_case("migration");
        (first && second).then_some(at)
    })
}

fn lines(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let mut at = 0;
    text.split_inclusive('\n').map(move |line| {
        let start = at;
        at += line.len();
        (start, line.trim_end())
    })
}

fn file_name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

/// The digits in front of `_`, `.` or `-`.
pub fn number(name: &str) -> Option<u128> {
    let end = name.find(|c: char| !c.is_ascii_digit())?;
    name[end..]
        .starts_with(['_', '.', '-'])
        .then(|| name[..end].parse().ok())?
}

/// `V1.2__name.sql`: 1, 2. `V1_2__name.sql` is the same.
fn flyway_version(name: &str) -> Option<Vec<u128>> {
    version_of(name, 'V').or_else(|| version_of(name, 'B'))
}

fn version_of(name: &str, prefix: char) -> Option<Vec<u128>> {
    let (version, _) = name.strip_suffix(".sql")?.strip_prefix(prefix)?.split_once("__")?;
    let mut parts: Vec<u128> = version
        .split(['.', '_'])
        .map(|part| part.parse().ok())
        .collect::<Option<_>>()?;
    while parts.last() == Some(&0) {
        parts.pop();
    }
    Some(parts)
}

/// Versions first, then what is repeated whenever it changes, by its description.
fn flyway_order(a: &Path, b: &Path) -> Ordering {
    let key = |path: &Path| {
        let name = file_name(path);
        let version = flyway_version(name).or_else(|| version_of(name, 'U'));
        (version.is_none(), version.unwrap_or_default(), name.to_string())
    };
    key(a).cmp(&key(b))
}

/// Digits as numbers, everything else by its characters.
fn natural(a: &Path, b: &Path) -> Ordering {
    let (a, b) = (a.to_string_lossy(), b.to_string_lossy());
    let (mut a, mut b): (&str, &str) = (&a, &b);
    loop {
        let digits = |text: &str| text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
        let (number_a, rest_a) = a.split_at(digits(a));
        let (number_b, rest_b) = b.split_at(digits(b));
        if !number_a.is_empty() && !number_b.is_empty() {
            let value = |number: &str| number.trim_start_matches('0').to_string();
            let (value_a, value_b) = (value(number_a), value(number_b));
            let by_value = value_a.len().cmp(&value_b.len()).then(value_a.cmp(&value_b));
            // 001 before 1, so that no two names are the same.
            match by_value.then(number_b.len().cmp(&number_a.len())) {
                Ordering::Equal => (a, b) = (rest_a, rest_b),
                order => return order,
            }
            continue;
        }
        let (mut left, mut right) = (a.chars(), b.chars());
        match (left.next(), right.next()) {
            (None, None) => return Ordering::Equal,
            (one, other) if one != other => return one.cmp(&other),
            _ => (a, b) = (left.as_str(), right.as_str()),
        }
    }
}

/// Flyway runs a migration outside a transaction where it finds a statement in it that it knows to need that.
fn flyway_part(text: &str) -> Part {
    let mut script = Script::new(text);
    let (mut alone, mut others) = (false, false);
    while let Some(piece) = script.next_piece() {
        let sql = piece.sql.get(leading_space(&piece.sql)..).unwrap_or_default();
        let words: Vec<String> = sql.split_whitespace().take(5).map(str::to_uppercase).collect();
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match words.as_slice() {
            [] => {}
            ["CREATE" | "DROP", "DATABASE" | "TABLESPACE" | "SUBSCRIPTION", ..]
            | ["ALTER", "SYSTEM", ..]
            | ["CREATE" | "DROP", "INDEX", "CONCURRENTLY", ..]
            | ["CREATE", "UNIQUE", "INDEX", "CONCURRENTLY", ..]
            | ["REINDEX", "SCHEMA" | "DATABASE" | "SYSTEM", ..]
            | ["REINDEX", "VERBOSE", "SCHEMA" | "DATABASE" | "SYSTEM", ..]
            | ["VACUUM", ..]
            | ["DISCARD", "ALL", ..] => alone = true,
            _ => others = true,
        }
    }
    let transaction = if alone {
        Transaction::Statement
    } else {
        Transaction::File
    };
    Part {
        remark: (alone && others).then(|| {
            "Flyway runs this file outside a transaction, and refuses it unless `mixed` is set, since other statements are in \
             it too: give CONCURRENTLY a file of its own"
                .to_owned()
        }),
        ..Part::one(0..text.len(), transaction)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sorted(tool: Tool, names: &[&str]) -> Vec<String> {
        let mut files: Vec<PathBuf> = names.iter().map(PathBuf::from).collect();
        files.reverse();
        tool.sort(&mut files);
        files.iter().map(|file| file.display().to_string()).collect()
    }

    #[test]
    fn the_order_is_the_tools() {
        let check = |tool: Tool, names: &[&str]| assert_eq!(sorted(tool, names), names);
        check(Tool::Psql, &["2.sql", "10.sql", "a/9_x.sql", "a/10_x.sql", "b.sql"]);
        check(Tool::Psql, &["001.sql", "01.sql", "1.sql", "02.sql"]);
        check(
            Tool::Flyway,
            &[
                "V1__a.sql",
                "V1.1__b.sql",
                "V1_2__c.sql",
                "V1.10__d.sql",
                "sub/V2__e.sql",
                "R__a.sql",
                "R__b.sql",
            ],
        );
        check(
            Tool::GolangMigrate,
            &["1_z.up.sql", "9_b.up.sql", "10_a.up.sql", "20260101000000_c.up.sql"],
        );
        check(Tool::Dbmate, &["10_a.sql", "9_b.sql"]);
        check(
            Tool::Diesel,
            &["2026-01-01-000000_a/up.sql", "2026-01-02-000000_b/up.sql"],
        );
    }

    #[test]
    fn tools_are_told_by_marks_and_names() {
        let check = |name: &str, text: &str, beside: &str, expect: Tool| {
            let found = Tool::detect(&[(Path::new(name), text)], |file, word| {
                beside == format!("{file} {word}")
            });
            assert_eq!(found, expect, "{name} {text}");
        };
        check("1_a.sql", "-- migrate:up\n", "", Tool::Dbmate);
        check("1_a.sql", "--migrate:up transaction:false\n", "", Tool::Dbmate);
        check("1_a.sql", "-- +goose Up\n", "", Tool::Goose);
        check("1_a.sql", "\n  ---- Up  Migration\n", "", Tool::NodePgMigrate);
        check("1_a.sql", "", "package.json node-pg-migrate", Tool::NodePgMigrate);
        check("1_a.sql", "", "Cargo.toml sqlx", Tool::Sqlx);
        check("1_a.sql", "-- no-transaction\n", "", Tool::Sqlx);
        check("1_a.up.sql", "", "Cargo.toml sqlx", Tool::Sqlx);
        check("1_a.up.sql", "", "", Tool::GolangMigrate);
        check("1_a.sql", "", "", Tool::Psql);
        check("V1__a.sql", "", "", Tool::Flyway);
        check("R__view.sql", "", "", Tool::Flyway);
        check("VIEW__a.sql", "", "", Tool::Psql);
        check("2026-01-01-000000_a/up.sql", "", "", Tool::Diesel);
        check("2_a/migration.sql", "", "migration_lock.toml provider", Tool::Prisma);
        check("0000_a.sql", "", "meta/_journal.json \"entries\"", Tool::Drizzle);
        check("deploy/a.sql", "", "sqitch.plan %project", Tool::Sqitch);
        check("supabase/migrations/1_a.sql", "", "", Tool::Supabase);
        check("a.sql", "\n-- Liquibase formatted SQL\n", "", Tool::Liquibase);
        check("1_a.sql", "", "atlas.sum h1:", Tool::Atlas);
        check("1_a.up.sql", "", "atlas.sum h1:", Tool::GolangMigrate);
        check(
            "structure.sql",
            "--\n-- PostgreSQL database dump\n--\n",
            "",
            Tool::Rails,
        );
        check("-", "BEGIN;\n--\n-- Add field a to b\n--\n", "", Tool::Django);
    }

    #[test]
    fn the_part_that_runs() {
        let check = |tool: Tool, down: bool, text: &str, expect: &str, transaction: Transaction| {
            let part = tool.part(text, down, "");
            assert_eq!(
                (&text[part.ranges[0].clone()], part.transaction),
                (expect, transaction),
                "{text}"
            );
        };
        use Transaction::*;
        let dbmate = "-- migrate:up\na;\n-- migrate:down transaction:false\nb;\n";
        check(Tool::Dbmate, false, dbmate, "a;\n", File);
        check(Tool::Dbmate, true, dbmate, "b;\n", Message);
        check(
            Tool::Dbmate,
            false,
            "-- migrate:up transaction:false\na;",
            "a;",
            Message,
        );
        check(Tool::Dbmate, false, "-- migrate:upper\n", "-- migrate:upper\n", File);
        let goose = "-- +goose NO TRANSACTION\n-- +goose Up\na;\n-- +goose Down\nb;\n";
        check(Tool::Goose, false, goose, "a;\n", Statement);
        let pg_migrate = "-- Up Migration\na;\n-- Down Migration\nb;\n";
        check(Tool::NodePgMigrate, false, pg_migrate, "a;\n", All);
        check(Tool::NodePgMigrate, true, pg_migrate, "b;\n", All);
        check(Tool::NodePgMigrate, true, "a;", "", All);
        check(
            Tool::Sqlx,
            false,
            "-- no-transaction\na;",
            "-- no-transaction\na;",
            Message,
        );
        check(Tool::Sqlx, false, "a;", "a;", File);
        check(Tool::Flyway, false, "a;", "a;", File);
        let index = "-- x\ncreate  unique index\nconcurrently i on t (a);";
        check(Tool::Flyway, false, index, index, Statement);
        assert!(Tool::Flyway.part(&format!("{index} a;"), false, "").remark.is_some());
        assert_eq!(
            Tool::Flyway
                .part("a;", false, "x=1\nexecuteInTransaction = false")
                .transaction,
            Statement
        );
        assert_eq!(
            Tool::Diesel.part("a;", false, "run_in_transaction = false").transaction,
            Message
        );
        assert_eq!(Tool::Diesel.part("a;", false, "").transaction, File);
    }
}
