WITH RECURSIVE
-- What goes with what a statement drops, as the server's findDependentObjects walks pg_depend. Nothing is opened but what the sizes
-- need, and nothing of that on which another session holds or awaits ACCESS EXCLUSIVE. It cannot raise an error, and whatever operators
-- and types are in the search_path, pg_catalog's are meant.
-- Where the client's names without a schema are looked for, in this order.
path(oid, at) AS MATERIALIZED (
  SELECT n.oid, s.at FROM pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.depends_schemas')::pg_catalog.name[]) WITH ORDINALITY s(name, at)
  CROSS JOIN LATERAL (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) s.name LIMIT 1) n),
-- What the statements name, as it was found with the client's search_path.
asked(statement, class, object, sub, cascades) AS MATERIALIZED (
  SELECT r.* FROM pg_catalog.json_to_recordset(pg_catalog.current_setting('lockkeeper.depends_roots')::pg_catalog.json) AS r(statement pg_catalog.int4, class pg_catalog.oid, object pg_catalog.oid, sub pg_catalog.int4, cascades pg_catalog.bool)),
-- if touched
-- Tables that are touched in another way, by way of their type or their tablespace.
touched(statement, oid) AS (
  SELECT r.* FROM pg_catalog.json_to_recordset(pg_catalog.current_setting('lockkeeper.depends_touched')::pg_catalog.json) AS r(statement pg_catalog.int4, oid pg_catalog.oid)),
-- end
-- if bare
-- Domains that lose their default.
bare(statement, oid) AS (
  SELECT r.* FROM pg_catalog.json_to_recordset(pg_catalog.current_setting('lockkeeper.depends_bare')::pg_catalog.json) AS r(statement pg_catalog.int4, oid pg_catalog.oid)),
-- end
-- if stripped
-- Roles of which all rights go.
stripped(statement, oid) AS (
  SELECT r.* FROM pg_catalog.json_to_recordset(pg_catalog.current_setting('lockkeeper.depends_stripped')::pg_catalog.json) AS r(statement pg_catalog.int4, oid pg_catalog.oid)),
-- end
-- if states
-- Tables of which it matters who may see their rows, and how their rows are told apart.
asked_states(statement, oid) AS (
  SELECT r.* FROM pg_catalog.json_to_recordset(pg_catalog.current_setting('lockkeeper.depends_states')::pg_catalog.json) AS r(statement pg_catalog.int4, oid pg_catalog.oid)),
-- end
gone(statement, class, object, sub, cascades, named) AS (
  SELECT a.statement, a.class, a.object, a.sub, a.cascades, true FROM asked a
  UNION
  SELECT g.statement, n.class, n.object, n.sub, g.cascades, false
  FROM gone g CROSS JOIN LATERAL (
    -- What needs it: with CASCADE all, else only what goes by itself.
    SELECT d.classid, d.objid, d.objsubid FROM pg_catalog.pg_depend d
    WHERE d.refclassid OPERATOR(pg_catalog.=) g.class AND d.refobjid OPERATOR(pg_catalog.=) g.object
      AND (g.sub OPERATOR(pg_catalog.=) 0 OR d.refobjsubid OPERATOR(pg_catalog.=) g.sub)
      AND d.deptype OPERATOR(pg_catalog.<>) 'p' AND (g.cascades OR d.deptype OPERATOR(pg_catalog.<>) 'n')
    UNION ALL
    -- A part of something else is not dropped alone: with a view's rule goes the view, with an identity's sequence the column.
    SELECT d.refclassid, d.refobjid, d.refobjsubid FROM pg_catalog.pg_depend d
    WHERE NOT g.named AND d.classid OPERATOR(pg_catalog.=) g.class AND d.objid OPERATOR(pg_catalog.=) g.object
      AND d.objsubid OPERATOR(pg_catalog.=) g.sub
      AND (d.deptype OPERATOR(pg_catalog.=) 'i' OR d.deptype OPERATOR(pg_catalog.=) 'e')) n(class, object, sub)),
objects(statement, class, object, sub, named) AS MATERIALIZED (
  SELECT g.statement, g.class, g.object, g.sub, pg_catalog.bool_or(g.named) FROM gone g GROUP BY 1, 2, 3, 4),
-- 1259 is pg_class.
whole(statement, oid, named) AS MATERIALIZED (
  SELECT o.statement, o.object, o.named FROM objects o
  WHERE o.class OPERATOR(pg_catalog.=) 1259 AND o.sub OPERATOR(pg_catalog.=) 0),
