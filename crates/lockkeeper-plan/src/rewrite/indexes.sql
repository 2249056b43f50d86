-- The statements that build the indexes of the table {table} on the table of the same name in the schema {new}, with the constraints,
-- comments and marks that are theirs: name, and statements in order. The session's search_path is pg_catalog.
WITH t AS (
  SELECT c.*, n.nspname, format('%I.%I', {new}, c.relname) AS new, c.relkind = 'p' OR {whole} AS whole FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table}
), i AS (
  SELECT i.*, ic.relname AS name, pg_get_indexdef(i.indexrelid) AS def,
    format('CREATE %sINDEX %I ON ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, ic.relname) AS head,
    coalesce((SELECT s.spcname FROM pg_tablespace s WHERE s.oid = ic.reltablespace), '') AS space,
    k.conname, k.contype, k.condeferrable, k.condeferred, k.oid AS conoid, pg_get_constraintdef(k.oid) AS condef,
    coalesce((to_jsonb(k) ->> 'conperiod')::bool, false) AS period
  FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class ic ON ic.oid = i.indexrelid
  LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid AND k.conrelid = t.oid AND k.contype IN ('p', 'u', 'x')
)
SELECT coalesce(jsonb_agg(jsonb_build_object('name', i.name, 'sql', (SELECT jsonb_agg(s.sql ORDER BY s.num) FROM (
    SELECT 1 AS num, format('SET LOCAL default_tablespace = %L', i.space) AS sql
    UNION ALL
    SELECT 2, CASE
      -- Of a partitioned table no index is taken over.
      WHEN i.contype = 'x' OR i.period OR t.whole AND i.contype IN ('p', 'u') THEN format('ALTER TABLE %s ADD CONSTRAINT %I %s', t.new, i.conname, i.condef)
      -- Its text is what the server writes: up to the table's name it can be foretold.
      ELSE i.head || t.new || substr(i.def, length(i.head || CASE t.relkind WHEN 'p' THEN 'ONLY ' ELSE '' END || format('%I.%I', t.nspname, t.relname)) + 1) END
    UNION ALL
    SELECT 3, format('ALTER TABLE ONLY %s ADD CONSTRAINT %I %s USING INDEX %I%s%s', t.new, i.conname,
      CASE i.contype WHEN 'p' THEN 'PRIMARY KEY' ELSE 'UNIQUE' END, i.name,
      CASE WHEN i.condeferrable THEN ' DEFERRABLE' ELSE '' END, CASE WHEN i.condeferred THEN ' INITIALLY DEFERRED' ELSE '' END)
    WHERE i.contype IN ('p', 'u') AND NOT i.period AND NOT t.whole
    UNION ALL
    SELECT 4, format('COMMENT ON INDEX %I.%I IS %L', {new}, i.name, obj_description(i.indexrelid, 'pg_class')) WHERE obj_description(i.indexrelid, 'pg_class') IS NOT NULL
    UNION ALL
    SELECT 5, format('COMMENT ON CONSTRAINT %I ON %s IS %L', i.conname, t.new, obj_description(i.conoid, 'pg_constraint')) WHERE obj_description(i.conoid, 'pg_constraint') IS NOT NULL
    UNION ALL
    SELECT 6, format('ALTER TABLE ONLY %s CLUSTER ON %I', t.new, i.name) WHERE i.indisclustered AND NOT t.whole
    UNION ALL
    SELECT 7, format('ALTER TABLE ONLY %s REPLICA IDENTITY USING INDEX %I', t.new, i.name) WHERE i.indisreplident AND t.relreplident = 'i'
    UNION ALL
    SELECT 7 + a.attnum, format('ALTER INDEX %I.%I ALTER COLUMN %s SET STATISTICS %s', {new}, i.name, a.attnum, a.attstattarget)
    FROM pg_attribute a WHERE a.attrelid = i.indexrelid AND a.attstattarget >= 0 AND NOT t.whole) s)) ORDER BY i.indisprimary DESC, i.name), '[]')
FROM t, i
