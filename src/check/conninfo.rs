//! A connection string of libpq (manual section 32.1), with what the environment, the service file and the password file add.
//!
//! What libpq knows and this program does not follow is refused where it would make the connection less safe, else ignored.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// libpq's keywords, the variable that stands for each, and what becomes of it here.
const KEYWORDS: [(&str, &str, Use); 46] = [
    ("service", "PGSERVICE", Use::Taken),
    ("servicefile", "PGSERVICEFILE", Use::Taken),
    ("user", "PGUSER", Use::Taken),
    ("password", "PGPASSWORD", Use::Taken),
    ("passfile", "PGPASSFILE", Use::Taken),
    ("dbname", "PGDATABASE", Use::Taken),
    ("host", "PGHOST", Use::Taken),
    ("hostaddr", "PGHOSTADDR", Use::Taken),
    ("port", "PGPORT", Use::Taken),
    ("options", "PGOPTIONS", Use::Taken),
    ("application_name", "PGAPPNAME", Use::Taken),
    ("connect_timeout", "PGCONNECT_TIMEOUT", Use::Taken),
    ("sslmode", "PGSSLMODE", Use::Taken),
    ("sslnegotiation", "PGSSLNEGOTIATION", Use::Taken),
    ("sslrootcert", "PGSSLROOTCERT", Use::Taken),
    ("sslcert", "PGSSLCERT", Use::Taken),
    ("sslkey", "PGSSLKEY", Use::Taken),
    ("channel_binding", "PGCHANNELBINDING", Use::Taken),
    ("target_session_attrs", "PGTARGETSESSIONATTRS", Use::Taken),
    ("sslcrl", "PGSSLCRL", Use::Refused),
    ("sslcrldir", "PGSSLCRLDIR", Use::Refused),
    ("sslpassword", "", Use::Refused),
    ("require_auth", "PGREQUIREAUTH", Use::Refused),
    ("requirepeer", "PGREQUIREPEER", Use::Refused),
    ("replication", "", Use::Refused),
    ("oauth_issuer", "", Use::Refused),
    ("oauth_client_id", "", Use::Refused),
    ("fallback_application_name", "", Use::Ignored),
    ("client_encoding", "PGCLIENTENCODING", Use::Ignored),
    ("keepalives", "", Use::Ignored),
    ("keepalives_idle", "", Use::Ignored),
    ("keepalives_interval", "", Use::Ignored),
    ("keepalives_count", "", Use::Ignored),
    ("tcp_user_timeout", "", Use::Ignored),
    ("load_balance_hosts", "PGLOADBALANCEHOSTS", Use::Ignored),
    ("gssencmode", "PGGSSENCMODE", Use::Ignored),
    ("krbsrvname", "PGKRBSRVNAME", Use::Ignored),
    ("gsslib", "PGGSSLIB", Use::Ignored),
    ("gssdelegation", "PGGSSDELEGATION", Use::Ignored),
    ("sslcompression", "PGSSLCOMPRESSION", Use::Ignored),
    ("sslsni", "PGSSLSNI", Use::Ignored),
    ("sslcertmode", "PGSSLCERTMODE", Use::Ignored),
    ("ssl_min_protocol_version", "PGSSLMINPROTOCOLVERSION", Use::Ignored),
    ("ssl_max_protocol_version", "PGSSLMAXPROTOCOLVERSION", Use::Ignored),
    ("min_protocol_version", "PGMINPROTOCOLVERSION", Use::Ignored),
    ("max_protocol_version", "PGMAXPROTOCOLVERSION", Use::Ignored),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Use {
    Taken,
    Ignored,
    /// To go on without it would be less safe, or something else.
    Refused,
}

/// What is written, by keyword.
pub struct Conninfo {
    values: BTreeMap<String, String>,
}

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Server {
    /// A name, an address, or the directory of a socket.
    pub host: String,
    pub hostaddr: Option<String>,
    pub port: u16,
    pub password: Option<String>,
}

/// Where variables and files are looked for.
pub struct Surroundings<'a> {
    pub variable: &'a dyn Fn(&str) -> Option<String>,
    pub home: Option<PathBuf>,
}

impl Conninfo {
    /// `text` is key=value pairs or a URI.
    pub fn read(text: &str, around: &Surroundings) -> Result<Conninfo, String> {
        let mut values = match text.split_once("://") {
            Some(("postgres" | "postgresql", rest)) => uri(rest)?,
            _ => pairs(text)?,
        };
        check_keywords(&values)?;
        let mut from_environment = BTreeMap::new();
        for (keyword, variable, _) in KEYWORDS {
            if let Some(value) = (around.variable)(variable).filter(|value| !value.is_empty()) {
                from_environment.insert(keyword.to_string(), value);
            }
        }
        let service = values.get("service").or(from_environment.get("service")).cloned();
        if let Some(service) = service {
            let file = values.get("servicefile").or(from_environment.get("servicefile"));
            let of_service = service_values(&service, file, around)?;
            check_keywords(&of_service)?;
            // The string wins over the service, the service over the variables.
            for (keyword, value) in of_service {
                values.entry(keyword).or_insert(value);
            }
        }
        for (keyword, value) in from_environment {
            values.entry(keyword).or_insert(value);
        }
        values.retain(|_, value| !value.is_empty());
        let conninfo = Conninfo { values };
        conninfo.refuse()?;
        Ok(conninfo)
    }

