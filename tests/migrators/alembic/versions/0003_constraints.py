from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade():
    op.create_foreign_key("books_author", "books", "authors", ["author_id"], ["id"])
    op.alter_column("books", "title", nullable=False)
    op.create_unique_constraint("authors_email", "authors", ["email"])
