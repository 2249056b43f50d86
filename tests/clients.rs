//! Drivers and tools as people use them, under the policy `standard` with auditing on: each runs a program of its own
//! features, and prints the same through the proxy as straight at the server. psycopg and node-postgres are in drivers.rs.

use futures_util::{SinkExt, TryStreamExt, future, pin_mut};
use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::alike::check_alike;
use lockkeeper_testkit::{Ran, Stage, cluster, on_both, run};
use std::fmt::Write;
use std::process::Command;
use std::time::Duration;
use tokio::sync::mpsc::unbounded_channel;
use tokio_postgres::binary_copy::BinaryCopyInWriter;
use tokio_postgres::error::DbError;
use tokio_postgres::types::Type;
use tokio_postgres::{AsyncMessage, IsolationLevel, NoTls, SimpleQueryMessage};

const STANDARD: &str = "extends = \"standard\"\n";
const TABLE: &str = "
CREATE TYPE mood AS ENUM ('sad', 'happy');
CREATE TABLE users (id bigint PRIMARY KEY, email_verified boolean, tenant integer NOT NULL DEFAULT 1, n integer NOT NULL DEFAULT 0);
INSERT INTO users (id) SELECT * FROM generate_series(1, 3000);
VACUUM ANALYZE users;";

on_both!(asyncpg, postgres_js, rust_tokio_postgres, pgjdbc, pg_restore);

/// Alike, and every schema change of the program is in the audit log, with its end.
#[track_caller]
fn check(major: u32, name: &str, audited: &[(&str, &str)], play: impl Fn(&Stage) -> Ran) {
    let (direct, proxied) = check_alike(major, name, STANDARD, TABLE, play);
    let data = "SELECT md5(string_agg(u::text, ' ' ORDER BY id)), (SELECT md5(string_agg(m::text, ' ' ORDER BY m::text)) FROM mine m) FROM users u";
    assert_eq!(proxied.direct(data), direct.direct(data));
    check_audited(&proxied, audited);
}

#[track_caller]
fn check_audited(stage: &Stage, expect: &[(&str, &str)]) {
    let lines = stage.audit_lines();
    let in_short = |line: &serde_json::Value| {
        format!(
            "{} {} {} {}\n",
            line["event"], line["statement"], line["action"], line["outcome"]
        )
    };
    for (statement, outcome) in expect {
        let ends = lines.iter().filter(|line| {
            line["event"] == "statement"
                && line["statement"]
                    .as_str()
                    .is_some_and(|s| s.trim_start().starts_with(statement))
                && line["outcome"] == *outcome
        });
        assert_eq!(
            ends.count(),
            1,
            "{statement} {outcome}:\n{}",
            lines.iter().map(in_short).collect::<String>()
        );
    }
}

const AUDITED: [(&str, &str); 3] = [
    ("CREATE INDEX mine_a", "done"),
    ("ALTER TABLE mine ADD COLUMN", "done"),
    ("ALTER TABLE mine ADD CONSTRAINT", "done"),
];

fn asyncpg(major: u32) {
    let script = include_str!("clients/asyncpg_features.py");
    check(major, "asyncpg", &AUDITED, |stage| stage.python(script));
}

fn postgres_js(major: u32) {
    let script = include_str!("clients/postgres_features.js");
    check(major, "postgres_js", &AUDITED, |stage| stage.node(script));
}

fn pgjdbc(major: u32) {
    check(major, "pgjdbc", &AUDITED, |stage| {
        let mut java = Command::new("java");
        java.args([
            "-XX:TieredStopAtLevel=1",
            "-XX:-UsePerfData",
            "-cp",
            "/usr/share/java/postgresql.jar",
        ]);
        java.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/clients/Features.java"));
        stage.run_client(java, stage.port, "")
    });
}

