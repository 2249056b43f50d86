# What people do with psycopg 3. Everything printed must be the same through the proxy and without it.
import logging
import threading
import psycopg
from psycopg import sql
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

# Whether psycopg meets a pipeline's error while it leaves the block, and logs that, depends on how the answers are packed.
logging.getLogger("psycopg").setLevel(logging.CRITICAL)


def show(*what):
    print(*what, flush=True)


def error_of(run):
    try:
        run()
    except psycopg.Error as error:
        diag = error.diag
        show(type(error).__name__, diag.sqlstate, diag.message_primary, diag.message_detail, diag.message_hint, diag.statement_position)


def watch(connection):
    connection.add_notice_handler(lambda notice: show("notice", notice.severity, notice.message_primary))


with psycopg.connect(autocommit=True, application_name="features") as c:
    watch(c)
    show(c.execute("SELECT 1, 'a', NULL, 2.5::numeric, ARRAY[1,2], '{\"a\": 1}'::jsonb, '2020-01-02'::date").fetchone())
    show(c.execute("SELECT %s::int + %s, %s, %s::text", [1, 2, "it's", None]).fetchone())
    show(c.execute("SELECT %(a)s::text || %(b)s", {"a": "ä", "b": "☃"}).fetchone())
    show(c.execute("SELECT %s, %b::int8, %t::int8", [Jsonb({"k": [1, None]}), 7, 8]).fetchone())
    show(c.cursor(row_factory=dict_row).execute("SELECT id, tenant FROM users ORDER BY id LIMIT 2").fetchall())
    show(c.cursor(binary=True).execute("SELECT id, email_verified, now() > '2020-01-01' FROM users WHERE id = 1").fetchone())
    cursor = c.execute("SELECT id AS one, 'x'::varchar(5) AS two, 1.5::numeric(6,2) FROM users LIMIT 1")
    show([(d.name, d.type_code, d.precision, d.scale, d.display_size) for d in cursor.description], cursor.statusmessage)
    for n in range(8):  # from the fifth on it is prepared
        show(c.execute("SELECT tenant FROM users WHERE id = %s", [n]).fetchall())
    for n in range(8):
        show(c.execute("UPDATE users SET tenant = tenant + %s WHERE id = %s RETURNING id, tenant", [n, n]).fetchall())
    cursor = c.cursor()
    cursor.executemany("INSERT INTO users (id) VALUES (%s)", [(n,) for n in range(5000, 5010)])
    show(cursor.rowcount)
    cursor.executemany("DELETE FROM users WHERE id = %s RETURNING id", [(5000,), (5001,), (9,)], returning=True)
    show([result.fetchone() for result in cursor.results()])
    cursor = c.execute("SELECT 1; SELECT 2; UPDATE users SET tenant = 3 WHERE id = 1")
    show([(result.statusmessage, result.rowcount) for result in cursor.results()])
    c.execute("DO $$ BEGIN RAISE NOTICE 'hello'; RAISE WARNING 'careful'; END $$")
    error_of(lambda: c.execute("SELECT nothing FROM users"))
    error_of(lambda: c.execute("SELECT 1/%s", [0]))
    error_of(lambda: c.execute("INSERT INTO users (id) VALUES (1)"))
    error_of(lambda: c.execute("UPDATE users SET nothing = %s WHERE id = 4", [1]))
    error_of(lambda: c.execute("UPDATE users SET tenant = %s WHERE no_such = 4", [1]))
    error_of(lambda: c.execute("SELEC 1"))
    error_of(lambda: c.execute("SELECT %s::int", ["x"]))
    show(c.info.transaction_status.name, c.info.parameter_status("server_encoding"), c.info.dbname, c.info.user)

    # COPY
    with c.cursor().copy("COPY users (id, tenant) FROM STDIN") as copy:
        for n in range(6000, 6500):
            copy.write_row((n, n % 7))
    with c.cursor().copy("COPY (SELECT id, tenant FROM users WHERE id >= 6000 ORDER BY id) TO STDOUT") as copy:
        rows = list(copy.rows())
    show(len(rows), rows[0], rows[-1])
    with c.cursor().copy("COPY users (id, tenant) FROM STDIN (FORMAT binary)") as copy:
        copy.set_types(["int8", "int4"])
        copy.write_row((7000, 1))
    try:
        with c.cursor().copy("COPY users (id) FROM STDIN") as copy:
            copy.write("8000\nnot a number\n")
    except psycopg.Error as error:
        show(error.diag.sqlstate, error.diag.message_primary, error.diag.context)
    try:
        with c.cursor().copy("COPY users (id) FROM STDIN") as copy:
            copy.write("8000\n")
            raise ValueError("changed my mind")
    except ValueError as error:
        show(error)
    show(c.execute("SELECT count(*) FROM users WHERE id >= 7000").fetchone())

    # LISTEN and NOTIFY
    c.execute("LISTEN channel")
    with psycopg.connect(autocommit=True) as other:
        other.execute("SELECT pg_notify('channel', 'one')")
        other.execute(sql.SQL("NOTIFY {}, 'two'").format(sql.Identifier("channel")))
    heard = []
    for notification in c.notifies(timeout=10, stop_after=2):
        heard.append((notification.channel, notification.payload))
    show(sorted(heard))
    c.execute("UNLISTEN *")

    # Temporary and new tables
    c.execute("CREATE TEMP TABLE mine (a int)")
    c.execute("INSERT INTO mine VALUES (1), (2)")
    show(c.execute("UPDATE mine SET a = a + 1").rowcount, c.execute("DELETE FROM mine").rowcount)

    # Cancel
    def cancel_when_asleep(pid=c.info.backend_pid):
        asleep = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s AND wait_event = 'PgSleep'"
        with psycopg.connect(autocommit=True) as other:
            while other.execute(asleep, [pid]).fetchone()[0] == 0:
                pass
        c.cancel_safe()

    thread = threading.Thread(target=cancel_when_asleep)
    thread.start()
    error_of(lambda: c.execute("SELECT pg_sleep(60)"))
    thread.join()
    show(c.execute("SELECT 'after the cancel'").fetchone())

