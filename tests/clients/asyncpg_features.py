# What people do with asyncpg. Everything printed must be the same through the proxy and without it.
import asyncio
import datetime
import decimal
import io
import uuid

import asyncpg


def show(*what):
    print(*[repr(one) for one in what])


def rows(records):
    return [dict(record) for record in records]


async def error_of(awaitable):
    try:
        await awaitable
        show("no error")
    except asyncpg.PostgresError as error:
        show(type(error).__name__, error.sqlstate, str(error), error.detail, error.hint)
        show(error.position, error.constraint_name, error.table_name)


async def statements(c):
    show(await c.fetch("SELECT 1 AS a, 'x'::text AS b, NULL AS c"), await c.fetchval("SELECT $1::int + 1", 41))
    show(await c.fetchrow("SELECT id, tenant FROM users WHERE id = $1", 2), await c.fetchrow("SELECT 1 WHERE false"))
    # Without parameters: a simple query, which may have several statements.
    show(await c.execute("SELECT 1; UPDATE users SET tenant = 5 WHERE id = 1; SELECT 2"))
    show(await c.execute("UPDATE users SET tenant = $2 WHERE id = $1", 3, 7))
    values = (
        decimal.Decimal("12345678901234567890.123456789"),
        uuid.UUID(int=7),
        datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.timezone.utc),
        datetime.timedelta(days=3, seconds=7),
        [1, None, 3],
        [["a"], ["b"]],
        b"\x00\xff",
        asyncpg.Range(1, 9),
        "it's ☃",
        float("nan"),
    )
    types = "numeric uuid timestamptz interval int[] text[] bytea int8range text float8".split()
    show(await c.fetchrow("SELECT " + ", ".join(f"${n}::{t}" for n, t in enumerate(types, 1)), *values))
    # Composite types and domains: asyncpg asks the catalog for them.
    show(await c.fetchval("SELECT u FROM users u WHERE id = 4"), await c.fetchval("SELECT 'happy'::mood"))
    show(await c.fetchval("SELECT ARRAY['sad'::mood]"), await c.fetchval("SELECT (1, 'two', NULL)"))
    await c.set_type_codec("jsonb", encoder=str, decoder=lambda text: ("json", text), schema="pg_catalog")
    show(await c.fetchval("SELECT $1::jsonb", '{"k": [1]}'))
    for n in range(8):
        show(await c.fetchval("UPDATE users SET tenant = $2 WHERE id = $1 RETURNING tenant", n + 1, n))

    prepared = await c.prepare("SELECT id, tenant FROM users WHERE id < $1 ORDER BY id")
    show(prepared.get_parameters(), prepared.get_attributes(), prepared.get_statusmsg())
    show(rows(await prepared.fetch(4)), await prepared.fetchval(2), prepared.get_statusmsg())
    show((await prepared.explain(3))[0]["Plan"]["Node Type"])
    await c.executemany("INSERT INTO users (id, tenant) VALUES ($1, $2)", [(5000 + n, n) for n in range(300)])
    show(await c.fetchval("SELECT sum(tenant) FROM users WHERE id >= 5000"))
    await error_of(c.executemany("INSERT INTO users (id) VALUES ($1)", [(7000,), (7001,), (1,), (7002,)]))
    show(await c.fetchval("SELECT count(*) FROM users WHERE id >= 7000"))


async def errors(c):
    await error_of(c.fetch("SELECT nothing FROM users"))
    await error_of(c.fetch("SELECT 1 / $1::int", 0))
    await error_of(c.execute("SELEC 1"))
    await error_of(c.execute("INSERT INTO users (id) VALUES (1)"))
    await error_of(c.fetch("UPDATE users SET nothing = $1 WHERE id = 4", 1))
    await error_of(c.fetch("SELECT 1; SELECT 2", timeout=20))
    try:
        await c.fetch("SELECT $1::int", "x")
    except asyncpg.DataError as error:
        show(str(error))
    # A timeout sends a CancelRequest.
    try:
        await c.fetch("SELECT pg_sleep(60)", timeout=0.05)
    except asyncio.TimeoutError:
        show("timed out")
    show(await c.fetchval("SELECT 'after the cancel'"))


