//! The shape that the README promises: what its pure crates must not know, the rule table that is printed there, and a
//! second, independent parser that looks for what the judge may have missed.

use lockkeeper::plan::rules::RULES;
use lockkeeper::plan::statement::{Gate, Kind, gate, read};
use sqlparser::ast::Statement as Second;
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::Parser;
use std::path::PathBuf;

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

/// The crates that know no socket, file, clock or runtime, and what each may use.
const PURE: &[(&str, &[&str])] = &[
    (
        "lockkeeper-plan",
        &[
            "base64",
            "memchr",
            "pg_query",
            "prost",
            "ring",
            "serde",
            "serde_json",
            "strsim",
            "toml",
        ],
    ),
    (
        "lockkeeper-wire",
        &["base64", "bytes", "memchr", "pgwire", "ring", "stringprep", "subtle"],
    ),
];

/// What the standard library has of these, clippy keeps away by the crate's own clippy.toml.
#[test]
fn the_pure_crates_use_only_what_is_pure() {
    for (name, allowed) in PURE {
        let dir = root().join("crates").join(name);
        let text = std::fs::read_to_string(dir.join("Cargo.toml")).unwrap();
        let manifest: toml::Table = text.parse().unwrap();
        let used: Vec<&str> = manifest["dependencies"]
            .as_table()
            .unwrap()
            .keys()
            .map(String::as_str)
            .collect();
        assert_eq!(used, *allowed, "{name}");
        for others in ["target", "build-dependencies"] {
            assert!(!manifest.contains_key(others), "{name} has {others}");
        }
        let clippy = std::fs::read_to_string(dir.join("clippy.toml")).unwrap();
        let clippy: toml::Table = clippy.parse().unwrap();
        let refused = |kind: &str, path: &str| {
            let all = clippy[kind].as_array().unwrap();
            assert!(all.iter().any(|p| p.as_str() == Some(path)), "{name}: {path}");
        };
        for path in [
            "std::fs::File",
            "std::net::TcpStream",
            "std::process::Command",
            "std::time::Instant",
            "std::time::SystemTime",
        ] {
            refused("disallowed-types", path);
        }
        for path in ["std::env::var", "std::fs::read", "std::thread::spawn"] {
            refused("disallowed-methods", path);
        }
    }
}

#[test]
fn every_rule_is_a_file_of_its_name() {
    for rule in RULES {
        let file = format!("crates/lockkeeper-plan/src/rules/{}.rs", rule.name.replace('-', "_"));
        assert!(root().join(&file).exists(), "{file}");
    }
}

#[test]
fn every_promise_about_security_has_its_test() {
    let promises = std::fs::read_to_string(root().join("SECURITY.md")).unwrap();
    let named = promises
        .split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|span| span.split_once(".rs: "));
    let mut found = 0;
    for (file, tests) in named {
        let text =
            std::fs::read_to_string(root().join(format!("{file}.rs"))).unwrap_or_else(|e| panic!("{file}.rs: {e}"));
        for test in tests.split(',').map(str::trim) {
            assert!(
                text.contains(&format!("fn {test}(")),
                "SECURITY.md names {test} in {file}.rs"
            );
            found += 1;
        }
    }
    assert!(found > 20, "{found}");
}

/// With UPDATE_README=1 in the environment it is made current.
#[test]
fn the_rule_table_of_the_readme_is_current() {
    let path = root().join("README.md");
    let readme = std::fs::read_to_string(&path).unwrap();
    let table = lockkeeper::rules_page::markdown();
    let (start, end) = (
        readme.find("<!-- rules: begin").unwrap(),
        readme.find("<!-- rules: end -->").unwrap(),
    );
    let current = [
        &readme[..start],
        table.trim(),
        &readme[end + "<!-- rules: end -->".len()..],
    ]
    .concat();
    if std::env::var_os("UPDATE_README").is_some() {
        std::fs::write(&path, &current).unwrap();
    } else {
        assert!(
            readme == current,
            "the rules have changed: run UPDATE_README=1 cargo test --test shape"
        );
    }
}

#[test]
fn the_code_map_of_the_readme_names_files_that_exist() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    let map = readme
        .split("```\nsrc/main.rs")
        .nth(1)
        .and_then(|rest| rest.split("```").next())
        .expect("the code map");
    let mut dir = "src/".to_owned();
    for line in format!("src/main.rs{map}").lines() {
        let indented = line.starts_with(' ');
        for word in line
            .split("  ")
            .find(|w| !w.is_empty())
            .unwrap_or_default()
            .split_whitespace()
        {
            let path = if indented {
                format!("{dir}{word}")
            } else {
                word.to_owned()
            };
            assert!(root().join(&path).exists(), "the code map names {path}");
            if !indented && word.ends_with('/') {
                dir = word.to_owned();
            }
        }
    }
}

/// What the second reader takes for a change of the schema.
fn second_sees_ddl(statement: &Second) -> bool {
    matches!(
        statement,
        Second::AlterTable { .. }
            | Second::AlterIndex { .. }
            | Second::AlterView { .. }
            | Second::CreateIndex { .. }
            | Second::Drop { .. }
            | Second::Truncate { .. }
            | Second::DropTrigger { .. }
            | Second::CreateTrigger { .. }
    )
}

/// sqlparser knows nothing of libpg_query: where it sees DDL, the gate must not wave the text through, and the reader
/// must call it DDL.
#[track_caller]
fn check(sql: &str) {
    let Ok(second) = Parser::parse_sql(&PostgreSqlDialect {}, sql) else {
        return;
    };
    let ddl = second.iter().filter(|s| second_sees_ddl(s)).count();
    if ddl == 0 {
        return;
    }
    assert_eq!(gate(sql.as_bytes()), Gate::Read, "{sql}");
    let first = read(sql.as_bytes(), true).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
    let judged = first.iter().filter(|s| matches!(s.kind, Kind::Ddl)).count();
    assert_eq!(judged, ddl, "{sql}");
}

#[test]
fn a_second_reader_finds_no_ddl_that_the_judge_missed() {
    let mut read = 0;
    for rule in RULES {
        for sql in rule.bad.iter().chain(rule.good) {
            for variant in [
                (*sql).to_owned(),
                format!("/* a ; b */ {sql} -- c ; d"),
                format!("SELECT 1; {sql}"),
                format!("BEGIN; SELECT ';'; {sql}; COMMIT"),
                format!("INSERT INTO t VALUES ('x;''y'); {sql}; SELECT 2"),
                sql.to_lowercase(),
                sql.replace(' ', "\n\t"),
            ] {
                check(&variant);
                read += 1;
            }
        }
    }
    assert!(read > 300, "only {read} texts");
}
