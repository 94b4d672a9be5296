"""The options of `info`."""

from __future__ import annotations

from dataclasses import dataclass

from pspnet_convert.options import Options, option


@dataclass(frozen=True)
class InfoOptions(Options):
    """How a card is printed."""

    omz_json: bool = option(
        False, group="Output", help="Print it as Open Model Zoo's omz_info_dumper prints its models."
    )
