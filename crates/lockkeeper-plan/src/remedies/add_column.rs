//! ADD COLUMN taken apart: the bare column first, which is instant, then what would have scanned or rewritten the table.
//!
//! Start at [`sequence`]. The pieces are cut from the client's own text at the places that the grammar gives, and proven by
//! parsing what is put together again. While a column is unfinished it carries a comment, so that the same statement sent again
//! continues.

use crate::batches::Batches;
use crate::catalog::{Name, TypeFact};
use crate::lock::LockMode;
use crate::remedies::steps::{self, added, parse_action};
use crate::remedies::{check, foreign_key, names, not_null, unique};
use crate::splice::{qualified, quote_ident, quote_literal};
use crate::step::{FILL, Mode, Step};
use crate::subject::{Action, Subject, Table};
use crate::tree;
use crate::trial::Effect;
use pg_query::NodeEnum;
use pg_query::protobuf::{ColumnDef, ConstrType, Constraint, Node, Token};

/// Whether the action adds a column with an inline constraint of this type.
pub(crate) fn has(subject: &Subject, wanted: ConstrType) -> bool {
    subject
        .added_column()
        .is_some_and(|(_, column)| constraint(column, wanted).is_some())
}

pub(crate) fn constraint(column: &ColumnDef, wanted: ConstrType) -> Option<&Constraint> {
    constraints(column).find(|c| c.contype() == wanted)
}

fn constraints(column: &ColumnDef) -> impl Iterator<Item = &Constraint> {
    column.constraints.iter().filter_map(|node| match &node.node {
        Some(NodeEnum::Constraint(constraint)) => Some(constraint.as_ref()),
        _ => None,
    })
}

/// IF NOT EXISTS over a column that is there and finished: the server skips it.
pub(crate) fn skipped(subject: &Subject, table: &Table) -> bool {
    let Some((action, column)) = subject.added_column() else {
        return false;
    };
    let there = table.known.and_then(|r| r.column(&column.colname));
    let ours = |comment: &Option<String>| comment.as_deref().is_some_and(|c| c.starts_with("lockkeeper: "));
    action.command.missing_ok && there.is_some_and(|c| !ours(&c.comment))
}

/// smallserial, serial, bigserial: the type of the column itself.
pub(crate) fn serial(column: &ColumnDef) -> Option<&'static str> {
    let type_name = column.type_name.as_ref()?;
    if !type_name.array_bounds.is_empty() || type_name.setof {
        return None;
    }
    match tree::names(&type_name.names).as_slice() {
        [name] => match name.as_str() {
            "smallserial" | "serial2" => Some("smallint"),
            "serial" | "serial4" => Some("integer"),
            "bigserial" | "serial8" => Some("bigint"),
            _ => None,
        },
        _ => None,
    }
}

/// Whether the default may give each row another value, by the names of the functions that it calls.
fn is_volatile(subject: &Subject, expression: &Node) -> bool {
    let functions = tree::functions(expression);
    // Before PostgreSQL 15 one function called timezone is volatile, that of times with a zone: not the one of now().
    let of_now = |f: &Vec<String>| f.last().is_some_and(|name| NOW.contains(&name.as_str()));
    let is_timezone = |f: &Vec<String>| f.last().is_some_and(|name| name == "timezone");
    let only_now = functions.iter().any(of_now) && functions.iter().all(|f| of_now(f) || is_timezone(f));
    functions
        .iter()
        .filter(|f| !(only_now && is_timezone(f)))
        .any(|function| {
            let Some(name) = function.last() else {
                return true;
            };
            let schema = (function.len() > 1).then(|| function[function.len() - 2].clone());
            let asked = |f: &&crate::catalog::Function| f.asked.name == *name && f.asked.schema == schema;
            match subject.facts.functions.iter().find(asked) {
                Some(known) => known.volatile,
                None => !(matches!(schema.as_deref(), None | Some("pg_catalog")) && STEADY.contains(&name.as_str())),
            }
        })
}

