"""`segment` on large images, folders, patterns and videos; what it paints, and its errors."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import cv2
import irs
import numpy as np
import pytest
from conftest import Cli
from numpy.typing import NDArray
from PIL import Image as Pillow
from test_segment import Given, photo, read, segmented

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.segment import video
from pspnet_convert.commands.segment.sources import find_sources
from pspnet_convert.errors import ImageError
from pspnet_convert.runtimes.images import SAMPLES


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


@pytest.fixture
def scored(folder: Path, tmp_path: Path) -> Path:
    """The workspace's FP32 IR gives logits."""
    made = irs.with_logits(folder / "FP32" / "small-standin.xml", tmp_path / "logits.xml")
    for suffix in (".xml", ".bin"):
        shutil.move(made.with_suffix(suffix), folder / "FP32" / f"small-standin{suffix}")
    return folder


def sample(path: Path, width: int, height: int) -> Path:
    with Pillow.open(SAMPLES / "coffee.jpg") as image:
        image.convert("RGB").resize((width, height)).save(path)
    return path


# Large images


@pytest.mark.parametrize("gives", ["labels", "logits"])
def test_an_image_of_the_models_size_has_the_same_labels_through_a_window(
    cli: Cli, small: ModelCard, workspace: Path, request: pytest.FixtureRequest, tmp_path: Path, gives: str
) -> None:
    folder = request.getfixturevalue("scored" if gives == "logits" else "folder")
    picture = sample(tmp_path / "a.png", 64, 72)
    options = ["--model", small.folder, "-o", workspace]
    assert cli("segment", picture, *options).exit_code == 0
    expected = read(folder / "segmented" / "a.labels.png")
    assert len(np.unique(expected)) > 1
    assert cli("segment", picture, *options, "--slide").exit_code == 0
    assert np.array_equal(read(folder / "segmented" / "a.labels.png"), expected)


def test_windows_of_an_ir_with_logits_are_blended_and_of_another_are_not(
    cli: Cli, small: ModelCard, workspace: Path, scored: Path, small_run: Path, tmp_path: Path
) -> None:
    picture = sample(tmp_path / "a.png", 200, 150)
    found = []
    for place in (workspace, shutil.copytree(small_run, tmp_path / "plain")):
        result = cli("segment", picture, "--model", small.folder, "-o", place, "--slide", "--overlap", "30", "--json")
        assert result.exit_code == 0, result.stderr
        found.append(read(Path(result.json()[0]["labels"])))
    assert found[0].shape == found[1].shape == (150, 200)
    assert 0.5 < (found[0] == found[1]).mean() < 1
    assert np.array_equal(*(labels[:40, :30] for labels in found))  # one window has this corner


def test_a_small_image_is_padded_to_a_window(small: ModelCard, tmp_path: Path) -> None:
    model = Given(np.full((72, 64), 2))
    (one,) = segmented(model, small, [photo(tmp_path / "a.png", 10, 100)], tmp_path / "out", slide=True, overlap=0)
    assert read(one.labels).shape == (100, 10)
    assert [image.shape for image in model.shown] == [(72, 64, 3)] * 2
    mean = np.rint(small.input.mean[::-1])
    assert (model.shown[0][:, 10:] == mean).all()


def test_a_fitted_image_has_smooth_edges_where_the_ir_gives_logits(
    cli: Cli, small: ModelCard, workspace: Path, scored: Path, tmp_path: Path
) -> None:
    logits = np.zeros((5, 72, 64), np.float32)
    logits[1] = 30.3 - np.arange(64)
    labels = logits.argmax(axis=0)
    card = small.model_copy(update={"testing": None})
    picture = photo(tmp_path / "a.png", 640, 720)
    for model, edge in ((Given(labels, logits), 308), (Given(labels), 310)):
        (one,) = segmented(model, card, [picture], tmp_path / "out")
        assert (read(one.labels) == (np.arange(640) < edge)).all()
    photograph = sample(tmp_path / "b.png", 160, 180)
    assert cli("segment", photograph, "--model", small.folder, "-o", workspace).exit_code == 0
    smooth = read(scored / "segmented" / "b.labels.png")
    model_sized = smooth[1::5, 1::5]
    assert smooth.shape == (180, 160)
    assert not np.array_equal(model_sized.repeat(5, 0).repeat(5, 1)[:180, :160], smooth)


