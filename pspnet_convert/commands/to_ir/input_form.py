"""The form of an IR's input, put before what a front-end has made. For the processes that make IRs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pspnet_convert.runtimes.input_form import PLAIN, InputForm

if TYPE_CHECKING:
    import openvino


def in_form(model: openvino.Model, form: InputForm) -> openvino.Model:
    """`model`, which takes images in the plain form (float32, NCHW, colours of 0..255), taking them in `form` instead.

    Names and answers stay; bytes are turned into float32 before anything is computed.
    """
    if form == PLAIN:
        return model
    import openvino
    from openvino.preprocess import PrePostProcessor

    steps = PrePostProcessor(model)
    taken = steps.input()
    taken.tensor().set_element_type(getattr(openvino.Type, form.type)).set_layout(openvino.Layout(form.layout))
    taken.model().set_layout(openvino.Layout(PLAIN.layout))
    return steps.build()
