"""The check `preprocessing`: a card that misstates the network's input fails, though reference and IR agree."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import yaml
from conftest import Cli

from pspnet_convert.cards.card import ModelCard, load_card
from pspnet_convert.cards.catalog import find_card
from pspnet_convert.commands.verify.preprocessing import check_preprocessing

MEAN, SCALE = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
STEPS = [{"type": "LoadImageFromFile"}, {"type": "Resize", "scale": [64, 48]}, {"type": "PackSegInputs"}]
NORMALIZE = {"type": "Normalize", "mean": list(MEAN), "std": list(SCALE)}
PREPROCESSOR = {"mean": list(MEAN), "std": list(SCALE), "bgr_to_rgb": True}
Write = Callable[..., Path]


@pytest.fixture(scope="module")
def own() -> ModelCard:
    """A card with a network inside, whose config is not needed."""
    card = find_card()
    network = {"type": "EncoderDecoder", "backbone": {"type": "ResNet"}, "decode_head": {"type": "PSPHead"}}
    data = card.model_dump(mode="json", exclude_none=True)
    return ModelCard.model_validate({**data, "config": None, "network": network})


def checked(card: ModelCard, *, testing: Any = None, **values: Any) -> list[str]:
    """The faults of the card with these values of its input, and of its testing."""
    changes: dict[str, Any] = {"input": {**card.input.model_dump(), **values}}
    if testing is not None:
        assert card.testing is not None
        changes["testing"] = {**card.testing.model_dump(), **testing}
    found = check_preprocessing(ModelCard.model_validate({**card.model_dump(), **changes}))
    assert found is not None
    assert found.passed == (not found.faults)
    return found.faults


def test_the_built_in_cards_pass() -> None:
    for card in (find_card(), find_card("demo")):
        assert checked(card) == []


def test_a_card_without_testing_has_no_such_check() -> None:
    assert check_preprocessing(find_card().model_copy(update={"testing": None})) is None


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"mean": (123.675, 116.28, 104.53)}, "the card's mean is [123.675, 116.28, 104.53], {}'s [123.675, 116.28, 1"),
        ({"scale": (1, 1, 1)}, "the card's scale is [1.0, 1.0, 1.0], {}'s [58.395, 57.12, 57.375]; "),
        ({"color_order": "BGR"}, "the card's color_order is BGR, {}'s RGB; "),
        ({"mean": MEAN[::-1]}, "the card's mean is [103.53, 116.28, 123.675], {}'s [123.675, 116.28, 103.53]; "),
        ({"mean": (123.68, 116.28, 103.53)}, "the card's mean is [123.68, "),
    ],
)
def test_a_misstated_input_fails_with_both_values(own: ModelCard, values: dict[str, Any], words: str) -> None:
    for card, origin in ((find_card(), "the config"), (own, "its testing")):
        (fault,) = checked(card, **values)
        assert words.format(origin) in fault
        assert "chelsea.jpg: mmsegmentation's tensor has " in fault and ", this tool's " in fault
        assert "at row " in fault and "channel " in fault


def test_the_config_is_believed_and_not_the_cards_copy_of_it() -> None:
    wrong = {"mean": [1, 2, 3], "std": [1, 1, 1], "bgr_to_rgb": True}
    (fault,) = checked(find_card(), testing={"preprocessor": wrong}, mean=(1, 2, 3), scale=(1, 1, 1))
    assert "the card's mean is [1.0, 2.0, 3.0], the config's [123.675, 116.28, 103.53]" in fault


def test_the_overrides_of_the_config_count() -> None:
    card = find_card().model_copy(update={"config_overrides": {"model.data_preprocessor.mean": [1, 2, 3]}})
    assert "the config's [1, 2, 3]" in checked(card)[0]
    assert checked(card, mean=(1, 2, 3)) == []


@pytest.mark.parametrize(
    ("steps", "preprocessor", "values"),
    [
        ([STEPS[0], STEPS[1], NORMALIZE, STEPS[2]], {}, {}),  # as a config of 0.x
        ([STEPS[0], STEPS[1], {**NORMALIZE, "to_rgb": False}, STEPS[2]], {}, {"color_order": "BGR"}),
        ([STEPS[0], NORMALIZE, STEPS[2]], {"mean": [0.5], "std": [2]}, {}),
        (STEPS, {}, {"color_order": "BGR", "mean": (0, 0, 0), "scale": (1, 1, 1)}),
        (STEPS, {**PREPROCESSOR, "test_cfg": {"size_divisor": 32}}, {}),
        (STEPS, {**PREPROCESSOR, "pad_val": 3, "test_cfg": {"size": [70, 80]}}, {}),
        ([STEPS[0], {"type": "Pad", "size": [700, 700], "pad_val": 9}, STEPS[2]], PREPROCESSOR, {}),
        ([STEPS[0], {"type": "ResizeShortestEdge", "scale": 60, "max_size": 90}, STEPS[2]], PREPROCESSOR, {}),
        ([STEPS[0], {"type": "Rerange"}, {"type": "LoadAnnotations"}, STEPS[2]], PREPROCESSOR, {}),
        ([{"type": "LoadImageFromFile", "to_float32": True}, *STEPS[1:]], PREPROCESSOR, {}),
        # One channel, which the preprocessor normalises as each of three colours.
        ([{"type": "LoadImageFromFile", "color_type": "grayscale"}, *STEPS[1:]], PREPROCESSOR, {}),
    ],
)
def test_other_pipelines_pass(own: ModelCard, steps: Any, preprocessor: Any, values: dict[str, Any]) -> None:
    from pspnet_convert.cards.normalisation import normalisation

    right = normalisation(steps, preprocessor)
    values = {"color_order": right.color_order, "mean": right.mean, "scale": right.scale} | values
    assert checked(own, testing={"pipeline": steps, "preprocessor": preprocessor}, **values) == []


@pytest.mark.parametrize(
    ("testing", "words"),
    [
        ({"preprocessor": {"mean": [1, 2, 3]}}, "mmsegmentation does not run the test pipeline: To enable the normal"),
        ({"pipeline": [STEPS[0], {"type": "Resize"}, STEPS[2]]}, "testing: the step Resize does not build"),
        (
            {"pipeline": [{"type": "LoadImageFromFile", "color_type": "unchanged", "imdecode_backend": "x"}, STEPS[2]]},
            "the test pipeline does not take it: backend: x is not supported",
        ),
        # This tool normalises last.
        ({"pipeline": [STEPS[0], NORMALIZE, STEPS[1], STEPS[2]], "preprocessor": {}}, "mmsegmentation's tensor has "),
    ],
)
def test_a_pipeline_that_does_not_run_is_a_fault(own: ModelCard, testing: dict[str, Any], words: str) -> None:
    assert words in checked(own, testing=testing)[0]


@pytest.fixture
def card_with(small: ModelCard, tmp_path: Path) -> Write:
    """The small model with other values in its card's input, in a folder of its own."""

    def write(**values: Any) -> Path:
        folder = Path(shutil.copytree(small.folder, tmp_path / "card"))
        data = yaml.safe_load((folder / "model.yml").read_text())
        data["input"].update(values)
        (folder / "model.yml").write_text(yaml.safe_dump(data))
        return folder

    return write


