//! Verifiers that the proxy asks the server for. What a client is told is compared with what the server itself says; how
//! often the server is asked stands in the server's log.

use crate::hostile::{Amy, begin, initial};
use lockkeeper_cluster::{Cluster, Guarded};
use lockkeeper_testkit::encrypted::{check, hangup, login, stage_with, tls_server, words};
use lockkeeper_testkit::pki::{Files, PKI};
use lockkeeper_testkit::raw::{Message, Raw, error_field, rows, startup, tags};
use lockkeeper_testkit::{self, QUICK, Ran, Stage, until};
use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Instant;

const HBA: &str = "local all all trust
host all trusted 127.0.0.1/32 trust
host all asker_md5 127.0.0.1/32 password
host all asker_trusted 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
";
/// What SASLprep makes of it is another text: soft hyphen away, compatibility characters replaced.
const ASKERS_PASSWORD: &str = "pä\u{ad}ß Ⅳ ﬁn";
const ROLES: &str = "CREATE ROLE asker SUPERUSER LOGIN PASSWORD 'pä\u{ad}ß Ⅳ ﬁn';
CREATE ROLE asker_trusted SUPERUSER LOGIN;
CREATE ROLE asker_md5 SUPERUSER LOGIN PASSWORD 'secret';
CREATE ROLE stormer SUPERUSER LOGIN PASSWORD 'secret';
CREATE ROLE amy LOGIN PASSWORD 'secret';
CREATE ROLE bob LOGIN PASSWORD 'secret';
CREATE ROLE carl LOGIN PASSWORD 'secret';
CREATE ROLE \"o'd\"\"d Ünï\" LOGIN PASSWORD 'secret';
CREATE ROLE prepared LOGIN PASSWORD 'I\u{ad}X é';
CREATE ROLE trusted LOGIN PASSWORD 'secret';
CREATE ROLE nologin NOLOGIN PASSWORD 'secret';
CREATE ROLE nopassword LOGIN;
CREATE ROLE expired LOGIN PASSWORD 'secret' VALID UNTIL '2001-01-01';
SET password_encryption = 'md5';
CREATE ROLE md5 LOGIN PASSWORD 'secret';
RESET password_encryption;";

fn asked_cluster(major: u32) -> &'static Cluster {
    static V15: OnceLock<Cluster> = OnceLock::new();
    static V18: OnceLock<Cluster> = OnceLock::new();
    let slot = if major == 15 { &V15 } else { &V18 };
    slot.get_or_init(|| {
        tls_server(
            major,
            &[("log_connections", "on")],
            HBA,
            &format!("{ROLES}\n{}", lookup_of_the_book()),
        )
    })
}

/// What the book tells people to run, for another role.
fn lookup_of_the_book() -> String {
    let mut blocks = include_str!("../../docs/src/deploy/authentication.md").split("```");
    let block = blocks.find(|block| block.contains("CREATE FUNCTION public.user_lookup"));
    let sql = block
        .and_then(|block| block.strip_prefix("sql"))
        .expect("a block of SQL");
    sql.replace("asker", "looker").replace("change me", "secret")
}

/// A proxy in front of it that knows nobody but the one who asks. `more`: arguments behind the usual ones.
fn asking(major: u32, name: &str, asker: &str, more: &[&str]) -> (Stage, Files) {
    let files = Files::new();
    let users = files.put("users.txt", &line_of(asker));
    let mut arguments = files.offer(&PKI.proxy);
    arguments.extend(words(&["--auth", "scram", "--auth-file", &users, "--auth-user", asker]));
    arguments.extend(words(more));
    (stage_with(asked_cluster(major), name, &arguments), files)
}

fn line_of(asker: &str) -> String {
    let password = if asker == "asker" { ASKERS_PASSWORD } else { "secret" };
    format!("\"{asker}\" \"{password}\"\n")
}

/// How often the query of [`tagged`] has run.
fn asked(stage: &Stage, tag: &str) -> usize {
    let text = format!("/* {tag} */");
    let log = stage.cluster.log();
    log.lines()
        .filter(|line| line.contains("execute <unnamed>:") && line.contains(&text))
        .count()
}

