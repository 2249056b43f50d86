//! What of a text runs in which transaction, as the tools have it.

use super::super::tool::Part;
use super::*;

/// Each part: its transaction, and its pieces trimmed.
fn told(text: &str, parts: &[Part]) -> Vec<String> {
    let piece = |range: &std::ops::Range<usize>| text[range.clone()].trim().replace('\n', " ");
    let one = |part: &Part| {
        let pieces: Vec<String> = part
            .ranges
            .iter()
            .map(piece)
            .filter(|piece| !piece.is_empty())
            .collect();
        let more = if part.with_more { "+" } else { "" };
        format!("{:?}{more}: {}", part.transaction, pieces.join(" | "))
    };
    let parts = parts.iter().map(one);
    parts
        .filter(|part| !part.ends_with(": ") || part.contains('+'))
        .collect()
}

#[test]
fn drizzle_cuts_at_its_breakpoints() {
    let text = "a\n--> statement-breakpoint\nb; c;--> statement-breakpoint\nd";
    assert_eq!(told(text, &drizzle::parts(text)), ["All: a | b; c; | d"]);
}

#[test]
fn supabase_sends_alone_what_no_pipeline_takes() {
    let check = |text: &str, expect: &[&str]| assert_eq!(told(text, &supabase::parts(text)), expect, "{text}");
    check("a; b;", &["Message+: a; b;"]);
    check(
        "a; -- x\nCREATE INDEX CONCURRENTLY i ON t (a); c; d",
        &[
            "Message: a;",
            "Statement: -- x CREATE INDEX CONCURRENTLY i ON t (a);",
            "Message+: c; d",
        ],
    );
    check(
        "drop index concurrently i;",
        &["Statement: drop index concurrently i;", "Message+: "],
    );
    check(
        "REINDEX TABLE CONCURRENTLY t",
        &["Statement: REINDEX TABLE CONCURRENTLY t", "Message+: "],
    );
    check("REINDEX TABLE t", &["Message+: REINDEX TABLE t"]);
}

#[test]
fn atlas_reads_its_directives() {
    let check = |text: &str, expect: &[&str]| {
        assert_eq!(told(text, &atlas::parts(text).expect(text)), expect, "{text}");
    };
    check("a;", &["File: a;"]);
    check(
        "-- atlas:txmode none\n\na; b;",
        &["Statement: -- atlas:txmode none  a; b;"],
    );
    check("-- x\n-- atlas:txmode all\na;", &["All: -- x -- atlas:txmode all a;"]);
    // Not at the beginning.
    check("a;\n-- atlas:txmode none\n", &["File: a; -- atlas:txmode none"]);
    check(
        "-- atlas:delimiter //\n\na ';//' b; c; // d",
        &["File: -- atlas:delimiter //  a ';//' b; c; | d"],
    );
    check(
        "-- atlas:delimiter \\n\\n\n-- atlas:txmode none\n\na;\nb;\n\nc",
        &[
            "Message: -- atlas:delimiter \\n\\n -- atlas:txmode none",
            "Message: a; b;",
            "Message: c",
        ],
    );
    assert!(atlas::parts("-- atlas:txmode nope\n").is_err());
}

#[test]
fn liquibase_runs_each_changeset_by_itself() {
    let check = |text: &str, expect: &[&str]| {
        let text = format!("--liquibase formatted sql\n{text}");
        assert_eq!(told(&text, &liquibase::parts(&text).expect(&text)), expect, "{text}");
    };
    check(
        "x;\n--changeset ann:1\na; b;\n--rollback c;\n-- ChangeSet \"Ann B\":\"id 2\" runInTransaction:false\nd;\n",
        &["File: a; b; --rollback c;", "Statement: d;"],
    );
    check(
        "--changeset a:1 dbms:mysql,oracle\na;\n--changeset a:2 dbms:!mysql\nb;",
        &["File: b;"],
    );
    check(
        "--changeset a:1 dbms:!postgresql\na;\n--changeset a:2 dbms:postgresql,h2\nb;",
        &["File: b;"],
    );
    check(
        "--changeset a:1 splitStatements:false\na; b;\n/\nc",
        &["File: a; b; / c"],
    );
    check(
        "--changeset a:1\na\n/\nb\nGO\nc / d; 'x\n/\n'",
        &["File: a | b | c / d; 'x / '"],
    );
    check(
        "--changeset a:1 endDelimiter:# runInTransaction:false\na; b; $$ # $$\n#\nc;#",
        &["Message: a; b; $$ # $$", "Message: c;"],
    );
    check(
        "--changeset a:1 endDelimiter:\\nGO\na go b\ngo\nc",
        &["File: a go b | c"],
    );
    check("--changeset a:1 endDelimiter:\"//\"\na;// b", &["File: a; | b"]);
    check(
        "--changeset a:1\na;\n--ignoreLines:start\nx;\n--ignoreLines:end\nb;\n--ignoreLines:1\ny;\nc;",
        &["File: a; | b; | c;"],
    );
    let broken = |text: &str, line: &str| {
        let error = liquibase::parts(&format!("-- liquibase formatted sql\n{text}")).expect_err(text);
        assert!(error.contains(line), "{text}: {error}");
    };
    broken("--changeset ann\na;", "line 2: a changeset is written as");
    broken("\n-changeset ann:1\na;", "line 3: a changeset begins with two dashes");
    broken(
        "--changeset a:1 runInTransaction:no\na;",
        "runInTransaction is true or false",
    );
    broken("--changeset a:1 endDelimiter:[;/]\na;", "is a pattern");
    broken("a;", "has no line `--changeset author:id`");
    // One that is not formatted is run as it is.
    assert_eq!(told("a;", &liquibase::parts("a;").expect("parts")), ["File: a;"]);
}
