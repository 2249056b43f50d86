//! Types and functions that the files make: what a later statement's column is of, and what its default calls.

use super::journal::Journal;
use crate::plan::catalog::{Function, Name, TypeFact};
use crate::plan::facts::Facts;
use crate::plan::statement::Statement;
use pg_query::NodeEnum;
use pg_query::protobuf::{
    AlterDomainStmt, CreateDomainStmt, CreateFunctionStmt, DefElem, Node, TypeName, a_const::Val,
};

/// By schema and name.
#[derive(Default)]
pub struct Objects {
    functions: Journal<(String, String), Function>,
    types: Journal<(String, String), TypeFact>,
    default_schema: String,
}

impl Objects {
    pub fn begin(&mut self) {
        self.functions.begin();
        self.types.begin();
    }

    pub fn commit(&mut self) {
        self.functions.commit();
        self.types.commit();
    }

    pub fn rollback(&mut self) {
        self.functions.rollback();
        self.types.rollback();
    }

    pub fn mark(&self) -> (usize, usize) {
        (self.functions.mark(), self.types.mark())
    }

    pub fn back_to(&mut self, mark: (usize, usize)) {
        self.functions.back_to(mark.0);
        self.types.back_to(mark.1);
    }

    /// `default_schema` is where a name without one is made.
    pub fn apply(&mut self, statement: &Statement, facts: &Facts, default_schema: &str) {
        default_schema.clone_into(&mut self.default_schema);
        match &statement.node {
            NodeEnum::CreateFunctionStmt(create) => self.function(create),
            NodeEnum::CreateDomainStmt(create) => self.domain(create, facts),
            NodeEnum::AlterDomainStmt(alter) => self.alter_domain(alter, facts),
            NodeEnum::CreateEnumStmt(create) => self.type_of_kind(&create.type_name, 'e'),
            NodeEnum::CompositeTypeStmt(create) => {
                if let Some(range) = &create.typevar {
                    let key = self.key(&Name::of(range));
                    self.types.insert(key.clone(), fact(key, 'c'));
                }
            }
            _ => {}
        }
    }

    /// Of a function that the files have made.
    pub fn volatile(&self, name: &Name) -> Option<bool> {
        self.functions.get(&self.key(name)).map(|function| function.volatile)
    }

    /// The open transaction has made the type.
    pub fn made_here(&self, names: &[Node]) -> bool {
        name_of(names).is_some_and(|name| self.types.changed(&self.key(&name)))
    }

    /// What the files say of the functions and types that a statement names.
    pub fn facts(&self, facts: &mut Facts, (functions, types): (&[Name], &[Name])) {
        if !self.functions.is_empty() {
            for name in functions {
                if let Some(made) = self.functions.get(&self.key(name)) {
                    facts.functions.retain(|known| known.asked != *name);
                    facts.functions.push(Function {
                        asked: name.clone(),
                        ..made.clone()
                    });
                }
            }
        }
        if !self.types.is_empty() {
            for name in types {
                if let Some(made) = self.types.get(&self.key(name)) {
                    let (used_by, used_bytes) = match facts.types.iter().find(|known| known.asked == *name) {
                        Some(known) => (known.used_by.clone(), known.used_bytes),
                        None => (Vec::new(), 0),
                    };
                    facts.types.retain(|known| known.asked != *name);
                    facts.types.push(TypeFact {
                        asked: name.clone(),
                        used_by,
                        used_bytes,
                        ..made.clone()
                    });
                }
            }
        }
    }

    fn key(&self, name: &Name) -> (String, String) {
        let schema = name.schema.as_ref().unwrap_or(&self.default_schema);
        (schema.clone(), name.name.clone())
    }

    fn function(&mut self, create: &CreateFunctionStmt) {
        let Some(name) = name_of(&create.funcname) else { return };
        let volatility = create
            .options
            .iter()
            .filter_map(option)
            .find(|o| o.defname == "volatility");
        let word = volatility.and_then(|option| text(option.arg.as_deref()?));
        let made = Function {
            asked: name.clone(),
            volatile: !matches!(word.as_deref(), Some("immutable" | "stable")),
            immutable: word.as_deref() == Some("immutable"),
            built_in: false,
        };
        self.functions.insert(self.key(&name), made);
    }

