//! Sessions whose client_encoding lacks characters of names and texts.

use super::{large, session};
use lockkeeper_cluster::clean_environment;
use lockkeeper_testkit::Stage;
use std::io::Write;
use std::process::{Command, Stdio};

lockkeeper_testkit::on_both!(
    names_that_the_client_s_encoding_lacks,
    texts_come_in_the_client_s_encoding_or_in_ascii,
    what_waits_is_read_in_every_encoding,
    names_in_escapes_are_not_taken_for_others,
);

/// What psql writes to stderr, byte by byte, in that client_encoding.
fn psql_says(stage: &Stage, encoding: &str, script: &str) -> Vec<u8> {
    let mut command = Command::new(
        stage
            .cluster
            .bin("psql")
            .expect("psql is installed with postgresql-client"),
    );
    clean_environment(&mut command);
    let port = stage.port.to_string();
    command
        .args([
            "-X",
            "-q",
            "-h",
            "127.0.0.1",
            "-U",
            "postgres",
            "-d",
            &stage.database,
            "-p",
            &port,
        ])
        .env("PGCLIENTENCODING", encoding)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut input = child.stdin.take().expect("stdin is piped");
    input.write_all(script.as_bytes()).expect("psql reads");
    drop(input);
    child.wait_with_output().expect("psql ends").stderr
}

/// The catalog has names that the client's encoding lacks. What does without them goes on; what takes them is not sent as others.
fn names_that_the_client_s_encoding_lacks(major: u32) {
    let stage = large(major, "names");
    stage.direct(
        "ALTER TABLE users ADD COLUMN \"имя\" text; CREATE INDEX \"указатель\" ON users (\"имя\");
         CREATE TABLE p (id int) PARTITION BY RANGE (id);
         CREATE TABLE \"дитя\" PARTITION OF p FOR VALUES FROM (0) TO (10);
         CREATE TABLE \"élève\" PARTITION OF p FOR VALUES FROM (10) TO (20);
         INSERT INTO p SELECT generate_series(0, 19)",
    );
    let latin = "SET client_encoding = 'LATIN1';\n";
    let ran = stage.psql(&format!(
        "{latin}CREATE INDEX ON users (seen);\nUPDATE users SET seen = true;\n"
    ));
    assert_eq!(ran.ok(), "SET\nCREATE INDEX\nUPDATE 1000\n");
    assert_eq!(
        stage
            .direct("SELECT indisvalid FROM pg_index WHERE indexrelid = 'users_seen_idx'::regclass")
            .trim(),
        "t"
    );

    let ran = stage.psql(&format!("{latin}CREATE INDEX by_id ON p (id);\n"));
    assert_eq!(ran.status, 3, "{ran:?}");
    assert!(
        ran.stderr
            .contains("client_encoding LATIN1; SET client_encoding = 'UTF8' and send it again"),
        "{ran:?}"
    );
    assert_eq!(
        stage
            .direct(
                "SELECT count(*) FROM pg_index WHERE indrelid IN ('p'::regclass, 'дитя'::regclass, 'élève'::regclass)"
            )
            .trim(),
        "0"
    );
    assert_eq!(stage.psql("CREATE INDEX by_id ON p (id);\n").ok(), "CREATE INDEX\n");
    assert_eq!(
        stage.direct("SELECT string_agg(indexrelid::regclass::text, ' ' ORDER BY indexrelid::regclass::text COLLATE \"C\") FROM pg_index WHERE indrelid IN ('дитя'::regclass, 'élève'::regclass)").trim(),
        "\"élève_id_idx\" \"дитя_id_idx\""
    );
}

/// In ERRORs and NOTICEs: names of tables, what another session is doing, and words of the proxy's own.
fn texts_come_in_the_client_s_encoding_or_in_ascii(major: u32) {
    let policy = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[lock]\npause_ms = 10\ngive_up_after_s = 5\n[backfill]\nnotice_s = 1\n";
    let stage = Stage::with(major, "told", policy);
    stage.direct(
        "CREATE TABLE t (id int PRIMARY KEY, n int);
         CREATE TABLE p (id int) PARTITION BY RANGE (id);
         CREATE TABLE \"ż é\" PARTITION OF p FOR VALUES FROM (0) TO (10);
         INSERT INTO p SELECT generate_series(0, 9)",
    );
    let mut holder = session(stage.cluster.port(), &stage.database, "holder");
    holder.query("BEGIN");
    holder.query("LOCK TABLE t IN ACCESS SHARE MODE /* ż é */");
    // A table in use, a step that takes a name, a message with a `…`.
    let script = "ALTER TABLE t ADD COLUMN later int;\nCREATE INDEX by_id ON p (id);\n\
                  /* lockkeeper: hm */ TRUNCATE t;\n";
    let check = |encoding: &str, names: &[u8], ellipsis: &[u8]| {
        let said = psql_says(&stage, encoding, script);
        let shown = said.escape_ascii();
        let lines: Vec<&[u8]> = said.split(|byte| *byte == b'\n').collect();
        let one = |words: [&[u8]; 2]| {
            let has = |line: &&&[u8], words: &[u8]| line.windows(words.len()).any(|part| part == words);
            let found = lines.iter().find(|line| words.iter().all(|words| has(line, words)));
            assert!(
                found.is_some(),
                "{encoding}: no {} in: {shown}",
                words.map(|words| words.escape_ascii().to_string()).join(" … ")
            );
        };
        one([b"NOTICE:", names]);
        one([b"ERROR:  lockkeeper: could not get", names]);
        if encoding != "SQL_ASCII" {
            one([b"DETAIL:  The step: CREATE INDEX", names]);
        }
        one([b"reason=", ellipsis]);
        let expected = [names, ellipsis].concat();
        assert!(
            said.iter().all(|byte| byte.is_ascii() || expected.contains(byte)),
            "{encoding}: {shown}"
        );
    };
    check("LATIN1", b"? \xe9", b"...");
    check("LATIN2", b"? ?", b"...");
    check("SQL_ASCII", "ż é".as_bytes(), "…".as_bytes());
}

