"""Writes saes/formats/catalogue.json anew: python -m tests.interop.make_catalogue

Left out is what the files of those SAEs tell themselves: Llama Scope's factors are
sqrt(d_model) / dataset_average_activation_norm.in, a temporal SAE's is in its conf.yaml.
"""

import json
from collections.abc import Iterator
from typing import Any

import sae_lens
from sae_lens.loading.pretrained_saes_directory import (
    PretrainedSAELookup,
    get_pretrained_saes_directory,
)

from saes.formats.catalogue import FILE

THEIR_FILES_TELL = ("llama_scope", "temporal")
DESCRIPTIVE = ("dataset_path", "hook_name", "model_from_pretrained_kwargs", "model_name")


Facts = dict[str, dict[str, Any]]  # fact -> folder -> value


def catalogue() -> dict[str, Any]:
    repositories: dict[str, Facts] = {}
    for release in get_pretrained_saes_directory().values():
        if release.conversion_func not in THEIR_FILES_TELL:
            for fact, values in numbers(release):
                known = repositories.setdefault(release.repo_id, {})
                known.setdefault(fact, {}).update(values)
    return {
        "source": "pretrained_saes.yaml of sae-lens",
        "version": sae_lens.__version__,
        "repositories": repositories,
    }


def numbers(release: PretrainedSAELookup) -> Iterator[tuple[str, dict[str, Any]]]:
    folders = release.saes_map
    if release.norm_scaling_factor:
        factors = release.norm_scaling_factor.items()
        yield "norm_scaling_factor", {folders[name]: factor for name, factor in factors}
    for fact, value in (release.config_overrides or {}).items():
        if fact not in DESCRIPTIVE:
            yield fact, dict.fromkeys(folders.values(), value)


def main() -> None:
    text = json.dumps(catalogue(), indent=1, sort_keys=True)
    FILE.write_text(text + "\n", "utf-8")


if __name__ == "__main__":
    main()
