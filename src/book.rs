//! The pages of the book in `docs/` that are made from the code, so that none of them can be out of date: rules, options, policy,
//! metrics. Pure: [`pages`] writes nothing; a test compares, and writes where it is told to.

use crate::admin::metrics::METRICS;
use crate::check;
use crate::command_line::Cli;
use crate::config::options::Options;
use crate::plan::rules::RULES;
use crate::rules_page;
use clap::{Args, Command, CommandFactory};
use std::fmt::Write;

/// Stands at the head of each.
const MADE: &str = "<!-- Made from the code by `make docs`. -->\n\n";
const WIDTH: usize = 100;

pub struct Page {
    /// Below `docs/src`.
    pub path: String,
    pub text: String,
}

pub fn pages() -> Vec<Page> {
    let mut pages = vec![
        made("rules/index.md", rules()),
        made("reference/command-line.md", command_line()),
        made("reference/options.md", options()),
        made("reference/policy.md", policy()),
        made("reference/metrics.md", metrics()),
        made("use/check-rules.md", check::page_of_own_rules()),
    ];
    pages.extend(
        RULES
            .iter()
            .map(|rule| made(&format!("rules/{}.md", rule.name), rules_page::of(rule))),
    );
    pages
}

fn made(path: &str, text: String) -> Page {
    Page {
        path: path.to_owned(),
        text: format!("{MADE}{}\n", text.trim_end()),
    }
}

/// What SUMMARY.md has below the page `rules/index.md`.
pub fn summary_of_rules() -> String {
    let mut text = String::new();
    for rule in RULES {
        let _ = writeln!(text, "  - [{0}](rules/{0}.md)", rule.name);
    }
    text
}

fn rules() -> String {
    let mut text =
        "# Rules\n\nA rule is one danger. The policy decides what a finding of it means. Each name leads to a page \
                    with the reason, the remedy and examples. `lockkeeper rules NAME` prints the same page.\n\nWhere a policy says \
                    `rewrite` and there is no safe form of a statement, the statement is refused.\n\n"
            .to_owned();
    for row in rules_page::table().lines() {
        let name = row.split('`').nth(1);
        let linked = name.filter(|_| row.starts_with("| `"));
        match linked {
            Some(name) => {
                let _ = writeln!(
                    text,
                    "{}",
                    row.replacen(&format!("`{name}`"), &format!("[`{name}`]({name}.md)"), 1)
                );
            }
            None => {
                let _ = writeln!(text, "{row}");
            }
        }
    }
    text
}

/// The help of the program and of each command, as a terminal of 100 columns shows it.
fn command_line() -> String {
    let mut text = "# Command line\n\nThe help of each command, as the program prints it.\n".to_owned();
    let mut program = Cli::command();
    program.build();
    help(&mut text, program);
    text
}

fn help(text: &mut String, command: Command) {
    let parts: Vec<Command> = command.get_subcommands().cloned().collect();
    let name = command.get_bin_name().unwrap_or("lockkeeper").to_owned();
    let mut command = without_environment(command).term_width(WIDTH);
    let help = command.render_long_help().to_string();
    let level = "#".repeat(name.split(' ').count().min(3) + 1);
    let _ = writeln!(text, "\n{level} {name}\n\n```text");
    for line in help.trim_end().lines() {
        let _ = writeln!(text, "{}", line.trim_end());
    }
    text.push_str("```\n");
    for part in parts.into_iter().filter(|part| part.get_name() != "help") {
        self::help(text, part);
    }
}

/// What is set where the book is made is not its business.
fn without_environment(command: Command) -> Command {
    command.mut_args(|argument| argument.hide_env_values(true))
}

/// Each option of `serve` under its name in the file, with its variable.
fn options() -> String {
    let mut text =
        "# Options of serve\n\nEach option is a flag, an environment variable, and a key of the TOML file that \
                    `--config` names. A flag wins over a variable, a variable over the file.\n"
            .to_owned();
    let command = Options::augment_args(Command::new("serve"));
    let mut heading = None;
    for option in command.get_arguments() {
        if heading != Some(option.get_help_heading()) {
            heading = Some(option.get_help_heading());
            let _ = writeln!(
                text,
                "\n## {}",
                option.get_help_heading().unwrap_or("Listening and logging")
            );
        }
        let key = option.get_long().unwrap_or_default();
        let value = option.get_value_names().and_then(|names| names.first());
        let variable = option.get_env().unwrap_or_default().to_string_lossy();
        let help = option.get_help().map(ToString::to_string).unwrap_or_default();
        let value = value.map(|value| format!("={value}")).unwrap_or_default();
        let _ = writeln!(
            text,
            "\n### {key}\n\n`--{key}{value}`, `{variable}`\n\n{}.",
            escaped(&help)
        );
    }
    text
}

/// `<` would begin a tag.
fn escaped(text: &str) -> String {
    text.replace('<', "&lt;").replace('*', "\\*")
}

fn policy() -> String {
    let mut text = "# Policy keys\n\nThree policies are built in. `standard` explains every key; `observe` and `strict` hold what \
                    differs from it. A file of your own says `extends` and holds what differs, too.\n"
        .to_owned();
    for (name, policy) in [
        ("standard", include_str!("../policies/standard.toml")),
        ("observe", include_str!("../policies/observe.toml")),
        ("strict", include_str!("../policies/strict.toml")),
    ] {
        let _ = writeln!(text, "\n## {name}\n\n```toml\n{}\n```", policy.trim_end());
    }
    text
}

fn metrics() -> String {
    let mut text = "# Metrics\n\n`--admin` serves them at `/metrics`, in Prometheus' text format. What is not known has no line: without \
                    the control connection nothing is said of stalls.\n\n| metric | kind | labels | what |\n|---|---|---|---|\n"
        .to_owned();
    for metric in &METRICS {
        let labels: Vec<String> = metric
            .labels
            .split(", ")
            .filter(|label| !label.is_empty())
            .map(|label| format!("`{label}`"))
            .collect();
        let (name, kind) = (metric.name, metric.kind.name());
        let _ = writeln!(text, "| `{name}` | {kind} | {} | {} |", labels.join(", "), metric.help);
    }
    text
}
