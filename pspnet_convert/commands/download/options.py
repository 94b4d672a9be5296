"""The options of `download`."""

from __future__ import annotations

from dataclasses import dataclass

from pspnet_convert.options import Options, option

SOURCE_VARIABLE = "PSPNET_CONVERT_SOURCE"  # of the environment: sources, separated by blanks


@dataclass(frozen=True)
class DownloadOptions(Options):
    """Where to look for the card's checkpoint before its own sources."""

    source: tuple[str, ...] = option(
        (),
        group="Input",
        type=str,
        multiple=True,
        metavar="URL_OR_DIR",
        show_default=f"${SOURCE_VARIABLE}",
        help="Try this place first: http(s)://, file://, a folder or a file. Repeatable.",
    )
    allow_http_redirect: bool = option(
        False, group="Input", help="Follow a redirect from https to plain http. The digest is checked."
    )
