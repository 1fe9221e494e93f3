"""conf.yaml and its like: what dumped configurations hold, and nothing that grows or runs."""

from pathlib import Path
from typing import Any

import pytest

from saes.errors import BrokenFile, ConfigNotFound, TooLarge
from saes.formats import FolderSource
from saes.formats.configs import MAX_DEPTH, MAX_YAML, Config, read_yaml


def read(folder: Path, text: str | bytes) -> Config:
    raw = text.encode() if isinstance(text, str) else text
    (folder / "conf.yaml").write_bytes(raw)
    return read_yaml(FolderSource(folder), "conf.yaml")


def value(folder: Path, written: str) -> Any:
    return read(folder, f"it: {written}").values["it"]


def test_tables_lists_texts_and_numbers_are_read(tmp_path: Path) -> None:
    config = read(tmp_path, "sae:\n  d_sae: 64\n  tied: true\nhooks:\n- blocks.6\n- 'no'\n")
    assert config.section("sae").whole("d_sae") == 64
    assert config.section("sae").flag("tied") is True
    assert config.values["hooks"] == ["blocks.6", "no"]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("5e-05", 5e-05),
        ("1.5e3", 1500.0),
        ("-.5", -0.5),
        ("-7", -7),
        ("0", 0),
        ("~", None),
        ("", None),
        ("off", False),
        ('"5"', "5"),
        ("2024-01-31", "2024-01-31"),
        ("1:30", "1:30"),
        ("0x10", "0x10"),
        ("010", 10.0),
        ("=", "="),
        (".nan", ".nan"),
        ("'line\n  two'", "line two"),
    ],
)
def test_scalars_are_what_their_writers_meant(written: str, meant: Any, tmp_path: Path) -> None:
    read_value = value(tmp_path, written)
    assert (read_value, type(read_value)) == (meant, type(meant))


def test_keys_are_texts_as_written(tmp_path: Path) -> None:
    config = read(tmp_path, "t:\n  1: a\n  on: b\n  ~: c\n  <<: d\n")
    assert config.values["t"] == {"1": "a", "on": "b", "~": "c", "<<": "d"}


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("a: &x 1\nb: *x\n", "anchors"),
        ("a: &x [1]\n", "anchors"),
        ("a: !!python/object/apply:os.system ['true']\n", "tags"),
        ("a: !!binary aGk=\n", "tags"),
        ("a: !custom 1\n", "tags"),
        ("a: 1\na: 2\n", "twice"),
        ("s:\n  1: 2\n  '1': 3\n", "twice"),
        ("? [a, b]\n: 1\n", "key that is no text"),
        ("[" * 5000, "nested"),
        ("a: " + "{b: " * MAX_DEPTH + "1" + "}" * MAX_DEPTH, "nested"),
        ("- a\n- b\n", "one table"),
        ("", "one table"),
        ("only text", "one table"),
        ("a: [1, 2\n", "valid YAML"),
        ("a: 1\n---\nb: 2\n", "valid YAML"),
        ("a: \x00\n", "valid YAML"),
        ("\ta: 1", "valid YAML"),
        (b"a: \xff\n", "UTF-8"),
    ],
    ids=lambda it: repr(it)[:20],
)
def test_what_no_configuration_needs_is_refused(text: str, why: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match=why) as caught:
        read(tmp_path, text)
    assert "`conf.yaml`" in str(caught.value)
    assert len(str(caught.value)) < 200


def test_laughs_do_not_multiply(tmp_path: Path) -> None:
    lines = ["a0: &a0 [x, x]", *(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 40))]
    with pytest.raises(BrokenFile, match="anchors"):
        read(tmp_path, "\n".join(lines))


def test_a_long_file_is_refused_before_it_is_parsed(tmp_path: Path) -> None:
    with pytest.raises(TooLarge):
        read(tmp_path, "a: " + "x" * MAX_YAML)


def test_an_absent_file_is_a_configuration_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigNotFound):
        read_yaml(FolderSource(tmp_path), "conf.yaml")


@pytest.mark.parametrize("text", ["d: 1e999\n", "d: '4'\n", "d: yes\n", "d: 99999999999999999999"])
def test_values_are_asked_for_by_type(text: str, tmp_path: Path) -> None:
    with pytest.raises(BrokenFile, match="d should be"):
        read(tmp_path, text).whole("d")
