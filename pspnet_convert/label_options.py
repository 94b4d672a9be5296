"""The options that name a model's classes and their colours."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pspnet_convert.forms import MAX_CLASSES, MAX_NAME, Colour

_MAX_BYTES = 2**20
_SEPARATORS = re.compile(r"[,\s]+")


class ClassNames(click.ParamType):
    """Names with commas between them, one name, or a file with one name a line; from Python also a list."""

    name = "names"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "A,B,...|FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        names = tuple(value) if isinstance(value, (list, tuple)) else self._read(value, param, ctx)
        if not 1 <= len(names) <= MAX_CLASSES:
            self.fail(f"{len(names)} names are not 1 to {MAX_CLASSES}", param, ctx)
        for name in names:
            if not isinstance(name, str) or not name.isprintable() or not 1 <= len(name) <= MAX_NAME:
                self.fail(f"{str(name)[:MAX_NAME]!r} is no name of a class (1 to {MAX_NAME} characters)", param, ctx)
            if names.count(name) > 1:
                self.fail(f"the name {name!r} occurs twice", param, ctx)
        return names

    def _read(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[str, ...]:
        is_one = isinstance(value, str) and re.fullmatch(r"[^./\\]+", value)  # else it looks like a file's name
        if ("," in str(value) or is_one) and not _is_file(value):
            return tuple(name.strip() for name in str(value).split(","))
        lines = _lines(self, value, "names with commas between them", param, ctx)
        return tuple(line.strip() for line in lines if line.strip())


class Palette(click.ParamType):
    """A file with a colour a line, `r,g,b` or `#rrggbb`, or a JSON list of such; from Python also a list of triples."""

    name = "file"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "FILE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Colour, ...]:
        colours = list(value) if isinstance(value, (list, tuple)) else self._read(value, param, ctx)
        if not 1 <= len(colours) <= MAX_CLASSES:
            self.fail(f"{len(colours)} colours are not 1 to {MAX_CLASSES}", param, ctx)
        return tuple(self._colour(one, param, ctx) for one in colours)

    def _read(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> list[Any]:
        lines = [line.strip() for line in _lines(self, value, "a list of colours", param, ctx)]
        if not "".join(lines).startswith("["):
            return [line for line in lines if line]
        try:
            found = json.loads("\n".join(lines))
        except (ValueError, RecursionError) as error:
            self.fail(f"{str(value)!r} is no JSON list: {error}", param, ctx)
        return list(found)

    def _colour(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Colour:
        numbers: Sequence[Any] = value if isinstance(value, (list, tuple)) else ()
        if isinstance(value, str):
            hexadecimal = re.fullmatch(r"#([0-9a-fA-F]{2})([0-9a-fA-F]{2})([0-9a-fA-F]{2})", value)
            parts = _SEPARATORS.split(value)
            if hexadecimal:
                numbers = [int(part, 16) for part in hexadecimal.groups()]
            elif all(re.fullmatch(r"[0-9]{1,3}", part) for part in parts):
                numbers = [int(part) for part in parts]
        if len(numbers) != 3 or not all(type(number) is int and 0 <= number <= 255 for number in numbers):
            self.fail(f"{str(value)[:MAX_NAME]!r} is no colour: write r,g,b (0 to 255) or #rrggbb", param, ctx)
        return numbers[0], numbers[1], numbers[2]


def _is_file(value: Any) -> bool:
    try:
        return Path(value).is_file()
    except (OSError, TypeError, ValueError):  # it cannot be a path
        return False


def _lines(
    kind: click.ParamType, value: Any, otherwise: str, param: click.Parameter | None, ctx: click.Context | None
) -> list[str]:
    if not _is_file(value):
        kind.fail(f"{str(value)[:200]!r} is neither a file nor {otherwise}", param, ctx)
    try:
        with Path(value).open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
        if len(content) > _MAX_BYTES:
            kind.fail(f"{str(value)!r} is larger than {_MAX_BYTES} bytes", param, ctx)
        return content.decode("utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        kind.fail(f"{str(value)!r} cannot be read as text: {error}", param, ctx)
