-- What the harness itself needs: every DDL command leaves what its transaction holds at its end, and the scans at its start and end
-- (which count on from transaction to transaction).
CREATE SCHEMA watch;
CREATE TABLE watch.ddl (n bigint GENERATED ALWAYS AS IDENTITY, vxid text, locks text[], scans text);
CREATE VIEW watch.locks AS SELECT format('%s %s %s', l.mode, c.relkind, c.relname) AS lock
  FROM pg_locks l JOIN pg_class c ON c.oid = l.relation
  WHERE l.pid = pg_backend_pid() AND l.locktype = 'relation' AND l.granted AND c.oid >= 16384 AND c.relkind IN ('r', 'p', 'm', 'v', 'f')
    AND c.relnamespace <> 'watch'::regnamespace;
CREATE VIEW watch.scans AS SELECT coalesce(json_object_agg(relname, seq_scan), '{}')::text AS scans
  FROM (SELECT relname, sum(seq_scan) AS seq_scan FROM pg_stat_xact_user_tables WHERE seq_scan > 0 AND schemaname <> 'watch' GROUP BY 1) s;
CREATE FUNCTION watch.see() RETURNS event_trigger LANGUAGE plpgsql AS $$
BEGIN
  -- DROP INDEX CONCURRENTLY must be the first thing that its transaction writes.
  IF current_setting('application_name') = 'test' AND (TG_EVENT = 'ddl_command_end' OR TG_TAG <> 'DROP INDEX') THEN
    INSERT INTO watch.ddl (vxid, locks, scans)
    SELECT (SELECT virtualtransaction FROM pg_locks WHERE pid = pg_backend_pid() AND locktype = 'virtualxid' LIMIT 1),
           (SELECT coalesce(array_agg(lock), '{}') FROM watch.locks), (SELECT scans FROM watch.scans);
  END IF;
END $$;
CREATE EVENT TRIGGER see_start ON ddl_command_start EXECUTE FUNCTION watch.see();
CREATE EVENT TRIGGER see_end ON ddl_command_end EXECUTE FUNCTION watch.see();
