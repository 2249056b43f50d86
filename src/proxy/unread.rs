//! Texts that the judge cannot read: the server, asked to parse them, says what is wrong; what it accepts all the same is
//! up to the policy.

use super::dialogue::{Ask, Closing};
use super::end::{Broken, End};
use super::inquire::{closing_at, is_of_the_moment, rows_written_to};
use super::judge::report_of;
use super::parameters::Parameters;
use super::session::Session;
use super::verdict::{Verdict, or_refused};
use crate::plan::policy::Action;
use crate::plan::reading::read;
use crate::plan::request::Request;
use crate::plan::statement::{Kind, Statement, Unreadable};
use crate::plan::words::mentions;
use crate::plan::{self, Place, Plan, mixed};
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use pg_query::NodeEnum;

impl Session {
    /// A text that the judge cannot read: the server, asked to parse it, says what is wrong in its own words.
    pub(super) async fn on_unreadable_query(
        &mut self,
        len: usize,
        text: &[u8],
        unreadable: Unreadable,
    ) -> Result<(), End> {
        if let Some(report) = self.refusal_unread(text, &unreadable) {
            self.record_unread(text, &report).await;
            return Err(report.into());
        }
        // A Sync would commit what stands before it in the same implicit transaction.
        let closing = match self.relay.place() {
            Place::Pipeline => Closing::Flush,
            _ => Closing::Sync,
        };
        match self.relay.ask_parse(text, closing).await {
            Err(End::Broken(broken)) => Err(broken.into()),
            // Several statements are no error of the client's: told by the server's routine, since messages are translated.
            Err(End::Refused(report)) if report.get(b'R') != Some(b"exec_parse_message") => {
                // The transaction, if there is one, has failed on the server by this very error.
                if self.relay.responses.skipping() {
                    self.relay.end_group().await?;
                }
                self.relay.drop_frame(len);
                let mut out = BytesMut::new();
                report.put_error(&mut out, self.relay.encoding());
                wire::put_ready(&mut out, self.relay.status);
                Ok(self.relay.tell(&out).await?)
            }
            Ok(()) if is_masked(&unreadable) || !may_be_ddl(text) => {
                let place = self.relay.place();
                let parameters = Parameters::default();
                let verdict = self.verdict_unread(text, &unreadable, &parameters, place).await?;
                self.answer_query(len, verdict).await
            }
            _ => {
                let verdict = self.unparsed(text, &unreadable).await?;
                self.answer_query(len, verdict).await
            }
        }
    }

    /// What no schema change can be in.
    pub(super) async fn verdict_unread(
        &mut self,
        text: &[u8],
        unreadable: &Unreadable,
        parameters: &Parameters,
        place: Place,
    ) -> Result<Verdict, Broken> {
        if is_masked(unreadable) {
            let weighed = self.weigh_masked_writes(text, parameters, place).await;
            return or_refused(weighed.map(|()| Verdict::Forward(None)));
        }
        if !may_write(text) {
            return Ok(Verdict::Forward(None));
        }
        // In words of another version of the server's. It tells itself how many rows are meant.
        let mut explain = parameters.ask(String::new());
        explain.raw = [b"EXPLAIN (FORMAT JSON) ", text].concat().into();
        let rows = match self.ask_harmlessly(explain, place).await {
            Ok(answer) => answer.value().and_then(mixed::changed_rows),
            Err(End::Broken(broken)) => return Err(broken),
            Err(End::Refused(report)) if place == Place::Pipeline || is_of_the_moment(&report) => {
                return Ok(Verdict::Refused(report));
            }
            Err(End::Refused(_)) => None,
        };
        match rows {
            Some(rows) if rows <= self.shared.policy().backfill.rows_max as f64 => Ok(Verdict::Forward(None)),
            _ => self.unparsed(text, unreadable).await,
        }
    }

