//! What other sessions wait for while a brief step tries for its lock.

mod common;

use common::{Stage, own_cluster};
use std::time::{Duration, Instant};

/// Autovacuum gives way only to one who waits for deadlock_timeout, so short tries alone would never get through.
#[test]
fn a_brief_step_gets_past_autovacuum_without_a_queue() {
    let slow_vacuum = [
        ("autovacuum_naptime", "1s"),
        ("autovacuum_vacuum_cost_delay", "100ms"),
        ("autovacuum_vacuum_cost_limit", "1"),
        ("autovacuum_vacuum_threshold", "1"),
        ("autovacuum_vacuum_scale_factor", "0"),
        ("autovacuum_analyze_scale_factor", "100"),
    ];
    for major in [15, 18] {
        // Ends with the test process, as the shared ones do.
        let cluster = Box::leak(Box::new(own_cluster(major, &slow_vacuum)));
        let stage = Stage::on(cluster, "autovacuum", common::QUICK, &[]);
        stage.direct(
            "CREATE TABLE t (id int PRIMARY KEY, v int) WITH (autovacuum_enabled = off);
             INSERT INTO t SELECT i, 0 FROM generate_series(1, 50000) i;
             DELETE FROM t WHERE id % 2 = 0;
             ALTER TABLE t RESET (autovacuum_enabled)",
        );
        let vacuuming = "SELECT count(*) FROM pg_locks WHERE relation = 't'::regclass AND granted
             AND mode = 'ShareUpdateExclusiveLock' AND pid IN (SELECT pid FROM pg_stat_activity WHERE backend_type = 'autovacuum worker')";
        let started = Instant::now();
        while stage.direct(vacuuming).trim() != "1" {
            assert!(started.elapsed() < Duration::from_secs(60), "autovacuum does not come");
            std::thread::sleep(Duration::from_millis(50));
        }
        let sampler = stage.sample_locks("t");
        let started = Instant::now();
        assert_eq!(stage.psql("ALTER TABLE t ADD COLUMN w int").ok().trim(), "ALTER TABLE");
        let took = started.elapsed();
        let samples = sampler.stop();
        assert!(took < Duration::from_secs(20), "PostgreSQL {major}: it took {took:?}");
        let queued = samples
            .0
            .iter()
            .filter(|s| !s.granted && s.mode == "AccessExclusiveLock");
        let waited = queued.filter_map(|s| s.wait_ms).fold(0.0, f64::max);
        assert!(
            waited < 500.0,
            "PostgreSQL {major}: ACCESS EXCLUSIVE stood in the queue for {waited} ms"
        );
        let log = cluster.log();
        assert!(log.contains("canceling autovacuum task"), "PostgreSQL {major}: {log}");
    }
}
