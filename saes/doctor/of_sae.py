"""One SAE: its folder against its rows."""

from collections.abc import Callable, Iterable, Iterator
from functools import cached_property

from saes import services
from saes.doctor.finding import Finding, Kind
from saes.doctor.folder import Folder, is_old, look_into, shown
from saes.errors import DataAway, DataMissing
from saes.models import Sae, SaeFile
from saes.storage import Library, Tick

Check = Callable[[SaeFile], bool]


def is_whole(row: SaeFile, tick: Tick = lambda done: None) -> bool:
    """Whether the bytes are as recorded; what the disk cannot read is not. Raises DataAway."""
    try:
        return services.is_as_recorded(row, tick)
    except DataAway:
        raise
    except DataMissing:
        return False


class Look:
    """One look at an SAE that no job is at work on; `is_whole` may read its files, too."""

    def __init__(self, shelf: Library, sae: Sae, is_whole: Check = lambda row: True) -> None:
        self.sae, self.is_whole = sae, is_whole
        self.home = shelf.home(sae.id)
        self.place = shelf.relative(self.home)
        self.rows = {row.path: row for row in sae.files.all()}

    @cached_property
    def folder(self) -> Folder:
        return look_into(self.home)

    def findings(self) -> Iterator[Finding]:
        if self.home.is_symlink():
            return  # nothing is followed; it is told as a place
        if self.sae.status == Sae.Status.READY:  # of any other, a retry checks every file itself
            yield from self._damage()
        yield from self._stray()
        yield from self._unfinished()
        yield from self._odd()

    def _damage(self) -> Iterator[Finding]:
        missing = [row for path, row in self.rows.items() if path not in self._there]
        if missing:
            yield self._about(Kind.MISSING, missing, "is not there", _mend_damage(missing))
        changed = [row for row in self.rows.values() if row not in missing and self._changed(row)]
        if changed:
            yield self._about(
                Kind.CHANGED, changed, "is not as it was recorded", _mend_damage(changed)
            )
        total = sum(row.size for row in self.rows.values())
        if total != self.sae.file_size_bytes:
            says = f"{self.sae.name} is recorded with {self.sae.file_size_bytes:,} bytes; "
            yield self._finding(
                Kind.SIZES, says + f"its files have {total:,}.", "Record their sum.", total
            )

    @cached_property
    def _there(self) -> set[str]:
        """Links count as there: whether they are right is for a person to say."""
        return {*self.folder.files, *self.folder.links}

    def _changed(self, row: SaeFile) -> bool:
        found = self.folder.files.get(row.path)
        if found is None or found.st_size != row.size:
            return found is not None
        return not self.is_whole(row)

    def _about(self, kind: Kind, rows: list[SaeFile], what: str, repair: str) -> Finding:
        says = f"`{shown(rows[0].path)}` of {self.sae.name} {what}{_more(rows)}."
        size = sum(row.size for row in rows)
        return self._finding(kind, says, repair, size, [row.path for row in rows])

    def _stray(self) -> Iterator[Finding]:
        known = {*self.rows, *self.folder.parts(), *self.folder.drafts()}
        names = sorted(self.folder.files.keys() - known)
        if names:
            says = f"No record of {self.sae.name} names `{shown(names[0])}`{_more(names)}."
            size = sum(self.folder.files[name].st_size for name in names)
            yield self._finding(Kind.STRAY, says, "Move to the kept files.", size, names)

    def _unfinished(self) -> Iterator[Finding]:
        """Parts of a download that failed stay: its Retry goes on from them."""
        over = self.sae.status == Sae.Status.READY or self.sae.error_code == "cancelled"
        left = self.folder.drafts() | (self.folder.parts() if over else {})
        left = {name: it for name, it in left.items() if name not in self.rows}
        if left and is_old(left):
            names = sorted(left)
            says = f"Nobody goes on with `{shown(names[0])}` of {self.sae.name}{_more(names)}."
            size = sum(it.st_size for it in left.values())
            yield self._finding(Kind.UNFINISHED, says, "Remove.", size, names)

    def _odd(self) -> Iterator[Finding]:
        for kind, names, what in (
            (Kind.LINK, self.folder.links, "is a link: it is not followed"),
            (Kind.FOREIGN, self.folder.odd, "is neither a file nor a folder"),
        ):
            if names:
                says = f"`{shown(sorted(names)[0])}` of {self.sae.name} {what}{_more(names)}."
                yield self._finding(kind, says, "", 0, sorted(names))

    def _finding(
        self, kind: Kind, says: str, repair: str, size: int, files: Iterable[str] = ()
    ) -> Finding:
        files = tuple(files)
        path = f"{self.place}/{shown(files[0])}" if files else self.place
        return Finding(kind, path, size, says, repair, self.sae.id, self.sae.name, files)


def _more(names: list[SaeFile] | list[str]) -> str:
    return f", and {len(names) - 1:,} more" if len(names) > 1 else ""


def _mend_damage(rows: list[SaeFile]) -> str:
    if all(row.kind == SaeFile.Kind.EXPORT for row in rows):
        return "Forget its exports, so that they can be made again."
    return "Mark it as an error: Retry fetches and converts again what is needed."
