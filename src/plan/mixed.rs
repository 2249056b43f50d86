//! Statements that update or delete rows otherwise than as an UPDATE or DELETE of its own: MERGE, and a WITH that changes data. They
//! cannot be split, and are judged by the rows that the planner expects them to change.

use super::facts::Name;
use pg_query::NodeEnum;
use pg_query::protobuf::{CmdType, RangeVar, WithClause};
use serde_json::Value;

/// The tables whose rows it updates or deletes. None: it is no such statement, or it only inserts.
pub fn changed(node: &NodeEnum) -> Option<Vec<Name>> {
    use NodeEnum as N;
    let (own, with) = match node {
        N::SelectStmt(select) => (None, &select.with_clause),
        N::InsertStmt(insert) => (None, &insert.with_clause),
        N::UpdateStmt(update) => (update.relation.as_ref(), &update.with_clause),
        N::DeleteStmt(delete) => (delete.relation.as_ref(), &delete.with_clause),
        N::MergeStmt(merge) => (target(node), &merge.with_clause),
        _ => return None,
    };
    let within = with.as_ref().map(in_with).unwrap_or_default();
    // An UPDATE or DELETE without such a WITH can be split.
    let mixed = !within.is_empty() || (own.is_some() && matches!(node, N::MergeStmt(_)));
    mixed.then(|| own.map(Name::of).into_iter().chain(within).collect())
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
    let value: Value = serde_json::from_str(json).ok()?;
    let plans: Vec<&Value> = value.as_array()?.iter().filter_map(|query| query.get("Plan")).collect();
    Some(plans.into_iter().map(given).sum())
}

fn given(plan: &Value) -> f64 {
    let children = || plan.get("Plans").and_then(Value::as_array).into_iter().flatten();
    let within: f64 = children().map(given).sum();
    let changes = plan["Node Type"] == "ModifyTable" && plan["Operation"] != "Insert";
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
    use crate::plan::statement::{Gate, Kind, gate, read};

    #[test]
    fn what_is_changed() {
        let check = |sql: &str, expect: Option<&str>| {
            let statements = read(sql.as_bytes(), true).unwrap();
            let found = changed(&statements[0].node);
            let names = found.map(|all| all.into_iter().map(|n| n.name).collect::<Vec<_>>().join(" "));
            assert_eq!(names.as_deref(), expect, "{sql}");
            assert_eq!(
                matches!(statements[0].kind, Kind::MixedWrite),
                expect.is_some(),
                "{sql}"
            );
            assert!(expect.is_none() || gate(sql.as_bytes()) == Gate::Read, "{sql}");
        };
        check("with d as (delete from t returning *) select * from d", Some("t"));
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
            None,
        );
        check("with d as (select 1) update t set a = 1", None);
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
    }
}
