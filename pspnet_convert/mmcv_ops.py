"""A placeholder for `mmcv.ops` if mmcv has no compiled extension (mmcv-lite).

mmsegmentation imports names from `mmcv.ops` in places that PSPNet never runs. The placeholder lets those imports
pass, and raises DependencyError if anything in it is called.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from typing import Any

from pspnet_convert.errors import DependencyError


class _Placeholder(types.ModuleType):
    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*_: Any, **__: Any) -> Any:
            raise DependencyError(
                f"mmcv.ops.{name} was called, but the installed mmcv has no compiled extension",
                "PSPNet needs none of mmcv.ops; for another model install the full mmcv (below 2.2).",
            )

        return missing


def provide_mmcv_ops() -> None:
    """Make the placeholder importable as `mmcv.ops`, but only if `mmcv._ext` is missing. Idempotent."""
    if "mmcv.ops" not in sys.modules and importlib.util.find_spec("mmcv._ext") is None:
        placeholder = _Placeholder("mmcv.ops", "Placeholder, see pspnet_convert.mmcv_ops")
        # A package without a search path: `import mmcv.ops.something` fails as for a missing module.
        placeholder.__path__ = []
        sys.modules["mmcv.ops"] = placeholder