    pub fn get(&self, keyword: &str) -> Option<&str> {
        self.values.get(keyword).map(String::as_str)
    }

    pub fn user(&self, around: &Surroundings) -> Result<String, String> {
        let named = self.get("user").map(str::to_string);
        let own = || (around.variable)("LOGNAME").or_else(|| (around.variable)("USER"));
        named
            .or_else(own)
            .ok_or_else(|| "it names no user: add user=NAME".to_string())
    }

    pub fn dbname(&self, user: &str) -> String {
        self.get("dbname").unwrap_or(user).to_string()
    }

    /// In the order in which they are tried, each with its password.
    pub fn servers(&self, user: &str, around: &Surroundings) -> Result<Vec<Server>, String> {
        let list = |keyword: &str| -> Vec<String> {
            let value = self.get(keyword).unwrap_or_default();
            value.split(',').map(str::to_string).collect()
        };
        let (hosts, addresses, ports) = (list("host"), list("hostaddr"), list("port"));
        let count = hosts.len().max(addresses.len());
        let at = |values: &[String], i: usize| match values {
            [one] => one.clone(),
            values => values.get(i).cloned().unwrap_or_default(),
        };
        let mut servers = Vec::new();
        for i in 0..count {
            let port = match at(&ports, i).as_str() {
                "" => 5432,
                port => port.parse().map_err(|_| format!("port: `{port}` is no port number"))?,
            };
            let hostaddr = Some(at(&addresses, i)).filter(|address| !address.is_empty());
            let host = match at(&hosts, i) {
                host if host.is_empty() => hostaddr.clone().unwrap_or_else(default_host),
                host => host,
            };
            let password = match self.get("password") {
                Some(password) => Some(password.to_string()),
                None => self.password_from_file(&host, port, user, around)?,
            };
            servers.push(Server {
                host,
                hostaddr,
                port,
                password,
            });
        }
        Ok(servers)
    }

    fn password_from_file(
        &self,
        host: &str,
        port: u16,
        user: &str,
        around: &Surroundings,
    ) -> Result<Option<String>, String> {
        let named = self.get("passfile").map(PathBuf::from);
        let Some(path) = named.or_else(|| around.home.as_ref().map(|home| home.join(".pgpass"))) else {
            return Ok(None);
        };
        let Ok(metadata) = std::fs::metadata(&path) else {
            return Ok(None);
        };
        if !metadata.is_file() {
            return Ok(None);
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            return Err(format!(
                "password file {} can be read by others: chmod 600 it, as libpq wants it too",
                path.display()
            ));
        }
        let text = std::fs::read_to_string(&path).map_err(|e| format!("password file {}: {e}", path.display()))?;
        let host = if host.starts_with('/') && is_default_socket(host) {
            "localhost"
        } else {
            host
        };
        let wanted = [host.to_string(), port.to_string(), self.dbname(user), user.to_string()];
        Ok(text.lines().find_map(|line| password_of(line, &wanted)))
    }

    fn refuse(&self) -> Result<(), String> {
        for (keyword, _, used) in KEYWORDS {
            if used == Use::Refused && self.get(keyword).is_some() {
                return Err(format!("{keyword} is not supported by lockkeeper check"));
            }
        }
        if self.get("gssencmode") == Some("require") {
            return Err("gssencmode=require is not supported by lockkeeper check".to_string());
        }
        Ok(())
    }
}

fn default_host() -> String {
    let sockets = ["/var/run/postgresql", "/tmp"];
    let found = sockets.iter().find(|dir| Path::new(dir).join(".s.PGSQL.5432").exists());
    found.map_or("localhost", |dir| dir).to_string()
}

fn is_default_socket(host: &str) -> bool {
    matches!(host, "/var/run/postgresql" | "/tmp")
}

fn check_keywords(values: &BTreeMap<String, String>) -> Result<(), String> {
    let known: Vec<&str> = KEYWORDS.iter().map(|(keyword, _, _)| *keyword).collect();
    match values.keys().find(|keyword| !known.contains(&keyword.as_str())) {
        Some(unknown) => Err(format!(
            "`{unknown}` is no keyword of a connection string{}",
            crate::config::did_you_mean(unknown, &known)
        )),
        None => Ok(()),
    }
}

