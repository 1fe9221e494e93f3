"""miStudio's forwards by their definitions, for the certificate. Files are read anew."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from saes import reference as plain
from saes.formats.base import Given
from saes.formats.rereading import Reread, reopen
from saes.tensors import to_bits, to_floats


def forward(folder: Path, given: Given) -> plain.Plain:
    checkpoint = folder / "checkpoint.safetensors"
    metadata = folder / "metadata.json"
    if not checkpoint.exists():
        return _export(folder, given)
    told = json.loads(metadata.read_text()) if metadata.exists() else {}
    if told.get("format") == "mistudio":
        return _native(reopen(checkpoint), told, given)
    return _legacy(reopen(checkpoint), given)


def _native(file: Reread, told: dict[str, Any], given: Given) -> plain.Plain:
    facts = {**{name: fact["value"] for name, fact in told["facts"].items()}, **given}
    decoder = file.matrix("model.decoder.weight").transposed
    rescaled = facts.get("rescale_acts_by_decoder_norm")
    norms: Any = decoder.row_norms() if rescaled else 1.0
    skip = (
        file.matrix("model.skip.weight").transposed if "model.skip.weight" in file.names else None
    )
    return plain.Plain(
        encoder=file.matrix("model.encoder.weight").transposed,
        decoder=decoder,
        b_dec=file.vector("model.decoder_bias"),
        activation=_native_activation(file, told, facts, norms),
        centre=facts["apply_b_dec_to_input"],
        normalisation=facts["normalize_activations"],
        weights=plain.inverse(norms) if rescaled else None,
        skip=skip,
        transcodes="transcoder" in facts["architecture"],
    )


def _native_activation(
    file: Reread, told: dict[str, Any], facts: Any, norms: Any
) -> plain.Activation:
    architecture = facts["architecture"]
    if architecture == "gated":
        return plain.gated(
            *(file.vector(f"model.{name}") for name in ("gate_bias", "mag_bias", "r_mag"))
        )
    b_enc = file.vector("model.encoder.bias")
    if architecture.startswith("jumprelu"):
        return plain.jumprelu(b_enc, _native_threshold(file, told))
    if architecture in ("topk", "abstopk"):
        return (plain.topk if architecture == "topk" else plain.abstopk)(b_enc, facts["k"], norms)
    return plain.relu(b_enc)


def _native_threshold(file: Reread, told: dict[str, Any]) -> Any:
    if "model.threshold" in file.names:
        return file.vector("model.threshold")
    exact = np.exp(file.vector("model.activation.log_threshold"))
    dtype = told["tensors"]["threshold"]["dtype"]
    return to_floats(to_bits(exact, dtype), dtype)


def _legacy(file: Reread, given: Given) -> plain.Plain:
    prefix = "model." if any(name.startswith("model.") for name in file.names) else ""
    names = {name.removeprefix(prefix) for name in file.names}
    if "activation.log_threshold" in names:
        return _jumprelu(file, prefix, given)
    encoder = file.matrix(f"{prefix}encoder.weight")
    has_decoder = "decoder.weight" in names
    decoder = file.matrix(f"{prefix}decoder.weight").transposed if has_decoder else encoder
    biases = [
        file.vector(prefix + name)
        for name in ("decoder_bias", "b_pre", "decoder.bias")
        if name in names
    ]
    b_dec = sum(biases[1:], biases[0])
    b_enc = file.vector(f"{prefix}encoder.bias")
    centred = "b_pre" in names or ("decoder_bias" in names and _generation(names, given) == 2)
    skips = file.metadata.get("architecture") == "SkipAutoencoder"
    return plain.Plain(
        encoder=encoder.transposed,
        decoder=decoder,
        b_dec=b_dec,
        activation=plain.topk(b_enc, given["k"]) if given.get("k") else plain.relu(b_enc),
        centre=given.get("apply_b_dec_to_input", centred),
        normalisation=given.get("normalize_activations", "none"),
        centre_of_input=file.vector(f"{prefix}b_enc_center") if "b_enc_center" in names else None,
        residual=1.0 if skips else 0.0,
    )


def _generation(names: set[str], given: Given) -> int:
    if "decoder.bias" in names:
        return 1
    return 2 if "decoder.weight" in names else int(given["generation"])


def _jumprelu(file: Reread, prefix: str, given: Given) -> plain.Plain:
    encoder = file.matrix(f"{prefix}W_enc")
    tied = f"{prefix}W_dec" not in file.names
    threshold = np.exp(file.vector(f"{prefix}activation.log_threshold"))
    return plain.Plain(
        encoder=encoder.transposed,
        decoder=encoder if tied else file.matrix(f"{prefix}W_dec").transposed,
        b_dec=file.vector(f"{prefix}b_dec"),
        activation=plain.jumprelu(file.vector(f"{prefix}b_enc"), threshold),
        centre=given.get("apply_b_dec_to_input", int(given["generation"]) == 2),
        normalisation=given["normalize_activations"],
    )


def _export(folder: Path, given: Given) -> plain.Plain:
    """Standard names: the community export. Else the raw checkpoint under SAELens' file name."""
    file = reopen(folder / "sae_weights.safetensors")
    if "W_enc" not in file.names:
        return _legacy(file, given)
    cfg = json.loads((folder / "cfg.json").read_text())
    extra = cfg.get("extra_metadata") or {}
    later = (
        "top_k" in extra
        or cfg["architecture"].startswith("standard_")
        or given.get("generation") == 2
    )
    b_enc = file.vector("b_enc")
    k = given.get("k") or extra.get("top_k")
    if not k and extra.get("top_k_sparsity"):
        k = max(1, int(extra["top_k_sparsity"] / 100 * len(b_enc)))
    activation = plain.topk(b_enc, k) if k and "threshold" not in file.names else plain.relu(b_enc)
    if "threshold" in file.names:
        activation = plain.jumprelu(b_enc, file.vector("threshold"))
    normalisation = given.get("normalize_activations") or cfg.get("normalize_activations")
    rescaled = normalisation in ("constant_norm_rescale", "anthropic_rescale")
    return plain.Plain(
        encoder=file.matrix("W_enc"),
        decoder=file.matrix("W_dec"),
        b_dec=file.vector("b_dec"),
        activation=activation,
        centre=given.get("apply_b_dec_to_input", later),
        normalisation="constant_norm_rescale" if rescaled else "none",
    )
