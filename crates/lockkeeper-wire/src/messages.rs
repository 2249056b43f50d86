//! Messages on the wire (manual chapter 55): reading the few that are read, building the few that are built.
//!
//! The stream itself is framed by the relay, which forwards raw bytes. Everything that a peer sent is checked
//! here: a body is exactly one frame, strings end within it.

use crate::encoding::Encoding;
use bytes::{BufMut, BytesMut};
use pgwire::messages::Message;
use pgwire::messages::extendedquery::{Close, Execute, Flush, Sync};
use pgwire::messages::response::{CommandComplete, ReadyForQuery, TransactionStatus};

/// Type byte and length of a frame, where the length counts itself but not the type byte.
pub const HEADER: usize = 5;

/// The whole length of the frame that starts at `bytes`, or None for a length that no message can have.
pub fn frame_len(bytes: &[u8; HEADER]) -> Option<usize> {
    let len = i32::from_be_bytes([bytes[1], bytes[2], bytes[3], bytes[4]]);
    (len >= 4).then(|| len as usize + 1)
}

/// The length of the whole DataRow and CopyData messages that come first: of these, most of what a server says, nothing is
/// of interest but where they end.
pub fn rows_len(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let [b'D' | b'd', ..] = rest
        && let Some(len) = rest.first_chunk().and_then(frame_len)
        && let Some(after) = rest.get(len..)
    {
        rest = after;
    }
    bytes.len() - rest.len()
}

/// The bytes before the first NUL and those after it.
pub fn c_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let nul = memchr::memchr(0, bytes)?;
    Some((&bytes[..nul], &bytes[nul + 1..]))
}

/// The text of a Query frame; None if the body is not one string that ends with the frame. The server answers such
/// a frame with 08P01 and runs none of it.
pub fn query_text(frame: &[u8]) -> Option<&[u8]> {
    match c_string(frame.get(HEADER..)?)? {
        (text, []) => Some(text),
        _ => None,
    }
}

pub struct ParseMessage<'a> {
    pub name: &'a [u8],
    pub text: &'a [u8],
    /// The parameter types: their number and OIDs as they were sent.
    pub types: &'a [u8],
}

/// None for a body that the server refuses with 08P01.
pub fn parse_message(frame: &[u8]) -> Option<ParseMessage<'_>> {
    let (name, rest) = c_string(frame.get(HEADER..)?)?;
    let (text, types) = c_string(rest)?;
    let count = u16::from_be_bytes([*types.first()?, *types.get(1)?]) as usize;
    (types.len() == 2 + 4 * count).then_some(ParseMessage { name, text, types })
}

/// Portal and statement of a Bind; only the front of the frame has to be there.
pub fn bind_names(frame: &[u8]) -> Option<(&[u8], &[u8])> {
    let (portal, rest) = c_string(frame.get(HEADER..)?)?;
    Some((portal, c_string(rest)?.0))
}

/// The parameter formats and values of a whole Bind frame as they were sent, without the result formats.
pub fn bind_parameters(frame: &[u8]) -> Option<&[u8]> {
    let (_, rest) = c_string(frame.get(HEADER..)?)?;
    let (_, body) = c_string(rest)?;
    let number = |at: usize| Some(u16::from_be_bytes([*body.get(at)?, *body.get(at + 1)?]) as usize);
    let mut at = 2 + 2 * number(0)?;
    let values = number(at)?;
    at += 2;
    for _ in 0..values {
        let len = i32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?);
        at += 4 + usize::try_from(len).unwrap_or(0);
    }
    body.get(..at)
}

