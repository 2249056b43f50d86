LOCK TABLE lockkeeper.job;
ALTER TABLE lockkeeper.job ADD COLUMN IF NOT EXISTS run_by oid, ADD COLUMN IF NOT EXISTS run_key bigint;
UPDATE lockkeeper.job SET keys_done = (details ->> 'done')::bigint WHERE kind = 'deferred' AND details ? 'done';
REVOKE ALL ON lockkeeper.job FROM PUBLIC;
