"""Rows S28, S29 and S30: whatever others wrote, a page has the elements it has for plain words.

Each page is shown twice, with plain words and with an attack in the same places: both must parse
to the same elements with the same attributes.
"""

import json
import re
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from urllib.parse import quote

import pytest
from django.contrib import admin
from django.contrib.admin.models import CHANGE, LogEntry
from django.contrib.admin.utils import quote as admin_quote
from django.contrib.auth.models import Group, User
from django.contrib.contenttypes.models import ContentType
from django.core.cache import cache
from django.db.models import Model
from django.test import Client
from django.urls import NoReverseMatch, reverse
from django.utils import timezone

from saes import api_tokens, services, vault
from saes.consumers.pages import _card
from saes.models import (
    ApiToken,
    HubToken,
    Job,
    Publication,
    Published,
    Sae,
    SaeFile,
    Training,
    Upload,
)
from tests.attacks.markup import ATTACKS, acting, shape
from tests.views.conftest import CERTIFICATE, client, data_dir, hub, owner  # noqa: F401  fixtures

pytestmark = pytest.mark.django_db
PLAIN = "plain words"
OWN_PAGES = [
    "/", "/?search={text}", "/?model_name={text}&format={text}&status={text}&sort={text}",
    "/saes/{id}/", "/saes/{id}/card/", "/saes/{id}/delete/", "/saes/{asking}/", "/storage/",
    "/import/uploads/", "/import/uploads/{upload}/", "/import/uploads/{text}/",
    "/hub/?repo={text}", "/hub/{text}/x/", "/hub/x/{text}/?revision={text}&type={text}",
    "/hub/tokens/", "/hub/tokens/{hub_token}/remove/",
    "/trainings/", "/trainings/?search={text}&status={text}", "/trainings/train_0/",
    "/trainings/train_0/?step={text}", "/trainings/{text}/",
    "/hub/a/b/header/?where={text}&revision={text}", "/nowhere/{text}/", "/saes/{text}/",
    "/sign-in/{text}/", "/api/v1/docs", "/jobs/", "/publish/", "/publish/?search={text}",
    "/publish/?sae={published}", "/publish/?sae={text}", "/publish/?training={text}",
    "/publish/history/", "/publish/{publication}/", "/publish/{failed}/", "/publish/{text}/",
    "/publish/{publication}/live/", "/saes/{published}/",
]  # fmt: skip


@pytest.fixture
def world(owner: User) -> tuple[Sae, Sae]:  # noqa: F811
    """One row of each kind, in a state where everything of it is shown."""
    failed = Sae.objects.create(
        name="x", source=Sae.Source.HUGGINGFACE, status=Sae.Status.ERROR, certificate=CERTIFICATE,
        created_by=owner, d_in=1, d_sae=2, file_size_bytes=5,
    )  # fmt: skip
    SaeFile.objects.create(sae=failed, kind="source", size=1, sha256="0" * 64)
    Job.objects.create(
        kind=Job.Kind.DOWNLOAD, sae=failed, state=Job.State.CRASHED, created_by=owner
    )
    Job.objects.create(
        kind=Job.Kind.DOWNLOAD, sae=failed, state=Job.State.RUNNING, stage="downloading",
        bytes_total=10, created_by=owner,
    )  # fmt: skip
    asking = Sae.objects.create(
        name="y", source=Sae.Source.HUGGINGFACE, status=Sae.Status.ERROR, error_code="needs_facts"
    )
    Training.objects.create(id="train_0", name="x", directory="/nowhere", status="running")
    api_tokens.create(owner, "x")
    vault.keep(owner, "hf_a_long_enough_token")
    HubToken.objects.update(tested_at=timezone.now(), last_used_at=timezone.now())
    kept = services.library().root / "kept" / "sae_000000000001"
    kept.mkdir(parents=True)
    (kept / "file").write_bytes(b"x")
    published = Sae.objects.create(name="z", source=Sae.Source.LOCAL, status=Sae.Status.READY)
    for verified in (now := timezone.now(), None):
        row = Publication.objects.create(
            repo_id="a/b", commit="a" * 40, created_by=owner, verified_at=verified
        )
        Published.objects.create(publication=row, sae=published, name="z", folder="a")
        Job.objects.create(
            kind=Job.Kind.PUBLISH, sae=published, publication=row, created_by=owner,
            state=Job.State.DONE if verified else Job.State.FAILED,
            ended_at=verified or now - timedelta(hours=1),
        )  # fmt: skip
    upload = Upload.objects.create(created_by=owner, files=[{"name": "x"}], is_whole=True)
    sent = services.library().upload(upload.id)
    sent.mkdir(parents=True)
    (sent / "sae.safetensors").write_bytes(b"x")
    LogEntry.objects.create(
        user=owner, content_type=ContentType.objects.get_for_model(Sae), object_id=failed.id,
        action_flag=CHANGE,
    )  # fmt: skip
    return failed, asking


