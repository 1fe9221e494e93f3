"""Everything that the doctor finds, made for real: looking changes nothing, repairing mends."""

import json
import os
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth.models import User

from saes import doctor, roles, services
from saes.doctor import Examined, Kind, Outcome
from saes.errors import Forbidden
from saes.models import Job, Sae, SaeFile
from saes.progress import Silent
from saes.storage import freed_by_removing
from tests.doctor.conftest import LARGE, aged, everything, made, put
from tests.views.people import somebody

pytestmark = pytest.mark.django_db
NOBODY = "sae_000000000000"


def root() -> Path:
    return Path(settings.DATA_DIR)


def home(sae: Sae) -> Path:
    return services.library().home(sae.id)


def repaired(seen: Examined, **more: bool) -> list[Outcome]:
    return list(doctor.repair(None, seen.findings, **more))


# --- each finding: what makes it, and what mending leaves -----------------------------------------


def missing(sae: Sae) -> None:
    (home(sae) / "native" / "checkpoint.safetensors").unlink()


def shorter(sae: Sae) -> None:
    os.truncate(home(sae) / "native" / "checkpoint.safetensors", 7)


def bytes_changed(sae: Sae) -> None:
    with (home(sae) / "native" / "checkpoint.safetensors").open("r+b") as file:
        first = file.read(1)
        file.seek(0)
        file.write(bytes([first[0] ^ 1]))


def wrong_size(sae: Sae) -> None:
    Sae.objects.filter(id=sae.id).update(file_size_bytes=5)


def orphan(sae: Sae) -> None:
    folder = root() / "saes" / NOBODY / "native"
    folder.mkdir(parents=True)
    (folder / "checkpoint.safetensors").write_bytes(b"precious")


def empty_orphan(sae: Sae) -> None:
    (root() / "saes" / NOBODY / "native").mkdir(parents=True)


def stray(sae: Sae) -> None:
    (home(sae) / "native" / "notes.txt").write_text("mine")


def parts(sae: Sae) -> None:
    (home(sae) / "parts").mkdir()
    for name in ("0" * 64, "0" * 64 + ".pieces"):
        aged(_written(home(sae) / "parts" / name))


def draft(sae: Sae) -> None:
    (home(sae) / "native.draft").mkdir()
    aged(_written(home(sae) / "native.draft" / "checkpoint.safetensors"))


def draft_of_export(sae: Sae) -> None:
    (home(sae) / "exports" / "saelens.draft").mkdir(parents=True)
    aged(_written(home(sae) / "exports" / "saelens.draft" / "cfg.json"))


def draft_of_link(sae: Sae) -> None:
    aged(_written(home(sae) / "native" / "checkpoint.safetensors.link"))


def lock(sae: Sae) -> None:
    (root() / "run" / "locks").mkdir(parents=True)
    _written(root() / "run" / "locks" / NOBODY)


def limit(sae: Sae) -> None:
    (root() / "run" / "limits").mkdir(parents=True)
    aged(_written(root() / "run" / "limits" / "huggingface.co"), 2 * 86_400)


def twin(sae: Sae) -> None:
    made("twin", (home(sae) / "native" / "checkpoint.safetensors").read_bytes())


def link_in_library(sae: Sae) -> None:
    (root() / "saes" / NOBODY).symlink_to(_outside())


def link_in_sae(sae: Sae) -> None:
    (home(sae) / "native" / "more").symlink_to(_outside())


def link_in_kept(sae: Sae) -> None:
    (root() / "kept").mkdir()
    (root() / "kept" / NOBODY).symlink_to(_outside())


def loop(sae: Sae) -> None:
    (home(sae) / "native" / "again").symlink_to(home(sae))


def foreign_file(sae: Sae) -> None:
    _written(root() / "saes" / "README.txt")


def foreign_folder(sae: Sae) -> None:
    (root() / "saes" / "..;\n<b>x").mkdir()


def odd_name(sae: Sae) -> None:
    Path(os.fsdecode(os.fsencode(root() / "saes") + b"/\xff\xfe")).write_text("x")