/// An archive of this server's own kind goes through the proxy twice, out and in.
fn pg_restore(major: u32) {
    let source = "
        CREATE SCHEMA other;
        CREATE TYPE mood AS ENUM ('sad', 'happy');
        CREATE FUNCTION twice(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
        CREATE TABLE orgs (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE, mood mood DEFAULT 'happy');
        CREATE TABLE users (id bigserial PRIMARY KEY, org int NOT NULL REFERENCES orgs, email text, b bytea, j jsonb,
          half numeric GENERATED ALWAYS AS (id / 2.0) STORED, CHECK (id > 0), EXCLUDE USING btree (email WITH =));
        CREATE TABLE other.parts (at date, n int) PARTITION BY RANGE (at);
        CREATE TABLE other.parts_2024 PARTITION OF other.parts FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
        CREATE INDEX ON other.parts (at, n);
        CREATE INDEX users_lower ON users (lower(email)) WHERE email IS NOT NULL;
        CREATE VIEW happy AS SELECT u.*, o.name FROM users u JOIN orgs o ON o.id = org WHERE mood = 'happy';
        CREATE MATERIALIZED VIEW counts AS SELECT org, count(*) FROM users GROUP BY org;
        CREATE UNIQUE INDEX ON counts (org);
        CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
        CREATE TRIGGER touch BEFORE UPDATE ON users FOR EACH ROW EXECUTE FUNCTION touch();
        CREATE RULE quiet AS ON DELETE TO orgs WHERE OLD.id < 0 DO INSTEAD NOTHING;
        ALTER TABLE users ENABLE ROW LEVEL SECURITY;
        CREATE POLICY own ON users USING (email = current_user);
        CREATE STATISTICS both_columns ON org, email FROM users;
        COMMENT ON TABLE users IS 'it''s ☃';
        INSERT INTO orgs (name) SELECT 'org ' || n FROM generate_series(1, 10) n;
        INSERT INTO users (org, email, b, j) SELECT 1 + n % 10, E'u\\t' || n, sha256(n::text::bytea), jsonb_build_object('n', n) FROM generate_series(1, 3000) n;
        INSERT INTO other.parts SELECT '2024-01-01'::date + n % 366, n FROM generate_series(1, 1000) n;
        SELECT lo_from_bytea(77, sha256('large'));
        REFRESH MATERIALIZED VIEW counts";
    // Debian's pg_dump reads no newer server than itself: there the archive comes from an older one.
    let from = Stage::with(15, "dumped", STANDARD);
    from.direct(source);
    let archive = from.policy_file().with_file_name("archive");
    let dump = |port: u16, arguments: &[&str]| {
        let mut command = Command::new(from.cluster.bin("pg_dump").expect("pg_dump"));
        clean_environment(&mut command);
        command.args(["-h", "127.0.0.1", "-U", "postgres", "-p", &port.to_string()]);
        command.args(arguments).arg(&from.database);
        let text = run(command, "").ok();
        // Newer minor versions frame the dump with a random key.
        text.lines()
            .filter(|line| !line.contains("restrict "))
            .map(|line| format!("{line}\n"))
            .collect::<String>()
    };
    for arguments in [
        &[][..],
        &["--inserts", "--rows-per-insert=100"],
        &["--schema-only", "--clean", "--if-exists"],
    ] {
        let direct = dump(from.cluster.port(), arguments);
        assert!(direct.contains("PostgreSQL database dump complete"));
        assert_eq!(dump(from.port, arguments), direct, "{arguments:?}");
    }
    // Several sessions at once, which share a snapshot.
    dump(from.port, &["-Fd", "-j2", "-f", archive.to_str().expect("a path")]);

    let data = "
        SELECT (SELECT md5(string_agg(u::text, ' ' ORDER BY id)) FROM users u), (SELECT md5(string_agg(o::text, ' ' ORDER BY id)) FROM orgs o),
          (SELECT sum(n) FROM other.parts), (SELECT sum(count) FROM counts), lo_get(77), (SELECT last_value FROM users_id_seq), obj_description('users'::regclass),
          (SELECT count(*) FROM pg_policy), (SELECT count(*) FROM pg_statistic_ext), (SELECT count(*) FROM pg_rewrite WHERE rulename = 'quiet')";
    let here = Stage::without_proxy(cluster(major), "direct");
    let mut command = Command::new(from.cluster.bin("pg_restore").expect("pg_restore"));
    command.args(["-e", "-d", &here.database]).arg(&archive);
    here.run_client(command, here.port, "").ok();
    let expect = (from.direct(data), here.schema());
    assert_eq!(here.direct(data), expect.0);
    let bin = |name| {
        from.cluster
            .bin(name)
            .expect("the client programs")
            .display()
            .to_string()
    };
    let (pg_dump, pg_restore) = (bin("pg_dump"), bin("pg_restore"));
    for (name, script) in [
        (
            "piped",
            format!(
                "{pg_dump} -p {} -Fc {} | {pg_restore} -e -d \"$PGDATABASE\"",
                from.port, from.database
            ),
        ),
        (
            "jobs",
            format!("{pg_restore} -e -j2 -d \"$PGDATABASE\" {}", archive.display()),
        ),
        (
            "single",
            format!("{pg_restore} -1 -d \"$PGDATABASE\" {}", archive.display()),
        ),
    ] {
        let to = Stage::with(major, name, STANDARD);
        let mut shell = Command::new("bash");
        shell.args(["-c", &format!("set -o pipefail; {script}")]);
        let ran = to.run_client(shell, to.port, "");
        assert_eq!(
            (ran.status, ran.stdout.as_str(), ran.stderr.as_str()),
            (0, "", ""),
            "{name}"
        );
        let got = (to.direct(data), to.schema());
        assert_eq!(got, expect, "{name}");
        let audited = [
            "CREATE INDEX users_lower",
            "ALTER TABLE ONLY public.users\n    ADD CONSTRAINT users_pkey",
        ];
        match name {
            // The tables are the transaction's own: nothing to judge.
            "single" => check_audited(&to, &[]),
            _ => check_audited(&to, &audited.map(|statement| (statement, "done"))),
        }
    }
}

fn rust_tokio_postgres(major: u32) {
    check(major, "tokio_postgres", &AUDITED, |stage| {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mut out = String::new();
        let ended = runtime.block_on(async {
            tokio::time::timeout(
                Duration::from_secs(30),
                tokio_features(stage.port, &stage.database, &mut out),
            )
            .await
        });
        let stderr = match ended {
            Ok(Ok(())) => {
                return Ran {
                    status: 0,
                    stdout: out + "end\n",
                    stderr: String::new(),
                };
            }
            Ok(Err(error)) => format!("{error:?}"),
            Err(_) => "this took too long".into(),
        };
        Ran {
            status: 1,
            stdout: out,
            stderr,
        }
    });
}

fn told<T>(out: &mut String, result: Result<T, tokio_postgres::Error>) {
    let error = result.err();
    let told = error
        .as_ref()
        .map(|error| (error.to_string(), error.as_db_error().map(in_short)));
    writeln!(out, "{told:?}").expect("a String");
}

/// But for the line in the server's source.
fn in_short(error: &DbError) -> impl std::fmt::Debug + '_ {
    (
        error.severity(),
        error.code(),
        error.message(),
        error.detail(),
        error.hint(),
        error.position(),
        error.constraint(),
    )
}

