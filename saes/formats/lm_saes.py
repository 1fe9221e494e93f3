"""What OpenMOSS' library lm-saes left unsaid in all its ages: how training scaled activations.

Inputs were seen times sqrt(d_model) / their average norm, outputs likewise. Both factors are folded
into the weights; thresholds belong to scaled inputs and stay.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt

import numpy as np

from saes.errors import BrokenFile, MissingFact, UnsupportedArchitecture
from saes.formats.architectures import is_transcoder
from saes.formats.base import Facts, Folder, Given, Origin, Source, Tree, as_facts, inside, parent
from saes.formats.configs import Config, read_config
from saes.formats.family import Layout, Tensors
from saes.formats.files.containers import Container
from saes.formats.folding import divided, times
from saes.formats.given import dtype_words
from saes.formats.names import hints_from, hook_layer, site_of
from saes.formats.stated import refuse_others, refuse_unfit
from saes.tensors import WIDER, Held, LazyTensor, vector_times

CONFIG, WEIGHTS, SUFFIX = "config.json", "sae_weights.safetensors", ".safetensors"
NORMS = "dataset_average_activation_norm."
LINEAR = {
    "W_enc": "encoder.weight",
    "b_enc": "encoder.bias",
    "W_dec": "decoder.weight",
    "b_dec": "decoder.bias",
}
TURNED = ("W_enc", "W_dec")
PLACE = re.compile(r"(?:^|[/-])L(\d+)(R|A|M|TC)(?=$|[/-])")
SITES = {"R": "residual", "A": "attention", "M": "mlp", "TC": "transcoder"}
UNSCALED = ("inference", "none")
FOREIGN = ("generation", "orientation")
FACTOR = MissingFact(
    "norm_scaling_factor",
    "By which factor were activations scaled in training? It is sqrt(d_model) divided by their "
    "average norm, which no file tells.",
)


@dataclass(frozen=True)
class Scale:
    """What training multiplied inputs and outputs by, and who says so."""

    into: float = 1.0
    out: float = 1.0
    origin: Origin = Origin.FILE

    @property
    def folds(self) -> bool:
        return (self.into, self.out) != (1, 1)

    @property
    def facts(self) -> Facts:
        return as_facts(self.origin, {"norm_scaling_factor": self.into if self.folds else None})

    def dtype(self, container: Container, encoder: str) -> str:
        """Of the encoder once the factor is in it, in cfg.json's words."""
        stored = container.members[encoder].dtype
        return dtype_words(WIDER.get(stored, stored) if self.folds else stored)


def weights_of(tree: Tree, where: str) -> str | None:
    """The weights in a folder; or the file itself, whatever its name. Never beside a cfg.json."""
    name = where if where in tree.names else inside(where, WEIGHTS)
    own = name.endswith(SUFFIX) and not tree.has(parent(name), "cfg.json")
    return name if own and name in tree.names else None


def folders_of(tree: Tree) -> list[str]:
    """SAELens' own folders have a cfg.json."""
    return [it for it in tree.folders_with(CONFIG, WEIGHTS) if not tree.has(it, "cfg.json")]


def files_of(tree: Tree, where: str) -> list[str]:
    weights = weights_of(tree, where)
    if weights is None:
        return []
    return [weights, *([it] if (it := inside(parent(weights), CONFIG)) in tree.names else [])]


def config_of(source: Source, weights: str) -> Config:
    name = inside(parent(weights), CONFIG)
    return read_config(source, name) if name in source.tree.names else Config(name, {})


def transcodes(cfg: Config, given: Given) -> bool:
    if "architecture" in given:
        return is_transcoder(given["architecture"])
    return cfg.text("hook_point_out") not in (None, cfg.text("hook_point_in"))


def refuse_gates(cfg: Config) -> None:
    if cfg.flag("use_glu_encoder"):
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: use_glu_encoder: a gated linear encoder is no plain one."
        )


def place(cfg: Config, transcoder: bool) -> Facts:
    """Where in the model it belongs, and what happens to an activation first."""
    hook = cfg.text("hook_point_in") or ""
    told = {
        "hook_name": hook or None,
        "hook_name_out": cfg.text("hook_point_out") if transcoder else None,
        "layer": hook_layer(hook),
        "hook_type": "transcoder" if transcoder else site_of(hook),
        "apply_b_dec_to_input": centred(cfg) and not transcoder,
        "normalize_activations": normalisation(cfg, transcoder),
        "reshape_activations": "hook_z" if "hook_z" in hook else "none",
    }
    return as_facts(Origin.FILE, told)


def centred(cfg: Config) -> bool:
    """Whether the decoder's bias is subtracted from scaled inputs."""
    return bool(cfg.flag("apply_decoder_bias_to_pre_encoder")) and has_bias(cfg)


def has_bias(cfg: Config) -> bool:
    return cfg.flag("use_decoder_bias") is not False


def normalisation(cfg: Config, transcoder: bool) -> str:
    """dataset-wise and none end in the weights; token-wise is SAELens' constant_norm_rescale."""
    word = cfg.text("norm_activation") or "dataset-wise"
    if word in ("dataset-wise", *UNSCALED):
        return "none"
    if word == "token-wise" and not transcoder:
        return "constant_norm_rescale"
    what = "a transcoder" if transcoder else "an SAE"
    raise UnsupportedArchitecture(
        f"`{cfg.name}`: norm_activation {word[:40]} cannot be converted for {what}."
    )


