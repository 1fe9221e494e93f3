"""SAEs of a Hub through sae-lens, in a process of its own: the Hub's address is read once.

python -m tests.interop.from_hub WANTED.json INPUTS.npz OUTPUTS.npz
"""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sae_lens import SAE
from sae_lens.loading.pretrained_sae_loaders import NAMED_PRETRAINED_SAE_LOADERS

from tests.fixtures import Array


def loaded(wanted: dict[str, Any]) -> Any:
    """As SAE.from_pretrained does for a repository of its list: its loader, overrides, factor."""
    loader = NAMED_PRETRAINED_SAE_LOADERS[wanted["loader"]]

    def with_overrides(*, cfg_overrides: dict[str, Any], **rest: Any) -> Any:
        return loader(cfg_overrides={**cfg_overrides, **(wanted["config_overrides"] or {})}, **rest)

    repo, path = wanted["repo_id"], wanted["path"]
    sae = SAE.from_pretrained(repo, path, dtype="float64", converter=with_overrides)
    if wanted["norm_scaling_factor"]:
        sae.fold_activation_norm_scaling_factor(wanted["norm_scaling_factor"])
    return sae


def computed(wanted: dict[str, Any], x: Array) -> dict[str, Array]:
    try:
        sae = loaded(wanted)
    except Exception as error:  # noqa: BLE001 - whatever sae-lens raises is the answer
        return {"error": np.array(type(error).__name__)}
    shaped = torch.from_numpy(x).double().reshape(wanted["x_call_shape"])
    with torch.no_grad():
        return {"acts": sae.encode(shaped).numpy().ravel(), "recon": sae(shaped).numpy().ravel()}


def main() -> None:
    wanted, inputs, target = map(Path, sys.argv[1:])
    found: dict[str, Any] = {}
    with np.load(inputs) as xs:
        for name, told in json.loads(wanted.read_text()).items():
            found |= {f"{name}:{part}": it for part, it in computed(told, xs[name]).items()}
    np.savez(target, **found)


if __name__ == "__main__":
    main()
