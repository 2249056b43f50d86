//! A connection of the command's own, straight to the server.

use super::link::Link;
use crate::jobs::{Server, explain, quiet_policy, target};
use crate::proxy::InProcess;
use tokio_postgres::NoTls;
use tokio_postgres::config::SslMode;

pub async fn open(server: &Server) -> Result<Link, String> {
    let (mut config, upstream, tls) = target(server)?;
    let stream = InProcess::new(upstream, tls.as_ref(), quiet_policy()?, None)?
        .straight()
        .await?;
    // Encryption is the stream's.
    config.ssl_mode(SslMode::Disable).application_name("lockkeeper rewrite");
    let connected = config.connect_raw(stream, NoTls).await;
    let (client, connection) = connected.map_err(|error| explain(&error))?;
    tokio::spawn(connection);
    Link::of(client).await
}
