"""selftest.py: what it allows and what it finds, on models of one step; and what it needs."""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import manifests
import numpy as np
import openvino
import pytest
from bundles import unpacked
from conftest import Cli
from numpy.typing import NDArray
from PIL import Image

from pspnet_convert import selftest
from pspnet_convert.commands.verify.golden import golden_margins, margin
from pspnet_convert.selftest_settings import INT8_SLACK

op = import_module("openvino.opset13" if find_spec("openvino.opset13") else "openvino.runtime.opset13")
SOURCE = Path(selftest.__file__)
SIDE = 8


def identity(layout: str = "NCHW", dtype: Any = np.float32, batch: int = -1, outputs: str = "labels") -> openvino.Model:
    """A model whose label at a pixel is the first channel's value there; `logits`: only as scores of three classes."""
    axes = {"N": batch, "C": 1, "H": SIDE, "W": SIDE}
    image = op.parameter([axes[axis] for axis in layout], dtype, name="image")
    planes = op.transpose(op.convert(image, "f32"), np.array([layout.index(axis) for axis in "NCHW"]))
    if outputs == "labels":
        result = op.convert(planes, "i64")
    else:
        numbers = np.arange(3, dtype=np.float32).reshape(1, 3, 1, 1)
        result = op.negative(op.abs(op.subtract(planes, op.constant(numbers))))
    result.output(0).set_names({outputs})
    return openvino.Model([result], [image], "identity")


def bundle(folder: Path, model: openvino.Model, **changes: Any) -> Path:
    """A folder with the model as FP32 IR, and three golden cases that it gives right; `changes` of the settings."""
    (folder / "FP32").mkdir(parents=True)
    openvino.save_model(model, str(folder / "FP32" / "m.xml"), compress_to_fp16=False)
    cases = [write_case(folder, number) for number in range(3)]
    settings = {
        "version": 1,
        "model": "m",
        "layout": "NCHW",
        "output": "labels",
        "reversed": False,
        "batches": [1],
        "tolerances": {
            "f32": {"margin": 1e-5, "spread": None, "why": ""},
            "bf16": {"margin": 0.5, "spread": 1e-3, "why": ""},
        },
        "irs": [{"file": "FP32/m.xml", "precision": "f32", "min_agreement": None}],
        "cases": cases,
    }
    (folder / selftest.SETTINGS).write_text(json.dumps({**settings, **changes}))
    return folder


def write_case(folder: Path, number: int) -> dict[str, str]:
    """Labels 0, 1, 2, the image with these values, and margins of half the largest logit."""
    labels = np.random.default_rng(number).integers(0, 3, (SIDE, SIDE), dtype=np.uint8)
    np.save(folder / f"{number}.input.npy", labels[:, :, None].astype(np.float32))
    Image.fromarray(labels).save(folder / f"{number}.reference.png")
    Image.fromarray(np.full((SIDE, SIDE), code(0.5))).save(folder / f"{number}.margin.png")
    files = {"image": f"{number}.input.npy", "labels": f"{number}.reference.png", "margins": f"{number}.margin.png"}
    return {"name": f"case {number}", **files}


def code(share: float) -> Any:
    return selftest.margin_bytes(share, 1.0)


def change_label(folder: Path, number: int, y: int, x: int, share: float) -> None:
    """Another golden label at a pixel, whose margin is `share`."""
    for kind, value in (("reference", None), ("margin", code(share))):
        path = folder / f"{number}.{kind}.png"
        with Image.open(path) as picture:
            pixels = np.array(picture)
        pixels[y, x] = (pixels[y, x] + 1) % 3 if value is None else value
        Image.fromarray(pixels).save(path)


def at_f32(folder: Path) -> dict[str, Any]:
    (row,) = (row for row in selftest.run(folder, "CPU")["results"] if row["computed_in"] == "f32")
    return dict(row)


# Margins


def test_a_byte_stands_for_at_most_its_margin_and_nearly_as_much() -> None:
    shares = np.geomspace(2.0**-20, 2, 5000)
    least = selftest.least_margins()[selftest.margin_bytes(shares * 7, 7.0)]
    assert (least <= shares * (1 + 1e-9)).all()
    assert (least >= shares / 2 ** (1 / selftest.STEPS) * (1 - 1e-9)).all()


@pytest.mark.parametrize(("share", "byte"), [(0.0, 0), (2.0**-21, 0), (2.0**-20, 1), (2.0, 253), (9.0, 255)])
def test_the_ends_of_the_bytes(share: float, byte: int) -> None:
    assert int(code(share)) == byte


def test_logits_that_are_all_zero_are_undecided() -> None:
    assert (golden_margins(np.zeros((3, 2, 2), np.float32)) == 0).all()


