"""The library's list: search, filters, sorting and paging, all in the address."""

import re
import time
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from saes.models import Job, Sae
from tests.views.conftest import CERTIFICATE

pytestmark = pytest.mark.django_db


def make(name: str, **more: Any) -> Sae:
    return Sae.objects.create(**{"name": name, "source": Sae.Source.HUGGINGFACE, **more})


def shown(client: Client, **asked: object) -> list[str]:
    """The names in the list, in order."""
    answer = client.get("/", {name: str(value) for name, value in asked.items()})
    assert answer.status_code == 200, asked
    return re.findall(r'class="name" href="/saes/sae_\w+/">([^<]*)</a>', answer.content.decode())


def test_an_empty_library_says_what_to_do_next(client: Client) -> None:
    text = client.get("/").content.decode()
    assert "The library is empty" in text
    assert 'href="/hub/"' in text


def test_no_match_is_said_in_other_words(client: Client) -> None:
    make("one")
    text = client.get("/?search=two").content.decode()
    assert "No SAE matches" in text
    assert "The library is empty" not in text


@pytest.mark.parametrize(
    "column", ["name", "description", "hf_repo_id", "hf_filepath", "model_name"]
)
def test_search_looks_into_every_text(client: Client, column: str) -> None:
    make("other")
    make(**{"name": "wanted", column: "a Needle b"})
    assert len(shown(client, search="nEEdle")) == 1


@pytest.mark.parametrize("wild", ["%", "_", "\\", "'", '"'])
def test_search_takes_every_character_as_it_is(client: Client, wild: str) -> None:
    make("plain")
    make(f"with {wild} in it")
    assert len(shown(client, search=wild)) == 1


FILTERS = [
    ("source", "trained"), ("status", "error"), ("format", "gemma_scope_1"), ("model_name", "gpt2"),
    ("architecture", "topk"), ("layer", 0), ("layer", 12),
]  # fmt: skip


@pytest.mark.parametrize(("name", "value"), FILTERS)
def test_a_filter_keeps_only_what_has_the_value(client: Client, name: str, value: object) -> None:
    make("other", layer=7)
    more: dict[str, object] = {"name": "wanted", name: value}
    make(**more)  # type: ignore[arg-type]
    assert shown(client, **{name: value}) == ["wanted"]


def test_filters_and_search_go_together_and_into_the_links(client: Client) -> None:
    for number in range(120):
        make(f"wanted {number}", layer=3, model_name="gpt2")
    make("wanted elsewhere", layer=4)
    text = client.get("/?search=wanted&layer=3&sort=name").content.decode()
    link = re.search(r'rel="next" href="([^"]*)"', text)
    assert link is not None
    assert {"search=wanted", "layer=3", "sort=name", "page=2"} == set(
        link[1].removeprefix("?").replace("&amp;", "&").split("&")
    )


def test_layers_widths_and_sizes_sort_as_numbers(client: Client) -> None:
    for layer in (10, 9, 2, None):
        make(
            f"layer {layer}", layer=layer, d_sae=layer and layer * 1000, file_size_bytes=layer or 0
        )
    expected = ["layer 2", "layer 9", "layer 10"]
    assert [name for name in shown(client, sort="layer") if name != "layer None"] == expected
    assert [name for name in shown(client, sort="width") if name != "layer None"] == expected
    assert shown(client, sort="size") == [*expected[::-1], "layer None"]


def test_the_newest_comes_first_unless_told_otherwise(client: Client) -> None:
    make("first")
    make("second")
    assert shown(client) == ["second", "first"]
    assert shown(client, sort="oldest") == ["first", "second"]
    assert shown(client, sort="name") == ["first", "second"]


def test_pages_hold_each_sae_once(client: Client) -> None:
    Sae.objects.bulk_create(
        Sae(name=f"sae {number:03}", source=Sae.Source.LOCAL) for number in range(120)
    )
    seen = [name for page in (1, 2, 3) for name in shown(client, sort="layer", page=page)]
    assert sorted(seen) == [f"sae {number:03}" for number in range(120)]


