"""The library over the API: lists, one SAE, and editing."""

import json
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from saes import services
from saes.models import Job, Sae
from tests.api.conftest import ApiClient, work
from tests.api.made import gpt2_sae, in_folder, parsed, ready_sae, running_job
from tests.hub import LocalHub

FIELDS = {
    "id", "name", "description", "source", "status", "hf_repo_id", "hf_filepath", "hf_revision",
    "training_id", "model_name", "model_id", "layer", "hook_type", "n_features", "d_model",
    "architecture", "format", "local_path", "file_size_bytes", "progress", "error_message",
    "sae_metadata", "created_at", "updated_at", "downloaded_at",
}  # fmt: skip


def names(answer: Any) -> list[str]:
    return [sae["name"] for sae in answer["data"]]


@pytest.fixture
def shelf(owner: User) -> list[Sae]:
    return [
        ready_sae(owner, name="b", layer=2, d_in=768, d_sae=100, model_name="gpt2"),
        ready_sae(
            owner, name="a", layer=None, d_in=2304, d_sae=300, model_name="google/gemma-2-2b",
            source=Sae.Source.LOCAL, status=Sae.Status.ERROR, description="100% sparse",
        ),
        ready_sae(
            owner, name="C", layer=1, d_in=512, d_sae=200, model_name="pythia-70m",
            source=Sae.Source.TRAINED, status=Sae.Status.PAUSED, hf_repo_id="other/dead_letters",
        ),
    ]  # fmt: skip


def test_an_answer_has_every_field(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner, description="mine", tags=["one"], model_id="m_1", model_name="gpt2")
    told = api.get(f"/saes/{sae.id}")
    assert set(told) >= FIELDS
    assert api.get("/saes")["data"] == [told]
    assert told["local_path"] == f"saes/{sae.id}"
    assert (told["n_features"], told["d_model"], told["model_id"]) == (24576, 768, "m_1")
    assert (told["status"], told["progress"], told["source"]) == ("ready", 100, "huggingface")
    assert told["file_size_bytes"] == 2 * len(b'{"facts": {}}')
    assert told["sae_metadata"]["facts"] == {"d_in": {"value": 768, "origin": "file"}}
    assert (told["error_message"], told["training_id"], told["downloaded_at"]) == (None,) * 3
    assert told["created_at"].endswith("Z") or "+00:00" in told["created_at"]


def test_pages(api: ApiClient, owner: User) -> None:
    Sae.objects.bulk_create(Sae(name=f"{n:03}", source="local") for n in range(120))
    first = api.get("/saes?sort_by=name&order=asc")
    assert first["pagination"] == {"skip": 0, "limit": 50, "total": 120, "has_more": True}
    assert names(first) == [f"{n:03}" for n in range(50)]
    last = api.get("/saes?sort_by=name&order=asc&skip=100&limit=100")
    assert last["pagination"] == {"skip": 100, "limit": 100, "total": 120, "has_more": False}
    assert names(last) == [f"{n:03}" for n in range(100, 120)]
    exact = api.get("/saes?skip=20&limit=100")
    assert (exact["pagination"]["has_more"], len(exact["data"])) == (False, 100)
    beyond = api.get("/saes?skip=10000000")
    assert (beyond["data"], beyond["pagination"]["total"]) == ([], 120)


def test_pages_of_equal_values_neither_skip_nor_repeat(api: ApiClient, owner: User) -> None:
    Sae.objects.bulk_create(Sae(name="same", source="local", layer=1) for _ in range(25))
    for column in ("name", "layer", "status", "created_at", "downloaded_at"):
        seen = [
            sae["id"]
            for skip in range(0, 25, 5)
            for sae in api.get(f"/saes?sort_by={column}&skip={skip}&limit=5")["data"]
        ]
        assert len(set(seen)) == 25, column


def test_the_newest_comes_first(api: ApiClient, shelf: list[Sae]) -> None:
    assert names(api.get("/saes")) == ["C", "a", "b"]


