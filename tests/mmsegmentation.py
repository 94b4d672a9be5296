"""Small models and data sets for mmsegmentation, and what its own test counts: dataset, pipeline, model, metric."""

from __future__ import annotations

import importlib
import inspect
import warnings
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import voc
from make_standin_checkpoint import blobs, calibrate
from PIL import Image as Pillow

from pspnet_convert.mmcv_ops import provide_mmcv_ops
from pspnet_convert.pytorch.network import PSPNet, build_inline

CROP = (48, 64)
SIZES = ((45, 80), (90, 50), (48, 64))
PREPROCESSOR: Mapping[str, Any] = {
    "type": "SegDataPreProcessor",
    "mean": [123.675, 116.28, 103.53],
    "std": [58.395, 57.12, 57.375],
    "bgr_to_rgb": True,
    "pad_val": 0,
    "seg_pad_val": 255,
    "size": CROP,
}
# By mmsegmentation's class of the data set: the arguments in its configs, and how its files are named here.
DATASETS: Mapping[str, Mapping[str, Any]] = {
    "PascalVOCDataset": {
        "data_prefix": {"img_path": "JPEGImages", "seg_map_path": "SegmentationClass"},
        "ann_file": "ImageSets/Segmentation/val.txt",
    },
    "ADE20KDataset": {"data_prefix": {"img_path": "images/validation", "seg_map_path": "annotations/validation"}},
    "CityscapesDataset": {"data_prefix": {"img_path": "leftImg8bit/val", "seg_map_path": "gtFine/val"}},
    "COCOStuffDataset": {"data_prefix": {"img_path": "images/val2017", "seg_map_path": "annotations/val2017"}},
    "LoveDADataset": {"data_prefix": {"img_path": "img_dir/val", "seg_map_path": "ann_dir/val"}},
    "PotsdamDataset": {"data_prefix": {"img_path": "img_dir/val", "seg_map_path": "ann_dir/val"}},
    "ISPRSDataset": {"data_prefix": {"img_path": "img_dir/val", "seg_map_path": "ann_dir/val"}},
    "PascalContextDataset": {
        "data_prefix": {"img_path": "JPEGImages", "seg_map_path": "SegmentationClassContext"},
        "ann_file": "ImageSets/SegmentationContext/val.txt",
    },
    "PascalContextDataset59": {
        "data_prefix": {"img_path": "JPEGImages", "seg_map_path": "SegmentationClassContext"},
        "ann_file": "ImageSets/SegmentationContext/val.txt",
    },
    "DRIVEDataset": {"data_prefix": {"img_path": "images/validation", "seg_map_path": "annotations/validation"}},
    "STAREDataset": {"data_prefix": {"img_path": "images/validation", "seg_map_path": "annotations/validation"}},
    "ChaseDB1Dataset": {"data_prefix": {"img_path": "images/validation", "seg_map_path": "annotations/validation"}},
    "HRFDataset": {"data_prefix": {"img_path": "images/validation", "seg_map_path": "annotations/validation"}},
}


