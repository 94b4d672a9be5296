"""Choose a set of weights in a checkpoint, and the prefix under which a network's keys are in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pspnet_convert.errors import CheckpointError, printable
from pspnet_convert.pytorch.safe_unpickle import Made, Name, described, entries_of, parts_of
from pspnet_convert.pytorch.stored_tensor import looks_like_tensor

# The names that training scripts give to their model's weights, best first.
_USUAL = ("state_dict", "model", "model_state_dict", "net")
_PARALLEL = "module."
# mmrazor saves both; training with a teacher, too.
_STUDENTS, _TEACHER = ("student", "architecture"), "teacher"
_LISTED, _MAX_SHOWN = 10, 60
_MAX_DEPTH = 8  # names in a prefix, and one
_ADVICE = "Save the model's state_dict() with torch.save, or with safetensors."


@dataclass(frozen=True)
class WeightSet:
    """One set of weights: its name in the file (None for the file's top level), and values by key."""

    name: str | None
    values: Mapping[Any, Any]

    def without_module(self) -> WeightSet:
        """mmengine's loader removes `module.` (of data parallel training) from each key. Kept if keys would collide."""
        shorter = {key.removeprefix(_PARALLEL) if isinstance(key, str) else key: key for key in self.values}
        if len(shorter) < len(self.values):
            return self
        return WeightSet(self.name, {key: self.values[old] for key, old in shorter.items()})


def choose_weights(values: Any, path: Any, wanted: str | None) -> WeightSet:
    """The set of weights named `wanted`; without a name, state_dict, or one that is usual, or the only one.

    Raises CheckpointError where there is no such set, or several and none of them is usual.
    """
    top = entries_of(values)
    if isinstance(values, Made) and not top:
        raise CheckpointError(f"{path}: is {described(values)}, which only code could read", _ADVICE)
    sets = _names_of_sets(top)
    chosen = wanted or ("state_dict" if "state_dict" in top else next((name for name in _USUAL if name in sets), None))
    if chosen is None and any(looks_like_tensor(value) for value in top.values()):
        return WeightSet(None, top).without_module()
    if chosen is None and len(sets) == 1:
        (chosen,) = sets
    if chosen in sets:
        return WeightSet(chosen, entries_of(top[chosen])).without_module()
    raise _no_such_weights(path, top, sets, chosen)


def _no_such_weights(path: Any, top: Mapping[Any, Any], names: Sequence[str], chosen: str | None) -> CheckpointError:
    has = f"it has {', '.join(_shown(name) for name in names[:_LISTED])}" if names else "it has no other"
    advice = "Choose with --weights NAME." if names else _ADVICE
    if chosen is None and not names:
        chosen = next((name for name in _USUAL if name in top), None)
    value = top.get(chosen)
    if chosen is None and names:
        return CheckpointError(f"{path}: has several sets of weights: {has}", advice)
    if isinstance(value, (Made, Name)) and not entries_of(value) and not described(value).endswith("Dict"):
        what = f"its {_shown(str(chosen))} is {described(value)}, which only code could read"
        return CheckpointError(f"{path}: {what}", advice)
    if chosen is None or (chosen in top and not names):
        return CheckpointError(f"{path}: holds no state dict of tensors", advice)
    return CheckpointError(f"{path}: has no weights named {_shown(chosen)}: {has}", advice)


def _names_of_sets(top: Mapping[Any, Any]) -> list[str]:
    """The names of the entries that are dictionaries with tensors."""
    known: dict[int, bool] = {}  # a hostile file has one large dictionary in many places

    def has_tensors(part: dict[Any, Any]) -> bool:
        if id(part) not in known:
            known[id(part)] = any(looks_like_tensor(one) for one in part.values())
        return known[id(part)]

    return [key for key, value in top.items() if isinstance(key, str) and any(map(has_tensors, parts_of(value)))]


def _shown(name: str) -> str:
    return printable(name[:_MAX_SHOWN]) or "''"


def find_prefix(path: Any, keys: Collection[Any], required: Collection[str], asked: str | None) -> str:
    """What the network's keys begin with among `keys`; where none fits, the prefix that most of them have.

    `asked` is what the user asked for. CheckpointError where several prefixes fit, and it is not clear which is meant.
    """
    if asked is not None:
        return asked
    counts = Counter(prefix for key in keys if isinstance(key, str) for prefix in _prefixes(key, required))
    fitting = sorted(prefix for prefix, count in counts.items() if count == len(required))
    if not fitting:
        return min(counts, key=lambda prefix: (-counts[prefix], prefix), default="")
    fitting = [prefix for prefix in fitting if not _has_student(prefix, fitting)]
    if len(fitting) > 1:
        listed = ", ".join(repr(prefix) for prefix in fitting[:_LISTED])
        raise CheckpointError(
            f"{path}: has the network's keys several times, under the prefixes {listed}", "Choose with --prefix PREFIX."
        )
    return fitting[0]


def _prefixes(key: str, required: Collection[str]) -> list[str]:
    """The beginnings of `key`, of a few names at most, that the rest is a network's key after."""
    found, start = [], 0
    for _ in range(_MAX_DEPTH):
        if key[start:] in required:
            found.append(key[:start])
        start = key.find(".", start) + 1
        if start == 0:
            break
    return found


def _has_student(prefix: str, others: Collection[str]) -> bool:
    """Whether `prefix` is a teacher's, and one of `others` its student's."""
    parent, _, last = prefix.removesuffix(".").rpartition(".")
    before = f"{parent}." if parent else ""
    return last == _TEACHER and any(f"{before}{student}." in others for student in _STUDENTS)
