"""A ready SAE in another format: written beside it, certified, and never from damaged files."""

import pytest
from django.conf import settings

from saes import converter, exporting, jobs, moves, queueing, services, steering
from saes.arrivals import DownloadRequest
from saes.errors import CannotRepresent, Conflict, DataMissing, Forbidden, NotReady
from saes.hub import RepoRef
from saes.models import Job, Sae, SaeFile
from saes.storage import sha256_of
from tests.api.conftest import person
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


@pytest.fixture
def sae(hub: LocalHub) -> Sae:
    hub.add_repo("someone/saes", sample_files("saelens_v6_standard"))
    wanted = DownloadRequest(RepoRef("someone/saes"), "blocks.3.hook_resid_post")
    job = jobs.start_arrival(None, wanted, None)
    jobs.run(job.id)
    return Sae.objects.get(id=job.sae_id)


def export(sae: Sae, format: str = "saelens") -> Job:
    job = jobs.start_export(None, sae, format)
    jobs.run(job.id)
    job.refresh_from_db()
    return job


def exported(sae: Sae) -> set[str]:
    return set(sae.files.filter(kind=SaeFile.Kind.EXPORT).values_list("path", flat=True))


def test_every_format_that_can_hold_it_is_written_and_recorded(sae: Sae) -> None:
    formats = [it for it in services.formats_for(sae) if it != services.NATIVE]
    assert len(formats) > 1
    for format in formats:
        job = export(sae, format)
        assert (job.state, job.error_message, job.progress) == (Job.State.DONE, "", 100)
        folder = services.library().export(sae.id, format)
        recorded = {path for path in exported(sae) if path.startswith(f"exports/{format}/")}
        on_disk = {f"exports/{format}/{it.relative_to(folder)}" for it in folder.rglob("*")}
        assert recorded == on_disk
        certificate = converter.certify(services.library().native(sae.id), None, folder)
        assert certificate.passed
    for file in sae.files.all():
        assert sha256_of(services.library().home(sae.id) / file.path) == file.sha256
    sae.refresh_from_db()
    assert sae.file_size_bytes == sum(file.size for file in sae.files.all())


def test_the_sae_stays_ready_all_the_while(sae: Sae) -> None:
    job = jobs.start_export(None, sae, "saelens")
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY
    jobs.run(job.id)
    sae.refresh_from_db()
    assert (sae.status, sae.error_code) == (Sae.Status.READY, "")


def test_damaged_weights_are_not_copied_into_another_format(sae: Sae) -> None:
    path = services.library().native(sae.id) / "checkpoint.safetensors"
    body = bytearray(path.read_bytes())
    body[-2] ^= 1
    path.write_bytes(body)
    job = export(sae)
    assert (job.state, job.error_code) == (Job.State.FAILED, "data_missing")
    assert exported(sae) == set()
    assert not services.library().export(sae.id, "saelens").exists()
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY


def test_an_export_takes_the_place_of_the_one_before(sae: Sae) -> None:
    export(sae)
    folder = services.library().export(sae.id, "saelens")
    (folder / "left over").write_bytes(b"x")
    sae.files.create(
        kind=SaeFile.Kind.EXPORT, path="exports/saelens/left over", size=1, sha256="0" * 64
    )
    assert export(sae).state == Job.State.DONE
    assert "exports/saelens/left over" not in exported(sae)
    assert not (folder / "left over").exists()


def test_converting_the_sae_again_drops_what_was_made_of_it_before(sae: Sae) -> None:
    export(sae)
    jobs.run(jobs.start_conversion(None, sae).id)
    assert exported(sae) == set()
    assert not (settings.DATA_DIR / "saes" / sae.id / "exports").exists()


def test_a_cancelled_export_leaves_nothing(sae: Sae) -> None:
    job = jobs.start_export(None, sae, "saelens")
    assert moves.cancel([job.id])
    jobs.run(job.id)
    job.refresh_from_db()
    assert job.state == Job.State.CANCELLED
    assert exported(sae) == set()
    assert not services.library().export(sae.id, "saelens").exists()
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY


def test_a_failed_export_is_retried_as_what_it_was(sae: Sae) -> None:
    job = jobs.start_export(None, sae, "saelens")
    moves.cancel([job.id])
    again = steering.retry_job(None, Job.objects.get(id=job.id))
    assert (again.kind, again.target) == (Job.Kind.EXPORT, "saelens")


def test_asking_twice_makes_one_job_and_asking_after_it_none(sae: Sae) -> None:
    first, second = (exporting.prepare(None, sae, "saelens")[1] for _ in range(2))
    assert first is not None
    assert first == second
    jobs.run(first.id)
    bundle, job = exporting.prepare(None, sae, "saelens")
    assert (bundle.available, job) == (True, None)


def test_what_cannot_be_asked_for(sae: Sae) -> None:
    viewer = person("vera", "viewer")
    with pytest.raises(Forbidden):
        exporting.prepare(viewer, sae, "saelens")
    with pytest.raises(CannotRepresent, match="only read"):
        exporting.prepare(None, sae, "openai")
    jobs.start_verifying(None, sae)
    with pytest.raises(Conflict):
        exporting.prepare(None, sae, "saelens")
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR)
    sae.refresh_from_db()
    with pytest.raises(NotReady):
        exporting.prepare(None, sae, "saelens")


def test_its_own_form_is_not_made_by_an_export(sae: Sae) -> None:
    (services.library().native(sae.id) / "metadata.json").unlink()
    with pytest.raises(DataMissing):
        exporting.prepare(None, sae, "mistudio")