def write(text: str) -> None:
    """`text` in every place that a user, a repository or an error can fill."""
    facts = {text: {"value": text, "origin": "file"}}
    Sae.objects.update(
        name=text, description=text, notes=text, tags=[text], hf_repo_id=text, hf_filepath=text,
        hf_revision=text, hf_commit=text[:40], error_message=text, error_solution=text,
        model_name=text, model_id=text, architecture=text[:40], hook_name=text,
        hook_type=text[:40], format=text[:40], facts=facts, given_facts={text: text},
        tensors=[{"name": text, "dtype": text, "shape": [1, 2]}], local_path=text,
        import_path=text, trained={
            "name": text, "step": 1, "datasets": [text], "hyperparameters": {text: text},
        },
    )  # fmt: skip
    Training.objects.update(
        name=text, model_name=text, datasets=[text], hyperparameters={text: text}, directory=text
    )
    asked = {"name": "k", "question": text, "readings": {text: text}}
    Sae.objects.filter(error_code="needs_facts").update(missing_facts=[asked])
    Job.objects.update(
        message=text, file_name=text, worker=text[:100], traceback=text, error_message=text,
        error_solution=text, error_code=text[:40], target=text[:40],
    )  # fmt: skip
    SaeFile.objects.update(path=text, sha256=text[:64], verified_against=text[:80])
    Upload.objects.update(files=[{"name": text, "size": 0}])
    Publication.objects.update(
        repo_id=text, license=text[:40], message=text, account=text, commit=text[:40],
        commit_url=text, pull_request=text,
    )  # fmt: skip
    Published.objects.update(name=text)
    for number, row in enumerate(Published.objects.all()):
        Published.objects.filter(id=row.id).update(folder=f"{text}{number}")
    User.objects.update(username=text, first_name=text, email=text)
    Group.objects.filter(name__in=["viewer", text]).update(name=text)
    ApiToken.objects.update(name=text)
    scope = {"kind": text, "name": text, "permissions": [text]}
    told = {"name": text, "role": text, "orgs": {text: text}, "scopes": [scope]}
    HubToken.objects.filter(is_usual=False).delete()  # that a form added: names are unique
    HubToken.objects.update(name=text, identity=told, test_error=text)
    LogEntry.objects.update(object_repr=text, change_message=text)
    label = {"name": text, "repo": text, "path": text}
    (services.library().root / "kept/sae_000000000001/kept.json").write_text(json.dumps(label))
    cache.clear()


def forget(text: str) -> None:
    Group.objects.filter(name=text).update(name="viewer")


def admin_pages() -> Iterator[str]:
    """List, form, deletion and history of every row that the admin knows."""
    yield reverse("admin:index")
    for model in admin.site._registry:
        if not model._meta.managed:
            continue  # the queue's dashboard: it shows what Redis holds, see test_queue
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}"
        yield reverse(f"{name}_changelist")
        yield reverse(f"{name}_changelist") + "?q={text}"
        row: Model | None = model._default_manager.first()
        for verb in ("change", "delete", "history") if row else ():
            try:
                yield reverse(f"{name}_{verb}", args=[admin_quote(row.pk)])  # type: ignore[union-attr]
            except NoReverseMatch:
                continue


