-- One text that changes when the definition of the table {table} does, or what hangs on it: other rows of the catalog, or new versions of
-- the same. VACUUM, ANALYZE, REINDEX and TRUNCATE leave it alone. The schema {new} is our own. The session's search_path is pg_catalog.
WITH fk AS (
  SELECT k.oid, k.conrelid, k.confrelid FROM pg_constraint k WHERE k.contype = 'f' AND (k.conrelid = {table} OR k.confrelid = {table})
), seen(what) AS (
  -- TRUNCATE, VACUUM FULL and CLUSTER change its file, and are no change of its definition.
  SELECT format('class %s', to_jsonb(c) - '{relfilenode,relpages,reltuples,relallvisible,relallfrozen,relfrozenxid,relminmxid,relhasindex,relhasrules,relhastriggers,relhassubclass}'::text[])
    FROM pg_class c WHERE c.oid = {table}
  UNION ALL SELECT format('type %s %s', y.typacl, obj_description(y.oid, 'pg_type')) FROM pg_class c JOIN pg_type y ON y.oid = c.reltype WHERE c.oid = {table}
  UNION ALL SELECT format('column %s %s', a.attnum, a.xmin) FROM pg_attribute a WHERE a.attrelid = {table} AND a.attnum > 0
  UNION ALL SELECT format('default %s %s', a.oid, a.xmin) FROM pg_attrdef a WHERE a.adrelid = {table}
  UNION ALL SELECT format('constraint %s %s', k.oid, k.xmin) FROM pg_constraint k WHERE k.conrelid = {table} OR k.contype = 'f' AND k.confrelid = {table}
  UNION ALL SELECT format('trigger %s %s', g.oid, g.xmin) FROM pg_trigger g WHERE g.tgrelid = {table}
  UNION ALL SELECT format('policy %s %s', p.oid, p.xmin) FROM pg_policy p WHERE p.polrelid = {table}
  UNION ALL SELECT format('rule %s %s', r.oid, r.xmin) FROM pg_rewrite r WHERE r.ev_class = {table}
  UNION ALL SELECT format('inherits %s %s', h.inhrelid, h.inhparent) FROM pg_inherits h WHERE h.inhrelid = {table} OR h.inhparent = {table}
  UNION ALL SELECT format('statistics %s %s', x.oid, x.xmin) FROM pg_statistic_ext x WHERE x.stxrelid = {table}
  UNION ALL SELECT format('index %s %s %s %s', ic.relname, to_jsonb(i) - 'indexrelid' - 'indcheckxmin', ic.reloptions, ic.reltablespace)
    FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid WHERE i.indrelid = {table}
  UNION ALL SELECT format('comment %s %s', d.objsubid, d.description) FROM pg_description d WHERE d.classoid = 'pg_class'::regclass AND d.objoid = {table}
  UNION ALL SELECT format('comment %s %s', k.conname, d.description) FROM pg_description d JOIN pg_constraint k ON k.oid = d.objoid WHERE d.classoid = 'pg_constraint'::regclass
    AND (k.conrelid = {table} OR k.contype = 'f' AND k.confrelid = {table})
  UNION ALL SELECT format('comment %s %s', ic.relname, d.description) FROM pg_description d JOIN pg_index i ON i.indexrelid = d.objoid AND i.indrelid = {table}
    JOIN pg_class ic ON ic.oid = i.indexrelid WHERE d.classoid = 'pg_class'::regclass
  UNION ALL SELECT format('comment %s %s', g.tgname, d.description) FROM pg_description d JOIN pg_trigger g ON g.oid = d.objoid AND g.tgrelid = {table} WHERE d.classoid = 'pg_trigger'::regclass
  UNION ALL SELECT format('comment %s %s', p.polname, d.description) FROM pg_description d JOIN pg_policy p ON p.oid = d.objoid AND p.polrelid = {table} WHERE d.classoid = 'pg_policy'::regclass
  UNION ALL SELECT format('comment %s %s', x.stxname, d.description) FROM pg_description d JOIN pg_statistic_ext x ON x.oid = d.objoid AND x.stxrelid = {table} WHERE d.classoid = 'pg_statistic_ext'::regclass
  UNION ALL SELECT format('comment %s %s', s.relname, d.description) FROM pg_description d JOIN pg_depend o ON o.objid = d.objoid AND o.classid = 'pg_class'::regclass
    AND o.refclassid = 'pg_class'::regclass AND o.refobjid = {table} AND o.deptype IN ('a', 'i') JOIN pg_class s ON s.oid = d.objoid AND s.relkind = 'S' WHERE d.classoid = 'pg_class'::regclass
  UNION ALL SELECT format('toast %s', x.reloptions) FROM pg_class c JOIN pg_class x ON x.oid = c.reltoastrelid WHERE c.oid = {table}
  UNION ALL SELECT format('index column %s %s %s', ic.relname, a.attnum, a.attstattarget) FROM pg_index i JOIN pg_class ic ON ic.oid = i.indexrelid JOIN pg_attribute a ON a.attrelid = ic.oid
    WHERE i.indrelid = {table}
  UNION ALL SELECT format('partner %s %s %s', c.oid, c.relname, c.relnamespace) FROM pg_class c WHERE c.oid IN (SELECT f.conrelid FROM fk f UNION SELECT f.confrelid FROM fk f) AND c.oid <> {table}
  UNION ALL SELECT format('sequence %s %s %s %s %s %s', s.oid, s.relname, s.relowner, s.relacl, to_jsonb(q), d.deptype) FROM pg_depend d JOIN pg_class s ON s.oid = d.objid AND s.relkind = 'S' JOIN pg_sequence q ON q.seqrelid = s.oid
    WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass AND d.refobjid = {table} AND d.deptype IN ('a', 'i')
  UNION ALL SELECT format('depends %s %s', d.classid, d.objid) FROM pg_depend d
    LEFT JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid LEFT JOIN pg_class v ON v.oid = r.ev_class
    WHERE (d.refclassid = 'pg_class'::regclass AND d.refobjid = {table} OR d.refclassid = 'pg_type'::regclass AND d.refobjid IN (SELECT c.reltype FROM pg_class c WHERE c.oid = {table}))
    AND d.classid NOT IN ('pg_class'::regclass, 'pg_trigger'::regclass, 'pg_constraint'::regclass) AND v.relnamespace IS DISTINCT FROM to_regnamespace(quote_ident({new})) AND v.relnamespace IS DISTINCT FROM to_regnamespace(quote_ident({old}))
  UNION ALL SELECT format('view %s %s %s', v.oid, v.xmin, r.xmin) FROM pg_depend d JOIN pg_rewrite r ON d.classid = 'pg_rewrite'::regclass AND r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
    WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = {table} AND v.relnamespace IS DISTINCT FROM to_regnamespace(quote_ident({new})) AND v.relnamespace IS DISTINCT FROM to_regnamespace(quote_ident({old}))
  UNION ALL SELECT format('publication %s %s', p.oid, p.xmin) FROM pg_publication p
)
SELECT md5(string_agg(DISTINCT s.what, '|' ORDER BY s.what)) FROM seen s
