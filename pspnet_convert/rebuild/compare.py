"""Repeat the conversion that a manifest records, and compare the new files with the recorded digests."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pspnet_convert.errors import ArtifactError, CheckpointError, DifferenceError, DigestError
from pspnet_convert.files import sha256_of, temporary_folder
from pspnet_convert.job import CheckpointChoice, Job, Outcome, open_job
from pspnet_convert.manifest_document import ManifestDocument, read_manifest
from pspnet_convert.manifest_stages import CheckpointRecord, ExportOnnx, Stage, ToIr
from pspnet_convert.progress import Progress
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.stages.conversion import to_ir
from pspnet_convert.stages.export import export_onnx
from pspnet_convert.to_ir.front_ends import find_front_end

# Model Optimizer's arguments that name files or folders; from some of them it loads code.
FILE_ARGUMENTS = frozenset(
    {
        "caffe_parser_path",
        "counts",
        "extensions",
        "input_checkpoint",
        "input_meta_graph",
        "input_model",
        "input_proto",
        "k",
        "output_dir",
        "saved_model_dir",
        "tensorboard_logdir",
        "tensorflow_custom_layer_libraries",
        "tensorflow_custom_operations_config_update",
        "tensorflow_object_detection_api_pipeline_config",
        "transformations_config",
    }
)
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RebuiltFile:
    """A file's SHA-256 (hex) in the manifest, and when made again; None if it was not made."""

    file: str
    recorded: str
    rebuilt: str | None

    @property
    def same(self) -> bool:
        return self.recorded == self.rebuilt


@dataclass(frozen=True)
class OtherTool:
    """A tool with another version than in the manifest; None: not in the manifest, or not installed."""

    tool: str
    recorded: str | None
    installed: str | None

    def __str__(self) -> str:
        return f"{self.tool}: {self.recorded or 'none'} in the manifest, {self.installed or 'none'} here"


@dataclass(frozen=True)
class Rebuild:
    """`tools`: those with other versions. `left_out`: stages that are not repeated (quantize needs its pictures)."""

    files: Sequence[RebuiltFile]
    tools: Sequence[OtherTool]
    left_out: Sequence[str]

    @property
    def same(self) -> bool:
        return all(file.same for file in self.files)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = [{**asdict(file), "same": file.same} for file in self.files]
        tools = [asdict(tool) for tool in self.tools]
        return {"same": self.same, "files": files, "other_tools": tools, "left_out": list(self.left_out)}


def rebuild(path: Path, checkpoint: Path | None, progress: Progress) -> Rebuild:
    """Repeat export-onnx and to-ir of the manifest at `path`, in a temporary folder.

    `checkpoint`: by default, the one next to the manifest. Raises ArtifactError for a manifest that cannot be read, has
    no export-onnx, or makes Model Optimizer read files; CheckpointError or DigestError if the checkpoint is missing or
    not the recorded one; DependencyError for a front-end that is not installed.
    """
    manifest = read_manifest(path)
    if "export-onnx" not in manifest.stages:
        raise ArtifactError(f"{path}: has no export-onnx, nothing to rebuild", "Run `pspnet-convert run` first.")
    _refuse_file_arguments(path, manifest)
    recorded = manifest.stages["export-onnx"]
    choice = _find_checkpoint(path, recorded.inputs.checkpoint, checkpoint)
    temporary = temporary_folder(Path(tempfile.gettempdir()))
    with temporary as folder, open_job(manifest.model, folder, progress, choice) as job:
        done = list(_convert(job, manifest))
    return Rebuild(
        files=[file for stage, outcome in done for file in _compare_files(stage, outcome)],
        tools=_other_tools(done),
        left_out=[name for name in manifest.making if name not in [outcome.stage for _, outcome in done]],
    )


def check_same(path: Path, result: Rebuild) -> None:
    """Log tools that differ; raise DifferenceError if a file of the manifest at `path` does."""
    for tool in result.tools:
        log.warning("%s", tool)
    different = [file.file for file in result.files if not file.same]
    if different:
        because = "Tools differ, see above." if result.tools else "The tools are the same."
        raise DifferenceError(f"{path}: made again, these files differ: {', '.join(different)}", because)


def _refuse_file_arguments(path: Path, manifest: ManifestDocument) -> None:
    """ArtifactError if Model Optimizer would read files: the manifest is not trusted, and has no digests of them."""
    converted = manifest.stages.get("to-ir")
    arguments = converted.options.mo_args if converted else {}
    # Model Optimizer joins the arguments to a command line: a value that begins with a dash is another argument.
    named = sorted(name for name, value in arguments.items() if name in FILE_ARGUMENTS or str(value).startswith("-"))
    if named:
        raise ArtifactError(
            f"{path}: makes Model Optimizer read files ({', '.join(named)}), which rebuild refuses",
            "If you trust it, run `pspnet-convert to-ir` with --mo-arg.",
        )


def _find_checkpoint(path: Path, recorded: CheckpointRecord, given: Path | None) -> CheckpointChoice:
    found = given or path.parent / recorded.file
    if not found.is_file():
        raise CheckpointError(f"{found}: there is no such checkpoint", "Give it with --checkpoint.")
    digest = sha256_of(found)
    if digest != recorded.sha256:
        raise DigestError(
            f"{found}: sha256 is {digest}, but {path} was made from {recorded.sha256}",
            "Give that checkpoint with --checkpoint.",
        )
    return CheckpointChoice(found, allow_unknown=not recorded.is_the_cards)


def _convert(job: Job, manifest: ManifestDocument) -> Iterator[tuple[Stage, Outcome]]:
    converted: ToIr | None = manifest.stages.get("to-ir")
    # First, because it may not be installed.
    front_end = find_front_end(converted.options.front_end, converted.options.mo_args) if converted else None
    recorded: ExportOnnx = manifest.stages["export-onnx"]
    options = recorded.options
    shape, opset = options.input_shape, options.opset
    yield recorded, export_onnx(job, shape, shape[0], opset, int32=options.int32, fold_pyramid=options.fold_pyramid)
    if converted and front_end:
        asked = converted.options
        yield converted, to_ir(job, asked.precisions, front_end, InputForm(asked.input_type, asked.input_layout))


def _compare_files(recorded: Stage, outcome: Outcome) -> Iterator[RebuiltFile]:
    rebuilt = {file.file: file.sha256 for file in outcome.record.outputs}
    for file in recorded.outputs:
        yield RebuiltFile(file.file, file.sha256, rebuilt.get(file.file))


def _other_tools(done: Sequence[tuple[Stage, Outcome]]) -> list[OtherTool]:
    recorded: Mapping[str, str] = {tool: version for stage, _ in done for tool, version in stage.tools.items()}
    here: Mapping[str, str] = {tool: version for _, outcome in done for tool, version in outcome.record.tools.items()}
    return [
        OtherTool(tool, recorded.get(tool), here.get(tool))
        for tool in sorted({**recorded, **here})
        if recorded.get(tool) != here.get(tool)
    ]
