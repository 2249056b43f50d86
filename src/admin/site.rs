//! What one admin address serves, who may come in, and how an answer is made.

use crate::live::Live;
use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::HeaderValue;
use hyper::{Response, StatusCode};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq as _;
use tokio::sync::Semaphore;

/// Nothing from elsewhere, nothing inline, in nobody's frame.
const CONTENT_SECURITY_POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
     img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

pub(super) const TOKEN_BYTES_MIN: usize = 20;

/// How long the last 24 hours are good for.
pub const DAY_FOR: Duration = Duration::from_secs(30);

pub type Answer = Response<Full<Bytes>>;

/// What one admin address serves.
pub struct Site {
    /// None: only a file is looked at.
    pub live: Option<Arc<Live>>,
    /// The audit log's files, the newest first.
    pub log: Vec<PathBuf>,
    pub access: Access,
    pub reading: Semaphore,
    pub(super) reached: Mutex<Option<(Instant, Result<(), String>)>>,
    pub day: tokio::sync::Mutex<Option<(Instant, serde_json::Value)>>,
}

/// Who may come in.
pub struct Access {
    /// Bound to this machine alone.
    pub loopback: bool,
    pub token: Option<Token>,
    /// Names by which the address is reached, besides localhost and numbers.
    pub hosts: Vec<String>,
}

/// Its digest, so that a comparison tells nothing of its length either.
pub struct Token(pub(super) [u8; 32]);

impl Token {
    /// From a file with one line; the error names the file.
    pub fn load(path: &Path) -> Result<Token, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("admin-token-file: cannot read {}: {error}", path.display()))?;
        let text = text.trim();
        let printable = text.bytes().all(|byte| byte.is_ascii_graphic());
        if text.len() < TOKEN_BYTES_MIN || !printable {
            return Err(format!(
                "admin-token-file: {} must hold one line of at least {TOKEN_BYTES_MIN} printable characters; make it with: \
                 umask 077; openssl rand -hex 32 > {}",
                path.display(),
                path.display()
            ));
        }
        Ok(Token(digest(text.as_bytes())))
    }

    pub(super) fn is(&self, given: &[u8]) -> bool {
        self.0.ct_eq(&digest(given)).into()
    }
}

pub(super) fn digest(text: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, text);
    let mut out = [0; 32];
    out.copy_from_slice(digest.as_ref());
    out
}

pub(super) fn text(status: StatusCode, kind: &'static str, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    let mut set = |name: &'static str, value: &'static str| headers.insert(name, HeaderValue::from_static(value));
    set("content-type", kind);
    set("content-security-policy", CONTENT_SECURITY_POLICY);
    set("x-content-type-options", "nosniff");
    set("referrer-policy", "no-referrer");
    set("cache-control", "no-store");
    set("cross-origin-resource-policy", "same-origin");
    set("cross-origin-opener-policy", "same-origin");
    answer
}

pub fn in_json(status: StatusCode, value: &impl serde::Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => text(status, "application/json", body),
        Err(failed) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    }
}

pub fn error(status: StatusCode, message: &str) -> Answer {
    // An object of one string: this cannot fail.
    let body = serde_json::json!({ "error": message }).to_string();
    text(status, "application/json", body)
}
