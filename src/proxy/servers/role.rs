//! What a server is, and whether it is what sessions are to go to: pure, so that every case can be tested.

use crate::proxy::settings::Target;

/// What is known of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Role {
    #[default]
    Unknown,
    /// It takes writes.
    Primary,
    /// A primary on which transactions are read-only unless they say otherwise.
    ReadOnlyPrimary,
    Standby,
}

/// Whether a server is what sessions are to go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fit {
    Yes,
    Perhaps,
    /// Where there is no better one.
    AtWorst,
    No,
}

impl Role {
    /// As the server tells a session of itself. `read_only`: what default_transaction_read_only is there.
    pub fn of(in_hot_standby: bool, read_only: bool) -> Role {
        match (in_hot_standby, read_only) {
            (true, _) => Role::Standby,
            (false, true) => Role::ReadOnlyPrimary,
            (false, false) => Role::Primary,
        }
    }

    /// As libpq has it: a server is read-only as long as it is a standby, or its transactions are by default.
    pub fn fits(self, target: Target) -> Fit {
        let yes = |yes: bool| if yes { Fit::Yes } else { Fit::No };
        match (target, self) {
            (Target::Any, _) => Fit::Yes,
            (_, Role::Unknown) => Fit::Perhaps,
            (Target::ReadWrite, role) => yes(role == Role::Primary),
            (Target::ReadOnly, role) => yes(role != Role::Primary),
            (Target::Primary, role) => yes(role != Role::Standby),
            (Target::Standby, role) => yes(role == Role::Standby),
            (Target::PreferStandby, Role::Standby) => Fit::Yes,
            (Target::PreferStandby, _) => Fit::AtWorst,
        }
    }

    pub fn words(self) -> &'static str {
        match self {
            Role::Unknown => "has not said what it is",
            Role::Primary => "is a primary",
            Role::ReadOnlyPrimary => "is read-only by default (default_transaction_read_only)",
            Role::Standby => "is a standby",
        }
    }
}

/// Sessions that go where something is changed have nothing to do with a server that takes no changes any more.
pub fn leaves(target: Target, role: Role) -> bool {
    matches!(target, Target::ReadWrite | Target::Primary) && role.fits(target) == Fit::No
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_fits_as_libpq_has_it() {
        use Fit::{AtWorst, No, Yes};
        let all = [Role::Primary, Role::ReadOnlyPrimary, Role::Standby];
        for (target, expect) in [
            (Target::Any, [Yes, Yes, Yes]),
            (Target::ReadWrite, [Yes, No, No]),
            (Target::ReadOnly, [No, Yes, Yes]),
            (Target::Primary, [Yes, Yes, No]),
            (Target::Standby, [No, No, Yes]),
            (Target::PreferStandby, [AtWorst, AtWorst, Yes]),
        ] {
            assert_eq!(all.map(|role| role.fits(target)), expect, "{target:?}");
        }
        assert_eq!(Role::Unknown.fits(Target::Any), Yes);
        assert_eq!(Role::Unknown.fits(Target::Standby), Fit::Perhaps);
        assert_eq!(Role::of(true, false), Role::Standby);
        assert_eq!(Role::of(false, true), Role::ReadOnlyPrimary);
    }

    #[test]
    fn only_who_changes_something_leaves() {
        assert!(leaves(Target::ReadWrite, Role::Standby) && leaves(Target::Primary, Role::Standby));
        assert!(leaves(Target::ReadWrite, Role::ReadOnlyPrimary));
        assert!(!leaves(Target::Primary, Role::ReadOnlyPrimary));
        assert!(!leaves(Target::ReadWrite, Role::Unknown) && !leaves(Target::ReadWrite, Role::Primary));
        assert!(!leaves(Target::Standby, Role::Primary) && !leaves(Target::PreferStandby, Role::Primary));
    }
}
