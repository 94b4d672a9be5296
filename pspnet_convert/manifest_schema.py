"""The form of `manifest.json`, for programs that read it: its types, and the JSON Schema that follows from them.

`python -m pspnet_convert.manifest_schema` prints schemas/manifest.schema.json. What a manifest says, and when, is
manifest.py's business and the stages'.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Optional, Union, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, with_config
from typing_extensions import TypedDict  # pydantic takes typing's from Python 3.12 on

from pspnet_convert.card import ClassLabel, Input, ModelCard, Output
from pspnet_convert.errors import ArtifactError

Count = Annotated[int, Field(ge=0)]
# Relative to the manifest, with slashes; it never leaves the manifest's folder.
FileName = Annotated[str, Field(pattern=r"^(?!/)(?!(.*/)?\.\.(/|$)).+$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Shape = tuple[Literal[1], Literal[3], Count, Count]
Versions = dict[str, str]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, regex_engine="python-re")


class File(_Part):
    """A file of the manifest's folder, or the bare name of one from elsewhere; `size` in bytes."""

    file: FileName
    sha256: Sha256
    size: Count


class CheckpointRecord(File):
    is_the_cards: bool


class ConvertedCard(_Part):
    """What of the card changes the artifacts."""

    name: str
    config: str
    config_overrides: dict[str, Union[bool, int, float, list[Union[int, float]]]]
    input: Input
    output: Output
    classes: list[ClassLabel]


class Nothing(_Part):
    pass


class Stage(_Part):
    """What every stage tells besides its inputs, options and result; `finished` in UTC, `seconds` it took."""

    tools: Versions
    outputs: list[File]
    finished: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")
    seconds: float = Field(ge=0)


class WantedFile(_Part):
    sha256: Sha256
    size: Count


class DownloadInputs(_Part):
    card: WantedFile


class DownloadResult(_Part):
    """`source`: the URL, or the name of a file or folder of the machine."""

    source: Optional[str]


class Download(Stage):
    inputs: DownloadInputs
    options: Nothing
    result: DownloadResult


class ExportInputs(_Part):
    checkpoint: CheckpointRecord
    card: ConvertedCard


class ExportOptions(_Part):
    input_shape: Shape
    opset: Count
    int32: bool
    fold_pyramid: bool


class ExportOnnx(Stage):
    inputs: ExportInputs
    options: ExportOptions
    result: Mapping[str, Any]  # what the checkpoint says of itself


class ToIrInputs(_Part):
    onnx: File
    card: ConvertedCard


class ToIrOptions(_Part):
    """`mo_args`: Model Optimizer's further arguments, by their Python names."""

    precisions: list[Literal["FP32", "FP16"]] = Field(min_length=1)
    mo_args: dict[str, Union[bool, str]]


class ToIr(Stage):
    inputs: ToIrInputs
    options: ToIrOptions
    result: Nothing


class VerifyInputs(_Part):
    checkpoint: CheckpointRecord
    card: ConvertedCard
    models: list[File]
    images: list[File]


class VerifyOptions(_Part):
    at_default_precision: bool


class RelativeError(_Part):
    """Of logits, relative to theirs: the root mean square, and the largest; null where it is not finite."""

    rms: Optional[float]
    largest: Optional[float]


class Check(_Part):
    name: str
    what: str
    passed: bool
    faults: list[str]


class UnexplainedPixel(_Part):
    """Labels are class numbers; `margin` is the reference's, in logits."""

    image: str
    x: Count
    y: Count
    label: int
    expected: int
    margin: float


class Comparison(_Part):
    """One converted model against the reference; of an `informative` one nothing follows."""

    backend: str
    precision: Literal["f32", "FP16", "bf16", "f16"]
    informative: bool
    passed: bool
    pixels: Count
    agreement: float = Field(ge=0, le=1)
    differing: Count
    explained: Count
    largest_error: Optional[float]
    relative_error: RelativeError
    allowed: RelativeError
    checks: list[Check]
    unexplained: list[UnexplainedPixel]


class VerifyResult(_Part):
    """`sensitivity`: how far small faults made on purpose move the reference's logits."""

    verdict: Literal["pass", "mismatch", "inconclusive"]
    doubts: list[str]
    inputs: list[str]
    classes_seen: list[Count]
    sensitivity: dict[str, RelativeError]
    comparisons: list[Comparison]


class Verify(Stage):
    inputs: VerifyInputs
    options: VerifyOptions
    result: VerifyResult


# Only those that have been done, and whose files have not been replaced since.
Stages = TypedDict(
    "Stages",
    {"download": Download, "export-onnx": ExportOnnx, "to-ir": ToIr, "verify": Verify},
    total=False,
)
with_config(ConfigDict(extra="forbid"))(Stages)


class Tool(_Part):
    name: Literal["pspnet-convert"]
    version: str


class ManifestDocument(_Part):
    """What pspnet-convert made, from what, with what, and its digests."""

    manifest_version: Literal[2]
    tool: Tool
    model: ModelCard
    stages: Stages

    @property
    def making(self) -> dict[str, Stage]:
        """The stages that make the IRs, in order."""
        return {name: stage for name, stage in _each(self.stages) if name in ("export-onnx", "to-ir")}

    @property
    def irs(self) -> list[File]:
        """Both halves of each IR."""
        return [file for name, stage in self.making.items() if name != "export-onnx" for file in stage.outputs]

    @property
    def tools(self) -> dict[str, str]:
        """The versions of all that had a part in making and verifying, by package; in alphabetical order."""
        return dict(sorted({tool: has for _, stage in _each(self.stages) for tool, has in stage.tools.items()}.items()))


def _each(stages: Stages) -> list[tuple[str, Stage]]:
    return [(name, cast(Stage, stage)) for name, stage in stages.items()]


def read_manifest(path: Path) -> ManifestDocument:
    """Read and check the manifest at `path`; ArtifactError where there is none, or it is not of this form."""
    try:
        return ManifestDocument.model_validate_json(path.read_bytes())
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}", "Run run first.") from error
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise ArtifactError(
            f"{path}: is no manifest of this release: {place + ': ' if place else ''}{fault['msg']}", "Run run again."
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a manifest."""
    schema = ManifestDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "pspnet-convert manifest"}


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    print()
