"""cfg.json of SAELens 2 to 5: flat, its hook and activation under other names.

What SAELens 6 reads as a plain ReLU although the file says otherwise (tanh-relu, a function after
top-k, top-k without k) is refused or asked for here, never taken for ReLU.
"""

from typing import Any

from saes.errors import BrokenFile, UnsupportedArchitecture
from saes.formats.configs import Config
from saes.formats.saelens_config import DESCRIBED, OWN_KEYS

RELU_WORDS = ("relu", "ReLU", "ReLU()")
RENAMED = {"hook_point": "hook_name", "hook_point_head_index": "hook_head_index"}
KEPT = {"d_in", "d_sae", "d_out", "apply_b_dec_to_input", "finetuning_scaling_factor"}
KEPT |= {key for keys in OWN_KEYS.values() for key in keys}


def migrated(cfg: Config) -> Config:
    """The same facts as a v6 cfg.json states them. Never mind keys of the trainer."""
    values = {key: cfg.values[key] for key in KEPT if key in cfg}
    values["architecture"] = cfg.text("architecture") or "standard"
    values |= _activation(cfg, values["architecture"])
    values["normalize_activations"] = _normalisation(cfg)
    values["metadata"] = _metadata(cfg)
    hook = Config(cfg.name, values["metadata"]).text("hook_name") or ""
    values["reshape_activations"] = cfg.text("reshape_activations") or (
        "hook_z" if "hook_z" in hook else "none"
    )
    return Config(cfg.name, values)


def _activation(cfg: Config, architecture: str) -> dict[str, Any]:
    function, alias = cfg.text("activation_fn") or "", cfg.text("activation_fn_str") or ""
    if function and alias and function != alias:
        raise BrokenFile(f"`{cfg.name}`: activation_fn contradicts activation_fn_str.")
    function = function or alias
    arguments = cfg.section("activation_fn_kwargs")
    after = arguments.values.get("postact_fn")
    if after is not None and after not in RELU_WORDS:
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: postact_fn {after!s:.40} after top-k cannot be converted."
        )
    if function == "topk" and architecture in ("standard", "topk"):
        return {"architecture": "topk", "k": arguments.whole("k") or cfg.whole("k")}
    if function not in ("", "relu", "topk") or (function == "topk" and architecture != "topk"):
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: {function[:40]} in a {architecture[:40]} SAE cannot be converted."
        )
    if architecture == "topk":
        return {"k": arguments.whole("k") or cfg.whole("k")}
    return {"k": cfg.whole("k") or arguments.whole("k")} if architecture == "abstopk" else {}


def _normalisation(cfg: Config) -> str:
    value = cfg.values.get("normalize_activations")
    if value is True:
        return "expected_average_only_in"
    return "none" if value in (None, False) else cfg.text("normalize_activations") or "none"


def _metadata(cfg: Config) -> dict[str, Any]:
    """A nested table without a version is SAELens 6's own, cut short: it still names the hook."""
    old = {new: cfg.values.get(key) for key, new in RENAMED.items()}
    flat = {key: cfg.values.get(key) for key in DESCRIBED}
    told = (old, cfg.section("metadata").values, flat)
    return {key: value for table in told for key, value in table.items() if value is not None}
