"""dictionary_learning: every class, as its own forward computes it, and what is none of them."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from saes.converter import convert, inspect, load
from saes.errors import BrokenFile, CannotRepresent, NeedsFacts, SaeError, UnsupportedArchitecture
from saes.formats import FolderSource, by_slug
from saes.formats.base import Fact, Origin, Sae, Tree
from saes.progress import Silent
from saes.tensors import Held
from tests.fixtures import Array, write_saelens

D_IN, D_SAE, K = 16, 64, 5
WHERE = "resid_post_layer_3/trainer_0"
State = dict[str, Tensor]
relu = torch.nn.functional.relu


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(hash(shape) % 997 + seed))


def linear(**others: Tensor) -> State:
    return {
        "encoder.weight": some(D_SAE, D_IN),
        "encoder.bias": some(D_SAE) - 1,
        "decoder.weight": some(D_IN, D_SAE),
        **others,
    }


def input_first(**others: Tensor) -> State:
    return {
        "W_enc": some(D_IN, D_SAE),
        "b_enc": some(D_SAE) - 1,
        "W_dec": some(D_SAE, D_IN),
        "b_dec": some(D_IN),
        **others,
    }


def gated() -> State:
    return {
        "decoder_bias": some(D_IN),
        "r_mag": some(D_SAE) / 4,
        "gate_bias": some(D_SAE, seed=1) - 1,
        "mag_bias": some(D_SAE, seed=2),
        "encoder.weight": some(D_SAE, D_IN),
        "decoder.weight": some(D_IN, D_SAE),
    }


COUNT, ABOVE = torch.tensor(K, dtype=torch.int), torch.tensor(2.5)
GROUPS = torch.tensor([16, 48])
STATES: dict[str, State] = {
    "AutoEncoder": linear(bias=some(D_IN)),
    "AutoEncoderNew": linear(**{"decoder.bias": some(D_IN)}),
    "GatedAutoEncoder": gated(),
    "AutoEncoderTopK": linear(b_dec=some(D_IN), k=COUNT, threshold=ABOVE),
    "BatchTopKSAE": linear(b_dec=some(D_IN), k=COUNT, threshold=ABOVE),
    "MatryoshkaBatchTopKSAE": input_first(k=COUNT, threshold=ABOVE, group_sizes=GROUPS),
    "JumpReluAutoEncoder": input_first(threshold=some(D_SAE, seed=3).abs()),
}
each_class = pytest.mark.parametrize("name", STATES)


def truth(name: str, s: State, x: Tensor) -> tuple[Tensor, Tensor]:
    """The library's own forward."""
    if name == "AutoEncoderNew":
        acts = relu(x @ s["encoder.weight"].T + s["encoder.bias"])
        return acts, acts @ s["decoder.weight"].T + s["decoder.bias"]
    if name == "JumpReluAutoEncoder":
        before = x @ s["W_enc"] + s["b_enc"]
        acts = relu(before * (before > s["threshold"]))
        return acts, acts @ s["W_dec"] + s["b_dec"]
    if name == "MatryoshkaBatchTopKSAE":
        after = relu((x - s["b_dec"]) @ s["W_enc"] + s["b_enc"])
        acts = after * (after > s["threshold"])
        return acts, acts @ s["W_dec"] + s["b_dec"]
    b_dec = s.get("b_dec", s.get("bias", s.get("decoder_bias", torch.zeros(0))))
    product = (x - b_dec) @ s["encoder.weight"].T
    acts = ACTIVATIONS[name](product, s)
    return acts, acts @ s["decoder.weight"].T + b_dec


def largest(product: Tensor, s: State) -> Tensor:
    after = relu(product + s["encoder.bias"])
    top = after.topk(int(s["k"]), dim=-1)
    return torch.zeros_like(after).scatter_(-1, top.indices, top.values)


def above(product: Tensor, s: State) -> Tensor:
    after = relu(product + s["encoder.bias"])
    return after * (after > s["threshold"])


def gates(product: Tensor, s: State) -> Tensor:
    gate = (product + s["gate_bias"] > 0).to(product.dtype)
    return gate * relu(s["r_mag"].exp() * product + s["mag_bias"])


