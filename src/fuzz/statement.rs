//! SQL text: the gate against the server's own grammar, what is read against the text, splices against what they may change.

use crate::plan::batches::shape::shape;
use crate::plan::facts::Facts;
use crate::plan::gate::{Gate, gate, may_move_names, may_use_prepared};
use crate::plan::policy::Policy;
use crate::plan::reading::read;
use crate::plan::request::Request;
use crate::plan::rules::RULES;
use crate::plan::statement::alter::alter_actions;
use crate::plan::statement::{Kind, Statement, Unreadable, prepared, tables_created};
use crate::plan::{Mode, Place, Plan, Step, plan, splice};
use pg_query::protobuf::{ScanToken, Token};
use std::mem::discriminant;
use std::sync::LazyLock;

static POLICIES: LazyLock<Vec<Policy>> = LazyLock::new(|| {
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    let embedded = |policy| Policy::embedded(policy, &names).expect("a policy of ours");
    ["observe", "standard", "strict"].map(embedded).into()
});

pub fn check(text: &[u8]) {
    let gated = gate(text);
    may_move_names(text);
    for conforming in [true, false] {
        let statements = read(text, conforming);
        if gated != Gate::Read {
            let shown = text.escape_ascii();
            let passes = |s: &Statement| passes(gated, s);
            let fine = statements.as_ref().is_ok_and(|all| all.iter().all(passes));
            // What the grammar refuses, the server refuses.
            let refused = matches!(
                statements,
                Err(Unreadable::Syntax(_) | Unreadable::Encoding | Unreadable::TooLarge | Unreadable::Name(_))
            );
            assert!(
                fine || refused,
                "{gated:?} for {shown}, read as {:?}",
                kinds(statements.as_deref())
            );
        }
        let (Ok(statements), Ok(text)) = (statements, std::str::from_utf8(text)) else {
            continue;
        };
        for statement in &statements {
            let end = statement.offset + statement.sql.len();
            assert_eq!(
                text.get(statement.offset..end),
                Some(statement.sql.as_str()),
                "not of the text"
            );
        }
        if conforming {
            statements.iter().for_each(planned);
            nothing_is_left_out(text, &statements);
            statements.iter().for_each(alone);
            statements.iter().for_each(spliced);
            same_shape(text, &statements);
        }
        uses_prepared(text, &statements);
    }
}

fn kinds<'a>(statements: Result<&'a [Statement], &'a Unreadable>) -> Vec<String> {
    match statements {
        Ok(all) => all.iter().map(|s| format!("{:?}: {}", s.kind, s.sql)).collect(),
        Err(unreadable) => vec![unreadable.why().to_string()],
    }
}

/// Whether a statement may be where the gate let the text pass unread.
fn passes(gated: Gate, statement: &Statement) -> bool {
    matches!(
        (&statement.kind, gated),
        (Kind::Harmless, _)
            | (Kind::Begin { .. }, Gate::Begin)
            | (Kind::Commit { .. } | Kind::Rollback { .. }, Gate::End)
    )
}

fn tokens(text: &str) -> Option<Vec<ScanToken>> {
    // Of no tokens at all pg_query makes a slice at a null pointer.
    let blank = text.trim_matches([' ', '\t', '\n', '\r', '\x0b', '\x0c']).is_empty();
    if blank {
        Some(Vec::new())
    } else {
        pg_query::scan_tokens(text).ok()
    }
}

/// Every token but comments and separators belongs to one statement.
fn nothing_is_left_out(text: &str, statements: &[Statement]) {
    let Some(tokens) = tokens(text) else { return };
    let mut rest = statements.iter().peekable();
    for token in tokens {
        if matches!(token.token(), Token::SqlComment | Token::CComment) {
            continue;
        }
        let (start, end) = (token.start as usize, token.end as usize);
        while rest.next_if(|s| s.offset + s.sql.len() <= start).is_some() {}
        let within = rest
            .peek()
            .is_some_and(|s| s.offset <= start && end <= s.offset + s.sql.len());
        assert!(
            within || token.token() == Token::Ascii59,
            "{:?} belongs to no statement",
            text.get(start..end)
        );
    }
}

/// A statement means the same without those around it.
fn alone(statement: &Statement) {
    match read(statement.sql.as_bytes(), true).as_deref() {
        Ok([again]) => assert!(
            again.sql == statement.sql
                && again.offset == 0
                && discriminant(&again.kind) == discriminant(&statement.kind)
                && discriminant(&again.node) == discriminant(&statement.node),
            "{:?} became {:?}",
            statement.sql,
            again.sql
        ),
        Ok(several) => panic!("{:?} became {} statements", statement.sql, several.len()),
        Err(unreadable) => panic!("{:?} alone: {}", statement.sql, unreadable.why()),
    }
}

/// What SQL-level EXECUTE and DEALLOCATE must not get past.
fn uses_prepared(text: &str, statements: &[Statement]) {
    let used = statements.iter().any(|s| prepared(s).is_some());
    assert!(!used || may_use_prepared(text.as_bytes()), "{text:?}");
}

