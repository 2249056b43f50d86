//! Which of several proxies tells: the one that has written so into `lockkeeper.told`, for as long as it lives and tries.

use super::receipts::{Account, Receipts};
use crate::plan::told as sql;
use crate::usage::together::{Unknown, WRITES, within};
use std::collections::BTreeMap;
use tokio_postgres::Client;

/// This proxy's, until the table knows how they ended.
#[derive(Default)]
pub struct Claims {
    /// True: it was delivered.
    mine: BTreeMap<Account, bool>,
}

/// Also whether the table is there and may be used.
pub async fn forget(client: &Client) -> Result<(), Unknown> {
    let forgotten = async { Ok(client.batch_execute(sql::FORGET).await?) };
    within(client, (&sql::TABLES, WRITES), forgotten).await
}

impl Claims {
    /// Those that nobody has told of, and nobody else tells of now.
    pub async fn claim(
        &mut self,
        client: &Client,
        event: &'static str,
        subjects: &[&str],
    ) -> Result<Vec<String>, Unknown> {
        let claimed = async {
            let rows = client.query(sql::CLAIM, &[&event, &subjects]).await?;
            rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
        };
        let claimed: Vec<String> = within(client, (&sql::TABLES, WRITES), claimed).await?;
        let mine = claimed.iter().map(|subject| ((event, subject.clone()), false));
        self.mine.extend(mine);
        Ok(claimed)
    }

    /// Writes down what was delivered, and that the others are still being tried. What was given up is anybody's, some minutes later.
    pub async fn keep(&mut self, client: &Client, receipts: &Receipts) -> Result<(), Unknown> {
        for (account, delivered) in receipts.take() {
            match delivered {
                true => drop(self.mine.insert(account, true)),
                false => drop(self.mine.remove(&account)),
            }
        }
        if self.mine.is_empty() {
            return Ok(());
        }
        let events: Vec<&str> = self.mine.keys().map(|(event, _)| *event).collect();
        let subjects: Vec<&str> = self.mine.keys().map(|(_, subject)| subject.as_str()).collect();
        let delivered: Vec<bool> = self.mine.values().copied().collect();
        let kept = async {
            client.execute(sql::KEEP, &[&events, &subjects, &delivered]).await?;
            Ok(())
        };
        within(client, (&sql::TABLES, WRITES), kept).await?;
        self.mine.retain(|_, delivered| !*delivered);
        Ok(())
    }
}
