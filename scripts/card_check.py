"""Compare a catalog model's card with mmsegmentation's own objects of its config, on a data set of one image."""

from __future__ import annotations

import copy
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as Pillow

from pspnet_convert.cards.annotations import IGNORED
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.cards.model_index import package_folder
from pspnet_convert.commands.evaluate.dataset import DataSet, find_data
from pspnet_convert.commands.evaluate.meaning import UNKNOWN, meaning_of
from pspnet_convert.commands.evaluate.miou import NO_CLASS
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.commands.verify.preprocessing import PHOTOGRAPH, check_preprocessing, tensor_difference
from pspnet_convert.errors import ConvertError
from pspnet_convert.mmcv_ops import provide_mmcv_ops
from pspnet_convert.runtimes.backends import normalised
from pspnet_convert.runtimes.test_pipeline import MmsegPipeline


def card_faults(card: ModelCard) -> list[str]:
    """What the card says otherwise than mmsegmentation's data set, test pipeline, data preprocessor and metric do."""
    with warnings.catch_warnings(), tempfile.TemporaryDirectory() as folder:
        warnings.simplefilter("ignore")  # of missing optional packages, and of LoadAnnotations' argument
        provide_mmcv_ops()
        import mmseg.datasets
        import mmseg.evaluation
        import mmseg.models  # noqa: F401 (register their classes)
        from mmengine.config import Config
        from mmengine.registry import DefaultScope
        from mmseg.registry import DATASETS, METRICS, MODELS

        config = Config.fromfile(str(package_folder() / "configs" / str(card.config)))
        root = Path(folder)
        with DefaultScope.overwrite_default_scope("mmseg"):
            _write(card, config.test_dataloader.dataset, root)
            try:
                dataset = DATASETS.build({**copy.deepcopy(config.test_dataloader.dataset), "data_root": folder})
            except ValueError:  # it cannot store an empty list
                return ["files: mmsegmentation's data set finds no file of the card's names"]
            preprocessor = MODELS.build(config.model.data_preprocessor)
            metric = METRICS.build(
                {**config.test_evaluator, "prefix": "any"}
            )  # without a prefix, mmengine logs a warning
        sample, options = dataset[0], EvaluateOptions(dataset=root)
        try:
            data = find_data(options, card)
        except ConvertError as error:
            return [f"files: {error.what}"]
        return [
            *_preprocessing(card, Path(dataset.get_data_info(0)["img_path"]), preprocessor, sample),
            *_files(data, dataset.get_data_info(0)),
            *_labels(meaning_of(options, card, data).table, sample, metric.ignore_index, len(card.classes)),
            *_test(card, config.model.test_cfg, metric),
        ]


def _write(card: ModelCard, dataset: Any, root: Path) -> None:
    """One image and its annotation, which has every number, where the config says and with the card's suffixes."""
    prefix, notes = dataset.data_prefix, card.annotations
    image = root / prefix["img_path"] / f"one{notes.image_suffix}"
    annotation = root / prefix["seg_map_path"] / f"one{notes.annotation_suffix}"
    for path in (image, annotation):
        path.parent.mkdir(parents=True, exist_ok=True)
    picture = Pillow.open(PHOTOGRAPH)
    picture.save(image)
    Pillow.fromarray(np.resize(np.arange(256, dtype=np.uint8), picture.size[::-1])).save(annotation)
    if dataset.get("ann_file"):
        listed = root / dataset.ann_file
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("one\n")


def _preprocessing(card: ModelCard, image: Path, preprocessor: Any, sample: Any) -> Iterator[str]:
    found = check_preprocessing(card)
    assert found is not None and card.testing is not None
    yield from (f"preprocessing: {fault}" for fault in found.faults)
    given = {"inputs": [sample["inputs"]], "data_samples": [sample["data_samples"]]}
    prepared = MmsegPipeline(card.testing, card.input).prepare(image).image
    theirs = preprocessor(given)["inputs"][0].numpy()
    difference = tensor_difference(normalised([prepared], card.input)[0], theirs)
    if difference is not None:
        yield f"preprocessing: {image.name}: {difference}"


def _files(data: DataSet, info: dict[str, Any]) -> Iterator[str]:
    ours = [(str(entry.image), str(entry.annotation)) for entry in data.entries]
    theirs = [(info["img_path"], info["seg_map_path"])]
    if ours != theirs:
        yield f"files: mmsegmentation reads {theirs}, this tool {ours}"


def _labels(table: Sequence[int], sample: Any, ignore_index: int, classes: int) -> Iterator[str]:
    read = sample["data_samples"].gt_sem_seg.data.numpy().reshape(-1)

    def counted_as(number: int) -> int:
        if number == ignore_index:
            return IGNORED
        return number if number < classes else NO_CLASS if number == 255 else UNKNOWN

    for value in range(256):
        theirs = counted_as(int(read[value]))
        if table[value] != theirs:
            yield f"labels: mmsegmentation counts {value} as {theirs}, this tool as {table[value]}"


def _test(card: ModelCard, test_cfg: Any, metric: Any) -> Iterator[str]:
    assert card.testing is not None
    names = ("mode", "crop_size", "stride")
    theirs = (*(test_cfg.get(name) for name in names), metric.metrics, metric.beta, metric.nan_to_num)
    ours = tuple(getattr(card.testing, name) for name in (*names, "metrics", "beta", "nan_to_num"))
    if ours != theirs:
        yield f"test: mmsegmentation has {theirs}, the card {ours}"
