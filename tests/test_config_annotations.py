"""What annotations mean, read from a config: the same as mmsegmentation's object of the data set says."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from pspnet_convert.cards.annotations import Annotations
from pspnet_convert.cards.card import load_card
from pspnet_convert.cards.config_annotations import annotations_of
from pspnet_convert.cards.config_card import read_config
from pspnet_convert.cards.in_words import annotations_text
from pspnet_convert.cards.model_index import package_folder

OWN = """
from mmseg.datasets import BaseSegDataset
from mmseg.registry import DATASETS

@DATASETS.register_module(force=True)
class Fields(BaseSegDataset):
    METAINFO = dict(classes=('a', 'b', 'c'), palette=[[0, 0, 0], [1, 1, 1], [2, 2, 2]])

    def __init__(self, **kwargs):
        super().__init__(img_suffix='.tif', seg_map_suffix='_mask.png', reduce_zero_label=True, **kwargs)

@DATASETS.register_module(force=True)
class Late(BaseSegDataset):
    def __init__(self, data_prefix=dict(img_path='im', seg_map_path='an'), ann_file='all.txt', **kwargs):
        super().__init__(data_root='/data/late', data_prefix=data_prefix, ann_file=ann_file, **kwargs)
        self.reduce_zero_label = True

@DATASETS.register_module(force=True)
class Strict(BaseSegDataset):
    def __init__(self, data_root, test_mode=False):
        super().__init__(data_root=data_root, img_suffix='.jpeg')

@DATASETS.register_module(force=True)
class Walks(BaseSegDataset):
    def load_data_list(self):
        return []
