"""What a user states of an SAE and it cannot be: refused by name, never ignored."""

from collections.abc import Sequence
from typing import Any

from saes.errors import BadFact, BrokenFile
from saes.formats.architectures import TOPK, is_transcoder
from saes.formats.base import Facts, Given, Origin


def refuse_unfit(where: str, architecture: str, given: Given, foreign: Sequence[str] = ()) -> None:
    """Facts that this architecture has no use for, and those `foreign` to the whole family.

    An unknown architecture is empty.
    """
    for name in foreign:
        if name in given:
            raise BadFact(f"`{where}`: {name} is nothing that can be stated of SAEs of this kind.")
    if "k" in given and architecture not in ("", *TOPK):
        raise BadFact(f"`{where}`: k belongs to top-k, this is a {architecture} SAE.")
    if given.get("apply_b_dec_to_input") and is_transcoder(architecture):
        raise BadFact(
            f"`{where}`: apply_b_dec_to_input cannot be true: a transcoder never subtracts b_dec."
        )


def refuse_others(where: str, given: Given, name: str, known: Sequence[Any]) -> None:
    """A fact that the files or their definition settle already, as one of `known`."""
    if name in given and given[name] not in known:
        allowed = " or ".join(str(value) for value in known)
        raise BadFact(f"`{where}`: {name} can only be {allowed}, not {given[name]}.")


def check_k(name: str, facts: Facts) -> None:
    """No more features can fire than there are, whoever says so."""
    k, d_sae = facts["k"], facts["d_sae"].value
    if k.value > d_sae:
        error = BadFact if k.origin == Origin.USER else BrokenFile
        raise error(f"`{name}`: k is {k.value}, but there are {d_sae:,} features.")
