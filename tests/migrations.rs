//! The main job: schema changes on a table in use, through psql (simple protocol) and tokio-postgres (extended protocol),
//! alone and inside a transaction block. The oracle is the server: what a direct run of the client's own statement leaves
//! behind, and what an event trigger saw of every DDL command (its transaction, its timeouts, its locks).

mod common;

use common::{Ran, Stage, cluster};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// As `standard`, but no table counts as small, and nobody has to wait long.
const POLICY: &str = "extends = \"standard\"
[table]
small_bytes = 0
[lock]
pause_ms = 20
give_up_after_s = 20
[backfill]
rows_max = 300
batch_rows = 300
pause_ms = 1
";

const FIXTURE: &str = r#"
SET client_min_messages = warning;
DROP SCHEMA IF EXISTS public, "app schema", watch CASCADE;
CREATE SCHEMA public;
CREATE SCHEMA "app schema";
CREATE TABLE teams (id bigint PRIMARY KEY, region int, UNIQUE (region, id));
INSERT INTO teams SELECT g, g % 3 FROM generate_series(1, 20) g;
CREATE TABLE users (id bigint PRIMARY KEY, name text NOT NULL, email text, team_id bigint, region int, age int DEFAULT 30,
                    nick text, active boolean DEFAULT true, boss bigint);
INSERT INTO users (id, name, email, team_id, region, nick, boss)
    SELECT g, 'n' || g, 'm' || g || '@x', 1 + g % 20, (1 + g % 20) % 3, CASE WHEN g % 7 > 0 THEN 'k' || g % 50 END, 1
    FROM generate_series(1, 700) g;
CREATE INDEX users_name_idx ON users (name);
CREATE INDEX users_age_idx ON users (age);
CREATE TABLE "app schema"."Big Users" ("Id" bigint PRIMARY KEY, "E mail" text);
INSERT INTO "app schema"."Big Users" SELECT g, 'm' || g FROM generate_series(1, 600) g;
CREATE INDEX "Old Idx" ON "app schema"."Big Users" ("E mail");
ANALYZE users, teams, "app schema"."Big Users";
CREATE SCHEMA watch;
CREATE TABLE watch.ddl (n bigserial, xid text, tag text, query text, lock_timeout text, statement_timeout text, locks text[]);
CREATE FUNCTION watch.see() RETURNS event_trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog AS $$ BEGIN
  INSERT INTO watch.ddl (xid, tag, query, lock_timeout, statement_timeout, locks)
  VALUES (pg_current_xact_id()::text, CASE TG_EVENT WHEN 'table_rewrite' THEN 'REWRITE' ELSE TG_TAG END, current_query(),
          current_setting('lock_timeout'), current_setting('statement_timeout'),
          ARRAY(SELECT DISTINCT mode FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'relation' AND granted
                AND relation IN (to_regclass('public.users'), to_regclass('"app schema"."Big Users"'))));
END $$;
CREATE EVENT TRIGGER see_end ON ddl_command_end EXECUTE FUNCTION watch.see();
CREATE EVENT TRIGGER see_rewrite ON table_rewrite EXECUTE FUNCTION watch.see();
"#;

/// What `Stage::schema` leaves out: the order of columns, who owns a sequence, comments, and event triggers' own tables.
const MORE_SCHEMA: &str = r#"
SELECT string_agg(line, E'\n' ORDER BY line COLLATE pg_catalog."C") FROM (
  SELECT format('%s order %s', attrelid::regclass, string_agg(attname, ',' ORDER BY attnum)) AS line
  FROM pg_attribute JOIN pg_class c ON c.oid = attrelid
  WHERE attnum > 0 AND NOT attisdropped AND relkind = 'r' AND relnamespace::regnamespace::text IN ('public', '"app schema"')
  GROUP BY attrelid
  UNION ALL
  SELECT format('sequence %s %s start %s by %s owned by %s.%s (%s)', s.seqrelid::regclass, seqtypid::regtype, seqstart, seqincrement,
                d.refobjid::regclass, d.refobjsubid, d.deptype)
  FROM pg_sequence s LEFT JOIN pg_depend d ON d.objid = s.seqrelid AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')
  UNION ALL
  SELECT format('comment %s %s %s', classoid::regclass, objsubid, description) FROM pg_description WHERE objoid >= 16384
) lines"#;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// The client sees what a direct run of its statement shows, and the server holds what that leaves.
    Same,
    /// The error with this SQLSTATE, and nothing changed.
    Refused(&'static str),
}
use Expect::{Refused, Same};

