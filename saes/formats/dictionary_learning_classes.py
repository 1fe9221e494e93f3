"""The classes of dictionary_learning: which tensors each has, and which one a file holds.

The tensors are the truth and config.json has to agree: its trainers announce AutoEncoderNew as
AutoEncoder, and a name that nobody knows must never become a plain ReLU.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from saes.errors import BrokenFile, UnsupportedArchitecture
from saes.formats.architectures import Shape
from saes.formats.family import Layout
from saes.formats.files.containers import Container

LINEAR = {"W_enc": "encoder.weight", "b_enc": "encoder.bias", "W_dec": "decoder.weight"}
OWN = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
TURNED = ("W_enc", "W_dec")
NUMBER: Sequence[Shape] = ((), (1,))


@dataclass(frozen=True)
class DictClass:
    """One class: its tensors, and what its forward does with them."""

    name: str
    architecture: str
    layout: Layout
    centred: bool
    scaled: Sequence[str] = ()  # by its scale_biases; empty where it has none
    tells: Sequence[str] = ()  # buffers of no other class: one of these has to be there
    buffers: Sequence[str] = ()  # which change nothing at inference
    one_threshold: bool = False

    def fits(self, container: Container) -> bool:
        shapes = container.shapes
        told = not self.tells or any(name in shapes for name in self.tells)
        many = "threshold" in self.layout.names and shapes.get("threshold") in NUMBER
        return told and not many and self.layout.knows(container)


BIASES = ("b_enc", "b_dec")
GATED = {
    "W_enc": "encoder.weight",
    "W_dec": "decoder.weight",
    "b_dec": "decoder_bias",
    "b_gate": "gate_bias",
    "b_mag": "mag_bias",
    "r_mag": "r_mag",
}
GROUPS = ("group_sizes", "group_indices")
AUTO_ENCODER = DictClass(
    "AutoEncoder", "standard", Layout({**LINEAR, "b_dec": "bias"}, TURNED), True, BIASES
)
AUTO_ENCODER_NEW = DictClass(
    "AutoEncoderNew", "standard", Layout({**LINEAR, "b_dec": "decoder.bias"}, TURNED), False
)
GATED_AUTO_ENCODER = DictClass(
    "GatedAutoEncoder", "gated", Layout(GATED, TURNED), True, ("b_dec", "b_mag", "b_gate")
)
AUTO_ENCODER_TOPK = DictClass(
    "AutoEncoderTopK", "topk", Layout({**LINEAR, "b_dec": "b_dec"}, TURNED), True, BIASES,
    buffers=("k", "threshold"),
)  # fmt: skip
BATCH_TOPK = DictClass(
    "BatchTopKSAE", "jumprelu", Layout({**LINEAR, "b_dec": "b_dec"}, TURNED), True, BIASES,
    buffers=("k",), one_threshold=True,
)  # fmt: skip
MATRYOSHKA = DictClass(
    "MatryoshkaBatchTopKSAE", "jumprelu", Layout(OWN), True, BIASES,
    tells=GROUPS, buffers=("k", *GROUPS), one_threshold=True,
)  # fmt: skip
JUMPRELU = DictClass(
    "JumpReluAutoEncoder", "jumprelu", Layout({**OWN, "threshold": "threshold"}), False,
    (*BIASES, "threshold"),
)  # fmt: skip
CLASSES = {
    it.name: it
    for it in (
        AUTO_ENCODER, AUTO_ENCODER_NEW, GATED_AUTO_ENCODER, AUTO_ENCODER_TOPK, BATCH_TOPK,
        MATRYOSHKA, JUMPRELU,
    )
}  # fmt: skip
TRAINERS = {  # of the months when config.json told the trainer alone
    "StandardTrainer": AUTO_ENCODER,
    "PAnnealTrainer": AUTO_ENCODER,
    "StandardTrainerNew": AUTO_ENCODER_NEW,
    "GatedSAETrainer": GATED_AUTO_ENCODER,
    "GatedAnnealTrainer": GATED_AUTO_ENCODER,
    "TrainerTopK": AUTO_ENCODER_TOPK,
    "TopKTrainer": AUTO_ENCODER_TOPK,
    "TrainerBatchTopK": BATCH_TOPK,
    "BatchTopKTrainer": BATCH_TOPK,
    "MatryoshkaBatchTopKTrainer": MATRYOSHKA,
    "JumpReluTrainer": JUMPRELU,
    "TrainerJumpRelu": JUMPRELU,
}
UNMISTAKABLE = (GATED_AUTO_ENCODER, MATRYOSHKA)  # by their tensors, whatever the class is called


def candidates(container: Container, config: str, told: str | None) -> list[DictClass]:
    """The classes that the tensors allow and `told`, the class in `config`, does not contradict.

    Raises BrokenFile, UnsupportedArchitecture.
    """
    fitting = [it for it in CLASSES.values() if it.fits(container)]
    if told is None:
        return fitting
    if told not in CLASSES:
        return _unmistakable(fitting, config, told)
    agreeing = [it for it in fitting if it.name == told or _announced_as(it, told)]
    if fitting and not agreeing:
        raise BrokenFile(
            f"`{config}` tells of the class {told}, but `{container.name}` holds the tensors of "
            f"{fitting[0].name}."
        )
    return agreeing or [CLASSES[told]]  # to be refused tensor by tensor


def _announced_as(found: DictClass, told: str) -> bool:
    return (found.name, told) == ("AutoEncoderNew", "AutoEncoder")


def _unmistakable(fitting: list[DictClass], config: str, told: str) -> list[DictClass]:
    found = [it for it in fitting if it in UNMISTAKABLE]
    if not found:
        raise UnsupportedArchitecture(
            f"`{config}` tells of the class {told[:60]}, which is none of dictionary_learning's, "
            "and the tensors do not tell what it computes."
        )
    return found
