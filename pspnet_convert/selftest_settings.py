"""The file `selftest.json` of a bundle: what selftest.py runs, on what, and what it allows."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pspnet_convert.errors import ArtifactError
from pspnet_convert.manifest_document import ManifestDocument
from pspnet_convert.manifest_fields import File, FileName, GoldenTolerance, ManifestModel, Share
from pspnet_convert.runtimes.input_form import batch_sizes
from pspnet_convert.workspace import INT8

_NUMPY = ".input.npy"
_PRECISIONS: dict[str, Literal["f32", "FP16", "INT8"]] = {"FP32": "f32", "FP16": "FP16", INT8: "INT8"}


class GoldenCase(ManifestModel):
    """The files of one golden case: see commands/verify/golden.py."""

    name: str
    image: FileName
    labels: FileName
    margins: FileName


class IrToRun(ManifestModel):
    """`precision`: of its weights; `min_agreement`: of an INT8 IR, null for others."""

    file: FileName
    precision: Literal["f32", "FP16", "INT8"]
    min_agreement: Share | None


class SelfTestSettings(ManifestModel):
    """What selftest.py reads. `output`: the label map's name. `reversed`: an IR takes the pictures' colours as BGR.

    `batches`: how many images the IRs take at a time, in turn. `tolerances`: by precision.
    """

    version: Literal[1] = 1
    model: str
    layout: Literal["NCHW", "NHWC"]
    output: str
    reversed: bool
    batches: Annotated[list[Annotated[int, Field(ge=1)]], Field(min_length=1)]
    tolerances: dict[Literal["f32", "FP16", "f16", "bf16"], GoldenTolerance]
    irs: list[IrToRun]
    cases: Annotated[list[GoldenCase], Field(min_length=1)]

    @property
    def files(self) -> list[str]:
        """All that the self-test reads, next to the settings."""
        weights = [Path(ir.file).with_suffix(".bin").as_posix() for ir in self.irs]
        of_cases = [file for case in self.cases for file in (case.image, case.labels, case.margins)]
        return [*(ir.file for ir in self.irs), *weights, *of_cases]


def golden_files(manifest: ManifestDocument) -> list[File]:
    """The files of the golden cases among those of the stage verify; none if it was an earlier release's."""
    settings = self_test_settings(manifest)
    if settings is None:
        return []
    wanted = set(settings.files)
    return [file for file in manifest.stages["verify"].outputs if file.file in wanted]


def self_test_settings(manifest: ManifestDocument) -> SelfTestSettings | None:
    """The settings for the IRs of `manifest`; None if it has no golden cases."""
    verified, converted = manifest.stages.get("verify"), manifest.stages.get("to-ir")
    if verified is None or converted is None or not verified.result.tolerances:
        return None
    made = {file.file for file in verified.outputs}
    cases = [_case(name, made) for name in verified.result.inputs]
    checked = manifest.stages.get("verify-int8")
    xmls = [file.file for file in manifest.irs if file.file.endswith(".xml")]
    batch = manifest.stages["export-onnx"].options.shape[0]
    return SelfTestSettings(
        model=manifest.model.name,
        layout=converted.options.form.layout,
        output=manifest.model.output.name,
        reversed=manifest.model.input.is_color,
        batches=list(batch_sizes(batch)),
        tolerances=verified.result.tolerances,
        irs=[_ir(xml, checked.options.min_agreement if checked else None) for xml in xmls],
        cases=cases,
    )


def read_settings(path: Path, shown: Path) -> SelfTestSettings:
    """The settings in the file at `path`, which a message calls `shown`; ArtifactError where it is not of this form."""
    try:
        return SelfTestSettings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise ArtifactError(f"{shown}: is no self-test of this release: {fault}") from error


def _case(name: str, made: set[str]) -> GoldenCase:
    stem = f"verification/{name}"
    image = f"{stem}{_NUMPY}" if f"{stem}{_NUMPY}" in made else f"{stem}.input.png"
    return GoldenCase(name=name, image=image, labels=f"{stem}.reference.png", margins=f"{stem}.margin.png")


def _ir(xml: str, min_agreement: float | None) -> IrToRun:
    precision = _PRECISIONS[Path(xml).parent.name]
    return IrToRun(file=xml, precision=precision, min_agreement=min_agreement if precision == "INT8" else None)
