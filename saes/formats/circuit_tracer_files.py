"""circuit-tracer's files: a layer's weights, config.yaml, and of some sets the run's wandb config.

config.yaml names hooks without their layer. batch_size of the wandb config is no context size,
though SAELens reads it as one.
"""

import re
from dataclasses import dataclass
from typing import Any

from saes.errors import BrokenFile, NotThisFormat
from saes.formats.base import Fact, Origin, Source, Tree, as_facts, inside, parent
from saes.formats.configs import Config, read_yaml
from saes.formats.files.containers import Container, read_safetensors

CONFIG, WANDB = "config.yaml", ("wandb-config.yaml", "wanb-config.yaml")  # both are out there
LOOKS_FOR = "`layer_N.safetensors` with `config.yaml` or `wandb-config.yaml`"
FOREIGN = ("cfg.json", "config.json", "hyperparams.json")
LAYER_FILE = re.compile(r"(?:^|/)layer_(\d{1,4})\.safetensors$")
NAMES = {name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")}
THRESHOLD = "activation_function.threshold"
OPTIONAL = {"W_skip": "W_skip", "threshold": THRESHOLD}
QWEN = re.compile(r"qwen3-(\d{1,3}(?:\.\d)?)b", re.I)


@dataclass(frozen=True)
class Layer:
    """One layer's file by its header, and the configurations beside it."""

    container: Container
    config: Config
    wandb: Config

    @property
    def is_configured(self) -> bool:
        return bool(self.config.name or self.wandb.name)

    @property
    def is_named(self) -> bool:
        """Names and configuration tell that circuit-tracer can read it."""
        named = LAYER_FILE.search(self.container.name) is not None
        kind = self.config.values.get("model_kind") == "transcoder_set"
        return self.is_configured and (named or kind)

    @property
    def is_square(self) -> bool:
        rows, columns = self.container.shapes["W_enc"]
        return rows == columns


def weight_file(tree: Tree, where: str) -> str:
    """The file itself, or the only weight file of a folder."""
    if where in tree.names:
        return where
    found = [it for it in tree.folders.get(where, ()) if it.endswith(".safetensors")]
    return inside(where, found[0]) if len(found) == 1 else where


def open_layer(source: Source, where: str) -> Layer:
    tree, file = source.tree, weight_file(source.tree, where)
    folder = parent(file)
    if file not in tree.names or not file.endswith(".safetensors"):
        raise NotThisFormat(f"It looks for {LOOKS_FOR}.")
    named = LAYER_FILE.search(file) and any(tree.has(folder, it) for it in (CONFIG, *WANDB))
    if not named and any(tree.has(folder, it) for it in FOREIGN):
        raise NotThisFormat("The configuration beside the file is not circuit-tracer's.")
    container = read_safetensors(source, file)
    _refuse_foreign(container, bool(named))
    return Layer(container, yaml_of(source, folder, CONFIG), yaml_of(source, folder, *WANDB))


def _refuse_foreign(container: Container, named: bool) -> None:
    """Without telling names the header must tell: exactly these tensors, and features first."""
    shapes, names = container.shapes, container.members.keys()
    known = {*NAMES, *OPTIONAL.values(), "k"}
    if named and names & {"W_enc", "W_dec"}:
        for name in sorted(NAMES.keys() - names):
            raise BrokenFile(f"`{container.name}` lacks the tensor {name}.")
    elif not NAMES.keys() <= names <= known or not _is_telling(container):
        raise NotThisFormat("Its tensors have not circuit-tracer's names and orientation.")
    if len(shapes["W_enc"]) != 2 or len(shapes["W_dec"]) != 2 or len(shapes["b_enc"]) != 1:
        raise BrokenFile(f"`{container.name}`: W_enc and W_dec should have two axes, b_enc one.")


def _is_telling(container: Container) -> bool:
    """Nobody else stores both matrices features first; of square ones the rest has to tell."""
    encoder, decoder, b_enc = (container.shapes[name] for name in ("W_enc", "W_dec", "b_enc"))
    if not encoder[:1] == decoder[:1] == b_enc:
        return False
    is_square = encoder == b_enc * 2
    return (
        not is_square or THRESHOLD in container.members or bool(LAYER_FILE.search(container.name))
    )


def yaml_of(source: Source, folder: str, *bases: str) -> Config:
    """The first of these files that is there; else an empty table without a name."""
    for base in bases:
        if source.tree.has(folder, base):
            return read_yaml(source, inside(folder, base))
    return Config("", {})


def told_by(config: Config, layer: int | None) -> dict[str, Fact]:
    read, written = config.text("feature_input_hook"), config.text("feature_output_hook")
    told = {"model_name": config.text("model_name"), **_hooks(layer, read, written)}
    return as_facts(Origin.FILE, told)


def published(repo_id: str | None, layer: int | None) -> dict[str, Fact]:
    """The sets for Qwen 3: not all have a config.yaml, but all read and write the same hooks."""
    found = QWEN.search((repo_id or "").rpartition("/")[2])
    if found is None:
        return {}
    alike = (repo_id or "").startswith("mwhanna/")
    hooks = _hooks(layer, "mlp.hook_in", "hook_mlp_out") if alike else {}
    model = as_facts(Origin.PATH, {"model_name": f"Qwen/Qwen3-{found[1]}B"})
    return {**model, **as_facts(Origin.CATALOGUE, hooks)}


def _hooks(layer: int | None, read: str | None, written: str | None) -> dict[str, str | None]:
    if layer is None:
        return {}
    return {
        "hook_name": read and f"blocks.{layer}.{read}",
        "hook_name_out": written and f"blocks.{layer}.{written}",
    }


def check_widths(wandb: Config, dims: dict[str, Any]) -> None:
    for key, name in (("d_model", "d_in"), ("d_feature", "d_sae")):
        told = wandb.section(key).whole("value")
        if told is not None and told != dims[name]:
            raise BrokenFile(f"`{wandb.name}`: {key} is {told:,}, the tensors say {dims[name]:,}.")
