//! `HOST:PORT` and socket directories, as people write them.

use crate::proxy::settings::Upstream;
use std::net::Ipv6Addr;
use std::path::{Path, PathBuf};

/// PostgreSQL's.
pub(super) const UPSTREAM_PORT: u16 = 5432;
/// sockaddr_un's sun_path, less the NUL.
const SOCKET_PATH_BYTES_MAX: usize = 107;

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Address {
    Tcp {
        host: String,
        port: u16,
    },
    /// The directory of the socket.
    Unix {
        directory: PathBuf,
        port: u16,
    },
}

impl Address {
    pub(super) fn parse(name: &str, text: &str, default_port: u16) -> Result<Address, String> {
        let wrong = |why: &str| format!("{name}: `{text}` {why}");
        let text = text.trim();
        if text.is_empty() {
            return Err(wrong("is empty; write HOST:PORT or a socket directory"));
        }
        if text.contains("://") || text.contains('@') {
            return Err(wrong(
                "looks like a connection URL; write only HOST:PORT (user and password come from the client)",
            ));
        }
        if text.starts_with('/') {
            return Address::unix(text, default_port).map_err(|why| wrong(&why));
        }
        if text.parse::<u16>().is_ok() {
            return Err(wrong(&format!("is only a port; write 127.0.0.1:{text}")));
        }
        if text.parse::<Ipv6Addr>().is_ok() {
            return Ok(Address::tcp(text, default_port));
        }
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, after) = rest.split_once(']').ok_or_else(|| wrong("has no closing `]`"))?;
                host.parse::<Ipv6Addr>()
                    .map_err(|_| wrong("has no IPv6 address between `[` and `]`"))?;
                match after.strip_prefix(':') {
                    Some(port) => (host, Some(port)),
                    None if after.is_empty() => (host, None),
                    None => return Err(wrong("has something other than `:PORT` after the `]`")),
                }
            }
            None => match text.rsplit_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (text, None),
            },
        };
        let bracketed = text.starts_with('[');
        if host.is_empty() {
            return Err(wrong(
                "has no host; write 127.0.0.1 for this machine only, 0.0.0.0 for every interface",
            ));
        }
        if host == "*" {
            return Err(wrong(
                "has `*` as the host; write 0.0.0.0, or [::], for every interface",
            ));
        }
        if !bracketed && host.contains(':') {
            return Err(wrong("has several colons; write an IPv6 address as [::1]:PORT"));
        }
        let letter = |c: char| c.is_alphanumeric() || matches!(c, '-' | '.' | '_');
        if !bracketed && !host.chars().all(letter) {
            return Err(wrong("is not HOST:PORT, and a socket directory starts with `/`"));
        }
        let port = match port {
            Some(port) => port_number(port).map_err(|why| wrong(&why))?,
            None => default_port,
        };
        Ok(Address::tcp(host, port))
    }

    fn tcp(host: &str, port: u16) -> Address {
        let host = host.to_ascii_lowercase();
        Address::Tcp { host, port }
    }

    fn unix(text: &str, default_port: u16) -> Result<Address, String> {
        // The socket itself is understood too: people copy it from an error message.
        let (directory, port) = match text.rsplit_once("/.s.PGSQL.").or_else(|| text.rsplit_once(':')) {
            Some((directory, port)) => (directory, port_number(port)?),
            None => (text, default_port),
        };
        if port == 0 {
            return Err("has port 0; a socket's name needs a number, such as :5432".into());
        }
        let directory = PathBuf::from(if directory.is_empty() { "/" } else { directory });
        let length = socket(&directory, port).as_os_str().len();
        if length > SOCKET_PATH_BYTES_MAX {
            return Err(format!(
                "makes a socket path of {length} bytes; the system takes {SOCKET_PATH_BYTES_MAX} at most"
            ));
        }
        Ok(Address::Unix { directory, port })
    }

    pub(super) fn port(&self) -> u16 {
        match self {
            Address::Tcp { port, .. } | Address::Unix { port, .. } => *port,
        }
    }

    pub(super) fn upstream(self) -> Upstream {
        match self {
            Address::Tcp { host, port } => Upstream::Tcp { host, port },
            Address::Unix { directory, port } => Upstream::Unix(socket(&directory, port)),
        }
    }

    pub(super) fn text(&self) -> String {
        match self {
            Address::Tcp { host, port } if host.contains(':') => format!("[{host}]:{port}"),
            Address::Tcp { host, port } => format!("{host}:{port}"),
            Address::Unix { directory, port } => format!("{}:{port}", directory.display()),
        }
    }
}

fn socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}

fn port_number(text: &str) -> Result<u16, String> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits => Ok(port),
        _ => Err(format!("has `{text}` for a port; a port is a number up to 65535")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::LISTEN_PORT;

    fn listen(text: &str) -> Result<String, String> {
        Address::parse("listen", text, LISTEN_PORT).map(|address| address.text())
    }

    #[test]
    fn addresses() {
        let check = |text: &str, expect: &str| assert_eq!(listen(text).as_deref(), Ok(expect), "{text}");
        check("127.0.0.1:6433", "127.0.0.1:6433");
        check("LOCALHOST", "localhost:6432");
        check("[::1]:6433", "[::1]:6433");
        check("[::1]", "[::1]:6432");
        check("::1", "[::1]:6432");
        check("db-1.example_x.com:1", "db-1.example_x.com:1");
        check("/run/lockkeeper", "/run/lockkeeper:6432");
        check("/run/lockkeeper:7000", "/run/lockkeeper:7000");
        check("/run/lockkeeper/.s.PGSQL.7000", "/run/lockkeeper:7000");
        check("127.0.0.1:0", "127.0.0.1:0");
    }

    #[test]
    fn wrong_addresses_say_what_to_write() {
        let check = |text: &str, expect: &str| {
            let error = listen(text).expect_err(text);
            assert!(error.starts_with("listen: `") && error.contains(expect), "{error}");
        };
        check("", "is empty");
        check("6432", "write 127.0.0.1:6432");
        check(":6432", "no host");
        check("*:6432", "0.0.0.0");
        check("a:b", "`b` for a port");
        check("a:+1", "`+1` for a port");
        check("a:65536", "up to 65535");
        check("a:", "`` for a port");
        check("::1:x", "several colons");
        check("[::1", "no closing `]`");
        check("[x]:1", "no IPv6 address");
        check("[::1]x", "other than `:PORT`");
        check("postgres://u@h/db", "connection URL");
        check("a b:1", "not HOST:PORT");
        check("run/lockkeeper", "starts with `/`");
        check("/run:0", "port 0");
        check(&format!("/{}", "x".repeat(100)), "107");
    }

    #[test]
    fn upstreams() {
        let check = |text: &str, expect: Upstream| {
            let address = Address::parse("upstream", text, UPSTREAM_PORT).expect(text);
            assert_eq!(address.upstream(), expect);
        };
        let tcp = |host: &str, port| Upstream::Tcp {
            host: host.into(),
            port,
        };
        check("db", tcp("db", 5432));
        check("[2001:db8::1]:7000", tcp("2001:db8::1", 7000));
        check("/tmp", Upstream::Unix("/tmp/.s.PGSQL.5432".into()));
        check("/tmp:5433", Upstream::Unix("/tmp/.s.PGSQL.5433".into()));
        check("/tmp/.s.PGSQL.5433", Upstream::Unix("/tmp/.s.PGSQL.5433".into()));
    }
}
