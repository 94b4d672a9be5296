"""The Python API: the commands as functions, with typed results, and nothing printed."""

from __future__ import annotations

import inspect
import shutil
from pathlib import Path

import click
import numpy as np
import onnx
import onnx.numpy_helper
import pytest
from conftest import LENIENT

import pspnet_convert as pc
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cli import cli as command_line
from pspnet_convert.command_line import Command
from pspnet_convert.errors import ArtifactError, CardError, MismatchError, OptionError
from pspnet_convert.runtimes.images import SAMPLES

COMMANDS = {name.replace("-", "_"): command for name, command in command_line.commands.items()}


@pytest.fixture(autouse=True)
def silent(capfd: pytest.CaptureFixture[str]) -> object:
    """A test fails if a function that it calls prints something."""
    yield
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_is_a_function_with_the_options_of_the_command_line(name: str) -> None:
    function = getattr(pc, name)
    assert isinstance(function, Command)
    assert name in pc.__all__
    options = {parameter.name for parameter in COMMANDS[name].params} - {"as_json", "debug"}
    assert set(inspect.signature(function).parameters) == options


@pytest.mark.parametrize("name", COMMANDS)
def test_an_option_has_the_name_that_the_command_line_gives_it(name: str) -> None:
    for parameter in COMMANDS[name].params:
        if isinstance(parameter, click.Option) and parameter.name not in ("as_json", "debug"):
            flags = {flag.lstrip("-").replace("-", "_") for flag in parameter.opts}
            assert parameter.name in flags


def test_run_gives_the_verdict_the_stages_and_their_files(small: ModelCard, tmp_path: Path) -> None:
    result = pc.run(small, output_dir=tmp_path, precision="FP16", junit=tmp_path / "junit.xml")
    assert result.verdict == "pass"
    assert result.failure is None
    assert list(result.stages) == ["download", "export-onnx", "to-ir", "verify"]
    assert list(result.paths.irs) == ["FP16"]
    for path in (result.paths.onnx, *result.paths.irs.values(), result.paths.manifest, result.paths.report):
        assert path.is_file()
    assert (tmp_path / "junit.xml").is_file()
    exported = result.stages["export-onnx"]
    assert [file.file for file in exported.outputs] == [result.paths.onnx.name]
    assert exported.seconds > 0
    assert not exported.skipped
    assert [row.backend for row in result.stages["verify"].result.comparisons] == ["ONNX", "IR FP16"]


def test_the_api_skips_what_the_command_line_did(small: ModelCard, workspace: Path) -> None:
    result = pc.run(small.folder, output_dir=str(workspace))
    assert [outcome.skipped for outcome in result.outcomes] == [True] * 4
    assert pc.report(small, output_dir=workspace) == result.paths.report


def test_a_mismatch_is_a_verdict(small: ModelCard, workspace: Path) -> None:
    path = workspace / "public" / small.name / f"{small.name}.onnx"
    model = onnx.load(str(path))
    bias = next(tensor for tensor in model.graph.initializer if tensor.name.endswith("conv_seg.bias"))
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) + np.float32(1), bias.name))
    onnx.save(model, str(path))
    result = pc.verify(small, output_dir=workspace)
    assert result.verdict == "mismatch"
    assert result.stages["verify"].result.comparisons[0].passed is False
    assert isinstance(result.failure, MismatchError)


def test_evaluate_gives_the_scores_of_each_model(demo_run: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(demo_run, tmp_path / "demo")
    result = pc.evaluate("demo", output_dir=folder, limit=2, backend=["PyTorch", "FP32"])
    assert [score.backend for score in result.scores] == ["PyTorch", "IR FP32"]
    assert result.scores[1].drop == pytest.approx(0, abs=0.01)
    assert 0 < result.scores[0].mean_iou <= 100


def test_quantize_gives_the_int8_ir(small: ModelCard, quantized: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(quantized, tmp_path / "out")
    result = pc.quantize(small, output_dir=folder, min_agreement=LENIENT[1])
    assert result.verdict == "pass"
    assert list(result.paths.irs) == ["FP32", "FP16", "INT8"]


def test_segment_bundle_and_rebuild(small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    (painted,) = pc.segment(SAMPLES / "coffee.jpg", model=small, output_dir=workspace)
    assert painted.overlay.is_file()
    assert sum(painted.shares.values()) == pytest.approx(1)
    packed = pc.bundle(small, output_dir=workspace, output=tmp_path / "small.tar.gz")
    assert packed.path.is_file()
    rebuilt = pc.rebuild(workspace / "public" / small.name / "manifest.json")
    assert rebuilt.same
    assert rebuilt.failure is None


def test_list_and_info() -> None:
    assert [model.name for model in pc.list(search="demo")] == ["demo"]
    assert pc.info("demo").name == "demo"


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"precision": "INT8"}, "precision: 'INT8' is not one of 'FP32', 'FP16'"),
        ({"batch": 0}, "batch: 0 is neither a number from 1 to 64 nor dynamic"),
        ({"input_shape": (1, 3, 7, 7)}, "input_shape: (1, 3, 7, 7) is not 1,3,HEIGHT,WIDTH"),
        ({"fold_pyramid": "yes"}, "fold_pyramid: 'yes' is neither True nor False"),
        ({"output": "scores"}, "output: 'scores' is not one of 'labels', 'logits', 'probabilities'"),
        ({"mo_arg": {"": "x"}}, "mo_arg: has no name"),
        ({"mo_arg": ("static_shape", True)}, "mo_arg: True is neither NAME=VALUE nor a pair"),
        ({"opset": 18.5}, "opset: 18.5 is not a valid integer"),
        ({"opset": True}, "opset: True is not a valid integer"),
        ({"precision": []}, "precision: is empty"),
    ],
)
def test_a_wrong_value_is_an_option_error(tmp_path: Path, options: dict[str, object], words: str) -> None:
    with pytest.raises(OptionError) as raised:
        pc.run("demo", output_dir=tmp_path, **options)
    assert words in str(raised.value)
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_option_is_a_type_error(tmp_path: Path) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'shape'"):
        pc.run("demo", output_dir=tmp_path, shape=(1, 3, 80, 80))


def test_errors_are_those_of_the_command_line(small: ModelCard, tmp_path: Path) -> None:
    with pytest.raises(CardError, match="no model named 'nonsense'"):
        pc.run("nonsense", output_dir=tmp_path)
    with pytest.raises(ArtifactError, match="is not there yet"):
        pc.to_ir(small, output_dir=tmp_path)
    with pytest.raises(TypeError, match="missing a required argument: 'check'"):
        pc.rebuild()
    with pytest.raises(OptionError, match="check: is missing"):
        pc.rebuild(None)
    with pytest.raises(OptionError, match="images: is empty"):
        pc.segment([])
    with pytest.raises(OptionError, match="is neither a name, nor a path, nor a card"):
        pc.info(["demo"])


def test_a_path_is_never_a_name(small: ModelCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(small.folder, tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    assert pc.info(Path("demo")).name == small.name
    assert pc.info("demo").name == "demo"


def test_irs_of_an_earlier_conversion_are_not_among_the_paths(small: ModelCard, workspace: Path) -> None:
    result = pc.run(small, output_dir=workspace, precision="FP16")
    assert list(result.paths.irs) == ["FP16"]
    assert (result.paths.folder / "FP32" / f"{small.name}.xml").is_file()


def test_help_lists_the_options() -> None:
    assert "input_shape: The shape of one image." in (pc.run.__doc__ or "")
    assert "opset: 'int' = 18" in str(inspect.signature(pc.run))
    assert "run" in dir(pc)
