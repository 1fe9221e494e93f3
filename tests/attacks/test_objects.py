"""Rows S20, S21, S22 and S38: names never become paths, and what is one person's stays theirs."""

import csv
import io
import re
import shutil
from pathlib import Path

import pytest
from django.conf import settings as configured
from django.contrib.auth.models import User
from django.test import Client

from saes import moves, services, steering, vault
from saes.admin.exporting import COLUMNS, cell
from saes.errors import SaeError
from saes.models import HubToken, Job, Sae
from tests.api.conftest import (  # noqa: F401  fixtures
    ApiClient,
    client_of,
    data_dir,
    editor,
    hub,
    owner,
    person,
    started,
    viewer,
    work,
)
from tests.api.made import ready_sae
from tests.attacks.markup import ATTACKS
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.views.conftest import signed_in

PRIVATE, PATH = "alice/private", "blocks.3.hook_resid_post"
SECRET, BOBS = "hf_alice_1111", "hf_bobs_token_2222"
NAMES = [
    "../../x", "/etc/passwd", "..", ".", "a/b\\c", "x\u202egnp.exe", "con", "~", "%2e%2e%2f",
    'a"; filename="evil.html', "a\u2215b", "😀" * 100, "=cmd()", *ATTACKS,
]  # fmt: skip


@pytest.fixture
def private(hub: LocalHub) -> str:  # noqa: F811
    hub.add_token(BOBS, "bob")
    hub.add_repo(PRIVATE, sample_files("saelens_v6_standard"), private=True, readers=["alice"])
    return PRIVATE


@pytest.fixture
def alice(transactional_db: None) -> User:
    return person("alice", "editor")


@pytest.fixture
def bob(transactional_db: None) -> User:
    return person("bob", "editor")


# --- names and paths ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_s20_a_name_is_no_path_on_disk_nor_in_a_download(
    owner: User,  # noqa: F811
    name: str,
    data_dir: Path,  # noqa: F811
) -> None:
    sae = ready_sae(owner, name=name[:200], hf_filepath=name, local_path=name[:200])
    assert re.fullmatch(r"saes/sae_[0-9a-f]{12}", Sae.objects.get(id=sae.id).local_path)
    answer = signed_in(owner).get(f"/api/v1/saes/{sae.id}/download")
    said = answer["Content-Disposition"]
    answer.close()
    assert answer.status_code == 200
    assert answer["X-Content-Type-Options"] == "nosniff"
    assert answer["Content-Type"] in ("application/zip", "application/octet-stream")
    assert re.fullmatch(
        r"""attachment; filename="[\w. -]+"(; filename\*=UTF-8''[\w.%~-]+)?""", said, re.ASCII
    )
    assert not re.search(r"%2f|%5c|%00|%0a|%0d|\.\.", said, re.IGNORECASE)
    kept = steering.delete_sae(owner, sae, keep_files=True)
    assert kept == f"kept/{sae.id}"
    outside = {path.name for path in data_dir.parent.iterdir()}
    assert outside == {"data"}


@pytest.mark.parametrize("name", ["x.html", "x.svg", "x.xhtml", "x.js"])
def test_s30_a_file_that_a_browser_would_run_is_an_attachment(
    owner: User,  # noqa: F811
    name: str,
) -> None:
    sae = ready_sae(owner)
    row = sae.files.filter(kind="source").first()
    assert row is not None
    home = services.library().home(sae.id)
    (home / row.path).rename(home / "source" / name)
    sae.files.filter(id=row.id).update(path=f"source/{name}")
    answer = signed_in(owner).get(f"/api/v1/saes/{sae.id}/download?file={name}")
    answer.close()
    assert answer.status_code == 200
    assert answer["Content-Type"] == "application/octet-stream"
    assert answer["Content-Disposition"].startswith("attachment;")
    assert "default-src 'self'" in answer["Content-Security-Policy"]


