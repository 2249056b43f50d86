WITH RECURSIVE
-- Nobody's schema has an empty name: it stands for none.
asked(s, n, at) AS (SELECT nullif(a.s, '')::name, a.n::name, a.at
  FROM ROWS FROM (pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.relation_schemas')::text[]), pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.relation_names')::text[])) WITH ORDINALITY a(s, n, at)),
-- if functions
asked_functions(s, n) AS (SELECT nullif(a.s, '')::name, a.n::name
  FROM ROWS FROM (pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.function_schemas')::text[]), pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.function_names')::text[])) a(s, n)),
-- end
-- if types
asked_types(s, n) AS (SELECT nullif(a.s, '')::name, a.n::name
  FROM ROWS FROM (pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.type_schemas')::text[]), pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.type_names')::text[])) a(s, n)),
-- end
-- Our own transaction: an xid below `xmax` is known to pg_xact_status, one above it that we can see is ours.
mine(xid, xmax) AS MATERIALIZED (
  SELECT pg_catalog.pg_current_xact_id_if_assigned()::text::pg_catalog.int8,
         pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::pg_catalog.int8),
-- A prepared transaction holds its locks without a process.
strong(oid, own, exclusive) AS MATERIALIZED (
  SELECT l.relation, coalesce(l.pid = pg_catalog.pg_backend_pid(), false), l.mode = 'AccessExclusiveLock' FROM pg_catalog.pg_locks l
  WHERE l.locktype = 'relation' AND l.mode IN ('ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock')
    AND l.database = (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database())),
-- Whatever opens these relations (sizes, definitions) would wait.
busy(oid) AS MATERIALIZED (SELECT s.oid FROM strong s WHERE s.exclusive AND NOT s.own),
named(s, n, oid, at) AS MATERIALIZED (
  SELECT a.s, a.n, c.oid, a.at
  FROM asked a
  CROSS JOIN LATERAL (SELECT c.oid, c.relnamespace FROM pg_catalog.pg_class c WHERE c.relname = a.n OFFSET 0) c
  CROSS JOIN LATERAL (SELECT ns.nspname FROM pg_catalog.pg_namespace ns WHERE ns.oid = c.relnamespace LIMIT 1) ns
  WHERE CASE WHEN a.s IS NULL THEN c.oid = ANY (pg_catalog.current_setting('lockkeeper.relations')::pg_catalog.oid[])
             WHEN a.s = 'pg_temp' THEN c.relnamespace = pg_catalog.pg_my_temp_schema()
             ELSE ns.nspname = a.s END),
-- if heirs
-- What inherits from a relation, its partitions above all: a schema change means them too. Of a partition its parent.
heirs(oid) AS (
  SELECT h.inhrelid FROM named m CROSS JOIN LATERAL (SELECT h.inhrelid FROM pg_catalog.pg_inherits h WHERE h.inhparent = m.oid OFFSET 0) h
-- if beside_first
  WHERE m.at <> 1 OR h.inhrelid = (SELECT p.partdefid FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = m.oid)
-- end
-- if beside_second
  WHERE m.at <> 2 OR h.inhrelid = (SELECT p.partdefid FROM pg_catalog.pg_partitioned_table p WHERE p.partrelid = m.oid)
-- end
  UNION
  SELECT h.inhrelid FROM heirs t CROSS JOIN LATERAL (SELECT h.inhrelid FROM pg_catalog.pg_inherits h WHERE h.inhparent = t.oid OFFSET 0) h),
-- end
-- if rows
-- What is behind a view that an UPDATE or DELETE names, and behind the views there. 2618 is pg_rewrite, 1259 pg_class.
behind(oid) AS (
  SELECT d.refobjid FROM named m
  JOIN pg_catalog.pg_class c ON c.oid = m.oid AND c.relkind = 'v'
  JOIN pg_catalog.pg_rewrite r ON r.ev_class = m.oid AND r.ev_type = '1'
  JOIN pg_catalog.pg_depend d ON d.classid = 2618 AND d.objid = r.oid AND d.refclassid = 1259 AND d.refobjid <> m.oid
  UNION
  SELECT d.refobjid FROM behind b
  JOIN pg_catalog.pg_class c ON c.oid = b.oid AND c.relkind = 'v'
  JOIN pg_catalog.pg_rewrite r ON r.ev_class = b.oid AND r.ev_type = '1'
  JOIN pg_catalog.pg_depend d ON d.classid = 2618 AND d.objid = r.oid AND d.refclassid = 1259 AND d.refobjid <> b.oid),
-- end
-- With an index comes its table: that tells what the index is for, and whose readers a lock stops.
wanted(s, n, oid) AS (
  SELECT m.s, m.n, m.oid FROM named m
-- if heirs
  UNION ALL
  SELECT NULL, NULL, h.oid FROM heirs h
-- end
-- if rows
  UNION ALL
  SELECT NULL, NULL, b.oid FROM behind b
-- end
  UNION ALL
  SELECT DISTINCT NULL::name, NULL::name, i.indrelid FROM named m
  CROSS JOIN LATERAL (SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = m.oid LIMIT 1) i),
-- Each by its key, whatever the planner expects of the catalogs: so in all that follows. What was not named is told by its own name.
found AS MATERIALIZED (
  SELECT coalesce(w.s, CASE WHEN w.n IS NULL THEN ns.nspname END) AS s, coalesce(w.n, c.relname) AS n, c.oid, ns.nspname, c.relnamespace, c.relname,
         c.reltype, c.relkind, c.relpersistence, c.relispartition, c.relhassubclass, c.relowner, c.oid IN (SELECT b.oid FROM busy b) AS is_busy
  FROM wanted w
  CROSS JOIN LATERAL (SELECT c.oid, c.relnamespace, c.relname, c.reltype, c.relkind, c.relpersistence, c.relispartition, c.relhassubclass, c.relowner
    FROM pg_catalog.pg_class c WHERE c.oid = w.oid LIMIT 1) c
  CROSS JOIN LATERAL (SELECT ns.nspname FROM pg_catalog.pg_namespace ns WHERE ns.oid = c.relnamespace LIMIT 1) ns
  WHERE w.n IS NOT NULL OR c.relkind IN ('r', 'p', 'f', 'v', 'm', 't')),
