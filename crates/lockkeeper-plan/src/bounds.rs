//! What the rows of a new partition, and of the default partition beside it, must be: in the server's own words, and whether it
//! takes a CHECK that says so for the proof that spares their scan.
//!
//! [`Question::sql`] has the attachment tried on empty copies and undone; it holds no lock but ACCESS SHARE, raises no error, and
//! leaves its answer for [`ANSWER`]. What was answered holds as long as the tables are as they were, which [`Bounds::guard`] makes sure
//! of under the very locks of the attachment.

use super::ascii::decoded;
use super::splice::{depth_change, filled, quote_literal};
use pg_query::NodeEnum;
use pg_query::protobuf::PartitionBoundSpec;
use pg_query::protobuf::a_const::Val;
use serde::Deserialize;

const TRIAL: &str = include_str!("bounds.sql");
const STATE: &str = include_str!("bounds_state.sql");
const GUARD: &str = include_str!("bounds_guard.sql");

/// One row with one column, for [`Question::decode`].
pub const ANSWER: &str = "SELECT pg_catalog.current_setting('lockkeeper.bounds', true)";

/// An attachment that would scan.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    pub parent: u32,
    /// The new partition; 0 if it has no rows that matter.
    pub child: u32,
    /// The default partition, or 0 likewise.
    pub rest: u32,
    /// `FOR VALUES …` or `DEFAULT`
    pub bound: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Bounds {
    #[serde(skip)]
    question: Question,
    /// Why nothing is known, as a clause.
    pub failure: Option<String>,
    /// A hash of what the proof depends on.
    state: Option<String>,
    pub child: Option<Proof>,
    pub rest: Option<Proof>,
}

/// About the rows of one table.
#[derive(Clone, Debug, Default, Deserialize)]
pub struct Proof {
    /// None: any row is right.
    pub condition: Option<String>,
    /// Its own constraints spare the scan.
    pub proven: bool,
    /// A CHECK of the condition would.
    pub provable: bool,
}

impl Question {
    pub fn sql(&self) -> String {
        let state = self.state();
        filled(
            TRIAL.trim_end(),
            &[self.values().as_slice(), &[("{state}", state)]].concat(),
        )
    }

    fn values(&self) -> Vec<(&'static str, String)> {
        let is_default = if self.bound == "DEFAULT" { "true" } else { "false" };
        vec![
            ("{parent}", self.parent.to_string()),
            ("{child}", self.child.to_string()),
            ("{rest}", self.rest.to_string()),
            ("{bound}", quote_literal(&self.bound)),
            ("{is_default}", is_default.to_string()),
        ]
    }

    fn state(&self) -> String {
        filled(STATE.trim_end(), &self.values())
    }

    pub fn decode(self, answer: Option<&str>) -> Bounds {
        match answer.map_or(Err("no answer".to_string()), decoded::<Bounds>) {
            Ok(Bounds { failure: Some(why), .. }) | Err(why) => self.failed(&why),
            Ok(bounds) => Bounds {
                question: self,
                ..bounds
            },
        }
    }

    pub fn failed(self, why: &str) -> Bounds {
        Bounds {
            question: self,
            ..Bounds::failed(format!(
                "the attachment was tried on empty copies of the tables, which gave: {why}"
            ))
        }
    }
}

impl Bounds {
    /// There is nothing to be asked.
    pub fn failed(why: String) -> Bounds {
        Bounds {
            failure: Some(why),
            ..Bounds::default()
        }
    }

    /// A question was put, and the trial went wrong: perhaps for a right that the role lacks, perhaps for a fault of the statement.
    pub fn trial_failed(&self) -> bool {
        self.failure.is_some() && self.question != Question::default()
    }

    /// Without asking.
    pub fn known(child: Option<Proof>, rest: Option<Proof>) -> Bounds {
        Bounds {
            child,
            rest,
            ..Bounds::default()
        }
    }

    /// One statement for the transaction of the attachment, right before it: it takes the attachment's locks, and fails unless all
    /// is as it was when the question was answered and these conditions (queries with one boolean) hold too.
    pub fn guard(&self, holds: &[String]) -> Option<String> {
        let known = self.state.as_deref()?;
        let mut values = self.question.values();
        let unless: Vec<String> = holds.iter().map(|query| format!(" OR NOT ({query})")).collect();
        values.push(("{state}", self.question.state()));
        values.push(("{known}", quote_literal(known)));
        values.push(("{unless}", unless.concat()));
        Some(filled(GUARD.trim_end(), &values))
    }
}

/// The text of the bound within a statement. Err: what it means may change between the proof and the attachment.
pub fn text(sql: &str, bound: &PartitionBoundSpec) -> Result<String, String> {
    if bound.is_default {
        return Ok("DEFAULT".to_string());
    }
    let data = [&bound.listdatums, &bound.lowerdatums, &bound.upperdatums];
    if !data.into_iter().flatten().all(is_constant) {
        return Err(
            "a bound is no plain constant, so that it may be another one by then: write the value that is meant"
                .to_string(),
        );
    }
    let text = written(sql).ok_or("the text of the bounds could not be told with certainty")?;
    Ok(text.to_string())
}