def shown(client: Client, paths: list[str], text: str) -> dict[str, str]:  # noqa: F811
    write(text)
    said = quote(text, safe="")
    pages = {path: client.get(path.replace("{text}", said)) for path in paths}
    forget(text)
    return {path: page.content.decode() for path, page in pages.items()}


KNOWN: dict[str, dict[int, list[str]]] = {}


def plain_shapes(kind: str, client: Client, paths: list[str]) -> dict[str, list[str]]:  # noqa: F811
    """Shapes with plain words: made once, as they are the same for the rows of every test."""
    if kind not in KNOWN:
        pages = shown(client, paths, PLAIN).values()
        KNOWN[kind] = {number: shape(page) for number, page in enumerate(pages)}
    return {path: KNOWN[kind][number] for number, path in enumerate(paths)}


@pytest.fixture
def paths(world: tuple[Sae, Sae]) -> list[str]:
    failed, asking = world
    lost, made = Publication.objects.order_by("verified_at")
    words = {
        "{id}": failed.id, "{asking}": asking.id, "{upload}": Upload.objects.get().id,
        "{published}": str(made.saes.get().sae_id), "{publication}": made.id, "{failed}": lost.id,
        "{hub_token}": str(HubToken.objects.get().id),
    }  # fmt: skip
    names = "|".join(it.strip("{}") for it in words)
    return [re.sub(f"{{({names})}}", lambda it: words[it[0]], path) for path in OWN_PAGES]


@pytest.mark.parametrize("attack", ATTACKS)
def test_s28_s29_no_page_gets_an_element_or_attribute_from_a_text(
    client: Client,  # noqa: F811
    paths: list[str],
    attack: str,
) -> None:
    plain = plain_shapes("pages", client, paths)
    known = {element for page in plain.values() for element in page}
    for path, page in shown(client, paths, attack).items():
        # What an address asks for decides what is shown, but never which elements there are.
        assert shape(page) == plain[path] or "{text}" in path, path
        assert set(shape(page)) <= known, path
        assert acting(page) == [], path


@pytest.mark.parametrize("attack", ATTACKS[:8])
def test_s28_nor_does_the_admin(
    client: Client,  # noqa: F811
    world: tuple[Sae, Sae],
    attack: str,
) -> None:
    pages = list(admin_pages())
    plain = plain_shapes("admin", client, pages)
    for path, page in shown(client, pages, attack).items():
        assert shape(page) == plain[path], path
    assert [path for path in pages if "/saes/sae/" in path and "change/" in path]


@pytest.mark.parametrize("attack", ATTACKS)
def test_s28_nor_does_the_socket(world: tuple[Sae, Sae], owner: User, attack: str) -> None:  # noqa: F811
    failed, _ = world
    write(PLAIN)
    plain = _card(failed.id, owner)
    write(attack)
    assert shape(_card(failed.id, owner)) == shape(plain)
    assert acting(_card(failed.id, owner)) == []


def forms(sae: Sae) -> dict[str, dict[str, str]]:
    """What can be posted, and refused with what was typed shown again."""
    return {
        "/hub/": {"repo": "{text}", "revision": "{text}", "token": "{text} "},
        "/hub/download/": {"repo": "{text}", "commit": "{text}", "where": "{text}"},
        f"/saes/{sae.id}/edit/": {"name": "", "description": "{text}", "notes": "{text}",
                                  "tags": "{text}"},
        f"/saes/{sae.id}/facts/": {"model_name": "{text}", "layer": "{text}"},
        f"/saes/{sae.id}/retry/": {},
        "/publish/rehearse/": {"sae": sae.id, "repo": "{text}", "license": "{text}",
                               "message": "{text}", "token": "{text}", "secret": "{text} ",
                               "kept": "{text}", f"folder-{sae.id}": "{text}",
                               "visibility": "{text}"},
        "/publish/start/": {"rehearsed": "{text}", "typed": "{text}"},
        "/sign-in/": {"username": "{text}", "password": "{text}", "next": "{text}"},
        "/storage/{text}/remove/": {},
        "/hub/tokens/": {"name": "{text}", "token": "{text}"},
    }  # fmt: skip


