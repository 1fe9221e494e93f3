"""What a rehearsal warns of: nothing of it keeps anybody from publishing."""

from collections.abc import Collection, Iterator, Sequence

from saes import parcels
from saes.drafting import OTHER, Draft, Target, Wish
from saes.errors import AccessDenied, GatedNoToken, HubMisbehaved, RepositoryNotFound
from saes.hub import Hub, Identity, RepoRef, front_matter
from saes.local_paths import is_doubtful
from saes.models import Sae
from saes.parcels import WEIGHTS, Piece, entry_of
from saes.patience import TRANSIENT

MANY_FILES = 100  # of one commit: above it, the Hub takes its time
MOST_SOURCES = 10  # repositories that are asked for, whether everybody can see them
MOST_TOLD = 5
ANSWERED_IN = 5.0  # seconds


def cautions_of(
    saes: Sequence[Sae], wish: Wish, target: Target, draft: Draft, hub: Hub, identity: Identity
) -> Iterator[str]:
    """Sentences. Raises BadCard, and what the Hub says."""
    yield from _about_the_card(saes, wish, target, draft)
    yield from _about_files(wish, target, draft)
    yield from _about_names(saes, wish, hub)
    yield from _proposed(wish, target, hub, identity)


def _about_the_card(saes: Sequence[Sae], wish: Wish, target: Target, draft: Draft) -> Iterator[str]:
    data = front_matter.read(draft.readme)
    if not data.get("license"):
        yield "No license is named: nobody knows what they may do with these SAEs."
    elif data["license"] == OTHER and not data.get("license_name"):
        yield "The license is called `other`, and nothing says which: name it, and link to it."
    before = front_matter.read(target.readme)
    if before.get("license") and wish.license and before["license"] != wish.license:
        yield f"The license of the repository changes from {before['license']} to {wish.license}."
    if data.get("library_name") != "saelens":
        yield f"The card keeps library_name {data.get('library_name')!r}: the Hub shows no SAELens."
    unknown = sorted({sae.model_name or "unknown" for sae in saes} - _known(saes))
    if unknown:
        yield f"The Hub's name of the model ({', '.join(unknown)}) is not known: no link to it."
    if foreign := _sources(saes, wish):
        yield f"Files come from {', '.join(foreign)}: does its license let you publish them?"


def _about_files(wish: Wish, target: Target, draft: Draft) -> Iterator[str]:
    there = target.listing.files if target.listing else {}
    replaced = sum(
        it.name in there and not it.is_at(there[it.name])
        for it in draft.pieces if it.content is not None and it.name.endswith(f"/{WEIGHTS}")
    )  # fmt: skip
    if replaced:
        yield f"Weights that are there are replaced in {replaced:,} folder(s)."
    if len(draft.pieces) > MANY_FILES:
        yield f"{len(draft.pieces):,} files are a large commit: the Hub may take minutes for it."
    yield from _stay(draft, there)
    for name in there:
        if name.rpartition("/")[2] == ".gitignore":
            yield f"`{name}` of {wish.repo_id} may keep files from being sent."


def _stay(draft: Draft, there: Collection[str]) -> Iterator[str]:
    """Files beside weights that are replaced: they may tell of the former ones."""
    ours = {piece.name for piece in draft.pieces}
    weights = {name for name in ours if name.endswith(f"/{WEIGHTS}") and name in there}
    folders = {name.rpartition("/")[0] for name in weights}
    stays = [name for name in there if name.rpartition("/")[0] in folders and name not in ours]
    if stays:
        more = f" and {len(stays) - 3:,} more" if len(stays) > 3 else ""
        named = ", ".join(f"`{name}`" for name in stays[:3])
        yield f"{named}{more} stay as they are: they may tell of the weights that were there."


def _sources(saes: Sequence[Sae], wish: Wish) -> list[str]:
    """Other repositories that files come from."""
    return sorted({it.hf_repo_id for it in saes if it.hf_repo_id} - {wish.repo_id})


def _about_names(saes: Sequence[Sae], wish: Wish, hub: Hub) -> Iterator[str]:
    """Names that card, passport and cfg.json tell, and that are perhaps not for everybody."""
    yield from _hidden_sources(_sources(saes, wish), hub.anonymous(ANSWERED_IN))
    found = sorted({name for sae in saes for name in parcels.names_of(sae) if is_doubtful(name)})
    if found:
        listed = _listed([f"`{name}`" for name in found])
        yield f"Everybody who gets this reads {listed}: is that a path of your machine?"


def _hidden_sources(names: Sequence[str], hub: Hub) -> Iterator[str]:
    """Asked as everybody would be: not to know is said, and is no reason to wait."""
    for number, name in enumerate(names[:MOST_SOURCES]):
        try:
            hub.resolve(RepoRef(name))
        except (RepositoryNotFound, AccessDenied, GatedNoToken):
            yield f"Card and passport name {name}, which not everybody can see."
        except (*TRANSIENT, HubMisbehaved):  # it will not tell of the others either
            yield from _not_known(names[number:])
            return
    yield from _not_known(names[MOST_SOURCES:])


def _not_known(names: Sequence[str]) -> Iterator[str]:
    if names:
        yield f"Card and passport name {_listed(names)}: who can see that is not known."


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - MOST_TOLD:,} more" if len(names) > MOST_TOLD else ""
    return ", ".join(names[:MOST_TOLD]) + more


def _proposed(wish: Wish, target: Target, hub: Hub, identity: Identity) -> Iterator[str]:
    if wish.as_pull_request and target.listing is not None:
        for _, url in hub.open_pull_requests(wish.repo_id, identity.name)[:1]:
            yield f"A pull request of {identity.name} is open there already: {url}"


def _known(saes: Sequence[Sae]) -> set[str]:
    return {sae.model_name for sae in saes if entry_of(sae, "", Piece("")).base_model}
