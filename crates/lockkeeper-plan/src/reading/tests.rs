//! What each text is read as.

use super::*;
use crate::catalog::Name;
use crate::gate::{Gate, gate, may_execute_prepared, may_insert, may_move_names, may_use_prepared};
use crate::statement::alter::{AlterText, alter_actions};
use crate::statement::tables_created;
use proptest::prelude::*;

#[test]
fn what_may_give_names_another_meaning() {
    let check = |text: &str, expect: bool| assert_eq!(may_move_names(text.as_bytes()), expect, "{text:?}");
    for text in [
        "SET search_path = a",
        "SELECT set_config('search_path', 'a', true)",
        "SELECT set_config('SEARCH_Path', 'a', true)",
        "set role a",
        "RESET ALL",
        "SELECT 1; SET SCHEMA 'a'",
        "DISCARD ALL",
    ] {
        check(text, true);
    }
    for text in [
        "",
        "_path",
        "SELECT search, _path FROM t",
        "SELECT 'role'",
        "SELECT 1;",
        "SET work_mem = '1MB'",
        "SELECT _",
    ] {
        check(text, false);
    }
}

#[test]
fn gate_by_first_word() {
    let check = |text: &str, expect: Gate| assert_eq!(gate(text.as_bytes()), expect, "{text:?}");
    for text in [
        "",
        " ",
        ";",
        " ; ;\n",
        "-- only a comment",
        "/* a /* b */ c */",
        "select 1",
        "SeLeCt 1;",
        "insert into t values (1)",
        "values (1)",
        "table t",
        "show all",
        "fetch 1 from c",
        "move c",
        "declare c cursor for select 1",
        "close c",
        "listen c",
        "notify c",
        "unlisten *",
        "savepoint a",
        "release a",
        "set a = 1",
        "reset a",
        "discard all",
        "deallocate a",
        "prepare a as select 1",
        "prepare transactions as select 1",
        "execute a",
        "copy t from stdin",
        "with a as (select 1) select 1",
        "with a as (select up, date from dele_te) select 1",
        "explain analyze create table t as select 1",
        "analyze t",
        "checkpoint",
        "call p()",
        "load 'x'",
        "(select 1)",
        "rollback to a",
        "rollback work to savepoint a",
        "ROLLBACK/**/TRANSACTION--x\nTO a",
        "commit prepared 'a'",
        "rollback prepared 'a'",
        "select ';'",
        "select ';', \"a;b\";",
        "select 'it''s; fine'; -- done",
        "select 1; select 2",
        "select ';'; insert into t values (';') ; ;",
        "select $1; select $2",
        ";;select 1",
        "/* ; ' */ select 1",
        "insert into t values (E'\\'')",
        "select '\\';",
        "select 1;\n /* a; ' */ -- b",
    ] {
        check(text, Gate::Forward);
    }
    for text in ["begin", "BEGIN;", "start transaction read only", "/**/begin"] {
        check(text, Gate::Begin);
    }
    for text in [
        "commit",
        "end;",
        "abort",
        "rollback",
        "rollback work",
        "prepare transaction 'a'",
        "Rollback And Chain ;",
        "commit;-- x",
    ] {
        check(text, Gate::End);
    }
    for text in [
        "with a as (select 1) update t set b = 1",
        "WITH a AS (select 1) DeLeTe from t",
        "with a as (select 1) select 1 from b for update",
        "call LockKeeper.resume(7)",
        "drop table t",
        "update t set a = 1",
        "delete from t",
        "vacuum",
        "do $$ begin end $$",
        "lock t",
        "grant a to b",
        "selecty",
        "select$1",
        "sélect 1",
        "begin; select 1; commit",
        "select 1; begin",
        "select 1; drop table t",
        "select ';' ; drop table t",
        ";drop table t",
        "select 1; /*",
        "/*",
        "select '; x",
        "select \"; x",
        "select '\\'; drop table t; --'",
        "select $$;$$",
        "select $a$;$a$",
        "select 1; /* */ drop table t",
        "select '; -- '; drop table t",
        "select ' ; /* '; drop table t; select ' */'",
        "select 5 >--;\n 2; drop table t --",
        "select 5 >/*;*/ 2",
        "prepare transaction as select 1",
        "copy t from stdin; drop table t",
        "select a$b$;$b$",
        "\u{feff}select 1",
        "select 1; prepare transaction 'a'",
        "explain; drop table t",
        "(select 1); drop table t",
        "select e'a'\n'\\'' ; drop table t; --'",
        "-- a\rdrop table t",
        "-- a\n/* b; */ select 1 -- ; drop table t",
        "create schema a; select 1",
    ] {
        check(text, Gate::Read);
    }
    assert_eq!(gate(b"select '\xff\xfe'; drop table t"), Gate::Read);
    assert_eq!(gate(b"select '\xff;\xfe'"), Gate::Forward);
    assert_eq!(gate(b"\xff"), Gate::Read);
}

