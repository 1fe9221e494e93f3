"""The card: what it says, what of a README that is there stays, and what no name can do to it."""

import dataclasses
import time

import pytest
from markdown_it import MarkdownIt

from saes import cards
from saes.cards import BEGIN, END, Entry
from saes.errors import BadCard
from saes.hub import front_matter
from saes.hub.front_matter import split

ENTRY = Entry(
    folder="layer_6", name="GPT2 layer 6", layer=6, hook="blocks.6.hook_resid_pre", d_in=768,
    d_sae=24576, architecture="standard", l0=71.5, size=151_000_000, sha256="ab" * 32, model="gpt2",
    base_model="openai-community/gpt2", datasets=("Skylion007/openwebtext",),
    told=(("Model", "`gpt2`, width 768"),),
)  # fmt: skip


def other(folder: str, **changes: object) -> Entry:
    return dataclasses.replace(ENTRY, folder=folder, **changes)  # type: ignore[arg-type]


def card(text: str, *entries: Entry, licence: str = "mit", there: tuple[str, ...] = ()) -> str:
    front, body = front_matter.split(text)
    readme = cards.written(body, "alice/saes", entries, there, front)
    datasets = [name for it in entries for name in it.datasets]
    terms = {"license": licence} if licence else {}
    data = cards.merged(front_matter.read(readme), entries, terms, datasets)
    return front_matter.with_data(readme, data)


def test_a_new_card_has_the_front_matter_that_the_hub_links_from() -> None:
    assert front_matter.read(card("", ENTRY)) == {
        "library_name": "saelens",
        "tags": ["sparse-autoencoder", "saelens", "mechanistic-interpretability", "standard"],
        "base_model": "openai-community/gpt2",
        "datasets": ["Skylion007/openwebtext"],
        "license": "mit",
    }


def test_a_new_card_has_a_row_code_and_limits() -> None:
    text = card("", ENTRY)
    assert "# saes\n" in text
    row = next(line for line in text.splitlines() if line.startswith("| [`layer_6`]"))
    assert [it.strip() for it in row.strip("|").split("|")] == [
        "[`layer_6`](./tree/main/layer_6)", "6", "`blocks.6.hook_resid_pre`", "24,576", "standard",
        "71.5", "151.0 MB", f"`{'ab' * 6}…`",
    ]  # fmt: skip
    assert 'SAE.from_pretrained(release="alice/saes", sae_id="layer_6")' in text
    assert "## Limits" in text and f"`{'ab' * 32}`" in text


def test_what_is_not_known_is_said_to_be_unknown_and_not_made_up() -> None:
    bare = other("x", layer=None, hook="", l0=None, size=None, sha256=None, base_model="")
    text = card("", dataclasses.replace(bare, datasets=()), licence="")
    assert "| [`x`](./tree/main/x) | – | – | 24,576 | standard | – | … | … |" in text
    assert not {"base_model", "datasets", "license"} & front_matter.read(text).keys()


def test_a_second_publishing_keeps_the_rows_and_sections_of_the_first() -> None:
    first = card("", other("layer_2", told=(("Model", "two"),)))
    second = card(first, other("layer_10", told=(("Model", "ten"),)), there=("layer_2",))
    assert second.index("[`layer_2`]") < second.index("[`layer_10`]")
    assert "- **Model**: two" in second and "- **Model**: ten" in second
    assert second.count(BEGIN) == second.count(END) == 1


def test_an_sae_that_left_the_repository_leaves_the_card() -> None:
    second = card(card("", other("layer_2")), other("layer_10"), there=())
    assert "layer_2" not in second


def test_publishing_again_changes_nothing() -> None:
    once = card("", ENTRY)
    assert card(once, ENTRY, there=("layer_6",)) == once


def test_words_around_our_marks_stay_byte_for_byte() -> None:
    before, after = "# Mine\r\n\r\nHello *you*  \r\n\r\n", "\r\n\r\n## Thanks\r\n"
    once = card("---\nlicense: mit\n---\n" + before + BEGIN + "old" + END + after, ENTRY)
    assert before in once and once.endswith(END + after)


@pytest.mark.parametrize("front", ["", "\ufeff", "---\r\nlicense: mit\r\n---\r\n"])
def test_our_part_has_the_line_ending_of_the_readme(front: str) -> None:
    """And no row or section of an SAE that was published earlier is lost for it."""
    first = card(front + "# Mine\r\n", other("layer_2", told=(("Model", "two"),)))
    second = card(first, other("layer_10"), there=("layer_2",))
    row = next(it for it in first.split("\r\n") if it.startswith("| [`layer_2`]"))
    section = first[first.index("<!-- mistudio:sae") : first.index("## Limits")]
    assert f"\r\n{row}\r\n" in second and section in second and "[`layer_10`]" in second
    assert second.replace("\r\n", "").isprintable() or "\ufeff" in front
    assert "\n" not in second.replace("\r\n", "")
    assert card(second, other("layer_10"), there=("layer_2", "layer_10")) == second


