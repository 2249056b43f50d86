//! A client that speaks the protocol byte by byte, for what no driver would send.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

/// A message of the server's: its type and body.
pub type Message = (u8, Vec<u8>);

/// A connection, plain or encrypted.
pub trait Transport: Read + Write + Send {}

impl<T: Read + Write + Send> Transport for T {}

pub struct Raw {
    stream: Box<dyn Transport>,
    /// The same connection, if it is a plain socket.
    socket: Option<TcpStream>,
    /// The server's process ID and cancel key.
    pub key: Vec<u8>,
}

impl Raw {
    /// Connected and past ReadyForQuery.
    pub fn connect(port: u16, database: &str) -> Raw {
        let mut raw = Raw::open(port);
        raw.start(&startup(&[("user", "postgres"), ("database", database)]));
        raw
    }

    /// Sends a startup packet and takes the answers up to ReadyForQuery.
    pub fn start(&mut self, packet: &[u8]) -> Vec<Message> {
        self.send(packet);
        let messages = self.until_ready();
        let key = messages.iter().find(|(tag, _)| *tag == b'K');
        self.key = key.expect("BackendKeyData").1.clone();
        messages
    }

    /// Only the socket.
    /// For an answer, instead of the usual 20 seconds.
    pub fn waits_for(&self, time: Duration) {
        let socket = self.socket.as_ref().expect("a plain connection");
        socket.set_read_timeout(Some(time)).unwrap();
    }

    pub fn open(port: u16) -> Raw {
        let stream = TcpStream::connect(("127.0.0.1", port)).expect("the port is open");
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        stream.set_nodelay(true).unwrap();
        let socket = stream.try_clone().ok();
        Raw {
            socket,
            ..Raw::over(stream)
        }
    }

    /// Any connection, on which nothing was said yet.
    pub fn over(stream: impl Transport + 'static) -> Raw {
        Raw {
            stream: Box::new(stream),
            socket: None,
            key: Vec::new(),
        }
    }

    pub fn send(&mut self, bytes: &[u8]) {
        self.stream.write_all(bytes).expect("the peer reads");
        self.stream.flush().expect("the peer reads");
    }

    /// The same connection, to send on from another thread.
    pub fn writer(&self) -> TcpStream {
        let socket = self.socket.as_ref().expect("a plain socket");
        socket.try_clone().expect("a second handle")
    }

    /// The next message; None at the end of the stream.
    pub fn receive(&mut self) -> Option<Message> {
        let mut header = [0; 5];
        match self.stream.read_exact(&mut header) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => return None,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no message came: {error}"),
        }
        let len = u32::from_be_bytes(header[1..].try_into().unwrap()) as usize;
        let mut body = vec![0; len - 4];
        self.stream.read_exact(&mut body).expect("a whole message");
        Some((header[0], body))
    }

    /// Up to and with ReadyForQuery, or the end.
    pub fn until_ready(&mut self) -> Vec<Message> {
        let mut messages = Vec::new();
        while let Some(message) = self.receive() {
            let ready = message.0 == b'Z';
            messages.push(message);
            if ready {
                break;
            }
        }
        messages
    }

    pub fn query(&mut self, sql: &str) -> Vec<Message> {
        self.send(&frame(b'Q', &c(sql)));
        self.until_ready()
    }

    pub fn byte(&mut self) -> Option<u8> {
        let mut byte = [0];
        self.stream.read_exact(&mut byte).ok().map(|()| byte[0])
    }
}

/// The types of messages as a word: `12nCZ`.
pub fn tags(messages: &[Message]) -> String {
    messages.iter().map(|(tag, _)| char::from(*tag)).collect()
}

/// A field of the first ErrorResponse.
pub fn error_field(messages: &[Message], field: u8) -> Option<String> {
    let (_, body) = messages.iter().find(|(tag, _)| *tag == b'E')?;
    body.split(|b| *b == 0)
        .find(|part| part.first() == Some(&field))
        .map(|part| String::from_utf8_lossy(&part[1..]).into_owned())
}

/// The transaction status of the last ReadyForQuery.
pub fn status(messages: &[Message]) -> Option<char> {
    messages
        .iter()
        .rev()
        .find(|(tag, _)| *tag == b'Z')
        .map(|(_, body)| char::from(body[0]))
}

/// The first column of every DataRow.
pub fn rows(messages: &[Message]) -> Vec<String> {
    let first = |body: &[u8]| {
        let len = i32::from_be_bytes(body[2..6].try_into().unwrap());
        usize::try_from(len).map_or("NULL".into(), |len| {
            String::from_utf8_lossy(&body[6..6 + len]).into_owned()
        })
    };
    messages
        .iter()
        .filter(|(tag, _)| *tag == b'D')
        .map(|(_, body)| first(body))
        .collect()
}

/// The command tags, in order.
pub fn command_tags(messages: &[Message]) -> Vec<String> {
    let text = |body: &[u8]| String::from_utf8_lossy(&body[..body.len() - 1]).into_owned();
    messages
        .iter()
        .filter(|(tag, _)| *tag == b'C')
        .map(|(_, body)| text(body))
        .collect()
}

pub fn c(text: &str) -> Vec<u8> {
    [text.as_bytes(), b"\0"].concat()
}

pub fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    [&[tag][..], &(body.len() as u32 + 4).to_be_bytes(), body].concat()
}

pub fn startup(parameters: &[(&str, &str)]) -> Vec<u8> {
    startup_version(196_608, parameters)
}

pub fn startup_version(version: u32, parameters: &[(&str, &str)]) -> Vec<u8> {
    let mut body = version.to_be_bytes().to_vec();
    for (name, value) in parameters {
        body.extend(c(name));
        body.extend(c(value));
    }
    body.push(0);
    [&(body.len() as u32 + 4).to_be_bytes()[..], &body].concat()
}

/// `key`: the server's process ID and cancel key.
pub fn cancel_request(key: &[u8]) -> Vec<u8> {
    let len = key.len() as u32 + 8;
    [&len.to_be_bytes()[..], &80_877_102_u32.to_be_bytes(), key].concat()
}

pub fn parse(name: &str, sql: &str) -> Vec<u8> {
    frame(b'P', &[c(name), c(sql), vec![0, 0]].concat())
}

/// Without parameters, all as text.
pub fn bind(portal: &str, statement: &str) -> Vec<u8> {
    bind_with(portal, statement, &[])
}

pub fn bind_with(portal: &str, statement: &str, parameters: &[&str]) -> Vec<u8> {
    let mut body = [c(portal), c(statement), vec![0, 0]].concat();
    body.extend((parameters.len() as u16).to_be_bytes());
    for value in parameters {
        body.extend((value.len() as u32).to_be_bytes());
        body.extend(value.as_bytes());
    }
    body.extend([0, 0]);
    frame(b'B', &body)
}

pub fn describe(kind: u8, name: &str) -> Vec<u8> {
    frame(b'D', &[vec![kind], c(name)].concat())
}

pub fn close(kind: u8, name: &str) -> Vec<u8> {
    frame(b'C', &[vec![kind], c(name)].concat())
}

/// `rows` 0 = all.
pub fn execute(portal: &str, rows: u32) -> Vec<u8> {
    frame(b'E', &[c(portal), rows.to_be_bytes().to_vec()].concat())
}

pub fn sync() -> Vec<u8> {
    frame(b'S', b"")
}

pub fn flush() -> Vec<u8> {
    frame(b'H', b"")
}
