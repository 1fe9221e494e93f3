"""Parts of pages that are more than a value: icons, statuses, progress, certificates."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version as version_of
from math import log10
from urllib.parse import quote

from django import template
from django.conf import settings
from django.templatetags.static import static
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from saes.doctor import Finding, Kind, Outcome
from saes.errors import SaeError
from saes.formats import by_slug
from saes.hub import without_user
from saes.models import ApiToken, Job, Sae, Training
from saes.offers import Standing
from saes.progress import Stage
from saes.recorder import SPANS
from saes.snippets import Snippet, snippets_for
from saes.templatetags.values import duration, filesize, out_of

register = template.Library()

# What a token, or another one, would help against.
ASKS_FOR_TOKEN = {"gated_no_token", "bad_token", "access_denied", "repository_not_found"}


@register.simple_tag
def version() -> str:
    return version_of("mistudio")


@register.simple_tag
@cache  # a list shows some hundred of a dozen drawings
def icon(name: str, extra: str = "") -> SafeString:
    """A drawing for the eye only: the text beside it says the same."""
    return format_html(
        '<svg class="icon {}" aria-hidden="true" focusable="false"><use href="{}#{}"></use></svg>',
        extra,
        static("icons.svg"),
        name,
    )


# --- an SAE and its work --------------------------------------------------------------------------


@register.filter
def page_of(sae: Sae) -> str:
    """Its address. A page may have thousands: resolving each would take longer than the rest."""
    return _page_pattern().replace("SAE", sae.id)


@cache
def _page_pattern() -> str:
    return reverse("saes:detail", args=["SAE"])


@register.filter
def newest_job(sae: Sae) -> Job | None:
    return sae.newest_job


@dataclass(frozen=True)
class Shown:
    """A status as it is shown. `tone` chooses colours; the words and the icon say the same."""

    label: str
    icon: str
    tone: str


STATUSES = {
    Sae.Status.PENDING: Shown("Queued", "clock", "calm"),
    Sae.Status.DOWNLOADING: Shown("Downloading", "download", "busy"),
    Sae.Status.CONVERTING: Shown("Converting", "transform", "busy"),
    Sae.Status.READY: Shown("Ready", "circle-check", "good"),
    Sae.Status.ERROR: Shown("Error", "alert-triangle", "bad"),
    Sae.Status.PAUSED: Shown("Paused", "player-pause", "calm"),
}
TRAINING_STATUSES = {
    Training.Status.PENDING: Shown("Pending", "clock", "calm"),
    Training.Status.INITIALIZING: Shown("Initializing", "clock", "calm"),
    Training.Status.RUNNING: Shown("Running", "transform", "busy"),
    Training.Status.PAUSED: Shown("Paused", "player-pause", "calm"),
    Training.Status.COMPLETED: Shown("Completed", "circle-check", "good"),
    Training.Status.FAILED: Shown("Failed", "alert-triangle", "bad"),
    Training.Status.CANCELLED: Shown("Cancelled", "ban", "calm"),
}
NEEDS_FACTS = Shown("Needs facts", "help-circle", "ask")
CANCELLED = Shown("Cancelled", "ban", "calm")
KEPT = Shown("Kept", "archive", "calm")  # whole and checked, but in no form that is ours
JOB_STATES = {
    Job.State.QUEUED: Shown("Queued", "clock", "calm"),
    Job.State.RUNNING: Shown("Running", "transform", "busy"),
    Job.State.PAUSED: Shown("Paused", "player-pause", "calm"),
    Job.State.DONE: Shown("Done", "circle-check", "good"),
    Job.State.FAILED: Shown("Failed", "alert-triangle", "bad"),
    Job.State.CRASHED: Shown("Crashed", "alert-triangle", "bad"),
    Job.State.CANCELLED: CANCELLED,
}
WORKS = Shown("Works", "circle-check", "good")
EXPIRED = Shown("Expired", "clock", "calm")
REVOKED = Shown("Revoked", "ban", "calm")


@register.filter
def shown(sae: Sae) -> Shown:
    """What was cancelled or needs an answer is no error to a person; what is kept is not ready."""
    if sae.status == Sae.Status.ERROR and sae.error_code == "cancelled":
        return CANCELLED
    if sae.status == Sae.Status.ERROR and sae.error_code == "needs_facts":
        return NEEDS_FACTS
    if sae.status == Sae.Status.READY and sae.kept_because:
        return KEPT
    return STATUSES[Sae.Status(sae.status)]


@register.filter
def shown_state(job: Job) -> Shown:
    if job.state == Job.State.FAILED and job.error_code == "needs_facts":
        return NEEDS_FACTS
    return JOB_STATES[Job.State(job.state)]


@register.filter
def shown_training(training: Training) -> Shown:
    return TRAINING_STATUSES[Training.Status(training.status)]


@register.filter
def shown_token(token: ApiToken) -> Shown:
    if token.revoked_at:
        return REVOKED
    return WORKS if token.is_good else EXPIRED


@dataclass(frozen=True)
class Step:
    label: str
    number: int
    state: str  # done, now or next


@register.filter
def steps(job: Job) -> list[Step]:
    """The stages of this kind of job, and which of them is at work."""
    stages = list(SPANS[job.kind])
    at = stages.index(Stage(job.stage)) if job.stage in stages else -1
    return [Step(stage.title(), n + 1, _place(n, at)) for n, stage in enumerate(stages)]


def _place(number: int, at: int) -> str:
    if number == at:
        return "now"
    return "done" if number < at else "next"


@register.filter
def step_now(job: Job) -> Step | None:
    return next((step for step in steps(job) if step.state == "now"), None)


@register.filter
def progress_text(job: Job) -> str:
    """1.20 of 2.42 GB · 38.0 MB/s · 31 s left."""
    parts = [out_of(job.bytes_done, job.bytes_total)] if job.bytes_total else []
    if job.bytes_per_second:
        parts.append(f"{filesize(job.bytes_per_second)}/s")
    if job.seconds_left is not None:
        parts.append(f"{duration(job.seconds_left)} left")
    return " · ".join(parts)


@register.simple_tag
def announcement(sae: Sae, job: Job | None) -> str:
    """What a screen reader is told. It changes with the state, and at each quarter of the way."""
    if job is None or not job.is_active:
        return f"{sae.name}: {shown(sae).label}. {sae.error_message}".strip()
    return f"{sae.name}: {shown(sae).label}{quarter(job)}"


def quarter(job: Job) -> str:
    """How far it is, as it is read out: nothing in the first quarter."""
    percent = int(job.progress // 25 * 25)
    return f", {percent} %" if percent else ""


@register.simple_tag
def took(job: Job) -> str:
    if job.started_at is None or job.ended_at is None:
        return "–"
    seconds = (job.ended_at - job.started_at).total_seconds()
    return duration(seconds) if seconds >= 1 else "under a second"


# --- the Hub --------------------------------------------------------------------------------------


@register.simple_tag
def hub_page(repo_id: str, repo_type: str = "model", commit: str = "", path: str = "") -> str:
    """The address of a repository's page, or of a folder at a commit."""
    kind = "datasets/" if repo_type == "dataset" else ""
    place = f"/tree/{quote(commit)}" if commit else ""
    place += f"/{quote(path)}" if commit and path not in ("", ".") else ""
    return f"{without_user(settings.HF_ENDPOINT)}/{kind}{repo_id}{place}"


