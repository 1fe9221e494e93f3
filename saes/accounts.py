"""The owner's account, and links that sign in once."""

from datetime import timedelta
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib.auth.models import User
from django.core.signing import BadSignature, TimestampSigner
from django.urls import reverse
from django.utils import timezone

from saes.models import SignInLink

OWNER = "owner"
LINK_LIFETIME = timedelta(minutes=10)
_signer = TimestampSigner(salt="sign-in-link")


def ensure_owner() -> User:
    """The superuser `owner`: made at the first start, without a password until one is set."""
    user = User.objects.filter(username=OWNER).first()
    return user or User.objects.create_superuser(OWNER)


def sign_in_url(user: User) -> str:
    """A link for `user`, good for ten minutes and one use."""
    link = SignInLink.objects.create(user=user)
    return base_url() + reverse("sign-in-link", args=[_signer.sign(link.id)])


def base_url() -> str:
    """Where a browser on this machine, or through the public address, finds miStudio."""
    if settings.PUBLIC_URL:
        return str(settings.PUBLIC_URL)
    everywhere = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}
    host = everywhere.get(settings.HOST, settings.HOST)
    if ":" in host and not host.startswith("["):
        host = f"[{host}]"
    return f"http://{urlsplit(f'//{host}:{settings.PORT}').netloc}"


def _link(signed: str) -> SignInLink | None:
    try:
        link_id = _signer.unsign(signed, max_age=LINK_LIFETIME)
    except BadSignature:
        return None
    return SignInLink.objects.filter(id=link_id, used_at=None).select_related("user").first()


def link_is_good(signed: str) -> bool:
    return _link(signed) is not None


def use_link(signed: str) -> User | None:
    """The user whom the link signs in; None where it is expired, false or used."""
    link = _link(signed)
    if link is None or not link.user.is_active:
        return None
    won = SignInLink.objects.filter(id=link.id, used_at=None).update(used_at=timezone.now())
    return link.user if won else None
