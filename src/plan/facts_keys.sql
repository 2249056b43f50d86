SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_agg(pg_catalog.json_build_object(
  'oid', c.oid::pg_catalog.int8,
  'kind', c.relkind,
  'has_jobs', EXISTS (SELECT FROM pg_catalog.pg_class j JOIN pg_catalog.pg_namespace n ON n.oid = j.relnamespace
    WHERE n.nspname = 'lockkeeper' AND j.relname = 'job'
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(j.oid, 'SELECT')),
  'persistence', c.relpersistence,
  -- The UPDATE or DELETE itself will wait for whatever makes pg_relation_size wait. With children, nobody calls it small.
  'bytes', CASE WHEN c.relkind = 'r' AND NOT c.relhassubclass THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0) ELSE 9223372036854775807 END,
  'indexes', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'valid', i.indisvalid,
    'unique', i.indisunique,
    'partial', i.indpred IS NOT NULL,
    'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.at)
      FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, at)
      LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
      WHERE k.at <= i.indnkeyatts)))
    FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique), '[]'::json)))::text, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
  ELSE 'UTF8' END), 'base64')
FROM pg_catalog.pg_class c
WHERE c.relname = {name} AND {visible}
