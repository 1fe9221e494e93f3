"""The real client against the hub: what it lists, downloads and refuses."""

from __future__ import annotations

import hashlib
import time
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path

import httpx2
import pytest
from huggingface_hub import (
    HfApi,
    get_hf_file_metadata,
    hf_hub_download,
    hf_hub_url,
    snapshot_download,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    GatedRepoError,
    HfHubHTTPError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)
from huggingface_hub.hf_api import RepoFile, RepoFolder

from tests.hub import Hollow, LocalHub, faults
from tests.hub.conftest import CONFIG, WEIGHTS


def api(hub: LocalHub, token: str | bool = False) -> HfApi:
    return HfApi(endpoint=hub.url, token=token)


def fetch(hub: LocalHub, cache: Path, name: str, token: str | bool = False, **more: str) -> Path:
    options = {"endpoint": hub.url, "cache_dir": cache, "token": token} | more
    return Path(hf_hub_download("alice/sae", name, **options))  # type: ignore[call-overload]


def test_a_models_facts_are_read_by_the_client(hub: LocalHub, sae: str) -> None:
    info = api(hub).model_info(sae)
    assert info.sha == hub.repo(sae).sha
    assert (info.private, info.gated, info.library_name) == (False, False, "saelens")
    assert info.card_data is not None and info.card_data.license == "mit"
    assert [s.rfilename for s in info.siblings or []] == sorted(hub.repo(sae).head.files)


def test_siblings_carry_sizes_and_hashes_when_asked(hub: LocalHub, sae: str) -> None:
    weights = (api(hub).model_info(sae, files_metadata=True).siblings or [])[-1]
    assert weights.size == WEIGHTS.size
    assert weights.lfs is not None and weights.lfs.sha256 == WEIGHTS.sha256


def test_the_tree_has_folders_sizes_and_hashes(hub: LocalHub, sae: str) -> None:
    rows = {row.path: row for row in api(hub).list_repo_tree(sae, recursive=True)}
    assert isinstance(rows["layer_7"], RepoFolder)
    weights, config = rows["layer_7/sae.safetensors"], rows["layer_7/cfg.json"]
    assert isinstance(weights, RepoFile) and weights.lfs is not None
    assert (weights.lfs.sha256, weights.lfs.size) == (WEIGHTS.sha256, WEIGHTS.size)
    assert isinstance(config, RepoFile) and config.lfs is None
    blob = hashlib.sha1(b"blob %d\0%b" % (len(CONFIG), CONFIG), usedforsecurity=False)
    assert config.blob_id == blob.hexdigest()


def test_a_folder_is_listed_alone(hub: LocalHub, sae: str) -> None:
    top = [row.path for row in api(hub).list_repo_tree(sae)]
    below = [row.path for row in api(hub).list_repo_tree(sae, "layer_7", expand=True)]
    assert top == ["README.md", "layer_7"]
    assert below == ["layer_7/cfg.json", "layer_7/sae.safetensors"]


def test_a_missing_folder_is_not_found(hub: LocalHub, sae: str) -> None:
    with pytest.raises(EntryNotFoundError):
        list(api(hub).list_repo_tree(sae, "layer_8"))


@pytest.mark.alone
def test_fifty_thousand_files_are_listed_in_51_pages_within_seconds(hub: LocalHub) -> None:
    blobs = [Hollow(300_000_000, n, listing_only=True) for n in range(50_000)]
    hub.add_repo("big/one", {f"l{n // 1000}/f{n}.npz": blob for n, blob in enumerate(blobs)})
    start = time.perf_counter()
    rows = list(api(hub).list_repo_tree("big/one", recursive=True))
    assert time.perf_counter() - start < 3
    assert len(rows) == 50_050
    assert len(hub.log.requests("/tree/")) == 51


def test_named_paths_are_described(hub: LocalHub, sae: str) -> None:
    found = api(hub).get_paths_info(sae, ["layer_7", "README.md", "nothing"], expand=True)
    assert [row.path for row in found] == ["layer_7", "README.md"]


