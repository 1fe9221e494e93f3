"""Claiming, cancelling, dying and recovering: each is one write, and one of them wins."""

import os
import subprocess
import sys
from datetime import timedelta

import pytest
from django.utils import timezone

from saes import jobs, moves, recovery
from saes.errors import Conflict
from saes.models import Job, Sae
from saes.processes import is_alive, start_of, this_process
from saes.progress import Stage, Stopped
from saes.recorder import JobReporter

pytestmark = pytest.mark.django_db


@pytest.fixture
def job() -> Job:
    sae = Sae.objects.create(name="an SAE", source=Sae.Source.HUGGINGFACE)
    return Job.objects.create(kind=Job.Kind.DOWNLOAD, sae=sae)


def dead_process() -> str:
    """The name of a process of this host that has ended."""
    child = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    host, _, started = this_process().split(" ")
    return f"{host} {int(child.stdout)} {started}"


def divide(one: int, other: int) -> float:
    return one / other


def claimed(job: Job) -> Job:
    row = Job.objects.claim(job.id, this_process())
    assert row is not None
    return row


def test_a_job_is_claimed_once(job: Job) -> None:
    assert claimed(job).attempt == 1
    assert Job.objects.claim(job.id, this_process()) is None


def test_a_worker_whose_job_was_cancelled_stops_at_its_next_word(job: Job) -> None:
    reporter = JobReporter(claimed(job))
    reporter.say(Stage.DOWNLOADING, "Downloading")
    assert moves.cancel([job.id])
    with pytest.raises(Stopped):
        reporter.say(Stage.CONVERTING, "Converting")
    job.refresh_from_db()
    job.sae.refresh_from_db()
    assert (job.state, job.stage) == (Job.State.CANCELLED, Stage.DOWNLOADING)
    assert (job.sae.status, job.sae.error_code) == (Sae.Status.ERROR, "cancelled")


def test_cancelling_twice_changes_nothing_more(job: Job) -> None:
    assert moves.cancel([job.id])
    assert not moves.cancel([job.id])


def test_a_job_that_ended_cannot_be_cancelled(job: Job) -> None:
    with jobs.recording(claimed(job)):
        pass
    assert not moves.cancel([job.id])
    job.refresh_from_db()
    assert (job.state, job.progress) == (Job.State.DONE, 100)


def test_an_unforeseen_error_gives_users_a_reference_and_staff_the_traceback(job: Job) -> None:
    with jobs.recording(claimed(job)):
        divide(1, 0)
    job.refresh_from_db()
    assert job.state == Job.State.CRASHED
    assert job.id in job.error_message
    assert "ZeroDivisionError" not in job.error_message
    assert "ZeroDivisionError: division by zero" in job.traceback


def test_progress_never_goes_backward(job: Job) -> None:
    reporter = JobReporter(claimed(job))
    reporter.say(Stage.DOWNLOADING, "Downloading")
    shown = []
    for done in (10, 50, 20, 60, 0, 100):
        reporter.advance(done, 100)
        shown.append((reporter.job.progress, reporter.job.bytes_done))
    reporter.say(Stage.CONVERTING, "Converting")
    reporter.advance(1, 100)
    shown.append((reporter.job.progress, 100))
    assert shown == sorted(shown)


def test_a_job_whose_process_is_gone_goes_back_to_the_queue_at_once(job: Job) -> None:
    Job.objects.claim(job.id, dead_process())
    recovery.recover()
    job.refresh_from_db()
    assert (job.state, job.lease) == (Job.State.QUEUED, "")


def test_a_job_of_a_living_process_is_left_alone(job: Job) -> None:
    claimed(job)
    recovery.recover()
    job.refresh_from_db()
    assert job.state == Job.State.RUNNING


def test_a_job_of_another_machine_is_lost_after_its_lease_only(job: Job) -> None:
    Job.objects.claim(job.id, "elsewhere 1 1")
    recovery.recover()
    job.refresh_from_db()
    assert job.state == Job.State.RUNNING
    long_ago = timezone.now() - timedelta(minutes=5)
    Job.objects.filter(id=job.id).update(heartbeat_at=long_ago)
    recovery.recover()
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED


def test_the_former_worker_of_a_requeued_job_cannot_write_any_more(job: Job) -> None:
    former = JobReporter(claimed(job))
    Job.objects.filter(id=job.id).update(worker=dead_process())
    recovery.recover()
    claimed(job)
    with pytest.raises(Stopped):
        former.say(Stage.DOWNLOADING, "still here")


def test_a_job_that_kills_its_worker_again_and_again_is_given_up_with_advice(job: Job) -> None:
    for _ in range(recovery.MOST_DEATHS):
        claimed(job)
        recovery.horse_died(os.getpid())
    job.refresh_from_db()
    assert (job.state, job.error_code) == (Job.State.FAILED, "worker_killed")


def test_deaths_with_progress_between_them_are_not_counted_together(job: Job) -> None:
    for progress in range(2 * recovery.MOST_DEATHS):
        claimed(job)
        Job.objects.filter(id=job.id).update(progress=progress)
        recovery.horse_died(os.getpid())
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED


def test_an_sae_has_one_active_job_at_a_time(job: Job) -> None:
    with pytest.raises(Conflict):
        jobs.start_conversion(None, job.sae)


def test_a_process_number_used_again_is_not_the_same_process() -> None:
    host, pid, _ = this_process().split(" ")
    assert is_alive(this_process())
    assert int(pid) == os.getpid()
    assert not is_alive(f"{host} {pid} 1")


def test_a_killed_process_that_nobody_took_note_of_is_not_alive() -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    name = f"{this_process().split(' ')[0]} {child.pid} {start_of(child.pid)}"
    assert is_alive(name)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
    assert not is_alive(name)
    child.wait()