STRANGE: list[dict[str, str | int]] = [
    {"sort": "__class__"}, {"sort": "user__password"}, {"sort": "-created_at"}, {"page": 10**9},
    {"page": -1}, {"page": "x"}, {"page": "9" * 5000}, {"page": "1e9"}, {"search": "a\0b"},
    {"search": "x" * 2**20}, {"layer": 10**30}, {"layer": "-1"}, {"layer": "٣"}, {"layer": "NaN"},
    {"source": "'"}, {"status": "gone"}, {"format": "a" * 1000}, {"architecture": "\0"},
    {"model_name": "\ud83d".encode("utf-8", "surrogatepass").decode("latin-1")},
    {"unknown": "1"}, {"sort": ""}, {"created_by__password__startswith": "a"},
    {"search": "(a+)+$" * 30}, {"page": "", "search": "", "layer": "", "source": ""},
]  # fmt: skip


@pytest.mark.parametrize("asked", STRANGE, ids=lambda asked: str(asked)[:40])
@pytest.mark.parametrize("htmx", [False, True])
def test_unknown_values_are_dropped_and_never_an_error(
    client: Client, asked: dict[str, str | int], htmx: bool
) -> None:
    make("one", layer=3)
    headers = {"hx-request": "true"} if htmx else {}
    answer = client.get("/", asked, headers=headers)
    assert answer.status_code == 200


def test_a_byte_that_is_no_text_in_the_address_is_no_error(client: Client) -> None:
    for query in ("search=%ff%fe", "%00=%00", "page=%F0%9F", "layer=%C0%80", "a[]=1&a[]=2"):
        assert client.get(f"/?{query}").status_code == 200


def test_the_last_page_answers_for_all_after_it(client: Client) -> None:
    make("one")
    assert shown(client, page=999) == ["one"]


def test_htmx_gets_the_results_alone(client: Client) -> None:
    make("one")
    text = client.get("/", headers={"hx-request": "true"}).content.decode()
    assert 'id="results"' in text
    assert "<html" not in text


def test_more_rows_ask_no_more_queries(client: Client) -> None:
    counts = []
    for number in range(2):
        for _ in range(1 + 40 * number):
            made = make("one", status=Sae.Status.READY, certificate=CERTIFICATE)
            Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=made, state=Job.State.DONE)
        cache.clear()
        with CaptureQueriesContext(connection) as queries:
            client.get("/")
        counts.append(len(queries))
    assert counts[0] == counts[1] < 15


def a_hundred_thousand() -> None:
    """A thousand, made by Django, and each of them a hundred times, made by the database."""
    models, architectures = ("gpt2", "gemma-2-2b", "llama-3-8b"), ("standard", "topk", "jumprelu")
    Sae.objects.bulk_create(
        Sae(
            name=f"sae number {n:04}", source=Sae.Source.HUGGINGFACE, status=Sae.Status.READY,
            description="a sparse autoencoder of the residual stream", format="saelens",
            hf_repo_id=f"owner{n % 50}/repository", hf_filepath=f"blocks.{n % 40}/width_{n}",
            model_name=models[n % 3], architecture=architectures[n % 3], layer=n % 40,
            d_in=768, d_sae=n, file_size_bytes=n * 1000, certificate=CERTIFICATE,
            facts={f"fact_{i}": {"value": "some value", "origin": "file"} for i in range(15)},
        )
        for n in range(1000)
    )  # fmt: skip
    others = [str(field.column) for field in Sae._meta.concrete_fields if field.column != "id"]
    columns = ", ".join(others)
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO saes_sae (id, {columns}) "
            f"SELECT a.id || substr(b.id, 5), {', '.join(f'a.{name}' for name in others)} "
            "FROM saes_sae a CROSS JOIN (SELECT id FROM saes_sae LIMIT 99) b"
        )


QUESTIONS = [
    "", "page=2000", "sort=oldest&page=1000", "sort=name", "sort=layer", "sort=width", "sort=size",
    "layer=7", "status=ready", "model_name=gpt2&architecture=standard", "search=number%20999",
    "search=nowhere", "search=%25",
]  # fmt: skip
BOUND = 0.5  # seconds of this process; some tens of milliseconds are aimed at


@pytest.mark.alone
def test_a_hundred_thousand_rows_answer_at_once(client: Client) -> None:
    a_hundred_thousand()
    assert "100,000 SAEs" in client.get("/").content.decode()
    slow = {question: seconds(client, f"/?{question}") for question in QUESTIONS}
    assert {question: taken for question, taken in slow.items() if taken > BOUND} == {}


def seconds(client: Client, address: str) -> float:
    """The fastest of three answers, in time of this process: other work is not ours."""
    times = []
    for _ in range(3):
        begun = time.process_time()
        assert client.get(address).status_code == 200
        times.append(time.process_time() - begun)
    return round(min(times), 3)
