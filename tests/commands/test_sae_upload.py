"""`manage.py sae_upload`: the rehearsal in words, the question, and publishing."""

import os
import sys
from collections.abc import Callable, Iterator

import pytest

from saes import vault
from saes.models import Job, Publication, Sae
from tests.commands.conftest import command
from tests.hub import LocalHub

pytestmark = pytest.mark.django_db(transaction=True)
REPO = "alice/published"


@pytest.fixture(autouse=True)
def token(sae: Sae, hub: LocalHub) -> None:
    hub.add_token("hf_alice_writes", "alice", "write")
    assert sae.created_by
    vault.keep(sae.created_by, "hf_alice_writes")


def upload(sae: Sae, *words: str, repo: str = REPO) -> tuple[int, str, str]:
    ran = command("sae_upload", sae.id, "--repo", repo, "--license", "mit", *words)
    return ran.code, ran.out, ran.err


def test_a_dry_run_tells_every_file_and_does_nothing(sae: Sae, hub: LocalHub) -> None:
    code, out, _ = upload(sae, "--path", "layer_3", "--dry-run")
    assert code == 0
    assert f"To {REPO} as alice: a new repository, private." in out
    assert "The token: Reads, and writes to repositories of alice." in out
    for name in ("layer_3/cfg.json", "layer_3/sae_weights.safetensors", "README.md"):
        assert name in out
    assert "1 SAE will be converted to the SAELens form first." in out
    assert hub.repos.get("model", REPO) is None and not Publication.objects.exists()


def test_it_shows_passports_where_that_is_asked_for(sae: Sae) -> None:
    _, out, _ = upload(sae, "--path", "layer_3", "--dry-run")
    assert '"passport": 1' not in out
    _, out, _ = upload(sae, "--path", "layer_3", "--dry-run", "--show-passport")
    assert "layer_3/sae_passport.json\n{" in out and '"passport": 1' in out


def test_what_is_there_already_is_said_and_asks_nothing(sae: Sae) -> None:
    assert upload(sae, "--path", "layer_3", "--yes", "--wait")[0] == 0
    code, out, err = upload(sae, "--path", "layer_3")  # without a terminal
    assert code == 0 and "Everything is there already." in out, err
    assert Publication.objects.count() == 1


def test_it_publishes_after_a_yes_and_waits(sae: Sae, hub: LocalHub) -> None:
    code, out, err = upload(sae, "--path", "layer_3", "--yes", "--wait")
    assert code == 0, err
    assert f"Published and verified: {hub.url}/{REPO}/commit/{hub.repo(REPO).sha}" in out
    assert "layer_3/cfg.json" in hub.repo(REPO).head.files and hub.repo(REPO).private


def test_in_json_it_is_one_document(sae: Sae) -> None:
    ran = command(
        "sae_upload", sae.id, "--repo", REPO, "--path", "a", "--dry-run", "--json"
    )  # fmt: skip
    assert ran.json["creates_repo"] and ran.json["warnings"]
    done = command("sae_upload", sae.id, "--repo", REPO, "--yes", "--wait", "--json")
    assert done.json["status"] == "ready" and done.json["commit_hash"]


def test_without_a_terminal_it_asks_for_a_yes(sae: Sae) -> None:
    code, _, err = upload(sae)
    assert code == 1 and "--yes" in err
    assert not Job.objects.filter(kind=Job.Kind.PUBLISH).exists()


def test_a_public_repository_needs_the_word_public(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {})
    code, _, err = upload(sae, "--yes")
    assert code == 1 and "Everybody could see" in err
    code, _, err = upload(sae, "--yes", "--wait", "--public")
    assert code == 0, err


# --- who confirms that everybody may see it -------------------------------------------------------


@pytest.fixture
def typing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """A terminal that somebody types at."""
    master, slave = os.openpty()

    def types(text: str) -> None:
        os.write(master, f"{text}\n".encode())

    with os.fdopen(slave) as terminal:
        monkeypatch.setattr(sys, "stdin", terminal)
        yield types
    os.close(master)


NOTHING = "Nothing was published"


@pytest.mark.parametrize("target", ["public", "private", "none"])
@pytest.mark.parametrize("flag", ["", "--public", "--private"])
@pytest.mark.parametrize("word", ["--yes", "y", REPO])
def test_everybody_sees_it_only_by_public_or_by_the_name_of_what_is_public(
    sae: Sae, hub: LocalHub, typing: Callable[[str], None], target: str, flag: str, word: str
) -> None:
    if target != "none":
        hub.add_repo(REPO, {}, private=target == "private")
    typing(word)
    words = [it for it in ("--wait", flag, "--yes" if word == "--yes" else "") if it]
    code, _, err = upload(sae, *words)
    seen = target == "public" or flag == "--public"
    if target == "public" and flag == "--private":
        assert code == 1 and "is public: everybody would see" in err
    elif word == "--yes":
        refused = target == "public" and not flag
        assert code == (1 if refused else 0), err
        assert not refused or ("Everybody could see" in err and "Add --public" in err)
    else:
        assert (code, NOTHING in err) == (
            (0, False) if word == (REPO if seen else "y") else (1, True)
        )
    if code:
        assert not Publication.objects.exists()
    else:
        assert hub.repo(REPO).private != seen


def test_a_private_one_that_is_public_is_refused(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {})
    code, out, err = upload(sae, "--yes", "--private")
    assert code == 1 and "is public" in err and "Problem:" in out


def test_what_speaks_against_it_is_told_in_words(sae: Sae) -> None:
    code, out, err = upload(sae, "--yes", repo="stranger/saes")
    assert code == 1
    assert "stranger is neither the account alice nor one of its organizations" in out + err


def test_a_failed_publishing_says_why(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {}, private=True)
    hub.revoke_token("hf_alice_writes")
    code, _, err = upload(sae, "--yes", "--wait")
    assert code == 1 and "does not know this token" in err
