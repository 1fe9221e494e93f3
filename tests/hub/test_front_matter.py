"""Front matter: our keys are merged into what somebody wrote, and all the rest stays as it was."""

import time
from typing import Any

import pytest
import yaml
from huggingface_hub import ModelCard

from saes.errors import BadCard
from saes.hub import front_matter
from saes.hub.front_matter import LONGEST, read, split, with_data

THEIRS = """\
# written by hand
thumbnail: 'x.png'   # a picture
language: [no, en]
version: 1.10
mode: 0777
nothing:
also: ~
on: push
released: 2024-02-30
license: mit  # because we like it
model-index:
- name: x
  odd: {results: []}
tags:
# the first is the main one
- mine  # truly
- 1.10
# above the model
base_model: a/b  # the base
description: |
  Long words
  # no comment

2: two
"""
DATA = {"license": "gemma", "library_name": "saelens"}


def card(block: str, newline: str = "\n", below: str = "# Mine\n") -> str:
    return f"---\n{block}---\n{below}".replace("\n", newline)


def merged(text: str, **more: Any) -> str:
    """With more items behind those of a list, and other values."""
    data = read(text)
    for key, value in more.items():
        known = data.get(key)
        known = known if isinstance(known, list) else [] if known is None else [known]
        data[key] = [*known, *value] if isinstance(value, list) else value
    return with_data(text, data)


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_only_the_keys_that_change_are_written(newline: str, mark: str) -> None:
    text = mark + card(THEIRS, newline, "# Mine  \n\n\n---\nlicense: no\n---\n")
    made = merged(text, tags=["a", "b"], base_model=["c/d"], datasets=["e/f"], **DATA)
    block = (
        THEIRS.replace("license: mit  #", "license: gemma  #")
        .replace("- 1.10\n", "- 1.10\n- a\n- b\n")
        .replace("base_model: a/b  # the base\n", "base_model:\n- a/b  # the base\n- c/d\n")
    ) + "datasets:\n- e/f\nlibrary_name: saelens\n"
    assert made == mark + card(block, newline, "# Mine  \n\n\n---\nlicense: no\n---\n")


def test_nothing_is_written_where_nothing_changes() -> None:
    text = card(THEIRS)
    assert with_data(text, read(text)) == text


def test_values_are_read_as_yaml_has_them() -> None:
    told = read(card(THEIRS))
    assert told["language"] == [False, "en"] and told["version"] == 1.1 and told["mode"] == 511
    assert told["nothing"] is None and told[True] == "push" and told[2] == "two"  # type: ignore[index]
    assert told["model-index"] == [{"name": "x", "odd": {"results": []}}]


def test_a_day_is_read_as_it_is_written() -> None:
    assert read(card("a: 2024-02-30\nb: 2024-01-01\n")) == {"a": "2024-02-30", "b": "2024-01-01"}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("tags: [x, 'no']\n", "tags: [x, 'no', a, 'no, not']\n"),
        ("tags: [x, 1.10,]  # c\n", "tags: [x, 1.10, a, 'no, not',]  # c\n"),
        ("tags: [x, # c\n  y # d\n  ]\n", "tags: [x, # c\n  y, a, 'no, not' # d\n  ]\n"),
        ("tags: []  # none\n", "tags:\n- a\n- no, not  # none\n"),
        ("tags:  # none\n", "tags:\n- a\n- no, not  # none\n"),
        ("tags: ~\nx: y\n", "tags:\n- a\n- no, not\nx: y\n"),
        ("tags: x, y\n", "tags:\n- x, y\n- a\n- 'no, not'\n"),
        ("tags: 'x\n  y'\n", "tags:\n- 'x\n  y'\n- a\n- 'no, not'\n"),
        ("tags: |\n  x\n\nb: c\n", "tags:\n- |\n  x\n\n- a\n- 'no, not'\nb: c\n"),
        ("tags: {x: y}\n", "tags:\n- {x: y}\n- a\n- 'no, not'\n"),
        ("tags:\n  x: y\n  b: c # d\n", "tags:\n- x: y\n  b: c # d\n- a\n- 'no, not'\n"),
        ("'tags' :\n  - x\n\n# end\n", "'tags' :\n  - x\n  - a\n  - 'no, not'\n\n# end\n"),
        ("tags:\n- x: y\n  b: [c]\nd: e\n", "tags:\n- x: y\n  b: [c]\n- a\n- 'no, not'\nd: e\n"),
        ("tags:\n- x\n-\n", "tags:\n- x\n-\n- a\n- 'no, not'\n"),
        ("tags:\n- x\n- x\n", "tags:\n- x\n- x\n- a\n- 'no, not'\n"),
        ("tags:\n- >-\n  x\n  y\n", "tags:\n- >-\n  x\n  y\n- a\n- 'no, not'\n"),
    ],
)
def test_a_list_grows_and_what_is_in_it_stays_as_it_was_written(old: str, new: str) -> None:
    assert merged(card(old), tags=["a", "no, not"]) == card(new)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("license: [mit, gpl]  # c\na: b\n", "license: gemma  # c\na: b\n"),
        ("license:\n- mit\n- gpl\n# c\na: b\n", "license: gemma\n# c\na: b\n"),
        ("license: |\n  mit\n# c\n", "license: gemma\n# c\n"),
        ("license:\n# c\n", "license: gemma\n# c\n"),
        ("license: !!str mit\n", "license: gemma\n"),
        ('"license" : &x "c#"\n', '"license": gemma\n'),
        ("license: a\n  b # c\n", "license: gemma # c\n"),
        ("License: mit\n", "License: mit\nlicense: gemma\n"),
        ("a: |+\n  b\n\n", "a: |+\n  b\n\nlicense: gemma\n"),
        ("a: |\n  b\n", "a: |\n  b\nlicense: gemma\n"),
        ("a: .nan\n", "a: .nan\nlicense: gemma\n"),
        ("<<: {license: mit}\n", "<<: {license: mit}\nlicense: gemma\n"),
        ("# only a comment\n", "# only a comment\nlicense: gemma\n"),
        ("", "license: gemma\n"),
        ("---\na: b\n", "---\na: b\nlicense: gemma\n"),
    ],
)
def test_a_value_is_replaced_and_a_comment_behind_it_stays(old: str, new: str) -> None:
    assert merged(card(old), license="gemma") == card(new)


