"""Read a checkpoint's weights and metadata and check them, without running any code in the file."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pspnet_convert.cards.card import CheckpointFile, ModelCard
from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.errors import CheckpointError, DigestError, count, first_line
from pspnet_convert.pytorch.checkpoint_file import ADVICE, Content, damaged, open_checkpoint
from pspnet_convert.pytorch.read_metadata import metadata_of
from pspnet_convert.pytorch.stored_tensor import NotPlainError, StoredTensor, stored_tensor
from pspnet_convert.pytorch.weights import WeightSet, choose_weights, find_prefix

if TYPE_CHECKING:
    from torch import Tensor

AUXILIARY_HEAD = "auxiliary_head."
_LISTED = 3
_BATCH_COUNT = ".num_batches_tracked"
_ADVICE_MISSING = "Run `pspnet-convert download` first, or give the file with --checkpoint."
_ADVICE_CARD = "Give a PyTorch checkpoint of this card's network; `pspnet-convert download` gets the right one."
_ADVICE_OWN = "Give the checkpoint that was trained with the model's config, or choose its keys with --prefix PREFIX."
_ADVICE_PLAIN = "Save the state_dict() of a model on the CPU, of dense tensors of floats and integers."
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Checkpoint:
    """A set of weights of a checkpoint, which are read when a network needs them, and the file's metadata.

    `prefix`: what its keys begin with before the network's own, if the card says it. `advice`: what to do if the
    weights are not the network's.
    """

    path: Path
    weights: WeightSet
    prefix: str | None
    metadata: Metadata
    warnings: tuple[str, ...]
    content: Content
    advice: str

    def tensor(self, key: str) -> StoredTensor:
        """The tensor of a key; CheckpointError if it is no plain tensor, or is not all in the file."""
        try:
            return stored_tensor(self.weights.values[key], self.content.numbers_of)
        except NotPlainError as error:
            raise CheckpointError(f"{self.path}: {key} is no plain tensor, but {error}", _ADVICE_PLAIN) from error
        except Exception as error:
            raise damaged(self.path, ValueError(f"{key} is {first_line(error)}")) from error

    def load(self, key: str) -> Tensor:
        """The values of a key's tensor, on the CPU, of the file's type. CheckpointError as in `tensor`."""
        tensor = self.tensor(key)
        try:
            return tensor.load().detach()
        except Exception as error:
            raise damaged(self.path, ValueError(f"{key}: {first_line(error)}")) from error


@dataclass(frozen=True)
class FittedWeights:
    """A network's state dict from a checkpoint: the prefix of its keys there, and the keys that are left out."""

    state: Mapping[str, Tensor]
    prefix: str
    left_out: tuple[str, ...]
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


def load_checkpoint(path: Path, card: ModelCard) -> Checkpoint:
    """Open `path`, choose the weights that the card asks for, and compare the metadata with the card.

    Raises CheckpointError if the file is not a checkpoint, has no such weights, or was trained for another number of
    classes.
    """
    content = open_checkpoint(path)
    asked = card.checkpoint
    weights = choose_weights(content.values, path, asked.weights)
    if weights.name not in (None, "state_dict", asked.weights):
        log.info("%s: taking its weights %s", path.name, weights.name)
    metadata = metadata_of(content.values)
    warnings = _compare(path, metadata, card)
    for warning in warnings:
        log.warning("%s", warning)
    advice = _ADVICE_OWN if card.config is None else _ADVICE_CARD
    if weights.others:
        advice += f" The file also has the weights {_first_of(weights.others)}: choose with --weights NAME."
    return Checkpoint(path, weights, asked.prefix, metadata, tuple(warnings), content, advice)


def fit_weights(checkpoint: Checkpoint, expected: Mapping[str, Tensor]) -> FittedWeights:
    """The state dict for a network that has `expected`, in its dtypes (floating point: float32).

    Keys of no use are left out; the auxiliary head's without a warning. A BatchNorm's missing count of batches becomes
    0: PyTorch before 0.4.1 had none, and only training reads it. Raises CheckpointError that lists missing and
    misshapen keys, or those with NaN or infinity.
    """
    keys = checkpoint.weights.values
    required = [name for name in expected if not name.endswith(_BATCH_COUNT)]
    prefix = find_prefix(checkpoint.path, keys, set(required), checkpoint.prefix)
    there = {name: prefix + name for name in expected if prefix + name in keys}
    used = set(there.values())
    # No answer depends on the counts of batches, which some tools average or make half floats.
    there = {name: key for name, key in there.items() if name in required or _is_count(checkpoint.tensor(key))}
    left_out = (*(key for key in keys if key not in used), *checkpoint.weights.odd_keys)
    _check_keys(checkpoint, expected, there, [name for name in required if name not in there], left_out, prefix)
    state = {**_zero_batch_counts(expected), **{name: checkpoint.load(key) for name, key in there.items()}}
    converted = {name: _in_dtype_of(state[name], tensor) for name, tensor in expected.items()}
    bad = [name for name, tensor in converted.items() if not bool(tensor.isfinite().all())]
    if bad:
        raise CheckpointError(
            f"{checkpoint.path}: NaN or infinite values in {_first_of(bad)}",
            "The training diverged or the file is damaged; take another checkpoint.",
        )
    return FittedWeights(converted, prefix, left_out, _report(checkpoint, prefix, left_out))


