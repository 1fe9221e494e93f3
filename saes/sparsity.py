"""How often each feature of an SAE fires, where its author published that beside the weights."""

from dataclasses import dataclass

from saes import services
from saes.errors import SaeError
from saes.formats import FolderSource
from saes.formats.files.containers import read_safetensors
from saes.formats.saelens import SPARSITY
from saes.models import Sae, SaeFile
from saes.tensors import LazyTensor


@dataclass(frozen=True)
class Sparsity:
    row: SaeFile
    values: LazyTensor  # log10, [d_sae]
    alone: bool  # nothing else is in its file


def sparsity_of(sae: Sae, count: int) -> Sparsity | None:
    """Of `count` features. None also for a broken file: it is no part of the SAE, and takes nothing
    else away."""
    beside = sae.files.filter(kind=SaeFile.Kind.SOURCE, path__endswith=f"/{SPARSITY}")
    row = beside.first()
    if row is None:
        return None
    try:
        source = FolderSource(services.library().source(sae.id))
        file = read_safetensors(source, row.path.removeprefix("source/"))
        values = file.tensor(source, "sparsity") if "sparsity" in file.members else None
    except SaeError:
        return None
    if values is None or values.shape != (count,):
        return None
    alone = file.members.keys() == {"sparsity"} and file.metadata.keys() <= {"format"}
    return Sparsity(row, values, alone)
