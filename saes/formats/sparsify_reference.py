"""sparsify's own forward, written from its definition, for the certificate.

acts = topk(relu((x - b_dec) @ encoder.weight.T + encoder.bias)); nothing is subtracted where
cfg.json says transcode. out = acts @ W_dec + b_dec + x @ W_skip.T
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from saes import reference as plain
from saes.formats.architectures import is_transcoder
from saes.formats.base import SaeInfo
from saes.formats.files.rereading import reopen


def forward(path: Path, cfg: Mapping[str, Any], info: SaeInfo) -> plain.Plain:
    file, transcodes = reopen(path), bool(cfg.get("transcode"))
    largest = plain.abstopk if cfg.get("signed") else plain.topk
    legacy = "decoder.weight" in file.names
    skips = "W_skip" in file.names
    autoencodes = not is_transcoder(info.get("architecture"))
    return plain.Plain(
        encoder=file.matrix("encoder.weight").transposed,
        decoder=file.matrix("decoder.weight").transposed if legacy else file.matrix("W_dec"),
        b_dec=file.vector("b_dec"),
        activation=largest(file.vector("encoder.bias"), info.get("k")),
        centre=info.get("apply_b_dec_to_input") if autoencodes else not transcodes,
        normalisation=info.get("normalize_activations"),
        skip=file.matrix("W_skip").transposed if skips else None,
        transcodes=transcodes,
    )
