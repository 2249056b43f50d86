WITH asked(s, n, at) AS (
  -- Nobody's schema has an empty name: it stands for none.
  SELECT a.s, a.n, a.at
  FROM ROWS FROM (pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.relation_schemas')::pg_catalog.text[]),
    pg_catalog.unnest(pg_catalog.current_setting('lockkeeper.relation_names')::pg_catalog.text[])) WITH ORDINALITY a(s, n, at)),
-- A prepared transaction holds its locks without a process.
strong(oid, own, exclusive) AS MATERIALIZED (
  SELECT l.relation, coalesce(l.pid OPERATOR(pg_catalog.=) pg_catalog.pg_backend_pid(), false), l.mode OPERATOR(pg_catalog.=) 'AccessExclusiveLock'
  FROM pg_catalog.pg_locks l
  WHERE l.locktype OPERATOR(pg_catalog.=) 'relation'
    AND l.mode OPERATOR(pg_catalog.=) ANY (ARRAY['ShareLock', 'ShareRowExclusiveLock', 'ExclusiveLock', 'AccessExclusiveLock'])
    AND l.database OPERATOR(pg_catalog.=) (SELECT d.oid FROM pg_catalog.pg_database d WHERE d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database())),
named(at, oid) AS MATERIALIZED (
  SELECT a.at, CASE
    WHEN a.s OPERATOR(pg_catalog.=) '' THEN pg_catalog.to_regclass(a.n)::pg_catalog.oid
    ELSE (SELECT c.oid FROM pg_catalog.pg_class c WHERE c.relname OPERATOR(pg_catalog.=) a.n::pg_catalog.name
      AND c.relnamespace OPERATOR(pg_catalog.=) (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) a.s::pg_catalog.name)) END
  FROM asked a),
-- By its key, whatever the planner expects of the catalog.
found AS MATERIALIZED (
  SELECT m.at, m.oid, c.*,
    c.lone AND NOT EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhrelid OPERATOR(pg_catalog.=) m.oid) AS alone,
    EXISTS (SELECT FROM strong s WHERE s.oid OPERATOR(pg_catalog.=) m.oid AND s.exclusive AND NOT s.own) AS busy
  FROM named m
  CROSS JOIN LATERAL (
    SELECT c.relname, c.relkind, c.relpersistence, c.relpages, c.reltuples, c.relowner, NOT c.relispartition AND NOT c.relhassubclass AS lone,
      (SELECT n.nspname FROM pg_catalog.pg_namespace n WHERE n.oid OPERATOR(pg_catalog.=) c.relnamespace) AS nspname
    FROM pg_catalog.pg_class c WHERE c.oid OPERATOR(pg_catalog.=) m.oid LIMIT 1) c)
SELECT CASE
  -- What this transaction has made, or holds, is the long question's.
  WHEN pg_catalog.pg_current_xact_id_if_assigned() IS NOT NULL THEN NULL
  WHEN EXISTS (SELECT FROM found f WHERE f.relkind OPERATOR(pg_catalog.<>) 'r' OR NOT f.alone OR f.busy) THEN NULL
  ELSE pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  'server_version', pg_catalog.current_setting('server_version_num')::pg_catalog.int4,
  'database', pg_catalog.current_database(),
  'role', current_user,
  'session_role', session_user,
  'superuser', (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname OPERATOR(pg_catalog.=) current_user),
  'application_name', pg_catalog.current_setting('application_name'),
  'backend_pid', pg_catalog.pg_backend_pid(),
  'override', pg_catalog.current_setting('lockkeeper.override', true),
  'dry_run', pg_catalog.current_setting('lockkeeper.dry_run', true),
  'may_prepare', pg_catalog.current_setting('max_prepared_transactions')::pg_catalog.int4 OPERATOR(pg_catalog.>) 0,
  'event_triggers', EXISTS (SELECT FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled OPERATOR(pg_catalog.<>) 'D'),
  'time_zone', pg_catalog.current_setting('TimeZone'),
  'jobs_there', EXISTS (SELECT FROM pg_catalog.pg_class j WHERE j.relname OPERATOR(pg_catalog.=) 'job'
    AND j.relnamespace OPERATOR(pg_catalog.=) (SELECT n.oid FROM pg_catalog.pg_namespace n WHERE n.nspname OPERATOR(pg_catalog.=) 'lockkeeper')),
  -- Whoever else made it would be trusted by nobody.
  'may_create_jobs', (SELECT (r.rolsuper OR (r.oid OPERATOR(pg_catalog.=) d.datdba AND current_user OPERATOR(pg_catalog.=) session_user))
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_namespace n JOIN pg_catalog.pg_roles o ON o.oid OPERATOR(pg_catalog.=) n.nspowner
        WHERE n.nspname OPERATOR(pg_catalog.=) 'lockkeeper' AND o.oid OPERATOR(pg_catalog.<>) r.oid AND NOT o.rolsuper)
    FROM pg_catalog.pg_roles r CROSS JOIN pg_catalog.pg_database d
    WHERE r.rolname OPERATOR(pg_catalog.=) current_user AND d.datname OPERATOR(pg_catalog.=) pg_catalog.current_database()),
  'client_min_messages', pg_catalog.current_setting('client_min_messages'),
  'lock_timeout_ms', (EXTRACT(epoch FROM pg_catalog.current_setting('lock_timeout')::pg_catalog.interval) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8,
  'statement_timeout_ms', (EXTRACT(epoch FROM pg_catalog.current_setting('lockkeeper.statement_timeout')::pg_catalog.interval) OPERATOR(pg_catalog.*) 1000)::pg_catalog.int8,
  'relations', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
    'asked', pg_catalog.json_build_object('name', f.at::pg_catalog.text),
    'oid', f.oid::pg_catalog.int8,
    'schema', f.nspname,
    'name', f.relname,
    'kind', f.relkind,
    'persistence', f.relpersistence,
    'bytes', coalesce(pg_catalog.pg_relation_size(f.oid), 0),
    'rows', CASE WHEN f.reltuples OPERATOR(pg_catalog.<) 0 OR (f.reltuples OPERATOR(pg_catalog.=) 0 AND f.relpages OPERATOR(pg_catalog.=) 0) THEN NULL
      ELSE f.reltuples::pg_catalog.float8 END,
    'created_here', false,
    'never_filled', coalesce(pg_catalog.pg_relation_size(f.oid) OPERATOR(pg_catalog.=) 0
      AND pg_catalog.pg_relation_filenode(f.oid) OPERATOR(pg_catalog.=) f.oid
      AND pg_catalog.pg_stat_get_tuples_inserted(f.oid) OPERATOR(pg_catalog.=) 0, false),
    'is_partition', false,
    'alone', true,
    'held', EXISTS (SELECT FROM strong s WHERE s.oid OPERATOR(pg_catalog.=) f.oid AND s.own),
    'owner', pg_catalog.pg_get_userbyid(f.relowner),
    'flawed', EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) f.oid AND NOT i.indisvalid)
      OR EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.conrelid OPERATOR(pg_catalog.=) f.oid AND NOT k.convalidated)
    )) FROM found f), '[]'::pg_catalog.json))::pg_catalog.text,
  CASE WHEN pg_catalog.getdatabaseencoding() OPERATOR(pg_catalog.=) 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64') END
