"""The documents keep up with the code: variables, formats, commands, files."""

import re
from pathlib import Path

import pytest
from django.core.management import get_commands

from saes import errors
from saes.formats.given import READERS
from saes.formats.table import markdown
from tests.apps import ROOT

README = (ROOT / "README.md").read_text()
EXAMPLE = (ROOT / ".env.example").read_text()
SETTINGS = (ROOT / "mistudio" / "settings.py").read_text()
MAKEFILE = (ROOT / "Makefile").read_text()
# Read by the Makefile's own helpers, before there are settings.
HELPERS = MAKEFILE + "".join(path.read_text() for path in ROOT.glob("*/[!.]*.py"))
VARIABLES = sorted(set(re.findall(r'env\.\w+\(\s*"((?:MISTUDIO|HF)_\w+)"', SETTINGS)))


def table(heading: str) -> str:
    """The rows of the table below a heading of the README."""
    _, _, rest = README.partition(f"## {heading}\n")
    return "\n".join(line for line in rest.partition("\n## ")[0].splitlines() if line[:1] == "|")


def test_the_settings_read_their_variables_where_this_test_looks() -> None:
    assert len(VARIABLES) >= 12
    assert {"MISTUDIO_DATA_DIR", "HF_ENDPOINT", "HF_TOKEN"} <= set(VARIABLES)


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_is_in_the_readme_and_in_the_example(name: str) -> None:
    assert f"`{name}`" in table("Settings")
    assert re.search(rf"^#?{name}=", EXAMPLE, re.MULTILINE)


@pytest.mark.parametrize("name", re.findall(r"^#?(\w+)=", EXAMPLE, re.MULTILINE))
def test_every_variable_of_the_example_exists(name: str) -> None:
    assert name in VARIABLES or name in HELPERS


@pytest.mark.parametrize("name", re.findall(r"`((?:MISTUDIO|HF)_\w+)`", table("Settings")))
def test_every_variable_of_the_readme_exists(name: str) -> None:
    assert name in VARIABLES or name in HELPERS


def test_the_readmes_formats_are_those_of_the_registry() -> None:
    """`make readme` writes them."""
    assert f"<!-- formats -->\n{markdown()}<!-- /formats -->" in README


def test_the_table_of_errors_is_the_one_that_errors_py_makes() -> None:
    assert f"<!-- errors -->\n{errors.markdown()}<!-- /errors -->" in README


def test_every_error_says_what_it_is_and_what_to_do() -> None:
    kinds = errors.all_errors()
    assert len({kind.code for kind in kinds}) == len(kinds) > 40
    for kind in kinds:
        assert kind.__doc__ and kind.__doc__.endswith("."), kind
        assert kind.solution.endswith("."), kind
        assert 400 <= kind.status < 600, kind


def python_of_the_readme() -> str:
    return "".join(re.findall(r"```python\n(.*?)```", README, re.DOTALL))


def test_every_name_that_the_readme_imports_exists() -> None:
    imports = [line for line in python_of_the_readme().splitlines() if " import " in line]
    assert len(imports) >= 3
    for line in imports:
        exec(line, {})  # a line of our own README


def test_every_fact_that_can_be_stated_is_in_the_readme() -> None:
    assert all(f"`{name}`" in README for name in READERS)


def commands() -> list[str]:
    """Those that the README tells to run, and those of its table."""
    cells = "".join(line.split(" | ")[0] for line in table("Commands").splitlines()[2:])
    return [*re.findall(r"manage\.py ([a-z_]+)", README), *re.findall(r"`([a-z]+_[a-z_]+)", cells)]


COMMANDS = sorted(set(commands()))


def test_the_readme_names_commands() -> None:
    assert {"sign_in_link", "sae_worker"} <= set(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_of_the_readme_exists(name: str) -> None:
    assert name in get_commands()


def test_every_command_of_ours_is_in_the_readme() -> None:
    ours = {name for name, app in get_commands().items() if app == "saes"}
    assert ours - {"start"} <= set(COMMANDS)  # `make start` stands for it


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`?make ([a-z]+)`?", README))))
def test_every_make_target_of_the_readme_exists(target: str) -> None:
    assert re.search(rf"^{target}:", MAKEFILE, re.MULTILINE) or target in ("needs",)


@pytest.mark.parametrize("document", ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"])
def test_every_link_to_a_file_leads_to_one(document: str) -> None:
    for target in re.findall(r"\]\(([^)#:]+)\)", (ROOT / document).read_text()):
        assert (ROOT / target).exists(), target


def modules_named() -> list[str]:
    _, _, rest = (ROOT / "ARCHITECTURE.md").read_text().partition("## Where things are\n")
    cells = [line.split("|")[1] for line in rest.partition("\n## ")[0].splitlines() if "|" in line]
    return [name for cell in cells for name in re.findall(r"`([\w./]+)`", cell)]


@pytest.mark.parametrize("name", modules_named())
def test_every_file_of_the_architecture_exists(name: str) -> None:
    places = [ROOT / name, ROOT / "saes" / name, ROOT / "mistudio" / name]
    assert any(Path(place).exists() for place in places)
