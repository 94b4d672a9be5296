"""`evaluate --protocol mmseg` counts what mmsegmentation's own test counts, to the pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import pytest
from conftest import Cli, Result, slow

SLIDE = {"mode": "slide", "crop_size": (48, 64), "stride": (20, 33)}
PIPELINE = "test_dataloader__dataset__pipeline"


@dataclass(frozen=True)
class Case:
    """A config, its checkpoint and its data; and the command line."""

    cli: Cli
    folder: Path
    config: Path
    checkpoint: Path
    root: Path

    def evaluate(self, *arguments: object) -> Result:
        own = ("--config", self.config, "--checkpoint", self.checkpoint, "-o", self.folder / "out")
        return self.cli("evaluate", *own, "--dataset", self.root, "--json", *arguments)

    def check(self, *arguments: object) -> dict[str, Any]:
        """PyTorch's counts and metrics are mmsegmentation's; returns the result."""
        done = self.evaluate("--backend", "PyTorch", *arguments)
        assert done.exit_code == 0, done.stderr
        result = done.json()["result"]
        (score,) = result["scores"]
        pixels, metrics = theirs.tested(self.config, self.checkpoint)
        found = {name: [one[name] for one in score["pixels"]] for name in pixels}
        assert found == pixels
        assert sum(pixels["intersection"]) > 0
        assert {name: pytest.approx(value, abs=0.006) for name, value in metrics.items()} == {
            name: float("nan") if value is None else value for name, value in score["metrics"].items()
        }
        assert result["protocol"] == "mmseg"
        return result


Make = Callable[..., Case]


@pytest.fixture
def make(cli: Cli, tmp_path: Path) -> Make:
    def make(dataset: str = "PascalVOCDataset", *, classes: list[str] | None = None, **changes: Any) -> Case:
        metainfo = theirs.dataset_class(dataset).METAINFO
        names = classes or list(metainfo["classes"])
        palette = [list(colour) for colour in metainfo["palette"]][: len(names)]
        root = theirs.write_data(tmp_path / "data", dataset, len(metainfo["classes"]))
        config = theirs.write_config(tmp_path / "my_model.py", root, dataset, len(names), **changes)
        checkpoint = theirs.save_checkpoint(tmp_path / "weights.pth", names, palette)
        return Case(cli, tmp_path, config, checkpoint, root)

    return make


@pytest.mark.parametrize(
    "dataset", [slow(name) if name not in ("ADE20KDataset", "CityscapesDataset") else name for name in theirs.DATASETS]
)
def test_each_data_set_of_the_catalog(make: Make, dataset: str) -> None:
    make(dataset).check()


@pytest.mark.parametrize(
    "changes",
    [
        {"model__test_cfg": SLIDE},
        {"test_evaluator__ignore_index": 0, "model__decode_head__ignore_index": 0},
        {f"{PIPELINE}__1__scale": (150, 70)},
        slow({f"{PIPELINE}__1__keep_ratio": False}),
        slow({"model__decode_head__align_corners": True, "model__test_cfg": SLIDE}),
        slow({"model__test_cfg": {**SLIDE, "crop_size": (30, 200), "stride": (30, 7)}}),
        slow({"model__data_preprocessor__test_cfg": {"size_divisor": 32}}),
        slow({"model__data_preprocessor__test_cfg": {"size": (120, 160)}, "model__test_cfg": SLIDE}),
        slow({"model__data_preprocessor__test_cfg": {"size_divisor": 32}, "model__data_preprocessor__pad_val": 2}),
        slow({"test_evaluator__iou_metrics": ["mDice", "mFscore", "mIoU"], "test_evaluator__beta": 2}),
        slow({"test_evaluator__nan_to_num": 0}),
        slow({"test_evaluator__ignore_index": 3}),
        slow({"model__data_preprocessor__bgr_to_rgb": False}),
        slow({"model__data_preprocessor__mean": None, "model__data_preprocessor__std": None}),
        slow({"resize": {"type": "Resize", "scale_factor": 0.7, "keep_ratio": True}}),
        slow({"resize": {"type": "ResizeToMultiple", "size_divisor": 32}}),
        slow({"resize": {"type": "CLAHE"}}),
        slow({"resize": {"type": "Pad", "size_divisor": 32}}),
        slow({f"{PIPELINE}__0__imdecode_backend": "pillow"}),
        slow({"test_dataloader__dataset__reduce_zero_label": True}),
    ],
    ids=lambda changes: "-".join(f"{key.rpartition('__')[2]}={value}" for key, value in changes.items()),
)
def test_each_way_to_test(make: Make, changes: dict[str, Any]) -> None:
    make(**changes).check()


def test_some_of_the_classes(make: Make) -> None:
    names = ["person", "aeroplane", "dog"]
    make(classes=names, test_dataloader__dataset__metainfo={"classes": names}).check()