ACTIVATIONS: dict[str, Callable[[Tensor, State], Tensor]] = {
    "AutoEncoder": lambda product, s: relu(product + s["encoder.bias"]),
    "GatedAutoEncoder": gates,
    "AutoEncoderTopK": largest,
    "BatchTopKSAE": above,
}
# What scale_biases multiplies, by class.
SCALED = {
    "AutoEncoder": ("encoder.bias", "bias"),
    "GatedAutoEncoder": ("decoder_bias", "mag_bias", "gate_bias"),
    "AutoEncoderTopK": ("encoder.bias", "b_dec", "threshold"),
    "BatchTopKSAE": ("encoder.bias", "b_dec", "threshold"),
    "MatryoshkaBatchTopKSAE": ("b_enc", "b_dec", "threshold"),
    "JumpReluAutoEncoder": ("b_enc", "b_dec", "threshold"),
}


def config(name: str | None, **trainer: Any) -> dict[str, Any]:
    told = {
        "dict_class": name,
        "activation_dim": D_IN,
        "dict_size": D_SAE,
        "layer": 3,
        "lm_name": "EleutherAI/pythia-70m-deduped",
        "submodule_name": "resid_post_layer_3",
        **({"k": K} if name and "TopK" in name else {}),
        **trainer,
    }
    return {"trainer": told, "buffer": {"ctx_len": 128, "io": "out"}}


def write(
    root: Path, name: str, state: Any = None, told: Any = None, where: str = WHERE, file: str = ""
) -> Path:
    (root / where).mkdir(parents=True, exist_ok=True)
    torch.save(STATES[name] if state is None else state, root / where / (file or "ae.pt"))
    text = json.dumps(config(name) if told is None else told)
    (root / where / "config.json").write_text(text)
    return root


def assert_is(name: str, state: State, root: Path, where: str = WHERE, **facts: Any) -> None:
    """The tensors and the reference compute what the class computes."""
    x = some(40, D_IN, seed=9).double()
    acts, recon = truth(name, {key: it.double() for key, it in state.items()}, x)
    reference = by_slug("dictionary_learning").reference(FolderSource(root), where, facts)
    found = reference.encode(x.numpy(), lambda count: None)
    assert np.allclose(found, acts.numpy(), atol=1e-5)
    assert 0 < (found > 0).mean() < 0.6
    assert np.allclose(
        reference.decode(found, x.numpy(), lambda count: None), recon.numpy(), atol=1e-4
    )
    done = convert(root, root.parent / f"{root.name}-out", "mistudio", where, facts=facts)
    assert done.certificate is not None
    assert done.certificate.passed


@each_class
def test_every_class_computes_what_the_library_computes(name: str, tmp_path: Path) -> None:
    assert_is(name, STATES[name], write(tmp_path / "in", name))


@each_class
def test_every_class_tells_its_facts(name: str, tmp_path: Path) -> None:
    info = inspect(write(tmp_path, name), WHERE)
    architecture = {
        "AutoEncoder": "standard",
        "AutoEncoderNew": "standard",
        "GatedAutoEncoder": "gated",
        "AutoEncoderTopK": "topk",
    }.get(name, "jumprelu")
    assert info.get("architecture") == architecture
    assert info.get("apply_b_dec_to_input") == (
        name not in ("AutoEncoderNew", "JumpReluAutoEncoder")
    )
    assert info.get("k") == (K if "TopK" in name else None)
    assert (info.get("d_in"), info.get("d_sae"), info.get("d_out")) == (D_IN, D_SAE, D_IN)
    assert (info.get("dtype"), info.get("normalize_activations")) == ("float32", "none")
    assert (info.get("model_name"), info.get("context_size")) == ("pythia-70m-deduped", 128)
    assert not info.missing
    assert list(info.files) == [f"{WHERE}/ae.pt", f"{WHERE}/config.json"]


