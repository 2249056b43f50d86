DO $lockkeeper_trial$
#variable_conflict use_variable
DECLARE
  parent pg_catalog.oid := {parent};
  child pg_catalog.oid := {child};
  rest pg_catalog.oid := {rest};
  bound text := {bound};
  line pg_catalog.oid[] := ARRAY[parent];
  last int;
  above pg_catalog.oid;
  sibling record;
  outside text;
  inside text;
  definition text;
  copies text[] := '{}';
  copy text;
  before bigint[];
  scanned bool[];
  spared bool[] := '{}';
  failure text;
  attach text;
  theirs text := pg_catalog.current_setting('lockkeeper.search_path');
  ours text := pg_catalog.current_setting('search_path');
  me text := current_user;
  role text := pg_catalog.current_setting('role');
BEGIN
  BEGIN
    -- How constants are written, not how they are read: others could be read as another moment or number.
    PERFORM pg_catalog.set_config('DateStyle', 'ISO', true), pg_catalog.set_config('extra_float_digits', '3', true);
    -- What a table's owner has written into its key or its CHECKs is looked at with the owner's rights.
    PERFORM pg_catalog.set_config('role', (SELECT CASE pg_catalog.pg_get_userbyid(c.relowner)::text WHEN me THEN role ELSE pg_catalog.pg_get_userbyid(c.relowner)::text END
      FROM pg_catalog.pg_class c WHERE c.oid = parent), true);
    LOOP
      above := (SELECT h.inhparent FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid AND c.relispartition WHERE h.inhrelid = line[1]);
      EXIT WHEN above IS NULL;
      line := above || line;
    END LOOP;
    last := pg_catalog.array_length(line, 1);
    -- The parent and what it is a partition of, empty; beside a DEFAULT partition among them the siblings that it stands back from.
    FOR n IN 1..last LOOP
      EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE lockkeeper_line_%s (LIKE %s) PARTITION BY %s', n, line[n]::pg_catalog.regclass, pg_catalog.pg_get_partkeydef(line[n]));
      FOR sibling IN
        SELECT pg_catalog.row_number() OVER () AS number, pg_catalog.pg_get_expr(c.relpartbound, c.oid) AS bound
        FROM pg_catalog.pg_partitioned_table p
        JOIN pg_catalog.pg_inherits h ON h.inhparent = p.partrelid AND h.inhrelid <> p.partdefid
        JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid
        WHERE p.partrelid = line[n] AND CASE WHEN n = last THEN {is_default} ELSE p.partdefid = line[n + 1] END
      LOOP
        IF sibling.number > 500 THEN
          RAISE EXCEPTION 'more than 500 partitions to stand back from';
        END IF;
        EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE lockkeeper_line_%s_%s PARTITION OF pg_temp.lockkeeper_line_%s %s', n, sibling.number, n, sibling.bound);
      END LOOP;
    END LOOP;
    -- What the new partition may hold, and so its parent's DEFAULT partition not; then also by what its parent may hold.
    -- The bound is the client's text.
    PERFORM pg_catalog.set_config('search_path', theirs, true);
    EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE lockkeeper_new PARTITION OF pg_temp.lockkeeper_line_%s %s', last, bound);
    PERFORM pg_catalog.set_config('search_path', ours, true);
    outside := 'NOT ' || pg_catalog.pg_get_partition_constraintdef(pg_catalog.to_regclass('pg_temp.lockkeeper_new')::pg_catalog.oid);
    FOR n IN 2..last LOOP
      EXECUTE pg_catalog.format('ALTER TABLE pg_temp.lockkeeper_line_%s ATTACH PARTITION pg_temp.lockkeeper_line_%s %s', n - 1, n,
        (SELECT pg_catalog.pg_get_expr(c.relpartbound, c.oid) FROM pg_catalog.pg_class c WHERE c.oid = line[n]));
    END LOOP;
    inside := pg_catalog.pg_get_partition_constraintdef(pg_catalog.to_regclass('pg_temp.lockkeeper_new')::pg_catalog.oid);
    EXECUTE 'DROP TABLE pg_temp.lockkeeper_new';
    -- By which collation the key is compared the server leaves out. Were the wrong words hit, the trial would show it.
    FOR sibling IN
      SELECT DISTINCT pg_catalog.format('(%I)::%s', a.attname, pg_catalog.format_type(o.opcintype, NULL)) AS compared,
        pg_catalog.format('%I.%I', s.nspname, c.collname) AS collation
      FROM pg_catalog.pg_partitioned_table p CROSS JOIN pg_catalog.generate_series(0, p.partnatts - 1) k
      JOIN pg_catalog.pg_attribute a ON a.attrelid = p.partrelid AND a.attnum = p.partattrs[k]
      JOIN pg_catalog.pg_opclass o ON o.oid = p.partclass[k]
      JOIN pg_catalog.pg_collation c ON c.oid = p.partcollation[k]
      JOIN pg_catalog.pg_namespace s ON s.oid = c.collnamespace
      WHERE p.partrelid = ANY (line) AND p.partcollation[k] <> a.attcollation
    LOOP
      inside := pg_catalog.replace(inside, sibling.compared, pg_catalog.format('(%s COLLATE %s)', sibling.compared, sibling.collation));
      outside := pg_catalog.replace(outside, sibling.compared, pg_catalog.format('(%s COLLATE %s)', sibling.compared, sibling.collation));
    END LOOP;
    PERFORM pg_catalog.set_config('role', role, true);
    -- Attached twice and undone: with the CHECKs that there are, and with ours in their place. Are the copies scanned?
    FOR try IN 1..2 LOOP
      BEGIN
        copies := '{}';
        IF child <> 0 THEN
          PERFORM pg_catalog.set_config('role', (SELECT CASE pg_catalog.pg_get_userbyid(c.relowner)::text WHEN me THEN role ELSE pg_catalog.pg_get_userbyid(c.relowner)::text END
            FROM pg_catalog.pg_class c WHERE c.oid = child), true);
          EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE lockkeeper_new (LIKE %s)', child::pg_catalog.regclass);
          PERFORM pg_catalog.set_config('role', role, true);
          copies := copies || 'pg_temp.lockkeeper_new'::text;
        END IF;
        IF rest <> 0 THEN
          PERFORM pg_catalog.set_config('role', (SELECT CASE pg_catalog.pg_get_userbyid(c.relowner)::text WHEN me THEN role ELSE pg_catalog.pg_get_userbyid(c.relowner)::text END
            FROM pg_catalog.pg_class c WHERE c.oid = rest), true);
          EXECUTE pg_catalog.format('CREATE TEMPORARY TABLE lockkeeper_rest (LIKE %s)', rest::pg_catalog.regclass);
          PERFORM pg_catalog.set_config('role', role, true);
          EXECUTE pg_catalog.format('ALTER TABLE pg_temp.lockkeeper_line_%s ATTACH PARTITION pg_temp.lockkeeper_rest DEFAULT', last);
          copies := copies || 'pg_temp.lockkeeper_rest'::text;
        END IF;
        before := '{}';
        FOREACH copy IN ARRAY copies LOOP
          above := CASE copy WHEN 'pg_temp.lockkeeper_new' THEN child ELSE rest END;
          PERFORM pg_catalog.set_config('role', (SELECT CASE pg_catalog.pg_get_userbyid(c.relowner)::text WHEN me THEN role ELSE pg_catalog.pg_get_userbyid(c.relowner)::text END
            FROM pg_catalog.pg_class c WHERE c.oid = above), true);
          -- LIKE takes a NOT NULL that is not validated for a whole one.
          FOR definition IN
            SELECT pg_catalog.format('ALTER %I DROP NOT NULL', a.attname) FROM pg_catalog.pg_constraint c
            JOIN pg_catalog.pg_attribute a ON a.attrelid = c.conrelid AND a.attnum = ANY (c.conkey)
            WHERE c.conrelid = above AND c.contype = 'n' AND NOT c.convalidated
            UNION ALL
            SELECT 'ADD ' || pg_catalog.pg_get_constraintdef(c.oid) FROM pg_catalog.pg_constraint c
            WHERE c.conrelid = above AND c.contype = 'c' AND c.convalidated AND try = 1
              AND coalesce(pg_catalog.obj_description(c.oid, 'pg_constraint') NOT LIKE 'lockkeeper: %', true)
            UNION ALL
            SELECT 'ADD CHECK (' || CASE copy WHEN 'pg_temp.lockkeeper_new' THEN inside ELSE outside END || ')' WHERE try = 2
          LOOP
            CONTINUE WHEN definition IS NULL;
            EXECUTE pg_catalog.format('ALTER TABLE %s %s', copy, definition);
          END LOOP;
          -- A scan of ours, to see whether they are counted.
          EXECUTE pg_catalog.format('SELECT FROM ONLY %s', copy);
          PERFORM pg_catalog.set_config('role', role, true);
          before := before || pg_catalog.pg_stat_get_xact_numscans(pg_catalog.to_regclass(copy)::pg_catalog.oid);
          IF before[pg_catalog.array_length(before, 1)] = 0 THEN
            RAISE EXCEPTION 'track_counts is off';
          END IF;
        END LOOP;
        attach := CASE WHEN child <> 0 THEN pg_catalog.format('ALTER TABLE pg_temp.lockkeeper_line_%s ATTACH PARTITION pg_temp.lockkeeper_new %s', last, bound)
          ELSE pg_catalog.format('CREATE TEMPORARY TABLE lockkeeper_new PARTITION OF pg_temp.lockkeeper_line_%s %s', last, bound) END;
        PERFORM pg_catalog.set_config('search_path', theirs, true);
        EXECUTE attach;
        PERFORM pg_catalog.set_config('search_path', ours, true);
        FOR n IN 1..pg_catalog.array_length(copies, 1) LOOP
          spared := spared || (pg_catalog.pg_stat_get_xact_numscans(pg_catalog.to_regclass(copies[n])::pg_catalog.oid) = before[n]);
        END LOOP;
        RAISE EXCEPTION USING ERRCODE = 'LK000';
      EXCEPTION WHEN SQLSTATE 'LK000' THEN
      END;
    END LOOP;
    -- The hash of a key is asked of the table that has it, by its OID.
    FOR n IN 1..last LOOP
      inside := pg_catalog.replace(inside, pg_catalog.format('satisfies_hash_partition(%L::oid, ', pg_catalog.to_regclass('pg_temp.lockkeeper_line_' || n)::pg_catalog.oid),
        pg_catalog.format('satisfies_hash_partition(%L::oid, ', line[n]));
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'LK000';
  EXCEPTION
    WHEN SQLSTATE 'LK000' THEN
    WHEN OTHERS THEN
      failure := SQLERRM;
      -- The copies' names say nothing to the reader.
      FOR sibling IN
        SELECT c.relname, CASE c.oid WHEN child THEN 'lockkeeper_new' WHEN rest THEN 'lockkeeper_rest' ELSE 'lockkeeper_line_' || last END AS copy
        FROM pg_catalog.pg_class c WHERE c.oid IN (parent, child, rest)
      LOOP
        failure := pg_catalog.replace(failure, sibling.copy, sibling.relname);
      END LOOP;
  END;
  -- As ASCII: the client's encoding may lack characters of names that the client never wrote.
  PERFORM pg_catalog.set_config('lockkeeper.bounds', pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
    'failure', failure,
    'state', CASE WHEN failure IS NULL THEN ({state}) END,
    'child', CASE WHEN child <> 0 AND failure IS NULL THEN pg_catalog.json_build_object('condition', inside, 'proven', spared[1], 'provable', spared[pg_catalog.array_length(copies, 1) + 1]) END,
    'rest', CASE WHEN rest <> 0 AND failure IS NULL THEN pg_catalog.json_build_object('condition', outside, 'proven', spared[pg_catalog.array_length(copies, 1)],
      'provable', spared[2 * pg_catalog.array_length(copies, 1)]) END)::text,
    CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64'), true);
END $lockkeeper_trial$
