"""Whom and what a command means: a user by name, an SAE by its id or its name."""

from django.contrib.auth.models import User

from saes import accounts
from saes.errors import NotFound, SeveralSaes
from saes.models import Sae


def user_named(name: str) -> User:
    """The owner is made if it is not there. Raises NotFound."""
    if name == accounts.OWNER:
        accounts.ensure_owner()
    user = User.objects.filter(username=name, is_active=True).first()
    if user is None:
        raise NotFound(
            f"There is no active user {name!r}.",
            solution="Check the name; the admin pages list all users.",
        )
    return user


def sae_named(word: str) -> Sae:
    """Raises NotFound, and SeveralSaes where the name does not tell which."""
    found = list(Sae.objects.filter(id=word) or Sae.objects.filter(name=word))
    if not found:
        raise NotFound(
            f"There is no SAE {word[:50]!r} in the library.",
            solution="`manage.py sae_list` shows their ids and names.",
        )
    if len(found) > 1:
        raise SeveralSaes(f"{len(found)} SAEs have the name {word!r}.", [it.id for it in found])
    return found[0]
