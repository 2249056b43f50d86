//! What is still used is not dropped: the error names who used it. What nobody has used for long goes.

use lockkeeper_testkit::raw::{Raw, bind, bind_with, command_tags, error_field, execute, frame, parse, startup, sync};
use lockkeeper_testkit::{Stage, cluster, program, start_proxy, until};

const TABLES: &str = "CREATE TABLE users (id int PRIMARY KEY, name text, \"Mixed\" text); INSERT INTO users VALUES (1, 'a', 'b');
     CREATE TABLE orders (user_id int, total int); INSERT INTO orders VALUES (1, 1); CREATE SCHEMA other; CREATE TABLE other.users (id int, name text);
     CREATE VIEW names AS SELECT name FROM users; CREATE FUNCTION greet() RETURNS text LANGUAGE sql AS 'SELECT name FROM users'";
/// Nothing is quiet for so long.
const LONG: &str = "extends = \"standard\"\n[drop]\nquiet_for_s = 3600\n";

fn stage(name: &str, policy: &str) -> Stage {
    let stage = Stage::on(cluster(18), name, policy, &["--console-users", "postgres"]);
    stage.direct(TABLES);
    stage
}

fn connect(stage: &Stage, application: &str) -> Raw {
    let mut raw = Raw::open(stage.port);
    let database = stage.database.as_str();
    raw.start(&startup(&[
        ("user", "postgres"),
        ("database", database),
        ("application_name", application),
    ]));
    raw
}

/// For how many seconds it has been watched, as the refusal says.
fn watched_s(detail: &str) -> u32 {
    let told = detail
        .split("has watched for ")
        .nth(1)
        .and_then(|rest| rest.split(' ').next());
    told.and_then(|seconds| seconds.parse().ok())
        .unwrap_or_else(|| panic!("{detail}"))
}

/// The DETAIL of the refusal.
fn refused(raw: &mut Raw, sql: &str) -> String {
    let answer = raw.query(sql);
    let detail = error_field(&answer, b'D');
    detail.unwrap_or_else(|| panic!("{sql}: {answer:?}"))
}

const DROP: &str = "ALTER TABLE users DROP COLUMN name";

#[test]
fn a_used_column_is_refused_and_its_users_are_named() {
    let copy_in = [
        frame(b'Q', b"COPY users (id, name) FROM STDIN\0"),
        frame(b'd', b"7\tx\n"),
        frame(b'c', b""),
    ]
    .concat();
    let simple = |sql: &str| frame(b'Q', &[sql.as_bytes(), b"\0"].concat());
    let uses: Vec<(&str, Vec<u8>)> = vec![
        ("simple", simple("SELECT name FROM users WHERE id = 1")),
        (
            "unnamed",
            [
                parse("", "SELECT u.name FROM users u WHERE id = $1"),
                bind_with("", "", &["1"]),
                execute("", 0),
                sync(),
            ]
            .concat(),
        ),
        ("cte", simple("WITH x AS (SELECT name FROM users) SELECT * FROM x")),
        (
            "join",
            simple("SELECT name, total FROM orders JOIN users ON user_id = id"),
        ),
        ("insert", simple("INSERT INTO users VALUES (2, 'x', 'y')")),
        ("copy", copy_in),
        (
            "conflict",
            simple("INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'z'"),
        ),
        ("returning", simple("DELETE FROM users WHERE id = 99 RETURNING name")),
        ("update", simple("UPDATE users SET name = 'q' WHERE id = 1")),
        ("case", simple("SELECT NAME FROM Users")),
        ("quoted", simple("SELECT \"name\" FROM \"public\".\"users\"")),
        ("star", simple("SELECT * FROM users")),
        ("row", simple("SELECT row_to_json(u) FROM users u")),
        ("view", simple("SELECT * FROM names")),
        (
            "escaped",
            simple("SELECT name FROM users WHERE name <> E'it\\'s' AND name <> $$x$$"),
        ),
        ("explained", simple("EXPLAIN SELECT name FROM users")),
    ];
    for (application, message) in uses {
        let stage = stage("used", LONG);
        let mut web = connect(&stage, application);
        web.send(&message);
        let answer = web.until_ready();
        assert!(!command_tags(&answer).is_empty(), "{application}: {answer:?}");
        let mut migration = connect(&stage, "migration");
        let told = |detail: &str| {
            detail.contains("users.name was used") && detail.contains(&format!("by {application} (role postgres)"))
        };
        // Its shape is read aside.
        let mut last = String::new();
        until(application, || {
            last = refused(&mut migration, DROP);
            told(&last)
        });
        assert!(last.contains("(1 session of it is connected)"), "{application}: {last}");
        assert_eq!(
            last.contains("as part of the whole row"),
            ["insert", "star", "row", "view"].contains(&application),
            "{last}"
        );
        assert!(last.contains("Functions name it: public.greet()"), "{last}");
        assert!(!last.contains("it's") && !last.contains("'a'"), "{last}");
    }
}

