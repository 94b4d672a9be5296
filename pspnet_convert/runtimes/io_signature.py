"""What a converted file must look like from outside: the card's names, and the shapes and number types asked for.

Read without running the model; whether its answers are right is verify.py's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError, ContractError, first_line
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm

if TYPE_CHECKING:
    import onnx
    import openvino

_LABEL_TYPES = ("int64", "int32")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output: any of its names will do; a dynamic dimension is -1; `layout` is empty where none is told."""

    names: frozenset[str]
    dtype: str
    shape: tuple[int, ...]
    layout: str = ""
    used: bool = True

    def __str__(self) -> str:
        return f"{'/'.join(sorted(self.names)) or '(no name)'} {self.dtype} {list(self.shape)}"


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model, weights and all; ArtifactError if it is not ONNX, or keeps tensors in other files or sparse ones."""
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ArtifactError(f"{path}: there is no such ONNX file", "Run export-onnx first.")
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: is not an ONNX file ({first_line(error)})", "Run export-onnx again.") from error
    if not model.graph.output:
        raise ArtifactError(f"{path}: is not an ONNX file (it has no graph)", "Run export-onnx again.")
    for tensor in _tensors(model):
        if isinstance(tensor, onnx.SparseTensorProto):
            # Made dense when it is loaded: a few bytes can stand for terabytes.
            raise ArtifactError(f"{path}: has sparse weights, which this tool does not read")
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtifactError(f"{path}: keeps weights in other files, which this tool does not follow")
    return model


def _tensors(message: Any) -> Iterator[Any]:
    """All tensors in a protobuf message, dense and sparse, wherever they are: attributes, subgraphs, functions."""
    if message.DESCRIPTOR.name in ("TensorProto", "SparseTensorProto"):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if isinstance(value, Sequence) else [value]:
                yield from _tensors(inner)


def onnx_signature(model: onnx.ModelProto) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """The model's inputs and outputs, without initializers that old files list as inputs."""
    initializers = {tensor.name for tensor in model.graph.initializer}
    used = {name for node in model.graph.node for name in node.input}
    inputs = [_onnx_spec(value, value.name in used) for value in model.graph.input if value.name not in initializers]
    return inputs, [_onnx_spec(value) for value in model.graph.output]


def ir_signature(model: openvino.Model) -> tuple[list[TensorSpec], list[TensorSpec]]:
    used = [bool(port.get_target_inputs()) for port in model.inputs]
    inputs = [replace(_ir_spec(port), used=is_used) for port, is_used in zip(model.inputs, used)]
    return inputs, [_ir_spec(port) for port in model.outputs]


def check_signature(
    path: Path,
    ports: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    card: ModelCard,
    shape: ImageShape,
    form: InputForm = PLAIN,
) -> None:
    """Raise ContractError unless the file has the card's one input and one output, for images of `shape` in `form`.

    All dimensions are static, but for the batch where `shape` says DYNAMIC.
    """
    inputs, outputs = ports
    batch, _, height, width = shape
    faults = [
        *_faults("input", inputs, card.input.name, (form.dtype,), form.ordered(shape), form.layout),
        *_faults("output", outputs, card.output.name, _LABEL_TYPES, (batch, 1, height, width), card.output.layout),
    ]
    if faults:
        raise ContractError(
            f"{path}: {'; '.join(faults)}",
            "Convert it again from the card's checkpoint, or name the card and the options that it was made with.",
        )


def _faults(
    kind: str, ports: Sequence[TensorSpec], name: str, dtypes: Sequence[str], shape: Sequence[int], layout: str
) -> list[str]:
    if len(ports) != 1 or name not in ports[0].names or ports[0].dtype not in dtypes or ports[0].shape != tuple(shape):
        found = ", ".join(str(port) for port in ports) or "none"
        return [f"its {kind} is {found}, where {name} {' or '.join(dtypes)} {list(shape)} was asked for"]
    (port,) = ports
    faults = [] if port.used else [f"nothing in it uses its {kind} {name}"]
    if port.layout and port.layout != layout:
        faults.append(f"its {kind} {name} says that its layout is {port.layout}, where {layout} was asked for")
    return faults


def _onnx_spec(value: onnx.ValueInfoProto, used: bool = True) -> TensorSpec:
    import onnx

    tensor = value.type.tensor_type
    try:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.elem_type).name
    except KeyError:
        dtype = "unknown"
    shape = tuple(d.dim_value if d.HasField("dim_value") else -1 for d in tensor.shape.dim)
    return TensorSpec(frozenset([value.name]), dtype, shape, used=used)


def _ir_spec(port: openvino.Output) -> TensorSpec:
    shape = tuple(d.get_length() if d.is_static else -1 for d in port.get_partial_shape())
    layout = port.get_node().get_layout().to_string().strip("[]").replace(",", "")
    layout = layout if layout.isalpha() else ""  # "..." is any
    return TensorSpec(frozenset(port.get_names()), port.get_element_type().to_dtype().name, shape, layout)
