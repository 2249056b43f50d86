SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_agg(pg_catalog.json_build_object(
  'oid', c.oid::pg_catalog.int8,
  'kind', c.relkind,
  'has_jobs', EXISTS (SELECT FROM pg_catalog.pg_class j JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) j.relnamespace
    WHERE n.nspname OPERATOR(pg_catalog.=) 'lockkeeper' AND j.relname OPERATOR(pg_catalog.=) 'job'
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(j.oid, 'SELECT')),
  'persistence', c.relpersistence,
  -- The UPDATE or DELETE itself will wait for whatever makes pg_relation_size wait. With children, nobody calls it small.
  'bytes', CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'r' AND NOT c.relhassubclass THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0::pg_catalog.int8) ELSE 9223372036854775807 END,
  'indexes', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'valid', i.indisvalid,
    'unique', i.indisunique,
    'partial', i.indpred IS NOT NULL,
    'columns', (SELECT pg_catalog.json_agg(a.attname ORDER BY k.at)
      FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, at)
      LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) i.indrelid AND a.attnum OPERATOR(pg_catalog.=) k.attnum
        AND k.attnum OPERATOR(pg_catalog.<>) 0::pg_catalog.int2
      WHERE k.at OPERATOR(pg_catalog.<=) i.indnkeyatts)))
    FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND i.indisunique), '[]'::pg_catalog.json)))::pg_catalog.text,
  CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64')
FROM pg_catalog.pg_class c
WHERE c.relname OPERATOR(pg_catalog.=) {name} AND {visible}
