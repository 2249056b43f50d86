//! Texts that the judge cannot read: the server, asked to parse them, says what is wrong; what it accepts all the same is
//! up to the policy.

use super::dialogue::Closing;
use super::judge::Verdict;
use super::relay::Broken;
use super::session::Session;
use super::wire::{self, Report};
use crate::plan::Place;
use crate::plan::policy::Action;
use crate::plan::statement::{Kind, Unreadable, read};
use bytes::BytesMut;

impl Session {
    /// A text that the judge cannot read: the server, asked to parse it, says what is wrong in its own words.
    pub(super) async fn on_unreadable_query(
        &mut self,
        len: usize,
        text: &[u8],
        unreadable: Unreadable,
    ) -> Result<(), Broken> {
        if let Some(report) = self.refusal_unread(text, &unreadable) {
            self.record_unread(text, &report).await;
            return self.refuse_query(len, report).await;
        }
        // A Sync would commit what stands before it in the same implicit transaction.
        let closing = match self.relay.place() {
            Place::Pipeline => Closing::Flush,
            _ => Closing::Sync,
        };
        match self.relay.ask_parse(text, closing).await? {
            // Several statements are no error of the client's: told by the server's routine, since messages are translated.
            Err(report) if report.get(b'R') != Some(b"exec_parse_message") => {
                // The transaction, if there is one, has failed on the server by this very error.
                if self.relay.responses.skipping() {
                    self.relay.end_group().await?;
                }
                self.relay.drop_frame(len);
                let mut out = BytesMut::new();
                report.put_error(&mut out, self.relay.encoding());
                wire::put_ready(&mut out, self.relay.status);
                self.relay.tell(&out).await
            }
            Ok(()) if !may_be_ddl(text) => {
                self.relay.pass_frame(len);
                Ok(())
            }
            _ => match self.unparsed(text, &unreadable).await? {
                Verdict::Refused(report) => self.refuse_query(len, report).await,
                verdict => self.answer_query(len, verdict).await,
            },
        }
    }

    /// What the policy says of a text that the server accepts and the judge cannot read.
    pub(super) async fn unparsed(&mut self, text: &[u8], unreadable: &Unreadable) -> Result<Verdict, Broken> {
        let why = unreadable.why();
        match self.shared.policy().unparsed {
            Action::Allow => Ok(Verdict::Forward(None)),
            Action::Warn => {
                let notice = format!("unparsed: the statement cannot be read and runs as it is: {why}");
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
        if !may_be_ddl(text) && !text.contains(&b';') {
            self.relay.pass_frame(len);
            return Ok(());
        }
        let report = unparsed_report(unreadable);
        self.record_unread(text, &report).await;
        self.refuse_query(len, report).await
    }

    /// Some: it is refused without asking the server.
    pub(super) fn refusal_unread(&self, text: &[u8], unreadable: &Unreadable) -> Option<Report> {
        match unreadable {
            Unreadable::Syntax(_) => None,
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
                            "lockkeeper: a schema change must be valid UTF-8 to be judged, and this one is not",
                        )
                        .hint("Set client_encoding to UTF8 for schema changes."),
                    ),
                }
            }
        }
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

/// In lower case.
pub(super) fn first_word(text: &[u8]) -> Vec<u8> {
    text.iter()
        .skip_while(|b| b.is_ascii_whitespace() || **b == b'(')
        .take_while(|b| b.is_ascii_alphabetic() || **b == b'_')
        .map(u8::to_ascii_lowercase)
        .collect()
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
