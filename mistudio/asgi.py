"""The web process: pages over HTTP, live progress over WebSocket."""

import os

from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mistudio.settings")
pages = get_asgi_application()

from channels.routing import ProtocolTypeRouter  # noqa: E402  needs Django set up

from saes.routing import sockets  # noqa: E402

application = ProtocolTypeRouter({"http": pages, "websocket": sockets})
