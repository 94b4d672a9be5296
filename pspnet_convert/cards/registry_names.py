"""The names by which OpenMMLab's registries know a class."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

OPENMMLAB = ("mmcv", "mmengine", "mmseg", "torch")
# Classes that have another name in mmcv's registry.
_REGISTERED = {
    "BatchNorm2d": "BN2d",
    "CARAFEPack": "carafe",
    "ConvAWS2d": "ConvAWS",
    "ConvTranspose2d": "deconv",
    "ConvWS2d": "ConvWS",
    "DeformConv2dPack": "DCN",
    "GroupNorm": "GN",
    "Hardswish": "HSwish",
    "InstanceNorm2d": "IN2d",
    "LayerNorm": "LN",
    "MaskedConv2d": "MConv",
    "ModulatedDeformConv2dPack": "DCNv2",
    "PixelShufflePack": "pixel_shuffle",
    "SAConv2d": "SAC",
    "SyncBatchNorm": "SyncBN",
}
# mmcv's own, which is compiled: in eval mode each is the same BatchNorm.
_EQUAL = {"MMSyncBN": "SyncBN"}


def registered(kind: str) -> str:
    """The registry's name for a class of OpenMMLab or PyTorch that is given with its module; other names unchanged.

    A layer that only an installed, compiled mmcv has becomes the equal one of PyTorch.
    """
    package, name = kind.partition(".")[0], kind.rpartition(".")[2]
    if "." in kind and package in OPENMMLAB:
        return _REGISTERED.get(name, name)
    return _EQUAL.get(kind, kind)


def without_own_scope(section: Mapping[str, Any]) -> Mapping[str, Any]:
    """The section without `_scope_` if that is mmsegmentation: mmengine puts it there for a base `mmseg::...`."""
    return {key: value for key, value in section.items() if (key, value) != ("_scope_", "mmseg")}
