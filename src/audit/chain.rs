//! How the lines of a log hang together: each carries a number, the hash of the line before, and its own.
//!
//! The hash is the SHA-256 of the line's bytes up to `,"hash":"`; so it covers the hash before, and a line's own change
//! can be told from one that is missing. SHA-256 and not BLAKE3: on lines of one or two kilobytes it is as fast where the
//! processor has instructions for it, and `sha256sum` is everywhere. Start at [`seal`] and [`read`].

use ring::digest::{SHA256, digest};

/// Of the events' format. A reader takes what it knows and leaves out what it does not.
pub const VERSION: u32 = 1;
const HEX: &[u8; 16] = b"0123456789abcdef";
const HASH_KEY: &[u8] = b",\"hash\":\"";
/// `,"hash":"`, 64 digits, `"}`.
const SEAL_BYTES: usize = HASH_KEY.len() + 64 + 2;

pub type Hash = [u8; 32];

/// The end of the chain so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Of the last line; the first one has 1.
    pub seq: u64,
    pub hash: Hash,
}

/// A line that has the chain's form; whether its hash is true, [`Line::holds`] tells.
#[derive(Clone, Copy, Debug)]
pub struct Line<'a> {
    pub link: Link,
    pub prev: Hash,
    /// What is hashed.
    pub sealed: &'a [u8],
    /// `"time":…` up to the hash: the event itself, without the braces.
    pub body: &'a [u8],
}

impl Line<'_> {
    pub fn holds(&self) -> bool {
        sha256(self.sealed) == self.link.hash
    }
}

pub fn sha256(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest(&SHA256, bytes).as_ref());
    hash
}

/// Appends the next line of the chain, with its newline. `object` is the event as a JSON object.
pub fn seal(link: Link, object: &[u8], out: &mut Vec<u8>) -> Link {
    let start = out.len();
    let seq = link.seq + 1;
    out.extend_from_slice(format!("{{\"v\":{VERSION},\"seq\":{seq},\"prev\":\"").as_bytes());
    put_hex(&link.hash, out);
    out.extend_from_slice(b"\",");
    out.extend_from_slice(object.get(1..object.len().saturating_sub(1)).unwrap_or_default());
    let hash = sha256(&out[start..]);
    out.extend_from_slice(HASH_KEY);
    put_hex(&hash, out);
    out.extend_from_slice(b"\"}\n");
    Link { seq, hash }
}

/// A line without its newline.
pub fn read(line: &[u8]) -> Option<Line<'_>> {
    let (version, rest) = digits(line.strip_prefix(b"{\"v\":")?)?;
    let (seq, rest) = digits(rest.strip_prefix(b",\"seq\":")?)?;
    let rest = rest.strip_prefix(b",\"prev\":\"")?;
    let prev = hash_of_hex(rest.get(..64)?)?;
    let body = rest.get(64..)?.strip_prefix(b"\",")?;
    let body = body.get(..body.len().checked_sub(SEAL_BYTES)?)?;
    let (sealed, seal) = line.split_at_checked(line.len().checked_sub(SEAL_BYTES)?)?;
    let hash = hash_of_hex(seal.strip_prefix(HASH_KEY)?.strip_suffix(b"\"}")?)?;
    (version > 0 && seq > 0).then_some(Line {
        link: Link { seq, hash },
        prev,
        sealed,
        body,
    })
}

fn digits(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let end = bytes.iter().position(|byte| !byte.is_ascii_digit())?;
    let (digits, rest) = bytes.split_at(end);
    Some((std::str::from_utf8(digits).ok()?.parse().ok()?, rest))
}

pub fn hex(hash: &Hash) -> String {
    let mut out = Vec::with_capacity(64);
    put_hex(hash, &mut out);
    String::from_utf8(out).unwrap_or_default()
}

fn put_hex(hash: &Hash, out: &mut Vec<u8>) {
    for byte in hash {
        out.push(HEX[usize::from(byte >> 4)]);
        out.push(HEX[usize::from(byte & 15)]);
    }
}

/// 64 digits, in lower case as they are written.
pub fn hash_of_hex(text: &[u8]) -> Option<Hash> {
    let mut hash = Hash::default();
    if text.len() != 64 {
        return None;
    }
    for (byte, pair) in hash.iter_mut().zip(text.chunks_exact(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(hash)
}

fn digit(byte: u8) -> Option<u8> {
    match byte {
        b'0'..=b'9' => Some(byte - b'0'),
        b'a'..=b'f' => Some(byte - b'a' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sealed_is_read_back_and_a_change_shows() {
        let mut out = Vec::new();
        let first = seal(Link::default(), b"{\"time\":\"a\"}", &mut out);
        let at = out.len();
        let second = seal(first, b"{\"time\":\"b\"}", &mut out);
        let (one, two) = (&out[..at - 1], &out[at..out.len() - 1]);
        let (line, next) = (read(one).unwrap(), read(two).unwrap());
        assert_eq!((line.link, line.prev), (first, Hash::default()));
        assert_eq!((next.link, next.prev, next.link.seq), (second, first.hash, 2));
        assert_eq!(next.body, b"\"time\":\"b\"");
        assert!(line.holds() && next.holds());
        assert!(serde_json::from_slice::<serde_json::Value>(two).is_ok());
        // Whatever single bit is turned, either the form or the hash is wrong.
        for at in 0..two.len() {
            for bit in 0..8 {
                let mut changed = two.to_vec();
                changed[at] ^= 1 << bit;
                assert!(
                    read(&changed).is_none_or(|line| !line.holds() || line.link != second),
                    "{at}"
                );
            }
        }
        for end in 0..two.len() {
            assert!(read(&two[..end]).is_none());
        }
    }

    #[test]
    fn the_hash_is_what_sha256sum_says() {
        assert_eq!(
            hex(&sha256(b"abc")),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
        assert_eq!(hash_of_hex(hex(&sha256(b"abc")).as_bytes()), Some(sha256(b"abc")));
        assert_eq!(hash_of_hex(&[b'A'; 64]), None);
    }
}
