"""Make the card of a user's own model from its config and checkpoint, with the network inside as plain data.

The config is a Python program from the user's command line, and is run here only: card, manifest and rebuild do not
need it again, unless it has classes of the user's own (own_network.py).
"""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pspnet_convert.cards import config_card
from pspnet_convert.cards.card import NOT_STATED, CheckpointFile, ClassLabel, License, ModelCard, explain, load_card
from pspnet_convert.cards.card_yaml import as_yaml
from pspnet_convert.cards.catalog import names
from pspnet_convert.cards.config_annotations import annotations_of
from pspnet_convert.cards.config_parts import named_steps, pipeline_of, preprocessor_of
from pspnet_convert.cards.config_testing import testing_of
from pspnet_convert.cards.inline_network import WEIGHTS, check_network
from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.cards.own_network import OwnNetwork, check_own_network, own_classes
from pspnet_convert.cards.registry_names import registered
from pspnet_convert.errors import CardError, CheckpointError
from pspnet_convert.files import sha256_of, write_text

if TYPE_CHECKING:
    from mmengine.config import Config

_DEFAULT_SIDE = 512  # pixels; mmsegmentation's usual crop size
# Keys for training, for the input (the card has that elsewhere) and for what does not change the decode head's output.
_NOT_NEEDED = {
    *WEIGHTS,
    "auxiliary_head",
    "data_preprocessor",
    "ignore_index",
    "loss_decode",
    "sampler",
    "test_cfg",
    "train_cfg",
}
# The fields of a card that neither config nor checkpoint gives.
_KEPT_FIELDS = ("description", "references", "gflops", "mparams", "accuracy", "dataset", "license")
_ADVICE = "Correct the classes or the palette in the checkpoint's meta."
log = logging.getLogger(__name__)


def own_card(config_path: Path, checkpoint: Path, read_metadata: Callable[[Path], Metadata]) -> ModelCard:
    """The card of a model from its config (of mmsegmentation 0.x or 1.x; it is run) and its checkpoint's metadata.

    Raises CardError if the config cannot be read, or is not a PSPNet that a card can describe; CheckpointError if the
    checkpoint was trained for another number of classes, or its class names do not fit a card.
    """
    if not checkpoint.is_file():
        raise CheckpointError(
            f"{checkpoint}: there is no such checkpoint", "Give the model's checkpoint with --checkpoint."
        )
    config = config_card.read_config(config_path)
    network, own, needs_config = _network(config, config_path)
    _complete(config, config_path)
    card_input = config_card.input_of(config)
    classes = _classes(read_metadata(checkpoint), config_card.number_of_classes(config), checkpoint)
    try:
        card = ModelCard(
            name=_name(config_path),
            description=f"PSPNet from a user's config, {_printable(config_path.name)}.",
            task_type="semantic_segmentation",
            framework="pytorch",
            files=[_checkpoint_file(checkpoint)],
            network=network,
            needs_config=needs_config,
            input=card_input,
            output=config_card.output_of(card_input, len(classes)),
            classes=classes,
            annotations=annotations_of(config, [label.name for label in classes]),
            testing=testing_of(config),
            license=License(name=NOT_STATED),
        )
    except ValidationError as error:
        raise CardError(f"{config_path}: {explain(error)}") from error
    return card if own is None else card.built_from(own)


def _network(config: Config, path: Path) -> tuple[dict[str, Any] | None, OwnNetwork | None, str | None]:
    """The card's network; or, if it has classes of the user's own, what it is built from and its digest.

    CardError for a network that this tool does not convert.
    """
    network = _plain(config.get("model") or {})
    advice = (
        "This tool converts mmsegmentation's PSPNet. Classes of your own must be registered by the config's imports."
    )
    try:
        classes = own_classes(network)
        if not classes:
            check_network(network)
            return network, None, None
        check_own_network(network)
    except ValueError as error:
        raise CardError(f"{path}: model.{error}", advice) from error
    names = ", ".join(sorted({str(getattr(kind, "__name__", kind)) for kind in classes.values()}))
    log.warning("%s: has classes of its own (%s): the commands that build the network need --config", path.name, names)
    own = OwnNetwork(path, config)
    return None, own, own.digest(classes)