/// Texts of one shape are one statement with other literals. Only writes are remembered by their shape: of DO, the literal
/// decides what it is.
fn same_shape(text: &str, statements: &[Statement]) {
    let Some(tokens) = tokens(text) else { return };
    let mut other = String::new();
    let mut at = 0;
    for token in tokens {
        let value = match token.token() {
            Token::Sconst => "'another; value -- of /* a string'",
            Token::Iconst => "77",
            Token::Fconst => "7.5e1",
            _ => continue,
        };
        other.push_str(&text[at..token.start as usize]);
        other.push_str(value);
        at = token.end as usize;
    }
    other.push_str(&text[at..]);
    let (mut shapes, mut learned) = ((Vec::new(), Vec::new()), true);
    learned &= shape(text.as_bytes(), &mut shapes.0) && shape(other.as_bytes(), &mut shapes.1);
    if !learned || shapes.0 != shapes.1 {
        return;
    }
    // Some literals the grammar itself reads.
    let Ok(others) = read(other.as_bytes(), true) else {
        return;
    };
    let write = |all: &[Statement]| matches!(all, [one] if matches!(one.kind, Kind::Write));
    assert!(write(&others) == write(statements), "one shape: {text:?} and {other:?}");
}

fn is_one_statement(sql: &str) -> bool {
    pg_query::parse(sql, pg_query::ParserOptions::DEFAULT).is_ok_and(|tree| tree.protobuf.stmts.len() == 1)
}

/// `new` is `old` with some words put in, in one place.
fn grown(old: &str, new: &str) {
    let (a, b) = (old.as_bytes(), new.as_bytes());
    let front = a.iter().zip(b).take_while(|(a, b)| a == b).count();
    let back = a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a == b).count();
    assert!(b.len() >= a.len() && front + back >= a.len(), "{old:?} became {new:?}");
    assert!(is_one_statement(new), "{new:?}");
}

fn spliced(statement: &Statement) {
    let sql = &statement.sql;
    if !matches!(statement.kind, Kind::Ddl) {
        return;
    }
    if let Some(new) = splice::concurrently(sql) {
        // A value `false` is replaced, not added to.
        if !sql.to_ascii_lowercase().contains("concurrently") {
            grown(sql, &new);
        }
        assert_eq!(splice::concurrently(&new).as_ref(), Some(&new));
    }
    for name in ["i", "An \"odd\" name", "select"] {
        if let Some(new) = splice::index_name(sql, name) {
            grown(sql, &new);
            assert_eq!(splice::index_name(&new, "again"), None);
        }
        if let Some(new) = splice::constraint_name(sql, name) {
            grown(sql, &new);
            assert_eq!(splice::constraint_name(&new, "again"), None);
        }
    }
    if let Some(new) = splice::not_valid(sql) {
        grown(sql, &new);
        assert_eq!(splice::not_valid(&new), None);
    }
    for action in alter_actions(statement).into_iter().flat_map(|text| text.actions) {
        assert!(sql.contains(&action));
    }
    tables_created(statement);
}

/// Whatever is decided without a server: what would be run can be read, and what is refused says what to do.
fn planned(statement: &Statement) {
    if !matches!(
        statement.kind,
        Kind::Ddl | Kind::Write | Kind::LimitedWrite(_) | Kind::MixedWrite
    ) {
        return;
    }
    let request = Request::of(statement);
    assert!(is_one_statement(&request.sql()), "{}", request.sql());
    if let Some(sql) = request.ground_sql() {
        assert!(is_one_statement(&sql), "{sql}");
    }
    for policy in POLICIES.iter() {
        for place in [Place::Alone, Place::Block, Place::Pipeline] {
            match plan(statement, &Facts::offline(180_000), policy, place) {
                Plan::Forward { .. } => {}
                Plan::Reject(rejection) => {
                    assert_eq!(rejection.sqlstate.len(), 5);
                    assert!(!rejection.message.is_empty() && !rejection.findings.is_empty());
                }
                Plan::Run(run) => {
                    // One brief step answers with the server's own tag.
                    let brief = |step: &Step| matches!(step.mode, Mode::Brief { .. });
                    assert!(!run.steps.is_empty() && (!run.tag.is_empty() || run.steps.iter().all(brief)));
                    for step in &run.steps {
                        let then = match &step.mode {
                            Mode::Brief { then } | Mode::Long { then } => then.as_slice(),
                            _ => &[],
                        };
                        let texts = then.iter().chain(&step.done_when).chain(&step.rollback);
                        let cleanups = step.cleanup.iter().flat_map(|cleanup| [&cleanup.when, &cleanup.sql]);
                        let own = (!matches!(step.mode, Mode::Batches(_))).then_some(&step.sql);
                        for sql in texts.chain(cleanups).chain(own) {
                            assert!(is_one_statement(sql), "{:?} would run {sql:?}", statement.sql);
                        }
                    }
                }
            }
        }
    }
}
