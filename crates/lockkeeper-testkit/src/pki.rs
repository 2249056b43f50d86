//! Certificates for one run of the tests, and both ends of a TLS connection made with rustls.

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, date_time_ymd};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, ServerConfig, SignatureScheme, StreamOwned};
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

/// A certificate and its key, as PEM.
#[derive(Clone)]
pub struct Pair {
    pub cert: String,
    pub key: String,
}

pub struct Pki {
    pub ca: String,
    /// Signs nothing that the servers have.
    pub other_ca: String,
    /// The server's, for localhost and its addresses.
    pub server: Pair,
    /// Two of the proxy's, for the same names.
    pub proxy: Pair,
    pub proxy_renewed: Pair,
    /// Signed by `ca`, and by `other_ca`.
    pub client: Pair,
    pub other_client: Pair,
    /// As `openssl req -x509` makes them: self-signed, and a CA.
    pub self_signed: Pair,
    pub self_signed_expired: Pair,
}

pub static PKI: LazyLock<Pki> = LazyLock::new(|| {
    let issuer = |name: &str| {
        let mut params = parameters(name, &[]);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    };
    let (ca, other_ca) = (issuer("the tests' CA"), issuer("another CA"));
    let sign = |name: &str, ca: &CertifiedIssuer<'static, KeyPair>, hosts: &[&str]| {
        let key = KeyPair::generate().unwrap();
        let cert = parameters(name, hosts).signed_by(&key, ca).unwrap();
        Pair {
            cert: cert.pem(),
            key: key.serialize_pem(),
        }
    };
    let own = |until: i32| {
        let mut params = parameters("self-signed", HERE);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        Pair {
            cert: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    };
    Pki {
        server: sign("server", &ca, HERE),
        proxy: sign("proxy", &ca, HERE),
        proxy_renewed: sign("proxy renewed", &ca, HERE),
        client: sign("client", &ca, &["client.example"]),
        other_client: sign("client", &other_ca, &["client.example"]),
        self_signed: own(2100),
        self_signed_expired: own(2001),
        ca: ca.pem(),
        other_ca: other_ca.pem(),
    }
});

const HERE: &[&str] = &["localhost", "127.0.0.1", "::1"];

fn parameters(name: &str, hosts: &[&str]) -> CertificateParams {
    let hosts: Vec<String> = hosts.iter().map(|host| host.to_string()).collect();
    let mut params = CertificateParams::new(hosts).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2100, 1, 1);
    params
}

/// PEM files in a directory of their own, which goes with this.
pub struct Files(tempfile::TempDir);

impl Default for Files {
    fn default() -> Files {
        Files::new()
    }
}

impl Files {
    pub fn new() -> Files {
        Files(tempfile::tempdir().expect("a temporary directory"))
    }

    /// Readable for its owner only, as libpq wants a key.
    pub fn put(&self, name: &str, contents: &str) -> String {
        use std::os::unix::fs::PermissionsExt;
        let path = self.path(name);
        std::fs::write(&path, contents).expect("a file in our own directory");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("our own file");
        path.to_str().expect("a path in UTF-8").to_owned()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        Path::new(self.0.path()).join(name)
    }

    /// `--tls-cert` and `--tls-key` for this pair.
    pub fn offer(&self, pair: &Pair) -> Vec<String> {
        let (cert, key) = (self.put("tls.crt", &pair.cert), self.put("tls.key", &pair.key));
        ["--tls-cert", &cert, "--tls-key", &key].map(str::to_owned).into()
    }
}

pub type Client = StreamOwned<ClientConnection, TcpStream>;

pub fn tcp(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// Asks for TLS and shakes hands.
pub fn negotiated(port: u16) -> Client {
    let mut stream = tcp(port);
    stream.write_all(&SSL_REQUEST).unwrap();
    let mut answer = [0];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer, *b"S");
    handshake(stream, &[]).expect("a TLS connection")
}

pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Shakes hands whatever the certificate is; `alpn` empty: without that extension.
pub fn handshake(mut stream: TcpStream, alpn: &[&[u8]]) -> Result<Client, std::io::Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Anybody))
        .with_no_client_auth();
    config.alpn_protocols = alpn.iter().map(|name| name.to_vec()).collect();
    let name = ServerName::try_from("localhost").unwrap();
    let mut connection = ClientConnection::new(Arc::new(config), name).unwrap();
    while connection.is_handshaking() {
        connection.complete_io(&mut stream)?;
    }
    Ok(StreamOwned::new(connection, stream))
}

/// The peer's own certificate, as PEM text has it.
pub fn shown(client: &Client) -> CertificateDer<'static> {
    client.conn.peer_certificates().expect("a certificate")[0]
        .clone()
        .into_owned()
}

pub fn der(pair: &Pair) -> CertificateDer<'static> {
    CertificateDer::from_pem_slice(pair.cert.as_bytes()).unwrap()
}

pub fn server_config(pair: &Pair) -> Arc<ServerConfig> {
    let key = PrivateKeyDer::from_pem_slice(pair.key.as_bytes()).unwrap();
    let config = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![der(pair)], key);
    Arc::new(config.unwrap())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
