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
), targets(oid) AS (
  -- What the statement changes by its text, the views included that it goes through. That it does not read these is known from its text.
  SELECT f.oid FROM family f
  UNION
  SELECT v.oid FROM (VALUES {views}) v(oid)
), reads(oid) AS (
  -- 1259 is pg_class, 3256 pg_policy.
  SELECT s.oid FROM (
    SELECT d.oid FROM depends d WHERE d.class OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    UNION
    SELECT v.oid FROM (VALUES {reads}) v(oid)
    UNION
    SELECT d.refobjid FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 3256::pg_catalog.oid
      AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    WHERE p.polrelid IN (SELECT t.oid FROM targets t)) s(oid)
  WHERE s.oid NOT IN (SELECT t.oid FROM targets t)
  UNION
  SELECT e.oid FROM reads r CROSS JOIN LATERAL (
    SELECT h.inhrelid FROM pg_catalog.pg_inherits h WHERE h.inhparent OPERATOR(pg_catalog.=) r.oid
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_rewrite w ON w.ev_class OPERATOR(pg_catalog.=) c.oid
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) w.oid
      AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    WHERE c.oid OPERATOR(pg_catalog.=) r.oid AND c.relkind OPERATOR(pg_catalog.=) 'v'
    UNION ALL
    SELECT d.refobjid FROM pg_catalog.pg_policy p JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 3256::pg_catalog.oid
      AND d.objid OPERATOR(pg_catalog.=) p.oid AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    WHERE p.polrelid OPERATOR(pg_catalog.=) r.oid) e(oid)
), others(oid, name) AS (
  -- What it reads besides the target. 11 is pg_catalog.
  SELECT c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) FROM reads r JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) r.oid
  JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f') AND c.relnamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid
    AND c.relname OPERATOR(pg_catalog.<>) 'lockkeeper_trial' AND c.oid NOT IN (SELECT t.oid FROM targets t)
), live AS NOT MATERIALIZED (
  -- The triggers that fire in this session.
  SELECT g.*, p.prosrc, p.prolang, p.proname FROM pg_catalog.pg_trigger g JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) g.tgfoid
  WHERE CASE g.tgenabled WHEN 'A' THEN true WHEN 'D' THEN false
    ELSE (g.tgenabled OPERATOR(pg_catalog.=) 'R') OPERATOR(pg_catalog.=) (pg_catalog.current_setting('session_replication_role') OPERATOR(pg_catalog.=) 'replica') END
), code AS NOT MATERIALIZED (
  -- Those with a function of somebody's own, and the words of its text.
  SELECT g.*, pg_catalog.lower(g.prosrc) AS body, pg_catalog.regexp_split_to_array(pg_catalog.lower(g.prosrc), '\W+') AS words
  FROM live g WHERE NOT g.tgisinternal AND g.tgfoid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
), moved(oid, event, name, cause) AS (
  -- What the statement changes, its foreign keys and triggers too: i, u and d are INSERT, UPDATE and DELETE. `name` is the column of
  -- an UPDATE, NULL for any. A table counts as changed by a trigger whose function names it and writes at all.
  SELECT t.oid, CASE WHEN {deletes} THEN 'd' ELSE 'u' END, s.name::text COLLATE pg_catalog."C", NULL::text COLLATE pg_catalog."C"
  FROM tree t CROSS JOIN (VALUES {columns}) s(name, is_default)
  WHERE EXISTS (SELECT FROM others) AND ({deletes} OR s.name IS NOT NULL)
  UNION
  SELECT e.oid, e.event, e.name COLLATE pg_catalog."C", e.cause COLLATE pg_catalog."C" FROM moved m CROSS JOIN LATERAL (
    SELECT k.conrelid, CASE WHEN m.event OPERATOR(pg_catalog.=) 'd' AND k.confdeltype OPERATOR(pg_catalog.=) 'c' THEN 'd' ELSE 'u' END,
      CASE WHEN m.event OPERATOR(pg_catalog.=) 'd' AND k.confdeltype OPERATOR(pg_catalog.=) 'c' THEN NULL ELSE a.attname::text END,
      pg_catalog.concat('the foreign key ', k.conname)
    FROM live g JOIN pg_catalog.pg_constraint k ON k.oid OPERATOR(pg_catalog.=) g.tgconstraint
    JOIN pg_catalog.pg_attribute a ON a.attrelid OPERATOR(pg_catalog.=) k.conrelid AND a.attnum OPERATOR(pg_catalog.=) ANY (k.conkey)
    WHERE g.tgrelid OPERATOR(pg_catalog.=) m.oid AND k.contype OPERATOR(pg_catalog.=) 'f' AND k.confrelid OPERATOR(pg_catalog.=) m.oid
      AND (g.tgtype::int4 OPERATOR(pg_catalog.&) CASE m.event WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 0 END) OPERATOR(pg_catalog.<>) 0
      AND CASE m.event WHEN 'd' THEN k.confdeltype ELSE k.confupdtype END IN ('c', 'n', 'd')
      AND (m.event OPERATOR(pg_catalog.=) 'd' OR m.name IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_attribute f
        WHERE f.attrelid OPERATOR(pg_catalog.=) m.oid AND f.attnum OPERATOR(pg_catalog.=) ANY (k.confkey) AND f.attname::text OPERATOR(pg_catalog.=) m.name))
    UNION ALL
    SELECT h.inhrelid, m.event, m.name, m.cause FROM pg_catalog.pg_inherits h WHERE h.inhparent OPERATOR(pg_catalog.=) m.oid
    UNION ALL
    -- What is computed from the columns.
    SELECT m.oid, 'u', a.attname::text, m.cause FROM pg_catalog.pg_attribute a
    WHERE m.event OPERATOR(pg_catalog.=) 'u' AND a.attrelid OPERATOR(pg_catalog.=) m.oid AND a.attgenerated OPERATOR(pg_catalog.<>) ''
    UNION ALL
    -- A row that goes to another partition is deleted from its own.
    SELECT m.oid, x.event, NULL, m.cause FROM pg_catalog.pg_partitioned_table p CROSS JOIN (VALUES ('d'), ('i')) x(event)
    WHERE m.event OPERATOR(pg_catalog.=) 'u' AND p.partrelid OPERATOR(pg_catalog.=) m.oid
      AND (p.partexprs IS NOT NULL OR m.name IS NULL OR EXISTS (SELECT FROM pg_catalog.pg_attribute a
        WHERE a.attrelid OPERATOR(pg_catalog.=) m.oid AND a.attname::text OPERATOR(pg_catalog.=) m.name
          AND a.attnum OPERATOR(pg_catalog.=) ANY (p.partattrs::pg_catalog.int2[])))
    UNION ALL
    -- Written through a view.
    SELECT d.refobjid, m.event, NULL, m.cause FROM pg_catalog.pg_class c JOIN pg_catalog.pg_rewrite w ON w.ev_class OPERATOR(pg_catalog.=) c.oid
    JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2618::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) w.oid
      AND d.refclassid OPERATOR(pg_catalog.=) 1259::pg_catalog.oid
    WHERE c.oid OPERATOR(pg_catalog.=) m.oid AND c.relkind OPERATOR(pg_catalog.=) 'v' AND d.refobjid OPERATOR(pg_catalog.<>) m.oid
    UNION ALL
    SELECT y.oid, y.event, y.name, pg_catalog.concat('the trigger ', g.tgname) FROM code g CROSS JOIN LATERAL (
      SELECT c.oid, x.event, NULL FROM pg_catalog.pg_class c CROSS JOIN (VALUES ('i'), ('u'), ('d')) x(event)
      WHERE c.relkind IN ('r', 'p', 'v', 'f') AND c.relnamespace OPERATOR(pg_catalog.<>) 11::pg_catalog.oid
        AND g.words OPERATOR(pg_catalog.&&) ARRAY['insert', 'update', 'delete', 'merge']
        AND CASE WHEN c.relname OPERATOR(pg_catalog.~) '^\w+\Z' THEN pg_catalog.lower(c.relname::text) OPERATOR(pg_catalog.=) ANY (g.words)
          ELSE pg_catalog.strpos(g.body, pg_catalog.lower(pg_catalog.replace(c.relname::text, '"', '""'))) OPERATOR(pg_catalog.>) 0 END
      UNION ALL
      -- It may give columns another value that the statement leaves alone.
      SELECT m.oid, 'u', a.attname::text FROM pg_catalog.pg_attribute a
      WHERE (g.tgtype::int4 OPERATOR(pg_catalog.&) 2) OPERATOR(pg_catalog.<>) 0 AND m.event OPERATOR(pg_catalog.=) 'u'
        AND a.attrelid OPERATOR(pg_catalog.=) m.oid AND a.attnum OPERATOR(pg_catalog.>) 0 AND NOT a.attisdropped
        AND (CASE WHEN a.attname OPERATOR(pg_catalog.~) '^\w+\Z' THEN pg_catalog.lower(a.attname::text) OPERATOR(pg_catalog.=) ANY (g.words)
            ELSE pg_catalog.strpos(g.body, pg_catalog.lower(pg_catalog.replace(a.attname::text, '"', '""'))) OPERATOR(pg_catalog.>) 0 END
          OR g.body OPERATOR(pg_catalog.~) '\mnew\s*:?=|\minto\M[^;]*\mnew\M|\mreturn\s+(?!new\s*;|old\s*;|null\s*;)')) y(oid, event, name)
    WHERE g.tgrelid OPERATOR(pg_catalog.=) m.oid
      AND (g.tgtype::int4 OPERATOR(pg_catalog.&) CASE m.event WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 4 END) OPERATOR(pg_catalog.<>) 0
      AND (m.event OPERATOR(pg_catalog.<>) 'u' OR m.name IS NULL OR pg_catalog.cardinality(g.tgattr::pg_catalog.int2[]) OPERATOR(pg_catalog.=) 0
        OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) m.oid AND a.attname::text OPERATOR(pg_catalog.=) m.name
          AND a.attnum OPERATOR(pg_catalog.=) ANY (g.tgattr::pg_catalog.int2[])))) e(oid, event, name, cause)
), struck(oid, name, function) AS MATERIALIZED (
  -- The triggers of somebody's own that fire on what is changed.
  SELECT DISTINCT g.tgrelid, g.tgname, g.tgfoid FROM moved m JOIN live g ON g.tgrelid OPERATOR(pg_catalog.=) m.oid
  WHERE NOT g.tgisinternal AND g.tgfoid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
    AND (g.tgtype::int4 OPERATOR(pg_catalog.&) CASE m.event WHEN 'd' THEN 8 WHEN 'u' THEN 16 ELSE 4 END) OPERATOR(pg_catalog.<>) 0
    AND (m.event OPERATOR(pg_catalog.<>) 'u' OR m.name IS NULL OR pg_catalog.cardinality(g.tgattr::pg_catalog.int2[]) OPERATOR(pg_catalog.=) 0
      OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid OPERATOR(pg_catalog.=) m.oid AND a.attname::text OPERATOR(pg_catalog.=) m.name
        AND a.attnum OPERATOR(pg_catalog.=) ANY (g.tgattr::pg_catalog.int2[])))
), texts(oid, language, body, words) AS MATERIALIZED (
  SELECT p.oid, l.lanname, pg_catalog.lower(p.prosrc), pg_catalog.regexp_split_to_array(pg_catalog.lower(p.prosrc), '\W+')
  FROM (SELECT DISTINCT s.function FROM struck s) s JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) s.function
  JOIN pg_catalog.pg_language l ON l.oid OPERATOR(pg_catalog.=) p.prolang
), own_functions(oid, name, type, language) AS MATERIALIZED (
  -- What may write, however it calls itself. IMMUTABLE ones do not, nor C functions that are STABLE (13 is C, 12 internal).
  SELECT p.oid, pg_catalog.lower(p.proname::text), p.prorettype, p.prolang FROM pg_catalog.pg_proc p
  WHERE EXISTS (SELECT FROM others) AND p.oid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid AND p.provolatile OPERATOR(pg_catalog.<>) 'i'
    AND NOT (p.provolatile OPERATOR(pg_catalog.=) 's' AND p.prolang IN (12, 13))
), unknown(name, of) AS (
  -- Code whose writes cannot be told from its text.
  SELECT pg_catalog.concat('the trigger ', s.name), pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM struck s JOIN texts g ON g.oid OPERATOR(pg_catalog.=) s.function
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) s.oid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE g.language OPERATOR(pg_catalog.<>) 'plpgsql'
    OR g.words OPERATOR(pg_catalog.&&) ARRAY['execute', 'call', 'truncate', 'copy', 'create', 'alter', 'drop', 'refresh', 'import']
    OR g.body OPERATOR(pg_catalog.~) 'u&|_to_xml|ts_stat|ts_rewrite|\mdo\M(?!\s+(nothing|update)\M)'
    OR EXISTS (SELECT FROM pg_catalog.unnest(g.words) w(word) WHERE pg_catalog.octet_length(w.word) OPERATOR(pg_catalog.>) 63)
    -- 2279 is trigger, 3838 event_trigger: nobody calls these.
    OR EXISTS (SELECT FROM own_functions f WHERE f.type NOT IN (2279, 3838)
      AND CASE WHEN f.name OPERATOR(pg_catalog.~) '^\w+\Z' THEN f.name OPERATOR(pg_catalog.=) ANY (g.words)
        ELSE pg_catalog.strpos(g.body, pg_catalog.replace(f.name, '"', '""')) OPERATOR(pg_catalog.>) 0 END)
    OR EXISTS (SELECT FROM own_functions f JOIN pg_catalog.pg_operator o ON o.oprcode::pg_catalog.oid OPERATOR(pg_catalog.=) f.oid
      WHERE pg_catalog.strpos(g.body, o.oprname::text) OPERATOR(pg_catalog.>) 0)
    OR EXISTS (SELECT FROM own_functions f JOIN pg_catalog.pg_cast t ON t.castfunc OPERATOR(pg_catalog.=) f.oid)
  UNION ALL
  SELECT pg_catalog.concat('the rule ', w.rulename), pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM (SELECT DISTINCT m.oid, m.event FROM moved m WHERE m.cause IS NOT NULL) m
  JOIN pg_catalog.pg_rewrite w ON w.ev_class OPERATOR(pg_catalog.=) m.oid
    AND w.ev_type::text OPERATOR(pg_catalog.=) CASE m.event WHEN 'u' THEN '2' WHEN 'i' THEN '3' ELSE '4' END
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) m.oid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  UNION ALL
  -- A default of what triggers insert.
  SELECT pg_catalog.concat('the function ', p.proname, ', in a default'), pg_catalog.format('%I.%I', n.nspname, c.relname)
  FROM (SELECT DISTINCT m.oid FROM moved m WHERE m.event OPERATOR(pg_catalog.=) 'i') m
  JOIN pg_catalog.pg_attrdef f ON f.adrelid OPERATOR(pg_catalog.=) m.oid
  JOIN pg_catalog.pg_depend d ON d.classid OPERATOR(pg_catalog.=) 2604::pg_catalog.oid AND d.objid OPERATOR(pg_catalog.=) f.oid
    AND d.refclassid OPERATOR(pg_catalog.=) 1255::pg_catalog.oid
  JOIN own_functions o ON o.oid OPERATOR(pg_catalog.=) d.refobjid JOIN pg_catalog.pg_proc p ON p.oid OPERATOR(pg_catalog.=) o.oid
  JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) m.oid JOIN pg_catalog.pg_namespace n ON n.oid OPERATOR(pg_catalog.=) c.relnamespace
  WHERE o.language NOT IN (12, 13)
), own(oid, name, each, body) AS MATERIALIZED (
  -- The target's own triggers; AFTER … FOR EACH ROW or not (1 is ROW, 2 BEFORE).
  SELECT g.tgrelid, g.tgname, (g.tgtype::int4 OPERATOR(pg_catalog.&) 3) OPERATOR(pg_catalog.=) 1, pg_catalog.lower(g.prosrc)
  FROM tree t JOIN live g ON g.tgrelid OPERATOR(pg_catalog.=) t.oid
  WHERE NOT g.tgisinternal AND g.tgfoid OPERATOR(pg_catalog.>=) 16384::pg_catalog.oid
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
  'reads_changed', (SELECT pg_catalog.jsonb_build_object('name', o.name, 'place', m.cause) FROM others o
    JOIN moved m ON m.oid OPERATOR(pg_catalog.=) o.oid ORDER BY m.cause, o.name LIMIT 1),
  'reads_unknown', (SELECT pg_catalog.jsonb_build_object('name', o.name, 'place', pg_catalog.concat(u.name, ' of ', u.of)) FROM others o
    CROSS JOIN unknown u ORDER BY u.name, o.name LIMIT 1),
  -- One AFTER each row may read it; one before sees rows go by in one statement too.
  'sees_itself', (SELECT pg_catalog.jsonb_build_object('name', g.name, 'place', c.relname) FROM own g
    CROSS JOIN family f JOIN pg_catalog.pg_class c ON c.oid OPERATOR(pg_catalog.=) f.oid
    CROSS JOIN LATERAL (SELECT pg_catalog.regexp_replace(pg_catalog.lower(c.relname::text), '(\W)', '\\\1', 'g')) n(pattern)
    WHERE g.body OPERATOR(pg_catalog.~) pg_catalog.concat(
      CASE WHEN g.each THEN '\m(from|join|update|into|only|using)\s+' ELSE '\m(delete\s+from|update|insert\s+into)\s+(only\s+)?' END,
      '(("[^"]+"|\w+)\s*\.\s*)?("', n.pattern, '"|', n.pattern, '(?!\w|\x24))')
    LIMIT 1),
  -- BEFORE UPDATE … FOR EACH ROW
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
