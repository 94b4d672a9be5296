"""`pspnet-convert check`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pspnet_convert.command_line import Takes, command, print_json
from pspnet_convert.commands.check.options import CheckOptions

if TYPE_CHECKING:
    from pspnet_convert.commands.check.check import Checked


def _show(checked: Checked, as_json: bool) -> None:
    if as_json:
        print_json(checked.as_dict())
    else:
        print("\n".join(checked.in_words))


@command(Takes(CheckOptions), show=_show, example="pspnet-convert check demo.tar.gz --key key.pub.pem")
def check(options: CheckOptions) -> Checked:
    """Check a bundle, an archive or a folder: all digests, the signature, and its IRs on this machine.

    It needs no PyTorch, and runs no code of the bundle: the self-test is this tool's own.

    Exit code 5: a file is missing, has changed, or is in no record; 21: the signature; 20: the IRs were not verified;
    9 and 10: the self-test, as for `verify`.
    """
    from pspnet_convert.commands.check.check import check_bundle

    assert options.bundle is not None, "click and the signature require it"
    return check_bundle(options.bundle, options)
