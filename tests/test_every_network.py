"""Each backbone, neck and plugin of mmsegmentation's goes through the whole chain, from config to verified IR."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
import yaml
from conftest import Cli, slow
from mmsegmentation import quiet_import
from small_networks import BACKBONE, NETWORKS, checkpoint, model, write_config

from pspnet_convert.cards.card_yaml import as_yaml
from pspnet_convert.cards.inline_network import BACKBONES, NECKS, PLUGINS, check_network
from pspnet_convert.cards.own_model import _plain
from pspnet_convert.pytorch.network import PSPNet, build_inline

SHORT = ("SwinTransformer", "ContextBlock")
SEEDS = {"MSCAN": 1}  # with others it sees one class


def test_all_have_a_network() -> None:
    assert set(NETWORKS) == {*BACKBONES, *NECKS, *PLUGINS}


@pytest.mark.parametrize("name", [name if name in SHORT else slow(name) for name in NETWORKS])
def test_each_goes_through_the_whole_chain(cli: Cli, tmp_path: Path, name: str) -> None:
    config = write_config(tmp_path / "own.py", NETWORKS[name])
    weights = checkpoint(tmp_path / "w.pth", NETWORKS[name], seed=SEEDS.get(name, 0))
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr


def structure(network: torch.nn.Module) -> list[tuple[str, str, str]]:
    modules = [(name, type(module).__name__, module.extra_repr()) for name, module in network.named_modules()]
    return [one for one in modules if "loss_decode" not in one[0]]


@pytest.mark.parametrize("name", NETWORKS)
def test_a_cards_lists_build_what_the_configs_tuples_build(name: str) -> None:
    from mmengine.model import revert_sync_batchnorm
    from mmengine.registry import DefaultScope

    quiet_import("mmseg.models")
    from mmseg.registry import MODELS

    read = yaml.safe_load(as_yaml(_plain(NETWORKS[name])))
    check_network(read)
    theirs = copy.deepcopy(NETWORKS[name])
    with DefaultScope.overwrite_default_scope("mmseg"):
        expected = PSPNet(revert_sync_batchnorm(MODELS.build(theirs)))
    with torch.device("meta"):
        assert structure(PSPNet(build_inline(read))) == structure(expected)


@pytest.mark.slow
def test_a_network_that_takes_one_size_alone(cli: Cli, tmp_path: Path) -> None:
    """BEiT's position codes are of one size: verification cannot thin the pictures."""
    backbone, *taken = BACKBONE["BEiT"]
    section = model({**backbone, "type": "BEiT", "img_size": (112, 112)}, *taken)
    config, weights = write_config(tmp_path / "own.py", section, 112), checkpoint(tmp_path / "w.pth", section, side=112)
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr


@pytest.mark.slow
def test_attention_with_weights_in_fp16_passes(cli: Cli, tmp_path: Path) -> None:
    """Front-ends multiply attention's scale into them, and mean and scale into the patches' weights."""
    section = NETWORKS["VisionTransformer"]
    config, weights = write_config(tmp_path / "own.py", section), checkpoint(tmp_path / "w.pth", section, half=True)
    done = cli("run", "--config", config, "--checkpoint", weights, "-o", tmp_path / "out")
    assert done.exit_code == 0, done.stderr