    /// What changes rows in a text of another encoding than UTF-8: it is not taken apart, but the server tells how many rows it means.
    async fn weigh_masked_writes(&mut self, text: &[u8], parameters: &Parameters, place: Place) -> Result<(), End> {
        let policy = self.shared.policy();
        for mut statement in self.masked_writes(text).await {
            let Some(within) = statement.explainable() else {
                continue;
            };
            let from = statement.offset + (within.as_ptr() as usize - statement.sql.as_ptr() as usize);
            let piece = &text[from..from + within.len()];
            let mut explain = parameters.ask(String::new());
            explain.raw = [b"EXPLAIN (FORMAT JSON) ", piece].concat().into();
            let rows = match self.ask_harmlessly(explain.clone(), place).await {
                Ok(answer) => answer.value().and_then(mixed::changed_rows).unwrap_or_default(),
                // The statement will fail in the same way, in the server's words.
                Err(End::Refused(_)) if place != Place::Pipeline => continue,
                Err(end) => return Err(end),
            };
            if rows <= policy.backfill.rows_max as f64 {
                continue;
            }
            statement.kind = Kind::MixedWrite;
            let mut facts = self.facts(Request::of(&statement), closing_at(place)).await?;
            if facts.relations.is_empty() {
                // Its table has a name that cannot be asked about. What it writes to is locked while it is explained.
                let max = policy.backfill.rows_max;
                let asked = vec![explain, Ask::new(rows_written_to(max.saturating_add(1)))];
                let counted = match self.ask_all_harmlessly(asked, place).await {
                    Ok(answers) => answers.last().and_then(|rows| rows.value()?.parse::<u64>().ok()),
                    Err(End::Refused(_)) if place != Place::Pipeline => None,
                    Err(end) => return Err(end),
                };
                if counted.is_some_and(|rows| rows <= max) {
                    continue;
                }
            }
            facts.estimated_rows = Some(rows);
            facts.is_masked = true;
            self.judged += 1;
            let entry = self.entry(&statement, &facts, &parameters.values);
            if let Plan::Reject(rejection) = plan::plan(&statement, &facts, &policy, place) {
                self.record(entry.rejected(&rejection)).await;
                return Err(report_of(&rejection).into());
            }
            if !self.forwards_unread() && facts.relations.is_empty() {
                let report = unnamed_report(rows);
                self.record(entry.refused(&report)).await;
                return Err(report.into());
            }
        }
        Ok(())
    }

    /// The statements that change rows, with other letters for those beyond ASCII, which in all encodings of a server are parts of words
    /// or of values. A table whose name has such letters is left out of its statement.
    pub(super) async fn masked_writes(&mut self, text: &[u8]) -> Vec<Statement> {
        let conforming = self.relay.reading().conforming;
        let masked = |letter: u8| -> Vec<Statement> {
            let ascii: Vec<u8> = text.iter().map(|b| if *b < 0x80 { *b } else { letter }).collect();
            read(&ascii, conforming).unwrap_or_default()
        };
        let (one, other) = (masked(b'x'), masked(b'y'));
        let mut writes = Vec::new();
        for (mut statement, again) in one.into_iter().zip(other) {
            let names = |node: &NodeEnum| (mixed::all(node), mixed::inserted(node));
            let are_known = names(&statement.node) == names(&again.node);
            if prepared_name(&statement.node) != prepared_name(&again.node) {
                // Which statement that is, only the server knows.
                if matches!(statement.node, NodeEnum::PrepareStmt(_)) {
                    self.relay.prepared_others = true;
                    self.relay.by_text.may_be_anything();
                }
                if mixed::executes(&statement.node).is_some() && self.relay.executes_what_is_known() {
                    statement.kind = Kind::MixedWrite;
                    mixed::put_prepared(&mut statement.node, NodeEnum::PrepareStmt(Box::default()));
                }
            } else if let Some(one) = self.with_what_they_execute(vec![statement.clone()]).await.pop() {
                statement = one;
            }
            self.mark_firing(&mut statement);
            if !matches!(statement.kind, Kind::Write | Kind::MixedWrite) {
                continue;
            }
            if !are_known {
                statement.node = match statement.node {
                    // They are told apart by what is explained of them.
                    node @ (NodeEnum::ExplainStmt(_) | NodeEnum::CopyStmt(_)) => node,
                    _ => NodeEnum::SelectStmt(Box::default()),
                };
            }
            writes.push(statement);
        }
        writes
    }

