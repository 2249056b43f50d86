//! Statements that update or delete rows otherwise than as an UPDATE or DELETE of its own: MERGE, a WITH that changes data, INSERT …
//! SELECT … ON CONFLICT DO UPDATE, and what runs one of these or an UPDATE as a part of itself (EXPLAIN ANALYZE, COPY (…) TO, CREATE
//! TABLE … AS, EXECUTE). They cannot be split, and are judged by the rows that the planner expects them to change.

pub mod alone;

use super::catalog::Name;
use super::functions::returns_one;
use super::mentions::Mentions;
use super::splice::is_false;
use pg_query::NodeEnum;
use pg_query::protobuf::{CmdType, ExplainStmt, InsertStmt, OnConflictAction, RangeVar, WithClause};
use serde_json::Value;

/// The tables whose rows it updates or deletes. None: it is no such statement, or it only inserts.
pub fn changed(node: &NodeEnum) -> Option<Vec<Name>> {
    use NodeEnum as N;
    let (own, with) = match node {
        N::SelectStmt(select) => (None, &select.with_clause),
        N::InsertStmt(insert) => (replaced(insert), &insert.with_clause),
        N::UpdateStmt(update) => (update.relation.as_ref(), &update.with_clause),
        N::DeleteStmt(delete) => (delete.relation.as_ref(), &delete.with_clause),
        N::MergeStmt(merge) => (target(node), &merge.with_clause),
        _ => return all(inner(node)?),
    };
    let within = with.as_ref().map(in_with).unwrap_or_default();
    // An UPDATE or DELETE without such a WITH can be split.
    let mixed = !within.is_empty() || (own.is_some() && matches!(node, N::MergeStmt(_) | N::InsertStmt(_)));
    mixed.then(|| own.map(Name::of).into_iter().chain(within).collect())
}