/// Whether PostgreSQL has to work out the new column's value for each row.
pub(crate) fn differs_by_row(subject: &Subject, added: &ColumnDef) -> bool {
    if let Some(effect) = subject.effect() {
        return effect == Effect::Rewrites;
    }
    match constraint(added, ConstrType::ConstrDefault) {
        Some(default) => default.raw_expr.as_deref().is_some_and(|e| is_volatile(subject, e)),
        // What the domain's own may call was not told.
        None => domain(subject, added).is_some_and(|domain| domain.has_default),
    }
}

/// The domain that the column is of; an array of one is stored as it is.
pub(crate) fn domain<'a>(subject: &Subject<'a>, added: &ColumnDef) -> Option<&'a TypeFact> {
    let type_name = added.type_name.as_ref().filter(|t| t.array_bounds.is_empty())?;
    let mut parts = tree::names(&type_name.names);
    let asked = Name {
        name: parts.pop()?,
        schema: parts.pop(),
    };
    subject.facts.types.iter().find(|t| t.asked == asked && t.kind == 'd')
}

/// From this version on the sequence of an unlogged table is unlogged too.
const UNLOGGED_SEQUENCES: u32 = 150_000;
/// They give a timestamptz.
const NOW: &[&str] = &["now", "transaction_timestamp", "statement_timestamp"];

/// Functions of pg_catalog that are IMMUTABLE or STABLE, for where no server is asked.
const STEADY: &[&str] = &[
    "abs",
    "btrim",
    "ceil",
    "concat",
    "current_database",
    "current_schema",
    "current_setting",
    "current_user",
    "date_part",
    "date_trunc",
    "decode",
    "encode",
    "extract",
    "floor",
    "format",
    "initcap",
    "json_build_array",
    "json_build_object",
    "jsonb_build_array",
    "jsonb_build_object",
    "left",
    "length",
    "lower",
    "lpad",
    "ltrim",
    "make_date",
    "make_interval",
    "make_time",
    "make_timestamp",
    "make_timestamptz",
    "md5",
    "now",
    "replace",
    "right",
    "round",
    "rpad",
    "rtrim",
    "session_user",
    "statement_timestamp",
    "substring",
    "substr",
    "timezone",
    "to_char",
    "to_date",
    "to_json",
    "to_jsonb",
    "to_timestamp",
    "transaction_timestamp",
    "trim",
    "upper",
];

struct Piece<'a> {
    kind: ConstrType,
    text: String,
    constraint: &'a Constraint,
}

struct Pieces<'a> {
    /// `ADD COLUMN c type COLLATE …`.
    base: String,
    parts: Vec<Piece<'a>>,
}

