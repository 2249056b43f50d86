//! The main job: schema changes on a table in use, through psql (simple protocol) and tokio-postgres (extended protocol),
//! alone and inside a transaction block. The oracle is the server: what a direct run of the client's own statement leaves
//! behind, and what an event trigger saw of every DDL command (its transaction, its timeouts, its locks).

use lockkeeper_testkit::{Ran, Stage, cluster};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio_postgres::{Client, NoTls};

/// As `standard`, but no table counts as small, nobody has to wait long, and what cannot run in a transaction block is refused
/// there (tests/deferred is about what is left for after COMMIT instead).
const POLICY: &str = "extends = \"standard\"
[defaults]
in_transaction = \"reject\"
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
  WHERE d.refobjid IS DISTINCT FROM to_regclass('lockkeeper.job')
  UNION ALL
  SELECT format('comment %s %s %s', classoid::regclass, objsubid, description) FROM pg_description WHERE objoid >= 16384
    AND NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = objoid AND c.relnamespace = to_regnamespace('lockkeeper'))
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
    let rows = client.query(lockkeeper_testkit::SCHEMA, &[]).await.unwrap();
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
            let mut session = lockkeeper_testkit::connect_at(stage.port, &stage.database)
                .await
                .unwrap();
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
    n: i64,
    xid: String,
    tag: String,
    query: String,
    lock_timeout: String,
    statement_timeout: String,
    locks: Vec<String>,
}

