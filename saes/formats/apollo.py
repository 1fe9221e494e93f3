"""Apollo Research's end-to-end SAEs: X.pt with X.yaml, or a checkpoint of training.

The decoder's columns count with length one, whatever their length in the file: published files hold
them so, checkpoints do not. A checkpoint may hold the SAEs of several hooks.
"""

import re
from collections import defaultdict
from dataclasses import replace
from typing import ClassVar

import numpy as np

from saes.errors import BadFact, MissingFact, NotThisFormat
from saes.formats.base import (
    Facts,
    Folder,
    Given,
    Origin,
    SaeInfo,
    Source,
    Tree,
    as_facts,
    inside,
    parent,
)
from saes.formats.configs import Config, read_yaml
from saes.formats.family import Family, Layout, Reading, Tensors, dimensions
from saes.formats.files.containers import Container, Member, broken
from saes.formats.files.rereading import Reread, reopen
from saes.formats.names import hook_layer, site_of
from saes.formats.single import TORCH, is_leftover, opened, stated
from saes.reference import Plain, Reference, relu
from saes.tensors import row_norms

CONFIG = "final_config.yaml"
DECODER = {"W_dec": "decoder.weight", "b_dec": "decoder.bias"}
TURNED = ("W_enc", "W_dec")
PUBLISHED = Layout({**DECODER, "W_enc": "encoder.weight", "b_enc": "encoder.bias"}, TURNED)
TRAINED = Layout({**DECODER, "W_enc": "encoder.0.weight", "b_enc": "encoder.0.bias"}, TURNED)
HOOKED = re.compile(r"((?:saes\.)?((?:blocks-|hook_)[^.]+)\.)(.+)")
UNIT = 5e-7  # a column of length one, rounded to float32, is within this of it
MAX_HOOK = 300
LEAST_NORM = 1e-12  # as in torch.nn.functional.normalize
SEMANTICS = {
    "architecture": "standard",
    "apply_b_dec_to_input": False,
    "normalize_activations": "none",
    "reshape_activations": "none",
}


class Apollo(Family):
    slug: ClassVar[str] = "apollo"
    label: ClassVar[str] = "Apollo end-to-end"
    looks_for: ClassVar[str] = f"`X.pt` with `X.yaml` or `{CONFIG}` beside it"

    def find(self, tree: Tree) -> list[str]:
        return sorted(
            name for name in tree.names if _config_name(tree, name) and not is_leftover(name)
        )

    def files(self, tree: Tree, where: str) -> list[str]:
        config = _config_name(tree, where)
        return [where, config] if config else [where]

    def read(self, source: Source, where: str, given: Given) -> Reading:
        container = opened(source, where, self.looks_for)
        saes, config = _saes(container), _config(source, where)
        if set(saes) == {""} and not (config and _is_theirs(container)):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        hook = _chosen(where, sorted(saes), given)
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.CATALOGUE, SEMANTICS),
            **(_told(config) if config else {}),
        }
        files = self.files(source.tree, where)
        if hook is None:
            asked = (_which(sorted(saes)),)
            unread = SaeInfo(self.slug, where, facts, container.specs, files, asked)
            return Reading(unread, lambda folder: {})
        sae = saes[hook]
        layout = TRAINED if TRAINED.knows(sae) else PUBLISHED
        found = dimensions(where, layout.shapes(sae), "standard")
        facts |= _of_hook(hook)
        facts |= as_facts(Origin.FILE, {**found, "dtype": layout.dtype(sae)})
        info = SaeInfo(self.slug, where, stated(where, facts, given), sae.specs, files)
        return Reading(info, lambda folder: _unit(layout.tensors(folder, sae)))

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        """relu(encoder(x)), then the decoder with each of its columns divided by its length."""
        info = self.probe(source, where, given)
        arrays = reopen(source.path(where))
        prefix = _prefix(arrays, info.get("hook_name"))
        encoder = prefix + (
            "encoder.0" if f"{prefix}encoder.0.weight" in arrays.names else "encoder"
        )
        decoder = arrays.matrix(f"{prefix}decoder.weight").transposed
        return Plain(
            encoder=arrays.matrix(f"{encoder}.weight").transposed,
            decoder=decoder,
            b_dec=arrays.vector(f"{prefix}decoder.bias"),
            activation=relu(arrays.vector(f"{encoder}.bias")),
            centre=info.get("apply_b_dec_to_input"),
            normalisation=info.get("normalize_activations"),
            weights=1 / np.maximum(decoder.row_norms(), LEAST_NORM),
        )