/// The whole way to the same column: every flagged part of it becomes steps of its own.
pub(crate) fn sequence(subject: &Subject, table: &Table, asked: &Name) -> Result<Vec<Step>, String> {
    let unproven = "the column's definition could not be taken apart with certainty";
    let (action, _) = subject.added_column().ok_or(unproven)?;
    // Locations count from the start of what is parsed: the action alone, behind its head.
    let text = format!("{} {}", action.head, action.text);
    let parsed = parse_action(&text).ok_or(unproven)?;
    let column = added(&parsed).ok_or(unproven)?;
    if table.kind() == 'p' && (serial(column).is_some() || has(subject, ConstrType::ConstrIdentity)) {
        return Err("a partitioned table is not filled in batches: fill its partitions one by one".to_string());
    }
    let pieces = pieces(&text, action.head, column).ok_or(unproven)?;
    let mark = steps::mark("column not finished", &text);
    let mut all = first(subject, table, asked, &action, column, &pieces, &mark)?;
    // A unique constraint comes last: it is added in the transaction that finishes the column, so that no half of it is met again.
    let is_unique = |p: &&Piece| matches!(p.kind, ConstrType::ConstrUnique | ConstrType::ConstrPrimary);
    let (unique, others): (Vec<&Piece>, Vec<&Piece>) = pieces.parts.iter().partition(is_unique);
    if unique.len() > 1 {
        return Err("a column that is both UNIQUE and PRIMARY KEY is not rewritten".to_string());
    }
    for piece in others.into_iter().chain(unique) {
        if !is_constraint(piece.kind) {
            continue;
        }
        let table_form = as_table_constraint(piece, &column.colname).ok_or(unproven)?;
        let text = format!("{} ADD {table_form}", action.head);
        let command = parse_action(&text).ok_or(unproven)?;
        let Some(NodeEnum::Constraint(constraint)) = command.def.as_ref().and_then(|d| d.node.as_ref()) else {
            return Err(unproven.to_string());
        };
        if !is_same(constraint, piece.constraint) {
            return Err(unproven.to_string());
        }
        let added = Action {
            head: action.head,
            text: &format!("ADD {table_form}"),
            command: &command,
        };
        all.extend(match piece.kind {
            ConstrType::ConstrCheck if check::validates(constraint) => {
                check::sequence(table, asked, &added, constraint)?
            }
            ConstrType::ConstrForeign if check::validates(constraint) => {
                foreign_key::sequence(table, asked, &added, constraint)?
            }
            ConstrType::ConstrUnique | ConstrType::ConstrPrimary => {
                unique::sequence(subject, table, asked, &added, constraint)?
            }
            _ => vec![steps::brief(
                "add constraint",
                text.clone(),
                LockMode::AccessExclusive,
                table,
            )],
        });
    }
    finish(&mut all, table, &column.colname);
    Ok(all)
}

/// A column and its default, as the client wrote them.
pub(crate) struct TakenApart {
    pub column: String,
    /// `ADD COLUMN c type COLLATE …`
    pub base: String,
    /// `DEFAULT …`
    pub default: Option<String>,
}

/// None: not with certainty.
pub(crate) fn taken_apart(action: &Action) -> Option<TakenApart> {
    let text = format!("{} {}", action.head, action.text);
    let parsed = parse_action(&text)?;
    let column = added(&parsed)?;
    let pieces = pieces(&text, action.head, column)?;
    let default = pieces.parts.iter().find(|p| p.kind == ConstrType::ConstrDefault);
    Some(TakenApart {
        column: column.colname.clone(),
        default: default.map(|p| p.text.clone()),
        base: pieces.base,
    })
}

/// The marks stay until the last step, which takes them all away: only then is a step that is done known as done.
fn finish(all: &mut Vec<Step>, table: &Table, column: &str) {
    let mut finished = Vec::new();
    for step in all.iter_mut() {
        if let Mode::Long { then } = &mut step.mode {
            finished.extend(then.extract_if(.., |sql| sql.starts_with("COMMENT ON CONSTRAINT ")));
        }
    }
    finished.push(steps::comment_on_column(column, table, None));
    match all.last_mut().map(|step| &mut step.mode) {
        Some(Mode::Brief { then } | Mode::Long { then }) => then.extend(finished),
        _ => {
            let first = finished.remove(0);
            all.push(steps::brief_then(
                "mark the column finished",
                first,
                finished,
                LockMode::ShareUpdateExclusive,
                table,
            ));
        }
    }
}

