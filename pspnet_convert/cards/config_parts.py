"""Find the parts of a config that mmsegmentation's Runner tests a model with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.registry_names import registered
from pspnet_convert.errors import CardError
from pspnet_convert.image_shape import MAX_CHANNELS

if TYPE_CHECKING:
    from mmengine.config import Config

Part = Mapping[str, Any]  # a section of a config
METRIC = "IoUMetric"


def name_of(config: Config) -> str:
    """The config's file name, for messages."""
    return Path(config.filename).name if config.filename else "config"


def type_of(part: Part) -> str:
    """The registry's name of the class that a section asks for; "None" without one."""
    return registered(str(part.get("type")))


def tested_datasets(config: Config) -> list[Part]:
    """The data sets of the test dataloader, or of the validation's if there is no other, without their wrappers."""
    return next(
        (list(datasets(config[name])) for name in ("test_dataloader", "val_dataloader") if config.get(name)), []
    )


def datasets(part: Any) -> Iterator[Part]:
    """The data sets in `part`: a data set, a list of them, or a dataloader or wrapper around one or several."""
    for one in part if isinstance(part, (list, tuple)) else [part]:
        if isinstance(one, Mapping):
            wrapped = one.get("dataset") or one.get("datasets")
            if wrapped:
                yield from datasets(wrapped)
            elif one.get("type"):
                yield one


def metric_of(config: Config) -> Part | None:
    """The IoUMetric of the test evaluator, or of the validation's if there is no other; None without one."""
    evaluator = config.get("test_evaluator") or config.get("val_evaluator") or []
    if isinstance(evaluator, Mapping):
        evaluator = evaluator.get("metrics") or [evaluator]
    parts = [one for one in evaluator if isinstance(one, Mapping)] if isinstance(evaluator, (list, tuple)) else []
    return next((one for one in parts if type_of(one) == METRIC), None)


def preprocessor_of(config: Config) -> Part:
    """The section data_preprocessor that mmengine's Runner gives to the model; empty without one."""
    model = config.get("model") or {}
    name = "data_preprocessor"
    found = model[name] if name in model else config.get(name)
    return found if isinstance(found, Mapping) else {}


def input_channels(config: Config) -> int:
    """The channels that the backbone takes: three unless it says otherwise. CardError if that is no number of them."""
    backbone = (config.get("model") or {}).get("backbone")
    channels = 3
    while isinstance(backbone, Mapping):  # ICNet and BiSeNet have a backbone of their own
        channels = backbone.get("in_channels", channels)
        backbone = backbone.get("backbone_cfg")
    if type(channels) is not int or not 1 <= channels <= MAX_CHANNELS:
        raise CardError(f"config: model.backbone.in_channels is {channels!r:.100}, not 1 to {MAX_CHANNELS}")
    return channels


def pipeline_of(config: Config) -> list[Part]:
    """The pipeline of the first data set that is tested; empty without one."""
    found = tested_datasets(config)
    steps = found[0].get("pipeline") if found else None
    return [step for step in steps if isinstance(step, Mapping)] if isinstance(steps, (list, tuple)) else []


def named_steps(pipeline: Any, kind: str) -> list[Part]:
    """The steps of the type `kind`, those inside other steps among them."""
    found: list[Part] = []
    for step in pipeline if isinstance(pipeline, (list, tuple)) else []:
        if isinstance(step, Mapping):
            inner = step.get("transforms")
            found += [step] if type_of(step) == kind else named_steps(inner, kind)
        elif isinstance(step, (list, tuple)):
            found += named_steps(step, kind)
    return found
