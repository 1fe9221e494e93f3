"""`manage.py sae_facts --json`; what it asks and takes is tested with the jobs."""

import pytest

from saes.models import Sae
from tests.commands.conftest import MISTUDIO, MISTUDIO_WHERE, command
from tests.hub import LocalHub

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def asking(hub: LocalHub) -> Sae:
    command("sae_download", MISTUDIO, MISTUDIO_WHERE, "--wait")
    return Sae.objects.get()


def test_json_tells_what_is_missing_and_what_is_known(asking: Sae) -> None:
    told = command("sae_facts", asking.name, "--json").json
    assert (told["sae_id"], told["stated"]) == (asking.id, {})
    assert "generation" in {fact["name"] for fact in told["missing_facts"]}
    assert told["facts"]["d_in"]["origin"] == "file"


def test_json_tells_the_job_that_an_answer_starts(asking: Sae) -> None:
    ran = command("sae_facts", asking.id, "generation=1", "normalize_activations=none", "--json")
    assert (ran.code, ran.json["job"]["kind"], ran.json["job"]["state"]) == (0, "convert", "queued")


def test_what_is_no_fact_is_refused_with_its_code(asking: Sae) -> None:
    ran = command("sae_facts", asking.id, "nonsense=1", "--json")
    assert (ran.code, ran.json["code"]) == (1, "bad_fact")