/// The column itself, filled and NOT NULL as asked, without its other constraints.
fn first(
    subject: &Subject,
    table: &Table,
    asked: &Name,
    action: &Action,
    column: &ColumnDef,
    pieces: &Pieces,
    mark: &str,
) -> Result<Vec<Step>, String> {
    let name = &column.colname;
    let default = pieces.parts.iter().find(|p| p.kind == ConstrType::ConstrDefault);
    let identity = pieces.parts.iter().find(|p| p.kind == ConstrType::ConstrIdentity);
    let volatile = differs_by_row(subject, column);
    let asked_for = |kind: ConstrType| pieces.parts.iter().any(|p| p.kind == kind);
    if asked_for(ConstrType::ConstrPrimary) && not_null_name(pieces).is_some() {
        return Err("a named NOT NULL beside PRIMARY KEY is not rewritten".to_string());
    }
    // A primary key makes its column NOT NULL itself, later; but an identity column has to be before that.
    let not_null = identity.is_some()
        || (!asked_for(ConstrType::ConstrPrimary)
            && (asked_for(ConstrType::ConstrNotnull) || serial(column).is_some()));
    if identity.is_some() && asked_for(ConstrType::ConstrPrimary) {
        return Err(format!(
            "an identity column that is the primary key at once is not rewritten: send ADD COLUMN without PRIMARY KEY first, then \
             {} ADD PRIMARY KEY ({})",
            action.head,
            quote_ident(name)
        ));
    }
    let fill = match (serial(column), identity, default) {
        (Some(type_name), _, None) => Some(Fill::serial(subject, table, asked, name, type_name)),
        (None, Some(identity), None) => Some(Fill::identity(table, column, identity)?),
        (None, None, Some(default)) if volatile => Some(Fill::default(&default.text)?),
        (None, None, None) if volatile => Some(Fill::of_domain(action.head, name)),
        (None, None, _) => None,
        _ => return Err("the column has both a sequence and a default".to_string()),
    };
    let Some(mut fill) = fill else {
        return Ok(vec![plain(table, action, name, pieces, mark)]);
    };
    // An earlier run has made the column: its sequence has its name already, and a second one would get another.
    let begun = table
        .known
        .and_then(|r| r.column(name))
        .filter(|c| c.comment.as_deref() == Some(mark));
    if let (Some(default), true) = (begun.and_then(|c| c.default.clone()), serial(column).is_some()) {
        fill.expression = default;
    }
    let quoted = quote_ident(name);
    let base = match serial(column) {
        Some(type_name) => format!("ADD COLUMN {quoted} {type_name}"),
        None => pieces.base.clone(),
    };
    let mut then = fill.before.clone();
    if domain(subject, column).is_some_and(|domain| domain.has_default) {
        // Else the domain's own default would be worked out for each row.
        then.push(format!("{} {base} DEFAULT NULL", action.head));
        if !fill.by_domain {
            then.push(format!(
                "{} ALTER COLUMN {quoted} SET DEFAULT {}",
                action.head, fill.expression
            ));
        }
    } else {
        then.push(format!(
            "{} {base}, ALTER COLUMN {quoted} SET DEFAULT {}",
            action.head, fill.expression
        ));
    }
    then.extend(fill.after.clone());
    then.push(steps::comment_on_column(name, table, Some(mark)));
    let sql = then.remove(0);
    let mut all = vec![Step {
        done_when: steps::column_marked(table, name, mark),
        rollback: Some(format!("ALTER TABLE {} DROP COLUMN {quoted}", table.sql)),
        ..steps::brief_then(
            "add column, filled for new rows only",
            sql,
            then,
            LockMode::AccessExclusive,
            table,
        )
    }];
    let (set, empty) = (format!("{quoted} = {}", fill.expression), format!("{quoted} IS NULL"));
    let mode = match table.known {
        Some(relation) => Mode::Batches(Box::new(Batches::backfill(
            relation,
            subject.facts,
            &set,
            &empty,
            begun.is_none(),
        )?)),
        // Offline no key is known; such a plan is only shown.
        None => Mode::Rows,
    };
    let sql = format!("UPDATE {} SET {set} WHERE {empty}", table.sql);
    all.push(steps::step(FILL, sql, mode, LockMode::RowExclusive, table));
    if not_null {
        all.extend(not_null::sequence(
            subject,
            table,
            asked,
            action.head,
            name,
            not_null_name(pieces).as_deref(),
        ));
    }
    if let Some((sql, then)) = fill.last(table, action.head, name) {
        all.push(steps::brief_then(
            "make it an identity column",
            sql,
            then,
            LockMode::AccessExclusive,
            table,
        ));
    }
    Ok(all)
}

/// 18: CONSTRAINT n NOT NULL.
fn not_null_name(pieces: &Pieces) -> Option<String> {
    let named = |p: &&Piece| p.kind == ConstrType::ConstrNotnull && !p.constraint.conname.is_empty();
    pieces.parts.iter().find(named).map(|p| p.constraint.conname.clone())
}

