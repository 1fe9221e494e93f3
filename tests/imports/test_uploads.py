"""Files that a browser sends: in pieces or as one form, whose they are, and how long they stay."""

import io
import json
import os
import time
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from pytest_django import Settings

from saes import bringing, doctor, folders, imports, jobs, services, steering, uploaded, uploads
from saes.arrivals import ImportRequest
from saes.errors import BadRequest, NotFound, OutsideRoots
from saes.folders import Place
from saes.formats.files.inflate import MAX_BEGINNING
from saes.imports import Wish
from saes.models import Batch, Job, Sae, Upload
from saes.storage import MARGIN
from tests.fixtures import write_saelens
from tests.imports.test_archive import zipped
from tests.imports.test_files import assert_ready
from tests.jobs.test_kills import gemma_scope_sae
from tests.views.conftest import signed_in
from tests.views.people import everybody

ANNOUNCE = "/import/uploads/announce/"


@pytest.fixture
def people(db: None) -> dict[str, User]:
    return everybody()


@pytest.fixture
def client(people: dict[str, User]) -> Client:
    return signed_in(people["editor"])


@pytest.fixture
def files(tmp_path: Path) -> dict[str, bytes]:
    """Those of one SAE in a folder."""
    folder = write_saelens(tmp_path / "made")
    return {f"mine/layer_5/{path.name}": path.read_bytes() for path in folder.iterdir()}


def announced(client: Client, files: Iterable[tuple[str, int]]) -> Any:
    listed = [{"name": name, "size": size} for name, size in files]
    return client.post(ANNOUNCE, {"files": listed}, content_type="application/json")


def send(client: Client, made: dict[str, Any], number: int, offset: int, body: bytes) -> Any:
    address = f"{made['pieces']}?file={number}&offset={offset}"
    return client.post(address, body, content_type="application/octet-stream")


def sent(client: Client, files: dict[str, bytes]) -> Upload:
    made = announced(client, ((name, len(it)) for name, it in files.items())).json()
    for number, content in enumerate(files.values()):
        assert send(client, made, number, 0, content).status_code == 200
    return Upload.objects.get(id=made["id"])


def folder_of(upload: Upload) -> Path:
    return services.library().upload(upload.id)


def place_of(upload: Upload, path: str = ".") -> Place:
    return Place(folders.upload_root(upload), path)


def import_all(client: Client, upload: Upload) -> list[Sae]:
    answer = client.post(f"/import/uploads/{upload.id}/import/", {"every": "1"})
    assert answer.status_code == 302, answer.content
    for job in Job.objects.active():
        jobs.run(job.id)
    return list(Sae.objects.all())


# --- pieces ---------------------------------------------------------------------------------------


def test_pieces_go_where_the_last_one_ended_and_nowhere_else(client: Client) -> None:
    made = announced(client, [("a/x", 10), ("y", 3), ("empty", 0)]).json()
    upload = Upload.objects.get(id=made["id"])
    assert (made["is_whole"], upload.size, upload.is_whole) == (False, 13, False)
    assert send(client, made, 0, 0, b"01234").json() == {"here": 5, "is_whole": False}
    for offset, body in ((0, b"01234"), (4, b"45"), (6, b"67"), (10, b"")):
        answer = send(client, made, 0, offset, body)
        assert (answer.status_code, answer.json()["here"]) == (409, 5)
    assert send(client, made, 0, 5, b"567890").status_code == 422  # longer than was announced
    assert send(client, made, 1, 0, b"abc").json() == {"here": 3, "is_whole": False}
    assert send(client, made, 0, 5, b"56789").json() == {"here": 10, "is_whole": True}
    assert send(client, made, 0, 10, b"").json() == {"here": 10, "is_whole": True}
    assert (folder_of(upload) / "a/x").read_bytes() == b"0123456789"
    assert (folder_of(upload) / "empty").read_bytes() == b""


def test_all_bytes_that_came_count_though_the_server_ended_before_it_noted_them(
    client: Client,
) -> None:
    made = announced(client, [("x", 3)]).json()
    send(client, made, 0, 0, b"abc")
    Upload.objects.update(is_whole=False)
    assert send(client, made, 0, 0, b"abc").json()["here"] == 3
    assert Upload.objects.get().is_whole
    Upload.objects.update(is_whole=False)
    with services.library().hold(made["id"], lambda: None):
        assert "not complete" in client.get(made["page"]).content.decode()
    assert "not complete" not in client.get(made["page"]).content.decode()
    assert Upload.objects.get().is_whole


