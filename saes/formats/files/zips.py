"""The table of contents of a zip (npz, PyTorch checkpoint), by ranged reads.

A member is what the central directory says; its own header, in front of its bytes, is asked only
where it begins, and must agree. Nothing is unpacked here.
"""

import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass, replace

from saes.errors import BrokenFile, TooLarge, UnsafeFormat
from saes.formats.base import Source
from saes.formats.files.containers import MAX_TENSORS, ZIP, broken, is_pickle

END, ENTRY = b"PK\x05\x06", b"PK\x01\x02"
END64, LOCATOR64 = b"PK\x06\x06", b"PK\x06\x07"
END_SIZE, ENTRY_SIZE, LOCAL_SIZE, END64_SIZE, LOCATOR_SIZE = 22, 46, 30, 56, 20
MAX_DIRECTORY = 4 << 20
MAX_INFLATED = 64 << 30
DEFLATE_RATIO = 1032  # what deflate can reach at best
STORED, DEFLATED = 0, 8
STREAMED = 0x0008  # sizes follow the bytes, so that a gap of unknown length is behind them
HARMLESS = 0x0806 | STREAMED  # UTF-8 names, how hard it was compressed
PLAIN = (0, stat.S_IFREG, stat.S_IFDIR)
PART = re.compile(r"[^/\\\x00]{1,255}")


@dataclass(frozen=True)
class Entry:
    """One member of the zip `file`. Places count from the beginning of the file."""

    file: str
    name: str
    size: int
    stored: int  # bytes it takes in the file
    start: int  # of its own header
    stop: int  # the next member's header begins here
    crc: int
    deflated: bool
    streamed: bool

    def content(self, source: Source) -> int:
        """Where its bytes begin, by its own header, which must agree with the directory."""
        stop = self.start + LOCAL_SIZE + len(self.name.encode())
        return self.content_in(source.read(self.file, self.start, stop))

    def content_in(self, head: bytes) -> int:
        """The same, for who has read the header."""
        name = self.name.encode()
        flags, method, length = (_number(head, place, 2) for place in (6, 8, 26))
        agrees = head[LOCAL_SIZE:].startswith(name) and length == len(name)
        good = (
            agrees and flags & ~HARMLESS == 0 and method == (DEFLATED if self.deflated else STORED)
        )
        if not head.startswith(ZIP) or not good:
            raise broken(self.file, f"holds {self.name}, of which it tells two different things")
        begin = self.start + LOCAL_SIZE + length + _number(head, 28, 2)
        if begin + self.stored > self.stop:
            raise broken(self.file, f"places {self.name} over another member")
        return begin

    def likely_content(self, source: Source) -> int:
        """The same without a read, where nothing can lie between its bytes and the next header."""
        return self.content(source) if self.streamed else self.stop - self.stored


def read_zip(source: Source, name: str, start: int = 0) -> Mapping[str, Entry]:
    """Members by name, in the order of the file. `start` is where the zip begins in the file."""
    size = source.size(name) - start
    if size < END_SIZE:
        raise broken(name, f"has only {max(0, size)} bytes: it is not a zip archive")
    end = _end(source, name, start, size)
    directory = source.read(name, start + end.start, start + end.start + end.size)
    entries = _entries(name, directory, end, start)
    _check_sizes(name, entries)
    return entries


def _number(data: bytes, start: int, width: int) -> int:
    return int.from_bytes(data[start : start + width], "little")


@dataclass(frozen=True)
class _End:
    """Where the central directory lies in the zip, and how many entries it has."""

    start: int
    size: int
    count: int


def _end(source: Source, name: str, start: int, size: int) -> _End:
    at = size - END_SIZE
    tail = source.read(name, start + at, start + size)
    if not tail.startswith(END) or tail[20:] != b"\0\0":
        at, tail = _end_before_comment(source, name, start, size)
    end = _End(_number(tail, 16, 4), _number(tail, 12, 4), _number(tail, 10, 2))
    if end.start + end.size != at:
        end, at = _end64(source, name, start, at, end)
    counts = (_number(tail, 4, 4), _number(tail, 8, 2))  # of several volumes; on this one
    if end.start + end.size != at or counts not in ((0, end.count), (0, 0xFFFF)):
        raise broken(name, "has a damaged table of contents")
    if not 0 < end.count <= MAX_TENSORS or end.size > MAX_DIRECTORY:
        raise broken(name, f"should hold 1 to {MAX_TENSORS:,} members")
    return end


def _end_before_comment(source: Source, name: str, start: int, size: int) -> tuple[int, bytes]:
    first = source.read(name, start, start + len(ZIP))
    if first != ZIP:
        raise _not_a_zip(name, first)
    begin = max(0, size - END_SIZE - 0xFFFF)
    tail = source.read(name, start + begin, start + size)
    found = tail.rfind(END)
    if found < 0 or found + END_SIZE + _number(tail, found + 20, 2) != len(tail):
        raise broken(name, "is cut off: its table of contents is missing")
    return begin + found, tail[found : found + END_SIZE]


def _not_a_zip(name: str, first: bytes) -> BrokenFile | UnsafeFormat:
    if is_pickle(first):
        return UnsafeFormat(f"`{name}` is a Python pickle under another name. It was not opened.")
    return broken(name, "is no zip archive")


