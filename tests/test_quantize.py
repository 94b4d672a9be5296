"""INT8: made by the real NNCF, with the FP32 IR's names and shapes; a wrong model does not pass."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import openvino
import pytest
import voc
from click.testing import CliRunner
from conftest import LENIENT, Cli, Run, needs_mo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from make_standin_checkpoint import make_standin
from numpy.typing import NDArray
from PIL import Image

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.child_process import run_in_child
from pspnet_convert.cli import cli as command_line
from pspnet_convert.commands.quantize.calibrate import calibration_images, checked_images, write_int8
from pspnet_convert.commands.quantize.image_files import evenly_spread, find_images, usable_images
from pspnet_convert.commands.quantize.int8_check import Int8Check, check_int8
from pspnet_convert.commands.quantize.recipe import PLAIN_RECIPE
from pspnet_convert.errors import ContractError, ImageError, QuantizationError
from pspnet_convert.runtimes.backends import Prediction
from pspnet_convert.runtimes.child_model import OpenModel
from pspnet_convert.runtimes.images import SAMPLES
from pspnet_convert.runtimes.input_form import PLAIN
from pspnet_convert.runtimes.io_signature import ir_signature
from pspnet_convert.runtimes.openvino_install import operations

pytestmark = pytest.mark.openvino


@pytest.fixture
def copied(quantized: Path, tmp_path: Path) -> Path:
    return shutil.copytree(quantized, tmp_path / "copied")


def irs(folder: Path, name: str = "small-standin") -> dict[str, Path]:
    return {precision: folder / "public" / name / precision / f"{name}.xml" for precision in ("FP32", "INT8")}


def read(path: Path) -> openvino.Model:
    return openvino.Core().read_model(str(path))


def inputs_of(model: openvino.Model, kind: str) -> list[str]:
    """The types of what each node of `kind` takes."""
    nodes = [node for node in model.get_ops() if node.get_type_name() == kind]
    return [source.get_source_output().get_node().get_type_name() for node in nodes for source in node.inputs()]


def stages(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "public" / "small-standin" / "manifest.json").read_text())["stages"]


def pictures(folder: Path, count: int) -> Path:
    folder.mkdir(parents=True)
    for number in range(count):
        pixels = np.random.default_rng(number).integers(0, 256, (90, 70, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    return folder


# What is made


def test_the_int8_ir_takes_and_gives_what_the_fp32_ir_does(quantized: Path) -> None:
    fp32, int8 = (read(path) for path in irs(quantized).values())
    assert ir_signature(int8) == ir_signature(fp32)


def test_convolutions_are_quantized_and_of_the_products_only_the_pooling(quantized: Path) -> None:
    model = read(irs(quantized)["INT8"])
    weights = {op.get_element_type().get_type_name() for op in model.get_ops() if op.get_type_name() == "Constant"}
    assert "i8" in weights
    assert "FakeQuantize" in inputs_of(model, "Convolution")
    assert inputs_of(model, "MatMul").count("FakeQuantize") == 2  # the map, and what is summed


def test_the_file_is_a_third_of_the_fp32_ir_at_most(quantized: Path) -> None:
    fp32, int8 = (path.with_suffix(".bin").stat().st_size for path in irs(quantized).values())
    assert int8 < fp32 / 3


def test_the_manifest_records_both_stages(quantized: Path, small: ModelCard) -> None:
    made, checked = stages(quantized)["quantize"], stages(quantized)["verify-int8"]
    assert [record["file"] for record in made["inputs"]["models"]] == [
        "FP32/small-standin.bin",
        "FP32/small-standin.xml",
    ]
    assert [record["file"] for record in made["outputs"]] == ["INT8/small-standin.bin", "INT8/small-standin.xml"]
    assert [record["file"] for record in made["inputs"]["images"]] == ["astronaut.jpg", "chelsea.jpg", "coffee.jpg"]
    assert "nncf" in made["tools"]
    assert {"openvino", "numpy", "pillow"} <= set(checked["tools"])
    result = checked["result"]
    assert result["verdict"] == "pass"
    assert 0.5 <= result["agreement"] < 1
    assert result["agreement"] == 1 - result["differing"] / result["pixels"]
    assert [(row["weights"], row["at"]) for row in result["latency"]] == [
        ("FP32", "f32"),
        ("FP32", "default"),
        ("INT8", "default"),
    ]
    assert result["latency"][0]["ratio"] == 1
    assert str(quantized) not in json.dumps(stages(quantized))


@pytest.mark.slow
def test_the_same_inputs_give_the_same_bytes(small: ModelCard, quantized: Path, tmp_path: Path) -> None:
    found = irs(quantized)
    made = tmp_path / "elsewhere" / "int8.xml"
    made.parent.mkdir()
    write_int8(found["FP32"], small, small.input.shape, PLAIN, calibration_images(small, None, 300), made)
    assert made.read_bytes() == found["INT8"].read_bytes()
    assert made.with_suffix(".bin").read_bytes() == found["INT8"].with_suffix(".bin").read_bytes()


def test_no_name_is_a_count_of_the_process(quantized: Path) -> None:
    """Such a count differs between two runs (run_nncf.py), but not always: the test above may miss it."""
    fp32, int8 = (
        {op.get_friendly_name(): op.get_type_name() for op in read(path).get_ops()} for path in irs(quantized).values()
    )
    counted = {name for name, kind in int8.items() if name.rpartition("_")[0] == kind}
    assert counted <= fp32.keys()
    assert int8.keys() - fp32.keys()


@pytest.mark.slow
def test_an_unfolded_pyramid_is_quantized_too(cli: Cli, small: ModelCard, workspace: Path) -> None:
    common = (small.folder, "-o", workspace)
    assert cli("export-onnx", *common, "--no-fold-pyramid").exit_code == 0
    assert cli("to-ir", *common, "--precision", "FP32").exit_code == 0
    result = cli("quantize", *common, *LENIENT)
    assert result.exit_code == 0, result.stderr
    # NNCF quantizes no product's weights; those of the pooling are exact (int8_graph.py).
    products = [node for node in read(irs(workspace)["INT8"]).get_ops() if node.get_type_name() == "MatMul"]
    weights = [node.input_value(1).get_node() for node in products]
    chosen = [one.input_value(0).get_node().data for one in weights if one.get_type_name() == "FakeQuantize"]
    assert products
    assert {value for one in chosen for value in np.unique(one).tolist()} <= {0, 1}


# When it is made


@pytest.mark.slow
def test_only_what_has_changed_is_done_again(cli: Cli, small: ModelCard, copied: Path, tmp_path: Path) -> None:
    def skipped(*arguments: object) -> list[bool]:
        result = cli("quantize", small.folder, "-o", copied, "--json", *arguments)
        assert result.exit_code == 0, result.stderr
        return [stage["skipped"] for stage in result.json()["stages"]]

    assert skipped(*LENIENT) == [True, True]
    assert skipped("--min-agreement", 0.4) == [True, False]
    folder = pictures(tmp_path / "pictures", 2)
    before = irs(copied)["INT8"].with_suffix(".bin").read_bytes()
    others = ("--calibration", folder, "--min-agreement", 0)
    assert skipped(*others) == [False, False]
    assert irs(copied)["INT8"].with_suffix(".bin").read_bytes() != before
    assert skipped(*others) == [True, True]
    with irs(copied)["FP32"].open("a") as file:
        file.write("\n")
    assert skipped(*others)[0] is False


@pytest.mark.slow
def test_it_is_quiet_and_shows_its_progress(offline: Run, small: ModelCard, workspace: Path) -> None:
    done = offline("quantize", small.folder, "-o", workspace, *LENIENT, "--progress", "json", cwd=workspace)
    assert done.returncode == 0, done.stderr
    events = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    assert [event for event in events if event["event"] == "quantize"][-1]["images"] == 3
    assert "nncf" not in (done.stdout + done.stderr).lower()
    assert len(done.stderr.splitlines()) == 4, done.stderr  # two stages begin and end


@pytest.mark.slow
def test_it_works_where_only_ascii_can_be_printed(
    small: ModelCard, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNCF prints a table of its own, and a picture's name may be undecodable."""
    folder = pictures(workspace / os.fsdecode(b"\xff"), 1)
    (folder / "00.png").rename(folder / os.fsdecode(b"\xfe.png"))
    monkeypatch.setenv("PYTHONIOENCODING", "ascii")
    command = [sys.executable, "-m", "pspnet_convert", "quantize", small.folder, "-o", workspace, *LENIENT, "--json"]
    done = subprocess.run([*map(str, command), "--calibration", folder], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["stages"][1]["result"]["inputs"] == ["\ufffd.png"]


# Which pictures


@given(count=st.integers(1, 40), subset=st.integers(1, 50))
def test_a_subset_is_spread_evenly(tmp_path_factory: pytest.TempPathFactory, count: int, subset: int) -> None:
    folder = tmp_path_factory.mktemp("many")
    for number in range(count):
        (folder / f"{number:03}.jpg").touch()
    (folder / "notes.txt").touch()
    chosen = [int(path.stem) for path in evenly_spread(find_images(folder, warns=False), subset)]
    assert len(chosen) == min(count, subset)
    gaps = set(np.diff(chosen).tolist())
    assert gaps <= {count // len(chosen), count // len(chosen) + 1}
    assert min(gaps, default=1) >= 1


def test_the_cards_dataset_comes_first_and_then_the_samples(small: ModelCard) -> None:
    assert {path.parent.parent.name for path in calibration_images(find_card("demo"), None, 300)} == {"voc"}
    assert {path.parent.name for path in calibration_images(small, None, 300)} == {"samples"}


def test_a_damaged_image_of_the_cards_dataset_is_left_out_everywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = shutil.copytree(find_card("demo").folder, tmp_path / "demo")
    card = load_card(folder / "model.yml")
    images = calibration_images(card, None, 300)
    images[0].write_bytes(images[0].read_bytes()[:500])
    usable = calibration_images(card, None, 300)
    assert usable == images[1:]
    checked = checked_images(card, usable)
    assert images[0] not in checked and len(checked) >= 8
    assert f"{images[0]}: cannot be read as an image" in caplog.text


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(is_damaged=st.lists(st.booleans(), min_size=1, max_size=12), number=st.integers(1, 14))
def test_others_take_the_place_of_damaged_images(
    small: ModelCard, tmp_path: Path, is_damaged: list[bool], number: int
) -> None:
    good = Path(shutil.copy(SAMPLES / "chelsea.jpg", tmp_path / "good.jpg"))
    bad = tmp_path / "bad.jpg"
    bad.touch()
    images = [bad if damaged else good for damaged in is_damaged]
    usable = [path for path in images if path == good]
    if not usable:
        with pytest.raises(ImageError, match=r"bad\.jpg"):
            usable_images(small, images, number)
        return
    assert usable_images(small, images, number) == usable[:number]


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"smooth": 0.5}, {"accurate_bias": True}], ids=["SmoothQuant", "accurate bias"])
def test_each_image_counts_once(small: ModelCard, small_run: Path, tmp_path: Path, changes: dict[str, Any]) -> None:
    """Though NNCF reads them again."""
    images, noted = calibration_images(small, None, 3), []
    recipe = replace(PLAIN_RECIPE, **changes)
    fp32, target = irs(small_run)["FP32"], tmp_path / "int8.xml"
    write_int8(fp32, small, small.input.shape, PLAIN, images, target, lambda: noted.append(1), recipe=recipe)
    assert len(noted) == len(images)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none", "none: cannot be read as a folder: No such file"),
        ("empty", "empty: has no pictures"),
        ("bad", "x.jpg: is not an image"),
        ("list.png", "list.png: is neither a folder nor a list of images, one path a line"),
        ("list.txt", "list.txt: has no pictures"),
        ("gone.txt", "gone.png: cannot be read as an image: No such file"),
    ],
)
def test_an_unusable_folder_is_named(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_text("no picture")
    Image.new("RGB", (8, 8)).save(tmp_path / "list.png")
    (tmp_path / "list.txt").write_text("\n")
    (tmp_path / "gone.txt").write_text("gone.png\n")
    result = cli("quantize", small.folder, "-o", workspace, "--calibration", tmp_path / name)
    assert result.exit_code == 13
    assert message in result.error
    assert not irs(workspace)["INT8"].exists()


def test_folders_are_read_with_the_folders_in_them(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    """What is no image is skipped with one warning, what is a damaged one with another."""
    folder = pictures(tmp_path / "pictures", 2)
    pictures(folder / "inner" / "most", 1)
    (folder / "inner" / "notes.txt").touch()
    (folder / "inner" / "b.png").write_bytes((folder / "00.png").read_bytes()[:500])
    (folder / "link").symlink_to(folder / "inner")
    (folder / "inner" / "back").symlink_to(folder)
    result = cli("quantize", small.folder, "-o", workspace, *LENIENT, "--calibration", folder)
    assert result.exit_code == 0, result.stderr
    images = [record["file"] for record in stages(workspace)["quantize"]["inputs"]["images"]]
    assert images == ["00.png", "01.png", "inner/most/00.png"]
    assert result.stderr.count(f"{folder}: 1 file skipped, being no image: inner/notes.txt") == 1
    assert result.stderr.count("1 image cannot be used, and no INT8 IR sees it: ") == 1
    assert f"{folder / 'inner' / 'b.png'}: cannot be read as an image" in result.stderr


def test_a_list_file_names_the_images(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    folder = pictures(tmp_path / "pictures", 3)
    lists = tmp_path / "lists"
    lists.mkdir()
    # utf-8-sig: as Windows writes it.
    (lists / "some.txt").write_text(f"../pictures/02.png\n\n{folder / '00.png'}\n", encoding="utf-8-sig")
    result = cli("quantize", small.folder, "-o", workspace, *LENIENT, "--calibration", lists / "some.txt")
    assert result.exit_code == 0, result.stderr
    images = [record["file"] for record in stages(workspace)["quantize"]["inputs"]["images"]]
    assert images == ["02.png", "00.png"]


# What the user asks NNCF for


def test_a_layer_can_be_left_out(cli: Cli, small: ModelCard, workspace: Path) -> None:
    """By the beginning of its name, or by a regular expression."""

    def convolutions(model: openvino.Model) -> dict[str, bool]:
        """Whether each is quantized."""
        nodes = [node for node in model.get_ops() if node.get_type_name() == "Convolution"]
        return {
            node.get_friendly_name(): node.input_value(1).get_node().get_type_name() != "Constant" for node in nodes
        }

    first = next(iter(convolutions(read(irs(workspace)["FP32"]))))
    chosen = ("--ignore-layer", first, "--ignore-layer", r".*projections\.[01].*", "--preset", "mixed")
    result = cli("quantize", small.folder, "-o", workspace, *LENIENT, *chosen)
    assert result.exit_code == 0, result.stderr
    found = convolutions(read(irs(workspace)["INT8"]))
    kept = {name for name, is_quantized in found.items() if not is_quantized}
    assert kept == {first, *(name for name in found if "projections.0" in name or "projections.1" in name)}
    recipe = stages(workspace)["quantize"]["inputs"]["recipe"]
    assert kept <= set(recipe["ignored"])
    assert recipe["preset"] == "mixed"


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("no_such", "--ignore-layer no_such: no layer of the FP32 IR has such a name. It has "),
        ("(", "--ignore-layer (: is no regular expression: missing )"),
        ("", "--ignore-layer is empty"),
        (".*", "--ignore-layer leaves no convolution to quantize"),
    ],
)
def test_a_pattern_that_names_no_layer_or_all_is_an_error(
    cli: Cli, small: ModelCard, workspace: Path, pattern: str, message: str
) -> None:
    result = cli("quantize", small.folder, "-o", workspace, "--ignore-layer", pattern)
    assert result.exit_code == 2
    assert message in result.error
    assert not irs(workspace)["INT8"].exists()


# What can go wrong


def test_without_an_fp32_ir_it_says_what_to_run(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    result = cli("quantize", small.folder, "-o", tmp_path)
    assert result.exit_code == 11
    assert "Run `pspnet-convert to-ir` first" in result.error


def test_an_fp32_ir_of_an_earlier_conversion_is_refused(cli: Cli, small: ModelCard, workspace: Path) -> None:
    assert cli("to-ir", small.folder, "-o", workspace, "--precision", "FP16").exit_code == 0
    result = cli("quantize", small.folder, "-o", workspace)
    assert result.exit_code == 11
    assert (
        "small-standin.xml: is of an earlier conversion. Run `pspnet-convert to-ir --precision FP32` first"
        in result.error
    )


@pytest.mark.slow
def test_an_int8_ir_of_another_checkpoint_is_refused(cli: Cli, small: ModelCard, copied: Path, tmp_path: Path) -> None:
    other = make_standin(small, tmp_path, seed=1).with_name("standin.pth")
    assert cli("run", small.folder, "-o", copied, "--checkpoint", other, "--allow-unknown-checkpoint").exit_code == 0
    picture = calibration_images(small, None, 1)[0]
    dataset = ["--dataset", voc.write(tmp_path / "voc", small, [(72, 64)]), "--checkpoint", other]
    dataset.append("--allow-unknown-checkpoint")
    common = ["-o", copied, "--json"]
    for command in (
        ["segment", picture, "--model", small.folder, "--precision", "INT8", *common],
        ["evaluate", small.folder, *dataset, "--backend", "INT8", *common],
    ):
        result = cli(*command)
        assert result.exit_code == 11, result.stderr
        assert (
            "INT8/small-standin.xml: is of an earlier conversion. Run `pspnet-convert quantize` first" in result.error
        )
    result = cli("evaluate", small.folder, *dataset, *common)
    assert "IR INT8" not in [score["backend"] for score in result.json()["result"]["scores"]]
    assert "is of an earlier conversion, and is not evaluated" in result.stderr


def test_without_nncf_it_says_what_to_install(
    cli: Cli, small: ModelCard, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nncf", None)
    result = cli("quantize", small.folder, "-o", workspace)
    assert result.exit_code == 14
    assert "pip install 'pspnet-convert[int8]'" in result.error


def test_a_failure_of_nncf_is_reported_in_its_words(
    cli: Cli, small: ModelCard, copied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NNCF is installed but broken; --debug shows all its output."""
    (tmp_path / "nncf.py").write_text("print('on its way')\nraise ImportError('built for another NumPy')\n")
    monkeypatch.syspath_prepend(tmp_path)
    before = irs(copied)["INT8"].read_bytes()
    result = cli("quantize", small.folder, "-o", copied, "--force", "--debug")
    assert result.exit_code == 18
    assert "NNCF refuses: built for another NumPy" in result.stderr.splitlines()[-1]
    assert "DEBUG: NNCF: on its way" in result.stderr
    assert irs(copied)["INT8"].read_bytes() == before


def test_a_process_that_dies_is_an_error() -> None:
    assert "No module named pspnet_convert.no_such" in run_in_child("no_such", {}, "Nobody")


def test_a_picture_that_goes_away_is_an_error(small: ModelCard, quantized: Path, tmp_path: Path) -> None:
    with pytest.raises(QuantizationError, match=r"gone\.jpg"):
        gone = [tmp_path / "gone.jpg"]
        write_int8(irs(quantized)["FP32"], small, small.input.shape, PLAIN, gone, tmp_path / "int8.xml")


def test_segment_takes_the_int8_ir_or_says_how_to_make_it(
    cli: Cli, small: ModelCard, workspace: Path, copied: Path, tmp_path: Path
) -> None:
    picture = pictures(tmp_path / "pictures", 1) / "00.png"
    common = ("segment", picture, "--model", small.folder, "--precision", "INT8", "-o")
    assert cli(*common, copied).exit_code == 0
    result = cli(*common, workspace)
    assert result.exit_code == 11
    assert "for INT8, `pspnet-convert quantize`" in result.error


# What the check of the INT8 IR finds


def test_too_little_agreement_fails(cli: Cli, small: ModelCard, copied: Path) -> None:
    result = cli("quantize", small.folder, "-o", copied, "--min-agreement", 1)
    assert result.exit_code == 9
    assert "of the pixels, 100.00% required" in result.error
    assert "IR INT8" in result.stdout


@needs_mo
def test_an_nncf_that_is_not_for_this_openvino(small: ModelCard, small_run: Path, tmp_path: Path) -> None:
    """Its metadata has the version that pip installs by default."""
    told = tmp_path / "nncf-3.4.0.dist-info" / "METADATA"
    told.parent.mkdir()
    told.write_text("Metadata-Version: 2.1\nName: nncf\nVersion: 3.4.0\n")
    folder = shutil.copytree(small_run, tmp_path / "out")
    done = subprocess.run(
        [sys.executable, "-m", "pspnet_convert", "quantize", str(small.folder), "-o", str(folder)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 14, done.stderr
    *_, last = done.stderr.splitlines()
    assert last.startswith("error: nncf 3.4.0 does not work with openvino 2024.6.0. Install an earlier one")


def check(found: dict[str, Path], card: ModelCard, images: Sequence[Path]) -> dict[str, Any]:
    return check_int8(found["FP32"], OpenModel(found["INT8"], card, card.input.shape), images, min_agreement=0.95)


def test_another_models_answers_fail(small: ModelCard, copied: Path) -> None:
    """The FP32 IR itself passes as INT8; with its classifier's weights negated it does not."""
    found = irs(copied)
    images = calibration_images(small, None, 8)
    same = {"FP32": found["FP32"], "INT8": found["FP32"]}
    assert check(same, small, images)["verdict"] == "pass"
    model = read(found["FP32"])
    last = [op for op in model.get_ordered_ops() if op.get_type_name() == "Convolution"][-1]
    weights = last.input_value(1).get_node()
    last.input(1).replace_source_output(operations().constant(-weights.data).output(0))
    openvino.save_model(model, str(found["INT8"]), compress_to_fp16=False)
    result = check(found, small, images)
    assert result["verdict"] == "mismatch"
    assert "of the pixels, 95.00% required" in result["faults"][0]


def test_an_ir_of_another_size_breaks_the_contract(small: ModelCard, quantized: Path) -> None:
    with pytest.raises(ContractError, match="its input is"):
        int8 = OpenModel(irs(quantized)["INT8"], small, (1, 3, 64, 64))
        check_int8(irs(quantized)["FP32"], int8, calibration_images(small, None, 1), min_agreement=0)


def prediction(logits: NDArray[np.float32]) -> Prediction:
    return Prediction(logits.argmax(axis=0), logits)


LOGITS = arrays(np.float32, (3, 4, 5), elements=st.floats(-100, 100, width=32))


@given(expected=LOGITS, found=LOGITS, wanted=st.floats(0, 1))
def test_agreement_counts_the_pixels(expected: NDArray[np.float32], found: NDArray[np.float32], wanted: float) -> None:
    one = Int8Check(wanted)
    one.add("a", prediction(expected), prediction(expected))
    one.add("b", prediction(expected), prediction(found))
    same = (expected.argmax(axis=0) == found.argmax(axis=0)).sum()
    assert one.agreement == pytest.approx((20 + same) / 40)
    assert bool(one.faults) == (one.agreement < wanted)
    assert (one.as_dict()["verdict"] == "inconclusive") == (not one.faults and len(one.classes_seen) == 1)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_logits_that_are_not_finite_fail(value: float) -> None:
    expected = np.random.default_rng(0).random((3, 4, 5), np.float32)
    found = expected.copy()
    found[0, 0, 0] = value
    one = Int8Check(min_agreement=0)
    one.add("a", prediction(expected), prediction(found))
    assert one.as_dict()["faults"] == ["its logits are not finite"]
    assert one.as_dict()["verdict"] == "mismatch"
    json.dumps(one.as_dict(), allow_nan=False)


def test_one_class_everywhere_is_inconclusive() -> None:
    logits = np.zeros((3, 4, 5), np.float32)
    one = Int8Check(min_agreement=0.95)
    one.add("a", prediction(logits), prediction(logits))
    assert one.as_dict()["verdict"] == "inconclusive"


# With a data set


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The output folder of the demo, converted and quantized within one point of mIoU."""
    folder = tmp_path_factory.mktemp("demo")
    for command in (["run", "demo"], ["quantize", "demo", "--max-drop", "1"]):
        done = CliRunner().invoke(command_line, [*command, "-o", str(folder)])
        assert done.exit_code == 0, done.output
    return folder


@pytest.mark.slow
def test_the_demo_loses_at_most_a_point_of_miou(demo: Path) -> None:
    manifest = json.loads((demo / "public" / "demo" / "manifest.json").read_text())["stages"]
    fp32, int8 = manifest["evaluate-int8"]["result"]["scores"]
    assert (fp32["backend"], int8["backend"]) == ("IR FP32", "IR INT8")
    assert fp32["mean_iou"] == pytest.approx(find_card("demo").accuracy[0].value, abs=0.02)
    assert fp32["mean_iou"] - int8["mean_iou"] <= 1
    assert manifest["verify-int8"]["result"]["agreement"] > 0.99
    assert "evaluate" not in manifest


@pytest.mark.slow
def test_an_int8_ir_that_saw_pictures_of_another_kind_fails(cli: Cli, demo: Path, tmp_path: Path) -> None:
    """Black pictures. The labels on the card's own pictures show it, and so does mIoU."""
    black = tmp_path / "black"
    black.mkdir()
    Image.new("RGB", (200, 200)).save(black / "black.png")
    folder = shutil.copytree(demo, tmp_path / "out")
    common = ("quantize", "demo", "-o", folder, "--calibration", black)
    result = cli(*common)
    assert result.exit_code == 9
    assert "of the pixels, 95.00% required" in result.error
    result = cli(*common, "--min-agreement", 0, "--max-drop", 1, "--dataset", find_card("demo").folder / "voc")
    assert result.exit_code == 16
    assert "points below IR FP32, 1 allowed" in result.error
    assert "verdict: drop " in result.stdout
    result = cli(*common, "--max-drop", 1, "--time-limit", 0)
    assert result.exit_code == 16  # and not 9 for the labels, which follow


def test_a_missing_data_set_is_an_error(cli: Cli, small: ModelCard, copied: Path, tmp_path: Path) -> None:
    common = ("quantize", small.folder, "-o", copied, *LENIENT)
    assert cli(*common, "--dataset", tmp_path).exit_code == 15
    result = cli(*common, "--max-drop", 1)
    assert result.exit_code == 15
    assert "comes with no data set" in result.error
