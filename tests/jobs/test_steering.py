"""What users do to jobs: pause, resume, retry, verify – as far as their role lets them."""

import errno
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest
from django.conf import settings
from django.contrib.auth.models import Group, User
from django.utils import timezone

from saes import bringing, jobs, moves, queueing, roles, services, steering, vault
from saes.arrivals import DownloadRequest
from saes.errors import (
    Conflict,
    DataMissing,
    Forbidden,
    MissingFact,
    NeedsFacts,
    NotReady,
    PathNotFound,
    RepositoryNotFound,
)
from saes.hub import RepoRef
from saes.models import HubToken, Job, Sae, SaeFile
from saes.parts import held_in
from tests.apps import wait_for
from tests.hub import LocalHub, faults
from tests.jobs.conftest import sample_files
from tests.jobs.test_download import in_background, is_body

pytestmark = pytest.mark.django_db(transaction=True)
REPO = "google/gemma-scope-2b-pt-res"
WANTED = DownloadRequest(RepoRef(REPO), "layer_12/width_16k/average_l0_41")


@pytest.fixture(autouse=True)
def no_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queueing, "enqueue", lambda jobs: None)


@pytest.fixture(autouse=True)
def repo(hub: LocalHub) -> None:
    hub.add_repo(REPO, sample_files("gemma_scope_1_res"))


def person(name: str, role: str) -> User:
    user = User.objects.create_user(name)
    user.groups.add(Group.objects.get(name=role))
    return user


def download(user: User | None = None, secret: str | None = None) -> Job:
    _, job = bringing.download(user, WANTED, secret)
    assert job is not None
    return job


def ready() -> Sae:
    job = download()
    jobs.run(job.id)
    return services.sae_of(job.sae_id)


# --- pausing --------------------------------------------------------------------------------------


def test_a_paused_download_keeps_what_it_has_and_goes_on_from_there(hub: LocalHub) -> None:
    hub.faults.add(is_body, faults.slow(4000), where="cdn")
    job = download()
    worker = in_background(job)
    wait_for(lambda: Job.objects.get(id=job.id).bytes_done > 0)
    assert steering.pause(None, job)
    worker.join()
    sae = services.sae_of(job.sae_id)
    assert sae.status == Sae.Status.PAUSED
    parts = settings.DATA_DIR / "saes" / sae.id / "parts"
    kept = held_in(parts)
    assert kept > 0
    hub.log.clear()
    assert steering.resume(None, job)
    jobs.run(job.id)
    assert services.sae_of(sae.id).status == Sae.Status.READY
    assert kept in [entry.range[0] for entry in hub.log.requests() if entry.range]


def test_a_paused_job_is_nobodys_until_it_is_resumed() -> None:
    job = download()
    assert steering.pause(None, job)
    jobs.run(job.id)
    job.refresh_from_db()
    assert (job.state, job.attempt) == (Job.State.PAUSED, 0)


def test_pausing_and_resuming_twice_changes_nothing_more() -> None:
    job = download()
    assert steering.pause(None, job)
    assert not steering.pause(None, job)
    assert steering.resume(None, job)
    assert not steering.resume(None, job)
    job.refresh_from_db()
    assert job.state == Job.State.QUEUED


def test_what_has_ended_can_be_neither_paused_nor_resumed() -> None:
    job = download()
    jobs.run(job.id)
    for act in (steering.pause, steering.resume):
        with pytest.raises(Conflict, match="has ended"):
            act(None, job)


def test_cancelling_a_paused_download_removes_its_part_files() -> None:
    job = download()
    services.library().open_home(job.sae_id)
    parts = settings.DATA_DIR / "saes" / job.sae_id / "parts"
    parts.mkdir()
    (parts / "half").write_bytes(b"x")
    steering.pause(None, job)
    job.refresh_from_db()
    assert steering.cancel(None, job)
    assert not parts.exists()


# --- roles ----------------------------------------------------------------------------------------


def test_a_viewer_can_change_nothing() -> None:
    viewer, sae = person("vera", roles.VIEWER), ready()
    job = sae.newest_job
    assert job is not None
    attempts: list[Callable[[], object]] = [
        lambda: bringing.download(viewer, WANTED),
        lambda: steering.cancel(viewer, job),
        lambda: steering.pause(viewer, job),
        lambda: steering.resume(viewer, job),
        lambda: steering.retry(viewer, sae),
        lambda: steering.retry_job(viewer, job),
        lambda: steering.state_facts(viewer, sae, {"layer": 3}),
        lambda: steering.delete_sae(viewer, sae, keep_files=False),
    ]
    for attempt in attempts:
        with pytest.raises(Forbidden):
            attempt()
    assert services.sae_of(sae.id).status == Sae.Status.READY


