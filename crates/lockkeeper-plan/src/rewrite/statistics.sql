-- The statements that make the extended statistics of the table {table} on the table of the same name in the schema {new}.
SELECT coalesce(jsonb_agg(s.sql ORDER BY s.num, s.sql), '[]') FROM (
  SELECT 1 AS num, format('CREATE STATISTICS %I.%I %s FROM %I.%I', {new}, x.stxname,
    -- Kinds and columns, as the server writes them between the name and FROM.
    substr(d.def, length(format('CREATE STATISTICS %I.%I ', sn.nspname, x.stxname)) + 1,
      length(d.def) - length(format('CREATE STATISTICS %I.%I ', sn.nspname, x.stxname)) - length(format(' FROM %I.%I', n.nspname, c.relname))),
    {new}, c.relname) AS sql
  FROM pg_statistic_ext x JOIN pg_class c ON c.oid = x.stxrelid JOIN pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_namespace sn ON sn.oid = x.stxnamespace, LATERAL (SELECT pg_get_statisticsobjdef(x.oid) AS def) d WHERE x.stxrelid = {table}
  UNION ALL
  SELECT 2, format('ALTER STATISTICS %I.%I SET STATISTICS %s', {new}, x.stxname, x.stxstattarget) FROM pg_statistic_ext x
  WHERE x.stxrelid = {table} AND x.stxstattarget >= 0
  UNION ALL
  SELECT 3, format('COMMENT ON STATISTICS %I.%I IS %L', {new}, x.stxname, obj_description(x.oid, 'pg_statistic_ext')) FROM pg_statistic_ext x
  WHERE x.stxrelid = {table} AND obj_description(x.oid, 'pg_statistic_ext') IS NOT NULL) s
