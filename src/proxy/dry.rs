//! Dry runs (`SET lockkeeper.dry_run = on`): a judged statement answers with its plan as rows, and of all others only what changes nothing runs.
//!
//! The setting is the server's own, so that SET LOCAL, ROLLBACK and RESET mean what they mean for any other; a session that has named it is
//! asked for its value before each statement. The rows are the server's too: it is sent a SELECT of them in the statement's place, and so
//! describes, formats and encodes them. Start at [`Session::may_run_dry`].

pub mod rates;

use super::dialogue::{Answer, Ask, Closing, Hears};
use super::dispatch::{characters, needs_judging};
use super::end::{Broken, End, unless_refused};
use super::entry::Entry;
use super::held;
use super::parameters::Parameters;
use super::session::Session;
use super::verdict::Verdict;
use super::{blockers, holders};
use crate::audit::Event;
use crate::plan::dry::{self, Does, Row};
use crate::plan::lock::LockMode;
use crate::plan::splice::quote_literal;
use crate::plan::statement::{Kind, Statement, Unreadable, is_transactional};
use crate::plan::{Place, Plan};
use bytes::{Bytes, BytesMut};
use lockkeeper_wire::messages::{self as wire, Report};
use lockkeeper_wire::responses::OnAnswer;
use serde_json::json;
use std::collections::HashSet;

/// Where the rows of a statement that was prepared are kept while it is executed.
const ROWS_SETTING: &str = "lockkeeper.dry_rows";

/// Names that are kept; of more, the statement has to be prepared again.
const NAMES_MAX: usize = 10_000;

/// What a session knows of its prepared statements and portals, by name: these were looked at under a dry run and change nothing.
#[derive(Default)]
pub struct Looked {
    statements: HashSet<Vec<u8>>,
    portals: HashSet<Vec<u8>>,
}

impl Looked {
    fn note(names: &mut HashSet<Vec<u8>>, name: &[u8], harmless: bool) {
        match harmless {
            true if names.len() < NAMES_MAX => drop(names.insert(name.to_vec())),
            _ => drop(names.remove(name)),
        }
    }
}

impl Session {
    /// Whether a dry run is on, as the server says. In a transaction that has failed nothing runs anyway.
    async fn dry_run_is_on(&mut self, closing: Closing) -> Result<bool, End> {
        if !self.relay.dry || self.relay.replication || self.relay.responses.skipping() || self.relay.block_failed() {
            return Ok(false);
        }
        if let Some(known) = self.relay.dry_known {
            return Ok(known);
        }
        let ask = Ask::new(format!(
            "SELECT pg_catalog.current_setting({}, true)",
            quote_literal(dry::SETTING)
        ));
        let answers = self.relay.ask(&[ask], closing, Hears::Nothing).await?;
        let on = dry::is_on(answers.first().and_then(Answer::value).unwrap_or_default());
        self.relay.dry_known = Some(on);
        Ok(on)
    }

    /// Before a judged statement is judged.
    pub(super) async fn runs_dry(&mut self, statement: &Statement, closing: Closing) -> Result<bool, End> {
        Ok(dry::by_comment(statement) || self.dry_run_is_on(closing).await?)
    }

    /// Refuses a simple query that would change something in a dry run, before any of it runs.
    pub(super) async fn may_run_dry(
        &mut self,
        statements: &Result<Vec<Statement>, Unreadable>,
        closing: Closing,
    ) -> Result<(), End> {
        let failed = self.relay.responses.skipping() || self.relay.block_failed();
        if !self.relay.dry || self.relay.replication || failed {
            return Ok(());
        }
        let mut on = self.dry_run_is_on(closing).await?;
        let statements = match statements {
            Ok(statements) => statements,
            Err(_) if on => return Err(unread().into()),
            Err(_) => return Ok(()),
        };
        for statement in statements {
            let sets = dry::sets(statement);
            if sets == Some(true) && self.relay.is_behind_pooler() {
                return Err(behind_pooler().into());
            }
            on = sets.unwrap_or(on);
            let is_dry = on || dry::by_comment(statement);
            if is_dry && !needs_judging(statement) && !self.changes_nothing(statement, closing).await? {
                return Err(not_run(statement).into());
            }
        }
        Ok(())
    }

