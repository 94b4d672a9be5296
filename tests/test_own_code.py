"""A config with classes of the user's own is converted with --config, and only so: a card never brings code."""

from __future__ import annotations

import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from conftest import LENIENT, Cli, slow
from make_standin_checkpoint import blobs, calibrate
from own_package import importable, importing
from small_networks import NETWORKS, write_config

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.own_model import own_card
from pspnet_convert.pytorch.own_psp_net import build_own_network
from pspnet_convert.pytorch.read_metadata import read_metadata

PACKAGE = """
import torch
from mmengine.logging import MessageHub
from mmseg.models.backbones import ResNetV1c
from mmseg.models.decode_heads import PSPHead
from mmseg.models.segmentors import EncoderDecoder
from mmseg.registry import MODELS
from torch import nn


@MODELS.register_module(force=True)
class OwnBackbone(ResNetV1c):
    def __init__(self, *given, strength, **named):
        super().__init__(*given, **named)
        self.rates = [rate.item() for rate in torch.linspace(0, strength, 3)]  # as many backbones do
        self.gain = nn.Parameter(torch.ones(64, 1, 1))

    def forward(self, image):
        *maps, last = super().forward(image)
        return (*maps, last * self.gain * (1 + self.rates[1]))


@MODELS.register_module(force=True)
class OwnHead(PSPHead):
    def __init__(self, **named):
        super().__init__(**named)
        self.edges = nn.Conv2d(8, self.num_classes, 1)

    def forward(self, maps):
        logits = super().forward(maps)
        edges = nn.functional.adaptive_max_pool2d(self.edges(maps[0]), logits.shape[2:])
        return logits + 0.3 * edges


@MODELS.register_module(force=True)
class OwnSegmentor(EncoderDecoder):
    def encode_decode(self, image, metas):
        flipped = super().encode_decode(image.flip(3), metas).flip(3)
        return (super().encode_decode(image, metas) + flipped) / 2


@MODELS.register_module(force=True)
class ValueBackbone(ResNetV1c):
    \"\"\"It has a tensor that is no buffer: it does not run on the meta device.\"\"\"

    def __init__(self, **named):
        super().__init__(**named)
        self.factors = torch.linspace(0.5, 1.5, 64).view(64, 1, 1)

    def forward(self, image):
        *maps, last = super().forward(image)
        return (*maps, last * self.factors)


@MODELS.register_module(force=True)
class LoopBackbone(ResNetV1c):
    \"\"\"It decides by values, which no graph can.\"\"\"

    def forward(self, image):
        maps = super().forward(image)
        return tuple(one * 2 for one in maps) if float(maps[-1].max()) > 1 else maps
"""
SECTION = {
    **NETWORKS["ResNetV1c"],
    "type": "OwnSegmentor",
    "backbone": {**NETWORKS["ResNetV1c"]["backbone"], "type": "OwnBackbone", "strength": 0.5},
    "decode_head": {**NETWORKS["ResNetV1c"]["decode_head"], "type": "OwnHead"},
}


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    with importable(tmp_path / "code" / "own_models.py", PACKAGE, monkeypatch) as path:
        yield path


@pytest.fixture
def config(package: Path, tmp_path: Path) -> Path:
    return config_of(tmp_path, SECTION)


def config_of(folder: Path, section: dict[str, object]) -> Path:
    return importing(write_config(folder / "own.py", section), "own_models")


def card_of(config: Path, checkpoint: Path) -> ModelCard:
    return own_card(config, checkpoint, read_metadata)


def trained(config: Path, path: Path) -> Path:
    torch.save({"state_dict": {}, "meta": {}}, path)
    torch.manual_seed(0)
    network = build_own_network(card_of(config, path)).eval()
    gains = getattr(network.with_weights.backbone, "gain", None)
    if gains is not None:
        gains.data.uniform_(0.5, 1.5)
    calibrate(network, blobs(2, 64))
    torch.save({"state_dict": network.with_weights.state_dict(), "meta": {}}, path)
    return path


def only(**changes: object) -> dict[str, object]:
    """mmsegmentation's network with one class of the user's own."""
    return {**NETWORKS["ResNetV1c"], **changes}


ONE_EACH = [
    SECTION,
    slow(only(backbone=SECTION["backbone"])),
    slow(only(decode_head=SECTION["decode_head"])),
    slow(only(type="OwnSegmentor")),
    slow(only(backbone={**NETWORKS["ResNetV1c"]["backbone"], "type": "ValueBackbone"})),
    slow(only(backbone={**SECTION["backbone"], "type": "own_models.OwnBackbone"})),
]


