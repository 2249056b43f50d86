-- Queries of the regression tests of PostgreSQL 15 (PostgreSQL License), one a line.
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = :datoid
SELECT avg(four) AS avg_1 FROM onek
SELECT avg(b)::numeric(10,3) AS avg_107_943 FROM aggtest
SELECT sum(four) AS sum_1500 FROM onek
SELECT sum(b) AS avg_431_773 FROM aggtest
SELECT max(four) AS max_3 FROM onek
SELECT max(aggtest.b) AS max_324_78 FROM aggtest
SELECT stddev_pop(b) FROM aggtest
SELECT var_pop(b) FROM aggtest
SELECT stddev_pop(b::numeric) FROM aggtest
SELECT var_pop(b::numeric) FROM aggtest
SELECT regr_count(b, a) FROM aggtest
SELECT regr_syy(b, a) FROM aggtest
SELECT regr_avgx(b, a), regr_avgy(b, a) FROM aggtest
SELECT regr_slope(b, a), regr_intercept(b, a) FROM aggtest
SELECT corr(b, a) FROM aggtest
SELECT count(*), sum(x), regr_sxx(y,x), sum(y),regr_syy(y,x), regr_sxy(y,x) FROM regr_test WHERE x IN (10,20,30,80)
SELECT count(*), sum(x), regr_sxx(y,x), sum(y),regr_syy(y,x), regr_sxy(y,x) FROM regr_test WHERE x IN (10,20,30)
SELECT count(four) AS cnt_1000 FROM onek
select ten, count(*), sum(four) from onek group by ten order by ten
SELECT newavg(four) AS avg_1 FROM onek
SELECT newcnt(four) AS cnt_1000 FROM onek
SELECT oldcnt(*) AS cnt_1000 FROM onek
select ten, sum(distinct four) from onek a group by ten having exists (select 1 from onek b where sum(distinct a.four + b.four) = b.four)
SELECT BOOL_AND(b1)   AS "n", BOOL_OR(b3)    AS "n" FROM bool_test
SELECT BOOL_OR(b1)      AS "t", BOOL_OR(b2)      AS "t", BOOL_OR(b3)      AS "f", BOOL_OR(b4)      AS "n", BOOL_OR(NOT b2)  AS "f", BOOL_OR(NOT b3)  AS "t" FROM bool_test
insert into minmaxtest1 values(13), (14)
select distinct min(f1), max(f1) from minmaxtest
select string_agg(distinct f1::text, ',' order by f1) from varchar_tbl
select string_agg(distinct f1::text, ',' order by f1::text) from varchar_tbl
insert into bytea_test_table values(decode('ff','hex'))
select string_agg(v, decode('ee', 'hex')) from bytea_test_table
select ten, sum(distinct four) filter (where four > 10) from onek a group by ten having exists (select 1 from onek b where sum(distinct a.four) = b.four)
select max(0) filter (where b1) from bool_test
select percentile_cont(0.5) within group (order by b) from aggtest
SELECT n.nspname, proname, prorettype::regtype, prokind, a.rolname FROM pg_proc p, pg_namespace n, pg_authid a WHERE p.pronamespace = n.oid AND p.proowner = a.oid AND n.nspname IN ('alt_nsp1', 'alt_nsp2') ORDER BY nspname, proname
SELECT fdwname FROM pg_foreign_data_wrapper WHERE fdwname like 'alt_fdw%'
SELECT lanname, a.rolname FROM pg_language l, pg_authid a WHERE l.lanowner = a.oid AND l.lanname like 'alt_lang%' ORDER BY lanname
SELECT nspname, opfname, amname, rolname FROM pg_opfamily o, pg_am m, pg_namespace n, pg_authid a WHERE o.opfmethod = m.oid AND o.opfnamespace = n.oid AND o.opfowner = a.oid AND n.nspname IN ('alt_nsp1', 'alt_nsp2') AND NOT opfname LIKE 'alt_opc%' ORDER BY nspname, opfname
SELECT nspname, stxname, rolname FROM pg_statistic_ext s, pg_namespace n, pg_authid a WHERE s.stxnamespace = n.oid AND s.stxowner = a.oid AND n.nspname in ('alt_nsp1', 'alt_nsp2') ORDER BY nspname, stxname
SELECT nspname, cfgname, rolname FROM pg_ts_config t, pg_namespace n, pg_authid a WHERE t.cfgnamespace = n.oid AND t.cfgowner = a.oid AND n.nspname in ('alt_nsp1', 'alt_nsp2') ORDER BY nspname, cfgname
SELECT nspname, prsname FROM pg_ts_parser t, pg_namespace n WHERE t.prsnamespace = n.oid AND nspname like 'alt_nsp%' ORDER BY nspname, prsname
SELECT oprrest, oprjoin FROM pg_operator WHERE oprname = '===' AND oprleft = 'boolean'::regtype AND oprright = 'boolean'::regtype
INSERT INTO attmp (a, b, c, d, e, f, g,    i,   k, l, m, n, p, q, r, s, t, v, w, x, y, z) VALUES (4, 'name', 'text', 4.1, 4.1, 2, '(4.1,4.1,3.1,3.1)', 'c', 314159, '(1,1)', '512', '1 2 3 4 5 6 7 8', true, '(1.1,1.1)', '(4.1,4.1,3.1,3.1)', '(0,2,4.1,4.1,3.1,3.1)', '(4.1,4.1,3.1,3.1)', 'epoch', '01:00:10', '{1.0,2.0,3.0,4.0}', '{1.0,2.0,3.0,4.0}', '{1,2,3,4}')
SELECT typname FROM pg_type WHERE oid = 'attmp_array[]'::regtype
INSERT INTO attmp3 values (1,10)
DELETE FROM attmp3 WHERE NOT b > 10
DELETE FROM attmp6 WHERE b > 20
insert into parent_noinh_convalid values (1)
delete from only parent_noinh_convalid
INSERT INTO PKTABLE VALUES(42)
SELECT conname, tgfoid::regproc, tgtype, tgdeferrable, tginitdeferred FROM pg_trigger JOIN pg_constraint con ON con.oid = tgconstraint WHERE tgrelid = 'pktable'::regclass ORDER BY 1,2,3
insert into atacc1 (test,test2,test3) values (4,4,2)
insert into atacc2 (test2) values (-3)
update atacc3 set test2 = 4 where test2 is null
insert into atacc1 (test,test2) values (4,4)
insert into atacc1 (test) values (NULL)
insert into atacc1 values(1,1)
insert into atacc1 (test,test2) values (3, NULL)
insert into atacc1 (test2, test) values (1, NULL)
insert into atacc1 values (null, 1)
insert into atacc1 values (2, null)
insert into parent values (NULL)
insert into def_test default values
insert into def_view_test default values
insert into atacc1 values (1, 2, 3, 4)
update atacc1 set b = 2 where a = 3
update atacc1 set b = 2 where "........pg.dropped.1........" = 3
insert into atacc1 values (11, 12, 13)
insert into atacc1 (a) values (default)
insert into atacc1 (a,b,c,d) values (default,11,12,13)
insert into atacc1 ("........pg.dropped.1........") values (10)
insert into atacc1 ("........pg.dropped.1........",b,c,d) values (10,11,12,13)
delete from atacc1 where a = 3
select * from myview
insert into atacc1(id, value) values (null, 0)
insert into child values (12, 13, 'testing')
insert into attest values (1,2,3)
select attrelid::regclass, attname, attinhcount, attislocal from pg_attribute where attnum > 0 and attrelid::regclass in ('depth0', 'depth1', 'depth2') order by attrelid::regclass::text, attnum
insert into c1 values(11,'xyz',33,0)
insert into foo values('bb','cc','dd')
update foo set f3 = 'zz'
insert into anothertab (atcol1, atcol2) values (default, true)
select * from anothertab
insert into anothertab (atcol1, atcol2) values (default, null)
select * from another
insert into at_partitioned values (512, '0.123')
insert into at_partitioned values(1, 'foo')
select conname, obj_description(oid, 'pg_constraint') as desc from pg_constraint where conname like 'at_partitioned%' order by conname
select relname, conname, coninhcount, conislocal, connoinherit from pg_constraint c, pg_class r where relname like 'test_inh_check%' and c.conrelid = r.oid order by 1, 2
INSERT INTO test_type_diff2_c1 VALUES (1, 2, 3)
update v2 set q1 = q1 + 1 where q1 = 123
INSERT INTO rewrite_test VALUES (NULL)
insert into alterlock2 values (1, 1)
insert into alter1.t1(f2) values(11)
SELECT indexrelid::regclass::text as index, obj_description(indexrelid, 'pg_class') as comment FROM pg_index where indrelid = 'comment_test'::regclass ORDER BY 1, 2
SELECT m.* FROM filenode_mapping m LEFT JOIN pg_class c ON c.oid = m.oid WHERE c.oid IS NOT NULL OR m.mapped_oid IS NOT NULL
UPDATE old_system_table SET id = -id
INSERT INTO ataddindex VALUES (42), (43)
INSERT INTO parent VALUES (1)
SELECT attislocal, attinhcount FROM pg_attribute WHERE attrelid = 'part_1'::regclass AND attnum > 0
INSERT INTO part_2 VALUES (3, 'a')
DELETE FROM list_parted2_def WHERE a = 11
INSERT INTO partr_def1 VALUES (2, 10)
DELETE FROM part_5_a WHERE a NOT IN (3)
INSERT INTO part5_def_p1 VALUES (5, 'y')
INSERT INTO hpart_2 VALUES (3, 0)
DELETE FROM hpart_5_a
SELECT coninhcount, conislocal FROM pg_constraint WHERE conrelid = 'part_3_4'::regclass AND conname = 'check_a'
INSERT INTO part_hp VALUES (1)
select attrelid::regclass, attname, attnum from pg_attribute where attname = 'a' and (attrelid = 'p'::regclass or attrelid = 'p1'::regclass or attrelid = 'p11'::regclass) order by attrelid::regclass::text
INSERT INTO attmp VALUES (1)
delete from defpart_attach_test_d where a = 1
insert into bar2 values (1)
select indexrelid::regclass, indisclustered from pg_index where indrelid = 'alttype_cluster'::regclass order by indexrelid::regclass::text
select amname, prop, pg_indexam_has_property(a.oid, prop) as p from pg_am a, unnest(array['can_order', 'can_unique', 'can_multi_col', 'can_exclude', 'can_include', 'bogus']::text[]) with ordinality as u(prop,ord) where amtype = 'i' order by amname, ord
UPDATE arrtest SET e[0] = '1.1'
INSERT INTO arrtest (a, b[1:2][1:2], c, d, e, f, g) VALUES ('{11,12,23}', '{{3,4},{4,5}}', '{"foobar"}', '{{"elt1", "elt2"}}', '{"3.4", "6.7"}', '{"abc","abcde"}', '{"abc","abcde"}')
INSERT INTO arrtest (b[2]) VALUES(now())
SELECT * FROM arrtest
SELECT a[1], b[1][1][1], c[1], d[1][1], e[0] FROM arrtest
SELECT array_ndims(a) AS a,array_ndims(b) AS b,array_ndims(c) AS c FROM arrtest
SELECT * FROM arrtest WHERE a[1] < 5 and c = '{"foobar"}'::_name
UPDATE arrtest SET b[1:1][1:1][1:2] = '{113, 117}', b[1:1][1:2][2:2] = '{142, 147}' WHERE array_dims(b) = '[1:1][1:2][1:2]'
SELECT a,b,c FROM arrtest
INSERT INTO arrtest(a) VALUES('{1,null,3}')
UPDATE arrtest SET a[4] = NULL WHERE a[2] IS NULL
DELETE FROM arrtest WHERE a[2] IS NULL AND b IS NULL
UPDATE arrtest SET c[NULL:1] = '{"can''t assign"}' WHERE array_dims(c) is not null
INSERT INTO arrtest_s VALUES ('{1,2,3,4,5}', '{{1,2,3}, {4,5,6}, {7,8,9}}')
SELECT a[:3], b[:2][:2] FROM arrtest_s
SELECT a[:], b[:] FROM arrtest_s
UPDATE arrtest_s SET a[3:] = '{23, 24, 25}', b[2:][2:] = '{{25,26}, {28,29}}'
INSERT INTO arrtest_s VALUES(NULL, NULL)
SELECT f1[0:1] FROM POINT_TBL
SELECT f1[:1] FROM POINT_TBL
UPDATE point_tbl SET f1[0] = 10 WHERE f1 IS NULL RETURNING *
UPDATE point_tbl SET f1[0] = NULL WHERE f1::text = '(10,10)'::point::text RETURNING *
UPDATE point_tbl SET f1[3] = 10 WHERE f1::text = '(-10,-10)'::point::text RETURNING *
update arrtest1 set i[2] = 22, t[2] = 'twenty-two'
update arrtest1 set i[0:2] = array[10,11,12], t[0:2] = array['ten','eleven','twelve']
update arrtest1 set i[11:12] = array[null,22], t[11:12] = array[null,'p22']
update arrtest1 set i[-7:-6] = array[-17,null], t[-7:-6] = array['m17',null]
delete from arrtest1
INSERT INTO arrtest2 VALUES( ARRAY[[[113,142],[1,147]]], ARRAY[1.1,1.2,1.3]::float8[], ARRAY[1.1,1.2,1.3], ARRAY[[['aaa','aab'],['aba','abb'],['aca','acb']],[['baa','bab'],['bba','bbb'],['bca','bcb']]], ARRAY['19620326','19931223','19970117']::timestamp[] )
insert into arrtest_i values(1,'cat1',21)
SELECT a FROM arrtest WHERE b = ARRAY[[[113,142],[1,147]]]
SELECT * FROM array_op_test WHERE i && '{32}' ORDER BY seqno
SELECT * FROM array_op_test WHERE i = '{}' ORDER BY seqno
SELECT * FROM array_op_test WHERE t && '{AAAAAAAA72908}' ORDER BY seqno
SELECT * FROM array_op_test WHERE t = '{}' ORDER BY seqno
select * from arr_tbl where f1 > '{1,2,3}' and f1 <= '{1,5,3}'
insert into arr_pk_tbl values (1, '{1,2,3}')
insert into arr_pk_tbl(pk, f1[1:2]) values (1, '{6,7,8}') on conflict (pk) do update set f1[1] = excluded.f1[1], f1[2] = excluded.f1[2], f1[3] = excluded.f1[3] returning pk, f1
update arr_pk_tbl set f1[2147483647] = 42 where pk = 10
insert into arr_pk_tbl(pk, f1[0:2147483647]) values (2, '{}')
INSERT INTO arraggtest (f1, f2, f3) VALUES ('{1,2,3,4}','{{grey,red},{blue,blue}}','{1.6, 0.0}')
INSERT INTO arraggtest (f1, f2, f3) VALUES ('{4,2,6,7,8,1}','{{red},{black},{purple},{blue},{blue}}',NULL)
select * from comptable
insert into t1 (f1[5].q1) values(42)
insert into src select string_agg(random()::text,'') from generate_series(1,10000)
select length(md5((f1[1]).c2)) from dest
SELECT * FROM BIT_TABLE
SELECT * FROM VARBIT_TABLE
SELECT b, length(b) AS lb FROM BIT_TABLE
SELECT b, SUBSTRING(b FROM 2 FOR 4) AS sub_2_4, SUBSTRING(b FROM 7 FOR 13) AS sub_7_13, SUBSTRING(b FROM 6) AS sub_6 FROM BIT_TABLE
SELECT a,b,a<b AS "a<b",a<=b AS "a<=b",a=b AS "a=b", a>=b AS "a>=b",a>b AS "a>b",a<>b AS "a<>b" FROM varbit_table
SELECT a,b,a<b AS "a<b",a<=b AS "a<=b",a=b AS "a=b", a>=b AS "a>=b",a>b AS "a>b",a<>b AS "a<>b" FROM bit_table
INSERT INTO BIT_SHIFT_TABLE VALUES (B'1101100000000000')
SELECT POSITION(B'1101' IN b), POSITION(B'11011' IN b), b FROM BIT_SHIFT_TABLE
SELECT b, b >> 8 AS bsr8, b << 8 AS bsl8 FROM BIT_SHIFT_TABLE
SELECT b::bit(15), b::bit(15) >> 8 AS bsr8, b::bit(15) << 8 AS bsl8 FROM BIT_SHIFT_TABLE
INSERT INTO VARBIT_SHIFT_TABLE SELECT CAST(v || B'0' AS BIT VARYING(6)) >>1 FROM VARBIT_SHIFT_TABLE
SELECT v, v >> 1 AS vsr, v << 1 AS vsl FROM VARBIT_SHIFT_TABLE
INSERT INTO bit_defaults DEFAULT VALUES
SELECT count(*) FROM bmscantest WHERE a = 1 AND b = 1
INSERT INTO BOOLTBL1 (f1) VALUES (bool 't')
INSERT INTO BOOLTBL3 (d, b, o) VALUES ('false', false, 2)
INSERT INTO booltbl4 VALUES (false, true, null)
SELECT * FROM BOX_TBL
SELECT b.f1 FROM BOX_TBL b WHERE b.f1 && box '(2.5,2.5,1.0,1.0)'
SELECT b1.* FROM BOX_TBL b1 WHERE b1.f1 &> box '(2.0,2.0,2.5,2.5)'
SELECT b.f1 FROM BOX_TBL b WHERE b.f1 <= box '(3.0,3.0,5.0,5.0)'
SELECT b.f1 FROM BOX_TBL b WHERE b.f1 = box '(3.0,3.0,5.0,5.0)'
SELECT b.f1 FROM BOX_TBL b WHERE b.f1 <@ box '(0,0,3,3)'
SELECT b.f1 FROM BOX_TBL b WHERE box '(1,1,3,3)' ~= b.f1
SELECT b1.*, b2.* FROM BOX_TBL b1, BOX_TBL b2 WHERE b1.f1 @> b2.f1 and not b1.f1 ~= b2.f1
INSERT INTO box_temp SELECT box(point(i, i), point(i * 2, i * 2)) FROM generate_series(1, 50) AS i
SELECT * FROM box_temp WHERE f1 << '(10,20),(30,40)'
SELECT * FROM box_temp WHERE f1 && '(15,20),(25,30)'
SELECT * FROM box_temp WHERE f1 >> '(30,40),(40,30)'
SELECT * FROM box_temp WHERE f1 &<| '(10,4.3333334),(5,1)'
SELECT * FROM box_temp WHERE f1 |>> '(37,38),(39,40)'
SELECT * FROM box_temp WHERE f1 <@ '(10,15),(30,35)'
INSERT INTO quad_box_tbl SELECT (x - 1) * 100 + y, box(point(x * 10, y * 10), point(x * 10 + 5, y * 10 + 5)) FROM generate_series(1, 100) x, generate_series(1, 100) y
INSERT INTO quad_box_tbl VALUES (11001, NULL), (11002, NULL), (11003, '((-infinity,-infinity),(infinity,infinity))'), (11004, '((-infinity,100),(-infinity,500))'), (11005, '((-infinity,-infinity),(700,infinity))')
SELECT count(*) FROM quad_box_tbl WHERE b &<  box '((100,200),(300,500))'
SELECT count(*) FROM quad_box_tbl WHERE b &>  box '((100,200),(300,500))'
SELECT count(*) FROM quad_box_tbl WHERE b <<| box '((100,200),(300,500))'
SELECT count(*) FROM quad_box_tbl WHERE b |&> box '((100,200),(300,500))'
SELECT count(*) FROM quad_box_tbl WHERE b @>  box '((201,301),(202,303))'
SELECT count(*) FROM quad_box_tbl WHERE b ~=  box '((200,300),(205,305))'
UPDATE brintest SET int8col = int8col * int4col
INSERT INTO brintest_2 VALUES ('empty')
INSERT INTO brin_test SELECT x/100,x%100 FROM generate_series(1,10000) x(x)
DELETE FROM brintest_3
INSERT INTO brintest_unlogged VALUES (numrange(0, 2^1000::numeric))
UPDATE brintest_bloom SET int8col = int8col * int4col
INSERT INTO brin_test_bloom SELECT x/100,x%100 FROM generate_series(1,10000) x(x)
insert into public.brintest_multi (float4col) values (real 'nan')
INSERT INTO brin_test_inet VALUES ('127.0.0.1/0')
INSERT INTO brin_test_multi SELECT x/100,x%100 FROM generate_series(1,10000) x(x)
INSERT INTO brin_date_test SELECT '4713-01-01 BC'::date + i FROM generate_series(1, 30) s(i)
INSERT INTO brin_timestamp_test SELECT i FROM generate_series('2000-01-01'::timestamp, '2000-02-09'::timestamp, '1 day'::interval) s(i)
INSERT INTO brin_interval_test SELECT (i || ' years')::interval FROM generate_series(-178000000, -177999980) s(i)
SELECT b.* FROM bt_name_heap b WHERE b.seqno < '1'::name
SELECT b.* FROM bt_name_heap b WHERE b.seqno = '4500'::name
SELECT b.* FROM bt_txt_heap b WHERE b.seqno >= '9999'::text
select proname from pg_proc where proname ilike '00%foo' order by 1
select * from btree_bpchar where f1 like 'foo'
insert into btree_bpchar select 'foo' from generate_series(1,1500)
DELETE FROM dedup_unique_test_table WHERE a = 1
insert into btree_tall_tbl select g, repeat('x', 250) from generate_series(1, 130) g
DELETE FROM delete_test_table WHERE a < 79990
INSERT INTO CASE_TBL VALUES (3, -30.3)
INSERT INTO CASE2_TBL VALUES (1, -1)
INSERT INTO CASE2_TBL VALUES (NULL, -6)
SELECT CASE WHEN i >= 3 THEN i END AS ">= 3 or Null" FROM CASE_TBL
SELECT i AS "Value", CASE WHEN (i < 0) THEN 'small' WHEN (i = 0) THEN 'zero' WHEN (i = 1) THEN 'one' WHEN (i = 2) THEN 'two' ELSE 'big' END AS "Category" FROM CASE_TBL
SELECT * FROM CASE_TBL WHERE COALESCE(f,i) = 4
SELECT COALESCE(a.f, b.i, b.j) FROM CASE_TBL a, CASE2_TBL b
SELECT NULLIF(a.i,b.i) AS "NULLIF(a.i,b.i)", NULLIF(b.i, 4) AS "NULLIF(b.i,4)" FROM CASE_TBL a, CASE2_TBL b
UPDATE CASE_TBL SET i = CASE WHEN i >= 3 THEN (- i) ELSE (2 * i) END
UPDATE CASE_TBL SET i = CASE WHEN i >= 2 THEN (2 * i) ELSE (3 * i) END
INSERT INTO CHAR_TBL (f1) VALUES ('a')
SELECT c.* FROM CHAR_TBL c WHERE c.f1 <> 'a'
SELECT c.* FROM CHAR_TBL c WHERE c.f1 < 'a'
SELECT c.* FROM CHAR_TBL c WHERE c.f1 > 'a'
INSERT INTO CIRCLE_TBL VALUES ('<(5,1),3>')
SELECT center(f1) AS center FROM CIRCLE_TBL
SELECT diameter(f1) AS diameter FROM CIRCLE_TBL
SELECT f1 FROM CIRCLE_TBL WHERE diameter(f1) >= 10
INSERT INTO clstr_tst_s (b) VALUES (0)
INSERT INTO clstr_tst (b, c) VALUES (11, 'once')
SELECT a,b,c,substring(d for 30), length(d) from clstr_tst
SELECT a,b,c,substring(d for 30), length(d) from clstr_tst ORDER BY b
INSERT INTO clstr_tst_inh VALUES (0, 100, 'in child table')
SELECT relname, relkind, EXISTS(SELECT 1 FROM pg_class WHERE oid = c.reltoastrelid) AS hastoast FROM pg_class c WHERE relname LIKE 'clstr_tst%' ORDER BY relname
INSERT INTO clstr_1 VALUES (2)
UPDATE clustertest SET key = 100 WHERE key = 10
insert into clstr_temp values (2, 'two'), (1, 'one')
SELECT relname, old.level, old.relkind, old.relfilenode = new.relfilenode FROM old_cluster_info AS old JOIN new_cluster_info AS new USING (relname) ORDER BY relname COLLATE "C"
INSERT INTO clstr_expression(a, b) SELECT g.i % 42, 'prefix'||g.i FROM generate_series(1, 133) g(i)
SELECT * FROM clstr_expression WHERE -a = -3 ORDER BY -a, b
WITH rows AS (SELECT ctid, lag(b) OVER (ORDER BY ctid) AS lb, b FROM clstr_expression) SELECT * FROM rows WHERE upper(lb) > upper(b)
INSERT INTO collate_test10 VALUES (1, 'hij', 'hij'), (2, 'HIJ', 'HIJ')
SELECT relname FROM pg_class WHERE relname ~* '^abc'
WITH RECURSIVE foo(x) AS (SELECT x FROM (VALUES('a' COLLATE "en-x-icu"),('b')) t(x) UNION ALL SELECT (x || 'c') COLLATE "de-x-icu" FROM foo WHERE length(x) < 10) SELECT * FROM foo
SELECT collname FROM pg_collation WHERE collname LIKE 'test%' ORDER BY 1
SELECT collname FROM pg_collation WHERE collname LIKE 'test%'
INSERT INTO test2cs VALUES ('ABC'), ('ghi')
INSERT INTO test1cs VALUES ('ABC')
INSERT INTO test2ci VALUES ('ABC'), ('ghi')
INSERT INTO test1ci VALUES ('ABC')
INSERT INTO test2bpci VALUES ('ABC'), ('ghi')
INSERT INTO test1bpci VALUES ('ABC')
SELECT relname FROM pg_class WHERE relname = 'PG_CLASS'::text COLLATE case_insensitive
SELECT typname FROM pg_type WHERE typname LIKE 'int_' AND typname <> 'INT2'::text COLLATE case_insensitive ORDER BY typname
INSERT INTO outer_text VALUES ('a', 'a')
INSERT INTO inner_text VALUES ('a', NULL)
INSERT INTO test10pk VALUES ('abc'), ('def'), ('ghi')
UPDATE test10fk SET x = 'ABC' WHERE x = 'abc'
UPDATE test11pk SET x = 'ABC' WHERE x = 'abc'
INSERT INTO test22a VALUES (1, ARRAY['def'])
WITH RECURSIVE foo(x) AS (SELECT x FROM (VALUES('a' COLLATE "en_US"),('b')) t(x) UNION ALL SELECT (x || 'c') COLLATE "de_DE" FROM foo WHERE length(x) < 10) SELECT * FROM foo
WITH RECURSIVE foo(x) AS (SELECT x FROM (VALUES('a' COLLATE "C"),('b')) t(x) UNION ALL SELECT (x || 'c') COLLATE "POSIX" FROM foo WHERE length(x) < 10) SELECT * FROM foo
INSERT INTO collate_test21 VALUES ('baz')
DELETE FROM collate_test22 WHERE f2 = 'baz'
INSERT INTO combocidtest SELECT 1 LIMIT 0
SELECT ctid,cmin,* FROM combocidtest
DELETE FROM combocidtest
INSERT INTO testcase VALUES (1, 0)
UPDATE testcase SET balance = balance + 400 WHERE id=1
SELECT * FROM testcase WHERE id = 1 FOR UPDATE
INSERT INTO cmdata1 VALUES(repeat('1234567890', 1004))
SELECT SUBSTR(f1, 200, 5) FROM cmdata
INSERT INTO cmmove3 SELECT * FROM cmdata
INSERT INTO cmmove2 VALUES (repeat('1234567890', 1004))
INSERT INTO cmdata2 SELECT large_val() || repeat('a', 4000)
SELECT pg_column_compression(x) FROM compressmv
INSERT INTO cmdata VALUES (repeat('123456789', 4004))
SELECT length(f1) FROM cmdata
INSERT INTO DEFAULT_TBL VALUES (1, 'bruce')
INSERT INTO DEFAULT_TBL (x) VALUES ('marc')
SELECT * FROM DEFAULT_TBL
INSERT INTO DEFAULTEXPR_TBL (i1) VALUES (-3)
SELECT * FROM DEFAULTEXPR_TBL
SELECT * FROM CHECK_TBL
INSERT INTO CHECK2_TBL VALUES (5, 'z check failed', 10)
SELECT * FROM INSERT_TBL
INSERT INTO INSERT_TBL(z,x) VALUES (-7,  7)
INSERT INTO INSERT_TBL(y,z) VALUES ('check failed', 4)
INSERT INTO INSERT_TBL VALUES (null, null, null)
INSERT INTO SYS_COL_CHECK_TBL VALUES ('Olympia', 'Washington', true, 100)
INSERT INTO INSERT_CHILD(x,z,cy) VALUES (7,-7,11)
SELECT * FROM INSERT_CHILD
INSERT INTO tmp VALUES (null, 'Y', null)
INSERT INTO INSERT_TBL(y) select yd from tmp
INSERT INTO INSERT_TBL(y,z) SELECT yd, -7 FROM tmp WHERE yd = 'try again'
UPDATE INSERT_TBL SET x = 6 WHERE x = 6
UPDATE INSERT_TBL SET x = z, z = x
INSERT INTO PRIMARY_TBL VALUES (1, 'one')
SELECT * FROM PRIMARY_TBL
INSERT INTO UNIQUE_TBL (t) VALUES ('six')
INSERT INTO UNIQUE_TBL VALUES (1, 'a'), (2, 'b'), (2, 'b') ON CONFLICT (i) DO UPDATE SET t = 'fails'
INSERT INTO UNIQUE_TBL (t) VALUES ('eight') ON CONFLICT DO NOTHING
UPDATE unique_tbl SET i = i+1
UPDATE unique_tbl SET i = 2 WHERE i = 4 AND t = 'four'
SELECT conname, conrelid::regclass FROM pg_constraint WHERE conname LIKE 'parted_uniq%' ORDER BY conname
SELECT conname FROM pg_constraint WHERE conrelid = 'parted_fk_naming_1'::regclass AND contype = 'f'
UPDATE unique_tbl SET t = 'THREE' WHERE i = 3 AND t = 'Three'
UPDATE unique_tbl SET t = 'threex' WHERE t = 'tree'
INSERT INTO circles VALUES('<(20,20), 10>', '<(0,0), 4>') ON CONFLICT ON CONSTRAINT circles_c1_c2_excl DO NOTHING
INSERT INTO deferred_excl VALUES(1)
INSERT INTO deferred_excl VALUES(2, 1)
UPDATE deferred_excl SET f2 = 2 WHERE f1 = 2
UPDATE deferred_excl SET f1 = 3
with test_bytes as ( select inbytes, description, (test_conv(inbytes || repeat('.', 3)::bytea, 'utf8', 'utf8')).error from utf8_verification_inputs ), test_padded as ( select description, (test_conv(repeat('.', 64)::bytea || inbytes || repeat('.', 3)::bytea, 'utf8', 'utf8')).error from test_bytes ) select description, b.error as orig_error, p.error as error_after_padding from test_padded p join test_bytes b using (description) where p.error is distinct from b.error order by description
select description, inbytes, (test_conv(inbytes, 'mule_internal', 'euc_jp')).* from mic_inputs;
insert into parted_copytest select x,1,'One' from generate_series(1,1000) x
select * from parted_copytest where b = 2
SELECT * FROM vistest
SELECT b, c FROM forcetest WHERE a = 1
insert into copydml_test (t) values ('a')
SELECT aggfnoid, aggtransfn, aggcombinefn, aggtranstype::regtype, aggserialfn, aggdeserialfn, aggfinalmodify FROM pg_aggregate WHERE aggfnoid = 'myavg'::REGPROC
INSERT INTO tableam_tbl_heap2 VALUES(1)
SELECT pg_describe_object(classid,objid,objsubid) AS obj FROM pg_depend, pg_am WHERE pg_depend.refclassid = 'pg_am'::regclass AND pg_am.oid = pg_depend.refobjid AND pg_am.amname = 'heap2' ORDER BY classid, objid, objsubid
SELECT pg_describe_object(classid, objid, objsubid) as obj, pg_describe_object(refclassid, refobjid, refobjsubid) as objref, deptype FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid = 'heaptable'::regclass ORDER BY 1, 2
SELECT COUNT(a), COUNT(1) FILTER(WHERE a=1) FROM heapmv
SELECT pc.relkind, pa.amname, CASE WHEN relkind = 't' THEN (SELECT 'toast for ' || relname::regclass FROM pg_class pcm WHERE pcm.reltoastrelid = pc.oid) ELSE relname::regclass::text END COLLATE "C" AS relname FROM pg_class AS pc LEFT JOIN pg_am AS pa ON (pa.oid = pc.relam) WHERE pc.relname LIKE 'tableam_%_heapx' ORDER BY 3, 1, 2
SELECT proname, provolatile FROM pg_proc WHERE oid in ('functest_B_1'::regproc, 'functest_B_2'::regproc, 'functest_B_3'::regproc, 'functest_B_4'::regproc) ORDER BY proname
SELECT proname, proleakproof FROM pg_proc WHERE oid in ('functest_E_1'::regproc, 'functest_E_2'::regproc) ORDER BY proname
INSERT INTO functest3 VALUES (1), (2)
SELECT r0.routine_name, r1.routine_name FROM information_schema.routine_routine_usage rru JOIN information_schema.routines r0 ON r0.specific_name = rru.specific_name JOIN information_schema.routines r1 ON r1.specific_name = rru.routine_name WHERE r0.routine_schema = 'temp_func_test' AND r1.routine_schema = 'temp_func_test' ORDER BY 1, 2
SELECT routine_name, table_name, column_name FROM information_schema.routine_column_usage WHERE routine_schema = 'temp_func_test' ORDER BY 1, 2
INSERT INTO functest3 VALUES (1), (2), (3)
INSERT INTO gpolygon_tbl VALUES ( '(1000,0,0,1000)' )
SELECT count(*) FROM gcircle_tbl WHERE f1 && '<(500,500),500>'::circle
SELECT count(*) FROM point_tbl WHERE box '(0,0,100,100)' @> f1
SELECT count(*) FROM point_tbl WHERE f1 <@ circle '<(50,50),50>'
SELECT count(*) FROM point_tbl p WHERE p.f1 >> '(0.0, 0.0)'
SELECT count(*) FROM point_tbl p WHERE p.f1 |>> '(0.0, 0.0)'
SELECT * FROM point_tbl ORDER BY f1 <-> '0,1'
SELECT * FROM point_tbl WHERE f1 IS NOT NULL ORDER BY f1 <-> '0,1'
SELECT * FROM gpolygon_tbl ORDER BY f1 <-> '(0,0)'::point LIMIT 10
SELECT point(x,x), (SELECT f1 FROM gpolygon_tbl ORDER BY f1 <-> point(x,x) LIMIT 1) as c FROM generate_series(0,10,1) x
SELECT * FROM array_index_op_test WHERE i @> '{NULL}' ORDER BY seqno
SELECT * FROM array_index_op_test WHERE i <@ '{NULL}' ORDER BY seqno
SELECT * FROM array_index_op_test WHERE t && '{AAAAAAAA72908}' ORDER BY seqno
SELECT * FROM array_index_op_test WHERE t = '{AAAAAAAAAA646,A87088}' ORDER BY seqno
SELECT * FROM array_index_op_test WHERE i && '{32}' AND t @> '{AAAAAAA80240}' ORDER BY seqno
SELECT COUNT(*) FROM array_gin_test WHERE a @> '{2}'
INSERT INTO func_index_heap VALUES('ABCD', 'EF')
INSERT INTO covering_index_heap VALUES(1,1,'AAA')
INSERT INTO concur_heap VALUES ('b','x')
INSERT INTO concur_temp VALUES (1, 'foo'), (2, 'bar')
INSERT INTO onek_with_null (unique1,unique2) VALUES (NULL, -1), (NULL, NULL)
SELECT count(*) FROM onek_with_null WHERE unique1 IS NULL AND unique2 IS NULL
SELECT count(*) FROM onek_with_null WHERE unique1 IS NULL AND unique2 IS NOT NULL
SELECT count(*) FROM onek_with_null WHERE unique1 IS NULL AND unique1 > 500
SELECT unique1, unique2 FROM onek_with_null WHERE unique2 >= -1 ORDER BY unique2 LIMIT 2
SELECT unique1, unique2 FROM onek_with_null ORDER BY unique2 DESC LIMIT 2
SELECT unique1, unique2 FROM onek_with_null WHERE unique2 < 999 ORDER BY unique2 DESC LIMIT 2
INSERT INTO concur_reindex_tab VALUES  (1, 'a')
SELECT pg_describe_object(classid, objid, objsubid) as obj, pg_describe_object(refclassid,refobjid,refobjsubid) as objref, deptype FROM pg_depend WHERE classid = 'pg_class'::regclass AND objid in ('concur_reindex_tab'::regclass, 'concur_reindex_ind1'::regclass, 'concur_reindex_ind2'::regclass, 'concur_reindex_ind3'::regclass, 'concur_reindex_ind4'::regclass, 'concur_reindex_matview'::regclass) ORDER BY 1, 2
SELECT indexrelid::regclass, indisreplident FROM pg_index WHERE indrelid = 'concur_replident'::regclass
DELETE FROM concur_reindex_tab4 WHERE c1 = 1
SELECT starelid::regclass, count(*) FROM pg_statistic WHERE starelid IN ( 'concur_exprs_index_expr'::regclass, 'concur_exprs_index_pred'::regclass, 'concur_exprs_index_pred_2'::regclass) GROUP BY starelid ORDER BY starelid::regclass::text
INSERT INTO concur_temp_tab_1 VALUES (1, 'foo'), (2, 'bar')
INSERT INTO table1 SELECT generate_series(1,400)
INSERT INTO reindex_before SELECT oid, 'pg_toast_TABLE', relfilenode, relkind, reltoastrelid FROM pg_class WHERE oid IN (SELECT reltoastrelid FROM reindex_before WHERE reltoastrelid > 0)
SELECT  b.relname, b.relkind, CASE WHEN a.relfilenode = b.relfilenode THEN 'relfilenode is unchanged' ELSE 'relfilenode has changed' END FROM reindex_before b JOIN pg_class a ON b.oid = a.oid ORDER BY 1
INSERT INTO quad_point_tbl VALUES (NULL), (NULL), (NULL)
INSERT INTO radix_text_tbl VALUES ('P0123456789abcde')
SELECT count(*) FROM quad_point_tbl WHERE p IS NOT NULL
SELECT count(*) FROM quad_point_tbl WHERE p <@ box '(200,200,1000,1000)'
SELECT count(*) FROM quad_point_tbl WHERE p << '(5000, 4000)'
SELECT count(*) FROM quad_point_tbl WHERE p <<| '(5000, 4000)'
SELECT count(*) FROM quad_point_tbl WHERE p ~= '(4585, 365)'
SELECT count(*) FROM radix_text_tbl WHERE t <    'Aztec                         Ct  '
SELECT count(*) FROM radix_text_tbl WHERE t <=   'Aztec                         Ct  '
SELECT count(*) FROM radix_text_tbl WHERE t =    'Aztec                         Ct  '
SELECT count(*) FROM radix_text_tbl WHERE t ~>=~ 'Worth                         St  '
SELECT count(*) FROM radix_text_tbl WHERE t ~>~  'Worth                         St  '
SELECT * FROM quad_point_tbl_ord_seq1 seq FULL JOIN quad_point_tbl_ord_idx1 idx ON seq.n = idx.n WHERE seq.dist IS DISTINCT FROM idx.dist
SELECT count(*) FROM kd_point_tbl WHERE box '(200,200,1000,1000)' @> p
SELECT count(*) FROM kd_point_tbl WHERE p >> '(5000, 4000)'
SELECT count(*) FROM kd_point_tbl WHERE p |>> '(5000, 4000)'
SELECT * FROM quad_point_tbl_ord_seq1 seq FULL JOIN kd_point_tbl_ord_idx1 idx ON seq.n = idx.n WHERE seq.dist IS DISTINCT FROM idx.dist
SELECT count(*) FROM radix_text_tbl WHERE t ^@	 'Worth'
INSERT INTO a_star (class, a) VALUES ('a', 1)
INSERT INTO b_star (class, a, b) VALUES ('b', 3, 'mumble'::text)
INSERT INTO b_star (class, b) VALUES ('b', 'bumble'::text)
INSERT INTO c_star (class, a, c) VALUES ('c', 5, 'hi mom'::name)
INSERT INTO c_star (class, c) VALUES ('c', 'hi paul'::name)
INSERT INTO d_star (class, a, b, c, d) VALUES ('d', 7, 'grumble'::text, 'hi sunita'::name, '0.0'::float8)
INSERT INTO d_star (class, a, b, d) VALUES ('d', 9, 'rumble'::text, '1.1'::float8)
INSERT INTO d_star (class, b, c, d) VALUES ('d', 'crumble'::text, 'hi boris'::name, '100.001'::float8)
INSERT INTO d_star (class, a, c) VALUES ('d', 12, 'hi avi'::name)
INSERT INTO d_star (class, b, c) VALUES ('d', 'tumble'::text, 'hi andrew'::name)
INSERT INTO d_star (class, c, d) VALUES ('d', 'hi ginger'::name, '100000.000001'::float8)
INSERT INTO d_star (class, b) VALUES ('d', 'jumble'::text)
INSERT INTO d_star (class, d) VALUES ('d', '1000000.0000001'::float8)
INSERT INTO e_star (class, a, c, e) VALUES ('e', 15, 'hi carol'::name, '-1'::int2)
INSERT INTO e_star (class, a, e) VALUES ('e', 17, '-2'::int2)
INSERT INTO e_star (class, a) VALUES ('e', 18)
INSERT INTO e_star (class, e) VALUES ('e', '-4'::int2)
INSERT INTO f_star (class, a, c, e) VALUES ('f', 20, 'hi mike'::name, '-6'::int2)
INSERT INTO f_star (class, a, e, f) VALUES ('f', 22, '-7'::int2, '(111,555),(222,666),(333,777),(444,888)'::polygon)
INSERT INTO f_star (class, a, c) VALUES ('f', 24, 'hi marc'::name)
INSERT INTO f_star (class, a, f) VALUES ('f', 26, '(11111,33333),(22222,44444)'::polygon)
INSERT INTO f_star (class, c, f) VALUES ('f', 'hi jeff'::name, '(111111,333333),(222222,444444)'::polygon)
INSERT INTO f_star (class, a) VALUES ('f', 27)
INSERT INTO f_star (class, e) VALUES ('f', '-12'::int2)
INSERT INTO f_star (class) VALUES ('f')
SELECT * FROM b_star* x WHERE x.b = text 'bumble' or x.a < 3
SELECT class, b, c FROM d_star* x WHERE x.a < 100
SELECT * FROM f_star* x WHERE x.c ISNULL
SELECT class, sum(a) FROM a_star* GROUP BY class ORDER BY class
SELECT class, foo FROM a_star* x WHERE x.foo >= 2
UPDATE f_star SET f = 10
SELECT relname, reltoastrelid <> 0 AS has_toast_table FROM pg_class WHERE oid::regclass IN ('a_star', 'c_star') ORDER BY 1
SELECT * FROM cp_test ORDER BY b COLLATE "C"
INSERT INTO cp_test VALUES(c, b)
SELECT firstc, lastc FROM extra_wide_table
SELECT relkind FROM pg_class WHERE relname = 'partitioned'
INSERT INTO list_parted2 VALUES('X')
SELECT attname, attislocal, attinhcount FROM pg_attribute WHERE attrelid = 'part_a'::regclass and attnum > 0 ORDER BY attnum
SELECT conislocal, coninhcount FROM pg_constraint WHERE conrelid = 'part_b'::regclass
INSERT INTO partkey_t VALUES (100)
insert into volatile_partbound_test values (current_timestamp)
insert into defcheck_def values (0, 0)
SELECT * FROM inhe; /* Columns aa, bb, xx value NULL, ee */ SELECT * FROM inhx; /* Empty set since LIKE inherits structure only */ SELECT * FROM ctlb; /* Has ee entry */ SELECT * FROM ctla; /* Has ee entry */ CREATE TABLE inhf (LIKE inhx, LIKE inhx); /* Throw error */ CREATE TABLE inhf (LIKE inhx INCLUDING DEFAULTS INCLUDING CONSTRAINTS)
SELECT * FROM inhf; /* Single entry with value 'text' */ ALTER TABLE inhx add constraint foo CHECK (xx = 'text')
INSERT INTO test_like_gen_1 (a) VALUES (1)
INSERT INTO test_like_4b (a) VALUES(11)
INSERT INTO test_like_4d (a) VALUES(11)
INSERT INTO inhg (xx, yy, x) VALUES ('test', 5, 10)
SELECT c.relname, objsubid, description FROM pg_description, pg_index i, pg_class c WHERE classoid = 'pg_class'::regclass AND objoid = i.indexrelid AND c.oid = i.indexrelid AND i.indrelid = 'ctlt_all'::regclass ORDER BY c.relname, objsubid
SELECT s.stxrelid::regclass AS relation, array_agg(a.attname ORDER BY u.ord) AS stats_columns FROM pg_statistic_ext s CROSS JOIN LATERAL unnest(s.stxkeys::int2[]) WITH ORDINALITY AS u(attnum, ord) JOIN pg_attribute a ON a.attrelid = s.stxrelid AND a.attnum = u.attnum WHERE s.stxrelid IN ('ctl_stats3_child'::regclass, 'ctl_stats4_child'::regclass) GROUP BY s.stxrelid ORDER BY s.stxrelid::regclass::text
SELECT * FROM default_test
INSERT INTO mytab VALUES ('(1,2,3)'), ('(-44,5.5,12)')
SELECT typinput, typoutput, typreceive, typsend, typmodin, typmodout, typanalyze, typsubscript, typstorage FROM pg_type WHERE typname = 'myvarchar'
SELECT * FROM viewtest
SELECT relname FROM pg_class WHERE relname LIKE 'v%' AND relnamespace IN (SELECT oid FROM pg_namespace WHERE nspname LIKE 'pg_temp%') ORDER BY relname
SELECT count(*) FROM pg_class where relname LIKE 'mytempview' And relnamespace IN (SELECT OID FROM pg_namespace WHERE nspname LIKE 'pg_temp%')
SELECT * FROM unspecified_types
delete from pg_depend where objid = (select oid from pg_rewrite where ev_class = 'tt14v'::regclass and rulename = '_RETURN') and refobjsubid = 3 returning pg_describe_object(classid, objid, objsubid) as obj, pg_describe_object(refclassid, refobjid, refobjsubid) as ref, deptype
insert into tt27v values (1)
UPDATE pg_database SET datacl = array_fill(makeaclitem(10, 10, 'USAGE', false), ARRAY[5e5::int]) WHERE datname = 'regression_utf8'
SELECT f1 FROM DATE_TBL
SELECT f1 FROM DATE_TBL WHERE f1 BETWEEN '2000-01-01' AND '2001-01-01'
SELECT f1 - date 'epoch' AS "Days From Epoch" FROM DATE_TBL
SELECT EXTRACT(CENTURY FROM DATE '0101-12-31 BC')
SELECT EXTRACT(MILLENNIUM FROM DATE '0001-12-31 BC')
SELECT EXTRACT(DECADE FROM DATE '1994-12-25')
SELECT EXTRACT(MILLISECONDS  FROM DATE '2020-08-11')
SELECT EXTRACT(MINUTE        FROM DATE '2020-08-11')
SELECT EXTRACT(DAY           FROM DATE '2020-08-11')
SELECT EXTRACT(YEAR          FROM DATE '2020-08-11')
SELECT EXTRACT(CENTURY       FROM DATE '2020-08-11')
SELECT EXTRACT(ISOYEAR       FROM DATE '2020-08-11')
SELECT EXTRACT(WEEK          FROM DATE '2020-08-11')
SELECT EXTRACT(ISODOW        FROM DATE '2020-08-11')
SELECT EXTRACT(TIMEZONE      FROM DATE '2020-08-11')
SELECT EXTRACT(TIMEZONE_H    FROM DATE '2020-08-11')
SELECT EXTRACT(JULIAN        FROM DATE '2020-08-11')
SELECT EXTRACT(EPOCH FROM DATE 'infinity')
SELECT EXTRACT(DECADE     FROM DATE 'infinity')
SELECT EXTRACT(JULIAN     FROM DATE 'infinity')
SELECT EXTRACT(EPOCH      FROM DATE 'infinity')
INSERT INTO delete_test (a) VALUES (10)
DELETE FROM delete_test AS dt WHERE dt.a > 75
SELECT id, a, char_length(b) FROM delete_test
SELECT typowner = relowner FROM pg_type JOIN pg_class c ON typrelid = c.oid WHERE typname = 'deptest_t'
select testtext || testvarchar as concat, testnumeric + 42 as sum from basictest
INSERT INTO domarrtest values (NULL, '{{"a","b","c"},{"d","e","f"}}')
select * from domarrtest
select array_dims(testint4arr), array_dims(testchar4arr) from domarrtest
select * from domarrtest where testchar4arr is null
insert into dcomptable values (row(3,4)::comptype)
select * from dcomptable
update dcomptable set d1.r = (d1).r + 1 where (d1).i > 0
update dcomptable set d1.r = (d1).r - 1, d1.i = (d1).i + 1 where (d1).i > 0
insert into dcomptable values (array[row(1,2)]::dcomptypea)
insert into dcomptable values (array[row(7,8)::comptype, row(9,10)::comptype])
insert into dcomptable (d1[1].r) values(11)
update dcomptable set d1[2] = row(d1[2].i, d1[2].r)
insert into dcomptable values (array[row(1,2)]::comptype[])
update dcomptable set d1[1].r = d1[1].r - 1, d1[1].i = d1[1].i + 1 where d1[1].i > 0
insert into pitable values(array[-1])
update pitable set f1[1] = f1[1] + 1
select * from pitable
insert into vc4table values(array['too long']::vc4[])
insert into dposintatable values(array[array[42]::posint[]])
select f1, f1[1], (f1[1])[1] from dposintatable
select pg_typeof(f1[1]) from dposintatable
select pg_typeof((f1[1])[1]) from dposintatable
update dposintatable set f1[2][1] = array[97]
insert into dcomptable values (null)
update dcomptable set f1[1].cf1 = -1
INSERT INTO nulltest values ('a', 'b', 'c', 'd', 'c')
INSERT INTO nulltest values (NULL, 'b', 'c', 'd', 'd')
INSERT INTO nulltest values ('a', 'b', NULL, 'd', 'c')
SELECT cast(col4 as dnotnull) from nulltest
insert into defaulttest default values
update domnotnull set col1 = 5
insert into domdeftest default values
insert into domcontest values (1)
INSERT INTO thethings (stuff) VALUES (55)
insert into domtab (col1) values (null)
select * from domview
insert into domain_test values (1, 2)
insert into ddtest2 values('{(-1)}')
insert into op values (array[1,2])
insert into dom_table values ('1')
SELECT  ctid, oprcom FROM    pg_catalog.pg_operator fk WHERE   oprcom != 0 AND NOT EXISTS(SELECT 1 FROM pg_catalog.pg_operator pk WHERE pk.oid = fk.oprcom)
SELECT good, truncated, with_nul FROM regress_encoding
SELECT substring(good, 3, 1) FROM regress_encoding
SELECT length(truncated) FROM regress_encoding
SELECT reverse(truncated) FROM regress_encoding
SELECT substring(with_nul, 3, 1) FROM regress_encoding
SELECT with_nul, reverse(with_nul), reverse(reverse(with_nul)) FROM regress_encoding
SELECT substring(truncated_with_nul, 3, 1) FROM regress_encoding
SELECT reverse(truncated_with_nul) FROM regress_encoding
SELECT test_mblen_func('pg_mblen_unbounded', 'UTF8', truncated_with_nul, 3) FROM regress_encoding
SELECT COUNT(*) FROM pg_enum WHERE enumtypid = 'rainbow'::regtype
SELECT enumlabel, enumsortorder FROM pg_enum WHERE enumtypid = 'planets'::regtype ORDER BY enumlabel::planets
INSERT INTO enumtest values ('red'), ('orange'), ('yellow'), ('green')
SELECT * FROM enumtest WHERE col <> 'orange' ORDER BY col
SELECT * FROM enumtest WHERE col >= 'yellow' ORDER BY col
SELECT * FROM enumtest WHERE col <= 'green' ORDER BY col
SELECT max(col) FROM enumtest
INSERT INTO enumtest_parent VALUES ('red')
DELETE FROM enumtest_parent
SELECT * FROM pg_enum WHERE NOT EXISTS (SELECT 1 FROM pg_type WHERE pg_type.oid = enumtypid);
select nonesuch from pg_database
select * from pg_database where nonesuch = pg_database.datname
select distinct on (foobar) * from pg_database
select null from pg_database group by grouping sets (()) for update
INSERT INTO 123 VALUES(123)
INSERT INTO undroppable_objs VALUES ('table', 'schema_one.table_three'), ('table', 'audit_tbls.schema_two_table_three')
DELETE FROM undroppable_objs WHERE object_identity = 'audit_tbls.schema_two_table_three'
SELECT * FROM dropped_objects WHERE object_type = 'schema'
SELECT e.evtname, pg_describe_object('pg_event_trigger'::regclass, e.oid, 0) as descr, b.type, b.object_names, b.object_args, pg_identify_object(a.classid, a.objid, a.objsubid) as ident FROM pg_event_trigger as e, LATERAL pg_identify_object_as_address('pg_event_trigger'::regclass, e.oid, 0) as b, LATERAL pg_get_object_address(b.type, b.object_names, b.object_args) as a ORDER BY e.evtname
select a, a in (1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint,8::myint) as not_hashed, a in (1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint,8::myint,9::myint) as hashed from inttest
select a, a not in (1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint,8::myint) as not_hashed, a not in (1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint,8::myint,9::myint) as hashed from inttest
select a, a in (1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint,8::myint) as not_hashed, a in (1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint,8::myint,9::myint) as hashed, a in (0::myint,1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint) as not_hashed_zero, a in (0::myint,1::myint,2::myint,3::myint,4::myint,5::myint,6::myint,7::myint,8::myint) as hashed_zero from inttest
INSERT INTO m VALUES (NULL::OID)
SELECT pk, c_int, c_bpchar, c_text, c_date, c_timestamp, c_timestamp_null, c_array, c_small, c_small_null, c_big, c_num, c_time, c_interval, c_hugetext = repeat('abcdefg',1000) as c_hugetext_origdef, c_hugetext = repeat('poiuyt', 1000) as c_hugetext_newdef FROM T ORDER BY pk
SELECT attnum, attname, atthasmissing, atthasdef, attmissingval FROM pg_attribute WHERE attnum > 0 AND attrelid = 't2'::regclass ORDER BY attnum
SELECT attname, atthasmissing, attmissingval FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum
INSERT INTO T SELECT b, b - 10 FROM generate_series(11, 20) a(b)
SELECT c_bigint, c_text FROM T WHERE c_bigint = -1 LIMIT 1
SELECT COALESCE(c_bigint, pk), COALESCE(c_text, pk::text) FROM T ORDER BY pk LIMIT 10
SELECT * FROM T ORDER BY c_bigint, c_text, pk LIMIT 10
DELETE FROM T WHERE pk BETWEEN 10 AND 20 RETURNING *
SELECT * FROM T WHERE c_text LIKE '"%"' ORDER BY PK
SELECT c_text FROM T WHERE c_int = -1
INSERT INTO t (a,b,c) VALUES (1,2,NULL)
INSERT INTO vtype VALUES (1)
INSERT INTO t DEFAULT VALUES
SELECT * FROM t WHERE a IS NULL
insert into has_fast_default values(1)
INSERT INTO FLOAT4_TBL(f1) VALUES ('10e70'::float8)
SELECT fdwname, fdwhandler::regproc, fdwvalidator::regproc, fdwoptions FROM pg_foreign_data_wrapper ORDER BY 1, 2, 3
SELECT * FROM pg_user_mapping
SELECT * FROM information_schema.foreign_data_wrapper_options ORDER BY 1, 2, 3
SELECT * FROM information_schema.foreign_server_options ORDER BY 1, 2, 3
SELECT * FROM information_schema.user_mapping_options ORDER BY lower(authorization_identifier), 2, 3, 4
SELECT * FROM information_schema.role_usage_grants WHERE object_type LIKE 'FOREIGN%' AND object_name IN ('s6', 'foo') ORDER BY 1, 2, 3, 4, 5
SELECT * FROM information_schema.foreign_table_options ORDER BY 1, 2, 3, 4
SELECT has_foreign_data_wrapper_privilege('regress_test_role', (SELECT oid FROM pg_foreign_data_wrapper WHERE fdwname='foo'), 'USAGE')
SELECT has_foreign_data_wrapper_privilege( (SELECT oid FROM pg_foreign_data_wrapper WHERE fdwname='foo'), 'USAGE')
SELECT has_server_privilege('regress_test_role', (SELECT oid FROM pg_foreign_server WHERE srvname='s8'), 'USAGE')
SELECT has_server_privilege( (SELECT oid FROM pg_foreign_server WHERE srvname='s8'), 'USAGE')
SELECT relname, conname, contype, conislocal, coninhcount, connoinherit FROM pg_class AS pc JOIN pg_constraint AS pgc ON (conrelid = pc.oid) WHERE pc.relname = 'fd_pt1' ORDER BY 1,2
SELECT fdwname, fdwhandler, fdwvalidator, fdwoptions FROM pg_foreign_data_wrapper
INSERT INTO PKTABLE VALUES (1, 'Test1')
INSERT INTO FKTABLE VALUES (NULL, 1)
DELETE FROM PKTABLE WHERE ptest1=1
INSERT INTO PKTABLE VALUES (1, 2, 'Test1')
INSERT INTO FKTABLE VALUES (NULL, NULL, 0)
INSERT INTO FKTABLE VALUES (1, NULL, 4)
UPDATE FKTABLE SET ftest1 = NULL WHERE ftest1 = 1
SELECT * FROM PKTABLE
INSERT INTO FKTABLE VALUES (1, NULL)
INSERT INTO FKTABLE VALUES (1, 2, 3, 1)
INSERT INTO FKTABLE VALUES (2, NULL, 3, 3)
INSERT INTO PKTABLE VALUES (1, 3, NULL, 'test2')
DELETE FROM PKTABLE WHERE ptest1 = 2
INSERT INTO PKTABLE VALUES (2, -1, 5, 'test5')
DELETE FROM PKTABLE where ptest2=-1 and ptest3=5
INSERT INTO PKTABLE VALUES (1, 0), (1, 1), (1, 2)
DELETE FROM PKTABLE WHERE id = 1 OR id = 2
UPDATE FKTABLE SET ftest1 = ftest1
insert into pktable(base1) values (1)
delete from pktable where base1>2
update pktable set base1=base1*4 where base1<3
insert into fktable(ftest1, ftest2) values (3, 1)
insert into pktable (base1, ptest1, base2, ptest2) values (1, 1, 1, 1)
update pktable set base1=3 where base1=1
UPDATE pktable SET id = 10 WHERE id = 5
INSERT INTO tasks VALUES (1,1,NULL,NULL)
INSERT INTO tasks VALUES (3,3,3,3)
DELETE FROM users WHERE id = 4
insert into selfref (a, b) values (0, 0), (1, 1)
select a, b from selfref
insert into defc values (2)
insert into pp values(12)
insert into cc values(13)
delete from t1 where a = 1
insert into fktable2 values (4, 5)
update pktable2 set d = 5
insert into pktable2 values(1)
delete from fktable2
insert into pktable2 values ('-0', '-0')
INSERT INTO fk_partitioned_fk (a,b) VALUES (500, 501)
INSERT INTO fk_notpartitioned_pk VALUES (500, 501), (1500, 1501), (2500, 2502), (2501, 2503)
INSERT INTO fk_notpartitioned_pk (a,b) VALUES (2502, 2503)
INSERT INTO fk_notpartitioned_pk VALUES (1)
DELETE FROM fk_notpartitioned_pk WHERE a = 1
INSERT INTO fk_partitioned_fk_3 (a, b) VALUES (2502, 2503)
INSERT INTO fk_notpartitioned_pk VALUES (2502, 2503)
INSERT INTO fk_partitioned_fk_full VALUES (1, NULL)
UPDATE fk_notpartitioned_pk SET a = a + 1 WHERE a = 2502
SELECT count(*) FROM fk_partitioned_fk WHERE a IS NULL
UPDATE fk_notpartitioned_pk SET a = 1500 WHERE a = 2502
DELETE FROM fk_notpartitioned_pk WHERE b = 142857
DELETE FROM fk_partitioned_fk
SELECT * FROM fk_partitioned_fk ORDER BY a
INSERT INTO fk_partitioned_fk_2 VALUES (1600, 601), (1600, 1601)
insert into fk_notpartitioned_pk (a, b) select 2048, x from generate_series(1,10) x
INSERT INTO parted_self_fk VALUES (10, 1), (11, 2), (12, 3) RETURNING tableoid::regclass
DELETE FROM parted_self_fk WHERE id = 1 RETURNING *
INSERT INTO part2_self_fk VALUES (16, 9)
insert into fkpart1.pkey values (1)
insert into fkpart1.fk_part_1 values (2)
delete from fkpart3.fk_part
INSERT into pk VALUES (1), (1000), (2000), (3000), (4000), (4500)
DELETE FROM pk WHERE a = 1
INSERT into droppk VALUES (1), (1000), (1500), (2000)
SELECT pg_describe_object('pg_constraint'::regclass, oid, 0), confrelid::regclass, CASE WHEN conparentid <> 0 THEN pg_describe_object('pg_constraint'::regclass, conparentid, 0) ELSE 'TOP' END FROM pg_catalog.pg_constraint WHERE conrelid IN (SELECT relid FROM pg_partition_tree('fk')) ORDER BY conrelid::regclass::text, conname
INSERT INTO pk VALUES (1)
INSERT INTO pt VALUES(1,2,3)
UPDATE pk SET a = 20
INSERT INTO pk VALUES (20), (50)
INSERT INTO pk VALUES (20), (30), (50)
DELETE FROM pk WHERE a = 20 RETURNING *
INSERT INTO fkpart8.tbl1 VALUES(1)
INSERT INTO fkpart9.fk VALUES (35)
INSERT INTO fkpart10.tbl1 VALUES (0), (1)
INSERT INTO fkpart10.tbl4 VALUES (-2), (-1)
UPDATE fkpart10.tbl1 SET f1 = 2 WHERE f1 = 1
INSERT INTO fkpart10.tbl1 VALUES (4)
DELETE FROM fkpart10.tbl5
INSERT INTO fkpart11.fk VALUES (1), (3)
INSERT INTO fkpart11.fk_another VALUES (1), (3)
DELETE FROM fkpart11.fk WHERE a = 4
UPDATE fkpart11.pk1 SET a = a - 1
UPDATE fkpart11.pk SET a = 3 WHERE a = 4
INSERT INTO fk_r VALUES (1, 1, 1)
INSERT INTO fkpart13_t1 (a) VALUES (1)
UPDATE fkpart13_t1 SET a = 2 WHERE a = 1
SELECT id, keywords, title, body, created FROM articles GROUP BY id
SELECT id, keywords, title, body, created FROM articles GROUP BY body
SELECT a.id, a.keywords, a.title, a.body, a.created FROM articles AS a, articles_in_category AS aic WHERE a.id = aic.article_id AND aic.category_id in (14,62,70,53,138) GROUP BY a.id
SELECT a.id, a.keywords, a.title, a.body, a.created FROM articles AS a JOIN articles_in_category AS aic ON a.id = aic.article_id WHERE aic.category_id in (14,62,70,53,138) GROUP BY a.id
SELECT aic.changed FROM articles AS a JOIN articles_in_category AS aic ON a.id = aic.article_id WHERE aic.category_id in (14,62,70,53,138) GROUP BY aic.category_id, aic.article_id
SELECT product_id, p.name, (sum(s.units) * p.price) AS sales FROM products p LEFT JOIN sales s USING (product_id) GROUP BY product_id, p.name, p.price
SELECT u.uid, u.name FROM node n INNER JOIN users u ON u.uid = n.uid WHERE n.type = 'blog' AND n.status = 1 GROUP BY u.uid, u.name
SELECT attrelid, attname, attgenerated FROM pg_attribute WHERE attgenerated NOT IN ('', 's')
SELECT table_name, column_name, dependent_column FROM information_schema.column_column_usage ORDER BY 1, 2, 3
INSERT INTO gtest1 VALUES (2, DEFAULT)
INSERT INTO gtest1 VALUES (3, 33), (4, 44)
INSERT INTO gtest1 VALUES (3, 33), (4, DEFAULT)
DELETE FROM gtest1 WHERE a >= 3
UPDATE gtest1 SET b = 11 WHERE a = 1
INSERT INTO gtestx VALUES (11, 1), (22, 2), (33, 3)
UPDATE gtest1 SET a = 3 WHERE b = 4
INSERT INTO gtestm VALUES (1, 5, 100)
SELECT * FROM gtestm ORDER BY id
INSERT INTO gtest1v VALUES (5, DEFAULT)
INSERT INTO gtest1v VALUES (6, DEFAULT), (7, 77)
INSERT INTO gtest1v VALUES (6, DEFAULT), (7, DEFAULT)
WITH foo AS (SELECT * FROM gtest1) SELECT * FROM foo
INSERT INTO gtest_normal (a) VALUES (1)
SELECT * FROM gtest_normal
INSERT INTO gtestc values(42)
INSERT INTO gtest3 (a) VALUES (1), (2), (3), (NULL)
INSERT INTO gtest3a (a) VALUES ('a'), ('b'), ('c'), (NULL)
INSERT INTO gtest1 (a) VALUES (1), (2)
INSERT INTO gtest_varlena (a) VALUES(NULL)
INSERT INTO gtest4 VALUES (1), (6)
SELECT * FROM gtest_tableoid
INSERT INTO gtest11s VALUES (1, 10), (2, 20)
INSERT INTO gtest20b (a) VALUES (10)
INSERT INTO gtest22b VALUES (2)
INSERT INTO gtest23a VALUES (1, 11), (2, 22), (3, 33)
INSERT INTO gtest23q VALUES (1, 2)
INSERT INTO gtest24nn (a) VALUES (NULL)
SELECT * FROM gtest_parent
UPDATE gtest_parent SET f1 = f1 + 60, f2 = f2 + 1
INSERT INTO gtest29 (a, b) VALUES (6, 66)
UPDATE gtest26 SET a = a * -2
INSERT INTO gtest_rule (a) VALUES (1)
UPDATE gtest_rule SET a = (SELECT max(b) FROM gtest_rule)
SELECT * FROM gtest_rule
SELECT (@@ f1) AS center FROM BOX_TBL
SELECT (@@ f1) AS center FROM CIRCLE_TBL
SELECT p1.f1 FROM POINT_TBL p1 WHERE ishorizontal(p1.f1, point '(0,0)')
SELECT p1.f1 FROM POINT_TBL p1 WHERE isvertical(p1.f1, point '(5.1,34.5)')
SELECT p1.f1, p2.f1, slope(p1.f1, p2.f1) FROM POINT_TBL p1, POINT_TBL p2
SELECT p1.f1, p2.f1, p1.f1 - p2.f1 FROM POINT_TBL p1, POINT_TBL p2
SELECT p1.f1, p2.f1, p1.f1 * p2.f1 FROM POINT_TBL p1, POINT_TBL p2 WHERE p1.f1[0] < 1
SELECT p1.f1, p2.f1, p1.f1 / p2.f1 FROM POINT_TBL p1, POINT_TBL p2 WHERE p2.f1[0] > 1000
SELECT p.f1, l.s, p.f1 <-> l.s AS dist_pl, l.s <-> p.f1 AS dist_lp FROM POINT_TBL p, LINE_TBL l
SELECT p.f1, b.f1, p.f1 <-> b.f1 AS dist_pb, b.f1 <-> p.f1 AS dist_bp FROM POINT_TBL p, BOX_TBL b
SELECT p.f1, p1.f1, p.f1 <-> p1.f1 AS dist_ppoly, p1.f1 <-> p.f1 AS dist_polyp FROM POINT_TBL p, POLYGON_TBL p1
SELECT p.f1, l.s, p.f1 ## l.s FROM POINT_TBL p, LINE_TBL l
SELECT p.f1, b.f1, p.f1 ## b.f1 FROM POINT_TBL p, BOX_TBL b
SELECT p.f1, l.s FROM POINT_TBL p, LSEG_TBL l WHERE p.f1 <@ l.s
SELECT s FROM LINE_TBL WHERE ?| s
SELECT l1.s, l2.s FROM LINE_TBL l1, LINE_TBL l2 WHERE l1.s = l2.s
SELECT l1.s, l2.s FROM LINE_TBL l1, LINE_TBL l2 WHERE l1.s ?-| l2.s
SELECT l1.s, l2.s FROM LINE_TBL l1, LINE_TBL l2 WHERE l1.s ?# l2.s
SELECT l1.s, l2.s, l1.s # l2.s FROM LINE_TBL l1, LINE_TBL l2
SELECT p.f1, l.s, l.s # p.f1 AS intersection FROM LSEG_TBL l, POINT_TBL p
SELECT s FROM LSEG_TBL WHERE ?| s
SELECT s, @@ s FROM LSEG_TBL
SELECT l1.s, l2.s FROM LSEG_TBL l1, LSEG_TBL l2 WHERE l1.s < l2.s
SELECT l1.s, l2.s FROM LSEG_TBL l1, LSEG_TBL l2 WHERE l1.s = l2.s
SELECT l1.s, l2.s FROM LSEG_TBL l1, LSEG_TBL l2 WHERE l1.s > l2.s
SELECT l1.s, l2.s FROM LSEG_TBL l1, LSEG_TBL l2 WHERE l1.s ?|| l2.s
SELECT l.s, l1.s, l.s <-> l1.s AS dist_sl, l1.s <-> l.s AS dist_ls FROM LSEG_TBL l, LINE_TBL l1
SELECT l.s, b.f1, l.s <-> b.f1 AS dist_sb, b.f1 <-> l.s AS dist_bs FROM LSEG_TBL l, BOX_TBL b
SELECT l.s, b.f1 FROM LSEG_TBL l, BOX_TBL b WHERE l.s ?# b.f1
SELECT l1.s, l2.s, l1.s ## l2.s FROM LSEG_TBL l1, LSEG_TBL l2
SELECT l.s, l1.s FROM LSEG_TBL l, LINE_TBL l1 WHERE l.s <@ l1.s
SELECT box(f1) AS box FROM CIRCLE_TBL
SELECT b.f1 - p.f1 AS translation FROM BOX_TBL b, POINT_TBL p
SELECT b.f1, p.f1, b.f1 * p.f1 FROM BOX_TBL b, POINT_TBL p WHERE p.f1[0] > 1000
SELECT f1::box FROM POINT_TBL
SELECT b1.f1, b2.f1, b1.f1 <^ b2.f1 FROM BOX_TBL b1, BOX_TBL b2
SELECT b1.f1, b2.f1, b1.f1 # b2.f1 FROM BOX_TBL b1, BOX_TBL b2
SELECT b1.f1, b2.f1, b1.f1 <-> b2.f1 FROM BOX_TBL b1, BOX_TBL b2
SELECT f1, area(f1) FROM PATH_TBL
SELECT f1, f1::polygon FROM PATH_TBL WHERE isclosed(f1)
SELECT p1.f1, p2.f1 FROM PATH_TBL p1, PATH_TBL p2 WHERE p1.f1 < p2.f1
SELECT p1.f1, p2.f1 FROM PATH_TBL p1, PATH_TBL p2 WHERE p1.f1 = p2.f1
SELECT p1.f1, p2.f1 FROM PATH_TBL p1, PATH_TBL p2 WHERE p1.f1 > p2.f1
SELECT p.f1, p1.f1, p.f1 + p1.f1 FROM PATH_TBL p, POINT_TBL p1
SELECT p.f1, p1.f1, p.f1 * p1.f1 FROM PATH_TBL p, POINT_TBL p1
SELECT p.f1, p1.f1, p.f1 / p1.f1 FROM PATH_TBL p, POINT_TBL p1 WHERE p1.f1 ~= '(0,0)'::point
SELECT p.f1, poly.f1, poly.f1 @> p.f1 AS contains FROM POLYGON_TBL poly, POINT_TBL p
SELECT npoints(f1) AS npoints, f1 AS polygon FROM POLYGON_TBL
SELECT polygon(f1) FROM PATH_TBL WHERE isclosed(f1)
SELECT f1, f1::box FROM POLYGON_TBL
SELECT p1.f1, p2.f1 FROM POLYGON_TBL p1, POLYGON_TBL p2 WHERE p1.f1 ~= p2.f1
SELECT p1.f1, p2.f1 FROM POLYGON_TBL p1, POLYGON_TBL p2 WHERE p1.f1 @> p2.f1
SELECT p1.f1, p2.f1 FROM POLYGON_TBL p1, POLYGON_TBL p2 WHERE p1.f1 << p2.f1
SELECT p1.f1, p2.f1 FROM POLYGON_TBL p1, POLYGON_TBL p2 WHERE p1.f1 >> p2.f1
SELECT p1.f1, p2.f1 FROM POLYGON_TBL p1, POLYGON_TBL p2 WHERE p1.f1 <<| p2.f1
SELECT p1.f1, p2.f1 FROM POLYGON_TBL p1, POLYGON_TBL p2 WHERE p1.f1 |>> p2.f1
SELECT p1.f1, p2.f1, p1.f1 <-> p2.f1 FROM POLYGON_TBL p1, POLYGON_TBL p2
SELECT circle(f1) FROM BOX_TBL
SELECT c1.f1 AS circle, p1.f1 AS point, (p1.f1 <-> c1.f1) AS distance FROM CIRCLE_TBL c1, POINT_TBL p1 WHERE (p1.f1 <-> c1.f1) > 0 ORDER BY distance, area(c1.f1), p1.f1[0]
SELECT f1, polygon(8, f1) FROM CIRCLE_TBL WHERE f1 >= '<(0,0),1>'
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 ~= c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 &< c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 >> c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 <@ c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 <<| c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 &<| c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 = c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 < c2.f1
SELECT c1.f1, c2.f1 FROM CIRCLE_TBL c1, CIRCLE_TBL c2 WHERE c1.f1 <= c2.f1
SELECT c.f1, p.f1, c.f1 + p.f1 FROM CIRCLE_TBL c, POINT_TBL p
SELECT c.f1, p.f1, c.f1 * p.f1 FROM CIRCLE_TBL c, POINT_TBL p
SELECT c.f1, p.f1, c.f1 / p.f1 FROM CIRCLE_TBL c, POINT_TBL p WHERE p.f1[0] > 1000
SELECT c.f1, p.f1, c.f1 <-> p.f1 FROM CIRCLE_TBL c, POLYGON_TBL p
SELECT * FROM polygon_tbl WHERE f1 @> '((1,1),(2,2),(2,1))'::polygon ORDER BY (poly_center(f1))[0]
insert into gin_test_tbl select array[1, 2, g] from generate_series(1, 20000) g
select count(*) from gin_test_tbl where i @> array[1, 999]
insert into t_gin_test_tbl values (null,    null), ('{}',    null), ('{1}',   null), ('{1,2}', null), (null,    '{}'), (null,    '{10}'), ('{1,2}', '{10}'), ('{2}',   '{10}'), ('{1,3}', '{}'), ('{1,1}', '{10}')
select * from t_gin_test_tbl where array[0] <@ i and '{}'::int4[] <@ j
insert into t_gin_test_tbl select array[1, g, g/10], array[2, g, g/10] from generate_series(1, 20000) g
select count(*) from t_gin_test_tbl where j @> '{}'::int[]
insert into t_gin_test_tbl values (null,    null), ('{}',    null), ('{1}',   '{2,3}')
insert into gist_point_tbl (id, p) select g+100000, point(g*10+1, g*10+1) from generate_series(1, 10000) g
delete from gist_point_tbl where id > 5000
select p from gist_tbl where p <@ box(point(0,0), point(0.5, 0.5))
select p from gist_tbl where p <@ box(point(0,0), point(0.5, 0.5)) order by point(0.101, 0.101) <-> p
select b from gist_tbl where b <@ box(point(5,5), point(6,6))
select b from gist_tbl where b <@ box(point(5,5), point(6,6)) order by point(5.2, 5.91) <-> b
select circle(p,1) from gist_tbl where p <@ box(point(5, 5), point(5.3, 5.3))
select count(*) from gist_tbl
insert into gist_tbl select box(point(0.05*i, 0.05*i)) from generate_series(0,10) as i
select a, b, sum(v), count(*) from gstest_empty group by grouping sets ((a,b),a)
select a, b, sum(v), count(*) from gstest_empty group by grouping sets ((a,b),(),(),())
select t1.a, t2.b, sum(t1.v), count(*) from gstest_empty t1, gstest_empty t2 group by grouping sets ((t1.a,t2.b),())
select ten, grouping(ten) from onek group by grouping sets(ten) having grouping(ten) >= 0 order by 2,1
select ten, grouping(ten) from onek group by rollup(ten) having grouping(ten) > 0 order by 2,1
select ten, grouping(ten) from onek group by (ten) having grouping(ten) >= 0 order by 2,1
select * from (values (1),(2)) v(a) left join lateral (select v.a, four, ten, count(*) from onek group by cube(four,ten)) s on true order by v.a,four,ten
select sum(ten) from onek group by two, rollup(four::text) order by 1
select * from (values (1),(2)) v(a) left join lateral (select v.a, four, ten, count(*) from onek group by grouping sets(four,ten)) s on true order by v.a,four,ten
update pg_class set reltuples = 10 where relname='bug_16784'
SELECT relname FROM pg_class WHERE relname = 'reset_test'
SELECT name FROM pg_cursors
SELECT name FROM tab_settings_flags WHERE category ~ '^Query Tuning' AND NOT explain ORDER BY 1
SELECT v as value, hash_aclitem(v)::bit(32) as standard, hash_aclitem_extended(v, 0)::bit(32) as extended0, hash_aclitem_extended(v, 1)::bit(32) as extended1 FROM   (SELECT DISTINCT(relacl[1]) FROM pg_class LIMIT 10) x(v) WHERE  hash_aclitem(v)::bit(32) != hash_aclitem_extended(v, 0)::bit(32) OR hash_aclitem(v)::bit(32) = hash_aclitem_extended(v, 1)::bit(32)
SELECT * FROM hash_txt_heap WHERE hash_txt_heap.random = '1351610853'::text
UPDATE hash_i4_heap SET seqno = 20000 WHERE hash_i4_heap.random = 1492795354
SELECT h.seqno AS i6543, h.random AS c0_to_f FROM hash_name_heap h WHERE h.random = '0123456789abcdef'::name
SELECT h.seqno AS emptyset FROM hash_name_heap h WHERE h.random = '76652222'::name
SELECT h.seqno AS i4002, h.random AS c0_to_p FROM hash_txt_heap h WHERE h.random = '0123456789abcdefghijklmnop'::text
SELECT h.seqno AS t20000 FROM hash_txt_heap h WHERE h.random = '959363399'::text
UPDATE hash_f8_heap SET seqno = 20000 WHERE hash_f8_heap.random = '488912369'::float8
DELETE FROM hash_split_heap WHERE keycol = 1
INSERT INTO hash_temp_heap VALUES (1,1)
SELECT d1 + interval '1 year' AS one_year FROM TIMESTAMP_TBL
SELECT d1 + interval '1 year' AS one_year FROM TIMESTAMPTZ_TBL
SELECT t.d1 AS t, i.f1 AS i, t.d1 + i.f1 AS "add", t.d1 - i.f1 AS "subtract" FROM TIMESTAMP_TBL t, INTERVAL_TBL i WHERE t.d1 BETWEEN '1990-01-01' AND '2001-01-01' AND i.f1 BETWEEN '00:00' AND '23:00' ORDER BY 1,2
SELECT t.f1 AS t, i.f1 AS i, t.f1 + i.f1 AS "add", t.f1 - i.f1 AS "subtract" FROM TIMETZ_TBL t, INTERVAL_TBL i ORDER BY 1,2
SELECT f1 AS "timestamp" FROM TEMP_TIMESTAMP ORDER BY "timestamp"
SELECT d.f1 AS "timestamp", t.f1 AS "interval", d.f1 - t.f1 AS minus FROM TEMP_TIMESTAMP d, INTERVAL_TBL t WHERE isfinite(d.f1) ORDER BY minus, "timestamp", "interval"
SELECT d1.f1 AS timestamp1, d2.f1 AS timestamp2, d1.f1 - d2.f1 AS difference FROM TEMP_TIMESTAMP d1, TEMP_TIMESTAMP d2 ORDER BY timestamp1, timestamp2, difference
select count(*) from date_tbl where f1 between '1997-01-01' and '1998-01-01'
select count(*) from date_tbl where f1 between symmetric '1997-01-01' and '1998-01-01'
SELECT d1 AS us_postgres FROM TIMESTAMP_TBL
SELECT d1 AS us_sql FROM TIMESTAMP_TBL
SELECT count(*) as one FROM TIMESTAMP_TBL WHERE d1 = 'Jun 13 1957'
SELECT d1 AS european_iso FROM TIMESTAMP_TBL
SELECT attrelid, attname, attidentity FROM pg_attribute WHERE attidentity NOT IN ('', 'a', 'd')
SELECT sequence_name FROM information_schema.sequences WHERE sequence_name LIKE 'itest%'
INSERT INTO itest5 VALUES (1, 'a')
INSERT INTO itest5 VALUES (2, 'b'), (3, 'c')
INSERT INTO itest5 VALUES (2, 'b'), (DEFAULT, 'c')
INSERT INTO itest5 OVERRIDING SYSTEM VALUE VALUES (-1, 'aa')
INSERT INTO itest5 OVERRIDING SYSTEM VALUE VALUES (DEFAULT, 'dd'), (-4, 'ee')
INSERT INTO itest5 OVERRIDING SYSTEM VALUE VALUES (DEFAULT, 'hh'), (DEFAULT, 'ii')
INSERT INTO itest5 OVERRIDING USER VALUE VALUES (-2, 'bbb'), (-3, 'ccc')
INSERT INTO itest5 OVERRIDING USER VALUE VALUES (-5, 'fff'), (DEFAULT, 'ggg')
INSERT INTO itest1 OVERRIDING SYSTEM VALUE VALUES (20, 'xyz')
UPDATE itest1 SET a = 101 WHERE a = 1
INSERT INTO itestv10 DEFAULT VALUES
INSERT INTO itestv10 OVERRIDING USER VALUE VALUES (11, 'xyz')
INSERT INTO itest13 VALUES (1), (2), (3)
SELECT table_name, column_name, is_identity, identity_generation FROM information_schema.columns WHERE table_name = 'itest6' ORDER BY 1, 2
SELECT table_name, column_name, is_nullable, is_identity, identity_generation FROM information_schema.columns WHERE table_name LIKE 'itest7%' ORDER BY 1, 2
INSERT INTO itest14 (id) VALUES (DEFAULT)
MERGE INTO itest15 t USING (SELECT 20 AS s_a, 'inserted by merge' AS s_b) s ON t.a = s.s_a WHEN NOT MATCHED THEN INSERT (a, b) OVERRIDING USER VALUE VALUES (s.s_a, s.s_b)
SELECT relname, relpersistence FROM pg_class WHERE relname ~ '^identity_dump_' ORDER BY 1;
select * from (select * from t order by a) s order by a, b limit 31
select jsonb_pretty(explain_analyze_inc_sort_nodes_without_memory('select * from (select * from t order by a) s order by a, b limit 55'))
insert into t(a, b) select (case when i < 5 then i else 9 end), i from generate_series(1, 1000) n(i)
insert into t(a, b) select i / 10, i from generate_series(1, 1000) n(i)
insert into t select mod(i,10),mod(i,10),i from generate_series(1,10000) s(i)
SELECT pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON i.indexrelid = c.oid WHERE i.indrelid = 'tbl_include_reg'::regclass ORDER BY c.relname
INSERT INTO tbl_include_unique2 SELECT 1, 2, 3*x, box('4,4,4,4') FROM generate_series(1,10) AS x
INSERT INTO tbl_include_box SELECT 1, 2*x, 3*x, box('4,4,4,4') FROM generate_series(1,10) AS x
SELECT indexrelid::regclass, indnatts, indnkeyatts, indisunique, indisprimary, indkey, indclass FROM pg_index WHERE indrelid = 'tbl'::regclass::oid
INSERT INTO tbl SELECT 1, 2, 3*x, box('4,4,4,4') FROM generate_series(1,10) AS x
INSERT INTO tbl SELECT x, 2*x, NULL, NULL FROM generate_series(1,300) AS x
select * from tbl where (c1,c2,c3) < (262,1,1) limit 1
INSERT INTO tbl SELECT x, 2*x, 3*x, box('4,4,4,4') FROM generate_series(1,1000) AS x
UPDATE tbl SET c3 = 1
INSERT INTO nametbl VALUES(1, 'two', 3.0)
INSERT INTO tbl_gist SELECT x, 2*x, 3*x, box(point(x,x+1),point(2*x,2*x+1)) FROM generate_series(1,8000) AS x
UPDATE tbl_gist SET c1 = 100 WHERE c1 = 2
INSERT INTO tbl_gist SELECT x, 2*x, 3*x, box(point(3*x,2*x),point(3*x+1,2*x+1)) FROM generate_series(1,10) AS x
select indexdef from pg_indexes where indexname like 'idxpart_idx%'
SELECT col2 FROM idxpart_two fk LEFT OUTER JOIN idxpart pk ON (col1 = col2)
select relname, relpartbound from pg_class where relname in ('idxpart_c', 'idxpart1_c') order by relname
select indexrelid::regclass, indrelid::regclass from pg_index where indexrelid::regclass::text like 'idxpart%'
select relname, relkind, inhparent::regclass from pg_class left join pg_index ix on (indexrelid = oid) left join pg_inherits on (ix.indexrelid = inhrelid) where relname like 'idxpart%' order by relname
insert into idxpart11 values (1, 0)
select relname as child, inhparent::regclass as parent, pg_get_indexdef as childdef from pg_class join pg_inherits on inhrelid = oid, lateral pg_get_indexdef(pg_class.oid) where relkind in ('i', 'I') and relname like 'idxpart%' order by relname
select c.relname, pg_get_indexdef(indexrelid) from pg_class c join pg_index i on c.oid = i.indexrelid where indrelid::regclass::text like 'idxpart%' order by indexrelid::regclass::text collate "C"
select conname, contype, conrelid::regclass, conindid::regclass, conkey from pg_constraint where conrelid::regclass::text like 'idxpart%' order by conname
insert into idxpart2 (c, a, b) values (42, 572814, 'inserted first')
insert into idxpart select 2^g, format('two to power of %s', g) from generate_series(15, 17) g
insert into idxpart (b, a) values ('one', 142857), ('two', 285714)
select tableoid::regclass, * from idxpart order by a
select indexrelid::regclass, indisvalid, indrelid::regclass, inhparent::regclass from pg_index idx left join pg_inherits inh on (idx.indexrelid = inh.inhrelid) where indexrelid::regclass::text like 'parted_inval%' order by indexrelid::regclass::text collate "C"
select indexrelid::regclass, indisvalid, indisreplident, indrelid::regclass, inhparent::regclass from pg_index idx left join pg_inherits inh on (idx.indexrelid = inh.inhrelid) where indexrelid::regclass::text like 'parted_replica%' order by indexrelid::regclass::text collate "C"
INSERT INTO indtoasttest(descr, f1, f2) VALUES('one-compressed,one-null', NULL, repeat('1234567890',1000))
UPDATE indtoasttest SET cnt = cnt +1 RETURNING substring(indtoasttest::text, 1, 200)
UPDATE indtoasttest SET cnt = cnt +1, f1 = f1||'' RETURNING substring(indtoasttest::text, 1, 200)
SELECT substring(indtoasttest::text, 1, 200) FROM indtoasttest
INSERT INTO INET_TBL (c, i) VALUES ('192.168.1', '192.168.1.226/24')
SELECT c AS cidr, i AS inet FROM INET_TBL
SELECT c AS cidr, abbrev(c) FROM INET_TBL
SELECT c AS cidr, network(c) AS "network(cidr)", i AS inet, network(i) AS "network(inet)" FROM INET_TBL
SELECT c AS cidr, masklen(c) AS "masklen(cidr)", i AS inet, masklen(i) AS "masklen(inet)" FROM INET_TBL WHERE masklen(c) <= 8
SELECT i, c, i < c AS lt, i <= c AS le, i = c AS eq, i >= c AS ge, i > c AS gt, i <> c AS ne, i << c AS sb, i <<= c AS sbe, i >> c AS sup, i >>= c AS spe, i && c AS ovr FROM INET_TBL
SELECT max(c) AS max, min(c) AS min FROM INET_TBL
SELECT * FROM inet_tbl WHERE i<<'192.168.1.0/24'::cidr
SELECT * FROM inet_tbl WHERE '192.168.1.0/24'::cidr >>= i
SELECT * FROM inet_tbl WHERE i << '192.168.1.0/24'::cidr ORDER BY i
SELECT * FROM inet_tbl WHERE i && '192.168.1.0/24'::cidr ORDER BY i
SELECT * FROM inet_tbl WHERE i >> '192.168.1.0/24'::cidr ORDER BY i
SELECT * FROM inet_tbl WHERE i <= '192.168.1.0/24'::cidr ORDER BY i
SELECT * FROM inet_tbl WHERE i >= '192.168.1.0/24'::cidr ORDER BY i
SELECT * FROM inet_tbl WHERE i <> '192.168.1.0/24'::cidr ORDER BY i
SELECT i, ~i AS "~i" FROM inet_tbl
SELECT i, c, i | c AS "or" FROM inet_tbl
SELECT i, i - 500 AS "i-500" FROM inet_tbl
SELECT inet_merge(c, i) FROM INET_TBL
INSERT INTO a(aa) VALUES('aaa')
INSERT INTO c(aa) VALUES('ccc')
SELECT relname, a.* FROM a, pg_class where a.tableoid = pg_class.oid
SELECT relname, c.* FROM c, pg_class where c.tableoid = pg_class.oid
SELECT relname, a.* FROM ONLY a, pg_class where a.tableoid = pg_class.oid
SELECT relname, c.* FROM ONLY c, pg_class where c.tableoid = pg_class.oid
UPDATE a SET aa='zzzz' WHERE aa='aaaa'
UPDATE b SET aa='zzz' WHERE aa='aaa'
UPDATE a SET aa='zzzzzz' WHERE aa LIKE 'aaa%'
UPDATE a SET aa='new'
INSERT INTO z VALUES (NULL, 'text')
update some_tab set f3 = 11 where f1 = 12 and f2 = 13
update some_tab set a = a + 1 where false
insert into foo2 values(2,2,2)
insert into bar2 values(1,1,1)
select tableoid::regclass::text as relname, bar.* from bar order by 1,2
insert into some_tab values (0)
insert into parted_tab values (1, 'a'), (2, 'a'), (3, 'a')
select tableoid::regclass::text as relname, parted_tab.* from parted_tab order by 1,2
insert into mlparted_tab values (1, 'a'), (2, 'a'), (2, 'b'), (3, 'a')
select tableoid::regclass::text as relname, mlparted_tab.* from mlparted_tab order by 1,2
select pc.relname, pgc.conname, pgc.contype, pgc.conislocal, pgc.coninhcount, pgc.connoinherit from pg_class as pc inner join pg_constraint as pgc on (pgc.conrelid = pc.oid) where pc.relname = 'p1' order by 1,2
select derived::base from derived
select pc.relname, pgc.conname, pgc.contype, pgc.conislocal, pgc.coninhcount, pg_get_expr(pgc.conbin, pc.oid) as consrc from pg_class as pc inner join pg_constraint as pgc on (pgc.conrelid = pc.oid) where pc.relname in ('ac', 'bc') order by 1,2
insert into bc (aa) values (NULL)
insert into c1 values(1,-1,2)
WITH RECURSIVE r AS ( SELECT 'inht1'::regclass AS inhrelid UNION ALL SELECT c.inhrelid FROM pg_inherits c, r WHERE r.inhrelid = c.inhparent ) SELECT a.attrelid::regclass, a.attname, a.attinhcount, e.expected FROM (SELECT inhrelid, count(*) AS expected FROM pg_inherits WHERE inhparent IN (SELECT inhrelid FROM r) GROUP BY inhrelid) e JOIN pg_attribute a ON e.inhrelid = a.attrelid WHERE NOT attislocal ORDER BY a.attrelid::regclass::name, a.attnum
insert into inh_fk_2 values (11, 1), (22, 2), (33, 3)
delete from inh_fk_1 where a = 1
insert into invalid_check_con_child values(0)
insert into matest1 (name) values ('Test 1')
insert into inhcld select x::text, x from generate_series(6,10) x
select * from inhpar
select * from inhpar order by f1
insert into cnullchild values(null)
select * from cnullparent where f1 = 2
insert into inh_temp_parent values (2)
insert into inh_temp_child_2 values (4)
select tableoid::regclass, a1 from inh_temp_parent
select min(a), max(a) from parted_minmax where b = '12345'
INSERT INTO errtst_parent(partid, shdata, data) VALUES ( '0', '1', '5')
INSERT INTO errtst_parent(partid, shdata, data) VALUES ( '0', '1', NULL)
UPDATE errtst_parent SET data = data + 1 WHERE partid = 0
UPDATE errtst_child_plaindef SET partid = 11 WHERE partid = 10
UPDATE errtst_child_fastdef SET partid = partid + 10 WHERE partid = 0
UPDATE errtst_child_reorder SET partid = partid + 10 WHERE partid = 20
SELECT count(*) > 0 FROM pg_init_privs
insert into inserttest (col2, col3) values (3, DEFAULT)
insert into inserttest values (DEFAULT, 5, 'test')
select * from inserttest
insert into inserttest (col1, col2, col3) values (1, 2)
insert into inserttest (col1) values (DEFAULT, DEFAULT)
insert into inserttest values(30, 50, repeat('x', 10000))
INSERT INTO large_tuple_test (select 1, NULL)
insert into inserttest (f2[1], f2[2]) values (1,2)
insert into inserttest (f2[1], f2[2]) select 7,8
insert into inserttest (f3.if1, f3.if2) values (1,array['foo'])
insert into inserttest (f3.if1, f3.if2) select 3, '{baz,quux}'
insert into inserttest (f3.if2[1], f3.if2[2]) values ('foo', 'bar')
insert into inserttest (f3.if2[1], f3.if2[2]) select 'bear', 'beer'
insert into inserttest (f4[1].if2[1], f4[1].if2[2]) values ('foo', 'bar'), ('baz', 'quux')
insert into inserttesta (f2[1], f2[2]) values (1,2)
insert into inserttesta (f2[1], f2[2]) select 7,8
insert into inserttestb (f3.if1, f3.if2) values (1,array['foo'])
insert into inserttestb (f3.if1, f3.if2) select 3, '{baz,quux}'
insert into inserttestb (f3.if1, f3.if2) values (1,array[null])
insert into inserttestb (f3.if2[1], f3.if2[2]) values ('foo', 'bar'), ('baz', 'quux')
insert into inserttestb (f3, f4[1].if2[1], f4[1].if2[2]) values (row(1,'{x}'), 'foo', 'bar')
insert into inserttestb (f3, f4[1].if2[1], f4[1].if2[2]) select row(1,'{x}')::insert_test_domain, 'bear', 'beer'
select * from inserttestb
insert into inserttesta (f1[1], f1[2]) values (1, 2)
insert into inserttestb (f1.if1, f1.if2) values (1, '{foo}')
insert into part1 values (null)
insert into part_aa_bb values ('cc', 1)
insert into part_cc_dd values ('cC', 1)
insert into part_default values ('aa', 2)
insert into part_ee_ff1 values ('EE', 11)
insert into list_parted values ('ab', 21)
insert into range_parted values ('a')
insert into range_parted values (null, null)
insert into range_parted values (null, 19)
insert into list_parted values (null, 1)
insert into part_ee_ff values ('EE', 0)
insert into list_parted select 'Ff', s.a from generate_series(1, 29) s(a)
select tableoid::regclass::text, a, min(b) as min_b, max(b) as max_b from list_parted group by 1, 2 order by 1
insert into hpart0 values(12),(16)
select tableoid::regclass as part, a, a%4 as "remainder = a % 4" from hash_parted order by part
insert into part_default values (1)
select tableoid::regclass, a from list_parted
select tableoid::regclass, * from mlparted
insert into mlparted1 (a, b) values (2, 3)
with ins (a, b, c) as (insert into mlparted (b, a) select s.a, 1 from generate_series(2, 39) s(a) returning tableoid::regclass, *) select a, b, min(c), max(c) from ins group by a, b order by 1
insert into mlparted5 (a, b, c) values (1, 40, 'a')
select tableoid::regclass, * from mlparted_def
select tableoid::regclass, * from mlparted order by a, b, c, d
insert into mcrparted values (null, null, null)
insert into mcrparted0 values (0, 1, 1)
insert into mcrparted1 values (10, 5, -1)
insert into brtrigpartcon values (1, 'hi there')
with result as (insert into brtrigpartcon values (1, 'hi there') returning 1) insert into inserttest3 (f3) select * from result
insert into mcrparted values ('aaa', 0), ('b', 0), ('bz', 10), ('c', -10), ('comm', -10), ('common', -10), ('common', 0), ('common', 10), ('commons', 0), ('d', -10), ('e', 0)
insert into returningwrtest values (1) returning returningwrtest
insert into insertconflicttest values (1, 'Apple') on conflict do update set fruit = excluded.fruit
insert into insertconflicttest values (2, 'Orange') on conflict (key, key, key) do update set fruit = excluded.fruit
insert into insertconflicttest values (1, 'Apple') on conflict (key) do update set fruit = excluded.fruit RETURNING excluded.fruit
insert into insertconflicttest values (1, 'Apple') on conflict (key) do update set fruit = excluded.fruitt
insert into insertconflicttest values (4, 'Mango') on conflict (fruit, key) do update set fruit = excluded.fruit
insert into insertconflicttest values (6, 'Passionfruit') on conflict (lower(fruit)) do update set fruit = excluded.fruit
insert into insertconflicttest AS ict values (6, 'Passionfruit') on conflict (key) do update set fruit = ict.fruit
insert into insertconflicttest values (11, 'Cherry') on conflict (key, lower(fruit)) do update set fruit = excluded.fruit
insert into insertconflicttest values (21, 'Pomegranate') on conflict (lower(fruit), lower(fruit)) do update set fruit = excluded.fruit
insert into insertconflicttest values (27, 'Prune') on conflict (key, upper(fruit)) do update set fruit = excluded.fruit
insert into insertconflicttest as t values (23, 'Blackberry') on conflict (key) where fruit like '%berry' and t.fruit = 'inconsequential' do nothing
insert into insertconflicttest values (23, 'Blackberry') on conflict (key) where fruit like '%berry' or fruit = 'consequential' do nothing
insert into insertconflicttest as i values (23, 'Jackfruit') on conflict (key) do update set fruit = excluded.fruit where i.* != excluded.* returning *
insert into insertconflicttest as i values (23, 'Avocado') on conflict (key) do update set fruit = excluded.*::text returning *
insert into syscolconflicttest values (1) on conflict (key) do update set data = excluded.ctid::text
insert into insertconflict values (1, 2) on conflict (b) where coalesce(a, 1) > 0 do nothing
select * from insertconflict
insert into cities values ('Mariposa', 1200, 1953)
select * from capitals
insert into capitals values ('Sacramento', 4664.E+5, 30, 'CA') on conflict (name) do update set population = excluded.population
insert into cities values ('Las Vegas', 5.83E+5, 2001) on conflict (name) do update set population = excluded.population, altitude = excluded.altitude
insert into capitals values ('Las Vegas', 5.83E+5, 2222, 'NV') on conflict (name) do update set population = excluded.population
insert into excluded values(1, '2') on conflict (key) do update set data = excluded.data RETURNING *
insert into excluded AS target values(1, '2') on conflict (key) do update set data = target.data RETURNING *
insert into dropcol(key, drop1, keep1, drop2, keep2) values(1, 1, '1', '1', 1)
insert into dropcol(key, drop1, keep1, drop2, keep2) values(1, 3, '3', '3', 3) on conflict(key) do update set drop1 = dropcol.drop1, keep1 = dropcol.keep1, drop2 = dropcol.drop2, keep2 = dropcol.keep2 returning *
insert into dropcol(key, keep1, keep2) values(1, '5', 5) on conflict(key) do update set keep1 = dropcol.keep1, keep2 = dropcol.keep2 returning *
insert into twoconstraints values(2, '((0,0),(1,2))') on conflict on constraint twoconstraints_f1_key do nothing
select * from twoconstraints
insert into selfconflict values (4,1), (4,2) on conflict(f1) do update set f2 = 0
insert into parted_conflict_test values (1, 'a') on conflict do nothing
insert into parted_conflict_test values (1, 'a') on conflict (a) do update set b = excluded.b
insert into parted_conflict_test_1 values (1, 'b') on conflict (a) do update set b = excluded.b
insert into parted_conflict_test_1 values (2, 'b') on conflict (b) do update set a = excluded.a
insert into parted_conflict_test (a, b) values (4, 'a') on conflict (a) do update set b = excluded.b
insert into parted_conflict_test (a, b) values (1, 'a'), (2, 'a'), (4, 'a') on conflict (a) do update set b = excluded.b where excluded.b = 'b'
insert into parted_conflict_1 values (40, 'cuarenta') on conflict (a) do update set b = excluded.b
insert into parted_conflict values (50, 'cincuenta', 2) on conflict (a, b) do update set (a, b, c) = row(excluded.*) where parted_conflict = (50, text 'cincuenta', 1) and excluded = (50, text 'cincuenta', 2)
insert into parted_conflict values(0, 'cero', 1) on conflict (a,b) do update set c = parted_conflict.c + 1
INSERT INTO INT8_TBL(q1) VALUES ('      ')
INSERT INTO INTERVAL_TBL (f1) VALUES ('@ 1 minute')
SELECT * FROM INTERVAL_TBL WHERE INTERVAL_TBL.f1 <> interval '@ 10 days'
SELECT * FROM INTERVAL_TBL WHERE INTERVAL_TBL.f1 < interval '@ 1 day'
SELECT * FROM INTERVAL_TBL WHERE INTERVAL_TBL.f1 >= interval '@ 1 month'
SELECT r1.*, r2.* FROM INTERVAL_TBL r1, INTERVAL_TBL r2 WHERE r1.f1 > r2.f1 ORDER BY r1.f1, r2.f1
INSERT INTO INTERVAL_TBL_OF (f1) VALUES ('2147483648 days')
SELECT f1 FROM INTERVAL_TBL_OF r1 ORDER BY f1
SELECT span / 10 AS quotient FROM INTERVAL_MULDIV_TBL
SELECT f1, f1::INTERVAL DAY TO MINUTE AS "minutes", (f1 + INTERVAL '1 month')::INTERVAL MONTH::INTERVAL YEAR AS "years" FROM interval_tbl
SELECT EXTRACT(FORTNIGHT FROM INTERVAL '2 days')
SELECT EXTRACT(DECADE FROM INTERVAL '100 y')
SELECT f1, date_part('microsecond', f1) AS microsecond, date_part('millisecond', f1) AS millisecond, date_part('second', f1) AS second, date_part('epoch', f1) AS epoch FROM INTERVAL_TBL
INSERT INTO J1_TBL VALUES (1, 4, 'one')
INSERT INTO J1_TBL VALUES (NULL, NULL, 'null')
INSERT INTO J2_TBL VALUES (1, -1)
INSERT INTO J2_TBL VALUES (0, NULL)
INSERT INTO J2_TBL VALUES (NULL, 0)
INSERT INTO t1 VALUES ( 'bb', 11 )
insert into x values (3,null)
insert into y values (4,null)
select * from x left join y on (x1 = y1 and y2 is not null)
DELETE FROM t3 USING t1 table1 WHERE t3.x = table1.a
DELETE FROM t3 USING t3 t3_other WHERE t3.x = t3_other.x AND t3.y = t3_other.y
INSERT INTO tt1 VALUES (1, 11)
insert into tt3 select x, repeat('xyzzy', 100) from generate_series(1,10000) x
insert into tt5 values(1, 10)
insert into yy values (101, 1)
select yy.pkyy as yy_pkyy, yy.pkxx as yy_pkxx, yya.pkyy as yya_pkyy, xxa.pkxx as xxa_pkxx, xxb.pkxx as xxb_pkxx from yy left join (SELECT * FROM yy where pkyy = 101) as yya ON yy.pkyy = yya.pkyy left join xx xxa on yya.pkxx = xxa.pkxx left join xx xxb on coalesce (xxa.pkxx, 1) = xxb.pkxx
select * from a left join b on i = x and i = y and x = i
insert into b (a, num) values ('p', 1)
insert into c (name, a) values ('C', null)
insert into nt1 values (1,true,true)
insert into nt1 values (3,false,false)
insert into nt2 values (2,2,true,false)
insert into nt3 values (1,1,true)
select t1.unique2, t1.stringu1, t2.unique1, t2.stringu2 from tenk1 t1 inner join int4_tbl i1 left join (select v1.x2, v2.y1, 11 AS d1 from (select 1,0 from onerow) v1(x1,x2) left join (select 3,1 from onerow) v2(y1,y2) on v1.x1 = v2.y2) subq1 on (i1.f1 = subq1.x2) on (t1.unique2 = subq1.d1) left join tenk1 t2 on (subq1.y1 = t2.unique1) where t1.unique2 < 42 and t1.stringu1 > t2.stringu2
select t1.* from text_tbl t1 left join (select *, '***'::text as d1 from int8_tbl i8b1) b1 left join int8_tbl i8 left join (select *, null::int as d2 from int8_tbl i8b2) b2 on (i8.q1 = b2.q1) on (b2.d2 = b1.q2) on (t1.f1 = b1.d1) left join int4_tbl i4 on (i8.q2 = i4.f1)
select t1.* from text_tbl t1 left join (select *, '***'::text as d1 from int8_tbl i8b1) b1 left join int8_tbl i8 left join (select *, null::int as d2 from int8_tbl i8b2, int4_tbl i4b2 where q1 = f1) b2 on (i8.q1 = b2.q1) on (b2.d2 = b1.q2) on (t1.f1 = b1.d1) left join int4_tbl i4 on (i8.q2 = i4.f1)
select * from text_tbl t1 left join int8_tbl i8 on i8.q2 = 123, lateral (select i8.q1, t2.f1 from text_tbl t2 limit 1) as ss where t1.f1 = ss.f1
select 1 from text_tbl as tt1 inner join text_tbl as tt2 on (tt1.f1 = 'foo') left join text_tbl as tt3 on (tt3.f1 = 'foo') left join text_tbl as tt4 on (tt3.f1 = tt4.f1), lateral (select tt4.f1 as c0 from text_tbl as tt5 limit 1) as ss1 where tt1.f1 = ss1.c0
INSERT INTO a VALUES (0, 0), (1, NULL)
INSERT INTO c VALUES (0), (1)
insert into parent values (1, 10), (2, 20), (3, 30)
select p.* from parent p left join child c on (p.k = c.k)
select p.* from parent p left join child c on (p.k = c.k) where p.k = 1 and p.k = 2
SELECT * FROM b LEFT JOIN a ON (b.a_id = a.id) WHERE (a.id IS NULL OR a.id > 0)
insert into innertab values(123, 42)
insert into parttbl values (11), (12)
select atts.relid::regclass, s.* from pg_stats s join pg_attribute a on s.attname = a.attname and s.tablename = a.attrelid::regclass::text join (select unnest(indkey) attnum, indexrelid from pg_index i) atts on atts.attnum = a.attnum where schemaname != 'pg_catalog'
update xx1 set x2 = f1 from (select * from int4_tbl where f1 = x1) ss
update xx1 set x2 = f1 from lateral (select * from int4_tbl where f1 = x1) ss
delete from xx1 using (select * from int4_tbl where f1 = x1) ss
delete from xx1 using lateral (select * from int4_tbl where f1 = x1) ss
insert into join_ut1 values (101, 101, 'y'), (2, 2, 'z')
insert into fkest select x/10, x%10, x from generate_series(1,1000) x
insert into j1 values(1),(2),(3)
insert into j1 values(1,1),(1,2)
update pg_class set reltuples = 1000 where relname = 'bigger_than_it_looks'
update pg_class set reltuples = 2, relpages = pg_relation_size('extremely_skewed') / 8192 where relname = 'extremely_skewed'
select original > 1 as initially_multibatch, final > original as increased_batches from hash_join_batches( $$ select count(*) from simple r join simple s using (id)
select original > 1 as initially_multibatch, final > original as increased_batches from hash_join_batches( $$ select count(*) FROM simple r JOIN bigger_than_it_looks s USING (id)
select * from hash_join_batches( $$ select count(*) from simple r join extremely_skewed s using (id)
select count(*) from join_foo left join (select b1.id, b1.t from join_bar b1 join join_bar b2 using (id)) ss on join_foo.id < ss.id + 1 and join_foo.id > ss.id - 1
select  count(*) from simple r full outer join simple s using (id)
select length(max(s.t)) from wide left join (select id, coalesce(t, '') || '' as t from wide) s using (id)
INSERT INTO hjtest_1(a, b, id, c) VALUES ('text', 2, 1, false)
SELECT row_to_json(q,true) FROM rows q
SELECT json_agg(q ORDER BY x, y) FROM rows q
SELECT json_agg(q ORDER BY x NULLS FIRST, y) FROM rows q
SELECT test_json -> 'x' FROM test_json WHERE json_type = 'scalar'
SELECT test_json->>'field2' FROM test_json WHERE json_type = 'object'
SELECT test_json ->> 6 FROM test_json WHERE json_type = 'array'
select (test_json->'field3') is null as expect_false from test_json where json_type = 'object'
INSERT INTO jspoptest SELECT '{ "jsa": [1, "2", null, 4], "rec": {"a": "abc", "c": "01.02.2003", "x": 43.2}, "reca": [{"a": "abc", "b": 456}, null, {"c": "01.02.2003", "x": 43.2}] }'::json FROM generate_series(1, 3)
SELECT json_build_object( 'a', json_build_object('b',false,'c',99), 'd', json_build_object('e',array[9,8,7]::int[], 'f', (select row_to_json(r) from ( select relkind, oid::regclass as name from pg_class where relname = 'pg_class') r)))
SELECT json_build_object('turbines',json_object_agg(serial_num,json_build_object('name',name,'type',type))) FROM foo
INSERT INTO foo VALUES (999999, NULL, 'bar')
SELECT jsonb_agg(q ORDER BY x, y) FROM rows q
INSERT INTO test_jsonb VALUES ('scalar','"a scalar"'), ('array','["zero", "one","two",null,"four","five", [1,2,3],{"f1":9}]'), ('object','{"field1":"val1","field2":"val2","field3":null, "field4": 4, "field5": [1,2,3], "field6": {"f1":9}}')
SELECT test_json ->> 'field2' FROM test_jsonb WHERE json_type = 'scalar'
SELECT (test_json->'field3') IS NULL AS expect_false FROM test_jsonb WHERE json_type = 'object'
SELECT count(*) from testjsonb  WHERE j->'array' ? 'bar'
SELECT count(*) from testjsonb  WHERE j->'array' @> '5'::jsonb
SELECT jsonb_build_object('turbines',jsonb_object_agg(serial_num,jsonb_build_object('name',name,'type',type))) FROM foo
INSERT INTO jsbpoptest SELECT '{ "jsa": [1, "2", null, 4], "rec": {"a": "abc", "c": "01.02.2003", "x": 43.2}, "reca": [{"a": "abc", "b": 456}, null, {"c": "01.02.2003", "x": 43.2}] }'::jsonb FROM generate_series(1, 3)
SELECT count(*) FROM testjsonb WHERE j @> '{"wait":null}'
SELECT count(*) FROM testjsonb WHERE j ?| ARRAY['public','disabled']
SELECT count(*) FROM testjsonb WHERE j @@ '$.wait == null'
SELECT count(*) FROM (SELECT (jsonb_each(j)).key FROM testjsonb) AS wow
SELECT count(distinct j) FROM testjsonb
SELECT count(*) FROM testjsonb WHERE j > '{"p":1}'
insert into nestjsonb (j) values ('{"a":[["b",{"x":1}],["b",{"x":2}]],"c":3}')
select * from nestjsonb where j @> '{"c":3}'
select * from test_jsonb_subscript
update test_jsonb_subscript set test_json['a'] = '{"b": 1}'::jsonb
update test_jsonb_subscript set test_json[NULL] = '1'
insert into test_jsonb_subscript values (3, NULL)
delete from test_jsonb_subscript
update test_jsonb_subscript set test_json[-4] = '1'
update test_jsonb_subscript set test_json['a'][2]['b'][2]['c'][2] = '1'
update test_jsonb_subscript set test_json['a']['b'][1] = '1'
insert into test_jsonb_subscript values('foo', '{"foo": "bar"}')
select length(id), test_json[id] from test_jsonb_subscript
INSERT INTO lotest_stash_values (loid) SELECT lo_creat(42)
SELECT lo_close(fd) FROM lotest_stash_values
UPDATE lotest_stash_values SET fd=lo_open(loid, CAST(x'20000' | x'40000' AS integer))
SELECT loread(fd, 28) FROM lotest_stash_values
SELECT lowrite(fd, 'n') FROM lotest_stash_values
SELECT lo_open(loid, x'40000'::int) from lotest_stash_values
SELECT lo_lseek64(fd, 4294967296, 0) FROM lotest_stash_values
SELECT lo_lseek64(fd, -10, 1) FROM lotest_stash_values
SELECT lo_unlink(loid) from lotest_stash_values
SELECT lo_export(loid, :'filename') FROM lotest_stash_values
SELECT ''::text AS two, unique1, unique2, stringu1 FROM onek WHERE unique1 > 50 ORDER BY unique1 LIMIT 2
SELECT ''::text AS two, unique1, unique2, stringu1 FROM onek WHERE unique1 > 60 AND unique1 < 63 ORDER BY unique1 LIMIT 5
SELECT ''::text AS zero, unique1, unique2, stringu1 FROM onek WHERE unique1 < 50 ORDER BY unique1 DESC LIMIT 8 OFFSET 99
SELECT ''::text AS ten, unique1, unique2, stringu1 FROM onek ORDER BY unique1 OFFSET 990
SELECT ''::text AS five, unique1, unique2, stringu1 FROM onek ORDER BY unique1 LIMIT 5 OFFSET 900
SELECT  thousand FROM onek WHERE thousand < 5 ORDER BY thousand FETCH FIRST ROWS WITH TIES
SELECT  thousand FROM onek WHERE thousand < 5 ORDER BY thousand FETCH FIRST 1 ROW WITH TIES FOR UPDATE SKIP LOCKED
INSERT INTO LINE_TBL VALUES ('{0,-1,5}')
select * from LINE_TBL
INSERT INTO LSEG_TBL VALUES ('[(1,2),(3,4)]')
select * from LSEG_TBL;
SELECT * FROM macaddr_data
SELECT b <  '08:00:2b:01:02:04' FROM macaddr_data WHERE a = 1
SELECT b <= '08:00:2b:01:02:04' FROM macaddr_data WHERE a = 1
SELECT b =  '08:00:2b:01:02:03' FROM macaddr_data WHERE a = 1
SELECT ~b                       FROM macaddr_data
SELECT  b | '01:02:03:04:05:06' FROM macaddr_data
SELECT reltuples, relhassubclass FROM pg_class WHERE oid = 'past_inh_db_parent'::regclass
SELECT * FROM mvtest_tv ORDER BY type
SELECT * FROM mvtest_tm ORDER BY type
INSERT INTO mvtest_t VALUES (6, 'z', 13)
SELECT * FROM mvtest_tmm
SELECT * FROM mvtest_tvvm
SELECT type, m.totamt AS mtot, v.totamt AS vtot FROM mvtest_tm m LEFT JOIN mvtest_tv v USING (type) ORDER BY type
INSERT INTO mvtest_foo VALUES(2, 3, 4)
UPDATE mvtest_boxes SET b = '(2,2),(1,1)' WHERE id = 2
INSERT INTO mvtest_v values (1, 2)
SELECT * FROM mvtest_v
SELECT * FROM mv_unspecified_types
INSERT INTO expr_key (x, t) SELECT d1::numeric, d1::text FROM ( SELECT round((d / pi())::numeric, 7) AS d1 FROM generate_series(1, 20) AS d ) t
SELECT explain_memoize(' SELECT * FROM expr_key t1 INNER JOIN expr_key t2 ON t1.x = t2.t::numeric AND t1.t::numeric = t2.x;', false)
INSERT INTO strtest VALUES('one','one'),('two','two'),('three',repeat(md5('three'),100))
INSERT INTO prt VALUES (0), (0), (0), (0)
SELECT t.ctid is not null as matched, t.*, s.* FROM source s FULL OUTER JOIN target t ON s.sid = t.tid ORDER BY t.tid, s.sid
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN MATCHED THEN INSERT DEFAULT VALUES
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT VALUES (1,1), (2,2)
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN NOT MATCHED THEN UPDATE SET balance = 0
MERGE INTO target USING target ON tid = tid WHEN MATCHED THEN DO NOTHING
MERGE INTO tv t USING source s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT DEFAULT VALUES
MERGE INTO target USING (SELECT 1) AS s ON true WHEN MATCHED THEN DO NOTHING
MERGE INTO target2 USING source ON target2.tid = source.sid WHEN MATCHED THEN DELETE
MERGE INTO target t USING (SELECT * FROM source WHERE t.tid > sid) s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT DEFAULT VALUES
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN MATCHED THEN UPDATE SET balance = 0
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT DEFAULT VALUES
SELECT * FROM source ORDER BY sid
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN NOT MATCHED THEN DO NOTHING
DELETE FROM target WHERE tid > 100
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT VALUES (4, NULL)
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT VALUES (4, 4) WHEN MATCHED THEN UPDATE SET balance = 0
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN MATCHED THEN UPDATE SET balance = t.balance + s.delta
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT (tid, balance) VALUES (s.sid, s.delta)
MERGE INTO target t USING source AS s ON (SELECT true) WHEN NOT MATCHED THEN INSERT (tid, balance) VALUES (t.tid, s.delta)
MERGE INTO target t USING source AS s ON t.tid = s.sid WHEN MATCHED THEN /* Terminal WHEN clause for MATCHED */ DELETE WHEN MATCHED THEN UPDATE SET balance = t.balance - s.delta
MERGE INTO wq_target t USING wq_source s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT (tid) VALUES (s.sid)
MERGE INTO wq_target t USING wq_source s ON t.tid = s.sid WHEN NOT MATCHED AND FALSE THEN INSERT (tid) VALUES (s.sid)
MERGE INTO wq_target t USING wq_source s ON t.tid = s.sid WHEN NOT MATCHED AND s.balance = 100 THEN INSERT (tid) VALUES (s.sid)
SELECT * FROM wq_source
MERGE INTO wq_target t USING wq_source s ON t.tid = s.sid WHEN MATCHED AND t.balance = 100 THEN UPDATE SET balance = t.balance + s.balance
MERGE INTO wq_target t USING wq_source s ON t.tid = s.sid WHEN MATCHED AND t.balance = 99 AND s.balance = 100 THEN UPDATE SET balance = t.balance + s.balance
MERGE INTO wq_target t USING wq_source s ON (t.tid = s.sid) WHEN matched and t = s or t.tid = s.sid THEN UPDATE SET balance = t.balance + s.balance
MERGE INTO wq_target t USING wq_source s ON t.tid = s.sid WHEN MATCHED AND t.xmin = t.xmax THEN UPDATE SET balance = t.balance + s.balance
UPDATE target SET balance = 0 WHERE tid = 3
SELECT * FROM target full outer join source on (sid = tid)
MERGE INTO target t USING (SELECT sid, delta FROM source WHERE delta > 0) AS s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT (tid, balance) VALUES (s.sid, s.delta)
MERGE INTO target t1 USING target t2 ON t1.tid = t2.tid WHEN MATCHED THEN UPDATE SET balance = t1.balance + t2.balance WHEN NOT MATCHED THEN INSERT VALUES (t2.tid, t2.balance)
MERGE INTO target t USING (SELECT sid, max(delta) AS delta FROM source GROUP BY sid HAVING count(*) = 1 ORDER BY sid ASC) AS s ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT (tid, balance) VALUES (s.sid, s.delta)
INSERT INTO sq_source(sid, delta) VALUES (1,10), (2,20), (4,40)
SELECT * FROM sq_target
MERGE INTO sq_target USING v ON tid = sid WHEN MATCHED AND tid > 2 THEN UPDATE SET balance = balance + delta WHEN NOT MATCHED THEN INSERT (balance, tid) VALUES (balance + delta, sid) WHEN MATCHED AND tid < 2 THEN DELETE
MERGE INTO sq_target t USING v ON tid = sid WHEN MATCHED AND tid > 2 THEN UPDATE SET balance = t.balance + delta WHEN NOT MATCHED THEN INSERT (balance, tid) VALUES (balance + delta, sid) WHEN MATCHED AND tid < 2 THEN DELETE
MERGE INTO sq_target t USING v ON tid = sid WHEN MATCHED AND tid > 2 THEN UPDATE SET balance = t.balance + delta WHEN NOT MATCHED THEN INSERT (balance, tid) VALUES (balance + delta, sid) WHEN MATCHED AND tid < 2 THEN DELETE RETURNING *
INSERT INTO ex_msource SELECT i, i*10 FROM generate_series(1,100,1) i
SELECT * FROM sq_target WHERE tid = 1
MERGE INTO sq_target t USING v ON tid = sid AND (SELECT count(*) > 0 FROM sq_target) WHEN MATCHED THEN UPDATE SET balance = 42
INSERT INTO pa_target SELECT id, id * 100, 'initial' FROM generate_series(1,14,2) AS id
SELECT * FROM pa_target ORDER BY tid
MERGE INTO pa_target t USING (VALUES (10, 100)) AS s(sid, delta) ON t.tid = s.sid WHEN NOT MATCHED THEN INSERT VALUES (1, 10, 'inserted by merge') WHEN MATCHED THEN DO NOTHING
MERGE INTO pa_target t USING pa_source s ON t.tid = s.sid AND tid IN (1, 5) WHEN MATCHED AND tid % 5 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET balance = balance + delta, val = val || ' updated by merge' WHEN NOT MATCHED THEN INSERT VALUES (sid, delta, 'inserted by merge')
INSERT INTO pa_target SELECT '2017-01-31', id, id * 100, 'initial' FROM generate_series(1,9,3) AS id
INSERT INTO pa_source VALUES (1), (2)
INSERT INTO cj_source1 VALUES (1, 10, 100)
MERGE INTO cj_target t USING cj_source1 s1 INNER JOIN cj_source2 s2 ON sid1 = sid2 ON t.tid = sid1 WHEN NOT MATCHED THEN INSERT VALUES (sid1, delta, sval)
MERGE INTO cj_target t USING cj_source2 s2 INNER JOIN cj_source1 s1 ON sid1 = sid2 ON t.tid = sid1 WHEN NOT MATCHED THEN INSERT VALUES (sid2, delta + scat, sval) WHEN MATCHED THEN UPDATE SET val = val || ' updated by merge'
SELECT * FROM cj_target
MERGE INTO cj_target t USING cj_source1 s1 INNER JOIN cj_source2 s2 ON s1.sid = s2.sid ON t.tid = s1.sid WHEN NOT MATCHED THEN INSERT VALUES (s2.sid, delta, sval)
MERGE INTO fs_target t USING generate_series(1,100,2) AS id ON t.a = id WHEN MATCHED THEN UPDATE SET b = b + id, c = 'updated '|| id.*::text WHEN NOT MATCHED THEN INSERT VALUES (id, -1, 'inserted ' || id.*::text)
INSERT INTO measurement VALUES (0, '2005-07-21', 5, 15)
INSERT INTO new_measurement VALUES (0, '2005-07-21', 25, 20)
INSERT INTO new_measurement VALUES (1, '2007-01-15', 5, NULL)
SELECT tableoid::regclass, * FROM measurement ORDER BY city_id, logdate, peaktemp
MERGE INTO new_measurement nm USING ONLY measurement m ON (nm.city_id = m.city_id and nm.logdate=m.logdate) WHEN MATCHED THEN DELETE
MERGE INTO new_measurement nm USING measurement m ON (nm.city_id = m.city_id and nm.logdate=m.logdate) WHEN MATCHED THEN DELETE
SELECT * FROM ONLY measurement ORDER BY city_id, logdate
MERGE INTO pg_class c USING (SELECT 'pg_depend'::regclass AS oid) AS j ON j.oid = c.oid WHEN MATCHED THEN UPDATE SET reltuples = reltuples + 1
UPDATE onek SET unique1 = onek.unique1 + 1
SELECT two, stringu1, ten, string4 INTO TABLE tmp FROM onek
UPDATE tmp SET stringu1 = reverse_name(onek2.stringu1) FROM onek2 WHERE onek2.stringu1 = 'JCAAAA' and onek2.stringu1 = tmp.stringu1
SELECT * FROM onek_copy EXCEPT ALL SELECT * FROM onek
INSERT INTO hobbies_r (name, person) SELECT 'posthacking', p.name FROM person* p WHERE p.name = 'mike' or p.name = 'jeff'
INSERT INTO hobbies_r (name) VALUES ('skywalking')
INSERT INTO equipment_r (name, hobby) VALUES ('peet''s coffee', 'posthacking')
SELECT p.name, name(p.hobbies) FROM person* p
SELECT hobbies_r.name, (hobbies_r.equipment).name FROM hobbies_r
SELECT p.name, name(p.hobbies), name(equipment(p.hobbies)) FROM person* p
SELECT (p.hobbies).equipment.name, p.name, name(p.hobbies) FROM person* p
SELECT name(equipment(p.hobbies)), name(p.hobbies), p.name FROM person* p
SELECT *, name(equipment(h.*)) FROM hobbies_r h
SELECT pg_log_backend_memory_contexts(pid) FROM pg_stat_activity WHERE backend_type = 'checkpointer'
select count(*) > 0 from (select pg_tablespace_databases(oid) as pts from pg_tablespace where spcname = 'pg_default') pts join pg_database db on pts.pts = db.oid
SELECT * FROM pg_shdepend as d1 WHERE refclassid = 0 OR refobjid = 0 OR classid = 0 OR objid = 0 OR deptype NOT IN ('a', 'o', 'r', 't')
SELECT relname FROM pg_class WHERE relnamespace = 'pg_catalog'::regnamespace AND relkind = 'r' AND pg_class.oid NOT IN (SELECT indrelid FROM pg_index WHERE indisprimary) ORDER BY 1
INSERT INTO money_data VALUES ('123')
SELECT m + '123' FROM money_data
SELECT m / '2'::money FROM money_data
SELECT 2 * m FROM money_data
SELECT m * 2::int2 FROM money_data
SELECT m / 2::int2 FROM money_data
SELECT 2::float8 * m FROM money_data
SELECT m = '$123.00' FROM money_data
SELECT m <= '$123.00' FROM money_data
SELECT m < '$124.00' FROM money_data
SELECT cashlarger(m, '$124.00') FROM money_data
SELECT cash_words(m) FROM money_data
DELETE FROM money_data
INSERT INTO nummultirange_test VALUES(nummultirange())
INSERT INTO nummultirange_test VALUES(nummultirange(numrange(1.1, 2.2)))
SELECT nmr, isempty(nmr), lower(nmr), upper(nmr) FROM nummultirange_test ORDER BY nmr
SELECT * FROM nummultirange_test WHERE nmr = '{}'
SELECT * FROM nummultirange_test WHERE nmr <= '{}'
SELECT * FROM nummultirange_test WHERE nmr > '{}'
SELECT * FROM nummultirange_test WHERE range_overlaps_multirange(numrange(4.0, 4.2), nmr)
SELECT * FROM nummultirange_test WHERE multirange_overlaps_range(nmr, numrange(4.0, 4.2))
SELECT * FROM nummultirange_test WHERE multirange_overlaps_multirange(nmr, nummultirange(numrange(4.0, 4.2), numrange(6.0, 7.0)))
SELECT * FROM nummultirange_test WHERE nmr && nummultirange(numrange(6.0, 7.0))
SELECT * FROM nummultirange_test WHERE nmr @> 4.0
SELECT * FROM nummultirange_test WHERE nmr @> numrange(4.0, 4.2)
SELECT * FROM nummultirange_test WHERE nmr @> '{[4.0,4.2), [6.0, 8.0)}'::nummultirange
SELECT * FROM nummultirange_test WHERE 4.0 <@ nmr
SELECT * FROM nummultirange_test WHERE numrange(4.0, 4.2) <@ nmr
SELECT * FROM nummultirange_test WHERE '{[4.0,4.2), [6.0, 8.0)}'::nummultirange <@ nmr
insert into test_multirange_gist select '{}'::int4multirange from generate_series(1,500) g
insert into test_multirange_gist select int4multirange(int4range(NULL, g*10, '(]'), int4range(g*10, g*20, '(]')) from generate_series(1,100) g
select count(*) from test_multirange_gist where mr = '{}'::int4multirange
select count(*) from test_multirange_gist where mr && 'empty'::int4range
select count(*) from test_multirange_gist where mr << 'empty'::int4range
select count(*) from test_multirange_gist where mr &< 'empty'::int4range
select count(*) from test_multirange_gist where mr -|- 'empty'::int4range
select count(*) from test_multirange_gist where mr && '{}'::int4multirange
select count(*) from test_multirange_gist where mr << '{}'::int4multirange
select count(*) from test_multirange_gist where mr &< '{}'::int4multirange
select count(*) from test_multirange_gist where mr -|- '{}'::int4multirange
select count(*) from test_multirange_gist where mr @> 10
select count(*) from test_multirange_gist where mr && int4range(10,20)
select count(*) from test_multirange_gist where mr << int4range(100,500)
select count(*) from test_multirange_gist where mr &< int4range(100,500)
select count(*) from test_multirange_gist where mr -|- int4range(100,500)
select count(*) from test_multirange_gist where mr << int4multirange(int4range(100,200), int4range(400,500))
select count(*) from test_multirange_gist where mr &< int4multirange(int4range(100,200), int4range(400,500))
select count(*) from test_multirange_gist where mr -|- int4multirange(int4range(100,200), int4range(400,500))
SELECT   room_id, range_agg(booked_during) FROM     reservations GROUP BY room_id ORDER BY room_id
select range_agg(nmr) from nummultirange_test where false
select range_intersect_agg(nmr) from nummultirange_test
select range_intersect_agg(null::nummultirange) from nummultirange_test
INSERT INTO nummultirange_test2 VALUES('{[, 5)}')
INSERT INTO nummultirange_test2 VALUES(nummultirange(numrange(1.1, 2.2,'()')))
insert into float8multirange_test values(float8multirange(float8range(-100.00007, '1.111113e9')), 42)
INSERT INTO clean_aborted_self (key, data) VALUES (-1, 'just to allocate metapage')
INSERT INTO NAME_TBL(f1) VALUES ('1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890ABCDEFGHIJKLMNOPQR')
SELECT c.f1 FROM NAME_TBL c WHERE c.f1 <> '1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890ABCDEFGHIJKLMNOPQR'
SELECT c.f1 FROM NAME_TBL c WHERE c.f1 < '1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890ABCDEFGHIJKLMNOPQR'
SELECT c.f1 FROM NAME_TBL c WHERE c.f1 > '1234567890ABCDEFGHIJKLMNOPQRSTUVWXYZ1234567890ABCDEFGHIJKLMNOPQR'
SELECT c.f1 FROM NAME_TBL c WHERE c.f1 ~ '.*'
SELECT COUNT(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'test_ns_schema_1')
SELECT COUNT(*) FROM pg_class WHERE relnamespace = (SELECT oid FROM pg_namespace WHERE nspname = 'test_ns_schema_renamed');
INSERT INTO num_exp_sub VALUES (0,0,'0')
INSERT INTO num_exp_div VALUES (0,0,'NaN')
INSERT INTO num_exp_ln VALUES (0,'NaN')
INSERT INTO num_exp_power_10_ln VALUES (0,'NaN')
DELETE FROM num_result
SELECT t1.id1, t1.id2, t1.result, t2.expected FROM num_result t1, num_exp_add t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != t2.expected
SELECT t1.id1, t1.id2, t1.result, round(t2.expected, 10) as expected FROM num_result t1, num_exp_add t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != round(t2.expected, 10)
SELECT t1.id1, t1.id2, t1.result, t2.expected FROM num_result t1, num_exp_sub t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != t2.expected
SELECT t1.id1, t1.id2, t1.result, round(t2.expected, 40) FROM num_result t1, num_exp_sub t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != round(t2.expected, 40)
SELECT t1.id1, t1.id2, t1.result, t2.expected FROM num_result t1, num_exp_mul t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != t2.expected
SELECT t1.id1, t1.id2, t1.result, round(t2.expected, 30) as expected FROM num_result t1, num_exp_mul t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != round(t2.expected, 30)
SELECT t1.id1, t1.id2, t1.result, t2.expected FROM num_result t1, num_exp_div t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != t2.expected
SELECT t1.id1, t1.id2, t1.result, round(t2.expected, 80) as expected FROM num_result t1, num_exp_div t2 WHERE t1.id1 = t2.id1 AND t1.id2 = t2.id2 AND t1.result != round(t2.expected, 80)
SELECT t1.id1, t1.result, t2.expected FROM num_result t1, num_exp_sqrt t2 WHERE t1.id1 = t2.id AND t1.result != t2.expected
SELECT t1.id1, t1.result, t2.expected FROM num_result t1, num_exp_ln t2 WHERE t1.id1 = t2.id AND t1.result != t2.expected
SELECT t1.id1, t1.result, t2.expected FROM num_result t1, num_exp_log10 t2 WHERE t1.id1 = t2.id AND t1.result != t2.expected
SELECT t1.id1, t1.result, t2.expected FROM num_result t1, num_exp_power_10_ln t2 WHERE t1.id1 = t2.id AND t1.result != t2.expected
WITH v(x) AS (VALUES('0'::numeric),('1'),('-1'),('4.2'),('inf'),('-inf'),('nan')) SELECT x1, x2, x1 / x2 AS quot, x1 % x2 AS mod, div(x1, x2) AS div FROM v AS v1(x1), v AS v2(x2) WHERE x2 != 0
WITH v(x) AS (VALUES('0'::numeric),('1'),('-1'),('4.2'),('-7.777'),('inf'),('-inf'),('nan')) SELECT x, round(x), round(x,1) as round1, trunc(x), trunc(x,1) as trunc1 FROM v
WITH v(x) AS (VALUES('0'::numeric),('1'),('4.2'),('inf'),('nan')) SELECT x, sqrt(x) FROM v
WITH v(x) AS (VALUES('2'::numeric),('4.2'),('inf'),('nan')) SELECT x1, x2, log(x1, x2) FROM v AS v1(x1), v AS v2(x2)
SELECT AVG(val) FROM num_data
SELECT MIN(val) FROM num_data
SELECT VARIANCE(val) FROM num_data
SELECT * FROM fract_only
SELECT a, ceil(a), ceiling(a), floor(a), round(a) FROM ceil_floor_round
SELECT to_char(val, 'MI9999999999999999.999999999999999')     FROM num_data
SELECT to_char(val, 'SG9999999999999999.999999999999999th')   FROM num_data
SELECT to_char(val, 'S0999999999999999.999999999999999')      FROM num_data
SELECT to_char(val, 'L9999999999999999.099999999999999')	FROM num_data
SELECT to_char(val, '9.999EEEE')				FROM num_data
WITH v(exp) AS (VALUES(-16379),(-16378),(-1234),(-789),(-45),(-5),(-4),(-3),(-2),(-1),(0), (1),(2),(3),(4),(5),(38),(275),(2345),(45678),(131070),(131071)) SELECT exp, to_char(('1.2345e'||exp)::numeric, '9.999EEEE') as numeric FROM v
SELECT * FROM num_input_test
INSERT INTO num_typemod_test VALUES ('NaN', 'NaN', 'NaN', 'NaN', 'NaN')
INSERT INTO num_typemod_test (millions) VALUES ('inf')
INSERT INTO num_typemod_test (units) VALUES (999.5)
INSERT INTO num_typemod_test (millionths) VALUES (0.0009995)
INSERT INTO num_variance VALUES (3e-500)
INSERT INTO num_variance VALUES (4e-500 - 1e-16383)
SELECT trim_scale(variance(a) * 1e1000) FROM num_variance
INSERT INTO num_variance SELECT 9e131071 + x FROM generate_series(1, 5) x
INSERT INTO num_result SELECT id, 0, LOG('10'::numeric, ABS(val)) FROM num_data WHERE val != '0.0'
WITH t(x, bc_result) AS (VALUES ('1.0e100', 230.25850929940457), ('1.0e200', 460.51701859880914), ('1.0e300', 690.77552789821371), ('1.0e400', 921.03403719761827), ('1.0e500', 1151.2925464970228), ('1.0e600', 1381.5510557964274), ('1.0e700', 1611.8095650958320), ('1.0e800', 1842.0680743952365), ('1.0e900', 2072.3265836946411), ('1.0e1000', 2302.5850929940457)) SELECT x, bc_result, ln(x::numeric), ln(x::numeric)-bc_result AS diff FROM t
INSERT INTO TEMP_FLOAT (f1) SELECT float8(f1) FROM INT4_TBL
INSERT INTO TEMP_INT4 (f1) SELECT int4(f1) FROM FLOAT8_TBL WHERE (f1 > -2147483647) AND (f1 < 2147483647)
INSERT INTO TEMP_INT2 (f1) SELECT int2(f1) FROM FLOAT8_TBL WHERE (f1 >= -32767) AND (f1 <= 32767)
INSERT INTO TEMP_GROUP SELECT 1, (- i.f1), (- f.f1) FROM INT4_TBL i, FLOAT8_TBL f
SELECT DISTINCT f1 AS two FROM TEMP_GROUP ORDER BY 1
SELECT f1 AS two, max(f3) AS max_float, min(f3) AS min_float FROM TEMP_GROUP GROUP BY two ORDER BY two, max_float, min_float
SELECT f1 AS two, max(f2) + min(f2) AS max_plus_min, min(f3) - 1 AS min_minus_1 FROM TEMP_GROUP GROUP BY f1 ORDER BY two, min_minus_1
SELECT * FROM OID_TBL
SELECT o.* FROM OID_TBL o WHERE o.f1 <> '1234'
SELECT o.* FROM OID_TBL o WHERE o.f1 < '1234'
SELECT o.* FROM OID_TBL o WHERE o.f1 > '1234'
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE prosrc IS NULL
SELECT p1.oid, p1.proname FROM pg_proc AS p1 WHERE proretset AND prokind != 'f'
SELECT p1.oid, p1.proname FROM pg_proc AS p1 WHERE (pronargdefaults <> 0) != (proargdefaults IS NOT NULL)
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE prolang != 13 AND probin IS NOT NULL
SELECT p1.oid, p1.proname, p2.oid, p2.proname FROM pg_proc AS p1, pg_proc AS p2 WHERE p1.oid < p2.oid AND p1.prosrc = p2.prosrc AND p1.prolang = 12 AND p2.prolang = 12 AND (p1.prokind != 'a' OR p2.prokind != 'a') AND (p1.prolang != p2.prolang OR p1.prokind != p2.prokind OR p1.prosecdef != p2.prosecdef OR p1.proleakproof != p2.proleakproof OR p1.proisstrict != p2.proisstrict OR p1.proretset != p2.proretset OR p1.provolatile != p2.provolatile OR p1.pronargs != p2.pronargs)
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE p1.prorettype = 'internal'::regtype AND NOT 'internal'::regtype = ANY (p1.proargtypes)
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE p1.prorettype IN ('anyrange'::regtype, 'anymultirange'::regtype) AND NOT ('anyrange'::regtype = ANY (p1.proargtypes) OR 'anymultirange'::regtype = ANY (p1.proargtypes)) ORDER BY 2
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE p1.prorettype = 'anycompatiblerange'::regtype AND NOT 'anycompatiblerange'::regtype = ANY (p1.proargtypes) ORDER BY 2
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE  p1.prorettype = 'cstring'::regtype AND NOT EXISTS(SELECT 1 FROM pg_type WHERE typoutput = p1.oid) AND NOT EXISTS(SELECT 1 FROM pg_type WHERE typmodout = p1.oid) AND p1.oid != 'shell_out(void)'::regprocedure ORDER BY 1
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE proargmodes IS NOT NULL AND array_length(proargmodes,1) < array_length(proargtypes,1)
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE proallargtypes IS NOT NULL AND proargmodes IS NOT NULL AND array_length(proallargtypes,1) <> array_length(proargmodes,1)
SELECT p1.oid, p1.proname FROM pg_proc as p1 WHERE proargmodes IS NOT NULL AND proargnames IS NOT NULL AND array_length(proargmodes,1) <> array_length(proargnames,1)
SELECT p1.oid, p1.proname, p2.oid, p2.proname FROM pg_proc AS p1, pg_proc AS p2 WHERE p2.oid = p1.prosupport AND (p2.prorettype != 'internal'::regtype OR p2.proretset OR p2.pronargs != 1 OR p2.proargtypes[0] != 'internal'::regtype)
SELECT p1.oid::regprocedure FROM pg_proc p1 JOIN pg_namespace pn ON pronamespace = pn.oid WHERE nspname = 'pg_catalog' AND proleakproof ORDER BY 1
SELECT p1.oid, p1.proname FROM pg_proc AS p1 WHERE provolatile = 'i' AND proparallel = 'u'
SELECT * FROM pg_cast c WHERE (castmethod = 'f' AND castfunc = 0) OR (castmethod IN ('b', 'i') AND castfunc <> 0)
SELECT c.* FROM pg_cast c, pg_proc p WHERE c.castfunc = p.oid AND p.pronargs < 2 AND castsource = casttarget
SELECT c.* FROM pg_cast c, pg_proc p WHERE c.castfunc = p.oid AND ((p.pronargs > 1 AND p.proargtypes[1] != 'int4'::regtype) OR (p.pronargs > 2 AND p.proargtypes[2] != 'bool'::regtype))
SELECT c.oid, c.conname FROM pg_conversion as c WHERE c.conproc = 0 OR pg_encoding_to_char(conforencoding) = '' OR pg_encoding_to_char(contoencoding) = ''
SELECT c.oid, c.conname FROM pg_conversion as c WHERE condefault AND convert('ABC'::bytea, pg_encoding_to_char(conforencoding), pg_encoding_to_char(contoencoding)) != 'ABC'
SELECT o1.oid, o1.oprname FROM pg_operator as o1 WHERE (o1.oprleft = 0 and o1.oprkind != 'l') OR (o1.oprleft != 0 and o1.oprkind = 'l') OR o1.oprright = 0
SELECT o1.oid, o1.oprcode, o2.oid, o2.oprcode FROM pg_operator AS o1, pg_operator AS o2 WHERE o1.oprcom = o2.oid AND (o1.oprkind != 'b' OR o1.oprleft != o2.oprright OR o1.oprright != o2.oprleft OR o1.oprresult != o2.oprresult OR o1.oid != o2.oprcom)
SELECT DISTINCT o1.oprname AS op1, o2.oprname AS op2 FROM pg_operator o1, pg_operator o2 WHERE o1.oprcom = o2.oid AND o1.oprname <= o2.oprname ORDER BY 1, 2
SELECT o1.oid, o1.oprname FROM pg_operator AS o1 WHERE (o1.oprcanmerge OR o1.oprcanhash) AND NOT (o1.oprkind = 'b' AND o1.oprresult = 'bool'::regtype AND o1.oprcom != 0)
SELECT o1.oid, o1.oprname FROM pg_operator AS o1 WHERE o1.oprcanmerge AND NOT EXISTS (SELECT 1 FROM pg_amop WHERE amopmethod = (SELECT oid FROM pg_am WHERE amname = 'btree') AND amopopr = o1.oid AND amopstrategy = 3)
SELECT o1.oid, o1.oprname FROM pg_operator AS o1 WHERE o1.oprcanhash AND NOT EXISTS (SELECT 1 FROM pg_amop WHERE amopmethod = (SELECT oid FROM pg_am WHERE amname = 'hash') AND amopopr = o1.oid AND amopstrategy = 1)
SELECT o1.oid, o1.oprname, p1.oid, p1.proname FROM pg_operator AS o1, pg_proc AS p1 WHERE o1.oprcode = p1.oid AND o1.oprkind = 'b' AND (p1.pronargs != 2 OR NOT binary_coercible(p1.prorettype, o1.oprresult) OR NOT binary_coercible(o1.oprleft, p1.proargtypes[0]) OR NOT binary_coercible(o1.oprright, p1.proargtypes[1]))
SELECT o1.oid, o1.oprname, p1.oid, p1.proname FROM pg_operator AS o1, pg_proc AS p1 WHERE o1.oprcode = p1.oid AND (o1.oprcanmerge OR o1.oprcanhash) AND p1.provolatile = 'v'
SELECT o1.oid, o1.oprname, p2.oid, p2.proname FROM pg_operator AS o1, pg_proc AS p2 WHERE o1.oprjoin = p2.oid AND (o1.oprkind != 'b' OR o1.oprresult != 'bool'::regtype OR p2.prorettype != 'float8'::regtype OR p2.proretset OR p2.pronargs != 5 OR p2.proargtypes[0] != 'internal'::regtype OR p2.proargtypes[1] != 'oid'::regtype OR p2.proargtypes[2] != 'internal'::regtype OR p2.proargtypes[3] != 'int2'::regtype OR p2.proargtypes[4] != 'internal'::regtype)
SELECT o1.oid, o1.oprcode, o2.oid, o2.oprcode FROM pg_operator AS o1, pg_operator AS o2, pg_proc AS p1, pg_proc AS p2 WHERE o1.oprcom = o2.oid AND p1.oid = o1.oprcode AND p2.oid = o2.oprcode AND (p1.provolatile != p2.provolatile OR p1.proleakproof != p2.proleakproof)
SELECT ctid, aggfnoid::oid FROM pg_aggregate as a WHERE aggfnoid = 0 OR aggtransfn = 0 OR aggkind NOT IN ('n', 'o', 'h') OR aggnumdirectargs < 0 OR (aggkind = 'n' AND aggnumdirectargs > 0) OR aggfinalmodify NOT IN ('r', 's', 'w') OR aggmfinalmodify NOT IN ('r', 's', 'w') OR aggtranstype = 0 OR aggtransspace < 0 OR aggmtransspace < 0
SELECT oid, proname FROM pg_proc as p WHERE p.prokind = 'a' AND NOT EXISTS (SELECT 1 FROM pg_aggregate a WHERE a.aggfnoid = p.oid)
SELECT a.aggfnoid::oid, p.proname, ptr.oid, ptr.proname FROM pg_aggregate AS a, pg_proc AS p, pg_proc AS ptr WHERE a.aggfnoid = p.oid AND a.aggtransfn = ptr.oid AND ptr.proisstrict AND a.agginitval IS NULL AND NOT binary_coercible(p.proargtypes[0], a.aggtranstype)
SELECT ctid, aggfnoid::oid FROM pg_aggregate as a WHERE aggmtranstype = 0 AND (aggmtransfn != 0 OR aggminvtransfn != 0 OR aggmfinalfn != 0 OR aggmtransspace != 0 OR aggminitval IS NOT NULL)
SELECT a.aggfnoid::oid, p.proname, ptr.oid, ptr.proname FROM pg_aggregate AS a, pg_proc AS p, pg_proc AS ptr WHERE a.aggfnoid = p.oid AND a.aggmtransfn = ptr.oid AND ptr.proisstrict AND a.aggminitval IS NULL AND NOT binary_coercible(p.proargtypes[0], a.aggmtranstype)
SELECT a.aggfnoid, p.proname FROM pg_aggregate as a, pg_proc as p WHERE a.aggcombinefn = p.oid AND (p.pronargs != 2 OR p.prorettype != p.proargtypes[0] OR p.prorettype != p.proargtypes[1] OR NOT binary_coercible(a.aggtranstype, p.proargtypes[0]))
SELECT aggfnoid, aggtranstype, aggserialfn, aggdeserialfn FROM pg_aggregate WHERE (aggserialfn != 0 OR aggdeserialfn != 0) AND (aggtranstype != 'internal'::regtype OR aggcombinefn = 0 OR aggserialfn = 0 OR aggdeserialfn = 0)
SELECT a.aggfnoid, p.proname FROM pg_aggregate as a, pg_proc as p WHERE a.aggdeserialfn = p.oid AND (p.prorettype != 'internal'::regtype OR p.pronargs != 2 OR p.proargtypes[0] != 'bytea'::regtype OR p.proargtypes[1] != 'internal'::regtype OR NOT p.proisstrict)
SELECT DISTINCT proname, oprname FROM pg_operator AS o, pg_aggregate AS a, pg_proc AS p WHERE a.aggfnoid = p.oid AND a.aggsortop = o.oid ORDER BY 1, 2
SELECT a.aggfnoid::oid, o.oid FROM pg_operator AS o, pg_aggregate AS a, pg_proc AS p WHERE a.aggfnoid = p.oid AND a.aggsortop = o.oid AND NOT EXISTS(SELECT 1 FROM pg_amop WHERE amopmethod = (SELECT oid FROM pg_am WHERE amname = 'btree') AND amopopr = o.oid AND amoplefttype = o.oprleft AND amoprighttype = o.oprright)
SELECT p1.oid::regprocedure, p2.oid::regprocedure FROM pg_proc AS p1, pg_proc AS p2 WHERE p1.oid < p2.oid AND p1.proname = p2.proname AND p1.prokind = 'a' AND p2.prokind = 'a' AND array_dims(p1.proargtypes) != array_dims(p2.proargtypes) ORDER BY 1
SELECT p.oid, proname FROM pg_proc AS p JOIN pg_aggregate AS a ON a.aggfnoid = p.oid WHERE prokind = 'a' AND provariadic != 0 AND a.aggkind = 'n'
SELECT oid, opfname FROM pg_opfamily f WHERE NOT EXISTS (SELECT 1 FROM pg_opclass WHERE opcfamily = f.oid)
SELECT c1.oid, f1.oid FROM pg_opclass AS c1, pg_opfamily AS f1 WHERE c1.opcfamily = f1.oid AND c1.opcmethod != f1.opfmethod
SELECT oid, opcname FROM pg_opclass WHERE NOT amvalidate(oid)
SELECT a1.oid, a1.amname, p1.oid, p1.proname FROM pg_am AS a1, pg_proc AS p1 WHERE p1.oid = a1.amhandler AND a1.amtype = 'i' AND (p1.prorettype != 'index_am_handler'::regtype OR p1.proretset OR p1.pronargs != 1 OR p1.proargtypes[0] != 'internal'::regtype)
SELECT a1.amopfamily, a1.amopstrategy FROM pg_amop as a1 WHERE NOT ((a1.amoppurpose = 's' AND a1.amopsortfamily = 0) OR (a1.amoppurpose = 'o' AND a1.amopsortfamily <> 0))
SELECT DISTINCT amopmethod, amopstrategy, oprname FROM pg_amop a1 LEFT JOIN pg_operator o1 ON amopopr = o1.oid ORDER BY 1, 2, 3
SELECT c1.opcname, c1.opcfamily FROM pg_opclass AS c1 WHERE NOT EXISTS(SELECT 1 FROM pg_amop AS a1 WHERE a1.amopfamily = c1.opcfamily AND binary_coercible(c1.opcintype, a1.amoplefttype))
SELECT a1.amopfamily, a1.amopopr, o1.oprname, p1.prosrc FROM pg_amop AS a1, pg_operator AS o1, pg_proc AS p1 WHERE a1.amopopr = o1.oid AND o1.oprcode = p1.oid AND a1.amoplefttype = a1.amoprighttype AND p1.provolatile != 'i'
SELECT a1.amprocfamily, a1.amprocnum FROM pg_amproc as a1 WHERE a1.amprocfamily = 0 OR a1.amproclefttype = 0 OR a1.amprocrighttype = 0 OR a1.amprocnum < 0 OR a1.amproc = 0
SELECT a1.amprocfamily, a1.amproc, p1.prosrc FROM pg_amproc AS a1, pg_proc AS p1 WHERE a1.amproc = p1.oid AND a1.amproclefttype != a1.amprocrighttype AND p1.provolatile = 'v'
SELECT indexrelid, indrelid FROM pg_index WHERE indexrelid = 0 OR indrelid = 0 OR indnatts <= 0 OR indnatts > 32
SELECT indexrelid::regclass, indrelid::regclass, attname, atttypid::regtype, opcname FROM (SELECT indexrelid, indrelid, unnest(indkey) as ikey, unnest(indclass) as iclass, unnest(indcollation) as icoll FROM pg_index) ss, pg_attribute a, pg_opclass opc WHERE a.attrelid = indrelid AND a.attnum = ikey AND opc.oid = iclass AND (NOT binary_coercible(atttypid, opcintype) OR icoll != attcollation)
SELECT indexrelid::regclass, indrelid::regclass, iclass, icoll FROM (SELECT indexrelid, indrelid, unnest(indclass) as iclass, unnest(indcollation) as icoll FROM pg_index WHERE indrelid < 16384) ss WHERE icoll != 0 AND icoll != (SELECT oid FROM pg_collation WHERE collname = 'C');
SELECT c, sum(a), avg(b), count(*), min(a), max(b) FROM pagg_tab GROUP BY c HAVING avg(d) < 15 ORDER BY 1, 2, 3
SELECT c, sum(a) FROM pagg_tab WHERE 1 = 2 GROUP BY c
SELECT c, sum(a), avg(b), count(*) FROM pagg_tab GROUP BY 1 HAVING avg(d) < 15 ORDER BY 1, 2, 3
SELECT c FROM pagg_tab GROUP BY c ORDER BY 1
INSERT INTO pagg_tab1 SELECT i % 30, i % 20 FROM generate_series(0, 299, 2) i
SELECT a, sum(b), avg(c), count(*) FROM pagg_tab_m GROUP BY a HAVING avg(c) < 22 ORDER BY 1, 2, 3
SELECT a, c, sum(b), avg(c), count(*) FROM pagg_tab_m GROUP BY (a+b)/2, 2, 1 HAVING sum(b) = 50 AND avg(c) > 25 ORDER BY 1, 2, 3
SELECT a, sum(b), array_agg(distinct c), count(*) FROM pagg_tab_ml GROUP BY a HAVING avg(b) < 3 ORDER BY 1, 2, 3
SELECT b, sum(a), count(*) FROM pagg_tab_ml GROUP BY b HAVING avg(a) < 15 ORDER BY 1, 2, 3
INSERT INTO pagg_tab_para SELECT i % 30, i % 20 FROM generate_series(0, 29999) i
SELECT y, sum(x), avg(x), count(*) FROM pagg_tab_para GROUP BY y HAVING avg(x) < 12 ORDER BY 1, 2, 3
SELECT x, sum(y), avg(y), count(*) FROM pagg_tab_para GROUP BY x HAVING avg(y) < 7 ORDER BY 1, 2, 3;
INSERT INTO prt2 SELECT i % 25, i, to_char(i, 'FM0000') FROM generate_series(0, 599) i WHERE i % 3 = 0
INSERT INTO prt1_m SELECT i, i, i % 25 FROM generate_series(0, 599, 2) i
INSERT INTO plt1_e SELECT i, i, 'A' || to_char(i/50, 'FM0000') FROM generate_series(0, 599, 2) i
INSERT INTO pht1_e SELECT i, i, 'A' || to_char(i/50, 'FM0000') FROM generate_series(0, 299, 2) i
INSERT INTO prt2_l SELECT i % 25, i, to_char(i % 4, 'FM0000') FROM generate_series(0, 599, 3) i
INSERT INTO prt2_n SELECT i, i, to_char(i/50, 'FM0000') FROM generate_series(0, 599, 2) i
insert into prtx2 select 1 + i%30, i, i from generate_series(1,500) i, generate_series(1,10) j
INSERT INTO prt2_adv_p1 SELECT i % 25, i, to_char(i, 'FM0000') FROM generate_series(100, 149) i
INSERT INTO plt1_adv SELECT i, i, to_char(i % 10, 'FM0000') FROM generate_series(1, 299) i WHERE i % 10 IN (1, 3, 4, 6, 8, 9)
INSERT INTO plt2_adv SELECT i, i, to_char(i % 10, 'FM0000') FROM generate_series(1, 299) i WHERE i % 10 IN (4, 6)
INSERT INTO plt2_adv SELECT i, i, to_char(i % 10, 'FM0000') FROM generate_series(1, 299) i WHERE i % 10 IN (4, 5, 6)
INSERT INTO plt1_adv SELECT i, i, to_char(i % 10, 'FM0000') FROM generate_series(1, 299) i WHERE i % 10 IN (1, 2, 3, 4, 5)
INSERT INTO alpha_neg SELECT -1.0, i, to_char(i % 10, 'FM0000') FROM generate_series(100, 399) i WHERE i % 10 IN (1, 3, 4, 6, 8, 9)
INSERT INTO beta_neg SELECT -1.0, i, to_char(i % 10, 'FM0000') FROM generate_series(100, 149) i WHERE i % 10 IN (2, 3, 4, 6, 7, 9)
SELECT t1.*, t2.* FROM alpha t1 INNER JOIN beta t2 ON (t1.a = t2.a AND t1.b = t2.b) WHERE t1.b >= 125 AND t1.b < 225 ORDER BY t1.a, t1.b
SELECT t1.*, t2.* FROM alpha t1 INNER JOIN beta t2 ON (t1.a = t2.a AND t1.b = t2.b AND t1.c = t2.c) WHERE ((t1.b >= 100 AND t1.b < 110) OR (t1.b >= 200 AND t1.b < 210)) AND ((t2.b >= 100 AND t2.b < 110) OR (t2.b >= 200 AND t2.b < 210)) AND t1.c IN ('0004', '0009') ORDER BY t1.a, t1.b
insert into boolpart values (true), (false), (null)
select * from boolpart where a = false
select * from boolpart where a is true or a is not true
select * from boolpart where a is not true and a is not false
select * from boolpart where a is not unknown
insert into boolpart values(null)
insert into iboolpart values (true), (false), (null)
select * from iboolpart where a = false
select * from iboolpart where a is true or a is not true
select * from iboolpart where a is not true and a is not false
select * from iboolpart where a is not unknown
insert into iboolpart values(null)
INSERT INTO part VALUES (-1,-1), (1,1), (2,NULL), (NULL,-2),(NULL,NULL)
insert into hp values (1, null, 1)
insert into hp values (null, 'xxx', 3)
insert into list_part select generate_series(1,4)
insert into lprt_a select 0 from generate_series(1,100)
delete from lprt_a where a = 1
insert into ab values (1,2)
select tableoid::regclass, * from ab
insert into tprt values (10), (20), (501), (502), (505), (1001), (4500)
insert into tbl1 values (4400)
insert into mc3p values (0, 1, 1), (1, 1, 1), (2, 1, 1)
insert into ma_test select x,x from generate_series(0,29) t(x)
select tableoid::regclass, * from pph_arrpart order by 1
select * from ( select * from p union all select * from q1 union all select 1, 1, 1 ) s(a, b, c) where s.a = 1 and s.b = 1 and s.c = (select 1)
insert into hp_prefix_test select case a when 0 then null else 1 end, case b when 0 then null else 2 end, case c when 0 then null else 3 end, case d when 0 then null else 4 end from generate_series(0,1) a, generate_series(0,1) b, generate_Series(0,1) c, generate_Series(0,1) d
SELECT rolname, rolpassword FROM pg_authid WHERE rolname LIKE 'regress_passwd2_new' ORDER BY rolname, rolpassword
SELECT rolname, rolpassword not like '%A6xHKoH/494E941doaPOYg==%' as is_rolpassword_rehashed FROM pg_authid WHERE rolname LIKE 'regress_passwd_sha_len%' ORDER BY rolname
INSERT INTO PATH_TBL VALUES ('[(1,2),(3,4)]')
SELECT f1 AS closed_path FROM PATH_TBL WHERE isclosed(f1)
SELECT popen(f1) AS open_path FROM PATH_TBL;
SELECT MIN(f1), MAX(f1) FROM PG_LSN_TBL
insert into t1 values(11)
insert into test_mode select 1 from generate_series(1,1000) union all select 2
insert into PSlot ( slotname, pfname, slotlink, backlink ) values ( new.slotname, new.pfname, new.slotlink, new.backlink )
insert into PLine ( slotname, phonenumber, comment, backlink ) values ( new.slotname, new.phonenumber, new.comment, new.backlink )
insert into HSlot ( slotname, hubname, slotno, slotlink ) values ( new.slotname, new.hubname, new.slotno, new.slotlink )
select into syrow * from System where name = ifrow.sysname
insert into WSlot values ('WS.001.1a', '001', '', '')
insert into PSlot values ('PS.base.a1', 'PF0_1', '', '')
select * from WSlot where roomno = '001' order by slotname
update WSlot set backlink = 'PS.base.a4' where slotname = 'WS.001.2b'
select * from PSlot order by slotname
insert into PLine values ('PL.001', '-0', 'Central call', 'PS.base.ta1')
update PSlot set slotlink = 'PS.base.ta1' where slotname = 'PS.base.a1'
insert into System values ('orion', 'PC')
insert into HSlot values ('HS', 'base.hub1', 1, '')
delete from found_test_tbl where a = 9999
select f1(stavalues1) from pg_statistic
insert into users values('user1')
insert into foo values (1,2), (3,4)
update forc_test set i = i * 100, j = r.j * 2 where current of c
insert into tabwithcols values(10,20,30,40),(50,60,70,80)
INSERT INTO transition_table_base VALUES (1, 'One'), (2, 'Two')
INSERT INTO transition_table_level1 (level1_no) SELECT generate_series(1,200)
INSERT INTO transition_table_status (level, node_no, status) SELECT 1, level1_no, 0 FROM transition_table_level1
DELETE FROM transition_table_level2 WHERE level2_no BETWEEN 301 AND 305
UPDATE transition_table_level1 SET level1_no = -1 WHERE level1_no = 30
UPDATE transition_table_level2 SET parent_no = 2000 WHERE level2_no = 40
UPDATE alter_table_under_transition_tables SET name = name || name
UPDATE alter_table_under_transition_tables SET id = id
UPDATE multi_test SET i = i
SELECT * INTO result FROM partitioned_table WHERE a = a_val
SELECT * FROM POINT_TBL
SELECT p.* FROM POINT_TBL p WHERE '(0.0,0.0)' >> p.f1
SELECT p.* FROM POINT_TBL p WHERE p.f1 <<| '(0.0, 0.0)'
SELECT p.* FROM POINT_TBL p WHERE p.f1 <@ box '(0,0,100,100)'
SELECT p.* FROM POINT_TBL p WHERE not p.f1 <@ box '(0,0,100,100)'
SELECT p.* FROM POINT_TBL p WHERE not box '(0,0,100,100)' @> p.f1
SELECT p1.f1 AS point1, p2.f1 AS point2, p1.f1 <-> p2.f1 AS dist FROM POINT_TBL p1, POINT_TBL p2 ORDER BY dist, p1.f1[0], p2.f1[0]
SELECT p1.f1 AS point1, p2.f1 AS point2, (p1.f1 <-> p2.f1) AS distance FROM POINT_TBL p1, POINT_TBL p2 WHERE (p1.f1 <-> p2.f1) > 3 and p1.f1 << p2.f1 ORDER BY distance, p1.f1[0], p2.f1[0]
INSERT INTO point_gist_tbl SELECT '(0,0)' FROM generate_series(0,1000)
SELECT COUNT(*) FROM point_gist_tbl WHERE f1 ~= '(0.0000009,0.0000009)'::point
INSERT INTO POLYGON_TBL(f1) VALUES ('(2.0,0.0),(2.0,4.0),(0.0,0.0)')
INSERT INTO quad_poly_tbl SELECT (x - 1) * 100 + y, polygon(circle(point(x * 10, y * 10), 1 + (x + y) % 10)) FROM generate_series(1, 100) x, generate_series(1, 100) y
INSERT INTO quad_poly_tbl VALUES (11001, NULL), (11002, NULL), (11003, NULL)
SELECT count(*) FROM quad_poly_tbl WHERE p &< polygon '((300,300),(400,600),(600,500),(700,200))'
SELECT count(*) FROM quad_poly_tbl WHERE p &> polygon '((300,300),(400,600),(600,500),(700,200))'
SELECT count(*) FROM quad_poly_tbl WHERE p <<| polygon '((300,300),(400,600),(600,500),(700,200))'
SELECT count(*) FROM quad_poly_tbl WHERE p |&> polygon '((300,300),(400,600),(600,500),(700,200))'
SELECT count(*) FROM quad_poly_tbl WHERE p <@ polygon '((300,300),(400,600),(600,500),(700,200))'
SELECT count(*) FROM quad_poly_tbl WHERE p ~= polygon '((200, 300),(210, 310),(230, 290))'
insert into t values(1,array[1],'a')
select f3, myaggp03b(*) from t group by f3 order by f3
select f3, myaggp09b(f1) from t group by f3 order by f3
select f3, myaggn01b(*) from t group by f3 order by f3
select f3, myaggn05b(f1) from t group by f3 order by f3
select distinct array_ndims(histogram_bounds) from pg_stats where histogram_bounds is not null
select * from dfview
SELECT name, statement, is_holdable, is_binary, is_scrollable FROM pg_cursors
SELECT name FROM pg_cursors ORDER BY 1
SELECT * FROM uctest
UPDATE uctest SET f1 = 8 WHERE CURRENT OF c1
INSERT INTO uctest VALUES (10, 'ten')
INSERT INTO ucchild values(100, 'hundred')
DELETE FROM uctest WHERE CURRENT OF c
DELETE FROM ucview WHERE CURRENT OF c1
SELECT stringu1 FROM onek WHERE stringu1 = 'DZAAAA'
DELETE FROM current_check WHERE CURRENT OF c1 RETURNING *
INSERT INTO cursor VALUES (1)
insert into toasted_data select array_agg(i) from generate_series(12345678, 12345678 + 1000) i
SELECT name, statement, parameter_types FROM pg_prepared_statements ORDER BY name
INSERT INTO pxtest1 VALUES ('aaa')
SELECT gid FROM pg_prepared_xacts
INSERT INTO atest1 VALUES (1, 'one')
INSERT INTO atest2 VALUES ('foo', true)
UPDATE atest1 SET a = 1 WHERE a = 2
UPDATE atest2 SET col2 = true
DELETE FROM pg_catalog.pg_class
UPDATE atest2 SET col2 = NULL
INSERT INTO atest5 VALUES (1,2,3)
UPDATE atest5 SET three = 10
UPDATE atest5 SET three = 5, one = 2
INSERT INTO atest5(two) VALUES (6) ON CONFLICT (two) DO UPDATE set three = 10 RETURNING atest5.three
INSERT INTO atest5(two) VALUES (6) ON CONFLICT (two) DO UPDATE set three = EXCLUDED.one
INSERT INTO atest5(two) VALUES (6) ON CONFLICT (two) DO UPDATE set one = 8
INSERT INTO atest5(four) VALUES (4)
INSERT INTO atest5(four) VALUES (4) ON CONFLICT ON CONSTRAINT atest5_four_key DO UPDATE set three = 3
INSERT INTO msource VALUES (1, 'source1'), (2, 'source2'), (3, 'source3')
MERGE INTO mtarget t USING msource s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 'x' WHEN NOT MATCHED THEN INSERT VALUES (a, b)
MERGE INTO mtarget t USING msource s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = 'ok' WHEN NOT MATCHED THEN INSERT VALUES (a, NULL)
MERGE INTO mtarget t USING msource s ON t.a = s.a WHEN MATCHED THEN UPDATE SET b = t.b WHEN NOT MATCHED THEN INSERT VALUES (a, NULL)
MERGE INTO mtarget t USING msource s ON t.a = s.a WHEN MATCHED AND t.b IS NOT NULL THEN UPDATE SET b = s.b WHEN NOT MATCHED THEN INSERT VALUES (a, b)
MERGE INTO mtarget t USING msource s ON t.a = s.a WHEN MATCHED AND t.b IS NOT NULL THEN DELETE
INSERT INTO t1 (c1, c2) VALUES (1, 1)
INSERT INTO t1 (c1, c2) VALUES (null, null)
INSERT INTO t1 (c1) VALUES (5)
INSERT INTO errtst (a, b) VALUES ('aaa', NULL)
UPDATE errtst SET a = 'aaa', b = NULL
DELETE FROM atest5 WHERE one = 1
SELECT fy FROM atestc
UPDATE atestp1 SET f1 = 1
select has_table_privilege(t2.oid,'pg_authid','update') from (select oid from pg_roles where rolname = current_user) as t2
select has_table_privilege(t2.oid,t1.oid,'select') from (select oid from pg_class where relname = 'pg_authid') as t1, (select oid from pg_roles where rolname = current_user) as t2
INSERT INTO sro_tab VALUES (1), (2), (3)
SELECT oid, pg_get_userbyid(lomowner) ownername, lomacl FROM pg_largeobject_metadata WHERE oid >= 1000 AND oid < 3000 ORDER BY oid
SELECT backend_type FROM pg_stat_activity WHERE CASE WHEN COALESCE(usesysid, 10) = 10 THEN terminate_nothrow(pid) END
SELECT count(*) FROM pg_shdepend WHERE deptype = 'a' AND refobjid = 'regress_priv_user2'::regrole AND classid = 'pg_default_acl'::regclass
SELECT nspname, rolname FROM pg_namespace, pg_roles WHERE pg_namespace.nspname = 'testns' AND pg_namespace.nspowner = pg_roles.oid
SELECT COUNT(*) >= 0 AS ok FROM pg_shmem_allocations
INSERT INTO ac_test VALUES (1)
INSERT INTO oer_test VALUES (1)
SELECT * FROM notexists
SELECT * FROM bla ORDER BY 1
SELECT v, EXTRACT(year FROM d), count(*) FROM ctv_data GROUP BY 1, 2 ORDER BY 1, 2
SELECT obj_description(p.oid, 'pg_publication') FROM pg_publication p
UPDATE testpub_parted1 SET a = 1
UPDATE rf_tbl_abcd_pk SET a = 1
UPDATE rf_tbl_abcd_part_pk SET a = 1
INSERT INTO testpub_tbl4 values(1)
UPDATE pub_test.testpub_addpk SET id = 2
UPDATE pub_test1.tbl SET id = 2
UPDATE pub_testpart2.child_parent1 set a = 1
SELECT * FROM pg_publication_tables
INSERT INTO testpub_insert_onconfl_no_ri VALUES (1, 1) ON CONFLICT DO NOTHING
INSERT INTO testpub_insert_onconfl_parted VALUES (1, 1) ON CONFLICT DO NOTHING
MERGE INTO testpub_merge_no_ri USING testpub_merge_pk s ON s.a >= 1 WHEN MATCHED THEN DELETE
MERGE INTO testpub_merge_pk USING testpub_merge_no_ri s ON s.a >= 1 WHEN MATCHED AND s.a > 0 THEN UPDATE SET b = s.b WHEN MATCHED THEN DELETE
(SELECT unique1 AS random FROM onek ORDER BY random() LIMIT 1) INTERSECT (SELECT unique1 AS random FROM onek ORDER BY random() LIMIT 1) INTERSECT (SELECT unique1 AS random FROM onek ORDER BY random() LIMIT 1)
SELECT random, count(random) FROM RANDOM_TBL GROUP BY random HAVING count(random) > 3
INSERT INTO rngfunc2 VALUES(1, 11)
select definition from pg_views where viewname='vw_ord'
select * from rows from(unnest(array[10,20],array['foo','bar'],array[1.0])) with ordinality as z(a,b,c,ord)
INSERT INTO rngfunc VALUES(1,1,'Joe')
SELECT * FROM ROWS FROM( getrngfunc6(1) AS (rngfuncid int, rngfuncsubid int, rngfuncname text) ) WITH ORDINALITY
select * from rows from(getrngfunc9(1),getrngfunc8(1), getrngfunc7(1) AS (rngfuncid int, rngfuncsubid int, rngfuncname text), getrngfunc6(1) AS (rngfuncid int, rngfuncsubid int, rngfuncname text), getrngfunc5(1),getrngfunc4(1),getrngfunc3(1),getrngfunc2(1),getrngfunc1(1)) with ordinality as t1(a,b,c,d,e,f,g,h,i,j,k,l,m,o,p,q,r,s,t,u)
select * from tt_log
SELECT * FROM ROWS FROM(generate_series(10,11), get_users()) WITH ORDINALITY
select * from usersview
with a(b) as (values (row(1,2,3))) select * from a, coalesce(b) as c(d int, e int, f int, g int)
INSERT INTO numrange_test VALUES('[,)')
INSERT INTO numrange_test VALUES(numrange(1.7, 1.7, '[]'))
SELECT nr, lower_inc(nr), lower_inf(nr), upper_inc(nr), upper_inf(nr) FROM numrange_test
SELECT * FROM numrange_test WHERE nr @> numrange(1.0,10000.1)
SELECT * FROM numrange_test WHERE 1.9 <@ nr
select * from numrange_test where nr < 'empty'
select * from numrange_test where nr < numrange(0.0, 1.0,'[]')
select * from numrange_test where nr >= 'empty'
select * from numrange_test where nr > numrange(-1001.0, -1000.0,'[]')
select range_intersect_agg(nr) from numrange_test
select range_intersect_agg(nr) from numrange_test where nr @> 4.0
INSERT INTO numrange_test2 VALUES(numrange(1.1, 2.2))
select * from numrange_test natural join numrange_test2 order by nr
INSERT INTO textrange_test VALUES(textrange('b', 'g'))
SELECT tr, isempty(tr), lower(tr), upper(tr) FROM textrange_test
SELECT * FROM textrange_test WHERE range_contains(tr, textrange('f', 'fx'))
SELECT * FROM textrange_test WHERE range_contained_by(textrange('0','9'), tr)
select * from textrange_test where tr = 'empty'
insert into test_range_gist select int4range(g, g+10) from generate_series(1,2000) g
insert into test_range_gist select int4range(NULL,g*10,'(]') from generate_series(1,100) g
select count(*) from test_range_gist where ir @> 'empty'::int4range
select count(*) from test_range_gist where ir @> 10
select count(*) from test_range_gist where ir && int4range(10,20)
select count(*) from test_range_gist where ir << int4range(100,500)
select count(*) from test_range_gist where ir &< int4range(100,500)
select count(*) from test_range_gist where ir -|- int4range(100,500)
select count(*) from test_range_gist where ir @> int4multirange(int4range(10,20), int4range(30,40))
select count(*) from test_range_gist where ir <@ '{(10,30),(40,60),(70,90)}'::int4multirange
select count(*) from test_range_gist where ir >> int4multirange(int4range(100,200), int4range(400,500))
select count(*) from test_range_gist where ir &> int4multirange(int4range(100,200), int4range(400,500))
insert into test_range_spgist select int4range(g, g+10) from generate_series(1,2000) g
insert into test_range_spgist select int4range(NULL,g*10,'(]') from generate_series(1,100) g
select count(*) from test_range_spgist where ir @> 'empty'::int4range
select count(*) from test_range_spgist where ir @> 10
select count(*) from test_range_spgist where ir && int4range(10,20)
select count(*) from test_range_spgist where ir << int4range(100,500)
select count(*) from test_range_spgist where ir &< int4range(100,500)
select count(*) from test_range_spgist where ir -|- int4range(100,500)
insert into test_range_elem select i from generate_series(1,100) i
select count(*) from test_range_elem where int4range(i,i+10) <@ int4range(10,30)
insert into float8range_test values(float8range(-100.00007, '1.111113e9'), 42)
SELECT reloptions FROM pg_class WHERE oid = 'reloptions_test'::regclass
INSERT INTO reloptions_test VALUES (1, NULL), (NULL, NULL)
SELECT reloptions FROM pg_class WHERE oid = :toast_oid
SELECT reloptions FROM pg_class WHERE oid = 'reloptions_test_idx3'::regclass;
SELECT count(*) FROM pg_index WHERE indrelid = 'test_replica_identity'::regclass AND indisreplident
UPDATE foo SET f2 = lower(f2), f3 = DEFAULT RETURNING foo.*, f1+f3 AS sum13
INSERT INTO foo SELECT f1+10, f2, f3+99 FROM foo RETURNING *, f1+112 IN (SELECT q1 FROM int8_tbl) AS subplan, EXISTS(SELECT * FROM int4_tbl) AS initplan
DELETE FROM foo WHERE f1 > 10 RETURNING *, f1+112 IN (SELECT q1 FROM int8_tbl) AS subplan, EXISTS(SELECT * FROM int4_tbl) AS initplan
DELETE FROM foo USING int4_tbl i WHERE foo.f1 + 123455 = i.f1 RETURNING foo.*, i.f1 as "i.f1"
SELECT * FROM foochild
UPDATE foo SET f3 = f3*2 FROM int8_tbl i WHERE foo.f1 = i.q2 RETURNING *
INSERT INTO voo VALUES(11,'zit')
INSERT INTO voo VALUES(14,'zoo2') RETURNING *
update voo set f1 = f1 + 1 where f2 = 'zoo2' RETURNING *, f1*2
DELETE FROM foo WHERE f2 = 'zit' RETURNING *
UPDATE foo SET f2 = foo_f.f2 FROM foo_f() WHERE foo_f.f1 = foo.f1 RETURNING foo_f
SELECT * FROM joinview
INSERT INTO foo AS bar DEFAULT VALUES RETURNING *
INSERT INTO foo AS bar DEFAULT VALUES RETURNING bar.*
INSERT INTO uaccount VALUES ('regress_rls_alice', 99), ('regress_rls_bob', 1), ('regress_rls_carol', 2), ('regress_rls_dave', 3)
SELECT * FROM pg_policies WHERE schemaname = 'regress_rls_schema' AND tablename = 'document' ORDER BY policyname
SELECT * FROM document NATURAL JOIN category WHERE f_leak(dtitle) ORDER BY did
INSERT INTO document VALUES (100, 44, 1, 'regress_rls_dave', 'testing sorting of policies')
DELETE FROM category WHERE cid = 33
SELECT * FROM document WHERE did = 8
SELECT * FROM document
SELECT * FROM pg_policies WHERE schemaname = 'regress_rls_schema' AND tablename like '%part_document%' ORDER BY policyname
INSERT INTO part_document VALUES (100, 11, 5, 'regress_rls_dave', 'testing pp1')
SELECT * FROM part_document_satire WHERE f_leak(dtitle) ORDER BY did
SELECT * FROM part_document_satire ORDER by did
INSERT INTO s1 VALUES (1, 'foo')
UPDATE only t1 SET b = b || '_updt' WHERE f_leak(b)
UPDATE t1 SET b = b WHERE f_leak(b) RETURNING *
UPDATE t2 SET b=t2.b FROM t3 WHERE t2.a = 3 and t3.a = 2 AND f_leak(t2.b) AND f_leak(t3.b)
DELETE FROM only t1 WHERE f_leak(b) RETURNING tableoid::regclass, *, t1
INSERT INTO b1 (SELECT x, md5(x::text) FROM generate_series(-10,10) x)
INSERT INTO bv1 VALUES (11, 'xxx')
DELETE FROM bv1 WHERE a = 6 AND f_leak(b)
INSERT INTO document VALUES (2, (SELECT cid from category WHERE cname = 'novel'), 1, 'regress_rls_bob', 'my first novel') ON CONFLICT (did) DO UPDATE SET dtitle = EXCLUDED.dtitle RETURNING *
INSERT INTO document VALUES (2, (SELECT cid from category WHERE cname = 'technology'), 1, 'regress_rls_bob', 'my first novel') ON CONFLICT (did) DO UPDATE SET cid = EXCLUDED.cid, dtitle = EXCLUDED.dtitle RETURNING *
INSERT INTO document VALUES (4, (SELECT cid from category WHERE cname = 'novel'), 1, 'regress_rls_bob', 'my first novel') ON CONFLICT (did) DO UPDATE SET dtitle = EXCLUDED.dtitle
MERGE INTO document d USING (SELECT 1 as sdid) s ON did = s.sdid WHEN MATCHED THEN UPDATE SET dnotes = dnotes || ' notes added by merge1 ', dlevel = 0
MERGE INTO document d USING (SELECT 3 as sdid) s ON did = s.sdid WHEN MATCHED THEN DELETE
MERGE INTO document d USING (SELECT 4 as sdid) s ON did = s.sdid WHEN MATCHED AND dnotes <> '' THEN UPDATE SET dnotes = dnotes || ' notes added by merge ' WHEN MATCHED THEN DELETE
MERGE INTO document d USING (SELECT 12 as sdid) s ON did = s.sdid WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (12, 11, 1, 'regress_rls_dave', 'another novel')
MERGE INTO document d USING (SELECT 1 as sdid) s ON did = s.sdid WHEN MATCHED THEN UPDATE SET dnotes = dnotes || ' notes added by merge6 ', cid = (SELECT cid from category WHERE cname = 'technology')
SELECT * FROM rls_view
INSERT INTO x1 VALUES (1, 'abc', 'regress_rls_bob'), (2, 'bcd', 'regress_rls_bob'), (3, 'cde', 'regress_rls_carol'), (4, 'def', 'regress_rls_carol'), (5, 'efg', 'regress_rls_bob'), (6, 'fgh', 'regress_rls_bob'), (7, 'fgh', 'regress_rls_carol'), (8, 'fgh', 'regress_rls_carol')
DELETE FROM x1 WHERE f_leak(b) RETURNING *
INSERT INTO test_qual_pushdown VALUES ('abc'),('def')
WITH cte1 AS MATERIALIZED (SELECT * FROM t1 WHERE f_leak(b)) SELECT * FROM cte1
WITH cte1 AS (UPDATE t1 SET a = a RETURNING *) SELECT * FROM cte1
SELECT polname, relname FROM pg_policy pol JOIN pg_class pc ON (pc.oid = pol.polrelid) WHERE relname = 't1'
INSERT INTO blog VALUES (1, 'alice', 'blog #1'), (2, 'bob', 'blog #1'), (3, 'alice', 'blog #2'), (4, 'alice', 'blog #3'), (5, 'john', 'blog #1')
SELECT id, author, message FROM blog JOIN comment ON id = blog_id
INSERT INTO copy_t (SELECT x, md5(x::text) FROM generate_series(0,10) x)
INSERT INTO copy_rel_to_child VALUES (1, 'one'), (2, 'two')
UPDATE current_check SET payload = payload || '_new' WHERE currentid = 2 RETURNING *
DELETE FROM current_check WHERE CURRENT OF current_check_cursor RETURNING *
SELECT (string_to_array(polqual, ':'))[7] AS inputcollid FROM pg_policy WHERE polrelid = 'coll_t'::regclass
SELECT refclassid::regclass, deptype FROM pg_depend WHERE classid = 'pg_policy'::regclass AND refobjid = 'tbl1'::regclass
INSERT INTO r1 VALUES (10), (20)
UPDATE r2 SET a = 2 RETURNING *
INSERT INTO r1 SELECT a + 1 FROM r2 RETURNING *
DELETE FROM r1 USING r2 WHERE r1.a = r2.a + 2 RETURNING *
INSERT INTO r1 VALUES (10), (20) RETURNING *
INSERT INTO r1 VALUES (10) ON CONFLICT (a) DO UPDATE SET a = 30 RETURNING *
INSERT INTO r1 VALUES (10) ON CONFLICT ON CONSTRAINT r1_pkey DO UPDATE SET a = 30
SELECT count(*) = 1 FROM pg_shdepend WHERE objid = (SELECT oid FROM pg_policy WHERE polname = 'dep_p1') AND refobjid = (SELECT oid FROM pg_authid WHERE rolname = 'regress_rls_bob')
INSERT INTO rls_tbl VALUES (10)
SELECT * FROM rls_tbl
SELECT * FROM rls_tbl WHERE a <<< 1000
INSERT INTO rls_ptbl SELECT x/10 FROM generate_series(1, 100) x
SELECT * FROM rls_ptbl WHERE a <<< 1000
SELECT * FROM (SELECT * FROM rls_tbl UNION ALL SELECT * FROM rls_tbl) t WHERE a <<< 1000
SELECT * FROM rls_tbl_view WHERE a <<< 1000
INSERT INTO rls_tbl SELECT * FROM (SELECT b, c FROM rls_tbl ORDER BY a) ss
insert into quadtable values (1, ((3.3,4.4),(5.5,6.6)))
select * from quadtable
select f1, (q).c1, (qq.q).c1.i from quadtable qq
select * from people
insert into quadtable (f1, q.c1.r, q.c2.i) values(44,55,66)
update quadtable set q.c1 = 12
insert into people select ('Jim', f1, null)::fullname, current_date from pp
update people set fn.first = 'Jack'
insert into test_table select 'a', null from generate_series(1,1000)
select * from cc order by f1
UPDATE price SET active = true, price = input_prices.price FROM unnest(ARRAY[(10, 123.00), (11, 99.99)]::price_input[]) input_prices WHERE price_key_from_table(price.*) = price_key_from_input(input_prices.*)
select cast (fullname as text) from fullname
select text(fullname) from fullname
insert into fullname values ('Joe', 'Blow')
select last(f) from fullname f
select longname(f) from fullname f
with r(a,b) as materialized (values (1,row(1,2)), (1,row(null,null)), (1,null), (null,row(1,2)), (null,row(null,null)), (null,null) ) select r, r is null as isnull, r is not null as isnotnull from r
INSERT INTO compositetable(a, b) VALUES('fa', 'fb')
SELECT (d).a, (d).b FROM (SELECT compositetable AS d FROM compositetable) s
update rtest_admin set sysname = new.sysname where sysname = old.sysname )
insert into rtest_t2 values (1, 21)
delete from rtest_v1 where a = 1
delete from rtest_v1
insert into rtest_v1 (b, a) select b, a from rtest_t2
update rtest_t1 set a = a + 10 where b isnull
update rtest_v1 set b = 42 where a = 2
update rtest_v1 set b = 88 where b < 50
update rtest_v1 set b = rtest_t2.b from rtest_t2 where rtest_v1.a = rtest_t2.a
update rtest_v1 set a = rtest_t3.a + 20 from rtest_t3 where rtest_v1.b = rtest_t3.b
insert into rtest_interface values ('orion', 'eth0')
insert into rtest_admin values ('jw', 'orion')
select * from rtest_interface
update rtest_person set pname = 'jwieck' where pdesc = 'Jan Wieck'
delete from rtest_system where sysname = 'orion'
update rtest_emp set ename = 'wiecx' where ename = 'wiecc'
update rtest_emp set salary = '7000.00' where ename = 'wieck'
select ename, who = current_user as "matches user", action, newsal, oldsal from rtest_emplog order by ename, action, newsal
insert into rtest_emp select * from rtest_empmass
update rtest_emp set salary = rtest_empmass.salary from rtest_empmass where rtest_emp.ename = rtest_empmass.ename
delete from rtest_t4
insert into rtest_t4 select * from rtest_t9 where b ~ 'and t8'
insert into rtest_order1 values (1)
insert into rtest_nothn1 values (10, 'don''t want this')
insert into rtest_nothn1 select * from rtest_nothn4
insert into rtest_view2 values (2)
delete from rtest_view3
insert into rtest_view3 select * from rtest_vview3
insert into rtest_view4 select * from rtest_vview5 where a > 2 and refcount = 0
insert into rtest_comp values ('p1', 'm', 5.0)
select * from rtest_vcomp where size_in_cm > 10.0 order by size_in_cm using >
INSERT INTO shoe_data VALUES ('sh1', 2, 'black', 70.0, 90.0, 'cm')
INSERT INTO shoelace_data VALUES ('sl3', 0, 'black', 35.0 , 'inch')
SELECT * FROM shoelace ORDER BY sl_name
UPDATE shoelace_data SET sl_avail = 6 WHERE  sl_name = 'sl7'
INSERT INTO shoelace_arrive VALUES ('sl3', 10)
SELECT * FROM shoelace_log ORDER BY sl_name
insert into shoelace values ('sl10', 1000, 'magenta', 40.0, 'inch', 0.0) on conflict do nothing
SELECT * FROM shoelace_candelete
SELECT * FROM shoe ORDER BY shoename
insert into rules_foo values(1)
insert into pparent values (1,'parent1')
update cchild set descrip = new.descrip where cchild.pid = old.pid
select * from cchild
SELECT tablename, rulename, definition FROM pg_rules WHERE schemaname = 'pg_catalog' ORDER BY tablename, rulename
insert into rule_and_refint_t1 values (1, 11)
insert into rule_and_refint_t3 values (1, 13, 11, 'row6') on conflict do nothing
insert into shoelace values ('sl9', 0, 'pink', 35.0, 'inch', 0.0) on conflict (sl_name) do update set sl_avail = excluded.sl_avail
select * from rules_fooview
insert into test_1 (name) values ('Test 1')
update id_ordered set name = 'update 2' where id = 2
update t1 set a = 4 where a = 5
select * from only t1_1
update rules_base set f2 = f2 + 1
update rules_src set f2 = f2 + 1
select * from rules_src
update rules_src set f2 = f2 / 10
INSERT INTO rule_v1 VALUES (1, 'a'), (2, 'b')
INSERT INTO rule_v1 VALUES(1)
INSERT INTO hats VALUES ('h7', 'black') RETURNING *
SELECT * FROM hat_data WHERE hat_name = 'h8'
SELECT * FROM hat_data WHERE hat_name IN ('h8', 'h9', 'h7') ORDER BY hat_name
INSERT INTO ruletest1 VALUES (1)
SELECT relname, nspname FROM pg_class c LEFT JOIN pg_namespace n ON n.oid = relnamespace JOIN pg_attribute a ON (attrelid = c.oid AND attname = 'oid') WHERE relkind = 'r' and c.oid < 16384 AND ((nspname ~ '^pg_') IS NOT FALSE) AND NOT EXISTS (SELECT 1 FROM pg_index i WHERE indrelid = c.oid AND indkey[0] = a.attnum AND indnatts = 1 AND indisunique AND indimmediate)
SELECT * FROM onek WHERE onek.unique1 < 10 ORDER BY onek.unique1
SELECT onek.unique1, onek.stringu1 FROM onek WHERE onek.unique1 > 980 ORDER BY stringu1 using <
SELECT onek.unique1, onek.string4 FROM onek WHERE onek.unique1 > 980 ORDER BY string4 using >, unique1 using <
SELECT onek.unique1, onek.string4 FROM onek WHERE onek.unique1 < 20 ORDER BY unique1 using <, string4 using >
SELECT p.name, p.age FROM person* p ORDER BY age using >, name
select * from onek, (values ((select i from (values(10000), (2), (389), (1000), (2000), ((select 10029))) as foo(i) order by i asc limit 1))) bar (i) where onek.unique1 = bar.i
INSERT INTO nocols DEFAULT VALUES
INSERT INTO foo VALUES (42),(3),(10),(7),(null),(null),(1)
SELECT * FROM foo ORDER BY f1 ASC
SELECT * FROM foo ORDER BY f1 DESC
SELECT DISTINCT two FROM onek ORDER BY 1
SELECT DISTINCT string4 FROM onek ORDER BY 1
SELECT DISTINCT p.age FROM person* p ORDER BY age using >
INSERT INTO DISTTABLE VALUES(NULL)
SELECT f1, f1 IS DISTINCT FROM NULL as "not null" FROM disttable
SELECT f1, f1 IS DISTINCT FROM f1+1 as "not null" FROM disttable
SELECT null IS DISTINCT FROM null as "no"
SELECT null IS NOT DISTINCT FROM null as "yes";
SELECT DISTINCT ON (string4, ten) string4, two, ten FROM onek ORDER BY string4 using <, two using <, ten using <
INSERT INTO test_having VALUES (0, 1, 'XXXX', 'A')
SELECT b, c FROM test_having GROUP BY b, c HAVING b = 3 ORDER BY b, c
SELECT c, max(a) FROM test_having GROUP BY c HAVING count(*) > 2 OR min(a) = max(a) ORDER BY c
SELECT min(a), max(a) FROM test_having HAVING min(a) < max(a)
SELECT 1 AS one FROM test_having HAVING a > 1
SELECT 1 AS one FROM test_having HAVING 1 < 2
INSERT INTO test_missing_target VALUES (0, 1, 'XXXX', 'A')
SELECT count(*) FROM test_missing_target GROUP BY test_missing_target.c ORDER BY c
SELECT count(*) FROM test_missing_target GROUP BY b ORDER BY b
SELECT c FROM test_missing_target ORDER BY a
SELECT count(*) FROM test_missing_target ORDER BY 1 desc
SELECT c, count(*) FROM test_missing_target GROUP BY 3
SELECT a, a FROM test_missing_target ORDER BY a
SELECT a/2, a/2 FROM test_missing_target GROUP BY a/2 ORDER BY a/2
SELECT count(*) FROM test_missing_target x, test_missing_target y WHERE x.a = y.a GROUP BY x.b ORDER BY x.b
SELECT count(c) FROM test_missing_target GROUP BY lower(test_missing_target.c) ORDER BY lower(test_missing_target.c)
SELECT count(b) FROM test_missing_target GROUP BY b/2 ORDER BY b/2
SELECT a FROM test_missing_target ORDER BY upper(d)
SELECT count(x.a) FROM test_missing_target x, test_missing_target y WHERE x.a = y.a GROUP BY b/2 ORDER BY b/2
SELECT count(b) FROM test_missing_target x, test_missing_target y WHERE x.a = y.a GROUP BY x.b/2
INSERT INTO selinto_schema.tbl_withdata1 VALUES (4)
SELECT * FROM ctas_nodata
INSERT INTO int4_tbl SELECT 1 INTO f
insert into bmscantest select r, 'fooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooooo' FROM generate_series(1,100000) r
INSERT INTO fooarr VALUES('1', ARRAY[1,2], 'one')
DELETE FROM parallel_hang WHERE 380 <= i AND i <= 420
SELECT name, #thepath FROM iexit ORDER BY name COLLATE "C", 2
INSERT INTO customer VALUES (101, 'regress_alice', '+81-12-3456-7890', 'passwd123'), (102, 'regress_bob',   '+01-234-567-8901', 'beafsteak'), (103, 'regress_eve',   '+49-8765-43210',   'hamburger')
INSERT INTO credit_usage VALUES (101, '2011-09-15', 120), (101, '2011-10-05',  90), (101, '2011-10-18', 110), (101, '2011-10-21', 200), (101, '2011-11-10',  80), (102, '2011-09-22', 300), (102, '2011-10-12', 120), (102, '2011-10-28', 200), (103, '2011-10-15', 480)
SELECT * FROM my_property_secure WHERE f_leak(passwd)
SELECT * FROM my_property_secure v WHERE f_leak('passwd') AND f_leak(passwd)
SELECT * FROM my_credit_card_secure WHERE f_leak(cnum)
SELECT * FROM my_credit_card_usage_secure WHERE f_leak(cnum) AND ymd >= '2011-10-01' AND ymd < '2011-11-01'
INSERT INTO serialTest1 VALUES ('force', 100)
INSERT INTO serialTest2 (f1) VALUES ('test_defaults')
INSERT INTO serialTest2 (f1, f3) VALUES ('bogus', -32769)
SELECT * FROM foo_seq_new
SELECT * FROM information_schema.sequences WHERE sequence_name ~ ANY(ARRAY['sequence_test', 'serialtest']) ORDER BY sequence_name ASC
SELECT * FROM information_schema.sequences WHERE sequence_name IN ('sequence_test2', 'serialtest2_f2_seq', 'serialtest2_f3_seq', 'serialtest2_f4_seq', 'serialtest2_f5_seq', 'serialtest2_f6_seq') ORDER BY sequence_name ASC
delete from spgist_point_tbl where id < 5
insert into spgist_point_tbl (id, p) select g+100000, point(g*10+1, g*10+1) from generate_series(1, 10000) g
insert into spgist_box_tbl(b) select box(point(i,j),point(i+s,j+s)) from generate_series(1,100,5) i, generate_series(1,100,5) j, generate_series(1,10) s
insert into spgist_text_tbl (id, t) select g, 'f' || repeat('o', 100) || g from generate_series(1, 10000) g union all select g, 'baaaaaaaaaaaaaar' || g from generate_series(1, 1000) g
insert into spgist_domain_tbl values('fee'), ('fi'), ('fo'), ('fum')
insert into spgist_unlogged_tbl(b) select box(point(i,j)) from generate_series(1,100,5) i, generate_series(1,10,5) j
INSERT INTO trunc_stats_test1 DEFAULT VALUES
DELETE FROM trunc_stats_test1 WHERE id = 3
SELECT relname, n_tup_ins, n_tup_upd, n_tup_del, n_live_tup, n_dead_tup FROM pg_stat_user_tables WHERE relname like 'trunc_stats_test%' order by relname
SELECT st.heap_blks_read + st.heap_blks_hit >= pr.heap_blks + cl.relpages, st.idx_blks_read + st.idx_blks_hit >= pr.idx_blks + 1 FROM pg_statio_user_tables AS st, pg_class AS cl, prevstats AS pr WHERE st.relname='tenk2' AND cl.relname='tenk2'
SELECT funcname, calls FROM pg_stat_user_functions WHERE funcid = :stats_test_func1_oid
INSERT INTO drop_stats_test_xact DEFAULT VALUES
SELECT (n_tup_ins + n_tup_upd) > 0 AS has_data FROM pg_stat_all_tables WHERE relid = 'pg_shdescription'::regclass
SELECT sessions > :db_stat_sessions FROM pg_stat_database WHERE datname = (SELECT current_database())
SELECT wal_bytes > :wal_bytes_before FROM pg_stat_wal
SELECT stats_reset > :'archiver_reset_ts'::timestamptz FROM pg_stat_archiver
SELECT stats_reset > :'wal_reset_ts'::timestamptz FROM pg_stat_wal
SELECT stats_reset = :'bgwriter_reset_ts'::timestamptz FROM pg_stat_bgwriter
SELECT stats_reset > :'db_reset_ts'::timestamptz FROM pg_stat_database WHERE datname = (SELECT current_database())
SELECT pg_get_statisticsobjdef(oid) FROM pg_statistic_ext WHERE stxname = 'ab1_a_b_stats'
INSERT INTO ab1 SELECT a, a%23 FROM generate_series(1, 1000) a
INSERT INTO ab1 VALUES (1,1)
INSERT INTO stxdinh1 SELECT mod(a,100), mod(a,100) FROM generate_series(0, 999) a
INSERT INTO stxdinp SELECT 1, a/100, a/100 FROM generate_series(1, 999) a
SELECT stxkind FROM pg_statistic_ext WHERE stxname = 'ab1_exprstat_2'
INSERT INTO ndistinct (a, b, c, filler1) SELECT i/100, i/100, i/100, cash_words((i/100)::money) FROM generate_series(1,1000) s(i)
INSERT INTO ndistinct (a, b, c, filler1) SELECT mod(i,13), mod(i,17), mod(i,19), cash_words(mod(i,23)::int::money) FROM generate_series(1,1000) s(i)
INSERT INTO functional_dependencies (a, b, c, filler1) SELECT mod(i, 5), mod(i, 7), mod(i, 11), i FROM generate_series(1,1000) s(i)
INSERT INTO functional_dependencies (a, b, c, filler1) SELECT i, i, i, i FROM generate_series(1,5000) s(i)
SELECT * FROM check_estimated_rows('SELECT * FROM functional_dependencies WHERE a IN (1, 51) AND b IN (''1'', ''2'')')
SELECT dependencies FROM pg_stats_ext WHERE statistics_name = 'func_deps_stat'
INSERT INTO mcv_lists (a, b, c, filler1) SELECT mod(i,37), mod(i,41), mod(i,43), mod(i,47) FROM generate_series(1,5000) s(i)
INSERT INTO mcv_lists (a, b, c, ia, filler1) SELECT mod(i,100), mod(i,50), mod(i,25), array[mod(i,25)], i FROM generate_series(1,5000) s(i)
SELECT d.stxdmcv IS NOT NULL FROM pg_statistic_ext s, pg_statistic_ext_data d WHERE s.stxname = 'mcv_lists_stats' AND d.stxoid = s.oid
INSERT INTO mcv_lists (a, b, c) SELECT 1, 2, 3 FROM generate_series(1,1000) s(i)
INSERT INTO mcv_lists_uuid (a, b, c) SELECT md5(mod(i,100)::text)::uuid, md5(mod(i,50)::text)::uuid, md5(mod(i,25)::text)::uuid FROM generate_series(1,5000) s(i)
INSERT INTO mcv_lists_bool (a, b, c) SELECT (mod(i,2) = 0), (mod(i,4) = 0), (mod(i,8) = 0) FROM generate_series(1,10000) s(i)
INSERT INTO mcv_lists_partial (a, b, c) SELECT i, i, i FROM generate_series(0,99) s(i)
INSERT INTO expr_stats SELECT mod(i,10), mod(i,10), mod(i,10) FROM generate_series(1,1000) s(i)
INSERT INTO expr_stats_incompatible_test VALUES (1234,false), (5678,true)
INSERT INTO tststats.priv_test_tbl SELECT mod(i,5), mod(i,10) FROM generate_series(1,100) s(i)
SELECT * FROM tststats.priv_test_tbl
SELECT * FROM tststats.priv_test_tbl WHERE a <<< 0 AND b <<< 0
DELETE FROM tststats.priv_test_tbl WHERE a <<< 0 AND b <<< 0
SELECT * FROM tststats.priv_test_view t WHERE a <<< 0 AND (b <<< 0 OR t.* <<< (1, 1) IS NOT NULL)
SELECT * FROM tststats.priv_test_parent_tbl WHERE a <<< 0 AND b <<< 0
DELETE FROM tststats.priv_test_parent_tbl WHERE a <<< 0 AND b <<< 0
SELECT statistics_name, most_common_vals FROM pg_stats_ext x WHERE tablename = 'stats_ext_tbl' ORDER BY ROW(x.*)
SELECT CAST(f1 AS text) AS "text(char)" FROM CHAR_TBL
SELECT CAST(f1 AS char(10)) AS "char(text)" FROM TEXT_TBL
SELECT CAST(f1 AS varchar) AS "varchar(text)" FROM TEXT_TBL
SELECT * FROM texttest WHERE a LIKE '%1%'
insert into toasttest values(repeat('1234567890',10000))
SELECT substr(f1, 5, -1) from toasttest
SELECT substr(f1, 99995, 10) from toasttest
SELECT pg_relation_size(reltoastrelid) = 0 AS is_empty FROM pg_class where relname = 'toasttest'
INSERT INTO toasttest VALUES('x')
SELECT c FROM toasttest
INSERT INTO SUBSELECT_TBL VALUES (1, 2, 3)
SELECT * FROM SUBSELECT_TBL
SELECT f1 AS "Uncorrelated Field" FROM SUBSELECT_TBL WHERE f1 IN (SELECT f2 FROM SUBSELECT_TBL)
SELECT f1, f2 FROM SUBSELECT_TBL WHERE (f1, f2) NOT IN (SELECT f2, CAST(f3 AS int4) FROM SUBSELECT_TBL WHERE f3 IS NOT NULL)
SELECT f1 AS "Correlated Field", f3 AS "Second Field" FROM SUBSELECT_TBL upper WHERE f1 IN (SELECT f2 FROM SUBSELECT_TBL WHERE CAST(upper.f2 AS float) = f3)
SELECT f1 AS "Correlated Field" FROM SUBSELECT_TBL WHERE (f1, f2) IN (SELECT f2, CAST(f3 AS int4) FROM SUBSELECT_TBL WHERE f3 IS NOT NULL)
INSERT INTO foo VALUES (1)
SELECT * FROM foo WHERE id IN (SELECT id2 FROM (SELECT DISTINCT id1, id2 FROM bar) AS s)
SELECT * FROM foo WHERE id IN (SELECT id2 FROM (SELECT id1, id2 FROM bar UNION SELECT id1, id2 FROM bar) AS s)
SELECT * FROM foo WHERE id IN (SELECT id2 FROM (SELECT id2 FROM bar GROUP BY id2) AS s)
INSERT INTO orderstest VALUES (1, 1, false)
SELECT * FROM orders_view
insert into shipped_view (ordnum, partnum, value) values (0, 1, (select cost from parts where partnum = '1'))
update shipped_view set value = 11 from int4_tbl a join int4_tbl b on (a.f1 = (select f1 from int4_tbl c where c.f1=b.f1)) where ordnum = a.f1
insert into float_table values (1), (2), (3)
select * from numeric_table where num_col in (select float_col from float_table)
insert into tb values(1,1)
select ( select min(tb.id) from tb where tb.aval = (select ta.val from ta where ta.id = tc.aid) ) as min_tb_id from tc
select view_a from view_a
select (select (select view_a)) from view_a
with q as (select max(f1) from int4_tbl group by f1 order by f1) select q from q
insert into upsert values(1, 'val') on conflict (key) do update set val = 'not seen'
select * from upsert
insert into outer_7597 values (0, 0)
insert into inner_7597 values(0, null)
select * from int8_tbl where q1 in (select c1 from inner_text)
select * from exists_tbl t1 where (exists(select 1 from exists_tbl t2 where t1.c1 = t2.c2) or c3 < 0)
select count(*) from onek o cross join lateral ( select * from onek i1 where i1.unique1 = o.unique1 except select * from onek i2 where i2.unique1 = o.unique2 ) ss where o.ten = 1
insert into notinouter values (null), (1)
select exists(select * from nocolumns)
select * from (select pk,c2 from sq_limit order by c1,pk) as x limit 3
with recursive x(a) as ((values ('a'), ('b')) union all (with z as not materialized (select * from x) select z.a || z.a as a from z where length(z.a || z.a) < 5)) select * from x
select count(*) >= 0 as ok from pg_available_extensions
select count(*) > 20 as ok from pg_config
select count(*) >= 0 as ok from pg_file_settings
select count(*) >= 0 as ok, count(*) FILTER (WHERE error IS NOT NULL) = 0 AS no_err from pg_ident_file_mappings
select count(*) = 0 as ok from pg_prepared_statements
select count(*) > 0 as ok from pg_stat_slru
select count(*) = 0 as ok from pg_stat_wal_receiver
select count(distinct utc_offset) >= 24 as ok from pg_timezone_names
select count(distinct utc_offset) >= 24 as ok from pg_timezone_abbrevs;
SELECT t.id FROM test_tablesample AS t TABLESAMPLE SYSTEM (50) REPEATABLE (0)
SELECT id FROM test_tablesample TABLESAMPLE SYSTEM (50) REPEATABLE (0)
SELECT id FROM test_tablesample TABLESAMPLE BERNOULLI (5.5) REPEATABLE (0)
SELECT count(*) FROM test_tablesample TABLESAMPLE SYSTEM (100) REPEATABLE (1+2)
select count(*) from person tablesample bernoulli (100)
SELECT count(*) FROM test_tablesample TABLESAMPLE bernoulli (('1'::text < '0'::text)::int)
SELECT id FROM test_tablesample TABLESAMPLE SYSTEM (NULL)
SELECT id FROM test_tablesample TABLESAMPLE BERNOULLI (-1)
SELECT id FROM test_tablesample TABLESAMPLE SYSTEM (-1)
INSERT INTO test_tablesample_v1 VALUES(1)
SELECT q.* FROM (SELECT * FROM test_tablesample) as q TABLESAMPLE BERNOULLI (5)
INSERT INTO regress_tblspace_test_tbl (num1, num2, t) SELECT round(random()*100), random(), 'text' FROM generate_series(1, 10) s(i)
SELECT c.relname FROM pg_class c, pg_tablespace s WHERE c.reltablespace = s.oid AND s.spcname = 'regress_tblspace' ORDER BY c.relname
SELECT relfilenode = :toast_filenode as toast_same FROM pg_class WHERE oid = (SELECT i.indexrelid FROM pg_class c, pg_index i WHERE i.indrelid = c.reltoastrelid AND c.relname = 'regress_tblspace_test_tbl')
SELECT relname, spcname FROM pg_catalog.pg_tablespace t, pg_catalog.pg_class c where c.reltablespace = t.oid AND c.relname = 'foo'
SELECT relname, spcname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON (c.relnamespace = n.oid) LEFT JOIN pg_catalog.pg_tablespace t ON c.reltablespace = t.oid where c.relname LIKE 'part%' AND n.nspname = 'testschema' order by relname
INSERT INTO testschema.test_default_tab VALUES (1)
INSERT INTO testschema.test_default_tab_p VALUES (1)
INSERT INTO testschema.test_tab VALUES (1)
INSERT INTO testschema.atable VALUES(3)
SELECT COUNT(*) FROM testschema.amv
INSERT INTO temptest VALUES (1)
INSERT INTO temptest1 VALUES (1)
insert into whereami values ('temp')
insert into temp_parted_oncommit values (1)
insert into temp_parted_oncommit_test values (1), (2)
select * from temp_parted_oncommit_test
insert into temp_inh_oncommit_test1 values (1)
select * from temp_inh_oncommit_test
insert into twophase_tab values (1)
INSERT INTO FLOAT8_TBL(f1) VALUES ('0.0'), ('-34.84'), ('-1004.30'), ('-1.2345678901234e+200'), ('-1.2345678901234e-200')
INSERT INTO TEXT_TBL VALUES ('doh!'), ('hi de ho neighbor')
INSERT INTO ihighway SELECT * FROM ONLY road WHERE name ~ 'I- .*'
SELECT * FROM TEXT_TBL
SELECT min(ctid) FROM tid_tab
INSERT INTO tid_tab VALUES (1)
SELECT ctid FROM tidrangescan WHERE ctid > '(9, 0)'
SELECT ctid FROM tidrangescan WHERE ctid <= '(1,5)'
SELECT ctid FROM tidrangescan WHERE ctid >= '(2,8)'
SELECT ctid FROM tidrangescan WHERE '(1,7)' >= ctid AND ctid > '(1,4)'
SELECT ctid FROM tidrangescan WHERE ctid < '(0,0)' LIMIT 1
SELECT t.ctid,t2.c FROM tidrangescan t, LATERAL (SELECT count(*) c FROM tidrangescan t2 WHERE t2.ctid <= t.ctid) t2 WHERE t.ctid < '(1,0)'
SELECT ctid, * FROM tidscan
SELECT ctid, * FROM tidscan WHERE '(0,1)' = ctid
SELECT ctid, * FROM tidscan WHERE ctid = ANY(ARRAY['(0,1)', '(0,2)']::tid[])
SELECT ctid, * FROM tidscan WHERE (id = 3 AND ctid IN ('(0,2)', '(0,3)')) OR (ctid = '(0,1)' AND id = 1)
SELECT t1.ctid, t1.*, t2.ctid, t2.* FROM tidscan t1 LEFT JOIN tidscan t2 ON t1.ctid = t2.ctid WHERE t1.id = 1
SELECT * FROM tidscan WHERE ctid = '(0,1)'
INSERT INTO TIME_TBL VALUES ('00:00')
SELECT f1 AS "Three" FROM TIME_TBL WHERE f1 < '05:06:07'
SELECT f1 AS "None" FROM TIME_TBL WHERE f1 < '00:00'
SELECT f1 + time '00:01' AS "Illegal" FROM TIME_TBL
SELECT EXTRACT(MILLISECOND FROM TIME '2020-05-26 13:30:25.575401')
SELECT EXTRACT(MINUTE      FROM TIME '2020-05-26 13:30:25.575401')
SELECT EXTRACT(DAY         FROM TIME '2020-05-26 13:30:25.575401')
SELECT EXTRACT(TIMEZONE    FROM TIME '2020-05-26 13:30:25.575401')
INSERT INTO TIMESTAMP_TBL VALUES ('today')
SELECT count(*) AS Three FROM TIMESTAMP_TBL WHERE d1 = timestamp without time zone 'tomorrow'
SELECT count(*) AS two FROM TIMESTAMP_TBL WHERE d1 = timestamp(2) without time zone 'now'
SELECT d1 FROM TIMESTAMP_TBL
SELECT d1 FROM TIMESTAMP_TBL WHERE d1 < timestamp without time zone '1997-01-02'
SELECT d1 FROM TIMESTAMP_TBL WHERE d1 != timestamp without time zone '1997-01-02'
SELECT d1 FROM TIMESTAMP_TBL WHERE d1 >= timestamp without time zone '1997-01-02'
SELECT d1 - timestamp without time zone '1997-01-02' AS diff FROM TIMESTAMP_TBL WHERE d1 BETWEEN timestamp without time zone '1902-01-01' AND timestamp without time zone '2038-01-01'
SELECT d1 as "timestamp", date_part( 'quarter', d1) AS quarter, date_part( 'msec', d1) AS msec, date_part( 'usec', d1) AS usec FROM TIMESTAMP_TBL
SELECT d1 as "timestamp", date_part( 'decade', d1) AS decade, date_part( 'century', d1) AS century, date_part( 'millennium', d1) AS millennium, round(date_part( 'julian', d1)) AS julian, date_part( 'epoch', d1) AS epoch FROM TIMESTAMP_TBL
SELECT to_char(d1, 'DAY Day day DY Dy dy MONTH Month month RM MON Mon mon') FROM TIMESTAMP_TBL
SELECT count(*) AS One FROM TIMESTAMPTZ_TBL WHERE d1 = timestamp with time zone 'today'
SELECT count(*) AS two FROM TIMESTAMPTZ_TBL WHERE d1 = timestamp(2) with time zone 'now'
SELECT d1 FROM TIMESTAMPTZ_TBL
SELECT d1 FROM TIMESTAMPTZ_TBL WHERE d1 < timestamp with time zone '1997-01-02'
SELECT d1 FROM TIMESTAMPTZ_TBL WHERE d1 != timestamp with time zone '1997-01-02'
SELECT d1 FROM TIMESTAMPTZ_TBL WHERE d1 >= timestamp with time zone '1997-01-02'
SELECT d1 - timestamp with time zone '1997-01-02' AS diff FROM TIMESTAMPTZ_TBL WHERE d1 BETWEEN timestamp with time zone '1902-01-01' AND timestamp with time zone '2038-01-01'
SELECT d1 as timestamptz, date_part( 'quarter', d1) AS quarter, date_part( 'msec', d1) AS msec, date_part( 'usec', d1) AS usec FROM TIMESTAMPTZ_TBL
SELECT d1 as timestamptz, date_part( 'decade', d1) AS decade, date_part( 'century', d1) AS century, date_part( 'millennium', d1) AS millennium, round(date_part( 'julian', d1)) AS julian, date_part( 'epoch', d1) AS epoch FROM TIMESTAMPTZ_TBL
SELECT d1 as "timestamp", extract(microseconds from d1) AS microseconds, extract(milliseconds from d1) AS milliseconds, extract(seconds from d1) AS seconds, round(extract(julian from d1)) AS julian, extract(epoch from d1) AS epoch FROM TIMESTAMPTZ_TBL
INSERT INTO TIMESTAMPTZ_TST VALUES(1, 'Sat Mar 12 23:58:48 1000 IST')
WITH tzs (tz) AS (VALUES ('+1'), ('+1:'), ('+1:0'), ('+100'), ('+1:00'), ('+01:00'), ('+10'), ('+1000'), ('+10:'), ('+10:0'), ('+10:00'), ('+10:00:'), ('+10:00:1'), ('+10:00:01'), ('+10:00:10')) SELECT make_timestamptz(2010, 2, 27, 3, 45, 00, tz), tz FROM tzs
select * from tmptz where f1 at time zone 'utc' = '2017-01-18 00:00';
SELECT f1 AS "Time TZ" FROM TIMETZ_TBL
SELECT f1 AS "Seven" FROM TIMETZ_TBL WHERE f1 > '05:06:07-07'
SELECT f1 AS "Ten" FROM TIMETZ_TBL WHERE f1 >= '00:00-07'
SELECT EXTRACT(MICROSECOND FROM TIME WITH TIME ZONE '2020-05-26 13:30:25.575401-04')
SELECT EXTRACT(SECOND      FROM TIME WITH TIME ZONE '2020-05-26 13:30:25.575401-04')
SELECT EXTRACT(HOUR        FROM TIME WITH TIME ZONE '2020-05-26 13:30:25.575401-04')
SELECT EXTRACT(FORTNIGHT   FROM TIME WITH TIME ZONE '2020-05-26 13:30:25.575401-04')
SELECT EXTRACT(TIMEZONE_HOUR   FROM TIME WITH TIME ZONE '2020-05-26 13:30:25.575401-04:30')
SELECT EXTRACT(EPOCH       FROM TIME WITH TIME ZONE '2020-05-26 13:30:25.575401-04')
INSERT INTO xacttest VALUES (56, 7.8), (100, 99.097), (0, 0.09561), (42, 324.78)
SELECT a FROM xacttest WHERE a > 100
SELECT * FROM xacttest
SELECT * FROM writetest
DELETE FROM temptest
SELECT * FROM writetest, temptest
SELECT * FROM trans_bar
SELECT * FROM trans_baz
INSERT into trans_bar VALUES (1)
INSERT INTO savepoints VALUES (1)
DELETE FROM savepoints WHERE a=1
SELECT a FROM savepoints WHERE a in (9, 10, 11)
update xacttest set a = max_xacttest() + 10 where a > 0
insert into revalidate_bug values (1)
insert into trans_abc values (5)
SELECT * FROM trans_abc ORDER BY 1
insert into pkeys values (10, '1')
insert into fkeys values (10, '1', 2)
update pkeys set pkey1 = 7, pkey2 = '70' where pkey1 = 50 and pkey2 = '5'
insert into trigtest values(1, 'foo')
update trigtest set f2 = f2 || 'bar'
insert into trigtest values(1)
insert into tttest values (1, 1, null)
select * from tttest
select * from tttest where price_off = 999999
update tttest set price_id = 5 where price_id = 3
update tttest set price_on = -1 where price_id = 1
INSERT INTO main_table (a, b) VALUES (5, 10) ON CONFLICT (a) DO UPDATE SET b = EXCLUDED.b
UPDATE main_table SET a = a + 1 WHERE b < 30
SELECT trigger_name, event_manipulation, event_object_schema, event_object_table, action_order, action_condition, action_orientation, action_timing, action_reference_old_table, action_reference_new_table FROM information_schema.triggers WHERE event_object_table IN ('main_table') ORDER BY trigger_name COLLATE "C", 2
UPDATE main_table SET a = 50, b = 60
SELECT pg_get_triggerdef(oid, true) FROM pg_trigger WHERE tgrelid = 'main_table'::regclass AND tgname = 'modified_a'
SELECT count(*) FROM pg_trigger WHERE tgrelid = 'main_table'::regclass AND tgname = 'modified_a'
update table_with_oids set a = a + 1
UPDATE main_table SET a = 50
INSERT INTO some_t VALUES (TRUE)
UPDATE some_t SET some_col = FALSE
insert into trigtest2 values(1)
select *  from trigtest
update trigger_test set v = 'update' where i = 1
INSERT INTO trigger_test VALUES(1, 'foo', 'bar')
UPDATE trigger_test SET f3 = NULL
UPDATE serializable_update_tab SET description = 'no no', id = 1 WHERE id = 1
INSERT INTO min_updates_test VALUES ('a',1,2),('b','2',null)
UPDATE min_updates_test SET f2 = f2 + 1
SELECT * FROM min_updates_test
UPDATE main_table SET a = NEW.a, b = NEW.b WHERE a = OLD.a AND b = OLD.b
INSERT INTO main_view VALUES (20, 30)
UPDATE main_view SET b = 31 WHERE a = 20
UPDATE main_view SET b = 0 WHERE false
DELETE FROM main_view WHERE a = 31 RETURNING a, b
UPDATE city_table SET city_name = NEW.city_name, population = NEW.population, country_id = ctry_id WHERE city_id = OLD.city_id
INSERT INTO city_view(city_name, population) VALUES('London', 7556900) RETURNING *
INSERT INTO city_view(city_id, city_name) VALUES(123456, 'New York') RETURNING *
UPDATE city_view SET country_name = 'Japon' WHERE city_name = 'Tokyo'
UPDATE city_view SET population = 13010279 WHERE city_name = 'Tokyo' RETURNING *
UPDATE city_view SET continent = 'EU' WHERE continent = 'Europe' RETURNING *
DELETE FROM city_view WHERE city_name = 'Birmingham' RETURNING *
INSERT INTO european_city_view VALUES (0, 'x', 10000, 'y', 'z')
DELETE FROM european_city_view
UPDATE european_city_view SET country_name = 'UK' WHERE city_name = 'Cambridge'
UPDATE european_city_view SET population = 122800 WHERE city_name = 'Cambridge' RETURNING *
UPDATE city_view v SET population = 599657 FROM city_table ci, country_table co WHERE ci.city_name = 'Washington DC' and co.country_name = 'USA' AND v.city_id = ci.city_id AND v.country_name = co.country_name RETURNING co.country_id, v.country_name, v.city_id, v.city_name, v.population
insert into depth_b values (new.id)
delete from child where child.aid = new.aid and child.val1 = new.val1
select * from parent; select * from child
merge into parent p using (values (1)) as v(id) on p.aid = v.id when matched then update set val1 = 'b'
merge into parent p using (values (1)) as v(id) on p.aid = v.id when matched then delete
insert into self_ref_trigger values (2, 1, 'root child A')
select * from self_ref_trigger
update stmt_trig_on_empty_upd set a = a where false returning a+1 as aa
insert into trigger_ddl_table values (1, 42)
select tgrelid::regclass, tgname, tgfoid::regproc from pg_trigger where tgrelid::regclass::text like 'trigpart%' order by tgrelid::regclass::text
with ins (a) as ( insert into parted2_stmt_trig values (1), (2) returning a ) insert into parted_stmt_trig select a from ins returning tableoid::regclass, a
delete from parted_stmt_trig
insert into parted_trig values (50), (1500)
update parted_trig set a = 2 where a = 1
insert into parted_trig values (1), (2), (3)
insert into parted1_irreg values ('aardwolf', 2)
insert into parted values (1, 1, 'uno uno v1')
select tableoid::regclass, * from parted
update parted set a = a + 1
insert into parted_constr values (1, 'aardvark')
insert into parted_constr_ancestor values (3, 'aasvogel')
insert into parted_trigger values (0, 'a'), (1, 'bbb'), (2, 'bcd'), (3, 'c'), (1000, 'c'), (1001, 'ddd'), (1002, 'efg'), (1003, 'f'), (2000, 'e'), (2001, 'fff'), (2002, 'ghi'), (2003, 'h')
select tgname, conname, t.tgrelid::regclass, t.tgconstrrelid::regclass, c.conrelid::regclass, c.confrelid::regclass from pg_trigger t join pg_constraint c on (t.tgconstraint = c.oid) where tgname = 'parted_trigger' order by t.tgrelid::regclass::text
update parted_trigger set b = b || 'b'
select tgrelid::regclass, tgname, tgenabled from pg_trigger where tgrelid in ('parent'::regclass, 'child1'::regclass) order by tgrelid::regclass::text
select tgrelid::regclass, rtrim(tgname, '0123456789') as tgname, tgfoid::regproc, tgenabled from pg_trigger where tgrelid in ('parent'::regclass, 'child1'::regclass) order by tgrelid::regclass::text, tgfoid
SELECT tgrelid::regclass, tgenabled FROM pg_trigger WHERE tgrelid::regclass IN (SELECT oid from pg_class where relname LIKE 'trgfire%') ORDER BY tgrelid::regclass::text
insert into child1 values ('AAA', 42)
insert into parent values ('AAA', 42)
update trans_tab_parent set a = 'BBB2' where a = 'AAA1'
insert into child3 values ('CCC', 42, 'foo')
with wcte as (insert into table1 values (45)) merge into table1 using (values (46)) as v(a) on table1.a = v.a when not matched then insert values (v.a)
insert into my_table values (1, 'AAA'), (2, 'BBB'), (3, 'CCC'), (4, 'DDD') on conflict (a) do update set b = my_table.b || ':' || excluded.b
insert into iocdu_tt_parted values (1, 'AAA'), (2, 'BBB'), (3, 'CCC'), (4, 'DDD') on conflict (a) do update set b = iocdu_tt_parted.b || ':' || excluded.b
insert into trig_table values (1, 'one a'), (1, 'one b'), (2, 'two a'), (2, 'two b'), (3, 'three a'), (3, 'three b')
select * from trig_table
insert into trig_table values (1)
delete from self_ref where a = 1
insert into merge_source_table values (1, 'initial1'), (2, 'initial2'), (3, 'initial3'), (4, 'initial4')
merge into merge_target_table t using merge_source_table s on t.a = s.a when matched and s.a <= 2 then update set b = t.b || ' updated by merge' when matched and s.a > 2 then delete when not matched then insert values (a, b)
insert into parted_trig (a) values (50)
insert into convslot_test_child(col1) values ('1')
delete from convslot_test_parent
update convslot_test_parent set val = 3
INSERT INTO truncate_a VALUES (1)
INSERT INTO trunc_c VALUES (1)
INSERT INTO trunc_d VALUES (1)
SELECT * FROM truncate_a UNION ALL SELECT * FROM trunc_c UNION ALL SELECT * FROM trunc_b UNION ALL SELECT * FROM trunc_d
INSERT INTO trunc_f VALUES (1)
INSERT INTO trunc_fb VALUES (4, 444)
SELECT * FROM trunc_f
SELECT * FROM trunc_faa
INSERT INTO trunc_trigger_test VALUES(1, 'foo', 'bar'), (2, 'baz', 'quux')
SELECT * FROM trunc_trigger_log
INSERT INTO truncate_b DEFAULT VALUES
INSERT INTO truncparted VALUES (1, 'a')
INSERT INTO trunc_a VALUES (0), (5), (10), (15), (20), (25)
INSERT INTO ref_c VALUES (100, 10), (150, 15), (200, 20), (250, 25)
SELECT a as "from table trunc_a" FROM trunc_a ORDER BY a
SELECT to_tsvector('ispell_tst', 'Booking the skies after rebookings for footballklubber from a foot')
SELECT oid, dictname FROM pg_ts_dict WHERE dictnamespace = 0 OR dictowner = 0 OR dicttemplate = 0
SELECT oid, cfgname FROM pg_ts_config WHERE cfgnamespace = 0 OR cfgowner = 0 OR cfgparser = 0
SELECT * FROM ( SELECT oid AS cfgid, (ts_token_type(cfgparser)).tokid AS tokid FROM pg_ts_config ) AS tt RIGHT JOIN pg_ts_config_map AS m ON (tt.cfgid=m.mapcfg AND tt.tokid=m.maptokentype) WHERE tt.cfgid IS NULL OR tt.tokid IS NULL
SELECT count(*) FROM test_tsvector WHERE a @@ any ('{wr,qh}')
INSERT INTO test_tsvector VALUES ('???', 'DFG:1A,2B,6C,10 FGH')
SELECT * FROM ts_stat('SELECT a FROM test_tsvector', 'AB') ORDER BY ndoc DESC, nentry DESC, word
UPDATE test_tsquery SET sample = to_tsquery('english', txtsample::text)
SELECT COUNT(*) FROM test_tsquery WHERE keyword <= 'new <-> york'
SELECT COUNT(*) FROM test_tsquery WHERE keyword >= 'new <-> york'
SELECT ts_rewrite('moscow', 'SELECT keyword, sample FROM test_tsquery'::text )
SELECT keyword FROM test_tsquery WHERE keyword @> 'new'
SELECT ts_rewrite( query, 'SELECT keyword, sample FROM test_tsquery' ) FROM to_tsquery('english', 'moscow') AS query
INSERT INTO test_tsvector (t) VALUES ('345 qwerty')
insert into pendtest values (to_tsvector('Lore ipsam'))
insert into phrase_index_test values ('A fat cat has just eaten a rat.')
select * from phrase_index_test where fts @@ phraseto_tsquery('english', 'fat cat')
SELECT unnest(ARRAY[1, 2]) FROM few WHERE false
SELECT few.id, generate_series(1,3) g FROM few ORDER BY id DESC
SELECT few.id, generate_series(1,3) g FROM few ORDER BY id, generate_series(1,3) DESC
SELECT few.dataa, count(*), min(id), max(id), unnest('{1,1,3}'::int[]) FROM few WHERE few.id = 1 GROUP BY few.dataa
SELECT few.dataa, count(*), min(id), max(id), unnest('{1,1,3}'::int[]) FROM few WHERE few.id = 1 GROUP BY few.dataa, 5
SELECT dataa, generate_series(1,1), count(*) FROM few GROUP BY 1, 2 HAVING count(*) > 1
SELECT few.dataa, count(*) FROM few WHERE dataa = 'a' GROUP BY few.dataa, unnest('{1,1,3}'::int[]) ORDER BY 2
SELECT min(generate_series(1, 3)) OVER() FROM few
SELECT SUM(count(*)) OVER(PARTITION BY generate_series(1,3) ORDER BY generate_series(1,3)), generate_series(1,3) g FROM few GROUP BY g
SELECT dataa, datab b, generate_series(1,2) g, count(*) FROM few GROUP BY CUBE(dataa, datab)
SELECT dataa, datab b, generate_series(1,2) g, count(*) FROM few GROUP BY CUBE(dataa, datab) ORDER BY g
SELECT dataa, datab b, generate_series(1,2) g, count(*) FROM few GROUP BY CUBE(dataa, datab, g) ORDER BY dataa
select 'foo' as f, generate_series(1,2) as g from few order by 1
SELECT * FROM fewmore
INSERT INTO fewmore VALUES(1) RETURNING generate_series(1,3)
SELECT ts_delete(to_tsvector('english', 'Rebel spaceships, striking from a hidden base'), 'spaceship')
INSERT INTO abbrev_abort_uuids DEFAULT VALUES
SELECT abort_increasing, abort_decreasing FROM abbrev_abort_uuids ORDER BY abort_increasing OFFSET 20000 - 4
SELECT noabort_increasing, noabort_decreasing FROM abbrev_abort_uuids ORDER BY noabort_increasing OFFSET 20000 - 4
SELECT abort_increasing, noabort_increasing FROM abbrev_abort_uuids ORDER BY abort_increasing LIMIT 5
SELECT id, noabort_increasing, noabort_decreasing FROM abbrev_abort_uuids ORDER BY noabort_increasing LIMIT 5
SELECT id, abort_increasing, abort_decreasing FROM abbrev_abort_uuids ORDER BY abort_increasing LIMIT 5
SELECT id, abort_increasing, abort_decreasing, noabort_increasing, noabort_decreasing FROM abbrev_abort_uuids ORDER BY ctid LIMIT 5
INSERT INTO test_mark_restore(col1, col2, col12) SELECT a.i, b.i, a.i * b.i FROM generate_series(1, 500) a(i), generate_series(1, 5) b(i)
select snap from snapshot_test order by nr
select id, txid_visible_in_snapshot(id, snap) from snapshot_test, generate_series(11, 21) id where nr = 2
SELECT t1.oid, t1.typname FROM pg_type as t1 WHERE t1.typbyval AND (t1.typlen != 1 OR t1.typalign != 'c') AND (t1.typlen != 2 OR t1.typalign != 's') AND (t1.typlen != 4 OR t1.typalign != 'i') AND (t1.typlen != 8 OR t1.typalign != 'd')
SELECT t1.oid, t1.typname FROM pg_type as t1 WHERE (t1.typtype = 'c' AND t1.typrelid = 0) OR (t1.typtype != 'c' AND t1.typrelid != 0)
SELECT t1.oid, t1.typname FROM pg_type as t1 WHERE t1.typtype = 'r' AND NOT EXISTS(SELECT 1 FROM pg_range r WHERE rngtypid = t1.oid)
SELECT t1.oid, t1.typname FROM pg_type as t1 WHERE (t1.typinput = 0 OR t1.typoutput = 0)
SELECT oid::regprocedure, provariadic::regtype, proargtypes::regtype[] FROM pg_proc WHERE provariadic != 0 AND case proargtypes[array_length(proargtypes, 1)-1] WHEN '"any"'::regtype THEN '"any"'::regtype WHEN 'anyarray'::regtype THEN 'anyelement'::regtype WHEN 'anycompatiblearray'::regtype THEN 'anycompatible'::regtype ELSE (SELECT t.oid FROM pg_type t WHERE t.typarray = proargtypes[array_length(proargtypes, 1)-1]) END  != provariadic
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typinput = p1.oid AND t1.typtype in ('b', 'p') AND NOT (t1.typelem != 0 AND t1.typlen < 0) AND NOT (p1.prorettype = t1.oid AND NOT p1.proretset) ORDER BY 1
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typinput = p1.oid AND p1.provolatile NOT IN ('i', 's')
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typoutput = p1.oid AND t1.typtype in ('b', 'p') AND NOT (p1.pronargs = 1 AND (p1.proargtypes[0] = t1.oid OR (p1.oid = 'array_out'::regproc AND t1.typelem != 0 AND t1.typlen = -1))) ORDER BY 1
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typoutput = p1.oid AND p1.provolatile NOT IN ('i', 's')
SELECT t1.oid, t1.typname, t2.oid, t2.typname FROM pg_type AS t1 LEFT JOIN pg_type AS t2 ON t1.typbasetype = t2.oid WHERE t1.typtype = 'd' AND t1.typoutput IS DISTINCT FROM t2.typoutput
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typreceive = p1.oid AND t1.typtype in ('b', 'p') AND NOT (t1.typelem != 0 AND t1.typlen < 0) AND NOT (p1.prorettype = t1.oid AND NOT p1.proretset) ORDER BY 1
SELECT t1.oid, t1.typname, p1.oid, p1.proname, p2.oid, p2.proname FROM pg_type AS t1, pg_proc AS p1, pg_proc AS p2 WHERE t1.typinput = p1.oid AND t1.typreceive = p2.oid AND p1.pronargs != p2.pronargs
SELECT DISTINCT typtype, typreceive FROM pg_type AS t1 WHERE t1.typtype not in ('b', 'p') ORDER BY 1
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typsend = p1.oid AND NOT (p1.prorettype = 'bytea'::regtype AND NOT p1.proretset)
SELECT DISTINCT typtype, typsend FROM pg_type AS t1 WHERE t1.typtype not in ('b', 'd', 'p') ORDER BY 1
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typmodin = p1.oid AND NOT (p1.pronargs = 1 AND p1.proargtypes[0] = 'cstring[]'::regtype AND p1.prorettype = 'int4'::regtype AND NOT p1.proretset)
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typmodout = p1.oid AND NOT (p1.pronargs = 1 AND p1.proargtypes[0] = 'int4'::regtype AND p1.prorettype = 'cstring'::regtype AND NOT p1.proretset)
SELECT t1.oid, t1.typname, t2.oid, t2.typname FROM pg_type AS t1, pg_type AS t2 WHERE t1.typelem = t2.oid AND NOT (t1.typmodin = t2.typmodin AND t1.typmodout = t2.typmodout)
SELECT t1.oid, t1.typname, t1.typalign, t2.typname, t2.typalign FROM pg_type AS t1, pg_type AS t2 WHERE t1.typarray = t2.oid AND t2.typalign != (CASE WHEN t1.typalign = 'd' THEN 'd'::"char" ELSE 'i'::"char" END)
SELECT t1.oid, t1.typname, t1.typelem, t1.typlen, t1.typbyval FROM pg_type AS t1 WHERE t1.typsubscript = 'array_subscript_handler'::regproc AND NOT (t1.typelem != 0 AND t1.typlen = -1 AND NOT t1.typbyval)
SELECT t1.oid, t1.typname, p1.oid, p1.proname FROM pg_type AS t1, pg_proc AS p1 WHERE t1.typanalyze = p1.oid AND NOT (p1.pronargs = 1 AND p1.proargtypes[0] = 'internal'::regtype AND p1.prorettype = 'bool'::regtype AND NOT p1.proretset)
SELECT t.oid, t.typname, t.typanalyze FROM pg_type t LEFT JOIN pg_range r on t.oid = r.rngtypid WHERE t.typbasetype = 0 AND (t.typanalyze = 'range_typanalyze'::regproc) != (r.rngtypid IS NOT NULL)
SELECT c1.oid, c1.relname FROM pg_class as c1 WHERE relkind NOT IN ('r', 'i', 'S', 't', 'v', 'm', 'c', 'f', 'p') OR relpersistence NOT IN ('p', 'u', 't') OR relreplident NOT IN ('d', 'n', 'f', 'i')
SELECT c1.oid, c1.relname FROM pg_class as c1 WHERE c1.relkind IN ('S', 'v', 'f', 'c') and c1.relam != 0
SELECT pc.oid, pc.relname, pa.amname, pa.amtype FROM pg_class as pc JOIN pg_am AS pa ON (pc.relam = pa.oid) WHERE pc.relkind IN ('r', 't', 'm') and pa.amtype != 't'
SELECT a1.attrelid, a1.attname, c1.oid, c1.relname FROM pg_attribute AS a1, pg_class AS c1 WHERE a1.attrelid = c1.oid AND a1.attnum > c1.relnatts
SELECT a1.attrelid, a1.attname, t1.oid, t1.typname FROM pg_attribute AS a1, pg_type AS t1 WHERE a1.atttypid = t1.oid AND (a1.attlen != t1.typlen OR a1.attalign != t1.typalign OR a1.attbyval != t1.typbyval OR (a1.attstorage != t1.typstorage AND a1.attstorage != 'p'))
SELECT r.rngtypid, r.rngsubtype, r.rngcollation, t.typcollation FROM pg_range r JOIN pg_type t ON t.oid = r.rngsubtype WHERE (rngcollation = 0) != (typcollation = 0)
SELECT r.rngtypid, r.rngsubtype, p.proname FROM pg_range r JOIN pg_proc p ON p.oid = r.rngcanonical WHERE pronargs != 1 OR proargtypes[0] != rngtypid OR prorettype != rngtypid
SELECT r.rngtypid, r.rngsubtype, r.rngmultitypid FROM pg_range r WHERE r.rngmultitypid IS NULL OR r.rngmultitypid = 0
INSERT INTO persons VALUES (1, 'test')
SELECT CAST(f1 AS char(4)) AS three FROM VARCHAR_TBL UNION SELECT f1 FROM CHAR_TBL ORDER BY 1
SELECT f1 AS eight FROM VARCHAR_TBL UNION ALL SELECT f1 FROM CHAR_TBL
SELECT a.f1 FROM (SELECT 'test' AS f1 FROM varchar_tbl) a UNION SELECT b.f1 FROM (SELECT f1 FROM varchar_tbl) b ORDER BY 1
INSERT INTO t2 VALUES ('ab'), ('xy')
INSERT INTO t2c VALUES ('vw'), ('cd'), ('mn'), ('ef')
DELETE FROM ro_view1
INSERT INTO ro_view13 VALUES (3, 'Row 3')
INSERT INTO rw_view14 (a, b) VALUES (3, 'Row 3')
UPDATE rw_view14 SET b='ROW 3' WHERE a=3
DELETE FROM rw_view14 WHERE a=3
INSERT INTO rw_view15 (a) VALUES (3)
INSERT INTO rw_view15 (a) VALUES (3) ON CONFLICT (a) DO NOTHING
INSERT INTO rw_view15 (a) VALUES (3) ON CONFLICT (a) DO UPDATE set upper = 'blarg'
UPDATE rw_view15 SET upper=DEFAULT WHERE a=3
INSERT INTO rw_view16 VALUES (3, 'Row 3', 3)
UPDATE rw_view16 SET aa=-3 WHERE a=3
UPDATE ro_view19 SET last_value=1000
SELECT table_name, is_insertable_into FROM information_schema.tables WHERE table_name = 'rw_view1'
SELECT table_name, column_name, is_updatable FROM information_schema.columns WHERE table_name = 'rw_view1' ORDER BY ordinal_position
INSERT INTO rw_view1 VALUES (9, DEFAULT), (10, DEFAULT)
INSERT INTO rw_view2 (aaa) VALUES (4)
DELETE FROM rw_view2 WHERE aaa=2
SELECT table_name, is_updatable, is_insertable_into FROM information_schema.views WHERE table_name LIKE 'rw_view%' ORDER BY table_name
INSERT INTO rw_view2 VALUES (3, 'Row 3') RETURNING *
DELETE FROM rw_view2 WHERE a=3 RETURNING *
UPDATE rw_view1 v SET bb='Updated row 2' WHERE rw_view1_aa(v)=2 RETURNING rw_view1_aa(v), v.bb
INSERT INTO rw_view1 VALUES ('Row 2', 2.0, 2)
UPDATE base_tbl SET b=b
UPDATE rw_view1 SET aa=aa
UPDATE rw_view2 SET bb=bb
DELETE FROM rw_view1
DELETE FROM rw_view1 WHERE aa=2
UPDATE base_tbl SET a=a
UPDATE rw_view2 SET aaa=aaa
UPDATE rw_view2 SET bbb=bbb
INSERT INTO base_tbl VALUES (1, 'Row 1')
INSERT INTO rw_view1 (aa) VALUES (5)
INSERT INTO rw_view1 VALUES (7,-8)
INSERT INTO base_tbl VALUES (1,ARRAY[2]), (3,ARRAY[4])
INSERT INTO base_tbl SELECT i/10.0 FROM generate_series(1,10) g(i)
INSERT INTO rw_view1 (s, c, a) VALUES (null, null, 1.1)
INSERT INTO rw_view1 (a) VALUES (1.1) RETURNING a, s, c
UPDATE rw_view1 SET a = 1.05 WHERE a = 1.1 RETURNING s
INSERT INTO rw_view2 VALUES (null, null, null, 1.1, null)
INSERT INTO rw_view2(base_a) VALUES (1.1) RETURNING t
UPDATE rw_view2 SET t = t WHERE base_a = 1.1
DELETE FROM rw_view2 WHERE base_a = 1.05 RETURNING base_a, s, c, t
INSERT INTO rw_view3(s) VALUES (null)
DELETE FROM rw_view3 WHERE s = sin(0.1)
SELECT events & 4 != 0 AS upd, events & 8 != 0 AS ins, events & 16 != 0 AS del FROM pg_catalog.pg_relation_is_updatable('rw_view3'::regclass, false) t(events)
INSERT INTO rw_view1 (id) VALUES (2)
INSERT INTO rw_view1 (id, idplus1) VALUES (4, DEFAULT)
INSERT INTO rw_view1 (id, idplus1) VALUES (6, 7)
UPDATE rw_view1 SET id = 3000 WHERE id = 3
INSERT INTO base_tbl_child SELECT * FROM generate_series(1, 8)
INSERT INTO rw_view1 VALUES (-100), (100)
UPDATE ONLY rw_view1 SET a = a*10 WHERE a IN (-2, 2)
DELETE FROM ONLY rw_view1 WHERE a IN (-6, 6)
SELECT * FROM base_tbl_child ORDER BY a
INSERT INTO other_tbl_child VALUES (8),(100)
SELECT * FROM information_schema.views WHERE table_name = 'rw_view1'
INSERT INTO rw_view1 VALUES(5,null)
INSERT INTO rw_view1(a) VALUES (9)
INSERT INTO rw_view2 VALUES (5)
UPDATE rw_view2 SET a = a + 10
INSERT INTO rw_view1 VALUES (10, ARRAY[4,5])
INSERT INTO ref_tbl SELECT * FROM generate_series(1,10)
UPDATE rw_view1 SET a = 20, b = 30
UPDATE rw_view2 SET a = -5 WHERE a = 5
UPDATE rw_view1 SET person=person WHERE snoop(person)
INSERT INTO base_tbl VALUES (1, 'Row 1', false), (2, 'Row 2', true)
INSERT INTO t1 SELECT i,i,'t1' FROM generate_series(1,10) g(i)
INSERT INTO t12 SELECT i,i,'t12','{1,2}'::int[] FROM generate_series(1,10) g(i)
UPDATE v1 SET a=100 WHERE snoop(a) AND leakproof(a) AND a < 7 AND a != 6
DELETE FROM v1 WHERE snoop(a) AND leakproof(a)
INSERT INTO v2 VALUES (2, 'two', 20)
UPDATE v2 SET b = 'ONE' WHERE a = 1
UPDATE v2 SET c = 30 WHERE a = 1
INSERT INTO v1 VALUES (1, 'ok')
select table_name, column_name, is_updatable from information_schema.columns where table_name = 'uv_ptv' order by column_name
select tableoid::regclass, * from uv_pt
insert into wcowrtest_v values (1)
insert into wcowrtest_v2 values (2, 'no such row in sometable')
insert into uv_iocu_view (a, b) values ('xyxyxy', 1) on conflict (a) do update set b = uv_iocu_view.b
insert into uv_iocu_view (a, b) values ('xyxyxy', 1) on conflict (a) do update set b = excluded.b
insert into uv_iocu_view (a, b) values ('xyxyxy', 3) on conflict (a) do update set b = excluded.b where excluded.c > 0
insert into uv_iocu_view (aa,bb) values (1,'y') on conflict (aa) do update set bb = 'Rejected: '||excluded.* where excluded.aa > 0 and excluded.bb != '' and excluded.cc is not null
delete from uv_iocu_view
insert into uv_iocu_view (aa) values (1) on conflict (aa) do update set cc = 'XXX'
insert into rw_view1 values ('yyy',2.0,1) on conflict (aa) do update set bb = excluded.cc
insert into rw_view1 values ('yyy',2.0,1) on conflict (aa) do update set bb = excluded.bb
insert into rw_view1 values ('zzz',2.0,1) on conflict (aa) do update set cc = 3.0
insert into base_tab_def values (1)
insert into base_tab_def values (4, default, default, default, default)
insert into base_tab_def_view values (11)
insert into base_tab_def_view values (14, default, default, default, default)
insert into base_tab_def_view values (17), (default)
select * from base_tab_def order by a, c NULLS LAST
insert into base_tab_view (b[1], b[2], c, b[5], b[4], a, b[3]) values (1, 2, default, 5, 4, default, 3), (10, 11, 'C value', 14, 13, 100, 12)
INSERT INTO update_test VALUES (5, 10, 'foo')
SELECT * FROM update_test
UPDATE update_test AS t SET b = 10 WHERE t.a = 10
UPDATE update_test SET a=v.i FROM (VALUES(100, 20)) AS v(i, j) WHERE update_test.b = v.j
INSERT INTO update_test SELECT a,b+1,c FROM update_test
UPDATE update_test SET (c,b) = ('car', a+b), a = a + 1 WHERE a = 10
UPDATE update_test SET (b,a) = (select a,b from update_test where b = 41 and c = 'car') WHERE a = 100 AND b = 20
UPDATE update_test SET (b,a) = (select a+1,b from update_test)
UPDATE update_test SET (a,b) = ROW(v.*) FROM (VALUES(21, 100)) AS v(i, j) WHERE update_test.a = v.i
UPDATE update_test AS t SET b = update_test.b + 10 WHERE t.a = 10
SELECT a, b, char_length(c) FROM update_test
INSERT INTO upsert_test VALUES(1, 'Boo'), (3, 'Zoo')
INSERT INTO upsert_test VALUES (1, 'Baz'), (3, 'Zaz') ON CONFLICT(a) DO UPDATE SET (b, a) = (SELECT b || ', Correlated', a from upsert_test i WHERE i.a = upsert_test.a) RETURNING *
INSERT INTO upsert_test VALUES (2, 'Beeble') ON CONFLICT(a) DO UPDATE SET (b, a) = (SELECT b || ', Excluded', a from upsert_test i WHERE i.a = excluded.a) RETURNING tableoid::regclass, xmin = pg_current_xact_id()::xid AS xmin_correct, xmax = 0 AS xmax_correct
WITH aaa AS (SELECT 1 AS ctea, ' Foo' AS cteb) INSERT INTO upsert_test VALUES (1, 'Bar'), (2, 'Baz') ON CONFLICT(a) DO UPDATE SET (b, a) = (SELECT upsert_test.b||cteb, upsert_test.a FROM aaa) RETURNING *
UPDATE part_c_100_200 set c = c - 20, d = c WHERE c = 105
UPDATE range_parted set d = d - 10 WHERE d > 10
UPDATE part_c_1_100 set c = c + 20 WHERE c = 98
UPDATE part_b_10_b_20 set b = b - 6 WHERE c > 116 returning *
INSERT into mintab VALUES (120)
UPDATE upview set a = 'b', b = 15, c = 120 WHERE b = 4
UPDATE range_parted set c = 95 WHERE a = 'b' and b > 10 and c > 100 returning (range_parted), *
UPDATE range_parted set c = c + 50 WHERE a = 'b' and b > 10 and c >= 96
UPDATE range_parted set b = 15 WHERE b = 1
UPDATE range_parted set c = c - 50 WHERE c > 97
UPDATE part_a_10_a_20 set a = 'ad' WHERE a = 'a'
INSERT into list_part1 VALUES ('a', 1)
UPDATE list_default set a = 'a' WHERE a = 'd'
insert into utrtest values (2, 'bar') returning *, tableoid::regclass
update utrtest set a = 3 - a from (values (1), (2)) s(x) where a = s.x returning *, tableoid::regclass, xmin = pg_current_xact_id()::xid as xmin_ok
delete from utrtest returning *, tableoid::regclass, xmax = pg_current_xact_id()::xid as xmax_ok
INSERT into sub_parted VALUES (1,1,60)
SELECT tableoid::regclass::text, * FROM list_parted WHERE a = 2 ORDER BY 1
SELECT tableoid::regclass::text, * FROM list_parted ORDER BY 1, 2, 3, 4
UPDATE list_parted set b = 1 WHERE c = 70
UPDATE list_parted t1 set a = 2 FROM non_parted t2 WHERE t1.a = t2.id and a = 1
update hpart1 set a = 3, b=4 where a = 1
update hash_parted set b = b + 8 where b = 1
SELECT count(*) FROM pg_class WHERE relkind='i' AND relname LIKE 'guid%'
INSERT INTO vactst VALUES (1)
SELECT count(*) FROM vactst
SELECT * FROM vactst
INSERT INTO vaccluster VALUES (1), (2)
DELETE FROM vactst WHERE i % 7 = 0
INSERT INTO past_inh_child DEFAULT VALUES
INSERT INTO pvactst SELECT i, array[1,2,3], point(i, i+1) FROM generate_series(1,1000) i
INSERT INTO no_index_cleanup(i, t) VALUES (generate_series(1,30), repeat('1234567890',269))
INSERT INTO vac_truncate_test VALUES (1, NULL), (NULL, NULL)
UPDATE vacparted SET b = 'b'
SELECT relname, relhasindex FROM pg_class WHERE relname LIKE 'vacparted_i%' AND relkind IN ('p','r') ORDER BY relname
SELECT EXISTS ( SELECT 1 FROM pg_class WHERE oid = 'vacuum_in_leader_small_index'::regclass AND pg_relation_size(oid) < pg_size_bytes(current_setting('min_parallel_index_scan_size')) ) as leader_will_handle_small_index
DELETE FROM parallel_vacuum_table
SELECT * FROM VARCHAR_TBL
SELECT c.* FROM VARCHAR_TBL c WHERE c.f1 = 'a'
SELECT c.* FROM VARCHAR_TBL c WHERE c.f1 <= 'a'
SELECT c.* FROM VARCHAR_TBL c WHERE c.f1 >= 'a'
INSERT INTO empsalary VALUES ('develop', 10, 5200, '2007-08-01'), ('sales', 1, 5000, '2006-10-01'), ('personnel', 5, 3500, '2007-12-10'), ('sales', 4, 4800, '2007-08-08'), ('personnel', 2, 3900, '2006-12-23'), ('develop', 7, 4200, '2008-01-01'), ('develop', 9, 4500, '2008-01-01'), ('sales', 3, 4800, '2007-08-01'), ('develop', 8, 6000, '2006-10-01'), ('develop', 11, 5200, '2007-08-15')
SELECT depname, empno, salary, rank() OVER (PARTITION BY depname ORDER BY salary) FROM empsalary
SELECT depname, empno, salary, rank() OVER w FROM empsalary WINDOW w AS (PARTITION BY depname ORDER BY salary) ORDER BY rank() OVER w
SELECT sum(salary) OVER w1, count(*) OVER w2 FROM empsalary WINDOW w1 AS (ORDER BY salary), w2 AS (ORDER BY salary)
SELECT empno, depname, salary, bonus, depadj, MIN(bonus) OVER (ORDER BY empno), MAX(depadj) OVER () FROM( SELECT *, CASE WHEN enroll_date < '2008-01-01' THEN 2008 - extract(YEAR FROM enroll_date) END * 500 AS bonus, CASE WHEN AVG(salary) OVER (PARTITION BY depname) < salary THEN 200 END AS depadj FROM empsalary )s
select sum(salary) over (order by enroll_date range between '1 year'::interval preceding and '1 year'::interval following), salary, enroll_date from empsalary
select sum(salary) over (order by enroll_date desc range between '1 year'::interval following and '1 year'::interval following), salary, enroll_date from empsalary
select sum(salary) over (order by enroll_date range between '1 year'::interval preceding and '1 year'::interval following exclude group), salary, enroll_date from empsalary
select first_value(salary) over(order by salary range between 1000 preceding and 1000 following), lead(salary) over(order by salary range between 1000 preceding and 1000 following), nth_value(salary, 1) over(order by salary range between 1000 preceding and 1000 following), salary from empsalary
select first_value(salary) over(order by salary range between 1000 following and 3000 following exclude current row), lead(salary) over(order by salary range between 1000 following and 3000 following exclude ties), nth_value(salary, 1) over(order by salary range between 1000 following and 3000 following exclude ties), salary from empsalary
select first_value(salary) over(order by enroll_date range between unbounded preceding and '1 year'::interval following exclude ties), last_value(salary) over(order by enroll_date range between unbounded preceding and '1 year'::interval following), salary, enroll_date from empsalary
select first_value(salary) over(order by enroll_date range between unbounded preceding and '1 year'::interval following exclude group), last_value(salary) over(order by enroll_date range between unbounded preceding and '1 year'::interval following exclude group), salary, enroll_date from empsalary
insert into numerics values (0, '-infinity', '-infinity', '-infinity'), (1, -3, -3, -3), (2, -1, -1, -1), (3, 0, 0, 0), (4, 1.1, 1.1, 1.1), (5, 1.12, 1.12, 1.12), (6, 2, 2, 2), (7, 100, 100, 100), (8, 'infinity', 'infinity', 'infinity'), (9, 'NaN', 'NaN', 'NaN')
select id, f_float4, first_value(id) over w, last_value(id) over w from numerics window w as (order by f_float4 range between 1 preceding and 1.1::float4 following)
select id, f_float4, first_value(id) over w, last_value(id) over w from numerics window w as (order by f_float4 range between 'inf' following and 'inf' following)
select id, f_numeric, first_value(id) over w, last_value(id) over w from numerics window w as (order by f_numeric range between 1 preceding and 1 following)
select id, f_numeric, first_value(id) over w, last_value(id) over w from numerics window w as (order by f_numeric range between 1 preceding and 1.1::float8 following)
select id, f_numeric, first_value(id) over w, last_value(id) over w from numerics window w as (order by f_numeric range between 'inf' following and 'inf' following)
select id, f_time, first_value(id) over w, last_value(id) over w from datetimes window w as (order by f_time range between '70 min'::interval preceding and '2 hours'::interval following)
select id, f_timetz, first_value(id) over w, last_value(id) over w from datetimes window w as (order by f_timetz range between '70 min'::interval preceding and '2 hours'::interval following)
select id, f_interval, first_value(id) over w, last_value(id) over w from datetimes window w as (order by f_interval range between '1 year'::interval preceding and '1 year'::interval following)
select id, f_timestamptz, first_value(id) over w, last_value(id) over w from datetimes window w as (order by f_timestamptz range between '1 year'::interval preceding and '1 year'::interval following)
select id, f_timestamp, first_value(id) over w, last_value(id) over w from datetimes window w as (order by f_timestamp range between '1 year'::interval preceding and '1 year'::interval following)
select sum(salary) over (order by enroll_date, salary range between '1 year'::interval preceding and '2 years'::interval following exclude ties), salary, enroll_date from empsalary
select sum(salary) over (order by depname range between '1 year'::interval preceding and '2 years'::interval following exclude ties), salary, enroll_date from empsalary
select max(enroll_date) over (order by salary range between -1 preceding and 2 following exclude ties), salary, enroll_date from empsalary
select max(enroll_date) over (order by salary range between '1 year'::interval preceding and '2 years'::interval following exclude ties), salary, enroll_date from empsalary
select first_value(salary) over(order by enroll_date groups between 1 preceding and 1 following), lead(salary) over(order by enroll_date groups between 1 preceding and 1 following), nth_value(salary, 1) over(order by enroll_date groups between 1 preceding and 1 following), salary, enroll_date from empsalary
select first_value(salary) over(order by enroll_date groups between 1 following and 3 following exclude current row), lead(salary) over(order by enroll_date groups between 1 following and 3 following exclude ties), nth_value(salary, 1) over(order by enroll_date groups between 1 following and 3 following exclude ties), salary, enroll_date from empsalary
WITH cte (x) AS ( SELECT * FROM generate_series(1, 35, 2) ) SELECT x, (sum(x) over w) FROM cte WINDOW w AS (ORDER BY x rows between 1 preceding and 1 following)
WITH cte (x) AS ( SELECT * FROM generate_series(1, 35, 2) ) SELECT x, (sum(x) over w) FROM cte WINDOW w AS (ORDER BY x groups between 1 preceding and 1 following)
WITH cte (x) AS ( select 1 union all select 1 union all select 1 union all SELECT * FROM generate_series(5, 49, 2) ) SELECT x, (sum(x) over w) FROM cte WINDOW w AS (ORDER BY x range between 1 preceding and 1 following)
insert into t1 values (1,1),(1,2),(2,2)
SELECT * FROM empsalary INNER JOIN tenk1 ON row_number() OVER (ORDER BY salary) < 10
DELETE FROM empsalary WHERE (rank() OVER (ORDER BY random())) > 10
SELECT generate_series(1, 100) OVER () FROM empsalary
SELECT * FROM (SELECT empno, row_number() OVER (ORDER BY empno) rn FROM empsalary) emp WHERE rn < 3
SELECT * FROM (SELECT empno, row_number() OVER (ORDER BY empno) rn FROM empsalary) emp WHERE 2 >= rn
SELECT * FROM (SELECT empno, salary, dense_rank() OVER (ORDER BY salary DESC) dr FROM empsalary) emp WHERE dr = 1
SELECT * FROM (SELECT empno, salary, count(1) OVER (ORDER BY salary DESC) c FROM empsalary) emp WHERE c <= 3
SELECT * FROM (SELECT empno, depname, salary, count(1) OVER (PARTITION BY depname ORDER BY salary DESC) c FROM empsalary) emp WHERE c <= 3
SELECT * FROM (SELECT depname, empno, salary, enroll_date, row_number() OVER (PARTITION BY depname ORDER BY enroll_date) AS first_emp, row_number() OVER (PARTITION BY depname ORDER BY enroll_date DESC) AS last_emp FROM empsalary) emp WHERE first_emp = 1 OR last_emp = 1
WITH q1(x,y) AS (SELECT 1,2) SELECT * FROM q1, q1 AS q2
WITH RECURSIVE t(n) AS ( SELECT (VALUES(1)) UNION ALL SELECT n+1 FROM t WHERE n < 5 ) SELECT * FROM t
WITH RECURSIVE t(n) AS ( SELECT 1 UNION SELECT 10-n FROM t) SELECT * FROM t
WITH RECURSIVE t(n) AS ( SELECT 1 UNION SELECT n+1 FROM t) SELECT * FROM t LIMIT 10
WITH RECURSIVE t(n) AS ( SELECT 'foo' UNION ALL SELECT n || ' bar' FROM t WHERE length(n) < 20 ) SELECT n, pg_typeof(n) FROM t
WITH RECURSIVE w1(c1) AS (WITH w2(c2) AS (WITH w3(c3) AS (WITH w4(c4) AS (WITH w5(c5) AS (WITH RECURSIVE w6(c6) AS (WITH w6(c6) AS (WITH w8(c8) AS (SELECT 1) SELECT * FROM w8) SELECT * FROM w6) SELECT * FROM w6) SELECT * FROM w5) SELECT * FROM w4) SELECT * FROM w3) SELECT * FROM w2) SELECT * FROM w1
INSERT INTO department VALUES (0, NULL, 'ROOT')
WITH RECURSIVE subdepartment AS ( SELECT name as root_name, * FROM department WHERE name = 'A' UNION ALL SELECT sd.root_name, d.* FROM department AS d, subdepartment AS sd WHERE d.parent_department = sd.id ) SELECT * FROM subdepartment ORDER BY name
WITH RECURSIVE subdepartment(level, id, parent_department, name) AS ( SELECT 1, * FROM department WHERE name = 'A' UNION ALL SELECT sd.level + 1, d.* FROM department AS d, subdepartment AS sd WHERE d.parent_department = sd.id ) SELECT * FROM subdepartment WHERE level >= 2 ORDER BY name
SELECT count(*) FROM ( WITH RECURSIVE t(n) AS ( SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 500 ) SELECT * FROM t) AS t WHERE n < ( SELECT count(*) FROM ( WITH RECURSIVE t(n) AS ( SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 100 ) SELECT * FROM t WHERE n < 50000 ) AS t WHERE n < 100)
SELECT * FROM vsubdepartment ORDER BY name
with recursive q as ( select * from department union all (with recursive x as ( select * from department union all (select * from q union all select * from x) ) select * from x) ) select * from q limit 32
INSERT INTO tree VALUES (1, NULL), (2, 1), (3,1), (4,2), (5,2), (6,2), (7,3), (8,3), (9,4), (10,4), (11,7), (12,7), (13,7), (14, 9), (15,11), (16,11)
WITH RECURSIVE t(id, path) AS ( VALUES(1,ARRAY[]::integer[]) UNION ALL SELECT tree.id, t.path || tree.id FROM tree JOIN t ON (tree.parent_id = t.id) ) SELECT t1.id, count(t2.*) FROM t AS t1 JOIN t AS t2 ON (t1.path[1] = t2.path[1] AND array_upper(t1.path,1) = 1 AND array_upper(t2.path,1) > 1) GROUP BY t1.id ORDER BY t1.id
INSERT INTO duplicates VALUES(1), (1)
insert into graph0 values (1, 2, 'arc 1 -> 2'), (1, 3, 'arc 1 -> 3'), (2, 3, 'arc 2 -> 3'), (1, 4, 'arc 1 -> 4'), (4, 5, 'arc 4 -> 5')
with recursive search_graph(f, t, label) as ( select * from graph0 g union distinct select g.* from graph0 g, search_graph sg where g.f = sg.t ) search depth first by f, t set seq select * from search_graph order by seq
with recursive search_graph(f, t, label) as ( select * from graph0 g union distinct select g.* from graph0 g, search_graph sg where g.f = sg.t ) search breadth first by f, t set seq select * from search_graph order by seq
with recursive test as ( select 1 as x union all select x + 1 from test ) search breadth first by x set y select * from test limit 5
with recursive search_graph(f, t, label) as ( select * from graph0 g union all select g.* from graph0 g, search_graph sg where g.f = sg.t ) search depth first by f, t set label select * from search_graph
with recursive search_graph(f, t, label) as ( select * from graph0 g union all select * from graph0 g union all select g.* from graph0 g, search_graph sg where g.f = sg.t ) search depth first by f, t set seq select * from search_graph order by seq
with recursive x(col) as ( select 1 union (with x as (select * from x) select * from x) ) search depth first by col set seq select * from x
insert into graph values (1, 2, 'arc 1 -> 2'), (1, 3, 'arc 1 -> 3'), (2, 3, 'arc 2 -> 3'), (1, 4, 'arc 1 -> 4'), (4, 5, 'arc 4 -> 5'), (5, 1, 'arc 5 -> 1')
with recursive search_graph(f, t, label, is_cycle, path) as ( select *, false, array[row(g.f, g.t)] from graph g union distinct select g.*, row(g.f, g.t) = any(path), path || row(g.f, g.t) from graph g, search_graph sg where g.f = sg.t and not is_cycle ) select * from search_graph
with recursive search_graph(f, t, label) as ( select * from graph g union all select g.* from graph g, search_graph sg where g.f = sg.t ) cycle f, t set is_cycle using path select * from search_graph
with recursive test as ( select 0 as x union all select (x + 1) % 10 from test ) cycle x set is_cycle using path select * from test
with recursive a as ( select 1 as b union all select * from a ) cycle b set c using p select * from a
with recursive search_graph(f, t, label) as ( select * from graph g union all select g.* from graph g, search_graph sg where g.f = sg.t ) search breadth first by f, t set seq cycle f, t set is_cycle using path select * from search_graph
with recursive search_graph(f, t, label) as ( select * from graph g union all select g.* from graph g, search_graph sg where g.f = sg.t ) cycle f, t set is_cycle to true default 55 using path select * from search_graph
with recursive search_graph(f, t, label) as ( select * from graph g union all select g.* from graph g, search_graph sg where g.f = sg.t ) cycle f, t set label to true default false using path select * from search_graph
with recursive search_graph(f, t, label) as ( select * from graph g union all select g.* from graph g, search_graph sg where g.f = sg.t ) cycle f, t set foo to true default false using foo select * from search_graph
with recursive search_graph(f, t, label) as ( select * from graph g union all select g.* from graph g, search_graph sg where g.f = sg.t ) search depth first by f, t set foo cycle f, t set foo to true default false using path select * from search_graph
WITH RECURSIVE y (id) AS (VALUES (1)), x (id) AS (SELECT * FROM y UNION ALL SELECT id+1 FROM x WHERE id < 5) SELECT * FROM x
WITH RECURSIVE x(id) AS (VALUES (1) UNION ALL SELECT id+1 FROM x WHERE id < 5), y(id) AS (VALUES (1) UNION ALL SELECT id+1 FROM y WHERE id < 10) SELECT y.*, x.* FROM y LEFT JOIN x USING (id)
WITH RECURSIVE x(id) AS (SELECT 1 UNION ALL SELECT id+1 FROM x WHERE id < 3 ), y(id) AS (SELECT * FROM x UNION ALL SELECT * FROM x), z(id) AS (SELECT * FROM x UNION ALL SELECT id+1 FROM z WHERE id < 10) SELECT * FROM z
INSERT INTO y SELECT generate_series(1, 10)
WITH t AS ( SELECT a FROM y ) UPDATE y SET a = y.a-10 FROM t WHERE y.a > 20 AND t.a = y.a RETURNING y.a
WITH x(n, b) AS (SELECT 1) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT 1 INTERSECT ALL SELECT n+1 FROM x) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT 1 EXCEPT ALL SELECT n+1 FROM x) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT n FROM x UNION ALL SELECT 1) SELECT * FROM x
WITH RECURSIVE x(n) AS ( WITH x1 AS (SELECT 1 FROM x) SELECT 0 UNION SELECT * FROM x1) SELECT * FROM x
WITH RECURSIVE x(n) AS ( SELECT 0 UNION SELECT 1 ORDER BY (SELECT n FROM x)) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT a FROM y WHERE a = 1 UNION ALL SELECT x.n+1 FROM y LEFT JOIN x ON x.n = y.a WHERE n < 10) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT a FROM y WHERE a = 1 UNION ALL SELECT x.n+1 FROM x FULL JOIN y ON x.n = y.a WHERE n < 10) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT count(*) FROM x) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM x ORDER BY 1) SELECT * FROM x
WITH RECURSIVE x(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM x FOR UPDATE) SELECT * FROM x
WITH RECURSIVE x (id) AS (SELECT 1 UNION ALL SELECT id+1 FROM y WHERE id < 5), y (id) AS (SELECT 1 UNION ALL SELECT id+1 FROM x WHERE id < 5) SELECT * FROM x
WITH RECURSIVE foo(i) AS (values (1) UNION ALL SELECT * FROM (SELECT i+1 FROM foo WHERE i < 10 UNION ALL SELECT i+1 FROM foo WHERE i < 5) AS t ) SELECT * FROM foo
WITH RECURSIVE foo(i) AS (values (1) UNION ALL (SELECT i+1 FROM foo WHERE i < 10 INTERSECT SELECT i+1 FROM foo WHERE i < 5) ) SELECT * FROM foo
WITH RECURSIVE foo(i) AS (SELECT i::numeric(3,0) FROM (VALUES(1),(2)) t(i) UNION ALL SELECT (i+1)::numeric(10,0) FROM foo WHERE i < 10) SELECT * FROM foo
with cte(foo) as ( select 42 ) select * from ((select foo from cte)) q
select ( with cte(foo) as ( values(f1) ) values((select foo from cte)) ) from int4_tbl
WITH RECURSIVE t(j) AS ( WITH RECURSIVE s(i) AS ( VALUES (1) UNION ALL SELECT i+1 FROM s WHERE i < 10 ) SELECT i FROM s UNION ALL SELECT j+1 FROM t WHERE j < 10 ) SELECT * FROM t
WITH RECURSIVE outermost(x) AS ( SELECT 1 UNION (WITH innermost as (SELECT 2) SELECT * FROM outermost UNION SELECT * FROM innermost) ) SELECT * FROM outermost ORDER BY 1
WITH t AS ( INSERT INTO y VALUES (11), (12), (13), (14), (15), (16), (17), (18), (19), (20) RETURNING * ) SELECT * FROM t
WITH t AS ( DELETE FROM y WHERE a <= 10 RETURNING * ) SELECT * FROM t
WITH t AS ( DELETE FROM y RETURNING * ) SELECT * FROM t
WITH t1 AS ( DELETE FROM bug6051_3 RETURNING * ) INSERT INTO bug6051_3 SELECT * FROM t1
SELECT q1 FROM ( WITH t_cte AS (SELECT * FROM int8_tbl t) SELECT q1, (SELECT q2 FROM t_cte WHERE t_cte.q1 = i8.q1) AS t_sub FROM int8_tbl i8 ) ss
WITH RECURSIVE t(a) AS ( SELECT 0 UNION ALL SELECT a+1 FROM t WHERE a+1 < 5 ), t2 as ( INSERT INTO y SELECT * FROM t RETURNING * ) SELECT * FROM t2 JOIN y USING (a) ORDER BY a
WITH t AS ( UPDATE y SET a = a * 100 RETURNING * ) SELECT * FROM t LIMIT 10
WITH aa AS ( INSERT INTO withz VALUES(1, 5) ON CONFLICT (k) DO UPDATE SET v = EXCLUDED.v WHERE withz.k != EXCLUDED.k RETURNING * ) SELECT * FROM aa
WITH aa AS (SELECT 1 a, 2 b) INSERT INTO withz VALUES(1, 'insert') ON CONFLICT (k) DO UPDATE SET v = (SELECT b || ' update' FROM aa WHERE a = 1 LIMIT 1)
WITH aa AS (SELECT 'a' a, 'b' b UNION ALL SELECT 'a' a, 'b' b) INSERT INTO withz VALUES(1, 'insert') ON CONFLICT (k) DO UPDATE SET v = (SELECT b || ' update' FROM aa WHERE a = 'a' LIMIT 1)
WITH simpletup AS ( SELECT 2 k, 'Green' v), upsert_cte AS ( INSERT INTO withz VALUES(2, 'Blue') ON CONFLICT (k) DO UPDATE SET (k, v) = (SELECT k, v FROM simpletup WHERE simpletup.k = withz.k) RETURNING k, v) INSERT INTO withz VALUES(2, 'Red') ON CONFLICT (k) DO UPDATE SET (k, v) = (SELECT k, v FROM upsert_cte WHERE upsert_cte.k = withz.k) RETURNING k, v
WITH cte_basic AS MATERIALIZED (SELECT 1 a, 'cte_basic val' b) MERGE INTO m USING (select 0 k, 'merge source SubPlan' v offset 0) o ON m.k=o.k WHEN MATCHED THEN UPDATE SET v = (SELECT b || ' merge update' FROM cte_basic WHERE cte_basic.a = m.k LIMIT 1) WHEN NOT MATCHED THEN INSERT VALUES(o.k, o.v)
WITH cte_init AS MATERIALIZED (SELECT 1 a, 'cte_init val' b) MERGE INTO m USING (select 1 k, 'merge source InitPlan' v offset 0) o ON m.k=o.k WHEN MATCHED THEN UPDATE SET v = (SELECT b || ' merge update' FROM cte_init WHERE a = 1 LIMIT 1) WHEN NOT MATCHED THEN INSERT VALUES(o.k, o.v)
WITH RECURSIVE t1 AS ( INSERT INTO y SELECT * FROM y RETURNING * ), t2 AS ( INSERT INTO yy SELECT * FROM t1 RETURNING * ) SELECT 1
WITH t AS ( INSERT INTO y VALUES (21), (22), (23) RETURNING * ) SELECT * FROM t
INSERT INTO parent VALUES ( 1, 'p1' )
WITH rcte AS ( SELECT sum(id) AS totalid FROM parent ) UPDATE parent SET id = id + totalid FROM rcte
WITH rcte AS ( SELECT max(id) AS maxid FROM parent ) DELETE FROM parent USING rcte WHERE id = maxid
WITH RECURSIVE t AS ( INSERT INTO y SELECT * FROM t ) VALUES(FALSE)
SELECT * FROM ( WITH t AS (UPDATE y SET a=a+1 RETURNING *) SELECT * FROM t ) ss
with ordinality as (select 1 as x) select * from ordinality
with with_test as (select 42) insert into with_test select * from with_test
insert into xid8_t1 values ('0'), ('010'), ('42'), ('0xffffffffffffffff'), ('-1')
select id, pg_visible_in_snapshot(id::text::xid8, snap) from snapshot_test, generate_series(11, 21) id where nr = 2
SELECT * FROM xmltest
SELECT xmlserialize(content data as character varying(20)) FROM xmltest
SELECT xmlagg(data) FROM xmltest WHERE id > 10
SELECT xpath('/value', data) FROM xmltest
INSERT INTO xmltest VALUES (4, '<menu><beers><name>Budvar</name><cost>free</cost><name>Carling</name><cost>lots</cost></beers></menu>'::xml)
SELECT COUNT(id) FROM xmltest WHERE xmlexists('/menu/beer' PASSING BY REF data BY REF)
SELECT COUNT(id) FROM xmltest WHERE xmlexists('/menu/beers/name[text() = ''Molson'']' PASSING BY REF data)
SELECT COUNT(id) FROM xmltest WHERE xpath_exists('/menu/beers/name[text() = ''Molson'']',data)
SELECT COUNT(id) FROM xmltest WHERE xpath_exists('/myns:menu/myns:beers/myns:name[text() = ''Molson'']',data,ARRAY[ARRAY['myns','http://myns.com']])
SELECT COUNT(id) FROM xmltest, query WHERE xmlexists(expr PASSING BY REF data)
SELECT xmltable.* FROM xmldata, LATERAL xmltable('/ROWS/ROW[COUNTRY_NAME="Japan" or COUNTRY_NAME="India"]' PASSING data COLUMNS "COUNTRY_NAME" text, "REGION_ID" int)
SELECT xmltable.* FROM xmldata, LATERAL xmltable('/ROWS/ROW[COUNTRY_NAME="Japan" or COUNTRY_NAME="India"]' PASSING data COLUMNS id int PATH '@id', "COUNTRY_NAME" text, "REGION_ID" int)
SELECT xmltable.* FROM xmldata, LATERAL xmltable('/ROWS/ROW[COUNTRY_NAME="Japan" or COUNTRY_NAME="India"]' PASSING data COLUMNS id FOR ORDINALITY)
SELECT xmltable.* FROM xmldata, LATERAL xmltable('/ROWS/ROW[COUNTRY_NAME="Japan" or COUNTRY_NAME="India"]' PASSING data COLUMNS "COUNTRY_NAME" text, "REGION_ID" int) WHERE "COUNTRY_NAME" = 'Japan'
SELECT  xmltable.* FROM (SELECT data FROM xmldata) x, LATERAL XMLTABLE('/ROWS/ROW' PASSING data COLUMNS id int PATH '@id', _id FOR ORDINALITY, country_name text PATH 'COUNTRY_NAME' NOT NULL, country_id text PATH 'COUNTRY_ID', region_id int PATH 'REGION_ID', size float PATH 'SIZE', unit text PATH 'SIZE/@unit', premier_name text PATH 'PREMIER_NAME' DEFAULT 'not specified') WHERE region_id = 2
INSERT INTO xmltest2 VALUES('<d><r><ac>1</ac></r></d>', 'A')
INSERT INTO testxmlschema.test2 VALUES (55, 'abc', 'def', 98.6, 2, 999, 0, '21:07', '21:11 +05', '2009-06-08 21:07:30', '2009-06-08 21:07:30 -07', '2009-06-08', NULL, 'ABC', true, 'XYZ')
SELECT query_to_xmlschema('SELECT * FROM testxmlschema.test1', false, false, '')
SELECT xmlforest(c1, c2, c3, c4) FROM testxmlschema.test3
