"""The stage verify: the workspace's ONNX and IRs, or models from elsewhere, against the PyTorch reference."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert import tools
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.quantize.options import MIN_AGREEMENT
from pspnet_convert.commands.verify.answers import Answers, AnswersInChildren
from pspnet_convert.commands.verify.candidates import Runs, candidates, precisions_of
from pspnet_convert.commands.verify.checks import drawn_for
from pspnet_convert.commands.verify.compare import Verification, compare_with_reference
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.commands.verify.explain import Reference, explain, needs_explanation
from pspnet_convert.commands.verify.inputs import picture_files
from pspnet_convert.commands.verify.options import ForeignModelOptions, VerifyOptions
from pspnet_convert.commands.verify.pictures import save_differences, write_pictures
from pspnet_convert.commands.verify.preprocessing import check_preprocessing
from pspnet_convert.commands.verify.reference import expect
from pspnet_convert.commands.verify.reference_ahead import ReferenceAhead, ReferenceRequest
from pspnet_convert.device import CPU, is_cpu_alone
from pspnet_convert.errors import ArtifactError, OptionError
from pspnet_convert.files import printable_name, slug, temporary_folder, writing
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.job import Job, require
from pspnet_convert.manifest_fields import VerifyResult
from pspnet_convert.options import check_channels
from pspnet_convert.processor import chosen_processors, this_processor
from pspnet_convert.progress import steps
from pspnet_convert.runtimes.child_model import memory_for
from pspnet_convert.runtimes.devices import device_record
from pspnet_convert.runtimes.images import free_name
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.runtimes.value_range import check_type
from pspnet_convert.stage import Stage
from pspnet_convert.worker_process import Limits
from pspnet_convert.workspace import INT8, PRECISIONS, Workspace

if TYPE_CHECKING:
    from pathlib import Path

    from pspnet_convert.runtimes.logit_error import Precision

log = logging.getLogger(__name__)


def verify_stage(job: Job, options: VerifyOptions, ahead: ReferenceAhead | None = None) -> Stage:
    """Compare the workspace's ONNX and IRs with the reference, whose answers `ahead` may have.

    The workspace's folder `verification` then has images of what each model saw.
    """
    require([job.workspace.onnx], "export-onnx")
    files = [ModelFile("ONNX", job.workspace.onnx, "f32")]
    for precision in _converted(job):
        claims: Precision = "FP16" if precision == "FP16" else "f32"
        files.append(ModelFile(f"IR {precision}", job.ir(precision), claims))
    if (options.processor is not None or options.device != CPU) and job.workspace.ir(INT8).is_file():
        if job.has_old_ir(INT8):
            log.warning("%s is of an earlier conversion, and is not verified", job.workspace.ir(INT8))
        else:
            files.append(ModelFile(f"IR {INT8}", job.ir(INT8), "INT8"))
    require([part for file in files for part in file.parts], "to-ir")

    def make(made: Workspace) -> dict[str, Any]:
        exported, quantized = job.manifest.stage("export-onnx"), job.manifest.stage("verify-int8")
        models = _Models(
            files,
            job.exported_shape(),
            job.input_form(),
            _conversion(job),
            exported and exported.options,
            quantized.options.min_agreement if quantized else MIN_AGREEMENT,
        )
        result = _compare(job, models, options, made.verification, ahead)
        with writing(job.workspace.verification):
            write_pictures(result, job.card, made.verification)
        return result.as_dict()

    return replace(_stage(job, files, options, make), clears=job.workspace.verification)


def verify_foreign_stage(
    job: Job, foreign: ForeignModelOptions, options: VerifyOptions, save_diff: Path | None
) -> Stage:
    """Compare models from elsewhere with the reference; workspace and manifest stay as they are.

    Images of what differs go to the folder `save_diff`.
    """
    files = _foreign_files(foreign)
    if options.processor is not None and not foreign.ir:
        raise OptionError("--processor is for IRs (--ir): ONNX Runtime runs with all instructions of this processor")
    if options.device != CPU and not foreign.ir:
        raise OptionError("--device is for IRs (--ir): ONNX Runtime runs on the CPU")
    shape = (foreign.batch or 1, *(foreign.input_shape or job.card.input.shape)[1:])
    check_channels(shape, job.card.input.shape)
    form = InputForm(foreign.input_type or "f32", foreign.input_layout or "NCHW")
    check_type(job.card.input, form)

    def make(made: Workspace) -> dict[str, Any]:
        result = _compare(job, _Models(files, shape, form), options, save_diff)
        if save_diff is not None:
            with writing(job.workspace.folder):
                write_pictures(result, job.card, made.verification)
            save_differences(made.verification, VerifyResult.model_validate(result.as_dict()), save_diff)
        return result.as_dict()

    return replace(_stage(job, files, options, make), recorded=False)


def _converted(job: Job) -> list[str]:
    """The precisions of the last to-ir; all where the manifest has none. Warns of older IRs."""
    record = job.manifest.stage("to-ir")
    if record is None:
        return list(PRECISIONS)
    precisions = list(record.options.precision)
    for other in PRECISIONS:
        if other not in precisions and job.has_old_ir(other):
            log.warning("%s is of an earlier conversion, and is not verified", job.workspace.ir(other))
    return precisions


def _foreign_files(foreign: ForeignModelOptions) -> list[ModelFile]:
    """ArtifactError if one is not there. The names are unique, in image file names too."""
    taken: set[str] = set()
    files = [ModelFile(free_name(f"ONNX {printable_name(path.name)}", taken, slug), path) for path in foreign.onnx]
    files += [ModelFile(free_name(f"IR {printable_name(path.name)}", taken, slug), path) for path in foreign.ir]
    for part in (part for file in files for part in file.parts):
        if not part.is_file():
            raise ArtifactError(f"{part}: there is no such file", "An IR is an .xml with its .bin next to it.")
    return files


def _stage(
    job: Job, files: Sequence[ModelFile], options: VerifyOptions, make: Callable[[Workspace], dict[str, Any]]
) -> Stage:
    testing = job.card.testing
    chosen_processors(options.processor, this_processor(), options.device)  # refuses them before the work
    inputs = {
        "checkpoint": job.checkpoint_record(),
        "card": job.converted_card(),
        "testing": testing.model_dump(mode="json") if testing else None,
        "models": job.records([part for file in files for part in file.parts]),
        "images": job.image_records(picture_files(job.card, options.images)),
        "processor": this_processor().as_dict(),
        "device": device_record(options.device),
    }
    return Stage("verify", make, inputs, options, tools.VERIFICATION, outputs=None)


def _conversion(job: Job) -> Conversion | None:
    """How the workspace's IRs were made; None where the manifest does not say."""
    exported, converted = job.manifest.stage("export-onnx"), job.manifest.stage("to-ir")
    if exported is None or converted is None:
        return None
    options = converted.options
    release = converted.tools.get("openvino", "")
    return Conversion(exported.options.fold_pyramid, options.front_end, release, is_plain=not options.mo_arg)


