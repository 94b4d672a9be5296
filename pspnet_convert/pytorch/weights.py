"""Choose a set of weights in a checkpoint, and the prefix under which a network's keys are in it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any

from pspnet_convert.errors import CheckpointError, printable
from pspnet_convert.pytorch.read_metadata import is_name, quoted
from pspnet_convert.pytorch.safe_unpickle import Made, Name, described, entries_of, is_dictionary, parts_of
from pspnet_convert.pytorch.stored_tensor import looks_like_tensor

# The names that training scripts give to their model's weights, best first.
_USUAL = ("state_dict", "model", "model_state_dict", "net")
_PARALLEL = "module."
# mmrazor saves both; training with a teacher, too.
_STUDENTS, _TEACHER = ("student", "architecture"), "teacher"
_LISTED, _MAX_SHOWN = 10, 100
_MAX_DEPTH = 8  # names in a prefix, and one
_ADVICE = "Save the model's state_dict() with torch.save, or with safetensors."
_CHOOSE = "Choose with --weights NAME."


@dataclass(frozen=True)
class WeightSet:
    """One set of weights: its name in the file (None for the file's top level), and values by key.

    `odd_keys` describes the keys that are no names, whose values are left out. `others` are the names of the file's
    other sets.
    """

    name: str | None
    values: Mapping[str, Any]
    odd_keys: tuple[str, ...]
    others: tuple[str, ...]


def choose_weights(values: Any, path: Any, wanted: str | None) -> WeightSet:
    """The set of weights named `wanted`. Without a name: state_dict; or else the file's top level, if no set in it has
    more tensors; or else a set with a usual name, or the only set.

    Raises CheckpointError where there is no such set, or several and none of them is usual.
    """
    if _needs_code(values):
        raise CheckpointError(f"{path}: is {described(values)}, which only code could read", _ADVICE)
    top = entries_of(values)
    sets = _sets(top)
    at_top = sum(map(looks_like_tensor, top.values()))
    chosen = wanted or ("state_dict" if "state_dict" in top else None)
    if chosen is None and at_top and at_top >= max(sets.values(), default=0):
        return _set_of(None, top, sets)
    if chosen is None:
        usual = [name for name in _USUAL if name in sets]
        if len(sets) > 1 and not usual:
            raise CheckpointError(f"{path}: has several sets of weights: {_listed(sets)}", _CHOOSE)
        chosen = next(iter([*usual, *sets, *(name for name in _USUAL if name in top)]), None)
    if chosen in sets:
        return _set_of(chosen, entries_of(top[chosen]), sets)
    advice = _CHOOSE if sets else _ADVICE
    if chosen is not None and _needs_code(top.get(chosen)):
        what = f"its {_shown(chosen)} is {described(top[chosen])}, which only code could read"
        raise CheckpointError(f"{path}: {what}", advice)
    if chosen is None or (chosen in top and not sets):
        raise CheckpointError(f"{path}: holds no state dict of tensors", advice)
    raise CheckpointError(f"{path}: has no weights named {_shown(chosen)}: {_listed(sets)}", advice)


def _needs_code(value: Any) -> bool:
    return isinstance(value, Name) or (isinstance(value, Made) and not is_dictionary(value))


def _listed(names: Collection[str]) -> str:
    listed = ", ".join(map(_shown, islice(names, _LISTED)))
    return f"it has {listed}" if names else "it has no other"


def _sets(top: Mapping[Any, Any]) -> dict[str, int]:
    """How many tensors the entries have that are dictionaries with tensors, by name."""
    known: dict[int, int] = {}  # a hostile file has one large dictionary in many places

    def tensors(part: dict[Any, Any]) -> int:
        if id(part) not in known:
            known[id(part)] = sum(map(looks_like_tensor, part.values()))
        return known[id(part)]

    counts = {key: sum(map(tensors, parts_of(value))) for key, value in top.items() if isinstance(key, str)}
    return {name: count for name, count in counts.items() if count}


def _set_of(name: str | None, entries: Mapping[Any, Any], sets: Collection[str]) -> WeightSet:
    """The set with these entries. Their `module.`, of data parallel training, is removed as mmengine's loader does it,
    unless keys would collide."""
    named = {key: value for key, value in entries.items() if is_name(key)}
    odd_keys = tuple(quoted(key) for key in entries if not is_name(key))
    shorter = {key.removeprefix(_PARALLEL) or key: value for key, value in named.items()}
    others = tuple(_shown(other) for other in sets if other != name)
    shown = None if name is None else _shown(name)
    return WeightSet(shown, named if len(shorter) < len(named) else shorter, odd_keys, others)


def _shown(name: str) -> str:
    return printable(name[:_MAX_SHOWN]) or "''"


def find_prefix(path: Any, keys: Collection[str], required: Collection[str], asked: str | None) -> str:
    """What the network's keys begin with among `keys`; where none fits, the prefix that most of them have.

    `asked` is what the user asked for; its `module.` may have been removed from the keys. CheckpointError where several
    prefixes fit, and it is not clear which is meant.
    """
    if asked is not None:
        return asked if any(key.startswith(asked) for key in keys) else asked.removeprefix(_PARALLEL)
    counts = Counter(prefix for key in keys for prefix in _prefixes(key, required))
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
