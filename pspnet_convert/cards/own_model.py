"""The card of a user's own model: what its config and its checkpoint say, the network as plain data inside.

The config is a Python program and is run here, once: card, manifest and rebuild hold all that came of it, and need it
no more. It comes from the user's own command line, never from a card or manifest.
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pspnet_convert.cards import config_card
from pspnet_convert.cards.card import NOT_STATED, CheckpointFile, ClassLabel, License, ModelCard, explain, load_card
from pspnet_convert.cards.card_yaml import as_yaml
from pspnet_convert.cards.catalog import names
from pspnet_convert.cards.inline_network import WEIGHTS, check_network
from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.errors import CardError, CheckpointError
from pspnet_convert.files import sha256_of, write_text
from pspnet_convert.pytorch.checkpoint import read_metadata

if TYPE_CHECKING:
    from mmengine.config import Config

_SIDE = 512  # of mmsegmentation's usual crops
# Of training, of the pictures (which the card has at its own places), or of what lies beside the decode head's output.
_LEFT_OUT = {
    *WEIGHTS,
    "auxiliary_head",
    "data_preprocessor",
    "ignore_index",
    "loss_decode",
    "sampler",
    "test_cfg",
    "train_cfg",
}
# What of a card neither config nor checkpoint says.
_TEXTS = ("description", "references", "gflops", "mparams", "accuracy", "dataset", "license")
# Classes that mmcv's registry knows by another name than their own.
_REGISTERED = {
    "BatchNorm2d": "BN2d",
    "ConvAWS2d": "ConvAWS",
    "ConvTranspose2d": "deconv",
    "ConvWS2d": "ConvWS",
    "GroupNorm": "GN",
    "Hardswish": "HSwish",
    "InstanceNorm2d": "IN2d",
    "LayerNorm": "LN",
    "SyncBatchNorm": "SyncBN",
}
_MEND = "Mend the classes or the palette in its meta."
log = logging.getLogger(__name__)


def own_card(config_path: Path, checkpoint: Path) -> ModelCard:
    """The card of the model of a config, of mmsegmentation 0.x or 1.x, and a checkpoint; the config is run.

    Raises CardError for a config that cannot be read, or is no PSPNet whose network can lie in a card;
    CheckpointError for a checkpoint that cannot be read, or was trained for another number of classes.
    """
    if not checkpoint.is_file():
        raise CheckpointError(f"{checkpoint}: there is no such checkpoint", "Give the model's own with --checkpoint.")
    config = config_card.read_config(config_path)
    try:
        network = _plain(config.get("model") or {})
        check_network(network)
    except ValueError as error:
        raise CardError(f"{config_path}: model.{error}", "This tool converts mmsegmentation's PSPNet.") from error
    _complete(config, config_path)
    card_input = config_card.input_of(config)
    classes = _classes(read_metadata(checkpoint), config_card.number_of_classes(config), checkpoint)
    try:
        return ModelCard(
            name=_name(config_path),
            description=f"PSPNet by a config of its user's own, {_printable(config_path.name)}.",
            task_type="semantic_segmentation",
            framework="pytorch",
            files=[_described(checkpoint)],
            network=network,
            input=card_input,
            output=config_card.output_of(card_input, len(classes)),
            classes=classes,
            license=License(name=NOT_STATED),
        )
    except ValidationError as error:
        raise CardError(f"{config_path}: {explain(error)}") from error


def with_kept_texts(card: ModelCard, folder: Path) -> ModelCard:
    """The card with what its user has added to the one of this very model that lies in `folder`.

    CardError where that cannot be read. What was said of another checkpoint, its accuracy above all, is not of this.
    """
    path = folder / "model.yml"
    if not path.is_file():
        return card
    kept = load_card(path)
    if kept.checkpoint.sha256 != card.checkpoint.sha256:
        log.warning("%s: is of another checkpoint, and is replaced", path)
        return card
    return card.model_copy(update={name: getattr(kept, name) for name in _TEXTS})


def keep_card(card: ModelCard, folder: Path) -> None:
    """Write the card into `folder` as model.yml, unless it lies there: find_card then takes the folder."""
    path = folder / "model.yml"
    text = as_yaml(card.model_dump(mode="json", exclude_none=True))
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)
        log.info("%s: the card is %s; %s is a MODEL for every command", card.name, path, folder)


def voc_palette(classes: int) -> list[tuple[int, int, int]]:
    """RGB colours by the formula of Pascal VOC's development kit (VOClabelcolormap.m).

    The three lowest bits of a class number are the highest bits of red, green and blue, the next three their second
    highest, and so on.
    """

    def channel(number: int, lowest: int) -> int:
        return sum((number >> (3 * place + lowest) & 1) << (7 - place) for place in range(8))

    return [(channel(number, 0), channel(number, 1), channel(number, 2)) for number in range(classes)]


def _plain(value: Any) -> Any:
    """The section as lists and dictionaries of its own, less what a card's network does not need."""
    if isinstance(value, Mapping):
        kept = {key: _plain(inner) for key, inner in value.items() if key not in _LEFT_OUT}
        if kept.get("_scope_") == "mmseg":  # by mmengine, of a base `mmseg::`; every part of a card is of this scope
            del kept["_scope_"]
        return {**kept, "type": registered(kept["type"])} if isinstance(kept.get("type"), str) else kept
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def registered(kind: str) -> str:
    """The name that mmengine's registries have for a class of OpenMMLab's or PyTorch's; any other as it is."""
    package, name = kind.partition(".")[0], kind.rpartition(".")[2]
    return _REGISTERED.get(name, name) if "." in kind and package in ("mmcv", "mmengine", "mmseg", "torch") else kind


