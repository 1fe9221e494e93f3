"""Code that loads one SAE of the library, to copy. Every line of it runs as it stands."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings

from saes.formats.architectures import JUMPRELU, TOPK, is_transcoder, standard_shapes
from saes.models import Publication, Sae
from saes.storage import Library


@dataclass(frozen=True)
class Snippet:
    title: str
    note: str
    code: str


def snippets_for(sae: Sae) -> list[Snippet]:
    library = Library(settings.DATA_DIR)
    found = [_pytorch(sae, library.native(sae.id) / "checkpoint.safetensors")]
    if _saelens_reads(sae):
        if sae.placement != Sae.Placement.IN_PLACE:
            found.append(_from_disk(library.source(sae.id) / sae.where))
        # SAELens asks for folder/file.
        if sae.hf_repo_id and sae.hf_repo_type == "model" and sae.hf_filepath != ".":
            found.append(_from_hub(sae))
    return found


def _fact(sae: Sae, name: str) -> object:
    return sae.facts.get(name, {}).get("value")


# --- SAELens --------------------------------------------------------------------------------------


def _saelens_reads(sae: Sae) -> bool:
    """Released SAEs only: training checkpoints it reads wrongly, or not at all."""
    names = {tensor["name"] for tensor in sae.tensors}
    unfolded = _fact(sae, "norm_scaling_factor") is not None or "activation_scaler.json" in {
        Path(file.path).name for file in sae.files.all()
    }
    if sae.format != "saelens" or sae.given_facts.keys() & {"architecture", "k"} or unfolded:
        return False
    return names == set(standard_shapes(sae.architecture, 1, 1, 1))


def _from_disk(folder: Path) -> Snippet:
    return Snippet(
        "SAELens, from this disk",
        "Needs sae-lens 6 or newer. Reads the files as they came.",
        f"from sae_lens import SAE\n\nsae = SAE.load_from_disk({str(folder)!r})\n",
    )


def _from_hub(sae: Sae) -> Snippet:
    return Snippet(
        "SAELens, from the Hub",
        "Needs sae-lens 6 or newer. Downloads the newest version, not the commit that is here.",
        _pretrained(sae.hf_repo_id, sae.hf_filepath),
    )


def _pretrained(repo_id: str, folder: str) -> str:
    return (
        "from sae_lens import SAE\n\n"
        f"sae = SAE.from_pretrained(\n    release={repo_id!r},\n    sae_id={folder!r},\n)\n"
    )


def of_published(publication: Publication, folder: str) -> Snippet:
    """How one of its SAEs is loaded."""
    note = "Needs sae-lens 6 or newer."
    if publication.pull_request:
        note += " Works once the pull request is merged."
    if not publication.public:
        note += " The repository is private: log in first, with `hf auth login`."
    return Snippet("SAELens", note, _pretrained(publication.repo_id, folder))


# --- plain PyTorch --------------------------------------------------------------------------------


def _pytorch(sae: Sae, checkpoint: Path) -> Snippet:
    note = "Needs torch and safetensors only. Reads the converted file."
    if _fact(sae, "reshape_activations") == "hook_z":
        note += " x has its heads flattened: [batch, heads * d_head]."
    return Snippet("PyTorch", note, "\n".join(_lines(sae, checkpoint)) + "\n")


def _lines(sae: Sae, checkpoint: Path) -> Iterator[str]:
    yield from ("import torch", "from safetensors.torch import load_file", "")
    yield f"stored = load_file({str(checkpoint)!r})"
    if sae.architecture in JUMPRELU:
        yield 'if "model.activation.log_threshold" in stored:'
        yield '    stored["model.threshold"] = stored.pop("model.activation.log_threshold").exp()'
    yield 'w = {name.removeprefix("model."): tensor.float() for name, tensor in stored.items()}'
    yield 'W_enc, W_dec, b_dec = w["encoder.weight"].T, w["decoder.weight"].T, w["decoder_bias"]'
    if _rescales(sae):
        yield "norms = W_dec.norm(dim=1)"
    yield from ("", "", "def encode(x):  # [batch, d_in] -> [batch, d_sae]", *_encode(sae))
    arguments = "acts, x" if _decodes_with_input(sae) else "acts"
    yield from ("", "", f"def decode({arguments}):  # -> [batch, d_out]", *_decode(sae))
    yield from ("", "", f"x = torch.randn(4, {sae.d_in})  # activations of the model")
    yield from ("acts = encode(x)", f"output = decode({arguments})")


def _rescales(sae: Sae) -> bool:
    return sae.architecture in TOPK and _fact(sae, "rescale_acts_by_decoder_norm") is True


# Keyed by the fact normalize_activations; its other values change nothing when an SAE is used.
NORMALISED = {
    "constant_norm_rescale": "x * (x.shape[-1] ** 0.5 / x.norm(dim=-1, keepdim=True))",
    "layer_norm": "(x - x.mean(-1, keepdim=True)) / (x.std(-1, keepdim=True) + 1e-5)",
}
AS_BEFORE = {
    "constant_norm_rescale": "out * (x.norm(dim=-1, keepdim=True) / x.shape[-1] ** 0.5)",
    "layer_norm": "out * x.std(-1, keepdim=True) + x.mean(-1, keepdim=True)",
}


def _encode(sae: Sae) -> Iterator[str]:
    if normalised := NORMALISED.get(str(_fact(sae, "normalize_activations"))):
        yield f"    x = {normalised}"
    if _fact(sae, "apply_b_dec_to_input") is True:
        yield "    x = x - b_dec"
    if sae.architecture == "gated":
        yield '    gate = x @ W_enc + w["gate_bias"] > 0'
        yield '    return gate * torch.relu(x @ W_enc * w["r_mag"].exp() + w["mag_bias"])'
    else:
        before = 'x @ W_enc + w["encoder.bias"]'
        yield f"    before = {f'({before}) * norms' if _rescales(sae) else before}"
        yield from _activate(sae)


def _activate(sae: Sae) -> Iterator[str]:
    if sae.architecture in JUMPRELU:
        yield '    return torch.relu(before) * (before > w["threshold"])'
    elif sae.architecture in TOPK and sae.architecture != "abstopk":
        yield f"    kept = before.topk({_fact(sae, 'k')}, dim=-1)"
        yield "    return torch.zeros_like(before).scatter(-1, kept.indices, kept.values.relu())"
    elif sae.architecture == "abstopk":
        yield f"    kept = before.abs().topk({_fact(sae, 'k')}, dim=-1).indices"
        yield "    return torch.zeros_like(before).scatter(-1, kept, before.gather(-1, kept))"
    else:
        yield "    return torch.relu(before)"


def _decodes_with_input(sae: Sae) -> bool:
    return bool(_as_before(sae)) or "skip" in sae.architecture


def _as_before(sae: Sae) -> str | None:
    """What undoes the normalisation; a transcoder's output was never normalised."""
    if is_transcoder(sae.architecture):
        return None
    return AS_BEFORE.get(str(_fact(sae, "normalize_activations")))


def _decode(sae: Sae) -> Iterator[str]:
    norms = " / norms" if _rescales(sae) else ""
    yield f"    out = acts{norms} @ W_dec + b_dec"
    if as_before := _as_before(sae):
        yield f"    out = {as_before}"
    if "skip" in sae.architecture:
        yield '    out = out + x @ w["skip.weight"].T'
    yield "    return out"
