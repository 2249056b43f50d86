//! Statements that SQL has prepared, bound over the protocol: they are judged as if they had been parsed there.

use super::dialogue::{Ask, Hears};
use super::dispatch::needs_judging;
use super::end::End;
use super::held;
use super::reading::depends_on_reading;
use super::session::Session;
use crate::plan::body::prepared_text;
use crate::plan::splice::quote_literal;
use crate::plan::statement::Statement;
use bytes::{Bytes, BytesMut};
use lockkeeper_wire::messages::Report;
use pg_query::NodeEnum;

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
