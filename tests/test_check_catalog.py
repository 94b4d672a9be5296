"""scripts/check_catalog.py: one model of each kind goes through the whole chain, and failures are reported."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import check_catalog
import pytest
from card_check import card_faults

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.manifest_fields import Check, Comparison, VerifyResult

ADE, HRF = "pspnet_r50-d8_4xb4-80k_ade20k-512x512", "unet-s5-d16_pspnet_4xb4-40k_hrf-256x256"
ROOT = Path(__file__).parent.parent
KINDS = {
    "fastfcn_r50-d32_jpu_psp_4xb4-80k_ade20k-512x512": [97, 129],
    "mobilenet-v2-d8_pspnet_4xb2-80k_cityscapes-512x1024": [97, 129],
    "pspnet_r18-d8_4xb2-80k_cityscapes-769x769": [97, 129],
    "unet-s5-d16_pspnet_4xb4-ce-1.0-dice-3.0-40k_drive-64x64": [96, 128],
}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "check_catalog.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of one model of each kind. Read only."""
    folder = tmp_path_factory.mktemp("catalog")
    done = run(*KINDS, "--small", "--json", folder / "results.json", "-o", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-1] == "4 of 4 convert and verify"
    assert [path.name for path in folder.iterdir()] == ["results.json"]  # each model's folder is gone
    return folder / "results.json"


@pytest.mark.slow
def test_one_model_of_each_kind_converts_and_verifies(results: Path) -> None:
    models = {model["name"]: model for model in json.loads(results.read_text())["models"]}
    assert {name: model["shape"] for name, model in models.items()} == KINDS
    for model in models.values():
        assert (model["verdict"], model["card"]) == ("pass", "pass")
        assert set(model["seconds"]) == {"download", "export-onnx", "to-ir", "verify", "all"}
        assert set(model["errors"]) == {"ONNX", "IR FP32", "IR FP16"}
        assert 0 < model["errors"]["ONNX"] < 1e-5 < model["errors"]["IR FP16"]


@pytest.mark.slow
def test_a_model_that_passed_is_not_checked_again_and_is_on_the_page(results: Path, tmp_path: Path) -> None:
    kept = Path(shutil.copy(results, tmp_path))
    page = tmp_path / "page.md"
    # A model that is done again fails: there is no such folder.
    done = run(*KINDS, "--small", "--json", kept, "--markdown", page, "-o", tmp_path / "no such folder")
    assert (done.returncode, done.stderr) == (0, "")
    text = page.read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == list(KINDS)
    assert "| Cityscapes | R-18-D8 | 97x129 | mIoU 75.9 | 3deefc62 |" in text
    assert text.endswith("4 of 4 convert and verify\n")
    assert "4 of the 70 models" in text and f"torch {version('torch')}" in text
    assert run("--input-shape", "64,64", "--json", kept).stderr.endswith("of another size; name another file\n")
    kept.write_text(kept.read_text().replace(version("torch"), "1.5.0"))
    assert "of other tools" in run("--small", "--json", kept).stderr


def test_a_model_that_fails_is_reported_and_the_next_one_is_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = ["mobilenet-v2-d8_pspnet_4xb2-80k_cityscapes-512x1024", "pspnet_r18-d8_4xb2-80k_cityscapes-769x769"]
    verdicts = iter(["pass", "labels: differ"])
    monkeypatch.setattr(check_catalog, "check_card", lambda model: next(verdicts))
    monkeypatch.setattr(sys, "argv", ["check_catalog.py", *names, "-o", str(tmp_path / "no such folder")])
    with pytest.raises(SystemExit) as ended:
        check_catalog.main()
    assert ended.value.code == 1
    _, *rows, last = capsys.readouterr().out.splitlines()
    assert [row.split()[0] for row in rows] == names
    assert all(" unexpected FileNotFoundError: " in row for row in rows)
    assert rows[1].endswith("; card: labels: differ")
    assert last == "0 of 2 convert and verify"


def test_the_verdict_of_a_wrong_or_doubtful_model_has_its_reason() -> None:
    checks = [
        Check(name="labels", what="", passed=True, faults=[]),
        Check(name="logits", what="", passed=False, faults=["too far"]),
    ]
    wrong = VerifyResult.model_construct(
        verdict="mismatch", doubts=[], comparisons=[Comparison.model_construct(backend="ONNX", checks=checks)]
    )
    assert check_catalog._verdict(wrong) == "mismatch: ONNX: logits: too far"
    misread = Check(name="preprocessing", what="", passed=False, faults=["the card's mean is"])
    alone = VerifyResult.model_construct(verdict="mismatch", doubts=[], comparisons=[], preprocessing=misread)
    assert check_catalog._verdict(alone) == "mismatch: preprocessing: the card's mean is"
    doubtful = VerifyResult.model_construct(verdict="inconclusive", doubts=["one class everywhere"], comparisons=[])
    assert check_catalog._verdict(doubtful) == "inconclusive: one class everywhere"


@pytest.mark.slow
def test_every_card_says_what_mmsegmentation_does() -> None:
    done = run("--cards-only")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "70 of 70 cards agree with mmsegmentation")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"annotations.reduce_zero_label": False}, "labels: mmsegmentation counts 0 as 255, this tool as 0"),
        ({"annotations.ignore_index": 3}, "labels: mmsegmentation counts 0 as 255, this tool as 254"),
        ({"annotations.image_suffix": ".tif"}, "files: mmsegmentation's data set finds no file"),
        ({"annotations.annotation_folder": "labels"}, "has the card's images/validation, but no labels"),
        ({"input.mean": (123.675, 116.28, 104)}, "preprocessing: the card's mean is [123.675, 116.28, 104.0]"),
        ({"input.color_order": "BGR"}, "preprocessing: the card's color_order is BGR, the config's RGB"),
        ({"testing.metrics": ["mDice"]}, "test: mmsegmentation has ('whole', None, None, ['mIoU'], 1, None)"),
    ],
)
def test_a_card_that_says_otherwise_than_mmsegmentation_fails(
    ade: ModelCard, changes: dict[str, Any], words: str
) -> None:
    assert words in card_faults(changed(ade, changes))[0]


@pytest.fixture(scope="module")
def ade() -> ModelCard:
    """A right card."""
    card = find_card(ADE)
    assert card_faults(card) == []
    return card


@pytest.mark.slow
def test_a_card_with_other_windows_than_mmsegmentations_fails() -> None:
    card = find_card(HRF)
    assert card_faults(card) == []
    (fault,) = card_faults(changed(card, {"testing.stride": (85, 85)}))
    assert fault.startswith("test: mmsegmentation has ('slide', (256, 256), (170, 170), ['mDice']")


def test_the_scale_of_the_config_counts(ade: ModelCard) -> None:
    assert ade.testing is not None
    steps = [{**step, "scale": [1024, 256]} if step["type"] == "Resize" else step for step in ade.testing.pipeline]
    assert card_faults(changed(ade, {"testing.pipeline": steps})) == [
        "preprocessing: one.jpg: mmsegmentation's tensor is [3, 512, 770], this tool's [3, 256, 385]"
    ]


def changed(card: ModelCard, changes: dict[str, Any]) -> ModelCard:
    """The card with other values, by place."""
    data = card.model_dump()
    for place, value in changes.items():
        part, key = place.split(".")
        data[part] = {**data[part], key: value}
    return ModelCard.model_validate(data).at(card.path)


def test_an_unknown_name_is_refused() -> None:
    done = run("pspnet_r19", "--small")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "no model named 'pspnet_r19'; `pspnet-convert list` shows all\n"
