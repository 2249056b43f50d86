//! SCRAM-SHA-256 (RFC 5802, RFC 7677) without I/O: the server's side towards a client, from a verifier, and the client's
//! side towards the server, with the keys that the client's proof gave away. A password is never seen, let alone kept.
//!
//! Start at [`AwaitFirst`] (towards the client) and [`Login`] (towards the server); each state takes one message and gives
//! the next state with its reply. Errors towards clients are worded as PostgreSQL's.

use crate::messages::Report;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::{SecureRandom as _, SystemRandom};
use ring::{digest, hmac, pbkdf2};
use std::num::NonZeroU32;
use subtle::ConstantTimeEq as _;

pub const SCRAM_SHA_256: &str = "SCRAM-SHA-256";
pub const SCRAM_SHA_256_PLUS: &str = "SCRAM-SHA-256-PLUS";
/// The only channel-binding type that PostgreSQL knows.
const END_POINT: &str = "p=tls-server-end-point,,";

/// What is worked through for a password of our own, whatever number the server says: half a second, and no server needs more.
const OWN_ITERATIONS_MAX: u32 = 1_000_000;

type Key = [u8; 32];

/// What makes a verifier of a password. A server shows it to everybody who wants to log in, and shows something made up,
/// which is always the same for a name, where there is no verifier.
#[derive(Clone, PartialEq, Eq)]
pub struct Salting {
    pub salt: Vec<u8>,
    pub iterations: u32,
}

impl Salting {
    fn parse(salt: &str, iterations: &str) -> Option<Salting> {
        Some(Salting {
            salt: STANDARD.decode(salt).ok().filter(|salt| !salt.is_empty())?,
            // An int in PostgreSQL and in libpq.
            iterations: iterations.parse().ok().filter(|n| (1..=i32::MAX as u32).contains(n))?,
        })
    }
}

/// What a server keeps of a password, as it stands in pg_authid.rolpassword:
/// `SCRAM-SHA-256$iterations:salt$StoredKey:ServerKey`.
#[derive(Clone, PartialEq, Eq)]
pub struct Verifier {
    pub salting: Salting,
    pub stored_key: Key,
    pub server_key: Key,
}

impl Verifier {
    pub fn parse(text: &str) -> Option<Verifier> {
        let (head, keys) = text.strip_prefix("SCRAM-SHA-256$")?.split_once('$')?;
        let (iterations, salt) = head.split_once(':')?;
        let (stored_key, server_key) = keys.split_once(':')?;
        let key = |text: &str| STANDARD.decode(text).ok()?.try_into().ok();
        Some(Verifier {
            salting: Salting::parse(salt, iterations)?,
            stored_key: key(stored_key)?,
            server_key: key(server_key)?,
        })
    }
}

/// What logs in to any server that has the same verifier.
pub struct Keys {
    client_key: Key,
    stored_key: Key,
    server_key: Key,
}

impl Keys {
    /// Of a password of our own. Takes milliseconds on purpose, with many iterations much longer: not for a worker's thread.
    pub fn of_password(password: &str, salting: &Salting) -> Result<Keys, String> {
        let iterations = NonZeroU32::new(salting.iterations)
            .filter(|iterations| iterations.get() <= OWN_ITERATIONS_MAX)
            .ok_or_else(|| {
                format!(
                    "it asks for {} iterations of SCRAM, more than {OWN_ITERATIONS_MAX}",
                    salting.iterations
                )
            })?;
        // What cannot be prepared is taken as it is, as PostgreSQL does.
        let prepared = stringprep::saslprep(password).unwrap_or(password.into());
        let mut salted = Key::default();
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            iterations,
            &salting.salt,
            prepared.as_bytes(),
            &mut salted,
        );
        let client_key = hmac_sha_256(&salted, b"Client Key");
        Ok(Keys {
            client_key,
            stored_key: sha_256(&client_key),
            server_key: hmac_sha_256(&salted, b"Server Key"),
        })
    }
}

/// A nonce for one exchange.
pub fn nonce() -> Result<String, String> {
    let mut bytes = [0; 18];
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| "the system gives no random bytes".to_owned())?;
    Ok(STANDARD.encode(bytes))
}

pub fn hmac_sha_256(key: &[u8], message: &[u8]) -> Key {
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), message);
    let mut out = Key::default();
    out.copy_from_slice(tag.as_ref());
    out
}

