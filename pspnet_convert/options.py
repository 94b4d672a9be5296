"""Options of the commands: a field of a frozen dataclass is an option.

The command line, the Python API and the manifest share these dataclasses. To add an option, add a field.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, TypeVar

import click

from pspnet_convert.errors import OptionError
from pspnet_convert.image_shape import DYNAMIC, MAX_BATCH, MAX_CHANNELS, MAX_SIDE, ImageShape

# The sections of `--help`, in their order.
GROUPS = ("Input", "Export", "IR", "Calibration", "Verification", "Evaluation", "Benchmark", "Output", "General")
Some = TypeVar("Some")


class NumberRange(click.FloatRange):
    """A number in a range. click's own type takes nan for one."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a number that this option takes.", param, ctx)
        return number


@dataclasses.dataclass(frozen=True)
class Declaration:
    """How an option is given on the command line and recorded in the manifest.

    `recorded`: the option's key in the manifest; None where the manifest does not hold it.
    """

    group: str
    type: click.ParamType
    flags: Sequence[str] = ()
    multiple: bool = False
    is_flag: bool = False
    is_argument: bool = False
    recorded: str | None = None
    click_options: Mapping[str, Any] = dataclasses.field(default_factory=dict)


def option(
    default: Any,
    *flags: str,
    group: str,
    type: Any = None,
    multiple: bool = False,
    recorded: str | None = None,
    **click_options: Any,
) -> Any:
    """A field that is an option: `--the-field`, unless `flags` say otherwise.

    `type`, `help`, `metavar`, `show_default` and the like are click's. A boolean default makes a flag. With `multiple`
    the option may be given several times, and the value is a tuple. For `recorded` see Declaration.
    """
    if group not in GROUPS:
        raise ValueError(f"{group!r} is no section of --help")
    kind = click.types.convert_type(type, None if multiple else default)
    is_flag = isinstance(default, bool)
    declared = Declaration(group, kind, flags, multiple, is_flag, False, recorded, click_options)
    return dataclasses.field(default=default, metadata={"option": declared})


def timeout_option(help: str) -> Any:
    """A field of a command's options in the section Verification: seconds, half an hour by default."""
    return option(1800, group="Verification", type=click.IntRange(1, 10_000_000), metavar="SECONDS", help=help)


def argument(default: Any, *, type: Any = None, multiple: bool = False, **click_options: Any) -> Any:
    """A field that is an argument on the command line, and the first one of the Python function."""
    kind = click.types.convert_type(type)
    declared = Declaration("Input", kind, multiple=multiple, is_argument=True, click_options=click_options)
    return dataclasses.field(default=default, metadata={"option": declared})


@dataclasses.dataclass(frozen=True)
class Options:
    """Base of all options classes."""

    @classmethod
    def declarations(cls) -> dict[str, Declaration]:
        """How each option is declared, by the name of its field."""
        return {field.name: field.metadata["option"] for field in dataclasses.fields(cls)}

    @classmethod
    def recorded_keys(cls) -> dict[str, str]:
        """The key in the manifest of each field that the manifest holds."""
        declared = cls.declarations()
        return {name: one.recorded for name, one in declared.items() if one.recorded is not None}

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> Self:
        """The options that a Python caller gave, checked by the rules of the command line.

        An option that can be repeated also takes a single value. None stands for the default. Raises OptionError for a
        value that the command line refuses.
        """
        declared = cls.declarations()
        given = {name: _checked(name, declared[name], value) for name, value in values.items() if value is not None}
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        for name, one in declared.items():
            is_needed = one.click_options.get("required") or defaults[name]
            if name in values and one.multiple and is_needed and not given.get(name, defaults[name]):
                raise OptionError(f"{name}: is empty", "Give at least one, or leave it out.")
            if one.click_options.get("required") and not given.get(name):
                raise OptionError(f"{name}: is missing")
        return cls(**given)

    def as_record(self) -> dict[str, Any]:
        """What the manifest holds of these options: plain values for JSON."""
        return {key: _plain(getattr(self, name)) for name, key in self.recorded_keys().items()}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The options that `as_record` gave; OptionError where `record` is not of that form."""
        keys = cls.recorded_keys()
        if set(record) != set(keys.values()):
            raise OptionError(f"has the options {', '.join(sorted(record))}, not {', '.join(sorted(keys.values()))}")
        return cls.of({name: record[key] for name, key in keys.items()})


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, (list, tuple)) else value


def _checked(name: str, declared: Declaration, value: Any) -> Any:
    if declared.is_flag:
        if not isinstance(value, bool):
            raise OptionError(f"{name}: {value!r} is neither True nor False")
        return value
    values = _several(value) if declared.multiple else [value]
    try:
        for one in values:
            _refuse_what_would_be_rounded(declared.type, one)
        found = tuple(declared.type.convert(one, None, None) for one in values)
    except click.BadParameter as error:
        raise OptionError(f"{name}: {error.message}") from error
    return found if declared.multiple else found[0]


def _refuse_what_would_be_rounded(kind: click.ParamType, value: Any) -> None:
    """click converts numbers as Python's int() and float() do: 7.9 to 7, True to 1."""
    is_number = isinstance(kind, (click.types.IntParamType, click.types.FloatParamType))
    is_part = isinstance(kind, click.types.IntParamType) and isinstance(value, float) and not value.is_integer()
    if is_number and (isinstance(value, bool) or is_part):
        raise click.BadParameter(f"{value!r} is not a valid {kind.name}")


