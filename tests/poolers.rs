//! A transaction pooler (PgBouncer) between the proxy and the server, and one between the application and the proxy. `LOCKKEEPER_PGBOUNCER`
//! names another than the one on the PATH.

use lockkeeper_cluster::{Guarded, clean_environment, free_port};
use lockkeeper_testkit::{Stage, cluster, connect_at, on_both, runs, until};
use std::path::PathBuf;
use std::process::Command;

const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 1000\nbatch_rows = 500\nbatch_target_ms = 0\npause_ms = 1\n";

const TABLE: &str = "CREATE TABLE t (id bigint PRIMARY KEY, n integer NOT NULL DEFAULT 0, flag boolean);
    INSERT INTO t (id) SELECT * FROM generate_series(1, 3000); CREATE TABLE other (id integer); VACUUM ANALYZE t";

on_both!(
    behind_the_proxy_only_one_transaction_is_carried,
    behind_the_proxy_the_extended_protocol_meets_its_own_statements,
    in_front_of_the_proxy,
);

fn pgbouncer() -> PathBuf {
    let named = std::env::var_os("LOCKKEEPER_PGBOUNCER").map(PathBuf::from);
    named.unwrap_or_else(|| {
        let found = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer", "/usr/local/bin/pgbouncer"];
        found
            .into_iter()
            .map(PathBuf::from)
            .find(|path| path.exists())
            .expect("pgbouncer is installed")
    })
}

/// In transaction mode, with so many connections to what listens on `port`.
fn pooler(port: u16, size: u32) -> (Guarded, u16, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let listen = free_port().unwrap();
    let mut settings = format!(
        "[databases]\n* = host=127.0.0.1 port={port} user=postgres pool_size={size}\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {listen}\n\
         unix_socket_dir =\nauth_type = any\npool_mode = transaction\nignore_startup_parameters = extra_float_digits,options\nserver_tls_sslmode = disable\n"
    );
    if std::env::var_os("LOCKKEEPER_PGBOUNCER_PREPARES").is_some() {
        settings.push_str("max_prepared_statements = 100\n");
    }
    let file = dir.path().join("pgbouncer.ini");
    std::fs::write(&file, settings).unwrap();
    let mut command = Command::new(pgbouncer());
    clean_environment(&mut command);
    // SAFETY: geteuid(2) cannot fail and touches no memory.
    if unsafe { libc::geteuid() } == 0 {
        command.args(["-u", "nobody"]);
    }
    command.arg(&file);
    let guarded = Guarded::spawn(&command, &dir.path().join("log")).unwrap();
    until("pgbouncer listens", || {
        assert!(
            guarded.is_alive(),
            "{}",
            std::fs::read_to_string(dir.path().join("log")).unwrap()
        );
        guarded.listens_on(listen)
    });
    (guarded, listen, dir)
}

/// Application, proxy, pooler, server.
fn behind(major: u32, name: &str, size: u32) -> (Stage, (Guarded, u16, tempfile::TempDir)) {
    let mut stage = Stage::without_proxy(cluster(major), name);
    std::fs::write(stage.policy_file(), POLICY).unwrap();
    stage.direct(TABLE);
    let pooler = pooler(stage.cluster.port(), size);
    stage.start_proxy_at(pooler.1);
    stage.mark();
    (stage, pooler)
}

/// Nothing of a session's is left on the connections that others will use.
#[track_caller]
fn nothing_is_left(stage: &Stage) {
    let locks = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())";
    assert_eq!(stage.number(locks), 0);
    // Through the pooler, by way of the proxy, on its connections.
    let left = stage.psql("SELECT count(*) FROM pg_prepared_statements WHERE name LIKE 'lockkeeper%'; SHOW lock_timeout; SHOW search_path; SHOW row_security; SHOW jit;");
    assert_eq!(left.ok(), "0\n0\n\"$user\", public\non\non\n");
}