@each_class
def test_square_saes_are_turned_by_their_class_alone(name: str, tmp_path: Path) -> None:
    square = {key: it[..., :D_IN] if it.ndim else it for key, it in STATES[name].items()}
    square = {key: it[:D_IN] if it.ndim else it for key, it in square.items()}
    square["group_sizes"] = torch.tensor([D_IN])
    kept = {key: square[key].clone() for key in STATES[name]}
    told = config(name, dict_size=D_IN)
    assert_is(name, kept, write(tmp_path / "in", name, kept, told))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_dtypes_stay_what_they_are(dtype: torch.dtype, tmp_path: Path) -> None:
    state = {key: it.to(dtype) for key, it in STATES["AutoEncoder"].items()}
    info = inspect(write(tmp_path, "AutoEncoder", state), WHERE)
    assert info.get("dtype") == str(dtype).removeprefix("torch.")
    weight = load(tmp_path, WHERE).tensors["W_enc"].all()
    assert np.array_equal(weight, state["encoder.weight"].double().numpy().T)


def test_april_update_files_announced_as_autoencoder_are_told_by_decoder_bias(
    tmp_path: Path,
) -> None:
    state = STATES["AutoEncoderNew"]
    assert_is("AutoEncoderNew", state, write(tmp_path / "in", "AutoEncoder", state))


def test_a_threshold_never_estimated_means_plain_relu(tmp_path: Path) -> None:
    state = {**STATES["BatchTopKSAE"], "threshold": torch.tensor(-1.0)}
    root = write(tmp_path / "in", "BatchTopKSAE", state)
    assert (load(root, WHERE).tensors["threshold"].all() == -1).all()
    assert_is("AutoEncoder", {**state, "bias": state["b_dec"]}, root)


# --- which class it is --------------------------------------------------------------------------


@pytest.mark.parametrize("told", ["BatchTopkSAE", "TopKSAE", "AutoEncoderTopk", "IdentityDict"])
def test_an_unknown_class_never_becomes_a_plain_relu(told: str, tmp_path: Path) -> None:
    for name in ("AutoEncoder", "AutoEncoderTopK", "JumpReluAutoEncoder"):
        write(tmp_path, name, told=config(told))
        with pytest.raises(UnsupportedArchitecture, match=told):
            inspect(tmp_path, WHERE)


@pytest.mark.parametrize("name", ["GatedAutoEncoder", "MatryoshkaBatchTopKSAE"])
def test_an_unknown_class_is_read_where_the_tensors_leave_no_doubt(
    name: str, tmp_path: Path
) -> None:
    assert_is(name, STATES[name], write(tmp_path / "in", name, told=config("MyOwn")))


@each_class
def test_a_class_that_contradicts_its_tensors_is_refused(name: str, tmp_path: Path) -> None:
    for told in STATES:
        same_tensors = {name, told} <= {"AutoEncoderTopK", "BatchTopKSAE"}
        if told == name or same_tensors or (name, told) == ("AutoEncoderNew", "AutoEncoder"):
            continue
        with pytest.raises(BrokenFile, match=told):
            inspect(write(tmp_path, name, told=config(told)), WHERE)


@pytest.mark.parametrize("name", ["AutoEncoderTopK", "BatchTopKSAE"])
def test_two_classes_with_the_same_tensors_are_asked_for(name: str, tmp_path: Path) -> None:
    root = write(tmp_path / "in", name, told={"trainer": {"activation_dim": D_IN, "dict_size": 64}})
    info = inspect(root, WHERE)
    assert [(it.name, sorted(it.readings)) for it in info.missing] == [
        ("architecture", ["jumprelu", "topk"])
    ]
    with pytest.raises(NeedsFacts):
        load(root, WHERE)
    stated = "topk" if name == "AutoEncoderTopK" else "jumprelu"
    assert_is(name, STATES[name], root, architecture=stated)


@pytest.mark.parametrize(
    ("trainer", "name"),
    [
        ("StandardTrainer", "AutoEncoder"),
        ("PAnnealTrainer", "AutoEncoder"),
        ("GatedSAETrainer", "GatedAutoEncoder"),
        ("TrainerTopK", "AutoEncoderTopK"),
        ("TrainerBatchTopK", "BatchTopKSAE"),
        ("JumpReluTrainer", "JumpReluAutoEncoder"),
    ],
)
def test_old_configurations_tell_the_trainer_alone(trainer: str, name: str, tmp_path: Path) -> None:
    told = config(name, trainer_class=trainer)
    del told["trainer"]["dict_class"]
    assert_is(name, STATES[name], write(tmp_path / "in", name, told=told))


