-- Whether this session can use lockkeeper.job and lend its rights to nobody: one value, null where there is no such table. What is
-- in the table decides what sessions run, and code that is attached to it runs in them. So whoever has the power to change
-- either must be able to act as this session's roles anyway, also as the one that logged in: SET ROLE and SET SESSION AUTHORIZATION are
-- taken back with RESET. And it is a plain table of the kind that Lockkeeper makes, with nothing attached.
SELECT pg_catalog.json_build_object(
  'comment', coalesce(pg_catalog.obj_description(c.oid, 'pg_class'), ''),
  'usable', pg_catalog.has_schema_privilege(n.oid, 'USAGE') AND CASE WHEN pg_catalog.has_schema_privilege(n.oid, 'USAGE')
    THEN pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_any_column_privilege(c.oid, 'INSERT')
      AND pg_catalog.has_any_column_privilege(c.oid, 'UPDATE') ELSE false END,
  'distrust', CASE
    WHEN x.by IS NOT NULL THEN pg_catalog.format('%s may change it, who has not the rights of %s', x.by, x.over)
    WHEN c.relkind <> 'r' OR c.relpersistence <> 'p' OR c.relispartition THEN 'it is no plain table'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_inherits h WHERE h.inhparent = c.oid OR h.inhrelid = c.oid) THEN 'tables inherit from it, or it from them'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_rewrite r WHERE r.ev_class = c.oid) THEN 'it has a rule'
    WHEN EXISTS (SELECT FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid) THEN (SELECT pg_catalog.format('it has the trigger %I', t.tgname)
      FROM pg_catalog.pg_trigger t WHERE t.tgrelid = c.oid ORDER BY t.tgisinternal, t.tgname LIMIT 1)
    WHEN NOT c.relrowsecurity OR (SELECT pg_catalog.count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid AND p.polname = 'own'
      AND p.polpermissive AND p.polcmd = '*' AND p.polqual IS NOT NULL AND p.polwithcheck IS NOT NULL) <> 1
      OR (SELECT pg_catalog.count(*) FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) <> 1 THEN 'its row-level security is not what Lockkeeper makes'
    ELSE (
      -- What PostgreSQL itself brings is pinned, and in pg_depend only by its absence. 1247 is pg_type, 1255 pg_proc, 1259 pg_class,
      -- 2604 pg_attrdef, 2606 pg_constraint, 2616 pg_opclass, 2617 pg_operator, 2753 pg_opfamily, 3256 pg_policy.
      SELECT pg_catalog.format('it uses %s', pg_catalog.pg_describe_object(d.refclassid, d.refobjid, 0))
      FROM (SELECT 1259::pg_catalog.oid, c.oid
        UNION ALL SELECT 1259, i.indexrelid FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
        UNION ALL SELECT 2604, a.oid FROM pg_catalog.pg_attrdef a WHERE a.adrelid = c.oid
        UNION ALL SELECT 2606, k.oid FROM pg_catalog.pg_constraint k WHERE k.conrelid = c.oid
        UNION ALL SELECT 3256, p.oid FROM pg_catalog.pg_policy p WHERE p.polrelid = c.oid) o(class, oid)
      JOIN pg_catalog.pg_depend d ON d.classid = o.class AND d.objid = o.oid
      WHERE d.refclassid IN (1247, 1255, 2616, 2617, 2753)
      LIMIT 1)
    END)
FROM pg_catalog.pg_class c
JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN LATERAL (
  SELECT CASE p.oid WHEN 0 THEN 'everybody' ELSE pg_catalog.pg_get_userbyid(p.oid)::text END AS by, pg_catalog.pg_get_userbyid(s.oid)::text AS over
  FROM (SELECT c.relowner UNION SELECT n.nspowner
    UNION SELECT a.grantee FROM pg_catalog.aclexplode(c.relacl) a WHERE a.privilege_type = 'TRIGGER') p(oid)
  CROSS JOIN (SELECT r.oid FROM pg_catalog.pg_roles r WHERE r.rolname IN (current_user, session_user)
    UNION SELECT a.usesysid FROM pg_catalog.pg_stat_get_activity(pg_catalog.pg_backend_pid()) a WHERE a.usesysid IS NOT NULL) s(oid)
  WHERE CASE WHEN p.oid = 0 THEN true
    WHEN pg_catalog.pg_has_role(p.oid, s.oid, 'USAGE') THEN false
    -- Since PostgreSQL 16 a member may be none that can SET ROLE.
    ELSE NOT pg_catalog.pg_has_role(p.oid, s.oid, CASE WHEN pg_catalog.current_setting('server_version_num')::pg_catalog.int4 >= 160000 THEN 'SET' ELSE 'MEMBER' END) END
  ORDER BY p.oid, s.oid LIMIT 1) x ON true
WHERE n.nspname = 'lockkeeper' AND c.relname = 'job'
