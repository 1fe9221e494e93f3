"""OpenMOSS lm-saes: config.json beside sae_weights.safetensors, tensors W_E, b_E, W_D, b_D.

With sparsity_include_decoder_norm features are measured in units of their decoder direction: the
length of a decoder row goes over to the encoder. Kinds other than sae are kept as they came or
refused.
"""

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from saes import reference as plain
from saes.errors import ConfigNotFound, MissingFact, NotThisFormat, UnsupportedArchitecture
from saes.formats import lm_saes
from saes.formats.architectures import TOPK
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.configs import Config
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.files.rereading import Reread, reopen
from saes.formats.given import K, cleaned, dtype_words, refuse_not_plain, with_given
from saes.formats.lm_saes import Model, Scale
from saes.formats.lm_saes_reference import BUFFERS, forward, stated
from saes.formats.names import hints_from
from saes.formats.stated import check_k, refuse_unfit
from saes.reference import Activation, Floats
from saes.tensors import WIDER, row_norms

if TYPE_CHECKING:
    from saes.reference import Reference

R1_THRESHOLD = "log_jumprelu_threshold"
LOG_THRESHOLD = "activation_function.log_jumprelu_threshold"
OWN = {"W_enc": "W_E", "b_enc": "b_E", "W_dec": "W_D", "b_dec": "b_D", "threshold": LOG_THRESHOLD}
LAYOUT = Layout(OWN)
LINEAR = Layout({**lm_saes.LINEAR, "threshold": LOG_THRESHOLD}, lm_saes.TURNED)
NO_BIAS = np.zeros(1)
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
            refuse_unfit(where, kind, given, (*lm_saes.FOREIGN, "architecture"))
            facts = {**with_given(hints, given), **_several(cfg, container, kind)}
            info = SaeInfo(self.slug, where, facts, container.specs, files)
            return Reading(info, lambda folder: {})
        possible = ACTIVATIONS[_act_fn(cfg, container)]
        lm_saes.refuse_misstated(where, cfg, given, possible)
        model = _model(source, container, cfg, given)
        facts = with_given({**hints, **_facts(model, possible[model.transcoder])}, given)
        missing = (*model.missing, *_missing(facts, model))
        info = SaeInfo(self.slug, where, facts, container.specs, files, missing)
        return Reading(info, lambda folder: _tensors(folder, model))

    def reference(self, source: Folder, where: str, given: Given) -> "Reference":
        info, given = self.probe(source, where, given), cleaned(given)
        refuse_not_plain(info)
        name = self.files(source.tree, where)[0]
        told = stated(lm_saes.config_of(source, name).values)
        return _forward(told, info.get("k"), reopen(source.path(name)), given)


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
    if not lm_saes.is_scaled(cfg):
        return Model(cfg, container, own, transcoder, Scale())
    norms = lm_saes.stored_norms(source, container, cfg)
    scale = lm_saes.scale_by(container.name, norms, width, transcoder, given)
    return Model(cfg, container, own, transcoder, scale)


def _width(container: Container, layout: Layout) -> int:
    return (*layout.shapes(container).get("W_enc", ()), 1)[0]


def _act_fn(cfg: Config, container: Container) -> str:
    has_threshold = LOG_THRESHOLD in container.members
    word = cfg.text("act_fn") or ("jumprelu" if has_threshold else "relu")
    if word.lower() not in ACTIVATIONS:
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: act_fn {word[:40]} depends on more than one activation."
        )
    return word.lower()


def _facts(model: Model, architecture: str) -> Facts:
    shapes = lm_saes.shapes_of(model.layout, model.container, model.cfg)
    dims = dimensions(model.container.name, shapes, architecture)
    lm_saes.check_widths(model.cfg, dims)
    told: dict[str, Any] = {"architecture": architecture}
    if architecture in TOPK:
        told |= {"k": model.cfg.whole("top_k"), "rescale_acts_by_decoder_norm": False}
    if _by_norm(model.cfg):
        stored = model.container.members[model.layout.names["W_enc"]].dtype
        told["dtype"] = dtype_words(WIDER.get(stored, stored))
    return {**model.facts(dims), **as_facts(Origin.FILE, told)}


def _by_norm(cfg: Config) -> bool:
    return cfg.flag("sparsity_include_decoder_norm") is not False


def _missing(facts: Facts, model: Model) -> tuple[MissingFact, ...]:
    if facts["architecture"].value not in TOPK:
        return ()
    if "k" not in facts:
        return (K,)
    check_k(model.cfg.name, facts)
    return ()


def _tensors(source: Folder, model: Model) -> Tensors:
    tensors = model.tensors(source)
    if "threshold" in tensors:
        tensors["threshold"] = tensors["threshold"].mapped(lambda it, index: np.exp(it))
    if not _by_norm(model.cfg):
        return tensors
    lengths = row_norms(model.layout.tensors(source, model.container)["W_dec"])
    folded = {
        "W_enc": tensors["W_enc"].scaled(lengths, axis=1),
        "b_enc": tensors["b_enc"].scaled(lengths),
        "W_dec": tensors["W_dec"].scaled(plain.inverse(lengths)),
    }
    return {name: it.cast(WIDER[it.dtype]) for name, it in {**tensors, **folded}.items()}


def _forward(told: dict[str, Any], k: int | None, file: Reread, given: Given) -> plain.Plain:
    norms = {it.removeprefix(BUFFERS): file.number(it) for it in file.names if BUFFERS in it}
    own = "W_E" in file.names
    weights = [file.matrix(it) for it in (("W_E", "W_D") if own else WEIGHTS)]
    encoder, decoder = weights if own else [it.transposed for it in weights]
    bias = "b_D" if own else "decoder.bias"
    b_enc = file.vector("b_E" if own else "encoder.bias")
    by_norm = told.get("sparsity_include_decoder_norm") is not False
    lengths: Any = decoder.row_norms() if by_norm else 1.0
    return forward(
        told,
        norms,
        (encoder, decoder),
        file.vector(bias) if bias in file.names else None,
        _of_sums(_activation(file, k), b_enc, lengths),
        given,
        weights=plain.inverse(lengths),
    )


def _activation(file: Reread, k: int | None) -> Activation:
    if LOG_THRESHOLD in file.names:
        return plain.jumprelu(NO_BIAS, np.exp(file.vector(LOG_THRESHOLD)))
    return plain.relu(NO_BIAS) if k is None else plain.topk(NO_BIAS, k)


def _of_sums(activation: Activation, b_enc: Floats, lengths: Floats | float) -> Activation:
    """Sums times the lengths of their decoder rows are what the activation function sees."""

    def activate(product: Floats) -> Floats:
        product += b_enc
        product *= lengths
        return activation(product)

    return activate
