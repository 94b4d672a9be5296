"""Model Optimizer and ovc: the same result from both in either runtime; and the messages if one is missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import manifests
import onnx
import pytest
from conftest import Cli, needs_mo, write_small_card
from irs import PHOTO, assert_equal_from_outside, assert_equal_label_maps, by_both
from make_standin_checkpoint import make_standin

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.export_onnx.write_onnx import write_onnx
from pspnet_convert.image_shape import DYNAMIC
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import build_network
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.openvino_install import has_model_optimizer

pytestmark = pytest.mark.openvino

# The first environment that scripts/test makes. It has Model Optimizer, if that exists for this Python.
FIRST = Path(__file__).parent.parent / ".venv" / "bin" / "python"
without_mo = pytest.mark.skipif(
    has_model_optimizer() or (FIRST.is_file() and not FIRST.with_name("mo").is_file()),
    reason="needs a current OpenVINO here, and Model Optimizer in the first environment of scripts/test",
)


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def test_model_optimizer_is_found_where_it_comes_with_openvino() -> None:
    assert has_model_optimizer() == version("openvino").startswith("2024.")


# The same from both


@pytest.mark.slow
@needs_mo
def test_both_give_the_same_of_the_demo(demo_run: Path, tmp_path: Path) -> None:
    card = find_card("demo")
    made = by_both(demo_run / "public" / "demo" / "demo.onnx", card, tmp_path)
    for precision in ("FP32", "FP16"):
        assert_equal_from_outside(made["mo"][precision], made["ovc"][precision])
    picture = sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[0]
    assert_equal_label_maps(made["mo"]["FP32"], made["ovc"]["FP32"], card, picture)


@needs_mo
def test_both_give_the_same_of_the_small_model(small: ModelCard, small_run: Path, tmp_path: Path) -> None:
    made = by_both(small_run / "public" / "small-standin" / "small-standin.onnx", small, tmp_path)
    for precision in ("FP32", "FP16"):
        assert_equal_from_outside(made["mo"][precision], made["ovc"][precision])
    assert_equal_label_maps(made["mo"]["FP32"], made["ovc"]["FP32"], small, PHOTO)


@pytest.mark.slow
@needs_mo
def test_both_give_the_same_in_another_form(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    """Bytes, channels last, any number of images."""
    exported = cli(
        "export-onnx", small.folder, "--checkpoint", small.folder / "standin.pth", "--batch", "dynamic", "-o", tmp_path
    )
    assert exported.exit_code == 0, exported.stderr
    shape, form = (DYNAMIC, *small.input.shape[1:]), InputForm("u8", "NHWC")
    onnx_path = tmp_path / "public" / "small-standin" / "small-standin.onnx"
    made = by_both(onnx_path, small, tmp_path, shape, form)
    for precision in ("FP32", "FP16"):
        assert_equal_from_outside(made["mo"][precision], made["ovc"][precision])
    assert_equal_label_maps(made["mo"]["FP32"], made["ovc"]["FP32"], small, PHOTO, shape, form)


@pytest.mark.slow
@needs_mo
def test_both_give_the_same_at_769_with_align_corners(tmp_path: Path) -> None:
    """No bin of the pyramid divides this size, and mmsegmentation has a config for it."""
    plan = load_card(
        write_small_card(tmp_path / "card", name="at769", config="pspnet/pspnet_r18-d8_4xb2-80k_cityscapes-769x769.py")
    )
    data = plan.model_dump(mode="json", exclude_none=True)
    data["input"]["shape"] = [1, 3, 769, 769]
    data["output"]["shape"] = [1, 1, 769, 769]
    card = load_card(make_standin(ModelCard.model_validate(data), tmp_path / "card"))
    network = build_network(card, load_checkpoint(card.folder / card.checkpoint.name, card))
    assert network.align_corners
    write_onnx(network, card, tmp_path / "at769.onnx", ExportOptions(card.input.shape), {"name": card.name})
    made = by_both(tmp_path / "at769.onnx", card, tmp_path)
    assert_equal_from_outside(made["mo"]["FP32"], made["ovc"]["FP32"])
    assert_equal_label_maps(made["mo"]["FP32"], made["ovc"]["FP32"], card, PHOTO)


# Each runtime reads both


def first(*arguments: object) -> subprocess.CompletedProcess[str]:
    """pspnet-convert in the environment with Model Optimizer; there must be one."""
    assert FIRST.is_file(), f"{FIRST} is missing: scripts/test makes it"
    command = [str(FIRST), "-m", "pspnet_convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.mark.slow
@without_mo
def test_what_model_optimizer_made_runs_here(cli: Cli, demo_run: Path, tmp_path: Path) -> None:
    done = first("run", "demo", "-o", tmp_path, "--front-end", "mo")
    assert done.returncode == 0, done.stderr
    ir = tmp_path / "public" / "demo" / "FP32" / "demo.xml"
    assert "<MO_version " in ir.read_text()
    result = cli("verify", "demo", "-o", demo_run, "--ir", ir, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = result.json()["stages"][0]["result"]["comparisons"]
    assert row["agreement"] > 0.9999
    own = demo_run / "public" / "demo" / "FP32" / "demo.xml"
    assert_equal_from_outside(ir, own)
    card = find_card("demo")
    assert_equal_label_maps(ir, own, card, sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[0])


@pytest.mark.slow
@without_mo
def test_what_is_made_here_runs_with_model_optimizers_runtime(demo_run: Path, tmp_path: Path) -> None:
    ir = demo_run / "public" / "demo" / "FP32" / "demo.xml"
    checkpoint = find_card("demo").folder / "demo.pth"
    done = first("verify", "demo", "-o", tmp_path, "--checkpoint", checkpoint, "--ir", ir, "--json")
    assert done.returncode == 0, done.stderr


# Which is used


def test_the_manifest_names_the_one_that_was_used(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    used = "mo" if has_model_optimizer() else "ovc"
    assert manifests.read(folder)["stages"]["to-ir"]["options"]["front_end"] == used
    assert cli("to-ir", small.folder, "-o", workspace, "--front-end", "ovc").exit_code == 0
    record = manifests.read(folder)["stages"]["to-ir"]
    assert record["options"]["front_end"] == "ovc"
    assert set(record["tools"]) == {"pspnet-convert", "openvino"}
    assert "<MO_version " not in (folder / "FP32" / "small-standin.xml").read_text()
    assert cli("verify", small.folder, "-o", workspace).exit_code == 0


def test_ovc_logs_no_traceback(cli: Cli, small: ModelCard, workspace: Path) -> None:
    """It does so if it gets a path and torch is installed."""
    result = cli("to-ir", small.folder, "-o", workspace, "--front-end", "ovc", "--force", "--debug")
    assert result.exit_code == 0
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("command", ["to-ir", "run"])
def test_ovc_takes_no_argument_of_model_optimizer(cli: Cli, small: ModelCard, tmp_path: Path, command: str) -> None:
    arguments = ["--front-end", "ovc", "--mo-arg", "static_shape"]
    result = cli(command, small.folder, "-o", tmp_path, *arguments)
    assert result.exit_code == 8
    assert "--mo-arg static_shape: is for Model Optimizer, but the front-end is ovc" in result.error
    assert not list(tmp_path.rglob("*.pth"))  # the error came before any work


@pytest.mark.parametrize("name", [pytest.param("mo", marks=needs_mo), "ovc"])
def test_an_onnx_that_a_front_end_refuses(cli: Cli, small: ModelCard, workspace: Path, folder: Path, name: str) -> None:
    path = folder / "small-standin.onnx"
    model = onnx.load(str(path))
    next(node for node in model.graph.node if node.op_type == "Relu").op_type = "Nonsense"
    onnx.save(model, str(path))
    before = {path: path.read_bytes() for path in folder.glob("FP*/*")}
    result = cli("to-ir", small.folder, "-o", workspace, "--front-end", name)
    assert result.exit_code == 8
    label = {"mo": "Model Optimizer", "ovc": "ovc"}[name]
    assert f"small-standin.onnx: {label} refuses: " in result.error
    assert "Nonsense" in result.error
    assert {path: path.read_bytes() for path in folder.glob("FP*/*")} == before


# If one or both are missing


def program(site: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """pspnet-convert in a process of its own, with `site` first on its path."""
    command = [sys.executable, "-m", "pspnet_convert", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(site)})


@pytest.fixture
def without_openvino(tmp_path: Path) -> Path:
    """A folder with a sitecustomize that hides OpenVINO, as if it were not installed."""
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "sitecustomize.py").write_text(
        "import sys\n"
        "from importlib.machinery import PathFinder\n"
        "class Finder(PathFinder):\n"
        "    @classmethod\n"
        "    def find_spec(cls, name, path=None, target=None):\n"
        "        hidden = name.partition('.')[0] == 'openvino'\n"
        "        return None if hidden else super().find_spec(name, path, target)\n"
        "sys.meta_path[:] = [Finder if finder is PathFinder else finder for finder in sys.meta_path]\n"
    )
    return tmp_path / "site"


# Each line of its stdin is a command; prints exit code and stderr of each, as JSON.
EACH = """
import json, sys
from click.testing import CliRunner
from pspnet_convert.cli import cli
for line in sys.stdin:
    done = CliRunner().invoke(cli, line.split())
    print(json.dumps([done.exit_code, done.stderr]))
