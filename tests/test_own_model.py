"""A user's own model: its card is made from its config and checkpoint, and then needs no config."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import manifests
import pytest
import torch
import voc
import yaml
from conftest import LENIENT, SMALL, Cli, Run, slow

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.cards.inline_network import BACKBONES, LAYERS, NECKS
from pspnet_convert.cards.model_index import package_folder
from pspnet_convert.cards.own_labels import voc_palette
from pspnet_convert.cards.own_model import keep_card, own_card
from pspnet_convert.cards.registry_names import registered
from pspnet_convert.errors import CardError
from pspnet_convert.pytorch.network import PSPNet, build_inline, build_segmentor
from pspnet_convert.pytorch.read_metadata import read_metadata

SHIPPED = package_folder() / "configs"  # mmsegmentation's
OWN = ("--config", "a.py", "--checkpoint", "b.pth")
OLD = """
norm_cfg = dict(type='SyncBN', requires_grad=True)
model = dict(
    type='EncoderDecoder',
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(
        type='ResNetV1c', depth=18, num_stages=4, out_indices=(0, 1, 2, 3), dilations=(1, 1, 2, 4),
        strides=(1, 2, 1, 1), norm_cfg=norm_cfg, norm_eval=False, style='pytorch', contract_dilation=True,
        base_channels=8, stem_channels=8),
    decode_head=dict(
        type='PSPHead', in_channels=64, in_index=3, channels=16, pool_scales=(1, 2, 3, 6), dropout_ratio=0.1,
        num_classes=5, norm_cfg=norm_cfg, align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', use_sigmoid=False, loss_weight=1.0)),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'))
dataset_type = 'CustomDataset'
data_root = '/data/my own'
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
crop_size = (72, 64)
"""


# mmengine's newer style: a type is a class.
CLASSES = """
from mmseg.models.backbones import ResNetV1c
from mmseg.models.decode_heads import PSPHead
from mmseg.models.losses import CrossEntropyLoss
from mmseg.models.segmentors.encoder_decoder import EncoderDecoder
from torch.nn import SyncBatchNorm
""" + re.sub("type='([A-Z]\\w+)'", r"type=\1", OLD).replace("SyncBN", "SyncBatchNorm")


def card_of(config: Path, checkpoint: Path) -> ModelCard:
    return own_card(config, checkpoint, read_metadata)


def config_of(release: str, small: ModelCard) -> str:
    return {"0.x": OLD, "classes": CLASSES}.get(release) or new_config(small)


def new_config(small: ModelCard) -> str:
    """A config of mmsegmentation's, as mmengine writes it, reduced to the small model."""
    from mmengine.config import Config

    config = Config.fromfile(SHIPPED / str(small.config))
    changes = {"crop_size": (72, 64), "model.data_preprocessor.size": (72, 64)}
    config.merge_from_dict({**SMALL, **changes})
    return str(config.pretty_text)


@pytest.fixture
def weights(small: ModelCard, tmp_path: Path) -> Path:
    return Path(shutil.copy(small.folder / small.checkpoint.name, tmp_path / "my weights.pth"))


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str, name: str = "My Config.py") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


def changed(weights: Path, **meta: Any) -> Path:
    """The checkpoint with a changed meta; None removes a key."""
    content = torch.load(weights, weights_only=True)
    content["meta"] = {key: value for key, value in {**content["meta"], **meta}.items() if value is not None}
    torch.save(content, weights)
    return weights


@pytest.mark.parametrize("release", ["0.x", "1.x", "classes"])
def test_the_card_of_a_config_is_the_card_that_was_written_by_hand(
    small: ModelCard, weights: Path, write: Callable[[str], Path], release: str
) -> None:
    card = card_of(write(config_of(release, small)), weights)
    assert card.name == "my-config"
    assert card.config is None
    assert (card.input, card.output, card.classes) == (small.input, small.output, small.classes)
    assert (card.checkpoint.sha256, card.checkpoint.size) == (small.checkpoint.sha256, small.checkpoint.size)
    assert card.checkpoint.name == "my_weights.pth"


# One of each kind that mmsegmentation publishes.
KINDS = [
    "pspnet/pspnet_r50-d8_4xb4-20k_voc12aug-512x512.py",
    "pspnet/pspnet_r18b-d8_4xb2-80k_cityscapes-512x1024.py",
    "pspnet/pspnet_r50-d8-rsb_4xb2-adamw-80k_cityscapes-512x1024.py",
    "mobilenet_v2/mobilenet-v2-d8_pspnet_4xb2-80k_cityscapes-512x1024.py",
    "resnest/resnest_s101-d8_pspnet_4xb2-80k_cityscapes512x1024.py",
    "unet/unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_drive-64x64.py",
    "fastfcn/fastfcn_r50-d32_jpu_psp_4xb2-80k_cityscapes-512x1024.py",
]


