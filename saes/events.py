"""What the sockets of the API tell: the state of an SAE's work, in the guide's words."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from saes.models import Job, Publication, Published, Sae
from saes.progress import Stage

STAGES = {
    Stage.LOOKING: "look",
    Stage.DOWNLOADING: "download",
    Stage.CONVERTING: "convert",
    Stage.UPLOADING: "upload",
    Stage.VERIFYING: "verify",
}
# Columns that can be long, and that no event shows.
LONG = ("facts", "given_facts", "tensors", "certificate", "notes", "description")


def progress_of(sae: Sae, job: Job | None = None) -> float:
    """Percent of the way into the library. `job`: its newest one, where that is at hand."""
    if sae.status == Sae.Status.READY:
        return 100.0
    job = job or sae.newest_job
    return round(job.progress, 1) if job else 0.0


def download_event(sae: Sae, job: Job | None) -> dict[str, Any]:
    """The state of bringing this SAE in: everything that a client needs to draw it anew."""
    progress = progress_of(sae, job)
    return {
        "sae_id": sae.id,
        "job_id": job.id if job else None,
        "progress": progress,
        "status": sae.status,
        "message": _message(sae, progress),
        "stage": STAGES.get(Stage(job.stage)) if job and job.stage else None,
        **(_numbers(job) if job else {}),
        "error_code": sae.error_code or None,
        "solution": sae.error_solution or None,
        "missing_facts": sae.missing_facts,
    }


UPLOADED = {
    Job.State.QUEUED: "pending",
    Job.State.PAUSED: "paused",
    Job.State.DONE: "ready",
}
_UPLOADING = {Stage.UPLOADING: "uploading", Stage.VERIFYING: "verifying"}
_SAYS = {
    "pending": "Queued for processing",
    "paused": "Paused",
    "ready": "Published and verified",
}


def upload_status(job: Job) -> str:
    """The guide's word for a job that publishes; the SAE itself stays ready."""
    if job.state == Job.State.RUNNING:
        return _UPLOADING.get(Stage(job.stage or Stage.CONVERTING), "converting")
    return UPLOADED.get(Job.State(job.state), "error")


def upload_event(sae: Sae, job: Job | None) -> dict[str, Any]:
    """The newest publishing of an SAE. Everyone is told the same, so the name of a repository
    that not everybody can see is not told."""
    if job is None or job.publication is None:
        nothing = dict.fromkeys(("job_id", "publication_id", "progress", "status", "stage"))
        return {"sae_id": sae.id, **nothing, "message": "Nothing was uploaded"}
    status, progress = upload_status(job), round(job.progress, 1)
    named = job.publication.everybody_sees  # sentences of errors may name the repository
    return {
        "sae_id": sae.id,
        "job_id": job.id,
        "publication_id": job.publication_id,
        "progress": progress,
        "status": status,
        "message": (job.error_message if named else "")
        or _SAYS.get(status, f"{status.title()}: {progress}%"),
        "stage": STAGES.get(Stage(job.stage)) if job.stage else None,
        **_numbers(job),
        "error_code": job.error_code or None,
        "solution": (job.error_solution if named else "") or None,
        **_where(job.publication),
    }


def _where(publication: Publication) -> dict[str, Any]:
    told = {
        "commit_hash": publication.commit,
        "repo_url": publication.commit_url.partition("/commit/")[0],
        "commit_url": publication.commit_url,
        "pull_request_url": publication.pull_request,
    }
    return {name: (it or None) if publication.everybody_sees else None for name, it in told.items()}


def _message(sae: Sae, progress: float) -> str:
    if sae.error_message:
        return sae.error_message
    if sae.status in (Sae.Status.DOWNLOADING, Sae.Status.CONVERTING):
        return f"{sae.get_status_display()}: {progress}%"
    return {
        Sae.Status.PENDING: "Queued for processing",
        Sae.Status.PAUSED: "Paused",
        Sae.Status.READY: "Complete and ready to use",
    }.get(Sae.Status(sae.status), "Failed")


def _numbers(job: Job) -> dict[str, Any]:
    """Bytes and files of the present stage; `detail` is what the worker says of it."""
    return {
        "detail": job.message,
        "waits_for": job.waits_for or None,
        "wait_until": job.wait_until.isoformat() if job.wait_until else None,
        "bytes_done": job.bytes_done,
        "bytes_total": job.bytes_total,
        "bytes_per_second": round(job.bytes_per_second),
        "seconds_left": job.seconds_left,
        "file": job.file_name or None,
        "file_index": job.file_index,
        "file_count": job.file_count,
        "attempt": job.attempt,
        "version": job.version,
    }


@dataclass(frozen=True)
class Topic:
    """A kind of channel: `sae/{id}/download` tells of bringing in, `…/upload` of publishing."""

    event: str
    describe: Callable[[Sae, Job | None], dict[str, Any]]


TOPICS = {
    "download": Topic("sae:download", download_event),
    "upload": Topic("sae:upload", upload_event),
}


# --- reading rows --------------------------------------------------------------------------------


def existing(sae_ids: Collection[str]) -> set[str]:
    return set(Sae.objects.filter(id__in=sae_ids).values_list("id", flat=True))


def at_work() -> list[str]:
    """SAEs that are on their way into the library, or to the Hub."""
    jobs = Job.objects.active().filter(kind__in=(*Job.BRINGS_IN, Job.Kind.PUBLISH))
    found = list(jobs.order_by("created_at").values_list("sae_id", flat=True))
    sent = Published.objects.filter(publication__jobs__state__in=Job.ACTIVE).exclude(sae=None)
    return list(dict.fromkeys([*found, *map(str, sent.values_list("sae_id", flat=True))]))


def present(sae_ids: Collection[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The state of each SAE for each topic. What was deleted is not among them."""
    uploads = _uploads(sae_ids)
    return {
        sae.id: {
            name: topic.describe(sae, job if name == "download" else uploads.get(sae.id))
            for name, topic in TOPICS.items()
        }
        for sae, job in _with_jobs(sae_ids)
    }


def _uploads(sae_ids: Collection[str]) -> dict[str, Job]:
    """The newest job that publishes each of these."""
    rows = Published.objects.filter(sae__in=sae_ids).values_list("sae_id", "publication_id")
    of_publication: dict[str, list[str]] = {}
    for sae_id, publication_id in rows:
        of_publication.setdefault(publication_id, []).append(str(sae_id))
    jobs = Job.objects.filter(publication__in=of_publication).select_related("publication")
    newest: dict[str, Job] = {}
    for job in jobs.defer("traceback"):  # newest first
        for sae_id in of_publication[str(job.publication_id)]:
            newest.setdefault(sae_id, job)
    return newest


def _with_jobs(sae_ids: Collection[str]) -> list[tuple[Sae, Job | None]]:
    """Each with its newest job, both as one query saw them: no status of before, bytes of after."""
    jobs = Job.objects.filter(sae__in=sae_ids, kind__in=Job.BRINGS_IN).select_related("sae")
    jobs = jobs.defer("traceback", *(f"sae__{name}" for name in LONG))
    newest: dict[str, Job] = {}
    for job in jobs:  # newest first
        newest.setdefault(job.sae_id, job)
    without = Sae.objects.filter(id__in=set(sae_ids) - set(newest)).defer(*LONG)
    return [*((job.sae, job) for job in newest.values()), *((sae, None) for sae in without)]
