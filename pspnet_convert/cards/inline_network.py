"""Check the network inside a card, a config's `model` section: it must be harmless plain data, whoever wrote it."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any

SEGMENTOR, HEAD = "EncoderDecoder", "PSPHead"
# A list, because mmengine's registries have more: they import names with a dot, and TIMMBackbone and VPD, for example,
# read files and download. Those listed here use nothing but their arguments.
BACKBONES = (
    "BEiT",
    "BiSeNetV1",
    "BiSeNetV2",
    "CGNet",
    "ERFNet",
    "FastSCNN",
    "HRNet",
    "ICNet",
    "MAE",
    "MSCAN",
    "MixVisionTransformer",
    "MobileNetV2",
    "MobileNetV3",
    "PCPVT",
    "ResNeSt",
    "ResNeXt",
    "ResNet",
    "ResNetV1c",
    "ResNetV1d",
    "STDCContextPathNet",
    "STDCNet",
    "SVT",
    "SwinTransformer",
    "UNet",
    "VisionTransformer",
)
NECKS = ("FPN", "Feature2Pyramid", "ICNeck", "JPU", "MLANeck", "MultiLevelNeck")
PLUGINS = ("ContextBlock", "GeneralizedAttention", "NonLocal2d")
LAYERS = (
    *("BN", "BN2d", "SyncBN", "GN", "IN", "IN2d", "LN"),
    *("Clamp", "Clip", "ELU", "GELU", "HSigmoid", "HSwish", "LeakyReLU", "PReLU", "RReLU", "ReLU", "ReLU6"),
    *("Sigmoid", "SiLU", "Swish", "Tanh"),
    *("Conv", "Conv2d", "Conv2dAdaptivePadding", "ConvAWS", "ConvWS"),
    *("DeconvModule", "InterpConv", "bilinear", "deconv", "nearest", "pixel_shuffle"),
    *("DropPath", "Dropout"),
    *PLUGINS,
)
_FILES = "reads files or downloads them"
_ONE_MAP = "gives a single map in test mode, where PSPHead takes a list: mmsegmentation itself cannot test this model"
_COMPILED = "needs mmcv.ops.{}, a compiled operation of the package mmcv (mmcv-lite has none), which ONNX does not have"


class NotConvertedError(ValueError):
    """A part of mmsegmentation's that this tool does not convert."""


# Why names of mmsegmentation's and mmcv's registries are not among the above.
WHY_NOT = {
    "TIMMBackbone": _FILES,
    "VPD": _FILES,
    "DDRNet": _ONE_MAP,
    "PIDNet": _ONE_MAP,
    "DCN": _COMPILED.format("DeformConv2d (deformable convolution)"),
    "DCNv2": _COMPILED.format("ModulatedDeformConv2d (deformable convolution)"),
    "MConv": _COMPILED.format("MaskedConv2d"),
    "MultiScaleDeformableAttention": _COMPILED.format("MultiScaleDeformableAttention"),
    "SAC": _COMPILED.format("SAConv2d (deformable convolution)"),
    "carafe": _COMPILED.format("CARAFE"),
}
_KINDS: Mapping[str, Collection[str]] = {
    "type": (SEGMENTOR,),
    "backbone.type": BACKBONES,
    "neck.type": NECKS,
    "decode_head.type": (HEAD,),
}
# Keys that load weights from files or URLs. (Keys with a leading underscore, which mmengine obeys, are refused too.)
WEIGHTS = ("checkpoint", "checkpoint_path", "init_cfg", "pretrained")
# Built from another registry, which has none of the above names: mmengine would import a module of that name.
_SAMPLER = "sampler"
_MAX_DEPTH, _MAX_ITEMS, _MAX_VALUES, _MAX_NUMBER = 8, 100, 2000, 16384


def check_network(network: Mapping[str, Any]) -> None:
    """Raise ValueError, with the place, unless `network` is a PSPNet's `model` section in plain data of limited size.

    Values are None, truth values, finite numbers from -16384 to 16384, names, and lists and dictionaries of these.
    """
    for number, (place, value) in enumerate(_values(network, "", 0)):
        if number >= _MAX_VALUES:
            raise ValueError(f"more than {_MAX_VALUES} values are too many")
        _check_value(place, value)
    for place in ("type", "backbone.type", "decode_head.type"):
        part: Any = network
        for key in place.split("."):
            part = part.get(key) if isinstance(part, dict) else None
        if part is None:
            raise ValueError(f"{place} is missing; it must be {_one_of(_KINDS[place])}")


def _values(data: Any, place: str, depth: int) -> Iterator[tuple[str, Any]]:
    """Each value and its place; lists and dictionaries are entered."""
    if depth > _MAX_DEPTH:
        raise ValueError(f"{place}: nested deeper than {_MAX_DEPTH}")
    if not isinstance(data, (dict, list)):
        yield place, data
        return
    if len(data) > _MAX_ITEMS:
        raise ValueError(f"{place}: {len(data)} are too many (at most {_MAX_ITEMS})")
    for key, value in data.items() if isinstance(data, dict) else enumerate(data):
        if isinstance(data, dict):
            _check_key(place, key, value)
        yield from _values(value, f"{place}.{key}" if place else str(key), depth + 1)


def _check_key(place: str, key: Any, value: Any) -> None:
    if not isinstance(key, str) or not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]{0,63}", key):
        raise ValueError(f"{place}: {str(key)[:100]!r} is no key of a network")
    if key in WEIGHTS:
        raise ValueError(f"{place}: {key} is not allowed: weights come from the checkpoint")
    if key == _SAMPLER:
        raise ValueError(f"{place}: {key} is not allowed: it is for training alone")
    if key == "type" and not isinstance(value, str):
        raise ValueError(f"{place}: type is no name")


def _check_value(place: str, value: Any) -> None:
    if isinstance(value, str):
        if not re.fullmatch(r"[A-Za-z0-9_]{1,64}", value):
            raise ValueError(f"{place}: {value[:100]!r} is no plain name")
        if place.rpartition(".")[2] == "type":
            allowed = BACKBONES if place.endswith(".backbone_cfg.type") else _KINDS.get(place, LAYERS)
            if value in WHY_NOT:
                raise NotConvertedError(f"{place}: {value} {WHY_NOT[value]}")
            if value not in allowed:
                raise ValueError(f"{place}: {value!r} is not {_one_of(allowed)}")
    elif isinstance(value, (int, float)):
        if not -_MAX_NUMBER <= value <= _MAX_NUMBER:  # NaN fails this too
            raise ValueError(f"{place}: is too large (numbers up to {_MAX_NUMBER})")
        if place.rpartition(".")[2] == "spatial_range" and value >= 0:
            raise ValueError(f"{place}: is {value}; only -1 is supported, others need gigabytes of memory")
    elif value is not None:
        raise ValueError(f"{place}: {type(value).__name__} is no plain value")


def _one_of(names: Collection[str]) -> str:
    return f"{'one of ' if len(names) > 1 else ''}{', '.join(names)}"
