"""The fields that requests are made of, and what every body and every address keeps to."""

from dataclasses import dataclass
from typing import Annotated, Any

from ninja import Schema
from pydantic import (
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    StringConstraints,
    ValidationInfo,
    model_validator,
)
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

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
Step = Annotated[int, Field(ge=0, le=2**31 - 1)]
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
