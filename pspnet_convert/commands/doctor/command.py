"""`pspnet-convert doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from pspnet_convert.command_line import command, print_json

if TYPE_CHECKING:
    from pspnet_convert.commands.doctor.diagnosis import Diagnosis, Missing


def _show(found: Diagnosis, as_json: bool) -> None:
    if as_json:
        print_json(found.as_dict())
    else:
        # Without rich's tables: rich may be what is missing.
        print("\n".join(_lines(found)))


def _lines(found: Diagnosis) -> Iterator[str]:
    from pspnet_convert import __version__

    yield f"pspnet-convert {__version__} on Python {found.python}"
    yield from _section("packages", _package_rows(found))
    yield from _section("devices of OpenVINO", [(one.name, one.full_name, one.in_words) for one in found.devices])
    has = ", ".join(found.processor.instructions) or "instruction sets not known"
    yield from _section("processor", [(found.processor.name, has)])
    yield from _section("not installed, and not needed for run", _missing_rows(found.missing))
    yield from _section("needed for run", _missing_rows(found.problems))
    if not found.problems:
        yield "\nrun works here"


def _package_rows(found: Diagnosis) -> Iterator[tuple[str, ...]]:
    for one in found.packages:
        name = one.name if one.provider is None else f"{one.provider} for {one.name}"
        state = "" if one.state == "ok" else one.state
        yield name, one.installed or "-", one.needed, f"[{one.extra}]" if one.extra else "", state


def _missing_rows(missing: Sequence[Missing]) -> Iterator[tuple[str, ...]]:
    for one in missing:
        yield one.purpose, one.problem, one.command


def _section(title: str, rows: Iterator[tuple[str, ...]] | Sequence[tuple[str, ...]]) -> Iterator[str]:
    """The rows with their columns below each other; nothing where there are none."""
    found = list(rows)
    widths = [max(map(len, column)) for column in zip(*found)]
    if found:
        yield f"\n{title}"
    for row in found:
        yield "  ".join(["", *(text.ljust(width) for text, width in zip(row, widths))]).rstrip()


@command(show=_show, example="pspnet-convert doctor --json")
def doctor() -> Diagnosis:
    """Show what is installed, which devices and instruction sets there are, and what is missing.

    Exit code 0: run works here; 14: it does not, and the last line says why.
    """
    from pspnet_convert.commands.doctor.diagnosis import diagnose

    return diagnose()
