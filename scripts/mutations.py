"""Ways to damage a file, or to make it hostile, for fuzz.py: each takes a random generator and bytes, returns bytes."""

from __future__ import annotations

import io
import pickletools
import re
import struct
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import onnx
import yaml
from slow_graphs import endless_loop, many_numbers

Mutation = Callable[[Random, bytes], bytes]
NUMBERS = [0, 1, -1, 7, 255, 2**16, 2**31 - 1, -(2**31), 2**32, 2**40, 2**62, 2**63 - 1, 2**64 - 1, 10**30]
NAMES = [
    "posix system",
    "os system",
    "__builtin__ eval",
    "builtins exec",
    "builtins bytearray",
    "subprocess Popen",
    "_codecs encode",
    "collections OrderedDict",
    "collections Counter",
    "torch Tensor",
    "torch.storage _load_from_bytes",
    "torch._utils _rebuild_sparse_tensor",
    "torch._utils _rebuild_qtensor",
    "torch._utils _rebuild_meta_tensor_no_storage",
    "torch._tensor _rebuild_from_type_v2",
    "torch ComplexFloatStorage",
    "numpy.core.multiarray _reconstruct",
]


def flip_bits(random: Random, data: bytes) -> bytes:
    changed = bytearray(data)
    for _ in range(random.choice([1, 2, 8, 64])):
        changed[_place(random, len(data) - 1)] ^= 1 << random.randrange(8)
    return bytes(changed)


def truncate(random: Random, data: bytes) -> bytes:
    return data[: _place(random, len(data))]


def repeat_chunk(random: Random, data: bytes) -> bytes:
    start = _place(random, len(data))
    chunk = data[start : start + random.choice([1, 16, 256, 4096])]
    return data[:start] + chunk * random.choice([2, 3, 100]) + data[start + len(chunk) :]


def splicing(others: Sequence[bytes]) -> Mutation:
    """A mutation that puts a chunk of one of `others` somewhere, overwriting or inserting it."""

    def splice(random: Random, data: bytes) -> bytes:
        other = random.choice(others)
        source, start = _place(random, len(other)), _place(random, len(data))
        chunk = other[source : source + random.choice([4, 64, 1024, 65536])]
        return data[:start] + chunk + data[start + random.choice([0, len(chunk)]) :]

    return splice


def pickling(canary: Path) -> Mutation:
    """A mutation that edits steps of a checkpoint's main pickle; some would create `canary` if they were run."""

    def edit(random: Random, data: bytes) -> bytes:
        if not data.startswith(b"PK"):
            start, end = _legacy_pickle(data)
            return data[:start] + _edit_steps(random, data[start:end], canary) + data[end:]
        made = io.BytesIO()
        with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(made, "w") as new:
            for entry in old.infolist():
                content = old.read(entry)
                is_pickle = entry.filename.endswith("/data.pkl")
                # Given a name only, writestr would store the current time, and so other bytes.
                same_date = zipfile.ZipInfo(entry.filename, entry.date_time)
                new.writestr(same_date, _edit_steps(random, content, canary) if is_pickle else content)
        return made.getvalue()

    return edit


def edit_yaml(random: Random, data: bytes) -> bytes:
    """Another value or key somewhere in a card."""
    card = yaml.safe_load(data)
    inner: Any = card
    while True:
        keys = list(inner) if isinstance(inner, dict) else list(range(len(inner)))
        key = random.choice(keys)
        if isinstance(inner[key], (dict, list)) and inner[key] and random.random() < 0.8:
            inner = inner[key]
            continue
        odd = [*NUMBERS, 1e308, 1e-300, float("nan"), "", "../..", "\x1b[2J", "\u202e", "a" * 5000, None, [], {}, True]
        inner[key] = random.choice([*odd, inner[key], [inner[key]] * 1000, {"a": inner[key]}])
        if isinstance(inner, dict) and random.random() < 0.3:
            inner[str(random.choice(odd))[:100]] = inner.pop(key)
        return yaml.safe_dump(card, allow_unicode=True).encode()


