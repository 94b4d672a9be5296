"""What was made, from what, with what: `manifest.json`, one record a stage.

It is a run's result, and the next run's memory: a stage whose record still holds is not run again.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pspnet_convert import __version__
from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import ArtifactError
from pspnet_convert.files import Digests, write_json
from pspnet_convert.manifest_document import MANIFEST_VERSION, ManifestDocument, Stages, Tool, check_manifest
from pspnet_convert.manifest_fields import StageRecord

log = logging.getLogger(__name__)


class Manifest:
    """`manifest.json` at `path`, of the model of `card`; written anew after each stage."""

    def __init__(self, path: Path, card: ModelCard) -> None:
        self._path = path
        self.card = card
        self.stages = _read_stages(path)

    @property
    def document(self) -> ManifestDocument:
        """The manifest as it is written."""
        tool = Tool(version=__version__)
        return ManifestDocument.model_construct(
            manifest_version=MANIFEST_VERSION, tool=tool, model=self.card, stages=self.stages
        )

    def stage(self, name: str) -> Any:
        """The record of the stage, of its own class; None where there is none."""
        return self.stages.get(name)

    def find_reusable(self, name: str, inputs: Any, options: Any, tools: Mapping[str, str], digests: Digests) -> Any:
        """The stage's record if it was given the same, and its outputs are still as it left them; else None."""
        record = self.stages.get(name)
        if record is None or not record.same_work(inputs, options, tools):
            if record is not None and record.same_work(inputs, options, record.tools):
                others = [f"{tool} {version}" for tool, version in record.tools.items() if tools.get(tool) != version]
                log.info("%s: was done with %s, and runs again", name, ", ".join(others) or "fewer tools")
            return None
        for output in record.outputs:
            path = self._path.parent / output.file
            if not path.is_file() or digests.record(path, output.file) != output.model_dump():
                log.info("%s: %s is missing or has changed: made again", name, output.file)
                return None
        return record

    def write(self, name: str, record: StageRecord) -> None:
        """Put a stage's record into the file."""
        self.stages[name] = record
        write_json(self._path, self.document.as_dict())

    def drop_stages_using(self, files: Sequence[Mapping[str, Any]]) -> None:
        """Call before moving files in: drops the stages that wrote or read a different file of the same name."""
        digests = {record["file"]: record["sha256"] for record in files}
        kept = {
            name: stage
            for name, stage in self.stages.items()
            if all(digests.get(file, sha256) == sha256 for file, sha256 in _mentioned(stage.model_dump(mode="json")))
        }
        if kept != self.stages:
            self.stages = Stages(kept)
            write_json(self._path, self.document.as_dict())


def _mentioned(data: Any) -> Iterator[tuple[str, str]]:
    """File and SHA-256 of each file's record in plain values."""
    if isinstance(data, Mapping):
        file, sha256 = data.get("file"), data.get("sha256")
        if isinstance(file, str) and isinstance(sha256, str):
            yield file, sha256
        data = list(data.values())
    if isinstance(data, list):
        for value in data:
            yield from _mentioned(value)


def _read_stages(path: Path) -> Stages:
    """The stages of an earlier run. None, with a warning, if its manifest cannot be read or is of another version."""
    if not path.is_file():
        return Stages()
    try:
        content = path.read_bytes()
        found = json.loads(content)["manifest_version"]
        if found != MANIFEST_VERSION:
            log.warning("%s: is of version %s, not %d: all stages run again", path, found, MANIFEST_VERSION)
            return Stages()
        return check_manifest(content, path).stages
    except (OSError, ValueError, KeyError, TypeError) as error:
        log.warning("%s: cannot be read (%s): all stages run again", path, error)
    except ArtifactError as error:
        log.warning("%s: all stages run again", error.what)
    return Stages()