def test_an_image_much_larger_than_the_model_is_said(
    small: ModelCard, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    card = small.model_copy(update={"testing": None})
    sizes = {"a": (256, 288), "b": (257, 20), "c": (20, 289), "d": (64, 72)}
    pictures = [photo(tmp_path / f"{name}.png", *size) for name, size in sizes.items()]
    segmented(Given(np.zeros((72, 64), int)), card, pictures, tmp_path / "out")
    assert caplog.messages == [
        f"2 of 4 images are much larger than the model, which takes 64x72: {tmp_path / 'b.png'} has 257x20, for "
        "example. --slide segments them at their full resolution"
    ]
    caplog.clear()
    segmented(Given(np.zeros((72, 64), int)), card, pictures, tmp_path / "out", slide=True)
    assert caplog.messages == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--overlap", "8"], "--overlap is of the windows of --slide. Add --slide"),
        (
            ["--slide", "--overlap", "64"],
            "--overlap 64 is not smaller than the windows, which have the model's size, 64x72",
        ),
    ],
)
def test_an_overlap_that_does_not_go_with_the_rest(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, options: list[str], words: str
) -> None:
    result = cli("segment", photo(tmp_path / "a.png", 9, 9), "--model", small.folder, "-o", workspace, *options)
    assert result.exit_code == 2
    assert words in result.error
    assert not (folder / "segmented").exists()


# Folders and patterns


