"""One piece of work in a process of its own: prints the seconds of its imports and of itself.

`python -m tests.benchmarks.work NAME ARGUMENTS`, the arguments as JSON.
"""

import hashlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WEIGHTS = "sae_weights.safetensors"
TURNED = ("W_enc", "W_dec", "model.encoder.weight", "model.decoder.weight")


def convert(source: str, target: str, **options: Any) -> None:
    from saes import converter

    _started()
    converter.convert(source, target, **options)


def usual(source: str, target: str) -> None:
    turn = _turning()
    _started()
    turn(source, target)


def _turning() -> Callable[[str, str], None]:
    """What one writes in a notebook: load, turn, save."""
    from safetensors.torch import load_file, save_file

    def turn(source: str, target: str) -> None:
        tensors = load_file(source)
        save_file(
            {name: it.t().contiguous() if name in TURNED else it for name, it in tensors.items()},
            target,
        )

    return turn


def hf_download(endpoint: str, repo_id: str, folder: str) -> None:
    fetch = _hub_client(endpoint)
    _started()
    fetch(repo_id, local_dir=folder, token=False)


def hf_and_torch(endpoint: str, repo_id: str, folder: str) -> None:
    fetch, turn = _hub_client(endpoint), _turning()
    _started()
    fetch(repo_id, local_dir=folder, token=False)
    turn(f"{folder}/{WEIGHTS}", f"{folder}/turned.safetensors")


def _hub_client(endpoint: str) -> Callable[..., str]:
    """What the command `hf download` calls, without its progress bar. It is told by variables."""
    os.environ |= {"HF_ENDPOINT": endpoint, "HF_HUB_OFFLINE": "0", "HF_HUB_DISABLE_XET": "1"}
    os.environ |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    from huggingface_hub import snapshot_download

    return snapshot_download


def sha256(path: str) -> None:
    _started()
    with Path(path).open("rb") as file:
        hashlib.file_digest(file, "sha256")


def _started() -> None:
    global started
    started = time.perf_counter()


if __name__ == "__main__":
    begun = started = time.perf_counter()
    globals()[sys.argv[1]](**json.loads(sys.argv[2]))
    done = time.perf_counter()
    sys.stdout.write(json.dumps({"imports": started - begun, "seconds": done - started}))
