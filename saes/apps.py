"""The app itself."""

from django.apps import AppConfig


class SaesConfig(AppConfig):
    name = "saes"
    verbose_name = "SAE library"
    default_auto_field = "django.db.models.BigAutoField"
