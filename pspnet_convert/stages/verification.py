"""The stage verify: the workspace's ONNX and IRs, or files from elsewhere, against the PyTorch original.

What is compared, and what may differ, is verify.py's business.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.errors import ArtifactError
from pspnet_convert.files import printable_name, slug, temporary_folder
from pspnet_convert.job import Job, Outcome, require, tell
from pspnet_convert.manifest import StageRecord, versions
from pspnet_convert.progress import steps
from pspnet_convert.runtimes.images import free_name
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.model_file import ModelFile
from pspnet_convert.stages import tools
from pspnet_convert.verify.candidates import candidates
from pspnet_convert.verify.compare import verify as compare_with_reference
from pspnet_convert.verify.inputs import picture_files, verification_inputs
from pspnet_convert.verify.pictures import save_differences, write_pictures
from pspnet_convert.verify.reference import expect
from pspnet_convert.verify.result import Verification
from pspnet_convert.workspace import PRECISIONS

if TYPE_CHECKING:
    from pspnet_convert.runtimes.logit_error import Precision

log = logging.getLogger(__name__)


def verify(
    job: Job,
    images: Sequence[Path],
    onnx: Sequence[Path] = (),
    irs: Sequence[Path] = (),
    *,
    shape: ImageShape | None = None,
    batch: int = 1,
    form: InputForm = PLAIN,
    at_default_precision: bool = False,
    save_diff: Path | None = None,
) -> Outcome:
    """Compare the workspace's ONNX and IRs with the reference; the verdict is in the record's result.

    What each model saw lies in the workspace's `verification` folder afterwards. With `onnx` or `irs`, files from
    elsewhere, those are compared, and workspace and manifest stay as they are: they must take `batch` images of the
    height and width of `shape` (the card's where None is given), an IR in `form`; the workspace's own what they were
    made for. Pictures of what differs go to the folder `save_diff`.
    """
    own = not (onnx or irs)
    with nullcontext(job.workspace.verification) if own else temporary_folder(job.workspace.folder) as folder:
        if own:
            outcome = _verify_own(job, images, at_default_precision)
        else:
            files, taken = _from_elsewhere(onnx, irs), (batch, *(shape or job.card.input.shape)[1:])
            outcome = _verify_others(job, files, taken, form, images, at_default_precision, folder)
        if save_diff is not None:
            save_differences(folder, outcome.record.result, save_diff)
    return outcome


def _verify_own(job: Job, images: Sequence[Path], at_default_precision: bool) -> Outcome:
    require([job.workspace.onnx], "export-onnx")
    files = [ModelFile("ONNX", job.workspace.onnx, "f32")]
    for precision in _converted(job):
        claims: Precision = "FP16" if precision == "FP16" else "f32"
        files.append(ModelFile(f"IR {precision}", job.ir(precision), claims))
    require([part for file in files for part in file.parts], "to-ir")
    pictures: list[Path] = []

    def work() -> dict[str, Any]:
        result = _compare(job, files, job.exported_shape(), job.input_form(), images, at_default_precision)
        pictures.extend(write_pictures(result, job.card, job.workspace.verification, job.write_atomically))
        return result.as_dict()

    return job.stage(
        "verify",
        inputs=_inputs(job, files, images),
        options={"at_default_precision": at_default_precision},
        tools=tools.VERIFICATION,
        outputs=pictures,
        work=work,
    )


def _converted(job: Job) -> list[str]:
    """The precisions of the last to-ir; all where the manifest has none. Older IRs are left, and told of."""
    record = job.manifest.stage("to-ir")
    if record is None:
        return list(PRECISIONS)
    precisions = record.options["precisions"]
    for left in PRECISIONS:
        if left not in precisions and job.is_left(left):
            log.warning("%s is of an earlier conversion, and is not verified", job.workspace.ir(left))
    return list(precisions)


def _from_elsewhere(onnx: Sequence[Path], irs: Sequence[Path]) -> list[ModelFile]:
    """ArtifactError if one is not there. Their names tell them apart in pictures' file names, too."""
    taken: set[str] = set()
    files = [ModelFile(free_name(f"ONNX {printable_name(path.name)}", taken, slug), path) for path in onnx]
    files += [ModelFile(free_name(f"IR {printable_name(path.name)}", taken, slug), path) for path in irs]
    for part in (part for file in files for part in file.parts):
        if not part.is_file():
            raise ArtifactError(f"{part}: there is no such file", "An IR is an .xml with its .bin beside it.")
    return files


def _verify_others(
    job: Job,
    files: Sequence[ModelFile],
    shape: ImageShape,
    form: InputForm,
    images: Sequence[Path],
    at_default_precision: bool,
    folder: Path,
) -> Outcome:
    options = {"at_default_precision": at_default_precision}
    planned = StageRecord(_inputs(job, files, images), options, versions(*tools.VERIFICATION))
    started = time.monotonic()
    result = _compare(job, files, shape, form, images, at_default_precision)
    write_pictures(result, job.card, folder)
    return tell(Outcome("verify", job.finish(planned, started, [], result.as_dict()), skipped=False))


def _inputs(job: Job, files: Sequence[ModelFile], images: Sequence[Path]) -> dict[str, Any]:
    return {
        "checkpoint": job.checkpoint_record(),
        "card": job.converted_card(),
        "models": job.records([part for file in files for part in file.parts]),
        "images": job.pictures(picture_files(job.card, images)),
    }


def _compare(
    job: Job,
    files: Sequence[ModelFile],
    shape: ImageShape,
    form: InputForm,
    images: Sequence[Path],
    at_default_precision: bool,
) -> Verification:
    inputs = verification_inputs(job.card, shape, images)
    compared = candidates(files, job.card, shape, form, at_default_precision=at_default_precision)
    with steps(job.progress, len(inputs) * (1 + len(compared)), "verifying", stage="verify") as note:
        return compare_with_reference(
            # Its weights go before the converted models come.
            lambda batch: expect(job.original.take_network(), job.card, batch, note),
            compared,
            inputs,
            len(job.card.classes),
            note,
            batch=shape[0],
        )
