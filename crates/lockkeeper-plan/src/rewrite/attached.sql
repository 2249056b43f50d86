-- What hangs on the table {table}, as the statements that take it off, move both tables, and hang it on the new one, which stands in the schema
-- {new} and comes into the old one's place; the old one goes to the schema {old}. The session's search_path is pg_catalog, so that all
-- names in the server's texts are whole.
WITH t AS (
  SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS name, format('%I.%I', {new}, c.relname) AS new
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table}
), fk AS (
  SELECT k.*, k.conrelid::regclass::text AS child, regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', '') AS def, obj_description(k.oid, 'pg_constraint') AS said
  FROM t JOIN pg_constraint k ON k.contype = 'f' AND (k.conrelid = t.oid OR k.confrelid = t.oid)
), seq AS (
  SELECT s.relname, s.relpersistence, d.deptype, a.attname, format('%I.%I', sn.nspname, s.relname) AS name
  FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype IN ('a', 'i')
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_namespace sn ON sn.oid = s.relnamespace
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = d.refobjsubid
), view AS (
  SELECT DISTINCT v.oid, v.reloptions, format('%I.%I', vn.nspname, v.relname) AS name, pg_get_viewdef(v.oid) AS def, pg_get_userbyid(v.relowner) AS owner
  FROM t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.classid = 'pg_rewrite'::regclass
  JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v' JOIN pg_namespace vn ON vn.oid = v.relnamespace
  WHERE vn.nspname NOT IN ({new}, {old})
), trigger AS (
  SELECT g.* FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal JOIN pg_proc p ON p.oid = g.tgfoid
  JOIN pg_namespace pn ON pn.oid = p.pronamespace WHERE pn.nspname NOT IN ({new}, {old})
), by_sequence AS (
  -- The default of a table that is put aside would hold its sequence.
  SELECT a.attnum, a.attname, pg_get_expr(x.adbin, x.adrelid) AS value FROM t JOIN pg_attrdef x ON x.adrelid = t.oid
  JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = x.adnum AND a.attgenerated = ''
  WHERE EXISTS (SELECT FROM pg_depend d JOIN pg_depend o ON o.classid = d.refclassid AND o.objid = d.refobjid AND o.deptype = 'a' AND o.refclassid = 'pg_class'::regclass AND o.refobjid = t.oid
    WHERE d.classid = 'pg_attrdef'::regclass AND d.objid = x.oid AND d.refclassid = 'pg_class'::regclass)
), st AS (
  SELECT x.stxname, sn.nspname, format('%I.%I', sn.nspname, x.stxname) AS name
  FROM pg_statistic_ext x JOIN pg_namespace sn ON sn.oid = x.stxnamespace WHERE x.stxrelid = {table}
), made(step, num, sql) AS (
  SELECT 1, k.oid::int8, format('ALTER TABLE %s DROP CONSTRAINT %I', k.child, k.conname) FROM fk k
  UNION ALL
  SELECT 2, row_number() OVER (ORDER BY s.name), format('ALTER SEQUENCE %s OWNED BY NONE', s.name) FROM seq s WHERE s.deptype = 'a'
  UNION ALL
  SELECT 3, 0, format('ALTER TABLE %s SET SCHEMA %I', t.name, {old}) FROM t
  UNION ALL
  SELECT 3, b.attnum, format('ALTER TABLE ONLY %I.%I ALTER COLUMN %I DROP DEFAULT', {old}, t.relname, b.attname) FROM t, by_sequence b
  UNION ALL
  SELECT 4, 0, format('ALTER TABLE %s SET SCHEMA %I', t.new, t.nspname) FROM t
  UNION ALL
  SELECT 5, row_number() OVER (ORDER BY s.name), format('ALTER STATISTICS %s SET SCHEMA %I', s.name, {old}) FROM st s
  UNION ALL
  -- A column of it may be gone, and it with that.
  SELECT 6, row_number() OVER (ORDER BY s.name), format('DO $lockkeeper$ BEGIN IF EXISTS (SELECT FROM pg_statistic_ext x WHERE x.stxname = %L AND x.stxnamespace = to_regnamespace(%L)) '
    'THEN ALTER STATISTICS %I.%I SET SCHEMA %I; END IF; END $lockkeeper$', s.stxname, quote_ident({new}), {new}, s.stxname, s.nspname) FROM st s
  UNION ALL
  SELECT 7, row_number() OVER (ORDER BY s.name), format('ALTER SEQUENCE %s OWNED BY %s.%I', s.name, t.name, s.attname) FROM t, seq s WHERE s.deptype = 'a'
  UNION ALL
  -- Whoever waits for the old sequence by its OID takes a few more values from it, which the new one must not give again.
  SELECT 8, row_number() OVER (ORDER BY s.name), format('SELECT setval(to_regclass(%L), CASE WHEN q.is_called AND q.last_value + 1000 * x.seqincrement BETWEEN x.seqmin AND x.seqmax '
    'THEN q.last_value + 1000 * x.seqincrement ELSE q.last_value END, q.is_called) FROM %I.%I q, pg_sequence x WHERE x.seqrelid = to_regclass(%L)',
    s.name, {old}, s.relname, format('%I.%I', {old}, s.relname)) FROM seq s WHERE s.deptype = 'i'
  UNION ALL
  SELECT 9, k.oid::int8, format('ALTER TABLE %s ADD CONSTRAINT %I %s NOT VALID', k.child, k.conname, k.def) FROM fk k
  UNION ALL
  SELECT 10, k.oid::int8, format('COMMENT ON CONSTRAINT %I ON %s IS %L', k.conname, k.child, k.said) FROM fk k WHERE k.said IS NOT NULL
  UNION ALL
  SELECT 11, g.oid::int8, pg_get_triggerdef(g.oid) FROM trigger g
  UNION ALL
  SELECT 12, g.oid::int8, format('ALTER TABLE %s %s TRIGGER %I', t.name, CASE g.tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'R' THEN 'ENABLE REPLICA' ELSE 'ENABLE ALWAYS' END, g.tgname)
  FROM t, trigger g WHERE g.tgenabled <> 'O'
  UNION ALL
  SELECT 13, g.oid::int8, format('COMMENT ON TRIGGER %I ON %s IS %L', g.tgname, t.name, obj_description(g.oid, 'pg_trigger'))
  FROM t, trigger g WHERE obj_description(g.oid, 'pg_trigger') IS NOT NULL
  UNION ALL
  SELECT 14, p.oid::int8, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', p.polname, t.name, CASE WHEN p.polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,
    CASE p.polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE 'ALL' END,
    (SELECT string_agg(CASE o.oid WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(o.oid)) END, ', ') FROM unnest(p.polroles) o(oid)),
    ' USING (' || pg_get_expr(p.polqual, p.polrelid) || ')', ' WITH CHECK (' || pg_get_expr(p.polwithcheck, p.polrelid) || ')')
  FROM t JOIN pg_policy p ON p.polrelid = t.oid
  UNION ALL
  SELECT 15, p.oid::int8, format('COMMENT ON POLICY %I ON %s IS %L', p.polname, t.name, obj_description(p.oid, 'pg_policy'))
  FROM t JOIN pg_policy p ON p.polrelid = t.oid WHERE obj_description(p.oid, 'pg_policy') IS NOT NULL
  UNION ALL
  SELECT 16, 0, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', t.name) FROM t WHERE t.relrowsecurity
  UNION ALL
  SELECT 16, 1, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', t.name) FROM t WHERE t.relforcerowsecurity
  UNION ALL
  SELECT 17, v.oid::int8, format('CREATE OR REPLACE VIEW %s %sAS %s', v.name, (SELECT 'WITH (' || string_agg(format('%I = %L', split_part(o, '=', 1), substr(o, strpos(o, '=') + 1)), ', ') || ') '
    FROM unnest(v.reloptions) o), rtrim(v.def, ';')) FROM view v
)
SELECT jsonb_build_object(
  'swap', (SELECT jsonb_agg(m.sql ORDER BY m.step, m.num) FROM made m),
  -- OWNER TO whom they belong already: it locks the view, and nothing behind it.
  'lock_views', (SELECT coalesce(jsonb_agg(format('ALTER VIEW %s OWNER TO %I', v.name, v.owner) ORDER BY v.oid), '[]') FROM view v),
  'lock_others', (SELECT coalesce(jsonb_agg(format('LOCK TABLE ONLY %s IN ACCESS EXCLUSIVE MODE NOWAIT', o.oid::regclass) ORDER BY o.oid), '[]')
    FROM (SELECT k.conrelid AS oid FROM fk k UNION SELECT k.confrelid FROM fk k) o WHERE o.oid <> {table}),
  'defaults', (SELECT coalesce(jsonb_agg(format('ALTER TABLE ONLY %s ALTER COLUMN %I SET DEFAULT %s', t.name, b.attname, b.value) ORDER BY b.attnum), '[]') FROM t, by_sequence b),
  -- SET LOGGED and SET UNLOGGED do the same to a table's sequences.
  'persistence', (SELECT coalesce(jsonb_agg(format('ALTER SEQUENCE %s SET %s', s.name, CASE n.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE 'LOGGED' END) ORDER BY s.name), '[]')
    FROM t JOIN pg_class n ON n.oid = to_regclass(t.new) AND n.relpersistence <> t.relpersistence, seq s
    WHERE s.deptype = 'a' AND s.relpersistence <> n.relpersistence AND current_setting('server_version_num')::int >= 150000),
  'validate', (SELECT coalesce(jsonb_agg(format('ALTER TABLE %s VALIDATE CONSTRAINT %I', k.child, k.conname) ORDER BY k.oid), '[]') FROM fk k WHERE k.convalidated))
