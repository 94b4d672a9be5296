"""From a checkpoint file to a checked state dict and its metadata, without running any code in the file.

Which keys and shapes are right is the network's business; it calls `check_state` with what it expects.
"""

from __future__ import annotations

import logging
import pickle
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from pspnet_convert.card import CheckpointFile, ModelCard
from pspnet_convert.errors import CheckpointError, DigestError

if TYPE_CHECKING:
    from torch import Tensor

AUXILIARY_HEAD = "auxiliary_head."
_LISTED = 3
_ZIP_MAGIC = b"PK\x03\x04"
_PICKLE_MAGIC = b"\x80"
_ADVICE = "Give a PyTorch checkpoint of this card's network (download gets the right one)."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Metadata:
    """What the checkpoint says of itself; None where it says nothing."""

    classes: Optional[list[str]] = None
    palette: Optional[list[list[int]]] = None
    mmseg_version: Optional[str] = None
    config: Optional[str] = None


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by mmsegmentation's names (float32, on the CPU), and what was left out on purpose."""

    path: Path
    state_dict: Mapping[str, Tensor]
    metadata: Metadata
    dropped_keys: tuple[str, ...]
    warnings: tuple[str, ...]


class _Inert:
    """Stands for an object of mmengine's logs. The weights do not need it, so it keeps and does nothing."""

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        pass


# What mmengine >= 0.1 puts beside the weights (message_hub: log buffers of NumPy arrays). Each name is read as
# _Inert, never as the real thing: builtins.getattr, which HistoryBuffer's pickle asks for, would be a way out.
_READ_AS_INERT = (
    "mmengine.logging.history_buffer.HistoryBuffer",
    "builtins.getattr",
    "numpy.core.multiarray._reconstruct",
    "numpy._core.multiarray._reconstruct",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
    "numpy.ndarray",
    "numpy.dtype",
)


def identify(
    path: Path, expected: CheckpointFile, sha256_of: Callable[[Path], str], *, allow_unknown: bool = False
) -> None:
    """DigestError if the file is not the card's, unless `allow_unknown`; CheckpointError if there is none."""
    if not path.is_file():
        raise CheckpointError(f"{path}: there is no such checkpoint", "Run download first, or give --checkpoint.")
    digest = sha256_of(path)
    if digest != expected.sha256:
        if not allow_unknown:
            raise DigestError(
                f"{path}: sha256 is {digest}, the card's file has {expected.sha256}",
                "Download it again, or convert it all the same with --allow-unknown-checkpoint.",
            )
        log.warning("%s is not the card's checkpoint (sha256 %s)", path, digest)


def load_checkpoint(path: Path, card: ModelCard) -> Checkpoint:
    """Read `path` (torch's zip or legacy format; a zip is memory-mapped) and compare its metadata with the card.

    The auxiliary head's tensors are left out. Raises CheckpointError for a file that is no checkpoint, asks for
    anything but tensors, or was trained for another number of classes.
    """
    _refuse_other_formats(path)
    content = _read(path)
    state = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(state, Mapping) or not state or not _all_tensors(state):
        raise CheckpointError(f"{path}: holds no state dict of tensors", _ADVICE)
    metadata = _metadata(content.get("meta") if isinstance(content, Mapping) else None)
    warnings = _compare(path, metadata, card)
    for warning in warnings:
        log.warning("%s", warning)
    return Checkpoint(
        path=path,
        state_dict={name: tensor for name, tensor in state.items() if not name.startswith(AUXILIARY_HEAD)},
        metadata=metadata,
        dropped_keys=tuple(name for name in state if name.startswith(AUXILIARY_HEAD)),
        warnings=tuple(warnings),
    )


