"""Heads with one channel and a threshold: two classes, decided as mmsegmentation decides them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmsegmentation as theirs
import numpy as np
import onnx
import openvino
import pytest
import torch
import yaml
from conftest import LENIENT, Cli, Result, call, needs_mo, slow
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image as Pillow

from pspnet_convert.cards.card import load_card
from pspnet_convert.commands.verify.checks import check_argmax, drawn_for
from pspnet_convert.commands.verify.compare import margin
from pspnet_convert.commands.verify.result import Comparison
from pspnet_convert.pytorch.network import PSPNet, build_inline, decision_score
from pspnet_convert.runtimes.backends import OnnxBackend, OpenVinoBackend, Prediction
from pspnet_convert.runtimes.model_images import ModelImages
from pspnet_convert.runtimes.openvino_install import has_model_optimizer, operations

THRESHOLDS = st.floats(0.01, 0.99)


@given(THRESHOLDS, st.integers(-3, 3))
def test_the_score_decides_as_the_sigmoid_does(threshold: float, steps: int) -> None:
    near = torch.full((64,), decision_score(threshold), dtype=torch.float32)
    toward = torch.tensor(float("inf") if steps > 0 else float("-inf"))
    for _ in range(abs(steps)):
        near = torch.nextafter(near, toward)
    assert ((near > decision_score(threshold)) == (near.sigmoid() > threshold)).all()


@given(THRESHOLDS, st.integers(0, 1000))
def test_any_score_is_decided_as_the_sigmoid_does(threshold: float, seed: int) -> None:
    scores = torch.randn(1000, generator=torch.Generator().manual_seed(seed)) * 4
    assert ((scores > decision_score(threshold)) == (scores.sigmoid() > threshold)).all()


@pytest.mark.parametrize(
    ("head", "threshold"), [({"out_channels": 1}, 0.3), ({"out_channels": 1, "threshold": 0.6}, 0.6)]
)
def test_two_logits_stand_for_one_score(head: dict[str, Any], threshold: float) -> None:
    segmentor = build_inline(theirs.network(2, **head))
    assert segmentor.decode_head.threshold == threshold
    network = PSPNet(segmentor).eval()
    image = torch.randn(1, 3, 33, 47)
    with torch.inference_mode():
        logits = network(image)
        score = segmentor.encode_decode(image, [{"ori_shape": (33, 47), "img_shape": (33, 47)}])
    assert score.shape == (1, 1, 33, 47)
    assert torch.equal(logits[:, 1:], score)
    assert (logits[:, 0] == decision_score(threshold)).all()


@given(THRESHOLDS, st.integers(0, 1000))
def test_the_margin_is_the_distance_to_the_threshold(threshold: float, seed: int) -> None:
    score = np.random.default_rng(seed).standard_normal((5, 7)).astype(np.float32) * 4
    at = np.full_like(score, decision_score(threshold))
    assert np.array_equal(margin(np.stack([at, score])), np.abs(score - at))


@dataclass(frozen=True)
class Vessels:
    """A binary model: what it comes from, and the folder of its conversion by each front-end."""

    config: Path
    checkpoint: Path
    root: Path
    folders: dict[str, Path]
    threshold: float

    @property
    def folder(self) -> Path:
        return self.folders["ovc"]

    @property
    def out(self) -> tuple[str, Path]:
        return "-o", self.folder.parents[1]

    @property
    def images(self) -> list[Path]:
        """The last one has the model's size."""
        return sorted((self.root / "images" / "validation").iterdir())

    def verify(self, *options: object) -> Result:
        return call("verify", self.folder, *self.out, "--checkpoint", self.checkpoint, *options)


HEADS: dict[str, tuple[dict[str, Any], float]] = {
    "two classes": ({"model__decode_head__out_channels": 1, "model__decode_head__threshold": 0.45}, 0.45),
    "one class": ({"model__decode_head__num_classes": 1}, 0.3),
}
FRONT_ENDS = ["ovc", pytest.param("mo", marks=[needs_mo, pytest.mark.slow])]


