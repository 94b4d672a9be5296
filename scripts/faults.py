"""The faults of fault_catalogue.py: what goes wrong in conversions, each as a change to a right ONNX file or IR.

A fault in the graph is an edit of the ONNX file, which can be converted afterwards. A fault in the preprocessing is a
conversion with a changed card. A fault in names, shapes, types or layouts is an edit of the ONNX or the IR.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
import torch
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.to_ir.front_ends import find_front_end
from pspnet_convert.pytorch.rewrites.pyramid import spreading_matrix, stretching_matrix
from pspnet_convert.runtimes.input_form import PLAIN, InputForm

Edit = Callable[[onnx.ModelProto], None]
Change = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Fault:
    """`name` says what is wrong; `file` is the faulty file: ONNX, IR FP32 or IR FP16.

    One of the other four is set: `graph` edits the ONNX, `preprocessing` has other values for the card's input, `ir`
    edits the IR, `form` is another input form than the one asked for.
    """

    name: str
    file: str
    graph: Edit | None = None
    preprocessing: dict[str, Any] | None = None
    ir: Callable[[openvino.Model], openvino.Model] | None = None
    form: InputForm | None = None


def make(fault: Fault, card: ModelCard, onnx_path: Path, folder: Path, form: InputForm = PLAIN) -> Path:
    """Make the faulty file in `folder`, from a right ONNX file of `card`. An IR takes images in `form`."""
    if fault.graph is not None:
        model = onnx.load(str(onnx_path))
        fault.graph(model)
        onnx_path = folder / "faulty.onnx"
        onnx.save(model, str(onnx_path))
    if fault.file == "ONNX":
        return onnx_path
    wrong = card.input.model_copy(update=fault.preprocessing or {})
    path = folder / "faulty.xml"
    precision = fault.file.split()[1]
    front_end = find_front_end("auto", {})
    arguments = front_end.arguments(card.model_copy(update={"input": wrong}), [card.output.name])
    targets = {precision: str(path)}
    request = {
        "onnx": str(onnx_path),
        "arguments": arguments,
        "form": asdict(fault.form or form),
        "keeps_float32_input": wrong.needs_float32,
        "model_info": {},
        "labels": card.output.name,
        "winograd": "off",
        "targets": targets,
    }
    import_module(f"pspnet_convert.{front_end.module}").convert(request, lambda: None)
    if fault.ir is not None:
        changed = fault.ir(openvino.Core().read_model(str(path)))
        path = folder / "faulty-too.xml"
        openvino.save_model(changed, str(path), compress_to_fp16=False)
    return path


def all_faults(card: ModelCard, other_onnx: Path, auxiliary_onnx: Path, eps_onnx: Path) -> list[Fault]:
    """All faults. The three files hold the same network with another checkpoint's weights, with the auxiliary head
    instead of the main one, and with another eps in its BatchNorms."""
    graph = {
        **_in_weights(other_onnx),
        **_in_pyramid(card),
        **_in_layers(),
        **_in_last_steps(card),
        "the auxiliary head's output": replaced_by(auxiliary_onnx),
        "a BatchNorm's eps of 1e-3": replaced_by(eps_onnx),
    }
    signature = _in_onnx_signature(card)
    preprocessing = _in_preprocessing(card)
    return [
        *(Fault(name, "ONNX", graph=edit) for name, edit in {**graph, **signature}.items()),
        *(Fault(name, "IR FP32", graph=edit) for name, edit in graph.items() if name not in _NOT_IN_IR),
        *(Fault(name, "IR FP32", preprocessing=values) for name, values in preprocessing.items()),
        *(Fault(name, "IR FP16", preprocessing=values) for name, values in preprocessing.items()),
        *(Fault(name, "IR FP32", ir=change) for name, change in _in_ir(card).items()),
    ]


def finer_faults(card: ModelCard) -> list[Fault]:
    """Faults in weights, mean and scale at a tenth of the size that they have in `all_faults`."""
    mean, scale = np.array(card.input.mean), np.array(card.input.scale)
    one = np.array([1.001, 1, 1])
    layer = "backbone.layer3.1.conv2.weight"
    graph = {
        "a bias off by 0.1 %": _weight("decode_head.conv_seg.bias", lambda b: 1.001 * b),
        "one channel of one layer off by 0.1 %": _weight(layer, lambda w: _with(w, 0, 1.001 * w[0])),
        "one weight off by 10 %": _weight(
            layer, lambda w: _with(w, np.abs(w).argmax(), 1.1 * w.flat[np.abs(w).argmax()], flat=True)
        ),
        "one layer's weights off by 0.1 %": _weight(layer, lambda w: 1.001 * w),
    }
    preprocessing = {
        "all means off by 0.1 %": {"mean": 1.001 * mean},
        "one mean off by 0.1 %": {"mean": one * mean},
        "all scales off by 0.1 %": {"scale": 1.001 * scale},
        "one scale off by 0.1 %": {"scale": one * scale},
    }
    in_floats = {
        name: {key: tuple(map(float, value)) for key, value in changes.items()}
        for name, changes in preprocessing.items()
    }
    files = ("IR FP32", "IR FP16")
    return [
        *(Fault(name, file, graph=edit) for file in ("ONNX", *files) for name, edit in graph.items()),
        *(Fault(name, file, preprocessing=values) for file in files for name, values in in_floats.items()),
    ]


# No faults in an IR: OpenVINO takes the first of equal logits whatever the ONNX says, and drops casts that undo others.
_NOT_IN_IR = {"the last of equal logits instead of the first", "logits rounded to FP16"}


# Preprocessing


def _in_preprocessing(card: ModelCard) -> dict[str, dict[str, Any]]:
    mean, scale = np.array(card.input.mean), np.array(card.input.scale)
    one = np.array([1.01, 1, 1])
    values: dict[str, dict[str, Any]] = {
        "channels not reversed": {"color_order": "BGR"},
        "channels not reversed, mean and scale for them": {
            "color_order": "BGR",
            "mean": mean[::-1],
            "scale": scale[::-1],
        },
        "no mean": {"mean": 0 * mean},
        "no scale": {"scale": scale / scale},
        "neither mean nor scale": {"mean": 0 * mean, "scale": scale / scale},
        "means of red and blue swapped": {"mean": mean[::-1]},
        "means in another order": {"mean": np.roll(mean, 1)},
        "scales of red and blue swapped": {"scale": scale[::-1]},
        "mean and scale exchanged": {"mean": scale, "scale": mean},
        "all means off by 1 %": {"mean": 1.01 * mean},
        "one mean off by 1 %": {"mean": one * mean},
        "all scales off by 1 %": {"scale": 1.01 * scale},
        "one scale off by 1 %": {"scale": one * scale},
        "scale before mean": {"mean": mean * scale},
        "for images of 0..1": {"mean": mean / 255, "scale": scale / 255},
    }
    plain = (list, tuple, np.ndarray)
    return {
        name: {key: tuple(map(float, value)) if isinstance(value, plain) else value for key, value in changes.items()}
        for name, changes in values.items()
    }


# Weights


def _in_weights(other: Path) -> dict[str, Edit]:
    def of_other(values: NDArray[np.float32], name: str) -> NDArray[np.float32]:
        (tensor,) = [tensor for tensor in onnx.load(str(other)).graph.initializer if tensor.name == name]
        return numpy_helper.to_array(tensor)

    layer = "backbone.layer3.1.conv2.weight"
    return {
        "a bias off by 1 %": _weight("decode_head.conv_seg.bias", lambda b: 1.01 * b),
        "no bias in the last layer": _weight("decode_head.conv_seg.bias", np.zeros_like),
        "one channel of one layer off by 1 %": _weight(layer, lambda w: _with(w, 0, 1.01 * w[0])),
        "one weight doubled": _weight(layer, lambda w: _with(w, np.abs(w).argmax(), 2 * np.abs(w).max(), flat=True)),
        "two channels of one layer swapped": _weight(layer, lambda w: w[[1, 0, *range(2, len(w))]]),
        "input channels of the first layer reversed": _weight("backbone.stem.0.weight", lambda w: w[:, ::-1]),
        "kernels mirrored": _weight(layer, lambda w: w[..., ::-1]),
        "kernels transposed": _weight(layer, lambda w: w.swapaxes(2, 3)),
        "two classes swapped": _weight("decode_head.conv_seg.weight", lambda w: w[[1, 0, *range(2, len(w))]]),
        "another checkpoint's weights in one layer": _weight(layer, lambda w: of_other(w, layer)),
        "one weight is not a number": _weight(layer, lambda w: _with(w, 0, np.nan, flat=True)),
        "weights rounded to 8 bits": lambda model: _every_weight(model, _rounded_to_8_bits),
        "weights rounded to FP16": lambda model: _every_weight(model, lambda w: w.astype(np.float16)),
        "weights rounded to bf16": lambda model: _every_weight(model, _rounded_to_bf16),
    }


def _with(values: NDArray[np.float32], place: Any, value: Any, flat: bool = False) -> NDArray[np.float32]:
    changed = values.copy()
    if flat:
        changed.flat[place] = value
    else:
        changed[place] = value
    return changed


def _rounded_to_8_bits(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    """Symmetric, a scale for each output channel."""
    scale = np.abs(weights).max(axis=tuple(range(1, weights.ndim)), keepdims=True) / 127
    return np.where(scale > 0, np.round(weights / np.where(scale > 0, scale, 1)) * scale, 0)


def _rounded_to_bf16(weights: NDArray[np.float32]) -> NDArray[np.float32]:
    return torch.from_numpy(weights.copy()).bfloat16().float().numpy()


# The pyramid head, as it is folded: pool.rows [sum of bins, H], pool.columns [W, sum of bins], taps [9 * out, c, 1, 1],
# rows [H, sum of 3 * bins], and for each bin spreads.*.columns [3 * bin, W]


def _in_pyramid(card: ModelCard) -> dict[str, Edit]:
    bins = [int(b) for b in card.config_overrides.get("model.decode_head.pool_scales", [1, 2, 3, 6])]  # type: ignore[union-attr]
    height, width = (-(-side // 8) for side in card.input.shape[2:])
    last = slice(-bins[-1], None)

    def pooling(of_side: Callable[[NDArray[np.float32], int], NDArray[np.float32]]) -> Edit:
        """Change both of the pool's matrices, as [bins, cells]."""
        return _all_of(
            _weight("decode_head.pool.rows", lambda rows: of_side(rows, height)),
            _weight("decode_head.pool.columns", lambda columns: of_side(columns.T, width).T),
        )

    def spreading(*, align_corners: bool, repeat_borders: bool) -> Edit:
        def matrix(side: int, count: int) -> NDArray[np.float32]:
            return _spreading(side, count, align_corners=align_corners, repeat_borders=repeat_borders)

        return _all_of(
            _replace("decode_head.rows", np.concatenate([matrix(height, b) for b in bins], axis=1)),
            *(_replace(f"decode_head.spreads.{number}.columns", matrix(width, b).T) for number, b in enumerate(bins)),
        )

    return {
        "a bin of the pyramid dropped": _weight(f"decode_head.taps.{len(bins) - 1}.weight", np.zeros_like),
        "bins in another order": _swap("decode_head.projections.0.weight", "decode_head.projections.1.weight"),
        "pooling by kernel and stride": pooling(
            lambda _, side: np.concatenate([_by_kernel_and_stride(side, b) for b in bins])
        ),
        "cells of a bin in the opposite order": pooling(lambda matrix, _: _with(matrix, last, matrix[last][::-1])),
        "cells stretched with align_corners": spreading(align_corners=True, repeat_borders=False),
        "borders repeated instead of zeros": spreading(align_corners=False, repeat_borders=True),
    }


