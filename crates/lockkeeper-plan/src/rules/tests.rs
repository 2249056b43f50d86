//! Over the whole table, with the facts of a small made-up database, and single plans in a compact form.

use super::{RULES, find};
use crate::catalog::{Column, Constraint, Function, Index, Name, Relation, TypeFact};
use crate::depends::{Depends, Part, State, Taken, What};
use crate::facts::Facts;
use crate::outcome::Plan;
use crate::policy::Policy;
use crate::reading;
use crate::reading::read;
use crate::request::Request;
use crate::statement::Statement;
use crate::step::{Mode, Place};
use crate::{glance, plan};
use std::sync::Arc;

fn name(text: &str) -> Name {
    Name {
        schema: None,
        name: text.to_string(),
    }
}

fn column(text: &str, type_name: &str, not_null: bool) -> Column {
    Column {
        name: text.to_string(),
        type_name: type_name.to_string(),
        not_null,
        analyzed: true,
        ..Column::default()
    }
}

fn index(oid: u32, text: &str, columns: &[&str], unique: bool, constraint: Option<&str>) -> Index {
    Index {
        oid,
        schema: "public".to_string(),
        name: text.to_string(),
        valid: true,
        ready: true,
        unique,
        primary: text.ends_with("_pkey"),
        immediate: true,
        partial: false,
        method: "btree".to_string(),
        columns: columns.iter().map(|c| Some((*c).to_string())).collect(),
        mentions: columns.iter().map(|c| (*c).to_string()).collect(),
        constraint: constraint.map(str::to_string),
        bytes: 40 << 20,
        ..Index::default()
    }
}

fn relation(oid: u32, text: &str, kind: char, bytes: u64) -> Relation {
    Relation {
        oid,
        kind,
        bytes,
        rows: Some(bytes as f64 / 100.0),
        ..crate::subject::unknown(&name(text))
    }
}

/// users is large, small is small, fresh was created by this transaction.
fn facts(version: u32) -> Facts {
    let mut users = relation(1, "users", 'r', 200 << 20);
    users.columns = vec![
        column("id", "bigint", true),
        column("name", "text", false),
        column("email", "text", false),
        column("age", "integer", false),
        column("org_id", "integer", false),
        column("label", "character varying(10)", false),
        column("proven", "integer", false),
        Column {
            generated: "s".to_string(),
            ..column("doubled", "integer", false)
        },
    ];
    users.indexes = vec![
        index(11, "users_pkey", &["id"], true, Some("users_pkey")),
        index(12, "users_name_idx", &["name"], false, None),
        index(13, "users_low_idx", &["name"], false, None),
        index(15, "users_u", &["email", "id"], true, None),
    ];
    let constraint = |text: &str, kind, validated, on: &str, definition: &str| Constraint {
        name: text.to_string(),
        kind,
        validated,
        columns: vec![on.to_string()],
        definition: definition.to_string(),
        references: None,
        comment: None,
    };
    users.constraints = vec![
        constraint("users_proven", 'c', true, "proven", "CHECK ((proven IS NOT NULL))"),
        constraint("users_age_later", 'c', false, "age", "CHECK ((age > 1)) NOT VALID"),
        constraint(
            "users_org_off",
            'f',
            false,
            "org_id",
            "FOREIGN KEY (org_id) REFERENCES orgs(id) NOT ENFORCED",
        ),
    ];
    let mut small = relation(2, "small", 'r', 8192);
    small.columns = vec![column("a", "integer", false), column("b", "integer", false)];
    let mut fresh = relation(3, "fresh_here", 'r', 200 << 20);
    fresh.created_here = true;
    let mut totals = relation(4, "totals", 'm', 200 << 20);
    totals.indexes = vec![index(14, "totals_k", &["k"], true, None)];
    let indexes = [
        (11, "users_pkey"),
        (12, "users_name_idx"),
        (13, "users_low_idx"),
        (15, "users_u"),
    ]
    .map(|(oid, text)| {
        let mut index = relation(oid, text, 'i', 40 << 20);
        index.table = Some(name("users"));
        index
    });
    let mut relations = vec![users, small, fresh, totals];
    relations.extend(indexes);
    relations.push(relation(5, "bare", 'm', 200 << 20));
    relations.push(relation(6, "parted", 'p', 200 << 20));
    let mut partition = relation(7, "parted_1", 'r', 200 << 20);
    partition.parents = vec![relations[relations.len() - 1].qualified()];
    relations.push(partition);
    relations.push(relation(8, "orgs", 'r', 200 << 20));
    relations.push(relation(9, "v", 'v', 0));
    let function = |text: &str, volatile| Function {
        asked: name(text),
        volatile,
        immutable: !volatile,
        built_in: true,
    };
    let domain = |text: &str, constrained| TypeFact {
        asked: name(text),
        kind: 'd',
        constrained,
        base: Some("integer".to_string()),
        used_bytes: if constrained { 0 } else { 200 << 20 },
        checks: if constrained {
            vec!["CHECK ((VALUE > 0))".to_string()]
        } else {
            Vec::new()
        },
        ..TypeFact::default()
    };
    let taken = |statement: &str| Taken {
        statement: statement.to_string(),
        found: true,
        permitted: true,
        ..Taken::default()
    };
    let depends = Depends {
        taken: vec![
            taken("DROP DATABASE shop"),
            taken("DROP ROLE app"),
            Taken {
                restoring: true,
                ..taken("DROP FUNCTION public.restored()")
            },
            Taken {
                parts: vec![Part {
                    what: What::Default,
                    relation: "users".to_string(),
                    part: Some("org_id".to_string()),
                    ..Part::default()
                }],
                ..taken("DROP SEQUENCE used_by_default CASCADE")
            },
            Taken {
                states: vec![State {
                    oid: 1,
                    ..State::default()
                }],
                ..taken("ALTER TABLE users FORCE ROW LEVEL SECURITY, ENABLE ROW LEVEL SECURITY")
            },
            Taken {
                states: vec![State {
                    oid: 1,
                    secured: true,
                    shared: true,
                    ..State::default()
                }],
                ..taken("ALTER TABLE users DISABLE ROW LEVEL SECURITY")
            },
            Taken {
                states: vec![State {
                    oid: 1,
                    published: true,
                    ..State::default()
                }],
                ..taken("ALTER TABLE users REPLICA IDENTITY NOTHING")
            },
        ],
    };
    Facts {
        depends,
        server_version: version * 10000,
        time_zone: "UTC".to_string(),
        estimated_rows: Some(2_000_000.0),
        relations,
        functions: vec![function("gen_random_uuid", true), function("now", false)],
        types: vec![domain("positive_int", true), domain("plain_domain", false)],
        ..Facts::default()
    }
}

