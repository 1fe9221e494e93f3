"""What of this machine and of others' names goes out with what is published: nothing unasked."""

import json
from typing import Any

import pytest

from saes import publications, services
from saes.errors import CannotPublish
from saes.models import Job, Sae
from tests.hub import LocalHub, faults
from tests.jobs.made import brought_in, made_sae
from tests.publishing.conftest import REPO, held, published, wish

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("token")]
HOME = "/home/alice/secret-project"


def brought_in_with(hub: LocalHub, **metadata: str) -> Sae:
    """An SAE whose cfg.json says this, too."""
    files = made_sae(7)
    told = json.loads(files["cfg.json"])
    told["metadata"] |= metadata
    hub.add_repo("someone/told", {**files, "cfg.json": json.dumps(told).encode()})
    return brought_in("someone/told")


@pytest.fixture
def with_paths(hub: LocalHub) -> Sae:
    sae = brought_in_with(hub, model_name=f"{HOME}/model", dataset_path=f"{HOME}/data")
    sae.trained = {
        "name": HOME, "step": 5, "model_name": HOME, "datasets": [HOME, "org/data"],
        "hyperparameters": {"l1_alpha": 0.1, "wandb_api_key": "SECRETKEY", "out": HOME},
    }  # fmt: skip
    sae.facts["deep"] = {"value": {"list": [{"at": HOME}]}, "origin": "user"}
    sae.hf_repo_id = sae.hf_commit = ""
    sae.name = f"from {HOME}"
    sae.save()
    return sae


def test_no_file_that_is_sent_tells_a_path_or_a_secret(with_paths: Sae, hub: LocalHub) -> None:
    published(with_paths)
    for name, body in held(hub.repo(REPO)).items():
        assert b"alice/secret" not in body and b"SECRETKEY" not in body, name
    config = json.loads(held(hub.repo(REPO))["layer_0/cfg.json"])
    assert config["metadata"]["hook_name"] and "model_name" not in config["metadata"]
    passport = json.loads(held(hub.repo(REPO))["layer_0/sae_passport.json"])
    assert passport["training"]["datasets"] == ["org/data"]
    assert passport["training"]["hyperparameters"] == {"l1_alpha": 0.1}


def test_the_library_keeps_what_is_left_out(with_paths: Sae) -> None:
    published(with_paths)
    with_paths.refresh_from_db()
    assert with_paths.model_name == f"{HOME}/model"
    native = services.library().native(with_paths.id) / "metadata.json"
    assert f"{HOME}/data" in native.read_text()


def rehearsed(*saes: Sae, **more: Any) -> Any:
    return publications.rehearse(None, saes, wish(*saes, **more))


def test_a_rehearsal_tells_the_passport_word_for_word(sae: Sae, hub: LocalHub) -> None:
    before = rehearsed(sae).passports["layer_0"]
    assert before["conversions"][1]["certificate"] is None and before["files"] == {}
    published(sae)
    told = rehearsed(sae).to_json()["passports"]["layer_0"]
    assert told == json.loads(held(hub.repo(REPO))["layer_0/sae_passport.json"])


def test_a_source_that_not_everybody_can_see_is_warned_of(sae: Sae, hub: LocalHub) -> None:
    assert not any("not everybody" in it for it in rehearsed(sae).warnings)
    hub.repo("someone/sae-1").private = True
    told = rehearsed(sae).warnings
    assert "Card and passport name someone/sae-1, which not everybody can see." in told


def test_a_name_that_may_be_a_path_is_asked_about(hub: LocalHub) -> None:
    sae = brought_in_with(hub, dataset_path="data/train.jsonl")
    assert any("reads `data/train.jsonl`: is that" in it for it in rehearsed(sae).warnings)


def test_a_list_of_ignored_files_is_warned_of(sae: Sae, hub: LocalHub) -> None:
    hub.add_repo(REPO, {"sub/.gitignore": b"*.json\n"}, private=True)
    assert any("`sub/.gitignore`" in it for it in rehearsed(sae).warnings)


@pytest.mark.parametrize(
    "folders",
    [("a", "a/cfg.json"), ("A", "a/CFG.JSON/x"), ("readme.md", "a"), (".gitattributes", "a"),
     ("README.md/x", "a"), ("a/sae_passport.json", "a")],
)  # fmt: skip
def test_nothing_would_be_a_file_and_a_folder(saes: list[Sae], folders: tuple[str, str]) -> None:
    with pytest.raises(CannotPublish, match="a file and a folder"):
        rehearsed(*saes, folders=folders)


def test_a_folder_inside_the_folder_of_another_sae_is_none_of_its_files(saes: list[Sae]) -> None:
    assert not rehearsed(*saes, folders=("a", "a/width_1024")).refusals


def test_an_edit_after_the_rehearsal_is_noticed(sae: Sae) -> None:
    before = rehearsed(sae)
    services.give_facts(sae, {"hook_name": "blocks.5.hook_resid_pre"})
    assert rehearsed(sae).digest != before.digest
    assert not Job.objects.filter(kind=Job.Kind.PUBLISH).exists()


def test_a_source_that_is_gone_is_one_that_nobody_can_see(sae: Sae, hub: LocalHub) -> None:
    hub.repos.remove("model", "someone/sae-1")
    assert any("someone/sae-1, which not everybody" in it for it in rehearsed(sae).warnings)


def test_a_hub_that_does_not_tell_of_sources_holds_nothing_up(sae: Sae, hub: LocalHub) -> None:
    hub.faults.add("/api/models/someone", faults.status(503), times=None)
    told = rehearsed(sae).warnings
    assert any("someone/sae-1: who can see that is not known" in it for it in told)
