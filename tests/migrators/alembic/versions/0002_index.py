import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade():
    op.create_index("books_title", "books", ["title"])
    op.add_column("books", sa.Column("status", sa.Text, nullable=False, server_default="draft"))