@register.filter
def owner(repo_id: str) -> str:
    return repo_id.partition("/")[0]


@register.filter
def name(repo_id: str) -> str:
    return repo_id.partition("/")[2]


@register.filter
def asks_for_token(code: str) -> bool:
    return code in ASKS_FOR_TOKEN


@register.filter
def format_label(slug: str) -> str:
    try:
        return by_slug(slug).label
    except SaeError:  # a row of a format that this version no longer has
        return slug


@register.filter
def snippets(sae: Sae) -> list[Snippet]:
    return snippets_for(sae)


# --- offers ---------------------------------------------------------------------------------------

STANDINGS = {
    Standing.OTHER: ("At another commit", "history"),
    Standing.FAILED: ("Failed, goes on", "alert-triangle"),
    Standing.ASKS: ("Needs facts", "help-circle"),
    Standing.COMING: ("On its way", "clock"),
    Standing.HERE: ("In the library", "circle-check"),
}


@register.filter
def standing_word(standing: Standing) -> str:
    return STANDINGS[standing][0]


@register.filter
def standing_icon(standing: Standing) -> str:
    return STANDINGS[standing][1]


# --- certificates ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class Gauge:
    """A difference on a logarithmic scale from 1e-16 to 1, beside the limit, in percent of it."""

    at: float
    limit: float
    passed: bool


@register.simple_tag
def gauge(value: float | None, tolerance: float) -> Gauge:
    value = value or 0
    return Gauge(_on_scale(value), _on_scale(tolerance), value <= tolerance)


def _on_scale(value: float) -> float:
    """At least 1, so that an exact result is still a visible mark."""
    return 1.0 if value <= 0 else min(100.0, max(1.0, (log10(value) + 16) / 16 * 100))


# --- storage --------------------------------------------------------------------------------------


@register.filter
def total_size(findings: Sequence[Finding]) -> int:
    return sum(it.size for it in findings)


@register.filter
def has_kind(found: Mapping[Kind, object], kind: str) -> bool:
    return kind in found


@register.filter
def any_left(outcomes: Sequence[Outcome]) -> bool:
    return any(not it.done for it in outcomes)