"""
REDUCING = {"type": "LoadAnnotations", "reduce_zero_label": True}


def config(dataset: Any, **changes: Any) -> Config:
    return Config({"test_dataloader": {"dataset": dataset}, **changes})


def of(dataset: Any, **changes: Any) -> Annotations:
    return annotations_of(config(dataset, **changes))


def test_a_data_set_of_a_base_of_mmsegmentations_is_made(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """mmengine puts `_scope_` into it, which is no argument of its class."""
    path = tmp_path / "config.py"
    path.write_text("_base_ = 'mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py'")
    found = annotations_of(read_config(path))
    assert (found.dataset, found.reduce_zero_label) == ("ADE20KDataset", True)
    assert caplog.text == ""


def test_the_defaults_of_a_class_are_read() -> None:
    found = of({"type": "ADE20KDataset", "data_prefix": {"img_path": "images", "seg_map_path": "annotations"}})
    assert (found.dataset, found.reduce_zero_label, found.ignore_index) == ("ADE20KDataset", True, 255)
    assert (found.image_suffix, found.annotation_suffix, found.list_file) == (".jpg", ".png", None)
    assert (found.image_folder, found.annotation_folder) == ("images", "annotations")


def test_a_part_of_a_data_set_is_said(caplog: pytest.LogCaptureFixture) -> None:
    of({"type": "ADE20KDataset", "indices": 100})
    assert "tests on the indices 100 of its data set alone; evaluate takes all" in caplog.text


@pytest.mark.parametrize("kind", ["DRIVEDataset", "STAREDataset", "HRFDataset", "PascalContextDataset"])
def test_a_class_that_asserts_its_folders_is_read_without_them(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    found = of({"type": kind, "data_root": "/none", "data_prefix": {"img_path": "a/b", "seg_map_path": "c"}})
    assert (found.dataset, found.image_folder, found.annotation_folder) == (kind, "a/b", "c")
    assert not caplog.records


def test_a_class_with_its_module_is_found() -> None:
    assert of({"type": "mmseg.datasets.ade.ADE20KDataset"}).reduce_zero_label
    assert of({"type": "mmseg.datasets.ade.ADE20KDataset"}).dataset == "ADE20KDataset"


@pytest.mark.parametrize(
    ("arguments", "field", "value"),
    [
        ({"reduce_zero_label": False}, "reduce_zero_label", False),
        ({"img_suffix": ".tif"}, "image_suffix", ".tif"),
        ({"seg_map_suffix": "_x.png"}, "annotation_suffix", "_x.png"),
        ({"ann_file": "lists/val.txt", "data_root": "data/ade/"}, "list_file", "lists/val.txt"),
        ({"ann_file": ""}, "list_file", None),
        ({"data_prefix": {"img_path": "./a//b/"}}, "image_folder", "a/b"),
        ({"data_root": "/d/e", "data_prefix": {"img_path": "/d/e/im"}}, "image_folder", "im"),
        ({"data_root": "/d/e", "data_prefix": {"img_path": "/d/f"}}, "image_folder", ""),
        ({"data_prefix": {"img_path": "../f"}}, "image_folder", ""),
        ({}, "image_folder", ""),
        ({"ignore_index": 7}, "ignore_index", 255),  # the metric's counts
        ({"backend_args": {"backend": "petrel"}, "test_mode": True, "lazy_init": False}, "dataset", "ADE20KDataset"),
    ],
)
def test_the_configs_own_arguments_count(arguments: dict[str, Any], field: str, value: Any) -> None:
    assert getattr(of({"type": "ADE20KDataset", **arguments}), field) == value


def test_the_label_map_is_that_of_the_chosen_classes() -> None:
    metainfo = {"classes": ("wall", "sky"), "palette": [[0, 0, 0], [1, 1, 1]]}
    label_map = of({"type": "ADE20KDataset", "metainfo": metainfo}).label_map
    assert label_map == {0: 0, 2: 1, **{number: 255 for number in range(150) if number not in (0, 2)}}


@pytest.mark.parametrize(
    "evaluator",
    [
        {"type": "IoUMetric", "ignore_index": 0},
        [{"type": "CityscapesMetric"}, {"type": "mmseg.evaluation.IoUMetric", "ignore_index": 0}],
        {"type": "Evaluator", "metrics": [{"type": "IoUMetric", "ignore_index": 0}]},
    ],
)
def test_the_metrics_ignore_index_counts_and_not_the_heads(evaluator: Any) -> None:
    head = {"decode_head": {"ignore_index": 9}}
    assert of({"type": "ADE20KDataset"}, test_evaluator=evaluator, model=head).ignore_index == 0
    assert of({"type": "ADE20KDataset"}, val_evaluator=evaluator).ignore_index == 0


@pytest.mark.parametrize("wrapper", ["RepeatDataset", "ConcatDataset"])
def test_wrappers_are_looked_into_and_the_validations_data_set_serves(wrapper: str) -> None:
    inner = {"type": "ADE20KDataset"}
    wrapped = {"type": wrapper, **({"dataset": inner} if wrapper == "RepeatDataset" else {"datasets": [inner]})}
    assert of(wrapped).dataset == "ADE20KDataset"
    for loader in ("val_dataloader", "train_dataloader"):
        assert annotations_of(Config({loader: {"dataset": wrapped}})).dataset == "ADE20KDataset"


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_data_sets.py").write_text(OWN)
    monkeypatch.syspath_prepend(str(tmp_path))
    (tmp_path / "config.py").write_text("custom_imports = dict(imports=['own_data_sets'], allow_failed_imports=False)")
    read_config(tmp_path / "config.py")


@pytest.mark.usefixtures("own")
def test_what_a_users_class_sets_in_its_body_is_read(caplog: pytest.LogCaptureFixture) -> None:
    fields = of({"type": "Fields", "data_root": "d", "metainfo": {"classes": ["c", "a"]}})
    assert (fields.image_suffix, fields.annotation_suffix, fields.reduce_zero_label) == (".tif", "_mask.png", True)
    assert fields.label_map == {0: 1, 1: 255, 2: 0}
    late = of({"type": "Late", "pipeline": [REDUCING]})
    assert (late.image_folder, late.annotation_folder, late.list_file) == ("im", "an", "all.txt")
    assert late.reduce_zero_label
    assert of({"type": "Strict", "data_root": "d"}).image_suffix == ".jpeg"
    assert not caplog.records


@pytest.mark.usefixtures("own")
@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        ({"type": "Nowhere", "img_suffix": ".tif"}, "data set Nowhere cannot be made (there is no such class); its"),
        ({"type": "Strict", "img_suffix": ".tif"}, "data set Strict cannot be made ("),
        ({"type": "Walks", "img_suffix": ".tif"}, "Walks finds its files in a way of its own"),
        ({"type": "no.such.Module", "img_suffix": ".tif"}, "data set no.such.Module cannot be made"),
        (
            {"type": "BaseSegDataset", "img_suffix": ".tif", "seg_map_suffix": "_l (1).png"},
            "a card cannot hold the annotation_suffix '_l (1).png'",
        ),
        (
            {"type": "BaseSegDataset", "img_suffix": ".tif", "pipeline": [REDUCING]},
            "LoadAnnotations and BaseSegDataset differ in reduce_zero_label",
        ),
        ([{"type": "BaseSegDataset", "img_suffix": ".tif"}] * 2, "tests on 2 data sets; the card describes the annota"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_logged_and_the_rest_is_kept(
    dataset: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    found = of(dataset)
    assert words in caplog.text
    assert (found.image_suffix, found.annotation_suffix, found.reduce_zero_label) == (".tif", ".png", False)


def test_an_index_that_no_annotation_has_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    assert of({"type": "ADE20KDataset"}, test_evaluator={"type": "IoUMetric", "ignore_index": -1}).ignore_index == 255
    assert "a card cannot hold the ignore_index -1" in caplog.text


def test_without_a_data_set_a_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert annotations_of(Config({})) == Annotations()
    assert "has no data set, which would say what the numbers in annotations mean" in caplog.text


def test_the_built_in_card_has_its_configs_annotations() -> None:
    card = load_card(Path(__file__).parent.parent / "model.yml")
    assert card.config is not None
    assert annotations_of(read_config(package_folder() / "configs" / card.config)) == card.annotations


def test_annotations_in_words() -> None:
    found = Annotations(dataset="A", image_folder="", list_file="val.txt")
    assert annotations_text(found) == (
        "A: classes count from 0; 255 is ignored; img: *.jpg, ann: SegmentationClass/*.png, list: val.txt"
    )
    changes = {"reduce_zero_label": True, "label_map": {0: 1, 1: 0}, "dataset": None}
    assert annotations_text(found.model_copy(update=changes)).startswith(
        "any data set: 0 is ignored, classes count from 1; 2 numbers are renumbered; 255 is ign"
    )
    changes = {"reduce_zero_label": True, "ignore_index": 3}
    assert "0 is read as 255, classes count from 1; class 3 is ignored" in annotations_text(
        found.model_copy(update=changes)
    )