    /// What the policy says of a text that the server accepts and the judge cannot read.
    pub(super) async fn unparsed(&mut self, text: &[u8], unreadable: &Unreadable) -> Result<Verdict, Broken> {
        let why = unreadable.why();
        match self.shared.policy().unparsed {
            Action::Allow => Ok(Verdict::Forward(None)),
            Action::Warn => {
                let notice = format!("unparsed: the statement cannot be judged and runs as it is: {why}");
                self.relay.notice(&notice).await?;
                Ok(Verdict::Forward(Some(self.entry_unparsed(text, why, "warn"))))
            }
            _ => {
                let report = unparsed_report(unreadable);
                let event = self.entry_unparsed(text, why, "reject").refused(&report);
                self.record(event).await;
                Ok(Verdict::Refused(report))
            }
        }
    }

    /// A text that is too long to be held goes on as it comes.
    pub(super) async fn forward_too_large(&mut self, tag: u8, len: usize) -> Result<(), Broken> {
        let front = self.relay.up.unjudged();
        let front = front[HEADER.min(front.len())..front.len().min(1_000)].to_vec();
        if let Verdict::Forward(Some(entry)) = self.unparsed(&front, &Unreadable::TooLarge).await? {
            self.record(entry.forwarded_unseen()).await;
        }
        if tag == b'P'
            && let Some((name, _)) = wire::c_string(&front)
        {
            self.relay.held.forget_statement(name);
        }
        self.relay.names_moved();
        self.relay.pass_frame(len);
        Ok(())
    }

    pub(super) async fn record_unread(&mut self, text: &[u8], report: &Report) {
        let event = self.entry_unparsed(text, &report.message(), "reject").refused(report);
        self.record(event).await;
    }

    /// A replication command, as a rule. A server that is asked to parse over such a connection refuses to, and it runs
    /// SQL there too: so what is neither a command nor one query goes no further.
    pub(super) async fn on_unreadable_replication(
        &mut self,
        len: usize,
        text: &[u8],
        unreadable: &Unreadable,
    ) -> Result<(), Broken> {
        if is_replication_command(text) {
            self.relay.pass_frame(len);
            return Ok(());
        }
        if let Some(report) = self.refusal_unread(text, unreadable) {
            self.record_unread(text, &report).await;
            return self.refuse_query(len, report).await;
        }
        if !may_be_ddl(text) && !may_write(text) && !text.contains(&b';') {
            self.relay.pass_frame(len);
            return Ok(());
        }
        if let Verdict::Forward(entry) = self.unparsed(text, unreadable).await? {
            if let Some(entry) = entry {
                self.record(entry.forwarded_unseen()).await;
            }
            self.relay.names_moved();
            self.relay.pass_frame(len);
            return Ok(());
        }
        self.refuse_query(len, unparsed_report(unreadable)).await
    }

    /// Some: it is refused without asking the server.
    pub(super) fn refusal_unread(&self, text: &[u8], unreadable: &Unreadable) -> Option<Report> {
        if self.forwards_unread() {
            return None;
        }
        match unreadable {
            Unreadable::Syntax(_) => None,
            Unreadable::Name(name) => {
                let is_change = |statements: Vec<Statement>| {
                    let mut kinds = statements.iter().map(|statement| &statement.kind);
                    kinds.any(|kind| matches!(kind, Kind::Ddl | Kind::LimitedWrite(_)))
                };
                let judged = read(text, self.relay.reading().conforming).map_or(true, is_change);
                let server = &self.relay.reported.server_encoding;
                judged.then(|| {
                    Report::error(
                        "0A000",
                        &format!(
                            "lockkeeper: in its encoding {server} the server may take the identifier {name} for another one than Lockkeeper does, so the schema change cannot be judged and was not run"
                        ),
                    )
                    .hint("Write identifiers with other than ASCII letters in double quotes, as they are in the catalog, and with at most 63 bytes in UTF-8.")
                })
            }
            Unreadable::TooLarge => Some(
                Report::error(
                    "54000",
                    "lockkeeper: the statement is too large or its comments are nested too deeply to be judged",
                )
                .hint("Send it in parts, or connect to the server directly."),
            ),
            Unreadable::Encoding => {
                // Only what may change the schema has to be read; bytes above 127 are letters in every encoding.
                let ascii: Vec<u8> = text.iter().map(|b| if *b < 0x80 { *b } else { b'x' }).collect();
                match read(&ascii, self.relay.reading().conforming) {
                    Ok(statements)
                        if !statements
                            .iter()
                            .any(|s| matches!(s.kind, Kind::Ddl | Kind::LimitedWrite(_))) =>
                    {
                        None
                    }
                    _ => Some(
                        Report::error(
                            "22021",
                            "lockkeeper: a schema change or a block of code must be in UTF-8 to be judged, and this one is not",
                        )
                        .hint("Set client_encoding to UTF8 for it."),
                    ),
                }
            }
        }
    }
}