busy(oid) AS MATERIALIZED (
  SELECT l.relation FROM pg_catalog.pg_locks l
  WHERE l.locktype OPERATOR(pg_catalog.=) 'relation' AND l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock'
    -- A prepared transaction holds its locks without a process.
    AND coalesce(l.pid OPERATOR(pg_catalog.<>) pg_catalog.pg_backend_pid(), true)),
block(size) AS (SELECT pg_catalog.current_setting('block_size')::pg_catalog.int8),
mine(xid, xmax) AS MATERIALIZED (
  SELECT pg_catalog.pg_current_xact_id_if_assigned()::pg_catalog.text::pg_catalog.int8,
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::pg_catalog.text::pg_catalog.int8),
-- 1: a relation. 2: a column. 3: a constraint. 4: a default. 5: a trigger. 6: a policy. 7: a rule. Each with the relation it is of.
parts(statement, what, relation, part, named, detail) AS (
  SELECT w.statement, c.relkind::pg_catalog.text, c.oid, NULL::pg_catalog.text, w.named, c.relkind::pg_catalog.text
  FROM whole w JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.oid
  WHERE c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f,v,m}'::pg_catalog."char"[])
  UNION ALL
  SELECT w.statement, 'S', c.oid, NULL, w.named, NULL
  FROM whole w JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.oid
  WHERE c.relkind OPERATOR(pg_catalog.=) 'S'
    AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN objects o ON o.class OPERATOR(pg_catalog.=) d.refclassid
        AND o.object OPERATOR(pg_catalog.=) d.refobjid AND o.statement OPERATOR(pg_catalog.=) w.statement
        AND (o.sub OPERATOR(pg_catalog.=) 0 OR o.sub OPERATOR(pg_catalog.=) d.refobjsubid)
      WHERE d.classid OPERATOR(pg_catalog.=) 1259 AND d.objid OPERATOR(pg_catalog.=) w.oid
        AND d.refclassid OPERATOR(pg_catalog.=) 1259 AND d.deptype OPERATOR(pg_catalog.<>) 'n')
  UNION ALL
  -- An index that goes while its table stays, and that belongs to no constraint, which is told of instead.
  SELECT w.statement, 'i', i.indrelid, c.relname::pg_catalog.text, w.named, NULL
  FROM whole w JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) w.oid
  JOIN pg_catalog.pg_index i ON i.indexrelid OPERATOR(pg_catalog.=) w.oid
  WHERE NOT EXISTS (SELECT FROM whole t WHERE t.statement OPERATOR(pg_catalog.=) w.statement AND t.oid OPERATOR(pg_catalog.=) i.indrelid)
    AND NOT EXISTS (SELECT FROM objects o JOIN pg_catalog.pg_constraint k ON k.oid OPERATOR(pg_catalog.=) o.object
      WHERE o.class OPERATOR(pg_catalog.=) 2606 AND o.statement OPERATOR(pg_catalog.=) w.statement AND k.conindid OPERATOR(pg_catalog.=) w.oid)
  UNION ALL
  SELECT o.statement, 'column', a.attrelid, a.attname::pg_catalog.text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) o.object AND a.attnum OPERATOR(pg_catalog.=) o.sub
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid
  WHERE o.class OPERATOR(pg_catalog.=) 1259 AND o.sub OPERATOR(pg_catalog.>) 0
    AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p,f}'::pg_catalog."char"[])
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement OPERATOR(pg_catalog.=) o.statement AND t.oid OPERATOR(pg_catalog.=) o.object)
  UNION ALL
  -- Those of partitions go with their parent's.
  SELECT o.statement, 'constraint', k.conrelid, k.conname::pg_catalog.text, o.named, k.contype::pg_catalog.text
  FROM objects o JOIN pg_catalog.pg_constraint k ON k.oid OPERATOR(pg_catalog.=) o.object
  WHERE o.class OPERATOR(pg_catalog.=) 2606 AND k.conrelid OPERATOR(pg_catalog.<>) 0
    AND k.conparentid OPERATOR(pg_catalog.=) 0 AND k.contype OPERATOR(pg_catalog.<>) 'n'
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement OPERATOR(pg_catalog.=) o.statement AND t.oid OPERATOR(pg_catalog.=) k.conrelid)
  UNION ALL
  -- Of a column that stays.
  SELECT o.statement, 'default', a.attrelid, a.attname::pg_catalog.text, o.named, CASE WHEN a.attnotnull THEN 'n' END
  FROM objects o JOIN pg_catalog.pg_attrdef f ON f.oid OPERATOR(pg_catalog.=) o.object
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) f.adrelid AND a.attnum OPERATOR(pg_catalog.=) f.adnum
  WHERE o.class OPERATOR(pg_catalog.=) 2604
    AND NOT EXISTS (SELECT FROM objects t WHERE t.statement OPERATOR(pg_catalog.=) o.statement AND t.class OPERATOR(pg_catalog.=) 1259
      AND t.object OPERATOR(pg_catalog.=) a.attrelid AND (t.sub OPERATOR(pg_catalog.=) 0 OR t.sub OPERATOR(pg_catalog.=) a.attnum))
  UNION ALL
  SELECT o.statement, 'trigger', g.tgrelid, g.tgname::pg_catalog.text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_trigger g ON g.oid OPERATOR(pg_catalog.=) o.object
  WHERE o.class OPERATOR(pg_catalog.=) 2620 AND NOT g.tgisinternal
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement OPERATOR(pg_catalog.=) o.statement AND t.oid OPERATOR(pg_catalog.=) g.tgrelid)
  UNION ALL
  SELECT o.statement, 'policy', p.polrelid, p.polname::pg_catalog.text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_policy p ON p.oid OPERATOR(pg_catalog.=) o.object
  WHERE o.class OPERATOR(pg_catalog.=) 3256
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement OPERATOR(pg_catalog.=) o.statement AND t.oid OPERATOR(pg_catalog.=) p.polrelid)
  UNION ALL
  SELECT o.statement, 'rule', r.ev_class, r.rulename::pg_catalog.text, o.named, NULL
  FROM objects o JOIN pg_catalog.pg_rewrite r ON r.oid OPERATOR(pg_catalog.=) o.object
  WHERE o.class OPERATOR(pg_catalog.=) 2618
    AND NOT EXISTS (SELECT FROM whole t WHERE t.statement OPERATOR(pg_catalog.=) o.statement AND t.oid OPERATOR(pg_catalog.=) r.ev_class)),