def structure(network: torch.nn.Module) -> list[tuple[str, str, str]]:
    """Name, class and arguments of each layer except the losses."""
    modules = [(name, type(module).__name__, module.extra_repr()) for name, module in network.named_modules()]
    return [one for one in modules if "loss_decode" not in one[0]]


@pytest.mark.parametrize("name", KINDS)
def test_the_network_in_the_card_is_the_configs(name: str, weights: Path, write: Callable[[str], Path]) -> None:
    from mmengine.config import Config

    path = SHIPPED / name
    classes = Config.fromfile(path).model.decode_head.num_classes
    changed(weights, CLASSES=[f"class {one}" for one in range(classes)], PALETTE=None)
    card = card_of(write(f"_base_ = [{str(path)!r}]"), weights)
    assert card.network is not None
    with torch.device("meta"):
        ours, theirs = PSPNet(build_inline(card.network)), PSPNet(build_segmentor(name, {}))
    assert len(structure(ours)) > 50
    assert structure(ours) == structure(theirs)


RESNET = "pspnet_r50-d8.py"
PYRAMID = {"type": "MultiLevelNeck", "in_channels": [256, 512, 1024, 2048], "out_channels": 64, "scales": [4, 2, 1, 1]}
FEATURES = {"type": "Feature2Pyramid", "embed_dim": 18, "rescales": [4, 2, 1, 0.5]}
EQUAL = {"extra": {f"stage{number}": {"num_channels": (18,) * number} for number in (2, 3, 4)}}  # as FEATURES needs
# For parts that no config with this head has: a model of mmsegmentation's, the changes, and the head's input.
MADE_UP: list[tuple[str, dict[str, Any], int, int]] = [
    ("cgnet.py", {}, 256, 2),
    ("fast_scnn.py", {}, 128, 2),
    ("fcn_hr18.py", {}, 144, 3),
    ("lraspp_m-v3-d8.py", {}, 960, 2),
    (RESNET, {"backbone": {"type": "ResNetV1d"}}, 2048, 3),
    (RESNET, {"backbone": {"type": "ResNeXt", "groups": 32, "base_width": 4}}, 2048, 3),
    ("fpn_r50.py", {}, 256, 3),
    (RESNET, {"neck": PYRAMID}, 64, 3),
    ("fcn_hr18.py", {"backbone": EQUAL, "neck": FEATURES}, 18, 3),
]


@pytest.mark.parametrize(("base", "changes", "channels", "index"), MADE_UP)
def test_each_backbone_and_neck_is_built_from_the_lists_of_a_card(
    base: str, changes: dict[str, Any], channels: int, index: int, weights: Path, write: Callable[[str], Path]
) -> None:
    """Some of them take only tuples, some only lists."""
    head = {"type": "PSPHead", "in_channels": channels, "in_index": index, "channels": 16, "num_classes": 5}
    changes = {**changes, "decode_head": {"_delete_": True, **head}}
    path = SHIPPED / "_base_" / "models" / base
    config = write(f"_base_ = [{str(path)!r}]\ncrop_size = (64, 64)\nmodel = {changes!r}")
    card = card_of(config, weights)
    keep_card(card, config.parent)
    kept = load_card(config.parent / "model.yml").network
    assert kept is not None
    overrides = {f"model.{key}": value for key, value in changes.items()}
    with torch.device("meta"):
        ours, theirs = PSPNet(build_inline(kept)), PSPNet(build_segmentor(f"_base_/models/{base}", overrides))
    assert structure(ours) == structure(theirs)
    assert ours.eval()(torch.empty(1, 3, 64, 64, device="meta")).shape == (1, 5, 64, 64)


