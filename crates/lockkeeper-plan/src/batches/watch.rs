//! What is asked of the server in each batch's own transaction, when its rows are changed: whether what went along with them, by foreign
//! keys, triggers and their functions, has touched what other batches read. It is told by the locks that the transaction holds, whatever
//! the code that took them looks like. Pure: the question, and what it says where it undoes the batch.

use serde::Deserialize;

/// How the errors begin by which a batch undoes itself.
const READ_AND_WRITTEN: &str = "lockkeeper: read by the statement and written by its batch: ";
const ITSELF_READ: &str = "lockkeeper: the table itself was read";
const ITSELF_WRITTEN: &str = "lockkeeper: more rows of the table itself were written";

/// Where the batch leaves how many rows it has changed.
const CHANGED: &str = "lockkeeper.changed";
/// What the server had counted before it.
const WRITTEN: &str = "lockkeeper.written";
const MORE: &str = "lockkeeper.more";

/// What waits for COMMIT goes along too: in the client's name, to be sent behind the batch. Before 18 the server warns that this is no
/// transaction block, and does it all the same.
pub const FIRE: [&str; 2] = [
    "SELECT pg_catalog.set_config('client_min_messages', 'error', true)",
    "SET CONSTRAINTS ALL IMMEDIATE",
];

#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What the statement reads besides its target.
    pub reads: Vec<Read>,
    /// The target and what inherits from it.
    pub tree: Vec<u32>,
    /// A trigger that is somebody's own fires after each row.
    pub after_each: bool,
    pub deletes: bool,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Read {
    pub oid: u32,
    pub name: String,
}

impl Watch {
    /// To be sent before the batch: what was counted so far. The server's counts are those of the transaction and of what it has not reported yet.
    pub fn ahead_sql(&self) -> Option<String> {
        self.after_each.then(|| {
            format!(
                "SELECT pg_catalog.set_config('{WRITTEN}', n.written::text, true), pg_catalog.set_config('{MORE}', n.more::text, true) FROM ({}) n",
                self.counts()
            )
        })
    }

    /// One row: how many rows of the table were updated and deleted, and how many more were inserted than went to another partition,
    /// which counts as deleted and inserted.
    fn counts(&self) -> String {
        let moved = match self.deletes {
            true => "0::int8",
            false => "pg_catalog.pg_stat_get_xact_tuples_deleted(t.oid)",
        };
        format!(
            "SELECT coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_updated(t.oid) OPERATOR(pg_catalog.+) \
               pg_catalog.pg_stat_get_xact_tuples_deleted(t.oid)), 0::numeric) AS written, \
             coalesce(pg_catalog.sum(pg_catalog.pg_stat_get_xact_tuples_inserted(t.oid) OPERATOR(pg_catalog.-) {moved}), 0::numeric) AS more \
             FROM pg_catalog.unnest({}) t(oid)",
            oids(self.tree.iter().copied())
        )
    }

    /// To be sent behind the batch and [`FIRE`], before anything else reads the table. None: nothing can go along that counts.
    pub fn sql(&self) -> Option<String> {
        let mut cases = Vec::new();
        if !self.reads.is_empty() {
            let written = held(
                &oids(self.reads.iter().map(|read| read.oid)),
                "'{RowExclusiveLock,ShareUpdateExclusiveLock,ShareLock,ShareRowExclusiveLock,ExclusiveLock,AccessExclusiveLock}'",
            );
            cases.push(format!(
                "WHEN EXISTS ({written}) THEN pg_catalog.concat('{READ_AND_WRITTEN}', ({written} LIMIT 1))::int8"
            ));
        }
        if self.after_each {
            let tree = oids(self.tree.iter().copied());
            // An UPDATE or DELETE itself takes ROW EXCLUSIVE, and ROW SHARE for what it locks first.
            // A partitioned table itself holds no rows, and is locked so where the server looks up what its partitions may hold.
            let read = format!(
                "{} AND (SELECT c.relkind FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) l.relation) \
                 OPERATOR(pg_catalog.<>) 'p'::\"char\"",
                held(&tree, "'{AccessShareLock}'")
            );
            cases.push(format!(
                "WHEN EXISTS ({read}) THEN pg_catalog.concat('{ITSELF_READ}')::int8"
            ));
            cases.push(format!(
                "WHEN pg_catalog.current_setting('track_counts') OPERATOR(pg_catalog.=) 'on' AND (SELECT n.written OPERATOR(pg_catalog.>) \
                   (pg_catalog.current_setting('{WRITTEN}')::numeric OPERATOR(pg_catalog.+) \
                   coalesce(nullif(pg_catalog.current_setting('{CHANGED}', true), ''), '0')::numeric) \
                   OR n.more OPERATOR(pg_catalog.>) pg_catalog.current_setting('{MORE}')::numeric FROM ({}) n) \
                 THEN pg_catalog.concat('{ITSELF_WRITTEN}')::int8",
                self.counts()
            ));
        }
        (!cases.is_empty()).then(|| format!("SELECT CASE {} END", cases.join("\n ")))
    }