def _several(value: Any) -> Iterable[Any]:
    if isinstance(value, Mapping):
        return list(value.items())
    return [value] if isinstance(value, (str, bytes, Path)) or not isinstance(value, Iterable) else list(value)


class GroupedOption(click.Option):
    """An option that knows its section of `--help`."""

    def __init__(self, *arguments: Any, group: str = "General", **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.group = group


def click_parameters(options: type[Options], names: Iterable[str] | None = None) -> list[click.Parameter]:
    """The fields of an options class as click's parameters; only `names`, where those are given."""
    defaults = {field.name: field.default for field in dataclasses.fields(options)}
    declared = options.declarations()
    return [_parameter(name, declared[name], defaults[name]) for name in (declared if names is None else names)]


def _parameter(name: str, declared: Declaration, default: Any) -> click.Parameter:
    if declared.is_argument:
        nargs = -1 if declared.multiple else 1
        kind = declared.type
        return click.Argument([name], type=kind, nargs=nargs, **{"required": False, **declared.click_options})
    return GroupedOption(
        [name, *(declared.flags or [f"--{name.replace('_', '-')}"])],
        group=declared.group,
        type=None if declared.is_flag else declared.type,
        is_flag=declared.is_flag,
        multiple=declared.multiple,
        default=default,
        **{"show_default": default not in (None, (), False, ""), **declared.click_options},
    )


# Types of several options.


class Shape(click.ParamType):
    """`1,C,H,W` as text, a tuple or a list; C is the number of channels, 3 for colours."""

    name = "1,3,H,W"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> ImageShape:
        try:
            batch, channels, height, width = (int(part) for part in str(value).strip("[]()").split(","))
        except ValueError:
            self.fail(f"{value!r} is not four numbers: 1,3,HEIGHT,WIDTH", param, ctx)
        if not 1 <= channels <= MAX_CHANNELS:
            self.fail(f"{value!r} has {channels} channels, not 1 to {MAX_CHANNELS}", param, ctx)
        is_image = all(8 <= side <= MAX_SIDE for side in (height, width))
        if is_image and batch > 1:
            one = f"1,{channels},{height},{width}"
            self.fail(f"{value!r} is of several images: say {one} and --batch {batch}", param, ctx)
        if batch != 1 or not is_image:
            self.fail(f"{value!r} is not 1,3,HEIGHT,WIDTH with sides of 8 to {MAX_SIDE}", param, ctx)
        return 1, channels, height, width


def check_channels(shape: ImageShape, card_shape: ImageShape) -> None:
    """Raise OptionError unless --input-shape has the card's number of channels."""
    if shape[1] != card_shape[1]:
        right = f"1,{card_shape[1]},{shape[2]},{shape[3]}"
        raise OptionError(f"--input-shape has {shape[1]} channels, the model takes {card_shape[1]}", f"Say {right}.")


class Batch(click.ParamType):
    """A number of images, or `dynamic`, which is DYNAMIC."""

    name = "batch"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "N|dynamic"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value in ("dynamic", DYNAMIC):
            return DYNAMIC
        text = str(value)
        if not text.isascii() or not text.isdigit() or not 1 <= int(text) <= MAX_BATCH:
            self.fail(f"{value!r} is neither a number from 1 to {MAX_BATCH} nor dynamic", param, ctx)
        return int(text)


class Matching(click.ParamType):
    """A text of a certain form; `what` says it in words."""

    name = "text"

    def __init__(self, pattern: str, longest: int, what: str) -> None:
        self._pattern, self._longest, self._what = pattern, longest, what

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not isinstance(value, str) or not re.fullmatch(self._pattern, value) or len(value) > self._longest:
            self.fail(f"{str(value)[: self._longest]!r} is not {self._what}", param, ctx)
        return value


class KeyPrefix(Matching):
    """The beginning of a checkpoint's keys; a missing dot at its end is added. It may be empty."""

    name = "prefix"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        is_part = isinstance(value, str) and re.fullmatch(self._pattern, f"{value}.")
        return super().convert(f"{value}." if is_part else value, param, ctx)


FILE = click.Path(path_type=Path, dir_okay=False)
FOLDER = click.Path(path_type=Path, file_okay=False)