    async fn changes_nothing(&mut self, statement: &Statement, closing: Closing) -> Result<bool, End> {
        match dry::does(statement) {
            Does::Nothing => Ok(true),
            Does::Changes => Ok(false),
            Does::Calls(functions) => {
                let asked = [Ask::new(dry::are_harmless(&functions))];
                let answers = self.relay.ask(&asked, closing, Hears::Nothing).await?;
                Ok(answers.first().and_then(Answer::value) == Some("t"))
            }
        }
    }

    /// What would be done is told, and nothing done.
    pub(super) async fn carry_dry(
        &mut self,
        rows: &[Row],
        plan: &Plan,
        entry: Entry,
        closing: Closing,
    ) -> Result<Verdict, End> {
        let (event, notices) = match plan {
            Plan::Forward { findings, notices } => {
                (entry.forwarded(findings, false).event().clone(), notices.as_slice())
            }
            Plan::Run(run) => (entry.planned(run).event().clone(), run.notices.as_slice()),
            Plan::Reject(rejection) => (entry.rejected(rejection), &[][..]),
        };
        let mut told = Vec::new();
        let mut known: Vec<((String, LockMode), Option<String>)> = Vec::new();
        for row in rows {
            let wanted = (row.relation.clone(), row.lock);
            let held_by = match known.iter().find(|(asked, _)| *asked == wanted) {
                Some((_, held_by)) => held_by.clone(),
                None => {
                    let held_by = self.held_by_now(row, closing).await?;
                    known.push((wanted, held_by.clone()));
                    held_by
                }
            };
            told.push(self.row_json(row, held_by));
        }
        for notice in notices {
            self.relay.notice(notice).await?;
        }
        self.relay.notice("dry run: nothing was changed").await?;
        self.record_dry(event).await;
        Ok(Verdict::Dry(serde_json::Value::Array(told).to_string()))
    }

    /// What the log has of it: that its plan was asked for. Nothing was found or refused that metrics should count.
    async fn record_dry(&self, event: Event) {
        let event = Event {
            action: "dry_run".into(),
            outcome: "dry run".into(),
            ..event
        };
        let counted = Event {
            findings: Vec::new(),
            steps: Vec::new(),
            ..event.clone()
        };
        self.shared.live.ledger().take(&counted);
        let literals = self.shared.policy().audit_literals;
        // The audit writer logs its own failures.
        let _ = self.shared.audit.write(&event, literals).await;
    }

    fn row_json(&self, row: &Row, held_by: Option<String>) -> serde_json::Value {
        let lock = match (row.lock, row.relation.as_str()) {
            (LockMode::None, _) => None,
            (lock, "") => Some(lock.name().to_owned()),
            (lock, relation) => Some(format!("{} on {relation}", lock.name())),
        };
        let runs = match (row.step.as_str(), row.deferred) {
            ("refused", _) => "never",
            (_, true) => "after COMMIT, as a job",
            (_, false) => "now",
        };
        let time = (row.step != "refused").then(|| self.shared.rates.told(row.work));
        json!({
            "step": row.step, "action": row.action, "sql": row.sql, "lock": lock,
            "blocks": (!row.blocks.is_empty()).then_some(&row.blocks), "rows": row.rows, "time": time,
            "held_by": held_by, "runs": runs, "rollback": row.rollback, "why": row.why,
        })
    }

    /// Who would be waited for now. None: nobody, as far as this role sees.
    async fn held_by_now(&mut self, row: &Row, closing: Closing) -> Result<Option<String>, End> {
        if row.lock < LockMode::ShareUpdateExclusive || row.relation.is_empty() {
            return Ok(None);
        }
        let asked = [Ask::about(holders::question(row.lock), &row.relation)];
        let answers = self.relay.ask(&asked, closing, Hears::Nothing).await?;
        let blockers = holders::answered(answers.first(), self.shared.policy().audit_literals);
        Ok((!blockers.is_empty()).then(|| blockers::phrase(&blockers)))
    }

