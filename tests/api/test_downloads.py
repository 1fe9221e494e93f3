"""Downloads over the API, whole and in parts; and names that are none."""

import asyncio
import io
import os
import time
import zipfile
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import User
from django.test import AsyncClient

from saes import services
from saes.models import Sae
from tests.api.conftest import BASE, ApiClient
from tests.api.downloads import CONTENT, download, fetch, sae_with_files

HOSTILE = [
    "../../x", "/etc/passwd", "%2e%2e%2fx", "..%2f..%2fx", "%252e%252e%252f", "..;/x", "..\\..\\x",
    "source/cfg.json", "../native/metadata.json", "./cfg.json", "cfg.json\0", "cfg.json/", "a\nb",
    "file:///etc/passwd", "x" * 501,
]  # fmt: skip


@pytest.fixture
def sae(owner: User) -> Sae:
    return sae_with_files(owner)


def test_one_file_comes_byte_by_byte_with_its_hash_as_tag(sae: Sae, api: ApiClient) -> None:
    answer = fetch(api, download(sae, "file=layer_3/weights.bin"))
    assert (answer.status, answer.body) == (200, bytes(range(256)) * 4000)
    row = sae.files.get(path="source/layer_3/weights.bin")
    assert answer.headers["ETag"] == f'"{row.sha256}"'
    assert answer.headers["Content-Length"] == str(row.size)
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["Content-Disposition"] == 'attachment; filename="weights.bin"'
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert answer.headers["Accept-Ranges"] == "bytes"


def test_a_name_beyond_ascii_is_told_twice(sae: Sae, api: ApiClient) -> None:
    answer = fetch(api, download(sae, "file=na%C3%AFve.json"))
    assert answer.body == b"{}"
    known_as = answer.headers["Content-Disposition"]
    assert known_as == "attachment; filename=\"na_ve.json\"; filename*=UTF-8''na%C3%AFve.json"


def test_the_zip_holds_every_file_in_one_folder_of_a_safe_name(sae: Sae, api: ApiClient) -> None:
    answer = fetch(api, download(sae))
    assert answer.headers["Content-Type"] == "application/zip"
    assert int(answer.headers["Content-Length"]) == len(answer.body)
    top = f"r-sidu-of-layer-3-x-{sae.id}-original"
    assert answer.headers["Content-Disposition"] == f'attachment; filename="{top}.zip"'
    with zipfile.ZipFile(io.BytesIO(answer.body)) as made:
        assert made.testzip() is None
        assert made.namelist() == [f"{top}/{name}" for name in CONTENT]
        for name, body in CONTENT.items():
            assert made.read(f"{top}/{name}") == body
        assert {it.date_time for it in made.infolist()} == {(1980, 1, 1, 0, 0, 0)}
        assert {it.compress_type for it in made.infolist()} == {zipfile.ZIP_STORED}


def test_the_same_zip_later_is_the_same_bytes(sae: Sae, api: ApiClient) -> None:
    first = fetch(api, download(sae))
    time.sleep(2.1)  # a zip counts in steps of two seconds
    again = fetch(api, download(sae))
    assert (first.body, first.headers["ETag"]) == (again.body, again.headers["ETag"])


def test_a_new_name_makes_another_zip(sae: Sae, api: ApiClient) -> None:
    before = fetch(api, download(sae)).headers["ETag"]
    api.patch(f"/saes/{sae.id}", {"name": "another"})
    assert fetch(api, download(sae)).headers["ETag"] != before


