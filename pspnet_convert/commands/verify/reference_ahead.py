"""The reference's answers, computed in a process of its own while a run exports and converts with one core."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.commands.verify.conversion import Conversion
from pspnet_convert.commands.verify.inputs import VerificationInput, verification_inputs
from pspnet_convert.files import Digests
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.pytorch.source_checkpoint import SourceCheckpoint
from pspnet_convert.runtimes.input_form import InputForm
from pspnet_convert.runtimes.logit_error import Precision
from pspnet_convert.worker_process import Worker, WorkerError

if TYPE_CHECKING:
    from pspnet_convert.commands.verify.reference import Expected

_SMALL = 2**25  # bytes of a checkpoint: to start a process would take longer than such a reference
log = logging.getLogger(__name__)


def is_worth_it(checkpoint: Path) -> bool:
    """Whether a process of its own saves time for the reference with these weights."""
    return checkpoint.stat().st_size > _SMALL and (os.cpu_count() or 1) > 1


@dataclass(frozen=True)
class ReferenceRequest:
    """All that decides what the reference answers, but for the weights.

    `images`: the user's own. `precisions`: of the models that will be compared. `conversion`: how the IRs are made,
    where this is known.
    """

    card: ModelCard
    shape: ImageShape
    images: Sequence[Path]
    form: InputForm
    precisions: frozenset[Precision]
    conversion: Conversion | None

    def inputs(self) -> list[VerificationInput]:
        """The images that the models are compared on. Raises ImageError."""
        return verification_inputs(self.card, self.shape, self.images, self.form)


class ReferenceAhead:
    """A process that runs the reference, if it was begun. It ends with its answers, or with the context."""

    def __init__(self) -> None:
        self._worker: Worker | None = None
        self._request: ReferenceRequest | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._worker is not None:
            self._worker.end()

    def begin(self, checkpoint: Path, request: ReferenceRequest, folder: Path) -> None:
        """Run the network of `checkpoint` from now on. Logits are kept in `folder`, for as long as the context."""
        self._request = request
        self._worker = Worker("the reference", _answers, (checkpoint, request, folder))

    def answers(self, request: ReferenceRequest, note: Callable[[], None]) -> list[Expected] | None:
        """What `reference.expect` gives for `request`; None if something else was begun, or the process has failed.

        `note` is called for each image.
        """
        worker, self._worker = self._worker, None
        if worker is None:
            return None
        try:
            if self._request != request:
                log.debug("the reference has run for another request, and runs again")
                return None
            found: list[Expected] = worker.call(list)
        except WorkerError as error:
            log.debug("the reference did not run in a process of its own: %s", error)
            return None
        finally:
            worker.end()
        for _ in found:
            note()
        return found


def _answers(checkpoint: Path, request: ReferenceRequest, folder: Path) -> list[Expected]:
    from pspnet_convert.commands.verify.reference import expect

    # The digest of the file is the caller's to check.
    network = SourceCheckpoint(request.card, checkpoint, Digests(), allow_unknown=True).take_network()
    return expect(network, request.card, request.inputs(), folder, lambda: None, request.precisions, request.conversion)