def test_batch_topk_from_before_thresholds_asks_how_it_is_to_be_used(tmp_path: Path) -> None:
    state = {key: it for key, it in STATES["BatchTopKSAE"].items() if key != "threshold"}
    root = write(tmp_path / "in", "BatchTopKSAE", state)
    assert [it.name for it in inspect(root, WHERE).missing] == ["architecture"]
    assert_is("AutoEncoderTopK", state, root, architecture="topk")


def test_topk_from_before_buffers_takes_k_from_the_configuration(tmp_path: Path) -> None:
    state = {key: it for key, it in STATES["AutoEncoderTopK"].items() if it.ndim}
    root = write(tmp_path / "in", "AutoEncoderTopK", state)
    assert_is("AutoEncoderTopK", {**state, "k": COUNT}, root)
    write(root, "AutoEncoderTopK", state, config("AutoEncoderTopK", k=None))
    assert [it.name for it in inspect(root, WHERE).missing] == ["k"]
    assert inspect(root, WHERE, given={"k": 3}).get("k") == 3


def test_two_different_k_are_refused_but_in_a_snapshot_the_files_own_counts(
    tmp_path: Path,
) -> None:
    told = config("AutoEncoderTopK", k=3)
    with pytest.raises(BrokenFile, match="k is 3"):
        inspect(write(tmp_path, "AutoEncoderTopK", told=told), WHERE)
    where = "resid_post_layer_3_checkpoints/trainer_0_step_100"
    write(tmp_path, "AutoEncoderTopK", told=told, where=where)
    assert inspect(tmp_path, where).get("k") == K


# --- what lies in the file ------------------------------------------------------------------------


@each_class
def test_a_missing_tensor_is_broken_and_named(name: str, tmp_path: Path) -> None:
    needed = [key for key in STATES[name] if key not in ("k", "threshold", "group_sizes")]
    for missing in needed:
        state = {key: it for key, it in STATES[name].items() if key != missing}
        with pytest.raises(SaeError) as caught:
            inspect(write(tmp_path, name, state), WHERE)
        assert caught.value.code in ("broken_file", "unsupported_architecture"), missing


@each_class
def test_an_unknown_tensor_is_refused_by_name(name: str, tmp_path: Path) -> None:
    state = {**STATES[name], "stranger": some(3)}
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write(tmp_path, name, state), WHERE)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation_dim", 17), ("dict_size", 63), ("activation_dim", "16"), ("layer", -1),
        ("layer", [3]), ("k", 0), ("k", 1e99), ("k", True), ("dict_class", 7), ("lm_name", ["x"]),
        ("submodule_name", {}), ("lm_name", "a\nb"), ("k", 65),
    ],
)  # fmt: skip
def test_hostile_values_of_the_configuration_are_refused(
    key: str, value: Any, tmp_path: Path
) -> None:
    state = {name: it for name, it in STATES["AutoEncoderTopK"].items() if it.ndim}
    write(tmp_path, "AutoEncoderTopK", state, config("AutoEncoderTopK", **{key: value}))
    with pytest.raises(BrokenFile, match=r"config\.json"):
        inspect(tmp_path, WHERE)


@pytest.mark.parametrize("k", [torch.tensor(0), torch.tensor(65), torch.tensor(2.5), some(2)])
def test_a_stored_k_that_counts_nothing_is_broken(k: Tensor, tmp_path: Path) -> None:
    state, told = {**STATES["AutoEncoderTopK"], "k": k}, config("AutoEncoderTopK", k=None)
    with pytest.raises(BrokenFile):
        inspect(write(tmp_path, "AutoEncoderTopK", state, told), WHERE)


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    weights = write(tmp_path, "BatchTopKSAE") / WHERE / "ae.pt"
    whole = weights.read_bytes()
    for length in range(0, len(whole), 61):
        weights.write_bytes(whole[:length])
        with pytest.raises(SaeError) as caught:
            inspect(tmp_path, WHERE)
        assert caught.value.code in ("broken_file", "unsafe_format"), length