all_parts(statement, what, relation, part, named, detail) AS (
  SELECT p.* FROM parts p
-- if touched
  UNION ALL
  SELECT t.statement, 'touched', t.oid, NULL, false, NULL FROM touched t
-- end
-- if bare
  UNION ALL
  -- Columns that have no default but their domain's, which goes.
  SELECT d.statement, 'default', a.attrelid, a.attname::pg_catalog.text, false, 'n'
  FROM bare d JOIN pg_catalog.pg_attribute a ON a.atttypid OPERATOR(pg_catalog.=) d.oid AND a.attnum OPERATOR(pg_catalog.>) 0
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.attrelid AND c.relkind OPERATOR(pg_catalog.=) ANY ('{r,p}'::pg_catalog."char"[])
  JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) d.oid
  WHERE (a.attnotnull OR y.typnotnull) AND NOT a.atthasdef AND a.attidentity OPERATOR(pg_catalog.=) ''
-- end
  ),
relations(oid) AS (SELECT DISTINCT p.relation FROM all_parts p),
-- What the role owns of all that a statement names, by itself or by way of its table or schema. What the first superuser owns has no
-- entry. 2615 is pg_namespace.
permitted(statement) AS (
  SELECT a.statement FROM (SELECT a.statement, a.class, a.object FROM asked a
-- if states
    UNION ALL SELECT t.statement, 1259::pg_catalog.oid, t.oid FROM asked_states t
-- end
    ) a
  GROUP BY a.statement
  HAVING pg_catalog.bool_and((SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) CURRENT_USER)
    OR EXISTS (SELECT FROM (
        SELECT a.class, a.object
        UNION ALL
        SELECT d.refclassid, d.refobjid FROM pg_catalog.pg_depend d
        WHERE d.classid OPERATOR(pg_catalog.=) a.class AND d.objid OPERATOR(pg_catalog.=) a.object
          AND (d.refclassid OPERATOR(pg_catalog.=) 2615 OR (d.refclassid OPERATOR(pg_catalog.=) 1259 AND d.deptype OPERATOR(pg_catalog.<>) 'n'))) x(class, object)
      JOIN pg_catalog.pg_shdepend s ON s.classid OPERATOR(pg_catalog.=) x.class AND s.objid OPERATOR(pg_catalog.=) x.object
      WHERE s.deptype OPERATOR(pg_catalog.=) 'o' AND pg_catalog.pg_has_role(s.refobjid, 'USAGE')
        AND (s.dbid OPERATOR(pg_catalog.=) 0 OR s.dbid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))))),
