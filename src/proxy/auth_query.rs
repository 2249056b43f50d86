//! `--auth-user`: asks the server itself for the verifiers of users that are not in the auth file, as PgBouncer's
//! auth_query does. All logins share one connection, which a task of its own keeps ([`answer`]), and a cache ([`super::lookup`]).

use super::login::{self, Asked, Ended};
use super::lookup::{Ask, Failed};
use super::settings::AuthQuery;
use super::shared::{Shared, Stop};
use super::stream::Stream;
use super::verifiers::Verifiers;
use bytes::{BufMut, BytesMut};
use lockkeeper_wire::messages::{self as wire, Report};
use lockkeeper_wire::scram::{Keys, Verifier};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::sync::mpsc;
use tokio::time::timeout;

/// Where there is no connection everybody is told so for this time, and no other is tried.
const FAILURE_PAUSE: Duration = Duration::from_secs(1);
/// The connection is closed when nobody has asked for this time.
const IDLE_TIME: Duration = Duration::from_secs(60);
/// The server ends the query itself; this much later it is given up.
const GRACE_TIME: Duration = Duration::from_secs(1);
/// Answers all logins, one after the other, as long as the process runs.
pub async fn answer(shared: Arc<Shared>, mut asks: mpsc::Receiver<Ask>) {
    let Some((verifiers, lookup)) = shared.verifiers.as_ref().and_then(|v| Some((v, v.lookup()?))) else {
        return;
    };
    let mut stop = shared.stop.subscribe();
    let mut connection: Option<Stream> = None;
    let mut failure: Option<(Instant, Failed)> = None;
    loop {
        let stopping = async {
            let _ = stop.wait_for(|stop| *stop != Stop::No).await;
        };
        let ask = tokio::select! {
            biased;
            ask = asks.recv() => ask,
            _ = timeout(IDLE_TIME, stopping), if connection.is_some() => {
                if let Some(server) = connection.take() {
                    close(server).await;
                }
                continue;
            }
        };
        let Some(Ask { user, shown, reply }) = ask else { return };
        if reply.is_closed() {
            continue;
        }
        // Another login may have asked the same meanwhile.
        if let Some(verifier) = lookup.cached(&user, shown.as_ref()) {
            let _ = reply.send(Ok(verifier));
            continue;
        }
        if let Some((_, failed)) = failure.as_ref().filter(|(at, _)| at.elapsed() < FAILURE_PAUSE) {
            let _ = reply.send(Err(failed.clone()));
            continue;
        }
        let answer = ask_again(&shared, verifiers, &lookup.settings, &mut connection, &user).await;
        failure = None;
        match &answer {
            Ok(verifier) => lookup.keep(user, shown, verifier.clone()),
            Err(failed) => {
                let (Failed::Unreachable(error) | Failed::Unanswered(error)) = failed;
                tracing::error!(error, auth_user = lookup.settings.user, "the auth_query failed");
                // With a connection it was about this one user.
                if connection.is_none() {
                    failure = Some((Instant::now(), failed.clone()));
                }
            }
        }
        let _ = reply.send(answer);
    }
}

/// A connection that has been idle may have ended, which shows only when it is used: then a new one is opened.
async fn ask_again(
    shared: &Shared,
    verifiers: &Verifiers,
    settings: &AuthQuery,
    connection: &mut Option<Stream>,
    user: &[u8],
) -> Result<Option<Verifier>, Failed> {
    let time = shared.limits.connect_timeout;
    let reused = connection.take();
    let idle_before = reused.is_some();
    let mut server = match reused {
        Some(server) => server,
        None => open(shared, verifiers, settings).await?,
    };
    let mut asked = ask(&mut server, &settings.sql, user, time).await;
    if idle_before && matches!(asked, Err(Trouble::Lost(_))) {
        server = open(shared, verifiers, settings).await?;
        asked = ask(&mut server, &settings.sql, user, time).await;
    }
    match asked {
        Ok(rows) => {
            *connection = Some(server);
            read_answer(&rows, user).map_err(|why| Failed::Unanswered(format!("--auth-query: {why}")))
        }
        Err(Trouble::Refused(report)) => {
            *connection = Some(server);
            // A name that is none in the server's encoding.
            if report.sqlstate() == "22021" {
                return Ok(None);
            }
            Err(Failed::Unanswered(explained(&report, settings)))
        }
        Err(Trouble::Lost(why)) => Err(Failed::Unreachable(format!("{why} while it answers the auth_query"))),
    }
}

