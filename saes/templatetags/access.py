"""What pages offer to whom. A page that does not say who looks at it offers nothing."""

from django import template
from django.contrib.auth.models import User

from saes import roles
from saes.models import Job, Sae

register = template.Library()


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
    job = sae.active_job
    return steerable_by(job, viewer) if job else may_edit(viewer)


@register.filter
def role(viewer: User) -> str:
    """The most that somebody may, as the name of the group that gives it."""
    if viewer.has_perm(roles.CONTROL):
        return roles.ADMIN
    return roles.EDITOR if may_edit(viewer) else roles.VIEWER
