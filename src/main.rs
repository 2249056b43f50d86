//! The command line. Exit codes: 0 done, 1 it failed (for `check`: something is rejected or rewritten), 2 the command
//! line, a setting or an input is wrong.

use clap::Parser;
use lockkeeper::admin::http;
use lockkeeper::admin::site::Site;
use lockkeeper::command_line::{Cli, Command, Demo, Serve};
use lockkeeper::config::options::{LogFormat, Options};
use lockkeeper::config::{Settings, load_policy};
use lockkeeper::live::Live;
use lockkeeper::plan::grammar::{STACK_BYTES, this_thread_is_deep};
use lockkeeper::{check, demo, jobs, review, rewrite, rules_page};
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::Arc;

fn main() -> ExitCode {
    match Cli::parse().command {
        Command::Serve(arguments) => serve(*arguments),
        Command::Check(arguments) => deep(move || check_files(*arguments)),
        Command::Lsp { .. } => deep(|| ended(lockkeeper::lsp::run())),
        Command::Audit(arguments) => review_audit(*arguments),
        Command::Demo(Demo { rows, pg_bin, keep }) => ended(demo::run(demo::Options { rows, pg_bin, keep })),
        Command::Init(arguments) => ended(jobs::init(&arguments, &mut std::io::stdout())),
        Command::Doctor(arguments) => match lockkeeper::doctor::run(&arguments, &mut std::io::stdout()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(1),
            Err(error) => fail(1, &error),
        },
        Command::Approvals(arguments) => ended(lockkeeper::approvals::run(&arguments, &mut std::io::stdout())),
        Command::Usage(arguments) => ended(lockkeeper::usage::show::run(&arguments, &mut std::io::stdout())),
        Command::Plans(arguments) => ended(lockkeeper::plans::run(&arguments, &mut std::io::stdout())),
        Command::Jobs(arguments) => deep(move || ended(rewrite::steer::run(&arguments, &mut std::io::stdout()))),
        Command::Rewrite(arguments) => deep(move || ended(rewrite::run(&arguments, &mut std::io::stdout()))),
        Command::Rules { markdown: true, .. } => print(&rules_page::markdown()),
        Command::Rules { name: None, .. } => print(&rules_page::list()),
        Command::Rules { name: Some(name), .. } => match rules_page::page(&name) {
            Ok(page) => print(&page),
            Err(error) => fail(2, &error),
        },
    }
}

fn ended(result: Result<(), String>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

fn fail(code: u8, error: &str) -> ExitCode {
    // Not eprintln!, which panics where stderr is closed.
    let _ = writeln!(std::io::stderr(), "lockkeeper: {error}");
    ExitCode::from(code)
}

/// A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> ExitCode {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => fail(2, &format!("cannot write the output: {error}")),
        _ => ExitCode::SUCCESS,
    }
}

/// On a thread that reads what is nested as deeply as `serve` does.
fn deep(work: impl FnOnce() -> ExitCode + Send + 'static) -> ExitCode {
    let work = move || {
        this_thread_is_deep();
        work()
    };
    let started = std::thread::Builder::new().stack_size(STACK_BYTES).spawn(work);
    match started.map(std::thread::JoinHandle::join) {
        Ok(Ok(code)) => code,
        // It has said why.
        Ok(Err(_)) => ExitCode::from(101),
        Err(error) => fail(2, &format!("a thread cannot be started: {error}")),
    }
}

fn check_files(arguments: check::Arguments) -> ExitCode {
    let (arguments, policy) = match check::settle(arguments) {
        Ok(settled) => settled,
        Err(error) => return fail(2, &error),
    };
    let mut streams = check::Streams {
        stdin: &mut std::io::stdin(),
        out: &mut BufWriter::new(std::io::stdout()),
        err: &mut std::io::stderr(),
        colour: colour(),
    };
    match check::run(&arguments, &policy, &mut streams) {
        Ok(code) => ExitCode::from(code),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => ExitCode::from(2),
        Err(error) => fail(2, &format!("cannot write the output: {error}")),
    }
}

fn colour() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    let no_colour = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    std::io::stdout().is_terminal() && !no_colour && !dumb
}

fn review_audit(arguments: review::Arguments) -> ExitCode {
    let terminal = terminal_size::terminal_size_of(std::io::stdout()).map(|(width, _)| usize::from(width.0));
    let wanted = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok());
    let mut out = BufWriter::with_capacity(1 << 16, std::io::stdout());
    let mut streams = review::streams::Streams {
        out: &mut out,
        err: &mut std::io::stderr(),
        colour: colour(),
        width: terminal.or(wanted).filter(|width| *width > 0),
    };
    let reviewed = review::run(arguments, &mut streams);
    match reviewed.and_then(|()| Ok(out.flush()?)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(review::streams::Failure::Told(code, error)) => {
            // What was found before it.
            let _ = out.flush();
            fail(code, &error)
        }
        Err(review::streams::Failure::Output(error)) if error.kind() == ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(review::streams::Failure::Output(error)) => fail(2, &format!("cannot write the output: {error}")),
    }
}

