//! Delivers messages, one after the other: a connection for each, signed, with time limits, tried again with growing pauses.

use super::message::Message;
use super::receipts::Receipts;
use super::settings::{Format, Settings};
use super::target::Target;
use crate::proxy::tls::trusting;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode};
use hyper_util::rt::TokioIo;
use ring::hmac;
use rustls::pki_types::ServerName;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::TlsConnector;

/// For one try, from the name's look-up to the answer's head.
const TRY_TIME: Duration = Duration::from_secs(10);
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// A message that could not be delivered for so long is given up.
const GIVE_UP_AFTER: Duration = Duration::from_secs(900);
/// Where systems keep whom they trust: Debian and Alpine, Red Hat, SUSE, and others.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// What delivers.
pub struct Delivery {
    target: Target,
    connector: Option<TlsConnector>,
    key: Option<hmac::Key>,
    format: Format,
    queue: mpsc::Receiver<Message>,
    receipts: Arc<Receipts>,
}

/// How one try ended.
enum Tried {
    Delivered,
    /// It may go better later.
    Later(String),
    /// It will not.
    Never(String),
}

impl Delivery {
    pub fn new(
        settings: &Settings,
        queue: mpsc::Receiver<Message>,
        receipts: Arc<Receipts>,
    ) -> Result<Delivery, String> {
        let key = settings.secret_file.as_ref().map(|path| {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("webhook-secret-file: {}: {error}", path.display()))?;
            match text.trim() {
                "" => Err(format!("webhook-secret-file: {} is empty", path.display())),
                secret => Ok(hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes())),
            }
        });
        let connector = settings.target.tls.then(|| {
            let bundle = match &settings.ca {
                Some(path) => path.clone(),
                None => BUNDLES.iter().map(PathBuf::from).find(|path| path.exists()).ok_or(
                    "webhook-ca is not set, and this system has no list of whom it trusts (package ca-certificates)",
                )?,
            };
            Ok::<_, String>(TlsConnector::from(Arc::new(trusting("webhook-ca", &bundle)?)))
        });
        Ok(Delivery {
            target: settings.target.clone(),
            connector: connector.transpose()?,
            key: key.transpose()?,
            format: settings.format,
            queue,
            receipts,
        })
    }

    /// Until the proxy ends.
    pub async fn run(mut self) {
        while let Some(message) = self.queue.recv().await {
            let delivered = self.deliver(&message).await;
            if let Some(account) = message.account {
                self.receipts.add(account, delivered);
            }
        }
    }

    async fn deliver(&self, message: &Message) -> bool {
        let body = Bytes::from(message.written(self.format));
        let number = number();
        let since = Instant::now();
        let mut pause = FIRST_PAUSE;
        loop {
            let tried = tokio::time::timeout(TRY_TIME, self.try_once(message, &number, body.clone())).await;
            let (why, is_final) = match tried {
                Ok(Tried::Delivered) => return true,
                Ok(Tried::Later(why)) => (why, false),
                Ok(Tried::Never(why)) => (why, true),
                Err(_) => (format!("no answer within {} s", TRY_TIME.as_secs()), false),
            };
            let event = message.kind.name();
            if is_final || since.elapsed() + pause > GIVE_UP_AFTER {
                let host = &self.target.authority;
                tracing::error!(why, event, host, "a webhook's message is given up");
                return false;
            }
            tracing::warn!(
                why,
                event,
                host = self.target.authority,
                "a webhook's message is sent again"
            );
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn try_once(&self, message: &Message, number: &str, body: Bytes) -> Tried {
        match self.post(message, number, body).await {
            Ok(status) if status.is_success() => Tried::Delivered,
            Ok(status @ (StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS)) => {
                Tried::Later(status.to_string())
            }
            // A redirect is not followed: the secret is for this receiver.
            Ok(status) if status.is_redirection() || status.is_client_error() => Tried::Never(status.to_string()),
            Ok(status) => Tried::Later(status.to_string()),
            Err(error) => Tried::Later(error),
        }
    }

    async fn post(&self, message: &Message, number: &str, body: Bytes) -> Result<StatusCode, String> {
        let stream = TcpStream::connect((self.target.host.as_str(), self.target.port))
            .await
            .map_err(|error| error.to_string())?;
        let request = self.request(message, number, body)?;
        match &self.connector {
            None => exchange(stream, request).await,
            Some(connector) => {
                let name = ServerName::try_from(self.target.host.clone()).map_err(|error| error.to_string())?;
                let stream = connector
                    .connect(name, stream)
                    .await
                    .map_err(|error| error.to_string())?;
                exchange(stream, request).await
            }
        }
    }

    fn request(&self, message: &Message, number: &str, body: Bytes) -> Result<Request<Full<Bytes>>, String> {
        let seconds = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut request = Request::post(self.target.path.as_str())
            .header("Host", self.target.authority.as_str())
            .header("User-Agent", concat!("lockkeeper/", env!("CARGO_PKG_VERSION")))
            .header("Content-Type", "application/json")
            .header("Lockkeeper-Event", message.kind.name())
            .header("Lockkeeper-Delivery", number)
            .header("Lockkeeper-Timestamp", seconds);
        if let Some(key) = &self.key {
            let signature = sign(key, seconds, &body);
            request = request.header("Lockkeeper-Signature", format!("v1={signature}"));
        }
        request.body(Full::new(body)).map_err(|error| error.to_string())
    }
}

/// HMAC-SHA256 over the time, a dot and the body, in hexadecimal digits.
fn sign(key: &hmac::Key, seconds: u64, body: &[u8]) -> String {
    let mut context = hmac::Context::with_key(key);
    context.update(format!("{seconds}.").as_bytes());
    context.update(body);
    context
        .sign()
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The same in each try of one message, so that a receiver can tell.
fn number() -> String {
    let mut random = [0; 12];
    // Without it a receiver only cannot tell a second try.
    let _ = ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut random);
    random.iter().map(|byte| format!("{byte:02x}")).collect()
}

async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
) -> Result<StatusCode, String> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| error.to_string())?;
    // A receiver may answer and close in the same moment, so that the connection's end says nothing of the answer. It ends with this.
    let mut connections = tokio::task::JoinSet::new();
    connections.spawn(connection);
    let answer = sender.send_request(request).await;
    answer.map(|answer| answer.status()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_signature_is_of_time_and_body() {
        // printf '1700000000.{}' | openssl dgst -sha256 -hmac secret
        let key = hmac::Key::new(hmac::HMAC_SHA256, b"secret");
        assert_eq!(sign(&key, 1_700_000_000, b"{}"), SIGNED);
    }

    const SIGNED: &str = "b8569b78799ff9e3cbff0fc2d63a33a2b57f3282abd07c37ae5e8e7d79a5f163";
}
