"""Reading pictures: turned by their EXIF, fitted with their aspect kept; any other file is an error."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from conftest import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import Input, ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.errors import ImageError
from pspnet_convert.runtimes.images import fit, read_image, to_bgr

MEAN = [124, 116, 104]  # the card's, rounded
PICTURE = np.random.default_rng(5).integers(0, 256, (3, 5, 3), dtype=np.uint8)
SIDES = st.integers(1, 300)
MODEL_SIDES = st.integers(8, 200)


@pytest.fixture(scope="module")
def card_input() -> Input:
    return find_card().input


# Reading


@pytest.mark.parametrize(
    ("orientation", "turned"),
    [
        (1, PICTURE),
        (2, PICTURE[:, ::-1]),
        (3, PICTURE[::-1, ::-1]),
        (4, PICTURE[::-1]),
        (5, PICTURE.transpose(1, 0, 2)),
        (6, np.rot90(PICTURE, -1)),
        (7, PICTURE[::-1, ::-1].transpose(1, 0, 2)),
        (8, np.rot90(PICTURE)),
    ],
)
def test_a_picture_is_turned_as_its_exif_says(tmp_path: Path, orientation: int, turned: NDArray[np.uint8]) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    Pillow.fromarray(PICTURE).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_image(tmp_path / "a.png"), turned)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGBA", "CMYK", "YCbCr"])
def test_every_colour_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    Pillow.new("RGB", (6, 4), "white").convert(mode).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif")
    assert image.shape == (4, 6, 3)
    assert image.dtype == np.uint8
    assert image.min() >= 253


def test_bgr_is_rgb_reversed() -> None:
    assert np.array_equal(to_bgr(PICTURE)[:, :, [2, 1, 0]], PICTURE)
    assert to_bgr(PICTURE).flags["C_CONTIGUOUS"]


def png(width: int, height: int) -> bytes:
    """A black-and-white PNG that claims this size; the file itself is small."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


def saved(form: str) -> bytes:
    exif = Pillow.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "Maker"
    file = io.BytesIO()
    Pillow.fromarray(PICTURE.repeat(8, axis=0).repeat(8, axis=1)).save(file, form, exif=exif)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "photo.jpg: is not an image. Give a JPEG, PNG or another format that Pillow reads"),
        (b"Not a picture.\n", "photo.jpg: is not an image"),
        (b"<html><body>404</body></html>", "photo.jpg: is not an image"),
        (saved("JPEG")[:-40], "photo.jpg: cannot be read as an image: image file is truncated"),
        (saved("PNG")[:-40], "photo.jpg: cannot be read as an image: "),
        (png(14_000, 13_000), "photo.jpg: has too many pixels. Scale it down first"),
        (png(100_000, 100_000), "photo.jpg: has too many pixels. Scale it down first"),
        (None, "photo.jpg: cannot be read as an image: No such file or directory"),
    ],
)
@pytest.mark.parametrize("command", ["verify", "segment"])
def test_a_file_that_is_no_picture_is_refused_by_name(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path, command: str, content: bytes | None, words: str
) -> None:
    photo = tmp_path / "photo.jpg"
    if content is not None:
        photo.write_bytes(content)
    folder = workspace / "public" / "small-standin"
    manifest = (folder / "manifest.json").read_bytes()
    if command == "verify":
        result = cli("verify", small.folder, "-o", workspace, "--images", photo)
    else:
        result = cli("segment", photo, "--model", small.folder, "-o", workspace)
    assert result.exit_code == 13
    assert words in result.error
    assert (folder / "manifest.json").read_bytes() == manifest
    assert list(folder.glob("segmented/*")) == []


def test_the_bomb_is_refused_for_its_size_alone(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(png(4000, 4000))
    with pytest.raises(ImageError) as caught:
        read_image(tmp_path / "a.png")
    assert "too many pixels" not in str(caught.value)


@pytest.mark.filterwarnings("ignore")  # of Pillow, about damaged EXIF
@settings(max_examples=200)
@given(
    form=st.sampled_from(["PNG", "JPEG", "TIFF", "WEBP"]),
    changes=st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 255)), min_size=1, max_size=8),
    cut=st.none() | st.integers(0, 10**6),
    head=st.booleans(),
)
def test_a_damaged_picture_is_read_or_is_an_image_error(
    tmp_path_factory: pytest.TempPathFactory, form: str, changes: list[tuple[int, int]], cut: int | None, head: bool
) -> None:
    content = bytearray(saved(form))
    for place, value in changes:
        content[place % (min(len(content), 200) if head else len(content))] = value
    if cut is not None:
        del content[cut % len(content) :]
    path = tmp_path_factory.getbasetemp() / "damaged"
    path.write_bytes(content)
    try:
        image = read_image(path)
    except ImageError as error:
        assert str(error).startswith(f"{path}: ")
    else:
        assert image.ndim == 3
        assert image.shape[2] == 3
        assert image.dtype == np.uint8


