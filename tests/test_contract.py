"""The contract of the imports in pyproject.toml: a copy of the package that breaks it is refused."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    return subprocess.run([sys.executable, "-c", program, "--no-cache"], cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    ignored = shutil.ignore_patterns("data", "__pycache__")
    shutil.copytree(ROOT / "pspnet_convert", tmp_path / "pspnet_convert", ignore=ignored)
    return tmp_path


@pytest.mark.parametrize(
    ("module", "line", "contract"),
    [
        ("files.py", "from pspnet_convert import job", "Imports run one way"),
        ("pytorch/network.py", "def late():\n    import pspnet_convert.runtimes.backends", "Imports run one way"),
        ("new_module.py", "", "Imports run one way"),
        (
            "commands/segment/paint.py",
            "from pspnet_convert.commands.verify import compare",
            "No command uses another's",
        ),
        ("commands/verify/options.py", "from pspnet_convert.commands.verify import stage", "Within a command"),
    ],
)
def test_a_copy_that_breaks_the_contract_is_refused(copy: Path, module: str, line: str, contract: str) -> None:
    with (copy / "pspnet_convert" / module).open("a", encoding="utf-8") as file:
        file.write(f"\n{line}\n")
    done = lint(copy)
    assert done.returncode == 1
    # A module that no layer has is an error before the contracts are looked at.
    rows = (done.stdout + done.stderr).splitlines()
    assert any((contract in row and "BROKEN" in row) or "new_module" in row for row in rows), done.stdout


def test_the_package_keeps_the_contract(copy: Path) -> None:
    done = lint(copy)
    assert done.returncode == 0, done.stdout
