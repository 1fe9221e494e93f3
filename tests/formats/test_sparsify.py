"""sparsify: what SparseCoder computes, today and in its first months, and which hook it sits on."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from saes.converter import convert, inspect, load
from saes.errors import BrokenFile, CannotRepresent, SaeError, UnsupportedArchitecture
from saes.formats import FolderSource, by_slug
from saes.formats.base import Fact, Origin, Tree
from saes.progress import Silent
from saes.tensors import Held
from tests.fixtures import write_saelens

D_IN, D_SAE, K = 16, 64, 8
WHERE = "run/layers.3"
State = dict[str, Tensor]
CFG = {
    "activation": "topk",
    "expansion_factor": 4,
    "normalize_decoder": True,
    "num_latents": 0,
    "k": K,
    "multi_topk": False,
    "skip_connection": False,
    "transcode": False,
    "d_in": D_IN,
}
RUN = {"sae": {"k": K}, "model": "EleutherAI/pythia-160m", "dataset": "me/pile", "ctx_len": 2048}


def some(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape) + seed))


def state(**others: Tensor) -> State:
    return {
        "encoder.weight": some(D_SAE, D_IN),
        "encoder.bias": some(D_SAE) / 4,
        "W_dec": some(D_SAE, D_IN, seed=1),
        "b_dec": some(D_IN),
        **others,
    }


def truth(s: State, cfg: dict[str, Any], x: Tensor, run: bool = False) -> tuple[Tensor, Tensor]:
    """SparseCoder.encode and .decode; `signed` as it was in the summer of 2024."""
    before = x if cfg.get("transcode") else x - s["b_dec"]
    latents = before @ s["encoder.weight"].T + s["encoder.bias"]
    if cfg.get("signed"):
        places = latents.abs().topk(cfg["k"], dim=-1).indices
    else:
        latents = torch.nn.functional.relu(latents)
        places = latents.topk(cfg["k"], dim=-1).indices
    acts = torch.zeros_like(latents).scatter_(-1, places, latents.gather(-1, places))
    out = acts @ s["W_dec"] + s["b_dec"]
    return acts, out + x @ s["W_skip"].T if "W_skip" in s else out


def write(
    root: Path, s: State | None = None, where: str = WHERE, run: Any = None, **cfg: Any
) -> Path:
    (root / where).mkdir(parents=True, exist_ok=True)
    save_file(state() if s is None else s, root / where / "sae.safetensors")
    told = {key: value for key, value in {**CFG, **cfg}.items() if value is not None}
    (root / where / "cfg.json").write_text(json.dumps(told))
    if run is not None:
        (root / where).parent.joinpath("config.json").write_text(json.dumps(run))
    return root


def assert_is(s: State, root: Path, **cfg: Any) -> None:
    x = some(40, D_IN, seed=9).double()
    acts, recon = truth({key: it.double() for key, it in s.items()}, {**CFG, **cfg}, x)
    reference = by_slug("sparsify").reference(FolderSource(root), WHERE, {})
    found = reference.encode(x.numpy(), lambda count: None)
    assert np.allclose(found, acts.numpy())
    assert np.allclose(reference.decode(found, x.numpy(), lambda count: None), recon.numpy())
    done = convert(root, root.parent / "out", "mistudio", WHERE)
    assert done.certificate is not None
    assert done.certificate.passed


SKIP = {"W_skip": some(D_IN, D_IN, seed=2)}
VARIANTS: dict[str, tuple[State, dict[str, Any], str, bool]] = {
    "autoencoder": (state(), {}, "topk", True),
    "transcoder": (state(), {"transcode": True}, "topk_transcoder", False),
    "skip transcoder": (
        state(**SKIP), {"transcode": True, "skip_connection": True}, "topk_skip_transcoder", False,
    ),
    "skip, centred": (state(**SKIP), {"skip_connection": True}, "topk_skip_transcoder", False),
    "multi": (state(), {"multi_topk": True}, "topk", True),
    "signed": (
        state(),
        {"signed": True, "activation": None, "transcode": None, "skip_connection": None},
        "abstopk", True,
    ),
}  # fmt: skip


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_variant_computes_what_sparsify_computes(variant: str, tmp_path: Path) -> None:
    s, cfg, architecture, centred = VARIANTS[variant]
    root = write(tmp_path / "in", s, **cfg)
    info = inspect(root, WHERE)
    assert (info.get("architecture"), info.get("apply_b_dec_to_input")) == (architecture, centred)
    assert (info.get("d_in"), info.get("d_sae"), info.get("d_out")) == (D_IN, D_SAE, D_IN)
    assert (info.get("k"), info.get("dtype")) == (K, "float32")
    assert not info.missing
    assert_is(s, root, **cfg)


def test_without_folding_every_tensor_keeps_its_bits(tmp_path: Path) -> None:
    s = {key: it.bfloat16() for key, it in state(**SKIP).items()}
    root = write(tmp_path, s, transcode=True, skip_connection=True)
    tensors = load(root, WHERE).tensors
    assert {it.dtype for it in tensors.values()} == {"BF16"}
    assert np.array_equal(tensors["W_enc"].all(), s["encoder.weight"].double().numpy().T)
    for ours, theirs in {"W_dec": "W_dec", "b_enc": "encoder.bias", "W_skip": "W_skip"}.items():
        assert np.array_equal(tensors[ours].all(), s[theirs].double().numpy())


def test_a_square_w_dec_is_not_turned(tmp_path: Path) -> None:
    s = {key: it[:D_IN].clone() for key, it in state().items()}
    root = write(tmp_path / "in", s, expansion_factor=1)
    assert_is(s, root, expansion_factor=1)
    assert np.array_equal(load(root, WHERE).tensors["W_dec"].all(), s["W_dec"].numpy())


def test_decoder_weight_of_older_files_is_turned(tmp_path: Path) -> None:
    s = state()
    old = {key: it for key, it in s.items() if key != "W_dec"}
    assert_is(s, write(tmp_path / "in", {**old, "decoder.weight": s["W_dec"].T.contiguous()}))


def test_transcoders_announced_by_their_run_alone_subtract_b_dec(tmp_path: Path) -> None:
    run = {**RUN, "transcode": True}
    root = write(tmp_path / "in", run=run, transcode=None)
    info = inspect(root, WHERE)
    assert info.get("architecture") == "topk_transcoder"
    assert info.get("apply_b_dec_to_input") is False  # it has gone into b_enc
    assert_is(state(), root)
    assert inspect(write(tmp_path / "new", run=run), WHERE).get("architecture") == "topk"


def test_groupmax_is_recognised_and_kept(tmp_path: Path) -> None:
    write(tmp_path, activation="groupmax")
    info = inspect(tmp_path, WHERE)
    assert (info.get("architecture"), info.get("d_sae"), info.get("k")) == ("groupmax", D_SAE, K)
    with pytest.raises(UnsupportedArchitecture, match="largest feature of each group"):
        load(tmp_path, WHERE)
    with pytest.raises(UnsupportedArchitecture):
        by_slug("sparsify").reference(FolderSource(tmp_path), WHERE, {})


def test_a_k_that_no_file_tells_is_asked_for(tmp_path: Path) -> None:
    write(tmp_path, k=None)
    assert [it.name for it in inspect(tmp_path, WHERE).missing] == ["k"]
    assert inspect(tmp_path, WHERE, given={"k": 4}).get("k") == 4


# --- the place ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hook", "site", "layer"),
    [
        ("layers.3", "blocks.3.hook_resid_post", "residual", 3),
        ("h.10", "blocks.10.hook_resid_post", "residual", 10),
        ("gpt_neox.layers.3", "blocks.3.hook_resid_post", "residual", 3),
        ("layers.3.mlp", "blocks.3.hook_mlp_out", "mlp", 3),
        ("layers.3.attention", "blocks.3.hook_attn_out", "attention", 3),
        ("layers.3.self_attn", "blocks.3.hook_attn_out", "attention", 3),
        ("h.5.attn", "blocks.5.hook_attn_out", "attention", 5),
        ("h.5.mlp.act", None, "mlp", 5),
        ("layers.3.post_attention_layernorm", None, None, 3),
        ("embed_tokens", None, "embedding", None),
    ],
)
def test_the_hookpoint_is_named_in_both_languages(
    name: str, hook: str | None, site: str | None, layer: int | None, tmp_path: Path
) -> None:
    info = inspect(write(tmp_path, where=f"run/{name}"), f"run/{name}")
    assert info.get("hf_hook_name") == name
    told = (info.get("hook_name"), info.get("hook_type"), info.get("layer"))
    assert told == (hook, site, layer)


def test_where_blocks_normalise_their_outputs_the_hook_is_not_certain(tmp_path: Path) -> None:
    run = {**RUN, "model": "google/gemma-2-2b"}
    info = inspect(write(tmp_path, where="run/layers.3.mlp", run=run), "run/layers.3.mlp")
    assert (info.get("hook_name"), info.get("hook_type")) == (None, "mlp")


def test_a_transcoder_reads_the_modules_input(tmp_path: Path) -> None:
    write(tmp_path, where="run/layers.3.mlp", transcode=True)
    info = inspect(tmp_path, "run/layers.3.mlp", repo_id="me/transcoders")
    assert (info.get("hook_name"), info.get("hook_name_out")) == (None, "blocks.3.hook_mlp_out")
    assert (info.get("hook_type"), info.get("layer")) == ("transcoder", 3)
    write(tmp_path, where="run/layers.3", transcode=True)
    assert inspect(tmp_path, "run/layers.3").get("hook_name") == "blocks.3.hook_resid_pre"


def test_the_run_tells_model_data_and_context(tmp_path: Path) -> None:
    info = inspect(write(tmp_path, run=RUN), WHERE)
    told = (info.get("model_name"), info.get("dataset_path"), info.get("context_size"))
    assert told == ("pythia-160m", "me/pile", 2048)
    assert info.facts["model_name"].origin == Origin.FILE
    assert sorted(info.files) == [
        "run/config.json",
        f"{WHERE}/cfg.json",
        f"{WHERE}/sae.safetensors",
    ]


def test_one_of_several_seeds_knows_hookpoint_and_run(tmp_path: Path) -> None:
    where = f"{WHERE}/seed1"
    write(tmp_path, where=where)
    (tmp_path / "run" / "config.json").write_text(json.dumps(RUN))
    info = inspect(tmp_path, where)
    assert (info.get("hf_hook_name"), info.get("model_name")) == ("layers.3", "pythia-160m")


def test_an_sae_at_the_root_takes_the_only_hookpoint_of_its_run(tmp_path: Path) -> None:
    write(tmp_path, where=".")
    assert inspect(tmp_path).get("hook_name") is None
    (tmp_path / "config.json").write_text(json.dumps({**RUN, "hookpoints": ["layers.7"]}))
    info = inspect(tmp_path)
    assert (info.get("hook_name"), info.where) == ("blocks.7.hook_resid_post", ".")
    (tmp_path / "config.json").write_text(json.dumps({**RUN, "hookpoints": ["layers.[0-7]"]}))
    assert inspect(tmp_path).get("hook_name") is None


def test_a_config_of_another_library_above_is_no_run(tmp_path: Path) -> None:
    info = inspect(write(tmp_path, run={"model": "x", "model_type": "gpt2"}), WHERE)
    assert info.get("model_name") is None


def test_a_copied_file_is_known_by_its_header_and_cfg(tmp_path: Path) -> None:
    write(tmp_path, where=".")
    (tmp_path / "sae.safetensors").rename(tmp_path / "mine.safetensors")
    assert inspect(tmp_path / "mine.safetensors").format == "sparsify"


def test_every_hookpoint_is_found_and_no_leftover() -> None:
    names = [
        *(f"run/{hook}/{base}" for hook in ("layers.0", "embed_tokens", "h.1.mlp", "layers.2/seed0")
          for base in ("cfg.json", "sae.safetensors")),
        "run/config.json", "run/state.pt", "run/rank_0_state.pt", "run/optimizer_0.pt",
        "run/lr_scheduler_0.pt", "other/sae.safetensors", "third/cfg.json",
    ]  # fmt: skip
    assert by_slug("sparsify").find(Tree(names, "me/repo")) == [
        "run/embed_tokens", "run/h.1.mlp", "run/layers.0", "run/layers.2/seed0",
    ]  # fmt: skip


# --- broken and hostile ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("k", 0), ("k", 65), ("k", "8"), ("k", 1e99), ("d_in", 17), ("num_latents", 63),
        ("num_latents", -1), ("expansion_factor", 5), ("activation", "relu"), ("activation", 3),
        ("transcode", "yes"), ("skip_connection", 1), ("signed", True), ("signed", "no"),
    ],
)  # fmt: skip
def test_hostile_values_of_cfg_are_refused(key: str, value: Any, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match=r"cfg\.json"):
        inspect(write(tmp_path, **{key: value}), WHERE)


@pytest.mark.parametrize("name", state())
def test_a_missing_tensor_is_refused(name: str, tmp_path: Path) -> None:
    kept = {key: it for key, it in state().items() if key != name}
    with pytest.raises(SaeError) as caught:
        inspect(write(tmp_path, kept), WHERE)
    assert caught.value.code == ("unknown_format" if name == "encoder.weight" else "broken_file")


def test_an_unknown_tensor_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="stranger"):
        inspect(write(tmp_path, state(stranger=some(3))), WHERE)


def test_skip_and_its_tensor_come_together_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="W_skip"):
        inspect(write(tmp_path, state(**SKIP), transcode=True), WHERE)
    with pytest.raises(BrokenFile, match="W_skip"):
        inspect(write(tmp_path, skip_connection=True, transcode=True), WHERE)


def test_a_file_cut_anywhere_is_broken(tmp_path: Path) -> None:
    weights = write(tmp_path) / WHERE / "sae.safetensors"
    whole = weights.read_bytes()
    for length in (*range(8 + int.from_bytes(whole[:8], "little")), len(whole) - 1):
        weights.write_bytes(whole[:length])
        with pytest.raises(BrokenFile):
            inspect(tmp_path, WHERE)


# --- writing --------------------------------------------------------------------------------------


@pytest.mark.parametrize("variant", ["autoencoder", "transcoder", "skip transcoder"])
def test_what_is_written_comes_back_as_itself(variant: str, tmp_path: Path) -> None:
    s, cfg, _, _ = VARIANTS[variant]
    root = write(tmp_path / "in", s, run=RUN, **cfg)
    done = convert(root, tmp_path / "out", "sparsify", WHERE)
    assert done.certificate is not None
    assert done.certificate.passed
    written = load_file(tmp_path / "out" / "sae.safetensors")
    assert written.keys() == s.keys()
    assert all(torch.equal(written[key], s[key]) for key in s)
    told = json.loads((tmp_path / "out" / "cfg.json").read_text())
    kept = {key: told[key] for key in ("k", "d_in", "transcode", "skip_connection", "activation")}
    assert kept == {key: {**CFG, **cfg}[key] for key in kept}
    assert (told["num_latents"], told.keys()) == (D_SAE, CFG.keys())
    before, after = inspect(root, WHERE), inspect(tmp_path / "out")
    assert {it: fact.value for it, fact in before.facts.items()} == {
        it: fact.value for it, fact in after.facts.items()
    }


def test_saelens_topk_becomes_a_sparse_coder(tmp_path: Path) -> None:
    source = write_saelens(tmp_path / "in", "topk")
    assert convert(source, tmp_path / "out", "sparsify").certificate
    assert not (tmp_path / "out" / "config.json").exists()
    s = {key: it.double() for key, it in load_file(tmp_path / "out" / "sae.safetensors").items()}
    x = some(20, D_IN).double()
    acts, _ = truth(s, {**CFG, "k": 5}, x)
    saelens = by_slug("saelens").reference(FolderSource(source), ".", {})
    assert np.allclose(saelens.encode(x.numpy(), lambda count: None), acts.numpy())


@pytest.mark.parametrize(
    ("transcode", "field", "value"),
    [
        (False, "apply_b_dec_to_input", False),
        (True, "apply_b_dec_to_input", True),
        (False, "normalize_activations", "layer_norm"),
        (False, "reshape_activations", "hook_z"),
        (False, "rescale_acts_by_decoder_norm", True),
        (True, "d_out", 17),
    ],
)
def test_what_sparsify_cannot_hold_is_refused_by_its_field(
    transcode: bool, field: str, value: Any, tmp_path: Path
) -> None:
    sae = load(write(tmp_path / "in", transcode=transcode), WHERE)
    facts = {**sae.info.facts, field: Fact(value, Origin.FILE)}
    with pytest.raises(CannotRepresent, match=field):
        by_slug("sparsify").save(  # type: ignore[attr-defined]
            replace(sae, info=replace(sae.info, facts=facts)), tmp_path, Silent()
        )


def test_tensors_of_several_dtypes_are_written_in_the_one_that_loses_nothing(
    tmp_path: Path,
) -> None:
    sae = load(write(tmp_path / "in"), WHERE)
    mixed: dict[str, Any] = {**sae.tensors, "W_dec": Held(sae.tensors["W_dec"].all(), "BF16")}
    by_slug("sparsify").save(  # type: ignore[attr-defined]
        replace(sae, tensors=mixed), tmp_path, Silent()
    )
    written = load_file(tmp_path / "sae.safetensors")
    assert {it.dtype for it in written.values()} == {torch.float32}
    assert torch.equal(written["W_dec"], state()["W_dec"].bfloat16().float())
    assert torch.equal(written["encoder.bias"], state()["encoder.bias"])
