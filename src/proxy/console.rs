//! The console: a database of the proxy's own for people with psql, as PgBouncer's users know it. SHOW and RELOAD, by
//! simple and extended query.
//!
//! Its users are authenticated as everybody is, by the server at a real database (with `--auth scram`, by the proxy and the
//! server), before [`converse`] begins; the server connection is then given back. What the commands answer is in
//! [`super::shows`].

use super::end::Broken;
use super::relay::Relay;
use super::shared::{Shared, Stop};
use super::shows::{self, Command, Reply, Value};
use bytes::{BufMut, BytesMut};
use lockkeeper_wire::encoding::Encoding;
use lockkeeper_wire::messages::{self as wire, HEADER, Report};
use std::collections::HashMap;
use std::sync::Arc;
use tokio::sync::watch;

/// Longer than anybody types.
const FRAME_BYTES_MAX: usize = 64 << 10;
const STATEMENTS_MAX: usize = 100;
const TEXT_OID: u32 = 25;
const INT8_OID: u32 = 20;
const FLOAT8_OID: u32 = 701;

/// The startup packet with another database, without what only a session with the server has a use for.
pub fn at_database(packet: &[u8], database: &str) -> Vec<u8> {
    let mut out = packet.get(..8).unwrap_or_default().to_vec();
    let mut rest = packet.get(8..).unwrap_or_default();
    let mut put = |text: &[u8]| {
        out.extend_from_slice(text);
        out.push(0);
    };
    while let Some((name, after)) = wire::c_string(rest).filter(|(name, _)| !name.is_empty()) {
        let Some((value, next)) = wire::c_string(after) else {
            break;
        };
        rest = next;
        if !matches!(name, b"database" | b"options" | b"replication") {
            put(name);
            put(value);
        }
    }
    put(b"database");
    put(database.as_bytes());
    put(b"");
    let len = out.len() as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

struct Prepared {
    sql: String,
}

struct Portal {
    sql: String,
    /// Format codes of the result: none, one for all, or one a column.
    formats: Vec<i16>,
}

struct Console<'a> {
    relay: &'a mut Relay,
    shared: &'a Shared,
    /// Whose it is.
    user: &'a str,
    out: BytesMut,
    statements: HashMap<Vec<u8>, Prepared>,
    portals: HashMap<Vec<u8>, Portal>,
    /// BEGIN and COMMIT mean nothing here, but clients wait for the status that they ask for.
    status: u8,
    /// An error came: the rest up to Sync is thrown away.
    skipping: bool,
}

/// Until the client leaves. It is authenticated, and may use the console.
pub async fn converse(relay: &mut Relay, shared: &Arc<Shared>, user: &str) -> Result<(), Broken> {
    let mut console = Console {
        relay,
        shared,
        user,
        out: BytesMut::new(),
        statements: HashMap::new(),
        portals: HashMap::new(),
        status: b'I',
        skipping: false,
    };
    let mut stop = shared.stop.subscribe();
    loop {
        let frame = tokio::select! {
            frame = console.relay.client_frame(FRAME_BYTES_MAX) => frame?,
            () = stopped(&mut stop) => {
                let mut out = BytesMut::new();
                Report::fatal("57P01", super::end::SHUTTING_DOWN).put_error(&mut out, Encoding::Utf8);
                return console.relay.tell(&out).await;
            }
        };
        let Some(frame) = frame.filter(|frame| frame[0] != b'X') else {
            return Ok(());
        };
        console.take(&frame).await;
        let flush = matches!(frame[0], b'Q' | b'S' | b'H') || console.out.len() > FRAME_BYTES_MAX;
        if flush {
            let out = console.out.split();
            console.relay.tell(&out).await?;
        }
    }
}

async fn stopped(stop: &mut watch::Receiver<Stop>) {
    // An error means that the proxy is gone, which is the same.
    let _ = stop.wait_for(|stop| *stop != Stop::No).await;
}

