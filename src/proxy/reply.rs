//! What the client is told about a statement.

use super::dialogue::{Ask, Closing, Hears};
use super::end::{Broken, End};
use super::entry::Entry;
use super::relay::Answered;
use super::session::Session;
use super::verdict::Verdict;
use crate::plan::{self, Place};
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, Report};
use lockkeeper_wire::responses::OnAnswer;

impl Session {
    pub(super) async fn answer_query(&mut self, len: usize, verdict: Verdict) -> Result<(), End> {
        if let Verdict::Forward(Some(entry)) | Verdict::Instead(_, entry) = &verdict {
            self.announce(entry, &self.shared.policy()).await?;
        }
        match verdict {
            Verdict::Forward(None) => self.relay.pass_frame(len),
            Verdict::Forward(Some(entry)) => {
                self.relay.pass_frame_for(len, OnAnswer::Note);
                self.observe(entry).await?;
            }
            Verdict::Instead(sql, entry) => {
                let mut frame = BytesMut::new();
                wire::put_query(&mut frame, sql.as_bytes());
                self.relay.replace_frame(len, &frame, OnAnswer::Rewritten);
                self.observe(entry).await?;
            }
            Verdict::Dry(rows) => self.answer_dry(len, &rows).await?,
            Verdict::Done(tag) => {
                self.relay.drop_frame(len);
                let ended = match self.relay.place() {
                    Place::Pipeline => self.relay.ask_as_query().await,
                    _ => Ok(()),
                };
                let mut out = BytesMut::new();
                match ended {
                    Ok(()) => wire::put_command_complete(&mut out, &tag),
                    // What was deferred to the end of the transaction.
                    Err(End::Refused(report)) => report.put_error(&mut out, self.relay.encoding()),
                    Err(broken) => return Err(broken),
                }
                wire::put_ready(&mut out, self.relay.status);
                self.relay.tell(&out).await?;
                self.jobs_are_answered().await?;
            }
            Verdict::Refused(report) => return Err(report.into()),
        }
        Ok(())
    }

    /// What was found in a statement that goes on as it is. A program that sends thousands of them is not told of each.
    pub(super) async fn tell_findings(&mut self, notices: &[String]) -> Result<(), Broken> {
        for notice in notices {
            let rule = notice.split(':').next().unwrap_or_default().to_owned();
            let all: u32 = self.notices.values().sum();
            let of_rule = self.notices.entry(rule).or_default();
            *of_rule = of_rule.saturating_add(1);
            if *of_rule > NOTICES_OF_A_RULE_MAX || all >= NOTICES_MAX {
                continue;
            }
            if *of_rule == NOTICES_OF_A_RULE_MAX || all + 1 == NOTICES_MAX {
                let last = format!("{notice} (this session hears no more of the kind; the audit log has them all)");
                self.relay.notice(&last).await?;
            } else {
                self.relay.notice(notice).await?;
            }
        }
        Ok(())
    }

    /// Waits for the answer to a forwarded statement and writes its audit event.
    pub(super) async fn observe(&mut self, entry: Entry) -> Result<(), Broken> {
        match self.relay.settle().await {
            Ok(answered) => {
                self.observed(entry, &answered).await;
                Ok(())
            }
            Err(broken) => {
                self.record(entry.disconnected(&broken)).await;
                Err(broken)
            }
        }
    }

    /// The same, of an answer that has just gone by.
    pub(super) async fn observed(&mut self, entry: Entry, answered: &Answered) {
        self.record_end(entry.answered(answered.tag.as_deref(), answered.error.as_ref()), None)
            .await;
    }

    /// The client hears an error and, unless the transaction block is open, the server hears nothing.
    pub(super) async fn refuse_query(&mut self, len: usize, report: Report) -> Result<(), Broken> {
        self.fail_on_server(&report, Closing::Sync).await?;
        if self.relay.responses.skipping() {
            // To a Sync, which a client that sends a simple query need not send.
            self.relay.end_group().await?;
        }
        self.relay.drop_frame(len);
        let mut out = BytesMut::new();
        report.put_error(&mut out, self.relay.encoding());
        wire::put_ready(&mut out, self.relay.status);
        self.relay.tell(&out).await
    }

    /// In a transaction the server must know that it failed, so it is given a statement that does. The status byte is
    /// then its own, never made up.
    pub(super) async fn fail_on_server(&mut self, report: &Report, closing: Closing) -> Result<(), Broken> {
        if self.relay.place() == Place::Alone || self.relay.block_failed() || self.relay.responses.skipping() {
            return Ok(());
        }
        let sql = format!(
            "DO {}",
            plan::splice::quote_literal(&format!(
                "BEGIN RAISE EXCEPTION USING ERRCODE = {}, MESSAGE = {}; END",
                plan::splice::quote_literal(&report.sqlstate()),
                plan::splice::quote_literal(&report.message()),
            ))
        );
        // Where PL/pgSQL is missing this fails with another error, which serves as well.
        match self.relay.ask(&[Ask::new(sql)], closing, Hears::Nothing).await {
            Err(End::Refused(_)) => Ok(()),
            Err(End::Broken(broken)) => Err(broken),
            Ok(_) => Err(Broken::Protocol(
                "the server did not fail a statement that raises an error".into(),
            )),
        }
    }
}

/// So many NOTICEs of one rule a session hears, and so many of all; the audit log has every finding.
pub(super) const NOTICES_OF_A_RULE_MAX: u32 = 10;

pub(super) const NOTICES_MAX: u32 = 100;
