"""How an SAE gets a row: asked for once or by thousands, and each is here once."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from django.contrib.auth.models import User
from django.db import IntegrityError, transaction

from saes.errors import AlreadyHere
from saes.folders import Place, hold_upload
from saes.formats.given import cleaned
from saes.hub import RepoRef
from saes.models import Sae, Training, identity_of
from saes.safe_names import refuse_long_place
from saes.services import in_parts


class Wanted(Protocol):
    """An SAE that a user asked to bring in, from wherever."""

    @property
    def stated(self) -> dict[str, Any]:
        """Facts that the user states."""

    def row(self, user: User | None) -> Sae:
        """Its row, still to be stored. Raises UnsafeName where it is too deep."""

    def already_here(self) -> Sae | None: ...

    def take_over(self, sae: Sae) -> None:
        """Goes on with one that failed, as it is wished now. It is not stored yet."""


@dataclass(frozen=True)
class DownloadRequest:
    """What a user asked to bring in: `where` is the SAE's folder or file, `.` for the root."""

    ref: RepoRef
    where: str
    name: str = ""
    description: str = ""
    model_name: str = ""
    model_id: str = ""
    asked: str | None = None  # the revision as it was named, where `ref` has its commit by now
    facts: Mapping[str, Any] = field(default_factory=dict)  # more that the user states

    @property
    def stated(self) -> dict[str, Any]:
        named = {"model_name": self.model_name} if self.model_name else {}
        return {**self.facts, **named}

    @property
    def _where(self) -> str:
        return self.where.strip("/") or "."

    def row(self, user: User | None) -> Sae:
        where = self._where
        refuse_long_place(where)
        title = self.name or f"{self.ref.id.split('/')[-1]} {'' if where == '.' else where}".strip()
        pinned = self.ref.revision if _is_commit(self.ref.revision) else ""
        return Sae(
            identity=identity_of(self.ref.id, self.ref.type, self.ref.revision, where),
            name=title[:200],
            description=self.description,
            source=Sae.Source.HUGGINGFACE,
            hf_repo_id=self.ref.id,
            hf_repo_type=self.ref.type,
            hf_filepath=where,
            hf_revision=self.ref.revision if self.asked is None else self.asked,
            hf_commit=pinned,
            given_facts=cleaned(self.stated),
            model_name=self.model_name,
            model_id=self.model_id,
            created_by=user,
        )

    def already_here(self) -> Sae | None:
        """The SAE of this repository, commit and path: pressing a button twice makes one.

        While the Hub is away the commit is not known yet; then the revision as named counts.
        """
        revision = self.ref.revision
        if _is_commit(revision):
            same = {"hf_commit": revision}
        else:
            same = {"hf_commit": "", "hf_revision": revision}
        return Sae.objects.filter(
            hf_repo_id=self.ref.id, hf_repo_type=self.ref.type, hf_filepath=self._where, **same
        ).first()

    def take_over(self, sae: Sae) -> None:
        sae.given_facts = {**sae.given_facts, **cleaned(self.stated)}