#[test]
fn what_touches_something_else_is_no_use() {
    let stage = stage("else", LONG);
    let mut web = connect(&stage, "web");
    for sql in [
        "SELECT name FROM other.users",
        "SELECT id FROM users",
        "SELECT \"Mixed\" FROM users",
        "SELECT o.total FROM orders o JOIN users ON o.user_id = users.id",
        "WITH name AS (SELECT 1 AS name) SELECT n.name FROM name n",
    ] {
        assert!(!command_tags(&web.query(sql)).is_empty(), "{sql}");
    }
    let mut migration = connect(&stage, "migration");
    // All of it is read by then: the table's own use is told.
    until("the table was used", || {
        refused(&mut migration, "DROP TABLE users").contains("by web")
    });
    let detail = refused(&mut migration, DROP);
    assert!(detail.contains("users.name was not used in that time"), "{detail}");
    let detail = refused(&mut migration, "ALTER TABLE users RENAME \"Mixed\" TO mixed");
    assert!(
        detail.contains("users.Mixed was used") && detail.contains("by web"),
        "{detail}"
    );
    let detail = refused(&mut migration, "ALTER TABLE orders DROP COLUMN user_id");
    assert!(detail.contains("orders.user_id was used"), "{detail}");
}

#[test]
fn what_was_prepared_long_ago_counts_when_it_is_executed() {
    let stage = stage("prepared", "extends = \"standard\"\n[drop]\nquiet_for_s = 2\n");
    let mut web = connect(&stage, "web");
    web.send(&[parse("s", "SELECT name FROM users"), sync()].concat());
    web.until_ready();
    let mut migration = connect(&stage, "migration");
    // Prepared, but never executed: it is quiet once it was watched for two seconds. What runs meanwhile is a use.
    until("it would be quiet", || {
        web.send(&[bind("", "s"), execute("", 0), sync()].concat());
        assert_eq!(command_tags(&web.until_ready()), ["SELECT 1"]);
        watched_s(&refused(&mut migration, DROP)) >= 5
    });
    let detail = refused(&mut migration, DROP);
    assert!(
        detail.contains("users.name was used") && detail.contains("by web"),
        "{detail}"
    );
    drop(web);
    stage.direct("DROP VIEW names");
    // Nobody has used it for long enough; but what a function reads is not seen.
    std::thread::sleep(std::time::Duration::from_secs(3));
    let detail = refused(&mut migration, DROP);
    assert!(detail.contains("Functions name it: public.greet()"), "{detail}");
    stage.direct("DROP FUNCTION greet()");
    let mut notices = String::new();
    until("it is quiet", || {
        let answer = migration.query(DROP);
        let told = answer.iter().filter(|(tag, _)| *tag == b'N');
        let told: Vec<String> = told
            .filter_map(|notice| error_field(&[(b'E', notice.1.clone())], b'M'))
            .collect();
        notices = told.join(" ");
        command_tags(&answer) == ["ALTER TABLE"]
    });
    assert!(
        notices.contains("drop-column is overridden: users.name was last used"),
        "{notices}"
    );
    assert!(notices.contains("by web"), "{notices}");
    let audited = stage.audit_lines();
    let ended = audited
        .iter()
        .rfind(|line| line["event"] == "statement")
        .expect("an event");
    let finding = ended["findings"][0].to_string();
    assert!(
        finding.contains("[drop] quiet_for_s") && finding.contains("by web"),
        "{ended}"
    );
}

/// PostgreSQL shows what others run to who has a right to see it.
#[test]
fn only_the_owner_is_told_who_uses_it() {
    let stage = stage("owner", LONG);
    stage.direct(
        "DO $$ BEGIN IF to_regrole('usage_stranger') IS NULL THEN CREATE ROLE usage_stranger LOGIN; END IF; END $$",
    );
    let mut web = connect(&stage, "web");
    web.query("SELECT name FROM users WHERE id = 5");
    let mut migration = connect(&stage, "migration");
    until("it is known", || refused(&mut migration, DROP).contains("by web"));
    let mut stranger = Raw::open(stage.port);
    stranger.start(&lockkeeper_testkit::raw::startup(&[
        ("user", "usage_stranger"),
        ("database", stage.database.as_str()),
    ]));
    let answer = stranger.query(DROP);
    let error = error_field(&answer, b'M').unwrap_or_default() + &error_field(&answer, b'D').unwrap_or_default();
    assert!(
        !error.is_empty() && !error.contains("web") && !error.contains("watched"),
        "{error}"
    );
}

