from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("policies", "0012_people")]

    operations = [
        migrations.AddField(
            model_name="user",
            name="time_zone",
            field=models.CharField(
                blank=True,
                help_text="In which pages tell them times, such as Europe/Berlin; empty: the browser's.",
                max_length=64,
            ),
        ),
    ]