def _complete(config: Config, path: Path) -> None:
    """Put where 1.x configs have it what 0.x configs say elsewhere, and the crop size where there is none."""
    preprocessor = config.get("model", {}).get("data_preprocessor") or config.get("data_preprocessor")
    if not preprocessor:
        normalized = config.get("img_norm_cfg")
        if not normalized:
            raise CardError(
                f"{path}: says neither data_preprocessor nor img_norm_cfg", "Add the mean and std of its training."
            )
        preprocessor = {key: normalized.get(key) for key in ("mean", "std")}
        # mmcv's Normalize turns the colours round unless it is told not to.
        config.data_preprocessor = {**preprocessor, "bgr_to_rgb": normalized.get("to_rgb", True)}
    if not config.get("crop_size") and not preprocessor.get("size"):
        log.warning("%s: has no crop_size, the input is %dx%d", path.name, _SIDE, _SIDE)
        config.crop_size = (_SIDE, _SIDE)


def _classes(metadata: Metadata, number: int, checkpoint: Path) -> list[ClassLabel]:
    labels: Sequence[str] = metadata.classes or []
    if labels and len(labels) != number:
        raise CheckpointError(
            f"{checkpoint}: was trained for {len(labels)} classes, the config has {number}",
            "Give the checkpoint that was trained by this config.",
        )
    if not labels:
        log.warning("%s: does not name its classes: they are numbered", checkpoint.name)
        labels = [f"class {one}" for one in range(number)]
    palette: Sequence[Sequence[int]] = metadata.palette or []
    if len(palette) != number:
        log.warning("%s: has no palette for its %d classes: they get Pascal VOC's", checkpoint.name, number)
        palette = voc_palette(number)
    twice = next((name for name, times in Counter(labels).items() if times > 1), None)
    if twice is not None:
        raise CheckpointError(f"{checkpoint}: has two classes named {twice!r}", _MEND)
    try:
        return config_card.class_labels(labels, palette, number)
    except CardError as error:
        raise CheckpointError(f"{checkpoint}: {error.what}", _MEND) from error


def _described(checkpoint: Path) -> CheckpointFile:
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "_", checkpoint.name).lstrip(".+-")[-200:] or "checkpoint.pth"
    return CheckpointFile(name=name, size=checkpoint.stat().st_size, sha256=sha256_of(checkpoint), sources=[name])


def _name(config_path: Path) -> str:
    """The config's, in a card's letters; CardError for one that the catalog has given to another model."""
    name = re.sub(r"[^a-z0-9_-]+", "-", config_path.stem.lower()).strip("-_")[:100] or "model"
    if name in names():
        raise CardError(
            f"{config_path}: {name} is the name of another model, which `list` shows",
            "Rename the config: your model is called by its file name.",
        )
    return name


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
