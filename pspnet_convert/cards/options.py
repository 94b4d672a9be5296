"""The options of `list` and `info`."""

from __future__ import annotations

from dataclasses import dataclass

from pspnet_convert.options import Options, option


@dataclass(frozen=True)
class ListOptions(Options):
    """Filters; capital letters do not matter."""

    dataset: str = option(
        "", group="Input", type=str, metavar="TEXT", help="Only models whose dataset's name contains this."
    )
    backbone: str = option(
        "", group="Input", type=str, metavar="TEXT", help="Only models whose backbone's name contains this."
    )
    search: str = option(
        "", group="Input", type=str, metavar="TEXT", help="Only models with this in name, dataset or backbone."
    )


@dataclass(frozen=True)
class InfoOptions(Options):
    """How a card is printed."""

    omz_json: bool = option(
        False, group="Output", help="Print it as Open Model Zoo's omz_info_dumper prints its models."
    )
