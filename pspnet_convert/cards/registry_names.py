"""The names by which OpenMMLab's registries know a class."""

from __future__ import annotations

# Classes that have another name in mmcv's registry.
_REGISTERED = {
    "BatchNorm2d": "BN2d",
    "ConvAWS2d": "ConvAWS",
    "ConvTranspose2d": "deconv",
    "ConvWS2d": "ConvWS",
    "GroupNorm": "GN",
    "Hardswish": "HSwish",
    "InstanceNorm2d": "IN2d",
    "LayerNorm": "LN",
    "SyncBatchNorm": "SyncBN",
}


def registered(kind: str) -> str:
    """The registry's name for a class of OpenMMLab or PyTorch that is given with its module; other names unchanged."""
    package, name = kind.partition(".")[0], kind.rpartition(".")[2]
    return _REGISTERED.get(name, name) if "." in kind and package in ("mmcv", "mmengine", "mmseg", "torch") else kind
