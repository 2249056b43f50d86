//! What is read of a startup packet.

use crate::messages::c_string;

#[derive(Debug, Default, PartialEq, Eq)]
pub struct Parameters {
    pub user: String,
    pub database: String,
    pub application_name: String,
    pub replication: bool,
}

/// What the session needs to know of the startup packet, which goes to the server as it is.
pub fn startup_parameters(packet: &[u8]) -> Parameters {
    let mut found = Parameters::default();
    let mut rest = packet.get(8..).unwrap_or_default();
    while let Some((name, after)) = c_string(rest).filter(|(name, _)| !name.is_empty()) {
        let Some((value, next)) = c_string(after) else {
            break;
        };
        rest = next;
        let value = String::from_utf8_lossy(value).into_owned();
        match name {
            b"user" => found.user = value,
            b"database" => found.database = value,
            b"application_name" => found.application_name = value,
            b"replication" => {
                found.replication = !matches!(
                    value.to_ascii_lowercase().as_str(),
                    "false" | "off" | "no" | "0" | "f" | "n"
                )
            }
            _ => {}
        }
    }
    if found.database.is_empty() {
        found.database.clone_from(&found.user);
    }
    found
}

/// What of the startup packet may decide what a name means: all but what surely does not.
pub fn standing_parameters(packet: &[u8]) -> Vec<u8> {
    const OTHERS: [&[u8]; 7] = [
        b"application_name",
        b"client_encoding",
        b"DateStyle",
        b"TimeZone",
        b"extra_float_digits",
        b"datestyle",
        b"timezone",
    ];
    let mut found = Vec::new();
    let mut rest = packet.get(8..).unwrap_or_default();
    while let Some((name, after)) = c_string(rest).filter(|(name, _)| !name.is_empty()) {
        let Some((value, next)) = c_string(after) else {
            break;
        };
        rest = next;
        if !OTHERS.contains(&name) {
            [name, b"\0", value, b"\0"]
                .into_iter()
                .for_each(|part| found.extend_from_slice(part));
        }
    }
    found
}

/// The user as the server sees it: bytes, the last of several, cut as every name is.
pub fn user_name(packet: &[u8]) -> Vec<u8> {
    const NAME_BYTES_MAX: usize = 63;
    let mut rest = packet.get(8..).unwrap_or_default();
    let mut user = &[][..];
    while let Some((name, after)) = c_string(rest).filter(|(name, _)| !name.is_empty()) {
        let Some((value, next)) = c_string(after) else {
            break;
        };
        rest = next;
        if name == b"user" {
            user = &value[..value.len().min(NAME_BYTES_MAX)];
        }
    }
    user.to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn startup_parameters_are_read_and_the_database_defaults_to_the_user() {
        let read = |text: &[u8]| startup_parameters(&[&[0, 0, 0, 0, 0, 3, 0, 0], text].concat());
        let found = read(b"user\0amy\0application_name\0psql\0\0");
        assert_eq!(
            (
                found.user.as_str(),
                found.database.as_str(),
                found.application_name.as_str()
            ),
            ("amy", "amy", "psql")
        );
        assert!(read(b"user\0amy\0replication\0database\0\0").replication);
        assert!(!read(b"user\0amy\0replication\0false\0\0").replication);
        assert_eq!(read(b"user\0am"), Parameters::default());
        assert_eq!(read(b""), Parameters::default());
    }

    #[test]
    fn the_user_is_the_one_that_the_server_takes() {
        let read = |text: &[u8]| user_name(&[&[0, 0, 0, 0, 0, 3, 0, 0], text].concat());
        assert_eq!(read(b"user\0amy\0database\0x\0user\0b\xffb\0\0user\0carl\0"), b"b\xffb");
        assert_eq!(read(b"database\0x\0\0"), b"");
        assert_eq!(read(b"user\0am"), b"");
        let long = [&b"user\0"[..], &[b'x'; 70], b"\0\0"].concat();
        assert_eq!(read(&long), [b'x'; 63]);
    }
}
