//! TLS for clients and to the server: which of its settings go together.

use super::address::Address;
use super::options::{ClientTlsMode, UpstreamTlsMode};
use crate::proxy::settings::{ClientTls, UpstreamTls, Verify};
use std::path::PathBuf;

pub(super) fn client_tls(
    mode: Option<ClientTlsMode>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    client_ca: Option<PathBuf>,
) -> Result<Option<ClientTls>, String> {
    let required = match mode {
        Some(ClientTlsMode::Disable) => return Ok(None),
        Some(mode) => mode == ClientTlsMode::Require,
        None => false,
    };
    match (cert, key) {
        (Some(cert), Some(key)) => Ok(Some(ClientTls {
            required,
            cert,
            key,
            client_ca,
        })),
        (Some(_), None) => Err("tls-key is not set: tls-cert needs its private key".into()),
        (None, Some(_)) => Err("tls-cert is not set: tls-key is the key of a certificate".into()),
        (None, None) if mode.is_some() => {
            Err("tls-cert and tls-key are not set: client-tls needs a certificate and its key".into())
        }
        (None, None) if client_ca.is_some() => {
            Err("tls-client-ca is set without TLS for clients: give tls-cert and tls-key too".into())
        }
        (None, None) => Ok(None),
    }
}

pub(super) fn upstream_tls(
    mode: Option<UpstreamTlsMode>,
    ca: Option<PathBuf>,
    name: Option<String>,
    server: &Address,
) -> Result<Option<UpstreamTls>, String> {
    let verify = match (mode, ca) {
        (None, Some(_)) => {
            return Err("upstream-ca is set without upstream-tls: give --upstream-tls verify-full too".into());
        }
        (None | Some(UpstreamTlsMode::Disable), _) => return Ok(None),
        (Some(UpstreamTlsMode::Require), None) => Verify::Nothing,
        (Some(UpstreamTlsMode::Require), Some(_)) => {
            return Err("upstream-ca is not looked at with upstream-tls require; give verify-ca or verify-full".into());
        }
        (Some(UpstreamTlsMode::VerifyCa), Some(ca)) => Verify::Ca(ca),
        (Some(UpstreamTlsMode::VerifyFull), Some(ca)) => Verify::Full(ca),
        (Some(UpstreamTlsMode::VerifyCa | UpstreamTlsMode::VerifyFull), None) => {
            return Err("upstream-ca is not set: verify-ca and verify-full need the certificate to trust".into());
        }
    };
    match server {
        Address::Tcp { host, .. } => Ok(Some(UpstreamTls {
            verify,
            name: name.unwrap_or_else(|| host.clone()),
        })),
        Address::Unix { .. } => {
            Err("upstream-tls: PostgreSQL has no TLS on a Unix socket; give HOST:PORT, or disable".into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Options;

    #[test]
    fn tls_is_as_the_settings_say() {
        let resolve = |text: &str| {
            let text = format!("upstream = \"DB\"\n{}", text.replace("; ", "\n"));
            let proxy = Options::parse(&text).expect("a good file").resolve()?.proxy;
            Ok::<_, String>((proxy.client_tls, proxy.upstream.servers[0].tls.clone()))
        };
        let client = |required| ClientTls {
            required,
            cert: "c".into(),
            key: "k".into(),
            client_ca: None,
        };
        let files = "tls-cert = 'c'; tls-key = 'k'";
        assert_eq!(resolve(""), Ok((None, None)));
        assert_eq!(resolve(files), Ok((Some(client(false)), None)));
        assert_eq!(resolve(&format!("{files}; client-tls = 'disable'")), Ok((None, None)));
        let required = resolve(&format!("{files}; client-tls = 'require'"));
        assert_eq!(required, Ok((Some(client(true)), None)));
        let upstream = |verify, name: &str| {
            let name = name.into();
            Ok((None, Some(UpstreamTls { verify, name })))
        };
        assert_eq!(resolve("upstream-tls = 'require'"), upstream(Verify::Nothing, "db"));
        assert_eq!(
            resolve("upstream-tls = 'verify-full'; upstream-ca = 'a'; upstream-tls-name = 'n'"),
            upstream(Verify::Full("a".into()), "n")
        );
        let wrong = |text: &str, expect: &str| {
            let error = resolve(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        };
        wrong("tls-cert = 'c'", "tls-key is not set");
        wrong("tls-key = 'k'", "tls-cert is not set");
        wrong("client-tls = 'allow'", "tls-cert and tls-key are not set");
        wrong("tls-client-ca = 'a'", "tls-client-ca is set without TLS");
        wrong("upstream-tls = 'verify-ca'", "upstream-ca is not set");
        wrong("upstream-tls = 'require'; upstream-ca = 'a'", "not looked at");
        wrong("upstream-ca = 'a'", "without upstream-tls");
        let socket = Options::parse("upstream = '/tmp'\nupstream-tls = 'require'").expect("a good file");
        assert!(socket.resolve().is_err_and(|error| error.contains("Unix socket")));
    }
}
