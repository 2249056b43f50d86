//! TLS on both legs: the files of the settings become what a handshake needs, and are read again on SIGHUP.
//!
//! Plain bytes are never taken for encrypted ones: what a peer sent before its handshake stays in the socket and fails
//! the handshake there. Start at [`Acceptor`] (clients) and [`Connector`] (the server).

use super::current::Current;
use super::settings::{ClientTls, UpstreamTls, Verify};
use super::stream::Stream;
use ::ring::digest::{SHA256, SHA384, SHA512, digest};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::{Resumption, verify_server_cert_signed_by_trust_anchor, verify_server_name};
use rustls::crypto::{CryptoProvider, ring};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::server::{NoServerSessionStorage, ParsedCertificate, WebPkiClientVerifier};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, RootCertStore, ServerConfig, SignatureScheme,
};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

/// How long a client that goes on sending is listened to after its session has ended.
const HEARING_TIME: Duration = Duration::from_secs(5);
/// What libpq asks for, and must get where a connection begins with the handshake (manual section 55.2.12).
const ALPN: &[u8] = b"postgresql";
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 0x04, 0xd2, 0x16, 0x2f];

/// Offers TLS to clients.
pub struct Acceptor {
    settings: ClientTls,
    offer: Current<Offer>,
}

struct Offer {
    config: Arc<ServerConfig>,
    end_point: Option<Vec<u8>>,
}

impl Acceptor {
    pub fn load(settings: &ClientTls) -> Result<Acceptor, String> {
        Ok(Acceptor {
            settings: settings.clone(),
            offer: Current::new(offer(settings)?),
        })
    }

    /// Connections from now on get what the files hold now; an error leaves everything as it was.
    pub fn reload(&self) -> Result<(), String> {
        self.offer.set(offer(&self.settings)?);
        Ok(())
    }

    /// A session over TCP must be encrypted.
    pub fn required(&self) -> bool {
        self.settings.required
    }

    /// With the data to which the client can bind SCRAM, if the certificate that it was shown has such data.
    pub async fn accept(&self, client: TcpStream) -> Result<(TlsStream<TcpStream>, Option<Vec<u8>>), String> {
        let offer = self.offer.get();
        let accepted = TlsAcceptor::from(Arc::clone(&offer.config)).accept(client).await;
        accepted
            .map(|stream| (TlsStream::Server(stream), offer.end_point.clone()))
            .map_err(|error| format!("no TLS connection: {error}"))
    }
}

/// Encrypts connections to the server.
pub struct Connector {
    settings: UpstreamTls,
    name: ServerName<'static>,
    /// SCRAM is bound to the server's certificate.
    binds: bool,
    config: Current<ClientConfig>,
}

impl Connector {
    pub fn load(settings: &UpstreamTls, binds: bool) -> Result<Connector, String> {
        let name = ServerName::try_from(settings.name.clone()).map_err(|_| {
            format!(
                "`{}` is neither a host name nor an IP address that a certificate can have; give --upstream-tls-name",
                settings.name
            )
        })?;
        Ok(Connector {
            settings: settings.clone(),
            name,
            binds,
            config: Current::new(client_config(settings, binds, None)?),
        })
    }

    pub fn reload(&self) -> Result<(), String> {
        self.config.set(client_config(&self.settings, self.binds, None)?);
        Ok(())
    }

    /// Asks the server for TLS and shakes hands. The server has sent nothing before, and nothing is read past its answer.
    pub async fn connect(&self, mut server: TcpStream) -> Result<TlsStream<TcpStream>, String> {
        let ask = async {
            server.write_all(&SSL_REQUEST).await?;
            server.read_u8().await
        };
        match ask.await {
            Ok(b'S') => {}
            Ok(b'N') => {
                return Err(
                    "it offers no TLS (ssl = off in its postgresql.conf), and --upstream-tls asks for it".into(),
                );
            }
            Ok(_) => return Err("it answers a request for TLS with something else; is it PostgreSQL?".into()),
            Err(error) => return Err(format!("it does not answer a request for TLS: {error}")),
        }
        let connected = TlsConnector::from(self.config.get()).connect(self.name.clone(), server);
        connected
            .await
            .map(TlsStream::Client)
            .map_err(|error| format!("no TLS connection: {error}"))
    }
}