fn tagged(tag: &str) -> String {
    format!(
        "/* {tag} */ SELECT rolname, CASE WHEN rolvaliduntil < now() THEN NULL ELSE rolpassword END FROM pg_authid WHERE rolname = $1"
    )
}

/// What psql says of a login: the error without the address, or that it worked.
fn outcome(ran: &Ran) -> String {
    match ran.stderr.split_once("FATAL:") {
        Some((_, error)) => error.trim().to_owned(),
        None => {
            assert_eq!(ran.status, 0, "{}", ran.stderr);
            "in".into()
        }
    }
}

/// A login with `secret` by the raw client, up to ReadyForQuery or the error.
fn raw_login(port: u16, user: &str, database: &str) -> (Raw, Vec<Message>) {
    let mut raw = Raw::open(port);
    raw.send(&startup(&[("user", user), ("database", database)]));
    let (tag, body) = raw.receive().expect("an offer");
    if tag == b'E' {
        return (raw, vec![(tag, body)]);
    }
    let mut amy = Amy::plain();
    raw.send(&amy.first());
    let (tag, body) = raw.receive().expect("a challenge");
    if tag == b'E' {
        return (raw, vec![(tag, body)]);
    }
    let last = amy.answer(tag, &body);
    raw.send(&last);
    let messages = raw.until_ready();
    (raw, messages)
}

fn users_are_told_what_the_server_tells(major: u32) {
    let (stage, _files) = asking(major, "told", "asker", &[]);
    let direct = Stage::without_proxy(stage.cluster, "direct");
    let users = [
        "amy",
        "'o\\'d\"d Ünï'",
        "prepared",
        "nologin",
        "nopassword",
        "expired",
        "md5",
        "nobody",
        "trusted",
    ];
    let plain = "sslmode=disable";
    let bound = "sslmode=require channel_binding=require";
    for user in users {
        for (password, modes) in [
            ("secret", &[plain, bound][..]),
            ("wrong", &[plain]),
            ("'I\u{ad}X é'", &[bound]),
        ] {
            // The server does not look at this one's password, the proxy does.
            if user == "trusted" && password != "secret" {
                let wrong = Err("password authentication failed for user \"trusted\"");
                check(login(&stage, user, password, plain), user, false, wrong);
                continue;
            }
            let expect = outcome(&login(&direct, user, password, plain));
            for more in modes {
                let ran = login(&stage, user, password, more);
                assert_eq!(outcome(&ran), expect, "{major}: {user}, {password}, {more}");
            }
        }
    }
    // Some of all these were let in.
    check(
        login(&stage, "amy", "secret", "sslmode=require"),
        "amy",
        true,
        Ok("amy, server leg plain"),
    );
    check(
        login(&stage, "prepared", "'IX é'", "sslmode=disable"),
        "prepared",
        false,
        Ok("prepared, server"),
    );
    assert_eq!(
        outcome(&login(&stage, "nologin", "secret", "")),
        "role \"nologin\" is not permitted to log in"
    );
    let log = stage.proxy_log();
    assert!(
        !log.contains("secret") && !log.contains("SCRAM-SHA-256$") && !log.contains(ASKERS_PASSWORD),
        "{log}"
    );
}

#[test]
fn users_are_told_what_the_server_tells_18() {
    users_are_told_what_the_server_tells(18);
}

#[test]
fn users_are_told_what_the_server_tells_15() {
    users_are_told_what_the_server_tells(15);
}

/// Both legs encrypted, and the proxy's own login bound to the server's certificate.
#[test]
fn the_auth_user_logs_in_over_tls() {
    let files = Files::new();
    let ca = files.put("ca.crt", &PKI.ca);
    let (stage, _files) = asking(
        18,
        "tls",
        "asker",
        &["--upstream-tls", "verify-full", "--upstream-ca", &ca],
    );
    let more = "sslmode=require channel_binding=require";
    check(
        login(&stage, "amy", "secret", more),
        "amy",
        true,
        Ok("amy, server leg TLS"),
    );
    let encrypted = "SELECT bool_and(ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
        WHERE usename = 'asker' AND query LIKE '%pg_authid%' AND ssl";
    assert_eq!(stage.direct(encrypted), "t");
}