/// What the gate forwards is of these kinds: the property that the whole proxy rests on.
fn never_touched(node: &NodeEnum) -> bool {
    use NodeEnum as N;
    match node {
        N::TransactionStmt(transaction) => {
            matches!(
                kind_of(node, is_judged(body::of(node, read_code).as_ref())),
                Kind::Harmless
            ) && transaction.kind != 0
        }
        N::VacuumStmt(vacuum) => !vacuum.is_vacuumcmd,
        N::SelectStmt(_) | N::InsertStmt(_) => {
            matches!(
                kind_of(node, is_judged(body::of(node, read_code).as_ref())),
                Kind::Harmless
            )
        }
        N::CopyStmt(_) | N::ExplainStmt(_) | N::VariableSetStmt(_) => true,
        N::VariableShowStmt(_) | N::PrepareStmt(_) | N::ExecuteStmt(_) | N::DeallocateStmt(_) | N::DiscardStmt(_) => {
            true
        }
        N::ListenStmt(_) | N::UnlistenStmt(_) | N::NotifyStmt(_) | N::DeclareCursorStmt(_) | N::FetchStmt(_) => true,
        N::ClosePortalStmt(_) | N::ConstraintsSetStmt(_) | N::LoadStmt(_) | N::CallStmt(_) | N::CheckPointStmt(_) => {
            true
        }
        _ => false,
    }
}

fn gate_agrees_with_grammar(text: &str) {
    gate_agrees(text, false);
    gate_agrees(text, true);
}

fn gate_agrees(text: &str, escapes: bool) {
    let said = gate(text.as_bytes());
    if said == Gate::Read {
        return;
    }
    let Ok(tree) = parse(text, escapes) else {
        return;
    };
    let nodes: Vec<_> = tree
        .stmts
        .iter()
        .filter_map(|raw| raw.stmt.as_ref()?.node.as_ref())
        .collect();
    let kinds: Vec<_> = nodes
        .iter()
        .map(|node| kind_of(node, is_judged(body::of(node, read_code).as_ref())))
        .collect();
    match said {
        Gate::Forward => assert!(nodes.iter().all(|node| never_touched(node)), "{text:?} is {kinds:?}"),
        Gate::Begin => assert!(matches!(kinds[..], [Kind::Begin { .. }]), "{text:?} is {kinds:?}"),
        Gate::End => assert!(
            matches!(kinds[..], [Kind::Commit { .. } | Kind::Rollback { .. }]),
            "{text:?} is {kinds:?}"
        ),
        Gate::Read => {}
    }
}

/// Pieces from which texts with hidden statements are made.
const PIECES: &[&str] = &[
    "select 1",
    "SELECT",
    "drop table t",
    "drop table t",
    "begin",
    "commit",
    "rollback",
    "rollback to",
    "prepare",
    "transaction",
    "as",
    "'a'",
    "1",
    "insert into t values (1)",
    "a",
    "'",
    "''",
    "\"",
    "\"\"",
    ";",
    ";",
    ";",
    " ",
    " ",
    "\n",
    "\r",
    "\t",
    "\u{b}",
    "\u{c}",
    "--",
    "-",
    "/*",
    "*/",
    "/",
    "*",
    "$",
    "$$",
    "$a$",
    "$1",
    "\\",
    "\\'",
    "e'",
    "E'",
    "u&'",
    "U&\"",
    "uescape '!'",
    "n'",
    "x'1'",
    "b'1'",
    "(",
    ")",
    "[",
    "]",
    ",",
    ".",
    "::int",
    "+",
    ">",
    "<",
    "=",
    "@",
    "~",
    "é",
    "\u{a0}",
    "\u{2028}",
    "with a as (",
    "explain",
    "copy t from stdin",
    "analyze",
    "prepared 'a'",
    "work",
    "set a = 1",
    "0x",
    "1e",
    "_",
];

