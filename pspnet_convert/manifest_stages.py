"""What each stage writes into `manifest.json`: the types behind its JSON Schema.

The document as a whole, and how it is read, is manifest_schema.py's business.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from pspnet_convert.cards.card import ClassLabel, Input, Output
from pspnet_convert.runtimes.input_form import MAX_BATCH

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Verdict = Literal["pass", "mismatch", "inconclusive"]
# Relative to the manifest, with slashes; it never leaves the manifest's folder.
FileName = Annotated[str, Field(pattern=r"^(?!/)(?!(.*/)?\.\.(/|$)).+$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Batch = Literal[-1] | Annotated[int, Field(ge=1, le=MAX_BATCH)]  # -1: any number of images
Shape = tuple[Batch, Literal[3], Count, Count]
Versions = dict[str, str]


class ManifestModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, regex_engine="python-re")


class File(ManifestModel):
    """A file of the manifest's folder, or the bare name of one from elsewhere; `size` in bytes."""

    file: FileName
    sha256: Sha256
    size: Count


class CheckpointRecord(File):
    is_the_cards: bool


class ConvertedCard(ManifestModel):
    """What of the card changes the artifacts."""

    name: str
    config: str | None = None
    network: dict[str, Any] | None = None
    config_overrides: dict[str, bool | int | float | list[int | float]]
    input: Input
    output: Output
    classes: list[ClassLabel]


class Nothing(ManifestModel):
    pass


class Stage(ManifestModel):
    """What every stage tells besides its inputs, options and result; `finished` in UTC, `seconds` it took."""

    tools: Versions
    outputs: list[File]
    finished: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")
    seconds: float = Field(ge=0)


class WantedFile(ManifestModel):
    sha256: Sha256
    size: Count


class DownloadInputs(ManifestModel):
    card: WantedFile


class DownloadResult(ManifestModel):
    """`source`: the URL, or the name of a file or folder of the machine."""

    source: str | None


class Download(Stage):
    inputs: DownloadInputs
    options: Nothing
    result: DownloadResult


class ExportInputs(ManifestModel):
    checkpoint: CheckpointRecord
    card: ConvertedCard


class ExportOptions(ManifestModel):
    input_shape: Shape
    opset: Count
    int32: bool
    fold_pyramid: bool


class ExportOnnx(Stage):
    inputs: ExportInputs
    options: ExportOptions
    result: Mapping[str, Any]  # what the checkpoint says of itself


class ToIrInputs(ManifestModel):
    onnx: File
    card: ConvertedCard


class ToIrOptions(ManifestModel):
    """`front_end`: the one that was used. `mo_args`: Model Optimizer's further arguments, by their Python names."""

    precisions: list[Literal["FP32", "FP16"]] = Field(min_length=1)
    front_end: Literal["mo", "ovc"]
    mo_args: dict[str, bool | str]
    input_type: Literal["f32", "u8"]
    input_layout: Literal["NCHW", "NHWC"]


class ToIr(Stage):
    inputs: ToIrInputs
    options: ToIrOptions
    result: Nothing


class VerifyInputs(ManifestModel):
    """`images`: all pictures that the models were compared on, the tool's own and the card's among them."""

    checkpoint: CheckpointRecord
    card: ConvertedCard
    models: list[File]
    images: list[File]


class VerifyOptions(ManifestModel):
    at_default_precision: bool


class RelativeError(ManifestModel):
    """Of logits, relative to theirs: the root mean square, and the largest; null where it is not finite."""

    rms: float | None
    largest: float | None


class Check(ManifestModel):
    name: str
    what: str
    passed: bool
    faults: list[str]


class UnexplainedPixel(ManifestModel):
    """Labels are class numbers; `margin` is the reference's, in logits."""

    image: str
    x: Count
    y: Count
    label: int
    expected: int
    margin: float


class Comparison(ManifestModel):
    """One converted model against the reference; of an `informative` one nothing follows."""

    backend: str
    precision: Literal["f32", "FP16", "bf16", "f16"]
    informative: bool
    passed: bool
    pixels: Count
    agreement: Share
    differing: Count
    explained: Count
    largest_error: float | None
    relative_error: RelativeError
    allowed: RelativeError
    checks: list[Check]
    unexplained: list[UnexplainedPixel]


class VerifyResult(ManifestModel):
    """`sensitivity`: how far small faults made on purpose move the reference's logits."""

    verdict: Verdict
    doubts: list[str]
    inputs: list[str]
    classes_seen: list[Count]
    sensitivity: dict[str, RelativeError]
    comparisons: list[Comparison]


class Verify(Stage):
    inputs: VerifyInputs
    options: VerifyOptions
    result: VerifyResult


class Int8Inputs(ManifestModel):
    """`images`: of the calibration, or of the comparison."""

    models: list[File]
    images: list[File]
    card: ConvertedCard


class QuantizeOptions(ManifestModel):
    subset_size: Count


class Quantize(Stage):
    inputs: Int8Inputs
    options: QuantizeOptions
    result: Nothing


class VerifyInt8Options(ManifestModel):
    min_agreement: Share


class Latency(ManifestModel):
    """Of one image. `ratio`: how many times as fast as the FP32 IR at f32."""

    weights: Literal["FP32", "INT8"]
    at: Literal["f32", "default"]
    precision: str
    median_ms: float
    ratio: float


class VerifyInt8Result(ManifestModel):
    """The INT8 IR against the FP32 one; `bytes` of the weights, by precision."""

    verdict: Verdict
    faults: list[str]
    inputs: list[str]
    classes_seen: list[Count]
    pixels: Count
    differing: Count
    agreement: Share
    min_agreement: Share
    relative_error: RelativeError
    bytes: dict[Literal["FP32", "INT8"], Count]
    latency: list[Latency]


class VerifyInt8(Stage):
    inputs: Int8Inputs
    options: VerifyInt8Options
    result: VerifyInt8Result


class EvaluatedData(ManifestModel):
    """`listed` are in the split; `images`: the SHA-256 of the names and digests of all that were asked for."""

    name: str
    split: str
    listed: Count
    images: Sha256


class EvaluateInputs(ManifestModel):
    """`models`: the files of each, by name; `stated`: the card's figure for the protocol."""

    card: ConvertedCard
    shape: Shape
    models: dict[str, list[File | CheckpointRecord]]
    dataset: EvaluatedData
    stated: float | None


class EvaluateOptions(ManifestModel):
    protocol: Literal["crop", "pad", "whole"]
    skip_bad: bool


class Score(ManifestModel):
    """Per cent. `ious`: by class, null for one that does not occur; `drop`: points below the `reference`."""

    backend: str
    mean_iou: float
    pixel_accuracy: float
    ious: dict[str, float | None]
    drop: float | None


class EvaluateResult(ManifestModel):
    """`images` were counted, of `listed`; `stated`: the card's figure for the protocol."""

    protocol: Literal["crop", "pad", "whole"]
    listed: Count
    images: Count
    skipped: dict[str, str]
    unknown: dict[str, Count]
    stated: float | None
    reference: str | None
    scores: list[Score]


class Evaluate(Stage):
    inputs: EvaluateInputs
    options: EvaluateOptions
    result: EvaluateResult
