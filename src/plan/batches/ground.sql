SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_agg(pg_catalog.json_build_object(
  'oid', c.oid::pg_catalog.int8,
  'kind', c.relkind,
  'has_jobs', EXISTS (SELECT FROM pg_catalog.pg_class j JOIN pg_catalog.pg_namespace n ON n.oid = j.relnamespace
    WHERE n.nspname = 'lockkeeper' AND j.relname = 'job'
      AND pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(j.oid, 'SELECT')),
  'persistence', c.relpersistence,
  -- The UPDATE or DELETE itself will wait for whatever makes pg_relation_size wait. With children, nobody calls it small.
  'bytes', CASE WHEN c.relkind = 'r' AND NOT c.relhassubclass THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0) ELSE 9223372036854775807 END,
  'rows', CASE WHEN c.reltuples >= 0 AND c.relpages > 0 AND c.relkind = 'r' THEN c.reltuples END,
  'counted', CASE WHEN c.relkind = 'r' AND NOT c.relhassubclass AND c.reltuples > 0 AND c.relpages > 0 THEN
    -- What the cumulative statistics say counts the inserts of all sessions; but as live rows those of a session that goes on to VACUUM
    -- twice, so that what was inserted and not deleted is less. Where they are lost, as the planner does it; and sessions tell of what
    -- they wrote seconds later: what the table has grown by, beyond the dead rows that are known, may be rows.
    greatest(c.reltuples::pg_catalog.float8, CASE
      WHEN pg_catalog.pg_stat_get_live_tuples(c.oid) = 0 THEN 0
      WHEN pg_catalog.pg_stat_get_tuples_inserted(c.oid) - pg_catalog.pg_stat_get_tuples_deleted(c.oid) >= c.reltuples
      THEN least(pg_catalog.pg_stat_get_live_tuples(c.oid), pg_catalog.pg_stat_get_tuples_inserted(c.oid) - pg_catalog.pg_stat_get_tuples_deleted(c.oid))
      ELSE pg_catalog.pg_stat_get_live_tuples(c.oid) END,
      c.reltuples::pg_catalog.float8 * pg_catalog.pg_relation_size(c.oid) / (c.relpages::pg_catalog.float8 * pg_catalog.current_setting('block_size')::pg_catalog.float8)
        - pg_catalog.pg_stat_get_dead_tuples(c.oid)) END,
  -- By a rule, or a child's own rows, an UPDATE may mean more than it says. And by somebody's own =, which is not the equality of a
  -- type's order.
  'seen_by_session', c.relrowsecurity,
  'opaque', c.relhasrules OR (c.relkind = 'r' AND c.relhassubclass) OR EXISTS (SELECT FROM pg_catalog.pg_operator o WHERE o.oprname = '=' AND o.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_amop a WHERE a.amopopr = o.oid AND a.amopmethod = 403 AND a.amopstrategy = 3))
    OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.proname = 'unnest' AND p.oid >= 16384),
  'indexes', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'valid', i.indisvalid,
    'unique', i.indisunique,
    'partial', i.indpred IS NOT NULL,
    -- Of another collation or operator class it may tell values apart that the column's = does not.
    'columns', (SELECT pg_catalog.json_agg(CASE WHEN a.attcollation = i.indcollation[k.at - 1]
        AND (SELECT o.opcdefault FROM pg_catalog.pg_opclass o WHERE o.oid = i.indclass[k.at - 1]) THEN a.attname END ORDER BY k.at)
      FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, at)
      LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
      WHERE k.at <= i.indnkeyatts)))
    FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisunique), '[]'::json),
  'columns', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname, 'type_name', '', 'default', NULL, 'identity', '', 'generated', '',
      'not_null', a.attnotnull,
      'analyzed', p.attname IS NOT NULL))
    FROM pg_catalog.pg_attribute a
    LEFT JOIN (SELECT DISTINCT s.attname FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname) p ON p.attname = a.attname
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'::json),
  'statistics', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'column', s.attname, 'nulls', s.null_frac, 'distinct', s.n_distinct, 'commonest', s.most_common_freqs[1]))
    FROM pg_catalog.pg_stats s WHERE s.schemaname = n.nspname AND s.tablename = c.relname AND NOT s.inherited), '[]'::json)))::text, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
  ELSE 'UTF8' END), 'base64')
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relname = {name} AND {visible}