/// Nothing to fill in: the column with its steady default and its NOT NULL, which are instant.
fn plain(table: &Table, action: &Action, name: &str, pieces: &Pieces, mark: &str) -> Step {
    let mut sql = format!("{} {}", action.head, pieces.base);
    for part in &pieces.parts {
        if as_table_constraint(part, name).is_none() {
            sql.push(' ');
            sql.push_str(&part.text);
        }
    }
    Step {
        done_when: steps::column_marked(table, name, mark),
        rollback: Some(format!("ALTER TABLE {} DROP COLUMN {}", table.sql, quote_ident(name))),
        ..steps::brief_then(
            "add column",
            sql,
            vec![steps::comment_on_column(name, table, Some(mark))],
            LockMode::AccessExclusive,
            table,
        )
    }
}

/// Where the values of a column come from while it is filled.
struct Fill {
    expression: String,
    before: Vec<String>,
    after: Vec<String>,
    /// Identity: the helper sequence, and `GENERATED … AS IDENTITY (…)`.
    identity: Option<(String, String)>,
    /// By the default of the column's domain, which a column has as long as it is given none.
    by_domain: bool,
}

impl Fill {
    fn of_domain(head: &str, column: &str) -> Fill {
        Fill {
            expression: "DEFAULT".to_string(),
            before: Vec::new(),
            after: vec![format!("{head} ALTER COLUMN {} DROP DEFAULT", quote_ident(column))],
            identity: None,
            by_domain: true,
        }
    }

    fn default(text: &str) -> Result<Fill, String> {
        let expression = text
            .get("DEFAULT".len()..)
            .ok_or("the default could not be read")?
            .trim()
            .to_string();
        Ok(Fill {
            expression,
            before: Vec::new(),
            after: Vec::new(),
            identity: None,
            by_domain: false,
        })
    }

    fn serial(subject: &Subject, table: &Table, asked: &Name, column: &str, type_name: &str) -> Fill {
        let relation = table.named(asked);
        let sequence = qualified(&relation.schema, &names::sequence(&relation, column));
        let is_unlogged = relation.persistence == 'u' && subject.facts.server_version >= UNLOGGED_SEQUENCES;
        let unlogged = if is_unlogged { "UNLOGGED " } else { "" };
        let mut before = vec![format!("CREATE {unlogged}SEQUENCE {sequence} AS {type_name}")];
        // The server makes it the table's owner's at once.
        if !relation.owner.is_empty() && relation.owner != subject.facts.role {
            before.push(format!(
                "ALTER SEQUENCE {sequence} OWNER TO {}",
                quote_ident(&relation.owner)
            ));
        }
        Fill {
            expression: format!("pg_catalog.nextval({}::pg_catalog.regclass)", quote_literal(&sequence)),
            before,
            after: vec![format!(
                "ALTER SEQUENCE {sequence} OWNED BY {}.{}",
                table.sql,
                quote_ident(column)
            )],
            identity: None,
            by_domain: false,
        }
    }

    fn identity(table: &Table, column: &ColumnDef, piece: &Piece) -> Result<Fill, String> {
        let type_name = column
            .type_name
            .as_ref()
            .map(|t| tree::names(&t.names))
            .unwrap_or_default();
        let sequence_type = match type_name.last().map(String::as_str) {
            Some("int2") => "smallint",
            Some("int4") => "integer",
            Some("int8") => "bigint",
            _ => return Err("an identity column is smallint, integer or bigint".to_string()),
        };
        let schema = table.known.map_or("public", |r| r.schema.as_str());
        let helper = names::object(&format!("lockkeeper_{}", table.bare()), &column.colname, "identity");
        let sequence = qualified(schema, &helper);
        // The options of GENERATED … AS IDENTITY (…) are those of CREATE SEQUENCE.
        let options = match (piece.text.find('('), piece.text.rfind(')')) {
            (Some(open), Some(close)) if open < close => piece.text[open + 1..close].to_string(),
            _ => String::new(),
        };
        let named = |node: &Node| matches!(&node.node, Some(NodeEnum::DefElem(o)) if o.defname == "sequence_name" || o.defname == "logged");
        if piece.constraint.options.iter().any(named) {
            return Err("SEQUENCE NAME and LOGGED are not rewritten".to_string());
        }
        Ok(Fill {
            expression: format!("pg_catalog.nextval({}::pg_catalog.regclass)", quote_literal(&sequence)),
            before: vec![
                format!("CREATE SEQUENCE {sequence} AS {sequence_type} {options}")
                    .trim_end()
                    .to_string(),
            ],
            after: Vec::new(),
            identity: Some((sequence, piece.text.clone())),
            by_domain: false,
        })
    }

