//! `lockkeeper plans`: the plans that run in a proxy, listed, paused, resumed and cancelled, by its console.

use crate::jobs::{Server, explain, target};
use crate::plan::policy::Policy;
use crate::plan::rules;
use crate::proxy::InProcess;
use crate::review::table::plain;
use clap::{Args, Subcommand};
use std::io::Write;
use tokio_postgres::config::SslMode;
use tokio_postgres::{Client, NoTls, SimpleQueryMessage};

#[derive(Args)]
pub struct Arguments {
    /// The proxy's console: its own address, the database `lockkeeper`, and one of --console-users
    #[command(flatten)]
    server: Server,

    #[command(subcommand)]
    action: Action,
}

#[derive(Subcommand)]
enum Action {
    /// List the plans that run, with who is in their way
    List,
    /// Hold a plan after the batch, try or step that it is at; its client waits
    Pause { id: String },
    /// Let a paused plan go on
    Resume { id: String },
    /// End a plan, as its client's own cancel request would; the client hears what is done and what is left
    Cancel { id: String },
}

pub fn run(arguments: &Arguments, out: &mut dyn Write) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("the runtime cannot be started: {error}"))?;
    runtime.block_on(async {
        let client = connect(&arguments.server).await?;
        let command = match &arguments.action {
            Action::List => return list(&client, out).await,
            Action::Pause { id } => format!("PAUSE PLAN {}", one_word(id)?),
            Action::Resume { id } => format!("RESUME PLAN {}", one_word(id)?),
            Action::Cancel { id } => format!("CANCEL PLAN {}", one_word(id)?),
        };
        let answers = client.simple_query(&command).await.map_err(|error| explain(&error))?;
        let said = answers.iter().find_map(|answer| match answer {
            SimpleQueryMessage::Row(row) => row.get(0),
            _ => None,
        });
        writeln!(out, "{}", said.unwrap_or("done")).map_err(|error| error.to_string())
    })
}

/// As SHOW PLANS has them: `k3x9abcd-5.2`.
fn one_word(id: &str) -> Result<&str, String> {
    let known = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.');
    match !id.is_empty() && id.chars().all(known) {
        true => Ok(id),
        false => Err(format!("`{id}` is no ID of a plan: lockkeeper plans --dsn … list")),
    }
}

pub(crate) async fn connect(server: &Server) -> Result<Client, String> {
    let (mut config, upstream, tls) = target(server)?;
    if config.get_dbname().is_none() {
        config.dbname("lockkeeper");
    }
    let names: Vec<&str> = rules::RULES.iter().map(|rule| rule.name).collect();
    let policy = Policy::embedded("observe", &names).ok_or("the built-in policy observe is missing")?;
    let stream = InProcess::new(upstream, tls.as_ref(), policy, None)?.straight().await?;
    // Encryption is the stream's.
    config.ssl_mode(SslMode::Disable).application_name("lockkeeper plans");
    let connected = config.connect_raw(stream, NoTls).await;
    let (client, connection) = connected.map_err(|error| explain(&error))?;
    tokio::spawn(connection);
    Ok(client)
}

async fn list(client: &Client, out: &mut dyn Write) -> Result<(), String> {
    let answers = client
        .simple_query("SHOW PLANS")
        .await
        .map_err(|error| explain(&error))?;
    let mut text = String::new();
    for answer in &answers {
        let SimpleQueryMessage::Row(row) = answer else { continue };
        let column = |name: &str| {
            let at = row.columns().iter().position(|column| column.name() == name);
            at.and_then(|at| row.get(at)).unwrap_or_default()
        };
        text.push_str(&format!(
            "{}  step {} ({}), for {} s, {}@{}, server process {}\n",
            column("id"),
            column("step"),
            column("doing"),
            column("running_s"),
            column("user"),
            column("database"),
            column("backend_pid"),
        ));
        let more = [
            ("  waits for ", column("blocked_by")),
            ("  paused by ", column("paused_by")),
            ("  ", column("statement")),
        ];
        for (name, value) in more.into_iter().filter(|(_, value)| !value.is_empty()) {
            text.push_str(&format!("{name}{}\n", plain(value)));
        }
    }
    if text.is_empty() {
        text.push_str("no plan is running\n");
    }
    out.write_all(text.as_bytes()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn an_id_is_one_word() {
        assert!(super::one_word("k3x9abcd-5.2").is_ok());
        assert!(super::one_word("1; SHOW HELP").is_err() && super::one_word("").is_err());
    }
}
