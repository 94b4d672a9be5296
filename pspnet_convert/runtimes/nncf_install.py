"""Whether NNCF is installed, in a release that works with this OpenVINO."""

from __future__ import annotations

from importlib.metadata import version
from importlib.util import find_spec

from pspnet_convert.errors import DependencyError


def require_nncf() -> None:
    """Raise DependencyError if it is not. Imports nothing."""
    if find_spec("nncf") is None:
        raise DependencyError("nncf is not installed", "Install it with pip install 'pspnet-convert[int8]'.")
    # Package metadata cannot say this: openvino-dev does not require NNCF, nor does NNCF require OpenVINO.
    nncf, openvino = version("nncf"), version("openvino")
    if openvino.startswith("2024.") and tuple(int(part) for part in nncf.split(".")[:2]) > (2, 16):
        raise DependencyError(
            f"nncf {nncf} does not work with openvino {openvino}", "Install an earlier one: pip install 'nncf<2.17'."
        )
