//! How people see what happens: the admin address, the console, and the control connection.

use super::address::Address;
use crate::proxy::settings::{Console, Control};
use std::path::PathBuf;

const ADMIN_PORT: u16 = 6433;

/// The HTTP address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Admin {
    pub listen: String,
    pub token_file: Option<PathBuf>,
    pub hosts: Vec<String>,
}

/// `audit serve` has these as well.
pub fn admin(listen: Option<String>, token_file: Option<PathBuf>, hosts: Vec<String>) -> Result<Option<Admin>, String> {
    let Some(listen) = listen else {
        return match token_file {
            Some(_) => Err("admin-token-file is set without an address: give --admin 127.0.0.1:6433 too".into()),
            None if !hosts.is_empty() => Err("admin-host is set without an address: give --admin too".into()),
            None => Ok(None),
        };
    };
    let address = Address::parse("admin", &listen, ADMIN_PORT)?;
    if matches!(address, Address::Unix { .. }) {
        return Err("admin: browsers reach no Unix socket; give HOST:PORT".into());
    }
    let listen = address.text();
    if token_file.is_none() && !is_loopback(&listen) {
        return Err(format!(
            "admin-token-file is not set: {listen} can be reached from other machines, so a token is needed; \
             make one with: umask 077; openssl rand -hex 32 > token"
        ));
    }
    Ok(Some(Admin {
        listen,
        token_file,
        hosts,
    }))
}

/// True if every address that the name stands for is this machine's own.
pub fn is_loopback(listen: &str) -> bool {
    use std::net::ToSocketAddrs;
    let addresses: Vec<std::net::SocketAddr> = listen.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
    !addresses.is_empty() && addresses.iter().all(|address| address.ip().is_loopback())
}

pub(super) fn console(
    users: Vec<String>,
    database: Option<String>,
    auth_database: Option<String>,
) -> Result<Option<Console>, String> {
    if users.is_empty() {
        return match database.or(auth_database) {
            Some(_) => Err("console-users is not set: without it nobody may connect to the console".into()),
            None => Ok(None),
        };
    }
    let database = database.unwrap_or_else(|| "lockkeeper".into());
    let auth_database = auth_database.unwrap_or_else(|| "postgres".into());
    if database == auth_database {
        return Err(format!(
            "console-auth-database: {database} is the console itself; name a real database that its users may connect to"
        ));
    }
    Ok(Some(Console {
        users,
        database,
        auth_database,
    }))
}

pub(super) fn control(dsn: &str) -> Result<Control, String> {
    let config: tokio_postgres::Config = dsn.parse().map_err(|error| {
        // Its text may hold the password.
        let _: tokio_postgres::Error = error;
        "control-dsn: it cannot be read; write \"user=… password=… dbname=…\"".to_owned()
    })?;
    if !config.get_hosts().is_empty() || !config.get_ports().is_empty() {
        return Err("control-dsn: leave host and port out; it is always the upstream's".into());
    }
    match (config.get_user(), config.get_dbname()) {
        (None, _) => Err("control-dsn: user is missing".into()),
        (_, None) => Err("control-dsn: dbname is missing".into()),
        _ => Ok(Control(config)),
    }
}
