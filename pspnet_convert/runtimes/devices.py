"""The devices that OpenVINO sees, and what it takes to run a model on one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from pspnet_convert.device import CPU, is_cpu_alone, listed_in
from pspnet_convert.errors import DependencyError
from pspnet_convert.runtimes.openvino_install import require_openvino
from pspnet_convert.runtimes.precision_hint import IN_F32

if TYPE_CHECKING:
    import openvino

_PRECISIONS = ("FP32", "BF16", "FP16", "INT8")
_DRIVERS = {
    "GPU": "A GPU of Intel needs its OpenCL driver (intel-opencl-icd); in a container also --device /dev/dri.",
    "NPU": "An NPU of Intel needs its driver (linux-npu-driver); in a container also --device /dev/accel.",
}


@dataclass(frozen=True)
class Device:
    """A device that is there. `precisions`: those that it can compute in, as FP32; `default`: the one that it takes
    where nothing else is asked for, as f32; None if it does not say."""

    name: str
    full_name: str
    precisions: tuple[str, ...]
    default: str | None

    @property
    def in_words(self) -> str:
        """The precisions."""
        return ", ".join(self.precisions) + (f"; {self.default} by default" if self.default else "")

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "precisions": list(self.precisions)}


def devices_there(core: openvino.Core) -> list[Device]:
    """All devices that OpenVINO sees."""
    return [_device(core, name) for name in core.available_devices]


def find_devices(core: openvino.Core, asked: str) -> list[Device]:
    """The devices that may run what is asked for; DependencyError where one that it names is not there."""
    names = listed_in(asked)
    found = [_find(core, name) for name in names]
    missing = [name for name, one in zip(names, found) if one is None]
    if missing:
        there = ", ".join(f"{one.name} ({one.full_name})" for one in devices_there(core)) or "none"
        advice = _DRIVERS.get(missing[0].partition(".")[0], "`pspnet-convert doctor` lists the devices.")
        raise DependencyError(f"--device {asked}: OpenVINO sees no {missing[0]} here; it sees {there}", advice)
    return [one for one in found if one is not None] or devices_there(core)


def device_record(asked: str) -> dict[str, Any] | None:
    """What the manifest holds of the device: its name, and the full names of those that may run; None for the CPU.

    DependencyError where a device is not there, or OpenVINO is not installed.
    """
    if asked == CPU:
        return None
    require_openvino()
    import openvino

    return {"name": asked, "devices": {one.name: one.full_name for one in find_devices(openvino.Core(), asked)}}


def settings_on(core: openvino.Core, device: str, settings: Mapping[str, Any]) -> dict[str, Any]:
    """OpenVINO's settings to compile a model with on `device`, from those for the CPU.

    A device that cannot compute in f32 (an NPU) computes in its own precision. AUTO runs nothing on the CPU while it
    compiles for another device: the first answers would be another device's. Raises the errors of find_devices.
    """
    if device == CPU:
        return dict(settings)
    found = find_devices(core, device)
    has_f32 = all("FP32" in one.precisions for one in found)
    kept = {key: value for key, value in settings.items() if has_f32 or (key, value) not in IN_F32.items()}
    # With the CPU alone, OpenVINO 2026 refuses the option.
    waits = device.startswith("AUTO") and any(one.name != CPU for one in found) and not is_cpu_alone(device)
    return {**kept, **({"ENABLE_STARTUP_FALLBACK": False} if waits else {})}


def _find(core: openvino.Core, name: str) -> Device | None:
    kind, _, number = name.partition(".")
    if kind not in {there.partition(".")[0] for there in core.available_devices}:
        return None
    # OpenVINO calls an only GPU GPU, although GPU.0 names it as well.
    numbers: Sequence[str] = core.get_property(kind, "AVAILABLE_DEVICES")
    return None if number and number not in numbers else _device(core, name)


def _device(core: openvino.Core, name: str) -> Device:
    full_name = str(core.get_property(name, "FULL_DEVICE_NAME"))
    capabilities = core.get_property(name, "OPTIMIZATION_CAPABILITIES")
    default = None
    with suppress(RuntimeError):
        default = str(core.get_property(name, "INFERENCE_PRECISION_HINT").get_type_name())
    return Device(name, full_name, tuple(one for one in _PRECISIONS if one in capabilities), default)
