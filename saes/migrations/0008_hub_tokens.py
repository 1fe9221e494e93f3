"""Several Hub tokens for each user, by name; what was kept so far becomes the usual one."""

from django.apps.registry import Apps
from django.conf import settings
from django.db import migrations, models
from django.db.backends.base.schema import BaseDatabaseSchemaEditor
from django.db.models import Q


def name_them(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    standing = apps.get_model("saes", "HubToken").objects.filter(for_one_job=False)
    standing.filter(owner=None).update(name="HF_TOKEN", is_usual=True)
    standing.exclude(owner=None).update(name="Token", is_usual=True)


def keep_the_usual(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    """The version before knows one token for each user."""
    apps.get_model("saes", "HubToken").objects.filter(for_one_job=False, is_usual=False).delete()
    if schema_editor.connection.vendor == "postgresql":  # else the table cannot be altered yet
        schema_editor.execute("SET CONSTRAINTS ALL IMMEDIATE")


class Migration(migrations.Migration):
    dependencies = [
        ("saes", "0007_publishing"),
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="hubtoken", name="one_standing_token_per_user"),
        migrations.AddField(
            model_name="hubtoken",
            name="name",
            field=models.CharField(blank=True, default="", max_length=100),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="hubtoken",
            name="is_usual",
            field=models.BooleanField(default=False, verbose_name="usual"),
        ),
        migrations.AddField(
            model_name="hubtoken",
            name="identity",
            field=models.JSONField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="hubtoken",
            name="tested_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="hubtoken",
            name="test_error",
            field=models.CharField(blank=True, default="", max_length=500),
            preserve_default=False,
        ),
        migrations.AddField(
            model_name="hubtoken",
            name="last_used_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.RunPython(name_them, keep_the_usual),
        migrations.AddConstraint(
            model_name="hubtoken",
            constraint=models.UniqueConstraint(
                condition=Q(("for_one_job", False)),
                fields=("owner", "name"),
                name="one_hub_token_of_a_name",
            ),
        ),
        migrations.AddConstraint(
            model_name="hubtoken",
            constraint=models.UniqueConstraint(
                condition=Q(("is_usual", True)), fields=("owner",), name="one_usual_hub_token"
            ),
        ),
        migrations.AddConstraint(
            model_name="hubtoken",
            constraint=models.UniqueConstraint(
                condition=Q(("for_one_job", False), ("owner", None)),
                fields=("for_one_job",),
                name="one_hub_token_of_the_server",
            ),
        ),
    ]
