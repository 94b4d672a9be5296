"""The file `selftest.json` of a bundle: what selftest.py runs, on what, and what it allows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, ValidationError

from pspnet_convert.errors import ArtifactError
from pspnet_convert.manifest_document import ManifestDocument
from pspnet_convert.manifest_fields import File, FileName, GoldenTolerance, ManifestModel, Share
from pspnet_convert.runtimes.input_form import batch_sizes
from pspnet_convert.workspace import INT8

# An INT8 IR's labels at nearly equal logits are those of the kernels that a device has.
INT8_SLACK = 0.02
_NUMPY = ".input.npy"
_PRECISIONS: dict[str, Literal["f32", "FP16", "INT8"]] = {"FP32": "f32", "FP16": "FP16", INT8: "INT8"}


class GoldenCase(ManifestModel):
    """The files of one golden case: see commands/verify/golden.py."""

    name: str
    image: FileName
    labels: FileName
    margins: FileName

    @property
    def files(self) -> list[str]:
        return [self.image, self.labels, self.margins]


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
        of_cases = [file for case in self.cases for file in case.files]
        return [*(ir.file for ir in self.irs), *weights, *of_cases]


def golden_files(manifest: ManifestDocument) -> list[File]:
    """The files of the golden cases among those of the stage verify; none if it was an earlier release's."""
    cases = _cases(manifest)
    return _files_of(manifest, cases) if cases else []


def self_test_settings(manifest: ManifestDocument) -> SelfTestSettings | None:
    """The settings for the IRs of `manifest`; None if it has no golden cases."""
    cases = _cases(manifest)
    exported, converted = manifest.stages.get("export-onnx"), manifest.stages.get("to-ir")
    if not cases or exported is None or converted is None:
        return None
    xmls = [file.file for file in manifest.irs if file.file.endswith(".xml")]
    return SelfTestSettings(
        model=manifest.model.name,
        layout=converted.options.form.layout,
        output=manifest.model.output.name,
        reversed=manifest.model.input.is_color,
        batches=list(batch_sizes(exported.options.shape[0])),
        tolerances=manifest.stages["verify"].result.tolerances,
        irs=[_ir(xml, _int8_agreement(manifest, cases)) for xml in xmls],
        cases=cases,
    )


def read_settings(path: Path, shown: Path) -> SelfTestSettings:
    """The settings in the file at `path`, which a message calls `shown`; ArtifactError where it is not of this form."""
    try:
        return SelfTestSettings.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as error:
        fault = error.errors()[0]["msg"] if isinstance(error, ValidationError) else error.strerror
        raise ArtifactError(f"{shown}: is no self-test of this release: {fault}") from error


def _cases(manifest: ManifestDocument) -> list[GoldenCase]:
    """The golden cases of the stage verify; none if it has not run, or was an earlier release's."""
    verified = manifest.stages.get("verify")
    if verified is None or not verified.result.tolerances:
        return []
    made = {file.file for file in verified.outputs}
    return [_case(name, made) for name in verified.result.inputs]


def _case(name: str, made: set[str]) -> GoldenCase:
    stem = f"verification/{name}"
    image = f"{stem}{_NUMPY}" if f"{stem}{_NUMPY}" in made else f"{stem}.input.png"
    return GoldenCase(name=name, image=image, labels=f"{stem}.reference.png", margins=f"{stem}.margin.png")


def _int8_agreement(manifest: ManifestDocument, cases: Sequence[GoldenCase]) -> float | None:
    """The share of the golden pixels at which an INT8 IR must give the reference's label; None where it is not known.

    What was asked of it on images like those of its calibration; less, if it gave less on these cases when it was made.
    """
    checked = manifest.stages.get("verify-int8")
    if checked is None:
        return None
    asked: float = checked.options.min_agreement
    gave = checked.result.golden_agreement
    same = {file.file: file.sha256 for file in checked.inputs.golden} == {
        file.file: file.sha256 for file in _files_of(manifest, cases)
    }
    return max(0.0, min(asked, gave - INT8_SLACK)) if same and gave is not None else asked


def _files_of(manifest: ManifestDocument, cases: Sequence[GoldenCase]) -> list[File]:
    wanted = {file for case in cases for file in case.files}
    return [file for file in manifest.stages["verify"].outputs if file.file in wanted]


def _ir(xml: str, min_agreement: float | None) -> IrToRun:
    precision = _PRECISIONS[Path(xml).parent.name]
    return IrToRun(file=xml, precision=precision, min_agreement=min_agreement if precision == "INT8" else None)
