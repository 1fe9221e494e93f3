"""One piece of work in a process of its own: prints the seconds of its imports and of itself.

`python -m tests.benchmarks.work NAME ARGUMENTS`, the arguments as JSON.
"""

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

TURNED = ("W_enc", "W_dec", "model.encoder.weight", "model.decoder.weight")


def convert(source: str, target: str, **options: Any) -> None:
    from saes import converter

    _started()
    converter.convert(source, target, **options)


def usual(source: str, target: str) -> None:
    """What one writes in a notebook: load, turn, save."""
    from safetensors.torch import load_file, save_file

    _started()
    tensors = load_file(source)
    save_file(
        {name: it.t().contiguous() if name in TURNED else it for name, it in tensors.items()},
        target,
    )


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
