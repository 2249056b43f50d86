-- What the rules' own examples are about: users is large, small is small.
SET client_min_messages = warning;
CREATE SCHEMA archive;
CREATE TYPE mood AS ENUM ('sad', 'ok');
CREATE DOMAIN positive_int AS int CHECK (VALUE > 0);
CREATE DOMAIN plain_domain AS text;
CREATE TABLE orgs (id int PRIMARY KEY, a int);
INSERT INTO orgs SELECT g, g FROM generate_series(1, 2000) g;
CREATE TABLE users (id bigint PRIMARY KEY, name text, email text, age int, org_id int, label varchar(10),
    proven int CONSTRAINT users_proven CHECK (proven IS NOT NULL), pd plain_domain, doubled int GENERATED ALWAYS AS (age * 2) STORED,
    CONSTRAINT users_check CHECK (id > 0));
INSERT INTO users (id, name, email, age, org_id, label, proven, pd)
    SELECT g, CASE WHEN g % 2 = 0 THEN 'n' || g END, 'm' || g, 20 + g % 50, 1 + g % 100, 'l', g, 'p' FROM generate_series(1, 2000) g;
CREATE INDEX users_name_idx ON users (name);
CREATE INDEX users_low_idx ON users (name);
CREATE UNIQUE INDEX users_u ON users (email, id);
ALTER TABLE users ADD CONSTRAINT users_age_later CHECK (age > 1) NOT VALID;
CREATE TABLE small (a int PRIMARY KEY, b int CONSTRAINT c CHECK (b > 0));
INSERT INTO small VALUES (1, 1), (2, 2);
CREATE TABLE parted (id int, a int) PARTITION BY LIST (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES IN (1);
INSERT INTO parted SELECT 1, g FROM generate_series(1, 2000) g;
CREATE SEQUENCE used_by_default;
CREATE TABLE numbered (id int DEFAULT nextval('used_by_default'));
CREATE VIEW v AS SELECT 1 AS one;
CREATE MATERIALIZED VIEW totals AS SELECT id AS k, age FROM users;
CREATE UNIQUE INDEX totals_k ON totals (k);
CREATE MATERIALIZED VIEW bare AS SELECT id AS k, age FROM users;
ANALYZE;