async fn tokio_features(port: u16, database: &str, out: &mut String) -> Result<(), tokio_postgres::Error> {
    macro_rules! show {
        ($($what:expr),*) => { writeln!(out, "{:?}", ($($what,)*)).expect("a String") };
    }
    let stage = format!(
        "host=127.0.0.1 port={port} user=postgres dbname={database} application_name=features options='-c work_mem=5MB'"
    );
    let (mut client, mut connection) = tokio_postgres::connect(&stage, NoTls).await?;
    let (send, mut heard) = unbounded_channel();
    tokio::spawn(async move {
        while let Some(Ok(message)) = future::poll_fn(|cx| connection.poll_message(cx)).await {
            let _ = send.send(message);
        }
    });

    // Typed, prepared, unnamed, simple.
    let row = client
        .query_one(
            "SELECT $1::int + 1, $2::text, $3::bytea, $4::float8, current_setting('work_mem')",
            &[&41, &"it's ☃", &&b"\0\xff"[..], &f64::NAN],
        )
        .await?;
    show!(
        row.get::<_, i32>(0),
        row.get::<_, &str>(1),
        row.get::<_, &[u8]>(2),
        row.get::<_, f64>(3),
        row.get::<_, &str>(4)
    );
    let mood = client
        .prepare("SELECT 'happy'::mood, ARRAY['sad'::mood], u FROM users u WHERE id = $1")
        .await?;
    show!(
        mood.params(),
        mood.columns().iter().map(|c| c.type_().name()).collect::<Vec<_>>()
    );
    show!(
        client
            .query_opt("SELECT id FROM users WHERE id = $1", &[&-1_i64])
            .await?
            .is_none()
    );
    let update = client
        .prepare_typed("UPDATE users SET tenant = $2 WHERE id = $1", &[Type::INT8, Type::INT4])
        .await?;
    for n in 1..8_i64 {
        show!(client.execute(&update, &[&n, &(n as i32)]).await?);
    }
    let typed = client
        .query_typed("SELECT tenant FROM users WHERE id = $1", &[(&3_i64, Type::INT8)])
        .await?;
    show!(typed.iter().map(|row| row.get::<_, i32>(0)).collect::<Vec<_>>());
    for message in client
        .simple_query("SELECT 1 AS a; UPDATE users SET tenant = 5 WHERE id = 1; SELECT 'z' AS b, NULL")
        .await?
    {
        match message {
            SimpleQueryMessage::Row(row) => show!((0..row.len()).map(|n| row.get(n)).collect::<Vec<_>>()),
            SimpleQueryMessage::CommandComplete(count) => show!(count),
            SimpleQueryMessage::RowDescription(columns) => show!(columns.iter().map(|c| c.name()).collect::<Vec<_>>()),
            _ => show!("another message"),
        }
    }
    // Sent together without waiting.
    let insert = client.prepare("INSERT INTO users (id, tenant) VALUES ($1, $2)").await?;
    let inserts = (0..300_i64).map(|n| {
        let (client, insert) = (&client, &insert);
        async move { client.execute(insert, &[&(5000 + n), &(n as i32)]).await }
    });
    show!(future::try_join_all(inserts).await?.iter().sum::<u64>());
    let (good, bad, after) = future::join3(
        client.query_one("SELECT 1 + $1::int", &[&1]),
        client.query_one("SELECT 1 / $1::int", &[&0]),
        client.query_one("SELECT 3 + $1::int", &[&1]),
    )
    .await;
    show!(good?.get::<_, i32>(0), after?.get::<_, i32>(0));
    told(out, bad);
    told(out, client.query("SELECT nothing FROM users", &[]).await);
    told(out, client.batch_execute("SELEC 1").await);
    told(out, client.execute("INSERT INTO users (id) VALUES (1)", &[]).await);
    let rows = client
        .query_raw("SELECT id FROM users WHERE id <= $1 ORDER BY id", &[&100_i64])
        .await?;
    show!(
        rows.try_fold(0, |sum, row| future::ok(sum + row.get::<_, i64>(0)))
            .await?
    );

    // Transactions, savepoints, portals.
    let mut transaction = client
        .build_transaction()
        .isolation_level(IsolationLevel::Serializable)
        .start()
        .await?;
    show!(
        transaction
            .query_one("SHOW transaction_isolation", &[])
            .await?
            .get::<_, String>(0)
    );
    transaction.execute("INSERT INTO users (id) VALUES (9000)", &[]).await?;
    let savepoint = transaction.savepoint("here").await?;
    told(
        out,
        savepoint.execute("INSERT INTO users (id) VALUES (9000)", &[]).await,
    );
    told(out, savepoint.execute("SELECT 1", &[]).await);
    savepoint.rollback().await?;
    let portal = transaction.bind("SELECT id FROM users ORDER BY id", &[]).await?;
    for most in [3, 50, 0] {
        let rows = transaction.query_portal(&portal, most).await?;
        show!(rows.len(), rows.last().map(|row| row.get::<_, i64>(0)));
    }
    transaction.commit().await?;
    drop(client.transaction().await?);

    // Schema changes in every form; the prepared statement is older than the column.
    client.batch_execute("CREATE TABLE mine (a int, b text)").await?;
    client.execute("CREATE INDEX mine_a ON mine (a)", &[]).await?;
    let all = client.prepare("SELECT * FROM mine").await?;
    show!(client.query(&all, &[]).await?.len());
    let alter = client.prepare("ALTER TABLE mine ADD COLUMN d int DEFAULT 7").await?;
    show!(client.execute(&alter, &[]).await?);
    told(out, client.query(&all, &[]).await);
    client
        .simple_query("ALTER TABLE mine ADD CONSTRAINT d_positive CHECK (d > 0)")
        .await?;
    told(out, client.execute("ALTER TABLE nobody ADD COLUMN d int", &[]).await);
    let transaction = client.transaction().await?;
    transaction
        .batch_execute("CREATE TABLE other (id int PRIMARY KEY); CREATE INDEX ON other ((id + 1))")
        .await?;
    transaction.commit().await?;

    // COPY both ways.
    let sink = client.copy_in("COPY mine (a, b) FROM STDIN").await?;
    pin_mut!(sink);
    for n in 0..5000 {
        sink.feed(bytes::Bytes::from(format!("{n}\trow {n}\n"))).await?;
    }
    show!(sink.finish().await?);
    let writer = BinaryCopyInWriter::new(
        client.copy_in("COPY mine (a, b) FROM STDIN BINARY").await?,
        &[Type::INT4, Type::TEXT],
    );
    pin_mut!(writer);
    for n in 0..5000 {
        writer.as_mut().write(&[&n, &"binary"]).await?;
    }
    show!(writer.finish().await?);
    let copied: Vec<bytes::Bytes> = client
        .copy_out("COPY (SELECT * FROM mine ORDER BY a, b) TO STDOUT")
        .await?
        .try_collect()
        .await?;
    show!(
        copied.len(),
        copied.iter().map(bytes::Bytes::len).sum::<usize>(),
        &copied[77]
    );
    {
        let dropped = client.copy_in::<_, bytes::Bytes>("COPY mine (a) FROM STDIN").await?;
        drop(dropped);
    }
    let wrong = client.copy_in("COPY mine (a) FROM STDIN").await?;
    pin_mut!(wrong);
    wrong.send(bytes::Bytes::from_static(b"1\nwrong\n")).await?;
    told(out, wrong.finish().await);
    show!(
        client
            .query_one("SELECT count(*) FROM mine", &[])
            .await?
            .get::<_, i64>(0)
    );

    // Cancel, and what the server says by itself.
    let cancel = client.cancel_token();
    let (slept, cancelled) = future::join(client.batch_execute("SELECT pg_sleep(60)"), async {
        let (watch, connection) = tokio_postgres::connect(&stage, NoTls).await?;
        tokio::spawn(connection);
        let asleep = "SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'";
        while watch.query_opt(asleep, &[]).await?.is_none() {}
        cancel.cancel_query(NoTls).await
    })
    .await;
    cancelled?;
    told(out, slept);
    client
        .batch_execute("LISTEN channel; NOTIFY channel, 'told'; DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
        .await?;
    client.batch_execute("DROP TABLE IF EXISTS nobody").await?;
    drop(client);
    while let Some(message) = heard.recv().await {
        match message {
            AsyncMessage::Notice(notice) => show!(in_short(&notice)),
            AsyncMessage::Notification(n) => show!(n.channel(), n.payload()),
            _ => show!("another message"),
        }
    }
    Ok(())
}