    /// The client's message is answered by a query for the rows.
    pub(super) async fn answer_dry(&mut self, len: usize, rows: &str) -> Result<(), Broken> {
        let mut frame = BytesMut::new();
        wire::put_query(&mut frame, select_of(rows).as_bytes());
        self.relay.replace_frame(len, &frame, OnAnswer::Rewritten);
        self.relay.settle().await?;
        Ok(())
    }
}

/// What the extended protocol needs besides: what is parsed in a dry run answers with rows, and so is described.
impl Session {
    /// True: the Parse has been answered for.
    pub(super) async fn parse_dry(
        &mut self,
        len: usize,
        frame: &Bytes,
        statements: &Result<Vec<Statement>, Unreadable>,
    ) -> Result<bool, End> {
        let Some(parse) = wire::parse_message(frame).filter(|_| self.relay.dry && !self.relay.block_failed()) else {
            return Ok(false);
        };
        Looked::note(&mut self.dry.statements, parse.name, false);
        let closing = self.closing_of_question();
        self.may_run_dry(statements, closing).await?;
        let Ok([statement]) = statements.as_deref() else {
            return Ok(false);
        };
        if !self.runs_dry(statement, closing).await? {
            return Ok(false);
        }
        if !needs_judging(statement) {
            Looked::note(&mut self.dry.statements, parse.name, true);
            return Ok(false);
        }
        let Some(types) = self.parameter_types(&parse, statement, closing).await? else {
            // The server says what is wrong with it.
            return Ok(false);
        };
        let held = held::Statement {
            text: frame.slice_ref(parse.text),
            types: types.clone(),
            reading: Some(self.relay.reading()),
            what: held::Kind::Dry,
            quiet: None,
        };
        let mut out = BytesMut::new();
        wire::put_parse(&mut out, parse.name, select_of_setting().as_bytes(), &types);
        self.relay.replace_frame(len, &out, OnAnswer::Rewritten);
        self.relay.settle().await?;
        if !self.relay.responses.skipping() {
            self.relay.has_parsed(parse.name, Some(held));
        }
        Ok(true)
    }

    /// The types that the server gives the statement's parameters: the query in its place has the same, though it uses none.
    async fn parameter_types(
        &mut self,
        parse: &wire::ParseMessage<'_>,
        statement: &Statement,
        closing: Closing,
    ) -> Result<Option<Bytes>, End> {
        let own = Bytes::copy_from_slice(parse.types);
        let prepares = matches!(statement.kind, Kind::Write | Kind::MixedWrite);
        if !prepares || !statement.sql.contains('$') {
            return Ok(Some(own));
        }
        let name = format!("{}_dry", self.relay.reserved);
        let types = format!(
            "SELECT (SELECT pg_catalog.string_agg(t.type::pg_catalog.oid::pg_catalog.text, ' ' ORDER BY t.at) \
             FROM pg_catalog.unnest(p.parameter_types) WITH ORDINALITY AS t(type, at)) \
             FROM pg_catalog.pg_prepared_statements AS p WHERE p.name OPERATOR(pg_catalog.=) {}",
            quote_literal(&name)
        );
        let asks = [
            Ask::as_client(format!("PREPARE {name} AS {}", statement.sql)),
            Ask::new(types),
            Ask::as_client(format!("DEALLOCATE {name}")),
        ];
        let Some(answers) = unless_refused(self.relay.ask(&asks, closing, Hears::Nothing).await)? else {
            return Ok(None);
        };
        let told = answers.get(1).and_then(Answer::value).map(str::to_owned);
        Ok(Some(merged_types(
            &own,
            &super::prepared_by_text::types_of(told.as_deref()),
        )))
    }

    /// A Bind in a session that has named the setting.
    pub(super) async fn bind_dry(&mut self, portal: &[u8], statement: &[u8]) -> Result<(), End> {
        if !self.relay.dry || self.relay.responses.skipping() || self.relay.block_failed() {
            return Ok(());
        }
        let on = self.dry_run_is_on(self.closing_of_question()).await?;
        let held = self.relay.held.statement(statement).cloned();
        let looked = self.dry.statements.contains(statement);
        Looked::note(&mut self.dry.portals, portal, looked);
        match held.filter(|held| held.what == held::Kind::Dry) {
            Some(held) => is_still_dry(&held.text, on),
            None if on && !looked => Err(prepared_before().into()),
            None => Ok(()),
        }
    }