def _end64(source: Source, name: str, start: int, at: int, end: _End) -> tuple[_End, int]:
    """The wide end record. PyTorch writes one always, and the numbers must then be the same."""
    wide = END64_SIZE + LOCATOR_SIZE
    tail = source.read(name, start + max(0, at - wide), start + at)
    record, locator = tail[:END64_SIZE], tail[END64_SIZE:]
    if not locator.startswith(LOCATOR64) or not record.startswith(END64):
        raise broken(name, "has a damaged table of contents")
    found = _End(_number(record, 48, 8), _number(record, 40, 8), _number(record, 32, 8))
    narrow = (
        (end.start, found.start, 0xFFFFFFFF),
        (end.size, found.size, 0xFFFFFFFF),
        (end.count, found.count, 0xFFFF),
    )
    if any(small not in (large, full) for small, large, full in narrow):
        raise broken(name, "has two tables of contents that contradict each other")
    volumes = _number(record, 16, 8), _number(record, 24, 8)
    if volumes != (0, found.count) or _number(locator, 8, 8) != at - wide:
        raise broken(name, "has a damaged table of contents")
    return found, at - wide


def _entries(name: str, directory: bytes, end: _End, start: int) -> dict[str, Entry]:
    found, at = list[Entry](), 0
    while at < len(directory) and len(found) < end.count:
        entry, at = _entry(name, directory, at, start)
        found.append(entry)
    if at != len(directory) or len(found) != end.count:
        raise broken(name, "has a damaged table of contents")
    found.sort(key=lambda entry: entry.start)
    stops = [entry.start for entry in found[1:]] + [start + end.start]
    entries = {entry.name: _stopping(entry, stop) for entry, stop in zip(found, stops, strict=True)}
    if len(entries) != len(found):
        raise broken(name, "holds two members of the same name")
    return entries


def _stopping(entry: Entry, stop: int) -> Entry:
    if entry.start + LOCAL_SIZE + len(entry.name.encode()) + entry.stored > stop:
        raise broken(entry.file, f"places {entry.name} over another member")
    return replace(entry, stop=stop)


def _entry(name: str, directory: bytes, at: int, start: int) -> tuple[Entry, int]:
    head = directory[at : at + ENTRY_SIZE]
    if len(head) < ENTRY_SIZE or not head.startswith(ENTRY):
        raise broken(name, "has a damaged table of contents")
    lengths = [_number(head, place, 2) for place in (28, 30, 32)]
    names, extra = at + ENTRY_SIZE, at + ENTRY_SIZE + lengths[0]
    member = _member_name(name, directory[names:extra])
    flags, method = _number(head, 8, 2), _number(head, 10, 2)
    if flags & ~HARMLESS:
        raise broken(name, f"holds {member} encrypted, patched or in an unknown way")
    if method not in (STORED, DEFLATED):
        raise broken(name, f"holds {member} compressed in a way that is not supported")
    if _number(head, 34, 2) or stat.S_IFMT(_number(head, 40, 2)) not in PLAIN:
        raise broken(name, f"holds {member}, which is a link or lies in another volume")
    size, stored, place = _sizes(head, directory[extra : extra + lengths[1]])
    if method == STORED and size != stored:
        raise broken(name, f"gives {member} two sizes")
    entry = Entry(
        name, member, size, stored, start + place, 0, _number(head, 16, 4),
        method == DEFLATED, bool(flags & STREAMED),
    )  # fmt: skip
    return entry, at + ENTRY_SIZE + sum(lengths)


def _member_name(name: str, raw: bytes) -> str:
    """A path that stays inside. A trailing slash is a folder."""
    try:
        member = raw.decode()
    except UnicodeDecodeError as error:
        raise broken(name, "holds a member with an impossible name") from error
    parts = member.removesuffix("/").split("/")
    good = all(PART.fullmatch(part) and part not in (".", "..") for part in parts)
    if not good or not member.isprintable():
        raise broken(name, "holds a member with an impossible name")
    return member


def _sizes(head: bytes, extra: bytes) -> tuple[int, int, int]:
    """Plain size, stored size, place: in zip64's extra field where four bytes do not hold them."""
    sizes = [_number(head, place, 4) for place in (24, 20, 42)]
    wide = _zip64_field(extra)
    for position, size in enumerate(sizes):
        if size == 0xFFFFFFFF and len(wide) >= 8:
            sizes[position], wide = _number(wide, 0, 8), wide[8:]
    return sizes[0], sizes[1], sizes[2]


def _zip64_field(extra: bytes) -> bytes:
    while len(extra) >= 4:
        length = _number(extra, 2, 2)
        if _number(extra, 0, 2) == 1:
            return extra[4 : 4 + length]
        extra = extra[4 + length :]
    return b""


def _check_sizes(name: str, entries: Mapping[str, Entry]) -> None:
    """What would be inflated, before a byte of it is."""
    packed = [entry for entry in entries.values() if entry.deflated]
    for entry in packed:
        if entry.size > DEFLATE_RATIO * entry.stored:
            raise broken(name, f"gives {entry.name} a size that its bytes cannot have")
    total = sum(entry.size for entry in packed)
    if total > MAX_INFLATED:
        raise TooLarge(
            f"`{name}` would unpack to {total:,} bytes; at most {MAX_INFLATED:,} are unpacked."
        )
