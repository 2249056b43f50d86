from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade():
    op.create_check_constraint("books_pages", "books", "pages > 0")
    op.execute("UPDATE authors SET name = upper(name) WHERE id <= 5")
    op.drop_index("books_isbn")