def test_exif_that_pillow_cannot_write_again_is_an_image_error(tmp_path: Path) -> None:
    # Turning a picture writes its EXIF again: Pillow raises a TypeError if a resolution is stored as text.
    exif = Pillow.Exif()
    exif[0x0112] = 6
    exif[0x011A] = 72.0
    file = io.BytesIO()
    Pillow.fromarray(PICTURE).save(file, "JPEG", exif=exif)
    rational, text = b"\x01\x1a\x00\x05", b"\x01\x1a\x00\x02"
    assert rational in file.getvalue()
    (tmp_path / "a.jpg").write_bytes(file.getvalue().replace(rational, text))
    with pytest.raises(ImageError, match=r"a\.jpg: cannot be read as an image: bad operand type"):
        read_image(tmp_path / "a.jpg")


# Fitting


@given(rows=SIDES, columns=SIDES, height=MODEL_SIDES, width=MODEL_SIDES)
def test_a_picture_of_any_size_fills_the_model_one_way_and_keeps_its_aspect(
    card_input: Input, rows: int, columns: int, height: int, width: int
) -> None:
    colour = np.array([1, 2, 3], np.uint8)
    fitted = fit(np.broadcast_to(colour, (rows, columns, 3)).copy(), height, width, card_input)
    assert fitted.image.shape == (height, width, 3)
    assert fitted.image.dtype == np.uint8
    assert 1 <= fitted.height <= height
    assert 1 <= fitted.width <= width
    # A side is rounded down to whole pixels, and is at least one: less than one pixel from the exact aspect.
    assert height - fitted.height <= 1 or width - fitted.width <= 1
    scale = min(height / rows, width / columns)
    assert fitted.height == 1 or rows * scale - 1 - 1e-6 < fitted.height <= rows * scale + 1e-6
    assert fitted.width == 1 or columns * scale - 1 - 1e-6 < fitted.width <= columns * scale + 1e-6
    inside = np.zeros((height, width), bool)
    inside[: fitted.height, : fitted.width] = True
    assert (fitted.image[inside] == colour).all()
    assert (fitted.image[~inside] == MEAN).all()


@given(rows=SIDES, columns=SIDES, height=MODEL_SIDES, width=MODEL_SIDES)
def test_crop_gives_just_what_the_picture_covers(
    card_input: Input, rows: int, columns: int, height: int, width: int
) -> None:
    fitted = fit(np.zeros((rows, columns, 3), np.uint8), height, width, card_input)
    covered = (fitted.image == 0).all(axis=2)
    cropped = fitted.crop(covered)
    assert cropped.all()
    assert cropped.sum() == covered.sum() == fitted.height * fitted.width


def test_a_picture_of_the_models_size_is_left_as_it_is(card_input: Input) -> None:
    image = np.random.default_rng(1).integers(0, 256, (72, 64, 3), dtype=np.uint8)
    fitted = fit(image, 72, 64, card_input)
    assert np.array_equal(fitted.image, image)


@pytest.mark.parametrize("size", [(36, 32), (144, 128)])
def test_a_picture_is_scaled_and_not_cropped(card_input: Input, size: tuple[int, int]) -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, size[1]), size)
    fitted = fit(np.stack([ramp] * 3, axis=-1).astype(np.uint8), 72, 64, card_input)
    assert np.abs(fitted.image[:, :, 0] - np.linspace(0, 255, 64)).max() < 6


def test_the_padding_is_the_mean_in_the_cards_colour_order(card_input: Input) -> None:
    reverse = card_input.model_copy(update={"color_order": "BGR", "mean": card_input.mean[::-1]})
    for given_input in (card_input, reverse):
        assert (fit(np.zeros((10, 20, 3), np.uint8), 40, 40, given_input).image[20:] == MEAN).all()
