"""The order of the stages: the one place that has it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeVar

Done = TypeVar("Done")

CONVERSION = ("download", "export-onnx", "to-ir", "verify")  # the stages of `run`
INT8 = ("quantize", "verify-int8", "evaluate-int8")  # the stages of `quantize`
SEARCH = "search-int8"  # of `quantize --max-drop`; it runs `quantize` and `evaluate-int8` for each try
BENCHMARK = "benchmark"
# All, as the manifest and the report list them.
ORDER = (*CONVERSION, SEARCH, *INT8[:2], "evaluate", *INT8[2:], BENCHMARK)


def in_order(stages: tuple[str, ...], runs: Mapping[str, Callable[[], Done]]) -> list[Done]:
    """Run those of `stages` that `runs` has, in their order; returns what each gave."""
    return [runs[name]() for name in stages if name in runs]