@pytest.mark.parametrize(
    ("column", "order"),
    [
        ("created_at", "baC"), ("name", "Cab"), ("n_features", "bCa"), ("d_model", "Cba"),
        ("source", "baC"), ("status", "aCb"), ("model_name", "abC"),
    ],
)  # fmt: skip
def test_each_column_sorts_both_ways(
    api: ApiClient, shelf: list[Sae], column: str, order: str
) -> None:
    assert names(api.get(f"/saes?sort_by={column}&order=asc")) == list(order)
    assert names(api.get(f"/saes?sort_by={column}&order=desc")) == list(order)[::-1]


@pytest.mark.parametrize("column", ["updated_at", "downloaded_at", "layer", "file_size_bytes"])
def test_columns_that_may_be_empty_sort_too(api: ApiClient, shelf: list[Sae], column: str) -> None:
    for order in ("asc", "desc"):
        assert sorted(names(api.get(f"/saes?sort_by={column}&order={order}"))) == ["C", "a", "b"]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("source=local", "a"), ("source=trained", "C"), ("source=huggingface", "b"),
        ("status=ready", "b"), ("status=error", "a"), ("status=paused", "C"),
        ("status=pending", ""),
        ("model_name=gpt2", "b"), ("model_name=GEMMA", "a"), ("model_name=%25", ""),
        ("search=dead_letters", "C"), ("search=pythia", "C"), ("search=layer_3", "Cab"),
        ("search=SPARSE", "a"), ("search=%25", "a"), ("search=100%25+s", "a"), ("search=0_s", ""),
        ("search=.*", ""), ("search=\\", ""), ("search='+OR+1=1--", ""), ("search=", "Cab"),
        ("search=layer_3&source=local&status=error", "a"), ("search=pythia&status=ready", ""),
    ],
)  # fmt: skip
def test_filters(api: ApiClient, shelf: list[Sae], query: str, found: str) -> None:
    answer = api.get(f"/saes?{query}&sort_by=name&order=asc")
    assert "".join(names(answer)) == found
    assert answer["pagination"]["total"] == len(found)


def test_a_list_of_a_hundred_asks_no_more_than_a_list_of_one(api: ApiClient, owner: User) -> None:
    def queries() -> int:
        with CaptureQueriesContext(connection) as seen:
            assert "data" in api.get("/saes?limit=100")
        return len(seen)

    Job.objects.create(kind="download", sae=ready_sae(owner))
    queries()  # the token's last use is noted once
    one = queries()
    for n in range(99):
        Job.objects.create(kind="verify", state="done", sae=ready_sae(owner, name=str(n)))
    assert queries() == one <= 5


def test_a_list_reads_no_traceback(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner)
    Job.objects.create(kind="download", state="crashed", sae=sae, traceback="x" * 10_000)
    with CaptureQueriesContext(connection) as seen:
        assert api.get("/saes")["data"][0]["job_id"]
    assert any("saes_job" in query["sql"] for query in seen)
    assert not [query for query in seen if "traceback" in query["sql"]]


def test_an_sae_that_is_not_there(api: ApiClient) -> None:
    assert api.get("/saes/sae_0123456789ab")["code"] == "not_found"
    assert api.patch("/saes/sae_0123456789ab", {"name": "x"})["code"] == "not_found"
    assert api.delete("/saes/sae_0123456789ab")["code"] == "not_found"
    assert api.status == 404


# --- editing -------------------------------------------------------------------------------------


def test_what_is_said_of_an_sae_can_be_changed(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner, description="before", notes="before")
    body = {"name": "  new name ", "notes": "a\nb", "tags": ["x", " y ", "x"]}
    told = api.patch(f"/saes/{sae.id}", body)
    assert (api.status, told["name"], told["notes"]) == (200, "new name", "a\nb")
    assert (told["tags"], told["description"]) == (["x", "y"], "before")
    assert api.get(f"/saes/{sae.id}") == told
    assert told["updated_at"] > told["created_at"]
    emptied = api.patch(f"/saes/{sae.id}", {"description": "", "tags": []})
    assert (emptied["description"], emptied["tags"]) == ("", [])
    assert api.patch(f"/saes/{sae.id}", {"name": None})["name"] == "new name"


