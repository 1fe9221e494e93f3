"""SAELens' forward by its definition, for the certificate. cfg.json is read anew, on purpose."""

import json
from pathlib import Path
from typing import Any

from saes import reference as plain
from saes.formats.base import Given


def forward(folder: Path, given: Given) -> plain.Plain:
    cfg = {**_cfg(folder), **given}
    file = plain.SafetensorsFile(folder / "sae_weights.safetensors")
    encoder, decoder = file.matrix("W_enc"), file.matrix("W_dec")
    factor = _factor(folder, cfg)
    if cfg["architecture"].endswith("batchtopk"):
        return _batch_topk(file, cfg, factor)
    norms: Any = 1.0
    weights: Any = None
    if cfg.get("rescale_acts_by_decoder_norm"):
        norms = decoder.row_norms() / factor
        weights = plain.inverse(norms)
    if "scaling_factor" in file.names:
        weights = file.vector("scaling_factor")
    return plain.Plain(
        encoder=encoder,
        decoder=decoder,
        b_dec=file.vector("b_dec"),
        activation=_activation(file, cfg, norms),
        centre=cfg.get("apply_b_dec_to_input", "transcoder" not in cfg["architecture"]),
        normalisation=cfg.get("normalize_activations") or "none",
        weights=weights,
        skip=file.matrix("W_skip").transposed if "W_skip" in file.names else None,
        input_factor=factor,
        output_factor=1 / factor,
        transcodes="transcoder" in cfg["architecture"],
    )


def _cfg(folder: Path) -> dict[str, Any]:
    cfg: dict[str, Any] = json.loads((folder / "cfg.json").read_text())
    version = str(
        (cfg.get("metadata") or {}).get("sae_lens_version") or cfg.get("sae_lens_version") or "0"
    )
    if int(version.split(".", maxsplit=1)[0]) >= 6:
        return cfg
    arguments = cfg.get("activation_fn_kwargs") or {}
    if "topk" in (cfg.get("activation_fn"), cfg.get("activation_fn_str")):
        cfg |= {"architecture": "topk"}
    if "k" in arguments:
        cfg["k"] = arguments["k"]
    if cfg.get("normalize_activations") is True:
        cfg["normalize_activations"] = "expected_average_only_in"
    return {"architecture": "standard", **cfg}


def _factor(folder: Path, cfg: dict[str, Any]) -> float:
    """Training fed x times this; the SAE itself never sees it."""
    if cfg.get("normalize_activations") != "expected_average_only_in":
        return 1.0
    if cfg.get("norm_scaling_factor"):
        return float(cfg["norm_scaling_factor"])
    scaler = folder / "activation_scaler.json"
    told = json.loads(scaler.read_text()).get("scaling_factor") if scaler.exists() else None
    return float(told or 1.0)


def _activation(file: plain.SafetensorsFile, cfg: dict[str, Any], norms: Any) -> plain.Activation:
    architecture = cfg["architecture"]
    if architecture == "gated":
        return plain.gated(*(file.vector(name) for name in ("b_gate", "b_mag", "r_mag")))
    b_enc = file.vector("b_enc")
    if architecture.startswith("jumprelu"):
        return plain.jumprelu(b_enc, _threshold(file))
    if architecture == "topk":
        return plain.topk(b_enc, cfg["k"], norms)
    if architecture == "abstopk":
        return plain.abstopk(b_enc, cfg["k"], norms)
    return plain.relu(b_enc)


def _threshold(file: plain.SafetensorsFile) -> Any:
    return (
        file.vector("threshold")
        if "threshold" in file.names
        else file.vector("log_threshold").exp()
    )


def _batch_topk(file: plain.SafetensorsFile, cfg: dict[str, Any], factor: float) -> plain.Plain:
    """At inference one threshold for all, over activations weighed by their decoder norms."""
    norms: Any = 1.0
    weights: Any = None
    if cfg.get("rescale_acts_by_decoder_norm", True):
        norms = file.matrix("W_dec").row_norms()
        weights = plain.inverse(norms)
    threshold, b_enc = file.vector("topk_threshold"), file.vector("b_enc")

    def activate(product: Any) -> Any:
        before = (product + b_enc) * norms
        return before.relu() * (before > threshold)

    return plain.Plain(
        encoder=file.matrix("W_enc"),
        decoder=file.matrix("W_dec"),
        b_dec=file.vector("b_dec"),
        activation=activate,
        centre=cfg.get("apply_b_dec_to_input", True),
        weights=weights,
        input_factor=factor,
        output_factor=1 / factor,
    )
