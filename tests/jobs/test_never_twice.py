"""Nothing is fetched, stored or started twice: not in a race, not after a kill, not by a twin."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import huggingface_hub
import pytest
from django.conf import settings
from django.db import OperationalError

from saes import at_hand, bringing, jobs, moves, queueing, services, steering
from saes.errors import AlreadyHere
from saes.models import Job, Sae, SaeFile
from tests.hub import LocalHub, faults
from tests.hub.answers import Request
from tests.jobs.made import (
    WEIGHTS,
    brought_in,
    in_threads,
    is_ready,
    made_sae,
    parts_of,
    started,
    wanted,
)

pytestmark = pytest.mark.django_db(transaction=True)
REPO, OTHER = "alice/sae", "bob/copy"


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


@pytest.fixture(autouse=True)
def repos(hub: LocalHub) -> None:
    hub.add_repo(REPO, made_sae())
    hub.add_repo(OTHER, {**made_sae(), "README.md": b"the same weights"})


def path_of(sae: Sae) -> Path:
    return Path(settings.DATA_DIR) / "saes" / sae.id / "source" / WEIGHTS


def bodies(hub: LocalHub) -> int:
    """Bytes of weights that were sent, without the small reads of headers."""
    return sum(it.sent for it in hub.log.requests(WEIGHTS, "cdn") if it.sent > 150_000)


# --- the same request -----------------------------------------------------------------------------


def test_the_same_request_many_times_at_one_instant_makes_one_sae_and_one_job(
    hub: LocalHub,
) -> None:
    sha = hub.repo(REPO).sha
    raised = in_threads(*[lambda: bringing.download(None, wanted(REPO, sha))] * 12)
    assert raised == [None] * 12
    assert Sae.objects.count() == Job.objects.count() == 1


def test_a_retry_pressed_many_times_at_one_instant_starts_one_job(hub: LocalHub) -> None:
    job = started(REPO)
    moves.cancel([job.id])
    sae = services.sae_of(job.sae_id)
    raised = in_threads(*[lambda: steering.retry(None, sae)] * 8)
    assert sum(error is None for error in raised) == 1
    assert Job.objects.active().count() == 1


def test_a_branch_that_means_a_commit_that_is_here_ends_as_already_here(hub: LocalHub) -> None:
    """While the Hub was away nobody knew what it means; its job finds out, and fetches nothing."""
    there = brought_in(REPO, hub.repo(REPO).sha)
    assert is_ready(there)
    hub.log.clear()
    second = brought_in(REPO, "main")
    assert (second.status, second.error_code) == (Sae.Status.ERROR, "already_here")
    assert there.name in second.error_message
    assert bodies(hub) == 0
    assert is_ready(there)


def test_a_branch_asked_for_again_after_it_moved_is_another_sae(hub: LocalHub) -> None:
    assert is_ready(brought_in(REPO, hub.repo(REPO).sha))
    hub.commit(REPO, {WEIGHTS: made_sae(5)[WEIGHTS]})
    again = brought_in(REPO, hub.repo(REPO).sha)
    assert is_ready(again)
    assert again.hf_commit == hub.repo(REPO).sha


def test_asking_for_what_is_here_raises_whatever_way_it_is_named(hub: LocalHub) -> None:
    sha = hub.repo(REPO).sha
    first = started(REPO, sha)
    for where in (".", "", "/"):
        with pytest.raises(AlreadyHere) as there:
            jobs.start_arrival(None, wanted(REPO, sha, where), None)
        assert there.value.sae_id == first.sae_id


# --- bytes that have come -------------------------------------------------------------------------


def test_a_file_that_was_published_and_not_recorded_is_not_fetched_again(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The database was busy, or the process was killed, between the two."""
    true = services.record_file

    def busy(sae: Sae, kind: SaeFile.Kind, written: object, *more: str) -> None:
        monkeypatch.setattr(services, "record_file", true)
        raise OperationalError("database is locked")

    monkeypatch.setattr(services, "record_file", busy)
    job = started(REPO)
    jobs.run(job.id)
    assert Job.objects.get(id=job.id).state == Job.State.QUEUED
    jobs.run(job.id)
    assert is_ready(services.sae_of(job.sae_id))
    size = len(made_sae()[WEIGHTS])
    assert bodies(hub) == size


def test_a_file_that_was_published_and_damaged_before_it_was_recorded_is_fetched_again(
    hub: LocalHub,
) -> None:
    job = started(REPO)
    weights = made_sae()[WEIGHTS]
    target = path_of(job.sae)
    target.parent.mkdir(parents=True)
    target.write_bytes(weights[:-1] + bytes([weights[-1] ^ 1]))
    jobs.run(job.id)
    assert is_ready(services.sae_of(job.sae_id))
    assert target.read_bytes() == weights


def test_two_files_with_the_same_bytes_in_one_sae_are_no_trouble(hub: LocalHub) -> None:
    files = made_sae()
    hub.add_repo(REPO, {**files, "sparsity.safetensors": files[WEIGHTS]})
    sae = brought_in(REPO)
    assert is_ready(sae)
    home = services.library().home(sae.id)
    for file in sae.files.filter(kind=SaeFile.Kind.SOURCE):
        assert (home / file.path).stat().st_size == file.size