/// As PgBouncer's documentation advises: a role that may do nothing but call one function.
#[test]
fn a_role_that_is_no_superuser_asks_through_a_security_definer_function() {
    for major in [15, 18] {
        let (stage, _files) = asking(major, "denied", "looker", &[]);
        let denied = Err("FATAL:  lockkeeper: passwords cannot be verified now, since the auth_query fails");
        check(
            login(&stage, "amy", "secret", "sslmode=disable"),
            "pg_authid",
            false,
            denied,
        );
        let log = stage.proxy_log();
        assert!(
            log.contains("permission denied for table pg_authid") && log.contains("SECURITY DEFINER function"),
            "{log}"
        );
        assert_eq!(
            error_field(&raw_login(stage.port, "amy", &stage.database).1, b'C').as_deref(),
            Some("28000")
        );

        let query = "SELECT * FROM public.user_lookup($1)";
        let (stage, _files) = asking(major, "function", "looker", &["--auth-query", query]);
        let try_as = |user| login(&stage, user, "secret", "sslmode=disable");
        check(try_as("amy"), "amy", false, Ok("amy, server leg plain"));
        // The function gives a row of NULLs for these.
        let failed = |user: &str| format!("password authentication failed for user \"{user}\"");
        check(try_as("nobody"), "nobody", false, Err(&failed("nobody")));
        check(try_as("asker"), "a superuser", false, Err(&failed("asker")));
    }
}

#[test]
fn the_password_of_the_auth_user_comes_from_the_environment_or_is_not_needed() {
    let cluster = asked_cluster(18);
    let start = |user: &str, password: &str| {
        let files = Files::new();
        std::fs::write(files.path("policy.toml"), QUICK).unwrap();
        let arguments = ["--auth", "scram", "--auth-user", user];
        let environment = [("LOCKKEEPER_AUTH_PASSWORD", password)];
        let upstream = format!("127.0.0.1:{}", cluster.port());
        let (proxy, port) = lockkeeper_testkit::start_proxy_in(&files.path(""), &upstream, &arguments, &environment);
        let (_, messages) = raw_login(port, "amy", "postgres");
        drop(proxy);
        (messages, std::fs::read_to_string(files.path("proxy.log")).unwrap())
    };
    for (user, password, expect) in [
        ("asker", ASKERS_PASSWORD, Ok(())),
        ("asker_trusted", "", Ok(())),
        (
            "asker",
            "",
            Err("set LOCKKEEPER_AUTH_PASSWORD, or give --auth-file a line"),
        ),
        (
            "asker",
            "hunter2",
            Err("password authentication failed for user \\\"asker\\\""),
        ),
        // A password is never sent.
        (
            "asker_md5",
            "secret",
            Err("the server asks for the password in plain text"),
        ),
    ] {
        let (messages, log) = start(user, password);
        let ready = tags(&messages).ends_with('Z');
        match expect {
            Ok(()) => assert!(ready, "{user}: {log}"),
            Err(text) => {
                assert!(
                    !ready && log.replace("\\\"", "\"").contains(&text.replace("\\\"", "\"")),
                    "{user}: {log}"
                );
                assert_eq!(error_field(&messages, b'C').as_deref(), Some("28000"));
            }
        }
        assert!(!log.contains("hunter2") && !log.contains(ASKERS_PASSWORD), "{log}");
    }
}

// --- the cache ----------------------------------------------------------------------------------------------------

