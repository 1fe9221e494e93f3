"""Asking to publish: rehearse, confirm, start; and again what failed.

`user` is who asks; None is the server itself, such as a command on its terminal.
"""

import re
from collections.abc import Sequence

from django.contrib.auth.models import User
from django.db import transaction

from saes import jobs, rehearsal, roles, services, vault
from saes.bringing import one_time
from saes.drafting import Wish
from saes.errors import CannotPublish, Conflict, NotFound, TargetMoved, WrongVisibility
from saes.hub import RepoRef
from saes.models import HubToken, Job, Publication, Published, Sae
from saes.rehearsal import Rehearsal

PATIENCE = 20.0  # seconds that somebody waits for each answer of the Hub


def wish_for(saes: Sequence[Sae], repo: str, folders: Sequence[str] = (), **wanted: object) -> Wish:
    """`folders`: one for each SAE, in their order; empty ones are named by us.

    Raises BadName and CannotPublish.
    """
    ref = RepoRef.parse(repo)
    if len(folders) > len(saes):
        raise CannotPublish(f"{len(folders)} folders are named for {len(saes)} SAE(s).")
    if ref.type != "model":
        raise CannotPublish(f"{ref.id} is a dataset; SAEs are published to models.")
    named = [*folders, *[""] * (len(saes) - len(folders))]
    taken = {folder for folder in named if folder}
    places: dict[str, str] = {}
    for sae, folder in zip(saes, named, strict=True):
        places[sae.id] = folder.strip("/") or _free(sae, taken)
        taken.add(places[sae.id])
    return Wish(ref.id, places, **wanted)  # type: ignore[arg-type]


def folder_for(sae: Sae) -> str:
    """Where people look for it: its hook, else its layer, else its name."""
    if sae.hook_name:
        return _plain(sae.hook_name)
    if sae.layer is not None:
        return _plain(f"layer_{sae.layer}" + (f"_{sae.hook_type}" if sae.hook_type else ""))
    return _plain(sae.name)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]+", "-", text).strip("-.")[:100] or "sae"


def _free(sae: Sae, taken: set[str]) -> str:
    """Several of one hook differ in their width, else in their name."""
    first = folder_for(sae)
    for folder in (first, f"{first}/width_{sae.d_sae}", f"{first}/{_plain(sae.name)}"):
        if folder not in taken:
            return folder
    return f"{first}/{sae.id}"


# --- rehearsing and starting ----------------------------------------------------------------------


def rehearse(
    user: User | None, saes: Sequence[Sae], wish: Wish, token: HubToken | str | None = None
) -> Rehearsal:
    """`token`: which one of the vault; or one that was given for this; else the usual one.

    Raises Forbidden, CannotPublish, NotReady, CannotRepresent, BadCard and what the Hub says.
    """
    roles.require_edit(user)
    rehearsal.refuse_wrong(saes, wish)
    secret = token if isinstance(token, str) else vault.reveal(token or vault.of(user))
    if not secret:
        raise CannotPublish(
            "Publishing needs a token of the Hub that may write.",
            solution="Add one on the page Hub tokens, or send it with the request.",
        )
    return rehearsal.rehearse(saes, wish, services.hub_with(secret, patience=PATIENCE))


def publish(
    user: User | None,
    saes: Sequence[Sae],
    wish: Wish,
    token: HubToken | str | None = None,
    *,
    confirmed: bool = False,
    digest: str | None = None,
) -> tuple[Rehearsal, Job | None]:
    """Start what was rehearsed; no job where all of it is there already.

    `confirmed`: that everybody may see it; `digest`: of the rehearsal that somebody saw, where they
    saw one.

    Raises what rehearse() raises, what speaks against it, WrongVisibility without a confirmation,
    TargetMoved where the rehearsal has another outcome now, Conflict during another job.
    """
    told = rehearse(user, saes, wish, token)
    told.refuse()
    if digest is not None and digest != told.digest:
        raise TargetMoved(f"{wish.repo_id} or the SAEs have changed since this was rehearsed.")
    if told.nothing_to_do:
        return told, None
    if told.public and not confirmed:
        raise WrongVisibility(f"Everybody could see what is published to {wish.repo_id}.")
    with one_time(user, token if isinstance(token, str) else None) as given:
        standing = token if isinstance(token, HubToken) else vault.of(user)
        return told, _started(user, saes, told, given or standing)


@transaction.atomic
def _started(
    user: User | None, saes: Sequence[Sae], told: Rehearsal, token: HubToken | None
) -> Job:
    wish = told.wish
    row = Publication.objects.create(
        repo_id=wish.repo_id, creates=told.creates, public=told.public,
        makes_public=told.makes_public or (told.creates and told.public), license=wish.license,
        license_name=wish.license_name, license_link=wish.license_link,
        message=wish.title, as_pull_request=wish.as_pull_request, seen=told.seen,
        account=told.account, created_by=user,
    )  # fmt: skip
    Published.objects.bulk_create(
        Published(
            publication=row, sae=sae, name=sae.name, folder=wish.folders[sae.id],
            digest=told.pins[sae.id],
        )
        for sae in saes
    )  # fmt: skip
    return jobs.start_publication(user, row, saes[0], token)


def again(user: User | None, job: Job, token: HubToken | None = None) -> Job:
    """Go on with a publication that failed or was cancelled, with the token that it was confirmed
    with, or with this one. Raises Conflict, NotFound, CannotPublish."""
    row = Publication.objects.filter(id=job.publication_id).first()
    first = row.saes.exclude(sae=None).first() if row else None
    if row is None or first is None or first.sae is None:
        raise NotFound("What was to be published is gone.")
    if row.verified_at:
        raise Conflict("It is published, and was verified.")
    if row.jobs.active().exists():
        raise Conflict("Another job publishes it already.")
    if token is None and job.token is None:
        raise CannotPublish(
            "The token that this was confirmed with is gone.",
            solution="Rehearse again with another one.",
        )
    return jobs.start_publication(user, row, first.sae, token or job.token)