async def transactions(c):
    async with c.transaction():
        await c.execute("INSERT INTO users (id) VALUES (9000)")
        try:
            async with c.transaction():
                await c.execute("INSERT INTO users (id) VALUES (9001)")
                await c.execute("INSERT INTO users (id) VALUES (9000)")
        except asyncpg.UniqueViolationError as error:
            show(error.detail)
        show(await c.fetchval("SELECT count(*) FROM users WHERE id >= 9000"), c.is_in_transaction())
    try:
        async with c.transaction(isolation="serializable", readonly=True, deferrable=True):
            show(await c.fetchval("SHOW transaction_isolation"))
            await c.execute("DELETE FROM users WHERE id = 9000")
    except asyncpg.ReadOnlySQLTransactionError as error:
        show(str(error))
    async with c.transaction():
        seen = []
        async for record in c.cursor("SELECT id FROM users ORDER BY id LIMIT $1", 120, prefetch=50):
            seen.append(record["id"])
        show(len(seen), seen[-1])
        cursor = await c.cursor("SELECT id FROM users ORDER BY id")
        show(await cursor.fetch(3), await cursor.forward(5), await cursor.fetchrow())


async def copies(c):
    out = io.BytesIO()
    show(await c.copy_from_query("SELECT id, tenant FROM users WHERE id < $1 ORDER BY id", 5, output=out, format="csv"))
    show(out.getvalue(), await c.copy_from_table("mine", output=io.BytesIO(), columns=["a"], format="binary"))
    show(await c.copy_to_table("mine", source=io.BytesIO(b"1\tx\n2\t\\N\n"), columns=["a", "b"]))
    many = [(n, f"row {n}") for n in range(20000)]
    show(await c.copy_records_to_table("mine", records=many, columns=["a", "b"]))
    await error_of(c.copy_to_table("mine", source=io.BytesIO(b"1\tx\nwrong\tx\n"), columns=["a", "b"]))
    show(await c.fetchrow("SELECT count(*), sum(a) FROM mine"))


async def schema(c):
    await c.execute("CREATE TABLE mine (a int, b text)")
    await c.execute("CREATE INDEX mine_a ON mine (a)")
    show(await c.fetch("SELECT * FROM mine"))
    await c.execute("ALTER TABLE mine ADD COLUMN d int DEFAULT 7")
    # asyncpg prepared this before the column was there, and notices.
    show(await c.fetch("SELECT * FROM mine"))
    await c.execute("ALTER TABLE mine ADD CONSTRAINT d_positive CHECK (d > 0)")
    await c.execute("COMMENT ON TABLE mine IS 'of asyncpg'")
    await error_of(c.execute("ALTER TABLE nobody ADD COLUMN d int"))
    prepared = await c.prepare("CREATE TABLE other (id int PRIMARY KEY)")
    show(await prepared.fetch(), prepared.get_statusmsg())


async def main():
    c = await asyncpg.connect(server_settings={"application_name": "features", "work_mem": "5MB"})
    show(c.get_settings().application_name, c.get_settings().client_encoding, await c.fetchval("SHOW work_mem"))
    show(await c.fetchval("SELECT current_database()"), c.get_server_pid() == await c.fetchval("SELECT pg_backend_pid()"))
    c.add_log_listener(lambda _, message: show("notice", message.severity, message.message))
    await c.execute("DO $$ BEGIN RAISE NOTICE 'hello'; END $$")
    await statements(c)
    await errors(c)
    await transactions(c)
    await schema(c)
    await copies(c)

    heard = asyncio.get_running_loop().create_future()
    await c.add_listener("channel", lambda _, pid, channel, payload: heard.set_result((channel, payload)))
    async with asyncpg.create_pool(min_size=2, max_size=4) as pool:
        await pool.execute("SELECT pg_notify('channel', 'told')")
        show(await asyncio.wait_for(heard, 20))
        show(await asyncio.gather(*[pool.fetchval("SELECT $1::int * 2", n) for n in range(40)]))
        # The pool resets a connection before somebody else gets it.
        async with pool.acquire() as one:
            await one.execute("SET search_path = nowhere")
        show(await pool.fetchval("SHOW search_path"))
    await c.reset()
    await c.close()
    print("end")


asyncio.run(main())