def _by_kernel_and_stride(cells: int, count: int) -> NDArray[np.float32]:
    """[count, cells]: pooling by a fixed kernel and stride, the usual replacement for adaptive pooling."""
    side = max(cells // count, 1)
    matrix = np.zeros((count, cells), np.float32)
    for i in range(count):
        matrix[i, i * side : (i + 1) * side] = 1 / side
    return matrix


def _spreading(side: int, bins: int, *, align_corners: bool, repeat_borders: bool) -> NDArray[np.float32]:
    """spreading_matrix, or with its borders repeated where the convolution's padding has zeros."""
    if not repeat_borders:
        return spreading_matrix(side, bins, align_corners).float().numpy()
    stretch = stretching_matrix(side, bins, align_corners)
    taps = [stretch[(torch.arange(side) + by).clamp(0, side - 1)] for by in (-1, 0, 1)]
    return torch.stack(taps, dim=2).flatten(1).float().numpy()


def _all_of(*edits: Edit) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        for one in edits:
            one(model)

    return edit


# Layers


def _in_layers() -> dict[str, Edit]:
    def strides_moved(model: onnx.ModelProto) -> None:
        """Move the stride from the block's first convolution to its second."""
        first, second = (_node(model, f"backbone.layer2.0.conv{number}.Conv") for number in (1, 2))
        _set(first, strides=[1, 1])
        _set(second, strides=[2, 2])

    def average_pool(model: onnx.ModelProto) -> None:
        node = _node(model, "backbone.maxpool.MaxPool")
        node.op_type = "AveragePool"
        kept = [attribute for attribute in node.attribute if attribute.name in ("kernel_shape", "pads", "strides")]
        del node.attribute[:]
        node.attribute.extend(kept)

    def relu_left_out(model: onnx.ModelProto) -> None:
        next(
            node for node in model.graph.node if node.op_type == "Relu" and "decode_head" in node.name
        ).op_type = "Identity"

    def dilated(model: onnx.ModelProto) -> onnx.NodeProto:
        """The last convolution with a dilation, which in PSPNet is 4."""
        return [n for n in model.graph.node if any(a.name == "dilations" and a.ints[0] == 4 for a in n.attribute)][-1]

    return {
        "a layer's dilation halved": lambda m: _set(dilated(m), dilations=[2, 2], pads=[2, 2, 2, 2]),
        "a layer's padding on one side": lambda m: _set(dilated(m), pads=[8, 8, 0, 0]),
        "a layer's stride in its second convolution": strides_moved,
        "max pooling that pads at the end": lambda m: _set(_node(m, "backbone.maxpool.MaxPool"), pads=[0, 0, 2, 2]),
        "average instead of max pooling": average_pool,
        "a ReLU left out": relu_left_out,
    }


# From the logits to the label map


def _in_last_steps(card: ModelCard) -> dict[str, Edit]:
    def resize(**attributes: str) -> Edit:
        return lambda model: _set(_node(model, "logits.Resize"), **attributes)

    def tail(*nodes: onnx.NodeProto, constants: Sequence[onnx.TensorProto] = ()) -> Edit:
        """Put `nodes` after the argmax; they lead from `labels` to the output."""

        def edit(model: onnx.ModelProto) -> None:
            _node(model, "logits.ArgMax").output[0] = "labels"
            model.graph.node.extend(nodes)
            model.graph.initializer.extend(constants)

        return edit

    def before_argmax(*nodes: onnx.NodeProto) -> Edit:
        """Put `nodes` before the argmax; they lead from `logits.Resize` to `changed`."""

        def edit(model: onnx.ModelProto) -> None:
            argmax = _node(model, "logits.ArgMax")
            argmax.input[0] = "changed"
            place = list(model.graph.node).index(argmax)
            for node in reversed(nodes):
                model.graph.node.insert(place, node)

        return edit

    out = card.output.name
    one = numpy_helper.from_array(np.array(1, np.int64), "one")
    top = numpy_helper.from_array(np.array(len(card.classes) - 1, np.int64), "top")
    flip = [
        numpy_helper.from_array(np.array([value], np.int64), name)
        for name, value in (("start", -1), ("end", -card.input.width - 1), ("axis", 3))
    ]
    return {
        "resized with align_corners": resize(coordinate_transformation_mode="align_corners"),
        "resized without the half-pixel offset": resize(coordinate_transformation_mode="asymmetric"),
        "resized to the nearest": resize(mode="nearest"),
        "resized by cubic interpolation": resize(mode="cubic"),
        "argmin": before_argmax(helper.make_node("Neg", ["logits.Resize"], ["changed"])),
        "logits rounded to FP16": before_argmax(
            helper.make_node("Cast", ["logits.Resize"], ["half"], to=onnx.TensorProto.FLOAT16),
            helper.make_node("Cast", ["half"], ["changed"], to=onnx.TensorProto.FLOAT),
        ),
        "probabilities instead of logits": before_argmax(
            helper.make_node("Softmax", ["logits.Resize"], ["changed"], axis=1)
        ),
        "labels off by one": tail(helper.make_node("Add", ["labels", "one"], [out]), constants=[one]),
        "labels counted from the end": tail(helper.make_node("Sub", ["top", "labels"], [out]), constants=[top]),
        "label map mirrored": tail(
            helper.make_node("Slice", ["labels", "start", "end", "axis", "start"], [out]), constants=flip
        ),
        "the last of equal logits instead of the first": lambda m: _set(_node(m, "logits.ArgMax"), select_last_index=1),
    }  # fmt: skip


# Names, shapes, types and layouts


def _in_onnx_signature(card: ModelCard) -> dict[str, Edit]:
    height, width = card.input.shape[2:]

    def output(node: onnx.NodeProto, shape: Sequence[int], kind: int = onnx.TensorProto.INT64) -> Edit:
        def edit(model: onnx.ModelProto) -> None:
            _node(model, "logits.ArgMax").output[0] = "labels"
            model.graph.node.append(node)
            model.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axes"))
            model.graph.output[0].CopyFrom(helper.make_tensor_value_info(card.output.name, kind, shape))

        return edit

    def other_axis(model: onnx.ModelProto) -> None:
        _set(_node(model, "logits.ArgMax"), axis=2)
        shape = [1, len(card.classes), 1, width]
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info(card.output.name, onnx.TensorProto.INT64, shape))

    def logits_out(model: onnx.ModelProto) -> None:
        model.graph.node.remove(_node(model, "logits.ArgMax"))
        _node(model, "logits.Resize").output[0] = card.output.name
        shape = [1, len(card.classes), height, width]
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info(card.output.name, onnx.TensorProto.FLOAT, shape))

    def input_renamed(model: onnx.ModelProto) -> None:
        model.graph.input[0].name = "image"
        for node in model.graph.node:
            node.input[:] = ["image" if name == card.input.name else name for name in node.input]

    def output_renamed(model: onnx.ModelProto) -> None:
        model.graph.output[0].name = _node(model, "logits.ArgMax").output[0] = "labels"

    def second_input(model: onnx.ModelProto) -> None:
        model.graph.input.append(helper.make_tensor_value_info("unused", onnx.TensorProto.FLOAT, [1]))

    def batch_left_open(model: onnx.ModelProto) -> None:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"

    def input_unused(model: onnx.ModelProto) -> None:
        constant = np.zeros(card.input.shape, np.float32)
        model.graph.initializer.append(numpy_helper.from_array(constant, "grey"))
        _node(model, "backbone.stem.0.Conv").input[0] = "grey"

    out = card.output.name
    return {
        "argmax over the rows": other_axis,
        "logits instead of labels": logits_out,
        "labels as float32": output(
            helper.make_node("Cast", ["labels"], [out], to=onnx.TensorProto.FLOAT),
            [1, 1, height, width],
            onnx.TensorProto.FLOAT,
        ),
        "labels without the channel axis": output(
            helper.make_node("Squeeze", ["labels", "axes"], [out]), [1, height, width]
        ),
        "label map transposed": output(
            helper.make_node("Transpose", ["labels"], [out], perm=[0, 1, 3, 2]), [1, 1, width, height]
        ),
        "another input name": input_renamed,
        "another output name": output_renamed,
        "a second input": second_input,
        "an input that nothing uses": input_unused,
        "the batch left open": batch_left_open,
    }


