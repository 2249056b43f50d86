//! A rule fires in every place it can, and the client sees nothing of it but its effect.

use super::common::raw::{bind, close, describe, execute, parse, sync};
use super::common::{QUICK, Stage, on_both};
use super::{check, query};

on_both!(what_the_proxy_puts_in_between_is_not_seen,);

/// A rule fires in every place it can; the client's unnamed statement, portals and state are what they would have been.
pub fn what_the_proxy_puts_in_between_is_not_seen(major: u32) {
    let stage = Stage::with(major, "unseen", QUICK);
    check(
        &stage,
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'v' || i FROM generate_series(1, 100) i",
        &[
            // A suspended portal and a prepared statement outlive DDL between them.
            &[query("BEGIN")],
            &[
                parse("kept", "SELECT id FROM t ORDER BY id"),
                bind("cursor", "kept"),
                execute("cursor", 2),
                sync(),
            ],
            &[
                parse("", "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'x'"),
                bind("", ""),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ],
            &[query("SHOW lock_timeout")],
            &[query("COMMIT")],
            &[query("SHOW lock_timeout")],
            &[query("SELECT name FROM pg_prepared_statements")],
            // DDL prepared idle and run in a block, and the reverse; run twice; with a row limit.
            &[parse("ddl", "ALTER TABLE t ALTER COLUMN v DROP DEFAULT"), sync()],
            &[query("BEGIN")],
            &[bind("", "ddl"), execute("", 0), sync()],
            &[bind("", "ddl"), execute("", 5), sync()],
            &[query("COMMIT")],
            &[bind("", "ddl"), execute("", 0), sync()],
            &[close(b'S', "ddl"), sync()],
            &[bind("", "ddl"), execute("", 0), sync()],
            // Pipelined behind an INSERT of the same implicit transaction, and in front of one.
            &[
                parse("", "INSERT INTO t VALUES (500, 'a')"),
                bind("", ""),
                execute("", 0),
                parse("", "ALTER TABLE t ALTER COLUMN v SET DEFAULT 'y'"),
                bind("", ""),
                execute("", 0),
                parse("", "INSERT INTO t VALUES (501)"),
                bind("", ""),
                execute("", 0),
                sync(),
            ],
            &[query("SELECT v FROM t WHERE id >= 500 ORDER BY id")],
            // BEGIN and DDL before any ReadyForQuery says T.
            &[
                parse("", "BEGIN"),
                bind("", ""),
                execute("", 0),
                parse("", "ALTER TABLE t ADD COLUMN w int"),
                bind("", ""),
                describe(b'P', ""),
                execute("", 0),
                sync(),
            ],
            &[query("ROLLBACK")],
            &[query(
                "SELECT attname FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY 1",
            )],
            // Errors of DDL, in and out of a block, with their positions.
            &[query("  ALTER TABLE t ADD COLUMN w wobbletype")],
            &[query("SELECT 1; ALTER TABLE t ADD COLUMN é wobbletype; SELECT 2")],
            &[query("SELECT 'é'; ALTER TABLE t ADD COLUMN w wobbletype; SELECT 2")],
            &[
                parse("", "ALTER TABLE t ADD COLUMN w wobbletype"),
                bind("", ""),
                execute("", 0),
                parse("", "SELECT 1"),
                sync(),
            ],
            &[query("BEGIN")],
            &[query("ALTER TABLE t ADD COLUMN w wobbletype")],
            &[query("SELECT 1")],
            &[query("ROLLBACK")],
            &[query("DISCARD ALL")],
        ],
    );
}
