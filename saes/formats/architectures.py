"""The plain architectures: which standard tensors each has, and their shapes."""

from collections.abc import Mapping

from saes.errors import BrokenFile

Shape = tuple[int, ...]

RELU = ("standard", "transcoder", "skip_transcoder")
TOPK = ("topk", "abstopk", "topk_transcoder", "topk_skip_transcoder")
JUMPRELU = ("jumprelu", "jumprelu_transcoder", "jumprelu_skip_transcoder")
PLAIN = (*RELU, *TOPK, *JUMPRELU, "gated")
# What is no plain dictionary of one activation, and why: such SAEs are kept as they came.
NOT_PLAIN = {
    "temporal": "it attends to earlier tokens, so one activation alone does not give its features",
    "matching_pursuit": "it picks features one after the other, with no encoder",
    "groupmax": "it keeps the largest feature of each group, which no standard form can say",
    "signed_topk": "its top-k keeps negative values, which no standard form can say",
    "crosscoder": "it reads and writes several places or models at once",
    "clt": "it reads one layer and writes to all layers after it",
}
NORMALISATIONS = (
    "none",
    "expected_average_only_in",
    "constant_norm_rescale",
    "layer_norm",
    "covariance_whitening",
)


def is_transcoder(architecture: str) -> bool:
    return architecture.endswith("transcoder")


def standard_shapes(architecture: str, d_in: int, d_sae: int, d_out: int) -> dict[str, Shape]:
    """Name -> shape of the community-standard tensors of a plain architecture."""
    shapes: dict[str, Shape] = {"W_enc": (d_in, d_sae), "W_dec": (d_sae, d_out), "b_dec": (d_out,)}
    biases = ("b_gate", "b_mag", "r_mag") if architecture == "gated" else ("b_enc",)
    shapes |= dict.fromkeys(biases, (d_sae,))
    if architecture in JUMPRELU:
        shapes["threshold"] = (d_sae,)
    if "skip" in architecture:
        shapes["W_skip"] = (d_out, d_in)
    return shapes


def check_tensors(file: str, found: Mapping[str, Shape], wanted: Mapping[str, Shape]) -> None:
    """Strict, as SAELens is: nothing missing, nothing unknown, every shape as it must be."""
    for name in sorted(wanted.keys() - found.keys()):
        raise BrokenFile(f"`{file}` lacks the tensor {name}.")
    for name in sorted(found.keys() - wanted.keys()):
        raise BrokenFile(
            f"`{file}` holds the unknown tensor {name[:100]}: nothing is dropped unread."
        )
    for name, shape in sorted(wanted.items()):
        if found[name] != shape:
            raise BrokenFile(
                f"`{file}`: {name} is {_told(found[name])}, it should be {_told(shape)}."
            )
        if 0 in shape:
            raise BrokenFile(f"`{file}`: {name} is empty.")


def _told(shape: Shape) -> str:
    return "[" + ", ".join(map(str, shape)) + "]"
