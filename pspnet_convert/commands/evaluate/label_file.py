"""Read the file of --label-map: from values in annotations to class numbers, class names or `ignored`."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pspnet_convert.cards.annotations import IGNORED
from pspnet_convert.cards.card_yaml import read_yaml
from pspnet_convert.errors import CardError, OptionError, first_line

_ADVICE = "It is YAML or JSON, one mapping: {0: ignored, 1: road, 2: 7}."


def read_label_map(path: Path, classes: Sequence[str]) -> dict[int, int]:
    """Class number, or IGNORED, by value; OptionError with one line for a file that is not such a mapping."""
    data = _read(path)
    if not isinstance(data, dict) or not data:
        raise OptionError(f"{path}: is no mapping from values to classes", _ADVICE)
    found: dict[int, int] = {}
    numbers = {name: number for number, name in enumerate(classes)}
    for key, target in data.items():
        value = _value(path, key)
        if value in found:
            raise OptionError(f"{path}: has the value {value} twice", _ADVICE)
        found[value] = _class(path, key, target, numbers)
    return found


def _read(path: Path) -> Any:
    try:
        if path.suffix.lower() == ".json":
            return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_without_repeats)
        return read_yaml(path)
    except CardError as error:
        raise OptionError(error.what, _ADVICE) from error
    except (OSError, ValueError, RecursionError) as error:
        reason = error.strerror if isinstance(error, OSError) else first_line(error)
        raise OptionError(f"{path}: cannot be read as a label map: {reason}", _ADVICE) from error


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key occurs twice")
    return found


def _value(path: Path, key: Any) -> int:
    text = str(key)
    if isinstance(key, bool) or not (text.isascii() and text.isdigit()) or int(text) > 255:
        raise OptionError(f"{path}: {key!r} is no value of an annotation (0 to 255)", _ADVICE)
    return int(text)


def _class(path: Path, key: Any, target: Any, numbers: Mapping[str, int]) -> int:
    if isinstance(target, str) and target in numbers:
        return numbers[target]
    if target == "ignored" or (target == IGNORED and not isinstance(target, bool)):
        return IGNORED
    if isinstance(target, int) and not isinstance(target, bool) and 0 <= target < len(numbers):
        return target
    what = f"{target!r} is no class of the card" if isinstance(target, (str, int)) else f"{target!r} is no class"
    hint = " (quote a name that YAML reads as yes or no)" if isinstance(target, bool) else ""
    raise OptionError(f"{path}: value {key}: {what}, from 0 to {len(numbers) - 1} or by name{hint}", _ADVICE)
