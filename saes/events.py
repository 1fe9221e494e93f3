"""What the sockets of the API tell: the state of an SAE's work, in the guide's words."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any

from saes.models import Job, Sae
from saes.progress import Stage

STAGES = {
    Stage.LOOKING: "look",
    Stage.DOWNLOADING: "download",
    Stage.CONVERTING: "convert",
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


def upload_event(sae: Sae, job: Job | None) -> dict[str, Any]:
    """No job publishes an SAE, so everyone is told the same."""
    return {
        "sae_id": sae.id,
        "job_id": None,
        "progress": None,
        "status": None,
        "message": "Nothing was uploaded",
        "stage": None,
    }


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
    """SAEs that are on their way into the library."""
    jobs = Job.objects.active().filter(kind__in=Job.BRINGS_IN)
    return list(jobs.order_by("created_at").values_list("sae_id", flat=True))


def present(sae_ids: Collection[str]) -> dict[str, dict[str, dict[str, Any]]]:
    """The state of each SAE for each topic. What was deleted is not among them."""
    found = {sae.id: (sae, job) for sae, job in _with_jobs(sae_ids)}
    return {
        sae_id: {name: topic.describe(sae, job) for name, topic in TOPICS.items()}
        for sae_id, (sae, job) in found.items()
    }


def _with_jobs(sae_ids: Collection[str]) -> list[tuple[Sae, Job | None]]:
    """Each with its newest job, both as one query saw them: no status of before, bytes of after."""
    jobs = Job.objects.filter(sae__in=sae_ids, kind__in=Job.BRINGS_IN).select_related("sae")
    jobs = jobs.defer("traceback", *(f"sae__{name}" for name in LONG))
    newest: dict[str, Job] = {}
    for job in jobs:  # newest first
        newest.setdefault(job.sae_id, job)
    without = Sae.objects.filter(id__in=set(sae_ids) - set(newest)).defer(*LONG)
    return [*((job.sae, job) for job in newest.values()), *((sae, None) for sae in without)]