/// Of what [`bind_parameters`] gives, for people: text as it is, binary values in hexadecimal, long ones cut. Only the first
/// hundred.
pub fn bound_values(parameters: &[u8]) -> Vec<Option<String>> {
    const VALUES_MAX: usize = 100;
    const VALUE_BYTES_MAX: usize = 1_000;
    let number = |at: usize| Some(u16::from_be_bytes([*parameters.get(at)?, *parameters.get(at + 1)?]));
    let formats = number(0).unwrap_or(0) as usize;
    let is_binary = |n: usize| match formats {
        0 => false,
        1 => number(2) == Some(1),
        _ => number(2 + 2 * n) == Some(1),
    };
    let mut at = 2 + 2 * formats;
    let count = number(at).unwrap_or(0) as usize;
    at += 2;
    let mut next = |n: usize| -> Option<Option<String>> {
        let length = i32::from_be_bytes(parameters.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        let Ok(length) = usize::try_from(length) else {
            return Some(None);
        };
        let value = parameters.get(at..at + length)?;
        at += length;
        let shown = &value[..length.min(VALUE_BYTES_MAX)];
        let mut text = match is_binary(n) {
            true => shown
                .iter()
                .fold("\\x".to_owned(), |text, byte| text + &format!("{byte:02x}")),
            false => String::from_utf8_lossy(shown).into_owned(),
        };
        if shown.len() < length {
            text.push_str(&format!(" … [{length} bytes]"));
        }
        Some(Some(text))
    };
    (0..count.min(VALUES_MAX)).map_while(&mut next).collect()
}

/// The result formats of a whole Bind frame as they were sent.
pub fn bind_results(frame: &[u8]) -> Option<&[u8]> {
    let (_, rest) = c_string(frame.get(HEADER..)?)?;
    let (_, body) = c_string(rest)?;
    body.get(bind_parameters(frame)?.len()..)
}

/// How many rows an Execute asks for; 0 = all.
pub fn execute_rows(frame: &[u8]) -> Option<i32> {
    let (_, rows) = c_string(frame.get(HEADER..)?)?;
    Some(i32::from_be_bytes(*rows.first_chunk()?))
}

/// The portal of an Execute, or the name after the kind byte of a Close or Describe.
pub fn portal_name(frame: &[u8]) -> Option<&[u8]> {
    c_string(frame.get(HEADER..)?).map(|(name, _)| name)
}

pub fn close_target(frame: &[u8]) -> Option<(u8, &[u8])> {
    let kind = *frame.get(HEADER)?;
    c_string(frame.get(HEADER + 1..)?).map(|(name, _)| (kind, name))
}

pub const AUTHENTICATION_OK: u32 = 0;
pub const AUTHENTICATION_CLEARTEXT: u32 = 3;
pub const AUTHENTICATION_MD5: u32 = 5;
pub const AUTHENTICATION_SASL: u32 = 10;
pub const AUTHENTICATION_SASL_CONTINUE: u32 = 11;
pub const AUTHENTICATION_SASL_FINAL: u32 = 12;

/// Which of the server's authentication messages this whole frame is.
pub fn authentication(frame: &[u8]) -> Option<u32> {
    let code = frame.get(HEADER..)?.first_chunk()?;
    Some(u32::from_be_bytes(*code))
}

/// A whole AuthenticationSASL without the mechanisms that need channel binding; None if it has none, or no others.
pub fn without_channel_binding(frame: &[u8]) -> Option<BytesMut> {
    let offered = mechanisms(frame);
    let kept: Vec<_> = offered
        .iter()
        .filter(|mechanism| !mechanism.ends_with(b"-PLUS"))
        .collect();
    if kept.is_empty() || kept.len() == offered.len() {
        return None;
    }
    let mut out = BytesMut::new();
    put_frame(&mut out, b'R', |b| {
        b.put_u32(AUTHENTICATION_SASL);
        for mechanism in kept {
            put_c_string(b, mechanism);
        }
        b.put_u8(0);
    });
    Some(out)
}

/// The mechanisms of a whole AuthenticationSASL.
pub fn mechanisms(frame: &[u8]) -> Vec<&[u8]> {
    let mut rest = frame.get(HEADER + 4..).unwrap_or_default();
    let mut found = Vec::new();
    while let Some((mechanism, after)) = c_string(rest).filter(|(mechanism, _)| !mechanism.is_empty()) {
        found.push(mechanism);
        rest = after;
    }
    found
}

pub fn put_authentication(out: &mut BytesMut, code: u32, data: &[u8]) {
    put_frame(out, b'R', |b| {
        b.put_u32(code);
        b.put_slice(data);
    });
}

pub fn put_sasl_initial_response(out: &mut BytesMut, mechanism: &str, data: &[u8]) {
    put_frame(out, b'p', |b| {
        put_c_string(b, mechanism.as_bytes());
        b.put_i32(data.len() as i32);
        b.put_slice(data);
    });
}

/// Builds a frame: the length is filled in after the body.
pub fn put_frame(out: &mut BytesMut, tag: u8, body: impl FnOnce(&mut BytesMut)) {
    let start = out.len();
    out.put_u8(tag);
    out.put_i32(0);
    body(out);
    let len = (out.len() - start - 1) as i32;
    out[start + 1..start + HEADER].copy_from_slice(&len.to_be_bytes());
}

fn put_c_string(out: &mut BytesMut, bytes: &[u8]) {
    out.put_slice(bytes);
    out.put_u8(0);
}

pub fn put_query(out: &mut BytesMut, text: &[u8]) {
    put_frame(out, b'Q', |b| put_c_string(b, text));
}

/// `types` is the count and the OIDs as a client sent them, or empty for none.
pub fn put_parse(out: &mut BytesMut, name: &[u8], text: &[u8], types: &[u8]) {
    put_frame(out, b'P', |b| {
        put_c_string(b, name);
        put_c_string(b, text);
        b.put_slice(if types.is_empty() { &[0, 0] } else { types });
    });
}

/// `parameters` as [`bind_parameters`] gives them, or empty for none; `results` as [`bind_results`], or empty for text.
pub fn put_bind(out: &mut BytesMut, portal: &[u8], statement: &[u8], parameters: &[u8], results: &[u8]) {
    put_frame(out, b'B', |b| {
        put_c_string(b, portal);
        put_c_string(b, statement);
        b.put_slice(if parameters.is_empty() {
            &[0, 0, 0, 0]
        } else {
            parameters
        });
        b.put_slice(if results.is_empty() { &[0, 0] } else { results });
    });
}

/// How many values `parameters` has, as [`put_bind`] takes them. None: it cannot be read.
pub fn parameter_count(parameters: &[u8]) -> Option<usize> {
    let number = |at: usize| Some(u16::from_be_bytes(*parameters.get(at..)?.first_chunk()?) as usize);
    match parameters {
        [] => Some(0),
        _ => number(2 + 2 * number(0)?),
    }
}

/// More values behind those of `parameters`, as text. None: they are too many, or cannot be read.
pub fn with_more_parameters(parameters: &[u8], more: &[String]) -> Option<Vec<u8>> {
    let parameters = if parameters.is_empty() { &[0; 4] } else { parameters };
    let count = parameter_count(parameters)?;
    let formats = u16::from_be_bytes(*parameters.first_chunk()?) as usize;
    let (before, values) = parameters.get(2..)?.split_at_checked(2 * formats)?;
    let all = u16::try_from(count + more.len()).ok()?;
    let mut out = all.to_be_bytes().to_vec();
    match formats {
        0 => out.resize(2 + 2 * count, 0),
        // One for all of them.
        1 => (0..count).for_each(|_| out.extend_from_slice(before)),
        _ => out.extend_from_slice(before),
    }
    out.resize(2 + 2 * usize::from(all), 0);
    out.extend_from_slice(&all.to_be_bytes());
    out.extend_from_slice(values.get(2..)?);
    for value in more {
        out.extend_from_slice(&(value.len() as u32).to_be_bytes());
        out.extend_from_slice(value.as_bytes());
    }
    Some(out)
}

/// Types and values of a statement's parameters for another text, which takes only some of them: a value that is not `taken` and has no
/// type is NULL and text, since the server cannot tell a type of what it does not find. None: nothing is to be changed, or read.
pub fn only_taken(types: &[u8], values: &[u8], taken: impl Fn(usize) -> bool) -> Option<(Vec<u8>, Vec<u8>)> {
    const NO_TYPES: [u32; 2] = [0, 705];
    const TEXT: u32 = 25;
    let count = parameter_count(values)?;
    let given = types.get(2..).unwrap_or_default();
    let declared = |at: usize| {
        let oid = given.get(4 * at..).and_then(|rest| rest.first_chunk());
        oid.map_or(0, |oid| u32::from_be_bytes(*oid))
    };
    let left_out = |at: usize| NO_TYPES.contains(&declared(at)) && !taken(at);
    if !(0..count).any(left_out) {
        return None;
    }
    let all = count.max(given.len() / 4);
    let mut out_types = u16::try_from(all).ok()?.to_be_bytes().to_vec();
    for at in 0..all {
        let oid = if at < count && left_out(at) { TEXT } else { declared(at) };
        out_types.extend_from_slice(&oid.to_be_bytes());
    }
    let formats = u16::from_be_bytes(*values.first_chunk()?) as usize;
    let mut at = 4 + 2 * formats;
    let mut out = values.get(..at)?.to_vec();
    for parameter in 0..count {
        let len = i32::from_be_bytes(*values.get(at..)?.first_chunk()?);
        let end = at + 4 + usize::try_from(len).unwrap_or(0);
        let value = values.get(at..end)?;
        out.extend_from_slice(if left_out(parameter) { &[0xff; 4] } else { value });
        at = end;
    }
    Some((out_types, out))
}

/// The whole packet of a CancelRequest, for the key of a BackendKeyData message.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    const CODE: u32 = 80_877_102;
    let mut out = ((8 + key.len()) as u32).to_be_bytes().to_vec();
    out.extend_from_slice(&CODE.to_be_bytes());
    out.extend_from_slice(key);
    out
}

