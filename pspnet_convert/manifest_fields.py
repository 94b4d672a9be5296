"""What the manifest holds of each stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, get_type_hints

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetCoreSchemaHandler,
    SerializerFunctionWrapHandler,
    model_serializer,
)
from pydantic_core import CoreSchema, core_schema

from pspnet_convert.cards.card import ClassLabel, Input, Output
from pspnet_convert.commands.evaluate.options import EvaluateOptions
from pspnet_convert.commands.export_onnx.options import ExportOptions
from pspnet_convert.commands.quantize.options import OverflowFix, Preset, QuantizeOptions, VerifyInt8Options
from pspnet_convert.commands.to_ir.options import ToIrOptions
from pspnet_convert.commands.verify.options import VerifyOptions
from pspnet_convert.image_shape import MAX_BATCH, MAX_CHANNELS
from pspnet_convert.options import Options

Count = Annotated[int, Field(ge=0)]
Share = Annotated[float, Field(ge=0, le=1)]
Verdict = Literal["pass", "mismatch", "inconclusive"]
FrontEnd = Literal["mo", "ovc"]
Precisions = Annotated[list[Literal["FP32", "FP16"]], Field(min_length=1)]
MoArguments = dict[str, bool | str]
Protocol = Literal["crop", "pad", "mmseg"]
# Relative to the manifest, with slashes; it never leaves the manifest's folder.
FileName = Annotated[str, Field(pattern=r"^(?!/)(?!([\s\S]*/)?\.\.(/|$))[\s\S]+$")]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Batch = Literal[-1] | Annotated[int, Field(ge=1, le=MAX_BATCH)]  # -1: any number of images
Shape = tuple[Batch, Annotated[int, Field(ge=1, le=MAX_CHANNELS)], Count, Count]
Versions = dict[str, str]


class ManifestModel(BaseModel):
    """A part of the manifest."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, regex_engine="python-re", serialize_by_alias=True, populate_by_name=True
    )


class File(ManifestModel):
    """A file of the manifest's folder, or the bare name of one from elsewhere; `size` in bytes."""

    file: FileName
    sha256: Sha256
    size: Count


class CheckpointRecord(File):
    """`is_the_cards`: whether it is the checkpoint that the card names.

    `weights` and `prefix`: the card's choice among what the file holds; missing where it has none.
    """

    is_the_cards: bool
    weights: str | None = None
    prefix: str | None = None

    @model_serializer(mode="wrap")
    def _without_what_is_missing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class ConvertedCard(ManifestModel):
    """The part of the card that changes the artifacts."""

    name: str
    config: str | None = None
    network: dict[str, Any] | None = None
    needs_config: Sha256 | None = None
    config_overrides: dict[str, bool | int | float | list[int | float]]
    input: Input
    output: Output
    classes: list[ClassLabel]

    @model_serializer(mode="wrap")
    def _without_what_is_missing(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value is not None}


class Nothing(ManifestModel):
    """An empty object."""


class Recorded:
    """Marks options that the manifest holds: their recorded fields, read back into an object of their class.

    `types`: by manifest key, the types that differ from the option's own.
    """

    def __init__(self, options: type[Options], **types: Any) -> None:
        self.options = options
        self.types = types

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        hints = get_type_hints(self.options)
        values = {
            key: core_schema.typed_dict_field(handler.generate_schema(self.types.get(key, hints[name])))
            for name, key in self.options.recorded_keys().items()
        }
        read = core_schema.chain_schema(
            [
                core_schema.typed_dict_schema(values, extra_behavior="forbid"),
                core_schema.no_info_plain_validator_function(self.options.from_record),
            ]
        )
        return core_schema.json_or_python_schema(
            json_schema=read,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(self.options), read]),
            serialization=core_schema.plain_serializer_function_ser_schema(self.options.as_record),
        )


class StageRecord(ManifestModel):
    """One stage: what it was given, what it made, and its result. `finished` is in UTC, `seconds` how long it took."""

    inputs: Any
    options: Any
    tools: Versions
    outputs: list[File]
    result: Any
    finished: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00$")
    seconds: float = Field(ge=0)

    def same_work(self, inputs: Mapping[str, Any], options: Mapping[str, Any], tools: Versions) -> bool:
        """Whether this stage was given the same: `inputs` and `options` as plain values."""
        mine = self.model_dump(mode="json", include={"inputs", "options", "tools"})
        return mine == {"inputs": inputs, "options": options, "tools": tools}


class WantedFile(ManifestModel):
    sha256: Sha256
    size: Count


class DownloadInputs(ManifestModel):
    card: WantedFile


class DownloadResult(ManifestModel):
    """`source`: the URL, or the name of a file or folder of the machine."""

    source: str | None


