"""Read a pickle as plain data: no name in it is imported, and nothing is called.

What is no plain data becomes a Name or a Made, which say what the pickle asks for and do nothing.
"""

from __future__ import annotations

import pickletools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import IO, Any

_MAX_STEPS = 2_000_000  # a checkpoint with its optimizer takes about ten thousand
_MAX_SHOWN = 100  # characters of a name


@dataclass(frozen=True, eq=False, slots=True)
class Name:
    """A class or function that the pickle names, as `module.name`."""

    text: str


@dataclass(frozen=True, eq=False, slots=True)
class LeftOut:
    """A value that is not read; `what` says what it is."""

    what: str


@dataclass(eq=False, slots=True)
class Made:
    """An object that the pickle wants made by the call `by(*arguments)`; then its state, entries and elements.

    The call is never done.
    """

    by: Any
    arguments: tuple[Any, ...]
    state: Any = None
    entries: dict[Any, Any] | None = None
    elements: list[Any] | None = None


def unpickle(file: IO[bytes], persistent: Callable[[Any], Any]) -> Any:
    """The value of the pickle that begins at the file's position. Sets become lists.

    `persistent` gives the value of a persistent id. Raises an error of any kind for a damaged pickle, and ValueError
    for one of more than _MAX_STEPS steps.
    """
    return _Machine(persistent).run(file)


def entries_of(value: Any) -> dict[Any, Any]:
    """The entries of a dictionary, or of an object that is filled like one (OrderedDict, ConfigDict); else none."""
    parts = parts_of(value)
    return parts[0] if len(parts) == 1 else {key: one for part in parts for key, one in part.items()}


def parts_of(value: Any) -> list[dict[Any, Any]]:
    """The dictionaries that make up the entries of `value`; later ones replace earlier ones."""
    if isinstance(value, dict):
        return [value]
    if not isinstance(value, Made):
        return []
    parts = [*value.arguments[:2], value.entries]
    return [part for part in parts if isinstance(part, dict)]


def described(value: Any) -> str:
    """What a value is, in a few words for a message."""
    if isinstance(value, Made):
        return f"an object made by {_name_of(value.by)}"
    if isinstance(value, LeftOut):
        return value.what
    return f"the name {value.text[:_MAX_SHOWN]}" if isinstance(value, Name) else f"a {type(value).__name__}"


def _name_of(maker: Any) -> str:
    for _ in range(10):  # a Made of a Made
        if not isinstance(maker, Made):
            break
        maker = maker.by
    return maker.text[:_MAX_SHOWN] if isinstance(maker, Name) else f"a {type(maker).__name__}"


