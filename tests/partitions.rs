//! Tables of more partitions than one plan has room for: the refusal's hint is what the server takes.

use lockkeeper_testkit::{Stage, own_cluster};

const PARTITIONS: u32 = 1_001;

/// Every table counts as large.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n";

#[test]
fn what_is_refused_for_its_partitions_can_be_done_as_the_hint_says() {
    let server = own_cluster(15, &[("max_locks_per_transaction", "512")]);
    // The stage wants a server for as long as the tests run; this one ends with the process.
    let server = Box::leak(Box::new(server));
    let stage = Stage::on(server, "partitions", POLICY, &[]);
    stage.direct(&format!(
        "CREATE TABLE m (id int, k int) PARTITION BY RANGE (id);
         CREATE TABLE r (id int PRIMARY KEY); INSERT INTO r SELECT generate_series(0, {PARTITIONS});
         DO $$ BEGIN FOR n IN 0..{PARTITIONS} - 1 LOOP
             EXECUTE format('CREATE TABLE m%s PARTITION OF m FOR VALUES FROM (%s) TO (%s)', n, n, n + 1);
         END LOOP; END $$;
         INSERT INTO m SELECT n, n FROM generate_series(0, {PARTITIONS} - 1) n; ANALYZE m"
    ));
    let each = |sql: &str| {
        let all: Vec<String> = (0..PARTITIONS).map(|n| sql.replace('#', &n.to_string())).collect();
        stage
            .direct_args(
                &["-d", &stage.database, "-q", "-v", "ON_ERROR_STOP=1"],
                &all.join(";\n"),
            )
            .ok();
    };
    let refused = |sql: &str, parts: &[&str]| {
        let ran = stage.psql_args(&["-c", sql], "");
        assert!(
            ran.stderr.contains("1001 partitions are too many for one plan"),
            "{}",
            ran.stderr
        );
        for part in parts {
            assert!(ran.stderr.contains(part), "{part}: {}", ran.stderr);
        }
    };
    refused(
        "CREATE INDEX mk ON m (k)",
        &["ON ONLY the partitioned table", "ATTACH PARTITION its_index"],
    );
    assert_eq!(
        stage.direct("SELECT count(*) FROM pg_index WHERE indrelid = 'm'::regclass"),
        "0"
    );
    // What is brief of it passes the proxy too.
    stage.psql("CREATE INDEX mk ON ONLY m (k)").ok();
    each("CREATE INDEX CONCURRENTLY mk# ON m# (k)");
    each("ALTER INDEX mk ATTACH PARTITION mk#");

    refused(
        "ALTER TABLE m ADD CONSTRAINT mu UNIQUE (id)",
        &["ALTER TABLE ONLY the partitioned table ADD CONSTRAINT name"],
    );
    stage.direct("ALTER TABLE ONLY m ADD CONSTRAINT mu UNIQUE (id)");
    each("CREATE UNIQUE INDEX CONCURRENTLY mu# ON m# (id)");
    each("ALTER TABLE m# ADD CONSTRAINT mu# UNIQUE USING INDEX mu#");
    each("ALTER INDEX mu ATTACH PARTITION mu#");

    let key = "ALTER TABLE m ADD CONSTRAINT mf FOREIGN KEY (k) REFERENCES r";
    refused(key, &["NOT VALID for each partition", "then this statement again"]);
    each("ALTER TABLE m# ADD CONSTRAINT mf FOREIGN KEY (k) REFERENCES r NOT VALID");
    each("ALTER TABLE m# VALIDATE CONSTRAINT mf");
    stage.psql_args(&["-c", key], "").ok();

    let whole = "SELECT (SELECT string_agg(relname || ' ' || indisvalid, ', ' ORDER BY relname) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
         WHERE indrelid = 'm'::regclass) || '; ' || (SELECT count(*) || ' ' || bool_and(convalidated) || ' ' || count(*) FILTER (WHERE conparentid = 0)
         FROM pg_constraint WHERE conname = 'mf')";
    assert_eq!(stage.direct(whole), "mk true, mu true; 1002 true 1");
}
