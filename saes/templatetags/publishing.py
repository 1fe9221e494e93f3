"""What pages say of rehearsals and publications."""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from django import template
from django.contrib.auth.models import User
from django.db.models import QuerySet

from saes import parcels, roles, services
from saes.errors import SaeError
from saes.events import upload_status
from saes.models import Job, Publication, Published, Sae
from saes.parcels import README
from saes.rehearsal import LICENSES, Action, Change, Rehearsal
from saes.templatetags.parts import CANCELLED, Shown, quarter
from saes.tending import native_size

register = template.Library()
MOST_LISTED = 10

# --- a rehearsal ----------------------------------------------------------------------------------

ACTIONS = {
    Action.NEW: Shown("New", "plus", "good"),
    Action.CHANGED: Shown("Changed", "pencil", "ask"),
    Action.IDENTICAL: Shown("Identical", "equal", "calm"),
    Action.COMPARED: Shown("Compared once made", "clock", "busy"),
}


@dataclass
class Folder:
    """Files of one folder of the repository; of the card, which lies at its top, the name ''."""

    name: str
    changes: list[Change] = field(default_factory=list)


@register.filter
def by_folder(changes: Sequence[Change]) -> list[Folder]:
    found: dict[str, Folder] = {}
    for it in changes:
        name = it.name.rpartition("/")[0]
        found.setdefault(name, Folder(name)).changes.append(it)
    return sorted(found.values(), key=lambda folder: folder.name != "")


@register.filter
def file_name(change: Change) -> str:
    return change.name.rpartition("/")[2]


@register.filter
def action(change: Change) -> Shown:
    return ACTIONS[change.action]


@register.filter
def counted(changes: Sequence[Change]) -> list[tuple[Shown, int]]:
    """How many files of each kind there are."""
    numbers = [(it, sum(change.action == it for change in changes)) for it in Action]
    return [(ACTIONS[it], number) for it, number in numbers if number]


@register.filter
def to_send(changes: Sequence[Change]) -> int:
    """Bytes that go to the Hub at most: what its store has already is not sent again."""
    sent = (it.size for it in changes if it.action in (Action.NEW, Action.CHANGED))
    return sum(size or 0 for size in sent)


@register.filter
def changes_card(told: Rehearsal) -> bool:
    """Whether a README that is there becomes another one."""
    changed = any(it.name == README and it.action == Action.CHANGED for it in told.changes)
    return changed and bool(told.target.readme.strip())


MOST_PAPERS = 20


@dataclass(frozen=True)
class Papers:
    """The texts that are sent beside the weights of an SAE, by their names."""

    folder: str
    texts: dict[str, str]


@register.simple_tag
def papers(told: Rehearsal, saes: Sequence[Sae]) -> list[Papers]:
    """Of the first SAEs. `cfg.json` is there once the SAELens form is made."""
    return [_papers(told, sae) for sae in saes[:MOST_PAPERS]]


def _papers(told: Rehearsal, sae: Sae) -> Papers:
    folder, rows = told.wish.folders[sae.id], parcels.export_of(sae)
    passport = json.dumps(told.passports[folder], indent=2, ensure_ascii=False)
    texts = {parcels.PASSPORT: passport}
    if rows:
        path = services.library().home(sae.id) / rows[parcels.CONFIG].path
        texts[parcels.CONFIG] = path.read_text()
    return Papers(folder, texts)


register.filter("native_bytes", native_size)


@register.filter
def license_name(slug: str) -> str:
    return LICENSES.get(slug, slug)


# --- publications ---------------------------------------------------------------------------------

STATUSES = {
    "pending": Shown("Queued", "clock", "calm"),
    "paused": Shown("Paused", "player-pause", "calm"),
    "converting": Shown("Converting", "transform", "busy"),
    "uploading": Shown("Uploading", "world-upload", "busy"),
    "verifying": Shown("Verifying", "fingerprint", "busy"),
    "ready": Shown("Published", "circle-check", "good"),
    "proposed": Shown("Proposed", "git-pull-request", "good"),
    "error": Shown("Failed", "alert-triangle", "bad"),
}


@register.filter
def latest(publication: Publication) -> Job | None:
    """Its newest job, without a query where they were prefetched."""
    return next(iter(publication.jobs.all()), None)


@register.filter
def standing(publication: Publication) -> Shown:
    """Its jobs go with the SAE that they belong to; what was verified stays so."""
    if publication.verified_at:
        return STATUSES["proposed" if publication.pull_request else "ready"]
    job = latest(publication)
    if job is None:
        return STATUSES["error"]
    return CANCELLED if job.state == Job.State.CANCELLED else STATUSES[upload_status(job)]


@register.simple_tag
def announced(publication: Publication) -> str:
    """What a screen reader is told. It changes with the state, and at each quarter of the way."""
    job, look = latest(publication), standing(publication)
    told = f"{publication.repo_id}: {look.label}"
    if job is None or not job.is_active:
        went_wrong = job and look is STATUSES["error"]
        return f"{told}. {job.error_message}" if job and went_wrong else f"{told}."
    return told + quarter(job)


@register.filter
def any_active(publications: Iterable[Publication]) -> bool:
    return any(job.is_active for it in publications if (job := latest(it)))


@register.filter
def any_moves(uploads: Iterable[Published]) -> bool:
    return any_active(row.publication for row in uploads)


# What a retry alone does not help against.
ASKS_ANEW = {
    "target_moved", "wrong_visibility", "cannot_publish", "bad_card", "access_denied",
    "repository_not_found",
}  # fmt: skip


@register.filter
def asks_anew(code: str) -> bool:
    return code in ASKS_ANEW


@register.filter
def what(publication: Publication) -> str:
    """Its SAEs in a word: the folder of one, or how many there are."""
    folders = [it.folder for it in publication.saes.all()]
    return folders[0] if len(folders) == 1 else f"{len(folders):,} SAEs"


@register.filter
def web(url: str) -> str:
    """An address that somebody may follow; nothing where it is none of the web."""
    return url if url.startswith(("https://", "http://")) else ""


@register.filter
def can_be_published(sae: Sae) -> bool:
    try:
        parcels.refuse(sae)
    except SaeError:
        return False
    return True


@register.simple_tag
def uploads_of(sae: Sae, viewer: User) -> QuerySet[Published]:
    """Where this SAE was published, as far as this viewer may know."""
    seen = roles.visible_publications(viewer)
    rows = Published.objects.filter(sae=sae, publication__in=seen.values("id"))
    rows = rows.select_related("publication__created_by").prefetch_related("publication__jobs")
    return rows.order_by("-publication__created_at")[:MOST_LISTED]
