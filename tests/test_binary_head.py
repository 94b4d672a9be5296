"""Heads with one channel and a threshold: two classes, decided as mmsegmentation decides them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import numpy as np
import pytest
import torch
import yaml
from conftest import LENIENT, Cli, slow
from hypothesis import given
from hypothesis import strategies as st

from pspnet_convert.pytorch.network import PSPNet, build_inline, decision_score

THRESHOLDS = st.floats(0.01, 0.99)


@given(THRESHOLDS, st.integers(-3, 3))
def test_the_score_decides_as_the_sigmoid_does(threshold: float, steps: int) -> None:
    near = torch.full((64,), decision_score(threshold), dtype=torch.float32)
    toward = torch.tensor(float("inf") if steps > 0 else float("-inf"))
    for _ in range(abs(steps)):
        near = torch.nextafter(near, toward)
    assert ((near > decision_score(threshold)) == (near.sigmoid() > threshold)).all()


@given(THRESHOLDS, st.integers(0, 1000))
def test_any_score_is_decided_as_the_sigmoid_does(threshold: float, seed: int) -> None:
    scores = torch.randn(1000, generator=torch.Generator().manual_seed(seed)) * 4
    assert ((scores > decision_score(threshold)) == (scores.sigmoid() > threshold)).all()


@pytest.mark.parametrize(
    ("head", "threshold"), [({"out_channels": 1}, 0.3), ({"out_channels": 1, "threshold": 0.6}, 0.6)]
)
def test_two_logits_stand_for_one_score(head: dict[str, Any], threshold: float) -> None:
    segmentor = build_inline(theirs.network(2, **head))
    assert segmentor.decode_head.threshold == threshold
    network = PSPNet(segmentor).eval()
    with torch.inference_mode():
        logits = network(torch.randn(1, 3, 33, 47))
        score = torch.nn.functional.interpolate(
            network.decode_head(network.backbone(torch.zeros(1, 3, 33, 47))), size=(33, 47), mode="bilinear"
        )
    assert logits.shape == (1, 2, 33, 47) and score.shape[1] == 1
    assert (logits[:, 0] == decision_score(threshold)).all()


@pytest.fixture(params=["two classes", slow("one class")])
def model(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Path, Path, Path]:
    """A config, its checkpoint and its data."""
    root = theirs.write_data(tmp_path / "data", "DRIVEDataset", 2)
    changes: dict[str, Any] = {"model__decode_head__out_channels": 1, "model__decode_head__threshold": 0.45}
    if request.param == "one class":
        changes = {"model__decode_head__num_classes": 1}
    config = theirs.write_config(tmp_path / "vessels.py", root, "DRIVEDataset", 2, **changes)
    names, palette = ["background", "vessel"], [[0, 0, 0], [1, 2, 3]]
    if request.param == "one class":
        names, palette = names[1:], palette[1:]
    return config, theirs.save_checkpoint(tmp_path / "weights.pth", names, palette, is_binary=True), root


def test_the_whole_chain(cli: Cli, model: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config, checkpoint, root = model
    own = ("--config", config, "--checkpoint", checkpoint, "-o", tmp_path / "out")
    images = [("--images", path) for path in sorted((root / "images" / "validation").iterdir())]
    done = cli("run", *own, *(word for pair in images for word in pair))
    assert done.exit_code == 0, done.stderr
    folder = tmp_path / "out" / "public" / "vessels"
    card = yaml.safe_load((folder / "model.yml").read_text())
    assert [label["name"] for label in card["classes"]] == ["background", "vessel"]
    image = next((root / "images" / "validation").iterdir())
    (labels,) = theirs.labels_of(config, checkpoint, [image])
    assert set(np.unique(labels)) == {0, 1}
    assert cli("quantize", folder, "-o", tmp_path / "out", *LENIENT).exit_code in (0, 9)
    assert cli("segment", image, "--model", folder, "-o", tmp_path / "out").exit_code == 0
    assert cli("bundle", folder, "--output-dir", tmp_path / "out", "-o", tmp_path / "b.tar.gz").exit_code == 0
    if "out_channels" in config.read_text():
        found = cli("evaluate", *own, "--dataset", root, "--backend", "PyTorch", "--json").json()["result"]
        pixels, _ = theirs.tested(config, checkpoint)
        (score,) = found["scores"]
        assert {name: [one[name] for one in score["pixels"]] for name in pixels} == pixels


@pytest.mark.parametrize("threshold", [0, 1, 1.5])
def test_a_threshold_that_decides_nothing(cli: Cli, tmp_path: Path, threshold: float) -> None:
    root = theirs.write_data(tmp_path / "data", "DRIVEDataset", 2)
    changes = {"model__decode_head__out_channels": 1, "model__decode_head__threshold": threshold}
    config = theirs.write_config(tmp_path / "vessels.py", root, "DRIVEDataset", 2, **changes)
    checkpoint = theirs.save_checkpoint(tmp_path / "w.pth", ["a", "b"], [[0, 0, 0], [1, 2, 3]], is_binary=True)
    done = cli("export-onnx", "--config", config, "--checkpoint", checkpoint, "-o", tmp_path)
    assert done.exit_code == 3
    assert f"decode_head.threshold is {threshold}; it must be between 0 and 1" in done.error
