//! The data behind the review page, as JSON.

use super::log;
use super::site::{Answer, DAY_FOR, Site, error, in_json};
use crate::audit::filter::Filter;
use crate::audit::time;
use crate::live::{Control, Live, Phase, Question, Steer};
use hyper::StatusCode;
use serde_json::{Value, json};
use std::time::{Instant, SystemTime};

const STATEMENTS: usize = 100;
const STATEMENTS_MAX: usize = 1_000;

/// What goes on now.
pub async fn live(site: &Site) -> Answer {
    let file = site.log.first().map(|file| file.display().to_string());
    let version = concat!("lockkeeper ", env!("CARGO_PKG_VERSION"));
    let Some(live) = &site.live else {
        return in_json(
            StatusCode::OK,
            &json!({ "live": false, "version": version, "file": file, "can_steer": false }),
        );
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
        "approvals": live.approvals().iter().filter(|request| request.decision().is_none()).map(|request| json!({
            "id": request.id,
            "user": request.user(),
            "database": request.database(),
            "statement": request.statement,
            "rules": request.rules,
            "asked": request.asked.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis() as u64,
        })).collect::<Vec<_>>(),
        "sessions": live.sessions(),
        "locks": known(locks),
        "jobs": known(jobs),
    });
    in_json(StatusCode::OK, &now)
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

/// The newest statements that match the filters in `query`, which are those of `lockkeeper audit list`.
pub async fn statements(site: &Site, query: &str) -> Answer {
    if site.log.is_empty() {
        return in_json(StatusCode::OK, &json!({ "statements": [], "more": false }));
    }
    let (filter, limit) = match wanted(query) {
        Ok(wanted) => wanted,
        Err(wrong) => return error(StatusCode::BAD_REQUEST, &wrong),
    };
    let Ok(_place) = site.reading.acquire().await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "being stopped");
    };
    let files = site.log.clone();
    match tokio::task::spawn_blocking(move || log::newest(&files, filter, limit)).await {
        Ok(Ok(found)) => in_json(
            StatusCode::OK,
            &json!({ "statements": found.statements, "more": found.more }),
        ),
        Ok(Err(failed)) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed),
        Err(_) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "reading the log failed; the log on stderr says why",
        ),
    }
}

/// The last 24 hours, which a page asks for again and again, and others beside it.
pub async fn day(site: &Site) -> Answer {
    let mut known = site.day.lock().await;
    if let Some((_, day)) = known.as_ref().filter(|(at, _)| at.elapsed() < DAY_FOR) {
        return in_json(StatusCode::OK, day);
    }
    if site.log.is_empty() {
        return in_json(StatusCode::OK, &json!({ "slots": [] }));
    }
    let Ok(_place) = site.reading.acquire().await else {
        return error(StatusCode::SERVICE_UNAVAILABLE, "being stopped");
    };
    let files = site.log.clone();
    match tokio::task::spawn_blocking(move || super::day::day(&files, SystemTime::now())).await {
        Ok(Ok(day)) => {
            let day = json!(day);
            *known = Some((Instant::now(), day.clone()));
            in_json(StatusCode::OK, &day)
        }
        Ok(Err(failed)) => error(StatusCode::INTERNAL_SERVER_ERROR, &failed),
        Err(_) => error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "reading the log failed; the log on stderr says why",
        ),
    }
}

/// From the address; a name that is not known is an error, so that a view is never wider than it says.
fn wanted(query: &str) -> Result<(Filter, usize), String> {
    let (mut filter, mut limit) = (Filter::default(), STATEMENTS);
    let when =
        |name: &str, text: &str| time::parse(text, SystemTime::now()).map_err(|error| format!("{name}: {error}"));
    for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
        let (name, value) = (decoded(name), decoded(value));
        let text = Some(value.clone()).filter(|value| !value.is_empty());
        match name.as_str() {
            "id" => filter.id = text,
            "action" => filter.action = text,
            "rule" => filter.rule = text,
            "user" => filter.user = text,
            "app" => filter.application_name = text,
            "database" => filter.database = text,
            "table" => filter.table = text,
            "outcome" => filter.outcome = text,
            "text" => filter.text = text,
            "overridden" => filter.overridden = value == "1",
            "rolled_back" => filter.rolled_back = value == "1",
            "waited" => filter.waited = value == "1",
            "since" => filter.since = Some(when("since", &value)?),
            "until" => filter.until = Some(when("until", &value)?),
            "longer_than" => {
                let wrong = || format!("longer than: `{value}` is no time; write 500ms, 5s or 2m");
                filter.longer_than = Some(time::duration(&value).ok_or_else(wrong)?);
            }
            "limit" => {
                let number = value
                    .parse::<usize>()
                    .map_err(|_| format!("limit: `{value}` is no number"))?;
                limit = number.clamp(1, STATEMENTS_MAX);
            }
            name => return Err(format!("there is no filter `{name}`")),
        }
    }
    Ok((filter, limit))
}

/// As forms and URLSearchParams encode.
pub(super) fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        rest = after;
        let hex = |digits: &[u8]| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok();
        match (byte, rest.get(..2).and_then(hex)) {
            (b'%', Some(decoded)) => {
                out.push(decoded);
                rest = &rest[2..];
            }
            (b'+', _) => out.push(b' '),
            (byte, _) => out.push(*byte),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// `/api/plans/ID/cancel` and so on.
pub fn steer_plan(site: &Site, path: &str) -> Answer {
    let mut parts = path.trim_start_matches("/api/plans/").split('/');
    let id = parts.next().unwrap_or_default();
    let what = match (parts.next(), parts.next()) {
        (Some("pause"), None) => Steer::Pause,
        (Some("resume"), None) => Steer::Resume,
        (Some("cancel"), None) => Steer::Cancel,
        _ => return error(StatusCode::NOT_FOUND, "a plan can be paused, resumed and cancelled"),
    };
    let Some(live) = &site.live else {
        return error(StatusCode::NOT_FOUND, "only a log is looked at here");
    };
    match live.steer_plan(id, what, "somebody at the review page") {
        Ok(message) => in_json(StatusCode::OK, &json!({ "message": message })),
        Err(why) => error(StatusCode::CONFLICT, &why),
    }
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
        Ok(message) => in_json(StatusCode::OK, &json!({ "message": message })),
        Err(why) => error(StatusCode::CONFLICT, &why),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_are_read_from_the_address() {
        let (filter, limit) = wanted("text=a%20b%2Bc+d%C3%BC&user=amy&limit=7&outcome=").expect("good filters");
        assert_eq!(
            (filter.text.as_deref(), filter.user.as_deref(), limit),
            (Some("a b+c dü"), Some("amy"), 7)
        );
        assert_eq!(filter.outcome, None);
        let (filter, limit) = wanted("since=2h&longer_than=1m&limit=999999").expect("good filters");
        assert!(filter.since.is_some() && filter.longer_than.is_some() && limit == STATEMENTS_MAX);
        assert_eq!(decoded("100%&%4"), "100%&%4");
        for (query, expect) in [
            ("since=never", "since: "),
            ("longer_than=x", "is no time"),
            ("usr=a", "`usr`"),
            ("limit=-1", "limit"),
        ] {
            assert!(wanted(query).is_err_and(|error| error.contains(expect)), "{query}");
        }
    }
}
