//! A simple query of several statements, one of which is judged: run part by part in a transaction that stands for the
//! implicit one of the message (manual section 55.2.2.1), and answered as one message.

use super::deferred::pending::{Ending, ending};
use super::dialogue::{Ask, Closing, Hears};
use super::dispatch::characters;
use super::end::{Broken, End};
use super::judge::not_planned;
use super::parameters::Parameters;
use super::read::PARSE_INLINE_MAX;
use super::relay::Answered;
use super::session::Session;
use super::verdict::Verdict;
use crate::plan::Place;
use crate::plan::statement::{Kind, Statement};
use crate::plan::words::first_token;
use bytes::BytesMut;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use lockkeeper_wire::responses::{OnAnswer, Position};
use pg_query::NodeEnum;

/// The transaction that the parts run in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Open {
    /// The client's own block, or none yet.
    Client,
    /// Ours, begun in place of the implicit one: ended by us.
    Implicit,
}

/// Whether the next part may run.
enum Next {
    Go,
    Failed,
}

/// How far a message has come.
struct Run {
    open: Open,
    /// The last statement's CommandComplete is the client's only when our COMMIT has succeeded.
    keeps_tag: bool,
    kept_tag: Option<String>,
}

impl Session {
    /// `text` is the message's whole query text, `len` the length of its frame at the front of `up`. `joins`: the implicit
    /// transaction was begun by extended-query messages without a Sync.
    pub(super) async fn run_script(
        &mut self,
        len: usize,
        text: &[u8],
        statements: Vec<Statement>,
        joins: bool,
    ) -> Result<(), Broken> {
        self.relay.drop_frame(len);
        // What is judged is read again when its turn comes: what runs before may take any time.
        let is_long = text.len() > PARSE_INLINE_MAX;
        let statements: Vec<Statement> = match is_long {
            true => statements.into_iter().map(Statement::without_tree).collect(),
            false => statements,
        };
        let mut run = Run {
            open: Open::Client,
            keeps_tag: false,
            kept_tag: None,
        };
        let mut failed = false;
        if joins {
            let joined = self.join_group(&mut run.open).await;
            failed = matches!(self.part_ends(joined, run.open).await?, Next::Failed);
        }
        let before = self.relay.reported.clone();
        let mut at = 0;
        while at < statements.len() && !failed {
            // Consecutive statements that are not judged go to the server together.
            let mut end = at + 1;
            if plain(&statements[at]) {
                while end < statements.len() && plain(&statements[end]) {
                    end += 1;
                }
            }
            if end == statements.len() && end - at > 1 && (run.open == Open::Implicit || self.relay.status == b'I') {
                // Its command tag has to wait for our COMMIT.
                end -= 1;
            }
            let part = &statements[at..end];
            let last = end == statements.len();
            let rest = &text[part[0].offset..];
            let now = &self.relay.reported;
            let reread = (now.standard_conforming_strings != before.standard_conforming_strings
                && rest.contains(&b'\\'))
                || (now.client_encoding != before.client_encoding && !rest.is_ascii());
            if reread {
                // The server would have read the whole message before the first of its statements ran.
                let report = Report::error(
                    "0A000",
                    "lockkeeper: after client_encoding or standard_conforming_strings has changed, the rest of the same message would be read in another way; send it as a message of its own",
                );
                self.fail_part(report, run.open).await?;
                failed = true;
                break;
            }
            let next = self.run_part(text, part, (at == 0, last), &mut run).await;
            failed = matches!(self.part_ends(next, run.open).await?, Next::Failed);
            at = end;
        }
        if run.open == Open::Implicit {
            self.end_implicit(failed, run.kept_tag).await?;
        }
        let mut out = BytesMut::new();
        wire::put_ready(&mut out, self.relay.status);
        self.relay.tell(&out).await
    }

    /// Makes a block of the implicit transaction that is under way, with what was done in it, so that it is still the client's
    /// message that ends it. A block may be open already, which only the server can tell: ROLLBACK and ROLLBACK TO look alike.
    async fn join_group(&mut self, open: &mut Open) -> Result<Next, End> {
        let answers = self
            .relay
            .ask(&[Ask::as_client("BEGIN")], Closing::Sync, Hears::Nothing)
            .await?;
        // active_sql_transaction, a warning
        let was_open = answers
            .iter()
            .any(|answer| answer.warnings.iter().any(|code| code == "25001"));
        *open = if was_open { Open::Client } else { Open::Implicit };
        Ok(Next::Go)
    }

