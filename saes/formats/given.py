"""What a user may state about an SAE, and in which words."""

import math
from collections.abc import Callable
from typing import Any

from saes.errors import BadFact, MissingFact, NeedsFacts, UnsupportedArchitecture
from saes.formats.architectures import NORMALISATIONS, NOT_PLAIN, PLAIN
from saes.formats.base import Fact, Facts, Given, Origin, SaeInfo
from saes.tensors import BITS

DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
DESCRIPTIVE = ("model_name", "hook_name", "layer")  # they change no number


def _choice(*values: str) -> Callable[[Any], Any]:
    def read(value: Any) -> str:
        if value in values:
            return str(value)
        raise ValueError("one of " + ", ".join(values))

    return read


def _whole(least: int) -> Callable[[Any], Any]:
    def read(value: Any) -> int:
        if (
            type(value) in (int, str)
            and str(value).isascii()
            and str(value).isdigit()
            and len(str(value)) <= 10
            and least <= int(value) < 2**31
        ):
            return int(value)
        raise ValueError(f"a whole number from {least} on")

    return read


def _factor(value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or number <= 0:
        raise ValueError("a number above zero")
    return number


def _flag(value: Any) -> bool:
    if value in (True, "true", "True"):
        return True
    if value in (False, "false", "False"):
        return False
    raise ValueError("true or false")


def _text(value: Any) -> str:
    if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable():
        return value
    raise ValueError("a text of one line")


def _generation(value: Any) -> int:
    if str(value) in ("1", "2"):
        return int(value)
    raise ValueError("1 or 2")


def _normalisation(value: Any) -> Any:
    # miStudio's own word for the same arithmetic.
    value = "constant_norm_rescale" if value == "anthropic_rescale" else value
    return _choice(*NORMALISATIONS)(value)


READERS: dict[str, Callable[[Any], Any]] = {
    "architecture": _choice(*PLAIN),
    "apply_b_dec_to_input": _flag,
    "normalize_activations": _normalisation,
    "norm_scaling_factor": _factor,
    "k": _whole(1),
    "generation": _generation,
    "model_name": _text,
    "hook_name": _text,
    "layer": _whole(0),
    "orientation": _choice("d_in,d_sae", "d_sae,d_in"),  # of a square W_enc, as it is stored
    "dtype": _choice(*DTYPES.values()),
}


def cleaned(given: Given | None) -> dict[str, Any]:
    """The given facts, typed. Forms send text: "32" is a k, "true" a flag; empty is not given."""
    facts = {}
    for name, value in (given or {}).items():
        if value is None or value == "":
            continue
        if name not in READERS:
            raise BadFact(f"{str(name)[:50]} is nothing that can be stated about an SAE.")
        try:
            facts[name] = READERS[name](value)
        except ValueError as error:
            raise BadFact(f"{name} should be {error}.") from error
    return facts


def with_given(facts: Facts, given: Given) -> dict[str, Fact]:
    """`facts`, outranked by what the user states."""
    return {**facts, **{name: Fact(value, Origin.USER) for name, value in given.items()}}


def refuse_missing(info: SaeInfo) -> None:
    if info.missing:
        names = ", ".join(fact.name for fact in info.missing)
        raise NeedsFacts(f"The files of `{info.where}` do not say: {names}.", info.missing)


K = MissingFact("k", "How many features fire for each token (k)?")
NORMALISATION = MissingFact(
    "normalize_activations",
    "How were activations normalised? The checkpoint does not say; the training record does.",
    {
        "constant_norm_rescale": "each activation is scaled to length sqrt(d_in): the default",
        "none": "activations are used as they are",
    },
)
GENERATION = MissingFact(
    "generation",
    "Which miStudio trained it? The tensors look the same, the arithmetic differs.",
    {
        "1": "until 15 February 2026: the encoder sees the activation itself",
        "2": "later: the decoder bias is subtracted from the activation first",
    },
)


def refuse_not_plain(info: SaeInfo) -> None:
    reason = NOT_PLAIN.get(info.get("architecture"))
    if reason:
        raise UnsupportedArchitecture(f"`{info.where}` is no plain SAE: {reason}.")


def dtype_words(word: str) -> str:
    """F32 -> float32: cfg.json's words. Other stored types keep theirs."""
    return DTYPES.get(word, word)


def dtype_code(words: str) -> str:
    return next(code for code in BITS if DTYPES[code] == words)
