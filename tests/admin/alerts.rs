//! The files for Prometheus and Grafana, as promtool reads them.

use super::Admin;
use std::path::Path;
use std::process::{Command, Stdio};

const ALERTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/operate/alerts.yml");

fn promtool(arguments: &[&str], dir: &Path) {
    let ran = Command::new("promtool").args(arguments).current_dir(dir).output();
    let ran = ran.expect("promtool is there: scripts/set-up test installs it");
    let text = String::from_utf8_lossy(&[ran.stdout, ran.stderr].concat()).into_owned();
    assert!(ran.status.success(), "{arguments:?}: {text}");
}

#[test]
fn each_alert_fires_when_it_should() {
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::copy(ALERTS, dir.path().join("alerts.yml")).expect("the rules");
    let cases = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/admin/alerts.yml");
    std::fs::copy(cases, dir.path().join("cases.yml")).expect("the cases");
    promtool(&["check", "rules", "alerts.yml"], dir.path());
    promtool(&["test", "rules", "cases.yml"], dir.path());
    // None is left out.
    let (rules, cases) = (std::fs::read_to_string(ALERTS), std::fs::read_to_string(cases));
    let (rules, cases) = (rules.expect("the rules"), cases.expect("the cases"));
    for name in rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")) {
        assert!(cases.contains(&format!("alertname: {name}")), "{name} has no case");
    }
}

/// What the dashboard and the alerts ask for, PromQL can be asked.
#[test]
fn the_queries_of_the_dashboard_are_read() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/operate/grafana.json"));
    let dashboard: serde_json::Value = serde_json::from_str(&text.expect("the dashboard")).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let targets = panels.iter().filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut rules = String::from("groups:\n  - name: dashboard\n    rules:\n");
    let mut count = 0;
    for target in targets {
        let query = target["expr"].as_str().expect("a query");
        let query = query
            .replace("$__rate_interval", "5m")
            .replace("$__range", "1h")
            .replace("$__interval", "1m");
        count += 1;
        rules.push_str(&format!(
            "      - record: panel:q{count}\n        expr: {}\n",
            serde_json::Value::from(query)
        ));
    }
    assert!(count > 10, "{count}");
    let dir = tempfile::tempdir().expect("a directory");
    std::fs::write(dir.path().join("dashboard.yml"), rules).expect("it is written");
    promtool(&["check", "rules", "dashboard.yml"], dir.path());
}

/// Names, types and labels as Prometheus wants them.
#[test]
fn promtool_has_nothing_to_say_of_the_metrics() {
    let admin = Admin::new("promtool");
    admin
        .stage
        .psql("CREATE TABLE t (id int); ALTER TABLE t ADD COLUMN a int;");
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("metrics");
    std::fs::write(&file, admin.metrics()).expect("it is written");
    let checked = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::from(std::fs::File::open(&file).expect("the metrics")))
        .output()
        .expect("promtool is there: scripts/set-up test installs it");
    let text = String::from_utf8_lossy(&[checked.stdout, checked.stderr].concat()).into_owned();
    assert!(checked.status.success(), "{text}");
}
