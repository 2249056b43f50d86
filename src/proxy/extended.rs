//! The extended query protocol: which prepared statements and portals must not be executed without a look, and what
//! happens when they are.

use super::dialogue::{Ask, Closing, Hears};
use super::dispatch::{characters, needs_judging};
use super::end::{Broken, End, unless_refused};
use super::held;
use super::parameters::Parameters;
use super::prepared_by_text::types_of;
use super::reading::{Reading, depends_on_reading};
use super::session::Session;
use super::unread::{may_be_ddl, may_write, unparsed_report};
use super::verdict::Verdict;
use super::weigh::Weight;
use crate::plan::gate::{Gate, gate, may_execute_prepared, may_insert, may_use_prepared};
use crate::plan::splice::quote_literal;
use crate::plan::statement::{Kind, Prepared, Statement, Unreadable, is_transactional, prepared};
use crate::plan::{Place, mixed, version};
use bytes::{Bytes, BytesMut};
use lockkeeper_wire::messages::{self as wire, Report};
use lockkeeper_wire::responses::OnAnswer;

impl Session {
    pub(super) async fn on_parse(&mut self, len: usize) -> Result<(), End> {
        let frame = Bytes::copy_from_slice(&self.relay.up.unjudged()[..len]);
        let Some(parse) = wire::parse_message(&frame) else {
            self.relay.pass_frame(len);
            return Ok(());
        };
        self.relay.settle().await?;
        if self.relay.responses.skipping() {
            self.relay.pass_frame(len);
            return Ok(());
        }
        self.relay.parses(parse.name);
        if version::asks_version(parse.text) {
            self.tells_version(self.closing_of_question()).await?;
        }
        let uses_prepared =
            self.relay.executes_what_is_known() && may_use_prepared(parse.text) || may_execute_prepared(parse.text);
        if self.relay.watch {
            self.ask_reading(parse.text).await?;
            self.compare_with_deferred(parse.text).await?;
            let text = if gate(parse.text) == Gate::End {
                parse.text.to_vec()
            } else {
                Vec::new()
            };
            self.deferred.ending_statements.insert(parse.name.to_vec(), text);
        }
        if self.relay.dry {
            self.ask_reading(parse.text).await?;
            let statements = self.read(parse.text).await;
            if self
                .parse_dry(len, &frame, &statements, self.closing_of_question())
                .await?
            {
                return Ok(());
            }
        }
        self.ask_firing(parse.text, self.closing_of_question()).await?;
        let fires = may_insert(parse.text) && self.relay.shapes.may_fire(parse.text);
        if gate(parse.text) != Gate::Read && !uses_prepared && !fires {
            return self.parse_as(len, parse.name, None).await;
        }
        self.ask_reading(parse.text).await?;
        let reading = depends_on_reading(parse.text).then(|| self.relay.reading());
        let held = |what| held_as(&frame, &parse, reading.clone(), what);
        match self.read(parse.text).await {
            Ok(statements) => match statements.as_slice() {
                [statement] if matches!(statement.kind, Kind::LimitedWrite(_)) && !self.relay.block_failed() => {
                    let statement = statement.clone();
                    self.parse_limited(len, &parse, statement, held(held::Kind::Rewritten))
                        .await
                }
                [statement] if needs_judging(statement) => {
                    self.parse_as(len, parse.name, Some(held(held::Kind::Judge))).await
                }
                [statement] if prepared(statement).is_some() => {
                    if let Some(report) = self.executes_held(&statements).await {
                        return Err(report.into());
                    }
                    let forgets = !matches!(prepared(statement), Some(Prepared::Executes(_)));
                    let held = held(match forgets {
                        true => held::Kind::Forgets,
                        false => held::Kind::Judge,
                    });
                    self.parse_as(len, parse.name, Some(held)).await
                }
                [statement] if mixed::executes(&statement.node).is_some() => {
                    self.parse_as(len, parse.name, Some(held(held::Kind::Judge))).await
                }
                [] | [_] => self.parse_as(len, parse.name, None).await,
                // The server takes only one; should it think otherwise, it is not run unread.
                _ => self.parse_as(len, parse.name, Some(held(held::Kind::Unreadable))).await,
            },
            Err(unreadable) => match self.refusal_unread(parse.text, &unreadable) {
                Some(report) => {
                    self.record_unread(parse.text, &report).await;
                    Err(report.into())
                }
                None => {
                    let counts = match unreadable {
                        Unreadable::Encoding | Unreadable::Name(_) => {
                            may_execute_prepared(parse.text) || !self.masked_writes(parse.text).await.is_empty()
                        }
                        _ => may_be_ddl(parse.text) || may_write(parse.text),
                    };
                    let held = counts.then(|| held(held::Kind::Unreadable));
                    self.parse_as(len, parse.name, held).await
                }
            },
        }
    }

