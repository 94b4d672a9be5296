"""Read a checkpoint's state dict and metadata and check them, without running any code in the file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import CheckpointFile, ModelCard
from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.errors import CheckpointError, DigestError, printable
from pspnet_convert.pytorch.safe_unpickle import ADVICE, read_values

if TYPE_CHECKING:
    from torch import Tensor

AUXILIARY_HEAD = "auxiliary_head."
_LISTED = 3
_MAX_NAME = 500  # characters of a tensor's or class's name
_BATCH_COUNT = ".num_batches_tracked"
_MAX_TEXT = 2**20  # characters of the config in the metadata
_ADVICE_MISSING = "Run `pspnet-convert download` first, or give the file with --checkpoint."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by mmsegmentation's names (on the CPU, of the file's dtypes), and the keys left out on purpose."""

    path: Path
    state_dict: Mapping[str, Tensor]
    metadata: Metadata
    dropped_keys: tuple[str, ...]
    warnings: tuple[str, ...]


def identify(
    path: Path, expected: CheckpointFile, sha256_of: Callable[[Path], str], *, allow_unknown: bool = False
) -> None:
    """Raise CheckpointError if there is no file, DigestError if it is not the card's, unless `allow_unknown`."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint", _ADVICE_MISSING)
    digest = sha256_of(path)
    if not expected.accepts(digest):
        if not allow_unknown:
            raise DigestError(
                f"{path}: sha256 is {digest}, the card's file has {expected.digest}",
                "Download it again, or convert this one with --allow-unknown-checkpoint.",
            )
        log.warning("%s is not the card's checkpoint (sha256 %s)", path, digest)


def read_metadata(path: Path) -> Metadata:
    """The checkpoint's metadata; CheckpointError if the file is missing, not a checkpoint, or asks for code."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint", "Give the model's checkpoint with --checkpoint.")
    return _metadata(_items(_items(read_values(path)).get("meta")))


def load_checkpoint(path: Path, card: ModelCard) -> Checkpoint:
    """Read `path` (torch's zip or legacy format; a zip is memory-mapped) and compare its metadata with the card.

    The auxiliary head's tensors are left out. Raises CheckpointError if the file is not a checkpoint, asks for code,
    claims larger tensors than it holds, or was trained for another number of classes.
    """
    content = _items(read_values(path))
    state = _items(content.get("state_dict", content))
    _refuse_odd_tensors(path, state)
    metadata = _metadata(_items(content.get("meta")))
    warnings = _compare(path, metadata, card)
    for warning in warnings:
        log.warning("%s", warning)
    return Checkpoint(
        path=path,
        # A pickle can give its tensors hooks; detached they have none.
        state_dict={name: tensor.detach() for name, tensor in state.items() if not name.startswith(AUXILIARY_HEAD)},
        metadata=metadata,
        dropped_keys=tuple(name for name in state if name.startswith(AUXILIARY_HEAD)),
        warnings=tuple(warnings),
    )


