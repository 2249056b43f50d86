CREATE SCHEMA IF NOT EXISTS lockkeeper;
CREATE TABLE IF NOT EXISTS lockkeeper.usage (
  database text NOT NULL,
  schema text NOT NULL,
  relation text NOT NULL,
  column_name text NOT NULL,
  application text NOT NULL,
  role_name text NOT NULL,
  first_used timestamptz NOT NULL,
  last_used timestamptz NOT NULL,
  last_written timestamptz,
  executions bigint NOT NULL,
  statement text NOT NULL,
  PRIMARY KEY (relation, schema, column_name, database, application, role_name)
) WITH (fillfactor = 80);
CREATE TABLE IF NOT EXISTS lockkeeper.usage_watch (
  proxy text PRIMARY KEY,
  since timestamptz NOT NULL,
  until timestamptz NOT NULL,
  pids integer[] NOT NULL
) WITH (fillfactor = 50);
CREATE TABLE IF NOT EXISTS lockkeeper.told (
  event text NOT NULL,
  subject text NOT NULL,
  at timestamptz NOT NULL DEFAULT now(),
  delivered boolean NOT NULL DEFAULT false,
  PRIMARY KEY (event, subject)
);
REVOKE ALL ON lockkeeper.usage, lockkeeper.usage_watch, lockkeeper.told FROM PUBLIC;
COMMENT ON TABLE lockkeeper.told IS 'lockkeeper: of what the webhook of one proxy tells, so that no other does; until it is delivered, at is moved as long as it is tried';
COMMENT ON TABLE lockkeeper.usage IS 'lockkeeper: who used which table and column. schema is empty where none was named, column_name for the table itself, and * for the whole row'