    /// `ends`: whether it is the first part, and the last.
    async fn run_part(
        &mut self,
        text: &[u8],
        part: &[Statement],
        ends: (bool, bool),
        run: &mut Run,
    ) -> Result<Next, End> {
        let first = &part[0];
        let end = &part[part.len() - 1];
        let bytes = &text[first.offset..end.offset + end.sql.len()];
        let shift = characters(&text[..first.offset]);
        let open = &mut run.open;
        match &first.kind {
            Kind::Begin { plain } if *open == Open::Implicit => {
                if !plain {
                    // As the server does it: what stands before in the message is in the same transaction.
                    let options = begin_options(&first.sql);
                    let set = Ask::as_client(format!("SET TRANSACTION {options}"));
                    self.relay.ask(&[set], Closing::Sync, Hears::Nothing).await?;
                }
                // BEGIN turns the implicit transaction into a block, with what it has done so far.
                *open = Open::Client;
                let mut out = BytesMut::new();
                wire::put_command_complete(&mut out, "BEGIN");
                self.relay.tell(&out).await?;
                Ok(Next::Go)
            }
            Kind::Commit { chain: true } | Kind::Rollback { chain: true } if *open == Open::Implicit => {
                let what = if matches!(first.kind, Kind::Commit { .. }) {
                    "COMMIT"
                } else {
                    "ROLLBACK"
                };
                let report = Report::error(
                    "25P01",
                    &format!("{what} AND CHAIN can only be used in transaction blocks"),
                );
                Err(report.into())
            }
            _ if savepoint(first).is_some() && (*open == Open::Implicit || self.relay.status == b'I') => {
                let what = savepoint(first).unwrap_or_default();
                let report = Report::error("25P01", &format!("{what} can only be used in transaction blocks"));
                Err(report.into())
            }
            Kind::Begin { .. } | Kind::Commit { .. } | Kind::Rollback { .. } => {
                if *open == Open::Implicit {
                    let mut out = BytesMut::new();
                    Report::warning("25P01", "there is no transaction in progress")
                        .put_notice(&mut out, self.relay.encoding());
                    self.relay.tell(&out).await?;
                    *open = Open::Client;
                }
                match ending(first) {
                    Some(ending) if self.deferred.is_awake() && self.relay.status == b'T' => {
                        self.end_part(first, ending).await
                    }
                    _ => Ok(self.forward_part(bytes, shifted(shift), run).await?.0),
                }
            }
            _ => {
                if self.relay.status == b'I' && ends != (true, true) {
                    let begin = [Ask::as_client("BEGIN")];
                    self.relay.ask(&begin, Closing::Sync, Hears::Nothing).await?;
                    *open = Open::Implicit;
                }
                // The message was looked at as a whole when nothing of it was waiting.
                if self.deferred.looks_on() && self.relay.status == b'T' {
                    self.needs_what_waits(bytes).await?;
                }
                run.keeps_tag = ends.1 && *open == Open::Implicit;
                if self.relay.status == b'E' || plain(first) || savepoint(first).is_some() {
                    return Ok(self.forward_part(bytes, shifted(shift), run).await?.0);
                }
                let is_long = text.len() > PARSE_INLINE_MAX;
                self.judge_part(first, bytes, (shift, is_long), run).await
            }
        }
    }

    async fn judge_part(
        &mut self,
        statement: &Statement,
        bytes: &[u8],
        (shift, is_long): (usize, bool),
        run: &mut Run,
    ) -> Result<Next, End> {
        let place = if self.relay.status == b'T' {
            Place::Block
        } else {
            Place::Alone
        };
        let statement = match is_long {
            true => self.read_again(&statement.sql).await,
            false => Some(statement.clone()),
        };
        let Some(statement) = statement else {
            return Err(not_planned().into());
        };
        let verdict = self
            .verdict(statement, place, &Parameters::default(), Closing::Sync, shift)
            .await?;
        if let Verdict::Forward(Some(entry)) | Verdict::Instead(_, entry) = &verdict {
            self.announce(entry, &self.shared.policy()).await?;
        }
        match verdict {
            Verdict::Forward(entry) => {
                let (next, answered) = self.forward_part(bytes, shifted(shift), run).await?;
                if let Some(entry) = entry {
                    self.observed(entry, &answered).await;
                }
                Ok(next)
            }
            Verdict::Instead(sql, entry) => {
                let (next, answered) = self.forward_part(sql.as_bytes(), Position::Hidden, run).await?;
                self.observed(entry, &answered).await;
                Ok(next)
            }
            Verdict::Dry(rows) => {
                let sql = super::dry::rows::select_of(&rows);
                Ok(self.forward_part(sql.as_bytes(), Position::Hidden, run).await?.0)
            }
            Verdict::Done(tag) => {
                if run.keeps_tag {
                    run.kept_tag = Some(tag);
                } else {
                    let mut out = BytesMut::new();
                    wire::put_command_complete(&mut out, &tag);
                    self.relay.tell(&out).await?;
                }
                Ok(Next::Go)
            }
            Verdict::Refused(report) => Err(report.into()),
        }
    }

