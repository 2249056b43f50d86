from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("library", "0001_initial")]
    operations = [
        migrations.AddIndex("book", models.Index(fields=["title"], name="books_title")),
        migrations.AddField("book", "status", models.CharField(max_length=20, default="draft")),
        migrations.AlterField("book", "isbn", models.TextField(null=True, db_index=True)),
    ]
