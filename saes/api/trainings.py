"""Routes of training runs: what there is, what a run holds, importing of it."""

from datetime import datetime
from typing import Any

from django.http import HttpRequest
from ninja import Query, Router, Schema, Status

from saes import answers, picking, queries, trainings
from saes.api.access import EDIT, who
from saes.api.idempotency import DOCUMENTED, idempotent
from saes.api.requests import StepAsked, TrainingBody, TrainingsAsked
from saes.api.schemas import POSTED, Brought, Pagination, problems
from saes.errors import BadBody
from saes.picking import Choice, Held, Pair

router = Router(tags=["trainings"])


class TrainingAnswer(Schema):
    """A training run; `imported` counts its SAEs in the library."""

    id: str
    name: str
    status: str
    model_name: str | None
    datasets: list[str]
    hyperparameters: dict[str, Any]
    current_step: int | None
    total_steps: int | None
    final_loss: float | None
    final_l0: float | None
    started_at: datetime | None
    completed_at: datetime | None
    created_at: datetime
    imported: int


class TrainingList(Schema):
    data: list[TrainingAnswer]
    pagination: Pagination


@router.get("trainings", summary="List training runs", response={200: TrainingList, **problems()})
def list_trainings(request: HttpRequest, asked: Query[TrainingsAsked]) -> Any:
    """Runs of this server, the newest first, a part at a time."""
    trainings.scan()
    found = queries.trainings(asked.search, asked.status)
    page = found[asked.skip : asked.skip + asked.limit]
    data = [answers.of_training(it, it.imported) for it in page]
    return answers.page(data, asked.skip, asked.limit, found.count())


@router.get(
    "trainings/{training_id}", summary="Get a training run",
    response={200: TrainingAnswer, **problems(404)},
)  # fmt: skip
def get_training(request: HttpRequest, training_id: str) -> Any:
    training = trainings.training_of(training_id)
    return answers.of_training(training, training.saes.count())


class Available(Schema):
    """One SAE of a run. `sae_id`: the one that was imported from its place."""

    layer: int | None
    hook_type: str | None
    step: int | None
    size_bytes: int
    form: str
    format: str
    path: str
    status: str
    sae_id: str | None


class AvailableAnswer(Schema):
    """`steps` to choose from; `data`: SAEs of one `step`; `exports`: beside them, by path alone."""

    training_id: str
    name: str
    step: int | None
    steps: list[int]
    data: list[Available]
    exports: list[Available]


@router.get(
    "saes/training/{training_id}/available", summary="What a training run holds",
    response={200: AvailableAnswer, **problems(404, 409, 422)},
)  # fmt: skip
def available(request: HttpRequest, training_id: str, asked: Query[StepAsked]) -> Any:
    """The SAEs of a completed run: of its last step, unless another is asked for."""
    run = picking.look(trainings.training_of(training_id), asked.step)
    return {
        "training_id": run.training.id,
        "name": run.training.name,
        "step": run.step,
        "steps": run.steps,
        "data": [_told(it) for it in run.saes],
        "exports": [_told(it) for it in run.exports],
    }


def _told(held: Held) -> dict[str, Any]:
    item, sae = held.item, held.sae
    return {
        "layer": item.layer,
        "hook_type": item.hook or None,
        "step": item.step,
        "size_bytes": item.size,
        "form": item.form,
        "format": item.format,
        "path": item.where,
        "status": "available" if held.can_begin else "imported",
        "sae_id": sae.id if sae else None,
    }


@router.post(
    "saes/import/training", auth=EDIT, summary="Import SAEs of a training run",
    openapi_extra=DOCUMENTED,
    response={200: Brought, 202: Brought, **problems(404, 507, *POSTED)},
)  # fmt: skip
@idempotent
def import_training(request: HttpRequest, body: TrainingBody) -> Any:
    """Each becomes an SAE of its own. 200 without a batch where all of them are here already.

    All of the run's last step, or of `step`; of those, exactly the `pairs` or `paths` where any
    are named.
    """
    if body.pairs and body.paths:
        raise BadBody("Give either 'pairs' or 'paths'.")
    training = trainings.training_of(body.training_id)
    brought = picking.bring_in(
        who(request), training, _choice(body), body.name or "", body.description or ""
    )
    told = answers.of_brought(brought.batch, brought.jobs, brought.here)
    return Status(202 if brought.batch else 200, told)


def _choice(body: TrainingBody) -> Choice:
    pairs = [Pair(it.layer, it.hook_type, it.step) for it in body.pairs or []]
    return Choice(body.step, pairs, body.paths or [])