def _in_ir(card: ModelCard) -> dict[str, Callable[[openvino.Model], openvino.Model]]:
    height, width = card.input.shape[2:]

    def processed(change: Callable[[Any], None]) -> Callable[[openvino.Model], openvino.Model]:
        def edit(model: openvino.Model) -> openvino.Model:
            steps = openvino.preprocess.PrePostProcessor(model)
            change(steps)
            return steps.build()

        return edit

    def reversed_again(steps: Any) -> None:
        steps.input().tensor().set_layout(openvino.Layout("NCHW"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))
        steps.input().preprocess().reverse_channels()

    def channels_last(steps: Any) -> None:
        steps.input().tensor().set_layout(openvino.Layout("NHWC"))
        steps.input().model().set_layout(openvino.Layout("NCHW"))

    def open_batch(model: openvino.Model) -> openvino.Model:
        model.reshape([-1, 3, height, width])
        return model

    def other_layout(model: openvino.Model) -> openvino.Model:
        model.inputs[0].get_node().set_layout(openvino.Layout("NCWH"))
        return model

    return {
        "channels reversed twice": processed(reversed_again),
        "input with channels last": processed(channels_last),
        "input of bytes": processed(lambda steps: steps.input().tensor().set_element_type(openvino.Type.u8)),
        "labels as float32": processed(lambda steps: steps.output().tensor().set_element_type(openvino.Type.f32)),
        "the batch left open": open_batch,
        "a layout with height and width exchanged": other_layout,
    }


