"""mmsegmentation's test of a model, read from its config as plain data."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import numpy as np
import pytest
from mmengine.config import Config
from mmsegmentation import quiet_import

from pspnet_convert.cards import config_card, config_testing, in_words, testing
from pspnet_convert.cards.config_annotations import annotations_of
from pspnet_convert.cards.config_card import read_config
from pspnet_convert.cards.model_index import package_folder
from pspnet_convert.errors import CardError

STEPS: list[dict[str, Any]] = [
    {"type": "LoadImageFromFile", "backend_args": None},
    {"type": "Resize", "scale": (64, 48), "keep_ratio": True},
    {"type": "LoadAnnotations"},
    {"type": "PackSegInputs"},
]
PLAIN: list[dict[str, Any]] = [
    {"type": "LoadImageFromFile"},
    {"type": "Resize", "scale": [64, 48], "keep_ratio": True},
    {"type": "LoadAnnotations"},
    {"type": "PackSegInputs"},
]
SLIDE = {"mode": "slide", "crop_size": (32, 48), "stride": (21, 30)}
IOU = {"type": "IoUMetric"}


PLACES = (
    *("model.data_preprocessor", "model.data_preprocessor.mean", "model.data_preprocessor.type", "model.test_cfg"),
    *("model.test_cfg.mode", "model.test_cfg.stride", "test_dataloader", "test_dataloader.dataset"),
    *("test_dataloader.dataset.type", "test_dataloader.dataset.pipeline", "test_dataloader.dataset.data_prefix"),
    *("test_dataloader.dataset.data_root", "test_dataloader.dataset.metainfo", "test_dataloader.dataset.ann_file"),
    *("test_evaluator", "test_evaluator.iou_metrics", "test_evaluator.beta", "test_evaluator.ignore_index"),
)


def config(steps: Any = STEPS, metric: Any = IOU, **model: Any) -> Config:
    preprocessor = {"type": "SegDataPreProcessor", "mean": [1, 2, 3], "std": [4, 5, 6], "bgr_to_rgb": True}
    return Config(
        {
            "model": {"data_preprocessor": preprocessor, "test_cfg": {"mode": "whole"}, **model},
            "test_dataloader": {"dataset": {"type": "A", "pipeline": steps}},
            "test_evaluator": metric,
        }
    )


def held(*arguments: Any, **changes: Any) -> testing.Testing:
    found = config_testing.testing_of(config(*arguments, **changes))
    assert found is not None
    return found


def test_the_test_of_a_config_is_plain_data() -> None:
    found = held()
    assert found.pipeline == PLAIN
    assert found.preprocessor == {"mean": [1, 2, 3], "std": [4, 5, 6], "bgr_to_rgb": True}
    assert (found.mode, found.crop_size, found.stride) == ("whole", None, None)
    assert (found.metrics, found.beta, found.nan_to_num) == (["mIoU"], 1, None)


def test_steps_lose_their_modules_and_what_reads_files() -> None:
    steps = [
        {"type": "mmcv.transforms.loading.LoadImageFromFile", "backend_args": {"backend": "petrel", "a/b": "s3://c"}},
        {"type": "mmcv.Resize", "scale": (64, 48), "scale_factor": None, "keep_ratio": True},
        {"type": "RandomFlip", "prob": 0.0},
        {"type": "mmseg.datasets.transforms.LoadAnnotations", "reduce_zero_label": None},
        {"type": "PackSegInputs"},
    ]
    assert held(steps).pipeline == PLAIN


def test_windows_may_be_given_by_one_number() -> None:
    assert (held(test_cfg=SLIDE).crop_size, held(test_cfg=SLIDE).stride) == ((32, 48), (21, 30))
    found = held(test_cfg={"mode": "slide", "crop_size": 32, "stride": 21})
    assert (found.mode, found.crop_size, found.stride) == ("slide", (32, 32), (21, 21))


def test_the_metric_may_be_one_of_several() -> None:
    metric = {**IOU, "iou_metrics": ["mDice", "mFscore"], "beta": 2, "nan_to_num": 0}
    found = held(STEPS, [{"type": "DepthMetric"}, metric])
    assert (found.metrics, found.beta, found.nan_to_num) == (["mDice", "mFscore"], 2, 0)
    assert held(STEPS, {**IOU, "iou_metrics": "mDice"}).metrics == ["mDice"]


def test_without_an_ioumetric_a_line_says_so(caplog: pytest.LogCaptureFixture) -> None:
    assert held(STEPS, {"type": "CityscapesMetric"}).metrics == ["mIoU"]
    assert "config: has no IoUMetric to test with; evaluate takes mIoU" in caplog.text


def test_augmentation_of_batches_is_left_out() -> None:
    section = {"type": "SegDataPreProcessor", "batch_augments": [{"type": "a.b"}], "test_cfg": {"size_divisor": 32}}
    assert held(data_preprocessor=section).preprocessor == {"test_cfg": {"size_divisor": 32}}


LOAD, RESIZE, ANNOTATIONS, PACK = STEPS
FLIP = {"type": "RandomFlip", "prob": 0.5}
NORMALIZE = {"type": "Normalize", "mean": [1, 2, 3], "std": [4, 5, 6]}


def test_normalize_may_be_the_last_step_on_the_image() -> None:
    assert held([LOAD, RESIZE, NORMALIZE, ANNOTATIONS, PACK]).pipeline[2] == NORMALIZE


@pytest.mark.parametrize(
    ("arguments", "changes", "words"),
    [
        ([[]], {}, "has no test pipeline"),
        ([[LOAD, FLIP, PACK]], {}, "its test pipeline has the step RandomFlip, which a card cannot hold"),
        ([[LOAD, {"type": "TestTimeAug"}]], {}, "has the step TestTimeAug"),
        ([[LOAD, {"type": "own.Resize"}, PACK]], {}, "has the step own.Resize"),
        ([[LOAD, RESIZE]], {}, "does not begin with LoadImageFromFile and end with PackSegInputs"),
        ([[RESIZE, PACK]], {}, "does not begin with LoadImageFromFile and end with PackSegInputs"),
        ([[LOAD, NORMALIZE, RESIZE, PACK]], {}, "has steps on the image after Normalize"),
        ([[LOAD, {**RESIZE, "scale": 1e13}, PACK]], {}, "cannot be held in a card (pipeline: Value error, a number is"),
        ([], {"data_preprocessor": {"type": "ImgDataPreprocessor"}}, "its data_preprocessor is ImgDataPreprocessor,"),
        ([], {"data_preprocessor": None}, "its data_preprocessor is missing"),
        ([], {"test_cfg": {"mode": "slide"}}, "(test_cfg: Value error, mode slide needs crop_size and stride)"),
        ([], {"test_cfg": {"mode": "slide", "crop_size": 20, "stride": (20, 21)}}, "stride must not be larger than"),
        ([], {"test_cfg": {"mode": "half"}}, "(mode: Input should be 'whole' or 'slide')"),
        ([STEPS, {**IOU, "iou_metrics": ["mAP"]}], {}, "(metrics.0: Input should be"),
        ([STEPS, {**IOU, "ignore_index": -100}], {}, "its IoUMetric ignores -100, which no annotation has"),
    ],
)
def test_what_a_card_cannot_hold_is_named_in_one_line(
    arguments: list[Any], changes: dict[str, Any], words: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert config_testing.testing_of(config(*arguments, **changes)) is None
    (record,) = caplog.records
    assert words in record.getMessage()
    assert record.getMessage().endswith("; evaluate has no protocol mmseg for this model")


@pytest.mark.parametrize("steps", [[], [LOAD, FLIP, PACK]])
def test_windows_are_kept_without_the_pipeline(steps: list[Any], caplog: pytest.LogCaptureFixture) -> None:
    found = config_testing.testing_of(config(steps, test_cfg=SLIDE))
    assert found is not None and caplog.records
    assert (found.mode, found.crop_size, found.stride, found.pipeline) == ("slide", (32, 48), (21, 30), [])
    assert in_words.testing_text(found) == "windows of 32x48 (height x width) every 21x30 pixels; mIoU"


def test_grey_has_the_channels_that_mmsegmentation_gives_it() -> None:
    RGB2Gray = quiet_import("mmseg.datasets.transforms").RGB2Gray
    for step in ({}, {"out_channels": 1}, {"out_channels": 3}, {"weights": (0.5, 0.5)}):
        image = np.zeros((4, 4, len(step.get("weights", "BGR"))), np.uint8)
        given = RGB2Gray(**step)({"img": image, "img_shape": image.shape[:2]})["img"]
        found = testing.Testing(pipeline=[LOAD, {"type": "RGB2Gray", **step}, PACK])
        assert found.channels_loaded == given.shape[2]


def test_mmsegmentations_config_of_the_built_in_card_is_as_the_card_says(built_in: Any) -> None:
    card, found = built_in
    assert found.model_copy(update={"preprocessor": card.testing.preprocessor}) == card.testing
    assert card.testing.preprocessor.items() <= found.preprocessor.items()


@pytest.fixture
def built_in() -> Any:
    from pspnet_convert.cards.catalog import find_card

    card = find_card()
    return card, config_testing.testing_of(read_config(package_folder() / "configs" / str(card.config)))


ODD: list[Any] = ["x", 3, ["x"], [], None, {"type": 5}, {"x": [None]}]


@pytest.mark.parametrize("value", ODD)
@pytest.mark.parametrize("place", PLACES)
def test_odd_parts_of_a_config_are_no_crash(place: str, value: Any) -> None:
    found = config()
    found.merge_from_dict({"crop_size": 32})
    part: Any = found
    *outer, last = place.split(".")
    for key in outer:
        part = part[key]
    part[last] = value
    for read in (config_testing.testing_of, config_card.input_of, annotations_of):
        with suppress(CardError):
            read(found)


def test_a_test_in_words() -> None:
    assert in_words.testing_text(held()) == "scale 64x48 with aspect kept, whole image; mIoU"
    padded = held(data_preprocessor={"type": "SegDataPreProcessor", "test_cfg": {"size_divisor": 32}}, test_cfg=SLIDE)
    windows = "windows of 32x48 (height x width) every 21x30 pixels"
    assert in_words.testing_text(padded) == f"scale 64x48 with aspect kept, padded to multiples of 32, {windows}; mIoU"
    steps = [LOAD, {"type": "Resize", "scale": 64}, {"type": "RGB2Gray"}, PACK]
    sized = held(
        steps, {**IOU, "iou_metrics": ["mIoU", "mDice"]}, data_preprocessor={"test_cfg": {"size": (64, 48)}}
    )  # fmt: skip
    assert (
        in_words.testing_text(sized) == "scale 64, RGB2Gray, padded to 64x48 (height x width), whole image; mIoU, mDice"
    )
