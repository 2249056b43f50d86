//! What is known to be wrong with certain minor versions of the server, so that its own safe form of a statement is none.

/// A fault of the versions from `since` to before `mended`, as `server_version_num` counts them.
#[derive(Debug)]
pub struct Fault {
    since: u32,
    mended: u32,
    /// A clause.
    pub what: &'static str,
    pub remedy: &'static str,
}

/// Of building indexes concurrently.
const OF_CONCURRENT_BUILDS: &[Fault] = &[Fault {
    since: 140_000,
    mended: 140_004,
    what: "PostgreSQL 14.0 to 14.3 may leave rows out of an index that is built CONCURRENTLY while they are updated",
    remedy: "Upgrade the server to 14.4 or later, which takes no more than new programs and a restart. An index that was built \
             CONCURRENTLY on such a server is to be rebuilt after that; amcheck finds out whether rows are missing: \
             bt_index_check(index, true).",
}];

/// `version` as server_version_num.
pub fn of_concurrent_builds(version: u32) -> Option<&'static Fault> {
    OF_CONCURRENT_BUILDS
        .iter()
        .find(|fault| (fault.since..fault.mended).contains(&version))
}

/// The same for what the server tells at its start: `14.2`, `14.2 (Debian 14.2-1)`.
pub fn of_reported(version: &str) -> Option<&'static Fault> {
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    let (major, minor) = (numbers.next()?.ok()?, numbers.next()?.ok()?);
    of_concurrent_builds(major * 10_000 + minor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_faulty_minors_are_faulty() {
        for (version, faulty) in [
            (130_022, false),
            (140_000, true),
            (140_003, true),
            (140_004, false),
            (150_000, false),
        ] {
            assert_eq!(of_concurrent_builds(version).is_some(), faulty, "{version}");
        }
        for (version, faulty) in [
            ("14.3", true),
            ("14.2 (Debian 14.2-1.pgdg110+1)", true),
            ("14.10", false),
            ("18.0", false),
            ("14beta1", false),
        ] {
            assert_eq!(of_reported(version).is_some(), faulty, "{version}");
        }
    }
}
