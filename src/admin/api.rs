//! The data behind the review page, as JSON.

use super::http::{Answer, Site, error, json};
use hyper::StatusCode;

/// What goes on now.
pub async fn live(site: &Site) -> Answer {
    let Some(live) = &site.live else {
        return json(StatusCode::OK, &serde_json::json!({ "live": false }));
    };
    json(StatusCode::OK, &serde_json::json!({ "live": true, "sessions": live.sessions() }))
}

pub async fn statements(_site: &Site, _query: &str) -> Answer {
    error(StatusCode::NOT_IMPLEMENTED, "")
}

pub async fn steer_job(_site: &Site, _path: &str) -> Answer {
    error(StatusCode::NOT_IMPLEMENTED, "")
}