@dataclass(frozen=True)
class ImportRequest:
    """An SAE in a folder of this machine. `state`: tells when its files have changed since."""

    place: Place
    state: str
    name: str = ""
    description: str = ""
    model_name: str = ""
    placement: Sae.Placement = Sae.Placement.COPY
    facts: Mapping[str, Any] = field(default_factory=dict)
    training: Training | None = None
    trained: Mapping[str, Any] = field(default_factory=dict)  # see trainings.py

    @property
    def stated(self) -> dict[str, Any]:
        named = {"model_name": self.model_name} if self.model_name else {}
        return {**self.facts, **named}

    @property
    def identity(self) -> str:
        return identity_of(self.place.root, self.place.path, self.state)

    def row(self, user: User | None) -> Sae:
        refuse_long_place(self.place.path)
        return Sae(
            identity=self.identity,
            name=(self.name or self.place.label)[:200],
            description=self.description,
            source=Sae.Source.TRAINED if self.training else Sae.Source.LOCAL,
            import_root=self.place.root,
            import_path=self.place.path,
            placement=self.placement,
            training=self.training,
            trained=dict(self.trained),
            given_facts=cleaned(self.stated),
            model_name=self.model_name,
            created_by=user,
        )

    def already_here(self) -> Sae | None:
        """The same files, or an attempt with other ones at this place that failed: it goes on."""
        there = Sae.objects.filter(import_root=self.place.root, import_path=self.place.path)
        same = there.filter(identity=self.identity)
        failed = there.filter(status=Sae.Status.ERROR).exclude(certificate__passed=True)
        return (same | failed).order_by("-created_at").first()

    def take_over(self, sae: Sae) -> None:
        learned = sae.trained.get("facts", {})
        kept = {name: it for name, it in sae.given_facts.items() if name not in learned}
        sae.given_facts = {**kept, **cleaned(self.stated)}
        sae.placement, sae.training, sae.trained = self.placement, self.training, dict(self.trained)
        sae.downloaded_at = None  # what was copied is looked at again


def create(user: User | None, wanted: Wanted) -> Sae:
    """A row for an SAE that is still to be fetched. IntegrityError: it is here already.

    Within a transaction that starts its job, too. Raises OutsideRoots for an upload that is gone.
    """
    sae = wanted.row(user)
    _hold_uploads([sae])
    sae.save(force_insert=True)
    return sae


def create_many(user: User | None, wanted: Sequence[Wanted]) -> tuple[list[Sae], list[Sae]]:
    """Rows for those that are not here yet; and the rows of those that are.

    Within a transaction that starts their jobs, too. Raises OutsideRoots as create() does.
    """
    rows = {row.identity: row for row in (it.row(user) for it in wanted)}
    _hold_uploads(rows.values())
    Sae.objects.bulk_create(rows.values(), ignore_conflicts=True)
    found = {
        sae.identity: sae
        for part in in_parts(rows)
        for sae in Sae.objects.filter(identity__in=part)
    }
    stored = [found[name] for name in rows if name in found]  # in the order that was asked for
    made = {row.id for row in rows.values()}
    return [it for it in stored if it.id in made], [it for it in stored if it.id not in made]


def _hold_uploads(rows: Iterable[Sae]) -> None:
    for root in {row.import_root for row in rows if row.is_upload}:
        hold_upload(root)


@contextmanager
def one_of_each(wanted: Wanted) -> Iterator[None]:
    """Raises AlreadyHere for an SAE that is in the library, also where it came at this instant."""
    try:
        _refuse_another(wanted.already_here())
        yield
    except IntegrityError:
        _refuse_another(wanted.already_here())
        raise


def _refuse_another(there: Sae | None) -> None:
    if there:
        raise AlreadyHere("This SAE is in the library already.", there.id)


def settle_place(sae: Sae, **columns: str) -> None:
    """What an SAE is and where, once the Hub has told. Raises AlreadyHere."""
    for name, value in columns.items():
        setattr(sae, name, value)
    named = sae.hf_commit or sae.hf_revision
    identity = identity_of(sae.hf_repo_id, sae.hf_repo_type, named, sae.hf_filepath)
    settle_identity(sae, identity, *columns)


def settle_identity(sae: Sae, identity: str, *columns: str) -> None:
    """Raises AlreadyHere."""
    sae.identity = identity
    try:
        with transaction.atomic():
            sae.save(update_fields=[*columns, "identity", "updated_at"])
    except IntegrityError as error:
        other = Sae.objects.get(identity=sae.identity)
        raise AlreadyHere(
            f"This SAE is in the library already, as {other.name}.", other.id,
            solution="Open that one, and delete this one.",
        ) from error  # fmt: skip


def _is_commit(revision: str) -> bool:
    return len(revision) == 40 and all(c in "0123456789abcdef" for c in revision)