@pytest.mark.parametrize(
    "value",
    ["no", "123", "1.10", "~", "", "a: b", "# x", "2024-01-01", "é", "a\u2028b", "\ufeff", "a\nb",
     "- x", "[x]", "yes", "0x1f"],
)  # fmt: skip
def test_a_text_reads_back_as_the_same_text(value: str) -> None:
    for block in ("", "license: mit\nbase_model: a/b\ntags: [x]\n"):
        made = merged(card(block), license=value, base_model=[value], tags=[value])
        told = yaml.safe_load(split(made)[0].strip().strip("-"))
        assert told == read(made) and told["license"] == value
        assert told["base_model"][-1] == told["tags"][-1] == value


@pytest.mark.parametrize("value", ["1e3", "1.5e3", "1E+9", "1_0e2", "0o17", "-0o7", "12.e3"])
def test_a_text_that_only_yaml_1_2_takes_for_a_number_is_quoted(value: str) -> None:
    assert merged(card(""), license=value) == card(f"license: '{value}'\n")
    assert merged(card("tags: [x]\n"), tags=[value]) == card(f"tags: [x, '{value}']\n")


@pytest.mark.parametrize("value", ["apache-2.0", "cc-by-4.0", "0.1.2", "e3", "3e", "0o9", "gpt2"])
def test_a_text_that_is_no_number_is_not_quoted(value: str) -> None:
    assert merged(card(""), license=value) == card(f"license: {value}\n")


@pytest.mark.parametrize("old", ["tags:\n  - x\n", "tags: [x]\n", "tags: x\n", "tags:\n"])
def test_a_text_of_several_lines_has_the_line_ending_of_the_readme(old: str) -> None:
    made = merged(card(old, "\r\n"), tags=["a\nb"])
    assert read(made)["tags"][-1] == "a\nb" and "\n" not in made.replace("\r\n", "")


@pytest.mark.parametrize(
    ("block", "words"),
    [
        ("{license: mit}\n", "each key at the beginning"),
        ("{license: mit,\nx: y}\n", "each key at the beginning"),
        ("  license: mit\n", "each key at the beginning"),
        ("? license\n: mit\n", "each key at the beginning"),
        ("license: mit\nlicense: mit\n", "'license' twice"),
        ("a: 1\n'a': 2\n", "'a' twice"),
        ("license: # c\n  mit\n", "comment stands inside of 'license'"),
        ("license: [mit, # c\n  gpl]\n", "comment stands inside of 'license'"),
        ("license: | # c\n  mit\n", "comment stands inside of 'license'"),
        ("base_model: # c\n  a/b\n", "comment stands inside of 'base_model'"),
        ("a: b\n...\n", "no valid YAML|cannot be merged"),
        ("%YAML 1.1\n", "no valid YAML"),
        ("a: b # c\u2028license: x\n", "line breaks"),
        ("a: b # c\rlicense: x\n", "line breaks"),
        ("a: b # c\x85license: x\n", "line breaks"),
    ],
)
def test_what_cannot_surely_be_merged_is_refused_in_words(block: str, words: str) -> None:
    with pytest.raises(BadCard, match=words):
        merged(card(block), license="gemma", base_model=["c/d"])


