"""Keep the counts of an evaluation for `--resume`: a file for each chunk and model.

A file's name is the digest of everything that its counts depend on.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pspnet_convert.commands.evaluate.chunks import Tally
from pspnet_convert.commands.evaluate.counter import counted_names
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.labelling import Runs
from pspnet_convert.files import digest_of, write_json, writing
from pspnet_convert.runtimes.model_file import ModelFile

log = logging.getLogger(__name__)


class Partials:
    """The files in `folder`. `common`: what all counts depend on; `models` and `images`: digests by name.

    All three are plain values. Without `resume`, counts are saved and none is found.
    """

    def __init__(
        self,
        folder: Path,
        common: Mapping[str, Any],
        models: Mapping[str, Any],
        images: Mapping[str, Any],
        *,
        resume: bool,
    ) -> None:
        self._folder = folder
        self._common, self._models, self._images = common, models, images
        self._resume = resume
        self._used: dict[Path, str] = {}  # with the model's name

    def find(self, entries: Sequence[Entry], subject: ModelFile) -> Tally | None:
        """The model's counts on this chunk; None if there are none to resume from."""
        path = self._path(entries, subject)
        if not self._resume or not path.is_file():
            return None
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            counts = {name: np.array(data["confusions"][name], np.int64) for name in counted_names(subject.name)}
            runs = {subject.name: {Runs(*one) for one in data["runs"]}} if data["runs"] else {}
            return Tally(counts, data["skipped"], data["unknown"], set(data["masks"]), runs)
        except (OSError, ValueError, KeyError, TypeError) as error:
            log.warning("%s cannot be read (%s); its images are counted again", path, error)
            return None

    def keep(self, entries: Sequence[Entry], subject: ModelFile, tally: Tally) -> None:
        """Save the counts of `subject` on this chunk; WorkspaceError if they cannot be written."""
        data = {
            "model": [subject.name, self._models[subject.name]],
            "confusions": {name: tally.confusions[name].tolist() for name in counted_names(subject.name)},
            "skipped": tally.skipped,
            "unknown": tally.unknown,
            "masks": sorted(tally.masks),
            "runs": [[one.device, one.on, one.computed_in] for one in sorted(tally.runs.get(subject.name, ()))],
        }
        write_json(self._path(entries, subject), data)

    def remove(self, keep: Collection[str] = ()) -> None:
        """Call when the evaluation is complete: removes its files, and those of models that have since been replaced.

        Other files stay, as do those of the models `keep`: an evaluation with other options may resume from them.
        """
        done = {path for path, name in self._used.items() if name not in keep}
        for path in [*done, *self._folder.glob("*.json")]:
            if path in done or self._is_outdated(path):
                with writing(path):
                    path.unlink(missing_ok=True)

    def _is_outdated(self, path: Path) -> bool:
        """Whether the file is of an earlier version of one of this evaluation's models, or cannot be read."""
        try:
            name, files = json.loads(path.read_text(encoding="utf-8"))["model"]
        except (OSError, ValueError, KeyError, TypeError):
            return True
        return name in self._models and files != self._models[name]

    def _path(self, entries: Sequence[Entry], subject: ModelFile) -> Path:
        depends_on = {
            **self._common,
            "model": self._models[subject.name],
            "images": [[entry.name, self._images[entry.name]] for entry in entries],
        }
        path = self._folder / f"{digest_of(depends_on)}.json"
        self._used[path] = subject.name
        return path