-- Of an index its table counts: a lock on the one stops those who use the other.
tree(root, oid) AS (
  SELECT f.oid, coalesce((SELECT i.indrelid FROM pg_catalog.pg_index i WHERE i.indexrelid = f.oid), f.oid) FROM found f
  UNION
  SELECT t.root, h.inhrelid FROM tree t CROSS JOIN LATERAL (SELECT h.inhrelid FROM pg_catalog.pg_inherits h WHERE h.inhparent = t.oid OFFSET 0) h),
-- if details
indexed AS MATERIALIZED (
  SELECT i.*, c.relname, c.relnamespace, c.relam, c.relpages, c.reltablespace, i.indexrelid IN (SELECT b.oid FROM busy b) AS is_busy, i.indrelid IN (SELECT b.oid FROM busy b) AS is_table_busy
  FROM (SELECT DISTINCT f.oid FROM found f) f
  CROSS JOIN LATERAL (SELECT i.* FROM pg_catalog.pg_index i WHERE i.indrelid = f.oid OFFSET 0) i
  CROSS JOIN LATERAL (SELECT c.relname, c.relnamespace, c.relam, c.relpages, c.reltablespace
    FROM pg_catalog.pg_class c WHERE c.oid = i.indexrelid LIMIT 1) c),
indexes_of(oid, indexes) AS MATERIALIZED (
  SELECT i.indrelid, pg_catalog.json_agg(pg_catalog.json_build_object(
      'oid', i.indexrelid::pg_catalog.int8,
      'schema', ns.nspname,
      'name', i.relname,
      'valid', i.indisvalid,
      'ready', i.indisready,
      'unique', i.indisunique,
      'primary', i.indisprimary,
      'immediate', i.indimmediate,
      'partial', i.indpred IS NOT NULL,
      'method', (SELECT m.amname FROM pg_catalog.pg_am m WHERE m.oid = i.relam),
      'columns', coalesce((SELECT pg_catalog.json_agg(a.attname ORDER BY k.at)
        FROM pg_catalog.unnest(i.indkey::pg_catalog.int2[]) WITH ORDINALITY k(attnum, at)
        LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum AND k.attnum <> 0
        WHERE k.at <= i.indnkeyatts), '[]'::json),
-- if rows
      -- Where the operators are by which its keys are in order; only for what is put into an UPDATE or DELETE.
      'operators', coalesce((SELECT pg_catalog.json_agg(n.nspname ORDER BY k.at)
        FROM pg_catalog.unnest(i.indclass::pg_catalog.oid[]) WITH ORDINALITY k(class, at)
        JOIN pg_catalog.pg_opclass o ON o.oid = k.class
        JOIN pg_catalog.pg_amop m ON m.amopfamily = o.opcfamily AND m.amoplefttype = o.opcintype AND m.amoprighttype = o.opcintype AND m.amopstrategy = 5
        JOIN pg_catalog.pg_operator p ON p.oid = m.amopopr
        JOIN pg_catalog.pg_namespace n ON n.oid = p.oprnamespace
        WHERE k.at <= i.indnkeyatts AND i.relam = 403), '[]'::json),
-- end
      'mentions', coalesce((SELECT pg_catalog.json_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
        WHERE a.attrelid = i.indrelid AND a.attnum > 0 AND (a.attnum = ANY (i.indkey::pg_catalog.int2[]) OR EXISTS (
          -- 1259 is pg_class, below 2606 is pg_constraint: a cast from the name would open the catalogs.
          SELECT FROM pg_catalog.pg_depend d
          WHERE d.classid = 1259 AND d.objid = i.indexrelid AND d.refclassid = 1259 AND d.refobjid = i.indrelid AND d.refobjsubid = a.attnum))), '[]'::json),
      'parent', (SELECT p.relname FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class p ON p.oid = h.inhparent WHERE h.inhrelid = i.indexrelid),
      'constraint', (SELECT c.conname FROM pg_catalog.pg_constraint c
        WHERE c.conindid = i.indexrelid AND c.conrelid = i.indrelid AND c.contype IN ('p', 'u', 'x') LIMIT 1),
-- if columns
      'special', CASE WHEN i.indisclustered THEN 'the table is clustered on it'
          WHEN i.indisreplident THEN 'it is the replica identity'
          WHEN i.reltablespace <> 0 THEN 'it has a tablespace of its own'
          WHEN EXISTS (SELECT FROM pg_catalog.pg_attribute s WHERE s.attrelid = i.indexrelid AND s.attstattarget >= 0) THEN 'it has a statistics target of its own' END,
-- end
      'bytes', CASE WHEN i.is_busy THEN i.relpages * b.size ELSE coalesce(pg_catalog.pg_relation_size(i.indexrelid), 0) END,
      'definition', CASE WHEN i.is_table_busy OR i.is_busy THEN '' ELSE coalesce(pg_catalog.pg_get_indexdef(i.indexrelid), '') END)
      ORDER BY i.indexrelid)
      FROM indexed i JOIN pg_catalog.pg_namespace ns ON ns.oid = i.relnamespace CROSS JOIN block b
  GROUP BY i.indrelid),
