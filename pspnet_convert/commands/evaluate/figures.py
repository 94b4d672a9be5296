"""How accurate models are on an annotated data set: all of them in one pass, and the figures of each.

What is counted is chunks.py's business, what is read off the counts miou.py's.
"""

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

CHUNK = 32  # images: at full size a model's work of half a minute, which is what an interrupt may cost


@dataclass(frozen=True)
class Score:
    """One model's figures, per cent. `ious`: by class, None for one that does not occur.

    `drop`: points below the evaluation's reference; None where there is none.
    """

    backend: str
    mean_iou: float
    pixel_accuracy: float
    ious: Mapping[str, float | None]
    drop: float | None


@dataclass(frozen=True)
class Evaluation:
    """`images` were counted, of `listed` in the split. `stated`: the card's figure for this protocol, if any.

    `reference`: what drops are measured from: PyTorch if it was in the same pass, else the card, if it has a figure.
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
    task: ChunkSettings,
    subjects: Sequence[ModelFile],
    entries: Sequence[Entry],
    partials: Partials,
    over: Mapper = run_locally,
    note: Callable[[int, str], None] = lambda images, state: None,
) -> Tally:
    """Count all `entries`; chunks that `partials` has are not done again, the others are kept there as they are done.

    `note` is told of so many more images, and of the mIoU so far. Raises DatasetError or ImageError for a bad
    image unless the task skips it.
    """
    classes = len(task.card.classes)
    total = Tally({subject.name: np.zeros((classes, classes), np.int64) for subject in subjects})
    works = []
    for start in range(0, len(entries), CHUNK):
        chunk = entries[start : start + CHUNK]
        missing = []
        for subject in subjects:
            found = partials.find(chunk, subject)
            if found is None:
                missing.append(subject)
            else:
                total.add(found)
        if missing:
            works.append(Chunk(chunk, missing))
    note(len(entries) - sum(len(work.entries) for work in works), "")

    def tell(images: int, tally: Tally) -> None:
        note(images, _so_far(total, tally))

    for work, tally in over(task, works, tell):
        for subject in work.subjects:
            partials.keep(work.entries, subject, tally)
        total.add(tally)
    return total


def evaluation(task: ChunkSettings, listed: int, entries: int, total: Tally) -> Evaluation:
    """The figures of a split that has `listed` images, of which `entries` were shown; DatasetError if none counts."""
    if not all(counts.any() for counts in total.confusions.values()):
        first = next(iter(total.skipped.values()), "all is labelled 255")
        raise DatasetError(f"no annotated pixel is left to count: {first}")
    stated = stated_figure(task.card, task.protocol)
    means = {name: mean_iou(counts) for name, counts in total.confusions.items()}
    reference = means.get(PYTORCH, stated)
    against = PYTORCH if PYTORCH in means else "the card" if stated is not None else None
    scores = [
        Score(
            name,
            means[name],
            pixel_accuracy(counts),
            {label: None if np.isnan(iou) else float(iou) for label, iou in zip(task.card.class_names, ious(counts))},
            None if reference is None else reference - means[name],
        )
        for name, counts in total.confusions.items()
    ]
    images = entries - len(total.skipped)
    return Evaluation(task.protocol, listed, images, total.skipped, total.unknown, stated, against, scores)


def _so_far(total: Tally, chunk: Tally) -> str:
    counts = {name: matrix + chunk.confusions.get(name, 0) for name, matrix in total.confusions.items()}
    return ", ".join(f"{name} {mean_iou(matrix):.2f} %" for name, matrix in counts.items() if matrix.any())
