"""A config of mmsegmentation 0.x: its test pipeline says how the network's input is normalised, not its variables."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from pspnet_convert.cards import config_testing
from pspnet_convert.cards.config_annotations import annotations_of
from pspnet_convert.cards.config_card import input_of, read_config

OLD = """
model = dict(type='EncoderDecoder', test_cfg=dict(mode='slide', crop_size=(32, 48), stride=(21, 30)))
crop_size = (32, 48)
img_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6], to_rgb=True)
train_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='LoadAnnotations', reduce_zero_label=True),
    dict(type='Normalize', **img_norm_cfg),
]
test_pipeline = [
    dict(type='LoadImageFromFile'),
    dict(type='MultiScaleFlipAug', img_scale=(64, 32), flip=False, transforms=[
        dict(type='Resize', keep_ratio=True),
        dict(type='RandomFlip'),
        dict(type='Normalize', **img_norm_cfg),
        dict(type='ImageToTensor', keys=['img']),
        dict(type='Collect', keys=['img']),
    ])
]
data = dict(
    samples_per_gpu=4,
    train=dict(type='ADE20KDataset', data_root='d', img_dir='im/t', ann_dir='an/t', pipeline=train_pipeline),
    test=dict(type='ADE20KDataset', data_root='d', img_dir='im/v', ann_dir='an/v', split='v.txt',
              pipeline=test_pipeline))
