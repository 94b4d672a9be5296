"""The precision that OpenVINO computes in: what an IR's metadata says that it is made for, and how it is compiled."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import openvino

_HINT = "INFERENCE_PRECISION_HINT"
IN_F32 = {_HINT: "f32"}  # of OpenVINO's options to compile a model with
# OpenVINO's own section for options of a model. What is in it can be passed to compile_model.
_PLACE = ["runtime_options", _HINT]


def mark_as_f32(model: openvino.Model) -> None:
    """Write into the model's metadata that it is made for float32."""
    model.set_rt_info("f32", _PLACE)


def compile_hints(model: openvino.Model, *, at_default_precision: bool = False) -> dict[str, str]:
    """OpenVINO's options to compile `model` with: float32; or at the default precision, which is the model's own where
    its metadata has one, else the processor's."""
    if not at_default_precision:
        return dict(IN_F32)
    return {_HINT: str(model.get_rt_info(_PLACE).astype(str))} if model.has_rt_info(_PLACE) else {}