def quiet_import(name: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages
        provide_mmcv_ops()
        return importlib.import_module(name)


@cache
def dataset_class(name: str) -> Any:
    return getattr(quiet_import("mmseg.datasets"), name)


def network(classes: int, **head: Any) -> dict[str, Any]:
    """A config's `model` section without what this module's configs add to it."""
    return {
        "type": "EncoderDecoder",
        "backbone": {
            "type": "ResNetV1c",
            "depth": 18,
            "num_stages": 4,
            "out_indices": (0, 1, 2, 3),
            "dilations": (1, 1, 2, 4),
            "strides": (1, 2, 1, 1),
            "norm_cfg": {"type": "BN"},
            "contract_dilation": True,
            "base_channels": 8,
            "stem_channels": 8,
        },
        "decode_head": {
            "type": "PSPHead",
            "in_channels": 64,
            "in_index": 3,
            "channels": 16,
            "pool_scales": (1, 2, 3, 6),
            "num_classes": classes,
            "norm_cfg": {"type": "BN"},
            "align_corners": False,
            **head,
        },
    }


@cache
def weights(classes: int) -> dict[str, Any]:
    """Random weights that give each class somewhere; of a binary head for one class."""
    torch.manual_seed(0)
    built = PSPNet(build_inline(network(classes))).eval()
    built.decision_score = None
    calibrate(built, blobs(3, 64))
    return built.state_dict()


def save_checkpoint(path: Path, names: list[str], palette: list[list[int]], *, is_binary: bool = False) -> Path:
    meta = {"CLASSES": names, "PALETTE": palette}
    torch.save({"state_dict": weights(1 if is_binary else len(names)), "meta": meta}, path)
    return path


def write_config(
    path: Path, root: Path, dataset: str, classes: int, resize: Mapping[str, Any] | None = None, **changes: Any
) -> Path:
    """A config that tests the small network on `root`.

    `resize`: the second step of its pipeline. `changes`: as mmengine's --cfg-options, with `__` for dots.
    """
    from mmengine.config import Config

    pipeline = [
        {"type": "LoadImageFromFile"},
        dict(resize or {"type": "Resize", "scale": (4 * CROP[1], CROP[0]), "keep_ratio": True}),
        {"type": "LoadAnnotations"},
        {"type": "PackSegInputs"},
    ]
    data = {"type": dataset, "data_root": str(root), "pipeline": pipeline, **DATASETS.get(dataset, {})}
    model = {**network(classes), "data_preprocessor": dict(PREPROCESSOR), "test_cfg": {"mode": "whole"}}
    config = Config(
        {
            "default_scope": "mmseg",
            "crop_size": CROP,
            "test_pipeline": pipeline,
            "model": model,
            "train_dataloader": {"dataset": {"type": dataset}},
            "test_dataloader": {"batch_size": 1, "dataset": data},
            "test_evaluator": {"type": "IoUMetric", "iou_metrics": ["mIoU"]},
        }
    )
    config.merge_from_dict({key.replace("__", "."): value for key, value in changes.items()}, allow_list_keys=True)
    config.dump(str(path))
    return path


def default_of(dataset: str, argument: str) -> Any:
    """The default of an argument of the class; None if it has no such argument."""
    found = inspect.signature(dataset_class(dataset).__init__).parameters.get(argument)
    return None if found is None else found.default


def write_data(root: Path, dataset: str, classes: int) -> Path:
    """A few drawn images in the layout of the data set's class; grey annotations with all its numbers, and 255."""
    places = DATASETS[dataset]
    folder = "frankfurt/" if dataset == "CityscapesDataset" else ""
    image_suffix, annotation_suffix = (default_of(dataset, name) for name in ("img_suffix", "seg_map_suffix"))
    zero_is_ignored = bool(default_of(dataset, "reduce_zero_label"))
    names = []
    for number, (height, width) in enumerate(SIZES):
        name = f"{folder}{number:03}"
        image = root / places["data_prefix"]["img_path"] / f"{name}{image_suffix}"
        annotation = root / places["data_prefix"]["seg_map_path"] / f"{name}{annotation_suffix}"
        for path in (image, annotation):
            path.parent.mkdir(parents=True, exist_ok=True)
        Pillow.fromarray(voc.drawing(height, width, number)).save(image)
        # With reduce_zero_label the classes are 1 .. classes.
        Pillow.fromarray(voc.blocks(height, width, classes + zero_is_ignored, number)).save(annotation)
        names.append(name)
    if "ann_file" in places:
        listed = root / places["ann_file"]
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text("".join(f"{name}\n" for name in names))
    return root


def labels_of(config_path: Path, checkpoint: Path, images: Sequence[Path]) -> list[np.ndarray[Any, np.dtype[np.uint8]]]:
    """mmsegmentation's label maps of image files, at the images' sizes: its `inference_model`."""
    apis = quiet_import("mmseg.apis")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = apis.init_model(str(config_path), str(checkpoint), device="cpu")
        found = [apis.inference_model(model, str(image)) for image in images]
    return [one.pred_sem_seg.data[0].numpy().astype(np.uint8) for one in found]


def tested(config_path: Path, checkpoint: Path) -> tuple[dict[str, list[int]], dict[str, float]]:
    """What mmsegmentation's own test counts: pixels by class, by the names of this tool; and its metrics, per cent."""
    from mmengine.config import Config
    from mmengine.dataset import pseudo_collate
    from mmengine.registry import DefaultScope

    quiet_import("mmseg.datasets")
    quiet_import("mmseg.models")
    from mmseg.registry import DATASETS as registered
    from mmseg.registry import METRICS, MODELS

    config = Config.fromfile(str(config_path))
    with warnings.catch_warnings(), DefaultScope.overwrite_default_scope("mmseg"):
        warnings.simplefilter("ignore")
        dataset = registered.build(config.test_dataloader.dataset)
        model = MODELS.build(config.model).eval()
        metric = METRICS.build(config.test_evaluator)
        model.load_state_dict(torch.load(checkpoint, weights_only=True)["state_dict"])
        metric.dataset_meta = dataset.metainfo
        for index in range(len(dataset)):
            batch = pseudo_collate([dataset[index]])
            with torch.no_grad():
                found = model.test_step(batch)
            metric.process(batch, [sample.to_dict() for sample in found])
        intersection, union, predicted, annotated = (sum(part).tolist() for part in zip(*metric.results))
        means = metric.compute_metrics(metric.results)
    counts = {"intersection": intersection, "union": union, "predicted": predicted, "annotated": annotated}
    return {name: [int(value) for value in values] for name, values in counts.items()}, {
        name: float(np.asarray(value)) for name, value in means.items()
    }
