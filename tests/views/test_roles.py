"""Who may do what: every address and method, asked by everybody. A new one has to be named here."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import URLPattern, URLResolver, get_resolver

from saes import (
    api_tokens,
    confirming,
    converter,
    moves,
    publications,
    services,
    uploads,
    vault,
)
from saes.api.main import api
from saes.models import (
    ApiToken,
    Batch,
    HubToken,
    Job,
    Publication,
    Published,
    Sae,
    Training,
    Upload,
)
from tests.fixtures import write_saelens
from tests.hub import LocalHub
from tests.jobs.conftest import SAMPLES, sample_files
from tests.views.conftest import put_file, signed_in
from tests.views.people import NOBODY, ROLES, everybody, everything_kept
from tests.views.rights import (
    CHANGES,
    COMING,
    OWN,
    PUBLISHED_ID,
    READ,
    REFUSED,
    REPO,
    SEE_JOB,
    WALK,
    WHERE,
    Way,
)
from tests.views.test_doors import EVERYTHING

pytestmark = pytest.mark.django_db
METHODS = ("get", "post", "put", "patch", "delete")
# Open to all: signing in and out, and a word for whoever watches over the server.
OPEN = {"/healthz", "/sign-in/", "/sign-in/<str:signed>/"}
# Nothing to ask for: leaving, and the root of the API.
PLAIN = {"/sign-out/", "/api/v1/"}
STAFF = re.compile(r"/admin/")


# --- the walk sees everything ---------------------------------------------------------------------


def routes(patterns: list[URLPattern | URLResolver], start: str = "/") -> Iterator[str]:
    for it in patterns:
        path = start + str(it.pattern)
        if isinstance(it, URLResolver):
            yield from routes(it.url_patterns, path)
        else:
            yield path


def test_every_address_is_in_a_table() -> None:
    found = {path for path in routes(get_resolver().url_patterns) if not STAFF.match(path)}
    assert found == {way.path for way in WALK} | OPEN | PLAIN


def test_every_operation_of_the_api_is_in_the_table() -> None:
    paths = api.get_openapi_schema()["paths"].items()
    documented = {(verb, path) for path, verbs in paths for verb in verbs}
    walked = {(way.method, re.sub(r"<(\w+:)?(\w+)>", r"{\2}", way.path)) for way in WALK}
    assert documented - walked == set()


# --- the scene ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def walked_hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        local.add_repo(REPO, sample_files("saelens_v6_standard"))
        local.add_token("hf_anybody_1234", "anybody", "write")
        yield local


@pytest.fixture
def people(owner: User, data_dir: object) -> dict[str, User]:
    found = everybody()
    for user in found.values():
        vault.reveal(vault.keep(user, "hf_anybody_1234"))  # its first use is noted
    return found


@pytest.fixture(scope="module")
def converted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of an SAE in the library's own form."""
    target = tmp_path_factory.mktemp("converted") / "sae"
    converter.convert(SAMPLES / "saelens_v6_standard" / "repo", target, services.NATIVE, WHERE)
    return target


@pytest.fixture
def real(sae: Sae, converted: Path) -> Sae:
    """`sae` with weights."""
    for path in converted.iterdir():
        put_file(sae, f"native/{path.name}", path.read_bytes())
    services.describe(sae, converter.inspect(converted))
    return sae


