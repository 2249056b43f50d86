//! `lockkeeper approvals`: what waits for a second person, by the policy's action `ask`, approved or declined at a proxy's console.

use crate::jobs::{Server, explain};
use crate::plans::connect;
use crate::review::table::plain;
use clap::{Args, Subcommand};
use std::io::Write;
use tokio_postgres::SimpleQueryMessage;

#[derive(Args)]
pub struct Arguments {
    #[command(flatten)]
    server: Server,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List what waits, and what was decided
    List,
    /// Let it be sent within an hour, by the role that has asked
    Approve {
        id: u64,
        /// Why: it is kept in the audit log
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Refuse it
    Decline {
        id: u64,
        /// Why: who has asked is told
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
}

pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot be started: {error}"))?;
    runtime.block_on(async {
        let client = connect(&arguments.server).await?;
        let (command, lists) = match &arguments.action {
            Action::List => ("SHOW APPROVALS".to_owned(), true),
            Action::Approve { id, reason } => (format!("APPROVE {id} {}", quoted(reason)), false),
            Action::Decline { id, reason } => (format!("DECLINE {id} {}", quoted(reason)), false),
        };
        let answers = client.simple_query(&command).await.map_err(|error| explain(&error))?;
        let mut text = String::new();
        for answer in &answers {
            let SimpleQueryMessage::Row(row) = answer else { continue };
            let column = |name: &str| {
                let at = row.columns().iter().position(|column| column.name() == name);
                at.and_then(|at| row.get(at)).unwrap_or_default()
            };
            if !lists {
                text.push_str(&format!("{}\n", column("done")));
                continue;
            }
            text.push_str(&format!(
                "{}  {}, asked {} s ago by {}@{} ({})\n  {}\n",
                column("id"),
                column("state"),
                column("asked_s"),
                column("user"),
                column("database"),
                column("rules"),
                column("statement"),
            ));
            if !column("decided_by").is_empty() {
                text.push_str(&format!("  by {}: {}\n", column("decided_by"), column("reason")));
            }
        }
        if text.is_empty() {
            text.push_str("nothing waits for approval\n");
        }
        // A statement may hold what moves a terminal's cursor.
        out.write_all(plain(&text).as_bytes())
            .map_err(|error| error.to_string())
    })
}

/// In one line, as the console takes it: it divides statements at semicolons outside of quotes.
fn quoted(reason: &str) -> String {
    let words: Vec<&str> = reason.split_whitespace().collect();
    crate::plan::splice::quote_literal(&words.join(" "))
}
