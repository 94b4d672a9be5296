"""The protocols, compared with mmsegmentation and with a second computation in NumPy and Pillow."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import cv2
import numpy as np
import opencv_bilinear
import pytest
import voc
from conftest import Cli
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.evaluate.labelling import TorchLabeller
from pspnet_convert.commands.evaluate.protocols import PROTOCOLS, crop, pad, whole
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import build_network
from pspnet_convert.runtimes.backends import OpenVinoBackend
from pspnet_convert.runtimes.images import read_image, to_bgr

Bytes = NDArray[np.uint8]
FILL = np.array([104, 116, 124], np.uint8)  # the cards' mean colour, BGR, as whole numbers
sides = st.integers(1, 300)


def nearest(labels: Bytes, height: int, width: int) -> Bytes:
    return np.asarray(Pillow.fromarray(labels).resize((width, height), Pillow.Resampling.NEAREST))


def crop_again(image: Bytes, truth: Bytes, side: int) -> tuple[Bytes, Bytes]:
    """For pictures at most four times as long as wide: image and truth, [side, side]."""
    height, width = truth.shape
    if height <= width:
        height, width = side, int(side * width / height)
    else:
        height, width = int(side * height / width), side
    top, left = (height - side) // 2, (width - side) // 2
    parts = (opencv_bilinear.resize(image, height, width), nearest(truth, height, width))
    return tuple(part[top : top + side, left : left + side] for part in parts)  # type: ignore[return-value]


def pad_again(image: Bytes, size: tuple[int, int]) -> tuple[Bytes, int, int]:
    """The padded image, and the rows and columns of it that show the picture."""
    scale = min(size[0] / image.shape[0], size[1] / image.shape[1])
    rows, columns = (max(1, int(scale * side)) for side in image.shape[:2])
    canvas = np.zeros((*size, 3), np.uint8) + FILL
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
    sample = crop(image, truth, (side, side), FILL)
    assert sample.image.shape == (side, side, 3)
    assert sample.logits_at == (side, side)
    if max(height, width) <= 4 * min(height, width):
        expected_image, expected_truth = crop_again(image, truth, side)
        assert np.array_equal(sample.image, expected_image)
        assert np.array_equal(sample.truth, expected_truth)
        labels = voc.blocks(side, side, 21, 3)
        assert np.array_equal(sample.scored(labels), labels)


@pytest.mark.parametrize(("height", "width", "rows", "columns"), [(10, 90, 56, 512), (90, 10, 512, 56)])
def test_a_picture_too_long_to_fill_the_crop_is_padded_and_its_padding_does_not_count(
    height: int, width: int, rows: int, columns: int
) -> None:
    # 4 x 128 = 512 is as long as a side may get; 512 x 10 / 90 = 56.9. Of 512 the middle 128 are shown.
    image, truth = voc.drawing(height, width, 1), voc.blocks(height, width, 21, 2)
    sample = crop(image, truth, (128, 128), FILL)
    shown = min(rows, 128), min(columns, 128)
    middle = slice((rows - 128) // 2, (rows + 128) // 2) if rows > 128 else slice(None)
    across = slice((columns - 128) // 2, (columns + 128) // 2) if columns > 128 else slice(None)
    assert sample.truth.shape == shown
    assert np.array_equal(sample.truth, nearest(truth, rows, columns)[middle, across])
    shown_part = opencv_bilinear.resize(image, rows, columns)[middle, across]
    assert np.array_equal(sample.image[: shown[0], : shown[1]], shown_part)
    assert (sample.image[shown[0] :] == FILL).all()
    assert (sample.image[:, shown[1] :] == FILL).all()
    labels = voc.blocks(128, 128, 21, 3)
    assert np.array_equal(sample.scored(labels), labels[: shown[0], : shown[1]])


@given(sides, sides, st.tuples(st.integers(8, 128), st.integers(8, 128)))
def test_pad(height: int, width: int, size: tuple[int, int]) -> None:
    image, truth = voc.drawing(height, width, 1), voc.blocks(height, width, 21, 2)
    sample = pad(image, truth, size, FILL)
    expected, rows, columns = pad_again(image, size)
    assert np.array_equal(sample.image, expected)
    assert np.array_equal(sample.truth, truth)
    labels = voc.blocks(*size, 21, 3)
    assert np.array_equal(sample.scored(labels), nearest(labels[:rows, :columns], height, width))


@pytest.mark.parametrize(
    ("name", "size"),
    # VOC's commonest sizes; 512 x 500 / 375 = 682.67, which crop cuts off and whole rounds.
    [("crop", (512, 512)), ("pad", (512, 512)), ("whole", (512, 683))],
)
def test_what_the_big_model_is_shown_of_a_picture_of_500x375(name: str, size: tuple[int, int]) -> None:
    sample = PROTOCOLS[name](np.zeros((375, 500, 3), np.uint8), np.zeros((375, 500), np.uint8), (512, 512), FILL)
    assert sample.image.shape[:2] == size
    assert sample.truth.shape == ((512, 512) if name == "crop" else (375, 500))
    assert sample.logits_at == ((375, 500) if name == "whole" else (512, 512))
    assert sample.picture == {"crop": (512, 512), "pad": (384, 512), "whole": (375, 500)}[name]


SIZES = [(72, 64), (40, 90), (131, 61), (64, 100), (200, 180), (33, 35)]


@pytest.fixture(scope="module")
def square_run(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small model at 64x64, as ONNX and IR."""
    from click.testing import CliRunner

    from pspnet_convert.cli import cli as command_line

    folder = tmp_path_factory.mktemp("square")
    arguments = ["run", str(small.folder), "-o", str(folder), "--input-shape", "1,3,64,64", "--precision", "FP32"]
    done = CliRunner().invoke(command_line, arguments)
    assert done.exit_code == 0, done.output
    return folder


