"""A program at the socket `/ws/`, through the application itself or over the wire."""

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

from channels.testing import WebsocketCommunicator
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from websockets.sync.client import ClientConnection, connect

from mistudio.asgi import application
from tests.apps import App, manage

BACKEND = "django.contrib.auth.backends.ModelBackend"
HOST, HOME = "localhost:8000", "http://localhost:8000"
HANGS = 60.0  # seconds: what comes at all has come by then, also where the machine is busy
Headers = list[tuple[bytes, bytes]]
TOKEN = """
from saes import accounts, api_tokens
print(api_tokens.create(accounts.ensure_owner(), "a test", "write")[1])
"""


def cookie_of(user: User) -> str:
    client = Client()
    client.force_login(user, backend=BACKEND)
    name = settings.SESSION_COOKIE_NAME
    return f"{name}={client.cookies[name].value}"


def headers(**said: str | None) -> Headers:
    """The Host is ours, unless it is given; None leaves a header out."""
    made = {"host": HOST, **said}
    return [(name.encode(), text.encode()) for name, text in made.items() if text is not None]


def with_token(token: str) -> Headers:
    return headers(authorization=f"Bearer {token}")


class Line(WebsocketCommunicator):  # type: ignore[misc]
    """Waits for what is to come, however busy the machine is; a second is what Channels waits."""

    async def receive_output(self, timeout: float = HANGS) -> Any:
        return await super().receive_output(max(timeout, HANGS))

    async def wait(self, timeout: float = HANGS) -> None:
        await super().wait(max(timeout, HANGS))


@dataclass
class Program:
    """Says and hears frames. Whatever it hears is kept."""

    line: Line
    heard: list[dict[str, Any]]

    async def ask(self, action: str, *channels: str) -> None:
        await self.line.send_json_to({"action": action, "channels": list(channels), "id": 1})

    async def subscribe(self, *channels: str) -> list[dict[str, Any]]:
        """The frames up to the acknowledgement, which is the last."""
        await self.ask("subscribe", *channels)
        frames = [await self.hear()]
        while frames[-1]["event"] != "subscribed":
            frames.append(await self.hear())
        return frames

    async def hear(self) -> dict[str, Any]:
        frame: dict[str, Any] = await self.line.receive_json_from()
        self.heard.append(frame)
        return frame

    @property
    def told(self) -> list[dict[str, Any]]:
        """The states that were heard."""
        return [frame["data"] for frame in self.heard if "data" in frame]

    async def hear_until(self, **wanted: Any) -> None:
        """Listens up to a state with these fields."""
        while not self.told or not wanted.items() <= self.told[-1].items():
            await self.hear()

    async def hears_nothing(self, seconds: float = 0.3) -> bool:
        return bool(await self.line.receive_nothing(timeout=seconds))

    async def end(self) -> int:
        """The code that the socket is closed with; what was said before is in `heard`."""
        while (output := await self.line.receive_output())["type"] == "websocket.send":
            self.heard.append(json.loads(output["text"]))
        assert output["type"] == "websocket.close"
        return int(output["code"])


async def is_let_in(sent: Headers, path: str = "/ws/") -> bool:
    line = Line(application, path, headers=sent)
    accepted, _ = await line.connect()
    await line.disconnect()
    return bool(accepted)


@asynccontextmanager
async def program(sent: Headers) -> AsyncIterator[Program]:
    line = Line(application, "/ws/", headers=sent)
    assert (await line.connect())[0]
    try:
        yield Program(line, [])
    finally:
        await line.disconnect()


# --- over the wire -------------------------------------------------------------------------------


def token_of(app: App) -> str:
    """A new one of the running product, which may write."""
    done = manage("shell", "-c", TOKEN, env=app.env)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip().splitlines()[-1]


@contextmanager
def over_the_wire(app: App, token: str, **more: Any) -> Iterator[ClientConnection]:
    sent = {"Authorization": f"Bearer {token}"}
    url = f"ws://127.0.0.1:{app.port}/ws/"
    with connect(url, additional_headers=sent, open_timeout=HANGS, **more) as line:
        yield line
