"""Search for an INT8 IR that loses little: plain quantization first, then more accurate ways in order of their cost.

Each try is quantized, measured on the data set, timed, kept in the workspace and recorded before the next one begins.
What was tried with the same inputs is not tried again.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from pspnet_convert import tools
from pspnet_convert.commands.quantize.layer_errors import layer_errors
from pspnet_convert.commands.quantize.options import QuantizeOptions
from pspnet_convert.commands.quantize.recipe import Recipe
from pspnet_convert.commands.quantize.stage import Calibration, calibration_inputs, fp32_ir, quantize_stage
from pspnet_convert.device import CPU
from pspnet_convert.errors import count
from pspnet_convert.files import move_into_place, slug, temporary_folder, writing
from pspnet_convert.job import Job, log_outcome
from pspnet_convert.manifest_fields import LayerError, Tried
from pspnet_convert.pipeline import SEARCH
from pspnet_convert.runtimes.timing import Subject, seconds_in_turns
from pspnet_convert.stage import Outcome, Stage
from pspnet_convert.workspace import INT8, ir_files

PLAIN = "plain"
_LAYERS = "the layers with the largest errors left out"
_SMOOTH = (0.5, 0.95)  # SmoothQuant's alphas
_ROUNDS = 11  # of timing
log = logging.getLogger(__name__)
Change = tuple[str, Mapping[str, Any]]  # a name, and the fields of Recipe that it sets


@dataclass(frozen=True)
class Aim:
    """`max_drop`: points of mean IoU. `until`: by time.monotonic; no try begins later. `full_weights`: whether weights
    may have all 8 bits, since every processor asked for has VNNI. `device`: of OpenVINO, that tries are timed on."""

    max_drop: float
    until: float | None
    full_weights: bool
    device: str = CPU


@dataclass
class Found:
    """What is known so far: `known`, by recipe, from earlier runs; `tried` in this one."""

    known: dict[Recipe, Tried] = field(default_factory=dict)
    layers: list[LayerError] | None = None
    tried: list[Tried] = field(default_factory=list)

    def add(self, recipe: Recipe, one: Tried) -> None:
        """Note a new one, which is kept in the place of an earlier one of its name."""
        self.known = {key: value for key, value in self.known.items() if value.name != one.name} | {recipe: one}

    @property
    def best(self) -> Tried:
        """The first of those that lose least."""
        return min(self.tried, key=lambda one: one.drop)


@dataclass(frozen=True)
class Now:
    """How the workspace's INT8 IR was made, and what it was measured to lose; None if that was in an earlier run."""

    recipe: Recipe
    made: Outcome
    measured: Outcome | None


