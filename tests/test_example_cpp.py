"""The C++ example builds against the installed OpenVINO, and sees what the Python example sees, to the pixel."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from channel_models import Bytes, blue_of, save_blue_model, save_noise
from PIL import Image

EXAMPLES = Path(__file__).parent.parent / "examples"
Program = Callable[..., "subprocess.CompletedProcess[str]"]


def missing_tools() -> list[str]:
    """What it takes to build the example and is not on this machine, in words."""
    from openvino.utils import get_cmake_path

    tools = {
        "cmake": shutil.which("cmake"),
        "a C++ compiler (c++, g++ or clang++)": next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None),
        "a build tool (make or ninja)": shutil.which("make") or shutil.which("ninja"),
        "OpenVINO's CMake files, which its pip package has": get_cmake_path(),
    }
    return [name for name, found in tools.items() if not found]


def test_a_skip_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    missing = ["cmake", "a C++ compiler (c++, g++ or clang++)", "a build tool (make or ninja)"]
    assert missing_tools() == missing


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Program:
    """The example, built as its README says; called with its arguments."""
    if missing := missing_tools():
        pytest.skip(f"the C++ example is not built: this machine has no {', no '.join(missing)}")
    from openvino.utils import get_cmake_path

    build = tmp_path_factory.mktemp("cpp")
    configure = ["cmake", "-S", str(EXAMPLES / "02-cpp"), "-B", str(build), f"-DOpenVINO_DIR={get_cmake_path()}"]
    for command in (configure, ["cmake", "--build", str(build)]):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "warning:" not in done.stdout + done.stderr

    def run(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [str(build / "segment"), *(str(argument) for argument in arguments)]
        return subprocess.run(command, capture_output=True, text=True)

    return run


def labels_by_cpp(program: Program, xml: Path, ppm: Path) -> Bytes:
    target = ppm.with_suffix(".pgm")
    done = program(xml, ppm, target)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return np.asarray(Image.open(target))


def labels_by_python(xml: Path, picture: Path) -> Bytes:
    target = picture.with_suffix(".png")
    command = [sys.executable, str(EXAMPLES / "01-python" / "segment.py"), str(xml), str(picture), str(target)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return np.asarray(Image.open(target))


def test_it_gives_the_python_examples_label_map_to_the_pixel(program: Program, demo_run: Path, tmp_path: Path) -> None:
    photos = sorted((EXAMPLES.parent / "pspnet_convert" / "data" / "demo" / "voc" / "JPEGImages").glob("*.jpg"))
    assert photos
    Image.open(photos[0]).convert("RGB").save(tmp_path / "photo.ppm")
    xml = demo_run / "public" / "demo" / "FP32" / "demo.xml"
    labels = labels_by_cpp(program, xml, tmp_path / "photo.ppm")
    assert len(np.unique(labels)) > 1
    assert np.array_equal(labels, labels_by_python(xml, tmp_path / "photo.ppm"))


@pytest.mark.parametrize("size", [(40, 56), (41, 300), (9, 7), (1, 1), (333, 57)], ids=str)
def test_it_resizes_as_pillow_does_to_the_bit(program: Program, tmp_path: Path, size: tuple[int, int]) -> None:
    """Where that scales one side at a time. The model's label map is the picture's blue, at the model's size."""
    rgb = save_noise(tmp_path / "noise.ppm", size)
    labels = labels_by_cpp(program, save_blue_model(tmp_path / "blue.xml"), tmp_path / "noise.ppm")
    assert np.array_equal(labels, blue_of(rgb, (size[0], 56), (40, 56)))


@pytest.mark.parametrize(
    "form",
    [
        {"type": "u8", "layout": "NHWC", "batch": 2},
        {"type": "u16", "batch": -1, "label_type": "i32"},
        {"layout": "NHWC", "batch": -1, "label_type": "u8", "probabilities": True},
        {"precision": "f32"},
    ],
    ids=str,
)
def test_it_takes_every_form_of_an_ir(program: Program, tmp_path: Path, form: dict[str, Any]) -> None:
    rgb = save_noise(tmp_path / "noise.ppm", (50, 60))
    xml = save_blue_model(tmp_path / "blue.xml", **form)
    labels = labels_by_cpp(program, xml, tmp_path / "noise.ppm")
    assert np.array_equal(labels, blue_of(rgb, (50, 56), (40, 56)))
    assert np.array_equal(labels, labels_by_python(xml, tmp_path / "noise.ppm"))


def test_it_reads_a_ppm_with_a_comment(program: Program, tmp_path: Path) -> None:
    rgb = save_noise(tmp_path / "plain.ppm", (40, 56))
    plain = (tmp_path / "plain.ppm").read_bytes()
    assert plain.startswith(b"P6\n56 40\n255\n")
    (tmp_path / "noise.ppm").write_bytes(
        b"P6\n# made by hand\n56 # columns\n40\n255\n" + plain.partition(b"\n255\n")[2]
    )
    labels = labels_by_cpp(program, save_blue_model(tmp_path / "blue.xml"), tmp_path / "noise.ppm")
    assert np.array_equal(labels, rgb[:, :, 2])


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"P5\n2 2\n255\n" + bytes(4), "is not a binary PPM"),
        (b"P6\n2 2\n65535\n" + bytes(24), "is not a binary PPM"),
        (b"P6\n2 0\n255\n", "is not a binary PPM"),
        (b"P6\n2 99999999999999999999999\n255\n", "is not a binary PPM"),
        (b"P6\n70000 70000\n255\n", "is not a binary PPM"),
        (b"", "is not a binary PPM"),
        (b"P6\n2 2\n255\n" + bytes(11), "ends before its last pixel"),
    ],
    ids=range(7),
)
def test_it_refuses_what_is_no_whole_picture(program: Program, tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "bad.ppm").write_bytes(content)
    done = program(save_blue_model(tmp_path / "blue.xml"), tmp_path / "bad.ppm", tmp_path / "labels.pgm")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"error: {tmp_path / 'bad.ppm'}: {words}")
    assert not (tmp_path / "labels.pgm").exists()


def test_it_says_how_it_is_called(program: Program) -> None:
    done = program("model.xml")
    assert (done.returncode, done.stderr) == (2, "usage: segment MODEL.xml PICTURE.ppm LABELS.pgm\n")


def test_it_says_what_cannot_be_written(program: Program, tmp_path: Path) -> None:
    save_noise(tmp_path / "noise.ppm", (40, 56))
    target = tmp_path / "no" / "labels.pgm"
    done = program(save_blue_model(tmp_path / "blue.xml"), tmp_path / "noise.ppm", target)
    assert (done.returncode, done.stderr) == (1, f"error: {target}: cannot be written\n")


def test_it_compiles_at_the_precision_that_the_ir_says(program: Program, tmp_path: Path) -> None:
    """OpenVINO refuses to compute in bytes, which shows that it was asked to."""
    save_noise(tmp_path / "noise.ppm", (40, 56))
    xml = save_blue_model(tmp_path / "blue.xml", precision="u8")
    done = program(xml, tmp_path / "noise.ppm", tmp_path / "labels.pgm")
    assert done.returncode == 1
    assert "Wrong value u8" in done.stderr
