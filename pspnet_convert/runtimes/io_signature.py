"""Check the inputs and outputs of a converted file against the card, without running it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError, ContractError, first_line
from pspnet_convert.forms import LABEL_TYPES, Output
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.output_form import SCORES, OutputForm

if TYPE_CHECKING:
    import onnx
    import openvino


@dataclass(frozen=True)
class TensorSpec:
    """An input or output, known by any of `names`. A dynamic dimension is -1; `layout` is empty if none is stated.

    `used`: whether any node reads it.
    """

    names: frozenset[str]
    dtype: str
    shape: tuple[int, ...]
    layout: str = ""
    used: bool = True

    def __str__(self) -> str:
        return f"{'/'.join(sorted(self.names)) or '(no name)'} {self.dtype} {list(self.shape)}"


def read_onnx(path: Path) -> onnx.ModelProto:
    """The model with its weights; ArtifactError if it is not ONNX, or has sparse tensors or tensors in other files."""
    import onnx
    from google.protobuf.message import DecodeError

    if not path.is_file():
        raise ArtifactError(f"{path}: there is no such ONNX file", "Run `pspnet-convert export-onnx` first.")
    again = "Run `pspnet-convert export-onnx` again."
    try:
        model = onnx.load(str(path), load_external_data=False)
    except (DecodeError, OSError, ValueError) as error:
        raise ArtifactError(f"{path}: is not an ONNX file ({first_line(error)})", again) from error
    if not model.graph.output:
        raise ArtifactError(f"{path}: is not an ONNX file (it has no graph)", again)
    for tensor in _tensors(model):
        if isinstance(tensor, onnx.SparseTensorProto):
            # Loading makes it dense: a few bytes can become terabytes.
            raise ArtifactError(f"{path}: has sparse weights, which this tool does not read")
        if tensor.external_data or tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ArtifactError(f"{path}: has weights in other files, which this tool does not read")
    return model


def _tensors(message: Any) -> Iterator[Any]:
    """All dense and sparse tensors in a protobuf message: in attributes, subgraphs, functions."""
    if message.DESCRIPTOR.name in ("TensorProto", "SparseTensorProto"):
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for inner in value if isinstance(value, Sequence) else [value]:
                yield from _tensors(inner)


def onnx_signature(model: onnx.ModelProto) -> tuple[list[TensorSpec], list[TensorSpec]]:
    """The model's inputs and outputs, without the initializers that old files list as inputs."""
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
    signature: tuple[Sequence[TensorSpec], Sequence[TensorSpec]],
    card: ModelCard,
    shape: ImageShape,
    form: InputForm = PLAIN,
    gives: OutputForm | None = None,
) -> None:
    """Raise ContractError unless the file has one input, the card's, for images of `shape` in `form`, and `gives` what
    it should; None: any of the outputs that a file of this tool can have.

    All dimensions must be static, except the batch where `shape` says DYNAMIC.
    """
    inputs, outputs = signature
    faults = [
        *_faults("input", inputs, card.input.name, (form.dtype,), form.ordered(shape), form.layout),
        *_faults_of_outputs(outputs, card, shape, gives),
    ]
    if faults:
        raise ContractError(
            f"{path}: {'; '.join(faults)}",
            "Convert it again from the card's checkpoint, or give the card and the options that it was made with.",
        )


def _faults_of_outputs(
    outputs: Sequence[TensorSpec], card: ModelCard, shape: ImageShape, gives: OutputForm | None
) -> list[str]:
    batch, _, height, width = shape
    kinds = _kinds_of(outputs, card.output.name) if gives is None else gives.outputs
    label_types = [*LABEL_TYPES.values()] if gives is None else [LABEL_TYPES[gives.label_type]]
    faults, unexpected = [], list(outputs)
    for kind in kinds:
        is_labels = kind == "labels"
        name = card.output.name if is_labels else kind
        dtypes, planes = (label_types, 1) if is_labels else (["float32"], len(card.classes))
        found = [spec for spec in unexpected if name in spec.names] or (unexpected if len(kinds) == 1 else [])
        unexpected = [spec for spec in unexpected if spec not in found]
        faults += _faults("output", found, name, dtypes, (batch, planes, height, width), card.output.layout)
    return faults + [f"its output {spec} is not expected" for spec in unexpected]


def _kinds_of(outputs: Sequence[TensorSpec], labels: str) -> list[Output]:
    """What a file gives, by its outputs' names. `labels`: the label map's; a file without scores must have it."""
    names = {name for spec in outputs for name in spec.names}
    scores: list[Output] = [kind for kind in SCORES if kind in names]
    return ["labels", *scores] if labels in names or not scores else scores


def _faults(
    kind: str, specs: Sequence[TensorSpec], name: str, dtypes: Sequence[str], shape: Sequence[int], layout: str
) -> list[str]:
    if len(specs) != 1 or name not in specs[0].names or specs[0].dtype not in dtypes or specs[0].shape != tuple(shape):
        found = ", ".join(str(spec) for spec in specs) or "none"
        return [f"its {kind} is {found}, expected {name} {' or '.join(dtypes)} {list(shape)}"]
    (spec,) = specs
    faults = [] if spec.used else [f"no node uses its {kind} {name}"]
    if spec.layout and spec.layout != layout:
        faults.append(f"its {kind} {name} has layout {spec.layout}, expected {layout}")
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
    layout = layout if layout.isalpha() else ""  # "..." means any
    return TensorSpec(frozenset(port.get_names()), port.get_element_type().to_dtype().name, shape, layout)
