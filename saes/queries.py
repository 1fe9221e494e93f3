"""Which SAEs of the library match: the same for the list's page, the API and the commands."""

from dataclasses import asdict, dataclass
from typing import Any

from django.db.models import Count, Prefetch, Q, QuerySet

from saes.formats.architectures import NOT_PLAIN
from saes.models import Job, Sae, Training

SEARCHED = ("name", "description", "hf_repo_id", "hf_filepath", "model_name")
SORTS = {
    "newest": ("-created_at", "-id"),
    "oldest": ("created_at", "id"),
    "name": ("name", "id"),
    "layer": ("layer", "d_sae", "id"),
    "width": ("d_sae", "layer", "id"),
    "size": ("-file_size_bytes", "id"),
}

# A traceback can be long, and a page has the jobs of a hundred SAEs.
JOBS = Prefetch("jobs", Job.objects.defer("traceback"))


@dataclass(frozen=True)
class Filters:
    """What an SAE must have. What is empty matches everything."""

    search: str = ""  # anywhere in SEARCHED
    source: str = ""
    status: str = ""
    format: str = ""
    model_name: str = ""
    model_name_part: str = ""
    architecture: str = ""
    layer: int | None = None

    def given(self) -> dict[str, Any]:
        """The filters that are on, for links that keep them."""
        return {name: value for name, value in asdict(self).items() if value not in (None, "")}


def matching(filters: Filters, sort: str = "newest") -> QuerySet[Sae]:
    """The SAEs of a list, in one of SORTS, without what no list shows."""
    found = narrowed(filters).defer("facts", "tensors", "notes", "missing_facts")
    return found.order_by(*SORTS[sort])


def narrowed(filters: Filters) -> QuerySet[Sae]:
    """SAEs and, in one query more, the jobs that tell how far each is."""
    exact = filters.given()
    text, part = exact.pop("search", ""), exact.pop("model_name_part", "")
    found = Sae.objects.filter(**exact).prefetch_related(JOBS)
    if part:
        found = found.filter(model_name__icontains=part)
    if not text:
        return found
    anywhere = Q()
    for column in SEARCHED:
        anywhere |= Q(**{f"{column}__icontains": text})
    return found.filter(anywhere)


def publishable(search: str = "") -> QuerySet[Sae]:
    """SAEs that are here in a form of ours, so that others can be made of it."""
    found = matching(Filters(search=search, status=Sae.Status.READY))
    return found.exclude(architecture__in=NOT_PLAIN)


def trainings(search: str = "", status: str = "") -> QuerySet[Training, Any]:
    """Training runs, the newest first; `imported` counts the SAEs of each in the library."""
    found = Training.objects.filter(status=status) if status else Training.objects.all()
    if search:
        anywhere = Q()
        for column in ("id", "name", "model_name"):
            anywhere |= Q(**{f"{column}__icontains": search})
        found = found.filter(anywhere)
    return found.annotate(imported=Count("saes")).order_by("-created_at", "-id")
