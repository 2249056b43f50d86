-- Why the table {table} is not rewritten: one text for each reason, for people. What depends on it and is of no kind that is known to follow is among
-- them: the net. Objects in the schemas {new} and {old} are our own. The session's search_path is pg_catalog, its role the owner's.
WITH t AS (
  SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table}
), me AS (
  SELECT r.* FROM pg_roles r WHERE r.rolname = current_user
), fk AS (
  SELECT k.* FROM t JOIN pg_constraint k ON k.contype = 'f' AND (k.conrelid = t.oid OR k.confrelid = t.oid)
), identity AS (
  SELECT d.objid AS oid FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
), own(class, oid) AS (
  SELECT 'pg_class'::regclass::oid, t.oid FROM t
  UNION SELECT 'pg_type'::regclass, y.oid FROM t JOIN pg_type y ON y.oid = t.reltype OR y.typelem = t.reltype AND t.reltype <> 0
  UNION SELECT 'pg_class'::regclass, i.indexrelid FROM t JOIN pg_index i ON i.indrelid = t.oid
  -- PostgreSQL 13 has rowtypes of these.
  UNION SELECT 'pg_type'::regclass, y.oid FROM pg_type y WHERE y.typrelid IN (SELECT t.reltoastrelid FROM t UNION SELECT i.oid FROM identity i) AND y.typrelid <> 0
  UNION SELECT 'pg_class'::regclass, i.oid FROM identity i
  UNION SELECT 'pg_class'::regclass, t.reltoastrelid FROM t WHERE t.reltoastrelid <> 0
  UNION SELECT 'pg_class'::regclass, i.indexrelid FROM t JOIN pg_index i ON i.indrelid = t.reltoastrelid
  UNION SELECT 'pg_constraint'::regclass, k.oid FROM t JOIN pg_constraint k ON k.conrelid = t.oid
  UNION SELECT 'pg_constraint'::regclass, k.oid FROM fk k
  UNION SELECT 'pg_attrdef'::regclass, a.oid FROM t JOIN pg_attrdef a ON a.adrelid = t.oid
  UNION SELECT 'pg_trigger'::regclass, g.oid FROM t JOIN pg_trigger g ON g.tgrelid = t.oid
  UNION SELECT 'pg_trigger'::regclass, g.oid FROM pg_trigger g JOIN fk k ON k.oid = g.tgconstraint
  UNION SELECT 'pg_policy'::regclass, p.oid FROM t JOIN pg_policy p ON p.polrelid = t.oid
  UNION SELECT 'pg_statistic_ext'::regclass, x.oid FROM t JOIN pg_statistic_ext x ON x.stxrelid = t.oid
), dependent AS (
  SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid FROM own o JOIN pg_depend d ON d.refclassid = o.class AND d.refobjid = o.oid
  WHERE NOT EXISTS (SELECT FROM own x WHERE x.class = d.classid AND x.oid = d.objid)
), view AS (
  SELECT DISTINCT d.classid, d.objid, v.oid, v.relowner, v.relnamespace FROM t JOIN dependent d ON d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid
  JOIN pg_rewrite r ON r.oid = d.objid AND r.rulename = '_RETURN' JOIN pg_class v ON v.oid = r.ev_class AND v.relkind = 'v'
), used AS (
  -- What is read anew for the new table, or called for its rows, apart from the functions of triggers, which are only named.
  SELECT DISTINCT d.classid, d.objid, d.refclassid, d.refobjid,
    CASE d.refclassid WHEN 'pg_proc'::regclass THEN (SELECT p.proowner FROM pg_proc p WHERE p.oid = d.refobjid)
      WHEN 'pg_type'::regclass THEN (SELECT y.typowner FROM pg_type y WHERE y.oid = d.refobjid)
      WHEN 'pg_operator'::regclass THEN (SELECT o.oprowner FROM pg_operator o WHERE o.oid = d.refobjid)
      WHEN 'pg_opclass'::regclass THEN (SELECT o.opcowner FROM pg_opclass o WHERE o.oid = d.refobjid) END AS owner
  FROM (SELECT class, oid FROM own UNION SELECT classid, objid FROM view) o JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid
  WHERE NOT EXISTS (SELECT FROM own x WHERE x.class = d.refclassid AND x.oid = d.refobjid)
  AND NOT (d.classid = 'pg_trigger'::regclass AND d.refclassid = 'pg_proc'::regclass AND d.refobjid = (SELECT g.tgfoid FROM pg_trigger g WHERE g.oid = d.objid))
), trusted AS (
  -- Whose code may run in this session: its own login's, and superusers'.
  SELECT r.oid FROM pg_roles r WHERE r.rolsuper OR r.rolname = session_user
), why(num, text) AS (
  SELECT 1, format('%s is no plain table', t.name) FROM t WHERE t.relkind <> 'r' OR t.relpersistence = 't' OR t.reloftype <> 0
  UNION ALL
  SELECT 1, format('%s is a partition, or inherits from a table or is inherited from: rewrite each partition of its own when it is detached', t.name) FROM t
  WHERE t.relispartition OR EXISTS (SELECT FROM pg_inherits h WHERE h.inhparent = t.oid OR h.inhrelid = t.oid)
  UNION ALL
  SELECT 1, format('%s belongs to the server or to Lockkeeper', t.name) FROM t WHERE t.nspname ~ '^(pg_|information_schema$|lockkeeper($|_))'
  UNION ALL
  SELECT 1, format('it belongs to, or goes with, the extension %s', pg_describe_object(d.refclassid, d.refobjid, 0))
  FROM own o JOIN pg_depend d ON d.classid = o.class AND d.objid = o.oid AND d.deptype IN ('e', 'x')
  UNION ALL
  SELECT 2, format('row-level security is forced on %s, and the role %s does not bypass it: it would see a part of the rows', t.name, me.rolname)
  FROM t, me WHERE t.relrowsecurity AND t.relforcerowsecurity AND NOT me.rolsuper AND NOT me.rolbypassrls
  UNION ALL
  SELECT 3, format('%s depends on %s', pg_describe_object(d.classid, d.objid, 0), pg_describe_object(d.refclassid, d.refobjid, 0)) FROM dependent d
  WHERE NOT EXISTS (SELECT FROM view v WHERE v.classid = d.classid AND v.objid = d.objid AND d.refclassid = 'pg_class'::regclass)
  AND NOT (d.classid = 'pg_class'::regclass AND EXISTS (SELECT FROM pg_depend s JOIN pg_class q ON q.oid = s.objid AND q.relkind = 'S' WHERE s.classid = d.classid AND s.objid = d.objid
    AND s.refclassid = d.refclassid AND s.refobjid = d.refobjid AND s.deptype = 'a' AND s.refobjid = {table}))
  UNION ALL
  SELECT 4, format('%s has the rule %s', t.name, r.rulename) FROM t JOIN pg_rewrite r ON r.ev_class = t.oid
  UNION ALL
  SELECT 4, format('the publication %s has all tables, or all tables of a schema', p.pubname) FROM pg_publication p
  WHERE p.puballtables OR EXISTS (SELECT FROM pg_depend d, t WHERE d.classid = to_regclass('pg_catalog.pg_publication_namespace') AND d.refclassid = 'pg_publication'::regclass AND d.refobjid = p.oid
    AND EXISTS (SELECT FROM pg_depend s WHERE s.classid = d.classid AND s.objid = d.objid AND s.refclassid = 'pg_namespace'::regclass AND s.refobjid = t.relnamespace))
  UNION ALL
  SELECT 4, format('%s is the target of a subscription', t.name) FROM t JOIN pg_subscription_rel s ON s.srrelid = t.oid
  UNION ALL
  SELECT 4, format('%s has a security label', pg_describe_object(o.class, o.oid, 0)) FROM own o JOIN pg_seclabel l ON l.classoid = o.class AND l.objoid = o.oid
  UNION ALL
  SELECT 5, format('the index %s is not valid: drop it, or REINDEX INDEX CONCURRENTLY', i.indexrelid::regclass) FROM t JOIN pg_index i ON i.indrelid = t.oid
  WHERE NOT (i.indisvalid AND i.indisready AND i.indislive)
  UNION ALL
  SELECT 5, format('the text of the index %s is not as expected', ic.relname) FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class ic ON ic.oid = i.indexrelid
  WHERE NOT starts_with(pg_get_indexdef(i.indexrelid), format('CREATE %sINDEX %I ON %s USING ', CASE WHEN i.indisunique THEN 'UNIQUE ' ELSE '' END, ic.relname, t.name))
  UNION ALL
  SELECT 5, format('the constraint %s is NOT VALID: validate it first', k.conname) FROM t JOIN pg_constraint k ON k.conrelid = t.oid WHERE NOT k.convalidated AND k.contype <> 'f'
  UNION ALL
  SELECT 5, format('the constraint %s is NOT ENFORCED', k.conname) FROM (SELECT t.oid FROM t) t JOIN pg_constraint k ON k.conrelid = t.oid OR k.contype = 'f' AND k.confrelid = t.oid
  WHERE to_jsonb(k) ->> 'conenforced' = 'false'
  UNION ALL
  SELECT 6, format('the foreign key %s is between partitioned tables', k.conname) FROM fk k JOIN pg_class a ON a.oid = k.conrelid JOIN pg_class b ON b.oid = k.confrelid
  WHERE k.conparentid <> 0 OR a.relkind <> 'r' OR b.relkind <> 'r' OR a.relispartition OR b.relispartition
  UNION ALL
  SELECT 6, format('triggers of the foreign key %s are not enabled as usual', k.conname) FROM fk k JOIN pg_trigger g ON g.tgconstraint = k.oid WHERE g.tgenabled <> 'O'
  UNION ALL
  SELECT 6, format('%s is no member of %s, who owns %s', me.rolname, pg_get_userbyid(c.relowner), c.oid::regclass)
  FROM me, (SELECT k.conrelid FROM fk k UNION SELECT k.confrelid FROM fk k UNION SELECT v.oid FROM view v JOIN pg_namespace vn ON vn.oid = v.relnamespace WHERE vn.nspname NOT IN ({new}, {old})) o(oid)
  JOIN pg_class c ON c.oid = o.oid WHERE NOT pg_has_role(c.relowner, 'USAGE')
  UNION ALL
  SELECT 6, format('%s may not use the schema %s of %s', me.rolname, c.relnamespace::regnamespace, c.relname)
  FROM me, (SELECT k.conrelid FROM fk k UNION SELECT k.confrelid FROM fk k UNION SELECT v.oid FROM view v) o(oid) JOIN pg_class c ON c.oid = o.oid
  WHERE NOT has_schema_privilege(c.relnamespace, 'USAGE')
  UNION ALL
  SELECT 6, format('%s uses %s of %s: that role''s code would run in the session of %s', pg_describe_object(u.classid, u.objid, 0), pg_describe_object(u.refclassid, u.refobjid, 0),
    pg_get_userbyid(u.owner), session_user) FROM used u WHERE u.owner IS NOT NULL AND u.owner NOT IN (SELECT x.oid FROM trusted x)
  UNION ALL
  SELECT 6, format('the view %s belongs to %s: what that role has written would be read in the session of %s', v.oid::regclass, pg_get_userbyid(v.relowner), session_user)
  FROM view v JOIN pg_namespace vn ON vn.oid = v.relnamespace WHERE vn.nspname NOT IN ({new}, {old}) AND v.relowner NOT IN (SELECT x.oid FROM trusted x)
  UNION ALL
  SELECT 6, format('%s has not all privileges on %s itself: GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON %s TO %I', me.rolname, t.name, t.name, me.rolname) FROM t, me
  WHERE NOT (has_table_privilege(t.oid, 'SELECT') AND has_table_privilege(t.oid, 'INSERT') AND has_table_privilege(t.oid, 'UPDATE')
    AND has_table_privilege(t.oid, 'DELETE') AND has_table_privilege(t.oid, 'TRUNCATE'))
  UNION ALL
  SELECT 6, format('%s has the name of a table of the job''s own: rename it first', c.oid::regclass) FROM own o JOIN pg_class c ON o.class = 'pg_class'::regclass AND c.oid = o.oid
  WHERE c.relname IN ('log', 'state', 'f', 'crash_marker')
  UNION ALL
  SELECT 7, format('of the privileges on %s some were granted by another role than its owner', c.oid::regclass) FROM (SELECT t.oid FROM t UNION SELECT i.oid FROM identity i) o(oid) JOIN pg_class c ON c.oid = o.oid
  WHERE EXISTS (SELECT FROM aclexplode(c.relacl) a WHERE a.grantor <> c.relowner) OR EXISTS (SELECT FROM pg_attribute x, aclexplode(x.attacl) a WHERE x.attrelid = c.oid AND a.grantor <> c.relowner)
  UNION ALL
  SELECT 7, format('the statistics %s belong to another role', x.stxname) FROM t JOIN pg_statistic_ext x ON x.stxrelid = t.oid WHERE x.stxowner <> t.relowner
  UNION ALL
  SELECT 8, format('%s has a trigger of another rewrite: finish or cancel that first (lockkeeper jobs list)', g.tgrelid::regclass)
  FROM (SELECT t.oid FROM t UNION SELECT k.conrelid FROM fk k UNION SELECT k.confrelid FROM fk k) o(oid) JOIN pg_trigger g ON g.tgrelid = o.oid AND g.tgname ~ '^lockkeeper_[0-9]+_(key|truncate)$'
  JOIN pg_proc p ON p.oid = g.tgfoid JOIN pg_namespace pn ON pn.oid = p.pronamespace WHERE pn.nspname NOT IN ({new}, {old})
  UNION ALL
  SELECT 9, format('%s may create no schema in the database: GRANT CREATE ON DATABASE %I TO %I', me.rolname, current_database(), me.rolname) FROM me
  WHERE NOT has_database_privilege(current_database(), 'CREATE')
  UNION ALL
  SELECT 9, format('%s may create no temporary table: GRANT TEMPORARY ON DATABASE %I TO %I', me.rolname, current_database(), me.rolname) FROM me
  WHERE NOT has_database_privilege(current_database(), 'TEMPORARY')
  UNION ALL
  SELECT 9, format('%s may create nothing in the schema %I: GRANT CREATE ON SCHEMA %I TO %I', me.rolname, t.nspname, t.nspname, me.rolname) FROM t, me
  WHERE NOT has_schema_privilege(t.relnamespace, 'CREATE')
  UNION ALL
  SELECT 9, 'the server is a standby' WHERE pg_is_in_recovery()
)
SELECT coalesce(jsonb_agg(w.text ORDER BY w.num, w.text), '[]') FROM (SELECT DISTINCT num, text FROM why) w
