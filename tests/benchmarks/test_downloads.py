"""The part of the bench that downloads runs; its figures at this size say nothing."""

import re
from collections.abc import Mapping
from pathlib import Path

import psutil
import pytest

from tests.benchmarks import __main__ as bench
from tests.benchmarks.downloads import HF, LINES, OURS, SPENT, TORCH, missed
from tests.benchmarks.measured import Measure


def took(seconds: Mapping[str, float]) -> dict[str, Measure]:
    return {name: Measure(it, 0.0, 0) for name, it in seconds.items()}


@pytest.mark.processes
@pytest.mark.skipif(not psutil.LINUX, reason="reads /proc")
def test_it_has_a_row_for_each_line_and_says_where_the_time_went(tmp_path: Path) -> None:
    table = bench.Bench(tmp_path, 1).downloads((64, 256), timed=False)
    rows = re.findall(r"^\| (loopback|100 MB/s) \| (.+) \|$", table, re.MULTILINE)
    assert [name for name, _ in rows] == [line.name for line in LINES] * 2
    figures = [[float(it) for it in text.split(" | ")] for _, text in rows]
    for whole, stages in zip(figures[:2], figures[2:], strict=True):
        assert len(stages) == len(SPENT)
        assert sum(stages) == pytest.approx(whole[3], abs=0.05)
        assert whole[7] > 10  # MB: the job was seen at work
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "seconds", "words"),
    [
        ("loopback", {HF: 2, TORCH: 9, OURS: 9}, []),
        ("loopback", {HF: 2, TORCH: 9, OURS: 9.5}, ["more than hf download and torch (9.50 s"]),
        ("100 MB/s", {HF: 12, TORCH: 20, OURS: 15}, []),
        ("100 MB/s", {HF: 12, TORCH: 20, OURS: 15.5}, ["more than 1.25 x hf download (15.50 s"]),
    ],
)
def test_each_line_has_its_own_target(
    line: str, seconds: Mapping[str, float], words: list[str]
) -> None:
    (judged,) = (it for it in LINES if it.name == line)
    said = missed(judged, took(seconds))
    assert len(said) == len(words)
    assert all(word in text for word, text in zip(words, said, strict=True))
