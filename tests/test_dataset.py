"""A data set's files: what is read from them, and errors that name what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import voc
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.dataset import VOID_COLOUR, read_annotation, read_entry, read_split
from pspnet_convert.commands.evaluate.miou import VOID
from pspnet_convert.errors import DatasetError

HEIGHT, WIDTH = 30, 44


@pytest.fixture
def folder(small: ModelCard, tmp_path: Path) -> Path:
    return voc.write(tmp_path / "voc", small, [(HEIGHT, WIDTH)] * 3)


@pytest.fixture
def labels() -> voc.Bytes:
    return voc.blocks(HEIGHT, WIDTH, 5, 0)


def colours(labels: voc.Bytes, card: ModelCard) -> voc.Bytes:
    table = np.zeros((256, 3), np.uint8)
    table[: len(card.classes)] = card.palette
    table[VOID] = VOID_COLOUR
    return table[labels]


# Annotations


def test_a_split_is_read_in_its_lists_order(small: ModelCard, folder: Path, labels: voc.Bytes) -> None:
    voc.listed(folder).write_text("002\n\n000  \n")
    assert [entry.name for entry in read_split(folder, "val")] == ["002", "000"]
    annotated = read_entry(read_split(folder, "val")[1], small)
    assert np.array_equal(annotated.image, voc.drawing(HEIGHT, WIDTH, 0)[:, :, ::-1])
    assert np.array_equal(annotated.truth, labels)
    assert annotated.unknown == 0


@pytest.mark.parametrize("suffix", [".jpg", ".jpeg"])
def test_images_may_be_jpegs(small: ModelCard, folder: Path, suffix: str) -> None:
    image = voc.image_of(folder, "000")
    Pillow.open(image).save(image.with_suffix(suffix))
    image.unlink()
    entry = read_split(folder, "val")[0]
    assert entry.image == image.with_suffix(suffix)
    assert read_entry(entry, small).image.shape == (HEIGHT, WIDTH, 3)


@pytest.mark.parametrize("mode", ["RGB", "RGBA"])
def test_colours_are_decoded_by_the_cards_palette(
    small: ModelCard, tmp_path: Path, labels: voc.Bytes, mode: str
) -> None:
    path = tmp_path / "a.png"
    Pillow.fromarray(colours(labels, small)).convert(mode).save(path)
    truth, unknown = read_annotation(path, small)
    assert np.array_equal(truth, labels)
    assert unknown == 0


@given(st.permutations(range(6)))
def test_a_palette_in_another_order_is_read_by_colour(
    small: ModelCard, tmp_path_factory: pytest.TempPathFactory, order: list[int]
) -> None:
    labels = voc.blocks(HEIGHT, WIDTH, 5, 0)
    shown = np.array([*small.palette, VOID_COLOUR], np.uint8)
    numbers = np.where(labels == VOID, 5, labels)
    picture = Pillow.fromarray(np.array(order, np.uint8)[numbers])
    palette = np.zeros((6, 3), np.uint8)
    palette[order] = shown
    picture.putpalette(palette.tobytes())
    path = tmp_path_factory.getbasetemp() / "permuted.png"
    picture.save(path)
    truth, unknown = read_annotation(path, small)
    assert np.array_equal(truth, labels)
    assert unknown == 0


def test_255_is_left_out_though_it_is_black_in_the_palette(small: ModelCard, tmp_path: Path, labels: voc.Bytes) -> None:
    picture = Pillow.fromarray(labels)
    palette = np.zeros((256, 3), np.uint8)
    palette[:5] = small.palette
    picture.putpalette(palette.tobytes())
    picture.save(tmp_path / "a.png")
    truth, unknown = read_annotation(tmp_path / "a.png", small)
    assert np.array_equal(truth, labels)
    assert unknown == 0


@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_numbers_of_no_class_are_counted_and_left_out(
    small: ModelCard, tmp_path: Path, labels: voc.Bytes, mode: str
) -> None:
    path = tmp_path / "a.png"
    numbers = labels.copy()
    numbers[:3, :4] = 5  # the card's classes are 0 to 4
    picture = Pillow.fromarray(numbers.astype(np.uint16) if mode == "I;16" else numbers)
    if mode == "P":
        picture.putpalette([value for number in range(256) for value in (number, 7, 7)])
    picture.save(path)
    assert Pillow.open(path).mode == mode
    truth, unknown = read_annotation(path, small)
    assert unknown == 12
    assert (truth[:3, :4] == VOID).all()
    assert np.array_equal(truth[3:], labels[3:])


def test_colours_of_no_class_are_counted_and_left_out(small: ModelCard, tmp_path: Path, labels: voc.Bytes) -> None:
    pixels = colours(labels, small)
    pixels[:3, :4] = (1, 2, 3)
    Pillow.fromarray(pixels).save(tmp_path / "a.png")
    truth, unknown = read_annotation(tmp_path / "a.png", small)
    assert unknown == 12
    assert (truth[:3, :4] == VOID).all()


def test_a_picture_in_black_and_white_has_two_classes(small: ModelCard, tmp_path: Path, labels: voc.Bytes) -> None:
    Pillow.fromarray(labels == 1).save(tmp_path / "a.png")
    truth, unknown = read_annotation(tmp_path / "a.png", small)
    assert np.array_equal(truth, labels == 1)
    assert unknown == 0


def test_image_and_annotation_are_turned_alike(small: ModelCard, folder: Path, labels: voc.Bytes) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    upright = Pillow.open(voc.image_of(folder, "000"))
    upright.rotate(90, expand=True).save(voc.image_of(folder, "000"), exif=exif)
    annotated = read_entry(read_split(folder, "val")[0], small)
    assert np.array_equal(annotated.image, np.asarray(upright)[:, :, ::-1])
    assert np.array_equal(annotated.truth, labels)


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
    (damaged_annotation, 13, "SegmentationClass/001.png: is not an image"),
    (other_size, 15, "SegmentationClass/001.png: is 20x30, but its image is 44x30"),
    (turned_image, 15, "SegmentationClass/001.png: is 44x30, but its image is 30x44 (rotated as its EXIF says)"),
    (strange_mode, 13, "SegmentationClass/001.png: has mode LA, which no annotation has"),
    (other_colours, 15, "SegmentationClass/001.png: none of its colours is in the card's palette"),
]


@pytest.mark.parametrize(("spoil", "exit_code", "words"), BAD)
def test_a_bad_image_stops_it_or_is_skipped_and_named(
    cli: Cli,
    small: ModelCard,
    workspace: Path,
    folder: Path,
    spoil: Callable[[Path], None],
    exit_code: int,
    words: str,
) -> None:
    spoil(folder)
    arguments = ("evaluate", small.folder, "-o", workspace, "--dataset", folder, "--backend", "ONNX")
    result = cli(*arguments)
    assert result.exit_code == exit_code
    assert words in result.error

    skipping = cli(*arguments, "--skip-bad", "--json")
    assert skipping.exit_code == 0, skipping.stderr
    found = skipping.json()["result"]
    assert found["images"] == 2
    assert list(found["skipped"]) == ["001"]
    assert words in found["skipped"]["001"]

    voc.listed(folder).write_text("000\n002\n")
    without = cli(*arguments, "--json").json()["result"]
    assert found["scores"] == without["scores"]
    told = cli(*arguments, "--skip-bad").stdout
    assert "2 of 2 images" in told


def test_the_table_names_what_was_skipped_and_left_out(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    no_image(folder)
    numbers = np.full((HEIGHT, WIDTH), 77, np.uint8)
    numbers[0] = 1
    Pillow.fromarray(numbers).save(voc.annotation_of(folder, "002"))
    result = cli(
        "evaluate", small.folder, "-o", workspace, "--dataset", folder, "--backend", "ONNX", "--skip-bad", "--limit", 3
    )
    assert result.exit_code == 0, result.stderr
    assert "Mean IoU on 2 of 3 images, protocol crop" in result.stdout
    lines = result.stdout.splitlines()
    assert any(line.startswith("skipped 001: ") and line.endswith("there is no such image") for line in lines)
    assert f"002: {(HEIGHT - 1) * WIDTH} annotated pixels are of no class, and left out" in lines


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "val.txt: the list of images cannot be read: No such file or directory"),
        (b"\xff\xfe\x00", "val.txt: the list of images cannot be read: is not text"),
        (b" \n", "val.txt: lists no image"),
        (b"000\n001\n000\n", "val.txt: lists '000' more than once"),
    ],
)
def test_an_unusable_list_of_images(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, content: bytes | None, words: str
) -> None:
    if content is None:
        voc.listed(folder).unlink()
    else:
        voc.listed(folder).write_bytes(content)
    result = cli("evaluate", small.folder, "-o", workspace, "--dataset", folder)
    assert result.exit_code == 15
    assert words in result.error


def test_another_split(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    voc.listed(folder).with_name("some.txt").write_text("002\n")
    arguments = ["--dataset", folder, "--backend", "ONNX", "--split", "some", "--json"]
    assert cli("evaluate", small.folder, "-o", workspace, *arguments).json()["result"]["images"] == 1


def test_a_model_without_a_dataset_asks_for_one(cli: Cli, small: ModelCard, workspace: Path) -> None:
    result = cli("evaluate", small.folder, "-o", workspace)
    assert result.exit_code == 15
    assert "small-standin comes with no data set. Give one with --dataset" in result.error


def test_nothing_left_to_count(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    for name in ("000", "001", "002"):
        voc.annotation_of(folder, name).unlink()
    result = cli("evaluate", small.folder, "-o", workspace, "--dataset", folder, "--backend", "ONNX", "--skip-bad")
    assert result.exit_code == 15
    assert "no annotated pixel is left to count: " in result.error
    assert "000.png: there is no such annotation" in result.error


def test_reading_a_bad_entry_is_an_error_of_the_data_set(small: ModelCard, folder: Path) -> None:
    no_annotation(folder)
    with pytest.raises(DatasetError, match=r"001\.png: there is no such annotation"):
        read_entry(read_split(folder, "val")[1], small)
