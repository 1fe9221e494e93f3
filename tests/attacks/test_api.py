"""The API under attack: paths that lead out, objects of others, secrets, hostile queries."""

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote_plus

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from saes import services, vault
from saes.models import Job, Sae
from tests.api import conftest
from tests.api.conftest import BASE, ApiClient, client_of, person
from tests.api.made import parsed, ready_sae, running_job

# Fixtures of the API's own tests.
api, owner, editor = conftest.api, conftest.owner, conftest.editor
data_dir, started, fresh_limits = conftest.data_dir, conftest.started, conftest.fresh_limits

LEADING_OUT = [
    "..", "../..", "%2e%2e", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%252e%252e%252f", "%252e%252e%255c",
    "..;/", "..;/..;/admin", "%23/../..", "#/../", "?/../", "%3f/../", "file:%2f%2f%2fetc%2fpasswd",
    "..%5c..%5cetc", "\\..\\..", "%5c..%5c..", "%00", "sae_0%00", "sae_%00/../x", "%2fetc%2fpasswd",
    "%c0%ae%c0%ae%c0%af", "..%c1%9c", "%ff%fe", "%e2%80%ae", "C:%5cwindows", "a" * 5000,
    "%0d%0aX:1", "..%2f..%2fmistudio.sqlite3", "*", "%25", "sae_000000000000%0a",
]  # fmt: skip
ROUTES: list[tuple[str, str, dict[str, str] | None]] = [
    ("get", "/saes/{}", None), ("patch", "/saes/{}", {"notes": "changed"}),
    ("delete", "/saes/{}", None), ("delete", "/saes/{}?delete_files=false", None),
    ("get", "/saes/{}/features", None), ("get", "/saes/{}/files", None),
    ("get", "/saes/{}/download", None), ("post", "/saes/{}/convert", {"format": "saelens"}),
    ("get", "/trainings/{}", None), ("get", "/saes/training/{}/available", None),
    ("get", "/jobs/{}", None), ("post", "/jobs/{}/cancel", {}), ("post", "/jobs/{}/pause", {}),
    ("post", "/jobs/{}/resume", {}), ("post", "/jobs/{}/retry", {}),
]  # fmt: skip
CANARY = "hf_CANARYofsomebody5521"


