//! Whether what a statement takes away is still used: by what has been watched, and what the catalog tells of it.
//!
//! It only ever lets go on what the policy refuses, and says why it does not. Start at [`Session::is_unused`].

use super::dialogue::{Ask, NAMED};
use super::end::{End, unless_refused};
use super::read::of;
use super::session::Session;
use crate::live::{Question, SessionNow};
use crate::plan::ascii::{decoded, encoded};
use crate::plan::catalog::Name;
use crate::plan::facts::{Facts, Unused};
use crate::plan::policy::{Action, Policy};
use crate::plan::removals::{Removal, removals};
use crate::plan::splice::{qualified, quote_literal};
use crate::plan::statement::Statement;
use crate::plan::{Place, Rejection};
use crate::usage::record::{Used, merged};
use crate::usage::together::Together;
use crate::usage::{seconds, words};
use serde::Deserialize;
use std::sync::Arc;

/// Of more than these nothing is asked.
const REMOVALS_MAX: usize = 10;
/// Of a statement of more words only that is asked which may let it go.
const WORDS_MAX: usize = 2_000;
/// Uses that an error tells of each.
const TOLD_MAX: usize = 3;

/// What the catalog tells of something that is to go.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Around {
    /// Schema and name of the relation, of those that inherit from it, and of views that show it.
    names: Vec<(String, String)>,
    /// Functions whose body names it.
    functions: Vec<String>,
    /// Applications that are connected past this proxy.
    past: Vec<String>,
    /// The role is its owner, or a member of it.
    owns: bool,
}

/// Something that is to go, and what is known of it.
struct Known {
    rule: &'static str,
    is_free_unused: bool,
    /// As a person writes it.
    what: String,
    used: Vec<Used>,
    around: Around,
    /// What the other proxies know, too.
    together: Option<Together>,
}

impl Session {
    /// Some: nobody has used it for as long as the policy asks. Else the refusal says what is known.
    pub(super) async fn is_unused(
        &mut self,
        statement: &Arc<Statement>,
        facts: &Facts,
        rejection: &mut Rejection,
        policy: &Policy,
        place: Place,
    ) -> Result<Option<Unused>, End> {
        let refused = rejection
            .findings
            .iter()
            .filter(|finding| finding.action == Action::Reject);
        let refused: Vec<&str> = refused.map(|finding| finding.rule).collect();
        let mut asked = of(statement, removals).await?;
        // What no answer lets go is not worth that a long statement is judged once more.
        let is_worth = statement.words <= WORDS_MAX;
        asked.retain(|removal| refused.contains(&removal.rule) && (is_worth || removal.is_free_unused));
        if policy.quiet_for_s == 0 || asked.is_empty() || asked.len() > REMOVALS_MAX {
            return Ok(None);
        }
        let mut known = Vec::new();
        for removal in asked {
            // Of one that is not there the server tells.
            if let Some(relation) = facts.relation(&removal.relation).map(|relation| relation.qualified()) {
                known.push(self.known_of(removal, &relation, place).await?);
            }
        }
        if known.is_empty() {
            return Ok(None);
        }
        // Who else uses it, and by what statements, PostgreSQL tells nobody who has no right to know.
        if !known.iter().all(|known| known.around.owns) {
            return Ok(None);
        }
        let (now, database) = (seconds(), self.who.database.clone());
        let watch = |record: &crate::usage::record::Record| (record.watched_s(now), record.unread_in(&database));
        let (mut watched_s, mut unread) = self.shared.live.usage.ask(watch);
        if let Some(together) = known.iter().find_map(|known| known.together.as_ref()) {
            watched_s = watched_s.max(together.record.watched_s(now));
            unread = merged(unread, together.unread_in(&database));
        }
        let is_recent =
            |used: &Used| u64::from(now.saturating_sub(used.last.saturating_add(used.late_s))) < policy.quiet_for_s;
        let unread = unread.into_iter().find(is_recent);
        let is_past = known.iter().any(|known| !known.around.past.is_empty());
        let is_used = known.iter().any(|known| known.used.iter().any(is_recent));
        // What a function reads is not seen.
        let is_named = known.iter().any(|known| !known.around.functions.is_empty());
        let is_free = known.iter().all(|known| known.is_free_unused);
        if is_free && watched_s >= policy.quiet_for_s && !is_past && !is_used && !is_named && unread.is_none() {
            let reasons: Vec<String> = known.iter().map(|known| known.quiet(watched_s, now)).collect();
            return Ok(Some(Unused {
                rules: known.iter().map(|known| known.rule).collect(),
                reason: reasons.join("; "),
            }));
        }
        let mut told = vec![format!("Lockkeeper has watched for {}.", words::time(watched_s))];
        told.extend(known.iter().flat_map(|known| self.told_of(known, now)));
        if let Some(used) = unread {
            let used = words::used(&used, now);
            told.push(format!("A statement that could not be read was executed {used}."));
        }
        if let Some(past) = known
            .iter()
            .map(|known| &known.around.past)
            .find(|past| !past.is_empty())
        {
            let names = past.join(", ");
            told.push(format!(
                "Sessions are connected past this Lockkeeper, which does not see them: {names}."
            ));
        }
        if is_free {
            told.push(format!(
                "It runs once it has been watched and unused for {} (quiet_for_s under [drop] in the policy).",
                words::time(policy.quiet_for_s)
            ));
        }
        if !rejection.detail.is_empty() {
            rejection.detail.push('\n');
        }
        rejection.detail.push_str(&told.join("\n"));
        Ok(None)
    }

