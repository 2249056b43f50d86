//! What users' passwords are verified with: the file of `--auth-file`, as PgBouncer's auth_file, one
//! `"user" "SCRAM-SHA-256$…"` a line, and whoever is not in it by [`super::auth_query`]. Start at [`Verifiers::find`].
//! An error never shows what stands where a password could.

use super::current::Current;
use super::lookup::{Ask, Lookup};
use super::settings::{AuthQuery, Secret};
use lockkeeper_wire::messages::Report;
use lockkeeper_wire::scram::{self, Salting, Verifier, hmac_sha_256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use tokio::sync::mpsc;

/// The file's users, read again on SIGHUP, and where to ask for others.
pub struct Verifiers {
    path: Option<PathBuf>,
    users: Current<Users>,
    lookup: Option<Lookup>,
    /// Salts are made up with it if the file holds no secret: of the auth_user's password, else by chance.
    mock_key: [u8; 32],
}

/// What a client has to prove.
pub struct Found {
    pub verifier: Verifier,
    pub source: Source,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    File,
    Query,
    /// There is no such user, or it has no password: the verifier is one that no password fits and that looks like any.
    Nowhere,
}

struct Users {
    verifiers: BTreeMap<Vec<u8>, Verifier>,
    /// The password of the auth_user, if the file has it.
    auth_password: Option<Secret>,
    /// Salts are made up with it, if there is a secret that it can be made of: so they stay what they are when the proxy
    /// starts again, and are the same in front of several proxies.
    mock_key: Option<[u8; 32]>,
}

impl Verifiers {
    /// Reads the file, if there is one; without `query` there must be. `asks` leads to [`super::auth_query::answer`].
    pub fn load(path: Option<&Path>, query: Option<&AuthQuery>, asks: mpsc::Sender<Ask>) -> Result<Verifiers, String> {
        let users = match path {
            Some(path) => read(path, query.map(|query| query.user.as_str()))?,
            None => Users {
                verifiers: BTreeMap::new(),
                auth_password: None,
                mock_key: None,
            },
        };
        let password = query.and_then(|query| query.password.as_ref());
        let secret = password.map_or_else(scram::nonce, |password| Ok(password.text().to_owned()))?;
        Ok(Verifiers {
            path: path.map(Path::to_owned),
            users: Current::new(users),
            lookup: query.map(|query| Lookup::new(query.clone(), asks)),
            mock_key: mock_key(secret.as_bytes()),
        })
    }

    /// Logins from now on use what the file holds now, and nobody's answer of before; an error leaves the file's users as
    /// they were.
    pub fn reload(&self) -> Result<(), String> {
        if let Some(lookup) = &self.lookup {
            lookup.forget();
        }
        if let Some(path) = &self.path {
            let auth_user = self.lookup.as_ref().map(|lookup| lookup.settings.user.as_str());
            self.users.set(read(path, auth_user)?);
        }
        Ok(())
    }

    /// `shown`: what the server shows this client, if it asks for a password at all. The error is for the client.
    pub async fn find(&self, user: &[u8], shown: Option<&Salting>) -> Result<Found, Report> {
        let users = self.users.get();
        // Made up for every user, so that the time does not tell who is there.
        let mock = users.mock(user, shown, &self.mock_key);
        if let Some(verifier) = users.verifiers.get(user) {
            return Ok(Found {
                verifier: verifier.clone(),
                source: Source::File,
            });
        }
        let answer = match &self.lookup {
            Some(lookup) => lookup.find(user, shown).await.map_err(|failed| failed.report())?,
            None => None,
        };
        Ok(match answer {
            Some(verifier) => Found {
                verifier,
                source: Source::Query,
            },
            None => Found {
                verifier: mock,
                source: Source::Nowhere,
            },
        })
    }

    /// Somebody has failed with what was found.
    pub fn doubt(&self, user: &[u8]) {
        if let Some(lookup) = &self.lookup {
            lookup.doubt(user);
        }
    }

    pub fn lookup(&self) -> Option<&Lookup> {
        self.lookup.as_ref()
    }

    /// The password of the auth_user: of the environment, else of the file.
    pub fn auth_password(&self) -> Option<Secret> {
        let set = self.lookup.as_ref().and_then(|lookup| lookup.settings.password.clone());
        set.or_else(|| self.users.get().auth_password.clone())
    }
}

impl Users {
    /// With what the server shows, which has made it up already if there is no such user; else with a salt of our own.
    fn mock(&self, user: &[u8], shown: Option<&Salting>, other_key: &[u8; 32]) -> Verifier {
        let like = self.verifiers.values().next().map(|like| &like.salting);
        let made_up = || {
            let mut salt = hmac_sha_256(self.mock_key.as_ref().unwrap_or(other_key), user).to_vec();
            salt.truncate(like.map_or(16, |like| like.salt.len()));
            let iterations = like.map_or(4096, |like| like.iterations);
            Salting { salt, iterations }
        };
        Verifier {
            salting: shown.cloned().unwrap_or_else(made_up),
            stored_key: [0; 32],
            server_key: [0; 32],
        }
    }

    fn parse(text: &[u8], auth_user: Option<&str>) -> Result<Users, String> {
        let mut verifiers = BTreeMap::new();
        let mut auth_password = None;
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
            let text = std::str::from_utf8(&secret).ok();
            let verifier = match (text.and_then(Verifier::parse), kind(&secret)) {
                (Some(verifier), _) => verifier,
                (None, PLAIN) if auth_user.is_some_and(|auth_user| auth_user.as_bytes() == user) => {
                    auth_password = text.map(|text| Secret::new(text.to_owned()));
                    continue;
                }
                (None, found) => {
                    return Err(wrong(&format!(
                        "user \"{name}\" has {found}, where a SCRAM-SHA-256 verifier is needed: copy it from the server \
                         (SELECT rolpassword FROM pg_authid WHERE rolname = '{}')",
                        name.replace('\'', "''")
                    )));
                }
            };
            if verifiers.insert(user, verifier).is_some() {
                return Err(wrong(&format!("user \"{name}\" is there twice")));
            }
        }
        if verifiers.is_empty() && auth_user.is_none() {
            return Err("1: there is no user in it, so that nobody could log in".into());
        }
        let mut secrets: Vec<u8> = verifiers.values().flat_map(|v| v.server_key).collect();
        secrets.extend(
            auth_password
                .iter()
                .flat_map(|password: &Secret| password.text().bytes()),
        );
        Ok(Users {
            mock_key: (!secrets.is_empty()).then(|| mock_key(&secrets)),
            verifiers,
            auth_password,
        })
    }
}

