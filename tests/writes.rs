//! What an application's UPDATE and DELETE cost, and that no large one passes by what is remembered of a small one.

use lockkeeper_testkit::raw::{Raw, error_field};
use lockkeeper_testkit::{Stage, on_both, runs};
use std::time::Duration;
use tokio_postgres::Client;
use tokio_postgres::error::SqlState;

/// Small numbers of rows are many here.
const POLICY: &str =
    "extends = \"standard\"\n[table]\nsmall_bytes = 0\n[backfill]\nrows_max = 200\nbatch_rows = 100\npause_ms = 1\n";
/// What is done past the proxy is noticed within this time (`KEEP`).
const NOTICED: Duration = Duration::from_millis(5_100);

const TABLE: &str = "
CREATE TABLE t (id bigint PRIMARY KEY, customer integer, at timestamptz DEFAULT now(), n integer NOT NULL DEFAULT 0);
INSERT INTO t (id, customer) SELECT i, i / 10 FROM generate_series(1, 3000) i;
CREATE INDEX ON t (customer);
VACUUM ANALYZE t;";

on_both!(
    the_second_write_of_any_session_asks_nothing,
    a_list_is_as_long_as_its_message,
    a_limit_is_no_literal,
    read_only_it_is_refused_in_the_servers_words,
    a_correlated_sub_select_bounds_nothing,
    a_table_that_grew,
    a_key_that_somebody_dropped,
    names_that_a_function_moved,
    other_values_are_not_the_same,
    an_own_operator_is_no_equality,
    refusals_are_counted,
    nothing_large_passes_by_what_is_remembered,
    a_temporary_table_that_went,
    a_table_that_a_query_makes,
    a_row_of_values_may_be_many,
    what_a_session_has_set,
    an_execute_is_another_in_each_session,
    what_a_function_did,
    a_change_beside_a_temporary_one,
    rows_that_a_pipeline_brings,
);

fn stage(major: u32, name: &str) -> Stage {
    Stage::with(major, name, POLICY)
}

/// How many statements the server received that are not of the applications.
fn questions(stage: &Stage) -> usize {
    let own = |sql: &&String| {
        !["UPDATE", "DELETE", "WITH lockkeeper_changed", "WITH q"]
            .iter()
            .any(|word| sql.starts_with(word))
    };
    stage.received().iter().filter(own).count()
}

async fn send(client: &Client, sql: &str) {
    client
        .simple_query(sql)
        .await
        .unwrap_or_else(|error| panic!("{sql}: {error:?}"));
}

/// The server received this text as it is.
fn passed(stage: &Stage, sql: &str) -> bool {
    stage.received().iter().any(|received| received == sql)
}

fn the_second_write_of_any_session_asks_nothing(major: u32) {
    let mut stage = stage(major, "second");
    stage.direct(TABLE);
    let texts = [
        "UPDATE t SET n = 1 WHERE customer = 5",
        "UPDATE t SET n = 1 WHERE customer = 5 AND at < now() - interval '1 day'",
        "UPDATE t SET n = 2 WHERE id = (SELECT id FROM t WHERE n = 0 ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING id",
        "WITH q AS (SELECT id FROM t WHERE n = 0 LIMIT 3) UPDATE t SET n = 1 FROM q WHERE q.id = t.id",
        "UPDATE t AS o SET n = v.n FROM (VALUES (1, 7), (2, 8)) v(id, n) WHERE o.id = v.id",
        "DELETE FROM t WHERE at < now() - interval '30 days'",
        "UPDATE t SET n = 3 WHERE id = ANY(ARRAY[1, 2, 3])",
        "DELETE FROM t WHERE customer = 100000",
    ];
    runs(async {
        let first = stage.connect().await;
        for text in texts {
            send(&first.client, text).await;
        }
        stage.mark();
        let second = stage.connect().await;
        for text in texts {
            // Each as the first of its session.
            send(&second.client, text).await;
        }
        assert_eq!(questions(&stage), 0, "{:#?}", stage.received());
        // Other literals, but where the planner must be asked.
        stage.mark();
        send(&second.client, &texts[0].replace("= 5", "= 6")).await;
        send(&second.client, &texts[6].replace("2, 3", "4, 5")).await;
        assert_eq!(questions(&stage), 0, "{:#?}", stage.received());
        send(&second.client, &texts[5].replace("30", "31")).await;
        assert_eq!(questions(&stage), 1, "{:#?}", stage.received());
        // Prepared.
        let client = &second.client;
        let prepared = client.prepare("UPDATE t SET n = 9 WHERE customer = $1").await.unwrap();
        client.execute(&prepared, &[&7]).await.unwrap();
        stage.mark();
        for value in 8..12 {
            assert_eq!(client.execute(&prepared, &[&value]).await.unwrap(), 10);
        }
        assert_eq!(questions(&stage), 0, "{:#?}", stage.received());
    });
}

