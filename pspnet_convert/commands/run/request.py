"""What a run's verification will ask of the reference, known before the export."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.to_ir.options import ToIrOptions
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.commands.verify.options import VerifyOptions
from pspnet_convert.commands.verify.reference_ahead import ReferenceRequest
from pspnet_convert.job import Job
from pspnet_convert.package_versions import versions

if TYPE_CHECKING:
    from pspnet_convert.commands.to_ir.front_ends import FrontEnd
    from pspnet_convert.runtimes.logit_error import Precision


def request_of_run(
    job: Job, export: ExportOptions, to_ir: ToIrOptions, front_end: FrontEnd, options: VerifyOptions
) -> ReferenceRequest:
    """What verify_stage will ask of the reference, after the stages export-onnx and to-ir with these options."""
    exported = export.for_card(job.card.input.shape)
    release = versions(*front_end.tools).get("openvino", "")
    conversion = Conversion(exported.fold_pyramid, front_end.name, release, is_plain=not to_ir.mo_arg)
    precisions: set[Precision] = {"FP16" if precision == "FP16" else "f32" for precision in to_ir.precision}
    return ReferenceRequest(
        job.card, exported.shape, options.images, to_ir.form, frozenset({"f32", *precisions}), conversion
    )
