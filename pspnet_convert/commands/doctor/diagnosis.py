"""What is installed on this machine, what it has to run models on, and what is missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from pspnet_convert import __version__
from pspnet_convert.commands.doctor.packages import Package, own_distribution, required_packages
from pspnet_convert.errors import DependencyError, first_line
from pspnet_convert.processor import Processor, this_processor
from pspnet_convert.runtimes.devices import Device, devices_there
from pspnet_convert.runtimes.nncf_install import require_nncf

_FRONT_ENDS = ("openvino", "mo")  # extras; one is enough, and OpenVINO itself comes with each
_PURPOSES = {
    "mo": "to-ir --front-end mo: OpenVINO 2024.6, in an environment of its own",
    "openvino": "the IRs: to-ir, verify, segment and more",
    "int8": "quantize, benchmark --int8",
    "cluster": "evaluate --ray",
}


@dataclass(frozen=True)
class Missing:
    """What does not work without some packages, and the command that adds them."""

    purpose: str
    problem: str
    command: str

    def as_dict(self) -> dict[str, str]:
        """Plain values for JSON."""
        return {"for": self.purpose, "problem": self.problem, "command": self.command}


@dataclass(frozen=True)
class Diagnosis:
    """`problems`: why `run` cannot work, with the command that helps; empty if it can. `missing`: what is not needed
    for `run`."""

    python: str
    packages: Sequence[Package]
    devices: Sequence[Device]
    processor: Processor
    problems: Sequence[Missing]
    missing: Sequence[Missing]

    @property
    def failure(self) -> DependencyError | None:
        """The error that the command line ends with."""
        if not self.problems:
            return None
        what = "; ".join(one.problem for one in self.problems)
        return DependencyError(f"run does not work here: {what}", self.problems[0].command)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "run_works": not self.problems,
            "problems": [one.as_dict() for one in self.problems],
            "missing": [one.as_dict() for one in self.missing],
            "tool": __version__,
            "python": {"version": self.python, "executable": sys.executable},
            "packages": [one.as_dict() for one in self.packages],
            "devices": [one.as_dict() for one in self.devices],
            "processor": self.processor.as_dict(),
        }


def diagnose() -> Diagnosis:
    """Look at this environment. DependencyError if this tool is not installed as a package."""
    packages = required_packages()
    devices, of_openvino = _devices(packages)
    problems = [*_of_python(), *_of_run(packages), *of_openvino]
    return Diagnosis(
        ".".join(map(str, sys.version_info[:3])), packages, devices, this_processor(), problems, list(_extras(packages))
    )


def _of_python() -> Iterator[Missing]:
    from packaging.specifiers import SpecifierSet

    needed, version = own_distribution().metadata["Requires-Python"], ".".join(map(str, sys.version_info[:3]))
    if not SpecifierSet(needed).contains(version):
        yield Missing(
            "run", f"this is Python {version}, {needed} is needed", "Make an environment with another Python."
        )


def _of_run(packages: Sequence[Package]) -> Iterator[Missing]:
    for one in packages:
        if one.extra is None and one.state != "ok":
            yield Missing("run", one.problem, f"pip install '{one.requirement}'")
    front_ends = [one for one in packages if one.extra in _FRONT_ENDS and one.state == "ok"]
    if not front_ends:
        openvino = next(one for one in packages if one.extra == "openvino")
        yield Missing("run", openvino.problem, "pip install 'pspnet-convert[openvino]'")


def _extras(packages: Sequence[Package]) -> Iterator[Missing]:
    """What each extra that is not complete would add; a front-end is complete with the other one."""
    for extra in dict.fromkeys(one.extra for one in packages if one.extra is not None):
        lacking = [one for one in packages if one.extra == extra and one.state != "ok"]
        purpose = _PURPOSES.get(extra, extra)
        if lacking and extra != "openvino":
            words = "; ".join(one.problem for one in lacking)
            yield Missing(purpose, words, f"pip install 'pspnet-convert[{extra}]'")
        elif extra == "int8":
            try:
                require_nncf()
            except DependencyError as error:
                yield Missing(purpose, error.what, error.advice or "")


def _devices(packages: Sequence[Package]) -> tuple[list[Device], list[Missing]]:
    """What OpenVINO sees; and the problem, if it is installed and does not start."""
    if any(one.name == "openvino" and one.installed is None for one in packages):
        return [], []
    try:
        import openvino

        return devices_there(openvino.Core()), []
    except (ImportError, RuntimeError) as error:
        problem = f"openvino does not start: {first_line(error)}"
        return [], [Missing("run", problem, "pip install --force-reinstall openvino")]