impl Stream {
    /// Client and proxy have agreed in the handshake to speak PostgreSQL, so nobody has led the client's connection here
    /// from some other service.
    pub fn agreed_on_protocol(&self) -> bool {
        matches!(self, Stream::Tls(stream) if stream.get_ref().1.alpn_protocol() == Some(ALPN))
    }

    /// What SCRAM can be bound to: the certificate that the server has shown, if the handshake has proven it its own.
    pub fn peer_end_point(&self) -> Option<Vec<u8>> {
        match self {
            Stream::Tls(stream) => {
                let certificate = stream.get_ref().1.peer_certificates()?.first()?;
                ParsedCertificate::try_from(certificate).ok()?;
                server_end_point(certificate)
            }
            _ => None,
        }
    }

    /// A TLS peer must hear that this is the end (close_notify), or it takes the end for an attack. Plain connections just end.
    pub async fn close(&mut self) {
        if let Stream::Tls(stream) = self {
            // A peer that does not read any more is not waited for, and one that is gone needs no goodbye.
            let _ = tokio::time::timeout(Duration::from_secs(1), stream.shutdown()).await;
        }
    }

    /// The same towards one that may still be sending: a socket that is closed with bytes unread is reset at once, and what its
    /// peer was to be sent before the end is lost.
    pub async fn close_after_hearing(&mut self) {
        self.close().await;
        if !self.has_unread() {
            return;
        }
        let heard = async {
            let _ = self.shutdown().await;
            let mut heard = vec![0; 8 << 10];
            while matches!(self.read_plain(&mut heard).await, Ok(n) if n > 0) {}
        };
        let _ = tokio::time::timeout(HEARING_TIME, heard).await;
    }

    /// Below any encryption.
    async fn read_plain(&mut self, heard: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Stream::Tls(stream) => stream.get_mut().0.read(heard).await,
            stream => stream.read(heard).await,
        }
    }
}

/// The channel-binding data tls-server-end-point (RFC 5929 section 4.1): the certificate's hash with the algorithm of its
/// own signature, SHA-256 in place of MD5 and SHA-1. None where the signature has no such hash (Ed25519).
pub(crate) fn server_end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    let (fields, _) = der(0x30, certificate)?;
    let (_, after) = der(0x30, fields)?;
    let (algorithm, _) = der(0x30, after)?;
    let (oid, parameters) = der(0x06, algorithm)?;
    let hash = match oid {
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x04 | 0x05 | 0x0b] => &SHA256,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0c] => &SHA384,
        [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0d] => &SHA512,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x01] | [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02] => &SHA256,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x03] => &SHA384,
        [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x04] => &SHA512,
        RSA_PSS => match der(0x30, parameters).and_then(|(parameters, _)| der(0xa0, parameters)) {
            // SHA-1 by default.
            None => &SHA256,
            Some((named, _)) => match der(0x06, der(0x30, named)?.0)?.0 {
                [0x2b, 0x0e, 0x03, 0x02, 0x1a] | [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01] => &SHA256,
                [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x02] => &SHA384,
                [0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x03] => &SHA512,
                _ => return None,
            },
        },
        _ => return None,
    };
    Some(digest(hash, certificate).as_ref().to_vec())
}

/// The contents of the DER element at the front, if it has this tag, and what is behind it.
fn der(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&length, rest) = bytes.strip_prefix(&[tag])?.split_first()?;
    let (length, rest) = match length {
        0..=0x7f => (length as usize, rest),
        0x81..=0x83 => {
            let (length, rest) = rest.split_at_checked(length as usize - 0x80)?;
            (length.iter().fold(0, |all, byte| all << 8 | *byte as usize), rest)
        }
        _ => return None,
    };
    rest.split_at_checked(length)
}