@dataclass(frozen=True)
class _Models:
    """What is compared: files that take images of `shape`, as IRs in `form`. `conversion` and `exported`: how IRs and
    ONNX were made, None for files from elsewhere and where it is not known. `min_agreement`: of an INT8 IR."""

    files: Sequence[ModelFile]
    shape: ImageShape
    form: InputForm
    conversion: Conversion | None = None
    exported: ExportOptions | None = None
    min_agreement: float = MIN_AGREEMENT


def _compare(
    job: Job, models: _Models, options: VerifyOptions, save_layers: Path | None, ahead: ReferenceAhead | None = None
) -> Verification:
    """`save_layers`: the folder in which wrong layers are saved."""
    shape, form = models.shape, models.form
    processors = chosen_processors(options.processor, this_processor(), options.device)
    compared = candidates(
        models.files,
        job.card,
        shape,
        form,
        Runs(options.device, processors, options.at_default_precision),
        min_agreement=models.min_agreement,
        gives=None if models.exported is None else models.exported.form,
    )
    request = ReferenceRequest(job.card, shape, options.images, form, precisions_of(compared), models.conversion)
    inputs = request.inputs()
    drawn: Future[NDArray[np.float32]] = Future()
    # The driver of another device maps memory of its own, nobody knows how much.
    memory = memory_for(job.source.path.stat().st_size, shape) if is_cpu_alone(options.device) else None
    limits = Limits(options.timeout, memory)
    with (
        steps(job.progress, len(inputs) * (1 + len(compared)), "verifying", stage="verify") as note,
        temporary_folder(job.workspace.folder) as folder,
        writing(job.workspace.folder),
        # The reference loads and runs while the converted models do: loading takes one core.
        AnswersInChildren(compared, [entry.image for entry in inputs], drawn, folder, limits, note) as asked,
    ):
        network = job.source.take_network()
        logits = drawn_for((len(job.card.classes), *shape[2:]), network.decision_score)
        drawn.set_result(logits)
        expected = None if ahead is None else ahead.answers(request, note)
        if expected is None:
            expected = expect(network, job.card, inputs, folder, note, request.precisions, request.conversion)
        answered = asked.all()
        result = compare_with_reference(expected, answered, inputs, len(job.card.classes), network.decision_score)
        reference = Reference(network, job.card, inputs, expected, logits, models.conversion, models.exported)
        for (candidate, found), comparison in zip(answered, result.comparisons):
            is_plain = candidate.processor is None and candidate.model.device == CPU
            if isinstance(found, Answers) and is_plain and needs_explanation(comparison):
                place = save_layers and save_layers / f"layer-{slug(comparison.backend)}"
                comparison.explanation = explain(
                    reference, candidate, found, comparison, folder, place, always_locate=options.locate
                )
    return replace(result, preprocessing=check_preprocessing(job.card))
