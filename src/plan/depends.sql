-- What goes with what a statement drops, as the server's findDependentObjects walks pg_depend. Nothing is opened but what the sizes
-- need, and nothing of that on which another session holds or awaits ACCESS EXCLUSIVE. It cannot raise an error.
WITH RECURSIVE
-- Where the client's names without a schema are looked for, in this order.
path(oid, at) AS MATERIALIZED (
  SELECT n.oid, s.at FROM pg_catalog.unnest({schemas}) WITH ORDINALITY s(name, at) JOIN pg_catalog.pg_namespace n ON n.nspname = s.name),
-- statement, class, object, sub, cascades
asked(statement, class, object, sub, cascades) AS ({roots}),
-- Tables that are touched in another way, by way of their type or their tablespace.
touched(statement, oid) AS ({touched}),
-- Tables of which it matters who may see their rows, and how their rows are told apart.
asked_states(statement, oid) AS ({states}),
gone(statement, class, object, sub, cascades, named) AS (
  SELECT a.statement, a.class, a.object, a.sub, a.cascades, true FROM asked a
  UNION
  SELECT g.statement, n.class, n.object, n.sub, g.cascades, false
  FROM gone g CROSS JOIN LATERAL (
    -- What needs it: with CASCADE all, else only what goes by itself.
    SELECT d.classid, d.objid, d.objsubid FROM pg_catalog.pg_depend d
    WHERE d.refclassid = g.class AND d.refobjid = g.object
      AND (g.sub = 0 OR d.refobjsubid = g.sub)
      AND d.deptype <> 'p' AND (g.cascades OR d.deptype <> 'n')
    UNION ALL
    -- A part of something else is not dropped alone: with a view's rule goes the view, with an identity's sequence the column.
    SELECT d.refclassid, d.refobjid, d.refobjsubid FROM pg_catalog.pg_depend d
    WHERE NOT g.named AND d.classid = g.class AND d.objid = g.object
      AND d.objsubid = g.sub
      AND (d.deptype = 'i' OR d.deptype = 'e')) n(class, object, sub)),
objects(statement, class, object, sub, named) AS MATERIALIZED (
  SELECT g.statement, g.class, g.object, g.sub, pg_catalog.bool_or(g.named) FROM gone g GROUP BY 1, 2, 3, 4),
-- 1259 is pg_class.
whole(statement, oid, named) AS MATERIALIZED (
  SELECT o.statement, o.object, o.named FROM objects o
  WHERE o.class = 1259 AND o.sub = 0),
busy(oid) AS MATERIALIZED (
  SELECT l.relation FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'relation' AND l.mode = 'AccessExclusiveLock'
    AND l.pid <> pg_catalog.pg_backend_pid()),
block(size) AS (SELECT pg_catalog.current_setting('block_size')::pg_catalog.int8),
mine(xid, xmax) AS MATERIALIZED (
  SELECT pg_catalog.pg_current_xact_id_if_assigned()::text::pg_catalog.int8,
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::pg_catalog.int8),
-- 1: a relation. 2: a column. 3: a constraint. 4: a default. 5: a trigger. 6: a policy. 7: a rule. Each with the relation it is of.
parts(statement, what, relation, part, named, detail) AS (
  SELECT w.statement, c.relkind::text, c.oid, NULL::text, w.named, NULL::text
  FROM whole w JOIN pg_catalog.pg_class c ON c.oid = w.oid
  WHERE c.relkind IN ('r', 'p', 'f', 'v', 'm')
  UNION ALL
  SELECT w.statement, 'S', c.oid, NULL, w.named, NULL
  FROM whole w JOIN pg_catalog.pg_class c ON c.oid = w.oid
  WHERE c.relkind = 'S'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN objects o ON o.class = d.refclassid
        AND o.object = d.refobjid AND o.statement = w.statement
        AND (o.sub = 0 OR o.sub = d.refobjsubid)
      WHERE d.classid = 1259 AND d.objid = w.oid
        AND d.refclassid = 1259 AND d.deptype <> 'n')
  UNION ALL
  -- An index that goes while its table stays, and that belongs to no constraint, which is told of instead.
  SELECT w.statement, 'i', i.indrelid, c.relname::text, w.named, NULL
  FROM whole w JOIN pg_catalog.pg_class c ON c.oid = w.oid
  JOIN pg_catalog.pg_index i ON i.indexrelid = w.oid
  WHERE NOT EXISTS (SELECT FROM whole t WHERE t.statement = w.statement AND t.oid = i.indrelid)
    AND NOT EXISTS (SELECT FROM objects o JOIN pg_catalog.pg_constraint k ON k.oid = o.object
      WHERE o.class = 2606 AND o.statement = w.statement AND k.conindid = w.oid)
  UNION ALL
  SELECT o.statement, 'column', a.attrelid, a.attname::text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_attribute a ON a.attrelid = o.object AND a.attnum = o.sub
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  WHERE o.class = 1259 AND o.sub > 0
    AND c.relkind IN ('r', 'p', 'f')
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement = o.statement AND t.oid = o.object)
  UNION ALL
  -- Those of partitions go with their parent's.
  SELECT o.statement, 'constraint', k.conrelid, k.conname::text, o.named, k.contype::text
  FROM objects o JOIN pg_catalog.pg_constraint k ON k.oid = o.object
  WHERE o.class = 2606 AND k.conrelid <> 0
    AND k.conparentid = 0 AND k.contype <> 'n'
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement = o.statement AND t.oid = k.conrelid)
  UNION ALL
  -- Of a column that stays.
  SELECT o.statement, 'default', a.attrelid, a.attname::text, o.named, CASE WHEN a.attnotnull THEN 'n' END
  FROM objects o JOIN pg_catalog.pg_attrdef f ON f.oid = o.object
  JOIN pg_catalog.pg_attribute a ON a.attrelid = f.adrelid AND a.attnum = f.adnum
  WHERE o.class = 2604
    AND NOT EXISTS (SELECT FROM objects t WHERE t.statement = o.statement AND t.class = 1259
      AND t.object = a.attrelid AND (t.sub = 0 OR t.sub = a.attnum))
  UNION ALL
  SELECT o.statement, 'trigger', g.tgrelid, g.tgname::text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_trigger g ON g.oid = o.object
  WHERE o.class = 2620 AND NOT g.tgisinternal
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement = o.statement AND t.oid = g.tgrelid)
  UNION ALL
  SELECT o.statement, 'policy', p.polrelid, p.polname::text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_policy p ON p.oid = o.object
  WHERE o.class = 3256
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement = o.statement AND t.oid = p.polrelid)
  UNION ALL
  SELECT o.statement, 'rule', r.ev_class, r.rulename::text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_rewrite r ON r.oid = o.object
  WHERE o.class = 2618
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement = o.statement AND t.oid = r.ev_class)),
all_parts(statement, what, relation, part, named, detail) AS (
  SELECT p.* FROM parts p
  UNION ALL
  SELECT t.statement, 'touched', t.oid, NULL, false, NULL FROM touched t),