#[derive(Clone, Copy)]
struct Case {
    sql: &'static str,
    /// What is there before, in both databases.
    setup: &'static str,
    alone: Expect,
    block: Expect,
    /// What the server has carried out and committed when the statement was alone, without comments; None: not looked at.
    steps: Option<&'static [&'static str]>,
    /// The versions that it is about; 0 = all.
    major: u32,
}

const fn case(sql: &'static str, block: Expect) -> Case {
    Case {
        sql,
        setup: "",
        alone: Same,
        block,
        steps: None,
        major: 0,
    }
}

impl Case {
    const fn after(self, setup: &'static str) -> Case {
        Case { setup, ..self }
    }
    const fn steps(self, steps: &'static [&'static str]) -> Case {
        Case {
            steps: Some(steps),
            ..self
        }
    }
    const fn on(self, major: u32) -> Case {
        Case { major, ..self }
    }
    const fn alone(self, alone: Expect) -> Case {
        Case { alone, ..self }
    }
}

const IN_BLOCK: Expect = Refused("25001");

const CASES: &[Case] = &[
    // --- columns
    case("ALTER TABLE users ADD COLUMN email_verified boolean", Same)
        .steps(&["ALTER TABLE users ADD COLUMN email_verified boolean"]),
    case(
        "ALTER TABLE users ADD COLUMN email_verified boolean NOT NULL DEFAULT false",
        Same,
    )
    .steps(&["ALTER TABLE users ADD COLUMN email_verified boolean NOT NULL DEFAULT false"]),
    case("ALTER TABLE users ADD seen timestamptz DEFAULT now()", Same),
    case(
        "ALTER TABLE users ADD COLUMN token uuid DEFAULT gen_random_uuid()",
        IN_BLOCK,
    ),
    case(
        "ALTER TABLE users ADD COLUMN token uuid NOT NULL DEFAULT gen_random_uuid()",
        IN_BLOCK,
    ),
    case(
        "alter table public.users add r float8 default random() -- fine",
        IN_BLOCK,
    ),
    case("ALTER TABLE users ADD COLUMN n serial", IN_BLOCK),
    case("ALTER TABLE users ADD COLUMN n bigserial NOT NULL", IN_BLOCK),
    case(
        "ALTER TABLE users ADD COLUMN n bigint GENERATED BY DEFAULT AS IDENTITY",
        IN_BLOCK,
    ),
    case(
        "ALTER TABLE users ADD COLUMN n integer GENERATED ALWAYS AS IDENTITY (START WITH 5000 INCREMENT BY 2)",
        IN_BLOCK,
    ),
    case(
        "ALTER TABLE \"app schema\".\"Big Users\" ADD COLUMN \"Num ber\" smallserial",
        IN_BLOCK,
    ),
    case("ALTER TABLE users ADD COLUMN IF NOT EXISTS name text", Same),
    case("ALTER TABLE users ADD COLUMN name text", Same),
    case("ALTER TABLE users ADD COLUMN must text NOT NULL", Same),
    case("ALTER TABLE users ADD COLUMN score int CHECK (score > 0)", IN_BLOCK),
    case(
        "ALTER TABLE users ADD COLUMN score int DEFAULT 1 CHECK (score > 0) CONSTRAINT small CHECK (score < 9)",
        IN_BLOCK,
    ),
    case("ALTER TABLE users ADD COLUMN code text UNIQUE", IN_BLOCK),
    case("ALTER TABLE users ADD COLUMN lead bigint REFERENCES teams", Same),
    case(
        "ALTER TABLE users ADD COLUMN lead bigint DEFAULT 1 REFERENCES teams (id) ON DELETE SET NULL",
        IN_BLOCK,
    ),
    case("ALTER TABLE users ALTER COLUMN email SET NOT NULL", IN_BLOCK)
        .on(15)
        .steps(&[
            "ALTER TABLE users ADD CONSTRAINT lockkeeper_users_email_not_null CHECK (email IS NOT NULL) NOT VALID",
            "ALTER TABLE users VALIDATE CONSTRAINT lockkeeper_users_email_not_null",
            "ALTER TABLE users ALTER COLUMN email SET NOT NULL",
            "ALTER TABLE users DROP CONSTRAINT lockkeeper_users_email_not_null",
        ]),
    case("ALTER TABLE users ALTER COLUMN email SET NOT NULL", IN_BLOCK)
        .on(18)
        .steps(&[
            "ALTER TABLE users ADD CONSTRAINT users_email_not_null NOT NULL email NOT VALID",
            "ALTER TABLE users VALIDATE CONSTRAINT users_email_not_null",
        ]),
    case("ALTER TABLE users ALTER nick SET NOT NULL", IN_BLOCK),
    case("ALTER TABLE users ALTER COLUMN id SET NOT NULL", Same),
    case(
        "ALTER TABLE \"app schema\".\"Big Users\" ALTER \"E mail\" SET NOT NULL",
        IN_BLOCK,
    ),
    case("ALTER TABLE users ADD CONSTRAINT has_mail NOT NULL email", IN_BLOCK).on(18),
    case("ALTER TABLE users ALTER COLUMN age SET DEFAULT 3", Same),
    case("ALTER TABLE users ALTER COLUMN age DROP DEFAULT", Same),
    case("ALTER TABLE users ALTER COLUMN name DROP NOT NULL", Same),
    // --- indexes
    case("CREATE INDEX idx_users_email ON users(email)", IN_BLOCK)
        .steps(&["CREATE INDEX CONCURRENTLY idx_users_email ON users(email)"]),
    case("CREATE INDEX ON users (email)", IN_BLOCK)
        .steps(&["CREATE INDEX CONCURRENTLY users_email_idx ON users (email)"]),
    case("CREATE INDEX ON users (name)", IN_BLOCK),
    case("CREATE INDEX ON users (email, name DESC NULLS LAST)", IN_BLOCK),
    case("CREATE INDEX ON users (lower(email))", IN_BLOCK),
    case("CREATE INDEX ON users ((age + 1), (coalesce(nick, name)))", IN_BLOCK),
    case(
        "CREATE UNIQUE INDEX ON users (email) INCLUDE (name) WHERE active",
        IN_BLOCK,
    ),
    case(
        "CREATE UNIQUE INDEX one_mail ON users USING btree (email text_pattern_ops) WITH (fillfactor = 70)",
        IN_BLOCK,
    ),
    case("CREATE INDEX IF NOT EXISTS idx_users_email ON users(email)", IN_BLOCK),
    case("CREATE INDEX IF NOT EXISTS users_name_idx ON users(name)", Same),
    case("CREATE INDEX users_name_idx ON users(email)", IN_BLOCK),
    case("CREATE UNIQUE INDEX one_nick ON users (nick)", IN_BLOCK),
    case("CREATE UNIQUE INDEX IF NOT EXISTS one_nick ON users (nick)", IN_BLOCK),
    case("CREATE INDEX ON users (nothing)", IN_BLOCK),
    case("CREATE INDEX ON nowhere (nothing)", Same),
    case(
        "CREATE INDEX ON \"app schema\".\"Big Users\" (\"E mail\", \"Id\")",
        IN_BLOCK,
    ),
    case(
        "create unique index \"My Idx\" on \"app schema\".\"Big Users\"(\"E mail\")",
        IN_BLOCK,
    ),
    case("CREATE INDEX CONCURRENTLY idx_users_email ON users(email)", IN_BLOCK),
    case("DROP INDEX users_name_idx", IN_BLOCK).steps(&["DROP INDEX CONCURRENTLY users_name_idx"]),
    case("DROP INDEX users_name_idx, users_age_idx", IN_BLOCK).steps(&[
        "DROP INDEX CONCURRENTLY users_name_idx",
        "DROP INDEX CONCURRENTLY users_age_idx",
    ]),
    case("DROP INDEX IF EXISTS nothing, users_name_idx", IN_BLOCK),
    case("DROP INDEX IF EXISTS nothing", Same),
    case("DROP INDEX nothing", Same),
    case("DROP INDEX nothing, users_name_idx", Same),
    case("DROP INDEX users_pkey", Same),
    case("DROP INDEX users_name_idx RESTRICT", IN_BLOCK),
    case("DROP INDEX users_name_idx CASCADE", Same),
    case("DROP INDEX \"app schema\".\"Old Idx\"", IN_BLOCK),
    case("DROP INDEX CONCURRENTLY users_name_idx", IN_BLOCK),
    case("REINDEX INDEX users_name_idx", IN_BLOCK),
    case("REINDEX TABLE users", IN_BLOCK),
    case("REINDEX (VERBOSE) TABLE \"app schema\".\"Big Users\"", IN_BLOCK),
    case("REINDEX INDEX nothing", Same),
    case("ALTER INDEX users_name_idx RENAME TO users_by_name", Same),
    // --- constraints
    case(
        "ALTER TABLE users ADD CONSTRAINT has_at CHECK (email LIKE '%@%')",
        IN_BLOCK,
    )
    .steps(&[
        "ALTER TABLE users ADD CONSTRAINT has_at CHECK (email LIKE '%@%') NOT VALID",
        "ALTER TABLE users VALIDATE CONSTRAINT has_at",
    ]),
    case("ALTER TABLE users ADD CHECK (age > 0)", IN_BLOCK).steps(&[
        "ALTER TABLE users ADD CONSTRAINT users_age_check CHECK (age > 0) NOT VALID",
        "ALTER TABLE users VALIDATE CONSTRAINT users_age_check",
    ]),
    case("ALTER TABLE users ADD CHECK (age > 0 AND length(name) > 0)", IN_BLOCK),
    case("ALTER TABLE users ADD CHECK (age > 1)", IN_BLOCK).after("ALTER TABLE users ADD CHECK (age > 0)"),
    case("ALTER TABLE users ADD CONSTRAINT old CHECK (age > 40)", IN_BLOCK),
    case(
        "ALTER TABLE users ADD CONSTRAINT has_at CHECK (email LIKE '%@%') NOT VALID",
        Same,
    ),
    case(
        "ALTER TABLE users ADD CONSTRAINT users_team_fk FOREIGN KEY (team_id) REFERENCES teams (id)",
        IN_BLOCK,
    )
    .steps(&[
        "ALTER TABLE users ADD CONSTRAINT users_team_fk FOREIGN KEY (team_id) REFERENCES teams (id) NOT VALID",
        "ALTER TABLE users VALIDATE CONSTRAINT users_team_fk",
    ]),
    case("ALTER TABLE users ADD FOREIGN KEY (team_id) REFERENCES teams", IN_BLOCK),
    case(
        "ALTER TABLE ONLY users ADD FOREIGN KEY (region, team_id) REFERENCES teams (region, id) ON DELETE CASCADE \
         DEFERRABLE INITIALLY DEFERRED",
        IN_BLOCK,
    ),
    case("ALTER TABLE users ADD FOREIGN KEY (boss) REFERENCES users", IN_BLOCK),
    case(
        "ALTER TABLE users ADD CONSTRAINT no FOREIGN KEY (id) REFERENCES teams",
        IN_BLOCK,
    ),
    case(
        "ALTER TABLE users ADD CONSTRAINT later FOREIGN KEY (id) REFERENCES teams NOT VALID",
        Same,
    ),
    case("ALTER TABLE users VALIDATE CONSTRAINT has_at", Same)
        .after("ALTER TABLE users ADD CONSTRAINT has_at CHECK (email LIKE '%@%') NOT VALID"),
    case("ALTER TABLE users ADD UNIQUE (email)", IN_BLOCK),
    case(
        "ALTER TABLE users ADD CONSTRAINT one_mail UNIQUE (email, id) DEFERRABLE",
        IN_BLOCK,
    ),
    case("ALTER TABLE users ADD UNIQUE (nick)", IN_BLOCK),
    case("ALTER TABLE users ADD PRIMARY KEY (email)", IN_BLOCK).after("ALTER TABLE users DROP CONSTRAINT users_pkey"),
    case("ALTER TABLE users DROP CONSTRAINT users_pkey", Same),
    // --- several actions
    case(
        "ALTER TABLE users ADD COLUMN a int, ADD COLUMN b text DEFAULT 'x'",
        Same,
    )
    .steps(&["ALTER TABLE users ADD COLUMN a int, ADD COLUMN b text DEFAULT 'x'"]),
    case(
        "ALTER TABLE users ADD COLUMN a int NOT NULL DEFAULT 1, ADD CONSTRAINT c CHECK (age > 0), ALTER COLUMN email SET NOT NULL",
        IN_BLOCK,
    ),
    case(
        "ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0), ADD FOREIGN KEY (team_id) REFERENCES teams, ALTER age SET DEFAULT 7",
        IN_BLOCK,
    ),
    case(
        "ALTER TABLE users ADD COLUMN a serial, ADD COLUMN b uuid NOT NULL DEFAULT gen_random_uuid()",
        IN_BLOCK,
    ),
    case(
        "ALTER TABLE users DROP CONSTRAINT c, ADD CONSTRAINT c CHECK (age > 1)",
        IN_BLOCK,
    )
    .after("ALTER TABLE users ADD CONSTRAINT c CHECK (age > 0)"),
    case(
        "ALTER TABLE users ADD COLUMN a int, ADD CONSTRAINT c CHECK (a IS NULL OR a > 0)",
        IN_BLOCK,
    ),
    // --- what removes or renames
    case("ALTER TABLE users RENAME COLUMN name TO full_name", Refused("55000")).alone(Refused("55000")),
    case("ALTER TABLE users RENAME TO people", Refused("55000")).alone(Refused("55000")),
    case("ALTER TABLE users DROP COLUMN name", Refused("55000")).alone(Refused("55000")),
    case("DROP TABLE users", Refused("55000")).alone(Refused("55000")),
    case("TRUNCATE users", Refused("55000")).alone(Refused("55000")),
    // --- other DDL, and what fails by itself
    case("CREATE VIEW adults AS SELECT * FROM users WHERE age > 17", Same),
    case("ALTER TABLE users SET (fillfactor = 80)", Same),
    case("ALTER TABLE users ENABLE ROW LEVEL SECURITY", Same),
    case("COMMENT ON TABLE users IS 'people'", Same),
    case(
        "CREATE TABLE notes (id int PRIMARY KEY, user_id bigint REFERENCES users)",
        Same,
    ),
    case("ALTER TABLE IF EXISTS nowhere ADD COLUMN a int", Same),
    case("ALTER TABLE nowhere ADD COLUMN a serial", Same),
    case("ALTER TABLE users ADD COLUMN a nosuchtype", Same),
    case("ALTER TABLE users ALTER COLUMN nothing SET NOT NULL", Same),
];