#[test]
fn who_is_not_seen_is_not_taken_for_quiet() {
    let stage = stage("past", "extends = \"standard\"\n[drop]\nquiet_for_s = 2\n");
    let mut past = Raw::connect(stage.cluster.port(), &stage.database);
    past.query("SET application_name = 'around'");
    let mut migration = connect(&stage, "migration");
    until("it is told", || {
        refused(&mut migration, "DROP TABLE orders").contains("connected past this Lockkeeper")
    });
    assert!(refused(&mut migration, "DROP TABLE orders").contains("around"));
    drop(past);
    // What SQL has prepared is not known when it is executed.
    let mut web = connect(&stage, "web");
    web.query("PREPARE p AS SELECT total FROM orders");
    until("it would be quiet", || {
        web.query("EXECUTE p");
        watched_s(&refused(&mut migration, "DROP TABLE orders")) >= 5
    });
    drop(web);
    until("it is quiet", || {
        command_tags(&migration.query("DROP TABLE orders")) == ["DROP TABLE"]
    });
}

#[test]
fn nothing_is_let_go_on_where_the_policy_says_never() {
    let stage = stage("never", "extends = \"standard\"\n[drop]\nquiet_for_s = 0\n");
    let mut migration = connect(&stage, "migration");
    let answer = migration.query(DROP);
    assert!(error_field(&answer, b'M').is_some(), "{answer:?}");
    assert!(
        !error_field(&answer, b'D').unwrap_or_default().contains("has watched"),
        "{answer:?}"
    );
}

/// A table that is rewritten is locked, whoever uses the column: who uses it is told, and it is never let go on.
#[test]
fn a_type_change_tells_who_uses_the_column_and_is_not_let_go_on() {
    let stage = stage(
        "retyped",
        "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[drop]\nquiet_for_s = 1\n[rules]\nchange-type = \"reject\"\n",
    );
    let change = "ALTER TABLE users ALTER id TYPE bigint";
    let mut migration = connect(&stage, "migration");
    connect(&stage, "web").query("SELECT id FROM users");
    until("it is known", || {
        refused(&mut migration, change).contains("users.id was used")
            && refused(&mut migration, change).contains("by web")
    });
    until("it would be quiet", || watched_s(&refused(&mut migration, change)) >= 4);
    let detail = refused(&mut migration, change);
    assert!(!detail.contains("It runs once"), "{detail}");
}

/// What was known before a restart is known behind it, to people too.
#[test]
fn a_restart_keeps_the_memory() {
    let state = tempfile::tempdir().expect("a directory");
    let directory = state.path().to_str().expect("a name");
    let arguments = ["--console-users", "postgres", "--state-dir", directory];
    let mut stage = Stage::on(cluster(18), "kept", LONG, &arguments);
    stage.direct(TABLES);
    let asked = |name: &str| {
        let mut command = std::process::Command::new(program());
        command.args(["usage", "--state-dir", directory, name]);
        lockkeeper_testkit::run(command, "").ok()
    };
    let mut web = connect(&stage, "web");
    web.query("UPDATE users SET name = 'secret' WHERE id = 1");
    until("it is kept", || asked("users.name").contains("users.name: "));
    let told = asked("users.name");
    assert!(
        told.contains("by web (role postgres), once: UPDATE users SET name = ?"),
        "{told}"
    );
    assert!(told.contains("(written ") && !told.contains("secret"), "{told}");
    assert!(asked("users.id").contains("users.id: ") && asked("orders").contains("orders was not used"));
    let console = || stage_shows(&stage, "SHOW USAGE users.name");
    assert!(console().contains("|users|name|web|postgres|1|"), "{}", console());
    drop(web);
    stage.kill_proxy();
    stage.start_proxy(&arguments);
    let mut migration = connect(&stage, "migration");
    let detail = refused(&mut migration, DROP);
    assert!(
        detail.contains("users.name was used") && detail.contains("by web"),
        "{detail}"
    );
    assert!(stage_shows(&stage, "SHOW USAGE").contains("|users|name|web|"));
    // What is no memory is not taken for one.
    std::fs::write(state.path().join("usage.json"), "{").expect("it is written");
    let mut command = std::process::Command::new(program());
    command.args(["usage", "--state-dir", directory]);
    let ran = lockkeeper_testkit::run(command, "");
    assert!(ran.status != 0 && ran.stderr.contains("usage.json"), "{ran:?}");
}

fn stage_shows(stage: &Stage, sql: &str) -> String {
    stage.psql_args(&["-d", "lockkeeper", "-At"], sql).ok()
}

