"""Crosses of what mmsegmentation can train: head, backbone, norm, images, checkpoint, config, form of the IR.

Each goes through the whole chain to a pass, and PyTorch's counts are those of mmsegmentation's own test.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import other_inputs as others
import pytest
import torch
from conftest import Cli, slow
from make_standin_checkpoint import calibrate
from manifests import read as read_manifest
from safetensors.torch import save_file
from small_networks import BACKBONE

from pspnet_convert.pytorch.network import PSPNet, build_inline

State = dict[str, torch.Tensor]
COUNT, SHORT = 20, 2
NAMES = ["ground", "water", "trees"]
AXES: Mapping[str, tuple[str, ...]] = {
    "head": ("three classes", "two classes in one channel", "its own threshold", "one class"),
    "backbone": ("ResNetV1c", "UNet", "SwinTransformer", "STDCNet", "HRNet"),
    "norm": ("BN", "SyncBN", "MMSyncBN", "GN"),
    "align_corners": ("False", "True"),
    "kind": ("grey", "grey of 16 bits", "radar", "four bands", "three of 16 bits", "far from zero"),
    "stored": ("FP32", "FP16"),
    "keys": ("plain", "module.", "model.", "student and teacher", "more keys"),
    "file": ("state_dict", "top level", "beside an average", "safetensors", "other objects"),
    "config": ("given", "inside"),
    "classes": ("inside", "option"),
    "form": ("plain", "batch", "NHWC"),
}
KINDS = {
    "grey": others.GREY,
    "grey of 16 bits": others.GREY_16,
    "radar": others.RADAR,
    "four bands": others.FOUR,
    "three of 16 bits": others.THREE_16,
    "far from zero": others.FAR,
}
HEADS: Mapping[str, dict[str, Any]] = {
    "three classes": {"num_classes": 3},
    "two classes in one channel": {"num_classes": 2, "out_channels": 1},
    "its own threshold": {"num_classes": 2, "out_channels": 1, "threshold": 0.55},
    "one class": {"num_classes": 1},
}
FORMS = {
    "plain": (),
    "batch": ("--batch", "2"),
    "NHWC": ("--input-layout", "NHWC"),
}


def cases() -> list[dict[str, str]]:
    """COUNT cases, the same in every run; each value of each axis is in some of them."""
    columns = {}
    for axis, values in AXES.items():
        column = [values[number % len(values)] for number in range(COUNT)]
        random.Random(axis).shuffle(column)
        columns[axis] = column
    return [{axis: column[number] for axis, column in columns.items()} for number in range(COUNT)]


@dataclass(frozen=True)
class Case:
    """A config and a checkpoint as mmsegmentation takes them, and the options that give this tool a variant of them."""

    config: Path
    checkpoint: Path
    given: list[object]
    root: Path

    @property
    def images(self) -> list[object]:
        return [word for path in sorted((self.root / "img_dir" / "val").iterdir()) for word in ("--images", path)]


def made(folder: Path, chosen: Mapping[str, str]) -> Case:
    kind, head = KINDS[chosen["kind"]], HEADS[chosen["head"]]
    classes = max(2, int(head["num_classes"]))
    root = others.write_data(folder / "data", kind, classes=classes)
    backbone, channels, index = BACKBONE[chosen["backbone"]]
    section = {
        **others.network(kind.channels),
        "backbone": {**backbone, "type": chosen["backbone"], "in_channels": kind.channels},
    }
    section["decode_head"] = {
        **section["decode_head"],
        **head,
        "in_channels": channels,
        "in_index": index,
        "norm_cfg": {"type": "GN", "num_groups": 4} if chosen["norm"] == "GN" else {"type": "BN"},
        "align_corners": chosen["align_corners"] == "True",
    }
    state = trained(section, kind.channels)
    if chosen["stored"] == "FP16":
        state = {
            key: value.half().to(value.dtype) if value.is_floating_point() else value for key, value in state.items()
        }
    write = partial(others.write_config, kind=kind, root=root)
    labels = {"classes": NAMES[:classes], "palette": others.PALETTE[:classes]}
    changes: dict[str, Any] = {
        "model__backbone": {"_delete_": True, **section["backbone"]},
        "model__decode_head": section["decode_head"],
        "model__data_preprocessor__size": None,
        "model__data_preprocessor__size_divisor": 32,
        "model__data_preprocessor__test_cfg": {"size_divisor": 32},  # UNet takes multiples of 16
        "test_dataloader__dataset__metainfo": labels,
    }
    config = write(folder / "theirs.py", **changes)
    checkpoint = folder / "theirs.pth"
    torch.save({"state_dict": state, "meta": {}}, checkpoint)
    if chosen["norm"] != "GN":
        changes["model__decode_head__norm_cfg__type"] = chosen["norm"]
    ours = write(folder / "ours.py", **changes)
    stored = {key: value.half() if value.is_floating_point() else value for key, value in state.items()}
    given = written(folder, chosen, stored if chosen["stored"] == "FP16" else state, ours)
    if chosen["classes"] == "option":
        given += ["--classes", ",".join(NAMES[:classes])]
    return Case(config, checkpoint, given, root)


def trained(section: Mapping[str, Any], channels: int) -> State:
    """Random weights that give each class somewhere."""
    torch.manual_seed(0)
    network = PSPNet(build_inline(section), channels).eval()
    network.decision_score = None  # calibrate wants the head's own channels
    coarse = torch.randn(3, channels, 9, 9, generator=torch.Generator().manual_seed(1))
    calibrate(network, torch.nn.functional.interpolate(coarse * 1.2, size=(64, 64), mode="bicubic"))
    return network.state_dict()


def written(folder: Path, chosen: Mapping[str, str], state: State, config: Path) -> list[object]:
    """Write the variant of the checkpoint; returns the options that name it."""
    from mmengine.config import Config

    zeros = {key: torch.zeros_like(value) for key, value in state.items()}
    keys: dict[str, Any] = {
        "plain": state,
        "module.": {f"module.{key}": value for key, value in state.items()},
        "model.": {f"model.{key}": value for key, value in state.items()},
        "student and teacher": {
            **{f"teacher.{key}": value for key, value in zeros.items()},
            **{f"architecture.{key}": value for key, value in state.items()},
        },
        "more keys": {**state, "auxiliary_head.conv_seg.bias": torch.zeros(3), "extra.steps": torch.tensor(5)},
    }[chosen["keys"]]
    text = Config.fromfile(str(config)).pretty_text
    meta: dict[str, Any] = {"cfg": text} if chosen["config"] == "inside" else {}
    given: list[object] = ["--name", "case"] if chosen["config"] == "inside" else ["--config", config, "--name", "case"]
    path = folder / ("ours.safetensors" if chosen["file"] == "safetensors" else "ours.pth")
    if chosen["file"] == "safetensors":
        save_file({key: value.contiguous() for key, value in keys.items()}, path, metadata=meta)
        return [*given, "--checkpoint", path]
    content: dict[str, Any] = {"state_dict": keys, "meta": meta}
    if chosen["file"] == "top level" and not meta:
        content = keys
    elif chosen["file"] == "beside an average":
        averaged = {"ema_state_dict": keys, "state_dict": {key: torch.zeros_like(one) for key, one in keys.items()}}
        content = {**averaged, "meta": meta}
        given += ["--weights", "ema_state_dict"]
    elif chosen["file"] == "other objects":
        content["options"] = argparse.Namespace(lr=0.1)
        content["message_hub"] = {"history": random.Random(0), "path": Path("work_dirs")}
    torch.save(content, path)
    return [*given, "--checkpoint", path]


CASES = cases()


def test_each_value_is_in_a_case() -> None:
    for axis, values in AXES.items():
        assert {case[axis] for case in CASES} == set(values)


@pytest.mark.parametrize("number", [number if number < SHORT else slow(number) for number in range(COUNT)])
def test_the_whole_chain(cli: Cli, tmp_path: Path, number: int) -> None:
    chosen = CASES[number]
    case = made(tmp_path, chosen)
    done = cli("run", *case.given, *case.images, "-o", tmp_path / "out", *FORMS[chosen["form"]])
    assert done.exit_code == 0, (chosen, done.stderr)
    found = read_manifest(tmp_path / "out" / "public" / "case")["stages"]["verify"]["result"]
    assert found["verdict"] == "pass"
    if chosen["head"] == "one class":
        return  # mmsegmentation's test of it counts one class alone
    given = ("--dataset", case.root, "--backend", "PyTorch", "--json")
    asked = cli("evaluate", *case.given, "-o", tmp_path / "out", *given)
    assert asked.exit_code == 0, (chosen, asked.stderr)
    pixels, _ = theirs.tested(case.config, case.checkpoint)
    (score,) = asked.json()["result"]["scores"]
    assert {name: [one[name] for one in score["pixels"]] for name in pixels} == pixels, chosen