def test_an_editor_cannot_stop_the_job_of_another_but_an_admin_can() -> None:
    erin, other = person("erin", roles.EDITOR), person("olga", roles.EDITOR)
    admin = person("ada", roles.ADMIN)
    job = download(erin)
    with pytest.raises(Forbidden, match="Somebody else"):
        steering.cancel(other, job)
    with pytest.raises(Forbidden, match="Somebody else"):
        steering.delete_sae(other, job.sae, keep_files=False)
    assert list(roles.visible_jobs(other)) == []
    assert steering.cancel(admin, job)


def test_an_editor_deletes_what_another_brought_in() -> None:
    other, sae = person("olga", roles.EDITOR), ready()
    steering.delete_sae(other, sae, keep_files=False)
    assert not Sae.objects.exists()


# --- asking for the same again --------------------------------------------------------------------


def test_asking_again_gives_the_sae_that_is_there() -> None:
    sae = ready()
    again, job = bringing.download(None, WANTED)
    assert (again.id, job) == (sae.id, None)


def test_asking_again_for_one_that_failed_goes_on_with_it() -> None:
    first = download()
    steering.cancel(None, first)
    again, job = bringing.download(None, WANTED)
    assert again.id == first.sae_id
    assert job is not None
    jobs.run(job.id)
    assert services.sae_of(again.id).status == Sae.Status.READY


@pytest.mark.parametrize(
    ("where", "place"),
    [("layer_12/width_16k/average_l0_41/", WANTED.where),
     ("layer_12/width_16k/average_l0_41/params.npz", WANTED.where)],
)  # fmt: skip
def test_a_folder_with_a_slash_and_a_file_of_it_stand_for_the_sae(where: str, place: str) -> None:
    sae, _ = bringing.download(None, DownloadRequest(RepoRef(REPO), where))
    assert sae.hf_filepath == place
    assert (len(sae.hf_commit), sae.hf_revision) == (40, "")


def test_a_mistyped_name_is_told_at_once_and_leaves_no_row() -> None:
    with pytest.raises(RepositoryNotFound):
        bringing.download(None, DownloadRequest(RepoRef("google/none"), "."))
    with pytest.raises(PathNotFound):
        bringing.download(None, DownloadRequest(RepoRef(REPO), "layer_1"))
    assert not Sae.objects.exists()


# --- tokens for one job ---------------------------------------------------------------------------


def test_a_token_for_one_job_is_gone_when_the_job_ends(hub: LocalHub) -> None:
    hub.add_repo(REPO + "-private", sample_files("gemma_scope_1_res"), private=True,
                 readers=["alice"])  # fmt: skip
    wanted = DownloadRequest(RepoRef(REPO + "-private"), WANTED.where)
    _, job = bringing.download(None, wanted, "hf_alice_1111")
    assert job is not None
    assert vault.reveal(HubToken.objects.get(for_one_job=True)) == "hf_alice_1111"
    jobs.run(job.id)
    assert services.sae_of(job.sae_id).status == Sae.Status.READY
    assert not HubToken.objects.exists()


def test_a_token_that_no_job_took_is_gone_at_once() -> None:
    ready()
    bringing.download(None, WANTED, "hf_alice_1111")
    with pytest.raises(PathNotFound):
        bringing.download(None, DownloadRequest(RepoRef(REPO), "layer_1"), "hf_alice_1111")
    assert not HubToken.objects.exists()


def test_a_token_for_one_job_goes_when_the_job_is_cancelled_or_its_sae_deleted() -> None:
    steering.cancel(None, download(secret="hf_alice_1111"))
    again = download(secret="hf_alice_1111")
    steering.delete_sae(None, again.sae, keep_files=False)
    assert not HubToken.objects.exists()


# --- verifying ------------------------------------------------------------------------------------


def test_verifying_finds_a_byte_that_changed_and_a_retry_mends_it() -> None:
    sae = ready()
    jobs.run(jobs.start_verifying(None, sae).id)
    assert services.sae_of(sae.id).status == Sae.Status.READY
    file = sae.files.get(kind=SaeFile.Kind.SOURCE)
    path = services.library().home(sae.id) / file.path
    body = bytearray(path.read_bytes())
    body[-1] ^= 1
    path.write_bytes(body)
    job = jobs.start_verifying(None, sae)
    jobs.run(job.id)
    sae, job = services.sae_of(sae.id), Job.objects.get(id=job.id)
    assert (sae.status, sae.error_code, job.state) == (Sae.Status.ERROR, "data_missing", "failed")
    assert file.path in sae.error_message
    for _ in range(2):  # the first finds that the source has to be fetched again
        if services.sae_of(sae.id).status != Sae.Status.READY:
            jobs.run(steering.retry(None, services.sae_of(sae.id)).id)
    assert services.sae_of(sae.id).status == Sae.Status.READY


def test_only_a_ready_sae_is_verified_or_exported() -> None:
    job = download()
    with pytest.raises(NotReady):
        jobs.start_verifying(None, job.sae)
    with pytest.raises(NotReady):
        jobs.start_export(None, job.sae, "saelens")


# --- facts ----------------------------------------------------------------------------------------