def refuse_misstated(where: str, cfg: Config, given: Given, possible: Sequence[str]) -> None:
    """The configuration tells how activations were normalised; only a factor may be left out."""
    transcoder = transcodes(cfg, given)
    refuse_others(where, given, "architecture", possible)
    refuse_others(where, given, "normalize_activations", [normalisation(cfg, transcoder)])
    foreign = FOREIGN if is_scaled(cfg) else (*FOREIGN, "norm_scaling_factor")
    refuse_unfit(where, given.get("architecture", possible[transcoder]), given, foreign)


def is_scaled(cfg: Config) -> bool:
    return cfg.text("norm_activation") in (None, "dataset-wise")


def stored_norms(source: Source, container: Container, cfg: Config) -> list[float | None]:
    """Of inputs and outputs, named by in and out or by their hooks."""
    hook_in = cfg.text("hook_point_in")
    hooks = (("in", hook_in), ("out", cfg.text("hook_point_out") or hook_in))
    return [_stored(source, container, [f"{NORMS}{it}" for it in names]) for names in hooks]


def _stored(source: Source, container: Container, names: list[str]) -> float | None:
    found = next((it for it in names if it in container.members), None)
    return None if found is None else float(container.scalar(source, found))


def scale_by(
    file: str, norms: list[float | None], d_model: int, transcoder: bool, given: Given
) -> Scale | None:
    """None where nothing tells the factor. An SAE's outputs are its inputs."""
    for norm in norms:
        if norm is not None and not (isfinite(norm) and norm > 0):
            raise BrokenFile(f"`{file}`: {NORMS[:-1]} should be above zero.")
    factors = [None if norm is None else sqrt(d_model) / norm for norm in norms]
    into = given.get("norm_scaling_factor", factors[0])
    if into is None:
        return None
    out = factors[1] if transcoder else into
    if out is None:
        raise UnsupportedArchitecture(
            f"`{file}` does not tell the average norm of the transcoder's outputs."
        )
    return Scale(into, out, Origin.USER if "norm_scaling_factor" in given else Origin.FILE)


def shapes_of(layout: Layout, container: Container, cfg: Config) -> dict[str, tuple[int, ...]]:
    """Norms are read as numbers; a decoder without bias has one of zeros."""
    norms = [name for name in container.members if name.startswith(NORMS)]
    shapes = layout.shapes(container, norms)
    if not has_bias(cfg) and "W_dec" in shapes:
        shapes.setdefault("b_dec", shapes["W_dec"][1:])
    return shapes


def check_widths(cfg: Config, dims: Mapping[str, int]) -> None:
    for key, name in (("d_model", "d_in"), ("d_sae", "d_sae")):
        if cfg.whole(key) not in (None, dims[name]):
            raise cfg.wrong(key, f"{dims[name]}, as in the weights")


def letters(where: str) -> Facts:
    """A folder's own code: L8R, L8TC-32x."""
    found = PLACE.search(where)
    told = {"layer": int(found[1]), "hook_type": SITES[found[2]]} if found else {}
    return {**hints_from(where), **as_facts(Origin.PATH, told)}


@dataclass(frozen=True)
class Model:
    """One SAE of lm-saes by its configuration and header. `scale` is None where nothing tells."""

    cfg: Config
    container: Container
    layout: Layout
    transcoder: bool
    scale: Scale | None

    @property
    def missing(self) -> tuple[MissingFact, ...]:
        return () if self.scale else (FACTOR,)

    def facts(self, dims: Mapping[str, int]) -> Facts:
        scale, stored = self.scale or Scale(), self.layout.names["W_enc"]
        told = {**dims, "dtype": scale.dtype(self.container, stored)}
        return {**place(self.cfg, self.transcoder), **as_facts(Origin.FILE, told), **scale.facts}

    def tensors(self, source: Folder) -> Tensors:
        """W_enc times the one factor; W_dec and b_dec divided by the other."""
        found, scale = self.layout.tensors(source, self.container), self.scale or Scale()
        decoder = found["W_dec"]
        bias = found.get("b_dec") or Held(np.zeros(decoder.shape[1]), decoder.dtype)
        found |= {
            "W_enc": times(found["W_enc"], scale.into),
            "W_dec": divided(decoder, scale.out),
            "b_enc": self._encoder_bias(found, bias),
            "b_dec": divided(bias, scale.out),
        }
        wide = WIDER[decoder.dtype]
        return {name: it.cast(wide) for name, it in found.items()} if scale.folds else found

    def _encoder_bias(self, found: Tensors, b_dec: LazyTensor) -> LazyTensor:
        """A transcoder that subtracts b_dec from its inputs: the standard ones never do."""
        if not (self.transcoder and centred(self.cfg)):
            return found["b_enc"]
        shift = vector_times(b_dec.all(), found["W_enc"])
        return Held(found["b_enc"].all() - shift, WIDER[b_dec.dtype])
