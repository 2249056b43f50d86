//! What is known of uses, in words.

use super::record::Used;
use crate::plan::uses::touched::How;

/// `3 min`, `26 h`.
pub fn time(seconds: u64) -> String {
    match seconds {
        0..120 => format!("{seconds} s"),
        120..7_200 => format!("{} min", seconds / 60),
        7_200..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} days", seconds / 86_400),
    }
}

/// `3 min ago by web (role app), 120 times, as part of the whole row: SELECT * FROM users`
pub fn used(used: &Used, now: u32) -> String {
    let ago = time(u64::from(now.saturating_sub(used.last)));
    let application = match used.who.application.as_str() {
        "" => "an application without a name",
        application => application,
    };
    let times = match used.count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    };
    let how = match used.how {
        Some(How::Whole) => ", as part of the whole row",
        _ => "",
    };
    let statement = match &*used.statement {
        "" => String::new(),
        statement => format!(": {statement}"),
    };
    format!(
        "{ago} ago by {application} (role {}), {times}{how}{statement}",
        used.who.role
    )
}

#[cfg(test)]
mod tests {
    use super::super::record::Who;
    use super::*;

    #[test]
    fn a_use_is_told_in_one_phrase() {
        let web = Used {
            who: Who {
                database: "shop".into(),
                application: "web".into(),
                role: "app".into(),
            },
            last: 100,
            count: 120,
            written: None,
            statement: "SELECT * FROM users".into(),
            how: Some(How::Whole),
            late_s: 0,
        };
        assert_eq!(
            used(&web, 400),
            "5 min ago by web (role app), 120 times, as part of the whole row: SELECT * FROM users"
        );
        assert_eq!(
            (time(7), time(90_000), time(864_000)),
            ("7 s".into(), "25 h".into(), "10 days".into())
        );
    }
}
