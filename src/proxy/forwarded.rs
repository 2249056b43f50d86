//! The PROXY protocol, version 1 and 2: what a load balancer says in front of a connection that it passes on, of the client behind it.
//!
//! It is read only of addresses that are trusted with it, and then every connection of theirs must begin with it: whoever could leave it out
//! could also make it up.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use tokio::io::{AsyncRead, AsyncReadExt};

/// Networks whose connections begin with it.
#[derive(Clone, Debug, Default)]
pub struct Trusted(Vec<(IpAddr, u8)>);

impl Trusted {
    /// `10.0.0.0/8`, `192.0.2.7`, `fd00::/8`.
    pub fn parse(texts: &[String]) -> Result<Trusted, String> {
        let one = |text: &String| {
            let wrong =
                || format!("proxy-protocol-from: `{text}` is no address and no network; write 10.0.0.0/8 or 192.0.2.7");
            let (address, bits) = match text.split_once('/') {
                Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
                None => (text.as_str(), None),
            };
            let address: IpAddr = address.trim().parse().map_err(|_| wrong())?;
            let most = if address.is_ipv4() { 32 } else { 128 };
            let bits = bits.unwrap_or(most);
            if bits > most {
                return Err(wrong());
            }
            Ok((address, bits))
        };
        texts.iter().map(one).collect::<Result<_, _>>().map(Trusted)
    }

    fn holds(&self, peer: IpAddr) -> bool {
        let peer = peer.to_canonical();
        let bits_of = |address: IpAddr| match address {
            IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
            IpAddr::V6(v6) => v6.to_bits(),
        };
        self.0.iter().any(|(network, bits)| {
            let differs = bits_of(*network) ^ bits_of(peer);
            network.is_ipv4() == peer.is_ipv4() && differs.checked_shr(128 - u32::from(*bits)).unwrap_or(0) == 0
        })
    }

    /// The client's address: that of the connection, or what its header says of the client behind it.
    pub async fn client(&self, stream: &mut (impl AsyncRead + Unpin), peer: &str) -> Result<String, String> {
        let trusted = peer.parse::<SocketAddr>().is_ok_and(|peer| self.holds(peer.ip()));
        if !trusted {
            return Ok(peer.to_owned());
        }
        let told = header(stream).await?;
        Ok(told.map_or_else(|| peer.to_owned(), |client| client.to_string()))
    }
}

const SIGNATURE: &[u8; 12] = b"\r\n\r\n\0\r\nQUIT\n";
/// With its end, as the specification has it.
const LINE_BYTES_MAX: usize = 107;
const TEXT: &[u8] = b"PROXY ";
/// What is behind the addresses is skipped, up to so much.
const REST_BYTES_MAX: usize = 4 << 10;

/// None: the balancer speaks for itself, as in a health check, or of a client without an IP address.
async fn header(stream: &mut (impl AsyncRead + Unpin)) -> Result<Option<SocketAddr>, String> {
    let lost = |error: std::io::Error| format!("the header of the PROXY protocol did not come: {error}");
    let mut begin = [0; 6];
    stream.read_exact(&mut begin).await.map_err(lost)?;
    if begin == *TEXT {
        let mut line = begin.to_vec();
        while !line.ends_with(b"\r\n") {
            if line.len() >= LINE_BYTES_MAX {
                return Err("the header of the PROXY protocol is too long".into());
            }
            line.push(stream.read_u8().await.map_err(lost)?);
        }
        return of_line(&line);
    }
    if begin != SIGNATURE[..6] {
        return Err(
            "a connection from an address of --proxy-protocol-from does not begin with the PROXY protocol".into(),
        );
    }
    let mut head = [0; 10];
    stream.read_exact(&mut head).await.map_err(lost)?;
    if head[..6] != SIGNATURE[6..] {
        return Err("the header of the PROXY protocol has another signature".into());
    }
    let len = usize::from(u16::from_be_bytes([head[8], head[9]]));
    if len > REST_BYTES_MAX {
        return Err("the header of the PROXY protocol is too long".into());
    }
    let mut rest = vec![0; len];
    stream.read_exact(&mut rest).await.map_err(lost)?;
    of_block(head[6], head[7], &rest)
}

/// `PROXY TCP4 192.0.2.7 10.0.0.1 51234 6432`
fn of_line(line: &[u8]) -> Result<Option<SocketAddr>, String> {
    let wrong = || "the header of the PROXY protocol cannot be read".to_owned();
    let text = std::str::from_utf8(line).map_err(|_| wrong())?.trim_end();
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["PROXY", "UNKNOWN", ..] => Ok(None),
        ["PROXY", "TCP4" | "TCP6", from, _, port, _] => {
            let address: IpAddr = from.parse().map_err(|_| wrong())?;
            Ok(Some(SocketAddr::new(address, port.parse().map_err(|_| wrong())?)))
        }
        _ => Err(wrong()),
    }
}

