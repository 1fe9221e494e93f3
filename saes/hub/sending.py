"""Sending files to a repository: their bytes first, then one commit that names them.

The client speaks the protocol. What it cannot say (how far it is), and may not do (sleep, send a
token to a store, read a file once more for its hash), is done by the file that it reads from.
"""

import hashlib
import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import huggingface_hub as hf
from huggingface_hub._commit_api import _fetch_upload_modes
from huggingface_hub.lfs import UploadInfo, post_lfs_batch_info

from saes import errors
from saes.hub.network import without_user
from saes.progress import Stopped
from saes.safe_names import why_unsafe

if TYPE_CHECKING:
    from saes.hub.client import Hub

SAMPLE = 512  # bytes that the Hub looks at
AT_ONCE = 256  # files that the Hub is asked about in one request
SENDING_SECONDS = 7 * 24 * 3600.0  # of one file; a connection that stalls ends long before
COMMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Outgoing:
    """One file to send: its name in the repository, its bytes or where they lie, and its hash."""

    name: str
    content: bytes | Path
    size: int
    sha256: str

    def open(self) -> BinaryIO:
        """Raises DataMissing."""
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        try:
            return self.content.open("rb")
        except FileNotFoundError as error:
            raise _changed(self.name) from error


@dataclass(frozen=True)
class Committed:
    commit: str
    url: str
    pull_request: str = ""  # its address


class Reading(io.BufferedIOBase):
    """The file as the client reads it, open only meanwhile: a commit may name thousands.

    Says how far that is, ends when it is to end, and gives the last bytes only of a file that has
    the hash by which it is told to the Hub.
    """

    def __init__(self, file: Outgoing, over: threading.Event) -> None:
        super().__init__()
        self._told, self._over = file, over
        self._file: BinaryIO | None = None
        self._hash, self._hashed = hashlib.sha256(), 0
        self.done = 0  # where the client is

    def read(self, size: int | None = -1, /) -> bytes:
        if self._over.is_set():
            raise Stopped
        piece = self._opened().read(-1 if size is None else size)
        self._prove(piece)
        self.done += len(piece)
        return piece

    def _prove(self, piece: bytes) -> None:
        """Parts that are sent again are not hashed again."""
        self._hash.update(piece[self._hashed - self.done :] if self.done <= self._hashed else b"")
        self._hashed = max(self._hashed, self.done + len(piece))
        is_end = self._hashed >= self._told.size or not piece
        if is_end and self._hash.hexdigest() != self._told.sha256:
            raise _changed(self._told.name)

    def _opened(self) -> BinaryIO:
        if self._file is None:
            self._file = self._told.open()
        return self._file

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        self.done = self._opened().seek(offset, whence)
        return self.done

    def tell(self) -> int:
        return self.done

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def let_go(self) -> None:
        if self._file:
            self._file.close()
        self._file, self.done = None, 0


def _changed(name: str) -> errors.DataMissing:
    return errors.DataMissing(
        f"`{name}` is not on the disk as it was converted.",
        solution="Retry: it is converted anew.",
    )


class Addition(hf.CommitOperationAdd):
    """A file of the commit, whose hash is known and which is read as it is sent."""

    reading: Reading

    def __post_init__(self) -> None:
        """Instead of the client's own, which reads the whole file for its hash."""

    @classmethod
    def of(cls, file: Outgoing, over: threading.Event) -> "Addition":
        if (why := why_unsafe(file.name)) or ".git" in file.name.casefold().split("/"):
            raise errors.UnsafeName(f"{file.name!r} is not sent: {why or 'it is of git itself'}.")
        reading = Reading(file, over)
        made = cls(file.name, cast(BinaryIO, reading))
        made.reading = reading
        with file.open() as opened:
            sample = opened.read(SAMPLE)
        made.upload_info = UploadInfo(file.size, sample, bytes.fromhex(file.sha256))
        return made

    @contextmanager
    def as_file(self, with_tqdm: bool = False) -> Iterator[BinaryIO]:
        try:
            yield cast(BinaryIO, self.reading)
        finally:
            self.reading.let_go()

    @property
    def is_large(self) -> bool:
        """Whether it goes to the store of large files; else its bytes are part of the commit."""
        return self._upload_mode == "lfs"


