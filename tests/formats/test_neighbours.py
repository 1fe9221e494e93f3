"""A language model's files are no SAE's, whatever is called like one among them."""

import pytest

from saes.formats import find_saes

TRAINER = (
    "config.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "trainer_state.json",
    "training_args.bin", "rng_state.pth", "rng_state_0.pth",
)  # fmt: skip
PAIR = ("config.json", "model.safetensors")
each_repo = pytest.mark.parametrize("repo", [None, "me/model", "me/my-sae"])


def found(names: list[str], repo: str | None = None) -> list[tuple[str, str]]:
    return [(it.where, it.format) for it in find_saes(names, repo)]


@each_repo
@pytest.mark.parametrize("folder", ["", "checkpoint-500/", "run/dict/checkpoint-1/"])
def test_a_checkpoint_of_a_trainer_is_no_sae(folder: str, repo: str | None) -> None:
    assert found([f"{folder}{base}" for base in TRAINER], repo) == []


@each_repo
@pytest.mark.parametrize(
    "neighbour",
    [
        "optimizer.pt", "scheduler.pt", "trainer_state.json", "generation_config.json",
        "tokenizer.json", "tokenizer.model", "tokenizer_config.json", "special_tokens_map.json",
        "vocab.json", "vocab.txt", "merges.txt", "preprocessor_config.json", "pytorch_model.bin",
        "model.safetensors.index.json", "pytorch_model.bin.index.json", "added_tokens.json",
        "chat_template.jinja", "chat_template.json", "adapter_config.json",
        "model-00001-of-00002.safetensors", "modules.json", "tf_model.h5",
    ],
)  # fmt: skip
def test_one_such_neighbour_is_enough(neighbour: str, repo: str | None) -> None:
    assert found([*PAIR, neighbour], repo) == []
    elsewhere = found([*(f"sae/{base}" for base in PAIR), neighbour], repo)
    assert [where for where, _ in elsewhere] == ["sae"]


@pytest.mark.parametrize("neighbour", ["training_args.bin", "rng_state.pth", "rng_state_3.pth"])
def test_what_a_trainer_of_saes_leaves_too_counts_unless_a_name_says_sae(neighbour: str) -> None:
    assert found([*PAIR, neighbour], "me/model") == []
    for repo in ("me/my-sae", "me/gemma-2-2b-crosscoder", "me/gpt2-auto-encoder"):
        assert [where for where, _ in found([*PAIR, neighbour], repo)] == ["."]


@each_repo
def test_weights_of_a_language_model_are_no_bare_weights(repo: str | None) -> None:
    names = ["consolidated.00.pth", "original/consolidated.01.pth", "params.json"]
    assert found([*names, "tokenizer.model", "model.pt", "best.pt"], repo) == []
    assert found(["consolidated.00.pth", "tokenizer.model"], "me/sae-x") == []


@pytest.mark.parametrize("name", ["sae.pt", "layer_5.pt", "gpt2_sae_best.pt", "run3_l12.pth"])
def test_an_sae_beside_a_language_model_is_found_by_its_own_name(name: str) -> None:
    assert [where for where, _ in found([name, "tokenizer.json", "model.pt"])] == [name]


@each_repo
@pytest.mark.parametrize(
    "name",
    [
        "steering_vectors.pt", "steering.pt", "probe_l3.pt", "probes.pt", "embeddings.pt",
        "consolidated.00.pth", "activations_0.pt", "dataset.pt", "datasets/train_dataset.pt",
        "tokens.pt", "cache.pt", "cached_acts.pt", "mean.pt", "std.pt", "layer_3_mean.pt",
        "refusal_direction.pt", "labels.pt", "logits.pt",
    ],
)  # fmt: skip
def test_what_is_called_otherwise_is_no_sae(name: str, repo: str | None) -> None:
    assert found([name, "README.md"], repo) == []


@pytest.mark.parametrize("name", ["yolov8n.pt", "yolov8x-seg.pt", "lora.pt", "vae.pt"])
def test_what_other_models_are_called_is_none_unless_a_name_says_so(name: str) -> None:
    assert found([name], "me/model") == []
    assert found([name], "me/yolo-sae") == [(name, "bare")]
