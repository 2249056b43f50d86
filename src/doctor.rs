//! `lockkeeper doctor`: what works for a role on a server, what does not, and the SQL that a DBA runs once for it. It changes nothing.
//!
//! Each check is one question to the server and what is said to its answer. Start at [`run`].

use crate::jobs::{Server, Session, quiet_policy, runtime};
use crate::plan::splice::quote_ident;
use crate::plan::{faults, jobs};
use clap::Args;
use std::io::Write;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,
}

/// What a check came to.
enum Found {
    Fine(String),
    /// It works, but not all of it, or not everywhere.
    Note(String, Option<String>),
    /// What does not work, and what is run once for it.
    Lacking(String, Option<String>),
}

/// Who asks, and where.
struct Asker {
    session: Session,
    role: String,
    database: String,
}

/// True: nothing is lacking.
pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<bool, String> {
    runtime()?.block_on(async {
        let session = Session::open(&arguments.server, quiet_policy()?, None).await?;
        let who = session.rows("SELECT current_user::pg_catalog.text").await?.join("");
        let database = session
            .rows("SELECT pg_catalog.current_database()::pg_catalog.text")
            .await?
            .join("");
        let asker = Asker {
            session,
            role: who,
            database,
        };
        let mut whole = true;
        for found in asker.all().await? {
            let (mark, what, once) = match found {
                Found::Fine(what) => ("ok     ", what, None),
                Found::Note(what, once) => ("note   ", what, once),
                Found::Lacking(what, once) => {
                    whole = false;
                    ("lacking", what, once)
                }
            };
            let mut text = format!("{mark}  {what}\n");
            for line in once.iter().flat_map(|once| once.lines()) {
                text.push_str(&format!("           {line}\n"));
            }
            out.write_all(text.as_bytes()).map_err(|error| error.to_string())?;
        }
        Ok(whole)
    })
}

impl Asker {
    async fn all(&self) -> Result<Vec<Found>, String> {
        let mut found = vec![self.server().await?];
        found.extend(self.standby().await?);
        found.push(self.pooler().await?);
        found.push(self.jobs().await?);
        found.push(self.temporary().await?);
        found.push(self.monitor().await?);
        found.extend(self.published().await?);
        found.extend(self.left_over().await?);
        found.extend(self.settings().await?);
        found.extend(self.old_transactions().await?);
        Ok(found)
    }

    async fn one(&self, sql: &str) -> Result<String, String> {
        Ok(self.session.rows(sql).await?.into_iter().next().unwrap_or_default())
    }

    async fn is(&self, sql: &str) -> Result<bool, String> {
        Ok(self.one(sql).await? == "t")
    }

    async fn server(&self) -> Result<Found, String> {
        let version = self.one("SELECT pg_catalog.current_setting('server_version')").await?;
        let number = self
            .one("SELECT pg_catalog.current_setting('server_version_num')")
            .await?;
        let number: u32 = number.parse().unwrap_or(0);
        if let Some(fault) = faults::of_concurrent_builds(number) {
            return Ok(Found::Lacking(
                format!("PostgreSQL {version}: {}", fault.what),
                Some(fault.remedy.to_owned()),
            ));
        }
        Ok(match number {
            ..130_000 => Found::Lacking(format!("PostgreSQL {version}: Lockkeeper knows 13 to 18"), None),
            _ => Found::Fine(format!("PostgreSQL {version}, as {} in {}", self.role, self.database)),
        })
    }

    async fn standby(&self) -> Result<Option<Found>, String> {
        let standby = self.is("SELECT pg_catalog.pg_is_in_recovery()").await?;
        let what = "the server is a standby: schema changes and writes go to its primary";
        Ok(standby.then(|| Found::Lacking(what.into(), None)))
    }

    /// The process that a cancel request names is the pooler's invention, and another one answers.
    async fn pooler(&self) -> Result<Found, String> {
        let answers = self.one("SELECT pg_catalog.pg_backend_pid()").await?;
        let named = self.session.proxy.process().map(|process| process.to_string());
        Ok(match named {
            Some(named) if named != answers => Found::Lacking(
                "there is a connection pooler in front of the server: only what one transaction carries is done".into(),
                Some("Let Lockkeeper connect to the server itself, and the pooler to Lockkeeper.".into()),
            ),
            _ => Found::Fine("no connection pooler stands in between".into()),
        })
    }

