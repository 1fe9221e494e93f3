"""Naming a repository, its preview page, headers of its rows, downloads and tokens."""

import re
from collections.abc import Iterator

import pytest
from django.contrib.auth.models import Permission, User
from django.test import Client

from saes import preview, vault
from saes.models import HubToken, Job, Sae
from tests.hub import LocalHub, faults
from tests.jobs.conftest import sample_files
from tests.views.conftest import signed_in

pytestmark = pytest.mark.django_db
REPO = "google/gemma-scope-2b-pt-res"
WHERE = "layer_12/width_16k/average_l0_41"


@pytest.fixture(autouse=True)
def no_kept_previews() -> Iterator[None]:
    preview._previews.clear()
    yield
    preview._previews.clear()


@pytest.fixture
def gemma(hub: LocalHub) -> str:
    """The commit of a repository with one SAE."""
    return hub.add_repo(REPO, sample_files("gemma_scope_1_res")).sha


def listings(hub: LocalHub) -> list[str]:
    """How often the hub was asked for the files of a repository."""
    return [entry.path for entry in hub.log.requests() if "/tree/" in entry.path]


# --- the form -------------------------------------------------------------------------------------

NAMED = [
    ("google/gemma", "/hub/google/gemma/"),
    ("  google/gemma \n", "/hub/google/gemma/"),
    ("https://huggingface.co/google/gemma", "/hub/google/gemma/"),
    ("https://huggingface.co/google/gemma/", "/hub/google/gemma/"),
    ("https://huggingface.co/google/gemma/tree/dev", "/hub/google/gemma/?revision=dev"),
    ("https://hf.co/a.b/c_d-e/blob/main/x/params.npz", "/hub/a.b/c_d-e/?revision=main"),
    ("https://huggingface.co/google/gemma?x=1#files", "/hub/google/gemma/"),
    ("https://huggingface.co/datasets/a/b", "/hub/a/b/?type=dataset"),
    ("https://huggingface.co/a/b/tree/refs%2Fpr%2F1", "/hub/a/b/?revision=refs%2Fpr%2F1"),
    ("huggingface.co/google/gemma", "/hub/google/gemma/"),
    ("hf.co/google/gemma", "/hub/google/gemma/"),
]


@pytest.mark.parametrize(("text", "address"), NAMED)
def test_a_repository_is_named_by_id_or_by_a_pasted_address(
    client: Client, text: str, address: str
) -> None:
    answer = client.post("/hub/", {"repo": text})
    assert (answer.status_code, answer.headers.get("Location")) == (302, address)


def test_a_revision_of_its_own_field_counts_more(client: Client) -> None:
    form = {"repo": "https://huggingface.co/a/b/tree/dev", "revision": "v1"}
    assert client.post("/hub/", form)["Location"] == "/hub/a/b/?revision=v1"


BAD = [
    "", "x", "/", "a/b/c", "../..", "a/..", "a/b\\c", "a/b;c", "a b/c", "a/" + "b" * 97, "a//b",
    "file:///etc/passwd", "http://", "http://[foo/bar", "http://[::1", "https://huggingface.co/",
    "https://huggingface.co/google", "javascript:alert(1)", "a/%2e%2e", "a/b%00", "a/b\0", "-a/b",
    "a/b.", "a--b/c", "..;/x", "#/../x", "?/../x", "\\\\..\\..", "a/b?revision=x", "//evil/x",
    "<img src=x>/y", "https://huggingface.co/spaces/a/b", "x" * 2**19,
    "https://huggingface.co/%2e%2e/%2e%2e", "a/\u202eb",
]  # fmt: skip


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:30]))
def test_what_is_no_repository_keeps_the_form(client: Client, text: str) -> None:
    answer = client.post("/hub/", {"repo": text})
    assert answer.status_code == 422
    page = answer.content.decode()
    assert "field-error" in page
    assert "<img src=x>" not in page


@pytest.mark.parametrize("revision", ["a\nb", "x" * 201, "a?b", "a#b", "a%2fb", "a\\b", "\0"])
def test_a_revision_that_can_be_none_keeps_the_form(client: Client, revision: str) -> None:
    assert client.post("/hub/", {"repo": "a/b", "revision": revision}).status_code in (302, 422)
    answer = client.get("/hub/a/b/", {"revision": revision})
    assert answer.status_code in (400, 404, 502)