def test_a_large_file_comes_from_the_other_origin_without_the_token(
    hub: LocalHub, sae: str, cache: Path
) -> None:
    path = fetch(hub, cache, "layer_7/sae.safetensors", "hf_alice_1111")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == WEIGHTS.sha256
    asked = [(e.origin, e.method, e.status, e.token_tail) for e in hub.log.requests()]
    assert asked == [("hub", "HEAD", 302, "1111"), ("cdn", "GET", 200, "")]
    assert hub.log.bytes_sent("sae.safetensors") == WEIGHTS.size


def test_a_small_file_stays_on_the_hub_and_keeps_the_token(
    hub: LocalHub, sae: str, cache: Path
) -> None:
    assert fetch(hub, cache, "layer_7/cfg.json", "hf_alice_1111").read_bytes() == CONFIG
    asked = [(e.method, e.status, e.token_tail) for e in hub.log.requests()]
    assert asked == [("HEAD", 307, "1111"), ("HEAD", 200, "1111"), ("GET", 200, "1111")]


def test_a_files_metadata_is_its_commit_hash_and_size(hub: LocalHub, sae: str) -> None:
    for name, etag, size in [
        ("layer_7/sae.safetensors", WEIGHTS.sha256, WEIGHTS.size),
        ("layer_7/cfg.json", hub.repo(sae).head.files["layer_7/cfg.json"].git_sha1, len(CONFIG)),
    ]:
        url = hf_hub_url(sae, name, endpoint=hub.url)
        meta = get_hf_file_metadata(url, endpoint=hub.url, token=False)
        assert (meta.commit_hash, meta.etag, meta.size) == (hub.repo(sae).sha, etag, size)


def test_a_whole_repository_is_downloaded(hub: LocalHub, sae: str, cache: Path) -> None:
    root = Path(snapshot_download(sae, endpoint=hub.url, cache_dir=cache, token=False))
    files = {p.relative_to(root).as_posix() for p in root.rglob("*") if p.is_file()}
    assert files == set(hub.repo(sae).head.files)


def test_an_older_commit_stays_reachable(hub: LocalHub, sae: str, cache: Path) -> None:
    first = hub.repo(sae).sha
    second = hub.commit(sae, {"layer_7/cfg.json": b"{}", "README.md": None})
    assert fetch(hub, cache, "layer_7/cfg.json").read_bytes() == b"{}"
    assert fetch(hub, cache, "layer_7/cfg.json", revision=first).read_bytes() == CONFIG
    assert api(hub).model_info(sae).sha == second != first
    with pytest.raises(EntryNotFoundError):
        fetch(hub, cache, "README.md", revision=second)


def test_a_dataset_is_another_kind_of_repository(hub: LocalHub, cache: Path) -> None:
    hub.add_repo("alice/acts", {"a/x.npz": WEIGHTS, "note.txt": b"hi"}, kind="dataset")
    assert api(hub).dataset_info("alice/acts").id == "alice/acts"
    for name in ("a/x.npz", "note.txt"):
        path = hf_hub_download(
            "alice/acts", name, repo_type="dataset", endpoint=hub.url, cache_dir=cache, token=False
        )
        assert Path(path).stat().st_size > 0
    with pytest.raises(RepositoryNotFoundError):
        api(hub).model_info("alice/acts")


def test_a_missing_repository_revision_and_file_are_told_apart(
    hub: LocalHub, sae: str, cache: Path
) -> None:
    for token in (False, "hf_bob_2222"):
        with pytest.raises(RepositoryNotFoundError):
            api(hub, token).model_info("alice/nothing")
        with pytest.raises(RevisionNotFoundError):
            api(hub, token).model_info(sae, revision="v9")
        with pytest.raises(RevisionNotFoundError):
            fetch(hub, cache, "README.md", token, revision="v9")
        with pytest.raises(EntryNotFoundError):
            fetch(hub, cache, "nothing.json", token)


