"""Choosing many SAEs of a repository: the matrix, the table, and the order that they send."""

import html
import re
import time
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlencode

import pytest
from django.contrib.auth.models import User
from django.test import Client
from pytest_django import Settings

from saes import preview, roles
from saes.models import Batch, Job, Sae, identity_of
from saes.storage import MARGIN, Library
from tests.fixtures import LISTINGS
from tests.fixtures.releases import GEMMA_SCOPE, PATHS, gemma_scope, made_up
from tests.hub import Hollow, LocalHub, faults
from tests.views.conftest import signed_in
from tests.views.people import somebody

pytestmark = pytest.mark.django_db
REPO = "a/many"
PAGE, BATCH = f"/hub/{REPO}/", f"/hub/{REPO}/batch/"
SIZE = 1_000_000
WHERES = [f"layer_{n}/width_{w}k/average_l0_9" for n in range(3) for w in (16, 65)]


@pytest.fixture(autouse=True)
def no_kept_previews() -> Iterator[None]:
    preview._previews.clear()
    yield
    preview._previews.clear()


@pytest.fixture
def repo(hub: LocalHub) -> str:
    """The commit of a repository with three layers and two widths."""
    files = {f"{where}/params.npz": Hollow(SIZE, listing_only=True) for where in WHERES}
    return hub.add_repo(REPO, files).sha


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Sets how much of it is free."""

    def has_free(size: int) -> None:
        monkeypatch.setattr(Library, "free", lambda self: size)

    has_free(10**15)
    return has_free


def order(commit: str, *wheres: str, **more: str) -> dict[str, Any]:
    return {"repo_type": "model", "commit": commit, "where": list(wheres), **more}


def boxes(text: str) -> list[str]:
    found = re.findall(r'<input[^>]*type="checkbox" name="where" value="([^"]*)"', text)
    return [html.unescape(where) for where in found]


def text_of(client: Client, address: str = PAGE) -> str:
    return client.get(address).content.decode()


def numbers(text: str) -> dict[str, str]:
    """What the footer says of all that match."""
    return dict(re.findall(r'data-number="(\w+)">([^<]*)<', text))


def here(commit: str, where: str, **more: Any) -> Sae:
    told = {
        "source": Sae.Source.HUGGINGFACE, "status": Sae.Status.READY, "hf_repo_id": REPO,
        "hf_filepath": where, "hf_commit": commit,
        "identity": identity_of(REPO, "model", commit, where),
    }  # fmt: skip
    return Sae.objects.create(name=where, **{**told, **more})


# --- the matrix -----------------------------------------------------------------------------------


def cells(text: str) -> list[list[str]]:
    """The words of each cell of the only matrix, its heads included."""
    lines = re.findall(r"<tr.*?</tr>", text[text.index('class="cross"') :], re.DOTALL)
    parted = [re.findall(r"<t[hd][ >].*?</t[hd]>", line, re.DOTALL) for line in lines]
    scripted = re.compile(r"<button.*?</button>", re.DOTALL)
    plain = [[re.sub(r"<[^>]+>", " ", scripted.sub("", it)) for it in line] for line in parted]
    return [[" ".join(it.split()) for it in line] for line in plain]


def test_layers_cross_widths_and_cells_hold_the_l0_variants(client: Client, hub: LocalHub) -> None:
    hub.add_repo(GEMMA_SCOPE, gemma_scope())
    text = text_of(client, f"/hub/{GEMMA_SCOPE}/")
    table = cells(text)
    assert table[0] == [
        "Layer", "16k 302.1 MB", "32k 604.3 MB", "65k 1.21 GB", "131k 2.42 GB", "262k 4.83 GB",
        "524k 9.67 GB", "1m 19.34 GB",
    ]  # fmt: skip
    assert table[1] == ["0", "13 25 46 105 226", "", "11 17 27 43 73", "", "", "", ""]
    assert [line[0] for line in table if all(line)] == ["Layer", "12", "Layer", "0"]
    assert [line[0] for line in table[1:27]] == [str(layer) for layer in range(26)]
    assert sorted(boxes(text)) == sorted(PATHS)
    assert numbers(text)["count"] == "316"


def test_series_that_lie_side_by_side_have_columns_of_their_own(
    client: Client, hub: LocalHub
) -> None:
    repo = "google/gemma-scope-2-270m-pt"
    hub.add_repo(repo, {name: Hollow(9, listing_only=True) for name in LISTINGS[repo]["files"]})
    text = text_of(client, f"/hub/{repo}/")
    assert sorted(boxes(text)) == sorted(LISTINGS[repo]["saes"])
    names = re.findall(r"<h2>(\w+)</h2>", text)
    assert names == ["Transcoder", "Residual", "Attention", "Mlp"]
    series = re.findall(r'<th scope="colgroup" colspan="(\d)"><button[^>]*>([^<]*)<', text)
    assert ("4", "resid_post") in series and ("2", "resid_post_all") in series
    said = re.findall(r'aria-label="(Layer [^"]*)"', text)
    assert len(set(said)) == len(said) == 486  # no two boxes are told the same


@pytest.mark.parametrize("repo", [repo for repo in LISTINGS if len(LISTINGS[repo]["saes"]) > 5])
def test_of_real_releases_every_sae_is_in_the_matrix_once(
    client: Client, hub: LocalHub, repo: str
) -> None:
    files = LISTINGS[repo]["files"]
    hub.add_repo(repo, {name: Hollow(9, listing_only=True) for name in files})
    text = text_of(client, f"/hub/{repo}/")
    assert 'class="cross"' in text
    assert sorted(boxes(text)) == sorted(LISTINGS[repo]["saes"])


def test_one_sae_for_each_layer_is_a_line_of_layers(client: Client, hub: LocalHub) -> None:
    files = {f"layer_{n}/width_16k/average_l0_9/params.npz": Hollow(9) for n in range(12)}
    hub.add_repo(REPO, files)
    assert cells(text_of(client))[1] == ["16k", " ".join(map(str, range(12)))]


@pytest.mark.parametrize("count", [1, 5])
def test_a_handful_is_a_table(client: Client, hub: LocalHub, count: int) -> None:
    hub.add_repo(REPO, {f"{where}/params.npz": Hollow(9) for where in WHERES[:count]})
    text = text_of(client)
    assert 'class="cross"' not in text and 'name="view"' not in text
    assert boxes(text) == WHERES[:count]


def test_what_would_be_no_overview_is_a_table(client: Client, hub: LocalHub) -> None:
    names = [f"layer_{n % 4}/width_{n}k/average_l0_9/params.npz" for n in range(1, 200)]
    hub.add_repo(REPO, {name: Hollow(9, listing_only=True) for name in names})
    text = text_of(client)
    assert 'class="cross"' not in text
    assert (len(boxes(text)), numbers(text)["count"]) == (50, "199")


@pytest.mark.parametrize(
    ("query", "matches"),
    [
        ("layer=12", lambda layer, width, l0: layer == "layer_12"),
        ("width=1m", lambda layer, width, l0: width == "1m"),
        ("l0_min=70&l0_max=80", lambda layer, width, l0: 70 <= l0 <= 80),
        ("l0_min=300", lambda layer, width, l0: l0 >= 300),
        ("hook_type=embedding", lambda layer, width, l0: layer == "embedding"),
        ("search=LAYER_2/&width=16k", lambda layer, w, l0: (layer, w) == ("layer_2", "16k")),
    ],
)
def test_filters_narrow_the_matrix_and_the_numbers(
    client: Client, hub: LocalHub, query: str, matches: Callable[[str, str, int], bool]
) -> None:
    hub.add_repo(GEMMA_SCOPE, gemma_scope())
    wanted = [it for it in PATHS if matches(*parted(it))]
    text = text_of(client, f"/hub/{GEMMA_SCOPE}/?{query}")
    assert sorted(boxes(text)) == sorted(wanted)
    assert numbers(text)["count"] == str(len(wanted)) != "0"


def parted(where: str) -> tuple[str, str, int]:
    layer, width, l0 = where.split("/")
    return layer, width.removeprefix("width_"), int(l0.removeprefix("average_l0_"))


def test_what_is_here_is_a_link_and_what_failed_goes_on(client: Client, repo: str) -> None:
    ready, coming, failed, asks, other = WHERES[:5]
    error = {"status": Sae.Status.ERROR}
    links = [
        here(repo, ready), here(repo, coming, status=Sae.Status.PENDING),
        here(repo, asks, **error, missing_facts=[{"name": "k"}]),
    ]  # fmt: skip
    here(repo, failed, **error, error_code="cancelled")
    here("b" * 40, other)
    for address in (PAGE, f"{PAGE}?view=table"):
        text = text_of(client, address)
        assert boxes(text) == [failed, other, WHERES[5]]
        assert all(f"/saes/{sae.id}/" in text for sae in links)
        # What is here at another commit is brought in again only by who ticks it.
        assert numbers(text)["count"] == "2"
    for word in ("In the library", "On its way", "Needs facts", "Failed", "At another commit"):
        assert word in text


def test_a_viewer_sees_the_matrix_and_no_box(repo: str) -> None:
    vera = somebody("vera", roles.VIEWER)
    for address in (PAGE, f"{PAGE}?view=table"):
        text = text_of(signed_in(vera), address)
        assert "average_l0_9" in text
        assert 'name="where"' not in text and "/batch/" not in text


def test_what_cannot_be_read_yet_cannot_be_chosen(client: Client, hub: LocalHub) -> None:
    files = {f"{where}/params.npz": Hollow(9) for where in WHERES}
    hub.add_repo(REPO, files, gated="manual")
    text = text_of(client)
    assert "average_l0_9" in text and 'name="where"' not in text


def test_the_numbers_count_conversion_and_what_running_jobs_were_promised(
    client: Client, repo: str, disk: Any, settings: Settings
) -> None:
    disk(100_000_000)
    job = Job.objects.create(kind="download", sae=here(repo, "x"), state="running")
    Job.objects.filter(id=job.id).update(bytes_reserved=20_000_000)
    shown = numbers(text_of(client))
    assert shown == {
        "count": "6", "fetched": "6.0 MB", "needed": "12.0 MB", "left": "68.0 MB"
    }  # fmt: skip
    settings.KEEP_SOURCE = False
    assert numbers(text_of(client))["needed"] == "7.0 MB"


# --- the order ------------------------------------------------------------------------------------


def test_the_ticked_ones_become_one_batch(
    client: Client, owner: User, repo: str, disk: Any
) -> None:
    wanted = [WHERES[4], WHERES[1]]
    answer = client.post(BATCH, order(repo, *wanted, model_name="gemma-2-2b"))
    batch = Batch.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"/jobs/?batch={batch.id}")
    assert (batch.name, batch.hf_commit, batch.created_by) == (REPO, repo, owner)
    jobs = Job.objects.filter(batch=batch).select_related("sae")
    assert {job.sae.hf_filepath for job in jobs} == set(wanted)
    for job in jobs:
        assert (job.sae.hf_commit, job.sae.hf_revision, job.state) == (repo, "", "queued")
        assert job.sae.model_name == "gemma-2-2b"
    assert said(client) == ["2 SAEs are on their way."]


def said(client: Client) -> list[str]:
    return [str(it) for it in client.get("/").context["messages"]]


def test_every_means_what_matches_and_is_missing(client: Client, repo: str, disk: Any) -> None:
    here(repo, WHERES[1])
    here("b" * 40, WHERES[3])
    client.post(BATCH, order(repo, every="1", width="65k"))
    assert [job.sae.hf_filepath for job in Job.objects.all()] == [WHERES[5]]


def test_what_is_here_already_is_left_out_and_counted(client: Client, repo: str, disk: Any) -> None:
    here(repo, WHERES[0])
    here(repo, WHERES[1], status=Sae.Status.PENDING)
    client.post(BATCH, order(repo, *WHERES[:4]))
    assert Job.objects.count() == 2
    assert said(client) == ["2 SAEs are on their way. 2 of those you chose were here already."]


def test_one_that_failed_goes_on(client: Client, repo: str, disk: Any) -> None:
    failed = here(repo, WHERES[0], status=Sae.Status.ERROR, error_code="cancelled")
    client.post(BATCH, order(repo, WHERES[0]))
    assert Job.objects.get().sae == failed
    assert Sae.objects.count() == 1


def test_the_same_order_twice_starts_nothing_more(client: Client, repo: str, disk: Any) -> None:
    client.post(BATCH, order(repo, *WHERES))
    answer = client.post(BATCH, order(repo, *WHERES))
    assert answer["Location"] == PAGE
    assert (Batch.objects.count(), Job.objects.count()) == (1, 6)
    assert said(client)[-1] == "All of these are in the library already, or on their way."


def test_nothing_ticked_starts_nothing(client: Client, repo: str) -> None:
    answer = client.post(BATCH, order(repo))
    assert (answer.status_code, answer["Location"]) == (302, PAGE)
    assert said(client) == ["Nothing was chosen. Tick the SAEs that you want first."]
    assert not Sae.objects.exists()


BAD = ["nowhere", "../../etc/passwd", "layer_0", "\0", "x" * 10_000, "<img src=x>"]


@pytest.mark.parametrize("where", BAD, ids=lambda where: repr(where[:20]))
def test_a_path_that_is_no_sae_is_refused_by_name(client: Client, repo: str, where: str) -> None:
    answer = client.post(BATCH, order(repo, WHERES[0], where))
    assert answer.status_code == 404
    text = answer.content.decode()
    assert "path_not_found" in text and "<img src=x>" not in text
    assert html.escape(repr(where[:100])) in text and len(text) < 20_000
    assert not Sae.objects.exists()


def test_of_many_wrong_paths_some_are_named(client: Client, repo: str) -> None:
    text = client.post(BATCH, order(repo, *map(str, range(500)))).content.decode()
    assert "and 497 more paths" in text


WRONG = [
    {"commit": "main"}, {"commit": ""}, {"commit": "a" * 41}, {"repo_type": "space"},
    {"model_name": "x" * 201}, {"revision": "x" * 201},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:40])
def test_a_wrong_order_starts_nothing(client: Client, repo: str, wrong: dict[str, str]) -> None:
    answer = client.post(BATCH, {**order(repo, *WHERES), **wrong})
    assert answer.status_code == 422
    assert not Sae.objects.exists()


def test_viewers_are_refused(repo: str) -> None:
    vera = signed_in(somebody("vera", roles.VIEWER))
    assert vera.post(BATCH, order(repo, *WHERES)).status_code == 403
    assert not Sae.objects.exists()


def test_what_is_gated_is_refused_with_the_reason(client: Client, hub: LocalHub) -> None:
    files = {f"{where}/params.npz": Hollow(9) for where in WHERES}
    commit = hub.add_repo(REPO, files, gated="manual").sha
    answer = client.post(BATCH, order(commit, *WHERES))
    assert answer.status_code == 403
    assert "gated_no_token" in answer.content.decode()
    assert not Sae.objects.exists()


# --- the branch has moved on (S45) ----------------------------------------------------------------


def test_what_was_shown_is_what_comes_and_a_newer_commit_is_told(
    client: Client, hub: LocalHub, repo: str, disk: Any
) -> None:
    client.get(PAGE)
    newer = hub.commit(REPO, {f"{WHERES[0]}/params.npz": None, "README.md": b"new"})
    client.post(BATCH, order(repo, WHERES[0]))
    assert Job.objects.get().sae.hf_commit == repo
    assert said(client) == [
        "1 SAE is on its way.",
        f"The default branch of {REPO} is at commit {newer[:10]} by now. "
        f"These are of {repo[:10]}, as the preview showed them.",
    ]


def test_a_commit_that_was_asked_for_does_not_move(
    client: Client, hub: LocalHub, repo: str, disk: Any
) -> None:
    hub.commit(REPO, {"README.md": b"new"})
    client.post(BATCH, order(repo, WHERES[0], revision=repo))
    assert said(client) == ["1 SAE is on its way."]
    assert Sae.objects.get().hf_revision == repo


def test_a_hub_that_is_away_by_now_does_not_hinder(
    client: Client, hub: LocalHub, repo: str, disk: Any
) -> None:
    client.get(PAGE)
    hub.faults.add("/api/", faults.status(503), times=None)
    assert client.post(BATCH, order(repo, WHERES[0])).status_code == 302
    assert said(client) == ["1 SAE is on its way."]


# --- the disk -------------------------------------------------------------------------------------


def test_without_room_there_are_numbers_and_a_way_to_start_all_the_same(
    client: Client, repo: str, disk: Any
) -> None:
    disk(MARGIN + 11 * SIZE)
    answer = client.post(BATCH, order(repo, *WHERES, model_name="m"))
    text = answer.content.decode()
    assert answer.status_code == 507
    for shown in ("disk_full", "12.0 MB", "78.1 MB", "12,000,000 bytes"):
        assert shown in text
    assert not Sae.objects.exists()
    kept = re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', text)
    again: dict[str, list[str]] = {}
    for name, value in kept:
        again.setdefault(name, []).append(value)
    assert again["where"] == WHERES
    assert 'name="anyway"' in text and "anyway" not in again
    assert client.post(BATCH, {**again, "anyway": "1"}).status_code == 302
    assert (Job.objects.count(), Sae.objects.values_list("model_name").first()) == (6, ("m",))


def test_what_just_fits_is_started(client: Client, repo: str, disk: Any) -> None:
    disk(MARGIN + 12 * SIZE)
    assert client.post(BATCH, order(repo, *WHERES)).status_code == 302


def test_the_page_warns_where_all_that_match_do_not_fit(
    client: Client, repo: str, disk: Any
) -> None:
    disk(MARGIN + 11 * SIZE)
    assert "1.0 MB too little" in text_of(client)
    assert "too little" not in text_of(client, f"{PAGE}?width=16k")


# --- large releases -------------------------------------------------------------------------------


@pytest.mark.alone
@pytest.mark.parametrize("count", [316, 3000])
def test_a_whole_release_is_shown_and_ordered_in_a_moment(
    client: Client, hub: LocalHub, disk: Any, count: int
) -> None:
    files = gemma_scope() if count == 316 else made_up(count)
    commit = hub.add_repo(REPO, files).sha
    client.get(PAGE)
    shown, page = seconds_of(lambda: client.get(PAGE))
    assert len(boxes(page.content.decode())) == count
    assert shown < count / 3000 * 4 + 1
    ordered, answer = seconds_of(lambda: client.post(BATCH, order(commit, every="1")))
    assert answer.status_code == 302
    assert Job.objects.count() == Sae.objects.count() == count
    assert ordered < count / 3000 * 15 + 2


def seconds_of(act: Any) -> tuple[float, Any]:
    """Of this process: not disturbed by what else this machine does."""
    begun = time.process_time()
    result = act()
    return time.process_time() - begun, result


def test_ten_thousand_can_be_named(client: Client, repo: str) -> None:
    wheres = [f"layer_{n}/width_16k/average_l0_{n}" for n in range(10_000)]
    form = urlencode(order(repo, *wheres), doseq=True)  # as a browser sends it
    kind = "application/x-www-form-urlencoded"
    answer = client.post(BATCH, form, content_type=kind)
    assert answer.status_code == 404
    assert "and 9,997 more paths" in answer.content.decode()
