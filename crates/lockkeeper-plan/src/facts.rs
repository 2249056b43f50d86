//! All that is known when a statement is planned: the catalog's answer to a [`Request`], decoded, and what was asked besides.

use super::ascii::decoded;
use super::batches::surroundings::Surroundings;
use super::bounds::Bounds;
use super::catalog::{Function, Name, Relation, Taken, TypeFact, stem};
use super::depends::Depends;
use super::jobs::{self, Access, JobTable};
use super::mixed;
use super::policy::Overridden;
use super::request::Request;
use super::statement::Statement;
use super::tool::Tool;
use super::trial::Tried;
use super::waiting::{Dropped, Waiting};
use pg_query::NodeEnum;
use serde::Deserialize;
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

/// What a statement takes away, and nobody has used for long.
#[derive(Clone, Debug, Default)]
pub struct Unused {
    /// Rules whose removals nobody has used for as long as the policy asks.
    pub rules: Vec<&'static str>,
    /// For the NOTICE and the audit log.
    pub reason: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub struct Facts {
    /// Set where nobody waits for the plan any more, which is then of no use.
    #[serde(skip)]
    pub given_up: Option<Arc<AtomicBool>>,
    /// As `server_version_num`: 180004.
    pub server_version: u32,
    pub database: String,
    /// current_user and session_user.
    pub role: String,
    pub session_role: String,
    /// Of `role`.
    #[serde(default)]
    pub superuser: bool,
    pub application_name: String,
    /// `current_setting('lockkeeper.override', true)`, empty as null.
    #[serde(rename = "override")]
    pub override_: Option<String>,
    /// A second person has approved it: what this comes to, where the policy asks for that.
    #[serde(skip)]
    pub approved: Option<Overridden>,
    /// The same of `lockkeeper.dry_run`.
    #[serde(default)]
    pub dry_run: Option<String>,
    /// The process of the server that has answered.
    #[serde(default)]
    pub backend_pid: i32,
    /// A connection pooler stands between us and the server.
    #[serde(skip)]
    pub pooled: bool,
    /// What the statement takes away has been unused for as long as the policy asks.
    #[serde(skip)]
    pub unused: Option<Unused>,
    /// An override is set there, which may be another client's.
    #[serde(skip)]
    pub override_lost: bool,
    pub time_zone: String,
    pub client_min_messages: String,
    /// Milliseconds, 0 = off.
    pub lock_timeout_ms: u64,
    pub statement_timeout_ms: u64,
    /// The server takes PREPARE TRANSACTION, which one that has used temporary tables cannot be given.
    #[serde(default)]
    pub may_prepare: bool,
    /// Functions may run with a schema change, and do whatever they like.
    #[serde(default)]
    pub event_triggers: bool,
    /// The table `lockkeeper.job`, where there is one.
    #[serde(default)]
    pub jobs: Option<JobTable>,
    /// The role's unfinished deferred jobs, where they were asked for with the facts.
    #[serde(skip)]
    pub unfinished: Option<Vec<Waiting>>,
    /// There is such a table, whether or not it was asked about.
    #[serde(default)]
    pub jobs_there: bool,
    /// The role may create it so that it can be used: a superuser, or the database's owner for himself.
    #[serde(default)]
    pub may_create_jobs: bool,
    pub relations: Vec<Relation>,
    /// By stem; they are told to each relation.
    #[serde(default)]
    pub taken_relations: Option<BTreeMap<String, Vec<String>>>,
    #[serde(default)]
    pub taken_constraints: Option<BTreeMap<String, Vec<(String, u32)>>>,
    #[serde(default)]
    pub functions: Vec<Function>,
    #[serde(default)]
    pub types: Vec<TypeFact>,
    /// What EXPLAIN expects an UPDATE or DELETE to touch; asked separately, None if not asked.
    #[serde(skip)]
    pub estimated_rows: Option<f64>,
    /// More than the policy's rows_max were counted, and no further.
    #[serde(skip)]
    pub more_were_counted: bool,
    /// What foreign keys would delete or change with its rows, where that is many; asked separately.
    #[serde(skip)]
    pub cascaded: Option<Cascaded>,
    /// What the server would call and check for it beyond what its text says; asked separately, where it would be done in batches.
    #[serde(skip)]
    pub surroundings: Option<Surroundings>,
    /// What the server would say against it; asked separately, in a dry run.
    #[serde(skip)]
    pub refused: Option<String>,
    /// What the server says against an UPDATE of the rows that a plan fills in; asked separately, where there is such a plan.
    #[serde(skip)]
    pub unfillable: Option<String>,
    /// The same of each statement in a DO block, in the order of [`super::body::Body::statements`]; None: EXPLAIN refuses it.
    #[serde(skip)]
    pub rows_within: Vec<Option<f64>>,
    /// As `cascaded`, of each of them.
    #[serde(skip)]
    pub cascaded_within: Vec<Option<Cascaded>>,
    /// Of each of these, whether more rows were counted than it may change.
    #[serde(skip)]
    pub many_within: Vec<bool>,
    /// An unfinished job for this very statement; asked separately, and only for an UPDATE or DELETE.
    #[serde(skip)]
    pub open_job: Option<i64>,
    /// What waits for COMMIT, or has been left unfinished after one; asked separately, and only for a schema change.
    #[serde(skip)]
    pub waiting: Vec<Waiting>,
    /// What the transaction's last statements have dropped, which this one may replace.
    #[serde(skip)]
    pub dropped: Vec<Dropped>,
    /// What a new partition may hold; asked separately, and only where attaching it would scan.
    #[serde(skip)]
    pub bounds: Option<Bounds>,
    /// What the statement takes with it; asked separately, and only of what can take something.
    #[serde(skip)]
    pub depends: Depends,
    /// The statement's letters beyond ASCII were masked: it came in another encoding than UTF-8.
    #[serde(skip)]
    pub is_masked: bool,
    /// What the actions of an ALTER TABLE would do; asked separately, and only where the rules rest on it.
    #[serde(skip)]
    pub tried: Option<Tried>,
    /// The migration tool that the session was recognised as.
    #[serde(skip)]
    pub tool: Option<Tool>,
    /// No server was asked (`lockkeeper check` without one): relations not listed exist and are large.
    #[serde(skip)]
    pub offline: bool,
}

/// What is known of a statement that takes many rows with it.
#[derive(Clone, Debug, PartialEq)]
pub struct Cascaded {
    pub rows: f64,
    pub told: Told,
    /// `public.posts (ON DELETE CASCADE of posts_tenant_fkey)`, where most of them are.
    pub of: String,
    /// `Delete those rows of public.posts first, by tenant`
    pub first: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// There are more than `rows`.
    Counted,
    /// As many as that on the average.
    Expected,
    /// They could not be counted in time, and may be as many as that.
    Feared,
    /// More foreign keys lead on, one behind the other, than are followed.
    Unfollowed,
}

/// Rows that the ModifyTable node is expected to be given, from EXPLAIN (FORMAT JSON). What CTEs and uncorrelated sub-selects
/// read is not among them.
pub fn planned_rows(json: &str) -> Option<f64> {
    let Ok(value) = serde_json::from_str::<serde_json::Value>(json) else {
        return mixed::most_rows(json);
    };
    let rows = |plan: &serde_json::Value| {
        let children = plan.get("Plan")?.get("Plans")?.as_array()?;
        children
            .iter()
            .filter(|child| {
                child
                    .get("Parent Relationship")
                    .is_none_or(|is| is != "InitPlan" && is != "SubPlan")
            })
            .filter_map(|child| child.get("Plan Rows")?.as_f64())
            // Before PostgreSQL 14 each partition has a node of its own.
            .reduce(|a, b| a + b)
    };
    // A rule (CREATE RULE) makes several of one.
    value.as_array()?.iter().filter_map(rows).reduce(|a, b| a + b)
}

impl Facts {
    /// The answer to [`Request::sql`].
    pub fn decode(answer: &str) -> Result<Facts, String> {
        let mut facts: Facts =
            decoded(answer).map_err(|error| format!("the catalog query's answer cannot be read: {error}"))?;
        let mut shared: BTreeMap<String, Arc<Taken>> = BTreeMap::new();
        let mut relations = facts.taken_relations.take().unwrap_or_default();
        let mut constraints = facts.taken_constraints.take().unwrap_or_default();
        for relation in &mut facts.relations {
            let stem = stem(&relation.name);
            let taken = shared.entry(stem.to_string()).or_insert_with(|| {
                Arc::new(Taken {
                    relations: relations.remove(stem).unwrap_or_default(),
                    constraints: constraints.remove(stem).unwrap_or_default(),
                })
            });
            relation.taken = Arc::clone(taken);
        }
        Ok(facts)
    }