    /// COMMIT within the message, with something left to do after it.
    async fn end_part(&mut self, statement: &Statement, ending: Ending) -> Result<Next, End> {
        if let Some(report) = self.refuses(&ending).await? {
            return Err(report.into());
        }
        let mut out = BytesMut::new();
        let next = match self.end_transaction(&statement.sql, ending).await {
            Ok(tag) => {
                wire::put_command_complete(&mut out, &tag);
                Next::Go
            }
            Err(End::Refused(report)) => {
                report.put_error(&mut out, self.relay.encoding());
                Next::Failed
            }
            Err(broken) => return Err(broken),
        };
        self.relay.tell(&out).await?;
        Ok(next)
    }

    /// A part as a simple query of its own, its ReadyForQuery kept back and its error position moved.
    async fn forward_part(
        &mut self,
        sql: &[u8],
        position: Position,
        run: &mut Run,
    ) -> Result<(Next, Answered), Broken> {
        let mut frame = BytesMut::with_capacity(sql.len() + HEADER + 1);
        wire::put_query(&mut frame, sql);
        let keeps_tag = run.keeps_tag;
        self.relay
            .responses
            .sent_for(b'Q', OnAnswer::Part { position, keeps_tag });
        self.relay.executed += 1;
        self.relay.send(&frame).await;
        let answered = self.relay.settle().await?;
        if answered.is_kept {
            run.kept_tag.clone_from(&answered.tag);
        }
        let next = if answered.failed { Next::Failed } else { Next::Go };
        Ok((next, answered))
    }

    /// What was refused fails the message.
    async fn part_ends(&mut self, next: Result<Next, End>, open: Open) -> Result<Next, Broken> {
        match next {
            Err(End::Refused(report)) => self.fail_part(report, open).await,
            Err(End::Broken(broken)) => Err(broken),
            Ok(next) => Ok(next),
        }
    }

    /// The client hears the error; the server's transaction is made to fail with it.
    async fn fail_part(&mut self, report: Report, open: Open) -> Result<Next, Broken> {
        if open == Open::Client {
            self.fail_on_server(&report, Closing::Sync).await?;
        }
        let mut out = BytesMut::new();
        report.put_error(&mut out, self.relay.encoding());
        self.relay.tell(&out).await?;
        Ok(Next::Failed)
    }

    /// The server commits before it says that the last statement is complete, and so do we.
    async fn end_implicit(&mut self, failed: bool, kept_tag: Option<String>) -> Result<(), Broken> {
        let end = if failed { "ROLLBACK" } else { "COMMIT" };
        let ended = match failed {
            true => {
                let ended = self
                    .relay
                    .ask(&[Ask::as_client(end)], Closing::Sync, Hears::Notices)
                    .await;
                if let Err(End::Broken(broken)) = ended {
                    return Err(broken);
                }
                self.rolled_back().await?;
                ended.map(|_| ())
            }
            false => self.commit(end).await.map(|_| ()),
        };
        let mut out = BytesMut::new();
        match ended {
            // A deferred constraint, as it would at the end of the implicit transaction.
            Err(End::Refused(report)) => report.put_error(&mut out, self.relay.encoding()),
            Err(End::Broken(broken)) => return Err(broken),
            Ok(_) => kept_tag
                .iter()
                .for_each(|tag| wire::put_command_complete(&mut out, tag)),
        }
        self.relay.tell(&out).await
    }
}

fn shifted(characters: usize) -> Position {
    Position::Shifted(u32::try_from(characters).unwrap_or(u32::MAX))
}

/// What the transaction of a message without BEGIN does not take.
fn savepoint(statement: &Statement) -> Option<&'static str> {
    use pg_query::protobuf::TransactionStmtKind as T;
    match &statement.node {
        NodeEnum::TransactionStmt(t) if t.kind() == T::TransStmtSavepoint => Some("SAVEPOINT"),
        NodeEnum::TransactionStmt(t) if t.kind() == T::TransStmtRelease => Some("RELEASE SAVEPOINT"),
        NodeEnum::TransactionStmt(t) if t.kind() == T::TransStmtRollbackTo => Some("ROLLBACK TO SAVEPOINT"),
        _ => None,
    }
}

/// What stands behind BEGIN [WORK | TRANSACTION] or START TRANSACTION.
fn begin_options(sql: &str) -> &str {
    let mut rest = sql[first_token(sql)..].trim_start_matches(|c: char| c.is_ascii_alphabetic());
    rest = &rest[first_token(rest)..];
    let word = rest
        .split(|c: char| !c.is_ascii_alphabetic())
        .next()
        .unwrap_or_default();
    if word.eq_ignore_ascii_case("work") || word.eq_ignore_ascii_case("transaction") {
        rest = &rest[word.len()..];
    }
    rest
}

/// Neither judged nor a change of the transaction.
fn plain(statement: &Statement) -> bool {
    matches!(statement.kind, Kind::Harmless) && savepoint(statement).is_none()
}