def test_asking_again_with_the_right_model_mends_what_the_wrong_one_stopped() -> None:
    wrong = replace(WANTED, model_name="gpt2")
    sae, job = bringing.download(None, wrong)
    assert job is not None
    jobs.run(job.id)
    assert services.sae_of(sae.id).error_code == "dimension_mismatch"
    right = replace(WANTED, model_name="somebody/a-model")
    again, job = bringing.download(None, right)
    assert again.id == sae.id
    assert job is not None
    jobs.run(job.id)
    again = services.sae_of(sae.id)
    assert (again.status, again.model_name) == (Sae.Status.READY, "somebody/a-model")


def test_asking_again_for_one_that_misses_facts_answers_it_or_asks_again(hub: LocalHub) -> None:
    hub.add_repo("local/mistudio", sample_files("mistudio_v1_jumprelu"))
    where = "checkpoints/checkpoint_5000/layer_3_residual"
    wanted = DownloadRequest(RepoRef("local/mistudio"), where)
    sae, job = bringing.download(None, wanted)
    assert job is not None
    jobs.run(job.id)
    assert services.sae_of(sae.id).error_code == "needs_facts"
    assert bringing.download(None, wanted)[1] is None
    facts = {"generation": 1, "normalize_activations": "constant_norm_rescale"}
    _, job = bringing.download(None, replace(wanted, facts=facts))
    assert job is not None
    jobs.run(job.id)
    assert services.sae_of(sae.id).status == Sae.Status.READY


def test_stating_nothing_new_starts_nothing() -> None:
    sae = ready()
    assert steering.state_facts(None, sae, {"layer": 12, "k": None}) is None
    assert steering.state_facts(None, services.sae_of(sae.id), {"layer": 12}) is None


def test_a_fact_that_is_withdrawn_is_read_from_the_files_again() -> None:
    sae = ready()
    steering.state_facts(None, sae, {"layer": 7})
    assert services.sae_of(sae.id).layer == 7
    job = steering.state_facts(None, services.sae_of(sae.id), {"layer": None})
    assert job is not None
    jobs.run(job.id)
    sae = services.sae_of(sae.id)
    assert (sae.status, sae.layer, sae.given_facts) == (Sae.Status.READY, 12, {})


def test_while_the_hub_is_away_only_the_same_revision_is_the_same(
    hub: LocalHub, monkeypatch: pytest.MonkeyPatch
) -> None:
    hub.faults.add("/api/", faults.status(503), times=None)
    named = [replace(WANTED, ref=RepoRef(REPO, revision=it)) for it in ("", "v2", "v2", "")]
    made = [bringing.download(None, wanted)[0].id for wanted in named]
    assert made[1] == made[2]
    assert made[0] == made[3]
    assert made[0] != made[1]


# --- deleting and failing -------------------------------------------------------------------------


def test_what_cannot_be_removed_from_disk_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    sae = ready()
    home = services.library().home(sae.id)
    # Root may write everywhere: only the kernel's own flag, or a mount, would stop it.
    monkeypatch.setattr("shutil.rmtree", refuse)
    with pytest.raises(DataMissing):
        steering.delete_sae(None, sae, keep_files=False)
    sae = services.sae_of(sae.id)
    assert (sae.status, sae.error_code) == (Sae.Status.ERROR, "data_missing")
    monkeypatch.undo()
    steering.delete_sae(None, sae, keep_files=False)
    assert not home.exists()


def refuse(*args: object, **kwargs: object) -> None:
    raise OSError(errno.EROFS, "read-only")


def test_a_worker_that_lost_its_job_asks_for_no_facts() -> None:
    job = download()
    stale = Job.objects.claim(job.id, "here 1 1")
    assert stale is not None
    moves.cancel([job.id])
    jobs.fail(stale, NeedsFacts("Which?", [MissingFact("k", "How many?")]))
    assert services.sae_of(job.sae_id).missing_facts == []


def test_part_files_of_a_dead_worker_go_when_its_paused_job_is_cancelled() -> None:
    job = download()
    services.library().open_home(job.sae_id)
    running = Job.objects.claim(job.id, "here 1 1")
    assert running is not None
    parts = settings.DATA_DIR / "saes" / job.sae_id / "parts"
    parts.mkdir()
    assert moves.pause([job.id])
    assert moves.cancel([running.id])  # read while it ran
    assert not parts.exists()


def test_a_token_that_lost_its_job_is_swept_away_in_time() -> None:
    row = vault.keep_for_one_job(None, "hf_alice_1111")
    vault.sweep()
    assert HubToken.objects.filter(id=row.id).exists()
    HubToken.objects.update(created_at=timezone.now() - timedelta(hours=2))
    vault.sweep()
    assert not HubToken.objects.exists()


def test_what_has_ended_cannot_be_cancelled_but_cancelling_twice_is_no_error() -> None:
    job = download()
    assert steering.cancel(None, job)
    assert not steering.cancel(None, job)
    done = ready().newest_job
    assert done is not None
    with pytest.raises(Conflict, match="has ended"):
        steering.cancel(None, done)