def _config_name(tree: Tree, where: str) -> str | None:
    if not where.endswith(TORCH) or where not in tree.names:
        return None
    own, shared = f"{where.rpartition('.')[0]}.yaml", inside(parent(where), CONFIG)
    return next((name for name in (own, shared) if name in tree.names), None)


def _config(source: Source, where: str) -> Config | None:
    """The configuration, if it is one of a training run of theirs."""
    name = _config_name(source.tree, where)
    if name is None:
        return None
    # wandb wraps each value into a table with its description.
    plain = {
        key: it["value"] if isinstance(it, dict) and "value" in it else it
        for key, it in read_yaml(source, name).values.items()
    }
    return Config(name, plain) if {"saes", "tlens_model_name"} <= plain.keys() else None


def _saes(container: Container) -> dict[str, Container]:
    """Hook -> the part of a checkpoint that is its SAE; "" for what has no hook in its names."""
    parts = defaultdict[str, dict[str, Member]](dict)
    for name, member in container.members.items():
        found = HOOKED.fullmatch(name)
        hook, rest = (found[2].replace("-", "."), found[3]) if found else ("", name)
        parts[hook][rest] = member
    if len(parts) > 1 and "" in parts:
        raise broken(container.name, f"holds the unknown tensor {min(parts[''])[:100]}")
    return {hook: replace(container, members=members) for hook, members in parts.items()}


def _is_theirs(container: Container) -> bool:
    return PUBLISHED.knows(container) or TRAINED.knows(container)


def _chosen(where: str, hooks: list[str], given: Given) -> str | None:
    if len(hooks) == 1:
        return hooks[0]
    hook = given.get("hook_name")
    if hook is not None and hook not in hooks:
        raise BadFact(f"`{where}` holds no SAE of the hook {hook[:100]}.")
    return hook


def _which(hooks: list[str]) -> MissingFact:
    readings = {hook: f"the SAE of {hook}" for hook in hooks}
    return MissingFact("hook_name", "The file holds several SAEs. Which one?", readings)


def _prefix(arrays: Reread, hook: str | None) -> str:
    """What stands before `encoder` in the names of this hook's tensors."""
    found = {it[1]: it[2] for name in arrays.names if (it := HOOKED.fullmatch(name))}
    of_hook = [it for it, key in found.items() if key.replace("-", ".") == hook]
    return of_hook[0] if len(found) > 1 else next(iter(found), "")


def _told(config: Config) -> Facts:
    positions = config.section("saes").values.get("sae_positions")
    hooks = positions if isinstance(positions, list) else [positions]
    data = config.section("train_data")
    told = {
        "model_name": config.text("tlens_model_name"),
        "dataset_path": data.text("dataset_name"),
        "context_size": data.whole("n_ctx"),
    }
    one = hooks[0] if len(hooks) == 1 else None
    known = _of_hook(one) if isinstance(one, str) and len(one) <= MAX_HOOK else {}
    return {**as_facts(Origin.FILE, told), **known}


def _of_hook(hook: str) -> Facts:
    """Of a whole hook's name; a configuration may also give a part of several names."""
    if hook_layer(hook) is None and hook != "hook_embed":
        return {}
    told = {"hook_name": hook, "layer": hook_layer(hook), "hook_type": site_of(hook)}
    return as_facts(Origin.FILE, told)


def _unit(tensors: Tensors) -> Tensors:
    """Divided by their lengths, unless they were when they were saved: then not a bit changes."""
    norms = row_norms(tensors["W_dec"])
    if (np.abs(norms - 1) <= UNIT).all():
        return tensors
    return {**tensors, "W_dec": tensors["W_dec"].scaled(1 / np.maximum(norms, LEAST_NORM))}
