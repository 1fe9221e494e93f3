"""A README of others as a part of a page: what it may do there, and how long that takes."""

import re
import time

import pytest

from saes.templatetags.readme import LONGEST, front, is_cut, readme_changes, rendered
from tests.attacks.markup import ATTACKS, acting, shape

FRONT = "---\nlicense: mit\ntags: [a, '<b>']\n---\n"


@pytest.mark.parametrize("attack", ATTACKS)
@pytest.mark.parametrize(
    "around",
    ["{}", "# {}", "- {}", "> {}", "`{}`", "```{}\n{}\n```", "| a | {} |\n|---|---|\n| {} | b |",
     "[x]({})", "![x]({})", "![{}](x)", "<{}>", "[x]: {}\n\n[x]", '[x](https://a.b "{}")'],
)  # fmt: skip
def test_no_attack_comes_to_life_wherever_it_stands(around: str, attack: str) -> None:
    text = rendered(FRONT + around.replace("{}", attack))
    made = {name.split()[0] for name in shape(text)}
    assert made <= {"p", "h3", "ul", "li", "blockquote", "code", "pre", "div", "table", "thead",
                    "tbody", "tr", "th", "td", "span", "svg", "use", "a", "h4", "em"}  # fmt: skip
    assert acting(text.replace("evil.example", "elsewhere.example")) == []
    assert not re.search(r'href="(?!https?://|/static/icons\.svg)', text)


def test_headings_are_below_those_of_the_page() -> None:
    text = rendered("# One\n\n## Two\n\n###### Six\n\nOne\n===\n")
    assert re.findall(r"<h(\d)>", text) == ["3", "4", "6", "3"]


def test_our_marks_and_front_matter_are_not_shown() -> None:
    for mark in ("", "\ufeff"):
        text = rendered(mark + FRONT + "<!-- mistudio:begin -->\nwords\n<!-- mistudio:end -->\n")
        assert text.strip() == "<p>words</p>"


def test_front_matter_is_a_table_of_names_and_values() -> None:
    assert dict(front(FRONT)) == {"license": ["mit"], "tags": ["a", "<b>"]}
    assert front("---\n: [\n---\n") == []


def test_links_of_the_repository_lead_nowhere_and_those_of_the_web_away() -> None:
    text = rendered("[a](./tree/main/a) [b](HTTPS://b.example/) [c](//c.example)")
    assert re.findall(r'href="([^"]+)"', text) == ["HTTPS://b.example/"]


@pytest.mark.parametrize(
    "text",
    ["|a" * 9000 + "|\n" + "|-" * 9000 + "|\n|x|\n", "[" * 50_000, ">" * 50_000, "*a " * 30_000,
     "![[]()" * 15_000, "[a](b" * 15_000, "<!--" * 20_000, "- " * 40_000, "`a``" * 20_000,
     "---\n" * 20_000],
    ids=lambda text: text[:6],
)  # fmt: skip
def test_nothing_takes_long(text: str) -> None:
    began = time.process_time()
    rendered(text)
    assert time.process_time() - began < 30


def test_of_a_long_one_the_beginning_is_shown() -> None:
    assert is_cut("a" * (LONGEST + 1)) and not is_cut(FRONT + "a" * LONGEST)
    assert len(rendered("a\n" * LONGEST)) < 2 * LONGEST


def test_changes_are_lines_around_what_changes() -> None:
    before = "".join(f"{n}\n" for n in range(100))
    lines = readme_changes(before, before.replace("50\n", "fifty\n", 1))
    assert lines is not None
    assert [(it.kind, it.text) for it in lines if it.kind in ("add", "drop")] == [
        ("drop", "50"), ("add", "fifty"),
    ]  # fmt: skip
    assert len(lines) == 9 and readme_changes("", "x\n" * 4000) is None
