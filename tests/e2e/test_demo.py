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
    assert (len(outputs) - len(pictures), len(pictures)) == (6, 6 * 5)
    for output in outputs:
        assert hashlib.sha256((made / output["file"]).read_bytes()).hexdigest() == output["sha256"]
    assert len(stages["verify"]["result"]["classes_seen"]) > 2


# For the versions in the constraints files. A new digest changes the artifact for every user: it needs a reason and an
# entry in CHANGELOG.md.
ONNX = "5db070a3341b0b1e4250d56d884ef36befb6211e96745a290ad9c496e95be799"
IRS = {
    "mo": {
        "FP32/demo.bin": "993e5637211617dccd4f2f35c8abb8899b712c408481421372e08ad3ec3abb17",
        "FP32/demo.xml": "28884eaab3b678888b84b736ed4cb428aa701d65c23ec4fc71b8aef7eb3c9aa0",
        "FP16/demo.bin": "66dcda9c18003dacc00aa22018ec7e06105516c81c553a197ebf579b8d824420",
        "FP16/demo.xml": "34433f98837e8b7cab4dd73bfe4aaf5408a87a92ef4e791f506966d18da54649",
    },
    "ovc": {
        "FP32/demo.bin": "7cc1835d09b168cf53cbff592ce8d7c56500fcc7b9d72f79adaf20b087e4d7cc",
        "FP32/demo.xml": "a68221681dcffed1401da8d1bf9136f94aebf186c544e6bffb5c161a7e6bf116",
        "FP16/demo.bin": "b980886928fa0675d89ba7786cd74dae6322cafefeb4f750f0108967476733e2",
        "FP16/demo.xml": "ad1bf6deb12d56fd2f653025ac6dced4b66ff2ecb8c2af41d499ae78bfe474e3",
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
