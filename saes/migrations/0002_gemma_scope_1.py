"""The slug of Gemma Scope's first generation, since there is a second one too."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor


def rename(apps: Apps, old: str, new: str) -> None:
    apps.get_model("saes", "Sae").objects.filter(format=old).update(format=new)


def forwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    rename(apps, "gemma_scope", "gemma_scope_1")


def backwards(apps: Apps, schema_editor: BaseDatabaseSchemaEditor) -> None:
    rename(apps, "gemma_scope_1", "gemma_scope")


class Migration(migrations.Migration):
    dependencies = [("saes", "0001_library")]

    operations = [migrations.RunPython(forwards, backwards)]
