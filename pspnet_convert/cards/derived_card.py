"""Make the card of a model that mmsegmentation publishes, from its index and the model's config.

Size and SHA-256 of the checkpoint are not known there: the card has the digest's first eight digits.
"""

from __future__ import annotations

import logging
from urllib.parse import urlsplit

from pspnet_convert.cards import config_card
from pspnet_convert.cards.card import Accuracy, CheckpointFile, License, ModelCard
from pspnet_convert.cards.config_annotations import annotations_of
from pspnet_convert.cards.config_testing import testing_of
from pspnet_convert.cards.in_words import testing_text
from pspnet_convert.cards.model_index import Published, package_folder

# From the index's names to the card's: figures in per cent, taken without flips and at one scale.
_METRICS = {"mIoU": "mean_iou", "mDice": "mean_dice"}
_APACHE = License(
    name="Apache-2.0",
    file="APACHE-2.0-MMSegmentation-Models.txt",
    url="https://raw.githubusercontent.com/open-mmlab/mmsegmentation/master/LICENSE",
)
# As the index and mmsegmentation's package write it, and as the package of its fork does.
_LICENCES = {"Apache License 2.0": _APACHE, "LicenseRef-Apache-2.0": _APACHE}
log = logging.getLogger(__name__)


def derived_card(model: Published) -> ModelCard:
    """The model's card; CardError if its config lacks what a card needs."""
    path = package_folder() / "configs" / model.config
    config = config_card.read_config(path)
    card_input = config_card.input_of(config)
    classes = config_card.dataset_labels(config)
    testing = testing_of(config)
    return ModelCard(
        name=model.name,
        description=_description(model, len(classes)),
        task_type="semantic_segmentation",
        framework="pytorch",
        references=[*model.papers, "https://github.com/open-mmlab/mmsegmentation"],
        files=[CheckpointFile(name=model.file_name, digest_prefix=model.digest_prefix, sources=[model.url])],
        config=model.config,
        input=card_input,
        output=config_card.output_of(card_input, len(classes)),
        classes=classes,
        background=config_card.background_of(classes),
        annotations=annotations_of(config),
        testing=testing,
        accuracy=_accuracy(model, testing_text(testing) if testing else None),
        license=licence_of(model),
    ).at(path)


def _accuracy(model: Published, how: str | None) -> list[Accuracy]:
    return [
        Accuracy(
            metric=_METRICS[name],
            value=value,
            dataset=model.dataset,
            protocol="mmseg",
            measured_by="mmsegmentation, PyTorch model",
            description=how,
        )
        for name, value in model.metrics.items()
        if name in _METRICS
    ]


def licence_of(model: Published) -> License:
    """The licence, with SPDX identifier and text if this tool knows it, else by the index's name for it."""
    return _LICENCES.get(model.licence) or License(name=model.licence)


def _description(model: Published, classes: int) -> str:
    text = (
        f"PSPNet's pyramid head on a {model.backbone} backbone, trained on {model.dataset} by mmsegmentation: "
        f"for every pixel, one of {classes} classes."
    )
    stated, usual = (urlsplit(url).netloc for url in (model.stated_url, model.url))
    if stated == usual:
        return text
    log.warning("%s: its URL in the index has the host %s; using %s, as for the others", model.name, stated, usual)
    return f"{text} (Its URL in mmsegmentation's index has the host {stated}, which is probably misspelled.)"