class Download(StageRecord):
    inputs: DownloadInputs
    options: Nothing
    result: DownloadResult


class ExportInputs(ManifestModel):
    checkpoint: CheckpointRecord
    card: ConvertedCard


class ExportOnnx(StageRecord):
    inputs: ExportInputs
    options: Annotated[ExportOptions, Recorded(ExportOptions, input_shape=Shape, opset=Count)]
    result: Mapping[str, Any]  # what the checkpoint says of itself


class ToIrInputs(ManifestModel):
    onnx: File
    card: ConvertedCard


class ToIr(StageRecord):
    inputs: ToIrInputs
    options: Annotated[
        ToIrOptions, Recorded(ToIrOptions, precisions=Precisions, front_end=FrontEnd, mo_args=MoArguments)
    ]
    result: Nothing


class ProcessorRecord(ManifestModel):
    """The processor that a result comes from; `instructions`: the instruction sets that it has, fewest first."""

    name: str
    instructions: list[str]


class DeviceRecord(ManifestModel):
    """The device of OpenVINO's that was asked for, and the full names, by name, of those that may run."""

    name: str
    devices: dict[str, str]


class VerifyInputs(ManifestModel):
    """`images`: all pictures that the models were compared on, the tool's own and the card's among them.

    `testing`: how mmsegmentation tests the model, for the check `preprocessing`; null if the card does not say it.
    `device`: null for the CPU.
    """

    checkpoint: CheckpointRecord
    card: ConvertedCard
    testing: dict[str, Any] | None = None  # earlier manifests have none
    models: list[File]
    images: list[File]
    processor: ProcessorRecord
    device: DeviceRecord | None = None  # earlier manifests have none


class RelativeError(ManifestModel):
    """A logit error divided by the size of the reference's logits: root mean square and largest; null if not finite."""

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


class CauseOfMismatch(ManifestModel):
    """`what` is wrong, in the model's input, its output or its numbers; `evidence`: the figures that show it."""

    place: Literal["input", "output", "numbers", "graph"]
    what: str
    evidence: str


class WrongLayer(ManifestModel):
    """The first layer that is wrong: its module's path in the network, its operation, and the tensor that it gives.

    `error_before`: of its inputs; `error_after`: of its result. `repeats`: whether it gives the same difference alone.
    `folder`: where it is saved as a small model; null if it is not.
    """

    layer: str
    op: str
    tensor: str
    error_before: RelativeError
    error_after: RelativeError
    repeats: bool
    words: str
    folder: str | None


class Explanation(ManifestModel):
    """Why a model is wrong, in `words`; `cause` and `layer` are null if they were not found or not looked for."""

    words: str
    cause: CauseOfMismatch | None
    layer: WrongLayer | None


class Comparison(ManifestModel):
    """One converted model against the reference. A `report_only` one does not affect the verdict.

    `relative_error` must be within `allowed`. It is against the reference; an FP16 IR's is against the reference with
    its constants in FP16, where it is known how they are rounded. Then `from_reference` is against the plain reference.
    `processor`: the instruction set that the processor was capped to, null for none; `executed`: the one that the
    model's convolutions ran with. `device`: of an IR, as it was asked for; `ran_on`: the devices that did;
    `computed_in`: f32, bf16 or f16, as read back from the compiled model.
    """

    backend: str
    precision: Literal["f32", "FP16", "bf16", "f16", "INT8"]
    report_only: bool = Field(alias="informative")
    processor: str | None
    executed: str | None
    device: str | None = None  # earlier manifests have none of these three
    ran_on: str | None = None
    computed_in: str | None = None
    passed: bool
    pixels: Count
    agreement: Share
    differing: Count
    explained: Count
    largest_error: float | None
    relative_error: RelativeError
    allowed: RelativeError
    from_reference: RelativeError | None
    checks: list[Check]
    explanation: Explanation | None
    unexplained: list[UnexplainedPixel]


class GoldenTolerance(ManifestModel):
    """A label may differ from the reference's where the reference's margin is at most `margin`, and `why` so much.

    `spread`: the standard deviation that is allowed of the difference of two logits' errors. It limits how many labels
    may differ at a precision that is coarse; null at the others. Both are shares of the image's largest logit.
    """

    margin: float = Field(ge=0)
    spread: float | None = Field(ge=0)
    why: str


class VerifyResult(ManifestModel):
    """`sensitivity`: how far small faults made on purpose move the reference's logits.

    `tolerances`: what a bundle's self-test allows, by precision.
    `preprocessing`: whether mmsegmentation prepares images as the card says; null if the card does not say how.
    """

    verdict: Verdict
    doubts: list[str]
    preprocessing: Check | None = None  # earlier manifests have none
    inputs: list[str]
    classes_seen: list[Count]
    sensitivity: dict[str, RelativeError]
    comparisons: list[Comparison]
    tolerances: dict[Literal["f32", "FP16", "f16", "bf16"], GoldenTolerance] = {}  # earlier manifests have none


