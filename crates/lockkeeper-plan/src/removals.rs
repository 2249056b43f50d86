//! What a statement takes away by name: columns, tables and views that it drops or renames; and columns that get another type.

use crate::catalog::Name;
use crate::rules::nonconcurrent_drop_index::dropped;
use crate::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableType, ObjectType};

/// Something that nobody finds under its name any more, or not as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    /// The rule that finds it.
    pub rule: &'static str,
    pub relation: Name,
    /// None: the relation itself.
    pub column: Option<String>,
    /// It is harmless where nobody uses it. A table that is rewritten is locked all the same.
    pub is_free_unused: bool,
}

pub fn removals(statement: &Statement) -> Vec<Removal> {
    match &statement.node {
        NodeEnum::DropStmt(drop) => {
            let rule = match drop.remove_type() {
                ObjectType::ObjectTable | ObjectType::ObjectForeignTable => "drop-table",
                ObjectType::ObjectView | ObjectType::ObjectMatview => "drop-view",
                _ => return Vec::new(),
            };
            let whole = |relation| Removal {
                rule,
                relation,
                column: None,
                is_free_unused: true,
            };
            dropped(drop).into_iter().map(whole).collect()
        }
        NodeEnum::AlterTableStmt(alter) => {
            let Some(relation) = alter.relation.as_ref().map(Name::of) else {
                return Vec::new();
            };
            let column = |rule: &'static str, name: &str| Removal {
                rule,
                relation: relation.clone(),
                column: Some(name.to_owned()),
                is_free_unused: rule == "drop-column",
            };
            let of_column = statement.actions().filter_map(|action| match action.subtype() {
                AlterTableType::AtDropColumn => Some(column("drop-column", &action.name)),
                AlterTableType::AtAlterColumnType => Some(column("change-type", &action.name)),
                _ => None,
            });
            of_column.collect()
        }
        NodeEnum::RenameStmt(rename) => {
            let Some(relation) = rename.relation.as_ref().map(Name::of) else {
                return Vec::new();
            };
            let (rule, column) = match rename.rename_type() {
                ObjectType::ObjectColumn => ("rename-column", Some(rename.subname.clone())),
                ObjectType::ObjectTable | ObjectType::ObjectView | ObjectType::ObjectMatview => ("rename-table", None),
                _ => return Vec::new(),
            };
            vec![Removal {
                rule,
                relation,
                column,
                is_free_unused: true,
            }]
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::reading::read;

    #[test]
    fn what_goes_by_name_is_found() {
        let check = |sql: &str, expect: &str| {
            let statement = read(sql.as_bytes(), true).unwrap().remove(0);
            let told: Vec<String> = removals(&statement)
                .iter()
                .map(|removal| {
                    let column = removal.column.as_ref().map(|column| format!(".{column}"));
                    format!(
                        "{} {}{}",
                        removal.rule,
                        removal.relation.name,
                        column.unwrap_or_default()
                    )
                })
                .collect();
            assert_eq!(told.join(", "), expect, "{sql}");
        };
        check(
            "ALTER TABLE users DROP COLUMN a, ADD COLUMN b int, DROP c",
            "drop-column users.a, drop-column users.c",
        );
        check(
            "ALTER TABLE users ALTER a TYPE bigint, DROP b",
            "change-type users.a, drop-column users.b",
        );
        check("DROP TABLE a, s.b", "drop-table a, drop-table b");
        check("DROP VIEW v", "drop-view v");
        check("ALTER TABLE users RENAME a TO b", "rename-column users.a");
        check("ALTER TABLE users RENAME TO people", "rename-table users");
        check("DROP INDEX i", "");
        check("ALTER TABLE users RENAME CONSTRAINT a TO b", "");
    }
}
