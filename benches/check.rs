//! What `lockkeeper check` costs beside squawk, where that is installed (`pip install squawk-cli`): processor time over the same migration
//! files, and over new tables, whose number must not count twice.
//!
//! `make bench`, or `cargo bench --bench check`. Environment: ROUNDS (7), FILES (500), SQUAWK (the program, `squawk`) and JSON, a directory
//! for the figures.

use lockkeeper_testkit::bench::{self, median, number, spread};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

fn main() {
    bench::main(run);
}

fn run() -> Result<(), String> {
    let dir = tempfile::tempdir().map_err(|error| error.to_string())?;
    let rounds = number("ROUNDS", 7).max(1);
    let mut figures = Vec::new();
    println!("processor time, ms, median of {rounds} rounds  lockkeeper      squawk   ratio    of each round");
    let cases = [
        ("migrations", migrations(dir.path())?, true),
        // One that looks through all tables for each statement would take minutes for the second.
        ("2,500 new tables", new_tables(dir.path(), 2_500)?, true),
        ("20,000 new tables", new_tables(dir.path(), 20_000)?, false),
    ];
    for (name, files, with_other) in cases {
        let (mut ours, mut others) = (Vec::new(), Vec::new());
        for _ in 0..rounds {
            ours.push(processor_ms(env!("CARGO_BIN_EXE_lockkeeper"), &["check"], &files)?);
            let squawk = std::env::var("SQUAWK").unwrap_or("squawk".into());
            if with_other && let Ok(took) = processor_ms(&squawk, &[], &files) {
                others.push(took);
            }
        }
        let ratios: Vec<f64> = ours.iter().zip(&others).map(|(one, other)| one / other).collect();
        let beside = match ratios.is_empty() {
            true => "          -       -".to_owned(),
            false => {
                let [middle, low, high] = spread(&ratios);
                format!("{:>12.0} {middle:>6.2}x  {low:.2} to {high:.2}", median(&others))
            }
        };
        println!("{name:<40} {:>12.0}{beside}", median(&ours));
        figures.push(serde_json::json!({ "name": name, "lockkeeper_ms": ours, "squawk_ms": others }));
    }
    bench::write_figures("check", &figures)
}

/// Files as a team writes them in some years: a table each, its index, a column, and rows.
fn migrations(dir: &Path) -> Result<Vec<PathBuf>, String> {
    let mut files = Vec::new();
    for file in 0..number("FILES", 500) {
        let mut sql = String::new();
        for table in 0..25 {
            writeln!(
                sql,
                "CREATE TABLE t_{file}_{table} (\n  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,\n  name text NOT NULL,\n  \
                 at timestamptz NOT NULL DEFAULT now()\n);\nINSERT INTO t_{file}_{table} (name) VALUES ('x'), ('y');\n\
                 UPDATE t_{file}_{table} SET name = 'z' WHERE id = {table};"
            )
            .map_err(|error| error.to_string())?;
        }
        writeln!(
            sql,
            "ALTER TABLE t_{file}_0 ADD COLUMN c int;\nCREATE INDEX CONCURRENTLY i_{file} ON old_{file} (a);"
        )
        .map_err(|error| error.to_string())?;
        files.push(written(dir, &format!("{file:05}.sql"), &sql)?);
    }
    Ok(files)
}

fn new_tables(dir: &Path, many: usize) -> Result<Vec<PathBuf>, String> {
    let of = |n: usize| {
        format!(
            "CREATE TABLE s_{n} (id bigint PRIMARY KEY, a int);\nCREATE INDEX ON s_{n} (a);\n\
             ALTER TABLE s_{n} ADD COLUMN b int REFERENCES s_{} (id);\n",
            n.saturating_sub(1)
        )
    };
    let sql: String = (0..many).map(of).collect();
    Ok(vec![written(dir, &format!("new_{many}.sql"), &sql)?])
}

fn written(dir: &Path, name: &str, sql: &str) -> Result<PathBuf, String> {
    let path = dir.join(name);
    std::fs::write(&path, sql).map_err(|error| error.to_string())?;
    Ok(path)
}

/// Of this run alone: no other child ends meanwhile.
fn processor_ms(program: &str, arguments: &[&str], files: &[PathBuf]) -> Result<f64, String> {
    let before = of_children()?;
    let status = Command::new(program)
        .args(arguments)
        .args(files)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .map_err(|error| format!("{program}: {error}"))?;
    match status.code() {
        // Findings are no failure.
        Some(0 | 1) => Ok(of_children()? - before),
        _ => Err(format!("{program}: {status}")),
    }
}

fn of_children() -> Result<f64, String> {
    let mut usage = std::mem::MaybeUninit::<libc::rusage>::zeroed();
    // SAFETY: it is large enough for what is written into it.
    let usage = match unsafe { libc::getrusage(libc::RUSAGE_CHILDREN, usage.as_mut_ptr()) } {
        0 => unsafe { usage.assume_init() },
        _ => return Err(std::io::Error::last_os_error().to_string()),
    };
    let ms = |time: libc::timeval| time.tv_sec as f64 * 1e3 + time.tv_usec as f64 / 1e3;
    Ok(ms(usage.ru_utime) + ms(usage.ru_stime))
}