-- end
-- Main fork and rows of each relation with all that inherits from it.
sized(root, bytes, tuples) AS MATERIALIZED (
  SELECT t.root,
    pg_catalog.sum(CASE
      WHEN c.relkind NOT IN ('r', 'm', 'i', 'S', 't') THEN 0
      -- What cannot be looked at is not taken for empty.
      WHEN c.oid IN (SELECT b.oid FROM busy b) THEN greatest(c.relpages, 1) * k.size
      ELSE coalesce(pg_catalog.pg_relation_size(c.oid), c.relpages * k.size) END),
    pg_catalog.sum(CASE WHEN c.relkind = 'p' OR c.reltuples < 0 OR (c.reltuples = 0 AND c.relpages = 0) THEN NULL ELSE c.reltuples::pg_catalog.float8 END)
  FROM tree t CROSS JOIN LATERAL (SELECT c.oid, c.relkind, c.relpages, c.reltuples FROM pg_catalog.pg_class c WHERE c.oid = t.oid LIMIT 1) c CROSS JOIN block k
  GROUP BY t.root),
-- That a relation's row type belongs to it is written down when it is created, and by nothing that a role can do to it later is that
-- row written again: not by OWNER TO, GRANT, SET SCHEMA or RENAME, as those of pg_class, pg_type and pg_attribute are. Sequences and
-- indexes have no row type (of an index, its table counts). With a relation goes what inherits from it, which may be older.
-- 1247 is pg_type, 1259 pg_class.
births(oid, born) AS (
  SELECT t.root, (SELECT d.xmin::text::pg_catalog.int8 FROM pg_catalog.pg_depend d
    WHERE d.classid = 1247 AND d.objid = c.reltype AND d.objsubid = 0 AND d.refclassid = 1259 AND d.refobjid = c.oid AND d.deptype = 'i')
  FROM tree t CROSS JOIN LATERAL (SELECT c.oid, c.reltype FROM pg_catalog.pg_class c WHERE c.oid = t.oid LIMIT 1) c
  WHERE (SELECT m.xid FROM mine m) IS NOT NULL),
-- Modulo 2^32, as xids are; none of ours is older than the transaction's own.
aged(oid, born, age) AS (
  SELECT b.oid, b.born, ((b.born - m.xid + 2147483648) & 4294967295) - 2147483648 FROM births b CROSS JOIN mine m),
created(oid, here) AS MATERIALIZED (
  SELECT g.oid, pg_catalog.bool_and(coalesce(CASE
      WHEN g.born < 3 OR g.age < 0 THEN false
      WHEN m.xid + g.age >= m.xmax THEN true
      ELSE pg_catalog.pg_xact_status((m.xid + g.age)::text::pg_catalog.xid8) = 'in progress' END, false))
  FROM aged g CROSS JOIN mine m GROUP BY g.oid),
-- if types
domains(s, n, oid, kind, base, constrained, root) AS (
  SELECT a.s, a.n, y.oid, y.typtype, y.typbasetype, y.typtype = 'd' AND (y.typnotnull OR coalesce((SELECT true FROM pg_catalog.pg_constraint c WHERE c.contypid = y.oid LIMIT 1), false)), true
  FROM asked_types a
  JOIN pg_catalog.pg_type y ON y.typname = a.n
  JOIN pg_catalog.pg_namespace ns ON ns.oid = y.typnamespace
  WHERE CASE WHEN a.s IS NULL THEN y.oid = ANY (pg_catalog.current_setting('lockkeeper.types')::pg_catalog.oid[])
             WHEN a.s = 'pg_temp' THEN y.typnamespace = pg_catalog.pg_my_temp_schema()
             ELSE ns.nspname = a.s END
  UNION
  SELECT d.s, d.n, y.oid, d.kind, y.typbasetype, y.typtype = 'd' AND (y.typnotnull OR coalesce((SELECT true FROM pg_catalog.pg_constraint c WHERE c.contypid = y.oid LIMIT 1), false)), false
  FROM domains d JOIN pg_catalog.pg_type y ON y.oid = d.base),
-- The tables with columns of these domains, or of domains over them.
over(s, n, oid) AS (
  SELECT d.s, d.n, d.oid FROM domains d WHERE d.root AND d.kind = 'd' AND {domain_users}
  UNION
  SELECT o.s, o.n, y.oid FROM over o JOIN pg_catalog.pg_type y ON y.typbasetype = o.oid AND y.typtype = 'd'),
users(s, n, oid) AS (
  SELECT DISTINCT o.s, o.n, a.attrelid FROM over o
  JOIN pg_catalog.pg_attribute a ON a.atttypid = o.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid AND c.relkind IN ('r', 'm')),
-- end
-- if names
-- Names that one generated from a relation's could collide with begin with its first 24 bytes: whichever part the server cuts, so many
-- are left. Looked for in the order of the names' indexes, once for all relations that begin in the same way.
stems(schema, stem, plain) AS (
  SELECT DISTINCT f.relnamespace, pg_catalog."left"(f.relname::text, CASE WHEN f.relname::text ~ '^[ -~]+$' THEN 24 ELSE 6 END),
    f.relname::text ~ '^[ -~]+$'
  FROM found f WHERE f.relkind IN ('r', 'p', 'm')),
taken_relations(stem, name) AS (
  SELECT s.stem, t.relname FROM stems s CROSS JOIN LATERAL (
    SELECT c.relname FROM pg_catalog.pg_class c
    WHERE s.plain AND c.relname >= s.stem::name AND c.relname < (s.stem || pg_catalog.chr(127))::name AND c.relnamespace = s.schema OFFSET 0) t
  WHERE t.relname::text ~ '_(idx|key|pkey|seq)[0-9]*$'
  UNION ALL
  SELECT s.stem, t.relname FROM stems s CROSS JOIN LATERAL (
    SELECT c.relname FROM pg_catalog.pg_class c
    WHERE NOT s.plain AND c.relnamespace = s.schema AND pg_catalog.starts_with(c.relname::text, s.stem) OFFSET 0) t
  WHERE t.relname::text ~ '_(idx|key|pkey|seq)[0-9]*$'),
