"""`manage.py sae_facts`: the same questions and answers as on the page."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from saes import jobs
from saes.models import Job, Sae
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files
from tests.jobs.test_download import bring_in, no_queue

__all__ = ["no_queue"]  # a fixture of all these tests
pytestmark = pytest.mark.django_db(transaction=True)


def facts(*arguments: str) -> str:
    said = StringIO()
    call_command("sae_facts", *arguments, stdout=said)
    return said.getvalue()


def test_missing_facts_are_shown_and_given(hub: LocalHub) -> None:
    hub.add_repo("local/mistudio", sample_files("mistudio_v1_jumprelu"))
    sae = bring_in("local/mistudio", "checkpoints/checkpoint_5000/layer_3_residual")
    assert "generation=1" in facts(sae.id)
    facts(sae.id, "generation=1", "normalize_activations=constant_norm_rescale")
    jobs.run(Job.objects.get(sae=sae, state=Job.State.QUEUED).id)
    sae.refresh_from_db()
    assert (sae.status, sae.error_message) == (Sae.Status.READY, "")
    assert "misses no fact" in facts(sae.id)


@pytest.mark.parametrize("fact", ["generation", "generation=", "nonsense=1"])
def test_what_is_no_fact_is_refused(hub: LocalHub, fact: str) -> None:
    hub.add_repo("local/mistudio", sample_files("mistudio_v1_jumprelu"))
    sae = bring_in("local/mistudio", "checkpoints/checkpoint_5000/layer_3_residual")
    with pytest.raises(CommandError):
        facts(sae.id, fact)


def test_an_unknown_sae_is_said() -> None:
    with pytest.raises(CommandError, match="There is no SAE"):
        facts("sae_000000000000")
