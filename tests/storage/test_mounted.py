"""A data directory whose disk is not mounted never looks like one whose files were deleted."""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from saes import bringing, doctor, jobs, mounted, queueing, services, steering, upkeep
from saes.arrivals import DownloadRequest
from saes.errors import DataAway, DataMissing, SaeError
from saes.hub import RepoRef
from saes.models import DataDirectory, Job, Sae
from tests.commands.conftest import command
from tests.hub import LocalHub
from tests.jobs.conftest import hub, sample_files  # noqa: F401  a fixture
from tests.views.conftest import signed_in
from tests.views.people import everything_kept

pytestmark = pytest.mark.django_db(transaction=True)
REPO = "google/gemma-scope-2b-pt-res"
WANTED = DownloadRequest(RepoRef(REPO), "layer_12/width_16k/average_l0_41")


@pytest.fixture(autouse=True)
def quiet(hub: LocalHub, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: F811
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"))


@pytest.fixture
def sae() -> Sae:
    """A ready one, brought in from the hub."""
    _, job = bringing.download(None, WANTED)
    assert job is not None
    jobs.run(job.id)
    found = services.sae_of(job.sae_id)
    assert found.status == Sae.Status.READY
    return found


def root() -> Path:
    return services.library().root


def folder_gone() -> None:
    root().rename(root().with_name("elsewhere"))


def saes_gone() -> None:
    (root() / "saes").rename(root() / "elsewhere")


def saes_empty() -> None:
    saes_gone()
    (root() / "saes").mkdir()


def another_one() -> None:
    """The disk of another installation, with SAEs of its own."""
    saes_empty()
    (root() / "saes" / "sae_0123456789ab").mkdir()
    (root() / "saes" / ".mistudio").write_text("0" * 32)


def mark_is_a_link() -> None:
    mark = services.library().mark
    mark.rename(mark.with_name("moved"))
    mark.symlink_to("moved")


AWAY = [folder_gone, saes_gone, saes_empty, another_one]
WAYS = [*AWAY, mark_is_a_link]


@pytest.fixture
def over_it() -> Iterator[Callable[[], None]]:
    """Mounts an empty disk over the SAEs, as one that was forgotten leaves the folder bare."""
    mounted_at: list[Path] = []

    def cover() -> None:
        there = root() / "saes"
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "none", str(there)], capture_output=True, text=True
        )
        if done.returncode:
            pytest.skip(f"nothing can be mounted here: {done.stderr.strip()}")
        mounted_at.append(there)

    yield cover
    for there in mounted_at:
        subprocess.run(["umount", str(there)], check=True)


def rows() -> dict[str, Any]:
    return {name: it for name, it in everything_kept().items() if not name.startswith("/")}


def tree() -> set[str]:
    return {str(path) for path in root().parent.rglob("*") if "sqlite3" not in path.name}


ASKED: dict[str, Callable[[Sae], object]] = {
    "look": lambda sae: doctor.examine(),
    "repair": lambda sae: list(doctor.repair(None, [])),
    "verify": lambda sae: steering.verify(None, sae),
    "verify all": lambda sae: upkeep.verify_all(None),
    "convert again": lambda sae: steering.convert_again(None, sae),
    "delete": lambda sae: steering.delete_sae(None, sae, keep_files=False),
    "delete but keep": lambda sae: steering.delete_sae(None, sae, keep_files=True),
    "remove the source": lambda sae: upkeep.remove_source(None, sae),
    "download": lambda sae: jobs.start_arrival(
        None, DownloadRequest(RepoRef(REPO), "another"), None
    ),
}


@pytest.mark.parametrize("away", WAYS)
@pytest.mark.parametrize("name", ASKED)
def test_whatever_is_asked_it_is_said_and_nothing_changes(
    sae: Sae, away: Callable[[], None], name: str
) -> None:
    away()
    before = rows(), tree()
    with pytest.raises(DataAway, match=r"is (its|the right) disk mounted\?"):
        ASKED[name](sae)
    assert (rows(), tree()) == before


def test_a_disk_that_is_really_not_mounted(sae: Sae, over_it: Callable[[], None]) -> None:
    over_it()
    before = rows()
    for ask in ASKED.values():
        with pytest.raises(DataAway):
            ask(sae)
    assert rows() == before and not list((root() / "saes").iterdir())


@pytest.mark.parametrize("away", WAYS)
def test_retrying_waits_for_the_disk(sae: Sae, away: Callable[[], None]) -> None:
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR, error_code="hub_unreachable")
    away()
    before = rows(), tree()
    with pytest.raises(DataAway):
        steering.retry(None, services.sae_of(sae.id))
    assert (rows(), tree()) == before


# --- jobs that were queued before it went ---------------------------------------------------------


@pytest.mark.parametrize("away", WAYS)
def test_a_verify_job_says_it_and_the_sae_stays_ready(sae: Sae, away: Callable[[], None]) -> None:
    job = steering.verify(None, sae)
    away()
    jobs.run(job.id)
    job.refresh_from_db()
    assert (job.state, job.error_code) == (Job.State.FAILED, DataMissing.code)
    assert "disk mounted?" in job.error_message
    assert services.sae_of(sae.id).status == Sae.Status.READY