# --- interrupted runs -----------------------------------------------------------------------------


def backup(name: str, state: State, factor: Any) -> dict[str, Any]:
    weight = torch.nn.Parameter(some(3, 3))
    optimizer = torch.optim.Adam([weight])
    weight.grad = some(3, 3, seed=1)
    optimizer.step()
    return {
        "step": 100,
        "ae": state,
        "optimizer": optimizer.state_dict(),
        "config": config(name)["trainer"],
        "norm_factor": factor,
    }


def scaled(name: str, factor: float) -> State:
    """As the library's scale_biases leaves it."""
    state = {key: it.clone() for key, it in STATES[name].items()}
    for key in SCALED[name]:
        state[key] *= factor
    return state


@pytest.mark.parametrize("name", SCALED)
def test_the_state_of_an_interrupted_run_is_scaled_as_at_the_end(name: str, tmp_path: Path) -> None:
    small = scaled(name, 1 / 7.3)
    root = write(tmp_path / "in", name, backup(name, small, 7.3))
    wanted = {key: it.clone() for key, it in small.items()}
    for key in SCALED[name]:
        wanted[key] *= 7.3
    assert_is(name, wanted, root)
    tensors, final = load(root, WHERE).tensors, write(tmp_path / "final", name, wanted)
    for key, tensor in load(final, WHERE).tensors.items():
        assert np.array_equal(tensors[key].all(), tensor.all()), key
    assert inspect(root, WHERE).get("normalize_activations") == "none"


def test_a_threshold_never_estimated_is_not_scaled(tmp_path: Path) -> None:
    state = {**STATES["BatchTopKSAE"], "threshold": torch.tensor(-1.0)}
    write(tmp_path, "BatchTopKSAE", backup("BatchTopKSAE", state, 7.3))
    assert (load(tmp_path, WHERE).tensors["threshold"].all() == -1).all()


def test_an_interrupted_run_tells_its_class_itself(tmp_path: Path) -> None:
    state = backup("BatchTopKSAE", STATES["BatchTopKSAE"], 1.0)
    (tmp_path / "in").mkdir()
    torch.save(state, tmp_path / "in" / "ae.pt")
    assert_is("BatchTopKSAE", STATES["BatchTopKSAE"], tmp_path / "in", where=".")


def test_without_normalisation_nothing_is_scaled(tmp_path: Path) -> None:
    write(tmp_path, "AutoEncoder", backup("AutoEncoder", STATES["AutoEncoder"], None))
    bias = load(tmp_path, WHERE).tensors["b_dec"].all()
    assert np.array_equal(bias, STATES["AutoEncoder"]["bias"].numpy())


@pytest.mark.parametrize("factor", [0.0, -2.0, float("nan"), float("inf"), "7", [7.3]])
def test_an_impossible_norm_factor_is_broken(factor: Any, tmp_path: Path) -> None:
    write(tmp_path, "AutoEncoder", backup("AutoEncoder", STATES["AutoEncoder"], factor))
    with pytest.raises(BrokenFile, match="norm_factor"):
        inspect(tmp_path, WHERE)


def test_the_april_class_is_never_scaled_so_a_factor_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "AutoEncoderNew", backup("AutoEncoderNew", STATES["AutoEncoderNew"], 7.3))
    with pytest.raises(UnsupportedArchitecture, match="norm_factor"):
        inspect(tmp_path, WHERE)


def test_a_stranger_beside_the_nested_state_is_refused(tmp_path: Path) -> None:
    state = backup("AutoEncoder", STATES["AutoEncoder"], 2.0)
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write(tmp_path, "AutoEncoder", {**state, "stranger": some(3)}), WHERE)
    with pytest.raises(BrokenFile, match="both"):
        inspect(write(tmp_path, "AutoEncoder", {**state, "bias": some(D_IN)}), WHERE)


# --- where it lies --------------------------------------------------------------------------------