/// A session that cannot send the names of what an earlier transaction has left is not kept from its own work.
fn what_waits_is_read_in_every_encoding(major: u32) {
    let policy =
        "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[lock]\ngive_up_after_s = 1\ngive_up_in_transaction_s = 1\n";
    let stage = Stage::with(major, "waits", policy);
    let tables = ["ż", "é"];
    for table in ["t", "ż", "é"] {
        stage.direct(&format!(
            "CREATE TABLE {table} (id int PRIMARY KEY, n int); INSERT INTO {table} SELECT g, g FROM generate_series(1, 100) g"
        ));
    }
    let mut writer = session(stage.cluster.port(), &stage.database, "writer");
    for table in tables {
        writer.query("BEGIN");
        writer.query(&format!("UPDATE {table} SET n = n WHERE id = 1"));
        let ran = stage.psql(&format!("BEGIN;\nCREATE INDEX {table}_n ON {table} (n);\nCOMMIT;\n"));
        assert!(ran.stderr.contains("the transaction IS committed"), "{ran:?}");
        writer.query("ROLLBACK");
    }
    let left = "SELECT string_agg(id || ' ' || state, ', ' ORDER BY id) FROM lockkeeper.job";
    assert_eq!(stage.direct(left).trim(), "1 failed, 2 failed");
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let mut set = format!("SET client_encoding = '{encoding}';\n");
        set.push_str("BEGIN;\nCREATE INDEX ON t (n);\nCOMMIT;\nDROP INDEX t_n_idx;\n");
        assert_eq!(stage.psql(&set).ok(), "SET\nBEGIN\nCREATE INDEX\nCOMMIT\nDROP INDEX\n");
    }
    for id in [1, 2] {
        let ran = stage.psql(&format!(
            "SET client_encoding = 'LATIN1';\nCALL lockkeeper.resume({id});\n"
        ));
        let told = "takes names that cannot be sent in client_encoding LATIN1: SET client_encoding = 'UTF8' first";
        assert!(ran.stderr.contains(told), "{ran:?}");
        assert_eq!(stage.psql(&format!("CALL lockkeeper.resume({id});\n")).ok(), "CALL\n");
    }
    for table in tables {
        let valid = format!("SELECT indisvalid FROM pg_index WHERE indexrelid = '{table}_n'::regclass");
        assert_eq!(stage.direct(&valid).trim(), "t");
    }
}

/// The server reads U&"\00E9" as é whatever the client's encoding is; a question about é would be one about other characters.
fn names_in_escapes_are_not_taken_for_others(major: u32) {
    let stage = large(major, "escapes");
    stage.direct("CREATE TABLE é (id int PRIMARY KEY, n int); INSERT INTO é VALUES (1, 1)");
    for name in ["LATIN1", "LATIN2"] {
        let set = format!("SET client_encoding = '{name}';\n");
        for sql in [
            "DROP TABLE U&\"!00E9\" UESCAPE '!'",
            "DO E'BEGIN DROP TABLE \\u00E9; END'",
            "DROP TABLE U&\"\\00E9\"",
            "ALTER TABLE U&\"\\00E9\" DROP COLUMN n",
        ] {
            let ran = stage.psql(&format!("{set}{sql};\n"));
            assert!(ran.stderr.contains("Set client_encoding to UTF8"), "{ran:?}");
        }
        assert_eq!(
            stage
                .psql(&format!(
                    "{set}UPDATE U&\"\\00E9\" SET n = n + 1;\nCREATE TABLE {name} (e text DEFAULT U&'\\00E9');\n"
                ))
                .ok(),
            "SET\nUPDATE 1\nCREATE TABLE\n"
        );
    }
    assert_eq!(stage.direct("SELECT n FROM é").trim(), "3");
    let ran = stage.psql("ALTER TABLE U&\"\\00E9\" DROP COLUMN n;\n");
    assert!(ran.stderr.contains("drop-column"), "{ran:?}");
}