-- A partitioned table is as large as its partitions.
leaves(root, oid) AS (
  SELECT r.oid, i.inhrelid FROM relations r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.oid
  JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) r.oid WHERE c.relkind OPERATOR(pg_catalog.=) 'p'
  UNION
  SELECT l.root, i.inhrelid FROM leaves l JOIN pg_catalog.pg_inherits i ON i.inhparent OPERATOR(pg_catalog.=) l.oid),
measured(oid) AS (SELECT r.oid FROM relations r UNION SELECT l.oid FROM leaves l),
single(oid, bytes, tuples, unused) AS MATERIALIZED (
  SELECT c.oid,
    CASE WHEN c.relkind OPERATOR(pg_catalog.<>) ALL ('{r,m,S,i}'::pg_catalog."char"[]) THEN 0
      -- What cannot be looked at is not taken for empty.
      WHEN c.oid OPERATOR(pg_catalog.=) ANY (SELECT b.oid FROM busy b) THEN greatest(c.relpages, 1)::pg_catalog.int8 OPERATOR(pg_catalog.*) k.size
      ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 0) END,
    CASE WHEN c.relkind OPERATOR(pg_catalog.=) 'p' OR c.reltuples OPERATOR(pg_catalog.<) 0 OR (c.reltuples OPERATOR(pg_catalog.=) 0 AND c.relpages OPERATOR(pg_catalog.=) 0)
      THEN NULL ELSE c.reltuples::pg_catalog.float8 END,
    CASE WHEN c.relkind OPERATOR(pg_catalog.<>) 'r' OR c.oid OPERATOR(pg_catalog.=) ANY (SELECT b.oid FROM busy b) THEN false
      ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 1) OPERATOR(pg_catalog.=) 0 AND pg_catalog.pg_relation_filenode(c.oid) OPERATOR(pg_catalog.=) c.oid
        AND pg_catalog.pg_stat_get_tuples_inserted(c.oid) OPERATOR(pg_catalog.=) 0 END
  FROM measured r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.oid CROSS JOIN block k),
parted(oid, bytes, tuples) AS MATERIALIZED (
  SELECT l.root, pg_catalog.sum(s.bytes), pg_catalog.sum(s.tuples) FROM leaves l JOIN single s ON s.oid OPERATOR(pg_catalog.=) l.oid GROUP BY l.root),
sized(oid, bytes, tuples, unused) AS (
  SELECT s.oid, coalesce(p.bytes::pg_catalog.int8, s.bytes), coalesce(p.tuples, s.tuples), s.unused FROM single s LEFT JOIN parted p ON p.oid OPERATOR(pg_catalog.=) s.oid),
-- As in the main question: all three rows of what this transaction has created are new.
births(oid, born) AS (
  SELECT c.oid, c.xmin::pg_catalog.text::pg_catalog.int8 FROM relations r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.oid
  UNION ALL
  SELECT r.oid, (SELECT a.xmin::pg_catalog.text::pg_catalog.int8 FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) r.oid
    ORDER BY a.attnum LIMIT 1) FROM relations r
  UNION ALL
  SELECT c.oid, y.xmin::pg_catalog.text::pg_catalog.int8 FROM relations r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.oid
    JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) c.reltype),
aged(oid, born, age) AS (
  SELECT b.oid, b.born, ((b.born OPERATOR(pg_catalog.-) m.xid OPERATOR(pg_catalog.+) 2147483648) OPERATOR(pg_catalog.&) 4294967295) OPERATOR(pg_catalog.-) 2147483648
  FROM births b CROSS JOIN mine m),
created(oid, here) AS MATERIALIZED (
  SELECT g.oid, pg_catalog.bool_and(coalesce(CASE
      WHEN g.born OPERATOR(pg_catalog.<) 3 OR g.age OPERATOR(pg_catalog.<) 0 THEN false
      WHEN m.xid OPERATOR(pg_catalog.+) g.age OPERATOR(pg_catalog.>=) m.xmax THEN true
      ELSE pg_catalog.pg_xact_status((m.xid OPERATOR(pg_catalog.+) g.age)::pg_catalog.text::pg_catalog.xid8) OPERATOR(pg_catalog.=) 'in progress' END, false))
  FROM aged g CROSS JOIN mine m GROUP BY g.oid),
