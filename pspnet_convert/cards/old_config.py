"""Bring a config of mmsegmentation 0.x into the form of 1.x, as far as it describes tests and the input."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.config_parts import METRIC, Part, datasets, name_of, named_steps, type_of
from pspnet_convert.cards.testing import PREPROCESSOR

if TYPE_CHECKING:
    from mmengine.config import Config

_CLASSES = {"CustomDataset": "BaseSegDataset"}
# 1.x has these elsewhere, or not at all.
_NOT_IN_DATASETS = ("ann_dir", "classes", "file_client_args", "gt_seg_map_loader_cfg", "img_dir", "palette", "split")
_NOT_NEEDED = ("Collect", "DefaultFormatBundle", "ImageToTensor", "LoadAnnotations")
log = logging.getLogger(__name__)


def modernise(config: Config) -> None:
    """Give a config of 0.x what 1.x has: test_dataloader, test_evaluator, model.test_cfg and data_preprocessor.

    The normalisation is that of the test pipeline. The variable img_norm_cfg serves only where there is no pipeline:
    a config that changes the variable alone does not change the pipelines of its base, which have been made before.
    """
    data = config.get("data")
    is_old = isinstance(data, Mapping) and not (config.get("test_dataloader") or config.get("val_dataloader"))
    tested = list(datasets(data.get("test") or data.get("val") or {})) if is_old else []
    if tested:
        found = [_dataset(one) for one in tested]
        config.test_dataloader = {"dataset": found[0] if len(found) == 1 else {"datasets": found}}
        config.test_evaluator = {
            "type": METRIC,
            "iou_metrics": (config.get("evaluation") or {}).get("metric", "mIoU"),
            "ignore_index": tested[0].get("ignore_index", 255),  # 0.x gives its data set's to the metric
        }
    mode = config.get("test_cfg")
    # The first releases of 0.x have it there; 1.x has its test loop there, which has no mode.
    if isinstance(mode, Mapping) and mode.get("mode") and not config.get("model", {}).get("test_cfg"):
        config.merge_from_dict({"model.test_cfg": dict(mode)})
    if config.get("model", {}).get("data_preprocessor") or config.get("data_preprocessor"):
        return
    variable = config.get("img_norm_cfg")
    if tested and tested[0].get("pipeline"):
        config.data_preprocessor = {"type": PREPROCESSOR}
        _warn_of_others(name_of(config), data, tested[0]["pipeline"], variable)
    elif variable:
        # mmcv's Normalize converts BGR to RGB by default.
        kept = {"mean": variable.get("mean"), "std": variable.get("std"), "bgr_to_rgb": variable.get("to_rgb", True)}
        config.data_preprocessor = {"type": PREPROCESSOR, **kept}


def _warn_of_others(name: str, data: Part, pipeline: Any, variable: Any) -> None:
    """Warn where training, or the variable that most configs make their pipelines of, normalises differently."""
    ours = [_values(step) for step in named_steps(pipeline, "Normalize")]
    trained = next(datasets(data.get("train") or {}), {})
    theirs = [_values(step) for step in named_steps(trained.get("pipeline"), "Normalize")]
    if theirs and theirs != ours:
        log.warning(
            "%s: data.train.pipeline normalises by %s, data.test.pipeline by %s, which is taken", name, theirs, ours
        )
    if isinstance(variable, Mapping) and ours != [_values(variable)]:
        words = "%s: img_norm_cfg is %s, data.test.pipeline normalises by %s; the card has the pipeline's"
        log.warning(words, name, _values(variable), ours)


def _values(step: Part) -> dict[str, Any]:
    mean, std = (list(value) if isinstance(value, Sequence) else value for value in (step.get("mean"), step.get("std")))
    return {"mean": mean, "std": std, "to_rgb": step.get("to_rgb", True)}


def _dataset(old: Part) -> dict[str, Any]:
    new = {key: value for key, value in old.items() if key not in _NOT_IN_DATASETS}
    kind = type_of(old)
    new["type"] = _CLASSES.get(kind, kind)
    new["data_prefix"] = {"img_path": _first(old.get("img_dir")), "seg_map_path": _first(old.get("ann_dir"))}
    new["ann_file"] = _first(old.get("split"))
    new["metainfo"] = {key: old[key] for key in ("classes", "palette") if old.get(key)} or None
    if old.get("pipeline"):
        steps = [new for step in old["pipeline"] for new in _step(step)]
        new["pipeline"] = [*steps, {"type": "LoadAnnotations"}, {"type": "PackSegInputs"}]
    return {key: value for key, value in new.items() if value not in ("", None)}


def _first(value: Any) -> str:
    """0.x takes lists of folders too."""
    return str((value[0] if isinstance(value, (list, tuple)) else value) or "")


def _step(step: Part, scale: Any = None) -> Iterator[Part]:
    """The steps of 1.x that do the same. One that has no equal gets a name that 1.x does not have."""
    kind = type_of(step)
    if kind == "MultiScaleFlipAug":
        yield from _single_scale(step)
    elif kind == "Resize":
        yield from _resize(step, scale)
    elif kind == "Pad":
        yield {"type": "Pad of 0.x"}
    elif kind == "LoadImageFromFile":
        yield {key: value for key, value in step.items() if key != "file_client_args"}
    elif kind not in _NOT_NEEDED:
        yield step


def _single_scale(step: Part) -> Iterator[Part]:
    scales, ratios = step.get("img_scale"), step.get("img_ratios")
    if isinstance(scales, list) and len(scales) == 1:
        scales = scales[0]
    is_single = ratios in (None, 1.0, [1.0]) and not isinstance(scales, list)
    inner: list[Part] = list(step.get("transforms") or [])
    if not is_single or step.get("flip"):
        yield {"type": "MultiScaleFlipAug of several images"}
    if scales is None:  # at its own size
        inner = [one for one in inner if type_of(one) != "Resize"]
    for one in inner:
        # MultiScaleFlipAug tells RandomFlip not to flip.
        if type_of(one) != "RandomFlip":
            yield from _step(one, scales)


def _resize(step: Part, scale: Any) -> Iterator[Part]:
    if scale is None:
        scale = step.get("img_scale")
    if isinstance(scale, list) and len(scale) == 1 and isinstance(scale[0], (list, tuple)):
        scale = scale[0]
    is_pair = isinstance(scale, (list, tuple)) and len(scale) == 2 and all(isinstance(one, int) for one in scale)
    if not is_pair or step.get("ratio_range") or step.get("min_size"):
        yield {"type": "Resize of 0.x"}
    else:
        yield {"type": "Resize", "scale": scale, "keep_ratio": step.get("keep_ratio", True)}