relations(oid) AS (SELECT DISTINCT p.relation FROM all_parts p),
sized(oid, bytes, tuples) AS MATERIALIZED (
  SELECT c.oid,
    CASE WHEN c.relkind NOT IN ('r', 'm', 'S', 'i') THEN 0
      -- What cannot be looked at is not taken for empty.
      WHEN c.oid IN (SELECT b.oid FROM busy b) THEN greatest(c.relpages, 1)::pg_catalog.int8 * k.size
      ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 0) END,
    CASE WHEN c.relkind = 'p' OR c.reltuples < 0 OR (c.reltuples = 0 AND c.relpages = 0)
      THEN NULL ELSE c.reltuples::pg_catalog.float8 END
  FROM relations r JOIN pg_catalog.pg_class c ON c.oid = r.oid CROSS JOIN block k),
-- As in the main question: all three rows of what this transaction has created are new.
births(oid, born) AS (
  SELECT c.oid, c.xmin::text::pg_catalog.int8 FROM relations r JOIN pg_catalog.pg_class c ON c.oid = r.oid
  UNION ALL
  SELECT r.oid, (SELECT a.xmin::text::pg_catalog.int8 FROM pg_catalog.pg_attribute a WHERE a.attrelid = r.oid
    ORDER BY a.attnum LIMIT 1) FROM relations r
  UNION ALL
  SELECT c.oid, y.xmin::text::pg_catalog.int8 FROM relations r JOIN pg_catalog.pg_class c ON c.oid = r.oid
    JOIN pg_catalog.pg_type y ON y.oid = c.reltype),
aged(oid, born, age) AS (
  SELECT b.oid, b.born, ((b.born - m.xid + 2147483648) & 4294967295) - 2147483648
  FROM births b CROSS JOIN mine m),
created(oid, here) AS MATERIALIZED (
  SELECT g.oid, pg_catalog.bool_and(coalesce(CASE
      WHEN g.born < 3 OR g.age < 0 THEN false
      WHEN m.xid + g.age >= m.xmax THEN true
      ELSE pg_catalog.pg_xact_status((m.xid + g.age)::text::pg_catalog.xid8) = 'in progress' END, false))
  FROM aged g CROSS JOIN mine m GROUP BY g.oid),
told AS (
  SELECT p.statement, p.what, p.named, p.part, p.detail, p.relation, ns.nspname, c.relname, c.relpersistence, z.bytes, z.tuples, h.here,
    (SELECT t.inhparent FROM pg_catalog.pg_inherits t WHERE c.relispartition AND t.inhrelid = c.oid LIMIT 1) AS parent,
    pg_catalog.row_number() OVER (PARTITION BY p.statement, p.what ORDER BY z.bytes DESC, ns.nspname, c.relname, p.part) AS place,
    pg_catalog.count(*) OVER (PARTITION BY p.statement, p.what) AS total
  FROM all_parts p JOIN pg_catalog.pg_class c ON c.oid = p.relation
  JOIN pg_catalog.pg_namespace ns ON ns.oid = c.relnamespace
  JOIN sized z ON z.oid = c.oid LEFT JOIN created h ON h.oid = c.oid)