told AS (
  SELECT p.statement, p.what, p.named, p.part, p.detail, p.relation, ns.nspname, c.relname, c.relpersistence, z.bytes, z.tuples, z.unused, h.here,
    (SELECT t.inhparent FROM pg_catalog.pg_inherits t WHERE c.relispartition AND t.inhrelid OPERATOR(pg_catalog.=) c.oid LIMIT 1) AS parent,
    pg_catalog.row_number() OVER (PARTITION BY p.statement, p.what ORDER BY z.bytes DESC, ns.nspname, c.relname, p.part) AS place,
    pg_catalog.count(*) OVER (PARTITION BY p.statement, p.what) AS total
  FROM all_parts p JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) p.relation
  JOIN pg_catalog.pg_namespace ns ON ns.oid OPERATOR(pg_catalog.=) c.relnamespace
  JOIN sized z ON z.oid OPERATOR(pg_catalog.=) c.oid LEFT JOIN created h ON h.oid OPERATOR(pg_catalog.=) c.oid)
-- As ASCII: the client's encoding may lack characters of names that the client never wrote.
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  -- As pg_dump and pg_restore set it before the first statement of a dump, and nobody else does: no schema is searched, and the
  -- bodies of functions are not looked at.
  'restoring', pg_catalog.current_setting('check_function_bodies') OPERATOR(pg_catalog.=) 'off'
    AND NOT EXISTS (SELECT FROM path p JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) p.oid WHERE n.nspname OPERATOR(pg_catalog.<>) 'pg_catalog' AND NOT pg_catalog.starts_with(n.nspname::pg_catalog.text, 'pg_temp')),
  'permitted', coalesce((SELECT pg_catalog.json_agg(p.statement) FROM permitted p), '[]'::pg_catalog.json),
  'found', coalesce((SELECT pg_catalog.json_agg(DISTINCT a.statement) FROM asked a), '[]'::pg_catalog.json),
-- if states
  -- 6237 is pg_publication_namespace, since PostgreSQL 15.
  'states', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'statement', a.statement, 'oid', c.oid::pg_catalog.int8, 'schema', (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace),
      'relation', c.relname, 'bytes', CASE WHEN c.relkind OPERATOR(pg_catalog.<>) 'r' THEN 0 WHEN c.oid OPERATOR(pg_catalog.=) ANY (SELECT b.oid FROM busy b) THEN 8192
        ELSE coalesce(pg_catalog.pg_relation_size(c.oid), 8192) END,
      'secured', c.relrowsecurity, 'forced', c.relforcerowsecurity,
      'permissive', coalesce((SELECT pg_catalog.json_agg(p.polname ORDER BY p.polname) FROM pg_catalog.pg_policy p
        WHERE p.polrelid OPERATOR(pg_catalog.=) c.oid AND p.polpermissive AND p.polcmd OPERATOR(pg_catalog.=) ANY ('{*,r}'::pg_catalog."char"[])), '[]'::pg_catalog.json),
      -- Anybody but the owner: what is granted on the table or on one of its columns.
      'shared', EXISTS (SELECT FROM pg_catalog.aclexplode(c.relacl) x WHERE x.grantee OPERATOR(pg_catalog.<>) c.relowner)
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute b CROSS JOIN LATERAL pg_catalog.aclexplode(b.attacl) x
          WHERE b.attrelid OPERATOR(pg_catalog.=) c.oid AND x.grantee OPERATOR(pg_catalog.<>) c.relowner),
      'published', c.relpersistence OPERATOR(pg_catalog.=) 'p' AND EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE (p.pubupdate OR p.pubdelete) AND (p.puballtables
        OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel r WHERE r.prpubid OPERATOR(pg_catalog.=) p.oid AND (r.prrelid OPERATOR(pg_catalog.=) c.oid
          OR r.prrelid OPERATOR(pg_catalog.=) ANY (SELECT x.relid::pg_catalog.oid FROM pg_catalog.pg_partition_ancestors(c.oid) x(relid))))
        OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_depend e ON e.classid OPERATOR(pg_catalog.=) 6237 AND e.objid OPERATOR(pg_catalog.=) d.objid
            AND e.refclassid OPERATOR(pg_catalog.=) 6104 AND e.refobjid OPERATOR(pg_catalog.=) p.oid
          WHERE d.classid OPERATOR(pg_catalog.=) 6237 AND d.refclassid OPERATOR(pg_catalog.=) 2615 AND d.refobjid OPERATOR(pg_catalog.=) c.relnamespace))),
      'replica_identity', c.relreplident,
      'identity_index', (SELECT k.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class k ON k.oid OPERATOR(pg_catalog.=) i.indexrelid
        WHERE i.indrelid OPERATOR(pg_catalog.=) c.oid AND (CASE WHEN c.relreplident OPERATOR(pg_catalog.=) 'd' THEN i.indisprimary AND i.indisvalid AND i.indimmediate
          WHEN c.relreplident OPERATOR(pg_catalog.=) 'i' THEN i.indisreplident ELSE false END) LIMIT 1)))
    FROM asked_states a JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) a.oid), '[]'::pg_catalog.json),
