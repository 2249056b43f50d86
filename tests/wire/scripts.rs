//! Several statements in one simple query.

use super::{check, query};
use lockkeeper_testkit::raw::{command_tags, frame};
use lockkeeper_testkit::{QUICK, Stage, on_both};

on_both!(
    a_message_of_several_statements_is_one_transaction,
    a_commit_that_fails_takes_the_last_command_tag_with_it,
);

pub fn a_message_of_several_statements_is_one_transaction(major: u32) {
    let stage = Stage::with(major, "script", QUICK);
    check(
        &stage,
        "",
        &[
            &[query(
                "CREATE TABLE t (id int PRIMARY KEY); ALTER TABLE t ADD COLUMN v text; INSERT INTO t VALUES (1, 'a'); SELECT * FROM t",
            )],
            &[query("ALTER TABLE t ADD COLUMN w int; SELECT 1/0; SELECT 2")],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY 1",
            )],
            &[query("BEGIN; ALTER TABLE t ADD COLUMN x int; COMMIT; SELECT x FROM t")],
            &[query("SELECT 1; BEGIN; ALTER TABLE t ADD COLUMN y int; SELECT 2")],
            &[query("ROLLBACK")],
            &[query(
                "INSERT INTO t VALUES (2, 'b'); COMMIT; ALTER TABLE t ADD COLUMN z int; SELECT 1/0",
            )],
            &[query("SELECT id, v FROM t ORDER BY id")],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY 1",
            )],
            &[query("ALTER TABLE t ADD COLUMN z int; ROLLBACK; SELECT 1")],
            &[query("SELECT 1; COMMIT AND CHAIN; ALTER TABLE t ADD COLUMN z int")],
            &[query("BEGIN")],
            &[query("SELECT 1/0")],
            &[query("ALTER TABLE t ADD COLUMN z int; ROLLBACK")],
            &[query("ROLLBACK; ALTER TABLE t ADD COLUMN q int; SELECT q FROM t")],
            &[query("SELECT 1; ALTER TABLE t WOBBLE")],
            &[query(
                "/* one */ ALTER TABLE t ADD COLUMN r int /* two */; -- three\n COMMENT ON TABLE t IS 'é;ü'; ; ",
            )],
            &[query("SELECT obj_description('t'::regclass)")],
        ],
    );
}

/// The server commits before it says that the last statement is complete.
pub fn a_commit_that_fails_takes_the_last_command_tag_with_it(major: u32) {
    let stage = Stage::with(major, "deferred", QUICK);
    let broken = "INSERT INTO child VALUES (7)";
    let played = check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY); INSERT INTO t VALUES (1);
         CREATE TABLE child (id int REFERENCES t DEFERRABLE INITIALLY DEFERRED);
         CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE NOTICE 'late'; RETURN NULL; END $$;
         CREATE TABLE told (id int);
         CREATE CONSTRAINT TRIGGER late AFTER INSERT ON told DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late()",
        &[
            &[query(&format!("{broken}; ALTER TABLE t ADD COLUMN a int; SELECT 1; SELECT 2"))],
            &[query(&format!("ALTER TABLE t ADD COLUMN a int; SELECT 1; {broken}"))],
            &[query(&format!("SELECT 1; {broken}; ALTER TABLE t ADD COLUMN a int; ;"))],
            &[query("ALTER TABLE t ADD COLUMN a int; COPY child FROM STDIN"), frame(b'd', b"9\n"), frame(b'c', b"")],
            // Ended by the client's own word: the COMMIT is a statement like others.
            &[query(&format!("BEGIN; {broken}; ALTER TABLE t ADD COLUMN a int; COMMIT; SELECT 5"))],
            // A deferred trigger speaks before the last tag, and what was right is committed.
            &[query("INSERT INTO told VALUES (1); ALTER TABLE t ADD COLUMN b int; SELECT 3")],
            &[query("SELECT b FROM t"), query("SELECT a FROM t"), query("SELECT count(*) FROM child")],
            &[query("INSERT INTO told VALUES (2); ALTER TABLE t ADD COLUMN c int")],
        ],
    );
    assert_eq!(command_tags(&played[0]), ["INSERT 0 1", "ALTER TABLE", "SELECT 1"]);
    // The audit log tells the same of the last statement.
    let ends: Vec<_> = stage
        .audit_lines()
        .into_iter()
        .filter(|line| line["event"] == "statement")
        .collect();
    let third = &ends[2];
    assert_eq!(
        (third["outcome"].as_str(), third["sqlstate"].as_str()),
        (Some("failed"), Some("23503")),
        "{third}"
    );
    assert!(
        third["error"]
            .as_str()
            .is_some_and(|error| error.contains("violates foreign key")),
        "{third}"
    );
    let last = &ends[ends.len() - 1];
    assert_eq!(
        (last["statement"].as_str(), last["outcome"].as_str()),
        (Some("ALTER TABLE t ADD COLUMN c int"), Some("done"))
    );
}