taken_constraints(stem, name, of) AS (
  SELECT s.stem, t.conname, t.conrelid FROM stems s CROSS JOIN LATERAL (
    SELECT c.conname, c.conrelid, c.coninhcount FROM pg_catalog.pg_constraint c
    WHERE s.plain AND c.conname >= s.stem::name AND c.conname < (s.stem || pg_catalog.chr(127))::name AND c.connamespace = s.schema OFFSET 0) t
  WHERE t.conname::text ~ '_(check|fkey|key|pkey|not_null)[0-9]*$'
    -- What a partition has from its parent is the parent's own.
    AND NOT (t.coninhcount > 0 AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = t.conrelid))
  UNION ALL
  SELECT s.stem, t.conname, t.conrelid FROM stems s CROSS JOIN LATERAL (
    SELECT c.conname, c.conrelid, c.coninhcount FROM pg_catalog.pg_constraint c
    WHERE NOT s.plain AND c.connamespace = s.schema AND pg_catalog.starts_with(c.conname::text, s.stem) OFFSET 0) t
  WHERE t.conname::text ~ '_(check|fkey|key|pkey|not_null)[0-9]*$'
    AND NOT (t.coninhcount > 0 AND EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = t.conrelid))),
-- end
block(size) AS (SELECT pg_catalog.current_setting('block_size')::pg_catalog.int8)
-- As ASCII: the client's encoding may lack characters of names that the client never wrote.
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  'server_version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'database', pg_catalog.current_database(),
  'role', current_user,
  'session_role', session_user,
  'superuser', (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user),
  'application_name', pg_catalog.current_setting('application_name'),
  'backend_pid', pg_catalog.pg_backend_pid(),
  'override', nullif(pg_catalog.current_setting('lockkeeper.override', true), ''),
  'dry_run', nullif(pg_catalog.current_setting('lockkeeper.dry_run', true), ''),
  'may_prepare', pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int4 > 0,
  'event_triggers', EXISTS (SELECT FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled <> 'D'),
  'time_zone', pg_catalog.current_setting('TimeZone'),
-- if jobs
  'jobs', ({jobs}),
-- end
  'jobs_there', EXISTS (SELECT FROM pg_catalog.pg_class j WHERE j.relname = 'job'
    AND j.relnamespace = (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname = 'lockkeeper')),
  -- Whoever else made it would be trusted by nobody.
  'may_create_jobs', (SELECT (r.rolsuper OR (r.oid = d.datdba AND current_user = session_user))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid = n.nspowner
        WHERE n.nspname = 'lockkeeper' AND o.oid <> r.oid AND NOT o.rolsuper)
    FROM pg_catalog.pg_roles r, pg_catalog.pg_database d
    WHERE r.rolname = current_user AND d.datname = pg_catalog.current_database()),
  'client_min_messages', pg_catalog.current_setting('client_min_messages'),
  'lock_timeout_ms', (EXTRACT(epoch FROM pg_catalog.current_setting('lock_timeout')::interval) * 1000)::pg_catalog.int8,
  'statement_timeout_ms', (EXTRACT(epoch FROM pg_catalog.current_setting('lockkeeper.statement_timeout')::interval) * 1000)::pg_catalog.int8,
-- if names
  'taken_relations', (SELECT pg_catalog.json_object_agg(t.stem, t.names) FROM (
    SELECT r.stem, pg_catalog.json_agg(r.name) AS names FROM taken_relations r GROUP BY r.stem) t),
  'taken_constraints', (SELECT pg_catalog.json_object_agg(t.stem, t.names) FROM (
    SELECT r.stem, pg_catalog.json_agg(pg_catalog.json_build_array(r.name, r.of::pg_catalog.int8)) AS names FROM taken_constraints r GROUP BY r.stem) t),
-- end
-- if functions
  'functions', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'asked', pg_catalog.json_build_object('schema', v.s, 'name', v.n), 'volatile', v.volatile, 'immutable', v.immutable, 'built_in', v.built_in))
    FROM (SELECT a.s, a.n, pg_catalog.bool_or(p.provolatile = 'v') AS volatile, pg_catalog.bool_and(p.provolatile = 'i') AS immutable,
        -- The server's own have the OIDs below FirstNormalObjectId.
        pg_catalog.bool_and(p.oid < 16384) AS built_in
      FROM asked_functions a
      JOIN pg_catalog.pg_proc p ON p.proname = a.n
      JOIN pg_catalog.pg_namespace ns ON ns.oid = p.pronamespace
      WHERE CASE WHEN a.s IS NULL THEN p.oid = ANY (pg_catalog.current_setting('lockkeeper.functions')::pg_catalog.oid[]) ELSE ns.nspname = a.s END
      GROUP BY a.s, a.n) v), '[]'::json),
