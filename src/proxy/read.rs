//! The client's text becomes statements.

use super::apart::{apart, apart_of};
use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End};
use super::reading::Reading;
use super::relay::PreparedWrite;
use super::session::Session;
use crate::plan::batches::firing::{self, Firing};
use crate::plan::gate::{holds_several, is_single, may_insert, may_use_prepared};
use crate::plan::policy::Action;
use crate::plan::reading::{misread_name, read};
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement, Unreadable};
use crate::plan::{Place, mixed};
use lockkeeper_wire::encoding::Encoding;
use pg_query::NodeEnum;
use std::sync::Arc;

impl Session {
    pub(super) async fn read(&mut self, text: &[u8]) -> Result<Vec<Statement>, Unreadable> {
        let reading = self.relay.reading();
        let conforming = reading.conforming;
        // In some encodings a byte of a character can be a quote or a backslash.
        if !text.is_ascii() && !matches!(reading.encoding.as_str(), "UTF8" | "UNICODE" | "SQL_ASCII") {
            return Err(Unreadable::Encoding);
        }
        let statements = parsed(text, conforming).await?;
        let server = self.relay.reported.server_encoding.as_str();
        if let Some(name) = statements
            .iter()
            .find_map(|statement| misread_name(&statement.sql, server))
        {
            return Err(Unreadable::Name(name));
        }
        let mut statements = self.with_what_they_execute(statements).await;
        statements.iter_mut().for_each(|statement| self.mark_firing(statement));
        if self.relay.encoding() == Encoding::Utf8 {
            return Ok(statements);
        }
        // Written as U&"\00e9" a name is the same in every encoding; but a question about it would not be.
        let names_lost = |statement: &Statement| {
            let ahead = Request::of(statement).ahead();
            ahead.iter().any(|(_, expression)| !expression.is_ascii())
        };
        let escapes = text.is_ascii() || text.windows(2).any(|two| two.eq_ignore_ascii_case(b"u&"));
        match escapes && statements.iter().any(names_lost) {
            true => Err(Unreadable::Encoding),
            false => Ok(statements),
        }
    }

    /// An EXECUTE is judged as what was prepared, where that changes rows. Whether the server took a PREPARE or a DEALLOCATE is not
    /// waited for: a name that is remembered in vain costs a question.
    pub(super) async fn with_what_they_execute(&mut self, mut statements: Vec<Statement>) -> Vec<Statement> {
        // What stands before it in the message may prepare it, as a function can.
        let is_one_of_several = statements.len() > 1;
        for statement in &mut statements {
            if matches!(statement.node, NodeEnum::PrepareStmt(_)) {
                let firing = self.relay.shapes.known_firing();
                if mixed::changed(&statement.node).is_some() || firing.is_some_and(|firing| firing.concerns(statement))
                {
                    self.has_prepared(&statement.node, &statement.sql);
                }
                continue;
            }
            if matches!(statement.node, NodeEnum::DoStmt(_)) {
                // It may put the text of one together.
                self.relay.prepared_others = true;
                self.relay.by_text.may_be_anything();
                self.relay.may_be_prepared_again();
                let prepares = statement.body().map(|body| body.prepares.clone()).unwrap_or_default();
                for prepare in &prepares {
                    self.has_prepared(prepare, "");
                }
                continue;
            }
            let Some(name) = mixed::executes(&statement.node).map(str::to_owned) else {
                continue;
            };
            let prepared = match self.relay.prepared_writes.get(&name) {
                Some(known) => Some(known.node.clone()),
                None if self.relay.held.statement(name.as_bytes()).is_some() => {
                    self.prepared_over_the_protocol(&name).await
                }
                // The server tells what it is, when its turn has come.
                None => (self.relay.prepared_others || is_one_of_several || self.inserts_may_fire())
                    .then(|| NodeEnum::PrepareStmt(Box::default())),
            };
            if let Some(prepared) = prepared {
                statement.kind = Kind::MixedWrite;
                mixed::put_prepared(&mut statement.node, prepared);
            }
        }
        statements
    }

    /// An INSERT was prepared in SQL, perhaps before there was a rule by which it changes other rows.
    pub(super) fn inserts_may_fire(&self) -> bool {
        let firing = self.relay.shapes.known_firing();
        self.relay.prepared_inserts && firing.is_none_or(|firing| !firing.is_empty())
    }

    /// An INSERT that changes other rows by a rule is judged by what the server makes of it.
    pub(super) fn mark_firing(&self, statement: &mut Statement) {
        if matches!(statement.node, NodeEnum::DoStmt(_))
            && let Some(firing) = self
                .relay
                .shapes
                .known_firing()
                .filter(|firing| !firing.is_empty() || firing.has_keys())
        {
            statement.count_inserts(|inner| firing.concerns(inner));
            return;
        }
        if matches!(statement.kind, Kind::Harmless)
            && !matches!(statement.node, NodeEnum::PrepareStmt(_))
            && let Some(firing) = self.relay.shapes.known_firing()
            && firing.concerns(statement)
        {
            statement.kind = Kind::MixedWrite;
        }
    }

    pub(super) fn has_prepared(&mut self, prepare: &NodeEnum, sql: &str) {
        let NodeEnum::PrepareStmt(prepared) = prepare else {
            return;
        };
        let known = &mut self.relay.prepared_writes;
        let write = PreparedWrite {
            node: prepare.clone(),
            sql: sql.to_owned(),
            types: None,
        };
        match known.len() < PREPARED_WRITES_MAX || known.contains_key(&prepared.name) {
            true => drop(known.insert(prepared.name.clone(), write)),
            false => {
                self.relay.prepared_others = true;
                self.relay.by_text.may_be_anything();
            }
        }
    }

