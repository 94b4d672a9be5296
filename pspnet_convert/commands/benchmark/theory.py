"""What a processor can do at the most: cores x operations in a cycle x clock, where all three are known.

Operations in a cycle follow from a core's units, not from its instruction set alone: AVX-512 is one operation on 512
bits a unit on some processors, and two on 256 bits on others. So they are listed by processor. Sources: AMD, Software
Optimization Guide for the AMD Zen4 Microarchitecture (57647): two units of 256 bits that multiply and add; Intel,
Optimization Reference Manual (248966): two of 512 bits, and AMX's 1024 operations of bf16, 2048 of INT8.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from pspnet_convert.errors import count
from pspnet_convert.processor import INSTRUCTION_SETS, this_processor


@dataclass(frozen=True)
class Theory:
    """`gflops_per_second`: in 10^9 operations a second, a multiply-add being two; `words`: how it is computed."""

    gflops_per_second: float
    words: str


@dataclass(frozen=True)
class Core:
    """One kind of core. `operations`: in a cycle, by instruction set and precision."""

    name: str
    vendor: str
    family: int
    models: tuple[range, ...]
    operations: Mapping[str, Mapping[str, int]]


_CORES = (
    Core(
        "Zen 4",
        "AuthenticAMD",
        25,
        (range(0x10, 0x20), range(0x60, 0x80), range(0xA0, 0xB0)),
        {"avx2": {"f32": 32}, "avx512-vnni": {"i8": 128}, "avx512-bf16": {"bf16": 64}},
    ),
    Core(
        "Sapphire Rapids or Emerald Rapids",
        "GenuineIntel",
        6,
        (range(143, 144), range(207, 208)),
        {"avx2": {"f32": 32}, "avx512": {"f32": 64}, "avx512-vnni": {"i8": 256}, "amx": {"bf16": 1024, "i8": 2048}},
    ),
)
_FASTEST = Path("/sys/devices/system/cpu/cpu0/cpufreq/cpuinfo_max_freq")  # kHz; a virtual machine has none


def theoretical(precision: str, cap: str | None) -> Theory | None:
    """The limit at `precision` (f32, bf16, f16, i8) with the instruction set `cap` and none beyond (None: all)."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:  # not Linux
        return None
    usable = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    fastest = int(_FASTEST.read_text()) / 1e6 if _FASTEST.is_file() else None
    return in_theory(text, this_processor().instructions, usable, fastest, precision, cap)


def in_theory(
    cpuinfo: str,
    instructions: tuple[str, ...],
    usable: set[int] | None,
    fastest: float | None,
    precision: str,
    cap: str | None,
) -> Theory | None:
    """`theoretical` from the text of /proc/cpuinfo, the instruction sets that the processor has, the processors that
    this process may use (None: all), and the highest clock in GHz, if that is known.

    The clock in /proc/cpuinfo does not count: it is that of a moment, or the nominal one, which processors exceed.
    """
    blocks = [dict(re.findall(r"^(.+?)\s*:[ \t](.*)$", one, re.MULTILINE)) for one in cpuinfo.strip().split("\n\n")]
    ours = [one for one in blocks if usable is None or int(one.get("processor", -1)) in usable]
    core = next((core for core in _CORES if ours and _is(core, ours[0])), None)
    if core is None:
        return None
    levels = [one for one in INSTRUCTION_SETS if one in instructions]
    levels = levels[: levels.index(cap) + 1] if cap in levels else levels
    known = [core.operations[level][precision] for level in levels if precision in core.operations.get(level, {})]
    if not known or fastest is None:
        return None
    cores = len({(one.get("physical id", "0"), one.get("core id", one.get("processor"))) for one in ours})
    words = f"{count(cores, 'core')} of {core.name}, {known[-1]} operations in a cycle, {fastest:.2f} GHz"
    return Theory(cores * known[-1] * fastest, words)


def _is(core: Core, block: Mapping[str, str]) -> bool:
    names = (block.get("vendor_id"), block.get("cpu family"))
    if names != (core.vendor, str(core.family)):
        return False
    return any(int(block.get("model", -1)) in models for models in core.models)
