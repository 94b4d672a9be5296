"""Segmented pictures: an overlay and a palette PNG of the picture's own size, with the classes in their colours."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import mmcv
import numpy as np
import pytest
from conftest import Cli
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.segment.labelled import Labelling
from pspnet_convert.commands.segment.segment_files import Segmented, Writing, segment_files
from pspnet_convert.commands.segment.sources import find_sources
from pspnet_convert.progress import Silent
from pspnet_convert.runtimes.backends import OpenVinoBackend
from pspnet_convert.runtimes.images import palette_image, to_bgr
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.output_form import ModelAnswer

SHAPE = (1, 3, 72, 64)
LEGEND = 200


class Given:
    """A model that answers with a given label map, and logits if there are some, and records its images."""

    def __init__(self, labels: NDArray[np.int64], logits: NDArray[np.float32] | None = None) -> None:
        self.labels, self.logits = labels, logits
        self.shown: list[Image] = []

    @property
    def scores(self) -> list[str]:
        return [] if self.logits is None else ["logits"]

    def in_flight(self, images: Iterable[Image]) -> Iterator[ModelAnswer]:
        for image in images:
            self.shown.append(image)
            yield ModelAnswer(self.labels, {} if self.logits is None else {"logits": self.logits})


def segmented(model: Given, card: ModelCard, images: list[Path], folder: Path, **how: Any) -> list[Segmented]:
    """What `segment` does with images, by this model."""
    writing = Writing(card, folder, how.pop("opacity", 0.7), how.pop("labels_only", False))
    labelling = Labelling(model, card, SHAPE, **how)
    return list(segment_files(labelling, writing, find_sources(images, folder), 1, Silent()))


def photo(path: Path, width: int, height: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(7).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3), dtype=np.uint8)
    image = Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.BICUBIC)
    image.save(path)
    return path


def read(path: Path) -> NDArray[np.uint8]:
    with Pillow.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


# Through the command line


def test_both_pictures_have_the_photographs_size(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    sizes = {"wide": (150, 40), "high": (30, 170), "tiny": (1, 1), "same": (64, 72)}
    photos = [photo(tmp_path / f"{name}.png", *size) for name, size in sizes.items()]
    result = cli("segment", *photos, "--model", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 0, result.stderr
    for one, (name, (width, height)) in zip(result.json(), sizes.items()):
        assert one["image"] == str(tmp_path / f"{name}.png")
        assert Path(one["overlay"]) == folder / "segmented" / f"{name}.overlay.png"
        assert Path(one["labels"]) == folder / "segmented" / f"{name}.labels.png"
        with Pillow.open(one["labels"]) as labels, Pillow.open(one["overlay"]) as overlay:
            assert (labels.mode, labels.size) == ("P", (width, height))
            palette = labels.getpalette()
            assert overlay.mode == "RGB"
            assert overlay.width == width + LEGEND
            assert overlay.height >= height
        assert palette is not None
        assert palette[: 3 * 5] == [value for colour in small.palette for value in colour]
        numbers = read(Path(one["labels"]))
        assert numbers.max() <= 4
        expected = {small.class_names[n]: (numbers == n).mean() for n in np.unique(numbers)}
        assert one["shares"] == pytest.approx(expected)
        assert list(one["shares"].values()) == sorted(one["shares"].values(), reverse=True)
    assert sorted(path.name for path in (folder / "segmented").iterdir()) == sorted(
        f"{name}.{kind}.png" for name in sizes for kind in ("labels", "overlay")
    )


@pytest.mark.parametrize("precision", ["FP32", "FP16"])
def test_the_labels_are_the_irs(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, precision: str
) -> None:
    picture = photo(tmp_path / "a.png", 64, 72)
    result = cli("segment", picture, "--model", small.folder, "-o", workspace, "--precision", precision)
    assert result.exit_code == 0, result.stderr
    backend = OpenVinoBackend(folder / precision / "small-standin.xml", small)
    expected = next(backend.run([to_bgr(read(picture))])).labels
    assert len(np.unique(expected)) > 1
    assert np.array_equal(read(folder / "segmented" / "a.labels.png"), expected)


def test_a_photograph_on_its_side_is_segmented_upright(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    picture = photo(tmp_path / "upright.png", 40, 90)
    exif = Pillow.Exif()
    exif[0x0112] = 6
    with Pillow.open(picture) as image:
        image.rotate(90, expand=True).save(tmp_path / "turned.png", exif=exif)
    result = cli("segment", picture, tmp_path / "turned.png", "--model", small.folder, "-o", workspace)
    assert result.exit_code == 0, result.stderr
    for kind in ("labels", "overlay"):
        upright, turned = (read(folder / "segmented" / f"{name}.{kind}.png") for name in ("upright", "turned"))
        assert np.array_equal(upright, turned)


def test_pictures_of_one_name_do_not_overwrite_each_other(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    names = ["a/x.png", "b/x.jpg", "c/x-2.png", "d/x.png"]
    photos = [photo(tmp_path / name, 20 + number, 20) for number, name in enumerate(names)]
    result = cli("segment", *photos, "--model", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 0, result.stderr
    outputs = [Path(one[kind]) for one in result.json() for kind in ("overlay", "labels")]
    assert len(set(outputs)) == 8
    widths = [read(Path(one["labels"])).shape[1] for one in result.json()]
    assert widths == [20, 21, 22, 23]
    assert [Path(one["labels"]).name for one in result.json()[:2]] == ["x.labels.png", "x-2.labels.png"]


@pytest.mark.parametrize("length", [1, 150])
def test_the_table_names_each_overlay_and_its_classes_in_full(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, length: int
) -> None:
    # The brackets are no markup; and a path longer than the table is wide is not cut off.
    picture = photo(tmp_path / f"{'a' * length}[b].png", 64, 72)
    result = cli("segment", picture, "--model", small.folder, "-o", workspace)
    assert result.exit_code == 0, result.stderr
    rows = [line.split("│")[1:3] for line in result.stdout.splitlines() if "│" in line]
    overlay, shares = ("".join(cells) for cells in zip(*rows))
    assert overlay.replace(" ", "") == str(folder / "segmented" / f"{picture.stem}.overlay.png")
    occurring = np.unique(read(folder / "segmented" / f"{picture.stem}.labels.png"))
    assert all(small.class_names[number] in shares.replace(" ", "") for number in occurring)


def test_a_file_that_is_no_picture_stops_it_after_the_pictures_before(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    good, bad, late = photo(tmp_path / "a.png", 9, 9), tmp_path / "b.png", photo(tmp_path / "c.png", 9, 9)
    bad.write_text("no picture")
    result = cli("segment", good, bad, late, "--model", small.folder, "-o", workspace)
    assert result.exit_code == 13
    assert f"{bad}: is not an image" in result.error
    assert sorted(path.name for path in (folder / "segmented").iterdir()) == ["a.labels.png", "a.overlay.png"]


@pytest.mark.parametrize("missing", ["FP32/small-standin.xml", "FP32/small-standin.bin"])
def test_without_an_ir_it_says_which_stage_makes_it(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, missing: str
) -> None:
    (folder / missing).unlink()
    result = cli("segment", photo(tmp_path / "a.png", 9, 9), "--model", small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert f"{folder / missing}: there is no such IR file. Run `pspnet-convert to-ir` first" in result.error
    assert not (folder / "segmented").exists()


def test_a_file_that_is_no_ir(cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path) -> None:
    (folder / "FP16" / "small-standin.xml").write_text("<html/>")
    picture = photo(tmp_path / "a.png", 9, 9)
    result = cli("segment", picture, "--model", small.folder, "-o", workspace, "--precision", "FP16")
    assert result.exit_code == 11
    assert "small-standin.xml: is not an IR that OpenVINO reads" in result.error
    assert not (folder / "segmented").exists()


def test_a_place_that_cannot_be_written(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    (folder / "segmented").write_text("a file")
    result = cli("segment", photo(tmp_path / "a.png", 9, 9), "--model", small.folder, "-o", workspace)
    assert result.exit_code == 12
    assert f"{folder / 'segmented'}: cannot be written: " in result.error
    assert (folder / "segmented").read_text() == "a file"


def test_an_ir_at_another_shape_than_the_cards_is_fed_at_its_own(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    path = folder / "FP32" / "small-standin.xml"
    shutil.rmtree(folder / "FP32")
    shutil.rmtree(folder / "FP16")
    shape = ["--input-shape", "1,3,40,104"]
    assert cli("run", small.folder, "-o", workspace, "--precision", "FP32", *shape).exit_code == 0
    assert OpenVinoBackend(path, small, (1, 3, 40, 104)).slots == 1
    assert cli("segment", photo(tmp_path / "a.png", 104, 40), "--model", small.folder, "-o", workspace).exit_code == 0
    assert read(folder / "segmented" / "a.labels.png").shape == (40, 104)


# What is drawn, for labels that are known


def test_background_stays_as_it_is_and_other_classes_take_their_colour(small: ModelCard, tmp_path: Path) -> None:
    labels = np.zeros((72, 64), np.int64)
    labels[:, 40:] = 3
    picture = photo(tmp_path / "a.png", 64, 72)
    backend = Given(labels)
    (one,) = segmented(backend, small, [picture], tmp_path / "out")
    pixels, overlay = read(picture).astype(float), read(one.overlay)[:72, :64].astype(float)
    assert np.array_equal(backend.shown[0], to_bgr(read(picture)))
    assert np.array_equal(overlay[:, :40], pixels[:, :40])
    colour = np.array(small.palette[3])
    distance, before = np.abs(overlay[:, 40:] - colour), np.abs(pixels[:, 40:] - colour)
    assert (distance <= before).all()
    assert distance.mean() < 0.6 * before.mean()
    assert one.shares == {"background": 0.625, "bird": 0.375}
    assert np.array_equal(read(one.labels), labels)


def test_the_legend_lists_every_class_that_occurs_in_its_colour(small: ModelCard, tmp_path: Path) -> None:
    labels = np.arange(72 * 64).reshape(72, 64) % 5
    (one,) = segmented(Given(labels), small, [photo(tmp_path / "a.png", 20, 10)], tmp_path / "out")
    legend = read(one.overlay)[:, 20:]
    assert legend.shape[0] > 10  # higher than the picture, since five lines need more
    colours = {tuple(pixel) for pixel in legend.reshape(-1, 3)}
    assert set(small.palette) <= colours
    assert len(one.shares) == 5


def test_a_picture_is_prepared_as_mmsegmentation_tests_the_model(small: ModelCard, tmp_path: Path) -> None:
    picture = photo(tmp_path / "a.png", 32, 36)  # at scale (256, 64): 64x72
    labels = np.arange(72 * 64).reshape(72, 64) // 64 % 5
    backend = Given(labels)
    (one,) = segmented(backend, small, [picture], tmp_path / "out")
    (shown,) = backend.shown
    assert np.array_equal(shown, mmcv.imrescale(mmcv.imread(str(picture)), (256, 64)))
    assert np.array_equal(read(one.labels), labels[1::2, 1::2])


def test_a_format_that_mmsegmentation_does_not_read_is_prepared_all_the_same(small: ModelCard, tmp_path: Path) -> None:
    pictures = [photo(tmp_path / "a.png", 32, 36), tmp_path / "b.gif"]
    Pillow.open(pictures[0]).quantize(256).convert("RGB").save(pictures[0])
    Pillow.open(pictures[0]).save(pictures[1])
    backend = Given(np.zeros((72, 64), int))
    segmented(backend, small, pictures, tmp_path / "out")
    assert np.array_equal(*backend.shown)


def test_windows_are_merged_to_one_label_map(small: ModelCard, tmp_path: Path) -> None:
    assert small.testing is not None
    steps = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": [400, 100], "keep_ratio": True}]
    slide = {"mode": "slide", "crop_size": (72, 64), "stride": (50, 40), "pipeline": steps}
    card = small.model_copy(update={"testing": small.testing.model_copy(update=slide)})
    pictures = [photo(tmp_path / f"{width}.png", width, 100) for width in (150, 100)]
    backend = Given(np.full((72, 64), 3))
    found = segmented(backend, card, pictures, tmp_path / "out")
    assert [read(one.labels).shape for one in found] == [(100, 150), (100, 100)]
    assert all(one.shares == {"bird": 1.0} for one in found)
    assert len(backend.shown) == 2 * 4 + 2 * 2
    image = mmcv.imread(str(pictures[0]))
    assert np.array_equal(backend.shown[1], image[:72, 40:104])


def test_what_is_not_prepared_so_is_said(small: ModelCard, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    pictures = [photo(tmp_path / "a.png", 32, 36), photo(tmp_path / "b.png", 100, 50)]
    segmented(Given(np.zeros((72, 64), int)), small, pictures, tmp_path / "out")
    assert caplog.messages == [
        "1 of 2 images are fitted into 64x72 and padded, which is not what the card's test pipeline does: "
        "it gives 128x64, for example"
    ]


@given(width=st.integers(1, 160), height=st.integers(1, 160))
def test_padding_never_shows(
    small: ModelCard, tmp_path_factory: pytest.TempPathFactory, width: int, height: int
) -> None:
    folder = tmp_path_factory.getbasetemp() / "padding"
    picture = photo(folder / "a.png", width, height)
    scale = min(72 / height, 64 / width)
    rows, columns = max(1, int(height * scale)), max(1, int(width * scale))
    labels = np.full((72, 64), 4)
    labels[:rows, :columns] = 1
    card = small.model_copy(update={"testing": None})
    (one,) = segmented(Given(labels), card, [picture], folder)
    assert one.shares == {"aeroplane": 1.0}
    assert read(one.labels).shape == (height, width)


@given(seed=st.integers(0, 1000), rows=st.integers(1, 40), columns=st.integers(1, 40))
def test_a_palette_picture_keeps_the_numbers_and_shows_the_colours(
    small: ModelCard, seed: int, rows: int, columns: int
) -> None:
    labels = np.random.default_rng(seed).integers(0, 5, (rows, columns), dtype=np.uint8)
    image = palette_image(labels, small)
    assert np.array_equal(np.asarray(image), labels)
    assert np.array_equal(np.asarray(image.convert("RGB")), np.array(small.palette, np.uint8)[labels])
