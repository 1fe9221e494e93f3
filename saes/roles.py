"""Who may do what: viewers read, editors change and delete, admins also reach others' jobs.

Roles are Django groups; what a group may do are its permissions, which the admin can change.
"""

from django.contrib.auth.models import Group, Permission, User
from django.db.models import QuerySet

from saes.errors import Forbidden, NotFound
from saes.models import Batch, Job, JobQuerySet, Publication, Upload

ADD, EDIT, DELETE = "saes.add_sae", "saes.change_sae", "saes.delete_sae"
CONTROL = "saes.control_any_job"
VIEWER, EDITOR, ADMIN = "viewer", "editor", "admin"
_READS = {"view_sae", "view_saefile", "view_job", "view_training"}
_CHANGES = {
    "add_sae", "change_sae", "delete_sae", "change_job", "add_training", "change_training",
}  # fmt: skip
PERMISSIONS = {
    VIEWER: _READS,
    EDITOR: _READS | _CHANGES,
    ADMIN: _READS | _CHANGES | {"control_any_job", "delete_training"}
    | {f"{verb}_{it}" for it in ("apitoken", "hubtoken") for verb in ("view", "delete")},
}  # fmt: skip


def make_groups() -> None:
    """The three groups. One that is there already is an administrator's, and is left alone.

    Rights to what is new in a later version come to it by a migration, once.
    """
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
    return controlled(user, Job.objects.all())


def controlled(user: User | None, jobs: JobQuerySet) -> JobQuerySet:
    """Those that are not somebody else's; for admins all of them."""
    return jobs if user is None or user.has_perm(CONTROL) else jobs.filter(created_by=user)


def job_for(user: User, job_id: str) -> Job:
    """A job that this user may see. Raises NotFound: that of somebody else is not told apart."""
    job = visible_jobs(user).select_related("sae", "created_by").filter(id=job_id).first()
    if job is None:
        raise NotFound(f"There is no job {job_id!r} of yours.")
    return job


def batch_for(user: User, batch_id: str) -> Batch:
    """A batch of this user, or with jobs that they may see. Raises NotFound."""
    batch = Batch.objects.select_related("created_by").filter(id=batch_id).first()
    if batch is None or not _sees_batch(user, batch):
        raise NotFound(f"There is no batch {batch_id!r} of yours.")
    return batch


def _sees_batch(user: User, batch: Batch) -> bool:
    mine = batch.created_by_id == user.pk or user.has_perm(CONTROL)
    return mine or visible_jobs(user).filter(batch=batch).exists()


def visible_publications(user: User | None) -> QuerySet[Publication]:
    """One's own; for admins all: others' may be in repositories that nobody else knows of."""
    found = Publication.objects.prefetch_related("saes", "jobs").defer("seen", "sent")
    return found if user is None or user.has_perm(CONTROL) else found.filter(created_by=user)


def publication_for(user: User | None, publication_id: str) -> Publication:
    """Raises NotFound: those of somebody else are not told apart."""
    known = publication_id.isprintable()  # else PostgreSQL would be asked for NULs
    found = visible_publications(user).filter(id=publication_id).first() if known else None
    if found is None:
        raise NotFound(f"There is no publication {publication_id[:50]!r} of yours.")
    return found


def upload_for(user: User | None, upload_id: str) -> Upload:
    """An upload of this user; admins see all. Raises NotFound: others' are not told apart."""
    found = Upload.objects.select_related("created_by").filter(id=upload_id).first()
    mine = found and (user is None or found.created_by_id == user.pk or user.has_perm(CONTROL))
    if found is None or not mine:
        raise NotFound(f"There is no upload {upload_id[:50]!r} of yours.")
    return found