def test_a_private_repository_is_not_found_without_a_token(hub: LocalHub, cache: Path) -> None:
    hub.add_repo("alice/sae", {"cfg.json": CONFIG}, private=True)
    for token, status in ((False, 401), ("hf_bob_2222", 404)):
        with pytest.raises(RepositoryNotFoundError) as refused:
            api(hub, token).model_info("alice/sae")
        assert refused.value.response.status_code == status
        with pytest.raises(RepositoryNotFoundError):
            list(api(hub, token).list_repo_tree("alice/sae"))
    assert fetch(hub, cache, "cfg.json", "hf_alice_1111").read_bytes() == CONFIG


@pytest.mark.parametrize(
    ("state", "words"),
    [
        (None, "not in the authorized list"),
        ("pending", "awaiting a review"),
        ("rejected", "has been rejected"),
    ],
)
def test_a_gated_file_is_refused_with_the_state_of_the_request(
    hub: LocalHub, cache: Path, state: str | None, words: str
) -> None:
    hub.add_repo("alice/sae", {"cfg.json": CONFIG}, gated="manual")
    hub.ask_access("alice/sae", "bob", state)  # type: ignore[arg-type]
    with pytest.raises(GatedRepoError, match=words) as refused:
        fetch(hub, cache, "cfg.json", "hf_bob_2222")
    assert refused.value.response.status_code == 403
    with pytest.raises(GatedRepoError, match="Please log in") as refused:
        fetch(hub, cache, "cfg.json")
    assert refused.value.response.status_code == 401


def test_a_gated_repository_opens_to_those_who_were_accepted(hub: LocalHub, cache: Path) -> None:
    hub.add_repo("alice/sae", {"cfg.json": CONFIG, "a.npz": WEIGHTS}, gated="auto")
    hub.ask_access("alice/sae", "bob")
    assert fetch(hub, cache, "cfg.json", "hf_bob_2222").read_bytes() == CONFIG
    assert fetch(hub, cache, "a.npz", "hf_bob_2222").stat().st_size == WEIGHTS.size
    api(hub, "hf_bob_2222").auth_check("alice/sae")
    with pytest.raises(GatedRepoError):
        api(hub).auth_check("alice/sae")


def test_a_gated_repositorys_listing_is_public_but_not_its_hashes(hub: LocalHub) -> None:
    hub.add_repo("alice/sae", {"README.md": b"# hi", "a.npz": WEIGHTS}, gated="auto")
    assert api(hub).model_info("alice/sae").gated == "auto"
    for token, oid in ((False, "*" * 64), ("hf_alice_1111", WEIGHTS.sha256)):
        weights = list(api(hub, token).list_repo_tree("alice/sae"))[-1]
        assert isinstance(weights, RepoFile) and weights.lfs is not None
        assert weights.lfs.sha256 == oid


def test_an_unknown_token_fails_even_on_public_repositories(hub: LocalHub, sae: str) -> None:
    with pytest.raises(HfHubHTTPError) as refused:
        api(hub, "hf_wrong").model_info(sae)
    assert refused.value.response.status_code == 401
    assert not isinstance(refused.value, RepositoryNotFoundError)


def test_a_narrow_token_is_forbidden_what_it_does_not_cover(hub: LocalHub, cache: Path) -> None:
    hub.add_repo("alice/sae", {"cfg.json": CONFIG}, gated="auto")
    hub.add_repo("alice/other", private=True)
    token = hub.add_token("hf_narrow_3333", "alice", "fineGrained", repos=["alice/third"])
    for attempt in ("alice/sae", "alice/other"):
        with pytest.raises(HfHubHTTPError) as refused:
            api(hub, token).auth_check(attempt)
        assert refused.value.response.status_code == 403
        assert not isinstance(refused.value, GatedRepoError)


