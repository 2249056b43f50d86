//! Which files a server's database has behind it: what the migration tool itself has written down of that.
//!
//! Only a plain table is read, in the read-only transaction, and never one whose row security would run somebody's functions.

use super::live::Live;
use super::tool::{Part, Tool, number};
use crate::plan::path;
use crate::plan::splice::{qualified, quote_literal};
use std::collections::HashSet;
use std::path::Path;

/// A table, the query for what of the files it names, and how it names them.
struct Record {
    tool: Tool,
    table: &'static str,
    /// `{table}` is put in; one text column.
    query: &'static str,
    named: Named,
}

#[derive(Clone, Copy)]
enum Named {
    /// The file's own name.
    File,
    /// Without `.sql`.
    Stem,
    /// The number in front.
    Number,
    /// The same, and all smaller ones.
    UpTo,
    /// The directory that it is in.
    Directory,
    /// That directory's date and time without dashes.
    Stamp,
    /// What the layout says of the file.
    Listed,
    /// The same as a number, and all smaller ones.
    ListedUpTo,
    /// Parts of a file: what the part is called, and behind a space the file.
    Parts,
}

const RECORDS: &[Record] = &[
    Record {
        tool: Tool::Flyway,
        table: "flyway_schema_history",
        query: "SELECT script::pg_catalog.text FROM {table} WHERE success",
        named: Named::File,
    },
    Record {
        tool: Tool::GolangMigrate,
        table: "schema_migrations",
        query: "SELECT CASE WHEN dirty THEN version - 1 ELSE version END::pg_catalog.text FROM {table}",
        named: Named::UpTo,
    },
    Record {
        tool: Tool::Dbmate,
        table: "schema_migrations",
        query: "SELECT version::pg_catalog.text FROM {table}",
        named: Named::Number,
    },
    Record {
        tool: Tool::Sqlx,
        table: "_sqlx_migrations",
        query: "SELECT version::pg_catalog.text FROM {table} WHERE success",
        named: Named::Number,
    },
    Record {
        tool: Tool::NodePgMigrate,
        table: "pgmigrations",
        query: "SELECT name::pg_catalog.text FROM {table}",
        named: Named::Stem,
    },
    Record {
        tool: Tool::Diesel,
        table: "__diesel_schema_migrations",
        query: "SELECT version::pg_catalog.text FROM {table}",
        named: Named::Stamp,
    },
    Record {
        tool: Tool::Goose,
        table: "goose_db_version",
        query: "SELECT version_id::pg_catalog.text FROM {table} WHERE is_applied",
        named: Named::Number,
    },
    Record {
        tool: Tool::Drizzle,
        table: "__drizzle_migrations",
        query: "SELECT created_at::pg_catalog.text FROM {table}",
        named: Named::ListedUpTo,
    },
    Record {
        tool: Tool::Sqitch,
        table: "sqitch.changes",
        query: "SELECT pg_catalog.concat_ws(' ', project, change, pg_catalog.row_number() OVER (PARTITION BY project, change \
                ORDER BY committed_at)) FROM {table}",
        named: Named::Listed,
    },
    Record {
        tool: Tool::Liquibase,
        table: "databasechangelog",
        query: "SELECT pg_catalog.concat(author, ':', id, ' ', filename) FROM {table}",
        named: Named::Parts,
    },
    Record {
        tool: Tool::Prisma,
        table: "_prisma_migrations",
        query: "SELECT migration_name::pg_catalog.text FROM {table} WHERE finished_at IS NOT NULL AND rolled_back_at IS NULL",
        named: Named::Directory,
    },
    Record {
        tool: Tool::Supabase,
        table: "supabase_migrations.schema_migrations",
        query: "SELECT version::pg_catalog.text FROM {table}",
        named: Named::Number,
    },
    Record {
        tool: Tool::Atlas,
        table: "atlas_schema_revisions",
        query: "SELECT version::pg_catalog.text FROM {table}",
        named: Named::Number,
    },
];

/// What has run, by the tool's own table.
pub struct History {
    pub table: String,
    named: Named,
    names: HashSet<String>,
}

impl History {
    /// A part of a file that has several.
    pub fn has_part(&self, path: &Path, part: &Part) -> bool {
        let (Named::Parts, Some(key)) = (self.named, &part.recorded) else {
            return false;
        };
        // The tool writes the path from where it ran.
        let is_file = |written: &str| {
            let written = Path::new(written.strip_prefix("classpath:").unwrap_or(written));
            path.ends_with(written) || written.ends_with(path.strip_prefix(".").unwrap_or(path))
        };
        self.names
            .iter()
            .filter_map(|name| name.strip_prefix(key.as_str())?.strip_prefix(' '))
            .any(is_file)
    }

    /// `listed` is what the tool's layout says of the file.
    pub fn has(&self, path: &Path, listed: Option<&str>) -> bool {
        let text = |part: Option<&std::ffi::OsStr>| part.and_then(|part| part.to_str()).unwrap_or_default().to_owned();
        let file = text(path.file_name());
        let directory = text(path.parent().and_then(Path::file_name));
        let digits = || number(&file).map(|number| number.to_string());
        match self.named {
            // Flyway writes the path below its location.
            Named::File => self.names.iter().any(|name| path.ends_with(name)),
            Named::Stem => self.names.contains(file.strip_suffix(".sql").unwrap_or(&file)),
            Named::Number => {
                digits().is_some_and(|own| self.names.iter().any(|name| name.trim_start_matches('0') == own))
            }
            Named::Parts => false,
            Named::Listed => listed.is_some_and(|listed| self.names.contains(listed)),
            Named::UpTo | Named::ListedUpTo => {
                let last = self.names.iter().filter_map(|name| name.parse::<u128>().ok()).max();
                let own = match self.named {
                    Named::UpTo => number(&file),
                    _ => listed.and_then(|listed| listed.parse().ok()),
                };
                own.zip(last).is_some_and(|(own, last)| own <= last)
            }
            Named::Directory => self.names.contains(&directory),
            Named::Stamp => {
                let stamp: String = directory.split('_').next().unwrap_or_default().replace('-', "");
                !stamp.is_empty() && self.names.contains(&stamp)
            }
        }
    }
}