@pytest.fixture(scope="module", params=["two classes", slow("one class")])
def vessels(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Vessels:
    """The model after `run` on its images, by each front-end."""
    changes, threshold = HEADS[request.param]
    place = tmp_path_factory.mktemp("vessels")
    root = theirs.write_data(place / "data", "DRIVEDataset", 2)
    config = theirs.write_config(place / "vessels.py", root, "DRIVEDataset", 2, **changes)
    named = slice(2 - changes.get("model__decode_head__num_classes", 2), None)
    names, palette = ["background", "vessel"][named], [[0, 0, 0], [1, 2, 3]][named]
    checkpoint = theirs.save_checkpoint(place / "weights.pth", names, palette, is_binary=True)
    folders = {name: place / name / "public" / "vessels" for name in ("ovc", "mo")[: 1 + has_model_optimizer()]}
    made = Vessels(config, checkpoint, root, folders, decision_score(threshold))
    images = [word for path in made.images for word in ("--images", path)]
    for name in folders:
        given = ("--config", config, "--checkpoint", checkpoint, "-o", place / name, "--front-end", name)
        done = call("run", *given, *images)
        assert done.exit_code == 0, done.stderr
    return made


def answers(vessels: Vessels) -> Iterator[tuple[str, Prediction]]:
    """What each converted model says of the image of its size."""
    card = load_card(vessels.folder / "model.yml")
    image = ModelImages.of(card).fitted(vessels.images[-1], *card.input.shape[2:])
    yield "ONNX", next(OnnxBackend(vessels.folder / "vessels.onnx", card, card.input.shape).run([image]))
    for front_end, folder in vessels.folders.items():
        for path in sorted(folder.glob("*/vessels.xml")):
            yield f"{front_end} {path.parent.name}", next(OpenVinoBackend(path, card).run([image]))


def test_the_card_has_two_classes(vessels: Vessels) -> None:
    card = yaml.safe_load((vessels.folder / "model.yml").read_text())
    assert [label["name"] for label in card["classes"]] == ["background", "vessel"]
    assert card["output"]["values"] == [0, 1]


def test_onnx_and_irs_label_as_mmsegmentation_does(vessels: Vessels) -> None:
    (expected,) = theirs.labels_of(vessels.config, vessels.checkpoint, [vessels.images[-1]])
    assert set(np.unique(expected)) == {0, 1}
    for name, found in answers(vessels):
        if "FP16" in name:
            margins = margin(found.logits)[found.labels != expected]
            assert len(margins) < expected.size / 100 and (margins < 0.1).all()
        else:
            assert np.array_equal(found.labels, expected), name


def test_each_precision_decides_at_the_same_score(vessels: Vessels) -> None:
    for name, found in answers(vessels):
        assert (found.logits[0] == np.float32(vessels.threshold)).all(), name


def test_segment_labels_as_mmsegmentation_does(vessels: Vessels) -> None:
    image = vessels.images[-1]
    assert call("segment", image, "--model", vessels.folder, *vessels.out).exit_code == 0
    (expected,) = theirs.labels_of(vessels.config, vessels.checkpoint, [image])
    with Pillow.open(vessels.folder / "segmented" / f"{image.stem}.labels.png") as picture:
        assert np.array_equal(np.asarray(picture), expected)


def test_evaluate_counts_what_mmsegmentation_counts(vessels: Vessels) -> None:
    asked = ("--dataset", vessels.root, "--backend", "PyTorch", "--json")
    found = call("evaluate", "--config", vessels.config, "--checkpoint", vessels.checkpoint, *vessels.out, *asked)
    assert found.exit_code == 0, found.stderr
    pixels, _ = theirs.tested(vessels.config, vessels.checkpoint)
    (score,) = found.json()["result"]["scores"]
    assert {name: [one[name] for one in score["pixels"]] for name in pixels} == pixels


def test_quantize_evaluate_report_and_bundle(vessels: Vessels, tmp_path: Path) -> None:
    done = call("quantize", vessels.folder, *vessels.out, "--calibration", vessels.images[0].parent, *LENIENT)
    assert done.exit_code == 0, done.stderr
    found = dict(answers(vessels))["ovc INT8"]
    assert (found.logits[0] == np.float32(vessels.threshold)).all()
    given = ("--config", vessels.config, "--checkpoint", vessels.checkpoint, *vessels.out)
    counted = call("evaluate", *given, "--dataset", vessels.root, "--protocol", "pad", "--json").json()["result"]
    scores = {score["backend"]: score["mean_iou"] for score in counted["scores"]}
    assert set(scores) == {"PyTorch", "ONNX", "IR FP32", "IR FP16", "IR INT8"}
    assert [scores["ONNX"], scores["IR FP32"]] == pytest.approx([scores["PyTorch"]] * 2, abs=1e-3)
    (vessels.folder / "report.html").unlink()
    assert call("report", vessels.folder, *vessels.out).exit_code == 0
    assert "vessel" in (vessels.folder / "report.html").read_text()
    assert call("bundle", vessels.folder, "--output-dir", vessels.out[1], "-o", tmp_path / "b.tar.gz").exit_code == 0
    checked = call("check", tmp_path / "b.tar.gz")
    assert checked.exit_code == 0, checked.stdout + checked.stderr


@pytest.mark.slow
def test_rebuild_makes_the_same_files(vessels: Vessels) -> None:
    again = call("rebuild", "--check", vessels.folder / "manifest.json", "--checkpoint", vessels.checkpoint)
    assert again.exit_code == 0, again.stderr


@pytest.mark.slow
@pytest.mark.parametrize("batch", [3, "dynamic"])
@pytest.mark.parametrize("front_end", FRONT_ENDS)
def test_batches_pass(vessels: Vessels, tmp_path: Path, front_end: str, batch: object) -> None:
    given = ("--config", vessels.config, "--checkpoint", vessels.checkpoint, "-o", tmp_path)
    done = call("run", *given, "--front-end", front_end, "--batch", batch)
    assert done.exit_code == 0, done.stderr
    (folder,) = (tmp_path / "public").iterdir()
    assert call("bundle", folder, "--output-dir", tmp_path, "-o", tmp_path / "b.tar.gz").exit_code == 0
    assert call("check", tmp_path / "b.tar.gz").exit_code == 0


# Faults of the decision


def scores_of_faults(threshold: float) -> dict[str, float]:
    """Thresholds that are wrong, as scores."""
    exact = np.float32(threshold)
    return {
        "that of 0.5": decision_score(0.5),
        "one step above": float(np.nextafter(exact, np.float32(np.inf))),
        "greater or equal": float(np.nextafter(exact, np.float32(-np.inf))),
        "rounded to FP16": float(np.float16(exact)),
    }


FAULTS = list(scores_of_faults(0))


def wrong_onnx(vessels: Vessels, target: Path, change: Callable[[onnx.ModelProto], None]) -> Path:
    model = onnx.load(str(vessels.folder / "vessels.onnx"))
    change(model)
    onnx.save(model, str(target))
    return target


def with_threshold(value: float) -> Callable[[onnx.ModelProto], None]:
    def change(model: onnx.ModelProto) -> None:
        (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
        (kept,) = (tensor for tensor in model.graph.initializer if tensor.name == pad.input[2])
        kept.CopyFrom(onnx.numpy_helper.from_array(np.array(value, np.float32), kept.name))

    return change


def last_of_ties(model: onnx.ModelProto) -> None:
    """Greater or equal: the last of equal logits wins."""
    (argmax,) = (node for node in model.graph.node if node.op_type == "ArgMax")
    (flag,) = (one for one in argmax.attribute if one.name == "select_last_index")
    flag.i = 1


def classes_swapped(model: onnx.ModelProto) -> None:
    (pad,) = (node for node in model.graph.node if node.op_type == "Pad")
    (kept,) = (tensor for tensor in model.graph.initializer if tensor.name == pad.input[1])
    kept.CopyFrom(onnx.numpy_helper.from_array(np.array([0, 0, 0, 0, 0, 1, 0, 0]), kept.name))


@pytest.mark.parametrize("fault", FAULTS)
def test_a_wrong_threshold_in_the_onnx_is_found(vessels: Vessels, tmp_path: Path, fault: str) -> None:
    value = scores_of_faults(vessels.threshold)[fault]
    path = wrong_onnx(vessels, tmp_path / "wrong.onnx", with_threshold(value))
    done = vessels.verify("--onnx", path)
    assert done.exit_code == 9, done.stderr
    assert f"scores are compared with {value:.9g}, the threshold is {vessels.threshold:.9g}" in done.error


@pytest.mark.parametrize(("change", "words"), [(last_of_ties, "argmax: takes class 1"), (classes_swapped, "logits: ")])
def test_a_wrong_decision_in_the_onnx_is_found(
    vessels: Vessels, tmp_path: Path, change: Callable[[onnx.ModelProto], None], words: str
) -> None:
    done = vessels.verify("--onnx", wrong_onnx(vessels, tmp_path / "wrong.onnx", change))
    assert done.exit_code == 9, done.stderr
    assert words in done.error


@pytest.mark.parametrize("front_end", FRONT_ENDS)
@pytest.mark.parametrize("precision", [slow("FP32"), "FP16"])
@pytest.mark.parametrize("fault", [*FAULTS, "classes swapped"])
def test_a_wrong_decision_in_an_ir_is_found(
    vessels: Vessels, tmp_path: Path, front_end: str, precision: str, fault: str
) -> None:
    model = openvino.Core().read_model(str(vessels.folders[front_end] / precision / "vessels.xml"))
    (pad,) = (node for node in model.get_ops() if node.get_type_name() == "Pad")
    if fault == "classes swapped":
        before, after = (pad.input_value(number) for number in (1, 2))
        pad.input(1).replace_source_output(after)
        pad.input(2).replace_source_output(before)
    else:
        wrong = np.float32(scores_of_faults(vessels.threshold)[fault])
        pad.input(3).replace_source_output(operations().constant(wrong).output(0))
    openvino.save_model(model, str(tmp_path / "wrong.xml"), compress_to_fp16=False)
    done = vessels.verify("--ir", tmp_path / "wrong.xml")
    assert done.exit_code == 9, done.stderr
    assert "logits: sheet: scores are compared with " in done.error


def up(values: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.nextafter(values, np.float32(np.inf))


RULES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.bool_]]] = {
    "greater or equal": lambda logits: logits[:, 1] >= logits[:, 0],
    "one step late": lambda logits: logits[:, 1] > up(logits[:, 0]),
    "in FP16": lambda logits: logits[:, 1].astype(np.float16) > logits[:, 0].astype(np.float16),
    "less": lambda logits: logits[:, 1] < logits[:, 0],
    "equal": lambda logits: logits[:, 1] == up(logits[:, 0]),
}


