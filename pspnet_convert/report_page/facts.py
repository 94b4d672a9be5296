"""What the page says about a run, read from the manifest's stages; any stage may be missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

from pspnet_convert.errors import count
from pspnet_convert.manifest_document import ManifestDocument, Stages
from pspnet_convert.manifest_fields import Comparison, File, RelativeError, StageRecord
from pspnet_convert.pipeline import CONVERSION, ORDER
from pspnet_convert.report_page.words import percent, scientific
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.output_form import OutputForm
from pspnet_convert.verdict import judged

_NEEDED = [name for name in CONVERSION if name != "download"]  # a checkpoint may come from elsewhere


@dataclass(frozen=True)
class Figure:
    """One of the large figures at the top."""

    value: str
    name: str
    detail: str


@dataclass(frozen=True)
class Step:
    """A stage of the chain. `record`: None if it has not run. `files`: its outputs without pictures."""

    name: str
    record: StageRecord | None
    files: Sequence[File]
    pictures: int

    @property
    def options(self) -> Mapping[str, Any]:
        """The options that the stage was given, in plain values."""
        return {} if self.record is None else self.record.model_dump(mode="json")["options"]

    @property
    def source(self) -> str | None:
        """Where a download came from."""
        return getattr(self.record.result, "source", None) if self.record else None


def key_figures(stages: Stages) -> list[Figure]:
    """The large figures of the verification; empty if there is none."""
    rows = judged(stages["verify"].result) if "verify" in stages else []
    if not rows:
        return []
    differing = min(rows, key=lambda row: row.agreement)
    farthest = max(rows, key=_largest_error)
    pictures = len(stages["verify"].result.inputs)
    return [
        Figure(
            percent(differing.agreement),
            "of the pixels have the reference's class",
            f"lowest: {differing.backend}",
        ),
        Figure(
            scientific(_from_reference(farthest).largest),
            "largest relative logit error",
            f"of {farthest.backend}",
        ),
        Figure(
            f"{max(row.pixels for row in rows):,}",
            "pixels compared for each model",
            f"in {count(pictures, 'picture')}",
        ),
    ]


def _largest_error(row: Comparison) -> float:
    largest = _from_reference(row).largest
    return inf if largest is None else largest


def _from_reference(row: Comparison) -> RelativeError:
    return row.from_reference or row.relative_error


def notices(stages: Stages) -> list[str]:
    """Warnings to read before the figures."""
    found = []
    exported = stages.get("export-onnx")
    with_checkpoint = stages.get("verify", exported)
    if with_checkpoint and not with_checkpoint.inputs.checkpoint.is_the_cards:
        file = with_checkpoint.inputs.checkpoint.file
        found.append(f"The checkpoint {file} is not the one that the model's card names.")
    if "verify-int8" in stages and stages["verify-int8"].result.verdict != "pass":
        found.append("The INT8 model did not pass its verification.")
    return [*found, *(exported.result["checkpoint"]["warnings"] if exported else ())]


def steps(stages: Stages) -> list[Step]:
    """The stages in order, with those that should have run and have not."""
    return [_step(name, stages.get(name)) for name in ORDER if name in stages or name in _NEEDED]


def _step(name: str, record: StageRecord | None) -> Step:
    outputs = record.outputs if record else []
    files = [output for output in outputs if not output.file.endswith(".png")]
    return Step(name, record, files, len(outputs) - len(files))


def versions(stages: Stages) -> dict[str, str]:
    """Each library's version, or versions if stages ran with different ones."""
    found: dict[str, list[str]] = {}
    for record in stages.values():
        for tool, version in record.tools.items():
            if version not in found.setdefault(tool, []):
                found[tool].append(version)
    return {tool: ", ".join(found[tool]) for tool in sorted(found)}


def first_ir(stages: Stages) -> str | None:
    """The IR in the page's example code, relative to the page; None if there is no IR."""
    files = [output.file for output in stages["to-ir"].outputs] if "to-ir" in stages else []
    return next((file for file in files if file.endswith(".xml")), None)


def output_form(stages: Stages) -> OutputForm:
    """What ONNX and IRs give; the plain form if there is no export."""
    return stages["export-onnx"].options.form if "export-onnx" in stages else OutputForm()


def image_shape(manifest: ManifestDocument) -> ImageShape:
    """[batch, channels, height, width] as exported; the card's shape if there is no export."""
    exported = manifest.stages.get("export-onnx")
    return exported.options.shape if exported else manifest.model.input.shape


def input_form(stages: Stages) -> InputForm:
    """How the IR takes images; the plain form if there is no IR."""
    return stages["to-ir"].options.form if "to-ir" in stages else PLAIN