fn behind_the_proxy_only_one_transaction_is_carried(major: u32) {
    let (stage, _pooler) = behind(major, "behind", 1);
    // One transaction each.
    for sql in [
        "ALTER TABLE t ADD COLUMN a integer",
        "BEGIN; ALTER TABLE t ADD COLUMN b integer; UPDATE t SET n = 1 WHERE id = 1; COMMIT",
        "ALTER TABLE t ADD CONSTRAINT small CHECK (n < 1000000)",
        "CREATE INDEX CONCURRENTLY own ON t (n)",
        "UPDATE t SET n = 2 WHERE id < 100",
    ] {
        stage.psql(&format!("{sql};\n")).ok();
        nothing_is_left(&stage);
    }
    // Batches that may be repeated keep nothing but what is done.
    assert_eq!(
        stage.psql("UPDATE t SET flag = true WHERE flag IS NULL;\n").ok(),
        "UPDATE 3000\n"
    );
    nothing_is_left(&stage);
    let before = stage.schema();
    for (sql, told) in [
        (
            "CREATE INDEX ON t (flag)",
            "takes more than one transaction, and there is a connection pooler",
        ),
        (
            "BEGIN; ALTER TABLE t ADD COLUMN z integer; CREATE INDEX ON t (flag); COMMIT",
            "there is a connection pooler",
        ),
        (
            "UPDATE t SET n = n + 1",
            "there is a connection pooler between Lockkeeper and the server",
        ),
        ("REINDEX TABLE t", "there is a connection pooler"),
    ] {
        let ran = stage.psql(&format!("{sql};\n"));
        assert!(
            ran.stderr.contains("ERROR:") && ran.stderr.contains(told),
            "{sql}: {ran:?}"
        );
        assert!(!ran.stderr.contains("lockkeeper init"), "{sql}: {ran:?}");
        assert_eq!(stage.schema(), before, "{sql}");
        nothing_is_left(&stage);
    }
    // One client's override is not the next one's.
    stage.psql("SET lockkeeper.override = 'drop-table: mine';\n").ok();
    let ran = stage.psql("SHOW lockkeeper.override;\nDROP TABLE t;\n");
    assert!(
        ran.stdout.contains("drop-table: mine"),
        "the pooler has one connection: {ran:?}"
    );
    assert!(
        ran.stderr.contains("may be another client's") && !ran.stderr.contains("SET lockkeeper.override ="),
        "{ran:?}"
    );
    assert_eq!(stage.schema(), before);
    stage
        .psql("/* lockkeeper: allow=drop-table reason=\"ticket 7\" */ DROP TABLE other;\n")
        .ok();
}

fn behind_the_proxy_the_extended_protocol_meets_its_own_statements(major: u32) {
    let (stage, _pooler) = behind(major, "extended", 1);
    let port = stage.port;
    runs(async {
        let one = connect_at(port, &stage.database).await.unwrap();
        let two = connect_at(port, &stage.database).await.unwrap();
        for n in 0..3 {
            one.client
                .execute(&format!("ALTER TABLE t ADD COLUMN x{n} integer"), &[])
                .await
                .unwrap();
            two.client
                .execute(&format!("ALTER TABLE t ADD COLUMN y{n} integer"), &[])
                .await
                .unwrap();
            let few = one
                .client
                .execute("UPDATE t SET n = $1 WHERE id < $2", &[&7i32, &5i64])
                .await
                .unwrap();
            assert_eq!(few, 4);
            let gone = two
                .client
                .execute("DELETE FROM t WHERE id = ANY($1)", &[&vec![3000i64 - n]])
                .await
                .unwrap();
            assert_eq!(gone, 1);
        }
        let error = one
            .client
            .execute("UPDATE t SET n = n + $1", &[&1i32])
            .await
            .unwrap_err();
        let error = error.as_db_error().unwrap();
        assert!(format!("{error:?}").contains("connection pooler"), "{error:?}");
        let error = two.client.execute("CREATE INDEX ON t (flag)", &[]).await.unwrap_err();
        assert!(format!("{error:?}").contains("connection pooler"), "{error:?}");
    });
    assert_eq!(stage.number("SELECT count(*) FROM t WHERE n = 7"), 4);
    assert_eq!(
        stage.number("SELECT count(*) FROM pg_attribute WHERE attrelid = 't'::regclass AND attname ~ '^[xy][0-9]'"),
        6
    );
    nothing_is_left(&stage);
}

/// Application, pooler, proxy, server: everything is as ever.
fn in_front_of_the_proxy(major: u32) {
    let stage = Stage::with(major, "front", POLICY);
    stage.direct(TABLE);
    let (_pooler, port, _dir) = pooler(stage.port, 1);
    let psql = |sql: &str| {
        let mut command = Command::new(stage.cluster.bin("psql").unwrap());
        clean_environment(&mut command);
        command.args([
            "-X",
            "-A",
            "-t",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            &stage.database,
            "-p",
            &port.to_string(),
        ]);
        lockkeeper_testkit::run(command, sql)
    };
    psql("CREATE INDEX ON t (flag);\n").ok();
    assert!(
        stage
            .received()
            .iter()
            .any(|sql| sql.starts_with("CREATE INDEX CONCURRENTLY"))
    );
    assert!(psql("UPDATE t SET n = n + 1;\n").ok().contains("UPDATE 3000"));
    let ran = psql("BEGIN;\nALTER TABLE t ADD COLUMN a integer;\nCREATE INDEX ON t (n);\nCOMMIT;\n");
    assert!(!ran.stderr.contains("ERROR"), "{ran:?}");
    assert_eq!(
        stage.number("SELECT count(*) FROM pg_index WHERE indrelid = 't'::regclass AND indisvalid"),
        3
    );
    let ran = psql("DROP TABLE t;\n");
    assert!(ran.stderr.contains("drop-table"), "{ran:?}");
}
