"""OpenAI's GPT-2 SAEs: one PyTorch file for each layer, whose activation is told inside it.

Two things that no key says: an activation TopK implies layer norm, and an absent one is ReLU.
"""

import re
from typing import Any, ClassVar

from saes.errors import BrokenFile, UnsupportedArchitecture
from saes.formats.base import Facts, Folder, Given, Origin, SaeInfo, Source, Tree, as_facts
from saes.formats.family import Family, Layout, Reading, dimensions
from saes.formats.files.containers import Container
from saes.formats.files.rereading import reopen
from saes.formats.given import refuse_not_plain
from saes.formats.single import activation_of, opened, stated
from saes.reference import Plain, Reference

NAMES = {"W_enc": "encoder.weight", "b_enc": "latent_bias", "b_dec": "pre_bias"}
LAYOUT = Layout({**NAMES, "W_dec": "decoder.weight"}, turned=("W_enc", "W_dec"))
# A tied decoder is the encoder once more: [d_sae, d_in], as a decoder should be.
TIED_DECODER = "decoder.linear.weight"
TIED = Layout({**NAMES, "W_dec": TIED_DECODER}, turned=("W_enc",))
# Statistics of training, which no forward uses.
BUFFERS = ("stats_last_nonzero", "latents_activation_frequency", "latents_mean_square")
STATE = "activation_state_dict"
OBJECTS = {"activation", STATE, f"{STATE}.k", f"{STATE}.postact_fn"}
FILE = re.compile(r"(?:^|/)autoencoders/(\d+)\.pt$")
HOOKS = {
    "resid_post_mlp": ("blocks.{}.hook_resid_post", "residual"),
    "resid_post_attn": ("blocks.{}.hook_resid_mid", "residual"),
    "resid_delta_mlp": ("blocks.{}.hook_mlp_out", "mlp"),
    "resid_delta_attn": ("blocks.{}.hook_attn_out", "attention"),
    "mlp_post_act": ("blocks.{}.mlp.hook_post", "mlp"),
}
GPT2 = re.compile(r"gpt-?2", re.I)
SEMANTICS = {"apply_b_dec_to_input": True, "reshape_activations": "none"}
TRAINING = {"context_size": 64, "prepend_bos": False}


class OpenAi(Family):
    slug: ClassVar[str] = "openai"
    label: ClassVar[str] = "OpenAI (sparse_autoencoder)"
    looks_for: ClassVar[str] = "`autoencoders/N.pt` with `pre_bias` and `latent_bias`"

    def find(self, tree: Tree) -> list[str]:
        return sorted(name for name in tree.names if FILE.search(name))

    def files(self, tree: Tree, where: str) -> list[str]:
        return [where]

    def hints(self, tree: Tree, where: str) -> Facts:
        return {**super().hints(tree, where), **_named(f"{tree.repo_id or ''}/{where}")}

    def read(self, source: Source, where: str, given: Given) -> Reading:
        container = opened(source, where, self.looks_for, *NAMES.values())
        layout = TIED if TIED_DECODER in container.members else LAYOUT
        shapes = layout.shapes(container, without=BUFFERS)
        found = dimensions(container.name, shapes, "standard")
        facts = {
            **self.hints(source.tree, where),
            **as_facts(Origin.CATALOGUE, SEMANTICS),
            **as_facts(Origin.FILE, {**found, "dtype": layout.dtype(container)}),
            **as_facts(Origin.FILE, _activation(container)),
        }
        info = SaeInfo(self.slug, where, stated(where, facts, given), container.specs, [where])
        return Reading(info, lambda folder: layout.tensors(folder, container))

    def reference(self, source: Folder, where: str, given: Given) -> Reference:
        """Layer norm if TopK; activation(encoder(x - pre_bias) + latent_bias); and back."""
        info = self.probe(source, where, given)
        refuse_not_plain(info)
        arrays = reopen(source.path(where))
        tied = "decoder.weight" not in arrays.names
        encoder = arrays.matrix("encoder.weight")
        return Plain(
            encoder=encoder.transposed,
            decoder=encoder if tied else arrays.matrix("decoder.weight").transposed,
            b_dec=arrays.vector("pre_bias"),
            activation=activation_of(info, arrays.vector("latent_bias")),
            centre=info.get("apply_b_dec_to_input"),
            normalisation=info.get("normalize_activations"),
        )


def _activation(container: Container) -> dict[str, Any]:
    objects = container.objects
    for name in sorted(objects.keys() - OBJECTS):
        raise BrokenFile(f"`{container.name}` holds the unknown value {name[:100]}.")
    activation = objects.get("activation", "ReLU")
    if activation == "ReLU":
        return {"architecture": "standard", "normalize_activations": "none"}
    if activation != "TopK":
        raise UnsupportedArchitecture(
            f"`{container.name}`: the activation {str(activation)[:50]} is neither ReLU nor TopK."
        )
    k, after = objects.get(f"{STATE}.k"), objects.get(f"{STATE}.postact_fn")
    if type(k) is not int or after not in ("ReLU", "Identity"):
        raise BrokenFile(
            f"`{container.name}`: {STATE} should tell k and postact_fn (ReLU or Identity)."
        )
    architecture = "topk" if after == "ReLU" else "signed_topk"
    return {"architecture": architecture, "k": k, "normalize_activations": "layer_norm"}


def _named(path: str) -> Facts:
    """Site and layer as OpenAI's folders tell them, and what is known of its GPT-2 SAEs."""
    number, gpt2 = FILE.search(path), GPT2.search(path)
    hook, site = next((it for name, it in HOOKS.items() if name in path), (None, None))
    told = {
        "layer": int(number[1]) if number else None,
        "hook_type": site,
        "hook_name": hook.format(number[1]) if hook and number else None,
        "model_name": "gpt2-small" if gpt2 else None,
    }
    return {**as_facts(Origin.PATH, told), **as_facts(Origin.CATALOGUE, TRAINING if gpt2 else {})}
