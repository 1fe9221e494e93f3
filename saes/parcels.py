"""What of an SAE is sent to the Hub: these files of its SAELens form and its passport, no other."""

import hashlib
import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from saes import bundles, cards, services
from saes.errors import CannotRepresent
from saes.formats import saelens
from saes.hub import RemoteFile
from saes.known_models import is_hub_id, name_on_hub
from saes.local_paths import holds_local, is_local_path, without_local
from saes.models import Sae, SaeFile
from saes.sparsity import sparsity_of

FORMAT = "saelens"
TRAINING = ("training_id", "name", "model_name", "step", "total_steps", "final_loss", "final_l0",
            "started_at", "completed_at")  # fmt: skip
CONFIG, WEIGHTS, SPARSITY = saelens.CFG, saelens.WEIGHTS, saelens.SPARSITY
PASSPORT, README = "sae_passport.json", "README.md"
NAMES = (CONFIG, WEIGHTS, PASSPORT)  # of each SAE, in its folder
LENGTH = 8  # bytes that say how long the header of a safetensors file is


@dataclass(frozen=True)
class Piece:
    """One file, by its name in the repository. Without content it is still to be made."""

    name: str
    content: bytes | Path | None = None
    size: int | None = None
    sha256: str | None = None

    @classmethod
    def of_text(cls, name: str, text: str) -> "Piece":
        held = text.encode()
        return cls(name, held, len(held), hashlib.sha256(held).hexdigest())

    def is_at(self, remote: RemoteFile) -> bool:
        """Whether the repository holds these very bytes, by the hash that it tells."""
        if self.content is None or remote.size != self.size:
            return False
        if remote.expected.sha256:
            return remote.expected.sha256 == self.sha256
        if not remote.expected.git_sha1:  # masked: no reason to read a large file
            return False
        return remote.expected.git_sha1 == git_sha1(self.content)


def git_sha1(content: bytes | Path) -> str:
    """Git's hash of a small file: that of files outside the store of large ones."""
    held = content if isinstance(content, bytes) else content.read_bytes()
    return hashlib.sha1(b"blob %d\0%b" % (len(held), held), usedforsecurity=False).hexdigest()


def header_of(weights: Path) -> dict[str, object]:
    """Length and hash of the header of a safetensors file."""
    with weights.open("rb") as file:
        length = int.from_bytes(file.read(LENGTH), "little")
        return {"size": length, "sha256": hashlib.sha256(file.read(length)).hexdigest()}


def pieces_of(sae: Sae, folder: str) -> list[Piece]:
    """The files that are sent of an SAE, whether its SAELens form was made yet or not."""
    home, rows = services.library().home(sae.id), export_of(sae)
    if not rows:
        return [Piece(f"{folder}/{name}") for name in NAMES]
    found = [
        Piece(f"{folder}/{name}", home / row.path, row.size, row.sha256)
        for name, row in files_of(sae, rows).items()
    ]
    text = json.dumps(passport(sae, rows), indent=2, ensure_ascii=False) + "\n"
    return [*found, Piece.of_text(f"{folder}/{PASSPORT}", text)]


def files_of(sae: Sae, rows: Mapping[str, SaeFile]) -> dict[str, SaeFile]:
    """Its SAELens form, and how often its features fire, if its author published that."""
    told = sparsity_of(sae, sae.d_sae or 0)
    beside = {SPARSITY: told.row} if told and told.alone else {}
    return {**rows, **beside} if rows else {}


def refuse(sae: Sae) -> None:
    """Raises NotReady, CannotRepresent where the SAE has no SAELens form."""
    try:
        services.refuse_export(sae, FORMAT)
        bundles.asked_for(sae, FORMAT)
    except CannotRepresent as error:
        raise CannotRepresent(f"{sae.name}: {error}", solution="Publish without it.") from error