fn offer(settings: &ClientTls) -> Result<Offer, String> {
    let chain = certificates("tls-cert", &settings.cert)?;
    let end_point = chain.first().and_then(|own| server_end_point(own));
    Ok(Offer {
        config: Arc::new(server_config(settings, chain)?),
        end_point,
    })
}

fn server_config(settings: &ClientTls, chain: Vec<CertificateDer<'static>>) -> Result<ServerConfig, String> {
    let (cert, key) = (&settings.cert, &settings.key);
    let private = PrivateKeyDer::from_pem_slice(&contents("tls-key", key)?).map_err(|_| {
        format!(
            "tls-key: {} holds no private key: a PEM block `PRIVATE KEY` without a passphrase is needed",
            key.display()
        )
    })?;
    let builder = ServerConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    let builder = match &settings.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let (roots, _) = roots("tls-client-ca", path)?;
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider()).build();
            builder.with_client_cert_verifier(verifier.map_err(|e| format!("tls-client-ca: {}: {e}", path.display()))?)
        }
    };
    let mut config = builder.with_single_cert(chain, private).map_err(|error| {
        let why = match error {
            Error::InconsistentKeys(_) => "they do not belong together".into(),
            other => other.to_string(),
        };
        format!(
            "tls-cert: {} and tls-key: {} cannot be used: {why}",
            cert.display(),
            key.display()
        )
    })?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    // As PostgreSQL does: a session that is resumed would outlive the files that it was accepted with.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// `identity` is a certificate of our own, with its key, for a server that asks for one.
