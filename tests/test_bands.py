"""Images of any number of channels and bits: read as they are stored, never cut without a word."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ImageError
from pspnet_convert.runtimes.bands import read_bands, viewable
from pspnet_convert.runtimes.bit_depth import bits_of
from pspnet_convert.runtimes.images import fit, picture_size, read_image

KEPT = ["uint8", "uint16", "int16", "float32"]
shapes = st.tuples(st.integers(2, 9), st.integers(2, 9), st.integers(1, 7))
stored = st.sampled_from(KEPT).flatmap(
    lambda dtype: arrays.arrays(
        dtype, shapes, elements={"allow_nan": False, "allow_infinity": False} if dtype == "float32" else None
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bands")


def same(path: Path, array: NDArray[Any]) -> bool:
    found = read_bands(path)
    return found.dtype == array.dtype and np.array_equal(found, array)


@given(stored, st.sampled_from(["<", ">"]), st.booleans())
def test_an_array_file_gives_its_values(folder: Path, array: NDArray[Any], order: str, fortran: bool) -> None:
    ordered = array.astype(array.dtype.newbyteorder(order))
    np.save(folder / "a.npy", np.asfortranarray(ordered) if fortran else ordered)
    assert same(folder / "a.npy", array)
    assert picture_size(folder / "a.npy") == array.shape[:2]
    np.save(folder / "flat.npy", array[:, :, 0])
    assert same(folder / "flat.npy", array[:, :, :1])


@given(stored, st.sampled_from(["<", ">"]), st.sampled_from(["contig", "separate", "pages"]), st.booleans())
def test_a_tiff_gives_its_values(folder: Path, array: NDArray[Any], order: str, kind: str, packed: bool) -> None:
    path, channels = folder / "a.tif", array.shape[2]
    arrangements = {
        "contig": array if channels > 1 else array[:, :, 0],
        "separate": array.transpose(2, 0, 1) if channels > 1 else array[:, :, 0],
        "pages": array.transpose(2, 0, 1),
    }
    options: dict[str, Any] = {"photometric": "minisblack", "byteorder": order, "bigtiff": packed}
    if kind == "pages":
        options["metadata"] = {"axes": "CYX"}
    elif channels > 1:
        options["planarconfig"] = kind
    tifffile.imwrite(path, arrangements[kind], compression="zlib" if packed else None, **options)
    assert same(path, array)
    assert picture_size(path) == array.shape[:2]
    assert bits_of(path) == 8 * array.dtype.itemsize


@given(
    st.sampled_from(["uint8", "uint16"]).flatmap(
        lambda dtype: arrays.arrays(dtype, st.tuples(st.integers(1, 9), st.integers(1, 9), st.sampled_from([1, 3, 4])))
    )
)
def test_a_png_gives_all_its_bits(folder: Path, array: NDArray[Any]) -> None:
    path = folder / "a.png"
    in_order = array[:, :, [2, 1, 0, *range(3, array.shape[2])]] if array.shape[2] >= 3 else array
    cv2.imwrite(str(path), in_order)  # which takes BGR
    assert same(path, array)
    assert bits_of(path) == 8 * array.dtype.itemsize


@pytest.mark.parametrize(
    ("array", "expected"),
    [
        (np.array([[True, False]]), np.array([[[255], [0]]], np.uint8)),
        (np.array([[70000, -1]], np.int32), np.array([[[70000], [-1]]], np.float32)),
        (np.array([[0.1]], np.float64), np.array([[[0.1]]], np.float32)),
    ],
)
def test_other_numbers_become_float32(folder: Path, array: NDArray[Any], expected: NDArray[Any]) -> None:
    np.save(folder / "a.npy", array)
    assert same(folder / "a.npy", expected)


def test_a_compression_that_tifffile_lacks_is_left_to_pillow(folder: Path) -> None:
    array = np.arange(60, dtype=np.uint16).reshape(6, 10, 1) * 900
    Pillow.fromarray(array[:, :, 0]).save(folder / "lzw.tif", compression="tiff_lzw")
    assert same(folder / "lzw.tif", array)


def array_file(array: Any, **options: Any) -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


def huge_header() -> bytes:
    content = array_file(np.zeros((10, 10), np.uint8))
    return content.replace(b"(10, 10)", b"(10000000, 10000000)").replace(b" " * 12 + b"\n", b"\n")


def archive() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        file.writestr("a.npy", array_file(np.zeros((2, 2))))
    return buffer.getvalue()


def tiff(array: NDArray[Any], **options: Any) -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, array, photometric="minisblack", **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.npy", lambda: b"", "cannot be read as a NumPy array"),
        (
            "a.npy",
            lambda: array_file(np.array([[print]], object), allow_pickle=True),
            "cannot be read as a NumPy array",
        ),
        ("a.npy", huge_header, "cannot be read as a NumPy array"),
        ("a.npy", archive, "is an archive of several arrays"),
        ("a.npy", lambda: array_file(np.zeros((2, 2), complex)), "has values of type complex128"),
        ("a.npy", lambda: array_file(np.zeros((2, 2), "U1")), "has values of type <U1"),
        ("a.npy", lambda: array_file(np.zeros(5)), "has values of shape [5], not [height, width, channels]"),
        ("a.npy", lambda: array_file(np.zeros((0, 5))), "has values of shape [0, 5, 1], not [height, width"),
        ("a.npy", lambda: array_file(np.zeros((2, 2, 513), np.uint8)), "has values of shape [2, 2, 513]"),
        ("a.npy", lambda: array_file(np.full((2, 2), np.nan)), "has values that are not finite"),
        ("a.tif", lambda: tiff(np.full((2, 2), np.inf, np.float32)), "has values that are not finite"),
        ("a.tif", lambda: tiff(np.zeros((2, 3, 4, 5), np.uint8)), "not [height, width, channels]"),
        ("a.tif", lambda: tiff(np.zeros((50, 40), np.uint8))[:1000], "cannot be read as a TIFF"),
        ("a.tif", lambda: b"II*\0" + bytes(20), "cannot be read as a TIFF"),
        ("a.png", lambda: b"no", "is not an image"),
    ],
)
def test_a_file_that_is_no_image(tmp_path: Path, name: str, content: Callable[[], bytes], words: str) -> None:
    (tmp_path / name).write_bytes(content())
    with pytest.raises(ImageError) as caught:
        read_bands(tmp_path / name)
    assert words in caught.value.what
    assert str(tmp_path / name) in caught.value.what


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="there is no such image"):
        read_bands(tmp_path / "a.npy")


def test_too_many_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pillow, "MAX_IMAGE_PIXELS", 5)
    np.save(tmp_path / "a.npy", np.zeros((4, 3), np.uint8))
    (tmp_path / "a.tif").write_bytes(tiff(np.zeros((4, 3), np.uint8)))
    for name in ("a.npy", "a.tif"):
        with pytest.raises(ImageError, match="has too many pixels"):
            read_bands(tmp_path / name)


# A picture of bytes


@pytest.mark.parametrize("kind", ["grey.png", "grey.pgm", "colours.png", "colours.tif", "colours.ppm"])
def test_bits_that_are_cut_off_are_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture, kind: str) -> None:
    values = np.arange(2 * 3 * 3, dtype=np.uint16).reshape(2, 3, 3) * 3000 + 200
    values = values[:, :, 0] if kind.startswith("grey") else values
    cv2.imwrite(str(tmp_path / kind), values)
    upper = np.dstack([values >> 8] * 3) if values.ndim == 2 else values[:, :, ::-1] >> 8
    shown = read_image(tmp_path / kind).astype(int)
    assert np.abs(shown - upper).max() <= (kind == "colours.ppm")  # which Pillow rounds
    assert f"{tmp_path / kind}: has 16 bits a value and is cut to 8" in caplog.text


def test_the_command_line_reports_them_once_for_each_folder(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    pictures = [tmp_path / folder / name for folder in ("a", "b") for name in ("1.png", "2.png")]
    for picture in pictures:
        picture.parent.mkdir(exist_ok=True)
        cv2.imwrite(str(picture), np.full((60, 80), 3000, np.uint16))
    done = cli("segment", *pictures, "--model", small.folder, "-o", workspace)
    assert done.exit_code == 0
    assert [str(picture) in done.stderr for picture in pictures] == [True, False, True, False]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".ppm", ".bmp", ".webp"])
def test_a_picture_of_bytes_gives_no_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture, suffix: str) -> None:
    Pillow.fromarray(np.zeros((4, 5, 3), np.uint8)).save(tmp_path / f"a{suffix}")
    read_image(tmp_path / f"a{suffix}")
    assert bits_of(tmp_path / f"a{suffix}") == 8
    assert not caplog.records


def test_more_than_bytes_in_jpeg_2000(tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "a.jp2"), np.zeros((64, 64, 3), np.uint16))
    assert bits_of(tmp_path / "a.jp2") == 16


def test_bits_of_a_broken_file(tmp_path: Path) -> None:
    for content in (b"", b"II*\0", b"\x89PNG\r\n\x1a\n", b"P6"):
        (tmp_path / "a").write_bytes(content)
        assert bits_of(tmp_path / "a") == 8


# For people


@given(stored)
def test_any_image_can_be_viewed(array: NDArray[Any]) -> None:
    shown = viewable(array)
    assert shown.shape == (*array.shape[:2], 3) and shown.dtype == np.uint8
    if array.shape[2] < 3:
        assert (shown == shown[:, :, :1]).all()
    if array.dtype == np.uint8 and array.shape[2] >= 3:
        assert np.array_equal(shown, array[:, :, :3])


@given(stored, st.integers(8, 20), st.integers(8, 20))
def test_an_image_is_fitted_within_its_own_values(array: NDArray[Any], height: int, width: int) -> None:
    from pspnet_convert.cards.card import Input

    channels = array.shape[2]
    order = ("RGB", "BGR") if channels == 3 else ("as stored",) * 2
    mean = tuple(float(-500 + 300 * channel) for channel in range(channels))
    card_input = Input(
        name="a",
        shape=(1, channels, height, width),
        layout="NCHW",
        color_order=order[0],
        mean=mean,
        scale=(1,) * channels,
        converted_color_order=order[1],
    )
    fitted = fit(array, height, width, card_input)
    assert fitted.image.dtype == array.dtype and fitted.image.shape == (height, width, channels)
    part = fitted.image[: fitted.height, : fitted.width].astype(np.float64)
    slack = 1e-5 * max(1, np.abs(array.astype(np.float64)).max())
    assert part.min() >= array.min() - slack and part.max() <= array.max() + slack
    limits = (-np.inf, np.inf) if array.dtype == np.float32 else (np.iinfo(array.dtype).min, np.iinfo(array.dtype).max)
    assert (fitted.image[fitted.height :] == np.clip(mean, *limits)).all()