fn sha_256(bytes: &[u8]) -> Key {
    let mut out = Key::default();
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

fn xor(mut a: Key, b: &Key) -> Key {
    a.iter_mut().zip(b).for_each(|(a, b)| *a ^= b);
    a
}

/// Towards the client: the mechanism is chosen, its first message is still to come.
pub struct AwaitFirst {
    /// The binding data of the client's TLS connection, where SCRAM-SHA-256-PLUS was offered.
    pub end_point: Option<Vec<u8>>,
    /// The client chose it.
    pub plus: bool,
    /// The server's part.
    pub nonce: String,
}

/// Towards the client: its first message is read, and what it is to be asked must be known now.
pub struct AwaitVerifier {
    binding: String,
    plus: bool,
    nonce: String,
    bare: String,
}

/// Towards the client: it knows salt and iterations, and has to prove the password.
pub struct AwaitProof {
    verifier: Verifier,
    doomed: bool,
    /// What `c=` must be.
    binding: String,
    plus: bool,
    nonce: String,
    /// client-first-message-bare and server-first-message.
    messages: String,
}

/// The client knows the password.
pub struct Proven {
    pub keys: Keys,
    /// The server-final-message, which proves to the client that the verifier is known here.
    pub server_final: String,
}

impl AwaitFirst {
    pub fn step(self, message: &[u8]) -> Result<AwaitVerifier, Report> {
        let message = text(message)?;
        let (gs2, bare) = self.read_header(message)?;
        if bare.starts_with('m') {
            return Err(Report::fatal("0A000", "client requires an unsupported SCRAM extension"));
        }
        let mut rest = bare;
        // The user's name is that of the startup packet.
        attribute(&mut rest, 'n')?;
        let client_nonce = attribute(&mut rest, 'r')?;
        if !client_nonce.bytes().all(|b| matches!(b, 0x21..=0x7e)) {
            return Err(Report::fatal("08P01", "non-printable characters in SCRAM nonce"));
        }
        while !rest.is_empty() {
            any_attribute(&mut rest)?;
        }
        let mut binding = gs2.as_bytes().to_vec();
        if self.plus {
            binding.extend(self.end_point.as_deref().unwrap_or_default());
        }
        Ok(AwaitVerifier {
            binding: STANDARD.encode(binding),
            plus: self.plus,
            nonce: format!("{client_nonce}{}", self.nonce),
            bare: bare.to_owned(),
        })
    }

    /// Splits the GS2 header from the client-first-message-bare.
    fn read_header<'a>(&self, message: &'a str) -> Result<(&'a str, &'a str), Report> {
        let mut rest = message;
        match message.chars().next() {
            Some('n' | 'y') if self.plus => {
                return Err(malformed(
                    "The client selected SCRAM-SHA-256-PLUS, but the SCRAM message does not include channel binding data.",
                ));
            }
            // Somebody in between may have taken PLUS out of the offer.
            Some('y') if self.end_point.is_some() => {
                let report = Report::fatal("28000", "SCRAM channel binding negotiation error");
                return Err(report.detail(
                    "The client supports SCRAM channel binding but thinks the server does not.  \
                     However, this server does support channel binding.",
                ));
            }
            Some('n' | 'y') => {
                rest = &rest[1..];
                let found = sanitized(rest.chars().next());
                rest = rest
                    .strip_prefix(',')
                    .ok_or_else(|| malformed(&format!("Comma expected, but found character \"{found}\".")))?;
            }
            Some('p') if !self.plus => {
                return Err(malformed(
                    "The client selected SCRAM-SHA-256 without channel binding, but the SCRAM message includes channel \
                     binding data.",
                ));
            }
            Some('p') => {
                let kind = attribute(&mut rest, 'p')?;
                if kind != "tls-server-end-point" {
                    let shown: String = kind
                        .chars()
                        .take(30)
                        .map(|c| if c.is_ascii_graphic() { c } else { '?' })
                        .collect();
                    let message = format!("unsupported SCRAM channel-binding type \"{shown}\"");
                    return Err(Report::fatal("08P01", &message));
                }
            }
            flag => {
                return Err(malformed(&format!(
                    "Unexpected channel-binding flag \"{}\".",
                    sanitized(flag)
                )));
            }
        }
        match rest.chars().next() {
            Some('a') => {
                let message = "client uses authorization identity, but it is not supported";
                Err(Report::fatal("0A000", message))
            }
            Some(',') => Ok(message.split_at(message.len() - rest.len() + 1)),
            other => {
                let found = sanitized(other);
                Err(malformed(&format!(
                    "Unexpected attribute \"{found}\" in client-first-message."
                )))
            }
        }
    }
}

