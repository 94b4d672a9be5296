"""What a manifest asks to be done again, and the checkpoint for it."""

from __future__ import annotations

from pathlib import Path

from pspnet_convert.errors import ArtifactError, CardError, CheckpointError, DigestError
from pspnet_convert.files import sha256_of
from pspnet_convert.manifest_document import ManifestDocument, read_manifest
from pspnet_convert.manifest_fields import CheckpointRecord

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


def read_plan(path: Path) -> ManifestDocument:
    """The manifest at `path`, whose export-onnx and to-ir can be done again.

    ArtifactError for a manifest that cannot be read, has no export-onnx, or makes Model Optimizer read files; CardError
    for a model that needs its config.
    """
    manifest = read_manifest(path)
    if "export-onnx" not in manifest.stages:
        raise ArtifactError(f"{path}: has no export-onnx, nothing to rebuild", "Run `pspnet-convert run` first.")
    if manifest.model.needs_config is not None:
        raise CardError(
            f"{path}: {manifest.model.name} needs its config, and rebuild runs none",
            "Run `pspnet-convert run --config` into another folder, and compare the manifests.",
        )
    converted = manifest.stages.get("to-ir")
    arguments = dict(converted.options.mo_arg) if converted else {}
    # The manifest is not trusted, and has no digests of such files. Model Optimizer joins the arguments to a command
    # line: a value that begins with a dash is another argument.
    named = sorted(name for name, value in arguments.items() if name in FILE_ARGUMENTS or str(value).startswith("-"))
    if named:
        raise ArtifactError(
            f"{path}: makes Model Optimizer read files ({', '.join(named)}), which rebuild refuses",
            "If you trust it, run `pspnet-convert to-ir` with --mo-arg.",
        )
    return manifest


def find_checkpoint(path: Path, recorded: CheckpointRecord, given: Path | None) -> Path:
    """The checkpoint of the manifest at `path`: `given`, or the one next to the manifest.

    CheckpointError where there is none, DigestError where it is another file.
    """
    found = given or path.parent / recorded.file
    if not found.is_file():
        raise CheckpointError(f"{found}: there is no such checkpoint", "Give it with --checkpoint.")
    digest = sha256_of(found)
    if digest != recorded.sha256:
        raise DigestError(
            f"{found}: sha256 is {digest}, but {path} was made from {recorded.sha256}",
            "Give that checkpoint with --checkpoint.",
        )
    return found