def pipe(sae: Sae) -> None:
    os.mkfifo(home(sae) / "native" / "pipe")


def _written(path: Path) -> Path:
    path.write_bytes(b"left over")
    return path


def _outside() -> Path:
    outside = root().parent / "outside"
    outside.mkdir(exist_ok=True)
    (outside / "precious").write_text("not ours")
    return outside


Make = Callable[[Sae], None]
MENDED: dict[Make, Kind] = {
    missing: Kind.MISSING, shorter: Kind.CHANGED, wrong_size: Kind.SIZES, orphan: Kind.ORPHAN,
    empty_orphan: Kind.ORPHAN, stray: Kind.STRAY, parts: Kind.UNFINISHED, draft: Kind.UNFINISHED,
    draft_of_export: Kind.UNFINISHED, draft_of_link: Kind.UNFINISHED, lock: Kind.LEFTOVER,
    limit: Kind.LEFTOVER, twin: Kind.DUPLICATE,
}  # fmt: skip
LEFT: dict[Make, Kind] = {
    link_in_library: Kind.LINK, link_in_sae: Kind.LINK, link_in_kept: Kind.LINK, loop: Kind.LINK,
    foreign_file: Kind.FOREIGN, foreign_folder: Kind.FOREIGN, odd_name: Kind.FOREIGN,
    pipe: Kind.FOREIGN,
}  # fmt: skip


def test_a_whole_library_has_nothing_to_tell(sae: Sae) -> None:
    seen = doctor.examine()
    assert (seen.findings, seen.saes, seen.at_work, seen.complete) == ([], 1, 0, True)


@pytest.mark.parametrize("make", [*MENDED, *LEFT])
def test_looking_finds_it_and_changes_nothing(sae: Sae, data_dir: Path, make: Make) -> None:
    make(sae)
    before = everything(data_dir)
    (found,) = doctor.examine().findings
    assert found.kind == {**MENDED, **LEFT}[make]
    assert found.says.endswith(".") and bool(found.repair) == (make in MENDED)
    json.dumps(found.to_json()).encode("utf-8")
    assert everything(data_dir) == before


@pytest.mark.parametrize("make", MENDED)
def test_repairing_mends_it_and_a_second_look_finds_nothing(sae: Sae, make: Make) -> None:
    make(sae)
    (outcome,) = repaired(doctor.examine())
    assert outcome.done and not outcome.why
    assert doctor.examine().findings == []


@pytest.mark.parametrize("make", LEFT)
def test_what_is_for_a_person_to_decide_is_left_alone(sae: Sae, data_dir: Path, make: Make) -> None:
    make(sae)
    before = everything(data_dir)
    (outcome,) = repaired(doctor.examine(), delete_orphans=True)
    assert not outcome.done and outcome.why
    assert everything(data_dir) == before
    assert not (outside := root().parent / "outside").exists() or (outside / "precious").exists()


# --- what mending does ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [missing, shorter])
def test_a_damaged_sae_becomes_an_error_that_retry_mends(sae: Sae, make: Make) -> None:
    make(sae)
    repaired(doctor.examine())
    sae = services.sae_of(sae.id)
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "data_missing")
    assert "native/checkpoint.safetensors" in sae.error_message and "Retry" in sae.error_solution
    assert sae.downloaded_at is not None  # its source is whole: it is converted from that


def test_a_damaged_source_is_fetched_again(sae: Sae) -> None:
    (home(sae) / "source" / "cfg.json").unlink()
    repaired(doctor.examine())
    assert services.sae_of(sae.id).downloaded_at is None


def test_changed_bytes_are_found_by_reading_them(sae: Sae) -> None:
    bytes_changed(sae)
    assert doctor.examine().findings == []
    (found,) = (seen := doctor.examine(Silent())).findings
    assert found.kind == Kind.CHANGED
    repaired(seen)
    assert services.sae_of(sae.id).status == Sae.Status.ERROR


