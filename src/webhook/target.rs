//! The URL of a webhook: `http` or `https`, with a host.

use hyper::Uri;

/// Its path may be a secret (Slack's is), so that only the host is printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Target {
    pub host: String,
    pub port: u16,
    pub tls: bool,
    /// As the Host header has it.
    pub authority: String,
    pub path: String,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Target({})", self.authority)
    }
}

impl Target {
    pub fn parse(text: &str) -> Result<Target, String> {
        let wrong = |why: &str| format!("webhook: the URL {why}");
        let uri: Uri = text.trim().parse().map_err(|_| wrong("cannot be read"))?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(wrong("must begin with https:// or http://")),
        };
        let authority = uri.authority().ok_or_else(|| wrong("has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong(
                "holds a user or password; sign with --webhook-secret-file instead",
            ));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if host.is_empty() {
            return Err(wrong("has no host"));
        }
        Ok(Target {
            host,
            port: authority.port_u16().unwrap_or(if tls { 443 } else { 80 }),
            tls,
            authority: authority.to_string(),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_and_a_host() {
        let target = Target::parse("https://hooks.example/a?b=c").expect("good");
        assert_eq!(
            (target.host.as_str(), target.port, target.tls),
            ("hooks.example", 443, true)
        );
        assert_eq!(target.path, "/a?b=c");
        assert_eq!(format!("{target:?}"), "Target(hooks.example)");
        let target = Target::parse("http://[::1]:8080").expect("good");
        assert_eq!((target.host.as_str(), target.port, target.tls), ("::1", 8080, false));
        assert_eq!(target.path, "/");
        for (text, expect) in [
            ("ftp://a/", "must begin with"),
            ("hooks.example/a", "webhook: the URL "),
            ("https://a:b@c/", "user or password"),
            ("https://a b/", "cannot be read"),
        ] {
            let error = Target::parse(text).expect_err(text);
            assert!(error.contains(expect), "{error}");
        }
    }
}
