"""What the Hub refuses, and how each refusal is told apart."""

import re

import pytest
from django.contrib.auth.models import User
from django.test import Client

from saes import accounts, errors, jobs, preview, vault
from saes.errors import SaeError
from saes.hub import Hub, RepoRef
from saes.models import Job, Sae
from tests.hub import LocalHub, faults
from tests.hub.repos import Request
from tests.jobs.conftest import sample_files

REPO = "google/gemma-scope-2b-pt-res"
WHERE = "layer_12/width_16k/average_l0_41"
ALICE = "hf_alice_1111"
BACKEND = "django.contrib.auth.backends.ModelBackend"


def look(hub: LocalHub, repo: str = REPO, token: str | None = None) -> preview.Preview:
    return preview.look(Hub(hub.url, token), RepoRef(repo), token)


def problem(hub: LocalHub, token: str | None, repo: str = REPO) -> tuple[str, str]:
    """Code and sentence, whether the preview is refused or only the files are."""
    try:
        error = look(hub, repo, token).access_problem
    except SaeError as refused:
        error = refused
    assert error is not None
    return error.code, str(error)


@pytest.fixture
def gated(hub: LocalHub) -> str:
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"), gated="manual")
    return REPO


CASES: list[tuple[str | None, Request | None, str]] = [
    (None, None, "gated_no_token"),
    ("hf_nobody_9999", None, "bad_token"),
    (ALICE, None, "gated_terms_not_accepted"),
    (ALICE, "reset", "gated_terms_not_accepted"),
    (ALICE, "pending", "gated_awaiting_review"),
    (ALICE, "rejected", "access_denied"),
]


@pytest.mark.parametrize(("token", "state", "code"), CASES)
def test_gated_cases_are_told_apart(
    hub: LocalHub, gated: str, token: str | None, state: Request | None, code: str
) -> None:
    hub.ask_access(gated, "alice", state)
    found, sentence = problem(hub, token)
    assert found == code
    assert token is None or token not in sentence


def test_every_case_has_words_of_its_own(hub: LocalHub, gated: str) -> None:
    told = set()
    for token, state, _ in CASES:
        preview._previews.clear()
        hub.ask_access(gated, "alice", state)
        told.add(problem(hub, token))
    told.add(problem(hub, ALICE, "a/missing"))
    assert len(told) == 6


def test_missing_and_private_look_the_same(hub: LocalHub) -> None:
    hub.add_repo("bob/private", sample_files("gemma_scope_1_res"), private=True)
    for token in (None, ALICE):
        hidden, missing = problem(hub, token, "bob/private"), problem(hub, token, "bob/missing")
        assert hidden[0] == missing[0] == "repository_not_found"
        assert hidden[1].replace("private", "") == missing[1].replace("missing", "").replace(
            "private", ""
        )


def test_names_of_a_gated_repository_are_shown_with_the_reason(hub: LocalHub, gated: str) -> None:
    found = look(hub, gated)
    assert [row.where for row in found.rows] == [WHERE]
    assert isinstance(found.access_problem, errors.GatedNoToken)
    with pytest.raises(errors.GatedNoToken):
        found.header(WHERE)


def test_whoever_accepts_the_terms_need_not_wait_for_the_next_look(
    hub: LocalHub, gated: str
) -> None:
    assert look(hub, gated, ALICE).access_problem is not None
    hub.ask_access(gated, "alice", "accepted")
    found = look(hub, gated, ALICE)
    assert found.access_problem is None
    assert found.header(WHERE).get("d_sae") == 64


def test_whoever_has_access_sees_headers(hub: LocalHub, gated: str) -> None:
    hub.ask_access(gated, "alice", "accepted")
    found = look(hub, gated, ALICE)
    assert found.access_problem is None
    assert found.header(WHERE).get("d_sae") == 64


def test_a_narrow_token_is_named_as_the_reason(hub: LocalHub, gated: str) -> None:
    hub.add_token("hf_narrow_3333", "alice", "fineGrained")
    hub.ask_access(gated, "alice", "accepted")
    assert problem(hub, "hf_narrow_3333")[0] == "access_denied"