def test_a_config_based_on_mmsegmentations_is_read_and_its_prints_go_to_stderr(
    offline: Run, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    config = write(
        "_base_ = 'mmseg::pspnet/pspnet_r18-d8_4xb4-80k_potsdam-512x512.py'\n"
        "custom_imports = dict(imports=['mmseg.models'], allow_failed_imports=False)\n"
        f"crop_size = (72, 64)\nmodel = {nested(SMALL)['model']!r}\nprint('of the config')\n"
    )
    done = offline("export-onnx", "--config", config, "--checkpoint", weights, "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert [one["stage"] for one in json.loads(done.stdout)] == ["export-onnx"]
    assert done.stderr.count("of the config") == 1
    assert "pkg_resources" not in done.stderr


def test_mmcvs_compiled_batchnorm_becomes_the_equal_one(weights: Path, write: Callable[[str], Path]) -> None:
    plain, compiled = (card_of(write(OLD.replace("SyncBN", kind)), weights).network for kind in ("SyncBN", "MMSyncBN"))
    assert plain == compiled


def test_a_config_may_import_modules_and_call_them(
    cli: Cli, small: ModelCard, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    text = new_config(small)
    imports = "import os.path as osp\nimport numpy as np\nfrom datetime import datetime\n"
    uses = (
        "\nwork_dir = osp.join('a', 'b')\nvalues = np.arange(3).tolist()\nstarted = datetime(2026, 1, 2).isoformat()\n"
    )
    done = cli("export-onnx", "--config", write(imports + text + uses), "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr


def test_a_part_of_another_scope_is_refused(weights: Path, write: Callable[[str], Path]) -> None:
    with pytest.raises(CardError, match="'_scope_' is no key of a network"):
        card_of(write(OLD.replace("depth=18", "_scope_='mmdet', depth=18")), weights)


def nested(dotted: dict[str, Any]) -> dict[str, Any]:
    from mmengine.config import Config

    config = Config()
    config.merge_from_dict(dotted)
    return config.to_dict()


@pytest.mark.parametrize("release", ["0.x", slow("1.x"), slow("classes")])
def test_the_whole_chain_and_afterwards_without_the_config(
    cli: Cli, small: ModelCard, weights: Path, write: Callable[[str], Path], tmp_path: Path, release: str
) -> None:
    config, out = write(config_of(release, small)), tmp_path / "out"
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", out)
    assert done.exit_code == 0, done.stderr
    folder = out / "public" / "my-config"
    assert f"every command takes {folder} as MODEL" in done.stderr
    again = cli("run", "--config", config, "--checkpoint", weights, "-o", out)
    assert "verify: unchanged" in again.stderr and "wrote the card" not in again.stderr
    before = manifests.read(folder)
    config.unlink()
    assert load_card(folder / "model.yml") == find_card(str(folder))
    by_hand = cli("verify", folder, "--checkpoint", weights, "-o", out)
    assert "verify: unchanged" in by_hand.stderr, by_hand.stderr
    assert manifests.read(folder) == before
    missing = cli("export-onnx", folder, "-o", out, "--force")
    assert missing.exit_code == 6
    assert "--checkpoint" in missing.error and "my_weights.pth" in missing.error
    assert cli("rebuild", "--check", folder / "manifest.json", "--checkpoint", weights).exit_code == 0
    packed = cli("bundle", folder, "--output-dir", out, "-o", tmp_path / "own.tar.gz")
    assert packed.exit_code == 0, packed.stderr
    assert "the card's own network" in cli("info", folder).stdout


def trained(config: Path, weights: Path) -> Path:
    """The checkpoint with weights that fit the config's network, as if it was trained."""
    from make_standin_checkpoint import blobs, calibrate

    card = card_of(config, weights)
    assert card.network is not None
    torch.manual_seed(0)
    network = PSPNet(build_inline(card.network)).eval()
    calibrate(network, blobs(2, 96))
    content = torch.load(weights, weights_only=True)
    torch.save({**content, "state_dict": network.state_dict()}, weights)
    return weights


NO_AFFINE, STANDARDIZED = "norm_cfg=dict(type='BN', affine=False)", "conv_cfg=dict(type='ConvWS')"


@pytest.mark.parametrize(
    ("backbone", "head"),
    [
        ("", "norm_cfg=dict(type='GN', num_groups=4)"),
        slow("", "norm_cfg=dict(type='IN'), pool_scales=(2, 3)"),
        slow("", "act_cfg=dict(type='LeakyReLU', negative_slope=0.3)"),
        slow("", "act_cfg=dict(type='PReLU', num_parameters=16)"),
        slow("", "in_channels=[32, 64], in_index=[2, 3], input_transform='resize_concat'"),
        ("", "conv_cfg=dict(type='Conv2d', padding_mode='reflect')"),
        slow("", "conv_cfg=dict(type='deconv')"),
        slow("norm_cfg=dict(type='GN', num_groups=4)", "conv_cfg=dict(type='ConvAWS')"),
        slow(STANDARDIZED, STANDARDIZED),
        slow(NO_AFFINE, NO_AFFINE),
    ],
)
def test_other_layers_and_inputs_verify(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path, backbone: str, head: str
) -> None:
    config = write(f"{OLD}\nmodel['backbone'].update({backbone})\nmodel['decode_head'].update({head})\n")
    done = cli("run", "--config", config, "--checkpoint", trained(config, weights), "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert ("not folded" in done.stderr) == ("reflect" in head or "deconv" in head)


def test_a_head_that_takes_a_list_of_maps_is_refused(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    head = "in_channels=[32, 64], in_index=[2, 3], input_transform='multiple_select'"
    config = write(f"{OLD}\nmodel['decode_head'].update({head})\n")
    done = cli("export-onnx", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 3, done.stderr
    assert "decode_head.input_transform 'multiple_select'" in done.error


@pytest.mark.slow
def test_the_stages_one_by_one(
    cli: Cli, small: ModelCard, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    own = ("--config", write(OLD), "--checkpoint", weights, "-o", tmp_path / "out")
    dataset = voc.write(tmp_path / "voc", small, [(72, 64), (50, 90)])
    for stage in (
        ["export-onnx"],
        ["to-ir"],
        ["verify"],
        ["quantize", *LENIENT],
        ["evaluate", "--dataset", dataset],
        ["benchmark", "--rounds", 1],
    ):
        done = cli(*stage, *own)
        assert done.exit_code == 0, done.stderr
    told = manifests.read(tmp_path / "out" / "public" / "my-config")["stages"]
    assert told["evaluate"]["result"]["scores"][-1]["backend"] == "IR INT8"


def test_the_card_loads_back_equal(weights: Path, write: Callable[[str], Path], tmp_path: Path) -> None:
    card = card_of(write(OLD), weights)
    keep_card(card, tmp_path)
    assert load_card(tmp_path / "model.yml") == card.at(tmp_path / "model.yml")
    first = (tmp_path / "model.yml").stat().st_mtime_ns
    keep_card(card, tmp_path)
    assert (tmp_path / "model.yml").stat().st_mtime_ns == first


OF_TEST = """
data = dict(test=dict(
    type='ADE20KDataset', data_root='d', img_dir='im', ann_dir='an', classes=['sky', 'wall', 'tree', 'car', 'sea'],
    pipeline=[
        dict(type='LoadImageFromFile'),
        dict(type='MultiScaleFlipAug', img_scale=(2048, 512), flip=False, transforms=[
            dict(type='Resize', keep_ratio=True), dict(type='Normalize', **img_norm_cfg)])]))
"""


@pytest.mark.parametrize("release", ["0.x", "1.x"])
def test_the_card_has_the_configs_annotations_and_test(
    small: ModelCard, weights: Path, write: Callable[[str], Path], tmp_path: Path, release: str
) -> None:
    text = f"{OLD}{OF_TEST}" if release == "0.x" else config_of(release, small)
    card = card_of(write(text), weights)
    name, scale = ("ADE20KDataset", [2048, 512]) if release == "0.x" else ("PotsdamDataset", [512, 512])
    assert (card.annotations.dataset, card.annotations.reduce_zero_label) == (name, True)
    assert (card.annotations.label_map is not None) == (release == "0.x")
    assert card.testing is not None and card.testing.pipeline[1]["scale"] == scale
    keep_card(card, tmp_path)
    assert load_card(tmp_path / "model.yml") == card.at(tmp_path / "model.yml")


@pytest.fixture
def licensed(cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path) -> tuple[list[object], Path]:
    """A model's options, and its kept card with a licence that the user has added."""
    own = ["--config", write(OLD), "--checkpoint", weights, "-o", tmp_path]
    assert cli("export-onnx", *own).exit_code == 0
    path = tmp_path / "public" / "my-config" / "model.yml"
    path.write_text(path.read_text().replace("not stated", "MIT"))
    return own, path


def test_what_the_user_has_added_to_the_card_stays(cli: Cli, licensed: tuple[list[object], Path]) -> None:
    own, path = licensed
    again = cli("export-onnx", *own)
    assert (again.exit_code, "wrote the card" in again.stderr) == (0, False), again.stderr
    assert load_card(path).license.name == "MIT"
    path.write_text("name: [")
    broken = cli("export-onnx", *own)
    assert broken.exit_code == 3
    assert "model.yml: not valid YAML" in broken.error


def test_the_background_is_the_class_that_the_kept_card_names(
    cli: Cli, licensed: tuple[list[object], Path], small: ModelCard
) -> None:
    own, path = licensed
    assert load_card(path).background == "background"
    for named in ("bird", None):
        line = f"background: {named}\n" if named else ""
        path.write_text(re.sub(r"^background: .*\n", line, path.read_text(), flags=re.MULTILINE))
        assert cli("export-onnx", *own).exit_code == 0
        assert load_card(path).background == named


def test_a_background_that_is_no_class_any_more_is_that_of_the_new_names(
    cli: Cli, licensed: tuple[list[object], Path]
) -> None:
    own, path = licensed
    path.write_text(path.read_text().replace("background: background", "background: bird"))
    assert cli("export-onnx", *own, "--classes", "sky,road,car,tree,Background").exit_code == 0
    assert load_card(path).background == "Background"


def test_the_card_of_another_checkpoint_is_replaced(
    cli: Cli, weights: Path, licensed: tuple[list[object], Path]
) -> None:
    own, path = licensed
    changed(weights, epoch=7)
    again = cli("export-onnx", *own)
    assert (again.exit_code, "model.yml: describes another checkpoint and is replaced" in again.stderr) == (0, True)
    assert load_card(path).license.name == "not stated"


# What the config or the checkpoint leaves out


def test_classes_without_names_are_numbered_and_get_vocs_colours(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    changed(weights, CLASSES=None, PALETTE=None)
    done = cli("export-onnx", "--config", write(OLD), "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "numbering them" in done.stderr and "Pascal VOC's" in done.stderr
    card = load_card(tmp_path / "out" / "public" / "my-config" / "model.yml")
    assert card.class_names == ["class 0", "class 1", "class 2", "class 3", "class 4"]
    assert card.palette == [(0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (0, 0, 128)]


def test_vocs_palette_is_vocs() -> None:
    assert voc_palette(21) == find_card().palette
    assert len(set(voc_palette(255))) == 255


def test_mmengines_metadata_is_used(weights: Path, write: Callable[[str], Path]) -> None:
    names = ["a", "b", "c", "d", "e"]
    dataset = {"classes": names, "palette": [[one, one, one] for one in range(5)]}
    card = card_of(write(OLD), changed(weights, CLASSES=None, PALETTE=None, dataset_meta=dataset))
    assert card.class_names == names
    assert card.palette[4] == (4, 4, 4)


def test_unprintable_names_become_printable_and_the_others_stay(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    changed(weights, CLASSES=["a\tb", "\x1b[31m", "\t", "bed ", "\ud800"])
    done = cli("run", "--config", write(OLD), "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "numbering" not in done.stderr and "differ" not in done.stderr
    card = load_card(tmp_path / "out" / "public" / "my-config" / "model.yml")
    assert card.class_names == ["a b", "\\x1b[31m", "class 2", "bed ", "\\ud800"]


@pytest.mark.parametrize(
    ("meta", "words"),
    [
        ({"CLASSES": ["a", "b", "c", "b", "e"]}, "has two classes named 'b'"),
        ({"CLASSES": ["a", "b", "c", "d", "e" * 101]}, "a class's name is 'eee"),
        ({"PALETTE": [[0, 0, 256]] * 5}, "a class's color is (0, 0, 256)"),
    ],
)
def test_unusable_classes_are_an_error_of_the_checkpoint(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path, meta: dict[str, Any], words: str
) -> None:
    done = cli("run", "--config", write(OLD), "--checkpoint", changed(weights, **meta), "-o", tmp_path / "out")
    assert done.exit_code == 6, done.stderr
    assert f"{weights}: {words}" in done.error and "--classes" in done.error
    assert not (tmp_path / "out").exists()


def test_a_checkpoint_of_an_older_pytorch_is_accepted(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    """Its BatchNorms have no count of batches."""
    content = torch.load(weights, weights_only=True)
    kept = {name: tensor for name, tensor in content["state_dict"].items() if "num_batches_tracked" not in name}
    assert len(kept) < len(content["state_dict"])
    torch.save({**content, "state_dict": kept}, weights)
    done = cli("run", "--config", write(OLD), "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr


def test_without_a_crop_size_the_input_is_512x512_and_a_line_says_so(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path
) -> None:
    config = write(OLD.replace("crop_size = (72, 64)", ""))
    done = cli("export-onnx", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert "has no crop_size, the input is 512x512" in done.stderr
    assert load_card(tmp_path / "out" / "public" / "my-config" / "model.yml").input.shape == (1, 3, 512, 512)


def test_bgr_of_a_config_is_bgr_of_the_card(weights: Path, write: Callable[[str], Path]) -> None:
    assert card_of(write(OLD.replace("to_rgb=True", "to_rgb=False")), weights).input.color_order == "BGR"
    assert card_of(write(OLD.replace(", to_rgb=True", "")), weights).input.color_order == "RGB"


# What is refused


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("model = dict(", "cannot be read as a config"),
        ("raise ValueError('boom')", "boom"),
        ("raise SystemExit(0)", "cannot be read as a config"),
        ("x = 1", "model.type is missing; it must be EncoderDecoder"),
        (OLD.replace("'EncoderDecoder'", "'CascadeEncoderDecoder'"), "'CascadeEncoderDecoder' is not EncoderDecoder"),
        (OLD.replace("'PSPHead'", "'FCNHead'"), "decode_head.type: 'FCNHead' is not PSPHead"),
        (OLD.replace("'ResNetV1c'", "'TIMMBackbone'"), "backbone.type: TIMMBackbone reads files or downloads them"),
        (OLD.replace("'ResNetV1c'", "'DDRNet'"), "mmsegmentation itself cannot test this model"),
        (
            OLD.replace("depth=18", "depth=50, dcn=dict(type='DCNv2', deform_groups=1)"),
            "needs mmcv.ops.ModulatedDeformConv2d",
        ),
        (OLD.replace("depth=18", "conv_cfg=dict(type='mmcv.ops.DeformConv2dPack')"), "which ONNX does not have"),
        (OLD.replace("num_classes=5", "num_classes=0"), "num_classes is 0"),
        (OLD.replace("img_norm_cfg", "other"), "neither data_preprocessor nor img_norm_cfg"),
        (OLD.replace("(72, 64)", "(72, 7)"), "sides of 8 to"),
        (OLD.replace("depth=18", "depth='18.5'"), "is no plain name"),
        (OLD.replace("depth=18", "depth=17"), "does not build"),
    ],
)
def test_an_unusable_config_is_refused_in_one_line(
    cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path, text: str, words: str
) -> None:
    done = cli("run", "--config", write(text), "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 3, done.stderr
    assert words in done.error


@pytest.mark.parametrize("name", ["demo", "pspnet_r50-d8_4xb2-40k_cityscapes-512x1024"])
def test_a_config_under_a_name_of_the_catalog_is_the_users_own_model(
    cli: Cli, weights: Path, write: Callable[..., Path], tmp_path: Path, name: str
) -> None:
    """Training leaves mmsegmentation's configs behind under their names."""
    own = ("--config", write(OLD, f"{name}.py"), "--checkpoint", weights, "-o", tmp_path)
    assert cli("export-onnx", *own).exit_code == 0
    assert [path.name for path in (tmp_path / "public").iterdir() if path.is_dir()] == [f"{name}-own"]
    refused = cli("export-onnx", *own, "--name", name)
    assert refused.exit_code == 2
    assert f"--name: {name} is the name of a model in the catalog" in refused.error


def test_a_name_overrides_the_configs(cli: Cli, weights: Path, write: Callable[[str], Path], tmp_path: Path) -> None:
    own = ("--config", write(OLD), "--checkpoint", weights, "-o", tmp_path)
    assert cli("export-onnx", *own, "--name", "my.model-2").exit_code == 0
    assert load_card(tmp_path / "public" / "my.model-2" / "model.yml").name == "my.model-2"
    refused = cli("export-onnx", *own, "--name", "../x")
    assert refused.exit_code == 2
    assert "'../x' is not a model's name" in refused.stderr


def test_a_missing_config_is_an_error(cli: Cli, weights: Path, tmp_path: Path) -> None:
    done = cli("run", "--config", tmp_path / "none.py", "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 3
    assert "none.py" in done.error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("run", "demo", "--config", "a.py", "--checkpoint", "b.pth"), "Give one of them"),
        (("run", "demo", "--name", "mine"), "--name is for your own model: the card of demo has its own"),
        (("run", "--classes", "a,b"), "--classes is for your own model: the card of pspnet-pytorch has its own"),
        (("to-ir", "demo", "--palette", "none.txt"), "'none.txt' is neither a file nor a list of colours"),
        (("export-onnx", "--config", "a.py"), "--checkpoint FILE"),
        (("to-ir", "demo", "--checkpoint", "b.pth"), "--checkpoint is for --config here"),
        (("quantize", "demo", "--checkpoint", "b.pth"), "--checkpoint is for --config here"),
        (("to-ir", "demo", "--weights", "ema_state_dict"), "--weights is for --config here: the ONNX of MODEL"),
        (("quantize", "demo", "--prefix", "student."), "--prefix is for --config here: the FP32 IR of MODEL"),
        (("run", *OWN, "--source", "mirror"), "--source is for a download"),
        (("run", "demo", "--checkpoint", "b.pth", "--source", "mirror"), "--source is for a download"),
        (("run", *OWN, "--allow-http-redirect"), "--allow-http-redirect is for a download"),
        (("run", *OWN, "--allow-unknown-checkpoint"), "--allow-unknown-checkpoint is not for --config"),
        (("export-onnx", *OWN, "--allow-unknown-checkpoint"), "--allow-unknown-checkpoint is not for --config"),
        (("verify", *OWN, "--allow-unknown-checkpoint"), "--allow-unknown-checkpoint is not for --config"),
        (("evaluate", *OWN, "--allow-unknown-checkpoint"), "--allow-unknown-checkpoint is not for --config"),
        (("benchmark", *OWN, "--allow-unknown-checkpoint"), "--allow-unknown-checkpoint is not for --config"),
    ],
)
def test_options_that_do_not_go_together_are_refused(cli: Cli, arguments: tuple[str, ...], words: str) -> None:
    done = cli(*arguments)
    assert done.exit_code == 2
    assert words in done.stderr


def test_a_missing_checkpoint_is_an_error(cli: Cli, write: Callable[[str], Path], tmp_path: Path) -> None:
    done = cli("run", "--config", write(OLD), "--checkpoint", tmp_path / "none.pth", "-o", tmp_path)
    assert done.exit_code == 6
    assert "none.pth: there is no such checkpoint. Give the model's checkpoint with --checkpoint" in done.error


def test_a_checkpoint_of_other_classes_is_refused(cli: Cli, weights: Path, write: Callable[[str], Path]) -> None:
    changed(weights, CLASSES=["a", "b"])
    done = cli("run", "--config", write(OLD), "--checkpoint", weights, "-o", weights.parent / "out")
    assert done.exit_code == 6
    assert "was trained for 2 classes, the config has 5" in done.error
    assert "trained with this config" in done.error


def test_a_checkpoint_of_another_network_is_refused(cli: Cli, weights: Path, write: Callable[[str], Path]) -> None:
    config = write(OLD.replace("channels=16", "channels=24"))
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", weights.parent / "out")
    assert done.exit_code == 6
    assert "not of this card's network" in done.error
    assert (
        "Give the checkpoint that was trained with the model's config, or choose its keys with --prefix" in done.error
    )


def test_advice_for_an_unreadable_checkpoint_speaks_of_no_download(
    cli: Cli, weights: Path, write: Callable[[str], Path]
) -> None:
    weights.write_bytes(weights.read_bytes()[:-100])
    done = cli("run", "--config", write(OLD), "--checkpoint", weights, "-o", weights.parent / "out")
    assert done.exit_code == 6
    assert "Give the whole file that the training saved" in done.error and "download" not in done.error


# Hostile cards

GOOD = {
    "type": "EncoderDecoder",
    "backbone": {"type": "ResNetV1c", "depth": 18},
    "decode_head": {"type": "PSPHead", "in_channels": 512, "channels": 16, "num_classes": 5},
}


def with_network(card: ModelCard, folder: Path, *places: tuple[str, Any]) -> Path:
    network = yaml.safe_load(yaml.safe_dump(GOOD))
    for place, value in places:
        *path, last = place.split(".")
        inner = network
        for key in path:
            inner = inner.setdefault(key, {})
        inner[last] = value
    data = card.model_dump(mode="json", exclude_none=True, exclude={"config", "config_overrides"})
    data["files"][0]["sources"] = ["https://example.org/x.pth"]
    folder.mkdir(exist_ok=True)
    path = folder / "model.yml"
    path.write_text(yaml.safe_dump({**data, "network": network}), encoding="utf-8")
    return path


def deep(levels: int) -> Any:
    return {"a": deep(levels - 1)} if levels else 1


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        ("type", "CascadeEncoderDecoder", "is not EncoderDecoder"),
        ("type", None, "type is no name"),
        ("decode_head", [], "decode_head.type is missing"),
        ("decode_head.type", "os.system", "is no plain name"),
        ("backbone.type", "mmseg.models.TIMMBackbone", "is no plain name"),
        ("backbone.type", "VPD", "VPD reads files"),
        ("backbone.type", {"type": "ResNet"}, "type is no name"),
        ("backbone.norm_cfg", {"type": "TIMMBackbone", "zoo": True}, "reads files"),
        ("backbone.norm_cfg", {"type": ["BN"]}, "type is no name"),
        ("backbone.plugins", [{"cfg": {"type": "ResNet"}}], "'ResNet' is not one of"),
        ("backbone.plugins", [{"cfg": {"type": "GeneralizedAttention", "spatial_range": 3}}], "gigabytes of memory"),
        ("backbone.backbone_cfg", {"type": "PSPHead"}, "'PSPHead' is not one of"),
        ("backbone.init_cfg", {"type": "Pretrained"}, "init_cfg is not allowed"),
        ("backbone.pretrained", "x", "pretrained is not allowed"),
        ("backbone.checkpoint_path", "x", "checkpoint_path is not allowed"),
        ("backbone._scope_", "mmdet", "is no key of a network"),
        ("decode_head.sampler", {"type": "Clip"}, "sampler is not allowed: it is for training alone"),
        ("_delete_", True, "is no key of a network"),
        ("backbone.a-b", 1, "is no key of a network"),
        ("backbone.style", "../../etc/passwd", "is no plain name"),
        ("backbone.style", "http://example.org", "is no plain name"),
        ("backbone.style", "a\n", "is no plain name"),
        ("backbone.style", "a" * 65, "is no plain name"),
        ("backbone.depth", 10**9, "too large"),
        ("backbone.depth", float("nan"), "too large"),
        ("backbone.depth", 10**400, "too large"),
        ("backbone.strides", [1] * 101, "too many"),
        ("backbone.x", deep(9), "nested deeper"),
        ("backbone.x", [[1] * 100] * 21, "more than 2000 values"),
    ],
)
def test_a_hostile_network_is_refused_as_the_card_is_read(
    cli: Cli, small: ModelCard, tmp_path: Path, place: str, value: Any, words: str
) -> None:
    path = with_network(small, tmp_path / "card", (place, value))
    text = path.read_text().replace("&id001 ", "").replace("*id001", "[1]") if "&id" in path.read_text() else None
    if text is not None:  # an alias would be refused first
        data = yaml.safe_load(path.read_text())
        path.write_text(yaml.dump(data, Dumper=_NoAliases))
    done = cli("info", path)
    assert done.exit_code == 3, done.stdout
    assert words in done.error


class _NoAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: Any) -> bool:
        return True


@pytest.mark.parametrize(
    ("places", "words"),
    [
        ([("backbone.nonsense", 1)], "does not build"),
        ([("backbone.depth", 16384)], "does not build"),
        ([("backbone.widen", "eval")], "does not build"),
        ([("backbone", {"type": "UNet", "enc_num_convs": [16384] * 5})], "more than 5000 layers"),
        (
            [
                ("backbone.type", "HRNet"),
                ("backbone.depth", None),
                (
                    "backbone.extra",
                    {
                        f"stage{n}": {
                            "num_modules": 16384,
                            "num_branches": n,
                            "block": "BASIC" if n > 1 else "BOTTLENECK",
                            "num_blocks": [16384] * n,
                            "num_channels": [16384] * n,
                        }
                        for n in (1, 2, 3, 4)
                    },
                ),
            ],
            "does not build",
        ),
        ([("decode_head.pool_scales", [16384] * 100)], "more than 1024 cells"),
        ([("decode_head.in_channels", 64)], "does not run"),
        ([("decode_head.num_classes", 6)], "has 6 classes"),
    ],
)
def test_a_network_that_does_not_build_or_asks_for_too_much_is_refused_in_one_line(
    cli: Cli, small: ModelCard, tmp_path: Path, places: list[tuple[str, Any]], words: str
) -> None:
    path = with_network(small, tmp_path / "card", *places)
    given = small.folder / small.checkpoint.name
    done = cli("export-onnx", path, "--checkpoint", given, "-o", tmp_path / "out")
    assert done.exit_code == 3, done.stderr
    assert words in done.error


def test_overrides_are_not_for_a_network(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    path = with_network(small, tmp_path / "card")
    data = yaml.safe_load(path.read_text())
    path.write_text(yaml.safe_dump({**data, "config_overrides": {"model.backbone.depth": 50}}))
    done = cli("info", path)
    assert done.exit_code == 3
    assert "config_overrides change a config, not a network" in done.error


def test_a_hostile_network_of_a_manifest_is_refused(cli: Cli, workspace: Path, small: ModelCard) -> None:
    folder = workspace / "public" / small.name
    with manifests.changed(folder) as data:
        del data["model"]["config"]
        data["model"].update(network={**GOOD, "type": "os.system"}, config_overrides={})
    done = cli("rebuild", "--check", folder / "manifest.json")
    assert done.exit_code == 11
    assert "is no plain name" in done.error


SCOPED = {"type": "LoadImageFromFile", "_scope_": "evilpkg"}
# mmengine adds sys_path to Python's and imports `mc`.
MEMCACHED = {"backend": "memcached", "server_list_cfg": "a", "client_cfg": "b", "sys_path": "evilpkg"}


@pytest.mark.parametrize("loader", [SCOPED, {"type": "LoadImageFromFile", "backend_args": MEMCACHED}])
def test_no_module_is_imported_for_a_cards_test_pipeline(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, loader: Any
) -> None:
    canary, hostile = tmp_path / "was-run", tmp_path / "evilpkg"
    hostile.mkdir()
    for name in ("registry.py", "mc.py"):
        (hostile / name).write_text(f"import pathlib; pathlib.Path({str(canary)!r}).touch()")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    path = shutil.copytree(small.folder, tmp_path / "card") / "model.yml"
    data = yaml.safe_load(path.read_text())
    data["testing"]["pipeline"][0] = loader
    path.write_text(yaml.safe_dump(data))
    done = cli("verify", path, "-o", workspace)
    assert done.exit_code == 3, done.stderr
    assert "testing.pipeline: Value error, the key" in done.error and "is not allowed" in done.error
    assert not canary.exists()


def test_every_allowed_name_is_in_the_registry() -> None:
    """A misspelt name would always fail."""
    from mmengine.registry import DefaultScope

    from pspnet_convert.mmcv_ops import provide_mmcv_ops

    provide_mmcv_ops()
    import mmseg.models  # noqa: F401
    from mmseg.registry import MODELS

    with DefaultScope.overwrite_default_scope("mmseg"):
        for name in (*BACKBONES, *NECKS, *LAYERS):
            kind = MODELS.get(name)
            assert kind is not None, name
            if kind is not torch.nn.Upsample:  # one class with two names
                assert issubclass(kind, MODELS.get(registered(f"{kind.__module__}.{kind.__name__}"))), name


@pytest.mark.parametrize("name", ["ResNet", "mypackage.ResNet", "mmsegx.ResNet", "a b.c"])
def test_names_of_other_packages_stay_as_they_are(name: str) -> None:
    assert registered(name) == name