    /// What is known without a server: nothing, so the rules assume that relations exist and are large.
    pub fn offline(server_version: u32) -> Facts {
        Facts {
            server_version,
            offline: true,
            ..Facts::default()
        }
    }

    /// Also the names that what waits will bring count as taken.
    pub fn reserve(&mut self, waiting: Vec<Waiting>) {
        for job in waiting.iter().filter(|job| job.there) {
            let brings = &job.details.brings;
            for relation in self.relations.iter_mut().filter(|r| r.schema == job.details.schema) {
                relation.taken_relations.extend(brings.iter().cloned());
                relation.taken_constraints.extend(brings.iter().cloned());
            }
        }
        self.waiting = waiting;
    }

    /// What an UPDATE or DELETE changes.
    pub fn target(&self, statement: &Statement) -> Option<&Relation> {
        self.relation(Request::target(statement).relations.first()?)
    }

    /// As they will be within a DO block whose statements have locked this table so that writes stop, and have added these
    /// constraints to it.
    pub fn hold(&mut self, table: &Name, added: &[String]) {
        let Some(oid) = self.relation(table).map(|relation| relation.oid) else {
            return;
        };
        for relation in self.relations.iter_mut().filter(|relation| relation.oid == oid) {
            relation.held_in_block = true;
            if !added.is_empty() {
                relation.constraints.retain(|known| !added.contains(&known.name));
            }
        }
    }

