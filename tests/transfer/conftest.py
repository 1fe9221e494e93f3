"""Small pieces and short pauses, for tests that need no large files."""

from collections.abc import Iterator

import pytest

from saes import parts, patience
from tests.hub import LocalHub

PIECE = 500_000


@pytest.fixture
def small_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """What has three MB is six pieces."""
    monkeypatch.setattr(parts, "PIECE", PIECE)


@pytest.fixture
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)


@pytest.fixture
def hub() -> Iterator[LocalHub]:
    with LocalHub() as local:
        yield local