/// Result formats for as many more columns, which come as text unless one format is for all.
pub fn with_more_columns(results: &[u8], more: usize) -> Vec<u8> {
    let count = results
        .first_chunk::<2>()
        .map_or(0, |count| u16::from_be_bytes(*count) as usize);
    if count <= 1 {
        return results.to_vec();
    }
    let mut out = ((count + more) as u16).to_be_bytes().to_vec();
    out.extend_from_slice(&results[2..]);
    out.resize(out.len() + 2 * more, 0);
    out
}

/// A whole RowDescription or DataRow without so many columns at its end. None if it has not so many or cannot be read.
pub fn put_without_last_columns(out: &mut BytesMut, frame: &[u8], cut: usize) -> Option<()> {
    let body = frame.get(HEADER..)?;
    let count = u16::from_be_bytes(*body.first_chunk()?) as usize;
    let kept = count.checked_sub(cut)?;
    let mut rest = &body[2..];
    for _ in 0..kept {
        let len = match frame[0] {
            // Table, column, type, its length, its modifier and the format follow the name.
            b'T' => c_string(rest)?.0.len() + 1 + 18,
            _ => 4 + usize::try_from(i32::from_be_bytes(*rest.first_chunk()?)).unwrap_or(0),
        };
        rest = rest.get(len..)?;
    }
    let end = body.len() - rest.len();
    put_frame(out, frame[0], |b| {
        b.put_u16(kept as u16);
        b.put_slice(&body[2..end]);
    });
    Some(())
}