def test_a_piece_that_is_too_long_or_of_no_file_is_refused(client: Client) -> None:
    made = announced(client, [("x", 3 * uploads.PIECE)]).json()
    assert send(client, made, 0, 0, bytes(uploads.PIECE + 1)).status_code == 422
    assert send(client, made, 1, 0, b"x").status_code == 404
    for query in ("", "?file=0", "?file=-1&offset=0", "?file=0&offset=1e3", "?file=0&offset=²"):
        answer = client.post(made["pieces"] + query, b"x", content_type="text/plain")
        assert answer.status_code == 422
    assert send(client, made, 0, 0, bytes(uploads.PIECE)).status_code == 200


def test_an_upload_that_is_cut_off_is_not_looked_into(client: Client) -> None:
    made = announced(client, [("x", 10)]).json()
    send(client, made, 0, 0, b"01234")
    page = client.get(made["page"]).content.decode()
    assert "not complete" in page
    assert client.post(f"{made['page']}import/", {"every": "1"}).status_code == 409


@pytest.mark.parametrize(
    "body",
    [
        b"", b"x", b"[]", b"{}", b'{"files": []}', b'{"files": 5}', b'{"files": [5]}',
        b'{"files": [{"name": "x"}]}', b'{"files": [{"name": "x", "size": "5"}]}',
        b'{"files": [{"name": "x", "size": -1}]}', b'{"files": [{"name": "x", "size": true}]}',
        b'{"files": [{"name": 5, "size": 5}]}', b'{"files": [{"name": "x", "size": 1e3}]}',
        b"[" * 100_000,
    ],
)  # fmt: skip
def test_an_announcement_that_says_nothing_makes_no_row(client: Client, body: bytes) -> None:
    answer = client.post(ANNOUNCE, body, content_type="application/json")
    assert answer.status_code == 422
    assert not Upload.objects.exists()


BAD_NAMES = [
    "../x", "a/../../x", "/etc/x", "..\\x", "a\\..\\..\\x", "C:\\x", "D:x", "\\\\host\\share\\x",
    "a//b", "a/./b", ".", "..", "", "x" * 300, "a/" * 300 + "x", "CON", "x.", "x ", "a\0b", "a\nb",
    "a\u2215b", "x\u202egnp.exe", "e\u0301", "%2e%2e%2f\\x", "\ud800",
]  # fmt: skip


@pytest.mark.parametrize("name", BAD_NAMES)
def test_s14_s17_a_name_that_may_be_no_path_refuses_the_whole_upload(
    client: Client, name: str, library: Path
) -> None:
    answer = announced(client, [("good", 0), (name, 0)])
    assert answer.status_code == 422
    assert not Upload.objects.exists()
    assert not (library / "uploads").exists()


@pytest.mark.parametrize("names", [("a", "a"), ("a", "A"), ("a", "a/b"), ("A/b", "a")])
def test_s14_names_that_would_be_one_file_are_refused(client: Client, names: list[str]) -> None:
    assert announced(client, [(name, 1) for name in names]).status_code == 422


@pytest.mark.parametrize("path", ["%2e%2e%2f", "%252e%252e%252f", "..;", "up_..", "file:%2f%2fetc"])
def test_s17_an_id_in_an_address_is_no_path(client: Client, path: str) -> None:
    for address in (f"/import/uploads/{path}/", f"/import/uploads/{path}/discard/"):
        assert client.get(address).status_code in (404, 405)
        assert client.post(address).status_code in (404, 405)


