"""The options of `list`."""

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
