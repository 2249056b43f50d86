-- All that can be said of the table {table}, as text that does not depend on its OID nor on its schema: two tables are the same when this is.
-- In two parts: what is of the table itself, and what hangs on it. The session's search_path is pg_catalog.
WITH t AS (
  SELECT c.*, n.nspname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table}
), fk AS (
  SELECT k.* FROM t JOIN pg_constraint k ON k.contype = 'f' AND k.conparentid = 0 AND (k.conrelid = t.oid OR k.confrelid = t.oid)
), said(part, kind, name, what) AS (
  SELECT 'own', 'table', '', jsonb_build_object('owner', t.relowner::int8, 'persistence', t.relpersistence, 'am', t.relam::int8, 'tablespace', t.reltablespace::int8,
    'replident', t.relreplident, 'comment', obj_description(t.oid, 'pg_class'), 'type comment', obj_description(t.reltype, 'pg_type'),
    'type acl', (SELECT jsonb_agg(a::text ORDER BY a::text) FROM pg_type y, aclexplode(coalesce(y.typacl, acldefault('T', y.typowner))) a WHERE y.oid = t.reltype),
    'options', to_jsonb(t.reloptions),
    'toast', (SELECT jsonb_agg(o ORDER BY o) FROM pg_class s, unnest(s.reloptions) o WHERE s.oid = t.reltoastrelid),
    'acl', (SELECT jsonb_agg(a::text ORDER BY a::text) FROM aclexplode(coalesce(t.relacl, acldefault('r', t.relowner))) a)) FROM t
  UNION ALL
  SELECT 'own', 'column', a.attname::text, jsonb_build_object('at', row_number() OVER (ORDER BY a.attnum), 'type', format_type(a.atttypid, a.atttypmod), 'collation', a.attcollation::int8,
    'not_null', a.attnotnull, 'identity', a.attidentity, 'generated', a.attgenerated, 'storage', a.attstorage, 'compression', to_jsonb(a) ->> 'attcompression',
    'target', nullif(a.attstattarget, -1), 'options', (SELECT jsonb_agg(o ORDER BY o) FROM unnest(a.attoptions) o WHERE left(o, 3) <> 'pg_'), 'comment', col_description(t.oid, a.attnum),
    'default', (SELECT pg_get_expr(d.adbin, d.adrelid) FROM pg_attrdef d WHERE d.adrelid = t.oid AND d.adnum = a.attnum),
    'acl', (SELECT jsonb_agg(x::text ORDER BY x::text) FROM aclexplode(a.attacl) x))
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0 AND NOT a.attisdropped
  UNION ALL
  SELECT 'own', 'constraint', k.conname::text, jsonb_build_object('def', pg_get_constraintdef(k.oid), 'type', k.contype, 'valid', k.convalidated, 'comment', obj_description(k.oid, 'pg_constraint'))
  FROM t JOIN pg_constraint k ON k.conrelid = t.oid WHERE k.contype NOT IN ('f', 't')
  UNION ALL
  SELECT 'own', 'index', ic.relname::text, jsonb_build_object('def', replace(replace(pg_get_indexdef(i.indexrelid), format(' ON ONLY %I.%I USING ', t.nspname, t.relname), ' ON USING '), format(' ON %I.%I USING ', t.nspname, t.relname), ' ON USING '),
    'tablespace', ic.reltablespace::int8, 'clustered', i.indisclustered, 'replident', i.indisreplident, 'valid', i.indisvalid, 'primary', i.indisprimary, 'immediate', i.indimmediate,
    'comment', obj_description(ic.oid, 'pg_class'), 'targets', (SELECT jsonb_agg(nullif(a.attstattarget, -1) ORDER BY a.attnum) FROM pg_attribute a WHERE a.attrelid = ic.oid))
  FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class ic ON ic.oid = i.indexrelid
  UNION ALL
  SELECT 'own', 'statistics', x.stxname::text, jsonb_build_object('def', substr(d.def, length(format('CREATE STATISTICS %I.%I ', sn.nspname, x.stxname)) + 1,
      length(d.def) - length(format('CREATE STATISTICS %I.%I ', sn.nspname, x.stxname)) - length(format(' FROM %I.%I', t.nspname, t.relname))),
    'target', nullif(x.stxstattarget, -1), 'owner', x.stxowner::int8, 'comment', obj_description(x.oid, 'pg_statistic_ext'))
  FROM t JOIN pg_statistic_ext x ON x.stxrelid = t.oid JOIN pg_namespace sn ON sn.oid = x.stxnamespace, LATERAL (SELECT pg_get_statisticsobjdef(x.oid) AS def) d
  UNION ALL
  SELECT 'own', 'identity', s.relname::text, jsonb_build_object('of', (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = d.refobjsubid), 'owner', s.relowner::int8, 'comment', obj_description(s.oid, 'pg_class'),
    'options', to_jsonb(q) - 'seqrelid', 'acl', (SELECT jsonb_agg(a::text ORDER BY a::text) FROM aclexplode(coalesce(s.relacl, acldefault('s', s.relowner))) a))
    || CASE s.relpersistence WHEN 'u' THEN jsonb_build_object('persistence', 'u') ELSE '{}' END
  FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_sequence q ON q.seqrelid = s.oid
  UNION ALL
  SELECT 'hangs', 'table', '', jsonb_build_object('schema', t.nspname, 'name', t.relname, 'rls', t.relrowsecurity, 'force', t.relforcerowsecurity,
    'statistics', (SELECT jsonb_agg(x.stxnamespace::int8::text || x.stxname ORDER BY x.stxname) FROM pg_statistic_ext x WHERE x.stxrelid = t.oid)) FROM t
  UNION ALL
  SELECT 'hangs', 'foreign key', k.conname::text, jsonb_build_object('on', k.conrelid::regclass::text, 'def', regexp_replace(pg_get_constraintdef(k.oid), ' NOT VALID$', ''),
    'comment', obj_description(k.oid, 'pg_constraint')) FROM fk k
  UNION ALL
  SELECT 'hangs', 'trigger', g.tgname::text, jsonb_build_object('def', pg_get_triggerdef(g.oid), 'enabled', g.tgenabled, 'comment', obj_description(g.oid, 'pg_trigger'))
  FROM t JOIN pg_trigger g ON g.tgrelid = t.oid AND NOT g.tgisinternal JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace
  WHERE pn.nspname NOT IN ({new}, {old})
  UNION ALL
  SELECT 'hangs', 'policy', p.polname::text, jsonb_build_object('command', p.polcmd, 'permissive', p.polpermissive, 'roles', p.polroles::int8[], 'using', pg_get_expr(p.polqual, p.polrelid),
    'check', pg_get_expr(p.polwithcheck, p.polrelid), 'comment', obj_description(p.oid, 'pg_policy')) FROM t JOIN pg_policy p ON p.polrelid = t.oid
  UNION ALL
  SELECT 'hangs', 'sequence', s.relname::text, jsonb_build_object('schema', s.relnamespace::int8, 'oid', s.oid::int8, 'of', (SELECT a.attname FROM pg_attribute a WHERE a.attrelid = t.oid AND a.attnum = d.refobjsubid))
  FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype = 'a'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  UNION ALL
  SELECT 'hangs', 'view', v.oid::regclass::text, jsonb_build_object('def', pg_get_viewdef(v.oid), 'options', v.reloptions, 'owner', v.relowner::int8)
  FROM (SELECT DISTINCT r.ev_class FROM t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.classid = 'pg_rewrite'::regclass
    JOIN pg_rewrite r ON r.oid = d.objid) x JOIN pg_class v ON v.oid = x.ev_class AND v.relnamespace IS DISTINCT FROM to_regnamespace(quote_ident({new})) AND v.relnamespace IS DISTINCT FROM to_regnamespace(quote_ident({old}))
)
SELECT jsonb_build_object(
  'own', (SELECT coalesce(jsonb_object_agg(s.kind || ' ' || s.name, s.what), '{}') FROM said s WHERE s.part = 'own'),
  'hangs', (SELECT coalesce(jsonb_object_agg(s.kind || ' ' || s.name || CASE WHEN s.kind = 'foreign key' THEN ' on ' || (s.what ->> 'on') ELSE '' END, s.what), '{}') FROM said s WHERE s.part = 'hangs'))
