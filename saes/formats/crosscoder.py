"""Crosscoders: matrices of three axes, one of which counts the models or layers they read.

No single activation gives their features, so they are recognised, described and kept as they came.
"""

from typing import ClassVar

from saes.errors import NotThisFormat, UnsupportedArchitecture
from saes.formats.architectures import NOT_PLAIN
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts, inside
from saes.formats.configs import Config, read_config
from saes.formats.family import Family, Layout, Reading
from saes.formats.files.containers import Container, broken
from saes.formats.names import hook_layer, site_of
from saes.formats.single import opened, stated
from saes.reference import Reference

WEIGHTS, CONFIG = "cc_weights.pt", "cfg.json"
COMMUNITY = Layout({name: name for name in ("W_enc", "b_enc", "W_dec", "b_dec")})
LINEAR = Layout(
    {
        "W_enc": "encoder.weight",
        "b_enc": "encoder.bias",
        "W_dec": "decoder.weight",
        "b_dec": "decoder.bias",
    }
)


class Crosscoder(Family):
    slug: ClassVar[str] = "crosscoder"
    label: ClassVar[str] = "Crosscoder"
    looks_for: ClassVar[str] = "`cc_weights.pt` with `cfg.json`, or matrices of three axes"

    def find(self, tree: Tree) -> list[str]:
        return tree.folders_with(WEIGHTS, CONFIG)

    def files(self, tree: Tree, where: str) -> list[str]:
        if where in tree.names:
            return [where]
        return [inside(where, it) for it in (WEIGHTS, CONFIG) if tree.has(where, it)]

    def read(self, source: Source, where: str, given: Given) -> Reading:
        files = self.files(source.tree, where)
        if not files or files[0].endswith(CONFIG):
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        container = opened(source, files[0], self.looks_for)
        layout = next((it for it in (COMMUNITY, LINEAR) if it.knows(container)), None)
        if layout is None or len(container.shapes[layout.names["W_enc"]]) != 3:
            raise NotThisFormat(f"It looks for {self.looks_for}.")
        config = read_config(source, files[1]) if files[1:] else Config(where, {})
        facts = {
            **self.hints(source.tree, where),
            **_told(config),
            **as_facts(Origin.FILE, _sizes(container, layout)),
            **as_facts(Origin.FILE, {"dtype": layout.dtype(container)}),
        }
        _check_sizes(config, facts)
        info = SaeInfo(self.slug, where, stated(where, facts, given), container.specs, files)
        return Reading(info, lambda folder: {})

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        raise UnsupportedArchitecture(f"`{where}` is no plain SAE: {NOT_PLAIN['crosscoder']}.")


def _sizes(container: Container, layout: Layout) -> dict[str, str | int]:
    """W_enc [n, d_in, d_sae]; W_dec [d_sae, n, d_in], or [n, d_sae, d_in] of linear layers."""
    shapes = layout.shapes(container)
    n, d_in, d_sae = shapes["W_enc"]
    decoder = (d_sae, n, d_in) if layout is COMMUNITY else (n, d_sae, d_in)
    wanted = {"W_dec": decoder, "b_enc": (d_sae,), "b_dec": (n, d_in)}
    for name, shape in wanted.items():
        if shapes[name] != shape or 0 in shape:
            raise broken(container.name, f"has a crosscoder's {name} of the wrong shape")
    sizes = {"d_in": d_in, "d_sae": d_sae, "d_out": d_in, "n_sources": n}
    return {"architecture": "crosscoder", **sizes}


def _told(config: Config) -> Facts:
    hook = config.text("hook_point") or config.text("hook_name")
    told = {
        "model_name": config.text("model_name"),
        "hook_name": hook,
        "hook_type": site_of(hook) if hook else None,
        "layer": hook_layer(hook) if hook else config.whole("layer", least=0),
        "context_size": config.whole("seq_len"),
    }
    return as_facts(Origin.FILE, told)


def _check_sizes(config: Config, facts: Facts) -> None:
    for key, fact in (("d_in", "d_in"), ("dict_size", "d_sae")):
        told = config.whole(key)
        if told not in (None, facts[fact].value):
            raise broken(
                config.name, f"says that {key} is {told}, the weights have {facts[fact].value}"
            )
