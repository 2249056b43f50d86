//! `serve --check`: whether what answers at a server's address is PostgreSQL.

use super::Server;
use crate::proxy::connect::connect;
use crate::proxy::settings::Limits;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A question that only a PostgreSQL server answers with one of two letters: whether it takes TLS.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What it is.
pub async fn reach(server: &Server, limits: &Limits) -> Result<String, String> {
    let mut stream = connect(&server.address, server.connector.as_ref(), limits).await?;
    if server.connector.is_some() {
        return Ok("it answers, over TLS".to_owned());
    }
    let asked = async {
        stream.write_all(&SSL_REQUEST).await?;
        stream.read_u8().await
    };
    match tokio::time::timeout(limits.connect_timeout, asked).await {
        Ok(Ok(b'S' | b'N')) => Ok("it answers".to_owned()),
        Ok(Ok(_)) => Err(format!(
            "{}: what answers there is no PostgreSQL server",
            server.address
        )),
        Ok(Err(error)) => Err(format!("{}: {error}", server.address)),
        Err(_) => Err(format!("{}: no answer in time", server.address)),
    }
}
