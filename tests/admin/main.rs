//! What people see of a running proxy: metrics, health, the review page, the console, and what a plan is told to have left.

mod alerts;
mod browser;
mod chrome;
mod console;
mod exposition;
mod http;
mod jobs;
mod plans;
mod watching;

use lockkeeper_cluster::{Cluster, free_port};
use lockkeeper_testkit::{QUICK, Stage, cluster, until};

/// As its file holds it.
const TOKEN: &str = "a-token-of-the-tests-0123456789";
const WATCH: &str = "user=postgres dbname=postgres";

/// A proxy with all that is here: an admin address with a token, a console for postgres, a control connection.
struct Admin {
    stage: Stage,
    port: u16,
    _dir: tempfile::TempDir,
}

impl Admin {
    fn new(name: &str) -> Admin {
        Admin::with(name, QUICK)
    }

    fn with(name: &str, policy: &str) -> Admin {
        Admin::on(
            cluster(lockkeeper_testkit::MAJOR),
            name,
            policy,
            &["--console-users", "postgres", "--control-dsn", WATCH],
        )
    }

    fn on(cluster: &'static Cluster, name: &str, policy: &str, more: &[&str]) -> Admin {
        let dir = tempfile::tempdir().expect("a directory");
        let token = dir.path().join("token");
        std::fs::write(&token, format!("{TOKEN}\n")).expect("the token is written");
        let token = token.display().to_string();
        let port = free_port().expect("a free port");
        let listen = format!("127.0.0.1:{port}");
        let arguments = [&["--admin", &listen, "--admin-token-file", &token], more].concat();
        let admin = Admin {
            stage: Stage::on(cluster, name, policy, &arguments),
            port,
            _dir: dir,
        };
        if more.contains(&"--control-dsn") {
            until("the control connection is up", || {
                admin.metrics().contains("lockkeeper_control_up 1")
            });
        }
        admin
    }

    fn metrics(&self) -> String {
        let answer = http::get(self.port, "/metrics");
        assert_eq!(answer.status, 200, "{answer:?}");
        answer.body
    }

    fn live(&self) -> serde_json::Value {
        http::get(self.port, "/api/live").json()
    }
}

/// Large enough for every rule (the policy's small_bytes is 10 MB).
const LARGE: &str = "CREATE TABLE users (id int PRIMARY KEY, name text NOT NULL, pad text);
    INSERT INTO users SELECT n, 'name ' || n, repeat('x', 400) FROM generate_series(1, 30000) n;
    ANALYZE users";