@pytest.mark.parametrize("threshold", [0.01, 0.3, 0.5, 0.9])
def test_scores_at_the_threshold_show_a_wrong_last_step(threshold: float) -> None:
    at = decision_score(threshold)
    for name, rule in {"right": lambda logits: logits[:, 1] > logits[:, 0], **RULES}.items():
        comparison = Comparison(name, "f32")
        drawn = drawn_for((2, 6, 7), at)
        slots = np.stack([drawn, np.roll(drawn, 1, axis=-1)])
        check_argmax(rule(slots).astype(np.int64), drawn, comparison)
        assert ("argmax" in comparison.faults) == (name != "right"), name


@pytest.mark.parametrize("threshold", [0, 1, 1.5])
def test_a_threshold_that_decides_nothing(cli: Cli, tmp_path: Path, threshold: float) -> None:
    root = theirs.write_data(tmp_path / "data", "DRIVEDataset", 2)
    changes = {"model__decode_head__out_channels": 1, "model__decode_head__threshold": threshold}
    config = theirs.write_config(tmp_path / "vessels.py", root, "DRIVEDataset", 2, **changes)
    checkpoint = theirs.save_checkpoint(tmp_path / "w.pth", ["a", "b"], [[0, 0, 0], [1, 2, 3]], is_binary=True)
    done = cli("export-onnx", "--config", config, "--checkpoint", checkpoint, "-o", tmp_path)
    assert done.exit_code == 3
    assert f"decode_head.threshold is {threshold}; it must be between 0 and 1" in done.error
