"""A tensor in a checkpoint file: its type and shape. Its numbers are read when they are needed."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pspnet_convert.pytorch.safe_unpickle import Made, Name, described

if TYPE_CHECKING:
    from torch import Tensor

# The storages of plain tensors: torch's name of their numbers, and a number's bytes.
_NUMBERS: Mapping[str, tuple[str, int]] = {
    "DoubleStorage": ("float64", 8),
    "FloatStorage": ("float32", 4),
    "HalfStorage": ("float16", 2),
    "BFloat16Storage": ("bfloat16", 2),
    "LongStorage": ("int64", 8),
    "IntStorage": ("int32", 4),
    "ShortStorage": ("int16", 2),
    "CharStorage": ("int8", 1),
    "ByteStorage": ("uint8", 1),
    "BoolStorage": ("bool", 1),
}
# Those of other tensors; their sizes are needed to find what follows them.
_OTHERS = {
    "ComplexDoubleStorage": 16,
    "ComplexFloatStorage": 8,
    "QInt32Storage": 4,
    "QInt8Storage": 1,
    "QUInt8Storage": 1,
    "QUInt4x2Storage": 1,
    "QUInt2x4Storage": 1,
    "UntypedStorage": 1,
}
_MAX_SIDE, _MAX_SIDES = 2**63, 64  # torch's own limits
_REBUILD, _PARAMETERS = "torch._utils._rebuild", ("_parameter", "_parameter_with_state")
_FROM_TYPE = "torch._tensor._rebuild_from_type_v2"
_PLAIN_TYPES = ("torch.Tensor", "torch.nn.parameter.Parameter")


@dataclass(frozen=True)
class Storage:
    """The numbers of one or more tensors: `count` of torch's storage class `kind`, from number `start` of `key`."""

    kind: str
    key: str
    count: int
    start: int = 0

    @property
    def dtype(self) -> str | None:
        """torch's name of the type of its numbers; None if plain tensors have no such numbers."""
        return _NUMBERS[self.kind][0] if self.kind in _NUMBERS else None

    @property
    def item_size(self) -> int:
        """Bytes of a number; ValueError where the kind is unknown."""
        if self.kind in _NUMBERS:
            return _NUMBERS[self.kind][1]
        if self.kind not in _OTHERS:
            raise ValueError(f"has a storage of the unknown kind {self.kind[:100]}")
        return _OTHERS[self.kind]


@dataclass(frozen=True)
class StoredTensor:
    """A dense tensor. `dtype` is torch's name of its numbers, without `torch.`; `load` reads it."""

    dtype: str
    shape: tuple[int, ...]
    load: Callable[[], Tensor]

    @property
    def size(self) -> int:
        """Bytes that it takes in memory."""
        sizes = dict(_NUMBERS.values())
        return math.prod(self.shape) * sizes[self.dtype]


class NotPlainError(ValueError):
    """A value is no plain tensor; the message says what it is."""


def looks_like_tensor(value: Any) -> bool:
    """Whether a value is a tensor of any kind, or asks to be made one."""
    by = value.by if isinstance(value, Made) else None
    is_made = isinstance(by, Name) and by.text.startswith((_REBUILD, "torch._tensor._rebuild"))
    return is_made or isinstance(value, StoredTensor)


def stored_tensor(value: Any, numbers_of: Callable[[Storage], Tensor]) -> StoredTensor:
    """The tensor that a value of a checkpoint is. `numbers_of` reads a storage, as a tensor of one dimension.

    Raises NotPlainError for any other value, and ValueError for a tensor outside its storage.
    """
    if isinstance(value, StoredTensor):
        return value
    match _unwrapped(value):
        case Made(by=Name(text="torch._utils._rebuild_tensor" | "torch._utils._rebuild_tensor_v2")) as made:
            storage, offset, shape, stride, *others = made.arguments
        case other:
            raise NotPlainError(described(other))
    if not isinstance(storage, Storage) or storage.dtype is None:
        kind = storage.kind if isinstance(storage, Storage) else described(storage)
        raise NotPlainError(f"a tensor of {kind[:100]}")
    if any(isinstance(one, dict) and (one.get("neg") or one.get("conj")) for one in others):
        raise NotPlainError("a negative or conjugate view")
    _check_bounds(storage, offset, shape, stride)

    def load() -> Tensor:
        numbers = numbers_of(storage)
        return numbers.as_strided(shape, stride, numbers.storage_offset() + storage.start + offset)

    return StoredTensor(storage.dtype, shape, load)


def _unwrapped(value: Any) -> Any:
    """The tensor of a parameter, or of a tensor with attributes."""
    for _ in range(3):
        match value:
            case Made(by=Name(text=text), arguments=(data, *_)) if text in [_REBUILD + one for one in _PARAMETERS]:
                value = data
            case Made(by=Name(text=text), arguments=(Name() as by, Name(text=kind), tuple() as arguments, *_)) if (
                text == _FROM_TYPE and kind in _PLAIN_TYPES
            ):
                value = Made(by, arguments)
    return value


def _check_bounds(storage: Storage, offset: Any, shape: Any, stride: Any) -> None:
    for numbers in (shape, stride, (offset,)):
        if not isinstance(numbers, tuple) or not all(type(one) is int and 0 <= one < _MAX_SIDE for one in numbers):
            raise ValueError("a tensor whose shape, stride or offset is no number from 0 on")
        if len(numbers) > _MAX_SIDES:
            raise ValueError(f"a tensor of {len(numbers)} dimensions")
    if len(shape) != len(stride):
        raise ValueError("a tensor whose shape and stride are of different lengths")
    last = offset + sum((side - 1) * step for side, step in zip(shape, stride))
    if math.prod(shape) and last >= storage.count:
        raise ValueError(f"a tensor that ends at number {last} of a storage of {storage.count}")
