"""Django's admin, one file for each kind of row. Users may do here what steering.py lets them."""

from django.contrib import admin

from saes.admin import access, audit, library, publishing, queue, trainings, work

__all__ = ["access", "audit", "library", "publishing", "queue", "trainings", "work"]

admin.site.site_header = admin.site.site_title = "miStudio"