@pytest.mark.parametrize("path", ["/", "", "..", "../..", "saes", "saes/sae_000000000001", "/etc"])
def test_s21_deleting_looks_at_no_stored_path(owner: User, path: str, data_dir: Path) -> None:  # noqa: F811
    other = ready_sae(owner, id="sae_000000000001")
    sae = ready_sae(owner)
    Sae.objects.filter(id=sae.id).update(local_path=path, hf_filepath=path)
    sae.refresh_from_db()
    steering.delete_sae(owner, sae, keep_files=False)
    assert not services.library().home(sae.id).exists()
    assert services.library().home(other.id).is_dir()
    assert (data_dir / "saes").is_dir()


@pytest.mark.parametrize("forged", ["..", ".", "../..", "sae_..", "", "saes", "sae_00000000000g"])
def test_s21_a_row_whose_id_is_a_path_is_refused_and_kept(
    owner: User,  # noqa: F811
    forged: str,
    data_dir: Path,  # noqa: F811
) -> None:
    other = ready_sae(owner)
    sae = Sae.objects.create(id=forged, name="x", source=Sae.Source.LOCAL)
    for keep in (True, False):
        with pytest.raises(SaeError):
            steering.delete_sae(owner, sae, keep_files=keep)
    assert services.library().home(other.id).is_dir()


def test_s21_what_lies_behind_a_link_is_left_alone(
    owner: User,  # noqa: F811
    tmp_path: Path,
) -> None:
    elsewhere = tmp_path / "elsewhere"
    for name in ("parts", "exports", "native.draft", "source"):
        (elsewhere / name).mkdir(parents=True)
        (elsewhere / name / "file").write_bytes(b"x")
    sae = ready_sae(owner)
    home = services.library().home(sae.id)
    shutil.rmtree(home)
    home.symlink_to(elsewhere)
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.PENDING)
    moves.cancel([Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae, created_by=owner).id])
    for keep in (True, False):
        with pytest.raises(SaeError):
            steering.delete_sae(owner, sae, keep_files=keep)
    services.drop_exports(sae)
    assert len([path for path in elsewhere.rglob("*") if path.is_file()]) == 4


@pytest.mark.parametrize("name", ["=cmd|'/C calc'!A0", "+1", "-1", "@SUM(1)", "\t=1", *ATTACKS])
def test_s22_no_cell_of_a_table_is_a_formula(name: str) -> None:
    line = io.StringIO()
    csv.writer(line).writerow([cell(name) for _ in COLUMNS])
    (row,) = csv.reader(io.StringIO(line.getvalue()))
    assert len(row) == len(COLUMNS)
    assert all(it[:1] not in "=+-@\t\r\n" and it.endswith(name) for it in row)


# --- what is somebody's own -----------------------------------------------------------------------


def test_s38_a_preview_that_a_token_opened_is_for_that_token_alone(
    private: str, alice: User, bob: User
) -> None:
    """Alice by a token of hers, on the page and in the API; then everybody else, from the cache."""
    vault.keep(alice, SECRET)
    body = {"repo_id": private}
    hers, his = client_of(alice), client_of(bob)
    assert PATH in signed_in(alice).get(f"/hub/{private}/").content.decode()
    assert hers.post("/saes/hf/preview", body)["sae_paths"] == [PATH]
    vault.keep(bob, BOBS)
    for secret in (None, BOBS, "hf_wrong", SECRET[:-1], SECRET + "1", ""):
        told = his.post("/saes/hf/preview", body | {"access_token": secret})
        assert his.status in (401, 403, 404), told
        assert PATH not in str(told)
    for path in (f"/hub/{private}/", f"/hub/{private}/header/?where={PATH}"):
        page = signed_in(bob).get(path).content.decode()
        assert PATH not in page.replace(path, "") and "16" not in re.findall(r"(\d+) ×", page)


def test_s38_a_token_in_a_request_opens_nothing_for_the_next_request(
    private: str, alice: User, bob: User
) -> None:
    hers = client_of(alice)
    body = {"repo_id": private}
    key = {"idempotency-key": "the-same"}
    assert hers.post("/saes/hf/preview", body | {"access_token": SECRET}, **key)["sae_paths"]
    assert HubToken.objects.count() == 0
    for client in (hers, client_of(alice), client_of(bob)):
        assert PATH not in str(client.post("/saes/hf/preview", body))
        assert client.status == 404
    his = client_of(bob)
    assert PATH not in str(his.post("/saes/hf/preview", body | {"access_token": "x"}, **key))


