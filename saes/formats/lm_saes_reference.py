"""lm-saes' forward by its definition, for the certificate."""

from collections.abc import Mapping
from math import sqrt
from typing import Any

import numpy as np

from saes import reference as plain
from saes.formats.base import Given
from saes.reference import Activation, Floats, Matrix

BUFFERS = "dataset_average_activation_norm."


def stated(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a configuration says: null says nothing."""
    return {key: value for key, value in values.items() if value is not None}


def forward(
    told: Mapping[str, Any],
    norms: Mapping[str, float],
    matrices: tuple[Matrix, Matrix],
    b_dec: Floats | None,
    activation: Activation,
    given: Given,
    **more: Any,
) -> plain.Plain:
    """x * sqrt(d) / norm_in, perhaps - b_dec, encode, decode, * norm_out / sqrt(d)."""
    encoder, decoder = matrices
    transcoder = transcodes(told, given)
    into, out = factors(told, norms, encoder.shape[0], given)
    bias = np.zeros(decoder.shape[1]) if b_dec is None else b_dec
    has_bias = told.get("use_decoder_bias") is not False
    subtracted = has_bias and told.get("apply_decoder_bias_to_pre_encoder") is True
    by_token = told.get("norm_activation") == "token-wise"
    return plain.Plain(
        encoder=encoder,
        decoder=decoder,
        b_dec=bias,
        activation=activation,
        centre=given.get("apply_b_dec_to_input", subtracted and not transcoder),
        centre_of_input=bias if subtracted and transcoder else None,
        normalisation="constant_norm_rescale" if by_token else "none",
        input_factor=into,
        output_factor=1 / out,
        transcodes=transcoder,
        **more,
    )


def transcodes(told: Mapping[str, Any], given: Given) -> bool:
    if "architecture" in given:
        return "transcoder" in given["architecture"]
    return told.get("hook_point_out") not in (None, told.get("hook_point_in"))


def factors(
    told: Mapping[str, Any], norms: Mapping[str, float], d_model: int, given: Given
) -> tuple[float, float]:
    """Of inputs and outputs. `norms` are named in and out, or by their hooks."""
    hook_in = told.get("hook_point_in")
    hook_out = told.get("hook_point_out") or hook_in
    into = given.get("norm_scaling_factor")
    if into is None:
        if told.get("norm_activation", "dataset-wise") != "dataset-wise":
            return 1.0, 1.0
        into = sqrt(d_model) / norms["in" if "in" in norms else str(hook_in)]
    if not transcodes(told, given):
        return into, into
    return into, sqrt(d_model) / norms["out" if "out" in norms else str(hook_out)]
