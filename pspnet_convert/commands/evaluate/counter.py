"""Run one model on samples, several inferences at a time, and count its label maps."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import numpy as np

from pspnet_convert.commands.evaluate.labelling import PYTORCH, Labeller
from pspnet_convert.commands.evaluate.miou import Confusion, confusion
from pspnet_convert.commands.evaluate.samples import Sample
from pspnet_convert.errors import ArtifactError
from pspnet_convert.runtimes.merging import Answer, Merge
from pspnet_convert.runtimes.model_file import ModelFile

# PyTorch's label maps, merged as a converted model's are. Its logits, merged as mmsegmentation does it, are PYTORCH.
PYTORCH_LABEL_MAPS = f"{PYTORCH} (label maps)"


def counted_names(model: str) -> list[str]:
    """The names under which a model's label maps are counted."""
    return [model, PYTORCH_LABEL_MAPS] if model == PYTORCH else [model]


class Counter:
    """Counts by name (counted_names); they are complete after `finish`."""

    def __init__(self, subject: ModelFile, labeller: Labeller, classes: int) -> None:
        self._subject, self._labeller, self._classes = subject, labeller, classes
        empty = (classes + 2, classes)
        self.confusions: dict[str, Confusion] = {
            name: np.zeros(empty, np.int64) for name in counted_names(subject.name)
        }
        self._pending: deque[tuple[Callable[[], Answer], Merge, Sample | None]] = deque()

    def put(self, sample: Sample) -> None:
        """Start the model on the images of `sample`."""
        merge = sample.merge(self._classes, self._labeller.align_corners)
        for number, image in enumerate(sample.images, 1):
            if len(self._pending) == self._labeller.at_once:
                self._take()
            is_last = number == len(sample.images)
            self._pending.append((self._labeller.start(image), merge, sample if is_last else None))

    def finish(self) -> None:
        """Wait for all answers."""
        while self._pending:
            self._take()

    def _take(self) -> None:
        wait, merge, complete = self._pending.popleft()
        answer = wait()
        if answer.labels.min() < 0 or answer.labels.max() >= self._classes:
            raise ArtifactError(
                f"{self._subject.path}: gives class {answer.labels.max()}, but the card has {self._classes} classes"
            )
        merge.add(answer)
        if complete is None:
            return
        label_maps = merge.label_maps()
        best = label_maps.get("logits", label_maps["label map"])
        for name in self.confusions:
            labels = label_maps["label map"] if name == PYTORCH_LABEL_MAPS else best
            self.confusions[name] += confusion(complete.truth, labels, self._classes)
