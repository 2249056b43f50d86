//! `--upstream`: one server, or a list of them with the choice among them.

use super::address::{Address, UPSTREAM_PORT};
use super::options::TargetName;
use crate::proxy::settings::{ServerAt, Target, UpstreamTls, Upstreams};

/// More are a mistake: each is watched.
const SERVERS_MAX: usize = 32;

/// The addresses of a list with commas.
pub(super) fn servers(text: &str, listens: &[Address]) -> Result<Vec<Address>, String> {
    let mut servers = Vec::new();
    for one in text.split(',') {
        let server = Address::parse("upstream", one, UPSTREAM_PORT)?;
        if server.port() == 0 {
            return Err(format!(
                "upstream: {one} has port 0; a PostgreSQL server's is 5432 as a rule"
            ));
        }
        if listens.contains(&server) {
            return Err(format!(
                "upstream: {one} is where lockkeeper itself listens; give the PostgreSQL server's address"
            ));
        }
        if servers.contains(&server) {
            return Err(format!("upstream: {one} is given twice"));
        }
        servers.push(server);
    }
    match servers.len() {
        0..=SERVERS_MAX => Ok(servers),
        n => Err(format!("upstream: {n} servers are given; {SERVERS_MAX} are the most")),
    }
}

pub(super) fn upstreams(
    servers: Vec<Address>,
    target: Option<TargetName>,
    tls: impl Fn(&Address) -> Result<Option<UpstreamTls>, String>,
) -> Result<Upstreams, String> {
    let target = match target {
        // Sessions that change something have one place to go.
        None if servers.len() > 1 => Target::ReadWrite,
        None | Some(TargetName::Any) => Target::Any,
        Some(TargetName::ReadWrite) => Target::ReadWrite,
        Some(TargetName::ReadOnly) => Target::ReadOnly,
        Some(TargetName::Primary) => Target::Primary,
        Some(TargetName::Standby) => Target::Standby,
        Some(TargetName::PreferStandby) => Target::PreferStandby,
    };
    let servers = servers.into_iter().map(|server| {
        Ok(ServerAt {
            tls: tls(&server)?,
            address: server.upstream(),
        })
    });
    Ok(Upstreams {
        servers: servers.collect::<Result<_, String>>()?,
        target,
    })
}

#[cfg(test)]
mod tests {
    use crate::config::options::Options;
    use crate::proxy::settings::Target;

    fn resolve(text: &str) -> Result<(String, Target), String> {
        let options = Options::parse(text)?;
        let upstream = options.resolve()?.proxy.upstream;
        Ok((upstream.to_string(), upstream.target))
    }

    #[test]
    fn a_list_of_servers_has_one_that_is_written_to() {
        let good = [
            ("upstream = 'a'", "a:5432", Target::Any),
            ("upstream = 'a,b:5433'", "a:5432,b:5433", Target::ReadWrite),
            (
                "upstream = '[::1]:1,/tmp'\ntarget-session-attrs = 'prefer-standby'",
                "[::1]:1,/tmp/.s.PGSQL.5432",
                Target::PreferStandby,
            ),
            (
                "upstream = 'a'\ntarget-session-attrs = 'primary'",
                "a:5432",
                Target::Primary,
            ),
        ];
        for (text, list, target) in good {
            assert_eq!(resolve(text), Ok((list.into(), target)), "{text}");
        }
        for (text, expect) in [
            ("upstream = 'a,'", "is empty"),
            ("upstream = 'a,A:5432'", "A:5432 is given twice"),
            ("upstream = 'a,127.0.0.1:6432'", "lockkeeper itself listens"),
            ("upstream = 'a'\ntarget-session-attrs = 'master'", "unknown variant"),
        ] {
            let error = resolve(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        }
    }

    #[test]
    fn each_server_has_its_own_name_in_its_certificate() {
        let text = "upstream = 'a,b'\nupstream-tls = 'require'";
        let upstream = Options::parse(text)
            .and_then(Options::resolve)
            .expect("good")
            .proxy
            .upstream;
        let names: Vec<&str> = upstream
            .servers
            .iter()
            .filter_map(|server| Some(server.tls.as_ref()?.name.as_str()))
            .collect();
        assert_eq!(names, ["a", "b"]);
    }
}
