DO $lockkeeper_unvalued$
#variable_conflict use_variable
DECLARE
  path text := coalesce(nullif(pg_catalog.current_setting('lockkeeper.search_path', true), ''), pg_catalog.current_setting('search_path'));
  prepares text[] := {prepares};
  executes text[] := {executes};
  plans text[] := pg_catalog.array_fill(NULL::text, ARRAY[{count}]);
  found text;
  failure text;
BEGIN
  BEGIN
    PERFORM pg_catalog.set_config('plan_cache_mode', 'force_generic_plan', true);
    FOR n IN 1..{count} LOOP
      failure := NULL;
      BEGIN
        PERFORM pg_catalog.set_config('search_path', path, true);
        EXECUTE prepares[n];
        EXECUTE executes[n] INTO found;
        PERFORM pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true);
        plans[n] := found;
      EXCEPTION WHEN OTHERS THEN
        failure := SQLSTATE;
      END;
      -- What is prepared outlives the subtransaction.
      IF EXISTS (SELECT FROM pg_catalog.pg_prepared_statements p WHERE p.name = {literal}) THEN
        DEALLOCATE {name};
      END IF;
      -- Of the moment: the statement itself is not to go on in the belief that nothing can be known.
      IF failure ~ '^(40|53|55|57|58|XX)' THEN
        RAISE EXCEPTION USING ERRCODE = failure, MESSAGE = 'the planner could not be asked about a statement of the DO block';
      END IF;
    END LOOP;
    RAISE EXCEPTION USING ERRCODE = 'LK000';
  EXCEPTION WHEN SQLSTATE 'LK000' THEN
  END;
  -- As ASCII: the client's encoding may lack characters of names that the client never wrote.
  PERFORM pg_catalog.set_config('lockkeeper.unvalued', pg_catalog.encode(pg_catalog.convert_to(pg_catalog.array_to_json(plans)::text,
    CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64'), true);
END $lockkeeper_unvalued$
