"""Rows S28 and S40: what a repository says, hostile or huge, harms no page and no server."""

import json
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from django.contrib.auth.models import User

from saes.models import Job, Sae
from tests.api.conftest import (  # noqa: F401  fixtures
    ApiClient,
    api,
    client_of,
    data_dir,
    fresh_limits,
    hub,
    owner,
    started,
    work,
)
from tests.api.made import gpt2_sae
from tests.attacks.markup import ATTACKS, acting, elements
from tests.hub import LocalHub
from tests.views.conftest import signed_in

KEYS = ("model_name", "hook_name", "hook_layer", "dataset_path", "sae_lens_version", "context_size")
TAGS = {"blink", "style", "iframe", "base", "math", "mglyph", "mtext"}


def hostile(attack: str) -> dict[str, bytes]:
    """An SAE whose configuration says the attack wherever a text may stand."""
    files = gpt2_sae(3)
    told: dict[str, Any] = json.loads(files["cfg.json"])
    told["metadata"] |= dict.fromkeys(KEYS, attack)
    told |= {attack: attack, "neuronpedia_id": attack, "device": attack, "model_name": attack}
    return files | {"cfg.json": json.dumps(told).encode()}


@pytest.mark.parametrize("attack", ATTACKS)
def test_s28_what_a_configuration_says_is_text(
    owner: User,  # noqa: F811
    api: ApiClient,  # noqa: F811
    hub: LocalHub,  # noqa: F811
    started: list[Job],  # noqa: F811
    attack: str,
) -> None:
    card = {"license": attack, "base_model": attack, "tags": [attack]}
    readme = f"# {attack}\n\n{attack}\n\n[{attack}]({attack})".encode()
    hub.add_repo("evil/saes", {**hostile(attack), "README.md": readme}, card=card)
    client = signed_in(owner)
    preview = client.get("/hub/evil/saes/").content.decode()
    header = client.get("/hub/evil/saes/header/?where=.").content.decode()
    assert api.post("/saes/hf/preview", {"repo_id": "evil/saes"})["sae_paths"] == ["."]
    api.post("/saes/download", {"repo_id": "evil/saes", "name": attack})
    work(started)
    sae = Sae.objects.get()
    assert sae.status in (Sae.Status.READY, Sae.Status.ERROR)
    assert not Job.objects.filter(state=Job.State.CRASHED).exists()
    paths = ("/", f"/saes/{sae.id}/", f"/saes/{sae.id}/card/", f"/admin/saes/sae/{sae.id}/change/")
    pages = [client.get(path).content.decode() for path in paths]
    for page in (preview, header, *pages):
        assert not {tag for tag, _ in elements(page)} & TAGS
    for page in (preview, header, *pages[:3]):
        assert acting(page) == []


def test_s40_a_huge_readme_is_not_read(api: ApiClient, hub: LocalHub) -> None:  # noqa: F811
    huge = b"A line of a very long description.\n" * 500_000
    hub.add_repo("evil/long", {**gpt2_sae(3), "README.md": huge})
    answer = api.post("/saes/hf/preview", {"repo_id": "evil/long"})
    assert answer["sae_paths"] == ["."]
    assert len(answer["description"] or "") <= 500
    sent = [entry.sent for entry in hub.log.requests() if "README" in entry.file]
    assert sum(sent) < 2**20


def test_s40_a_hundred_downloads_at_once_are_a_hundred_rows(
    owner: User,  # noqa: F811
    hub: LocalHub,  # noqa: F811
    started: list[Job],  # noqa: F811
) -> None:
    """Or, where the same is asked for twice, one: nobody is answered with a server error."""
    files = {f"layer_{n}/{name}": body for n in range(20) for name, body in gpt2_sae(n % 4).items()}
    hub.add_repo("many/saes", files)
    client = client_of(owner)

    def ask(number: int) -> int:
        mine = ApiClient(client.token)
        body = {"repo_id": "many/saes", "filepath": f"layer_{number % 20}"}
        mine.post("/saes/download", body)
        return mine.status

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(100)))
    assert set(answers) <= {200, 202}
    assert Sae.objects.count() == Job.objects.count() == len(started) == 20
    assert client.get("/saes")["pagination"]["total"] == 20
