"""Layers that need mmcv's compiled operations are refused by name; MMSyncBN, which has an equal in PyTorch, is not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import Cli, slow
from own_package import importable, importing
from small_networks import NETWORKS, checkpoint, write_config

from pspnet_convert.cards.inline_network import WHY_NOT
from pspnet_convert.cards.registry_names import _REGISTERED, registered

COMPILED = sorted(name for name, why in WHY_NOT.items() if "compiled operation" in why)
PATHS = {short: f"mmcv.ops.{name}" for name, short in _REGISTERED.items() if short in COMPILED}
SHORT = ("SAC", "carafe")
PACKAGE = """
from mmseg.models.backbones import ResNetV1c
from mmseg.registry import MODELS


@MODELS.register_module(force=True)
class PlainBackbone(ResNetV1c):
    pass
"""


@pytest.fixture(params=["mmsegmentation's classes", "own classes"])
def is_own(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[bool]:
    """Whether the config has a backbone of its user's own."""
    with importable(tmp_path / "code" / "plain_models.py", PACKAGE, monkeypatch):
        yield request.param == "own classes"


def config_with(folder: Path, *, is_own: bool, **backbone: Any) -> Path:
    section = NETWORKS["ResNetV1c"]
    changed = {**section["backbone"], **({"type": "PlainBackbone"} if is_own else {}), **backbone}
    path = write_config(folder / "own.py", {**section, "backbone": changed})
    return importing(path, "plain_models") if is_own else path


def test_the_layers_are_those_that_mmcv_compiles() -> None:
    assert COMPILED == ["DCN", "DCNv2", "MConv", "MultiScaleDeformableAttention", "SAC", "carafe"]


@pytest.mark.parametrize("name", [name if name in SHORT else slow(name) for name in COMPILED])
def test_an_error_names_the_operation_and_the_package(cli: Cli, tmp_path: Path, name: str, is_own: bool) -> None:
    config = config_with(tmp_path, is_own=is_own, conv_cfg={"type": name})
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / "w.pth")
    done = cli("export-onnx", "--config", config, "--checkpoint", tmp_path / "w.pth", "-o", tmp_path)
    assert done.exit_code == 3, done.stderr
    assert f"backbone.conv_cfg.type: {name} needs mmcv.ops." in done.error
    assert "a compiled operation of the package mmcv (mmcv-lite has none), which ONNX does not have" in done.error


@pytest.mark.parametrize("name", [name if name in SHORT else slow(name) for name in PATHS])
def test_a_class_that_is_named_with_its_module_is_the_same(cli: Cli, tmp_path: Path, name: str) -> None:
    assert registered(PATHS[name]) == name
    config = config_with(tmp_path, is_own=False, conv_cfg={"type": PATHS[name]})
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / "w.pth")
    done = cli("export-onnx", "--config", config, "--checkpoint", tmp_path / "w.pth", "-o", tmp_path)
    assert done.exit_code == 3, done.stderr
    assert f"{name} needs mmcv.ops." in done.error


def test_mmcvs_own_batchnorm_converts(cli: Cli, tmp_path: Path, is_own: bool) -> None:
    config = config_with(tmp_path, is_own=is_own, norm_cfg={"type": "MMSyncBN"})
    weights = checkpoint(tmp_path / "w.pth", NETWORKS["ResNetV1c"])
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