fn policy() -> Policy {
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    Policy::embedded("standard", &names).expect("the embedded policy knows the rules")
}

fn planned(sql: &str, facts: &Facts, place: Place) -> Plan {
    let statements = reading::read(sql.as_bytes(), true).unwrap_or_else(|e| panic!("{sql}: {e:?}"));
    crate::plan(&statements[0], facts, &policy(), place)
}

fn rules_of(plan: &Plan) -> Vec<&'static str> {
    let findings = match plan {
        Plan::Forward { findings, .. } => findings,
        Plan::Run(run) => &run.findings,
        Plan::Reject(rejection) => &rejection.findings,
    };
    findings.iter().map(|f| f.rule).collect()
}

/// "reject 55000: drop-column", or the steps, one a line.
fn rendered(plan: &Plan) -> String {
    match plan {
        Plan::Forward { .. } => "forward".to_string(),
        Plan::Reject(rejection) => format!("reject {}: {}", rejection.sqlstate, rules_of(plan).join(", ")),
        Plan::Run(run) => {
            let line = |step: &crate::step::Step| match &step.mode {
                Mode::Brief { then } => format!("brief {}{}", step.sql, " + then".repeat(then.len())),
                Mode::Long { then } => format!("long {}{}", step.sql, " + then".repeat(then.len())),
                Mode::Concurrent => format!("concurrent {}", step.sql),
                Mode::Batches(_) => format!("batches {}", step.sql),
                Mode::Rewrite(online) => format!("rewrite {} with {}", online.name, online.with),
                Mode::Rows => "rows".to_string(),
            };
            run.steps.iter().map(line).collect::<Vec<_>>().join("\n")
        }
    }
}

#[track_caller]
fn check(version: u32, sql: &str, expect: &str) {
    assert_eq!(rendered(&planned(sql, &facts(version), Place::Alone)), expect, "{sql}");
}

