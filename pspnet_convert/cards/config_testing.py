"""Read from a config how mmsegmentation tests its model."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pspnet_convert.cards.annotations import IGNORED
from pspnet_convert.cards.config_parts import (
    Part,
    input_channels,
    metric_of,
    name_of,
    pipeline_of,
    preprocessor_of,
    type_of,
)
from pspnet_convert.cards.registry_names import without_own_scope
from pspnet_convert.cards.testing import OF_FILES, PREPROCESSOR, STEPS, Testing

if TYPE_CHECKING:
    from mmengine.config import Config

_AFTER_NORMALIZE = ("LoadAnnotations", "Normalize", "PackSegInputs")
log = logging.getLogger(__name__)


class _NotHeldError(Exception):
    """A card cannot hold this part of the config's test."""


def testing_of(config: Config) -> Testing | None:
    """mmsegmentation's test of the model. With a line in the log if a card cannot hold it: then only its windows, if it
    has any, or None."""
    try:
        return _testing(config)
    except _NotHeldError as error:
        log.warning("%s: %s; evaluate has no protocol mmseg for this model", name_of(config), error)
    with suppress(ValidationError):  # the line above has said so
        windows = Testing(**_windows(config))
        return windows if windows.mode == "slide" else None
    return None


def _testing(config: Config) -> Testing:
    metric = metric_of(config)
    if metric is None and pipeline_of(config):
        log.warning("%s: has no IoUMetric to test with; evaluate takes mIoU", name_of(config))
    metric = metric or {}
    if metric.get("ignore_index", IGNORED) not in range(256):
        raise _NotHeldError(f"its IoUMetric ignores {metric['ignore_index']!r:.100}, which no annotation has")
    metrics = metric.get("iou_metrics", ["mIoU"])
    try:
        testing = Testing(
            pipeline=_steps(pipeline_of(config)),
            preprocessor=_preprocessor(preprocessor_of(config)),
            **_windows(config),
            metrics=[metrics] if isinstance(metrics, str) else metrics,
            beta=metric.get("beta", 1),
            nan_to_num=metric.get("nan_to_num"),
        )
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"]) or "test_cfg"
        raise _NotHeldError(f"its test cannot be held in a card ({place}: {fault['msg'][:300]})") from error
    loaded, taken = testing.channels_loaded, input_channels(config)
    if loaded not in (None, taken) and (loaded, taken) != (1, 3):  # one channel is normalised as each of three colours
        raise _NotHeldError(f"its test pipeline loads images of {loaded} channels, and the network takes {taken}")
    if taken not in (1, 3, 4) and not testing.loads_by_tifffile:
        raise _NotHeldError(
            f"its test pipeline does not load images of {taken} channels (imdecode_backend='tifffile' does)"
        )
    return testing


def _windows(config: Config) -> dict[str, Any]:
    """What `test_cfg` says, as fields of Testing."""
    found = config.get("model", {}).get("test_cfg")
    found = found if isinstance(found, Mapping) else {}
    sizes = {name: _pair(found.get(name)) for name in ("crop_size", "stride")}
    return {"mode": found.get("mode", "whole"), **sizes}


def _steps(pipeline: list[Part]) -> list[dict[str, Any]]:
    if not pipeline:
        raise _NotHeldError("has no test pipeline")
    steps = [step for step in map(_step, pipeline) if not _does_nothing(step)]
    kinds = [step["type"] for step in steps]
    unknown = next((kind for kind in kinds if kind not in STEPS), None)
    if unknown is not None:
        raise _NotHeldError(f"its test pipeline has the step {unknown}, which a card cannot hold and no model does")
    if (kinds[0], kinds[-1]) != ("LoadImageFromFile", "PackSegInputs"):
        raise _NotHeldError("its test pipeline does not begin with LoadImageFromFile and end with PackSegInputs")
    if "Normalize" in kinds and not set(kinds[kinds.index("Normalize") :]) <= set(_AFTER_NORMALIZE):
        raise _NotHeldError("its test pipeline has steps on the image after Normalize")
    return steps


def _step(step: Part) -> dict[str, Any]:
    kept = {key: value for key, value in step.items() if value is not None and key not in OF_FILES}
    return {**_plain(kept), "type": type_of(step)}


def _does_nothing(step: dict[str, Any]) -> bool:
    return step["type"] == "RandomFlip" and step.get("prob") == 0


def _preprocessor(section: Part) -> dict[str, Any]:
    kind = type_of({"type": PREPROCESSOR, **section}) if section else "missing"
    if kind != PREPROCESSOR:
        raise _NotHeldError(f"its data_preprocessor is {kind}, not {PREPROCESSOR}")
    kept = {key: value for key, value in section.items() if key not in ("type", "batch_augments")}
    return _plain(kept)  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(inner) for key, inner in without_own_scope(value).items()}
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _pair(size: Any) -> Any:
    """Height and width; a single number is both."""
    return (size, size) if isinstance(size, int) else size