def test_a_margin_is_the_best_logit_minus_the_second_best() -> None:
    logits = np.random.default_rng(0).standard_normal((7, 20, 20)).astype(np.float32)
    logits[:, 0] = 1  # ties
    ordered: NDArray[np.float32] = np.sort(logits, axis=0)
    assert (margin(logits) == ordered[-1] - ordered[-2]).all()
    assert (margin(logits[:2]) == np.abs(logits[0] - logits[1])).all()


# What is allowed


def test_right_labels_pass(tmp_path: Path) -> None:
    result = selftest.run(bundle(tmp_path / "m", identity()), "CPU")
    assert (result["verdict"], result["exit_code"]) == ("pass", 0)
    assert all(row["pixels"] == 3 * SIDE * SIDE and row["differing"] == 0 for row in result["results"])


@pytest.mark.parametrize(("share", "passes"), [(0.9e-5, True), (1.1e-5, False), (0.5, False)])
def test_a_label_may_differ_within_the_tolerance(tmp_path: Path, share: float, passes: bool) -> None:
    folder = bundle(tmp_path / "m", identity())
    change_label(folder, 1, 5, 2, share)
    row = at_f32(folder)
    assert (row["differing"], row["unexplained"], row["fault"] is None) == (1, 0 if passes else 1, passes)


def test_a_wrong_pixel_is_named_with_its_place(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "m", identity())
    for y, x in ((2, 3), (5, 1)):
        change_label(folder, 1, y, x, 0.5)
    result = selftest.run(folder, "CPU")
    assert (result["verdict"], result["exit_code"]) == ("mismatch", 9)
    row = at_f32(folder)
    (place,) = row["places"]
    assert (place["image"], place["pixels"], place["box"]) == ("case 1", 2, [1, 2, 3, 5])
    assert [(one["x"], one["y"]) for one in place["first"]] == [(3, 2), (1, 5)]
    assert "2 of 192 pixels differ unexplained, in case 1 2 at x=1..3 y=2..5; first x=3 y=2: class" in row["fault"]


def test_at_a_coarse_precision_only_so_many_labels_may_differ(tmp_path: Path) -> None:
    """Each of them is undecided enough, and there are too many."""
    tolerances = {"f32": {"margin": 0.5, "spread": 0.05, "why": ""}, "bf16": {"margin": 1, "spread": None, "why": ""}}
    folder = bundle(tmp_path / "m", identity(), tolerances=tolerances)
    for pixel in range(10):
        change_label(folder, 0, pixel // SIDE, pixel % SIDE, 0.4)
    assert (at_f32(folder)["most"], at_f32(folder)["fault"]) == (11, None)  # 10, and 2 x 3e-14 rounded up
    for pixel in range(10, 12):
        change_label(folder, 0, pixel // SIDE, pixel % SIDE, 0.4)
    assert at_f32(folder)["fault"] == "12 of 192 pixels differ, at most 11 may"


def test_the_more_are_undecided_the_more_may_differ(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "m", identity())
    cases = [selftest.Case("", np.zeros(0), np.zeros(0), np.full((10, 10), code(share))) for share in (0.0, 0.5)]
    # An undecided pixel changes with the probability 1/2, and twice as many may.
    assert [selftest._most_flips([case], 0.01) for case in cases] == [10 + 100, 10]
    assert folder.is_dir()


@pytest.mark.parametrize(("required", "passes"), [(0.95, True), (0.96, False)])
def test_an_int8_ir_is_judged_by_its_agreement(tmp_path: Path, required: float, passes: bool) -> None:
    irs = [{"file": "FP32/m.xml", "precision": "INT8", "min_agreement": required}]
    folder = bundle(tmp_path / "m", identity(), irs=irs)
    for pixel in range(8):  # of 192: 95.8 % agree
        change_label(folder, 0, 0, pixel, 0.5)
    fault = at_f32(folder)["fault"]
    assert fault == (None if passes else "the network's label at 95.83% of the pixels, 96.00% required")


# Forms of a model


@pytest.mark.parametrize("layout", ["NCHW", "NHWC"])
@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.uint16])
@pytest.mark.parametrize(("batch", "batches"), [(1, [1]), (2, [2]), (-1, [1, 3])])
def test_every_form_of_input_is_fed(tmp_path: Path, layout: str, dtype: Any, batch: int, batches: list[int]) -> None:
    folder = bundle(tmp_path / "m", identity(layout, dtype, batch), layout=layout, batches=batches)
    assert at_f32(folder)["fault"] is None
    change_label(folder, 2, 4, 4, 0.5)  # the last case is judged as well
    assert at_f32(folder)["unexplained"] == 1