def test_a_damaged_export_is_forgotten_and_the_sae_stays_ready(sae: Sae) -> None:
    put(sae, "exports/saelens/cfg.json", b"{}").unlink()
    services.finish(sae)
    repaired(doctor.examine())
    sae = services.sae_of(sae.id)
    assert sae.status == Sae.Status.READY
    assert not sae.files.filter(kind=SaeFile.Kind.EXPORT).exists()


def test_an_orphan_is_kept_with_all_it_holds(sae: Sae) -> None:
    orphan(sae)
    (home_of_orphan := root() / "saes" / NOBODY / "parts").mkdir()
    _written(home_of_orphan / "half")
    repaired(doctor.examine())
    (kept,) = services.library().kept()
    assert kept.name == NOBODY and NOBODY in kept.label["name"]
    files = {path.name for path in (root() / "kept" / NOBODY).rglob("*") if path.is_file()}
    assert files == {"checkpoint.safetensors", "half", "kept.json"}
    assert [it.name for it in (root() / "run" / "locks").iterdir()] == []


def test_an_orphan_never_replaces_files_that_are_kept_already(sae: Sae) -> None:
    (root() / "kept" / NOBODY).mkdir(parents=True)
    _written(root() / "kept" / NOBODY / "earlier")
    orphan(sae)
    repaired(doctor.examine())
    assert (root() / "kept" / NOBODY / "earlier").exists()
    assert len(services.library().kept()) == 2


def test_an_orphan_is_deleted_where_that_is_asked_for(sae: Sae) -> None:
    orphan(sae)
    repaired(doctor.examine(), delete_orphans=True)
    assert services.library().kept() == [] and not (root() / "saes" / NOBODY).exists()


def test_a_label_is_not_written_through_a_link(sae: Sae) -> None:
    orphan(sae)
    precious = _outside() / "precious"
    (root() / "saes" / NOBODY / "kept.json").symlink_to(precious)
    repaired(doctor.examine())
    assert precious.read_text() == "not ours"
    assert services.library().kept()[0].label


def test_unknown_files_of_an_sae_are_kept_by_their_paths(sae: Sae) -> None:
    stray(sae)
    repaired(doctor.examine())
    (kept,) = services.library().kept()
    assert (root() / "kept" / kept.name / "native" / "notes.txt").read_text() == "mine"
    assert sae.name in kept.label["name"]


def test_copies_become_names_of_one_file(sae: Sae) -> None:
    twin(sae)
    (found,) = (seen := doctor.examine()).findings
    assert found.size == LARGE
    repaired(seen)
    files = [home(it) / "native" / "checkpoint.safetensors" for it in Sae.objects.all()]
    assert files[0].samefile(files[1])
    assert freed_by_removing(home(sae)) == 20


def test_a_damaged_copy_is_never_given_to_another_sae(sae: Sae) -> None:
    twin(sae)
    bytes_changed(sae)
    other = Sae.objects.exclude(id=sae.id).get()
    before = (home(other) / "native" / "checkpoint.safetensors").read_bytes()
    (outcome,) = repaired(doctor.examine())
    assert not outcome.done and "damaged" in outcome.why
    assert (home(other) / "native" / "checkpoint.safetensors").read_bytes() == before


def test_parts_of_a_download_that_failed_wait_for_its_retry(sae: Sae) -> None:
    parts(sae)
    Sae.objects.filter(id=sae.id).update(status=Sae.Status.ERROR, error_code="hub_unreachable")
    assert doctor.examine().findings == []
    Sae.objects.filter(id=sae.id).update(error_code="cancelled")
    assert [it.kind for it in doctor.examine().findings] == [Kind.UNFINISHED]


def test_what_was_written_just_now_is_left_to_whoever_writes_it(sae: Sae) -> None:
    draft(sae)
    os.utime(home(sae) / "native.draft" / "checkpoint.safetensors")
    assert doctor.examine().findings == []


# --- beside workers -------------------------------------------------------------------------------

ANY = [missing, shorter, wrong_size, stray, parts, draft, twin]


