"""This processor's instruction sets, and models run as on a processor that has fewer.

OpenVINO's CPU device computes with oneDNN, which chooses its kernels by the processor. Two variables cap what it takes
the processor for: ONEDNN_MAX_CPU_ISA (oneDNN's "CPU dispatcher control"), and OV_CPU_MAX_ISA, for OpenVINO's own
kernels, in the releases that have it.
"""

from __future__ import annotations

import platform
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from pspnet_convert.device import CPU
from pspnet_convert.errors import DependencyError, OptionError
from pspnet_convert.options import option


@dataclass(frozen=True)
class InstructionSet:
    """`cap`: its name in the two variables; `flags`: those of Linux's /proc/cpuinfo that a processor with it has;
    `words`: what oneDNN's log calls it."""

    cap: str
    flags: frozenset[str]
    words: re.Pattern[str]


def _of(cap: str, flags: str, words: str) -> InstructionSet:
    return InstructionSet(cap, frozenset(flags.split()), re.compile(words))


# From the fewest instructions to the most; `words` of one do not match those of the next ones.
INSTRUCTION_SETS: Mapping[str, InstructionSet] = {
    "avx2": _of("AVX2", "avx2 fma", r"Intel AVX2$"),
    "avx2-vnni": _of("AVX2_VNNI", "avx2 fma avx_vnni", r"Intel AVX2 with Intel DL Boost"),
    "avx512": _of("AVX512_CORE", "avx512f avx512bw avx512vl avx512dq", r"AVX-512 with AVX512BW"),
    "avx512-vnni": _of("AVX512_CORE_VNNI", "avx512bw avx512_vnni", r"AVX-512 with Intel DL Boost$"),
    "avx512-bf16": _of("AVX512_CORE_BF16", "avx512bw avx512_bf16", r"AVX-512 with (?!.*AMX).*bfloat16"),
    "amx": _of("AVX512_CORE_AMX", "avx512_bf16 amx_tile amx_int8 amx_bf16", r"Intel AMX"),
}
_ISA_LINE = re.compile(r"^onednn_verbose,.*\bisa:(.*)$", re.MULTILINE)
_CONVOLUTION_LINE = re.compile(r"^onednn_verbose,.*,create:[^,]*,cpu,convolution,[^,]*:([a-z0-9_]+),", re.MULTILINE)


@dataclass(frozen=True)
class Processor:
    """`name`: as the machine reports it. `instructions`: the names in INSTRUCTION_SETS that it has, fewest first."""

    name: str
    instructions: tuple[str, ...]

    def as_dict(self) -> dict[str, object]:
        """Plain values for JSON."""
        return {"name": self.name, "instructions": list(self.instructions)}


def this_processor() -> Processor:
    """From /proc/cpuinfo; without one (not Linux) no instruction set is known."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return Processor(platform.processor() or platform.machine(), ())
    values = dict(re.findall(r"^(.+?)\s*:\s(.*)$", text, re.MULTILINE))
    flags = set(values.get("flags", "").split())
    has = tuple(name for name, one in INSTRUCTION_SETS.items() if one.flags <= flags)
    return Processor(values.get("model name") or platform.machine(), has)


def chosen_processors(asked: str | None, processor: Processor, device: str = CPU) -> tuple[str, ...]:
    """The instruction sets to run with: the one asked for, all that `processor` has, or none for None.

    OptionError if it does not have the one asked for, or if the models run on another `device` than the CPU.
    """
    if asked is None:
        return ()
    if device != CPU:
        raise OptionError(f"--processor is for the CPU, not for --device {device}", "Leave one of the two out.")
    if not processor.instructions:
        raise OptionError("--processor: this machine does not say which instruction sets it has", "Use Linux on x86.")
    if asked == "all":
        return processor.instructions
    if asked not in processor.instructions:
        has = ", ".join(processor.instructions)
        raise OptionError(f"--processor {asked}: this processor ({processor.name}) does not have it; it has {has}")
    return (asked,)


def has_vnni(chosen: Sequence[str]) -> bool:
    """Whether sums of products of bytes are exact on all of `chosen`, which are some: they add in 32 bits."""
    return bool(chosen) and all(name not in ("avx2", "avx512") for name in chosen)


def processor_option(group: str) -> Any:
    """The field `processor` of a stage's options."""
    return option(
        None,
        group=group,
        type=click.Choice([*INSTRUCTION_SETS, "all"]),
        recorded="processor",
        help="Also run each IR as on a processor with these instructions and none beyond. all: each set that this one "
        "has.",
    )


def capped(name: str) -> dict[str, str]:
    """The variables that make OpenVINO take this processor for one that ends at the instruction set `name`, and oneDNN
    print what it runs."""
    cap = INSTRUCTION_SETS[name].cap
    return {"ONEDNN_MAX_CPU_ISA": cap, "OV_CPU_MAX_ISA": cap, "ONEDNN_VERBOSE": "profile_create"}


def executed_instructions(name: str, printed: str) -> str:
    """The instructions of the convolutions that OpenVINO ran, from oneDNN's log, which is in `printed`.

    DependencyError unless all of that stays within the instruction set `name`.
    """
    isa = next(iter(_ISA_LINE.findall(printed)), "no instruction set").strip()
    if not INSTRUCTION_SETS[name].words.search(isa):
        raise DependencyError(f"--processor {name}: OpenVINO did not keep to it: oneDNN reports {isa}")
    found = sorted({one for one in _CONVOLUTION_LINE.findall(printed) if one.startswith("avx")}, key=_level)
    has_more = name != list(INSTRUCTION_SETS)[-1]  # of the last one, later releases have other names
    if not found or (has_more and _level(found[-1]) > _level(INSTRUCTION_SETS[name].cap.lower())):
        raise DependencyError(
            f"--processor {name}: OpenVINO ran convolutions with {', '.join(found) or 'nothing known'}"
        )
    return ", ".join(found)


def _level(instructions: str) -> int:
    """The place of one of oneDNN's names, such as avx512_core_vnni; an unknown one is the last."""
    known = [one.cap.lower() for one in INSTRUCTION_SETS.values()]
    return known.index(instructions) if instructions in known else len(known)
