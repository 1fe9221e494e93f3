"""What the tests of the API ask for: small SAEs that fit GPT-2, rows of the library, raw bodies."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.test import Client
from safetensors.numpy import save

from saes import services
from saes.models import Job, Sae, SaeFile
from saes.storage import Written, sha256_of
from tests.api.conftest import BASE, ApiClient

ERROR = {"detail", "code", "solution"}


def gpt2_sae(layer: int, d_in: int = 768) -> dict[str, bytes]:
    """The files of one in SAELens' form."""
    numbers, d_sae = np.random.default_rng(layer), 32
    decoder = numbers.standard_normal((d_sae, d_in)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    weights = {
        "W_enc": decoder.T.copy(),
        "b_enc": np.full(d_sae, -0.1, np.float32),
        "W_dec": decoder,
        "b_dec": np.zeros(d_in, np.float32),
    }
    told = {
        "architecture": "standard", "d_in": d_in, "d_sae": d_sae, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": True, "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {
            "model_name": "gpt2", "hook_name": f"blocks.{layer}.hook_resid_pre",
            "sae_lens_version": "6.54.12",
        },
    }  # fmt: skip
    return {"cfg.json": json.dumps(told).encode(), "sae_weights.safetensors": save(weights)}


def in_folder(folder: str, files: dict[str, bytes]) -> dict[str, bytes]:
    return {f"{folder}/{name}": body for name, body in files.items()}


def ready_sae(owner: User | None = None, **more: Any) -> Sae:
    """A row that is ready, with two files on disk."""
    told = {
        "name": "residual of layer 3", "source": Sae.Source.HUGGINGFACE,
        "status": Sae.Status.READY, "format": "saelens", "hf_repo_id": "someone/saes",
        "hf_filepath": "layer_3", "layer": 3, "d_in": 768, "d_sae": 24576, "created_by": owner,
        "facts": {"d_in": {"value": 768, "origin": "file"}},
    }  # fmt: skip
    sae = Sae.objects.create(**{**told, **more})
    for name, kind in (("source/cfg.json", "source"), ("native/metadata.json", "native")):
        put_file(sae, name, SaeFile.Kind(kind))
    services.finish(sae)
    return sae


def put_file(sae: Sae, name: str, kind: SaeFile.Kind, content: bytes = b'{"facts": {}}') -> Path:
    path = services.library().home(sae.id) / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    services.record_file(sae, kind, Written(path, len(content), sha256_of(path)))
    return path


def running_job(sae: Sae, owner: User | None, kind: str = Job.Kind.DOWNLOAD) -> Job:
    queued = Job.objects.create(kind=kind, sae=sae, created_by=owner)
    running = Job.objects.claim(queued.id, "elsewhere 1 1")
    assert running is not None
    return running


def raw(
    api: ApiClient, body: bytes, kind: str = "application/json", path: str = "/saes/download"
) -> dict[str, Any]:
    """The answer to a body that no client would send."""
    api.last = Client().post(
        BASE + path, body, kind, headers={"authorization": f"Bearer {api.token}"}
    )
    return parsed(api.last)


def parsed(answer: Any) -> dict[str, Any]:
    """An error in the one form, and nothing of Python, Django or the validator in it."""
    assert answer["Content-Type"].startswith("application/json"), answer.content[:200]
    told: dict[str, Any] = json.loads(answer.content)
    assert set(told) >= ERROR, told
    assert all(told[name] and isinstance(told[name], str) for name in ERROR), told
    text = answer.content.decode()
    for foreign in ("Traceback", "pydantic", "django", "ninja", "Input should", "Value error"):
        assert foreign.lower() not in text.lower(), text
    return told
