//! No client can tell the proxy from the server: the same bytes go to both, and both answers must be equal.

mod cancel;
mod concurrent;
mod copy;
mod drain;
mod ends;
mod extended;
mod framing;
mod limits;
mod replication;
mod scripts;
mod startup;
mod transactions;
mod unseen;

use lockkeeper_testkit::Stage;
use lockkeeper_testkit::raw::{Message, Raw, c, frame, startup};

/// Plays the same messages straight and through the proxy, each side in a copy of one database; each part is sent in
/// one write and read to the ReadyForQuery that answers its last Sync or Query.
#[track_caller]
fn check(stage: &Stage, setup: &str, parts: &[&[Vec<u8>]]) -> Vec<Vec<Message>> {
    check_with(stage, setup, &[], parts)
}

/// The same with more parameters in the startup packet.
#[track_caller]
fn check_with(stage: &Stage, setup: &str, parameters: &[(&str, &str)], parts: &[&[Vec<u8>]]) -> Vec<Vec<Message>> {
    stage.direct(setup);
    let copy = format!("{}_direct", stage.database);
    stage.create_database(&copy);
    let into_copy = stage.direct_args(&["-d", &copy, "-q", "-v", "ON_ERROR_STOP=1"], setup);
    into_copy.ok();
    let play = |port: u16, database: &str| -> Vec<Vec<Message>> {
        let mut raw = Raw::open(port);
        let mut all = vec![("user", "postgres"), ("database", database)];
        all.extend(parameters);
        raw.start(&startup(&all));
        parts
            .iter()
            .map(|part| {
                raw.send(&part.concat());
                let ends = part.iter().filter(|f| matches!(f[0], b'S' | b'Q')).count();
                (0..ends).flat_map(|_| raw.until_ready()).collect()
            })
            .collect()
    };
    let direct = play(stage.cluster.port(), &copy);
    let proxied = play(stage.port, &stage.database);
    for (n, (proxied, direct)) in proxied.iter().zip(&direct).enumerate() {
        let sent: Vec<String> = parts[n]
            .iter()
            .map(|f| String::from_utf8_lossy(&f[5..]).replace('\0', "|"))
            .collect();
        let sent = sent.iter().take(12).cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(readable(proxied), readable(direct), "part {n}: {sent}");
    }
    proxied
}

/// Without what differs between any two sessions: OIDs of tables, and where in PostgreSQL's source a report comes from;
/// and without what is told, in DETAIL and HINT, of the steps that a statement was split into.
fn readable(messages: &[Message]) -> Vec<(char, String)> {
    let text = |(tag, body): &Message| {
        let mut body = body.clone();
        if *tag == b'T' {
            let mut at = 2;
            while at < body.len() {
                at += body[at..].iter().position(|b| *b == 0).unwrap() + 1;
                body[at..at + 4].fill(b'.');
                at += 18;
            }
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let report = matches!(tag, b'E' | b'N');
        let own = |paragraph: &&str| !report || !paragraph.trim_start_matches(['D', 'H']).starts_with("lockkeeper: ");
        let kept = text
            .split('\0')
            .filter(|field| !report || !field.starts_with(['F', 'L', 'R', 'W']))
            .map(|field| field.split('\n').filter(own).collect::<Vec<_>>().join("\n"));
        (
            char::from(*tag),
            kept.filter(|field| !report || !field.is_empty())
                .collect::<Vec<_>>()
                .join("|"),
        )
    };
    messages.iter().map(text).collect()
}

fn query(sql: &str) -> Vec<u8> {
    frame(b'Q', &c(sql))
}
