"""Publishing to a hub over real sockets: what arrives, what is read back, what is refused."""

import json
from datetime import timedelta

import pytest
from django.utils import timezone

from saes import converter, moves, publications, services, steering
from saes.errors import CannotPublish, Conflict, TargetMoved, WrongVisibility
from saes.models import HubToken, Job, Publication, Sae, SaeFile
from tests.hub import LocalHub, upload_faults
from tests.hub.faults import redirect
from tests.hub.repos import Repo
from tests.jobs.made import brought_in, made_sae
from tests.publishing.conftest import (
    READER,
    REPO,
    WRITER,
    also,
    held,
    published,
    run,
    started,
    wish,
)  # fmt: skip

pytestmark = pytest.mark.django_db(transaction=True)
SENT = {"cfg.json", "sae_weights.safetensors", "sae_passport.json"}


def titles(repo: Repo) -> list[str]:
    return [commit.title for commit in repo.commits.values()]


@pytest.fixture(autouse=True)
def with_token(token: HubToken) -> None:
    """Every test here has a token that may write."""


# --- what arrives ---------------------------------------------------------------------------------


def test_a_new_repository_holds_the_files_of_the_allow_list_and_no_other(
    sae: Sae, hub: LocalHub
) -> None:
    (services.library().home(sae.id) / "native" / ".env").write_text("SECRET=1")
    (services.library().home(sae.id) / "source" / "id_rsa").write_text("SECRET")
    row = published(sae)
    repo = hub.repo(REPO)
    assert held(repo).keys() == {".gitattributes", "README.md", *(f"layer_0/{it}" for it in SENT)}
    assert repo.private and row.commit == repo.sha
    assert row.commit_url.endswith(f"/{REPO}/commit/{repo.sha}")
    assert titles(repo)[1:] == ["Publish layer_0"]


def test_what_arrives_computes_what_the_library_holds(
    sae: Sae, hub: LocalHub, tmp_path_factory: pytest.TempPathFactory
) -> None:
    published(sae)
    folder = tmp_path_factory.mktemp("fetched")
    files = held(hub.repo(REPO))
    for name in ("cfg.json", "sae_weights.safetensors"):
        (folder / name).write_bytes(files[f"layer_0/{name}"])
    assert converter.certify(services.library().native(sae.id), None, folder).passed


def test_the_passport_says_where_it_comes_from_and_holds_the_hashes(
    sae: Sae, hub: LocalHub
) -> None:
    published(sae)
    files = held(hub.repo(REPO))
    passport = json.loads(files["layer_0/sae_passport.json"])
    assert passport["source"]["repo_id"] == "someone/sae-1"
    assert passport["source"]["commit"] == sae.hf_commit
    assert [it["certificate"]["passed"] for it in passport["conversions"]] == [True, True]
    weights = sae.files.get(path="exports/saelens/sae_weights.safetensors")
    assert passport["files"]["sae_weights.safetensors"]["sha256"] == weights.sha256


def test_several_saes_go_up_in_one_commit(saes: list[Sae], hub: LocalHub) -> None:
    published(*saes)
    files, repo = held(hub.repo(REPO)), hub.repo(REPO)
    assert {name for name in files if name.endswith("weights.safetensors")} == {
        "layer_0/sae_weights.safetensors", "layer_1/sae_weights.safetensors",
    }  # fmt: skip
    assert titles(repo)[1:] == ["Publish 2 SAEs"]
    assert "[`layer_0`]" in files["README.md"].decode()
    assert "[`layer_1`]" in files["README.md"].decode()


