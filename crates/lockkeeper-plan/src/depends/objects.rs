//! How the catalog is asked for an object that a statement names: its class and its oid, as SQL.

use crate::catalog::Name;
use crate::splice::quote_literal;
use pg_query::NodeEnum;
use pg_query::protobuf::{AlterTableCmd, Node, ObjectType, ObjectWithArgs, RangeVar, TypeName};

/// What is looked for in them.
pub(super) const PATH: &str = "JOIN path p";

pub(super) const CLASS: u32 = 1259;

/// A query for the object's OID: none, or one row.
pub(super) struct Object {
    pub(super) class: u32,
    pub(super) select: String,
    /// A second column is pg_depend's objsubid.
    pub(super) has_sub: bool,
}

impl Object {
    pub(super) fn new(class: u32, select: String) -> Object {
        Object {
            class,
            select,
            has_sub: false,
        }
    }
}

pub(super) fn found_in(object: &Object) -> String {
    format!("({})", object.select)
}

pub(super) fn relation(name: &Name) -> Object {
    in_schema(CLASS, "pg_class", "rel", name, "true")
}

/// An object that lives in a schema: in the named one, else in the first of the search_path that has it.
pub(super) fn in_schema(class: u32, catalog: &str, prefix: &str, name: &Name, and: &str) -> Object {
    let named = format!(
        "x.{prefix}name OPERATOR(pg_catalog.=) {} AND {and}",
        quote_literal(&name.name)
    );
    let select = match name.schema.as_deref() {
        // Without a look at the catalogs, which would have to be planned each time.
        None if class == CLASS && and == "true" => format!(
            "SELECT x.oid FROM (SELECT pg_catalog.to_regclass({})::pg_catalog.oid) x(oid) WHERE x.oid IS NOT NULL",
            quote_literal(&format!("\"{}\"", name.name.replace('"', "\"\"")))
        ),
        None => format!(
            "SELECT x.oid FROM pg_catalog.{catalog} x {PATH} ON p.oid OPERATOR(pg_catalog.=) x.{prefix}namespace WHERE {named} ORDER BY p.at LIMIT 1"
        ),
        Some("pg_temp") => format!(
            "SELECT x.oid FROM pg_catalog.{catalog} x WHERE {named} AND x.{prefix}namespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema() LIMIT 1"
        ),
        Some(schema) => format!(
            "SELECT x.oid FROM pg_catalog.{catalog} x JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) x.{prefix}namespace \
             WHERE {named} AND n.nspname OPERATOR(pg_catalog.=) {} LIMIT 1",
            quote_literal(schema)
        ),
    };
    Object::new(class, select)
}

/// One that has no schema.
pub(super) fn plain(class: u32, catalog: &str, prefix: &str, name: &str) -> Object {
    Object::new(
        class,
        format!(
            "SELECT x.oid FROM pg_catalog.{catalog} x WHERE x.{prefix}name OPERATOR(pg_catalog.=) {}",
            quote_literal(name)
        ),
    )
}

pub(super) fn column(table: &Name, name: &str, with_children: bool) -> Object {
    let tables = match with_children {
        true => table_and_children(table),
        false => relation(table).select,
    };
    Object {
        has_sub: true,
        ..Object::new(
            CLASS,
            // Those of its children go too, and pg_depend does not say so.
            format!(
                "SELECT x.attrelid, x.attnum::pg_catalog.int4 FROM pg_catalog.pg_attribute x WHERE x.attrelid OPERATOR(pg_catalog.=) ANY ({}) AND x.attname OPERATOR(pg_catalog.=) {} \
                 AND x.attnum OPERATOR(pg_catalog.>) 0 AND NOT x.attisdropped",
                tables,
                quote_literal(name)
            ),
        )
    }
}

/// The table and its children.
pub(super) fn table_and_children(table: &Name) -> String {
    format!(
        "WITH RECURSIVE tree(oid) AS ({} UNION SELECT i.inhrelid FROM tree t \
         JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) t.oid) SELECT t.oid FROM tree t",
        found_in(&relation(table))
    )
}

pub(super) fn constraint(table: &Name, name: &str) -> Object {
    part_of(2606, "pg_constraint", "x.conrelid", "x.conname", table, name)
}

