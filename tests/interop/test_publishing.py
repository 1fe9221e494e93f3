"""What was published, through the Hub, by sae-lens' own loader: by repository and folder alone."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from pytest_django import Settings

from saes import jobs, parcels, publications, queueing, vault
from saes.errors import CannotRepresent
from saes.models import Job, Sae
from tests.fixtures import ALL_SAMPLES, Array, Sample
from tests.hub import LocalHub
from tests.interop.sides import assert_near, truth
from tests.interop.test_hub import asked
from tests.jobs.test_every_format import brought_in

pytestmark = pytest.mark.django_db(transaction=True)
REPO = "alice/every-family"


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Iterator[LocalHub]:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        local.add_token("hf_writes", "alice", "write")
        yield local


def publishable(hub: LocalHub) -> dict[str, tuple[Sample, Sae]]:
    """Every sample that SAELens has a place for, in the library."""
    found = {}
    for sample in ALL_SAMPLES:
        sae = brought_in(sample, hub)
        try:
            parcels.refuse(sae)
        except CannotRepresent:
            continue
        found[sample.name + sample.unit] = sample, sae
    return found


def test_every_family_published_in_one_commit_loads_first_time_and_computes_the_same(
    hub: LocalHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)
    vault.keep(None, "hf_writes")
    found = publishable(hub)
    assert len(found) > 20
    saes = [sae for _, sae in found.values()]
    wish = publications.wish_for(
        saes, REPO, [f"families/{name}" for name in found], license="mit", private=False
    )
    publications.publish(None, saes, wish, confirmed=True)
    jobs.run(Job.objects.get(kind=Job.Kind.PUBLISH).id)
    job = Job.objects.get(kind=Job.Kind.PUBLISH)
    assert (job.state, job.error_message) == (Job.State.DONE, ""), job.traceback
    computed = asked(hub, tmp_path, *_questions(found))
    for name, (sample, _) in found.items():
        assert f"{name}:error" not in computed, (name, computed[f"{name}:error"])
        theirs = computed[f"{name}:acts"], computed[f"{name}:recon"]
        assert_near(theirs, truth(sample))


def _questions(
    found: dict[str, tuple[Sample, Sae]],
) -> tuple[dict[str, dict[str, object]], dict[str, Array]]:
    told = {"loader": "sae_lens", "config_overrides": None, "norm_scaling_factor": None}
    xs = {name: np.asarray(sample.truth["x"]) for name, (sample, _) in found.items()}
    wanted: dict[str, dict[str, object]] = {
        name: {
            "repo_id": REPO, "path": f"families/{name}", **told,
            "x_call_shape": sample.meta.get("x_call_shape", xs[name].shape),
        }
        for name, (sample, _) in found.items()
    }  # fmt: skip
    return wanted, xs