/// Encodes one of pgwire's own messages; those used here have a fixed form, so that encoding cannot fail.
fn put(out: &mut BytesMut, message: impl Message) {
    message.encode(out).expect("a message of fixed form");
}

pub fn put_describe_portal(out: &mut BytesMut, portal: &[u8]) {
    put_frame(out, b'D', |b| {
        b.put_u8(b'P');
        put_c_string(b, portal);
    });
}

pub fn put_execute(out: &mut BytesMut, portal: &str) {
    put(out, Execute::new(Some(portal.to_owned()), 0));
}

pub fn put_close(out: &mut BytesMut, kind: u8, name: &str) {
    put(out, Close::new(kind, Some(name.to_owned())));
}

pub fn put_sync(out: &mut BytesMut) {
    put(out, Sync::new());
}

pub fn put_flush(out: &mut BytesMut) {
    put(out, Flush::new());
}

pub fn put_command_complete(out: &mut BytesMut, tag: &str) {
    put(out, CommandComplete::new(tag.to_owned()));
}

/// `status` is the server's own byte from its last ReadyForQuery: I, T or E.
pub fn put_ready(out: &mut BytesMut, status: u8) {
    let status = match status {
        b'T' => TransactionStatus::Transaction,
        b'E' => TransactionStatus::Error,
        _ => TransactionStatus::Idle,
    };
    put(out, ReadyForQuery::new(status));
}

/// The fields of an ErrorResponse or NoticeResponse (manual section 55.8).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Field {
    code: u8,
    text: Vec<u8>,
    /// So many bytes at its beginning are the peer's own, in the client's encoding. The rest is ours, in UTF-8.
    as_is: usize,
}

