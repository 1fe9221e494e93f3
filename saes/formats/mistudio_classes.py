"""The five classes of the older miStudio: their tensors, and what they are in neutral words."""

from dataclasses import dataclass

WITH_TOPK = {
    "standard": "topk",
    "transcoder": "topk_transcoder",
    "skip_transcoder": "topk_skip_transcoder",
}
TRANSCODERS = ("transcoder", "topk_transcoder")  # not so the skip autoencoders


@dataclass(frozen=True)
class Kind:
    """A class of the older miStudio. Axes of its tensors: i is d_in, s d_sae, o d_out."""

    architecture: str
    tensors: dict[str, str]
    optional: dict[str, str]

    @property
    def architectures(self) -> list[str]:
        """Its own, and what it is with top-k."""
        return [self.architecture, *filter(None, [WITH_TOPK.get(self.architecture)])]


LINEAR = {"encoder.weight": "si", "encoder.bias": "s"}
KINDS = {
    "JumpReLUSAE": Kind(
        "jumprelu",
        {"W_enc": "si", "b_enc": "s", "b_dec": "i", "activation.log_threshold": "s"},
        {"W_dec": "is"},
    ),
    "TopKSAE": Kind("topk", {**LINEAR, "decoder.weight": "is", "b_pre": "i"}, {}),
    "SparseAutoencoder": Kind(
        "standard", {**LINEAR, "decoder_bias": "i"}, {"decoder.weight": "is", "decoder.bias": "i"}
    ),
    "SkipAutoencoder": Kind(
        "skip_transcoder",
        {**LINEAR, "decoder_bias": "i"},
        {"decoder.weight": "is", "decoder.bias": "i"},
    ),
    "Transcoder": Kind(
        "transcoder", {**LINEAR, "decoder.weight": "os", "decoder.bias": "o"}, {"b_enc_center": "i"}
    ),
}