#[derive(Clone, Copy, PartialEq)]
enum How {
    Psql,
    Driver,
    PsqlBlock,
    DriverBlock,
}

/// Other sessions that read and write the table all the while.
struct Traffic {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(u32, Vec<String>)>,
}

impl Traffic {
    fn start(stage: &Stage) -> Traffic {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let text = format!(
            "host=127.0.0.1 port={} user=postgres dbname={} application_name=app",
            stage.cluster.port(),
            stage.database
        );
        let thread = std::thread::spawn(move || {
            runtime().block_on(async {
                let (client, connection) = tokio_postgres::connect(&text, NoTls).await.unwrap();
                tokio::spawn(connection);
                let (mut done, mut errors) = (0, Vec::new());
                while !stopped.load(Ordering::Relaxed) {
                    let id = 1 + done % 700;
                    for sql in [
                        format!("UPDATE users SET region = region WHERE id = {id}"),
                        format!("SELECT name FROM users WHERE id = {id}"),
                    ] {
                        if let Err(error) = client.simple_query(&sql).await {
                            errors.push(
                                error
                                    .code()
                                    .map_or_else(|| error.to_string(), |code| code.code().to_owned()),
                            );
                        }
                    }
                    done += 1;
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                (done, errors)
            })
        });
        Traffic { stop, thread }
    }

    /// What its statements failed with.
    fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().unwrap().1
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
}

fn verbose(stage: &Stage, script: &str) -> Ran {
    stage.psql_args(&["-A", "-t", "-v", "VERBOSITY=verbose"], script)
}

/// The SQLSTATEs of psql's ERROR lines.
fn sqlstates(stderr: &str) -> Vec<String> {
    let errors = stderr.lines().filter_map(|line| line.split_once("ERROR:  "));
    errors
        .filter_map(|(_, rest)| rest.get(..5))
        .map(str::to_owned)
        .collect()
}

async fn whole_schema(client: &Client) -> String {
    let rows = client.query(common::SCHEMA, &[]).await.unwrap();
    let lines: Vec<String> = rows.iter().map(|row| row.get(0)).collect();
    let more: String = client.query_one(MORE_SCHEMA, &[]).await.unwrap().get(0);
    format!("{}\n{more}", lines.join("\n"))
}

/// What the client saw: for psql its whole output; for the driver rows or error, and its settings afterwards.
async fn carry_out(stage: &Stage, sql: &str, how: How) -> (String, Vec<String>) {
    match how {
        How::Psql | How::PsqlBlock => {
            let script = match how {
                How::Psql => format!(
                    "SET lock_timeout = '7s';\nSET statement_timeout = '11s';\n{sql}\n;\nSHOW lock_timeout;\nSHOW statement_timeout;\n"
                ),
                _ => format!(
                    "SET lock_timeout = '7s';\nBEGIN;\nSET LOCAL statement_timeout = '11s';\n{sql}\n;\nSHOW lock_timeout;\n\
                     SHOW statement_timeout;\nCOMMIT;\nSHOW lock_timeout;\n"
                ),
            };
            let ran = verbose(stage, &script);
            (ran.stdout, sqlstates(&ran.stderr))
        }
        How::Driver | How::DriverBlock => {
            let mut session = common::connect_at(stage.port, &stage.database).await.unwrap();
            let client = &mut session.client;
            client.batch_execute("SET lock_timeout = '7s'").await.unwrap();
            client.batch_execute("SET statement_timeout = '11s'").await.unwrap();
            let mut seen = Vec::new();
            let mut states = Vec::new();
            let executed = if how == How::Driver {
                client.execute(sql, &[]).await
            } else {
                let transaction = client.transaction().await.unwrap();
                let executed = transaction.execute(sql, &[]).await;
                if executed.is_ok() {
                    seen.push(show(transaction.query_one("SHOW lock_timeout", &[]).await));
                    transaction.commit().await.unwrap();
                } else {
                    // The server's own state must have failed too.
                    seen.push(show(transaction.query_one("SHOW lock_timeout", &[]).await));
                    transaction.rollback().await.unwrap();
                }
                executed
            };
            match executed {
                Ok(rows) => seen.push(format!("{rows} rows")),
                Err(error) => states.push(error.code().expect("the server's error").code().to_owned()),
            }
            for setting in ["lock_timeout", "statement_timeout"] {
                seen.push(show(client.query_one(&format!("SHOW {setting}"), &[]).await));
            }
            (seen.join("\n"), states)
        }
    }
}

fn show(row: Result<tokio_postgres::Row, tokio_postgres::Error>) -> String {
    match row {
        Ok(row) => row.get(0),
        Err(error) => error.code().expect("the server's error").code().to_owned(),
    }
}

/// A DDL command as the event trigger saw it.
#[derive(Debug)]
struct Seen {
    xid: String,
    tag: String,
    query: String,
    lock_timeout: String,
    statement_timeout: String,
    locks: Vec<String>,
}

async fn seen(client: &Client) -> Vec<Seen> {
    let sql = "SELECT xid, tag, query, lock_timeout, statement_timeout, locks FROM watch.ddl ORDER BY n";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| Seen {
            xid: row.get(0),
            tag: row.get(1),
            query: row.get(2),
            lock_timeout: row.get(3),
            statement_timeout: row.get(4),
            locks: row.get(5),
        })
        .collect()
}

