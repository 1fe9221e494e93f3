"""SAEs that are large enough to be shared and to come in pieces, and small enough for a test."""

import json
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
from django.conf import settings
from django.db import connection
from safetensors.numpy import save

from saes import jobs
from saes.arrivals import DownloadRequest
from saes.hub import RepoRef
from saes.models import Job, Sae

WEIGHTS = "sae_weights.safetensors"


def made_sae(seed: int = 0, d_in: int = 256, d_sae: int = 1024) -> dict[str, bytes]:
    """In SAELens' form, of 2 MB if not told otherwise; those of one seed have the same weights."""
    numbers = np.random.default_rng(seed)
    decoder = numbers.standard_normal((d_sae, d_in)).astype(np.float32)
    decoder /= np.linalg.norm(decoder, axis=1, keepdims=True)
    told: dict[str, Any] = {
        "architecture": "standard", "d_in": d_in, "d_sae": d_sae, "dtype": "float32",
        "device": "cpu", "apply_b_dec_to_input": True, "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": {"model_name": "someone/model", "hook_name": "blocks.3.hook_resid_pre"},
    }  # fmt: skip
    weights = {
        "W_enc": decoder.T.copy(), "b_enc": np.full(d_sae, -0.1, np.float32),
        "W_dec": decoder, "b_dec": np.zeros(d_in, np.float32),
    }  # fmt: skip
    return {"cfg.json": json.dumps(told).encode(), WEIGHTS: save(weights)}


def wanted(repo: str, revision: str = "", where: str = ".") -> DownloadRequest:
    return DownloadRequest(RepoRef(repo, revision=revision), where)


def started(repo: str, revision: str = "", where: str = ".") -> Job:
    return jobs.start_arrival(None, wanted(repo, revision, where), None)


def brought_in(repo: str, revision: str = "", where: str = ".") -> Sae:
    job = started(repo, revision, where)
    jobs.run(job.id)
    return Sae.objects.get(id=job.sae_id)


def is_ready(sae: Sae) -> bool:
    sae.refresh_from_db()
    assert (sae.status, sae.error_message) == (Sae.Status.READY, "")
    return True


def parts_of(sae_id: str) -> dict[str, int]:
    """The part files of an SAE by name, records included, with their sizes."""
    folder = settings.DATA_DIR / "saes" / sae_id / "parts"
    return {it.name: it.stat().st_size for it in folder.iterdir()} if folder.is_dir() else {}


def in_threads(*works: Callable[[], object]) -> list[BaseException | None]:
    """All at the same instant, each with a connection of its own; what each of them raised."""
    start = threading.Barrier(len(works))
    raised: list[BaseException | None] = [None] * len(works)

    def run(number: int, work: Callable[[], object]) -> None:
        try:
            start.wait(60)
            work()
        except Exception as error:  # noqa: BLE001  the test looks at it
            raised[number] = error
        finally:
            connection.close()

    threads = [threading.Thread(target=run, args=it) for it in enumerate(works)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return raised