fn a_list_is_as_long_as_its_message(major: u32) {
    let mut stage = stage(major, "list");
    stage.direct(TABLE);
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        let sql = "UPDATE t SET n = 1 WHERE id = ANY($1)";
        let prepared = client.prepare(sql).await.unwrap();
        let few: Vec<i64> = (1..5).collect();
        for _ in 0..2 {
            assert_eq!(client.execute(&prepared, &[&few]).await.unwrap(), 4);
        }
        stage.mark();
        let many: Vec<i64> = (1..1_000).collect();
        assert_eq!(client.execute(&prepared, &[&many]).await.unwrap(), 999);
        assert!(!passed(&stage, sql), "{:#?}", stage.received());
        // As a string.
        let text = |ids: &[i64]| {
            let ids: Vec<String> = ids.iter().map(i64::to_string).collect();
            format!("UPDATE t SET n = 2 WHERE id = ANY('{{{}}}'::bigint[])", ids.join(","))
        };
        send(client, &text(&few)).await;
        send(client, &text(&few)).await;
        stage.mark();
        send(client, &text(&many)).await;
        assert!(!passed(&stage, &text(&many)), "{:#?}", stage.received());
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE n = 2"), 999);
    });
}

fn a_limit_is_no_literal(major: u32) {
    let mut stage = stage(major, "limit");
    stage.direct(TABLE);
    runs(async {
        let connection = stage.connect().await;
        let sql = |limit: u32| format!("DELETE FROM t WHERE id IN (SELECT id FROM t WHERE n = 0 LIMIT {limit})");
        for _ in 0..2 {
            send(&connection.client, &sql(5)).await;
        }
        stage.mark();
        let large = connection.client.simple_query(&sql(2_000)).await;
        assert!(large.is_err(), "{large:?}");
        assert!(!passed(&stage, &sql(2_000)));
        assert_eq!(stage.number("SELECT count(*) FROM t"), 2_990);
    });
}

fn a_correlated_sub_select_bounds_nothing(major: u32) {
    let mut stage = stage(major, "correlated");
    stage.direct(TABLE);
    stage.direct("CREATE TABLE other (other_id bigint); INSERT INTO other VALUES (1); ANALYZE other");
    runs(async {
        let connection = stage.connect().await;
        for sql in [
            // There is no other.id: it is t's own, of every row.
            "DELETE FROM t WHERE id IN (SELECT id FROM other LIMIT 5)",
            "DELETE FROM t WHERE id = (SELECT id FROM other LIMIT 1)",
            "DELETE FROM t WHERE id = (SELECT t.id FROM other o LIMIT 1)",
        ] {
            stage.mark();
            let _ = connection.client.simple_query(sql).await;
            // The planner was asked, whatever it expects.
            let received = stage.received();
            assert!(
                received.iter().any(|other| other.starts_with("EXPLAIN")),
                "{received:#?}"
            );
        }
    });
}

fn a_table_that_grew(major: u32) {
    let mut stage = stage(major, "grew");
    stage.direct("CREATE TABLE t (id bigint PRIMARY KEY, customer integer, n integer NOT NULL DEFAULT 0); INSERT INTO t SELECT i, 5 FROM generate_series(1, 20) i; ANALYZE t");
    runs(async {
        let (one, two) = (stage.connect().await, stage.connect().await);
        let sql = "UPDATE t SET n = 1 WHERE customer = 5";
        let prepared = one
            .client
            .prepare("UPDATE t SET n = 1 WHERE customer = $1")
            .await
            .unwrap();
        for _ in 0..2 {
            send(&one.client, sql).await;
            assert_eq!(one.client.execute(&prepared, &[&5]).await.unwrap(), 20);
        }
        // By another session, through the proxy.
        send(
            &two.client,
            "INSERT INTO t SELECT i, 5 FROM generate_series(21, 3000) i",
        )
        .await;
        stage.direct("ANALYZE t");
        stage.mark();
        send(&one.client, sql).await;
        assert!(!passed(&stage, sql), "{:#?}", stage.received());
        assert_eq!(one.client.execute(&prepared, &[&5]).await.unwrap(), 3_000);
        assert!(
            !passed(&stage, "UPDATE t SET n = 1 WHERE customer = $1"),
            "{:#?}",
            stage.received()
        );
        // Past the proxy.
        stage.direct("TRUNCATE t; INSERT INTO t SELECT i, 5 FROM generate_series(1, 20) i; ANALYZE t");
        tokio::time::sleep(NOTICED).await;
        send(&one.client, sql).await;
        assert_eq!(one.client.execute(&prepared, &[&5]).await.unwrap(), 20);
        stage.direct("INSERT INTO t SELECT i, 5 FROM generate_series(21, 3000) i; ANALYZE t");
        tokio::time::sleep(NOTICED).await;
        stage.mark();
        send(&one.client, sql).await;
        assert!(!passed(&stage, sql), "{:#?}", stage.received());
        assert_eq!(one.client.execute(&prepared, &[&5]).await.unwrap(), 3_000);
        assert!(
            !passed(&stage, "UPDATE t SET n = 1 WHERE customer = $1"),
            "{:#?}",
            stage.received()
        );
    });
}

