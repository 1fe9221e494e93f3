"""`manage.py sae_doctor`: a dry run, the repair, and what its exit codes say."""

from pathlib import Path

import pytest

from saes import jobs, services, steering
from saes.models import Job, Sae
from tests.commands.conftest import command
from tests.views.people import everything_kept

pytestmark = pytest.mark.django_db(transaction=True)
NOBODY = "sae_000000000000"


@pytest.fixture
def orphan(sae: Sae) -> Path:
    folder = services.library().home(NOBODY) / "native"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 1234)
    return folder.parent


def test_a_whole_library_is_told_so(sae: Sae) -> None:
    ran = command("sae_doctor", "--verify")
    assert (ran.code, ran.out) == (0, "1 SAE looked at: all is well.\n")
    assert command("sae_doctor", "--json").json == {
        "findings": [], "remaining": 0, "saes": 1, "at_work": 0, "kept": [],
    }  # fmt: skip


def test_looking_lists_bytes_and_what_repairing_would_do(orphan: Path) -> None:
    before = everything_kept()
    ran = command("sae_doctor")
    assert ran.code == 1 and everything_kept() == before
    assert "orphan" in ran.out and "1,234" in ran.out and f"saes/{NOBODY}" in ran.out
    assert "Move to the kept files." in ran.err
    assert "1 finding left. `--repair` mends" in ran.err


def test_repairing_keeps_an_orphan_and_then_all_is_well(orphan: Path) -> None:
    ran = command("sae_doctor", "--repair", "--json")
    (found,) = ran.json["findings"]
    assert (ran.code, ran.json["remaining"]) == (0, 0)
    assert found["done"] == f"Moved to `kept/{NOBODY}`." and found["size"] == 1234
    assert [it["folder"] for it in ran.json["kept"]] == [f"kept/{NOBODY}"]
    again = command("sae_doctor")
    assert again.code == 0 and "kept/ holds" in again.err


def test_an_orphan_is_deleted_on_request_only(orphan: Path) -> None:
    assert command("sae_doctor", "--delete-orphans").code == 2
    assert orphan.exists()
    ran = command("sae_doctor", "--repair", "--delete-orphans")
    assert ran.code == 0 and "Deleted." in ran.out
    assert not orphan.exists() and services.library().kept() == []


def test_what_cannot_be_mended_remains(sae: Sae, tmp_path: Path) -> None:
    (services.library().root / "saes" / NOBODY).symlink_to(tmp_path)
    ran = command("sae_doctor", "--repair", "--json")
    assert (ran.code, ran.json["remaining"]) == (1, 1)
    assert ran.json["findings"][0]["why_not"] == "It is left to you."


def test_changed_bytes_are_found_where_that_is_asked_for(sae: Sae) -> None:
    path = services.library().home(sae.id) / sae.files.filter(kind="source")[0].path
    path.write_bytes(bytes(path.stat().st_size))
    assert command("sae_doctor").code == 0
    assert command("sae_doctor", "--verify", "--json").json["findings"][0]["kind"] == "changed"
    assert command("sae_doctor", "--verify", "--repair").code == 0
    sae = services.sae_of(sae.id)
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "data_missing")


def test_a_retry_after_the_repair_brings_it_back(sae: Sae) -> None:
    for row in sae.files.all():
        (services.library().home(sae.id) / row.path).unlink()
    assert command("sae_doctor", "--repair").code == 0
    jobs.run(steering.retry(None, services.sae_of(sae.id)).id)
    assert services.sae_of(sae.id).status == Sae.Status.READY
    assert command("sae_doctor", "--verify").code == 0


def test_saes_at_work_are_left_alone_and_said(sae: Sae, orphan: Path) -> None:
    Job.objects.create(kind=Job.Kind.CONVERT, sae=sae)
    (services.library().home(sae.id) / "stray").write_text("x")
    ran = command("sae_doctor", "--json")
    assert [it["kind"] for it in ran.json["findings"]] == ["orphan"]
    assert ran.json["at_work"] == 1 and "1 SAE at work: left alone." in ran.err


def test_names_on_the_disk_do_not_move_the_cursor(sae: Sae) -> None:
    (services.library().root / "saes" / "\x1b[2Jx\n").mkdir()
    out = command("sae_doctor").out
    assert "\x1b" not in out and len(out.splitlines()) == 2
