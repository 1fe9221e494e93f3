"""The benchmark runs; its figures at this size say nothing."""

import re
from pathlib import Path

import psutil
import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks.made import one_of_each_family


@pytest.mark.skipif(not psutil.LINUX, reason="reads /proc")
def test_it_has_a_row_for_each_family_and_meets_its_targets(tmp_path: Path) -> None:
    table = bench.Bench(tmp_path, 1)
    rows = re.findall(r"^\| (\w+) \| +\d", table.every_family(1 << 16), re.MULTILINE)
    assert rows == sorted(one_of_each_family())
    assert {"saelens", "mistudio", "gemma_scope_1"} <= set(rows)
    assert "| mistudio |" in table.both_ways((64, 256), timed=False)
    assert table.missed == []
