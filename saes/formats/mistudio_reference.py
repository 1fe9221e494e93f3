"""miStudio's forwards by their definitions, for the certificate. Files are read anew."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from saes import reference as plain
from saes.formats.architectures import TOPK
from saes.formats.base import Given, SaeInfo
from saes.formats.files.rereading import Reread, reopen
from saes.tensors import to_bits, to_floats


def native(checkpoint: Path, given: Given) -> plain.Plain:
    file, told = reopen(checkpoint), json.loads(checkpoint.with_name("metadata.json").read_text())
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
    if architecture in TOPK:
        keep = plain.abstopk if architecture == "abstopk" else plain.topk
        return keep(b_enc, facts["k"], norms)
    return plain.relu(b_enc)


def _native_threshold(file: Reread, told: dict[str, Any]) -> Any:
    if "model.threshold" in file.names:
        return file.vector("model.threshold")
    exact = np.exp(file.vector("model.activation.log_threshold"))
    dtype = told["tensors"]["threshold"]["dtype"]
    return to_floats(to_bits(exact, dtype), dtype)


def legacy(path: Path, info: SaeInfo, given: Given) -> plain.Plain:
    return _legacy(reopen(path), info, given)


def _legacy(file: Reread, info: SaeInfo, given: Given) -> plain.Plain:
    prefix = "model." if any(name.startswith("model.") for name in file.names) else ""
    names = {name.removeprefix(prefix) for name in file.names}
    if "activation.log_threshold" in names:
        return _jumprelu(file, prefix, info, given)
    encoder = file.matrix(f"{prefix}encoder.weight")
    has_decoder = "decoder.weight" in names
    decoder = file.matrix(f"{prefix}decoder.weight").transposed if has_decoder else encoder
    biases = [
        file.vector(prefix + name)
        for name in ("decoder_bias", "b_pre", "decoder.bias")
        if name in names
    ]
    b_dec = sum(biases[1:], biases[0])
    skips = "skip" in info.get("architecture")
    return plain.Plain(
        encoder=encoder.transposed,
        decoder=decoder,
        b_dec=b_dec,
        activation=_linear_activation(file.vector(f"{prefix}encoder.bias"), info),
        centre=given.get("apply_b_dec_to_input", _is_centred(names, info)),
        normalisation=info.get("normalize_activations"),
        centre_of_input=file.vector(f"{prefix}b_enc_center") if "b_enc_center" in names else None,
        residual=1.0 if skips else 0.0,
    )


def _linear_activation(b_enc: plain.Floats, info: SaeInfo) -> plain.Activation:
    is_topk = info.get("architecture") in TOPK
    return plain.topk(b_enc, info.get("k")) if is_topk else plain.relu(b_enc)


def _is_centred(names: set[str], info: SaeInfo) -> bool:
    """Generation 2 centres by decoder_bias, or by what it calls b_pre."""
    if "decoder.bias" in names:
        return False
    return "b_pre" in names or "decoder.weight" in names or info.get("generation") == 2


def _jumprelu(file: Reread, prefix: str, info: SaeInfo, given: Given) -> plain.Plain:
    encoder = file.matrix(f"{prefix}W_enc")
    tied = f"{prefix}W_dec" not in file.names
    threshold = np.exp(file.vector(f"{prefix}activation.log_threshold"))
    return plain.Plain(
        encoder=encoder.transposed,
        decoder=encoder if tied else file.matrix(f"{prefix}W_dec").transposed,
        b_dec=file.vector(f"{prefix}b_dec"),
        activation=plain.jumprelu(file.vector(f"{prefix}b_enc"), threshold),
        centre=given.get("apply_b_dec_to_input", info.get("generation") == 2),
        normalisation=info.get("normalize_activations"),
    )


def export(folder: Path, info: SaeInfo, given: Given) -> plain.Plain:
    """Standard names: the community export. Else the raw checkpoint under SAELens' file name."""
    file = reopen(folder / "sae_weights.safetensors")
    if "W_enc" not in file.names or "activation.log_threshold" in file.names:
        return _legacy(file, info, given)
    b_enc = file.vector("b_enc")
    activation = _linear_activation(b_enc, info)
    if "threshold" in file.names:
        activation = plain.jumprelu(b_enc, file.vector("threshold"))
    transcodes = info.get("architecture") in ("transcoder", "topk_transcoder")
    second = info.get("generation") == 2 and not transcodes
    return plain.Plain(
        encoder=file.matrix("W_enc"),
        decoder=file.matrix("W_dec"),
        b_dec=file.vector("b_dec"),
        activation=activation,
        centre=given.get("apply_b_dec_to_input", second),
        normalisation=info.get("normalize_activations"),
        residual=1.0 if "skip" in info.get("architecture") else 0.0,
    )