/// `host=localhost dbname='my db'`
fn pairs(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (keyword, after) = rest
            .split_once('=')
            .ok_or("a part of it is no key=value; a database's name is dbname=NAME, and what has spaces is quoted")?;
        let keyword = keyword.trim();
        let (value, after) =
            pair_value(after.trim_start()).ok_or_else(|| format!("the quote of {} does not end", shown(keyword)))?;
        values.insert(keyword.to_string(), value);
        rest = after.trim_start();
    }
    Ok(values)
}

fn pair_value(text: &str) -> Option<(String, &str)> {
    let quoted = text.starts_with('\'');
    let mut value = String::new();
    let mut chars = text.char_indices().skip(usize::from(quoted));
    while let Some((at, c)) = chars.next() {
        match c {
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            '\'' if quoted => return Some((value, &text[at + 1..])),
            c if c.is_whitespace() && !quoted => return Some((value, &text[at..])),
            c => value.push(c),
        }
    }
    (!quoted).then_some((value, ""))
}

/// Never a password.
fn shown(text: &str) -> &str {
    text.split(|c: char| c.is_whitespace() || c == '=')
        .next()
        .unwrap_or_default()
}

/// `user:password@host:port,host:port/dbname?key=value&…`
fn uri(rest: &str) -> Result<BTreeMap<String, String>, String> {
    let mut values = BTreeMap::new();
    let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (authority, dbname) = rest.split_once('/').unwrap_or((rest, ""));
    let hosts = match authority.rsplit_once('@') {
        Some((who, hosts)) => {
            let (user, password) = who.split_once(':').unwrap_or((who, ""));
            values.insert("user".to_string(), decoded(user)?);
            values.insert("password".to_string(), decoded(password)?);
            hosts
        }
        None => authority,
    };
    let (mut names, mut ports) = (Vec::new(), Vec::new());
    for host in hosts.split(',') {
        let (name, port) = match host.strip_prefix('[').and_then(|host| host.split_once(']')) {
            Some((address, port)) => (address, port.strip_prefix(':').unwrap_or(port)),
            None => host.split_once(':').unwrap_or((host, "")),
        };
        names.push(decoded(name)?);
        ports.push(decoded(port)?);
    }
    values.insert("host".to_string(), names.join(","));
    values.insert("port".to_string(), ports.join(","));
    values.insert("dbname".to_string(), decoded(dbname)?);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (keyword, value) = pair
            .split_once('=')
            .ok_or_else(|| format!("`{}` has no value", shown(pair)))?;
        match (decoded(keyword)?.as_str(), decoded(value)?) {
            ("ssl", value) if value == "true" => values.insert("sslmode".to_string(), "require".to_string()),
            (keyword, value) => values.insert(keyword.to_string(), value),
        };
    }
    // `postgres:///db` has one host without a name; so has a list of nothing but commas and ports.
    values.retain(|_, value| !value.trim_matches(',').is_empty());
    Ok(values)
}

fn decoded(text: &str) -> Result<String, String> {
    let wrong = || "a % in a URI is followed by two hexadecimal digits, and stands for UTF-8".to_string();
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| (byte as char).to_digit(16));
        let (Some(high), Some(low)) = (digit(rest.next()), digit(rest.next())) else {
            return Err(wrong());
        };
        bytes.push((high << 4 | low) as u8);
    }
    String::from_utf8(bytes).map_err(|_| wrong())
}

/// The section of a service, from the user's file or the system's.
fn service_values(
    service: &str,
    named: Option<&String>,
    around: &Surroundings,
) -> Result<BTreeMap<String, String>, String> {
    let own = around.home.as_ref().map(|home| home.join(".pg_service.conf"));
    let system = (around.variable)("PGSYSCONFDIR").map(|dir| Path::new(&dir).join("pg_service.conf"));
    let files = [
        named.map(PathBuf::from).or(own),
        system,
        Some("/etc/postgresql-common/pg_service.conf".into()),
    ];
    for file in files.into_iter().flatten() {
        let Ok(text) = std::fs::read_to_string(&file) else {
            continue;
        };
        let mut lines = text.lines().map(str::trim);
        if lines.any(|line| line.strip_prefix('[').and_then(|line| line.strip_suffix(']')) == Some(service)) {
            return lines
                .take_while(|line| !line.starts_with('['))
                .filter(|line| !line.is_empty() && !line.starts_with('#'))
                .map(|line| {
                    let (keyword, value) = line
                        .split_once('=')
                        .ok_or_else(|| format!("service file {}: `{}` is no key=value", file.display(), shown(line)))?;
                    Ok((keyword.trim().to_string(), value.trim().to_string()))
                })
                .collect();
        }
    }
    Err(format!("there is no service `{service}` in the service files"))
}