/// Whatever the steps were: no rewrite, no lock that stops readers or writers without a short lock_timeout, no scan beside one.
fn safe(case: &Case, seen: &[Seen]) -> Result<(), String> {
    let blocks = |s: &Seen| {
        s.locks.iter().any(|l| {
            matches!(
                l.as_str(),
                "AccessExclusiveLock" | "ExclusiveLock" | "ShareRowExclusiveLock" | "ShareLock"
            )
        })
    };
    for s in seen {
        if s.tag == "REWRITE" {
            return Err(format!("the table was rewritten: {s:?}"));
        }
        if blocks(s) && s.lock_timeout != "50ms" {
            return Err(format!("a blocking lock without a short lock_timeout: {s:?}"));
        }
        if s.query.contains("VALIDATE CONSTRAINT") && s.locks.iter().any(|l| l == "AccessExclusiveLock") {
            return Err(format!("validated under ACCESS EXCLUSIVE: {s:?}"));
        }
        // The client's own concurrent build is forwarded with the client's own settings.
        if s.query.contains("CONCURRENTLY")
            && !case.sql.contains("CONCURRENTLY")
            && (s.lock_timeout != "0" || s.statement_timeout != "0")
        {
            return Err(format!("a concurrent build with timeouts: {s:?}"));
        }
        if s.query.contains("INDEX ON") && !s.query.contains("CONCURRENTLY") {
            return Err(format!("a plain build: {s:?}"));
        }
    }
    Ok(())
}

