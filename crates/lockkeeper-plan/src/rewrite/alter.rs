//! The client's ALTER TABLE statements, as far as a rewrite can carry them out on the empty new table.

use crate::reading::read;
use crate::splice::{one_statement, tree_text};
use crate::statement::Statement;
use crate::statement::alter::alter_actions;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterTableCmd, AlterTableType as A, ColumnDef, ConstrType, DropBehavior, ObjectType, TypeName,
};

/// One ALTER TABLE.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alter {
    actions: Vec<String>,
    pub types: Vec<TypeChange>,
    pub added: Vec<Added>,
    /// Columns whose default it sets or drops.
    pub defaults: Vec<String>,
    /// SET LOGGED and SET UNLOGGED.
    pub persistence: Vec<String>,
}

/// ALTER COLUMN … TYPE.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TypeChange {
    pub column: String,
    /// The text behind USING; None where it is the column itself.
    pub using: Option<String>,
}

/// ADD COLUMN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Added {
    pub column: String,
    /// Whether its DEFAULT is a constant; None without one.
    pub default_is_constant: Option<bool>,
}

impl Alter {
    /// The statement, of another table.
    pub fn on(&self, table: &str) -> String {
        format!("ALTER TABLE {table} {}", self.actions.join(", "))
    }

    pub fn is_of_one_action(&self) -> bool {
        self.actions.len() == 1
    }
}

/// Err: what is not understood, or not carried out, in words.
pub fn alters(text: &str, schema: &str, table: &str) -> Result<Vec<Alter>, String> {
    let statements = read(text.as_bytes(), true).map_err(|error| format!("--with cannot be read: {error:?}"))?;
    let alters: Vec<Alter> = statements
        .iter()
        .map(|statement| alter(statement, schema, table))
        .collect::<Result<_, _>>()?;
    let mut changed: Vec<&str> = Vec::new();
    for (at, alter) in alters.iter().enumerate() {
        // What USING says is read of the old table's row.
        if at > 0 && alter.types.iter().any(|change| change.using.is_some()) {
            return Err("USING stands behind another ALTER TABLE: put it into the first one".into());
        }
        for change in &alter.types {
            if changed.contains(&change.column.as_str()) {
                return Err(format!("the type of {} is changed twice", change.column));
            }
            changed.push(&change.column);
        }
    }
    Ok(alters)
}

fn alter(statement: &Statement, schema: &str, table: &str) -> Result<Alter, String> {
    let NodeEnum::AlterTableStmt(node) = &statement.node else {
        return Err(format!(
            "only ALTER TABLE is carried out, and this is none: {}",
            statement.sql.trim()
        ));
    };
    let named = node.relation.as_ref();
    let is_it = |name: &pg_query::protobuf::RangeVar| {
        name.relname == table
            && (name.schemaname.is_empty() || name.schemaname == schema)
            && name.catalogname.is_empty()
    };
    if node.objtype() != ObjectType::ObjectTable || !named.is_some_and(is_it) {
        return Err(format!("this is not about {schema}.{table}: {}", statement.sql.trim()));
    }
    let text =
        alter_actions(statement).ok_or_else(|| format!("this cannot be taken apart: {}", statement.sql.trim()))?;
    let mut alter = Alter {
        actions: text.actions,
        ..Alter::default()
    };
    for (at, node) in node.cmds.iter().enumerate() {
        let Some(NodeEnum::AlterTableCmd(command)) = &node.node else {
            return Err("an action cannot be read".into());
        };
        let text = alter.actions.get(at).cloned().unwrap_or_default();
        take(&mut alter, command, &text)?;
    }
    Ok(alter)
}

fn take(alter: &mut Alter, command: &AlterTableCmd, text: &str) -> Result<(), String> {
    let refused = |why: &str| Err(format!("{why}: {text}"));
    if command.behavior() == DropBehavior::DropCascade {
        return refused("CASCADE reaches beyond the table");
    }
    let def = command.def.as_ref().and_then(|def| def.node.as_ref());
    match (command.subtype(), def) {
        (A::AtAddColumn, Some(NodeEnum::ColumnDef(column))) => return add_column(alter, column, text),
        (A::AtAlterColumnType, Some(NodeEnum::ColumnDef(column))) => {
            let using = match (&column.raw_default, &column.type_name) {
                (None, _) => None,
                (Some(using), Some(to)) if is_itself(using, &command.name, to) => None,
                (Some(_), _) => Some(using_text(text).ok_or_else(|| format!("USING cannot be found: {text}"))?),
            };
            alter.types.push(TypeChange {
                column: command.name.clone(),
                using,
            });
        }
        (A::AtSetLogged | A::AtSetUnLogged, _) => alter.persistence.push(text.to_owned()),
        (A::AtColumnDefault, _) => alter.defaults.push(command.name.clone()),
        (A::AtAddConstraint, Some(NodeEnum::Constraint(constraint))) => {
            if constraint.contype() == ConstrType::ConstrForeign {
                return refused("a foreign key is added after the rewrite, by an ALTER TABLE of its own");
            }
            if constraint.skip_validation {
                return refused("NOT VALID cannot be kept: every row is written anew");
            }
        }
        (
            A::AtDropNotNull
            | A::AtSetNotNull
            | A::AtSetExpression
            | A::AtDropExpression
            | A::AtSetStatistics
            | A::AtSetOptions
            | A::AtResetOptions
            | A::AtSetStorage
            | A::AtSetCompression
            | A::AtDropColumn
            | A::AtDropConstraint
            | A::AtSetAccessMethod
            | A::AtSetTableSpace
            | A::AtSetRelOptions
            | A::AtResetRelOptions
            | A::AtAddIdentity
            | A::AtClusterOn
            | A::AtDropIdentity,
            _,
        ) => {}
        _ => return refused("this is not carried out with a rewrite"),
    }
    Ok(())
}

