"""Downloads as the web process serves them, and an SAE whose files are worth downloading."""

import json
from dataclasses import dataclass

from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient

from saes.models import Sae, SaeFile
from tests.api.conftest import BASE, ApiClient
from tests.api.made import put_file, ready_sae

CONTENT = {
    "cfg.json": b'{"facts": {}}',
    "layer_3/weights.bin": bytes(range(256)) * 4000,
    "naïve.json": b"{}",
}


@dataclass
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def code(self) -> str:
        return str(json.loads(self.body)["code"])


def fetch(api: ApiClient, path: str, method: str = "get", **headers: str) -> Answer:
    """Through the ASGI stack, as the web process serves it."""

    async def ask() -> Answer:
        client = AsyncClient()
        known = {"authorization": f"Bearer {api.token}", **headers}
        answer = await getattr(client, method)(BASE + path, headers=known)
        if answer.streaming:
            body = b"".join([piece async for piece in answer.streaming_content])
            answer.close()
        else:
            body = answer.content
        return Answer(answer.status_code, dict(answer.headers), body)

    return async_to_sync(ask)()


def sae_with_files(owner: User) -> Sae:
    """Ready; of its source files one is in a folder, and one has a name beyond ASCII."""
    made = ready_sae(owner, name="résidu of <layer> 3/../x", architecture="standard")
    for name, body in CONTENT.items():
        put_file(made, f"source/{name}", SaeFile.Kind.SOURCE, body)
    return made


def download(sae: Sae, query: str = "") -> str:
    return f"/saes/{sae.id}/download?{query}"
