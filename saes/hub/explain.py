"""What the Hub's refusals mean for a user: each one of our errors, in our words."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import httpx2
from huggingface_hub import errors as hf_errors

from saes import errors
from saes.hub.http import ServerTrouble

MAY_PASS = (408, 425, 429)  # statuses of 4xx after which asking again may help
MOST_WORDS = 300  # letters
TOKEN = re.compile(r"hf_\w+")
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
    if status == 403:
        return _denied(asked, _words_of(error))
    if status == 409:
        return errors.Conflict(f"{asked.repo_id} exists already.")
    if status == 412:
        return errors.TargetMoved(f"Somebody else has changed {asked.repo_id} meanwhile.")
    if 400 <= status < 500 and status not in MAY_PASS:
        return _refused(asked, status, _words_of(error))
    return _in_trouble(asked, status)


def _denied(asked: Asked, words: str) -> errors.AccessDenied:
    if not asked.writes:
        return errors.AccessDenied(f"This token may not read {asked.repo_id}.{words}")
    return errors.AccessDenied(
        f"The Hub does not let this token write to {asked.repo_id}.{words}",
        solution="If it is the token, use another one: the page Hub tokens tells what each of "
        "yours may.",
    )


def _refused(asked: Asked, status: int, words: str) -> errors.SaeError:
    """For a reason that asking again does not change."""
    what = f"{asked.endpoint} refuses this request ({status}).{words}"
    if asked.writes:
        return errors.CannotPublish(what, solution="Change what the Hub names, then retry.")
    return errors.HubMisbehaved(what)


def _words_of(error: hf_errors.HfHubHTTPError) -> str:
    """The Hub's own words, on one line, marked as such; nothing where it says none."""
    words = "".join(c if c.isprintable() else " " for c in error.server_message or "")
    words = TOKEN.sub("hf_…", " ".join(words.split()))
    cut = f"{words[:MOST_WORDS]}…" if len(words) > MOST_WORDS else words
    return f" The Hub says: “{cut}”" if cut else ""


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