@pytest.mark.parametrize("state", Job.ACTIVE)
@pytest.mark.parametrize("make", ANY)
def test_an_sae_at_work_is_not_even_looked_at(sae: Sae, make: Make, state: Job.State) -> None:
    make(sae)
    for row in Sae.objects.all():
        Job.objects.create(kind=Job.Kind.CONVERT, sae=row, state=state)
    seen = doctor.examine()
    assert (seen.findings, seen.at_work) == ([], Sae.objects.count())


@pytest.mark.parametrize("make", ANY)
def test_a_job_that_begins_between_looking_and_repairing_is_left_alone(
    sae: Sae, data_dir: Path, make: Make
) -> None:
    make(sae)
    seen = doctor.examine()
    for row in Sae.objects.all():
        Job.objects.create(kind=Job.Kind.CONVERT, sae=row)
    for row in Sae.objects.all():  # the lock that holding it needs is no change
        with services.library().hold(row.id, lambda: None):
            pass
    before = everything(data_dir)
    (outcome,) = repaired(seen)
    assert not outcome.done and "at work" in outcome.why
    after = everything(data_dir)
    assert {**after, "tree": _without_locks(after["tree"])} == {
        **before, "tree": _without_locks(before["tree"]),
    }  # fmt: skip


def _without_locks(tree: dict[str, object]) -> dict[str, object]:
    return {path: it for path, it in tree.items() if "/run/" not in path}


@pytest.mark.parametrize("make", [stray, orphan])
def test_what_another_process_holds_is_skipped_and_said(sae: Sae, make: Make) -> None:
    make(sae)
    seen = doctor.examine()
    with services.library().hold(seen.findings[0].sae_id, lambda: None):
        (outcome,) = repaired(seen)
    assert not outcome.done and "A worker is still at this SAE" in outcome.why
    assert repaired(doctor.examine())[0].done


def test_a_folder_that_a_worker_is_removing_is_no_orphan(sae: Sae) -> None:
    orphan(sae)
    with services.library().hold(NOBODY, lambda: None):
        assert doctor.examine().findings == []


def test_what_was_mended_meanwhile_is_not_mended_again(sae: Sae) -> None:
    stray(sae)
    seen = doctor.examine()
    repaired(seen)
    (again,) = repaired(seen)
    assert again.done == "It is no longer so."
    assert len(services.library().kept()) == 1


def test_time_that_runs_out_leaves_the_rest_for_the_next_time(sae: Sae) -> None:
    stray(sae)
    seen = doctor.examine()
    (outcome,) = doctor.repair(None, seen.findings, seconds=-1)
    assert not outcome.done and "no time left" in outcome.why
    assert not doctor.examine(seconds=-1).complete


def test_a_socket_and_a_thousand_folders_in_one_another_stop_nobody(sae: Sae) -> None:
    here = Path.cwd()
    os.chdir(home(sae) / "native")
    try:
        with socket.socket(socket.AF_UNIX) as it:
            it.bind("socket")
        for _ in range(1500):
            Path("d").mkdir()
            os.chdir("d")
        assert [it.kind for it in doctor.examine().findings] == [Kind.FOREIGN]
    finally:
        os.chdir(here)
        # Deeper than Python's own rmtree, which pytest clears up with, could go.
        subprocess.run(["rm", "-rf", str(home(sae))], check=True)


# --- who may --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("role", "delete", "may"),
    [(roles.VIEWER, False, False), (roles.EDITOR, False, True), (roles.EDITOR, True, False),
     (roles.ADMIN, True, True)],
)  # fmt: skip
def test_editors_repair_and_admins_delete(
    owner: User, sae: Sae, role: str, delete: bool, may: bool
) -> None:
    orphan(sae)
    seen = doctor.examine()
    user = somebody("somebody", role)
    if may:
        assert list(doctor.repair(user, seen.findings, delete_orphans=delete))[0].done
    else:
        with pytest.raises(Forbidden):
            list(doctor.repair(user, seen.findings, delete_orphans=delete))
        assert (root() / "saes" / NOBODY).exists()
