"""The card: what it says, what of a README that is there stays, and what no name can do to it."""

import dataclasses

import pytest
from markdown_it import MarkdownIt

from saes import cards
from saes.cards import BEGIN, END, Entry
from saes.errors import BadCard
from saes.hub import front_matter

ENTRY = Entry(
    folder="layer_6", name="GPT2 layer 6", layer=6, hook="blocks.6.hook_resid_pre", d_in=768,
    d_sae=24576, architecture="standard", l0=71.5, size=151_000_000, sha256="ab" * 32, model="gpt2",
    base_model="openai-community/gpt2", datasets=("Skylion007/openwebtext",),
    told=(("Model", "`gpt2`, width 768"),),
)  # fmt: skip


def other(folder: str, **changes: object) -> Entry:
    return dataclasses.replace(ENTRY, folder=folder, **changes)  # type: ignore[arg-type]


def card(text: str, *entries: Entry, licence: str = "mit", there: tuple[str, ...] = ()) -> str:
    readme = cards.written(text, "alice/saes", entries, there)
    datasets = [name for it in entries for name in it.datasets]
    data = cards.merged(front_matter.read(readme), entries, licence, datasets)
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
