"""From a card to the reference: mmsegmentation's own PSPNet, RGB normalised in, logits at the input's size out.

Builds and fills the network; what is in the checkpoint file is checkpoint.py's business.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pspnet_convert.card import ModelCard
from pspnet_convert.checkpoint import Checkpoint, check_state
from pspnet_convert.errors import CardError, first_line
from pspnet_convert.mmcv_ops import provide_mmcv_ops

if TYPE_CHECKING:
    from mmseg.models import EncoderDecoder

_MAX_CELLS = 1024  # of all bins; PSPNet's pyramid has 50, and what is computed from them grows with their number
log = logging.getLogger(__name__)


class PSPNet(nn.Module):
    """Backbone, neck (if any) and pyramid head in test mode `whole`, as mmsegmentation's EncoderDecoder runs them.

    Input: float32 [N, 3, H, W], RGB, normalised. Output: logits, float32 [N, classes, H, W].
    """

    def __init__(self, segmentor: EncoderDecoder) -> None:
        super().__init__()
        self.backbone = segmentor.backbone
        self.neck = segmentor.neck if segmentor.with_neck else nn.Identity()
        self.decode_head = segmentor.decode_head
        # mmseg/models/segmentors/encoder_decoder.py resizes with this flag of the main head.
        self.align_corners: bool = segmentor.align_corners

    def forward(self, image: Tensor) -> Tensor:
        logits = self.decode_head(self.neck(self.backbone(image)))
        return interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=self.align_corners)


def build_segmentor(
    config: Optional[str], overrides: Mapping[str, Any], *, auxiliary_head: bool = False
) -> EncoderDecoder:
    """mmsegmentation's network of a shipped config, freshly initialised, SyncBN turned into BN.

    `config` is a file name below mmsegmentation's configs; `overrides` has dotted keys, as mmengine's
    `--cfg-options`. Nothing is downloaded. Raises CardError if there is no such config, it does not build, or
    it is no PSPNet.
    """
    if config is None:
        raise CardError("network: a network in the card itself is not built yet")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages, at import
        provide_mmcv_ops()
        import mmseg
        from mmengine.config import Config
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import DefaultScope
        from mmseg.models import EncoderDecoder
        from mmseg.models.decode_heads import PSPHead
        from mmseg.registry import MODELS

        path = Path(mmseg.__file__).parent / ".mim" / "configs" / config
        if not path.is_file():
            raise CardError(
                f"config: mmsegmentation {mmseg.__version__} ships no {config!r}",
                "Name a file below its configs folder.",
            )
        try:
            parsed = Config.fromfile(str(path))
            parsed.merge_from_dict(dict(overrides))
            parsed.model.pretrained = None
            if not auxiliary_head:
                parsed.model.auxiliary_head = None
            with DefaultScope.overwrite_default_scope("mmseg"):
                segmentor = MODELS.build(parsed.model)
        # The classes that the config names raise what they like for arguments that they did not expect.
        except Exception as error:
            raise CardError(
                f"config: {config} does not build: {first_line(error)}", "Check config_overrides."
            ) from error
    if not isinstance(segmentor, EncoderDecoder):
        raise CardError(f"config: {config} is a {type(segmentor).__name__}, not an EncoderDecoder")
    if not isinstance(segmentor.decode_head, PSPHead):
        raise CardError(f"config: {config} is no PSPNet, its head is a {type(segmentor.decode_head).__name__}")
    return revert_sync_batchnorm(segmentor)


def build_network(card: ModelCard, checkpoint: Checkpoint) -> PSPNet:
    """The reference with the checkpoint's weights, in eval mode.

    Raises CheckpointError that lists the keys that are missing, unexpected or of another shape, CardError for a
    network that does not run on the card's images or gives them another number of classes.
    """
    with torch.device("meta"):  # no memory for, and no time in, weights that are about to be replaced
        network = PSPNet(build_segmentor(card.config, card.config_overrides))
    _try_out(network.eval(), card)
    network.load_state_dict(check_state(checkpoint, network.state_dict()), assign=True)
    log.debug("%s: %d parameters", card.name, sum(parameter.numel() for parameter in network.parameters()))
    return network.requires_grad_(False)


def _try_out(network: PSPNet, card: ModelCard) -> None:
    """Run a network that has no memory on images that have none."""
    bins = network.decode_head.pool_scales
    if sum(side * side for side in bins) > _MAX_CELLS:
        raise CardError(f"config_overrides: a pyramid with bins {list(bins)} has more than {_MAX_CELLS} cells")
    try:
        with torch.no_grad():
            classes = network(torch.empty(card.input.shape, device="meta")).shape[1]
    except Exception as error:  # as in build_segmentor
        raise CardError(
            f"config: {card.config} does not run on images of {list(card.input.shape)}: {first_line(error)}",
            "Check config_overrides.",
        ) from error
    if classes != len(card.classes):
        raise CardError(
            f"config: {card.config} has {classes} classes, the card lists {len(card.classes)}",
            "Set model.decode_head.num_classes in config_overrides.",
        )