with psycopg.connect() as c:
    watch(c)
    # Server-side cursors
    with c.cursor(name="walk") as cursor:
        cursor.itersize = 3
        cursor.execute("SELECT id FROM users WHERE id < %s ORDER BY id", [9])
        show([row[0] for row in cursor])
    with c.cursor(name="scroll", scrollable=True) as cursor:
        cursor.execute("SELECT id FROM users ORDER BY id")
        show(cursor.fetchmany(2), cursor.fetchone())
        cursor.scroll(-2)
        show(cursor.fetchone())
    # Transactions
    try:
        with c.transaction():
            c.execute("INSERT INTO users (id) VALUES (9000)")
            with c.transaction():
                c.execute("INSERT INTO users (id) VALUES (9001)")
                raise psycopg.Rollback()
    finally:
        show(c.execute("SELECT count(*) FROM users WHERE id >= 9000").fetchone(), c.info.transaction_status.name)
    try:
        with c.transaction():
            c.execute("INSERT INTO users (id) VALUES (9002)")
            c.execute("SELECT 1/0")
    except psycopg.Error as error:
        show(error.diag.sqlstate)
    c.execute("UPDATE users SET tenant = 4 WHERE id = 9000")
    show(c.execute("SELECT count(*) FROM users WHERE id >= 9000").fetchone())
    c.commit()
    error_of(lambda: c.execute("INSERT INTO users (id) VALUES (1)"))
    error_of(lambda: c.execute("SELECT 1"))
    error_of(lambda: c.execute("UPDATE users SET tenant = 1 WHERE id = 1"))
    c.rollback()
    c.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    show(c.execute("SHOW transaction_isolation").fetchone())
    c.rollback()
    c.read_only = True
    error_of(lambda: c.execute("DELETE FROM users WHERE id = 1"))
    c.rollback()

# Pipelines
with psycopg.connect(autocommit=True) as c:
    with c.pipeline() as p:
        one = c.execute("SELECT 1")
        two = c.execute("UPDATE users SET tenant = 9 WHERE id = %s RETURNING id", [2])
        three = c.execute("UPDATE users SET tenant = 9 WHERE id = %s", [3])
        p.sync()
        four = c.execute("SELECT tenant FROM users WHERE id = %s", [3])
    show(one.fetchone(), two.fetchall(), three.rowcount, four.fetchone())
    try:
        with c.pipeline() as p:
            c.execute("INSERT INTO users (id) VALUES (9100)")
            c.execute("UPDATE users SET tenant = 1/0 WHERE id = 4")
            after = c.execute("SELECT 1")
    except psycopg.Error as error:
        show("pipeline", error.diag.sqlstate)
    show(c.execute("SELECT count(*) FROM users WHERE id = 9100").fetchone(), c.info.transaction_status.name)
    with c.pipeline(), c.transaction():
        for n in range(9200, 9230):
            c.execute("INSERT INTO users (id) VALUES (%s)", [n])
            c.execute("UPDATE users SET tenant = %s WHERE id = %s", [n % 3, n])
    show(c.execute("SELECT count(*), sum(tenant) FROM users WHERE id >= 9200").fetchone())
    with c.pipeline(), c.cursor() as cursor:
        cursor.executemany("DELETE FROM users WHERE id = %s", [(n,) for n in range(9200, 9230)])
        show(cursor.rowcount)

print("end")
