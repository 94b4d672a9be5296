"""Make the card of a user's own model from its config and checkpoint, with the network inside as plain data.

The config is a Python program from the user's command line, and is run here only: card, manifest and rebuild do not
need it again, unless it has classes of the user's own (own_network.py).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from pspnet_convert.cards import config_card
from pspnet_convert.cards.card import NOT_STATED, CheckpointFile, License, ModelCard, explain, load_card
from pspnet_convert.cards.card_yaml import as_yaml
from pspnet_convert.cards.catalog import names
from pspnet_convert.cards.config_annotations import annotations_of
from pspnet_convert.cards.config_parts import named_steps, pipeline_of, preprocessor_of
from pspnet_convert.cards.config_testing import testing_of
from pspnet_convert.cards.inline_network import WEIGHTS, NotConvertedError, check_network
from pspnet_convert.cards.metadata import Metadata
from pspnet_convert.cards.own_labels import Labels, labels_of
from pspnet_convert.cards.own_network import OwnNetwork, check_own_network, check_preprocessor, own_classes
from pspnet_convert.cards.registry_names import registered, without_own_scope
from pspnet_convert.errors import CardError, CheckpointError, ConvertError, OptionError, first_line
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
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Given:
    """What the user says of the model besides config and checkpoint. `weights` and `prefix`: see CheckpointFile."""

    name: str | None = None
    labels: Labels = field(default_factory=Labels)
    weights: str | None = None
    prefix: str | None = None


def own_card(
    config_path: Path | None,
    checkpoint: Path,
    read_metadata: Callable[[Path], Metadata],
    given: Given = Given(),
    digest_of: Callable[[Path], str] = sha256_of,
) -> ModelCard:
    """The card of a model from its config (of mmsegmentation 0.x or 1.x; it is run) and its checkpoint's metadata.

    Without a config: by the one in these metadata, which is read as data and not run. Raises CardError if the config
    cannot be read, or is not a PSPNet that a card can describe; CheckpointError if the checkpoint was trained for
    another number of classes, has no config where one is needed, or its class names do not fit a card; OptionError if
    what is `given` does not fit.
    """
    if not checkpoint.is_file():
        raise CheckpointError(
            f"{checkpoint}: there is no such checkpoint", "Give the model's checkpoint with --checkpoint."
        )
    metadata = read_metadata(checkpoint)
    if config_path is not None:
        described = f"a user's config, {_printable(config_path.name)}"
        named = replace(given, name=_name(given.name, config_path.stem))
        config = config_card.read_config(config_path)
        return _card_of(config, config_path, checkpoint, metadata, named, described, digest_of)
    config = config_card.config_of_text(metadata.config, checkpoint)
    described = f"the config in {_printable(checkpoint.name)}"
    named = replace(given, name=_name(given.name, metadata.experiment or checkpoint.stem))
    try:
        return _card_of(config, checkpoint, checkpoint, metadata, named, described, digest_of, only_known=True)
    except ConvertError:
        raise
    except Exception as error:  # the text may have anything anywhere
        raise CheckpointError(
            f"{checkpoint}: the config in its metadata is not as mmsegmentation's: {first_line(error)}",
            "Give the model's config with --config.",
        ) from error


def _card_of(
    config: Config,
    config_path: Path,
    checkpoint: Path,
    metadata: Metadata,
    given: Given,
    described: str,
    digest_of: Callable[[Path], str],
    *,
    only_known: bool = False,
) -> ModelCard:
    """The card; `given.name` is there. `only_known`: as in annotations_of, and no class of the user's is imported."""
    network, own, needs_config = _network(config, config_path, only_known=only_known)
    _complete(config, config_path)
    card_input = config_card.input_of(config)
    number = config_card.number_of_classes(config)
    classes = labels_of(config, metadata, given.labels, number, str(checkpoint))
    try:
        card = ModelCard(
            name=str(given.name),
            description=f"PSPNet from {described}.",
            task_type="semantic_segmentation",
            framework="pytorch",
            files=[_checkpoint_file(checkpoint, digest_of(checkpoint), given)],
            network=network,
            needs_config=needs_config,
            input=card_input,
            output=config_card.output_of(card_input, len(classes)),
            classes=classes,
            background=config_card.background_of(classes),
            annotations=annotations_of(config, only_known=only_known),
            testing=testing_of(config),
            license=License(name=NOT_STATED),
        )
    except ValidationError as error:
        raise CardError(f"{config_path}: {explain(error)}") from error
    return card if own is None else card.built_from(own)


def _network(
    config: Config, path: Path, *, only_known: bool
) -> tuple[dict[str, Any] | None, OwnNetwork | None, str | None]:
    """The card's network; or, if it has classes of the user's own, what it is built from and its digest.

    CardError for a network that this tool does not convert.
    """
    network = _plain(config.get("model") or {})
    of_own = "need the config: give it with --config" if only_known else "must be registered by the config's imports"
    advice = f"This tool converts mmsegmentation's PSPNet. Classes of your own {of_own}."
    try:
        classes = {} if only_known else own_classes(network)
        check_preprocessor(config, only_known=only_known)
        if not classes:
            check_network(network)
            return network, None, None
        check_own_network(network)
    except NotConvertedError as error:
        raise CardError(f"{path}: model.{error}", "Train the network with another part.") from error
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
    fields = {name: getattr(kept, name) for name in _KEPT_FIELDS}
    if kept.background in (None, *card.class_names):
        fields["background"] = kept.background
    return card.model_copy(update=fields)


def keep_card(card: ModelCard, folder: Path) -> None:
    """Write the card to model.yml in `folder`, unless it is there already. find_card then accepts the folder."""
    path = folder / "model.yml"
    text = as_yaml(card.model_dump(mode="json", exclude_none=True))
    if not path.is_file() or path.read_text(encoding="utf-8", errors="replace") != text:
        write_text(path, text)
        log.info("%s: wrote the card %s; every command takes %s as MODEL", card.name, path, folder)


def _plain(value: Any) -> Any:
    """A copy of the section as plain lists and dictionaries, without what a card's network does not need."""
    if isinstance(value, Mapping):
        kept = {key: _plain(inner) for key, inner in without_own_scope(value).items() if key not in _NOT_NEEDED}
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


def _checkpoint_file(checkpoint: Path, digest: str, given: Given) -> CheckpointFile:
    name = re.sub(r"[^A-Za-z0-9_.+-]+", "_", checkpoint.name).lstrip(".+-")[-200:] or "checkpoint.pth"
    chosen = {"weights": given.weights, "prefix": given.prefix}
    return CheckpointFile(name=name, size=checkpoint.stat().st_size, sha256=digest, sources=[name], **chosen)


def _name(given: str | None, stated: str) -> str:
    """The name that the user gave, or the config's in the letters of a card's name; `-own` after one of the catalog.

    All other commands would take a name of the catalog for its model. OptionError if the user gave one.
    """
    taken = set(names())
    if given in taken:
        raise OptionError(f"--name: {given} is the name of a model in the catalog", "Give your model another name.")
    if given is not None:
        return given
    name = re.sub(r"[^a-z0-9_-]+", "-", stated.lower()).strip("-_")[:100] or "model"
    return f"{name[:96]}-own" if name in taken else name


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else "?" for character in text)
