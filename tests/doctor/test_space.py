"""What the library takes: what is stored once is counted once, and told so."""

import os
from pathlib import Path

import pytest
from django.contrib.auth.models import User

from saes import services, space, upkeep
from saes.errors import Conflict, Forbidden, NotReady
from saes.models import Job, Sae
from saes.progress import Stage
from saes.roles import VIEWER
from saes.storage import size_of
from tests.doctor.conftest import LARGE, made, put
from tests.views.people import somebody

pytestmark = pytest.mark.django_db
WEIGHTS = os.urandom(LARGE)


def linked(sae: Sae, name: str, other: Path) -> None:
    """A file that is another name of one that is there, as the pipeline stores it."""
    path = put(sae, name, other.read_bytes())
    path.unlink()
    path.hardlink_to(other)
    services.finish(sae)


def weights_of(sae: Sae) -> Path:
    return services.library().home(sae.id) / "native" / "checkpoint.safetensors"


@pytest.fixture
def pair(owner: User) -> list[Sae]:
    """Two SAEs with the same source, which the first holds converted to the same bytes as well."""
    first, second = made("first", WEIGHTS), made("second")
    for sae in (first, second):
        linked(sae, "source/weights.safetensors", weights_of(first))
    return [services.sae_of(first.id), services.sae_of(second.id)]


def on_disk() -> int:
    saes = services.library().root / "saes"
    inodes = {path.stat().st_ino: path.stat().st_size for path in saes.rglob("*/*/*")}
    return sum(inodes.values())


def test_the_sums_are_what_the_disk_holds(pair: list[Sae]) -> None:
    sums = space.sums()
    assert sums.library == on_disk()
    assert (sums.shared, sums.saes) == (2 * LARGE, 2)
    # One copy of what both have is put down to the sources: that is what not keeping them costs.
    assert (sums.source, sums.native, sums.export) == (LARGE + 40, LARGE, 0)


def test_small_files_and_exports_are_counted_as_they_are(sae: Sae) -> None:
    put(sae, "exports/saelens/cfg.json", b"{}")
    put(sae, "exports/saelens/weights", os.urandom(LARGE))
    assert space.sums().export == LARGE + 2


def test_deleting_frees_what_no_other_sae_has(pair: list[Sae]) -> None:
    found = {it.sae.id: it for it in space.largest(10)}
    for sae in pair:
        assert found[sae.id].freed == services.bytes_freed(sae)
    assert found[pair[0].id].freed_by_source == 20  # its conversion has the same bytes
    assert found[pair[1].id].freed_by_source == 20
    assert services.bytes_freed(*pair) == on_disk()


def test_the_largest_come_first_and_as_many_as_are_asked_for(pair: list[Sae]) -> None:
    (first,) = space.largest(1)
    assert first.share == 100 and first.sae.file_size_bytes == 2 * LARGE + 20


def test_parts_of_downloads_that_may_go_on_are_told_from_their_jobs(sae: Sae) -> None:
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR)
    fields = {"kind": Job.Kind.DOWNLOAD, "sae": sae, "stage": Stage.DOWNLOADING}
    Job.objects.create(**fields, state=Job.State.FAILED, bytes_done=1020, bytes_total=5000)
    assert space.sums().parts == 1000  # 20 bytes of it are a whole file
    Sae.objects.filter(id=sae.id).update(error_code="cancelled")
    assert space.sums().parts == 0


def test_the_bars_are_full_and_what_is_there_can_be_seen(sae: Sae) -> None:
    disk = space.disk(space.sums(), kept=1)
    for segments in (disk.whole, disk.library):
        assert sum(it.width for it in segments) == pytest.approx(100)
        assert all(it.width >= 0.4 for it in segments if it.size)
        assert all(not it.width for it in segments if not it.size)
        ends = [it.start + it.width for it in segments]
        assert [it.start for it in segments[1:]] == pytest.approx(ends[:-1])
    assert disk.ours == space.sums().library + 1


def test_bytes_that_are_promised_are_not_told_as_free(sae: Sae) -> None:
    Job.objects.create(
        kind=Job.Kind.DOWNLOAD, sae=sae, state=Job.State.RUNNING, bytes_reserved=12345
    )
    sizes = {it.name: it.size for it in space.disk(space.sums(), 0).whole}
    assert sizes["promised"] == 12345


def test_slow_sums_are_remembered_for_a_while(sae: Sae, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(space, "SLOW", -1.0)
    before = space.sums()
    made("another")
    assert space.sums() == before


# --- making room ----------------------------------------------------------------------------------


def test_removing_the_source_leaves_a_ready_sae(sae: Sae) -> None:
    put(sae, "source/weights.safetensors", os.urandom(LARGE))
    services.finish(sae)
    before = size_of(services.library().home(sae.id))
    assert upkeep.remove_source(None, sae) == LARGE + 20
    sae = services.sae_of(sae.id)
    assert sae.status == Sae.Status.READY and not services.has_source(sae)
    assert sae.file_size_bytes == size_of(services.library().home(sae.id)) == before - LARGE - 20
    assert not services.library().source(sae.id).exists()


@pytest.mark.parametrize(
    "changed", [{"status": Sae.Status.ERROR}, {"architecture": "crosscoder"}],
    ids=["not ready", "kept as it came"],
)  # fmt: skip
def test_a_source_that_is_all_there_is_stays(sae: Sae, changed: dict[str, str]) -> None:
    Sae.objects.filter(id=sae.id).update(**changed)
    with pytest.raises(NotReady):
        upkeep.remove_source(None, sae)
    assert services.has_source(sae)


def test_a_source_that_a_job_reads_stays(sae: Sae) -> None:
    Job.objects.create(kind=Job.Kind.VERIFY, sae=sae)
    with pytest.raises(Conflict):
        upkeep.remove_source(None, sae)
    assert services.has_source(sae)


def test_a_viewer_makes_no_room_and_starts_no_jobs(sae: Sae) -> None:
    viewer = somebody("vera", VIEWER)
    for act in (lambda: upkeep.remove_source(viewer, sae), lambda: upkeep.verify_all(viewer)):
        with pytest.raises(Forbidden):
            act()
    assert services.has_source(sae) and not Job.objects.exists()


# --- verifying all --------------------------------------------------------------------------------


def test_verifying_all_is_one_batch_of_jobs_for_the_ready_and_idle(sae: Sae) -> None:
    busy, failed = made("busy"), made("failed")
    Job.objects.create(kind=Job.Kind.EXPORT, sae=busy)
    Sae.objects.filter(id=failed.id).update(status=Sae.Status.ERROR)
    batch = upkeep.verify_all(None)
    assert [(it.sae_id, it.kind) for it in batch.jobs.all()] == [(sae.id, Job.Kind.VERIFY)]
    found = upkeep.last_verified()
    assert found and (found.batch, found.total, found.ended) == (batch, 1, 0)
    with pytest.raises(NotReady):
        upkeep.verify_all(None)


def test_how_verifying_ended_is_told(sae: Sae) -> None:
    made("second")
    done, failed = upkeep.verify_all(None).jobs.all()
    Job.objects.filter(id=done.id).update(state=Job.State.DONE)
    Job.objects.filter(id=failed.id).update(state=Job.State.FAILED)
    found = upkeep.last_verified()
    assert found and (found.total, found.done, found.failed, found.ended) == (2, 1, 1, 2)
