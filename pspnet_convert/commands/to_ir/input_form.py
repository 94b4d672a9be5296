"""Change the form (number type and layout) in which an IR takes images. Runs in the child process."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pspnet_convert.runtimes.input_form import PLAIN, InputForm

if TYPE_CHECKING:
    import openvino


def in_form(model: openvino.Model, form: InputForm) -> openvino.Model:
    """`model`, changed to take images in `form` instead of the plain form (float32, NCHW).

    Names and results stay the same; whole numbers are turned into float32 before anything is computed.
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
