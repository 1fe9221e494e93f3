"""What leaves the machine with an SAE: no path of it, and no text that was typed for oneself."""

import json
from pathlib import Path
from typing import Any

import pytest
from pytest_django import Settings

from saes import folders, imports, jobs, services, tending
from saes.imports import Wish
from saes.local_paths import holds_local, is_doubtful, is_local_path, without_local
from saes.models import HubToken, Sae, SaeFile
from saes.parcels import CONFIG, FORMAT, WEIGHTS, export_of
from saes.progress import Silent
from saes.storage import Written, sha256_of
from tests.hub import LocalHub
from tests.jobs.made import brought_in, is_ready, made_sae
from tests.publishing.conftest import REPO, published

PATHS = (
    "/home/alice/models/x", "/", "~/x", "~alice/x", "~", "C:\\x", "C:/x", "d:/runs", "file:///x",
    "FILE://x", "file:x", "./out", "../runs/x", "..", ".cache/x", "\\\\server\\share",
    "//server/share", "..\\x", "$HOME/x", "%APPDATA%/x", " /home/alice", "arrow:/srv/data/x",
    "path=/home/alice/x", "see '/home/alice/x'", "runs/../../x", "loaded from ~/x",
    "saes/sae_0123456789ab/source/cfg.json", "data/uploads/up_0123456789ab",
)  # fmt: skip
NO_PATHS = (
    "", ".", "gpt2", "gpt2-small", "google/gemma-2-2b", "NeelNanda/pile-10k", "data/train.jsonl",
    "blocks.3.hook_resid_post", "model.layers.3", "transformer.h.3.mlp", "https://example.org/x/y",
    "https://[::1]:8000/x", "hf://datasets/someone/texts", "meta-llama/Llama-3.1-8B",
    "EleutherAI/pythia-1.4b", "topk", "L0 of 40 and/or more", "profile:x", "1 / 2", "w/ bias",
    "layer_12/width_16k/average_l0_41", "someone/texts@main", "profiles/x",
)  # fmt: skip


@pytest.mark.parametrize("text", PATHS)
def test_a_path_of_a_machine_is_one(text: str) -> None:
    assert is_local_path(text) and holds_local({"a": [{"b": text}]})


@pytest.mark.parametrize("text", NO_PATHS)
def test_a_name_is_no_path_of_a_machine(text: str) -> None:
    assert not is_local_path(text) and not holds_local({"a": [{"b": text}]})


@pytest.mark.parametrize("value", [None, 3, 2.5, True, [], {}])
def test_what_is_no_text_is_no_path(value: object) -> None:
    assert not is_local_path(value) and without_local(value) == value


def test_paths_are_left_out_however_deep_they_lie() -> None:
    told = {"a": {"b": ["/home/x", "gpt2", {"c": "~/x", "d": 1}]}, "e": "file:///x"}
    assert without_local(told) == {"a": {"b": ["gpt2", {"d": 1}]}}


@pytest.mark.parametrize("text", ["data/train.jsonl", "runs/x/y", "texts.txt", "a/b.tar.gz"])
def test_what_may_be_a_path_is_doubtful(text: str) -> None:
    assert is_doubtful(text)


@pytest.mark.parametrize(
    "text", ["google/gemma-2-2b", "Qwen/Qwen3-0.6B", "gpt2", "EleutherAI/pythia-1.4b", "/home/x"]
)
def test_a_hub_id_is_not_doubtful(text: str) -> None:
    assert not is_doubtful(text)


# --- what is sent ---------------------------------------------------------------------------------

HEADER = 8  # bytes of a safetensors file that say how long its header is


def sent(hub: LocalHub) -> dict[str, bytes]:
    files = hub.repo(REPO).head.files
    return {name: blob.read(0, blob.size) for name, blob in files.items()}


def with_paths(seed: int) -> dict[str, bytes]:
    """An SAE whose config names paths of whoever trained it."""
    files = made_sae(seed, 16, 32)
    told: dict[str, Any] = json.loads(files["cfg.json"])
    told["metadata"] |= {
        "model_name": "/home/alice/models/x", "dataset_path": "file:///home/alice/texts",
        "neuronpedia_id": "C:\\alice\\x", "model_from_pretrained_path": "~/alice/x",
    }  # fmt: skip
    return {**files, "cfg.json": json.dumps(told).encode()}


