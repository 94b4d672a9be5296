"""PSPNet from a PyTorch checkpoint to verified OpenVINO IR.

    import pspnet_convert as pc

    result = pc.run("demo", output_dir="models")
    result.verdict, result.paths.irs

The functions are the commands of the command line, with its options as keywords: `help(pc.run)`. The names below are
imported when they are first used, so that `import pspnet_convert` costs nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.2.0"

if TYPE_CHECKING:
    from pspnet_convert.cards.card import ModelCard, load_card
    from pspnet_convert.commands.benchmark.command import benchmark
    from pspnet_convert.commands.bundle.command import bundle
    from pspnet_convert.commands.check.command import check
    from pspnet_convert.commands.doctor.command import doctor
    from pspnet_convert.commands.download.command import download
    from pspnet_convert.commands.evaluate.command import evaluate
    from pspnet_convert.commands.export_onnx.command import export_onnx
    from pspnet_convert.commands.info.command import info
    from pspnet_convert.commands.list.command import list_models as list
    from pspnet_convert.commands.quantize.command import quantize
    from pspnet_convert.commands.rebuild.command import rebuild
    from pspnet_convert.commands.report.command import report
    from pspnet_convert.commands.run.command import run
    from pspnet_convert.commands.segment.command import segment
    from pspnet_convert.commands.to_ir.command import to_ir
    from pspnet_convert.commands.verify.command import verify
    from pspnet_convert.errors import ConvertError

__all__ = [
    "ConvertError",
    "ModelCard",
    "__version__",
    "benchmark",
    "bundle",
    "check",
    "doctor",
    "download",
    "evaluate",
    "export_onnx",
    "info",
    "list",
    "load_card",
    "quantize",
    "rebuild",
    "report",
    "run",
    "segment",
    "to_ir",
    "verify",
]
# Where a name is that is not its command's own: commands/<name>/command.py.
_ELSEWHERE = {
    "ConvertError": ("errors", "ConvertError"),
    "ModelCard": ("cards.card", "ModelCard"),
    "list": ("commands.list.command", "list_models"),
    "load_card": ("cards.card", "load_card"),
}

# A library is silent unless its user sets up logging; the command line does.
logging.getLogger(__name__).addHandler(logging.NullHandler())


def __dir__() -> Iterable[str]:
    return sorted({*globals(), *__all__})


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _ELSEWHERE.get(name, (f"commands.{name}.command", name))
    return getattr(import_module(f"{__name__}.{module}"), attribute)
