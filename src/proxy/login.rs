//! `--auth scram`: ends SCRAM with the client from a verifier, and logs in to the server with the keys that the client's
//! proof gives away. Start at [`log_in`]; what the messages say is in [`lockkeeper_wire::scram`].
//!
//! The server is asked first, so that its own refusals (pg_hba.conf, too many connections) and its answer about the
//! protocol's version come to the client as they are. A client hears that it is in only when the server has let it in.

use super::stream::Stream;
use super::verifiers::{Found, Source, Verifiers};
use bytes::BytesMut;
use lockkeeper_wire::encoding::Encoding;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use lockkeeper_wire::scram::{
    self, AwaitFirst, AwaitVerifier, Challenged, Keys, Login, SCRAM_SHA_256, SCRAM_SHA_256_PLUS,
};
use std::fmt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// As a balancer does that has no server behind it.
const CLOSED: &str = "it closed the connection";

/// As PostgreSQL has it (PG_MAX_SASL_MESSAGE_LENGTH).
const SASL_BYTES_MAX: usize = 1024;
/// No message of the server's before ReadyForQuery is near it.
const SERVER_BYTES_MAX: usize = 60 << 10;

/// Who wants to log in, and what with.
pub struct User {
    pub name: Vec<u8>,
    /// What a client with TLS can bind its login to.
    pub end_point: Option<Vec<u8>>,
}

/// Why there is no session.
#[derive(Debug)]
pub enum Ended {
    /// To be told to the client.
    Report(Report),
    /// The server has said why, in this frame.
    Refused(Vec<u8>),
    /// The server went away or said what no server says.
    Server(String),
    /// The client went away: nobody is there to hear it.
    Silent(String),
}

impl Ended {
    /// The server takes nobody now; another may.
    pub fn is_for_now(&self) -> bool {
        match self {
            Ended::Refused(frame) => Report::of_frame(frame).sqlstate() == CANNOT_CONNECT_NOW,
            Ended::Server(what) => what == CLOSED,
            Ended::Report(_) | Ended::Silent(_) => false,
        }
    }

    /// What the client hears.
    pub fn last_words(&self, upstream: &impl fmt::Display) -> Vec<u8> {
        let mut out = BytesMut::new();
        match self {
            Ended::Report(report) => report.put_error(&mut out, Encoding::Ascii),
            Ended::Refused(frame) => out.extend_from_slice(frame),
            Ended::Server(what) => {
                let message = format!("lockkeeper: login to the server at {upstream} failed: {what}");
                let sqlstate = match what == CLOSED {
                    true => CANNOT_CONNECT_NOW,
                    false => "08006",
                };
                Report::fatal(sqlstate, &message).put_error(&mut out, Encoding::Ascii);
            }
            Ended::Silent(_) => {}
        }
        out.to_vec()
    }
}

impl fmt::Display for Ended {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Ended::Report(report) => {
                write!(f, "{}", report.message())?;
                [b'D', b'H']
                    .iter()
                    .filter(|field| report.get(**field).is_some())
                    .try_for_each(|field| write!(f, "; {}", report.text(*field)))
            }
            Ended::Refused(frame) => write!(f, "the server: {}", Report::of_frame(frame).message()),
            Ended::Server(what) => write!(f, "the server: {what}"),
            Ended::Silent(what) => f.write_str(what),
        }
    }
}

/// How the server wants the proxy to log in.
pub enum Asked {
    Nothing,
    Sasl { plus: bool },
}

