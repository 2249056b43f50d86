//! A server and a proxy with TLS, and psql's logins through them: for the tests of TLS and of SCRAM.

use crate::pki::{PKI, SSL_REQUEST, tcp};
use crate::{QUICK, Ran, Stage, own_cluster, until};
use lockkeeper_cluster::Cluster;
use std::io::{Read, Write};

/// A server with ssl = on, this pg_hba.conf and these roles.
pub fn tls_server(major: u32, settings: &[(&str, &str)], hba: &str, roles: &str) -> Cluster {
    let cluster = own_cluster(major, settings);
    let put = |name, contents: &str| cluster.write_data_file(name, contents).unwrap();
    put("server.crt", &PKI.server.cert);
    put("server.key", &PKI.server.key);
    put("pg_hba.conf", hba);
    cluster.psql("postgres", roles).unwrap();
    cluster.psql("postgres", "ALTER SYSTEM SET ssl = on").unwrap();
    cluster.psql("postgres", "SELECT pg_reload_conf()").unwrap();
    until("the server offers TLS", || {
        let mut stream = tcp(cluster.port());
        stream.write_all(&SSL_REQUEST).unwrap();
        let mut answer = [0];
        stream.read_exact(&mut answer).is_ok() && answer == *b"S"
    });
    cluster
}

pub fn stage_with(cluster: &'static Cluster, name: &str, arguments: &[String]) -> Stage {
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    Stage::on(cluster, name, QUICK, &arguments)
}

pub fn words(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| word.to_string()).collect()
}

/// Sends the proxy SIGHUP and waits until its log says so.
#[track_caller]
pub fn hangup(stage: &Stage, told: &str) {
    let before = stage.proxy_log().matches(told).count();
    stage.proxy().signal(libc::SIGHUP).unwrap();
    until(told, || stage.proxy_log().matches(told).count() > before);
}

/// psql's login with `more` in its connection string; it says who it is and how the server sees the connection.
pub fn login(stage: &Stage, user: &str, password: &str, more: &str) -> Ran {
    let target = format!("dbname={} user={user} password={password} {more}", stage.database);
    let sql = "\\conninfo\nSELECT current_user || ', server leg ' || CASE WHEN ssl THEN 'TLS' ELSE 'plain' END
        FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
    stage.psql_args(&["-At", "-d", &target], sql)
}

/// `expect`: what must be in the output, or what the error must say.
#[track_caller]
pub fn check(ran: Ran, cell: &str, client_tls: bool, expect: Result<&str, &str>) {
    match expect {
        Ok(works) => {
            assert_eq!(ran.status, 0, "{cell}: {}", ran.stderr);
            let encrypted = ran.stdout.contains("SSL connection (protocol: TLSv1.3");
            assert_eq!(encrypted, client_tls, "{cell}: {}", ran.stdout);
            assert!(ran.stdout.contains(works), "{cell}: {}", ran.stdout);
        }
        Err(text) => {
            assert_eq!(ran.status, 2, "{cell}: {}", ran.stdout);
            assert!(ran.stderr.contains(text), "{cell}: {}", ran.stderr);
        }
    }
}