/// The server reads it as Lockkeeper does, but for letters beyond ASCII.
fn is_masked(unreadable: &Unreadable) -> bool {
    matches!(unreadable, Unreadable::Encoding | Unreadable::Name(_))
}

/// By its words, a text that only the server can read may change rows.
pub(super) fn may_write(text: &[u8]) -> bool {
    let word = first_word(text);
    match word.as_slice() {
        b"select" | b"values" | b"table" | b"show" => false,
        b"insert" | b"update" | b"delete" | b"merge" => true,
        _ => ["insert", "update", "delete", "merge"]
            .iter()
            .any(|word| mentions(text, word)),
    }
}

/// By its first word, a text that only the server can read may be more than a query.
pub(super) fn may_be_ddl(text: &[u8]) -> bool {
    !matches!(
        first_word(text).as_slice(),
        b"select" | b"insert" | b"update" | b"delete" | b"values" | b"table" | b"merge" | b"with" | b"copy" | b"show"
    )
}

/// The commands of the streaming replication protocol (manual section 55.4) that are not SQL as well. The server tells
/// them by their first word, and reads nothing behind them as SQL.
pub(super) fn is_replication_command(text: &[u8]) -> bool {
    matches!(
        first_word(text).as_slice(),
        b"identify_system"
            | b"timeline_history"
            | b"create_replication_slot"
            | b"alter_replication_slot"
            | b"drop_replication_slot"
            | b"read_replication_slot"
            | b"start_replication"
            | b"base_backup"
            | b"upload_manifest"
    )
}

/// What PREPARE gives a name, or EXECUTE names.
fn prepared_name(node: &NodeEnum) -> Option<&str> {
    match node {
        NodeEnum::PrepareStmt(prepare) => Some(&prepare.name),
        _ => mixed::executes(node),
    }
}

/// In lower case.
pub(super) fn first_word(text: &[u8]) -> Vec<u8> {
    text.iter()
        .skip_while(|b| b.is_ascii_whitespace() || **b == b'(')
        .take_while(|b| b.is_ascii_alphabetic() || **b == b'_')
        .map(u8::to_ascii_lowercase)
        .collect()
}

/// A table that cannot be asked about by its name.
fn unnamed_report(rows: f64) -> Report {
    Report::error(
        "0A000",
        &format!(
            "lockkeeper: the server expects this statement to change {rows} rows, and it cannot be split into batches in this client_encoding, so it was not run"
        ),
    )
    .hint("Set client_encoding to UTF8 for it, or change the rows in smaller parts.")
}

pub(super) fn unparsed_report(unreadable: &Unreadable) -> Report {
    Report::error(
        "0A000",
        "lockkeeper: the statement cannot be read, so it is not known to be safe and was not run; send it in a form that PostgreSQL 18 reads, or directly to the server",
    )
    .detail(unreadable.why())
    .hint("The policy's `unparsed` decides about such statements (reject, warn or allow).")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_queries_are_taken_for_queries() {
        assert!(!may_be_ddl(b" (SELECT 5 !)"));
        assert!(may_be_ddl(b"ALTER TABLE t WOBBLE"));
        assert!(may_be_ddl(b"/* x */ SELECT 5 !"));
        assert!(may_be_ddl(b"CREATE TABLE t () WITH OIDS"));
    }
}