def test_rows_of_an_editor_that_changed_line_endings_are_kept() -> None:
    first = card("", other("layer_2")).replace("\n", "\r\n").replace("\r\n", "\n", 1)
    second = card(first, other("layer_10"), there=("layer_2",))
    assert "| [`layer_2`]" in second and "### `layer_2`" in second


def test_rows_and_sections_between_lone_carriage_returns_are_kept() -> None:
    first = card("", other("layer_2"), other("layer_3"))
    front, body = split(first)
    second = card(front + body.replace("\n", "\r"), ENTRY, there=("layer_2", "layer_3"))
    ours = [it for it in first.split("\n") if it.startswith(("| [`layer", "### `layer"))]
    assert len(ours) == 4 and set(ours) <= set(second.split("\n"))


def test_folders_of_others_may_have_odd_digits() -> None:
    first = card("", other("layer_2")).replace("layer_2", "layer_1²")
    assert "| [`layer_1²`]" in card(first, ENTRY, there=("layer_1²",))


@pytest.mark.parametrize("ends", ["", "\n", "\n\n\n", "  ", "  \n", "\r", "\r\n", "\u2028"])
def test_what_ends_a_readme_stays(ends: str) -> None:
    text = card("# Mine\n\nWords" + ends, ENTRY)
    before = split(text)[1].partition(BEGIN)[0]
    assert before.startswith("# Mine\n\nWords" + ends)
    assert before.removeprefix("# Mine\n\nWords" + ends).strip("\n") == ""
    assert before.endswith("\n\n")


@pytest.mark.parametrize(
    "text", ["", "\n", "\ufeff", "---\nlicense: mit\n---", "---\nlicense: mit\n---\n", "---\n---\n"]
)
def test_a_readme_without_a_body_gets_a_title(text: str) -> None:
    made = card(text, ENTRY)
    body = split(made)[1]
    assert body.lstrip().startswith("# saes\n\nA sparse autoencoder")
    assert front_matter.read(made)["license"] == "mit"
    assert card(made, ENTRY, there=("layer_6",)) == made


@pytest.mark.parametrize("text", ["---", "---\n", "---\n\n# x\n"])
def test_a_rule_is_no_front_matter(text: str) -> None:
    made = card(text, ENTRY)
    assert split(made)[1].startswith(text)
    assert card(made, ENTRY, there=("layer_6",)) == made


def test_marks_that_hold_nothing_are_filled() -> None:
    made = card(f"# Mine\n\n{BEGIN}{END}\nAfter\n", ENTRY)
    assert made.count(BEGIN) == made.count(END) == 1 and made.endswith(f"{END}\nAfter\n")


def test_marks_in_front_matter_are_its_owners() -> None:
    front = f"---\nlicense: mit\nx: '{BEGIN}'\n"
    made = card(front + "---\n# Mine\n", ENTRY)
    assert made.startswith(front) and split(made)[1].count(BEGIN) == 1
    assert card(made, ENTRY, there=("layer_6",)) == made


@pytest.mark.parametrize(
    "text",
    ["```\n{}\n```\n", "~~~~\n~~~\n{}\n~~~~\n", "`{}`\n", "> {}\n", "    {}\n", "Words {}\n",
     "- x\n  ```\n  {}\n  ```\n", "``` a\n\n{}", "\ufeff```\n{}"],
)  # fmt: skip
def test_marks_inside_of_code_or_a_line_are_refused_in_words(text: str) -> None:
    with pytest.raises(BadCard, match="outside of code"):
        card(text.format(f"{BEGIN}\n{END}"), ENTRY)


def test_code_that_is_not_closed_swallows_no_card() -> None:
    with pytest.raises(BadCard, match="outside of code"):
        card("# Mine\n\n```\ncode\n", ENTRY)


@pytest.mark.parametrize(
    "before", ["```\ncode\n```\n", "- ```\n  code\n  ```\n\n", "- ```\n  code\n\n", "a ``` b\n"]
)
def test_code_before_our_marks_does_no_harm(before: str) -> None:
    made = card(f"{before}{BEGIN}\n{END}\n", ENTRY)
    assert split(made)[1].startswith(before + BEGIN)


def test_a_readme_with_a_nul_is_refused_in_words() -> None:
    with pytest.raises(BadCard, match="NUL"):
        card("# x\0\n", ENTRY)


def test_a_readme_without_our_marks_gets_them_at_its_end() -> None:
    text = card("# Mine\n\nText of mine.\n", ENTRY)
    assert text.index("Text of mine.") < text.index(BEGIN)
    assert "# saes" not in text


def test_front_matter_that_says_it_already_stays_as_it_was_written() -> None:
    written = (
        "---\n# a comment\nlibrary_name: 'saelens'\nlicense: mit\n"
        "base_model: openai-community/gpt2\n"
        "datasets: [Skylion007/openwebtext]\n"
        "tags: [sparse-autoencoder, saelens, mechanistic-interpretability, standard]\n---\n# Mine\n"
    )
    assert card(written, ENTRY).startswith(written.rstrip())


