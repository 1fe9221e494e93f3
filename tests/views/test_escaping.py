"""Text that others wrote is shown as text: in names, tags, errors, paths and repository names."""

import re
from urllib.parse import quote

import pytest
from django.contrib.auth.models import User
from django.template.loader import render_to_string
from django.test import Client

from saes import services
from saes.models import Job, Sae
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.views.conftest import CERTIFICATE

pytestmark = pytest.mark.django_db
ATTACKS = [
    "<img src=x onerror=alert(1)>", "<svg onload=alert(1)>", '"><script>alert(1)</script>',
    "[x](javascript:alert(1))", "' onmouseover='alert(1)", "{{ 7|add:7 }}{% now 'Y' %}",
    "<a hx-get=/x hx-trigger=load>", '" hx-on:click="alert(1)" x="', "</script><blink>",
    "<base href=//evil>", "`<img src=x>` `", "<iframe srcdoc='<blink>'>", "&lt;blink&gt;",
    "</title><meta http-equiv=refresh>",
]  # fmt: skip
ALIVE = re.compile(
    r"<(img src=x|svg onload|a hx-get=/x|base|iframe|script>|blink>|meta http-equiv=refresh)"
    r"|\son(error|mouseover)=|\shx-on|href=.?javascript:|>14<",
    re.IGNORECASE,
)


def alive(text: str) -> list[str]:
    """Tags and attributes of the attacks that a browser would act on."""
    tags = re.findall(r"<[^<>]*>", text)
    quoted = [re.sub(r'"[^"]*"', '""', tag) for tag in tags]
    return [tag for tag in quoted if ALIVE.search(tag)]


@pytest.fixture
def hostile(owner: User) -> Sae:
    everything = " ".join(ATTACKS)
    sae = Sae.objects.create(
        name=everything[:200], description=everything, notes=everything, tags=ATTACKS,
        source=Sae.Source.HUGGINGFACE, hf_repo_id=everything[:200], hf_filepath=everything[:500],
        hf_commit="<blink>", status=Sae.Status.ERROR, error_code="<blink>",
        error_message=everything, error_solution=everything,
        format="<blink>", model_name=everything[:200],
        architecture="<svg onload=alert(1)>", hook_name="<blink>", hook_type="<blink>",
        d_in=1, d_sae=2,
        facts={it: {"value": it, "origin": "file"} for it in ATTACKS}, local_path="<blink>",
        tensors=[{"name": "<blink>", "dtype": "<blink>", "shape": [1, 2]}],
        missing_facts=[{"name": "k", "question": everything, "readings": {"<blink>": "<blink>"}}],
        certificate=CERTIFICATE, file_size_bytes=5,
    )  # fmt: skip
    services.library().open_home(sae.id)
    sae.files.create(
        kind="source", path=everything, size=1, sha256="<blink>", verified_against="<blink>"
    )
    Job.objects.create(
        kind=Job.Kind.DOWNLOAD, sae=sae, state=Job.State.RUNNING, message=everything[:500],
        stage="downloading", bytes_total=10, file_name=everything, worker="<blink>",
    )  # fmt: skip
    Job.objects.create(
        kind=Job.Kind.DOWNLOAD, sae=sae, state=Job.State.CRASHED, traceback=everything,
        error_code="<blink>",
    )  # fmt: skip
    owner.username = "<blink>owner"
    owner.save()
    return sae


def test_the_check_finds_what_would_act() -> None:
    for attack in (*ATTACKS[:3], ATTACKS[6], *ATTACKS[8:11]):
        assert alive(f"<p>{attack}</p>"), attack
    assert alive("<p title='' onmouseover='alert(1)'>")


@pytest.mark.parametrize(
    "path", ["/", "/?search={attack}", "/saes/{id}/", "/saes/{id}/card/", "/saes/{id}/delete/",
             "/storage/", "/storage/look/", "/hub/?repo={attack}", "/hub/{attack}/x/",
             "/?model_name={attack}",
             "/sign-in/?next={attack}", "/admin/saes/sae/", "/nowhere/{attack}/"],
)  # fmt: skip
def test_no_page_brings_it_to_life(client: Client, hostile: Sae, path: str) -> None:
    for attack in ATTACKS if "{attack}" in path else [""]:
        answer = client.get(path.format(id=hostile.id, attack=quote(attack, safe="")))
        text = answer.content.decode()
        assert alive(text) == []
        assert ">14<" not in text


def test_nor_does_the_socket_or_a_message(client: Client, hostile: Sae) -> None:
    text = render_to_string("saes/card.html#card", {"sae": hostile, "oob": True})
    assert alive(text) == []
    hostile.jobs.all().delete()
    answer = client.post(f"/saes/{hostile.id}/delete/", {"keep": ""}, follow=True)
    assert "Deleted &lt;img" in answer.content.decode()
    assert alive(answer.content.decode()) == []


def test_names_in_a_repository_are_text(client: Client, hub: LocalHub) -> None:
    files = sample_files("saelens_v6_standard")
    hostile = {
        name.replace("blocks.3", f"{attack.replace('/', '')}.3"): body
        for attack in ATTACKS
        for name, body in files.items()
    }
    card = {"license": "<blink>", "base_model": '"><script>alert(1)</script>'}
    hub.add_repo("a/evil", hostile, card=card)
    answer = client.get("/hub/a/evil/")
    assert answer.status_code == 200
    assert alive(answer.content.decode()) == []


def test_what_users_type_comes_back_as_text(client: Client, hub: LocalHub) -> None:
    for attack in ATTACKS:
        posted = {"repo": attack, "revision": attack, "token": attack}
        for path in ("/hub/", "/hub/download/"):
            assert alive(client.post(path, posted).content.decode()) == []
        header = client.get("/hub/a/b/header/", {"where": attack, "revision": attack})
        assert alive(header.content.decode()) == []
