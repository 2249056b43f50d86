//! The PROXY protocol of a load balancer in front: the client behind it is who is seen, and nobody else may make one up.

use lockkeeper_testkit::raw::{Raw, command_tags, startup};
use lockkeeper_testkit::{QUICK, Stage, cluster};

fn stage(from: &str) -> Stage {
    let cluster = cluster(lockkeeper_testkit::MAJOR);
    Stage::on(cluster, "forwarded", QUICK, &["--proxy-protocol-from", from])
}

fn clients(stage: &Stage) -> Vec<String> {
    let lines = stage.audit_lines();
    let ends = lines.iter().filter(|line| line["event"] == "statement");
    ends.map(|line| line["client"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[test]
fn the_client_behind_a_balancer_is_seen() {
    let stage = stage("10.0.0.0/8,127.0.0.1");
    stage.direct("CREATE TABLE t (id int); INSERT INTO t VALUES (1)");
    let packet = startup(&[("user", "postgres"), ("database", &stage.database)]);
    let v1 = b"PROXY TCP4 192.0.2.7 10.0.0.1 51234 6432\r\n".to_vec();
    let v2 = [
        &b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..],
        &[192, 0, 2, 8, 10, 0, 0, 1, 0xc8, 0x22, 0x19, 0x20],
    ]
    .concat();
    for (n, header) in [v1, v2].into_iter().enumerate() {
        let mut raw = Raw::open(stage.port);
        raw.send(&header);
        raw.start(&packet);
        let tags = command_tags(&raw.query(&format!("ALTER TABLE t ADD COLUMN c{n} int")));
        assert_eq!(tags, ["ALTER TABLE"]);
    }
    assert_eq!(clients(&stage), ["192.0.2.7:51234", "192.0.2.8:51234"]);
    // A balancer's own health check.
    let mut raw = Raw::open(stage.port);
    raw.send(b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0");
    raw.start(&packet);
    assert_eq!(command_tags(&raw.query("SELECT 1")), ["SELECT 1"]);
    // Without a header nobody is let in from there.
    let mut raw = Raw::open(stage.port);
    raw.send(&packet);
    assert_eq!(raw.receive(), None);
}

#[test]
fn nobody_else_may_make_a_client_up() {
    let stage = stage("10.0.0.0/8");
    let mut raw = Raw::open(stage.port);
    raw.send(b"PROXY TCP4 192.0.2.7 10.0.0.1 51234 6432\r\n");
    assert_eq!(raw.receive(), None);
    let mut raw = Raw::connect(stage.port, &stage.database);
    assert_eq!(command_tags(&raw.query("SELECT 1")), ["SELECT 1"]);
}
