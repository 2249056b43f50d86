//! Statements that SQL has prepared, bound over the protocol: they are judged as if they had been parsed there.

use super::dialogue::{Ask, Hears};
use super::dispatch::needs_judging;
use super::end::{Broken, End};
use super::held;
use super::read::parsed;
use super::reading::depends_on_reading;
use super::session::Session;
use super::verdict::Verdict;
use crate::plan::splice::quote_literal;
use crate::plan::statement::{Kind, Prepared, Statement, Unreadable, prepared};
use bytes::{Bytes, BytesMut};
use lockkeeper_wire::messages::Report;

impl Session {
    /// In front of a Bind: what the server knows by that name is held, if it is to be judged.
    pub(super) async fn look_at_prepared(&mut self, name: &[u8], len: usize) -> Result<(), End> {
        if !self.relay.may_be_by_text(name) || self.relay.block_failed() || self.relay.replication {
            return Ok(());
        }
        let Ok(shown) = std::str::from_utf8(name) else {
            return Ok(());
        };
        let sql = format!(
            "SELECT p.statement, (SELECT pg_catalog.string_agg(t.type::pg_catalog.oid::pg_catalog.text, ' ' ORDER BY t.at)
FROM pg_catalog.unnest(p.parameter_types) WITH ORDINALITY AS t(type, at)), p.from_sql
FROM pg_catalog.pg_prepared_statements AS p WHERE p.name OPERATOR(pg_catalog.=) {}",
            quote_literal(shown)
        );
        let answers = self
            .relay
            .ask(&[Ask::new(sql)], self.closing_of_question(), Hears::Nothing)
            .await?;
        let row = answers.first().and_then(|answer| answer.rows.first());
        let Some([Some(text), types, from_sql]) = row.map(Vec::as_slice) else {
            // The server says itself that there is none.
            return Ok(());
        };
        let harmless = from_sql.as_deref() == Some("f");
        let inner = match harmless {
            true => None,
            false => self.prepares(text, shown).await,
        };
        let judged = match &inner {
            Some(inner) => match self.read(inner.as_bytes()).await.as_deref() {
                Ok([statement]) => needs_judging(statement),
                _ => true,
            },
            None => !harmless,
        };
        if !judged {
            self.relay.prepared_writes.remove(shown);
            self.relay.by_text.looked_at(name);
            return Ok(());
        }
        let text = match inner {
            Some(inner) => Bytes::from(inner.into_bytes()),
            None if self.forwards_unread() => return Ok(()),
            None => {
                let report = Report::error(
                    "0A000",
                    "lockkeeper: what was prepared under this name with PREPARE cannot be read, so that it is not bound over the protocol",
                );
                return Err(report.hint("Send EXECUTE, or prepare it over the protocol.").into());
            }
        };
        let statement = held::Statement {
            types: types_of(types.as_deref()),
            reading: depends_on_reading(&text).then(|| self.relay.reading()),
            text,
            what: held::Kind::Judge,
            quiet: None,
        };
        self.hold_prepared(name, statement, len).await
    }

    /// EXECUTE of what was prepared over the protocol and is judged only when it is executed over the protocol too.
    pub(super) async fn executes_held(&self, statements: &[Statement]) -> Option<Report> {
        if self.forwards_unread() {
            return None;
        }
        let mut unjudged = None;
        for statement in statements {
            let Some(Prepared::Executes(name)) = prepared(statement) else {
                continue;
            };
            let Some(held) = self.relay.held.statement(name.as_bytes()) else {
                continue;
            };
            if matches!(held.what, held::Kind::Rewritten | held::Kind::Forgets) {
                continue;
            }
            let conforming = held.reading.as_ref().is_none_or(|reading| reading.conforming);
            // Of these the rows are counted.
            let is_write = |s: &Statement| matches!(s.kind, Kind::Write | Kind::MixedWrite);
            let read = parsed(&held.text, conforming).await;
            if !read.is_ok_and(|statements| statements.iter().all(is_write)) {
                unjudged = Some(String::from_utf8_lossy(&held.text).into_owned());
                break;
            }
        }
        let sql = unjudged?;
        let report = Report::error(
            "0A000",
            "lockkeeper: EXECUTE of a schema change that was prepared over the protocol is not judged, so it is refused",
        );
        Some(
            report
                .detail(&sql)
                .hint("Send the statement itself, or execute it over the protocol."),
        )
    }

    /// The name of a prepared statement may have a new meaning after DEALLOCATE: it is forgotten once the server has done so.
    pub(super) async fn forget_when_done(&mut self, statement: &Statement) -> Result<(), Broken> {
        let forgets = match prepared(statement) {
            None | Some(Prepared::Executes(_)) => return Ok(()),
            Some(forgets) => forgets,
        };
        if !self.relay.settle().await?.failed {
            match forgets {
                Prepared::Forgets(name) => {
                    self.relay.held.forget_statement(name.as_bytes());
                    self.relay.prepared_writes.remove(name);
                }
                // The unnamed one and those of the transaction's portals go too, or are replaced before they are used.
                _ => {
                    self.relay.held.forget_statements();
                    self.relay.prepared_writes.clear();
                    self.relay.prepared_others = false;
                    self.relay.by_text.forget();
                }
            }
        }
        Ok(())
    }

    /// A statement that the server has under that name already.
    pub(super) async fn hold_prepared(
        &mut self,
        name: &[u8],
        statement: held::Statement,
        len: usize,
    ) -> Result<(), End> {
        if !self.relay.held.fits(statement.size()) {
            return match self.forwards_unread() {
                true => Ok(self.lets_go(&statement.text).await?),
                false => self.refuse_to_hold(len),
            };
        }
        self.relay.held.prepare(name, statement);
        Ok(())
    }

    /// It is more than the session holds, and goes on unjudged.
    pub(super) async fn lets_go(&mut self, text: &[u8]) -> Result<(), Broken> {
        let why = "it is more than --held-bytes-max lets a session hold";
        if let Verdict::Forward(Some(entry)) = self.unparsed(text, &Unreadable::Syntax(why.to_owned())).await? {
            self.record(entry.forwarded_unseen()).await;
        }
        Ok(())
    }

    pub(super) fn refuse_to_hold(&self, len: usize) -> Result<(), End> {
        let max = self.relay.held.bytes_max();
        let report = Report::error(
            "54000",
            &format!(
                "lockkeeper: with this message of {len} bytes, what the session has prepared and bound to be judged when it is executed is over the limit of {max} bytes, so it is refused"
            ),
        )
        .hint("Close prepared statements that are not needed any more, send large values by statements that name a key, or raise --held-bytes-max.");
        Err(report.into())
    }
}

/// As a Parse message has them.
pub(super) fn types_of(oids: Option<&str>) -> Bytes {
    let oids: Vec<u32> = oids
        .iter()
        .flat_map(|oids| oids.split(' '))
        .flat_map(str::parse)
        .collect();
    let mut types = BytesMut::new();
    types.extend_from_slice(&(oids.len() as u16).to_be_bytes());
    oids.iter().for_each(|oid| types.extend_from_slice(&oid.to_be_bytes()));
    types.freeze()
}