LISTING = [
    "run/resid_post_layer_3/trainer_0/ae.pt",
    "run/resid_post_layer_3/trainer_0/config.json",
    "run/resid_post_layer_3/trainer_0/eval_results.json",
    "run/resid_post_layer_3/trainer_0/checkpoints/ae_0.pt",
    "run/resid_post_layer_3/trainer_0/checkpoints/ae_1000.pt",
    "run/resid_post_layer_3_checkpoints/trainer_0_step_10/ae.pt",
    "run/resid_post_layer_3_checkpoints/trainer_0_step_10/config.json",
    "run/resid_post_layer_3/trainer_0/checkpoints/optimizer_0.pt",
    "elsewhere/checkpoints/ae_1.pt",
    "model/config.json",
    "model/model.safetensors",
    "model/tokenizer.json",
    "config.json",
    "README.md",
]


def test_every_sae_is_found_by_name_and_no_leftover() -> None:
    assert by_slug("dictionary_learning").find(Tree(LISTING, "someone/saes")) == [
        "run/resid_post_layer_3/trainer_0",
        "run/resid_post_layer_3/trainer_0/checkpoints/ae_0.pt",
        "run/resid_post_layer_3/trainer_0/checkpoints/ae_1000.pt",
        "run/resid_post_layer_3_checkpoints/trainer_0_step_10",
    ]


@pytest.mark.parametrize(
    ("repo", "found"),
    [("me/sae-gemma-2", ["."]), ("me/gpt2", []), ("me/crosscoder-l13", ["."]), (None, ["."])],
)
def test_an_upload_is_told_from_a_language_model_by_the_repository(
    repo: str | None, found: list[str]
) -> None:
    names, family = ["config.json", "model.safetensors"], by_slug("dictionary_learning")
    assert family.find(Tree(names, repo)) == found
    assert not family.find(Tree([*names, "tokenizer.json"], repo))


def test_a_checkpoint_takes_the_configuration_of_the_trainer_above(tmp_path: Path) -> None:
    root = write(tmp_path / "in", "BatchTopKSAE")
    (root / WHERE / "checkpoints").mkdir()
    step = f"{WHERE}/checkpoints/ae_1000.pt"
    other = {**STATES["BatchTopKSAE"], "b_dec": some(D_IN, seed=5)}
    torch.save(other, root / step)
    assert list(inspect(root, step).files) == [step, f"{WHERE}/config.json"]
    assert_is("BatchTopKSAE", other, root, step)


@pytest.mark.parametrize(
    ("submodule", "hook", "site"),
    [
        ("resid_post_layer_3", "blocks.3.hook_resid_post", "residual"),
        ("resid_out_layer3", "blocks.3.hook_resid_post", "residual"),
        ("resid_pre", "blocks.3.hook_resid_pre", "residual"),
        ("mlp_out_layer_3", "blocks.3.hook_mlp_out", "mlp"),
        ("mlp_layer_3", "blocks.3.hook_mlp_out", "mlp"),
        ("attn_out_layer_3", "blocks.3.hook_attn_out", "attention"),
        ("blocks.3.attn.hook_z", "blocks.3.attn.hook_z", "attention"),
        ("something_else", None, None),
        (None, None, None),
    ],
)
def test_the_submodule_tells_the_site(
    submodule: str | None, hook: str | None, site: str | None, tmp_path: Path
) -> None:
    write(tmp_path, "AutoEncoder", told=config("AutoEncoder", submodule_name=submodule), where="t")
    info = inspect(tmp_path, "t")
    assert (info.get("hook_name"), info.get("hook_type"), info.get("layer")) == (hook, site, 3)


def test_folders_tell_the_site_where_the_configuration_does_not(tmp_path: Path) -> None:
    told = config("AutoEncoder", submodule_name=None, layer=None)
    info = inspect(write(tmp_path, "AutoEncoder", told=told, where="mlp_out_layer7/10_32768"))
    assert (info.get("hook_name"), info.get("layer")) == ("blocks.7.hook_mlp_out", 7)
    assert info.facts["hook_name"].origin == Origin.PATH


@pytest.mark.parametrize("io", ["in", "in_and_out"])
def test_what_reads_a_submodules_input_is_not_placed_at_its_output(io: str, tmp_path: Path) -> None:
    told = {**config("AutoEncoder"), "buffer": {"io": io}}
    info = inspect(write(tmp_path, "AutoEncoder", told=told), WHERE)
    assert (info.get("hook_name"), info.get("hook_type"), info.get("layer")) == (None, None, 3)


