"""Language models by the width of their residual stream: to suggest one, to doubt a wrong one."""

import re

from saes.errors import DimensionMismatch
from saes.formats.base import SaeInfo

GUIDE = {
    768: "gpt2",
    1024: "gpt2-medium",
    1280: "gpt2-large",
    1600: "gpt2-xl",
    2048: "google/gemma-2b",
    4096: "meta-llama/Llama-2-7b",
}
WIDTHS = {
    **{name: width for width, name in GUIDE.items()},
    "gpt2-small": 768,
    "gemma-2b-it": 2048,
    "gemma-7b": 3072,
    "gemma-2-2b": 2304,
    "gemma-2-9b": 3584,
    "gemma-2-27b": 4608,
    "gemma-3-270m": 640,
    "gemma-3-1b": 1152,
    "gemma-3-4b": 2560,
    "gemma-3-12b": 3840,
    "gemma-3-27b": 5376,
    "llama-2-7b-hf": 4096,
    "llama-2-13b": 5120,
    "meta-llama-3-8b": 4096,
    "llama-3-8b": 4096,
    "llama-3.1-8b": 4096,
    "llama-3.2-1b": 2048,
    "llama-3.2-3b": 3072,
    "mistral-7b": 4096,
    "mistral-7b-v0.1": 4096,
    "pythia-70m": 512,
    "pythia-70m-deduped": 512,
    "pythia-160m": 768,
    "pythia-410m": 1024,
    "pythia-1b": 2048,
    "pythia-1.4b": 2048,
    "pythia-2.8b": 2560,
    "qwen3-0.6b": 1024,
    "qwen3-1.7b": 2048,
    "qwen3-4b": 2560,
    "qwen3-8b": 4096,
    "qwen3-14b": 5120,
    "gpt-oss-20b": 2880,
}  # fmt: skip
_HUB_ID = re.compile(r"[\w.-]{1,96}/[\w.-]{1,96}", re.ASCII)
_ON_HUB = {
    "gpt2": "openai-community/gpt2",
    "gpt2-small": "openai-community/gpt2",
    **{f"gpt2-{it}": f"openai-community/gpt2-{it}" for it in ("medium", "large", "xl")},
    **{
        f"gemma-{it}": f"google/gemma-{it}" for it in ("2b", "2b-it", "7b", "2-2b", "2-9b", "2-27b")
    },
    **{f"gemma-2-{it}-it": f"google/gemma-2-{it}-it" for it in ("2b", "9b", "27b")},
    **{
        f"pythia-{it}": f"EleutherAI/pythia-{it}"
        for it in ("70m", "70m-deduped", "160m", "410m", "1b", "1.4b", "2.8b")
    },
    **{f"qwen3-{it}b": f"Qwen/Qwen3-{it}B" for it in ("0.6", "1.7", "4", "8", "14")},
    "llama-2-7b-hf": "meta-llama/Llama-2-7b-hf",
    "meta-llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "llama-3-8b": "meta-llama/Meta-Llama-3-8B",
    "llama-3.1-8b": "meta-llama/Llama-3.1-8B",
    "llama-3.2-1b": "meta-llama/Llama-3.2-1B",
    "llama-3.2-3b": "meta-llama/Llama-3.2-3B",
    "mistral-7b": "mistralai/Mistral-7B-v0.1",
    "mistral-7b-v0.1": "mistralai/Mistral-7B-v0.1",
    "gpt-oss-20b": "openai/gpt-oss-20b",
}  # TransformerLens' names, in small letters
OTHER_INPUTS = ("hook_z", "hook_q", "hook_k", "hook_v", "hook_pre", "mlp.hook_post", "hook_pattern")
SUFFIXES = ("-it", "-pt", "-base", "-instruct")


def infer_model_from_dimensions(d_in: int) -> str | None:
    """The guide's table. A suggestion: several models share each of these widths."""
    return GUIDE.get(d_in)


def name_on_hub(model_name: str) -> str:
    """The id of a model's repository, by its own name or TransformerLens'; empty: not known."""
    name = model_name.strip()
    return name if is_hub_id(name) else _ON_HUB.get(name.lower(), "")


def is_hub_id(name: str) -> bool:
    return _HUB_ID.fullmatch(name) is not None


def check_dimensions(model_name: str | None, info: SaeInfo) -> None:
    """Raises DimensionMismatch where a known model has another width. Unknown names pass."""
    width = _width(model_name or "")
    d_in, hook = info.get("d_in"), str(info.get("hook_name") or "")
    if width is None or d_in == width or info.get("reshape_activations") == "hook_z":
        return
    if any(part in hook for part in OTHER_INPUTS):
        return
    raise DimensionMismatch(
        f"Dimension mismatch: {model_name} has width {width}, this SAE reads {d_in}."
    )


def _width(model_name: str) -> int | None:
    name = model_name.strip().lower()
    known = {key.lower(): width for key, width in WIDTHS.items()}
    for spelled in (name, name.rpartition("/")[2]):
        for suffix in ("", *SUFFIXES):
            found = known.get(spelled.removesuffix(suffix)) or known.get(
                f"google/{spelled.removesuffix(suffix)}"
            )
            if found:
                return found
    return None
