"""`manage.py sae_list`: filters, order and parts of the library."""

from typing import Any

import pytest

from saes.models import Sae
from tests.commands.conftest import command

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def library() -> None:
    for number in range(3):
        Sae.objects.create(
            name=f"layer {number}", source=Sae.Source.LOCAL, status=Sae.Status.READY, layer=number,
            model_name="gpt2-small", format="saelens", hf_repo_id="a/b", hf_filepath=f"l{number}",
        )  # fmt: skip
    Sae.objects.create(name="\x1b[31mred", source=Sae.Source.HUGGINGFACE)


def names(*words: object) -> list[str]:
    return [it["name"] for it in command("sae_list", "--json", *words).json["data"]]


def test_it_is_a_table_with_one_line_for_each_sae() -> None:
    ran = command("sae_list", "--sort", "oldest")
    head, *rows = ran.out.splitlines()
    assert head.split() == [
        "id", "status", "name", "model", "layer", "width", "format", "size", "repository"
    ]  # fmt: skip
    assert [row.split()[1] for row in rows] == ["ready", "ready", "ready", "pending"]
    assert rows[0].endswith("a/b/l0")
    assert "\x1b" not in ran.out
    assert "4 of 4 SAEs." in ran.err


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--search", "LAYER 1"], ["layer 1"]),
        (["--source", "huggingface"], ["\x1b[31mred"]),
        (["--status", "ready", "--layer", "2"], ["layer 2"]),
        (["--model", "gpt2", "--sort", "layer", "--limit", "2"], ["layer 0", "layer 1"]),
        (["--format", "saelens", "--sort", "layer", "--skip", "2"], ["layer 2"]),
        (["--search", "%"], []),
    ],
)
def test_filters_narrow_it(words: list[str], found: list[str]) -> None:
    assert names(*words) == found


def test_json_tells_what_is_left_out() -> None:
    told = command("sae_list", "--json", "--limit", "3").json
    assert told["pagination"] == {"skip": 0, "limit": 3, "total": 4, "has_more": True}
    assert {"id", "status", "hf_repo_id", "n_features", "progress"} <= set(told["data"][0])
    assert "`--skip 3` shows more" in command("sae_list", "--limit", "3").err


def test_json_takes_no_query_for_each_sae(django_assert_num_queries: Any) -> None:
    for limit in (1, 4):
        with django_assert_num_queries(5):  # two of migrations; how many, the SAEs, their jobs
            assert len(command("sae_list", "--json", "--limit", limit).json["data"]) == limit


@pytest.mark.parametrize(
    "words",
    [
        ["--sort", "__class__"], ["--limit", "1000000000"], ["--skip", "-1"], ["--limit", "²"],
        ["--search", "x" * 10_000], ["--search", "\udcff"], ["--status", "anything"],
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_wrong_usage(words: list[str]) -> None:
    ran = command("sae_list", *words)
    assert ran.code == 1  # in a process of its own: 2
    assert ran.err.startswith("Error: argument --")
