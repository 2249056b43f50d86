//! What the repository has for others' pipelines: the pre-commit hook, the GitHub action and the GitLab template, each run as its host would
//! run it, with the program that was built. GitHub itself is a `gh` that writes down what it is asked.

use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::{Ran, run};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

const DROP: &str = "ALTER TABLE pet DROP COLUMN a;\n";

fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn text(path: &str) -> String {
    std::fs::read_to_string(repository().join(path)).expect(path)
}

/// A directory with a migration, and `bin` in it ahead of the PATH.
fn workplace() -> tempfile::TempDir {
    let work = tempfile::tempdir().expect("a directory");
    std::fs::create_dir_all(work.path().join("migrations")).expect("made");
    std::fs::create_dir_all(work.path().join("bin")).expect("made");
    std::fs::write(work.path().join("migrations/1.sql"), DROP).expect("written");
    std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_lockkeeper"), work.path().join("bin/lockkeeper")).expect("linked");
    work
}

fn shell(work: &Path, script: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new("bash");
    clean_environment(&mut command);
    let path = std::env::var("PATH").unwrap_or_default();
    command
        .env("PATH", format!("{}:{path}", work.join("bin").display()))
        .env("HOME", work)
        .current_dir(work)
        .args(["-c", script]);
    command.envs(variables.iter().copied());
    run(command, "")
}

/// The values of `key:` in a file of YAML, in order.
fn values(yaml: &str, key: &str) -> Vec<String> {
    let of = |line: &str| {
        let line = line.trim_start().trim_start_matches("- ");
        let value = line.strip_prefix(key)?.strip_prefix(':')?.trim();
        Some(value.trim_matches('\'').to_owned())
    };
    yaml.lines().filter_map(of).collect()
}

/// pre-commit runs the entry with the files behind it.
#[test]
fn the_hook_of_pre_commit() {
    let hooks = text(".pre-commit-hooks.yaml");
    assert_eq!(values(&hooks, "id"), ["lockkeeper-check"]);
    assert_eq!(values(&hooks, "language"), ["rust"]);
    let entry = &values(&hooks, "entry")[0];
    let work = workplace();
    let ran = shell(work.path(), &format!("{entry} migrations/1.sql"), &[]);
    assert!(ran.status == 1 && ran.stdout.contains("reject[drop-column]"), "{ran:?}");
}

/// A `gh` that knows no comment, or one, and writes down what is asked of it.
fn github(work: &Path, known: &str) -> PathBuf {
    let log = work.join("asked");
    let body = format!(
        "#!/bin/bash\necho \"$@\" >> {log}\ncase \"$*\" in *--jq*) echo -n '{known}';; esac\n\
         for argument; do case $argument in body=@*) cat \"${{argument#body=@}}\" >> {log};; esac; done\n",
        log = log.display()
    );
    let program = work.join("bin/gh");
    std::fs::write(&program, body).expect("written");
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).expect("executable");
    log
}

#[test]
fn the_action_of_github() {
    let action = text("action.yml");
    let steps = values(&action, "run");
    let [install, check] = steps.as_slice() else {
        panic!("two steps: {steps:?}")
    };
    let variables = [
        ("GITHUB_ACTION_PATH", env!("CARGO_MANIFEST_DIR")),
        ("GITHUB_REPOSITORY", "o/r"),
        ("LOCKKEEPER_PATHS", "migrations"),
        ("LOCKKEEPER_ARGS", "--fail-on reject"),
        ("LOCKKEEPER_PULL", "7"),
    ];
    for (known, expect) in [
        ("", "--method POST repos/o/r/issues/7/comments"),
        ("42", "--method PATCH repos/o/r/issues/comments/42"),
    ] {
        let work = workplace();
        let log = github(work.path(), known);
        assert_eq!(shell(work.path(), install, &variables).status, 0);
        let ran = shell(work.path(), check, &variables);
        assert!(
            ran.status == 1 && ran.stdout.contains("::error file=migrations/1.sql,line=1"),
            "{ran:?}"
        );
        let asked = std::fs::read_to_string(log).expect("it was asked");
        assert!(
            asked.contains(expect) && asked.contains("<!-- lockkeeper check -->"),
            "{asked}"
        );
        assert!(asked.contains("| drop-column |"), "{asked}");
    }
}

/// Only what differs from the base branch is checked.
#[test]
fn the_action_checks_what_was_changed() {
    let work = workplace();
    let git = "git init -q -b main . && git config user.email a@b && git config user.name a && echo bin > .git/info/exclude && git add migrations && git commit -qm one \
               && git clone -q --bare . ../$(basename $PWD).git && git remote add origin ../$(basename $PWD).git \
               && echo 'SELECT 1;' > migrations/2.sql && git add migrations && git commit -qm two";
    let ran = shell(work.path(), git, &[]);
    assert_eq!(ran.status, 0, "{ran:?}");
    let variables = [
        ("GITHUB_ACTION_PATH", env!("CARGO_MANIFEST_DIR")),
        ("GITHUB_BASE_REF", "main"),
        ("LOCKKEEPER_COMMENT", "false"),
    ];
    let ran = shell(work.path(), &values(&text("action.yml"), "run")[1], &variables);
    let bare = work.path().with_extension("git");
    let bare = if bare.exists() {
        bare
    } else {
        PathBuf::from(format!("{}.git", work.path().display()))
    };
    let _ = std::fs::remove_dir_all(bare);
    assert!(
        ran.status == 0 && ran.stdout.contains("1 statement in 1 file"),
        "{ran:?}"
    );
}

#[test]
fn the_template_of_gitlab() {
    let template = text(".ci/lockkeeper.gitlab-ci.yml");
    let script: Vec<&str> = template
        .lines()
        .skip_while(|line| line.trim() != "script:")
        .skip(1)
        .map_while(|line| line.trim_start().strip_prefix("- "))
        .collect();
    assert_eq!(script.len(), 4, "{template}");
    let work = workplace();
    let variables = [("LOCKKEEPER_PATHS", "migrations"), ("LOCKKEEPER_ARGS", "")];
    let ran = shell(work.path(), &script.join("\n"), &variables);
    assert!(ran.status == 1 && ran.stdout.contains("reject[drop-column]"), "{ran:?}");
    let report = std::fs::read_to_string(work.path().join("gl-code-quality-report.json")).expect("a report");
    let issues: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    assert_eq!(issues[0]["check_name"], "drop-column");
    assert_eq!(values(&template, "codequality"), ["gl-code-quality-report.json"]);
}