impl AwaitVerifier {
    /// `doomed`: there is no such user; the exchange goes its usual way and fails in the end.
    pub fn step(self, verifier: Verifier, doomed: bool) -> (AwaitProof, String) {
        let salt = STANDARD.encode(&verifier.salting.salt);
        let server_first = format!("r={},s={salt},i={}", self.nonce, verifier.salting.iterations);
        let next = AwaitProof {
            verifier,
            doomed,
            binding: self.binding,
            plus: self.plus,
            nonce: self.nonce,
            messages: format!("{},{server_first}", self.bare),
        };
        (next, server_first)
    }
}

impl AwaitProof {
    /// None: the proof is wrong, or there is no such user.
    pub fn step(self, message: &[u8]) -> Result<Option<Proven>, Report> {
        let message = text(message)?;
        let mut rest = message;
        if attribute(&mut rest, 'c')? != self.binding {
            return Err(match self.plus {
                true => Report::fatal("28000", "SCRAM channel binding check failed"),
                false => Report::fatal(
                    "08P01",
                    "unexpected SCRAM channel-binding attribute in client-final-message",
                ),
            });
        }
        let nonce = attribute(&mut rest, 'r')?;
        let (without_proof, proof) = loop {
            let before = &message[..message.len() - rest.len()];
            let (name, value) = any_attribute(&mut rest)?;
            if name == 'p' {
                break (before.strip_suffix(',').unwrap_or(before), value);
            }
        };
        let proof: Key = STANDARD
            .decode(proof)
            .ok()
            .and_then(|proof| proof.try_into().ok())
            .ok_or_else(|| malformed("Malformed proof in client-final-message."))?;
        if !rest.is_empty() {
            return Err(malformed("Garbage found at the end of client-final-message."));
        }
        if nonce != self.nonce {
            return Err(Report::fatal("08P01", "invalid SCRAM response").detail("Nonce does not match."));
        }
        let Verifier {
            stored_key, server_key, ..
        } = self.verifier;
        let signed = format!("{},{without_proof}", self.messages);
        let client_key = xor(proof, &hmac_sha_256(&stored_key, signed.as_bytes()));
        let right = bool::from(sha_256(&client_key).ct_eq(&stored_key));
        let signature = STANDARD.encode(hmac_sha_256(&server_key, signed.as_bytes()));
        // Both after the work is done, so that neither takes another time.
        Ok((right && !self.doomed).then_some(Proven {
            keys: Keys {
                client_key,
                stored_key,
                server_key,
            },
            server_final: format!("v={signature}"),
        }))
    }
}

/// Towards the server: the client-first-message goes out.
pub struct Login {
    /// The GS2 header and, with it, the binding data.
    binding: Vec<u8>,
    bare: String,
    nonce: String,
    /// `n,,` or the like, then the bare message.
    pub first: String,
}

/// Towards the server: it has shown what it keeps, and wants the proof.
pub struct Challenged {
    pub salting: Salting,
    without_proof: String,
    signed: String,
}

/// Towards the server: the proof is out, its signature must come.
pub struct AwaitSignature {
    server_key: Key,
    signed: String,
}

impl Login {
    /// `end_point`: of the server's TLS connection, if there is one whose certificate has such data. `plus`: the server
    /// offers to bind to it.
    pub fn new(end_point: Option<&[u8]>, plus: bool, nonce: String) -> Login {
        let (header, data) = match end_point {
            Some(data) if plus => (END_POINT, data),
            // The server refuses this if it did offer it, and somebody in between took that out.
            Some(_) => ("y,,", &[][..]),
            None => ("n,,", &[][..]),
        };
        let bare = format!("n=,r={nonce}");
        Login {
            binding: [header.as_bytes(), data].concat(),
            first: format!("{header}{bare}"),
            bare,
            nonce,
        }
    }

    pub fn mechanism(&self) -> &'static str {
        match self.binding.starts_with(END_POINT.as_bytes()) {
            true => SCRAM_SHA_256_PLUS,
            false => SCRAM_SHA_256,
        }
    }

    pub fn step(self, server_first: &[u8]) -> Result<Challenged, String> {
        let nonsense = || "its server-first-message cannot be read".to_owned();
        let server_first = std::str::from_utf8(server_first).map_err(|_| nonsense())?;
        let mut attributes = server_first.split(',');
        let mut value = |name| attributes.next().and_then(|attribute| attribute.strip_prefix(name));
        let (nonce, salt, iterations) = (value("r="), value("s="), value("i="));
        let nonce = nonce.ok_or_else(nonsense)?;
        let salting = salt.zip(iterations).and_then(|(salt, n)| Salting::parse(salt, n));
        if !nonce.starts_with(&self.nonce) || nonce.len() == self.nonce.len() {
            return Err("its nonce does not begin with the client's".into());
        }
        let without_proof = format!("c={},r={nonce}", STANDARD.encode(&self.binding));
        Ok(Challenged {
            salting: salting.ok_or_else(nonsense)?,
            signed: format!("{},{server_first},{without_proof}", self.bare),
            without_proof,
        })
    }
}

