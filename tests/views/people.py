"""Everybody who may come to a page: without a role, of each role, and nobody."""

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group, User
from django.contrib.sessions.models import Session

from saes import roles
from tests.quick import all_rows

NOBODY = "anonymous"
ROLES = {  # `other` is an editor who did not start what `editor` did
    "newcomer": None,
    "viewer": roles.VIEWER,
    "editor": roles.EDITOR,
    "other": roles.EDITOR,
    "admin": roles.ADMIN,
}


def everybody() -> dict[str, User]:
    """Somebody of each role, by its name."""
    return {name: somebody(name, role) for name, role in ROLES.items()}


def somebody(name: str, role: str | None) -> User:
    user = User.objects.create_user(name)
    if role:
        user.groups.add(Group.objects.get(name=role))
    return user


def everything_kept() -> dict[str, Any]:
    """All rows but sessions, and all files of the data directory: what a request may change."""
    rows = {table: sorted(map(repr, found)) for table, found in all_rows().items()}
    del rows[Session._meta.db_table]
    files = {path: path.read_bytes() for path in settings.DATA_DIR.rglob("*") if path.is_file()}
    return {**rows, **{str(path): content for path, content in files.items()}}