@pytest.fixture
def names(
    people: dict[str, User], real: Sae, walked_hub: LocalHub, settings: Any
) -> dict[str, object]:
    """What stands in addresses and bodies for the words in angle brackets."""
    settings.HF_ENDPOINT, sae = walked_hub.url, real
    job = Job.objects.create(
        kind=Job.Kind.DOWNLOAD, sae=sae, state=Job.State.DONE, created_by=people["editor"]
    )
    kept = settings.DATA_DIR / "kept" / "sae_000000000001"
    kept.mkdir(parents=True)
    (kept / "file").write_text("kept")
    orphan = settings.DATA_DIR / "saes" / "sae_000000000002"
    orphan.mkdir(parents=True)
    (orphan / "file").write_text("nobody's")
    settings.IMPORT_ROOTS = {"imports": settings.DATA_DIR / "imports"}
    settings.TRAININGS_DIR = settings.DATA_DIR / "trainings"
    write_saelens(settings.DATA_DIR / "imports" / "layer_1")
    owner, repo = REPO.split("/")
    token, _ = api_tokens.create(people["editor"], "a notebook")
    return {
        "sae_id": sae.id, "job_id": job.id, "token_id": token.id, "name": kept.name,
        "hub_token_id": vault.keep(people["editor"], "hf_anybody_1234", "another").id,
        "batch_id": Batch.objects.create(name="many", created_by=people["editor"]).id,
        "publication_id": publication_of(people["editor"], sae), "hub_token": 0, "sealed": "",
        "verb": "pause", "upload_id": upload_of(people["editor"]),
        "ticket": uploads.ticket(people["editor"]),
        "training_id": Training.objects.create(
            name="a run", directory=str(SAMPLES / "mistudio_v2_topk/repo")
        ).id,
        "owner": owner, "repo": repo, "commit": walked_hub.repo(REPO).sha,
    }  # fmt: skip


def publication_of(user: User, sae: Sae) -> str:
    """One that failed."""
    row = Publication.objects.create(
        id=PUBLISHED_ID, repo_id="anybody/published", account="anybody", created_by=user
    )
    Published.objects.create(publication=row, sae=sae, name=sae.name, folder="layer_3")
    Job.objects.create(
        kind=Job.Kind.PUBLISH, sae=sae, publication=row, state=Job.State.FAILED, created_by=user,
        token=vault.of(user),
    )  # fmt: skip
    return row.id


def sealed_for(user: User, sae: Sae) -> str:
    """What this user saw at a rehearsal, and may publish."""
    token = vault.of(user)
    assert token
    wish = publications.wish_for([sae], "anybody/published", ["layer_3"], license="mit")
    told = publications.rehearse(None, [sae], wish, token)
    return confirming.seal(user, confirming.Seen.of(told, token))


def upload_of(user: User) -> str:
    """One that is complete; and COMING, which is not."""
    whole = uploads.announce(user, [{"name": "x", "size": 0}])
    folder = services.library().upload(whole.id)
    shutil.copytree(SAMPLES / "saelens_v6_standard" / "repo", folder, dirs_exist_ok=True)
    made = Upload.objects.create(id=COMING, created_by=user, files=[{"name": "x", "size": 1000}])
    services.library().upload(made.id).mkdir()
    return whole.id


def set_up(state: str, sae: Sae, editor: User) -> Job | None:
    """The SAE in this state; the job that brought it there."""
    if state == "ready":
        return None
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.DOWNLOADING)
    job = Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae, created_by=editor)
    if state != "busy":
        assert {"paused": moves.pause, "failed": moves.cancel}[state]([job.id])
    return job


def filled(value: Any, names: dict[str, object]) -> Any:
    if isinstance(value, dict):
        return {filled(name, names): filled(it, names) for name, it in value.items()}
    if isinstance(value, list):
        return [filled(it, names) for it in value]
    if not isinstance(value, str):
        return value
    return re.sub(r"<(?:\w+:)?(\w+)>", lambda found: str(names[found[1]]), value)


def ask(client: Client, way: Way, names: dict[str, object]) -> Any:
    names = {**names, **way.words}
    path, data = filled(way.path, names) + way.query, filled(way.data, names)
    if "/send/" in path:
        data = {"files": SimpleUploadedFile("x", b"x")}
    if (path.startswith("/api/") or path.endswith("/announce/")) and way.method != "get":
        return getattr(client, way.method)(path, data, content_type="application/json")
    return getattr(client, way.method)(path, data)


# --- the walk -------------------------------------------------------------------------------------


