"""A repository as a Source: names from its listing, texts and headers by small ranged reads."""

from saes import errors
from saes.formats.base import Tree
from saes.hub.client import Hub
from saes.hub.http import Interrupted, exact
from saes.hub.refs import Listing, RemoteFile

SMALL_TEXT = 2**20


class HubSource:
    def __init__(self, hub: Hub, listing: Listing) -> None:
        self._hub, self._listing = hub, listing
        self._urls: dict[str, str] = {}

    @property
    def tree(self) -> Tree:
        return self._listing.tree

    def size(self, name: str) -> int:
        return self._file(name).size

    def text(self, name: str) -> str:
        file = self._file(name)
        if file.size > SMALL_TEXT:
            raise errors.TooLarge(f"{name} has {file.size:,} bytes; a configuration has few.")
        try:
            return self.read(name, 0, file.size).decode("utf-8")
        except UnicodeDecodeError as error:
            raise errors.BrokenFile(f"{name} is not UTF-8 text.") from error

    def read(self, name: str, start: int, stop: int) -> bytes:
        file = self._file(name)
        if not 0 <= start <= stop <= file.size:
            raise errors.BrokenFile(f"{name} ends before byte {stop:,}.")
        if start == stop:
            return b""
        try:
            return self._get(file, start, stop)
        except Interrupted:
            self._urls.pop(name, None)  # a signed URL may have expired: ask for it once more
        try:
            return self._get(file, start, stop)
        except Interrupted as error:
            raise errors.HubUnreachable(f"{name} could not be read: {error}.") from error

    def _get(self, file: RemoteFile, start: int, stop: int) -> bytes:
        if file.name not in self._urls:
            self._urls[file.name] = self._hub.locate(self._listing, file)
        with self._hub.body(self._urls[file.name], start, stop) as answer:
            return b"".join(exact(answer, stop - start))

    def _file(self, name: str) -> RemoteFile:
        if name not in self._listing.files:
            raise errors.ConfigNotFound(f"Config file not found: {name} is not in the repository.")
        return self._listing.files[name]
