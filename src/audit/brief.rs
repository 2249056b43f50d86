//! What lists and counts show of an event, borrowed from its line: reading a whole [`Event`] allocates for all that is in it,
//! which is what reading a large log would cost. Start at [`Brief`].

use super::time::{TIMESTAMP_BYTES, timestamp};
use super::{Event, Phase};
use serde::de::Error;
use serde::{Deserialize, Deserializer};
use std::borrow::Cow;

/// A string that is borrowed where it has no escapes, also within lists and options.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(transparent)]
pub struct Text<'a>(#[serde(borrow)] pub Cow<'a, str>);

impl std::ops::Deref for Text<'_> {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

/// The same keys as an [`Event`]'s.
#[derive(Debug, Deserialize)]
pub struct Brief<'a> {
    /// As [`timestamp`] writes it.
    #[serde(borrow, deserialize_with = "written_time")]
    pub time: Cow<'a, str>,
    #[serde(rename = "event")]
    pub phase: Phase,
    #[serde(borrow)]
    pub id: Cow<'a, str>,
    #[serde(borrow)]
    pub user: Cow<'a, str>,
    #[serde(borrow)]
    pub database: Cow<'a, str>,
    #[serde(borrow)]
    pub application_name: Cow<'a, str>,
    #[serde(borrow)]
    pub client: Cow<'a, str>,
    #[serde(borrow)]
    pub statement: Cow<'a, str>,
    #[serde(borrow, default)]
    pub relations: Vec<Text<'a>>,
    #[serde(borrow)]
    pub action: Cow<'a, str>,
    #[serde(borrow, default)]
    pub findings: Vec<Found<'a>>,
    #[serde(borrow)]
    pub outcome: Cow<'a, str>,
    #[serde(borrow, default)]
    pub sqlstate: Option<Text<'a>>,
    #[serde(borrow, default)]
    pub error: Option<Text<'a>>,
    #[serde(default)]
    pub rows: Option<u64>,
    #[serde(default)]
    pub duration_ms: f64,
    #[serde(default)]
    pub lock_tries: u32,
    #[serde(default)]
    pub lock_wait_ms: f64,
}

#[derive(Debug, Deserialize)]
pub struct Found<'a> {
    #[serde(borrow)]
    pub rule: Cow<'a, str>,
}

impl Brief<'_> {
    /// Each rule once, in the order of the findings.
    pub fn rules(&self) -> Vec<&str> {
        let mut rules: Vec<&str> = Vec::new();
        for found in &self.findings {
            if !rules.contains(&&*found.rule) {
                rules.push(&found.rule);
            }
        }
        rules
    }
}

impl<'a> From<&'a Event> for Brief<'a> {
    fn from(event: &'a Event) -> Brief<'a> {
        let text = |text: &'a String| Text(Cow::Borrowed(text.as_str()));
        let found = |rule: &'a String| Found {
            rule: Cow::Borrowed(rule.as_str()),
        };
        Brief {
            time: timestamp(event.time).into(),
            phase: event.phase,
            id: event.id.as_str().into(),
            user: event.user.as_str().into(),
            database: event.database.as_str().into(),
            application_name: event.application_name.as_str().into(),
            client: event.client.as_str().into(),
            statement: event.statement.as_str().into(),
            relations: event.relations.iter().map(text).collect(),
            action: event.action.as_str().into(),
            findings: event.findings.iter().map(|finding| found(&finding.rule)).collect(),
            outcome: event.outcome.as_str().into(),
            sqlstate: event.sqlstate.as_ref().map(text),
            error: event.error.as_ref().map(text),
            rows: event.rows,
            duration_ms: event.duration_ms,
            lock_tries: event.lock_tries,
            lock_wait_ms: event.lock_wait_ms,
        }
    }
}

/// Of one length and form, so that two are in the order of their texts.
fn written_time<'de: 'a, 'a, D: Deserializer<'de>>(deserializer: D) -> Result<Cow<'a, str>, D::Error> {
    let Text(time) = Text::deserialize(deserializer)?;
    const FORM: &[u8; TIMESTAMP_BYTES] = b"0000-00-00T00:00:00.000000Z";
    let fits = |(byte, form): (u8, &u8)| {
        if *form == b'0' {
            byte.is_ascii_digit()
        } else {
            byte == *form
        }
    };
    match time.len() == FORM.len() && time.bytes().zip(FORM).all(fits) {
        true => Ok(time),
        false => Err(D::Error::custom("a time is not written as the log writes it")),
    }
}
