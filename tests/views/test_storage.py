"""The page Storage: looking, repairing, verifying, making room."""

import os
from pathlib import Path

import pytest
from django.test import Client

from saes import roles, services
from saes.models import Batch, Job, Sae
from saes.storage import size_of
from tests.views.conftest import put_file, signed_in
from tests.views.people import everything_kept, somebody

pytestmark = pytest.mark.django_db
NOBODY = "sae_000000000000"


@pytest.fixture
def orphan(sae: Sae) -> Path:
    folder = services.library().home(NOBODY) / "native"
    folder.mkdir(parents=True)
    (folder / "weights").write_bytes(b"x" * 5000)
    return folder.parent


def text_of(client: Client, path: str = "/storage/") -> str:
    return client.get(path).content.decode()


def test_looking_shows_what_was_found_and_changes_nothing(client: Client, orphan: Path) -> None:
    assert NOBODY not in text_of(client)  # no page looks by itself
    before = everything_kept()
    text = text_of(client, "/storage/look/")
    assert f"saes/{NOBODY}" in text and "5 kB" in text and "Repair …" in text
    assert "Largest SAEs" in text  # without scripts it is the whole page
    part = client.get("/storage/look/", headers={"HX-Request": "true"}).content.decode()
    assert NOBODY in part and "Largest SAEs" not in part
    assert everything_kept() == before


def test_a_library_in_order_is_told_so(client: Client, sae: Sae) -> None:
    text = text_of(client, "/storage/look/")
    assert "All is well." in text and "1 SAE looked at" in text and "Repair" not in text


def test_a_repair_mends_what_was_agreed_to_and_nothing_else(client: Client, orphan: Path) -> None:
    assert "nothing left to mend" in client.post("/storage/repair/").content.decode()
    client.post("/storage/repair/", {"kind": "stray"})
    assert orphan.exists()
    text = client.post("/storage/repair/", {"kind": "orphan"}).content.decode()
    assert "Moved to" in text and not orphan.exists()
    assert [it.name for it in services.library().kept()] == [NOBODY]
    assert "All is well." in text_of(client, "/storage/look/")


def test_deleting_orphans_is_offered_to_admins_only(orphan: Path) -> None:
    for role, offered in ((roles.VIEWER, 0), (roles.EDITOR, 0), (roles.ADMIN, 1)):
        text = text_of(signed_in(somebody(role, role)), "/storage/look/")
        assert text.count('name="delete_orphans"') == offered
        assert ("Repair …" in text) == (role != roles.VIEWER)


def test_verifying_all_starts_one_batch_and_tells_how_far_it_is(client: Client, sae: Sae) -> None:
    answer = client.post("/storage/verify/", follow=True)
    assert "Verifying 0 of 1 SAEs" in answer.content.decode()
    job = Batch.objects.get().jobs.get()
    assert (job.kind, job.sae_id) == (Job.Kind.VERIFY, sae.id)
    assert client.post("/storage/verify/").status_code == 409
    Job.objects.update(state=Job.State.FAILED)
    assert "1 could not be verified" in text_of(client)


def test_a_source_can_be_removed_where_something_else_is_there(client: Client, sae: Sae) -> None:
    put_file(sae, "source/weights", os.urandom(2**20))
    services.finish(sae)
    text = text_of(client)
    assert "Remove the downloaded source?" in text and "That frees <b>1.0 MB</b>" in text
    answer = client.post(f"/saes/{sae.id}/remove-source/", follow=True)
    assert "Removed the downloaded files" in answer.content.decode()
    assert not services.library().source(sae.id).exists()
    assert "Remove the downloaded source?" not in text_of(client)


@pytest.mark.parametrize(
    ("keep", "said"), [(True, "Keeping the sources takes"), (False, "Sources are removed once")]
)
def test_what_keeping_the_sources_costs_is_told(
    client: Client, sae: Sae, settings: object, keep: bool, said: str
) -> None:
    settings.KEEP_SOURCE = keep  # type: ignore[attr-defined]
    assert said in text_of(client)


def test_the_question_before_a_deletion_names_what_is_really_freed(
    client: Client, sae: Sae
) -> None:
    weights = put_file(sae, "native/weights", os.urandom(3_000_000))
    twin = Sae.objects.create(name="twin", source=Sae.Source.LOCAL, status=Sae.Status.READY)
    other = put_file(twin, "native/weights", b"")
    other.unlink()
    other.hardlink_to(weights)
    text = text_of(client, f"/saes/{twin.id}/delete/")
    assert "takes <b>3.0 MB</b>" in text and "frees <b>0 B</b>" in text
    client.post(f"/saes/{twin.id}/delete/")
    assert weights.stat().st_size == 3_000_000


def test_the_numbers_are_in_the_api(client: Client, sae: Sae) -> None:
    told = client.get("/api/v1/storage").json()
    assert told["library_bytes"] == size_of(services.library().home(sae.id))
    assert told["source_bytes"] + told["native_bytes"] == told["library_bytes"]
    assert told["free_bytes"] <= told["usable_bytes"]


def test_the_page_reads_as_few_rows_with_many_saes(
    client: Client, sae: Sae, django_assert_max_num_queries: object
) -> None:
    for number in range(40):
        Sae.objects.create(name=str(number), source=Sae.Source.LOCAL, file_size_bytes=number + 1)
    with django_assert_max_num_queries(16):  # type: ignore[operator]
        text_of(client)