/// The server shows each client its salt: that tells a new password from a wrong one.
#[test]
fn a_changed_role_is_noticed_at_once_and_wrong_passwords_are_not_asked_about() {
    let (stage, _files) = asking(
        18,
        "changes",
        "asker",
        &["--auth-query", &tagged("changes"), "--auth-cache-s", "86400"],
    );
    let works = Ok("dora, server leg plain");
    let wrong = Err("FATAL:  password authentication failed for user \"dora\"");
    let try_with = |password: &str| login(&stage, "dora", password, "sslmode=disable");
    check(try_with("one"), "not there yet", false, wrong);
    stage.direct("CREATE ROLE dora LOGIN PASSWORD 'one'");
    check(try_with("one"), "created", false, works);
    let before = asked(&stage, "changes");
    for _ in 0..10 {
        check(try_with("one"), "again", false, works);
    }
    assert_eq!(asked(&stage, "changes"), before);
    stage.direct("ALTER ROLE dora PASSWORD 'two'");
    check(try_with("one"), "the old password", false, wrong);
    check(try_with("two"), "the new password", false, works);
    stage.direct("ALTER ROLE dora PASSWORD 'three'");
    check(try_with("three"), "the newest password", false, works);
    stage.direct("ALTER ROLE dora VALID UNTIL '2001-01-01'");
    check(try_with("three"), "expired", false, wrong);
    stage.direct("ALTER ROLE dora VALID UNTIL 'infinity' PASSWORD NULL");
    check(try_with("three"), "without a password", false, wrong);
    stage.direct("DROP ROLE dora; CREATE ROLE dora LOGIN PASSWORD 'four'");
    check(try_with("four"), "another role", false, works);

    // Of many failures in a row a few are looked into, one a second for each user.
    let (before, began) = (asked(&stage, "changes"), Instant::now());
    for user in ["dora", "nobody"].repeat(20) {
        let (_, messages) = raw_login(stage.port, user, "postgres");
        assert_eq!(error_field(&messages, b'C').as_deref(), Some("28P01"));
    }
    let (asked_now, seconds) = (asked(&stage, "changes") - before, began.elapsed().as_secs() as usize);
    assert!(
        asked_now <= 3 + 2 * seconds,
        "asked {asked_now} times within {seconds} s"
    );
}

/// Where the server trusts the proxy it shows no salt: a failure makes the proxy ask again.
#[test]
fn a_new_password_of_a_user_whom_the_server_trusts_is_asked_for_after_a_failure() {
    let (stage, _files) = asking(
        18,
        "trusts",
        "asker",
        &["--auth-query", &tagged("trusts"), "--auth-cache-s", "86400"],
    );
    let works = |password: &str| login(&stage, "trusted", password, "sslmode=disable").status == 0;
    assert!(works("secret") && works("secret"));
    assert_eq!(asked(&stage, "trusts"), 1);
    stage.direct("ALTER ROLE trusted PASSWORD 'other'");
    until("the new password works", || works("other"));
    assert!(!works("secret"));
    stage.direct("ALTER ROLE trusted PASSWORD 'secret'");
    until("the old one works again", || works("secret"));
}

#[test]
fn without_a_cache_every_login_asks() {
    let (stage, _files) = asking(
        18,
        "uncached",
        "asker",
        &["--auth-query", &tagged("uncached"), "--auth-cache-s", "0"],
    );
    for n in 1..=3 {
        check(
            login(&stage, "amy", "secret", "sslmode=disable"),
            "amy",
            false,
            Ok("amy"),
        );
        assert_eq!(asked(&stage, "uncached"), n);
    }
    // And SIGHUP forgets what a long-lived cache holds.
    let (stage, _files) = asking(
        18,
        "forgets",
        "asker",
        &["--auth-query", &tagged("forgets"), "--auth-cache-s", "86400"],
    );
    for n in 1..=3 {
        check(
            login(&stage, "amy", "secret", "sslmode=disable"),
            "amy",
            false,
            Ok("amy"),
        );
        check(
            login(&stage, "amy", "secret", "sslmode=disable"),
            "amy",
            false,
            Ok("amy"),
        );
        assert_eq!(asked(&stage, "forgets"), n);
        hangup(&stage, "auth file read again");
    }
}

/// One connection, and one question for each user, however many come at once.
#[test]
fn a_storm_of_logins_asks_once_for_each_user() {
    let (stage, _files) = asking(
        18,
        "storm",
        "stormer",
        &["--auth-query", &tagged("storm"), "--threads", "4"],
    );
    let users = ["amy", "bob", "carl", "nobody", "nobody2"];
    let (at_once, began) = (std::sync::Barrier::new(60), Instant::now());
    std::thread::scope(|scope| {
        for n in 0..60 {
            let (stage, at_once) = (&stage, &at_once);
            scope.spawn(move || {
                at_once.wait();
                let (_raw, messages) = raw_login(stage.port, users[n % 5], &stage.database);
                assert_eq!(tags(&messages).ends_with('Z'), n % 5 < 3, "{messages:?}");
            });
        }
    });
    // Who failed may have been asked for again, once a second.
    let names = asked(&stage, "storm");
    assert!(
        (5..=5 + 2 * began.elapsed().as_secs() as usize).contains(&names),
        "{names}"
    );
    let log = stage.cluster.log();
    assert_eq!(log.matches("connection authorized: user=stormer").count(), 1, "{log}");
}