def test_whoami_names_the_user_and_the_tokens_role(hub: LocalHub) -> None:
    hub.add_token("hf_w", "carol", "fineGrained", repos=["carol/a"], orgs=["lab"])
    me = api(hub, "hf_w").whoami()
    assert (me["name"], me["orgs"][0]["name"]) == ("carol", "lab")
    assert me["auth"]["accessToken"]["role"] == "fineGrained"
    with pytest.raises(HfHubHTTPError, match="Invalid user token"):
        api(hub, "hf_wrong").whoami()


def test_models_are_searched_by_words_and_author(hub: LocalHub, sae: str) -> None:
    hub.add_repo("bob/other")
    assert [m.id for m in api(hub).list_models(search="SAE")] == [sae]
    assert [m.id for m in api(hub).list_models(author="bob")] == ["bob/other"]


def test_too_many_requests_end_a_question_at_once(hub: LocalHub, sae: str) -> None:
    hub.faults.add("/api/models/", faults.status(429, {"Retry-After": "1"}))
    with pytest.raises(HfHubHTTPError) as refused:
        api(hub).model_info(sae)
    assert refused.value.response.status_code == 429
    assert api(hub).model_info(sae).id == sae


def test_too_many_requests_make_a_listing_wait(hub: LocalHub, sae: str) -> None:
    hub.faults.add("/tree/", faults.status(429, {"Retry-After": "0"}))
    assert len(list(api(hub).list_repo_tree(sae))) == 2
    assert [e.status for e in hub.log.requests("/tree/")] == [429, 200]


def test_a_clean_cut_is_resumed_with_a_range(hub: LocalHub, cache: Path) -> None:
    """In steps of 10 MiB, the client's chunk: what it has of the next one is fetched again."""
    weights = Hollow(24_000_000)
    hub.add_repo("alice/sae", {"a.npz": weights})
    hub.faults.add("a.npz", faults.cut(12_000_000), where="cdn")
    path = fetch(hub, cache, "a.npz")
    assert hashlib.sha256(path.read_bytes()).hexdigest() == weights.sha256
    assert hub.log.ranges("a.npz") == [None, (10 << 20, None)]


def test_a_reset_ends_the_download(hub: LocalHub, sae: str, cache: Path) -> None:
    hub.faults.add("sae.safetensors", faults.reset(1_000_000), where="cdn")
    with pytest.raises(httpx2.ReadError):
        fetch(hub, cache, "layer_7/sae.safetensors")
    assert len(hub.log.ranges("sae.safetensors")) == 1


def test_an_endless_listing_is_followed_for_as_long_as_one_asks(hub: LocalHub, sae: str) -> None:
    hub.faults.add("/tree/", faults.next_page(), times=None)
    rows = api(hub).list_repo_tree(sae)
    assert len(list(islice(rows, 100))) == 100


def test_many_downloads_at_once_get_their_own_bytes(hub: LocalHub, cache: Path) -> None:
    blobs = [Hollow(700_000, seed) for seed in range(12)]
    hub.add_repo("alice/sae", {f"{n}.npz": blob for n, blob in enumerate(blobs)})
    with ThreadPoolExecutor(12) as pool:
        paths = pool.map(lambda n: fetch(hub, cache, f"{n}.npz"), range(12))
        hashes = [hashlib.sha256(path.read_bytes()).hexdigest() for path in paths]
    assert hashes == [blob.sha256 for blob in blobs]


def test_a_flipped_byte_passes_the_client(hub: LocalHub, sae: str, cache: Path) -> None:
    hub.faults.add("sae.safetensors", faults.corrupt(2_000_000), where="cdn")
    data = fetch(hub, cache, "layer_7/sae.safetensors").read_bytes()
    wrong = [n for n in (1_999_999, 2_000_000, 2_000_001) if data[n] != WEIGHTS.read(n, n + 1)[0]]
    assert wrong == [2_000_000]


def test_an_expired_address_ends_the_download(hub: LocalHub, sae: str, cache: Path) -> None:
    hub.url_lifetime = -1
    with pytest.raises(HfHubHTTPError) as refused:
        fetch(hub, cache, "layer_7/sae.safetensors")
    assert refused.value.response.status_code == 403
