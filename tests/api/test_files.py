"""Files over the API: which there are, and other formats of an SAE."""

import numpy as np
import pytest
from django.contrib.auth.models import User
from safetensors.numpy import load

from saes import jobs, services
from saes.formats import FORMATS
from saes.formats.base import WritableFormat
from saes.models import ApiToken, Job, Sae
from tests.api.conftest import ApiClient, client_of, work
from tests.api.downloads import download, fetch, sae_with_files
from tests.api.made import gpt2_sae, running_job
from tests.hub import LocalHub


@pytest.fixture
def sae(owner: User) -> Sae:
    return sae_with_files(owner)


@pytest.fixture
def real(hub: LocalHub, api: ApiClient, started: list[Job]) -> Sae:
    """An SAE that was brought in."""
    hub.add_repo("someone/saes", gpt2_sae(3))
    told = api.post("/saes/download", {"repo_id": "someone/saes", "filepath": "."})
    work(started)
    return Sae.objects.get(id=told["id"])


# --- what there is --------------------------------------------------------------------------------


def test_the_list_names_the_original_and_each_format_that_can_hold_the_sae(
    real: Sae, api: ApiClient
) -> None:
    told = api.get(f"/saes/{real.id}/files")
    assert api.status == 200
    formats = {it["format"]: it for it in told["formats"]}
    assert list(formats)[:2] == ["original", "mistudio"]
    assert set(formats) == {"original", *services.formats_for(real)}
    available = {name for name, it in formats.items() if it["available"]}
    assert available == {"original", "mistudio"}
    original = formats["original"]
    assert [it["path"] for it in original["files"]] == ["cfg.json", "sae_weights.safetensors"]
    assert original["total_bytes"] == sum(it["size_bytes"] for it in original["files"])
    assert {len(it["sha256"]) for it in original["files"]} == {64}
    assert formats["saelens"]["files"] == []


def test_of_an_sae_that_failed_what_was_fetched_can_be_downloaded_and_nothing_else(
    sae: Sae, api: ApiClient
) -> None:
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR, downloaded_at=sae.created_at)
    told = api.get(f"/saes/{sae.id}/files")
    assert [it["format"] for it in told["formats"] if it["available"]] == ["original"]
    assert fetch(api, download(sae)).status == 200
    refused = fetch(api, download(sae, "format=mistudio"))
    assert (refused.status, refused.code) == (409, "not_ready")


def test_of_an_sae_on_its_way_nothing_can_be_downloaded(sae: Sae, api: ApiClient) -> None:
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.DOWNLOADING)
    refused = fetch(api, download(sae))
    assert (refused.status, refused.code) == (409, "not_ready")


def test_a_kept_sae_has_its_original_alone(sae: Sae, api: ApiClient) -> None:
    Sae.objects.filter(id=sae.id).update(architecture="crosscoder")
    told = api.get(f"/saes/{sae.id}/files")
    assert [it["format"] for it in told["formats"]] == ["original"]
    assert fetch(api, download(sae)).status == 200
    refused = fetch(api, download(sae, "format=saelens"))
    assert (refused.status, refused.code) == (422, "cannot_represent")
    api.post(f"/saes/{sae.id}/convert", {"format": "mistudio"})
    assert (api.status, api.last.json()["code"]) == (422, "cannot_represent")


# --- converting -----------------------------------------------------------------------------------


def test_converting_answers_with_a_job_and_then_with_the_files(
    real: Sae, api: ApiClient, started: list[Job]
) -> None:
    job = api.post(f"/saes/{real.id}/convert", {"format": "saelens"})
    assert (api.status, job["kind"], job["target"]) == (202, "export", "saelens")
    assert fetch(api, download(real, "format=saelens")).code == "not_exported"
    again = api.post(f"/saes/{real.id}/convert", {"format": "saelens"})
    assert (api.status, again["id"]) == (202, job["id"])
    work(started)
    assert api.get(f"/jobs/{job['id']}")["state"] == "done"
    there = api.post(f"/saes/{real.id}/convert", {"format": "saelens"})
    assert (api.status, there["available"]) == (200, True)
    assert {it["path"] for it in there["files"]} >= {"cfg.json", "sae_weights.safetensors"}
    weights = fetch(api, download(real, "format=saelens&file=sae_weights.safetensors"))
    original = load(gpt2_sae(3)["sae_weights.safetensors"])
    for name, tensor in load(weights.body).items():
        assert np.array_equal(tensor, original[name])


