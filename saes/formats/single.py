"""What families share whose SAE is one weight file, named by itself and not by its folder."""

import re
from collections.abc import Mapping

from saes.errors import BadFact, BrokenFile, NotThisFormat
from saes.formats.architectures import TOPK
from saes.formats.base import Fact, Facts, Folder, Given, Origin, SaeInfo, Source
from saes.formats.containers import Container
from saes.formats.given import with_given
from saes.formats.opening import open_container
from saes.formats.rereading import reopen
from saes.reference import Activation, Floats, Plain, abstopk, relu, topk

TORCH = (".pt", ".pth")
WEIGHTS = (*TORCH, ".safetensors", ".npz")
# Words in names of files that training leaves behind, and that hold no SAE.
LEFTOVERS = re.compile(
    r"activations|acts|args|buffer|cache|config|dataset|evals?|evaluation|frequenc(?:y|ies)|history|"
    r"logs?|loss(?:es)?|metrics|means?|metadata|optim|optimi[sz]ers?|probes?|results|rng|sampler|"
    r"scaler|schedulers?|sparsity|states?|stats|statistics|std|tokenizer|tokens|trainer"
)


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


def stated(where: str, facts: Facts, given: Given) -> dict[str, Fact]:
    """`facts` and what the user states, which may add to what the file tells, not contradict it."""
    architecture = facts.get("architecture")
    if architecture and given.get("architecture", architecture.value) != architecture.value:
        raise BadFact(f"`{where}` is a {architecture.value} SAE, not {given['architecture']}.")
    told = with_given(facts, given)
    is_topk = "architecture" in told and told["architecture"].value in (*TOPK, "signed_topk")
    if is_topk and "k" in told:
        _check_k(where, told["k"], told["d_sae"].value)
    return told


def _check_k(where: str, k: Fact, d_sae: int) -> None:
    if not 1 <= k.value <= d_sae:
        error = BadFact if k.origin == Origin.USER else BrokenFile
        raise error(f"`{where}`: k is {k.value}, but there are {d_sae:,} features.")


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