class Verify(StageRecord):
    inputs: VerifyInputs
    options: Annotated[VerifyOptions, Recorded(VerifyOptions)]
    result: VerifyResult


class Int8Inputs(ManifestModel):
    """`images`: of the calibration, or of the comparison."""

    models: list[File]
    images: list[File]
    card: ConvertedCard


class RecipeRecord(ManifestModel):
    """How NNCF quantized an INT8 IR: see quantize/recipe.py. `ignored`: the layers that stay in floating point."""

    preset: Preset
    overflow_fix: OverflowFix
    accurate_bias: bool
    smooth: float | None
    ignored: list[str]


class QuantizeInputs(Int8Inputs):
    recipe: RecipeRecord


class Quantize(StageRecord):
    inputs: QuantizeInputs
    options: Annotated[QuantizeOptions, Recorded(QuantizeOptions, subset_size=Count)]
    result: Nothing


class Latency(ManifestModel):
    """Of one image. `ratio`: how many times as fast as the FP32 IR at f32."""

    weights: Literal["FP32", "INT8"]
    at: Literal["f32", "default"]
    precision: str
    median_ms: float
    ratio: float


class OnProcessor(ManifestModel):
    """The INT8 IR as on a processor that has the instruction set `processor` and none beyond.

    `executed`: the instructions that its convolutions ran with. `agreement`: pixels with the FP32 IR's label. `fault`:
    how its answers differ from those on this processor; null if they do not.
    """

    processor: str
    executed: str
    agreement: Share
    fault: str | None


class VerifyInt8Result(ManifestModel):
    """The INT8 IR against the FP32 one; `bytes` of the weights, by precision.

    `device`: as it was asked for; `ran_on`: the devices that ran the INT8 IR; `computed_in`: in what the rest of it,
    which is not quantized, was computed, as read back.
    `golden_agreement`: pixels with the reference's label on the golden cases, null where there are none.
    """

    verdict: Verdict
    faults: list[str]
    inputs: list[str]
    classes_seen: list[Count]
    pixels: Count
    differing: Count
    agreement: Share
    min_agreement: Share
    golden_agreement: Share | None = None  # earlier manifests have none
    relative_error: RelativeError
    processors: list[OnProcessor]
    device: str = "CPU"  # earlier manifests have none of these three
    ran_on: str = "CPU"
    computed_in: str = "f32"
    bytes: dict[Literal["FP32", "INT8"], Count]
    latency: list[Latency]


class VerifyInt8Inputs(Int8Inputs):
    """`golden`: the files of the golden cases of a bundle's self-test. `device`: null for the CPU."""

    golden: list[File] = []  # earlier manifests have none
    processor: ProcessorRecord
    device: DeviceRecord | None = None  # earlier manifests have none


class VerifyInt8(StageRecord):
    inputs: VerifyInt8Inputs
    options: Annotated[VerifyInt8Options, Recorded(VerifyInt8Options, min_agreement=Share)]
    result: VerifyInt8Result


class EvaluatedData(ManifestModel):
    """`listed` are in the split; `images`: the SHA-256 of the names and digests of all that were asked for.

    `labels`: what the annotations' numbers mean. `understood`: files and labels in words.
    """

    name: str
    layout: str
    split: str | None
    listed: Count
    images: Sha256
    labels: dict[str, Any]
    understood: list[str]


class EvaluateInputs(ManifestModel):
    """`models`: the files of each, by name; `stated`: the card's figure for the protocol.

    `testing`: how mmsegmentation tests the model, for the protocol mmseg. `device`: of IRs; null for the CPU.
    """

    card: ConvertedCard
    shape: Shape
    models: dict[str, list[File | CheckpointRecord]]
    dataset: EvaluatedData
    testing: dict[str, Any] | None
    stated: float | None
    processor: ProcessorRecord
    device: DeviceRecord | None = None  # earlier manifests have none


class ClassPixels(ManifestModel):
    """Pixels that count, of one class: `union` is predicted or annotated, `intersection` both."""

    name: str
    intersection: Count
    union: Count
    predicted: Count
    annotated: Count


