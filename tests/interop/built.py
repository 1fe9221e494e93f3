"""SAEs built and saved by sae-lens itself."""

from pathlib import Path
from typing import Any

import torch
from sae_lens.registry import (
    SAE_CLASS_REGISTRY,
    SAE_TRAINING_CLASS_REGISTRY,
    get_sae_class,
    get_sae_training_class,
)
from sae_lens.training.activation_scaler import ActivationScaler, ActivationWhitening

INFERENCE = sorted(SAE_CLASS_REGISTRY)
TRAINING = sorted(SAE_TRAINING_CLASS_REGISTRY)
OWN: dict[str, dict[str, Any]] = {
    "topk": {"k": 5},
    "abstopk": {"k": 5},
    "batchtopk": {"k": 4.5},
    "matryoshka_batchtopk": {"k": 4.5, "matryoshka_widths": [16, 64]},
    "temporal": {"n_heads": 2, "bottleneck_factor": 8, "kval_topk": 7},
    "matching_pursuit": {"max_iterations": 5},
}


def inference(architecture: str, **options: Any) -> Any:
    sae_class, config_class = get_sae_class(architecture)
    transcodes = "transcoder" in architecture
    own = {"apply_b_dec_to_input": not transcodes, **OWN.get(architecture, {}), **options}
    if transcodes:
        own["d_out"] = 12
    cfg = config_class(d_in=16, d_sae=64, **own)
    return filled(sae_class(cfg))


def training(architecture: str, **options: Any) -> Any:
    sae_class, config_class = get_sae_training_class(architecture)
    own = {**OWN.get(architecture, {}), **options}
    if architecture == "matching_pursuit":
        own["decoder_init_norm"] = 1.0
    cfg = config_class(d_in=16, d_sae=64, **own)
    sae = filled(sae_class(cfg))
    if hasattr(sae, "topk_threshold"):
        sae.topk_threshold.fill_(2 / 3)
    return sae


def filled(sae: Any) -> Any:
    """With numbers of which about a third of the features fire; decoder rows differ in length."""
    generator = torch.Generator().manual_seed(5)
    for name, parameter in sorted(sae.named_parameters()):
        numbers = torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
        if name in ("threshold",):
            numbers = numbers.abs() + 0.1
        elif name in ("b_enc", "b_gate"):
            numbers -= 1
        elif name == "r_mag" or name.startswith("attn_layers"):
            numbers /= 4
        parameter.data = numbers.to(parameter.dtype)
    return sae


def whitening() -> ActivationWhitening:
    generator = torch.Generator().manual_seed(9)
    square = torch.randn(16, 16, generator=generator, dtype=torch.float64) / 4
    square += torch.eye(16, dtype=torch.float64)
    mean = torch.randn(16, generator=generator, dtype=torch.float64)
    return ActivationWhitening(mean, square, torch.linalg.inv(square).contiguous())


def checkpoint(sae: Any, folder: Path, scaler: ActivationScaler | None = None) -> Path:
    """What its trainer leaves in the middle of a training."""
    sae.save_model(folder)
    (scaler or ActivationScaler()).save(str(folder / "activation_scaler.json"))
    return folder


def released(sae: Any, folder: Path, scaler: ActivationScaler | None = None) -> Path:
    """What its trainer does at the end, and what is then uploaded."""
    if scaler is not None and scaler.scaling_factor is not None:
        sae.fold_activation_norm_scaling_factor(scaler.scaling_factor)
    if scaler is not None and scaler.whitening is not None:
        fold = scaler.whitening
        sae.fold_activation_whitening(fold.mean, fold.matrix, fold.inverse_matrix)
    sae.save_inference_model(folder)
    return folder
