"""The web process: pages over HTTP, live progress over WebSocket."""

import os

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "mistudio.settings")
django.setup(set_prefix=False)

from channels.routing import ProtocolTypeRouter  # noqa: E402  needs Django set up

from mistudio.bodies import Pages  # noqa: E402
from saes.routing import sockets  # noqa: E402

application = ProtocolTypeRouter({"http": Pages(), "websocket": sockets})
