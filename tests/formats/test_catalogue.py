"""What is known of repositories whose own files do not tell it."""

from pathlib import Path
from typing import Any

import pytest

from saes.converter import convert, inspect
from saes.formats.base import Origin
from tests.fixtures import write_saelens
from tests.formats.saelens_folders import scaled

LISTED = "tommmcgrath/gpt2-small-mlp-out-saes"
FOLDER = "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1"


@pytest.mark.parametrize(
    ("repo_id", "told", "factor", "origin"),
    [
        (LISTED, {}, 1.049317316132615, Origin.CATALOGUE),
        (LISTED, {"norm_scaling_factor": 2}, 2, Origin.USER),
        ("someone/else", {}, None, None),
        (None, {}, None, None),
    ],
)
def test_a_factor_is_known_for_repositories_that_do_not_tell_it(
    repo_id: str | None, told: dict[str, Any], factor: float | None, origin: str, tmp_path: Path
) -> None:
    scaled(tmp_path / FOLDER, None)
    info = inspect(tmp_path, FOLDER, repo_id, told)
    assert info.get("norm_scaling_factor") == factor
    assert factor is None or info.facts["norm_scaling_factor"].origin == origin
    assert ("warning" in info.facts) == (factor is None)


def test_a_factor_beside_the_weights_outranks_the_catalogue(tmp_path: Path) -> None:
    scaled(tmp_path / FOLDER, 0.37)
    fact = inspect(tmp_path, FOLDER, LISTED).facts["norm_scaling_factor"]
    assert (fact.value, fact.origin) == (0.37, Origin.FILE)


def test_a_known_normalisation_outranks_the_file_and_the_user_outranks_both(
    tmp_path: Path,
) -> None:
    repo, folder = "JoshEngels/Mistral-7B-Residual-Stream-SAEs", "mistral_7b_layer_8"
    write_saelens(tmp_path / folder, metadata=None)
    fact = inspect(tmp_path, folder, repo).facts["normalize_activations"]
    assert (fact.value, fact.origin) == ("constant_norm_rescale", Origin.CATALOGUE)
    told = {"normalize_activations": "none"}
    done = convert(tmp_path, tmp_path / "out", where=folder, repo_id=repo, facts=told)
    assert done.certificate is not None
    assert done.certificate.passed
    assert done.info.facts["normalize_activations"].origin == Origin.USER
