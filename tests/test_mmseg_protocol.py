"""`evaluate --protocol mmseg` counts what mmsegmentation's own test counts, to the pixel."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import numpy as np
import pytest
from conftest import Cli, Result, call, slow
from PIL import Image as Pillow

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

    def call(self, command: str, *arguments: object) -> Result:
        own = ("--config", self.config, "--checkpoint", self.checkpoint, "-o", self.folder / "out")
        return self.cli(command, *own, *arguments)

    def evaluate(self, *arguments: object) -> Result:
        return self.call("evaluate", "--dataset", self.root, "--json", *arguments)

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
    return partial(make_case, cli, tmp_path)


def make_case(
    cli: Cli, folder: Path, dataset: str = "PascalVOCDataset", *, classes: list[str] | None = None, **changes: Any
) -> Case:
    metainfo = theirs.dataset_class(dataset).METAINFO
    names = classes or list(metainfo["classes"])
    palette = [list(colour) for colour in metainfo["palette"]][: len(names)]
    root = theirs.write_data(folder / "data", dataset, len(metainfo["classes"]))
    config = theirs.write_config(folder / "my_model.py", root, dataset, len(names), **changes)
    checkpoint = theirs.save_checkpoint(folder / "weights.pth", names, palette)
    return Case(cli, folder, config, checkpoint, root)


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


# Files


def exif(orientation: int) -> Pillow.Exif:
    made = Pillow.Exif()
    made[0x0112] = orientation
    return made


@pytest.mark.parametrize("kind", ["palette", "16 bit", slow("1 bit"), slow("turned"), slow("grey image"), slow("CMYK")])
def test_each_kind_of_file(make: Make, kind: str) -> None:
    case = make()
    image = case.root / "JPEGImages" / "001.jpg"
    annotation = case.root / "SegmentationClass" / "001.png"
    shown, labels = Pillow.open(image).copy(), Pillow.open(annotation).copy()
    if kind == "palette":  # in another order: mmsegmentation reads the index
        labels.putpalette([value for number in reversed(range(256)) for value in (number, number // 2, number // 3)])
        labels.save(annotation)
    elif kind == "16 bit":
        Pillow.fromarray(np.asarray(labels).astype(np.uint16)).save(annotation)
    elif kind == "1 bit":
        Pillow.fromarray(np.asarray(labels) % 2 > 0).save(annotation)
    elif kind == "turned":
        turned = shown.transpose(Pillow.Transpose.ROTATE_90)
        turned.save(image, exif=exif(6))  # to be turned back by 90 degrees to the right
        labels.save(annotation, exif=exif(3))  # which mmsegmentation ignores
    elif kind == "grey image":
        shown.convert("L").save(image)
    else:
        shown.convert("CMYK").save(image)
    case.check()


def test_what_is_no_class_and_not_ignored_is_an_error_or_counts_as_mmsegmentation_counts_it(make: Make) -> None:
    case = make()
    annotation = case.root / "SegmentationClass" / "001.png"
    labels = np.array(Pillow.open(annotation))
    labels[:20, :20] = 77
    Pillow.fromarray(labels).save(annotation)
    refused = case.evaluate("--backend", "PyTorch")
    assert refused.exit_code == 15
    assert "001.png: has the value 77" in refused.error
    result = case.check("--ignore-unknown")
    assert result["unknown"] == {"001": 400}


def test_255_where_another_number_is_ignored_counts_as_mmsegmentation_counts_it(make: Make) -> None:
    result = make(test_evaluator__ignore_index=0).check()
    assert 0 < result["ignored"] < 0.1


@pytest.mark.slow
def test_a_palette_in_another_order_is_right_by_colour(make: Make) -> None:
    case = make()
    straight = case.check()
    palette = [*theirs.dataset_class("PascalVOCDataset").METAINFO["palette"]]
    for annotation in sorted((case.root / "SegmentationClass").glob("*.png")):
        numbers = np.asarray(Pillow.open(annotation))
        turned = Pillow.fromarray(np.where(numbers == 255, 255, 20 - np.minimum(numbers, 20)).astype(np.uint8))
        colours = [*palette[::-1], *[[1, 1, 1]] * (255 - len(palette)), [224, 224, 192]]
        turned.putpalette([value for colour in colours for value in colour])
        turned.save(annotation)
    by_colour = case.evaluate("--backend", "PyTorch", "--labels", "colour").json()["result"]
    assert by_colour["scores"] == straight["scores"]
    assert case.check()["scores"] != straight["scores"]  # by index, as mmsegmentation reads it


# Converted models


@pytest.fixture(scope="module")
def sliding(tmp_path_factory: pytest.TempPathFactory) -> Case:
    """A model that is tested by windows of its size, and converted."""
    slide = {"mode": "slide", "crop_size": theirs.CROP, "stride": (30, 41)}
    changes = {"model__test_cfg": slide, f"{PIPELINE}__1__scale": (400, 70)}
    case = make_case(call, tmp_path_factory.mktemp("sliding"), "LoveDADataset", **changes)
    done = case.call("run", "--precision", "FP32")
    assert done.exit_code in (0, 10), done.stderr
    return case


def test_windows_of_a_converted_model_are_merged_as_pytorchs_label_maps_are(sliding: Case) -> None:
    done = sliding.evaluate()
    assert done.exit_code == 0, done.stderr
    result = done.json()["result"]
    rows = {score["backend"]: score for score in result["scores"]}
    assert {name: score["answers"] for name, score in rows.items()} == {
        "PyTorch": "logits",
        "PyTorch (label maps)": "label map",
        "ONNX": "label map",
        "IR FP32": "label map",
    }
    assert rows["ONNX"]["pixels"] == rows["PyTorch (label maps)"]["pixels"] != rows["PyTorch"]["pixels"]
    assert rows["ONNX"]["drop"] == 0
    shown = sliding.call("evaluate", "--dataset", sliding.root).stdout
    assert "from" in shown and "label map" in shown and "logits" in shown


def test_a_shape_that_would_serve_is_named(sliding: Case, tmp_path: Path) -> None:
    own = tmp_path / sliding.config.name  # names the model
    config = theirs.write_config(own, sliding.root, "LoveDADataset", 7, **{f"{PIPELINE}__1__keep_ratio": False})
    stretching = replace(sliding, config=config)
    every = stretching.evaluate()
    assert [score["backend"] for score in every.json()["result"]["scores"]] == ["PyTorch"]
    assert "Export with --input-shape 1,3,48,256 for this data set" in every.stderr
    named = stretching.evaluate("--backend", "ONNX")
    assert named.exit_code == 11
    assert "ONNX: the model takes only 64x48, and protocol mmseg gives 256x48" in named.error


# Annotations that mean something else


def test_a_later_mask_of_0_and_255_is_seen_in_the_result(make: Make) -> None:
    case = make("DRIVEDataset")
    second = case.root / "annotations" / "validation" / "001_manual1.png"
    Pillow.fromarray(np.uint8(np.asarray(Pillow.open(second)) > 0) * 255).save(second)
    result = case.check()
    assert "1 of 3 annotations (001) have 0 and 255 alone, and 255 is ignored." in result["warnings"][0]
    assert not any("alone" in line for line in case.check("--ignore-index", 255)["warnings"])


@pytest.mark.parametrize("option", ["ignored", slow("class")])
def test_a_wrong_zero_label_is_seen_in_the_result(make: Make, option: str) -> None:
    case = make()
    images = sorted((case.root / "JPEGImages").glob("*.jpg"))
    for image, labels in zip(images, theirs.labels_of(case.config, case.checkpoint, images), strict=True):
        # Where 0 is ignored, classes count from 1.
        annotation = case.root / "SegmentationClass" / f"{image.stem}.png"
        Pillow.fromarray(labels + (option == "ignored")).save(annotation)
    wrong = {"class": "ignored", "ignored": "class"}[option]
    bad = case.evaluate("--backend", "PyTorch", "--zero-label", wrong, "--ignore-unknown").json()["result"]
    (warning,) = bad["warnings"]
    assert f"Try --zero-label {option}" in warning
    good = case.evaluate("--backend", "PyTorch", "--zero-label", option).json()["result"]
    assert good["scores"][0]["mean_iou"] == 100 and good["warnings"] == []
