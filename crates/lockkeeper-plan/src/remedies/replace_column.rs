//! A type change that rewrites, and a column rename, as expand and contract: a second column beside the first, a trigger that
//! keeps them in step, batches for the rows that are there, the indexes and constraints built concurrently.
//!
//! Start at [`change_type`] and [`rename`]. A changed type ends in a swap of the names, so that the column has the type that was
//! asked for; a rename ends with both names in use. What is left then is the contract: a script that the last step carries. How
//! far it has come is told by a comment on the trigger. What cannot be carried over exactly is refused with the reason.

mod carry;
pub(crate) mod expand;
mod trigger;

use crate::batches::Batches;
use crate::catalog::{Column, Name, Relation};
use crate::lock::LockMode;
use crate::remedies::{names, not_null, steps};
use crate::rules::rule::{Found, Remedy};
use crate::splice::{qualified, quote_ident, quote_literal};
use crate::step::{FILL, Mode, Step};
use crate::subject::{Subject, Table};
use carry::Carried;
use expand::{Change, Expand};
use trigger::Values;

/// What the comments on columns that a plan has made, or has put aside, begin with: nobody else uses these.
pub(crate) const BECOMING: &str = "becomes another column";
pub(crate) const REPLACED: &str = "was replaced by another column";
/// Behind all other triggers, so that what they change is seen.
pub(crate) const LAST: &str = "zzz_lockkeeper";

/// Err: why it cannot be carried out.
pub(crate) fn sequence(subject: &Subject, table: &Table, column: &str, change: Change) -> Result<Vec<Step>, String> {
    let relation = table.known.ok_or("nothing is known of the table")?;
    let column = relation.column(column).ok_or("nothing is known of the column")?;
    let helper = helper(relation, &column.name);
    let (what, type_sql) = match &change {
        Change::Type { type_sql, using } => (
            format!("TYPE {type_sql} USING {}", using.unwrap_or_default()),
            type_sql.to_string(),
        ),
        Change::Rename(to) => {
            let collation = column.collation.iter().map(|name| format!(" COLLATE {name}"));
            let type_sql = std::iter::once(column.type_name.clone()).chain(collation).collect();
            (format!("RENAME TO {to}"), type_sql)
        }
    };
    let mut expand = Expand {
        subject,
        table,
        relation,
        column,
        new: match &change {
            Change::Rename(to) => to.to_string(),
            Change::Type { .. } => String::new(),
        },
        change,
        type_sql,
        helper,
        text: format!("{}.{}.{} {what}", relation.schema, relation.name, column.name),
    };
    let there = relation.triggers.iter().find(|t| t.name == expand.helper);
    let comment = there.map(|t| t.comment.as_deref().unwrap_or_default());
    match comment {
        Some(comment) if comment == expand.finished() => return Ok(vec![expand.done()?]),
        Some(comment) if comment != expand.begun() => {
            return Err(format!(
                "another change of {} was begun or awaits its contract (the trigger {}): finish it first, by sending that statement again, \
                 or by its contract script, which the audit log has",
                column.name, expand.helper
            ));
        }
        _ => {}
    }
    expand.new = expand.new_name(comment.is_some())?;
    if let Some(obstacle) = expand.obstacle() {
        return Err(obstacle);
    }
    expand.steps()
}