def test_a_file_of_more_than_ten_megabytes_arrives_in_parts(hub: LocalHub) -> None:
    hub.multipart_from, hub.part_size = 10_000_000, 4_000_000
    hub.add_repo("someone/large", made_sae(3, d_in=512, d_sae=4096))
    published(brought_in("someone/large"))
    blob = hub.repo(REPO).head.files["layer_0/sae_weights.safetensors"]
    assert blob.size > 10_000_000
    parts = hub.log.requests(origin="cdn", method="PUT")
    assert len(parts) == -(-blob.size // 4_000_000)


def test_the_sae_stays_ready_all_the_while(sae: Sae) -> None:
    job = started(sae)
    sae.refresh_from_db()
    assert sae.status == Sae.Status.READY
    run(job)
    sae.refresh_from_db()
    assert (sae.status, sae.error_code) == (Sae.Status.READY, "")


def test_no_token_goes_to_the_store(sae: Sae, hub: LocalHub) -> None:
    published(sae)
    puts = hub.log.requests(origin="cdn", method="PUT")
    assert puts and not any(it.authorized for it in puts)


# --- an existing repository -----------------------------------------------------------------------


def test_a_repository_by_its_former_name_is_told_its_name(sae: Sae, hub: LocalHub) -> None:
    """The Hub would take it: it leads from the one to the other. SAELens is to load it by this."""
    hub.add_repo(REPO, {"README.md": b"# x"})
    now = f"{hub.url}/api/models/{REPO}"
    hub.faults.add("/api/models/alice/former", redirect(now, 307), times=None)
    with pytest.raises(CannotPublish, match=f"alice/former is called {REPO}") as refused:
        publications.rehearse(None, [sae], wish(sae, repo="alice/former"))
    assert refused.value.next_step == f"Publish to {REPO}."


def test_a_repository_that_its_owner_makes_private_meanwhile_stays_so(
    sae: Sae, hub: LocalHub
) -> None:
    """What was confirmed was that everybody may see it where they could already."""
    hub.add_repo(REPO, {"README.md": b"# x"})
    job = started(sae, confirmed=True)
    hub.repo(REPO).private = True
    assert run(job).state == Job.State.DONE
    assert hub.repo(REPO).private


def test_the_passport_tells_no_path_and_no_text_of_hyperparameters(sae: Sae, hub: LocalHub) -> None:
    sae.trained = {
        "step": 5, "datasets": ["/home/alice/secret", "org/data"],
        "hyperparameters": {"l1_alpha": 0.1, "wandb_api_key": "SECRETKEY"},
    }  # fmt: skip
    sae.facts = {**sae.facts, "dataset_path": {"value": "/home/alice/x", "origin": "user"}}
    sae.save()
    published(sae)
    told = held(hub.repo(REPO))["layer_0/sae_passport.json"].decode()
    assert not any(secret in told for secret in ("SECRETKEY", "/home/alice"))
    assert json.loads(told)["training"] == {
        "step": 5, "datasets": ["org/data"], "hyperparameters": {"l1_alpha": 0.1},
    }  # fmt: skip


def test_more_folders_than_saes_are_refused(sae: Sae) -> None:
    with pytest.raises(CannotPublish, match="2 folders are named for 1 SAE"):
        wish(sae, folders=("a", "b"))


def test_publishing_again_makes_no_commit(sae: Sae, hub: LocalHub) -> None:
    first = published(sae)
    hub.log.clear()
    second = published(sae)
    assert first.commit == second.commit
    assert not hub.log.requests("/commit/", method="POST")


def test_a_second_sae_leaves_the_first_in_repository_and_card(
    saes: list[Sae], hub: LocalHub
) -> None:
    published(saes[0])
    published(saes[1], folders=("layer_9",))
    files = held(hub.repo(REPO))
    assert {"layer_0/cfg.json", "layer_9/cfg.json"} <= files.keys()
    card = files["README.md"].decode()
    assert card.index("[`layer_0`]") < card.index("[`layer_9`]")


def test_hand_written_words_of_a_readme_stay(sae: Sae, hub: LocalHub) -> None:
    text = b"---\nlicense: apache-2.0\nthumbnail: x.png\n---\n# Mine\n\nWords of mine.\n"
    hub.add_repo(REPO, {"README.md": text, "other.txt": b"stays"}, private=True)
    published(sae, license="")
    files = held(hub.repo(REPO))
    assert files["other.txt"] == b"stays"
    assert b"Words of mine.\n" in files["README.md"] and b"thumbnail: x.png" in files["README.md"]
    assert b"license: apache-2.0" in files["README.md"]


def test_what_others_commit_elsewhere_meanwhile_is_no_matter(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    job = started(sae)
    hub.commit(REPO, {"notes.txt": b"x", "README.md": b"# Mine, and more\n"})
    assert run(job).state == Job.State.DONE
    files = held(hub.repo(REPO))
    assert files["notes.txt"] == b"x" and files["README.md"].count(b"# Mine, and more\n") == 1


def test_what_changed_under_our_names_is_rehearsed_again(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"layer_0/cfg.json": b"{}"}, private=True)
    job = started(sae)
    before = hub.commit(REPO, {"layer_0/cfg.json": b'{"other": 1}'})
    failed = run(job)
    assert (failed.state, failed.error_code) == (Job.State.FAILED, "target_moved")
    assert "`layer_0/cfg.json`" in failed.error_message
    assert hub.repo(REPO).sha == before


def test_a_commit_at_the_very_moment_of_ours_is_looked_at_and_ours_follows_it(
    sae: Sae, hub: LocalHub
) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    job = started(sae)
    hub.faults.add("/commit/", also(lambda: hub.commit(REPO, {"notes.txt": b"x"}), early=True))
    assert run(job).state == Job.State.DONE
    assert titles(hub.repo(REPO))[1:] == ["Update files", "Publish layer_0"]


def test_a_pull_request_leaves_main_alone(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    before = hub.repo(REPO).sha
    row = published(sae, as_pull_request=True)
    repo = hub.repo(REPO)
    assert repo.sha == before and row.commit == repo.refs["refs/pr/1"]
    assert "/discussions/1" in row.pull_request


# --- who may see it -------------------------------------------------------------------------------


def test_a_public_repository_needs_a_confirmation(sae: Sae, hub: LocalHub) -> None:
    with pytest.raises(WrongVisibility):
        started(sae, private=False)
    hub.add_repo(REPO, {})
    with pytest.raises(WrongVisibility):
        started(sae)
    with pytest.raises(WrongVisibility, match="public"):
        started(sae, private=True, confirmed=True)
    assert not Publication.objects.exists()
    published(sae, confirmed=True)


def test_a_private_repository_becomes_public_where_that_was_confirmed(
    sae: Sae, hub: LocalHub
) -> None:
    hub.add_repo(REPO, {}, private=True)
    told = publications.rehearse(None, [sae], wish(sae, private=False))
    assert told.makes_public and told.public
    published(sae, private=False, confirmed=True)
    assert not hub.repo(REPO).private


def test_a_repository_that_became_public_meanwhile_gets_nothing(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {}, private=True)
    job = started(sae)
    hub.repo(REPO).private = False
    assert run(job).error_code == "wrong_visibility"
    assert "layer_0/cfg.json" not in hub.repo(REPO).head.files


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_that_only_reads_is_refused_in_words(sae: Sae) -> None:
    with pytest.raises(CannotPublish, match="read"):
        publications.publish(None, [sae], wish(sae), READER)


def test_a_rehearsal_tells_what_the_token_may(sae: Sae, token: HubToken) -> None:
    told = publications.rehearse(None, [sae], wish(sae))
    assert told.token_rights == "Reads, and writes to repositories of alice."
    assert told.to_json()["token_rights"] == told.token_rights


def test_another_organisation_is_refused_in_words(sae: Sae) -> None:
    with pytest.raises(CannotPublish, match="stranger"):
        started(sae, repo="stranger/published")


def test_a_fine_grained_token_without_access_is_refused_in_words(sae: Sae, hub: LocalHub) -> None:
    hub.add_token("hf_fine", "alice", "fineGrained", writes=["alice/other"])
    with pytest.raises(CannotPublish, match="may not create repositories of alice"):
        publications.publish(None, [sae], wish(sae), "hf_fine")
    hub.add_repo("alice/other", {}, private=True)
    _, job = publications.publish(None, [sae], wish(sae, repo="alice/other"), "hf_fine")
    assert run(job).state == Job.State.DONE


def test_a_token_for_one_job_is_wiped_when_that_ends(sae: Sae) -> None:
    _, job = publications.publish(None, [sae], wish(sae), WRITER)
    assert HubToken.objects.filter(for_one_job=True).count() == 1
    assert run(job).state == Job.State.DONE
    assert not HubToken.objects.filter(for_one_job=True).exists()


def test_a_retry_with_the_token_of_somebody_else_publishes_nothing(sae: Sae, hub: LocalHub) -> None:
    hub.add_token("hf_bob", "bob", "write", orgs=["alice"])
    job = started(sae)
    moves.cancel([job.id])
    job.refresh_from_db()
    from saes import vault

    again = steering.retry_job(None, job, vault.keep_for_one_job(None, "hf_bob"))
    failed = run(again)
    assert failed.error_code == "cannot_publish" and "bob" in failed.error_message


# --- trouble --------------------------------------------------------------------------------------


def test_an_answer_that_is_lost_makes_no_second_commit(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("/commit/", upload_faults.lost_answer(), times=1)
    row = published(sae)
    assert titles(hub.repo(REPO))[1:] == ["Publish layer_0"]
    assert row.commit == hub.repo(REPO).sha


def test_a_lost_answer_of_a_pull_request_opens_no_second_one(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    hub.faults.add("/commit/", upload_faults.lost_answer(), times=1)
    row = published(sae, as_pull_request=True)
    assert [it for it in hub.repo(REPO).refs if it.startswith("refs/pr/")] == ["refs/pr/1"]
    assert "/discussions/1" in row.pull_request


def test_a_job_that_was_killed_after_its_commit_finds_it(sae: Sae, hub: LocalHub) -> None:
    row = published(sae)
    parent = list(hub.repo(REPO).commits)[0]
    Publication.objects.filter(id=row.id).update(
        commit="", commit_url="", parent=parent, verified_at=None
    )
    again = steering.retry_job(None, _failed(row))
    assert run(again).state == Job.State.DONE
    row.refresh_from_db()
    assert row.commit == hub.repo(REPO).sha and row.verified_at
    assert titles(hub.repo(REPO))[1:] == ["Publish layer_0"]


def _failed(row: Publication) -> Job:
    job = row.jobs.get()
    Job.objects.filter(id=job.id).update(state=Job.State.FAILED)
    job.refresh_from_db()
    return job


def test_what_is_in_the_store_is_not_sent_again(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("/commit/", upload_faults.refused(503), times=None)
    job = started(sae)
    first = run(job)
    assert first.error_code == "hub_unreachable"
    hub.faults.clear()
    hub.log.clear()
    assert run(steering.retry_job(None, first)).state == Job.State.DONE
    assert not hub.log.requests(origin="cdn", method="PUT")


def test_a_store_that_fails_for_a_moment_is_asked_again(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("", upload_faults.refused(503), where="cdn", method="PUT", times=2)
    published(sae)


def test_bytes_that_arrived_wrong_are_not_called_published(sae: Sae, hub: LocalHub) -> None:
    job = started(sae)
    hub.faults.add("/commit/", also(lambda: hub.commit(REPO, {"layer_0/cfg.json": b"{}"})))
    done = run(job)
    assert done.publication is not None
    # The commit itself holds what was sent, whatever came after it.
    assert done.state == Job.State.DONE and done.publication.commit != hub.repo(REPO).sha


def test_a_damaged_export_is_made_anew(sae: Sae, hub: LocalHub) -> None:
    published(sae)
    path = services.library().export(sae.id, "saelens") / "sae_weights.safetensors"
    body = bytearray(path.read_bytes())
    body[-2] ^= 1
    path.write_bytes(body)
    published(sae, repo="alice/second")
    assert (
        hub.repo("alice/second").head.files["layer_0/sae_weights.safetensors"].sha256
        == hub.repo(REPO).head.files["layer_0/sae_weights.safetensors"].sha256
    )


def test_a_deleted_sae_is_not_published_in_part(saes: list[Sae], hub: LocalHub) -> None:
    job = started(*saes)
    steering.delete_sae(None, saes[1], keep_files=False)
    failed = run(job)
    assert failed.error_code == "not_found"
    assert hub.repos.get("model", REPO) is None


def test_a_cancelled_publishing_sends_nothing_and_can_be_retried(sae: Sae, hub: LocalHub) -> None:
    job = started(sae)
    assert moves.cancel([job.id])
    assert run(job).state == Job.State.CANCELLED
    assert hub.repos.get("model", REPO) is None
    job.refresh_from_db()
    assert run(steering.retry_job(None, job)).state == Job.State.DONE
    with pytest.raises(Conflict, match="verified"):
        steering.retry_job(None, job)


def test_two_names_that_differ_in_case_only_are_refused(saes: list[Sae]) -> None:
    with pytest.raises(CannotPublish, match="same folder"):
        started(*saes, folders=("layer", "Layer"))


@pytest.mark.parametrize(
    "folder", ["../x", "~/x", "a/../b", ".git/hooks", "a//b", "con", "a b", "x" * 301, "é", "."]
)
def test_a_folder_that_could_lead_elsewhere_is_refused(sae: Sae, folder: str) -> None:
    with pytest.raises(CannotPublish):
        started(sae, folders=(folder,))


def test_one_sae_named_twice_is_refused(sae: Sae) -> None:
    with pytest.raises(CannotPublish, match="twice"):
        started(sae, sae)


@pytest.mark.parametrize("folder", ["taken", "taken/layer_0"])
def test_a_file_where_the_folder_would_be_is_refused(sae: Sae, hub: LocalHub, folder: str) -> None:
    hub.add_repo(REPO, {"taken": b"a file"}, private=True)
    with pytest.raises(CannotPublish, match="`taken` is a file"):
        started(sae, folders=(folder,))


def test_a_rehearsal_that_is_stale_publishes_nothing(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    told = publications.rehearse(None, [sae], wish(sae))
    hub.commit(REPO, {"README.md": b"# Another\n"})
    with pytest.raises(TargetMoved):
        publications.publish(None, [sae], wish(sae), digest=told.digest)
    assert not Job.objects.filter(kind=Job.Kind.PUBLISH).exists()


def test_the_bar_never_goes_back_and_tells_bytes(sae: Sae, hub: LocalHub) -> None:
    job = started(sae)
    done = run(job)
    assert done.progress == 100
    took = (done.ended_at or timezone.now()) - job.created_at
    assert took < timedelta(seconds=60)
    assert sae.files.filter(kind=SaeFile.Kind.EXPORT).exclude(certificate=None).count() == 2
