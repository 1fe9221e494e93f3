"""catalogue.json says what the installed sae-lens says."""

import json

from saes.formats.catalogue import FILE, known
from tests.interop.make_catalogue import catalogue


def test_the_catalogue_is_what_sae_lens_knows() -> None:
    assert json.loads(FILE.read_text()) == catalogue()


def test_it_holds_the_repositories_that_cannot_be_read_alone() -> None:
    mlp = "tommmcgrath/gpt2-small-mlp-out-saes", "sae_group_gpt2_blocks.0.hook_mlp_out_24576:v1"
    wg = "JoshEngels/Mistral-7B-Residual-Stream-SAEs", "mistral_7b_layer_8"
    assert known(*mlp) == {"norm_scaling_factor": 1.049317316132615}
    assert known(*wg) == {"normalize_activations": "constant_norm_rescale"}
    assert known("someone/else", "mistral_7b_layer_8") == known(None, ".") == {}
