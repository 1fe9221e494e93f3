"""Bringing SAEs in: one, many, and again what failed; from wherever they come.

`user` is who asks; None is the server itself, such as a command on its terminal.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager

from django.contrib.auth.models import User
from django.db import transaction

from saes import admission, arrivals, jobs, roles, services, vault
from saes.arrivals import DownloadRequest, Wanted
from saes.errors import AlreadyHere
from saes.models import Batch, HubToken, Job, Sae, last_turn

A_MOMENT = 1.0  # seconds


def download(
    user: User | None,
    wanted: DownloadRequest,
    secret: str | None = None,
    *,
    previewed: bool = False,
) -> tuple[Sae, Job | None]:
    """Bring an SAE in. Asked again for one that is here, or on its way, it starts nothing.

    `secret` is a token of the Hub for this job alone; `previewed` says that repository and path
    were seen at the commit that is asked for. Raises Forbidden, BadFact, and what the Hub says.
    """
    roles.require(user, roles.ADD)
    standing = vault.of(user)
    if not previewed:
        wanted = admission.admitted(wanted, secret or vault.reveal(standing))
    with one_time(user, secret) as token:
        try:
            job = jobs.start_arrival(user, wanted, token or standing)
        except AlreadyHere as there:
            return asked_again(user, services.sae_of(there.sae_id), wanted, token)
    return services.sae_of(job.sae_id), job


def asked_again(
    user: User | None, sae: Sae, wanted: Wanted, token: HubToken | None = None
) -> tuple[Sae, Job | None]:
    """One that failed goes on, with what is stated now; any other stays as it is."""
    if sae.status != Sae.Status.ERROR:
        return sae, None
    with held(sae), transaction.atomic():
        told_more = services.give_facts(sae, wanted.stated)
        again = None
        if told_more or not sae.missing_facts:
            _take_over(sae, wanted)
            again = go_on(user, sae, token)
    return services.sae_of(sae.id), again


def _take_over(sae: Sae, wanted: Wanted) -> None:
    wanted.take_over(sae)
    sae.save(update_fields=["given_facts", "placement", "training", "trained", "downloaded_at"])


@contextmanager
def one_time(user: User | None, secret: str | None) -> Iterator[HubToken | None]:
    """A token that came with a request, for the job that it starts. If none takes it, it goes."""
    token = vault.keep_for_one_job(user, secret) if secret else None
    try:
        yield token
    finally:
        if token:
            vault.wipe_unused(token)


def download_many(
    user: User | None, wanted: Sequence[DownloadRequest], name: str, secret: str | None = None
) -> tuple[Batch | None, list[Job]]:
    """Bring many SAEs of one commit in, as one batch; those that failed before go on.

    What is in the library, or on its way, starts nothing; where that is all, there is no batch.
    The caller has seen repository and paths at this commit. Raises Forbidden.
    """
    ref = wanted[0].ref
    batch = Batch(name=name[:200], hf_repo_id=ref.id, hf_commit=ref.revision, created_by=user)
    with one_time(user, secret) as token:
        return bring_in(user, wanted, batch, token)


def bring_in(
    user: User | None, wanted: Sequence[Wanted], batch: Batch, token: HubToken | None = None
) -> tuple[Batch | None, list[Job]]:
    """The same, of SAEs from wherever. `batch` is stored where anything is started."""
    roles.require(user, roles.ADD)
    with transaction.atomic():
        made, here = arrivals.create_many(user, wanted)
        failed = [sae for sae in here if can_go_on(sae)]
        wishes = {it.row(user).identity: it for it in wanted} if failed else {}
        for sae in failed:
            _take_over(sae, wishes[str(sae.identity)])
        saes = [*made, *failed]
        if not saes:
            return None, []
        batch.save(force_insert=True)
        return batch, jobs.start_many(jobs_for(user, saes, token, batch))


def can_go_on(sae: Sae) -> bool:
    return sae.status == Sae.Status.ERROR and not sae.missing_facts


def jobs_for(
    user: User | None, saes: Sequence[Sae], token: HubToken | None, batch: Batch | None
) -> list[Job]:
    token, turn = token or vault.of(user), last_turn()
    return [
        Job(kind=_kind_of(sae), sae=sae, created_by=user, token=token, batch=batch, turn=turn + n)
        for n, sae in enumerate(saes)
    ]


def go_on(user: User | None, sae: Sae, token: HubToken | None = None) -> Job:
    (job,) = jobs_for(user, [sae], token, _batch_of(sae))
    return jobs.start(job)


def _kind_of(sae: Sae) -> Job.Kind:
    fetched = sae.downloaded_at and services.has_source(sae)
    return Job.Kind.CONVERT if fetched else jobs.arrival_of(sae)


def _batch_of(sae: Sae) -> Batch | None:
    """A batch shows one row for each SAE, however often that was retried."""
    newest = sae.newest_job
    return newest.batch if newest else None


def held(sae: Sae) -> AbstractContextManager[None]:
    """Nobody else writes below the SAE's folder meanwhile. Raises Conflict."""
    return services.library().hold(sae.id, _no_check, A_MOMENT)


def _no_check() -> None:
    """It takes a moment only."""
