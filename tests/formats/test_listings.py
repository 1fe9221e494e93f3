"""The file listings of real repositories: every SAE is found by name, and none is invented."""

from typing import Any

import pytest

from saes.formats import by_slug, find_saes
from saes.formats.base import Tree
from tests.fixtures import LISTINGS

REPOS: dict[str, dict[str, list[str]]] = LISTINGS


def hints(repo: str, where: str) -> dict[str, Any]:
    tree = Tree(REPOS[repo]["files"], repo)
    found = next(found for found in find_saes(tree) if found.where == where)
    return {name: fact.value for name, fact in by_slug(found.format).hints(tree, where).items()}


@pytest.mark.parametrize("repo", REPOS)
def test_every_sae_is_found_and_nothing_else(repo: str) -> None:
    found = find_saes(REPOS[repo]["files"], repo)
    assert sorted(it.where for it in found) == sorted(REPOS[repo]["saes"])


@pytest.mark.parametrize("repo", REPOS)
def test_every_name_tells_the_layer_and_the_site(repo: str) -> None:
    tree = Tree(REPOS[repo]["files"], repo)
    for found in find_saes(tree):
        told = by_slug(found.format).hints(tree, found.where)
        assert {"layer", "hook_type"} <= told.keys(), found.where


def test_gemma_scope_names_tell_width_and_sparsity_too() -> None:
    told = hints("google/gemma-scope-9b-it-res", "layer_20/width_131k/average_l0_13")
    assert told == {
        "layer": 20,
        "width": "131k",
        "l0": 13,
        "hook_type": "residual",
        "model_name": "gemma-2-9b-it",
    }


@pytest.mark.parametrize(
    ("repo", "where", "layer", "site"),
    [
        ("jbloom/GPT2-Small-OAI-v5-32k-attn-out-SAEs", "v5_32k_layer_10", 10, "attention"),
        ("neuronpedia/gpt2-small__res_sce-ajt", "10-res_sce-ajt", 10, "residual"),
        (
            "tommmcgrath/gpt2-small-mlp-out-saes",
            "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1",
            0,
            "mlp",
        ),
    ],
)
def test_saelens_folders_tell_layer_and_site(repo: str, where: str, layer: int, site: str) -> None:
    told = hints(repo, where)
    assert (told["layer"], told["hook_type"]) == (layer, site)


def test_fifty_thousand_names_are_searched_in_a_second() -> None:
    names = [f"layer_{n}/width_16k/average_l0_{n}/params.npz" for n in range(50_000)]
    assert len(find_saes(names, "google/gemma-scope-2b-pt-res")) == 50_000
