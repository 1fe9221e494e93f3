"""A tiny training run and a tiny SAE, made on the spot: all of miStudio can be tried without a
network.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from django.conf import settings
from django.contrib.auth.models import User
from numpy.typing import NDArray
from safetensors.numpy import save_file

from saes import imports, roles, trainings
from saes.errors import DataMissing
from saes.folders import Place
from saes.imports import Wish
from saes.models import Job, Sae, Training
from saes.storage import remove_folder

Weights = dict[str, NDArray[np.float32]]

D_IN, D_SAE = 64, 512
LAYERS, STEPS, HOOKS = (0, 1, 2), (500, 1000), ("residual", "mlp")
RUN, FOLDER = "train_demo", "mistudio-demo"
HYPERPARAMETERS = {
    "architecture_type": "standard", "hidden_dim": D_IN, "latent_dim": D_SAE,
    "normalize_activations": "none", "generation": 2, "l1_alpha": 0.001, "learning_rate": 0.0003,
    "batch_size": 256, "training_layers": list(LAYERS), "hook_types": list(HOOKS),
}  # fmt: skip
RECORD = {
    "id": RUN, "name": "Demo run", "status": "completed", "model_name": "demo-model",
    "datasets": ["demo-text"], "current_step": STEPS[-1], "total_steps": STEPS[-1],
    "final_loss": 0.0831, "final_l0": 41.5, "started_at": "2026-01-05T09:00:00Z",
    "completed_at": "2026-01-05T09:42:00Z", "hyperparameters": HYPERPARAMETERS,
}  # fmt: skip
CFG = {
    "architecture": "standard", "d_in": D_IN, "d_sae": D_SAE, "dtype": "float32",
    "apply_b_dec_to_input": True, "normalize_activations": "none",
    "metadata": {
        "sae_lens_version": "6.0.0", "model_name": "demo-model",
        "hook_name": "blocks.1.hook_resid_post",
    },
}  # fmt: skip


def make(user: User | None) -> tuple[Training, Sae, Job | None]:
    """Made once; asked again, what is there stays. Raises Forbidden, DataMissing."""
    roles.require(user, roles.ADD)
    root = next(iter(settings.IMPORT_ROOTS))
    try:
        _write(settings.TRAININGS_DIR / RUN, _run_files())
        _write(settings.IMPORT_ROOTS[root] / FOLDER / "layer_1", _sae_files())
    except OSError as error:
        raise DataMissing(
            f"The demo cannot be written: {os.strerror(error.errno or 0).lower()}.",
            solution="Let miStudio write to its data directory and to its first import folder.",
        ) from error
    training = trainings.training_of(RUN)
    sae, job = imports.import_one(
        user, Place(root, f"{FOLDER}/layer_1"), Wish(name="Demo SAE", description=_SAID)
    )
    return training, sae, job


_SAID = "Made up, to try miStudio with: its features are random directions."


def _run_files() -> dict[str, Any]:
    places = [
        (step, layer, hook) for step in STEPS for layer in LAYERS for hook in HOOKS
    ]  # fmt: skip
    files: dict[str, Any] = {
        f"checkpoints/checkpoint_{step}/layer_{layer}_{hook}/checkpoint.safetensors": _checkpoint(
            seed=step + 10 * layer + len(hook)
        )
        for step, layer, hook in places
    }
    return {"training.json": RECORD, **files}


def _sae_files() -> dict[str, Any]:
    W_enc, W_dec, b_enc, b_dec = _some(1)
    weights = {"W_enc": W_enc, "W_dec": W_dec, "b_enc": b_enc, "b_dec": b_dec}
    return {"cfg.json": CFG, "sae_weights.safetensors": weights}


def _checkpoint(seed: int) -> Weights:
    """As the second generation of miStudio stores it: [out, in]."""
    W_enc, W_dec, b_enc, b_dec = _some(seed)
    return {
        "model.encoder.weight": np.ascontiguousarray(W_enc.T), "model.encoder.bias": b_enc,
        "model.decoder.weight": np.ascontiguousarray(W_dec.T), "model.decoder_bias": b_dec,
    }  # fmt: skip


def _some(seed: int) -> tuple[NDArray[np.float32], ...]:
    """W_enc [d_in, d_sae], W_dec [d_sae, d_in] with rows of length one, b_enc, b_dec."""
    random = np.random.default_rng(seed)
    W_dec = random.standard_normal((D_SAE, D_IN)).astype(np.float32)
    W_dec /= np.linalg.norm(W_dec, axis=1, keepdims=True)
    b_dec = 0.1 * random.standard_normal(D_IN).astype(np.float32)
    b_enc = np.full(D_SAE, -1, np.float32)
    return np.ascontiguousarray(W_dec.T), W_dec, b_enc, b_dec.astype(np.float32)


def _write(folder: Path, files: dict[str, Any]) -> None:
    """All of them or none: a draft that takes its place at the end."""
    if folder.exists():
        return
    draft = folder.with_name(f".{folder.name}.draft")
    remove_folder(draft)
    for name, content in files.items():
        path = draft / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if name.endswith(".json"):
            path.write_text(json.dumps(content, indent=2))
        else:
            save_file(content, path)
    draft.rename(folder)