    /// Forwards a Parse and, once the server has taken it, remembers what it holds.
    pub(super) async fn parse_as(&mut self, len: usize, name: &[u8], held: Option<held::Statement>) -> Result<(), End> {
        let mut held = held;
        if let Some(statement) = held.take_if(|held| !self.relay.held.fits(held.size())) {
            if !self.forwards_unread() {
                return self.refuse_to_hold(len);
            }
            self.lets_go(&statement.text).await?;
        }
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        if !self.relay.responses.skipping() {
            self.relay.has_parsed(name, held);
        }
        Ok(())
    }

    pub(super) async fn parse_limited(
        &mut self,
        len: usize,
        parse: &wire::ParseMessage<'_>,
        statement: Statement,
        held: held::Statement,
    ) -> Result<(), End> {
        if !self.relay.held.fits(held.size()) {
            return self.refuse_to_hold(len);
        }
        let place = self.relay.place();
        let shift = characters(&parse.text[..statement.offset]);
        match self
            .verdict(statement, place, &Parameters::default(), Closing::Flush, shift)
            .await?
        {
            Verdict::Instead(sql, _) => {
                let mut frame = BytesMut::new();
                wire::put_parse(&mut frame, parse.name, sql.as_bytes(), parse.types);
                self.relay.replace_frame(len, &frame, OnAnswer::Rewritten);
                self.relay.settle().await?;
                if !self.relay.responses.skipping() {
                    self.relay.has_parsed(parse.name, Some(held));
                }
                Ok(())
            }
            Verdict::Refused(report) => Err(report.into()),
            // No PostgreSQL accepts it: its own syntax error is the answer.
            Verdict::Forward(_) | Verdict::Done(_) | Verdict::Dry(_) => self.parse_as(len, parse.name, None).await,
        }
    }

    pub(super) async fn on_bind(&mut self, len: usize) -> Result<(), End> {
        // The only copy: the portal, and what is asked with its parameters, share it.
        let bind = Bytes::copy_from_slice(&self.relay.up.unjudged()[..len]);
        self.relay.settle().await?;
        if let Some((_, name)) = wire::bind_names(&bind)
            && !self.relay.responses.skipping()
            && self.relay.is_unnamed_open(name, len)
            && !self.forwards_unread()
        {
            let report = Report::error("26000", "unnamed prepared statement does not exist").detail(
                "lockkeeper: an error has left open which of the statements that were parsed under no name it is. Send its Parse again.",
            );
            return Err(report.into());
        }
        if self.relay.watch
            && let Some((portal, statement)) = wire::bind_names(&bind)
        {
            self.binds_pending_write(statement).await?;
            match self.ending_text(statement).await? {
                Some(text) => self.deferred.ending_portals.insert(portal.to_vec(), text),
                None => self.deferred.ending_portals.remove(portal),
            };
        }
        if let Some((_, name)) = wire::bind_names(&bind)
            && !self.relay.responses.skipping()
        {
            self.look_at_insert(name, len).await?;
            self.look_at_prepared(name, len).await?;
        }
        if let Some((portal, name)) = wire::bind_names(&bind) {
            self.bind_dry(portal, name, self.closing_of_question()).await?;
        }
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        if let Some((portal, name)) = wire::bind_names(&bind)
            && !self.relay.responses.skipping()
        {
            let looks = self.relay.wants_look(!portal.is_empty(), name, len);
            match self.relay.held.statement(name).cloned() {
                Some(statement) if looks => {
                    let of = bind.slice_ref(name);
                    let bound = held::Portal {
                        of,
                        statement,
                        bind: bind.clone(),
                        away: false,
                        doubted: false,
                    };
                    // The unnamed one is mostly executed next: see where another is.
                    let goes = !portal.is_empty() && bound.may_be_fetched();
                    self.relay.held.bind(portal, bound);
                    if goes {
                        self.put_away(portal).await?;
                    }
                }
                _ => self.relay.held.forget_portal(portal),
            }
        }
        Ok(())
    }