class Shipment:
    """Files on their way into one commit of a repository's main branch, or a pull request to it.

    Use it as a context: what another thread still sends then ends. `stop()` may be called by
    another thread. First prepare(), then send() each, then commit().
    """

    def __init__(
        self, hub: "Hub", repo_id: str, files: Sequence[Outgoing], *, as_pull_request: bool
    ) -> None:
        self._hub, self._repo_id, self._as_pull_request = hub, repo_id, as_pull_request
        self._over = threading.Event()
        self._additions = [Addition.of(file, self._over) for file in files]

    def __enter__(self) -> "Shipment":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def stop(self) -> None:
        self._over.set()

    def done(self, number: int) -> int:
        """Bytes of a file that were read to be sent."""
        return self._additions[number].reading.done

    def prepare(self) -> None:
        """Ask which files belong into the store, and which of those it holds already: a question
        for many files, as the Hub counts questions.

        Raises CannotPublish where the repository's .gitignore names a file, and what the Hub says.
        """
        for first in range(0, len(self._additions), AT_ONCE):
            some = self._additions[first : first + AT_ONCE]
            with self._hub.writing(self._repo_id, COMMIT_SECONDS), _unwrapped():
                self._ask_modes(some)
                self._refuse_ignored(some)
                self._ask_store([it for it in some if it.is_large])

    def _ask_modes(self, additions: list[Addition]) -> None:
        _fetch_upload_modes(
            additions=additions, repo_type="model", repo_id=self._repo_id,
            headers=self._headers, revision="main", endpoint=self._hub.endpoint,
            create_pr=self._as_pull_request,
        )  # fmt: skip

    def _refuse_ignored(self, additions: Sequence[Addition]) -> None:
        if ignored := [it.path_in_repo for it in additions if it._should_ignore]:
            raise errors.CannotPublish(
                f"The .gitignore of {self._repo_id} keeps `{ignored[0]}` out of it.",
                solution="Change that .gitignore on the Hub, or publish to another folder.",
            )

    def _ask_store(self, large: Sequence[Addition]) -> None:
        """Of what it has, the store tells no way to bring it."""
        if not large:
            return
        answers, _, _ = post_lfs_batch_info(
            [it.upload_info for it in large], None, "model", self._repo_id,
            endpoint=self._hub.endpoint, headers=self._headers,
        )  # fmt: skip
        there = {answer["oid"] for answer in answers if not answer.get("actions")}
        for addition in large:
            addition._is_uploaded = addition.upload_info.sha256.hex() in there

    @property
    def _headers(self) -> dict[str, str]:
        return self._hub.api._build_hf_headers()

    def send(self, number: int) -> None:
        """Bring a file into the Hub's store of large files, if that is where it belongs and it is
        not there yet. Nothing of it shows before the commit.

        Raises what the Hub says, DataMissing for a file that changed on the disk, and Stopped.
        """
        addition = self._additions[number]
        if not addition.is_large or addition._is_uploaded:
            return
        with self._hub.writing(self._repo_id, SENDING_SECONDS, addition.path_in_repo), _unwrapped():
            self._hub.api.preupload_lfs_files(
                self._repo_id, [addition], create_pr=self._as_pull_request, free_memory=False
            )

    def commit(self, message: str, description: str, parent: str) -> Committed:
        """Raises TargetMoved where `parent` is not the newest commit any more, and what the Hub
        says. Where the answer is lost, the commit may be there all the same: see
        Hub.commits_after().
        """
        with self._hub.writing(self._repo_id, COMMIT_SECONDS), _unwrapped():
            made = self._hub.api.create_commit(
                self._repo_id, self._additions, commit_message=message,
                commit_description=description, parent_commit=parent,
                create_pr=self._as_pull_request,
            )  # fmt: skip
        return Committed(made.oid, without_user(made.commit_url), without_user(made.pr_url or ""))


@contextmanager
def _unwrapped() -> Iterator[None]:
    """The client's warnings are for terminals, and it wraps what reading or sending raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except RuntimeError as error:
            raise error.__cause__ or error from None
