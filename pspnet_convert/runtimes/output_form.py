"""What a converted model gives: label maps, logits, probabilities; and label maps from any of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.forms import LabelType, Output

SCORES: Sequence[Output] = ("logits", "probabilities")  # float32 [N, classes, H, W], named so in ONNX and IR
Labels = NDArray[np.integer[Any]]


@dataclass(frozen=True)
class OutputForm:
    """The outputs of an ONNX and its IRs, in their order. The defaults are those of Open Model Zoo's model."""

    outputs: Sequence[Output] = ("labels",)
    label_type: LabelType = "int64"

    def names(self, of_labels: str) -> list[str]:
        """The outputs' names in the file; `of_labels` is that of the label map."""
        return [of_labels if output == "labels" else output for output in self.outputs]


@dataclass(frozen=True)
class ModelAnswer:
    """What a model gives for one image: `labels` [H, W], and those of SCORES that it has, float32 [classes, H, W].

    A model without a label map has the labels that its scores say.
    """

    labels: Labels
    scores: Mapping[str, NDArray[np.float32]]


def answers_of_batch(results: Mapping[str, NDArray[Any]], of_labels: str) -> list[ModelAnswer]:
    """The answers in a batch's `results`, by the outputs' names: labels [N, 1, H, W], scores [N, classes, H, W]."""
    scores = {name: results[name] for name in SCORES if name in results}
    given = results.get(of_labels)
    labels = labels_of(next(iter(scores.values()))) if given is None else given[:, 0]
    return [
        ModelAnswer(one, {name: values[number] for name, values in scores.items()}) for number, one in enumerate(labels)
    ]


def labels_of(scores: NDArray[np.float32]) -> NDArray[np.int64]:
    """Label maps [N, H, W] from logits or probabilities [N, classes, H, W]: the first of equal ones wins."""
    labels: NDArray[np.int64] = scores.argmax(axis=1)
    return labels


def deciding_scores(names: Collection[str], classes: int) -> str | None:
    """Which of a model's scores have the label's as their largest, wherever they are blended or resized; None if none.

    Logits count first. Probabilities of two classes may be a binary head's, whose threshold is not in them.
    """
    if "logits" in names:
        return "logits"
    return "probabilities" if "probabilities" in names and classes > 2 else None


def probabilities_of(logits: NDArray[np.float32], *, is_binary: bool) -> NDArray[np.float64]:
    """The probabilities [classes, H, W] that logits [classes, H, W] stand for: softmax over the classes.

    A binary head's second logit is its score s: sigmoid(s) = 1 / (1 + exp(-s)) is the probability of class 1.
    """
    exact = logits.astype(np.float64)
    if is_binary:
        exact[0] = 0
    values: NDArray[np.float64] = np.exp(exact - exact.max(axis=0))
    return values / values.sum(axis=0)
