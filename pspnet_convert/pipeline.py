"""The stages in order. The only place that knows it.

Each is skipped when the manifest says that it has done the same work and its files are as it left them.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pspnet_convert.job import Job, Outcome
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.io_signature import DEFAULT_OPSET
from pspnet_convert.stages import conversion, export, verification
from pspnet_convert.stages import download as downloading
from pspnet_convert.to_ir.front_ends import MoArguments, find_front_end
from pspnet_convert.workspace import INT8, PRECISIONS


def run(
    job: Job,
    *,
    sources: Sequence[str] = (),
    allow_http_redirect: bool = False,
    shape: ImageShape | None = None,
    batch: int = 1,
    opset: int = DEFAULT_OPSET,
    int32: bool = False,
    fold_pyramid: bool = True,
    precisions: Sequence[str] = PRECISIONS,
    front_end: str = "auto",
    mo_args: MoArguments | None = None,
    form: InputForm = PLAIN,
    images: Sequence[Path] = (),
    download: bool = True,
) -> list[Outcome]:
    """All stages and the page; `download` is False where the user has given a checkpoint."""
    converter = find_front_end(front_end, mo_args or {})  # what is not installed is told of before all work
    outcomes = [downloading.download(job, sources, allow_http_redirect=allow_http_redirect)] if download else []
    outcomes.append(export.export_onnx(job, shape, batch, opset, int32=int32, fold_pyramid=fold_pyramid))
    outcomes.append(conversion.to_ir(job, precisions, converter, form))
    outcomes.append(verification.verify(job, images))
    job.write_page()
    return outcomes


def run_int8(
    job: Job,
    calibration: Path | None,
    subset_size: int,
    min_agreement: float,
    dataset: Path | None,
    *,
    evaluate: bool,
) -> list[Outcome]:
    """The stages from the FP32 IR to a compared INT8 one.

    With `evaluate`, the mean IoU of both in one pass as well, on `dataset`, or the card's.
    """
    # Late: `run`, which has no part of them, need not wait for them.
    from pspnet_convert.evaluate.inputs import Choice
    from pspnet_convert.stages import evaluation, quantization

    outcomes = [
        quantization.quantize(job, calibration, subset_size),
        quantization.verify_int8(job, calibration, min_agreement),
    ]
    if evaluate:
        both = Choice(dataset=dataset, backends=("FP32", INT8))
        outcomes.append(evaluation.evaluate(job, both, "evaluate-int8"))
    return outcomes