def test_an_empty_form_is_refused_like_any_other(client: Client) -> None:
    assert client.post("/hub/").status_code == 422


# --- tokens ---------------------------------------------------------------------------------------


def test_a_token_is_stored_encrypted_for_its_user_alone(client: Client, owner: User) -> None:
    client.post("/hub/", {"repo": "a/b", "token": " hf_abcdefgh12345678 "})
    row = HubToken.objects.get()
    assert row.owner == owner
    assert "hf_" not in row.secret and "12345678" not in row.secret
    assert (row.last_four, vault.reveal(row)) == ("5678", "hf_abcdefgh12345678")
    other = User.objects.create_user("other")
    assert vault.of(other) is None
    text = client.get("/hub/").content.decode()
    assert "hf_…5678" in text and "abcdefgh" not in text
    assert "5678" not in signed_in(other).get("/hub/").content.decode()


def test_a_second_token_takes_the_place_of_the_first(client: Client) -> None:
    for token in ("hf_first_1111111", "hf_second_222222"):
        client.post("/hub/", {"repo": "a/b", "token": token})
    assert vault.reveal(HubToken.objects.get()) == "hf_second_222222"


def test_a_token_is_not_shown_again_after_a_mistake(client: Client) -> None:
    answer = client.post("/hub/", {"repo": "", "token": "hf_canary_1234"})
    assert answer.status_code == 422
    assert "hf_canary" not in answer.content.decode()
    assert not HubToken.objects.exists()


@pytest.mark.parametrize("token", ["hf a b", "hf_\u00e9", "a\tb", "hf_\r\nX: y", "x" * 401, "\0"])
def test_what_can_be_no_token_is_refused(client: Client, token: str) -> None:
    assert client.post("/hub/", {"repo": "a/b", "token": token}).status_code == 422
    assert not HubToken.objects.exists()


def test_of_a_short_token_nothing_is_stored_in_clear(client: Client) -> None:
    client.post("/hub/", {"repo": "a/b", "token": "abcd"})
    assert not HubToken.objects.filter(last_four="abcd").exists()


def test_a_token_is_forgotten(client: Client) -> None:
    client.post("/hub/", {"repo": "a/b", "token": "hf_first_1111111"})
    answer = client.post("/hub/forget-token/", follow=True)
    assert not HubToken.objects.exists()
    assert "was removed" in answer.content.decode()


def test_a_token_whose_key_is_gone_is_an_error_page_not_a_crash(
    client: Client, owner: User, hub: LocalHub, gemma: str
) -> None:
    vault.keep(owner, "hf_alice_1111")
    HubToken.objects.update(secret="gAAAA-of-another-key")
    assert client.get(f"/hub/{REPO}/").status_code == 401
    assert client.get("/hub/").status_code == 200


# --- the preview page -----------------------------------------------------------------------------


def test_a_preview_shows_each_sae_and_offers_it_at_its_commit(client: Client, gemma: str) -> None:
    answer = client.get(f"/hub/{REPO}/")
    assert answer.status_code == 200
    text = answer.content.decode()
    for shown in (WHERE, "Gemma Scope", "16k", "residual", gemma[:10]):
        assert shown in text
    assert f'name="commit" value="{gemma}"' in text
    assert not Sae.objects.exists()


def test_what_is_in_the_library_is_not_offered_again(client: Client, gemma: str) -> None:
    made = Sae.objects.create(
        name="here", source=Sae.Source.HUGGINGFACE, hf_repo_id=REPO, hf_filepath=WHERE
    )
    text = client.get(f"/hub/{REPO}/").content.decode()
    assert f"/saes/{made.id}/" in text
    assert 'name="commit"' not in text


def rows(text: str) -> list[str]:
    return re.findall(r'form="one" name="where" value="([^"]*)"', text)