-- end
  'parts', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'statement', t.statement, 'what', t.what, 'named', t.named, 'oid', t.relation::pg_catalog.int8, 'schema', t.nspname, 'relation', t.relname,
      'part', t.part, 'detail', t.detail, 'persistence', t.relpersistence, 'bytes', t.bytes::pg_catalog.int8, 'rows', t.tuples,
      'created_here', coalesce(t.here, false), 'never_filled', coalesce(t.unused, false), 'parent', t.parent::pg_catalog.int8) ORDER BY t.statement, t.place)
    FROM told t), '[]'::pg_catalog.json),
  -- 1255 is pg_proc, 1247 pg_type, 2615 pg_namespace, 3079 pg_extension.
  'others', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('statement', n.statement, 'what', n.what, 'name', n.name, 'more', n.total OPERATOR(pg_catalog.-) 1))
    FROM (
      SELECT x.statement, x.what, pg_catalog.min(x.name) AS name, pg_catalog.count(*) AS total
      FROM (
-- if stripped
        -- 'a' is a right, 'r' a policy for the role.
        SELECT r.statement, CASE WHEN s.deptype OPERATOR(pg_catalog.=) 'a' THEN 'right' ELSE 'policy' END AS what, NULL::pg_catalog.text AS name
        FROM stripped r JOIN pg_catalog.pg_shdepend s ON s.refclassid OPERATOR(pg_catalog.=) 1260 AND s.refobjid OPERATOR(pg_catalog.=) r.oid
        WHERE s.deptype OPERATOR(pg_catalog.=) ANY ('{a,r}'::pg_catalog."char"[])
          AND (s.dbid OPERATOR(pg_catalog.=) 0 OR s.dbid OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()))
        UNION ALL
-- end
        SELECT o.statement, 'function', f.proname::pg_catalog.text
        FROM objects o JOIN pg_catalog.pg_proc f ON f.oid OPERATOR(pg_catalog.=) o.object
        WHERE o.class OPERATOR(pg_catalog.=) 1255 AND NOT o.named
        UNION ALL
        SELECT o.statement, 'type', y.typname::pg_catalog.text
        FROM objects o JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) o.object
        WHERE o.class OPERATOR(pg_catalog.=) 1247 AND NOT o.named AND y.typelem OPERATOR(pg_catalog.=) 0
          AND y.typtype OPERATOR(pg_catalog.=) ANY ('{d,e,r,b,c}'::pg_catalog."char"[])
          AND NOT EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) y.typrelid AND c.relkind OPERATOR(pg_catalog.<>) 'c')
        UNION ALL
        SELECT o.statement, 'schema', s.nspname::pg_catalog.text
        FROM objects o JOIN pg_catalog.pg_namespace s ON s.oid OPERATOR(pg_catalog.=) o.object
        WHERE o.class OPERATOR(pg_catalog.=) 2615 AND NOT o.named
        UNION ALL
        SELECT o.statement, 'extension', e.extname::pg_catalog.text
        FROM objects o JOIN pg_catalog.pg_extension e ON e.oid OPERATOR(pg_catalog.=) o.object
        WHERE o.class OPERATOR(pg_catalog.=) 3079 AND NOT o.named
        UNION ALL
        SELECT o.statement, pg_catalog.replace(pg_catalog."right"(c.relname::pg_catalog.text, -3), '_', ' '), NULL
        FROM objects o JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) o.class
        WHERE NOT o.named AND o.class OPERATOR(pg_catalog.<>) ALL ('{1255,1247,2615,3079,1259,2606,2604,2620,3256,2618,2602,2603,826}'::pg_catalog.oid[])) x(statement, what, name)
      GROUP BY x.statement, x.what) n), '[]'::pg_catalog.json))::pg_catalog.text, CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII' THEN 'SQL_ASCII'
  ELSE 'UTF8' END), 'base64')