    async fn known_of(&mut self, removal: Removal, relation: &Name, place: Place) -> Result<Known, End> {
        let schema = relation.schema.clone().unwrap_or_default();
        let what = match &removal.column {
            Some(column) => format!("{}.{column}", removal.relation.name),
            None => removal.relation.name.clone(),
        };
        let sessions = self.shared.live.sessions();
        let mut together = self.together(vec![relation.name.clone()]).await;
        let others = together.iter().flat_map(|together| together.pids.iter().copied());
        let pids = sessions.iter().map(|session| session.backend_pid).chain(others);
        let pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
        let sql = question(removal.column.as_deref(), &removal.relation.name, &pids);
        let asked = Ask::about(sql, &qualified(&schema, &relation.name));
        let answer = unless_refused(self.ask_harmlessly(asked, place).await)?;
        let around = answer
            .as_ref()
            .and_then(|answer| answer.value())
            .and_then(|text| decoded(text).ok());
        // What cannot be asked is not known to be unused.
        let mut around: Around = around.unwrap_or_else(|| Around {
            past: vec!["(the catalog could not be asked)".into()],
            ..Around::default()
        });
        around.names.push((schema, relation.name.clone()));
        let (names, column) = (&around.names, removal.column.as_deref());
        if together.is_some() && names.iter().any(|(_, name)| *name != relation.name) {
            together = self
                .together(names.iter().map(|(_, name)| name.clone()).collect())
                .await;
        }
        let database = &self.who.database;
        let used = self
            .shared
            .live
            .usage
            .ask(|record| record.uses(database, names, column));
        let others = together.as_ref().map(|together| together.uses(database, names, column));
        Ok(Known {
            rule: removal.rule,
            is_free_unused: removal.is_free_unused,
            what,
            used: merged(used, others.unwrap_or_default()),
            around,
            together,
        })
    }

    /// What all proxies have seen, where they keep it together.
    async fn together(&self, relations: Vec<String>) -> Option<Together> {
        let asked = self.shared.live.ask(|answer| Question::Usage(relations, answer));
        asked.await.ok().flatten()
    }

    fn told_of(&self, known: &Known, now: u32) -> Vec<String> {
        let what = &known.what;
        let mut told: Vec<String> = Vec::new();
        let sessions = self.shared.live.sessions();
        for used in known.used.iter().take(TOLD_MAX) {
            let is_its = |session: &&SessionNow| {
                session.application_name == used.who.application
                    && session.user == used.who.role
                    && session.database == used.who.database
                    && session.session != self.who.session
            };
            let connected = match sessions.iter().filter(is_its).count() {
                0 => String::new(),
                1 => " (1 session of it is connected)".into(),
                n => format!(" ({n} sessions of it are connected)"),
            };
            told.push(format!("{what} was used {}{connected}.", words::used(used, now)));
        }
        match known.used.len() {
            0 => told.push(format!("{what} was not used in that time.")),
            all if all > TOLD_MAX => told.push(format!("{} more have used it.", all - TOLD_MAX)),
            _ => {}
        }
        if !known.around.functions.is_empty() {
            told.push(format!("Functions name it: {}.", known.around.functions.join(", ")));
        }
        told
    }
}