def test_an_export_whose_files_are_gone_is_made_again(
    real: Sae, api: ApiClient, started: list[Job]
) -> None:
    api.post(f"/saes/{real.id}/convert", {"format": "saelens"})
    work(started)
    (services.library().export(real.id, "saelens") / "cfg.json").unlink()
    assert fetch(api, download(real, "format=saelens")).code == "data_missing"
    api.post(f"/saes/{real.id}/convert", {"format": "saelens"})
    assert api.status == 202
    work(started)
    assert fetch(api, download(real, "format=saelens")).status == 200


def test_its_own_form_is_there_already(real: Sae, api: ApiClient) -> None:
    told = api.post(f"/saes/{real.id}/convert", {"format": "mistudio"})
    assert (api.status, told["available"]) == (200, True)


@pytest.mark.parametrize(
    ("format", "status", "code"),
    [
        ("nonsense", 422, "bad_body"),
        ("../../x", 422, "bad_body"),
        ("original", 422, "bad_body"),
        ("openai", 422, "bad_body"),
        ("llama_scope", 422, "bad_body"),
    ],
)
def test_formats_that_cannot_be_written(
    real: Sae, api: ApiClient, format: str, status: int, code: str
) -> None:
    told = api.post(f"/saes/{real.id}/convert", {"format": format})
    assert (api.status, told["code"]) == (status, code)


def test_what_is_only_read_is_offered_to_nobody(sae: Sae, api: ApiClient) -> None:
    refused = fetch(api, download(sae, "format=openai"))
    assert (refused.status, refused.code) == (400, "bad_request")
    document = api.get("/openapi.json")
    body = document["components"]["schemas"]["ConvertBody"]["properties"]["format"]
    writable = [family.slug for family in FORMATS if isinstance(family, WritableFormat)]
    assert body["enum"] == writable
    asked = document["paths"]["/api/v1/saes/{sae_id}/download"]["get"]["parameters"]
    [format] = [it["schema"] for it in asked if it["name"] == "format"]
    assert (format["enum"], format["default"]) == (["original", *writable], "original")


def test_an_sae_that_is_not_ready_is_not_converted(sae: Sae, api: ApiClient) -> None:
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR)
    told = api.post(f"/saes/{sae.id}/convert", {"format": "saelens"})
    assert (api.status, told["code"]) == (409, "not_ready")


def test_another_job_at_work_is_a_conflict(real: Sae, owner: User, api: ApiClient) -> None:
    running_job(real, owner, Job.Kind.VERIFY)
    told = api.post(f"/saes/{real.id}/convert", {"format": "saelens"})
    assert (api.status, told["code"]) == (409, "conflict")


def test_an_equal_request_that_was_faster_by_an_instant_is_answered_the_same(
    real: Sae, api: ApiClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, first = jobs.start_export, []

    def overtaken(user: User, sae: Sae, format: str) -> Job:
        first.append(start(user, sae, format))
        return start(user, sae, format)

    monkeypatch.setattr(jobs, "start_export", overtaken)
    told = api.post(f"/saes/{real.id}/convert", {"format": "saelens"})
    assert (api.status, told["id"]) == (202, first[0].id)
    assert Job.objects.filter(kind=Job.Kind.EXPORT).count() == 1


def test_the_job_of_somebody_else_is_not_shown(
    real: Sae, api: ApiClient, editor: User, started: list[Job]
) -> None:
    jobs.start_export(None, real, "saelens")
    told = client_of(editor).post(f"/saes/{real.id}/convert", {"format": "saelens"})
    assert told["code"] == "conflict"


def test_viewers_download_but_do_not_convert(sae: Sae, viewer: User) -> None:
    reader = client_of(viewer, ApiToken.Scope.READ)
    assert fetch(reader, download(sae)).status == 200
    reader = client_of(viewer)
    assert reader.post(f"/saes/{sae.id}/convert", {"format": "saelens"})["code"] == "forbidden"