_CONSTANTS: Mapping[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False, "EMPTY_TUPLE": ()}
_EMPTY: Mapping[str, Callable[[], Any]] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_SET": list}
_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
_IGNORED = ("PROTO", "FRAME")
_LITERALS = frozenset(
    {
        *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
        *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    }
)


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self._persistent = persistent
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, file: IO[bytes]) -> Any:
        stack = self._stack
        argument: Any
        for steps, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if steps >= _MAX_STEPS:
                raise ValueError(f"its pickle takes more than {_MAX_STEPS} steps")
            step = opcode.name
            if step in _LITERALS:
                stack.append(argument)
            elif step in ("BINPUT", "LONG_BINPUT", "PUT"):
                self._memo[argument] = stack[-1]
            elif step == "MEMOIZE":
                self._memo[len(self._memo)] = stack[-1]
            elif step in ("BINGET", "LONG_BINGET", "GET"):
                stack.append(self._memo[argument])
            elif step in _CONSTANTS:
                stack.append(_CONSTANTS[step])
            elif step in _EMPTY:
                stack.append(_EMPTY[step]())
            elif step in _TUPLES:
                stack.append(tuple(self._pop(_TUPLES[step])))
            elif step == "STOP":
                return stack.pop()
            elif step not in _IGNORED:
                self._step(step, argument)
        raise ValueError("its pickle has no end")

    def _step(self, step: str, argument: Any) -> None:
        """One of the steps that change what is on the stack, or ask for a name or a call."""
        stack = self._stack
        match step:
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                items = self._pop_marked()
                stack.append(tuple(items))
            case "LIST" | "FROZENSET":
                items = self._pop_marked()
                stack.append(items)
            case "DICT":
                items = self._pop_marked()
                stack.append({})
                self._set_entries(items)
            case "APPEND":
                self._add_elements(self._pop(1))
            case "APPENDS" | "ADDITEMS":
                self._add_elements(self._pop_marked())
            case "SETITEM":
                self._set_entries(self._pop(2))
            case "SETITEMS":
                self._set_entries(self._pop_marked())
            case "POP":
                if self._marks and self._marks[-1] == len(stack):
                    self._marks.pop()
                else:
                    stack.pop()
            case "POP_MARK":
                self._pop_marked()
            case "DUP":
                stack.append(stack[-1])
            case "PERSID":
                stack.append(self._persistent(argument))
            case "BINPERSID":
                stack.append(self._persistent(stack.pop()))
            case _:
                self._ask(step, argument)

    def _ask(self, step: str, argument: Any) -> None:
        """A step that asks for a name, or for an object."""
        stack = self._stack
        match step:
            case "GLOBAL":
                stack.append(_named(*str(argument).split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_named(*self._pop(2)))
            case "REDUCE" | "NEWOBJ":
                by, arguments = self._pop(2)
                stack.append(Made(by, _as_arguments(arguments)))
            case "NEWOBJ_EX":
                by, arguments, named = self._pop(3)
                stack.append(Made(by, (*_as_arguments(arguments), named)))
            case "INST":
                arguments = self._pop_marked()
                stack.append(Made(_named(*str(argument).split(" ", 1)), tuple(arguments)))
            case "OBJ":
                by, *arguments = self._pop_marked()
                stack.append(Made(by, tuple(arguments)))
            case "BUILD":
                (state,) = self._pop(1)
                if isinstance(stack[-1], Made):
                    stack[-1].state = state
            case _:
                raise ValueError(f"its pickle has the step {step}")

    def _pop(self, count: int) -> list[Any]:
        items = self._stack[-count:]
        if len(items) < count:
            raise IndexError("its pickle takes more from the stack than is there")
        del self._stack[-count:]
        return items

    def _pop_marked(self) -> list[Any]:
        start = self._marks.pop()
        items = self._stack[start:]
        del self._stack[start:]
        return items

    def _add_elements(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Made):
            target.elements = target.elements or []
            target = target.elements
        if not isinstance(target, list):
            raise ValueError(f"its pickle appends to {described(target)}")
        target.extend(items)

    def _set_entries(self, items: list[Any]) -> None:
        target = self._stack[-1]
        if isinstance(target, Made):
            target.entries = target.entries or {}
            target = target.entries
        if not isinstance(target, dict):
            raise ValueError(f"its pickle sets entries of {described(target)}")
        for key, value in zip(items[::2], items[1::2]):
            target[_as_key(key)] = value


def _named(module: Any, name: Any) -> Name:
    if not isinstance(module, str) or not isinstance(name, str):
        raise ValueError("its pickle has a name that is no text")
    return Name(f"{'builtins' if module == '__builtin__' else module}.{name}")


def _as_arguments(value: Any) -> tuple[Any, ...]:
    return value if isinstance(value, tuple) else (value,)


def _as_key(key: Any) -> Any:
    """A key that can be hashed: a tuple nested deeply would overflow the processor's stack."""
    is_flat = isinstance(key, tuple) and not any(isinstance(one, (tuple, list, dict, bytearray)) for one in key)
    if is_flat or not isinstance(key, (tuple, list, dict, bytearray)):
        return key
    return LeftOut(f"a {type(key).__name__}")
