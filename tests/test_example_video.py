"""The video example: a painted frame for each frame, in order, and each by its own label map."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import cv2
import numpy as np
import pytest
from channel_models import Bytes, blue_of, save_blue_model

PROGRAM = Path(__file__).parent.parent / "examples" / "04-video" / "segment_video.py"
SIZE = (48, 64)  # rows, columns of a frame


@pytest.fixture
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("segment_video", PROGRAM)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Eleven frames, 12 a second, without losses: each of one blue that says its number, 200, 190 and on."""
    path = tmp_path / "small.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 12, SIZE[::-1])
    assert writer.isOpened()
    for number in range(11):
        frame = np.random.default_rng(number).integers(0, 20, (*SIZE, 3), dtype=np.uint8)
        frame[:, :, 0] += np.uint8(200 - 10 * number)
        writer.write(frame)
    writer.release()
    return path


def frames_of(path: Path) -> list[Bytes]:
    capture = cv2.VideoCapture(str(path))
    frames: list[Bytes] = []
    while True:
        there, frame = capture.read()
        if not there:
            return frames
        frames.append(np.asarray(frame, np.uint8))


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(PROGRAM), *(str(argument) for argument in arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.parametrize(
    "form",
    [{}, {"type": "u8", "layout": "NHWC", "batch": 2}, {"batch": -1, "label_type": "u8", "probabilities": True}],
    ids=str,
)
def test_each_frame_has_its_own_label_map(
    example: ModuleType, video: Path, tmp_path: Path, form: dict[str, Any]
) -> None:
    compiled = example.compile_model(example.read_model(str(save_blue_model(tmp_path / "blue.xml", **form))))
    answers = list(example.label_maps(compiled, example.frames(str(video))))
    given = frames_of(video)
    assert len(answers) == len(given) == 11
    for (frame, labels), expected in zip(answers, given):
        assert np.array_equal(frame, expected)
        assert np.array_equal(labels, blue_of(expected[:, :, ::-1], (40, 56)))


@pytest.mark.parametrize("name", ["painted.mp4", "painted.avi"])
def test_a_video_with_as_many_frames_is_written(video: Path, tmp_path: Path, name: str) -> None:
    done = run(save_blue_model(tmp_path / "blue.xml"), video, tmp_path / name)
    assert done.returncode == 0, done.stderr
    painted = frames_of(tmp_path / name)
    assert [frame.shape for frame in painted] == 11 * [(*SIZE, 3)]
    assert cv2.VideoCapture(str(tmp_path / name)).get(cv2.CAP_PROP_FPS) == pytest.approx(12)
    # A frame is half the picture, half the colour of its class: 0 to 20 in red, and the hue of the blue's number.
    before = frames_of(video)
    for frame, picture in zip(painted, before):
        middle = int(np.median(picture[:, :, 0]))
        hue = cv2.cvtColor(np.array([[[middle * 180 // 256, 255, 255]]], np.uint8), cv2.COLOR_HSV2BGR)[0, 0]
        assert np.abs(frame.reshape(-1, 3).mean(0) - (picture.reshape(-1, 3).mean(0) + hue) / 2).max() < 25


def test_the_background_is_not_painted(example: ModuleType) -> None:
    frame = np.full((2, 2, 3), 100, np.uint8)
    palette = np.array([[0, 0, 255], [0, 200, 0]], np.uint8), np.array([[0.0], [0.5]], np.float32)
    painted = example.painted(frame, np.array([[0, 1], [1, 0]], np.uint8), palette)
    assert painted.tolist() == [[[100, 100, 100], [50, 150, 50]], [[50, 150, 50], [100, 100, 100]]]


def test_only_a_class_of_that_name_is_background(example: ModuleType, tmp_path: Path) -> None:
    colours, opacity = example.palette_of(example.read_model(str(save_blue_model(tmp_path / "blue.xml"))))
    assert colours.shape == (256, 3)
    assert (opacity == 0.5).all()


def test_without_a_target_a_window_shows_each_frame_until_q(
    example: ModuleType, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[Bytes] = []
    monkeypatch.setattr(cv2, "imshow", lambda title, frame: shown.append(frame))
    monkeypatch.setattr(cv2, "waitKey", lambda milliseconds: ord("q") if len(shown) == 4 else -1)
    example.main(str(save_blue_model(tmp_path / "blue.xml")), str(video))
    assert [frame.shape for frame in shown] == 4 * [(*SIZE, 3)]


@pytest.mark.parametrize("source", ["no-video.avi", "99"])
def test_it_says_what_cannot_be_read(tmp_path: Path, source: str) -> None:
    done = run(save_blue_model(tmp_path / "blue.xml"), source, tmp_path / "painted.mp4")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {source}: cannot be read as a video"


def test_it_says_what_cannot_be_written(video: Path, tmp_path: Path) -> None:
    target = tmp_path / "no" / "painted.mp4"
    done = run(save_blue_model(tmp_path / "blue.xml"), video, target)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"error: {target}: cannot be written"


def test_it_compiles_at_the_precision_that_the_ir_says(video: Path, tmp_path: Path) -> None:
    """OpenVINO refuses to compute in bytes, which shows that it was asked to."""
    done = run(save_blue_model(tmp_path / "blue.xml", precision="u8"), video, tmp_path / "painted.mp4")
    assert done.returncode != 0
    assert "Wrong value u8" in done.stderr