fn a_key_that_somebody_dropped(major: u32) {
    let mut stage = stage(major, "key");
    stage.direct(TABLE);
    runs(async {
        let (one, two) = (stage.connect().await, stage.connect().await);
        let sql = "UPDATE t SET n = n + 1 WHERE id = 5";
        for _ in 0..2 {
            send(&one.client, sql).await;
        }
        // Within a transaction, that ends later than the change: what is learnt meanwhile is of before.
        two.client
            .batch_execute("BEGIN; ALTER TABLE t DROP CONSTRAINT t_pkey")
            .await
            .unwrap();
        two.client
            .batch_execute("UPDATE t SET id = 5 WHERE customer = 1; COMMIT")
            .await
            .unwrap();
        stage.direct("UPDATE t SET id = 5; CREATE INDEX ON t (id); ANALYZE t");
        stage.mark();
        let answer = one.client.simple_query(sql).await;
        assert!(!passed(&stage, sql), "{answer:?} {:#?}", stage.received());
        // Past the proxy.
        stage.direct("DELETE FROM t WHERE ctid <> (SELECT min(ctid) FROM t); ALTER TABLE t ADD PRIMARY KEY (id)");
        tokio::time::sleep(NOTICED).await;
        for _ in 0..2 {
            send(&one.client, sql).await;
        }
        stage.direct("ALTER TABLE t DROP CONSTRAINT t_pkey; INSERT INTO t (id) SELECT 5 FROM generate_series(1, 3000); ANALYZE t");
        tokio::time::sleep(NOTICED).await;
        stage.mark();
        let answer = one.client.simple_query(sql).await;
        assert!(!passed(&stage, sql), "{answer:?} {:#?}", stage.received());
    });
}

fn names_that_a_function_moved(major: u32) {
    let mut stage = stage(major, "moved");
    stage.direct(TABLE);
    stage.direct(
        "CREATE SCHEMA big; CREATE TABLE big.t (id bigint, customer integer, n integer); INSERT INTO big.t SELECT 5, 5, 0 FROM generate_series(1, 3000);
         CREATE INDEX ON big.t (customer); ANALYZE big.t;
         CREATE FUNCTION go(path text) RETURNS text LANGUAGE sql AS $$ SELECT set_config('search_path', path, false) $$;
         CREATE FUNCTION there() RETURNS integer LANGUAGE sql SET search_path = big AS 'SELECT 1'",
    );
    runs(async {
        let sql = "UPDATE t SET n = 1 WHERE customer = 5";
        for moves in [
            "SELECT public.go('big, public')",
            "SELECT public.go ('big, public') FROM t LIMIT 1",
            "SET search_path = big, public",
        ] {
            let connection = stage.connect().await;
            let client = &connection.client;
            for _ in 0..2 {
                send(client, sql).await;
            }
            send(client, "SELECT public.there()").await;
            send(client, sql).await;
            client.simple_query(moves).await.unwrap();
            stage.mark();
            let answer = client.simple_query(sql).await;
            assert!(!passed(&stage, sql), "{moves}: {answer:?} {:#?}", stage.received());
        }
        // Prepared long ago.
        let connection = stage.connect().await;
        let client = &connection.client;
        let go = client.prepare("SELECT go($1)").await.unwrap();
        client.query(&go, &[&"public"]).await.unwrap();
        let prepared = client.prepare("UPDATE t SET n = 1 WHERE customer = $1").await.unwrap();
        for _ in 0..2 {
            assert_eq!(client.execute(&prepared, &[&5]).await.unwrap(), 10);
            send(client, sql).await;
        }
        client.query(&go, &[&"big, public"]).await.unwrap();
        stage.mark();
        let answer = client.simple_query(sql).await;
        assert!(!passed(&stage, sql), "{answer:?} {:#?}", stage.received());
        // A temporary table hides the other one.
        client.query(&go, &[&"public"]).await.unwrap();
        send(client, sql).await;
        client
            .batch_execute("CREATE TEMP TABLE t AS SELECT * FROM big.t")
            .await
            .unwrap();
        let other = stage.connect().await;
        stage.mark();
        send(&other.client, sql).await;
        assert!(passed(&stage, sql));
    });
}

