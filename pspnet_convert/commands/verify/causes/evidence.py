"""What is known of a converted model that failed, and how a hypothesis on the cause is judged."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.runtimes.backends import Prediction, normalised
from pspnet_convert.runtimes.input_form import Image
from pspnet_convert.runtimes.logit_error import Error, Precision, error_of

if TYPE_CHECKING:
    from pspnet_convert.pytorch.network import PSPNet

Place = Literal["input", "output", "numbers", "graph"]
Labels = NDArray[np.integer[Any]]
Logits = NDArray[np.float32]

# A hypothesis explains a difference if the reference that has it is this many times nearer to the model, and within
# this many times of what is allowed: the order of a few roundings is not known. One that explains nearly all of the
# difference may leave more: what is allowed was measured on the right network, and the fault moves the roundings too.
_NEARER, _SLACK = 4, 2
_MUCH_NEARER, _MORE_SLACK = 100, 4


@dataclass(frozen=True)
class Evidence:
    """One model that failed, on one input.

    `network` and `card` gave `expected`: for an FP16 model, the rounded network if that is what it is compared with.
    `image`: [H, W, C], colours as BGR. `found`: the model's own labels and logits. `allowed`: for these logits.

    `drawn`: logits [classes, H, W] that the model's last step was run on alone, and the labels [H, W] that it gave.
    `first_layer`: the output of the model's first convolution, with its bias, for this image: float32 [C, h, w]
    (runtimes/first_layer.py). Each is None if it could not be had. `others`: the reference's logits for the other
    images of the batch, by their names.
    """

    network: PSPNet
    card: ModelCard
    image: Image
    expected: Prediction
    found: Prediction
    drawn: tuple[Logits, Labels] | None
    first_layer: Logits | None
    is_ir: bool
    precision: Precision
    allowed: Error
    others: Mapping[str, Logits] = field(default_factory=dict)

    @cached_property
    def difference(self) -> Error:
        """The model's logits against the reference's."""
        return error_of(self.found.logits, self.expected.logits)

    @cached_property
    def tensor(self) -> NDArray[np.float32]:
        """The reference's input, float32 [1, C, H, W]."""
        return normalised([self.image], self.card.input)

    def explained_by(self, place: Place, what: str, logits: Logits, *, by_ratio: bool = False) -> Cause | None:
        """The cause, if the reference with it, which gives `logits` [classes, H, W], explains the whole difference.

        With `by_ratio`, what is left may be larger than what is allowed.
        """
        error = error_of(self.found.logits, logits)
        slack = _MORE_SLACK if _MUCH_NEARER * error.rms <= self.difference.rms else _SLACK
        limit = Error(slack * self.allowed.rms, slack * self.allowed.largest)
        if not _NEARER * error.rms <= self.difference.rms or not (by_ratio or error.within(limit)):
            return None
        words = (
            f"with this fault the reference is {error.rms:.1e} from this model, without it {self.difference.rms:.1e}"
        )
        return Cause(place, what, words)


@dataclass(frozen=True)
class Cause:
    """Why a model is wrong. `what` says it in words; `evidence` are the figures that show it."""

    place: Place
    what: str
    evidence: str

    def __str__(self) -> str:
        return f"Most likely: {self.what} ({self.evidence})"


# Hypotheses that are tested one after another: each item is one test, None where it does not explain the difference.
Tests = Iterator[Cause | None]
