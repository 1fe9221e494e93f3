"""What the API's document says: statuses that can happen, words to choose from, values to try."""

import re
from typing import Any

import pytest
from pydantic import TypeAdapter

from saes.api import files, requests
from saes.api.fields import Body
from saes.api.main import api
from saes.models import Job, Sae, Training

DOCUMENT: dict[str, Any] = api.get_openapi_schema()
ROUTES = [
    pytest.param(method, path, told, id=f"{method} {path}")
    for path, methods in DOCUMENT["paths"].items()
    for method, told in methods.items()
]
ALWAYS = {400, 401, 429, 500, 503}
HUB = {404, 502, 507}
BODIES = [it for kind in Body.__subclasses__() for it in kind.__subclasses__() or [kind]]


@pytest.mark.parametrize(("method", "path", "told"), ROUTES)
def test_a_route_names_the_errors_that_it_can_answer_and_no_others(
    method: str, path: str, told: dict[str, Any]
) -> None:
    named = {int(status) for status in told["responses"] if int(status) >= 400}
    expected = set(ALWAYS)
    if "{" in path:
        expected |= {404}
    if method != "get":  # a role is needed, and something else may be at work
        expected |= {403, 409, 422}
    if method in ("post", "patch"):
        expected |= {413, 415}
    if path.endswith(("/saes/download", "/download/batch", "/hf/preview", "/saes/upload")):
        expected |= HUB
    expected |= {
        "get /api/v1/saes/{sae_id}/download": {409, 416, 422},
        "get /api/v1/saes/{sae_id}/features": {409, 422},
        "delete /api/v1/saes/{sae_id}": {507},
        "get /api/v1/saes/import/scan": {403, 404, 422, 507},
        "post /api/v1/saes/import/file": {404, 507},
        "post /api/v1/saes/import/folder": {404, 507},
        "get /api/v1/storage": {409, 507},
        "get /api/v1/saes/training/{training_id}/available": {409, 422},
        "post /api/v1/saes/import/training": {404, 507},
    }.get(f"{method} {path}", set())
    assert named == expected


@pytest.mark.parametrize(("method", "path", "told"), ROUTES)
def test_a_route_is_called_by_words(method: str, path: str, told: dict[str, Any]) -> None:
    assert re.fullmatch(r"[A-Z][a-z]+( SAEs?| [a-z]+)+", told["summary"])


@pytest.mark.parametrize(
    ("path", "name", "words"),
    [
        ("/api/v1/trainings", "status", Training.Status.values),
        ("/api/v1/saes", "source", Sae.Source.values),
        ("/api/v1/saes", "status", Sae.Status.values),
        ("/api/v1/jobs", "state", Job.State.values),
        ("/api/v1/jobs", "kind", Job.Kind.values),
    ],
)
def test_words_to_choose_from_are_those_of_the_rows(path: str, name: str, words: list[str]) -> None:
    asked = DOCUMENT["paths"][path]["get"]["parameters"]
    [schema] = [it["schema"] for it in asked if it["name"] == name]
    assert schema["enum"] == ["", *words]


@pytest.mark.parametrize("kind", BODIES)
def test_what_a_body_offers_to_try_is_one(kind: type[Body]) -> None:
    [example] = DOCUMENT["components"]["schemas"][kind.__name__]["examples"]
    assert TypeAdapter(kind).validate_python(example).model_dump(exclude_unset=True) == example


def test_the_guides_values_are_offered() -> None:
    def offered(kind: type[Body]) -> dict[str, Any]:
        found: dict[str, Any] = DOCUMENT["components"]["schemas"][kind.__name__]["examples"][0]
        return found

    assert offered(requests.PreviewBody) == {"repo_id": "jbloom/GPT2-Small-SAEs"}
    assert offered(requests.DownloadBody) == {
        "repo_id": "jbloom/GPT2-Small-SAEs",
        "filepath": "layer_6",
        "name": "GPT2 Layer 6 SAE",
        "description": "SAE for layer 6 residual stream",
        "model_name": "gpt2",
    }
    assert offered(requests.DeleteBody)["sae_ids"] == ["sae_abc123"]
    assert offered(requests.WhichBody) == {"job_ids": ["job_abc123"]}
    assert offered(files.ConvertBody) == {"format": "saelens"}
