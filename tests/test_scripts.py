"""The messages of the scripts if something is missing that they cannot install."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


def test_without_a_browser_and_the_right_to_install_one_the_environment_says_so(tmp_path: Path) -> None:
    for name in ("bash", "dirname", "cat", "sed", "sha256sum"):
        program = shutil.which(name)
        assert program is not None
        (tmp_path / name).symlink_to(program)
    (tmp_path / "id").write_text("#!/bin/sh\necho 1000\n")  # a user who is not root
    (tmp_path / "id").chmod(0o755)
    done = subprocess.run(
        ["bash", "scripts/environment", "test"], cwd=ROOT, env={"PATH": str(tmp_path)}, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("The tests need Chromium and its driver: install chromium and chromedriver")
    assert done.stderr.count("\n") == 1
    assert done.stdout == ""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The files that scripts/environment reads, without an environment."""
    for name in ("pyproject.toml", "constraints.txt", "constraints-current.txt", "scripts/environment"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def interpreter(path: Path, version: str) -> Path:
    """A program that answers as Python of a version does; `-m venv` puts it into the environment."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"""#!/bin/sh
if [ "$1" = -c ]; then echo "{version} in {path}"; fi
if [ "$2" = venv ]; then
  for folder; do true; done
  mkdir -p "$folder/bin" && cp "$0" "$folder/bin/python" && rm -f "$folder"/installed-*
fi
if [ "$2" = pip ]; then echo "$@" >>pip.log; fi
""")
    path.chmod(0o755)
    return path


def environment(checkout: Path, *arguments: str, **variables: Path) -> subprocess.CompletedProcess[str]:
    others = {name: value for name, value in os.environ.items() if name != "PYTHON"}
    return subprocess.run(
        [checkout / "scripts" / "environment", *arguments],
        env={**others, **{name: str(value) for name, value in variables.items()}},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("version", "arguments", "words", "asked"),
    [
        ("3.11.7", [], "OpenVINO 2024.6.0 with Model Optimizer (mo)", "-c constraints.txt -e .[mo]"),
        ("3.12.1", ["train"], "OpenVINO 2024.6.0 with Model Optimizer (mo)", "-c constraints.txt -e .[mo,train]"),
        ("3.13.0", [], "with its own converter (ovc)", "-c constraints-current.txt -e .[openvino]"),
        ("3.14.2", [], "with its own converter (ovc)", "-c constraints-current.txt -e .[openvino]"),
        ("3.11.7", ["--current"], "with its own converter (ovc)", "-c constraints-current.txt -e .[openvino]"),
    ],
)
def test_the_interpreter_decides_what_is_installed(
    checkout: Path, version: str, arguments: list[str], words: str, asked: str
) -> None:
    done = environment(checkout, *arguments, PYTHON=interpreter(checkout / "python", version))
    assert done.returncode == 0, done.stderr
    folder = ".venv-current" if arguments == ["--current"] else ".venv"
    assert done.stderr.startswith(f"Installing into {folder}: Python {version}, OpenVINO ")
    assert words in done.stderr
    assert asked in (checkout / "pip.log").read_text()
    again = environment(checkout, *arguments)
    assert again.stderr.startswith(f"Using {folder}: Python {version}, ")


def test_an_environment_of_another_interpreter_is_made_again(checkout: Path) -> None:
    old, new = interpreter(checkout / "old", "3.11.7"), interpreter(checkout / "new", "3.13.0")
    environment(checkout, PYTHON=old)
    done = environment(checkout, PYTHON=new)
    assert f".venv is made again: it has Python 3.11.7 in {old}, and Python 3.13.0 in {new} is wanted." in done.stderr
    assert environment(checkout, PYTHON=new).stderr.startswith("Using .venv: Python 3.13.0, ")


def test_an_environment_that_does_not_run_is_made_again(checkout: Path) -> None:
    python = interpreter(checkout / "python", "3.11.7")
    environment(checkout, PYTHON=python)
    (checkout / ".venv" / "bin" / "python").unlink()
    done = environment(checkout, PYTHON=python)
    assert ".venv is made again: it has no Python that runs" in done.stderr
    assert environment(checkout).stderr.startswith("Using .venv: ")


@pytest.mark.parametrize("version", ["2.7.18", "3.10.13"])
def test_an_interpreter_that_is_too_old_is_named(checkout: Path, version: str) -> None:
    python = interpreter(checkout / "python", version)
    done = environment(checkout, PYTHON=python)
    expected = f"{python} is Python {version}. Set PYTHON to a Python interpreter, 3.11 or later.\n"
    assert (done.returncode, done.stderr) == (1, expected)


def test_an_interpreter_that_is_missing_is_named(checkout: Path) -> None:
    done = environment(checkout, PYTHON=checkout / "missing")
    expected = f"{checkout / 'missing'} does not run. Set PYTHON to a Python interpreter, 3.11 or later.\n"
    assert (done.returncode, done.stderr) == (1, expected)