-- end
-- if types
  'types', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'asked', pg_catalog.json_build_object('schema', v.s, 'name', v.n), 'kind', v.kind, 'constrained', v.constrained,
    -- The type below all domains, with its modifier.
    'base', (SELECT pg_catalog.format_type(y.typbasetype, y.typtypmod) FROM domains d JOIN pg_catalog.pg_type y ON y.oid = d.oid
      WHERE d.s IS NOT DISTINCT FROM v.s AND d.n = v.n AND y.typtype = 'd' AND (SELECT x.typtype FROM pg_catalog.pg_type x WHERE x.oid = y.typbasetype) <> 'd' LIMIT 1),
    'not_null', coalesce((SELECT pg_catalog.bool_or(y.typnotnull) FROM domains d JOIN pg_catalog.pg_type y ON y.oid = d.oid
      WHERE d.s IS NOT DISTINCT FROM v.s AND d.n = v.n AND y.typtype = 'd'), false),
    -- What a domain has from the one below it is written down with it.
    'has_default', coalesce((SELECT pg_catalog.bool_or(d.root AND y.typdefaultbin IS NOT NULL) FROM domains d JOIN pg_catalog.pg_type y ON y.oid = d.oid
      WHERE d.s IS NOT DISTINCT FROM v.s AND d.n = v.n AND y.typtype = 'd'), false),
    -- A domain's, so that no relation is opened, busy or not.
    'checks', coalesce((SELECT pg_catalog.json_agg(pg_catalog.pg_get_constraintdef(c.oid) ORDER BY c.oid)
      FROM domains d JOIN pg_catalog.pg_constraint c ON c.contypid = d.oid AND c.contype = 'c'
      WHERE d.s IS NOT DISTINCT FROM v.s AND d.n = v.n), '[]'::json),
    'used_by', coalesce((SELECT pg_catalog.json_agg(DISTINCT pg_catalog.format('%I.%I', ns.nspname, c.relname))
      FROM users u JOIN pg_catalog.pg_class c ON c.oid = u.oid JOIN pg_catalog.pg_namespace ns ON ns.oid = c.relnamespace
      WHERE u.s IS NOT DISTINCT FROM v.s AND u.n = v.n), '[]'::json),
    'used_bytes', coalesce((SELECT pg_catalog.sum(CASE WHEN c.oid IN (SELECT b.oid FROM busy b) THEN greatest(c.relpages, 1) * k.size
        ELSE coalesce(pg_catalog.pg_relation_size(c.oid), c.relpages * k.size) END)
      FROM (SELECT DISTINCT u.oid FROM users u WHERE u.s IS NOT DISTINCT FROM v.s AND u.n = v.n) t
      JOIN pg_catalog.pg_class c ON c.oid = t.oid CROSS JOIN block k), 0)::pg_catalog.int8))
    FROM (SELECT d.s, d.n, d.kind, pg_catalog.bool_or(d.constrained) AS constrained FROM domains d GROUP BY d.s, d.n, d.kind) v), '[]'::json),
-- end
  'relations', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'asked', pg_catalog.json_build_object('schema', f.s, 'name', f.n),
    'oid', f.oid::pg_catalog.int8,
    'schema', f.nspname,
    'name', f.relname,
    'kind', f.relkind,
    'persistence', f.relpersistence,
    'bytes', coalesce(z.bytes, 0)::pg_catalog.int8,
    'rows', z.tuples,
    'created_here', coalesce(h.here, false),
    'never_filled', CASE WHEN f.is_busy OR f.relkind <> 'r' THEN false ELSE coalesce(pg_catalog.pg_relation_size(f.oid) = 0
      AND pg_catalog.pg_relation_filenode(f.oid) = f.oid AND pg_catalog.pg_stat_get_tuples_inserted(f.oid) = 0, false) END,
    'is_partition', f.relispartition,
    'alone', NOT f.relispartition AND NOT f.relhassubclass AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid = f.oid),
    'held', f.oid IN (SELECT s.oid FROM strong s WHERE s.own),
    'owner', pg_catalog.pg_get_userbyid(f.relowner),
