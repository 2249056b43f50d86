//! Several statements in one simple query.

use super::common::{QUICK, Stage, on_both};
use super::{check, query};

on_both!(a_message_of_several_statements_is_one_transaction,);

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
