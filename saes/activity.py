"""What goes on: jobs in the order in which people want to see them, and batches as a whole."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import Count, Exists, OuterRef, Q, Sum

from saes.models import Batch, Job, JobQuerySet, SaeFile
from saes.progress import Stage

State = Job.State
FAILED = (State.FAILED, State.CRASHED)
ENDED = (State.DONE, *FAILED, State.CANCELLED)
# In this order, and each of them in its own. What has ended is one: the newest end comes first.
SECTIONS: dict[str, tuple[State, ...]] = {
    "running": (State.RUNNING,),
    "paused": (State.PAUSED,),
    "waiting": (State.QUEUED,),
    "finished": ENDED,
}
SHOWN: dict[str, tuple[State, ...]] = {
    "all": (*Job.ACTIVE, *ENDED),
    "active": Job.ACTIVE,
    "failed": FAILED,
    "finished": ENDED,
}
# What no row shows, and can be long.
LONG = (
    "traceback", "sae__facts", "sae__given_facts", "sae__tensors", "sae__certificate",
    "sae__missing_facts", "sae__description", "sae__notes", "publication__seen",
    "publication__sent",
)  # fmt: skip


def rows_of(jobs: JobQuerySet) -> JobQuerySet:
    """With all that a row shows, in one query."""
    return jobs.select_related("sae", "created_by", "batch", "publication").defer(*LONG)


def counts(jobs: JobQuerySet) -> dict[str, int]:
    """How many there are in each state."""
    found = dict(jobs.order_by().values_list("state").annotate(n=Count("*")))
    return {state: found.get(state, 0) for state in State.values}


class InOrder:
    """Jobs as the page shows them: a sequence that reads only the part that is asked for."""

    def __init__(self, jobs: JobQuerySet, states: Sequence[str], there: dict[str, int]) -> None:
        self._jobs, self._there = jobs, there
        self._sections = {
            name: [state for state in of if state in states] for name, of in SECTIONS.items()
        }

    def __len__(self) -> int:
        return sum(map(self._count, self._sections))

    def _count(self, section: str) -> int:
        return sum(self._there[state] for state in self._sections[section])

    def __getitem__(self, part: slice) -> list[tuple[str, int, list[Job]]]:
        """Sections of this part: the name, how many it has in all, its jobs in this part."""
        start, stop, found = part.start, part.stop, []
        for name in self._sections:
            count = self._count(name)
            if max(0, start) < min(count, stop):
                found.append((name, count, self._read(name, max(0, start), stop)))
            start, stop = start - count, stop - count
        return found

    def _read(self, section: str, start: int, stop: int) -> list[Job]:
        """First which, then what: thousands of whole rows would be sorted for these few."""
        ids = list(self._sorted(section).values_list("id", flat=True)[start:stop])
        rows = rows_of(Job.objects.filter(id__in=ids)).in_bulk()
        return [rows[it] for it in ids if it in rows]

    def _sorted(self, section: str) -> JobQuerySet:
        jobs = self._jobs.filter(state__in=self._sections[section])
        if section == "waiting":
            return jobs.in_turn()
        order = {"running": ("started_at", "id"), "paused": ("turn", "id")}
        return jobs.order_by(*order.get(section, ("-ended_at", "-id")))


def wished(verb: str, ids: Sequence[str] | None = None, batch_id: str = "") -> JobQuerySet:
    """The jobs that a wish for many is about: those that are named, else all that are shown.

    Of all, only what failed is retried: what was cancelled was not wanted.
    """
    if ids is not None:
        return Job.objects.filter(id__in=ids)
    jobs = Job.objects.filter(listed=True)
    if batch_id:
        jobs = jobs.filter(batch=batch_id)
    return jobs.filter(state__in=FAILED) if verb == "retry" else jobs


def retryable(jobs: JobQuerySet) -> int:
    """How many failed and may do better the next time; those that miss facts first need them."""
    return jobs.filter(state__in=FAILED).exclude(error_code="needs_facts").count()


# --- batches --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """A batch as a whole: each of its SAEs once, by its newest job."""

    states: dict[str, int]
    progress: float  # percent of the way that all of them have to go
    bytes_done: int
    bytes_total: int
    unknown: int  # so many have not said yet how large they are

    @property
    def total(self) -> int:
        return sum(self.states.values())

    @property
    def ready(self) -> int:
        return self.states[State.DONE]

    @property
    def failed(self) -> int:
        return sum(self.states[state] for state in FAILED)

    @property
    def cancelled(self) -> int:
        return self.states[State.CANCELLED]

    @property
    def waiting(self) -> int:
        return self.states[State.QUEUED]


# Their bytes are those of the download; of what came further, the files on disk tell.
_LOADS = Q(kind=Job.Kind.DOWNLOAD, stage__in=("", Stage.LOOKING, Stage.DOWNLOADING))
_WANTED = ~Q(state__in=(State.DONE, State.CANCELLED))


def summary(batch: Batch, jobs: JobQuerySet) -> Summary:
    """Of those jobs of the batch that are among `jobs`."""
    later = Job.objects.filter(
        sae=OuterRef("sae"), batch=OuterRef("batch"), created_at__gt=OuterRef("created_at")
    )
    newest = jobs.filter(~Exists(later), batch=batch).order_by()
    told = newest.aggregate(
        way=Sum("progress", filter=Q(state__in=Job.ACTIVE), default=0),
        done=Sum("bytes_done", filter=_LOADS & _WANTED, default=0),
        total=Sum("bytes_total", filter=_LOADS & _WANTED, default=0),
        unknown=Count("id", filter=_LOADS & Q(bytes_total=0, state__in=Job.ACTIVE)),
    )
    return _summed(counts(newest), told, _fetched(newest.exclude(_LOADS & ~Q(state=State.DONE))))


def _fetched(jobs: JobQuerySet) -> int:
    """Bytes of source files that are whole."""
    saes = jobs.exclude(state=State.CANCELLED).values("sae_id")
    files = SaeFile.objects.filter(kind=SaeFile.Kind.SOURCE, sae__in=saes)
    return int(files.aggregate(size=Sum("size", default=0))["size"])


def _summed(states: dict[str, int], told: dict[str, Any], fetched: int) -> Summary:
    whole = max(1, sum(states.values()))
    return Summary(
        states,
        progress=(100 * states[State.DONE] + told["way"]) / whole,
        bytes_done=told["done"] + fetched,
        bytes_total=told["total"] + fetched,
        unknown=told["unknown"],
    )
