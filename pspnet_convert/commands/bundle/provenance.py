"""Turn a manifest into provenance for supply-chain tools: an in-toto Statement v1 with SLSA build provenance v1.

Its fields are those of in-toto's attestation specification (Statement, ResourceDescriptor) and of
SLSA's build provenance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from packageurl import PackageURL

from pspnet_convert.bundle_names import STATEMENT
from pspnet_convert.manifest_document import ManifestDocument
from pspnet_convert.manifest_fields import File

PREDICATE = "https://slsa.dev/provenance/v1"


def provenance(manifest: ManifestDocument, subjects: Sequence[File], card: File, builder_id: str) -> dict[str, Any]:
    """The statement about a bundle of `manifest`, in plain values. It has no times: the same bundle gives the same.

    `subjects`: all other files of the bundle. `card`: the one among them that was converted. `builder_id`: the URI of
    who ran the conversion.
    """
    return {
        "_type": STATEMENT,
        "subject": [_described(file) for file in subjects],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                # The build type defines the parameters: they are this tool's options, as in the manifest.
                "buildType": tool_purl("pspnet-convert", manifest.tool.version),
                "externalParameters": {
                    "model": manifest.model.name,
                    **{name: stage.model_dump(mode="json")["options"] for name, stage in manifest.making.items()},
                },
                "resolvedDependencies": [
                    _checkpoint(manifest),
                    _described(card),
                    *(_described(image) for image in _calibration(manifest)),
                    *({"name": tool, "uri": tool_purl(tool, has)} for tool, has in manifest.tools),
                ],
            },
            "runDetails": {"builder": {"id": builder_id}},
        },
    }


def tool_purl(package: str, version: str) -> str:
    """The package URL of a Python package."""
    return PackageURL("pypi", name=package, version=version).to_string()


def _checkpoint(manifest: ManifestDocument) -> dict[str, Any]:
    checkpoint = manifest.stages["export-onnx"].inputs.checkpoint
    location = _location(manifest, checkpoint.sha256)
    return {**_described(checkpoint), **({"downloadLocation": location} if location else {})}


def _location(manifest: ManifestDocument, sha256: str) -> str | None:
    """The URL that the checkpoint was downloaded from; None if there is none, or if only a part of it is known."""
    download = manifest.stages.get("download")
    if download is None or sha256 not in [file.sha256 for file in download.outputs]:
        return None
    source = download.result.source
    # The manifest leaves the query out (fetch.without_secrets).
    if source is None or not source.startswith(("http://", "https://")) or source.endswith("?..."):
        return None
    return source


def _calibration(manifest: ManifestDocument) -> Sequence[File]:
    quantized = manifest.stages.get("quantize")
    return quantized.inputs.images if quantized else ()


def _described(file: File) -> dict[str, Any]:
    return {"name": file.file, "digest": {"sha256": file.sha256}}
