"""A data set through the command line: what is wrong with its files is named. See test_layouts, test_annotations."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import voc
from conftest import Cli, Result
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard

HEIGHT, WIDTH = 30, 44
Evaluate = Callable[..., Result]


@pytest.fixture
def folder(small: ModelCard, tmp_path: Path) -> Path:
    return voc.write(tmp_path / "voc", small, [(HEIGHT, WIDTH)] * 3)


@pytest.fixture
def evaluate(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> Evaluate:
    own = ("evaluate", small.folder, "-o", workspace, "--dataset", folder, "--protocol", "crop", "--backend", "ONNX")
    return partial(cli, *own)


# What is right, through the command line


def test_an_image_is_turned_as_its_exif_says(evaluate: Evaluate, folder: Path) -> None:
    upright = evaluate("--json").json()["result"]["scores"]
    exif = Pillow.Exif()
    exif[0x0112] = 6
    image = voc.image_of(folder, "000")
    Pillow.open(image).rotate(90, expand=True).save(image, exif=exif)
    assert evaluate("--json").json()["result"]["scores"] == upright


# What is wrong, through the command line


def no_image(folder: Path) -> None:
    voc.image_of(folder, "001").unlink()


def no_annotation(folder: Path) -> None:
    voc.annotation_of(folder, "001").unlink()


def damaged_image(folder: Path) -> None:
    path = voc.image_of(folder, "001")
    path.write_bytes(path.read_bytes()[:200])


def damaged_annotation(folder: Path) -> None:
    voc.annotation_of(folder, "001").write_text("no picture")


def other_size(folder: Path) -> None:
    path = voc.annotation_of(folder, "001")
    Pillow.open(path).crop((0, 0, 20, 30)).save(path)


def turned_image(folder: Path) -> None:
    path = voc.image_of(folder, "001")
    exif = Pillow.Exif()
    exif[0x0112] = 8
    Pillow.open(path).save(path, exif=exif)


def strange_mode(folder: Path) -> None:
    path = voc.annotation_of(folder, "001")
    Pillow.open(path).convert("RGB").convert("LA").save(path)


def other_colours(folder: Path) -> None:
    Pillow.new("RGB", (WIDTH, HEIGHT), (9, 8, 7)).save(voc.annotation_of(folder, "001"))


BAD = [
    (no_image, 15, "JPEGImages/001.jpg: there is no such image"),
    (no_annotation, 15, "SegmentationClass/001.png: there is no such annotation"),
    (damaged_image, 13, "JPEGImages/001.png: cannot be read as an image"),
    (damaged_annotation, 15, "SegmentationClass/001.png: is not an image"),
    (other_size, 15, "SegmentationClass/001.png: is 20x30, but its image is 44x30"),
    (turned_image, 15, "SegmentationClass/001.png: is 44x30, but its image is 30x44 (rotated as its EXIF says)"),
    (strange_mode, 15, "SegmentationClass/001.png: has mode LA, which no annotation has"),
    (other_colours, 15, "SegmentationClass/001.png: none of its colours is in the card's palette"),
]


@pytest.mark.parametrize(("spoil", "exit_code", "words"), BAD)
def test_a_bad_image_stops_it_or_is_skipped_and_named(
    evaluate: Evaluate,
    folder: Path,
    spoil: Callable[[Path], None],
    exit_code: int,
    words: str,
) -> None:
    spoil(folder)
    result = evaluate()
    assert result.exit_code == exit_code
    assert words in result.error

    skipping = evaluate("--skip-bad", "--json")
    assert skipping.exit_code == 0, skipping.stderr
    found = skipping.json()["result"]
    assert found["images"] == 2
    assert list(found["skipped"]) == ["001"]
    assert words in found["skipped"]["001"]

    voc.listed(folder).write_text("000\n002\n")
    without = evaluate("--json").json()["result"]
    assert found["scores"] == without["scores"]
    told = evaluate("--skip-bad").stdout
    assert "2 of 2 images" in told


def test_the_table_names_what_was_skipped_and_left_out(evaluate: Evaluate, folder: Path) -> None:
    no_image(folder)
    numbers = np.full((HEIGHT, WIDTH), 77, np.uint8)
    numbers[0] = 1
    Pillow.fromarray(numbers).save(voc.annotation_of(folder, "002"))
    result = evaluate("--skip-bad", "--ignore-unknown", "--limit", 3)
    assert result.exit_code == 0, result.stderr
    assert "Mean IoU on 2 of 3 images, protocol crop" in result.stdout
    lines = result.stdout.splitlines()
    assert any(line.startswith("skipped 001: ") and line.endswith("there is no such image") for line in lines)
    assert any(line.startswith(f"002: {(HEIGHT - 1) * WIDTH} annotated pixels") for line in lines)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "val.txt: the list of images cannot be read: No such file or directory"),
        (b"\xff\xfe\x00", "val.txt: the list of images cannot be read: is not text"),
        (b" \n", "val.txt: lists no image"),
        (b"000\n001\n000\n", "val.txt: lists '000' more than once"),
    ],
)
def test_an_unusable_list_of_images(evaluate: Evaluate, folder: Path, content: bytes | None, words: str) -> None:
    if content is None:
        voc.listed(folder).unlink()
    else:
        voc.listed(folder).write_bytes(content)
    result = evaluate()
    assert result.exit_code == 15
    assert words in result.error


def test_another_split(evaluate: Evaluate, folder: Path) -> None:
    voc.listed(folder).with_name("some.txt").write_text("002\n")
    assert evaluate("--split", "some", "--json").json()["result"]["images"] == 1


def test_a_model_without_a_dataset_asks_for_one(cli: Cli, small: ModelCard, workspace: Path) -> None:
    result = cli("evaluate", small.folder, "-o", workspace)
    assert result.exit_code == 15
    assert "small-standin comes with no data set. Give one with --dataset" in result.error


def test_nothing_left_to_count(evaluate: Evaluate, folder: Path) -> None:
    for name in ("000", "001", "002"):
        voc.annotation_of(folder, name).unlink()
    result = evaluate("--skip-bad")
    assert result.exit_code == 15
    assert "no annotated pixel is left to count: " in result.error
    assert "000.png: there is no such annotation" in result.error


def test_a_value_of_no_class_stops_it(evaluate: Evaluate, folder: Path) -> None:
    path = voc.annotation_of(folder, "001")
    numbers = np.array(Pillow.open(path))
    numbers[0, 0] = 5
    Pillow.fromarray(numbers).save(path)
    result = evaluate()
    assert result.exit_code == 15
    assert "001.png: has the value 5: neither a class nor ignored" in result.error
    assert "--zero-label ignored" in result.error


def test_masks_of_0_and_255_stop_it(evaluate: Evaluate, folder: Path) -> None:
    for name in ("000", "001", "002"):
        mask = np.uint8(voc.blocks(HEIGHT, WIDTH, 5, 0) == 1) * 255
        Pillow.fromarray(mask).save(voc.annotation_of(folder, name))
    result = evaluate()
    assert result.exit_code == 15
    assert "000.png: looks like a mask of 0 and 255" in result.error
    label_map = folder / "map.yml"
    label_map.write_text("{0: 0, 255: 1}")
    assert evaluate("--label-map", label_map).exit_code == 0
    assert evaluate("--ignore-index", 255).exit_code == 0


def test_two_folders(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    arguments = ("evaluate", small.folder, "-o", workspace, "--protocol", "crop", "--backend", "ONNX", "--json")
    by_root = cli(*arguments, "--dataset", folder).json()["result"]
    pair = ("--images", folder / "JPEGImages", "--annotations", folder / "SegmentationClass")
    assert cli(*arguments, *pair).json()["result"]["scores"] == by_root["scores"]
    assert cli(*arguments, *pair[:2]).exit_code == 2
