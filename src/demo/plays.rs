//! The statements that the demo plays, in an order in which both runs see the same table.

pub const LOOP_BATCH: i64 = 10_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expect {
    /// Through Lockkeeper it succeeds.
    Done,
    /// Lockkeeper refuses it.
    Refused,
}

#[derive(Clone, Copy, Debug)]
pub struct Play {
    /// What a person would type; shown.
    pub sql: &'static str,
    /// Sent before it on the same session, each as a message of its own.
    pub before: &'static str,
    /// Puts back what a successful run of a statement that is to be refused did, straight at the server.
    pub restore: &'static str,
    pub expect: Expect,
    /// Sent with the extended protocol, again and again until fewer rows come back than the batch has.
    pub is_loop: bool,
}

impl Play {
    /// With what was sent before it.
    pub fn shown(&self) -> String {
        match self.before {
            "" => self.sql.to_owned(),
            before => format!("{before}; {}", self.sql),
        }
    }
}

const fn done(sql: &'static str) -> Play {
    Play {
        sql,
        before: "",
        restore: "",
        expect: Expect::Done,
        is_loop: false,
    }
}

const fn refused(sql: &'static str, restore: &'static str) -> Play {
    Play {
        sql,
        before: "",
        restore,
        expect: Expect::Refused,
        is_loop: false,
    }
}

pub const PLAYS: &[Play] = &[
    done("ALTER TABLE users ADD COLUMN email_verified boolean"),
    // From here on new rows have a value, or SET NOT NULL could never succeed under this load.
    done("ALTER TABLE users ALTER COLUMN email_verified SET DEFAULT false"),
    done("UPDATE users SET email_verified = false WHERE email_verified IS NULL"),
    done("ALTER TABLE users ALTER COLUMN email_verified SET NOT NULL"),
    // Up to a certain id: it shows the loop, not patience.
    Play {
        is_loop: true,
        ..done("UPDATE users SET newsletter = false WHERE newsletter IS NULL AND id <= 200000 LIMIT $1 RETURNING id")
    },
    done("ALTER TABLE users ADD COLUMN active boolean NOT NULL DEFAULT true"),
    done("ALTER TABLE users ADD COLUMN public_id uuid DEFAULT gen_random_uuid()"),
    done("CREATE INDEX idx_users_email ON users(email)"),
    done("CREATE UNIQUE INDEX idx_users_public_id ON users(public_id)"),
    done("REINDEX INDEX idx_users_email"),
    done("DROP INDEX idx_users_email"),
    done("ALTER TABLE users ADD CONSTRAINT email_has_at CHECK (email LIKE '%@%')"),
    done("ALTER TABLE users ADD CONSTRAINT users_team_fk FOREIGN KEY (team_id) REFERENCES teams (id)"),
    refused(
        "ALTER TABLE users RENAME COLUMN name TO full_name",
        "ALTER TABLE users RENAME COLUMN full_name TO name",
    ),
    refused(
        "ALTER TABLE users DROP COLUMN name",
        "ALTER TABLE users ADD COLUMN name text",
    ),
    refused("TRUNCATE events", ""),
    Play {
        before: "SET lockkeeper.override = 'drop-column: no release since May reads newsletter'",
        ..done("ALTER TABLE users DROP COLUMN newsletter")
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_is_one_and_the_loop_has_a_limit() {
        for play in PLAYS {
            assert!(!play.sql.contains(';'), "{}", play.sql);
            assert_eq!(play.is_loop, play.sql.contains("LIMIT $1"), "{}", play.sql);
            assert!(
                play.restore.is_empty() || play.expect == Expect::Refused,
                "{}",
                play.sql
            );
        }
    }
}
