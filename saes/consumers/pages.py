"""`/ws/pages/`: the socket says what a row says now, as the very fragment that pages show.

It carries no deltas: on connect and after a nudge the row is read again.
"""

from collections import defaultdict, deque
from collections.abc import Callable
from functools import partial
from urllib.parse import parse_qs

from channels.db import database_sync_to_async
from django.contrib.auth.models import User
from django.template.loader import render_to_string

from saes import activity, roles
from saes.consumers.frames import NONSENSE, HangUp
from saes.consumers.live import LiveConsumer
from saes.errors import BadRequest
from saes.models import Job, Sae
from saes.recorder import group_of

MOST_WATCHED = 100
PAUSE = 0.2  # seconds between two rounds: a card is drawn five times a second at most
Draw = Callable[[User], str]


class PageConsumer(LiveConsumer):
    """`/ws/pages/?sae=ID&job=ID&publication=ID`: fragments of these SAEs' cards, of these jobs'
    rows and of the live parts of these publications."""

    async def begin(self) -> None:
        query = parse_qs(self.scope["query_string"].decode("latin-1"))
        saes, jobs = _named(query.get("sae", [])), _named(query.get("job", []))
        # What is drawn when there is news of an SAE: its card, the rows of its jobs.
        self.drawn: dict[str, list[Draw]] = defaultdict(list)
        for sae_id in await database_sync_to_async(_existing)(saes):
            self.drawn[sae_id].append(partial(_card, sae_id))
        for job_id, sae_id in await database_sync_to_async(_visible)(jobs, self.user):
            self.drawn[sae_id].append(partial(_row, job_id))
        named = _named(query.get("publication", []))
        for publication_id, sae_id in await database_sync_to_async(_followed)(named, self.user):
            self.drawn[sae_id].append(partial(_publication, publication_id))
        # Groups first: what changes between the first look and the subscription is not missed.
        for sae_id in self.drawn:
            await self.join(group_of(sae_id))
        self.watch.look_at(self.drawn)
        self.wake.set()

    async def receive(self, text_data: str | None = None, bytes_data: bytes | None = None) -> None:
        await self.hang_up(HangUp(NONSENSE, BadRequest("Pages say nothing on this socket.")))

    async def round(self) -> float:
        due = deque(self.watch.take_due(MOST_WATCHED))
        try:
            while due and not self.ended:
                for draw in self.drawn[due[0]]:
                    await self._send(draw)
                due.popleft()
        finally:
            self.watch.look_at(due)  # what could not be read or sent
        return PAUSE

    async def _send(self, draw: Draw) -> None:
        await self.room()
        fragment = await database_sync_to_async(_counted)(draw, self.user)
        if not self.ended:
            await self.send(text_data=fragment)


def _named(ids: list[str]) -> list[str]:
    printable = [it for it in ids if it.isprintable()]  # no NUL
    return list(dict.fromkeys(printable))[:MOST_WATCHED]


def _existing(sae_ids: list[str]) -> list[str]:
    return list(Sae.objects.filter(id__in=sae_ids).values_list("id", flat=True))


def _visible(job_ids: list[str], viewer: User) -> list[tuple[str, str]]:
    """Jobs that they may see, each with its SAE."""
    jobs = roles.visible_jobs(viewer).filter(id__in=job_ids)
    return list(jobs.values_list("id", "sae_id"))


def _followed(publication_ids: list[str], viewer: User) -> list[tuple[str, str]]:
    """Publications that they may see, each with the SAE that its jobs are of: the first one."""
    rows = roles.visible_publications(viewer).filter(id__in=publication_ids)
    firsts = {it.id: [str(row.sae_id) for row in it.saes.all() if row.sae_id] for it in rows}
    return [(publication_id, found[0]) for publication_id, found in firsts.items() if found]


def _card(sae_id: str, viewer: User) -> str:
    sae = Sae.objects.filter(id=sae_id).first()
    if sae is None:
        return render_to_string("saes/card.html#gone", {"sae_id": sae_id, "oob": True})
    return render_to_string("saes/card.html#card", {"sae": sae, "oob": True, "viewer": viewer})


def _row(job_id: str, viewer: User) -> str:
    """Whether they may see it is asked anew: a role may have been taken away since."""
    job: Job | None = activity.rows_of(roles.visible_jobs(viewer)).filter(id=job_id).first()
    if job is None:
        return render_to_string("saes/job.html#gone", {"job_id": job_id, "oob": True})
    return render_to_string("saes/job.html#row", {"job": job, "oob": True, "viewer": viewer})


def _counted(draw: Draw, viewer: User) -> str:
    """With it, how many jobs are at work: the main navigation says so on every page."""
    told = {"viewer": viewer, "oob": True}
    return draw(viewer) + render_to_string("saes/nav_count.html", told)


def _publication(publication_id: str, viewer: User) -> str:
    found = roles.visible_publications(viewer).filter(id=publication_id).first()
    if found is None:
        told = {"publication_id": publication_id, "oob": True}
        return render_to_string("saes/publication_live.html#gone", told)
    told = {"publication": found, "oob": True, "viewer": viewer}
    return render_to_string("saes/publication_live.html#live", told)
