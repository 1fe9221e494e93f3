"""Features over the API: numbers of the stored files, by slices."""

import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from django.contrib.auth.models import User
from safetensors.numpy import load, save

from saes import jobs, services
from saes.arrivals import DownloadRequest
from saes.formats import mistudio
from saes.hub import RepoRef
from saes.models import Job, Sae, SaeFile
from tests.api.conftest import ApiClient, work
from tests.api.made import gpt2_sae, put_file, ready_sae
from tests.hub import LocalHub
from tests.jobs.conftest import sample_files

FIELDS = {
    "feature_idx", "layer", "label", "decoder_norm", "encoder_bias", "threshold", "log_sparsity",
    "neuronpedia_url",
}  # fmt: skip
FOLDER = "blocks.3.hook_resid_post"


def bring_in(hub: LocalHub, files: dict[str, bytes], where: str, started: list[Job]) -> Sae:
    hub.add_repo("someone/saes", files)
    job = jobs.start_arrival(None, DownloadRequest(RepoRef("someone/saes"), where), None)
    work(started)
    return Sae.objects.get(id=job.sae_id)


def of(api: ApiClient, sae: Sae, query: str = "") -> dict[str, Any]:
    told: dict[str, Any] = api.get(f"/saes/{sae.id}/features?{query}")
    return told


@pytest.fixture
def jumprelu(hub: LocalHub, owner: User, started: list[Job]) -> Sae:
    return bring_in(hub, sample_files("saelens_v6_jumprelu"), FOLDER, started)


def test_every_number_is_that_of_the_published_file(jumprelu: Sae, api: ApiClient) -> None:
    files = sample_files("saelens_v6_jumprelu")
    weights = load(files[f"{FOLDER}/sae_weights.safetensors"])
    sparsity = load(files[f"{FOLDER}/sparsity.safetensors"])["sparsity"]
    told = of(api, jumprelu)
    assert api.status == 200
    count = len(weights["W_dec"])
    assert (told["sae_id"], told["n_features"]) == (jumprelu.id, count)
    assert told["pagination"] == {"skip": 0, "limit": 50, "total": count, "has_more": count > 50}
    for index, feature in enumerate(told["features"]):
        assert set(feature) == FIELDS
        assert (feature["feature_idx"], feature["layer"]) == (index, jumprelu.layer)
        norm = np.linalg.norm(weights["W_dec"][index].astype(float))
        assert feature["decoder_norm"] == pytest.approx(norm, rel=1e-12)
        assert feature["encoder_bias"] == weights["b_enc"][index]
        assert feature["threshold"] == weights["threshold"][index]
        assert feature["log_sparsity"] == sparsity[index]
        assert feature["label"] is None


def test_pages_are_parts_of_one_list(jumprelu: Sae, api: ApiClient) -> None:
    whole = of(api, jumprelu, "limit=1000")["features"]
    parts = [of(api, jumprelu, f"skip={skip}&limit=7") for skip in range(0, len(whole), 7)]
    assert [it for part in parts for it in part["features"]] == whole
    assert [part["pagination"]["has_more"] for part in parts] == [True] * (len(parts) - 1) + [False]
    assert of(api, jumprelu, f"skip={len(whole)}")["features"] == []


def test_one_feature_by_its_index(jumprelu: Sae, api: ApiClient) -> None:
    whole = of(api, jumprelu, "limit=1000")["features"]
    told = of(api, jumprelu, "search=5")
    assert (told["features"], told["pagination"]["total"]) == ([whole[5]], 1)
    beyond = of(api, jumprelu, f"search={len(whole)}")
    assert (beyond["features"], beyond["pagination"]["total"]) == ([], 0)
    assert of(api, jumprelu, "search=5&skip=1")["features"] == []


@pytest.mark.parametrize(
    "query",
    ["search=five", "search=-1", "search=1.5", "search=%2a", "search=٣", "search=%00", "limit=0",
     "limit=1001", "skip=-1", "limit=x", "skip=1e3", "order=asc", "search=" + "9" * 30],
)  # fmt: skip
def test_what_cannot_be_asked(jumprelu: Sae, api: ApiClient, query: str) -> None:
    told = of(api, jumprelu, query)
    assert (api.status, told["code"]) == (400, "bad_request")


def test_numbers_that_an_architecture_has_not_are_null(
    hub: LocalHub, api: ApiClient, started: list[Job]
) -> None:
    sae = bring_in(hub, gpt2_sae(3), ".", started)
    feature = of(api, sae)["features"][0]
    assert (feature["threshold"], feature["log_sparsity"]) == (None, None)
    assert feature["encoder_bias"] == pytest.approx(-0.1)
    gated = bring_in(hub, sample_files("saelens_v6_gated"), FOLDER, started)
    assert of(api, gated)["features"][0]["encoder_bias"] is None


def test_what_is_no_number_is_null_and_the_answer_is_json(
    hub: LocalHub, api: ApiClient, started: list[Job]
) -> None:
    files = gpt2_sae(3)
    values = np.full(32, -2.5, np.float32)
    values[:3] = np.nan, np.inf, -np.inf
    sae = bring_in(hub, {**files, "sparsity.safetensors": save({"sparsity": values})}, ".", started)
    told = of(api, sae, "limit=4")["features"]
    assert [it["log_sparsity"] for it in told] == [None, None, None, -2.5]
    assert b"NaN" not in api.last.content
    assert b"Infinity" not in api.last.content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff" * 100,
        save({"sparsity": np.zeros(31, np.float32)}),
        save({"sparsity": np.zeros((32, 2), np.float32)}),
        save({"sparsity": np.zeros(32, np.int64)}),
        save({"another": np.zeros(32, np.float32)}),
    ],
)
def test_a_useless_sparsity_file_takes_nothing_else_away(
    hub: LocalHub, api: ApiClient, started: list[Job], body: bytes
) -> None:
    sae = bring_in(hub, {**gpt2_sae(3), "sparsity.safetensors": body}, ".", started)
    assert sae.status == Sae.Status.READY
    feature = of(api, sae)["features"][0]
    assert feature["log_sparsity"] is None
    assert feature["decoder_norm"] == pytest.approx(1)


