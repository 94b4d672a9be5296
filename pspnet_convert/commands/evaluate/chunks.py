"""Evaluate one chunk of a data set's images: run models on it and count.

A chunk's counts depend on nothing else, so that they can be kept, made on another machine, and added up.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.evaluate.annotations import Truth, read_annotation
from pspnet_convert.commands.evaluate.counter import Counter
from pspnet_convert.commands.evaluate.dataset import check_files, check_size
from pspnet_convert.commands.evaluate.entries import Entry
from pspnet_convert.commands.evaluate.labelling import Labeller, Runs, open_labeller
from pspnet_convert.commands.evaluate.meaning import Meaning
from pspnet_convert.commands.evaluate.miou import Confusion
from pspnet_convert.commands.evaluate.protocols import Load, open_protocol
from pspnet_convert.commands.evaluate.samples import Sample
from pspnet_convert.errors import ConvertError, DatasetError, ImageError
from pspnet_convert.manifest_fields import Protocol
from pspnet_convert.runtimes.input_form import PLAIN, ImageShape, InputForm
from pspnet_convert.runtimes.model_file import ModelFile

_AHEAD = 4  # images that are read and prepared while models run
# Of an entry: the sample and its annotation, or the error.
_Ready = tuple[Sample, Truth] | DatasetError | ImageError


@dataclass(frozen=True)
class ChunkSettings:
    """What all chunks have in common. `meaning`: of the annotations; `shape`: the models' input; `form`: an IR's."""

    card: ModelCard
    meaning: Meaning
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
    """What was counted. `confusions`: by name (counted_names). `skipped`: by image, the reason.

    `unknown`: by image, the number of annotated pixels of no class that are not ignored either. `masks`: images; the
    annotation of each may be a mask of 0 and 255 (Truth.is_mask). `runs`: by IR, where it ran; several where the
    machines of a cluster differ.
    """

    confusions: dict[str, Confusion] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unknown: dict[str, int] = field(default_factory=dict)
    masks: set[str] = field(default_factory=set)
    runs: dict[str, set[Runs]] = field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Add the counts of other images, or of other models on the same images."""
        for name, counts in other.confusions.items():
            self.confusions[name] = self.confusions[name] + counts if name in self.confusions else counts
        self.skipped.update(other.skipped)
        self.unknown.update(other.unknown)
        self.masks.update(other.masks)
        for name, runs in other.runs.items():
            self.runs[name] = self.runs.get(name, set()) | runs


# Called with the number of images done since the last call, and what their chunk has counted so far.
Note = Callable[[int, Tally], None]
# Counts all chunks, in any order.
Mapper = Callable[[ChunkSettings, Sequence[Chunk], Note], Iterable[tuple[Chunk, Tally]]]


@dataclass(frozen=True)
class Opened:
    """What is opened once and used for many chunks."""

    load: Load
    labellers: Mapping[ModelFile, Labeller]


def run_locally(settings: ChunkSettings, chunks: Sequence[Chunk], note: Note) -> Iterator[tuple[Chunk, Tally]]:
    """Count the chunks one after another in this process; each model is opened once."""
    with ExitStack() as stack:
        opened = open_all(settings, {subject for chunk in chunks for subject in chunk.subjects}, stack)
        for chunk in chunks:
            yield chunk, count_chunk(settings, chunk, opened, note)


def open_all(settings: ChunkSettings, subjects: Iterable[ModelFile], stack: ExitStack) -> Opened:
    """The models end with `stack`."""
    card, shape = settings.card, settings.shape
    labellers = {}
    for subject in subjects:
        labellers[subject] = open_labeller(subject, card, shape, settings.form)
        stack.callback(labellers[subject].end)
    return Opened(open_protocol(settings.protocol, card, shape[2:]), labellers)


def count_chunk(
    settings: ChunkSettings, chunk: Chunk, opened: Opened, note: Note = lambda images, tally: None
) -> Tally:
    """Run each model of `chunk` on each of its images; an image is read and prepared once.

    Raises DatasetError or ImageError for the first bad image, unless `settings.skip_bad`.
    """
    classes = len(settings.card.classes)
    counters = [Counter(subject, opened.labellers[subject], classes) for subject in chunk.subjects]
    tally = Tally({name: counts for counter in counters for name, counts in counter.confusions.items()})
    for entry, prepared in _prepared(settings, chunk.entries, opened.load):
        if isinstance(prepared, ConvertError):
            if not settings.skip_bad:
                raise prepared
            tally.skipped[entry.name] = prepared.what
        else:
            sample, truth = prepared
            if truth.unknown:
                tally.unknown[entry.name] = truth.unknown
            if truth.is_mask:
                tally.masks.add(entry.name)
            for counter in counters:
                counter.put(sample)
        note(1, tally)
    for counter, subject in zip(counters, chunk.subjects):
        counter.finish()
        runs = opened.labellers[subject].runs
        if runs is not None:
            tally.runs[subject.name] = {runs}
    note(0, tally)  # with the counts of the last images
    return tally


def _prepared(settings: ChunkSettings, entries: Sequence[Entry], load: Load) -> Iterator[tuple[Entry, _Ready]]:
    """Each entry with what it gives; read ahead in a thread."""

    def prepare(entry: Entry) -> _Ready:
        try:
            check_files(entry)
            truth = read_annotation(entry.annotation, settings.meaning)
            loaded = load(entry.image)
            check_size(entry, truth, loaded.size)
        except (DatasetError, ImageError) as error:
            return error
        return loaded.sample(truth.numbers), truth

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead: deque[tuple[Entry, Future[_Ready]]] = deque()
        for entry in entries:
            ahead.append((entry, pool.submit(prepare, entry)))
            if len(ahead) > _AHEAD:
                first, future = ahead.popleft()
                yield first, future.result()
        while ahead:
            first, future = ahead.popleft()
            yield first, future.result()
