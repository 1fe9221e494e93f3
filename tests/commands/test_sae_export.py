"""`manage.py sae_export`: a ready SAE as files of its own, proved or copied."""

from pathlib import Path

import pytest

from saes import services
from saes.converter import detect_format
from saes.models import Sae
from tests.commands.conftest import command
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.mark.parametrize("format", ["saelens", "mistudio", "dictionary_learning"])
def test_it_writes_any_form_with_its_certificate(sae: Sae, tmp_path: Path, format: str) -> None:
    ran = command("sae_export", sae.name, tmp_path / "out", "--to", format, "--json")
    assert (ran.code, ran.json["certificate"]["passed"]) == (0, True)
    assert detect_format(tmp_path / "out") == format
    assert {Path(path) for path in ran.json["paths"]} == set((tmp_path / "out").iterdir())


def test_without_json_it_names_the_files_and_what_was_proved(sae: Sae, tmp_path: Path) -> None:
    ran = command("sae_export", sae.id, tmp_path / "out", "--to", "saelens")
    assert f"{tmp_path / 'out' / 'cfg.json'}\n" in ran.out
    assert "Certified: the same features fire" in ran.out


def test_the_original_files_come_as_they_were(sae: Sae, tmp_path: Path) -> None:
    target = tmp_path / "out"
    ran = command("sae_export", sae.id, target, "--to", "original", "--json")
    assert (ran.code, ran.json["certificate"]) == (0, None)
    came = {
        path.relative_to(target).as_posix(): path.read_bytes()
        for path in map(Path, ran.json["paths"])
    }
    assert came.items() <= sample_files("saelens_v6_standard").items()
    assert len(came) >= 2


@pytest.mark.parametrize("there", ["a folder with something", "a file"])
def test_a_target_that_is_taken_is_refused(sae: Sae, tmp_path: Path, there: str) -> None:
    target = tmp_path / "out"
    mine = target / "mine" if there != "a file" else target
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("mine")
    ran = command("sae_export", sae.id, target, "--to", "saelens", "--json")
    assert (ran.code, ran.json["code"]) == (1, "conflict")
    assert mine.read_text() == "mine"


def test_a_form_that_cannot_hold_it_is_refused(sae: Sae, tmp_path: Path) -> None:
    ran = command("sae_export", sae.id, tmp_path / "out", "--to", "sparsify", "--json")
    assert (ran.code, ran.json["code"]) == (1, "cannot_represent")
    assert not (tmp_path / "out").exists()


def test_what_is_not_ready_is_refused(sae: Sae, tmp_path: Path) -> None:
    Sae.objects.update(status=Sae.Status.ERROR)
    ran = command("sae_export", sae.id, tmp_path / "out", "--to", "saelens", "--json")
    assert (ran.code, ran.json["code"]) == (1, "not_ready")


@pytest.mark.parametrize("format", ["original", "saelens"])
def test_files_that_changed_or_are_gone_leave_nothing_behind(
    hub: LocalHub, sae: Sae, tmp_path: Path, format: str
) -> None:
    folder = "source" if format == "original" else "native"
    for path in (services.library().home(sae.id) / folder).rglob("*.safetensors"):
        path.write_bytes(b"something else")
    ran = command("sae_export", sae.id, tmp_path / "out", "--to", format)
    assert ran.code == 1
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    command("sae_export", sae.id, tmp_path / "out", "--to", format)
    assert not list((tmp_path / "out").iterdir())
