DO $lockkeeper_trial$
#variable_conflict use_variable
DECLARE
  root pg_catalog.oid := {table};
  actions text[] := {actions};
  -- Of an action that adds a column: the bare column, its name, and its default.
  bare text[] := {bare};
  columns text[] := {columns};
  defaults text[] := {defaults};
  dropped text[] := {dropped};
  path text := coalesce({path}, nullif(pg_catalog.current_setting('lockkeeper.search_path', true), ''), pg_catalog.current_setting('search_path'));
  role text := pg_catalog.current_setting('role');
  name text;
  shape record;
  shapes int := 0;
  definition text;
  copy pg_catalog.oid;
  file pg_catalog.oid;
  files pg_catalog.oid[];
  scans bigint;
  counted bool;
  worst text;
  failure text;
  rewrites bool[] := pg_catalog.array_fill(false, ARRAY[{count}]);
  rebuilds bool[] := pg_catalog.array_fill(false, ARRAY[{count}]);
  scanned bool[] := pg_catalog.array_fill(false, ARRAY[{count}]);
  failures text[] := pg_catalog.array_fill(NULL::text, ARRAY[{count}]);
BEGIN
  BEGIN
    PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('lock_timeout', '2s', true);
    -- Somebody's event trigger would see tables made that nobody makes.
    IF EXISTS (SELECT FROM pg_catalog.pg_event_trigger e WHERE e.evtenabled <> 'D' AND (e.evttags IS NULL OR e.evttags && ARRAY['CREATE TABLE', 'ALTER TABLE'])
      AND NOT EXISTS (SELECT FROM pg_catalog.pg_depend d WHERE d.classid = 1255 AND d.objid = e.evtfoid AND d.deptype = 'e')) THEN
      IF pg_catalog.current_setting('event_triggers', true) IS NULL OR NOT (SELECT r.rolsuper FROM pg_catalog.pg_roles r WHERE r.rolname = current_user) THEN
        RAISE EXCEPTION 'an event trigger would take the trial for more than that';
      END IF;
      PERFORM pg_catalog.set_config('event_triggers', 'off', true);
    END IF;
    name := (SELECT c.relname FROM pg_catalog.pg_class c WHERE c.oid = root);
    -- The table and what inherits from it; of tables whose indexes, constraints and owner are alike, one.
    FOR shape IN
      WITH RECURSIVE tree(oid) AS (
        SELECT root
        UNION
        SELECT h.inhrelid FROM tree t JOIN pg_catalog.pg_inherits h ON h.inhparent = t.oid WHERE NOT {only})
      SELECT DISTINCT ON (pg_catalog.md5(s.shape)) c.oid, pg_catalog.format('%I.%I', n.nspname, c.relname) AS sql, pg_catalog.pg_get_userbyid(c.relowner)::text AS owner
      FROM tree t JOIN pg_catalog.pg_class c ON c.oid = t.oid AND c.relkind IN ('r', 'p')
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
      CROSS JOIN LATERAL (SELECT pg_catalog.concat_ws(';', c.relowner,
        (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attname, a.attnum, a.attnotnull, a.attgenerated), ',' ORDER BY a.attnum)
          FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped),
        (SELECT pg_catalog.string_agg(x.text, ',' ORDER BY x.text) FROM (
          SELECT pg_catalog.concat_ws(' ', i.indclass, i.indcollation, i.indkey, i.indexprs, i.indpred) AS text FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid
          UNION ALL
          SELECT pg_catalog.concat_ws(' ', k.conkey, k.connoinherit, k.convalidated, k.conbin) FROM pg_catalog.pg_constraint k
          WHERE k.conrelid = c.oid AND k.contype IN ('c', 'n')) x)) AS shape) s
      ORDER BY pg_catalog.md5(s.shape), c.oid
    LOOP
      shapes := shapes + 1;
      IF shapes > 20 THEN
        RAISE EXCEPTION 'its partitions differ in more than 20 ways';
      END IF;
      BEGIN
        -- Expressions of indexes and constraints are the owner's code: they are looked at with the owner's rights.
        IF shape.owner <> current_user::text THEN
          PERFORM pg_catalog.set_config('role', shape.owner, true);
        END IF;
        EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE %I (LIKE %s INCLUDING CONSTRAINTS INCLUDING GENERATED INCLUDING INDEXES)', name, shape.sql);
        copy := pg_catalog.to_regclass(pg_catalog.format('pg_temp.%I', name));
        -- LIKE takes what is not validated for valid. What is ours will go.
        FOR definition IN
          SELECT pg_catalog.format('DROP CONSTRAINT %I', c.conname) FROM pg_catalog.pg_constraint c
          WHERE c.conrelid = shape.oid AND c.contype = 'c'
            AND (NOT c.convalidated OR coalesce(pg_catalog.obj_description(c.oid, 'pg_constraint') LIKE 'lockkeeper: %', false))
          UNION ALL
          SELECT pg_catalog.format('ALTER %I DROP NOT NULL', a.attname) FROM pg_catalog.pg_constraint c
          JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
          WHERE c.conrelid = shape.oid AND c.contype = 'n' AND NOT c.convalidated
          UNION ALL
          SELECT pg_catalog.format('DROP CONSTRAINT %I', d.name) FROM pg_catalog.unnest(dropped) d(name)
          JOIN pg_catalog.pg_constraint c ON c.conrelid = shape.oid AND c.conname = d.name AND c.contype = 'c' AND c.convalidated
            AND NOT coalesce(pg_catalog.obj_description(c.oid, 'pg_constraint') LIKE 'lockkeeper: %', false)
        LOOP
          EXECUTE pg_catalog.format('ALTER TABLE pg_temp.%I %s', name, definition);
        END LOOP;
        -- A scan of ours, to see whether they are counted. The planner looks at the indexes' expressions.
        EXECUTE pg_catalog.format('SELECT FROM ONLY pg_temp.%I', name);
        PERFORM pg_catalog.set_config('role', role, true);
        scans := pg_catalog.pg_stat_get_xact_numscans(copy);
        counted := scans > 0;
        FOR n IN 1..{count} LOOP
          -- The server works a default out once, unless it has to for each row: by functions that may do more than tell a value. Those
          -- it is asked about.
          worst := NULL;
          IF bare[n] IS NOT NULL THEN
            BEGIN
              -- No operator of ours is called with the client's path.
              PERFORM pg_catalog.set_config('search_path', path, true);
              EXECUTE 'CREATE TEMPORARY TABLE lockkeeper_bare ()';
              EXECUTE pg_catalog.concat('ALTER TABLE pg_temp.lockkeeper_bare ', bare[n]);
              IF defaults[n] IS NOT NULL THEN
                EXECUTE pg_catalog.concat('ALTER TABLE pg_temp.lockkeeper_bare ', defaults[n]);
              END IF;
              PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
              -- 2604 is pg_attrdef, 1247 pg_type, 2606 pg_constraint, 2617 pg_operator, 1255 pg_proc. The server's own are in no pg_depend.
              WITH RECURSIVE uses(class, oid) AS (
                SELECT 2604::pg_catalog.oid, d.oid FROM pg_catalog.pg_attrdef d WHERE d.adrelid = pg_catalog.to_regclass('pg_temp.lockkeeper_bare')
                UNION
                SELECT 1247::pg_catalog.oid, a.atttypid FROM pg_catalog.pg_attribute a
                WHERE a.attrelid = pg_catalog.to_regclass('pg_temp.lockkeeper_bare') AND a.attname = columns[n]
                UNION
                SELECT x.class, x.oid FROM uses u CROSS JOIN LATERAL (
                  SELECT p.refclassid AS class, p.refobjid AS oid FROM pg_catalog.pg_depend p
                  WHERE p.classid = u.class AND p.objid = u.oid AND p.refclassid IN (1247, 1255, 2617)
                    -- A default of the column's own stands for the domain's.
                    AND (u.class <> 1247 OR ((p.refclassid <> 1255 OR defaults[n] IS NULL)
                      AND EXISTS (SELECT FROM pg_catalog.pg_type y WHERE y.oid = u.oid AND y.typtype = 'd')))
                  UNION ALL
                  SELECT 2606::pg_catalog.oid, c.oid FROM pg_catalog.pg_constraint c WHERE u.class = 1247 AND c.contypid = u.oid) x
                WHERE u.class <> 1255)
              SELECT pg_catalog.max(p.provolatile::text) INTO worst FROM uses u JOIN pg_catalog.pg_proc p ON u.class = 1255 AND p.oid = u.oid;
              RAISE EXCEPTION USING ERRCODE = 'LK000';
            EXCEPTION
              WHEN SQLSTATE 'LK000' THEN
              WHEN OTHERS THEN
                failures[n] := coalesce(failures[n], SQLERRM);
                CONTINUE;
            END;
          END IF;
          IF worst = 'v' THEN
            rewrites[n] := true;
            CONTINUE;
          ELSIF worst = 's' THEN
            failures[n] := coalesce(failures[n], 'a function of its default is not called for a trial');
            CONTINUE;
          END IF;
          file := pg_catalog.pg_relation_filenode(copy);
          files := (SELECT pg_catalog.array_agg(pg_catalog.pg_relation_filenode(i.indexrelid)) FROM pg_catalog.pg_index i WHERE i.indrelid = copy);
          scans := pg_catalog.pg_stat_get_xact_numscans(copy);
          BEGIN
            PERFORM pg_catalog.set_config('search_path', path, true);
            EXECUTE pg_catalog.format('ALTER TABLE pg_temp.%I %s', name, actions[n]);
            PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
            rewrites[n] := rewrites[n] OR pg_catalog.pg_relation_filenode(copy) <> file;
            rebuilds[n] := rebuilds[n] OR NOT coalesce(files <@ (SELECT pg_catalog.array_agg(pg_catalog.pg_relation_filenode(i.indexrelid)) FROM pg_catalog.pg_index i WHERE i.indrelid = copy), files IS NULL);
            scanned[n] := scanned[n] OR NOT counted OR pg_catalog.pg_stat_get_xact_numscans(copy) <> scans;
          EXCEPTION WHEN OTHERS THEN
            failures[n] := coalesce(failures[n], SQLERRM);
          END;
        END LOOP;
        RAISE EXCEPTION USING ERRCODE = 'LK000';
      EXCEPTION WHEN SQLSTATE 'LK000' THEN
      END;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'LK000';
  EXCEPTION
    WHEN SQLSTATE 'LK000' THEN
    WHEN OTHERS THEN
      failure := SQLERRM;
  END;
  -- As ASCII: the client's encoding may lack characters of names that the client never wrote.
  PERFORM pg_catalog.set_config('lockkeeper.trial', pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
    'failure', failure, 'rewrites', rewrites, 'rebuilds', rebuilds, 'scans', scanned, 'failures', failures)::text,
    CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64'), true);
END $lockkeeper_trial$
