"""SAELens' forward by its definition, for the certificate. cfg.json is read anew, on purpose."""

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from saes import reference as plain
from saes.errors import UnsupportedArchitecture
from saes.formats.base import Given
from saes.formats.files.rereading import Reread, reopen
from saes.reference import Floats, Tick


def forward(folder: Path, given: Given) -> plain.Reference:
    cfg = _cfg(folder)
    if cfg.get("architecture", "").endswith("batchtopk"):  # only its released form can be stated
        given = {name: value for name, value in given.items() if name != "architecture"}
    cfg |= given
    if cfg["architecture"] in ("temporal", "matching_pursuit"):
        raise UnsupportedArchitecture(f"A {cfg['architecture']} SAE has no plain forward.")
    file, factor = reopen(folder / "sae_weights.safetensors"), _factor(folder, cfg)
    sae = _plain(file, cfg, factor)
    whitening = folder / "activation_whitening.safetensors"
    if cfg.get("normalize_activations") == "covariance_whitening" and whitening.exists():
        return Whitened(sae, reopen(whitening))
    return sae


def _plain(file: Reread, cfg: dict[str, Any], factor: float) -> plain.Plain:
    norms, weights = _norms(file, cfg, factor)
    if cfg.get("finetuning_scaling_factor") and "scaling_factor" in file.names:
        weights = file.vector("scaling_factor")
    return plain.Plain(
        encoder=file.matrix("W_enc"),
        decoder=file.matrix("W_dec"),
        b_dec=file.vector("b_dec"),
        activation=_activation(file, cfg, norms, factor),
        centre=cfg.get("apply_b_dec_to_input", "transcoder" not in cfg["architecture"]),
        normalisation=cfg.get("normalize_activations") or "none",
        weights=weights,
        skip=file.matrix("W_skip").transposed if "W_skip" in file.names else None,
        input_factor=factor,
        output_factor=1 / factor,
        transcodes="transcoder" in cfg["architecture"],
    )


def _cfg(folder: Path) -> dict[str, Any]:
    read: dict[str, Any] = json.loads((folder / "cfg.json").read_text())
    cfg = {key: value for key, value in read.items() if value is not None}
    version = str(
        cfg.get("sae_lens_version") or (cfg.get("metadata") or {}).get("sae_lens_version") or "0"
    )
    major = re.match(r"(\d+)\.", version)
    if major and int(major[1]) >= 6:
        return cfg
    arguments = cfg.get("activation_fn_kwargs") or {}
    if "topk" in (cfg.get("activation_fn"), cfg.get("activation_fn_str")):
        cfg |= {"architecture": "topk"}
    if arguments.get("k") and (cfg.get("architecture") != "abstopk" or not cfg.get("k")):
        cfg["k"] = arguments["k"]
    if cfg.get("normalize_activations") is True:
        cfg["normalize_activations"] = "expected_average_only_in"
    return {**cfg, "architecture": cfg.get("architecture") or "standard"}


def _factor(folder: Path, cfg: dict[str, Any]) -> float:
    """Training fed x times this; the SAE itself never sees it."""
    if cfg.get("normalize_activations") != "expected_average_only_in":
        return 1.0
    if cfg.get("norm_scaling_factor"):
        return float(cfg["norm_scaling_factor"])
    scaler = folder / "activation_scaler.json"
    told = json.loads(scaler.read_text()).get("scaling_factor") if scaler.exists() else None
    return float(told or 1.0)


def _norms(file: Reread, cfg: dict[str, Any], factor: float) -> tuple[Any, Any]:
    """What activations are weighed by, and what undoes it before decoding."""
    architecture = cfg["architecture"]
    by_silence = architecture.endswith("batchtopk")
    if "topk" not in architecture or not cfg.get("rescale_acts_by_decoder_norm", by_silence):
        return 1.0, None
    norms = file.matrix("W_dec").row_norms() / factor
    return norms, plain.inverse(norms)


def _activation(file: Reread, cfg: dict[str, Any], norms: Any, factor: float) -> plain.Activation:
    architecture = cfg["architecture"]
    if architecture == "gated":
        return plain.gated(*(file.vector(name) for name in ("b_gate", "b_mag", "r_mag")))
    b_enc = file.vector("b_enc")
    if architecture.endswith("batchtopk"):
        threshold = file.number("topk_threshold")
        return _batch_topk(
            b_enc, norms, threshold if isinstance(norms, float) else threshold / factor
        )
    if architecture.startswith("jumprelu"):
        return plain.jumprelu(b_enc, _threshold(file))
    if architecture == "topk":
        return plain.topk(b_enc, cfg["k"], norms)
    if architecture == "abstopk":
        return plain.abstopk(b_enc, cfg["k"], norms)
    return plain.relu(b_enc)


def _threshold(file: Reread) -> Floats:
    if "threshold" in file.names:
        return file.vector("threshold")
    return np.exp(file.vector("log_threshold"))


def _batch_topk(b_enc: Floats, norms: Any, threshold: float) -> plain.Activation:
    """At inference one threshold for all, over activations weighed by their decoder norms."""

    def activate(product: Floats) -> Floats:
        before: Floats = (product + b_enc) * norms
        return np.maximum(before, 0) * (before > threshold)

    return activate


@dataclass(frozen=True)
class Whitened:
    """Trained on z = (x - mean) @ M, the reconstruction mapped back by the inverse of M."""

    inner: plain.Plain
    file: Reread

    @property
    def d_in(self) -> int:
        return self.inner.d_in

    @property
    def d_sae(self) -> int:
        return self.inner.d_sae

    def encode(self, x: Floats, tick: Tick) -> Floats:
        z = self.file.matrix("matrix").after(x - self.file.vector("mean"))
        return self.inner.encode(z, tick)

    def decode(self, acts: Floats, x: Floats, tick: Tick) -> Floats:
        z = self.inner.decode(acts, x, tick)
        return self.file.matrix("inverse_matrix").after(z) + self.file.vector("mean")

    def toward(self, features: NDArray[np.int64]) -> Floats:
        z = self.inner.toward(features)
        return self.file.matrix("inverse_matrix").after(z) + self.file.vector("mean")
