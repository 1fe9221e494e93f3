"""What the sockets of the API tell: the state of an SAE's work, in the guide's words."""

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


def progress_of(sae: Sae) -> float:
    """Percent of the way into the library."""
    if sae.status == Sae.Status.READY:
        return 100.0
    job = sae.newest_job
    return round(job.progress, 1) if job else 0.0


def download_event(sae: Sae) -> dict[str, Any]:
    """The state of bringing this SAE in: everything that a client needs to draw it anew."""
    job, progress = sae.newest_job, progress_of(sae)
    return {
        "sae_id": sae.id,
        "job_id": job.id if job else None,
        "progress": progress,
        "status": sae.status,
        "message": _message(sae, job, progress),
        "stage": STAGES.get(Stage(job.stage)) if job and job.stage else None,
        **(_numbers(job) if job else {}),
        "error_code": sae.error_code or None,
        "solution": sae.error_solution or None,
        "missing_facts": sae.missing_facts,
    }


def _message(sae: Sae, job: Job | None, progress: float) -> str:
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

    name: str
    event: str


TOPICS = {"download": Topic("download", "sae:download"), "upload": Topic("upload", "sae:upload")}
