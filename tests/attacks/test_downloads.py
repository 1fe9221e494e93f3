"""Rows S12–S16, S24–S26, S45 on the way of a download: a Hub that lies harms nothing on disk."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.conf import settings
from pytest_django import Settings

from saes import bringing, jobs, moves, parts, patience, queueing, services, steering, vault
from saes.arrivals import DownloadRequest
from saes.hub import client
from saes.models import Job, Sae
from tests.hub import Forged, LocalHub, faults
from tests.hub.answers import Answer, Request, as_json
from tests.jobs.made import WEIGHTS, brought_in, is_ready, made_sae, parts_of, started, wanted
from tests.jobs.test_moods import is_body

pytestmark = pytest.mark.django_db(transaction=True)
REPO, TOKEN = "evil/sae", "hf_alice_1111"
SIZE = len(made_sae()[WEIGHTS])


@pytest.fixture
def hub(settings: Settings, tmp_path: Path) -> Iterator[LocalHub]:
    settings.DATA_DIR = tmp_path / "data"
    settings.DATA_DIR.mkdir()
    with LocalHub() as local:
        settings.HF_ENDPOINT = local.url
        local.add_token(TOKEN, "alice")
        local.add_repo(REPO, made_sae())
        yield local


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)
    monkeypatch.setattr(patience, "LONGEST_PAUSE", 0.01)


def refused(sae: Sae, *codes: str) -> bool:
    """Said in words; no crash, no weights, and nothing outside of its folder."""
    job = sae.newest_job
    assert job is not None
    assert (job.state, sae.status) == (Job.State.FAILED, Sae.Status.ERROR), job.traceback
    assert sae.error_code in codes, sae.error_message
    assert sae.error_message
    assert sae.error_solution
    home = Path(settings.DATA_DIR) / "saes" / sae.id
    files = {it.name for it in home.rglob("*") if it.is_file() and it.parent.name != "parts"}
    assert files <= {"cfg.json"}
    made = {it.name for it in Path(settings.DATA_DIR).iterdir()}
    assert made <= {"saes", "run", "vault.key"}
    return True


# --- S12, S13: sizes ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["a loop", "ever new files", "another host"])
def test_s12_a_listing_that_does_not_end_ends_the_job(
    hub: LocalHub, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client, "LISTING_SECONDS", 1)
    with LocalHub() as other:
        elsewhere = f"{other.url}/api/models/evil/sae/tree/main" if kind == "another host" else None
        action = faults.next_page(elsewhere)
        if kind == "ever new files":
            action = faults.Action(ever_new)
        hub.faults.add("/tree/", action, times=None)
        assert refused(brought_in(REPO), "hub_misbehaved")
        assert other.log.requests() == []


def ever_new(request: Request, answer: Answer) -> Answer:
    rows = [{"type": "file", "path": f"{request.number}/{n}", "size": 1, "oid": "a" * 40}
            for n in range(1000)]  # fmt: skip
    made = as_json(rows)
    made.headers["Link"] = f'<{request.base}{request.target}>; rel="next"'
    return made


BODIES: dict[str, faults.Action] = {
    "a gzip bomb": faults.gzip_bomb(10**9),
    "a gzip bomb of a small length": faults.gzip_bomb(10**8, 1000),
    "a body without an end": faults.endless(),
    "the whole file": faults.ignore_range(),
    "another range": faults.wrong_content_range("bytes 7-99/100"),
    "a login page": faults.html_login_page(),
    "a range without an end": faults.headers({"Content-Range": "bytes */*"}),
    "no range": faults.headers({"Content-Range": None}),
}


@pytest.mark.parametrize("body", BODIES)
def test_s13_a_body_that_lies_about_itself_is_never_taken(hub: LocalHub, body: str) -> None:
    hub.faults.add(is_body, BODIES[body], times=None)
    sae = brought_in(REPO)
    assert refused(sae, "hub_misbehaved", "hub_unreachable")
    assert max(parts_of(sae.id).values()) <= SIZE
    assert hub.log.bytes_sent(WEIGHTS, "cdn") < 20 * SIZE


@pytest.mark.parametrize("declared", [700_000, 10**12])
def test_s13_a_length_that_lies_costs_requests_and_no_byte(hub: LocalHub, declared: int) -> None:
    hub.faults.add(is_body, faults.wrong_length(declared), times=None)
    sae = brought_in(REPO)
    assert is_ready(sae)
    assert (services.library().source(sae.id) / WEIGHTS).read_bytes() == made_sae()[WEIGHTS]


# --- S14, S15, S16: names and hashes --------------------------------------------------------------

NAMES = [
    "../x", "a/../../x", "/etc/x", "..\\x", "a\\..\\..\\x", "C:\\x", "D:x", "\\\\host\\share\\x",
    "a//b", "a/./b", "n" * 300, "CON", "aux.x", "dot.", "space ", " space", "nul\0", "new\nline",
    "a\u2215b", "a\u202eb", "cafe\u0301", "~", "$HOME", "a|b", "a?b", "a%2f..%2fb", "-rf",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_s14_a_folder_with_a_name_that_no_folder_may_have_is_left_alone(
    hub: LocalHub, tmp_path: Path, name: str
) -> None:
    hub.add_repo(REPO, {f"{name}/{base}": body for base, body in made_sae().items()})
    before = set(tmp_path.rglob("*"))
    sae = brought_in(REPO, where=name)
    if sae.status == Sae.Status.READY:  # a harmless name, however strange
        assert set(tmp_path.rglob("*")) - before
        inside = Path(settings.DATA_DIR) / "saes" / sae.id
    else:
        assert refused(sae, "path_not_found", "unsafe_name")
        inside = Path(settings.DATA_DIR)
    written = {it for it in set(tmp_path.rglob("*")) - before if it.is_file()}
    written -= {services.library().mark}
    run = Path(settings.DATA_DIR) / "run"
    assert all(it.is_relative_to(inside) or it.is_relative_to(run) for it in written)


@pytest.mark.parametrize(
    "value", ['attachment; filename="..\\evil"', "attachment; filename*=UTF-8''..%2f..%2fx",
              "attachment; filename=/etc/passwd"],
)  # fmt: skip
def test_s15_what_a_header_calls_the_file_is_not_looked_at(hub: LocalHub, value: str) -> None:
    hub.faults.add(WEIGHTS, faults.headers({"Content-Disposition": value}), times=None)
    sae = brought_in(REPO)
    assert is_ready(sae)
    source = services.library().source(sae.id)
    assert sorted(it.name for it in source.rglob("*")) == sorted(made_sae())


OIDS = [
    "../../../x", "sha256:" + "a" * 57, "sha256-" + "a" * 57, "a" * 63, "a" * 65, "A" * 64,
    "g" * 64, "", "*" * 64,
]  # fmt: skip


@pytest.mark.parametrize("oid", OIDS, ids=ascii)
def test_s16_a_hash_that_is_none_is_no_name_of_a_file(hub: LocalHub, oid: str) -> None:
    files: dict[str, Any] = made_sae()
    hub.add_repo(REPO, files | {WEIGHTS: Forged(files[WEIGHTS], sha256=oid or " ")})
    assert refused(brought_in(REPO), "hub_misbehaved")
    assert hub.log.bytes_sent(WEIGHTS, "cdn") < 150_000


# --- S24, S25: where the token goes ---------------------------------------------------------------


def with_token(repo: str = REPO) -> Sae:
    _, job = bringing.download(None, wanted(repo), TOKEN)
    assert job is not None
    jobs.run(job.id)
    return services.sae_of(job.sae_id)


def test_s24_a_download_sends_the_token_to_the_hub_alone(hub: LocalHub) -> None:
    hub.add_repo("alice/private", made_sae(), private=True, readers=["alice"])
    assert is_ready(with_token("alice/private"))
    assert all(it.authorized for it in hub.log.requests("alice/private", "hub"))
    assert hub.log.requests(origin="cdn")
    assert not any(it.authorized for it in hub.log.requests(origin="cdn"))


@pytest.mark.parametrize("code", [301, 302, 303, 307, 308])
def test_s24_files_on_another_host_are_fetched_without_the_token(hub: LocalHub, code: int) -> None:
    with LocalHub() as other:
        other.add_repo(REPO, made_sae())
        hub.faults.add(
            lambda it: it.method == "HEAD" and WEIGHTS in it.file,
            faults.redirect(f"{other.url}{{target}}", code), times=None,
        )  # fmt: skip
        sae = with_token()
        assert refused(sae, "hub_misbehaved", "hub_unreachable")
        assert not any(it.authorized for it in other.log.requests())


def test_s25_a_realm_on_another_host_is_not_asked(hub: LocalHub) -> None:
    realm = {"WWW-Authenticate": f'Bearer realm="{hub.cdn_url}/token"'}
    job = started(REPO)
    token = vault.keep_for_one_job(None, TOKEN)
    Job.objects.filter(id=job.id).update(token=token)
    hub.faults.add(lambda it: it.origin == "hub", faults.status(401, realm), times=None)
    jobs.run(job.id)
    assert refused(services.sae_of(job.sae_id), "bad_token")
    assert hub.log.requests(origin="cdn") == []


# --- S26: mirrors ---------------------------------------------------------------------------------


def of(origin: str, text: str) -> Callable[[Request], bool]:
    return lambda it: it.origin == origin and it.about(text)


MIRRORS: dict[str, tuple[Callable[[Request], bool], faults.Action]] = {
    "another commit": (of("hub", WEIGHTS), faults.headers({"X-Repo-Commit": "b" * 40})),
    "no commit": (of("hub", WEIGHTS), faults.headers({"X-Repo-Commit": None})),
    "another ETag": (of("hub", WEIGHTS), faults.changed_etag("c" * 64)),
    "an ETag that is a path": (of("hub", WEIGHTS), faults.changed_etag("../../x")),
    "a login page for the repository": (of("hub", "/api/models/"), faults.html_login_page()),
    "a login page for the listing": (of("hub", "/tree/"), faults.html_login_page()),
    "a login page for HEAD": (of("hub", WEIGHTS), faults.html_login_page()),
    "no JSON": (of("hub", "/tree/"), faults.status(200, text="[")),
    "JSON of another kind": (of("hub", "/tree/"), faults.status(200, text='{"a": 1}')),
    "rows of nothing": (of("hub", "/tree/"), faults.status(200, text="[1, null]")),
    "a name that is none": (of("hub", "/api/models/"), faults.status(200, text='{"sha": 7}')),
}


@pytest.mark.parametrize("mirror", MIRRORS)
def test_s26_a_mirror_that_answers_like_no_hub_gives_nothing(hub: LocalHub, mirror: str) -> None:
    test, action = MIRRORS[mirror]
    hub.faults.add(test, action, times=None)
    assert refused(brought_in(REPO), "hub_misbehaved")


def test_s26_a_mirror_with_other_bytes_is_found_out_and_leaves_no_part(hub: LocalHub) -> None:
    files: dict[str, Any] = made_sae()
    other = made_sae(1)[WEIGHTS]
    true = hub.repo(REPO).head.files[WEIGHTS].sha256
    hub.add_repo(REPO, files | {WEIGHTS: Forged(other, sha256=true)})
    sae = brought_in(REPO)
    assert refused(sae, "hash_mismatch")
    bodies = [it for it in hub.log.requests(WEIGHTS, "cdn") if it.sent > 150_000]
    assert len(bodies) == 2, "once, and once again"
    assert parts_of(sae.id) == {}


def test_s26_a_mirror_that_changes_the_file_during_a_resume_ends_it(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parts, "PIECE", 400_000)
    job = started(REPO)
    hub.faults.add(is_body, faults.cut(100_000), times=None)

    def pause(request: Request) -> bool:
        if any(size > 90_000 for size in parts_of(job.sae_id).values()):
            moves.pause([job.id])
        return False

    hub.faults.add(pause, faults.status(500), where="cdn")
    jobs.run(job.id)
    assert parts_of(job.sae_id)
    hub.faults.clear()
    true = hub.repo(REPO).head.files[WEIGHTS].sha256
    hub.keep(f"/repos/models/{REPO.replace('/', '%2F')}/{true}", Forged(made_sae(1)[WEIGHTS]))
    commit = hub.repo(REPO).head
    forged = Forged(made_sae(1)[WEIGHTS], sha256=true)
    hub.repo(REPO).commits[commit.sha] = type(commit)(
        commit.sha, commit.title, commit.date, {**commit.files, WEIGHTS: forged}
    )
    moves.resume([job.id])
    jobs.run(job.id)
    assert refused(services.sae_of(job.sae_id), "hash_mismatch")


# --- S45: what moves between looking and fetching -------------------------------------------------


def test_s45_a_branch_that_moved_since_the_preview_gives_what_was_previewed(hub: LocalHub) -> None:
    seen = hub.repo(REPO).sha
    hub.commit(REPO, {WEIGHTS: made_sae(9)[WEIGHTS]})
    _, job = bringing.download(None, wanted(REPO, seen), previewed=True)
    assert job is not None
    jobs.run(job.id)
    sae = services.sae_of(job.sae_id)
    assert is_ready(sae)
    assert sae.hf_commit == seen
    assert (services.library().source(sae.id) / WEIGHTS).read_bytes() == made_sae()[WEIGHTS]


def test_s45_a_branch_that_moves_between_two_attempts_changes_nothing(hub: LocalHub) -> None:
    job = started(REPO, "main")
    seen = hub.repo(REPO).sha
    hub.faults.add(is_body, faults.status(404), times=None)
    jobs.run(job.id)
    hub.faults.clear()
    hub.commit(REPO, {WEIGHTS: made_sae(9)[WEIGHTS], "cfg.json": made_sae(9)["cfg.json"]})
    sae = services.sae_of(job.sae_id)
    jobs.run(steering.retry(None, sae).id)
    assert is_ready(sae)
    assert sae.hf_commit == seen
    assert (services.library().source(sae.id) / WEIGHTS).read_bytes() == made_sae()[WEIGHTS]


def test_s45_a_commit_that_is_gone_is_told_and_no_other_is_taken(hub: LocalHub) -> None:
    seen = hub.repo(REPO).sha
    hub.commit(REPO, {WEIGHTS: made_sae(9)[WEIGHTS]})
    del hub.repo(REPO).commits[seen]
    asked = DownloadRequest(wanted(REPO, seen).ref, ".")
    job = jobs.start_arrival(None, asked, None)
    jobs.run(job.id)
    assert refused(services.sae_of(job.sae_id), "revision_not_found")