    async fn jobs(&self) -> Result<Found, String> {
        let init = format!(
            "a superuser runs once: lockkeeper init --dsn 'dbname={} …'",
            self.database
        );
        let table = self.session.rows(jobs::TRUST).await?;
        if let Some(why) = jobs::out_of_use(table.first().map(String::as_str), &self.database) {
            return Ok(Found::Lacking(format!("jobs: {why}"), Some(init)));
        }
        let owner = "SELECT pg_catalog.pg_get_userbyid(c.relowner)::pg_catalog.text FROM pg_catalog.pg_class AS c \
                     WHERE c.oid OPERATOR(pg_catalog.=) pg_catalog.to_regclass('lockkeeper.job')";
        let owner = self.one(owner).await?;
        let may = self
            .is("SELECT pg_catalog.has_table_privilege('lockkeeper.job', 'SELECT, INSERT, UPDATE')")
            .await?;
        Ok(match may {
            true => Found::Fine(format!("jobs: lockkeeper.job is {owner}'s, and can be used")),
            false => Found::Lacking(
                format!("jobs: {} has no right on lockkeeper.job, which is {owner}'s", self.role),
                Some(init),
            ),
        })
    }

    async fn temporary(&self) -> Result<Found, String> {
        let may = "SELECT pg_catalog.has_database_privilege(pg_catalog.current_database(), 'TEMPORARY')";
        Ok(match self.is(may).await? {
            true => Found::Fine("TEMPORARY: definitions are tried on an empty copy of their table".into()),
            false => Found::Lacking(
                "TEMPORARY is missing: what a definition would do cannot be tried, and a transaction defers nothing"
                    .into(),
                Some(format!(
                    "GRANT TEMPORARY ON DATABASE {} TO {};",
                    quote_ident(&self.database),
                    quote_ident(&self.role)
                )),
            ),
        })
    }

    async fn monitor(&self) -> Result<Found, String> {
        let sees = "SELECT pg_catalog.pg_has_role(current_user, 'pg_read_all_stats', 'USAGE')";
        Ok(match self.is(sees).await? {
            true => Found::Fine(
                "pg_monitor: who holds a lock is seen with state and query; this role can be that of --control-dsn"
                    .into(),
            ),
            false => Found::Note(
                "pg_monitor is missing: of others who hold a lock, state and query are hidden from this role".into(),
                Some(format!(
                    "For the role of --control-dsn (not the application's): GRANT pg_monitor TO {};",
                    quote_ident(&self.role)
                )),
            ),
        })
    }

    /// Their UPDATE and DELETE fail.
    async fn published(&self) -> Result<Option<Found>, String> {
        let sql = "SELECT pg_catalog.string_agg(t.name, ', ' ORDER BY t.name) FROM (SELECT DISTINCT pg_catalog.format('%I.%I', p.schemaname, p.tablename) \
                   AS name FROM pg_catalog.pg_publication_tables AS p JOIN pg_catalog.pg_namespace AS n ON n.nspname OPERATOR(pg_catalog.=) p.schemaname \
                   JOIN pg_catalog.pg_class AS c ON c.relnamespace OPERATOR(pg_catalog.=) n.oid AND c.relname OPERATOR(pg_catalog.=) p.tablename \
                   WHERE c.relreplident OPERATOR(pg_catalog.=) 'n' OR (c.relreplident OPERATOR(pg_catalog.=) 'd' AND NOT EXISTS (SELECT FROM \
                   pg_catalog.pg_index AS i WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisprimary)) LIMIT 20) AS t";
        let names = self.one(sql).await?;
        let what = format!("published without a replica identity, so that UPDATE and DELETE fail: {names}");
        let once = "ALTER TABLE … REPLICA IDENTITY FULL; or add a primary key";
        Ok((!names.is_empty()).then(|| Found::Note(what, Some(once.into()))))
    }

