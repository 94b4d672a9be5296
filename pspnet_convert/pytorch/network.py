"""Build the reference of a card, mmsegmentation's PSPNet, and load a checkpoint's weights into it."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad
from torch.nn.modules.module import register_module_module_registration_hook
from torch.overrides import TorchFunctionMode

from pspnet_convert.cards.card import ModelCard
from pspnet_convert.errors import CardError, DependencyError, first_line
from pspnet_convert.mmcv_ops import provide_mmcv_ops
from pspnet_convert.pytorch.batchnorm import run_on_meta
from pspnet_convert.pytorch.checkpoint import Checkpoint, FittedWeights, fit_weights

if TYPE_CHECKING:
    from mmengine.config import ConfigDict
    from mmseg.models import EncoderDecoder

_MAX_MODULES = 5000  # the largest network that mmsegmentation publishes with this head has 530
_MAX_CELLS = 1024  # of all bins together; PSPNet's pyramid has 50, and the work grows with their number
_TAKE_LISTS = ("FPN", "MLANeck", "MultiLevelNeck")  # these assert lists; CGNet, JPU and MobileNetV3 assert tuples
log = logging.getLogger(__name__)


class PSPNet(nn.Module):
    """Backbone, neck (if any) and pyramid head in test mode `whole`, as mmsegmentation's EncoderDecoder runs them.

    Input: float32 [N, C, H, W], normalised, channels as in the card's color_order. Output: logits, float32
    [N, classes, H, W].

    A binary head gives one score, and mmsegmentation has a threshold for the score's sigmoid. This network gives two
    logits: the threshold as a score (decision_score), and the head's score. Class 1 has the larger one where the
    sigmoid is above the threshold.
    """

    is_as_written = False  # whether rewrites must leave it alone
    runs_on_meta = True  # whether its shapes can be found without values

    def __init__(self, segmentor: EncoderDecoder, channels: int = 3) -> None:
        super().__init__()
        self.backbone = segmentor.backbone
        self.neck = segmentor.neck if segmentor.with_neck else nn.Identity()
        self.decode_head = segmentor.decode_head
        self._set_up(segmentor, channels)

    def _set_up(self, segmentor: EncoderDecoder, channels: int) -> None:
        self.channels = channels
        # mmseg/models/segmentors/encoder_decoder.py resizes with this flag of the main head.
        self.align_corners: bool = segmentor.align_corners
        is_binary = segmentor.decode_head.out_channels == 1
        self.decision_score = decision_score(segmentor.decode_head.threshold) if is_binary else None

    @property
    def with_weights(self) -> nn.Module:
        """The module whose tensors have the checkpoint's names."""
        return self

    def logits(self, image: Tensor) -> Tensor:
        """The head's logits, at the image's size."""
        logits = self.decode_head(self.neck(self.backbone(image)))
        return interpolate(logits, size=image.shape[2:], mode="bilinear", align_corners=self.align_corners)

    def check_answers(self) -> None:
        """Raise CardError if mmsegmentation gives other labels than these logits."""

    def forward(self, image: Tensor) -> Tensor:
        with redirect_stdout(sys.stderr):  # stdout is for the command's result, and the user's code may print
            logits = self.logits(image)
        if self.decision_score is None:
            return logits
        # A padding: ONNX and IR then have the threshold as one number, not as a map.
        return pad(logits, (0, 0, 0, 0, 1, 0), value=self.decision_score)


def decision_score(threshold: float) -> float:
    """The largest float32 whose sigmoid is not above `threshold`, so that `score > decision_score` decides as
    `sigmoid(score) > threshold` does: mmsegmentation's BaseSegmentor.postprocess_result. CardError unless it is 0..1.
    """
    if not isinstance(threshold, (int, float)) or not 0 < threshold < 1:
        raise CardError(f"decode_head.threshold is {threshold}; it must be between 0 and 1")
    low, high = (torch.tensor(value, dtype=torch.float32, device="cpu") for value in (-200.0, 200.0))
    while (middle := (low + high) / 2) not in (low, high):
        # Of many values at once, as in an image: torch rounds a single one in another way.
        is_above = bool((torch.sigmoid(middle.repeat(64)) > threshold).any())
        low, high = (low, middle) if is_above else (middle, high)
    return float(low)


