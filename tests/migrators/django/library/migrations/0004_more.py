from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0003_constraints")]
    operations = [
        migrations.AlterField("author", "email", models.TextField(null=True, unique=True)),
        migrations.AlterUniqueTogether("book", {("author", "isbn")}),
        migrations.AddConstraint("book", models.CheckConstraint(condition=models.Q(pages__gt=0), name="books_pages")),
        migrations.RunSQL("CREATE INDEX books_pages_idx ON books (pages) WHERE pages > 100"),
    ]