/// The server's error, with what to do about the one that everybody meets first.
fn explained(report: &Report, settings: &AuthQuery) -> String {
    let error = format!("the server: {} ({})", report.message(), report.sqlstate());
    match report.sqlstate().as_str() {
        "42501" => format!(
            "{error}; only superusers read pg_authid: let --auth-query call a SECURITY DEFINER function that role \"{}\" \
             may execute",
            settings.user
        ),
        "42883" | "42P01" => format!(
            "{error}; --auth-query runs with a search_path of pg_catalog alone: write what it calls and reads with its schema, as in \
             public.user_lookup($1)"
        ),
        _ => error,
    }
}

enum Trouble {
    /// The server has refused the statement, and is ready for another.
    Refused(Report),
    Lost(String),
}

/// Sends messages that end in a Sync or are a Query, and gives the DataRows that came; of many only the first two.
async fn exchange(server: &mut Stream, messages: &[u8], time: Duration) -> Result<Vec<Vec<u8>>, Trouble> {
    let lost = |ended: Ended| Trouble::Lost(ended.to_string());
    let exchange = async {
        login::send_server(server, messages).await.map_err(lost)?;
        let (mut rows, mut refused) = (Vec::new(), None);
        loop {
            let frame = login::server_frame(server).await.map_err(lost)?;
            match frame[0] {
                b'D' if rows.len() < 2 => rows.push(frame),
                b'E' => {
                    let report = Report::of_frame(&frame);
                    if report.text(b'V') != "ERROR" {
                        return Err(Trouble::Lost(format!("the server: {}", report.message())));
                    }
                    refused = Some(report);
                }
                b'Z' => return refused.map_or(Ok(rows), |report| Err(Trouble::Refused(report))),
                _ => {}
            }
        }
    };
    let late = |_| {
        Err(Trouble::Lost(format!(
            "the server says nothing within {} s",
            time.as_secs()
        )))
    };
    timeout(time, exchange).await.unwrap_or_else(late)
}

async fn ask(server: &mut Stream, sql: &str, user: &[u8], time: Duration) -> Result<Vec<Vec<u8>>, Trouble> {
    let mut out = BytesMut::new();
    // One parameter, as text.
    let mut parameters = BytesMut::from(&[0, 0, 0, 1][..]);
    parameters.put_u32(user.len() as u32);
    parameters.put_slice(user);
    wire::put_parse(&mut out, b"", sql.as_bytes(), &[]);
    wire::put_bind(&mut out, b"", b"", &parameters, b"");
    wire::put_execute(&mut out, "");
    wire::put_sync(&mut out);
    exchange(server, &out, time + GRACE_TIME).await
}

fn read_answer(rows: &[Vec<u8>], user: &[u8]) -> Result<Option<Verifier>, String> {
    let row = match rows {
        [] => return Ok(None),
        [row] => wire::data_row(row).ok_or("its answer cannot be read")?,
        _ => {
            return Err("it gives several rows for one user; a condition such as WHERE rolname = $1 is missing".into());
        }
    };
    let [name, secret] = row.as_slice() else {
        let columns = row.len();
        return Err(format!(
            "it gives {columns} columns, where two are needed: the user's name and the verifier"
        ));
    };
    // A function that finds nobody may give a row of NULLs.
    let (Some(name), Some(secret)) = (name, secret) else {
        return Ok(None);
    };
    let asked = String::from_utf8_lossy(user);
    if *name != asked {
        return Err(format!("asked for user \"{asked}\" it gives \"{name}\""));
    }
    let verifier = Verifier::parse(secret);
    if verifier.is_none() {
        // PostgreSQL refuses such a login without a word to the client, too.
        tracing::info!(user = %asked, "the auth_query gives no SCRAM-SHA-256 verifier that can be read");
    }
    Ok(verifier)
}

/// Logs in as the auth_user.
async fn open(shared: &Shared, verifiers: &Verifiers, settings: &AuthQuery) -> Result<Stream, Failed> {
    let time = shared.limits.connect_timeout;
    let (_, mut server) = shared.connect().await.map_err(Failed::Unreachable)?;
    let late = || {
        let seconds = time.as_secs();
        Failed::Unreachable(format!(
            "the server does not finish the login of the auth_user within {seconds} s"
        ))
    };
    let logged_in = timeout(time, log_in(&mut server, verifiers, settings)).await;
    logged_in.map_err(|_| late())??;
    // Past ReadyForQuery of the login; then the server itself ends a query that waits too long.
    let mut out = BytesMut::new();
    wire::put_query(
        &mut out,
        // Nobody who may create in a schema of the path has a function or operator of his own called with the auth_user's rights.
        format!(
            "SET search_path = pg_catalog, pg_temp; SET statement_timeout = {}",
            time.as_millis()
        )
        .as_bytes(),
    );
    match exchange(&mut server, &out, time).await {
        Ok(_) => Ok(server),
        Err(Trouble::Lost(why)) => Err(Failed::Unreachable(why)),
        Err(Trouble::Refused(report)) => Err(Failed::Unanswered(explained(&report, settings))),
    }
}

