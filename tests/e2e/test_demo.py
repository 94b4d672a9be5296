"""The demo model, offline, from an empty folder: what the quickstart does."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from conftest import Run
from PIL import Image

from pspnet_convert.cards.catalog import find_card


@pytest.fixture(scope="module")
def folder(offline: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    done = offline("run", "demo", cwd=folder)
    assert done.returncode == 0, done.stderr
    assert "verdict: pass" in done.stdout
    return folder


def test_both_precisions_pass_and_the_manifest_lists_the_files(folder: Path) -> None:
    made = folder / "public" / "demo"
    manifest = json.loads((made / "manifest.json").read_text())
    stages = manifest["stages"]
    assert list(stages) == ["download", "export-onnx", "to-ir", "verify"]
    assert stages["verify"]["result"]["verdict"] == "pass"
    backends = [row["backend"] for row in stages["verify"]["result"]["comparisons"]]
    assert backends == ["ONNX", "IR FP32", "IR FP16"]
    outputs = [output for stage in stages.values() for output in stage["outputs"]]
    pictures = [output for output in outputs if output["file"].startswith("verification/")]
    assert (len(outputs) - len(pictures), len(pictures)) == (6, 5 * 5)
    for output in outputs:
        assert hashlib.sha256((made / output["file"]).read_bytes()).hexdigest() == output["sha256"]
    assert len(stages["verify"]["result"]["classes_seen"]) > 2


# For the versions in the constraints files. A new digest changes the artifact for every user: it needs a reason and an
# entry in CHANGELOG.md.
ONNX = "bb34fc01e9be600d33cfd87f5e7b1596c795984e067d291f28431b17ca58f55c"
IRS = {
    "mo": {
        "FP32/demo.bin": "3e118cedce1b279f7cc257b9916b8580edd01cb5c071b622238a6c303244bd7f",
        "FP32/demo.xml": "f1b649f73b5b576305923847c54c020b2b3af0d596cf21a99012a5ac8d431bb0",
        "FP16/demo.bin": "6e342556d30eda9dd23a5fe5e27d8e661521ffdeae75a2e552327fddb5040415",
        "FP16/demo.xml": "2c96feb3e2583c26c16d8f874bbfab8f2d7cbb818f7a9c512343b9880849d588",
    },
    "ovc": {
        "FP32/demo.bin": "4aff2c3ea03b43c28d47eeaa0cea059c160d61dac9d1eb46acddddfb2e56e462",
        "FP32/demo.xml": "b1b91e8e112bf99386d61e1020d1244120f99fa8e65050add7ee0c44fce8c2e7",
        "FP16/demo.bin": "4d601e7889a2d6984c80317e4ed18441e05aa63465cceda59ccdf9eeb4bc15ac",
        "FP16/demo.xml": "5bd157aecd0734390ef6791d6ff9617fd7c9f974eb70a3339a4edf7fdf00e8af",
    },
}


def test_the_artifacts_are_those_of_earlier_releases(folder: Path) -> None:
    stages = json.loads((folder / "public" / "demo" / "manifest.json").read_text())["stages"]
    (exported,) = stages["export-onnx"]["outputs"]
    assert exported["sha256"] == ONNX
    converted = {output["file"]: output["sha256"] for output in stages["to-ir"]["outputs"]}
    assert converted == IRS[stages["to-ir"]["options"]["front_end"]]


def test_a_second_run_does_nothing_again(offline: Run, folder: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (folder / "public" / "demo").rglob("*.*") if path.is_file()}
    done = offline("run", "demo", "--json", cwd=folder)
    assert done.returncode == 0
    assert [stage["skipped"] for stage in json.loads(done.stdout)["stages"]] == [True] * 4
    after = {path: path.stat().st_mtime_ns for path in (folder / "public" / "demo").rglob("*.*") if path.is_file()}
    assert {p for p in before if before[p] != after[p]} <= {folder / "public" / "demo" / ".lock"}


def test_segment_paints_the_digits_that_are_there(offline: Run, folder: Path) -> None:
    card = find_card("demo")
    photo = sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[0]
    done = offline("segment", photo, "--model", "demo", "--json", cwd=folder)
    assert done.returncode == 0, done.stderr
    (one,) = json.loads(done.stdout)
    labels = Image.open(folder / one["labels"])
    truth = Image.open(card.folder / "voc" / "SegmentationClass" / f"{photo.stem}.png")
    assert labels.mode == "P"
    assert labels.size == truth.size
    agreeing = sum(a == b for a, b in zip(labels.tobytes(), truth.tobytes()))
    assert agreeing > 0.8 * len(truth.tobytes())
    assert Image.open(folder / one["overlay"]).size[0] > truth.size[0]


def test_each_model_has_the_mean_iou_that_the_card_states(offline: Run, folder: Path) -> None:
    done = offline("evaluate", "demo", "--json", "--max-drop", "0.02", cwd=folder)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert (result["protocol"], result["images"], result["skipped"], result["unknown"]) == ("mmseg", 40, {}, {})
    figures = {score["backend"]: score["mean_iou"] for score in result["scores"]}
    assert list(figures) == ["PyTorch", "ONNX", "IR FP32", "IR FP16"]
    assert max(figures.values()) - min(figures.values()) <= 0.02
    assert figures["PyTorch"] == pytest.approx(find_card("demo").accuracy[0].value, abs=0.01)
