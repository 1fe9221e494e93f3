"""Sending files to a repository: their bytes first, then one commit that names them.

The client speaks the protocol. What it cannot say (how far it is), and may not do (sleep, send a
token to a store, hash again what has a hash), is done by the file that it reads from.
"""

import io
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

import huggingface_hub as hf
from huggingface_hub.lfs import UploadInfo

from saes import errors
from saes.progress import Stopped
from saes.safe_names import why_unsafe

if TYPE_CHECKING:
    from saes.hub.client import Hub

SAMPLE = 512  # bytes that the Hub looks at
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
        if isinstance(self.content, bytes):
            return io.BytesIO(self.content)
        return self.content.open("rb")


@dataclass(frozen=True)
class Committed:
    commit: str
    url: str
    pull_request: str = ""  # its address


class Reading(io.BufferedIOBase):
    """The file as the client reads it: says how far that is, and ends when it is to end."""

    def __init__(self, file: BinaryIO, over: threading.Event) -> None:
        super().__init__()
        self._file, self._over = file, over

    @property
    def done(self) -> int:
        return 0 if self._file.closed else self._file.tell()

    def read(self, size: int | None = -1, /) -> bytes:
        if self._over.is_set():
            raise Stopped
        return self._file.read(-1 if size is None else size)

    def seek(self, offset: int, whence: int = io.SEEK_SET, /) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._file.close()
        super().close()


class Addition(hf.CommitOperationAdd):
    """A file of the commit, whose hash is known and which is read as it is sent."""

    reading: Reading

    def __post_init__(self) -> None:
        """Instead of the client's own, which reads the whole file for its hash."""

    @classmethod
    def of(cls, file: Outgoing, over: threading.Event) -> "Addition":
        if (why := why_unsafe(file.name)) or ".git" in file.name.casefold().split("/"):
            raise errors.UnsafeName(f"{file.name!r} is not sent: {why or 'it is of git itself'}.")
        reading = Reading(file.open(), over)
        made = cls(file.name, cast(BinaryIO, reading))
        made.reading = reading
        sample = reading.read(SAMPLE)
        reading.seek(0)
        made.upload_info = UploadInfo(file.size, sample, bytes.fromhex(file.sha256))
        return made


class Shipment:
    """Files on their way into one commit of a repository's main branch, or a pull request to it.

    Use it as a context: that closes the files. `stop()` may be called by another thread.
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
        for addition in self._additions:
            addition.reading.close()

    def stop(self) -> None:
        self._over.set()

    def done(self, number: int) -> int:
        """Bytes of a file that were read to be sent."""
        return self._additions[number].reading.done

    def send(self, number: int) -> None:
        """Bring a file into the Hub's store of large files, if that is where it belongs and it is
        not there yet. Nothing of it shows before the commit.

        Raises what the Hub says, and Stopped.
        """
        addition = self._additions[number]
        addition.reading.seek(0)
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
        return Committed(made.oid, made.commit_url, made.pr_url or "")


@contextmanager
def _unwrapped() -> Iterator[None]:
    """The client's warnings are for terminals, and it wraps what reading or sending raised."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except RuntimeError as error:
            raise error.__cause__ or error from None
