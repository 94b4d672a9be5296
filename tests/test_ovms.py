"""`bundle --layout ovms`: a model repository that OpenVINO Model Server reads, and the example's client of it."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
from bundles import LICENCE
from channel_models import blue_of, save_blue_model
from conftest import Cli, call, slow
from kserve_server import Served, load, serving
from ovms_rules import faults
from PIL import Image

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.runtimes.images import SAMPLES

CLIENT = Path(__file__).parent.parent / "examples" / "05-serving" / "client.py"
NAME = "small-standin"
PHOTO = SAMPLES / "chelsea.jpg"


def repository(cli: Cli, small: ModelCard, workspace: Path, target: Path, *options: object) -> Path:
    """The folder `models` of the bundle, unpacked into `target`."""
    archive = target / "small.tar.gz"
    done = cli("bundle", small.folder, "--output-dir", workspace, "-o", archive, "--layout", "ovms", *options)
    assert done.exit_code == 0, done.stderr
    with tarfile.open(archive) as opened:
        opened.extractall(target, filter="data")
    return target / "models"


def config_of(folder: Path) -> Any:
    (entry,) = json.loads((folder / "config.json").read_text(encoding="utf-8"))["model_config_list"]
    return entry["config"]


# The repository


def test_it_has_one_ir_as_version_1_and_the_documents(
    cli: Cli, small: ModelCard, small_run: Path, tmp_path: Path
) -> None:
    models = repository(cli, small, small_run, tmp_path)
    found = sorted(path.relative_to(models).as_posix() for path in models.rglob("*.*"))
    documents = [LICENCE, "manifest.json", "model.yml", "provenance.json", "report.html", "sbom.cdx.json"]
    ir = [f"{NAME}/1/{NAME}.bin", f"{NAME}/1/{NAME}.xml"]
    assert found == sorted(["config.json", *ir, *(f"{NAME}/{one}" for one in documents)])
    for half in ("bin", "xml"):
        converted = small_run / "public" / NAME / "FP16" / f"{NAME}.{half}"
        assert (models / NAME / "1" / f"{NAME}.{half}").read_bytes() == converted.read_bytes()


def test_the_server_would_read_it(cli: Cli, small: ModelCard, small_run: Path, tmp_path: Path) -> None:
    models = repository(cli, small, small_run, tmp_path)
    assert faults(models) == []
    assert config_of(models) == {
        "name": NAME,
        "base_path": NAME,
        "target_device": "CPU",
        "layout": {"input.1": "NCHW"},
        "shape": {"input.1": "(1,3,72,64)"},
        "plugin_config": {"PERFORMANCE_HINT": "LATENCY"},
    }


def no_base_path(models: Path, config: dict[str, Any]) -> None:
    del config["base_path"]


def unknown_key(models: Path, config: dict[str, Any]) -> None:
    config["device"] = "CPU"


def shape_as_list(models: Path, config: dict[str, Any]) -> None:
    config["shape"] = {"input.1": [1, 3, 72, 64]}


def shape_without_parentheses(models: Path, config: dict[str, Any]) -> None:
    config["shape"] = {"input.1": "1,3,72,64"}


def unknown_axis(models: Path, config: dict[str, Any]) -> None:
    config["layout"] = {"input.1": "NCHX"}


def option_as_list(models: Path, config: dict[str, Any]) -> None:
    config["plugin_config"] = {"PERFORMANCE_HINT": ["LATENCY"]}


def other_version(models: Path, config: dict[str, Any]) -> None:
    (models / NAME / "1").rename(models / NAME / "first")


def no_weights(models: Path, config: dict[str, Any]) -> None:
    (models / NAME / "1" / f"{NAME}.bin").unlink()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (no_base_path, "config has no base_path"),
        (unknown_key, "config must not have device"),
        (shape_as_list, "shape [1, 3, 72, 64] is not of its form"),
        (shape_without_parentheses, "shape '1,3,72,64' is not of its form"),
        (unknown_axis, "layout 'NCHX' is not of its form"),
        (option_as_list, "plugin_config PERFORMANCE_HINT is a list"),
        (other_version, "first is no number of a version"),
        (no_weights, "1 has not one .xml and one .bin"),
    ],
)
def test_the_rules_find_what_the_server_would_refuse(
    cli: Cli,
    small: ModelCard,
    small_run: Path,
    tmp_path: Path,
    spoil: Callable[[Path, dict[str, Any]], None],
    words: str,
) -> None:
    models = repository(cli, small, small_run, tmp_path)
    config = config_of(models)
    spoil(models, config)
    (models / "config.json").write_text(json.dumps({"model_config_list": [{"config": config}]}), encoding="utf-8")
    assert words in faults(models)


def test_the_same_files_give_the_same_archive_under_a_name_of_its_own(
    cli: Cli, small: ModelCard, small_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository(cli, small, small_run, tmp_path)
    monkeypatch.chdir(tmp_path)
    done = cli("bundle", small.folder, "--output-dir", small_run, "--layout", "ovms", "--json")
    assert done.json()["path"] == f"{NAME}-ovms.tar.gz"
    assert Path(f"{NAME}-ovms.tar.gz").read_bytes() == Path("small.tar.gz").read_bytes()


# Which IR


@pytest.mark.parametrize("precision", ["FP32", "FP16", "INT8"])
def test_the_precision_that_was_asked_for_is_served(
    cli: Cli, small: ModelCard, quantized: Path, tmp_path: Path, precision: str
) -> None:
    models = repository(cli, small, quantized, tmp_path, "--precision", precision)
    converted = quantized / "public" / NAME / precision / f"{NAME}.xml"
    assert (models / NAME / "1" / f"{NAME}.xml").read_bytes() == converted.read_bytes()
    assert faults(models) == []


def test_int8_has_to_be_asked_for(cli: Cli, small: ModelCard, quantized: Path, tmp_path: Path) -> None:
    models = repository(cli, small, quantized, tmp_path)
    converted = quantized / "public" / NAME / "FP16" / f"{NAME}.xml"
    assert (models / NAME / "1" / f"{NAME}.xml").read_bytes() == converted.read_bytes()


@pytest.fixture(scope="module")
def fp32_alone(small: ModelCard, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fp32")
    assert call("run", small.folder, "-o", folder, "--precision", "FP32").exit_code == 0
    return folder


@pytest.mark.parametrize(("precision", "command"), [("FP16", "run"), ("INT8", "quantize")])
def test_a_precision_that_is_not_there_is_an_error(
    cli: Cli, small: ModelCard, fp32_alone: Path, tmp_path: Path, precision: str, command: str
) -> None:
    arguments = ["--output-dir", fp32_alone, "--layout", "ovms", "-o", tmp_path / "a.tar.gz"]
    done = cli("bundle", small.folder, *arguments, "--precision", precision)
    assert done.exit_code == 11
    assert f"has no {precision} IR, only FP32. Run `pspnet-convert {command}`" in done.error
    assert not (tmp_path / "a.tar.gz").exists()


def test_fp32_is_served_where_that_is_all(cli: Cli, small: ModelCard, fp32_alone: Path, tmp_path: Path) -> None:
    models = repository(cli, small, fp32_alone, tmp_path)
    converted = fp32_alone / "public" / NAME / "FP32" / f"{NAME}.xml"
    assert (models / NAME / "1" / f"{NAME}.xml").read_bytes() == converted.read_bytes()


def test_a_precision_without_the_layout_is_an_error(cli: Cli, small: ModelCard, small_run: Path) -> None:
    done = cli("bundle", small.folder, "--output-dir", small_run, "--precision", "FP16")
    assert done.exit_code == 2
    assert "--precision goes with --layout ovms" in done.error


def test_an_ir_that_is_made_for_f32_is_served_in_f32(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    assert cli("to-ir", small.folder, "-o", workspace, "--winograd", "all").exit_code == 0
    models = repository(cli, small, workspace, tmp_path, "--allow-unverified")
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    assert config_of(models)["plugin_config"] == options
    compiled = load(models)[NAME].compiled
    assert compiled.get_property("INFERENCE_PRECISION_HINT") == openvino.Type.f32


# The client


def ask(url: str, target: Path, source: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run the client, or a changed `source` of it."""
    program = ["-c", source] if source is not None else [str(CLIENT)]
    command = [sys.executable, *program, f"{url}/v2/models/{NAME}", str(PHOTO), str(target)]
    return subprocess.run(command, capture_output=True, text=True)


