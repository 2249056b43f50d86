//! The metrics: read by a strict parser of the text format, counted after known work, and named by the docs and the
//! dashboard as they are.

use super::{Admin, LARGE};
use lockkeeper::admin::metrics::{Kind, METRICS};
use std::collections::{BTreeMap, BTreeSet};

type Labels = BTreeMap<String, String>;

#[derive(Debug)]
struct Family {
    kind: String,
    samples: Vec<(String, Labels, f64)>,
}

/// Version 0.0.4 of the format, and nothing more lenient.
fn parse(text: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    let mut current = String::new();
    let mut helped = String::new();
    assert!(text.ends_with('\n'), "the last line has no end");
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').expect("HELP has a name and a text");
            assert!(!help.is_empty(), "{line}");
            helped = name.to_owned();
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').expect("TYPE has a name and a kind");
            assert_eq!(name, helped, "HELP comes before TYPE");
            assert!(["counter", "gauge", "histogram"].contains(&kind), "{line}");
            current = name.to_owned();
            let family = Family {
                kind: kind.to_owned(),
                samples: Vec::new(),
            };
            assert!(
                families.insert(current.clone(), family).is_none(),
                "{name} appears twice"
            );
        } else {
            let (name, labels, value) = sample(line);
            let family = families.get_mut(&current).expect("TYPE comes before samples");
            let suffix = name
                .strip_prefix(current.as_str())
                .unwrap_or_else(|| panic!("{name} is among {current}"));
            match family.kind.as_str() {
                "histogram" => assert!(["_bucket", "_sum", "_count"].contains(&suffix), "{line}"),
                _ => assert_eq!(suffix, "", "{line}"),
            }
            family.samples.push((name, labels, value));
        }
    }
    families
}