fn other_values_are_not_the_same(major: u32) {
    let mut stage = stage(major, "values");
    stage.direct(TABLE);
    stage.direct("UPDATE t SET customer = 7 WHERE id > 1000; ANALYZE t");
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        let prepared = client.prepare("UPDATE t SET n = 1 WHERE customer = $1").await.unwrap();
        for _ in 0..3 {
            send(client, "UPDATE t SET n = 1 WHERE customer = 5").await;
            assert_eq!(client.execute(&prepared, &[&5]).await.unwrap(), 10);
        }
        stage.mark();
        let sql = "UPDATE t SET n = 1 WHERE customer = 7";
        send(client, sql).await;
        assert_eq!(client.execute(&prepared, &[&7]).await.unwrap(), 2_010);
        assert!(
            !passed(&stage, sql) && !passed(&stage, "UPDATE t SET n = 1 WHERE customer = $1"),
            "{:#?}",
            stage.received()
        );
        // A MERGE and a WITH.
        let with = |customer: u32| {
            format!("WITH d AS (DELETE FROM t WHERE customer = {customer} RETURNING *) SELECT count(*) FROM d")
        };
        send(client, &with(6)).await;
        stage.mark();
        let error = client.simple_query(&with(7)).await.unwrap_err();
        assert_eq!(
            error.code(),
            Some(&SqlState::OBJECT_NOT_IN_PREREQUISITE_STATE),
            "{error:?}"
        );
        assert_eq!(stage.number("SELECT count(*) FROM t WHERE customer = 7"), 2_010);
    });
}

fn an_own_operator_is_no_equality(major: u32) {
    let mut stage = stage(major, "operator");
    stage.direct(TABLE);
    stage.direct(
        "CREATE FUNCTION always(bigint, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
         CREATE OPERATOR = (LEFTARG = bigint, RIGHTARG = text, FUNCTION = always)",
    );
    runs(async {
        let connection = stage.connect().await;
        let sql = "UPDATE t SET n = 1 WHERE id = '5'::text";
        stage.mark();
        let answer = connection.client.simple_query(sql).await;
        assert!(!passed(&stage, sql), "{answer:?} {:#?}", stage.received());
    });
}

fn refusals_are_counted(major: u32) {
    let stage = stage(major, "counted");
    stage.direct(TABLE);
    stage.direct(
        "CREATE TABLE twice (id bigint PRIMARY KEY, email text);
         INSERT INTO twice SELECT i, 'm' || i FROM generate_series(1, 3000) i; INSERT INTO twice SELECT i, 'm' || i - 3000 FROM generate_series(3001, 3025) i;
         ANALYZE twice; CREATE TABLE tiny (id int PRIMARY KEY, a int); INSERT INTO tiny SELECT i FROM generate_series(1, 20) i;
         CREATE VIEW v1 AS SELECT x.* FROM tiny x, tiny y WHERE x.id = y.id;
         CREATE RULE through AS ON UPDATE TO v1 DO INSTEAD UPDATE tiny SET a = NEW.a WHERE id = OLD.id",
    );
    let dedupe = [
        "DELETE FROM twice WHERE id IN (SELECT id FROM (SELECT id, row_number() OVER (PARTITION BY email ORDER BY id) r FROM twice) x WHERE r > 1)",
        "DELETE FROM twice a USING twice b WHERE a.id > b.id AND a.email = b.email",
        "DELETE FROM twice WHERE id NOT IN (SELECT min(id) FROM twice GROUP BY email)",
        "DELETE FROM twice a WHERE EXISTS (SELECT FROM twice b WHERE b.email = a.email AND b.id < a.id)",
        "WITH d AS (SELECT id, row_number() OVER (PARTITION BY email ORDER BY id) r FROM twice) DELETE FROM twice USING d WHERE d.id = twice.id AND d.r > 1",
    ];
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        for sql in dedupe {
            // Alone and in a transaction, simple and extended.
            assert_eq!(
                client
                    .execute(sql, &[])
                    .await
                    .unwrap_or_else(|e| panic!("{sql}: {e:?}")),
                25,
                "{sql}"
            );
            stage.direct("INSERT INTO twice SELECT i, 'm' || i - 3000 FROM generate_series(3001, 3025) i");
            client.batch_execute("BEGIN").await.unwrap();
            send(client, sql).await;
            client.batch_execute("ROLLBACK").await.unwrap();
        }
        send(client, "UPDATE v1 SET a = 1").await;
        assert_eq!(stage.number("SELECT count(*) FROM tiny WHERE a = 1"), 20);
        // What really is large is refused as before, and told truly.
        let sql = "DELETE FROM twice a USING twice b WHERE a.id = b.id";
        let error = client.simple_query(sql).await.unwrap_err();
        let report = error.as_db_error().unwrap();
        assert!(report.message().contains("more than 200 rows of twice"), "{report:?}");
        assert!(
            !report.hint().unwrap_or_default().contains("outside a transaction"),
            "{report:?}"
        );
        client.batch_execute("BEGIN").await.unwrap();
        let error = client.simple_query("UPDATE t SET n = 1").await.unwrap_err();
        let report = error.as_db_error().unwrap();
        assert!(
            report.hint().unwrap_or_default().contains("outside a transaction"),
            "{report:?}"
        );
        client.batch_execute("ROLLBACK").await.unwrap();
        assert_eq!(stage.number("SELECT count(*) FROM twice"), 3_025);
    });
}

