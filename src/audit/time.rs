//! Points in time as the log writes them (RFC 3339, UTC, microseconds) and as people write them (`2h`, `2026-03-01 12:30`).

use serde::{Deserialize, Deserializer, Serializer, de::Error};
use std::time::{Duration, SystemTime};

/// Of `2026-03-01T00:00:00.000001Z`: such texts sort as their times do.
pub const TIMESTAMP_BYTES: usize = 27;

/// `2026-03-01T00:00:00.000001Z`; days to civil date by the usual era arithmetic (400 years have 146,097 days).
pub fn timestamp(time: SystemTime) -> String {
    let micros: i128 = match time.duration_since(SystemTime::UNIX_EPOCH) {
        Ok(after) => after.as_micros() as i128,
        Err(before) => -(before.duration().as_micros() as i128),
    };
    let (seconds, micros) = (micros.div_euclid(1_000_000), micros.rem_euclid(1_000_000));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    // Counted from 0000-03-01, so that the leap day is the last day of a year.
    let days = days + 719_468;
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = era * 400 + year_of_era + i128::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{micros:06}Z",
        second / 3_600,
        second / 60 % 60,
        second % 60
    )
}

pub fn serialize<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&timestamp(*time))
}

pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SystemTime, D::Error> {
    let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
    point(&text).ok_or_else(|| D::Error::custom(format!("`{text}` is no time")))
}

/// A time as people write it: how long before `now` (`90s`, `-2h`, `1h30m`, `2d`), a time of day (the last such moment), `yesterday 02:13`, or
/// a date with or without a time of day. It is UTC unless it ends with an offset.
pub fn parse(text: &str, now: SystemTime) -> Result<SystemTime, String> {
    let text = text.trim();
    if let Some(point) = of_day(text, now) {
        return Ok(point);
    }
    if let Some(ago) = duration(text.strip_prefix('-').unwrap_or(text)) {
        return now
            .checked_sub(ago)
            .ok_or_else(|| format!("`{text}` is before any calendar"));
    }
    point(text).ok_or_else(|| {
        format!("`{text}` is no time; write 2h, 02:13, \"yesterday 02:13\", 2026-03-01, \"2026-03-01 12:30\" or 2026-03-01T12:30:00+01:00")
    })
}

/// `02:13`, `yesterday`, `yesterday 02:13`, `today 02:13:30+02:00`, `now`. A time of day alone is the last such moment: at 01:00 it is
/// yesterday's.
fn of_day(text: &str, now: SystemTime) -> Option<SystemTime> {
    const DAY: Duration = Duration::from_secs(86_400);
    let (word, clock) = match text.split_once([' ', 'T']) {
        Some((word, clock)) => (word, clock.trim_start()),
        None if text.contains(':') => ("", text),
        None if text.is_empty() => return None,
        None => (text, "00:00"),
    };
    let on_day_of = |day: SystemTime| {
        let date = timestamp(day);
        point(&format!("{}T{clock}", date.get(..10)?))
    };
    match word.to_ascii_lowercase().as_str() {
        "now" => Some(now),
        "today" => on_day_of(now),
        "yesterday" => on_day_of(now.checked_sub(DAY)?),
        "" => on_day_of(now)
            .filter(|point| *point <= now)
            .or_else(|| on_day_of(now.checked_sub(DAY)?)),
        _ => None,
    }
}

/// When something began that ended then, as the log writes times.
pub fn before(end: &str, duration_ms: f64) -> Option<String> {
    let took = Duration::try_from_secs_f64(duration_ms.max(0.0) / 1e3).ok()?;
    Some(timestamp(point(end)?.checked_sub(took)?))
}

/// `1h30m`, `250ms`, `2d`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut whole = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let count: u64 = rest.get(..digits)?.parse().ok()?;
        let after = rest.get(digits..)?;
        let unit = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let millis = match after.get(..unit)? {
            "ms" => 1,
            "s" => 1_000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            "w" => 604_800_000,
            _ => return None,
        };
        whole = whole.checked_add(Duration::from_millis(count.checked_mul(millis)?))?;
        rest = after.get(unit..)?;
    }
    (!text.is_empty()).then_some(whole)
}

/// `2026-03-01`, and after a `T` or a space `12:30`, `12:30:01`, `12:30:01.5`; then nothing, `Z` or `+01:00`.
fn point(text: &str) -> Option<SystemTime> {
    let (date, clock) = match text.find(['T', 't', ' ']) {
        Some(at) => (text.get(..at)?, text.get(at + 1..)?),
        None => (text, "00:00"),
    };
    let mut parts = date.split('-').map(number);
    let (year, month, day) = (parts.next()??, parts.next()??, parts.next()??);
    if parts.next().is_some() || !(1..=12).contains(&month) || !(1..=days_in(year, month)).contains(&day) {
        return None;
    }
    let (clock, offset_s) = match clock.strip_suffix(['Z', 'z']) {
        Some(clock) => (clock, 0),
        None => match clock.rfind(['+', '-']) {
            Some(at) => {
                let sign = if clock.as_bytes().get(at) == Some(&b'-') { -1 } else { 1 };
                let offset = clock.get(at + 1..)?;
                let (hours, minutes) = offset.split_once(':').unwrap_or((offset, "0"));
                (
                    clock.get(..at)?,
                    sign * (number(hours)? * 3_600 + number(minutes)? * 60),
                )
            }
            None => (clock, 0),
        },
    };
    let (clock, fraction) = clock.split_once('.').unwrap_or((clock, ""));
    let mut parts = clock.split(':').map(number);
    let (hour, minute) = (parts.next()??, parts.next()??);
    let second = parts.next().unwrap_or(Some(0))?;
    if parts.next().is_some() || hour > 23 || minute > 59 || second > 60 {
        return None;
    }
    let micros = match fraction.get(..fraction.len().min(6))? {
        "" => 0,
        digits => number(digits)? * 10i64.pow(6 - digits.len() as u32),
    };
    let seconds = days_from_civil(year, month, day) * 86_400 + hour * 3_600 + minute * 60 + second - offset_s;
    let whole = Duration::from_secs(seconds.unsigned_abs());
    let start = match seconds < 0 {
        true => SystemTime::UNIX_EPOCH.checked_sub(whole)?,
        false => SystemTime::UNIX_EPOCH.checked_add(whole)?,
    };
    start.checked_add(Duration::from_micros(micros.unsigned_abs()))
}