#[test]
fn every_rule_finds_its_bad_and_leaves_its_good_alone() {
    for rule in RULES {
        assert!(
            !rule.bad.is_empty() && !rule.good.is_empty(),
            "{} has no examples",
            rule.name
        );
        let place = match rule.name {
            "concurrent-in-transaction" => Place::Block,
            _ => Place::Alone,
        };
        for (examples, expect) in [(rule.bad, true), (rule.good, false)] {
            for sql in examples {
                let mut facts = facts(18);
                if rule.name == "server-fault" {
                    facts.server_version = 140_003;
                }
                let found = rules_of(&planned(sql, &facts, place));
                assert_eq!(
                    found.contains(&rule.name),
                    expect,
                    "{}: {sql} finds {found:?}",
                    rule.name
                );
            }
        }
    }
}

#[test]
fn names_are_unique_and_found() {
    for rule in RULES {
        assert!(std::ptr::eq(
            find(rule.name).expect("is in the table"),
            find(rule.name).expect("is in the table")
        ));
        assert_eq!(RULES.iter().filter(|other| other.name == rule.name).count(), 1);
    }
}

#[test]
fn every_step_parses_and_is_left_alone_when_planned_again() {
    for version in [13, 15, 18] {
        for sql in RULES.iter().flat_map(|rule| rule.bad) {
            let facts = facts(version);
            let Plan::Run(run) = planned(sql, &facts, Place::Alone) else {
                continue;
            };
            assert!(!run.steps.is_empty(), "{sql}");
            for step in &run.steps {
                let then = match &step.mode {
                    Mode::Brief { then } | Mode::Long { then } => then.as_slice(),
                    _ => &[],
                };
                let queries = [
                    step.done_when.as_ref(),
                    step.cleanup.as_ref().map(|c| &c.when),
                    step.cleanup.as_ref().map(|c| &c.sql),
                    step.rollback.as_ref(),
                ];
                for text in then.iter().chain(queries.into_iter().flatten()).chain([&step.sql]) {
                    let parsed = pg_query::parse(text, pg_query::ParserOptions::DEFAULT)
                        .unwrap_or_else(|e| panic!("{sql}: {text}: {e}"));
                    assert_eq!(parsed.protobuf.stmts.len(), 1, "{sql}: {text}");
                }
                // SET NOT NULL is instant only once the check before it is validated.
                let proven_before = step.sql.ends_with("SET NOT NULL");
                if matches!(step.mode, Mode::Brief { .. } | Mode::Concurrent) && !proven_before {
                    match planned(&step.sql, &facts, Place::Alone) {
                        Plan::Forward { .. } => {}
                        Plan::Run(again) => {
                            assert_eq!(again.steps.len(), 1, "{sql}: {}", step.sql);
                            assert_eq!(again.steps[0].sql, step.sql, "{sql}");
                        }
                        Plan::Reject(r) => panic!("{sql}: {} is refused: {}", step.sql, r.message),
                    }
                }
            }
        }
    }
}

#[test]
fn set_not_null_by_version() {
    check(
        15,
        "ALTER TABLE users ALTER email SET NOT NULL",
        "brief ALTER TABLE users ADD CONSTRAINT lockkeeper_users_email_not_null CHECK (email IS NOT NULL) NOT VALID + then\n\
         long ALTER TABLE users VALIDATE CONSTRAINT lockkeeper_users_email_not_null\n\
         brief ALTER TABLE users ALTER COLUMN email SET NOT NULL + then",
    );
    check(
        18,
        "ALTER TABLE users ALTER email SET NOT NULL",
        "brief ALTER TABLE users ADD CONSTRAINT users_email_not_null NOT NULL email NOT VALID + then\n\
         long ALTER TABLE users VALIDATE CONSTRAINT users_email_not_null + then",
    );
}

#[test]
fn unflagged_neighbours_stay_together() {
    check(
        15,
        "ALTER TABLE users ADD a int, ADD b int, ADD CONSTRAINT c CHECK (a > 0), ALTER label SET DEFAULT ''",
        "brief ALTER TABLE users ADD CONSTRAINT lockkeeper_progress CHECK (true) NO INHERIT NOT VALID + then\n\
         brief ALTER TABLE users ADD a int, ADD b int, ALTER label SET DEFAULT '' + then\n\
         brief ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID + then\n\
         long ALTER TABLE users VALIDATE CONSTRAINT c + then + then\n\
         brief ALTER TABLE users DROP CONSTRAINT lockkeeper_progress",
    );
}