fn all_cases(major: u32, how: How) {
    runtime().block_on(async {
        let mut proxied = Ground::new(Stage::with(major, "proxied", POLICY)).await;
        let mut direct = Ground::new(Stage::without_proxy(cluster(major), "straight")).await;
        let mut wrong = Vec::new();
        for case in CASES.iter().filter(|case| case.major == 0 || case.major == major) {
            if let Err(message) = one_case(case, how, &mut proxied, &mut direct).await {
                wrong.push(format!("=== {}\n{message}", case.sql));
            }
        }
        assert!(
            wrong.is_empty(),
            "{} of {}:\n{}",
            wrong.len(),
            CASES.len(),
            wrong.join("\n")
        );
    });
}

/// A database and whether the case before has changed it.
struct Ground {
    stage: Stage,
    watcher: Client,
    dirty: bool,
}

impl Ground {
    async fn new(stage: Stage) -> Ground {
        let watcher = stage.connect_direct().await.client;
        Ground {
            stage,
            watcher,
            dirty: true,
        }
    }

    /// Puts everything back as the fixture has it, and what the case needs on top. The schema then.
    async fn prepare(&mut self, case: &Case) -> String {
        if std::mem::take(&mut self.dirty) {
            self.watcher.batch_execute(FIXTURE).await.unwrap();
        }
        self.dirty = !case.setup.is_empty();
        self.watcher.batch_execute(case.setup).await.unwrap();
        self.watcher.batch_execute("DELETE FROM watch.ddl").await.unwrap();
        whole_schema(&self.watcher).await
    }
}

