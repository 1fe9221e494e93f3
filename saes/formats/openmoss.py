"""OpenMOSS lm-saes: config.json beside sae_weights.safetensors, tensors W_E, b_E, W_D, b_D.

With sparsity_include_decoder_norm a feature must clear its threshold, or be among the top k, by its
sum times the length of its decoder row. Kinds other than sae are kept as they came or refused.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saes import reference as plain
from saes.errors import (
    BadFact,
    BrokenFile,
    ConfigNotFound,
    MissingFact,
    NotThisFormat,
    UnsupportedArchitecture,
)
from saes.formats import lm_saes
from saes.formats.architectures import TOPK
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.configs import Config
from saes.formats.containers import Container
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.given import K, cleaned, dtype_words, refuse_not_plain, with_given
from saes.formats.lm_saes import Model, Scale
from saes.formats.lm_saes_reference import BUFFERS, factors, forward
from saes.formats.names import hints_from
from saes.formats.opening import open_container
from saes.formats.rereading import Reread, reopen
from saes.reference import Activation, Floats
from saes.tensors import row_norms

if TYPE_CHECKING:
    from saes.reference import Reference

R1_THRESHOLD = "log_jumprelu_threshold"
LOG_THRESHOLD = "activation_function.log_jumprelu_threshold"
OWN = {"W_enc": "W_E", "b_enc": "b_E", "W_dec": "W_D", "b_dec": "b_D", "threshold": LOG_THRESHOLD}
LAYOUT = Layout(OWN)
LINEAR = Layout({**lm_saes.LINEAR, "threshold": LOG_THRESHOLD}, lm_saes.TURNED)
WEIGHTS = ("encoder.weight", "decoder.weight")
SEVERAL = ("crosscoder", "clt")
ACTIVATIONS = {
    "relu": ("standard", "transcoder"),
    "jumprelu": ("jumprelu", "jumprelu_transcoder"),
    "topk": ("topk", "topk_transcoder"),
}


class OpenMoss(Family):
    slug: ClassVar[str] = "openmoss"
    label: ClassVar[str] = "OpenMOSS lm-saes"
    looks_for: ClassVar[str] = "`config.json` beside `sae_weights.safetensors` with `W_E` and `W_D`"

    def find(self, tree: Tree) -> list[str]:
        return lm_saes.folders_of(tree)

    def files(self, tree: Tree, where: str) -> list[str]:
        return lm_saes.files_of(tree, where)

    def hints(self, tree: Tree, where: str) -> Facts:
        return hints_from(where, tree.repo_id)

    def read(self, source: Source, where: str, given: Given) -> Reading:
        files = self.files(source.tree, where)
        if not files:
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = open_container(source, files[0])
        named = "W_E" in container.members or files[0].endswith(lm_saes.WEIGHTS)
        cfg = lm_saes.config_of(source, files[0]) if named else None
        if cfg is None or not _is_own(container, cfg):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        hints, kind = self.hints(source.tree, where), _kind(cfg)
        if kind in SEVERAL:
            facts = {**with_given(hints, given), **_several(cfg, container, kind)}
            info = SaeInfo(self.slug, where, facts, container.specs, files)
            return Reading(info, lambda folder: {})
        model = _model(source, container, cfg, given)
        facts = with_given({**hints, **_facts(model, given)}, given)
        missing = (*model.missing, *_missing(facts, model))
        info = SaeInfo(self.slug, where, facts, container.specs, files, missing)
        return Reading(info, lambda folder: _tensors(folder, model))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        info, given = self.probe(source, where, given), cleaned(given)
        refuse_not_plain(info)
        name = self.files(source.tree, where)[0]
        told = lm_saes.config_of(source, name).values
        k = info.get("k") if info.get("architecture") in TOPK else None
        return _forward({**told, "k": k}, reopen(source.path(name)), given)


def _is_own(container: Container, cfg: Config) -> bool:
    """R1 distill has the same files, and its own name for the threshold."""
    is_r1 = R1_THRESHOLD in container.members and cfg.text("sae_type") in (None, "sae")
    return "W_E" in container.members or ("sae_type" in cfg and not is_r1)


def _kind(cfg: Config) -> str:
    if not cfg.values:
        raise ConfigNotFound(f"`{cfg.name}` is not there: it tells how the weights are used.")
    lm_saes.refuse_gates(cfg)
    kind = cfg.text("sae_type") or "sae"
    if kind not in ("sae", *SEVERAL):
        raise UnsupportedArchitecture(f"`{cfg.name}`: sae_type {kind[:40]} is no plain dictionary.")
    return kind


def _several(cfg: Config, container: Container, kind: str) -> Facts:
    encoder = container.members.get("W_E") or container.members.get("encoder.weight")
    told = {
        "architecture": kind,
        "d_in": cfg.whole("d_model"),
        "d_sae": encoder.shape[-1] if encoder and encoder.shape else None,
        "dtype": dtype_words(encoder.dtype) if encoder else None,
    }
    return as_facts(Origin.FILE, told)


def _model(source: Source, container: Container, cfg: Config, given: Given) -> Model:
    own = LAYOUT if "W_E" in container.members else LINEAR
    transcoder, width = lm_saes.transcodes(cfg, given), _width(container, own)
    if not lm_saes.is_scaled(cfg) and "norm_scaling_factor" not in given:
        return Model(cfg, container, own, transcoder, Scale())
    norms = lm_saes.stored_norms(source, container, cfg)
    scale = lm_saes.scale_by(container.name, norms, width, transcoder, given)
    return Model(cfg, container, own, transcoder, scale)


def _width(container: Container, layout: Layout) -> int:
    return (*layout.shapes(container).get("W_enc", ()), 1)[0]


def _act_fn(model: Model) -> str:
    has_threshold = LOG_THRESHOLD in model.container.members
    word = model.cfg.text("act_fn") or ("jumprelu" if has_threshold else "relu")
    if word.lower() not in ACTIVATIONS:
        raise UnsupportedArchitecture(
            f"`{model.cfg.name}`: act_fn {word[:40]} depends on more than one activation."
        )
    return word.lower()


def _facts(model: Model, given: Given) -> Facts:
    architecture = ACTIVATIONS[_act_fn(model)][model.transcoder]
    shapes = lm_saes.shapes_of(model.layout, model.container, model.cfg)
    dims = dimensions(model.container.name, shapes, given.get("architecture", architecture))
    lm_saes.check_widths(model.cfg, dims)
    told: dict[str, Any] = {"architecture": architecture}
    by_norm = _by_norm(model.cfg)
    if architecture in TOPK:
        told |= {"k": model.cfg.whole("top_k"), "rescale_acts_by_decoder_norm": by_norm}
    return {**model.facts(dims), **as_facts(Origin.FILE, told)}


def _by_norm(cfg: Config) -> bool:
    return cfg.flag("sparsity_include_decoder_norm") is not False


def _missing(facts: Facts, model: Model) -> tuple[MissingFact, ...]:
    if facts["architecture"].value not in TOPK:
        return ()
    if "k" not in facts:
        return (K,)
    k, d_sae = facts["k"], facts["d_sae"].value
    if k.value > d_sae:
        kind = BadFact if k.origin == Origin.USER else BrokenFile
        raise kind(f"`{model.cfg.name}`: k is {k.value}, but there are {d_sae} features.")
    return ()


def _tensors(source: Folder, model: Model) -> Tensors:
    tensors = model.tensors(source)
    if "threshold" not in tensors:
        return tensors
    threshold = tensors["threshold"].mapped(lambda it, index: np.exp(it))
    if _by_norm(model.cfg):
        lengths = row_norms(model.layout.tensors(source, model.container)["W_dec"])
        threshold = threshold.mapped(lambda it, index: _apart(it, lengths[index[0]]))
    return {**tensors, "threshold": threshold}


def _apart(threshold: Floats, lengths: Floats) -> Floats:
    """Nothing clears its threshold by a decoder row of zeros."""
    with np.errstate(divide="ignore"):
        return threshold / lengths


def _forward(told: dict[str, Any], file: Reread, given: Given) -> plain.Plain:
    norms = {it.removeprefix(BUFFERS): file.number(it) for it in file.names if BUFFERS in it}
    own = "W_E" in file.names
    weights = [file.matrix(it) for it in (("W_E", "W_D") if own else WEIGHTS)]
    encoder, decoder = weights if own else [it.transposed for it in weights]
    bias = "b_D" if own else "decoder.bias"
    b_enc = file.vector("b_E" if own else "encoder.bias")
    by_norm = told.get("sparsity_include_decoder_norm") is not False
    lengths: Any = decoder.row_norms() if by_norm else 1.0
    weights_of_acts: Any = None
    if LOG_THRESHOLD in file.names:
        activation = _over_threshold(b_enc, np.exp(file.vector(LOG_THRESHOLD)), lengths)
    elif told["k"] is None:
        activation = plain.relu(b_enc)
    elif by_norm:
        lengths = lengths / factors(told, norms, encoder.shape[0], given)[1]
        activation, weights_of_acts = plain.topk(b_enc, told["k"], lengths), plain.inverse(lengths)
    else:
        activation = plain.topk(b_enc, told["k"])
    b_dec = file.vector(bias) if bias in file.names else None
    return forward(
        told, norms, (encoder, decoder), b_dec, activation, given, weights=weights_of_acts
    )


def _over_threshold(b_enc: Floats, threshold: Floats, lengths: Floats | float) -> Activation:
    """jumprelu(sum * length) / length: the length only decides whether it fires."""

    def activate(product: Floats) -> Floats:
        product += b_enc
        product[~(product * lengths > threshold)] = 0
        return product

    return activate
