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

    def details(self) -> dict[str, Any]:
        """What a program may want beside the sentence: what is missing, what there is instead."""
        return {}

    def to_json(self) -> dict[str, Any]:
        """The one form of errors in answers of the API and of commands."""
        said = {"detail": str(self), "code": self.code, "solution": self.next_step}
        return said | self.details()


def all_errors() -> list[type[SaeError]]:
    """Every kind of error, in the order of this file."""
    return SaeError.__subclasses__()


def markdown() -> str:
    """Every error as a table: the README's."""
    head = "| code | HTTP | when | what to do |\n|---|---|---|---|\n"
    return head + "".join(
        f"| `{kind.code}` | {kind.status} | {kind.__doc__} | {kind.solution} |\n"
        for kind in all_errors()
    )


# --- reading and writing formats ---------------------------------------------------------------


class NotThisFormat(SaeError):
    """The files are of another format than the one that was named."""

    code = "not_this_format"
    solution = "Name the format if you know it, or check that the folder holds an SAE."
    status = 422


class UnknownFormat(SaeError):
    """No format knows these files."""

    code = "unknown_format"
    solution = "Compare the files with the formats table in the README."
    status = 422

    def __init__(self, message: str, refusals: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.refusals = dict(refusals or {})

    def details(self) -> dict[str, Any]:
        return {"refusals": self.refusals} if self.refusals else {}


class ConfigNotFound(SaeError):
    """The guide's "Config file not found": weights without their configuration."""

    code = "config_not_found"
    solution = "Check SAE format compatibility: the configuration must lie beside the weights."
    status = 422


class BrokenFile(SaeError):
    """A file is damaged, cut short or contradicts itself."""

    code = "broken_file"
    solution = "Fetch the file again; if it stays broken, tell its author."
    status = 422


class UnsafeFormat(SaeError):
    """Reading the file would mean to run code from it."""

    code = "unsafe_format"
    solution = "Ask the author for safetensors: miStudio never runs code from a file."
    status = 422


class UnsupportedArchitecture(SaeError):
    """No plain dictionary: it can be kept, not converted."""

    code = "unsupported_architecture"
    solution = "Keep the files as they are; this kind of dictionary cannot be converted."
    status = 422


class CannotRepresent(SaeError):
    """The target format has no place for a field of this SAE."""

    code = "cannot_represent"
    solution = "Choose a target format that holds this field."
    status = 422


class SeveralSaes(SaeError):
    """There are several SAEs at this place."""

    code = "several_saes"
    solution = "Name one of them."
    status = 422

    def __init__(self, message: str, found: Sequence[str]) -> None:
        super().__init__(message)
        self.found = list(found)

    def details(self) -> dict[str, Any]:
        return {"found": self.found}


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

    def details(self) -> dict[str, Any]:
        return {"missing_facts": [fact.to_json() for fact in self.missing]}


class BadFact(SaeError):
    """A fact the user states has a value it cannot have, or cannot apply."""

    code = "bad_fact"
    solution = "Correct the fact, or leave it empty."
    status = 400


class DimensionMismatch(SaeError):
    """The guide's "Dimension mismatch": the model and the SAE do not fit each other."""

    code = "dimension_mismatch"
    solution = "Verify that model_name matches the SAE."
    status = 422


class CertificateFailed(SaeError):
    """The conversion does not compute what its source computes."""

    code = "certificate_failed"
    solution = "The source files are kept. Report this SAE: its conversion is not exact."
    status = 422


class NothingFires(SaeError):
    """No feature answers to any input, so nothing could be compared."""

    code = "nothing_fires"
    solution = "The source files are kept. Check with the author that the SAE was trained."
    status = 422


# --- the Hub -------------------------------------------------------------------------------------


class RepositoryNotFound(SaeError):
    """The guide's "Repository not found": it does not exist, or is private."""

    code = "repository_not_found"
    solution = "Check repo_id, or provide access_token if the repository is private."
    status = 404


class RevisionNotFound(SaeError):
    """The repository has no such branch, tag or commit."""

    code = "revision_not_found"
    solution = "Leave the revision empty for the newest one, or give an existing branch or commit."
    status = 404


class PathNotFound(SaeError):
    """The repository holds no SAE, or no file, at this path."""

    code = "path_not_found"
    solution = "Preview the repository and choose one of the SAEs listed there."
    status = 404


class BadName(SaeError):
    """This is not the name of a repository or revision."""

    code = "bad_name"
    solution = "A repository id looks like owner/name."
    status = 400


class UnsafeName(SaeError):
    """A name that no file may have, or that leads out of its folder."""

    code = "unsafe_name"
    solution = "Nothing was written. Rename the file, or ask whoever gave it this name to."
    status = 422


class GatedNoToken(SaeError):
    """The repository is gated, and no token was sent."""

    code = "gated_no_token"
    solution = "Add a Hub token of an account that has accepted the terms."
    status = 403


class BadToken(SaeError):
    """The Hub does not know the token, or it cannot be read any more."""

    code = "bad_token"
    solution = "Make a new token on the Hub's settings page and enter it here."
    status = 401


class GatedTermsNotAccepted(SaeError):
    """The terms of the repository were not accepted by the token's owner."""

    code = "gated_terms_not_accepted"
    solution = "Open the repository's page on the Hub, accept its terms, then try again."
    status = 403


class GatedAwaitingReview(SaeError):
    """The authors of the repository have not answered yet."""

    code = "gated_awaiting_review"
    solution = "The authors decide. Try again when they have answered."
    status = 403


class AccessDenied(SaeError):
    """The token may not read this repository."""

    code = "access_denied"
    solution = "Use a token that may read this repository, or ask its authors for access."
    status = 403


class RateLimited(SaeError):
    """The guide's "Rate limit exceeded", of the Hub or of this server."""

    code = "rate_limited"
    solution = "Wait and try again; requests with an access token have a higher limit."
    status = 429

    def __init__(
        self, message: str, retry_after: float | None = None, *, solution: str = ""
    ) -> None:
        super().__init__(message, solution=solution)
        self.retry_after = retry_after


class HubUnreachable(SaeError):
    """The Hub cannot be reached, or is in trouble."""

    code = "hub_unreachable"
    solution = "Check the network, the proxy settings and HF_ENDPOINT, then try again."
    status = 502


class Offline(SaeError):
    """This server was told not to use the network."""

    code = "offline"
    solution = "Unset HF_HUB_OFFLINE and start miStudio again, or import files from this machine."
    status = 503


class HubMisbehaved(SaeError):
    """The Hub, or a mirror, answers what no Hub answers."""

    code = "hub_misbehaved"
    solution = "Try again later; if you use a mirror, try the Hub itself."
    status = 502


class BadCard(SaeError):
    """The README of a repository cannot be read, or the Hub refuses its front matter."""

    code = "bad_card"
    solution = "Correct README.md in the repository, then rehearse again."
    status = 422


class TargetMoved(SaeError):
    """The repository that is published to is not as it was rehearsed."""

    code = "target_moved"
    solution = "Rehearse again and look at what would change now."
    status = 409


class WrongVisibility(SaeError):
    """Public and private: the repository is not what was asked for, or nobody confirmed it."""

    code = "wrong_visibility"
    solution = "Say who may see it: by API, `private: false` confirms that everybody may."
    status = 409


class CannotPublish(SaeError):
    """What was asked for cannot be published: the token, the path or the SAE does not allow it."""

    code = "cannot_publish"
    solution = "Correct what the message names, then rehearse again."
    status = 422


class NotAsSent(SaeError):
    """After the commit, the repository does not hold what was sent."""

    code = "not_as_sent"
    solution = "Look at the repository on the Hub; retry to send it again."
    status = 502


class HashMismatch(SaeError):
    """The bytes that came are not those that the Hub lists."""

    code = "hash_mismatch"
    solution = "The bytes were thrown away. Retry; if it happens again, a proxy alters them."
    status = 502


class TooLarge(SaeError):
    """A file is larger than any file of its kind should be."""

    code = "too_large"
    solution = "The file is larger than any file of its kind should be."
    status = 422


class PackedTooDeep(TooLarge):
    """What is asked for lies far inside a compressed file: it is known once that is unpacked."""

    solution = "Import it: the files are looked at again once they are unpacked."


# --- this machine, this library ------------------------------------------------------------------


class DiskFull(SaeError):
    """The disk has no room for what is still to be written."""

    code = "disk_full"
    solution = "Free some space, then retry: what was downloaded is kept."
    status = 507


class DataMissing(SaeError):
    """Files are not in the data directory, or not as they were recorded."""

    code = "data_missing"
    solution = "Check that the data directory is mounted and complete."
    status = 409


class DataAway(DataMissing):
    """The data directory as a whole is away: nothing is known of its files, and nothing is done."""

    solution = "Mount its disk, then try again: nothing was changed."


class OutsideRoots(SaeError):
    """The path is in none of the folders that may be imported from, whether it exists or not."""

    code = "outside_roots"
    solution = (
        "Put the files into one of the import folders, or let whoever runs this server add their "
        "folder to MISTUDIO_IMPORT_ROOTS."
    )
    status = 400


class CannotLink(SaeError):
    """Two disks cannot share a file, so there is no hard link."""

    code = "cannot_link"
    solution = "Import it as a copy, or leave it in place."
    status = 409


class SourceChanged(SaeError):
    """Files that were left in place are not any more what they were."""

    code = "source_changed"
    solution = "Import the folder again: what is there now becomes an SAE of its own."
    status = 409


class TrainingNotCompleted(SaeError):
    """A training run gives its SAEs away when it is completed, not before."""

    code = "training_not_completed"
    solution = "Wait until the run is completed, or register it with the status that it has now."
    status = 400


class Conflict(SaeError):
    """Something else happened first, or is happening now."""

    code = "conflict"
    solution = "Reload the page to see the present state."
    status = 409


class WrongOffset(Conflict):
    """A piece of an upload that does not begin where the last one ended."""

    solution = "Go on from there."

    def __init__(self, here: int) -> None:
        super().__init__(f"The next piece has to begin at byte {here:,}.")
        self.here = here

    def details(self) -> dict[str, Any]:
        return {"here": self.here}


class AlreadyHere(SaeError):
    """This very SAE is in the library."""

    code = "already_here"
    solution = "Open it in the library."
    status = 409

    def __init__(self, message: str, sae_id: str, *, solution: str = "") -> None:
        super().__init__(message, solution=solution)
        self.sae_id = sae_id

    def details(self) -> dict[str, Any]:
        return {"sae_id": self.sae_id}


class NotReady(SaeError):
    """It needs an SAE that is ready, and this one is not."""

    code = "not_ready"
    solution = "Wait until its status is ready; after an error, retry it."
    status = 409


class NotExported(SaeError):
    """The SAE was not converted to the format that is asked for."""

    code = "not_exported"
    solution = "Convert it to this format first, then try again."
    status = 409


class Cancelled(SaeError):
    """Somebody cancelled the job."""

    code = "cancelled"
    solution = "Retry to start it again."
    status = 409


class Crashed(SaeError):
    """A bug. Its user gets a reference, the log of the server has the rest."""

    code = "crashed"
    solution = "Retry; if it happens again, report the reference."
    status = 500


class Busy(SaeError):
    """The database is busy, for longer than a request may wait."""

    code = "busy"
    solution = "Try again in a few seconds."
    status = 503


class WorkerKilled(SaeError):
    """The process of the job was killed, again and again."""

    code = "worker_killed"
    solution = "It probably ran out of memory. Free some, then retry."
    status = 500


# --- asking: the API, commands and pages ---------------------------------------------------------


class NotSignedIn(SaeError):
    """Nobody is signed in."""

    code = "not_signed_in"
    solution = "Sign in, or send an API token as `Authorization: Bearer …`."
    status = 401


class BadApiToken(SaeError):
    """The API token is wrong, has expired or was revoked."""

    code = "bad_api_token"
    solution = "Make a new token on the page API tokens, or by `manage.py create_api_token`."
    status = 401


class Forbidden(SaeError):
    """The role, or the API token, does not allow it."""

    code = "forbidden"
    solution = "Ask an administrator for the role of an editor, or use a token that may write."
    status = 403


class CsrfFailed(SaeError):
    """A request of a browser's session came without its CSRF token."""

    code = "csrf_failed"
    solution = "Send the CSRF token of the session as X-CSRFToken, or use an API token."
    status = 403


class NotFound(SaeError):
    """There is no such SAE, job or page, or none that may be seen."""

    code = "not_found"
    solution = "Check the address; what was deleted does not come back."
    status = 404


class NotAllowed(SaeError):
    """The address does not take this method."""

    code = "method_not_allowed"
    solution = "The header Allow names the methods of this address."
    status = 405


class BadRequest(SaeError):
    """A parameter of the address, or the request as a whole, is wrong."""

    code = "bad_request"
    solution = "Correct the request; /api/v1/docs says what it may hold."
    status = 400


class BadRange(SaeError):
    """A part of a file that lies behind its end."""

    code = "bad_range"
    solution = "Ask for bytes before the end; Content-Range says where that is."
    status = 416


class BadBody(SaeError):
    """The body of the request is wrong."""

    code = "bad_body"
    solution = "Correct the body; /api/v1/docs says what it may hold."
    status = 422


class KeyReused(SaeError):
    """An Idempotency-Key that belongs to another request."""

    code = "key_reused"
    solution = "Take a new Idempotency-Key for each new request."
    status = 422