def test_a_token_that_may_not_write_is_told_of_the_page_of_tokens_not_of_reading(
    hub: LocalHub,
) -> None:
    with pytest.raises(errors.AccessDenied) as denied:
        Hub(hub.url, ALICE).create("alice/new", private=True)
    assert str(denied.value).startswith("This token may not write to alice/new. The Hub says: ")
    assert "Hub tokens" in denied.value.next_step and "read" not in denied.value.next_step


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "40"}, {"Retry-After": "-5"},
                                     {"Retry-After": "Wed, 21 Oct 2099 07:28:00 GMT"}])  # fmt: skip
@pytest.mark.parametrize("at", ["/revision/", "/tree/", "/api/models/google"])
def test_a_rate_limit_is_said_at_once(hub: LocalHub, headers: dict[str, str], at: str) -> None:
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
    hub.faults.add(at, faults.status(429, headers), times=None)
    if at == "/revision/":
        hub.faults.add("/api/models", faults.status(429, headers), times=None)
    with pytest.raises(errors.RateLimited, match="Rate limit exceeded"):
        look(hub)
    assert len(hub.log.requests()) <= 2


def test_a_problem_that_passes_is_not_kept(hub: LocalHub) -> None:
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"), gated="auto", readers=["alice"])
    hub.faults.add("params.npz", faults.status(429), times=1)
    assert isinstance(look(hub, REPO, ALICE).access_problem, errors.RateLimited)
    assert look(hub, REPO, ALICE).access_problem is None


def test_a_hub_that_is_away_is_named() -> None:
    with LocalHub() as gone:
        url = gone.url
    with pytest.raises(errors.HubUnreachable, match=re.escape(url)):
        preview.look(Hub(url, ALICE), RepoRef(REPO), "me")


@pytest.mark.parametrize("code", [500, 502, 503])
def test_a_hub_that_is_ill_is_away_too(hub: LocalHub, code: int) -> None:
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
    hub.faults.add("/api/", faults.status(code, text="<html>secret internals</html>"), times=None)
    with pytest.raises(errors.HubUnreachable) as caught:
        look(hub)
    assert "internals" not in str(caught.value)


@pytest.mark.parametrize("at", ["/tree/", "/api/models/google"])
def test_a_login_page_is_no_hub(hub: LocalHub, at: str) -> None:
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
    hub.faults.add(at, faults.html_login_page(), times=None)
    with pytest.raises(errors.HubMisbehaved):
        look(hub)


def test_a_repository_without_saes_says_what_each_format_looks_for(hub: LocalHub) -> None:
    hub.add_repo("a/none", {"model.safetensors": b"x", "cfg.json": b"{}", "params.npy": b"x"})
    found = look(hub, "a/none")
    assert found.rows == []
    assert {"SAELens", "Gemma Scope 1", "miStudio"} <= found.refusals.keys()
    assert all(found.refusals.values())


def test_an_empty_repository_has_a_preview(hub: LocalHub) -> None:
    hub.add_repo("a/empty", {})
    assert look(hub, "a/empty").rows == []


def test_a_dataset_that_holds_saes_is_found_by_its_id(hub: LocalHub) -> None:
    hub.add_repo("a/data", sample_files("gemma_scope_1_res"), kind="dataset")
    found = look(hub, "a/data")
    assert (found.listing.repo_type, len(found.rows)) == ("dataset", 1)
    assert found.header(WHERE).get("d_sae") == 64


def test_unsafe_names_are_left_out_with_a_warning(hub: LocalHub) -> None:
    folders = ("../x", "a/../..", "layer_1/con", "a\\b", "layer_2/x\u202e", "layer_3 ", "C:", "a/")
    unsafe = [f"{folder}/params.npz" for folder in folders]
    hub.add_repo(REPO, {**sample_files("gemma_scope_1_res"), **dict.fromkeys(unsafe, b"x")})
    found = look(hub)
    assert [row.where for row in found.rows] == [WHERE]
    assert sorted(found.listing.unsafe) == sorted(unsafe)


# --- who is served what ---------------------------------------------------------------------------


