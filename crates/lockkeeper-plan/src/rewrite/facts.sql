-- What is known of one table: its columns, and the unique indexes whose columns name each row once. Filled in by `facts.rs`; the session's
-- search_path is pg_catalog. No row: there is no such table.
SELECT jsonb_build_object(
  'oid', c.oid::int8, 'schema', n.nspname, 'name', c.relname, 'owner', pg_get_userbyid(c.relowner),
  'rows', greatest(c.reltuples, 0)::int8,
  'bytes', pg_total_relation_size(c.oid), 'unlogged', c.relpersistence = 'u',
  'serial', (SELECT coalesce(jsonb_agg(DISTINCT d.refobjsubid), '[]') FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = c.oid AND d.deptype = 'a'),
  'columns', (SELECT coalesce(jsonb_agg(jsonb_build_object(
      'num', a.attnum, 'name', a.attname, 'type', format_type(a.atttypid, a.atttypmod), 'type_oid', a.atttypid::int8,
      'collation', CASE WHEN a.attcollation <> 0 THEN (SELECT format('%I.%I', cn.nspname, l.collname) FROM pg_collation l
        JOIN pg_namespace cn ON cn.oid = l.collnamespace WHERE l.oid = a.attcollation) END,
      'generated', a.attgenerated <> '', 'identity', a.attidentity <> '', 'has_default', a.atthasdef,
      'domain', t.typtype = 'd',
      'missing', CASE WHEN a.atthasmissing THEN (SELECT jsonb_agg(m.v) FROM unnest(CASE WHEN a.atthasmissing
        THEN (a.attmissingval::text)::text[] END) m(v)) END,
      -- Its equality is PostgreSQL's own, so that = means the index's operator, and its text is exact.
      'comparable', bt.typtype = 'e' OR bt.typnamespace = 'pg_catalog'::regnamespace AND bt.typtype = 'b' AND bt.typcategory <> 'A'
        AND bt.oid NOT IN ('interval'::regtype, 'money'::regtype, 'float4'::regtype, 'float8'::regtype, 'jsonb'::regtype)) ORDER BY a.attnum), '[]')
    FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
    JOIN pg_type bt ON bt.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
  'keys', (SELECT coalesce(jsonb_agg(jsonb_build_object('name', ic.relname, 'columns',
      (SELECT jsonb_agg(k.num ORDER BY k.n) FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, n) WHERE k.n <= i.indnkeyatts))
      ORDER BY i.indisprimary DESC, i.indimmediate DESC, i.indnkeyatts, ic.relname), '[]')
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid
    WHERE i.indrelid = c.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL AND i.indexprs IS NULL
    AND ic.relam = (SELECT m.oid FROM pg_am m WHERE m.amname = 'btree')
    AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[]) WITH ORDINALITY k(num, n) JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num
      WHERE k.n <= i.indnkeyatts AND NOT a.attnotnull)
    AND NOT EXISTS (SELECT FROM unnest(i.indclass::oid[]) o(oid) JOIN pg_opclass oc ON oc.oid = o.oid WHERE NOT oc.opcdefault)
    AND NOT EXISTS (SELECT FROM unnest(i.indkey::int2[], i.indcollation::oid[]) WITH ORDINALITY k(num, coll, n)
      JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.num WHERE k.n <= i.indnkeyatts AND k.coll <> a.attcollation)))
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table}
