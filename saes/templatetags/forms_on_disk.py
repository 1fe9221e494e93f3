"""The forms of an SAE as its page offers them: what is there, what is being made, what failed."""

from dataclasses import dataclass

from django import template

from saes import bundles
from saes.bundles import Bundle
from saes.models import Job, Sae

register = template.Library()


@dataclass(frozen=True)
class Form:
    bundle: Bundle
    job: Job | None  # the newest that made it, or should have

    @property
    def is_working(self) -> bool:
        return self.job is not None and self.job.is_active

    @property
    def failure(self) -> Job | None:
        """The job that failed, where nothing came after it. Cancelling was a wish, no failure."""
        failed = self.job is not None and self.job.state in (Job.State.FAILED, Job.State.CRASHED)
        return self.job if failed else None


@register.simple_tag
def forms_of(sae: Sae) -> list[Form]:
    exports = sae.jobs.filter(kind=Job.Kind.EXPORT).order_by("created_at", "id")
    newest = {job.target: job for job in exports}
    return [Form(bundle, newest.get(bundle.format)) for bundle in bundles.bundles_of(sae)]


@register.filter
def any_working(forms: list[Form]) -> bool:
    return any(form.is_working for form in forms)


@register.filter
def any_whole(forms: list[Form]) -> bool:
    return any(form.bundle.whole for form in forms)
