"""Evaluate one chunk of a data set's images: run models on it and count.

A chunk's counts depend on nothing else, so that they can be kept, made on another machine, and added up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

import numpy as np

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.dataset import Annotated, Entry, read_entry
from pspnet_convert.commands.evaluate.labelling import Labeller, Labels, open_labeller
from pspnet_convert.commands.evaluate.miou import Confusion, confusion
from pspnet_convert.commands.evaluate.protocols import PROTOCOLS, Sample
from pspnet_convert.errors import ArtifactError, ConvertError, DatasetError, ImageError
from pspnet_convert.manifest_fields import Protocol
from pspnet_convert.runtimes.images import mean_colour
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.model_file import ModelFile

_AHEAD = 4  # images that are read and prepared while models run


@dataclass(frozen=True)
class ChunkSettings:
    """What all chunks have in common. `protocol`: one of PROTOCOLS; `shape`: the models' input; `form`: an IR's."""

    card: ModelCard
    shape: ImageShape
    protocol: Protocol
    skip_bad: bool
    form: InputForm = PLAIN


@dataclass(frozen=True)
class Chunk:
    """Some images, and the models to run on them."""

    entries: Sequence[Entry]
    subjects: Sequence[ModelFile]


@dataclass
class Tally:
    """What was counted. `confusions`: a confusion matrix by model. `skipped`: by image, the reason.

    `unknown`: by image, the number of annotated pixels that are of no class of the card; they do not count.
    """

    confusions: dict[str, Confusion] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add the counts of other images, or of other models on the same images."""
        for name, counts in other.confusions.items():
            self.confusions[name] = self.confusions[name] + counts if name in self.confusions else counts
        self.skipped.update(other.skipped)
        self.unknown.update(other.unknown)


# Called with the number of images done since the last call, and what their chunk has counted so far.
Note = Callable[[int, Tally], None]
# Counts all chunks, in any order.
Mapper = Callable[[ChunkSettings, Sequence[Chunk], Note], Iterable[tuple[Chunk, Tally]]]


def run_locally(settings: ChunkSettings, chunks: Sequence[Chunk], note: Note) -> Iterator[tuple[Chunk, Tally]]:
    """Count the chunks one after another in this process; each model is opened once."""
    labellers = open_labellers(settings, {subject for chunk in chunks for subject in chunk.subjects})
    for chunk in chunks:
        yield chunk, count_chunk(settings, chunk, labellers, note)


def open_labellers(settings: ChunkSettings, subjects: Iterable[ModelFile]) -> dict[ModelFile, Labeller]:
    return {subject: open_labeller(subject, settings.card, settings.shape, settings.form) for subject in subjects}


def count_chunk(
    settings: ChunkSettings,
    chunk: Chunk,
    labellers: Mapping[ModelFile, Labeller],
    note: Note = lambda images, tally: None,
) -> Tally:
    """Run each model of `chunk` on each of its images; an image is read and prepared once.

    Raises DatasetError or ImageError for the first bad image, unless `settings.skip_bad`.
    """
    classes = len(settings.card.classes)
    tally = Tally({subject.name: np.zeros((classes, classes), np.int64) for subject in chunk.subjects})
    pending: dict[ModelFile, deque[tuple[Sample, Callable[[], Labels]]]] = {s: deque() for s in chunk.subjects}

    def count_first(subject: ModelFile) -> None:
        sample, wait = pending[subject].popleft()
        tally.confusions[subject.name] += _counts(subject, sample, wait(), classes)

    for entry, prepared in _prepared(settings, chunk.entries):
        if isinstance(prepared, ConvertError):
            if not settings.skip_bad:
                raise prepared
            tally.skipped[entry.name] = prepared.what
        else:
            sample, unknown = prepared
            if unknown:
                tally.unknown[entry.name] = unknown
            for subject in chunk.subjects:
                if len(pending[subject]) == labellers[subject].at_once:
                    count_first(subject)
                pending[subject].append((sample, labellers[subject].start(sample.image, sample.logits_at)))
        note(1, tally)
    for subject in chunk.subjects:
        while pending[subject]:
            count_first(subject)
    note(0, tally)  # with the counts of the last images
    return tally


def _counts(subject: ModelFile, sample: Sample, labels: Labels, classes: int) -> Confusion:
    if labels.min() < 0 or labels.max() >= classes:
        raise ArtifactError(f"{subject.path}: gives class {labels.max()}, but the card has {classes} classes")
    return confusion(sample.truth, sample.scored(labels), classes)


def _prepared(
    settings: ChunkSettings, entries: Sequence[Entry]
) -> Iterator[tuple[Entry, tuple[Sample, int] | DatasetError | ImageError]]:
    """Each entry with its sample and its number of unknown pixels, or with its error; read ahead in a thread."""

    def prepare(entry: Entry) -> tuple[Sample, int] | DatasetError | ImageError:
        try:
            annotated = read_entry(entry, settings.card)
        except (DatasetError, ImageError) as error:
            return error
        return _sample(settings, annotated), annotated.unknown

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: deque[tuple[Entry, Future[tuple[Sample, int] | DatasetError | ImageError]]] = deque()
        for entry in entries:
            ahead.append((entry, pool.submit(prepare, entry)))
            if len(ahead) > _AHEAD:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()


def _sample(settings: ChunkSettings, annotated: Annotated) -> Sample:
    fill = mean_colour(settings.card.input)[::-1]  # BGR, like the image
    return PROTOCOLS[settings.protocol](annotated.image, annotated.truth, settings.shape[2:], fill)
