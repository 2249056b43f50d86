//! The command line: what there is to say, and its help. What it does is the program's (`main.rs`) business.

use crate::config::options::Options;
use crate::{approvals, check, doctor, jobs, plans, review, rewrite, usage};
use clap::{Args, Parser, Subcommand};
use std::path::PathBuf;

const AFTER_HELP: &str = "\
Examples:
  lockkeeper serve --upstream 127.0.0.1:5432 --audit /var/log/lockkeeper/audit.jsonl
  psql -h 127.0.0.1 -p 6432 mydb          through the proxy, as if it were the server
  lockkeeper check migrations/            what would happen to these files
  lockkeeper rules drop-column            one rule, with bad and good SQL
  lockkeeper audit list --since 12h /var/log/lockkeeper/audit.jsonl
                                          what happened last night
  lockkeeper jobs --dsn dbname=shop list  batches that run or were interrupted
  lockkeeper demo --rows 100000           see it work on a throwaway PostgreSQL";

const USAGE_HELP: &str = "\
It reads what a proxy with --state-dir has kept, at most five seconds ago; or with --dsn what all
proxies with --control-dsn keep in lockkeeper.usage, at most a minute and a few seconds ago. The
console has the same without both: SHOW USAGE users.name. Only what came through a proxy is known.

Examples:
  lockkeeper usage --state-dir /var/lib/lockkeeper users.name
  lockkeeper usage --dsn 'host=db.internal dbname=shop user=lockkeeper' users";