    fn domain(&mut self, create: &CreateDomainStmt, facts: &Facts) {
        let Some(name) = name_of(&create.domainname) else {
            return;
        };
        let below = create.type_name.as_ref().and_then(|base| {
            let name = name_of(&base.names)?;
            let known = facts.types.iter().find(|known| known.asked == name).cloned();
            known.or_else(|| self.types.get(&self.key(&name)).cloned())
        });
        let key = self.key(&name);
        let mut domain = fact(key.clone(), 'd');
        domain.base = create.type_name.as_ref().and_then(type_name);
        if let Some(below) = below.filter(|below| below.kind == 'd') {
            domain.base = below.base.or(domain.base);
            (domain.constrained, domain.not_null) = (below.constrained, below.not_null);
            (domain.has_default, domain.checks) = (below.has_default, below.checks);
        }
        for node in &create.constraints {
            let Some(NodeEnum::Constraint(constraint)) = &node.node else {
                continue;
            };
            use pg_query::protobuf::ConstrType as C;
            match constraint.contype() {
                C::ConstrCheck => domain.constrained = true,
                C::ConstrNotnull => (domain.constrained, domain.not_null) = (true, true),
                C::ConstrDefault => domain.has_default = true,
                _ => {}
            }
        }
        self.types.insert(key, domain);
    }

    fn alter_domain(&mut self, alter: &AlterDomainStmt, facts: &Facts) {
        let Some(name) = name_of(&alter.type_name) else { return };
        let key = self.key(&name);
        let known = self.types.get(&key).cloned();
        let on_server = || facts.types.iter().find(|known| known.asked == name).cloned();
        let Some(mut domain) = known.or_else(on_server) else {
            return;
        };
        // T(default) N(drop not null) O(set not null) C(add constraint)
        match alter.subtype.as_str() {
            "O" => (domain.constrained, domain.not_null) = (true, true),
            "C" => domain.constrained = true,
            "T" => domain.has_default = alter.def.is_some(),
            _ => return,
        }
        self.types.insert(key, domain);
    }

    fn type_of_kind(&mut self, names: &[Node], kind: char) {
        if let Some(name) = name_of(names) {
            let key = self.key(&name);
            self.types.insert(key.clone(), fact(key, kind));
        }
    }
}

fn fact((schema, name): (String, String), kind: char) -> TypeFact {
    TypeFact {
        asked: Name {
            schema: Some(schema),
            name,
        },
        kind,
        ..TypeFact::default()
    }
}

fn option(node: &Node) -> Option<&DefElem> {
    match &node.node {
        Some(NodeEnum::DefElem(option)) => Some(option),
        _ => None,
    }
}

fn text(node: &Node) -> Option<String> {
    match &node.node {
        Some(NodeEnum::String(string)) => Some(string.sval.clone()),
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Sval(string)) => Some(string.sval.clone()),
            _ => None,
        },
        _ => None,
    }
}

fn name_of(nodes: &[Node]) -> Option<Name> {
    let mut parts: Vec<String> = nodes.iter().filter_map(text).collect();
    let name = parts.pop()?;
    Some(Name {
        schema: parts.pop(),
        name,
    })
}

/// As it is parsed again: `pg_catalog.varchar(20)`. None: its modifiers are no plain numbers.
pub fn type_name(given: &TypeName) -> Option<String> {
    let parts: Vec<String> = given.names.iter().filter_map(text).collect();
    let modifier = |node: &Node| match &node.node {
        Some(NodeEnum::AConst(constant)) => match &constant.val {
            Some(Val::Ival(number)) => Some(number.ival.to_string()),
            _ => None,
        },
        _ => None,
    };
    let modifiers: Vec<String> = given.typmods.iter().map(modifier).collect::<Option<_>>()?;
    let is_interval = parts.last().is_some_and(|name| name == "interval");
    if given.setof || given.pct_type || (is_interval && !modifiers.is_empty()) {
        return None;
    }
    let quoted: Vec<String> = parts
        .iter()
        .map(|part| crate::plan::splice::quote_ident(part))
        .collect();
    let mut printed = quoted.join(".");
    if !modifiers.is_empty() {
        printed.push_str(&format!("({})", modifiers.join(", ")));
    }
    printed.push_str(&"[]".repeat(given.array_bounds.len()));
    Some(printed)
}
