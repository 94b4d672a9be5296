"""A converted model that is wrong fails verification; one that is right never does; a blind test is inconclusive."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.numpy_helper
import openvino
import pytest
import torch
import yaml
from conftest import Cli, needs_mo
from hypothesis import given
from hypothesis import strategies as st
from openvino.preprocess import PrePostProcessor
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.verify.compare import compare, margin
from pspnet_convert.commands.verify.inputs import verification_inputs
from pspnet_convert.commands.verify.reference import Expected, pools_in_float64
from pspnet_convert.commands.verify.result import Comparison, Verification
from pspnet_convert.commands.verify.sensitivity import FINE_FAULTS
from pspnet_convert.commands.verify.tolerances import Rounding
from pspnet_convert.manifest_fields import UnexplainedPixel
from pspnet_convert.pytorch.checkpoint import load_checkpoint
from pspnet_convert.pytorch.network import build_network
from pspnet_convert.runtimes.backends import Prediction
from pspnet_convert.runtimes.logit_error import NO_ERROR, Error

MEAN, SCALE = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def convert(
    folder: Path, mean: Sequence[float] = MEAN, scale: Sequence[float] = SCALE, reverse_channels: bool = True
) -> None:
    """Make the FP32 IR again with OpenVINO itself, as its manual says."""
    steps = PrePostProcessor(openvino.Core().read_model(str(folder / "small-standin.onnx")))
    steps.input().tensor().set_layout(openvino.Layout("NCHW"))
    steps.input().model().set_layout(openvino.Layout("NCHW"))
    if reverse_channels:
        steps.input().preprocess().reverse_channels()
    steps.input().preprocess().mean(list(mean)).scale(list(scale))
    openvino.save_model(steps.build(), str(folder / "FP32" / "small-standin.xml"), compress_to_fp16=False)


def test_the_same_conversion_made_by_hand_passes(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    convert(folder)
    assert cli("verify", small.folder, "-o", workspace).exit_code == 0


@needs_mo
def test_the_same_conversion_made_with_model_optimizer_passes(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    from openvino.tools import mo

    model = mo.convert_model(
        str(folder / "small-standin.onnx"),
        layout="input.1(NCHW)",
        mean_values="input.1[123.675,116.28,103.53]",
        scale_values="input.1[58.395,57.12,57.375]",
        reverse_input_channels=True,
    )
    openvino.save_model(model, str(folder / "FP32" / "small-standin.xml"), compress_to_fp16=False)
    assert cli("verify", small.folder, "-o", workspace).exit_code == 0


@pytest.mark.parametrize(
    "fault",
    [
        {"reverse_channels": False},
        {"mean": [0, 0, 0]},
        {"scale": [1, 1, 1]},
        {"mean": MEAN[::-1]},
        {"scale": SCALE[::-1]},
        {"mean": [124.9, 117.4, 104.6]},
        {"reverse_channels": False, "mean": [0, 0, 0], "scale": [1, 1, 1]},
    ],
    ids=lambda fault: ",".join(f"{name}={value}" for name, value in fault.items()),
)
def test_an_ir_made_with_the_wrong_preprocessing_fails(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, fault: dict[str, Any]
) -> None:
    convert(folder, **fault)
    result = cli("verify", small.folder, "-o", workspace, "--json")
    assert result.exit_code == 9
    assert "IR FP32 differs from the reference: " in result.error
    verdicts = {row["backend"]: row["passed"] for row in result.json()["stages"][0]["result"]["comparisons"]}
    assert verdicts == {"ONNX": True, "IR FP32": False, "IR FP16": True}


def _weight(model: onnx.ModelProto, name: str, change: Callable[[np.ndarray], np.ndarray]) -> None:
    (tensor,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith(name)]
    values = change(onnx.numpy_helper.to_array(tensor).copy())
    tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float32), tensor.name))


def _one_channel(values: np.ndarray) -> np.ndarray:
    values[0] *= 1.05
    return values


def _resize_to_nearest(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "mode" and attribute.s == b"linear":
                attribute.s = b"nearest"


def _align_corners(model: onnx.ModelProto) -> None:
    for node in model.graph.node:
        for attribute in node.attribute:
            if attribute.name == "coordinate_transformation_mode":
                attribute.s = b"align_corners"


def _argmin(model: onnx.ModelProto) -> None:
    """The class with the lowest logit instead of the highest."""
    (node,) = [node for node in model.graph.node if node.op_type == "ArgMax"]
    node.op_type = "ArgMin"


@pytest.mark.parametrize(
    "fault",
    [
        lambda m: _weight(m, "decode_head.conv_seg.weight", lambda w: w[[1, 0, 2, 3, 4]]),
        lambda m: _weight(m, "decode_head.conv_seg.bias", lambda b: b + np.float32([0.1, 0, 0, 0, 0])),
        lambda m: _weight(m, "backbone.layer4.1.conv2.weight", _one_channel),
        lambda m: _weight(m, "decode_head.pool.rows", lambda cells: cells[::-1].copy()),
        _resize_to_nearest,
        _align_corners,
    ],
    ids=["classes swapped", "a bias", "one channel", "bins mirrored", "nearest", "align_corners"],
)
def test_an_onnx_with_another_graph_fails(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, fault: Callable[[onnx.ModelProto], None]
) -> None:
    path = folder / "small-standin.onnx"
    model = onnx.load(str(path))
    fault(model)
    onnx.save(model, str(path))
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 9
    assert "ONNX differs from the reference" in result.error


def test_without_an_argmax_the_contract_is_broken(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    path = folder / "small-standin.onnx"
    model = onnx.load(str(path))
    _argmin(model)
    onnx.save(model, str(path))
    result = cli("verify", small.folder, "-o", workspace)
    assert result.exit_code == 9
    assert "ONNX differs from the reference: contract: " in result.error
    assert "does not come from an argmax" in result.error


def test_another_models_weights_fail(cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path) -> None:
    from make_standin_checkpoint import make_standin

    other = make_standin(small, tmp_path / "other", seed=1).parent / "standin.pth"
    result = cli(
        "verify", small.folder, "-o", workspace, "--checkpoint", other, "--allow-unknown-checkpoint"
    )  # fmt: skip
    assert result.exit_code == 9


def test_one_class_everywhere_is_inconclusive(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    content = torch.load(small.folder / small.checkpoint.name, weights_only=True)
    content["state_dict"]["decode_head.conv_seg.bias"] = torch.tensor([1e4, 0.0, 0, 0, 0])
    path = tmp_path / "blind.pth"
    torch.save(content, path)
    arguments = ("-o", tmp_path, "--checkpoint", path, "--allow-unknown-checkpoint")
    result = cli("run", small.folder, *arguments)
    assert result.exit_code == 10
    assert "the reference sees one class everywhere" in result.error
    manifest = json.loads((tmp_path / "public" / "small-standin" / "manifest.json").read_text())
    assert manifest["stages"]["verify"]["result"]["verdict"] == "inconclusive"
    assert cli("verify", small.folder, *arguments).exit_code == 10  # unchanged, and still not a pass


def test_a_users_own_images_are_compared_as_well(cli: Cli, small: ModelCard, workspace: Path) -> None:
    photo = next((find_card("demo").folder / "voc" / "JPEGImages").glob("*.jpg"))
    result = cli("verify", small.folder, "-o", workspace, "--images", photo, "--json")
    assert result.exit_code == 0
    assert photo.name in result.json()["stages"][0]["result"]["inputs"]
    text = workspace / "text.jpg"
    text.write_text("no image")
    broken = cli("verify", small.folder, "-o", workspace, "--images", text)
    assert broken.exit_code == 13
    assert "text.jpg: is not an image" in broken.error


def test_a_wrong_argmax_is_reported_once_for_any_number_of_images(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    path = folder / "small-standin.onnx"
    model = onnx.load(str(path))
    (argmax,) = (node for node in model.graph.node if node.op_type == "ArgMax")
    kept = [attribute for attribute in argmax.attribute if attribute.name != "select_last_index"]
    del argmax.attribute[:]
    argmax.attribute.extend([*kept, onnx.helper.make_attribute("select_last_index", 1)])
    onnx.save(model, str(path))
    photos = sorted((find_card("demo").folder / "voc" / "JPEGImages").glob("*.jpg"))[:9]
    images = [word for photo in photos for word in ("--images", photo)]
    result = cli("verify", small.folder, "-o", workspace, "--json", *images)
    assert result.exit_code == 9, result.stderr
    (row,) = (row for row in result.json()["stages"][0]["result"]["comparisons"] if row["backend"] == "ONNX")
    (check,) = (check for check in row["checks"] if check["name"] == "argmax")
    assert len(check["faults"]) == 1


def in_half(small: ModelCard, path: Path) -> Path:
    """The small model's checkpoint as AMP's `model.half()` saves it."""
    content = torch.load(small.folder / small.checkpoint.name, weights_only=True)
    state = content["state_dict"]
    content["state_dict"] = {name: one.half() if one.is_floating_point() else one for name, one in state.items()}
    torch.save(content, path)
    return path


def test_weights_stored_in_fp16_convert_and_pass(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    """Folding takes them off FP16's grid: the FP16 IR is no equal of the reference, but of the rounded one."""
    given = ("--checkpoint", in_half(small, tmp_path / "half.pth"), "--allow-unknown-checkpoint")
    result = cli("run", small.folder, "-o", tmp_path / "out", *given, "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = (row for row in result.json()["stages"][-1]["result"]["comparisons"] if row["backend"] == "IR FP16")
    assert row["from_reference"]["rms"] > 1e-4
    assert row["relative_error"]["rms"] < 1e-5


def test_the_fp16_tolerance_depends_on_all_images_and_not_on_their_order(
    cli: Cli, small: ModelCard, workspace: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads = []
    monkeypatch.setattr(
        "pspnet_convert.pytorch.checkpoint.load_checkpoint",
        lambda *given: reads.append(given) or load_checkpoint(*given),
    )
    photos = sorted((find_card("demo").folder / "voc" / "JPEGImages").glob("*.jpg"))[:9]
    allowed = []
    for order in (photos, photos[::-1]):
        images = [word for photo in order for word in ("--images", photo)]
        result = cli("verify", small.folder, "-o", workspace, "--json", *images)
        assert result.exit_code == 0, result.stderr
        allowed.append([row["allowed"] for row in result.json()["stages"][0]["result"]["comparisons"]])
    assert allowed[0] == allowed[1]
    assert len(reads) == 2  # once a run, for ten inputs
    assert not list((workspace / "public" / small.name).rglob("*.logits"))


def test_images_of_the_cards_dataset_are_taken_with_any_extension(small: ModelCard, tmp_path: Path) -> None:
    folder = tmp_path / "voc" / "JPEGImages"
    folder.mkdir(parents=True)
    for name in ("a.jpg", "b.png", "c.jpeg"):
        Image.new("RGB", (64, 72), (9, 99, 199)).save(folder / name)
    (folder / "notes.txt").write_text("no image")
    data = {**small.model_dump(mode="json", exclude_none=True), "dataset": "voc"}
    path = tmp_path / "model.yml"
    path.write_text(yaml.safe_dump(data), encoding="utf-8")
    inputs = verification_inputs(load_card(path), small.input.shape)
    assert [entry.name for entry in inputs] == ["sheet", "a.jpg", "b.png", "c.jpeg"]


def prediction(logits: Any) -> Prediction:
    array = np.asarray(logits, np.float32)
    return Prediction(array.argmax(axis=0), array)


def compared(expected: Prediction, found: Prediction, allowed: float = 0.1) -> Comparison:
    """The comparison at a precision that allows a relative error of `allowed`."""
    comparison = Comparison("test", "FP16")
    compare(
        Expected(expected, {}, Rounding(NO_ERROR, NO_ERROR, Error(allowed, allowed / 6))), found, "image", comparison
    )
    return comparison


def test_the_references_pools_add_up_in_float64(small: ModelCard) -> None:
    """As float32 they are off by more than the tolerance on the largest maps."""
    network = build_network(small, load_checkpoint(small.folder / small.checkpoint.name, small))
    pool = network.decode_head.psp_modules[1][0]
    values = torch.rand(1, 1, 600, 600, generator=torch.Generator().manual_seed(0))
    exact = adaptive_avg_pool2d(values.double(), 2).float()
    with pools_in_float64(network):
        assert torch.equal(pool(values), exact)
    assert not torch.equal(pool(values), exact)


def test_a_label_that_differs_within_twice_the_error_is_explained() -> None:
    reference = prediction([[[1.00, 5.0]], [[0.99, 0.0]]])
    near = compared(reference, prediction([[[0.99, 5.0]], [[1.00, 0.0]]]))
    assert (near.differing, near.explained, near.passed) == (1, 1, True)


def test_a_label_that_its_own_logits_do_not_explain_fails() -> None:
    reference = prediction([[[1.0, 5.0]], [[0.5, 0.0]]])
    wrong_labels = Prediction(1 - reference.labels, reference.logits)
    result = compared(reference, wrong_labels)
    assert (result.differing, result.explained, result.passed) == (2, 0, False)
    assert "first x=0 y=0: class 1 instead of 0" in result.faults["pixels"][0]
    assert result.unexplained[0] == UnexplainedPixel(image="image", x=0, y=0, label=1, expected=0, margin=0.5)
    assert len(result.unexplained) == 2


def test_an_error_beyond_the_tolerance_fails_though_all_labels_agree() -> None:
    reference = prediction([[[10.0]], [[0.0]]])
    result = compared(reference, prediction([[[8.0]], [[0.0]]]))
    assert result.differing == 0
    assert result.error == Error(pytest.approx(0.2), pytest.approx(0.2))
    assert list(result.faults) == ["logits"]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_fails(value: float) -> None:
    reference = prediction([[[1.0, 2.0]], [[0.0, 0.0]]])
    result = compared(reference, prediction([[[value, 2.0]], [[0.0, 0.0]]]))
    assert not result.passed
    json.dumps(result.as_dict(), allow_nan=False)


def test_another_shape_fails() -> None:
    result = compared(prediction(np.zeros((2, 3, 4))), prediction(np.zeros((3, 3, 4))))
    assert not result.passed
    assert "[3, 3, 4] instead of [2, 3, 4]" in result.faults["logits"][0]


def test_nothing_compared_is_no_pass() -> None:
    assert Verification([], [], [0, 1], {}, {}).verdict == "inconclusive"
    assert Verification([Comparison("test", "f32")], [], [0, 1], {}, {}).verdict == "mismatch"


def test_a_set_that_would_not_show_a_fault_is_inconclusive() -> None:
    right = Comparison("test", "f32", pixels=1, allowed=Error(1e-5, 3e-5))
    seen = {"swapped": Error(1e-2, 1e-1)}
    assert Verification([right], [], [0, 1], seen, {}).verdict == "pass"
    blind = Verification([right], [], [0, 1], {**seen, "off by one": Error(9e-6, 2e-5)}, {})
    assert blind.verdict == "inconclusive"
    assert blind.doubts == ["test: no input would show this fault: off by one"]


@pytest.mark.parametrize("fine", sorted(FINE_FAULTS))
def test_a_fine_fault_must_show_in_an_f32_ir(fine: str) -> None:
    """Rounding the weights to FP16 may change the logits as much. The ONNX has no preprocessing to be wrong."""
    wide, narrow = Error(4e-3, 1e-2), Error(1e-5, 3e-5)
    onnx = Comparison("ONNX", "f32", pixels=1, allowed=narrow)
    single = Comparison("IR FP32", "f32", is_ir=True, pixels=1, allowed=narrow)
    half = Comparison("IR FP16", "FP16", is_ir=True, pixels=1, allowed=wide)
    sensitivity = {"swapped": Error(1e-2, 1e-1), fine: Error(1e-3, 1e-3)}
    assert Verification([onnx, single, half], [], [0, 1], sensitivity, {}).verdict == "pass"
    alone = Verification([onnx, half], [], [0, 1], sensitivity, {})
    assert alone.verdict == "inconclusive"
    assert alone.doubts == [f"IR FP16: no input would show this fault: {fine}"]


def test_a_report_only_comparison_does_not_affect_the_verdict() -> None:
    right, wrong = Comparison("right", "f32", pixels=1), Comparison("wrong", "bf16", report_only=True, pixels=1)
    wrong.add_fault("logits", "far off")
    assert Verification([right, wrong], [], [0, 1], {}, {}).verdict == "pass"
    assert Verification([wrong], [], [0, 1], {}, {}).verdict == "inconclusive"


@given(st.integers(0, 2**32 - 1), st.integers(2, 21), st.floats(0, 1))
def test_noise_within_the_tolerance_is_always_explained(seed: int, classes: int, size: float) -> None:
    random = np.random.default_rng(seed)
    logits = random.standard_normal((classes, 4, 4)).astype(np.float32)
    noise = (random.uniform(-size, size, logits.shape)).astype(np.float32)
    result = compared(prediction(logits), prediction(logits + noise), allowed=1e9)
    assert result.passed
    assert result.explained == result.differing


@given(st.integers(0, 2**32 - 1), st.integers(2, 21))
def test_the_margin_is_best_minus_second(seed: int, classes: int) -> None:
    logits = np.random.default_rng(seed).standard_normal((classes, 3, 2)).astype(np.float32)
    ordered = np.sort(logits, axis=0)
    np.testing.assert_array_equal(margin(logits), ordered[-1] - ordered[-2])


def test_a_picture_with_an_undecodable_name_is_shown(
    cli: Cli, small: ModelCard, workspace: Path, tmp_path: Path
) -> None:
    picture = tmp_path / os.fsdecode(b"b\xff.png")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 60, 3), np.uint8)).save(picture)
    result = cli("verify", small.folder, "-o", workspace, "--images", picture, "--json")
    assert result.exit_code == 0, result.stderr
    assert "b\ufffd.png" in result.json()["stages"][0]["result"]["inputs"]
