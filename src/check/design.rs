//! What the proxy has nothing to say of: rules that only `check` knows. They are about what is made to last, and about the file.
//!
//! Start at [`found`], of one statement, and at [`State`], of what only the end of a file tells.

mod columns;
mod later;
mod others;
mod own;

use super::known::Known;
use super::spot::Spot;
use super::verdict::Found;
use crate::plan::facts::Facts;
use crate::plan::rules;
use crate::plan::statement::Statement;
pub use later::State;
pub use own::Own;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ConstrType, Node};

pub static RULES: &[Own] = &[
    Own {
        name: super::transaction::HELD,
        verdict: "warn",
        what: "Rows are written, or a second table is locked, while the transaction holds a lock that others wait for.",
        why: "Whoever waits for the first table waits for all of it.",
        safe: "COMMIT in between.",
        bad: &["BEGIN; ALTER TABLE users ADD c int; UPDATE users SET c = 1 WHERE id = 1; COMMIT"],
        good: &["BEGIN; ALTER TABLE users ADD c int; COMMIT; UPDATE users SET c = 1 WHERE id = 1"],
    },
    Own {
        name: super::transaction::FAILS,
        verdict: "reject",
        what: "The server is certain to refuse it, or to undo it.",
        why: "The migration stops there.",
        safe: "As the finding says.",
        bad: &["BEGIN; SELECT 1", "DROP INDEX CONCURRENTLY a, b"],
        good: &["BEGIN; SELECT 1; COMMIT", "DROP INDEX CONCURRENTLY a"],
    },
    columns::INT_KEY,
    columns::JSON,
    columns::TIMESTAMP,
    columns::DROP_NOT_NULL,
    columns::NULLABLE_KEY,
    later::NO_KEY,
    later::UNINDEXED,
    later::OTHER_TYPE,
    later::DROPPED_FIRST,
    others::LONG_NAME,
    others::TRIGGERS_OFF,
    others::NOT_ENFORCED,
    others::VOLATILE_CHECK,
    others::DEFINER,
    others::INVALID,
];

/// Of all that can be told.
pub fn rule_names() -> Vec<&'static str> {
    let own = RULES.iter().map(|rule| rule.name);
    rules::RULES.iter().map(|rule| rule.name).chain(own).collect()
}

pub fn find(name: &str) -> Option<&'static Own> {
    RULES.iter().find(|rule| rule.name == name)
}

/// What there is to say of the statement alone.
pub fn found(at: &Spot, known: &Known, facts: &Facts) -> Vec<Found> {
    let mut all = columns::found(at, known, facts);
    all.extend(others::found(at, known, facts));
    all
}

/// Its syntax is only the newest version's, or only newer ones have a safe form of it.
pub fn is_of_newest(statement: &Statement) -> bool {
    let is = |constraint: &pg_query::protobuf::Constraint, alone: bool| {
        let not_null = alone && constraint.contype() == ConstrType::ConstrNotnull;
        not_null
            || constraint.contype() == ConstrType::ConstrAttrNotEnforced
            || constraint.generated_kind == "v"
            || (matches!(
                constraint.contype(),
                ConstrType::ConstrCheck | ConstrType::ConstrForeign
            ) && !constraint.is_enforced)
    };
    let of = |nodes: &[Node], alone: bool| {
        nodes.iter().any(|node| match &node.node {
            Some(NodeEnum::Constraint(constraint)) => is(constraint, alone),
            _ => false,
        })
    };
    statement
        .actions()
        .any(|command| match command.def.as_ref().and_then(|def| def.node.as_ref()) {
            Some(NodeEnum::Constraint(constraint)) => is(constraint, true),
            Some(NodeEnum::ColumnDef(column)) => of(&column.constraints, false),
            Some(NodeEnum::AtalterConstraint(alter)) => alter.alter_enforceability,
            Some(NodeEnum::PartitionCmd(_)) => command.subtype() == AlterTableType::AtDetachPartition,
            _ => command.subtype() == AlterTableType::AtAlterConstraint && command.def.is_none(),
        })
}

/// The page of the book about them.
pub fn page() -> String {
    let mut page = String::from(
        "# Rules of check alone\n\nThe proxy has nothing to say of these. `check` warns of them; `--exclude RULE`, a key `exclude` in `.lockkeeper.toml`, or the \
         comment\n`-- lockkeeper-check: exclude=RULE` at the beginning of a file keeps it from that.\n",
    );
    for rule in RULES {
        let block = |name: &str, examples: &[&str]| {
            if examples.is_empty() {
                return String::new();
            }
            let lines: Vec<String> = examples
                .iter()
                .map(|sql| format!("{};\n", sql.replace("; ", ";\n")))
                .collect();
            format!("\n{name}:\n\n```sql\n{}```\n", lines.concat())
        };
        page.push_str(&format!(
            "\n## {}\n\n{} ({})\n\n{}\n\nInstead: {}\n{}{}",
            rule.name,
            rule.what,
            rule.verdict,
            rule.why,
            rule.safe,
            block("Bad", rule.bad),
            block("Good", rule.good)
        ));
    }
    page
}

/// The page of a rule that only `check` has.
pub fn page_of_own(name: &str) -> Option<String> {
    find(name)?;
    let all = page();
    let start = all.find(&format!("\n## {name}\n"))? + 1;
    let rest = &all[start..];
    let end = rest.get(3..)?.find("\n## ").map_or(rest.len(), |end| end + 3);
    Some(rest[1..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::report::Format;
    use super::super::{Arguments, Streams, run};
    use super::*;
    use std::path::PathBuf;

    /// What a text is told of.
    fn told(sql: &str) -> String {
        let mut arguments = Arguments {
            inputs: vec![PathBuf::from("-")],
            ..Arguments::of_text(Some(180_000))
        };
        arguments.format = Format::Json;
        arguments.exclude.clear();
        let (mut out, mut err) = (Vec::new(), Vec::new());
        let mut streams = Streams {
            stdin: &mut sql.as_bytes(),
            out: &mut out,
            err: &mut err,
            colour: false,
        };
        let policy = crate::config::load_policy("standard").expect("it is built in");
        run(&arguments, &policy, &mut streams).expect("written");
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn bad_ones_are_found_and_good_ones_are_not() {
        for rule in RULES {
            let says = format!("\"rule\":\"{}\"", rule.name);
            for sql in rule.bad {
                assert!(told(sql).contains(&says), "{}: {sql}: {}", rule.name, told(sql));
            }
            for sql in rule.good {
                assert!(!told(sql).contains(&says), "{}: {sql}: {}", rule.name, told(sql));
            }
        }
    }

    #[test]
    fn what_is_not_told() {
        for sql in [
            "CREATE TEMP TABLE t (a json)",
            "CREATE TABLE t (LIKE users INCLUDING ALL)",
            "CREATE TABLE p PARTITION OF users FOR VALUES IN (1)",
            "CREATE TABLE t (id bigint PRIMARY KEY, a timestamptz, b jsonb CHECK (length(b::text) > 0))",
            "CREATE TABLE t (id bigint PRIMARY KEY, u bigint, UNIQUE (u)); ALTER TABLE t ADD FOREIGN KEY (u) REFERENCES t",
            "CREATE TABLE t (id uuid PRIMARY KEY); ALTER TABLE t ALTER COLUMN id DROP NOT NULL",
        ] {
            assert!(!told(sql).contains("\"warn\""), "{sql}: {}", told(sql));
        }
        // Its two columns would be one.
        let long = "x".repeat(70);
        assert!(told(&format!("CREATE TABLE {long} (a bigint PRIMARY KEY)")).contains("is cut to 63"));
    }
}