/// From what the server has [asked](asked) for up to and with AuthenticationOk, which the client has got then. It gives the keys with
/// which the client could log in to another server, too, where there are any.
pub async fn log_in(
    client: &mut Stream,
    server: &mut Stream,
    asked: Asked,
    user: &User,
    verifiers: &Verifiers,
) -> Result<Keys, Ended> {
    let await_verifier = begin_proof(client, user).await?;
    // Only now, so that a client that comes without a password, to ask for one then, costs no more.
    let challenged = match asked {
        Asked::Sasl { plus } => Some(begin(server, plus).await?),
        Asked::Nothing => None,
    };
    let shown = challenged.as_ref().map(|challenged| &challenged.salting);
    let found = verifiers.find(&user.name, shown).await.map_err(Ended::Report)?;
    let source = found.source;
    let Some(proven) = end_proof(client, await_verifier, found).await? else {
        verifiers.doubt(&user.name);
        let mut report = Report::fatal("28P01", "");
        // Also a name that is not UTF-8 comes back as it was.
        let message = [b"password authentication failed for user \"", &user.name[..], b"\""].concat();
        report.set_as_is(b'M', message);
        return Err(Ended::Report(report));
    };
    if let Some(challenged) = challenged
        && let Err(ended) = finish(server, challenged, &proven.keys).await
    {
        verifiers.doubt(&user.name);
        return Err(explained(ended, source));
    }
    let mut out = BytesMut::new();
    wire::put_authentication(
        &mut out,
        wire::AUTHENTICATION_SASL_FINAL,
        proven.server_final.as_bytes(),
    );
    wire::put_authentication(&mut out, wire::AUTHENTICATION_OK, b"");
    tell(client, &out).await?;
    Ok(proven.keys)
}

/// The same login at another server, which has got the startup packet; the client is not needed any more.
pub async fn again(server: &mut Stream, keys: &Keys) -> Result<(), Ended> {
    let frame = loop {
        let frame = from_server(server).await?;
        if frame[0] == b'R' {
            break frame;
        }
    };
    match wanted(&frame).map_err(Ended::Report)? {
        Asked::Nothing => Ok(()),
        Asked::Sasl { plus } => {
            let challenged = begin(server, plus).await?;
            finish(server, challenged, keys).await
        }
    }
}

/// The server refuses what has proven the password here.
fn explained(ended: Ended, source: Source) -> Ended {
    let Ended::Refused(frame) = ended else { return ended };
    let mut report = Report::of_frame(&frame);
    if report.sqlstate() != "28P01" {
        return Ended::Refused(frame);
    }
    let (origin, remedy) = match source {
        Source::Query => (
            "from the auth_query",
            "Let --auth-query give pg_authid.rolpassword of this very server.",
        ),
        Source::File | Source::Nowhere => (
            "in --auth-file",
            "Copy pg_authid.rolpassword into the file again (the same password set twice makes two verifiers), then send the \
             proxy SIGHUP.",
        ),
    };
    report.append(
        b'H',
        &format!(
            "lockkeeper: the password is right for the verifier {origin}, but the server has another one, or the role's \
             password has expired there. {remedy}"
        ),
    );
    Ended::Report(report)
}

/// What the server says first. Of a server that refuses at once the client hears nothing.
pub async fn asked(client: &mut Stream, server: &mut Stream) -> Result<Asked, Ended> {
    let mut before = Vec::new();
    loop {
        let frame = from_server(server).await?;
        if frame[0] != b'R' {
            // NegotiateProtocolVersion.
            before.extend_from_slice(&frame);
            continue;
        }
        tell(client, &before).await?;
        return wanted(&frame).map_err(Ended::Report);
    }
}

/// What the server's first message of authentication wants.
pub fn wanted(frame: &[u8]) -> Result<Asked, Report> {
    let wants = match wire::authentication(frame) {
        Some(wire::AUTHENTICATION_OK) => return Ok(Asked::Nothing),
        Some(wire::AUTHENTICATION_SASL) => {
            let offered = wire::mechanisms(frame);
            let plus = offered.contains(&SCRAM_SHA_256_PLUS.as_bytes());
            if plus || offered.contains(&SCRAM_SHA_256.as_bytes()) {
                return Ok(Asked::Sasl { plus });
            }
            "another SASL mechanism than SCRAM-SHA-256"
        }
        Some(wire::AUTHENTICATION_CLEARTEXT) => "the password in plain text",
        Some(wire::AUTHENTICATION_MD5) => "an MD5 password",
        _ => "neither a password nor trust",
    };
    let message = format!("lockkeeper: the server asks for {wants}, and --auth scram can answer SCRAM-SHA-256 only");
    Err(Report::fatal("28000", &message).hint(
        "Let pg_hba.conf say scram-sha-256 for this user, and set the password again under password_encryption = \
         'scram-sha-256'; or run the proxy with --auth passthrough.",
    ))
}

