"""Offers crossed: a layer in each line, a width in each column, the L0 variants where they meet.

One matrix for each hook. Where a repository holds several series of SAEs side by side, such as
`resid_post` and `resid_post_all`, each has columns of its own, told apart by what their paths say
beside layer, width and L0.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from saes.formats.names import L0, LAYER, WIDTH
from saes.offers import Offer
from saes.preview import Row, width_as_number

HANDFUL = 5
MOST_COLUMNS = 40  # in one matrix: more than that is no overview
MOST_OFFERS = 5_000
LONGEST_SERIES = 24
FITS = 1100  # pixels that a page has for a matrix
PICK, LETTER, PICK_AROUND, AROUND = 38, 8, 14, 12  # pixels: of a pick, around it and its cell
HEAD = 56  # pixels of a size at the head of a column
SIZE_LETTERS = 7  # of a size, which stands where no name tells more


@dataclass(frozen=True)
class Pick:
    """One SAE of a cell. `label` tells it from its neighbours, `said` from all of its matrix."""

    offer: Offer
    label: str
    said: str


@dataclass(frozen=True)
class Column:
    series: str
    head: str
    sizes: tuple[int, int]  # of one SAE: the least and the largest

    @property
    def one_size(self) -> bool:
        return self.sizes[1] - self.sizes[0] < self.sizes[1] / 100


@dataclass(frozen=True)
class Line:
    head: str
    cells: list[list[Pick]]  # one for each column


@dataclass(frozen=True)
class Matrix:
    hook: str
    corner: str  # what the heads of the lines are
    columns: list[Column]
    lines: list[Line]

    @property
    def series(self) -> list[tuple[str, int, int]]:
        """Each series, its first column and how many it has; nothing where there is only one."""
        names = [column.series for column in self.columns]
        counted = Counter(names)
        several = len(counted) > 1
        return [(it, names.index(it), count) for it, count in counted.items()] if several else []

    @property
    def count(self) -> int:
        return sum(len(cell) for line in self.lines for cell in line.cells)

    @property
    def widths(self) -> int:
        return len({column.head for column in self.columns})

    @cached_property
    def sparse(self) -> set[int]:
        """Columns that have nothing in half of the lines or more."""
        filled = [
            sum(bool(line.cells[at]) for line in self.lines) for at in range(len(self.columns))
        ]
        return {at for at, count in enumerate(filled) if count * 2 <= len(self.lines)}

    @property
    def layout(self) -> str:
        """How it fits on a page: "lined" where columns that most lines fill need no second row;
        "wide" where not even single picks do, so that it scrolls by itself.
        """
        columns = [[line.cells[at] for line in self.lines] for at in range(len(self.columns))]
        least = [max(HEAD, *map(_widest, cells)) + AROUND for cells in columns]
        lined = [
            narrow if at in self.sparse else max(map(_in_a_row, columns[at])) + AROUND
            for at, narrow in enumerate(least)
        ]
        return "wide" if sum(least) > FITS else "lined" if sum(lined) <= FITS else ""


def _widest(cell: list[Pick]) -> int:
    return max(map(_pixels, cell), default=0)


def _in_a_row(cell: list[Pick]) -> int:
    return sum(map(_pixels, cell))


def _pixels(pick: Pick) -> int:
    return max(PICK, (len(pick.label) or SIZE_LETTERS) * LETTER + PICK_AROUND)


def can_cross(rows: Sequence[Row]) -> bool:
    """Whether there is something to cross, and more than a handful of it."""
    layers, widths = {row.layer for row in rows}, {row.width for row in rows}
    return len(rows) > HANDFUL and (len(layers) > 1 or len(widths) > 1) and _is_clear(rows)


def _is_clear(rows: Sequence[Row]) -> bool:
    widths = Counter(hook for hook, _ in {(row.hook_type, row.width) for row in rows})
    return len(rows) <= MOST_OFFERS and max(widths.values()) <= MOST_COLUMNS


def crossed(offers: Iterable[Offer]) -> list[Matrix]:
    """The hook with the most SAEs first. `offers` are in the order of their rows."""
    by_hook: dict[str, list[Offer]] = defaultdict(list)
    for offer in offers:
        by_hook[offer.row.hook_type].append(offer)
    found = sorted(by_hook.items(), key=lambda hook: -len(hook[1]))
    return [_strip(hook, those) or _matrix(hook, those) for hook, those in found]


def _matrix(hook: str, offers: list[Offer]) -> Matrix:
    series = _series([offer.row for offer in offers])
    cells: dict[tuple[int | None, tuple[str, str]], list[Offer]] = defaultdict(list)
    of_column: dict[tuple[str, str], list[int]] = defaultdict(list)
    for offer in offers:
        key = (series[offer.row.where], offer.row.width)
        cells[offer.row.layer, key].append(offer)
        of_column[key].append(offer.row.size)
    keys = sorted(of_column, key=lambda key: (key[0], width_as_number(key[1])))
    layers = sorted({offer.row.layer for offer in offers}, key=lambda it: -1 if it is None else it)
    return Matrix(
        hook,
        "Layer",
        [Column(*key, (min(of_column[key]), max(of_column[key]))) for key in keys],
        [
            Line(_layer(layer), [_cell(cells.get((layer, key), []), key[0]) for key in keys])
            for layer in layers
        ],
    )


def _strip(hook: str, offers: list[Offer]) -> Matrix | None:
    """One SAE for each layer and nothing to cross it with: all layers in one line."""
    layers, widths = {offer.row.layer for offer in offers}, {offer.row.width for offer in offers}
    if len(layers) < len(offers) or len(widths) > 1 or len(layers) <= HANDFUL:
        return None
    sizes = [offer.row.size for offer in offers]
    picks = [Pick(it, _layer(it.row.layer), f"Layer {_layer(it.row.layer)}") for it in offers]
    columns = [Column("", "Layers", (min(sizes), max(sizes)))]
    return Matrix(hook, "Width", columns, [Line(widths.pop(), [picks])])


def _layer(layer: int | None) -> str:
    return "–" if layer is None else str(layer)


# --- what paths say beside layer, width and L0 ----------------------------------------------------


def _series(rows: Sequence[Row]) -> dict[str, str]:
    """The series of each path. All are one where that would be no overview."""
    told = {row.where: _beside(row) for row in rows}
    columns = {(told[row.where], row.width) for row in rows}
    if len(columns) > min(MOST_COLUMNS, len(rows) / 2):
        return dict.fromkeys(told, "")
    names = _shortened(set(told.values()))
    return {where: names[series] for where, series in told.items()}


def _beside(row: Row) -> str:
    """`transcoder_all/layer_9_width_262k_l0_small_affine` -> `transcoder_all affine`."""
    path = row.where
    if row.l0 is None and "/" in path and not LAYER.search(path.rpartition("/")[2]):
        path = path.rpartition("/")[0]  # the last folder tells apart what is in one cell
    for pattern in (LAYER, WIDTH, L0):
        path = pattern.sub(" ", path)
    return " ".join(word.strip("/_-.") for word in path.split()).strip()


def _shortened(names: set[str]) -> dict[str, str]:
    """Names as they are or, where they are long, only the words that not all of them have."""
    if max(map(len, names)) <= LONGEST_SERIES:
        return {name: name for name in names}
    words = {name: name.replace("/", " ").replace("_", " ").split() for name in names}
    shared = set.intersection(*map(set, words.values()))
    short = {name: " ".join(w for w in words[name] if w not in shared) for name in names}
    return short if len(set(short.values())) == len(names) else {name: name for name in names}


def _cell(offers: list[Offer], series: str) -> list[Pick]:
    labels = ["" if offer.row.l0 is None else str(offer.row.l0) for offer in offers]
    if len(set(labels)) == len(labels):
        words = [f"L0 {label}" if label else "" for label in labels]
    else:
        words = labels = _own_words([offer.row.where for offer in offers])
    told = zip(offers, labels, words, strict=True)
    return [Pick(offer, label, _said(offer.row, series, word)) for offer, label, word in told]


def _said(row: Row, series: str, word: str) -> str:
    width = f"width {row.width}" if row.width else ""
    return ", ".join(filter(None, (f"Layer {_layer(row.layer)}", series, width, word)))


def _own_words(paths: list[str]) -> list[str]:
    """Of each path the parts that not all of them have."""
    parts = [path.split("/") for path in paths]
    shared = set.intersection(*map(set, parts))
    return ["/".join(part for part in those if part not in shared) for those in parts]