/// `host:port:database:user:password`, where `*` stands for any and a backslash in front of `:` and `\` for these.
fn password_of(line: &str, wanted: &[String; 4]) -> Option<String> {
    if line.starts_with('#') {
        return None;
    }
    let mut fields = vec![String::new()];
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => fields.last_mut()?.extend(chars.next()),
            // The password is the rest, whatever it holds.
            ':' if fields.len() < 5 => fields.push(String::new()),
            c => fields.last_mut()?.push(c),
        }
    }
    let password = fields.get(4)?;
    let fits = |(field, wanted): (&String, &String)| field == "*" || field == wanted;
    fields.iter().zip(wanted).all(fits).then(|| password.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, variables: &[(&str, &str)], home: Option<&Path>) -> Result<Conninfo, String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| value.to_string())
        };
        let around = Surroundings {
            variable: &variable,
            home: home.map(Path::to_path_buf),
        };
        Conninfo::read(text, &around)
    }

    const NOTHING: Surroundings = Surroundings {
        variable: &|_| None,
        home: None,
    };

    #[test]
    fn strings_and_uris_say_the_same() {
        let check = |text: &str, expect: &[(&str, &str)]| {
            let found = read(text, &[], None).expect(text).values;
            let found: Vec<(&str, &str)> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
            assert_eq!(found, expect, "{text}");
        };
        let all = [
            ("dbname", "my db"),
            ("host", "a,b"),
            ("password", "p@:'\\"),
            ("port", "1,2"),
            ("user", "u"),
        ];
        check("host = a,b port=1,2 user=u dbname='my db' password='p@:\\'\\\\'", &all);
        check("postgresql://u:p%40:'%5C@a:1,b:2/my%20db", &all);
        check(
            "postgres:///db?host=/tmp&ssl=true",
            &[("dbname", "db"), ("host", "/tmp"), ("sslmode", "require")],
        );
        check(
            "postgres://[::1]:5/?sslmode=verify-full",
            &[("host", "::1"), ("port", "5"), ("sslmode", "verify-full")],
        );
        check("", &[]);
    }

    #[test]
    fn mistakes_are_told_without_the_password() {
        let check = |text: &str, expect: &str| {
            let error = read(text, &[], None).err().expect(text);
            assert!(error.contains(expect) && !error.contains("secret"), "{text}: {error}");
        };
        check("sslmod=require", "did you mean `sslmode`?");
        check("mydb", "dbname=NAME");
        check("password='secret", "does not end");
        check("host=a secret", "no key=value");
        check("postgres://a%zz", "hexadecimal");
        check("host=a sslcrl=x", "sslcrl is not supported");
        check("service=none", "no service `none`");
    }

    #[test]
    fn the_environment_and_files_complete_it() {
        let home = tempfile::tempdir().expect("a directory");
        let (pgpass, services) = (home.path().join(".pgpass"), home.path().join(".pg_service.conf"));
        std::fs::write(&services, "# x\n[other]\nport=1\n[shop]\nhost=db\nport=7\n\n[last]\n").expect("written");
        std::fs::write(&pgpass, "db:7:shop:amy:wrong\n#\ndb:7:*:bob:a\\:b:c\\\\\n").expect("written");
        let set = |mode: u32| std::fs::set_permissions(&pgpass, std::fs::Permissions::from_mode(mode)).expect("set");
        set(0o600);
        let variables = [
            ("PGUSER", "bob"),
            ("PGPORT", "9"),
            ("PGSERVICE", "shop"),
            ("PGDATABASE", "x"),
        ];
        let found = read("dbname=y", &variables, Some(home.path())).expect("read");
        let around = Surroundings {
            home: Some(home.path().to_path_buf()),
            ..NOTHING
        };
        let servers = found.servers("bob", &around).expect("servers");
        let expect = Server {
            host: "db".into(),
            hostaddr: None,
            port: 7,
            password: Some("a:b:c\\".into()),
        };
        assert_eq!(
            (found.user(&around), found.dbname("bob")),
            (Ok("bob".into()), "y".into())
        );
        assert_eq!(servers, [expect]);
        set(0o644);
        assert!(
            found
                .servers("bob", &around)
                .is_err_and(|error| error.contains("chmod 600"))
        );
    }

    #[test]
    fn several_servers_are_tried_in_order() {
        let found = read("host=a,b port=7 password=x", &[], None).expect("read");
        let servers = found.servers("u", &NOTHING).expect("servers");
        let places: Vec<_> = servers
            .iter()
            .map(|server| (server.host.as_str(), server.port))
            .collect();
        assert_eq!(places, [("a", 7), ("b", 7)]);
        assert!(read("port=x", &[], None).expect("read").servers("u", &NOTHING).is_err());
    }
}