def test_labels_come_from_logits_where_there_is_no_label_map(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "m", identity(outputs="logits"))
    assert at_f32(folder)["fault"] is None
    change_label(folder, 0, 0, 0, 0.5)
    assert at_f32(folder)["unexplained"] == 1


@pytest.mark.parametrize(
    ("model", "words"),
    [
        (lambda: identity("NHWC"), "takes images of"),
        (lambda: identity(batch=2), "takes images of"),
        (lambda: identity(outputs="features"), "has no label map, logits or probabilities"),
    ],
)
def test_a_model_of_another_form_is_wrong(tmp_path: Path, model: Any, words: str) -> None:
    result = selftest.run(bundle(tmp_path / "m", model()), "CPU")
    assert result["exit_code"] == 9
    assert words in result["results"][0]["fault"]


def test_labels_of_another_size_are_wrong(tmp_path: Path) -> None:
    image = op.parameter([1, 1, SIDE, SIDE], np.float32, name="image")
    labels = op.convert(op.concat([image, image], 3), "i64")
    labels.output(0).set_names({"labels"})
    folder = bundle(tmp_path / "m", openvino.Model([labels], [image], "wide"))
    assert at_f32(folder)["fault"] == "case 0: gives labels [8, 16] instead of [8, 8]"


def test_an_ir_that_is_made_for_f32_runs_at_f32_alone(tmp_path: Path) -> None:
    model = identity()
    model.set_rt_info("f32", ["runtime_options", "INFERENCE_PRECISION_HINT"])
    (row,) = selftest.run(bundle(tmp_path / "m", model), "CPU")["results"]
    assert (row["computed_in"], row["is_default"]) == ("f32", True)


@pytest.mark.parametrize("device", ["AUTO:CPU", "HETERO:CPU", "AUTO"])
def test_a_device_that_chooses_devices_is_judged_at_f32_too(tmp_path: Path, device: str) -> None:
    folder = bundle(tmp_path / "m", identity())
    found = selftest.run(folder, device)
    assert (found["verdict"], found["device"]) == ("pass", device)
    assert "f32" in [row["computed_in"] for row in found["results"]]


# The program


def run_alone(folder: Path, *arguments: str, place: Path) -> subprocess.CompletedProcess[str]:
    """selftest.py as where only openvino, numpy and Pillow are installed."""
    place.mkdir(exist_ok=True)
    for name in ("pspnet_convert", "torch", "cv2", "pydantic", "yaml", "click", "onnx"):
        (place / f"{name}.py").write_text(f"raise ImportError('there is no {name} here')")
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    command = [sys.executable, str(folder / "selftest.py"), *arguments]
    return subprocess.run(
        command, cwd=place, env={**environment, "PYTHONPATH": str(place)}, capture_output=True, text=True
    )


def test_the_program_of_a_bundle_stands_alone(small_bundle: Mapping[str, bytes], tmp_path: Path) -> None:
    for name, data in small_bundle.items():
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(data)
    done = run_alone(tmp_path / "m", place=tmp_path / "empty")
    assert done.returncode == 0, done.stderr
    *rows, verdict = done.stdout.splitlines()
    assert all(re.match(r"FP(16|32)/small-standin.xml at \w+(, the default)?: pass: \d+ of 4608", row) for row in rows)
    assert verdict.startswith("verdict: pass   CPU, openvino 20")


def test_its_json_and_its_exit_code_say_the_same(tmp_path: Path) -> None:
    folder = bundle(tmp_path / "m", identity())
    (folder / "selftest.py").write_bytes(SOURCE.read_bytes())
    change_label(folder, 1, 5, 2, 0.5)
    done = run_alone(folder, "--json", place=tmp_path / "empty")
    assert (done.returncode, json.loads(done.stdout)["exit_code"]) == (9, 9)
    words = run_alone(folder, place=tmp_path / "empty")
    assert "FP32/m.xml at f32: FAIL: 1 of 192 pixels differ unexplained" in words.stdout.splitlines()[0]


