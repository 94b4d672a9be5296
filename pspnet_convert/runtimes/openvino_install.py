"""What there is of OpenVINO on this machine: whether it is installed, and Model Optimizer with it.

The one place that knows how its releases differ; what is done with it is the stages' business.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from pspnet_convert.errors import DependencyError


def require_openvino() -> None:
    """DependencyError where OpenVINO is not installed. Imports nothing."""
    if find_spec("openvino") is None:
        raise DependencyError(
            "openvino is not installed",
            "Install it with pip install 'pspnet-convert[mo]', or 'pspnet-convert[openvino]' for the current one.",
        )


def has_model_optimizer() -> bool:
    """Whether `openvino.tools.mo` is installed. Imports nothing, which find_spec of its whole name would."""
    spec = find_spec("openvino")
    folders = (spec and spec.submodule_search_locations) or ()
    return any((Path(folder) / "tools" / "mo" / "__init__.py").is_file() for folder in folders)


def operations() -> ModuleType:
    """OpenVINO's operations, opset 13: `openvino.opset13`, which was in `openvino.runtime` until 2024."""
    place = "openvino.opset13" if find_spec("openvino.opset13") else "openvino.runtime.opset13"
    return import_module(place)
