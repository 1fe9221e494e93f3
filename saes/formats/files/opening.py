"""Opens a weight file for its header: what it is, its first bytes tell, never its name."""

from saes.errors import UnsafeFormat
from saes.formats.base import Source
from saes.formats.files.containers import ZIP, Container, is_pickle, read_safetensors
from saes.formats.files.npz import npz_of
from saes.formats.files.pt import is_torch, pt_of
from saes.formats.files.zips import read_zip

TAR, TAR_AT = b"ustar", 257


def open_container(source: Source, name: str) -> Container:
    """A safetensors file, an npz or a PyTorch checkpoint. Raises BrokenFile or UnsafeFormat."""
    size = source.size(name)
    first = source.read(name, 0, min(size, len(ZIP)))
    if first == ZIP:
        entries = read_zip(source, name)
        is_pt = is_torch(entries)
        return pt_of(source, name, entries) if is_pt else npz_of(source, name, entries)
    if is_pickle(first) or _is_tar(source, name, size):
        raise UnsafeFormat(f"`{name}` is a Python pickle of the kind before PyTorch 1.6.")
    return read_safetensors(source, name)


def _is_tar(source: Source, name: str, size: int) -> bool:
    """PyTorch wrote tars before it wrote bare pickles."""
    stop = TAR_AT + len(TAR)
    return size > stop and source.read(name, TAR_AT, stop) == TAR
