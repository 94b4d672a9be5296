"""Open Model Zoo's protocols, compared with a second computation in NumPy and Pillow; and how images are read.

The second computation follows the source of Open Model Zoo's accuracy_checker (openvino-dev 2023.3), which is not
installed here; the modules are named below. scripts/check_omz.py runs the accuracy_checker itself.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import opencv_bilinear
import pytest
import voc
from conftest import Cli, call
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.evaluate.protocols import crop, pad
from pspnet_convert.commands.evaluate.samples import Sample
from pspnet_convert.runtimes.backends import OpenVinoBackend
from pspnet_convert.runtimes.images import read_image, to_bgr
from pspnet_convert.runtimes.merging import Answer

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]
# Their pad_value, a mean in the order red, green, blue, as cv2.copyMakeBorder writes it into a BGR image of float32
# (preprocessor/geometric_transformations.py: Padding; preprocessor/resize.py: _OpenCVResizer gives float32).
FILL = np.array([123.675, 116.28, 103.53], np.float32)
INPUT = find_card().input
sides = st.integers(1, 300)


def nearest(labels: Bytes, height: int, width: int) -> Bytes:
    return np.asarray(Pillow.fromarray(labels).resize((width, height), Pillow.Resampling.NEAREST))


def scored(sample: Sample, labels: Bytes) -> Bytes:
    """What is compared with the annotation, of a model's label map."""
    merge = sample.merge(21, False)
    merge.add(Answer(labels))
    return merge.label_maps()["label map"]


def crop_again(image: Bytes, truth: Bytes, side: int) -> tuple[Bytes, Bytes]:
    """For pictures at most four times as long as wide: image and truth, [side, side].

    preprocessor/resize.py: frcnn_keep_aspect_ratio, scale_greater; preprocessor/crop.py: Crop.process_data, which
    postprocessor/crop_segmentation_mask.py calls for the annotation.
    """
    height, width = truth.shape
    if height <= width:
        height, width = side, int(side * width / height)
    else:
        height, width = int(side * height / width), side
    top, left = (height - side) // 2, (width - side) // 2
    parts = (opencv_bilinear.resize(image, height, width), nearest(truth, height, width))
    return tuple(part[top : top + side, left : left + side] for part in parts)  # type: ignore[return-value]


def pad_again(image: Bytes, size: tuple[int, int]) -> tuple[Floats, int, int]:
    """The padded image, and the rows and columns of it that show the picture.

    preprocessor/resize.py: scale_fit_to_window; geometric_transformations.py: Padding.process, right_bottom_padding.
    The sides are never 0 here: the accuracy_checker fails on such a picture.
    """
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    rows, columns = (max(1, int(scale * side)) for side in image.shape[:2])
    canvas = np.zeros((*size, 3), np.float32) + FILL
    canvas[:rows, :columns] = opencv_bilinear.resize(image, rows, columns)
    return canvas, rows, columns


@given(before=st.tuples(sides, sides), after=st.tuples(sides, sides), half=st.booleans(), seed=st.integers(0, 99))
def test_the_second_bilinear_filter_is_opencvs_to_the_bit(
    before: tuple[int, int], after: tuple[int, int], half: bool, seed: int
) -> None:
    before = (2 * after[0], 2 * after[1]) if half else before
    image = np.random.default_rng(seed).integers(0, 256, (*before, 3), dtype=np.uint8)
    expected = cv2.resize(image, (after[1], after[0]), interpolation=cv2.INTER_LINEAR)
    assert np.array_equal(opencv_bilinear.resize(image, *after), expected)