def test_rows_are_filtered_searched_and_paged(client: Client, hub: LocalHub) -> None:
    (content,) = sample_files("gemma_scope_1_res").values()
    names = [f"layer_{n}/width_{w}k/average_l0_9" for n in range(40) for w in (16, 65)]
    hub.add_repo("a/many", {f"{name}/params.npz": content for name in names})
    address = "/hub/a/many/?view=table"
    assert len(rows(client.get(address).content.decode())) == 50
    assert len(rows(client.get(f"{address}&page=2").content.decode())) == 30
    assert rows(client.get(f"{address}&layer=7").content.decode()) == [
        "layer_7/width_16k/average_l0_9",
        "layer_7/width_65k/average_l0_9",
    ]
    assert len(rows(client.get(f"{address}&search=LAYER_39").content.decode())) == 2
    part = client.get(f"{address}&width=65k", headers={"hx-request": "true"}).content.decode()
    assert "<html" not in part and len(rows(part)) == 40
    assert "No SAE matches" in client.get(f"{address}&search=nowhere").content.decode()


@pytest.mark.parametrize(
    "query", ["page=x", "page=-1", "page=1000000000", "layer=x", "width=__class__", "search=%00",
              "hook_type=%ff", "type=spaces", "l0_min=x&l0_max=-1", "l0_min=" + "9" * 5000,
              "l0=%00", "view=x", "search=" + "x" * 100_000, "layer=" + "9" * 5000],
)  # fmt: skip
def test_strange_parameters_are_no_error(client: Client, gemma: str, query: str) -> None:
    assert client.get(f"/hub/{REPO}/?{query}").status_code == 200


@pytest.mark.parametrize(
    "path", ["%2e%2e/x", "%252e%252e%252f/x", "..;/x", "a/%2e%2e", "a/b%00", "a/..%5c..", "-/x",
             "a/b;c", "a/%23", "a/%3f", "file:/x", "a%20b/c", "download/x."],
)  # fmt: skip
@pytest.mark.parametrize("end", ["", "header/?where=."])
def test_a_bad_id_in_the_address_is_an_error_page_and_asks_no_hub(
    client: Client, hub: LocalHub, path: str, end: str
) -> None:
    answer = client.get(f"/hub/{path}/{end}")
    assert answer.status_code in ((200,) if end else (400, 404))
    assert hub.log.requests() == []


def test_a_repository_without_saes_says_what_was_looked_for(client: Client, hub: LocalHub) -> None:
    hub.add_repo("a/none", {"model.safetensors": b"x", "config.json": b"{}"})
    text = client.get("/hub/a/none/").content.decode()
    assert "No SAE was found here" in text
    for format in ("SAELens", "Gemma Scope", "miStudio", "params.npz", "cfg.json"):
        assert format in text


def test_a_dataset_is_previewed_and_downloaded_as_one(client: Client, hub: LocalHub) -> None:
    hub.add_repo("a/data", sample_files("gemma_scope_1_res"), kind="dataset")
    text = client.get("/hub/a/data/").content.decode()
    assert 'name="repo_type" value="dataset"' in text
    header = re.search(r'hx-get="([^"]*/header/[^"]*)"', text)
    assert header is not None
    assert "16 × 64" in client.get(header[1].replace("&amp;", "&")).content.decode()


def test_a_rate_limit_says_how_long_to_wait(client: Client, hub: LocalHub, gemma: str) -> None:
    hub.faults.add("/api/models", faults.status(429, {"Retry-After": "77"}))
    answer = client.get(f"/hub/{REPO}/")
    assert (answer.status_code, answer["Retry-After"]) == (429, "77")
    assert "Rate limit exceeded" in answer.content.decode()


def test_a_header_shows_true_shapes(client: Client, gemma: str) -> None:
    answer = client.get(f"/hub/{REPO}/header/", {"revision": gemma, "where": WHERE})
    assert "16 × 64" in answer.content.decode()
    assert "jumprelu" in answer.content.decode()


@pytest.mark.parametrize("where", ["", "nowhere", "../..", "\0", "x" * 100_000, WHERE + "/", "<b>"])
def test_a_header_of_nothing_says_so_briefly(client: Client, gemma: str, where: str) -> None:
    answer = client.get(f"/hub/{REPO}/header/", {"revision": gemma, "where": where})
    assert answer.status_code == 200
    assert len(answer.content) < 5000
    assert "<b>" not in answer.content.decode()


