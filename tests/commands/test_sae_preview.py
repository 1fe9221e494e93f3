"""`manage.py sae_preview`: a repository as a table, and in the API's words."""

import io

import pytest
from django.contrib.auth.models import User
from pytest_django import Settings

from saes import vault
from tests.commands.conftest import GEMMA, GEMMA_WHERE, SAELENS, SAELENS_WHERE, command
from tests.hub import LocalHub

pytestmark = pytest.mark.django_db(transaction=True)


def test_it_is_a_table_of_saes_and_a_sum(hub: LocalHub) -> None:
    head, row, total = command("sae_preview", GEMMA).out.splitlines()
    assert head.split() == ["where", "format", "layer", "hook", "width", "L0", "size"]
    assert row.split()[:6] == [GEMMA_WHERE, "gemma_scope_1", "12", "residual", "16k", "41"]
    assert total.startswith(f"{GEMMA} at {hub.repo(GEMMA).sha[:10]}: 1 SAE (")


def test_what_names_do_not_tell_is_read_from_the_header(hub: LocalHub) -> None:
    _, row, _ = command("sae_preview", f"{hub.url}/{SAELENS}").out.splitlines()
    assert row.split()[:5] == [SAELENS_WHERE, "saelens", "3", "residual", "64"]


def test_json_is_the_apis_answer(hub: LocalHub) -> None:
    told = command("sae_preview", GEMMA, "--json").json
    assert told["sae_paths"] == [GEMMA_WHERE]
    assert {"repo_id", "repo_type", "files", "sae_files", "total_size_bytes"} <= set(told)


def test_a_repository_without_saes_is_no_error(hub: LocalHub) -> None:
    hub.add_repo("someone/notes", {"README.md": b"# Nothing"})
    ran = command("sae_preview", "someone/notes")
    assert (ran.code, ran.out.count("\n")) == (0, 1)
    assert "sae_formats" in ran.err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (["someone/nothing"], "repository_not_found"),
        ([GEMMA, "--revision", "nowhere"], "revision_not_found"),
        (["../etc"], "bad_name"),
        ([GEMMA, "--user", "nobody"], "not_found"),
    ],
)
def test_what_the_hub_refuses_is_told_with_its_code(
    hub: LocalHub, words: list[str], code: str
) -> None:
    ran = command("sae_preview", *words, "--json")
    assert (ran.code, ran.json["code"]) == (1, code)
    assert ran.json["solution"] in ran.err


def test_a_private_repository_is_seen_with_the_stored_token(hub: LocalHub, owner: User) -> None:
    assert command("sae_preview", "alice/private").code == 1
    vault.keep(owner, "hf_alice_1111")
    assert command("sae_preview", "alice/private").code == 0


def test_before_the_first_start_the_servers_own_token_is_taken_from_its_variable(
    hub: LocalHub, settings: Settings
) -> None:
    settings.HF_TOKEN = "hf_alice_1111"
    assert command("sae_preview", "alice/private").code == 0


@pytest.mark.parametrize(
    ("given", "code"), [("hf_alice_1111\n", 0), ("", 1), ("two words\n", 1), ("x" * 500, 1)]
)
def test_a_token_may_come_by_standard_input(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch, given: str, code: int
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(given))
    ran = command("sae_preview", "alice/private", "--token-stdin")
    assert ran.code == code
    assert not given.strip() or given.strip() not in ran.out + ran.err