/// A small generator, so that a failure can be played again.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % below
    }
}

/// Random tables, statistics, literals and events between them: what touches more than rows_max is judged anew each time.
fn nothing_large_passes_by_what_is_remembered(major: u32) {
    let seed = std::env::var("LOCKKEEPER_SEED").ok().and_then(|s| s.parse().ok());
    let seed = seed.unwrap_or_else(|| u64::from(std::process::id()) * 7_919 + u64::from(major));
    println!("LOCKKEEPER_SEED={seed}");
    let mut dice = Dice(seed.max(1));
    let mut stage = stage(major, "random");
    stage.direct("CREATE SCHEMA one; CREATE SCHEMA two");
    let mut remembered = 0;
    let mut large = 0;
    runs(async {
        for _ in 0..6 {
            for schema in ["one", "two"] {
                let (rows, values) = (dice.roll(2_500), dice.roll(400) + 1);
                let spread = match dice.roll(3) {
                    0 => format!("i % {values}"),
                    1 => format!("CASE WHEN i % 3 = 0 THEN 1 ELSE i % {values} END"),
                    _ => format!("(i * i) % {values}"),
                };
                let key = ["PRIMARY KEY", ""][dice.roll(2) as usize];
                let analyze = ["ANALYZE", "SELECT count(*) FROM"][dice.roll(2) as usize];
                stage.direct(&format!(
                    "DROP TABLE IF EXISTS {schema}.t; CREATE TABLE {schema}.t (id int {key}, a int, b int, n int);
                     INSERT INTO {schema}.t SELECT i, {spread}, i % 50, 0 FROM generate_series(1, {rows}) i; CREATE INDEX ON {schema}.t (a); {analyze} {schema}.t"
                ));
            }
            let sessions = [stage.connect().await, stage.connect().await];
            for session in &sessions {
                send(&session.client, "SET search_path = one").await;
            }
            let mut path = ["one", "one"];
            for _ in 0..30 {
                let which = dice.roll(2) as usize;
                let client = &sessions[which].client;
                let literal = dice.roll(12);
                match dice.roll(12) {
                    0 => {
                        let sql = format!(
                            "INSERT INTO t SELECT 100000 + i, {literal}, {literal}, 0 FROM generate_series(1, {}) i ON CONFLICT DO NOTHING",
                            dice.roll(700)
                        );
                        send(client, &sql).await;
                    }
                    1 => send(client, "ANALYZE t").await,
                    2 => {
                        path[which] = ["one", "two"][dice.roll(2) as usize];
                        send(client, &format!("SET search_path = {}", path[which])).await;
                    }
                    3 => {
                        let sql = format!(
                            "SET lockkeeper.override = 'large-write: a test'; ALTER TABLE t DROP CONSTRAINT IF EXISTS t_pkey; UPDATE t SET id = {literal} WHERE b < {}",
                            dice.roll(30)
                        );
                        let _ = client.simple_query(&sql).await;
                        // The planner's statistics are a ground too, which is as good as they are.
                        send(client, "ANALYZE t").await;
                        send(client, "SET lockkeeper.override = ''").await;
                    }
                    _ => {}
                }
                let kind = dice.roll(10) as usize;
                for literal in [literal, dice.roll(12)] {
                    let conditions = [
                        format!("a = {literal}"),
                        format!("a = {literal} AND b < {}", dice.roll(50)),
                        format!("id = {literal}"),
                        format!("id IN ({literal}, {}, 5)", literal + 1),
                        format!("a = ANY(ARRAY[{literal}, {literal}])"),
                        format!("a = ANY('{{{literal}, 3}}'::int[])"),
                        format!("id = (SELECT id FROM t WHERE a = {literal} LIMIT 1)"),
                        format!(
                            "id IN (SELECT id FROM t WHERE b = {literal} ORDER BY id LIMIT {})",
                            [3, 1_000][dice.roll(2) as usize]
                        ),
                        format!("b < {literal}"),
                        format!("a IN (SELECT x.b FROM t x WHERE x.a = {literal} ORDER BY x.id LIMIT 2)"),
                    ];
                    let condition = &conditions[kind];
                    let sql = format!("UPDATE t SET n = n + 1 WHERE {condition}");
                    let there = condition.replace("FROM t", &format!("FROM {}.t", path[which]));
                    let meant = stage.number(&format!("SELECT count(*) FROM {}.t WHERE {there}", path[which]));
                    // What sessions have inserted the server itself learns seconds later: asked anew, it would say so few as well.
                    let unknown = meant > 200 && {
                        let plan =
                            stage.direct(&format!("EXPLAIN UPDATE {}.t SET n = n + 1 WHERE {there}", path[which]));
                        let estimates = plan.split("rows=").skip(1).map(|rest| rest.split(' ').next().unwrap());
                        let of_update = estimates.map(|rows| rows.parse::<u64>().unwrap()).nth(1);
                        of_update.unwrap_or_else(|| panic!("{plan}")) <= 200
                    };
                    stage.mark();
                    let answer = client.simple_query(&sql).await;
                    let received = stage.received();
                    let as_it_is = received.contains(&sql);
                    let asked = received.iter().any(|other| {
                        other.starts_with("SELECT pg_catalog.encode")
                            || other.starts_with("EXPLAIN")
                            || other.contains("lockkeeper")
                    });
                    if as_it_is && !asked {
                        remembered += 1;
                        assert!(
                            meant <= 200 || unknown,
                            "seed {seed}: {meant} rows by what was remembered: {sql}: {received:#?} {answer:?}"
                        );
                    }
                    large += i32::from(meant > 200);
                }
            }
        }
    });
    assert!(
        remembered > 5 && large > 5,
        "seed {seed}: {remembered} remembered, {large} large"
    );
}