/// Up to and with ReadyForQuery.
async fn log_in(server: &mut Stream, verifiers: &Verifiers, settings: &AuthQuery) -> Result<(), Failed> {
    let failed = |ended: Ended| {
        let why = format!("login of the auth_user: {ended}");
        match ended {
            Ended::Server(_) => Failed::Unreachable(why),
            _ => Failed::Unanswered(why),
        }
    };
    login::send_server(server, &startup_packet(settings))
        .await
        .map_err(failed)?;
    let asked = loop {
        let frame = login::from_server(server).await.map_err(failed)?;
        if frame[0] == b'R' {
            break login::wanted(&frame).map_err(|report| failed(Ended::Report(report)))?;
        }
    };
    if let Asked::Sasl { plus } = asked {
        let challenged = login::begin(server, plus).await.map_err(failed)?;
        let password = verifiers.auth_password().ok_or_else(|| {
            Failed::Unanswered(format!(
                "the server asks for the password of the auth_user: set LOCKKEEPER_AUTH_PASSWORD, or give --auth-file a line \
                 \"{}\" \"PASSWORD\"",
                settings.user
            ))
        })?;
        let salting = challenged.salting.clone();
        let keys = tokio::task::spawn_blocking(move || Keys::of_password(password.text(), &salting)).await;
        let keys = keys.map_err(|error| error.to_string()).and_then(|keys| keys);
        let keys = keys.map_err(|why| failed(Ended::Server(why)))?;
        login::finish(server, challenged, &keys).await.map_err(failed)?;
    }
    while login::from_server(server).await.map_err(failed)?[0] != b'Z' {}
    Ok(())
}

fn startup_packet(settings: &AuthQuery) -> BytesMut {
    let mut out = BytesMut::from(&[0, 0, 0, 0, 0, 3, 0, 0][..]);
    for (name, value) in [
        ("user", settings.user.as_str()),
        ("database", &settings.database),
        ("application_name", "lockkeeper auth_query"),
        // A name is asked for byte by byte as the client gave it.
        ("client_encoding", "SQL_ASCII"),
    ] {
        for text in [name, value] {
            out.put_slice(text.as_bytes());
            out.put_u8(0);
        }
    }
    out.put_u8(0);
    let len = out.len() as u32;
    out[..4].copy_from_slice(&len.to_be_bytes());
    out
}

async fn close(mut server: Stream) {
    // A server that does not read any more is not waited for.
    let _ = timeout(Duration::from_secs(1), server.write_all(b"X\0\0\0\x04")).await;
    server.close().await;
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERIFIER: &str = "SCRAM-SHA-256$4096:c2FsdA==$6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=:\
        dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ=";

    fn row(columns: &[Option<&str>]) -> Vec<u8> {
        let mut out = BytesMut::new();
        wire::put_frame(&mut out, b'D', |b| {
            b.put_u16(columns.len() as u16);
            for column in columns {
                b.put_i32(column.map_or(-1, |text| text.len() as i32));
                b.put_slice(column.unwrap_or_default().as_bytes());
            }
        });
        out.to_vec()
    }

    #[test]
    fn an_answer_is_a_verifier_or_nobody_or_told() {
        let check = |rows: &[&[Option<&str>]], expect: Result<bool, &str>| {
            let rows: Vec<_> = rows.iter().map(|columns| row(columns)).collect();
            match (read_answer(&rows, b"amy"), expect) {
                (Ok(verifier), Ok(there)) => assert_eq!(verifier.is_some(), there),
                (Err(error), Err(part)) => assert!(error.contains(part) && !error.contains("hunter2"), "{error}"),
                (answer, expect) => panic!("{:?} is not {expect:?}", answer.map(|verifier| verifier.is_some())),
            }
        };
        let amy = [Some("amy"), Some(VERIFIER)];
        check(&[&amy], Ok(true));
        check(&[], Ok(false));
        check(&[&[None, None]], Ok(false));
        check(&[&[Some("amy"), None]], Ok(false));
        for other in [
            "",
            "hunter2",
            "md51a79a4d60de6718e8e5b326e338ae533",
            "SCRAM-SHA-256$hunter2",
        ] {
            check(&[&[Some("amy"), Some(other)]], Ok(false));
        }
        check(&[&amy, &amy], Err("several rows"));
        check(&[&[Some(VERIFIER)]], Err("1 columns, where two are needed"));
        check(
            &[&[Some("bob"), Some("hunter2")]],
            Err("asked for user \"amy\" it gives \"bob\""),
        );
        assert!(read_answer(&[b"D\0\0\0\x06\0\x01".to_vec()], b"amy").is_err());
    }
}