const SERVE_HELP: &str = "\
Every option can also be a LOCKKEEPER_* variable or a key of the --config file, spelled as the flag
without its dashes in front. Flags win over variables, variables over the file. Such a file:

  listen = [\"127.0.0.1:6432\"]
  upstream = \"/var/run/postgresql\"
  policy = \"/etc/lockkeeper/policy.toml\"
  audit = \"/var/log/lockkeeper/audit.jsonl\"
  connections-max = 500

TLS: with --tls-cert and --tls-key clients may use it, with --client-tls require they must (over
TCP; Unix sockets and cancel requests pass). --upstream-tls encrypts the way to the server.
Passwords go through to the server, so SCRAM's channel binding meets two certificates where both
ways are encrypted. libpq uses it by itself then and the login fails (with sslmode=prefer libpq
tries again in plain text), unless --auth scram is used, --tls-cert and --tls-key are the server's
own, or clients connect with channel_binding=disable. The server's `cert` authentication cannot
work through a proxy.

With --auth scram the proxy authenticates clients itself, from the SCRAM verifiers of --auth-file,
and logs in to the server with what the client has proven. No password is stored, and channel
binding works on both ways. The file is as PgBouncer's; the server gives its lines, which must be
fetched again when a password changes:

  umask 077; psql -AtX -U postgres -o users.txt -c \"
    SELECT format('\\\"%s\\\" \\\"%s\\\"', replace(rolname, '\\\"', '\\\"\\\"'), rolpassword)
    FROM pg_authid WHERE rolcanlogin AND rolpassword LIKE 'SCRAM-SHA-256%'\"

With --auth-user no file is needed: as that role the proxy asks the server for whoever is not in it,
by --auth-query. Its password is LOCKKEEPER_AUTH_PASSWORD, or stands in the file.

SIGHUP reads the policy, the TLS files and the auth file again (keeping the old ones when the new
ones are wrong) and opens the audit log again. SIGTERM ends idle sessions, waits for what is in the
middle of something, and ends. With --reuse-port a new process may be started first; then SIGTERM
ends the old one, and no connection is refused. systemd is told of all that through NOTIFY_SOCKET
(Type=notify).

Next: point a client at it:  psql -h 127.0.0.1 -p 6432 -U you mydb";

const CHECK_HELP: &str = "\
A table that the files themselves create is new and may be changed freely, also by a later file;
with IF NOT EXISTS it may be an old one. What they prove (NOT VALID, then VALIDATE) is proven for
what follows, and the locks of a transaction are kept. Every other table is taken to exist and to be
large, unless --dsn lets a server tell. It is asked in transactions that are rolled back, and nothing
is changed. Files that have run by the tool's own table on that server are left out.

A directory is run as its tool would run it: in the order of its versions, each file in one
transaction or not. The tool is told by names and marks (Flyway, golang-migrate, dbmate, sqlx,
node-pg-migrate, diesel, goose, pg_dump, sqlmigrate, Liquibase's formatted SQL) and by the files that
tools keep in their directories (Prisma, Drizzle, Supabase, Sqitch, Atlas), also below the one that is
named. Else it is psql: each statement alone, but between BEGIN and COMMIT as within a transaction.
What is left out is said: lines for psql itself (\\set, \\i), down migrations, migrations that are
programs. Rows after COPY … FROM stdin are skipped.

A comment in front of a statement lets it through, as the proxy does, and says why:
  /* lockkeeper: allow=drop-column reason=\"ticket 42\" */ ALTER TABLE users DROP COLUMN name;

The nearest .lockkeeper.toml, in this directory or above, has settings for everybody: policy,
server-version, tool, transaction, fail-on, exclude, exclude-path, direct, rules-url. A comment at the
beginning of a file speaks for it: -- lockkeeper-check: exclude=drop-column, or: off.

Exit code: 0 everything is forwarded (also with a short lock_timeout and retries), 1 something is
rewritten or rejected (--fail-on says otherwise), 2 an input or the server could not be read.

Examples:
  lockkeeper check --from 0042 migrations/         what has not run yet, in order
  git diff --name-only main | lockkeeper check --changed - --format github migrations/
  lockkeeper check --dsn \"service=shop\" --format sarif migrations/ > lockkeeper.sarif
  lockkeeper check --format json --server-version 15 migrations/0042_users.sql
  pg_dump --schema-only mydb | lockkeeper check -

Next: `lockkeeper rules NAME` explains a rule and shows the safe SQL.";

const LSP_HELP: &str = "\
Each document of SQL is checked as `lockkeeper check FILE` would check it, with the settings of the
nearest .lockkeeper.toml above it, and LOCKKEEPER_POLICY. No server is asked, and nothing is run.
Findings are shown at their place: errors are refused, warnings rewritten. Hover shows the rule's
page, and a quick fix writes the safe sequence.

Example, for Neovim:
  vim.lsp.config('lockkeeper', { cmd = { 'lockkeeper', 'lsp' }, filetypes = { 'sql' } })
  vim.lsp.enable('lockkeeper')

Exit code: 0 the editor has ended it, 1 the connection failed.";

const INIT_HELP: &str = "\
Once for each database, by a superuser or the database's owner; again does no harm. The proxy does
it by itself for such a role. Every role may then keep jobs of its own and sees no others
(row-level security). Without the table, statements that must not be repeated (SET n = n + 1) are
refused when they are large, others cannot be resumed where they stopped, and nothing long is
possible in a transaction.

With --control-role it also makes lockkeeper.usage, in which several proxies keep together who used
which table and column, over restarts too, and lockkeeper.told, by which one of them tells a webhook
of jobs that stopped and of what is due.

Examples:
  lockkeeper init --dsn 'host=db.internal dbname=shop user=postgres'
  lockkeeper init --dsn 'host=db.internal dbname=shop user=postgres' --control-role lockkeeper

Next: lockkeeper jobs --dsn … list";

const JOBS_HELP: &str = "\
A large UPDATE or DELETE that was interrupted continues where it stopped when the same statement
is sent again through Lockkeeper, or by `resume`; every row is changed exactly once. What a
transaction has left for after its COMMIT (an index, a validation) is a job too: one that failed
or was cut off continues in the same ways, and at the migration tool's next start. `interrupted`
in the list means that the session of a running job has died, `waiting` that it has not begun. A
superuser sees all jobs, others see their own.

Examples:
  lockkeeper jobs --dsn dbname=shop list
  lockkeeper jobs --dsn postgres://app@db.internal/shop pause 7
  lockkeeper jobs --dsn postgres://app@db.internal/shop resume 7
  lockkeeper jobs --dsn dbname=shop --format json list --all

Within a session through the proxy, `CALL lockkeeper.resume(7)` does the same as `resume`.

Exit code: 0 done, 1 not done (the error says why).";

const REWRITE_HELP: &str = "\
What ALTER COLUMN … TYPE, VACUUM FULL, SET TABLESPACE, SET LOGGED or SET UNLOGGED do under a lock
that stops everybody, this does while applications read and write. The server makes an empty table like the one that is there,
and your ALTER TABLE statements run on it. Rows are copied in short steps, a trigger logs the keys
of rows that change, and their rows are made anew. Both tables are compared, then change places in
one transaction of some milliseconds, with indexes, foreign keys, triggers, policies, privileges
and views. What cannot follow is refused before anything is done, and named.

Run it as the table's owner, or as a member of that role. Neither superuser nor an extension is
needed, but CREATE and TEMPORARY on the database, CREATE on the table's schema, and a table
lockkeeper.job (lockkeeper init). Do not change the table's definition while it runs: the job
notices, and stops.

It is a job as others are: Ctrl-C or `jobs pause` pause it, and killed it goes on with --resume.
`jobs cancel` leaves nothing. Until then writes are logged, which takes room: `jobs show`.

Examples:
  lockkeeper rewrite --dsn dbname=shop users --with 'ALTER TABLE users ALTER id TYPE bigint' --dry-run
  lockkeeper rewrite --dsn dbname=shop users --with 'ALTER TABLE users ALTER id TYPE bigint'
  lockkeeper rewrite --dsn dbname=shop app.events
  lockkeeper rewrite --dsn dbname=shop --resume 7
  lockkeeper jobs --dsn dbname=shop cancel 7

Exit code: 0 done, 1 not done (the error says why, and what is left).";

const APPROVALS_HELP: &str = "\
The policy's action `ask` refuses a statement until another role than the asker's has approved it.
Connect to the proxy's console, its database `lockkeeper`, as one of --console-users.

Examples:
  lockkeeper approvals --dsn 'host=127.0.0.1 port=6432 user=dba' list
  lockkeeper approvals --dsn 'host=127.0.0.1 port=6432 user=dba' approve 7 --reason 'ticket 42'

Exit code: 0 done, 1 not done (the error says why).";

const DOCTOR_HELP: &str = "\
Connect as the role that migrations use: it sees what that role can do. It looks at the server's
version and its known faults, at poolers and standbys in between, the table of jobs and who owns it,
the rights that trials need, publications, what earlier changes have left, and old transactions.

Example:
  lockkeeper doctor --dsn 'host=db.internal dbname=shop user=migrator'

Exit code: 0 nothing is lacking, 1 something is, or the server cannot be reached.";

const PLANS_HELP: &str = "\
A paused plan holds no lock; its client waits. What runs within a client's transaction cannot be
paused, since that would keep its locks, but cancelled. The ID is that of the audit log.

Examples:
  lockkeeper plans --dsn 'host=127.0.0.1 port=6432 user=dba' list
  lockkeeper plans --dsn 'host=127.0.0.1 port=6432 user=dba' cancel k3x9abcd-5.2

Exit code: 0 done, 1 not done (the error says why).";

const DEMO_HELP: &str = "\
It starts its own servers on free ports of this machine and leaves nothing behind. With the default
2 million rows it takes some minutes; --rows 100000 is enough to see what happens.

Exit code: 0 no application query waited longer than 100 ms for a lock behind a proxied statement,
1 one did, or the demo could not be played.";

/// A PostgreSQL proxy that makes schema changes safe.
///
/// Clients connect to it as if it were the server. Everything passes unchanged, except the few statements that would
/// block or break a live application: those are run in a safe way, or refused with an error that says what to do.
#[derive(Parser)]
#[command(name = "lockkeeper", version, after_help = AFTER_HELP, max_term_width = 100)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Subcommand)]
pub enum Command {
    /// Run the proxy in front of a PostgreSQL server
    #[command(after_help = SERVE_HELP)]
    Serve(Box<Serve>),
    /// Say what would happen to the statements of SQL files, with or without a server
    #[command(after_help = CHECK_HELP)]
    Check(Box<check::Arguments>),
    /// Serve editors over standard input and output, by the Language Server Protocol: what check says, while SQL is written
    #[command(after_help = LSP_HELP)]
    Lsp {
        /// As some editors say it; there is no other way
        #[arg(long)]
        stdio: bool,
    },
    /// List the rules, or show one of them
    Rules {
        /// Show this rule, with bad and good SQL
        #[arg(conflicts_with = "markdown")]
        name: Option<String>,
        /// Print all rules as a table in Markdown
        #[arg(long)]
        markdown: bool,
    },
    /// Review audit logs: list, show, stats, verify
    Audit(Box<review::Arguments>),
    /// Create the table lockkeeper.job, where batches keep their progress and transactions leave what is long
    #[command(after_help = INIT_HELP)]
    Init(jobs::Init),
    /// Say what works for a role on a server, what does not, and the SQL that a DBA runs once for it; nothing is changed
    #[command(after_help = DOCTOR_HELP)]
    Doctor(doctor::Arguments),
    /// Look at what runs, waits for a COMMIT or was interrupted: list, show, pause, resume, cancel
    #[command(after_help = JOBS_HELP)]
    Jobs(jobs::Arguments),
    /// Rewrite a table online, by copy and swap: a type that changes on disk, bloat, columns that are computed anew
    #[command(after_help = REWRITE_HELP)]
    Rewrite(Box<rewrite::Arguments>),
    /// Approve or decline what waits for a second person, by the policy's action ask: list, approve, decline
    #[command(after_help = APPROVALS_HELP)]
    Approvals(approvals::Arguments),
    /// Look at the plans that run in a proxy, by its console: list, pause, resume, cancel
    #[command(after_help = PLANS_HELP)]
    Plans(plans::Arguments),
    /// Say who used a table or a column, and when
    #[command(after_help = USAGE_HELP)]
    Usage(usage::show::Arguments),
    /// Play schema changes on a throwaway PostgreSQL under load, with and without the proxy, and compare
    #[command(after_help = DEMO_HELP)]
    Demo(Demo),
}

#[derive(Args)]
pub struct Demo {
    /// Rows of the table that the statements change
    #[arg(long, value_name = "N", default_value_t = 2_000_000, value_parser = clap::value_parser!(u64).range(1..))]
    pub rows: u64,
    /// Directory of initdb and postgres [default: LOCKKEEPER_PG_BIN, else what is installed]
    #[arg(long, value_name = "DIR")]
    pub pg_bin: Option<PathBuf>,
    /// Keep the servers at the end until Ctrl-C, and say how to connect and where the review page is [default: on a terminal]
    #[arg(long)]
    pub keep: bool,
}

#[derive(Args)]
pub struct Serve {
    /// Read options from this TOML file
    #[arg(long, value_name = "FILE", env = "LOCKKEEPER_CONFIG", hide_env_values = true)]
    pub config: Option<PathBuf>,
    /// Look whether the configuration, policy, files and server are as they should be, say so, and end: 0 all is well, 1 or 2 not
    #[arg(long)]
    pub check: bool,
    #[command(flatten)]
    pub options: Options,
}
