"""What can be stated of a miStudio SAE: a fact that its arithmetic has no place for is refused."""

from collections.abc import Collection, Mapping
from typing import Any

from saes.errors import BadFact
from saes.formats.architectures import TOPK, is_transcoder
from saes.formats.base import Facts, Given

Possible = Mapping[str, Collection[Any]]
TURNED = "d_sae,d_in"  # how every linear layer is stored


def means_topk(given: Given) -> bool:
    """A stated k means top-k, unless an architecture is stated too."""
    return given["architecture"] in TOPK if "architecture" in given else "k" in given


def possible(facts: Facts, folded: bool = False) -> dict[str, Collection[Any]]:
    """Which values suit this architecture; nothing can be said of centring that was folded."""
    architecture, d_sae = (facts[name].value for name in ("architecture", "d_sae"))
    centred = (False,) if is_transcoder(architecture) else (False, True)
    return {
        "k": range(1, d_sae + 1) if architecture in TOPK else (),
        "apply_b_dec_to_input": () if folded else centred,
        "norm_scaling_factor": (),
    }


def refuse_unfit(file: str, given: Given, values: Possible) -> None:
    """Raises BadFact for the first stated fact that is none of its values."""
    for name, fitting in values.items():
        if name not in given or given[name] in fitting:
            continue
        if not fitting:
            raise BadFact(f"`{file}`: {name} says nothing about the SAE that it holds.")
        if isinstance(fitting, range):
            raise BadFact(f"`{file}` has {len(fitting):,} features: k cannot be {given[name]:,}.")
        wanted = " or ".join(str(it) for it in fitting)
        raise BadFact(f"`{file}`: {name} is {wanted}, not {given[name]}.")