@pytest.mark.parametrize("away", WAYS)
@pytest.mark.parametrize("kind", ["convert", "download"])
def test_a_job_that_brings_an_sae_in_waits_and_goes_on_once_the_disk_is_back(
    sae: Sae, away: Callable[[], None], kind: str
) -> None:
    if kind == "download":
        steering.delete_sae(None, sae, keep_files=False)
        _, job = bringing.download(None, WANTED)
        assert job is not None
    else:
        job = steering.convert_again(None, sae)
    away()
    before = tree()
    files = sorted(services.sae_of(job.sae_id).files.values_list("path", "sha256"))
    jobs.run(job.id)
    job.refresh_from_db()
    assert (job.state, job.waits_for) == (Job.State.QUEUED, "disk")
    assert "disk mounted?" in job.message
    assert sorted(services.sae_of(job.sae_id).files.values_list("path", "sha256")) == files
    assert {it for it in tree() - before if "/run" not in it} == set()
    bring_back()
    jobs.run(job.id)
    assert services.sae_of(job.sae_id).status == Sae.Status.READY
    assert doctor.examine().findings == []


def bring_back() -> None:
    library = services.library()
    if (moved := root().with_name("elsewhere")).exists():
        shutil.rmtree(root(), ignore_errors=True)
        moved.rename(root())
    elif (moved := root() / "elsewhere").exists():
        shutil.rmtree(root() / "saes", ignore_errors=True)
        moved.rename(root() / "saes")
    else:
        (root() / "saes" / "moved").rename(library.mark)


# --- pages and commands ---------------------------------------------------------------------------


@pytest.mark.parametrize("away", WAYS)
def test_the_page_says_it_and_offers_nothing(sae: Sae, away: Callable[[], None]) -> None:
    client = signed_in(_owner())
    away()
    before = tree()
    text = client.get("/storage/").content.decode()
    assert "disk mounted?" in text and "Repair" not in text and "Verify all" not in text
    for path in ("repair", "verify"):
        answer = client.post(f"/storage/{path}/")
        assert answer.status_code == 409 and "disk mounted?" in answer.content.decode()
    assert tree() == before


def _owner() -> Any:
    from saes.accounts import ensure_owner

    return ensure_owner()


@pytest.mark.parametrize("away", WAYS)
def test_the_command_says_it(sae: Sae, away: Callable[[], None]) -> None:
    away()
    for options in ([], ["--repair"], ["--verify", "--json"]):
        ran = command("sae_doctor", *options)
        assert ran.code == 1 and "disk mounted?" in ran.err


# --- the mark -------------------------------------------------------------------------------------


def test_looking_at_a_new_installation_leaves_no_mark() -> None:
    doctor.examine()
    assert not services.library().mark.exists() and not DataDirectory.objects.exists()


def test_the_first_download_leaves_a_mark_that_the_database_knows(sae: Sae) -> None:
    row = DataDirectory.objects.get()
    assert row.placed and mounted.read_mark(services.library()) == row.mark
    assert len(row.mark) == 32


def test_a_library_from_before_there_were_marks_gets_one(sae: Sae) -> None:
    DataDirectory.objects.all().delete()
    services.library().mark.unlink()
    doctor.examine()
    services.library().open_home(sae.id)
    assert DataDirectory.objects.get().placed and services.library().mark.exists()


def test_a_library_from_before_there_were_marks_is_not_filled_while_it_is_away(sae: Sae) -> None:
    DataDirectory.objects.all().delete()
    services.library().mark.unlink()
    saes_empty()
    with pytest.raises(DataAway, match="No SAE has its files"):
        services.library().open_home(sae.id)
    assert not list((root() / "saes").iterdir())


def test_a_kill_between_mark_and_row_locks_nobody_out(sae: Sae) -> None:
    DataDirectory.objects.update(placed=False)
    services.library().open_home(sae.id)
    assert DataDirectory.objects.get().placed


@pytest.mark.parametrize("away", [saes_empty, another_one])
def test_the_owner_may_say_that_it_is_the_right_folder_all_the_same(
    sae: Sae, away: Callable[[], None]
) -> None:
    away()
    ran = command("sae_doctor", "--adopt", "--json")
    assert ran.code == 1 and "missing" in [it["kind"] for it in ran.json["findings"]]
    assert mounted.read_mark(services.library()) == DataDirectory.objects.get().mark


def test_a_new_database_does_not_take_the_folder_of_another_installation(
    sae: Sae, settings: Settings
) -> None:
    Sae.objects.all().delete()
    DataDirectory.objects.all().delete()
    before = tree()
    with pytest.raises(DataAway, match="belongs to another miStudio"):
        doctor.examine()
    _refused(lambda: jobs.start_arrival(None, WANTED, None))
    assert tree() == before


def _refused(act: Callable[[], object]) -> None:
    with pytest.raises(SaeError, match="another miStudio"):
        act()
