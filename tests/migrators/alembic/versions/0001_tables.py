import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade():
    op.create_table(
        "authors",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("email", sa.Text),
    )
    op.create_table(
        "books",
        sa.Column("id", sa.BigInteger, primary_key=True),
        sa.Column("author_id", sa.BigInteger),
        sa.Column("title", sa.Text),
        sa.Column("isbn", sa.Text),
        sa.Column("pages", sa.Integer),
    )
    op.create_index("books_isbn", "books", ["isbn"])
