"""The document of the API holds what the API does: requests made from it, good and bad ones."""

from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from django.contrib.auth.models import User
from django.core.wsgi import get_wsgi_application
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from pytest_django import Settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS, load_all_checks

from saes.api.main import api
from saes.models import Batch, Job, Publication, Training
from tests.api.conftest import BASE, client_of
from tests.api.made import gpt2_sae, ready_sae
from tests.hub import LocalHub
from tests.jobs.conftest import SAMPLES

load_all_checks()
LEFT_OUT = {
    # Says what 4xx are fine for data that fits the document. Whether an SAE, a repository or a
    # format is there at all, no schema can tell; the other tests of the API do.
    "positive_data_acceptance",
    # These follow an object from the request that made it: tested in test_library and test_jobs.
    "use_after_free",
    "ensure_resource_availability",
    # Needs a second user's schema; tested in test_doors and test_jobs.
    "object_level_authorization",
}
FEW = hypothesis_settings(
    max_examples=5,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)


@dataclass
class Document:
    schema: Any
    headers: dict[str, str]  # of somebody who may do everything

    def ask(self, label: str, mode: GenerationMode, **ids: str) -> None:
        """Some requests of one kind, with `ids` in their paths."""
        operation = self.schema.find_operation_by_label(label)
        chosen: Any = [CHECKS.get_one(name) for name in checks()]

        @given(case=operation.as_strategy(generation_mode=mode))
        @FEW
        def each(case: Any) -> None:
            case.path_parameters.update(ids)
            case.call_and_validate(headers=self.headers, checks=chosen)

        each()


@pytest.fixture
def document(
    owner: User, hub: LocalHub, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> Document:
    monkeypatch.setattr("saes.admission.CHECK_SECONDS", 2.0)
    settings.API_REQUESTS_PER_MINUTE = 1_000_000
    hub.add_repo("me/one", gpt2_sae(1))
    ready_sae(owner)
    headers = {"Authorization": f"Bearer {client_of(owner).token}"}
    made = schemathesis.openapi.from_wsgi(
        f"{BASE}/openapi.json", get_wsgi_application(), headers=headers
    )
    made.config.generation.update(with_security_parameters=False)
    return Document(made, headers)


DOCUMENT = api.get_openapi_schema()["paths"]
OPERATIONS = {
    f"{method.upper()} {path}": told
    for path, methods in DOCUMENT.items()
    for method, told in methods.items()
}
# Nothing but text is in a path, and every text is one.
MAY_BE_WRONG = [
    label
    for label, told in OPERATIONS.items()
    if "requestBody" in told or any(it["in"] != "path" for it in told.get("parameters", ()))
]
ABOUT_ONE = [
    label
    for label in OPERATIONS
    if "{" in label
    and "DELETE" not in label
    and "/download" not in label  # its body is streamed for an ASGI server; see test_files
]


def checks() -> list[str]:
    return [name for name in CHECKS.get_all_names() if name not in LEFT_OUT]


def test_every_answer_is_documented(document: Document, subtests: pytest.Subtests) -> None:
    for label in OPERATIONS:
        with subtests.test(label):
            document.ask(label, GenerationMode.POSITIVE)


def test_every_wrong_request_is_refused(document: Document, subtests: pytest.Subtests) -> None:
    for label in MAY_BE_WRONG:
        with subtests.test(label):
            document.ask(label, GenerationMode.NEGATIVE)


def test_every_answer_about_what_is_there_is_documented(
    document: Document, subtests: pytest.Subtests
) -> None:
    """Ids out of thin air never find anything."""
    for label in ABOUT_ONE:
        sae = ready_sae(User.objects.get(username="owner"))
        job = Job.objects.create(kind=Job.Kind.VERIFY, sae=sae, created_by=sae.created_by)
        batch = Batch.objects.create(name="many", created_by=sae.created_by)
        run = Training.objects.create(name="run", directory=str(SAMPLES / "mistudio_v2_topk/repo"))
        publication = Publication.objects.create(repo_id="me/x", created_by=sae.created_by)
        known = {
            "sae_id": sae.id, "job_id": job.id, "batch_id": batch.id, "training_id": run.id,
            "upload_id": publication.id,
        }  # fmt: skip
        ids = {name: it for name, it in known.items() if f"{{{name}}}" in label}
        with subtests.test(label):
            document.ask(label, GenerationMode.POSITIVE, **ids)


def test_the_checks_that_are_left_out_are_still_known() -> None:
    assert set(CHECKS.get_all_names()) >= LEFT_OUT
    assert len(checks()) >= 10


def test_the_document_names_every_route_and_no_other(document: Document) -> None:
    found = {
        f"{method.upper()} {path.removeprefix(BASE)}"
        for path, methods in document.schema.raw_schema["paths"].items()
        for method in methods
    }
    assert found == {
        "GET /storage", "POST /saes/download/batch",
        "GET /saes", "POST /saes/delete", "POST /saes/hf/preview", "POST /saes/download",
        "GET /saes/{sae_id}", "PATCH /saes/{sae_id}", "DELETE /saes/{sae_id}",
        "GET /saes/{sae_id}/features", "GET /saes/{sae_id}/files", "GET /saes/{sae_id}/download",
        "POST /saes/{sae_id}/convert", "GET /jobs", "GET /jobs/{job_id}",
        "POST /jobs/{job_id}/cancel", "POST /jobs/{job_id}/pause", "POST /jobs/{job_id}/resume",
        "POST /jobs/{job_id}/retry", "POST /jobs/{job_id}/front", "POST /jobs/pause",
        "POST /jobs/resume", "POST /jobs/cancel", "POST /jobs/retry", "POST /jobs/front",
        "POST /jobs/clear", "GET /batches/{batch_id}",
        "GET /trainings", "GET /trainings/{training_id}",
        "GET /saes/training/{training_id}/available", "POST /saes/import/training",
        "POST /saes/upload", "GET /uploads", "GET /uploads/{upload_id}",
        "GET /hub-tokens",
        "GET /saes/import/scan", "POST /saes/import/file", "POST /saes/import/folder",
    }  # fmt: skip