impl Challenged {
    pub fn step(self, keys: &Keys) -> (AwaitSignature, String) {
        let Challenged {
            without_proof, signed, ..
        } = self;
        let proof = xor(keys.client_key, &hmac_sha_256(&keys.stored_key, signed.as_bytes()));
        let client_final = format!("{without_proof},p={}", STANDARD.encode(proof));
        let server_key = keys.server_key;
        (AwaitSignature { server_key, signed }, client_final)
    }
}

impl AwaitSignature {
    pub fn step(self, server_final: &[u8]) -> Result<(), String> {
        let signature = server_final
            .strip_prefix(b"v=")
            .and_then(|signature| STANDARD.decode(signature).ok())
            .ok_or("its server-final-message cannot be read")?;
        let expected = hmac_sha_256(&self.server_key, self.signed.as_bytes());
        match bool::from(expected.as_slice().ct_eq(&signature)) {
            true => Ok(()),
            false => Err("its signature is wrong: it does not know the role's verifier".into()),
        }
    }
}

fn text(message: &[u8]) -> Result<&str, Report> {
    if message.is_empty() {
        return Err(malformed("The message is empty."));
    }
    if message.contains(&0) {
        return Err(malformed("Message length does not match input length."));
    }
    // PostgreSQL takes any bytes in a name that it ignores; RFC 5802 wants UTF-8.
    std::str::from_utf8(message).map_err(|_| malformed("The message is not UTF-8."))
}

fn malformed(detail: &str) -> Report {
    Report::fatal("08P01", "malformed SCRAM message").detail(detail)
}

/// Takes `name=value` and the comma behind it off the front.
fn attribute<'a>(rest: &mut &'a str, name: char) -> Result<&'a str, Report> {
    let found = rest.chars().next();
    if found != Some(name) {
        let found = sanitized(found);
        return Err(malformed(&format!(
            "Expected attribute \"{name}\" but found \"{found}\"."
        )));
    }
    any_attribute(rest).map(|(_, value)| value)
}

fn any_attribute<'a>(rest: &mut &'a str) -> Result<(char, &'a str), Report> {
    let name = match rest.chars().next() {
        None => return Err(malformed("Attribute expected, but found end of string.")),
        Some(name) if name.is_ascii_alphabetic() => name,
        other => {
            let found = sanitized(other);
            return Err(malformed(&format!(
                "Attribute expected, but found invalid character \"{found}\"."
            )));
        }
    };
    let value = rest[1..]
        .strip_prefix('=')
        .ok_or_else(|| malformed(&format!("Expected character \"=\" for attribute \"{name}\".")))?;
    let (value, after) = value.split_once(',').unwrap_or((value, ""));
    *rest = after;
    Ok((name, value))
}