@pytest.mark.parametrize(
    "block",
    ["- a list\n", "words\n", "a: [\n", "a: &x [1]\nb: *x\n", "a: " + "[" * 5000 + "\n", "a: \0\n",
     "a: !!int x\n", "a: !!int ''\n", "a: !!bool x\n", "a: !!python/none x\n", "? [x]\n: y\n",
     'a: "\\uD800"\n', "a: 1" + ":00" * 200_000 + "\n", "a: 1" + ":00" * 300 + ".5\n",
     "a: " + "1" * 5000 + "\n", "a: b\n--- c\n"],
    ids=range(16),
)  # fmt: skip
def test_hostile_front_matter_is_refused_in_words_and_soon(block: str) -> None:
    begun = time.process_time()
    with pytest.raises(BadCard):
        read(card(block))
    assert time.process_time() - begun < 10


@pytest.mark.parametrize(
    "block",
    ["a: !!set {x, y}\n", "a: !!binary YQ==\n", "a: =\n", "a: .inf\n", "a: !!omap [x: y]\n"],
)
def test_values_of_odd_kinds_stay(block: str) -> None:
    assert merged(card(block), license="mit") == card(block + "license: mit\n")


@pytest.mark.parametrize(
    "text",
    ["", "\n", "# x\r\n\r\nwords\r\n", "---", "---\n", "---\n\n# x\n", "\ufeff", "\ufeff# x\n",
     "--- \n# x\n---x\n", "  \n# x", "a\rb\r", "----\na: b\n----\n"],
)  # fmt: skip
def test_front_matter_comes_before_a_readme_that_has_none(text: str) -> None:
    made = with_data(text, DATA)
    mark, bare = text[: text.startswith("\ufeff")], text.removeprefix("\ufeff")
    newline = "\r\n" if "\r\n" in text else "\n"
    ours = card("license: gemma\nlibrary_name: saelens\n", newline, "")
    assert made == mark + ours + bare
    assert read(made) == DATA and split(made) == (mark + ours, bare)


@pytest.mark.parametrize("text", ["---\n---", "---\n---\n", "---\r\n---\r\n# x\r\n", " \n---\n---"])
def test_empty_front_matter_is_filled(text: str) -> None:
    made = with_data(text, {"license": "mit"})
    newline = "\r\n" if "\r\n" in text else "\n"
    assert made == text.replace("---" + newline, f"---{newline}license: mit{newline}", 1)


def test_a_readme_of_lone_carriage_returns_with_front_matter_is_refused_in_words() -> None:
    with pytest.raises(BadCard, match="carriage return"):
        with_data(card("license: mit\n", "\r"), DATA)


@pytest.mark.parametrize("begin", ["--- \n", "---\t\n", "\ufeff\n ---  \r\n"])
@pytest.mark.parametrize("end", ["---", "---\n# x\n", "---  \r\n"])
def test_dashes_with_spaces_that_may_be_front_matter_are_refused_in_words(
    begin: str, end: str
) -> None:
    with pytest.raises(BadCard, match="take away the spaces"):
        with_data(f"{begin}license: mit\n{end}", DATA)


def test_many_lines_of_dashes_and_spaces_are_read_soon() -> None:
    begun = time.process_time()
    with_data("---" + " " * 2**18 + "\n" + "--- -\n" * 2**16, DATA)
    with_data("\n" * 2**18 + "--- \n" + "-- \n" * 2**17, DATA)
    assert time.process_time() - begun < 2


def test_the_hubs_client_reads_what_we_wrote() -> None:
    text = "---\nlicense: mit\ntags: x\nmodel-index:\n- name: y\n---\n# Mine\n"
    made = ModelCard(merged(text, tags=["a"], **DATA), ignore_metadata_errors=True)
    assert made.data["license"] == "gemma" and made.data["tags"] == ["x", "a"]
    assert made.text == "# Mine\n"


def test_front_matter_that_takes_minutes_to_read_is_refused_at_once() -> None:
    with pytest.raises(BadCard, match="more than 65,536 letters"):
        front_matter.read("---\n" + "a: b\n" * 60_000 + "---\n")


def test_the_limit_counts_bytes_and_says_what_to_do() -> None:
    read("é" * (LONGEST // 2))
    with pytest.raises(BadCard, match=r"1,048,578 bytes") as refused:
        read("é" * (LONGEST // 2 + 1))
    assert "several repositories" in refused.value.next_step


def test_what_would_read_otherwise_is_not_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(front_matter, "_dumped", lambda value, newline, **how: "license: other\n")
    with pytest.raises(BadCard, match="cannot be merged"):
        merged(card("a: b\n"), license="mit")
