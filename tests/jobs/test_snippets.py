"""The PyTorch code that a page offers runs as pasted, and computes what the SAE computes."""

from typing import Any

import numpy as np
import pytest
import torch

from saes import jobs, services, steering
from saes.models import Sae
from saes.snippets import snippets_for
from tests.fixtures import SAMPLES, Sample
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.jobs.test_download import bring_in, no_queue

__all__ = ["no_queue"]  # a fixture of these tests
pytestmark = pytest.mark.django_db(transaction=True)


def in_library(hub: LocalHub, sample: Sample) -> Sae:
    hub.add_repo(sample.repo_id, sample_files(sample.name))
    sae = bring_in(sample.repo_id, sample.where)
    if sae.error_code == "needs_facts":
        services.give_facts(sae, sample.facts)
        jobs.run(steering.retry(None, sae).id)
        sae.refresh_from_db()
    assert sae.status == Sae.Status.READY, sae.error_message
    return sae


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.name)
def test_pasted_code_gives_the_activations_of_the_sae(hub: LocalHub, sample: Sample) -> None:
    sae = in_library(hub, sample)
    pasted: dict[str, Any] = {}
    exec(snippets_for(sae)[0].code, pasted)
    x = torch.from_numpy(sample.of_unit("x").astype(np.float32)).reshape(-1, sae.d_in or 0)
    acts = pasted["encode"](x).numpy()
    truth = sample.of_unit("acts").reshape(acts.shape)
    assert np.abs(acts - truth).max() <= 1e-4 * max(1.0, float(np.abs(truth).max()))
