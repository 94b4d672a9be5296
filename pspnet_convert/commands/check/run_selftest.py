"""Run the self-test on a bundle's files, in a process of its own: this tool's program, not the bundle's."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Container, Mapping
from typing import Any

from pspnet_convert import selftest
from pspnet_convert.bundle_names import SETTINGS
from pspnet_convert.child_process import python_command, python_environment
from pspnet_convert.commands.check.open_bundle import OpenBundle
from pspnet_convert.errors import ArtifactError, ConvertError, DependencyError, InconclusiveError
from pspnet_convert.selftest_settings import read_settings

_ERRORS: Mapping[int, type[ConvertError]] = {selftest.UNREADABLE: ArtifactError, selftest.MISSING: DependencyError}


def run_self_test(bundle: OpenBundle, names: Container[str], device: str, seconds: int) -> dict[str, Any]:
    """What selftest.py prints as JSON about a bundle. `names`: the bundle's files.

    Raises InconclusiveError for a bundle without a self-test. Raises ArtifactError if its settings have another form or
    name other files, if the program prints no JSON, and if it takes more than `seconds`. Raises DependencyError where a
    library or the device is missing.
    """
    if SETTINGS not in names:
        raise InconclusiveError(f"{bundle.named}: has no {SETTINGS}, so its IRs were not run", "Bundle it again.")
    shown = bundle.named / SETTINGS
    others = [name for name in read_settings(bundle.folder / SETTINGS, shown).files if name not in names]
    if others:
        raise ArtifactError(f"{shown}: names {others[0]}, which is not in the bundle")
    program = [selftest.__file__, "--json", "--device", device, "--folder", str(bundle.folder.absolute())]
    try:
        done = subprocess.run(
            python_command(*program), env=python_environment(), capture_output=True, text=True, timeout=seconds
        )
    except subprocess.TimeoutExpired as error:
        raise ArtifactError(f"{bundle.named}: the self-test took more than {seconds} s") from error
    try:
        result: dict[str, Any] = json.loads(done.stdout)
    except ValueError as error:
        printed = done.stderr.strip().splitlines() or ["no output"]
        words = f"the self-test ended with {done.returncode}: {printed[-1][:200]}"
        raise ArtifactError(f"{bundle.named}: {words}") from error
    if "error" in result:
        words = str(result["error"]).replace(str(bundle.folder.absolute()), str(bundle.named))
        raise _ERRORS.get(result["exit_code"], ArtifactError)(words)
    return result
