-- The statements that make empty stand-ins of the table {table} and of the tables at both ends of its foreign keys, with their names and persistence,
-- in order. The session's search_path is pg_catalog.
WITH t AS (
  SELECT c.*, format('%I.%I', '{schema}', c.relname) AS standin, CASE c.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END AS kind
  FROM pg_class c WHERE c.oid = {table}
), other AS (
  -- One for each name and persistence, whatever its schema.
  SELECT DISTINCT o.relname, o.relpersistence, k.conrelid = t.oid AS is_target, format('%I.%I', format('{schema}_%s', o.relpersistence), o.relname) AS standin,
    CASE o.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END AS kind
  FROM t JOIN pg_constraint k ON k.contype = 'f' AND (k.conrelid = t.oid OR k.confrelid = t.oid) AND k.conrelid <> k.confrelid
  JOIN pg_class o ON o.oid = CASE k.conrelid WHEN t.oid THEN k.confrelid ELSE k.conrelid END AND o.relpersistence IN ('p', 'u')
), made(step, num, sql) AS (
  SELECT 1, 0::int8, 'CREATE SCHEMA {schema}'
  UNION ALL
  SELECT 1, row_number() OVER (ORDER BY o.relpersistence), format('CREATE SCHEMA %I', format('{schema}_%s', o.relpersistence)) FROM (SELECT DISTINCT relpersistence FROM other) o
  UNION ALL
  SELECT 2, 0, format('CREATE %sTABLE %s (id int PRIMARY KEY)', t.kind, t.standin) FROM t
  UNION ALL
  SELECT 2, row_number() OVER (ORDER BY o.standin), format('CREATE %sTABLE %s (id int PRIMARY KEY)', o.kind, o.standin) FROM (SELECT DISTINCT kind, standin FROM other) o
  UNION ALL
  SELECT 3, row_number() OVER (ORDER BY o.standin, o.is_target), format('ALTER TABLE %s ADD FOREIGN KEY (id) REFERENCES %s',
    CASE WHEN o.is_target THEN t.standin ELSE o.standin END, CASE WHEN o.is_target THEN o.standin ELSE t.standin END) FROM t, other o
  UNION ALL
  SELECT 4, 0, format('CREATE PUBLICATION {schema} FOR TABLE ONLY %s', t.standin) FROM t WHERE EXISTS (SELECT FROM pg_publication_rel r WHERE r.prrelid = t.oid)
)
SELECT CASE WHEN has_database_privilege(current_database(), 'CREATE') THEN (SELECT jsonb_agg(m.sql ORDER BY m.step, m.num) FROM made m) ELSE '[]' END
FROM t WHERE t.relkind = 'r' AND t.relpersistence IN ('p', 'u')
