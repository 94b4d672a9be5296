"""The parts of a card that come from a config, and the errors if the config lacks one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from pspnet_convert.cards import config_card
from pspnet_convert.errors import CardError

MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]
PREPROCESSOR = {"mean": [1, 2, 3], "std": [4, 5, 6], "bgr_to_rgb": True}


def config(**changes: Any) -> Config:
    data: dict[str, Any] = {
        "crop_size": (32, 48),
        "model": {"data_preprocessor": PREPROCESSOR, "decode_head": {"num_classes": 2}, "test_cfg": {"mode": "whole"}},
        "train_dataloader": {"dataset": {"type": "DRIVEDataset"}},
    }
    return Config({**data, **changes})


def head(**values: Any) -> dict[str, Any]:
    return {"model": {"data_preprocessor": PREPROCESSOR, "decode_head": values}}


def test_the_input_is_the_crop_normalised_as_the_preprocessor_does_it() -> None:
    found = config_card.input_of(config())
    assert (found.shape, found.color_order) == ((1, 3, 32, 48), "RGB")
    assert (found.mean, found.scale) == ((1, 2, 3), (4, 5, 6))
    output = config_card.output_of(found, 7)
    assert (output.shape, output.values) == ((1, 1, 32, 48), (0, 6))


@pytest.mark.parametrize(
    ("preprocessor", "order", "mean", "scale"),
    [
        ({"mean": [1, 2, 3], "std": [4, 5, 6]}, "BGR", (1, 2, 3), (4, 5, 6)),
        ({"rgb_to_bgr": True}, "RGB", (0, 0, 0), (1, 1, 1)),
        ({"std": [4, 5, 6]}, "BGR", (0, 0, 0), (1, 1, 1)),  # without a mean, mmsegmentation does not divide
        ({"mean": [1], "std": 4}, "BGR", (1, 1, 1), (4, 4, 4)),
    ],
)
def test_channels_are_reversed_only_if_the_preprocessor_reverses_them(
    preprocessor: dict[str, Any], order: str, mean: tuple[int, ...], scale: tuple[int, ...]
) -> None:
    found = config_card.input_of(config(model={"data_preprocessor": preprocessor}))
    assert (found.color_order, found.mean, found.scale) == (order, mean, scale)


def of_channels(channels: Any, mean: Any, std: Any, **others: Any) -> Config:
    preprocessor = {"mean": mean, "std": std, **others}
    return config(model={"data_preprocessor": preprocessor, "backbone": {"in_channels": channels}})


@pytest.mark.parametrize("channels", [1, 2, 4, 13])
@pytest.mark.parametrize("flags", [{}, {"bgr_to_rgb": True}])  # mmsegmentation reverses three channels alone
def test_other_channels_keep_their_order(channels: int, flags: dict[str, Any]) -> None:
    mean, std = [-10.5 + 1000 * place for place in range(channels)], [0.25 + place for place in range(channels)]
    found = config_card.input_of(of_channels(channels, mean, std, **flags))
    assert found.shape == (1, channels, 32, 48)
    assert (found.color_order, found.converted_color_order) == ("as stored", "as stored")
    assert (found.mean, found.scale) == (tuple(mean), tuple(std))
    assert not found.is_color and not found.is_plain_color


def test_one_number_is_for_all_channels() -> None:
    assert config_card.input_of(of_channels(4, 128, 64)).mean == (128, 128, 128, 128)


@pytest.mark.parametrize(
    ("channels", "mean", "std", "words"),
    [
        (4, [128], [64], "the config's mean has 1 value, the network takes 4 channels"),
        (1, [1, 2, 3], [4, 5, 6], "the config's mean has 3 values, the network takes 1 channel"),
        (2, [1, 2], [4, 5, 6], "the config's std has 3 values, the network takes 2 channels"),
        (3, [1, 2, 3, 4], 1, "the config's mean has 4 values, the network takes 3 channels"),
        (1, [1], [0], "each value must be between 1e-12 and 1e12"),
        (1, [1], [-2], "each value must be between 1e-12 and 1e12"),
        (0, 1, 1, "model.backbone.in_channels is 0, not 1 to 512"),
        ("4", 1, 1, "model.backbone.in_channels is '4', not 1 to 512"),
    ],
)
def test_mean_and_std_have_a_value_for_each_channel(channels: Any, mean: Any, std: Any, words: str) -> None:
    with pytest.raises(CardError, match=re.escape(words)):
        config_card.input_of(of_channels(channels, mean, std))


@pytest.mark.parametrize(
    ("mean", "std", "is_plain"),
    [
        (MEAN, STD, True),
        (MEAN, [1] * 3, True),
        ([0] * 3, [1] * 3, True),
        ([0] * 3, [255] * 3, True),
        ([0] * 3, [10000] * 3, False),
        ([-1, 2, 3], STD, False),
        ([0.485, 0.456, 0.406], [0.229, 0.224, 0.225], False),
        ([0.5] * 3, [0.5] * 3, False),
    ],
)
def test_three_channels_are_pictures_where_their_values_are_bytes(mean: Any, std: Any, is_plain: bool) -> None:
    found = config_card.input_of(of_channels(3, mean, std))
    assert found.is_color and found.is_plain_color == is_plain


NORMALIZE = {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6]}


@pytest.mark.parametrize(
    ("step", "preprocessor", "order", "mean", "scale"),
    [
        (NORMALIZE, {}, "RGB", (1, 2, 3), (4, 5, 6)),
        ({**NORMALIZE, "to_rgb": False}, {}, "BGR", (1, 2, 3), (4, 5, 6)),
        # ((x - 3) / 6 - 7) / 2 is (x - 45) / 12
        (NORMALIZE, {"mean": 7, "std": 2, "bgr_to_rgb": True}, "BGR", (45, 37, 29), (12, 10, 8)),
    ],
)
def test_the_step_normalize_counts_and_the_preprocessor_comes_after_it(
    step: dict[str, Any], preprocessor: dict[str, Any], order: str, mean: tuple[int, ...], scale: tuple[int, ...]
) -> None:
    loader = {"dataset": {"type": "A", "pipeline": [step]}}
    found = config_card.input_of(config(test_dataloader=loader, model={"data_preprocessor": preprocessor}))
    assert (found.color_order, found.mean, found.scale) == (order, mean, scale)


def test_the_models_own_preprocessor_goes_before_the_other_as_in_mmengines_runner() -> None:
    other = {"mean": 9, "std": 9}
    assert config_card.input_of(config(data_preprocessor=other)).mean == (1, 2, 3)
    assert config_card.input_of(config(data_preprocessor=other, model={})).mean == (9, 9, 9)


def test_one_side_means_a_square_and_the_preprocessors_size_replaces_a_missing_crop_size() -> None:
    assert config_card.input_of(config(crop_size=64)).shape == (1, 3, 64, 64)
    preprocessor = {"data_preprocessor": {**PREPROCESSOR, "size": (16, 24)}}
    assert config_card.input_of(config(crop_size=None, model=preprocessor)).shape == (1, 3, 16, 24)


@pytest.mark.parametrize(
    ("dataset", "found"),
    [
        ({"type": "A"}, "A"),
        ({"type": "RepeatDataset", "times": 3, "dataset": {"type": "A"}}, "A"),
        (
            {"type": "ConcatDataset", "datasets": [{"type": "A"}, {"type": "RepeatDataset", "dataset": {"type": "A"}}]},
            "A",
        ),
        ([{"type": "A"}, {"type": "A"}], "A"),
    ],
)
def test_the_dataset_is_found_in_its_wrappers(dataset: Any, found: str) -> None:
    assert config_card.dataset_type(config(train_dataloader={"dataset": dataset})) == found


def test_the_classes_are_those_of_mmsegmentations_dataset() -> None:
    found = config_card.dataset_labels(config())
    assert [label.name for label in found] == ["background", "vessel"]
    assert [label.color for label in found] == [(120, 120, 120), (6, 230, 230)]


@pytest.mark.parametrize(
    ("ask", "changes", "words"),
    [
        (config_card.input_of, {"crop_size": None}, "None is no height and width"),
        (config_card.input_of, {"crop_size": (1, 2, 3)}, "(1, 2, 3) is no height and width"),
        (config_card.input_of, {"crop_size": (32, 1.5)}, "is no height and width"),
        (
            config_card.input_of,
            {"crop_size": (4, 4)},
            "its input is not an image: Value error, must be [1, channels, height",
        ),
        (
            config_card.input_of,
            {"model": {"data_preprocessor": {"mean": 0, "std": [0, 1, 1]}}},
            "each value must be between 1e-12 and 1e12",
        ),
        (config_card.input_of, {"model": {"data_preprocessor": {"mean": [1, 2, 3]}}}, "None is not a number for each"),
        (
            config_card.input_of,
            {"model": {"data_preprocessor": {"mean": [1, 2], "std": 1}}},
            "the config's mean has 2 values, the network takes 3 channels",
        ),
        (config_card.number_of_classes, {"model": {}}, "num_classes is None, not a number of classes"),
        (config_card.number_of_classes, head(num_classes=0), "num_classes is 0, not a number of classes"),
        (config_card.number_of_classes, {"model": {"decode_head": [{"num_classes": 3}]}}, "num_classes is None"),
        (config_card.dataset_labels, head(num_classes=3), "DRIVEDataset: 2 names and 2 colours do not fit the"),
        (
            config_card.dataset_labels,
            {"train_dataloader": {"dataset": {"type": "NoSuchDataset"}}},
            "mmsegmentation has no classes for the dataset 'NoSuchDataset'",
        ),
        (config_card.dataset_labels, {"train_dataloader": {}}, "trains on no dataset, not on one dataset"),
        (
            config_card.dataset_labels,
            {"train_dataloader": {"dataset": [{"type": "B"}, {"type": "A"}]}},
            "trains on A, B, not on one dataset",
        ),
    ],
)
def test_what_a_config_does_not_say_is_not_guessed(
    ask: Callable[[Config], Any], changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(CardError) as caught:
        ask(config(**changes))
    assert words in caught.value.what


@pytest.mark.parametrize(
    ("names", "palette", "words"),
    [
        (["a", "b", "c"], [[0, 0, 0]] * 2, "3 names and 2 colours do not fit the network's 2 classes"),
        (["a", "b"], [[0, 0, 0], [0, 0, 256]], "a class's color is"),
        (["a", "b"], [[0, 0, 0], [0, 0]], "a class's color is"),
        (["a", ""], [[0, 0, 0]] * 2, "a class's name is ''"),
    ],
)
def test_names_and_colours_that_do_not_fit(names: list[str], palette: list[list[int]], words: str) -> None:
    with pytest.raises(CardError) as caught:
        config_card.class_labels(names, palette, 2)
    assert words in caught.value.what


def test_a_config_that_does_not_run_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "broken.py"
    path.write_text("model = dict(\n", encoding="utf-8")
    with pytest.raises(CardError, match=r"broken\.py: cannot be read as a config"):
        config_card.read_config(path)


def test_what_a_config_prints_is_not_on_stdout(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "talks.py"
    path.write_text("print('of the config')\nx = 1\n", encoding="utf-8")
    assert config_card.read_config(path).x == 1
    assert capsys.readouterr() == ("", "of the config\n")


def test_what_mmsegmentations_datasets_print_is_not_on_stdout(tmp_path: Path) -> None:
    (tmp_path / "mmseg" / "datasets").mkdir(parents=True)
    (tmp_path / "mmseg" / "__init__.py").touch()
    (tmp_path / "mmseg" / "datasets" / "__init__.py").write_text(
        "print('no OneDL')\n"
        "class Digits:\n"
        "    METAINFO = {'classes': ('one', 'two'), 'palette': ((0, 0, 1), (0, 0, 2))}\n"
    )
    program = (
        "from mmengine.config import Config\n"
        "from pspnet_convert.cards.config_card import dataset_labels\n"
        "data = {'model': {'decode_head': {'num_classes': 2}}, 'train_dataloader': {'dataset': {'type': 'Digits'}}}\n"
        "print(*(label.name for label in dataset_labels(Config(data))))\n"
    )
    path = os.pathsep.join([str(tmp_path), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, capture_output=True, text=True
    )
    assert done.stdout == "one two\n", done.stderr
    assert "no OneDL" in done.stderr