def build_segmentor(config: str, overrides: Mapping[str, Any], *, auxiliary_head: bool = False) -> EncoderDecoder:
    """The network of a config that mmsegmentation ships, freshly initialised, with SyncBN turned into BN.

    `config` is a file name below mmsegmentation's configs; `overrides` has dotted keys, as mmengine's
    `--cfg-options`. Nothing is downloaded. Raises CardError if the config is missing, does not build, or is not a
    PSPNet.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of missing optional packages
        provide_mmcv_ops()
        import mmseg
        from mmengine.config import Config

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
        except Exception as error:  # mmengine raises many kinds for keys that do not fit the config
            raise CardError(
                f"config: {config} does not build: {first_line(error)}", "Check config_overrides."
            ) from error
    return build(parsed.model, f"config: {config}", "Check config_overrides.")


def build_inline(network: Mapping[str, Any]) -> EncoderDecoder:
    """As build_segmentor, from the network inside a card (inline_network.py). CardError if it does not build."""
    from mmengine.config import ConfigDict

    return build(ConfigDict(_with_tuples(network)), "network: the card's", "Compare it with the config it came from.")


def _with_tuples(value: Any) -> Any:
    """Turn lists into tuples, which some classes require, except for the classes that require lists."""
    if isinstance(value, Mapping):
        takes_lists = value.get("type") in _TAKE_LISTS
        return {key: inner if takes_lists else _with_tuples(inner) for key, inner in value.items()}
    return tuple(_with_tuples(inner) for inner in value) if isinstance(value, list) else value


def build(model: ConfigDict, named: str, advice: str, *, limit: bool = True) -> EncoderDecoder:
    """The segmentor of a config's `model` section; `named` and `advice` are for errors. CardError if it does not build,
    or, unless there is no `limit`, has more than _MAX_MODULES layers."""
    head = model.get("decode_head")
    if isinstance(head, dict) and head.get("input_transform") == "multiple_select":
        raise CardError(
            f"{named} has decode_head.input_transform 'multiple_select', which gives a list of maps; PSPHead takes one",
            "Use None for one of the backbone's maps, or 'resize_concat' to combine several.",
        )
    with warnings.catch_warnings(), redirect_stdout(sys.stderr):
        warnings.simplefilter("ignore")  # as above
        provide_mmcv_ops()
        from mmengine.model import revert_sync_batchnorm
        from mmengine.registry import DefaultScope
        from mmseg.models import EncoderDecoder
        from mmseg.models.decode_heads import PSPHead
        from mmseg.registry import MODELS

        try:
            with (
                DefaultScope.overwrite_default_scope("mmseg"),
                _limited_modules(_MAX_MODULES if limit else sys.maxsize),
                _ValuesOfLinspace(),
            ):
                segmentor = MODELS.build(model)
        except DependencyError:
            raise
        # The named classes raise errors of any kind for arguments that they do not expect.
        except Exception as error:
            raise CardError(f"{named} does not build: {first_line(error)}", advice) from error
    if not isinstance(segmentor, EncoderDecoder):
        raise CardError(f"{named} is a {type(segmentor).__name__}, not an EncoderDecoder")
    if not isinstance(segmentor.decode_head, PSPHead):
        raise CardError(f"{named} is no PSPNet, its head is a {type(segmentor.decode_head).__name__}")
    return revert_sync_batchnorm(segmentor)


class _ValuesOfLinspace(TorchFunctionMode):
    """torch.linspace gives values on the meta device too: transformers read them while they are built."""

    def __torch_function__(
        self, function: Any, types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        on_cpu = {"device": "cpu"} if function is torch.linspace else {}
        return function(*args, **{**(kwargs or {}), **on_cpu})


@contextmanager
def _limited_modules(most: int) -> Iterator[None]:
    """RuntimeError in the block at module `most` + 1: one number in a card may ask for millions of them."""
    built = 0

    def count(*_: Any) -> None:
        nonlocal built
        built += 1
        if built > most:
            raise RuntimeError(f"it has more than {most} layers")

    hook = register_module_module_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def build_network(card: ModelCard, checkpoint: Checkpoint) -> PSPNet:
    """The reference with the checkpoint's weights, in eval mode.

    Raises what empty_network and load_weights raise.
    """
    network = empty_network(card)
    load_weights(network, checkpoint)
    return network


def empty_network(card: ModelCard) -> PSPNet:
    """The reference without weights, in eval mode.

    Raises CardError for a network that does not run on the card's images or gives them another number of classes.
    """
    if card.needs_config is not None:
        from pspnet_convert.pytorch.own_psp_net import build_own_network

        network = build_own_network(card)
    else:
        with torch.device("meta"):  # no memory and no time for weights that are replaced later
            network = PSPNet(_segmentor(card), card.input.channels)
    _try_out(network.eval(), card)
    log.debug("%s: %d parameters", card.name, sum(parameter.numel() for parameter in network.parameters()))
    return network


def load_weights(network: PSPNet, checkpoint: Checkpoint) -> FittedWeights:
    """Give the checkpoint's weights to the network.

    CheckpointError if they do not fit it, as fit_weights says; CardError as check_answers says.
    """
    holder = network.with_weights
    found = fit_weights(checkpoint, holder.state_dict())
    holder.load_state_dict(found.state, assign=True)
    network.requires_grad_(False)
    network.check_answers()
    return found


def _segmentor(card: ModelCard) -> EncoderDecoder:
    if card.network is not None:
        return build_inline(card.network)
    assert card.config is not None  # a card has one of these, or needs its config
    return build_segmentor(card.config, card.config_overrides)


def _try_out(network: PSPNet, card: ModelCard) -> None:
    """Run the network on the meta device (shapes without values), and check its pyramid and number of classes."""
    named = f"config: {card.config}" if card.config else "network: the card's"
    if card.own_network is not None:
        named = f"{card.own_network.path}: model"
    bins = [] if network.is_as_written else network.decode_head.pool_scales
    if sum(side * side for side in bins) > _MAX_CELLS:
        raise CardError(f"decode_head.pool_scales: a pyramid with bins {list(bins)} has more than {_MAX_CELLS} cells")
    try:
        with torch.no_grad():
            classes = _output_of(network, card).shape[1]
    except Exception as error:  # as in build_segmentor
        raise CardError(
            f"{named} does not run on images of {list(card.input.shape)}: {first_line(error)}",
            "Compare the card with the config it came from.",
        ) from error
    if classes != len(card.classes):
        raise CardError(
            f"{named} has {classes} classes, the card lists {len(card.classes)}",
            "Correct decode_head.num_classes, or the card's classes.",
        )


def _output_of(network: PSPNet, card: ModelCard) -> Tensor:
    """What the network gives for an image of the card: its shape alone, unless its code needs values."""
    try:
        return run_on_meta(network, card.input.shape)  # type: ignore[no-any-return]
    except Exception:
        if card.own_network is None:
            raise
    log.debug("%s: does not run on the meta device, and is not rewritten", card.name)
    network.runs_on_meta = False
    return network(torch.zeros(card.input.shape))  # type: ignore[no-any-return]