@pytest.mark.parametrize(
    ("told", "url"),
    [
        ("gpt2-small/3-res-jb", "https://www.neuronpedia.org/gpt2-small/3-res-jb/0"),
        ("a?b#c<d>", "https://www.neuronpedia.org/a%3Fb%23c%3Cd%3E/0"),
        (None, None),
    ],
)
def test_the_address_at_neuronpedia(
    hub: LocalHub, api: ApiClient, started: list[Job], told: str | None, url: str | None
) -> None:
    files = gpt2_sae(3)
    config = json.loads(files["cfg.json"])
    config["metadata"]["neuronpedia_id"] = told
    sae = bring_in(hub, {**files, "cfg.json": json.dumps(config).encode()}, ".", started)
    assert of(api, sae)["features"][0]["neuronpedia_url"] == url


def test_a_kept_sae_has_no_features_to_list(owner: User, api: ApiClient) -> None:
    sae = ready_sae(owner, architecture="crosscoder")
    told = of(api, sae)
    assert (api.status, told["code"]) == (422, "unsupported_architecture")
    assert sae.kept_because in told["detail"]


def test_an_sae_that_is_not_ready(jumprelu: Sae, api: ApiClient) -> None:
    Sae.objects.filter(id=jumprelu.id).update(status=Sae.Status.CONVERTING)
    told = of(api, jumprelu)
    assert (api.status, told["code"]) == (409, "not_ready")


@pytest.mark.parametrize("how", ["gone", "shorter"])
def test_files_that_are_missing(jumprelu: Sae, api: ApiClient, how: str) -> None:
    path = services.library().native(jumprelu.id) / "checkpoint.safetensors"
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-1])
    told = of(api, jumprelu)
    assert (api.status, told["code"]) == (409, "data_missing")


@pytest.mark.parametrize("number", [errno.EACCES, errno.EIO])
@pytest.mark.parametrize("refused", ["open", "stat"])
def test_a_disk_that_refuses_is_no_crash(
    jumprelu: Sae, api: ApiClient, monkeypatch: pytest.MonkeyPatch, refused: str, number: int
) -> None:
    owner: Any = {"open": os, "stat": Path}[refused]
    real = getattr(owner, refused)

    def refusing(path: Path | str, *args: Any, **more: Any) -> Any:
        if Path(path).name in ("checkpoint.safetensors", "metadata.json"):
            raise OSError(number, "no", str(path))
        return real(path, *args, **more)

    with monkeypatch.context() as patched:
        patched.setattr(owner, refused, refusing)
        told = of(api, jumprelu)
    assert (api.status, told["code"]) == (409, "data_missing")
    assert of(api, jumprelu)["n_features"]


def test_sparsity_that_cannot_be_opened_takes_nothing_else_away(
    jumprelu: Sae, api: ApiClient
) -> None:
    source = services.library().source(jumprelu.id)
    source.rename(source.with_name("elsewhere"))
    feature = of(api, jumprelu)["features"][0]
    assert api.status == 200
    assert feature["log_sparsity"] is None and feature["decoder_norm"]


def test_an_unknown_sae(api: ApiClient) -> None:
    told = api.get("/saes/sae_000000000000/features")
    assert (api.status, told["code"]) == (404, "not_found")


# --- speed and memory -----------------------------------------------------------------------------

WIDE, DEEP = 65_536, 512


@pytest.fixture
def wide(owner: User) -> Sae:
    """134 MB of weights, without the work of bringing them in."""
    sae = ready_sae(owner, architecture="standard", d_in=DEEP, d_sae=WIDE)
    sae.files.all().delete()
    facts = {
        "architecture": "standard", "d_in": DEEP, "d_sae": WIDE, "d_out": DEEP,
        "apply_b_dec_to_input": True, "normalize_activations": "none",
    }  # fmt: skip
    told = {
        "format": "mistudio", "format_version": mistudio.VERSION, "tensors": {}, "source": {},
        "facts": {name: {"value": it, "origin": "file"} for name, it in facts.items()},
    }  # fmt: skip
    decoder = np.ones((DEEP, WIDE), np.float16)
    decoder[:, 40_000] = 2
    weights: dict[str, Any] = {
        "model.decoder.weight": decoder,
        "model.encoder.weight": np.ones((WIDE, DEEP), np.float16),
        "model.encoder.bias": np.arange(WIDE, dtype=np.float32),
        "model.decoder_bias": np.zeros(DEEP, np.float32),
    }
    put_file(sae, "native/metadata.json", SaeFile.Kind.NATIVE, json.dumps(told).encode())
    put_file(sae, "native/checkpoint.safetensors", SaeFile.Kind.NATIVE, save(weights))
    return sae


@pytest.mark.alone
def test_a_thousand_features_of_a_wide_sae_cost_little_time_and_memory(
    wide: Sae, api: ApiClient
) -> None:
    of(api, wide, "limit=1")
    before, start = psutil.Process().memory_full_info().uss, time.process_time()
    told = of(api, wide, "skip=39500&limit=1000")
    took, after = time.process_time() - start, psutil.Process().memory_full_info().uss
    assert len(told["features"]) == 1000
    assert told["features"][500]["decoder_norm"] == pytest.approx(2 * DEEP**0.5)
    assert told["features"][500]["encoder_bias"] == 40_000
    assert took < 5
    assert after - before < 32 * 2**20