// --- what must not be told ----------------------------------------------------------------------------------------

/// For whoever is there and whoever is not, what a client sees is what the server itself shows.
#[test]
fn the_salts_are_the_server_s_own() {
    let (stage, _files) = asking(18, "salts", "asker", &[]);
    let salt = |port: u16, user: &str| {
        let (mut raw, _) = begin(Raw::open(port), user, "postgres");
        raw.send(&initial("SCRAM-SHA-256", b"n,,n=,r=abc"));
        let (_, challenge) = raw.receive().expect("a challenge");
        let challenge = String::from_utf8_lossy(&challenge[4..]).into_owned();
        challenge.split_once(",s=").expect("a salt").1.to_owned()
    };
    for user in ["amy", "nobody", "nologin", "nopassword", "expired", "md5"] {
        assert_eq!(salt(stage.port, user), salt(stage.cluster.port(), user), "{user}");
    }
    // Where the server shows none, everybody has one of his own, which does not change.
    let other = salt(stage.port, "trusted");
    assert!(other == salt(stage.port, "trusted") && other != salt(stage.port, "amy"));
}

#[test]
fn a_name_that_is_not_utf8_is_nobody_s() {
    let (stage, _files) = asking(18, "bytes", "asker", &[]);
    let told = |port: u16| {
        let mut packet = startup(&[("user", "n?body"), ("database", "postgres")]);
        let at = packet.iter().position(|byte| *byte == b'?').unwrap();
        packet[at] = 0xff;
        let mut raw = Raw::open(port);
        raw.send(&packet);
        raw.receive().expect("an offer");
        let mut amy = Amy::plain();
        raw.send(&amy.first());
        let last = amy.last(&mut raw);
        raw.send(&last);
        let [(b'E', body)] = &raw.until_ready()[..] else {
            panic!("no error")
        };
        let fields = body.split(|byte| *byte == 0).map(<[u8]>::to_vec);
        fields
            .filter(|field| field.first().is_some_and(|name| b"SVCM".contains(name)))
            .collect::<Vec<_>>()
    };
    assert_eq!(told(stage.port), told(stage.cluster.port()));
    assert!(!stage.proxy_log().contains("ERROR"), "{}", stage.proxy_log());
}

// --- failures -----------------------------------------------------------------------------------------------------

#[test]
fn a_query_that_gives_no_verifier_is_explained_and_harms_nobody_else() {
    for (query, expect) in [
        (
            "SELECT rolname FROM pg_authid WHERE rolname = $1",
            "it gives 1 columns, where two are needed",
        ),
        (
            "SELECT rolname, rolpassword FROM pg_authid WHERE $1::text <> ''",
            "it gives several rows",
        ),
        (
            "SELECT 'x', rolpassword FROM pg_authid WHERE rolname = $1",
            "asked for user \"amy\" it gives \"x\"",
        ),
        ("SELEC $1", "syntax error at or near \"SELEC\" (42601)"),
        (
            "SELECT 1 WHERE $1 = ''; SELECT 2",
            "cannot insert multiple commands into a prepared statement",
        ),
    ] {
        let (stage, _files) = asking(18, "wrong", "asker", &["--auth-query", query]);
        let (_, messages) = raw_login(stage.port, "amy", "postgres");
        assert_eq!(error_field(&messages, b'C').as_deref(), Some("28000"), "{query}");
        let message = error_field(&messages, b'M').unwrap();
        assert_eq!(
            message,
            "lockkeeper: passwords cannot be verified now, since the auth_query fails"
        );
        let log = stage.proxy_log().replace("\\\"", "\"");
        assert!(log.contains(expect), "{query}: {log}");
    }
    let query = "SELECT rolname, rolpassword FROM pg_authid
        WHERE rolname = $1 AND 1 / (CASE WHEN rolname = 'bob' THEN 0 ELSE 1 END) = 1";
    let (stage, _files) = asking(18, "wrong", "asker", &["--auth-query", query, "--auth-cache-s", "0"]);
    for (user, there) in [("bob", false), ("amy", true), ("bob", false), ("carl", true)] {
        assert_eq!(
            tags(&raw_login(stage.port, user, "postgres").1).ends_with('Z'),
            there,
            "{user}"
        );
    }
}

