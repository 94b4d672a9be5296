"""The checkpoint that a job converts, and its network: each is read once, when it is first needed."""

from __future__ import annotations

from dataclasses import asdict
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.files import Digests

if TYPE_CHECKING:
    from pspnet_convert.pytorch.checkpoint import Checkpoint
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

    def record(self) -> dict[str, Any]:
        """The manifest's record of the file. Raises what checkpoint.identify raises."""
        from pspnet_convert.pytorch.checkpoint import identify

        identify(self.path, self.card.checkpoint, self._digests.of, allow_unknown=self._allow_unknown)
        record = self._digests.record(self.path, self.path.name)
        return {**record, "is_the_cards": self.card.checkpoint.accepts(record["sha256"])}

    def findings(self) -> dict[str, Any]:
        """What was found in the file, as plain values for the manifest. CheckpointError if it cannot be read."""
        return {
            "metadata": asdict(self._checkpoint.metadata),
            "dropped_keys": list(self._checkpoint.dropped_keys),
            "warnings": list(self._checkpoint.warnings),
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
        from pspnet_convert.pytorch.network import build_network

        return build_network(self.card, self._checkpoint)

    def release(self) -> None:
        """Free the network and its weights."""
        del self.network, self._checkpoint

    def take_network(self) -> PSPNet:
        """The network, which is no longer kept here: its weights are freed when the caller drops it."""
        network = self.network
        self.release()
        return network
