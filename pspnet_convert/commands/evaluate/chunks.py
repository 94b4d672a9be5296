"""One chunk of an evaluation: some images, shown to some models, counted.

A chunk's counts depend on nothing but the chunk, so that they can be kept (partials.py), be another machine's work
(cluster.py), and be added up (evaluate.py).
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
from pspnet_convert.runtimes.images import mean_colour
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.model_file import ModelFile

_AHEAD = 4  # images that are read and prepared while models are at work


@dataclass(frozen=True)
class ChunkSettings:
    """What all chunks have in common. `protocol` is one of PROTOCOLS, `shape` is that of the models' input, which an IR
    takes in `form`."""

    card: ModelCard
    shape: ImageShape
    protocol: str
    skip_bad: bool
    form: InputForm = PLAIN


@dataclass(frozen=True)
class Chunk:
    """A chunk's images, and the models that have not seen them."""

    entries: Sequence[Entry]
    subjects: Sequence[ModelFile]


@dataclass
class Tally:
    """What was counted: a confusion matrix by model, and by image why it was skipped.

    `unknown`: by image, how many annotated pixels were of no class of the card; they do not count.
    """

    confusions: dict[str, Confusion] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Other images' counts, or other models' of the same images."""
        for name, counts in other.confusions.items():
            self.confusions[name] = self.confusions[name] + counts if name in self.confusions else counts
        self.skipped.update(other.skipped)
        self.unknown.update(other.unknown)


# Called with so many more images that are done, and what their chunk has counted so far.
Note = Callable[[int, Tally], None]
# Does each Chunk, in any order.
Mapper = Callable[[ChunkSettings, Sequence[Chunk], Note], Iterable[tuple[Chunk, Tally]]]


def run_locally(task: ChunkSettings, works: Sequence[Chunk], note: Note) -> Iterator[tuple[Chunk, Tally]]:
    """Do the chunks one after another in this process, with each model opened once."""
    labellers = open_labellers(task, {subject for work in works for subject in work.subjects})
    for work in works:
        yield work, count_chunk(task, work, labellers, note)


def open_labellers(task: ChunkSettings, subjects: Iterable[ModelFile]) -> dict[ModelFile, Labeller]:
    return {subject: open_labeller(subject, task.card, task.shape, task.form) for subject in subjects}


def count_chunk(
    task: ChunkSettings, work: Chunk, labellers: Mapping[ModelFile, Labeller], note: Note = lambda images, tally: None
) -> Tally:
    """Show each image to each model of `work`, read and prepared once.

    Raises DatasetError or ImageError for the first bad image unless the task skips it.
    """
    classes = len(task.card.classes)
    tally = Tally({subject.name: np.zeros((classes, classes), np.int64) for subject in work.subjects})
    pending: dict[ModelFile, deque[tuple[Sample, Callable[[], Labels]]]] = {s: deque() for s in work.subjects}

    def count_first(subject: ModelFile) -> None:
        sample, wait = pending[subject].popleft()
        tally.confusions[subject.name] += _counts(subject, sample, wait(), classes)

    for entry, prepared in _prepared(task, work.entries):
        if isinstance(prepared, ConvertError):
            if not task.skip_bad:
                raise prepared
            tally.skipped[entry.name] = prepared.what
        else:
            sample, unknown = prepared
            if unknown:
                tally.unknown[entry.name] = unknown
            for subject in work.subjects:
                if len(pending[subject]) == labellers[subject].at_once:
                    count_first(subject)
                pending[subject].append((sample, labellers[subject].start(sample.image, sample.logits_at)))
        note(1, tally)
    for subject in work.subjects:
        while pending[subject]:
            count_first(subject)
    note(0, tally)  # the last images' counts
    return tally


def _counts(subject: ModelFile, sample: Sample, labels: Labels, classes: int) -> Confusion:
    if labels.min() < 0 or labels.max() >= classes:
        raise ArtifactError(f"{subject.path}: gives class {labels.max()}, the card has {classes} classes")
    return confusion(sample.truth, sample.scored(labels), classes)


def _prepared(
    task: ChunkSettings, entries: Sequence[Entry]
) -> Iterator[tuple[Entry, tuple[Sample, int] | DatasetError | ImageError]]:
    """Each entry's sample and its pixels of no class, or what is wrong with it; read ahead in a thread."""

    def prepare(entry: Entry) -> tuple[Sample, int] | DatasetError | ImageError:
        try:
            annotated = read_entry(entry, task.card)
        except (DatasetError, ImageError) as error:
            return error
        return _sample(task, annotated), annotated.unknown

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


def _sample(task: ChunkSettings, annotated: Annotated) -> Sample:
    fill = mean_colour(task.card.input)[::-1]  # BGR, as the image
    return PROTOCOLS[task.protocol](annotated.image, annotated.truth, task.shape[2:], fill)