def everything(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def untouched(data_dir: Path, owner: User) -> Iterator[Path]:
    """A library on disk that is the same after the test."""
    ready_sae(owner)
    before, rows = everything(data_dir), list(Sae.objects.values())
    yield data_dir
    assert everything(data_dir) == before
    assert list(Sae.objects.values()) == rows


@pytest.mark.parametrize("way", LEADING_OUT)
def test_an_id_that_leads_out_of_the_library_is_none(
    api: ApiClient,
    untouched: Path,
    way: str,
) -> None:
    for method, route, body in ROUTES:
        api(method, route.format(way), body)
        assert api.status in (400, 404), (method, route)
        parsed(api.last)


@pytest.mark.parametrize("way", ["../../etc/passwd", "..\\..\\etc", "%2e%2e%2f", "file:///etc"])
def test_a_body_that_leads_out_of_the_library_deletes_nothing(
    api: ApiClient,
    untouched: Path,
    way: str,
) -> None:
    told = api.post("/saes/delete", {"sae_ids": [way, f"sae_/{way}"]})
    assert (told["deleted_ids"], told["failed_count"]) == ([], 2)


# --- S37: what answers tell ----------------------------------------------------------------------


@pytest.mark.parametrize("role", ["viewer", "editor", "admin"])
def test_no_answer_holds_a_secret(settings: Settings, owner: User, role: str) -> None:
    vault.keep(None, CANARY)
    vault.keep(owner, f"{CANARY}x")
    job = running_job(ready_sae(owner), owner)
    Job.objects.filter(id=job.id).update(token=vault.of(owner), traceback="Traceback: inside")
    asker = client_of(person("somebody", role))
    shown = [
        json.dumps(asker.get(path))
        for path in ("/openapi.json", "/saes", "/jobs", f"/jobs/{job.id}", f"/saes/{job.sae_id}")
    ]
    shown.append(Client().get("/healthz").content.decode())
    secrets = (CANARY, settings.SECRET_KEY, str(settings.DATA_DIR), asker.token, job.lease)
    for text in shown:
        assert not [it for it in (*secrets, "Traceback", "elsewhere 1 1") if it in text]


# --- S38: what belongs to others -----------------------------------------------------------------


def test_a_batch_with_ids_of_others_deletes_what_is_allowed(
    owner: User,
    editor: User,
) -> None:
    free, busy = ready_sae(owner), ready_sae(owner)
    running_job(busy, owner, Job.Kind.VERIFY)
    told = client_of(editor).post("/saes/delete", {"sae_ids": [busy.id, "sae_x", free.id]})
    assert told["deleted_ids"] == [free.id]
    assert told["failed_ids"] == [busy.id, "sae_x"]
    assert services.library().home(busy.id).is_dir()
    assert Job.objects.get().state == Job.State.RUNNING


def test_the_sae_that_somebody_else_works_on_is_left_alone(
    owner: User,
    editor: User,
) -> None:
    sae = ready_sae(owner)
    running_job(sae, owner, Job.Kind.VERIFY)
    other = client_of(editor)
    assert other.delete(f"/saes/{sae.id}")["code"] == "forbidden"
    assert other.patch(f"/saes/{sae.id}", {"facts": {"layer": 1}})["code"] == "conflict"
    assert Sae.objects.get(id=sae.id).layer == 3


def test_ids_cannot_be_guessed(owner: User) -> None:
    ids = {Sae.objects.create(name="x", source="local").id for _ in range(200)}
    assert len(ids) == 200 and all(len(sae_id) == len("sae_") + 12 for sae_id in ids)


# --- S42: hostile queries ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "sort_by=__class__", "sort_by=created_by__password", "sort_by=id;DROP+TABLE", "sort_by=?",
        "sort_by=-name", "ordering=user__password", "order=desc;", "limit=1000000000", "limit=1e9",
        "limit=-1", "skip=-1", "skip=99999999999999999999", "limit=0x10", "limit=%00", "search=%00",
        "search=a%00b", "search=%1b[31m", f"search={'x' * 201}", f"search={'x' * 2**20}",
        f"model_name={'x' * 2**20}", "source=__all__", "status=READY", "created_by__password=x",
        "id__regex=.*", "hf_repo_id__startswith=a", "search=a&search__regex=b", f"{'x' * 2**16}=1",
    ],
)  # fmt: skip
def test_a_hostile_query_is_refused(
    api: ApiClient,
    query: str,
) -> None:
    ready_sae()
    for path in ("/saes", "/jobs"):
        api.get(f"{path}?{query}")
        told = parsed(api.last)
        assert (api.status, told["code"]) == (400, "bad_request")
        assert len(api.last.content) < 1000


@pytest.mark.parametrize(
    "search",
    ["%25", "_", "(a%2B)%2B$", ".*", "%27;--", "%22", "%5c", "[a-z]", "{{7*7}}", "%F0%9F%92%A9"],
)
def test_a_search_means_its_letters_and_nothing_else(
    api: ApiClient,
    search: str,
) -> None:
    ready_sae(name="plain", hf_filepath="x")
    odd = ready_sae(name=f"with {unquote_plus(search)} in it", hf_filepath="x")
    assert [sae["id"] for sae in api.get(f"/saes?search={search}")["data"]] == [odd.id]


def test_a_row_with_markup_is_an_answer_of_json(api: ApiClient) -> None:
    sae = ready_sae(name="</script><img src=x onerror=alert(1)>")
    headers = {"authorization": f"Bearer {api.token}", "accept": "text/html"}
    answer = Client().get(f"{BASE}/saes/{sae.id}", headers=headers)
    assert answer["Content-Type"].startswith("application/json")
    assert answer["X-Content-Type-Options"] == "nosniff"