class Score(ManifestModel):
    """Per cent. `ious`: by class, null for one that does not occur; `drop`: points below the `reference`.

    With the protocols crop and pad, pixels of no class count as class 0 (background), as in Open Model Zoo's figures;
    `mean_iou_without_void` leaves them out. `metrics` and `by_class`: with mmseg, by the names of its IoUMetric.
    `answers`: what was merged to the annotation's size. `device`: of an IR, as it was asked for; `ran_on`: the devices
    that did; `computed_in`: f32, bf16 or f16, as read back.
    """

    backend: str
    answers: Literal["logits", "label map"]
    device: str | None = None  # earlier manifests have none of these three
    ran_on: str | None = None
    computed_in: str | None = None
    mean_iou: float
    mean_iou_without_void: float | None
    pixel_accuracy: float
    ious: dict[str, float | None]
    drop: float | None
    metrics: dict[str, float | None]
    by_class: dict[str, dict[str, float | None]]
    pixels: list[ClassPixels]


class EvaluateResult(ManifestModel):
    """`images` were counted, of `listed`; `stated`: the card's figure for the protocol.

    `unknown`: by image, pixels whose value is neither a class nor ignored; `ignored`: the share of all pixels.
    `left_out`: models that do not take the protocol's images, with the reason. `warnings`: what the result looks like.
    """

    protocol: Protocol
    listed: Count
    images: Count
    skipped: dict[str, str]
    unknown: dict[str, Count]
    ignored: Share
    stated: float | None
    reference: str | None
    left_out: dict[str, str]
    warnings: list[str]
    scores: list[Score]


class Evaluate(StageRecord):
    inputs: EvaluateInputs
    options: Annotated[EvaluateOptions, Recorded(EvaluateOptions, protocol=Protocol)]
    result: EvaluateResult


class SearchInputs(ManifestModel):
    """`images`: of the calibration. `measured`: an evaluation of the FP32 IR on the data set that counts the drop."""

    models: list[File]
    images: list[File]
    card: ConvertedCard
    measured: EvaluateInputs


class Tried(ManifestModel):
    """One way of quantizing. `mean_iou`: per cent; `drop`: points below the FP32 IR.

    `speed`: how many times as fast as the first way, at the default precision; `bytes`: of the weights.
    """

    name: str
    recipe: RecipeRecord
    mean_iou: float
    drop: float
    speed: float
    bytes: Count
    files: list[File]


class LayerError(ManifestModel):
    """How far the logits move if only this layer is quantized: root mean square, relative to the logits' own."""

    name: str
    error: float


class SearchResult(ManifestModel):
    """`max_drop`: in points. `tried`: in their order; `layers`: largest error first, null if they were not measured.

    `chosen`: the name of the try whose IR the workspace has; null if the search was interrupted.
    `not_tried`: what the time limit left out.
    """

    max_drop: float
    tried: list[Tried]
    layers: list[LayerError] | None
    chosen: str | None
    not_tried: list[str]


class Search(StageRecord):
    inputs: SearchInputs
    options: Annotated[QuantizeOptions, Recorded(QuantizeOptions, subset_size=Count)]
    result: SearchResult


class BenchmarkInputs(ManifestModel):
    """`device`: of IRs; null for the CPU."""

    checkpoint: CheckpointRecord
    card: ConvertedCard
    processor: ProcessorRecord
    device: DeviceRecord | None = None


class Timed(ManifestModel):
    """One model's times. `model`: as in the table, such as IR folded FP32. `precision`: what it computes in, as
    in the table: default (bf16), say.

    `processor`: the instruction set that the processor was capped to. `ratio`: see `benchmark`'s table.
    """

    model: str
    precision: str
    processor: str | None
    median_ms: float
    images_per_second: float
    ratio: float | None
    peak_memory_mb: float


class TimedThroughput(ManifestModel):
    """Images a second, with `requests` at once and with one."""

    model: str
    precision: str
    requests: Count
    images_per_second: float
    one_images_per_second: float


class TimedStart(ManifestModel):
    """From nothing to the first answer."""

    model: str
    cached: bool
    import_ms: float
    read_ms: float
    compile_ms: float
    first_ms: float


class TimedLayer(ManifestModel):
    """`part`: of the time of the whole run, 0..1."""

    name: str
    kernel: str
    ms: float
    part: float


class TimedLayers(ManifestModel):
    """The layers that take longest, and the time of the whole run with the profile."""

    model: str
    precision: str
    all_ms: float
    longest: list[TimedLayer]


class BenchmarkResult(ManifestModel):
    """`shape`: of the input. `remarks`: what the reader must know of the figures."""

    shape: Shape
    rounds: Count
    remarks: list[str]
    timings: list[Timed]
    throughput: list[TimedThroughput]
    startup: list[TimedStart]
    layers: list[TimedLayers]


class Benchmark(StageRecord):
    inputs: BenchmarkInputs
    options: Nothing
    result: BenchmarkResult
