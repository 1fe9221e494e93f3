"""The card of published SAEs: a README that says what they are, how to load them, and their limits.

Of a README that is there only the part between our marks is written anew, and its front matter is
merged. What the marked part says of SAEs that are not published now stays word for word.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt

from saes.errors import BadCard

BYTE_ORDER_MARK = "\ufeff"
BEGIN, END = "<!-- mistudio:begin -->", "<!-- mistudio:end -->"
_NOTE = "<!-- What stands between these two marks is written by miStudio at each publishing. -->"
_ROW = re.compile(r"^\| \[`([^`|\n]+)`\].*\|[ \t]*$", re.MULTILINE)
_SECTION, _END_SECTION = re.compile(r"<!-- mistudio:sae (\S+) -->"), "<!-- mistudio:end-sae -->"
_CRLF = re.compile(r"[^\n]*\r\n")
_ODD_END = re.compile("\r\n?")
MOST_TOLD = 50  # SAEs of one card: of more, nobody reads a section each, and the Hub takes no more
TAGS = ("sparse-autoencoder", "saelens", "mechanistic-interpretability")
HEAD = (
    "| SAE | Layer | Hook | Width | Architecture | L0 | Size | sha256 |\n"
    "|---|---:|---|---:|---|---:|---:|---|"
)


@dataclass(frozen=True)
class Entry:
    """What the card says of one SAE. `size` and `sha256` of its weights; None: not made yet."""

    folder: str
    name: str
    layer: int | None
    hook: str
    d_in: int | None
    d_sae: int | None
    architecture: str
    l0: float | None
    size: int | None
    sha256: str | None
    model: str  # as the SAE names it
    base_model: str  # on the Hub; empty where that is not known
    datasets: tuple[str, ...]
    told: tuple[tuple[str, str], ...] = ()  # label and sentence: training, provenance, certificate


# --- front matter ---------------------------------------------------------------------------------


def merged(
    data: dict[str, Any],
    entries: Sequence[Entry],
    terms: Mapping[str, str],
    datasets: Collection[str],
) -> dict[str, Any]:
    """What a README says of itself, and what these SAEs add. `terms`: keys of the license;
    `datasets`: ids on the Hub."""
    made = dict(data)
    if made.get("library_name") is None:
        made["library_name"] = "saelens"
    tags = [*TAGS, *(it.architecture for it in entries)]
    models = [it.base_model for it in entries]
    for key, ours in (("tags", tags), ("base_model", models), ("datasets", datasets)):
        known = _listed(data.get(key))
        if new := [it for it in dict.fromkeys(ours) if it and it not in known]:
            alone = key == "base_model" and not known and len(new) == 1
            made[key] = new[0] if alone else [*known, *new]
    return {**made, **terms}


def _listed(value: Any) -> list[Any]:
    if value is None:
        return []
    return list(value) if isinstance(value, list) else [value]


# --- the text -------------------------------------------------------------------------------------


def written(
    text: str, repo_id: str, entries: Sequence[Entry], there: Collection[str], front: str = ""
) -> str:
    """The README with its marked part anew. `there`: the folders that the repository holds.

    `text` is a README without or with a marked part, or nothing. `front`: what stands before it
    and stays, marks or not: the front matter. Raises BadCard.
    """
    before, old, after = _split(text)
    newline = "\r\n" if _CRLF.match(front + text) else "\n"
    part = _part(repo_id, entries, *_kept(old, there, {it.folder for it in entries}))
    part = f"{BEGIN}{part}{END}".replace("\n", newline)
    if BEGIN not in text:
        before, after = _head(front, before, newline, _title(repo_id, entries)), newline
    if _is_beside(before):
        raise BadCard(
            f"In README.md, {BEGIN} should stand at the beginning of a line, outside of code."
        )
    return f"{front}{before}{part}{after}"


def _head(front: str, before: str, newline: str, title: str) -> str:
    """All that comes before our part where there was none: a title where there is no text."""
    if not before.removeprefix(BYTE_ORDER_MARK).strip():
        before += _gap(front + before, newline) + title.replace("\n", newline)
    return before + _gap(before, newline)


def _gap(before: str, newline: str) -> str:
    """What makes an empty line of what comes next, after all that is there."""
    if not before.removeprefix(BYTE_ORDER_MARK):
        return ""
    ends = len(before) - len(before.rstrip("\r\n"))
    return newline * max(0, 2 - before[len(before) - ends :].count("\n"))


def _split(text: str) -> tuple[str, str, str]:
    """What is before our part, our part, and what is after it."""
    if text.count(BEGIN) != text.count(END) or text.count(BEGIN) > 1:
        raise BadCard(f"README.md should hold {BEGIN} and {END} once each, or neither.")
    before, mark, rest = text.partition(BEGIN)
    old, _, after = rest.partition(END)
    if mark and END not in rest:
        raise BadCard(f"In README.md, {END} stands before {BEGIN}.")
    return before, old, after


def _is_beside(before: str) -> bool:
    """Whether what comes next is a part of a line, or of a block of code."""
    line = before[max(before.rfind("\n"), before.rfind("\r")) + 1 :]
    if line.removeprefix(BYTE_ORDER_MARK):
        return True
    if "```" not in before and "~~~" not in before:
        return False
    blocks = MarkdownIt("commonmark").disable(["inline", "reference", "text_join"], True)
    return blocks.parse(before.removeprefix(BYTE_ORDER_MARK) + BEGIN)[-1].type == "fence"


def _kept(
    old: str, there: Collection[str], now: Collection[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """Rows and sections of our part, by folder, of SAEs that are there and not published now."""
    old = _ODD_END.sub("\n", old)
    rows = {m[1]: m[0].rstrip() for m in _ROW.finditer(old)}
    parts = [(_SECTION.search(it), it) for it in old.split(_END_SECTION)[:-1]]
    sections = {m[1]: it[m.start() :] + _END_SECTION for m, it in parts if m}
    kept = set(there) - set(now)
    return (
        {name: it for name, it in rows.items() if name in kept},
        {name: it for name, it in sections.items() if name in kept},
    )


def _title(repo_id: str, entries: Sequence[Entry]) -> str:
    models = sorted({it.model for it in entries if it.model})
    of = f" of {', '.join(f'`{code(name)}`' for name in models)}" if models else ""
    many = "Sparse autoencoders" if len(entries) > 1 else "A sparse autoencoder"
    name = repo_id.partition("/")[2]
    return f"# {name}\n\n{many} for activations{of}, in the form that SAELens loads."


def _part(
    repo_id: str, entries: Sequence[Entry], rows: dict[str, str], sections: dict[str, str]
) -> str:
    is_told = len(rows.keys() | {it.folder for it in entries}) <= MOST_TOLD
    rows = rows | {it.folder: _row(it, in_full=not is_told) for it in entries}
    if is_told:
        sections = sections | {it.folder: _section(it) for it in entries}
    order = sorted(rows, key=_naturally)
    blocks = [
        _NOTE,
        "## SAEs",
        "\n".join([HEAD, *(rows[name] for name in order)]),
        "L0 is the mean number of active features. Beside the weights of each SAE, "
        "`sae_passport.json` says where they come from, how they were converted and checked, and "
        "the hashes of all files.",
        "## How to load one",
        _code(repo_id, min((it.folder for it in entries), key=_naturally)),
        *(sections[name] for name in sorted(sections, key=_naturally)),
        "## Limits",
        "Each SAE was trained on activations of one model at one hook: at others its features mean "
        "nothing. SAELens casts all tensors to the `dtype` of `cfg.json`. Where no L0 is given, "
        "none is known; how well an SAE reconstructs is not measured here.",
    ]
    return "\n" + "\n\n".join(blocks) + "\n"


def _naturally(name: str) -> list[Any]:
    """layer_2 before layer_10."""
    return [
        (1, int(part), "") if part.isdecimal() else (0, 0, part)  # "²" is a digit and no number
        for part in re.split(r"(\d+)", name)
    ]  # fmt: skip


def _code(repo_id: str, folder: str) -> str:
    return (
        "```python\n"
        "from sae_lens import SAE  # pip install sae-lens\n\n"
        f'sae = SAE.from_pretrained(release="{repo_id}", sae_id="{folder}")\n'
        "```"
    )


def _row(it: Entry, in_full: bool) -> str:
    """`in_full`: with all of the hash, where no section tells it."""
    cells = (
        f"[`{it.folder}`](./tree/main/{it.folder})",
        "–" if it.layer is None else str(it.layer),
        f"`{code(it.hook)}`" if it.hook else "–",
        "–" if it.d_sae is None else f"{it.d_sae:,}",
        cell(it.architecture) or "–",
        "–" if it.l0 is None else f"{it.l0:g}",
        "…" if it.size is None else _size(it.size),
        "…" if it.sha256 is None else f"`{it.sha256 if in_full else it.sha256[:12] + '…'}`",
    )
    return f"| {' | '.join(cells)} |"


def _size(size: int) -> str:
    for unit, step in (("GB", 10**9), ("MB", 10**6), ("kB", 10**3)):
        if size >= step:
            return f"{size / step:.1f} {unit}"
    return f"{size} B"


def _section(it: Entry) -> str:
    lines = [f"- **{label}**: {sentence}" for label, sentence in it.told]
    sha256 = [f"- **sha256 of the weights**: `{it.sha256}`"] if it.sha256 else []
    return "\n".join(
        [
            f"<!-- mistudio:sae {it.folder} -->", f"### `{it.folder}`", "", *lines, *sha256,
            "<!-- mistudio:end-sae -->",
        ]
    )  # fmt: skip


def cell(text: str) -> str:
    """Words of users and files as one line of plain text: no markup, no comment, no new cell."""
    plain = "".join(c if c.isprintable() else " " for c in text)
    return re.sub(r"([\\`*_{}\[\]<>|#!])", r"\\\1", plain.replace("&", "&amp;")).strip()


def code(text: str) -> str:
    """The same inside a span of code."""
    return re.sub(r"[`|<>\n\r]", "", "".join(c for c in text if c.isprintable()))