def with_kept_texts(card: ModelCard, folder: Path) -> ModelCard:
    """The card with what the user has added to this model's card in `folder`; CardError if that cannot be read.

    A card of another checkpoint is ignored: its accuracy, above all, is not this checkpoint's.
    """
    path = folder / "model.yml"
    if not path.is_file():
        return card
    kept = load_card(path)
    if kept.checkpoint.sha256 != card.checkpoint.sha256:
        log.warning("%s: describes another checkpoint and is replaced", path)
        return card
    return card.model_copy(update={name: getattr(kept, name) for name in _KEPT_FIELDS})


def keep_card(card: ModelCard, folder: Path) -> None:
    """Write the card to model.yml in `folder`, unless it is there already. find_card then accepts the folder."""
    path = folder / "model.yml"
    text = as_yaml(card.model_dump(mode="json", exclude_none=True))
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)
        log.info("%s: wrote the card %s; every command takes %s as MODEL", card.name, path, folder)


def voc_palette(classes: int) -> list[tuple[int, int, int]]:
    """RGB colours by the formula of Pascal VOC's development kit (VOClabelcolormap.m).

    The three lowest bits of a class number are the highest bits of red, green and blue, the next three their second
    highest, and so on.
    """

    def channel(number: int, lowest: int) -> int:
        return sum((number >> (3 * place + lowest) & 1) << (7 - place) for place in range(8))

    return [(channel(number, 0), channel(number, 1), channel(number, 2)) for number in range(classes)]


def _plain(value: Any) -> Any:
    """A copy of the section as plain lists and dictionaries, without what a card's network does not need."""
    if isinstance(value, Mapping):
        kept = {key: _plain(inner) for key, inner in value.items() if key not in _NOT_NEEDED}
        if kept.get("_scope_") == "mmseg":  # set by mmengine for a base `mmseg::`; a card needs no scope
            del kept["_scope_"]
        return {**kept, "type": registered(kept["type"])} if isinstance(kept.get("type"), str) else kept
    return [_plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _complete(config: Config, path: Path) -> None:
    """Set the crop size if there is none; CardError if nothing says how the input is normalised."""
    preprocessor = preprocessor_of(config)
    if not preprocessor and not named_steps(pipeline_of(config), "Normalize"):
        raise CardError(
            f"{path}: has neither data_preprocessor nor img_norm_cfg", "Add the mean and std used in training."
        )
    if not config.get("crop_size") and not preprocessor.get("size"):
        log.warning("%s: has no crop_size, the input is %dx%d", path.name, _DEFAULT_SIDE, _DEFAULT_SIDE)
        config.crop_size = (_DEFAULT_SIDE, _DEFAULT_SIDE)


def _classes(metadata: Metadata, number: int, checkpoint: Path) -> list[ClassLabel]:
    labels: Sequence[str] = metadata.classes or []
    palette: Sequence[Sequence[int]] = metadata.palette or []
    if (len(labels), number) == (1, 2):  # a head of one class: 0 is all that is not this class
        labels, palette = ["background", *labels], [(0, 0, 0), *palette]
    if labels and len(labels) != number:
        raise CheckpointError(
            f"{checkpoint}: was trained for {len(labels)} classes, the config has {number}",
            "Give the checkpoint that was trained with this config.",
        )
    if not labels:
        log.warning("%s: does not name its classes; numbering them", checkpoint.name)
        labels = [f"class {one}" for one in range(number)]
    if len(palette) != number:
        log.warning("%s: has no palette for its %d classes; using Pascal VOC's", checkpoint.name, number)
        palette = voc_palette(number)
    repeated = next((name for name, times in Counter(labels).items() if times > 1), None)
    if repeated is not None:
        raise CheckpointError(f"{checkpoint}: has two classes named {repeated!r}", _ADVICE)
    try:
        return config_card.class_labels(labels, palette, number)
    except CardError as error:
        raise CheckpointError(f"{checkpoint}: {error.what}", _ADVICE) from error


def _checkpoint_file(checkpoint: Path) -> CheckpointFile:
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "_", checkpoint.name).lstrip(".+-")[-200:] or "checkpoint.pth"
    return CheckpointFile(name=name, size=checkpoint.stat().st_size, sha256=sha256_of(checkpoint), sources=[name])


def _name(config_path: Path) -> str:
    """The config's file name in the letters of a card's name; CardError if the catalog has a model of that name."""
    name = re.sub(r"[^a-z0-9_-]+", "-", config_path.stem.lower()).strip("-_")[:100] or "model"
    if name in names():
        raise CardError(
            f"{config_path}: {name} is the name of a model in the catalog",
            "Rename the config: your model is named after that file.",
        )
    return name


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