#[test]
fn a_wrong_password_of_the_auth_user_is_told_and_can_be_mended() {
    let (stage, files) = asking(18, "mended", "asker", &[]);
    files.put("users.txt", &line_of("asker").replace(ASKERS_PASSWORD, "hunter2"));
    hangup(&stage, "auth file read again");
    let (_, messages) = raw_login(stage.port, "bob", "postgres");
    assert_eq!(error_field(&messages, b'C').as_deref(), Some("28000"));
    let log = stage.proxy_log();
    assert!(
        log.contains("login of the auth_user: the server: password authentication failed"),
        "{log}"
    );
    assert!(!log.contains("hunter2"), "{log}");
    files.put("users.txt", &line_of("asker"));
    hangup(&stage, "auth file read again");
    until("bob is in", || {
        tags(&raw_login(stage.port, "bob", "postgres").1).ends_with('Z')
    });
}

#[test]
fn a_lost_connection_is_opened_again_and_one_that_is_not_needed_any_more_is_closed() {
    let (stage, _files) = asking(
        18,
        "lost",
        "asker",
        &["--auth-query", &tagged("lost"), "--auth-cache-s", "0"],
    );
    let log_in = || raw_login(stage.port, "amy", &stage.database);
    let asker = "FROM pg_stat_activity WHERE usename = 'asker' AND query LIKE '/* lost */%'";
    for _ in 0..3 {
        assert!(tags(&log_in().1).ends_with('Z'));
        assert_eq!(
            stage.direct(&format!("SELECT bool_and(pg_terminate_backend(pid, 10000)) {asker}")),
            "t"
        );
    }
    let (mut raw, _) = log_in();
    raw.query("BEGIN");
    assert_eq!(stage.direct(&format!("SELECT count(*) {asker}")), "1");
    stage.proxy().signal(libc::SIGTERM).unwrap();
    until("the proxy has let go", || {
        stage.direct(&format!("SELECT count(*) {asker}")) == "0"
    });
    assert_eq!(rows(&raw.query("SELECT 7")), ["7"]);
    assert!(!stage.proxy_log().contains("ERROR"), "{}", stage.proxy_log());
}

#[test]
fn a_query_that_waits_is_ended_by_the_server() {
    let query = "SELECT rolname, rolpassword FROM pg_authid, pg_sleep(60) WHERE rolname = $1";
    let (stage, files) = asking(
        18,
        "waits",
        "asker",
        &["--auth-query", query, "--connect-timeout-s", "1"],
    );
    let verifier = stage.direct("SELECT rolpassword FROM pg_authid WHERE rolname = 'amy'");
    files.put("users.txt", &format!("{}\"amy\" \"{verifier}\"\n", line_of("asker")));
    hangup(&stage, "auth file read again");
    let (port, database) = (stage.port, stage.database.clone());
    let bob = std::thread::spawn(move || raw_login(port, "bob", &database).1);
    let sleeping = "SELECT count(*) FROM pg_stat_activity WHERE usename = 'asker' AND wait_event = 'PgSleep'";
    until("bob is asked for", || {
        stage.direct(sleeping) == "1" || bob.is_finished()
    });
    // Whoever is in the file does not wait.
    assert!(tags(&raw_login(stage.port, "amy", &stage.database).1).ends_with('Z'));
    assert_eq!(error_field(&bob.join().unwrap(), b'C').as_deref(), Some("28000"));
    assert!(
        stage
            .proxy_log()
            .contains("canceling statement due to statement timeout"),
        "{}",
        stage.proxy_log()
    );
    until("nobody sleeps", || stage.direct(sleeping) == "0");
}

/// What becomes of the proxy's own connection on its way to the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Open,
    /// Nothing comes through any more.
    Hung,
    Closed,
    /// The answer is no PostgreSQL's.
    Garbage,
}