async fn one_case(case: &Case, how: How, proxied: &mut Ground, direct: &mut Ground) -> Result<(), String> {
    let in_block = matches!(how, How::PsqlBlock | How::DriverBlock);
    let expect = if in_block { case.block } else { case.alone };
    let (before, direct_before) = tokio::join!(proxied.prepare(case), direct.prepare(case));
    let traffic = Traffic::start(&proxied.stage);
    let (shown, states) = carry_out(&proxied.stage, case.sql, how).await;
    let app = traffic.stop();
    // A row that violates a new constraint cannot be written from the moment on that the constraint is there, validated or not.
    let violates = states.iter().any(|state| state.starts_with("23"));
    if app.iter().any(|state| !violates || !state.starts_with("23")) {
        return Err(format!("the application's own statements failed: {app:?}"));
    }
    let after = whole_schema(&proxied.watcher).await;
    proxied.dirty |= after != before;
    if let Refused(code) = expect {
        if !states.contains(&code.to_owned()) {
            return Err(format!("not refused with {code} but {states:?}: {shown}"));
        }
        return same("the schema of a refused statement", &after, &before);
    }
    let (direct_shown, direct_states) = carry_out(&direct.stage, case.sql, how).await;
    let direct_after = whole_schema(&direct.watcher).await;
    direct.dirty |= direct_after != direct_before;
    same("SQLSTATE", &states.join(" "), &direct_states.join(" "))?;
    same("what the client saw", &shown, &direct_shown)?;
    same("schema", &after, &direct_after)?;
    same(
        "how many values each column has",
        &filled(&proxied.watcher).await,
        &filled(&direct.watcher).await,
    )?;
    if in_block {
        return Ok(());
    }
    let seen = seen(&proxied.watcher).await;
    safe(case, &seen)?;
    let committed = seen.iter().filter(|s| s.tag != "COMMENT");
    let committed: Vec<&str> = committed.map(|s| s.query.trim_end_matches([';', '\n'])).collect();
    match case.steps {
        Some(steps) if committed != steps => Err(format!("the server carried out {committed:#?}, not {steps:#?}")),
        _ => Ok(()),
    }
}

