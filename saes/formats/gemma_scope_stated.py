"""What may be stated of SAEs of Gemma Scope: all are JumpReLU, and none left a factor to fold."""

from collections.abc import Sequence

from saes.formats.architectures import is_transcoder
from saes.formats.base import Given
from saes.formats.stated import refuse_others, refuse_unfit

FOREIGN = ("norm_scaling_factor", "generation", "orientation")


def refuse_misstated(
    where: str, given: Given, possible: Sequence[str], told: str | None, is_embedding: bool = False
) -> None:
    """What SAEs of embeddings and transcoders do with their inputs is settled."""
    refuse_others(where, given, "architecture", possible)
    architecture = given.get("architecture", told or possible[0])
    refuse_unfit(where, architecture, given, FOREIGN)
    if is_embedding or is_transcoder(architecture):
        refuse_others(where, given, "normalize_activations", ["none"])
        refuse_others(where, given, "apply_b_dec_to_input", [False])