def sent(client: Client, sae: Sae, text: str, **headers: str) -> list[str]:  # noqa: F811
    write(text)
    cache.clear()
    answers = [
        client.post(
            path.replace("{text}", quote(text, safe="")),
            {name: value.replace("{text}", text) for name, value in data.items()},
            headers=headers,
        )
        for path, data in forms(sae).items()
    ]
    forget(text)
    return [answer.content.decode() for answer in answers]


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize("headers", [{}, {"hx-request": "true"}], ids=["page", "htmx"])
def test_s28_what_a_form_or_an_error_repeats_is_text(
    client: Client,  # noqa: F811
    world: tuple[Sae, Sae],
    attack: str,
    headers: dict[str, str],
) -> None:
    kind = f"forms {headers}"
    if kind not in KNOWN:
        pages = [
            page
            for text in (PLAIN, "plain", "5", "plain/words", "plain/words/x")
            for page in sent(client, world[0], text, **headers)
        ]
        KNOWN[kind] = {number: shape(page) for number, page in enumerate(pages)}
    known = {element for page in KNOWN[kind].values() for element in page}
    for page in sent(client, world[0], attack, **headers):
        assert set(shape(page)) <= known
        assert acting(page) == []


@pytest.mark.parametrize("attack", ATTACKS)
def test_s28_s29_the_api_answers_in_json_that_no_browser_takes_for_a_page(
    client: Client,  # noqa: F811
    world: tuple[Sae, Sae],
    attack: str,
) -> None:
    write(attack)
    job, said = world[0].jobs.first(), quote(attack, safe="")
    assert job is not None
    for path in (
        "saes", f"saes/{world[0].id}", "jobs", f"jobs/{job.id}", f"saes/{said}", f"jobs/{said}",
        f"saes?search={said}", f"saes?sort_by={said}", f"saes?{said}=1", said,
    ):  # fmt: skip
        assert_is_json(client, path)
    forget(attack)


def test_s29_so_does_its_document_which_tells_of_no_row(
    client: Client,  # noqa: F811
    world: tuple[Sae, Sae],
) -> None:
    plain = assert_is_json(client, "openapi.json")
    write(ATTACKS[0])
    assert assert_is_json(client, "openapi.json") == plain
    forget(ATTACKS[0])


def assert_is_json(client: Client, path: str) -> Any:  # noqa: F811
    answer = client.get(f"/api/v1/{path}")
    assert answer["Content-Type"].partition(";")[0] == "application/json", path
    assert answer["X-Content-Type-Options"] == "nosniff", path
    return json.loads(answer.content)


def test_the_checks_find_what_would_act() -> None:
    for attack in ATTACKS:
        where = f"<p title='{attack}' class=\"{attack}\">{attack}</p><a href='{attack}'>x</a>"
        plain = where.replace(attack, PLAIN)
        harmless = ("[x]", "<!--", "{{", "&lt;", "+ADw", "javascript:", "data:")
        assert shape(where) != shape(plain) or attack.startswith(harmless), attack
    for text in (
        "<a href=' java\tscript:alert(1)'>", "<img src=//evil.example/x>", "<div data-hx-get=/x>",
        "<form action=https://evil.example>", "<script>1</script>", "<p hx-on:click=x>",
        "<meta http-equiv=refresh>", "<a href='/\\evil.example'>", "<base href=/>",
    ):  # fmt: skip
        assert acting(text), text
    assert not acting("<a href='/x?a=//evil.example'><img src=/y><a href=https://huggingface.co/>")
