from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.migrations.state import StateApps


def count_anew(apps: StateApps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """The calls of the last days were counted by tool alone: the worker counts them again, by agent too."""
    for name in ("ToolCalls", "Counted"):
        apps.get_model("policies", name).objects.all().delete()


class Migration(migrations.Migration):

    dependencies = [
        ("policies", "0011_requests"),
    ]

    operations = [
        migrations.CreateModel(
            name="AgentCalls",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("team_id", models.BigIntegerField()),
                ("begins", models.DateTimeField(help_text="The first of the six hours.")),
                ("actor", models.CharField(help_text="key:<id>, as the journal names it.", max_length=64)),
                ("calls", models.PositiveIntegerField()),
                ("denied", models.PositiveIntegerField()),
            ],
            options={
                "verbose_name_plural": "agent calls",
                "indexes": [models.Index(fields=["begins"], name="agent_calls_begins")],
                "constraints": [
                    models.UniqueConstraint(fields=("team_id", "begins", "actor"), name="one_agent_in_six_hours")
                ],
            },
        ),
        migrations.AddField(
            model_name="agentkey",
            name="kept_by",
            field=models.CharField(
                blank=True,
                default="",
                editable=False,
                help_text="The e-mail of whoever it was handed over to.",
                max_length=254,
            ),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="stop",
            name="kept_by",
            field=models.CharField(
                blank=True,
                default="",
                editable=False,
                help_text="The e-mail of whoever it was handed over to.",
                max_length=254,
            ),
            preserve_default=False,
        ),
        migrations.RunPython(count_anew, migrations.RunPython.noop),
    ]
