"""Every family from the Hub into the library: found by name, fetched, converted or kept."""

import pytest
from django.conf import settings
from django.test import Client

from saes import accounts, jobs, queueing
from saes.arrivals import DownloadRequest
from saes.formats import find_saes
from saes.hub import RepoRef
from saes.models import Job, Sae, SaeFile
from tests.fixtures import ALL_SAMPLES, BY_NAME, Sample
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    """These tests call run() as a worker would; the queue itself is tested with real workers."""
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


def brought_in(sample: Sample, hub: LocalHub) -> Sae:
    files = sample_files(sample.name)
    hub.add_repo(sample.repo_id, files)
    assert sample.where in [found.where for found in find_saes(files, sample.repo_id)]
    wanted = DownloadRequest(RepoRef(sample.repo_id), sample.where)
    job = jobs.start_arrival(None, wanted, None)
    Sae.objects.filter(id=job.sae_id).update(given_facts=sample.facts)
    jobs.run(job.id)
    assert Job.objects.get(id=job.id).traceback == ""
    return Sae.objects.get(id=job.sae_id)


@pytest.mark.parametrize("sample", ALL_SAMPLES, ids=lambda sample: sample.name)
def test_it_comes_in_whole_and_is_proved_or_kept(sample: Sample, hub: LocalHub) -> None:
    sae = brought_in(sample, hub)
    assert (sae.status, sae.error_message) == (Sae.Status.READY, "")
    assert sae.format == sample.family
    native = sae.files.filter(kind=SaeFile.Kind.NATIVE)
    if sae.kept_because:
        assert sae.certificate is None
        assert not native.exists()
    else:
        assert sae.certificate is not None
        assert sae.certificate["passed"]
        assert native.count() == 2
    for file in sae.files.all():
        assert (settings.DATA_DIR / sae.local_path / file.path).stat().st_size == file.size


@pytest.mark.parametrize("name", ["temporal_tied", "crosscoder_ckkissane"])
def test_what_is_no_plain_dictionary_says_why_it_is_only_kept(name: str, hub: LocalHub) -> None:
    sae = brought_in(BY_NAME[name], hub)
    assert sae.architecture == BY_NAME[name].meta["format"]
    client = Client()
    client.force_login(accounts.ensure_owner(), "django.contrib.auth.backends.ModelBackend")
    page = client.get(f"/saes/{sae.id}/").content.decode()
    assert sae.kept_because in page
    assert "not converted" in page
    assert "checkpoint.safetensors" not in page