def failed_job(hers: ApiClient, hub: LocalHub, started: list[Job]) -> Job:  # noqa: F811
    """A download of Alice's private repository, by a token for this job alone, that failed."""
    told = hers.post(
        "/saes/download", {"repo_id": PRIVATE, "filepath": PATH, "access_token": SECRET}
    )
    assert hers.status == 202, told
    return Job.objects.get(id=told["job_id"])


def test_s38_nobody_works_with_the_token_of_somebody_else(
    private: str,
    alice: User,
    bob: User,
    hub: LocalHub,  # noqa: F811
    started: list[Job],  # noqa: F811
) -> None:
    job = failed_job(client_of(alice), hub, started)
    his = client_of(bob)
    for verb in ("cancel", "pause", "resume", "retry"):
        his.post(f"/jobs/{job.id}/{verb}")
        assert his.status == 404, verb
    his.get(f"/jobs/{job.id}")
    assert his.status == 404
    assert his.get("/jobs")["data"] == []
    his.delete(f"/saes/{job.sae_id}")
    assert his.status == 403
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED and job.token_id
    assert HubToken.objects.filter(id=job.token_id).exists()
    client_of(alice).post(f"/jobs/{job.id}/cancel")
    assert not HubToken.objects.exists()
    started.clear()
    vault.keep(alice, SECRET)
    his.post(f"/saes/{job.sae_id}/retry")
    signed_in(bob).post(f"/saes/{job.sae_id}/retry/")
    for again in Job.objects.filter(created_by=bob):
        assert again.token is None
    hub.log.clear()
    work(started)
    assert {entry.token_tail for entry in hub.log.requests(origin="hub")} <= {"", None}
    assert Sae.objects.get().status == Sae.Status.ERROR


def test_s38_a_download_of_what_one_may_not_see_starts_nothing(
    private: str, alice: User, bob: User
) -> None:
    vault.keep(alice, SECRET)
    his = client_of(bob)
    for token in (None, BOBS, "hf_wrong"):
        body = {"repo_id": private, "filepath": PATH, "access_token": token}
        assert "job_id" not in his.post("/saes/download", body)
        assert his.status in (401, 403, 404)
    assert not Sae.objects.exists() and not Job.objects.exists()
    assert HubToken.objects.count() == 1


def test_s38_ids_cannot_be_guessed_from_others() -> None:
    """48 random bits: no counter, no time."""
    made = [Sae().id for _ in range(500)] + [Job().id for _ in range(500)]
    assert len(set(made)) == 1000
    assert all(re.fullmatch(r"(sae|job)_[0-9a-f]{12}", it) for it in made)
    assert len({it[4:6] for it in made}) > 200


def test_s38_a_viewer_with_every_form_token_changes_nothing(
    owner: User,  # noqa: F811
    viewer: User,  # noqa: F811
) -> None:
    sae = ready_sae(owner)
    client = signed_in(viewer, enforce_csrf_checks=True)
    client.get("/")
    token = client.cookies[configured.CSRF_COOKIE_NAME].value
    before = Sae.objects.values().get()
    verbs = {"edit": {"name": "mine"}, "facts": {"layer": "1"}, "delete": {"keep_files": ""},
             "cancel": {}, "retry": {}}  # fmt: skip
    paths = {f"/saes/{sae.id}/{verb}/": data for verb, data in verbs.items()}
    where = {"repo": "a/b", "repo_type": "model", "commit": "0" * 40, "where": "."}
    for path, data in (paths | {"/hub/download/": where}).items():
        for header in ({}, {"hx-request": "true"}, {"x-http-method-override": "GET"}):
            form = {"csrfmiddlewaretoken": token, **data}
            answer = client.post(path, form, headers=header)
            assert answer.status_code == 403, path
            assert "Viewers may look at the library" in answer.content.decode()
    assert Sae.objects.values().get() == before
    assert not Job.objects.exists()
    assert Client().post(f"/saes/{sae.id}/delete/").status_code == 302
    assert services.library().home(sae.id).is_dir()
