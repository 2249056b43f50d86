//! The data behind the review page, as JSON.

use super::http::{Answer, Site, error, json};
use crate::live::{Control, Live, Phase, Question, Steer};
use hyper::StatusCode;
use serde_json::{Value, json};

/// What goes on now.
pub async fn live(site: &Site) -> Answer {
    let file = site.log.as_ref().map(|file| file.display().to_string());
    let version = concat!("lockkeeper ", env!("CARGO_PKG_VERSION"));
    let Some(live) = &site.live else {
        return json(StatusCode::OK, &json!({ "live": false, "version": version, "file": file, "can_steer": false }));
    };
    let (locks, jobs) = tokio::join!(live.ask(Question::Locks), live.ask(Question::Jobs));
    let about = live.about();
    let now = json!({
        "live": true,
        "version": version,
        "upstream": about.map(|about| about.upstream.clone()),
        "policy": live.policy(),
        "draining": live.phase() == Phase::Stopping,
        "file": file,
        "audit_healthy": about.map(|about| about.audit.healthy()),
        "control": control(live),
        "can_steer": site.access.token.is_some(),
        "sessions": live.sessions(),
        "locks": known(locks),
        "jobs": known(jobs),
    });
    json(StatusCode::OK, &now)
}

fn control(live: &Live) -> &'static str {
    match live.control() {
        Control::None => "none",
        Control::Down => "down",
        Control::Up => "up",
    }
}

/// What is not known is said to be, with the reason.
fn known<T: serde::Serialize>(answer: Result<T, String>) -> Value {
    match answer {
        Ok(rows) => json!({ "known": true, "rows": rows }),
        Err(why) => json!({ "known": false, "why": why }),
    }
}

/// The newest statements that match the filters in `query`.
pub async fn statements(site: &Site, _query: &str) -> Answer {
    let Some(file) = site.log.clone() else {
        return json(StatusCode::OK, &json!({ "statements": [], "more": false }));
    };
    let text = match tokio::fs::read_to_string(&file).await {
        Ok(text) => text,
        Err(failed) => return error(StatusCode::INTERNAL_SERVER_ERROR, &failed.to_string()),
    };
    let mut by_id: std::collections::BTreeMap<String, Value> = Default::default();
    let mut order = Vec::new();
    for line in text.lines() {
        let Ok(value) = serde_json::from_str::<Value>(line) else { continue };
        if value["event"] == "step" { continue }
        let id = value["id"].as_str().unwrap_or_default().to_owned();
        if by_id.insert(id.clone(), value).is_none() { order.push(id); }
    }
    let all: Vec<&Value> = order.iter().rev().filter_map(|id| by_id.get(id)).collect();
    json(StatusCode::OK, &json!({ "statements": all, "more": false }))
}

/// `/api/jobs/ID/pause` and so on.
pub async fn steer_job(site: &Site, path: &str) -> Answer {
    let mut parts = path.trim_start_matches("/api/jobs/").split('/');
    let id = parts.next().and_then(|id| id.parse::<i64>().ok());
    let steer = match (parts.next(), parts.next()) {
        (Some("pause"), None) => Some(Steer::Pause),
        (Some("resume"), None) => Some(Steer::Resume),
        (Some("cancel"), None) => Some(Steer::Cancel),
        _ => None,
    };
    let (Some(id), Some(steer), Some(live)) = (id, steer, &site.live) else {
        return error(StatusCode::NOT_FOUND, "write /api/jobs/ID/pause, resume or cancel");
    };
    match live.ask(|answer| Question::Steer(id, steer, answer)).await {
        Ok(message) => json(StatusCode::OK, &json!({ "message": message })),
        Err(why) => error(StatusCode::CONFLICT, &why),
    }
}