@given(sides, sides, st.integers(8, 128))
def test_crop(height: int, width: int, side: int) -> None:
    image, truth = voc.drawing(height, width, 1), voc.blocks(height, width, 21, 2)
    sample = crop(image, truth, (side, side), INPUT)
    (shown,) = sample.images
    assert shown.shape == (side, side, 3)
    if int(side * max(height, width) / min(height, width)) <= 4 * side:
        expected_image, expected_truth = crop_again(image, truth, side)
        assert np.array_equal(shown, expected_image)
        assert np.array_equal(sample.truth, expected_truth)
        labels = voc.blocks(side, side, 21, 3)
        assert np.array_equal(scored(sample, labels), labels)


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(10, 90, 56, 512), (90, 10, 512, 56)])
def test_a_picture_too_long_to_fill_the_crop_is_padded_and_its_padding_does_not_count(
    height: int, width: int, rows: int, columns: int
) -> None:
    # The accuracy_checker enlarges such a picture once more, and then fails: OpenCV resizes no int8 annotation.
    # 4 x 128 = 512 is as long as a side may get; 512 x 10 / 90 = 56.9. Of 512 the middle 128 are shown.
    image, truth = voc.drawing(height, width, 1), voc.blocks(height, width, 21, 2)
    sample = crop(image, truth, (128, 128), INPUT)
    shown = min(rows, 128), min(columns, 128)
    middle = slice((rows - 128) // 2, (rows + 128) // 2) if rows > 128 else slice(None)
    across = slice((columns - 128) // 2, (columns + 128) // 2) if columns > 128 else slice(None)
    assert sample.truth.shape == shown
    assert np.array_equal(sample.truth, nearest(truth, rows, columns)[middle, across])
    shown_part = opencv_bilinear.resize(image, rows, columns)[middle, across]
    (given_image,) = sample.images
    assert np.array_equal(given_image[: shown[0], : shown[1]], shown_part)
    assert (given_image[shown[0] :] == FILL).all()
    assert (given_image[:, shown[1] :] == FILL).all()
    labels = voc.blocks(128, 128, 21, 3)
    assert np.array_equal(scored(sample, labels), labels[: shown[0], : shown[1]])


@given(sides, sides, st.tuples(st.integers(8, 128), st.integers(8, 128)))
def test_pad(height: int, width: int, size: tuple[int, int]) -> None:
    image, truth = voc.drawing(height, width, 1), voc.blocks(height, width, 21, 2)
    sample = pad(image, truth, size, INPUT)
    expected, rows, columns = pad_again(image, size)
    (padded,) = sample.images
    assert np.array_equal(padded, expected)
    assert padded.dtype == (np.uint8 if (rows, columns) == size else np.float32)
    assert np.array_equal(sample.truth, truth)
    labels = voc.blocks(*size, 21, 3)
    assert np.array_equal(scored(sample, labels), nearest(labels[:rows, :columns], height, width))


def test_what_the_big_model_is_shown_of_a_picture_of_500x375() -> None:
    # VOC's commonest size.
    image, truth = voc.drawing(375, 500, 1), voc.blocks(375, 500, 21, 2)
    cropped, padded = crop(image, truth, (512, 512), INPUT), pad(image, truth, (512, 512), INPUT)
    assert cropped.truth.shape == (512, 512)
    assert padded.truth.shape == (375, 500)
    assert (padded.images[0][384:] == FILL).all()
    assert not (padded.images[0][383] == FILL).all()


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(49, 98, 255, 511), (98, 49, 511, 255)])
def test_a_side_is_rounded_down_from_the_float_that_the_accuracy_checker_has(
    height: int, width: int, rows: int, columns: int
) -> None:
    # 512 / 98 * 98 is less than 512 by the last bit.
    white = np.full((height, width, 3), 255, np.uint8)
    (padded,) = pad(white, voc.blocks(height, width, 21, 2), (512, 512), INPUT).images
    assert (padded[:rows, :columns] == 255).all()
    assert (padded[rows:] == FILL).all()
    assert (padded[:, columns:] == FILL).all()


@pytest.mark.parametrize(("order", "mean"), [("RGB", [123.675, 116.28, 103.53]), ("BGR", [103.53, 116.28, 123.675])])
def test_the_mean_of_red_is_padded_into_blue(order: str, mean: list[float]) -> None:
    card_input = INPUT.model_copy(update={"color_order": order, "mean": mean})
    (padded,) = pad(np.zeros((1, 2, 3), np.uint8), np.zeros((1, 2), np.uint8), (64, 64), card_input).images
    assert padded.dtype == np.float32
    assert np.array_equal(padded[-1, -1], FILL)


# (49, 98): see above. (33, 132): just short enough for crop.
SIZES = [(72, 64), (40, 90), (131, 61), (64, 64), (200, 180), (33, 35), (49, 98), (33, 132), (1, 1), (2, 3)]


