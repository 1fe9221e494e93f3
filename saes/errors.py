"""Every error a user can meet: a code, what happened to which file, and what to do next."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar


class SaeError(Exception):
    """An expected failure. `str(error)` is a sentence for the user; nothing in it is secret."""

    code: ClassVar[str] = "sae_error"
    solution: ClassVar[str] = "Try again; if it happens again, look at the details of the job."
    status: ClassVar[int] = 400

    def __init__(self, message: str, *, solution: str = "") -> None:
        super().__init__(message)
        self.next_step = solution or self.solution


# --- reading and writing formats ---------------------------------------------------------------


class NotThisFormat(SaeError):
    """The reader's "not mine": another format may still know it."""

    code = "not_this_format"
    solution = "Name the format if you know it, or check that the folder holds an SAE."
    status = 422


class UnknownFormat(SaeError):
    code = "unknown_format"
    solution = "Compare the files with the formats table in the README."
    status = 422

    def __init__(self, message: str, refusals: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.refusals = dict(refusals or {})


class ConfigNotFound(SaeError):
    """The guide's "Config file not found"."""

    code = "config_not_found"
    solution = "Check SAE format compatibility: the configuration must lie beside the weights."
    status = 422


class BrokenFile(SaeError):
    """The reader's "mine, but broken"."""

    code = "broken_file"
    solution = "Fetch the file again; if it stays broken, tell its author."
    status = 422


class UnsafeFormat(SaeError):
    code = "unsafe_format"
    solution = "Ask the author for safetensors: miStudio never runs code from a file."
    status = 422


class UnsupportedArchitecture(SaeError):
    code = "unsupported_architecture"
    solution = "Keep the files as they are; this kind of dictionary cannot be converted."
    status = 422


class CannotRepresent(SaeError):
    """The target format has no place for a field of this SAE."""

    code = "cannot_represent"
    solution = "Choose a target format that holds this field."
    status = 422


class SeveralSaes(SaeError):
    code = "several_saes"
    solution = "Name one of them."
    status = 422

    def __init__(self, message: str, found: Sequence[str]) -> None:
        super().__init__(message)
        self.found = list(found)


@dataclass(frozen=True)
class MissingFact:
    """One thing the files do not say. `readings` maps each possible value to its meaning."""

    name: str
    question: str
    readings: Mapping[str, str] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        return {"name": self.name, "question": self.question, "readings": dict(self.readings)}


class NeedsFacts(SaeError):
    """The files do not say enough, and nothing is guessed."""

    code = "needs_facts"
    solution = "Give the missing facts; nothing is downloaded again."
    status = 422

    def __init__(self, message: str, missing: Sequence[MissingFact]) -> None:
        super().__init__(message)
        self.missing = list(missing)


class BadFact(SaeError):
    """A fact the user states has a value it cannot have."""

    code = "bad_fact"
    solution = "Correct the fact, or leave it empty."
    status = 400


class DimensionMismatch(SaeError):
    """The guide's "Dimension mismatch"."""

    code = "dimension_mismatch"
    solution = "Verify that model_name matches the SAE."
    status = 422


class CertificateFailed(SaeError):
    code = "certificate_failed"
    solution = "The source files are kept. Report this SAE: its conversion is not exact."
    status = 422


class NothingFires(SaeError):
    code = "nothing_fires"
    solution = "The source files are kept. Check with the author that the SAE was trained."
    status = 422


# --- the Hub -------------------------------------------------------------------------------------


class RepositoryNotFound(SaeError):
    """The guide's "Repository not found"."""

    code = "repository_not_found"
    solution = "Check repo_id, or provide access_token if the repository is private."
    status = 404


class RevisionNotFound(SaeError):
    code = "revision_not_found"
    solution = "Leave the revision empty for the newest one, or give an existing branch or commit."
    status = 404


class PathNotFound(SaeError):
    code = "path_not_found"
    solution = "Preview the repository and choose one of the SAEs listed there."
    status = 404


class BadName(SaeError):
    code = "bad_name"
    solution = "A repository id looks like owner/name."
    status = 400


class UnsafeName(SaeError):
    code = "unsafe_name"
    solution = "Nothing was written. The repository holds names that no file may have."
    status = 422


class GatedNoToken(SaeError):
    code = "gated_no_token"
    solution = "Add a Hub token of an account that has accepted the terms."
    status = 403


class BadToken(SaeError):
    code = "bad_token"
    solution = "Make a new token on the Hub's settings page and enter it here."
    status = 401


class GatedTermsNotAccepted(SaeError):
    code = "gated_terms_not_accepted"
    solution = "Open the repository's page on the Hub, accept its terms, then try again."
    status = 403


class GatedAwaitingReview(SaeError):
    code = "gated_awaiting_review"
    solution = "The authors decide. Try again when they have answered."
    status = 403


class AccessDenied(SaeError):
    code = "access_denied"
    solution = "Use a token that may read this repository, or ask its authors for access."
    status = 403


class RateLimited(SaeError):
    """The guide's "Rate limit exceeded"."""

    code = "rate_limited"
    solution = "Wait and try again; requests with an access token have a higher limit."
    status = 429

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class HubUnreachable(SaeError):
    code = "hub_unreachable"
    solution = "Check the network, the proxy settings and HF_ENDPOINT, then try again."
    status = 502


class HubMisbehaved(SaeError):
    code = "hub_misbehaved"
    solution = "Try again later; if you use a mirror, try the Hub itself."
    status = 502


class HashMismatch(SaeError):
    code = "hash_mismatch"
    solution = "The bytes were thrown away. Retry; if it happens again, a proxy alters them."
    status = 502


class TooLarge(SaeError):
    code = "too_large"
    solution = "The file is larger than any file of its kind should be."
    status = 422


# --- this machine, this library ------------------------------------------------------------------


class DiskFull(SaeError):
    code = "disk_full"
    solution = "Free some space, then retry: what was downloaded is kept."
    status = 507


class DataMissing(SaeError):
    code = "data_missing"
    solution = "Check that the data directory is mounted and complete."
    status = 409


class Conflict(SaeError):
    code = "conflict"
    solution = "Reload the page to see the present state."
    status = 409


class AlreadyHere(SaeError):
    code = "already_here"
    solution = "Open it in the library."
    status = 409

    def __init__(self, message: str, sae_id: str) -> None:
        super().__init__(message)
        self.sae_id = sae_id


class WorkerKilled(SaeError):
    code = "worker_killed"
    solution = "It probably ran out of memory. Free some, then retry."
    status = 500
