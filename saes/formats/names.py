"""What names alone tell: layer, width, L0, site and model. Shown before anything is fetched."""

import re

from saes.formats.base import Fact, Facts, Origin

LAYER = re.compile(
    r"(?:^|[/_.\-])(?:layers?|blocks|h)[._]?(\d+)(?=$|[/_.\-])|(?:^|[/\-])L(\d+)[A-Z]?(?=$|[/_\-])",
    re.I,
)
LEADING = re.compile(r"^(\d+)-(?:res|mlp|att)")
WIDTH = re.compile(r"(?:^|[/_\-])(?:width_)?(\d+[km])(?=$|[/_\-])", re.I)
L0 = re.compile(r"(?:^|[/_])(?:average_)?l0_([a-z0-9]+)(?=$|[/_])", re.I)
SITES = (  # in this order: a transcoder's name may also name its hooks
    ("transcoder", re.compile(r"transcoder")),
    ("embedding", re.compile(r"embed")),
    ("attention", re.compile(r"hook_z|attn|attention|(?:^|[/_\-])att(?=$|[/_\-])")),
    ("mlp", re.compile(r"(?:^|[/_.\-])(?:hook_)?mlp|hook_normalized")),
    ("residual", re.compile(r"resid|(?:^|[/_\-])res(?=$|[/_\-])")),
)
HOOK_LAYER = re.compile(r"\.(\d+)\.")


def layer_of(path: str) -> int | None:
    found = LAYER.search(path) or LEADING.search(path.rpartition("/")[2])
    return None if found is None else int(next(it for it in found.groups() if it))


def site_of(name: str) -> str | None:
    """residual, mlp, attention, embedding or transcoder."""
    return next((site for site, pattern in SITES if pattern.search(name.lower())), None)


def hook_layer(hook_name: str) -> int | None:
    found = HOOK_LAYER.search(f"{hook_name}.")
    return None if found is None else int(found[1])


def hints_from(where: str, repo_id: str | None = None) -> Facts:
    """The folder's name first; of the repository's only the site, where the folder tells none."""
    repo = (repo_id or "").rpartition("/")[2]
    width, l0 = WIDTH.search(where), L0.search(where)
    told = {
        "layer": layer_of(where),
        "width": width and width[1].lower(),
        "l0": l0 and (int(l0[1]) if l0[1].isdigit() else l0[1]),
        "hook_type": site_of(where) or site_of(repo),
    }
    return {name: Fact(value, Origin.PATH) for name, value in told.items() if value is not None}


def hub_name_in(path: str) -> str:
    """The repository, where a path leads through a Hugging Face cache; else nothing."""
    for part in path.split("/"):
        owner, _, name = part.removeprefix("models--").partition("--")
        if part.startswith("models--") and owner and name:
            return f"{owner}/{name}"
    return ""
