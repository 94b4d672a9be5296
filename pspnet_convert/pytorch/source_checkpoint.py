"""The checkpoint that a job converts, and its network: each is read once, when it is first needed."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.files import Digests

if TYPE_CHECKING:
    from pspnet_convert.pytorch.checkpoint import Checkpoint, FittedWeights
    from pspnet_convert.pytorch.network import PSPNet

# The last release that changed what export-onnx writes. Later ones write the same bytes for the same network.
GRAPH_VERSION = "0.2.0"


class SourceCheckpoint:
    """The checkpoint at `path` for the model of `card`. With `allow_unknown` it may have another digest."""

    def __init__(self, card: ModelCard, path: Path, digests: Digests, *, allow_unknown: bool) -> None:
        self.path = path
        self.card = card
        self._digests = digests
        self._allow_unknown = allow_unknown
        self._fitted: FittedWeights | None = None

    def record(self) -> dict[str, Any]:
        """The manifest's record of the file. Raises what checkpoint.identify raises."""
        from pspnet_convert.pytorch.checkpoint import identify

        identify(self.path, self.card.checkpoint, self._digests.of, allow_unknown=self._allow_unknown)
        record = self._digests.record(self.path, self.path.name)
        file = self.card.checkpoint
        chosen = {"weights": file.weights, "prefix": file.prefix}
        asked = {name: value for name, value in chosen.items() if value is not None}
        return {**record, "is_the_cards": file.accepts(record["sha256"]), **asked}

    def findings(self) -> dict[str, Any]:
        """What was found in the file, as plain values for the manifest. Raises what `network` raises."""
        assert self.network is not None and self._fitted is not None
        return {
            "metadata": asdict(self._checkpoint.metadata),
            "weights": self._checkpoint.weights.name,
            "prefix": self._fitted.prefix,
            "dropped_keys": list(self._fitted.left_out),
            "warnings": [*self._checkpoint.warnings, *self._fitted.warnings],
        }

    def provenance(self) -> dict[str, str]:
        """Where an ONNX comes from, for its metadata."""
        return {
            "name": self.card.name,
            "checkpoint_sha256": self._digests.of(self.path),
            "classes": ",".join(self.card.class_names),
            "tool": f"pspnet-convert {GRAPH_VERSION}",
        }

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        from pspnet_convert.pytorch.checkpoint import load_checkpoint

        return load_checkpoint(self.path, self.card)

    @cached_property
    def network(self) -> PSPNet:
        """The reference. Raises CheckpointError if the checkpoint cannot be read, or is of another network."""
        from pspnet_convert.pytorch.network import empty_network, load_weights

        network = empty_network(self.card)
        self._fitted = load_weights(network, self._checkpoint)
        return network

    def release(self) -> None:
        """Free the network and its weights."""
        del self.network, self._checkpoint
        self._fitted = None

    def take_network(self) -> PSPNet:
        """The network, which is no longer kept here: its weights are freed when the caller drops it."""
        network = self.network
        self.release()
        return network