#[test]
fn a_proving_check_is_dropped_after_the_proof() {
    check(
        15,
        "ALTER TABLE users DROP CONSTRAINT users_proven, ALTER proven SET NOT NULL, ADD UNIQUE (email)",
        "brief ALTER TABLE users ADD CONSTRAINT lockkeeper_progress CHECK (true) NO INHERIT NOT VALID + then\n\
         brief ALTER TABLE users ALTER COLUMN proven SET NOT NULL + then\n\
         concurrent CREATE UNIQUE INDEX CONCURRENTLY users_email_key ON users (email)\n\
         brief ALTER TABLE users ADD CONSTRAINT users_email_key UNIQUE USING INDEX users_email_key + then\n\
         brief ALTER TABLE users DROP CONSTRAINT users_proven + then\n\
         brief ALTER TABLE users DROP CONSTRAINT lockkeeper_progress",
    );
}

#[test]
fn a_split_statement_goes_on_behind_the_actions_that_are_noted() {
    let sql = "ALTER TABLE users ADD a int, ADD CONSTRAINT c CHECK (a > 0), ALTER label SET DEFAULT ''";
    let noted = |done: &str| {
        let mut facts = facts(15);
        facts.relations[0].constraints.push(Constraint {
            name: "lockkeeper_progress".to_string(),
            kind: 'c',
            validated: false,
            columns: Vec::new(),
            definition: "CHECK (true) NO INHERIT NOT VALID".to_string(),
            references: None,
            comment: Some(crate::remedies::steps::mark(done, sql)),
        });
        rendered(&planned(sql, &facts, Place::Alone))
    };
    assert_eq!(
        noted("done: 0 2"),
        "brief ALTER TABLE users ADD CONSTRAINT c CHECK (a > 0) NOT VALID + then\n\
         long ALTER TABLE users VALIDATE CONSTRAINT c + then + then\n\
         brief ALTER TABLE users DROP CONSTRAINT lockkeeper_progress"
    );
    assert_eq!(
        noted("done: 0 2 1"),
        "brief ALTER TABLE users DROP CONSTRAINT lockkeeper_progress"
    );
}

#[test]
fn what_nobody_else_sees_goes_on_as_it_is() {
    check(15, "CREATE INDEX ON fresh_here (a)", "forward");
    check(15, "ALTER TABLE nowhere ADD COLUMN a int", "forward");
    check(15, "CREATE TABLE another (a int)", "forward");
    check(15, "CREATE INDEX ON small (a)", "brief CREATE INDEX ON small (a)");
    check(
        15,
        "ALTER TABLE small ALTER a SET NOT NULL",
        "brief ALTER TABLE small ALTER a SET NOT NULL",
    );
}

#[test]
fn inside_a_transaction() {
    let block = |sql: &str| rendered(&planned(sql, &facts(15), Place::Block));
    assert_eq!(
        block("ALTER TABLE users ADD COLUMN ok boolean"),
        "brief ALTER TABLE users ADD COLUMN ok boolean"
    );
    assert_eq!(
        block("CREATE INDEX ON users (email)"),
        "reject 25001: nonconcurrent-index"
    );
    assert_eq!(
        block("ALTER TABLE users ALTER name SET NOT NULL"),
        "reject 25001: set-not-null"
    );
    assert_eq!(block("CREATE INDEX ON fresh_here (a)"), "forward");
}

#[test]
fn an_override_needs_a_reason_and_a_known_rule() {
    let sql = "ALTER TABLE users DROP COLUMN name";
    let with = |setting: &str| {
        let facts = Facts {
            override_: Some(setting.to_string()),
            ..facts(15)
        };
        planned(sql, &facts, Place::Alone)
    };
    assert_eq!(rendered(&with("drop-column: ticket 42")), format!("brief {sql}"));
    assert_eq!(
        rendered(&with("truncate, drop-column: ticket 42")),
        format!("brief {sql}")
    );
    assert_eq!(rules_of(&with("drop-column: ticket 42")), ["drop-column", "lock-queue"]);
    for (setting, hint) in [
        ("drop-column", "needs a reason"),
        ("drop-column: ", "needs a reason"),
        ("drop-colum: x", "the nearest is `drop-column`"),
        ("truncate: x", "SET lockkeeper.override = 'drop-column: <why>'"),
    ] {
        match with(setting) {
            Plan::Reject(rejection) => assert!(rejection.hint.contains(hint), "{setting}: {}", rejection.hint),
            other => panic!("{setting}: {}", rendered(&other)),
        }
    }
}

