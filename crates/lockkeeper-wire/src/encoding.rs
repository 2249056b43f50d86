//! In which encoding a client reads the texts that the proxy writes itself, and how they get there from UTF-8. Pure.

use bytes::{BufMut, BytesMut};

/// What becomes of the characters beyond ASCII, which every client_encoding has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Utf8,
    Latin1,
    /// Nothing is known of them, or nothing is agreed yet.
    Ascii,
}

impl Encoding {
    /// As the server reports client_encoding and server_encoding.
    pub fn of(client: &str, server: &str) -> Encoding {
        match client {
            "UTF8" | "UNICODE" => Encoding::Utf8,
            "LATIN1" => Encoding::Latin1,
            // The server sends its own characters as they are.
            "SQL_ASCII" if server != "SQL_ASCII" => Encoding::of(server, "SQL_ASCII"),
            _ => Encoding::Ascii,
        }
    }

    /// What the encoding lacks is spelled in ASCII where that reads the same, else a `?`, as the server's own last resort is.
    /// NUL bytes, which end a string on the wire, are left out.
    pub fn put(self, out: &mut BytesMut, text: &str) {
        for c in text.chars().filter(|c| *c != '\0') {
            match (self, c) {
                (_, '\0'..='\x7f') => out.put_u8(c as u8),
                (Encoding::Utf8, _) => out.put_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
                (Encoding::Latin1, '\u{80}'..='\u{ff}') => out.put_u8(c as u8),
                (_, '…') => out.put_slice(b"..."),
                (_, '–') => out.put_u8(b'-'),
                _ => out.put_u8(b'?'),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_arrives_in_the_client_s_encoding_or_in_ascii() {
        let check = |client: &str, server: &str, expect: &[u8]| {
            let mut out = BytesMut::new();
            Encoding::of(client, server).put(&mut out, "a\0b é ż … 13–18");
            assert_eq!(out, expect, "{client} {server}");
        };
        let as_it_is = "ab é ż … 13–18".as_bytes();
        check("UTF8", "LATIN1", as_it_is);
        check("UNICODE", "UTF8", as_it_is);
        check("SQL_ASCII", "UTF8", as_it_is);
        check("LATIN1", "UTF8", b"ab \xe9 ? ... 13-18");
        check("SQL_ASCII", "LATIN1", b"ab \xe9 ? ... 13-18");
        for (client, server) in [
            ("LATIN2", "UTF8"),
            ("SJIS", "UTF8"),
            ("SQL_ASCII", "SQL_ASCII"),
            ("", ""),
        ] {
            check(client, server, b"ab ? ? ... 13-18");
        }
    }
}
