//! Who authenticates clients, and where the verifiers for that come from.

use super::options::AuthMode;
use super::timeout::timeout;
use crate::proxy::settings::{Auth, AuthQuery, Secret};
use std::path::PathBuf;
use std::time::Duration;

/// As PgBouncer's default: an expired password is none.
const AUTH_QUERY_DEFAULT: &str = "SELECT rolname, CASE WHEN rolvaliduntil < pg_catalog.now() THEN NULL ELSE rolpassword END \
    FROM pg_catalog.pg_authid WHERE rolname = $1";
const AUTH_DBNAME_DEFAULT: &str = "postgres";
const AUTH_CACHE_DEFAULT: Duration = Duration::from_secs(30);
/// No flag and no key: arguments and configuration files are read by too many.
const AUTH_PASSWORD_VARIABLE: &str = "LOCKKEEPER_AUTH_PASSWORD";

pub(super) fn auth(mode: Option<AuthMode>, file: Option<PathBuf>, query: Option<AuthQuery>) -> Result<Auth, String> {
    match mode {
        Some(AuthMode::Scram) if file.is_none() && query.is_none() => Err(
            "auth-file is not set: auth scram needs the users' verifiers; give --auth-file, or --auth-user to ask the server for \
             them"
                .into(),
        ),
        Some(AuthMode::Scram) => Ok(Auth::Scram { file, query }),
        None if file.is_some() => Err("auth-file is set, but not looked at without auth scram: give --auth scram too".into()),
        None if query.is_some() => Err("auth-user is set, but not looked at without auth scram: give --auth scram too".into()),
        None | Some(AuthMode::Passthrough) => Ok(Auth::PassThrough),
    }
}

pub(super) fn auth_query(
    user: Option<String>,
    sql: Option<String>,
    database: Option<String>,
    cache_s: Option<u64>,
) -> Result<Option<AuthQuery>, String> {
    let Some(user) = user else {
        let given = [
            (sql.is_some(), "auth-query"),
            (database.is_some(), "auth-dbname"),
            (cache_s.is_some(), "auth-cache-s"),
        ];
        return match given.iter().find(|(given, _)| *given) {
            Some((_, name)) => Err(format!(
                "{name} is set without auth-user: give --auth-user, the role that asks"
            )),
            None => Ok(None),
        };
    };
    let query = AuthQuery {
        user,
        sql: sql.unwrap_or_else(|| AUTH_QUERY_DEFAULT.into()),
        database: database.unwrap_or_else(|| AUTH_DBNAME_DEFAULT.into()),
        cache_time: timeout("auth-cache-s", cache_s, 0, AUTH_CACHE_DEFAULT)?,
        password: auth_password()?,
    };
    for (name, text) in [
        ("auth-user", &query.user),
        ("auth-query", &query.sql),
        ("auth-dbname", &query.database),
    ] {
        if text.is_empty() || text.contains('\0') {
            return Err(format!("{name}: it is empty, or has a NUL byte in it"));
        }
    }
    if !query.sql.contains("$1") {
        return Err("auth-query: it has no $1, which stands for the name that is asked for".into());
    }
    Ok(Some(query))
}

fn auth_password() -> Result<Option<Secret>, String> {
    let password = std::env::var_os(AUTH_PASSWORD_VARIABLE).filter(|password| !password.is_empty());
    let text = password.map(std::ffi::OsString::into_string).transpose();
    let text = text.map_err(|_| format!("{AUTH_PASSWORD_VARIABLE}: it is not UTF-8"))?;
    Ok(text.map(Secret::new))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::options::Options;

    #[test]
    fn who_authenticates_is_as_the_settings_say() {
        let resolve = |text: &str| {
            let text = format!("upstream = 'db'\n{}", text.replace("; ", "\n"));
            Ok::<_, String>(Options::parse(&text).expect("a good file").resolve()?.proxy.auth)
        };
        assert_eq!(resolve(""), Ok(Auth::PassThrough));
        assert_eq!(resolve("auth = 'passthrough'; auth-file = 'f'"), Ok(Auth::PassThrough));
        let file = Some("f".into());
        assert_eq!(
            resolve("auth = 'scram'; auth-file = 'f'"),
            Ok(Auth::Scram { file, query: None })
        );
        let query = |sql: &str, database: &str, cache_s| AuthQuery {
            user: "asker".into(),
            sql: sql.into(),
            database: database.into(),
            cache_time: Duration::from_secs(cache_s),
            password: None,
        };
        let scram = |file, query| {
            Ok(Auth::Scram {
                file,
                query: Some(query),
            })
        };
        assert_eq!(
            resolve("auth = 'scram'; auth-user = 'asker'"),
            scram(None, query(AUTH_QUERY_DEFAULT, "postgres", 30))
        );
        let all = "auth-file = 'f'; auth-user = 'asker'; auth-query = 'SELECT * FROM f($1)'; auth-dbname = 'd'; auth-cache-s = 0";
        assert_eq!(
            resolve(&format!("auth = 'scram'; {all}")),
            scram(Some("f".into()), query("SELECT * FROM f($1)", "d", 0))
        );
        assert_eq!(resolve(&format!("auth = 'passthrough'; {all}")), Ok(Auth::PassThrough));
        let wrong = |text: &str, expect: &str| {
            let error = resolve(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        };
        wrong("auth = 'scram'", "auth-file is not set");
        wrong("auth-file = 'f'", "--auth scram");
        wrong("auth-user = 'asker'", "--auth scram");
        wrong(
            "auth = 'scram'; auth-file = 'f'; auth-query = 'SELECT $1'",
            "auth-query is set without auth-user",
        );
        wrong(
            "auth = 'scram'; auth-file = 'f'; auth-dbname = 'd'",
            "auth-dbname is set without auth-user",
        );
        wrong(
            "auth = 'scram'; auth-file = 'f'; auth-cache-s = 1",
            "auth-cache-s is set without auth-user",
        );
        wrong(
            "auth = 'scram'; auth-user = 'a'; auth-query = 'SELECT 1'",
            "it has no $1",
        );
        wrong("auth = 'scram'; auth-user = ''", "auth-user: it is empty");
        wrong(
            "auth = 'scram'; auth-user = 'a'; auth-cache-s = 86401",
            "auth-cache-s: 86401 is out of range",
        );
    }
}