impl Report {
    pub fn error(sqlstate: &str, message: &str) -> Report {
        Report::with_severity("ERROR", sqlstate, message)
    }

    pub fn fatal(sqlstate: &str, message: &str) -> Report {
        Report::with_severity("FATAL", sqlstate, message)
    }

    /// The same, of a session that ends with it.
    pub fn made_fatal(mut self) -> Report {
        self.set(b'S', "FATAL");
        self.set(b'V', "FATAL");
        self
    }

    pub fn notice(message: &str) -> Report {
        Report::with_severity("NOTICE", "00000", message)
    }

    pub fn warning(sqlstate: &str, message: &str) -> Report {
        Report::with_severity("WARNING", sqlstate, message)
    }

    fn with_severity(severity: &str, sqlstate: &str, message: &str) -> Report {
        let mut report = Report::default();
        for (field, text) in [(b'S', severity), (b'V', severity), (b'C', sqlstate), (b'M', message)] {
            report.set(field, text);
        }
        report
    }

    /// Of a whole frame. What does not end within the frame is left out.
    pub fn of_frame(frame: &[u8]) -> Report {
        let mut report = Report::default();
        let mut rest = frame.get(HEADER..).unwrap_or_default();
        while let Some((&field, after)) = rest.split_first() {
            let Some((text, next)) = c_string(after).filter(|_| field != 0) else {
                break;
            };
            let as_is = text.len();
            report.fields.push(Field {
                code: field,
                text: text.to_vec(),
                as_is,
            });
            rest = next;
        }
        report
    }

    pub fn get(&self, field: u8) -> Option<&[u8]> {
        self.fields.iter().find(|f| f.code == field).map(|f| f.text.as_slice())
    }

    pub fn text(&self, field: u8) -> String {
        String::from_utf8_lossy(self.get(field).unwrap_or_default()).into_owned()
    }

    pub fn sqlstate(&self) -> String {
        self.text(b'C')
    }

    pub fn message(&self) -> String {
        self.text(b'M')
    }

    /// Sets a field.
    pub fn set(&mut self, field: u8, text: &str) {
        self.put_in_place(field, text.as_bytes().to_vec(), 0);
    }

    /// The same in the client's own bytes, which hold no NUL.
    pub fn set_as_is(&mut self, field: u8, text: Vec<u8>) {
        let as_is = text.len();
        self.put_in_place(field, text, as_is);
    }

    fn put_in_place(&mut self, code: u8, text: Vec<u8>, as_is: usize) {
        let new = Field { code, text, as_is };
        match self.fields.iter_mut().find(|f| f.code == code) {
            Some(slot) => *slot = new,
            None => self.fields.push(new),
        }
    }

    pub fn remove(&mut self, field: u8) {
        self.fields.retain(|f| f.code != field);
    }

    /// Adds a paragraph to DETAIL or HINT.
    pub fn append(&mut self, field: u8, text: &str) {
        match self.fields.iter_mut().find(|f| f.code == field) {
            Some(Field { text: whole, .. }) => {
                if !whole.is_empty() {
                    whole.push(b'\n');
                }
                whole.extend_from_slice(text.as_bytes());
            }
            None => self.set(field, text),
        }
    }

    pub fn detail(mut self, text: &str) -> Report {
        self.append(b'D', text);
        self
    }

    pub fn hint(mut self, text: &str) -> Report {
        self.append(b'H', text);
        self
    }

    /// Moves the error position (field P, in characters from 1) that PostgreSQL gave for a text which began later.
    pub fn shift_position(&mut self, characters: usize) {
        if let Some(position) = self
            .get(b'P')
            .and_then(|p| std::str::from_utf8(p).ok()?.parse::<usize>().ok())
        {
            self.set(b'P', &(position + characters).to_string());
        }
    }

    pub fn put_error(&self, out: &mut BytesMut, encoding: Encoding) {
        self.put(out, b'E', encoding);
    }

    pub fn put_notice(&self, out: &mut BytesMut, encoding: Encoding) {
        self.put(out, b'N', encoding);
    }