-- if rows
    -- Itself and what inherits from it: an UPDATE's other tables are compared with its target.
    'tree', (SELECT pg_catalog.json_agg(t.oid::pg_catalog.int8) FROM tree t WHERE t.root = f.oid),
    -- Keys that every partition has, where the parent itself may have none: unique, whole, in the plain order of the columns.
    'leaf_keys', CASE WHEN f.relkind <> 'p' THEN '[]'::json ELSE coalesce((
      SELECT pg_catalog.json_agg(v.columns ORDER BY v.is_primary DESC, v.columns)
      FROM (
        SELECT k.columns, pg_catalog.bool_and(k.is_primary) AS is_primary
        FROM (
          SELECT t.oid, i.indisprimary AS is_primary, (
            SELECT pg_catalog.array_agg(a.attname::text ORDER BY p.at)
            FROM pg_catalog.generate_series(0, i.indnkeyatts - 1) p(at)
            JOIN pg_catalog.pg_attribute a ON a.attrelid = t.oid AND a.attnum = i.indkey[p.at] AND a.attnotnull AND i.indoption[p.at] = 0
              AND i.indcollation[p.at] = a.attcollation
              AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
                WHERE c.conrelid = a.attrelid AND c.contype = 'n' AND NOT c.convalidated AND a.attnum = ANY (c.conkey))
            JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[p.at] AND o.opcdefault
            HAVING pg_catalog.count(*) = i.indnkeyatts) AS columns
          FROM tree t
          JOIN pg_catalog.pg_index i ON i.indrelid = t.oid AND i.indisunique AND i.indisvalid AND i.indisready AND i.indimmediate AND i.indpred IS NULL
          JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid AND x.relkind = 'i' AND x.relam = 403
          WHERE t.root = f.oid) k
        WHERE k.columns IS NOT NULL
        GROUP BY k.columns
        HAVING pg_catalog.count(DISTINCT k.oid) = (SELECT pg_catalog.count(*) FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind <> 'p' WHERE t.root = f.oid)) v), '[]'::json) END,
    -- Of a view that PostgreSQL itself can write through: which of its columns are plain columns of what is behind it, and what
    -- it evaluates, from the stored query's text. Names in it have no blanks that are not escaped, so that none looks like a mark.
    'view', CASE WHEN f.relkind = 'v' THEN (
      SELECT pg_catalog.json_build_object(
        'base', w.base::pg_catalog.int8,
        'writes', CASE WHEN EXISTS (SELECT FROM found g WHERE g.is_busy AND g.oid IN (SELECT b.oid FROM behind b UNION SELECT f.oid)) THEN 0
          ELSE pg_catalog.pg_relation_is_updatable(f.oid, false) END,
        'columns', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_array(va.attname, ba.attname))
          FROM pg_catalog.regexp_matches(w.query, ':resno ([0-9]+) :resname [^:]+ :ressortgroupref [0-9]+ :resorigtbl ([0-9]+) :resorigcol ([0-9]+) :resjunk false', 'g') m(found)
          JOIN pg_catalog.pg_attribute va ON va.attrelid = f.oid AND va.attnum = m.found[1]::pg_catalog.int2
          JOIN pg_catalog.pg_attribute ba ON ba.attrelid = w.base AND ba.attnum = m.found[3]::pg_catalog.int2 AND ba.attnum > 0
          WHERE m.found[2]::pg_catalog.oid = w.base), '[]'::json),
        'barrier', EXISTS (SELECT FROM pg_catalog.pg_class c CROSS JOIN LATERAL pg_catalog.pg_options_to_table(c.reloptions) o
          WHERE c.oid = f.oid AND o.option_name = 'security_barrier' AND o.option_value::bool),
        'subselect', pg_catalog.strpos(w.query, '{SUBLINK ') > 0,
        -- VOLATILE, or neither the server's own nor IMMUTABLE.
        'unsteady', (SELECT p.proname FROM pg_catalog.pg_proc p
          WHERE p.oid IN (SELECT m.found[1]::pg_catalog.oid FROM pg_catalog.regexp_matches(w.query, ':(?:op)?funcid ([0-9]+)', 'g') m(found))
            AND NOT (p.provolatile = 'i' OR (p.provolatile = 's' AND p.oid < 16384 AND p.proname !~ '_to_xml|^ts_stat')) LIMIT 1),
        -- Another session of the same role may see other rows: by the server's own functions, SESSION_USER and its like, or policies.
        'opaque', w.query ~ '[{]SQLVALUEFUNCTION :op 1[2-4] ' OR EXISTS (SELECT FROM pg_catalog.pg_proc p
          WHERE p.oid IN (SELECT m.found[1]::pg_catalog.oid FROM pg_catalog.regexp_matches(w.query, ':(?:op)?funcid ([0-9]+)', 'g') m(found))
            AND p.provolatile = 's' AND p.proname ~ '^(current_|inet_|pg_|has_|txid_|row_security)')
          OR EXISTS (SELECT FROM pg_catalog.pg_class c WHERE c.oid = w.base AND c.relrowsecurity))
      FROM (
        SELECT r.ev_action::text AS query, (
          SELECT CASE WHEN pg_catalog.count(DISTINCT d.refobjid) = 1 THEN pg_catalog.min(d.refobjid::pg_catalog.int8)::pg_catalog.oid END
          FROM pg_catalog.pg_depend d
          WHERE d.classid = 2618 AND d.objid = r.oid AND d.refclassid = 1259 AND d.refobjid <> f.oid) AS base
        FROM pg_catalog.pg_rewrite r WHERE r.ev_class = f.oid AND r.ev_type = '1') w) END,
-- end
    'table', (SELECT pg_catalog.json_build_object('schema', ns.nspname, 'name', c.relname)
      FROM pg_catalog.pg_index i
      JOIN pg_catalog.pg_class c ON c.oid = i.indrelid
      JOIN pg_catalog.pg_namespace ns ON ns.oid = c.relnamespace
      WHERE i.indexrelid = f.oid),
    'flawed', EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = f.oid AND NOT i.indisvalid)
      OR EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.conrelid = f.oid AND NOT c.convalidated)
-- if details
    , 'parents', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('schema', ns.nspname, 'name', c.relname))
      FROM pg_catalog.pg_inherits h
      JOIN pg_catalog.pg_class c ON c.oid = h.inhparent
      JOIN pg_catalog.pg_namespace ns ON ns.oid = c.relnamespace
      WHERE h.inhrelid = f.oid), '[]'::json),
    'bound', (SELECT CASE WHEN f.is_busy THEN '' ELSE pg_catalog.pg_get_expr(c.relpartbound, c.oid) END
      FROM pg_catalog.pg_class c WHERE c.oid = f.oid AND c.relpartbound IS NOT NULL),
    'partition_key', CASE WHEN f.relkind = 'p' AND NOT f.is_busy THEN pg_catalog.pg_get_partkeydef(f.oid) END,
    -- Since PostgreSQL 14.
    'detach_pending', coalesce((SELECT pg_catalog.bool_or((pg_catalog.to_jsonb(h) ->> 'inhdetachpending')::bool)
      FROM pg_catalog.pg_inherits h WHERE h.inhrelid = f.oid), false),
    'access_method', (SELECT m.amname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am m ON m.oid = c.relam WHERE c.oid = f.oid),
    'tablespace', (SELECT t.spcname FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_tablespace t ON t.oid = CASE WHEN c.reltablespace <> 0 THEN c.reltablespace
        ELSE (SELECT d.dattablespace FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()) END
      WHERE c.oid = f.oid),
    -- Of others' comments only that they are there: the client's encoding may not have their characters.
    'comment', (SELECT CASE WHEN pg_catalog.left(x.description, 12) = 'lockkeeper: ' THEN x.description ELSE '' END FROM pg_catalog.pg_description x WHERE x.objoid = f.oid AND x.classoid = 1259 AND x.objsubid = 0),
    'rules', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', r.rulename, 'on_update', r.ev_type = '2', 'on_delete', r.ev_type = '4'))
      FROM pg_catalog.pg_rewrite r WHERE r.ev_class = f.oid AND r.ev_type <> '1'), '[]'::json),