def check_state(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict for a network that has `expected`, in its dtypes (floating point: float32).

    A BatchNorm's missing count of batches becomes 0: PyTorch before 0.4.1 had none, and only training reads it.
    Raises CheckpointError that lists missing, unexpected and misshapen keys, or those with NaN or infinity.
    """
    state = {**_zero_batch_counts(expected), **checkpoint.state_dict}
    faults = {
        "missing": [name for name in expected if name not in state],
        "unexpected": [name for name in state if name not in expected],
        "of another shape": [
            f"{name} {list(state[name].shape)} instead of {list(tensor.shape)}"
            for name, tensor in expected.items()
            if name in state and state[name].shape != tensor.shape
        ],
        "of another kind of number": [
            f"{name} {state[name].dtype}"
            for name, tensor in expected.items()
            if name in state and state[name].is_floating_point() != tensor.is_floating_point()
        ],
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {_first_of(names)}" for kind, names in faults.items() if names)
        raise CheckpointError(f"{checkpoint.path}: not of this card's network: {listed}", ADVICE)
    converted = {name: _in_dtype_of(state[name], tensor) for name, tensor in expected.items()}
    bad = [name for name, tensor in converted.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise CheckpointError(
            f"{checkpoint.path}: NaN or infinite values in {_first_of(bad)}",
            "The training diverged or the file is damaged; take another checkpoint.",
        )
    return converted


def _zero_batch_counts(expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    import torch

    return {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith(_BATCH_COUNT)}


def _in_dtype_of(tensor: Tensor, other: Tensor) -> Tensor:
    return tensor.to(other.dtype).contiguous()


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f", … ({len(names)} in all)" if len(names) > _LISTED else "")


def _items(value: Any) -> dict[Any, Any]:
    """The entries of a dict; an empty dict for anything else."""
    # dict.items, since a pickle can give an OrderedDict other attributes `get` and `items`.
    return dict(dict.items(value)) if isinstance(value, dict) else {}


def _refuse_odd_tensors(path: Path, state: Mapping[Any, Any]) -> None:
    import torch

    if not state or not all(isinstance(tensor, torch.Tensor) for tensor in state.values()):
        raise CheckpointError(f"{path}: holds no state dict of tensors", ADVICE)
    for name, tensor in state.items():
        if not _is_name(name):
            raise CheckpointError(f"{path}: has a tensor named {_quoted(name)}, which is no valid name", ADVICE)
        if tensor.is_neg():
            raise CheckpointError(f"{path}: {name} is stored as a negative view, which this tool does not support")
    # A stride of 0 makes a tensor of any size from one number, and tensors can share a storage: copies need the memory.
    claimed, size = sum(tensor.numel() * tensor.element_size() for tensor in state.values()), path.stat().st_size
    if claimed > size:
        raise CheckpointError(f"{path}: claims {claimed} bytes of tensors, but has {size} bytes", ADVICE)


def _metadata(meta: Mapping[Any, Any]) -> Metadata:
    """mmcv's meta has CLASSES and PALETTE, mmengine's has dataset_meta; both become plain lists."""
    dataset = _items(meta.get("dataset_meta"))
    classes = meta.get("CLASSES", dataset.get("classes"))
    palette = meta.get("PALETTE", dataset.get("palette"))
    return Metadata(
        classes=_class_names(classes),
        palette=[list(colour) for colour in palette] if _is_palette(palette) else None,
        mmseg_version=_text(meta.get("mmseg_version")),
        config=_text(meta.get("config", meta.get("cfg"))),
    )


def _class_names(classes: Any) -> list[str] | None:
    """The names, made printable, or `class <number>` where nothing is printable; None if they are not all texts."""
    if not isinstance(classes, (list, tuple)) or not all(isinstance(name, str) for name in classes):
        return None
    return [
        name if _is_name(name) else printable(name[:_MAX_NAME]) or f"class {number}"
        for number, name in enumerate(classes)
    ]


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and value.isprintable() and 0 < len(value) <= _MAX_NAME


def _quoted(value: Any) -> str:
    return f"{value[:_MAX_NAME]!r}" if isinstance(value, str) else f"a {type(value).__name__}"


def _is_palette(palette: Any) -> bool:
    return isinstance(palette, (list, tuple)) and all(
        isinstance(colour, (list, tuple)) and len(colour) == 3 and all(type(value) is int for value in colour)
        for colour in palette
    )


def _text(value: Any) -> str | None:
    """The value if it is a text of limited length; what UTF-8 cannot encode (lone surrogates) becomes `?`."""
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return None
    return value.encode("utf-8", "replace").decode("utf-8")


def _compare(path: Path, metadata: Metadata, card: ModelCard) -> list[str]:
    theirs, ours, palette = metadata.classes, card.class_names, card.palette
    if theirs is None:
        return []
    if (len(theirs), len(ours)) == (1, 2):  # a head of one class has a label map of 0 and 1
        ours, palette = ours[1:], palette[1:]
    if len(theirs) != len(ours):
        raise CheckpointError(f"{path}: was trained for {len(theirs)} classes, the card has {len(ours)}", ADVICE)
    warnings = []
    different = [f"{a!r} (card: {b!r})" for a, b in zip(theirs, ours) if a != b]
    if different:
        warnings.append(f"{path.name}: class names differ from the card's: {_first_of(different)}")
    if metadata.palette is not None and metadata.palette != [list(colour) for colour in palette]:
        warnings.append(f"{path.name}: its palette differs from the card's")
    return warnings
