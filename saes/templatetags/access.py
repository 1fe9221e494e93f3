"""What pages offer to whom. A page that does not say who looks at it offers nothing."""

from django import template
from django.contrib.auth.models import User

from saes import roles
from saes.hub import Identity
from saes.models import HubToken, Job, Sae
from saes.templatetags.parts import WORKS, Shown

register = template.Library()
REFUSED = Shown("Refused", "circle-x", "bad")
NOT_TESTED = Shown("Not tested", "help-circle", "calm")


@register.filter
def may_edit(viewer: object) -> bool:
    # To roles, nobody is the server itself; to a template it is a variable that is missing.
    return isinstance(viewer, User) and roles.may_edit(viewer)


@register.filter
def seen_by(job: Job, viewer: object) -> bool:
    return isinstance(viewer, User) and roles.sees(viewer, job)


@register.filter
def steerable_by(job: Job, viewer: object) -> bool:
    return isinstance(viewer, User) and roles.may_control(viewer, job)


@register.filter
def deletable_by(sae: Sae, viewer: object) -> bool:
    """Deleting stops the job: one of somebody else has to end first."""
    at_work = sae.active_jobs
    return all(steerable_by(job, viewer) for job in at_work) if at_work else may_edit(viewer)


@register.filter
def role(viewer: User) -> str:
    """The most that somebody may, as the name of the group that gives it."""
    if viewer.has_perm(roles.CONTROL):
        return roles.ADMIN
    return roles.EDITOR if may_edit(viewer) else roles.VIEWER


@register.filter
def shown_hub_token(token: HubToken) -> Shown:
    if token.tested_at is None:
        return NOT_TESTED
    return REFUSED if token.test_error else WORKS


@register.filter
def identity(token: HubToken) -> Identity | None:
    """Whose it is by the Hub's own word, if that was asked."""
    return Identity.from_json(token.identity) if token.identity else None
