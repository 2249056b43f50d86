//! Which of several proxies tells: the one that has written so first, in `lockkeeper.told`.

use crate::plan::told as sql;
use crate::usage::together::{Unknown, WRITES, within};
use tokio_postgres::Client;

/// Also whether the table is there and may be used.
pub async fn forget(client: &Client) -> Result<(), Unknown> {
    let forgotten = async { Ok(client.batch_execute(sql::FORGET).await?) };
    within(client, (&sql::TABLES, WRITES), forgotten).await
}

/// Those that nobody has told of, and nobody else will.
pub async fn claim(client: &Client, event: &str, subjects: &[&str]) -> Result<Vec<String>, Unknown> {
    let claimed = async {
        let rows = client.query(sql::CLAIM, &[&event, &subjects]).await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    };
    within(client, (&sql::TABLES, WRITES), claimed).await
}