/// The tables into which it inserts, itself or within what it carries out.
pub fn inserted(node: &NodeEnum) -> Vec<Name> {
    use NodeEnum as N;
    let (own, with) = match node {
        N::SelectStmt(select) => (None, &select.with_clause),
        N::InsertStmt(insert) => (insert.relation.as_ref(), &insert.with_clause),
        N::UpdateStmt(update) => (None, &update.with_clause),
        N::DeleteStmt(delete) => (None, &delete.with_clause),
        N::MergeStmt(merge) => (merge.relation.as_ref(), &merge.with_clause),
        _ => return inner(node).map(inserted).unwrap_or_default(),
    };
    let query = |node: &pg_query::Node| match node.node.as_ref() {
        Some(N::CommonTableExpr(cte)) => cte
            .ctequery
            .as_ref()
            .and_then(|query| query.node.as_ref())
            .map(inserted)
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    let within = with.iter().flat_map(|with| with.ctes.iter().flat_map(query));
    own.map(Name::of).into_iter().chain(within).collect()
}

/// The columns that ON CONFLICT DO UPDATE writes, by the names of their tables: of an INSERT, itself or within what carries it out.
pub fn written_by_inserts(node: &NodeEnum) -> Vec<(String, Vec<String>)> {
    use NodeEnum as N;
    let with = match node {
        N::SelectStmt(select) => &select.with_clause,
        N::InsertStmt(insert) => &insert.with_clause,
        N::UpdateStmt(update) => &update.with_clause,
        N::DeleteStmt(delete) => &delete.with_clause,
        N::MergeStmt(merge) => &merge.with_clause,
        _ => return inner(node).map(written_by_inserts).unwrap_or_default(),
    };
    let query = |node: &pg_query::Node| match node.node.as_ref() {
        Some(N::CommonTableExpr(cte)) => cte
            .ctequery
            .as_ref()
            .and_then(|query| query.node.as_ref())
            .map(written_by_inserts)
            .unwrap_or_default(),
        _ => Vec::new(),
    };
    let mut all: Vec<(String, Vec<String>)> = with.iter().flat_map(|with| with.ctes.iter().flat_map(query)).collect();
    if let N::InsertStmt(insert) = node
        && let (Some(relation), Some(clause)) = (&insert.relation, &insert.on_conflict_clause)
        && clause.action() == OnConflictAction::OnconflictUpdate
    {
        all.push((relation.relname.clone(), names_of(&clause.target_list)));
    }
    all
}

/// Of a list of columns.
fn names_of(targets: &[pg_query::Node]) -> Vec<String> {
    let name = |node: &pg_query::Node| match &node.node {
        Some(NodeEnum::ResTarget(target)) => Some(target.name.clone()),
        _ => None,
    };
    targets.iter().filter_map(name).collect()
}

/// What [`changed`] tells, also of a plain UPDATE or DELETE, which cannot be split where it is a part of another statement.
pub fn all(node: &NodeEnum) -> Option<Vec<Name>> {
    match node {
        NodeEnum::UpdateStmt(update) => changed(node).or_else(|| Some(vec![Name::of(update.relation.as_ref()?)])),
        NodeEnum::DeleteStmt(delete) => changed(node).or_else(|| Some(vec![Name::of(delete.relation.as_ref()?)])),
        _ => changed(node),
    }
}

/// It changes rows, itself or within what it carries out.
pub fn changes(node: &NodeEnum) -> bool {
    all(node).is_some_and(|names| !names.is_empty())
}

/// The statement that this one carries out: EXPLAIN ANALYZE, COPY (…) TO, CREATE TABLE … AS, PREPARE (for its EXECUTE).
pub fn inner(node: &NodeEnum) -> Option<&NodeEnum> {
    let query = match node {
        NodeEnum::ExplainStmt(explain) if runs(explain) => explain.query.as_ref(),
        NodeEnum::CopyStmt(copy) => copy.query.as_ref(),
        NodeEnum::CreateTableAsStmt(create) => create.query.as_ref(),
        NodeEnum::PrepareStmt(prepare) => prepare.query.as_ref(),
        _ => None,
    };
    query?.node.as_ref()
}

/// What it carries out in the end.
pub fn innermost(node: &NodeEnum) -> &NodeEnum {
    inner(node).map_or(node, innermost)
}

/// The prepared statement that is executed here, or within EXPLAIN ANALYZE or CREATE TABLE … AS.
pub fn executes(node: &NodeEnum) -> Option<&str> {
    match node {
        NodeEnum::ExecuteStmt(execute) => Some(&execute.name),
        NodeEnum::PrepareStmt(_) => None,
        _ => executes(inner(node)?),
    }
}

/// Puts what is prepared in the place of the EXECUTE.
pub fn put_prepared(node: &mut NodeEnum, prepared: NodeEnum) {
    let within = |prepared| Some(Box::new(pg_query::Node { node: Some(prepared) }));
    match node {
        NodeEnum::ExplainStmt(explain) => explain.query = within(prepared),
        NodeEnum::CreateTableAsStmt(create) => create.query = within(prepared),
        _ => *node = prepared,
    }
}

/// The last ANALYZE decides; what is not clearly false counts.
fn runs(explain: &ExplainStmt) -> bool {
    let option = explain.options.iter().rev().find_map(|node| match &node.node {
        Some(NodeEnum::DefElem(element)) if element.defname == "analyze" => Some(element),
        _ => None,
    });
    option.is_some_and(|element| !is_false(element))
}

/// It is the statement's own ON CONFLICT DO UPDATE that changes rows.
pub fn replaces(node: &NodeEnum) -> bool {
    matches!(node, NodeEnum::InsertStmt(insert) if replaced(insert).is_some())
}

/// What ON CONFLICT DO UPDATE may change: as many rows as the query brings. Of VALUES the client has written every row itself, unless
/// something in them returns a set.
fn replaced(insert: &InsertStmt) -> Option<&RangeVar> {
    let updates = insert
        .on_conflict_clause
        .as_ref()
        .is_some_and(|clause| clause.action() == OnConflictAction::OnconflictUpdate);
    let written = match insert.select_stmt.as_ref().and_then(|query| query.node.as_ref()) {
        Some(NodeEnum::SelectStmt(select)) => {
            !select.values_lists.is_empty() && select.values_lists.iter().all(is_one_row)
        }
        // DEFAULT VALUES
        None => true,
        _ => false,
    };
    insert.relation.as_ref().filter(|_| updates && !written)
}

fn is_one_row(values: &pg_query::Node) -> bool {
    let mentions = Mentions::within(values);
    let returns_one = |name: &Name| returns_one(name.schema.as_deref(), &name.name);
    !mentions.unreadable && mentions.functions.iter().all(returns_one)
}

fn in_with(with: &WithClause) -> Vec<Name> {
    let query = |node: &pg_query::Node| match node.node.as_ref()? {
        NodeEnum::CommonTableExpr(cte) => Some(Name::of(target(cte.ctequery.as_ref()?.node.as_ref()?)?)),
        _ => None,
    };
    with.ctes.iter().filter_map(query).collect()
}

/// What an UPDATE, DELETE or MERGE changes; of a MERGE that only inserts, nothing.
fn target(node: &NodeEnum) -> Option<&RangeVar> {
    match node {
        NodeEnum::UpdateStmt(update) => update.relation.as_ref(),
        NodeEnum::DeleteStmt(delete) => delete.relation.as_ref(),
        NodeEnum::InsertStmt(insert) => replaced(insert),
        NodeEnum::MergeStmt(merge) => {
            let changes = |node: &pg_query::Node| match &node.node {
                Some(NodeEnum::MergeWhenClause(when)) => {
                    matches!(when.command_type(), CmdType::CmdUpdate | CmdType::CmdDelete)
                }
                _ => false,
            };
            let any = merge.merge_when_clauses.iter().any(changes);
            merge.relation.as_ref().filter(|_| any)
        }
        _ => None,
    }
}

/// Rows that it is expected to update or delete, from EXPLAIN (FORMAT JSON): what its ModifyTable nodes are given, wherever they stand.
pub fn changed_rows(json: &str) -> Option<f64> {
    let Ok(value) = serde_json::from_str::<Value>(json) else {
        return most_rows(json);
    };
    let plans: Vec<&Value> = value.as_array()?.iter().filter_map(|query| query.get("Plan")).collect();
    Some(plans.into_iter().map(given).sum())
}

/// A plan that is nested too deeply to be read counts by its largest node.
pub fn most_rows(json: &str) -> Option<f64> {
    let numbers = json.split("\"Plan Rows\":").skip(1).filter_map(|rest| {
        let rest = rest.trim_start();
        let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        rest[..end].parse::<f64>().ok()
    });
    numbers.reduce(f64::max)
}

fn given(plan: &Value) -> f64 {
    let children = || plan.get("Plans").and_then(Value::as_array).into_iter().flatten();
    let within: f64 = children().map(given).sum();
    let changes = plan["Node Type"] == "ModifyTable"
        && (plan["Operation"] != "Insert" || plan["Conflict Resolution"] == "UPDATE");
    // Before PostgreSQL 14 each partition has a node of its own.
    let own: f64 = children()
        .filter(|child| !matches!(child["Parent Relationship"].as_str(), Some("InitPlan" | "SubPlan")))
        .filter_map(|child| child["Plan Rows"].as_f64())
        .sum();
    within + if changes { own } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::{Gate, gate};
    use crate::reading::read;
    use crate::statement::Kind;

    #[test]
    fn what_is_changed() {
        let check = |sql: &str, expect: Option<&str>| {
            let statements = read(sql.as_bytes(), true).unwrap();
            let found = changed(&statements[0].node);
            let found_any = found.is_some();
            let names = found.map(|all| all.into_iter().map(|n| n.name).collect::<Vec<_>>().join(" "));
            assert_eq!(names.as_deref(), expect, "{sql}");
            // What is prepared is judged when it is executed.
            let judged = matches!(statements[0].kind, Kind::MixedWrite) || sql.starts_with("prepare");
            assert_eq!(judged && found_any, expect.is_some(), "{sql}");
            assert!(expect.is_none() || gate(sql.as_bytes()) == Gate::Read, "{sql}");
        };
        check("with d as (delete from t returning *) select * from d", Some("t"));
        let upsert = |values: &str| format!("insert into t values ({values}) on conflict (a) do update set b = 1");
        check(&upsert("generate_series(1, 9)"), Some("t"));
        check(&upsert("now(), somebodys(1)"), Some("t"));
        check(&upsert("now(), lower($1), (1 + 2)"), None);
        check("(with d as (delete from t returning *) select * from d)", Some("t"));
        check(
            "with d as (update s.t set a = 1 returning *) insert into u select * from d",
            Some("t"),
        );
        check(
            "with d as (delete from t returning *) update u set a = 1 where id = 1",
            Some("u t"),
        );
        check(
            "with d as (merge into t using s on true when matched then delete returning 1) select 1",
            Some("t"),
        );
        check(
            "merge into t using s on t.id = s.id when matched then update set a = 1",
            Some("t"),
        );
        check(
            "merge into t using s on t.id = s.id when not matched then insert values (1)",
            None,
        );
        check("merge into t using s on t.id = s.id when matched then do nothing", None);
        check("with d as (insert into t values (1) returning *) select * from d", None);
        check(
            "with d as (select 'update' from t) insert into u select * from d on conflict (a) do update set a = 1",
            Some("u"),
        );
        check(
            "insert into u select * from t on conflict (a) do update set a = 1",
            Some("u"),
        );
        check("insert into u values (1) on conflict (a) do update set a = 1", None);
        check(
            "insert into u values (1) union all select a from t on conflict (a) do update set a = 1",
            Some("u"),
        );
        check("insert into u table t on conflict (a) do update set a = 1", Some("u"));
        check("insert into u select * from t on conflict do nothing", None);
        check("insert into u select * from t", None);
        check("explain analyze update t set a = 1", Some("t"));
        check("explain (analyze, costs off) delete from t", Some("t"));
        check("explain (analyze off) delete from t", None);
        check("explain delete from t", None);
        check("copy (update t set a = 1 returning *) to stdout", Some("t"));
        check("copy (select 'update') to stdout", None);
        check(
            "create table n as with d as (delete from t returning *) select * from d",
            Some("t"),
        );
        check("prepare p as delete from t where a = $1", Some("t"));
        check("prepare p as select 'delete'", None);
        check("with d as (select 1) update t set a = 1", None);
    }

    #[test]
    fn what_is_explained() {
        let check = |sql: &str, expect: Option<&str>| {
            let statements = read(sql.as_bytes(), true).unwrap();
            assert_eq!(statements[0].explainable(), expect, "{sql}");
        };
        check("update t set a = 1", Some("update t set a = 1"));
        check("explain analyze update t set a = 1", Some("update t set a = 1"));
        check(
            "explain (analyze, buffers off) -- x\n delete from t -- y",
            Some("delete from t -- y"),
        );
        check("explain analyze execute p (1)", Some("execute p (1)"));
        check(
            "copy (delete from t where (a = ')') returning a) to stdout (format csv)",
            Some("delete from t where (a = ')') returning a"),
        );
        assert_eq!(
            executes(&read(b"explain analyze create table n as execute p (1)", true).unwrap()[0].node),
            Some("p")
        );
        assert_eq!(executes(&read(b"explain execute p (1)", true).unwrap()[0].node), None);
    }

    #[test]
    fn the_planner_s_estimate_is_read() {
        let table = |operation: &str, rows: &str| {
            format!(
                r#"{{"Node Type":"ModifyTable","Operation":"{operation}","Parent Relationship":"InitPlan","Plan Rows":7,"Plans":[{rows}]}}"#
            )
        };
        let scan =
            |rows: u32| format!(r#"{{"Node Type":"Seq Scan","Parent Relationship":"Member","Plan Rows":{rows}}}"#);
        let plan = |inner: &str| format!(r#"[{{"Plan":{{"Node Type":"CTE Scan","Plan Rows":99,"Plans":[{inner}]}}}}]"#);
        assert_eq!(
            changed_rows(&plan(&table("Delete", &[scan(30), scan(12)].join(",")))),
            Some(42.0)
        );
        assert_eq!(
            changed_rows(&plan(&table("Insert", &table("Update", &scan(5))))),
            Some(5.0)
        );
        assert_eq!(changed_rows(&plan(&scan(5))), Some(0.0));
        assert_eq!(changed_rows("no json"), None);
        let mut deep = scan(7);
        for rows in 0..200 {
            deep = format!(r#"{{"Node Type":"Nested Loop","Plan Rows":{rows},"Plans":[{deep}]}}"#);
        }
        assert_eq!(changed_rows(&plan(&table("Update", &deep))), Some(199.0));
    }
}