fn sanitized(c: Option<char>) -> String {
    match c {
        Some(c) if c.is_ascii_graphic() => format!("'{c}'"),
        c => format!("0x{:02x}", c.map_or(0, u32::from)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As PostgreSQL makes one of a password.
    fn verifier(password: &str, salt: &[u8], iterations: u32) -> (Verifier, Keys) {
        let salt = salt.to_vec();
        let salting = Salting { salt, iterations };
        let keys = Keys::of_password(password, &salting).expect("few iterations");
        let verifier = Verifier {
            salting,
            stored_key: keys.stored_key,
            server_key: keys.server_key,
        };
        (verifier, keys)
    }

    fn pencil() -> (Verifier, Keys) {
        let salt = STANDARD.decode("W22ZaJ0SNY7soEsUEjb6gQ==").unwrap();
        verifier("pencil", &salt, 4096)
    }

    fn await_first(plus: bool, end_point: Option<&[u8]>) -> AwaitFirst {
        AwaitFirst {
            end_point: end_point.map(<[u8]>::to_vec),
            plus,
            nonce: "%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0".into(),
        }
    }

    const FIRST: &[u8] = b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO";
    const FINAL: &str = "c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,\
        p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn the_example_of_rfc_7677() {
        let (verifier, keys) = pencil();
        let next = await_first(false, None).step(FIRST).expect("a first message");
        let (next, server_first) = next.step(verifier, false);
        assert_eq!(
            server_first,
            "r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096"
        );
        let proven = next.step(FINAL.as_bytes()).ok().flatten().expect("the right password");
        assert_eq!(proven.server_final, "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=");
        assert!(proven.keys.client_key == keys.client_key);
    }

    #[test]
    fn a_user_that_is_not_there_fails_even_with_a_right_proof() {
        let next = await_first(false, None).step(FIRST).expect("a first message");
        let (next, _) = next.step(pencil().0, true);
        assert!(next.step(FINAL.as_bytes()).expect("no error").is_none());
    }

    /// Our client's side against our server's side, with every channel binding.
    #[test]
    fn the_recovered_keys_log_in() {
        for (end_point, plus) in [(None, false), (Some(&b"hash"[..]), true), (Some(&b"hash"[..]), false)] {
            let (verifier, keys) = verifier("secret", b"other salt", 2);
            let server = AwaitFirst {
                // With `y` the server offered none.
                end_point: end_point.filter(|_| plus).map(<[u8]>::to_vec),
                plus,
                nonce: "theirs".into(),
            };
            let login = Login::new(end_point, plus, "ours".into());
            assert_eq!(login.mechanism().ends_with("-PLUS"), plus);
            let server = server.step(login.first.as_bytes()).expect("a first message");
            let (proof, first) = server.step(verifier.clone(), false);
            let challenged = login.step(first.as_bytes()).expect("a challenge");
            assert!(challenged.salting == verifier.salting);
            let (signature, last) = challenged.step(&keys);
            let proven = proof.step(last.as_bytes()).ok().flatten().expect("a right proof");
            assert!(proven.keys.client_key == keys.client_key);
            assert_eq!(signature.step(proven.server_final.as_bytes()), Ok(()));
        }
    }

    #[test]
    fn a_server_that_does_not_know_the_verifier_is_refused() {
        let (_, keys) = verifier("secret", b"salt", 2);
        let login = || Login::new(None, false, "ours".into());
        for first in [
            "",
            "r=",
            "r=ours,s=c2FsdA==,i=1",
            "r=other,s=c2FsdA==,i=1",
            "r=ours+,s=,i=1",
            "r=ours+,s=c2FsdA==,i=0",
            "r=ours+,s=c2FsdA==,i=2147483648",
            "r=ours+,s=c2FsdA==",
            "e=no",
        ] {
            assert!(login().step(first.as_bytes()).is_err(), "{first}");
        }
        for last in [
            "",
            "v=",
            "v=!",
            "e=other-error",
            "v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=",
        ] {
            let challenged = login().step(b"r=ours+theirs,s=c2FsdA==,i=2").expect("a challenge");
            let (signature, _) = challenged.step(&keys);
            assert!(signature.step(last.as_bytes()).is_err(), "{last}");
        }
    }

    #[test]
    fn first_messages_are_refused_as_postgresql_does() {
        let check = |plus, end_point: Option<&[u8]>, message: &str, expect: &str| {
            let Err(report) = await_first(plus, end_point).step(message.as_bytes()) else {
                panic!("{message} is taken");
            };
            let shown = format!("{} {} {}", report.sqlstate(), report.message(), report.text(b'D'));
            assert!(shown.contains(expect), "{message}: {shown}");
        };
        let tls = Some(&b"hash"[..]);
        check(false, None, "", "08P01 malformed SCRAM message The message is empty.");
        check(false, None, "n,,n=,r=a\0b", "length does not match");
        check(false, None, "x,,n=,r=a", "Unexpected channel-binding flag \"'x'\".");
        check(false, None, "n", "Comma expected, but found character \"0x00\".");
        check(
            false,
            None,
            "n,a=root,n=,r=a",
            "0A000 client uses authorization identity",
        );
        check(
            false,
            None,
            "n,b",
            "Unexpected attribute \"'b'\" in client-first-message.",
        );
        check(
            false,
            None,
            "n,,m=1,n=,r=a",
            "0A000 client requires an unsupported SCRAM extension",
        );
        check(false, None, "n,,r=a", "Expected attribute \"n\" but found \"'r'\".");
        check(false, None, "n,,n", "Expected character \"=\" for attribute \"n\".");
        check(false, None, "n,,n=", "Expected attribute \"r\" but found \"0x00\".");
        check(false, None, "n,,n=,r=a\u{7f}", "08P01 non-printable characters");
        check(false, None, "n,,n=,r=a,1", "invalid character \"'1'\"");
        check(false, None, "n,,n=,r=a,é", "invalid character \"0xe9\"");
        check(
            false,
            None,
            "p=tls-server-end-point,,n=,r=a",
            "without channel binding, but",
        );
        check(false, tls, "y,,n=,r=a", "28000 SCRAM channel binding negotiation error");
        check(true, tls, "y,,n=,r=a", "does not include channel binding data");
        check(true, tls, "n,,n=,r=a", "does not include channel binding data");
        check(
            true,
            tls,
            "p=tls-unique,,n=,r=a",
            "unsupported SCRAM channel-binding type \"tls-unique\"",
        );
        // Without TLS, or where PLUS cannot be offered, `y` is true.
        assert!(await_first(false, None).step(b"y,,n=,r=a").is_ok());
        assert!(await_first(false, tls).step(b"n,,n=,r=a").is_ok());
    }

    #[test]
    fn final_messages_are_refused_as_postgresql_does() {
        let step = |first: &str, plus: bool, last: &str| {
            let end_point = plus.then_some(&b"hash"[..]);
            let next = await_first(plus, end_point).step(first.as_bytes());
            let (next, _) = next.expect("a first message").step(pencil().0, false);
            next.step(last.as_bytes())
        };
        let check = |last: &str, expect: &str| {
            let Err(report) = step("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", false, last) else {
                panic!("{last} is taken");
            };
            let shown = format!("{} {} {}", report.sqlstate(), report.message(), report.text(b'D'));
            assert!(shown.contains(expect), "{last}: {shown}");
        };
        check("c=eSws,r=a", "08P01 unexpected SCRAM channel-binding attribute");
        check("c=biws,x=a", "Expected attribute \"r\"");
        check("c=biws,r=a", "Attribute expected, but found end of string.");
        check("c=biws,r=a,p=????", "Malformed proof");
        check("c=biws,r=a,p=AAAA", "Malformed proof");
        check(&format!("{FINAL},x=1"), "Garbage found at the end");
        check(
            &FINAL.replace("k0,", "k1,"),
            "invalid SCRAM response Nonce does not match.",
        );
        assert!(
            step("n,,n=user,r=rOprNGfwEbeRWgbNEkqO", false, &FINAL.replace("p=d", "p=e")).is_ok_and(|p| p.is_none())
        );
        let Err(report) = step("p=tls-server-end-point,,n=,r=a", true, "c=biws,r=a") else {
            panic!("another channel is taken");
        };
        assert_eq!(report.message(), "SCRAM channel binding check failed");
    }

    #[test]
    fn passwords_of_our_own_are_prepared_and_the_work_is_bounded() {
        let keys = |password: &str, iterations| {
            let salt = b"salt".to_vec();
            Keys::of_password(password, &Salting { salt, iterations })
        };
        let same = |a: &str, b: &str| keys(a, 2).expect("keys").client_key == keys(b, 2).expect("keys").client_key;
        // RFC 4013 section 3, and what it forbids.
        assert!(same("I\u{ad}X", "IX") && same("\u{2168}", "IX") && !same("user", "USER"));
        assert!(same("a\u{7}", "a\u{7}") && !same("a\u{7}", "a"));
        assert!(keys("secret", OWN_ITERATIONS_MAX + 1).is_err_and(|error| error.contains("1000001 iterations")));
        assert!(keys("secret", 0).is_err());
    }

    #[test]
    fn verifiers_are_read() {
        let good = "SCRAM-SHA-256$4096:c2FsdA==$6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=:\
            dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";
        let verifier = Verifier::parse(good).expect("a verifier");
        let Salting { salt, iterations } = verifier.salting;
        assert_eq!((iterations, salt.as_slice()), (4096, &b"salt"[..]));
        for bad in [
            "",
            "secret",
            "md51a79a4d60de6718e8e5b326e338ae533",
            "SCRAM-SHA-256$",
            &good.replace("4096", "0"),
            &good.replace("4096", "2147483648"),
            &good.replace("4096", "many"),
            &good.replace("c2FsdA==", ""),
            &good.replace("c2FsdA==", "?"),
            &good.replace("6rri", ""),
            &good.replace(":d", "d"),
        ] {
            assert!(Verifier::parse(bad).is_none(), "{bad}");
        }
    }
}