/// ON CONFLICT DO UPDATE of what a set in VALUES brings.
fn a_row_of_values_may_be_many(major: u32) {
    let stage = stage(major, "sets");
    stage.direct(
        "CREATE TABLE many (id int PRIMARY KEY, n int); INSERT INTO many SELECT i, 0 FROM generate_series(1, 5000) i; ANALYZE many;
         CREATE FUNCTION mine() RETURNS SETOF int LANGUAGE sql AS 'SELECT generate_series(1, 5000)'",
    );
    for set in [
        "generate_series(1, 5000)",
        "pg_catalog.generate_series(1, 5000)",
        "mine()",
    ] {
        let sql = format!("INSERT INTO many VALUES ({set}, 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n");
        let ran = stage.psql(&format!("{sql};\n"));
        assert!(ran.stderr.contains("lockkeeper: "), "{major} {set}: {ran:?}");
        assert_eq!(
            stage.direct("SELECT count(*) FROM many WHERE n <> 0"),
            "0",
            "{major} {set}"
        );
    }
    let sql = "INSERT INTO many VALUES (1, length('a')), (2, 1) ON CONFLICT (id) DO UPDATE SET n = excluded.n";
    assert_eq!(stage.psql(&format!("{sql};\n")).ok(), "INSERT 0 2\n");
}

/// The command tag is a SELECT's: what makes a table of a query is known by its text.
fn a_table_that_a_query_makes(major: u32) {
    let mut stage = stage(major, "made");
    stage.direct(TABLE);
    stage.direct("CREATE SCHEMA front");
    let sql = "UPDATE t SET n = 7";
    let makes = [
        "SELECT * INTO TEMP t FROM t LIMIT 0",
        "SELECT 1; WITH x AS (SELECT * FROM t LIMIT 0) SELECT id, n INTO pg_temp.t FROM x UNION SELECT 1, 1",
        "CREATE TEMP TABLE t AS SELECT * FROM t LIMIT 0",
        "EXPLAIN ANALYZE CREATE TEMPORARY TABLE t AS SELECT * FROM t LIMIT 0",
        "BEGIN; CREATE TEMP TABLE t ON COMMIT DROP AS SELECT * FROM t LIMIT 0",
    ];
    runs(async {
        for (makes, prepared) in makes.iter().flat_map(|makes| [(*makes, false), (*makes, true)]) {
            if prepared && (makes.contains(';') || makes.starts_with("EXPLAIN")) {
                continue;
            }
            let (one, other) = (stage.connect().await, stage.connect().await);
            send(&one.client, "UPDATE t SET n = 1 WHERE id = 1").await;
            send(&other.client, "UPDATE t SET n = 1 WHERE id = 2").await;
            match prepared {
                true => drop(one.client.execute(makes, &[]).await.expect("it is made")),
                false => send(&one.client, makes).await,
            }
            send(&one.client, sql).await;
            send(&one.client, sql).await;
            stage.mark();
            let answer = other.client.simple_query(sql).await;
            assert!(!passed(&stage, sql), "{makes}: {answer:?} {:#?}", stage.received());
        }
        // Of another schema, in front of the one that is meant now.
        let (one, other) = (stage.connect().await, stage.connect().await);
        let sql = "UPDATE t SET n = 8 WHERE id = 5";
        for session in [&one.client, &other.client] {
            send(session, "SET search_path = front, public").await;
        }
        for makes in [
            "CREATE TABLE front.t AS SELECT 5 AS id, 0 AS n FROM generate_series(1, 1000)",
            "SELECT 5 AS id, 0 AS n INTO front.t FROM generate_series(1, 1000)",
        ] {
            for _ in 0..3 {
                send(&other.client, sql).await;
            }
            send(&one.client, makes).await;
            stage.mark();
            let answer = other.client.simple_query(sql).await;
            let received = stage.received();
            assert!(
                received.iter().any(|sql| sql.starts_with("SELECT pg_catalog.encode")),
                "{makes}: {answer:?} {received:#?}"
            );
            stage.direct("DROP TABLE front.t");
            send(&one.client, "COMMENT ON TABLE t IS 'so that it is asked anew'").await;
        }
    });
}