    /// The change from the helper sequence to the column's own, which goes on counting where the helper is. Nothing can come
    /// between: the first statement takes ACCESS EXCLUSIVE.
    fn last(&self, table: &Table, head: &str, column: &str) -> Option<(String, Vec<String>)> {
        let (helper, generated) = self.identity.as_ref()?;
        let quoted = quote_ident(column);
        let then = vec![
            format!("{head} ALTER COLUMN {quoted} ADD {generated}"),
            format!(
                "SELECT pg_catalog.setval(pg_catalog.pg_get_serial_sequence({}, {}), h.last_value, h.is_called) FROM {helper} h",
                quote_literal(&table.sql),
                quote_literal(column)
            ),
            format!("DROP SEQUENCE {helper}"),
        ];
        Some((format!("{head} ALTER COLUMN {quoted} DROP DEFAULT"), then))
    }
}

/// What is a constraint of the table too, and not a property of the column.
fn is_constraint(kind: ConstrType) -> bool {
    matches!(
        kind,
        ConstrType::ConstrCheck | ConstrType::ConstrForeign | ConstrType::ConstrUnique | ConstrType::ConstrPrimary
    )
}

/// What has been said of the constraint is said of the table's.
fn is_same(table_s: &Constraint, column_s: &Constraint) -> bool {
    table_s.contype() == column_s.contype()
        && table_s.conname == column_s.conname
        && table_s.nulls_not_distinct == column_s.nulls_not_distinct
        && table_s.options.len() == column_s.options.len()
        && table_s.indexspace == column_s.indexspace
}

/// `UNIQUE` of a column is `UNIQUE (c)` of the table. None for what stays with the column.
fn as_table_constraint(piece: &Piece, column: &str) -> Option<String> {
    let quoted = quote_ident(column);
    let name = match piece.constraint.conname.as_str() {
        "" => String::new(),
        name => format!("CONSTRAINT {} ", quote_ident(name)),
    };
    let text = without_name(piece)?;
    match piece.kind {
        ConstrType::ConstrCheck => Some(format!("{name}{text}")),
        ConstrType::ConstrForeign => Some(format!("{name}FOREIGN KEY ({quoted}) {text}")),
        ConstrType::ConstrUnique | ConstrType::ConstrPrimary => {
            // Behind UNIQUE or PRIMARY KEY, and NULLS [NOT] DISTINCT; what follows is written alike.
            let tokens: Vec<_> = pg_query::scan(&text).ok()?.tokens;
            let words: Vec<_> = tokens.iter().filter(|t| !is_comment(t.token)).collect();
            let is = |at: usize, token: Token| words.get(at).is_some_and(|t| t.token() == token);
            let last = match (is(0, Token::Primary), is(1, Token::NullsP), is(2, Token::Not)) {
                (false, false, _) => 0,
                (true, ..) => 1,
                (_, _, false) => 2,
                (_, _, true) => 3,
            };
            let end = usize::try_from(words.get(last)?.end).ok()?;
            Some(format!("{name}{} ({quoted}){}", text.get(..end)?, text.get(end..)?))
        }
        _ => None,
    }
}

