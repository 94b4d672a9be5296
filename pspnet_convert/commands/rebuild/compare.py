"""The files that a manifest records, and those made again: whether they are the same."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pspnet_convert.errors import DifferenceError
from pspnet_convert.manifest_document import ManifestDocument
from pspnet_convert.stage import Outcome

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RebuiltFile:
    """A file's SHA-256 (hex) in the manifest, and when made again; None if it was not made."""

    file: str
    recorded: str
    rebuilt: str | None

    @property
    def same(self) -> bool:
        """Whether both have the same bytes."""
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
    """`tools`: those with other versions. `left_out`: stages that are not repeated (quantize needs its images)."""

    manifest: Path
    files: Sequence[RebuiltFile]
    tools: Sequence[OtherTool]
    left_out: Sequence[str]

    @property
    def same(self) -> bool:
        """Whether all files are."""
        return all(file.same for file in self.files)

    @property
    def failure(self) -> DifferenceError | None:
        """The error if a file differs; else None."""
        different = [file.file for file in self.files if not file.same]
        if not different:
            return None
        because = "Tools differ, see above." if self.tools else "The tools are the same."
        return DifferenceError(f"{self.manifest}: made again, these files differ: {', '.join(different)}", because)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        files = [{**asdict(file), "same": file.same} for file in self.files]
        tools = [asdict(tool) for tool in self.tools]
        return {"same": self.same, "files": files, "other_tools": tools, "left_out": list(self.left_out)}


def compare(path: Path, manifest: ManifestDocument, outcomes: Sequence[Outcome]) -> Rebuild:
    """Compare the stages done again with those of the `manifest` at `path`; warns of tools that differ."""
    done = {outcome.stage: outcome for outcome in outcomes}
    files = []
    for name, outcome in done.items():
        rebuilt = {file.file: file.sha256 for file in outcome.outputs}
        recorded = manifest.stages[name].outputs
        files += [RebuiltFile(file.file, file.sha256, rebuilt.get(file.file)) for file in recorded]
    tools = _other_tools(manifest, outcomes)
    for tool in tools:
        log.warning("%s", tool)
    return Rebuild(path, files, tools, [name for name in manifest.making if name not in done])


def _other_tools(manifest: ManifestDocument, outcomes: Sequence[Outcome]) -> list[OtherTool]:
    recorded: Mapping[str, str] = {
        tool: version for outcome in outcomes for tool, version in manifest.stages[outcome.stage].tools.items()
    }
    here: Mapping[str, str] = {tool: version for outcome in outcomes for tool, version in outcome.record.tools.items()}
    return [
        OtherTool(tool, recorded.get(tool), here.get(tool))
        for tool in sorted({**recorded, **here})
        if recorded.get(tool) != here.get(tool)
    ]