fn add_column(alter: &mut Alter, column: &ColumnDef, text: &str) -> Result<(), String> {
    let mut default = None;
    for node in &column.constraints {
        let Some(NodeEnum::Constraint(constraint)) = &node.node else {
            continue;
        };
        match constraint.contype() {
            ConstrType::ConstrForeign => {
                return Err(format!(
                    "a foreign key is added after the rewrite, by an ALTER TABLE of its own: {text}"
                ));
            }
            ConstrType::ConstrDefault => default = Some(constraint.raw_expr.as_deref().is_some_and(is_constant)),
            _ => {}
        }
    }
    alter.added.push(Added {
        column: column.colname.clone(),
        default_is_constant: default,
    });
    Ok(())
}

fn is_constant(node: &pg_query::Node) -> bool {
    match &node.node {
        Some(NodeEnum::AConst(_)) => true,
        Some(NodeEnum::TypeCast(cast)) => cast.arg.as_deref().is_some_and(is_constant),
        _ => false,
    }
}

/// The column, or a cast of it to the very type that it gets.
fn is_itself(node: &pg_query::Node, column: &str, to: &TypeName) -> bool {
    match &node.node {
        Some(NodeEnum::ColumnRef(reference)) => matches!(
            reference.fields.as_slice(),
            [pg_query::Node { node: Some(NodeEnum::String(name)) }] if name.sval == column
        ),
        Some(NodeEnum::TypeCast(cast)) => {
            let same = |of: &TypeName| {
                tree_text(&NodeEnum::TypeName(of.clone())) == tree_text(&NodeEnum::TypeName(to.clone()))
            };
            cast.type_name.as_ref().is_some_and(same)
                && cast
                    .arg
                    .as_deref()
                    .is_some_and(|arg| matches!(arg.node, Some(NodeEnum::ColumnRef(_))) && is_itself(arg, column, to))
        }
        _ => false,
    }
}

/// What stands behind the action's USING: an expression that reads as one.
fn using_text(action: &str) -> Option<String> {
    let tokens = crate::splice::significant_tokens(action)?;
    let mut depth = 0;
    let using = tokens.iter().find(|token| {
        depth += crate::splice::depth_change(token);
        depth == 0 && token.token() == pg_query::protobuf::Token::Using
    })?;
    let last = tokens.last()?;
    let text = action.get(using.end as usize..last.end as usize)?.trim();
    one_statement(&format!("SELECT (\n{text}\n)")).map(|_| text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_alter_table_says() {
        let read = |text: &str| alters(text, "app", "t");
        let two = read("ALTER TABLE t ALTER id TYPE bigint, ADD c int DEFAULT 5; ALTER TABLE ONLY app.t DROP COLUMN d")
            .unwrap();
        assert_eq!(two.len(), 2);
        assert_eq!(
            two[0].on("n.t"),
            "ALTER TABLE n.t ALTER id TYPE bigint, ADD c int DEFAULT 5"
        );
        assert_eq!(two[1].on("n.t"), "ALTER TABLE n.t DROP COLUMN d");
        assert_eq!(two[0].added[0].default_is_constant, Some(true));
        assert_eq!(two[0].types[0].using, None);
        let using = |text: &str| read(text).unwrap()[0].types[0].using.clone();
        assert_eq!(using("ALTER TABLE t ALTER id TYPE bigint USING id::bigint"), None);
        assert_eq!(using("ALTER TABLE t ALTER id TYPE bigint USING (id)"), None);
        assert_eq!(
            using("ALTER TABLE t ALTER id TYPE bigint USING id + 1").as_deref(),
            Some("id + 1")
        );
        assert_eq!(
            using("ALTER TABLE t ALTER id TYPE bigint USING id::text::bigint").as_deref(),
            Some("id::text::bigint")
        );
        assert_eq!(read("").unwrap(), Vec::new());
    }

    #[test]
    fn what_is_not_carried_out() {
        for text in [
            "ALTER TABLE u DROP c",
            "ALTER TABLE other.t DROP c",
            "DROP TABLE t",
            "ALTER TABLE t DROP c CASCADE",
            "ALTER TABLE t ADD FOREIGN KEY (a) REFERENCES b",
            "ALTER TABLE t ADD c int REFERENCES b",
            "ALTER TABLE t ADD CHECK (a > 0) NOT VALID",
            "ALTER TABLE t DISABLE TRIGGER x",
            "ALTER TABLE t OWNER TO x",
            "ALTER TABLE t RENAME TO x",
            "ALTER TABLE t ALTER a TYPE text; ALTER TABLE t ALTER b TYPE int USING a::int",
            "ALTER TABLE t ALTER a TYPE text; ALTER TABLE t ALTER a TYPE int",
            "ALTER VIEW t ALTER a SET DEFAULT 1",
        ] {
            assert!(alters(text, "app", "t").is_err(), "{text}");
        }
    }
}
