"""Build a network with code of the user's own from its config, and run it as mmsegmentation does."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor, nn
from torch.nn.functional import interpolate

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import CardError
from pspnet_convert.pytorch.network import PSPNet, build

if TYPE_CHECKING:
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads import PSPHead


class OwnPSPNet(PSPNet):
    """A subclass of EncoderDecoder or PSPHead may compute the logits in any way: its own methods are called."""

    is_as_written = True

    def __init__(self, segmentor: EncoderDecoder, channels: int = 3) -> None:
        nn.Module.__init__(self)
        self.segmentor = segmentor
        self._set_up(segmentor, channels)

    @property
    def decode_head(self) -> PSPHead:
        return self.segmentor.decode_head

    @property
    def with_weights(self) -> nn.Module:
        return self.segmentor

    def logits(self, image: Tensor) -> Tensor:
        size = image.shape[2:]
        found = self.segmentor.encode_decode(image, [{"img_shape": size, "ori_shape": size, "pad_shape": size}])
        if found.shape[2:] == size:
            return found
        return interpolate(found, size=size, mode="bilinear", align_corners=self.align_corners)


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

    segmentor = build(ConfigDict(own.section), f"{own.path}: model", "Try it with mmsegmentation.", limit=False)
    from mmseg.models import EncoderDecoder
    from mmseg.models.decode_heads import PSPHead

    is_known = type(segmentor) is EncoderDecoder and type(segmentor.decode_head) is PSPHead
    return (PSPNet if is_known else OwnPSPNet)(segmentor, card.input.channels)