@pytest.mark.slow
def test_a_wrong_mean_is_a_mismatch_though_all_models_agree(cli: Cli, card_with: Write, tmp_path: Path) -> None:
    folder, junit = card_with(mean=[124.9, 116.28, 103.53]), tmp_path / "junit.xml"
    done = cli("run", folder, "-o", tmp_path, "--json", "--junit", junit)
    assert done.exit_code == 9, done.stderr
    assert "preprocessing differs from mmsegmentation's: the card's mean is [124.9, 116.28, 103.53], the" in done.error
    assert "Correct the card's input" in done.error
    assert done.json()["verdict"] == "mismatch"
    result = done.json()["stages"][-1]["result"]
    assert all(row["passed"] for row in result["comparisons"])
    assert (result["preprocessing"]["name"], result["preprocessing"]["passed"]) == ("preprocessing", False)
    failed = [
        case.attrib["name"] for case in ElementTree.parse(junit).iter("testcase") if case.find("failure") is not None
    ]
    assert failed == ["preprocessing"]
    again = cli("verify", folder, "-o", tmp_path)
    assert again.exit_code == 9
    assert "preprocessing: FAIL: a photograph becomes" in again.stdout
    page = (tmp_path / "public" / load_card(folder / "model.yml").name / "report.html").read_text()
    assert "Images are prepared in another way than mmsegmentation&#39;s. Do not ship it." in page
    assert "chelsea.jpg: mmsegmentation&#39;s tensor has" in page


def test_models_from_elsewhere_are_held_to_it_too(
    cli: Cli, small: ModelCard, workspace: Path, card_with: Write
) -> None:
    onnx = workspace / "public" / small.name / f"{small.name}.onnx"
    right = cli("verify", small.folder, "-o", workspace, "--onnx", onnx)
    assert right.exit_code == 0, right.stderr
    assert "preprocessing: pass: a photograph becomes" in right.stdout
    folder = card_with(scale=[1, 1, 1])
    wrong = cli("verify", folder, "-o", workspace, "--onnx", onnx, "--json")
    assert wrong.exit_code == 9
    assert "preprocessing differs from mmsegmentation's: the card's scale is [1.0, 1.0, 1.0], the" in wrong.error
    assert not wrong.json()["stages"][0]["result"]["preprocessing"]["passed"]


def test_another_test_pipeline_in_the_card_is_verified_anew(
    cli: Cli, small: ModelCard, workspace: Path, card_with: Write
) -> None:
    folder = card_with()
    assert "verify: unchanged" in cli("verify", folder, "-o", workspace).stderr
    text = (folder / "model.yml").read_text()
    (folder / "model.yml").write_text(text.replace("keep_ratio: true", "keep_ratio: false"))
    again = cli("verify", folder, "-o", workspace)
    assert (again.exit_code, "verify: unchanged" in again.stderr) == (0, False)
