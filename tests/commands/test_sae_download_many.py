"""`manage.py sae_download REPO --all`, and several paths: one batch, followed to its end."""

import pytest
from django.contrib.auth.models import User

from saes.models import Batch, Job, Sae
from saes.storage import Library
from tests.api.made import gpt2_sae, in_folder
from tests.commands.conftest import command
from tests.hub import LocalHub, faults

pytestmark = pytest.mark.django_db(transaction=True)
REPO = "me/saes"


@pytest.fixture(autouse=True)
def repo(hub: LocalHub, owner: User) -> None:
    files = in_folder("layer_0", gpt2_sae(0)) | in_folder("layer_1", gpt2_sae(1))
    hub.add_repo(REPO, files | in_folder("layer_2", gpt2_sae(2)))


def test_all_become_one_batch(hub: LocalHub) -> None:
    ran = command("sae_download", REPO, "--all", "--name", "all of it", "--model-name", "gpt2")
    batch = Batch.objects.get()
    assert (ran.code, ran.out) == (0, f"Batch {batch.id}: 3 jobs\n")
    assert "make start" in ran.err
    assert (batch.name, batch.jobs.count()) == ("all of it", 3)
    assert set(Sae.objects.values_list("model_name", "hf_commit")) == {
        ("gpt2", hub.repo(REPO).sha)
    }  # fmt: skip


def test_several_paths_are_brought_in_and_waited_for() -> None:
    ran = command("sae_download", REPO, "layer_0", "layer_2", "--wait", "--json")
    assert (ran.code, ran.json["failed"], ran.json["already_here"]) == (0, [], [])
    assert set(Sae.objects.values_list("hf_filepath", "status")) == {
        ("layer_0", "ready"), ("layer_2", "ready"),
    }  # fmt: skip
    again = command("sae_download", REPO, "--all", "--json").json
    assert set(again["already_here"]) == set(ran.json["sae_ids"]) and len(again["jobs"]) == 1


def test_waiting_says_which_failed(hub: LocalHub) -> None:
    hub.faults.add(
        lambda asked: "layer_1/sae" in asked.file, faults.corrupt(100_000), where="cdn", times=None
    )
    ran = command("sae_download", REPO, "--all", "--wait", "--json")
    assert (ran.code, len(ran.json["jobs"])) == (1, 3)
    [failed] = ran.json["failed"]
    assert (failed["filepath"], failed["code"]) == ("layer_1", "hash_mismatch")
    assert "1 did not become ready:\n  layer_1: " in ran.err
    hub.faults.clear()
    assert command("sae_download", REPO, "--all", "--wait").code == 0
    assert set(Sae.objects.values_list("status", flat=True)) == {"ready"}


def test_waiting_goes_on_with_what_was_left_queued() -> None:
    command("sae_download", REPO, "--all")
    ran = command("sae_download", REPO, "--all", "--wait")
    assert (ran.code, ran.out) == (0, "Nothing to do\n3 in the library already, or on their way\n")
    assert set(Job.objects.values_list("state", flat=True)) == {"done"}


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        ([REPO, "layer_0", "layer_9"], 1, "path_not_found"),
        (["me/nothing", "--all"], 1, "repository_not_found"),
        ([REPO, "layer_0", "--all"], 2, None),
    ],
)
def test_what_cannot_work_is_refused_before_anything_is_made(
    words: list[str], code: int, error: str | None
) -> None:
    ran = command("sae_download", *words, "--json")
    assert ran.code == code
    assert error is None or ran.json["code"] == error
    assert not Sae.objects.exists()


def test_a_full_disk_is_told_and_can_be_overruled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Library, "free", lambda self: 1)
    ran = command("sae_download", REPO, "--all", "--json")
    assert (ran.code, ran.json["code"]) == (1, "disk_full")
    assert command("sae_download", REPO, "--all", "--anyway").code == 0
    assert Job.objects.count() == 3
