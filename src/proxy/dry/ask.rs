//! Whether a dry run is on, and whether a statement that is not judged may run in it.

use super::rows::{behind_pooler, misspelt, no_call, not_run, unread};
use crate::plan::Place;
use crate::plan::dry::{self, Does};
use crate::plan::splice::quote_literal;
use crate::plan::statement::{Statement, Unreadable};
use crate::proxy::dialogue::{Answer, Ask, Closing, Hears};
use crate::proxy::end::{Broken, End};
use crate::proxy::session::Session;
use lockkeeper_wire::messages::HEADER;

/// A comment in front of the text asks for it, whether or not the rest can be read.
fn asks(text: &[u8]) -> bool {
    dry::text_asks(&String::from_utf8_lossy(text))
}

impl Session {
    /// `SHOW lockkeeper.version`: the server has no such setting before it is told.
    pub(in crate::proxy) async fn tells_version(&mut self, closing: Closing) -> Result<(), End> {
        if self.relay.responses.skipping() || self.relay.block_failed() {
            return Ok(());
        }
        let sql = concat!(
            "SELECT pg_catalog.set_config('lockkeeper.version', '",
            env!("CARGO_PKG_VERSION"),
            "', false)"
        );
        self.relay.ask(&[sql.into()], closing, Hears::Nothing).await.map(drop)
    }

    /// Whether a dry run is on, as the server says. In a transaction that has failed nothing runs anyway.
    pub(in crate::proxy) async fn dry_run_is_on(&mut self, closing: Closing) -> Result<bool, End> {
        if !self.relay.dry || self.relay.replication || self.relay.responses.skipping() || self.relay.block_failed() {
            return Ok(false);
        }
        let ask = Ask::new(format!(
            "SELECT pg_catalog.current_setting({}, true)",
            quote_literal(dry::SETTING)
        ));
        let answers = self.relay.ask(&[ask], closing, Hears::Nothing).await?;
        let on = dry::is_on(answers.first().and_then(Answer::value).unwrap_or_default());
        if !on {
            self.writes_again().await?;
        }
        Ok(on)
    }

    /// Before a judged statement is judged.
    pub(in crate::proxy) async fn runs_dry(&mut self, statement: &Statement, closing: Closing) -> Result<bool, End> {
        let dry = dry::by_comment(statement) || self.dry_run_is_on(closing).await?;
        if dry {
            self.writes_again().await?;
        }
        Ok(dry)
    }

    /// From here to the transaction's end the server itself lets nothing be written: neither by operators and casts nor by what functions
    /// call in turn.
    pub(in crate::proxy) async fn reads_only(&mut self) -> Result<(), End> {
        if !self.relay.may_sync() {
            let local = "SELECT pg_catalog.set_config('transaction_read_only', 'on', true)";
            let closing = match self.relay.place() {
                Place::Block => Closing::Sync,
                _ => Closing::Flush,
            };
            return self
                .relay
                .ask(&[Ask::new(local)], closing, Hears::Nothing)
                .await
                .map(drop);
        }
        let asks = [
            Ask::new("SELECT pg_catalog.current_setting('default_transaction_read_only')"),
            Ask::new("SELECT pg_catalog.set_config('default_transaction_read_only', 'on', false)"),
        ];
        let answers = self.relay.ask(&asks, Closing::Sync, Hears::Nothing).await?;
        let before = answers.first().and_then(Answer::value).map(str::to_owned);
        if self.dry.writes_by_default.is_none() {
            self.dry.writes_by_default = before;
        }
        Ok(())
    }

    /// For the next transaction, which judges a statement or is no dry run.
    async fn writes_again(&mut self) -> Result<(), End> {
        if !self.relay.may_sync() {
            return Ok(());
        }
        let Some(before) = self.dry.writes_by_default.take() else {
            return Ok(());
        };
        let sql = format!(
            "SELECT pg_catalog.set_config('default_transaction_read_only', {}, false)",
            quote_literal(&before)
        );
        self.relay
            .ask(&[Ask::new(sql)], Closing::Sync, Hears::Nothing)
            .await
            .map(drop)
    }

    /// Refuses a simple query that would change something in a dry run, before any of it runs.
    pub(in crate::proxy) async fn may_run_dry(
        &mut self,
        text: &[u8],
        statements: &Result<Vec<Statement>, Unreadable>,
        closing: Closing,
    ) -> Result<(), End> {
        let failed = self.relay.responses.skipping() || self.relay.block_failed();
        if !self.relay.dry || self.relay.replication || failed {
            return Ok(());
        }
        // Within the message a transaction may end, and what was set with it: once it is on it stays on.
        let mut on = self.dry_run_is_on(closing).await?;
        let statements = match statements {
            Ok(statements) => statements,
            Err(_) if on || asks(text) => return Err(unread().into()),
            Err(_) => return Ok(()),
        };
        for statement in statements {
            let sets = dry::sets(statement);
            if sets == Some(true) && self.relay.is_behind_pooler() {
                return Err(behind_pooler().into());
            }
            on |= sets == Some(true);
            if dry::is_misspelt(&statement.sql) {
                return Err(misspelt().into());
            }
            let alone = statements.len() == 1 && !dry::by_comment(statement);
            let is_dry = on || dry::by_comment(statement);
            if is_dry && !dry::is_judged(statement) && !self.changes_nothing(statement, alone, closing).await? {
                return Err(not_run(statement).into());
            }
            if is_dry && dry::renames_prepared(statement) {
                self.dry.forget();
            }
        }
        Ok(())
    }

    /// A FunctionCall names any function by its number.
    pub(in crate::proxy) async fn may_call(&mut self, len: usize) -> Result<(), End> {
        self.relay.settle().await?;
        let closing = if self.relay.may_sync() {
            Closing::Sync
        } else {
            Closing::Flush
        };
        match self.dry_run_is_on(closing).await? {
            true => Err(no_call().into()),
            false => {
                self.relay.shapes.called();
                self.relay.pass_frame(len);
                Ok(())
            }
        }
    }

    /// What is too long to be held is not let go unread in a dry run.
    pub(in crate::proxy) async fn is_large_dry(&mut self) -> Result<bool, Broken> {
        if !self.relay.dry {
            return Ok(false);
        }
        let front = self.relay.up.unjudged();
        let front = front.get(HEADER..).unwrap_or_default();
        if asks(&front[..front.len().min(4 << 10)]) {
            return Ok(true);
        }
        let closing = if self.relay.may_sync() {
            Closing::Sync
        } else {
            Closing::Flush
        };
        match self.dry_run_is_on(closing).await {
            Ok(on) => Ok(on),
            Err(End::Refused(_)) => Ok(true),
            Err(End::Broken(broken)) => Err(broken),
        }
    }

    /// `alone`: of others in its message one may begin a transaction that writes.
    async fn changes_nothing(&mut self, statement: &Statement, alone: bool, closing: Closing) -> Result<bool, End> {
        match dry::does(statement) {
            Does::Nothing => Ok(true),
            Does::Changes => Ok(false),
            Does::Reads(_) if !alone => Ok(false),
            Does::Reads(functions) => {
                let asked = [Ask::new(dry::are_harmless(&functions))];
                let answers = self.relay.ask(&asked, closing, Hears::Nothing).await?;
                let harmless = answers.first().and_then(Answer::value) == Some("t");
                if harmless {
                    self.reads_only().await?;
                }
                Ok(harmless)
            }
        }
    }
}