@pytest.fixture(scope="module")
def square_run(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model at 64x64, as ONNX and IR."""
    folder = tmp_path_factory.mktemp("square")
    done = call("run", small.folder, "-o", folder, "--input-shape", "1,3,64,64", "--precision", "FP32")
    assert done.exit_code == 0, done.stderr
    return folder


def mean_iou_again(pairs: list[tuple[NDArray[np.integer[Any]], NDArray[np.integer[Any]]]]) -> float:
    """Of true and found labels, in per cent: metrics/semantic_segmentation.py, SegmentationIOU.

    What is no class does not count; the mean is over the classes that occur (utils.py: finalize_metric_result).
    """
    hits, union = np.zeros(5), np.zeros(5)
    for truth, labels in pairs:
        for number in range(5):
            is_true, is_found = truth == number, (labels == number) & (truth < 5)
            hits[number] += (is_true & is_found).sum()
            union[number] += (is_true | is_found).sum()
    return float(np.mean(100 * hits[union > 0] / union[union > 0]))


@pytest.mark.parametrize("protocol", ["crop", "pad"])
def test_the_mean_iou_is_that_of_the_second_computation(
    cli: Cli, small: ModelCard, square_run: Path, tmp_path: Path, protocol: str
) -> None:
    folder = voc.write(tmp_path / "voc", small, SIZES)
    names = voc.listed(folder).read_text().split()
    for name in names[::2]:
        annotation = voc.annotation_of(folder, name)
        Pillow.open(annotation).convert("RGB").save(annotation)
    arguments = ["--dataset", folder, "--protocol", protocol, "--backend", "FP32", "--json"]
    result = cli("evaluate", small.folder, "-o", square_run, *arguments)
    assert result.exit_code == 0, result.stderr
    (score,) = result.json()["result"]["scores"]

    backend = OpenVinoBackend(square_run / "public" / small.name / "FP32" / f"{small.name}.xml", small, (1, 3, 64, 64))
    pairs = []
    for number, name in enumerate(names):
        image = np.asarray(Pillow.open(voc.image_of(folder, name)))[:, :, ::-1]
        truth = voc.blocks(*SIZES[number], 5, number)
        if protocol == "crop":
            shown, truth = crop_again(image, truth, 64)
            labels = next(backend.run([shown])).labels
        else:
            padded, rows, columns = pad_again(image, (64, 64))
            labels = nearest(next(backend.run([padded])).labels[:rows, :columns].astype(np.uint8), *truth.shape)
        pairs.append((truth, labels))
    # postprocessor/encode_segmentation_mask.py: a colour of no class, the outlines' too, is background.
    as_background = mean_iou_again([(np.where(truth == 255, 0, truth), labels) for truth, labels in pairs])
    left_out = mean_iou_again(pairs)
    assert 0 < as_background < 100
    assert abs(as_background - left_out) > 0.1
    assert score["mean_iou"] == pytest.approx(as_background, abs=1e-9)
    assert score["mean_iou_without_void"] == pytest.approx(left_out, abs=1e-9)


@pytest.mark.parametrize("quality", [30, 75, 95])
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_jpegs_are_read_as_opencv_reads_them(
    tmp_path: Path, quality: int, subsampling: str, options: dict[str, bool]
) -> None:
    path = tmp_path / "a.jpg"
    picture = Pillow.fromarray(voc.drawing(61, 83, 4)).resize((119, 77), Pillow.Resampling.BICUBIC)
    picture.save(path, quality=quality, subsampling=subsampling, **options)
    assert np.array_equal(to_bgr(read_image(path)), cv2.imread(str(path)))


def test_the_demos_images_are_read_as_opencv_reads_them() -> None:
    images = sorted((find_card("demo").folder / "voc" / "JPEGImages").iterdir())
    assert images
    for path in images:
        assert np.array_equal(to_bgr(read_image(path)), cv2.imread(str(path)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_picture_is_turned_as_opencv_turns_it(tmp_path: Path, orientation: int) -> None:
    exif = Pillow.Exif()
    exif[0x0112] = orientation
    path = tmp_path / "a.jpg"
    Pillow.fromarray(voc.drawing(30, 50, 4)).save(path, exif=exif)
    assert np.array_equal(to_bgr(read_image(path)), cv2.imread(str(path)))


def test_sixteen_bits_are_read_as_opencv_reads_them(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    ramp = np.arange(0, 65536, 13, dtype=np.uint16)[:5000].reshape(50, 100)
    ok, content = cv2.imencode(".png", ramp)
    assert ok
    path.write_bytes(content.tobytes())
    assert Pillow.open(BytesIO(content.tobytes())).mode == "I;16"
    assert np.array_equal(to_bgr(read_image(path)), cv2.imread(str(path)))