"""
NEED_OPENVINO = """
run MODEL -o OUT
run MODEL -o OUT --front-end mo
to-ir MODEL -o OUT --force
verify MODEL -o OUT --force
verify MODEL -o OUT --ir OUT/public/small-standin/FP32/small-standin.xml
quantize MODEL -o OUT
benchmark MODEL -o OUT
evaluate MODEL -o OUT --dataset DEMO
rebuild --check OUT/public/small-standin/manifest.json
segment PHOTO --model MODEL -o OUT
""".strip()


def test_every_stage_that_needs_openvino_says_so_where_it_is_missing(
    small: ModelCard, workspace: Path, without_openvino: Path
) -> None:
    words = {"MODEL": str(small.folder), "OUT": str(workspace), "PHOTO": str(PHOTO)}
    words["DEMO"] = str(find_card("demo").folder / "voc")
    commands = NEED_OPENVINO
    for word, value in words.items():
        commands = commands.replace(word, value)
    environment = {**os.environ, "PYTHONPATH": str(without_openvino)}
    process = [sys.executable, "-c", EACH]
    done = subprocess.run(process, input=commands, capture_output=True, text=True, env=environment)
    answers = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(answers) == len(commands.splitlines()), done.stderr
    for command, (code, stderr) in zip(NEED_OPENVINO.splitlines(), answers):
        assert code == 14, (command, stderr)
        assert_it_asks_for_openvino(stderr)


def test_a_process_without_openvino_ends_with_exit_14(
    small: ModelCard, workspace: Path, without_openvino: Path
) -> None:
    done = program(without_openvino, "verify", small.folder, "-o", workspace, "--force")
    assert done.returncode == 14, done.stderr
    assert_it_asks_for_openvino(done.stderr)


def assert_it_asks_for_openvino(stderr: str) -> None:
    *_, last = stderr.splitlines()
    assert last.startswith("error: openvino is not installed. Install it with pip install 'pspnet-convert[mo]'")
    assert "Traceback" not in stderr


def test_an_onnx_is_compared_without_openvino(small: ModelCard, workspace: Path, without_openvino: Path) -> None:
    path = workspace / "public" / "small-standin" / "small-standin.onnx"
    done = program(without_openvino, "verify", small.folder, "-o", workspace, "--onnx", path)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", ["to-ir", "rebuild"])
def test_model_optimizer_is_asked_for_and_not_installed(
    small: ModelCard, workspace: Path, folder: Path, tmp_path: Path, command: str
) -> None:
    """OpenVINO is there without it: an empty package comes first on the path."""
    (tmp_path / "openvino").mkdir()
    (tmp_path / "openvino" / "__init__.py").touch()
    with manifests.changed(folder) as data:
        data["stages"]["to-ir"]["options"]["front_end"] = "mo"
    told = {
        "to-ir": ["to-ir", small.folder, "-o", workspace, "--front-end", "mo"],
        "rebuild": ["rebuild", "--check", folder / "manifest.json"],
    }
    done = program(tmp_path, *told[command])
    assert done.returncode == 14, done.stderr
    *_, last = done.stderr.splitlines()
    assert last == "error: Model Optimizer is not installed. Install it with pip install 'pspnet-convert[mo]'."
