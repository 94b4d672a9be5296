"""PSPNet from a PyTorch checkpoint to verified OpenVINO IR.

The names below are the public API. They are imported when first used, so that
`import pspnet_convert` costs nothing.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

__version__ = "0.2.0"

_PUBLIC = {
    "ConvertError": "errors",
    "ModelCard": "cards.card",
    "load_card": "cards.card",
    "find_card": "cards.catalog",
    "load_checkpoint": "pytorch.checkpoint",
    "build_network": "pytorch.network",
    "export_onnx": "export_onnx.write_onnx",
    "verify": "verify.compare",
    "run": "pipeline",
}

__all__ = ["__version__", *_PUBLIC]


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_PUBLIC[name]}"), name)
