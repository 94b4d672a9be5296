"""`pspnet-convert info`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.info.options import InfoOptions
from pspnet_convert.job_options import JobOptions

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard


def _show(found: ModelCard | list[dict[str, Any]], as_json: bool) -> None:
    from pspnet_convert.tables import card_table, print_table

    if isinstance(found, list):
        print_json(found)
    elif as_json:
        print_json(found.model_dump(mode="json", exclude_none=True))
    else:
        print_table(card_table(found))


@command(Takes(JobOptions, "model"), Takes(InfoOptions), show=_show, example="pspnet-convert info demo --json")
def info(asked: JobOptions, options: InfoOptions) -> ModelCard | list[dict[str, Any]]:
    """Print a model's card."""
    from pspnet_convert.cards.omz_info import omz_info
    from pspnet_convert.job import card_of

    card = card_of(asked)
    return [omz_info(card)] if options.omz_json else card
