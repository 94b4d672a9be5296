"""Measure models on an annotated data set, all in one pass: count its chunks, then compute each model's figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np

from pspnet_convert.commands.evaluate.chunks import Chunk, ChunkSettings, Mapper, Tally, run_locally
from pspnet_convert.commands.evaluate.counter import PYTORCH_LABEL_MAPS, counted_names
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.inputs import stated_figure
from pspnet_convert.commands.evaluate.labelling import PYTORCH, Runs
from pspnet_convert.commands.evaluate.miou import (
    Areas,
    Confusion,
    Shares,
    areas,
    areas_with_void_as_background,
    areas_without_void,
    class_metrics,
    ignored_share,
    ious,
    mean_iou,
    pixel_accuracy,
    summary,
)
from pspnet_convert.commands.evaluate.partials import Partials
from pspnet_convert.commands.evaluate.suspicions import masks, suspicions
from pspnet_convert.errors import DatasetError
from pspnet_convert.manifest_fields import ClassPixels, EvaluateResult, Score
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
    names = [name for subject in subjects for name in counted_names(subject.name)]
    total = Tally({name: np.zeros((classes + 2, classes), np.int64) for name in names})
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
        note(done, _means_so_far(settings.protocol, total, tally))

    for chunk, tally in over(settings, chunks, note_means):
        for subject in chunk.subjects:
            partials.keep(chunk.entries, subject, tally)
        total.add(tally)
    return total


def evaluation(
    settings: ChunkSettings, listed: int, entries: int, total: Tally, left_out: Mapping[str, str]
) -> EvaluateResult:
    """The figures of `entries` images, of the `listed` in the split; DatasetError if no pixel counts.

    `left_out`: models that were not evaluated, with the reason.
    """
    confusions = _shown(settings.protocol, total.confusions)
    if not all(areas_without_void(matrix).annotated.any() for matrix in confusions.values()):
        first = next(iter(total.skipped.values()), "all pixels are ignored")
        raise DatasetError(f"no annotated pixel is left to count: {first}")
    stated = stated_figure(settings.card, settings.protocol)
    means = {name: mean_iou(_areas(settings.protocol, matrix)) for name, matrix in confusions.items()}
    first_matrix = next(iter(confusions.values()))
    names = settings.card.class_names
    return EvaluateResult(
        protocol=settings.protocol,
        listed=listed,
        images=entries - len(total.skipped),
        skipped=total.skipped,
        unknown=total.unknown,
        ignored=ignored_share(first_matrix),
        stated=stated,
        reference=PYTORCH if PYTORCH in means else "the card" if stated is not None else None,
        left_out=dict(left_out),
        warnings=[*masks(total.masks, entries), *suspicions(confusions, names)],
        scores=[
            _score(settings, name, matrix, _reference(name, means, stated), sorted(total.runs.get(name, ())))
            for name, matrix in confusions.items()
        ],
    )


def _shown(protocol: str, confusions: Mapping[str, Confusion]) -> dict[str, Confusion]:
    """All but PyTorch's label maps where they decide nothing: no model is compared with them, or they are the same."""
    label_maps = confusions.get(PYTORCH_LABEL_MAPS)
    is_compared = len(confusions) > len(counted_names(PYTORCH))
    needed = label_maps is not None and is_compared and not np.array_equal(label_maps, confusions[PYTORCH])
    return {name: matrix for name, matrix in confusions.items() if needed or name != PYTORCH_LABEL_MAPS}


def _reference(name: str, means: Mapping[str, float], stated: float | None) -> float | None:
    """The mean IoU that a drop is counted from: PyTorch's of the same kind, else the card's."""
    if name == PYTORCH:
        return means[PYTORCH]
    return means.get(PYTORCH_LABEL_MAPS, means.get(PYTORCH, stated))


def _areas(protocol: str, matrix: Confusion) -> Areas:
    return areas(matrix) if protocol == "mmseg" else areas_with_void_as_background(matrix)


def _score(
    settings: ChunkSettings, name: str, matrix: Confusion, reference: float | None, runs: Sequence[Runs]
) -> Score:
    is_mmseg = settings.protocol == "mmseg"
    found, names = _areas(settings.protocol, matrix), settings.card.class_names
    testing = settings.card.mmseg_test
    by_name = {"IoU": ious(found)}
    if is_mmseg and testing is not None:
        by_name = class_metrics(found, testing.metrics, testing.beta, testing.nan_to_num)
    mean = mean_iou(found)
    return Score(
        backend=name,
        answers="logits" if is_mmseg and name == PYTORCH else "label map",
        device=runs[0].device if runs else None,
        ran_on=", ".join(dict.fromkeys(one.on for one in runs)) or None,
        computed_in=", ".join(dict.fromkeys(one.computed_in for one in runs)) or None,
        mean_iou=mean,
        mean_iou_without_void=None if is_mmseg else mean_iou(areas_without_void(matrix)),
        pixel_accuracy=pixel_accuracy(found),
        ious=_by_class(ious(found), names),
        drop=None if reference is None else reference - mean,
        metrics={key: _number(value) for key, value in summary(by_name, found).items()} if is_mmseg else {},
        by_class={key: _by_class(values, names) for key, values in by_name.items()} if is_mmseg else {},
        pixels=[
            ClassPixels(name=label, intersection=one[0], union=one[1], predicted=one[2], annotated=one[3])
            for label, *one in zip(
                names,
                *(values.tolist() for values in (found.intersection, found.union, found.predicted, found.annotated)),
            )
        ],
    )


def _by_class(values: Shares, names: Sequence[str]) -> dict[str, float | None]:
    return {name: _number(float(value)) for name, value in zip(names, values)}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _means_so_far(protocol: str, total: Tally, chunk: Tally) -> str:
    counts = {
        name: matrix + chunk.confusions.get(name, 0)
        for name, matrix in total.confusions.items()
        if name != PYTORCH_LABEL_MAPS
    }
    return ", ".join(
        f"{name} {mean_iou(_areas(protocol, matrix)):.2f} %" for name, matrix in counts.items() if matrix.any()
    )