/// How many values each column of `users` has, and how many different ones.
async fn filled(client: &Client) -> String {
    let sql = "SELECT string_agg(format('%s %s %s', k, n, d), ', ' ORDER BY k) FROM
                 (SELECT k, count(v) AS n, count(DISTINCT v) AS d FROM users u, json_each_text(row_to_json(u)) AS j(k, v) GROUP BY k) c";
    client.query_one(sql, &[]).await.unwrap().get(0)
}

fn same(what: &str, have: &str, want: &str) -> Result<(), String> {
    if have == want {
        return Ok(());
    }
    let only = |a: &str, b: &str| -> Vec<String> {
        a.lines()
            .filter(|l| !b.lines().any(|o| o == *l))
            .map(str::to_owned)
            .collect()
    };
    Err(format!(
        "{what} differs: through the proxy {:#?}, straight {:#?}",
        only(have, want),
        only(want, have)
    ))
}

#[test]
fn every_change_ends_as_a_direct_run_by_psql_15() {
    all_cases(15, How::Psql);
}

#[test]
fn every_change_ends_as_a_direct_run_by_psql_18() {
    all_cases(18, How::Psql);
}

#[test]
fn every_change_ends_as_a_direct_run_by_a_driver_15() {
    all_cases(15, How::Driver);
}

#[test]
fn every_change_ends_as_a_direct_run_by_a_driver_18() {
    all_cases(18, How::Driver);
}

#[test]
fn every_change_in_a_block_by_psql_18() {
    all_cases(18, How::PsqlBlock);
}

#[test]
fn every_change_in_a_block_by_a_driver_15() {
    all_cases(15, How::DriverBlock);
}