pub(super) fn part_of(class: u32, catalog: &str, of: &str, called: &str, table: &Name, name: &str) -> Object {
    Object::new(
        class,
        format!(
            "SELECT x.oid FROM pg_catalog.{catalog} x WHERE {of} OPERATOR(pg_catalog.=) {} AND {called} OPERATOR(pg_catalog.=) {}",
            found_in(&relation(table)),
            quote_literal(name)
        ),
    )
}

pub(super) fn object_of(kind: ObjectType, object: &NodeEnum) -> Option<Object> {
    use ObjectType as O;
    let text = match object {
        NodeEnum::String(string) => Some(string.sval.as_str()),
        _ => None,
    };
    let items = match object {
        NodeEnum::List(list) => list.items.as_slice(),
        _ => &[],
    };
    let arguments = match object {
        NodeEnum::ObjectWithArgs(object) => Some(object),
        _ => None,
    };
    Some(match kind {
        O::ObjectTable
        | O::ObjectIndex
        | O::ObjectView
        | O::ObjectMatview
        | O::ObjectSequence
        | O::ObjectForeignTable => relation(&listed(items)?),
        O::ObjectType | O::ObjectDomain => match object {
            NodeEnum::TypeName(name) => Object::new(1247, type_oid(name)?),
            _ => return None,
        },
        O::ObjectFunction | O::ObjectProcedure | O::ObjectRoutine | O::ObjectAggregate => function(arguments?)?,
        O::ObjectOperator => operator(arguments?)?,
        O::ObjectCollation => in_schema(3456, "pg_collation", "coll", &listed(items)?, "true"),
        O::ObjectConversion => in_schema(2607, "pg_conversion", "con", &listed(items)?, "true"),
        O::ObjectStatisticExt => in_schema(3381, "pg_statistic_ext", "stx", &listed(items)?, "true"),
        O::ObjectTsconfiguration => in_schema(3602, "pg_ts_config", "cfg", &listed(items)?, "true"),
        O::ObjectTsdictionary => in_schema(3600, "pg_ts_dict", "dict", &listed(items)?, "true"),
        O::ObjectTsparser => in_schema(3601, "pg_ts_parser", "prs", &listed(items)?, "true"),
        O::ObjectTstemplate => in_schema(3764, "pg_ts_template", "tmpl", &listed(items)?, "true"),
        O::ObjectOpclass | O::ObjectOpfamily => {
            let (method, name) = items.split_first()?;
            let of = |column: &str| {
                format!(
                    "x.{column} OPERATOR(pg_catalog.=) (SELECT m.oid FROM pg_catalog.pg_am m WHERE m.amname OPERATOR(pg_catalog.=) {})",
                    quote_literal(string(method).unwrap_or_default())
                )
            };
            match kind {
                O::ObjectOpclass => in_schema(2616, "pg_opclass", "opc", &listed(name)?, &of("opcmethod")),
                _ => in_schema(2753, "pg_opfamily", "opf", &listed(name)?, &of("opfmethod")),
            }
        }
        O::ObjectSchema => plain(2615, "pg_namespace", "nsp", text?),
        O::ObjectExtension => plain(3079, "pg_extension", "ext", text?),
        O::ObjectLanguage => plain(2612, "pg_language", "lan", text?),
        O::ObjectFdw => plain(2328, "pg_foreign_data_wrapper", "fdw", text?),
        O::ObjectForeignServer => plain(1417, "pg_foreign_server", "srv", text?),
        O::ObjectAccessMethod => plain(2601, "pg_am", "am", text?),
        O::ObjectPublication => plain(6104, "pg_publication", "pub", text?),
        O::ObjectEventTrigger => plain(3466, "pg_event_trigger", "evt", text?),
        O::ObjectTrigger | O::ObjectRule | O::ObjectPolicy => {
            let (name, table) = items.split_last()?;
            let (name, table) = (string(name)?, listed(table)?);
            match kind {
                O::ObjectTrigger => part_of(2620, "pg_trigger", "x.tgrelid", "x.tgname", &table, name),
                O::ObjectRule => part_of(2618, "pg_rewrite", "x.ev_class", "x.rulename", &table, name),
                _ => part_of(3256, "pg_policy", "x.polrelid", "x.polname", &table, name),
            }
        }
        O::ObjectCast => match items {
            [from, to] => Object::new(
                2605,
                format!(
                    "SELECT x.oid FROM pg_catalog.pg_cast x WHERE x.castsource OPERATOR(pg_catalog.=) ({}) AND x.casttarget OPERATOR(pg_catalog.=) ({})",
                    type_of(from)?,
                    type_of(to)?
                ),
            ),
            _ => return None,
        },
        O::ObjectTransform => match items {
            [of, language] => Object::new(
                3576,
                format!(
                    "SELECT x.oid FROM pg_catalog.pg_transform x JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) x.trflang \
                     WHERE x.trftype OPERATOR(pg_catalog.=) ({}) AND l.lanname OPERATOR(pg_catalog.=) {}",
                    type_of(of)?,
                    quote_literal(string(language)?)
                ),
            ),
            _ => return None,
        },
        _ => return None,
    })
}

