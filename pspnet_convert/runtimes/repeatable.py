"""Refuse models whose answer to an image can change from one run to the next: they draw numbers, or keep a state."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import ContractError

if TYPE_CHECKING:
    import onnx

_CHANGING = {
    *("RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli"),
    *("ReadValue", "Assign"),  # OpenVINO's variables
}


def check_repeatable(path: Path, operations: Iterable[str]) -> None:
    """ContractError if one of the operations' types draws numbers or keeps a state."""
    for operation in operations:
        if operation in _CHANGING:
            raise ContractError(f"{path}: has the operation {operation}, so that its answer to an image can change")


def onnx_operations(model: onnx.ModelProto) -> Iterator[str]:
    """The types of all nodes, in subgraphs and functions too."""
    return _types(model)


def _types(message: Any) -> Iterator[str]:
    if message.DESCRIPTOR.name == "NodeProto":
        yield message.op_type
    for field, value in message.ListFields():
        if field.message_type is not None and field.message_type.name in _HAVE_NODES:
            for inner in [value] if hasattr(value, "ListFields") else value:
                yield from _types(inner)


_HAVE_NODES = {"GraphProto", "FunctionProto", "NodeProto", "AttributeProto"}


def ir_operations(path: Path) -> Iterator[str]:
    """The types of all layers in an .xml, in bodies of loops too."""
    return (match[1] for match in re.finditer(r'<layer\b[^>]*?\btype="([^"]*)"', path.read_text(encoding="utf-8")))