impl Console<'_> {
    async fn take(&mut self, frame: &[u8]) {
        let tag = frame[0];
        if self.skipping && !matches!(tag, b'S') {
            return;
        }
        let taken = match tag {
            b'Q' => return self.query(frame).await,
            b'P' => self.parse(frame),
            b'B' => self.bind(frame),
            b'D' => self.describe(frame),
            b'E' => self.execute(frame).await,
            b'C' => self.close(frame),
            b'S' => {
                self.skipping = false;
                self.portals.clear();
                self.ready();
                Ok(())
            }
            b'H' => Ok(()),
            // COPY data, or a function call: nothing here asks for them.
            _ => Err(Report::error(
                "08P01",
                "lockkeeper: the console does not understand this message",
            )),
        };
        if let Err(report) = taken {
            self.fail(&report);
            self.skipping = true;
        }
    }

    fn fail(&mut self, report: &Report) {
        report.put_error(&mut self.out, Encoding::Utf8);
        if self.status == b'T' {
            self.status = b'E';
        }
    }

    fn ready(&mut self) {
        wire::put_ready(&mut self.out, self.status);
    }

    /// Several statements, separated by semicolons, up to the first that fails.
    async fn query(&mut self, frame: &[u8]) {
        let text = wire::query_text(frame).map(|text| String::from_utf8_lossy(text).into_owned());
        let statements = shows::split(text.as_deref().unwrap_or_default());
        if statements.is_empty() {
            wire::put_frame(&mut self.out, b'I', |_| {});
        }
        for sql in statements {
            match self.run(&sql).await {
                Ok(reply) => {
                    if !reply.columns.is_empty() {
                        put_row_description(&mut self.out, reply.columns, &[]);
                    }
                    put_rows(&mut self.out, &reply, &[]);
                    wire::put_command_complete(&mut self.out, &reply.tag);
                }
                Err(report) => {
                    self.fail(&report);
                    break;
                }
            }
        }
        self.ready();
    }

    async fn run(&mut self, sql: &str) -> Result<Reply, Report> {
        let command = Command::parse(sql)?;
        if self.status == b'E' && !matches!(command, Command::Commit | Command::Rollback) {
            return Err(Report::error(
                "25P02",
                "current transaction is aborted, commands ignored until end of transaction block",
            ));
        }
        match command {
            Command::Begin => self.status = b'T',
            Command::Commit if self.status == b'E' => {
                self.status = b'I';
                return Ok(Reply::tag("ROLLBACK"));
            }
            Command::Commit | Command::Rollback => self.status = b'I',
            Command::Discard => self.statements.clear(),
            _ => {}
        }
        shows::run(command, self.shared, self.user).await
    }

    fn parse(&mut self, frame: &[u8]) -> Result<(), Report> {
        let parse = wire::parse_message(frame).ok_or_else(|| invalid("Parse"))?;
        let sql = String::from_utf8_lossy(parse.text).into_owned();
        let mut statements = shows::split(&sql).into_iter();
        let first = statements.next().unwrap_or_default();
        if statements.next().is_some() {
            let message = "cannot insert multiple commands into a prepared statement";
            return Err(Report::error("42601", message));
        }
        if !first.is_empty() {
            Command::parse(&first)?;
        }
        if self.statements.len() >= STATEMENTS_MAX && !self.statements.contains_key(parse.name) {
            return Err(Report::error(
                "53400",
                "lockkeeper: too many prepared statements in the console",
            ));
        }
        self.statements.insert(parse.name.to_vec(), Prepared { sql: first });
        wire::put_frame(&mut self.out, b'1', |_| {});
        Ok(())
    }

    fn bind(&mut self, frame: &[u8]) -> Result<(), Report> {
        let (portal, statement) = wire::bind_names(frame).ok_or_else(|| invalid("Bind"))?;
        let Some(prepared) = self.statements.get(statement) else {
            return Err(Report::error("26000", "prepared statement does not exist"));
        };
        let rest = &frame[HEADER + portal.len() + statement.len() + 2..];
        let formats = result_formats(rest).ok_or_else(|| invalid("Bind"))?;
        let portal = portal.to_vec();
        if self.portals.len() >= STATEMENTS_MAX && !self.portals.contains_key(&portal) {
            return Err(Report::error("53400", "lockkeeper: too many portals in the console"));
        }
        let sql = prepared.sql.clone();
        self.portals.insert(portal, Portal { sql, formats });
        wire::put_frame(&mut self.out, b'2', |_| {});
        Ok(())
    }

    fn describe(&mut self, frame: &[u8]) -> Result<(), Report> {
        let (kind, name) = wire::close_target(frame).ok_or_else(|| invalid("Describe"))?;
        let (sql, formats) = if kind == b'S' {
            let prepared = self
                .statements
                .get(name)
                .ok_or_else(|| missing("26000", "prepared statement"))?;
            wire::put_frame(&mut self.out, b't', |out| out.put_i16(0));
            (prepared.sql.as_str(), &[][..])
        } else {
            let portal = self.portals.get(name).ok_or_else(|| missing("34000", "portal"))?;
            (portal.sql.as_str(), portal.formats.as_slice())
        };
        let columns = match sql {
            "" => &[][..],
            sql => shows::columns(Command::parse(sql)?),
        };
        match columns {
            [] => wire::put_frame(&mut self.out, b'n', |_| {}),
            columns => put_row_description(&mut self.out, columns, formats),
        }
        Ok(())
    }

    async fn execute(&mut self, frame: &[u8]) -> Result<(), Report> {
        let name = wire::portal_name(frame).ok_or_else(|| invalid("Execute"))?;
        let Some(Portal { sql, formats }) = self.portals.remove(name) else {
            return Err(missing("34000", "portal"));
        };
        if sql.is_empty() {
            wire::put_frame(&mut self.out, b'I', |_| {});
            return Ok(());
        }
        // The row limit is not kept: an answer is short.
        let reply = self.run(&sql).await?;
        put_rows(&mut self.out, &reply, &formats);
        wire::put_command_complete(&mut self.out, &reply.tag);
        Ok(())
    }

    fn close(&mut self, frame: &[u8]) -> Result<(), Report> {
        match wire::close_target(frame).ok_or_else(|| invalid("Close"))? {
            (b'S', name) => drop(self.statements.remove(name)),
            (_, name) => drop(self.portals.remove(name)),
        }
        wire::put_frame(&mut self.out, b'3', |_| {});
        Ok(())
    }
}

