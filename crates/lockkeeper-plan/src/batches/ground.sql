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
  'ruled', c.relhasrules AND EXISTS (
    WITH RECURSIVE seen(oid) AS (
      SELECT c.oid UNION
      SELECT d.refobjid FROM seen s JOIN pg_catalog.pg_rewrite r ON r.ev_class = s.oid AND r.ev_type = '1'
      JOIN pg_catalog.pg_depend d ON d.classid = 2618 AND d.objid = r.oid AND d.refclassid = 1259)
    SELECT FROM seen s JOIN pg_catalog.pg_rewrite r ON r.ev_class = s.oid
    WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D' AND r.ev_action::pg_catalog.text <> '<>'),
  'seen_by_session', c.relrowsecurity,
  'opaque', c.relhasrules OR (c.relkind = 'r' AND c.relhassubclass) OR EXISTS (SELECT FROM pg_catalog.pg_operator o WHERE o.oprname = '=' AND o.oid >= 16384
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_amop a WHERE a.amopopr = o.oid AND a.amopmethod = 403 AND a.amopstrategy = 3))
    OR EXISTS (SELECT FROM pg_catalog.pg_proc p WHERE p.proname = 'unnest' AND p.oid >= 16384),
  -- What foreign keys delete or change with a row. The triggers that do it are found by an index, the foreign keys themselves are not.
  'cascades', CASE WHEN c.relhastriggers THEN (
  WITH RECURSIVE hop AS (
      SELECT e.event AS root, e.event, k.oid, ARRAY[k.oid] AS path, CASE e.event WHEN 'd' THEN k.confdeltype ELSE k.confupdtype END AS action
      FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint
      CROSS JOIN LATERAL (SELECT CASE WHEN t.tgtype & 8 <> 0 THEN 'd' WHEN t.tgtype & 16 <> 0 THEN 'u' END) e(event)
      WHERE t.tgrelid = c.oid AND k.contype = 'f' AND k.confrelid = c.oid AND e.event IS NOT NULL
        AND CASE e.event WHEN 'd' THEN k.confdeltype ELSE k.confupdtype END IN ('c', 'n', 'd')
      UNION
      SELECT h.root, e.event, k.oid, h.path || k.oid, CASE e.event WHEN 'd' THEN k.confdeltype ELSE k.confupdtype END
      FROM hop h JOIN pg_catalog.pg_constraint b ON b.oid = h.oid
      CROSS JOIN LATERAL (SELECT CASE WHEN h.event = 'd' AND h.action = 'c' THEN 'd' ELSE 'u' END) e(event)
      JOIN pg_catalog.pg_trigger t ON t.tgrelid = b.conrelid AND t.tgtype & CASE e.event WHEN 'd' THEN 8 ELSE 16 END <> 0
      JOIN pg_catalog.pg_constraint k ON k.oid = t.tgconstraint
      WHERE k.contype = 'f' AND k.confrelid = b.conrelid AND k.oid <> ALL (h.path) AND cardinality(h.path) < 6
        AND CASE e.event WHEN 'd' THEN k.confdeltype ELSE k.confupdtype END IN ('c', 'n', 'd')
        AND (e.event = 'd' OR k.confkey && b.conkey))
    SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'root', h.root, 'action', h.action, 'path', h.path::pg_catalog.int8[], 'constraint', k.conname, 'schema', n.nspname, 'table', r.relname,
      -- A row of itself that goes takes more of them with it.
      'itself', k.conrelid = k.confrelid AND h.action = 'c' AND h.event = 'd',
      'columns', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('refers', p.attname, 'name', f.attname,
          'schema', o.nspname, 'operator', e.oprname) ORDER BY u.at)
        FROM ROWS FROM (pg_catalog.unnest(k.conkey), pg_catalog.unnest(k.confkey), pg_catalog.unnest(k.conpfeqop)) WITH ORDINALITY u(f, p, e, at)
        JOIN pg_catalog.pg_attribute f ON f.attrelid = k.conrelid AND f.attnum = u.f
        JOIN pg_catalog.pg_attribute p ON p.attrelid = k.confrelid AND p.attnum = u.p
        JOIN pg_catalog.pg_operator e ON e.oid = u.e JOIN pg_catalog.pg_namespace o ON o.oid = e.oprnamespace),
      'readable', pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND pg_catalog.has_table_privilege(r.oid, 'SELECT')
        AND NOT pg_catalog.row_security_active(r.oid),
      -- What goes beyond is not followed, and so not known.
      'deeper', d.deeper,
      'rows', CASE WHEN NOT d.deeper THEN m.rows END,
      'fan', CASE
        WHEN d.deeper THEN NULL
        WHEN EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = r.oid AND i.indisunique AND i.indisvalid AND i.indpred IS NULL
          AND i.indkey::pg_catalog.int2[] <@ k.conkey) THEN 1
        WHEN m.rows <= r.reltuples * 1.25 + 1000 THEN
          (SELECT pg_catalog.min(2 * m.rows * greatest(coalesce(s.most_common_freqs[1], 0), (1 - s.null_frac)
              / CASE WHEN s.n_distinct < 0 THEN -s.n_distinct * m.rows WHEN s.n_distinct > 0 THEN s.n_distinct END)) + greatest(m.rows - r.reltuples, 0)
            FROM pg_catalog.pg_stats s JOIN pg_catalog.pg_attribute a ON a.attname = s.attname
            WHERE s.schemaname = n.nspname AND s.tablename = r.relname AND NOT s.inherited AND a.attrelid = r.oid AND a.attnum = ANY (k.conkey)) END)
      ORDER BY pg_catalog.cardinality(h.path))
    FROM hop h JOIN pg_catalog.pg_constraint k ON k.oid = h.oid JOIN pg_catalog.pg_class r ON r.oid = k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid = r.relnamespace
    CROSS JOIN LATERAL (SELECT CASE WHEN r.relkind <> 'r' OR r.relhassubclass THEN NULL
      WHEN r.reltuples >= 0 AND r.relpages > 0 THEN
        -- As 'counted' of the target, above.
        greatest(r.reltuples::pg_catalog.float8, CASE
          WHEN pg_catalog.pg_stat_get_live_tuples(r.oid) = 0 THEN 0
          WHEN pg_catalog.pg_stat_get_tuples_inserted(r.oid) - pg_catalog.pg_stat_get_tuples_deleted(r.oid) >= r.reltuples
          THEN least(pg_catalog.pg_stat_get_live_tuples(r.oid), pg_catalog.pg_stat_get_tuples_inserted(r.oid) - pg_catalog.pg_stat_get_tuples_deleted(r.oid))
          ELSE pg_catalog.pg_stat_get_live_tuples(r.oid) END,
          r.reltuples::pg_catalog.float8 * pg_catalog.pg_relation_size(r.oid) / (r.relpages::pg_catalog.float8 * pg_catalog.current_setting('block_size')::pg_catalog.float8)
            - pg_catalog.pg_stat_get_dead_tuples(r.oid))
      WHEN pg_catalog.pg_relation_size(r.oid) = 0 THEN 0 END) m(rows)
    CROSS JOIN LATERAL (SELECT pg_catalog.cardinality(h.path) >= 6 AND m.rows IS DISTINCT FROM 0 AND EXISTS (
      SELECT FROM pg_catalog.pg_trigger t JOIN pg_catalog.pg_constraint b ON b.oid = t.tgconstraint
      WHERE t.tgrelid = k.conrelid AND b.contype = 'f' AND b.confrelid = k.conrelid AND b.oid <> ALL (h.path)
        AND CASE WHEN h.event = 'd' AND h.action = 'c' THEN t.tgtype & 8 <> 0 AND b.confdeltype IN ('c', 'n', 'd')
          ELSE t.tgtype & 16 <> 0 AND b.confupdtype IN ('c', 'n', 'd') AND b.confkey && k.conkey END)) d(deeper)) END,
  'indexes', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'valid', i.indisvalid,
    'unique', i.indisunique,
    'partial', i.indpred IS NOT NULL,
    -- The planner takes a column for unique by it, whatever the column's own collation makes equal.
    'definition', CASE WHEN EXISTS (SELECT FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, at)
      JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
      JOIN pg_catalog.pg_collation l ON l.oid = a.attcollation
      WHERE k.attnum <> 0 AND k.at <= i.indnkeyatts AND l.oid <> i.indcollation[k.at - 1] AND NOT l.collisdeterministic)
      THEN ' USING btree ( COLLATE ' ELSE '' END,
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
