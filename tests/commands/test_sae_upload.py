"""`manage.py sae_upload`: the rehearsal in words, the question, and publishing."""

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
