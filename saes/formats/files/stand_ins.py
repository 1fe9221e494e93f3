"""What the names in a PyTorch checkpoint stand for: inert descriptions, built by our functions.

Each function is short and its cost is bounded whatever it is given: a pickle can ask for the same
call a hundred thousand times.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from saes.formats.files.containers import MAX_AXES

MAX_KEY = 20
DTYPES = {
    "float64": "F64", "double": "F64", "float32": "F32", "float": "F32", "float16": "F16",
    "half": "F16", "bfloat16": "BF16", "int64": "I64", "long": "I64", "int32": "I32",
    "int": "I32", "int16": "I16", "short": "I16", "int8": "I8", "uint8": "U8", "uint16": "U16",
    "uint32": "U32", "uint64": "U64", "bool": "BOOL", "float8_e4m3fn": "F8_E4M3",
    "float8_e5m2": "F8_E5M2",
}  # fmt: skip
STORAGES = {
    "DoubleStorage": "F64", "FloatStorage": "F32", "HalfStorage": "F16", "BFloat16Storage": "BF16",
    "LongStorage": "I64", "IntStorage": "I32", "ShortStorage": "I16", "CharStorage": "I8",
    "ByteStorage": "U8", "BoolStorage": "BOOL",
}  # fmt: skip
UNTYPED = "torch.storage.UntypedStorage"
TENSORS = ("torch.Tensor", "torch.nn.parameter.Parameter")


class BadPickle(Exception):
    """The pickle is not what torch writes."""


@dataclass(frozen=True)
class Name:
    """module.name as the pickle has it. Never looked up."""

    text: str


@dataclass(frozen=True)
class Storage:
    """The numbers of the member data/<key>; without a dtype they are counted in bytes."""

    dtype: str | None
    key: str
    count: int


@dataclass(frozen=True)
class View:
    """A tensor: a look at a storage."""

    storage: Storage
    dtype: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


def dtype_of(name: Any, table: dict[str, str] = DTYPES) -> str | None:
    return table.get(name.text.removeprefix("torch.")) if type(name) is Name else None


def storage(reference: Any) -> Storage:
    """From the "persistent id" by which torch writes a storage."""
    if type(reference) is not tuple or len(reference) != 5 or reference[0] != "storage":
        raise BadPickle
    _, kind, key, _, count = reference
    dtype = dtype_of(kind, STORAGES)
    if dtype is None and kind != Name(UNTYPED):
        raise BadPickle
    if type(key) is not str or len(key) > MAX_KEY or not key.isascii() or not key.isdigit():
        raise BadPickle
    if not _is_count(count):
        raise BadPickle
    return Storage(dtype, key, count)


def _is_count(number: Any) -> bool:
    return type(number) is int and 0 <= number < 2**63


def _are_counts(numbers: Any) -> bool:
    return type(numbers) is tuple and len(numbers) <= MAX_AXES and all(map(_is_count, numbers))


def _checked(store: Storage, dtype: str, offset: Any, shape: Any, strides: Any) -> View:
    if not _is_count(offset) or not _are_counts(shape) or not _are_counts(strides):
        raise BadPickle
    if len(shape) != len(strides):
        raise BadPickle
    return View(store, dtype, offset, shape, strides)


def _tensor(store: Any, offset: Any, shape: Any, strides: Any) -> View:
    if type(store) is not Storage or store.dtype is None:
        raise BadPickle
    return _checked(store, store.dtype, offset, shape, strides)


def _tensor_v2(
    store: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, notes: Any = None
) -> View:
    """`notes` tell of a view whose numbers are to be negated: rare, and never to be ignored."""
    if notes:
        raise BadPickle
    return _tensor(store, offset, shape, strides)


def _tensor_v3(
    store: Any, offset: Any, shape: Any, strides: Any, grad: Any, hooks: Any, kind: Any,
    notes: Any = None,
) -> View:  # fmt: skip
    """Of dtypes that have no storage class of their own: the storage then counts bytes."""
    dtype = dtype_of(kind)
    if type(store) is not Storage or store.dtype is not None or dtype is None or notes:
        raise BadPickle
    return _checked(store, dtype, offset, shape, strides)


def _parameter(data: Any, grad: Any, hooks: Any, state: Any = None) -> View:
    if type(data) is not View:
        raise BadPickle
    return data


def _of_type(function: Any, kind: Any, arguments: Any, state: Any) -> View:
    """A tensor on which somebody set an attribute."""
    if type(function) is not Name or function.text not in REBUILD or type(arguments) is not tuple:
        raise BadPickle
    if type(kind) is not Name or kind.text not in TENSORS:
        raise BadPickle
    return REBUILD[function.text](*arguments)


def _size(numbers: Any) -> tuple[int, ...]:
    if not _are_counts(numbers):
        raise BadPickle
    counts: tuple[int, ...] = numbers
    return counts


def _device(kind: Any, index: Any = None) -> str:
    if type(kind) is not str or len(kind) > MAX_KEY or not (index is None or _is_count(index)):
        raise BadPickle
    return kind if index is None else f"{kind}:{index}"


def _ordered() -> dict[Any, Any]:
    return {}


REBUILD: dict[str, Callable[..., View]] = {
    "torch._utils._rebuild_tensor": _tensor,
    "torch._utils._rebuild_tensor_v2": _tensor_v2,
    "torch._utils._rebuild_tensor_v3": _tensor_v3,
}
CALLS: dict[str, Callable[..., Any]] = {
    **REBUILD,
    "torch._utils._rebuild_parameter": _parameter,
    "torch._utils._rebuild_parameter_with_state": _parameter,
    "torch._tensor._rebuild_from_type_v2": _of_type,
    "torch.Size": _size,
    "torch.device": _device,
    "collections.OrderedDict": _ordered,
}
NAMES = {*CALLS, *TENSORS, UNTYPED, *(f"torch.{name}" for name in (*STORAGES, *DTYPES))}
