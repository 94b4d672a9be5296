"""How an IR is quantized: what the user's options say, and what the search for a better INT8 IR varies."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self

from pspnet_convert.commands.quantize.options import OverflowFix, Preset, QuantizeOptions
from pspnet_convert.errors import OptionError


@dataclass(frozen=True)
class Recipe:
    """NNCF's settings for one INT8 IR.

    `preset`: performance quantizes activations symmetrically, mixed asymmetrically; weights are symmetric.
    `accurate_bias`: correct each bias by running the quantized layers before it, in place of the fast estimate.
    `smooth`: SmoothQuant's alpha for convolutions, 0..1; None: without it. `ignored`: the names of layers that stay in
    floating point.
    """

    preset: Preset = "performance"
    overflow_fix: OverflowFix = "enable"
    accurate_bias: bool = False
    smooth: float | None = None
    ignored: tuple[str, ...] = ()

    @classmethod
    def of(cls, options: QuantizeOptions, ignored: tuple[str, ...]) -> Self:
        """What the user asked for; `ignored`: the layers that options.ignore_layer matches."""
        return cls(options.preset, options.overflow_fix, ignored=ignored)

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> Self:
        """The recipe that `as_record` gave."""
        return cls(**{**record, "ignored": tuple(record["ignored"])})

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "ignored": list(self.ignored)}


PLAIN_RECIPE = Recipe()


def matching_layers(names: Sequence[str], patterns: Sequence[str]) -> tuple[str, ...]:
    """Those of the layers' `names` that begin with one of `patterns`, as text or as a regular expression (NNCF's rule).

    OptionError for a pattern that matches none, or is no regular expression.
    """
    found: set[str] = set()
    for pattern in patterns:
        if not pattern:
            raise OptionError("--ignore-layer is empty: each layer's name begins so", "Leave it out, or name a layer.")
        try:
            expression = re.compile(pattern)
        except re.error as error:
            raise OptionError(f"--ignore-layer {pattern}: is no regular expression: {error}") from error
        matching = [name for name in names if name.startswith(pattern) or expression.match(name)]
        if not matching:
            raise OptionError(
                f"--ignore-layer {pattern}: no layer of the FP32 IR has such a name",
                f"It has {', '.join(names[:3])} and {len(names) - 3} more." if len(names) > 3 else None,
            )
        found.update(matching)
    return tuple(name for name in names if name in found)