impl Known {
    /// `users.name is unused since the watch began 26 h ago`
    fn quiet(&self, watched_s: u64, now: u32) -> String {
        let what = &self.what;
        match self.used.first() {
            Some(last) => format!("{what} was last used {}", words::used(last, now)),
            None => format!("{what} is unused since the watch began {} ago", words::time(watched_s)),
        }
    }
}

/// One row with an [`Around`].
fn question(column: Option<&str>, relation: &str, pids: &[String]) -> String {
    let word = quote_literal(&format!(r"\m{}\M", regular(column.unwrap_or(relation))));
    let column = match column {
        Some(column) => format!(
            " AND (p.refobjsubid = 0 OR p.refobjsubid = (SELECT t.attnum FROM pg_catalog.pg_attribute t \
             WHERE t.attrelid = p.refobjid AND t.attname = {}))",
            quote_literal(column)
        ),
        None => String::new(),
    };
    format!(
        "WITH RECURSIVE down(oid) AS (SELECT {NAMED} UNION SELECT i.inhrelid FROM down d \
         JOIN pg_catalog.pg_inherits i ON i.inhparent = d.oid), \
         seen(oid, depth) AS (SELECT d.oid, 0 FROM down d UNION SELECT v.oid, s.depth + 1 FROM seen s \
         JOIN pg_catalog.pg_depend p ON p.refobjid = s.oid AND p.refclassid = 'pg_catalog.pg_class'::pg_catalog.regclass \
         AND p.classid = 'pg_catalog.pg_rewrite'::pg_catalog.regclass AND s.depth < 32{column} \
         JOIN pg_catalog.pg_rewrite r ON r.oid = p.objid JOIN pg_catalog.pg_class v ON v.oid = r.ev_class AND v.oid <> s.oid) \
         SELECT {} FROM (SELECT (SELECT pg_catalog.jsonb_agg(DISTINCT pg_catalog.jsonb_build_array(n.nspname, c.relname)) FROM seen s \
         JOIN pg_catalog.pg_class c ON c.oid = s.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace) AS names, \
         (SELECT pg_catalog.jsonb_agg(f.oid::pg_catalog.regprocedure::text) FROM (SELECT f.oid FROM pg_catalog.pg_proc f \
         JOIN pg_catalog.pg_namespace n ON n.oid = f.pronamespace WHERE n.nspname NOT IN ('pg_catalog', 'information_schema') \
         AND f.prosrc ~ {word} ORDER BY f.oid LIMIT 10) f) AS functions, \
         (SELECT pg_catalog.jsonb_agg(DISTINCT COALESCE(NULLIF(a.application_name, ''), '(without a name)')) \
         FROM pg_catalog.pg_stat_activity a WHERE a.datname = pg_catalog.current_database() AND a.backend_type = 'client backend' \
         AND a.pid <> pg_catalog.pg_backend_pid() AND a.application_name NOT LIKE 'lockkeeper %' \
         AND a.pid <> ALL (ARRAY[{}]::int4[])) AS past, (SELECT pg_catalog.pg_has_role(c.relowner, 'USAGE') \
         FROM pg_catalog.pg_class c WHERE c.oid = {NAMED}) AS owns) x",
        encoded(
            "pg_catalog.jsonb_build_object('names', COALESCE(x.names, '[]'), 'functions', COALESCE(x.functions, '[]'), \
             'past', COALESCE(x.past, '[]'), 'owns', x.owns)"
        ),
        pids.join(", ")
    )
}

/// What stands for itself in a regular expression.
fn regular(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if !c.is_alphanumeric() && c != '_' {
            text.push('\\');
        }
        text.push(c);
    }
    text
}