def stretched(size: tuple[int, int]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The photograph as BGR [H, W, 3] of `size` (rows, columns)."""
    return np.asarray(Image.open(PHOTO).convert("RGB").resize(size[::-1], Image.Resampling.BILINEAR))[:, :, ::-1]


@pytest.mark.parametrize(
    ("options", "shape", "layout"),
    [
        ([], "(1,3,72,64)", "NCHW"),
        (["--batch", "dynamic", "--input-type", "u8", "--input-layout", "NHWC"], "(-1,72,64,3)", "NHWC"),
        slow(["--batch", "2", "--input-type", "u16"], "(2,3,72,64)", "NCHW"),
    ],
    ids=str,
)
def test_the_client_gets_the_irs_label_map(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path, options: list[str], shape: str, layout: str
) -> None:
    for command, of_command in zip(("export-onnx", "to-ir"), (options[:2], options[2:])):
        assert cli(command, small.folder, "-o", workspace, *of_command).exit_code == 0
    folder = repository(cli, small, workspace, tmp_path, "--allow-unverified")
    assert faults(folder) == []
    assert (config_of(folder)["shape"], config_of(folder)["layout"]) == ({"input.1": shape}, {"input.1": layout})
    models = load(folder)
    with serving(models) as url:
        done = ask(url, tmp_path / "labels.png")
    assert done.returncode == 0, done.stderr
    (tensor,) = models[NAME].received
    image = stretched((72, 64))
    assert all(np.array_equal(one, image if layout == "NHWC" else image.transpose(2, 0, 1)) for one in tensor)
    compiled = openvino.compile_model(str(folder / NAME / "1" / f"{NAME}.xml"), "CPU")
    expected = compiled(tensor)[0][0, 0]
    labels = np.asarray(Image.open(tmp_path / "labels.png"))
    assert np.array_equal(labels, expected)
    assert len(np.unique(labels)) > 1


@pytest.fixture(scope="module")
def server(small_run: Path) -> Iterator[str]:
    compiled = openvino.compile_model(str(small_run / "public" / NAME / "FP32" / f"{NAME}.xml"), "CPU")
    with serving({NAME: Served(NAME, compiled, {})}) as url:
        yield url


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("tensor.nbytes", "tensor.nbytes + 1"),
        ("tensor.tobytes(),", "tensor.tobytes()[:-1],"),
        ("str(len(header))", "str(len(header) - 1)"),
        ('"shape": shape', '"shape": shape[1:]'),
        ('"shape": shape', '"shape": [2, *shape[1:]]'),
        ("{**takes,", '{**takes, "datatype": "FP16",'),
        ("{**takes,", '{**takes, "name": "image",'),
        ("{**takes,", '{**takes, "data": [],'),
        ('label_map["name"]', '"logits"'),
        ('"binary_data": True', '"binary_data": 1.5'),
        ('"inputs": [given]', '"inputs": [given, given]'),
        ("/infer", "/predict"),
        (', "Inference-Header-Content-Length"', ', "Content-Length-Of-Header"'),
    ],
)
def test_the_server_refuses_another_request(server: str, tmp_path: Path, right: str, wrong: str) -> None:
    source = CLIENT.read_text(encoding="utf-8")
    assert source.count(right) == 1
    done = ask(server, tmp_path / "labels.png", source.replace(right, wrong))
    assert done.returncode != 0
    assert "HTTP Error 40" in done.stderr
    assert not (tmp_path / "labels.png").exists()


def test_an_ir_with_probabilities_gives_the_client_its_label_map(tmp_path: Path) -> None:
    xml = save_blue_model(tmp_path / "blue.xml", probabilities=True)
    with serving({NAME: Served(NAME, openvino.compile_model(str(xml), "CPU"), {})}) as url:
        done = ask(url, tmp_path / "labels.png")
    assert done.returncode == 0, done.stderr
    expected = blue_of(np.asarray(Image.open(PHOTO).convert("RGB")), (40, 56))
    assert np.array_equal(np.asarray(Image.open(tmp_path / "labels.png")), expected)


def test_the_client_in_the_documents_is_the_example() -> None:
    page = (CLIENT.parents[2] / "docs" / "serving.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"^```python\n(.*?)^```$", page, flags=re.MULTILINE | re.DOTALL)
    _, _, code = CLIENT.read_text(encoding="utf-8").rpartition('"""\n\n')
    assert shown == code
