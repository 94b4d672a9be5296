"""`pspnet-convert list`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.list.options import ListOptions

if TYPE_CHECKING:
    from pspnet_convert.cards.catalog import Listed


def _show(models: Sequence[Listed], as_json: bool) -> None:
    from pspnet_convert.tables import CATALOG_WIDTH, catalog_table, print_table

    if not models:
        print("no model fits; list without filters shows all", file=sys.stderr)
    if as_json:
        print_json([model.as_dict() for model in models])
    elif models:
        print_table(catalog_table(models), CATALOG_WIDTH)


@command(
    Takes(ListOptions),
    show=_show,
    example="pspnet-convert list --dataset cityscapes --backbone r-50",
    name="list",
)
def list_models(options: ListOptions) -> Sequence[Listed]:
    """List the models that MODEL can be: those that come with the tool, and all of mmsegmentation's with PSPNet's head.

    The filters ignore capital letters. sha256 is how the checkpoint's digest begins.
    """
    from pspnet_convert.cards.catalog import listed

    return listed(options.dataset, options.backbone, options.search)