@pytest.mark.django_db(transaction=True)
def test_no_file_that_is_sent_names_a_path_of_this_machine(
    hub: LocalHub, token: HubToken, tmp_path: Path
) -> None:
    hub.add_repo("someone/local", with_paths(5))
    sae = brought_in("someone/local")
    assert is_ready(sae) and sae.model_name == "/home/alice/models/x"
    sae.facts["nested"] = {"value": {"a": ["x", {"b": "~/alice"}]}, "origin": "user"}
    sae.trained = {"name": "/home/alice/runs/1", "datasets": ["../alice/x", {"path": "/alice"}]}
    sae.save()
    published(sae)
    files = sent(hub)
    assert [name for name, held in files.items() if b"alice" in held] == ["README.md"]
    assert files["README.md"].count(b"alice") == files["README.md"].count(b"alice/published")
    assert str(tmp_path).encode() not in b"".join(files.values())
    metadata = json.loads(files["layer_0/cfg.json"])["metadata"]
    assert "model_name" not in metadata and metadata["hook_name"] == "blocks.3.hook_resid_pre"
    length = int.from_bytes(files[f"layer_0/{WEIGHTS}"][:HEADER], "little")
    header = json.loads(files[f"layer_0/{WEIGHTS}"][HEADER : HEADER + length])
    assert "__metadata__" not in header
    sae.refresh_from_db()
    assert sae.facts["model_name"]["value"] == "/home/alice/models/x"  # ours keeps it


@pytest.mark.django_db(transaction=True)
def test_names_of_the_hub_are_sent(sae: Sae, hub: LocalHub, token: HubToken) -> None:
    for name, value in (("model_name", "google/gemma-2-2b"), ("dataset_path", "data/x.jsonl")):
        sae.facts[name] = {"value": value, "origin": "user"}
    sae.model_name = "google/gemma-2-2b"
    sae.save()
    published(sae)
    files = sent(hub)
    facts = json.loads(files["layer_0/sae_passport.json"])["facts"]
    assert facts["model_name"]["value"] == "google/gemma-2-2b"
    assert facts["dataset_path"]["value"] == "data/x.jsonl"
    assert b"google/gemma-2-2b" in files["README.md"]


@pytest.mark.django_db(transaction=True)
def test_what_was_typed_for_oneself_stays(sae: Sae, hub: LocalHub, token: HubToken) -> None:
    sae.name, sae.description, sae.notes = "Shown", "SECRET1", "SECRET2"
    sae.tags = ["SECRET3"]
    sae.trained = {
        "hyperparameters": {"note": "SECRET4", "more": {"key": "SECRET5"}},
        "x": "SECRET",
    }
    sae.save()
    published(sae)
    everything = b"".join(sent(hub).values())
    assert b"SECRET" not in everything and b"Shown" in everything


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("placement", [Sae.Placement.COPY, Sae.Placement.IN_PLACE])
def test_of_an_import_the_folders_above_it_are_not_told(
    hub: LocalHub, token: HubToken, settings: Settings, tmp_path: Path, placement: str
) -> None:
    folder = tmp_path / "imports" / "client-acme" / "layer_5"
    folder.mkdir(parents=True)
    settings.IMPORT_ROOTS = {"imports": tmp_path / "imports"}
    for name, content in made_sae(6, 16, 32).items():
        (folder / name).write_bytes(content)
    place = folders.place_of("imports/client-acme/layer_5")
    wish = Wish(name="Mine", placement=placement)  # type: ignore[arg-type]
    sae, job = imports.import_one(None, place, wish)
    assert job is not None
    jobs.run(job.id)
    assert is_ready(sae)
    published(sae)
    files = sent(hub)
    assert not any(b"client-acme" in held for held in files.values())
    told = json.loads(files["layer_0/sae_passport.json"])
    assert set(told["source"]["files"]) == {CONFIG, WEIGHTS}
    assert told["conversions"][0]["certificate"]["source_files"] == told["source"]["files"]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("held", ['{"metadata": {"model_name": "/home/alice/x"}}', "no JSON"])
def test_an_export_of_before_that_names_a_path_is_made_anew(
    sae: Sae, hub: LocalHub, token: HubToken, held: str
) -> None:
    tending.make_export(sae, FORMAT, Silent())
    row = export_of(sae)[CONFIG]
    path, certificate = services.library().home(sae.id) / row.path, row.certificate
    path.write_text(held)
    written = Written(path, path.stat().st_size, sha256_of(path))
    services.record_file(sae, SaeFile.Kind.EXPORT, written)
    assert sae.files.get(path=row.path).certificate == certificate and not export_of(sae)
    published(sae)
    assert json.loads(sent(hub)["layer_0/cfg.json"])["metadata"]["model_name"] == "someone/model"
