//! Dry runs in the extended protocol: what is parsed in one answers with rows, and so is described.

use super::looked::Looked;
use super::rows::{ROWS_SETTING, prepared_before, prepared_in_dry_run, select_of_setting, text_of, unread};
use crate::plan::splice::quote_literal;
use crate::plan::statement::{Kind, Statement, Unreadable, is_transactional};
use crate::plan::{Place, dry};
use crate::proxy::dialogue::{Answer, Ask, Closing, Hears};
use crate::proxy::dispatch::characters;
use crate::proxy::end::{End, unless_refused};
use crate::proxy::held;
use crate::proxy::parameters::Parameters;
use crate::proxy::prepared_by_text::types_of;
use crate::proxy::session::Session;
use crate::proxy::verdict::Verdict;
use bytes::{Bytes, BytesMut};
use lockkeeper_wire::messages as wire;
use lockkeeper_wire::responses::OnAnswer;

impl Session {
    /// True: the Parse has been answered for.
    pub(in crate::proxy) async fn parse_dry(
        &mut self,
        len: usize,
        frame: &Bytes,
        statements: &Result<Vec<Statement>, Unreadable>,
        closing: Closing,
    ) -> Result<bool, End> {
        let Some(parse) = wire::parse_message(frame).filter(|_| self.relay.dry && !self.relay.block_failed()) else {
            return Ok(false);
        };
        Looked::note(&mut self.dry.statements, parse.name, false);
        self.may_run_dry(parse.text, statements, closing).await?;
        let Ok([statement]) = statements.as_deref() else {
            return Ok(false);
        };
        if !self.runs_dry(statement, closing).await? {
            return Ok(false);
        }
        if !dry::is_judged(statement) {
            self.relay.pass_frame(len);
            self.relay.settle().await?;
            if !self.relay.responses.skipping() {
                // By now the name is this statement's, which the server has taken.
                Looked::note(&mut self.dry.statements, parse.name, true);
                self.relay.has_parsed(parse.name, None);
            }
            return Ok(true);
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
        if !self.relay.held.fits(held.size()) {
            self.refuse_to_hold(len)?;
        }
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
        Ok(Some(merged_types(&own, &types_of(told.as_deref()))))
    }

    /// A Bind in a session that has named the setting.
    pub(in crate::proxy) async fn bind_dry(
        &mut self,
        portal: &[u8],
        statement: &[u8],
        closing: Closing,
    ) -> Result<(), End> {
        if !self.relay.dry || self.relay.responses.skipping() || self.relay.block_failed() {
            return Ok(());
        }
        let on = self.dry_run_is_on(closing).await?;
        let held = self.relay.held.statement(statement).cloned();
        let looked = self.dry.statements.contains(statement);
        // A Bind that fails leaves a named portal what it was.
        Looked::note(&mut self.dry.portals, portal, looked && portal.is_empty());
        match held.filter(|held| held.what == held::Kind::Dry) {
            Some(held) => is_still_dry(&held.text, on),
            None if on && !looked => Err(prepared_before().into()),
            None => Ok(()),
        }
    }

    /// An Execute in such a session.
    pub(in crate::proxy) async fn execute_looked(&mut self, portal: &[u8], closing: Closing) -> Result<(), End> {
        if !self.relay.dry || self.relay.responses.skipping() || self.relay.block_failed() {
            return Ok(());
        }
        let on = self.dry_run_is_on(closing).await?;
        match self.relay.held.portal(portal) {
            Some(bound) if bound.statement.what == held::Kind::Dry => is_still_dry(&bound.statement.text, on),
            _ if on && !self.dry.portals.contains(portal) => Err(prepared_before().into()),
            _ if on => self.reads_only().await,
            _ => Ok(()),
        }
    }

    /// The plan is made now, with its parameters, and the server's portal reads its rows.
    pub(in crate::proxy) async fn execute_dry(&mut self, len: usize, portal: held::Portal) -> Result<(), End> {
        let held = &portal.statement;
        let mut statements = self.read(&held.text).await.unwrap_or_default();
        let Some(statement) = statements.pop().filter(|_| statements.is_empty()) else {
            return Err(unread().into());
        };
        self.ask_chained(&portal).await?;
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

fn is_still_dry(text: &[u8], on: bool) -> Result<(), End> {
    let by_comment = std::str::from_utf8(text).is_ok_and(dry::text_asks);
    match on || by_comment {
        true => Ok(()),
        false => Err(prepared_in_dry_run().into()),
    }
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
}
