DO $lockkeeper$
#variable_conflict use_variable
DECLARE
  line pg_catalog.oid[] := ARRAY[{parent}::pg_catalog.oid];
  above pg_catalog.oid;
BEGIN
  LOOP
    above := (SELECT h.inhparent FROM pg_catalog.pg_inherits h JOIN pg_catalog.pg_class c ON c.oid = h.inhrelid AND c.relispartition WHERE h.inhrelid = line[1]);
    EXIT WHEN above IS NULL;
    line := above || line;
  END LOOP;
  FOREACH above IN ARRAY line LOOP
    -- What is above the parent may be somebody else's.
    CONTINUE WHEN above <> {parent} AND NOT pg_catalog.has_table_privilege(above, 'UPDATE');
    EXECUTE pg_catalog.format('LOCK TABLE ONLY %s IN SHARE UPDATE EXCLUSIVE MODE', above::pg_catalog.regclass);
  END LOOP;
  FOREACH above IN ARRAY ARRAY[{child}, {rest}]::pg_catalog.oid[] LOOP
    CONTINUE WHEN above = 0;
    EXECUTE pg_catalog.format('LOCK TABLE %s IN ACCESS EXCLUSIVE MODE', above::pg_catalog.regclass);
  END LOOP;
  IF ({state}) IS DISTINCT FROM {known}{unless} THEN
    RAISE EXCEPTION 'lockkeeper: the tables have changed since it was proven that attaching scans no row: nothing was attached'
      USING ERRCODE = 'object_not_in_prerequisite_state', HINT = 'Send the same statement again: the proof is made anew.';
  END IF;
END $lockkeeper$