pub(super) fn function(object: &ObjectWithArgs) -> Option<Object> {
    let name = listed(&object.objname)?;
    let mut and = "true".to_string();
    if !object.args_unspecified {
        let types: Vec<String> = object.objargs.iter().filter_map(type_of).collect();
        // What cannot be told is any function of the name.
        if types.len() == object.objargs.len() {
            let all = types.iter().enumerate();
            let same: Vec<String> = all
                .map(|(at, of)| format!(" AND x.proargtypes[{at}] OPERATOR(pg_catalog.=) ({of})"))
                .collect();
            // DROP PROCEDURE may name what is only given back, too.
            and = format!(
                "(x.prokind OPERATOR(pg_catalog.=) 'p' OR (x.pronargs OPERATOR(pg_catalog.=) {}{}))",
                types.len(),
                same.concat()
            );
        }
    }
    Some(in_schema(1255, "pg_proc", "pro", &name, &and))
}

pub(super) fn operator(object: &ObjectWithArgs) -> Option<Object> {
    let side = |node: Option<&Node>, which: &str| match node.and_then(type_of) {
        Some(of) => format!("x.{which} OPERATOR(pg_catalog.=) ({of})"),
        None => format!("x.{which} OPERATOR(pg_catalog.=) 0"),
    };
    let and = format!(
        "{} AND {}",
        side(object.objargs.first(), "oprleft"),
        side(object.objargs.get(1), "oprright")
    );
    Some(in_schema(2617, "pg_operator", "opr", &listed(&object.objname)?, &and))
}

pub(super) fn type_of(node: &Node) -> Option<String> {
    match node.node.as_ref()? {
        NodeEnum::TypeName(name) => type_oid(name),
        _ => None,
    }
}

/// A query for a type's OID.
pub(super) fn type_oid(name: &TypeName) -> Option<String> {
    if name.pct_type || name.names.is_empty() {
        return None;
    }
    let named = in_schema(1247, "pg_type", "typ", &listed(&name.names)?, "true");
    Some(match name.array_bounds.is_empty() {
        true => named.select,
        false => format!(
            "SELECT y.typarray FROM pg_catalog.pg_type y WHERE y.oid OPERATOR(pg_catalog.=) ({})",
            named.select
        ),
    })
}

pub(super) fn range_var(node: &Node) -> Option<&RangeVar> {
    match node.node.as_ref()? {
        NodeEnum::RangeVar(range) => Some(range),
        _ => None,
    }
}

pub(super) fn command(node: &Node) -> Option<&AlterTableCmd> {
    match node.node.as_ref()? {
        NodeEnum::AlterTableCmd(command) => Some(command),
        _ => None,
    }
}

/// A role that is named, as an expression.
pub(super) fn role(node: &Node) -> Option<String> {
    use pg_query::protobuf::RoleSpecType as R;
    let NodeEnum::RoleSpec(role) = node.node.as_ref()? else {
        return None;
    };
    Some(match role.roletype() {
        R::RolespecCurrentUser | R::RolespecCurrentRole => "current_user".to_string(),
        R::RolespecSessionUser => "session_user".to_string(),
        _ => quote_literal(&role.rolename),
    })
}

pub(super) fn string(node: &Node) -> Option<&str> {
    match node.node.as_ref()? {
        NodeEnum::String(string) => Some(&string.sval),
        _ => None,
    }
}

/// The last two of a list of names.
pub(super) fn listed(names: &[Node]) -> Option<Name> {
    let (last, before) = names.split_last()?;
    Some(Name {
        schema: match before.last() {
            Some(schema) => Some(string(schema)?.to_string()),
            None => None,
        },
        name: string(last)?.to_string(),
    })
}