impl Expand<'_> {
    /// The columns that others must leave alone until the contract, as a mark names them.
    fn columns(&self) -> String {
        match &self.change {
            Change::Rename(to) => format!("{:?} and {to:?}", self.column.name),
            Change::Type { .. } => format!("{:?}", self.column.name),
        }
    }

    fn begun(&self) -> String {
        steps::mark(&format!("keeps {} in step", self.columns()), &self.text)
    }

    fn finished(&self) -> String {
        steps::mark(
            &format!("expanded, awaits the contract of {}", self.columns()),
            &self.text,
        )
    }

    /// On the new column, until it is whole.
    fn becoming(&self) -> String {
        steps::mark(BECOMING, &self.text)
    }

    /// On the old column of a changed type.
    fn replaced(&self) -> String {
        steps::mark(REPLACED, &self.text)
    }

    fn new_name(&self, begun: bool) -> Result<String, String> {
        let marked = |mark: &str| {
            let is_it = |c: &&Column| c.comment.as_deref() == Some(mark);
            self.relation.columns.iter().find(is_it).map(|c| c.name.clone())
        };
        match &self.change {
            Change::Rename(to) => Ok(to.to_string()),
            Change::Type { .. } if begun => marked(&self.becoming()).ok_or_else(|| {
                format!(
                    "the trigger {} keeps a column in step that is no longer there: drop the trigger",
                    self.helper
                )
            }),
            Change::Type { .. } => Ok(self.free_column("new")),
        }
    }

    /// `age_new`, `age_new1`, …
    fn free_column(&self, label: &str) -> String {
        let candidates = std::iter::once(String::new()).chain((1..).map(|n: u32| n.to_string()));
        candidates
            .map(|number| names::object(&self.column.name, &format!("{label}{number}"), ""))
            .find(|name| self.relation.column(name).is_none())
            .unwrap_or_default()
    }

    fn function(&self) -> String {
        qualified(&self.relation.schema, &self.helper)
    }

    pub(crate) fn qualified(&self) -> String {
        qualified(&self.relation.schema, &self.relation.name)
    }

    fn set_default(&self, column: &str, default: &str) -> String {
        let t = self.qualified();
        steps::printed(format!("ALTER TABLE {t} ALTER COLUMN {column} SET DEFAULT {default}"))
    }

    /// Why it cannot be done so that nobody is disturbed and nothing is lost.
    fn obstacle(&self) -> Option<String> {
        let (relation, column) = (self.relation, self.column);
        let (table, name) = (&self.table.sql, &column.name);
        let primary = relation
            .constraints
            .iter()
            .find(|c| matches!(c.kind, 'p' | 'x') && c.columns.contains(name));
        let mentioned = |i: &&crate::catalog::Index| i.mentions.contains(name);
        // Another change's helper does not matter unless it is about this column, or an expression looks at more than this one.
        let alone = matches!(self.change, Change::Type { using: Some(_), .. });
        let names: Vec<String> = [name, &self.new].iter().map(|name| format!("{name:?}")).collect();
        let ours = |t: &crate::catalog::Trigger| {
            let comment = t.comment.as_deref().filter(|c| c.starts_with("lockkeeper: "));
            t.name.starts_with(LAST) && comment.is_some_and(|c| !names.iter().any(|name| c.contains(name)))
        };
        let other = |t: &&crate::catalog::Trigger| t.name != self.helper && (alone || !ours(t));
        let mut triggers = relation.triggers.iter().filter(other);
        let inherits = relation.is_partition
            || relation.kind == 'p'
            || !relation.parents.is_empty()
            || !self.subject.facts.descendants(relation).is_empty();
        let unread = relation.indexes.iter().any(|i| i.definition.is_empty())
            || relation.constraints.iter().any(|c| c.definition.is_empty());
        if column.type_name.is_empty() {
            Some(format!("the type of {name} is not known"))
        } else if relation.kind != 'r' && relation.kind != 'p' {
            Some(format!("{table} is not an ordinary table"))
        } else if inherits {
            Some(format!("{table} has partitions or takes part in inheritance"))
        } else if let Some(rule) = relation.rules.first() {
            Some(format!(
                "the rule {} of {table} would not see the new column",
                rule.name
            ))
        } else if relation.published {
            Some(format!(
                "{table} is published: a subscriber without the new column would stop"
            ))
        } else if unread {
            Some(format!(
                "another session holds a lock on {table}, so that its definitions could not be read: try again"
            ))
        } else if let Some(key) = primary {
            Some(format!(
                "{name} is part of {}, which cannot be changed without a moment in which it is not there",
                key.name
            ))
        } else if column.identity.trim() != "" || column.generated.trim() != "" {
            Some(format!("{name} is an identity column or a generated one"))
        } else if let Some(user) = relation.column_users.iter().find(|u| u.column == *name) {
            Some(format!("{} depends on {name}", user.what))
        } else if let Some((index, why)) = relation
            .indexes
            .iter()
            .filter(mentioned)
            .find_map(|i| Some((&i.name, i.special.as_ref()?)))
        {
            Some(format!("the index {index} is on {name}, and {why}"))
        } else if let Some(index) = relation.indexes.iter().filter(mentioned).find(|i| !i.valid) {
            Some(format!(
                "the index {} is INVALID: drop it or build it again",
                index.name
            ))
        } else if let Some(trigger) = triggers.clone().find(|t| t.on_update) {
            Some(format!(
                "the trigger {} would fire for each row that is filled in",
                trigger.name
            ))
        } else if let Some(trigger) = triggers.find(|t| t.for_each_row && t.name > self.helper) {
            Some(format!(
                "the trigger {} fires behind all others and could change what is kept in step",
                trigger.name
            ))
        } else if column.comment.as_deref().is_some_and(|c| !c.is_empty()) {
            // Of others' comments nothing is known but that they are there.
            Some(format!("{name} belongs to another change that is not finished"))
        } else {
            self.obstacle_of_change()
        }
    }

    fn obstacle_of_change(&self) -> Option<String> {
        let (column, name) = (self.column, &self.column.name);
        match &self.change {
            Change::Rename(_) if column.base_type.is_some() => Some(format!("{name} is of a domain")),
            Change::Rename(_) if !column.not_null && column.default.is_some() => Some(format!(
                "{name} may be NULL and has a default, so that a NULL that is given cannot be told from a value that is left out"
            )),
            Change::Type { using: Some(using), .. } => {
                trigger::wrong_using(using, self.relation).map(|why| format!("the USING expression {why}"))
            }
            _ => None,
        }
    }

    fn steps(&self) -> Result<Vec<Step>, String> {
        let head = format!("ALTER TABLE {}", self.table.sql);
        let carried = Carried::of(self)?;
        let mut all = vec![self.add(), self.backfill()?, self.verify()];
        all.extend(carried.steps(self)?);
        let new_is_not_null = not_null::is_not_null(self.table, &self.new);
        if self.column.not_null && !new_is_not_null {
            let asked = Name::clone(&self.relation.asked);
            all.extend(not_null::sequence(
                self.subject,
                self.table,
                &asked,
                &head,
                &self.new,
                None,
            ));
        }
        // The marks are needed to the end: only the last step takes them away.
        for step in &mut all {
            if let Mode::Long { then } = &mut step.mode {
                then.retain(|sql| !sql.starts_with("COMMENT ON CONSTRAINT ") || !sql.ends_with(" IS NULL"));
            }
        }
        all.push(steps::long(
            "collect statistics of the new column",
            format!("ANALYZE {} ({})", self.table.sql, quote_ident(&self.new)),
            Vec::new(),
            self.table,
        ));
        all.push(match self.renames() {
            true => self.both_names(&carried),
            false => self.swap(&carried),
        });
        Ok(all)
    }

    /// The column and what keeps it in step, in one transaction: no row is written without it.
    fn add(&self) -> Step {
        let (t, new) = (&self.table.sql, quote_ident(&self.new));
        let (helper, function) = (quote_ident(&self.helper), self.function());
        let values = match &self.change {
            Change::Rename(_) => self.column_sql(),
            Change::Type { using, .. } => using.map_or_else(|| self.column_sql(), |using| format!("({using})")),
        };
        let add = match &self.change {
            Change::Rename(_) => steps::printed(format!(
                "ALTER TABLE {} ADD COLUMN {new} {}",
                self.qualified(),
                self.type_sql
            )),
            Change::Type { .. } => format!("ALTER TABLE {t} ADD COLUMN {new} {}", self.type_sql),
        };
        let body = match &self.change {
            Change::Rename(_) => trigger::both_ways(&self.column.name, &self.new),
            Change::Type { .. } => trigger::forwards(&self.values(), &self.column.name, &self.new),
        };
        let mut then = vec![
            // Rows that are hidden from the role would not be filled in: then this fails.
            "SELECT pg_catalog.set_config('row_security', 'off', true)".to_string(),
            // Fails where there is no such conversion, in the server's words, and nothing is left.
            format!("EXPLAIN UPDATE {} SET {new} = {values} WHERE false", self.qualified()),
        ];
        if let (Change::Type { .. }, Some(default)) = (&self.change, &self.column.default) {
            // The same of the default, which the column is given in the end.
            then.push(self.set_default(&new, default));
            then.push(format!("ALTER TABLE {t} ALTER COLUMN {new} DROP DEFAULT"));
        }
        then.extend(trigger::create(&function, &body, !self.renames()));
        then.push(format!(
            "CREATE TRIGGER {helper} BEFORE INSERT OR UPDATE ON {t} FOR EACH ROW EXECUTE FUNCTION {function}()"
        ));
        // Also for rows that logical replication applies.
        then.push(format!("ALTER TABLE {t} ENABLE ALWAYS TRIGGER {helper}"));
        then.push(self.mark_trigger(&self.begun()));
        then.push(steps::comment_on_column(&self.new, self.table, Some(&self.becoming())));
        let back = format!(
            "DROP TRIGGER IF EXISTS {helper} ON {t}; ALTER TABLE {t} DROP COLUMN IF EXISTS {new}; DROP FUNCTION IF EXISTS {function}()"
        );
        Step {
            done_when: Some(self.trigger_says(&[self.begun(), self.finished()])),
            rollback: Some(back),
            ..steps::brief_then(
                "add a second column, kept in step by a trigger",
                add,
                then,
                LockMode::AccessExclusive,
                self.table,
            )
        }
    }

    fn column_sql(&self) -> String {
        quote_ident(&self.column.name)
    }

    fn values(&self) -> Values {
        match &self.change {
            Change::Type { using: Some(using), .. } => Values::of(using, self.relation),
            _ => Values::Same,
        }
    }

    fn backfill(&self) -> Result<Step, String> {
        let (old, new) = (self.column_sql(), quote_ident(&self.new));
        let (set, missing) = match &self.change {
            Change::Rename(_) => (format!("{new} = {old}"), self.missing()),
            Change::Type { using, .. } => (
                format!("{new} = {}", using.map_or(old, |using| format!("({using})"))),
                self.missing(),
            ),
        };
        let batches = Batches::backfill(
            self.relation,
            self.subject.facts,
            &set,
            &missing,
            self.relation.column(&self.new).is_none(),
        )?;
        Ok(steps::step(
            FILL,
            format!("UPDATE {} SET {set} WHERE {missing}", self.table.sql),
            Mode::Batches(Box::new(batches)),
            LockMode::RowExclusive,
            self.table,
        ))
    }

    /// The rows that are to be filled in. What is written from the first step on is filled by the trigger.
    fn missing(&self) -> String {
        let (old, new) = (self.column_sql(), quote_ident(&self.new));
        match &self.change {
            // Any type has images, also one without an equality.
            Change::Rename(_) => format!("pg_catalog.record_image_ne(ROW({new}), ROW({old}))"),
            Change::Type { using: None, .. } => format!("{new} IS NULL AND {old} IS NOT NULL"),
            // By place, a row that is filled in must not be met again.
            Change::Type { using: Some(using), .. } if self.relation.walking_key().is_none() => {
                format!("{new} IS NULL AND ({using}\n) IS NOT NULL")
            }
            Change::Type { using: Some(_), .. } => format!("{new} IS NULL"),
        }
    }

    /// Should something have written rows without the trigger, it is noticed before anything relies on them.
    fn verify(&self) -> Step {
        let condition = match &self.change {
            // What an expression gives may be NULL.
            Change::Type { using: Some(using), .. } => {
                format!("{} IS NULL AND ({using}\n) IS NOT NULL", quote_ident(&self.new))
            }
            _ => self.missing(),
        };
        let message = format!("rows of {} have no value in {} yet", self.table.sql, self.new);
        let hint = format!(
            "They were written without the trigger {}. See that it is enabled, and send the statement again: they are filled in then.",
            self.helper
        );
        let body = format!(
            "BEGIN IF EXISTS (SELECT FROM {} WHERE {condition}) THEN RAISE EXCEPTION USING ERRCODE = '55000', MESSAGE = {}, HINT = {}; END IF; END",
            self.qualified(),
            quote_literal(&message),
            quote_literal(&hint)
        );
        Step {
            lock: LockMode::AccessShare,
            ..steps::long(
                "see that no row was missed",
                format!("DO {}", quote_literal(&body)),
                Vec::new(),
                self.table,
            )
        }
    }

    fn mark_trigger(&self, mark: &str) -> String {
        format!(
            "COMMENT ON TRIGGER {} ON {} IS {}",
            quote_ident(&self.helper),
            self.table.sql,
            quote_literal(mark)
        )
    }

    fn trigger_says(&self, marks: &[String]) -> String {
        let marks: Vec<String> = marks.iter().map(|mark| quote_literal(mark)).collect();
        format!(
            "SELECT EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = {}::pg_catalog.oid AND t.tgname = {} \
             AND pg_catalog.obj_description(t.oid, 'pg_trigger') IN ({}))",
            self.relation.oid,
            quote_literal(&self.helper),
            marks.join(", ")
        )
    }

    /// Both names are there, and equal.
    fn both_names(&self, carried: &Carried) -> Step {
        let dress = carried.dress(self, &self.column.name, &self.new, |name| {
            (name.to_string(), Self::with(name, "new"))
        });
        Step {
            done_when: Some(self.trigger_says(&[self.finished()])),
            contract: Some(self.contract_of_rename(Some(carried))),
            ..steps::brief_then(
                "finish the second column",
                dress,
                vec![self.mark_trigger(&self.finished())],
                LockMode::AccessExclusive,
                self.table,
            )
        }
    }

    /// The names change hands in one transaction, and what belonged to the old column goes.
    fn swap(&self, carried: &Carried) -> Step {
        let (t, old) = (&self.table.sql, &self.column.name);
        let kept = self.free_column("old");
        let (quoted, kept_sql) = (quote_ident(old), quote_ident(&kept));
        let mut then = vec![format!(
            "ALTER TABLE {t} RENAME COLUMN {} TO {quoted}",
            quote_ident(&self.new)
        )];
        then.extend(carried.change_hands(self));
        then.push(carried.dress(self, &kept, old, |name| (Self::with(name, "old"), name.to_string())));
        then.extend(carried.drop_old(self));
        then.push(format!(
            "ALTER TABLE {t} ALTER COLUMN {kept_sql} DROP DEFAULT, ALTER COLUMN {kept_sql} DROP NOT NULL"
        ));
        if let Some(default) = &self.column.default {
            then.push(self.set_default(&quoted, default));
        }
        let values = self.values().renamed(old, &kept);
        let body = trigger::afterwards(&values, &kept, old, t);
        then.extend(trigger::replace(&self.function(), &body));
        then.push(format!("ALTER TABLE {t} ENABLE TRIGGER {}", quote_ident(&self.helper)));
        then.push(steps::comment_on_column(&kept, self.table, Some(&self.replaced())));
        then.push(self.mark_trigger(&self.finished()));
        Step {
            done_when: Some(self.trigger_says(&[self.finished()])),
            contract: Some(self.contract_of_type(&kept)),
            ..steps::brief_then(
                "swap the two columns",
                format!("ALTER TABLE {t} RENAME COLUMN {quoted} TO {kept_sql}"),
                then,
                LockMode::AccessExclusive,
                self.table,
            )
        }
    }

    /// Of a statement that is done, sent again: nothing but its contract.
    fn done(&self) -> Result<Step, String> {
        let contract = match &self.change {
            Change::Rename(_) => self.contract_of_rename(Carried::of(self).ok().as_ref()),
            Change::Type { .. } => {
                let is_it = |c: &&Column| c.comment.as_deref() == Some(&self.replaced());
                let kept = self.relation.columns.iter().find(is_it);
                let kept = kept.ok_or("the column that was replaced is gone: drop its trigger too")?;
                self.contract_of_type(&kept.name)
            }
        };
        Ok(Step {
            done_when: Some("SELECT true".to_string()),
            contract: Some(contract),
            ..steps::brief(
                "done by an earlier run",
                "SELECT true".to_string(),
                LockMode::AccessShare,
                self.table,
            )
        })
    }

    fn contract_of_type(&self, kept: &str) -> String {
        let t = &self.table.sql;
        format!(
            "-- {c} of {t} has its new type, and is the last column now; its former values stay in {kept}. Once no INSERT or COPY without a\n\
             -- list of columns, and no SELECT * that relies on their order is left:\n\
             DROP TRIGGER {helper} ON {t};\n\
             /* lockkeeper: allow=drop-column reason=\"what is left of a change of its type\" */ ALTER TABLE {t} DROP COLUMN {kept};\n\
             DROP FUNCTION {function}();",
            c = self.column.name,
            helper = quote_ident(&self.helper),
            kept = quote_ident(kept),
            function = self.function()
        )
    }

    fn contract_of_rename(&self, carried: Option<&Carried>) -> String {
        let (t, old) = (&self.table.sql, self.column_sql());
        let new = match &self.change {
            Change::Rename(to) => quote_ident(to),
            Change::Type { .. } => quote_ident(&self.new),
        };
        let default = self
            .column
            .default
            .as_ref()
            .map(|default| format!(", ALTER COLUMN {new} SET DEFAULT {default}"));
        let mut lines = vec![
            "BEGIN;".to_string(),
            format!("DROP TRIGGER {} ON {t};", quote_ident(&self.helper)),
            format!(
                "/* lockkeeper: allow=drop-column reason=\"it is called {} now\" */ ALTER TABLE {t} DROP COLUMN {old}{};",
                new.replace(['"', '*', '/', '\\'], "_"),
                default.unwrap_or_default()
            ),
            format!("DROP FUNCTION {}();", self.function()),
        ];
        if let Some(carried) = carried {
            lines.extend(carried.names_back(self));
        }
        lines.push("COMMIT;".to_string());
        format!(
            "-- {t} has {old} and {new}, which are kept equal. Once nothing uses {old} any more, also no SELECT * that relies on it:\n{}",
            lines.join("\n")
        )
    }
}

