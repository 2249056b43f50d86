//! What `check` is asked on the command line.

use super::design;
use super::report::{FailOn, Format};
use super::tool::{Tool, Transaction};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Arguments {
    /// observe, standard, strict, or a TOML file [default: standard]
    #[arg(long, value_name = "NAME|FILE", env = "LOCKKEEPER_POLICY")]
    pub policy: Option<String>,

    /// Settings of the repository [default: the nearest .lockkeeper.toml, in this directory or above]
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// How the findings are written
    #[arg(long, value_name = "FORMAT", default_value = "text")]
    pub format: Format,

    /// The PostgreSQL version that the files are for, 13 to 18, or as server_version_num (150004) [default: the server's, or what
    /// holds for all of them]
    #[arg(long, value_name = "N", value_parser = server_version, conflicts_with = "dsn")]
    pub server_version: Option<u32>,

    /// Ask this server how large the tables are and what they look like; nothing is changed. A connection string of libpq:
    /// "host=db dbname=shop sslmode=verify-full" or postgres://…; PG* variables, .pgpass and services count
    #[arg(long, value_name = "CONNINFO", env = "LOCKKEEPER_DSN", hide_env_values = true)]
    pub dsn: Option<String>,

    /// Tell what the proxy would do for each statement, step by step: the SQL, its lock and whom that blocks, the rows, and the way back. The
    /// server is asked
    #[arg(long, requires = "dsn")]
    pub plan: bool,

    /// The migration tool that runs the files [default: told by their names and the marks in them, else psql]
    #[arg(long, value_name = "TOOL")]
    pub tool: Option<Tool>,

    /// What is one transaction [default: as the tool does it]
    #[arg(long, value_name = "WHAT")]
    pub transaction: Option<Transaction>,

    /// Check the way back: down files and down parts, the newest first
    #[arg(long)]
    pub down: bool,

    /// The first file that has not run yet, by its name or the beginning of it (0042): what those before it create is in use
    #[arg(long, value_name = "FILE")]
    pub from: Option<String>,

    /// Check only the files that this list names, one a line, as `git diff --name-only main` prints it; - for standard input
    #[arg(long, value_name = "LIST")]
    pub changed: Option<PathBuf>,

    /// What ends with exit code 1 [default: rewrite]
    #[arg(long, value_name = "VERDICT")]
    pub fail_on: Option<FailOn>,

    /// Rules that say nothing, several by commas
    #[arg(long, value_name = "RULE", value_delimiter = ',')]
    pub exclude: Vec<String>,

    /// Files that are left out: `legacy/**`, `*_data.sql`
    #[arg(long, value_name = "PATTERN")]
    pub exclude_path: Vec<String>,

    /// The files run straight at a server: a schema change without a lock_timeout is warned of
    #[arg(long)]
    pub direct: bool,

    /// Where the rules' pages are on the web, for SARIF's helpUri: the book's address, such as https://docs.example.com/rules
    #[arg(long, value_name = "URL")]
    pub rules_url: Option<String>,

    /// SQL instead of a file; may be given several times
    #[arg(short, long = "command", value_name = "SQL")]
    pub commands: Vec<String>,

    /// SQL files, directories (their *.sql files, in the tool's order, subdirectories too), patterns such as db/**/*.sql, or - for
    /// standard input [default: standard input]
    #[arg(value_name = "FILE")]
    pub inputs: Vec<PathBuf>,
}

impl Arguments {
    /// For a text on standard input, of which only the proxy's rules are told.
    pub fn of_text(server_version: Option<u32>) -> Arguments {
        Arguments {
            policy: None,
            config: None,
            format: Format::Text,
            server_version,
            dsn: None,
            plan: false,
            tool: None,
            transaction: None,
            down: false,
            from: None,
            changed: None,
            fail_on: None,
            // A rule's page tells of the proxy.
            exclude: design::RULES.iter().map(|rule| rule.name.to_owned()).collect(),
            exclude_path: Vec::new(),
            direct: false,
            rules_url: None,
            commands: Vec::new(),
            inputs: vec![PathBuf::from("-")],
        }
    }
}

/// `18` and `180004` alike become 180000 and 180004.
pub fn server_version(text: &str) -> Result<u32, String> {
    let number = text.parse::<u32>().ok();
    let version = number.map(|number| {
        if number < 1_000 {
            number.saturating_mul(10_000)
        } else {
            number
        }
    });
    match version {
        Some(version) if (130_000..190_000).contains(&version) => Ok(version),
        _ => Err("it is a number from 13 to 18, or a server_version_num such as 150004".into()),
    }
}