@pytest.mark.parametrize("query", ["", "file=layer_3/weights.bin"])
def test_a_download_that_was_cut_anywhere_goes_on_to_the_same_bytes(
    sae: Sae, api: ApiClient, query: str
) -> None:
    whole = fetch(api, download(sae, query))
    size, etag = len(whole.body), whole.headers["ETag"]
    for cut in (1, 29, 300, size // 2, size - 1):
        rest = fetch(api, download(sae, query), range=f"bytes={cut}-", **{"if-range": etag})
        assert (rest.status, whole.body[:cut] + rest.body) == (206, whole.body)
        assert rest.headers["Content-Range"] == f"bytes {cut}-{size - 1}/{size}"
        assert rest.headers["Content-Length"] == str(size - cut)


@pytest.mark.parametrize(
    ("asked", "first", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=10-19", 10, 20),
        ("bytes=-7", 1_023_993, 1_024_000),
        ("bytes=-99999999", 0, 1_024_000),
        ("bytes=1023999-99999999", 1_023_999, 1_024_000),
    ],
)
def test_single_ranges(sae: Sae, api: ApiClient, asked: str, first: int, stop: int) -> None:
    answer = fetch(api, download(sae, "file=layer_3/weights.bin"), range=asked)
    assert (answer.status, answer.body) == (206, CONTENT["layer_3/weights.bin"][first:stop])
    assert answer.headers["Content-Range"] == f"bytes {first}-{stop - 1}/1024000"


@pytest.mark.parametrize("asked", ["bytes=1024000-", "bytes=1024000-1024001", "bytes=-0"])
def test_a_range_behind_the_end(sae: Sae, api: ApiClient, asked: str) -> None:
    answer = fetch(api, download(sae, "file=layer_3/weights.bin"), range=asked)
    assert (answer.status, answer.code) == (416, "bad_range")
    assert answer.headers["Content-Range"] == "bytes */1024000"


@pytest.mark.parametrize(
    "asked", ["", "bytes=", "bytes=-", "bytes=5-2", "bytes=0-1,5-6", "bytes=a-b", "lines=1-2",
              "bytes=1-2x", "bytes=٣-٤", "bytes=" + "9" * 40 + "-"],
)  # fmt: skip
def test_what_is_not_one_plain_range_is_ignored(sae: Sae, api: ApiClient, asked: str) -> None:
    answer = fetch(api, download(sae, "file=cfg.json"), range=asked.encode().decode("latin-1"))
    assert (answer.status, answer.body) == (200, CONTENT["cfg.json"])


@pytest.mark.parametrize("tag", ['"another"', 'W/"{etag}"', "Wed, 21 Oct 2015 07:28:00 GMT"])
def test_a_part_of_what_has_changed_is_answered_by_all_of_it(
    sae: Sae, api: ApiClient, tag: str
) -> None:
    row = sae.files.get(path="source/cfg.json")
    known = {"range": "bytes=5-", "if-range": tag.format(etag=row.sha256)}
    answer = fetch(api, download(sae, "file=cfg.json"), **known)
    assert (answer.status, answer.body) == (200, CONTENT["cfg.json"])


@pytest.mark.parametrize("query", ["", "file=layer_3/weights.bin"])
def test_head_tells_what_get_would_send(sae: Sae, api: ApiClient, query: str) -> None:
    whole = fetch(api, download(sae, query))
    head = fetch(api, download(sae, query), "head", range="bytes=5-")
    assert (head.status, head.body) == (200, b"")
    for name in ("Content-Length", "ETag", "Content-Type", "Content-Disposition", "Accept-Ranges"):
        assert head.headers[name] == whole.headers[name]


# --- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE)
def test_a_file_that_is_not_recorded_is_not_looked_for(
    sae: Sae, api: ApiClient, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_file(*args: Any, **more: Any) -> int:
        raise AssertionError(f"opened {args}")

    monkeypatch.setattr("saes.contents.os.open", no_file)
    answer = fetch(api, download(sae, f"file={quote(name)}"))
    assert (answer.status, answer.code) in {(404, "not_found"), (400, "bad_request")}


@pytest.mark.parametrize("format", ["nonsense", "../native", "", "exports", "original%00"])
def test_a_format_that_is_none(sae: Sae, api: ApiClient, format: str) -> None:
    answer = fetch(api, download(sae, f"format={format}"))
    assert (answer.status, answer.code) == (400, "bad_request")


@pytest.mark.parametrize("sae_id", ["..", "%2e%2e%2f", "sae_000000000000", "%252e%252e", "x;y"])
def test_an_sae_that_is_none(api: ApiClient, sae_id: str) -> None:
    for path in (f"/saes/{sae_id}/files", f"/saes/{sae_id}/download"):
        assert fetch(api, path).status == 404


@pytest.mark.parametrize("how", ["gone", "shorter", "longer", "link", "folder link", "pipe"])
@pytest.mark.parametrize("query", ["", "file=layer_3/weights.bin"])
def test_a_file_that_is_not_as_recorded_is_refused_before_a_byte_of_it_is_sent(
    sae: Sae, api: ApiClient, how: str, query: str
) -> None:
    path = services.library().source(sae.id) / "layer_3" / "weights.bin"
    body, other = path.read_bytes(), path.with_name("other")
    if how == "shorter":
        path.write_bytes(body[:-1])
    elif how == "longer":
        path.write_bytes(body + b"x")
    elif how == "folder link":
        path.parent.rename(path.parent.with_name("elsewhere"))
        path.parent.symlink_to("elsewhere")
    else:
        path.unlink()
    if how == "link":
        other.write_bytes(body)
        path.symlink_to(other)
    elif how == "pipe":
        os.mkfifo(path)
    answer = fetch(api, download(sae, query))
    assert (answer.status, answer.code) == (409, "data_missing")


def test_no_file_stays_open(sae: Sae, api: ApiClient) -> None:
    def count() -> int:
        return len(list(Path("/proc/self/fd").iterdir()))

    fetch(api, download(sae))
    before = count()
    for known in ({}, {"range": "bytes=5-9"}, {"range": "bytes=99999999-"}):
        fetch(api, download(sae), **known)
        fetch(api, download(sae, "file=cfg.json"), "head", **known)
    (services.library().source(sae.id) / "naïve.json").unlink()
    assert fetch(api, download(sae)).code == "data_missing"
    assert count() == before


def test_what_replaces_a_file_during_a_download_does_not_reach_it(sae: Sae, api: ApiClient) -> None:
    path = services.library().source(sae.id) / "layer_3" / "weights.bin"

    async def ask() -> bytes:
        known = {"authorization": f"Bearer {api.token}"}
        answer: Any = await AsyncClient().get(BASE + download(sae), headers=known)
        await asyncio.to_thread(path.with_name("new").write_bytes, bytes(1_024_000))
        path.with_name("new").replace(path)
        body = b"".join([piece async for piece in answer.streaming_content])
        answer.close()
        return body

    with zipfile.ZipFile(io.BytesIO(async_to_sync(ask)())) as made:
        assert made.read(made.namelist()[1]) == CONTENT["layer_3/weights.bin"]


def test_a_session_downloads_too(sae: Sae, owner: User) -> None:
    async def ask() -> Any:
        client = AsyncClient()
        await client.aforce_login(owner, backend="django.contrib.auth.backends.ModelBackend")
        return await client.get(BASE + download(sae))

    answer = async_to_sync(ask)()
    answer.close()
    assert answer.status_code == 200


def test_nobody_else_does(sae: Sae) -> None:
    async def ask() -> Any:
        return await AsyncClient().get(BASE + download(sae))

    assert async_to_sync(ask)().status_code == 401


def test_everything_that_is_answered_is_documented(api: ApiClient) -> None:
    answers = api.get("/openapi.json")["paths"]["/api/v1/saes/{sae_id}/download"]["get"][
        "responses"
    ]
    for status in ("200", "206"):
        assert set(answers[status]["content"]) == {"application/octet-stream", "application/zip"}
    assert "Content-Range" in answers["416"]["headers"]
    assert "application/json" in answers["416"]["content"]
