//! The packages for pip and npm that `scripts/package` makes: they install without a network, and what they install is this program.

use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::run;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files that were made of this very program.
fn made(kind: &str, out: &Path) -> Vec<PathBuf> {
    let mut command = Command::new("python3");
    command
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/scripts/package"))
        .arg(kind);
    command
        .args(["--binary", env!("CARGO_BIN_EXE_lockkeeper"), "--out"])
        .arg(out);
    run(command, "").ok().lines().map(PathBuf::from).collect()
}

/// It says its version, checks a statement that comes on standard input, and hands its exit code on.
fn runs(program: &Path) {
    let ran = |arguments: &[&str], stdin: &str| {
        let mut command = Command::new(program);
        clean_environment(&mut command);
        command.args(arguments);
        run(command, stdin)
    };
    let version = format!("lockkeeper {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(ran(&["--version"], "").ok(), version);
    let refused = ran(&["check", "-"], "DROP TABLE pet;");
    assert_eq!(refused.status, 1, "{}", refused.stderr);
    assert!(refused.stdout.contains("drop-table"), "{}", refused.stdout);
    assert_eq!(ran(&["check", "-"], "SELECT 1;").status, 0);
}

#[test]
fn the_wheel_installs_and_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = made("wheel", directory.path());
    let [wheel] = made.as_slice() else { panic!("{made:?}") };
    let environment = directory.path().join("environment");
    let mut command = Command::new("python3");
    command.args(["-m", "venv"]).arg(&environment);
    run(command, "").ok();
    let python = |arguments: &[&str]| {
        let mut command = Command::new(environment.join("bin/python"));
        command
            .args(["-m", "pip", "--disable-pip-version-check", "--no-input"])
            .args(arguments);
        run(command, "").ok()
    };
    python(&["install", "--quiet", "--no-index", wheel.to_str().expect("UTF-8")]);
    let program = environment.join("bin/lockkeeper");
    runs(&program);
    assert!(python(&["show", "lockkeeper"]).contains(&format!("Version: {}\n", env!("CARGO_PKG_VERSION"))));
    python(&["uninstall", "--yes", "--quiet", "lockkeeper"]);
    assert!(!program.exists());
}

#[test]
fn the_npm_package_installs_and_runs() {
    let directory = tempfile::tempdir().expect("a directory");
    let made = made("npm", directory.path());
    assert_eq!(made.len(), 2, "{made:?}");
    let project = directory.path().join("project");
    std::fs::create_dir(&project).expect("made");
    std::fs::write(project.join("package.json"), "{\"private\": true}").expect("written");
    let mut command = Command::new("npm");
    command
        .args(["install", "--offline", "--silent", "--no-audit", "--no-fund"])
        .args(&made);
    command
        .current_dir(&project)
        .env("npm_config_cache", directory.path().join("cache"));
    run(command, "").ok();
    runs(&project.join("node_modules/.bin/lockkeeper"));
    // Without the package of this system it says so.
    let system = std::fs::read_dir(project.join("node_modules")).expect("read").flatten();
    let system = system
        .map(|entry| entry.path())
        .find(|path| path.to_string_lossy().contains("/lockkeeper-"));
    std::fs::remove_dir_all(system.expect("the system's package")).expect("removed");
    let ran = run(Command::new(project.join("node_modules/.bin/lockkeeper")), "");
    assert_eq!(ran.status, 2);
    assert!(ran.stderr.contains("is not installed"), "{}", ran.stderr);
}