@pytest.mark.parametrize(
    "body",
    [
        {"name": ""}, {"name": "  "}, {"name": "x" * 201}, {"name": "a\x1b[31m"},
        {"status": "ready"},
        {"tags": ["x" * 41]}, {"tags": [""]}, {"tags": "x"}, {"tags": ["x"] * 51}, {"id": "sae_1"},
        {"notes": "x" * 20_001}, {"created_by": 1}, {"hf_repo_id": "a/b"}, {"local_path": "/etc"},
    ],
)  # fmt: skip
def test_what_cannot_be_changed_is_refused(
    api: ApiClient, owner: User, body: dict[str, Any]
) -> None:
    sae = ready_sae(owner)
    before = Sae.objects.values().get()
    api.patch(f"/saes/{sae.id}", body)
    assert (api.status, parsed(api.last)["code"]) == (422, "bad_body")
    assert Sae.objects.values().get() == before


def test_a_descriptive_fact_is_stored_at_once(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner)
    told = api.patch(f"/saes/{sae.id}", {"facts": {"model_name": "gpt2"}, "notes": "sure"})
    assert (api.status, told["model_name"], told["notes"]) == (200, "gpt2", "sure")
    assert told["sae_metadata"]["stated"] == {"model_name": "gpt2"}
    assert told["sae_metadata"]["facts"]["model_name"] == {"value": "gpt2", "origin": "user"}
    path = services.library().native(sae.id) / "metadata.json"
    assert json.loads(path.read_text())["facts"]


@pytest.mark.parametrize(
    ("facts", "code"),
    [
        ({"nothing": "x"}, "bad_fact"), ({"k": 0}, "bad_fact"), ({"k": 10**300}, "bad_fact"),
        ({"k": "9" * 5000}, "bad_fact"), ({"norm_scaling_factor": 10**400}, "bad_fact"),
        ({"norm_scaling_factor": "nan"}, "bad_fact"), ({"model_name": "x" * 201}, "bad_fact"),
        ({"model_name": "gpt2-xl"}, "dimension_mismatch"), ({"model_name": "a\x00"}, "bad_fact"),
        ({"layer": True}, "bad_fact"), ({"architecture": "../x"}, "bad_fact"),
    ],
)  # fmt: skip
def test_a_fact_that_cannot_be_is_refused_and_nothing_is_stored(
    api: ApiClient, owner: User, facts: dict[str, Any], code: str
) -> None:
    sae = ready_sae(owner)
    before = Sae.objects.values().get()
    api.patch(f"/saes/{sae.id}", {"facts": facts, "notes": "never stored"})
    assert parsed(api.last)["code"] == code
    assert api.status == (400 if code == "bad_fact" else 422)
    assert Sae.objects.values().get() == before


def test_facts_wait_for_the_job_and_names_do_not(api: ApiClient, owner: User) -> None:
    sae = ready_sae(owner)
    running_job(sae, owner, Job.Kind.VERIFY)
    assert api.patch(f"/saes/{sae.id}", {"facts": {"layer": 4}})["code"] == "conflict"
    assert api.status == 409
    assert api.patch(f"/saes/{sae.id}", {"name": "during"})["name"] == "during"


def test_a_fact_that_changes_numbers_converts_again(
    api: ApiClient, hub: LocalHub, started: list[Job]
) -> None:
    hub.add_repo("me/saes", in_folder("layer_6", gpt2_sae(6)))
    sae_id = api.post("/saes/download", {"repo_id": "me/saes", "filepath": "layer_6"})["id"]
    work(started)
    hub.log.clear()
    told = api.patch(f"/saes/{sae_id}", {"facts": {"apply_b_dec_to_input": "false"}})
    assert (api.status, told["status"], told["progress"]) == (202, "pending", 0)
    assert [job.id for job in started] == [told["job_id"]]
    assert api.get(f"/jobs/{told['job_id']}")["kind"] == "convert"
    work(started)
    ready = api.get(f"/saes/{sae_id}")
    assert (ready["status"], ready["error_message"]) == ("ready", None)
    assert ready["sae_metadata"]["facts"]["apply_b_dec_to_input"]["origin"] == "user"
    assert hub.log.bytes_sent(origin="cdn") == 0
