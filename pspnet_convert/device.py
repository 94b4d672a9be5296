"""The name of the device that IRs run on, as OpenVINO writes it. Which devices there are, runtimes/devices.py finds."""

from __future__ import annotations

import re
from typing import Any

import click

from pspnet_convert.options import option

CPU = "CPU"
_NAME = r"[A-Z]+(\.[0-9]+)?"  # GPU, GPU.1
_LIST = rf"{_NAME}(,{_NAME})*"
# AUTO chooses one device, of all or of those listed without those excluded by a dash; HETERO splits the model over the
# devices; MULTI spreads the images, with as many requests on each as the number says.
_FORMS = re.compile(
    rf"AUTO(:-?{_NAME}(,-?{_NAME})*)?|(HETERO|MULTI):{_LIST}|MULTI:{_NAME}(\([0-9]+\))?(,{_NAME}(\([0-9]+\))?)*"
)
_VIRTUAL = ("AUTO", "HETERO", "MULTI")


class DeviceName(click.ParamType):
    """CPU, GPU, GPU.1, NPU; AUTO, AUTO:GPU,CPU, HETERO:GPU,CPU or MULTI:GPU,CPU. Small letters become capitals."""

    name = "device"

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "DEVICE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        name = value.upper() if isinstance(value, str) else ""
        kind = re.split(r"[.:]", name)[0]
        if not ((re.fullmatch(_NAME, name) and kind not in _VIRTUAL) or _FORMS.fullmatch(name)):
            words = "CPU, GPU, GPU.1, NPU, AUTO, AUTO:GPU,CPU or HETERO:GPU,CPU"
            self.fail(f"{value!r} is no device: say {words}", param, ctx)
        return name


def device_option(group: str, what: str) -> Any:
    """The field `device` of a command's options; `what`: what the device does."""
    return option(
        CPU,
        group=group,
        type=DeviceName(),
        help=f"{what}: CPU, GPU, GPU.1, NPU, AUTO:GPU,CPU, HETERO:GPU,CPU. `doctor` lists those that are there.",
    )


def listed_in(device: str) -> tuple[str, ...]:
    """The single devices that `device` names, without those that it excludes; empty where AUTO may take any."""
    kind, _, names = device.partition(":")
    if kind not in _VIRTUAL:
        return (device,)
    return tuple(re.sub(r"\(.*\)", "", name) for name in names.split(",") if name and not name.startswith("-"))


def is_cpu_alone(device: str) -> bool:
    """Whether nothing but the CPU can run what `device` names."""
    return set(listed_in(device)) == {CPU}