class Search:
    """The search in the workspace of `job`. `measure` evaluates the workspace's FP32 and INT8 IRs.

    `measured`: the inputs of such an evaluation, of the FP32 IR alone.
    """

    def __init__(
        self,
        job: Job,
        options: QuantizeOptions,
        calibration: Calibration,
        measure: Callable[[], Outcome],
        measured: Mapping[str, Any],
    ) -> None:
        self._job, self._options, self._calibration, self._measure = job, options, calibration, measure
        inputs = {**calibration_inputs(job, [fp32_ir(job)], calibration), "measured": measured}
        self._stage = Stage(SEARCH, lambda made: {}, inputs=inputs, options=options, tools=tools.INT8_SEARCH)
        self._started = time.monotonic()
        self._found = self._known()
        self._now: Now | None = None

    @property
    def made(self) -> Outcome:
        """Of the stage quantize, for the workspace's INT8 IR after `run`."""
        assert self._now is not None
        return self._now.made

    def measured(self) -> Outcome:
        """Of the stage evaluate-int8, for the workspace's INT8 IR after `run`."""
        assert self._now is not None
        return self._now.measured or self._measure()

    def run(self, base: Recipe, aim: Aim) -> Outcome | None:
        """Try until the loss is within `aim`; the best IR is the workspace's then. None if the first try was enough."""
        before = set(self._found.known)
        if not before:
            shutil.rmtree(self._job.workspace.int8_tries, ignore_errors=True)
        chosen, not_tried = self._search(base, aim)
        best = chosen or self._found.best
        recipe = Recipe.from_record(best.recipe.model_dump())
        if self._now is None or self._now.recipe != recipe:
            self._now = Now(recipe, self._job.run(self._quantize(recipe)), None)
        if len(self._found.tried) == 1 and self._job.manifest.stage(SEARCH) is None:
            return None
        record = self._write(aim, best.name, not_tried)
        return log_outcome(Outcome(SEARCH, record, skipped=set(self._found.known) == before))

    def _quantize(self, recipe: Recipe) -> Stage:
        """The stage that makes the INT8 IR by `recipe`, or takes it from an earlier try."""
        known = self._found.known.get(recipe)
        kept = None if known is None else self._place(known.name)
        return quantize_stage(self._job, self._options, self._calibration, recipe, kept)

    def _search(self, base: Recipe, aim: Aim) -> tuple[Tried | None, list[str]]:
        """The first that is within `aim`, and the names of what time did not allow."""
        changes = [(PLAIN, {}), *accurate_ways(aim)]
        for number, (name, change) in enumerate(changes):
            recipe = replace(self._best_recipe(base), **change)
            if number and recipe == self._best_recipe(base):
                continue  # the user has asked for it
            if self._is_late(aim, recipe):
                return None, [*(name for name, _ in changes[number:]), _LAYERS]
            tried = self._try(name, recipe, aim)
            if tried.drop <= aim.max_drop:
                return tried, []
        recipe = self._best_recipe(base)
        if self._found.layers is None and aim.until is not None and time.monotonic() > aim.until:
            return None, [_LAYERS]
        for names in growing(self._layers(recipe, aim)):
            left_out = replace(recipe, ignored=(*recipe.ignored, *names))
            if self._is_late(aim, left_out):
                return None, [_LAYERS]
            tried = self._try(f"without {count(len(names), 'layer')}", left_out, aim)
            if tried.drop <= aim.max_drop:
                return tried, []
        return None, []

    def _best_recipe(self, base: Recipe) -> Recipe:
        return Recipe.from_record(self._found.best.recipe.model_dump()) if self._found.tried else base

    def _is_late(self, aim: Aim, recipe: Recipe) -> bool:
        """Whether there is no time to try `recipe`. There is for the first one, and for what is known."""
        is_new = bool(self._found.tried) and recipe not in self._found.known
        return is_new and aim.until is not None and time.monotonic() > aim.until

    def _try(self, name: str, recipe: Recipe, aim: Aim) -> Tried:
        known = self._found.known.get(recipe)
        tried = known or self._new_try(name, recipe, aim)
        self._found.tried.append(tried)
        log.info(
            "%s, %s: mean IoU %.2f %%, %.2f points below FP32, %g allowed",
            SEARCH, tried.name, tried.mean_iou, tried.drop, aim.max_drop,
        )  # fmt: skip
        return tried

    def _new_try(self, name: str, recipe: Recipe, aim: Aim) -> Tried:
        made = self._job.run(self._quantize(recipe))
        measured = self._measure()
        self._now = Now(recipe, made, measured)
        means = {score.backend: score.mean_iou for score in measured.result.scores}
        drop = means["IR FP32"] - means["IR INT8"]
        is_enough = not self._found.tried and drop <= aim.max_drop
        files = [] if is_enough else self._keep(name)
        tried = Tried(
            name=name,
            recipe=recipe.as_record(),
            mean_iou=means["IR INT8"],
            drop=drop,
            speed=self._speed(name, aim.device) if self._found.tried else 1.0,
            bytes=self._job.workspace.ir(INT8).with_suffix(".bin").stat().st_size,
            files=self._job.records(files),
        )
        if not is_enough:
            self._found.add(recipe, tried)
            self._write(aim, None, [])
        return tried

    def _layers(self, recipe: Recipe, aim: Aim) -> list[str]:
        """The layers that `recipe` quantizes, by the error that each makes, the largest first."""
        if self._found.layers is None:
            log.info("%s: measuring the error of each layer", SEARCH)
            job = self._job
            ir = self._place(self._found.known[recipe].name)
            images = self._calibration.images
            found = layer_errors(fp32_ir(job), ir, job.card, job.exported_shape(), job.input_form(), images)
            self._found.layers = [LayerError(name=name, error=error) for name, error in found]
            self._write(aim, None, [])
        return [layer.name for layer in self._found.layers]

    def _speed(self, name: str, device: str) -> float:
        """How many times as fast as the plain try, in turns, at the default precision."""
        job = self._job
        places = [self._place(self._found.tried[0].name), self._place(name)]
        form = job.input_form()
        subjects = [Subject("IR", "exported", INT8, "default", place, form, device=device) for place in places]
        seconds, _ = seconds_in_turns(job.card, job.exported_shape(), subjects, _ROUNDS)
        return float(np.median(seconds[:, 0] / seconds[:, 1]))

    # What is kept

    def _known(self) -> Found:
        """Tries of earlier runs, if their inputs were the same and their files are unchanged."""
        before = self._job.manifest.stage(SEARCH)
        stage = self._stage
        if before is None or self._job.force or not self._job.is_same_work(before, stage):
            return Found()
        folder = self._job.workspace.folder
        known = [
            one
            for one in before.result.tried
            if one.files
            and all((folder / file.file).is_file() for file in one.files)
            and self._job.records([folder / file.file for file in one.files]) == [f.model_dump() for f in one.files]
        ]
        return Found({Recipe.from_record(one.recipe.model_dump()): one for one in known}, before.result.layers)

    def _place(self, name: str) -> Path:
        """The .xml of a try."""
        return self._job.workspace.int8_tries / slug(name) / self._job.workspace.ir(INT8).name

    def _keep(self, name: str) -> list[Path]:
        """Copy the workspace's INT8 IR to the place of the try `name`; returns its files."""
        folder, targets = self._job.workspace.folder, ir_files(self._place(name))
        with temporary_folder(folder) as temporary, writing(folder):
            copies = [Path(shutil.copy(path, temporary)) for path in ir_files(self._job.workspace.ir(INT8))]
            move_into_place(copies, targets)
        return targets

    def _write(self, aim: Aim, chosen: str | None, not_tried: Sequence[str]) -> Any:
        """Record what is known so far: this run's tries, then those of earlier runs."""
        tried = self._found.tried
        shown = [*tried, *(one for one in self._found.known.values() if one not in tried)]
        result = {
            "max_drop": aim.max_drop,
            "tried": [one.model_dump(mode="json") for one in shown],
            "layers": None if self._found.layers is None else [one.model_dump() for one in self._found.layers],
            "chosen": chosen,
            "not_tried": list(not_tried),
        }
        return self._job.write_record(self._stage, [], result, self._started)


def accurate_ways(aim: Aim) -> list[Change]:
    """In order of cost: of making the IR first, of running it last."""
    full = [("8-bit weights", {"overflow_fix": "disable"})] if aim.full_weights else []
    return [
        *full,
        ("mixed preset", {"preset": "mixed"}),
        ("accurate bias correction", {"accurate_bias": True}),
        *((f"SmoothQuant {alpha}", {"smooth": alpha}) for alpha in _SMOOTH),
    ]


def growing(names: Sequence[str]) -> Iterator[Sequence[str]]:
    """The first 1, 2, 4, ... of `names`, up to half of them: with fewer quantized layers, INT8 hardly pays."""
    number = 1
    while number <= len(names) // 2:
        yield names[:number]
        number *= 2