/// The second version: its version and command, its family, and what is behind its length.
fn of_block(command: u8, family: u8, rest: &[u8]) -> Result<Option<SocketAddr>, String> {
    let port = |at: usize| Some(u16::from_be_bytes(*rest.get(at..)?.first_chunk::<2>()?));
    let told = match (command, family) {
        // LOCAL
        (0x20, _) => return Ok(None),
        (0x21, 0x11) => rest
            .first_chunk::<4>()
            .map(|from| IpAddr::V4(Ipv4Addr::from(*from)))
            .zip(port(8)),
        (0x21, 0x21) => rest
            .first_chunk::<16>()
            .map(|from| IpAddr::V6(Ipv6Addr::from(*from)))
            .zip(port(32)),
        // Unix sockets, UDP, and what is not told.
        (0x21, _) => return Ok(None),
        _ => None,
    };
    let (address, port) = told.ok_or("the header of the PROXY protocol cannot be read")?;
    Ok(Some(SocketAddr::new(address, port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trusted(texts: &[&str]) -> Result<Trusted, String> {
        Trusted::parse(&texts.iter().map(|text| (*text).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn networks_hold_their_addresses() {
        let held = trusted(&["10.0.0.0/8", "192.0.2.7", "fd00::/8", "::1"]).expect("networks");
        for (peer, expect) in [
            ("10.1.2.3", true),
            ("11.1.2.3", false),
            ("192.0.2.7", true),
            ("192.0.2.8", false),
            ("::ffff:10.1.1.1", true),
            ("fd12::1", true),
            ("fe80::1", false),
            ("::1", true),
        ] {
            assert_eq!(held.holds(peer.parse().expect("an address")), expect, "{peer}");
        }
        assert!(
            trusted(&["0.0.0.0/0"])
                .expect("all")
                .holds(IpAddr::V4(Ipv4Addr::LOCALHOST))
        );
        for wrong in ["10.0.0.0/33", "here", "10.0.0/8", ""] {
            assert!(trusted(&[wrong]).is_err(), "{wrong}");
        }
    }

    #[tokio::test]
    async fn both_versions_are_read_and_nothing_behind_them() {
        let v2 = |command: u8, family: u8, rest: &[u8]| {
            [
                &SIGNATURE[..],
                &[command, family],
                &(rest.len() as u16).to_be_bytes(),
                rest,
            ]
            .concat()
        };
        let four = [
            &[192, 0, 2, 7],
            &[10, 0, 0, 1],
            &[0xc8, 0x22, 0x19, 0x20][..],
            &[3, 0, 1, 9],
        ]
        .concat();
        let six = [&[0; 15][..], &[1], &[0; 16], &[0, 80, 0, 81]].concat();
        for (bytes, expect) in [
            (
                b"PROXY TCP4 192.0.2.7 10.0.0.1 51234 6432\r\n".to_vec(),
                Ok(Some("192.0.2.7:51234")),
            ),
            (
                b"PROXY TCP6 2001:db8::7 ::1 1 2\r\n".to_vec(),
                Ok(Some("[2001:db8::7]:1")),
            ),
            (b"PROXY UNKNOWN\r\n".to_vec(), Ok(None)),
            (v2(0x21, 0x11, &four), Ok(Some("192.0.2.7:51234"))),
            (v2(0x21, 0x21, &six), Ok(Some("[::1]:80"))),
            (v2(0x20, 0, &[]), Ok(None)),
            (v2(0x21, 0x31, &[0; 216]), Ok(None)),
            (v2(0x21, 0x11, &[1, 2, 3]), Err(())),
            (v2(0x11, 0x11, &four), Err(())),
            (b"PROXY TCP4 a b 1 2\r\n".to_vec(), Err(())),
            ([b"PROXY ", [b'x'; 200].as_slice()].concat(), Err(())),
            (b"\0\0\0\x08\x04\xd2\x16\x2f".to_vec(), Err(())),
            (b"PRO".to_vec(), Err(())),
        ] {
            let all = [bytes.as_slice(), b"!"].concat();
            let mut stream = all.as_slice();
            let read = header(&mut stream).await;
            let expect = expect.map(|text| text.map(|text| text.parse::<SocketAddr>().expect("an address")));
            assert_eq!(read.clone().map_err(|_| ()), expect, "{bytes:?}: {read:?}");
            if read.is_ok() {
                assert_eq!(stream, b"!", "{bytes:?}");
            }
        }
    }
}
