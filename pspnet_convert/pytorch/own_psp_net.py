"""Build a network with code of the user's own from its config, and run it as mmsegmentation does."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import CardError, first_line
from pspnet_convert.image_shape import ImageShape
from pspnet_convert.pytorch.network import PSPNet, build

if TYPE_CHECKING:
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads import PSPHead

# What EncoderDecoder runs around `inference`, and after it.
_AFTER_INFERENCE = ("forward", "predict", "postprocess_result")
log = logging.getLogger(__name__)


class OwnPSPNet(PSPNet):
    """A subclass of EncoderDecoder or PSPHead may compute the logits in any way: its own methods are called."""

    is_as_written = True

    def __init__(self, segmentor: EncoderDecoder, image_shape: ImageShape) -> None:
        nn.Module.__init__(self)
        self.segmentor = segmentor
        self.image_shape = image_shape
        self._set_up(segmentor, image_shape[1])

    @property
    def decode_head(self) -> PSPHead:
        return self.segmentor.decode_head

    @property
    def with_weights(self) -> nn.Module:
        return self.segmentor

    def logits(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        found = self.segmentor.inference(image, [_metainfo(size)] * len(image))
        if found.shape[2:] == size:
            return found
        return interpolate(found, size=size, mode="bilinear", align_corners=self.align_corners)

    def check_answers(self) -> None:
        """Methods that mmsegmentation calls after `inference` are not in the graph. They may not change the labels."""
        from mmseg.models import EncoderDecoder
        from mmseg.structures import SegDataSample

        kind = type(self.segmentor)
        own = [name for name in _AFTER_INFERENCE if getattr(kind, name) is not getattr(EncoderDecoder, name)]
        if not own:
            return
        named = f"{kind.__name__}.{own[0]}"
        image = torch.randn(self.image_shape, generator=torch.Generator().manual_seed(0))
        sample = SegDataSample(metainfo={**_metainfo(image.shape[2:]), "padding_size": [0, 0, 0, 0]})
        try:
            with torch.inference_mode():
                (found,) = self.segmentor(image, [sample], mode="predict")
                is_equal = torch.equal(found.pred_sem_seg.data[0], self(image).argmax(dim=1)[0])
        except Exception as error:  # the user's code raises errors of any kind
            log.warning("%s is not in the graph, and fails on a drawn image: %s", named, first_line(error))
            return
        if not is_equal:
            raise CardError(
                f"{named} changes the label map after `inference`: the ONNX would not do it",
                "Do it to the logits, in encode_decode or inference.",
            )


def _metainfo(size: Sequence[int]) -> dict[str, Any]:
    return {name: tuple(size) for name in ("img_shape", "ori_shape", "pad_shape")}


def build_own_network(card: ModelCard) -> PSPNet:
    """The network of a card that needs its config, freshly initialised. CardError without the config.

    It is on the CPU: the user's code may read values while it builds.
    """
    own = card.own_network
    if own is None:
        raise CardError(
            f"{card.name}: needs its config", "Give it with --config, and its checkpoint with --checkpoint."
        )
    from mmengine.config import ConfigDict

    whole = {**(own.section.get("test_cfg") or {}), "mode": "whole"}
    segmentor = build(
        ConfigDict({**own.section, "test_cfg": whole}), f"{own.path}: model", "Try it with mmsegmentation.", limit=False
    )
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads import PSPHead

    is_known = type(segmentor) is EncoderDecoder and type(segmentor.decode_head) is PSPHead
    return PSPNet(segmentor, card.input.channels) if is_known else OwnPSPNet(segmentor, card.input.shape)