def edit_text(random: Random, data: bytes) -> bytes:
    """Another number, a line less or a line more, in YAML or XML."""
    lines = data.decode().splitlines(keepends=True)
    number = random.randrange(len(lines))
    kind = random.randrange(4)
    if kind == 0:
        del lines[number]
    elif kind == 1:
        lines.insert(random.randrange(len(lines)), lines[number])
    else:
        with_digits = [index for index, line in enumerate(lines) if re.search(r"\d", line)]
        number = random.choice(with_digits)
        found = random.choice(list(re.finditer(r"\d+", lines[number])))
        value = str(random.choice(NUMBERS))
        lines[number] = lines[number][: found.start()] + value + lines[number][found.end() :]
    return "".join(lines).encode()


def edit_onnx(random: Random, data: bytes) -> bytes:
    """Another shape, name, attribute or place of a tensor."""
    model = onnx.ModelProto.FromString(data)
    graph = model.graph
    node, tensor = random.choice(graph.node), random.choice(graph.initializer)
    kind = random.randrange(7)
    if kind == 0 and tensor.dims:
        tensor.dims[random.randrange(len(tensor.dims))] = _int64(random)
    elif kind == 1:
        external = random.choice([tensor, *(a.t for n in graph.node for a in n.attribute if a.HasField("t"))])
        external.ClearField("raw_data")
        external.data_location = onnx.TensorProto.EXTERNAL
        external.external_data.add(key="location", value="../../../../../../etc/passwd")
    elif kind == 2 and node.input:
        node.input[random.randrange(len(node.input))] = random.choice([*random.choice(graph.node).output, ""])
    elif kind == 3:
        node.output[0] = random.choice(graph.node).output[0]
    elif kind == 4:
        node.op_type = random.choice([random.choice(graph.node).op_type, "Loop", "If", "Nonsense", ""])
    elif kind == 5 and node.attribute:
        attribute = random.choice(node.attribute)
        attribute.i = _int64(random)
        attribute.ints[:] = [_int64(random) for _ in attribute.ints]
    else:
        tensor.data_type = random.randrange(30)
    return model.SerializeToString()


def slow_onnx(random: Random, data: bytes) -> bytes:
    """A step that takes from a moment to centuries, or from a kilobyte to an exabyte."""
    model = onnx.ModelProto.FromString(data)
    add_step = random.choice([endless_loop, many_numbers])
    add_step(model, 10 ** random.randint(3, 18))
    return model.SerializeToString()


def _place(random: Random, length: int) -> int:
    """Anywhere from 0 to `length`, and mostly near the ends: the middle of a large file holds only numbers."""
    near = random.choice([64, 1024, 65536, length])
    place = min(random.randint(0, near), length)
    return random.choice([place, length - place])


def _int64(random: Random) -> int:
    return random.choice([number for number in NUMBERS if number < 2**63])


def _legacy_pickle(data: bytes) -> tuple[int, int]:
    """Start and end of the fourth pickle in a row, which holds the values."""
    stream = io.BytesIO(data)
    start = 0
    for _ in range(4):
        start = stream.tell()
        for _ in pickletools.genops(stream):
            pass
    return start, stream.tell()


def _edit_steps(random: Random, pickled: bytes, canary: Path) -> bytes:
    positions = [position for _, _, position in pickletools.genops(pickled)]
    steps = [pickled[start:end] for start, end in zip(positions, [*positions[1:], len(pickled)])]
    for _ in range(random.choice([1, 1, 3])):
        number = random.randrange(2, len(steps))
        kind = random.randrange(6)
        if kind == 0:
            del steps[number]
        elif kind == 1:
            steps[number] *= random.choice([2, 50, 10_000])
        elif kind == 2:
            steps[number] = random.choice(steps)
        elif kind == 3:
            steps.insert(number, _call(random.choice(NAMES), f"touch {canary}"))
        elif kind == 4:
            steps[number] = _number(random)
        else:
            numbers = [n for n, step in enumerate(steps) if step[:1] in b"JKM\x8a"]
            steps[random.choice(numbers)] = _number(random)
    return b"".join(steps)


def _call(name: str, argument: str) -> bytes:
    """Pickle steps that call `name(argument)` and leave the result on the stack."""
    module, _, function = name.partition(" ")
    text = argument.encode()
    return b"c" + f"{module}\n{function}\n".encode() + b"X" + struct.pack("<I", len(text)) + text + b"\x85R"


def _number(random: Random) -> bytes:
    value = random.choice(NUMBERS)
    digits = value.to_bytes(16, "little", signed=True)
    return b"\x8a" + bytes([len(digits)]) + digits
