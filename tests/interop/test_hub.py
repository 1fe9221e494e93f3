"""Through a Hub: what we write, and what sae-lens' own loaders make of other families' files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from saes.formats.architectures import PLAIN
from saes.formats.saelens_config import ARCHITECTURES
from tests.apps import ROOT
from tests.fixtures import ALL_SAMPLES, Array, Sample
from tests.hub import LocalHub
from tests.interop.sides import assert_near, inputs, through_ours
from tests.interop.test_writing import made, written

WRITTEN = [it for it in ARCHITECTURES if it in PLAIN]
FOREIGN = [it for it in ALL_SAMPLES if it.meta["loader"] not in (None, "sae_lens")]
# Its sparsify loader opens a cfg.json that it never downloads, and would transpose W_dec.
CANNOT_LOAD = {"sparsify": "FileNotFoundError"}
Wanted = dict[str, dict[str, Any]]


def files(folder: Path) -> dict[str, Path]:
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path for path in found}


def asked(hub: LocalHub, folder: Path, wanted: Wanted, xs: dict[str, Any]) -> dict[str, Array]:
    env = {name: it for name, it in os.environ.items() if not name.startswith("HF_")}
    env |= {"HF_ENDPOINT": hub.url, "HF_HOME": str(folder / "home"), "HF_HUB_DISABLE_XET": "1"}
    names = [str(folder / it) for it in ("wanted.json", "inputs.npz", "outputs.npz")]
    Path(names[0]).write_text(json.dumps(wanted))
    np.savez(names[1], **xs)
    command = [sys.executable, "-W", "ignore", "-m", "tests.interop.from_hub", *names]
    subprocess.run(command, env=env, cwd=ROOT, check=True, timeout=300)
    with np.load(names[2]) as found:
        return dict(found)


def test_what_we_write_loads_from_a_folder_of_a_repository(tmp_path: Path) -> None:
    x = inputs()
    for name in WRITTEN:
        sae = made(name, hook_name="blocks.3.hook_mlp_out")
        written(sae, tmp_path / "repo" / name)
    told = {"loader": "sae_lens", "config_overrides": None, "norm_scaling_factor": None}
    wanted = {
        name: {"repo_id": "alice/saes", "path": f"layer_3/{name}", "x_call_shape": x.shape, **told}
        for name in WRITTEN
    }
    with LocalHub() as hub:
        held = {f"layer_3/{name}": path for name, path in files(tmp_path / "repo").items()}
        hub.add_repo("alice/saes", held)
        found = asked(hub, tmp_path, wanted, dict.fromkeys(wanted, x))
    for name in WRITTEN:
        acts, recon = through_ours(tmp_path / "repo" / name, x)
        theirs = found[f"{name}:acts"], found[f"{name}:recon"]
        assert_near(theirs, (acts.ravel(), recon.ravel()))


@pytest.fixture(scope="module")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Array]:
    """Every sample of a family that sae-lens has a loader for, loaded by that loader."""
    wanted: Wanted = {}
    repos: dict[str, dict[str, Path]] = {}
    for sample in FOREIGN:
        held, own = repos.setdefault(sample.repo_id, {}), files(sample.repo)
        prefix = f"{sample.name}/" if held.keys() & own.keys() else ""
        held |= {prefix + name: path for name, path in own.items()}
        wanted[sample.name] = {**sample.meta, "path": prefix + sample.meta["path"]}
    xs = {sample.name: sample.truth["x"] for sample in FOREIGN}
    with LocalHub() as hub:
        for repo_id, held in repos.items():
            hub.add_repo(repo_id, held)
        return asked(hub, tmp_path_factory.mktemp("foreign"), wanted, xs)


@pytest.mark.parametrize("sample", FOREIGN, ids=lambda sample: sample.name)
def test_the_truth_of_a_sample_is_what_the_loader_of_sae_lens_gives(
    sample: Sample, foreign: dict[str, Array]
) -> None:
    if sample.family in CANNOT_LOAD:
        assert str(foreign[f"{sample.name}:error"]) == CANNOT_LOAD[sample.family]
    else:
        assert f"{sample.name}:error" not in foreign, foreign[f"{sample.name}:error"]
        found = foreign[f"{sample.name}:acts"], foreign[f"{sample.name}:recon"]
        assert_near(found, (sample.truth["acts"].ravel(), sample.truth["recon"].ravel()))
