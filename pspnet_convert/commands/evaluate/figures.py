"""Measure models on an annotated data set, all in one pass: count its chunks, then compute each model's figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from pspnet_convert.commands.evaluate.chunks import Chunk, ChunkSettings, Mapper, Tally, run_locally
from pspnet_convert.commands.evaluate.dataset import Entry
from pspnet_convert.commands.evaluate.inputs import stated_figure
from pspnet_convert.commands.evaluate.labelling import PYTORCH
from pspnet_convert.commands.evaluate.miou import ious, mean_iou, pixel_accuracy
from pspnet_convert.commands.evaluate.partials import Partials
from pspnet_convert.errors import DatasetError
from pspnet_convert.manifest_fields import EvaluateResult, Score
from pspnet_convert.runtimes.model_file import ModelFile

CHUNK = 32  # images: half a minute for a full-size model, which is all that an interrupt can lose


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


def evaluation(settings: ChunkSettings, listed: int, entries: int, total: Tally) -> EvaluateResult:
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
            backend=name,
            mean_iou=means[name],
            pixel_accuracy=pixel_accuracy(counts),
            ious={label: None if np.isnan(iou) else float(iou) for label, iou in zip(names, ious(counts))},
            drop=None if reference is None else reference - means[name],
        )
        for name, counts in total.confusions.items()
    ]
    images = entries - len(total.skipped)
    return EvaluateResult(
        protocol=settings.protocol,
        listed=listed,
        images=images,
        skipped=total.skipped,
        unknown=total.unknown,
        stated=stated,
        reference=against,
        scores=scores,
    )


def _means_so_far(total: Tally, chunk: Tally) -> str:
    counts = {name: matrix + chunk.confusions.get(name, 0) for name, matrix in total.confusions.items()}
    return ", ".join(f"{name} {mean_iou(matrix):.2f} %" for name, matrix in counts.items() if matrix.any())