impl Live {
    /// None: there is no such table, or the role may not read it.
    pub fn history(&mut self, tool: Tool) -> Result<Option<History>, String> {
        for record in RECORDS {
            // Their files may be named without their directory.
            let by_table = matches!(record.tool, Tool::Prisma | Tool::Supabase | Tool::Atlas);
            if record.tool != tool && !(by_table && tool == Tool::Psql) {
                continue;
            }
            if let Some(history) = self.recorded(record)? {
                return Ok(Some(history));
            }
        }
        Ok(None)
    }

    fn recorded(&mut self, record: &Record) -> Result<Option<History>, String> {
        let (schema, name) = match record.table.split_once('.') {
            Some((schema, name)) => (Some(schema), name),
            None => (None, record.table),
        };
        let of_schema = schema.map_or(String::new(), |schema| {
            format!(" AND n.nspname OPERATOR(pg_catalog.=) {}", quote_literal(schema))
        });
        // The one that the tool would find first.
        let find = format!(
            "SELECT n.nspname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace \
             WHERE c.relname OPERATOR(pg_catalog.=) {} AND c.relkind OPERATOR(pg_catalog.=) 'r'{of_schema} \
             ORDER BY pg_catalog.pg_table_is_visible(c.oid) DESC, n.nspname LIMIT 1",
            quote_literal(name)
        );
        let schema = match self.tried(&[], &find)? {
            Ok(row) => row.into_iter().flatten().next(),
            Err(_) => None,
        };
        let Some(schema) = schema else { return Ok(None) };
        let table = qualified(&schema, name);
        // All in one row, so that an empty table is not taken for one that cannot be read.
        let query = format!(
            "SELECT pg_catalog.json_agg(r.name) FROM ({}) r(name)",
            record.query.replace("{table}", &table)
        );
        let ahead = [
            path::to_ours(&[], path::CATALOG),
            "SET LOCAL row_security = off".to_owned(),
        ];
        let Ok(row) = self.tried(&ahead, &query)? else {
            return Ok(None);
        };
        let names = row.into_iter().flatten().next();
        let names = names.map_or(Ok(HashSet::new()), |json| serde_json::from_str(&json));
        Ok(names.ok().map(|names| History {
            table,
            named: record.named,
            names,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_what_the_tool_writes() {
        let check = |named: Named, names: &[&str], path: &str, expect: bool| {
            let history = History {
                table: String::new(),
                named,
                names: names.iter().map(ToString::to_string).collect(),
            };
            assert_eq!(history.has(Path::new(path), None), expect, "{names:?} {path}");
        };
        check(Named::File, &["V1__a.sql", "x/V2__b.sql"], "m/V1__a.sql", true);
        check(Named::File, &["x/V2__b.sql"], "m/x/V2__b.sql", true);
        check(Named::File, &["V1__a.sql"], "m/V11__a.sql", false);
        check(Named::Number, &["0001"], "m/0001_a.sql", true);
        check(Named::Number, &["1"], "m/0010_a.sql", false);
        check(Named::UpTo, &["7"], "m/0007_a.up.sql", true);
        check(Named::UpTo, &["7"], "m/0008_a.up.sql", false);
        check(Named::UpTo, &[], "m/0001_a.up.sql", false);
        check(Named::Stem, &["17_a"], "m/17_a.sql", true);
        check(Named::Directory, &["2026_a"], "m/2026_a/migration.sql", true);
        check(Named::Stamp, &["20260101000000"], "m/2026-01-01-000000_a/up.sql", true);
    }

    #[test]
    fn what_a_layout_says_is_found() {
        let history = |named: Named, name: &str| History {
            table: String::new(),
            named,
            names: HashSet::from([name.to_owned()]),
        };
        let journal = history(Named::ListedUpTo, "1700");
        assert!(
            journal.has(Path::new("0001_b.sql"), Some("1700")) && journal.has(Path::new("0000_a.sql"), Some("1600"))
        );
        assert!(!journal.has(Path::new("0002_c.sql"), Some("1800")) && !journal.has(Path::new("0002_c.sql"), None));
        let plan = history(Named::Listed, "shop users 1");
        assert!(plan.has(Path::new("deploy/users@v1.sql"), Some("shop users 1")));
        assert!(!plan.has(Path::new("deploy/users.sql"), Some("shop users 2")));
        let log = history(Named::Parts, "ann:1 db/a.sql");
        let part = |key: &str| Part {
            recorded: Some(key.to_owned()),
            ..Part::of(crate::check::tool::Transaction::File)
        };
        assert!(
            log.has_part(Path::new("x/db/a.sql"), &part("ann:1")) && log.has_part(Path::new("./a.sql"), &part("ann:1"))
        );
        assert!(
            !log.has_part(Path::new("db/a.sql"), &part("ann:2"))
                && !log.has_part(Path::new("db/b.sql"), &part("ann:1"))
        );
    }
}
