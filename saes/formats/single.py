"""What families share whose SAE is one weight file, named by itself and not by its folder."""

import re
from collections.abc import Mapping

import numpy as np

from saes.errors import BadFact, BrokenFile, NotThisFormat
from saes.formats.architectures import PLAIN, TOPK, is_transcoder
from saes.formats.base import Fact, Facts, Folder, Given, Origin, SaeInfo, Source
from saes.formats.files.containers import Container
from saes.formats.files.opening import open_container
from saes.formats.files.rereading import reopen
from saes.formats.given import with_given
from saes.formats.stated import refuse_others, refuse_unfit
from saes.reference import Activation, Floats, Plain, abstopk, relu, topk
from saes.tensors import BITS, Held

TORCH = (".pt", ".pth")
WEIGHTS = (*TORCH, ".safetensors", ".npz")
# Words in names of files that training leaves behind, and that hold no SAE.
LEFTOVERS = re.compile(
    r"activations|acts|args|buffer|cache[ds]?|config|consolidated|dataset[a-z]*|directions?|"
    r"embeddings|evals?|evaluation|frequenc(?:y|ies)|history|labels|logits|logs?|loss(?:es)?|"
    r"metrics|means?|metadata|optim|optimi[sz]ers?|probes?|probing|results|rng|sampler|scaler|"
    r"schedulers?|sparsity|states?|stats|statistics|std|steering[a-z]*|tokenizer|tokens|trainer|vectors?"
)
COUNTING = (*TOPK, "signed_topk", "groupmax")  # whose k is no mere number of training
OF_SEVERAL = ("crosscoder", "clt", "temporal")  # activations: kept as they came
SEMANTICS = ("apply_b_dec_to_input", "normalize_activations")
UNUSED = {"generation", "norm_scaling_factor"}
ORIENTATIONS = {True: "d_sae,d_in", False: "d_in,d_sae"}


def opened(source: Source, where: str, looks_for: str, *tensors: str) -> Container:
    """The weight file `where`, if it is one and holds all these tensors."""
    if where not in source.tree.names or not where.endswith(WEIGHTS):
        raise NotThisFormat(f"It looks for {looks_for}.")
    container = open_container(source, where)
    if not set(tensors) <= container.members.keys():
        raise NotThisFormat(f"It looks for {looks_for}.")
    return container


def base_of(where: str) -> str:
    return where.rpartition("/")[2]


def is_leftover(name: str) -> bool:
    return any(map(LEFTOVERS.fullmatch, re.split(r"[^a-z]+", base_of(name).lower())))


def stated(where: str, facts: Facts, given: Given, turned: bool | None = None) -> dict[str, Fact]:
    """`facts` and what the user states, which may add to what the file tells, not contradict it.

    `turned` is whether W_enc is stored [d_sae, d_in], of a family that can lie both ways round.
    """
    architecture = facts.get("architecture")
    if architecture and given.get("architecture", architecture.value) != architecture.value:
        raise BadFact(f"`{where}` is a {architecture.value} SAE, not {given['architecture']}.")
    told = with_given(facts, given)
    for name in UNUSED & given.keys():
        raise BadFact(f"`{where}`: {name} is nothing that an SAE of this format depends on.")
    _check_orientation(where, given.get("orientation"), turned)
    if "architecture" in told:
        _check_given(where, told["architecture"].value, facts, given)
        if told["architecture"].value in COUNTING and "k" in told:
            _check_k(where, told["k"], told["d_sae"].value)
    return told


def _check_orientation(where: str, orientation: str | None, turned: bool | None) -> None:
    if orientation is None or (turned is not None and orientation == ORIENTATIONS[turned]):
        return
    raise BadFact(
        f"`{where}`: orientation is not to be stated as {orientation}: format or tensors tell it."
    )


def _check_given(where: str, architecture: str, facts: Facts, given: Given) -> None:
    """A statement that could change nothing is refused: its user believes that it does."""
    if architecture in PLAIN or architecture not in COUNTING:
        refuse_unfit(where, architecture, given)
    if is_transcoder(architecture):
        refuse_others(where, given, "normalize_activations", ("none",))
    for name in SEMANTICS if architecture in OF_SEVERAL else ():
        refuse_others(where, given, name, [facts[name].value] if name in facts else ["as it is"])


def _check_k(where: str, k: Fact, d_sae: int) -> None:
    if not 1 <= k.value <= d_sae:
        error = BadFact if k.origin == Origin.USER else BrokenFile
        raise error(f"`{where}`: k is {k.value}, but there are {d_sae:,} features.")


def spread(folder: Folder, container: Container, name: str, size: int, factor: float = 1) -> Held:
    """One number for all features. A whole one becomes float32, as in a module's own buffer."""
    dtype = container.members[name].dtype
    value = float(container.scalar(folder, name)) * factor
    return Held(np.full(size, value), dtype if dtype in BITS else "F32")


def linear_reference(source: Folder, info: SaeInfo, names: Mapping[str, str]) -> Plain:
    """From nn.Linear: encoder(x) = x @ weight.T + bias, and the decoder likewise.

    `names` maps encoder, b_enc, decoder, b_dec to what the file calls them.
    """
    arrays = reopen(source.path(info.where))
    return Plain(
        encoder=arrays.matrix(names["encoder"]).transposed,
        decoder=arrays.matrix(names["decoder"]).transposed,
        b_dec=arrays.vector(names["b_dec"]),
        activation=activation_of(info, arrays.vector(names["b_enc"])),
        centre=info.get("apply_b_dec_to_input"),
        normalisation=info.get("normalize_activations"),
    )


def activation_of(info: SaeInfo, b_enc: Floats) -> Activation:
    if info.get("architecture") == "abstopk":
        return abstopk(b_enc, info.get("k"))
    if info.get("architecture") in TOPK:
        return topk(b_enc, info.get("k"))
    return relu(b_enc)