    /// An Execute in such a session.
    pub(super) async fn execute_looked(&mut self, portal: &[u8]) -> Result<(), End> {
        if !self.relay.dry || self.relay.responses.skipping() || self.relay.block_failed() {
            return Ok(());
        }
        let on = self.dry_run_is_on(self.closing_of_question()).await?;
        match self.relay.held.portal(portal) {
            Some(bound) if bound.statement.what == held::Kind::Dry => is_still_dry(&bound.statement.text, on),
            _ if on && !self.dry.portals.contains(portal) => Err(prepared_before().into()),
            _ => Ok(()),
        }
    }

    /// The plan is made now, with its parameters, and the server's portal reads its rows.
    pub(super) async fn execute_dry(&mut self, len: usize, portal: held::Portal) -> Result<(), End> {
        let held = &portal.statement;
        let mut statements = self.read(&held.text).await.unwrap_or_default();
        let Some(statement) = statements.pop().filter(|_| statements.is_empty()) else {
            return Err(unread().into());
        };
        if self.relay.may_be_chained() && !self.relay.is_behind_pooler() {
            unless_refused(self.relay.ask(&[], Closing::Sync, Hears::Nothing).await)?;
        }
        let lasts = self.relay.held.is_still(&portal);
        let place = match self.relay.place() {
            Place::Alone if !lasts || self.relay.is_behind_pooler() => Place::Pipeline,
            Place::Alone if is_transactional(&statement) && !self.relay.ends_group(len).await? => Place::Pipeline,
            place => place,
        };
        let closing = match place {
            Place::Pipeline => Closing::Flush,
            _ => Closing::Sync,
        };
        let parameters = Parameters {
            types: held.types.clone(),
            values: wire::bind_parameters(&portal.bind)
                .map(|values| portal.bind.slice_ref(values))
                .unwrap_or_default(),
            extended: true,
            ..Parameters::default()
        };
        let shift = characters(&held.text[..statement.offset]);
        let rows = match self.verdict(statement, place, &parameters, closing, shift).await? {
            Verdict::Dry(rows) => rows,
            Verdict::Refused(report) => return Err(report.into()),
            _ => return Err(prepared_before().into()),
        };
        if place == Place::Alone && !self.relay.responses.skipping() {
            // Our Sync has ended it.
            self.bind_again(&portal).await?;
        }
        let keep = format!(
            "SELECT pg_catalog.set_config('{ROWS_SETTING}', {}, true)",
            text_of(&rows)
        );
        self.relay
            .ask(&[Ask::new(keep)], Closing::Flush, Hears::Nothing)
            .await?;
        self.relay.pass_frame(len);
        Ok(())
    }
}

/// `CALL lockkeeper.resume(7)`
pub(super) fn resumes(job: i64) -> String {
    let action = format!("job {job} goes on where it stopped");
    json!([{ "step": "1 of 1", "action": action, "runs": "now" }]).to_string()
}

/// What the client has declared, and where it has left a type to the server, the server's.
fn merged_types(own: &[u8], servers: &[u8]) -> Bytes {
    let oids = |types: &[u8]| -> Vec<u32> {
        let all = types.get(2..).unwrap_or_default().chunks_exact(4);
        all.map(|oid| u32::from_be_bytes([oid[0], oid[1], oid[2], oid[3]]))
            .collect()
    };
    let (own, servers) = (oids(own), oids(servers));
    let mut out = BytesMut::new();
    let count = own.len().max(servers.len());
    out.extend_from_slice(&(count as u16).to_be_bytes());
    for at in 0..count {
        let declared = own.get(at).copied().filter(|oid| *oid != 0);
        // Of what is not used the server needs a type all the same: text.
        let oid = declared.or(servers.get(at).copied()).unwrap_or(25);
        out.extend_from_slice(&oid.to_be_bytes());
    }
    out.freeze()
}

const COLUMNS: &str = "step pg_catalog.text, action pg_catalog.text, sql pg_catalog.text, lock pg_catalog.text, blocks pg_catalog.text, \
     rows pg_catalog.int8, time pg_catalog.text, held_by pg_catalog.text, runs pg_catalog.text, rollback pg_catalog.text, why pg_catalog.text";