@pytest.mark.parametrize("below", ["", "# x\n"])
def test_a_byte_order_mark_hides_no_front_matter(below: str) -> None:
    text = card(f"\ufeff---\nlicense: gemma\n---\n{below}", ENTRY, licence="")
    assert front_matter.read(text)["license"] == "gemma"
    assert text.count("license:") == 1
    assert front_matter.read(card("\ufeff", ENTRY))["library_name"] == "saelens"


def test_tables_where_others_write_names_are_kept() -> None:
    text = card("---\ndatasets:\n- name: x\n---\n# x\n", ENTRY)
    assert front_matter.read(text)["datasets"][0] == {"name": "x"}


def test_front_matter_is_merged_not_replaced() -> None:
    text = (
        "---\nlicense: apache-2.0\ntags: [mine]\nbase_model: a/b\nthumbnail: x.png\n---\n# Mine\n"
    )
    data = front_matter.read(card(text, ENTRY, licence=""))
    assert data["license"] == "apache-2.0" and data["thumbnail"] == "x.png"
    assert data["tags"][0] == "mine" and "saelens" in data["tags"]
    assert data["base_model"] == ["a/b", "openai-community/gpt2"]


@pytest.mark.parametrize(
    "text",
    [
        BEGIN,
        END,
        END + BEGIN,
        BEGIN + BEGIN + END + END,
        "---\n- a list\n---\n",
        "---\na: [\n---\n",
        "---\na: &x [1]\nb: *x\n---\n",
        "---\na: " + "[" * 5000 + "\n---\n",
        "x" * (2**20 + 1),
    ],
    ids=["no end", "no begin", "end first", "twice", "a list", "broken", "alias", "deep", "long"],
)  # fmt: skip
def test_a_readme_that_cannot_be_merged_is_refused_in_words(text: str) -> None:
    with pytest.raises(BadCard):
        card(text, ENTRY)


@pytest.mark.parametrize("closed", [True, False])
@pytest.mark.parametrize("opening", ["<!-- mistudio:sae a -->", "<!-- mistudio:sae ", "| [`", "| "])
def test_a_hostile_part_is_read_soon(opening: str, closed: bool) -> None:
    """Its patterns are tried in a time that grows with its length, not with the square of it."""
    old = opening * (2**20 // len(opening) - 10)
    old += "<!-- mistudio:end-sae -->" if closed else ""
    begun = time.process_time()
    cards.written(f"{BEGIN}\n| [`a`] {old}\n{END}", "alice/saes", [ENTRY], ("b",))
    assert time.process_time() - begun < 2


def many(number: int) -> list[Entry]:
    return [
        other(f"gpt2-small/layer_{n}/width_24k", sha256=f"{n:064x}", told=ENTRY.told * 7)
        for n in range(number)
    ]


def test_a_card_of_thousands_has_a_row_for_each_and_the_whole_hash() -> None:
    entries = many(3000)
    text = card("", *entries)
    assert len(text.encode()) < 2**20 and "mistudio:sae" not in text
    assert all(f"`{it.sha256}` |" in text for it in entries)
    there = tuple(it.folder for it in entries)
    assert card(text, *entries[:7], there=there) == text


def test_sections_end_where_there_are_too_many_and_those_that_are_there_stay() -> None:
    first, more = many(51)[:50], many(51)[50]
    text = card("", *first)
    assert text.count("<!-- mistudio:sae") == 50
    then = card(text, more, there=tuple(it.folder for it in first))
    assert then.count("<!-- mistudio:sae") == 50 and f"`{more.sha256}` |" in then
    ours = [it for it in text.splitlines() if it.startswith(("| [", "- **", "###", "<!-- "))]
    assert len(ours) > 500 and set(ours) <= set(then.splitlines())


def test_a_card_that_is_too_large_is_refused_with_its_size_and_a_way_out() -> None:
    with pytest.raises(BadCard, match=r"README.md has 1,\d{3},\d{3} bytes") as refused:
        card("", *many(6000))
    assert "several repositories" in refused.value.next_step


@pytest.mark.parametrize(
    "name", ["a | b", "`x`", "<!-- mistudio:end -->", "a\nb", "[x](javascript:y)", "<script>"]
)
def test_no_name_makes_markup_or_breaks_the_marks(name: str) -> None:
    told = (("Name", cards.cell(name)), ("Model", f"`{cards.code(name)}`"))
    text = card("", other("layer_6", hook=name, told=told, model=name))
    shown = MarkdownIt("gfm-like", {"linkify": False}).render(text).casefold()
    assert text.count(END) == 1 and "<script>" not in shown and 'href="javascript' not in shown
    row = next(line for line in text.splitlines() if line.startswith("| [`layer_6`]"))
    assert row.replace("\\|", "").count("|") == 9
    assert card(text, ENTRY, there=("layer_6",)).count(BEGIN) == 1
