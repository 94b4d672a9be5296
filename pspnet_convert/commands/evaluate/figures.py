"""Measure models on an annotated data set, all in one pass: count its chunks, then compute each model's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from pspnet_convert.commands.evaluate.chunks import Chunk, ChunkSettings, Mapper, Tally, run_locally
from pspnet_convert.commands.evaluate.dataset import Entry
from pspnet_convert.commands.evaluate.inputs import stated_figure
from pspnet_convert.commands.evaluate.labelling import PYTORCH
from pspnet_convert.commands.evaluate.miou import ious, mean_iou, pixel_accuracy
from pspnet_convert.commands.evaluate.partials import Partials
from pspnet_convert.errors import DatasetError
from pspnet_convert.runtimes.model_file import ModelFile

CHUNK = 32  # images: half a minute for a full-size model, which is all that an interrupt can lose


@dataclass(frozen=True)
class Score:
    """One model's figures, in per cent. `ious`: by class; None for a class that does not occur.

    `drop`: points of mean IoU below the evaluation's reference; None without a reference.
    """

    backend: str
    mean_iou: float
    pixel_accuracy: float
    ious: Mapping[str, float | None]
    drop: float | None


@dataclass(frozen=True)
class Evaluation:
    """`images`: the number counted, of `listed` in the split. `stated`: the card's figure for this protocol, if any.

    `reference`: what drops are measured against: PyTorch if it was in the same pass, else the card's figure, if any.
    """

    protocol: str
    listed: int
    images: int
    skipped: Mapping[str, str]
    unknown: Mapping[str, int]
    stated: float | None
    reference: str | None
    scores: Sequence[Score]

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def count(
    settings: ChunkSettings,
    subjects: Sequence[ModelFile],
    entries: Sequence[Entry],
    partials: Partials,
    over: Mapper = run_locally,
    note: Callable[[int, str], None] = lambda images, state: None,
) -> Tally:
    """Count all `entries`. Chunks that `partials` has are not counted again; the others are saved there.

    `note` is called with the number of images done since the last call, and the mean IoU so far. Raises DatasetError
    or ImageError for a bad image, unless `settings.skip_bad`.
    """
    classes = len(settings.card.classes)
    total = Tally({subject.name: np.zeros((classes, classes), np.int64) for subject in subjects})
    chunks = []
    for start in range(0, len(entries), CHUNK):
        images = entries[start : start + CHUNK]
        missing = []
        for subject in subjects:
            found = partials.find(images, subject)
            if found is None:
                missing.append(subject)
            else:
                total.add(found)
        if missing:
            chunks.append(Chunk(images, missing))
    note(len(entries) - sum(len(chunk.entries) for chunk in chunks), "")

    def note_means(done: int, tally: Tally) -> None:
        note(done, _means_so_far(total, tally))

    for chunk, tally in over(settings, chunks, note_means):
        for subject in chunk.subjects:
            partials.keep(chunk.entries, subject, tally)
        total.add(tally)
    return total


def evaluation(settings: ChunkSettings, listed: int, entries: int, total: Tally) -> Evaluation:
    """The figures of `entries` images, of the `listed` in the split; DatasetError if no pixel counts."""
    if not all(counts.any() for counts in total.confusions.values()):
        first = next(iter(total.skipped.values()), "all pixels are labelled 255")
        raise DatasetError(f"no annotated pixel is left to count: {first}")
    names = settings.card.class_names
    stated = stated_figure(settings.card, settings.protocol)
    means = {name: mean_iou(counts) for name, counts in total.confusions.items()}
    reference = means.get(PYTORCH, stated)
    against = PYTORCH if PYTORCH in means else "the card" if stated is not None else None
    scores = [
        Score(
            name,
            means[name],
            pixel_accuracy(counts),
            {label: None if np.isnan(iou) else float(iou) for label, iou in zip(names, ious(counts))},
            None if reference is None else reference - means[name],
        )
        for name, counts in total.confusions.items()
    ]
    images = entries - len(total.skipped)
    return Evaluation(settings.protocol, listed, images, total.skipped, total.unknown, stated, against, scores)


def _means_so_far(total: Tally, chunk: Tally) -> str:
    counts = {name: matrix + chunk.confusions.get(name, 0) for name, matrix in total.confusions.items()}
    return ", ".join(f"{name} {mean_iou(matrix):.2f} %" for name, matrix in counts.items() if matrix.any())
