"""Publishing to a hub over real sockets: what arrives, and what stays."""

import json
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from saes import converter, publications, services
from saes.errors import CannotPublish
from saes.models import Job, Publication, Sae
from tests.hub import LocalHub
from tests.hub.faults import redirect
from tests.jobs.made import brought_in, made_sae
from tests.publishing.conftest import REPO, also, held, published, run, started, titles, wish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("token")]
SENT = {"cfg.json", "sae_weights.safetensors", "sae_passport.json"}


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


def test_what_is_there_already_is_not_published_again(sae: Sae, hub: LocalHub) -> None:
    published(sae)
    told, job = publications.publish(None, [sae], wish(sae))
    assert told.nothing_to_do and told.to_json()["nothing_to_do"] and job is None
    assert Publication.objects.count() == 1


def test_what_turns_out_to_be_there_once_it_is_made_makes_no_commit(
    sae: Sae, hub: LocalHub
) -> None:
    first = published(sae)
    services.drop_exports(sae)
    hub.log.clear()
    assert published(sae).commit == first.commit
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
    front = b"---\r\nlicense: apache-2.0  # why\r\nversion: 1.10\r\nnothing:\r\n"
    text = front + b"---\r\n# Mine\r\n\r\nWords of mine.\r\n"
    hub.add_repo(REPO, {"README.md": text, "other.txt": b"stays"}, private=True)
    published(sae, license="")
    files = held(hub.repo(REPO))
    assert files["other.txt"] == b"stays" and files["README.md"].startswith(front)
    assert b"---\r\n# Mine\r\n\r\nWords of mine.\r\n" in files["README.md"]


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


# --- how often features fire ----------------------------------------------------------------------


def with_sparsity(hub: LocalHub, values: "np.ndarray[Any, Any]", **more: Any) -> Sae:
    beside = save({"sparsity": values, **more})
    hub.add_repo("someone/told", {**made_sae(9), "sparsity.safetensors": beside})
    return brought_in("someone/told")


def test_how_often_features_fire_goes_along_where_its_author_said(hub: LocalHub) -> None:
    values = np.linspace(-6, 0, 1024, dtype=np.float32)
    published(with_sparsity(hub, values))
    files = held(hub.repo(REPO))
    assert np.array_equal(load(files["layer_0/sparsity.safetensors"])["sparsity"], values)
    passport = json.loads(files["layer_0/sae_passport.json"])
    assert passport["files"].keys() == {*SENT - {"sae_passport.json"}, "sparsity.safetensors"}


@pytest.mark.parametrize("more", [{}, {"another": np.zeros(3, np.float32)}])
def test_of_other_features_or_with_other_tensors_it_stays_here(
    hub: LocalHub, more: dict[str, Any]
) -> None:
    count = 1024 if more else 7
    published(with_sparsity(hub, np.zeros(count, np.float32), **more))
    assert "layer_0/sparsity.safetensors" not in held(hub.repo(REPO))


def test_what_stays_beside_new_weights_is_warned_of(sae: Sae, hub: LocalHub) -> None:
    there = {"layer_0/sae_weights.safetensors": b"x", "layer_0/sparsity.safetensors": b"x"}
    hub.add_repo(REPO, there, private=True)
    told = publications.rehearse(None, [sae], wish(sae)).warnings
    assert any("`layer_0/sparsity.safetensors` stay as they are" in it for it in told)


def test_an_open_pull_request_is_told_before_another_one_is_opened(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"README.md": b"# Mine\n"}, private=True)
    first = published(sae, as_pull_request=True)
    told = publications.rehearse(None, [sae], wish(sae, as_pull_request=True)).warnings
    assert any(first.pull_request in it for it in told)