@pytest.mark.parametrize("role", [NOBODY, *ROLES])
@pytest.mark.parametrize("way", WALK, ids=lambda way: way.id)
def test_everybody_gets_what_the_table_says(
    way: Way, role: str, sae: Sae, people: dict[str, User], names: dict[str, object]
) -> None:
    job = set_up(way.state, sae, people["editor"])
    names = {**names, **({"job_id": job.id} if job else {})}
    client = Client() if role == NOBODY else signed_in(people[role])
    if role != NOBODY:
        names["ticket"] = uploads.ticket(people[role])
        names["hub_token"] = vault.of(people[role]).pk  # type: ignore[union-attr]
        if "<sealed>" in way.data.values():
            names["sealed"] = sealed_for(people[role], sae)
    before = everything_kept()
    answer = ask(client, way, names)
    if answer.streaming:
        assert async_to_sync(whole)(answer)
    changed = everything_kept() != before
    if role == NOBODY:
        assert not changed
        is_shut_out(answer, way)
    elif way.rights[role] == REFUSED:
        assert not changed
        is_refused(answer, way)
    else:
        assert answer.status_code < 400, answer.content
        assert changed == (way.rights[role] == CHANGES)


async def whole(answer: Any) -> bytes:
    return b"".join([part async for part in answer])


def is_shut_out(answer: Any, way: Way) -> None:
    if way.path.startswith("/api/") and way.path != "/api/v1/docs":
        assert (answer.status_code, answer.json()["code"]) == (401, "not_signed_in")
    else:
        assert answer.status_code == 302
        assert answer["Location"].startswith("/sign-in/?next=/")


def is_refused(answer: Any, way: Way) -> None:
    """403 and its code; 404 for what is somebody else's alone, which is not told apart."""
    if answer.status_code == 404:
        theirs = ("job", "batch", "token", "upload", "publication")
        assert any(f"{it}_id" in way.path for it in theirs)
        return
    assert answer.status_code == 403
    if way.path.startswith("/api/"):
        assert answer.json()["code"] == "forbidden"
    else:
        assert "<code>forbidden</code>" in answer.content.decode()


@pytest.mark.parametrize("path", sorted({way.path for way in WALK}))
def test_no_address_takes_a_method_that_is_not_in_the_table(
    path: str, people: dict[str, User], names: dict[str, object]
) -> None:
    client = signed_in(people["editor"])
    before = everything_kept()
    for method in set(METHODS) - {way.method for way in WALK if way.path == path}:
        answer = ask(client, Way(method, path, {}), names)
        # Of the documentation ninja makes views that take any method, and show the same for all.
        documentation = path in ("/api/v1/docs", "/api/v1/openapi.json")
        assert answer.status_code == (200 if documentation else 405), method
    assert everything_kept() == before


@pytest.mark.parametrize("role", [role for role in ROLES if role != "newcomer"])
def test_admin_and_dashboard_are_for_staff_whatever_the_role(
    role: str, people: dict[str, User], sae: Sae
) -> None:
    client = signed_in(people[role])
    before = everything_kept()
    for path in EVERYTHING:
        if STAFF.match(path) and path != "/admin/login/":
            for method in ("get", "post"):
                assert getattr(client, method)(path).status_code in (302, 401, 403, 404), path
    assert everything_kept() == before


@pytest.mark.parametrize("way", [way for way in WALK if way.rights is OWN], ids=lambda way: way.id)
def test_what_is_ones_own_changes_nothing_of_others(
    way: Way, people: dict[str, User], names: dict[str, object]
) -> None:
    mine = people["viewer"]

    def of_others() -> list[Any]:
        return [
            list(rows.exclude(owner=mine).order_by("id").values())
            for rows in (HubToken.objects, ApiToken.objects)
        ]

    before = of_others()
    ask(signed_in(mine), way, names)
    assert of_others() == before


@pytest.mark.parametrize(
    "way",
    [w for w in WALK if w.path.startswith("/api/v1/") and w.rights not in (READ, SEE_JOB)],
    ids=lambda way: way.id,
)
def test_an_editors_token_that_may_read_changes_nothing(
    way: Way, sae: Sae, people: dict[str, User], names: dict[str, object]
) -> None:
    job = set_up(way.state, sae, people["editor"])
    names = {**names, **({"job_id": job.id} if job else {})}
    _, token = api_tokens.create(people["editor"], "reads")
    client = Client(headers={"authorization": f"Bearer {token}"})
    client.get("/api/v1/saes")  # its first use is noted
    before = everything_kept()
    answer = ask(client, way, names)
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert everything_kept() == before