def test_a_copied_file_is_known_by_tensors_that_no_other_family_has(tmp_path: Path) -> None:
    for name in ("AutoEncoder", "GatedAutoEncoder", "MatryoshkaBatchTopKSAE"):
        torch.save(STATES[name], tmp_path / "renamed.pt")
        assert inspect(tmp_path / "renamed.pt").format == "dictionary_learning"


# --- uploads by the Hub's mixin -------------------------------------------------------------------


def upload(root: Path, state: State, told: dict[str, Any]) -> Path:
    root.mkdir(exist_ok=True)
    save_file(state, root / "model.safetensors")
    (root / "config.json").write_text(json.dumps(told))
    return root


@pytest.mark.parametrize("name", ["AutoEncoder", "GatedAutoEncoder", "JumpReluAutoEncoder"])
def test_uploads_by_the_mixin_are_read(name: str, tmp_path: Path) -> None:
    told = {"activation_dim": D_IN, "dict_size": D_SAE}
    assert_is(name, STATES[name], upload(tmp_path / "in", STATES[name], told), ".")


def test_an_upload_with_an_idle_normaliser_is_read_and_a_busy_one_refused(tmp_path: Path) -> None:
    idle = {
        "target_rms": torch.tensor(1.0),
        "activation_mean": torch.full((D_IN,), torch.nan),
        "activation_std": torch.full((D_IN,), torch.nan),
        "activation_global_scale": torch.tensor(1.0),
    }
    told, state = {"activation_dim": D_IN, "dict_size": D_SAE, "k": K}, STATES["BatchTopKSAE"]
    root = upload(tmp_path / "in", {**state, **idle}, told)
    assert_is("BatchTopKSAE", state, root, ".", architecture="jumprelu")
    upload(root, {**state, **idle, "activation_mean": some(D_IN)}, told)
    with pytest.raises(UnsupportedArchitecture, match="activation_mean"):
        inspect(root, ".")


def test_crosscoders_are_recognised_and_kept(tmp_path: Path) -> None:
    state = {
        "encoder.weight": some(2, D_IN, D_SAE),
        "encoder.bias": some(D_SAE),
        "decoder.weight": some(2, D_SAE, D_IN),
        "decoder.bias": some(2, D_IN),
    }
    root = upload(tmp_path / "in", state, {"activation_dim": D_IN, "dict_size": D_SAE})
    info = inspect(root, ".")
    assert (info.get("architecture"), info.get("d_in"), info.get("d_sae")) == (
        "crosscoder", D_IN, D_SAE,
    )  # fmt: skip
    with pytest.raises(UnsupportedArchitecture):
        load(root, ".")
    with pytest.raises(UnsupportedArchitecture):
        by_slug("dictionary_learning").reference(FolderSource(root), ".", {})


def test_a_language_model_is_not_ours(tmp_path: Path) -> None:
    upload(tmp_path, {"lm_head.weight": some(3, 3)}, {"model_type": "gpt2"})
    with pytest.raises(SaeError) as caught:
        inspect(tmp_path, ".")
    assert caught.value.code == "unknown_format"


# --- writing --------------------------------------------------------------------------------------

WRITTEN = {
    ("standard", True): "AutoEncoder",
    ("standard", False): "AutoEncoderNew",
    ("gated", True): "GatedAutoEncoder",
    ("topk", True): "AutoEncoderTopK",
    ("jumprelu", False): "JumpReluAutoEncoder",
    ("jumprelu", True): "BatchTopKSAE",
}


