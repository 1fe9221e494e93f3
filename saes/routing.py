"""Addresses of sockets, and who may open one: signed in, and from a page of this very server."""

from collections.abc import Awaitable, Callable
from typing import Any

from channels.auth import AuthMiddlewareStack
from channels.routing import URLRouter
from channels.security.websocket import WebsocketDenier
from django.conf import settings
from django.http.request import split_domain_port, validate_host
from django.urls import path, re_path

from saes.consumers.pages import PageConsumer

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]


class SameOrigin:
    """Refuses sockets of foreign pages. Scheme, host and port must be those the page came from."""

    def __init__(self, app: App) -> None:
        self.app = app

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if is_same_origin(dict(scope["headers"])):
            await self.app(scope, receive, send)
        else:
            await WebsocketDenier()(scope, receive, send)


def is_same_origin(headers: dict[bytes, bytes]) -> bool:
    host = headers.get(b"host", b"").decode("latin-1").lower()
    origin = headers.get(b"origin", b"").decode("latin-1").lower()
    domain, _ = split_domain_port(host)
    if not domain or not validate_host(domain, settings.ALLOWED_HOSTS):
        return False
    return origin in filter(None, (f"http://{host}", settings.PUBLIC_URL))


sockets = SameOrigin(
    AuthMiddlewareStack(
        URLRouter(
            [
                path("ws/pages/", PageConsumer.as_asgi()),
                re_path(r"", WebsocketDenier.as_asgi()),  # an unknown address is no server error
            ]
        )
    )
)