    /// An expression of type int8, 0, that leaves for [`Watch::sql`] how many rows the batch has changed.
    pub fn tally(&self, changed: &str) -> Option<String> {
        self.after_each.then(|| {
            format!(
                "(SELECT CASE WHEN pg_catalog.set_config('{CHANGED}', pg_catalog.count(*)::pg_catalog.text, true) IS NULL THEN 1 ELSE 0 \
                 END::pg_catalog.int8 FROM {changed})"
            )
        })
    }

    /// Why the server has undone the batch, if it was by [`Watch::sql`].
    pub fn told(&self, message: &str, relation: &str) -> Option<String> {
        if let Some((_, rest)) = message.split_once(READ_AND_WRITTEN) {
            let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
            let read = self.reads.iter().find(|read| read.oid.to_string() == digits);
            let name = read.map_or("a table", |read| read.name.as_str());
            return Some(format!(
                "the statement reads {name}, which changes with the rows of {relation} (by a foreign key, a trigger or a rule): one \
                 statement sees it as it was at its start, but each batch as those before it have left it"
            ));
        } else if message.contains(ITSELF_READ) {
            return Some(format!(
                "a trigger of {relation} that runs after each row reads {relation} itself: within one statement it finds all rows \
                 changed, but within a batch only those of the batches so far"
            ));
        }
        message.contains(ITSELF_WRITTEN).then(|| {
            format!(
                "a trigger of {relation} changes other rows of {relation}: one statement chooses its rows by what they were at its start, \
                 but each batch by what those before it have left"
            )
        })
    }
}

fn oids(oids: impl Iterator<Item = u32>) -> String {
    let oids: Vec<String> = oids.map(|oid| oid.to_string()).collect();
    format!("'{{{}}}'::pg_catalog.oid[]", oids.join(","))
}

/// The relations among `oids` that this transaction holds in one of these modes.
fn held(oids: &str, modes: &str) -> String {
    format!(
        "SELECT l.relation FROM pg_catalog.pg_locks l WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.granted \
         AND l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid() AND l.mode OPERATOR(pg_catalog.=) ANY ({modes}::text[]) \
         AND l.relation OPERATOR(pg_catalog.=) ANY ({oids}) AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM \
         pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_asked() {
        assert!(Watch::default().sql().is_none() && Watch::default().tally("c").is_none());
        let read = |oid, name: &str| Read { oid, name: name.into() };
        let watch = Watch {
            reads: vec![read(7, "public.a"), read(77, "public.b")],
            tree: vec![1, 2],
            after_each: true,
            deletes: false,
        };
        for made in watch
            .sql()
            .into_iter()
            .chain(watch.tally("c").map(|t| format!("SELECT {t}")))
        {
            assert!(!made.contains('$'), "{made}");
            let parsed = pg_query::parse(&made, pg_query::ParserOptions::default())
                .unwrap_or_else(|error| panic!("{made}: {error}"));
            assert_eq!(parsed.protobuf.stmts.len(), 1);
        }
        let told = watch
            .told(&format!("invalid input: \"{READ_AND_WRITTEN}77\""), "public.t")
            .unwrap();
        assert!(told.contains("reads public.b"), "{told}");
        assert!(watch.told("value too long", "public.t").is_none());
    }
}