def digest_of(sae: Sae) -> str:
    """Of all here that what is sent is made from: tells whether it is what was confirmed."""
    native = sae.files.filter(kind=SaeFile.Kind.NATIVE).order_by("path")
    told = [sae.name, sae.facts, sae.trained, list(native.values_list("path", "sha256"))]
    return hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest()


def export_of(sae: Sae) -> Mapping[str, SaeFile]:
    """The rows of its SAELens form by name; nothing where it is to be made (again)."""
    bundle = bundles.asked_for(sae, FORMAT)
    certified = all(row.certificate for row in bundle.files.values())
    there = bundle.files.keys() == {CONFIG, WEIGHTS} and bundles.is_on_disk(bundle)
    return bundle.files if there and certified and _is_for_others(bundle) else {}


def _is_for_others(bundle: bundles.Bundle) -> bool:
    """Whether its cfg.json names no path of this machine: those of former versions may."""
    path = services.library().home(bundle.sae.id) / bundle.files[CONFIG].path
    try:
        return not holds_local(json.loads(path.read_bytes()))
    except (OSError, ValueError):  # gone, or damaged
        return False


# --- the passport ---------------------------------------------------------------------------------


def passport(sae: Sae, rows: Mapping[str, SaeFile]) -> dict[str, Any]:
    """Where it comes from and how it was made: the same each time, for the same SAE.

    `rows`: its SAELens form; without them, what is known before that is made.
    """
    return {
        "passport": 1,
        "written_by": "miStudio",  # without its version: the same SAE would be another one
        "name": public(sae.name),
        "source": _source(sae),
        "conversions": [
            {"from": sae.format, "to": services.NATIVE, "certificate": _certificate(sae)},
            {
                "from": services.NATIVE,
                "to": FORMAT,
                "certificate": rows[WEIGHTS].certificate if rows else None,
            },
        ],  # fmt: skip
        "files": {
            name: {"size": it.size, "sha256": it.sha256} for name, it in files_of(sae, rows).items()
        },
        "facts": {name: it for name, it in sae.facts.items() if not holds_local(it)},
        "training": _shown(sae.trained) or None,
    }


def _shown(trained: Mapping[str, Any]) -> dict[str, Any]:
    """Of hyperparameters numbers alone: texts may be paths of this machine, or secrets."""
    numbers = {
        name: it
        for name, it in (trained.get("hyperparameters") or {}).items()
        if isinstance(it, int | float)
    }
    told = {name: trained.get(name) for name in (*TRAINING, "datasets")}
    shown = without_local({**told, "hyperparameters": numbers})
    return {name: it for name, it in shown.items() if it or it == 0}


def _source(sae: Sae) -> dict[str, Any]:
    told: dict[str, Any] = {"kind": sae.source, "files": _source_files(sae)}
    if sae.hf_repo_id:
        told |= {"repo_id": sae.hf_repo_id, "commit": sae.hf_commit, "path": sae.hf_filepath}
    if sae.training_id:
        told |= {"training_id": sae.trained.get("training_id"), "step": sae.trained.get("step")}
    return told


def _certificate(sae: Sae) -> dict[str, Any] | None:
    told = sae.certificate
    return {**told, "source_files": _source_files(sae)} if told else None


def _source_files(sae: Sae) -> dict[str, str]:
    """Hashes by name. Folders of this machine are nobody's business, those of the Hub are known."""
    hashes = (sae.certificate or {}).get("source_files", {})
    names = sorted(hashes)
    if sae.hf_repo_id or not names:
        return {name: hashes[name] for name in names}
    above = posixpath.commonpath([posixpath.dirname(name) for name in names])
    return {name.removeprefix(f"{above}/"): hashes[name] for name in names}


def public(text: str) -> str:
    """The text; nothing where it is a path of this machine."""
    return "" if is_local_path(text) else text


# --- on the card ----------------------------------------------------------------------------------


