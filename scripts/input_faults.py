"""Faults in how a model takes its images: slots of a batch, bytes, the order of axes.

They are faults of an ONNX that takes BATCH images at a time, and of its IR, which takes them in FORM.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import openvino
from faults import Edit, Fault, replaced_by
from onnx import helper, numpy_helper

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.openvino_install import operations

BATCH = 3
FORM = InputForm("u8", "NHWC")


def input_faults(card: ModelCard, of_one: Path, of_any: Path) -> list[Fault]:
    """All faults. `of_one` and `of_any` are the ONNX files for one image at a time, and for any number."""
    graph = {
        **_between_slots(card),
        "a batch of one where three were asked for": replaced_by(of_one),
        "any batch where three were asked for": replaced_by(of_any),
    }
    return [
        *(Fault(name, file, graph=edit) for file in ("ONNX", "IR FP32") for name, edit in graph.items()),
        *(Fault(name, "IR FP32", ir=change) for name, change in _in_ir().items()),
        Fault("float32 where bytes were asked for", "IR FP32", form=InputForm("f32", "NHWC")),
        Fault("channels first where last were asked for", "IR FP32", form=InputForm("u8", "NCHW")),
    ]


def _between_slots(card: ModelCard) -> dict[str, Edit]:
    def first(kind: str, *constants: onnx.TensorProto, **attributes: Any) -> Edit:
        """Put a node before all others, that takes the image and `constants`."""

        def edit(model: onnx.ModelProto) -> None:
            for node in model.graph.node:
                node.input[:] = ["changed" if name == card.input.name else name for name in node.input]
            inputs = [card.input.name, *(constant.name for constant in constants)]
            model.graph.node.insert(0, helper.make_node(kind, inputs, ["changed"], **attributes))
            model.graph.initializer.extend(constants)

        return edit

    def slots(*numbers: int) -> onnx.TensorProto:
        return numpy_helper.from_array(np.array(numbers, np.int64), "slots")

    factors = np.array([1, 1.01, 1], np.float32).reshape(BATCH, 1, 1, 1)
    return {
        "two slots swapped": first("Gather", slots(1, 0, 2), axis=0),
        "every slot answers as the first": first("Gather", slots(0, 0, 0), axis=0),
        "the last slot answers as the second": first("Gather", slots(0, 1, 1), axis=0),
        "the second slot scaled by 1 %": first("Mul", numpy_helper.from_array(factors, "factors")),
    }


def _in_ir() -> dict[str, Callable[[openvino.Model], openvino.Model]]:
    def after_bytes(change: Callable[[Any, Any], Any]) -> Callable[[openvino.Model], openvino.Model]:
        """Insert an operation after the conversion of bytes to float32; `change` gets the opset and the conversion."""

        def edit(model: openvino.Model) -> openvino.Model:
            (converted,) = (model.inputs[0].get_target_inputs()).copy()
            convert = converted.get_node()
            takers = list(convert.output(0).get_target_inputs())
            changed = change(operations(), convert)
            for taker in takers:
                taker.replace_source_output(changed.output(0))
            model.validate_nodes_and_infer_types()
            return model

        return edit

    def named_otherwise(model: openvino.Model) -> openvino.Model:
        model.inputs[0].get_node().set_layout(openvino.Layout("NCHW"))
        return model

    def transposed(model: openvino.Model) -> openvino.Model:
        """Takes [N, W, H, 3] and says that it is [N, H, W, 3]."""
        steps = openvino.preprocess.PrePostProcessor(model)
        steps.input().tensor().set_layout(openvino.Layout("NWHC"))
        steps.input().model().set_layout(openvino.Layout("NHWC"))
        changed = steps.build()
        changed.inputs[0].get_node().set_layout(openvino.Layout("NHWC"))
        return changed

    return {
        "bytes cut off at 127": after_bytes(lambda operations, bytes_: operations.clamp(bytes_, 0.0, 127.0)),
        "bytes off by one": after_bytes(lambda operations, bytes_: operations.add(bytes_, np.float32(1))),
        "bytes taken as signed": after_bytes(
            lambda operations, bytes_: operations.convert(operations.convert(bytes_.input_value(0), "i8"), "f32")
        ),
        "channels last, said to be first": named_otherwise,
        "channels last, height and width exchanged": transposed,
    }
