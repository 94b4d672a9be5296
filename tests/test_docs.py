"""What the README says about the program is what the program has."""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from pspnet_convert import errors
from pspnet_convert.cli import cli as command_line
from pspnet_convert.command_line import INTERRUPTED
from pspnet_convert.errors import ConvertError

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def readme() -> str:
    return (ROOT / "README.md").read_text(encoding="utf-8")


def family() -> dict[str, int]:
    """The exit code of each error class."""
    classes = [ConvertError, *ConvertError.__subclasses__()]
    return {one.__name__: one.exit_code for one in classes if one.__module__ == errors.__name__}


@pytest.mark.parametrize("name", sorted(command_line.commands))
def test_the_readme_names_every_command(readme: str, name: str) -> None:
    assert re.search(rf"pspnet-convert {name}\b|`{name}[ `]", readme)


def test_the_readme_names_no_command_that_there_is_not(readme: str) -> None:
    named = re.findall(r"^\s*(?:\$ )?(?:\S*/)?pspnet-convert ([a-z][a-z-]*)", readme, flags=re.MULTILINE)
    assert named
    assert set(named) <= set(command_line.commands)


def test_every_error_has_an_exit_code_of_its_own() -> None:
    codes = family()
    assert len(codes) == 19
    assert len(set(codes.values())) == len(codes)
    assert not {0, 2, INTERRUPTED} & set(codes.values())  # success, click's usage errors, an interrupt


@pytest.mark.parametrize("code", [0, 2, INTERRUPTED, *family().values()])
def test_the_readme_has_a_table_row_for_every_exit_code(readme: str, code: int) -> None:
    rows = re.findall(rf"^\| *`?{code}`? *\|(.*)\|\s*$", readme, flags=re.MULTILINE)
    assert len(rows) == 1, f"rows of {code}: {rows}"
    assert re.search(r"[a-z]{3}", rows[0])


def test_the_readme_explains_no_exit_code_that_there_is_not(readme: str) -> None:
    rows = re.findall(r"^\| *`?(\d+)`? *\|", readme, flags=re.MULTILINE)
    assert {int(code) for code in rows} == {0, 2, INTERRUPTED, *family().values()}


@pytest.mark.parametrize("script", ["scripts/quickstart", "scripts/test"])
def test_the_readmes_scripts_are_there_to_run(readme: str, script: str) -> None:
    assert script in readme
    assert (ROOT / script).is_file()
    assert os.access(ROOT / script, os.X_OK)
    assert (ROOT / script).read_text(encoding="utf-8").startswith("#!")


def test_every_file_that_the_readme_links_to_is_there(readme: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)#\s]+)[^)]*\)", readme) if "://" not in link]
    assert [link for link in links if not (ROOT / link).exists()] == []


def test_nothing_is_left_to_be_filled_in(readme: str) -> None:
    assert re.findall(r"@[A-Z]+@", readme) == []