/// The constraint's text without `CONSTRAINT name`.
fn without_name(piece: &Piece) -> Option<String> {
    if piece.constraint.conname.is_empty() {
        return Some(piece.text.clone());
    }
    let tokens = pg_query::scan(&piece.text).ok()?.tokens;
    let third = tokens.iter().filter(|t| !is_comment(t.token)).nth(2)?;
    piece.text.get(usize::try_from(third.start).ok()?..).map(str::to_string)
}

fn pieces<'a>(text: &str, head: &str, column: &'a ColumnDef) -> Option<Pieces<'a>> {
    let mut starts: Vec<(usize, &Constraint)> = Vec::new();
    for constraint in constraints(column) {
        starts.push((usize::try_from(constraint.location).ok()?, constraint));
    }
    starts.sort_by_key(|(start, _)| *start);
    let first = starts.first().map_or(text.len(), |(start, _)| *start);
    if let Some(collate) = &column.coll_clause
        && usize::try_from(collate.location).ok()? > first
    {
        return None;
    }
    let base = tidy(text.get(head.len()..first)?)?;
    let mut parts: Vec<Piece> = Vec::new();
    for (i, (start, constraint)) in starts.iter().enumerate() {
        let end = starts.get(i + 1).map_or(text.len(), |(next, _)| *next);
        let part = tidy(text.get(*start..end)?)?;
        let kind = constraint.contype();
        // DEFERRABLE and its kin are nodes of their own that belong to the constraint before them.
        if is_attribute(kind) {
            let before = parts.last_mut()?;
            before.text.push(' ');
            before.text.push_str(&part);
        } else {
            parts.push(Piece {
                kind,
                text: part,
                constraint,
            });
        }
    }
    prove(head, column, &base, &parts)?;
    Some(Pieces { base, parts })
}

/// The pieces one after another must parse to as many constraints of the same types on a column of the same type.
fn prove(head: &str, column: &ColumnDef, base: &str, parts: &[Piece]) -> Option<()> {
    let mut again = format!("{head} {base}");
    for part in parts {
        again.push(' ');
        again.push_str(&part.text);
    }
    let parsed = parse_action(&again)?;
    let parsed = added(&parsed)?;
    (without_locations(parsed)? == without_locations(column)?).then_some(())?;
    let bare = parse_action(&format!("{head} {base}"))?;
    let bare = added(&bare)?;
    (bare.constraints.is_empty()
        && bare.colname == column.colname
        && bare.coll_clause.is_some() == column.coll_clause.is_some())
    .then_some(())
}

fn without_locations(column: &ColumnDef) -> Option<serde_json::Value> {
    fn strip(value: &mut serde_json::Value) {
        match value {
            serde_json::Value::Array(items) => items.iter_mut().for_each(strip),
            serde_json::Value::Object(fields) => {
                fields.retain(|key, _| !key.ends_with("location"));
                fields.values_mut().for_each(strip);
            }
            _ => {}
        }
    }
    let mut value = serde_json::to_value(column).ok()?;
    strip(&mut value);
    Some(value)
}

fn is_attribute(kind: ConstrType) -> bool {
    matches!(
        kind,
        ConstrType::ConstrAttrDeferrable
            | ConstrType::ConstrAttrNotDeferrable
            | ConstrType::ConstrAttrDeferred
            | ConstrType::ConstrAttrImmediate
            | ConstrType::ConstrAttrEnforced
            | ConstrType::ConstrAttrNotEnforced
    )
}

fn is_comment(token: i32) -> bool {
    use pg_query::protobuf::Token;
    token == Token::SqlComment as i32 || token == Token::CComment as i32
}

/// From the first to the last token that is no comment: a trailing `-- …` must not swallow what is put behind it.
pub(crate) fn tidy(text: &str) -> Option<String> {
    let tokens = pg_query::scan(text).ok()?.tokens;
    let mut words = tokens.iter().filter(|t| !is_comment(t.token));
    let first = words.next()?;
    let last = words.next_back().unwrap_or(first);
    text.get(usize::try_from(first.start).ok()?..usize::try_from(last.end).ok()?)
        .map(str::to_string)
}