@pytest.mark.parametrize("protocol", ["crop", "pad"])
def test_the_mean_iou_is_that_of_the_second_computation(
    cli: Cli, small: ModelCard, square_run: Path, tmp_path: Path, protocol: str
) -> None:
    folder = voc.write(tmp_path / "voc", small, SIZES)
    arguments = ["--dataset", folder, "--protocol", protocol, "--backend", "FP32", "--json"]
    result = cli("evaluate", small.folder, "-o", square_run, *arguments)
    assert result.exit_code == 0, result.stderr
    (score,) = result.json()["result"]["scores"]

    backend = OpenVinoBackend(square_run / "public" / small.name / "FP32" / f"{small.name}.xml", small, (1, 3, 64, 64))
    hits, union = np.zeros(5), np.zeros(5)
    for name in voc.listed(folder).read_text().split():
        image = np.asarray(Pillow.open(voc.image_of(folder, name)))[:, :, ::-1]
        truth = np.asarray(Pillow.open(voc.annotation_of(folder, name)))
        if protocol == "crop":
            shown, truth = crop_again(image, truth, 64)
            labels = next(backend.run([shown])).labels
        else:
            shown, rows, columns = pad_again(image, (64, 64))
            labels = nearest(next(backend.run([shown])).labels[:rows, :columns].astype(np.uint8), *truth.shape)
        for number in range(5):
            is_true, is_found = truth == number, (labels == number) & (truth <= 4)
            hits[number] += (is_true & is_found).sum()
            union[number] += (is_true | is_found).sum()
    expected = 100 * hits[union > 0] / union[union > 0]
    assert 0 < expected.mean() < 100
    assert score["mean_iou"] == pytest.approx(expected.mean(), abs=1e-6)
    assert [iou for iou in score["ious"].values() if iou is not None] == pytest.approx(expected.tolist(), abs=1e-6)


@pytest.mark.slow
@settings(max_examples=15)
@given(height=st.integers(20, 150), width=st.integers(20, 150))
def test_whole_is_what_mmsegmentation_does(small: ModelCard, height: int, width: int) -> None:
    """mmsegmentation rescales the image, runs its network in test mode, and resizes to the original size."""
    import mmcv
    import torch
    from mmseg.structures import SegDataSample

    from pspnet_convert.pytorch.network import build_segmentor

    image = voc.drawing(height, width, 1)
    sample = whole(image, voc.blocks(height, width, 5, 2), (64, 64), FILL)
    resized = mmcv.imrescale(image, (256, 64))
    assert np.array_equal(sample.image, resized)

    checkpoint = small.folder / small.checkpoint.name
    segmentor = build_segmentor(small.config, small.config_overrides).eval()
    network = build_network(small, load_checkpoint(checkpoint, small))
    segmentor.load_state_dict(network.state_dict())
    values = (resized[:, :, ::-1] - np.array(small.input.mean, np.float32)) / np.array(small.input.scale, np.float32)
    batch = torch.from_numpy(values.transpose(2, 0, 1)[None].astype(np.float32))
    meta = {"img_shape": resized.shape[:2], "ori_shape": (height, width), "padding_size": [0, 0, 0, 0]}
    with torch.inference_mode():
        (predicted,) = segmentor.predict(batch, [SegDataSample(metainfo=meta)])
    found = TorchLabeller(checkpoint, small).start(sample.image, sample.logits_at)()
    expected = predicted.pred_sem_seg.data[0].numpy()
    assert found.shape == expected.shape == (height, width)
    # Two ways to compute the same sums in float32: a near-tie may go either way.
    assert (found == expected).mean() > 0.999
    assert np.array_equal(sample.scored(found), found)


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
