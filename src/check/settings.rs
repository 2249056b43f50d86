//! `.lockkeeper.toml`: what a repository says once for everybody who runs `check` in it. The command line says otherwise.

use super::arguments::{Arguments, server_version};
use super::design::rule_names;
use super::report::FailOn;
use super::tool::{Tool, Transaction};
use crate::config::{did_you_mean, load_policy};
use crate::plan::policy::Policy;
use clap::ValueEnum;
use serde::Deserialize;
use std::path::{Path, PathBuf};

const NAME: &str = ".lockkeeper.toml";

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
struct File {
    policy: Option<String>,
    server_version: Option<u32>,
    tool: Option<String>,
    transaction: Option<String>,
    fail_on: Option<String>,
    exclude: Vec<String>,
    exclude_path: Vec<String>,
    direct: bool,
    rules_url: Option<String>,
}

/// With what the nearest `.lockkeeper.toml` says, in the directory `here` or above; and the policy that both name.
pub fn with_file(arguments: Arguments, here: Option<&Path>) -> Result<(Arguments, Policy), String> {
    let path = match &arguments.config {
        Some(path) => Some(path.clone()),
        None => here.and_then(nearest),
    };
    let arguments = match path {
        Some(path) => {
            let told = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
            let text = std::fs::read_to_string(&path).map_err(|error| told(&error))?;
            let file: File = toml::from_str(&text).map_err(|error| told(&error))?;
            joined(arguments, file, &path).map_err(|error| told(&error))?
        }
        None => arguments,
    };
    let names = rule_names();
    if let Some(unknown) = arguments.exclude.iter().find(|rule| !names.contains(&rule.as_str())) {
        return Err(format!(
            "--exclude: there is no rule `{unknown}`{}",
            did_you_mean(unknown, &names)
        ));
    }
    let policy = load_policy(arguments.policy.as_deref().unwrap_or("standard"))?;
    Ok((arguments, policy))
}

fn nearest(here: &Path) -> Option<PathBuf> {
    here.ancestors()
        .map(|directory| directory.join(NAME))
        .find(|path| path.is_file())
}

fn joined(arguments: Arguments, file: File, path: &Path) -> Result<Arguments, String> {
    // A file's name in it is meant from where it lies.
    let beside = |name: String| match Path::new(&name).extension() {
        Some(_) => path.parent().unwrap_or(Path::new("")).join(&name).display().to_string(),
        None => name,
    };
    let asks_server = arguments.dsn.is_some();
    let version = file.server_version.filter(|_| !asks_server);
    let version = version.map(|version| server_version(&version.to_string())).transpose();
    Ok(Arguments {
        policy: arguments.policy.or(file.policy.map(beside)),
        server_version: arguments
            .server_version
            .or(version.map_err(|error| format!("server-version: {error}"))?),
        tool: arguments.tool.or(one_of::<Tool>("tool", file.tool)?),
        transaction: arguments
            .transaction
            .or(one_of::<Transaction>("transaction", file.transaction)?),
        fail_on: arguments.fail_on.or(one_of::<FailOn>("fail-on", file.fail_on)?),
        exclude: [arguments.exclude, file.exclude].concat(),
        exclude_path: [arguments.exclude_path, file.exclude_path].concat(),
        direct: arguments.direct || file.direct,
        rules_url: arguments.rules_url.or(file.rules_url),
        ..arguments
    })
}

fn one_of<T: ValueEnum>(key: &str, value: Option<String>) -> Result<Option<T>, String> {
    let read = |value: String| T::from_str(&value, false).map_err(|error| format!("{key}: {error}"));
    value.map(read).transpose()
}
