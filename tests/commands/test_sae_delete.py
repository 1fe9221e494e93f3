"""`manage.py sae_delete`: asks on a terminal, wants --yes elsewhere, answers for each SAE."""

import io
import os
import pty

import pytest

from saes import services
from saes.models import Sae
from tests.commands.conftest import command

pytestmark = pytest.mark.django_db(transaction=True)


def test_without_a_terminal_it_wants_to_be_told_yes(
    sae: Sae, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    ran = command("sae_delete", sae.id, "--json")
    assert (ran.code, ran.json["code"]) == (1, "bad_request")
    assert "kB" in ran.err and "--yes" in ran.err
    assert Sae.objects.exists()


@pytest.mark.parametrize(("answer", "code"), [("y", 0), ("n", 1), ("", 1)])
def test_on_a_terminal_it_names_the_bytes_and_asks(
    sae: Sae, monkeypatch: pytest.MonkeyPatch, answer: str, code: int
) -> None:
    person, program = pty.openpty()
    os.write(person, f"{answer}\n".encode())
    with os.fdopen(program) as terminal:
        monkeypatch.setattr("sys.stdin", terminal)
        ran = command("sae_delete", sae.id)
    os.close(person)
    assert ran.code == code
    assert "removes 21 kB. Go on? [y/N]" in ran.err
    assert Sae.objects.exists() == bool(code)
    assert services.library().home(sae.id).exists() == bool(code)


def test_files_can_be_kept(sae: Sae) -> None:
    told = command("sae_delete", sae.name, "--keep-files", "--yes", "--json").json
    assert told["kept_files"] == {sae.id: f"kept/{sae.id}"}
    assert [kept.name for kept in services.library().kept()] == [sae.id]


def test_each_is_answered_for_by_itself(sae: Sae) -> None:
    other = Sae.objects.create(name="other", source=Sae.Source.LOCAL)
    ran = command("sae_delete", "nothing", sae.id, sae.name, other.id, "--yes", "--json")
    assert (ran.code, ran.json["deleted_ids"]) == (1, [sae.id, other.id])
    assert (ran.json["deleted_count"], ran.json["failed_ids"]) == (2, ["nothing"])
    assert "There is no SAE 'nothing'" in ran.json["errors"]["nothing"]
    assert ran.json["message"] == "2 deleted, 1 failed."


def test_a_name_that_several_have_is_refused_with_their_ids(sae: Sae) -> None:
    twin = Sae.objects.create(name=sae.name, source=Sae.Source.LOCAL)
    ran = command("sae_delete", sae.name, "--yes")
    assert ran.code == 1
    assert sae.id in ran.err and twin.id in ran.err
    assert Sae.objects.count() == 2