/// A network between proxy and server that can treat that connection alone.
fn network(server_port: u16) -> (u16, Arc<Mutex<Way>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let way = Arc::new(Mutex::new(Way::Open));
    let all = Arc::clone(&way);
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let way = Arc::clone(&all);
            // Whoever goes away ends only his own connection.
            std::thread::spawn(move || pass(client.unwrap(), server_port, &way));
        }
    });
    (port, way)
}

fn pass(mut client: TcpStream, server_port: u16, way: &Arc<Mutex<Way>>) -> std::io::Result<()> {
    let mut packet = [0; 10_000];
    let len = client.read(&mut packet)?;
    let own = packet[..len].windows(21).any(|part| part == b"lockkeeper auth_query");
    let way = if own {
        Arc::clone(way)
    } else {
        Arc::new(Mutex::new(Way::Open))
    };
    if *way.lock().unwrap() == Way::Garbage {
        client.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")?;
    }
    let mut server = TcpStream::connect(("127.0.0.1", server_port))?;
    let (mut from_server, mut to_client) = (server.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_server, &mut to_client);
        let _ = to_client.shutdown(Shutdown::Both);
    });
    let mut part = packet[..len].to_vec();
    while !part.is_empty() {
        let now = *way.lock().unwrap();
        match now {
            Way::Open => server.write_all(&part)?,
            Way::Closed => break,
            Way::Hung | Way::Garbage => {}
        }
        part.resize(10_000, 0);
        let len = client.read(&mut part)?;
        part.truncate(len);
    }
    let _ = client.shutdown(Shutdown::Both);
    server.shutdown(Shutdown::Both)
}

#[test]
fn a_server_that_cannot_be_asked_harms_only_logins_that_need_it() {
    let cluster = asked_cluster(18);
    let files = Files::new();
    std::fs::write(files.path("policy.toml"), QUICK).unwrap();
    let verifier = cluster
        .psql("postgres", "SELECT rolpassword FROM pg_authid WHERE rolname = 'amy'")
        .unwrap();
    let amy = format!("{}\"amy\" \"{}\"\n", line_of("asker"), verifier.trim());
    let users = files.put("users.txt", &amy);
    let (between, way) = network(cluster.port());
    let arguments = ["--auth", "scram", "--auth-file", &users, "--auth-user", "asker"];
    let more = ["--auth-cache-s", "0", "--connect-timeout-s", "1"];
    let (proxy, port): (Guarded, u16) = lockkeeper_testkit::start_proxy(
        &files.path(""),
        &format!("127.0.0.1:{between}"),
        &[&arguments[..], &more].concat(),
    );
    let log = || std::fs::read_to_string(files.path("proxy.log")).unwrap();
    let log_in = |user: &str| raw_login(port, user, "postgres");
    let is_in = |user: &str| tags(&log_in(user).1).ends_with('Z');
    let (mut bystander, _) = log_in("amy");
    for (now, expect) in [
        (
            Way::Hung,
            "the server does not finish the login of the auth_user within 1 s",
        ),
        (
            Way::Closed,
            "login of the auth_user: the server: it closed the connection",
        ),
        (
            Way::Garbage,
            "login of the auth_user: the server: it sent a message of invalid length",
        ),
    ] {
        // On its way to a connection, and with one that has worked.
        for used in [false, true] {
            if used {
                *way.lock().unwrap() = Way::Open;
                until("bob is in", || is_in("bob"));
            }
            *way.lock().unwrap() = now;
            let before = log().matches(expect).count();
            // For a second after a failure everybody is told the same.
            until(expect, || {
                let (_, messages) = log_in("bob");
                assert_eq!(
                    error_field(&messages, b'C').as_deref(),
                    Some("08006"),
                    "{now:?}: {messages:?}"
                );
                log().matches(expect).count() > before
            });
            assert!(is_in("amy"), "{now:?}, {used}");
            assert_eq!(rows(&bystander.query("SELECT 7")), ["7"]);
        }
    }
    *way.lock().unwrap() = Way::Open;
    until("bob is in", || is_in("bob"));
    assert!(proxy.is_alive());
}
