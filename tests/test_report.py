"""The page of a run: its verdict, that it describes the present files, and that it is the same each time."""

from __future__ import annotations

import base64
import html
import io
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import openvino
import pytest
import torch
from conftest import Cli, needs_mo, slow
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.files import sha256_of
from pspnet_convert.manifest_document import Stages, read_manifest
from pspnet_convert.manifest_fields import Latency, Score
from pspnet_convert.report_page import charts, words
from pspnet_convert.report_page.samples import marks_picture, read_samples
from pspnet_convert.runtimes.backends import OpenVinoBackend
from pspnet_convert.runtimes.images import read_image, to_bgr


@pytest.fixture
def folder(workspace: Path) -> Path:
    return workspace / "public" / "small-standin"


def page_of(folder: Path) -> str:
    return (folder / "report.html").read_text(encoding="utf-8")


def verdict_of(folder: Path) -> tuple[str, str]:
    """The state of the box at the top, and all its words."""
    found = re.search(r'<section class="verdict (\w+)".*?</svg>(.*?)</section>', page_of(folder), flags=re.DOTALL)
    assert found is not None
    return found[1], " ".join(html.unescape(re.sub(r"<[^>]+>", " ", found[2])).split())


# When it is written


def test_run_writes_it_and_says_where(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    (folder / "report.html").unlink()
    result = cli("run", small.folder, "-o", workspace)
    assert f"page: {folder / 'report.html'}" in result.stdout
    assert verdict_of(folder) == ("pass", "Verified Every converted model gives the PyTorch network's results.")


def test_the_command_prints_its_path(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    page = page_of(folder)
    (folder / "report.html").unlink()
    assert cli("report", small.folder, "-o", workspace).stdout == f"{folder / 'report.html'}\n"
    assert page_of(folder) == page
    assert cli("report", small.folder, "-o", workspace, "--json").json() == {"report": str(folder / "report.html")}


def test_without_a_run_there_is_nothing_to_report(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    result = cli("report", small.folder, "-o", tmp_path)
    assert result.exit_code == 11
    assert "manifest.json: has no stage yet. Run `pspnet-convert run` first." in result.error
    assert not list(tmp_path.rglob("report.html"))


def test_a_place_that_cannot_be_written(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    (folder / "report.html").unlink()
    (folder / "report.html").mkdir()
    result = cli("report", small.folder, "-o", workspace)
    assert result.exit_code == 12
    assert "cannot be written: Is a directory" in result.error


def test_the_same_run_gives_the_same_bytes_in_any_process(small: ModelCard, workspace: Path, folder: Path) -> None:
    before = (folder / "report.html").read_bytes()
    for seed in ("1", "2"):
        (folder / "report.html").unlink()
        command = [sys.executable, "-m", "pspnet_convert", "report", str(small.folder), "-o", str(workspace)]
        subprocess.run(command, check=True, capture_output=True, env={**os.environ, "PYTHONHASHSEED": seed})
        assert (folder / "report.html").read_bytes() == before


def test_a_stage_that_is_done_alone_leaves_no_page_behind(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    for command in (["export-onnx", "--no-fold-pyramid"], ["to-ir"]):
        assert cli(command[0], small.folder, "-o", workspace, *command[1:]).exit_code == 0
        state, told = verdict_of(folder)
        assert state == "unverified"
        assert told == "Not verified The converted models were not compared with the original."
    assert cli("verify", small.folder, "-o", workspace).exit_code == 0
    assert verdict_of(folder)[0] == "pass"


def test_a_stage_alone_makes_no_page(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    assert cli("download", small.folder, "-o", tmp_path).exit_code == 0
    assert not list(tmp_path.rglob("report.html"))


# What it says


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_a_file_that_is_not_the_verified_one(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, damage: str
) -> None:
    path = folder / "FP16" / "small-standin.bin"
    good = path.read_bytes()
    path.write_bytes(good[::-1]) if damage == "changed" else path.unlink()
    assert cli("report", small.folder, "-o", workspace).exit_code == 0
    state, told = verdict_of(folder)
    assert state == "unverified"
    assert told == "Not verified Not the files that were verified: FP16/small-standin.bin."
    path.write_bytes(good)
    assert cli("run", small.folder, "-o", workspace).exit_code == 0  # and only writes the page
    assert verdict_of(folder)[0] == "pass"


@needs_mo
def test_a_run_that_failed_is_not_verified(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    result = cli("run", small.folder, "-o", workspace, "--input-shape", "1,3,40,48", "--mo-arg", "nonsense")
    assert result.exit_code == 8
    state, told = verdict_of(folder)
    assert state == "unverified"
    assert told == "Not verified The converted models were not compared with the original."


def test_what_was_never_verified(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    assert cli("download", small.folder, "-o", tmp_path).exit_code == 0
    assert cli("report", small.folder, "-o", tmp_path).exit_code == 0
    folder = tmp_path / "public" / "small-standin"
    assert verdict_of(folder) == (
        "unverified",
        "Not verified The converted models were not compared with the original.",
    )
    assert re.findall(r'<li class="missing">\s*<h3>([\w-]+)', page_of(folder)) == ["export-onnx", "to-ir", "verify"]
    assert 'id="samples"' not in page_of(folder)
    assert 'id="snippet"' not in page_of(folder)


def test_a_wrong_model_is_named_with_its_faults(cli: Cli, small: ModelCard, workspace: Path, folder: Path) -> None:
    model = openvino.Core().read_model(str(folder / "small-standin.onnx"))  # no mean, no scale, channels not reversed
    openvino.save_model(model, str(folder / "FP32" / "small-standin.xml"), compress_to_fp16=False)
    assert cli("verify", small.folder, "-o", workspace).exit_code == 9
    state, told = verdict_of(folder)
    assert state == "mismatch"
    assert "Other results than the PyTorch network's: IR FP32. Do not ship it." in told
    result = json.loads((folder / "manifest.json").read_text())["stages"]["verify"]["result"]
    faults = [fault for row in result["comparisons"] for check in row["checks"] for fault in check["faults"]]
    assert faults
    for fault in faults:
        assert f"<li>{html.escape(fault, quote=False)}</li>" in page_of(folder).replace("&#39;", "'")
    assert page_of(folder).count("<details open>") == 1


def test_pictures_that_prove_little_and_another_checkpoint(cli: Cli, small: ModelCard, tmp_path: Path) -> None:
    content = torch.load(small.folder / small.checkpoint.name, weights_only=True)
    content["state_dict"]["decode_head.conv_seg.bias"] = torch.tensor([1e4, 0.0, 0, 0, 0])
    torch.save(content, tmp_path / "blind.pth")
    given = ["--checkpoint", tmp_path / "blind.pth", "--allow-unknown-checkpoint"]
    assert cli("run", small.folder, "-o", tmp_path, *given).exit_code == 10
    state, told = verdict_of(tmp_path / "public" / "small-standin")
    assert state == "inconclusive"
    assert "the reference sees one class everywhere" in told
    assert "The checkpoint blind.pth is not the one that the model's card names." in told
    assert sha256_of(tmp_path / "blind.pth") in page_of(tmp_path / "public" / "small-standin")


def test_every_file_has_its_digest_and_each_library_its_version(small_run: Path) -> None:
    folder = small_run / "public" / "small-standin"
    stages = json.loads((folder / "manifest.json").read_text())["stages"]
    page = page_of(folder)
    for record in stages.values():
        for output in record["outputs"]:
            assert (output["sha256"] in page) is not output["file"].endswith(".png")
        for tool, version in record["tools"].items():
            assert f"<dt>{tool}</dt><dd>{version}</dd>" in page
    assert f"{len(stages['verify']['outputs'])} pictures" in page


def test_sizes_are_those_of_the_files(small_run: Path) -> None:
    folder = small_run / "public" / "small-standin"
    bars = charts.sizes(read_manifest(folder / "manifest.json").stages)
    files = {
        "Checkpoint": [folder / "standin.pth"],
        "ONNX": [folder / "small-standin.onnx"],
        "IR FP32": list((folder / "FP32").iterdir()),
        "IR FP16": list((folder / "FP16").iterdir()),
    }
    sizes = {label: sum(path.stat().st_size for path in paths) for label, paths in files.items()}
    assert {bar.label: bar.value for bar in bars} == {label: words.in_bytes(size) for label, size in sizes.items()}
    for bar in bars:
        assert bar.length == pytest.approx(100 * sizes[bar.label] / max(sizes.values()))


def test_published_figures_are_named_as_such(cli: Cli, tmp_path: Path) -> None:
    assert cli("download", "demo", "-o", tmp_path).exit_code == 0
    assert cli("report", "demo", "-o", tmp_path).exit_code == 0
    page = page_of(tmp_path / "public" / "demo")
    accuracy = page[page.index('id="accuracy"') :]
    assert "Figures stated by their authors, not measured in this run." in accuracy
    assert f"{find_card('demo').accuracy[0].value} %" in accuracy
    assert "<h3>Measured</h3>" not in accuracy


@pytest.mark.parametrize("damage", ["changed", "deleted"])
def test_a_picture_that_is_not_as_verify_left_it_is_not_shown(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path, damage: str
) -> None:
    assert 'id="samples"' in page_of(folder)
    path = folder / "verification" / "sheet.reference.png"
    path.write_bytes(b"no picture") if damage == "changed" else path.unlink()
    result = cli("report", small.folder, "-o", workspace)
    assert result.exit_code == 0
    assert (
        f"{path} is missing or has changed; the page leaves it out. Run `pspnet-convert verify` to make it again"
        in result.stderr
    )
    assert 'id="samples"' not in page_of(folder)


@pytest.mark.parametrize(
    "options",
    [
        [],
        slow(["--batch", "2", "--input-type", "u8", "--input-layout", "NHWC"]),
        slow(["--batch", "dynamic", "--input-type", "u8"]),
    ],
    ids=" ".join,
)
def test_the_snippet_runs_and_sees_what_the_ir_sees(
    cli: Cli, demo_run: Path, tmp_path: Path, options: list[str]
) -> None:
    shutil.copytree(demo_run / "public" / "demo", tmp_path / "public" / "demo")
    assert cli("run", "demo", "-o", tmp_path, *options).exit_code == 0
    (tmp_path / "public" / "demo").rename(tmp_path / "demo")
    card = find_card("demo")
    picture = sorted((card.folder / "voc" / "JPEGImages").glob("*.jpg"))[0]
    shutil.copy(picture, tmp_path / "demo" / "picture.jpg")
    found = re.search(r'<code id="snippet">(.*?)</code>', page_of(tmp_path / "demo"), flags=re.DOTALL)
    assert found is not None
    (tmp_path / "snippet.py").write_text(html.unescape(found[1]), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, str(tmp_path / "snippet.py")], cwd=tmp_path / "demo", capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    told = {name: float(share) for name, share in re.findall(r"^(\w+): ([\d.]+)%$", done.stdout, flags=re.MULTILINE)}
    backend = OpenVinoBackend(demo_run / "public" / "demo" / "FP32" / "demo.xml", card)
    (seen,) = backend.run([to_bgr(read_image(picture))])
    for number, name in enumerate(card.class_names):
        # The snippet runs at the processor's own precision.
        assert told.get(name, 0) == pytest.approx(100 * (seen.labels == number).mean(), abs=0.3)


# Figures that may be missing


def test_charts_of_what_was_not_measured_are_empty() -> None:
    assert charts.accuracies(Stages()) == charts.latencies(Stages()) == charts.sizes(Stages()) == []


def test_bars_of_accuracy_are_on_the_whole_scale_and_of_time_on_the_longest() -> None:
    scores = [
        score("PyTorch", 50, None, {}),
        score("IR FP32", 25, 25, {}),
    ]
    measured = charts.accuracies(Stages(evaluate=SimpleNamespace(result=SimpleNamespace(scores=scores))))
    assert [(bar.length, bar.value, bar.is_ir) for bar in measured] == [
        (50, "50.00 %", False),
        (25, "25.00 % (-25.00)", True),
    ]
    rows = [
        Latency(weights="FP32", at="f32", precision="f32", median_ms=80, ratio=1),
        Latency(weights="INT8", at="default", precision="i8, f32", median_ms=20, ratio=4),
    ]
    timed = charts.latencies(Stages({"verify-int8": SimpleNamespace(result=SimpleNamespace(latency=rows))}))
    assert [(bar.length, bar.value) for bar in timed] == [
        (100, "80.0 ms (1.0 x as fast)"),
        (25, "20.0 ms (4.0 x as fast)"),
    ]


def score(backend: str, mean_iou: float, drop: float | None, ious: dict[str, float | None]) -> Score:
    return Score(
        backend=backend,
        answers="label map",
        mean_iou=mean_iou,
        mean_iou_without_void=mean_iou,
        pixel_accuracy=60,
        ious=ious,
        drop=drop,
        metrics={},
        by_class={},
        pixels=[],
    )


def with_figures(folder: Path) -> None:
    """Add what `evaluate` and `quantize` write to the manifest, for the present files."""
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    models = manifest["stages"]["to-ir"]["outputs"]
    card = manifest["stages"]["to-ir"]["inputs"]["card"]
    processor = manifest["stages"]["verify"]["inputs"]["processor"]
    common = {"tools": {}, "outputs": [], "finished": "2026-01-01T00:00:00+00:00", "seconds": 0}
    ious = {label["name"]: 40.0 for label in manifest["model"]["classes"][:-1]}
    ious[manifest["model"]["classes"][-1]["name"]] = None
    manifest["stages"]["evaluate"] = {
        **common,
        "inputs": {
            "card": card,
            "shape": card["input"]["shape"],
            "models": {"IR FP32": models},
            "dataset": {
                "name": "VOC<2012>",
                "layout": "voc",
                "split": "val",
                "listed": 1449,
                "images": "0" * 64,
                "labels": {},
                "understood": ["1449 images", "<b>labels</b>"],
            },
            "testing": None,
            "stated": 40.004,
            "processor": processor,
        },
        "options": EvaluateOptions(protocol="pad", skip_bad=True).as_record(),
        "result": {
            "protocol": "pad",
            "listed": 1449,
            "images": 1448,
            "skipped": {"bad": "is not an image"},
            "unknown": {},
            "ignored": 0.1,
            "stated": 40.004,
            "reference": "the card",
            "left_out": {"ONNX": "takes <64x64> alone"},
            "warnings": ["a <warning>"],
            "scores": [score("IR FP32", 40.0, 0.004, ious).model_dump()],
        },
    }
    manifest["stages"]["verify-int8"] = {
        **common,
        "inputs": {"models": models, "images": [], "card": card, "processor": processor},
        "options": {"min_agreement": 0.95, "processor": None},
        "result": {
            "verdict": "mismatch",
            "faults": ["its logits are <not> finite"],
            "inputs": ["a.png"],
            "classes_seen": [0, 1],
            "pixels": 4608,
            "differing": 2304,
            "bytes": {"FP32": 4, "INT8": 1},
            "agreement": 0.5,
            "min_agreement": 0.95,
            "processors": [],
            "relative_error": {"rms": None, "largest": None},
            "latency": [{"weights": "INT8", "at": "f32", "precision": "i8+f32", "median_ms": 3.0, "ratio": 2.0}],
        },
    }
    path.write_text(json.dumps(manifest))


def test_measured_figures_are_shown_until_their_models_change(
    cli: Cli, small: ModelCard, workspace: Path, folder: Path
) -> None:
    with_figures(folder)
    assert cli("report", small.folder, "-o", workspace).exit_code == 0
    page = " ".join(page_of(folder).split())
    assert verdict_of(folder)[1].endswith("The INT8 model did not pass its verification.")
    for told in (
        "Mean IoU over 1,448 of 1,449 images of VOC&lt;2012&gt; (val), protocol pad; "
        "pixels of no class (void) count as background. "
        "In brackets: difference from the card.",
        "40.00 % (+0.00)",
        "<li>&lt;b&gt;labels&lt;/b&gt;</li>",
        '<li class="bad">a &lt;warning&gt;</li>',
        "<li>ONNX is not evaluated: it takes &lt;64x64&gt; alone</li>",
        "<td>does not occur</td>",
        "<li>its logits are &lt;not&gt; finite</li>",
        "logit error not finite rms",
        "3.0 ms (2.0 x as fast)",
    ):
        assert told in page
    assert "have been made again since" not in page
    (folder / "FP32" / "small-standin.xml").unlink()
    assert cli("report", small.folder, "-o", workspace).exit_code == 0
    assert page_of(folder).count("Outdated: the models have been made again since.") == 2


# Words


@given(share=st.floats(0, 1))
def test_no_share_below_one_is_shown_as_a_hundred(share: float) -> None:
    shown = float(words.percent(share).removesuffix(" %"))
    assert (shown == 100) == (share == 1)
    assert shown == pytest.approx(100 * share, abs=1.1e-4)


@given(share=st.floats(0, 1, exclude_min=True))
def test_no_part_above_zero_is_shown_as_zero(share: float) -> None:
    assert words.part(share) != "0.0 %"


@given(count=st.integers(0, 10**12 - 1))
def test_sizes_are_shown_to_a_tenth_of_their_unit(count: int) -> None:
    number, unit = words.in_bytes(count).split()
    factor = {"bytes": 1, "kB": 1e3, "MB": 1e6, "GB": 1e9}[unit]
    assert float(number) * factor == pytest.approx(count, abs=factor / 20 + 1)


def test_the_cards_background_alone_is_transparent(folder: Path) -> None:
    manifest = read_manifest(folder / "manifest.json")
    for number, background in ((0, "background"), (3, "bird"), (None, None)):
        card = manifest.model.model_copy(update={"background": background})
        shown = read_samples(manifest.model_copy(update={"model": card}), folder, sha256_of)
        seen = set()
        for sample in shown:
            content = base64.b64decode(sample.layers[0].labels.partition(",")[2])
            with Pillow.open(io.BytesIO(content)) as image:
                labels, alpha = np.asarray(image), np.asarray(image.convert("RGBA"))[:, :, 3]
            assert np.array_equal(alpha == 0, labels == (-1 if number is None else number))
            seen.update(np.unique(labels).tolist())
        assert {0, 3} <= seen


def test_every_pixel_that_differs_is_marked() -> None:
    differs = np.zeros((40, 50), bool)
    differs[10, 20] = differs[39, 0] = True
    marks = np.asarray(marks_picture(differs))
    assert (marks[differs] == 2).all()
    assert marks[10, 16] == 0
    assert marks[10, 17] == 1
