"""A newcomer without a network tries everything."""

import json
from io import StringIO
from pathlib import Path

import pytest
from django.core.management import call_command
from pytest_django import Settings

from saes import demo, imports, jobs, trainings
from saes.models import Sae
from tests.imports.test_files import assert_ready


def test_the_demo_is_an_sae_that_becomes_ready_and_a_run_whose_saes_do(root: Path) -> None:
    training, sae, job = demo.make(None)
    assert job is not None
    jobs.run(job.id)
    sae.refresh_from_db()
    assert_ready(sae)
    items = trainings.offered(trainings.items_of(training))
    assert [(it.layer, it.hook, it.step) for it in items] == [
        (layer, hook, 1000) for layer in (0, 1, 2) for hook in ("mlp", "residual")
    ]
    for begun in imports.import_training(None, training, items).jobs:
        jobs.run(begun.id)
        assert_ready(Sae.objects.get(id=begun.sae_id))


def test_asked_again_it_is_there(root: Path) -> None:
    _, sae, _ = demo.make(None)
    _, again, job = demo.make(None)
    assert (again, job) == (sae, None)


@pytest.mark.django_db(transaction=True)
def test_the_command_makes_it_and_waits(settings: Settings, root: Path) -> None:
    out = StringIO()
    call_command("sae_demo", "--wait", "--json", stdout=out, stderr=StringIO())
    told = json.loads(out.getvalue())
    assert told["sae"]["status"] == "ready"
    assert (settings.TRAININGS_DIR / "train_demo" / "training.json").is_file()