fn mock_key(secrets: &[u8]) -> [u8; 32] {
    hmac_sha_256(secrets, b"salts of users that are not there")
}

const PLAIN: &str = "a password in plain text";

/// What stands there, if it is no verifier that can be used.
fn kind(secret: &[u8]) -> &'static str {
    match secret {
        b"" => "no verifier",
        s if s.starts_with(b"SCRAM-SHA-256$") => "a SCRAM-SHA-256 verifier that cannot be read",
        s if s.starts_with(b"md5") && s.len() == 35 => "an MD5 hash",
        _ => PLAIN,
    }
}

fn read(path: &Path, auth_user: Option<&str>) -> Result<Users, String> {
    let text = std::fs::read(path).map_err(|error| format!("auth-file: cannot read {}: {error}", path.display()))?;
    Users::parse(&text, auth_user).map_err(|error| format!("auth-file: {}:{error}", path.display()))
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
        let users = Users::parse(text.as_bytes(), None).expect("a good file");
        for (user, there) in [(&b"amy"[..], true), (b"b\"c d", true), (b"Amy", false), (b"", false)] {
            assert_eq!(users.verifiers.contains_key(user), there);
        }
    }

    #[test]
    fn only_the_auth_user_has_a_password_in_the_file() {
        let text = b"\"asker\" \"hunter2\"";
        let users = Users::parse(text, Some("asker")).expect("a good file");
        assert_eq!(
            users.auth_password.map(|password| password.text().to_owned()),
            Some("hunter2".into())
        );
        // Nobody logs in with it but the proxy.
        assert!(users.verifiers.is_empty());
        assert!(Users::parse(text, Some("other")).is_err());
        assert!(Users::parse(b"\"asker\" \"md51a79a4d60de6718e8e5b326e338ae533\"", Some("asker")).is_err());
        let both = format!("\"asker\" \"{VERIFIER}\"");
        let users = Users::parse(both.as_bytes(), Some("asker")).expect("a good file");
        assert!(users.auth_password.is_none() && users.verifiers.contains_key(&b"asker"[..]));
    }

    #[test]
    fn wrong_files_name_the_line_and_never_the_secret() {
        let check = |text: &str, expect: &str| {
            let Err(error) = Users::parse(text.as_bytes(), None) else {
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
        let text = format!("\"amy\" \"{VERIFIER}\"");
        let users = Users::parse(text.as_bytes(), None).expect("a good file");
        let amy = &users.verifiers[&b"amy"[..]].salting;
        let mock = |user: &str, shown| users.mock(user.as_bytes(), shown, &[7; 32]).salting;
        assert!(mock("bob", None) == mock("bob", None) && mock("bob", None) != mock("carl", None));
        let bob = mock("bob", None);
        assert_eq!((bob.iterations, bob.salt.len()), (amy.iterations, amy.salt.len()));
        assert!(mock("bob", Some(amy)) == *amy);
    }

    #[test]
    fn salts_outlive_the_process_if_there_is_any_secret() {
        let load = |text: &str, password: Option<&str>| {
            let directory = tempfile::tempdir().expect("a directory");
            let path = directory.path().join("users.txt");
            std::fs::write(&path, text).expect("a file");
            let query = AuthQuery {
                user: "asker".into(),
                sql: "SELECT $1".into(),
                database: "postgres".into(),
                cache_time: std::time::Duration::ZERO,
                password: password.map(|text| Secret::new(text.into())),
            };
            let verifiers = Verifiers::load(Some(&path), Some(&query), mpsc::channel(1).0).expect("a good file");
            let mock = verifiers.users.get().mock(b"bob", None, &verifiers.mock_key);
            mock.salting.salt
        };
        let amy = format!("\"amy\" \"{VERIFIER}\"");
        assert_eq!(load(&amy, None), load(&amy, None));
        assert_eq!(load("", Some("a")), load("", Some("a")));
        assert_eq!(load("\"asker\" \"a\"", None), load("\"asker\" \"a\"", None));
        assert_ne!(load("", Some("a")), load("", Some("b")));
        assert_ne!(load("", None), load("", None));
    }
}