fn invalid(message: &str) -> Report {
    Report::error("08P01", &format!("invalid {message} message"))
}

fn missing(sqlstate: &str, what: &str) -> Report {
    Report::error(sqlstate, &format!("{what} does not exist"))
}

/// Behind the names of a Bind: parameter formats, parameters (there can be none), result formats.
fn result_formats(rest: &[u8]) -> Option<Vec<i16>> {
    let word = |at: usize| Some(i16::from_be_bytes([*rest.get(at)?, *rest.get(at + 1)?]));
    let parameter_formats = usize::try_from(word(0)?).ok()?;
    let at = 2 + 2 * parameter_formats;
    if word(at)? != 0 {
        return None;
    }
    let count = usize::try_from(word(at + 2)?).ok()?;
    (0..count).map(|n| word(at + 4 + 2 * n)).collect()
}

fn format(formats: &[i16], column: usize) -> i16 {
    match formats {
        [] => 0,
        [one] => *one,
        several => several.get(column).copied().unwrap_or(0),
    }
}

fn put_row_description(out: &mut BytesMut, columns: &[shows::Column], formats: &[i16]) {
    wire::put_frame(out, b'T', |out| {
        out.put_i16(columns.len() as i16);
        for (n, column) in columns.iter().enumerate() {
            out.put_slice(column.name.as_bytes());
            out.put_u8(0);
            out.put_i32(0);
            out.put_i16(0);
            let (oid, size) = match column.kind {
                shows::Kind::Text => (TEXT_OID, -1),
                shows::Kind::Integer => (INT8_OID, 8),
                shows::Kind::Float => (FLOAT8_OID, 8),
            };
            out.put_u32(oid);
            out.put_i16(size);
            out.put_i32(-1);
            out.put_i16(format(formats, n));
        }
    });
}

fn put_rows(out: &mut BytesMut, reply: &Reply, formats: &[i16]) {
    for row in &reply.rows {
        wire::put_frame(out, b'D', |out| {
            out.put_i16(row.len() as i16);
            for (n, value) in row.iter().enumerate() {
                let binary = format(formats, n) == 1;
                match value {
                    Value::Null => out.put_i32(-1),
                    Value::Integer(number) if binary => {
                        out.put_i32(8);
                        out.put_i64(*number);
                    }
                    Value::Float(number) if binary => {
                        out.put_i32(8);
                        out.put_f64(*number);
                    }
                    value => {
                        let text = value.text();
                        out.put_i32(text.len() as i32);
                        out.put_slice(text.as_bytes());
                    }
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_startup_packet_asks_for_the_real_database() {
        let packet = |parameters: &[u8]| {
            let mut packet = [&[0, 0, 0, 0, 0, 3, 0, 0], parameters].concat();
            let len = packet.len() as u32;
            packet[..4].copy_from_slice(&len.to_be_bytes());
            packet
        };
        assert_eq!(
            at_database(
                &packet(b"user\0amy\0database\0lockkeeper\0options\0-c x=y\0application_name\0psql\0\0"),
                "postgres"
            ),
            packet(b"user\0amy\0application_name\0psql\0database\0postgres\0\0")
        );
    }

    #[test]
    fn result_formats_are_behind_the_parameters() {
        assert_eq!(result_formats(&[0, 0, 0, 0, 0, 1, 0, 1]), Some(vec![1]));
        assert_eq!(result_formats(&[0, 1, 0, 1, 0, 0, 0, 0]), Some(vec![]));
        assert_eq!(result_formats(&[0, 0, 0, 1, 0, 0, 0, 1, b'x', 0, 0]), None);
        assert_eq!(result_formats(&[0, 0]), None);
    }
}