-- As ASCII: the client's encoding may lack characters of names that the client never wrote.
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  -- As pg_dump and pg_restore set it before the first statement of a dump, and nobody else does: no schema is searched, and the
  -- bodies of functions are not looked at.
  'restoring', pg_catalog.current_setting('check_function_bodies') = 'off'
    AND NOT EXISTS (SELECT FROM path p JOIN pg_catalog.pg_namespace n ON n.oid = p.oid WHERE n.nspname <> 'pg_catalog' AND NOT pg_catalog.starts_with(n.nspname::text, 'pg_temp')),
  'found', coalesce((SELECT pg_catalog.json_agg(DISTINCT a.statement) FROM asked a), '[]'::json),
  -- 6237 is pg_publication_namespace, since PostgreSQL 15.
  'states', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'statement', a.statement, 'oid', c.oid::pg_catalog.int8, 'secured', c.relrowsecurity, 'forced', c.relforcerowsecurity,
      'permissive', coalesce((SELECT pg_catalog.json_agg(p.polname ORDER BY p.polname) FROM pg_catalog.pg_policy p
        WHERE p.polrelid = c.oid AND p.polpermissive), '[]'::json),
      -- Anybody but the owner: what is granted on the table or on one of its columns.
      'shared', EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) x WHERE x.grantee <> c.relowner)
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute b CROSS JOIN LATERAL pg_catalog.aclexplode(b.attacl) x
          WHERE b.attrelid = c.oid AND x.grantee <> c.relowner),
      'published', EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE p.puballtables)
        OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel p WHERE p.prrelid = c.oid)
        OR EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 6237 AND d.refclassid = 2615 AND d.refobjid = c.relnamespace),
      'replica_identity', c.relreplident,
      'identity_index', (SELECT k.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class k ON k.oid = i.indexrelid
        WHERE i.indrelid = c.oid AND (CASE c.relreplident WHEN 'd' THEN i.indisprimary WHEN 'i' THEN i.indisreplident ELSE false END) LIMIT 1)))
    FROM asked_states a JOIN pg_catalog.pg_class c ON c.oid = a.oid), '[]'::json),
  'parts', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'statement', t.statement, 'what', t.what, 'named', t.named, 'oid', t.relation::pg_catalog.int8, 'schema', t.nspname, 'relation', t.relname,
      'part', t.part, 'detail', t.detail, 'persistence', t.relpersistence, 'bytes', t.bytes::pg_catalog.int8, 'rows', t.tuples,
      'created_here', coalesce(t.here, false), 'parent', t.parent::pg_catalog.int8) ORDER BY t.statement, t.place)
    FROM told t), '[]'::json),
  -- 1255 is pg_proc, 1247 pg_type, 2615 pg_namespace, 3079 pg_extension.
  'others', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('statement', n.statement, 'what', n.what, 'name', n.name, 'more', n.total - 1))
    FROM (
      SELECT x.statement, x.what, pg_catalog.min(x.name) AS name, pg_catalog.count(*) AS total
      FROM (
        SELECT o.statement, 'function' AS what, f.proname::text AS name
        FROM objects o JOIN pg_catalog.pg_proc f ON f.oid = o.object
        WHERE o.class = 1255 AND NOT o.named
        UNION ALL
        SELECT o.statement, 'type', y.typname::text
        FROM objects o JOIN pg_catalog.pg_type y ON y.oid = o.object
        WHERE o.class = 1247 AND NOT o.named AND y.typelem = 0
          AND y.typtype IN ('d', 'e', 'r', 'b', 'c')
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = y.typrelid AND c.relkind <> 'c')
        UNION ALL
        SELECT o.statement, 'schema', s.nspname::text
        FROM objects o JOIN pg_catalog.pg_namespace s ON s.oid = o.object
        WHERE o.class = 2615 AND NOT o.named
        UNION ALL
        SELECT o.statement, 'extension', e.extname::text
        FROM objects o JOIN pg_catalog.pg_extension e ON e.oid = o.object
        WHERE o.class = 3079 AND NOT o.named
        UNION ALL
        SELECT o.statement, pg_catalog.replace(pg_catalog."right"(c.relname::text, -3), '_', ' '), NULL
        FROM objects o JOIN pg_catalog.pg_class c ON c.oid = o.class
        WHERE NOT o.named AND o.class NOT IN (1255, 1247, 2615, 3079, 1259, 2606, 2604, 2620, 3256, 2618, 2602, 2603, 826)) x
      GROUP BY x.statement, x.what) n), '[]'::json))::text, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
  ELSE 'UTF8' END), 'base64')
