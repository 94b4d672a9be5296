"""The form of `manifest.json`: the model that reads and checks it, and its JSON Schema.

`python -m pspnet_convert.manifest_document` prints schemas/manifest.schema.json.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, Literal

from pydantic import GetCoreSchemaHandler, ValidationError
from pydantic_core import CoreSchema, core_schema

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError
from pspnet_convert.manifest_fields import (
    Benchmark,
    Download,
    Evaluate,
    ExportOnnx,
    File,
    ManifestModel,
    Quantize,
    Search,
    StageRecord,
    ToIr,
    Verify,
    VerifyInt8,
)
from pspnet_convert.pipeline import ORDER

MANIFEST_VERSION: Literal[5] = 5
RECORDS: dict[str, type[StageRecord]] = {
    "download": Download,
    "export-onnx": ExportOnnx,
    "to-ir": ToIr,
    "verify": Verify,
    "search-int8": Search,
    "quantize": Quantize,
    "verify-int8": VerifyInt8,
    "evaluate": Evaluate,
    "evaluate-int8": Evaluate,
    "benchmark": Benchmark,
}
_MAKING = ("export-onnx", "to-ir", "quantize")


class Stages(dict[str, Any]):
    """The records of the stages that have run, by name; not of those whose files have been replaced since."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        fields = {
            name: core_schema.typed_dict_field(handler.generate_schema(RECORDS[name]), required=False) for name in ORDER
        }
        return core_schema.no_info_after_validator_function(
            cls, core_schema.typed_dict_schema(fields, extra_behavior="forbid")
        )


class Tool(ManifestModel):
    """This tool."""

    name: Literal["pspnet-convert"] = "pspnet-convert"
    version: str


class ManifestDocument(ManifestModel):
    """What pspnet-convert made, from what, with what, and its digests."""

    manifest_version: Literal[5]
    tool: Tool
    model: ModelCard
    stages: Stages

    @property
    def making(self) -> dict[str, StageRecord]:
        """The stages that make the IRs, in order."""
        return {name: self.stages[name] for name in ORDER if name in _MAKING and name in self.stages}

    @property
    def irs(self) -> list[File]:
        """Both halves of each IR."""
        return [file for name, stage in self.making.items() if name != "export-onnx" for file in stage.outputs]

    @property
    def tools(self) -> list[tuple[str, str]]:
        """The packages that made the IRs and their versions, in order; several of one where stages had several."""
        return sorted({tool for stage in self.making.values() for tool in stage.tools.items()})

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "manifest_version": self.manifest_version,
            "tool": self.tool.model_dump(),
            "model": self.model.model_dump(mode="json", exclude_none=True),
            "stages": {name: self.stages[name].model_dump(mode="json") for name in ORDER if name in self.stages},
        }


def read_manifest(path: Path) -> ManifestDocument:
    """Read and check the manifest at `path`; ArtifactError where there is none, or it is not of this form."""
    try:
        return check_manifest(path.read_bytes(), path)
    except OSError as error:
        raise ArtifactError(f"{path}: cannot be read: {error.strerror}", "Run `pspnet-convert run` first.") from error


def check_manifest(content: bytes, path: Path) -> ManifestDocument:
    """The manifest that was read from `path`; ArtifactError where it is not of this form."""
    try:
        return ManifestDocument.model_validate_json(content)
    except ValidationError as error:
        fault = error.errors()[0]
        place = ".".join(str(part) for part in fault["loc"])
        raise ArtifactError(
            f"{path}: is no manifest of this release: {place + ': ' if place else ''}{fault['msg']}",
            "Run `pspnet-convert run` again.",
        ) from error


def json_schema() -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a manifest."""
    schema = ManifestDocument.model_json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **schema, "title": "pspnet-convert manifest"}


if __name__ == "__main__":
    json.dump(json_schema(), sys.stdout, indent=2)
    print()
