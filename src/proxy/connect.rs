//! How the server is reached.

use super::settings::{Limits, Upstream};
use super::stream::Stream;
use super::tls::Connector;
use tokio::net::{TcpStream, UnixStream};

/// Connects to the server, with TLS where there is a `connector`; the error names the server and says why.
pub async fn connect(upstream: &Upstream, connector: Option<&Connector>, limits: &Limits) -> Result<Stream, String> {
    let connect = async {
        let stream = match upstream {
            Upstream::Tcp { host, port } => TcpStream::connect((host.as_str(), *port))
                .await
                .and_then(|stream| Stream::tcp(stream, limits)),
            Upstream::Unix(path) => UnixStream::connect(path).await.map(Stream::Unix),
        };
        match (stream.map_err(|error| error.to_string())?, connector) {
            (Stream::Tcp(stream), Some(connector)) => Ok(Stream::Tls(Box::new(connector.connect(stream).await?))),
            (stream, _) => Ok::<_, String>(stream),
        }
    };
    let within = limits.connect_timeout;
    match tokio::time::timeout(within, connect).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) => Err(format!("could not connect to {upstream}: {error}")),
        Err(_) => Err(format!("could not connect to {upstream} within {} s", within.as_secs())),
    }
}