    async fn left_over(&self) -> Result<Vec<Found>, String> {
        let invalid = "SELECT pg_catalog.format('DROP INDEX CONCURRENTLY %I.%I;', n.nspname, c.relname) FROM pg_catalog.pg_index AS i \
                       JOIN pg_catalog.pg_class AS c ON c.oid OPERATOR(pg_catalog.=) i.indexrelid JOIN pg_catalog.pg_namespace AS n \
                       ON n.oid OPERATOR(pg_catalog.=) c.relnamespace WHERE NOT i.indisvalid AND c.relkind OPERATOR(pg_catalog.=) 'i' \
                       AND NOT EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index AS p WHERE p.index_relid OPERATOR(pg_catalog.=) c.oid) \
                       ORDER BY 1 LIMIT 20";
        let unproven = "SELECT pg_catalog.format('ALTER TABLE %s VALIDATE CONSTRAINT %I;', x.conrelid::pg_catalog.regclass, x.conname) \
                        FROM pg_catalog.pg_constraint AS x WHERE NOT x.convalidated AND x.conrelid OPERATOR(pg_catalog.<>) 0::pg_catalog.oid \
                        ORDER BY 1 LIMIT 20";
        let mut found = Vec::new();
        for (sql, what) in [
            (invalid, "INVALID indexes, which cost writes and help no query"),
            (
                unproven,
                "constraints that are NOT VALID: old rows were never looked at",
            ),
        ] {
            let once = self.session.rows(sql).await?;
            if !once.is_empty() {
                found.push(Found::Note(what.into(), Some(once.join("\n"))));
            }
        }
        Ok(found)
    }

    async fn settings(&self) -> Result<Vec<Found>, String> {
        let value = "pg_catalog.current_setting";
        let mut found = Vec::new();
        if self
            .is(&format!(
                "SELECT {value}('idle_in_transaction_session_timeout') OPERATOR(pg_catalog.=) '0'"
            ))
            .await?
        {
            found.push(Found::Note(
                "idle_in_transaction_session_timeout is 0: a forgotten transaction is in the way of every schema change of its tables".into(),
                Some(format!(
                    "ALTER DATABASE {} SET idle_in_transaction_session_timeout = '10min';",
                    quote_ident(&self.database)
                )),
            ));
        }
        if self
            .is(&format!(
                "SELECT {value}('log_lock_waits') OPERATOR(pg_catalog.=) 'off'"
            ))
            .await?
        {
            found.push(Found::Note(
                "log_lock_waits is off: the server's log does not tell who waited".into(),
                Some("ALTER SYSTEM SET log_lock_waits = on; SELECT pg_reload_conf();".into()),
            ));
        }
        if self.is("SELECT EXISTS (SELECT FROM pg_catalog.pg_event_trigger AS e WHERE e.evtenabled OPERATOR(pg_catalog.<>) 'D')").await? {
            found.push(Found::Note(
                "there are event triggers: their functions run with every schema change, and can do anything".into(),
                None,
            ));
        }
        Ok(found)
    }

    async fn old_transactions(&self) -> Result<Option<Found>, String> {
        let sql = "SELECT pg_catalog.format('SELECT pg_terminate_backend(%s);  -- %s, %s, %s, for %s min', a.pid, a.usename, \
                   COALESCE(NULLIF(a.application_name, ''), '-'), COALESCE(a.state, 'its state is hidden from this role'), \
                   (EXTRACT(epoch FROM pg_catalog.now() - a.xact_start) / 60)::pg_catalog.int8) FROM pg_catalog.pg_stat_activity AS a \
                   WHERE a.datname OPERATOR(pg_catalog.=) pg_catalog.current_database() AND a.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid() \
                   AND a.xact_start OPERATOR(pg_catalog.<) pg_catalog.now() - interval '5 min' ORDER BY a.xact_start LIMIT 5";
        let old = self.session.rows(sql).await?;
        let what =
            "transactions older than 5 minutes: concurrent builds wait for them, and schema changes of their tables";
        Ok((!old.is_empty()).then(|| Found::Note(what.into(), Some(old.join("\n")))))
    }
}