fn written(sql: &str) -> Option<&str> {
    let scan = pg_query::scan(sql).ok()?;
    let word = |n: usize| {
        let token = scan.tokens.get(n)?;
        sql.get(usize::try_from(token.start).ok()?..usize::try_from(token.end).ok()?)
    };
    let is = |n: usize, wanted: &str| word(n).is_some_and(|word| word.eq_ignore_ascii_case(wanted));
    let mut depth = 0;
    let mut begins = None;
    let mut lists = 0;
    for (n, token) in scan.tokens.iter().enumerate() {
        let before = depth;
        depth += depth_change(token);
        if begins.is_none() && before == 0 && is(n, "for") && is(n + 1, "values") {
            begins = Some(usize::try_from(token.start).ok()?);
            lists = if is(n + 2, "from") { 2 } else { 1 };
        }
        if begins.is_some() && before == 1 && depth == 0 {
            lists -= 1;
            if lists == 0 {
                let text = sql.get(begins?..usize::try_from(token.end).ok()?)?;
                // It is put into a text that is quoted so.
                return (!text.contains("$lockkeeper")).then_some(text);
            }
        }
    }
    None
}

/// Not `'now'`, which is another moment each time.
fn is_constant(node: &pg_query::Node) -> bool {
    const MOMENTS: &[&str] = &["now", "today", "tomorrow", "yesterday"];
    match node.node.as_ref() {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(text)) => {
                let text = text.sval.to_ascii_lowercase();
                !MOMENTS.iter().any(|moment| text.contains(moment))
            }
            _ => true,
        },
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_constant),
        // MINVALUE and MAXVALUE are names to the grammar.
        Some(NodeEnum::ColumnRef(_)) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pg_query::protobuf::AlterTableCmd;

    fn bound_of(sql: &str) -> PartitionBoundSpec {
        let statements = crate::reading::read(sql.as_bytes(), true).unwrap();
        let of_action = |command: &AlterTableCmd| match command.def.as_ref()?.node.as_ref()? {
            NodeEnum::PartitionCmd(command) => command.bound.clone(),
            _ => None,
        };
        match &statements[0].node {
            NodeEnum::CreateStmt(create) => create.partbound.clone().unwrap(),
            _ => statements[0].actions().find_map(of_action).unwrap(),
        }
    }

    #[test]
    fn the_bound_is_cut_out_of_the_statement() {
        let check = |sql: &str, expect: Option<&str>| {
            let found = text(sql, &bound_of(sql)).ok();
            assert_eq!(found.as_deref(), expect, "{sql}");
        };
        check("alter table p attach partition c default", Some("DEFAULT"));
        check(
            "ALTER TABLE p ATTACH PARTITION \"for values\" FOR  VALUES FROM (1, 'a)') TO (MAXVALUE, 'b') -- x",
            Some("FOR  VALUES FROM (1, 'a)') TO (MAXVALUE, 'b')"),
        );
        check(
            "create table c partition of p (check (a in (1)), primary key (a)) for values in (-1, null, '2'::int) partition by list (b) with (fillfactor = 70)",
            Some("for values in (-1, null, '2'::int)"),
        );
        check(
            "create table c partition of p for values with (modulus 4, remainder 1) tablespace x",
            Some("for values with (modulus 4, remainder 1)"),
        );
        check("alter table p attach partition c for values in (f())", None);
        check(
            "alter table p attach partition c for values from (now()) to (maxvalue)",
            None,
        );
        check(
            "alter table p attach partition c for values from (' NOW ') to (maxvalue)",
            None,
        );
        check(
            "alter table p attach partition c for values from (current_date) to (maxvalue)",
            None,
        );
        check("alter table p attach partition c for values in ('$lockkeeper$')", None);
    }

    #[test]
    fn questions_and_guards_are_one_statement_each() {
        let question = Question {
            parent: 5,
            child: 6,
            rest: 0,
            bound: "FOR VALUES IN ('it''s {state}')".to_string(),
        };
        let one = |sql: &str| {
            let parsed = pg_query::parse(sql, pg_query::ParserOptions::DEFAULT).unwrap();
            assert_eq!(parsed.protobuf.stmts.len(), 1, "{sql}");
        };
        one(&question.sql());
        assert!(question.sql().contains("it''''s {state}"));
        assert!(question.clone().decode(None).failure.is_some());
        let bounds = Bounds {
            question,
            state: Some("x".to_string()),
            ..Bounds::default()
        };
        one(&bounds.guard(&["SELECT true".to_string()]).unwrap());
        assert!(Bounds::failed(String::new()).guard(&[]).is_none());
    }
}
