"""The template's filters: format figures as text."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pspnet_convert.runtimes.input_form import DYNAMIC


def percent(share: float) -> str:
    """A share, 0..1, with four decimals; shown as 100 only if it is exactly 1."""
    shown = f"{100 * share:.4f}"
    return f"{'99.9999' if share < 1 and shown == '100.0000' else shown} %"


def part(share: float) -> str:
    """A class's part of a picture, 0..1; a small part is shown as < 0.1 %, not as 0."""
    return f"{100 * share:.1f} %" if share >= 0.0005 else "< 0.1 %"


def scientific(value: float | None) -> str:
    return "not finite" if value is None else f"{value:.1e}"


def in_bytes(count: int) -> str:
    """4730551 -> 4.7 MB, in powers of ten."""
    size, unit = float(count), "bytes"
    for larger in ("kB", "MB", "GB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{count} bytes" if unit == "bytes" else f"{size:.1f} {unit}"


def moment(iso: str) -> str:
    """2026-11-24T18:50:34+00:00 -> 2026-11-24 18:50:34 UTC; the manifest's times are all in UTC."""
    return iso.replace("T", " ").replace("+00:00", " UTC")


def plain(value: Any) -> str:
    """An option's value as text: lists without brackets, booleans as yes or no."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={plain(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(plain(one) for one in value)
    return str(value)


def dimensions(shape: Sequence[int]) -> str:
    """(-1, 3, 72, 64) -> N x 3 x 72 x 64."""
    return " x ".join("N" if size == DYNAMIC else str(size) for size in shape)


FILTERS: Mapping[str, Callable[[Any], str]] = {
    "bytes": in_bytes,
    "dimensions": dimensions,
    "moment": moment,
    "part": part,
    "percent": percent,
    "plain": plain,
    "scientific": scientific,
    "thousands": "{:,}".format,
}