def entry_of(sae: Sae, folder: str, weights: Piece) -> cards.Entry:
    """`weights`: the piece that holds them."""
    datasets = _datasets(sae)
    return cards.Entry(
        folder=folder, name=sae.name, layer=sae.layer, hook=sae.hook_name or sae.hook_type,
        d_in=sae.d_in, d_sae=sae.d_sae, architecture=sae.architecture, l0=_l0(sae),
        size=weights.size, sha256=weights.sha256, model=public(sae.model_name),
        base_model=name_on_hub(public(sae.model_name)),
        datasets=tuple(it for it in datasets if is_hub_id(it)),
        told=tuple(_told(sae, datasets)),
    )  # fmt: skip


def _fact(sae: Sae, name: str) -> Any:
    value = sae.facts.get(name, {}).get("value")
    return None if holds_local(value) else value


def _l0(sae: Sae) -> float | None:
    """Of this very SAE: what a run tells at its end is of all that it trained."""
    value = _fact(sae, "l0")
    return float(value) if type(value) in (int, float) else None


def _datasets(sae: Sae) -> list[str]:
    named = sae.trained.get("datasets") or [_fact(sae, "dataset_path")]
    return [it for it in named if isinstance(it, str) and public(it)]


def names_of(sae: Sae) -> set[str]:
    """Models and datasets that card, passport and cfg.json name."""
    models = (sae.model_name, _fact(sae, "model_name"), sae.trained.get("model_name"))
    known = [*models, _fact(sae, "dataset_path"), *(sae.trained.get("datasets") or [])]
    return {it for it in known if isinstance(it, str) and public(it)}


def _told(sae: Sae, datasets: list[str]) -> Iterator[tuple[str, str]]:
    if name := public(sae.name):
        yield "Name", cards.cell(name)
    if model := public(sae.model_name):
        yield "Model", f"`{cards.code(model)}`, width {sae.d_in:,}"
    if datasets:
        yield "Trained on", ", ".join(f"`{cards.code(it)}`" for it in datasets)
    if trained := ", ".join(_trained(sae)):
        yield "Training", trained
    if reads := ", ".join(_reads(sae)):
        yield "How it reads activations", reads
    yield "Comes from", _comes_from(sae)
    yield "Checked", _checked(sae)
    if warning := _fact(sae, "warning"):
        yield "Beware", cards.cell(str(warning))


def _trained(sae: Sae) -> Iterator[str]:
    told = sae.trained
    if told.get("step") is not None:
        yield f"step {told['step']:,}"
    for label, name in (("loss", "final_loss"), ("L0", "final_l0")):
        if isinstance(told.get(name), int | float):
            yield f"final {label} of the run {told[name]:g}"
    if (context := _fact(sae, "context_size")) is not None:
        yield f"context of {context} tokens"


def _reads(sae: Sae) -> Iterator[str]:
    names = ("normalize_activations", "apply_b_dec_to_input", "prepend_bos", "k",
             "reshape_activations")  # fmt: skip
    for name in names:
        if (value := _fact(sae, name)) is not None and value != "none":
            yield f"`{name}` {cards.code(str(value))}"


def _comes_from(sae: Sae) -> str:
    if sae.hf_repo_id:
        commit = f" at commit `{sae.hf_commit[:12]}`" if sae.hf_commit else ""
        return f"`{cards.code(sae.hf_filepath)}` of `{cards.code(sae.hf_repo_id)}`{commit}"
    if sae.trained:
        name = public(str(sae.trained.get("name") or "")) or "without a name"
        return f"training run `{cards.code(str(name))}` of miStudio"
    return "files on the publisher's disk"


def _checked(sae: Sae) -> str:
    told = sae.certificate or {}
    if told.get("method") == "bits":
        return "the converted tensors are those of the source, bit for bit"
    most = told.get("max_rel_recon", 0)
    differ = f"differ by at most {most:.1e}" if most else "do not differ"
    return (
        f"{told.get('n_vectors')} seeded vectors through the source and through these files wake "
        f"the same features; reconstructions {differ}"
    )