    pub(super) async fn prepared_over_the_protocol(&self, name: &str) -> Option<NodeEnum> {
        let held = self.relay.held.statement(name.as_bytes())?;
        let conforming = held.reading.as_ref().is_none_or(|reading| reading.conforming);
        let [statement] = &parsed(&held.text, conforming).await.ok()?[..] else {
            return None;
        };
        let query = Some(Box::new(pg_query::Node {
            node: Some(statement.node.clone()),
        }));
        let prepare = NodeEnum::PrepareStmt(Box::new(pg_query::protobuf::PrepareStmt {
            query,
            ..Default::default()
        }));
        mixed::changed(&prepare).is_some().then_some(prepare)
    }

    /// Asks the server how it reads a text, where that may have changed and is not reported yet. A question that fails has failed
    /// in a group that has failed with it.
    pub(super) async fn ask_reading(&mut self, text: &[u8]) -> Result<(), End> {
        if !self.relay.may_read_otherwise(text) || self.relay.responses.skipping() {
            return Ok(());
        }
        let sql = "SELECT pg_catalog.current_setting('standard_conforming_strings'), pg_catalog.current_setting('client_encoding')";
        let answers = self
            .relay
            .ask(&[Ask::as_client(sql)], Closing::Flush, Hears::Nothing)
            .await?;
        if let [answer] = answers.as_slice()
            && let [row] = answer.rows.as_slice()
            && let [Some(conforming), Some(encoding)] = row.as_slice()
        {
            self.relay.reads(Reading {
                conforming: conforming == "on",
                encoding: encoding.clone(),
            });
        }
        Ok(())
    }

    /// Asks the server which INSERTs change other rows by a rule, where that is not known. A question that fails has failed in a group that
    /// has failed with it.
    pub(super) async fn ask_firing(&mut self, text: &[u8], closing: Closing) -> Result<(), End> {
        let executes = self.relay.prepared_inserts && may_use_prepared(text);
        let is_asked = (may_insert(text) || executes) && self.relay.shapes.firing().is_none();
        // In a transaction a question fixes its snapshot, which SET TRANSACTION or LOCK in the same message would come in front of.
        let comes_first = self.relay.place() == Place::Alone || !holds_several(text) || is_single(text);
        if !is_asked
            || !comes_first
            || self.relay.replication
            || self.relay.responses.skipping()
            || self.relay.block_failed()
        {
            return Ok(());
        }
        // A Sync may end what the client has not ended: 18 says of such a transaction what it says of a block.
        let closing = match self.relay.place() {
            Place::Alone if closing == Closing::Sync => Closing::Sync,
            _ => Closing::Flush,
        };
        let before = self.relay.shapes.before();
        // With a time of its own, whatever the client's statement has.
        let ask = Ask {
            catalog: Some("rules".into()),
            ..Ask::new(firing::SQL.trim_end().to_owned())
        };
        let answer = match self.relay.ask_catalog(ask, closing).await {
            Ok(answer) => answer,
            // It harms nothing that this is not known.
            Err(End::Refused(_)) if self.relay.place() == Place::Alone && self.forwards_unread() => return Ok(()),
            Err(end) => return Err(end),
        };
        match Firing::decode(answer.value()) {
            Ok(firing) => self.relay.shapes.learn_firing(before, firing),
            Err(error) => tracing::error!(
                session = self.who.session,
                error,
                "the question about rules was answered with what cannot be read"
            ),
        }
        Ok(())
    }

    /// One statement, of which only the text was kept.
    pub(super) async fn read_again(&mut self, text: &str) -> Option<Statement> {
        let mut statements = self.read(text.as_bytes()).await.ok()?;
        (statements.len() == 1).then(|| statements.remove(0))
    }

    /// The policy lets go on what cannot be judged.
    pub(super) fn forwards_unread(&self) -> bool {
        matches!(self.shared.policy().unparsed, Action::Allow | Action::Warn)
    }
}

/// Above this a text is parsed away from the worker, whose other sessions would wait.
pub(super) const PARSE_INLINE_MAX: usize = 32 << 10;

/// SQL-level PREPARE of statements that change rows, by session.
pub(super) const PREPARED_WRITES_MAX: usize = 1_000;

/// Long texts away from the worker.
pub(super) async fn parsed(text: &[u8], conforming: bool) -> Result<Vec<Statement>, Unreadable> {
    if text.len() <= PARSE_INLINE_MAX {
        return read(text, conforming);
    }
    let copy = text.to_vec();
    apart(text, move || read(&copy, conforming))
        .await
        .unwrap_or(Err(Unreadable::TooLarge))
}

/// What takes the statement's tree: away from the worker where it is long.
pub(super) async fn of<T: Send + 'static>(
    statement: &Arc<Statement>,
    work: impl FnOnce(&Statement) -> T + Send + 'static,
) -> Result<T, Broken> {
    if statement.sql.len() <= PLAN_INLINE_MAX {
        return Ok(work(statement));
    }
    let done = apart_of(statement, work).await;
    done.ok_or_else(|| Broken::Protocol("the statement could not be judged".into()))
}

/// The same of its plan, for which the text is parsed several times and trees are compared.
pub(super) const PLAN_INLINE_MAX: usize = 2 << 10;