def test_what_the_disk_has_no_room_for_is_refused_before_it_comes(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = services.library().free()
    assert announced(client, [("x", free)]).status_code == 507
    most = free - MARGIN
    assert announced(client, [("x", most - 2**30)]).status_code == 200
    assert announced(client, [("x", 2**31)]).status_code == 507  # the first one counts on it
    assert Upload.objects.count() == 1


def test_there_may_be_only_so_many_files(client: Client) -> None:
    names = [(f"{number}", 0) for number in range(uploads.MOST_FILES + 1)]
    assert announced(client, names).status_code == 422
    made = announced(client, names[:-1]).json()
    assert made["is_whole"]


# --- from the upload to the library ---------------------------------------------------------------


@pytest.mark.parametrize("as_zip", [False, True])
def test_what_is_in_it_is_shown_chosen_and_imported_and_stays(
    client: Client, files: dict[str, bytes], as_zip: bool, tmp_path: Path
) -> None:
    more = {name.replace("layer_5", "layer_6"): it for name, it in files.items()}
    all_of_it = {**files, **more}
    if as_zip:
        all_of_it = {"mine.zip": zipped(tmp_path / "mine.zip", all_of_it).read_bytes()}
    upload = sent(client, all_of_it)
    page = client.get(f"/import/uploads/{upload.id}/").content.decode()
    assert page.count('name="where"') == 2
    chosen = {"where": "mine/layer_6", "model_name": "toy"}
    answer = client.post(f"/import/uploads/{upload.id}/import/", chosen)
    sae = Sae.objects.get()
    assert answer["Location"] == f"/saes/{sae.id}/"
    assert client.post(f"/import/uploads/{upload.id}/discard/").status_code == 409
    uploaded.sweep()
    assert folder_of(upload).is_dir()
    jobs.run(Job.objects.get().id)
    sae.refresh_from_db()
    assert_ready(sae)
    assert (sae.source, sae.placement, sae.where) == ("local", "copy", "mine/layer_6")
    uploaded.sweep()
    assert folder_of(upload).is_dir()  # the other one was not chosen yet
    assert len(import_all(client, upload)) == 2
    uploaded.sweep()
    assert not Upload.objects.exists()
    assert not folder_of(upload).exists()
    assert_ready(sae)
    jobs.run(steering.convert_again(None, sae).id)
    sae.refresh_from_db()
    assert_ready(sae)


def test_an_upload_is_only_ever_copied(client: Client, files: dict[str, bytes]) -> None:
    upload = sent(client, files)
    for placement in (Sae.Placement.LINK, Sae.Placement.IN_PLACE):
        with pytest.raises(BadRequest, match="copied"):
            imports.import_one(None, place_of(upload, "mine/layer_5"), Wish(placement=placement))


def test_a_zip_that_may_not_be_unpacked_is_told_so_and_can_be_discarded(client: Client) -> None:
    upload = sent(client, {"bad.zip": b"no zip at all, but long enough to be one"})
    answer = client.get(f"/import/uploads/{upload.id}/")
    assert answer.status_code == 200
    assert "broken_file" in answer.content.decode()
    assert client.post(f"/import/uploads/{upload.id}/discard/").status_code == 302
    assert not folder_of(upload).exists()


def test_weights_that_lie_deep_in_a_compressed_member_are_looked_at_by_the_job(
    client: Client, tmp_path: Path
) -> None:
    weights = gemma_scope_sae(tmp_path / "params.npz", 64, 40_000).read_bytes()
    assert len(weights) > MAX_BEGINNING
    name = "models--google--gemma-scope-2b-pt-res/layer_3/width_40k/average_l0_50/params.npz"
    packed = zipped(tmp_path / "mine.zip", {name: weights}).read_bytes()
    assert len(packed) > uploads.PIECE
    pieces = [packed[at : at + uploads.PIECE] for at in range(0, len(packed), uploads.PIECE)]
    made = announced(client, [("mine.zip", len(packed))]).json()
    for number, piece in enumerate(pieces):
        assert send(client, made, 0, number * uploads.PIECE, piece).status_code == 200
    (sae,) = import_all(client, Upload.objects.get())
    sae.refresh_from_db()
    assert_ready(sae)


def test_an_sae_whose_copy_was_lost_says_that_its_upload_is_gone(
    client: Client, files: dict[str, bytes]
) -> None:
    (sae,) = import_all(client, sent(client, files))
    uploaded.sweep()
    for path in services.library().source(sae.id).rglob("*.json"):
        path.unlink()
    jobs.run(steering.convert_again(None, sae).id)
    sae.refresh_from_db()
    jobs.run(steering.retry(None, sae).id)
    sae.refresh_from_db()
    assert (sae.error_code, sae.error_message) == (
        "outside_roots", "The upload that this was to come from is gone.",
    )  # fmt: skip


# --- whose they are -------------------------------------------------------------------------------


def test_an_upload_is_out_of_reach_for_others_but_admins(
    client: Client, people: dict[str, User], files: dict[str, bytes]
) -> None:
    upload = sent(client, files)
    address, place = f"/import/uploads/{upload.id}/", place_of(upload, "mine/layer_5")
    for name in ("other", "viewer", "newcomer"):
        him = signed_in(people[name])
        assert him.get(address).status_code == 404
        assert him.post(address + "piece/?file=0&offset=0").status_code in (403, 404)
        assert him.post(address + "import/", {"every": "1"}).status_code in (403, 404)
        assert him.post(address + "discard/").status_code in (403, 404)
        assert str(upload.id) not in him.get("/import/uploads/").content.decode()
    with pytest.raises(NotFound):
        imports.look(people["other"], place)
    with pytest.raises(NotFound):
        imports.import_one(people["other"], place, Wish())
    with pytest.raises(NotFound):
        imports.import_chosen(people["other"], place, [place.path], Wish())
    assert imports.look(people["admin"], place).offers
    assert signed_in(people["admin"]).get(address).status_code == 200
    assert not Sae.objects.exists()


def test_nobody_reaches_an_upload_by_a_path(client: Client, files: dict[str, bytes]) -> None:
    upload = sent(client, files)
    for path in (folders.upload_root(upload), str(folder_of(upload)), f"uploads/{upload.id}"):
        with pytest.raises(OutsideRoots):
            folders.place_of(path)


@pytest.mark.parametrize("name", ["viewer", "newcomer"])
def test_viewers_send_nothing(people: dict[str, User], name: str, library: Path) -> None:
    client = signed_in(people[name])
    assert announced(client, [("x", 1)]).status_code == 403
    file = SimpleUploadedFile("x", b"x")
    address = f"/import/uploads/send/{uploads.ticket(people[name])}/"
    assert client.post(address, {"files": file}).status_code == 403
    assert "<form id=" not in client.get("/import/uploads/").content.decode()
    assert not Upload.objects.exists()
    assert not [path for path in library.rglob("*") if path.is_file()]


def test_a_piece_without_the_token_of_the_page_is_refused(
    people: dict[str, User], client: Client
) -> None:
    made = announced(client, [("x", 1)]).json()
    strict = signed_in(people["editor"], enforce_csrf_checks=True)
    assert send(strict, made, 0, 0, b"x").status_code == 403
    assert announced(strict, [("x", 1)]).status_code == 403
    assert Client().post(made["pieces"]).status_code == 302


# --- the form without JavaScript ------------------------------------------------------------------


def test_a_form_with_several_files_is_an_upload(
    client: Client, files: dict[str, bytes], library: Path
) -> None:
    page = client.get("/import/uploads/").content.decode()
    address = page.partition('action="/import/uploads/send/')[2].partition('"')[0]
    several = [SimpleUploadedFile(name.rpartition("/")[2], it) for name, it in files.items()]
    answer = client.post(f"/import/uploads/send/{address}", {"files": several}, follow=True)
    upload = Upload.objects.get()
    assert (upload.is_whole, len(upload.files)) == (True, 2)
    assert answer.redirect_chain[-1][0] == f"/import/uploads/{upload.id}/"
    assert not list((library / "uploads" / uploads.COMING).iterdir())
    (sae,) = import_all(client, upload)
    sae.refresh_from_db()
    assert_ready(sae)


def test_files_of_other_forms_and_with_tickets_of_others_are_not_kept(
    client: Client, people: dict[str, User], library: Path
) -> None:
    others = f"/import/uploads/send/{uploads.ticket(people['other'])}/"
    for address in (others, "/import/uploads/send/forged/", "/hub/", "/import/uploads/announce/"):
        assert client.post(address, {"files": SimpleUploadedFile("x", b"x")}).status_code >= 400
    assert not [path for path in library.rglob("*") if path.is_file()]


def test_a_form_that_is_refused_leaves_nothing(
    client: Client, people: dict[str, User], library: Path
) -> None:
    address = f"/import/uploads/send/{uploads.ticket(people['editor'])}/"
    twice = [SimpleUploadedFile("x", b"1"), SimpleUploadedFile("x", b"2")]
    for files in ([], twice, [SimpleUploadedFile("CON", b"x")], [SimpleUploadedFile("x.", b"x")]):
        assert client.post(address, {"files": files}).status_code == 422
    assert not Upload.objects.exists()
    assert not [path for path in (library / "uploads").rglob("*") if path.is_file()]


# --- how long they stay ---------------------------------------------------------------------------


def test_what_nobody_imports_goes_after_a_day(client: Client, files: dict[str, bytes]) -> None:
    upload = sent(client, files)
    half = announced(client, [("x", 5)]).json()["id"]
    uploaded.sweep()
    assert Upload.objects.count() == 2
    Upload.objects.update(changed_at=timezone.now() - timedelta(days=1, minutes=1))
    imports.import_one(None, place_of(upload, "mine/layer_5"), Wish())
    uploaded.sweep()
    assert Upload.objects.get() == upload  # its job is still to come
    assert not services.library().upload(half).exists()


def test_what_was_imported_in_part_goes_after_a_day(
    client: Client, files: dict[str, bytes]
) -> None:
    more = {name.replace("layer_5", "layer_6"): it for name, it in files.items()}
    upload = sent(client, {**files, **more})
    imports.import_one(None, place_of(upload, "mine/layer_5"), Wish())
    jobs.run(Job.objects.get().id)
    uploaded.sweep()
    assert folder_of(upload).is_dir()
    Upload.objects.update(changed_at=timezone.now() - timedelta(days=1, minutes=1))
    uploaded.sweep()
    assert not Upload.objects.exists()
    assert not folder_of(upload).exists()


def test_no_import_begins_from_an_upload_that_was_discarded_since_it_was_looked_at(
    client: Client, files: dict[str, bytes]
) -> None:
    upload = sent(client, files)
    wanted = ImportRequest(place_of(upload, "mine/layer_5"), "as it was looked at")
    uploaded.discard(None, upload)
    uploaded.discard(None, upload)  # by two at once
    with pytest.raises(OutsideRoots, match="gone"):
        jobs.start_arrival(None, wanted)
    with pytest.raises(OutsideRoots, match="gone"):
        bringing.bring_in(None, [wanted], Batch(name="many"))
    assert not Sae.objects.exists()


def test_what_has_no_row_goes_too_and_the_doctor_knows_it(client: Client, library: Path) -> None:
    upload = sent(client, {"x": b"12345"})
    Upload.objects.all().delete()
    old, new = (uploads.coming() / name for name in ("old", "new"))
    for path in (old, new):
        path.write_bytes(b"123")
    os.utime(old, (time.time() - 90_000, time.time() - 90_000))
    (library / "uploads" / "somebody's").write_bytes(b"x")
    found = {it.path: (str(it.kind), it.size) for it in doctor.examine().findings}
    assert found == {
        f"uploads/{upload.id}": ("upload", 5), "uploads/.coming/old": ("upload", 3),
        "uploads/somebody's": ("foreign", 0),
    }  # fmt: skip
    list(doctor.repair(None, doctor.examine().findings))
    assert [it.path for it in doctor.examine().findings] == ["uploads/somebody's"]
    assert new.exists()


def test_the_storage_page_counts_them(client: Client) -> None:
    sent(client, {"x": bytes(5_000_000)})
    assert "5.0 MB" in client.get("/storage/").content.decode()
    assert client.get("/api/v1/storage").json()["uploads_bytes"] == 5_000_000


def test_a_disk_that_is_away_takes_no_upload_and_forgets_none(
    client: Client, settings: Settings, tmp_path: Path
) -> None:
    upload = sent(client, {"x": b"1"})
    Upload.objects.update(changed_at=timezone.now() - timedelta(days=2))
    settings.DATA_DIR = tmp_path / "away"
    assert announced(client, [("x", 1)]).status_code == 409
    uploaded.sweep()
    assert Upload.objects.get() == upload
    assert not settings.DATA_DIR.exists()


def test_a_long_body_is_read_in_small_parts(client: Client) -> None:
    """However it is sent: never more than a chunk is asked for at once."""
    asked = []

    class Counting(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            asked.append(size)
            return super().read(size)

    made = announced(client, [("x", 5 * 2**20)]).json()
    upload = Upload.objects.get(id=made["id"])
    uploads.append(upload, 0, 0, 5 * 2**20, Counting(bytes(5 * 2**20)))
    assert max(it or 0 for it in asked) <= uploads.CHUNK
    assert json.loads(json.dumps(upload.files)) == [{"name": "x", "size": 5 * 2**20}]