/// Each thing that `serve` would need, up to the first that is wrong.
fn check_serve(settings: &Settings) -> ExitCode {
    let say = |what: &str| print(&format!("ok  {what}\n"));
    say("configuration");
    say(&format!("policy {}", settings.policy));
    say("certificates, keys and verifiers");
    if let Some(sink) = &settings.proxy.audit {
        let opened = std::fs::OpenOptions::new().append(true).create(true).open(&sink.path);
        match opened {
            Ok(_) => say(&format!("audit log {}", sink.path.display())),
            Err(error) => return fail(1, &format!("audit: {}: {error}", sink.path.display())),
        };
    }
    let reached = match settings.proxy.reach() {
        Ok(reached) => reached,
        Err(error) => return fail(1, &error),
    };
    let mut ended = ExitCode::SUCCESS;
    for server in reached {
        let address = server.address;
        match server.reached {
            Ok(version) => {
                say(&format!("server {address}: {version}"));
            }
            Err(error) => ended = fail(1, &error),
        }
    }
    ended
}

fn serve(arguments: Serve) -> ExitCode {
    let check = arguments.check;
    let settings = match settings(arguments) {
        Ok(settings) => settings,
        Err(error) => return fail(2, &error),
    };
    // Read now, so that a mistake ends the program as a wrong setting does; the proxy reads it again on SIGHUP.
    if let Err(error) = load_policy(&settings.policy) {
        return fail(2, &error);
    }
    if let Err(error) = settings.proxy.check_files() {
        return fail(2, &error);
    }
    if check {
        return check_serve(&settings);
    }
    let policy = settings.policy;
    let live = Arc::new(Live::default());
    let log = settings.proxy.audit.iter().map(|sink| sink.path.clone()).collect();
    let admin = match settings
        .admin
        .map(|admin| http::open(&admin, Some(&live), log, settings.proxy.reuse_port))
        .transpose()
    {
        Ok(admin) => admin,
        Err((code, error)) => return fail(code, &error),
    };
    start_log(settings.log_format, &settings.log_level);
    if let Some((listener, site)) = admin {
        start_admin(listener, site);
    }
    if let Some(directory) = settings.state_dir
        && let Err(error) = live.usage.keep_in(directory)
    {
        return fail(2, &format!("state-dir: {error}"));
    }
    raise_file_limit(settings.proxy.limits.connections_max);
    let served = lockkeeper::proxy::serve(
        settings.proxy,
        Arc::clone(&live),
        Box::new(move || load_policy(&policy)),
    );
    if let Err(error) = live.usage.store() {
        tracing::error!(error, "what was used cannot be kept");
    }
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(1, &error),
    }
}

/// On a thread of its own, which ends with the process.
fn start_admin(listener: std::net::TcpListener, site: Arc<Site>) {
    let listen = listener
        .local_addr()
        .map(|address| address.to_string())
        .unwrap_or_default();
    let started = std::thread::Builder::new().name("admin".into()).spawn(move || {
        if let Err(error) = http::serve(listener, site) {
            tracing::error!(error, "the admin address is not served");
        }
    });
    match started {
        Ok(_) => tracing::info!(listen, "review page and metrics"),
        Err(error) => tracing::error!(%error, "the admin thread cannot be started"),
    }
}

fn settings(arguments: Serve) -> Result<Settings, String> {
    let file = match &arguments.config {
        Some(path) => Options::from_file(path)?,
        None => Options::default(),
    };
    arguments.options.over(file).resolve()
}

fn start_log(format: LogFormat, level: &str) {
    let log = tracing_subscriber::fmt()
        .with_writer(std::io::stderr)
        .with_env_filter(tracing_subscriber::EnvFilter::new(level))
        .with_ansi(std::io::stderr().is_terminal());
    match format {
        LogFormat::Text => log.init(),
        LogFormat::Json => log.json().flatten_event(true).init(),
    }
}

/// A session takes two files, and the usual soft limit of 1,024 is there for programs that use select(2).
fn raise_file_limit(connections_max: usize) {
    let mut limit = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: both calls only read or fill the struct that is passed.
    let known = unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } == 0;
    if !known {
        return tracing::warn!(
            "cannot read the limit of open files: {}",
            std::io::Error::last_os_error()
        );
    }
    let soft = limit.rlim_cur;
    limit.rlim_cur = limit.rlim_max;
    // SAFETY: as above.
    if unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } != 0 {
        tracing::warn!(
            "cannot raise the limit of open files: {}",
            std::io::Error::last_os_error()
        );
        limit.rlim_cur = soft;
    }
    let wanted = connections_max as u64 * 2 + 64;
    if limit.rlim_cur < wanted {
        tracing::warn!(
            "at most {} files can be open, connections-max = {connections_max} needs {wanted}: raise the limit \
             (LimitNOFILE in systemd, ulimit -n) or lower connections-max",
            limit.rlim_cur
        );
    }
}
