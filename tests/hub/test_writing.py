"""The real client writes to the hub, and reads again what it wrote."""

from __future__ import annotations

import io
import time
import warnings
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import BadRequestError, HfHubHTTPError, RepositoryNotFoundError

from tests.hub import Hollow, LocalHub, upload_faults
from tests.hub.access import OrgRole

# The client hands the file over in a way that its own HTTP library calls old.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
BIG = Hollow(11_000_000, seed=5)
SMALL = Hollow(200_000, seed=6)
CARD = b"---\nlicense: mit\nlibrary_name: saelens\ntags: [sae]\n---\n# An SAE\n"


@pytest.fixture
def writer(hub: LocalHub) -> HfApi:
    hub.add_token("hf_writer_3333", "alice", "write")
    return HfApi(endpoint=hub.url, token="hf_writer_3333")


@pytest.fixture
def repo(hub: LocalHub, writer: HfApi) -> str:
    return writer.create_repo("alice/new").repo_id


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two tries the client waits a second, then two."""
    monkeypatch.setattr("huggingface_hub.utils._http.time.sleep", lambda seconds: None)


def content(blob: Hollow) -> bytes:
    return blob.read(0, blob.size)


def add(path: str, blob: Hollow | bytes = SMALL) -> CommitOperationAdd:
    """From an open file: with a path or with bytes the client would want Xet."""
    held = blob if isinstance(blob, bytes) else content(blob)
    return CommitOperationAdd(path, io.BytesIO(held))


def put(api: HfApi, *added: CommitOperationAdd, repo: str = "alice/new", **more: str) -> str:
    return api.create_commit(repo, added, commit_message="Add it", **more).oid  # type: ignore[call-overload, no-any-return]


def got(api: HfApi, path: str, folder: Path, revision: str = "main") -> bytes:
    found = api.hf_hub_download("alice/new", path, cache_dir=folder, revision=revision)
    return Path(found).read_bytes()


def test_a_new_repository_has_a_first_commit(hub: LocalHub, writer: HfApi) -> None:
    assert writer.create_repo("alice/x", private=True) == f"{hub.url}/alice/x"
    assert writer.list_repo_files("alice/x") == [".gitattributes"]
    assert hub.repo("alice/x").private


def test_what_exists_is_not_made_again(writer: HfApi, repo: str) -> None:
    with pytest.raises(HfHubHTTPError) as wrong:
        writer.create_repo(repo)
    assert wrong.value.response.status_code == 409
    assert writer.create_repo(repo, exist_ok=True).repo_id == repo


@pytest.mark.parametrize("namespace", ["alice", "team"])
def test_a_token_without_the_right_creates_nothing(hub: LocalHub, namespace: str) -> None:
    hub.add_token("hf_reader_4444", "alice", orgs=["team"])
    with pytest.raises(HfHubHTTPError, match=f"rights to create a model under .*{namespace}"):
        HfApi(endpoint=hub.url, token="hf_reader_4444").create_repo(f"{namespace}/x")


def test_large_and_small_files_come_back_byte_for_byte(
    hub: LocalHub, writer: HfApi, repo: str, cache: Path
) -> None:
    sha = put(writer, add("a/sae.safetensors", BIG), add("a/cfg.json", b"{}"))
    assert hub.repo(repo).sha == sha
    assert got(writer, "a/sae.safetensors", cache) == content(BIG)
    assert got(writer, "a/cfg.json", cache) == b"{}"


def test_a_file_in_parts_is_put_together(
    hub: LocalHub, writer: HfApi, repo: str, cache: Path
) -> None:
    hub.multipart_from, hub.part_size = 100_000, 64_000
    put(writer, add("x.npz"))
    assert len(hub.log.requests(origin="cdn", method="PUT")) == 4
    assert got(writer, "x.npz", cache) == content(SMALL)


def test_no_token_reaches_the_cdn(hub: LocalHub, writer: HfApi, repo: str) -> None:
    put(writer, add("x.npz"))
    sent = hub.log.requests(origin="cdn", method="PUT")
    assert [entry.authorized for entry in sent] == [False]


def test_what_is_there_already_is_not_sent_again(hub: LocalHub, writer: HfApi, repo: str) -> None:
    put(writer, add("x.npz"))
    put(writer, add("y.npz"))
    assert len(hub.log.requests(origin="cdn", method="PUT")) == 1


def test_a_commit_on_an_old_head_is_refused(writer: HfApi, repo: str) -> None:
    old = writer.model_info(repo).sha or ""
    put(writer, add("a.json", b"1"))
    with pytest.raises(HfHubHTTPError, match="A commit has happened since") as wrong:
        put(writer, add("b.json", b"2"), parent_commit=old)
    assert wrong.value.response.status_code == 412


def test_a_large_file_that_never_came_is_not_committed(hub: LocalHub, repo: str) -> None:
    value = {"path": "x.npz", "algo": "sha256", "oid": "0" * 64, "size": 5}
    lines = '{"key":"header","value":{"summary":"x"}}\n'
    lines += f'{{"key":"lfsFile","value":{value}}}\n'.replace("'", '"')
    named = {"Authorization": "Bearer hf_writer_3333"}
    url = f"{hub.url}/api/models/{repo}/commit/main"
    assert httpx2.post(url, content=lines.encode(), headers=named).status_code == 400


def test_a_pull_request_leaves_main_alone(
    hub: LocalHub, writer: HfApi, repo: str, cache: Path
) -> None:
    before = hub.repo(repo).sha
    hub.add_token("hf_other_5555", "bob", "write")
    other = HfApi(endpoint=hub.url, token="hf_other_5555")
    made = other.create_commit(
        repo, [add("x.npz")], commit_message="Mine", commit_description="Why", create_pr=True
    )
    assert (made.pr_num, made.pr_revision) == (1, "refs/pr/1")
    assert hub.repo(repo).sha == before
    assert got(writer, "x.npz", cache, "refs/pr/1") == content(SMALL)
    [pull] = writer.get_repo_discussions(repo)
    assert (pull.num, pull.title, pull.author) == (1, "Mine", "bob")
    assert pull.is_pull_request


def test_more_can_be_committed_to_a_pull_request(writer: HfApi, repo: str) -> None:
    writer.create_commit(repo, [add("a.json", b"1")], commit_message="x", create_pr=True)
    put(writer, add("b.json", b"2"), revision="refs/pr/1")
    listed = writer.list_repo_files(repo, revision="refs/pr/1")
    assert listed == [".gitattributes", "a.json", "b.json"]


def test_who_may_not_push_is_told_of_pull_requests(hub: LocalHub, repo: str) -> None:
    hub.add_token("hf_other_5555", "bob", "write")
    with pytest.raises(HfHubHTTPError, match="create_pr=1"):
        put(HfApi(endpoint=hub.url, token="hf_other_5555"), add("x.json", b"1"))


def test_anothers_pull_request_is_not_written_to(hub: LocalHub, writer: HfApi, repo: str) -> None:
    writer.create_commit(repo, [add("a.json", b"1")], commit_message="x", create_pr=True)
    hub.add_token("hf_other_5555", "bob", "write")
    with pytest.raises(HfHubHTTPError, match="create_pr=1"):
        put(
            HfApi(endpoint=hub.url, token="hf_other_5555"),
            add("b.json", b"2"),
            revision="refs/pr/1",
        )


def test_a_private_repository_is_not_there_for_a_stranger(writer: HfApi, hub: LocalHub) -> None:
    writer.create_repo("alice/new", private=True)
    hub.add_token("hf_other_5555", "bob", "write")
    with pytest.raises(RepositoryNotFoundError):
        put(HfApi(endpoint=hub.url, token="hf_other_5555"), add("x.json", b"1"))


def test_after_a_lost_answer_the_commit_is_there_and_again_is_a_no_op(
    hub: LocalHub, writer: HfApi, repo: str
) -> None:
    hub.faults.add("/commit/main", upload_faults.lost_answer())
    with pytest.raises(httpx2.TransportError):
        put(writer, add("x.npz"), add("a.json", b"1"))
    sha = hub.repo(repo).sha
    assert put(writer, add("x.npz"), add("a.json", b"1")) == sha
    assert len(writer.list_repo_commits(repo)) == 2


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_refused_part_is_sent_again(hub: LocalHub, writer: HfApi, repo: str, code: int) -> None:
    fault = hub.faults.add("", upload_faults.refused(code), where="cdn", method="PUT")
    put(writer, add("x.npz"))
    assert fault.hits == 1
    assert hub.repo(repo).head.files["x.npz"].sha256 == SMALL.sha256


def test_an_upload_that_is_cut_is_sent_again(hub: LocalHub, writer: HfApi, repo: str) -> None:
    hub.faults.add("", upload_faults.cut_upload(100_000), where="cdn", method="PUT")
    put(writer, add("x.npz"))
    assert hub.repo(repo).head.files["x.npz"].sha256 == SMALL.sha256


def test_an_upload_is_as_slow_as_ordered(hub: LocalHub, writer: HfApi, repo: str) -> None:
    hub.bytes_per_second = 400_000
    start = time.monotonic()
    put(writer, add("x.npz"))
    assert time.monotonic() - start > 0.45


def test_an_address_that_is_too_old_takes_nothing(hub: LocalHub, writer: HfApi, repo: str) -> None:
    hub.url_lifetime = -1
    with pytest.raises(RuntimeError) as wrong:
        put(writer, add("x.npz"))
    assert isinstance(wrong.value.__cause__, HfHubHTTPError)
    assert wrong.value.__cause__.response.status_code == 403


def test_a_repository_can_be_hidden_and_shown(hub: LocalHub, writer: HfApi, repo: str) -> None:
    writer.update_repo_settings(repo, private=True)
    assert hub.repo(repo).private
    writer.update_repo_settings(repo, private=False)
    assert not hub.repo(repo).private


def test_commits_are_listed_from_the_newest_on(writer: HfApi, hub: LocalHub, repo: str) -> None:
    for n in range(60):
        hub.commit(repo, {"n.json": b"%d" % n}, f"No. {n}")
    listed = writer.list_repo_commits(repo)
    assert (len(listed), listed[0].title, listed[-1].title) == (61, "No. 59", "Initial commit")
    assert listed[0].authors == ["alice"]


def test_files_are_deleted(writer: HfApi, repo: str) -> None:
    put(writer, add("a.json", b"1"))
    writer.create_commit(repo, [CommitOperationDelete("a.json")], commit_message="Gone")
    assert writer.list_repo_files(repo) == [".gitattributes"]


def test_the_cards_front_matter_becomes_the_repositorys_facts(writer: HfApi, repo: str) -> None:
    put(writer, add("README.md", CARD))
    info = writer.model_info(repo)
    assert info.card_data is not None and info.card_data.license == "mit"
    assert info.library_name == "saelens"


def test_a_card_is_judged(writer: HfApi, repo: str) -> None:
    writer._validate_yaml(CARD.decode())
    with pytest.raises(ValueError, match="license"):
        writer._validate_yaml("---\nlicense: mine\n---\n")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        writer._validate_yaml("# No metadata\n")
    assert "empty or missing yaml" in str(caught[0].message)
    with pytest.raises((BadRequestError, ValueError)):
        put(writer, add("README.md", b"---\nlicense: 5\n---\n"))


def test_whoami_tells_what_each_token_may_do(hub: LocalHub) -> None:
    for role in ("read", "write"):
        hub.add_token(f"hf_{role}", "carol", role, orgs={"team": "contributor"})
        told = HfApi(endpoint=hub.url, token=f"hf_{role}").whoami()
        assert told["auth"]["accessToken"]["role"] == role
        assert (told["orgs"][0]["name"], told["orgs"][0]["roleInOrg"]) == ("team", "contributor")
    writes = ["carol", "team", "carol/x"]
    hub.add_token("hf_fine", "carol", "fineGrained", repos=["carol/y"], writes=writes)
    told = HfApi(endpoint=hub.url, token="hf_fine").whoami()["auth"]["accessToken"]
    rights = {
        (row["entity"]["type"], row["entity"]["name"]): "repo.write" in row["permissions"]
        for row in told["fineGrained"]["scoped"]
    }
    expected = {("user", "carol"): True, ("org", "team"): True, ("model", "carol/x"): True}
    assert rights == expected | {("model", "carol/y"): False}


@pytest.mark.parametrize(("writes", "allowed"), [(["alice/new"], True), ([], False)])
def test_a_fine_grained_token_writes_where_it_may(
    hub: LocalHub, repo: str, writes: list[str], allowed: bool
) -> None:
    hub.add_token("hf_fine", "alice", "fineGrained", repos=[repo], writes=writes)
    fine = HfApi(endpoint=hub.url, token="hf_fine")
    if allowed:
        assert put(fine, add("a.json", b"1")) == hub.repo(repo).sha
        return
    with pytest.raises(HfHubHTTPError) as wrong:
        put(fine, add("a.json", b"1"))
    assert wrong.value.response.status_code == 403


@pytest.mark.parametrize(("role", "allowed"), [("read", False), ("contributor", True)])
def test_a_role_in_an_organization_decides(hub: LocalHub, role: OrgRole, allowed: bool) -> None:
    hub.add_repo("team/old", {"a.json": b"1"})
    hub.add_token("hf_member", "carol", "write", orgs={"team": role})
    member = HfApi(endpoint=hub.url, token="hf_member")
    with pytest.raises(HfHubHTTPError, match="create_pr=1"):
        put(member, add("b.json", b"2"), repo="team/old")
    if allowed:
        member.create_repo("team/mine")
        put(member, add("b.json", b"2"), repo="team/mine")
        return
    with pytest.raises(HfHubHTTPError, match="rights to create"):
        member.create_repo("team/mine")


def test_what_is_not_what_was_announced_is_not_kept(
    hub: LocalHub, writer: HfApi, repo: str
) -> None:
    wrong = add("x.npz")
    wrong.upload_info.sha256 = bytes(32)
    with pytest.raises(RuntimeError) as said:
        put(writer, wrong)
    assert "not what was announced" in str(said.value.__cause__)
    assert not hub.repo(repo).objects