#[test]
fn long_names_are_cut_as_the_server_does() {
    let long = "a".repeat(40);
    assert_eq!(
        crate::remedies::names::object(&long, &long, "not_null"),
        format!("{}_{}_not_null", &long[..27], &long[..26])
    );
    assert_eq!(crate::remedies::names::object("t", "c", "idx"), "t_c_idx");
    assert_eq!(crate::remedies::names::object("t", "", "pkey"), "t_pkey");
    assert_eq!(
        crate::remedies::names::object(&"é".repeat(40), "", "pkey").len(),
        5 + 58
    );
}

/// What a statement's request leaves out of the catalog decides nothing about it.
#[test]
fn what_is_not_asked_decides_nothing() {
    let slight = [
        "ALTER TABLE users ALTER name SET DEFAULT 'x', ALTER age SET STATISTICS 100",
        "ALTER TABLE ONLY users ALTER doubled SET (n_distinct = 5), ALTER age RESET (n_distinct)",
        "ALTER TABLE users SET (fillfactor = 90), RESET (autovacuum_enabled)",
        "ALTER TABLE absent ALTER a SET DEFAULT 1",
        "ALTER INDEX users_name_idx SET (fillfactor = 90)",
        "ALTER INDEX users_name_idx ALTER 1 SET STATISTICS 100",
        "ALTER MATERIALIZED VIEW totals SET (fillfactor = 90)",
        "ALTER VIEW v ALTER a SET DEFAULT 1",
        "ALTER TABLE users OWNER TO somebody",
        "ALTER TABLE ONLY parted OWNER TO somebody",
        "ALTER TABLE small OWNER TO somebody",
        "ALTER INDEX users_name_idx OWNER TO somebody",
        "ALTER MATERIALIZED VIEW totals OWNER TO somebody",
        "ALTER TABLE users ADD extra int",
        "ALTER TABLE users ADD extra varchar(10), ADD COLUMN more timestamptz NULL, ALTER age SET STATISTICS 100",
        "ALTER TABLE users ADD name int",
        "ALTER TABLE ONLY parted ADD extra numeric(10, 2)[]",
        "ALTER TABLE parted ADD extra boolean",
        "ALTER TABLE small ADD extra interval day to second COMPRESSION pglz",
        "ALTER TABLE absent ADD extra bigint",
        "ALTER VIEW v ADD extra bigint",
    ];
    let actions = [
        "SET DEFAULT 1",
        "SET DEFAULT NULL",
        "SET DEFAULT NULL::int",
        "DROP DEFAULT",
        "DROP NOT NULL",
        "DROP IDENTITY",
        "DROP EXPRESSION",
        "SET STATISTICS 100",
        "SET STORAGE external",
        "SET (n_distinct = 5)",
    ];
    let examples = super::RULES.iter().flat_map(|rule| rule.bad.iter().chain(rule.good));
    let mut statements: Vec<String> = slight.iter().chain(examples).map(|sql| (*sql).to_owned()).collect();
    for relation in &facts(150_000).relations {
        for column in &relation.columns {
            let alter = |action| format!("ALTER TABLE {} ALTER {} {action}", relation.name, column.name);
            statements.extend(actions.into_iter().map(alter));
        }
    }
    for version in [130_000, 150_000, 180_000] {
        let mut facts = facts(version);
        for column in facts.relations.iter_mut().flat_map(|relation| &mut relation.columns) {
            column.not_null = true;
            column.default = Some("1".to_owned());
        }
        let mut compared = 0;
        for sql in &statements {
            // Several in one text are each asked about.
            for statement in read(sql.as_bytes(), true).unwrap() {
                let request = Request::of(&statement);
                if request.details && request.names_may_collide {
                    continue;
                }
                compared += 1;
                for policy in ["standard", "strict", "observe"] {
                    let policy = embedded(policy);
                    let mut asked = facts.clone();
                    asked.relations.iter_mut().for_each(|relation| {
                        *relation = match request.details {
                            true => without_names(relation),
                            false => without_details(relation),
                        }
                    });
                    let alike = planned_alike(&statement, [&facts, &asked], &policy);
                    assert!(alike.is_ok(), "{alike:?}");
                }
            }
        }
        assert!(compared > 40, "{compared}");
    }
}

fn without_names(relation: &Relation) -> Relation {
    Relation {
        taken: Arc::default(),
        ..relation.clone()
    }
}

