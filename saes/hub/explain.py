"""What the Hub's refusals mean for a user: each one of our errors, in our words.

Where a refusal has many reasons, the Hub's own words stand behind ours, as such.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
from huggingface_hub import errors as hf_errors

from saes import errors
from saes.hub.http import FULL, ServerTrouble, origin_of

# What the client raises where an answer is not what a Hub says.
MISBEHAVIOUR = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    RecursionError,
    OverflowError,
    httpx2.InvalidURL,
)
PASSING = (408, 429)  # all other 4xx are answered the same however often one asks
MOST_WORDS = 300  # letters of the Hub's that are shown
MOST_READ = 5_000  # and looked at
_TOKEN = re.compile(r"\bhf_\w+")


@dataclass(frozen=True)
class Asked:
    """What was asked for, and whether with a token: the same answer means different things."""

    endpoint: str  # scheme and host alone: a mirror's URL may hold a password
    repo_id: str
    with_token: bool
    file: str = ""
    writes: bool = False


@contextmanager
def explained(asked: Asked) -> Iterator[None]:
    """Turns every failure of a call to the Hub into a SaeError."""
    try:
        yield
    except ServerTrouble as error:
        raise _in_trouble(asked, error.status) from error
    except hf_errors.OfflineModeIsEnabled as error:
        raise errors.Offline("miStudio is in offline mode (HF_HUB_OFFLINE).") from error
    except hf_errors.HFValidationError as error:
        raise errors.BadName(f"{asked.repo_id!r} is not a repository id.") from error
    except hf_errors.HfHubHTTPError as error:
        raise _refusal(error, asked) from error
    except httpx2.HTTPError as error:
        raise errors.HubUnreachable(f"{asked.endpoint} cannot be reached.") from error
    except MISBEHAVIOUR as error:
        raise errors.HubMisbehaved(f"{asked.endpoint} did not answer like a Hub.") from error


def _refusal(error: hf_errors.HfHubHTTPError, asked: Asked) -> errors.SaeError:
    status = error.response.status_code
    if "://".join(origin_of(str(error.response.url))) != asked.endpoint:
        return _refusal_of_store(asked, status)
    # Order matters: GatedRepoError is a RepositoryNotFoundError.
    if isinstance(error, hf_errors.GatedRepoError):
        return _gated(asked, status, str(error.server_message or error).lower())
    if isinstance(error, hf_errors.RevisionNotFoundError):
        return errors.RevisionNotFound(f"{asked.repo_id} has no such branch, tag or commit.")
    if isinstance(error, hf_errors.EntryNotFoundError):
        return errors.PathNotFound(f"{asked.repo_id} has no file {asked.file!r} at this commit.")
    if status == 401 and asked.with_token:
        return _bad_token()
    if isinstance(error, hf_errors.RepositoryNotFoundError) or status in (401, 404):
        return not_found(asked)
    return _by_status(error, status, asked)


def _by_status(error: hf_errors.HfHubHTTPError, status: int, asked: Asked) -> errors.SaeError:
    if status == 403:
        return _denied(asked, _words(error))
    if status == 409:
        return errors.Conflict(f"{asked.repo_id} exists already.")
    if status == 412:
        return errors.TargetMoved(f"Somebody else has changed {asked.repo_id} meanwhile.")
    if status == FULL or (400 <= status < 500 and status not in PASSING):
        return _refused(asked, status, _words(error))
    return _in_trouble(asked, status)


def _refusal_of_store(asked: Asked, status: int) -> errors.HubUnreachable:
    """Its 4xx pass: an address was too old, a connection too slow. Asked again, the Hub gives a
    new one."""
    return errors.HubUnreachable(
        f"The store of large files of {asked.endpoint} answered with an error ({status})."
    )


def _denied(asked: Asked, words: str) -> errors.AccessDenied:
    if not asked.writes:
        return errors.AccessDenied(f"This token may not read {asked.repo_id}.{words}")
    return errors.AccessDenied(
        f"This token may not write to {asked.repo_id}.{words}",
        solution="If it is the token's fault, use one that may: the page Hub tokens tells what "
        "each of yours is allowed, and takes another one.",
    )


def _refused(asked: Asked, status: int, words: str) -> errors.SaeError:
    if not asked.writes:
        return errors.HubMisbehaved(
            f"{asked.endpoint} refused the question about {asked.repo_id} ({status}).{words}"
        )
    what = f"`{asked.file}` for {asked.repo_id}" if asked.file else f"this for {asked.repo_id}"
    return errors.CannotPublish(f"The Hub does not take {what} ({status}).{words}")


def _words(error: hf_errors.HfHubHTTPError) -> str:
    """What the Hub says of it, quoted: a line that is not too long, without our token."""
    told = (error.server_message or "")[:MOST_READ].replace('"', "'")
    line = " ".join("".join(it if it.isprintable() else " " for it in told).split())
    sent = error.response.request.headers.get("Authorization", "").rpartition(" ")[2]
    line = _TOKEN.sub("…", line.replace(sent, "…") if sent else line)
    shown = line if len(line) <= MOST_WORDS else f"{line[: MOST_WORDS - 1]}…"
    return f' The Hub says: "{shown}"' if shown else ""


def _in_trouble(asked: Asked, status: int) -> errors.HubUnreachable:
    return errors.HubUnreachable(f"{asked.endpoint} answered with an error ({status}).")


def not_found(asked: Asked) -> errors.RepositoryNotFound:
    hidden = "with this token" if asked.with_token else "without a token"
    return errors.RepositoryNotFound(
        f"Repository not found: {asked.repo_id} does not exist, or is private and cannot be seen "
        f"{hidden}."
    )


def _bad_token() -> errors.BadToken:
    return errors.BadToken("The Hub does not know this token: it is wrong or was revoked.")


def _gated(asked: Asked, status: int, words: str) -> errors.SaeError:
    repo_id = asked.repo_id
    if not asked.with_token:
        return errors.GatedNoToken(f"{repo_id} is gated: its files need a token.")
    if status == 401:
        return _bad_token()
    if "awaiting" in words or "pending" in words:
        return errors.GatedAwaitingReview(f"Your request for {repo_id} is awaiting a review.")
    if "rejected" in words or "denied" in words:
        return errors.AccessDenied(f"The authors of {repo_id} refused your request.")
    return errors.GatedTermsNotAccepted(f"The terms of {repo_id} were not accepted yet.")