def check_state(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state dict for a network whose own is `expected`, floating point as float32.

    Raises CheckpointError that lists missing, unexpected and misshapen keys, or those with NaN or infinity.
    """
    state = checkpoint.state_dict
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
        raise CheckpointError(f"{checkpoint.path}: not of this card's network: {listed}", _ADVICE)
    converted = {name: _as(state[name], tensor) for name, tensor in expected.items()}
    bad = [name for name, tensor in converted.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise CheckpointError(
            f"{checkpoint.path}: NaN or infinite values in {_first_of(bad)}",
            "The training diverged or the file is damaged; take another checkpoint.",
        )
    return converted


def _as(tensor: Tensor, model: Tensor) -> Tensor:
    return tensor.detach().to(model.dtype)


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f", … ({len(names)} in all)" if len(names) > _LISTED else "")


def _refuse_other_formats(path: Path) -> None:
    try:
        with path.open("rb") as file:
            head = file.read(512)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror or error}", _ADVICE) from error
    if head.startswith(_ZIP_MAGIC):
        _refuse_other_zips(path)
    elif not head.startswith(_PICKLE_MAGIC):
        raise CheckpointError(f"{path}: is {_looks_like(head)}, not a PyTorch checkpoint", _ADVICE)


def _refuse_other_zips(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise CheckpointError(f"{path}: a damaged or truncated zip file: {error}", _ADVICE) from error
    if not any(entry.filename.endswith("/data.pkl") for entry in entries):
        raise CheckpointError(f"{path}: is a zip file, but not one that torch.save wrote", _ADVICE)
    # torch.save never compresses; what is compressed could grow without bound when read.
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
        raise CheckpointError(f"{path}: has compressed entries, which torch.save does not write", _ADVICE)


def _looks_like(head: bytes) -> str:
    if not head:
        return "an empty file"
    if head.lstrip().lower().startswith((b"<!doctype html", b"<html", b"<?xml")):
        return "an HTML or XML page"
    try:
        text = head.decode("utf-8")
    except UnicodeDecodeError:
        return "a file of an unknown format"
    printable = all(character.isprintable() or character.isspace() for character in text)
    return "a text file" if printable else "a file of an unknown format"


def _read(path: Path) -> Any:
    import torch

    mapped = zipfile.is_zipfile(path)
    allowed: list[Any] = [(_Inert, name) for name in _READ_AS_INERT]
    try:
        with torch.serialization.safe_globals(allowed):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except pickle.UnpicklingError as error:
        asked = re.search(r"GLOBAL ([\w.]+)", str(error)) or re.search(r"function (?:<[^>]*?)?([\w.]+)", str(error))
        if asked:
            raise CheckpointError(
                f"{path}: refused: its pickle asks for {asked[1]}, which is not a tensor",
                "Do not load it elsewhere either, unless you trust who made it.",
            ) from error
        raise CheckpointError(f"{path}: not a checkpoint, or a damaged one: {_line(error)}", _ADVICE) from error
    # Whatever torch.load raises for a broken file (it has no list), the fault is the file's.
    except Exception as error:
        raise CheckpointError(f"{path}: a damaged or truncated checkpoint: {_line(error)}", _ADVICE) from error


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:200]


def _all_tensors(state: Mapping[Any, Any]) -> bool:
    import torch

    return all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in state.items())


def _metadata(meta: Any) -> Metadata:
    """mmcv's meta has CLASSES and PALETTE, mmengine's has dataset_meta; both are kept as plain lists."""
    if not isinstance(meta, Mapping):
        return Metadata()
    dataset = meta.get("dataset_meta")
    dataset = dataset if isinstance(dataset, Mapping) else {}
    classes = meta.get("CLASSES", dataset.get("classes"))
    palette = meta.get("PALETTE", dataset.get("palette"))
    return Metadata(
        classes=[str(name) for name in classes] if isinstance(classes, (list, tuple)) else None,
        palette=[list(colour) for colour in palette] if _is_palette(palette) else None,
        mmseg_version=_text(meta.get("mmseg_version")),
        config=_text(meta.get("config", meta.get("cfg"))),
    )


def _is_palette(palette: Any) -> bool:
    return isinstance(palette, (list, tuple)) and all(isinstance(colour, (list, tuple)) for colour in palette)


def _text(value: Any) -> Optional[str]:
    return value if isinstance(value, str) else None


def _compare(path: Path, metadata: Metadata, card: ModelCard) -> list[str]:
    theirs, ours = metadata.classes, card.class_names
    if theirs is None:
        return []
    if len(theirs) != len(ours):
        raise CheckpointError(f"{path}: was trained for {len(theirs)} classes, the card has {len(ours)}", _ADVICE)
    warnings = []
    different = [f"{a!r} (card: {b!r})" for a, b in zip(theirs, ours) if a != b]
    if different:
        warnings.append(f"{path.name}: class names differ from the card's: {_first_of(different)}")
    if metadata.palette is not None and metadata.palette != [list(colour) for colour in card.palette]:
        warnings.append(f"{path.name}: its palette differs from the card's")
    return warnings
