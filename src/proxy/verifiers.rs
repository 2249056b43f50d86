//! The file of `--auth-file`, as PgBouncer's auth_file: one `"user" "SCRAM-SHA-256$…"` a line. An error never shows what
//! stands where a password could.

use super::Current;
use super::scram::{Verifier, hmac_sha_256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The file's users, read again on SIGHUP.
pub struct AuthFile {
    path: PathBuf,
    users: Current<Users>,
}

pub struct Users {
    verifiers: BTreeMap<Vec<u8>, Verifier>,
    /// The salts of users that are not there come from it. Made of the file, so that they stay what they are when the
    /// proxy starts again, and are the same in front of several proxies.
    mock_key: [u8; 32],
}

impl AuthFile {
    pub fn load(path: &Path) -> Result<AuthFile, String> {
        Ok(AuthFile {
            path: path.to_owned(),
            users: Current::new(read(path)?),
        })
    }

    /// Logins from now on use what the file holds now; an error leaves everything as it was.
    pub fn reload(&self) -> Result<(), String> {
        self.users.set(read(&self.path)?);
        Ok(())
    }

    pub fn get(&self) -> Arc<Users> {
        self.users.get()
    }
}

impl Users {
    /// The user's verifier; for others one that no password fits and that looks like any, with `true`.
    pub fn find(&self, user: &[u8]) -> (Verifier, bool) {
        // Looked up and made up for every user, so that the time does not tell who is there.
        let mock = self.mock(user);
        match self.verifiers.get(user) {
            Some(verifier) => (verifier.clone(), false),
            None => (mock, true),
        }
    }

    fn mock(&self, user: &[u8]) -> Verifier {
        let like = self.verifiers.values().next();
        let mut salt = hmac_sha_256(&self.mock_key, user).to_vec();
        salt.truncate(like.map_or(16, |like| like.salt.len()));
        Verifier {
            iterations: like.map_or(4096, |like| like.iterations),
            salt,
            stored_key: [0; 32],
            server_key: [0; 32],
        }
    }

    fn parse(text: &[u8]) -> Result<Users, String> {
        let mut verifiers = BTreeMap::new();
        for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
            let line = line.trim_ascii();
            if line.is_empty() || line.starts_with(b";") {
                continue;
            }
            let wrong = |what: &str| format!("{number}: {what}");
            let form = || wrong("a line must be \"user\" \"SCRAM-SHA-256$…\", both in double quotes");
            let (user, rest) = quoted(line).ok_or_else(form)?;
            let (secret, _) = quoted(rest.trim_ascii_start()).ok_or_else(form)?;
            let name = String::from_utf8_lossy(&user).into_owned();
            let verifier = std::str::from_utf8(&secret).ok().and_then(Verifier::parse).ok_or_else(|| {
                let found = match secret.as_slice() {
                    b"" => "no verifier",
                    s if s.starts_with(b"SCRAM-SHA-256$") => "a SCRAM-SHA-256 verifier that cannot be read",
                    s if s.starts_with(b"md5") && s.len() == 35 => "an MD5 hash",
                    _ => "a password in plain text",
                };
                wrong(&format!(
                    "user \"{name}\" has {found}, where a SCRAM-SHA-256 verifier is needed: copy it from the server \
                     (SELECT rolpassword FROM pg_authid WHERE rolname = '{}')",
                    name.replace('\'', "''")
                ))
            })?;
            if verifiers.insert(user, verifier).is_some() {
                return Err(wrong(&format!("user \"{name}\" is there twice")));
            }
        }
        if verifiers.is_empty() {
            return Err("1: there is no user in it, so that nobody could log in".into());
        }
        let keys: Vec<u8> = verifiers.values().flat_map(|v| v.server_key).collect();
        Ok(Users {
            mock_key: hmac_sha_256(&keys, b"salts of users that are not there"),
            verifiers,
        })
    }
}

fn read(path: &Path) -> Result<Users, String> {
    let text = std::fs::read(path).map_err(|error| format!("auth-file: cannot read {}: {error}", path.display()))?;
    Users::parse(&text).map_err(|error| format!("auth-file: {}:{error}", path.display()))
}

/// A string in double quotes, where two of them stand for one; and what is behind it.
fn quoted(text: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut rest = text.strip_prefix(b"\"")?;
    let mut value = Vec::new();
    loop {
        let end = memchr::memchr(b'"', rest)?;
        value.extend_from_slice(&rest[..end]);
        rest = &rest[end + 1..];
        match rest.strip_prefix(b"\"") {
            Some(after) => {
                value.push(b'"');
                rest = after;
            }
            None => return Some((value, rest)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdHNhbHRzYWx0c2FsdA==$6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=:\
        dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    #[test]
    fn a_file_as_pgbouncer_has_it() {
        let text = format!("; a comment\r\n\n\"amy\" \"{VERIFIER}\" and more\r\n  \"b\"\"c d\"\t\"{VERIFIER}\"");
        let users = Users::parse(text.as_bytes()).expect("a good file");
        for (user, there) in [(&b"amy"[..], true), (b"b\"c d", true), (b"Amy", false), (b"", false)] {
            assert_eq!(users.find(user).1, !there);
        }
    }

    #[test]
    fn wrong_files_name_the_line_and_never_the_secret() {
        let check = |text: &str, expect: &str| {
            let Err(error) = Users::parse(text.as_bytes()) else {
                panic!("{text} is taken");
            };
            assert!(error.contains(expect) && !error.contains("hunter2"), "{error}");
        };
        check("", "no user");
        check("; only this", "no user");
        check("\n\"amy\" \"hunter2\"", "2: user \"amy\" has a password in plain text");
        check(
            "\"o'amy\" \"md51a79a4d60de6718e8e5b326e338ae533\"",
            "rolname = 'o''amy'",
        );
        check("\"amy\" \"md51a79a4d60de6718e8e5b326e338ae533\"", "an MD5 hash");
        check("\"amy\" \"SCRAM-SHA-256$hunter2\"", "cannot be read");
        check("\"amy\" \"\"", "no verifier");
        check("amy hunter2", "1: a line must be");
        check("\"amy\" \"hunter2", "1: a line must be");
        check("\"amy\"", "1: a line must be");
        check(
            &format!("\"a\" \"{VERIFIER}\"\n\"a\" \"{VERIFIER}\""),
            "2: user \"a\" is there twice",
        );
    }

    #[test]
    fn users_that_are_not_there_look_like_others_and_always_the_same() {
        let load = || Users::parse(format!("\"amy\" \"{VERIFIER}\"").as_bytes()).expect("a good file");
        let (bob, doomed) = load().find(b"bob");
        assert!(doomed && bob == load().find(b"bob").0);
        let (amy, _) = load().find(b"amy");
        assert_eq!((bob.iterations, bob.salt.len()), (amy.iterations, amy.salt.len()));
        assert!(bob.salt != amy.salt && bob.salt != load().find(b"carl").0.salt);
    }
}
