"""The examples work: the program takes the command lines of the CI jobs, and the Python example runs."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from channel_models import save_blue_model, save_noise
from conftest import Cli, slow
from PIL import Image

from pspnet_convert.cards.catalog import find_card
from pspnet_convert.cli import cli as command_line
from pspnet_convert.runtimes.backends import OpenVinoBackend

EXAMPLES = Path(__file__).parent.parent / "examples"
PROGRAM = EXAMPLES / "01-python" / "segment.py"
JOBS = sorted((EXAMPLES / "06-ci").glob("*.yml"))


def read(path: Path) -> Any:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def texts(data: Any) -> Iterator[str]:
    if isinstance(data, str):
        yield data
    elif isinstance(data, (dict, list)):
        for value in data.values() if isinstance(data, dict) else data:
            yield from texts(value)


def commands(path: Path) -> list[list[str]]:
    """The command lines of the job, with an address for each variable of the CI service."""
    lines = [re.sub(r"\$\w+", "https://ci.example/1", line) for text in texts(read(path)) for line in text.splitlines()]
    split = [shlex.split(line, comments=True) for line in lines if line.lstrip().startswith("pspnet-convert ")]
    return [words[1:] for words in split]


def test_there_is_a_job_for_each_of_two_services() -> None:
    assert [path.name for path in JOBS] == ["github-actions.yml", "gitlab-ci.yml"]


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_the_program_takes_every_command_line_of_a_job(path: Path) -> None:
    found = commands(path)
    assert [name for name, *_ in found] == ["run", "rebuild", "bundle"]
    for name, *arguments in found:
        # Parsed and not run: click says whether these are the command's options.
        assert command_line.commands[name].make_context(name, arguments).args == []


def kept(path: Path) -> set[str]:
    data = read(path)
    if path.name == "gitlab-ci.yml":
        artifacts = data["convert"]["artifacts"]
        return {*artifacts["paths"], artifacts["reports"]["junit"]}
    (upload,) = [step for step in data["jobs"]["convert"]["steps"] if "upload-artifact" in step.get("uses", "")]
    return set(upload["with"]["path"].split())


@pytest.mark.parametrize("path", JOBS, ids=lambda path: path.name)
def test_a_job_keeps_what_its_commands_write(path: Path) -> None:
    run, rebuild, bundle = commands(path)
    written = {run[run.index("--junit") + 1], rebuild[rebuild.index("--check") + 1], bundle[bundle.index("-o") + 1]}
    assert kept(path) == {*written, "public/pspnet-pytorch/report.html"}


@pytest.mark.parametrize(
    "options",
    [
        [],
        slow(["--batch", "2", "--input-type", "u8", "--input-layout", "NHWC"]),
        slow(["--batch", "dynamic", "--input-type", "u8"]),
    ],
    ids=" ".join,
)
def test_the_python_example_sees_what_the_ir_sees(cli: Cli, demo_run: Path, tmp_path: Path, options: list[str]) -> None:
    card = find_card("demo")
    photo = sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[0]
    xml, target = demo_run / "public" / "demo" / "FP32" / "demo.xml", tmp_path / "labels.png"
    served = xml
    if options:
        assert cli("run", "demo", "-o", tmp_path, "--precision", "FP32", *options).exit_code == 0
        served = tmp_path / "public" / "demo" / "FP32" / "demo.xml"
    command = [sys.executable, str(PROGRAM), str(served), str(photo), str(target)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    labels = np.asarray(Image.open(target))
    size = (card.input.width, card.input.height)
    rgb = np.asarray(Image.open(photo).convert("RGB").resize(size, Image.Resampling.BILINEAR))
    # The program runs at the processor's own precision, this test at f32.
    assert (labels == next(OpenVinoBackend(xml, card).run([rgb[:, :, ::-1]])).labels).mean() > 0.99
    shares = dict(re.findall(r"^(\S+) ([\d.]+)%$", done.stdout, flags=re.MULTILINE))
    seen = {card.class_names[number]: f"{(labels == number).mean():.1%}".rstrip("%") for number in np.unique(labels)}
    assert shares == seen
    assert len(seen) > 1


def test_the_python_example_needs_nothing_but_openvino_numpy_and_pillow() -> None:
    source = PROGRAM.read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:import|from) (\w+)", source, flags=re.MULTILINE)) == {"sys", "numpy", "openvino", "PIL"}


def test_the_python_example_compiles_at_the_precision_that_the_ir_says(tmp_path: Path) -> None:
    """OpenVINO refuses to compute in bytes, which shows that it was asked to."""
    save_noise(tmp_path / "noise.png", (40, 56))
    xml = save_blue_model(tmp_path / "blue.xml", precision="u8")
    command = [sys.executable, str(PROGRAM), str(xml), str(tmp_path / "noise.png"), str(tmp_path / "labels.png")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode != 0
    assert "Wrong value u8" in done.stderr


def test_the_index_names_every_folder() -> None:
    index = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    folders = sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir())
    assert re.findall(r"\]\((\d\d-\w+)/\)", index) == folders
