//! What an EXECUTE of SQL runs: the server says what it has under the name.

use super::dialogue::{Ask, Closing, Hears};
use super::dispatch::needs_judging;
use super::dry::rows::planning_writes;
use super::end::End;
use super::inquire::{closing_at, explain, is_of_the_moment};
use super::parameters::Parameters;
use super::session::Session;
use crate::plan::Place;
use crate::plan::body::prepared_text;
use crate::plan::calls::{Calls, calls};
use crate::plan::gate::may_insert;
use crate::plan::mixed::alone::{executed, executed_name, executed_text, has_constant_arguments};
use crate::plan::splice::quote_literal;
use crate::plan::statement::Statement;
use lockkeeper_wire::messages::Report;
use pg_query::NodeEnum;

/// What the server has under a name.
pub(super) enum Executed {
    Nothing,
    /// It cannot be told apart from what else stands in its text, or how that was read is not known.
    Unread,
    Text {
        text: String,
        types: Vec<String>,
    },
}

impl Session {
    /// The plan, as JSON. None: the statement itself will fail in the same way, in the server's words.
    pub(super) async fn explained(
        &mut self,
        statement: &Statement,
        place: Place,
        parameters: &Parameters,
    ) -> Result<Option<String>, End> {
        if let Some(name) = executed_name(&statement.sql) {
            return self.explained_executed(statement, &name, place).await;
        }
        self.explains(explain(statement, parameters), place).await
    }

    pub(super) async fn explains(&mut self, explain: Option<Ask>, place: Place) -> Result<Option<String>, End> {
        let Some(explain) = explain else { return Ok(None) };
        match self.ask_harmlessly(explain, place).await {
            Ok(answer) => Ok(answer.value().map(str::to_owned)),
            Err(End::Refused(mut report)) => match planning_writes(&report).filter(|_| self.is_dry) {
                Some(unknown) => Err(unknown.into()),
                None if place == Place::Pipeline || is_of_the_moment(&report) => {
                    report.remove(b'P');
                    Err(report.into())
                }
                None => Ok(None),
            },
            Err(broken) => Err(broken),
        }
    }

    /// An EXECUTE of what is not known here: the server says what was prepared. To explain it would count as one of its executions, by
    /// which the server chooses the client's plans.
    pub(super) async fn executes_harmless(&mut self, statement: &Statement, closing: Closing) -> Result<bool, End> {
        let Some(name) = executed_name(&statement.sql) else {
            return Ok(false);
        };
        if self.relay.prepared_writes.contains_key(&name) || self.relay.held.statement(name.as_bytes()).is_some() {
            return Ok(false);
        }
        let text = match self.executed(&name, closing).await? {
            // The server says itself that there is none.
            Executed::Nothing => return Ok(true),
            Executed::Unread => return Ok(false),
            Executed::Text { text, .. } => text,
        };
        let read = self.read(text.as_bytes()).await;
        // By a rule an INSERT may change other rows.
        let is_harmless = !may_insert(text.as_bytes()) && matches!(read.as_deref(), Ok([one]) if !needs_judging(one));
        if is_harmless && calls(text.as_bytes()) == Calls::Harmless {
            self.relay.by_text.found_harmless(&name);
        }
        Ok(is_harmless)
    }

    /// What the server has under that name, as a statement with parameters.
    async fn executed(&mut self, name: &str, closing: Closing) -> Result<Executed, End> {
        if let Some(known) = self.relay.prepared_writes.get(name)
            && let Some(types) = known.types.clone().filter(|_| !known.sql.is_empty())
        {
            let text = known.sql.clone();
            return Ok(Executed::Text { text, types });
        }
        let sql = format!(
            "SELECT p.statement, p.from_sql, pg_catalog.to_json(p.parameter_types::pg_catalog.text[])
FROM pg_catalog.pg_prepared_statements AS p WHERE p.name OPERATOR(pg_catalog.=) {}",
            quote_literal(name)
        );
        let answers = self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await?;
        let row = answers.first().and_then(|answer| answer.rows.first());
        let Some([Some(text), from_sql, Some(types)]) = row.map(Vec::as_slice) else {
            return Ok(Executed::Nothing);
        };
        let types: Option<Vec<String>> = serde_json::from_str(types).ok();
        let text = match from_sql.as_deref() == Some("f") {
            true => Some(text.clone()),
            false => self.prepares(text, name).await,
        };
        // It may have been read by another setting of standard_conforming_strings.
        let text = text.filter(|text| !text.contains('\\'));
        let (Some(text), Some(types)) = (text, types) else {
            return Ok(Executed::Unread);
        };
        let learns = self.relay.by_text.is_learning();
        if let Some(known) = self.relay.prepared_writes.get_mut(name).filter(|_| learns) {
            (known.sql, known.types) = (text.clone(), Some(types.clone()));
        }
        Ok(Executed::Text { text, types })
    }

    /// What it changes, as statements of their own.
    pub(super) async fn parts_executed(
        &mut self,
        statement: &Statement,
        name: &str,
        closing: Closing,
    ) -> Result<Vec<Statement>, End> {
        Ok(match self.executed(name, closing).await? {
            Executed::Text { text, types } => executed(&statement.sql, &text, &types),
            _ => Vec::new(),
        })
    }

    /// What an EXECUTE would do, with its arguments in the place of the parameters: the server would evaluate them to explain the EXECUTE
    /// itself, and nextval() would give a number that nobody gets.
    pub(super) async fn explained_executed(
        &mut self,
        statement: &Statement,
        name: &str,
        place: Place,
    ) -> Result<Option<String>, End> {
        let executed = self.executed(name, closing_at(place)).await?;
        let explained = match &executed {
            Executed::Nothing => return Ok(None),
            Executed::Unread => None,
            Executed::Text { text, types } => match executed_text(&statement.sql, text, types) {
                Some(sql) => {
                    let ask = Ask::as_client(format!("EXPLAIN (FORMAT JSON) {sql}"));
                    match self.ask_harmlessly(ask, place).await {
                        Ok(answer) => answer.value().map(str::to_owned),
                        Err(End::Refused(report)) if is_of_the_moment(&report) => return Err(report.into()),
                        Err(End::Refused(_)) => None,
                        Err(broken) => return Err(broken),
                    }
                }
                None => None,
            },
        };
        if explained.is_some() {
            return Ok(explained);
        }
        if has_constant_arguments(&statement.sql) {
            let explain = explain(statement, &Parameters::default());
            return self.explains(explain, place).await;
        }
        if self.forwards_unread() {
            return Ok(None);
        }
        let report = Report::error(
            "0A000",
            "lockkeeper: how many rows this EXECUTE changes is not known without evaluating its arguments, which are evaluated once, so it is refused",
        );
        Err(report
            .hint("Give it constants as arguments, or send the statement itself.")
            .into())
    }

    /// The text of what the PREPARE of that name prepares, in the message that it came in.
    pub(super) async fn prepares(&mut self, text: &str, name: &str) -> Option<String> {
        let statements = self.read(text.as_bytes()).await.ok()?;
        let named = |statement: &&Statement| matches!(&statement.node, NodeEnum::PrepareStmt(p) if p.name == name);
        let mut named = statements.iter().filter(named);
        let prepare = named.next()?;
        // Of several it is not known which it was.
        let text = prepared_text(prepare)?.to_owned();
        named.next().is_none().then_some(text)
    }
}