@pytest.mark.parametrize("section", ONE_EACH)
def test_the_whole_chain_with_the_config_and_no_network_without_it(
    cli: Cli, package: Path, tmp_path: Path, section: dict[str, object]
) -> None:
    config = config_of(tmp_path, section)
    weights = trained(config, tmp_path / "w.pth")
    own = ("--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    done = cli("run", *own)
    assert done.exit_code == 0, done.stderr
    assert "has classes of its own" in done.stderr
    folder = tmp_path / "out" / "public" / "own"
    card = load_card(folder / "model.yml")
    assert card.needs_config is not None and card.network is None and card.config is None
    again = cli("run", *own)
    assert "verify: unchanged" in again.stderr
    given = (folder, "--checkpoint", weights, "-o", tmp_path / "out")
    for stage in ("export-onnx", "verify"):
        alone = cli(stage, *given, "--force")
        assert alone.exit_code == 3, alone.stderr
        assert "own: needs its config. Give it with --config" in alone.error
    assert "its own, not on the card" in cli("info", folder).stdout
    rebuilt = cli("rebuild", "--check", folder / "manifest.json", "--checkpoint", weights)
    assert rebuilt.exit_code == 3
    assert "needs its config, and rebuild runs none" in rebuilt.error
    assert cli("bundle", folder, "--output-dir", tmp_path / "out", "-o", tmp_path / "own.tar.gz").exit_code == 0


def test_the_network_is_what_mmsegmentation_runs(config: Path, tmp_path: Path) -> None:
    from mmengine.config import ConfigDict
    from mmengine.registry import DefaultScope
    from mmseg.registry import MODELS

    from pspnet_convert.cards.config_card import read_config
    from pspnet_convert.pytorch.checkpoint import load_checkpoint
    from pspnet_convert.pytorch.network import build_network

    weights = trained(config, tmp_path / "w.pth")
    card = card_of(config, weights)
    network = build_network(card, load_checkpoint(weights, card))
    with DefaultScope.overwrite_default_scope("mmseg"):
        theirs = MODELS.build(ConfigDict({**read_config(config).model, "test_cfg": {"mode": "whole"}})).eval()
    theirs.load_state_dict(torch.load(weights, weights_only=True)["state_dict"])
    image = blobs(1, 64)
    with torch.no_grad():
        expected = theirs.inference(image, [{"img_shape": (64, 64), "ori_shape": (64, 64), "pad_shape": (64, 64)}])
        assert torch.equal(network(image), expected)


def test_code_that_no_graph_can_hold_is_refused_in_one_line(cli: Cli, package: Path, tmp_path: Path) -> None:
    config = config_of(tmp_path, only(backbone={**NETWORKS["ResNetV1c"]["backbone"], "type": "LoopBackbone"}))
    weights = trained(config, tmp_path / "w.pth")
    done = cli("export-onnx", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 7, done.stderr
    assert "the network does not export" in done.error and "\\x1b" not in done.error


def test_a_network_of_own_classes_takes_other_images(
    cli: Cli, package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{__name__}.blobs", lambda count, side: torch.randn(count, 4, side, side))
    config = config_of(tmp_path, {**SECTION, "backbone": {**SECTION["backbone"], "in_channels": 4}})
    config.write_text(f"{config.read_text()}model['data_preprocessor'].update(mean=[300] * 4, std=[90] * 4)\n")
    weights = trained(config, tmp_path / "w.pth")
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
    assert load_card(tmp_path / "out" / "public" / "own" / "model.yml").input.shape == (1, 4, 64, 64)


def test_changed_code_converts_again(cli: Cli, config: Path, package: Path, tmp_path: Path) -> None:
    weights = trained(config, tmp_path / "w.pth")
    own = ("--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert cli("export-onnx", *own).exit_code == 0
    package.write_text(PACKAGE.replace("0.3 * edges", "0.5 * edges"))
    sys.modules.pop("own_models")
    done = cli("export-onnx", *own)
    assert "export-onnx: done" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("place", "value", "changes"),
    [
        ("decode_head.loss_decode", {"type": "DiceLoss"}, False),
        ("train_cfg", {1: 2, "a": 3}, False),
        ("backbone.init_cfg", {1: 2, "a": 3, None: (4,)}, True),  # keys that have no order
        ("test_cfg", {"mode": "slide"}, True),
        ("decode_head.channels", 24, True),
    ],
)
def test_what_makes_it_another_network(config: Path, tmp_path: Path, place: str, value: object, changes: bool) -> None:
    weights = tmp_path / "w.pth"
    torch.save({"state_dict": {}, "meta": {}}, weights)
    before = card_of(config, weights).needs_config
    part = "".join(f"[{key!r}]" for key in place.split("."))
    config.write_text(f"{config.read_text()}model{part} = {value!r}\n")
    assert (card_of(config, weights).needs_config != before) == changes


def test_another_loss_does_not_convert_again(cli: Cli, config: Path, tmp_path: Path) -> None:
    weights = trained(config, tmp_path / "w.pth")
    own = ("--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert cli("export-onnx", *own).exit_code == 0
    config.write_text(f"{config.read_text()}model['decode_head']['loss_decode'] = dict(type='DiceLoss')\n")
    done = cli("export-onnx", *own)
    assert "export-onnx: unchanged" in done.stderr, done.stderr


def test_a_class_in_a_zip_is_an_error_that_says_so(cli: Cli, config: Path, package: Path, tmp_path: Path) -> None:
    archive = tmp_path / "code.egg"
    with zipfile.ZipFile(archive, "w") as file:
        file.write(package, package.name)
    package.unlink()
    sys.path.insert(0, str(archive))
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / "w.pth")
    done = cli("export-onnx", "--config", config, "--checkpoint", tmp_path / "w.pth", "-o", tmp_path / "out")
    sys.path.remove(str(archive))
    assert done.exit_code == 3, done.stderr
    assert f"{archive / package.name}: the code of the config's classes cannot be read: Not a directory" in done.error
    assert "not in a zip or egg" in done.error


def test_classes_overrides_those_of_the_checkpoint(cli: Cli, config: Path, tmp_path: Path) -> None:
    weights = trained(config, tmp_path / "w.pth")
    content = torch.load(weights, weights_only=True)
    torch.save({**content, "meta": {"CLASSES": ["a", "b"]}}, weights)
    own = ("--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    refused = cli("export-onnx", *own)
    assert refused.exit_code == 6 and "was trained for 2 classes, the config has 5" in refused.error
    done = cli("export-onnx", *own, "--classes", "sky,wall,tree,car,sea")
    assert done.exit_code == 0, done.stderr
    assert "w.pth: was trained for 2 classes, the card has 5" in done.stderr


@pytest.mark.slow
def test_the_other_commands(cli: Cli, config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`benchmark` runs the network in a process of its own."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "code"), prepend=":")
    weights = trained(config, tmp_path / "w.pth")
    out = ("-o", tmp_path / "out")
    own = ("--config", config, "--checkpoint", weights, *out)
    assert cli("run", *own).exit_code == 0
    for stage in (["quantize", *LENIENT], ["benchmark", "--rounds", 1], ["to-ir", "--force"]):
        done = cli(*stage, *own)
        assert done.exit_code == 0, done.stderr
    assert cli("quantize", tmp_path / "out" / "public" / "own", *out, "--force", *LENIENT).exit_code == 0


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("'OwnHead'", "'NeverRegistered'", "decode_head.type: 'NeverRegistered' is neither PSPHead nor a"),
        ("'OwnHead'", "'FCNHead'", "decode_head.type: 'FCNHead' is neither PSPHead nor a subclass of it"),
        ("'OwnSegmentor'", "'CascadeEncoderDecoder'", "'CascadeEncoderDecoder' is neither EncoderDecoder nor a"),
        ("'own_models'", "'no_such_package'", "no_such_package"),
    ],
)
def test_what_is_no_pspnet_is_refused(cli: Cli, config: Path, tmp_path: Path, old: str, new: str, words: str) -> None:
    torch.save({"state_dict": {}, "meta": {}}, tmp_path / "w.pth")
    config.write_text(config.read_text().replace(old, new))
    done = cli("export-onnx", "--config", config, "--checkpoint", tmp_path / "w.pth", "-o", tmp_path / "out")
    assert done.exit_code == 3, done.stderr
    assert words in done.error


def test_a_card_that_needs_its_config_imports_nothing(
    cli: Cli, small: ModelCard, package: Path, tmp_path: Path
) -> None:
    package.write_text("raise SystemExit('imported')")
    data = small.model_dump(mode="json", exclude_none=True, exclude={"config", "config_overrides"})
    path = tmp_path / "model.yml"
    for extra, code in (
        ({"network": SECTION}, "'OwnBackbone' is not one of"),
        ({"needs_config": "own_models"}, "pattern"),
    ):
        path.write_text(yaml.safe_dump({**data, **yaml.safe_load(yaml.safe_dump(_lists(extra)))}))
        done = cli("info", path)
        assert done.exit_code == 3 and code in done.error
    path.write_text(yaml.safe_dump({**data, "needs_config": "0" * 64}))
    given = small.folder / small.checkpoint.name
    done = cli("export-onnx", path, "--checkpoint", given, "-o", tmp_path / "out")
    assert done.exit_code == 3 and "needs its config" in done.error


def _lists(value: object) -> object:
    if isinstance(value, dict):
        return {key: _lists(inner) for key, inner in value.items()}
    return [_lists(inner) for inner in value] if isinstance(value, tuple) else value
