"""Read a config's text as data: the form in which mmengine and mmcv write it into a checkpoint. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

_MAX_VALUES = 100_000  # a config has a few hundred
_MAX_DEPTH = 60
_MAX_BITS = 64  # of a whole number; Python does not print very long ones


_NUMBERS = {"inf": float("inf"), "nan": float("nan")}  # as Python writes them


class NotDataError(ValueError):
    """The text has something that is no plain value; the message says what, and in which line."""


def parse_config(text: str) -> dict[str, Any]:
    """The values that the text assigns, by name.

    It may have assignments of numbers, texts, bytes, None, True, False, lists, tuples, sets, dict(...), {...},
    range(...), and names that it has assigned before. Raises NotDataError for anything else.
    """
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        line = f"line {error.lineno}" if isinstance(error, SyntaxError) and error.lineno else "it"
        raise NotDataError(f"{line} is no Python that can be read as data") from error
    reader = _Reader(text)
    for statement in statements:
        match statement:
            case ast.Assign(targets=[ast.Name(id=name)], value=value):
                reader.assigned[name] = reader.value(value)
            case _:
                raise NotDataError(f"line {statement.lineno} is no assignment to a name")
    if "_base_" in reader.assigned:
        raise NotDataError("it has _base_, another file")
    return reader.assigned


class _Reader:
    """Turns expressions into values, and counts them: names that stand for lists of names grow without bound."""

    def __init__(self, text: str) -> None:
        self._text = text
        self.assigned: dict[str, Any] = {}
        self._count = 0

    def value(self, node: ast.expr, depth: int = 0) -> Any:
        self._add(depth, f"line {node.lineno}")
        match node:
            case ast.Constant(value=int() as value) if value.bit_length() > _MAX_BITS:
                raise NotDataError(f"line {node.lineno} has a number of more than {_MAX_BITS} bits")
            case ast.Constant(value=str() | bytes() | int() | float() | None as value):
                return value
            case ast.UnaryOp(
                op=ast.USub(), operand=(ast.Constant(value=int() | float()) | ast.Name(id="inf")) as number
            ):
                return -self.value(number, depth + 1)
            case ast.List(elts=elements) | ast.Set(elts=elements):
                return [self.value(one, depth + 1) for one in elements]
            case ast.Tuple(elts=elements):
                return tuple(self.value(one, depth + 1) for one in elements)
            case ast.Dict(keys=keys, values=values):
                return {self._key(key, node): self.value(one, depth + 1) for key, one in zip(keys, values)}
            # mmengine writes a dictionary so if a key is no name.
            case ast.Call(func=ast.Name(id="dict"), args=[ast.Dict() as inner], keywords=[]):
                return self.value(inner, depth + 1)
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=keywords):
                return {self._keyword(keyword.arg, node): self.value(keyword.value, depth + 1) for keyword in keywords}
            case ast.Call(func=ast.Name(id="range"), args=[ast.Constant(value=int()), *_] as bounds, keywords=[]):
                return range(*[self.value(bound, depth + 1) for bound in bounds[:3]])  # gpu_ids, in releases 0.x
            case ast.Name(id=name) if name in self.assigned:
                return self._copy(self.assigned[name], depth)
            case ast.Name(id=name) if name in _NUMBERS:
                return _NUMBERS[name]
            case ast.Name(id=name):
                raise NotDataError(f"line {node.lineno} uses the name {name[:50]}, which is not assigned before")
        source = ast.get_source_segment(self._text, node) or ""
        raise NotDataError(f"line {node.lineno} has something other than plain values: {source[:50]}")

    def _add(self, depth: int, where: str) -> None:
        self._count += 1
        if self._count > _MAX_VALUES or depth > _MAX_DEPTH:
            raise NotDataError(f"{where}: more than {_MAX_VALUES} values, or deeper than {_MAX_DEPTH}")

    def _key(self, key: ast.expr | None, node: ast.expr) -> Any:
        match key:
            case ast.Constant(value=str() | int()):
                return self.value(key)
        raise NotDataError(f"line {node.lineno} has a key that is no text or number")

    @staticmethod
    def _keyword(name: str | None, node: ast.expr) -> str:
        if name is None:
            raise NotDataError(f"line {node.lineno} has a dict with **")
        return name

    def _copy(self, value: Any, depth: int) -> Any:
        self._add(depth, "it has")
        if isinstance(value, Mapping):
            return {key: self._copy(one, depth + 1) for key, one in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self._copy(one, depth + 1) for one in value)
        return value
