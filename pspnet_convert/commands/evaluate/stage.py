"""The stage evaluate: the mean IoU of the workspace's models on annotated images."""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any, cast

from pspnet_convert import tools
from pspnet_convert.commands.evaluate import inputs
from pspnet_convert.commands.evaluate.annotations import check_first
from pspnet_convert.commands.evaluate.chunks import ChunkSettings, run_locally
from pspnet_convert.commands.evaluate.dataset import DataSet, find_data
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.figures import count, evaluation
from pspnet_convert.commands.evaluate.labelling import ONNX, PYTORCH
from pspnet_convert.commands.evaluate.meaning import Meaning, meaning_of
from pspnet_convert.commands.evaluate.mmseg_protocol import misfit, require_testing
from pspnet_convert.commands.evaluate.options import IRS, EvaluateOptions
from pspnet_convert.commands.evaluate.partials import Partials
from pspnet_convert.commands.evaluate.ray_cluster import run_on_ray
from pspnet_convert.errors import ArtifactError
from pspnet_convert.files import digest_of
from pspnet_convert.job import Job, require
from pspnet_convert.manifest_fields import Protocol
from pspnet_convert.package_versions import versions
from pspnet_convert.processor import chosen_processors, this_processor
from pspnet_convert.progress import steps
from pspnet_convert.runtimes.devices import device_record
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.runtimes.openvino_install import require_openvino
from pspnet_convert.stage import Stage
from pspnet_convert.workspace import Workspace

log = logging.getLogger(__name__)


def evaluate_stage(job: Job, options: EvaluateOptions, name: str = "evaluate", *, keep: Collection[str] = ()) -> Stage:
    """Measure the workspace's models on annotated images; the figures are the result of the stage `name`.

    The counts of the models `keep` stay, for a later evaluation that resumes from them.
    """
    asked = replace(options, protocol=inputs.find_protocol(options, job.card))
    data = find_data(options, job.card)
    meaning = meaning_of(options, job.card, data)
    dataset = _dataset_record(data, meaning)
    for line in dataset["understood"]:
        log.info("%s", line, extra={"once": line})  # quantize --max-drop evaluates many times
    entries = data.entries[: options.limit]
    subjects, left_out = _fitting(job, asked, _as_run(find_subjects(job, options.backend), asked), entries)
    inputs.check_comparable(asked, job.card, subjects)
    check_first(entries, meaning)
    models = {subject.name: _records(job, subject) for subject in subjects}
    images = inputs.image_digests(entries, job.digests.of)
    testing = require_testing(job.card).model_dump(mode="json") if asked.protocol == "mmseg" else None
    common = {
        "card": job.converted_card(),
        "shape": list(job.exported_shape()),
        "testing": testing,
        "processor": this_processor().as_dict(),
        "device": device_record(options.device),
    }

    def make(made: Workspace) -> dict[str, Any]:
        depends_on = {**common, **asked.as_record(), "labels": dataset["labels"], "tools": versions(*tools.EVALUATION)}
        kept = job.workspace.folder / "evaluation"
        settings = ChunkSettings(
            job.card, meaning, job.exported_shape(), cast(Protocol, asked.protocol), asked.skip_bad, job.input_form()
        )
        partials = Partials(kept, depends_on, models, images, resume=asked.resume)
        over = run_locally if asked.ray is None else run_on_ray(asked.ray)
        with steps(job.progress, len(entries), "evaluating", stage="evaluate"):
            total = count(settings, subjects, entries, partials, over, job.progress.advance)
        result = evaluation(settings, len(data.entries), len(entries), total, left_out)
        partials.remove(keep)
        return result.model_dump(mode="json")

    # No count depends on the card's figure, but the result does: it holds the drops from it.
    stated = inputs.stated_figure(job.card, asked.protocol)
    return Stage(
        name,
        make,
        inputs={**common, "models": models, "dataset": {**dataset, "images": digest_of(images)}, "stated": stated},
        options=asked,
        tools=tools.EVALUATION,
    )


