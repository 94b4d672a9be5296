"""The Winograd layers of this tool's IRs (commands/to_ir/winograd.py): their names, and what is read by them.

The node that gives a layer's result keeps the convolution's name. The nodes before it are named after it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from pspnet_convert.errors import ArtifactError

if TYPE_CHECKING:
    import openvino

_BETWEEN = "/winograd/"
# The steps that other modules look for: their names, after the layer's.
TAPS = "taps"  # reshapes the weights [O, C, 3, 3]
COLUMNS, HALVES = "columns", "halves"
MAP = f"{COLUMNS}/{HALVES}"  # takes the map [N, C, H, W]
PRODUCT = "product"  # the product over the channels


def step_name(layer: str, step: str) -> str:
    """The name of the node that does `step` in the Winograd layer `layer`."""
    return f"{layer}{_BETWEEN}{step}"


def layer_of(node: openvino.Node) -> str | None:
    """The name of the Winograd layer that `node` is a step of; None for other nodes, the layer's last among them."""
    layer, between, _ = node.get_friendly_name().rpartition(_BETWEEN)
    return layer if between else None


def does(node: openvino.Node, step: str) -> bool:
    """Whether `node` does `step` in a Winograd layer."""
    layer = layer_of(node)
    return layer is not None and node.get_friendly_name() == step_name(layer, step)


def count_winograd(xml: Path) -> int:
    """How many Winograd layers the IR `xml` has."""
    names = (layer.get("name", "") for layer in ElementTree.parse(xml).iter("layer"))
    return sum(name.endswith(step_name("", PRODUCT)) for name in names)


def refuse_winograd(path: Path, model: openvino.Model) -> None:
    """Raise ArtifactError if the IR `model` of `path` has Winograd layers: INT8 needs its convolutions."""
    if any(does(node, PRODUCT) for node in model.get_ops()):
        raise ArtifactError(
            f"{path}: has Winograd layers, which are for float32: it cannot be quantized",
            "Run `pspnet-convert to-ir --winograd off` first.",
        )
