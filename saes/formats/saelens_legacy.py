"""cfg.json of SAELens 2 to 5: flat, its hook and activation under other names.

What SAELens 6 reads as a plain ReLU although the file says otherwise (tanh-relu, a function after
top-k, top-k without k) is refused or asked for here, never taken for ReLU.
"""

from typing import Any

from saes.errors import UnsupportedArchitecture
from saes.formats.configs import Config

RELU_WORDS = ("relu", "ReLU", "ReLU()")
TEXTS = ("model_name", "hook_name", "hook_name_out", "dataset_path")
METADATA = (*TEXTS, "context_size", "prepend_bos")


def migrated(cfg: Config) -> Config:
    """The same facts as a v6 cfg.json states them. Never mind keys of the trainer."""
    values = {
        key: cfg.values[key]
        for key in ("d_in", "d_sae", "d_out", "apply_b_dec_to_input")
        if key in cfg
    }
    values["architecture"] = cfg.text("architecture") or "standard"
    values |= _activation(cfg, values["architecture"])
    values["normalize_activations"] = _normalisation(cfg)
    values["metadata"] = _metadata(cfg)
    hook = values["metadata"].get("hook_name") or ""
    values["reshape_activations"] = cfg.text("reshape_activations") or (
        "hook_z" if "hook_z" in hook else "none"
    )
    values["finetuning_scaling_factor"] = cfg.flag("finetuning_scaling_factor")
    return Config(cfg.name, values)


def _activation(cfg: Config, architecture: str) -> dict[str, Any]:
    function = cfg.text("activation_fn") or cfg.text("activation_fn_str") or ""
    arguments = cfg.section("activation_fn_kwargs")
    after = arguments.values.get("postact_fn")
    if after is not None and after not in RELU_WORDS:
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: postact_fn {after!s:.40} after top-k cannot be converted."
        )
    if function == "topk" and architecture in ("standard", "topk"):
        return {"architecture": "topk", "k": arguments.whole("k")}
    if function not in ("", "relu", "topk") or (function == "topk" and architecture != "topk"):
        raise UnsupportedArchitecture(
            f"`{cfg.name}`: {function[:40]} in a {architecture[:40]} SAE cannot be converted."
        )
    if architecture in ("topk", "abstopk"):
        return {"k": arguments.whole("k") or cfg.whole("k")}
    return {}


def _normalisation(cfg: Config) -> str:
    value = cfg.values.get("normalize_activations")
    if value is True:
        return "expected_average_only_in"
    return "none" if value in (None, False) else cfg.text("normalize_activations") or "none"


def _metadata(cfg: Config) -> dict[str, Any]:
    """A nested table without a version is SAELens 6's own, cut short: it still names the hook."""
    nested = cfg.section("metadata").values
    told = {
        **nested,
        **{key: cfg.values[key] for key in METADATA if cfg.values.get(key) is not None},
    }
    if cfg.values.get("hook_point") is not None and not told.get("hook_name"):
        told["hook_name"] = cfg.values["hook_point"]
    return told


def described(metadata: Config) -> dict[str, Any]:
    """What names the place and the data of an SAE, typed; it changes no number."""
    told: dict[str, Any] = {name: metadata.text(name) for name in TEXTS}
    told |= {"context_size": metadata.whole("context_size", least=0), "l0": metadata.number("l0")}
    return {**told, "prepend_bos": metadata.flag("prepend_bos")}