/// What a trigger of one's own does to give the new column its values; None: the expression reads more than its row.
pub(crate) fn forwards(relation: &Relation, using: &str, old: &str, new: &str) -> Option<String> {
    match trigger::wrong_using(using, relation) {
        Some(_) => None,
        None => Some(trigger::forwards(&Values::of(using, relation), old, new)),
    }
}

/// Another column has the name that a rename gives: the server says so at once.
pub(crate) fn name_is_taken(table: &Table, column: &str, new: &str) -> bool {
    table.known.is_some_and(|relation| {
        let helper = helper(relation, column);
        relation.column(new).is_some() && !relation.triggers.iter().any(|t| t.name == helper)
    })
}

fn helper(relation: &Relation, column: &str) -> String {
    names::object(&format!("{LAST}_{}", relation.name), column, "sync")
}

/// The advice for those who do it by hand; the steps for a policy that has them done.
pub(crate) fn found(
    rule: &str,
    message: String,
    short: &str,
    advice: String,
    steps: Result<Vec<Step>, String>,
) -> Found {
    let (remedy, hint) = match steps {
        Ok(steps) => (
            Remedy::Steps(steps),
            format!(
                "{advice}\nOr Lockkeeper does all but the last of it: {rule} = \"rewrite\" under [rules] in the policy."
            ),
        ),
        Err(why) => (
            Remedy::None(Some(format!("Lockkeeper leaves it to you: {why}"))),
            advice,
        ),
    };
    Found {
        message,
        short: short.to_string(),
        hint,
        remedy,
        sqlstate: None,
    }
}
