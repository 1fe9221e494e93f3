"""Who may do what: viewers read, editors change and delete, admins also reach others' jobs.

Roles are Django groups; what a group may do are its permissions, which the admin can change.
"""

from django.contrib.auth.models import Group, Permission, User

from saes.errors import Forbidden, NotFound
from saes.models import Job, JobQuerySet

ADD, EDIT, DELETE = "saes.add_sae", "saes.change_sae", "saes.delete_sae"
CONTROL = "saes.control_any_job"
VIEWER, EDITOR, ADMIN = "viewer", "editor", "admin"
_READS = {"view_sae", "view_saefile", "view_job"}
_CHANGES = {"add_sae", "change_sae", "delete_sae", "change_job"}
PERMISSIONS = {
    VIEWER: _READS,
    EDITOR: _READS | _CHANGES,
    ADMIN: _READS | _CHANGES | {"control_any_job"}
    | {f"{verb}_{it}" for it in ("apitoken", "hubtoken") for verb in ("view", "delete")},
}  # fmt: skip


def make_groups() -> None:
    """The three groups. One that is there already is an administrator's, and is left alone."""
    for name, codenames in PERMISSIONS.items():
        group, made = Group.objects.get_or_create(name=name)
        if made:
            found = Permission.objects.filter(
                content_type__app_label="saes", codename__in=codenames
            )
            group.permissions.set(found)


def may_edit(user: User | None) -> bool:
    """Nobody is the server itself: a worker, a command."""
    return user is None or user.has_perm(EDIT)


def require_edit(user: User | None) -> None:
    require(user, EDIT)


def require(user: User | None, permission: str) -> None:
    """Raises Forbidden."""
    if user is not None and not user.has_perm(permission):
        raise Forbidden(
            "Viewers may look at the library, not change it.",
            solution="Ask an administrator for the role of an editor.",
        )


def sees(user: User | None, job: Job) -> bool:
    """Jobs of others are out of reach, but for admins."""
    return user is None or job.created_by_id == user.pk or user.has_perm(CONTROL)


def may_control(user: User | None, job: Job) -> bool:
    return sees(user, job) and may_edit(user)


def require_control(user: User | None, job: Job) -> None:
    require_edit(user)
    if not sees(user, job):
        raise Forbidden(
            "Somebody else started this job.",
            solution="Ask them or an administrator, or wait until it has ended.",
        )


def visible_jobs(user: User) -> JobQuerySet:
    return Job.objects.all() if user.has_perm(CONTROL) else Job.objects.filter(created_by=user)


def job_for(user: User, job_id: str) -> Job:
    """A job that this user may see. Raises NotFound: that of somebody else is not told apart."""
    job = visible_jobs(user).select_related("sae", "created_by").filter(id=job_id).first()
    if job is None:
        raise NotFound(f"There is no job {job_id!r} of yours.")
    return job