/// The client chooses a mechanism and begins to prove its password.
async fn begin_proof(client: &mut Stream, user: &User) -> Result<AwaitVerifier, Ended> {
    let mut offer = Vec::new();
    let mechanisms = [SCRAM_SHA_256_PLUS, SCRAM_SHA_256];
    for mechanism in &mechanisms[usize::from(user.end_point.is_none())..] {
        offer.extend_from_slice(mechanism.as_bytes());
        offer.push(0);
    }
    offer.push(0);
    let response = challenge(client, wire::AUTHENTICATION_SASL, &offer).await?;
    let (mechanism, data) = initial_response(&response).map_err(Ended::Report)?;
    let plus = mechanism == SCRAM_SHA_256_PLUS.as_bytes() && user.end_point.is_some();
    if !plus && mechanism != SCRAM_SHA_256.as_bytes() {
        let message = "client selected an invalid SASL authentication mechanism";
        return Err(Ended::Report(Report::fatal("08P01", message)));
    }
    let first = match data {
        Some(data) => data.to_vec(),
        // It may send its first message as the answer to an empty challenge.
        None => challenge(client, wire::AUTHENTICATION_SASL_CONTINUE, b"").await?,
    };
    let await_first = AwaitFirst {
        end_point: user.end_point.clone(),
        plus,
        nonce: scram::nonce().map_err(Ended::Server)?,
    };
    await_first.step(&first).map_err(Ended::Report)
}

/// None: it does not know the password.
async fn end_proof(client: &mut Stream, next: AwaitVerifier, found: Found) -> Result<Option<scram::Proven>, Ended> {
    let doomed = matches!(found.source, Source::Nowhere);
    let (await_proof, server_first) = next.step(found.verifier, doomed);
    let last = challenge(client, wire::AUTHENTICATION_SASL_CONTINUE, server_first.as_bytes()).await?;
    await_proof.step(&last).map_err(Ended::Report)
}

/// Begins to log in to the server, up to its challenge.
pub async fn begin(server: &mut Stream, plus: bool) -> Result<Challenged, Ended> {
    let end_point = server.peer_end_point();
    let nonce = scram::nonce().map_err(Ended::Server)?;
    let login = Login::new(end_point.as_deref(), plus, nonce);
    let mut out = BytesMut::new();
    wire::put_sasl_initial_response(&mut out, login.mechanism(), login.first.as_bytes());
    send_server(server, &out).await?;
    let server_first = sasl(server, wire::AUTHENTICATION_SASL_CONTINUE).await?;
    login.step(&server_first).map_err(Ended::Server)
}

/// Up to and with AuthenticationOk.
pub async fn finish(server: &mut Stream, challenged: Challenged, keys: &Keys) -> Result<(), Ended> {
    let (signature, client_final) = challenged.step(keys);
    let mut out = BytesMut::new();
    wire::put_frame(&mut out, b'p', |b| b.extend_from_slice(client_final.as_bytes()));
    send_server(server, &out).await?;
    let server_final = sasl(server, wire::AUTHENTICATION_SASL_FINAL).await?;
    // A server that lets anybody in without its signature may be somebody else's.
    signature.step(&server_final).map_err(Ended::Server)?;
    sasl(server, wire::AUTHENTICATION_OK).await?;
    Ok(())
}