    /// Of an UPDATE or DELETE without a condition, which means every row, whatever values it has in it.
    pub fn all_rows(&self, node: &NodeEnum) -> Option<f64> {
        let relation = match node {
            NodeEnum::UpdateStmt(update) if update.where_clause.is_none() && update.from_clause.is_empty() => {
                &update.relation
            }
            NodeEnum::DeleteStmt(delete) if delete.where_clause.is_none() && delete.using_clause.is_empty() => {
                &delete.relation
            }
            _ => return None,
        };
        self.relation(&Name::of(relation.as_ref()?))?.rows
    }

    pub fn relation(&self, name: &Name) -> Option<&Relation> {
        self.relations.iter().find(|r| &r.asked == name)
    }

    /// What the role can do about jobs.
    pub fn job_access(&self) -> Access {
        let database = &self.database;
        let init = format!("a superuser runs once: lockkeeper init --dsn 'dbname={database} …'");
        if self.pooled {
            return Access::None(jobs::NO_JOBS.into());
        }
        match &self.jobs {
            None if self.may_create_jobs => Access::Create,
            None => Access::None(format!(
                "there is no table lockkeeper.job to keep its progress in; {init}"
            )),
            Some(JobTable { comment, .. }) if comment == jobs::OLD_VERSION => Access::None(format!(
                "lockkeeper.job is of an older version of Lockkeeper (\"{comment}\", this one needs \"{}\"); to bring it up to date, {init}",
                jobs::VERSION
            )),
            Some(JobTable { comment, .. }) if comment != jobs::VERSION => Access::None(format!(
                "lockkeeper.job is of another version of Lockkeeper (\"{comment}\", this one needs \"{}\"); finish or cancel \
                 its jobs with that version, drop it, and {init}",
                jobs::VERSION
            )),
            Some(JobTable {
                distrust: Some(why), ..
            }) => Access::None(jobs::distrusted(why, database)),
            Some(JobTable { usable: false, .. }) => {
                Access::None(format!("the role {} has no right on lockkeeper.job; {init}", self.role))
            }
            Some(_) => Access::Ready,
        }
    }

    /// The partitions and children right below it, in the order of their names.
    pub fn children<'a>(&'a self, of: &'a Relation) -> Vec<&'a Relation> {
        let parent = of.qualified();
        let mut seen = HashSet::new();
        let is_child = |relation: &&Relation| relation.parents.contains(&parent);
        // Named in the statement too, it is there twice.
        let mut found: Vec<&Relation> = self
            .relations
            .iter()
            .filter(is_child)
            .filter(|relation| seen.insert(relation.oid))
            .collect();
        found.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
        found
    }

