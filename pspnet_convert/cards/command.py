"""`pspnet-convert list` and `pspnet-convert info`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pspnet_convert.cards.options import InfoOptions, ListOptions
from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.job_options import JobOptions

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard
    from pspnet_convert.cards.catalog import Listed


def _show_list(models: Sequence[Listed], as_json: bool) -> None:
    from pspnet_convert.tables import CATALOG_WIDTH, catalog_table, print_table

    if not models:
        print("no model fits; list without filters shows all", file=sys.stderr)
    if as_json:
        print_json([model.as_dict() for model in models])
    elif models:
        print_table(catalog_table(models), CATALOG_WIDTH)


@command(
    Takes(ListOptions),
    show=_show_list,
    example="pspnet-convert list --dataset cityscapes --backbone r-50",
    name="list",
)
def list_models(options: ListOptions) -> Sequence[Listed]:
    """List the models that MODEL can be: those that come with the tool, and all of mmsegmentation's with PSPNet's head.

    The filters ignore capital letters. sha256 is how the checkpoint's digest begins.
    """
    from pspnet_convert.cards.catalog import listed

    return listed(options.dataset, options.backbone, options.search)


def _show_info(found: ModelCard | list[dict[str, Any]], as_json: bool) -> None:
    from pspnet_convert.tables import card_table, print_table

    if isinstance(found, list):
        print_json(found)
    elif as_json:
        print_json(found.model_dump(mode="json", exclude_none=True))
    else:
        print_table(card_table(found))


@command(Takes(JobOptions, "model"), Takes(InfoOptions), show=_show_info, example="pspnet-convert info demo --json")
def info(asked: JobOptions, options: InfoOptions) -> ModelCard | list[dict[str, Any]]:
    """Print a model's card."""
    from pspnet_convert.cards import catalog
    from pspnet_convert.cards.card import ModelCard
    from pspnet_convert.cards.omz_info import omz_info

    model = asked.model or catalog.DEFAULT_MODEL
    card = model if isinstance(model, ModelCard) else catalog.find_card(model)
    return [omz_info(card)] if options.omz_json else card