    pub fn put(&self, out: &mut BytesMut, tag: u8, encoding: Encoding) {
        put_frame(out, tag, |b| {
            for field in &self.fields {
                let (as_is, ours) = field.text.split_at(field.as_is);
                b.put_u8(field.code);
                b.put_slice(as_is);
                encoding.put(b, &String::from_utf8_lossy(ours));
                b.put_u8(0);
            }
            b.put_u8(0);
        });
    }
}

/// The columns of a DataRow as text; None for a body that does not add up.
pub fn data_row(frame: &[u8]) -> Option<Vec<Option<String>>> {
    let body = frame.get(HEADER..)?;
    let count = u16::from_be_bytes([*body.first()?, *body.get(1)?]);
    let mut at = 2;
    let mut row = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let len = i32::from_be_bytes(body.get(at..at + 4)?.try_into().ok()?);
        at += 4;
        row.push(match usize::try_from(len) {
            Ok(len) => {
                let value = body.get(at..at + len)?;
                at += len;
                Some(String::from_utf8_lossy(value).into_owned())
            }
            Err(_) => None,
        });
    }
    Some(row)
}

#[cfg(test)]
mod tests {
    use super::*;
    use pgwire::messages::DecodeContext;
    use pgwire::messages::extendedquery::{Bind, Parse};
    use pgwire::messages::response::ErrorResponse;

    #[test]
    fn what_is_built_is_read_back_by_an_independent_codec() {
        let mut out = BytesMut::new();
        put_parse(&mut out, b"s", b"SELECT $1", &[0, 1, 0, 0, 0, 23]);
        let parse = Parse::decode(&mut out, &DecodeContext::default()).unwrap().unwrap();
        assert_eq!(
            (parse.name.as_deref(), parse.query.as_str(), parse.type_oids.as_slice()),
            (Some("s"), "SELECT $1", &[23][..])
        );

        put_bind(&mut out, b"p", b"s", &[0, 0, 0, 1, 0, 0, 0, 1, b'7'], &[0, 1, 0, 1]);
        let frame = out.clone();
        let bind = Bind::decode(&mut out, &DecodeContext::default()).unwrap().unwrap();
        assert_eq!(
            (bind.portal_name.as_deref(), bind.statement_name.as_deref()),
            (Some("p"), Some("s"))
        );
        assert_eq!(bind_names(&frame), Some((&b"p"[..], &b"s"[..])));
        assert_eq!(bind_parameters(&frame), Some(&[0, 0, 0, 1, 0, 0, 0, 1, b'7'][..]));
        assert_eq!(bind_results(&frame), Some(&[0, 1, 0, 1][..]));

        Report::error("55P03", "no\0t now")
            .detail("a")
            .detail("b")
            .put_error(&mut out, Encoding::Utf8);
        let frame = out.clone();
        let error = ErrorResponse::decode(&mut out, &DecodeContext::default())
            .unwrap()
            .unwrap();
        assert!(error.fields.contains(&(b'M', "not now".into())) && error.fields.contains(&(b'D', "a\nb".into())));
        assert_eq!(Report::of_frame(&frame).sqlstate(), "55P03");
    }

    #[test]
    fn bodies_that_do_not_add_up_are_refused() {
        assert_eq!(query_text(b"Q\0\0\0\x0fSELECT 1\0Q..\0"), None);
        assert_eq!(query_text(b"Q\0\0\0\x0cSELECT 1"), None);
        assert_eq!(query_text(b"Q\0\0\0\x0dSELECT 1\0"), Some(&b"SELECT 1"[..]));
        assert!(parse_message(b"P\0\0\0\x08a\0b\0").is_none());
        assert!(parse_message(b"P\0\0\0\x08a\0b\0\0\x01").is_none());
        assert!(bind_parameters(b"B\0\0\0\x08\0\0\0\0\0\x01\xff").is_none());
        for len in [0u32, 3, 0xffff_ffff, 0x8000_0000] {
            let [a, b, c, d] = len.to_be_bytes();
            assert_eq!(frame_len(&[b'Q', a, b, c, d]), None);
        }
    }

