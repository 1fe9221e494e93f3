"""Temporal SAEs: conf.yaml beside latest_ckpt.safetensors.

Attention over earlier tokens predicts a part of each activation; only the rest is encoded. No
certificate of single activations can hold that, but SAELens 6 can, so the tensors are read.
E is [d_in, d_sae] already; weights of normalisation lie in conf.yaml.
"""

from typing import TYPE_CHECKING, Any, ClassVar

from saes.errors import BrokenFile, NotThisFormat, UnsupportedArchitecture
from saes.formats.architectures import NOT_PLAIN, Shape, check_tensors
from saes.formats.base import (
    Fact,
    Facts,
    Folder,
    Given,
    Origin,
    Sae,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    inside,
)
from saes.formats.configs import Config, read_yaml
from saes.formats.family import Family, Reading, Tensors
from saes.formats.files.containers import Container, read_safetensors
from saes.formats.given import cleaned, dtype_words
from saes.formats.names import hints_from
from saes.formats.single import stated

if TYPE_CHECKING:
    from saes.reference import Reference

CONF, WEIGHTS = "conf.yaml", "latest_ckpt.safetensors"
NAMES = {"D": "W_dec", "b": "b_dec", "E": "W_enc"}
ATTENTION = "attn_layers."
KINDS = ("relu", "topk")  # what the part that was not predicted ends in
CONSTANTS = {
    "architecture": "temporal",
    "hook_type": "residual",
    "apply_b_dec_to_input": True,
    "normalize_activations": "constant_scalar_rescale",
    "reshape_activations": "none",
}
MAX_LAYERS, MAX_FACTOR = 100, 100_000


class Temporal(Family):
    slug: ClassVar[str] = "temporal"
    label: ClassVar[str] = "Temporal SAE"
    looks_for: ClassVar[str] = "`conf.yaml` beside `latest_ckpt.safetensors`"

    def find(self, tree: Tree) -> list[str]:
        return tree.folders_with(CONF, WEIGHTS)

    def files(self, tree: Tree, where: str) -> list[str]:
        return [inside(where, CONF), inside(where, WEIGHTS)]

    def hints(self, tree: Tree, where: str) -> Facts:
        kind = {"hook_type": Fact("residual", Origin.CATALOGUE)}
        return {**hints_from(where, tree.repo_id), **kind}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        if not (source.tree.has(where, CONF) and source.tree.has(where, WEIGHTS)):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = read_safetensors(source, inside(where, WEIGHTS))
        if not any(name.startswith(ATTENTION) for name in container.members):
            raise NotThisFormat("Its weights hold no attention over earlier tokens.")
        conf = read_yaml(source, inside(where, CONF))
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.FILE, _told(conf, container)),
            **as_facts(Origin.CATALOGUE, CONSTANTS),
        }
        facts = stated(where, {**facts, **_hook(facts)}, given)
        files = self.files(source.tree, where)
        info = SaeInfo(self.slug, where, facts, container.specs, files)
        return Reading(info, lambda folder: _tensors(folder, container))

    def load(self, source: Folder, where: str, given: Given) -> Sae:
        """Not refused, as other SAEs are that are no plain dictionary: SAELens can hold it."""
        reading = self.read(source, where, cleaned(given))
        return Sae(reading.info, reading.tensors(source))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        raise UnsupportedArchitecture(f"`{where}` is no plain SAE: {NOT_PLAIN['temporal']}.")


def _told(conf: Config, container: Container) -> dict[str, Any]:
    """Under SAELens' names, checked against the tensors."""
    model, own = conf.section("llm"), conf.section("sae")
    told: dict[str, Any] = {
        "d_in": _needed(model, "dimin", model.whole("dimin")),
        "n_heads": _needed(own, "n_heads", own.whole("n_heads")),
        "n_attn_layers": _needed(own, "n_attn_layers", own.whole("n_attn_layers")),
        "bottleneck_factor": _needed(own, "bottleneck_factor", own.whole("bottleneck_factor")),
        "sae_diff_type": _kind(own),
        "kval_topk": own.whole("kval_topk"),
        "tied_weights": _needed(own, "tied_weights", own.flag("tied_weights")),
        "activation_normalization_factor": _above_zero(own, "scaling_factor"),
    }
    told["d_sae"] = int(told["d_in"] * min(_above_zero(own, "exp_factor"), MAX_FACTOR))
    told["d_out"] = told["d_in"]
    _check(conf, told)
    check_tensors(container.name, container.shapes, _shapes(told))
    dtype = dtype_words(container.members["D"].dtype)
    return {**told, "dtype": dtype, "model_name": model.text("name")}


def _needed(section: Config, key: str, value: Any) -> Any:
    if value is None:
        raise section.wrong(key, "stated")
    return value


def _above_zero(section: Config, key: str) -> float:
    number = section.number(key)
    if number is None or number <= 0:
        raise section.wrong(key, "a number above zero")
    return number


def _kind(own: Config) -> str:
    kind = own.text("sae_diff_type")
    if kind not in KINDS:
        raise own.wrong("sae_diff_type", "one of " + ", ".join(KINDS))
    return kind


def _check(conf: Config, told: dict[str, Any]) -> None:
    """What SAELens needs to build its attention."""
    if told["d_sae"] % (told["bottleneck_factor"] * told["n_heads"]):
        raise BrokenFile(f"`{conf.name}`: d_sae is no multiple of bottleneck_factor * n_heads.")
    if (told["kval_topk"] or 0) > told["d_sae"]:
        raise conf.section("sae").wrong("kval_topk", f"at most d_sae, {told['d_sae']:,}")
    if told["n_attn_layers"] > MAX_LAYERS:
        raise conf.section("sae").wrong("n_attn_layers", f"at most {MAX_LAYERS}")


def _shapes(told: dict[str, Any]) -> dict[str, Shape]:
    d_in, d_sae = told["d_in"], told["d_sae"]
    narrow = d_sae // told["bottleneck_factor"]
    shapes: dict[str, Shape] = {"D": (d_sae, d_in), "b": (d_in,)}
    if not told["tied_weights"]:
        shapes["E"] = (d_in, d_sae)
    for layer in range(told["n_attn_layers"]):
        for name, width in (("k_ctx", narrow), ("q_target", narrow), ("v_ctx", d_sae)):
            shapes |= _linear(f"{ATTENTION}{layer}.{name}", width, d_sae)
        shapes |= _linear(f"{ATTENTION}{layer}.c_proj", d_sae, d_sae)
    return shapes


def _linear(name: str, width: int, d_sae: int) -> dict[str, Shape]:
    return {f"{name}.weight": (width, d_sae), f"{name}.bias": (width,)}


def _hook(facts: Facts) -> dict[str, Fact]:
    """All of them read the residual stream."""
    if "layer" not in facts:
        return {}
    hook = f"blocks.{facts['layer'].value}.hook_resid_post"
    return as_facts(Origin.CATALOGUE, {"hook_name": hook})


def _tensors(folder: Folder, container: Container) -> Tensors:
    return {NAMES.get(it, it): container.tensor(folder, it) for it in container.members}
