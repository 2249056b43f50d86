from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    dependencies = []
    operations = [
        migrations.CreateModel(
            "Author",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("name", models.TextField()),
                ("email", models.TextField(null=True)),
            ],
            options={"db_table": "authors"},
        ),
        migrations.CreateModel(
            "Book",
            [
                ("id", models.BigAutoField(primary_key=True)),
                ("author_id", models.BigIntegerField(null=True)),
                ("title", models.TextField(null=True)),
                ("isbn", models.TextField(null=True)),
                ("pages", models.IntegerField(null=True)),
            ],
            options={"db_table": "books"},
        ),
    ]
