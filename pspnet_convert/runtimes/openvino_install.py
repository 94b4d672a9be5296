"""What is installed of OpenVINO, and where its releases differ."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from pspnet_convert.errors import DependencyError


def require_openvino() -> None:
    """Raise DependencyError if OpenVINO is not installed. Imports nothing."""
    if find_spec("openvino") is None:
        raise DependencyError(
            "openvino is not installed",
            "Install it with pip install 'pspnet-convert[mo]', or 'pspnet-convert[openvino]' for its current release.",
        )


def has_model_optimizer() -> bool:
    """Whether `openvino.tools.mo` is installed. Imports nothing (find_spec of the full name would)."""
    spec = find_spec("openvino")
    folders = (spec and spec.submodule_search_locations) or ()
    return any((Path(folder) / "tools" / "mo" / "__init__.py").is_file() for folder in folders)


def operations() -> ModuleType:
    """OpenVINO's opset 13: `openvino.opset13`, or `openvino.runtime.opset13` in releases before 2025."""
    place = "openvino.opset13" if find_spec("openvino.opset13") else "openvino.runtime.opset13"
    return import_module(place)