/// In ASCII, whatever the client's encoding and quotes are.
fn text_of(rows: &str) -> String {
    use std::fmt::Write;
    let mut hex = String::with_capacity(rows.len() * 2);
    for byte in rows.bytes() {
        let _ = write!(hex, "{byte:02x}");
    }
    format!("pg_catalog.convert_from(pg_catalog.decode('{hex}', 'hex'), 'UTF8')")
}

pub(super) fn select_of(rows: &str) -> String {
    format!(
        "SELECT * FROM pg_catalog.json_to_recordset({}::pg_catalog.json) AS plan({COLUMNS})",
        text_of(rows)
    )
}

fn select_of_setting() -> String {
    format!(
        "SELECT * FROM pg_catalog.json_to_recordset(pg_catalog.current_setting('{ROWS_SETTING}', true)::pg_catalog.json) AS plan({COLUMNS})"
    )
}

fn is_still_dry(text: &[u8], on: bool) -> Result<(), End> {
    let by_comment = std::str::from_utf8(text).is_ok_and(crate::plan::dry::text_asks);
    match on || by_comment {
        true => Ok(()),
        false => Err(prepared_in_dry_run().into()),
    }
}

/// read_only_sql_transaction: what the server itself says of a write where none may be.
fn not_run(statement: &Statement) -> Report {
    let words: Vec<&str> = statement.sql[crate::plan::statement::first_token(&statement.sql)..]
        .split_whitespace()
        .take(2)
        .collect();
    let named = match words.as_slice() {
        [verb, ..]
            if matches!(
                verb.to_ascii_uppercase().as_str(),
                "SELECT" | "WITH" | "EXPLAIN" | "COPY" | "DECLARE"
            ) =>
        {
            "this statement may change something".to_owned()
        }
        [verb, ..] => format!("{} may change something", verb.to_ascii_uppercase()),
        [] => "this statement may change something".to_owned(),
    };
    Report::error("25006", &format!("lockkeeper: dry_run is on and {named}, so it was not run"))
        .detail("In a dry run only judged statements, which answer with their plan, and statements that change nothing are taken.")
        .hint("SET lockkeeper.dry_run = off; and send it again.")
}

fn unread() -> Report {
    Report::error(
        "25006",
        "lockkeeper: dry_run is on and the statement cannot be read, so it was not run",
    )
    .hint("SET lockkeeper.dry_run = off; and send it again.")
}

/// feature_not_supported, as the server says of a plan whose rows would be others: drivers prepare it again.
fn prepared_before() -> Report {
    Report::error(
        "0A000",
        "lockkeeper: dry_run is on and this statement was prepared before, so it was not run",
    )
    .hint("Prepare it again: it then answers with its plan.")
}

fn prepared_in_dry_run() -> Report {
    Report::error(
        "0A000",
        "lockkeeper: this statement was prepared in a dry run, which is over, so it was not run",
    )
    .hint("Prepare it again.")
}

fn behind_pooler() -> Report {
    Report::error(
        "0A000",
        "lockkeeper: there is a connection pooler between Lockkeeper and the server, behind which a setting may be another client's",
    )
    .hint("Ask for one statement with a comment in front of it: /* lockkeeper: dry_run */")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_own_types_come_first() {
        let types = |oids: &[u32]| {
            let mut all = (oids.len() as u16).to_be_bytes().to_vec();
            oids.iter().for_each(|oid| all.extend(oid.to_be_bytes()));
            all
        };
        assert_eq!(merged_types(&types(&[0, 20]), &types(&[23, 23])), types(&[23, 20]));
        assert_eq!(merged_types(&types(&[]), &types(&[23])), types(&[23]));
        assert_eq!(merged_types(&types(&[0, 0]), &types(&[23])), types(&[23, 25]));
    }

    #[test]
    fn rows_travel_in_ascii() {
        let sql = select_of("[{\"sql\": \"é'\\\\\"}]");
        assert!(
            sql.is_ascii() && !sql.contains('\\') && sql.matches('\'').count() == 4,
            "{sql}"
        );
    }
}