def _as_run(subjects: Sequence[ModelFile], options: EvaluateOptions) -> list[ModelFile]:
    """Each model, the IRs on their device; and these at the default precision and on other processors too, where that
    was asked for."""
    processors = chosen_processors(options.processor, this_processor(), options.device)
    found = []
    for subject in subjects:
        if subject.path.suffix != ".xml":
            found.append(subject)
            continue
        ir = replace(subject, device=options.device)
        found.append(ir)
        if options.at_default_precision:
            found.append(replace(ir, name=f"{ir.name} at default precision", at_default_precision=True))
        found += [replace(ir, name=f"{ir.name} on {name}", processor=name) for name in processors]
    return found


def _dataset_record(data: DataSet, meaning: Meaning) -> dict[str, Any]:
    """What the manifest says of the data set, except of its images."""
    return {
        "name": data.name,
        "layout": data.layout,
        "split": data.split,
        "listed": len(data.entries),
        "labels": meaning.as_record(),
        "understood": [data.describe(), meaning.describe()],
    }


def fitting_protocol(job: Job, options: EvaluateOptions) -> EvaluateOptions:
    """`options` with a protocol that converted models take the images of: the default one, or crop."""
    protocol = inputs.find_protocol(options, job.card)
    if protocol == "mmseg":
        images = [entry.image for entry in find_data(options, job.card).entries[: options.limit]]
        found = misfit(job.card, images, job.exported_shape()[2:])
        if found is not None:
            log.info("evaluating by protocol crop: the model %s", found[0])
            protocol = "crop"
    return replace(options, protocol=protocol)


def _fitting(
    job: Job, options: EvaluateOptions, subjects: Sequence[ModelFile], entries: Sequence[Entry]
) -> tuple[list[ModelFile], dict[str, str]]:
    """The models that take the protocol's images, and the others with the reason.

    ArtifactError if one that `options` names does not take them, or none does; or if a drop is limited, which would
    limit nothing.
    """
    converted = [subject for subject in subjects if subject.name != PYTORCH]
    if options.protocol != "mmseg" or not converted:
        return list(subjects), {}
    found = misfit(job.card, [entry.image for entry in entries], job.exported_shape()[2:])
    if found is None:
        return list(subjects), {}
    reason, advice = found
    names = ", ".join(subject.name for subject in converted)
    if options.backend or options.max_drop is not None or len(converted) == len(subjects):
        raise ArtifactError(f"{names}: the model {reason}", advice)
    log.warning("%s: not evaluated: the model %s. %s", names, reason, advice)
    return [subject for subject in subjects if subject.name == PYTORCH], {one.name: reason for one in converted}


def find_subjects(job: Job, backends: Sequence[str] = ()) -> list[ModelFile]:
    """The models named by `backends`; all that the workspace has where none are. Leaves out old IRs with a warning.

    ArtifactError if a named one is not there, or is of an earlier conversion; DependencyError if there are IRs among
    them and OpenVINO is not installed.
    """
    workspace = job.workspace
    paths = {PYTORCH: job.source.path, ONNX: workspace.onnx, **{name: workspace.ir(name) for name in IRS}}
    there = [name for name, path in paths.items() if path.is_file()]
    for old in [name for name in there if name in IRS and not backends and job.has_old_ir(name)]:
        log.warning("%s is of an earlier conversion, and is not evaluated", paths[old])
        there.remove(old)
    missing = [name for name in backends if name not in there]
    if missing or not there:
        path = paths[missing[0]] if missing else workspace.folder
        advice = "Run `pspnet-convert run` first; for INT8, `pspnet-convert quantize`."
        raise ArtifactError(f"{path}: there is no such model", advice)
    chosen = [name for name in there if name in backends or not backends]
    if set(chosen) & set(IRS):
        require_openvino()
    return [ModelFile(f"IR {name}", job.ir(name)) if name in IRS else ModelFile(name, paths[name]) for name in chosen]


def _records(job: Job, subject: ModelFile) -> list[dict[str, Any]]:
    """The files of a model to evaluate, with their digests; a checkpoint must be the card's."""
    if subject.path == job.source.path:
        return [job.checkpoint_record()]
    require(subject.parts, "to-ir")
    return job.records(subject.parts)
