"""What the page Activity says of jobs: what they wait for, how far they are, what comes next."""

from dataclasses import dataclass
from functools import cache

from django import template
from django.contrib.auth.models import User
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString

from saes import roles
from saes.activity import Summary
from saes.models import Job
from saes.progress import Resource
from saes.templatetags.parts import format_label, icon, shown_state
from saes.templatetags.values import duration

register = template.Library()
MOST_COUNTED = 1000
KINDS = {
    Job.Kind.DOWNLOAD: "download",
    Job.Kind.IMPORT: "file-import",
    Job.Kind.CONVERT: "transform",
    Job.Kind.EXPORT: "file-export",
    Job.Kind.VERIFY: "fingerprint",
    Job.Kind.PUBLISH: "world-upload",
}


@register.simple_tag
def at_work(viewer: User) -> str:
    """How many jobs are on their way, for the main navigation; empty where none is."""
    count = roles.visible_jobs(viewer).active()[:MOST_COUNTED].count()
    return f"{MOST_COUNTED - 1}+" if count == MOST_COUNTED else str(count or "")


@register.filter
def waits(job: Job) -> str:
    """What a queued job waits for: a worker, or a moment that is still to come."""
    left = (job.wait_until - timezone.now()).total_seconds() if job.wait_until else 0
    if left <= 0:
        return "Waiting for a worker"
    again = "looks again" if job.waits_for == Resource.DISK else "goes on"
    return f"{job.message or 'Waiting'}, {again} in {duration(max(1, left))}"


@register.filter
def kind_icon(job: Job) -> str:
    return KINDS[Job.Kind(job.kind)]


@register.filter
def work(job: Job) -> str:
    """What kind of work it is: Download, Export to SAELens."""
    if job.publication:
        said = job.publication.message
        return said if said.startswith("Publish") else f"Publish: {said}"
    to = f" to {format_label(job.target)}" if job.target else ""
    return f"{job.get_kind_display()}{to}"


@register.filter
def subject(job: Job) -> str:
    """What it is about: an SAE; of publishing the repository, as it may be of many."""
    return job.publication.repo_id if job.publication else job.sae.name


@register.simple_tag
def job_announcement(job: Job) -> str:
    """What a screen reader is told, when it changes: states, not bytes."""
    return f"{subject(job)}: {shown_state(job).label}. {job.error_message}".strip()


@dataclass(frozen=True)
class Way:
    """A button of a row. `slot` names a place that stays while the job changes: the focus, too."""

    icon: str
    word: str
    slot: str
    look: str = "btn-quiet"


WAYS = {
    "front": Way("arrow-bar-to-up", "To front", "also"),
    "pause": Way("player-pause", "Pause", "main"),
    "resume": Way("player-play", "Resume", "main"),
    "retry": Way("refresh", "Retry", "main", "btn btn-sm"),
    "cancel": Way("x", "Cancel", "end"),
    "clear": Way("clear-all", "Clear away", "end"),
}
BUTTON = (
    '<button class="{look} job-way" type="submit" id="{id}-{slot}" title="{word}"'
    ' formaction="{url}{query}" hx-post="{url}" hx-swap="none">{icon}'
    '<span class="{hidden}">{word}</span><span class="visually-hidden"> {name}</span></button>'
)


@register.simple_tag
def way(job: Job, verb: str, query: str = "") -> SafeString:
    """No template: a page has some hundred of these, and they would take most of its time."""
    it = WAYS[verb]
    return format_html(
        BUTTON, look=it.look, id=job.id, slot=it.slot, word=it.word, url=_steering(verb),
        query=query, icon=icon(it.icon), name=subject(job),
        hidden="visually-hidden" if it.look == "btn-quiet" else "",
    )  # fmt: skip


@cache
def _steering(verb: str) -> str:
    return reverse("saes:steer-jobs", args=[verb])


@dataclass(frozen=True)
class Part:
    """A piece of a bar, in percent of it."""

    name: str
    start: float
    width: float


@register.filter
def bar_parts(whole: Summary) -> list[Part]:
    """Ready and under way from the left, what came to nothing from the right."""
    each = 100 / max(1, whole.total)
    ready, failed, cancelled = (n * each for n in (whole.ready, whole.failed, whole.cancelled))
    return [
        Part("ready", 0, ready),
        Part("way", ready, max(0.0, whole.progress - ready)),
        Part("cancelled", 100 - failed - cancelled, cancelled),
        Part("failed", 100 - failed, failed),
    ]