def _report(checkpoint: Checkpoint, prefix: str, left_out: Sequence[str]) -> tuple[str, ...]:
    """Log the prefix, and what is left out that is no auxiliary head's; returns the warnings."""
    name = checkpoint.path.name
    if prefix:
        log.info("%s: taking the keys that begin with %s", name, prefix)
    others = [key for key in left_out if not key.startswith(prefix + AUXILIARY_HEAD)]
    if not others:
        return ()
    words = "1 key is not the network's and is left out:"
    if len(others) > 1:
        words = f"{len(others)} keys are not the network's and are left out; the first is"
    warning = f"{name}: {words} {others[0]}"
    log.warning("%s", warning)
    return (warning,)


def _check_keys(
    checkpoint: Checkpoint,
    expected: Mapping[str, Tensor],
    there: Mapping[str, str],
    missing: Sequence[str],
    left_out: Sequence[str],
    prefix: str,
) -> None:
    """CheckpointError unless the keys `there` have the tensors that are `expected`, and none is missing."""
    found = {name: checkpoint.tensor(key) for name, key in there.items()}
    faults = {
        "missing": missing,
        "unexpected": left_out if missing else (),
        "of another shape": [
            f"{name} {list(tensor.shape)} instead of {list(expected[name].shape)}"
            for name, tensor in found.items()
            if tensor.shape != tuple(expected[name].shape)
        ],
        "of another kind of number": [
            f"{name} torch.{tensor.dtype}"
            for name, tensor in found.items()
            if ("float" in tensor.dtype) != expected[name].is_floating_point()
        ],
    }
    if any(faults.values()):
        listed = "; ".join(f"{kind}: {_first_of(names)}" for kind, names in faults.items() if names)
        under = f" under the prefix {prefix!r}" if prefix else ""
        raise CheckpointError(f"{checkpoint.path}: not of this card's network{under}: {listed}", checkpoint.advice)
    # A stride of 0 makes a tensor of any size from one number, and tensors can share a storage: copies need the memory.
    claimed, size = sum(tensor.size for tensor in found.values()), checkpoint.path.stat().st_size
    if claimed > size:
        raise CheckpointError(f"{checkpoint.path}: claims {claimed} bytes of tensors, but has {size} bytes", ADVICE)


def _is_count(tensor: StoredTensor) -> bool:
    return tensor.shape == () and "int" in tensor.dtype


def _zero_batch_counts(expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    import torch

    return {name: torch.zeros((), dtype=torch.int64) for name in expected if name.endswith(_BATCH_COUNT)}


def _in_dtype_of(tensor: Tensor, other: Tensor) -> Tensor:
    return tensor.to(other.dtype).contiguous()


def _first_of(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f", … ({len(names)} in all)" if len(names) > _LISTED else "")


def _compare(path: Path, metadata: Metadata, card: ModelCard) -> list[str]:
    theirs, ours, palette = metadata.classes, card.class_names, card.palette
    if theirs is None:
        return []
    if (len(theirs), len(ours)) == (1, 2):  # a head of one class has a label map of 0 and 1
        ours, palette = ours[1:], palette[1:]
    warnings = []
    if len(theirs) != len(ours):
        what = f"was trained for {count(len(theirs), 'class', 'classes')}, the card has {len(ours)}"
        if card.config is not None:  # a user's own card has the classes that its user has confirmed
            raise CheckpointError(
                f"{path}: {what}", "If its metadata are wrong, give its config with --config, and --classes."
            )
        return [f"{path.name}: {what}"]
    different = [f"{a!r} (card: {b!r})" for a, b in zip(theirs, ours) if a != b]
    if different:
        warnings.append(f"{path.name}: class names differ from the card's: {_first_of(different)}")
    if metadata.palette is not None and metadata.palette != [list(colour) for colour in palette]:
        warnings.append(f"{path.name}: its palette differs from the card's")
    return warnings
