use super::read;
use super::touched::How;

/// What is used, both readers together; `!` in front where they differ.
#[track_caller]
fn check(sql: &str, expect: &str) {
    let read = read(sql);
    let uses = read.uses.expect(sql);
    let listed: Vec<String> = uses.listed().into_iter().collect();
    let mark = if read.differ { "!" } else { "" };
    assert_eq!(
        format!("{mark}{}", listed.join(" ")),
        expect,
        "{sql}\nonly the grammar: {:?}\nonly the second: {:?}",
        read.only_grammar,
        read.only_second
    );
}

#[test]
fn what_a_query_names_is_found_by_both() {
    check("SELECT v FROM users WHERE id = 1", ".id .v users");
    check(
        "SELECT u.v, count(*) FROM s.\"Users\" u GROUP BY 1",
        "s.Users s.Users.v",
    );
    check("SELECT U.Name FROM Users U", "users users.name");
    check(
        "SELECT * FROM users u JOIN orders USING (id)",
        ".id orders orders.* users users.*",
    );
    check(
        "SELECT u.* FROM users u, orders o WHERE o.x = 1",
        "orders orders.x users users.*",
    );
    check("SELECT row_to_json(u) FROM users u", ".u users users.*");
    check("SELECT * FROM a WHERE x IN (SELECT y FROM b)", ".x .y a a.* b");
    check("SELECT x.c FROM (SELECT c FROM t) x", ".c t");
    check("SELECT 1 FROM a NATURAL JOIN b", "a a.* b b.*");
    check("(SELECT a FROM t) UNION ALL SELECT b FROM u ORDER BY 1", ".a .b t u");
    check("SELECT lower(name)::text COLLATE \"C\" FROM users", ".name users");
    check(
        "SELECT a FROM t WHERE EXISTS (SELECT FROM u WHERE u.x = t.y)",
        ".a t t.y u u.x",
    );
    check("SELECT a FROM t FOR UPDATE OF t", ".a t");
}

#[test]
fn names_of_with_are_no_tables_where_they_stand_for_it() {
    check("WITH x AS (SELECT a FROM t) SELECT x.a FROM x", ".a t");
    check("WITH users AS (SELECT id FROM users) SELECT * FROM users", ".id users");
    check(
        "WITH RECURSIVE r AS (SELECT a FROM t UNION SELECT a FROM r) SELECT * FROM r",
        ".a t",
    );
    check(
        "WITH d AS (DELETE FROM t WHERE a = 1 RETURNING b) SELECT * FROM d",
        ".a .b t",
    );
}

#[test]
fn what_is_written_is_a_use() {
    check("INSERT INTO t (a, b) VALUES (1, DEFAULT)", "t t.a t.b");
    check("INSERT INTO t VALUES (1)", "t t.*");
    check("INSERT INTO t DEFAULT VALUES", "t");
    check("INSERT INTO t SELECT c FROM u", ".c t t.* u");
    check(
        "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) DO UPDATE SET b = excluded.c WHERE t.d > 1 RETURNING e",
        ".e t t.a t.b t.c t.d",
    );
    check("INSERT INTO t (a) VALUES (1) RETURNING *", "t t.* t.a");
    check(
        "UPDATE t SET a = z.b, (c, d) = (1, e) FROM z WHERE t.f = z.g",
        ".e t t.a t.c t.d t.f z z.b z.g",
    );
    // sqlparser takes ONLY for the table.
    check("UPDATE ONLY t SET a = 1", "!only only.a t t.a");
    check("DELETE FROM t USING z WHERE t.a = z.b RETURNING t.*", "t t.* t.a z z.b");
    check("COPY t (a, b) FROM STDIN", "t t.a t.b");
    check("COPY s.t TO STDOUT", "s.t s.t.*");
    check("COPY (SELECT a FROM t) TO STDOUT", ".a t");
    check(
        "MERGE INTO t USING s ON t.a = s.b WHEN MATCHED THEN UPDATE SET c = s.d WHEN NOT MATCHED THEN INSERT (e) VALUES (s.f)",
        "s s.b s.d s.f t t.a t.c t.e",
    );
}

#[test]
fn what_only_one_can_read_counts() {
    let only = read("SELECT a FROM ONLY (t) TABLESAMPLE system (1)");
    assert!(only.uses.is_some_and(|uses| uses.of("public", "t").next().is_some()));
    assert_eq!(read("SELEC a FROM t").uses, None);
    check("CREATE TABLE t (a int)", "");
    check("ALTER TABLE t ADD COLUMN b int", "");
}

#[test]
fn a_column_is_used_by_name_or_as_part_of_the_whole() {
    let uses = |sql: &str| read(sql).uses.expect(sql);
    let of = |sql: &str| uses(sql).of_column("public", "users", "name");
    assert_eq!(of("SELECT name FROM users"), Some(How::ByName));
    assert_eq!(of("SELECT name FROM public.users"), Some(How::ByName));
    assert_eq!(of("SELECT name FROM other.users"), None);
    assert_eq!(of("SELECT o.name FROM users u JOIN orders o ON o.u = u.id"), None);
    assert_eq!(
        of("SELECT name FROM users u JOIN orders o ON o.u = u.id"),
        Some(How::ByName)
    );
    assert_eq!(of("SELECT * FROM users"), Some(How::Whole));
    assert_eq!(of("SELECT id FROM users"), None);
    assert_eq!(of("SELECT u.name FROM users u"), Some(How::ByName));
    assert_eq!(of("SELECT \"Name\" FROM users"), None);
    assert_eq!(of("SELECT NAME FROM users"), Some(How::ByName));
}