pub(crate) fn client_config(
    settings: &UpstreamTls,
    binds: bool,
    identity: Option<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>)>,
) -> Result<ClientConfig, String> {
    let trust = match &settings.verify {
        Verify::Nothing => Trust::Anybody,
        Verify::Ca(path) | Verify::Full(path) => {
            let (roots, listed) = roots("upstream-ca", path)?;
            Trust::Roots {
                roots,
                listed,
                name: matches!(settings.verify, Verify::Full(_)),
            }
        }
    };
    let provider = provider();
    let verifier = Verifier {
        trust,
        binds,
        provider: Arc::clone(&provider),
    };
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match identity {
        Some((chain, key)) => builder
            .with_client_auth_cert(chain, key)
            .map_err(|error| error.to_string())?,
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = Resumption::disabled();
    Ok(config)
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

/// Whose certificate is the server's, as libpq's sslmode has it.
#[derive(Debug)]
enum Trust {
    /// `require`: encrypted, with whoever answers.
    Anybody,
    Roots {
        roots: RootCertStore,
        /// The same certificates as they stand in the file.
        listed: Vec<CertificateDer<'static>>,
        /// The name must be right as well.
        name: bool,
    },
}

#[derive(Debug)]
struct Verifier {
    trust: Trust,
    /// SCRAM is bound to the certificate, which is worth nothing if anybody can show it.
    binds: bool,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    /// The peer must prove that the certificate is its own.
    fn asks_for_proof(&self, cert: &CertificateDer<'_>) -> bool {
        match &self.trust {
            // Who does not care whose certificate it is gains nothing from the proof, unless SCRAM is bound to it. And
            // old certificates (X.509 version 1) cannot be read here: nothing is bound to them.
            Trust::Anybody => self.binds && ParsedCertificate::try_from(cert).is_ok(),
            Trust::Roots { .. } => true,
        }
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Trust::Roots { roots, listed, name } = &self.trust else {
            return Ok(ServerCertVerified::assertion());
        };
        let parsed = ParsedCertificate::try_from(end_entity)?;
        let algorithms = self.provider.signature_verification_algorithms.all;
        match verify_server_cert_signed_by_trust_anchor(&parsed, roots, intermediates, now, algorithms) {
            Ok(()) => {}
            Err(error @ Error::InvalidCertificate(CertificateError::Expired | CertificateError::NotValidYet)) => {
                return Err(error);
            }
            Err(
                error @ Error::InvalidCertificate(
                    CertificateError::ExpiredContext { .. } | CertificateError::NotValidYetContext { .. },
                ),
            ) => return Err(error),
            // `openssl req -x509`, which PostgreSQL's manual shows, makes a CA of the server's own certificate. A CA is
            // no server's to webpki; libpq takes it where the very certificate is in the file, and so it is here.
            Err(_) if listed.iter().any(|listed| listed == end_entity) => {}
            Err(error) => return Err(error),
        }
        if *name {
            verify_server_name(&parsed, server_name)?;
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.asks_for_proof(cert) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, cert, dss, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        if !self.asks_for_proof(cert) {
            return Ok(HandshakeSignatureValid::assertion());
        }
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, cert, dss, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn contents(setting: &str, path: &Path) -> Result<Vec<u8>, String> {
    std::fs::read(path).map_err(|error| format!("{setting}: cannot read {}: {error}", path.display()))
}

/// At least one.
fn certificates(setting: &str, path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = contents(setting, path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!(
            "{setting}: {} holds no certificate: a PEM block `CERTIFICATE` is needed",
            path.display()
        )),
        Err(error) => Err(format!("{setting}: {} is no PEM file: {error}", path.display())),
    }
}

/// A client of anybody whom these certificates vouch for; those that cannot be read are left out, since systems have such, too.
pub(crate) fn trusting(setting: &str, path: &Path) -> Result<ClientConfig, String> {
    let mut roots = RootCertStore::empty();
    let (taken, _) = roots.add_parsable_certificates(certificates(setting, path)?);
    if taken == 0 {
        return Err(format!(
            "{setting}: {} has no certificate that can be used",
            path.display()
        ));
    }
    let builder = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?;
    Ok(builder.with_root_certificates(roots).with_no_client_auth())
}

fn roots(setting: &str, path: &Path) -> Result<(RootCertStore, Vec<CertificateDer<'static>>), String> {
    let listed = certificates(setting, path)?;
    let mut roots = RootCertStore::empty();
    for certificate in &listed {
        roots
            .add(certificate.clone())
            .map_err(|error| format!("{setting}: {}: {error}", path.display()))?;
    }
    Ok((roots, listed))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rcgen::{CertificateParams, KeyPair, SignatureAlgorithm};

    #[test]
    fn the_end_point_is_hashed_as_the_certificate_was_signed() {
        let check = |algorithm: &'static SignatureAlgorithm, length: Option<usize>| {
            let key = KeyPair::generate_for(algorithm).expect("a key");
            let params = CertificateParams::new(vec!["localhost".into()]).expect("a name");
            let certificate = params.self_signed(&key).expect("a certificate");
            assert_eq!(server_end_point(certificate.der()).map(|hash| hash.len()), length);
        };
        check(&rcgen::PKCS_ECDSA_P256_SHA256, Some(32));
        check(&rcgen::PKCS_ECDSA_P384_SHA384, Some(48));
        check(&rcgen::PKCS_ED25519, None);
        let signed_with = |algorithm: &[&[u8]]| {
            let sequence = |parts: &[&[u8]]| [&[0x30, parts.concat().len() as u8][..], &parts.concat()].concat();
            server_end_point(&sequence(&[&sequence(&[]), &sequence(algorithm)])).map(|hash| hash.len())
        };
        let pss: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";
        assert_eq!(signed_with(&[pss]), Some(32));
        assert_eq!(signed_with(&[pss, b"\x30\x00"]), Some(32));
        let sha_512 = b"\x30\x0f\xa0\x0d\x30\x0b\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03";
        assert_eq!(signed_with(&[pss, sha_512]), Some(64));
        let md5_with_rsa = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x04";
        assert_eq!(signed_with(&[md5_with_rsa]), Some(32));
        for broken in [
            &b""[..],
            b"\x30",
            b"\x30\x80",
            b"\x30\x84\xff\xff\xff\xff",
            b"\x30\x03\x30\x82\x01",
        ] {
            assert_eq!(server_end_point(broken), None);
        }
    }
}
