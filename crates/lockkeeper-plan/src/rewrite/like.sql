-- The statements that make an empty table in the schema {new} which is in all respects of its own as the table {table}, in order: columns,
-- options, privileges, comments. Its indexes and statistics come by `indexes.sql`. The session's search_path is pg_catalog.
WITH t AS (
  SELECT c.*, n.nspname, format('%I.%I', n.nspname, c.relname) AS old, format('%I.%I', {new}, c.relname) AS new
  FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = {table}
), made(step, num, sql) AS (
  SELECT 1, 0::int8, format('SET LOCAL default_tablespace = %L', coalesce((SELECT s.spcname FROM pg_tablespace s WHERE s.oid = t.reltablespace), '')) FROM t
  UNION ALL
  SELECT 2, 0, format('CREATE %sTABLE %s (LIKE %s INCLUDING ALL EXCLUDING INDEXES EXCLUDING STATISTICS) USING %I', CASE t.relpersistence WHEN 'u' THEN 'UNLOGGED ' ELSE '' END, t.new, t.old,
    (SELECT m.amname FROM pg_am m WHERE m.oid = t.relam)) FROM t
  UNION ALL
  SELECT 3, 0, format('ALTER TABLE %s SET (%s)', t.new, o.list) FROM t, LATERAL (
    SELECT string_agg(format('%s%I = %L', x.prefix, split_part(x.o, '=', 1), substr(x.o, strpos(x.o, '=') + 1)), ', ') AS list
    FROM (SELECT '' AS prefix, unnest(t.reloptions) AS o UNION ALL
      SELECT 'toast.', unnest(s.reloptions) FROM pg_class s WHERE s.oid = t.reltoastrelid) x) o WHERE o.list IS NOT NULL
  UNION ALL
  SELECT 4, a.attnum, format('ALTER TABLE ONLY %s ALTER COLUMN %I SET STATISTICS %s', t.new, a.attname, a.attstattarget)
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid WHERE a.attnum > 0 AND NOT a.attisdropped AND a.attstattarget >= 0
  UNION ALL
  -- Minor versions of late 2026 keep an option of their own with each column, pg_attver, which no two tables have alike.
  SELECT 5, a.attnum, format('ALTER TABLE ONLY %s ALTER COLUMN %I SET (%s)', t.new, a.attname, o.list)
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid CROSS JOIN LATERAL (
    SELECT string_agg(format('%I = %L', split_part(x.o, '=', 1), substr(x.o, strpos(x.o, '=') + 1)), ', ') AS list
    FROM unnest(a.attoptions) x(o) WHERE left(x.o, 3) <> 'pg_') o
  WHERE a.attnum > 0 AND NOT a.attisdropped AND o.list IS NOT NULL
  UNION ALL
  SELECT 6, 0, format('ALTER TABLE %s REPLICA IDENTITY %s', t.new, CASE t.relreplident WHEN 'f' THEN 'FULL' ELSE 'NOTHING' END)
  FROM t WHERE t.relreplident IN ('f', 'n')
  UNION ALL
  -- What default privileges have given to the new one.
  SELECT 7, 0, format('DO $lockkeeper$ DECLARE g text; BEGIN FOR g IN SELECT DISTINCT CASE a.grantee WHEN 0 THEN ''PUBLIC'' ELSE quote_ident(pg_get_userbyid(a.grantee)) END '
    'FROM pg_class c, aclexplode(c.relacl) a WHERE c.oid = %L::regclass AND (%L OR a.grantee <> c.relowner) '
    'LOOP EXECUTE format(''REVOKE ALL ON TABLE %%s FROM %%s'', %L, g); END LOOP; END $lockkeeper$', t.new, t.relacl IS NOT NULL, t.new) FROM t
  UNION ALL
  SELECT 8, 0, format('REVOKE ALL ON TABLE %s FROM %I', t.new, pg_get_userbyid(t.relowner)) FROM t WHERE t.relacl IS NOT NULL
  UNION ALL
  SELECT 9, row_number() OVER (), format('GRANT %s ON TABLE %s TO %s%s', a.privilege_type, t.new,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM t, aclexplode(t.relacl) a
  UNION ALL
  SELECT 10, a.attnum, format('GRANT %s (%I) ON TABLE %s TO %s%s', x.privilege_type, a.attname, t.new,
    CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0 AND NOT a.attisdropped, aclexplode(a.attacl) x
  UNION ALL
  SELECT 11, 0, format('COMMENT ON TABLE %s IS %L', t.new, obj_description(t.oid, 'pg_class')) FROM t WHERE obj_description(t.oid, 'pg_class') IS NOT NULL
  UNION ALL
  SELECT 11, 1, format('COMMENT ON TYPE %s IS %L', t.new, obj_description(t.reltype, 'pg_type')) FROM t WHERE obj_description(t.reltype, 'pg_type') IS NOT NULL
  UNION ALL
  SELECT 11, 2, format('REVOKE ALL ON TYPE %s FROM PUBLIC, %I', t.new, pg_get_userbyid(t.relowner)) FROM t JOIN pg_type y ON y.oid = t.reltype WHERE y.typacl IS NOT NULL
  UNION ALL
  SELECT 11, 2 + row_number() OVER (), format('GRANT %s ON TYPE %s TO %s%s', a.privilege_type, t.new,
    CASE a.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(a.grantee)) END, CASE WHEN a.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM t JOIN pg_type y ON y.oid = t.reltype, aclexplode(y.typacl) a
  UNION ALL
  -- CREATE TABLE ... LIKE names them anew.
  SELECT 12, a.attnum, format('DO $lockkeeper$ DECLARE s text := pg_get_serial_sequence(%L, %L); BEGIN IF s <> %L THEN EXECUTE format(''ALTER SEQUENCE %%s RENAME TO %%I'', s, %L); END IF; END $lockkeeper$',
    t.new, a.attname, format('%I.%I', {new}, s.relname), s.relname)
  FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attidentity <> '' AND NOT a.attisdropped
  JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid = a.attnum AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S'
  UNION ALL
  -- Its type is always bigint then.
  SELECT 13, 0, format('ALTER SEQUENCE %I.%I AS %s INCREMENT BY %s MINVALUE %s MAXVALUE %s START WITH %s CACHE %s %s', {new}, s.relname, format_type(q.seqtypid, NULL),
    q.seqincrement, q.seqmin, q.seqmax, q.seqstart, q.seqcache, CASE WHEN q.seqcycle THEN 'CYCLE' ELSE 'NO CYCLE' END)
  FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_sequence q ON q.seqrelid = s.oid
  UNION ALL
  -- Its own of a kind from PostgreSQL 15 on, whatever the table is.
  SELECT 13, 0, format('ALTER SEQUENCE %I.%I SET %s', {new}, s.relname, CASE s.relpersistence WHEN 'u' THEN 'UNLOGGED' ELSE 'LOGGED' END)
  FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' WHERE s.relpersistence <> t.relpersistence AND current_setting('server_version_num')::int >= 150000
  UNION ALL
  SELECT 13, row_number() OVER (), format('GRANT %s ON SEQUENCE %I.%I TO %s%s', x.privilege_type, {new}, s.relname,
    CASE x.grantee WHEN 0 THEN 'PUBLIC' ELSE quote_ident(pg_get_userbyid(x.grantee)) END, CASE WHEN x.is_grantable THEN ' WITH GRANT OPTION' ELSE '' END)
  FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S', aclexplode(s.relacl) x
  UNION ALL
  SELECT 14, 0, format('COMMENT ON SEQUENCE %I.%I IS %L', {new}, s.relname, obj_description(s.oid, 'pg_class'))
  FROM t JOIN pg_depend d ON d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.deptype = 'i'
  JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' WHERE obj_description(s.oid, 'pg_class') IS NOT NULL
)
SELECT coalesce(jsonb_agg(m.sql ORDER BY m.step, m.num), '[]') FROM made m
