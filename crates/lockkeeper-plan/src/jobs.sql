CREATE SCHEMA IF NOT EXISTS lockkeeper;
CREATE TABLE lockkeeper.job (
  id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  kind text NOT NULL,
  owner name NOT NULL DEFAULT current_user,
  identity text NOT NULL,
  state text NOT NULL CONSTRAINT job_state CHECK (state IN ('waiting', 'running', 'paused', 'failed', 'done', 'cancelled')),
  answered boolean NOT NULL DEFAULT false,
  statement text NOT NULL,
  parameter_types bytea,
  parameters bytea,
  settings jsonb NOT NULL DEFAULT '{}',
  relation oid,
  relation_name text,
  details jsonb NOT NULL DEFAULT '{}',
  key_columns text[],
  upper_key text[],
  last_key text[],
  rows_done bigint NOT NULL DEFAULT 0,
  keys_done bigint NOT NULL DEFAULT 0,
  keys_estimated bigint,
  batches bigint NOT NULL DEFAULT 0,
  runs integer NOT NULL DEFAULT 1,
  backend_pid integer,
  run_by oid,
  run_key bigint,
  application_name text,
  error text,
  created_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  started_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  heartbeat_at timestamptz NOT NULL DEFAULT clock_timestamp(),
  finished_at timestamptz
) WITH (fillfactor = 50);
CREATE UNIQUE INDEX job_unfinished ON lockkeeper.job (owner, identity) WHERE state IN ('waiting', 'running', 'paused', 'failed');
CREATE INDEX job_identity ON lockkeeper.job (identity);
ALTER TABLE lockkeeper.job ENABLE ROW LEVEL SECURITY;
ALTER TABLE lockkeeper.job FORCE ROW LEVEL SECURITY;
CREATE POLICY own ON lockkeeper.job USING (owner = current_user) WITH CHECK (owner = current_user);
GRANT USAGE ON SCHEMA lockkeeper TO PUBLIC;
GRANT SELECT, INSERT (kind, identity, state, statement, parameter_types, parameters, settings, relation, relation_name, details, key_columns, upper_key, keys_estimated, runs, backend_pid, run_by, run_key, application_name), UPDATE (state, answered, upper_key, last_key, rows_done, keys_done, batches, runs, backend_pid, run_by, run_key, application_name, error, started_at, heartbeat_at, finished_at) ON lockkeeper.job TO PUBLIC;
COMMENT ON COLUMN lockkeeper.job.kind IS 'write: an UPDATE or DELETE in batches; backfill: the same, as a step of a schema change; deferred: what a transaction has left for after its COMMIT';
COMMENT ON COLUMN lockkeeper.job.identity IS 'the statement, its parameters and its table, as a hash: the same statement sent again continues the job';
COMMENT ON COLUMN lockkeeper.job.state IS 'running without its run_key held means interrupted';
COMMENT ON COLUMN lockkeeper.job.keys_done IS 'of a deferred job: its steps that are done';
COMMENT ON COLUMN lockkeeper.job.run_key IS 'of the run: an advisory lock that the process backend_pid holds for as long as it lasts';
COMMENT ON COLUMN lockkeeper.job.run_by IS 'the role that the process backend_pid has logged in as';
COMMENT ON COLUMN lockkeeper.job.answered IS 'the client has been told that it is done';
COMMENT ON COLUMN lockkeeper.job.parameters IS 'formats and values as in the Bind message';
COMMENT ON COLUMN lockkeeper.job.last_key IS 'every row up to this key is done; moved in the transaction that changes the rows';
COMMENT ON TABLE lockkeeper.job IS 'lockkeeper jobs, version 2';
