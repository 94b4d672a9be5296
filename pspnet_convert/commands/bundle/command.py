"""`pspnet-convert bundle`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.bundle.options import BundleOptions
from pspnet_convert.job_options import JobOptions

if TYPE_CHECKING:
    from pspnet_convert.commands.bundle.archive import Bundle


def _show(packed: Bundle, as_json: bool) -> None:
    from pspnet_convert.tables import bundle_table, print_table

    if as_json:
        print_json(packed.as_dict())
    else:
        print_table(bundle_table(packed))


@command(
    Takes(JobOptions, "model", "progress"),
    Takes(BundleOptions),
    show=_show,
    example="pspnet-convert bundle demo -o demo.tar.gz",
)
def bundle(asked: JobOptions, options: BundleOptions) -> Bundle:
    """Pack the verified IRs with a self-test, card, licence, manifest, provenance, SBOM and page into one .tar.gz.

    Exit code 20: the IRs in the workspace are not verified.
    """
    from pspnet_convert.commands.bundle.archive import write_bundle
    from pspnet_convert.job import card_of
    from pspnet_convert.progress import make_progress
    from pspnet_convert.workspace import Workspace

    card = card_of(asked)
    workspace = Workspace(options.output_dir, card.name)
    with workspace.locked():
        return write_bundle(card, workspace, make_progress(asked.progress, sys.stderr), options)
