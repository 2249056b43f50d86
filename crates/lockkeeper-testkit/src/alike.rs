//! The same client program straight at the server and through the proxy, each in a database of its own: it prints the same.

use super::{Ran, Stage, cluster};

/// The stages as the program left them: without the proxy, and with it.
#[track_caller]
pub fn check_alike(
    major: u32,
    name: &str,
    policy: &str,
    prepare: &str,
    play: impl Fn(&Stage) -> Ran,
) -> (Stage, Stage) {
    let direct = Stage::without_proxy(cluster(major), name);
    let proxied = Stage::with(major, name, policy);
    let run = |stage: &Stage| {
        stage.direct(prepare);
        play(stage)
    };
    let (expect, got) = (run(&direct), run(&proxied));
    assert_eq!(
        expect.status, 0,
        "the program fails without the proxy:\n{}{}",
        expect.stdout, expect.stderr
    );
    let output = |text: &str, stage: &Stage| {
        text.replace(&stage.database, "DATABASE")
            .replace(&stage.port.to_string(), "PORT")
    };
    assert_eq!(
        output(&got.stdout, &proxied),
        output(&expect.stdout, &direct),
        "stderr:\n{}",
        got.stderr
    );
    // Node's own warnings begin with its process ID.
    let warnings = |text: &str| -> Vec<String> {
        let line = |line: &str| match line.strip_prefix("(node:").and_then(|rest| rest.split_once(')')) {
            Some((_, rest)) => rest.to_owned(),
            None => line.to_owned(),
        };
        text.lines().map(line).collect()
    };
    assert_eq!(warnings(&got.stderr), warnings(&expect.stderr));
    assert!(expect.stdout.ends_with("end\n"), "{}", expect.stdout);
    assert_eq!(proxied.schema(), direct.schema());
    (direct, proxied)
}