fn number(text: &str) -> Option<i64> {
    (text.len() <= 6 && text.bytes().all(|byte| byte.is_ascii_digit()))
        .then(|| text.parse().ok())
        .flatten()
}

fn days_in(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

fn days_from_civil(year: i64, month: i64, day: i64) -> i64 {
    let year = year - i64::from(month <= 2);
    let era = year.div_euclid(400);
    let month_from_march = (month + 9) % 12;
    let day_of_year = (153 * month_from_march + 2) / 5 + day - 1;
    let year_of_era = year.rem_euclid(400);
    era * 146_097 + year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year - 719_468
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_day_are_the_last_such_moments() {
        let at = |text: &str| point(text).expect("a time");
        let now = at("2026-03-01T01:00:00Z");
        for (text, expect) in [
            ("02:13", "2026-02-28T02:13:00Z"),
            ("00:30", "2026-03-01T00:30:00Z"),
            ("02:13+02:00", "2026-03-01T02:13:00+02:00"),
            ("yesterday", "2026-02-28T00:00:00Z"),
            ("yesterday 02:13", "2026-02-28T02:13:00Z"),
            ("Yesterday 23:59:30", "2026-02-28T23:59:30Z"),
            ("today 00:10", "2026-03-01T00:10:00Z"),
            ("-2h", "2026-02-28T23:00:00Z"),
            ("2h", "2026-02-28T23:00:00Z"),
            ("now", "2026-03-01T01:00:00Z"),
            ("2026-03-01 00:30", "2026-03-01T00:30:00Z"),
        ] {
            assert_eq!(parse(text, now), Ok(at(expect)), "{text}");
        }
        for text in ["25:00", "yesterday at noon", "tomorrow", "", "-", "12"] {
            assert!(parse(text, now).is_err(), "{text}");
        }
        assert_eq!(
            before("2026-03-01T00:00:01.500000Z", 2_000.0).as_deref(),
            Some("2026-02-28T23:59:59.500000Z")
        );
    }

    #[test]
    fn timestamps_are_civil_dates_and_are_read_back() {
        let check = |seconds: i64, micros: u32, expect: &str| {
            let part = Duration::from_micros(u64::from(micros));
            let time = match u64::try_from(seconds) {
                Ok(after) => SystemTime::UNIX_EPOCH + Duration::from_secs(after) + part,
                Err(_) => SystemTime::UNIX_EPOCH - Duration::from_secs(seconds.unsigned_abs()) + part,
            };
            assert_eq!(timestamp(time), expect);
            assert_eq!(expect.len(), TIMESTAMP_BYTES);
            assert_eq!(point(expect), Some(time), "{expect}");
        };
        check(0, 0, "1970-01-01T00:00:00.000000Z");
        check(-1, 999_999, "1969-12-31T23:59:59.999999Z");
        check(951_782_399, 1, "2000-02-28T23:59:59.000001Z");
        check(951_782_400, 0, "2000-02-29T00:00:00.000000Z");
        check(951_868_800, 0, "2000-03-01T00:00:00.000000Z");
        check(1_709_164_800, 0, "2024-02-29T00:00:00.000000Z");
        check(1_767_225_599, 123_456, "2025-12-31T23:59:59.123456Z");
        check(4_107_542_400, 0, "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn people_s_times_are_understood() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_600);
        let check = |text: &str, expect: &str| assert_eq!(parse(text, now).map(timestamp).as_deref(), Ok(expect));
        check("2h", "2025-12-31T22:00:00.000000Z");
        check("1d12h", "2025-12-30T12:00:00.000000Z");
        check("1w", "2025-12-25T00:00:00.000000Z");
        check("500ms", "2025-12-31T23:59:59.500000Z");
        check("2026-03-01", "2026-03-01T00:00:00.000000Z");
        check(" 2026-03-01 12:30 ", "2026-03-01T12:30:00.000000Z");
        check("2026-03-01T12:30:01.25Z", "2026-03-01T12:30:01.250000Z");
        check("2026-03-01T12:30:01+01:30", "2026-03-01T11:00:01.000000Z");
        check("2026-03-01t12:30-05", "2026-03-01T17:30:00.000000Z");
        for wrong in [
            "",
            "2",
            "h",
            "2x",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "2026-02-30",
            "2026-03-01 25:00",
            "2026-03-01 12",
            "2026-03-01 12:60",
            "2026-03-01 12:30:00:00",
            "2026-03-01x",
            "--1h",
            "99999999999999999999d",
        ] {
            let error = parse(wrong, now).expect_err(wrong);
            assert!(error.contains("is no time") || error.contains("calendar"), "{error}");
        }
    }
}
