"""The app itself."""

from typing import Any

from django.apps import AppConfig
from django.db.models.signals import post_migrate


class SaesConfig(AppConfig):
    name = "saes"
    verbose_name = "SAE library"
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        # After all migrations: what a group may do is in rows that Django makes only then.
        post_migrate.connect(_make_groups, sender=self, dispatch_uid="saes.groups")


def _make_groups(**context: Any) -> None:
    from saes.roles import make_groups  # models are there only once all apps are

    make_groups()
