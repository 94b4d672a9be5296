"""A small network of each backbone, neck and plugin of mmsegmentation's: its config, and weights as if trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from make_standin_checkpoint import blobs, calibrate

from pspnet_convert.pytorch.network import PSPNet, build_inline

SIDE = 64  # pixels
BN = {"type": "BN"}
RESNET = {
    "type": "ResNetV1c",
    "depth": 18,
    "dilations": (1, 1, 2, 4),
    "strides": (1, 2, 1, 1),
    "contract_dilation": True,
    "base_channels": 8,
    "stem_channels": 8,
    "norm_cfg": BN,
}
BOTTLENECKS = {**RESNET, "depth": 50, "base_channels": 4, "strides": (1, 2, 1, 1)}
WIDE = {**BOTTLENECKS, "base_channels": 64, "stem_channels": 8}
HRNET = {
    f"stage{number}": {
        "num_modules": 1,
        "num_branches": number,
        "block": "BASIC" if number > 1 else "BOTTLENECK",
        "num_blocks": (1,) * number,
        "num_channels": tuple(8 * 2**branch for branch in range(number)),
    }
    for number in (1, 2, 3, 4)
}
STDC = {
    "type": "STDCNet",
    "stdc_type": "STDCNet1",
    "in_channels": 3,
    "channels": (8, 16, 32, 64, 128),
    "bottleneck_type": "cat",
    "num_convs": 4,
    "norm_cfg": BN,
    "act_cfg": {"type": "ReLU"},
}
TOKENS = {
    "img_size": (SIDE, SIDE), "patch_size": 8, "embed_dims": 16, "num_layers": 2, "num_heads": 2, "mlp_ratio": 2,
    "out_indices": (0, 1),
}  # fmt: skip
# Of each: the backbone, then in_channels and in_index of the head.
BACKBONE: Mapping[str, tuple[dict[str, Any], int, int]] = {
    "BEiT": ({**TOKENS, "init_values": 0.1}, 16, 1),
    "BiSeNetV1": (
        {"backbone_cfg": {**RESNET, "strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1)}, "in_channels": 3,
         "spatial_channels": (8, 8, 8, 16), "context_channels": (16, 32, 64), "out_channels": 32},
        32, 0,
    ),
    "BiSeNetV2": (
        {"detail_channels": (8, 8, 16), "semantic_channels": (4, 8, 16, 16), "bga_channels": 16, "norm_cfg": BN},
        16, 0,
    ),
    "CGNet": ({"num_channels": (8, 16, 32), "num_blocks": (2, 2), "dilations": (2, 4), "reductions": (8, 16)}, 64, 2),
    "ERFNet": ({"enc_downsample_channels": (4, 8, 16), "enc_non_bottleneck_channels": (8, 16),
                "enc_stage_non_bottlenecks": (1, 2), "enc_non_bottleneck_dilations": (2, 4),
                "dec_upsample_channels": (8, 4),
                "dec_stages_non_bottleneck": (1, 1), "dec_non_bottleneck_channels": (8, 4)}, 4, 0),
    "FastSCNN": ({"downsample_dw_channels": (8, 8), "global_in_channels": 8, "global_block_channels": (8, 8, 16),
                  "global_block_strides": (2, 2, 1), "global_out_channels": 16, "higher_in_channels": 8,
                  "lower_in_channels": 16, "fusion_out_channels": 16}, 16, 2),
    "HRNet": ({"extra": HRNET}, 64, 3),
    "ICNet": ({"backbone_cfg": BOTTLENECKS, "layer_channels": (32, 128), "light_branch_middle_channels": 8,
               "psp_out_channels": 16, "out_channels": (8, 16, 16)}, 16, 2),
    "MAE": ({**TOKENS, "init_values": 1.0}, 16, 1),
    "MSCAN": ({"embed_dims": (8, 16, 16, 32), "depths": (1, 1, 1, 1), "mlp_ratios": (2, 2, 2, 2),
               "attention_kernel_sizes": [5, [1, 7], [1, 11], [1, 21]],
               "attention_kernel_paddings": [2, [0, 3], [0, 5], [0, 10]]}, 32, 3),
    "MixVisionTransformer": ({"embed_dims": 8, "num_layers": [1, 1, 1, 1], "num_heads": [1, 2, 4, 8],
                              "patch_sizes": [7, 3, 3, 3], "sr_ratios": [8, 4, 2, 1], "mlp_ratio": 2}, 64, 3),
    "MobileNetV2": ({"widen_factor": 0.25, "strides": (1, 2, 2, 1, 1, 1, 1), "out_indices": (1, 2, 4, 6)}, 80, 3),
    "MobileNetV3": ({"arch": "small", "out_indices": (0, 1, 12)}, 576, 2),
    "PCPVT": ({"embed_dims": [8, 16, 16, 32], "num_heads": [1, 2, 2, 4], "mlp_ratios": [2, 2, 2, 2],
               "depths": [1, 1, 1, 1], "sr_ratios": [8, 4, 2, 1], "qkv_bias": True}, 16, 1),
    "ResNeSt": ({**BOTTLENECKS, "radix": 2, "reduction_factor": 4, "avg_down_stride": True}, 128, 3),
    "ResNeXt": ({**WIDE, "base_channels": 64, "groups": 4, "base_width": 4}, 2048, 3),
    "ResNet": (RESNET, 64, 3),
    "ResNetV1c": (RESNET, 64, 3),
    "ResNetV1d": (RESNET, 64, 3),
    "STDCContextPathNet": (
        {"backbone_cfg": STDC, "last_in_channels": (128, 64), "out_channels": 16,
         "ffm_cfg": {"in_channels": 32 + 16, "out_channels": 32, "scale_factor": 4}},
        32, 3,
    ),
    "STDCNet": ({key: value for key, value in STDC.items() if key != "type"}, 128, 2),
    "SVT": ({"embed_dims": [8, 16, 16, 32], "num_heads": [1, 2, 2, 4], "mlp_ratios": [2, 2, 2, 2],
             "depths": [1, 1, 2, 1], "sr_ratios": [8, 4, 2, 1], "windiow_sizes": [7, 7, 7, 7],
             "norm_after_stage": True}, 32, 3),
    "SwinTransformer": ({"embed_dims": 8, "depths": (2, 2, 2, 2), "num_heads": (1, 2, 2, 4), "window_size": 4,
                         "mlp_ratio": 2}, 64, 3),
    "UNet": ({"base_channels": 4}, 4, 4),
    "VisionTransformer": ({**TOKENS, "final_norm": True}, 16, 1),
}  # fmt: skip
NECK: Mapping[str, tuple[dict[str, Any], dict[str, Any], int, int]] = {
    "FPN": (RESNET, {"in_channels": [8, 16, 32, 64], "out_channels": 16, "num_outs": 4}, 16, 1),
    "Feature2Pyramid": (
        {"type": "VisionTransformer", **TOKENS, "num_layers": 4, "out_indices": (0, 1, 2, 3)},
        {"embed_dim": 16, "rescales": [4, 2, 1, 0.5]}, 16, 1,
    ),
    "ICNeck": ({"type": "ICNet", **BACKBONE["ICNet"][0]}, {"in_channels": (8, 16, 16), "out_channels": 8}, 8, 2),
    "JPU": (
        {**RESNET, "strides": (1, 2, 2, 2), "dilations": (1, 1, 1, 1), "out_indices": (1, 2, 3)},
        {"in_channels": (16, 32, 64), "mid_channels": 8, "dilations": (1, 2)}, 16, 2,
    ),
    "MLANeck": (
        {"type": "VisionTransformer", **TOKENS, "num_layers": 4, "out_indices": (0, 1, 2, 3)},
        {"in_channels": [16, 16, 16, 16], "out_channels": 8, "norm_cfg": BN, "act_cfg": {"type": "ReLU"}}, 8, 3,
    ),
    "MultiLevelNeck": (RESNET, {"in_channels": [8, 16, 32, 64], "out_channels": 8, "scales": [4, 2, 1, 1]}, 8, 3),
}  # fmt: skip
PLUGIN: Mapping[str, dict[str, Any]] = {
    "ContextBlock": {"ratio": 1 / 4},
    "GeneralizedAttention": {"num_heads": 4, "attention_type": "1111", "kv_stride": 2, "spatial_range": -1},
    "NonLocal2d": {"reduction": 2},
}


def model(backbone: dict[str, Any], channels: int, index: int, neck: dict[str, Any] | None = None) -> dict[str, Any]:
    head = {
        "type": "PSPHead", "in_channels": channels, "in_index": index, "channels": 16, "pool_scales": (1, 2, 3, 6),
        "num_classes": 5, "norm_cfg": BN, "align_corners": False,
    }  # fmt: skip
    return {"type": "EncoderDecoder", "backbone": backbone, **({"neck": neck} if neck else {}), "decode_head": head}


def networks() -> dict[str, dict[str, Any]]:
    """A `model` section for each backbone, neck and plugin."""
    made = {name: model({**backbone, "type": name}, *taken) for name, (backbone, *taken) in BACKBONE.items()}
    for name, (backbone, neck, *taken) in NECK.items():
        made[name] = model(backbone, *taken, neck={"type": name, **neck})
    for name, plugin in PLUGIN.items():
        plugins = [{"cfg": {"type": name, **plugin}, "stages": (False, True, True, False), "position": "after_conv2"}]
        made[name] = model({**BOTTLENECKS, "plugins": plugins}, 128, 3)
    return made


def write_config(path: Path, section: Mapping[str, Any], side: int = SIDE) -> Path:
    preprocessor = (
        "dict(type='SegDataPreProcessor', mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], bgr_to_rgb=True)"
    )
    path.write_text(
        f"crop_size = ({side}, {side})\nmodel = {dict(section)!r}\nmodel['data_preprocessor'] = {preprocessor}\n"
    )
    return path


def drawn(network: PSPNet, side: int = SIDE) -> dict[str, torch.Tensor]:
    """Weights as if trained: what starts as 0 or 1 (attention's gains, position codes) is drawn too."""
    for parameter in network.parameters():
        if parameter.is_floating_point() and float(parameter.std(correction=0)) == 0:
            parameter.data.add_(0.1 * torch.randn_like(parameter))
    calibrate(network, blobs(6, side))
    return network.state_dict()


def checkpoint(path: Path, section: Mapping[str, Any], *, half: bool = False, side: int = SIDE, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    state = drawn(PSPNet(build_inline(section)).eval(), side)
    if half:
        state = {name: one.half() if one.is_floating_point() else one for name, one in state.items()}
    torch.save({"state_dict": state, "meta": {}}, path)
    return path


NETWORKS = networks()
