import asyncio
import os

from alembic import context
from sqlalchemy import create_engine
from sqlalchemy.ext.asyncio import create_async_engine

URL = "postgresql+{}://postgres@127.0.0.1:{}/{}".format(
    os.environ["DRIVER"], os.environ["PGPORT"], os.environ["PGDATABASE"]
)


def run(connection):
    context.configure(connection=connection, transaction_per_migration=True)
    with context.begin_transaction():
        context.run_migrations()


async def run_async():
    engine = create_async_engine(URL)
    async with engine.connect() as connection:
        await connection.run_sync(run)
    await engine.dispose()


if "asyncpg" in URL:
    asyncio.run(run_async())
else:
    with create_engine(URL).connect() as connection:
        run(connection)