def test_a_folders_results_keep_their_paths_and_do_not_collide(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    root = tmp_path / "photos"
    for number, name in enumerate(["x.png", "x.jpg", "a/x.png", "a/b/x.png", "b/x.png"]):
        photo(root / name, 20 + number, 20)
    for name in (".hidden.png", ".thumbnails/x.png"):
        photo(root / name, 9, 9)
    (root / "notes.txt").write_text("no picture")
    result = cli("segment", root, root / "a", "--model", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 0, result.stderr
    names = [Path(one["labels"]).relative_to(folder / "segmented").as_posix() for one in result.json()]
    kept = ["a/b/x", "a/x", "b/x", "x", "x-2"]
    assert names == [f"{name}.labels.png" for name in [*kept, "b/x-2", "x-3"]]
    for one in result.json():
        with Pillow.open(one["image"]) as image, Pillow.open(one["labels"]) as labels:
            assert image.size == labels.size


def test_a_pattern_names_files_from_its_first_wildcard_on(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.jpg", "b/c/3.png", "b/.d/4.png"):
        photo(tmp_path / "in" / name, 9, 9)

    def names(pattern: str) -> dict[str, str]:
        found = find_sources([tmp_path / "in" / pattern], tmp_path / "out")
        return {source.path.relative_to(tmp_path / "in").as_posix(): source.name for source in found}

    assert names("*/*.png") == {"a/1.png": "a/1"}
    assert names("**/*.png") == {"a/1.png": "a/1", "b/c/3.png": "b/c/3"}
    assert names("a/[12].*") == {"a/1.png": "1", "a/2.jpg": "2"}


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    path = photo(tmp_path / "a[1].png", 9, 9)
    photo(tmp_path / "a1.png", 9, 9)
    assert [source.path for source in find_sources([path], tmp_path / "out")] == [path]


def test_a_pattern_is_taken_from_the_current_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    photo(tmp_path / "a" / "1.png", 9, 9)
    monkeypatch.chdir(tmp_path)
    (source,) = find_sources([Path("*/*.png")], tmp_path / "out")
    assert (source.path, source.name) == (Path("a/1.png"), "a/1")


def test_the_models_own_files_are_not_segmented_again(tmp_path: Path) -> None:
    own = tmp_path / "public" / "demo"
    for name in ("1.png", "public/demo/segmented/1.overlay.png", "public/other/2.png"):
        photo(tmp_path / name, 9, 9)
    assert [source.name for source in find_sources([tmp_path], own)] == ["1", "public/other/2"]
    assert [source.name for source in find_sources([own / "segmented"], own)] == ["1.overlay"]


@pytest.mark.parametrize(
    ("argument", "words"),
    [
        ("empty", "empty: holds no image and no video. Give images, videos, or a folder that holds some"),
        ("*.jpeg", "*.jpeg: no file has such a name"),
        ("none.png", "none.png: cannot be read as an image: No such file or directory"),
    ],
)
def test_what_names_no_image(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, argument: str, words: str
) -> None:
    (tmp_path / "empty").mkdir()
    result = cli("segment", tmp_path / argument, "--model", small.folder, "-o", workspace)
    assert result.exit_code == 13
    assert words in result.error
    assert not (folder / "segmented").exists()


# Colours


def test_a_model_without_background_has_all_classes_painted(small: ModelCard, tmp_path: Path) -> None:
    labels = np.zeros((72, 64), np.int64)
    labels[:, 40:] = 3
    picture = photo(tmp_path / "a.png", 64, 72)
    pixels = read(picture).astype(float)
    unpainted = {None: [], "background": [np.s_[:, :40]], "bird": [np.s_[:, 40:]]}
    for background, places in unpainted.items():
        card = small.model_copy(update={"background": background})
        (one,) = segmented(Given(labels), card, [picture], tmp_path / "out")
        assert one.overlay is not None
        overlay = read(one.overlay)[:72, :64].astype(float)
        colours = np.array(small.palette)[labels]
        expected = 0.3 * pixels + 0.7 * colours
        for place in places:
            expected[place] = pixels[place]
        assert np.abs(overlay - expected).max() <= 0.51


@pytest.mark.parametrize("opacity", [0.0, 0.25, 1.0])
def test_opacity_is_the_colours_share(small: ModelCard, tmp_path: Path, opacity: float) -> None:
    picture = photo(tmp_path / "a.png", 64, 72)
    (one,) = segmented(Given(np.full((72, 64), 3)), small, [picture], tmp_path / "out", opacity=opacity)
    assert one.overlay is not None
    expected = (1 - opacity) * read(picture).astype(float) + opacity * np.array(small.palette[3])
    assert np.abs(read(one.overlay)[:72, :64] - expected).max() <= 0.51


def test_labels_only_writes_no_overlay(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "c.mp4", 3)
    sources = [photo(tmp_path / "a.png", 64, 72), tmp_path / "c.mp4"]
    result = cli("segment", *sources, "--model", small.folder, "-o", workspace, "--labels-only", "--json")
    assert [one["overlay"] for one in result.json()] == [None, None]
    assert sorted(path.name for path in (folder / "segmented").iterdir()) == ["a.labels.png", "c.labels"]
    shown = cli("segment", sources[0], "--model", small.folder, "-o", workspace, "--labels-only")
    names = [line.split("│")[1].strip() for line in shown.stdout.splitlines() if "│" in line]
    assert "".join(names).endswith("a.labels.png")  # a long path goes on in the next line


def test_an_opacity_that_is_no_share(cli: Cli, small: ModelCard, workspace: Path) -> None:
    result = cli("segment", SAMPLES / "coffee.jpg", "--model", small.folder, "-o", workspace, "--opacity", "1.5")
    assert result.exit_code == 2
    assert "1.5 is not in the range 0<=x<=1" in result.stderr


# Videos


def clip(path: Path, frames: int, size: tuple[int, int] = (64, 72), rate: float = 12.0) -> list[NDArray[np.uint8]]:
    """A video of photographs that change; returns its frames as they are read again, BGR."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), rate, size)
    with Pillow.open(SAMPLES / "coffee.jpg") as image:
        for number in range(frames):
            turned = image.convert("RGB").rotate(20 * number).resize(size)
            writer.write(np.ascontiguousarray(np.asarray(turned)[:, :, ::-1]))
    writer.release()
    return frames_of(path)


def frames_of(path: Path) -> list[NDArray[np.uint8]]:
    capture, frames = cv2.VideoCapture(str(path)), []
    while True:
        is_read, frame = capture.read()
        if not is_read:
            capture.release()
            return frames
        frames.append(np.asarray(frame, np.uint8))


@pytest.mark.parametrize(("size", "every"), [((64, 72), 1), ((98, 62), 1), ((64, 72), 3)])
def test_each_frame_has_the_labels_that_it_has_as_an_image(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, size: tuple[int, int], every: int
) -> None:
    frames = clip(tmp_path / "c.mp4", 8, size)
    assert len(frames) == 8
    options = ["--model", small.folder, "-o", workspace, "--json"]
    result = cli("segment", tmp_path / "c.mp4", *options, "--every", every)
    assert result.exit_code == 0, result.stderr
    (one,) = result.json()
    numbers = range(0, 8, every)
    assert one["frames"] == len(numbers)
    assert sum(one["shares"].values()) == pytest.approx(1)
    overlay = Path(one["overlay"])
    assert overlay == folder / "segmented" / "c.overlay.mp4"
    painted = frames_of(overlay)
    assert [frame.shape for frame in painted] == [(size[1], size[0], 3)] * len(numbers)
    assert cv2.VideoCapture(str(overlay)).get(cv2.CAP_PROP_FPS) == pytest.approx(12 / every, abs=0.01)
    labels = sorted(Path(one["labels"]).iterdir())
    assert [path.name for path in labels] == [f"{number:06}.png" for number in numbers]
    for number, path, shown in zip(numbers, labels, painted):
        cv2.imwrite(str(tmp_path / "frame.png"), frames[number])
        (alone,) = cli("segment", tmp_path / "frame.png", *options).json()
        assert np.array_equal(read(path), read(Path(alone["labels"])))
        expected = read(Path(alone["overlay"]))[: size[1], : size[0], ::-1]
        assert np.abs(shown.astype(float) - expected).mean() < 12  # what MPEG-4 costs
        assert len(np.unique(read(path))) > 1


def test_a_video_through_windows(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    clip(tmp_path / "c.mp4", 2, (150, 100))
    result = cli("segment", tmp_path / "c.mp4", "--model", small.folder, "-o", workspace, "--slide", "--json")
    assert result.exit_code == 0, result.stderr
    assert {read(path).shape for path in Path(result.json()[0]["labels"]).iterdir()} == {(100, 150)}


def test_older_label_maps_of_a_video_go(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    for count in (5, 2):
        clip(tmp_path / "c.mp4", count)
        result = cli("segment", tmp_path / "c.mp4", "--model", small.folder, "-o", workspace, "--json")
        assert len(list(Path(result.json()[0]["labels"]).iterdir())) == count


def test_images_and_videos_come_back_in_their_order(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "b.mp4", 2)
    for name in ("a", "c"):
        photo(tmp_path / f"{name}.png", 64, 72)
    result = cli("segment", tmp_path, "--model", small.folder, "-o", workspace, "--json")
    found = [Path(one["image"]).name for one in result.json()]
    assert found == ["a.png", "b.mp4", "c.png"]


def test_progress_counts_frames_and_how_many_a_second(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    clip(tmp_path / "c.mp4", 4)
    result = cli("segment", tmp_path / "c.mp4", "--model", small.folder, "-o", workspace, "--progress", "json")
    *_, last = re.findall(r"^\{.*\}$", result.stdout, flags=re.MULTILINE)
    assert re.fullmatch(
        r'\{"event": "segment", "file": "c.mp4", "frames": 4, "total": 4, "state": "[0-9.]+ frames/s"\}', last
    )


def broken(path: Path, kind: str) -> Path:
    if kind == "text":
        path.write_text("no video")
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "cut":
        clip(path, 6)
        path.write_bytes(path.read_bytes()[:-700])
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("text", "c.mp4: cannot be read as a video. Give a video that OpenCV reads"),
        ("empty", "c.mp4: cannot be read as a video"),
        ("cut", "c.mp4: cannot be read as a video"),
        ("missing", "c.mp4: there is no such video"),
    ],
)
def test_a_video_that_cannot_be_read(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, kind: str, words: str
) -> None:
    result = cli("segment", broken(tmp_path / "c.mp4", kind), "--model", small.folder, "-o", workspace)
    assert result.exit_code == 13
    assert words in result.error
    assert not list((folder / "segmented").glob("*"))


def test_a_video_that_ends_too_early_is_said(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    path = tmp_path / "c.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 72))
    for number in range(10):
        writer.write(np.random.default_rng(number).integers(0, 256, (72, 64, 3), np.uint8))
    writer.release()
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    result = cli("segment", path, "--model", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 0, result.stderr
    (one,) = result.json()
    assert 0 < one["frames"] < 10
    assert re.search(rf"c.avi: can be read up to frame {one['frames']} of 10", result.stderr)


def test_a_video_for_a_model_that_takes_no_colours(small: ModelCard, tmp_path: Path) -> None:
    clip(tmp_path / "c.mp4", 2)
    grey = small.input.model_copy(
        update={"shape": (1, 1, 72, 64), "color_order": "as stored", "mean": (0.0,), "scale": (1.0,)}
    )
    card = small.model_copy(update={"input": grey, "testing": None})
    with pytest.raises(ImageError, match="is a video, and the model takes no pictures of three colours in bytes"):
        segmented(Given(np.zeros((72, 64), int)), card, [tmp_path / "c.mp4"], tmp_path / "out")


def test_an_overlay_video_that_is_not_whole_is_not_kept(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """OpenCV's writer reports no error, of a full disk or of a size that the codec does not take."""

    class Lost:
        def __init__(self, *_: Any) -> None:
            pass

        def write(self, picture: object) -> None:
            pass

        def release(self) -> None:
            pass

    clip(tmp_path / "c.mp4", 3)
    Lost.fourcc = staticmethod(cv2.VideoWriter.fourcc)  # type: ignore[attr-defined]
    monkeypatch.setattr(cv2, "VideoWriter", Lost)
    result = cli("segment", tmp_path / "c.mp4", "--model", small.folder, "-o", workspace)
    assert result.exit_code == 12
    assert "c.overlay.mp4: cannot be written: OpenCV wrote 0 of 3 frames" in result.error
    assert not list((folder / "segmented").glob("*"))


def test_a_rate_that_no_video_has_is_the_usual_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip(tmp_path / "c.mp4", 2, rate=10)
    with video.open_video(tmp_path / "c.mp4", 2) as opened:
        assert (opened.rate, opened.frames) == (5, 1)
    monkeypatch.setattr(video, "_FASTEST", 9)
    with video.open_video(tmp_path / "c.mp4", 1) as opened:
        assert (opened.rate, opened.frames) == (25, 2)
