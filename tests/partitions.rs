//! Tables of very many partitions: what is done partition by partition is carried out, and told briefly; the ways of the hints are
//! what the server takes.

use lockkeeper_testkit::{Stage, own_cluster};

/// Every table counts as large.
const POLICY: &str = "extends = \"standard\"\n[table]\nsmall_bytes = 0\n";

fn stage(major: u32, partitions: u32) -> Stage {
    let server = own_cluster(major, &[("max_locks_per_transaction", "512")]);
    // The stage wants a server for as long as the tests run; this one ends with the process.
    let server = Box::leak(Box::new(server));
    let stage = Stage::on(server, "partitions", POLICY, &[]);
    stage.direct(&format!(
        "CREATE TABLE m (id int, k int) PARTITION BY RANGE (id);
         CREATE TABLE r (id int PRIMARY KEY); INSERT INTO r SELECT generate_series(0, {partitions});
         DO $$ BEGIN FOR n IN 0..{partitions} - 1 LOOP
             EXECUTE format('CREATE TABLE m%s PARTITION OF m FOR VALUES FROM (%s) TO (%s)', n, n, n + 1);
         END LOOP; END $$;
         INSERT INTO m SELECT n, n FROM generate_series(0, {partitions} - 1) n; ANALYZE m"
    ));
    stage
}

/// The parent's indexes and whether they are valid; how many constraints mf there are, whether all are validated, how many by themselves.
const WHOLE: &str = "SELECT (SELECT string_agg(relname || ' ' || indisvalid, ', ' ORDER BY relname) FROM pg_index JOIN pg_class c ON c.oid = indexrelid
     WHERE indrelid = 'm'::regclass) || '; ' || (SELECT count(*) || ' ' || bool_and(convalidated) || ' ' || count(*) FILTER (WHERE conparentid = 0)
     FROM pg_constraint WHERE conname LIKE 'mf%' AND contype = 'f' AND conrelid <> 'r'::regclass)";

fn very_many_are_carried_out(major: u32) {
    const PARTITIONS: u32 = 1_001;
    /// Of the audit log's lines about one step, and of all of CREATE INDEX.
    const STEP_BYTES_MAX: usize = 2_000;
    const INDEX_BYTES_MAX: usize = 5_000_000;
    let stage = stage(major, PARTITIONS);
    stage.psql("CREATE INDEX mk ON m (k);\n").ok();
    let log = std::fs::read_to_string(stage.audit_file()).unwrap();
    let longest = log
        .lines()
        .filter(|line| line.contains(r#""event":"step""#))
        .map(str::len)
        .max();
    assert!(longest.is_some_and(|bytes| bytes < STEP_BYTES_MAX), "{longest:?}");
    assert!(log.len() < INDEX_BYTES_MAX, "{}", log.len());
    stage.psql("ALTER TABLE m ADD CONSTRAINT mu UNIQUE (id);\n").ok();
    stage
        .psql("ALTER TABLE m ADD CONSTRAINT mf FOREIGN KEY (k) REFERENCES r;\n")
        .ok();
    assert_eq!(
        stage.direct(WHOLE),
        format!("mk true, mu true; {} true 1", PARTITIONS + 1)
    );
    assert_eq!(
        stage.number("SELECT count(*) FROM pg_index WHERE NOT indisvalid OR NOT indisready"),
        0
    );
}

#[test]
fn very_many_are_carried_out_on_15() {
    very_many_are_carried_out(15);
}

#[test]
fn very_many_are_carried_out_on_18() {
    very_many_are_carried_out(18);
}

#[test]
fn the_ways_of_the_hints_are_what_the_server_takes() {
    const PARTITIONS: u32 = 3;
    let stage = stage(15, PARTITIONS);
    let each = |sql: &str| {
        for n in 0..PARTITIONS {
            stage.psql(&format!("{};\n", sql.replace('#', &n.to_string()))).ok();
        }
    };
    stage.psql("CREATE INDEX mk ON ONLY m (k);\n").ok();
    each("CREATE INDEX CONCURRENTLY mk# ON m# (k)");
    each("ALTER INDEX mk ATTACH PARTITION mk#");

    stage.psql("ALTER TABLE ONLY m ADD CONSTRAINT mu UNIQUE (id);\n").ok();
    each("CREATE UNIQUE INDEX CONCURRENTLY mu# ON m# (id)");
    each("ALTER TABLE m# ADD CONSTRAINT mu# UNIQUE USING INDEX mu#");
    each("ALTER INDEX mu ATTACH PARTITION mu#");

    each("ALTER TABLE m# ADD CONSTRAINT mf FOREIGN KEY (k) REFERENCES r NOT VALID");
    each("ALTER TABLE m# VALIDATE CONSTRAINT mf");
    stage
        .psql("ALTER TABLE m ADD CONSTRAINT mf FOREIGN KEY (k) REFERENCES r;\n")
        .ok();
    assert_eq!(stage.direct(WHOLE), "mk true, mu true; 4 true 1");
}