fn without_details(relation: &Relation) -> Relation {
    Relation {
        parents: Vec::new(),
        bound: None,
        partition_key: None,
        detach_pending: false,
        comment: None,
        access_method: None,
        tablespace: None,
        rules: Vec::new(),
        columns: Vec::new(),
        indexes: Vec::new(),
        constraints: Vec::new(),
        triggers: Vec::new(),
        ..without_names(relation)
    }
}

fn planned_alike(statement: &Statement, facts: [&Facts; 2], policy: &Policy) -> Result<(), String> {
    for place in [Place::Alone, Place::Block, Place::Pipeline] {
        let [one, other] = facts.map(|facts| format!("{:?}", plan(statement, facts, policy, place)));
        if one != other {
            return Err(format!("{}: {one}\n{other}", statement.sql));
        }
    }
    Ok(())
}

/// What is enough for a glance is enough: with all that the catalog holds the plan is the same. And where it says that all is made by the
/// transaction itself, the plan is the statement, without a word.
#[test]
fn what_a_glance_decides_the_whole_question_would_too() {
    let own = [
        "CREATE INDEX users_name_idx ON users (name)",
        "CREATE UNIQUE INDEX ON users (lower(name), age)",
        "CREATE INDEX IF NOT EXISTS users_name_idx ON users (name)",
        "CREATE INDEX ON totals (n)",
        "CREATE INDEX ON ONLY parted (a)",
        "CREATE INDEX ON small (a)",
        "ALTER TABLE users ADD CHECK (age > 0)",
        "ALTER TABLE users ADD CONSTRAINT users_proven CHECK (age > 0) NOT VALID",
        "ALTER TABLE ONLY users ADD CONSTRAINT users_pkey PRIMARY KEY (id)",
        "ALTER TABLE users ADD CONSTRAINT u UNIQUE (name)",
        "ALTER TABLE users ADD FOREIGN KEY (age) REFERENCES small (a)",
        "ALTER TABLE small ADD FOREIGN KEY (a) REFERENCES users",
        "ALTER TABLE users ADD CONSTRAINT self FOREIGN KEY (age) REFERENCES users NOT VALID",
        "ALTER TABLE absent ADD CHECK (a > 0)",
        "ALTER TABLE users OWNER TO somebody",
        "ALTER TABLE users ALTER name SET DEFAULT 'x'",
        "ALTER TABLE users ALTER age SET STATISTICS 100",
        "ALTER TABLE users SET (fillfactor = 90)",
        "CREATE OR REPLACE VIEW v AS SELECT * FROM users",
        "CREATE OR REPLACE VIEW absent AS SELECT 1",
        "DROP TABLE users",
        "DROP TABLE IF EXISTS users, small, absent CASCADE",
    ];
    let examples = super::RULES.iter().flat_map(|rule| rule.bad.iter().chain(rule.good));
    let read = own
        .iter()
        .chain(examples)
        .flat_map(|sql| read(sql.as_bytes(), true).unwrap());
    let asks = |s: &Statement| glance::request(s).is_some() || glance::created_here(s).is_some();
    let statements: Vec<Statement> = read.filter(asks).collect();
    let policies = ["standard", "strict", "observe"].map(embedded);
    let (mut glanced, mut here, mut otherwise) = (0, 0, 0);
    for (version, around) in [130_000, 150_000, 180_000]
        .into_iter()
        .flat_map(|v| (0..32).map(move |a| (v, a)))
    {
        let facts = varied(version, around);
        let mut asked = facts.clone();
        asked.relations = asked.relations.iter().map(without_details).collect();
        (asked.functions, asked.types) = (Vec::new(), Vec::new());
        for (statement, policy) in statements.iter().flat_map(|s| policies.iter().map(move |p| (s, p))) {
            let names = Request::of(statement).relations;
            let mut named = facts.clone();
            named.relations.retain(|relation| names.contains(&relation.asked));
            if glance::request(statement).is_some() {
                let decides = glance::decides(statement, &named, policy);
                let alike = planned_alike(statement, [&facts, &asked], policy);
                assert!(alike.is_ok() || !decides, "{alike:?}");
                glanced += u32::from(decides);
                otherwise += u32::from(alike.is_err());
            }
            let makes_index = matches!(statement.node, pg_query::NodeEnum::IndexStmt(_));
            let is_here = |name: &Name| match facts.relation(name) {
                Some(relation) => relation.created_here && relation.kind == 'r' && relation.alone,
                None => makes_index,
            };
            if glance::created_here(statement).is_some() && !named.relations.is_empty() && names.iter().all(is_here) {
                here += 1;
                let plan = plan(statement, &facts, policy, Place::Block);
                let is_silent =
                    matches!(&plan, Plan::Forward { findings, notices } if findings.is_empty() && notices.is_empty());
                assert!(is_silent, "{}: {plan:?}", statement.sql);
            }
        }
    }
    assert!(
        glanced > 1_000 && here > 100 && otherwise > 50,
        "{glanced} {here} {otherwise}"
    );
}