-- if rules
    'ruled', f.relkind IN ('r', 'p', 'v', 'm', 'f') AND EXISTS (
      WITH RECURSIVE seen(oid) AS (
        SELECT f.oid UNION
        SELECT d.refobjid FROM seen s JOIN pg_catalog.pg_rewrite r ON r.ev_class = s.oid AND r.ev_type = '1'
        JOIN pg_catalog.pg_depend d ON d.classid = 2618 AND d.objid = r.oid AND d.refclassid = 1259)
      SELECT FROM seen s JOIN pg_catalog.pg_rewrite r ON r.ev_class = s.oid
      WHERE r.ev_type <> '1' AND r.ev_enabled <> 'D' AND r.ev_action::pg_catalog.text <> '<>'),
-- end
-- if rows
    -- What the rows that the role may see depend on. 3256 is pg_policy, 1255 pg_proc, 1259 pg_class.
    'row_security', CASE WHEN f.relkind IN ('r', 'p') AND pg_catalog.row_security_active(f.oid) THEN (
      SELECT pg_catalog.json_build_object(
        'settings', coalesce(pg_catalog.json_object_agg(n.name, coalesce(pg_catalog.current_setting(n.name, true), '')) FILTER (WHERE n.name IS NOT NULL), '{}'::json),
        'opaque', coalesce(pg_catalog.bool_or(n.name IS NULL), false))
      FROM (
        SELECT DISTINCT m.found[1] AS name
        FROM pg_catalog.pg_policy p
        CROSS JOIN LATERAL pg_catalog.regexp_matches(CASE WHEN f.is_busy THEN 'current_setting(' ELSE coalesce(pg_catalog.pg_get_expr(p.polqual, p.polrelid), '')
          || ' ' || CASE WHEN f.is_busy THEN '' ELSE coalesce(pg_catalog.pg_get_expr(p.polwithcheck, p.polrelid), '') END END, 'current_setting[(](?:''([a-zA-Z_0-9]+[.][^'']+)'')?', 'g') m(found)
        WHERE p.polrelid = f.oid
        UNION
        SELECT NULL FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_depend d ON d.classid = 3256 AND d.objid = p.oid
        WHERE p.polrelid = f.oid AND (d.refclassid = 1255 OR (d.refclassid = 1259 AND d.refobjid <> f.oid))) n) END,
-- end
    'columns', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', a.attname,
      'type_name', pg_catalog.format_type(a.atttypid, a.atttypmod),
      -- Of a domain the type below all domains.
      'base_type', (WITH RECURSIVE b(oid, modifier, is_domain) AS (
          SELECT y.typbasetype, y.typtypmod, true FROM pg_catalog.pg_type y WHERE y.oid = a.atttypid AND y.typtype = 'd'
          UNION ALL
          SELECT y.typbasetype, y.typtypmod, true FROM b JOIN pg_catalog.pg_type y ON y.oid = b.oid AND y.typtype = 'd')
        SELECT pg_catalog.format_type(b.oid, b.modifier) FROM b JOIN pg_catalog.pg_type y ON y.oid = b.oid WHERE y.typtype <> 'd'),
      'is_enum', (SELECT y.typtype = 'e' FROM pg_catalog.pg_type y WHERE y.oid = a.atttypid),
      -- Since PostgreSQL 18 attnotnull is set for a NOT VALID constraint too.
      'not_null', a.attnotnull AND NOT EXISTS (SELECT FROM pg_catalog.pg_constraint c
        WHERE c.conrelid = a.attrelid AND c.contype = 'n' AND NOT c.convalidated AND a.attnum = ANY (c.conkey)),
      'default', CASE WHEN d.oid IS NULL THEN NULL WHEN f.is_busy THEN '' ELSE coalesce(pg_catalog.pg_get_expr(d.adbin, d.adrelid), '') END,
-- if columns
      'collation', (SELECT pg_catalog.format('%I.%I', n.nspname, k.collname) FROM pg_catalog.pg_type y, pg_catalog.pg_collation k
        JOIN pg_catalog.pg_namespace n ON n.oid = k.collnamespace
        WHERE y.oid = a.atttypid AND k.oid = a.attcollation AND a.attcollation <> y.typcollation),
-- end
-- if schema
      'analyzed', true,
-- end
-- if rows
      'analyzed', EXISTS (SELECT FROM pg_catalog.pg_stats p
        WHERE p.schemaname = f.nspname AND p.tablename = f.relname AND p.attname = a.attname),
-- end
      'identity', a.attidentity,
      'generated', a.attgenerated,
      'comment', (SELECT CASE WHEN pg_catalog.left(x.description, 12) = 'lockkeeper: ' THEN x.description ELSE '' END FROM pg_catalog.pg_description x
        WHERE x.objoid = a.attrelid AND x.classoid = 1259 AND x.objsubid = a.attnum)) ORDER BY a.attnum)
      FROM pg_catalog.pg_attribute a
      LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
      WHERE a.attrelid = f.oid AND a.attnum > 0 AND NOT a.attisdropped), '[]'::json),
    'indexes', coalesce(x.indexes, '[]'::json),
    'constraints', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', c.conname,
      'kind', c.contype,
      'validated', c.convalidated,
      'columns', coalesce((SELECT pg_catalog.json_agg(a.attname ORDER BY k.at)
        FROM pg_catalog.unnest(c.conkey) WITH ORDINALITY k(attnum, at)
        JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = k.attnum), '[]'::json),
      'definition', CASE WHEN f.is_busy OR c.confrelid IN (SELECT b.oid FROM busy b) THEN '' ELSE coalesce(pg_catalog.pg_get_constraintdef(c.oid), '') END,
      'references', (SELECT pg_catalog.json_build_object('schema', ns.nspname, 'name', r.relname)
        FROM pg_catalog.pg_class r JOIN pg_catalog.pg_namespace ns ON ns.oid = r.relnamespace WHERE r.oid = c.confrelid),
      'comment', (SELECT CASE WHEN pg_catalog.left(x.description, 12) = 'lockkeeper: ' THEN x.description ELSE '' END FROM pg_catalog.pg_description x WHERE x.objoid = c.oid AND x.classoid = 2606 AND x.objsubid = 0))
      ORDER BY c.oid)
      FROM pg_catalog.pg_constraint c WHERE c.conrelid = f.oid), '[]'::json),
