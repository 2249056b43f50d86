-- What PostgreSQL would call and check for an UPDATE or DELETE of relation {relation}, beyond what its text says. One row, one json
-- column. The statement itself stands in a rule of the temporary table lockkeeper_trial, if the server took it as one: then the
-- rule's dependencies are the functions, operators and types that it really means; else all that are not the server's own count.
WITH RECURSIVE tree(oid) AS (
  SELECT {relation}::pg_catalog.oid
  UNION
  SELECT h.inhrelid FROM pg_catalog.pg_inherits h JOIN tree t ON h.inhparent OPERATOR(pg_catalog.=) t.oid
), line(oid) AS (
  -- A foreign key may refer to a parent.
  SELECT {relation}::pg_catalog.oid
  UNION
  SELECT h.inhparent FROM pg_catalog.pg_inherits h JOIN line l ON h.inhrelid OPERATOR(pg_catalog.=) l.oid
), family(oid) AS (
  SELECT oid FROM tree UNION SELECT oid FROM line
), given(attrelid, attnum, is_default) AS (
  SELECT a.attrelid, a.attnum, s.is_default
  FROM (VALUES {columns}) s(name, is_default)
  JOIN pg_catalog.pg_attribute a ON a.attname OPERATOR(pg_catalog.=) s.name AND a.attnum OPERATOR(pg_catalog.>) 0
  WHERE a.attrelid IN (SELECT f.oid FROM family f)
), rule(oid) AS (
  SELECT r.oid FROM pg_catalog.pg_rewrite r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.ev_class
  WHERE {tried} AND c.relname OPERATOR(pg_catalog.=) 'lockkeeper_trial' AND c.relnamespace OPERATOR(pg_catalog.=) pg_catalog.pg_my_temp_schema()
), depends(class, oid, place) AS (
  -- 2618 is pg_rewrite, 2604 pg_attrdef.
  SELECT d.refclassid, d.refobjid, NULL::text FROM pg_catalog.pg_depend d
  WHERE d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid AND d.objid IN (SELECT r.oid FROM rule r)
  UNION
  SELECT d.refclassid, d.refobjid, pg_catalog.concat('the default of ', a.attname) FROM given g
  JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) g.attrelid AND f.adnum OPERATOR(pg_catalog.=) g.attnum
  JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) g.attrelid AND a.attnum OPERATOR(pg_catalog.=) g.attnum
  JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2604::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) f.oid
  WHERE g.is_default
), domains(oid) AS (
  -- 1247 is pg_type.
  SELECT y.oid FROM pg_catalog.pg_type y WHERE y.typtype OPERATOR(pg_catalog.=) 'd'
    AND (y.oid IN (SELECT d.oid FROM depends d WHERE d.class OPERATOR(pg_catalog.=) 1247::pg_catalog.oid)
      OR y.oid IN (SELECT a.atttypid FROM given g JOIN pg_catalog.pg_attribute a
        ON a.attrelid OPERATOR(pg_catalog.=) g.attrelid AND a.attnum OPERATOR(pg_catalog.=) g.attnum))
  UNION
  SELECT y.typbasetype FROM domains o JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) o.oid AND y.typtype OPERATOR(pg_catalog.=) 'd'
), meant(class, oid, place) AS (
  SELECT class, oid, place FROM depends
  UNION
  -- 2606 is pg_constraint.
  SELECT d.refclassid, d.refobjid, pg_catalog.concat('a CHECK of the domain ', y.typname) FROM domains o
  JOIN pg_catalog.pg_type y ON y.oid OPERATOR(pg_catalog.=) o.oid
  JOIN pg_catalog.pg_constraint k ON k.contypid OPERATOR(pg_catalog.=) o.oid
  JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2606::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) k.oid
), called(oid, place) AS (
  -- 1255 is pg_proc, 2617 pg_operator.
  SELECT m.oid, m.place FROM meant m WHERE m.class OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
  UNION
  SELECT o.oprcode::pg_catalog.oid, coalesce(m.place, pg_catalog.concat('the operator ', o.oprname)) FROM meant m
  JOIN pg_catalog.pg_operator o ON m.class OPERATOR(pg_catalog.=) 2617::pg_catalog.oid AND o.oid OPERATOR(pg_catalog.=) m.oid
  UNION
  SELECT o.oprcode::pg_catalog.oid, pg_catalog.concat('perhaps the operator ', o.oprname) FROM pg_catalog.pg_operator o
  WHERE NOT {tried} AND o.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
  UNION
  SELECT t.castfunc, 'perhaps a cast' FROM pg_catalog.pg_cast t
  WHERE NOT {tried} AND t.castfunc OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
), behind(oid) AS (
  -- Whose rows go when the statement's do.
  SELECT f.oid FROM family f
  UNION
  SELECT k.conrelid FROM behind b JOIN pg_catalog.pg_constraint k ON k.confrelid OPERATOR(pg_catalog.=) b.oid
  WHERE k.contype OPERATOR(pg_catalog.=) 'f' AND k.confdeltype OPERATOR(pg_catalog.=) 'c'
), referring AS (
  SELECT k.* FROM pg_catalog.pg_constraint k
  WHERE k.contype OPERATOR(pg_catalog.=) 'f' AND k.confrelid IN (SELECT f.oid FROM family f)
    AND ({deletes} OR EXISTS (SELECT FROM given g WHERE g.attrelid OPERATOR(pg_catalog.=) k.confrelid AND g.attnum OPERATOR(pg_catalog.=) ANY (k.confkey)))
), asked(oid) AS (
  -- The relations that stand in its text; 1259 is pg_class.
  SELECT v.oid FROM (VALUES {reads}) v(oid)
  UNION
  SELECT d.oid FROM depends d WHERE d.class OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
), read(oid) AS (
  -- Policies may read more; 3256 is pg_policy.
  SELECT a.oid FROM asked a
  UNION
  SELECT e.oid FROM (SELECT a.oid FROM asked a UNION SELECT f.oid FROM family f) s CROSS JOIN LATERAL (
    SELECT d.refobjid FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 3256::pg_catalog.oid
      AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    WHERE p.polrelid OPERATOR(pg_catalog.=) s.oid) e(oid)
  UNION
  SELECT h.inhrelid FROM pg_catalog.pg_inherits h JOIN read r ON h.inhparent OPERATOR(pg_catalog.=) r.oid
), others(oid, relname, name) AS (
  -- What it reads besides the target. 11 is pg_catalog.
  SELECT c.oid, c.relname, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE c.oid IN (SELECT r.oid FROM read r EXCEPT SELECT f.oid FROM family f EXCEPT SELECT v.oid FROM (VALUES {views}) v(oid))
    AND c.relkind IN ('r', 'p', 'm', 'f') AND c.relnamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid
    AND c.relname OPERATOR(pg_catalog.<>) 'lockkeeper_trial'
), moved(oid, event, columns, cause) AS (
  -- What goes with its rows by foreign keys, of any depth. Their triggers are those of the table that is referred to.
  SELECT f.oid, CASE WHEN {deletes} THEN 'd' ELSE 'u' END COLLATE pg_catalog."C", g.columns, NULL::text COLLATE pg_catalog."C"
  FROM family f CROSS JOIN LATERAL (
    SELECT pg_catalog.array_agg(g.attnum) FROM given g WHERE g.attrelid OPERATOR(pg_catalog.=) f.oid) g(columns)
  WHERE EXISTS (SELECT FROM others)
  UNION
  SELECT e.oid, e.event COLLATE pg_catalog."C", e.columns, e.cause COLLATE pg_catalog."C" FROM moved m CROSS JOIN LATERAL (
    SELECT k.conrelid, CASE WHEN m.event OPERATOR(pg_catalog.=) 'd' AND k.confdeltype OPERATOR(pg_catalog.=) 'c' THEN 'd' ELSE 'u' END, k.conkey,
      pg_catalog.concat('the foreign key ', k.conname)
    FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_constraint k ON k.oid OPERATOR(pg_catalog.=) g.tgconstraint
    WHERE g.tgrelid OPERATOR(pg_catalog.=) m.oid AND k.contype OPERATOR(pg_catalog.=) 'f' AND k.confrelid OPERATOR(pg_catalog.=) m.oid
      AND CASE m.event WHEN 'd' THEN k.confdeltype ELSE k.confupdtype END IN ('c', 'n', 'd')
      AND (m.event OPERATOR(pg_catalog.=) 'd' OR k.confkey OPERATOR(pg_catalog.&&) m.columns)
    UNION ALL
    SELECT h.inhrelid, m.event, m.columns, m.cause FROM pg_catalog.pg_inherits h WHERE h.inhparent OPERATOR(pg_catalog.=) m.oid
  ) e(oid, event, columns, cause)
), own(name, each, body) AS (
  -- The triggers of somebody's own that fire for its rows: after each row, or otherwise. (1 is ROW, 2 BEFORE.) Those of the partitions are
  -- mostly the same.
  SELECT DISTINCT g.tgname, (g.tgtype::int4 OPERATOR(pg_catalog.&) 3) OPERATOR(pg_catalog.=) 1, pg_catalog.lower(p.prosrc)
  FROM tree t JOIN pg_catalog.pg_trigger g ON g.tgrelid OPERATOR(pg_catalog.=) t.oid JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) g.tgfoid
  WHERE NOT g.tgisinternal AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    AND CASE g.tgenabled WHEN 'A' THEN true WHEN 'D' THEN false ELSE (g.tgenabled OPERATOR(pg_catalog.=) 'R')
      OPERATOR(pg_catalog.=) (pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica') END
    AND (g.tgtype::int4 OPERATOR(pg_catalog.&) CASE WHEN {deletes} THEN 8 ELSE 16 END) OPERATOR(pg_catalog.<>) 0
    AND (pg_catalog.cardinality(g.tgattr::pg_catalog.int2[]) OPERATOR(pg_catalog.=) 0 OR {deletes} OR EXISTS (SELECT FROM given v
      WHERE v.attrelid OPERATOR(pg_catalog.=) g.tgrelid AND v.attnum OPERATOR(pg_catalog.=) ANY (g.tgattr::pg_catalog.int2[])))
)
SELECT {encoded}
FROM (SELECT pg_catalog.json_build_object(
  'functions', coalesce((SELECT pg_catalog.json_agg(DISTINCT pg_catalog.jsonb_build_object('name', p.proname, 'place', c.place))
    FROM called c JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) c.oid
    -- The server's own have the OIDs below FirstNormalObjectId.
    WHERE p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND p.provolatile OPERATOR(pg_catalog.<>) 'i'), '[]'::json),
  'deferrable', (SELECT k.conname FROM pg_catalog.pg_constraint k
    WHERE k.conrelid IN (SELECT t.oid FROM tree t) AND k.contype IN ('p', 'u', 'x') AND k.condeferrable
      AND EXISTS (SELECT FROM given g WHERE g.attrelid OPERATOR(pg_catalog.=) k.conrelid
        AND (g.attnum OPERATOR(pg_catalog.=) ANY (k.conkey) OR k.contype OPERATOR(pg_catalog.=) 'x')) LIMIT 1),
  'refers_to_itself', coalesce(
    (SELECT k.conname FROM referring k WHERE k.conrelid IN (SELECT t.oid FROM family t) LIMIT 1),
    (SELECT k.conname FROM pg_catalog.pg_constraint k
      WHERE {deletes} AND k.contype OPERATOR(pg_catalog.=) 'f' AND k.conrelid IN (SELECT t.oid FROM family t)
        AND k.confrelid IN (SELECT b.oid FROM behind b) LIMIT 1)),
  'constraint_trigger', (SELECT g.tgname FROM pg_catalog.pg_trigger g
    WHERE g.tgrelid IN (SELECT t.oid FROM tree t) AND NOT g.tgisinternal AND g.tgconstraint OPERATOR(pg_catalog.<>) 0::pg_catalog.oid
      AND (g.tgtype::int4 OPERATOR(pg_catalog.&) CASE WHEN {deletes} THEN 8 ELSE 16 END) OPERATOR(pg_catalog.<>) 0 LIMIT 1),
  -- What only the server knows when the rows are changed is asked of it in each batch; this is what is asked for.
  'reads', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object('oid', o.oid::pg_catalog.int8, 'name', o.name)) FROM others o), '[]'::json),
  'tree', (SELECT pg_catalog.json_agg(t.oid::pg_catalog.int8) FROM tree t),
  'after_each', EXISTS (SELECT FROM own g WHERE g.each),
  'reads_moved', (SELECT pg_catalog.jsonb_build_object('name', o.name, 'place', m.cause) FROM others o
    JOIN moved m ON m.oid OPERATOR(pg_catalog.=) o.oid ORDER BY m.cause, o.name LIMIT 1),
  -- As far as the texts of the triggers show it, before the first batch.
  'reads_written', (SELECT pg_catalog.jsonb_build_object('name', o.name, 'place', pg_catalog.concat('the trigger ', g.name)) FROM own g CROSS JOIN others o
    CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(pg_catalog.lower(o.relname::text), '(\W)', '\\\1', 'g')) n(pattern)
    WHERE CASE WHEN pg_catalog.strpos(g.body, pg_catalog.lower(o.relname::text)) OPERATOR(pg_catalog.>) 0
      THEN g.body OPERATOR(pg_catalog.~) pg_catalog.concat('\m(delete\s+from|update|insert\s+into|merge\s+into|truncate(\s+table)?)\s+(only\s+)?',
      '(("[^"]+"|\w+)\s*\.\s*)?("', n.pattern, '"|', n.pattern, '(?!\w|\x24))') END
    LIMIT 1),
  -- One after each row finds all of them changed; one before sees them go by, in one statement too.
  'sees_itself', (SELECT pg_catalog.jsonb_build_object('name', g.name, 'place', c.relname) FROM own g
    CROSS JOIN tree f JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) f.oid
    CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(pg_catalog.lower(c.relname::text), '(\W)', '\\\1', 'g')) n(pattern)
    -- A pattern of each partition is compiled only where its name stands.
    WHERE g.each AND CASE WHEN pg_catalog.strpos(g.body, pg_catalog.lower(c.relname::text)) OPERATOR(pg_catalog.>) 0
      THEN g.body OPERATOR(pg_catalog.~) pg_catalog.concat('\m(from|join|update|into|only|using)\s+',
      '(("[^"]+"|\w+)\s*\.\s*)?("', n.pattern, '"|', n.pattern, '(?!\w|\x24))') END
    LIMIT 1),
  -- BEFORE UPDATE, FOR EACH ROW
  'moves_key', (SELECT pg_catalog.jsonb_build_object('name', g.tgname, 'place', k.name) FROM pg_catalog.pg_trigger g
    JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) g.tgfoid
    CROSS JOIN (VALUES {key}) k(name)
    CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(k.name, '(\W)', '\\\1', 'g')) n(pattern)
    CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(pg_catalog.regexp_replace(p.prosrc, '--[^\n]*', ' ', 'g'), '/\*.*?\*/', ' ', 'g')) s(text)
    WHERE NOT {deletes} AND g.tgrelid IN (SELECT t.oid FROM tree t) AND NOT g.tgisinternal
      AND (g.tgtype::int4 OPERATOR(pg_catalog.&) 19) OPERATOR(pg_catalog.=) 19
      AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
      AND (s.text OPERATOR(pg_catalog.~*) pg_catalog.concat('(^|;|\mbegin|\mthen|\melse|\mloop)\s*new\s*(\.\s*"?', n.pattern, '"?\s*)?:?=')
        OR s.text OPERATOR(pg_catalog.~*) pg_catalog.concat('\mnew\s*(\.\s*"?', n.pattern, '"?\s*)?:=')
        OR s.text OPERATOR(pg_catalog.~*) pg_catalog.concat('\minto\M[^;]*\mnew\M\s*(\.\s*"?', n.pattern, '\M|[,;]|from)'))
    LIMIT 1),
  'unindexed', coalesce((SELECT pg_catalog.json_agg(pg_catalog.json_build_object(
      'table', pg_catalog.format('%I.%I', n.nspname, c.relname),
      'constraint', k.conname,
      'columns', (SELECT pg_catalog.string_agg(pg_catalog.quote_ident(a.attname), ', ' ORDER BY u.at) FROM pg_catalog.unnest(k.conkey) WITH ORDINALITY u(attnum, at)
        JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.conrelid AND a.attnum OPERATOR(pg_catalog.=) u.attnum),
      'bytes', s.bytes) ORDER BY s.bytes DESC)
    FROM referring k JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) k.conrelid
    JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
    CROSS JOIN LATERAL (SELECT coalesce((SELECT pg_catalog.sum(l.relpages) FROM pg_catalog.pg_partition_tree(c.oid) p JOIN pg_catalog.pg_class l
        ON l.oid OPERATOR(pg_catalog.=) p.relid::pg_catalog.oid), 0)::int8
      OPERATOR(pg_catalog.*) pg_catalog.current_setting('block_size')::int8) x(known)
    CROSS JOIN LATERAL (SELECT CASE c.relkind WHEN 'r' THEN coalesce(pg_catalog.pg_relation_size(c.oid), 0) ELSE x.known END) s(bytes)
    WHERE k.conparentid OPERATOR(pg_catalog.=) 0::pg_catalog.oid
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid OPERATOR(pg_catalog.=) k.conrelid AND i.indisvalid AND i.indpred IS NULL
        AND i.indkey[0] OPERATOR(pg_catalog.=) ANY (k.conkey))), '[]'::json))) answer(json)
