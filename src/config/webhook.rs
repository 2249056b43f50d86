//! The webhook's settings.

use super::options::WebhookFormat;
use crate::webhook::settings::{Format, Kind, Settings};
use crate::webhook::target::Target;
use std::path::PathBuf;
use std::time::Duration;

const LONG_DEFAULT_S: u64 = 300;

pub(super) struct Given {
    pub url: Option<String>,
    pub secret_file: Option<PathBuf>,
    pub ca: Option<PathBuf>,
    pub events: Vec<String>,
    pub format: Option<WebhookFormat>,
    pub long_s: Option<u64>,
}

pub(super) fn webhook(given: Given) -> Result<Option<Settings>, String> {
    let Some(url) = &given.url else {
        let other = given.secret_file.is_some() || given.ca.is_some() || !given.events.is_empty();
        return match other || given.format.is_some() || given.long_s.is_some() {
            true => Err("webhook is not set: webhook-… are about the URL that it gives".into()),
            false => Ok(None),
        };
    };
    let names = Kind::ALL.map(Kind::name);
    let kind = |name: &String| {
        let known = Kind::ALL.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| format!("webhook-events: there is no `{name}`; there are: {}", names.join(", ")))
    };
    let kinds: Vec<Kind> = given.events.iter().map(kind).collect::<Result<_, _>>()?;
    let long_s = given.long_s.unwrap_or(LONG_DEFAULT_S);
    if !(1..=604_800).contains(&long_s) {
        return Err(format!(
            "webhook-long-s: {long_s} is out of range; it goes from 1 to 604800"
        ));
    }
    Ok(Some(Settings {
        target: Target::parse(url)?,
        secret_file: given.secret_file,
        ca: given.ca,
        kinds: if kinds.is_empty() { Kind::ALL.to_vec() } else { kinds },
        format: match given.format {
            Some(WebhookFormat::Slack) => Format::Slack,
            Some(WebhookFormat::Json) | None => Format::Json,
        },
        long: Duration::from_secs(long_s),
    }))
}