@pytest.mark.parametrize(("architecture", "centred"), WRITTEN)
def test_what_is_written_is_what_the_library_loads(
    architecture: str, centred: bool, tmp_path: Path
) -> None:
    name = WRITTEN[architecture, centred]
    changes: dict[str, Any] = {"apply_b_dec_to_input": centred}
    if name == "BatchTopKSAE":
        changes["threshold"] = np.full(D_SAE, 0.75, np.float32)
    source = write_saelens(tmp_path / "in", architecture, **changes)
    done = convert(source, tmp_path / "out", "dictionary_learning")
    assert done.certificate is not None
    assert done.certificate.passed
    state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
    assert {key: (it.shape, it.dtype) for key, it in state.items()} == {
        key: (it.shape, it.dtype) for key, it in STATES[name].items()
    }
    trainer = json.loads((tmp_path / "out" / "config.json").read_text())["trainer"]
    assert (trainer["dict_class"], trainer["activation_dim"], trainer["dict_size"]) == (
        name, D_IN, D_SAE,
    )  # fmt: skip
    assert trainer.get("k") == (state["k"].item() if "k" in state else None)
    before, after = load(source).tensors, load(tmp_path / "out").tensors
    assert before.keys() == after.keys()
    assert all(np.array_equal(before[key].all(), after[key].all()) for key in before)
    x = some(20, D_IN).double()
    acts, _ = truth(name, {key: it.double() for key, it in state.items()}, x)
    saelens = by_slug("saelens").reference(FolderSource(source), ".", {})
    assert np.allclose(saelens.encode(x.numpy(), lambda count: None), acts.numpy())


@each_class
def test_every_class_but_matryoshka_comes_back_as_itself(name: str, tmp_path: Path) -> None:
    root = write(tmp_path / "in", name)
    convert(root, tmp_path / "out", "dictionary_learning", WHERE)
    before, after = inspect(root, WHERE), inspect(tmp_path / "out")
    known = {it: fact.value for it, fact in before.facts.items() if it != "training_architecture"}
    assert known == {it: after.get(it) for it in known}
    if name != "MatryoshkaBatchTopKSAE":
        state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
        lasting = {it for it in STATES[name] if (name, it) != ("AutoEncoderTopK", "threshold")}
        assert all(torch.equal(state[it], STATES[name][it]) for it in lasting)


def sae_with(tmp_path: Path, name: str = "AutoEncoder", **facts: Any) -> Sae:
    sae = load(write(tmp_path / "in", name), WHERE)
    told = {key: Fact(value, Origin.FILE) for key, value in facts.items()}
    return replace(sae, info=replace(sae.info, facts={**sae.info.facts, **told}))


@pytest.mark.parametrize(
    ("name", "field", "value"),
    [
        ("AutoEncoder", "normalize_activations", "layer_norm"),
        ("AutoEncoder", "reshape_activations", "hook_z"),
        ("AutoEncoderTopK", "rescale_acts_by_decoder_norm", True),
        ("AutoEncoderTopK", "apply_b_dec_to_input", False),
        ("GatedAutoEncoder", "apply_b_dec_to_input", False),
        ("JumpReluAutoEncoder", "apply_b_dec_to_input", True),
    ],
)
def test_what_no_class_computes_is_refused_by_its_field(
    name: str, field: str, value: Any, tmp_path: Path
) -> None:
    with pytest.raises(CannotRepresent, match=field):
        by_slug("dictionary_learning").save(  # type: ignore[attr-defined]
            sae_with(tmp_path, name, **{field: value}), tmp_path, Silent()
        )


def test_float64_would_lose_digits_and_is_refused(tmp_path: Path) -> None:
    sae = sae_with(tmp_path)
    wide: dict[str, Any] = {key: Held(it.all(), "F64") for key, it in sae.tensors.items()}
    with pytest.raises(CannotRepresent, match="dtype"):
        by_slug("dictionary_learning").save(  # type: ignore[attr-defined]
            replace(sae, tensors=wide), tmp_path, Silent()
        )


def test_an_unknown_k_of_training_is_written_as_no_limit_and_not_read_as_a_fact(
    tmp_path: Path,
) -> None:
    threshold: Array = np.full(D_SAE, 0.75, np.float32)
    source = write_saelens(tmp_path / "in", "jumprelu", threshold=threshold)
    convert(source, tmp_path / "out", "dictionary_learning")
    state = torch.load(tmp_path / "out" / "ae.pt", weights_only=True)
    assert state["k"].item() == D_SAE
    assert inspect(tmp_path / "out").get("k") is None
