WITH RECURSIVE up(oid, below) AS (
  SELECT {parent}::pg_catalog.oid, 0::pg_catalog.oid
  UNION ALL
  SELECT h.inhparent, u.oid FROM up u JOIN pg_catalog.pg_inherits h ON h.inhrelid = u.oid
  JOIN pg_catalog.pg_class c ON c.oid = u.oid AND c.relispartition)
SELECT pg_catalog.md5(pg_catalog.concat_ws(';',
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', u.oid, u.below, c.relpartbound), ',' ORDER BY u.oid) FROM up u JOIN pg_catalog.pg_class c ON c.oid = u.oid),
  -- What a DEFAULT partition stands back from, and the parent's own.
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', h.inhparent, h.inhrelid, c.relpartbound), ',' ORDER BY h.inhparent, h.inhrelid)
    FROM up u JOIN pg_catalog.pg_partitioned_table p ON p.partrelid = u.oid
    JOIN pg_catalog.pg_inherits h ON h.inhparent = u.oid
    JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid
    WHERE p.partdefid = u.below OR (u.below = 0 AND ({is_default} OR p.partdefid = h.inhrelid))),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', a.attrelid, a.attname, a.atttypid, a.attnotnull), ',' ORDER BY a.attrelid, a.attname)
    FROM pg_catalog.pg_attribute a WHERE a.attrelid IN ({child}, {rest}) AND a.attnum > 0 AND NOT a.attisdropped),
  (SELECT pg_catalog.string_agg(c.oid::text, ',' ORDER BY c.oid) FROM pg_catalog.pg_constraint c
    WHERE c.conrelid IN ({child}, {rest}) AND c.contype IN ('c', 'n') AND c.convalidated
      AND coalesce(pg_catalog.obj_description(c.oid, 'pg_constraint') NOT LIKE 'lockkeeper: %', true))))
