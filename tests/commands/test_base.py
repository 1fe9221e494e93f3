"""What all commands share: tables, names, errors of the disk and of the database."""

import os
import pty
import select
from io import StringIO
from pathlib import Path

import pytest
from django.core.management.base import OutputWrapper

from saes.errors import NotFound, SeveralSaes
from saes.management.bar import Bar
from saes.management.finding import sae_named, user_named
from saes.management.tables import cut, table
from saes.models import Job, Sae
from tests.commands.conftest import command
from tests.fixtures import write_saelens


def test_a_table_keeps_its_columns_whatever_letters_are_in_them() -> None:
    rows: list[list[object]] = [["e\u0301", 1], ["層", 22], [None, ""]]
    assert table(("name", ">n"), rows).splitlines() == [
        "name   n",
        "e\u0301      1",
        "層    22",
        "–      –",
    ]


def test_a_table_shows_no_character_that_would_steer_the_terminal() -> None:
    shown = table(("name",), [["\x1b[2J\u202egnp.exe"]])
    assert "\x1b" not in shown and "\u202e" not in shown
    assert shown.count("\n") == 1


def test_what_is_cut_says_so() -> None:
    assert (cut("abcdef", 4), cut("abcd", 4)) == ("abc…", "abcd")


@pytest.mark.django_db
def test_an_sae_is_found_by_its_id_and_by_a_name_that_only_it_has() -> None:
    one = Sae.objects.create(name="one", source=Sae.Source.LOCAL)
    for _ in range(2):
        Sae.objects.create(name="two", source=Sae.Source.LOCAL)
    assert sae_named(one.id) == sae_named("one") == one
    with pytest.raises(SeveralSaes) as caught:
        sae_named("two")
    assert len(caught.value.found) == 2
    with pytest.raises(NotFound):
        sae_named("three")


@pytest.mark.django_db
def test_the_owner_is_made_and_nobody_else() -> None:
    assert user_named("owner").is_superuser
    with pytest.raises(NotFound):
        user_named("somebody")


def test_an_error_of_the_disk_is_a_sentence_that_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    source = write_saelens(tmp_path / "in")
    ran = command("sae_convert", source, tmp_path / "file", "--to", "mistudio", "--json")
    assert ran.code == 1
    assert ran.json["code"] == "data_missing"
    assert "/file`: file exists" in ran.err


def all_of(terminal: int) -> str:
    """What is on it by now; it is handed out in pieces."""
    said = b""
    while select.select([terminal], [], [], 0.2)[0]:
        said += os.read(terminal, 65536)
    return said.decode()


def test_on_a_terminal_a_job_shows_bytes_speed_and_time_in_one_line() -> None:
    person, program = pty.openpty()
    with os.fdopen(program, "w") as terminal:
        bar = Bar(OutputWrapper(terminal))
        job = Job(
            state=Job.State.RUNNING, message="Downloading", file_name="a" * 200, bytes_done=10**9,
            bytes_total=4 * 10**9, bytes_per_second=10**8,
        )  # fmt: skip
        bar.show(job)
        shown = all_of(person).rpartition("\r")[2]
        bar.close()
    os.close(person)
    assert shown.startswith("Downloading")
    assert shown.endswith("25 %  1.00 of 4.00 GB  100.0 MB/s  30 s left")


def test_elsewhere_than_on_a_terminal_each_step_is_one_line() -> None:
    out = StringIO()
    bar = Bar(OutputWrapper(out))
    sae = Sae(id="sae_000000000000")
    job = Job(sae=sae, state=Job.State.QUEUED, bytes_total=10)
    for state, message, file in [
        (Job.State.QUEUED, "", ""),
        (Job.State.QUEUED, "", ""),
        (Job.State.RUNNING, "Downloading", "a.npz"),
        (Job.State.RUNNING, "Downloading", "b.npz"),
    ]:
        job.state, job.message, job.file_name = state, message, file
        bar.show(job)
    bar.close()
    assert out.getvalue() == "Waiting for a worker\nDownloading a.npz\nDownloading b.npz\n"
