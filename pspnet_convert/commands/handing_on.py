"""The commands that hand on what was made: packed, and shown to come out the same again."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import click

from pspnet_convert.commands import options
from pspnet_convert.commands.guard import command
from pspnet_convert.commands.options import FILE
from pspnet_convert.commands.output import print_json


class _Uri(click.ParamType):
    name = "URI"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not re.fullmatch(r"[A-Za-z][A-Za-z0-9+.-]*:\S+", str(value)):  # RFC 3986: a scheme, and no blanks
            self.fail(f"{value!r} is no URI, such as https://ci.example/builder", param, ctx)
        return str(value)


@command
@click.option("--check", "manifest", type=FILE, required=True, help="The manifest whose files are made again.")
@click.option("--checkpoint", type=FILE, help="Its checkpoint, where that does not lie beside it.")
@options.progress
def rebuild(manifest: Path, checkpoint: Path | None, progress: str, as_json: bool) -> None:
    """Convert again as a manifest says, in a temporary folder, and compare the digests.

    Exit code 0: the same files; 19: others. Tools whose versions are not the manifest's are named.

    \b
    Example:
      pspnet-convert rebuild --check public/pspnet-pytorch/manifest.json
    """
    from pspnet_convert.progress import make_progress
    from pspnet_convert.rebuild.compare import check_same
    from pspnet_convert.rebuild.compare import rebuild as convert_again
    from pspnet_convert.tables import print_table, rebuild_table

    result = convert_again(manifest, checkpoint, make_progress(progress, sys.stderr))
    if as_json:
        print_json(result.as_dict())
    else:
        print_table(rebuild_table(result))
    check_same(manifest, result)


@command
@options.model
@click.option("-o", "--output", "target", type=FILE, show_default="<model>.tar.gz", help="The archive to write.")
@options.where("--output-dir")
@click.option("--builder-id", type=_Uri(), show_default="the tool's", help="Who converted, for the provenance.")
@click.option("--allow-unverified", is_flag=True, help="Pack what has not passed verification as well.")
@options.progress
def bundle(
    model: str,
    target: Path | None,
    output_dir: Path,
    builder_id: str | None,
    allow_unverified: bool,
    progress: str,
    as_json: bool,
) -> None:
    """Pack the verified IRs with card, licence, manifest, provenance, SBOM and page into one .tar.gz.

    Exit code 20: the IRs have not passed verification as they lie there.

    \b
    Example:
      pspnet-convert bundle demo -o demo.tar.gz
    """
    from pspnet_convert.bundle.archive import bundle as pack
    from pspnet_convert.cards.catalog import find_card
    from pspnet_convert.progress import make_progress
    from pspnet_convert.tables import bundle_table, print_table
    from pspnet_convert.workspace import Workspace

    card = find_card(model)
    workspace = Workspace(output_dir, card.name)
    with workspace.locked():
        packed = pack(
            card,
            workspace,
            target,
            make_progress(progress, sys.stderr),
            builder_id=builder_id,
            allow_unverified=allow_unverified,
        )
    if as_json:
        print_json(packed.as_dict())
    else:
        print_table(bundle_table(packed))
