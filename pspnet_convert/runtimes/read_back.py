"""What OpenVINO reports of a compiled model: the devices that run it, and what they compute in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import DependencyError

if TYPE_CHECKING:
    import openvino

_COARSENESS = {"f32": 0, "f16": 1, "bf16": 2}  # bits of the mantissa: 24, 11, 8


def ran_on(compiled: openvino.CompiledModel) -> list[str]:
    """The devices that run a compiled model; of AUTO's, those that do at this moment."""
    # AUTO writes (CPU) while the CPU stands in for another device.
    return [str(name).strip("()") for name in compiled.get_property("EXECUTION_DEVICES")]


def computed_in(compiled: openvino.CompiledModel) -> str:
    """What a compiled model computes in: f32, f16 or bf16; the coarsest, where several devices run it.

    DependencyError for a device that does not report it.
    """
    found = {str(one.get_type_name()) for one in read_back(compiled, "INFERENCE_PRECISION_HINT")}
    if not found:
        raise DependencyError(f"{', '.join(ran_on(compiled))}: does not report the precision that it computes in")
    return max(found, key=lambda name: _COARSENESS.get(name, len(_COARSENESS)))


def read_back(compiled: openvino.CompiledModel, name: str) -> list[Any]:
    """The value of a property, on each device that runs the model; empty where none reports it."""
    try:
        return [compiled.get_property(name)]
    except RuntimeError:  # AUTO, HETERO and MULTI have the properties of their devices in one of their own
        try:
            of_devices = compiled.get_property("DEVICE_PROPERTIES")
        except RuntimeError:
            return []
    running = ran_on(compiled)
    return [values[name] for device, values in of_devices.items() if device in running and name in values]
