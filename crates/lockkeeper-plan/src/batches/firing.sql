WITH RECURSIVE
-- Relations an INSERT into which makes the server update or delete rows by a rule (CREATE RULE), and views over these. 2618 is
-- pg_rewrite, 1259 pg_class; of a rule event 1 is a view's own SELECT and 3 INSERT; a query's command 3 is INSERT. Only of the rules for
-- INSERT the text is made, which takes long of a view's. One that is disabled may be enabled.
on_insert(oid, of) AS MATERIALIZED (
  SELECT r.oid, r.ev_class FROM pg_catalog.pg_rewrite r WHERE r.ev_type = '3'
), firing(oid) AS (
  SELECT o.of FROM on_insert o JOIN pg_catalog.pg_rewrite r ON r.oid = o.oid
  WHERE r.ev_action::pg_catalog.text ~ ':commandType [245]|:onConflict \{'
  UNION
  SELECT r.ev_class FROM firing f
  JOIN pg_catalog.pg_depend d ON d.refclassid = 1259 AND d.refobjid = f.oid AND d.classid = 2618
  JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
  WHERE r.ev_type IN ('1', '3'))
-- And columns that foreign keys refer to which do something ON UPDATE: an INSERT with ON CONFLICT DO UPDATE that writes one of these takes the
-- rows with it that refer to it. Of a view that shows such a column any may be it, under another name.
, keyed(oid, num) AS (
  SELECT k.confrelid, n.num FROM pg_catalog.pg_constraint k, pg_catalog.unnest(k.confkey) AS n(num)
  WHERE k.contype = 'f' AND k.confupdtype IN ('c', 'n', 'd')
  UNION
  SELECT r.ev_class, a.attnum FROM keyed k
  JOIN pg_catalog.pg_depend d ON d.refclassid = 1259 AND d.refobjid = k.oid AND d.refobjsubid = k.num AND d.classid = 2618
  JOIN pg_catalog.pg_rewrite r ON r.oid = d.objid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = r.ev_class
  WHERE r.ev_type = '1' AND a.attnum > 0)
, keys(name, columns) AS (
  SELECT c.relname, pg_catalog.json_agg(DISTINCT a.attname) FROM keyed k
  JOIN pg_catalog.pg_class c ON c.oid = k.oid
  JOIN pg_catalog.pg_attribute a ON a.attrelid = k.oid AND a.attnum = k.num GROUP BY c.relname)
SELECT pg_catalog.encode(pg_catalog.convert_to(pg_catalog.json_build_object(
  'names', (SELECT coalesce(pg_catalog.json_agg(DISTINCT c.relname), '[]'::json) FROM firing f JOIN pg_catalog.pg_class c ON c.oid = f.oid),
  'keys', (SELECT coalesce(pg_catalog.json_object_agg(k.name, k.columns), '{}'::json) FROM keys k))::pg_catalog.text,
  CASE pg_catalog.getdatabaseencoding() WHEN 'SQL_ASCII' THEN 'SQL_ASCII' ELSE 'UTF8' END), 'base64')
