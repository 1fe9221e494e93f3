"""What requests may hold. Anything else is refused by name."""

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, StringConstraints, model_validator
from pydantic_core import PydanticCustomError

from saes.api.fields import (
    LINE,
    Among,
    Asked,
    Body,
    Facts,
    Line,
    Place,
    RepoId,
    Step,
    Tag,
    Text,
    Token,
    example,
)
from saes.formats import FORMATS
from saes.imports import AUTO
from saes.models import Job, Sae, Training


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


class BatchBody(Body):
    """Several SAEs of one repository: those that are named, or all."""

    model_config = example(
        repo_id="jbloom/GPT2-Small-SAEs", filepaths=["layer_5", "layer_6"], model_name="gpt2"
    )

    repo_id: RepoId
    revision: Line | None = None
    filepaths: list[Place] | None = Field(None, min_length=1, max_length=10_000)
    all: bool = False
    model_name: Line | None = None
    name: Line | None = None
    access_token: Token | None = None
    anyway: bool = False


class PairAsked(Body):
    model_config = example(layer=3, hook_type="residual")

    layer: int = Field(ge=0, le=10_000)
    hook_type: Line | None = None
    step: Step | None = None


class TrainingBody(Body):
    """SAEs of a training run: all of a step, or exactly the pairs or paths that are named."""

    model_config = example(
        training_id="train_abc123",
        name="My Trained SAE",
        description="SAE trained on custom dataset",
    )

    training_id: Annotated[Line, Field(min_length=1)]
    name: Line | None = None
    description: Text | None = None
    step: Step | None = None
    pairs: list[PairAsked] | None = Field(None, min_length=1, max_length=10_000)
    paths: list[Place] | None = Field(None, min_length=1, max_length=10_000)


class TrainingsAsked(Asked):
    skip: int = Field(0, ge=0, le=10**7)
    limit: int = Field(50, ge=1, le=100)
    search: Line = ""
    status: Annotated[str, Among(("", *Training.Status.values))] = ""


class ToUpload(Body):
    model_config = example(sae_id="sae_abc123", filepath="layer_6")

    sae_id: Annotated[Line, Field(min_length=1)]
    filepath: Place = ""


class UploadBody(Body):
    """One SAE by the guide's fields, or several in `saes`: they go up in one commit.

    `private: false` says that everybody may see them. `dry_run` tells what would happen.
    """

    model_config = example(
        sae_id="sae_abc123", repo_id="username/my-sae", filepath="layer_6", create_repo=True,
        private=False, commit_message="Initial upload", license="mit",
    )  # fmt: skip

    sae_id: Annotated[Line, Field(min_length=1)] | None = None
    saes: list[ToUpload] | None = Field(None, min_length=1, max_length=1000)
    repo_id: RepoId
    filepath: Place = ""
    access_token: Token | None = None
    token_name: Line | None = None
    create_repo: bool = True
    private: bool | None = None
    commit_message: Line | None = None
    license: Annotated[str, StringConstraints(max_length=40, pattern=r"^[a-z0-9.-]*$")] = ""
    license_name: Line | None = None  # where the license is "other"
    license_link: Line | None = None
    create_pr: bool = False
    dry_run: bool = False

    @model_validator(mode="after")
    def _refuse_both(self) -> "UploadBody":
        if (self.sae_id is None) == (self.saes is None):
            raise PydanticCustomError("one_or_several", "one or several")
        return self

    @property
    def members(self) -> list[ToUpload]:
        return self.saes or [ToUpload(sae_id=self.sae_id or "", filepath=self.filepath)]


class UploadsAsked(Asked):
    skip: int = Field(0, ge=0, le=10**7)
    limit: int = Field(50, ge=1, le=100)
    sae_id: Line = ""


class StepAsked(Asked):
    step: Step | None = None


class ImportWish(Body):
    """What imports of files have in common. `placement`: copy, link or in_place."""

    file_path: Annotated[str, StringConstraints(min_length=1, max_length=1000, pattern=LINE)]
    name: Line | None = None
    description: Text | None = None
    format: Annotated[str, Among((AUTO, *(it.slug for it in FORMATS)))] = AUTO
    model_name: Line | None = None
    placement: Annotated[str, Among(tuple(Sae.Placement.values))] = Sae.Placement.COPY
    facts: Facts = Field(default_factory=dict)


class ImportBody(ImportWish):
    model_config = example(
        file_path="/data/saes/my_sae", name="Local SAE", format="saelens", model_name="gpt2",
        layer=6,
    )  # fmt: skip

    layer: int | None = Field(None, ge=0, le=10_000)


class ImportManyBody(ImportWish):
    """Those of `filepaths`, paths below the root as a scan gives them; or all."""

    model_config = example(file_path="imports/my_saes", all=True)

    filepaths: list[Place] | None = Field(None, min_length=1, max_length=10_000)
    all: bool = False
    anyway: bool = False


class ScanAsked(Asked):
    path: Annotated[str, StringConstraints(max_length=1000, pattern=LINE)]


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
    batch_id: Line = ""


class WhichBody(Body):
    """Which jobs a wish is for: exactly one of the three."""

    model_config = example(job_ids=["job_abc123"])

    job_ids: Annotated[list[Line], Field(min_length=1, max_length=1000)] | None = None
    batch_id: Annotated[Line, Field(min_length=1)] | None = None
    all: Literal[True] | None = None

    @model_validator(mode="after")
    def _refuse_several(self) -> "WhichBody":
        if sum(it is not None for it in (self.job_ids, self.batch_id, self.all)) != 1:
            raise PydanticCustomError("which_jobs", "which jobs")
        return self


class RetryBody(Body):
    model_config = example()

    access_token: Token | None = None


def given(body: Body) -> dict[str, Any]:
    """Only the fields that were sent."""
    return body.model_dump(exclude_unset=True)
