"""`sae_import`: one SAE of a folder, several, or all."""

from pathlib import Path

import pytest
from pytest_django import Settings

from saes.models import Sae
from tests.commands.conftest import command
from tests.fixtures import write_saelens

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def root(settings: Settings, data_dir: Path, owner: object) -> Path:
    settings.IMPORT_ROOTS = {"imports": data_dir / "imports"}
    for layer in range(3):
        write_saelens(data_dir / "imports" / "mine" / f"layer_{layer}")
    return data_dir / "imports"


def test_one_is_brought_in_and_waited_for(root: Path) -> None:
    ran = command(
        "sae_import", root / "mine" / "layer_1", "--name", "Mine", "--format", "saelens",
        "--placement", "link", "--wait", "--json",
    )  # fmt: skip
    assert ran.code == 0, ran.err
    told = ran.json["sae"]
    assert (told["status"], told["name"], told["placement"]) == ("ready", "Mine", "link")
    again = command("sae_import", "imports/mine/layer_1", "--json")
    assert (again.code, again.json["sae"]["id"], again.json["job"]) == (0, told["id"], None)


def test_those_that_are_named_or_all_are_a_batch() -> None:
    ran = command("sae_import", "imports", "mine/layer_0", "mine/layer_2", "--wait", "--json")
    assert (ran.code, len(ran.json["sae_ids"]), ran.json["failed"]) == (0, 2, []), ran.err
    ran = command("sae_import", "imports/mine", "--all", "--wait", "--json")
    assert (len(ran.json["sae_ids"]), len(ran.json["already_here"])) == (1, 2)
    assert {sae.status for sae in Sae.objects.all()} == {"ready"}


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["/etc/passwd"], 1, "none of the folders"), (["imports"], 1, "3 SAEs"),
        (["imports/nothing"], 1, "There is no `nothing`"),
        (["imports", "x", "--all"], 2, "--all means every SAE"),
        (["imports/mine/layer_0", "--format", "mistudio"], 1, "not of miStudio"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(words: list[str], code: int, said: str) -> None:
    ran = command("sae_import", *words)
    assert ran.code == code
    assert said in ran.err
    assert not Sae.objects.exists()