/// Two proxies in front of a server know what either has seen, also of one that has gone.
#[test]
fn proxies_keep_it_together() {
    for major in [15, 18] {
        let stage = Stage::without_proxy(cluster(major), "together");
        stage.direct(TABLES);
        let role = format!("control_{}", stage.database);
        stage.direct(&format!("CREATE ROLE {role} LOGIN IN ROLE pg_monitor"));
        let at = |user: &str| {
            let (port, database) = (cluster(major).port(), &stage.database);
            format!("host=127.0.0.1 port={port} dbname={database} user={user}")
        };
        let told = |arguments: &[&str]| {
            let mut command = std::process::Command::new(program());
            command.env_remove("LOCKKEEPER_DSN").args(arguments);
            lockkeeper_testkit::run(command, "")
        };
        let usage = |name: &str| told(&["usage", "--dsn", &at(&role), name]);
        let missing = usage("users");
        assert!(
            missing.status == 1 && missing.stderr.contains("init --control-role"),
            "{missing:?}"
        );
        for _ in 0..2 {
            let init = ["init", "--dsn", &at("postgres"), "--control-role", &role];
            assert!(told(&init).ok().contains("lockkeeper.usage in database"));
        }

        let upstream = format!("127.0.0.1:{}", cluster(major).port());
        let control = format!("user={role} dbname={}", stage.database);
        let directories = [(); 2].map(|()| tempfile::tempdir().expect("a directory"));
        for directory in &directories {
            let policy = directory.path().join("policy.toml");
            std::fs::write(policy, LONG.replace("3600", "30")).expect("it is written");
        }
        let admin = lockkeeper_cluster::free_port().expect("a free port");
        let page = format!("127.0.0.1:{admin}");
        let arguments = ["--control-dsn", &control, "--console-users", "postgres"];
        let (first, first_port) = start_proxy(directories[0].path(), &upstream, &arguments);
        let arguments = [&arguments[..], &["--admin", &page]].concat();
        let (second, second_port) = start_proxy(directories[1].path(), &upstream, &arguments);
        let open = |port: u16, application: &str| {
            let mut raw = Raw::open(port);
            raw.start(&startup(&[
                ("user", "postgres"),
                ("database", &stage.database),
                ("application_name", application),
            ]));
            raw
        };
        let mut web = open(first_port, "web");
        web.query("UPDATE users SET name = 'secret' WHERE id = 1");
        web.query("SELECT name FROM users");
        until("it is told", || {
            usage("users.name").ok().contains("by web (role postgres)")
        });
        assert!(!usage("users").ok().contains("secret"));
        let mut migration = open(second_port, "migration");
        until("its session is known", || {
            !refused(&mut migration, DROP).contains("connected past")
        });
        let detail = refused(&mut migration, DROP);
        assert!(
            detail.contains("users.name was used") && detail.contains("by web"),
            "{detail}"
        );

        // It is used again, which is told a while later, and the proxy is killed.
        web.query("SELECT name FROM users");
        drop((web, first));
        let detail = refused(&mut migration, DROP);
        assert!(detail.contains("by web (role postgres)"), "{detail}");
        let mut psql = std::process::Command::new(cluster(major).bin("psql").expect("psql"));
        psql.args([
            "-X",
            "-At",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            "lockkeeper",
            "-p",
        ]);
        psql.args([&second_port.to_string(), "-c", "SHOW USAGE users.name"]);
        let console = lockkeeper_testkit::run(psql, "").ok();
        assert!(console.contains("|users|name|web|postgres|"), "{console}");
        let shown = http_get(admin, "/api/usage?table=users");
        assert!(
            shown.contains("\"together\":true") && shown.contains("\"application\":\"web\""),
            "{shown}"
        );
        assert!(shown.contains("\"unused\":[\"public.users.Mixed\"]"), "{shown}");

        // Whoever else has made the table, or put a trigger on it, has nothing called by the control role.
        stage.direct(&format!(
            "CREATE TABLE called (who text); GRANT INSERT ON called TO PUBLIC; CREATE FUNCTION calls() RETURNS trigger LANGUAGE plpgsql AS
             'BEGIN INSERT INTO public.called VALUES (current_user); RETURN new; END';
             CREATE TRIGGER t BEFORE INSERT OR UPDATE ON lockkeeper.usage_watch FOR EACH ROW EXECUTE FUNCTION calls();
             CREATE ROLE mallory_{role}; ALTER TABLE lockkeeper.usage OWNER TO mallory_{role}"
        ));
        let log = || std::fs::read_to_string(directories[1].path().join("proxy.log")).unwrap_or_default();
        until("it says so", || log().contains("lockkeeper.usage cannot be trusted"));
        let refused = usage("users");
        assert!(
            refused.status == 1 && refused.stderr.contains("cannot be trusted"),
            "{refused:?}"
        );
        assert_eq!(stage.number("SELECT count(*) FROM called WHERE who <> 'postgres'"), 0);
        drop(second);
        stage.direct(&format!("DROP SCHEMA lockkeeper CASCADE; DROP ROLE mallory_{role}"));
    }
}

fn http_get(port: u16, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    write!(
        stream,
        "GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n"
    )
    .expect("it is sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}
