"""Row S40: disks that are full, fill up on the way, or are wanted by two at once."""

import errno
import re
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path

import pytest
from django.utils import timezone
from pytest_django import Settings

from saes import jobs, moves, parts, queueing, room, services, steering
from saes.hub import Limits
from saes.models import Job, Sae
from saes.storage import Library
from tests.apps import App, make_app, wait_for
from tests.disks import fill, small_disk
from tests.hub import LocalHub, faults
from tests.hub.answers import Request
from tests.jobs.made import WEIGHTS, brought_in, is_ready, made_sae, parts_of, started
from tests.jobs.test_download import in_background
from tests.jobs.test_moods import is_body
from tests.visitor import Visitor

REPO, OTHER = "alice/sae", "bob/other"
MB = 2**20
SIZE = len(made_sae()[WEIGHTS])  # 2 MB; with its copy 4
database = pytest.mark.django_db(transaction=True)


@pytest.fixture
def disk(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The data directory on a disk of 12 MB, of which 2 stay free."""
    monkeypatch.setattr(room, "MARGIN", 2 * MB)
    monkeypatch.setattr(parts, "FLOOR", MB)
    monkeypatch.setattr(parts, "PIECE", 400_000)
    with small_disk(tmp_path / "disk", 12, inodes=400) as mounted:
        settings.DATA_DIR = mounted / "data"
        settings.DATA_DIR.mkdir()
        yield mounted


@pytest.fixture
def hub(disk: Path, settings: Settings) -> Iterator[LocalHub]:
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        local.add_repo(REPO, made_sae())
        local.add_repo(OTHER, made_sae(1))
        yield local


@pytest.fixture
def enqueued(monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    told: list[Job] = []
    monkeypatch.setattr(queueing, "enqueue", told.extend)
    return told


def sent(hub: LocalHub) -> int:
    """Bytes of weights, without the reads of headers."""
    return sum(it.sent for it in hub.log.requests(WEIGHTS, "cdn") if it.sent > 150_000)


@database
@pytest.mark.parametrize("leave", [0, MB // 2], ids=["to the last byte", "to what must stay"])
def test_a_disk_that_fills_up_on_the_way_is_told_and_the_part_goes_on(
    hub: LocalHub, disk: Path, enqueued: list[Job], leave: int
) -> None:
    filler: list[Path] = []

    def fill_now(request: Request) -> bool:
        if is_body(request) and (request.asked or (0,))[0] and not filler:
            filler.append(fill(disk, leave))
        return False

    hub.faults.add(fill_now, faults.status(500))
    sae = brought_in(REPO)
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "disk_full")
    assert "kept" in sae.error_message
    assert "retry" in sae.error_solution
    kept = parts_of(sae.id)
    assert kept
    filler[0].unlink()
    hub.log.clear()
    jobs.run(steering.retry(None, sae).id)
    assert is_ready(sae)
    assert sent(hub) <= SIZE
    assert parts_of(sae.id) == {}


@database
def test_without_an_inode_left_it_is_told_as_a_full_disk(
    hub: LocalHub, disk: Path, enqueued: list[Job]
) -> None:
    crowd = disk / "crowd"
    crowd.mkdir()
    with pytest.raises(OSError, match=str(errno.ENOSPC)):
        for number in range(1000):
            (crowd / str(number)).touch()
    assert Limits(disk / "limits").strike("huggingface.co:443", 60) == 60
    sae = brought_in(REPO)
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "disk_full")
    shutil.rmtree(crowd)
    jobs.run(steering.retry(None, sae).id)
    assert is_ready(sae)


@database
def test_what_can_never_fit_is_refused_in_numbers_before_a_byte_comes(
    hub: LocalHub, disk: Path, enqueued: list[Job]
) -> None:
    hub.add_repo(REPO, made_sae(0, d_in=512, d_sae=2048))  # 8 MB, 16 with the copy
    sae = brought_in(REPO)
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "disk_full")
    needed, free, stays = (
        int(number.replace(",", "")) for number in re.findall(r"[\d,]{4,}", sae.error_message)
    )
    assert needed > 16 * MB > 12 * MB > free
    assert stays == 2 * MB
    assert sent(hub) == 0


@database
def test_nobody_is_refused_for_bytes_that_another_job_may_give_back(
    hub: LocalHub, disk: Path, enqueued: list[Job]
) -> None:
    at_work = started(REPO)
    Job.objects.filter(id=at_work.id).update(state=Job.State.RUNNING)
    draft = services.library().home(at_work.sae_id) / "parts" / "draft"
    draft.parent.mkdir(parents=True, exist_ok=True)
    draft.write_bytes(bytes(3 * MB))
    fill(disk, 5 * MB)  # 3 beside what stays free; the other one needs a little more than 4
    waiting = started(OTHER)
    jobs.run(waiting.id)
    waiting.refresh_from_db()
    assert (waiting.state, waiting.waits_for) == (Job.State.QUEUED, "disk")
    Job.objects.filter(id=at_work.id).update(state=Job.State.FAILED)
    jobs.run(waiting.id)
    waiting.refresh_from_db()
    assert waiting.error_code == "disk_full", "nobody is at work who could give bytes back"


@pytest.fixture
def holding(hub: LocalHub, disk: Path, enqueued: list[Job]) -> Job:
    """A job at work that holds a draft of 3 MB, where 4 MB are free: 2 beside what stays so."""
    job = started(REPO)
    Job.objects.filter(id=job.id).update(state=Job.State.RUNNING)
    draft_of(job).parent.mkdir(parents=True, exist_ok=True)
    draft_of(job).write_bytes(bytes(3 * MB))
    fill(disk, 4 * MB)
    return job


def draft_of(job: Job) -> Path:
    return services.library().home(job.sae_id) / "parts" / "draft"


def at_the_next_look(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> None:
    """Done once, right after somebody has read how much is free."""
    true, acts = Library.free, [act]

    def free(shelf: Library) -> int:
        seen = true(shelf)
        while acts:
            acts.pop()()
        return seen

    monkeypatch.setattr(Library, "free", free)


def as_it_waits(job: Job) -> tuple[str, str, str]:
    jobs.run(job.id)
    job.refresh_from_db()
    return job.state, job.waits_for, job.error_message


@database
def test_nobody_is_refused_for_files_that_a_cancelled_job_is_about_to_remove(
    holding: Job,
) -> None:
    """Its worker notices within a second; who waits for the disk was woken before."""
    waiting = started(OTHER)
    moment = timezone.now()
    Job.objects.filter(id=holding.id).update(state=Job.State.CANCELLED, ended_at=moment)
    assert as_it_waits(waiting) == (Job.State.QUEUED, "disk", "")
    Job.objects.filter(id=holding.id).update(ended_at=moment - timedelta(minutes=1))
    jobs.run(waiting.id)
    waiting.refresh_from_db()
    assert waiting.error_code == "disk_full", "nobody removes them any more"


@database
def test_nobody_is_refused_for_bytes_that_come_free_while_it_looks(
    holding: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    def end() -> None:
        draft_of(holding).unlink()
        Job.objects.filter(id=holding.id).update(state=Job.State.DONE)

    waiting = started(OTHER)
    at_the_next_look(monkeypatch, end)
    assert as_it_waits(waiting) == (Job.State.QUEUED, "disk", "")
    jobs.run(waiting.id)
    assert is_ready(services.sae_of(waiting.sae_id))


@database
def test_bytes_that_another_job_writes_while_somebody_looks_are_not_given_twice(
    hub: LocalHub, disk: Path, enqueued: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = started(REPO)
    Job.objects.filter(id=other.id).update(state=Job.State.RUNNING, bytes_reserved=3 * MB)

    def write_all() -> None:
        draft_of(other).parent.mkdir(parents=True, exist_ok=True)
        draft_of(other).write_bytes(bytes(3 * MB))
        Job.objects.filter(id=other.id).update(bytes_reserved=0)

    fill(disk, 7 * MB)  # for one of them, beside what stays free
    at_the_next_look(monkeypatch, write_all)
    assert as_it_waits(started(OTHER)) == (Job.State.QUEUED, "disk", "")
    assert sent(hub) == 0


@database
@pytest.mark.parametrize("ends", ["it ends", "it is cancelled", "it is paused"])
def test_of_two_that_do_not_fit_together_the_second_waits_in_numbers_and_goes_on(
    hub: LocalHub, disk: Path, enqueued: list[Job], ends: str
) -> None:
    fill(disk, 8 * MB)  # 2 stay free, each needs a little more than 4
    slow = hub.faults.add(is_body, faults.slow(300_000), times=None)
    first, second = started(REPO), started(OTHER)
    worker = in_background(first)
    wait_for(lambda: Job.objects.get(id=first.id).bytes_done > 0)
    jobs.run(second.id)
    second.refresh_from_db()
    assert (second.state, second.waits_for, second.attempt) == (Job.State.QUEUED, "disk", 0)
    assert second.wait_until is not None
    assert len(re.findall(r"[\d,]{7,}", second.message)) == 3
    enqueued.clear()
    slow.times = 0
    if ends == "it is cancelled":
        moves.cancel([first.id])
    if ends == "it is paused":
        moves.pause([first.id])
    worker.join()
    assert Job.objects.get(id=second.id).wait_until is None
    assert second.id in [job.id for job in enqueued]
    if ends == "it ends":
        steering.delete_sae(None, services.sae_of(first.sae_id), keep_files=False)
    hub.faults.clear()
    jobs.run(second.id)
    assert is_ready(services.sae_of(second.sae_id))


@database
@pytest.mark.alone
def test_many_that_fit_one_after_the_other_all_come_in(
    hub: LocalHub, disk: Path, enqueued: list[Job], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers at once, on a disk that has room for one at a time beside what is there."""
    monkeypatch.setattr(room, "LOOK_AGAIN", 0.2)
    small = {f"carol/{n}": made_sae(n, d_in=64, d_sae=512) for n in range(8)}
    for name, files in small.items():
        hub.add_repo(name, files)
    fill(disk, 2 * MB + 8 * 600_000)
    pending = [started(name) for name in small]
    while Job.objects.active().exists():
        workers = [in_background(job) for job in pending[:3]]
        for worker in workers:
            worker.join()
        pending = [*Job.objects.active().order_by("?")]
    failed = Sae.objects.exclude(status=Sae.Status.READY)
    assert [(sae.error_code, sae.error_message) for sae in failed] == []


# --- the real product -----------------------------------------------------------------------------


def row(app: App) -> dict[str, object]:
    with sqlite3.connect(f"file:{app.data_dir}/mistudio.sqlite3?mode=ro", uri=True) as database:
        database.row_factory = sqlite3.Row
        found = database.execute(
            "SELECT j.*, s.status FROM saes_job j JOIN saes_sae s ON s.id = j.sae_id"
            " ORDER BY j.created_at DESC"
        ).fetchone()
    database.close()
    return dict(found) if found else {}


@pytest.mark.processes
def test_the_product_stays_alive_on_a_full_disk_and_goes_on_after_room_is_made(
    tmp_path: Path,
) -> None:
    files = made_sae(2, d_in=1024, d_sae=6000)  # 49 MB
    with small_disk(tmp_path / "disk", 300) as disk, LocalHub(bytes_per_second=9_000_000) as hub:
        sha = hub.add_repo(REPO, files).sha
        app = make_app(disk / "data", HF_ENDPOINT=hub.url, MISTUDIO_WORKERS="1").start()
        try:
            visitor = Visitor(app.wait_until_ready().url).sign_in(app.sign_in_url)
            form = {"repo": REPO, "repo_type": "model", "commit": sha, "where": "."}
            address = visitor.post("/hub/download/", form).url
            wait_for(lambda: int(str(row(app).get("bytes_done", 0))) > 2_000_000)
            fillers = [fill(disk, parts.FLOOR // 2)]
            wait_for(lambda: row(app)["error_code"] == "disk_full")
            assert "disk is full" in visitor.get(f"{address}card/").text
            fillers.append(fill(disk))  # others write on, to the last byte
            time.sleep(2)
            assert app.is_healthy()
            for filler in fillers:
                filler.unlink()
            hub.log.clear()
            visitor.post(f"{address}retry/", {}, page=address)
            wait_for(lambda: row(app)["status"] == "ready")
            assert sent(hub) < len(files[WEIGHTS])
        finally:
            app.stop()