    #[test]
    fn more_parameters_stand_behind_those_of_the_client() {
        let check = |parameters: &[u8], more: &[&str], formats: &[i16], values: &[&[u8]]| {
            let more: Vec<String> = more.iter().map(|value| value.to_string()).collect();
            let mut out = BytesMut::new();
            put_bind(
                &mut out,
                b"",
                b"s",
                &with_more_parameters(parameters, &more).unwrap(),
                &[],
            );
            let bind = Bind::decode(&mut out, &DecodeContext::default()).unwrap().unwrap();
            assert_eq!(bind.parameter_format_codes, formats);
            let bound: Vec<&[u8]> = bind.parameters.iter().flatten().map(|value| &value[..]).collect();
            assert_eq!(bound, values);
        };
        check(&[], &["a", ""], &[0, 0], &[b"a", b""]);
        check(b"\0\0\0\x01\0\0\0\x01x", &["a"], &[0, 0], &[b"x", b"a"]);
        check(b"\0\x01\0\x01\0\x01\0\0\0\x01x", &["a"], &[1, 0], &[b"x", b"a"]);
        let two = b"\0\x02\0\0\0\x01\0\x02\0\0\0\x01x\xff\xff\xff\xff";
        check(two, &["a"], &[0, 1, 0], &[b"x", b"a"]);
        assert_eq!(parameter_count(two), Some(2));
        assert_eq!(parameter_count(&[]), Some(0));
        assert!(with_more_parameters(b"\0\x02\0", &[]).is_none());
        assert!(with_more_parameters(two, &vec![String::new(); 65_534]).is_none());
    }

    #[test]
    fn what_is_not_taken_is_null() {
        let values = b"\0\x01\0\x01\0\x03\0\0\0\x01a\0\0\0\x02bc\xff\xff\xff\xff";
        let types = b"\0\x01\0\0\0\0";
        let (typed, valued) = only_taken(types, values, |at| at == 1).unwrap();
        assert_eq!(typed, b"\0\x03\0\0\0\x19\0\0\0\0\0\0\0\x19");
        assert_eq!(
            valued,
            b"\0\x01\0\x01\0\x03\xff\xff\xff\xff\0\0\0\x02bc\xff\xff\xff\xff"
        );
        assert_eq!(only_taken(types, values, |_| true), None);
        assert_eq!(
            only_taken(b"\0\x03\0\0\0\x17\0\0\0\x17\0\0\0\x17", values, |_| false),
            None
        );
        assert_eq!(only_taken(b"", b"", |_| false), None);
        assert_eq!(only_taken(types, &values[..12], |_| false), None, "cut off");
    }

    #[test]
    fn rows_end_where_something_else_begins() {
        let check = |bytes: &[u8], expect: usize| assert_eq!(rows_len(bytes), expect, "{}", bytes.escape_ascii());
        check(b"", 0);
        check(b"D\0\0\0\x06\0\0", 7);
        check(b"D\0\0\0\x04d\0\0\0\x05xC\0\0\0\x04", 11);
        check(b"D\0\0\0\x04D\0\0\0\x05", 5);
        check(b"D\0\0\0\x04D\0\0", 5);
        check(b"D\0\0\0\x03D\0\0\0\x04", 0);
        check(b"D\xff\xff\xff\xff", 0);
        check(b"Z\0\0\0\x05I", 0);
    }

    #[test]
    fn channel_binding_is_taken_out_of_the_offer() {
        let offer = |mechanisms: &[u8]| {
            let mut out = BytesMut::new();
            put_frame(&mut out, b'R', |b| b.put_slice(&[&[0, 0, 0, 10], mechanisms].concat()));
            out
        };
        assert_eq!(
            without_channel_binding(&offer(b"SCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0")),
            Some(offer(b"SCRAM-SHA-256\0\0"))
        );
        assert_eq!(without_channel_binding(&offer(b"SCRAM-SHA-256\0\0")), None);
        assert_eq!(without_channel_binding(&offer(b"SCRAM-SHA-256-PLUS\0\0")), None);
        assert_eq!(without_channel_binding(&offer(b"SCRAM")), None);
        assert_eq!(without_channel_binding(b"R\0\0\0\x04"), None);
        assert_eq!(authentication(&offer(b"\0")), Some(AUTHENTICATION_SASL));
        assert_eq!(authentication(b"R\0\0\0\x05\0"), None);
    }

    #[test]
    fn error_positions_move_with_the_text() {
        let mut report = Report::error("42601", "syntax error");
        report.set(b'P', "8");
        report.shift_position(10);
        assert_eq!(report.text(b'P'), "18");
    }
}
