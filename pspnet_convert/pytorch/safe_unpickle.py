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
# Of a key. Its hash is computed each time that it is set, so that a long one makes a small file slow; and whole numbers
# up to this size have different hashes.
_MAX_KEY_PARTS, _MAX_KEY_LENGTH, _MAX_KEY_BITS = 16, 10_000, 60


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


def is_dictionary(value: Any) -> bool:
    """Whether `entries_of` has its entries. An empty object has none that would show it: OrderedDict is known."""
    return bool(parts_of(value)) or (isinstance(value, Made) and _name_of(value.by) == "collections.OrderedDict")


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
    return f"the name {value.text[:_MAX_SHOWN]}" if isinstance(value, Name) else _kind_of(value)


def _name_of(maker: Any) -> str:
    for _ in range(10):  # a Made of a Made
        if not isinstance(maker, Made):
            break
        maker = maker.by
    return maker.text[:_MAX_SHOWN] if isinstance(maker, Name) else _kind_of(maker)


def _kind_of(value: Any) -> str:
    name = type(value).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


_LITERALS = (
    *("BININT", "BININT1", "BININT2", "INT", "LONG", "LONG1", "LONG4", "BINFLOAT", "FLOAT"),
    *("BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "UNICODE", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
)


class _Machine:
    """The stack machine that a pickle is a program for."""

    def __init__(self, persistent: Callable[[Any], Any]) -> None:
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}
        stack, push, pop, marked = self._stack, self._stack.append, self._pop, self._pop_marked
        # What each step does, given its argument in the pickle.
        self._steps: Mapping[str, Callable[[Any], object]] = {
            **dict.fromkeys(("PROTO", "FRAME"), lambda _: None),
            **dict.fromkeys(_LITERALS, push),
            "NONE": lambda _: push(None),
            "NEWTRUE": lambda _: push(True),
            "NEWFALSE": lambda _: push(False),
            **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), self._remember),
            "MEMOIZE": lambda _: self._remember(len(self._memo)),
            **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda number: push(self._memo[number])),
            "EMPTY_TUPLE": lambda _: push(()),
            "TUPLE1": lambda _: push(tuple(pop(1))),
            "TUPLE2": lambda _: push(tuple(pop(2))),
            "TUPLE3": lambda _: push(tuple(pop(3))),
            "TUPLE": lambda _: push(tuple(marked())),
            **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda _: push([])),
            **dict.fromkeys(("LIST", "FROZENSET"), lambda _: push(marked())),
            "APPEND": lambda _: self._add_elements(pop(1)),
            **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda _: self._add_elements(marked())),
            "EMPTY_DICT": lambda _: push({}),
            "DICT": lambda _: self._push_dictionary(marked()),
            "SETITEM": lambda _: self._set_entries(pop(2)),
            "SETITEMS": lambda _: self._set_entries(marked()),
            "MARK": lambda _: self._marks.append(len(stack)),
            "POP_MARK": lambda _: marked(),
            "POP": lambda _: self._drop(),
            "DUP": lambda _: push(stack[-1]),
            "PERSID": lambda identifier: push(persistent(identifier)),
            "BINPERSID": lambda _: push(persistent(stack.pop())),
            "GLOBAL": lambda text: push(_named(*text.split(" ", 1))),
            "STACK_GLOBAL": lambda _: push(_named(*pop(2))),
            **dict.fromkeys(("REDUCE", "NEWOBJ"), lambda _: self._call(*pop(2))),
            # With arguments and named ones. They may be those of many objects, and are not copied into each.
            "NEWOBJ_EX": lambda _: self._make(*pop(3)),
            "INST": lambda text: self._make(_named(*text.split(" ", 1)), *marked()),
            "OBJ": lambda _: self._make(*marked()),
            "BUILD": lambda _: self._set_state(stack.pop()),
        }

    def run(self, file: IO[bytes]) -> Any:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(file)):
            if count >= _MAX_STEPS:
                raise ValueError(f"its pickle takes more than {_MAX_STEPS} steps")
            if opcode.name == "STOP":
                return self._stack.pop()
            if opcode.name not in self._steps:
                raise ValueError(f"its pickle has the step {opcode.name}")
            self._steps[opcode.name](argument)
        raise ValueError("its pickle has no end")

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

    def _drop(self) -> None:
        """Drop the uppermost value, or the mark above it."""
        if self._marks and self._marks[-1] == len(self._stack):
            self._marks.pop()
        else:
            self._stack.pop()

    def _remember(self, number: int) -> None:
        if number > _MAX_STEPS:  # torch counts from 0
            raise ValueError("its pickle remembers a value under too large a number")
        self._memo[number] = self._stack[-1]

    def _call(self, by: Any, arguments: Any) -> None:
        self._stack.append(Made(by, arguments if isinstance(arguments, tuple) else (arguments,)))

    def _make(self, by: Any, *arguments: Any) -> None:
        self._stack.append(Made(by, arguments))

    def _set_state(self, state: Any) -> None:
        if isinstance(self._stack[-1], Made):
            self._stack[-1].state = state

    def _push_dictionary(self, items: list[Any]) -> None:
        self._stack.append({})
        self._set_entries(items)

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


def _as_key(key: Any) -> Any:
    """The key, if it can be hashed in little time; else a LeftOut. A deeply nested one would overflow the stack."""
    parts = key if isinstance(key, tuple) and len(key) <= _MAX_KEY_PARTS else (key,)
    return key if all(map(_is_simple, parts)) else LeftOut(_kind_of(key))


def _is_simple(key: Any) -> bool:
    if isinstance(key, (str, bytes)):
        return len(key) <= _MAX_KEY_LENGTH
    if isinstance(key, int):
        return key.bit_length() <= _MAX_KEY_BITS
    return not isinstance(key, (tuple, list, dict, bytearray))