# --- download -------------------------------------------------------------------------------------


def order(gemma: str, **changes: str) -> dict[str, str]:
    return {"repo": REPO, "repo_type": "model", "commit": gemma, "where": WHERE, **changes}


def test_a_download_is_a_row_and_a_queued_job(client: Client, owner: User, gemma: str) -> None:
    answer = client.post("/hub/download/", order(gemma))
    job = Job.objects.select_related("sae").get()
    assert (answer.status_code, answer["Location"]) == (302, f"/saes/{job.sae_id}/")
    assert (job.state, job.created_by, job.token) == (Job.State.QUEUED, owner, None)
    sae = job.sae
    assert (sae.hf_repo_id, sae.hf_commit, sae.hf_filepath) == (REPO, gemma, WHERE)
    assert sae.status == Sae.Status.PENDING


WRONG = [
    {"repo": "../.."}, {"repo": ""}, {"repo_type": "space"}, {"commit": "main"}, {"commit": ""},
    {"commit": "a" * 41}, {"commit": "a" * 40 + "\n"}, {"commit": "A" * 40}, {"where": ""},
    {"where": "x" * 501}, {"where": "\0"}, {"name": "x" * 201}, {"model_name": "\0"},
]  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: repr(wrong)[:40])
def test_a_wrong_order_starts_nothing(client: Client, gemma: str, wrong: dict[str, str]) -> None:
    answer = client.post("/hub/download/", order(gemma, **wrong))
    assert answer.status_code == 422
    assert "cannot be downloaded" in answer.content.decode()
    assert not Sae.objects.exists()


def test_the_token_of_the_user_goes_with_the_job(client: Client, owner: User, gemma: str) -> None:
    mine = vault.keep(owner, "hf_alice_1111")
    client.post("/hub/download/", order(gemma))
    assert Job.objects.get().token == mine


def test_a_second_press_of_the_button_starts_no_second_download(client: Client, gemma: str) -> None:
    client.post("/hub/download/", order(gemma))
    answer = client.post("/hub/download/", order(gemma), follow=True)
    assert answer.redirect_chain[-1][0] == f"/saes/{Sae.objects.get().id}/"
    assert "This SAE is in the library already." in answer.content.decode()
    assert Job.objects.count() == 1


def test_one_that_failed_is_fetched_again(client: Client, gemma: str) -> None:
    client.post("/hub/download/", order(gemma))
    client.post(f"/saes/{Sae.objects.get().id}/cancel/")
    answer = client.post("/hub/download/", order(gemma), follow=True)
    assert "in the library already" not in answer.content.decode()
    assert list(Job.objects.values_list("state", flat=True)) == ["queued", "cancelled"]


def test_a_fact_that_is_refused_is_a_page_of_its_own(client: Client, gemma: str) -> None:
    answer = client.post("/hub/download/", order(gemma, model_name="gpt2\u200b"))
    assert answer.status_code == 400
    assert "model_name" in answer.content.decode() and "bad_fact" in answer.content.decode()
    assert not Sae.objects.exists()


def test_whoever_may_edit_but_not_add_is_told_so(gemma: str) -> None:
    user = User.objects.create_user("half")
    user.user_permissions.add(Permission.objects.get(codename="change_sae"))
    answer = signed_in(user).post("/hub/download/", order(gemma))
    assert answer.status_code == 403
    assert "Viewers may look" in answer.content.decode()
    assert not Sae.objects.exists()


@pytest.mark.parametrize("token", ["", "hf_alice_1111"])
def test_page_and_api_share_what_the_same_person_saw(
    client: Client, owner: User, hub: LocalHub, gemma: str, token: str
) -> None:
    if token:
        vault.keep(owner, token)
    client.get(f"/hub/{REPO}/")
    seen = len(listings(hub))
    asked = {"repo_id": REPO}
    answer = client.post("/api/v1/saes/hf/preview", asked, content_type="application/json")
    assert answer.status_code == 200
    assert len(listings(hub)) == seen > 0