/// Everything that can open or close something, up to three on each side of a second statement.
#[test]
fn no_quote_or_comment_hides_a_statement() {
    let marks = ["\\'", "'", "\"", "--", "\n", "/*", "*/", "$$", "\\", "e'"];
    let mut runs = vec![String::new()];
    let mut from = 0;
    for _ in 0..3 {
        let to = runs.len();
        for i in from..to {
            runs.extend(
                marks
                    .iter()
                    .map(|mark| format!("{}{mark}", runs[i]))
                    .collect::<Vec<_>>(),
            );
        }
        from = to;
    }
    for before in &runs {
        for after in &runs {
            gate_agrees_with_grammar(&format!("select {before};drop table t {after}"));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn gate_never_hides_a_statement(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..14)) {
        gate_agrees_with_grammar(&pieces.concat());
    }

    #[test]
    fn gate_never_hides_a_statement_in_a_select(
        before in prop::collection::vec(prop::sample::select(PIECES), 0..5),
        after in prop::collection::vec(prop::sample::select(PIECES), 0..5),
    ) {
        gate_agrees_with_grammar(&format!("select '{}'{}; drop table t", before.concat(), after.concat()));
        gate_agrees_with_grammar(&format!("select 1 {} ; drop table t {}", before.concat(), after.concat()));
    }

    #[test]
    fn nothing_panics(bytes in prop::collection::vec(prop::sample::select(b"'\"$;-/*\\eE \nas1(\xff\0".to_vec()), 0..24)) {
        gate(&bytes);
        let _ = read(&bytes, true);
        let _ = read(&bytes, false);
    }

    #[test]
    fn every_offset_is_true(pieces in prop::collection::vec(prop::sample::select(PIECES), 0..10)) {
        let text = pieces.concat();
        for statement in read(text.as_bytes(), true).unwrap_or_default() {
            prop_assert_eq!(text.get(statement.offset..statement.offset + statement.sql.len()), Some(statement.sql.as_str()));
        }
    }
}

/// `offset kind sql`, one statement a line.
fn rendered(text: &str, standard_conforming_strings: bool) -> String {
    match read(text.as_bytes(), standard_conforming_strings) {
        Ok(statements) => {
            let line = |s: &Statement| format!("{} {:?} {}", s.offset, s.kind, s.sql);
            statements.iter().map(line).collect::<Vec<_>>().join("|")
        }
        Err(error) => format!("{error:?}"),
    }
}

#[test]
fn read_splits_and_keeps_comments() {
    let check = |text: &str, expect: &str| assert_eq!(rendered(text, true), expect, "{text:?}");
    check("", "");
    check(" ; -- x\n;", "");
    check("  drop table t ; ", "2 Ddl drop table t");
    check("-- a\ndrop table t -- b\n", "0 Ddl -- a\ndrop table t -- b");
    check(
        "select 1; /* x; */ drop table t;;\n-- é\nupdate t set a=1",
        "0 Harmless select 1|10 Ddl /* x; */ drop table t|33 Write \n-- é\nupdate t set a=1"
            .replace("33 Write \n", "34 Write ")
            .as_str(),
    );
    check("begin; commit and chain; rollback; abort and chain; start transaction read only", "0 Begin { plain: true }|7 Commit { chain: true }|25 Rollback { chain: false }|35 Rollback { chain: true }|52 Begin { plain: false }".split('|').zip(["begin", "commit and chain", "rollback", "abort and chain", "start transaction read only"]).map(|(a, b)| format!("{a} {b}")).collect::<Vec<_>>().join("|").as_str());
    check(
        "delete from t where current of c",
        "0 Harmless delete from t where current of c",
    );
    check("call lockkeeper.resume(7)", "0 Resume(7) call lockkeeper.resume(7)");
    check(
        "call lockkeeper.resume(x => 7)",
        "0 Harmless call lockkeeper.resume(x => 7)",
    );
    check("vacuum full t", "0 Ddl vacuum full t");
    check(
        "vacuum (full off, analyze) t",
        "0 Harmless vacuum (full off, analyze) t",
    );
    check("vacuum (full 1) t", "0 Ddl vacuum (full 1) t");
    check("create schema a", "0 Harmless create schema a");
    check(
        "create schema a create table t (b int)",
        "0 Ddl create schema a create table t (b int)",
    );
    check(
        "create function f() returns int begin atomic select 1; select 2; end; drop table t",
        "0 Harmless create function f() returns int begin atomic select 1; select 2; end|70 Ddl drop table t",
    );
    check("drop tabel t", "Syntax(\"syntax error at or near \\\"tabel\\\"\")");
    check("asdf; drop table t", "Syntax(\"syntax error at or near \\\"asdf\\\"\")");
    assert_eq!(read(b"a\0", true).unwrap_err(), Unreadable::Encoding);
    assert_eq!(read(b"select '\xff'", true).unwrap_err(), Unreadable::Encoding);
}

#[test]
fn read_takes_update_limit() {
    let check = |text: &str, expect: Option<(&str, Option<&str>, &str)>| {
        let statements = read(text.as_bytes(), true);
        let got = statements
            .as_ref()
            .ok()
            .map(|statements| match &statements.last().unwrap().kind {
                Kind::LimitedWrite(limited) => {
                    let sql = &statements.last().unwrap().sql;
                    (
                        &sql[limited.clause.clone()],
                        limited.order_by.as_deref(),
                        limited.limit.as_str(),
                    )
                }
                other => panic!("{text:?} is {other:?}"),
            });
        assert_eq!(got, expect, "{text:?}");
    };
    check(
        "update t set a = 1 where b is null limit 10000",
        Some(("limit 10000", None, "10000")),
    );
    check(
        "UPDATE t SET a = 1 LIMIT $1 RETURNING id",
        Some(("LIMIT $1", None, "$1")),
    );
    check(
        "UPDATE t SET a = 1 RETURNING id LIMIT $1 -- x",
        Some(("LIMIT $1", None, "$1")),
    );
    check(
        "delete from t where a in (select 1 limit 3) order by b desc, c limit 1 + (2) /* x */;",
        Some(("order by b desc, c limit 1 + (2)", Some("b desc, c"), "1 + (2)")),
    );
    check(
        "update t set a = t.limit limit 5 returning a as limit",
        Some(("limit 5", None, "5")),
    );
    check("select 1; delete from t limit 5", Some(("limit 5", None, "5")));
    check(
        "update t set a = arr[1] order by (select 1 limit 1) limit 2::bigint",
        Some((
            "order by (select 1 limit 1) limit 2::bigint",
            Some("(select 1 limit 1)"),
            "2::bigint",
        )),
    );
    for refused in [
        "update t set a = 1 limit all",
        "update t set a = 1 limit null",
        "update t set a = 1 limit 5 offset 1",
        "update t set a = 1 limit 5, 10",
        "update t set a = 1 fetch first 5 rows only",
        "update t set a = 1 limit 5 where b = 1",
        "update t set a = 1 limit 5 limit 6",
        "update t set a = 1 limit",
        "update t set a = 1 order by a returning b limit 5",
        "update t set a = 1 limit 5 for update",
        "update t set a = 1 order limit 5",
        "update t set a = 1 order by a",
        "insert into t default values limit 5",
        "update t set a = 1 limit 5; asdf",
        "asdf; update t set a = 1 limit 5",
        "update t set a = 1 limit 5 union select 1",
        "update t set a = 1 limit 5) select (1",
        "drop table t limit 5",
        "update t set a = 1 limit 5 returning",
    ] {
        check(refused, None);
    }
}

#[test]
fn read_under_nonstandard_strings() {
    let check = |text: &str, expect: &str| assert_eq!(rendered(text, false), expect, "{text:?}");
    check("select 'a'; drop table t", "0 Harmless select 'a'|12 Ddl drop table t");
    // Here the quote is escaped, so everything is one string.
    check(
        "select '\\'; drop table t; --'",
        "0 Harmless select '\\'; drop table t; --'",
    );
    check(
        "select '\\''; drop table t; --'",
        "0 Harmless select '\\''|13 Ddl drop table t",
    );
    check("update t set a = 'b\\\\c'", "0 MixedWrite update t set a = 'b\\\\c'");
    assert!(rendered("comment on table t is 'a\\'b'", false).contains("standard_conforming_strings"));
    // The setting must not leak into the next text, not even after a failure.
    assert!(rendered("asdf '\\'", false).starts_with("Syntax"));
    assert_eq!(significant_tokens("'\\' ; 'a'").map(|t| t.len()), Some(3));
    assert!(rendered("select '\\'; drop table t; --'", true).contains("Ddl drop table t"));
}

#[test]
#[expect(clippy::disallowed_types, reason = "a thread with a small stack")]
fn hostile_texts_are_refused_quickly() {
    // The stack that a worker thread has: 2 MB.
    let work = || {
        let deep = |open: &str, close: &str, n: usize| format!("select {}1{}", open.repeat(n), close.repeat(n));
        for text in [
            deep("(", ")", 10_000),
            deep("case when ", " then 1 end", 10_000),
            deep("array[", "]", 10_000),
            deep("(select ", ")", 10_000),
            deep("- ", "", 50_000),
            deep("not ", "", 50_000),
        ] {
            let _ = read(text.as_bytes(), true);
        }
        let plus = format!("select 1{}", " + 1".repeat(60));
        assert!(matches!(read(plus.as_bytes(), true).unwrap()[0].kind, Kind::Harmless));
        let mixed = format!("drop table t; -- x\n{plus}; truncate t");
        let kinds: Vec<_> = read(mixed.as_bytes(), true)
            .unwrap()
            .iter()
            .map(|s| format!("{:?} {}", s.kind, s.offset))
            .collect();
        assert_eq!(
            kinds,
            [
                "Ddl 0".to_string(),
                "Harmless 14".to_string(),
                format!("Ddl {}", 14 + 5 + plus.len() + 2)
            ]
        );
        let ddl = format!("alter table t add check (a > 1{})", " + 1".repeat(60));
        assert_eq!(
            read(ddl.as_bytes(), true).unwrap_err(),
            Unreadable::Syntax(TOO_DEEP.into())
        );
        for write in ["update only s.t set a = 1", "delete from s.t where a = 1"] {
            let deep = format!("{write}{}", " + 1".repeat(3000));
            let statements = read(deep.as_bytes(), true).unwrap();
            assert!(matches!(statements[0].kind, Kind::MixedWrite));
            let table = Name {
                schema: Some("s".into()),
                name: "t".into(),
            };
            assert_eq!(crate::mixed::all(&statements[0].node), Some(vec![table]));
        }
        let joins = format!(
            "create or replace view v (a) as select 1 from t{}",
            " join t on true".repeat(500)
        );
        let statements = read(joins.as_bytes(), true).unwrap();
        assert!(matches!(&statements[0].node, NodeEnum::ViewStmt(_)));
        assert_eq!(statements[0].sql, joins);
        let writes = format!(
            "create table n as with d as (delete from t returning 1) select 1{}",
            " + 1".repeat(60)
        );
        assert!(read(writes.as_bytes(), true).is_err());
        for text in [
            "/*/".repeat(30_000),
            "/*".repeat(40),
            format!("select {}1", "+".repeat(80_000)),
            "/**/".repeat(60_000),
            format!("select 1 {}", "@-".repeat(40_000)),
        ] {
            assert_eq!(
                read(text.as_bytes(), true).unwrap_err(),
                Unreadable::TooLarge,
                "{}",
                &text[..20]
            );
        }
        let ordinary = format!(
            "/*{}*/ insert into t values ({}); -- {}\ndrop table t",
            "*".repeat(5000),
            "'/*', $a$/*$a$, E'\\'/*', ".repeat(500) + "1",
            "-=".repeat(5000)
        );
        assert_eq!(read(ordinary.as_bytes(), true).unwrap().len(), 2);
        assert_eq!(
            read(&vec![b' '; TEXT_BYTES_MAX + 1], true).unwrap_err(),
            Unreadable::TooLarge
        );
    };
    std::thread::Builder::new()
        .stack_size(2 << 20)
        .spawn(work)
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_word_within_others_is_no_execute() {
    for text in [
        "EXECUTE p",
        " /* x */ execute p(1);",
        "explain analyze execute p",
        "create table t as execute p",
    ] {
        assert!(
            may_use_prepared(text.as_bytes()) && may_execute_prepared(text.as_bytes()),
            "{text}"
        );
    }
    for text in [
        "deallocate p",
        "DISCARD ALL",
        "select 1; execute p",
        "begin; deallocate all",
    ] {
        assert!(may_use_prepared(text.as_bytes()), "{text}");
    }
    for text in [
        "select executed_at from jobs",
        "insert into t (executed_at) values (now());",
        "update t set execute = 1",
    ] {
        assert!(!may_use_prepared(text.as_bytes()), "{text}");
    }
    for text in [
        "insert into t values (1)",
        "with a as (select 1) insert into t select * from a",
        "select 1; insert into t values (1)",
    ] {
        assert!(may_insert(text.as_bytes()), "{text}");
    }
    assert!(!may_insert(b"select inserted_at from t;") && !may_insert(b"update t set inserted = 1"));
}

#[test]
fn alter_table_comes_apart() {
    let check = |sql: &str, expect: Option<(&str, &[&str])>| {
        let statements = read(sql.as_bytes(), true).unwrap();
        let got = alter_actions(&statements[0]);
        let expect = expect.map(|(head, actions)| AlterText {
            head: head.into(),
            actions: actions.iter().map(|a| a.to_string()).collect(),
            spans: got.as_ref().map(|got| got.spans.clone()).unwrap_or_default(),
        });
        if let Some(text) = &got {
            let at = |(span, action): (&std::ops::Range<usize>, &String)| sql[span.clone()] == **action;
            assert!(text.spans.iter().zip(&text.actions).all(at), "{sql:?}");
        }
        assert_eq!(got, expect, "{sql:?}");
    };
    check("alter table t add a int", Some(("alter table t", &["add a int"])));
    // A name with an escape character of its own is one word.
    for name in [
        r#"U&"t!0061" UESCAPE '!'"#,
        r#"s.U&"t!0061" uescape '!'"#,
        r#"(U&"s" UESCAPE '!' . t)"#,
    ] {
        let only = if name.starts_with('(') { "ONLY " } else { "" };
        let head = format!("ALTER TABLE {only}{name}");
        for actions in [&["ADD a int"][..], &["ADD a int", "DROP b"]] {
            check(&format!("{head} {}", actions.join(", ")), Some((&head, actions)));
        }
    }
    check(
        "-- x\nALTER TABLE IF EXISTS ONLY s.\"t,u\" -- y\n ADD a numeric(1,2) /* z, */ DEFAULT f(1,2), -- w\n DROP COLUMN b, ADD CHECK (a IN (1,2)) -- end",
        Some((
            "ALTER TABLE IF EXISTS ONLY s.\"t,u\"",
            &[
                "ADD a numeric(1,2) /* z, */ DEFAULT f(1,2)",
                "DROP COLUMN b",
                "ADD CHECK (a IN (1,2))",
            ],
        )),
    );
    check(
        "alter table t* alter a set not null, alter a set default array[1,2]",
        Some((
            "alter table t*",
            &["alter a set not null", "alter a set default array[1,2]"],
        )),
    );
    check(
        "alter table only (t) set (fillfactor=1,autovacuum_enabled=off), owner to b",
        Some((
            "alter table only (t)",
            &["set (fillfactor=1,autovacuum_enabled=off)", "owner to b"],
        )),
    );
    check(
        "alter table db.s.t enable trigger all",
        Some(("alter table db.s.t", &["enable trigger all"])),
    );
    check(
        "alter table \"table\" drop a",
        Some(("alter table \"table\"", &["drop a"])),
    );
    check("alter table index drop a", Some(("alter table index", &["drop a"])));
    check(
        "alter materialized view v cluster on i, set (fillfactor=7)",
        Some(("alter materialized view v", &["cluster on i", "set (fillfactor=7)"])),
    );
    check(
        "alter index i attach partition p",
        Some(("alter index i", &["attach partition p"])),
    );
    check("alter table t rename to u", None);
    check("drop table t", None);
}

#[test]
fn created_tables() {
    let check = |sql: &str, expect: &[(Option<&str>, &str)]| {
        let statements = read(sql.as_bytes(), true).unwrap();
        let got: Vec<_> = tables_created(&statements[0])
            .into_iter()
            .map(|n| (n.schema, n.name))
            .collect();
        let expect: Vec<_> = expect
            .iter()
            .map(|(s, n)| (s.map(str::to_string), n.to_string()))
            .collect();
        assert_eq!(got, expect, "{sql:?}");
    };
    check("create table if not exists \"S\".t (a int)", &[(Some("S"), "t")]);
    check("create temp table t as select 1", &[(None, "t")]);
    check("select 1 into a.b union select 2", &[(Some("a"), "b")]);
    check("select 1", &[]);
    check("alter table t add a int", &[]);
}