fn a_temporary_table_that_went(major: u32) {
    let mut stage = stage(major, "went");
    stage.direct(TABLE);
    stage.direct("CREATE FUNCTION gone() RETURNS void LANGUAGE sql AS 'DROP TABLE pg_temp.t'");
    let sql = "UPDATE t SET n = 7";
    runs(async {
        for goes in ["DROP TABLE t", "DISCARD TEMP", "SELECT gone()"] {
            let connection = stage.connect().await;
            let client = &connection.client;
            send(client, "CREATE TEMP TABLE t (id integer, n integer)").await;
            for _ in 0..3 {
                send(client, sql).await;
            }
            send(client, goes).await;
            stage.mark();
            let answer = client.simple_query(sql).await;
            assert!(!passed(&stage, sql), "{goes}: {answer:?} {:#?}", stage.received());
        }
    });
}

fn what_a_session_has_set(major: u32) {
    let mut stage = stage(major, "set");
    stage.direct(TABLE);
    stage.direct(
        "UPDATE t SET customer = 7 WHERE id > 1000; ANALYZE t;
         CREATE VIEW seen AS SELECT * FROM t WHERE customer = current_setting('app.tenant')::integer;
         CREATE TABLE own AS SELECT * FROM t; ALTER TABLE own ENABLE ROW LEVEL SECURITY;
         CREATE POLICY p ON own USING (customer = current_setting('app.tenant')::integer); ANALYZE own;
         CREATE ROLE tenant LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO tenant",
    );
    runs(async {
        for sql in [
            "UPDATE t SET n = 1 WHERE customer = current_setting('app.tenant')::integer",
            "UPDATE seen SET n = 1",
            "UPDATE own SET n = 1 WHERE n < 100",
            "UPDATE t SET n = 2 WHERE n < 100 AND id IN (SELECT s.id FROM seen s WHERE s.n < 100)",
            "WITH d AS (DELETE FROM seen WHERE n < 100 RETURNING *) SELECT count(*) FROM d",
        ] {
            let (small, large) = (stage.connect().await, stage.connect().await);
            for (session, tenant) in [(&small, 5), (&large, 7)] {
                send(&session.client, "SET ROLE tenant").await;
                send(&session.client, &format!("SET app.tenant = {tenant}")).await;
            }
            for _ in 0..2 {
                let _ = small.client.simple_query(sql).await;
            }
            stage.mark();
            let answer = large.client.simple_query(sql).await;
            // The planner was asked in this session.
            let received = stage.received();
            assert!(
                received.iter().any(|other| other.starts_with("EXPLAIN")),
                "{sql}: {answer:?} {received:#?}"
            );
        }
        // A backslash is read in two ways.
        let (one, two) = (stage.connect().await, stage.connect().await);
        let sql = r"UPDATE t SET n = 3 WHERE at::text = '\' AND at::text = ' OR true --'";
        for _ in 0..2 {
            send(&one.client, sql).await;
        }
        send(&two.client, "SET standard_conforming_strings = off").await;
        stage.mark();
        let answer = two.client.simple_query(sql).await;
        assert!(!passed(&stage, sql), "{answer:?} {:#?}", stage.received());
    });
}

fn an_execute_is_another_in_each_session(major: u32) {
    let stage = stage(major, "execute");
    stage.direct(TABLE);
    runs(async {
        let (one, two) = (stage.connect().await, stage.connect().await);
        send(&one.client, "PREPARE p AS UPDATE t SET n = 1 WHERE id = 5").await;
        send(&two.client, "PREPARE p AS UPDATE t SET n = 1 WHERE n < 100").await;
        for _ in 0..2 {
            send(&one.client, "EXECUTE p").await;
        }
        let answer = two.client.simple_query("EXECUTE p").await;
        assert!(answer.is_err(), "{answer:?}");
    });
}