async fn seen(client: &Client) -> Vec<Seen> {
    let sql = "SELECT n, xid, tag, query, lock_timeout, statement_timeout, locks FROM watch.ddl ORDER BY n";
    let rows = client.query(sql, &[]).await.unwrap();
    rows.iter()
        .map(|row| Seen {
            n: row.get(0),
            xid: row.get(1),
            tag: row.get(2),
            query: row.get(3),
            lock_timeout: row.get(4),
            statement_timeout: row.get(5),
            locks: row.get(6),
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
        let validates = s.query.contains("VALIDATE CONSTRAINT");
        if validates
            && seen
                .iter()
                .any(|other| other.xid == s.xid && other.n < s.n && blocks(other))
        {
            return Err(format!("validated under a blocking lock: {s:?}"));
        }
        // The client's own concurrent build is forwarded with the client's own settings.
        if s.query.contains("CONCURRENTLY")
            && !case.sql.contains("CONCURRENTLY")
            // What the client has set for its statement bounds the whole of it.
            && (s.lock_timeout != "0" || !(s.statement_timeout == "0" || s.statement_timeout.ends_with("ms")))
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

    /// Puts everything back as the fixture has it, and what the case needs on top.
    async fn prepare(&mut self, case: &Case) {
        if std::mem::take(&mut self.dirty) {
            self.watcher.batch_execute(FIXTURE).await.unwrap();
        }
        self.dirty = !case.setup.is_empty();
        self.watcher.batch_execute(case.setup).await.unwrap();
        self.watcher.batch_execute("DELETE FROM watch.ddl").await.unwrap();
    }
}

async fn one_case(case: &Case, how: How, proxied: &mut Ground, direct: &mut Ground) -> Result<(), String> {
    let in_block = matches!(how, How::PsqlBlock | How::DriverBlock);
    let expect = if in_block { case.block } else { case.alone };
    tokio::join!(proxied.prepare(case), direct.prepare(case));
    let before = whole_schema(&proxied.watcher).await;
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
    direct.dirty |= direct_after != before;
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

// --- others in the way -----------------------------------------------------------------------------------------------

/// A stage with the fixture's tables.
fn stage_with_users(major: u32, name: &str, policy: &str) -> Stage {
    let mut stage = Stage::with(major, name, policy);
    stage.direct(FIXTURE);
    stage.mark();
    stage
}

fn wait_for(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn lock_timeouts(stage: &Stage) -> usize {
    let log = stage.server_log();
    log.iter()
        .filter(|l| l.message.contains("canceling statement due to lock timeout"))
        .count()
}

/// A session straight at the server that has read and written `users` and keeps its transaction open until it is dropped.
async fn holder(stage: &Stage) -> Client {
    let client = stage.connect_direct().await.client;
    let begin = "SET application_name = 'nightly report'; BEGIN; SELECT count(*) FROM users; UPDATE users SET nick = nick WHERE id = 700";
    for sql in begin.split("; ") {
        client.batch_execute(sql).await.unwrap();
    }
    client
}

/// While one transaction holds the table for long, a change waits for it without making anybody else wait.
fn nobody_queues_behind(major: u32) {
    let stage = stage_with_users(major, "queue", POLICY);
    let runtime = runtime();
    for sql in [
        "ALTER TABLE users ADD COLUMN a boolean NOT NULL DEFAULT false",
        "ALTER TABLE users ADD COLUMN b uuid DEFAULT gen_random_uuid()",
        "ALTER TABLE users ALTER COLUMN email SET NOT NULL",
        "ALTER TABLE users ADD CHECK (age > 0)",
        "ALTER TABLE users ADD FOREIGN KEY (team_id) REFERENCES teams",
        "CREATE INDEX ON users (email)",
        "REINDEX INDEX users_name_idx",
        "DROP INDEX users_age_idx",
        "ALTER TABLE users ADD UNIQUE (email)",
        "CREATE TRIGGER t BEFORE UPDATE ON users FOR EACH ROW WHEN (false) EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    ] {
        let (ran, longest) = runtime.block_on(async {
            let (holder, other) = (holder(&stage).await, stage.connect_direct().await.client);
            other.batch_execute("SET application_name = 'app'").await.unwrap();
            let sampler = stage.sample_locks("users");
            let ran = std::thread::scope(|scope| {
                let change = scope.spawn(|| stage.psql(sql));
                runtime_of_its_own(async {
                    let waiting = "SELECT EXISTS (SELECT FROM pg_locks l JOIN pg_stat_activity a USING (pid)
                        WHERE NOT l.granted AND a.application_name = 'psql' AND a.datname = current_database())";
                    let watcher = stage.connect_direct().await.client;
                    let deadline = Instant::now() + Duration::from_secs(20);
                    while !watcher.query_one(waiting, &[]).await.unwrap().get::<_, bool>(0) {
                        assert!(!change.is_finished() && Instant::now() < deadline, "{sql} never waits for the holder");
                    }
                });
                // Ten tries' worth of other people's work, all of which gets through.
                runtime_of_its_own(async {
                    let app = stage.connect_direct().await.client;
                    app.batch_execute("SET application_name = 'app'; SET statement_timeout = '15s'").await.unwrap();
                    let until = Instant::now() + Duration::from_millis(500);
                    while Instant::now() < until {
                        for sql in ["SELECT count(*) FROM users", "UPDATE users SET nick = nick WHERE id = 1"] {
                            app.batch_execute(sql).await.unwrap();
                        }
                    }
                });
                assert!(!change.is_finished(), "{sql} did not wait for the holder");
                runtime_of_its_own(async {
                    // The holder's connection lives on the outer runtime: it is ended by the server.
                    let watcher = stage.connect_direct().await.client;
                    let end = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'nightly report'
                        AND datname = current_database()";
                    watcher.execute(end, &[]).await.unwrap();
                });
                change.join().unwrap()
            });
            drop(holder);
            (ran, sampler.stop().longest_wait_ms("app"))
        });
        ran.ok();
        assert!(
            longest < 250.0,
            "a query of the application waited {longest} ms behind {sql}"
        );
    }
}

fn runtime_of_its_own(work: impl Future<Output = ()> + Send) {
    std::thread::scope(|scope| {
        scope.spawn(|| runtime().block_on(work)).join().unwrap();
    });
}

#[test]
fn nobody_queues_behind_a_waiting_change_15() {
    nobody_queues_behind(15);
}

#[test]
fn nobody_queues_behind_a_waiting_change_18() {
    nobody_queues_behind(18);
}

#[test]
fn a_holder_that_does_not_let_go_is_named() {
    let policy = POLICY.replace(
        "give_up_after_s = 20",
        "give_up_after_s = 1\ngive_up_in_transaction_s = 1",
    );
    let stage = stage_with_users(18, "gives_up", &policy);
    let before = stage.schema();
    let runtime = runtime();
    let holder = runtime.block_on(holder(&stage));
    for sql in [
        "ALTER TABLE users ADD COLUMN a int",
        "ALTER TABLE users ALTER COLUMN email SET NOT NULL",
    ] {
        let ran = verbose(&stage, &format!("SET lock_timeout = '7s';\n{sql};\nSHOW lock_timeout;"));
        assert_eq!(sqlstates(&ran.stderr), ["55P03"], "{}", ran.stderr);
        assert!(ran.stderr.contains("ACCESS EXCLUSIVE on users"), "{}", ran.stderr);
        assert!(ran.stderr.contains("nightly report"), "{}", ran.stderr);
        assert!(ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
        assert_eq!(ran.stdout, "SET\n7s\n");
    }
    let ran = verbose(
        &stage,
        "BEGIN;\nALTER TABLE users ADD COLUMN a int;\nSELECT 1;\nCOMMIT;",
    );
    assert_eq!(sqlstates(&ran.stderr), ["55P03", "25P02"], "{}", ran.stderr);
    assert!(ran.stdout.ends_with("ROLLBACK\n"), "{}", ran.stdout);
    assert_eq!(stage.schema(), before);
    assert!(
        lock_timeouts(&stage) > 9,
        "only {} tries in three seconds",
        lock_timeouts(&stage)
    );
    drop(holder);
}

#[test]
fn a_brief_change_in_a_block_waits_for_a_short_holder() {
    let stage = stage_with_users(18, "in_block", POLICY);
    let runtime = runtime();
    let holder = runtime.block_on(holder(&stage));
    let ran = std::thread::scope(|scope| {
        let script = "SET lock_timeout = '7s';\nBEGIN;\nINSERT INTO teams VALUES (77, 1);\nSET LOCAL lock_timeout = '8s';\n\
            ALTER TABLE users ADD COLUMN a int;\nSHOW lock_timeout;\nCOMMIT;\nSHOW lock_timeout;\n";
        let change = scope.spawn(|| stage.psql(script));
        wait_for("three tries", || lock_timeouts(&stage) >= 3);
        runtime.block_on(holder.batch_execute("COMMIT")).unwrap();
        change.join().unwrap()
    });
    assert_eq!(ran.ok(), "SET\nBEGIN\nINSERT 0 1\nSET\nALTER TABLE\n8s\nCOMMIT\n7s\n");
    assert_eq!(
        stage
            .direct("SELECT count(a) || ' ' || (SELECT count(*) FROM teams WHERE id = 77) FROM users")
            .trim(),
        "0 1"
    );
}

// --- refusals, overrides, policies -----------------------------------------------------------------------------------

#[test]
fn refusals_lay_out_the_way_for_these_very_names() {
    let stage = stage_with_users(18, "refusals", "extends = \"standard\"");
    stage.direct("CREATE TABLE events (id int); INSERT INTO events VALUES (1); CREATE TABLE empty (id int)");
    stage.psql("TRUNCATE empty").ok();
    let before = stage.schema();
    for (sql, rule, needles) in [
        (
            "ALTER TABLE users RENAME COLUMN name TO full_name",
            "rename-column",
            &[
                "ALTER TABLE users ADD COLUMN full_name text",
                "CREATE TRIGGER",
                "UPDATE users SET full_name = \"name\"",
                "DROP COLUMN \"name\"",
            ][..],
        ),
        (
            "ALTER TABLE \"app schema\".\"Big Users\" RENAME \"E mail\" TO \"Mail\"",
            "rename-column",
            &[
                "ALTER TABLE \"app schema\".\"Big Users\" ADD COLUMN \"Mail\" text",
                "NEW.\"E mail\"",
            ],
        ),
        (
            "ALTER TABLE users RENAME TO people",
            "rename-table",
            &["CREATE VIEW users AS SELECT", "DROP VIEW users"],
        ),
        (
            "ALTER TABLE users DROP COLUMN \"name\"",
            "drop-column",
            &["1. Deploy", "users_name_idx", "ALTER TABLE users DROP COLUMN \"name\""],
        ),
        ("DROP TABLE users", "drop-table", &["1. Deploy", "DROP TABLE users"]),
        (
            "TRUNCATE events",
            "truncate",
            &["DELETE FROM events", "TRUNCATE events"],
        ),
    ] {
        let ran = verbose(&stage, &format!("{sql};"));
        assert_eq!(sqlstates(&ran.stderr), ["55000"], "{sql}: {}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!("DETAIL:  Rule {rule}: ")),
            "{sql}: {}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains(&format!("SET lockkeeper.override = '{rule}: ")),
            "{sql}: {}",
            ran.stderr
        );
        for needle in needles {
            assert!(ran.stderr.contains(needle), "{sql}: no {needle:?} in {}", ran.stderr);
        }
    }
    assert_eq!(stage.schema(), before);
    assert!(
        !stage
            .received()
            .iter()
            .any(|sql| sql.starts_with("ALTER") || sql.starts_with("DROP T"))
    );
}

/// The hint's own sequence, as printed, does what it promises.
#[test]
fn the_hint_of_a_rename_works_as_written() {
    let stage = stage_with_users(18, "hint", POLICY);
    let hint = verbose(&stage, "ALTER TABLE users RENAME COLUMN nick TO alias;").stderr;
    let hint = &hint[hint.find("HINT:  ").expect("a hint")..];
    let part = |from: &str, to: &str| {
        let begin = hint.find(from).unwrap_or_else(|| panic!("no {from} in {hint}")) + from.len();
        hint[begin..begin + hint[begin..].find(to).unwrap()].to_owned()
    };
    for sql in [
        part("1. Expand: ", "2. "),
        part("2. Keep both in step:\n", "3. "),
        part("3. Backfill: ", "4. "),
    ] {
        stage.psql(&sql).ok();
    }
    stage.direct(
        "UPDATE users SET nick = 'old code' WHERE id = 1; UPDATE users SET alias = 'new code' WHERE id = 2;
                  INSERT INTO users (id, name, alias) VALUES (901, 'x', 'new row')",
    );
    assert_eq!(
        stage
            .direct("SELECT count(*) FROM users WHERE alias IS DISTINCT FROM nick")
            .trim(),
        "0"
    );
    assert_eq!(
        stage
            .direct("SELECT string_agg(alias, ',' ORDER BY id) FROM users WHERE id IN (1, 2, 901)")
            .trim(),
        "old code,new code,new row"
    );
    stage
        .psql(&format!(
            "SET lockkeeper.override = 'drop-column: renamed';\n{}",
            part("once nothing uses nick: ", "\n")
        ))
        .ok();
    assert!(!stage.schema().contains("nick"));
}

#[test]
fn an_override_needs_its_rule_and_a_reason() {
    let stage = stage_with_users(18, "overrides", POLICY);
    let drop = "ALTER TABLE users DROP COLUMN nick";
    for (setting, hint) in [
        ("drop-column", "needs a reason"),
        ("drop-column:  ", "needs a reason"),
        ("drop-colum: why", "nearest is `drop-column`"),
        ("truncate: why", "SET lockkeeper.override = 'drop-column: "),
    ] {
        let ran = verbose(&stage, &format!("SET lockkeeper.override = '{setting}';\n{drop};"));
        assert_eq!(sqlstates(&ran.stderr), ["55000"], "{}", ran.stderr);
        assert!(ran.stderr.contains(hint), "{setting}: {}", ran.stderr);
    }
    // Local to a block, and gone with it.
    let script = format!(
        "BEGIN;\nSET LOCAL lockkeeper.override = 'drop-column: ticket 42';\n{drop};\nCOMMIT;\nALTER TABLE users DROP COLUMN boss;\n"
    );
    let ran = verbose(&stage, &script);
    assert_eq!(sqlstates(&ran.stderr), ["55000"], "{}", ran.stderr);
    assert!(
        ran.stderr.contains("drop-column is overridden: ticket 42"),
        "{}",
        ran.stderr
    );
    assert!(stage.schema().contains("users column boss") && !stage.schema().contains("users column nick"));
    let lines = stage.audit_lines();
    let of_drop: Vec<_> = lines
        .iter()
        .filter(|l| l["statement"] == drop && l["event"] == "statement" && l["outcome"] == "done")
        .collect();
    assert_eq!(of_drop.len(), 1, "{lines:#?}");
    assert!(
        of_drop[0]["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| f["rule"] == "drop-column" && f["overridden"] == "ticket 42")
    );
}

#[test]
fn strict_lets_only_named_roles_override() {
    let policy = "extends = \"strict\"\n[table]\nsmall_bytes = 0\n[[override]]\nrole = \"dba\"\nmay_override = true\n";
    let stage = stage_with_users(18, "strict", policy);
    let dba = format!("dba_{}", stage.database);
    std::fs::write(stage.policy_file(), policy.replace("dba", &dba)).unwrap();
    let mut stage = stage;
    stage.kill_proxy();
    stage.start_proxy(&[]);
    stage.direct(&format!("CREATE ROLE {dba} SUPERUSER"));
    let script = "SET lockkeeper.override = 'drop-column: ticket 7';\nALTER TABLE users DROP COLUMN nick;\n";
    let ran = verbose(&stage, script);
    assert!(
        ran.stderr.contains("the policy does not let postgres use it"),
        "{}",
        ran.stderr
    );
    assert!(stage.schema().contains("users column nick"));
    let ran = verbose(&stage, "CREATE INDEX ON users (email);");
    assert_eq!(sqlstates(&ran.stderr), ["55000"]);
    assert!(
        ran.stderr
            .contains("CREATE INDEX CONCURRENTLY users_email_idx ON users (email);"),
        "{}",
        ran.stderr
    );
    assert!(!stage.schema().contains("users_email_idx"));
    stage.psql(&format!("SET ROLE {dba};\n{script}")).ok();
    assert!(!stage.schema().contains("users column nick"));
    // Brief DDL still gets its tries, not a refusal.
    stage.psql("ALTER TABLE users ADD COLUMN a int").ok();
    stage.direct(&format!(
        "REASSIGN OWNED BY {dba} TO postgres; DROP OWNED BY {dba}; DROP ROLE {dba}"
    ));
}

#[test]
fn observe_tells_and_changes_nothing() {
    let stage = stage_with_users(18, "observe", "extends = \"observe\"\n[table]\nsmall_bytes = 0\n");
    for (sql, rule) in [
        ("CREATE INDEX idx_users_email ON users(email)", "nonconcurrent-index"),
        ("ALTER TABLE users ALTER COLUMN email SET NOT NULL", "set-not-null"),
        ("ALTER TABLE users ADD COLUMN n serial", "serial-column"),
        ("ALTER TABLE users RENAME COLUMN name TO full_name", "rename-column"),
        ("ALTER TABLE users DROP COLUMN nick", "drop-column"),
        ("TRUNCATE users", "truncate"),
        ("DROP TABLE users", "drop-table"),
    ] {
        let ran = stage.psql(&format!("{sql};\n"));
        assert!(
            ran.stderr.contains("NOTICE:") && ran.stderr.contains(rule),
            "{sql}: {}",
            ran.stderr
        );
        ran.ok();
        assert!(
            stage.received().contains(&format!("{sql};")),
            "{sql} went on as it was written: {:?}",
            stage.received()
        );
    }
    assert_eq!(stage.direct("SELECT to_regclass('users') IS NULL").trim(), "t");
}

// --- what is exempt --------------------------------------------------------------------------------------------------

/// Whether the server received the text as it was sent.
fn went_on(stage: &Stage, sql: &str) -> bool {
    stage.received().iter().any(|s| s.trim_end_matches([';', '\n']) == sql)
}

#[test]
fn tables_that_nobody_else_sees_are_exempt() {
    for major in [15, 18] {
        let stage = stage_with_users(major, "exempt", POLICY);
        let made = "BEGIN;\nCREATE TABLE fresh (id int, v text);\nINSERT INTO fresh SELECT g, g FROM generate_series(1, 900) g;\n\
            CREATE INDEX fresh_v ON fresh (v);\nALTER TABLE fresh ALTER v SET NOT NULL;\nALTER TABLE fresh ADD CHECK (id > 0);\n\
            ALTER TABLE fresh RENAME COLUMN v TO w;\nSAVEPOINT s;\nCREATE TABLE inner_one (a int);\nCREATE INDEX inner_idx ON inner_one (a);\n\
            ROLLBACK TO s;\nALTER TABLE fresh DROP COLUMN w;\nDROP TABLE fresh;\nCREATE TABLE fresh (id int);\nINSERT INTO fresh VALUES (1);\nCOMMIT;\n";
        stage.psql(made).ok();
        for sql in [
            "CREATE INDEX fresh_v ON fresh (v)",
            "ALTER TABLE fresh RENAME COLUMN v TO w",
            "CREATE INDEX inner_idx ON inner_one (a)",
            "DROP TABLE fresh",
        ] {
            assert!(went_on(&stage, sql), "{major}: {sql}: {:?}", stage.received());
        }
        // Once committed it is anybody's.
        let ran = verbose(&stage, "BEGIN;\nALTER TABLE fresh RENAME COLUMN id TO no;\nCOMMIT;");
        assert_eq!(sqlstates(&ran.stderr), ["55000"], "{}", ran.stderr);
        // A table that was there before the transaction stays protected, whatever a savepoint did to its name.
        let ran = verbose(
            &stage,
            "BEGIN;\nSAVEPOINT s;\nCREATE TABLE \"app schema\".users (id int);\nROLLBACK TO s;\nSET LOCAL search_path = \"app schema\", public;\n\
             DROP TABLE users;\nCOMMIT;",
        );
        assert_eq!(sqlstates(&ran.stderr), ["55000"], "{}", ran.stderr);
        let temporary = "CREATE TEMP TABLE scratch (a int, b int);\nCREATE INDEX ON scratch (a);\nALTER TABLE scratch DROP COLUMN b;\n\
            TRUNCATE scratch;\nDROP TABLE scratch;\n";
        stage.psql(temporary).ok();
        assert!(went_on(&stage, "CREATE INDEX ON scratch (a)"));
        assert_eq!(stage.direct("SELECT count(*) FROM users").trim(), "700");
    }
}

#[test]
fn small_tables_are_spared_what_only_large_ones_need() {
    let stage = stage_with_users(18, "small", lockkeeper_testkit::QUICK);
    stage.psql("CREATE INDEX idx_users_email ON users(email);\nALTER TABLE users ALTER email SET NOT NULL;\nBEGIN;\nCREATE INDEX i2 ON users (nick);\nCOMMIT;").ok();
    assert!(
        stage
            .received()
            .iter()
            .all(|sql| !sql.contains("CONCURRENTLY") && !sql.contains("VALIDATE")),
        "{:?}",
        stage.received()
    );
    // Still with a short lock_timeout.
    assert_eq!(
        stage.direct("SELECT DISTINCT lock_timeout FROM watch.ddl").trim(),
        "50ms"
    );
    // What breaks running programs is refused at any size.
    assert_eq!(
        sqlstates(&verbose(&stage, "ALTER TABLE users DROP COLUMN nick;").stderr),
        ["55000"]
    );
}

// --- concurrent builds -----------------------------------------------------------------------------------------------

#[test]
fn a_concurrent_build_in_a_transaction_is_refused_with_a_better_hint() {
    let stage = stage_with_users(18, "cic", POLICY);
    let build = "CREATE INDEX CONCURRENTLY idx_users_email ON users(email)";
    stage
        .psql(&format!("{build};\nDROP INDEX CONCURRENTLY idx_users_email;"))
        .ok();
    assert!(went_on(&stage, build));
    let ran = verbose(&stage, &format!("BEGIN;\n{build};\nSELECT 1;\nCOMMIT;"));
    assert_eq!(sqlstates(&ran.stderr), ["25001", "25P02"], "{}", ran.stderr);
    assert!(
        ran.stderr
            .contains("CREATE INDEX CONCURRENTLY cannot run inside a transaction block"),
        "{}",
        ran.stderr
    );
    assert!(ran.stderr.contains("atomic = False"), "{}", ran.stderr);
    assert!(ran.stdout.ends_with("ROLLBACK\n"));
    let ran = stage.psql_args(
        &[
            "-v",
            "VERBOSITY=verbose",
            "-c",
            &format!("INSERT INTO teams VALUES (50, 1); {build}"),
        ],
        "",
    );
    assert_eq!(sqlstates(&ran.stderr), ["25001"], "{}", ran.stderr);
    // After work that no Sync has ended.
    let mut raw = lockkeeper_testkit::raw::Raw::connect(stage.port, &stage.database);
    use lockkeeper_testkit::raw::{bind, error_field, execute, parse, sync};
    let insert = [
        parse("", "INSERT INTO teams VALUES (51, 1)"),
        bind("", ""),
        execute("", 0),
    ]
    .concat();
    raw.send(&[insert, parse("", build), bind("", ""), execute("", 0), sync()].concat());
    let answer = raw.until_ready();
    assert_eq!(error_field(&answer, b'C').as_deref(), Some("25001"));
    assert!(error_field(&answer, b'H').unwrap().contains("outside the transaction"));
    assert_eq!(stage.direct("SELECT count(*) FROM teams WHERE id > 20").trim(), "0");
    assert!(!stage.schema().contains("idx_users_email"));
}

#[test]
fn if_not_exists_over_an_invalid_index_builds_it_anew() {
    for major in [15, 18] {
        let stage = stage_with_users(major, "invalid", POLICY);
        for sql in [
            "CREATE INDEX IF NOT EXISTS idx_users_email ON users(email)",
            "CREATE INDEX CONCURRENTLY IF NOT EXISTS idx_users_email ON users(email)",
        ] {
            stage.direct(
                "DROP INDEX IF EXISTS idx_users_email; CREATE INDEX idx_users_email ON users (email);
                UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'idx_users_email'::regclass",
            );
            let ran = stage.psql(&format!("{sql};\n"));
            assert!(ran.stderr.contains("removed the INVALID index"), "{}", ran.stderr);
            assert_eq!(ran.ok(), "CREATE INDEX\n");
            let valid = "SELECT bool_and(indisvalid) || ' ' || count(*) FROM pg_index WHERE indexrelid::regclass::text LIKE 'idx_users_email%'";
            assert_eq!(stage.direct(valid).trim(), "true 1", "{sql}");
        }
        // Duplicates: the error is told, what the build left is removed, and mended rows let the same statement through.
        let unique = "CREATE UNIQUE INDEX one_nick ON users (nick)";
        let ran = verbose(&stage, &format!("{unique};"));
        assert_eq!(sqlstates(&ran.stderr), ["23505"]);
        assert!(ran.stderr.contains("removed the INVALID index"), "{}", ran.stderr);
        assert_eq!(
            stage
                .direct("SELECT count(*) FROM pg_index WHERE NOT indisvalid")
                .trim(),
            "0"
        );
        stage.direct("UPDATE users SET nick = id");
        stage.psql(unique).ok();
    }
}

/// Nothing is left of a statement of which nothing was done.
#[test]
fn duplicates_in_the_first_of_several_actions_leave_nothing() {
    for major in [15, 18] {
        let stage = stage_with_users(major, "first", POLICY);
        let before = stage.schema();
        let sql = "ALTER TABLE users ADD CONSTRAINT one_nick UNIQUE (nick), ADD CONSTRAINT some_id CHECK (id > 0)";
        let ran = verbose(&stage, &format!("{sql};"));
        assert_eq!(sqlstates(&ran.stderr), ["23505"]);
        for words in ["removed the INVALID index", "nothing of the statement was done"] {
            assert!(ran.stderr.contains(words), "{words}: {}", ran.stderr);
        }
        assert_eq!(stage.schema(), before);
        stage.direct("UPDATE users SET nick = id");
        assert_eq!(stage.psql(sql).ok(), "ALTER TABLE\n");
    }
}

// --- failures in the middle, and the same statement again ------------------------------------------------------------

#[test]
fn a_column_whose_check_fails_can_be_finished_later() {
    for major in [15, 18] {
        let stage = stage_with_users(major, "unfinished", POLICY);
        let sql = "ALTER TABLE users ADD COLUMN score int DEFAULT 0 CHECK (score > 0)";
        let ran = verbose(&stage, &format!("{sql};"));
        assert_eq!(sqlstates(&ran.stderr), ["23514"]);
        for needle in [
            "committed before it: add column",
            "send the same statement again",
            "ALTER TABLE users DROP COLUMN score",
        ] {
            assert!(ran.stderr.contains(needle), "no {needle:?} in {}", ran.stderr);
        }
        assert_eq!(
            stage
                .direct("SELECT count(*) FROM pg_constraint WHERE NOT convalidated")
                .trim(),
            "0"
        );
        stage.direct("UPDATE users SET score = 1");
        stage.psql(sql).ok();
        let direct = Stage::without_proxy(cluster(major), "finished");
        direct.direct(FIXTURE);
        direct.direct(&sql.replace("DEFAULT 0", "DEFAULT 1"));
        assert_eq!(stage.schema(), direct.schema().replace("DEFAULT 1", "DEFAULT 0"));
        assert_eq!(
            stage
                .direct("SELECT count(*) FROM pg_description WHERE description LIKE 'lockkeeper:%'")
                .trim(),
            "0"
        );
    }
}

#[test]
fn null_values_are_told_as_the_server_tells_them() {
    for major in [15, 18] {
        let stage = stage_with_users(major, "nulls", POLICY);
        let ran = verbose(&stage, "ALTER TABLE users ALTER nick SET NOT NULL;");
        assert!(
            ran.stderr
                .contains("23502: column \"nick\" of relation \"users\" contains null values"),
            "{}",
            ran.stderr
        );
        assert!(
            ran.stderr.contains("SELECT count(*) FROM users WHERE nick IS NULL"),
            "{}",
            ran.stderr
        );
        assert_eq!(
            stage
                .direct("SELECT count(*) FROM pg_constraint WHERE conname LIKE '%nick%'")
                .trim(),
            "0"
        );
        stage.direct("UPDATE users SET nick = '' WHERE nick IS NULL");
        stage.psql("ALTER TABLE users ALTER nick SET NOT NULL;").ok();
        assert!(stage.schema().contains("users column nick text NOT NULL"));
    }
}

#[test]
fn filled_columns_go_on_counting() {
    for major in [15, 18] {
        let stage = stage_with_users(major, "filled", POLICY);
        stage.psql("ALTER TABLE users ADD COLUMN s serial;\nALTER TABLE users ADD COLUMN i bigint GENERATED ALWAYS AS IDENTITY (START WITH 5000);\n\
            ALTER TABLE users ADD COLUMN u uuid NOT NULL DEFAULT gen_random_uuid();").ok();
        stage.direct("INSERT INTO users (id, name) SELECT g, 'new' FROM generate_series(2001, 2050) g");
        let sql = "SELECT count(DISTINCT s) || ' ' || count(DISTINCT i) || ' ' || count(DISTINCT u) || ' ' || (min(i) >= 5000) FROM users";
        assert_eq!(stage.direct(sql).trim(), "750 750 750 true", "{major}");
        stage.direct("ALTER TABLE users DROP COLUMN s");
        assert_eq!(
            stage.direct("SELECT to_regclass('users_s_seq') IS NULL").trim(),
            "t",
            "{major}: the sequence goes with its column"
        );
        // It is logged where its table is, as the server makes it.
        let kinds = |table: &str| {
            let sql = format!(
                "SELECT string_agg(relpersistence::text, '' ORDER BY relname) FROM pg_class WHERE relkind = 'S' AND relname LIKE '{table}%'"
            );
            stage.direct(&sql).trim().to_owned()
        };
        stage.direct("CREATE UNLOGGED TABLE quick (id int PRIMARY KEY, n text); INSERT INTO quick SELECT g, repeat('x', 100) FROM generate_series(1, 9000) g");
        stage.direct("CREATE UNLOGGED TABLE quick_too (id int, s serial)");
        stage.psql("ALTER TABLE quick ADD COLUMN s serial;").ok();
        assert_eq!(kinds("quick"), "uu", "{major}");
        assert_eq!(kinds("users"), "p", "{major}");
    }
}

// --- audit -----------------------------------------------------------------------------------------------------------

#[test]
fn the_audit_log_tells_the_plan_its_steps_and_the_result() {
    let stage = stage_with_users(18, "audit", POLICY);
    let statements = [
        "ALTER TABLE users ADD COLUMN ok boolean NOT NULL DEFAULT false",
        "CREATE INDEX idx_users_email ON users(email)",
        "ALTER TABLE users ALTER COLUMN email SET NOT NULL",
        "ALTER TABLE users ADD COLUMN token uuid DEFAULT gen_random_uuid()",
        "DROP INDEX users_name_idx",
        "CREATE UNIQUE INDEX one_nick ON users (nick)",
        "ALTER TABLE users DROP COLUMN nick",
    ];
    for sql in statements {
        stage.psql(sql);
    }
    let lines = stage.audit_lines();
    let events = |sql: &str, event: &str| -> Vec<serde_json::Value> {
        lines
            .iter()
            .filter(|l| l["statement"] == sql && l["event"] == event)
            .cloned()
            .collect()
    };
    let only = |sql: &str, event: &str| {
        let found = events(sql, event);
        assert_eq!(found.len(), 1, "{event} of {sql}: {found:#?}");
        found[0].clone()
    };
    for (sql, rule, steps, outcome, sqlstate) in [
        (statements[0], "lock-queue", 1, "done", None),
        (statements[1], "nonconcurrent-index", 1, "done", None),
        (statements[2], "set-not-null", 2, "done", None),
        (statements[3], "volatile-default", 3, "done", None),
        (statements[4], "nonconcurrent-drop-index", 1, "done", None),
        (statements[5], "nonconcurrent-index", 1, "failed", Some("23505")),
    ] {
        let (planned, end) = (only(sql, "planned"), only(sql, "statement"));
        assert_eq!(planned["id"], end["id"]);
        assert_eq!(planned["outcome"], "");
        assert_eq!(events(sql, "step").len(), steps, "{sql}: {:#?}", events(sql, "step"));
        assert_eq!(end["steps"].as_array().unwrap().len(), steps);
        assert_eq!(end["action"], "rewrite");
        assert_eq!(end["findings"][0]["rule"], rule, "{end:#}");
        assert_eq!(end["outcome"], outcome);
        assert_eq!(end["sqlstate"].as_str(), sqlstate);
        assert_eq!(
            (end["user"].as_str(), end["application_name"].as_str()),
            (Some("postgres"), Some("psql"))
        );
        assert_eq!(end["database"], stage.database.as_str());
        assert!(end["client"].as_str().unwrap().starts_with("127.0.0.1:"));
        assert!(end["lock_tries"].as_u64().unwrap() >= 1 && end["duration_ms"].as_f64().unwrap() > 0.0);
    }
    assert!(
        only(statements[0], "statement")["why"][0]
            .as_str()
            .unwrap()
            .contains("no rewrite")
    );
    let filled = only(statements[3], "statement");
    let rows: Vec<_> = filled["steps"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|s| s["rows"].as_u64())
        .collect();
    assert_eq!(rows, [700]);
    assert_eq!(
        filled["rollback_plan"],
        serde_json::json!(["ALTER TABLE users DROP COLUMN token"])
    );
    assert_eq!(
        only(statements[1], "statement")["rollback_plan"],
        serde_json::json!(["DROP INDEX CONCURRENTLY IF EXISTS public.idx_users_email"])
    );
    assert_eq!(
        only(statements[4], "statement")["rollback_plan"],
        serde_json::json!(["CREATE INDEX CONCURRENTLY users_name_idx ON public.users USING btree (name)"])
    );
    let refused = only(statements[6], "statement");
    assert_eq!(
        (refused["action"].as_str(), refused["outcome"].as_str()),
        (Some("reject"), Some("rejected"))
    );
    assert!(events(statements[6], "planned").is_empty() && events(statements[6], "step").is_empty());
}

// --- migration tools -------------------------------------------------------------------------------------------------

/// As Django and Alembic put them on the wire; the second half is what they do to a table that is in use.
#[test]
fn migration_tools_sequences() {
    for major in [15, 18] {
        let proxied = stage_with_users(major, "tools", POLICY);
        let direct = Stage::without_proxy(cluster(major), "tools_direct");
        direct.direct(FIXTURE);
        let django = "BEGIN;\nCREATE TABLE \"blog_post\" (\"id\" bigint NOT NULL PRIMARY KEY GENERATED BY DEFAULT AS IDENTITY, \"title\" varchar(200) NOT NULL, \"author_id\" bigint NOT NULL);\n\
            ALTER TABLE \"blog_post\" ADD CONSTRAINT \"blog_post_author_fk\" FOREIGN KEY (\"author_id\") REFERENCES \"teams\" (\"id\") DEFERRABLE INITIALLY DEFERRED;\n\
            CREATE INDEX \"blog_post_author_id_dd7a8485\" ON \"blog_post\" (\"author_id\");\n\
            CREATE INDEX \"blog_post_title_like\" ON \"blog_post\" (\"title\" varchar_pattern_ops);\n\
            ALTER TABLE \"users\" ADD COLUMN \"status\" varchar(10) DEFAULT 'new' NOT NULL;\n\
            ALTER TABLE \"users\" ALTER COLUMN \"status\" DROP DEFAULT;\nCOMMIT;\n";
        let alembic = "BEGIN;\nCREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num));\n\
            CREATE TABLE items (id SERIAL NOT NULL, user_id BIGINT, PRIMARY KEY (id), FOREIGN KEY(user_id) REFERENCES users (id));\n\
            CREATE UNIQUE INDEX ix_items_user ON items (user_id);\nINSERT INTO alembic_version (version_num) VALUES ('ae1027a6acf');\nCOMMIT;\n";
        for script in [django, alembic] {
            let (through, straight) = (verbose(&proxied, script), verbose(&direct, script));
            assert_eq!(through.stdout, straight.stdout, "{}", through.stderr);
        }
        // One Query with two statements.
        let pair = "ALTER TABLE blog_post ADD COLUMN editor_id bigint NULL CONSTRAINT editor_fk REFERENCES teams(id) DEFERRABLE INITIALLY DEFERRED; \
            SET CONSTRAINTS editor_fk IMMEDIATE";
        for stage in [&proxied, &direct] {
            stage.psql_args(&["-c", pair], "").ok();
        }
        assert_eq!(proxied.schema(), direct.schema());
        let refused = verbose(
            &proxied,
            "BEGIN;\nALTER TABLE users ADD COLUMN extra int;\nCREATE INDEX later ON users (age);\nINSERT INTO alembic_version VALUES ('x');\nCOMMIT;\n",
        );
        assert_eq!(sqlstates(&refused.stderr), ["25001", "25P02"], "{}", refused.stderr);
        assert!(refused.stderr.contains("autocommit_block"), "{}", refused.stderr);
        assert_eq!(proxied.schema(), direct.schema());
    }
}

#[test]
fn the_extended_protocol_hears_the_server_s_own_command_tags() {
    use lockkeeper_testkit::raw::{Raw, bind, command_tags, describe, execute, parse, sync, tags};
    let stage = stage_with_users(18, "tags", POLICY);
    let mut raw = Raw::connect(stage.port, &stage.database);
    for (sql, tag) in [
        ("ALTER TABLE users ADD COLUMN a boolean", "ALTER TABLE"),
        (
            "ALTER TABLE users ADD COLUMN u uuid DEFAULT gen_random_uuid()",
            "ALTER TABLE",
        ),
        ("CREATE INDEX i ON users (email)", "CREATE INDEX"),
        ("REINDEX INDEX i", "REINDEX"),
        ("DROP INDEX i", "DROP INDEX"),
        ("ALTER TABLE users ADD CHECK (age > 0)", "ALTER TABLE"),
        ("CREATE VIEW v AS SELECT 1", "CREATE VIEW"),
        ("DROP VIEW v", "DROP VIEW"),
    ] {
        raw.send(
            &[
                parse("s", sql),
                bind("p", "s"),
                describe(b'P', "p"),
                execute("p", 0),
                sync(),
            ]
            .concat(),
        );
        let answer = raw.until_ready();
        let told: Vec<_> = answer.iter().filter(|(t, _)| *t != b'N').cloned().collect();
        assert_eq!(tags(&told), "12nCZ", "{sql}");
        assert_eq!(command_tags(&answer), [tag], "{sql}");
        raw.send(&[lockkeeper_testkit::raw::close(b'S', "s"), sync()].concat());
        assert_eq!(tags(&raw.until_ready()), "3Z");
    }
}
