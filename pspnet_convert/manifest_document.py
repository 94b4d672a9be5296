"""The form of `manifest.json`, for programs that read it: checked when it is read, and as a JSON Schema.

`python -m pspnet_convert.manifest_document` prints schemas/manifest.schema.json. What stages write into it, and
when, is manifest.py's business.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal, cast

from pydantic import ConfigDict, ValidationError, with_config
from typing_extensions import TypedDict

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError
from pspnet_convert.manifest_stages import (
    Download,
    Evaluate,
    ExportOnnx,
    File,
    ManifestModel,
    Quantize,
    Stage,
    ToIr,
    Verify,
    VerifyInt8,
)

# Only those that have been done, and whose files have not been replaced since.
Stages = TypedDict(
    "Stages",
    {
        "download": Download,
        "export-onnx": ExportOnnx,
        "to-ir": ToIr,
        "verify": Verify,
        "quantize": Quantize,
        "verify-int8": VerifyInt8,
        "evaluate": Evaluate,
        "evaluate-int8": Evaluate,
    },
    total=False,
)
with_config(ConfigDict(extra="forbid"))(Stages)

_MAKING = ("export-onnx", "to-ir", "quantize")


class Tool(ManifestModel):
    name: Literal["pspnet-convert"]
    version: str


class ManifestDocument(ManifestModel):
    """What pspnet-convert made, from what, with what, and its digests."""

    manifest_version: Literal[3]
    tool: Tool
    model: ModelCard
    stages: Stages

    @property
    def making(self) -> dict[str, Stage]:
        """The stages that make the IRs, in order."""
        stages = cast(dict[str, Stage], self.stages)
        return {name: stage for name, stage in stages.items() if name in _MAKING}

    @property
    def irs(self) -> list[File]:
        """Both halves of each IR."""
        return [file for name, stage in self.making.items() if name != "export-onnx" for file in stage.outputs]

    @property
    def tools(self) -> list[tuple[str, str]]:
        """The packages that made the IRs and their versions, in order; several of one where stages had several."""
        return sorted({tool for stage in self.making.values() for tool in stage.tools.items()})


def read_manifest(path: Path) -> ManifestDocument:
    """Read and check the manifest at `path`; ArtifactError where there is none, or it is not of this form."""
    try:
        return check_manifest(path.read_bytes(), path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}", "Run run first.") from error


def check_manifest(content: bytes, path: Path) -> ManifestDocument:
    """The manifest that `path` was found to hold; ArtifactError where it is not of this form."""
    try:
        return ManifestDocument.model_validate_json(content)
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