    /// All that inherits from it, the nearest first.
    pub fn descendants<'a>(&'a self, of: &'a Relation) -> Vec<&'a Relation> {
        let mut below: BTreeMap<(&str, &str), Vec<&Relation>> = BTreeMap::new();
        for relation in &self.relations {
            for parent in &relation.parents {
                let schema = parent.schema.as_deref().unwrap_or_default();
                below.entry((schema, &parent.name)).or_default().push(relation);
            }
        }
        let mut seen = HashSet::new();
        let mut all: Vec<&Relation> = Vec::new();
        let mut next = Some(of);
        let mut at = 0;
        while let Some(relation) = next {
            let mut children = below
                .remove(&(relation.schema.as_str(), relation.name.as_str()))
                .unwrap_or_default();
            children.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
            all.extend(children.into_iter().filter(|child| seen.insert(child.oid)));
            next = all.get(at).copied();
            at += 1;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::Index;

    /// As PostgreSQL 18.4 answered it.
    const ANSWER: &str = r#"{"server_version": 180004, "database": "postgres", "role": "postgres", "session_role": "postgres", "application_name": "psql", "override": "x", "time_zone": "Etc/UTC", "client_min_messages": "notice", "lock_timeout_ms": 70000, "statement_timeout_ms": 0,
"relations": [{"asked": {"schema": "public", "name": "users"}, "oid": 16534, "schema": "public", "name": "users", "kind": "r", "persistence": "p", "bytes": 49152, "rows": 1000, "created_here": false, "is_partition": false, "owner": "postgres", "table": null,
"columns": [{"name": "id", "type_name": "bigint", "not_null": true, "default": null, "identity": "", "generated": ""},
{"name": "email", "type_name": "character varying(80)", "not_null": true, "default": null, "identity": "", "generated": ""},
{"name": "org", "type_name": "integer", "not_null": false, "default": "random()", "identity": "", "generated": ""}],
"indexes": [{"oid": 16540, "schema": "public", "name": "users_pkey", "valid": true, "ready": true, "unique": true, "primary": true, "immediate": true, "partial": false, "method": "btree",
"columns": ["id"], "mentions": ["id"], "constraint": "users_pkey", "bytes": 40960, "definition": "CREATE UNIQUE INDEX users_pkey ON public.users USING btree (id)"},
{"oid": 16542, "schema": "public", "name": "users_email_key", "valid": true, "ready": true, "unique": true, "primary": false, "immediate": true, "partial": false, "method": "btree",
"columns": ["email"], "mentions": ["email"], "constraint": "users_email_key", "bytes": 49152, "definition": "CREATE UNIQUE INDEX users_email_key ON public.users USING btree (email)"},
{"oid": 16549, "schema": "public", "name": "users_lower", "valid": true, "ready": true, "unique": false, "primary": false, "immediate": true, "partial": true, "method": "btree",
"columns": [null], "mentions": ["email"], "constraint": null, "bytes": 40960, "definition": "CREATE INDEX users_lower ON public.users USING btree (lower((email)::text)) WHERE ((email)::text <> ''::text)"}],
"constraints": [{"name": "users_id_not_null", "kind": "n", "validated": true,
"columns": ["id"], "definition": "NOT NULL id", "references": null, "comment": null},
{"name": "users_email_not_null", "kind": "n", "validated": true,
"columns": ["email"], "definition": "NOT NULL email", "references": null, "comment": null},
{"name": "users_pkey", "kind": "p", "validated": true,
"columns": ["id"], "definition": "PRIMARY KEY (id)", "references": null, "comment": null},
{"name": "users_email_key", "kind": "u", "validated": true,
"columns": ["email"], "definition": "UNIQUE (email)", "references": null, "comment": null},
{"name": "users_org_fkey", "kind": "f", "validated": true,
"columns": ["org"], "definition": "FOREIGN KEY (org) REFERENCES orgs(id)", "references": {"schema": "public", "name": "orgs"}, "comment": null}],
"triggers": [{"name": "users_trg", "for_each_row": true, "transition": false, "on_update": true, "on_delete": false}]},
{"asked": {"schema": null, "name": "users_lower"}, "oid": 16549, "schema": "public", "name": "users_lower", "kind": "i", "persistence": "p", "bytes": 40960, "rows": 1000, "created_here": false, "is_partition": false, "owner": "postgres", "table": {"schema": "public", "name": "users"},
"columns": [{"name": "lower", "type_name": "text", "not_null": false, "default": null, "identity": "", "generated": ""}],
"indexes": [],
"constraints": [],
"triggers": []}],
"functions": [{"asked": {"schema": null, "name": "random"}, "volatile": true}],
"types": [{"asked": {"schema": null, "name": "d3"}, "kind": "d", "constrained": true}]}"#;

    #[test]
    fn an_answer_is_decoded() {
        let facts = serde_json::from_str::<Facts>(ANSWER).unwrap();
        assert_eq!(
            (facts.server_version, facts.lock_timeout_ms, facts.override_.as_deref()),
            (180004, 70000, Some("x"))
        );
        let name = |schema: Option<&str>, name: &str| Name {
            schema: schema.map(str::to_string),
            name: name.to_string(),
        };
        let users = facts.relation(&name(Some("public"), "users")).unwrap();
        assert!(facts.relation(&name(None, "users")).is_none());
        assert_eq!((users.kind, users.persistence, users.rows), ('r', 'p', Some(1000.0)));
        assert!(users.is_small(10 << 20) && !users.is_small(users.bytes));
        assert!(!users.invisible_to_others());
        assert_eq!(
            users.column("email").map(|c| (c.type_name.as_str(), c.not_null)),
            Some(("character varying(80)", true))
        );
        assert_eq!(users.column("org").and_then(|c| c.default.as_deref()), Some("random()"));
        assert_eq!(
            users
                .index("users_lower")
                .map(|i| (i.columns.clone(), i.mentions.clone(), i.partial)),
            Some((vec![None], vec!["email".to_string()], true))
        );
        assert_eq!(
            users.constraint("users_org_fkey").and_then(|c| c.references.clone()),
            Some(name(Some("public"), "orgs"))
        );
        assert_eq!(
            users
                .triggers
                .iter()
                .map(|t| (t.on_update, t.on_delete, t.for_each_row))
                .collect::<Vec<_>>(),
            [(true, false, true)]
        );
        assert_eq!(users.usable_key(), Some(vec![("id".to_string(), "bigint".to_string())]));
        let index = facts.relation(&name(None, "users_lower")).unwrap();
        assert_eq!(index.table, Some(name(Some("public"), "users")));
        assert!(facts.functions.iter().any(|f| f.asked.name == "random" && f.volatile));
        assert!(
            facts
                .types
                .iter()
                .any(|t| t.asked.name == "d3" && t.kind == 'd' && t.constrained)
        );
        let empty = serde_json::from_str::<Facts>("{}");
        assert!(empty.unwrap_err().to_string().contains("server_version"));
    }

    #[test]
    fn keys_that_tell_rows_apart() {
        let facts = serde_json::from_str::<Facts>(ANSWER).unwrap();
        let check = |change: fn(&mut Relation), expect: Option<&str>| {
            let mut users = facts.relations[0].clone();
            change(&mut users);
            let key = users
                .usable_key()
                .map(|key| key.into_iter().map(|(name, _)| name).collect::<Vec<_>>().join(" "));
            assert_eq!(key.as_deref(), expect);
        };
        fn without_primary(r: &mut Relation) {
            r.indexes.retain(|i| !i.primary);
        }
        fn email(r: &mut Relation) -> &mut Index {
            without_primary(r);
            r.indexes.iter_mut().find(|i| i.name == "users_email_key").unwrap()
        }
        check(|_| (), Some("id"));
        check(without_primary, Some("email"));
        check(|r| email(r).valid = false, None);
        check(|r| email(r).partial = true, None);
        check(|r| email(r).immediate = false, None);
        check(|r| email(r).columns.push(None), None);
        check(|r| email(r).columns.push(Some("org".into())), None);
        check(|r| email(r).method = "hash".into(), None);
    }

    #[test]
    fn the_planner_s_estimate_is_read() {
        let json = r#"[{"Plan":{"Node Type":"ModifyTable","Plan Rows":0,"Plans":[{"Node Type":"Seq Scan","Plan Rows":1234}]}}]"#;
        assert_eq!(planned_rows(json), Some(1234.0));
        let json = r#"[{"Plan":{"Plans":[{"Parent Relationship":"InitPlan","Plan Rows":9},{"Parent Relationship":"Outer","Plan Rows":3}]}}]"#;
        assert_eq!(planned_rows(json), Some(3.0));
        let json = r#"[{"Plan":{"Plans":[{"Plan Rows":3}]}},{"Plan":{"Plans":[{"Plan Rows":5}]}}]"#;
        assert_eq!(planned_rows(json), Some(8.0));
        let json = r#"[{"Plan":{"Plans":[{"Parent Relationship":"Member","Plan Rows":3},{"Parent Relationship":"Member","Plan Rows":4}]}}]"#;
        assert_eq!(planned_rows(json), Some(7.0));
        assert_eq!(planned_rows("[]"), None);
        assert_eq!(planned_rows("no json"), None);
    }

    #[test]
    fn who_may_keep_jobs() {
        let check = |jobs: Option<(&str, bool, bool)>, may_create_jobs, expect: &str| {
            let facts = Facts {
                jobs: jobs.map(|(comment, trusted, usable)| JobTable {
                    comment: comment.into(),
                    distrust: (!trusted).then(|| "o may change it".to_string()),
                    usable,
                }),
                may_create_jobs,
                ..Facts::default()
            };
            let said = format!("{:?}", facts.job_access());
            assert!(said.contains(expect), "{said}");
        };
        check(None, true, "Create");
        check(None, false, "lockkeeper init");
        check(Some((jobs::VERSION, true, true)), false, "Ready");
        check(Some((jobs::VERSION, true, false)), false, "no right");
        check(Some((jobs::VERSION, false, true)), true, "o may change it");
        check(Some(("lockkeeper jobs, version 0", true, true)), true, "version 0");
    }
}