/// The data of the server's next message, which must be this one of authentication.
async fn sasl(server: &mut Stream, code: u32) -> Result<Vec<u8>, Ended> {
    let frame = from_server(server).await?;
    if frame[0] != b'R' || wire::authentication(&frame) != Some(code) {
        return Err(Ended::Server("it breaks off the SCRAM exchange".into()));
    }
    Ok(frame.get(HEADER + 4..).unwrap_or_default().to_vec())
}

/// A whole message of the server's; an ErrorResponse is an end.
pub async fn from_server(server: &mut Stream) -> Result<Vec<u8>, Ended> {
    let frame = server_frame(server).await?;
    match frame[0] {
        b'E' => Err(Ended::Refused(frame)),
        _ => Ok(frame),
    }
}

pub async fn server_frame(server: &mut Stream) -> Result<Vec<u8>, Ended> {
    let gone = |error: std::io::Error| match error.kind() {
        std::io::ErrorKind::UnexpectedEof => Ended::Server(CLOSED.into()),
        _ => Ended::Server(error.to_string()),
    };
    let mut header = [0; HEADER];
    server.read_exact(&mut header).await.map_err(gone)?;
    let len = wire::frame_len(&header)
        .filter(|len| *len <= SERVER_BYTES_MAX)
        .ok_or_else(|| Ended::Server("it sent a message of invalid length".into()))?;
    let mut frame = header.to_vec();
    frame.resize(len, 0);
    server.read_exact(&mut frame[HEADER..]).await.map_err(gone)?;
    Ok(frame)
}

pub async fn send_server(server: &mut Stream, bytes: &[u8]) -> Result<(), Ended> {
    let sent = async {
        server.write_all(bytes).await?;
        server.flush().await
    };
    sent.await.map_err(|error| Ended::Server(error.to_string()))
}

/// Sends the client a message of authentication and reads the response.
async fn challenge(client: &mut Stream, code: u32, data: &[u8]) -> Result<Vec<u8>, Ended> {
    let mut out = BytesMut::new();
    wire::put_authentication(&mut out, code, data);
    tell(client, &out).await?;
    let gone = |_| Ended::Silent("the client went away".into());
    let mut header = [0; HEADER];
    client.read_exact(&mut header).await.map_err(gone)?;
    if header[0] != b'p' {
        let message = format!("expected SASL response, got message type {}", header[0]);
        return Err(Ended::Report(Report::fatal("08P01", &message)));
    }
    let len = wire::frame_len(&header)
        .filter(|len| *len <= HEADER + SASL_BYTES_MAX)
        .ok_or_else(|| Ended::Report(Report::fatal("08P01", "invalid message length")))?;
    let mut body = vec![0; len - HEADER];
    client.read_exact(&mut body).await.map_err(gone)?;
    Ok(body)
}

/// Mechanism and data of a SASLInitialResponse's body.
fn initial_response(body: &[u8]) -> Result<(&[u8], Option<&[u8]>), Report> {
    let (mechanism, rest) = wire::c_string(body).ok_or_else(|| Report::fatal("08P01", "invalid string in message"))?;
    let (len, data) = rest
        .split_first_chunk()
        .ok_or_else(|| Report::fatal("08P01", "insufficient data left in message"))?;
    let data = match usize::try_from(i32::from_be_bytes(*len)) {
        Err(_) if *len == [0xff; 4] && data.is_empty() => None,
        Ok(len) if len == data.len() => Some(data),
        Ok(len) if len < data.len() => return Err(Report::fatal("08P01", "invalid message format")),
        _ => return Err(Report::fatal("08P01", "insufficient data left in message")),
    };
    Ok((mechanism, data))
}

async fn tell(client: &mut Stream, bytes: &[u8]) -> Result<(), Ended> {
    let sent = async {
        client.write_all(bytes).await?;
        client.flush().await
    };
    sent.await.map_err(|_| Ended::Silent("the client went away".into()))
}

/// By this a client goes on to the next server of its list, and pg_isready says that there is none; by the codes of class 08 neither.
pub(super) const CANNOT_CONNECT_NOW: &str = "57P03";
