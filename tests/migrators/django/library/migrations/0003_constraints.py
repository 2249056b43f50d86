import django.db.models.deletion
from django.db import migrations, models


def capitals(apps, editor):
    author = apps.get_model("library", "Author")
    for one in author.objects.filter(id__lte=5):
        one.name = one.name.upper()
        one.save()


class Migration(migrations.Migration):
    dependencies = [("library", "0002_index_and_column")]
    operations = [
        migrations.RunPython(capitals, migrations.RunPython.noop),
        migrations.AlterField("book", "title", models.TextField()),
        migrations.RenameField("book", "author_id", "author"),
        migrations.AlterField(
            "book", "author", models.ForeignKey("library.Author", django.db.models.deletion.CASCADE, null=True)
        ),
    ]