def test_a_file_without_a_byte_is_a_file(hub: LocalHub) -> None:
    hub.add_repo(REPO, {**made_sae(), "sparsity.safetensors": b""})
    sae = brought_in(REPO)
    assert is_ready(sae)
    assert (services.library().source(sae.id) / "sparsity.safetensors").stat().st_size == 0


# --- twins ----------------------------------------------------------------------------------------


def test_the_same_bytes_of_two_repositories_are_fetched_and_stored_once(hub: LocalHub) -> None:
    one = brought_in(REPO)
    hub.log.clear()
    other = brought_in(OTHER)
    assert is_ready(one)
    assert is_ready(other)
    assert bodies(hub) == 0
    assert path_of(one).samefile(path_of(other))


@pytest.mark.parametrize("first", [True, False], ids=["the first", "the second"])
def test_deleting_one_of_two_that_share_leaves_the_other_intact(hub: LocalHub, first: bool) -> None:
    pair = [brought_in(REPO), brought_in(OTHER)]
    gone, left = pair if first else reversed(pair)
    steering.delete_sae(None, services.sae_of(gone.id), keep_files=False)
    assert not path_of(gone).exists()
    jobs.run(jobs.start_verifying(None, services.sae_of(left.id)).id)
    assert is_ready(left)
    assert path_of(left).read_bytes() == made_sae()[WEIGHTS]


def damage(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)


def test_a_damaged_twin_is_not_taken(hub: LocalHub) -> None:
    one = brought_in(REPO)
    damage(path_of(one))
    hub.log.clear()
    other = brought_in(OTHER)
    assert is_ready(other)
    assert not path_of(one).samefile(path_of(other))
    assert path_of(other).read_bytes() == made_sae()[WEIGHTS]
    assert bodies(hub) > 0


def test_a_twin_that_is_a_link_is_not_taken(hub: LocalHub, tmp_path: Path) -> None:
    one = brought_in(REPO)
    elsewhere = tmp_path / "elsewhere"
    path_of(one).rename(elsewhere)
    path_of(one).symlink_to(elsewhere)
    other = brought_in(OTHER)
    assert is_ready(other)
    assert not path_of(other).is_symlink()
    assert not path_of(other).samefile(elsewhere)


@pytest.mark.parametrize("at", ["is_as_recorded", "link"])
def test_a_twin_that_is_deleted_at_this_very_moment_is_no_trouble(
    hub: LocalHub, at: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = brought_in(REPO)
    place = services if at == "is_as_recorded" else at_hand
    true = getattr(place, at)

    def deleted_first(*given: object) -> object:
        path_of(one).unlink(missing_ok=True)
        return true(*given)

    monkeypatch.setattr(place, at, deleted_first)
    assert is_ready(brought_in(OTHER))


def test_a_part_file_goes_when_a_twin_makes_it_needless(hub: LocalHub) -> None:
    hub.faults.add(WEIGHTS, faults.cut(1_000_000), where="cdn", times=None)
    late = started(OTHER)

    def give_up(request: Request) -> bool:
        if any(size > 500_000 for size in parts_of(late.sae_id).values()):
            moves.pause([late.id])
        return False

    hub.faults.add(give_up, faults.status(500), where="cdn")
    jobs.run(late.id)
    assert parts_of(late.sae_id)
    assert is_ready(brought_in(REPO))
    hub.faults.clear()
    assert moves.resume([late.id])
    jobs.run(late.id)
    assert is_ready(services.sae_of(late.sae_id))
    assert parts_of(late.sae_id) == {}


# --- the Hugging Face cache -----------------------------------------------------------------------


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of the repository's blobs in a cache of its own."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    blobs = tmp_path / "cache" / "models--alice--sae" / "blobs"
    blobs.mkdir(parents=True)
    yield blobs


def oid(hub: LocalHub) -> str:
    return hub.repo(REPO).head.files[WEIGHTS].sha256


def test_what_another_program_downloaded_is_taken_from_the_cache(
    hub: LocalHub, cache: Path
) -> None:
    ask = "import huggingface_hub as hf, sys; hf.hf_hub_download(*sys.argv[1:3])"
    env = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HUB_CACHE": str(cache.parent.parent)}
    env |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    subprocess.run([sys.executable, "-c", ask, REPO, WEIGHTS], env=env, check=True)
    hub.log.clear()
    sae = brought_in(REPO)
    assert is_ready(sae)
    assert bodies(hub) == 0
    assert not path_of(sae).samefile(cache / oid(hub)), "other programs may write to theirs"


@pytest.mark.parametrize("there", ["other bytes", "too short", "a link", "a pipe", "a folder"])
def test_what_is_in_the_cache_and_is_not_the_file_is_not_taken(
    hub: LocalHub, cache: Path, tmp_path: Path, there: str
) -> None:
    true = made_sae()[WEIGHTS]
    place = cache / oid(hub)
    if there == "a folder":
        place.mkdir()
    elif there == "a pipe":
        os.mkfifo(place)
    elif there == "a link":
        (tmp_path / "secret").write_bytes(true)
        place.symlink_to(tmp_path / "secret")
    else:
        place.write_bytes(true[:-1] + (b"" if there == "too short" else bytes([true[-1] ^ 1])))
    sae = brought_in(REPO)
    assert is_ready(sae)
    assert bodies(hub) == len(true)
    assert path_of(sae).read_bytes() == true
    assert parts_of(sae.id) == {}
