"""A line that all connections share, and files that the kernel sends."""

from __future__ import annotations

import os
import ssl
import time
from concurrent.futures import ThreadPoolExecutor
from http.client import IncompleteRead
from itertools import repeat
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.hub import LocalHub, certificate
from tests.hub.conftest import CONFIG, WEIGHTS
from tests.hub.link import BURST, Link
from tests.hub.test_wire import ask, cached, cdn

SPEED = 20_000_000
WHOLE = WEIGHTS.read(0, WEIGHTS.size)


@pytest.fixture
def on_disk(tmp_path: Path) -> Path:
    path = tmp_path / "sae.safetensors"
    path.write_bytes(WHOLE)
    return path


@pytest.mark.parametrize("connections", [1, 4])
def test_more_connections_bring_nothing_more(on_disk: Path, connections: int) -> None:
    with LocalHub(link_bytes_per_second=SPEED) as hub, ThreadPoolExecutor(connections) as pool:
        hub.add_repo("alice/sae", {"layer_7/sae.safetensors": on_disk})
        where = cdn(hub)
        start = time.monotonic()
        bodies = [body for _, body in pool.map(ask, repeat(where, 4))]
        took = time.monotonic() - start
    assert bodies == [WHOLE] * 4
    assert took > 4 * WEIGHTS.size / SPEED - BURST


def test_whoever_comes_next_waits_for_those_before() -> None:
    link = Link(1.0)
    assert 990 < link.book(1000) <= 1000
    assert 1990 < link.book(1000) <= 2000


def test_the_line_is_that_to_the_cdn_alone() -> None:
    with LocalHub(link_bytes_per_second=0.01) as hub:
        hub.add_repo("alice/sae", {"layer_7/cfg.json": CONFIG})
        assert ask(cached(hub))[1] == CONFIG


def test_a_file_on_disk_goes_through_tls_too(on_disk: Path, tmp_path: Path) -> None:
    tls, trusted = certificate.make(tmp_path)
    trust = ssl.create_default_context(cafile=str(trusted))
    with LocalHub(tls=tls) as hub:
        hub.add_repo("alice/sae", {"sae.safetensors": on_disk})
        with urlopen(hub.url + "/alice/sae/resolve/main/sae.safetensors", context=trust) as answer:
            assert answer.read() == WHOLE


def test_a_file_that_became_shorter_ends_the_connection(hub: LocalHub, on_disk: Path) -> None:
    hub.add_repo("alice/sae", {"layer_7/sae.safetensors": on_disk})
    where = cdn(hub)
    os.truncate(on_disk, 1_500_000)
    with pytest.raises(IncompleteRead) as failed:
        ask(where)
    assert failed.value.partial == WHOLE[:1_500_000]
