//! Table lock modes, as the manual names and orders them (section 13.3.1), and which conflict.

use serde::{Deserialize, Serialize};

/// Ordered from the weakest to the strongest. `None` is for statements that lock no table.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum LockMode {
    #[default]
    None,
    AccessShare,
    RowShare,
    RowExclusive,
    ShareUpdateExclusive,
    Share,
    ShareRowExclusive,
    Exclusive,
    AccessExclusive,
}

impl LockMode {
    /// As the manual writes it: `ACCESS EXCLUSIVE`.
    pub fn name(self) -> &'static str {
        match self {
            LockMode::None => "none",
            LockMode::AccessShare => "ACCESS SHARE",
            LockMode::RowShare => "ROW SHARE",
            LockMode::RowExclusive => "ROW EXCLUSIVE",
            LockMode::ShareUpdateExclusive => "SHARE UPDATE EXCLUSIVE",
            LockMode::Share => "SHARE",
            LockMode::ShareRowExclusive => "SHARE ROW EXCLUSIVE",
            LockMode::Exclusive => "EXCLUSIVE",
            LockMode::AccessExclusive => "ACCESS EXCLUSIVE",
        }
    }

    /// As pg_locks writes it: `AccessExclusiveLock`.
    pub fn pg_locks_name(self) -> String {
        let words = self.name().split(' ').map(|word| {
            let (first, rest) = word.split_at(word.len().min(1));
            format!("{first}{}", rest.to_lowercase())
        });
        words.collect::<String>() + "Lock"
    }

    /// The modes that cannot be held together with this one by different transactions (manual table 13.2).
    pub fn conflicts(self) -> &'static [LockMode] {
        use LockMode::*;
        const ALL: &[LockMode] = &[
            AccessShare,
            RowShare,
            RowExclusive,
            ShareUpdateExclusive,
            Share,
            ShareRowExclusive,
            Exclusive,
            AccessExclusive,
        ];
        match self {
            None => &[],
            AccessShare => &ALL[7..],
            RowShare => &ALL[6..],
            RowExclusive => &ALL[4..],
            ShareUpdateExclusive => &ALL[3..],
            Share => &[
                RowExclusive,
                ShareUpdateExclusive,
                ShareRowExclusive,
                Exclusive,
                AccessExclusive,
            ],
            ShareRowExclusive => &ALL[2..],
            Exclusive => &ALL[1..],
            AccessExclusive => ALL,
        }
    }

    /// What other sessions cannot do meanwhile: "reads and writes", "writes", "other schema changes", "writes to the same rows" or "nothing".
    pub fn blocks(self) -> &'static str {
        match self {
            LockMode::AccessExclusive => "reads and writes",
            LockMode::Share | LockMode::ShareRowExclusive | LockMode::Exclusive => "writes",
            LockMode::ShareUpdateExclusive => "other schema changes",
            // With the locks of the rows themselves (manual section 13.3.2).
            LockMode::RowExclusive => "writes to the same rows",
            _ => "nothing",
        }
    }
}
