"""From a card to the reference: mmsegmentation's own PSPNet, RGB normalised in, logits at the input's size out.

Builds and fills the network; what is in the checkpoint file is checkpoint.py's business.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pspnet_convert.card import ModelCard
from pspnet_convert.checkpoint import Checkpoint, check_state
from pspnet_convert.errors import CardError
from pspnet_convert.mmcv_ops import provide_mmcv_ops

if TYPE_CHECKING:
    from mmseg.models import EncoderDecoder

log = logging.getLogger(__name__)


class PSPNet(nn.Module):
    """Backbone and pyramid head in test mode `whole`, as mmsegmentation's EncoderDecoder runs them.

    Input: float32 [N, 3, H, W], RGB, normalised. Output: logits, float32 [N, classes, H, W].
    """

    def __init__(self, segmentor: EncoderDecoder) -> None:
        super().__init__()
        self.backbone = segmentor.backbone
        self.decode_head = segmentor.decode_head
        # mmseg/models/segmentors/encoder_decoder.py resizes with this flag of the main head.
        self.align_corners: bool = segmentor.align_corners

    def forward(self, image: Tensor) -> Tensor:
        logits = self.decode_head(self.backbone(image))
        return interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=self.align_corners)


def build_segmentor(config: str, overrides: Mapping[str, Any], *, auxiliary_head: bool = False) -> EncoderDecoder:
    """mmsegmentation's network of a shipped config, freshly initialised, SyncBN turned into BN.

    `config` is a file name below mmsegmentation's configs; `overrides` has dotted keys, as mmengine's
    `--cfg-options`. Nothing is downloaded. Raises CardError if there is no such config or it does not build.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages, at import
        provide_mmcv_ops()
        import mmseg
        from mmengine.config import Config
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import DefaultScope
        from mmseg.models import EncoderDecoder
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
        except (KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
            raise CardError(f"config: {config} does not build: {error}", "Check config_overrides.") from error
    if not isinstance(segmentor, EncoderDecoder):
        raise CardError(f"config: {config} is a {type(segmentor).__name__}, not an EncoderDecoder")
    return revert_sync_batchnorm(segmentor)


def build_network(card: ModelCard, checkpoint: Checkpoint) -> PSPNet:
    """The reference with the checkpoint's weights, in eval mode.

    Raises CheckpointError that lists the keys that are missing, unexpected or of another shape.
    """
    with torch.device("meta"):  # no memory for, and no time in, weights that are about to be replaced
        network = PSPNet(build_segmentor(card.config, card.config_overrides))
    network.load_state_dict(check_state(checkpoint, network.state_dict()), assign=True)
    log.debug("%s: %d parameters", card.name, sum(parameter.numel() for parameter in network.parameters()))
    return network.eval().requires_grad_(False)