/// The made-up database with other sizes and states.
fn varied(version: u32, around: u32) -> Facts {
    let is = |bit: u32| around >> bit & 1 == 1;
    let mut facts = facts(version);
    for (at, relation) in facts.relations.iter_mut().enumerate() {
        relation.alone = !matches!(relation.kind, 'p' | 'I') && relation.parents.is_empty();
        // The first alone, or all.
        if at > 0 && is(4) {
            continue;
        }
        relation.created_here = is(0);
        relation.never_filled = is(1);
        relation.bytes = if is(2) { 200 << 20 } else { 0 };
        relation.flawed = is(3);
        for constraint in &mut relation.constraints {
            constraint.validated = !is(3);
            constraint.comment = is(3).then(|| "lockkeeper: to be validated".to_owned());
        }
        relation.indexes.iter_mut().for_each(|index| index.valid = !is(3));
    }
    facts
}

/// Of what asks nothing, whatever the catalog holds would change nothing.
#[test]
fn what_is_free_is_forwarded_whatever_there_is() {
    let free = [
        "COMMENT ON TABLE users IS 'x'",
        "COMMENT ON CONSTRAINT users_proven ON users IS 'x'",
        "CREATE TABLE users (id bigint PRIMARY KEY, n serial, CHECK (n > 0), UNIQUE (n))",
        "CREATE TEMPORARY TABLE users (id int) ON COMMIT DROP",
        "CREATE UNLOGGED TABLE IF NOT EXISTS t (id int) PARTITION BY RANGE (id)",
        "CREATE VIEW users AS SELECT * FROM small",
        "CREATE OR REPLACE FUNCTION f() RETURNS int LANGUAGE sql AS 'DELETE FROM users; SELECT 1'",
        "CREATE SEQUENCE s",
        "CREATE TYPE pair AS (a int, b int)",
        "CREATE TYPE mood AS ENUM ('good', 'bad')",
        "CREATE SCHEMA app",
    ];
    let not_free = [
        "CREATE TABLE t (LIKE users)",
        "CREATE TABLE t (a int REFERENCES users)",
        "CREATE TABLE t (a int, FOREIGN KEY (a) REFERENCES users)",
        "CREATE TABLE t () INHERITS (users)",
        "CREATE TABLE t PARTITION OF parted FOR VALUES IN (1)",
        "CREATE TABLE t OF users",
        "CREATE OR REPLACE VIEW users AS SELECT 1",
        "/* lockkeeper: allow=drop-colum reason=\"x\" */ CREATE TABLE t (a int)",
        "CREATE SEQUENCE s OWNED BY users.id",
        "CREATE SCHEMA app CREATE TABLE t (a int REFERENCES users)",
    ];
    let is_free = |sql: &str| super::lock_queue::is_free(&read(sql.as_bytes(), true).unwrap()[0]);
    for sql in not_free {
        assert!(!is_free(sql), "{sql}");
    }
    for sql in free {
        assert!(is_free(sql), "{sql}");
        let statement = read(sql.as_bytes(), true).unwrap().remove(0);
        for (policy, place) in ["standard", "strict", "observe"]
            .into_iter()
            .flat_map(|policy| [Place::Alone, Place::Block, Place::Pipeline].map(|place| (policy, place)))
        {
            let policy = embedded(policy);
            for version in [130_000, 180_000] {
                let planned = plan(&statement, &facts(version), &policy, place);
                assert!(
                    matches!(&planned, Plan::Forward { findings, notices } if findings.is_empty() && notices.is_empty()),
                    "{sql}: {planned:?}"
                );
            }
        }
    }
}

fn embedded(name: &str) -> Policy {
    let names: Vec<&str> = RULES.iter().map(|rule| rule.name).collect();
    Policy::embedded(name, &names).expect("a policy of that name")
}