fn sample(line: &str) -> (String, Labels, f64) {
    let name_end = line.find(['{', ' ']).expect("a name ends");
    let name = &line[..name_end];
    let good = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    assert!(good(name) && !name.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    let mut labels = Labels::new();
    let mut rest = &line[name_end..];
    if let Some(inside) = rest.strip_prefix('{') {
        let mut inside = inside;
        loop {
            let (label, after) = inside.split_once("=\"").expect("a label has a value");
            assert!(good(label) && !label.is_empty(), "{line}");
            let mut value = String::new();
            let mut chars = after.char_indices();
            let end = loop {
                match chars.next().expect("a value ends") {
                    (n, '"') => break n,
                    (_, '\\') => match chars.next().expect("an escape").1 {
                        'n' => value.push('\n'),
                        c @ ('\\' | '"') => value.push(c),
                        c => panic!("escape {c} in {line}"),
                    },
                    (_, c) => value.push(c),
                }
            };
            assert!(labels.insert(label.to_owned(), value).is_none(), "{line}");
            let after = &after[end + 1..];
            match after.strip_prefix(',') {
                Some(next) => inside = next,
                None => {
                    rest = after.strip_prefix('}').expect("labels end");
                    break;
                }
            }
        }
    }
    let value = rest.strip_prefix(' ').expect("a blank before the value");
    (
        name.to_owned(),
        labels,
        value.parse().unwrap_or_else(|_| panic!("{value} is no number: {line}")),
    )
}

fn check_histograms(families: &BTreeMap<String, Family>) {
    for (name, family) in families.iter().filter(|(_, family)| family.kind == "histogram") {
        let mut series: BTreeMap<Labels, Vec<(f64, f64)>> = BTreeMap::new();
        let mut counts: BTreeMap<Labels, f64> = BTreeMap::new();
        for (sample, labels, value) in &family.samples {
            let mut labels = labels.clone();
            match labels.remove("le") {
                Some(le) if sample.ends_with("_bucket") => series
                    .entry(labels)
                    .or_default()
                    .push((le.parse().expect("a bound"), *value)),
                None if sample.ends_with("_count") => drop(counts.insert(labels, *value)),
                None if sample.ends_with("_sum") => {}
                other => panic!("{sample} with le {other:?}"),
            }
        }
        assert_eq!(series.len(), counts.len(), "{name}");
        for (labels, buckets) in series {
            assert!(
                buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
                "{name} {labels:?} {buckets:?}"
            );
            assert_eq!(
                buckets.last().map(|last| last.1),
                counts.get(&labels).copied(),
                "{name} {labels:?}"
            );
            assert_eq!(
                buckets.last().map(|last| last.0),
                Some(f64::INFINITY),
                "{name} {labels:?}"
            );
        }
    }
}

fn value(families: &BTreeMap<String, Family>, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
    let wanted: Labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
    let all = families.values().flat_map(|family| &family.samples);
    all.clone()
        .find(|(sample, labels, _)| sample == name && *labels == wanted)
        .map(|(_, _, value)| *value)
}

#[test]
fn metrics_count_what_was_done() {
    let admin = Admin::new("metrics");
    let sql = format!("{LARGE};\nCREATE INDEX ON users (name);\nUPDATE users SET pad = NULL WHERE pad IS NOT NULL;");
    // Statement by statement, as psql sends its input.
    admin.stage.psql(&sql).ok();
    let refused = admin.stage.psql("ALTER TABLE users RENAME COLUMN name TO \"a\"");
    assert_ne!(refused.status, 0);
    for n in 1..=20 {
        admin.stage.psql(&format!("SELECT {n}")).ok();
    }
    let text = admin.metrics();
    let families = parse(&text);
    check_histograms(&families);
    for metric in &METRICS {
        let family = families
            .get(metric.name)
            .unwrap_or_else(|| panic!("{} is missing in\n{text}", metric.name));
        assert_eq!(family.kind, metric.kind.name());
        // Prometheus' own conventions.
        assert_eq!(
            metric.name.ends_with("_total"),
            metric.kind == Kind::Counter,
            "{}",
            metric.name
        );
        for (_, labels, _) in &family.samples {
            let named: BTreeSet<&str> = metric.labels.split(", ").filter(|label| !label.is_empty()).collect();
            let found: BTreeSet<&str> = labels
                .keys()
                .map(String::as_str)
                .filter(|label| *label != "le")
                .collect();
            assert_eq!(found, named, "{}", metric.name);
        }
    }
    assert_eq!(families.len(), METRICS.len());
    let check = |name: &str, labels: &[(&str, &str)], expect: f64| {
        assert_eq!(
            value(&families, name, labels),
            Some(expect),
            "{name} {labels:?} in\n{text}"
        );
    };
    check(
        "lockkeeper_judged_statements_total",
        &[("action", "rewrite"), ("outcome", "done")],
        2.0,
    );
    check(
        "lockkeeper_judged_statements_total",
        &[("action", "reject"), ("outcome", "rejected")],
        1.0,
    );
    check(
        "lockkeeper_findings_total",
        &[("rule", "rename-column"), ("action", "reject")],
        1.0,
    );
    check(
        "lockkeeper_findings_total",
        &[("rule", "nonconcurrent-index"), ("action", "rewrite")],
        1.0,
    );
    check("lockkeeper_plan_duration_seconds_count", &[("outcome", "done")], 2.0);
    check("lockkeeper_batch_rows_total", &[], 30_000.0);
    let batches = value(&families, "lockkeeper_batches_total", &[]).expect("counted");
    assert!((1.0..=30.0).contains(&batches), "{batches}");
    check("lockkeeper_sessions_total", &[], 22.0);
    check("lockkeeper_sessions", &[("state", "in plan")], 0.0);
    check("lockkeeper_audit_healthy", &[], 1.0);
    check("lockkeeper_control_up", &[], 1.0);
    check("lockkeeper_upstream_errors_total", &[("kind", "connect")], 0.0);
    let statements = value(&families, "lockkeeper_forwarded_statements_total", &[]).expect("counted");
    assert!((20.0..40.0).contains(&statements), "{statements}");
    let read = value(&families, "lockkeeper_read_bytes_total", &[("from", "client")]).expect("counted");
    assert!(read > 500.0, "{read}");
}

/// As `docs/src/reference/metrics.md` holds it.
fn table() -> String {
    let mut out = "| metric | kind | labels | what |\n|---|---|---|---|\n".to_owned();
    for metric in &METRICS {
        let labels: Vec<String> = metric
            .labels
            .split(", ")
            .filter(|l| !l.is_empty())
            .map(|l| format!("`{l}`"))
            .collect();
        out.push_str(&format!(
            "| `{}` | {} | {} | {} |\n",
            metric.name,
            metric.kind.name(),
            labels.join(", "),
            metric.help
        ));
    }
    out
}

#[test]
fn the_docs_have_the_table_of_metrics() {
    let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/reference/metrics.md"))
        .expect("metrics.md");
    let expect = table();
    assert!(page.contains(&expect), "reference/metrics.md must hold:\n{expect}");
}

#[test]
fn the_dashboard_asks_for_metrics_that_exist() {
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/src/operate/grafana.json"))
        .expect("docs/grafana.json");
    let dashboard: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let known: BTreeSet<String> = METRICS
        .iter()
        .flat_map(|metric| match metric.kind {
            Kind::Histogram => ["_bucket", "_sum", "_count"]
                .map(|suffix| format!("{}{suffix}", metric.name))
                .to_vec(),
            _ => vec![metric.name.to_owned()],
        })
        .collect();
    let mut asked = BTreeSet::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let targets = panel["targets"].as_array().map(Vec::as_slice).unwrap_or_default();
        assert!(panel["type"] == "row" || !targets.is_empty(), "{panel}");
        for target in targets {
            let query = target["expr"].as_str().expect("a query");
            let words = query.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            let names: Vec<&str> = words
                .filter(|w| w.starts_with("lockkeeper_") || w.starts_with("process_"))
                .collect();
            assert!(!names.is_empty(), "{query}");
            for name in names {
                assert!(known.contains(name), "{name} in {query} is no metric");
                asked.insert(name.to_owned());
            }
        }
    }
    assert!(asked.len() > 15, "{asked:?}");
}
