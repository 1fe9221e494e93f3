"""Addresses of sockets, and from where one may be opened: a page of this very server, a program."""

from collections.abc import Awaitable, Callable
from typing import Any

from channels.routing import URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path

from saes.consumers.events import EventConsumer
from saes.consumers.pages import PageConsumer

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
Headers = dict[bytes, bytes]


def door(rule: Callable[[Headers], bool], app: App) -> Any:
    """Lets in only those sockets whose headers are as `rule` says."""

    async def let_in(scope: dict[str, Any], receive: Any, send: Any) -> None:
        chosen = app if rule(dict(scope["headers"])) else WebsocketDenier()
        await chosen(scope, receive, send)

    return let_in  # Any: path() expects views


def is_our_host(headers: Headers) -> bool:
    domain, _ = split_domain_port(_text(headers, b"host"))
    return bool(domain) and validate_host(domain, settings.ALLOWED_HOSTS)


def is_same_origin(headers: Headers) -> bool:
    """Scheme, host and port must be those the page came from."""
    scheme = "https" if settings.HTTPS else "http"
    ours = filter(None, (f"{scheme}://{_text(headers, b'host')}", settings.PUBLIC_URL))
    return is_our_host(headers) and _text(headers, b"origin") in ours


def is_program_or_same_origin(headers: Headers) -> bool:
    """A browser always sends an Origin, and lets no page set Authorization."""
    if b"authorization" in headers and b"origin" not in headers:
        return is_our_host(headers)
    return is_same_origin(headers)


def _text(headers: Headers, name: bytes) -> str:
    return headers.get(name, b"").decode("latin-1").lower()


sockets = URLRouter(
    [
        path("ws/", door(is_program_or_same_origin, EventConsumer.as_asgi())),
        path("ws/pages/", door(is_same_origin, PageConsumer.as_asgi())),
        re_path(r"", WebsocketDenier.as_asgi()),  # an unknown address is no server error
    ]
)
