"""What a model answers to an image: its label map, and the scores of the classes where it gives them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard

LOGITS, PROBABILITIES = "logits", "probabilities"  # the names of the outputs with scores


@dataclass(frozen=True)
class Answer:
    """A model's answer: `labels`, integers [h, w]; `logits`, float32 [classes, h, w], if it gives them.

    `logits` may be any scores of which the largest is the label.
    """

    labels: NDArray[np.integer[Any]]
    logits: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class AnswerOutputs:
    """The places of the label map and of the scores among a model's outputs; None for one that it does not have."""

    labels: int | None
    scores: int | None

    @classmethod
    def of(cls, names: Sequence[Collection[str]], card: ModelCard) -> AnswerOutputs:
        """Find them by the `names` of each output.

        The logits count before the probabilities. Of two classes, probabilities are no scores: a binary head's
        threshold is not in them.
        """
        named = {name: place for place, some in enumerate(names) for name in some}
        scores = named.get(LOGITS)
        if scores is None and len(card.classes) > 2:
            scores = named.get(PROBABILITIES)
        return cls(named.get(card.output.name), scores)

    def split(self, results: Sequence[NDArray[Any]], count: int) -> Iterator[Answer]:
        """The answers of the first `count` images of a batch: copies from label maps [N, 1, h, w] and scores
        [N, classes, h, w]."""
        for place in range(count):
            scores = None if self.scores is None else np.array(results[self.scores][place], np.float32)
            if self.labels is not None:
                yield Answer(np.array(results[self.labels][place, 0]), scores)
            else:
                assert scores is not None  # the signature has been checked: it has one of the two
                yield Answer(scores.argmax(axis=0), scores)
