"""What requests may hold. Anything else is refused by name."""

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from ninja import Schema
from pydantic import (
    AfterValidator,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from saes.models import Job, Sae

# No control characters but line ends: PostgreSQL stores no NUL, and a terminal shows no escapes.
PLAIN = r"^[^\x00-\x08\x0b\x0c\x0e-\x1f\x7f]*$"
LINE = r"^[^\x00-\x1f\x7f]*$"
Line = Annotated[str, StringConstraints(max_length=200, pattern=LINE, strip_whitespace=True)]
Text = Annotated[str, StringConstraints(max_length=20_000, pattern=PLAIN)]
RepoId = Annotated[str, StringConstraints(min_length=1, max_length=500, pattern=LINE)]
Place = Annotated[str, StringConstraints(max_length=500, pattern=LINE)]
Token = Annotated[
    str, StringConstraints(max_length=400, pattern=r"^[!-~]*$", strip_whitespace=True)
]
Tag = Annotated[Line, Field(min_length=1, max_length=40)]
Facts = dict[str, str | int | float | bool | None]


@dataclass(frozen=True)
class Among:
    """One of these words: a Literal, of what is listed elsewhere."""

    words: tuple[str, ...]

    def __get_pydantic_core_schema__(self, kind: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.literal_schema([*self.words])


def example(**fields: Any) -> ConfigDict:
    """What the page of the documentation offers to try; the guide's own values where it has any."""
    return ConfigDict(json_schema_extra={"examples": [fields]})


class Body(Schema):
    """A JSON body. A field that is not known is a typing mistake, and is refused."""

    model_config = ConfigDict(extra="forbid")


class Asked(Schema):
    """Parameters of an address. One that is not known is refused, too."""

    @model_validator(mode="after")
    def _refuse_unknown(self, info: ValidationInfo) -> "Asked":
        request = (info.context or {})["request"]
        if unknown := set(request.GET) - set(type(self).model_fields):
            raise PydanticCustomError("unknown_parameter", "unknown", {"name": min(unknown)})
        return self


class PreviewBody(Body):
    # Without the guide's token, which no Hub knows.
    model_config = example(repo_id="jbloom/GPT2-Small-SAEs")

    repo_id: RepoId
    revision: Line | None = None
    access_token: Token | None = None


class DownloadBody(Body):
    model_config = example(
        repo_id="jbloom/GPT2-Small-SAEs",
        filepath="layer_6",
        name="GPT2 Layer 6 SAE",
        description="SAE for layer 6 residual stream",
        model_name="gpt2",
    )

    repo_id: RepoId
    filepath: Place = "."
    name: Line | None = None
    description: Text | None = None
    revision: Line | None = None
    access_token: Token | None = None
    model_name: Line | None = None
    model_id: Line | None = None
    facts: Facts = Field(default_factory=dict)


class ListAsked(Asked):
    skip: int = Field(0, ge=0, le=10**7)
    limit: int = Field(50, ge=1, le=100)
    search: Line = ""
    source: Annotated[str, Among(("", *Sae.Source.values))] = ""
    status: Annotated[str, Among(("", *Sae.Status.values))] = ""
    model_name: Line = ""
    sort_by: Literal[
        "created_at", "updated_at", "downloaded_at", "name", "status", "source", "model_name",
        "layer", "n_features", "d_model", "file_size_bytes",
    ] = "created_at"  # fmt: skip
    order: Literal["asc", "desc"] = "desc"


def _once_each(tags: list[str]) -> list[str]:
    return list(dict.fromkeys(tags))


class EditBody(Body):
    model_config = example(name="GPT2 Layer 6 SAE", tags=["baseline"], facts={"model_name": "gpt2"})

    name: Annotated[Line, Field(min_length=1)] | None = None
    description: Text | None = None
    notes: Text | None = None
    tags: Annotated[list[Tag], Field(max_length=50), AfterValidator(_once_each)] | None = None
    facts: Facts | None = None


class DeleteAsked(Asked):
    delete_files: bool = True


class DeleteBody(Body):
    model_config = example(sae_ids=["sae_abc123"], delete_files=True)

    sae_ids: list[Line] = Field(min_length=1, max_length=1000)
    delete_files: bool = True


class JobsAsked(Asked):
    skip: int = Field(0, ge=0, le=10**7)
    limit: int = Field(50, ge=1, le=100)
    state: Annotated[str, Among(("", *Job.State.values))] = ""
    kind: Annotated[str, Among(("", *Job.Kind.values))] = ""
    sae_id: Line = ""


class RetryBody(Body):
    model_config = example()

    access_token: Token | None = None


def given(body: Body) -> dict[str, Any]:
    """Only the fields that were sent."""
    return body.model_dump(exclude_unset=True)