    /// An INSERT that was prepared before there was a rule (CREATE RULE) by which it changes other rows is held from now on.
    async fn look_at_insert(&mut self, name: &[u8], len: usize) -> Result<(), End> {
        if !self
            .relay
            .held
            .may_insert(name, self.relay.shapes.known_firing().as_ref())
        {
            return Ok(());
        }
        self.ask_firing(b"insert", self.closing_of_question()).await?;
        let Some(firing) = self.relay.shapes.known_firing().filter(|firing| !firing.is_empty()) else {
            return Ok(());
        };
        if !self.relay.held.may_insert(name, Some(&firing)) || self.relay.block_failed() {
            return Ok(());
        }
        let Ok(shown) = std::str::from_utf8(name) else {
            return Ok(());
        };
        let sql = format!(
            "SELECT p.statement, (SELECT pg_catalog.string_agg(t.type::pg_catalog.oid::pg_catalog.text, ' ' ORDER BY t.at)
FROM pg_catalog.unnest(p.parameter_types) WITH ORDINALITY AS t(type, at))
FROM pg_catalog.pg_prepared_statements AS p WHERE p.name OPERATOR(pg_catalog.=) {}",
            quote_literal(shown)
        );
        let answers = self
            .relay
            .ask(&[Ask::new(sql)], self.closing_of_question(), Hears::Nothing)
            .await?;
        self.relay.held.looked_at_insert(name, &firing);
        let row = answers.first().and_then(|answer| answer.rows.first());
        let Some([Some(text), types]) = row.map(Vec::as_slice) else {
            return Ok(());
        };
        let judged = match self.read(text.as_bytes()).await.as_deref() {
            Ok([statement]) => needs_judging(statement),
            _ => false,
        };
        if !judged {
            return Ok(());
        }
        let statement = held::Statement {
            text: Bytes::copy_from_slice(text.as_bytes()),
            types: types_of(types.as_deref()),
            reading: depends_on_reading(text.as_bytes()).then(|| self.relay.reading()),
            what: held::Kind::Judge,
            quiet: None,
        };
        self.hold_prepared(name, statement, len).await
    }

    /// A Bind that is too large to be held, as that of a large value: if its statement pins a key, no parameter can make it
    /// harmful, and it passes unheld.
    pub(super) async fn on_large_bind(&mut self, len: usize) -> Result<(), End> {
        self.relay.settle().await?;
        let front = self.relay.up.unjudged();
        let Some((portal, name)) = wire::bind_names(front).map(|(p, s)| (p.to_vec(), s.to_vec())) else {
            return Err(Broken::Protocol("a Bind message without a statement name".into()).into());
        };
        let failed = self.relay.responses.skipping() || self.relay.block_failed();
        let text = self.relay.held.statement(&name).map(|held| held.text.clone());
        // Should this Bind fail, the portal may be the one that is held; whether it fails is not heard before its end.
        if let Some(text) = text.filter(|_| !failed && self.relay.held.portal(&portal).is_none()) {
            self.ask_reading(&text).await?;
            let statements = self.read(&text).await.unwrap_or_default();
            if let [
                Statement {
                    kind: Kind::MixedWrite, ..
                },
            ] = statements.as_slice()
                && self.forwards_unread()
            {
                // How many rows it means follows from the parameters, which cannot be asked about.
                self.relay.pass_frame(len);
                return Ok(());
            }
            if let [statement] = statements.as_slice()
                && matches!(statement.kind, Kind::Write)
            {
                let policy = self.shared.policy();
                let types = self
                    .relay
                    .held
                    .statement(&name)
                    .map(|held| held.types.clone())
                    .unwrap_or_default();
                let bytes = text.len() + len;
                let weight = self.weigh(statement, &policy, &types, bytes, Closing::Flush).await;
                if let Err(End::Broken(broken)) = weight {
                    return Err(broken.into());
                }
                self.relay.shapes.judged();
                if let Weight::Light = weight? {
                    self.quiet(&name, &text, &types, bytes);
                    self.relay.pass_frame(len);
                    return Ok(());
                }
            }
        } else if failed {
            // The server takes none of it.
            self.relay.pass_frame(len);
            return Ok(());
        }
        if self.forwards_unread() {
            let text = self.relay.held.statement(&name).map(|held| held.text.clone());
            self.lets_go(&text.unwrap_or_default()).await?;
            self.relay.pass_frame(len);
            return Ok(());
        }
        self.refuse_to_hold(len)
    }

    pub(super) async fn on_close(&mut self, len: usize) -> Result<(), Broken> {
        let frame = self.relay.up.unjudged()[..len].to_vec();
        self.relay.settle().await?;
        self.relay.pass_frame(len);
        self.relay.settle().await?;
        if !self.relay.responses.skipping() {
            match wire::close_target(&frame) {
                Some((b'S', name)) => {
                    self.relay.held.forget_statement(name);
                    self.dry.statements.remove(name);
                }
                Some((_, name)) => self.relay.held.forget_portal(name),
                None => {}
            };
        }
        Ok(())
    }

    pub(super) async fn on_execute(&mut self, len: usize) -> Result<(), End> {
        self.relay.settle().await?;
        let name = wire::portal_name(&self.relay.up.unjudged()[..len])
            .unwrap_or_default()
            .to_vec();
        if self.relay.has_outgrown(&name) && !self.relay.responses.skipping() && !self.forwards_unread() {
            let report = Report::error("55000", "lockkeeper: rows were written since this UPDATE or DELETE was bound to the unnamed portal, so that it may mean many more")
                .hint("Send its Bind again, right in front of its Execute.");
            return Err(report.into());
        }
        self.execute_looked(&name, self.closing_of_question()).await?;
        let runs = !self.relay.responses.skipping() && !self.relay.block_failed();
        if runs && !name.is_empty() && self.relay.held.unnamed_may_be_fetched() {
            self.put_away(b"").await?;
        }
        let held = self.relay.held.portal(&name).cloned();
        let Some(portal) = held.filter(|_| runs) else {
            // Nothing to judge, a failed transaction, or a Bind that failed.
            if self.relay.watch {
                return self.execute_watched(len).await;
            }
            self.relay.pass_frame(len);
            return Ok(());
        };
        if portal.doubted {
            self.ask_portal(&name, &portal).await?;
        }
        match portal.statement.what {
            held::Kind::Rewritten => {
                let entry = self.entry_rewritten(&portal.statement.text, &portal.bind);
                self.announce(&entry, &self.shared.policy()).await?;
                self.relay.pass_frame_for(len, OnAnswer::Note);
                Ok(self.observe(entry).await?)
            }
            held::Kind::Unreadable => {
                let unreadable = self.read(&portal.statement.text).await.err().unwrap_or_else(|| {
                    Unreadable::Syntax("the server accepts it, Lockkeeper's grammar does not".into())
                });
                let verdict = match unreadable {
                    Unreadable::Syntax(_) | Unreadable::TooLarge if may_be_ddl(&portal.statement.text) => {
                        self.unparsed(&portal.statement.text, &unreadable).await?
                    }
                    _ => self.weigh_unread(&portal, &unreadable).await?,
                };
                match verdict {
                    Verdict::Refused(report) => Err(report.into()),
                    Verdict::Forward(Some(entry)) => {
                        self.announce(&entry, &self.shared.policy()).await?;
                        self.come_back(&portal).await?;
                        self.relay.pass_frame_for(len, OnAnswer::Note);
                        Ok(self.observe(entry).await?)
                    }
                    _ => {
                        self.come_back(&portal).await?;
                        self.relay.pass_frame(len);
                        Ok(())
                    }
                }
            }
            held::Kind::Judge => self.execute_judged(len, portal).await,
            held::Kind::Done => {
                let name = String::from_utf8_lossy(&name).into_owned();
                Err(Report::error("55000", &format!("portal \"{name}\" cannot be run")).into())
            }
            held::Kind::Dry => self.execute_dry(len, portal).await,
            held::Kind::Forgets => {
                self.relay.pass_frame(len);
                match self.read(&portal.statement.text).await.as_deref() {
                    Ok([statement]) => Ok(self.forget_when_done(statement).await?),
                    _ => Ok(()),
                }
            }
        }
    }

    /// What changes rows, in another encoding than UTF-8 or in words of another version of the server's.
    async fn weigh_unread(&mut self, portal: &held::Portal, unreadable: &Unreadable) -> Result<Verdict, Broken> {
        let parameters = Parameters {
            types: portal.statement.types.clone(),
            values: wire::bind_parameters(&portal.bind)
                .map(|values| portal.bind.slice_ref(values))
                .unwrap_or_default(),
            ..Parameters::default()
        };
        // A Sync of ours would end the portal.
        let place = match self.relay.place() {
            Place::Alone => Place::Pipeline,
            place => place,
        };
        self.verdict_unread(&portal.statement.text, unreadable, &parameters, place)
            .await
    }

    pub(super) async fn execute_judged(&mut self, len: usize, portal: held::Portal) -> Result<(), End> {
        let held = &portal.statement;
        self.ask_reading(&held.text).await?;
        if held.reading.as_ref().is_some_and(|then| *then != self.relay.reading()) {
            // What would be judged, or run as a step, is not what the server has prepared.
            if self.forwards_unread() {
                let why = "since it was prepared, the session has come to read texts in another way";
                return Ok(self.forward_unjudged_execute(len, &portal, why).await?);
            }
            let report = Report::error(
                "0A000",
                "lockkeeper: since this statement was prepared, client_encoding or standard_conforming_strings has changed, and it would now be read in another way; prepare it again",
            );
            return Err(report.into());
        }
        let mut statements = self.read(&held.text).await.unwrap_or_default();
        let Some(statement) = statements.pop().filter(|_| statements.is_empty()) else {
            if self.forwards_unread() {
                let why = "it cannot be read again";
                return Ok(self.forward_unjudged_execute(len, &portal, why).await?);
            }
            let unreadable = Unreadable::Syntax("it cannot be read again".into());
            return Err(unparsed_report(&unreadable).into());
        };
        self.ask_chained(&portal).await?;
        // A Sync of ours would end the portal, which can be bound again only while its statement is there.
        let lasts = self.relay.held.is_still(&portal);
        let place = match self.relay.place() {
            Place::Alone if !lasts => Place::Pipeline,
            // Behind it the statement would be looked for in another process.
            Place::Alone if self.relay.is_behind_pooler() => Place::Pipeline,
            // What follows in the group would be rolled back without it.
            Place::Alone if is_transactional(&statement) && !self.relay.ends_group(len).await? => Place::Pipeline,
            place => place,
        };
        // In a pipeline a Sync of ours would commit the client's implicit transaction.
        let closing = if place == Place::Pipeline {
            Closing::Flush
        } else {
            Closing::Sync
        };
        let parameters = Parameters {
            types: held.types.clone(),
            values: wire::bind_parameters(&portal.bind)
                .map(|values| portal.bind.slice_ref(values))
                .unwrap_or_default(),
            extended: true,
            results: wire::bind_results(&portal.bind).unwrap_or_default().to_vec(),
            rows_max: wire::execute_rows(&self.relay.up.unjudged()[..len]).unwrap_or(0),
        };
        let shift = characters(&held.text[..statement.offset]);
        let is_write = matches!(statement.kind, Kind::Write | Kind::MixedWrite);
        let verdict = self.verdict(statement, place, &parameters, closing, shift).await?;
        if let Verdict::Forward(Some(entry)) = &verdict {
            self.announce(entry, &self.shared.policy()).await?;
        }
        match verdict {
            Verdict::Forward(entry) => {
                if is_write {
                    self.quiet(&portal.of, &held.text, &held.types, held.text.len() + portal.bind.len());
                    // What is left to execute of it, after a row limit, is the same statement.
                    if let Some((name, _)) = wire::bind_names(&portal.bind) {
                        self.relay.held.forget_portal(name);
                    }
                }
                if place == Place::Alone && !self.relay.responses.skipping() {
                    if self.has_lost_statements().await? {
                        let report = Report::error(
                            "0A000",
                            "lockkeeper: there is a connection pooler between Lockkeeper and the server, behind which what was prepared may be gone",
                        );
                        let hint = "Send the statement again: that it is there is known now.";
                        return Err(report.hint(hint).into());
                    }
                    self.bind_again(&portal).await?;
                } else {
                    self.come_back(&portal).await?;
                }
                let Some(entry) = entry else {
                    self.relay.pass_frame(len);
                    return Ok(());
                };
                self.relay.pass_frame_for(len, OnAnswer::Note);
                Ok(self.observe(entry).await?)
            }
            Verdict::Done(tag) => {
                let (name, _) = wire::bind_names(&portal.bind).unwrap_or_default();
                self.relay.held.done(name);
                if closing == Closing::Flush {
                    self.relay.has_executed();
                }
                self.relay.drop_frame(len);
                let mut out = BytesMut::new();
                wire::put_command_complete(&mut out, &tag);
                self.relay.tell(&out).await?;
                // A client believes a CommandComplete only when ReadyForQuery has come.
                self.relay.stop_at_sync |= !self.unanswered.is_empty();
                Ok(())
            }
            Verdict::Refused(report) => Err(report.into()),
            Verdict::Instead(..) | Verdict::Dry(_) => {
                Err(Report::error("0A000", "lockkeeper: the statement was rewritten too late").into())
            }
        }
    }

    /// As the policy lets go on what cannot be judged.
    async fn forward_unjudged_execute(&mut self, len: usize, portal: &held::Portal, why: &str) -> Result<(), Broken> {
        if let Verdict::Forward(Some(entry)) = self
            .unparsed(&portal.statement.text, &Unreadable::Syntax(why.to_owned()))
            .await?
        {
            self.record(entry.forwarded_unseen()).await;
        }
        self.relay.names_moved();
        self.come_back(portal).await?;
        self.relay.pass_frame(len);
        Ok(())
    }

    /// A prepared statement whose shape is known to be harmless is left alone as long as that holds. The unnamed one is
    /// sent anew each time.
    pub(super) fn quiet(&mut self, name: &[u8], text: &[u8], types: &[u8], bytes: usize) {
        let Some(learned) = self.relay.shapes.known(text, types, bytes) else {
            return;
        };
        if name.is_empty() {
            self.relay.held.forget_statement(name);
        } else {
            self.relay.held.quiet(name, learned);
        }
    }

    /// Our Sync may have given the rest of the client's group to another process of the server's.
    async fn has_lost_statements(&mut self) -> Result<bool, Broken> {
        if !self.relay.knows_process() {
            let ask = Ask::as_client("SELECT pg_catalog.pg_backend_pid()");
            if let Some(answers) = unless_refused(self.relay.ask(&[ask], Closing::Sync, Hears::Nothing).await)?
                && let Some(process) = answers.first().and_then(|answer| answer.value()?.parse().ok())
            {
                self.relay.works_with(process);
            }
        }
        Ok(self.relay.is_behind_pooler())
    }

    /// The client hears an error; what it has sent up to its Sync is skipped, by the server or here.
    pub(super) async fn refuse_extended(&mut self, len: usize, report: Report) -> Result<(), Broken> {
        let closing = if self.relay.place() == Place::Pipeline {
            Closing::Flush
        } else {
            Closing::Sync
        };
        self.fail_on_server(&report, closing).await?;
        if !self.relay.responses.skipping() {
            self.relay.discard_to_sync();
        }
        self.relay.drop_frame(len);
        let mut out = BytesMut::new();
        report.put_error(&mut out, self.relay.encoding());
        self.relay.tell(&out).await
    }
}

fn held_as(
    frame: &Bytes,
    parse: &wire::ParseMessage<'_>,
    reading: Option<Reading>,
    what: held::Kind,
) -> held::Statement {
    held::Statement {
        text: frame.slice_ref(parse.text),
        types: frame.slice_ref(parse.types),
        reading,
        what,
        quiet: None,
    }
}
