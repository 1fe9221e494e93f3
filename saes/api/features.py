"""The route of an SAE's features."""

from typing import Annotated, Any

from django.http import HttpRequest
from ninja import Query, Router, Schema
from pydantic import Field, StringConstraints

from saes import answers, services
from saes.api.fields import Asked
from saes.api.schemas import Pagination, problems
from saes.features import Features

router = Router(tags=["library"])


class FeaturesAsked(Asked):
    skip: int = Field(0, ge=0, le=10**7)
    limit: int = Field(50, ge=1, le=1000)
    search: Annotated[str, StringConstraints(pattern=r"^[0-9]{0,18}$")] = Field(
        "", description="The index of one feature."
    )


class Feature(Schema):
    feature_idx: int
    layer: int | None
    label: str | None
    decoder_norm: float | None
    encoder_bias: float | None
    threshold: float | None
    log_sparsity: float | None
    neuronpedia_url: str | None


class FeatureList(Schema):
    sae_id: str
    n_features: int
    features: list[Feature]
    pagination: Pagination


@router.get(
    "saes/{sae_id}/features", summary="List features",
    response={200: FeatureList, **problems(404, 409, 422)},
)  # fmt: skip
def list_features(request: HttpRequest, sae_id: str, asked: Query[FeaturesAsked]) -> Any:
    """What the weights tell of each feature, a part at a time. No label is stored here."""
    found = Features(services.sae_of(sae_id))
    matching = range(found.count)
    if asked.search:
        index = int(asked.search)
        matching = matching[index : index + 1]
    return {
        "sae_id": sae_id,
        "n_features": found.count,
        "features": found.page(matching[asked.skip : asked.skip + asked.limit]),
        "pagination": answers.pagination(asked.skip, asked.limit, len(matching)),
    }