evaluation = dict(interval=1, metric='mDice')
"""
NORMALIZE = {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6], "to_rgb": True}
END = [{"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]
Read = Callable[..., Config]


@pytest.fixture
def read(tmp_path: Path) -> Read:
    def read(text: str, child: str = "") -> Config:
        (tmp_path / "base.py").write_text(text)
        (tmp_path / "child.py").write_text(f"_base_ = 'base.py'\n{child}")
        return read_config(tmp_path / "child.py")

    return read


def values(config: Config) -> tuple[Any, ...]:
    found = input_of(config)
    return found.color_order, found.mean, found.scale


def test_the_pipeline_metric_and_windows_become_those_of_1x(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    found = config_testing.testing_of(read(OLD))
    assert found is not None
    resize = {"type": "Resize", "scale": [64, 32], "keep_ratio": True}
    assert found.pipeline == [{"type": "LoadImageFromFile"}, resize, NORMALIZE, *END]
    assert (found.preprocessor, found.metrics) == ({}, ["mDice"])
    assert (found.mode, found.crop_size, found.stride) == ("slide", (32, 48), (21, 30))
    assert values(read(OLD)) == ("RGB", (1, 2, 3), (4, 5, 6))
    assert not caplog.records


def test_the_data_set_becomes_that_of_1x(read: Read) -> None:
    found = annotations_of(read(OLD))
    assert (found.dataset, found.reduce_zero_label, found.ignore_index) == ("ADE20KDataset", True, 255)
    assert (found.image_folder, found.annotation_folder, found.list_file) == ("im/v", "an/v", "v.txt")
    custom = OLD.replace("ADE20KDataset", "CustomDataset").replace("split='v.txt'", "img_suffix='.tif', ignore_index=0")
    found = annotations_of(read(custom))
    assert (found.dataset, found.image_suffix, found.list_file) == ("BaseSegDataset", ".tif", None)
    assert (found.reduce_zero_label, found.ignore_index) == (False, 0)
    chosen = annotations_of(read(OLD.replace("split='v.txt'", "classes=['wall', 'sky']")))
    assert chosen.label_map is not None and (chosen.label_map[2], chosen.label_map[1]) == (1, 255)


def test_data_sets_in_lists_and_the_validations_are_found(read: Read) -> None:
    of_val = OLD.replace("    test=dict(", "    val=dict(")
    assert annotations_of(read(of_val)).image_folder == "im/v"
    assert config_testing.testing_of(read(of_val)) is not None
    listed = OLD.replace("img_dir='im/v'", "img_dir=['im/v', 'im/w']")
    assert annotations_of(read(listed)).image_folder == "im/v"
    concat = read(
        OLD, "data = dict(test=dict(_delete_=True, type='ConcatDataset', datasets=[dict(type='HRFDataset')]))"
    )
    assert annotations_of(concat).dataset == "HRFDataset"


@pytest.mark.parametrize(
    "child",
    [
        "img_norm_cfg = dict(mean=[9, 9, 9], std=[8, 8, 8])",
        "img_norm_cfg = dict(to_rgb=False)",
        "img_norm_cfg = dict(_delete_=True, mean=[0, 0, 0])",
    ],
)
def test_a_child_that_overrides_the_variable_alone_changes_nothing(
    read: Read, child: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert values(read(OLD, child)) == ("RGB", (1, 2, 3), (4, 5, 6))
    assert "child.py: img_norm_cfg is {" in caplog.text
    assert "data.test.pipeline normalises by [{'mean': [1, 2, 3]" in caplog.text


def test_a_child_that_overrides_the_pipeline_changes_the_input(read: Read, caplog: pytest.LogCaptureFixture) -> None:
    step = "dict(type='Normalize', mean=[9, 9, 9], std=[8, 8, 8], to_rgb=False)"
    child = f"data = dict(test=dict(pipeline=[dict(type='LoadImageFromFile'), {step}]))"
    assert values(read(OLD, child)) == ("BGR", (9, 9, 9), (8, 8, 8))
    assert "data.train.pipeline normalises by [{'mean': [1, 2, 3]" in caplog.text
    without = "data = dict(test=dict(pipeline=[dict(type='LoadImageFromFile')]))"
    assert values(read(OLD, without)) == ("BGR", (0, 0, 0), (1, 1, 1))


def test_without_a_pipeline_the_variable_serves(read: Read) -> None:
    variable = "crop_size = 32\nimg_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6]{})"
    assert values(read(variable.format(""))) == ("RGB", (1, 2, 3), (4, 5, 6))
    assert values(read(variable.format(", to_rgb=False"))) == ("BGR", (1, 2, 3), (4, 5, 6))


def test_a_config_of_1x_keeps_its_preprocessor(read: Read) -> None:
    new = "model = dict(data_preprocessor=dict(type='SegDataPreProcessor', mean=[5, 5, 5], std=[6, 6, 6]))"
    assert values(read(f"crop_size = 32\nimg_norm_cfg = dict(mean=[1, 2, 3], std=[4, 5, 6])\n{new}")) == (
        "BGR",
        (5, 5, 5),
        (6, 6, 6),
    )


@pytest.mark.parametrize(
    ("before", "after", "steps"),
    [
        ("img_scale=(64, 32)", "img_scale=[(64, 32)]", [{"type": "Resize", "scale": [64, 32], "keep_ratio": True}]),
        ("img_scale=(64, 32)", "img_scale=None, img_ratios=[1.0]", []),
        (
            "Resize', keep_ratio=True",
            "Resize', img_scale=(9, 9), keep_ratio=False",
            [{"type": "Resize", "scale": [64, 32], "keep_ratio": False}],
        ),
        ("keep_ratio=True", "", [{"type": "Resize", "scale": [64, 32], "keep_ratio": True}]),  # the default of 0.x
        ("dict(type='RandomFlip'),", "dict(type='RGB2Gray', out_channels=3),", None),
    ],
)
def test_other_ways_to_write_it(read: Read, before: str, after: str, steps: Any) -> None:
    found = config_testing.testing_of(read(OLD.replace(before, after)))
    assert found is not None
    if steps is None:
        assert found.pipeline[2] == {"type": "RGB2Gray", "out_channels": 3}
    else:
        assert found.pipeline == [{"type": "LoadImageFromFile"}, *steps, NORMALIZE, *END]


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("flip=False", "flip=True", "MultiScaleFlipAug of several images"),
        ("flip=False", "flip=False, img_ratios=[0.5, 1.0]", "MultiScaleFlipAug of several images"),
        ("img_scale=(64, 32)", "img_scale=[(64, 32), (32, 32)]", "MultiScaleFlipAug of several images"),
        ("keep_ratio=True", "keep_ratio=True, min_size=9", "Resize of 0.x"),
        ("dict(type='RandomFlip'),", "dict(type='Pad', size_divisor=32),", "Pad of 0.x"),
    ],
)
def test_a_step_without_an_equal_is_not_held_but_the_input_is_right(
    read: Read, before: str, after: str, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    config = read(OLD.replace(before, after))
    held = config_testing.testing_of(config)
    assert held is not None and held.pipeline == []
    assert f"child.py: its test pipeline has the step {words}, which a card cannot hold" in caplog.text
    assert values(config) == ("RGB", (1, 2, 3), (4, 5, 6))


def test_the_test_mode_may_be_outside_the_model(read: Read) -> None:
    """As in configs of the first releases of mmsegmentation 0.x."""
    old = OLD.replace(", test_cfg=dict(mode='slide', crop_size=(32, 48), stride=(21, 30))", "")
    mode = "test_cfg = dict(mode='slide', crop_size=(30, 40), stride=(20, 25))"
    found = config_testing.testing_of(read(old, mode))
    assert found is not None
    assert (found.mode, found.crop_size, found.stride) == ("slide", (30, 40), (20, 25))