fn what_a_function_did(major: u32) {
    let mut stage = stage(major, "did");
    stage.direct("CREATE TABLE t (id bigint, customer integer, n integer DEFAULT 0); INSERT INTO t SELECT i, 5 FROM generate_series(1, 20) i; ANALYZE t;
        CREATE FUNCTION load() RETURNS void LANGUAGE sql AS 'INSERT INTO t SELECT i, 5 FROM generate_series(21, 3000) i';
        CREATE PROCEDURE loads() LANGUAGE sql AS 'INSERT INTO t SELECT i, 5 FROM generate_series(21, 3000) i'");
    let sql = "UPDATE t SET n = 1 WHERE customer = 5";
    runs(async {
        for loads in [
            "SELECT load()",
            "CALL loads()",
            "WITH i AS (INSERT INTO t SELECT i, 5 FROM generate_series(21, 3000) i RETURNING id) SELECT count(*) FROM i",
        ] {
            let connection = stage.connect().await;
            let client = &connection.client;
            for _ in 0..2 {
                send(client, sql).await;
            }
            send(client, loads).await;
            stage.mark();
            let answer = client.simple_query(sql).await;
            assert!(!passed(&stage, sql), "{loads}: {answer:?} {:#?}", stage.received());
            stage.direct("TRUNCATE t; INSERT INTO t SELECT i, 5 FROM generate_series(1, 20) i; ANALYZE t");
            tokio::time::sleep(NOTICED).await;
        }
    });
}

fn a_change_beside_a_temporary_one(major: u32) {
    let mut stage = stage(major, "beside");
    stage.direct(TABLE);
    let sql = "UPDATE t SET n = 1 WHERE id = 5";
    runs(async {
        let (one, two) = (stage.connect().await, stage.connect().await);
        send(&two.client, "BEGIN").await;
        send(&two.client, "ALTER TABLE t DROP CONSTRAINT t_pkey").await;
        send(&two.client, "CREATE TEMP TABLE x (a integer)").await;
        // Waits for the other one, and was asked before its COMMIT.
        let waits = one.client.simple_query(sql);
        let commits = async {
            tokio::time::sleep(Duration::from_millis(300)).await;
            send(&two.client, "COMMIT").await;
        };
        let (answer, ()) = tokio::join!(waits, commits);
        answer.unwrap();
        stage.direct("UPDATE t SET id = 5; ANALYZE t");
        stage.mark();
        let answer = one.client.simple_query(sql).await;
        assert!(!passed(&stage, sql), "{answer:?} {:#?}", stage.received());
    });
}

fn rows_that_a_pipeline_brings(major: u32) {
    let mut stage = stage(major, "pipeline");
    stage.direct("CREATE TABLE t (id bigint, customer integer, n integer DEFAULT 0); INSERT INTO t SELECT i, 5 FROM generate_series(1, 20) i; ANALYZE t");
    let sql = "UPDATE t SET n = 1 WHERE customer = $1";
    runs(async {
        let connection = stage.connect().await;
        let client = &connection.client;
        let insert = client
            .prepare("INSERT INTO t SELECT i, 5 FROM generate_series(1, 3000) i")
            .await
            .unwrap();
        let update = client.prepare(sql).await.unwrap();
        for _ in 0..2 {
            assert_eq!(client.execute(&update, &[&5]).await.unwrap(), 20);
        }
        stage.mark();
        let (inserted, updated) = tokio::join!(client.execute(&insert, &[]), client.execute(&update, &[&5]));
        assert_eq!(inserted.unwrap(), 3_000);
        assert!(!passed(&stage, sql), "{updated:?} {:#?}", stage.received());
    });
}

/// Whatever is sent first in a statement's place.
fn read_only_it_is_refused_in_the_servers_words(major: u32) {
    let stage = Stage::with(major, "read_only", POLICY);
    stage.direct(
        "CREATE TABLE r (id int PRIMARY KEY, n int); INSERT INTO r SELECT g, g FROM generate_series(1, 1000) g;
         CREATE TABLE u (n int); INSERT INTO u SELECT g FROM generate_series(1, 1000) g; CREATE INDEX by_n ON r (n); ANALYZE",
    );
    let before = stage.schema();
    let refused = |port: u16, sql: &str| {
        let mut session = Raw::connect(port, &stage.database);
        session.query("SET default_transaction_read_only = on");
        let answer = session.query(sql);
        (error_field(&answer, b'C'), error_field(&answer, b'M'))
    };
    for sql in [
        "UPDATE r SET n = n + 1",
        "DELETE FROM r",
        "UPDATE r SET n = n + 1 RETURNING id",
        "CREATE INDEX ON r (id, n)",
        "ALTER TABLE r ADD CHECK (n > 0)",
        "ALTER TABLE r ALTER n SET NOT NULL",
        "ALTER TABLE u ADD FOREIGN KEY (n) REFERENCES r",
        "ALTER TABLE u ADD UNIQUE (n)",
        "ALTER TABLE r ALTER n SET DEFAULT 1",
        "DROP INDEX by_n",
        "REINDEX INDEX by_n",
        "DO $$ BEGIN ALTER TABLE r ADD m int; END $$",
        "COMMENT ON TABLE r IS 'x'",
        "CREATE VIEW seen AS SELECT 1",
        "ALTER INDEX by_n RENAME TO of_n",
        "CREATE TABLE next (id int REFERENCES r)",
        "DROP VIEW IF EXISTS seen",
        "GRANT SELECT ON r TO public",
    ] {
        let straight = refused(stage.cluster.port(), sql);
        assert!(
            straight.0.as_deref() == Some("25006") || sql.starts_with("REINDEX"),
            "{sql}: {straight:?}"
        );
        assert_eq!(refused(stage.port, sql), straight, "{sql}");
    }
    assert_eq!(stage.schema(), before);
}