-- if columns
    -- 2618 is pg_rewrite, 2604 pg_attrdef, 3256 pg_policy, 2620 pg_trigger, 3381 pg_statistic_ext, 2606 pg_constraint, 1255 pg_proc.
    'column_users', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('column', a.attname, 'what',
      CASE d.classid
        WHEN 2618 THEN coalesce((SELECT CASE c.relkind WHEN 'v' THEN 'the view ' WHEN 'm' THEN 'the materialized view ' ELSE 'a rule of ' END || c.relname
          FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid = r.ev_class WHERE r.oid = d.objid), 'a view')
        WHEN 2604 THEN 'a generated column'
        WHEN 3256 THEN coalesce((SELECT 'the policy ' || p.polname FROM pg_catalog.pg_policy p WHERE p.oid = d.objid), 'a policy')
        WHEN 2620 THEN coalesce((SELECT 'the trigger ' || t.tgname FROM pg_catalog.pg_trigger t WHERE t.oid = d.objid), 'a trigger')
        WHEN 3381 THEN coalesce((SELECT 'the extended statistics ' || s.stxname FROM pg_catalog.pg_statistic_ext s WHERE s.oid = d.objid), 'extended statistics')
        WHEN 2606 THEN coalesce((SELECT 'the constraint ' || c.conname || ' of ' || r.relname FROM pg_catalog.pg_constraint c
          JOIN pg_catalog.pg_class r ON r.oid = c.conrelid WHERE c.oid = d.objid), 'a constraint')
        WHEN 1255 THEN coalesce((SELECT 'the function ' || p.proname FROM pg_catalog.pg_proc p WHERE p.oid = d.objid), 'a function')
        WHEN 1259 THEN coalesce((SELECT CASE c.relkind WHEN 'S' THEN 'the sequence ' ELSE 'the relation ' END || c.relname FROM pg_catalog.pg_class c WHERE c.oid = d.objid), 'a relation')
        ELSE coalesce((SELECT 'an entry of ' || c.relname FROM pg_catalog.pg_class c WHERE c.oid = d.classid), 'something else') END))
      FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_attribute a ON a.attrelid = d.refobjid AND a.attnum = d.refobjsubid
      WHERE d.refclassid = 1259 AND d.refobjid = f.oid AND d.refobjsubid > 0
        AND NOT (d.classid = 1259 AND d.objid IN (SELECT i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid = f.oid))
        AND NOT (d.classid = 2606 AND EXISTS (SELECT FROM pg_catalog.pg_constraint c WHERE c.oid = d.objid AND c.conrelid = f.oid
          AND NOT (c.confrelid = f.oid AND d.refobjsubid = ANY (c.confkey))))
        AND NOT (d.classid = 2604 AND a.attgenerated = '' AND EXISTS (SELECT FROM pg_catalog.pg_attrdef x
          WHERE x.oid = d.objid AND x.adrelid = f.oid AND x.adnum = d.refobjsubid))), '[]'::json),
    -- 6237 is pg_publication_namespace, since PostgreSQL 15.
    'published', f.relkind IN ('r', 'p') AND (
      EXISTS (SELECT FROM pg_catalog.pg_publication p WHERE p.puballtables)
      OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel p WHERE p.prrelid = f.oid)
      OR EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_class c ON c.oid = f.oid
        WHERE d.classid = 6237 AND d.refclassid = 2615 AND d.refobjid = c.relnamespace)),
-- end
    'triggers', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'name', t.tgname,
      'for_each_row', (t.tgtype & 1) <> 0,
      'transition', t.tgoldtable IS NOT NULL OR t.tgnewtable IS NOT NULL,
      'before', (t.tgtype & 2) <> 0,
      'disabled', CASE t.tgenabled WHEN 'D' THEN true WHEN 'A' THEN false
        WHEN 'R' THEN pg_catalog.current_setting('session_replication_role') <> 'replica'
        ELSE pg_catalog.current_setting('session_replication_role') = 'replica' END,
      'on_replica', t.tgenabled IN ('A', 'R'),
      'of_columns', t.tgattr::text <> '',
      'on_update', (t.tgtype & 16) <> 0,
      'on_delete', (t.tgtype & 8) <> 0,
      'comment', (SELECT CASE WHEN pg_catalog.left(x.description, 12) = 'lockkeeper: ' THEN x.description ELSE '' END FROM pg_catalog.pg_description x
        WHERE x.objoid = t.oid AND x.classoid = 2620 AND x.objsubid = 0)) ORDER BY t.tgname)
      FROM pg_catalog.pg_trigger t WHERE t.tgrelid = f.oid AND NOT t.tgisinternal), '[]'::json)
-- end
    ))
    FROM found f
    LEFT JOIN sized z ON z.root = f.oid
    LEFT JOIN created h ON h.oid = f.oid
-- if details
    LEFT JOIN indexes_of x ON x.oid = f.oid
-- end
    ), '[]'::json))::text, CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII'
  ELSE 'UTF8' END), 'base64')