def client_of(name: str, token: str = "") -> Client:
    user = User.objects.create_user(name)
    client = Client()
    client.force_login(user, backend=BACKEND)
    if token:
        client.post("/hub/", {"repo": "a/b", "token": token})
    return client


@pytest.mark.django_db
def test_nobody_is_served_what_the_token_of_another_opened(hub: LocalHub) -> None:
    repo = hub.add_repo("alice/private", sample_files("gemma_scope_1_res"), private=True)
    alice, bob, nobody = client_of("alice", ALICE), client_of("bob", "hf_bob_1111"), client_of("n")
    asked = {"revision": repo.sha, "where": WHERE}
    assert WHERE in alice.get("/hub/alice/private/").content.decode()
    assert "16 × 64" in alice.get("/hub/alice/private/header/", asked).content.decode()
    for other in (bob, nobody):
        answer = other.get("/hub/alice/private/")
        assert answer.status_code == 404
        assert WHERE not in answer.content.decode()
        assert "16 × 64" not in other.get("/hub/alice/private/header/", asked).content.decode()


@pytest.mark.django_db
def test_a_forgotten_token_opens_nothing_any_more(hub: LocalHub) -> None:
    repo = hub.add_repo("alice/private", sample_files("gemma_scope_1_res"), private=True)
    alice = client_of("alice", ALICE)
    assert alice.get("/hub/alice/private/").status_code == 200
    alice.post("/hub/forget-token/")
    assert alice.get("/hub/alice/private/").status_code == 404
    header = alice.get("/hub/alice/private/header/", {"revision": repo.sha, "where": WHERE})
    assert "16 × 64" not in header.content.decode()


@pytest.mark.django_db
def test_a_revoked_token_opens_no_kept_preview(hub: LocalHub) -> None:
    hub.add_repo("alice/private", sample_files("gemma_scope_1_res"), private=True)
    alice = client_of("alice", ALICE)
    assert alice.get("/hub/alice/private/").status_code == 200
    hub.revoke_token(ALICE)
    assert alice.get("/hub/alice/private/").status_code == 401


@pytest.mark.django_db
def test_a_user_without_a_token_uses_the_servers(hub: LocalHub) -> None:
    hub.add_repo("alice/private", sample_files("gemma_scope_1_res"), private=True)
    vault.take_server_token(ALICE)
    client = client_of("nobody")
    assert client.get("/hub/alice/private/").status_code == 200
    assert ALICE not in client.get("/hub/").content.decode()
    vault.take_server_token("")
    assert client.get("/hub/alice/private/").status_code == 404


# --- pinned to a commit ---------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_what_was_previewed_is_what_is_downloaded_though_the_branch_moves(hub: LocalHub) -> None:
    repo = hub.add_repo("a/moves", sample_files("gemma_scope_1_res"))
    first = repo.sha
    client = Client()
    client.force_login(accounts.ensure_owner(), backend=BACKEND)
    page = client.get("/hub/a/moves/").content.decode()
    form = dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert form["commit"] == first
    hub.commit(repo, {f"{WHERE}/params.npz": b"another file", "new/params.npz": b"x"})
    assert repo.sha != first
    client.post("/hub/download/", {**form, "where": WHERE})
    job = Job.objects.get()
    jobs.run(job.id)
    sae = Sae.objects.get()
    expected = repo.commits[first].files[f"{WHERE}/params.npz"]
    source = sae.files.get(kind="source")
    assert (sae.hf_commit, source.sha256, source.size) == (first, expected.sha256, expected.size)
    assert all(repo.sha not in entry.path for entry in hub.log.requests("resolve"))


def test_headers_are_those_of_the_commit_that_is_shown(hub: LocalHub) -> None:
    repo = hub.add_repo(REPO, sample_files("gemma_scope_1_res"))
    found = look(hub)
    hub.commit(repo, {f"{WHERE}/params.npz": b"another file"})
    assert found.header(WHERE).get("d_sae") == 64
    newer = look(hub)
    assert newer.listing.commit != found.listing.commit
    with pytest.raises(errors.BrokenFile):
        newer.header(WHERE)