# Editing ONNX


def _weight(name: str, change: Change) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name == name]
        _change(tensor, change)

    return edit


def _replace(name: str, values: NDArray[np.float32]) -> Edit:
    return _weight(name, lambda _: values)


def _every_weight(model: onnx.ModelProto, change: Change) -> None:
    for tensor in model.graph.initializer:
        if tensor.name.endswith(".weight"):
            _change(tensor, change)


def _change(tensor: onnx.TensorProto, change: Change) -> None:
    before = numpy_helper.to_array(tensor)
    after = np.ascontiguousarray(change(before), dtype=np.float32)
    assert after.shape == before.shape, tensor.name
    tensor.CopyFrom(numpy_helper.from_array(after, tensor.name))


def _swap(first: str, second: str) -> Edit:
    def edit(model: onnx.ModelProto) -> None:
        a, b = (next(t for t in model.graph.initializer if t.name == name) for name in (first, second))
        a.name, b.name = second, first

    return edit


def replaced_by(path: Path) -> Edit:
    return lambda model: model.CopyFrom(onnx.load(str(path)))


def _node(model: onnx.ModelProto, name: str) -> onnx.NodeProto:
    (node,) = [node for node in model.graph.node if node.name == name]
    return node


def _set(node: onnx.NodeProto, **attributes: Any) -> None:
    kept = [attribute for attribute in node.attribute if attribute.name not in attributes]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(name, value) for name, value in attributes.items())])
