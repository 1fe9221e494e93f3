"""What lies beside checkpoints of the older miStudio: which file holds the weights, who wrote what.

config.json with model.safetensors or model.pt is described in the manual, and made by hand: no code
ever wrote it. metadata.json is from the older converter, which made checkpoints out of SAELens
files and kept neither centring nor normalisation nor k; its tensors show no generation.
"""

from dataclasses import dataclass, field
from typing import Any

from saes.errors import BrokenFile, NotThisFormat, UnsupportedArchitecture
from saes.formats.architectures import NORMALISATIONS
from saes.formats.base import Source, Tree, inside, parent
from saes.formats.configs import Config, read_config
from saes.formats.names import hook_layer, site_of
from saes.formats.neighbours import is_upload_of_sae

CHECKPOINT, METADATA, CONFIG = "checkpoint.safetensors", "metadata.json", "config.json"
DOCUMENTED = ("model.safetensors", "model.pt")
ACTIVATIONS = ("activation_fn", "activation_fn_str", "activation")
ANTHROPIC = "standard_anthropic"
CLASSES = {
    "standard": "SparseAutoencoder",
    "standard_saelens": "SparseAutoencoder",
    "standard_anthropic": "SparseAutoencoder",
    "skip": "SkipAutoencoder",
    "transcoder": "Transcoder",
    "jumprelu": "JumpReLUSAE",
    "topk": "TopKSAE",
}
CLASSES |= {name: name for name in CLASSES.values()}


def documented(tree: Tree) -> list[str]:
    """Folders as the manual describes them, by names alone."""
    found = {folder for base in DOCUMENTED for folder in tree.folders_with(CONFIG, base)}
    return sorted(it for it in found if is_upload_of_sae(tree, it))


def weight_file(tree: Tree, where: str) -> str:
    """The checkpoint, a file of the manual's names, or the only weight file: then its header tells.

    Raises NotThisFormat.
    """
    if where in tree.names and where.endswith((".safetensors", *DOCUMENTED)):
        return where
    if tree.has(where, CHECKPOINT):
        return inside(where, CHECKPOINT)
    for base in DOCUMENTED:
        if tree.has(where, CONFIG) and tree.has(where, base):
            return inside(where, base)
    bases = [it for it in tree.folders.get(where, ()) if it.endswith(".safetensors")]
    if len(bases) == 1:
        return inside(where, bases[0])
    raise NotThisFormat(f"It looks for `{CHECKPOINT}` with miStudio's tensor names.")


@dataclass(frozen=True)
class Beside:
    """The small file that belongs to the weights; of most checkpoints there is none."""

    config: Config = field(default_factory=lambda: Config("", {}))
    is_converted: bool = False

    @property
    def files(self) -> list[str]:
        return [self.config.name] if self.config.name else []

    @property
    def training(self) -> Config:
        return self.config.section("hyperparameters")

    @property
    def architecture(self) -> str | None:
        told = self.config.text("architecture") or self.training.text("architecture_type")
        if told is not None and told not in CLASSES:
            raise UnsupportedArchitecture(
                f"`{self.config.name}`: miStudio never had a class for a {told[:40]} SAE."
            )
        return told

    @property
    def is_topk(self) -> bool:
        """Told plainly, by the activation or by a k."""
        activations = [self.config.text(it) for it in ACTIVATIONS]
        return "topk" in activations or self.architecture == "topk" or self.k(1) is not None

    @property
    def is_second(self) -> bool:
        """Only generation 2 had these words."""
        return (self.architecture or "").startswith("standard_")

    def k(self, d_sae: int) -> int | None:
        """Generation 1 stated it in percent of all features."""
        for table in (self.config, self.training):
            k = table.whole("k") or table.whole("top_k")
            percent = table.number("top_k_sparsity")
            if k is not None or percent is not None:
                return k or of_percent(table, percent or 0, d_sae)
        return None

    def told(self, d_sae: int) -> dict[str, Any]:
        """Facts that describe or decide, where they are plainly there."""
        config = self.config
        hook = config.text("hook_name") or config.text("hook_point")
        layer = config.whole("layer", 0)
        return {
            "model_name": config.text("model_name") or config.text("model"),
            "hook_name": hook,
            "hook_type": site_of(hook or ""),
            "layer": hook_layer(hook or "") if layer is None else layer,
            "context_size": config.whole("context_size"),
            "dataset_path": config.text("dataset_path"),
            "normalize_activations": normalisation(config) or normalisation(self.training),
            "k": self.k(d_sae),
        }

    def check(self, dims: dict[str, int]) -> None:
        for key, name in (("d_in", "i"), ("d_sae", "s")):
            told = self.config.whole(key)
            if told is not None and told != dims[name]:
                raise BrokenFile(
                    f"`{self.config.name}`: {key} is {told:,}, the tensors say {dims[name]:,}."
                )


def read_beside(source: Source, file: str) -> Beside:
    folder, base = parent(file), file.rpartition("/")[2]
    if base in DOCUMENTED and source.tree.has(folder, CONFIG):
        return Beside(read_config(source, inside(folder, CONFIG)))
    if base == CHECKPOINT and source.tree.has(folder, METADATA):
        metadata = read_config(source, inside(folder, METADATA))
        if "original_format" in metadata:
            return Beside(metadata, is_converted=True)
    return Beside()


def of_percent(config: Config, percent: float, d_sae: int) -> int:
    if not 0 < percent <= 100:
        raise config.wrong("top_k_sparsity", "a percentage above zero")
    return max(1, int(percent / 100 * d_sae))


def normalisation(config: Config) -> str | None:
    told = config.text("normalize_activations")
    if ANTHROPIC in (config.text("architecture"), config.text("architecture_type")):
        return "constant_norm_rescale"  # whatever stands there: its class knew no other
    if told == "anthropic_rescale":  # the same arithmetic under another name
        return "constant_norm_rescale"
    if told is None or told in NORMALISATIONS:
        return told
    raise config.wrong("normalize_activations", "one of " + ", ".join(NORMALISATIONS))