@pytest.mark.parametrize(
    ("break_it", "code", "words"),
    [
        (lambda folder: (folder / "selftest.json").unlink(), 11, "selftest.json: cannot be read"),
        (lambda folder: (folder / "selftest.json").write_text("[]"), 11, "is not this program's"),
        (lambda folder: (folder / "selftest.json").write_text('{"version": 2}'), 11, "is of version 2"),
        (lambda folder: (folder / "FP32" / "m.bin").unlink(), 11, "there is no such file in the bundle"),
        (lambda folder: (folder / "0.margin.png").write_bytes(b"no picture"), 11, "cannot be read"),
        (lambda folder: (folder / "FP32" / "m.xml").write_text("<net name='m'>"), 11, "does not run on CPU"),
    ],
)
def test_what_cannot_be_read_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], break_it: Any, code: int, words: str
) -> None:
    folder = bundle(tmp_path / "m", identity())
    break_it(folder)
    assert selftest.main(["--folder", str(folder)]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert words in line


@pytest.mark.parametrize("device", ["NPU", "GPU.1", "AUTO:NPU,CPU", "HETERO:GPU"])
def test_a_missing_device_is_named(tmp_path: Path, device: str) -> None:
    with pytest.raises(
        selftest.SelfTestError, match=r"there is no device (NPU|GPU\.1|GPU) here: OpenVINO has CPU"
    ) as at:
        selftest.run(bundle(tmp_path / "m", identity()), device)
    assert at.value.code == 14


def test_a_missing_library_is_named_with_what_installs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = bundle(tmp_path / "m", identity())
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(selftest.SelfTestError, match="pip install openvino numpy Pillow") as at:
        selftest.run(folder, "CPU")
    assert at.value.code == 14


def test_it_is_python_3_9_and_imports_nothing_else() -> None:
    tree = ast.parse(SOURCE.read_text(encoding="utf-8"), feature_version=(3, 9))
    imported = {
        name.partition(".")[0]
        for node in ast.walk(tree)
        for name in (
            [one.name for one in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert imported - sys.stdlib_module_names == {"numpy", "openvino", "PIL"}


# The golden cases of a bundle


def test_golden_margins_are_the_references(
    cli: Cli, small_run: Path, small: Any, small_bundle: Mapping[str, bytes]
) -> None:
    """As PyTorch gives the logits, in this process."""
    from pspnet_convert.commands.verify.inputs import verification_inputs
    from pspnet_convert.files import Digests
    from pspnet_convert.pytorch.source_checkpoint import SourceCheckpoint
    from pspnet_convert.runtimes.backends import TorchBackend

    network = SourceCheckpoint(
        small, small.folder / small.checkpoint.name, Digests(), allow_unknown=False
    ).take_network()
    (sheet,) = verification_inputs(small, small.input.shape)
    (prediction,) = TorchBackend(network, small.input).run([sheet.image])
    folder = small_run / "public" / "small-standin" / "verification"
    with Image.open(folder / "sheet.margin.png") as picture:
        kept = np.asarray(picture)
    assert np.abs(kept.astype(int) - golden_margins(prediction.logits)).max() <= 1
    assert len(np.unique(kept)) > 20


def test_tolerances_grow_with_the_rounding_and_have_reasons(small_bundle: Mapping[str, bytes]) -> None:
    tolerances = json.loads(small_bundle["selftest.json"])["tolerances"]
    assert list(tolerances) == ["f32", "FP16", "f16", "bf16"]
    margins = [one["margin"] for one in tolerances.values()]
    assert margins == sorted(margins)
    assert margins[0] > 0
    assert all(one["why"].startswith("twice the error allowed of a logit: ") for one in tolerances.values())
    assert [one["spread"] is None for one in tolerances.values()] == [True, True, False, False]


def test_an_int8_ir_must_agree_as_it_did_when_it_was_made(
    cli: Cli, small: Any, quantized: Path, tmp_path: Path
) -> None:
    target = tmp_path / "m.tar.gz"
    assert cli("bundle", small.folder, "--output-dir", quantized, "-o", target).exit_code == 0
    irs = {one["precision"]: one["min_agreement"] for one in json.loads(unpacked(target)["selftest.json"])["irs"]}
    gave = manifests.read(quantized / "public" / small.name)["stages"]["verify-int8"]["result"]["golden_agreement"]
    assert irs == {"f32": None, "FP16": None, "INT8": min(0.5, gave - INT8_SLACK)}
    found = cli("check", target, "--json").json()
    (row, *_) = (row for row in found["self_test"]["results"] if row["file"].startswith("INT8"))
    assert (found["verdict"], row["agreement"]) == ("pass", gave)


def test_other_golden_cases_than_the_int8_irs_do_not_lower_what_is_asked_of_it(
    cli: Cli, small: Any, quantized: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(quantized, tmp_path / "out")
    with manifests.changed(folder / "public" / small.name) as data:
        data["stages"]["verify-int8"]["inputs"]["golden"][0]["sha256"] = "0" * 64
    target = tmp_path / "m.tar.gz"
    assert cli("bundle", small.folder, "--output-dir", folder, "-o", target).exit_code == 0
    assert json.loads(unpacked(target)["selftest.json"])["irs"][-1]["min_agreement"] == 0.5
